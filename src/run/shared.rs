//! What the dispatcher and the workers say to each other.

use std::time::Duration;

use crate::db::{Effects, Leaf, Verdict};
use crate::error::Error;
use crate::ids::{StepId, TaskIndex};
use crate::object::ObjectHash;
use crate::progress::Failure;

/// A step to run.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) task: TaskIndex,
    pub(super) leaf: Leaf,
    /// Attempts made in this run before this one.
    pub(super) tried: u32,
}

/// An attempt that is committed.
#[derive(Debug)]
pub(super) struct Finish {
    pub(super) job: Job,
    pub(super) verdict: Verdict,
    pub(super) outputs: usize,
    pub(super) wall: Duration,
    pub(super) failure: Option<Failure>,
    pub(super) warnings: Vec<String>,
    /// Objects that the script spoilt.
    pub(super) spoilt: Vec<ObjectHash>,
    /// With `-v`: what the script printed.
    pub(super) log: Option<Vec<u8>>,
}

/// What reaches the dispatcher.
#[derive(Debug)]
pub(super) enum Message {
    /// A script was started.
    Started { step: StepId, task: TaskIndex, input: Vec<u8> },
    /// One transaction's worth of attempts is durable.
    Committed { finishes: Vec<Finish>, effects: Effects },
    /// A job ended without an attempt to record: cancelled, or not begun.
    Dropped { job: Job },
    /// We could not do our part; the job, if any, stays pending.
    Broken { job: Option<Job>, error: Error },
    /// A signal arrived.
    Signal(i32),
}
