//! The tasks as a graph: in which order, and how far from the end. Unaware of scripts, files and the
//! database.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::ids::TaskIndex;
use crate::manifest::Manifest;

/// Who consumes whose outputs, in both directions. Without cycles, since the manifest has none.
#[derive(Debug, Clone)]
pub struct Graph {
    /// A topological order: producers before their consumers, and otherwise as in the manifest.
    pub order: Vec<TaskIndex>,
    /// `from[t]`: the tasks whose outputs `t` consumes.
    pub from: Vec<Vec<TaskIndex>>,
    /// `consumers[t]`: the tasks that consume the outputs of `t`.
    pub consumers: Vec<Vec<TaskIndex>>,
    /// `users[t]`: the tasks that see the outputs of `t` by `with`.
    pub users: Vec<Vec<TaskIndex>>,
    /// `height[t]`: edges on the longest path from `t` to a task that feeds no other, which has 0. Leaves of
    /// the lowest height run first, so that work is finished before more is begun.
    pub height: Vec<usize>,
}

impl Graph {
    /// The graph that each task's `from` and `with` describe.
    pub fn of(manifest: &Manifest) -> Graph {
        let from: Vec<Vec<TaskIndex>> =
            manifest.tasks.iter().map(|task| task.from.clone()).collect();
        let mut consumers = vec![Vec::new(); from.len()];
        let mut users = vec![Vec::new(); from.len()];
        for (index, task) in manifest.indexed() {
            task.from.iter().for_each(|producer| consumers[producer.0].push(index));
            task.with.iter().for_each(|producer| users[producer.0].push(index));
        }
        let missing = manifest.tasks.iter().map(|task| task.from.len() + task.with.len());
        let order = topological(missing.collect(), &consumers, &users);
        let mut height = vec![0; from.len()];
        for task in order.iter().rev() {
            let fed = consumers[task.0].iter().chain(&users[task.0]);
            height[task.0] = fed.map(|fed| height[fed.0] + 1).max().unwrap_or(0);
        }
        Graph { order, from, consumers, users, height }
    }

    /// A task and all that it needs, however far upstream.
    pub fn with_upstream(&self, task: TaskIndex) -> Vec<TaskIndex> {
        let mut is_needed = vec![false; self.from.len()];
        is_needed[task.0] = true;
        // Against the order, so that each is looked at after all that it feeds.
        for &index in self.order.iter().rev() {
            let mut fed = self.consumers[index.0].iter().chain(&self.users[index.0]);
            is_needed[index.0] |= fed.any(|fed| is_needed[fed.0]);
        }
        (0..is_needed.len()).filter(|&n| is_needed[n]).map(TaskIndex).collect()
    }
}

/// Kahn's algorithm; of the tasks whose producers are all placed, the first in the manifest comes next.
fn topological(
    mut missing: Vec<usize>,
    consumers: &[Vec<TaskIndex>],
    users: &[Vec<TaskIndex>],
) -> Vec<TaskIndex> {
    let roots = missing.iter().enumerate().filter(|(_, missing)| **missing == 0);
    let mut ready: BinaryHeap<_> = roots.map(|(task, _)| Reverse(TaskIndex(task))).collect();
    let mut order = Vec::with_capacity(missing.len());
    while let Some(Reverse(task)) = ready.pop() {
        order.push(task);
        for fed in consumers[task.0].iter().chain(&users[task.0]) {
            missing[fed.0] -= 1;
            if missing[fed.0] == 0 {
                ready.push(Reverse(*fed));
            }
        }
    }
    debug_assert_eq!(order.len(), missing.len(), "a valid manifest has no cycle");
    order
}

#[cfg(test)]
mod tests;
