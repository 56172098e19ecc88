//! INPUT_FILE of one object: a private copy if it is small, a clone or a read-only link if it is large.
//! In neither case can a script damage the store through it unnoticed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::links::Lent;
use super::scratch::{Room, Scratch};
use super::{Input, tree};
use crate::attempt::NamedObject;
use crate::error::{OrIo, Result};
use crate::names;
use crate::object::ObjectHash;
use crate::store::{Loaded, Store};

/// Up to here, in bytes, an input is a private copy.
pub(super) const SMALL: u64 = 1 << 20;

/// Where the small file waits while something else is in `in/`.
const SPARE: &[u8] = b"spare";

/// The file system of the scratch has turned out to know no clones.
static NO_CLONES: AtomicBool = AtomicBool::new(false);

/// An input as a script finds it.
pub(super) struct Laid {
    /// INPUT_FILE.
    pub(super) file: OsString,
    /// INPUT_NAME.
    pub(super) name: OsString,
    /// INPUT_DIR is set.
    pub(super) has_dir: bool,
    /// Objects handed out as links, with the path of the link below `in/`.
    pub(super) lent: Vec<(Lent, Vec<u8>)>,
}

/// The file that holds every small input, one after the other.
pub(super) struct Small {
    /// Its name in `in/`; `None` while it waits as [`SPARE`].
    name: Option<Vec<u8>>,
    inode: u64,
    mode: Mode,
    /// Bytes that it has, or a little more than that.
    length: u64,
}

impl Small {
    pub(super) fn inode(&self) -> u64 {
        self.inode
    }
}

impl Scratch {
    /// Puts an input where the script will look for it.
    pub(super) fn lay(&mut self, store: &Store, input: &Input) -> Result<Laid> {
        let (room, buffer) = (&mut self.room, &mut self.buffer);
        match input {
            Input::One(input) => room.lay_one(store, input, buffer),
            Input::Many(items) => room.lay_many(store, items, buffer),
        }
    }
}

impl Room {
    fn lay_one(
        &mut self,
        store: &Store,
        NamedObject { name, object, executable }: &NamedObject,
        buffer: &mut Vec<u8>,
    ) -> Result<Laid> {
        let executable = *executable;
        let path = names::below(name);
        let base = names::split(&path).1;
        let file = self.input.path.join(OsStr::from_bytes(base));
        let mut lent = Vec::new();
        match store.load(object, SMALL, buffer)? {
            Loaded::Whole if executable => {
                self.set_small_aside().or_io("move aside", &file)?;
                write_program(self.input.fd(), base, buffer).or_io("write", &file)?;
            }
            Loaded::Whole => self.write_small(base, buffer).or_io("write", &file)?,
            Loaded::Large { file: source, stat } => {
                self.set_small_aside().or_io("move aside", &file)?;
                let at = (self.input.fd(), base);
                let link = lay_large(store, object, (source, &stat), at, executable)?;
                lent.extend(link.map(|link| (link, base.to_owned())));
            }
        }
        let name = OsStr::from_bytes(name).to_owned();
        Ok(Laid { file: file.into_os_string(), name, has_dir: false, lent })
    }

    /// Overwrites the small file in place: 10 µs, where making a new one takes 190.
    fn write_small(&mut self, base: &[u8], bytes: &[u8]) -> io::Result<()> {
        let reopened = match self.reopen_small(base) {
            // A script of root's has made it immutable. Clearing undoes that.
            Err(Errno::PERM) => {
                self.small = None;
                tree::clear(self.input.fd())?;
                None
            }
            reopened => reopened?,
        };
        let file = match reopened {
            Some(file) => file,
            None => {
                let file = create(self.input.fd(), base, false)?;
                let (name, inode) = (Some(base.to_owned()), rustix::fs::fstat(&file)?.st_ino);
                self.small = Some(Small { name, inode, mode: input_mode(false), length: 0 });
                file
            }
        };
        file.write_all_at(bytes, 0)?;
        let length = bytes.len() as u64;
        if let Some(small) = &mut self.small {
            if small.length > length {
                file.set_len(length)?;
            }
            small.length = length;
        }
        Ok(())
    }

    /// The small file under its new name, if there is one that can be vouched for. It is opened anew each
    /// time, because a script may make a program of it, and what is open for writing can't be run.
    fn reopen_small(&mut self, base: &[u8]) -> Result<Option<File>, Errno> {
        let (mode, dir) = (input_mode(false), self.input.fd());
        let Some(small) = &mut self.small else { return Ok(None) };
        match &small.name {
            Some(name) if name == base => {}
            Some(name) => rustix::fs::renameat(dir, name.as_slice(), dir, base)?,
            None => rustix::fs::renameat(&self.root, SPARE, dir, base)?,
        }
        small.name = Some(base.to_owned());
        if small.mode != mode {
            rustix::fs::chmodat(dir, base, mode, AtFlags::empty())?;
            small.mode = mode;
        }
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::openat(dir, base, flags, Mode::empty())?;
        if rustix::fs::fstat(&file)?.st_ino != small.inode {
            // Another file took the place of INPUT_FILE since it was last looked at.
            return Err(Errno::STALE);
        }
        Ok(Some(File::from(file)))
    }

    /// Makes room in `in/` for something that is not the small file.
    pub(super) fn set_small_aside(&mut self) -> io::Result<()> {
        if let Some(small) = &mut self.small
            && let Some(name) = &small.name
        {
            rustix::fs::renameat(self.input.fd(), name.as_slice(), &self.root, SPARE)?;
            small.name = None;
        }
        Ok(())
    }

    /// After a step: leaves nothing in `in/` but the small file, and keeps that one only if it is
    /// beyond doubt ours alone: that very inode, under its name, and under no other anywhere.
    pub(super) fn tidy_input(&mut self) -> io::Result<()> {
        let entries = tree::list(self.input.fd())?;
        let mut expected = 0;
        if let Some(small) = &mut self.small {
            let (stat, is_alone) = match &small.name {
                Some(name) => {
                    expected = 1;
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    let stat = rustix::fs::statat(self.input.fd(), name.as_slice(), flags);
                    (stat, entries.len() == 1 && entries[0].name == *name)
                }
                None => (rustix::fs::statat(&self.root, SPARE, AtFlags::SYMLINK_NOFOLLOW), true),
            };
            // Its number may have been given to another file since; if that is an ordinary file under
            // this very name and no other, it serves as well.
            if let Ok(stat) = stat
                && is_alone
                && stat.st_ino == small.inode
                && stat.st_nlink == 1
                && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            {
                small.mode = Mode::from_raw_mode(stat.st_mode);
                small.length = stat.st_size as u64;
            } else {
                self.small = None;
                expected = 0;
            }
        }
        if entries.len() != expected {
            self.set_small_aside()?;
            tree::clear(self.input.fd())?;
        }
        Ok(())
    }
}

/// Puts a large object under a name: as a clone, a read-only link, or a copy. The link is returned, since
/// it has to be watched.
pub(super) fn lay_large(
    store: &Store,
    object: &ObjectHash,
    (mut source, stat): (File, &Stat),
    (dir, name): (BorrowedFd<'_>, &[u8]),
    executable: bool,
) -> Result<Option<Lent>> {
    let copying = "copy object";
    let path = || store.path(object);
    // A link has the object's mode, so an executable input has to be a file of its own.
    let is_linkable = !executable;
    if is_linkable
        && NO_CLONES.load(Ordering::Relaxed)
        && let Some(lent) = Lent::lend(store, *object, stat, (dir, name))?
    {
        return Ok(Some(lent));
    }
    let _starting = executable.then(|| STARTING.write().unwrap_or_else(PoisonError::into_inner));
    let mut file = create(dir, name, executable).or_io(copying, path())?;
    if !NO_CLONES.load(Ordering::Relaxed) {
        match rustix::fs::ioctl_ficlone(&file, &source) {
            Ok(()) => return Ok(None),
            Err(Errno::NOSPC | Errno::DQUOT) => return Err(Errno::NOSPC).or_io(copying, path()),
            // Whatever else it says: cloning saves time, no more.
            Err(_) => NO_CLONES.store(true, Ordering::Relaxed),
        }
        if is_linkable {
            drop(file);
            rustix::fs::unlinkat(dir, name, AtFlags::empty()).or_io(copying, path())?;
            return lay_large(store, object, (source, stat), (dir, name), executable);
        }
    }
    io::copy(&mut source, &mut file).or_io(copying, path())?;
    Ok(None)
}

/// Held for writing while a program is open for writing, for reading while a script is started: a process
/// just forked holds every descriptor until it executes something, and what anybody has open for writing
/// can't be run ("text file busy").
static STARTING: RwLock<()> = RwLock::new(());

/// Keeps programs from being written; hold it while a process is started.
pub(super) fn starting() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a small input that can be run.
pub(super) fn write_program(dir: BorrowedFd<'_>, name: &[u8], bytes: &[u8]) -> io::Result<()> {
    let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    create(dir, name, true)?.write_all_at(bytes, 0)
}

/// A new file for one input, with the mode that inputs have whatever the umask.
pub(super) fn create(dir: BorrowedFd<'_>, name: &[u8], executable: bool) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = input_mode(executable);
    let file = rustix::fs::openat(dir, name, flags, mode)?;
    let stat = rustix::fs::fstat(&file)?;
    if Mode::from_raw_mode(stat.st_mode) != mode {
        rustix::fs::fchmod(file.as_fd(), mode)?;
    }
    Ok(File::from(file))
}

fn input_mode(executable: bool) -> Mode {
    Mode::from_raw_mode(if executable { 0o755 } else { 0o644 })
}
