//! What the steps of a run have left, and who took it: so that a run which is well and has made nothing says so. Told
//! once for each task, at the end; and by later runs, as long as it is so. What `outputs` says of a task goes before: a step without what that asks for has
//! failed, and where it is empty, nothing is expected.

use std::collections::{BTreeSet, HashMap};

use crate::attempt::Output;
use crate::db::{self, Flow, Reader, Remarks};
use crate::diagnostic::quoted;
use crate::error::Result;
use crate::ids::{StepId, TaskIndex};
use crate::manifest::{Manifest, Task};
use crate::text::printable;

use super::lack;

/// As far as this run has come.
#[derive(Default)]
pub(super) struct Harvest {
    /// Tasks with steps that left nothing.
    empty: BTreeSet<TaskIndex>,
    /// By producer and consumer with a `match`: the name of an output that was not taken; `None` once one was.
    untaken: HashMap<(TaskIndex, TaskIndex), Option<Vec<u8>>>,
}

impl Harvest {
    /// A step is done.
    pub(super) fn take(&mut self, flow: &Flow, task: TaskIndex, outputs: &[Output]) {
        let Some(first) = outputs.first() else {
            self.empty.insert(task);
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

    /// What to say at the end, of this run and of what is still as the one before has found it. `is_complete`: nothing is
    /// left to do, and nothing has failed.
    pub(super) fn remarks(
        &self,
        reader: &Reader,
        flow: &Flow,
        manifest: &Manifest,
        is_complete: bool,
    ) -> Result<Remarks> {
        let before = Remarks::read(reader)?;
        let mut remarks = Remarks::default();
        let sentences = &mut remarks.sentences;
        let mut told = vec![false; flow.tasks.len()];
        for (index, task) in manifest.indexed() {
            let is_concerned = self.empty.contains(&index) || before.empty.contains(&task.name);
            if is_concerned
                && task.outputs.is_none()
                && let Some(found) = db::left_nothing(reader, flow, index)?
            {
                remarks.empty.push(task.name.clone());
                sentences.extend(left_nothing(flow, index, found, task));
            }
        }
        for (index, task) in manifest.indexed() {
            for &from in &task.from {
                let producer = &flow.task(from).name;
                let mut known = before.untaken.iter();
                let known = known.find(|(of, by, _)| of == producer && *by == task.name);
                let known = known.map(|(.., name)| name.clone());
                let name = match self.untaken.get(&(from, index)) {
                    Some(None) => continue,
                    Some(Some(name)) => printable(name).into_owned(),
                    // It may have another `match` now, or no `match` any more.
                    None => match known.filter(|_| flow.task(index).accepts.is_some()) {
                        Some(name) => name,
                        None => continue,
                    },
                };
                // What it took in an earlier run counts.
                if db::is_any_taken(reader, flow, from, index)? {
                    continue;
                }
                told[index.0] = true;
                sentences.push(format!(
                    "task `{}`: `match` ({}) takes none of the outputs of `{}`, such as `{}`",
                    task.name,
                    globs(task, from),
                    producer,
                    name
                ));
                remarks.untaken.push((producer.clone(), task.name.clone(), name));
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
        Ok(remarks)
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
