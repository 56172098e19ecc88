//! Which groups of gather tasks are complete: a group fires as soon as nothing upstream could still add to it, while
//! others are pending. Counts, kept up step by step; no scan. Unaware of what is in flight.
//!
//! For each task that gathers groups it counts the steps upstream that are not done, by those labels of theirs that
//! the groups go by. Labels are written once, so a step that has all of them can only add to that one group, and a
//! step that has none of them yet may add to any. A group of a gather task upstream whose step is not made yet counts
//! as such a step. A failed step is never done: it holds its group, or all of them.

use std::collections::{BTreeMap, HashMap};

use crate::db::{self, Flow, FlowTask, Group, Reader};
use crate::error::Result;
use crate::ids::{StepId, TaskId, TaskIndex};
use crate::labels::Labels;
use crate::order;

/// The groups of all gather tasks that go by labels.
#[derive(Default)]
pub(super) struct Groups {
    tasks: BTreeMap<TaskIndex, TaskGroups>,
}

/// The groups of one task.
struct TaskGroups {
    keys: Vec<String>,
    /// By place: whether the task is upstream.
    upstream: Vec<bool>,
    /// By place: whether its outputs are gathered.
    from: Vec<bool>,
    /// Groups without a step, and what they gather so far.
    waiting: HashMap<Labels, Vec<StepId>>,
    /// Steps upstream that are not done, by those of the keys that they have.
    open: HashMap<Labels, u64>,
    /// Groups that may have become complete.
    candidates: Vec<Labels>,
    /// What its steps see by `with` is not all there yet.
    is_held: bool,
}

impl Groups {
    /// Reads what is there, if any task gathers groups. `is_gathered`, by place: tasks that gather everything, and have.
    pub(super) fn read(reader: &Reader, flow: &Flow, is_gathered: &[bool]) -> Result<Groups> {
        let mut groups = Groups::default();
        if !flow.has_groups {
            return Ok(groups);
        }
        let is_grouped = |task: &FlowTask| task.gathers_outputs() && task.is_grouped();
        for (n, task) in flow.tasks.iter().enumerate().filter(|(_, task)| is_grouped(task)) {
            let mut from = vec![false; flow.tasks.len()];
            task.from.iter().for_each(|from_task| from[from_task.0] = true);
            let (keys, upstream) = (task.gather_keys.clone(), flow.upstream(TaskIndex(n)));
            let (waiting, open, candidates) = (HashMap::new(), HashMap::new(), Vec::new());
            let is_held = !task.is_ready();
            let task = TaskGroups { keys, upstream, from, waiting, open, candidates, is_held };
            groups.tasks.insert(TaskIndex(n), task);
        }
        let places: HashMap<TaskId, TaskIndex> =
            flow.tasks.iter().enumerate().map(|(n, task)| (task.id, TaskIndex(n))).collect();
        db::each_todo(reader, &mut |task, labels| {
            if let Some(&task) = places.get(&task) {
                groups.add_open(task, labels, 1);
            }
        })?;
        for (n, task) in flow.tasks.iter().enumerate() {
            // Nobody knows what labels the steps have that are to come.
            let is_to_gather = task.gather && !task.is_grouped() && !is_gathered[n];
            let to_come = u64::from(is_to_gather) + u64::from(!task.is_ready());
            if to_come > 0 {
                groups.add_open(TaskIndex(n), &Labels::default(), to_come);
            }
        }
        let indices: Vec<TaskIndex> = groups.tasks.keys().copied().collect();
        for index in indices {
            let live = db::live_labels(reader, flow.task(index).id)?;
            let mut found: HashMap<Labels, Vec<StepId>> = HashMap::new();
            db::each_group(reader, flow, index, &mut |group, step| {
                add(found.entry(group).or_default(), step);
            })?;
            for group in live {
                found.remove(&group);
            }
            for (group, producers) in found {
                for step in producers {
                    groups.join(index, &group, step);
                }
            }
        }
        Ok(groups)
    }

    /// So many more steps of a task have to run that have these labels.
    pub(super) fn add_open(&mut self, task: TaskIndex, labels: &Labels, count: u64) {
        for groups in self.tasks.values_mut().filter(|groups| groups.upstream[task.0]) {
            *groups.open.entry(groups.part(labels)).or_default() += count;
        }
    }

    /// One of them is done, and what it has made is known ([`Self::made`]).
    pub(super) fn close_one(&mut self, task: TaskIndex, labels: &Labels) {
        for groups in self.tasks.values_mut().filter(|groups| groups.upstream[task.0]) {
            let part = groups.part(labels);
            let Some(open) = groups.open.get_mut(&part) else { continue };
            *open -= 1;
            if *open > 0 {
                continue;
            }
            groups.open.remove(&part);
            if part.len() == groups.keys.len() {
                groups.candidates.push(part);
            } else {
                let waiting = groups.waiting.keys().filter(|group| part.agree(group));
                groups.candidates.extend(waiting.cloned());
            }
        }
    }

    /// The steps of a task that waited for what they see are made.
    pub(super) fn sided(&mut self, task: TaskIndex) {
        self.close_one(task, &Labels::default());
        if let Some(groups) = self.tasks.get_mut(&task) {
            groups.is_held = false;
            groups.candidates.extend(groups.waiting.keys().cloned());
        }
    }

    /// The tasks that gather a task's outputs by groups.
    pub(super) fn gatherers(&self, task: TaskIndex) -> Vec<TaskIndex> {
        let gatherers = self.tasks.iter().filter(|(_, groups)| groups.from[task.0]);
        gatherers.map(|(index, _)| *index).collect()
    }

    /// A step has made something for a group.
    pub(super) fn join(&mut self, gatherer: TaskIndex, group: &Labels, step: StepId) {
        let Some(groups) = self.tasks.get_mut(&gatherer) else { return };
        let is_new = !groups.waiting.contains_key(group);
        add(groups.waiting.entry(group.clone()).or_default(), step);
        groups.candidates.push(group.clone());
        if is_new {
            self.add_open(gatherer, group, 1);
        }
    }

    /// True if a group may have become complete.
    pub(super) fn has_candidates(&self) -> bool {
        self.tasks.values().any(|groups| !groups.is_held && !groups.candidates.is_empty())
    }

    /// Takes a group that is complete. Its step is to be made, and then [`Self::made`] to be told.
    pub(super) fn pop(&mut self) -> Option<(TaskIndex, Group)> {
        for (&index, groups) in self.tasks.iter_mut().filter(|(_, groups)| !groups.is_held) {
            while let Some(labels) = groups.candidates.pop() {
                if groups.waiting.contains_key(&labels)
                    && groups.is_complete(&labels)
                    && let Some(mut producers) = groups.waiting.remove(&labels)
                {
                    order::sort_by(&mut producers, Ord::cmp);
                    producers.dedup();
                    return Some((index, Group { labels, producers }));
                }
            }
        }
        None
    }

    /// The step of a group is made, and what it opens is added: the group itself is open no more.
    pub(super) fn made(&mut self, gatherer: TaskIndex, group: &Labels) {
        self.close_one(gatherer, group);
    }
}

impl TaskGroups {
    /// Those labels that the groups go by.
    fn part(&self, labels: &Labels) -> Labels {
        labels.only(self.keys.iter().map(String::as_str))
    }

    /// True if no step upstream could add to a group.
    fn is_complete(&self, group: &Labels) -> bool {
        // Steps have few different sets of the keys: asking for each subset of them costs less than a list.
        (0..1_usize << self.keys.len()).all(|set| {
            let keys = self.keys.iter().enumerate().filter(|(n, _)| set >> n & 1 == 1);
            !self.open.contains_key(&group.only(keys.map(|(_, key)| key.as_str())))
        })
    }
}

/// A step joins a group with each of its outputs, mostly one after the other.
fn add(producers: &mut Vec<StepId>, step: StepId) {
    if producers.last() != Some(&step) {
        producers.push(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: TaskIndex = TaskIndex(0);
    const MERGE: TaskIndex = TaskIndex(1);

    fn groups(keys: &[&str]) -> Groups {
        let task = TaskGroups {
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            upstream: vec![true, false],
            from: vec![true, false],
            waiting: HashMap::new(),
            open: HashMap::new(),
            candidates: Vec::new(),
            is_held: false,
        };
        Groups { tasks: BTreeMap::from([(MERGE, task)]) }
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[test]
    fn a_group_fires_when_no_step_of_its_value_and_none_without_a_value_is_left() {
        let (a, b) = (labels(&[("sample", "A")]), labels(&[("sample", "B")]));
        let mut groups = groups(&["sample"]);
        groups.add_open(ROOT, &a, 2);
        groups.add_open(ROOT, &b, 1);
        groups.add_open(ROOT, &Labels::default(), 1);
        for step in [1, 2] {
            groups.join(MERGE, &a, StepId(step));
            groups.close_one(ROOT, &a);
        }
        assert!(groups.pop().is_none(), "a step without a value may still add to it");
        groups.close_one(ROOT, &Labels::default());
        let (index, group) = groups.pop().unwrap();
        assert_eq!((index, group.labels), (MERGE, a));
        assert_eq!(group.producers, [StepId(1), StepId(2)]);
        assert!(groups.pop().is_none(), "a step of B is pending");
        groups.close_one(ROOT, &b);
        assert!(groups.pop().is_none(), "nothing was made for B");
    }

    #[test]
    fn a_step_with_some_of_the_keys_holds_only_what_agrees_with_it() {
        let mut groups = groups(&["sample", "lane"]);
        let a1 = labels(&[("sample", "A"), ("lane", "1")]);
        let b1 = labels(&[("sample", "B"), ("lane", "1")]);
        groups.add_open(ROOT, &labels(&[("sample", "A"), ("other", "x")]), 1);
        groups.join(MERGE, &a1, StepId(1));
        groups.join(MERGE, &b1, StepId(2));
        assert_eq!(groups.pop().unwrap().1.labels, b1);
        assert!(groups.pop().is_none());
        groups.close_one(ROOT, &labels(&[("sample", "A")]));
        assert_eq!(groups.pop().unwrap().1.labels, a1);
    }
}
