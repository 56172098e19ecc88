//! The wiring as the database sees it: row ids, recipes, who feeds whom. No scripts, no files.

use crate::ids::{RecipeId, TaskId, TaskIndex};
use crate::object::ObjectHash;

use crate::db::functions::Accepts;

/// One task of the present manifest.
#[derive(Clone)]
pub struct FlowTask {
    pub id: TaskId,
    pub name: String,
    pub recipe: RecipeId,
    pub recipe_hash: ObjectHash,
    /// Tasks whose outputs it consumes.
    pub from: Vec<TaskIndex>,
    /// Tasks that consume its outputs.
    pub consumers: Vec<TaskIndex>,
    /// `match`; `None` takes every output.
    pub accepts: Option<Accepts>,
    pub gather: bool,
    /// Its step is there also if there is nothing to gather.
    pub gather_empty: bool,
    /// False: runs anew in every run.
    pub cache: bool,
    /// `-B`: runs anew in this run.
    pub forced: bool,
    /// No two input files of this root can have one name.
    pub names_unique: bool,
    /// Hash of all that decides which steps the task has: another one means another look.
    pub wiring: ObjectHash,
}

impl FlowTask {
    /// True if nothing feeds it but files.
    pub fn is_root(&self) -> bool {
        self.from.is_empty()
    }

    /// True if its steps run although they are done.
    pub(in crate::db) fn runs_anew(&self) -> bool {
        self.forced || !self.cache
    }

    /// True if an output of this producer and name is an input of this task.
    pub fn takes(&self, producer: TaskId, name: &[u8]) -> bool {
        self.accepts.as_ref().is_none_or(|accepts| accepts(producer, name))
    }
}

/// All tasks of the present manifest.
#[derive(Clone)]
pub struct Flow {
    /// In manifest order.
    pub tasks: Vec<FlowTask>,
    /// Producers before consumers.
    pub order: Vec<TaskIndex>,
}

impl Flow {
    /// The task at a place.
    pub fn task(&self, index: TaskIndex) -> &FlowTask {
        &self.tasks[index.0]
    }

    /// Every gather task downstream of a task, however far.
    pub(in crate::db) fn gathers_below(&self, task: TaskIndex) -> Vec<TaskIndex> {
        let mut is_seen = vec![false; self.tasks.len()];
        let (mut open, mut gathers) = (vec![task], Vec::new());
        while let Some(task) = open.pop() {
            for &consumer in &self.task(task).consumers {
                if !std::mem::replace(&mut is_seen[consumer.0], true) {
                    open.push(consumer);
                    gathers.extend(self.task(consumer).gather.then_some(consumer));
                }
            }
        }
        gathers
    }

    /// The ids of some tasks as an SQL list: `3,5`. Ids are integers of ours, so nothing needs quoting.
    pub(in crate::db) fn ids(&self, tasks: &[TaskIndex]) -> String {
        let ids: Vec<String> = tasks.iter().map(|&t| self.task(t).id.to_string()).collect();
        ids.join(",")
    }
}
