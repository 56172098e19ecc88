//! Writes objects: complete files, and the rename that gives them their name. The top of `store` says why it happens in
//! this order.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::shard::{Hold, State};
use super::sparse::{SparseWriter, copy_sparse};
use super::{FOLDER, MODE, Name, Placed, SHARD, Store, read};
use crate::error::{Error, OrIo, Result};
use crate::folder::FOLDER_MODE;
use crate::object::{ObjectHash, ObjectHasher};

/// Up to this many bytes are hashed in memory; anything longer is written while it is hashed.
const IN_MEMORY: usize = 1 << 20;

/// A complete file that is about to become an object.
struct Candidate<'a> {
    dir: BorrowedFd<'a>,
    name: &'a [u8],
    size: u64,
    /// The inode that was hashed, if another file may have taken its name since.
    inode: Option<u64>,
}

impl Candidate<'_> {
    fn remove(&self) -> Result<(), Errno> {
        match rustix::fs::unlinkat(self.dir, self.name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            done => done,
        }
    }
}

/// See [`Store::place`].
pub(super) fn place(
    store: &Store,
    dir: BorrowedFd<'_>,
    name: &[u8],
    hash: ObjectHash,
    size: u64,
) -> Result<Placed> {
    rustix::fs::chmodat(dir, name, Mode::from_raw_mode(MODE), AtFlags::empty())
        .or_io("make read-only", store.path(&hash))?;
    let candidate = Candidate { dir, name, size, inode: None };
    place_candidate(store, Hold::take(store, hash)?, hash, &candidate)?
        .ok_or_else(|| Error::Internal(format!("object {hash} was swapped while it was placed")))
}

/// See [`Store::place_open`].
pub(super) fn place_open(
    store: &Store,
    (file, inode): (BorrowedFd<'_>, u64),
    dir: BorrowedFd<'_>,
    name: &[u8],
    (hash, size): (ObjectHash, u64),
) -> Result<Option<Placed>> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(MODE))
        .or_io("make read-only", store.path(&hash))?;
    let candidate = Candidate { dir, name, size, inode: Some(inode) };
    place_candidate(store, Hold::take(store, hash)?, hash, &candidate)
}

/// See [`Store::put`].
pub(super) fn put(store: &Store, bytes: &[u8]) -> Result<Placed> {
    let hash = ObjectHash::of(bytes);
    let size = bytes.len() as u64;
    let mut hold = Hold::take(store, hash)?;
    if !seems_new(store, &hash) {
        hold = match find(store, hold, hash, size)? {
            Ok(placed) => return Ok(placed),
            Err(hold) => hold,
        };
    }
    let mut temp = Temp::create(store)?;
    temp.file.write_all(bytes).or_io("write object", store.path(&hash))?;
    temp.place(hold, hash, size)
}

/// See [`Store::hold`].
pub(super) fn hold(store: &Store, hash: &ObjectHash, size: u64) -> Result<Option<Placed>> {
    find(store, Hold::take(store, *hash)?, *hash, size).map(Result::ok)
}

/// See [`Store::put_file`].
pub(super) fn put_file(store: &Store, from: &mut File) -> Result<Placed> {
    put_from(store, from)
}

/// See [`Store::put_from`].
pub(super) fn put_from(store: &Store, from: &mut dyn Read) -> Result<Placed> {
    let copying = "copy into the store";
    let mut buffer = Vec::new();
    from.take(IN_MEMORY as u64 + 1).read_to_end(&mut buffer).or_io(copying, &store.root)?;
    if buffer.len() <= IN_MEMORY {
        return put(store, &buffer);
    }
    let temp = Temp::create(store)?;
    let mut writer = SparseWriter::new(&temp.file);
    let mut hasher = ObjectHasher::default();
    let mut size = 0;
    let mut filled = buffer.len();
    while filled > 0 {
        hasher.update(&buffer[..filled]);
        writer.write_all(&buffer[..filled]).or_io(copying, &store.root)?;
        size += filled as u64;
        filled = loop {
            match from.read(&mut buffer) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                read => break read.or_io(copying, &store.root)?,
            }
        };
    }
    writer.finish().or_io(copying, &store.root)?;
    let hash = hasher.finish();
    temp.place(Hold::take(store, hash)?, hash, size)
}

/// See [`Store::discard`].
pub(super) fn discard(store: &Store, placed: Placed) -> Result<()> {
    let hash = placed.hash;
    let shard = store.inner.shard(&hash);
    let before = shard.state().alone_after(&hash);
    // Asked without the mutex, since the answer may wait for another thread's commit.
    if before.is_none()
        || store.inner.known.contains(&hash)
        || store.committed_size(&hash)?.is_some()
    {
        return Ok(());
    }
    let state = shard.state();
    if state.alone_after(&hash) != before {
        return Ok(());
    }
    let name = store.name(&hash);
    match rustix::fs::unlinkat(&store.inner.objects, &name[..], AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        done => done.or_io("remove object", store.path(&hash)),
    }
}

/// See [`Store::remove_unless_held`].
pub(super) fn remove_unless_held(store: &Store, hash: &ObjectHash) -> Result<bool> {
    let state = store.inner.shard(hash).state();
    if state.is_held() {
        return Ok(false);
    }
    match rustix::fs::unlinkat(&store.inner.objects, &store.name(hash)[..], AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(err) => Err(err).or_io("remove object", store.path(hash)),
    }
}

/// See [`Store::detach`].
pub(super) fn detach(store: &Store, hash: &ObjectHash) -> Result<()> {
    let mut source = store.open_object(hash)?;
    let temp = Temp::create(store)?;
    let path = || store.path(hash);
    copy_sparse(&mut source, &temp.file).or_io("copy object", path())?;
    temp.replace_object(hash)
}

/// Looks for an object that need not be written because it is in flight, or committed and intact. Returns the guard
/// if there is none.
fn find(
    store: &Store,
    mut hold: Hold,
    hash: ObjectHash,
    size: u64,
) -> Result<Result<Placed, Hold>> {
    let mut state = store.inner.shard(&hash).state();
    let is_in_flight = state.is_in_flight(&hash);
    if is_in_flight {
        hold.mark_in_flight(&mut state);
    }
    drop(state);
    if is_in_flight || is_committed_and_good(store, &hash, size)? {
        store.inner.shard(&hash).state().note_folder(&hash);
        return Ok(Ok(Placed { hash, size, hold }));
    }
    Ok(Err(hold))
}

/// Whether an object is probably not there, so that looking for it first would be in vain: its folder has not been seen,
/// and the last folder that had not been seen was missing. If it is there after all, the rename finds it.
fn seems_new(store: &Store, hash: &ObjectHash) -> bool {
    !store.is_private()
        && store.inner.folders_are_new.load(Ordering::Relaxed)
        && !store.inner.shard(hash).state().has_seen_folder(hash)
        && !store.inner.known.contains(hash)
}

/// The heart of the store: joins, dedupes, or renames into place. `None` if the candidate's name
/// led to another file than the one that was hashed.
fn place_candidate(
    store: &Store,
    mut hold: Hold,
    hash: ObjectHash,
    new: &Candidate<'_>,
) -> Result<Option<Placed>> {
    let size = new.size;
    let shard = store.inner.shard(&hash);
    let at = || store.path(&hash);
    let mut is_known = store.inner.known.contains(&hash) && read::lies_good(store, &hash, size)?;
    // The value of `settled` when the existing file turned out to be a stray.
    let mut stray_at = None;
    while !is_known {
        let mut state = shard.state();
        if state.is_in_flight(&hash) {
            hold.mark_in_flight(&mut state);
            break;
        }
        let may_replace = stray_at == Some(state.settled);
        if rename(store, new, &hash, may_replace, &mut state).or_io("place object", at())? {
            if !has_arrived(store, new, &hash).or_io("place object", at())? {
                return Ok(None);
            }
            hold.mark_in_flight(&mut state);
            drop(state);
            return Ok(Some(Placed { hash, size, hold }));
        }
        stray_at = Some(state.settled);
        // Asked without the mutex, since the answer may wait for another thread's commit.
        drop(state);
        is_known = is_committed_and_good(store, &hash, size)?;
    }
    new.remove().or_io("remove the second copy of object", at())?;
    Ok(Some(Placed { hash, size, hold }))
}

/// True only if there is a committed row *and* a file of the size that the row says.
fn is_committed_and_good(store: &Store, hash: &ObjectHash, size: u64) -> Result<bool> {
    if !read::lies_good(store, hash, size)? {
        return Ok(false);
    }
    if store.inner.known.contains(hash) {
        return Ok(true);
    }
    let is_committed = store.committed_size(hash)? == Some(size);
    if is_committed {
        store.inner.known.note(hash);
    }
    Ok(is_committed)
}

/// Renames a candidate to its object's name. `state` proves that the caller holds the shard's mutex. False if the
/// name is taken and `may_replace` is not set.
fn rename(
    store: &Store,
    new: &Candidate<'_>,
    hash: &ObjectHash,
    may_replace: bool,
    state: &mut State,
) -> Result<bool, Errno> {
    let name = store.name(hash);
    if store.is_private() {
        return rename_once(store, new, &name, may_replace);
    }
    if !state.has_seen_folder(hash) && store.inner.folders_are_new.load(Ordering::Relaxed) {
        match make_folders(store, &name, state) {
            // The rename says so again.
            Err(Errno::NOTDIR) => {}
            made => made?,
        }
    }
    let renamed = match rename_once(store, new, &name, may_replace) {
        Err(Errno::NOENT) => {
            // The first object of its folder, or somebody has removed that. If not, the candidate itself is missing,
            // and the second rename says so.
            make_folders(store, &name, state)?;
            rename_once(store, new, &name, may_replace)
        }
        Err(Errno::NOTDIR) => {
            // Somebody put a file in the place of one of the folders.
            for folder in [SHARD, FOLDER] {
                if is_in_the_way(store, &name[..folder])? {
                    move_away(store, &name[..folder])?;
                }
            }
            make_folders(store, &name, state)?;
            rename_once(store, new, &name, may_replace)
        }
        Err(Errno::ISDIR) => {
            // Somebody made a folder of that name. It is no object; it is kept until the store is next opened, so
            // that its owner can find it.
            move_away(store, &name)?;
            rename_once(store, new, &name, may_replace)
        }
        done => done,
    };
    if renamed.is_ok() {
        state.note_folder(hash);
    }
    renamed
}

/// Makes the folders of an object's name that are missing. Under the shard's mutex, or another thread could find a
/// new folder before it is noted that its name is not on the disk yet.
fn make_folders(store: &Store, name: &Name, state: &mut State) -> Result<(), Errno> {
    let made = match make_folder(store, &name[..FOLDER]) {
        Err(Errno::NOENT) => {
            if make_folder(store, &name[..SHARD])? {
                store.inner.shards_are_not_durable();
            }
            make_folder(store, &name[..FOLDER])
        }
        made => made,
    };
    let is_new = made?;
    if is_new {
        state.folders_are_not_durable();
    }
    store.inner.folders_are_new.store(is_new, Ordering::Relaxed);
    Ok(())
}

/// True if the folder was not there before.
fn make_folder(store: &Store, path: &[u8]) -> Result<bool, Errno> {
    match rustix::fs::mkdirat(&store.inner.objects, path, Mode::from_raw_mode(FOLDER_MODE)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(err) => Err(err),
    }
}

/// Whether something other than a folder has the name of a folder.
fn is_in_the_way(store: &Store, path: &[u8]) -> Result<bool, Errno> {
    match rustix::fs::statat(&store.inner.objects, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) != FileType::Directory),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
        Err(err) => Err(err),
    }
}

fn move_away(store: &Store, name: &[u8]) -> Result<(), Errno> {
    let (Some(tmp), number) = (&store.inner.tmp, next_name(store)) else {
        return Err(Errno::ISDIR);
    };
    rustix::fs::renameat(&store.inner.objects, name, tmp, format!("stray-{number}"))
}

fn rename_once(
    store: &Store,
    new: &Candidate<'_>,
    name: &[u8],
    may_replace: bool,
) -> Result<bool, Errno> {
    let objects = &store.inner.objects;
    if !may_replace && !store.inner.must_look_first.load(Ordering::Relaxed) {
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(new.dir, new.name, objects, name, flags) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            Err(Errno::INVAL | Errno::NOSYS) => {
                store.inner.must_look_first.store(true, Ordering::Relaxed);
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
fn has_arrived(store: &Store, new: &Candidate<'_>, hash: &ObjectHash) -> Result<bool, Errno> {
    let Some(inode) = new.inode else { return Ok(true) };
    let name = store.name(hash);
    let stat = rustix::fs::statat(&store.inner.objects, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if is_file && stat.st_ino == inode {
        return Ok(true);
    }
    rustix::fs::unlinkat(&store.inner.objects, &name[..], AtFlags::empty())?;
    Ok(false)
}

fn next_name(store: &Store) -> u64 {
    store.inner.next_name.fetch_add(1, Ordering::Relaxed)
}

/// A copy being written, in `objects/.tmp/`. Removed if it doesn't become an object.
struct Temp<'a> {
    store: &'a Store,
    dir: BorrowedFd<'a>,
    name: String,
    file: File,
    /// It has become an object, or was removed for being a second copy of one.
    is_gone: bool,
}

impl<'a> Temp<'a> {
    fn create(store: &'a Store) -> Result<Temp<'a>> {
        let making = "make a file in";
        let path = store.root.join(super::TMP);
        let missing = || io::Error::from(Errno::ROFS);
        let dir = store.inner.tmp.as_ref().ok_or_else(missing).or_io(making, &path)?.as_fd();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        loop {
            let name = format!("{}-{}", std::process::id(), next_name(store));
            match rustix::fs::openat(dir, &name, flags, Mode::from_raw_mode(MODE)) {
                Ok(fd) => {
                    return Ok(Temp { store, dir, name, file: File::from(fd), is_gone: false });
                }
                // Left by an earlier process with our id, or made by another store in this process.
                Err(Errno::EXIST) => {}
                Err(err) => return Err(err).or_io(making, path),
            }
        }
    }

    fn place(mut self, hold: Hold, hash: ObjectHash, size: u64) -> Result<Placed> {
        // The umask took bits away when the file was created.
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(MODE))
            .or_io("make read-only", self.store.path(&hash))?;
        let new = Candidate { dir: self.dir, name: self.name.as_bytes(), size, inode: None };
        let placed = place_candidate(self.store, hold, hash, &new)?
            .ok_or_else(|| Error::Internal(format!("object {hash} was swapped")))?;
        self.is_gone = true;
        Ok(placed)
    }

    /// Takes the place of the object that it is a copy of.
    fn replace_object(mut self, hash: &ObjectHash) -> Result<()> {
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
        if read::hash_file(self.store, hash, &mut copy)? != *hash {
            return Err(read::damaged(self.store, hash, "its bytes have changed"));
        }
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(MODE))
            .or_io("make read-only", path())?;
        self.file.sync_all().or_io("sync a copy of object", path())?;
        let objects = &self.store.inner.objects;
        rustix::fs::renameat(self.dir, &self.name, objects, &self.store.name(hash)[..])
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
        // If it can't be removed, the next `Store::open` tries again.
        let _ = rustix::fs::unlinkat(self.dir, &self.name, AtFlags::empty());
    }
}
