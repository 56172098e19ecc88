//! The disk below the database: is there room, and is it a local one?

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, OrIo, Result};

/// File systems on which locks or shared memory can't be relied on, by `f_type` (statfs(2)).
const NETWORK: [(u32, &str); 8] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x0102_1997, "9P"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x00c3_6400, "Ceph"),
];

/// Below this a database on a full disk fails in ways that SQLite doesn't call "full".
const NOTHING: u64 = 1 << 20;

/// # Errors
/// [`Error::Usage`] if the folder lies on a network mount.
pub(super) fn refuse_network(db_dir: &Path) -> Result<()> {
    let found = rustix::fs::statfs(db_dir).or_io("look at the file system of", db_dir)?;
    // `f_type` is signed on some machines; the magic numbers are 32 bits wide on all.
    let kind = found.f_type as u32;
    match NETWORK.iter().find(|(magic, _)| *magic == kind) {
        Some((_, name)) => Err(Error::Usage(format!(
            "`{}` is on a network mount ({name}), where locks may not hold and a crash may corrupt the \
             database; put --db on a local disk, or add --allow-network-fs",
            db_dir.display()
        ))),
        None => Ok(()),
    }
}

/// Bytes that are free for us, or 0 if no file can be made.
pub(super) fn free(db_dir: &Path) -> Result<u64> {
    let found = rustix::fs::statvfs(db_dir).or_io("look at the file system of", db_dir)?;
    if found.f_files > 0 && found.f_favail == 0 {
        return Ok(0);
    }
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// How often the disk is asked: not before each of the steps that last a millisecond.
const INTERVAL: Duration = Duration::from_millis(5);

/// Whether there is room for another step. Whoever starts one asks: when it was sent to the pool, many
/// others may have been before it.
pub(super) struct Floor {
    db_dir: PathBuf,
    /// Bytes that have to stay free.
    bytes: u64,
    asked: Mutex<Option<Instant>>,
}

impl Floor {
    pub(super) fn new(db_dir: &Path, bytes: u64) -> Floor {
        Floor { db_dir: db_dir.to_owned(), bytes, asked: Mutex::default() }
    }

    /// Asks the disk, if that was not done just now.
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

    /// # Errors
    /// [`Error::NoSpace`] if too little is free.
    pub(super) fn check_now(&self) -> Result<()> {
        let free = free(&self.db_dir)?;
        if free < self.bytes {
            return Err(Error::NoSpace { path: self.db_dir.clone(), free, floor: self.bytes });
        }
        Ok(())
    }
}

/// Adds to SQLite's word where it happened. On a full disk its shared memory and the like fail with plain
/// I/O errors: says what it is.
pub(crate) fn explain(error: Error, db_dir: &Path) -> Error {
    let error = error.in_db(&crate::db::Db::file(db_dir));
    match &error {
        Error::Db { source, .. }
            if matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::SystemIoFailure | rusqlite::ErrorCode::CannotOpen)
            ) =>
        {
            match free(db_dir) {
                Ok(free) if free < NOTHING => {
                    Error::NoSpace { path: db_dir.to_owned(), free, floor: NOTHING }
                }
                _ => error,
            }
        }
        _ => error,
    }
}
