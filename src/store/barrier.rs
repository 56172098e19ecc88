//! The barrier before a COMMIT. The only place that makes objects durable.
//!
//! There are two ways. One is an fsync for every new file and every folder that got a name: each waits until the disk
//! has flushed its cache, 1 to 3 ms on an honest disk (64 objects: 250 ms). The other is one syncfs: a flush or two for
//! everything, but it also writes what all other processes have written to the file system, however much that is.
//! Both promise the same, so the one that has been cheaper lately is used, and now and then the other, to see
//! whether it still costs more.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Placed, Store};
use crate::error::{Error, OrIo, Result};
use crate::object::ObjectHash;
use crate::order;
use crate::text::as_path;

/// More new objects than this are never synced one by one.
pub(super) const FEW_FILES: usize = 64;

/// With each barrier the estimate for the way not taken shrinks by one part in so many: a way that costs ten times
/// as much is tried about every 150th time.
const FORGETTING: u32 = 64;

/// What barriers have cost, hence which way to take; and what is durable already.
#[derive(Default)]
pub(super) struct Barrier {
    /// One fsync; `None` until there was one.
    one: Option<Duration>,
    /// One syncfs.
    all: Option<Duration>,
    /// Kernels before 5.8 don't report failed writes in syncfs, so it can't be relied on there.
    pub(super) syncfs_is_mute: bool,
    /// The names of `objects/` and of the folder it is in are on the disk.
    has_synced_above: bool,
    /// Error number of the first sync that failed. The kernel reports lost bytes only once, so no later sync can be
    /// trusted.
    failed: Option<i32>,
}

impl Barrier {
    pub(super) fn new() -> Barrier {
        let release = crate::sys::proc::kernel("osrelease");
        Barrier { syncfs_is_mute: !is_at_least(&release, (5, 8)), ..Barrier::default() }
    }

    /// Whether to sync this many objects one by one.
    pub(super) fn prefer_each(&self, objects: usize) -> bool {
        if self.syncfs_is_mute {
            return true;
        }
        match (self.one, self.all) {
            _ if objects > FEW_FILES => false,
            (None, _) => true,
            (_, None) => false,
            // The file, its folder, and in a young store the shard's folder.
            (Some(one), Some(all)) => one * objects as u32 * 3 <= all,
        }
    }

    /// Learns from one barrier of `calls` fsyncs, or of one syncfs if 0.
    pub(super) fn learn(&mut self, took: Duration, calls: u32) {
        let (used, other, took) = match calls {
            0 => (&mut self.all, &mut self.one, took),
            calls => (&mut self.one, &mut self.all, took / calls),
        };
        // The old value counts half, so that one slow moment doesn't decide for long.
        *used = Some(used.map_or(took, |before| (before + took) / 2));
        *other = other.map(|cost| cost - cost / FORGETTING);
    }
}

/// Whether a kernel release ("6.1.0-18-amd64") is this version or a later one.
fn is_at_least(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= version,
        _ => false,
    }
}

/// See [`Store::sync`].
pub(super) fn sync(store: &Store, placed: &[&Placed]) -> Result<()> {
    // One at a time, or a second barrier would take for durable what the first is still syncing.
    let mut barrier = store.inner.barrier.lock().unwrap_or_else(PoisonError::into_inner);
    let mut new: BTreeSet<ObjectHash> = BTreeSet::new();
    for placed in placed {
        if placed.hold.is_in_flight()
            && store.inner.shard(&placed.hash).state().needs_sync(&placed.hash)
        {
            new.insert(placed.hash);
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    let start = Instant::now();
    let calls = once(store, &mut barrier, |barrier| {
        if barrier.prefer_each(new.len()) {
            sync_each(store, &new, &mut barrier.has_synced_above)
        } else {
            sync_file_system(store).map(|()| 0)
        }
    })?;
    barrier.learn(start.elapsed(), calls);
    for hash in &new {
        store.inner.shard(hash).state().set_synced(hash);
    }
    Ok(())
}

/// Syncs, unless a sync has failed already: after that no other thread may be told that all is well.
fn once<T>(
    store: &Store,
    barrier: &mut Barrier,
    sync: impl FnOnce(&mut Barrier) -> Result<T>,
) -> Result<T> {
    if let Some(code) = barrier.failed {
        return Err(io::Error::from_raw_os_error(code)).or_io("sync, as before,", &store.root);
    }
    let synced = sync(barrier);
    if let Err(Error::Io { source, .. }) = &synced {
        barrier.failed = Some(source.raw_os_error().unwrap_or(Errno::IO.raw_os_error()));
    }
    synced
}

fn sync_file_system(store: &Store) -> Result<()> {
    rustix::fs::syncfs(&store.inner.objects).or_io("sync the file system of", &store.root)
}

/// See [`Store::sync_all`].
pub(super) fn sync_all(store: &Store) -> Result<bool> {
    let mut barrier = store.inner.barrier.lock().unwrap_or_else(PoisonError::into_inner);
    once(store, &mut barrier, |_| sync_file_system(store))?;
    Ok(!barrier.syncfs_is_mute)
}

/// Every file, then every folder that got a name: without the folders, committed rows pointed at
/// missing objects in a third of all simulated power cuts. Gives the number of fsyncs.
fn sync_each(store: &Store, new: &BTreeSet<ObjectHash>, above: &mut bool) -> Result<u32> {
    let mut calls = 0;
    for hash in new {
        sync_one(store, as_path(&store.name(hash)), OFlags::empty(), &mut calls)?;
    }
    let folders = order::set(new.iter().map(|hash| store.folder(hash)));
    for folder in folders {
        sync_one(store, as_path(&folder), OFlags::DIRECTORY, &mut calls)?;
    }
    let shards = order::set(new.iter().map(ObjectHash::shard));
    // Each is called synced before it is: a folder made meanwhile takes that back, and is synced next time.
    for shard in shards {
        let state = || store.inner.shards[usize::from(shard)].state();
        if state().begin_sync_of_folders() {
            let folder = format!("{shard:02x}");
            sync_one(store, Path::new(&folder), OFlags::DIRECTORY, &mut calls)
                .inspect_err(|_| state().folders_are_not_durable())?;
        }
    }
    if !store.inner.has_durable_shards.swap(true, Ordering::SeqCst) {
        sync_one(store, Path::new("."), OFlags::DIRECTORY, &mut calls)
            .inspect_err(|_| store.inner.shards_are_not_durable())?;
    }
    if !*above {
        sync_one(store, Path::new(".."), OFlags::DIRECTORY, &mut calls)?;
        sync_one(store, Path::new("../.."), OFlags::DIRECTORY, &mut calls)?;
        *above = true;
    }
    Ok(calls)
}

fn sync_one(store: &Store, name: &Path, kind: OFlags, calls: &mut u32) -> Result<()> {
    *calls += 1;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
    rustix::fs::openat(&store.inner.objects, name, flags, Mode::empty())
        .and_then(rustix::fs::fsync)
        .or_io("sync", store.root.join(name))
}
