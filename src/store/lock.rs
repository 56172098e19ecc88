//! The lock file of one shard, `locks/AB`.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags};

use crate::sys::flock;

/// Folder of the lock files, beside `objects/`: what lies below that has the name of its hash.
pub(super) const FOLDER: &str = "locks";

/// An open lock file. flock belongs to the open file, so one per process and purpose.
pub(super) struct LockFile(File);

impl LockFile {
    /// Opens (and makes) the lock file of a shard.
    pub(super) fn open(objects: BorrowedFd<'_>, shard: u8) -> io::Result<LockFile> {
        let path = format!("../{FOLDER}/{shard:02x}");
        // Close-on-exec, or a step would keep the shard locked after our death.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(objects, &path, flags, Mode::from_raw_mode(0o644));
        let file = match open() {
            Err(rustix::io::Errno::NOENT) => {
                make_folder(objects, &format!("../{FOLDER}"))?;
                open()
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

    pub(super) fn unlock(&self) -> io::Result<()> {
        flock::unlock(&self.0)
    }
}

/// True if the folder was not there before.
pub(super) fn make_folder(objects: BorrowedFd<'_>, path: &str) -> io::Result<bool> {
    match rustix::fs::mkdirat(objects, path, Mode::from_raw_mode(0o777)) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::EXIST) => Ok(false),
        Err(err) => Err(err.into()),
    }
}
