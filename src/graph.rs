//! Who feeds whom: order, depth, ancestors. Unaware of scripts, files and the database.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Index;
use std::sync::{Arc, OnceLock};

use crate::ids::TaskIndex;
use crate::manifest::Manifest;

/// The wiring of an acyclic manifest, both ways round.
#[derive(Debug, Clone)]
pub struct Graph {
    /// A topological order: producers before their consumers, otherwise in manifest order.
    pub order: Vec<TaskIndex>,
    /// `from[t]`: the tasks whose outputs `t` consumes.
    pub from: Vec<Vec<TaskIndex>>,
    /// `consumers[t]`: the tasks that consume the outputs of `t`.
    pub consumers: Vec<Vec<TaskIndex>>,
    /// `ancestors[t]`: everything upstream of `t`, without `t` itself, in topological order.
    pub ancestors: Ancestors,
    /// `height[t]`: edges on the longest way from `t` to an end of the graph; 0 for an end. Leaves of
    /// low height are run first.
    pub height: Vec<usize>,
}

impl Graph {
    /// Derives everything from each task's `from`.
    pub fn of(manifest: &Manifest) -> Graph {
        let from: Vec<Vec<TaskIndex>> =
            manifest.tasks.iter().map(|task| task.from.clone()).collect();
        let mut consumers = vec![Vec::new(); from.len()];
        for (task, producers) in from.iter().enumerate() {
            for producer in producers {
                consumers[producer.0].push(TaskIndex(task));
            }
        }
        let order = topological(&from, &consumers);
        let mut height = vec![0; from.len()];
        for task in order.iter().rev() {
            let above = consumers[task.0].iter().map(|consumer| height[consumer.0] + 1);
            height[task.0] = above.max().unwrap_or(0);
        }
        let ancestors = Ancestors::new(&from, &order);
        Graph { order, from, consumers, ancestors, height }
    }
}

/// Of the tasks whose producers are all placed, always the first of the manifest.
fn topological(from: &[Vec<TaskIndex>], consumers: &[Vec<TaskIndex>]) -> Vec<TaskIndex> {
    let mut missing: Vec<usize> = from.iter().map(Vec::len).collect();
    let roots = missing.iter().enumerate().filter(|(_, missing)| **missing == 0);
    let mut ready: BinaryHeap<_> = roots.map(|(task, _)| Reverse(TaskIndex(task))).collect();
    let mut order = Vec::with_capacity(from.len());
    while let Some(Reverse(task)) = ready.pop() {
        order.push(task);
        for consumer in &consumers[task.0] {
            missing[consumer.0] -= 1;
            if missing[consumer.0] == 0 {
                ready.push(Reverse(*consumer));
            }
        }
    }
    debug_assert_eq!(order.len(), from.len(), "a manifest without mistakes has no cycle");
    order
}

/// What is upstream of each task, found when it is first asked for: all of it at once would be
/// quadratic, 400 MB for a chain of 10,000 tasks, and only `gather` tasks are ever asked about.
#[derive(Debug, Clone)]
pub struct Ancestors {
    from: Arc<[Vec<TaskIndex>]>,
    /// Place of each task in the topological order.
    rank: Arc<[usize]>,
    known: Vec<OnceLock<Vec<TaskIndex>>>,
}

impl Ancestors {
    fn new(from: &[Vec<TaskIndex>], order: &[TaskIndex]) -> Ancestors {
        let mut rank = vec![0; from.len()];
        for (place, task) in order.iter().enumerate() {
            rank[task.0] = place;
        }
        let known = vec![OnceLock::new(); from.len()];
        Ancestors { from: from.into(), rank: rank.into(), known }
    }

    fn find(&self, task: usize) -> Vec<TaskIndex> {
        let mut is_seen = vec![false; self.from.len()];
        let mut found: Vec<TaskIndex> = Vec::new();
        let mut open = vec![TaskIndex(task)];
        while let Some(task) = open.pop() {
            for producer in &self.from[task.0] {
                if !std::mem::replace(&mut is_seen[producer.0], true) {
                    found.push(*producer);
                    open.push(*producer);
                }
            }
        }
        found.sort_unstable_by_key(|task| self.rank[task.0]);
        found
    }
}

impl Index<usize> for Ancestors {
    type Output = Vec<TaskIndex>;

    fn index(&self, task: usize) -> &Vec<TaskIndex> {
        self.known[task].get_or_init(|| self.find(task))
    }
}

#[cfg(test)]
mod tests;
