//! `[12/30]` before a line: how many steps have ended, of those that are known. One that waits for others counts before
//! it exists.

use std::fmt;

use crate::db::TaskPlan;

use super::Event;

/// How far a run is. Each event costs the same, however many tasks there are.
#[derive(Debug, Clone, Default)]
pub(super) struct Counter {
    ended: u64,
    known: u64,
    /// By place: how many of a task's steps are counted that don't exist yet.
    to_come: Vec<u64>,
}

impl Counter {
    /// Updates the counts from an event.
    pub(super) fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Registered(known) => {
                let plan = known.plan;
                self.known = plan.to_run() + plan.to_come();
                self.to_come = match plan.to_come() {
                    0 => Vec::new(),
                    _ => plan.tasks.iter().map(TaskPlan::to_come).collect(),
                };
            }
            Event::Grown { task, pending, .. } => {
                let counted = self.to_come.get_mut(task.0).map_or(0, std::mem::take);
                self.known = (self.known + pending).saturating_sub(counted);
            }
            Event::Shared(_) | Event::Done(_) => self.ended += 1,
            Event::Failed(ended, _) if !ended.is_retried() => self.ended += 1,
            _ => {}
        }
    }
}

/// `[12/30]`
impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}/{}]", self.ended, self.known.max(self.ended))
    }
}
