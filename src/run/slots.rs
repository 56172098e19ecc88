//! How many scripts run at once. The pool has one thread more than there are slots; the one without a
//! slot commits, so that the scripts go on while the disk is waited for.
//!
//! A worker keeps its slot from step to step: handing it over would cost a thread switch a step, which on
//! two cores is a tenth of what starting `sh` costs.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

pub(super) struct Slots {
    free: Mutex<usize>,
    changed: Condvar,
}

/// Permission to run scripts, one at a time; given back when dropped.
pub(super) struct Slot<'a>(&'a Slots);

impl Slots {
    pub(super) fn new(count: usize) -> Slots {
        Slots { free: Mutex::new(count), changed: Condvar::new() }
    }

    /// Waits for a free slot. `None` when `due` says that there is something else to do first; it is
    /// asked at the start, at each [`Slots::wake`], and when the time comes that it named.
    pub(super) fn take(&self, due: impl Fn() -> Due) -> Option<Slot<'_>> {
        let mut free = self.free();
        while *free == 0 {
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
        *free -= 1;
        Some(Slot(self))
    }

    /// Lets whoever waits for a slot ask anew what is due.
    pub(super) fn wake(&self) {
        // Under the mutex, or it could come between somebody's question and their sleep.
        let _free = self.free();
        self.changed.notify_one();
    }

    fn free(&self) -> MutexGuard<'_, usize> {
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
        *self.0.free() += 1;
        self.0.changed.notify_one();
    }
}
