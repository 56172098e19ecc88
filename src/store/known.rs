//! A small memory of hashes that are committed, so that the same output of a thousand steps asks
//! the database once. Forgetting any of them is harmless.

use std::sync::{Mutex, PoisonError};

use crate::object::ObjectHash;

/// Slots; a hash has exactly one, and the latest tenant wins. 160 KiB.
const SLOTS: usize = 4096;

pub(super) struct Known(Vec<Mutex<Option<ObjectHash>>>);

impl Known {
    pub(super) fn new() -> Known {
        Known((0..SLOTS).map(|_| Mutex::new(None)).collect())
    }

    pub(super) fn contains(&self, hash: &ObjectHash) -> bool {
        *self.slot(hash) == Some(*hash)
    }

    pub(super) fn note(&self, hash: &ObjectHash) {
        *self.slot(hash) = Some(*hash);
    }

    pub(super) fn forget(&self, hash: &ObjectHash) {
        let mut slot = self.slot(hash);
        if *slot == Some(*hash) {
            *slot = None;
        }
    }

    fn slot(&self, hash: &ObjectHash) -> std::sync::MutexGuard<'_, Option<ObjectHash>> {
        // Any bytes of a SHA-256 are as good as a hash of it.
        let bytes = hash.as_bytes();
        let slot = usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) % SLOTS;
        self.0[slot].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
