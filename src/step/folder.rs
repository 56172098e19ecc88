//! A folder that scripts may do anything to, held open by descriptor.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::tree::{self, Entry};
use crate::names;

/// `f_type` of ext2, ext3 and ext4 (statfs(2)).
const EXT4: u32 = 0xef53;

/// A folder that scripts may do anything to.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    device: u64,
    inode: u64,
    is_on_ext4: bool,
}

/// A [`Folder`] that is not held open.
pub(super) struct ClosedFolder {
    pub(super) path: PathBuf,
    device: u64,
    inode: u64,
    is_on_ext4: bool,
}

impl ClosedFolder {
    /// Opens it again, by its name in a folder; `None` if that is another one by now.
    pub(super) fn open(&self, parent: BorrowedFd<'_>, name: &str) -> Result<Option<Folder>, Errno> {
        let fd = tree::insist_on_folder(parent, name.as_bytes())?;
        let stat = rustix::fs::fstat(&fd)?;
        let ClosedFolder { ref path, device, inode, is_on_ext4 } = *self;
        let is_same = (stat.st_dev, stat.st_ino) == (device, inode);
        Ok(is_same.then(|| Folder { path: path.clone(), fd, device, inode, is_on_ext4 }))
    }
}

/// From here on, in bytes, a folder is better replaced than listed for each step: on ext4 it stays as large as it once was,
/// and all of it is read. It has had some 2,500 names.
const BLOATED: u64 = 64 << 10;

/// What a look at a folder that is in its place has told.
pub(super) struct Look {
    /// So large that listing it takes long, be it empty.
    pub(super) is_bloated: bool,
}

/// What the kernel tells of a path.
struct Found {
    device: u64,
    inode: u64,
    mode: Mode,
    /// Bytes.
    size: u64,
    /// Immutable or append-only; `None` if this file system doesn't tell.
    is_forbidden: Option<bool>,
}

impl Folder {
    pub(super) fn make(root: BorrowedFd<'_>, name: &str, path: PathBuf) -> Result<Folder, Errno> {
        let fd = make_folder(root, Path::new(name))?;
        let stat = rustix::fs::fstat(&fd)?;
        // `f_type` is signed on some machines; the magic numbers are 32 bits wide on all.
        let is_on_ext4 = rustix::fs::fstatfs(&fd).is_ok_and(|found| found.f_type as u32 == EXT4);
        Ok(Folder { path, fd, device: stat.st_dev, inode: stat.st_ino, is_on_ext4 })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Lets go of the descriptor.
    pub(super) fn close(self) -> ClosedFolder {
        self.describe()
    }

    /// What it takes to open it again.
    pub(super) fn describe(&self) -> ClosedFolder {
        let Folder { ref path, device, inode, is_on_ext4, .. } = *self;
        ClosedFolder { path: path.clone(), device, inode, is_on_ext4 }
    }

    /// Gives it back the permissions that a script has taken away from it.
    pub(super) fn mend(&self) -> Result<(), Errno> {
        let stat = rustix::fs::fstat(&self.fd)?;
        if Mode::from_raw_mode(stat.st_mode) != Mode::RWXU {
            rustix::fs::fchmod(&self.fd, Mode::RWXU)?;
        }
        Ok(())
    }

    /// `None` unless a path from `base` still leads to the folder that we opened. If the script has taken permissions
    /// away from it, they are given back, and so they are if root has made it immutable: nothing of ours need fail
    /// by that, but the next script would.
    pub(super) fn look(&self, base: BorrowedFd<'_>, path: &Path) -> Result<Option<Look>, Errno> {
        let found = Found::at(base, path)?;
        if found.device != self.device || found.inode != self.inode {
            return Ok(None);
        }
        if found.mode != Mode::RWXU {
            rustix::fs::fchmod(&self.fd, Mode::RWXU)?;
        }
        if found.is_forbidden.unwrap_or_else(|| rustix::process::geteuid().is_root()) {
            tree::lift_flags(self.fd());
        }
        Ok(Some(Look { is_bloated: self.is_on_ext4 && found.size > BLOATED }))
    }

    /// The names in the folder.
    pub(super) fn list(&self) -> io::Result<Vec<Entry>> {
        if self.is_on_ext4 { tree::list_on_ext4(self.fd()) } else { tree::list(self.fd()) }
    }
}

impl Found {
    /// Follows nothing.
    fn at(base: BorrowedFd<'_>, path: &Path) -> Result<Found, Errno> {
        match rustix::fs::statx(base, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            // Kernels before 4.11, and sandboxes that don't know statx yet.
            Err(Errno::NOSYS | Errno::PERM) => {
                let stat = rustix::fs::statat(base, path, AtFlags::SYMLINK_NOFOLLOW)?;
                Ok(Found {
                    device: stat.st_dev,
                    inode: stat.st_ino,
                    mode: Mode::from_raw_mode(stat.st_mode),
                    size: stat.st_size as u64,
                    is_forbidden: None,
                })
            }
            found => {
                let found = found?;
                let forbidding = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
                let is_told = found.stx_attributes_mask.contains(forbidding);
                Ok(Found {
                    device: rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor),
                    inode: found.stx_ino,
                    mode: Mode::from_raw_mode(found.stx_mode.into()),
                    size: found.stx_size,
                    is_forbidden: is_told.then(|| found.stx_attributes.intersects(forbidding)),
                })
            }
        }
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

/// Opens the last folder of a path. No component of it is followed if a script has made a link of it.
pub(super) fn open_folders(dir: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut folder: Option<OwnedFd> = None;
    for part in path.split(|byte| *byte == b'/') {
        let parent = folder.as_ref().map_or(dir, |fd| fd.as_fd());
        folder = Some(tree::open_folder(parent, part)?);
    }
    folder.ok_or(Errno::INVAL)
}

/// The folder part of INPUT_NAME.
pub(super) fn folder_of(input_name: &[u8]) -> &[u8] {
    if *names::below(input_name) == *input_name {
        names::split(input_name).0
    } else {
        // Leads out of OUTPUT_DIR, or is no path: nothing that we could make.
        b""
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_folder_is_listed_whole_however_many_names_it_has_and_however_often() {
        let dir = tempfile::tempdir().unwrap();
        let root = File::open(dir.path()).unwrap();
        let folder = Folder::make(root.as_fd(), "f", dir.path().join("f")).unwrap();
        // A block of ext4 holds some 340 names of this length, and 14 of the longest.
        let short = (0..400).map(|n| format!("{n:x}"));
        let names: Vec<String> = short.chain((0..40).map(|n| format!("{n:0255}"))).collect();
        for (at, name) in names.iter().enumerate() {
            let mut wanted: Vec<&[u8]> = names[..at].iter().map(|name| name.as_bytes()).collect();
            wanted.sort_unstable();
            let listed = folder.list().unwrap();
            let listed: Vec<&[u8]> = listed.iter().map(|entry| &entry.name[..]).collect();
            assert_eq!(listed, wanted);
            File::create(folder.path.join(name)).unwrap();
        }
    }
}
