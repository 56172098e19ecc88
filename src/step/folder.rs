//! A folder that scripts may do anything to, held open by descriptor.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::tree;

/// A folder that scripts may do anything to.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    device: u64,
    inode: u64,
}

impl Folder {
    pub(super) fn make(root: BorrowedFd<'_>, name: &str, path: PathBuf) -> Result<Folder, Errno> {
        let fd = make_folder(root, Path::new(name))?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Folder { path, fd, device: stat.st_dev, inode: stat.st_ino })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The folder's stat, if a path from `base` still leads to the folder that we opened. If the script
    /// has taken permissions away from it, they are given back; only root can have made it immutable.
    pub(super) fn look(&self, base: BorrowedFd<'_>, path: &Path) -> Result<Option<Stat>, Errno> {
        let stat = rustix::fs::statat(base, path, AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_dev != self.device || stat.st_ino != self.inode {
            return Ok(None);
        }
        if Mode::from_raw_mode(stat.st_mode) != Mode::RWXU {
            rustix::fs::fchmod(&self.fd, Mode::RWXU)?;
        }
        if rustix::process::geteuid().is_root() {
            tree::lift_flags(self.fd());
        }
        Ok(Some(stat))
    }
}

pub(super) fn make_folder(dir: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Makes every folder of a path, where it is missing, and opens the last one. By single components, since
/// a path of 4,096 bytes is too long for one call.
pub(super) fn make_folders(dir: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut folder: Option<OwnedFd> = None;
    for part in path.split(|byte| *byte == b'/') {
        let parent = folder.as_ref().map_or(dir, |fd| fd.as_fd());
        let name = OsStr::from_bytes(part);
        match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(err) => return Err(err),
        }
        folder = Some(tree::open_folder(parent, part)?);
    }
    folder.ok_or(Errno::INVAL)
}
