//! A worker's objects: what it was sent, and what its scripts have made, so that no object travels twice. When they
//! take more room than was allowed, those go that were used least recently, except for those in use.
//!
//! The store asks it which objects are here for certain, as it asks the database elsewhere. Nothing is made durable:
//! after a crash the folder is removed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::object::ObjectHash;
use crate::proof::Proof;
use crate::store::{Placed, Store};
use crate::sys::disk;

pub(super) struct Cache {
    state: Mutex<Kept>,
    /// Somebody has got, or given up, an object that others wait for.
    fetched: Condvar,
    /// Bytes.
    limit: u64,
}

#[derive(Default)]
struct Kept {
    objects: HashMap<ObjectHash, Entry>,
    /// By when they were last used.
    order: BTreeMap<u64, ObjectHash>,
    uses: u64,
    /// Bytes of all of them.
    size: u64,
    /// Objects that somebody is about to get.
    awaited: HashSet<ObjectHash>,
}

struct Entry {
    size: u64,
    used: u64,
    /// Attempts that need it.
    pins: usize,
}

impl Cache {
    pub(super) fn new(limit: u64) -> Cache {
        Cache { state: Mutex::default(), fetched: Condvar::new(), limit }
    }

    fn state(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from `left` the objects that are here, which are kept from being removed until they are
    /// [unpinned](Self::unpin), and those that the caller is to get: it [adds](Self::add) each of these, or
    /// [gives it up](Self::give_up), and asks again as long as any are left. Waits for what somebody else is about to
    /// get, if there is nothing else to do.
    pub(super) fn pin(
        &self,
        left: &mut Vec<ObjectHash>,
        pinned: &mut Vec<ObjectHash>,
    ) -> Vec<ObjectHash> {
        let mut lacking = Vec::new();
        let mut state = self.state();
        loop {
            left.retain(|object| {
                if state.pin(object) {
                    pinned.push(*object);
                    return false;
                }
                let is_ours = state.awaited.insert(*object);
                lacking.extend(is_ours.then_some(*object));
                !is_ours
            });
            if !lacking.is_empty() || left.is_empty() {
                return lacking;
            }
            state = self.fetched.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// An object is here, whose guard this is.
    pub(super) fn keep(&self, store: &Store, placed: &Placed) {
        self.state().insert(placed.hash, placed.size);
        store.note_committed(&placed.hash);
    }

    /// An object is here, whose guard this is, and is pinned.
    pub(super) fn add(&self, store: &Store, placed: &Placed) {
        let mut state = self.state();
        state.awaited.remove(&placed.hash);
        state.insert(placed.hash, placed.size);
        state.pin(&placed.hash);
        drop(state);
        store.note_committed(&placed.hash);
        self.fetched.notify_all();
    }

    /// These don't come after all.
    pub(super) fn give_up(&self, objects: &[ObjectHash]) {
        let mut state = self.state();
        for object in objects {
            state.awaited.remove(object);
        }
        drop(state);
        self.fetched.notify_all();
    }

    pub(super) fn unpin(&self, objects: &[ObjectHash]) {
        let mut state = self.state();
        for object in objects {
            if let Some(entry) = state.objects.get_mut(object) {
                entry.pins = entry.pins.saturating_sub(1);
            }
        }
    }

    /// An object is not what it was.
    pub(super) fn forget(&self, store: &Store, object: &ObjectHash) {
        self.state().remove(object);
        store.forget(object);
    }

    /// Removes what has not been used for longest, until the rest is within the limit or in use. A quarter of the disk is left
    /// to scripts.
    pub(super) fn shrink(&self, store: &Store) -> Result<()> {
        let room = disk::free(store.db_dir()).unwrap_or(u64::MAX);
        let room = self.state().size.saturating_add(room);
        let limit = self.limit.min(room - room / 4);
        let mut spared = HashSet::new();
        while let Some((object, size)) = self.give_away(store, limit, &spared) {
            // Somebody who has found it here before it was given away still has a guard, by which it can be told.
            if !store.remove_unless_held(&object)? {
                self.state().insert(object, size);
                spared.insert(object);
            }
        }
        Ok(())
    }

    /// Strikes an object off the list that is to be removed; not one of the `spared`.
    fn give_away(
        &self,
        store: &Store,
        limit: u64,
        spared: &HashSet<ObjectHash>,
    ) -> Option<(ObjectHash, u64)> {
        let mut state = self.state();
        if state.size <= limit {
            return None;
        }
        let is_free = |object: &&ObjectHash| {
            state.objects.get(*object).is_some_and(|entry| entry.pins == 0)
                && !spared.contains(*object)
        };
        let object = state.order.values().find(is_free).copied()?;
        let size = state.objects.get(&object).map_or(0, |entry| entry.size);
        state.remove(&object);
        store.forget(&object);
        Some((object, size))
    }
}

impl Kept {
    /// False if it is not here.
    fn pin(&mut self, object: &ObjectHash) -> bool {
        self.uses += 1;
        let Some(entry) = self.objects.get_mut(object) else { return false };
        entry.pins += 1;
        self.order.remove(&entry.used);
        entry.used = self.uses;
        self.order.insert(entry.used, *object);
        true
    }

    fn insert(&mut self, object: ObjectHash, size: u64) {
        if self.objects.contains_key(&object) {
            return;
        }
        self.uses += 1;
        self.objects.insert(object, Entry { size, used: self.uses, pins: 0 });
        self.order.insert(self.uses, object);
        self.size += size;
    }

    fn remove(&mut self, object: &ObjectHash) {
        if let Some(entry) = self.objects.remove(object) {
            self.order.remove(&entry.used);
            self.size -= entry.size;
        }
    }
}

impl Proof for Cache {
    fn committed_size(&self, hash: &ObjectHash) -> Result<Option<u64>, Error> {
        Ok(self.state().objects.get(hash).map(|entry| entry.size))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// A store with a cache of so many bytes.
    fn store(limit: u64) -> (tempfile::TempDir, Arc<Cache>, Store) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::new(limit));
        let store = Store::open_private(dir.path(), Arc::clone(&cache) as Arc<dyn Proof>).unwrap();
        (dir, cache, store)
    }

    #[test]
    fn what_was_used_least_recently_goes_first_and_what_is_in_use_stays() {
        let (_dir, cache, store) = store(20);
        let pin = |object: ObjectHash| cache.pin(&mut vec![object], &mut Vec::new());
        let add = |bytes: &[u8]| {
            let placed = store.put(bytes).unwrap();
            assert_eq!(pin(placed.hash), [placed.hash]);
            cache.add(&store, &placed);
            placed.hash
        };
        let all: Vec<ObjectHash> = ["one 456789", "two 456789", "three 6789", "four 56789"]
            .map(|text| add(text.as_bytes()))
            .to_vec();
        cache.shrink(&store).unwrap();
        let is_here = || all.iter().map(|object| store.path(object).exists()).collect::<Vec<_>>();
        assert_eq!(is_here(), [true; 4], "all are in use");
        cache.unpin(&all[..3]);
        assert_eq!(pin(all[0]), []);
        cache.unpin(&all[..1]);
        cache.shrink(&store).unwrap();
        assert_eq!(is_here(), [true, false, false, true]);
        assert_eq!(pin(all[1]), all[1..2]);
        cache.give_up(&all[1..2]);
    }

    #[test]
    fn two_who_need_the_same_object_get_it_once() {
        let (_dir, cache, store) = store(1000);
        let object = ObjectHash::of(b"large");
        assert_eq!(cache.pin(&mut vec![object], &mut Vec::new()), [object]);
        let other = {
            let cache = Arc::clone(&cache);
            std::thread::spawn(move || cache.pin(&mut vec![object], &mut Vec::new()))
        };
        let placed = store.put(b"large").unwrap();
        cache.add(&store, &placed);
        assert_eq!(other.join().unwrap(), []);
    }
}
