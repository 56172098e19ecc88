//! How much of the disk has to stay free, and what else the disk below the database has to be.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, OrIo, Result};
use crate::sys::disk;
use crate::text::shown;

/// With less than this many bytes free, an I/O error of SQLite is put down to the full disk.
const NOTHING: u64 = 1 << 20;

/// Refuses a folder on a network mount.
///
/// # Errors
/// [`Error::Usage`] if it is one; [`Error::Io`] if the file system can't be asked.
pub(super) fn refuse_network(db_dir: &Path) -> Result<()> {
    match disk::network_kind(db_dir).or_io("look at the file system of", db_dir)? {
        Some(name) => Err(Error::Usage(format!(
            "`{}` is on a network mount ({name}), where locks may not hold and a crash may corrupt the \
             database; put --db on a local disk, or add --allow-network-fs",
            shown(db_dir)
        ))),
        None => Ok(()),
    }
}

/// The disk is asked no more often than this: many steps last only a millisecond.
const INTERVAL: Duration = Duration::from_millis(5);

/// Whether there is room for another step. Asked when a step starts, not when it is queued: the steps that ran in
/// between may have filled the disk.
pub(super) struct FreeSpace {
    db_dir: PathBuf,
    /// Bytes that have to stay free (`--min-free`).
    bytes: u64,
    asked: Mutex<Option<Instant>>,
}

impl FreeSpace {
    pub(super) fn new(db_dir: &Path, bytes: u64) -> FreeSpace {
        FreeSpace { db_dir: db_dir.to_owned(), bytes, asked: Mutex::default() }
    }

    /// Asks the disk, unless it was asked within the last few milliseconds.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if too little is free.
    pub(super) fn check(&self) -> Result<()> {
        {
            let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
            if asked.is_some_and(|asked| asked.elapsed() < INTERVAL) {
                return Ok(());
            }
            *asked = Some(Instant::now());
        }
        self.check_now()
    }

    /// Asks the disk.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if too little is free.
    pub(super) fn check_now(&self) -> Result<()> {
        let free = disk::free(&self.db_dir).or_io("look at the file system of", &self.db_dir)?;
        if free < self.bytes {
            return Err(Error::NoSpace { path: self.db_dir.clone(), free, floor: self.bytes });
        }
        Ok(())
    }
}

/// Adds the database's path to an error of SQLite. On a full disk SQLite reports some failures (of its shared memory,
/// say) as plain I/O errors: those become [`Error::NoSpace`].
pub(crate) fn explain(error: Error, db_dir: &Path) -> Error {
    let error = error.in_db(&crate::db::Db::file(db_dir));
    if error.is_database_io()
        && let Ok(free) = disk::free(db_dir)
        && free < NOTHING
    {
        return Error::NoSpace { path: db_dir.to_owned(), free, floor: NOTHING };
    }
    error
}
