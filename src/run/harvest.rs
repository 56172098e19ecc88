//! What the steps of a run have left, and who took it: so that a run which is well and has made nothing says so. Told
//! once for each task, at the end. What `outputs` says of a task goes before: a step without what that asks for has
//! failed, and where it is empty, nothing is expected.

use std::collections::HashMap;

use crate::attempt::Output;
use crate::db::{self, Flow, Reader};
use crate::diagnostic::quoted;
use crate::error::Result;
use crate::ids::{StepId, TaskIndex};
use crate::manifest::{Manifest, Task};
use crate::text::printable;

use super::lack;

/// As far as this run has come.
#[derive(Default)]
pub(super) struct Harvest {
    /// Steps that left nothing, by task: how many, and the first of them.
    empty: HashMap<TaskIndex, (u64, StepId)>,
    /// By producer and consumer with a `match`: the name of an output that was not taken; `None` once one was.
    untaken: HashMap<(TaskIndex, TaskIndex), Option<Vec<u8>>>,
}

impl Harvest {
    /// A step is done.
    pub(super) fn take(&mut self, flow: &Flow, task: TaskIndex, step: StepId, outputs: &[Output]) {
        let Some(first) = outputs.first() else {
            self.empty.entry(task).or_insert((0, step)).0 += 1;
            return;
        };
        let producer = flow.task(task);
        for &consumer in &producer.consumers {
            let consuming = flow.task(consumer);
            if consuming.accepts.is_none() {
                continue;
            }
            let untaken = self.untaken.entry((task, consumer));
            let untaken = untaken.or_insert_with(|| Some(first.name.clone()));
            if untaken.is_some()
                && outputs.iter().any(|output| consuming.takes(producer.id, &output.name))
            {
                *untaken = None;
            }
        }
    }

    /// What to say at the end, a sentence each. `is_complete`: nothing is left to do, and nothing has failed.
    pub(super) fn sentences(
        &self,
        reader: &Reader,
        flow: &Flow,
        manifest: &Manifest,
        is_complete: bool,
    ) -> Result<Vec<String>> {
        let mut sentences = Vec::new();
        let mut told = vec![false; flow.tasks.len()];
        for (index, task) in manifest.indexed() {
            if let Some((count, first)) = self.empty.get(&index)
                && task.outputs.is_none()
            {
                sentences.extend(left_nothing(flow, index, (*count, *first), task));
            }
        }
        for (index, task) in manifest.indexed() {
            for &from in &task.from {
                let Some(Some(name)) = self.untaken.get(&(from, index)) else { continue };
                // What it took in an earlier run counts.
                if db::is_any_taken(reader, flow, from, index)? {
                    continue;
                }
                told[index.0] = true;
                sentences.push(format!(
                    "task `{}`: `match` ({}) takes none of the outputs of `{}`, such as `{}`",
                    task.name,
                    globs(task, from),
                    flow.task(from).name,
                    printable(name)
                ));
            }
        }
        for (index, task) in manifest.indexed() {
            let is_meant = |from: &TaskIndex| {
                manifest.task(*from).outputs.as_ref().is_some_and(|outputs| outputs.is_empty())
            };
            if !is_complete || task.is_root() || told[index.0] || task.from.iter().all(is_meant) {
                continue;
            }
            if !db::has_live_step(reader, flow.task(index).id)? {
                let from: Vec<String> =
                    task.from.iter().map(|from| quoted(&flow.task(*from).name)).collect();
                sentences.push(format!(
                    "task `{}` got no step: there is no output of {} for it",
                    task.name,
                    from.join(" or ")
                ));
            }
        }
        Ok(sentences)
    }
}

/// A task that others wait for has steps which left nothing.
fn left_nothing(
    flow: &Flow,
    index: TaskIndex,
    (count, first): (u64, StepId),
    declared: &Task,
) -> Option<String> {
    let task = flow.task(index);
    let fed: Vec<String> = task.fed().map(|fed| quoted(&flow.task(fed).name)).collect();
    if fed.is_empty() {
        return None;
    }
    let (which, of) = match count {
        1 => (format!("step {first} left nothing in OUTPUT_DIR"), "it"),
        _ => (format!("{count} steps left nothing in OUTPUT_DIR, step {first} for one"), "them"),
    };
    Some(format!(
        "task `{}`: {which}{}, so {} got nothing of {of}; outputs = [\"*\"] in the task makes that a failure, \
         outputs = [] says that it is meant",
        task.name,
        lack::unmentioned(declared),
        fed.join(" and ")
    ))
}

/// `match`, as far as it is for a producer.
fn globs(task: &Task, from: TaskIndex) -> String {
    let own = task.matches_of.iter().find(|(of, _)| *of == from);
    let globs = own.map_or(&task.matches, |(_, globs)| globs);
    globs.iter().map(|glob| quoted(glob)).collect::<Vec<_>>().join(", ")
}
