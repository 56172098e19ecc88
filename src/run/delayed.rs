//! Jobs that wait for another try, the next one due first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::shared::Job;

/// A job that waits for another try.
struct Delayed(Instant, Job);

impl Ord for Delayed {
    fn cmp(&self, other: &Delayed) -> std::cmp::Ordering {
        (self.0, self.1.leaf.step).cmp(&(other.0, other.1.leaf.step))
    }
}
impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Delayed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Delayed {
    fn eq(&self, other: &Delayed) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Delayed {}

#[derive(Default)]
pub(super) struct Queue(BinaryHeap<Reverse<Delayed>>);

impl Queue {
    /// Adds a job, due at a moment.
    pub(super) fn push(&mut self, due: Instant, job: Job) {
        self.0.push(Reverse(Delayed(due, job)));
    }

    /// When the first one is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse(Delayed(due, _))| *due)
    }

    /// Takes the first one if it is due and `may_start`.
    pub(super) fn pop_due(
        &mut self,
        now: Instant,
        may_start: impl Fn(&Job) -> bool,
    ) -> Option<Job> {
        let Reverse(Delayed(due, job)) = self.0.peek()?;
        if *due > now || !may_start(job) {
            return None;
        }
        self.0.pop().map(|Reverse(Delayed(_, job))| job)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
