//! Files that commands write outside the database. Others may be able to write into the same folder, so a draft has a
//! name that nobody can guess, is made anew, and follows no link; its folder is open, so that swapping a folder on the
//! way to it changes nothing.

use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// A file that is written beside its final place, which it then takes in one step. Removed again if it doesn't.
pub(super) struct NewFile<'d> {
    dir: BorrowedFd<'d>,
    name: Vec<u8>,
    file: File,
    is_placed: bool,
}

impl<'d> NewFile<'d> {
    /// Makes an empty draft in a folder. `mode` is subject to the umask.
    ///
    /// # Errors
    /// Those of openat(2).
    pub(super) fn make(dir: BorrowedFd<'d>, prefix: &str, mode: u32) -> Result<NewFile<'d>, Errno> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let name = format!("{prefix}.{}~", unguessable()).into_bytes();
            match rustix::fs::openat(dir, &name[..], flags, Mode::from_raw_mode(mode)) {
                Ok(file) => {
                    return Ok(NewFile { dir, name, file: File::from(file), is_placed: false });
                }
                Err(Errno::EXIST) => {}
                Err(err) => return Err(err),
            }
        }
    }

    /// What is to be written to.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Gives the draft its name in the same folder, in place of a file of that name.
    ///
    /// # Errors
    /// Those of renameat(2).
    pub(super) fn replace(mut self, name: &[u8]) -> Result<(), Errno> {
        rustix::fs::renameat(self.dir, &self.name[..], self.dir, name)?;
        self.is_placed = true;
        Ok(())
    }

    /// Gives the draft its name in the same folder, unless something of that name is there.
    ///
    /// # Errors
    /// EEXIST if something is there; otherwise those of renameat2(2).
    pub(super) fn add(mut self, name: &[u8]) -> Result<(), Errno> {
        let flags = RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(self.dir, &self.name[..], self.dir, name, flags) {
            // File systems that can't do it. Somebody may come in between; there is no better way.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match rustix::fs::statat(self.dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(_) => return Err(Errno::EXIST),
                    Err(Errno::NOENT) => return self.replace(name),
                    Err(err) => return Err(err),
                }
            }
            done => done?,
        }
        self.is_placed = true;
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if !self.is_placed {
            let _ = rustix::fs::unlinkat(self.dir, &self.name[..], AtFlags::empty());
        }
    }
}

/// 32 hex digits. `RandomState` is keyed with random bytes from the system, so its hashes can't be foretold.
fn unguessable() -> String {
    let keyed = RandomState::new();
    format!("{:016x}{:016x}", keyed.hash_one(0), keyed.hash_one(1))
}
