//! The barrier before a COMMIT. The only place that makes objects durable.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags};

use super::{Placed, Store};
use crate::error::{OrIo, Result};
use crate::object::ObjectHash;

/// Up to so many new objects are synced one by one; more cost less with one syncfs, which however
/// writes what others have written to the file system as well.
pub(super) const FEW_FILES: usize = 64;

impl Store {
    /// The barrier before COMMIT: afterwards the bytes and the names of `placed` survive a power cut.
    /// Nothing to do for objects that were committed before.
    ///
    /// # Errors
    /// The first error of a sync, and with it the run must end: the kernel reports a failed write
    /// once, and a second sync may succeed without the data.
    pub fn sync(&self, placed: &[&Placed]) -> Result<()> {
        // One at a time, or a second barrier would take for durable what the first has only begun.
        let _barrier = self.inner.barrier.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new: BTreeSet<ObjectHash> = BTreeSet::new();
        for placed in placed {
            if placed.hold.is_in_flight()
                && self.inner.shard(&placed.hash).state().needs_sync(&placed.hash)
            {
                new.insert(placed.hash);
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        if new.len() > FEW_FILES {
            self.sync_file_system()?
        } else {
            self.sync_each(&new)?
        }
        for hash in &new {
            self.inner.shard(hash).state().set_synced(hash);
        }
        Ok(())
    }

    /// Everything on the file system.
    fn sync_file_system(&self) -> Result<()> {
        rustix::fs::syncfs(&self.inner.objects).or_io("sync the file system of", &self.root)
    }

    /// Every file, then every folder that got a name: without the folders, committed rows pointed at
    /// missing objects in a third of all simulated power cuts.
    fn sync_each(&self, new: &BTreeSet<ObjectHash>) -> Result<()> {
        let mut folders = BTreeSet::new();
        let mut shards = BTreeSet::new();
        for hash in new {
            let name = Self::name(hash);
            self.sync_one(&name, OFlags::empty())?;
            folders.insert(name[..5].to_owned());
            shards.insert(hash.shard());
        }
        for folder in &folders {
            self.sync_one(folder, OFlags::DIRECTORY)?;
        }
        for shard in shards {
            // Set before the sync, so that a folder made meanwhile unsets it again.
            let state = &self.inner.shards[usize::from(shard)];
            if !std::mem::replace(&mut state.state().is_durable, true)
                && let Err(err) = self.sync_one(&format!("{shard:02x}"), OFlags::DIRECTORY)
            {
                state.state().is_durable = false;
                return Err(err);
            }
        }
        if !self.inner.is_durable.swap(true, Ordering::SeqCst) {
            self.sync_one(".", OFlags::DIRECTORY).inspect_err(|_| self.inner.set_durable(false))?;
        }
        Ok(())
    }

    fn sync_one(&self, name: &str, kind: OFlags) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
        rustix::fs::openat(&self.inner.objects, name, flags, Mode::empty())
            .and_then(rustix::fs::fsync)
            .or_io("sync", self.root.join(Path::new(name)))
    }
}
