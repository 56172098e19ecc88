//! Large objects lent to scripts as hard links, and the proof that they came back unchanged.
//!
//! A link is the object: a script that forces its read-only mode writes into the store. It can't be
//! kept from that, but it can't do it unseen either, since every write moves the inode's mtime or
//! ctime. So does every link and unlink, ours included, and two workers may have lent the same object.
//! Hence one record per inode in this process, updated under its lock with each link and unlink that
//! we make. A stat that differs from the record is no proof yet (the script may have renamed its link,
//! a backup may have linked the object): then the object is hashed again, and that decides.
//!
//! A script may also keep its link, by moving INPUT_FILE out of the scratch, and whoever edits that file
//! later edits the object. So an object that has more names after its last loan than before the first one
//! gets an inode of its own.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use super::stamp::Stamp;
use crate::error::{OrIo, Result};
use crate::object::ObjectHash;
use crate::store::Store;

/// (device, inode): the same object of two stores is two files.
type Key = (u64, u64);

/// Every object lent at this moment, and how often.
static LENT: LazyLock<Mutex<HashMap<Key, (SharedRecord, usize)>>> = LazyLock::new(Mutex::default);

/// One record for all that have lent the same object.
type SharedRecord = Arc<Mutex<Record>>;

/// What is known of a lent object.
#[derive(Default)]
struct Record {
    /// As it was after our last look at it; `None` before the first.
    expected: Option<Stamp>,
    is_damaged: bool,
    /// As it was before it was lent.
    first: Option<Stat>,
}

/// An object lent to one step. Dropping it forgets that it was lent, without a look at it.
pub(super) struct LinkedInput {
    pub(super) object: ObjectHash,
    key: Key,
    record: SharedRecord,
}

impl LinkedInput {
    /// Links an object (whose stat was just taken) into a folder. `None` if the file system won't
    /// link it: then it has to be copied.
    pub(super) fn lend(
        store: &Store,
        object: ObjectHash,
        stat: &Stat,
        (dir, name): (BorrowedFd<'_>, &[u8]),
    ) -> Result<Option<LinkedInput>> {
        let key = (stat.st_dev, stat.st_ino);
        let record = {
            let mut lent = lock(&LENT);
            let (record, count) = lent.entry(key).or_default();
            *count += 1;
            Arc::clone(record)
        };
        let lent = LinkedInput { object, key, record };
        let mut record = lock(&lent.record);
        if record.expected.is_some() {
            lent.look(store, &mut record)?;
        } else {
            record.first = store.stat(&object)?;
        }
        match store.link(&object, dir, name) {
            Ok(()) => {}
            // Too many links, none allowed here, another file system after all.
            Err(Errno::MLINK | Errno::PERM | Errno::XDEV | Errno::OPNOTSUPP) => return Ok(None),
            Err(err) => return Err(err).or_io("link object", store.path(&object)),
        }
        record.expected = lent.stamp(store)?;
        drop(record);
        Ok(Some(lent))
    }

    /// Removes our link, if the script has left it where it was, and tells whether the object is
    /// still what its name says.
    pub(super) fn reclaim(&self, store: &Store, dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
        let mut record = lock(&self.record);
        self.look(store, &mut record)?;
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            // Renamed or removed, or the folder was; what is left goes when `in/` is cleared.
            Ok(())
            | Err(Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::PERM | Errno::NAMETOOLONG) =>
                {}
            Err(err) => return Err(err).or_io("remove a link to object", store.path(&self.object)),
        }
        record.expected = self.stamp(store)?;
        Ok(!record.is_damaged)
    }

    /// After all that the step left was removed: if this was the object's last loan and a name of it is
    /// still somewhere, the object parts from it.
    pub(super) fn end(self, store: &Store) -> Result<()> {
        let record = lock(&self.record);
        let is_last = lock(&LENT).get(&self.key).is_some_and(|(_, count)| *count == 1);
        if !is_last || record.is_damaged {
            return Ok(());
        }
        if let (Some(first), Some(now)) = (&record.first, store.stat(&self.object)?)
            && now.st_ino == first.st_ino
            && now.st_nlink > first.st_nlink
        {
            store.detach(&self.object)?;
        }
        Ok(())
    }

    /// Hashes the object again if it is not as we left it. Others who lent it wait meanwhile.
    fn look(&self, store: &Store, record: &mut Record) -> Result<()> {
        let now = self.stamp(store)?;
        if record.is_damaged || now == record.expected {
            return Ok(());
        }
        record.is_damaged = store.check(&self.object, None, true)?.is_err();
        if !record.is_damaged {
            // Only its mode may have been changed; that is soon mended.
            store.make_read_only(&self.object).or_io("make read-only", store.path(&self.object))?;
        }
        Ok(())
    }

    fn stamp(&self, store: &Store) -> Result<Option<Stamp>> {
        Ok(store.stat(&self.object)?.as_ref().map(Stamp::of))
    }
}

impl Drop for LinkedInput {
    fn drop(&mut self) {
        let mut lent = lock(&LENT);
        if let Some((_, count)) = lent.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                lent.remove(&self.key);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
