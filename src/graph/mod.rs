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
    /// `height[t]`: edges on the longest path from `t` to a task without consumers, which has 0. Leaves of
    /// the lowest height run first, so that work is finished before more is begun.
    pub height: Vec<usize>,
}

impl Graph {
    /// The graph that each task's `from` describes.
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
        Graph { order, from, consumers, height }
    }
}

/// Kahn's algorithm; of the tasks whose producers are all placed, the first in the manifest comes next.
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
    debug_assert_eq!(order.len(), from.len(), "a valid manifest has no cycle");
    order
}

#[cfg(test)]
mod tests;
