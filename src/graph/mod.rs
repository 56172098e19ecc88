//! Who feeds whom: order and depth. Unaware of scripts, files and the database.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

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
        Graph { order, from, consumers, height }
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

#[cfg(test)]
mod tests;
