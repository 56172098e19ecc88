//! The lock file of one shard, `locks/AB`. fs2's methods are written `FileExt::` in full: std has grown methods
//! of the same names.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use fs2::FileExt;
use rustix::fs::{Mode, OFlags};

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
        uninterrupted(|| FileExt::lock_shared(&self.0))
    }

    /// Waits until nobody holds the shard at all.
    pub(super) fn lock_exclusive(&self) -> io::Result<()> {
        uninterrupted(|| FileExt::lock_exclusive(&self.0))
    }

    pub(super) fn unlock(&self) -> io::Result<()> {
        FileExt::unlock(&self.0)
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

fn uninterrupted(mut lock: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
