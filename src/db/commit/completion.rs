//! An attempt that is over, as it is handed in, and what its commit made possible.

use crate::attempt::{AttemptRecord, Output, Verdict};
use crate::ids::{StepId, TaskIndex};
use crate::object::ObjectHash;

/// An attempt that is over, ready to be committed.
#[derive(Debug)]
pub struct Completion {
    pub step: StepId,
    pub task: TaskIndex,
    pub attempt: AttemptRecord,
    pub verdict: Verdict,
    /// Empty unless done. Their objects, like the log's, are complete under their names, and durable if
    /// that was asked for.
    pub outputs: Vec<Output>,
    /// Bytes of the log; 0 without one.
    pub log_size: u64,
}

impl Completion {
    /// Every object that the attempt left, with its size in bytes.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectHash, u64)> {
        let outputs = self.outputs.iter().map(|output| (output.object, output.size));
        outputs.chain(self.attempt.log.map(|log| (log, self.log_size)))
    }
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
    pub(in crate::db) fn note(&mut self, task: TaskIndex, pending: u64, revived: u64) {
        if pending > 0 {
            self.pending.push((task, pending));
        }
        if revived > 0 {
            self.revived.push((task, revived));
        }
    }
}
