//! A complete file on its way to an object's name, and the rename that takes it there.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::shard::{Hold, State};
use super::{FOLDER, Name, Placed, SHARD, Store};
use crate::error::{Error, OrIo, Result};
use crate::object::ObjectHash;

/// Every object has this mode: a store is not edited.
pub(super) const MODE: u32 = 0o444;

/// A complete file that wants to become an object.
pub(super) struct Candidate<'a> {
    pub(super) dir: BorrowedFd<'a>,
    pub(super) name: &'a [u8],
    pub(super) size: u64,
    /// The inode that was hashed, if somebody might have put another one under the name since.
    pub(super) inode: Option<u64>,
}

impl Candidate<'_> {
    pub(super) fn remove(&self) -> Result<(), Errno> {
        match rustix::fs::unlinkat(self.dir, self.name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            done => done,
        }
    }
}

impl Store {
    /// Renames a candidate to its object's name, under the shard's mutex, as its caller proves. False if
    /// something lies there and `may_replace` is not set.
    pub(super) fn rename(
        &self,
        new: &Candidate<'_>,
        hash: &ObjectHash,
        may_replace: bool,
        state: &mut State,
    ) -> Result<bool, Errno> {
        let name = Self::name(hash);
        match self.rename_once(new, &name, may_replace) {
            Err(Errno::NOENT) => {
                // The first object of its folder. If not, the candidate itself is missing, and the second rename
                // says so.
                self.make_folders(&name, state)?;
                self.rename_once(new, &name, may_replace)
            }
            Err(Errno::NOTDIR) => {
                // Somebody put a file in the place of one of the folders.
                for folder in [SHARD, FOLDER] {
                    if self.is_in_the_way(&name[..folder])? {
                        self.move_away(&name[..folder])?;
                    }
                }
                self.make_folders(&name, state)?;
                self.rename_once(new, &name, may_replace)
            }
            Err(Errno::ISDIR) => {
                // Somebody made a folder of that name. It is no object; its content is kept for its
                // owner to find until the store is next opened.
                self.move_away(&name)?;
                self.rename_once(new, &name, may_replace)
            }
            done => done,
        }
    }

    /// Makes the folders of an object's name, as far as they are missing. Under the shard's mutex, so that whoever
    /// takes the shard next can't find a folder made whose name is wrongly believed to be on the disk.
    fn make_folders(&self, name: &Name, state: &mut State) -> Result<(), Errno> {
        let made = match self.make_folder(&name[..FOLDER]) {
            Err(Errno::NOENT) => {
                if self.make_folder(&name[..SHARD])? {
                    self.inner.shards_are_not_durable();
                }
                self.make_folder(&name[..FOLDER])
            }
            made => made,
        };
        if made? {
            state.folders_are_not_durable();
        }
        Ok(())
    }

    /// True if the folder was not there before.
    fn make_folder(&self, path: &[u8]) -> Result<bool, Errno> {
        match rustix::fs::mkdirat(&self.inner.objects, path, Mode::from_raw_mode(0o777)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(err) => Err(err),
        }
    }

    /// Whether something that is no folder lies in the place of one.
    fn is_in_the_way(&self, path: &[u8]) -> Result<bool, Errno> {
        match rustix::fs::statat(&self.inner.objects, path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) != FileType::Directory),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(err) => Err(err),
        }
    }

    fn move_away(&self, name: &[u8]) -> Result<(), Errno> {
        let (Some(tmp), number) = (&self.inner.tmp, self.next_name()) else {
            return Err(Errno::ISDIR);
        };
        rustix::fs::renameat(&self.inner.objects, name, tmp, format!("stray-{number}"))
    }

    fn rename_once(
        &self,
        new: &Candidate<'_>,
        name: &[u8],
        may_replace: bool,
    ) -> Result<bool, Errno> {
        let objects = &self.inner.objects;
        if !may_replace && !self.inner.must_look_first.load(Ordering::Relaxed) {
            let flags = RenameFlags::NOREPLACE;
            match rustix::fs::renameat_with(new.dir, new.name, objects, name, flags) {
                Ok(()) => return Ok(true),
                Err(Errno::EXIST) => return Ok(false),
                Err(Errno::INVAL | Errno::NOSYS) => {
                    self.inner.must_look_first.store(true, Ordering::Relaxed);
                }
                Err(err) => return Err(err),
            }
        }
        if !may_replace {
            // As good as NOREPLACE: we hold the shard's mutex, and no other process places objects.
            match rustix::fs::statat(objects, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => return Ok(false),
                Err(Errno::NOENT) => {}
                Err(err) => return Err(err),
            }
        }
        rustix::fs::renameat(new.dir, new.name, objects, name).map(|()| true)
    }

    /// Whether the file under the object's name is the one that was hashed. If not, it is removed.
    pub(super) fn has_arrived(
        &self,
        new: &Candidate<'_>,
        hash: &ObjectHash,
    ) -> Result<bool, Errno> {
        let Some(inode) = new.inode else { return Ok(true) };
        let name = Self::name(hash);
        let stat = rustix::fs::statat(&self.inner.objects, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if is_file && stat.st_ino == inode {
            return Ok(true);
        }
        rustix::fs::unlinkat(&self.inner.objects, &name[..], AtFlags::empty())?;
        Ok(false)
    }

    pub(super) fn next_name(&self) -> u64 {
        self.inner.next_name.fetch_add(1, Ordering::Relaxed)
    }
}

/// A copy being written, in `objects/.tmp/`. Removed if it doesn't become an object.
pub(super) struct Temp<'a> {
    store: &'a Store,
    dir: BorrowedFd<'a>,
    name: String,
    pub(super) file: File,
    /// It has become an object, or was removed for being a second copy of one.
    is_gone: bool,
}

impl<'a> Temp<'a> {
    pub(super) fn create(store: &'a Store) -> Result<Temp<'a>> {
        let making = "make a file in";
        let path = store.root.join(super::TMP);
        let missing = || io::Error::from(Errno::ROFS);
        let dir = store.inner.tmp.as_ref().ok_or_else(missing).or_io(making, &path)?.as_fd();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        loop {
            let name = format!("{}-{}", std::process::id(), store.next_name());
            match rustix::fs::openat(dir, &name, flags, Mode::from_raw_mode(MODE)) {
                Ok(fd) => {
                    return Ok(Temp { store, dir, name, file: File::from(fd), is_gone: false });
                }
                // Left by an earlier process of our number, or by another store in this one.
                Err(Errno::EXIST) => {}
                Err(err) => return Err(err).or_io(making, path),
            }
        }
    }

    pub(super) fn place(mut self, hold: Hold, hash: ObjectHash, size: u64) -> Result<Placed> {
        // The mode it was made with has lost the bits of the umask.
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(MODE))
            .or_io("make read-only", self.store.path(&hash))?;
        let new = Candidate { dir: self.dir, name: self.name.as_bytes(), size, inode: None };
        let placed = self
            .store
            .place_candidate(hold, hash, &new)?
            .ok_or_else(|| Error::Internal(format!("object {hash} was swapped")))?;
        self.is_gone = true;
        Ok(placed)
    }

    /// Takes the place of the object that it is a copy of.
    pub(super) fn become_again(mut self, hash: &ObjectHash) -> Result<()> {
        let path = || self.store.path(hash);
        // Read back, because the object may have been written to while it was copied.
        let mut copy = rustix::fs::openat(
            self.dir,
            &self.name,
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(File::from)
        .or_io("copy object", path())?;
        if self.store.hash_file(hash, &mut copy)? != *hash {
            return Err(self.store.damaged(hash, "its bytes have changed"));
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(MODE))
            .or_io("make read-only", path())?;
        self.file.sync_all().or_io("sync a copy of object", path())?;
        let objects = &self.store.inner.objects;
        rustix::fs::renameat(self.dir, &self.name, objects, &Store::name(hash)[..])
            .or_io("place object", path())?;
        self.is_gone = true;
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if self.is_gone {
            return;
        }
        // If it can't be removed, the next opening tries.
        let _ = rustix::fs::unlinkat(self.dir, &self.name, AtFlags::empty());
    }
}
