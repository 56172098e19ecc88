//! The wiring as the database sees it: row ids, recipes, who feeds whom. No scripts, no files.

use std::sync::Arc;

use crate::error::Result;
use crate::ids::{RecipeId, StepId, TaskId, TaskIndex};
use crate::object::ObjectHash;

use crate::db::Reader;
use crate::db::forced::Forced;
use crate::db::sides::Sides;
use crate::labels::Labels;

/// Whether a task takes an output of this producer and name.
pub type Accepts = Arc<dyn Fn(TaskId, &[u8]) -> bool + Send + Sync>;

/// Which labels the step on an input has that a task takes: of the task that made it ([`FILES`](crate::db::FILES) if none has), its name
/// (for a file, path), the labels that it has, and which of the task's variants it is. `None`: there is no such step.
pub type Labeller = Arc<dyn Fn(TaskId, &[u8], &Labels, usize) -> Option<Labels> + Send + Sync>;

/// Whether an output of this name is one that each step of a task has to leave.
pub type Wanted = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

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
    /// Tasks whose outputs its steps see besides their input.
    pub with: Vec<TaskIndex>,
    /// Tasks whose steps see its outputs.
    pub users: Vec<TaskIndex>,
    /// What its steps see of the outputs of `with`.
    pub sides: Arc<Sides>,
    /// `match`; `None` takes every output.
    pub accepts: Option<Accepts>,
    /// What labels its steps have; `None`: those of their inputs.
    pub labeller: Option<Labeller>,
    /// Steps that one input makes, 1 without a matrix.
    pub variants: usize,
    /// INPUT_NAME of its steps, if it has one for each row of a table.
    pub row_name: Option<&'static str>,
    pub gather: bool,
    /// Its step is there also if there is nothing to gather.
    pub gather_empty: bool,
    /// Labels that it makes one step of each value of; empty: one step over everything.
    pub gather_keys: Vec<String>,
    /// `outputs`: what each of its steps has to leave something of.
    pub wanted: Vec<Wanted>,
    /// Its results stand while the files that their steps have read are what they were.
    pub has_depfile: bool,
    /// False: runs anew in every run.
    pub cache: bool,
    /// `-B` and `--redo`: what runs anew in this run.
    pub forced: Forced,
    /// `--only`: only steps that have all of one of these may run. `None`: all may.
    pub only: Option<Vec<Labels>>,
    /// Hash of all that decides which steps the task has: another one means another look.
    pub wiring: ObjectHash,
}

impl FlowTask {
    /// True if nothing feeds it but files.
    pub fn is_root(&self) -> bool {
        self.from.is_empty()
    }

    /// True if it gathers files: its steps are known when the run is planned.
    pub fn gathers_files(&self) -> bool {
        self.gather && self.is_root()
    }

    /// True if it gathers outputs: its steps are known when what is upstream is done.
    pub fn gathers_outputs(&self) -> bool {
        self.gather && !self.is_root()
    }

    /// True if an input is enough to make a step of it: there is no `with`, or it is known what that gives to see.
    pub fn is_ready(&self) -> bool {
        self.with.is_empty() || self.sides.is_known()
    }

    /// The tasks that it feeds, in either way. One may come twice.
    pub fn fed(&self) -> impl Iterator<Item = TaskIndex> {
        self.consumers.iter().chain(&self.users).copied()
    }

    /// The tasks that feed it, in either way. One may come twice.
    pub fn fed_by(&self) -> impl Iterator<Item = TaskIndex> {
        self.from.iter().chain(&self.with).copied()
    }

    /// True if steps of it run although they are done, those that [may](FlowTask::may_run).
    pub fn runs_anew(&self) -> bool {
        self.forced.is_any() || !self.cache
    }

    /// True if a step of it with this id and these labels runs although it is done, if it [may](FlowTask::may_run).
    pub fn runs_step_anew(&self, step: StepId, labels: &Labels) -> bool {
        !self.cache || self.forced.is_forced(step, labels)
    }

    /// True if `--only` doesn't leave out a step with these labels.
    pub fn may_run(&self, labels: &Labels) -> bool {
        may_run(self.only.as_deref(), labels)
    }

    /// True if `--only` leaves out all of its steps.
    pub fn is_left_out(&self) -> bool {
        self.only.as_ref().is_some_and(Vec::is_empty)
    }

    /// True if an output of this producer and name is an input of this task.
    pub fn takes(&self, producer: TaskId, name: &[u8]) -> bool {
        self.accepts.as_ref().is_none_or(|accepts| accepts(producer, name))
    }

    /// Which of what each step has to leave something of is not among these names, by place.
    pub fn lacking<'n>(&self, names: impl Iterator<Item = &'n [u8]> + Clone) -> Vec<usize> {
        let is_there = |wanted: &Wanted| names.clone().any(|name| wanted(name));
        let wanted = self.wanted.iter().enumerate();
        wanted.filter(|(_, wanted)| !is_there(wanted)).map(|(n, _)| n).collect()
    }

    /// A condition that nothing of what each step has to leave is lacking among the outputs `o` that this SQL selects,
    /// such as `output o WHERE o.step = s.id`.
    pub(in crate::db) fn lacks_nothing(&self, outputs: &str) -> String {
        let each =
            |n| format!("EXISTS (SELECT 1 FROM {outputs} AND is_wanted({}, {n}, o.name))", self.id);
        let all: Vec<String> = (0..self.wanted.len()).map(each).collect();
        if all.is_empty() { "1".to_owned() } else { format!("({})", all.join(" AND ")) }
    }

    /// The labels of the steps on an input of this producer, name and labels, one of each variant that fits.
    pub fn labels_on<'a>(
        &'a self,
        producer: TaskId,
        name: &'a [u8],
        input: &'a Labels,
    ) -> impl Iterator<Item = Labels> + 'a {
        (0..self.variants).filter_map(move |variant| match &self.labeller {
            Some(labeller) => labeller(producer, name, input, variant),
            None => Some(input.clone()),
        })
    }

    /// The group of a gather task that an output of this producer, name and labels belongs to.
    pub fn group_on(&self, producer: TaskId, name: &[u8], output: &Labels) -> Option<Labels> {
        if !self.takes(producer, name) {
            return None;
        }
        let labels = self.labels_on(producer, name, output).next()?;
        let group = labels.only(self.gather_keys.iter().map(String::as_str));
        (group.len() == self.gather_keys.len()).then_some(group)
    }

    /// It makes several steps, one of each group.
    pub fn is_grouped(&self) -> bool {
        !self.gather_keys.is_empty()
    }

    /// True if a step of it may have the results of another one that did the same work.
    pub fn shares_work(&self) -> bool {
        self.cache
    }
}

/// True if labels have all of one of `only`, or if there is no such list.
pub(in crate::db) fn may_run(only: Option<&[Labels]>, labels: &Labels) -> bool {
    only.is_none_or(|only| only.iter().any(|those| labels.has(those)))
}

/// All tasks of the present manifest.
#[derive(Clone)]
pub struct Flow {
    /// In manifest order.
    pub tasks: Vec<FlowTask>,
    /// Producers before consumers.
    pub order: Vec<TaskIndex>,
    /// A task gathers groups: then it matters which labels steps have.
    pub has_groups: bool,
}

impl Flow {
    /// The task at a place.
    pub fn task(&self, index: TaskIndex) -> &FlowTask {
        &self.tasks[index.0]
    }

    /// Reads what there is to see for a task by `with`, once that is known.
    pub(in crate::db) fn read_sides(&self, reader: &Reader, index: TaskIndex) -> Result<()> {
        let task = self.task(index);
        if task.with.is_empty() {
            return Ok(());
        }
        let with = task.with.iter().map(|&with| self.task(with));
        let with: Vec<(&str, TaskId)> = with.map(|with| (with.name.as_str(), with.id)).collect();
        task.sides.read(reader, &with)
    }

    /// Every task downstream of a task, however far, whose steps stand for all that is upstream of them: those that
    /// gather, and those that see by `with` what may come of it.
    pub(in crate::db) fn gathers_below(&self, task: TaskIndex) -> Vec<TaskIndex> {
        let mut is_seen = vec![false; self.tasks.len()];
        let mut is_found = vec![false; self.tasks.len()];
        let mut open = vec![task];
        while let Some(task) = open.pop() {
            let FlowTask { consumers, users, .. } = self.task(task);
            users.iter().for_each(|user| is_found[user.0] = true);
            for fed in consumers.iter().chain(users) {
                is_found[fed.0] |= self.task(*fed).gather;
                if !std::mem::replace(&mut is_seen[fed.0], true) {
                    open.push(*fed);
                }
            }
        }
        (0..is_found.len()).filter(|&n| is_found[n]).map(TaskIndex).collect()
    }

    /// By place: whether a task is upstream of this one.
    pub fn upstream(&self, index: TaskIndex) -> Vec<bool> {
        let mut upstream = vec![false; self.tasks.len()];
        let mut waiting = self.task(index).from.clone();
        while let Some(task) = waiting.pop() {
            if !std::mem::replace(&mut upstream[task.0], true) {
                waiting.extend(self.task(task).fed_by());
            }
        }
        upstream
    }

    /// The ids of some tasks as an SQL list: `3,5`. Ids are integers of ours, so nothing needs quoting.
    pub(in crate::db) fn ids(&self, tasks: &[TaskIndex]) -> String {
        let ids: Vec<String> = tasks.iter().map(|&t| self.task(t).id.to_string()).collect();
        ids.join(",")
    }
}
