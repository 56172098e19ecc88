//! Objects under their names, in file-locked shards: `objects/AB/CD/EFGH…`. Unaware of steps, tasks
//! and the database: whether an object is *committed* is something it is told.
//!
//! (Essay to write: order of writes, why a name proves nothing, what a crash leaves, the in-flight map.)

use std::fs::File;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::object::ObjectHash;

/// The object store of one database directory.
pub struct Store {
    root: PathBuf,
}

/// An object that lies complete under its name but whose row is not committed yet. Holds its shard's
/// lock shared (so that gc can't take it away) and its place in the map of objects in flight.
/// Dropping it gives both back: keep it until the row is committed.
#[derive(Debug)]
pub struct Placed {
    pub hash: ObjectHash,
    /// Bytes.
    pub size: u64,
}

/// Whether the database has a committed row for an object: its size in bytes if so.
pub type IsCommitted<'a> = &'a dyn Fn(&ObjectHash) -> Result<Option<u64>>;

impl Store {
    /// Opens (and, if `create`, makes) `db_dir/objects`.
    pub fn open(_db_dir: &Path, _create: bool) -> Result<Store> {
        unimplemented!()
    }

    /// Absolute path of an object.
    pub fn path(&self, _hash: &ObjectHash) -> PathBuf {
        unimplemented!()
    }

    /// The file `name` in directory `dir` (same file system; complete, already hashed, ours alone)
    /// becomes the object: chmod 0444, renamed into the shard; or is removed if the object is known.
    pub fn place(
        &self,
        _dir: BorrowedFd<'_>,
        _name: &[u8],
        _hash: ObjectHash,
        _size: u64,
        _is_committed: IsCommitted<'_>,
    ) -> Result<Placed> {
        unimplemented!()
    }

    /// Bytes in memory become an object.
    pub fn put(&self, _bytes: &[u8], _is_committed: IsCommitted<'_>) -> Result<Placed> {
        unimplemented!()
    }

    /// Copies all that `from` still gives into the store, streaming, in constant memory.
    pub fn put_file(&self, _from: &mut File, _is_committed: IsCommitted<'_>) -> Result<Placed> {
        unimplemented!()
    }

    /// The barrier before COMMIT: afterwards the bytes and the names of `placed` survive a power cut.
    /// Nothing to do for objects that were committed before.
    pub fn sync(&self, _placed: &[&Placed]) -> Result<()> {
        unimplemented!()
    }

    /// Opens an object for reading: never follows a link, must be a regular file.
    pub fn open_object(&self, _hash: &ObjectHash) -> Result<File> {
        unimplemented!()
    }
}
