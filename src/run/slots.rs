//! How many scripts run at once. The pool has one thread more than there are slots: a worker that
//! waits for the disk in a commit holds no slot, so the scripts go on. Slots, not threads, are what
//! users see as workers: there are never more of them than scripts at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, PoisonError};

pub(super) struct Slots {
    free: Mutex<BinaryHeap<Reverse<usize>>>,
    freed: Condvar,
}

/// Permission to run a script; given back when dropped.
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    /// From 1.
    pub(super) number: usize,
}

impl Slots {
    pub(super) fn new(count: usize) -> Slots {
        Slots { free: Mutex::new((1..=count).map(Reverse).collect()), freed: Condvar::new() }
    }

    /// Waits for a free slot; takes the one with the lowest number.
    pub(super) fn take(&self) -> Slot<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(Reverse(number)) = free.pop() {
                return Slot { slots: self, number };
            }
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let free = &self.slots.free;
        free.lock().unwrap_or_else(PoisonError::into_inner).push(Reverse(self.number));
        self.slots.freed.notify_one();
    }
}
