//! How much of the disk has to stay free, and what else the disk below the database has to be.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;

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
/// say) as plain I/O errors: those become [`Error::NoSpace`]. And where it says only that it can't open a file, or not
/// for writing, the kernel is asked why.
pub(crate) fn explain(error: Error, db_dir: &Path) -> Error {
    let error = error.in_db(&crate::db::Db::file(db_dir));
    if error.is_database_io()
        && let Ok(free) = disk::free(db_dir)
        && free < NOTHING
    {
        return Error::NoSpace { path: db_dir.to_owned(), free, floor: NOTHING };
    }
    match error.refused_by_sqlite().and_then(|what| Some((what, refusal(db_dir)?))) {
        Some((what, (path, source))) => Error::Io { what, path, source },
        None => error,
    }
}

/// Which file of a database the kernel doesn't let this user have, and why. Opens none of them: closing it would drop
/// SQLite's locks.
fn refusal(db_dir: &Path) -> Option<(PathBuf, io::Error)> {
    // Whether descriptors are left is a question of its own.
    if let Err(err) = File::open("/dev/null") {
        return Some((db_dir.join("db"), err));
    }
    let (read, write) = (Access::READ_OK, Access::WRITE_OK);
    let names = [("db", read), ("db-wal", write), ("db-shm", write), ("db", write), ("", write)];
    names.into_iter().find_map(|(name, access)| {
        let path = if name.is_empty() { db_dir.to_owned() } else { db_dir.join(name) };
        let err = rustix::fs::accessat(CWD, &path, access, AtFlags::EACCESS).err()?;
        let cure = match err {
            Errno::NOENT => return None,
            Errno::ACCESS => {
                "; let its owner give this user permission (chmod, chgrp), or run this as its owner"
            }
            Errno::PERM => "; it is immutable: `chattr -i` as root makes it writable",
            Errno::ROFS => "; mount its file system for writing, or copy the database elsewhere",
            _ => "",
        };
        let err = io::Error::from(err);
        Some((path, io::Error::new(err.kind(), format!("{err}{cure}"))))
    })
}
