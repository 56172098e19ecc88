//! An attempt that is over, as it is handed in, and what its commit made possible.

use crate::ids::{StepId, TaskIndex};
use crate::object::ObjectHash;

/// What is to be known of an attempt later.
#[derive(Debug, Clone)]
pub struct AttemptRow {
    /// From 1, over all runs.
    pub number: i64,
    /// One of the words in the schema.
    pub outcome: &'static str,
    /// Exit code or signal number, if not 0.
    pub code: Option<i32>,
    pub detail: Option<String>,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    pub wall_us: i64,
    pub user_us: i64,
    pub system_us: i64,
    pub peak_kib: i64,
    pub log: Option<ObjectHash>,
    /// From 1; at most as many as scripts at once.
    pub worker: Option<i64>,
}

/// A file that a step left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRow {
    pub name: Vec<u8>,
    pub object: ObjectHash,
    pub executable: bool,
}

/// Where an attempt leaves its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Done,
    Failed,
    /// Failed, but to be tried again within this run.
    TryAgain,
}

/// An attempt that is over, ready to be committed.
#[derive(Debug)]
pub struct Completion {
    pub step: StepId,
    pub task: TaskIndex,
    pub attempt: AttemptRow,
    pub verdict: Verdict,
    /// Empty unless done.
    pub outputs: Vec<OutputRow>,
    /// (hash, bytes) of the outputs, in their order, then of the log: complete under their names, and durable if need be.
    pub objects: Vec<(ObjectHash, u64)>,
}

/// What a commit made possible.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Steps that have to run from now on, by task; a task may appear twice.
    pub pending: Vec<(TaskIndex, u64)>,
    /// Steps that came alive with the results they had, by task.
    pub revived: Vec<(TaskIndex, u64)>,
}

impl Effects {
    pub(super) fn note(&mut self, task: TaskIndex, pending: u64, revived: u64) {
        if pending > 0 {
            self.pending.push((task, pending));
        }
        if revived > 0 {
            self.revived.push((task, revived));
        }
    }
}
