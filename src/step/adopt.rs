//! One regular file in OUTPUT_DIR becomes an object, once it is sure that nobody else can change it.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::PlacedOutput;
use super::outputs::{Unkept, Walk, is_forbidden};
use super::tree;
use crate::error::{Error, OrIo};
use crate::object::{ObjectHash, ObjectHasher};
use crate::store::Placed;
use crate::sys;
use crate::text::printable;

/// Bytes read at a time while hashing.
const BUFFER: usize = 256 << 10;

impl Walk<'_> {
    /// Takes the output at `self.path`, which the listing says is a regular file.
    pub(super) fn file(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Unkept> {
        let (file, mode) = self.open(dir, name)?;
        let mut stat = self.stat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.refuse("was swapped while it was looked at; who writes there?"));
        }
        if self.small.as_ref().is_some_and(|small| small.inode() == stat.st_ino) {
            // The script gave its input away: `mv "$INPUT_FILE" "$OUTPUT_DIR"`. Ours no longer, and as
            // long as it is open here, it counts as being written.
            *self.small = None;
        }
        let mode = mode.unwrap_or(Mode::from_raw_mode(stat.st_mode));
        if mode.intersects(Mode::SUID | Mode::SGID) {
            let path = printable(&self.path);
            self.warnings.push(format!("output `{path}` has lost its setuid or setgid bit"));
        }
        let is_ours = stat.st_uid == self.user;
        let stripped = if is_ours { strip_attributes(&file) } else { Err(()) };
        if stripped == Ok(true) {
            stat = self.stat(&file)?;
        }
        let has_lease = match sys::take_read_lease(file.as_fd()) {
            Ok(()) => true,
            Err(err) if err.raw_os_error() == Some(libc::EAGAIN) => {
                return Err(self.refuse(
                    "is still open for writing somewhere outside this step; \
                     wait for the writer before the script ends",
                ));
            }
            // Not ours, or a file system without leases: the stat below is what there is.
            Err(_) => false,
        };
        let adoptable = stripped.is_ok() && stat.st_nlink == 1;
        let placed = if adoptable {
            let (hash, size) = self.hash(&file, &stat)?;
            self.check_unchanged(&file, &stat, has_lease)?;
            self.place(&file, &stat, (dir, name), hash, size)?
        } else {
            self.store.put_from(&mut &file)?
        };
        let executable = mode.intersects(Mode::XUSR | Mode::XGRP | Mode::XOTH);
        // From here on it counts, so that it goes again if what follows is refused.
        self.outputs.push(PlacedOutput { name: self.path.clone(), object: placed, executable });
        if !adoptable {
            self.check_unchanged(&file, &stat, has_lease)?;
            match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
                Err(Errno::PERM) if is_forbidden(&file) || is_forbidden(dir) => {
                    return Err(self.refuse_forbidden());
                }
                done => done.or_io("remove an output in", &self.output.path)?,
            }
        }
        Ok(())
    }

    /// Opens for reading. If the file forbids that, it is ours to permit; the mode that it had comes
    /// back then.
    fn open(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(File, Option<Mode>), Unkept> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let open = || tree::open_here(dir, name, flags).map(File::from);
        match open() {
            Err(Errno::ACCESS) => {
                let pinned = tree::open_here(dir, name, OFlags::PATH)
                    .or_io("open an output in", &self.output.path)?;
                let mode = Mode::from_raw_mode(self.stat(&pinned)?.st_mode);
                let pinned = format!("/proc/self/fd/{}", pinned.as_raw_fd());
                let opened = rustix::fs::chmodat(CWD, pinned, Mode::RUSR, AtFlags::empty())
                    .and_then(|()| open());
                match opened {
                    Ok(file) => Ok((file, Some(mode))),
                    Err(_) => Err(self.refuse("can't be read; chmod or chown it in the script")),
                }
            }
            Err(Errno::XDEV) => Err(self.refuse_mount()),
            opened => Ok((opened.or_io("open an output in", &self.output.path)?, None)),
        }
    }

    fn stat(&self, file: impl AsFd) -> Result<Stat, Error> {
        rustix::fs::fstat(file).or_io("look at an output in", &self.output.path)
    }

    /// The hash of as many bytes as the file had when it was looked at.
    fn hash(&mut self, mut file: &File, stat: &Stat) -> Result<(ObjectHash, u64), Unkept> {
        let mut left = stat.st_size as u64;
        let mut hasher = ObjectHasher::default();
        let piece = BUFFER.min(usize::try_from(left).unwrap_or(BUFFER));
        if self.buffer.len() < piece {
            self.buffer.resize(piece, 0);
        }
        while left > 0 {
            let most = piece.min(usize::try_from(left).unwrap_or(piece));
            match file.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(self.refuse_changed()),
                Ok(n) => {
                    hasher.update(&self.buffer[..n]);
                    left -= n as u64;
                }
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                read => {
                    read.or_io("read an output in", &self.output.path)?;
                }
            }
        }
        Ok((hasher.finish(), stat.st_size as u64))
    }

    /// Renames the very file that was hashed to its object.
    fn place(
        &self,
        file: &File,
        stat: &Stat,
        (dir, name): (BorrowedFd<'_>, &[u8]),
        hash: ObjectHash,
        size: u64,
    ) -> Result<Placed, Unkept> {
        let pinned = (file.as_fd(), stat.st_ino);
        match self.store.place_open(pinned, dir, name, (hash, size)) {
            Ok(Some(placed)) => Ok(placed),
            Ok(None) => Err(self.refuse_changed()),
            Err(Error::Io { source, .. })
                if source.raw_os_error() == Some(libc::EPERM)
                    && (is_forbidden(file) || is_forbidden(dir)) =>
            {
                Err(self.refuse_forbidden())
            }
            Err(err) => Err(err.into()),
        }
    }

    /// What was read must be what there is: a lease broken meanwhile means a writer waits for us to
    /// finish, another size or time that one has been.
    fn check_unchanged(&self, file: &File, before: &Stat, has_lease: bool) -> Result<(), Unkept> {
        let whole = !has_lease
            || sys::has_read_lease(file.as_fd())
                .or_io("look at an output in", &self.output.path)?;
        let times = |stat: &Stat| {
            let modified = (stat.st_mtime, stat.st_mtime_nsec);
            (stat.st_size, modified, stat.st_ctime, stat.st_ctime_nsec)
        };
        if whole && times(&self.stat(file)?) == times(before) {
            return Ok(());
        }
        Err(self.refuse_changed())
    }

    fn refuse_changed(&self) -> Unkept {
        self.refuse("changed while it was taken; who writes there after the script has ended?")
    }
}

/// Removes extended attributes, access lists among them, and tells whether there were any. An error if one
/// won't go: then the bytes have to be copied. Labels that the system itself puts on every file stay.
fn strip_attributes(file: &File) -> Result<bool, ()> {
    let mut list = [0u8; 1024];
    let names = match rustix::fs::flistxattr(file, &mut list[..]) {
        Ok(length) => &list[..length],
        Err(Errno::NOTSUP) => return Ok(false),
        Err(_) => return Err(()),
    };
    let mut stripped = false;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if !name.starts_with(b"security.") || name == b"security.capability" {
            rustix::fs::fremovexattr(file, name).map_err(drop)?;
            stripped = true;
        }
    }
    Ok(stripped)
}
