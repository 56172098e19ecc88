//! The lock file of one shard, `objects/AB/lock`. The only file that uses fs2, whose methods are
//! written `FileExt::` in full: std has grown methods of the same names.

use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

use fs2::FileExt;
use rustix::fs::{Mode, OFlags};

/// Name of the lock file inside its shard. Two hex digits can't spell it.
pub(super) const NAME: &str = "lock";

/// An open lock file. flock belongs to the open file, so one per process and purpose.
pub(super) struct LockFile(File);

impl LockFile {
    /// Opens (and makes, with its shard's folder) the lock file of a shard. The flag tells whether
    /// the folder is new.
    pub(super) fn open(objects: BorrowedFd<'_>, shard: u8) -> io::Result<(LockFile, bool)> {
        let path = format!("{shard:02x}/{NAME}");
        // Close-on-exec, or a step would keep the shard locked after our death.
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(objects, &path, flags, Mode::from_raw_mode(0o644));
        match open() {
            Ok(fd) => Ok((LockFile(File::from(fd)), false)),
            Err(rustix::io::Errno::NOENT) => {
                match rustix::fs::mkdirat(objects, &path[..2], Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(err) => return Err(err.into()),
                }
                Ok((LockFile(File::from(open()?)), true))
            }
            Err(err) => Err(err.into()),
        }
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

fn uninterrupted(mut lock: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
