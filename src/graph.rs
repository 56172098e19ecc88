//! Who feeds whom: order, depth, ancestors. Unaware of scripts, files and the database.

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
    pub ancestors: Vec<Vec<TaskIndex>>,
    /// `height[t]`: edges on the longest way from `t` to an end of the graph; 0 for an end. Leaves of
    /// low height are run first.
    pub height: Vec<usize>,
}

impl Graph {
    /// Derives everything from each task's `from`.
    pub fn of(_manifest: &Manifest) -> Graph {
        unimplemented!()
    }
}
