//! What a run tells: past-tense events, in order. Told, never asks; unaware of how a run works.

mod bar;
mod hush;
mod lines;

use std::time::Duration;

use crate::db::Plan;
use crate::ids::StepId;
use crate::object::ObjectHash;

pub use bar::Bar;
pub use hush::Hush;
pub use lines::{Lines, Loudness};

/// Something that happened. Names are raw bytes: whoever shows them makes them fit to be shown.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something worth knowing that is nobody's fault.
    Note(&'a str),
    /// Something that may be a mistake.
    Warning(&'a str),
    /// Manifest and database are open.
    Opened { manifest: &'a std::path::Path, tasks: usize, db: &'a std::path::Path },
    /// The plan is made and kept.
    Registered { tasks: Vec<&'a str>, plan: &'a Plan },
    /// More steps have to run than was known.
    Grown { pending: u64 },
    /// A script was started.
    Started(&'a StepName<'a>),
    /// A step is done, and its results are as durable as was asked for.
    Done(&'a StepDone<'a>),
    /// An attempt failed.
    Failed(&'a StepFailed<'a>),
    /// A step's log, with `-v`.
    Log { step: &'a StepName<'a>, log: &'a [u8] },
    /// A signal arrived.
    Interrupted { signal: i32, presses: usize },
    /// The run is over.
    Ended(&'a Summary),
}

/// Which step.
#[derive(Debug, Clone, Copy)]
pub struct StepName<'a> {
    pub step: StepId,
    pub task: &'a str,
    /// Logical name of the input; empty for a root without inputs and for `gather`.
    pub input: &'a [u8],
}

/// A step that succeeded.
#[derive(Debug)]
pub struct StepDone<'a> {
    pub name: StepName<'a>,
    pub outputs: usize,
    pub wall: Duration,
}

/// An attempt that failed.
#[derive(Debug)]
pub struct StepFailed<'a> {
    pub name: StepName<'a>,
    pub failure: &'a Failure,
    /// It will be tried again within this run.
    pub again: bool,
}

/// Why an attempt failed, with the end of its log.
#[derive(Debug, Clone)]
pub struct Failure {
    pub step: StepId,
    pub task: String,
    pub input: Vec<u8>,
    /// "exit code 3", "killed by signal 9 (SIGKILL), maybe out of memory", "timed out after 30s" …
    pub why: String,
    /// The last lines, without line ends.
    pub log_tail: Vec<Vec<u8>>,
    pub log: Option<ObjectHash>,
}

/// A run in numbers.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Steps whose scripts ran and that are done.
    pub done: u64,
    /// Live steps that did not have to run.
    pub reused: u64,
    /// Of these, steps that came alive again during the run.
    pub revived: u64,
    pub outputs: u64,
    /// Steps that failed.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<Failure>,
    /// Live steps that are still to run.
    pub left: u64,
    /// Names of gather tasks that could not be planned.
    pub waiting: Vec<String>,
    /// The signal that stopped the run.
    pub interrupted: Option<i32>,
    /// Objects that scripts spoilt, with what is wrong; set aside already.
    pub spoilt: Vec<(ObjectHash, String)>,
    /// Every live step is done.
    pub complete: bool,
    pub wall: Duration,
}

/// Where events go.
pub trait Progress {
    /// Shows an event, or not. Must not fail: nobody's run stops because nobody reads.
    fn tell(&mut self, event: &Event<'_>);

    /// Whether `Started` is of any use here; it costs a message per step.
    fn wants_starts(&self) -> bool {
        false
    }
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn tell(&mut self, _event: &Event<'_>) {}
}
