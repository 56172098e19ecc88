//! An attempt's outcome in words for the database; those for people are its `Display`.

use crate::step::Outcome;

/// An outcome as the table `attempt` has it: (word, code, detail).
pub(super) fn words(outcome: &Outcome) -> (&'static str, Option<i32>, Option<String>) {
    match outcome {
        Outcome::Succeeded => ("ok", None, None),
        Outcome::Exited(code) => ("exit", Some(*code), None),
        Outcome::Signalled(signal) => ("signal", Some(*signal), None),
        Outcome::TimedOut(_) => ("timeout", None, None),
        Outcome::Refused(why) => ("refused", None, Some(why.clone())),
        Outcome::NotStarted(why) => ("start", None, Some(why.clone())),
        Outcome::Cancelled => ("cancelled", None, None),
    }
}
