//! What `repair` has to say of each object, in words that say what to do.

use std::fmt;

use crate::object::ObjectHash;
use crate::text::printable;

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// A step made it again.
    Remade { step: i64 },
    /// The input file still holds it.
    Reimported { path: Vec<u8> },
    /// Only its mode was wrong.
    MadeReadOnly,
    /// Only its row was missing.
    Recorded,
    /// A gather step's listing: the next run lists anew.
    ListedNextRun,
    /// A log, which nothing can bring back; the attempt says so.
    LogLost,
    /// The step made something else this time.
    NonDeterministic { step: i64 },
    /// The step could not be run again.
    Failed { step: i64, why: String },
    /// What the step works on is gone as well.
    InputGone { step: i64 },
    /// The disk doesn't give its bytes.
    Unreadable,
    /// Nothing makes it: put the input back, and run again.
    NoProducer,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Repair::Remade { step } => write!(f, "made again by step {step}"),
            Repair::Reimported { path } => write!(f, "read again from {}", printable(path)),
            Repair::MadeReadOnly => f.write_str("made read-only again; its bytes are good"),
            Repair::Recorded => f.write_str("its bytes are there, and good: recorded again"),
            Repair::ListedNextRun => f.write_str("the next run makes it again"),
            Repair::LogLost => f.write_str("it was a log, which is lost; its attempt says so now"),
            Repair::NonDeterministic { step } => write!(
                f,
                "not repaired: step {step} is not deterministic, it made something else this time; \
                 `-B` with --step and its task runs it anew, and the next run what follows from it"
            ),
            Repair::Failed { step, why } => {
                write!(f, "not repaired: step {step} can't make it again: {why}")
            }
            Repair::InputGone { step } => write!(
                f,
                "not repaired: step {step} can't make it again: what it works on is gone as well"
            ),
            Repair::Unreadable => f.write_str(
                "not repaired: is the disk in order, and is the file yours? Once it is removed, `repair` \
                 makes it again",
            ),
            Repair::NoProducer => {
                f.write_str("not repaired: no step makes it; put the input file back and run again")
            }
        }
    }
}

impl Repair {
    /// True if nothing is missing any more.
    pub fn is_good(&self) -> bool {
        !matches!(
            self,
            Repair::NonDeterministic { .. }
                | Repair::Failed { .. }
                | Repair::InputGone { .. }
                | Repair::Unreadable
                | Repair::NoProducer
        )
    }
}

/// What was found, and what became of it.
#[derive(Debug, Default)]
pub struct RepairReport {
    pub objects: Vec<(ObjectHash, String, Repair)>,
    /// Damage of the database itself, which only a backup cures.
    pub database: Vec<String>,
}
