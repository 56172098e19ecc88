//! An attempt that is over, as it is handed in, and what its commit made possible.

use crate::attempt::{AttemptRecord, Output, Verdict};
use crate::db::Reader;
use crate::db::commit::{DoneStep, Supported};
use crate::db::dependencies::Dependency;
use crate::db::flow::Flow;
use crate::error::Result;
use crate::ids::{ResultId, StepId, TaskIndex};
use crate::labels::Labels;
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
    /// What the step has said it read, if its task has a depfile.
    pub dependencies: Vec<Dependency>,
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
    /// Gather steps that are not made, because there is nothing that they could see.
    pub unseeing: Vec<(TaskIndex, u64)>,
    /// Steps that were pending and have the results of another one now, or have failed with it.
    pub shared: Vec<SharedStep>,
    /// Only where groups are gathered: the labels of each of the `pending`.
    pub labelled: Vec<(TaskIndex, Labels)>,
    /// Only where groups are gathered: each of the `revived`.
    pub revived_steps: Vec<(TaskIndex, StepId)>,
}

/// A step that is to have the results of another one, which has done the same work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownWork {
    pub task: TaskIndex,
    pub step: StepId,
    pub same_as: StepId,
    /// Only if its task has a depfile: the result that is valid. It may be an older one of the step itself.
    pub result: Option<ResultId>,
    /// The other one has failed in this run, and so does this one.
    pub has_failed: bool,
}

/// A step that did not have to run, since another one had done the same work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedStep {
    pub work: KnownWork,
    /// Name of its input.
    pub name: Vec<u8>,
    pub labels: Labels,
}

impl Effects {
    /// A step has to run.
    fn note_pending(&mut self, flow: &Flow, task: TaskIndex, labels: &Labels) {
        count(&mut self.pending, task);
        if flow.has_groups {
            self.labelled.push((task, labels.clone()));
        }
    }

    /// A step came alive with the results it had.
    fn note_revived(&mut self, flow: &Flow, task: TaskIndex, step: StepId) {
        count(&mut self.revived, task);
        if flow.has_groups {
            self.revived_steps.push((task, step));
        }
    }

    /// A step has become live, or was. One that came alive with results is returned: they support others.
    pub(in crate::db) fn note(
        &mut self,
        reader: &Reader,
        flow: &Flow,
        task: TaskIndex,
        step: StepId,
        labels: &Labels,
        supported: Supported,
    ) -> Result<Option<DoneStep>> {
        match supported {
            Supported::WasLive => {}
            Supported::Pending => self.note_pending(flow, task, labels),
            Supported::Revived => {
                self.note_revived(flow, task, step);
                return DoneStep::read(reader, task, step).map(Some);
            }
        }
        Ok(None)
    }
}

/// One more of a task: next to those just counted, if they are of the same one.
pub(in crate::db) fn count(counts: &mut Vec<(TaskIndex, u64)>, task: TaskIndex) {
    match counts.last_mut() {
        Some((last, count)) if *last == task => *count += 1,
        _ => counts.push((task, 1)),
    }
}
