//! Folders listed and cleared by descriptor. Follows no link, crosses no mount point, and needs the same
//! few descriptors for a tree of any depth. Unaware of what the folders are for.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, IFlags, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, Timespec, Timestamps,
};
use rustix::io::Errno;

use crate::order;
use crate::sys::disk::is_removed_file;

/// Deeper folders are moved up before they are cleared, so that descriptors don't run out.
const DEPTH: usize = 16;

/// See [`mark_untouched`]. A second after the epoch, for no clock shows that.
const UNTOUCHED: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Bytes read from a folder at a time.
const LISTING: usize = 16 << 10;

/// Where a folder on ext4 goes on after its last name (EXT4_HTREE_EOF_64BIT in fs/ext4/ext4.h). A listing that was cut
/// short goes on elsewhere.
const END: u64 = i64::MAX as u64;

/// One name in a folder.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) kind: FileType,
}

impl Entry {
    /// Only its file system can remove it, and will. See [`is_removed_file`].
    pub(super) fn is_removed_file(&self, dir: BorrowedFd<'_>) -> bool {
        self.kind != FileType::Directory && is_removed_file(dir, &self.name)
    }
}

/// Whether nothing is in a folder but what its file system is about to remove. False if it can't be listed.
pub(super) fn has_only_removed_files(dir: BorrowedFd<'_>) -> bool {
    list(dir).is_ok_and(|entries| entries.iter().all(|entry| entry.is_removed_file(dir)))
}

/// All names of an open folder, sorted, without `.` and `..`.
///
/// It asks until there are no more. That a call gives less than would fit doesn't mean that it has given all: where the
/// kernel meets an error behind the first names, or a signal is on its way to the thread, be it only ^Z or a debugger's, it
/// gives those (getdents64 in fs/readdir.c), and some file systems (FUSE, NFS) give a page at a time.
pub(super) fn list(dir: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    list_until(dir, None)
}

/// [`list`] for a folder on ext4, where mostly one call is enough: with the last name of a folder comes [`END`].
pub(super) fn list_on_ext4(dir: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    list_until(dir, Some(END))
}

/// `end`: where the folder goes on after its last name.
fn list_until(dir: BorrowedFd<'_>, end: Option<u64>) -> io::Result<Vec<Entry>> {
    rustix::fs::seek(dir, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); LISTING];
    let mut entries = Vec::new();
    let mut names = RawDir::new(dir, &mut buffer);
    while let Some(entry) = names.next() {
        let entry = match entry {
            // A signal, before the first of the names that are left.
            Err(Errno::INTR) => continue,
            entry => entry?,
        };
        let is_last = Some(entry.next_entry_cookie()) == end;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                kind = FileType::from_raw_mode(stat.st_mode);
            }
            entries.push(Entry { name: name.to_owned(), kind });
        }
        if is_last {
            break;
        }
    }
    order::sort_by(&mut entries, |a, b| a.name.cmp(&b.name));
    Ok(entries)
}

/// Opens a folder inside a folder. EXDEV if something is mounted on it: what lies there isn't ours.
pub(super) fn open_folder(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    open_here(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens what lies in a folder, without following it. EXDEV if something is mounted on it.
pub(super) fn open_here(dir: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat2(dir, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
        Err(Errno::NOSYS | Errno::PERM) => {}
        done => return done,
    }
    // Kernels before 5.6, and sandboxes that don't know openat2 yet. Misses bind mounts of our own
    // file system.
    let fd = rustix::fs::openat(dir, name, flags, Mode::empty())?;
    if rustix::fs::fstat(&fd)?.st_dev != rustix::fs::fstat(dir)?.st_dev {
        return Err(Errno::XDEV);
    }
    Ok(fd)
}

/// Opens a folder, making it readable first if the script has made it unreadable.
pub(super) fn insist_on_folder(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    match open_folder(dir, name) {
        Err(Errno::ACCESS) => {
            rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
            open_folder(dir, name)
        }
        done => done,
    }
}

/// Removes everything in a folder, but not the folder.
///
/// # Errors
/// Whatever can't be removed even after its mode and attributes were reset: a mount point, another
/// user's file in another user's folder, a folder with a file whose removal [is put off](is_put_off). The rest may or may not be gone.
pub(super) fn clear(dir: BorrowedFd<'_>) -> io::Result<()> {
    let mut moved = 0;
    loop {
        let before = moved;
        clear_below(dir, dir, 0, &mut moved)?;
        if moved == before {
            return Ok(());
        }
    }
}

/// Sets a time of last change that no write leaves as it is, however coarse the clock.
pub(super) fn mark_untouched(file: impl AsFd) -> Result<(), Errno> {
    let times = Timestamps { last_access: UNTOUCHED, last_modification: UNTOUCHED };
    rustix::fs::futimens(file, &times)
}

/// Removes whatever has a name: a folder with everything in it, or a file of any kind. Fine if there is nothing.
pub(super) fn remove_entry(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => Ok(()),
        found => match FileType::from_raw_mode(found?.st_mode) {
            FileType::Directory => remove(dir, name),
            kind => Ok(unlink(dir, name, kind)?),
        },
    }
}

/// Removes a folder and everything in it. Fine if there is none.
pub(super) fn remove(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let folder = match insist_on_folder(dir, name) {
        Err(Errno::NOENT) => return Ok(()),
        opened => opened?,
    };
    clear(folder.as_fd())?;
    remove_emptied(dir, name, folder.as_fd())
}

fn remove_emptied(dir: BorrowedFd<'_>, name: &[u8], folder: BorrowedFd<'_>) -> io::Result<()> {
    match unlink(dir, name, FileType::Directory) {
        Err(Errno::NOTEMPTY | Errno::EXIST) if has_only_removed_files(folder) => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "a file removed from it is still open"))
        }
        done => Ok(done?),
    }
}

/// Whether clearing failed for nothing but files whose removal their file system has put off.
pub(super) fn is_put_off(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy && error.raw_os_error().is_none()
}

fn clear_below(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    depth: usize,
    moved: &mut usize,
) -> io::Result<()> {
    for Entry { name, kind, .. } in list(dir)? {
        if kind == FileType::Directory {
            if depth == DEPTH {
                move_up(top, dir, &name, moved)?;
                continue;
            }
            let folder = insist_on_folder(dir, &name)?;
            clear_below(top, folder.as_fd(), depth + 1, moved)?;
            remove_emptied(dir, &name, folder.as_fd())?;
            continue;
        }
        unlink(dir, &name, kind)?;
    }
    Ok(())
}

/// Renames a deep folder to a free name at the top.
fn move_up(
    top: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &[u8],
    moved: &mut usize,
) -> io::Result<()> {
    loop {
        *moved += 1;
        let free = format!(".deep-{moved}");
        match rustix::fs::renameat(dir, name, top, &free) {
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Err(Errno::ACCESS) => {
                // Its `..` changes, so it must be writable itself.
                rustix::fs::chmodat(dir, name, Mode::RWXU, AtFlags::empty())?;
                rustix::fs::fchmod(dir, Mode::RWXU)?;
                rustix::fs::renameat(dir, name, top, free)?;
                return Ok(());
            }
            done => return Ok(done?),
        }
    }
}

/// Removes one name; if that is forbidden, lifts what a script may have forbidden it with.
fn unlink(dir: BorrowedFd<'_>, name: &[u8], kind: FileType) -> Result<(), Errno> {
    let is_dir = kind == FileType::Directory;
    let flags = if is_dir { AtFlags::REMOVEDIR } else { AtFlags::empty() };
    let unlink = || match rustix::fs::unlinkat(dir, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    };
    match unlink() {
        Err(Errno::ACCESS) => {
            rustix::fs::fchmod(dir, Mode::RWXU)?;
            unlink()
        }
        Err(Errno::PERM) => {
            // chattr +i or +a, on the file or on its folder; only root can have set them.
            lift_flags(dir);
            if matches!(kind, FileType::Directory | FileType::RegularFile) {
                let open = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                if let Ok(file) = rustix::fs::openat(dir, name, open, Mode::empty()) {
                    lift_flags(file.as_fd());
                }
            }
            unlink()
        }
        done => done,
    }
}

/// Clears the immutable and append-only attributes; whether that helped is seen at the next attempt.
pub(super) fn lift_flags(file: BorrowedFd<'_>) {
    let forbidding = IFlags::IMMUTABLE | IFlags::APPEND;
    if let Ok(flags) = rustix::fs::ioctl_getflags(file)
        && flags.intersects(forbidding)
    {
        let _ = rustix::fs::ioctl_setflags(file, flags - forbidding);
    }
}
