//! What this process knows of one shard: who holds its lock, and which of its objects are in flight,
//! that is, under their name but not yet committed. And the lock file itself, `locks/AB`.
//!
//! A step of a thousand outputs would hold all 256 lock files, and a thousand files are all that many processes may
//! open. Besides, a lock file costs two calls to open and close, and each script that is started closes it too. So once
//! [`FEW_LOCKS`] of them are open, each further shard is held by a byte of one more file, `locks/all`: the byte at its
//! number. An exclusive lock takes the shard's file first, then its byte.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Inner, Store};
use crate::error::{OrIo, Result};
use crate::folder::FOLDER_MODE;
use crate::object::ObjectHash;
use crate::sys::{self, ByteLock, flock};

/// One of 256.
#[derive(Default)]
pub(super) struct Shard(Mutex<State>);

#[derive(Default)]
pub(super) struct State {
    /// Open while anybody holds it. Not kept: each script that is started closes all that we have open,
    /// and 256 files cost it 30 µs, where opening one costs us 2.
    lock: Option<HeldLock>,
    /// The names in the shard's folder are on the disk: it was synced, and no folder was made in it since.
    has_durable_folders: bool,
    /// Folders of the shard that this process has seen, one bit each.
    seen_folders: [u64; 4],
    /// Guards alive; the lock is held shared while there is any.
    holders: usize,
    in_flight: HashMap<ObjectHash, Flight>,
    /// Grows when an object stops being in flight, which is when it may have become a committed one
    /// that nobody may rename over any more.
    pub(super) settled: u64,
}

/// An object in flight.
#[derive(Default)]
struct Flight {
    /// Guards alive.
    count: usize,
    /// Guards there ever were.
    joined: u64,
    /// Bytes and name are on the disk.
    is_synced: bool,
}

impl Shard {
    /// Nothing that is done under this mutex can leave the state half changed, so a panic of another
    /// thread is none of our business.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(super) fn is_in_flight(&self, hash: &ObjectHash) -> bool {
        self.in_flight.contains_key(hash)
    }

    /// True if the object still has to be synced before its row may be committed.
    pub(super) fn needs_sync(&self, hash: &ObjectHash) -> bool {
        self.in_flight.get(hash).is_some_and(|flight| !flight.is_synced)
    }

    pub(super) fn set_synced(&mut self, hash: &ObjectHash) {
        if let Some(flight) = self.in_flight.get_mut(hash) {
            flight.is_synced = true;
        }
    }

    /// If one guard alone keeps an object in flight: how many have done so until now. Another number later
    /// means that somebody else has had it meanwhile, and may have committed it.
    pub(super) fn alone_after(&self, hash: &ObjectHash) -> Option<u64> {
        self.in_flight.get(hash).filter(|flight| flight.count == 1).map(|flight| flight.joined)
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.holders == 0 && self.in_flight.is_empty()
    }

    /// A folder was made in the shard's folder, or that could not be synced.
    pub(super) fn folders_are_not_durable(&mut self) {
        self.has_durable_folders = false;
    }

    /// Whether the shard's folder has to be synced; if so, the caller does that next.
    pub(super) fn begin_sync_of_folders(&mut self) -> bool {
        !std::mem::replace(&mut self.has_durable_folders, true)
    }

    /// Whether this process has seen an object's folder. Somebody may have removed it since.
    pub(super) fn has_seen_folder(&self, hash: &ObjectHash) -> bool {
        let (word, bit) = folder_bit(hash);
        self.seen_folders[word] & bit != 0
    }

    /// An object's folder is there.
    pub(super) fn note_folder(&mut self, hash: &ObjectHash) {
        let (word, bit) = folder_bit(hash);
        self.seen_folders[word] |= bit;
    }

    /// Whether any guard is alive.
    pub(super) fn is_held(&self) -> bool {
        self.holders > 0
    }

    fn hold(
        &mut self,
        locks: Option<&Locks>,
        objects: BorrowedFd<'_>,
        shard: u8,
    ) -> io::Result<()> {
        if let (None, Some(locks)) = (&self.lock, locks) {
            self.lock = Some(locks.take(objects, shard)?);
        }
        self.holders += 1;
        Ok(())
    }
}

/// Which bit of [`State::seen_folders`] stands for the folder of an object.
fn folder_bit(hash: &ObjectHash) -> (usize, u64) {
    let folder = hash.as_bytes()[1];
    (usize::from(folder >> 6), 1 << (folder & 63))
}

/// Lock files of single shards that this process has open at most: enough for a step's output and its log.
pub(super) const FEW_LOCKS: usize = 2;

/// How a shard is held.
enum HeldLock {
    /// By its own file.
    Own(LockFile),
    /// By its byte of `locks/all`.
    Byte { shard: u8, all: Arc<LockFile> },
}

/// The lock files that this process has open.
#[derive(Default)]
pub(super) struct Locks(Mutex<OpenLocks>);

#[derive(Default)]
struct OpenLocks {
    /// Of single shards.
    own: usize,
    /// `locks/all`, open from the first time that it is needed.
    all: Option<Arc<LockFile>>,
}

impl Locks {
    fn open(&self) -> MutexGuard<'_, OpenLocks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a shard against those who want it for themselves. Waits for one who has it.
    fn take(&self, objects: BorrowedFd<'_>, shard: u8) -> io::Result<HeldLock> {
        let mut open = self.open();
        // None of the locks is waited for under the mutex: who is to give it back needs that too.
        if open.own < FEW_LOCKS {
            open.own += 1;
            drop(open);
            let lock = LockFile::open(objects, &LockFile::name(shard))
                .and_then(|lock| lock.lock_shared().map(|()| lock));
            if lock.is_err() {
                self.open().own -= 1;
            }
            return lock.map(HeldLock::Own);
        }
        let all = match &open.all {
            Some(all) => Arc::clone(all),
            None => {
                let all = Arc::new(LockFile::open(objects, LockFile::ALL)?);
                open.all.insert(all).clone()
            }
        };
        drop(open);
        all.lock_byte(shard, ByteLock::Shared).map(|()| HeldLock::Byte { shard, all })
    }

    fn give_back(&self, lock: HeldLock) {
        match lock {
            HeldLock::Own(lock) => {
                // Closing would do, but for a script between its fork and its exec, which has the file open too.
                // Should it fail: closing comes next.
                let _ = lock.unlock();
                drop(lock);
                self.open().own -= 1;
            }
            HeldLock::Byte { shard, all } => {
                // Giving back part of a lock needs memory, no more; without any, closing the file gives it back.
                if all.lock_byte(shard, ByteLock::None).is_err() {
                    self.open().all = None;
                }
            }
        }
    }
}

/// Keeps gc out of an object's shard and, if `in_flight`, the object in the map of those in flight.
pub(super) struct Hold {
    store: Arc<Inner>,
    hash: ObjectHash,
    in_flight: bool,
}

impl Hold {
    /// The shard's part of the guard; the object is not in flight yet.
    pub(super) fn take(store: &Store, hash: ObjectHash) -> Result<Hold> {
        let inner = &store.inner;
        let mut state = inner.shard(&hash).state();
        let held = state.hold(inner.locks.as_ref(), inner.objects.as_fd(), hash.shard());
        drop(state);
        held.or_io("lock the shard of", store.path(&hash))?;
        Ok(Hold { store: Arc::clone(inner), hash, in_flight: false })
    }

    /// The object is in flight from now on, or one time more.
    pub(super) fn mark_in_flight(&mut self, state: &mut State) {
        let flight = state.in_flight.entry(self.hash).or_default();
        flight.count += 1;
        flight.joined += 1;
        self.in_flight = true;
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.store.shard(&self.hash).state();
        if self.in_flight
            && let Some(flight) = state.in_flight.get_mut(&self.hash)
        {
            flight.count -= 1;
            if flight.count == 0 {
                state.in_flight.remove(&self.hash);
                state.settled += 1;
            }
        }
        state.holders -= 1;
        if state.holders == 0
            && let (Some(lock), Some(locks)) = (state.lock.take(), &self.store.locks)
        {
            locks.give_back(lock);
        }
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hold({}, in_flight: {})", self.hash, self.in_flight)
    }
}

/// Folder of the lock files, beside `objects/`: what lies below that has the name of its hash.
pub(super) const LOCKS: &str = "locks";

/// An open lock file. flock belongs to the open file, so one per process and purpose.
pub(super) struct LockFile(File);

impl LockFile {
    /// The file with a byte for each shard.
    pub(super) const ALL: &str = "all";

    /// The file of a shard.
    pub(super) fn name(shard: u8) -> String {
        format!("{shard:02x}")
    }

    /// Opens (and makes) a lock file.
    pub(super) fn open(objects: BorrowedFd<'_>, name: &str) -> io::Result<LockFile> {
        let path = format!("../{LOCKS}/{name}");
        // Close-on-exec, or a step would keep the shard locked after our death.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(objects, &path, flags, Mode::from_raw_mode(0o644));
        let file = match open() {
            Err(Errno::NOENT) => {
                let folder = format!("../{LOCKS}");
                match rustix::fs::mkdirat(objects, folder, Mode::from_raw_mode(FOLDER_MODE)) {
                    Ok(()) | Err(Errno::EXIST) => open(),
                    Err(err) => Err(err),
                }
            }
            other => other,
        };
        Ok(LockFile(File::from(file?)))
    }

    /// Waits until nobody holds the shard exclusively.
    pub(super) fn lock_shared(&self) -> io::Result<()> {
        flock::shared(&self.0)
    }

    /// Waits until nobody holds the shard at all.
    pub(super) fn lock_exclusive(&self) -> io::Result<()> {
        flock::exclusive(&self.0)
    }

    /// Locks the byte of a shard in `locks/all`, or gives it back.
    pub(super) fn lock_byte(&self, shard: u8, how: ByteLock) -> io::Result<()> {
        sys::lock_byte(self.0.as_fd(), shard, how)
    }

    pub(super) fn unlock(&self) -> io::Result<()> {
        flock::unlock(&self.0)
    }
}
