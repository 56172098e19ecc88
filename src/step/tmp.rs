//! TMPDIR, which has to be short: the address of a Unix socket has room for 107 bytes, and programs put
//! sockets into it under names of some thirty. Where a worker's own folder is too deep for that, it lies below
//! the user's TMPDIR or /tmp instead, and a note in the worker's folder says where, for whoever removes what a
//! killed runner has left.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::folder::Folder;
use super::tree;

/// Longest path of a TMPDIR, in bytes.
const LONGEST: usize = 70;

/// Name of the folder in a worker's folder.
const INSIDE: &str = "tmp";

/// Name of the note in a worker's folder.
const NOTE: &str = "tmp-is-at";

/// Beginning of the folder's name elsewhere.
const PREFIX: &str = "task-pipeline-";

/// Makes the TMPDIR of a worker whose folder is `root` at `path`.
pub(super) fn make(root: BorrowedFd<'_>, path: &Path) -> io::Result<Folder> {
    let inside = path.join(INSIDE);
    if inside.as_os_str().len() <= LONGEST {
        return Ok(Folder::make(root, INSIDE, inside)?);
    }
    let own = std::env::var_os("TMPDIR").map(PathBuf::from);
    for base in own.into_iter().chain([PathBuf::from("/tmp")]) {
        if base.is_absolute()
            && let Some(folder) = make_below(root, &base)?
        {
            return Ok(folder);
        }
    }
    // Better too long than none.
    Ok(Folder::make(root, INSIDE, inside)?)
}

/// `None` if it can't be made there, or would be too long there too.
fn make_below(root: BorrowedFd<'_>, base: &Path) -> io::Result<Option<Folder>> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(parent) = rustix::fs::openat(CWD, base, flags, Mode::empty()) else { return Ok(None) };
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let path = base.join(&name);
        if path.as_os_str().len() > LONGEST {
            return Ok(None);
        }
        // First the note, or a kill in between would leave a folder that nobody removes.
        write_note(root, &path)?;
        match Folder::make(parent.as_fd(), &name, path) {
            Ok(folder) => return Ok(Some(folder)),
            Err(Errno::EXIST) => {}
            Err(_) => {
                rustix::fs::unlinkat(root, NOTE, AtFlags::empty())?;
                return Ok(None);
            }
        }
    }
}

fn write_note(root: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let note = rustix::fs::openat(root, NOTE, flags, Mode::RUSR | Mode::WUSR)?;
    io::Write::write_all(&mut std::fs::File::from(note), path.as_os_str().as_bytes())
}

/// Removes the TMPDIR that lies elsewhere, if the worker's folder `root` has a note of one. Nothing that was not
/// made by [`make`] is touched: a folder of our own user with such a name.
pub(super) fn remove_elsewhere(root: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let note = match rustix::fs::openat(root, NOTE, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    let mut path = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(note), 4096), &mut path)?;
    let path = PathBuf::from(std::ffi::OsString::from_vec(path));
    let (Some(base), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    if !path.is_absolute() || !name.as_bytes().starts_with(PREFIX.as_bytes()) {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(base) = rustix::fs::openat(CWD, base, flags, Mode::empty()) else { return Ok(()) };
    match rustix::fs::statat(&base, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if stat.st_uid == rustix::process::geteuid().as_raw() => {
            tree::remove(base.as_fd(), name.as_bytes())
        }
        _ => Ok(()),
    }
}
