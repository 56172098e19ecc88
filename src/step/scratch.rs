//! The folders a worker gives to one step after the other. Reused, because on ext4 the inode allocator
//! steps over recently deleted inodes: a folder made and removed per step made steps several times
//! slower after a few thousand. So the input is overwritten in place, the log truncated, the outputs
//! renamed away; and what can't be vouched for any more is left behind for a new set.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::input::Small;
use super::launch::Launcher;
use super::tree;
use crate::error::{OrIo, Result};
use crate::names;

/// Names of folders in a room.
const IN: &str = "in";
const TMP: &str = "tmp";

/// See [`Folder::mark_untouched`]. A second after the epoch, for no clock shows that.
const UNTOUCHED: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
/// With fewer bytes free than this, a script that fails is taken to have failed for want of space.
pub const FULL: u64 = 1 << 20;

/// One worker's scratch: `wN/{in,out,tmp}` and `wN/log`, private to this user.
pub struct Scratch {
    /// The run's own folder, absolute.
    dir: PathBuf,
    worker: usize,
    /// How many sets of folders this worker has left behind.
    generation: u32,
    pub(super) room: Room,
    pub(super) launcher: Launcher,
    /// Bytes on their way from one file to another.
    pub(super) buffer: Vec<u8>,
    /// Our effective user, who owns what we make.
    pub(super) user: u32,
    is_spoiled: bool,
}

/// One set of folders.
pub(super) struct Room {
    pub(super) path: PathBuf,
    pub(super) root: OwnedFd,
    pub(super) input: Folder,
    pub(super) output: Folder,
    pub(super) tmp: Folder,
    /// stdout and stderr of every step; append-only, so that what two processes write stays in order.
    pub(super) log: File,
    /// The file that small inputs are written to.
    pub(super) small: Option<Small>,
    /// The folder that already exists in OUTPUT_DIR, for INPUT_NAME's sake.
    pub(super) prepared: Vec<u8>,
}

/// A folder that scripts may do anything to.
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    device: u64,
    inode: u64,
}

impl Scratch {
    /// Makes the folders of one worker below `dir`, which belongs to this run alone.
    ///
    /// # Errors
    /// [`Error::Io`](crate::error::Error::Io), also if the worker already has its folders there: what
    /// another run left is never used.
    pub fn create(dir: &Path, worker: usize) -> Result<Scratch> {
        let dir = std::path::absolute(dir).or_io("find the folder", dir)?;
        let room = Room::make(dir.join(format!("w{worker}")))?;
        Ok(Scratch {
            dir,
            worker,
            generation: 0,
            room,
            launcher: Launcher::default(),
            buffer: Vec::new(),
            user: rustix::process::geteuid().as_raw(),
            is_spoiled: false,
        })
    }

    /// The next step gets new folders: in these, something might still be written, or could not be
    /// removed.
    pub(super) fn spoil(&mut self) {
        self.is_spoiled = true;
    }

    pub(super) fn is_spoiled(&self) -> bool {
        self.is_spoiled
    }

    /// After a step: removes what it left, and makes sure that the next one finds what it must find.
    /// OUTPUT_DIR needs no look if the outputs `are_taken`.
    ///
    /// # Errors
    /// What can't be removed or vouched for; then the scratch has to be spoiled.
    pub(super) fn tidy(&mut self, are_taken: bool) -> io::Result<()> {
        let room = &mut self.room;
        if !are_taken {
            room.output.look(CWD, &room.output.path)?.ok_or(Errno::STALE)?;
            tree::clear(room.output.fd())?;
            room.prepared.clear();
        }
        room.input.look(room.root.as_fd(), Path::new(IN))?.ok_or(Errno::STALE)?;
        let tmp = room.tmp.look(room.root.as_fd(), Path::new(TMP))?.ok_or(Errno::STALE)?;
        if !is_untouched(&tmp) {
            tree::clear(room.tmp.fd())?;
            room.tmp.mark_untouched()?;
        }
        room.tidy_input()
    }

    /// New folders if the old ones are spoiled.
    pub(super) fn renew(&mut self) -> Result<()> {
        if !self.is_spoiled {
            return Ok(());
        }
        self.generation += 1;
        let room = Room::make(self.dir.join(format!("w{}.{}", self.worker, self.generation)))?;
        let old = std::mem::replace(&mut self.room, room);
        // It would write to the old log.
        self.launcher = Launcher::default();
        self.is_spoiled = false;
        // What can't be removed now goes with the run's folder.
        let _ = old.remove();
        Ok(())
    }
}

impl Room {
    fn make(path: PathBuf) -> Result<Room> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).or_io("make", parent)?;
        let root = make_folder(CWD, &path).or_io("make", &path)?;
        let folder = |name: &str| {
            let path = path.join(name);
            Folder::make(&root, name, path.clone()).or_io("make", path)
        };
        let (input, output, tmp) = (folder(IN)?, folder("out")?, folder(TMP)?);
        tmp.mark_untouched().or_io("make", &tmp.path)?;
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let log = rustix::fs::openat(&root, "log", flags, Mode::RUSR | Mode::WUSR)
            .or_io("make", path.join("log"))?;
        let (log, prepared) = (File::from(log), Vec::new());
        Ok(Room { path, root, input, output, tmp, log, small: None, prepared })
    }

    /// Removes all of it.
    fn remove(self) -> io::Result<()> {
        let Room { path, root, .. } = self;
        tree::clear(root.as_fd())?;
        std::fs::remove_dir(path)
    }

    /// Makes the folder part of INPUT_NAME in OUTPUT_DIR, and removes that of the step before.
    pub(super) fn prepare_output(&mut self, input_name: &[u8]) -> Result<()> {
        let (mut folder, _) = names::split(input_name);
        if *names::below(input_name) != *input_name {
            // Leads out of OUTPUT_DIR, or is no path: nothing that we could make.
            folder = b"";
        }
        if self.prepared != folder {
            tree::clear(self.output.fd()).or_io("clear", &self.output.path)?;
            self.prepared = folder.to_owned();
        }
        if !folder.is_empty() {
            make_folders(self.output.fd(), folder).or_io("make folders in", &self.output.path)?;
        }
        Ok(())
    }

    /// Bytes that are left on the disk, if that is so little that a script may have failed for want of
    /// them, or of inodes.
    pub(super) fn lack_of_space(&self) -> Option<u64> {
        // If even that can't be found out, the script's failure is all that is known.
        let found = rustix::fs::fstatvfs(&self.root).ok()?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let no_inodes = found.f_files > 0 && found.f_favail == 0;
        (no_inodes || free < FULL).then_some(free)
    }
}

impl Folder {
    fn make(root: &OwnedFd, name: &str, path: PathBuf) -> Result<Folder, Errno> {
        let fd = make_folder(root.as_fd(), Path::new(name))?;
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

    /// Sets a time of last change that no change leaves as it is, however coarse the clock. One look
    /// at it is cheaper than listing an empty folder.
    fn mark_untouched(&self) -> Result<(), Errno> {
        let times = Timestamps { last_access: UNTOUCHED, last_modification: UNTOUCHED };
        rustix::fs::futimens(&self.fd, &times)
    }
}

/// See [`Folder::mark_untouched`].
fn is_untouched(stat: &Stat) -> bool {
    (stat.st_mtime, stat.st_mtime_nsec) == (UNTOUCHED.tv_sec, UNTOUCHED.tv_nsec)
}

fn make_folder(dir: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd, Errno> {
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
