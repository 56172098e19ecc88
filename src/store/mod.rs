//! Objects, named by their hash, in file-locked shards: `objects/AB/CD/EFGH…`. Unaware of steps, tasks and the
//! database: it asks a [`Proof`] whether an object is *committed*.
//!
//! # A name proves nothing, a row proves an object
//!
//! The order is: object complete under its name → row committed → progress says done. A crash between the first two
//! leaves a stray. After a kill it is complete but unknown. After a power cut it may hold anything, even zero bytes
//! under its final name, because a rename can reach the journal before the data does. So the question here is never
//! "does the file exist?" but "is there a committed row, and is the file what the row says?". If so, a new copy of the
//! same bytes is dropped. If not, the file is a stray, and the new copy replaces it.
//!
//! # Objects in flight
//!
//! Two steps of one run often make the same bytes at the same time. When the second one arrives, the first one's row
//! may not be committed yet, so the rows don't help. But this process has itself renamed a complete file into place,
//! and remembers that until every [`Placed`] of the object is gone. Such an object is shared: the second copy is
//! dropped, and its [`Placed`] stands for the same file, which is synced by whoever commits first.
//!
//! A committed object must never be renamed over: its bytes are on the disk, those of the new copy may not be. The
//! answer "not committed" can become stale before the rename, and it can't be obtained under the shard's mutex, because
//! it waits for the database's. Hence `State::settled`, a number that changes whenever an object stops being in
//! flight. If it has changed, the question is asked again.
//!
//! # Locks
//!
//! `locks/AB`, or a byte of `locks/all` instead, is held shared from before an object of shard AB is looked for until
//! its [`Placed`] is dropped; gc and repair hold both exclusively. Otherwise gc could read "nobody refers to X", a
//! worker could dedupe against X, gc unlink X, and the worker commit a row for a missing file. Within the process a
//! mutex per shard guards the map and makes looking and renaming one action.
//!
//! # Two levels of folders
//!
//! In a young store nearly every object needs a new folder `AB/CD`: 19 to 100 µs for the mkdir, 4 KiB of disk, and
//! one more name to sync. So no folder is made in advance, and none is looked up. A folder that this process has seen
//! is taken to be there. For any other one call has to fail if the guess is wrong, a mkdir or a rename (1 µs), so what was
//! the case the last time is tried first: in a young store the mkdir, in an old one the rename. In a young store an
//! object is not looked for before it is written either. If a rename says that
//! a folder is missing, it is made, seen before or not. A new name has to be made durable along with the object: the
//! barrier syncs the object's folder `AB/CD`, the
//! shard's folder `AB` if a folder was made in it since it was last synced, and `objects/` likewise. Each of these is
//! synced once by every process that places something in it, because an earlier one may have been killed between a mkdir
//! and its barrier. `format` converts stores of older builds.
//!
//! # A private store
//!
//! A worker of a run on other machines keeps its objects in a folder that it alone knows of, and that goes with it. Its
//! `Proof` is a list in memory. Locks and folders would be a third of what a small step costs there, and as much again when
//! they are removed; so it has none, and all objects lie in one folder.
//!
//! # What is where
//!
//! `place` writes objects (large ones through `sparse`), `barrier` makes them durable before a COMMIT, `read` reads and
//! checks them, `known` saves questions to the database, `format` recognises and converts the folder. `objects/.tmp/`
//! holds copies being written; a name there begins with the id of the process that writes it.

mod barrier;
mod format;
mod known;
mod place;
mod read;
mod shard;
mod sparse;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, OrIo, Result};
use crate::object::ObjectHash;
use crate::proof::Proof;
use crate::sys::{ByteLock, proc};
use crate::text::as_path;
use barrier::Barrier;
use known::Known;
use shard::{Hold, LockFile, Locks, Shard};

pub use format::prepare;
pub(crate) use read::Loaded;
pub(crate) use sparse::copy_sparse;

/// Folder of the objects, below the database folder.
const OBJECTS: &str = "objects";

/// Folder of copies being written, below `objects/`.
const TMP: &str = ".tmp";

/// Every object has this mode: a store is not edited.
const MODE: u32 = 0o444;

/// Bytes of an object's name below `objects/`.
const NAME: usize = 66;

type Name = [u8; NAME];

/// Bytes of `AB` in it, the shard's folder.
const SHARD: usize = 2;

/// Bytes of `AB/CD` in it, the object's folder.
const FOLDER: usize = 5;

/// The object store of one database directory.
pub struct Store {
    /// `DB/objects`, absolute.
    root: PathBuf,
    inner: Arc<Inner>,
}

/// What guards keep alive.
struct Inner {
    objects: OwnedFd,
    /// `None` where the store was opened for reading and nothing was ever written to it.
    tmp: Option<OwnedFd>,
    /// `None` where the store was opened for reading.
    proof: Option<Arc<dyn Proof>>,
    shards: Vec<Shard>,
    /// `None` in a private store: nobody else knows of it, so that nobody has to be kept out.
    locks: Option<Locks>,
    known: Known,
    /// `objects/` was synced, and no shard's folder was made in it since.
    has_durable_shards: AtomicBool,
    /// The last attempt to make an object's folder made one, so the next folder that was never seen is probably missing
    /// too.
    folders_are_new: AtomicBool,
    /// The file system has no RENAME_NOREPLACE.
    must_look_first: AtomicBool,
    /// Numbers the names in `.tmp/`.
    next_name: AtomicU64,
    /// Serialises barriers, and knows what earlier ones have cost.
    barrier: Mutex<Barrier>,
}

impl Inner {
    fn shard(&self, hash: &ObjectHash) -> &Shard {
        &self.shards[usize::from(hash.shard())]
    }

    /// A shard's folder was made, or could not be synced.
    fn shards_are_not_durable(&self) {
        self.has_durable_shards.store(false, Ordering::SeqCst);
    }
}

/// An object that is complete under its name but whose row is not committed yet. Holds the shard's lock shared, so
/// that gc can't remove it, and its entry in the map of objects in flight. Keep it until the row is committed; dropping
/// it releases both.
#[derive(Debug)]
pub struct Placed {
    /// The object's name.
    pub hash: ObjectHash,
    /// Bytes.
    pub size: u64,
    hold: Hold,
}

/// Keeps everybody else from placing objects in a shard, until dropped.
///
/// Don't take one while the same process keeps a [`Placed`] of that shard: it would wait for itself.
pub struct ShardExclusive {
    shard: u8,
    /// The shard's own.
    lock: LockFile,
    /// `locks/all`
    all: LockFile,
}

impl Drop for ShardExclusive {
    fn drop(&mut self) {
        // Should it fail: closing the files, which comes next, unlocks as well.
        let _ = self.all.lock_byte(self.shard, ByteLock::None);
        let _ = self.lock.unlock();
    }
}

impl Store {
    /// Opens `db_dir/objects` to place objects in it; `proof` knows which ones are committed. Makes the folder if it is
    /// missing, and removes what dead processes left in `objects/.tmp`. The caller has called [`prepare`] for
    /// this folder.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder can't be made, opened or cleaned.
    pub fn open(db_dir: &Path, proof: Arc<dyn Proof>) -> Result<Store> {
        make_folders(db_dir)?;
        let store = Store::open_with(db_dir, Some(proof), open_dir)?;
        store.remove_stale()?;
        Ok(store)
    }

    /// Makes a store in a new folder that this process alone uses, and that goes with it: without locks, and without
    /// folders within `objects/`, of which there would be two for each object.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn open_private(folder: &Path, proof: Arc<dyn Proof>) -> Result<Store> {
        make_folders(folder)?;
        let mut store = Store::open_with(folder, Some(proof), open_dir)?;
        if let Some(inner) = Arc::get_mut(&mut store.inner) {
            inner.locks = None;
        }
        Ok(store)
    }

    /// Opens `db_dir/objects` only to read from it. Changes nothing, and needs no lock.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder is missing or can't be opened; [`Error::Foreign`] if its layout is not
    /// of this build.
    pub fn open_read_only(db_dir: &Path) -> Result<Store> {
        format::check(db_dir)?;
        Store::open_with(db_dir, None, open_dir)
    }

    /// [`Store::open_read_only`] for those who look for damage: if the whole folder is missing, every object is.
    ///
    /// # Errors
    /// As for [`Store::open_read_only`], but for the missing folder.
    pub fn open_to_verify(db_dir: &Path) -> Result<Store> {
        format::check(db_dir)?;
        Store::open_with(db_dir, None, |path| match open_dir(path) {
            // Looking for a file below something that is no folder fails as if the file were missing.
            Err(Errno::NOENT) => {
                rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            }
            opened => opened,
        })
    }

    fn open_with(
        db_dir: &Path,
        proof: Option<Arc<dyn Proof>>,
        open_objects: impl Fn(&Path) -> Result<OwnedFd, Errno>,
    ) -> Result<Store> {
        let root = std::path::absolute(db_dir).or_io("find the folder", db_dir)?.join(OBJECTS);
        let tmp = root.join(TMP);
        let objects = open_objects(&root).or_io("open the object store", &root)?;
        let tmp = match open_dir(&tmp) {
            Ok(fd) => Some(fd),
            Err(Errno::NOENT) => None,
            Err(err) => return Err(err).or_io("open the object store", &tmp),
        };
        let inner = Arc::new(Inner {
            objects,
            tmp,
            proof,
            shards: (0..=u8::MAX).map(|_| Shard::default()).collect(),
            locks: Some(Locks::default()),
            known: Known::new(),
            has_durable_shards: AtomicBool::new(false),
            folders_are_new: AtomicBool::new(false),
            must_look_first: AtomicBool::new(false),
            next_name: AtomicU64::new(0),
            barrier: Mutex::new(Barrier::new()),
        });
        Ok(Store { root, inner })
    }

    /// `DB/objects`, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The database folder, which holds the store and everything that belongs to it. Absolute.
    pub fn db_dir(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// Absolute path of an object.
    pub fn path(&self, hash: &ObjectHash) -> PathBuf {
        self.root.join(as_path(&self.name(hash)))
    }

    /// The file `name` in directory `dir` (same file system; complete, already hashed, ours alone)
    /// becomes the object: chmod 0444, renamed into the shard; or is removed if the object is known.
    ///
    /// # Errors
    /// [`Error::Io`] if a system call fails, and those of the store's [`Proof`].
    pub fn place(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        hash: ObjectHash,
        size: u64,
    ) -> Result<Placed> {
        place::place(self, dir, name, hash, size)
    }

    /// [`Store::place`] for a file that is still open and that a stranger might swap. `None` if the
    /// name no longer leads to that file; nothing is placed then.
    pub(crate) fn place_open(
        &self,
        file: (BorrowedFd<'_>, u64),
        dir: BorrowedFd<'_>,
        name: &[u8],
        named: (ObjectHash, u64),
    ) -> Result<Option<Placed>> {
        place::place_open(self, file, dir, name, named)
    }

    /// Stores bytes from memory as an object.
    ///
    /// # Errors
    /// As for [`Store::place`].
    pub fn put(&self, bytes: &[u8]) -> Result<Placed> {
        place::put(self, bytes)
    }

    /// The guard of an object that need not be written, because it is in flight, or committed and of this size; `None`
    /// if it has to be.
    ///
    /// # Errors
    /// As for [`Store::place`].
    pub(crate) fn hold(&self, hash: &ObjectHash, size: u64) -> Result<Option<Placed>> {
        place::hold(self, hash, size)
    }

    /// Copies the rest of `from` into the store, in constant memory. The file may change meanwhile: what was read is
    /// what is kept.
    ///
    /// # Errors
    /// As for [`Store::place`]; an error of reading `from` is told without its path.
    pub fn put_file(&self, from: &mut File) -> Result<Placed> {
        place::put_file(self, from)
    }

    /// [`Store::put_file`] for any source.
    ///
    /// # Errors
    /// As for [`Store::put_file`].
    pub fn put_from(&self, from: &mut dyn Read) -> Result<Placed> {
        place::put_from(self, from)
    }

    /// Removes an object that will not be committed after all, unless somebody else has it too.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be removed, and those of the store's [`Proof`].
    pub fn discard(&self, placed: Placed) -> Result<()> {
        place::discard(self, placed)
    }

    /// Removes an object of a private store, unless somebody has a guard of it, or of another one of its shard. False if
    /// so.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be removed.
    pub(crate) fn remove_unless_held(&self, hash: &ObjectHash) -> Result<bool> {
        place::remove_unless_held(self, hash)
    }

    /// Gives an object a new inode after somebody has kept a hard link to it: what is written through that link must
    /// not reach the store. The copy is durable before the rename, because the object's row is already committed.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is not what its name says; [`Error::Io`] if it can't be copied.
    pub(crate) fn detach(&self, hash: &ObjectHash) -> Result<()> {
        place::detach(self, hash)
    }

    /// Opens an object for reading: never follows a link, must be a regular file.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing or not a regular file; [`Error::Io`] otherwise.
    pub fn open_object(&self, hash: &ObjectHash) -> Result<File> {
        read::open_object(self, hash)
    }

    /// A whole object, checked against its name; `None` if it has more than `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing, no regular file, or not what its name says.
    pub fn read_small(&self, hash: &ObjectHash, limit: u64) -> Result<Option<Vec<u8>>> {
        read::read_small(self, hash, limit)
    }

    /// The error for an object of which a reader has found that its bytes are not those of its name.
    pub(crate) fn damaged(&self, hash: &ObjectHash) -> Error {
        read::damaged(self, hash, "its bytes have changed")
    }

    /// Looks whether an object exists, is a regular file and has the size of its row; with `data`, also
    /// whether its bytes are those of its name. Says what is wrong with it, if anything is.
    ///
    /// # Errors
    /// [`Error::Io`] if that could not be found out.
    pub fn check(
        &self,
        hash: &ObjectHash,
        size: Option<u64>,
        data: bool,
    ) -> Result<Result<(), String>> {
        read::check(self, hash, size, data)
    }

    /// Reads an object of at most `limit` bytes into `buffer` and checks it against its name.
    pub(crate) fn load(
        &self,
        hash: &ObjectHash,
        limit: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Loaded> {
        read::load(self, hash, limit, buffer)
    }

    /// The stat of what lies under an object's name, if anything does. Follows nothing.
    pub(crate) fn stat(&self, hash: &ObjectHash) -> Result<Option<Stat>> {
        read::stat(self, hash)
    }

    /// Gives an object a second name, read-only as it is.
    pub(crate) fn link(
        &self,
        hash: &ObjectHash,
        dir: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), Errno> {
        read::link(self, hash, dir, name)
    }

    /// The mode of an object that could be written to by anybody, or not be read by its owner.
    ///
    /// # Errors
    /// [`Error::Io`] if that could not be found out.
    pub fn wrong_mode(&self, hash: &ObjectHash) -> Result<Option<u32>> {
        read::wrong_mode(self, hash)
    }

    /// Undoes a chmod of an object, if there was one.
    pub(crate) fn make_read_only(&self, hash: &ObjectHash) -> Result<(), Errno> {
        read::make_read_only(self, hash)
    }

    /// The barrier before COMMIT: afterwards the bytes and the names of `placed` survive a power cut.
    /// Nothing to do for objects that were committed before.
    ///
    /// # Errors
    /// The first error of a sync, and with it the run must end: the kernel reports a failed write
    /// once, and a second sync may succeed without the data.
    pub fn sync(&self, placed: &[&Placed]) -> Result<()> {
        barrier::sync(self, placed)
    }

    /// Makes everything durable that was ever placed, by whichever run. False if the kernel is so old that
    /// it would not say if that failed.
    ///
    /// # Errors
    /// As for [`Store::sync`].
    pub fn sync_all(&self) -> Result<bool> {
        barrier::sync_all(self)
    }

    /// To be called after a commit, before the [`Placed`]s are dropped: it saves questions to the proof.
    pub fn note_committed(&self, hash: &ObjectHash) {
        self.inner.known.note(hash);
    }

    /// To be called when an object is no longer committed, or no longer intact.
    pub fn forget(&self, hash: &ObjectHash) {
        self.inner.known.forget(hash);
    }

    /// Waits until nobody places objects in a shard (the first byte of their hashes), and keeps everybody out.
    ///
    /// # Errors
    /// [`Error::Io`] if the lock file can't be made or locked.
    pub fn lock_shard_exclusive(&self, shard: u8) -> Result<ShardExclusive> {
        // In this order: see `shard`.
        let path = |name: &str| self.root.join(format!("../{}/{name}", shard::LOCKS));
        // Not the open files of those who share: theirs would turn into ours.
        let open =
            |name: &str| LockFile::open(self.inner.objects.as_fd(), name).or_io("open", path(name));
        let name = LockFile::name(shard);
        let (lock, all) = (open(&name)?, open(LockFile::ALL)?);
        lock.lock_exclusive().or_io("lock", path(&name))?;
        all.lock_byte(shard, ByteLock::Exclusive).or_io("lock", path(LockFile::ALL))?;
        Ok(ShardExclusive { shard, lock, all })
    }

    /// The size in bytes of an object's committed row, if it has one.
    fn committed_size(&self, hash: &ObjectHash) -> Result<Option<u64>> {
        match &self.inner.proof {
            Some(proof) => proof.committed_size(hash),
            None => Err(Error::Internal(format!(
                "object {hash} is placed in a store that was opened for reading"
            ))),
        }
    }

    fn is_private(&self) -> bool {
        self.inner.locks.is_none()
    }

    /// `AB/CD/EFGH…`, below `objects/`; `AB-CD-EFGH…` in a private store.
    fn name(&self, hash: &ObjectHash) -> Name {
        let digits = hash.digits();
        let mut name = [if self.is_private() { b'-' } else { b'/' }; NAME];
        name[..2].copy_from_slice(&digits[..2]);
        name[3..5].copy_from_slice(&digits[2..4]);
        name[6..].copy_from_slice(&digits[4..]);
        name
    }

    /// `AB/CD`, below `objects/`.
    fn folder(&self, hash: &ObjectHash) -> [u8; FOLDER] {
        let mut folder = [0; FOLDER];
        folder.copy_from_slice(&self.name(hash)[..FOLDER]);
        folder
    }

    /// Removes copies whose writers are dead, and what was moved out of an object's place. Anything that is not named
    /// like these is somebody else's.
    fn remove_stale(&self) -> Result<()> {
        let tmp = self.root.join(TMP);
        for entry in std::fs::read_dir(&tmp).or_io("list", &tmp)? {
            let entry = entry.or_io("list", &tmp)?;
            let name = entry.file_name();
            let Some((writer, _)) = name.to_str().and_then(|name| name.split_once('-')) else {
                continue;
            };
            let is_number = !writer.is_empty() && writer.bytes().all(|byte| byte.is_ascii_digit());
            let is_alive = writer.parse().is_ok_and(proc::exists);
            let is_stale = writer == "stray" || is_number && !is_alive;
            if !is_stale {
                continue;
            }
            let path = entry.path();
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed =
                if is_dir { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.or_io("remove", &path)?;
        }
        Ok(())
    }
}

/// Makes the folders of an object store in a database folder.
fn make_folders(db_dir: &Path) -> Result<()> {
    let tmp = db_dir.join(OBJECTS).join(TMP);
    crate::folder::make(&tmp).or_io("make the object store", &tmp)
}

fn open_dir(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        CWD,
        path,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
