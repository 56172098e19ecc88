//! Permission to run a script: a slot of ours. Where there is a jobserver, its [tokens](crate::tokens) are asked for, too.
//!
//! How many scripts run at once. The pool has one thread more than there are slots; the one without a slot
//! commits, so that the scripts go on while the disk is waited for.
//!
//! A worker keeps its slot from step to step: handing it over would cost a thread switch a step, which on two
//! cores is a tenth of what starting `sh` costs. Slots, not threads, are what users see as workers: there are
//! never more of them than scripts at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(super) struct Slots {
    free: Mutex<BinaryHeap<Reverse<usize>>>,
    changed: Condvar,
}

/// Permission to run scripts, one at a time; given back when dropped.
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    /// From 1.
    pub(super) number: usize,
}

impl Slots {
    pub(super) fn new(count: usize) -> Slots {
        Slots { free: Mutex::new((1..=count).map(Reverse).collect()), changed: Condvar::new() }
    }

    /// Waits for a free slot, and takes the one with the lowest number. `None` when `due` says that there
    /// is something else to do first; it is asked at the start, at each [`Slots::wake`], and when the
    /// time comes that it named.
    pub(super) fn take(&self, due: impl Fn() -> Due) -> Option<Slot<'_>> {
        let mut free = self.free();
        loop {
            if let Some(Reverse(number)) = free.pop() {
                return Some(Slot { slots: self, number });
            }
            free = match due() {
                Due::Now => return None,
                Due::Never => self.changed.wait(free).unwrap_or_else(PoisonError::into_inner),
                Due::At(time) => {
                    let left = time.saturating_duration_since(Instant::now());
                    let woken = self.changed.wait_timeout(free, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Lets whoever waits for a slot ask anew what is due.
    pub(super) fn wake(&self) {
        // Under the mutex, or it could come between somebody's question and their sleep.
        let _free = self.free();
        self.changed.notify_one();
    }

    fn free(&self) -> MutexGuard<'_, BinaryHeap<Reverse<usize>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When whoever waits for a slot has something else to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
    Never,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.free().push(Reverse(self.number));
        self.slots.changed.notify_one();
    }
}
