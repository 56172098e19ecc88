//! Objects lent to scripts as hard links, and the proof that they came back unchanged.
//!
//! A link is the object: a script that forces its read-only mode writes into the store. It can't be
//! kept from that, but it can't do it unseen either, since every write moves the inode's mtime or
//! ctime. So does every link and unlink, ours included, and two workers may have lent the same object.
//! Hence one record per inode in this process, updated under its lock with each link and unlink that
//! we make. A stat that differs from the record is no proof yet (the script may have renamed its link,
//! a backup may have linked the object): then the object is hashed again, and that decides. So it is with
//! a small one whose stamp is so young that a change right after the script's start would not show.
//!
//! A script may also keep its link, by moving it out of the scratch, and whoever edits that file
//! later edits the object. So an object that has more names after its last loan than before the first one
//! gets an inode of its own.
//!
//! A gather lends 100,000 objects and more: two system calls each before the script and two after it, and
//! what is kept of each fits into a hundred bytes.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use super::stamp::Marks;
use crate::error::{OrIo, Result};
use crate::object::ObjectHash;
use crate::store::Store;

/// (device, inode): the same object of two stores is two files.
type Key = (u64, u64);

/// Records are kept in so many maps, so that workers seldom wait for each other.
const MAPS: usize = 64;

/// Up to here, in bytes, an object is hashed again where its time stamp leaves a doubt.
const CHEAP: u64 = 1 << 20;

/// Every object lent at this moment.
static LENT: LazyLock<[Mutex<HashMap<Key, Record>>; MAPS]> =
    LazyLock::new(|| std::array::from_fn(|_| Mutex::default()));

/// Objects that were found damaged when they came back, until whoever heals them knows.
static DAMAGED: LazyLock<Mutex<HashSet<ObjectHash>>> = LazyLock::new(Mutex::default);

/// What is known of a lent object.
struct Record {
    /// As it was after our last look at it.
    expected: Marks,
    /// How often it is lent.
    loans: u32,
    /// How many links of ours it has.
    links: u32,
    /// How many names it had before the first one.
    names: u32,
    /// A script has changed it.
    is_damaged: bool,
    /// A name of it may be left somewhere.
    may_be_kept: bool,
}

/// An object lent to one step. Dropping it forgets that it was lent, without a look at it.
pub(super) struct LinkedInput(Key);

impl LinkedInput {
    /// Links an object into a folder, of which this is the open file. That `is_proven` if its bytes were just compared
    /// with its hash. `None` if the file system won't link it: then it has to be copied.
    pub(super) fn lend(
        store: &Store,
        object: &ObjectHash,
        (file, is_proven): (&File, bool),
        (dir, name): (BorrowedFd<'_>, &[u8]),
    ) -> Result<Option<LinkedInput>> {
        let look = || rustix::fs::fstat(file).or_io("look at object", store.path(object));
        let before = look()?;
        let is_read_only = before.st_mode & 0o222 == 0 || store.make_read_only(object).is_ok();
        if !is_read_only {
            return Ok(None);
        }
        let key = (before.st_dev, before.st_ino);
        let mut records = records(key);
        if let Some(record) = records.get_mut(&key)
            && !is_proven
        {
            record.look(store, (object, key.1), None)?;
        }
        match store.link(object, dir, name) {
            Ok(()) => {}
            // Too many links, none allowed here, another file system after all; or the object has just been moved.
            Err(Errno::MLINK | Errno::PERM | Errno::XDEV | Errno::OPNOTSUPP | Errno::NOENT) => {
                return Ok(None);
            }
            Err(err) => return Err(err).or_io("link object", store.path(object)),
        }
        let after = look()?;
        // Another file may have got the object's name since this one was opened.
        if names_of(&after) != names_of(&before) + 1 {
            let linked = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
                .or_io("look at a link to object", store.path(object))?;
            if (linked.st_dev, linked.st_ino) != key {
                rustix::fs::unlinkat(dir, name, AtFlags::empty())
                    .or_io("remove a link to object", store.path(object))?;
                return Ok(None);
            }
        }
        let expected = Marks::of(&after);
        let record = records.entry(key).or_insert(Record {
            expected,
            loans: 0,
            links: 0,
            names: names_of(&after).saturating_sub(1),
            is_damaged: false,
            may_be_kept: false,
        });
        record.expected = expected;
        record.loans += 1;
        record.links += 1;
        Ok(Some(LinkedInput(key)))
    }

    /// Removes our link, if the script has left it where it was (and its folder, which is open), and tells whether the
    /// object is still what its name says. `since_ns` is what [`stamp_ns`](crate::sys::clock::stamp_ns) said before the script was
    /// started.
    pub(super) fn reclaim(
        &self,
        store: &Store,
        object: &ObjectHash,
        (dir, name): (Option<BorrowedFd<'_>>, &[u8]),
        since_ns: i64,
    ) -> Result<bool> {
        let mut records = records(self.0);
        let Some(record) = records.get_mut(&self.0) else { return Ok(true) };
        let now = record.look(store, (object, self.0.1), Some(since_ns))?;
        let names = record.names + record.links;
        record.may_be_kept |=
            now.is_none_or(|now| now.st_ino != self.0.1 || names_of(&now) != names);
        let unlink = |dir| rustix::fs::unlinkat(dir, name, AtFlags::empty());
        match dir.map_or(Err(Errno::NOENT), unlink) {
            Ok(()) => {}
            // Renamed or removed, or the folder was; what is left goes when `in/` is cleared.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::PERM | Errno::NAMETOOLONG) => {
                record.may_be_kept = true;
            }
            Err(err) => return Err(err).or_io("remove a link to object", store.path(object)),
        }
        record.links -= 1;
        if record.loans > 1
            && let Some(now) = store.stat(object)?
        {
            record.expected = Marks::of(&now);
        }
        if record.is_damaged {
            lock(&DAMAGED).insert(*object);
        }
        Ok(!record.is_damaged)
    }

    /// After all that the step left was removed: if this was the object's last loan and a name of it is
    /// still somewhere, the object parts from it.
    pub(super) fn end(self, store: &Store, object: &ObjectHash) -> Result<()> {
        let records = records(self.0);
        let Some(record) = records.get(&self.0) else { return Ok(()) };
        if record.loans == 1
            && record.may_be_kept
            && !record.is_damaged
            && let Some(now) = store.stat(object)?
            && now.st_ino == self.0.1
            && names_of(&now) > record.names
        {
            store.detach(object)?;
        }
        drop(records);
        Ok(())
    }
}

impl Record {
    /// Hashes the object again if it is not as we left it, or a small one that may have been changed so soon after a
    /// moment that it doesn't show. Others who lent it wait meanwhile. Gives its stat.
    fn look(
        &mut self,
        store: &Store,
        (object, inode): (&ObjectHash, u64),
        since_ns: Option<i64>,
    ) -> Result<Option<Stat>> {
        let now = store.stat(object)?;
        if self.is_damaged {
            return Ok(now);
        }
        let is_as_left = now.as_ref().is_some_and(|now| {
            let marks = Marks::of(now);
            let is_young = since_ns.is_some_and(|since| marks.may_hide_change_since(since));
            let is_same = now.st_ino == inode && marks == self.expected;
            is_same && !(is_young && marks.size() <= CHEAP)
        });
        if is_as_left {
            return Ok(now);
        }
        self.is_damaged = store.check(object, None, true)?.is_err();
        if !self.is_damaged {
            // Only its mode may have been changed; that is soon mended.
            store.make_read_only(object).or_io("make read-only", store.path(object))?;
        }
        Ok(now)
    }
}

impl Drop for LinkedInput {
    fn drop(&mut self) {
        let mut records = records(self.0);
        if let Some(record) = records.get_mut(&self.0) {
            record.loans -= 1;
            if record.loans == 0 {
                records.remove(&self.0);
            }
        }
        // A gather may have lent very many.
        if records.is_empty() {
            records.shrink_to_fit();
        }
    }
}

/// Whether an object's bytes may be wrong because a script that still runs, or has just ended, was lent it.
///
/// # Errors
/// If it can't be looked at.
pub fn may_be_spoilt(store: &Store, object: &ObjectHash) -> Result<bool> {
    // In this order: it is among those that are damaged before it stops being lent.
    if let Some(stat) = store.stat(object)? {
        let key = (stat.st_dev, stat.st_ino);
        if records(key).contains_key(&key) {
            return Ok(true);
        }
    }
    Ok(lock(&DAMAGED).contains(object))
}

/// Whoever heals an object that came back damaged knows of it by now.
pub fn note_spoilt(object: &ObjectHash) {
    lock(&DAMAGED).remove(object);
}

/// How many names a file has: no file system of Linux counts beyond 32 bits.
#[allow(clippy::unnecessary_cast, reason = "the field has 32 bits on some machines")]
fn names_of(stat: &Stat) -> u32 {
    stat.st_nlink as u32
}

/// The records of those objects that this one belongs to.
fn records(key: Key) -> MutexGuard<'static, HashMap<Key, Record>> {
    lock(&LENT[key.1 as usize % MAPS])
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
