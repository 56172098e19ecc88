//! Walks OUTPUT_DIR, and refuses what can't be kept. By descriptor, never following, never opening what
//! is not a regular file: opening a FIFO would hang, opening a device might do something.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{AtFlags, CWD, FileType, IFlags, Mode};
use rustix::io::Errno;

use super::PlacedOutput;
use super::input::Small;
use super::scratch::Folder;
use super::tree::{self, Entry};
use crate::error::{Error, OrIo, Result};
use crate::store::Store;
use crate::text::printable;

/// Longest name of an output, in bytes.
const LONGEST_NAME: usize = 4096;

/// Folders inside folders inside OUTPUT_DIR.
const DEEPEST: usize = 64;

/// Why the walk stopped.
pub(super) enum Unkept {
    /// The script's doing; the sentence names the output and the cure.
    Refused(String),
    /// Ours.
    Failed(Error),
}

impl From<Error> for Unkept {
    fn from(error: Error) -> Unkept {
        Unkept::Failed(error)
    }
}

/// One walk.
pub(super) struct Walk<'a> {
    pub(super) store: &'a Store,
    pub(super) output: &'a Folder,
    /// Whose files can be adopted: our own effective user.
    pub(super) user: u32,
    /// Let go if the script has made it an output.
    pub(super) small: &'a mut Option<Small>,
    /// The folder to leave in OUTPUT_DIR, if it is still as it was made.
    pub(super) prepared: &'a [u8],
    pub(super) buffer: &'a mut Vec<u8>,
    pub(super) warnings: &'a mut Vec<String>,
    pub(super) outputs: Vec<PlacedOutput>,
    /// Path of what is being looked at, below OUTPUT_DIR.
    pub(super) path: Vec<u8>,
}

impl Walk<'_> {
    /// Takes every output. If it succeeds, nothing is left in OUTPUT_DIR but the prepared folder.
    /// If not, nothing is kept of those that were taken already.
    pub(super) fn run(mut self) -> Result<Vec<PlacedOutput>, Unkept> {
        check_in_place(self.output)?;
        if let Err(unkept) = self.folder(self.output.fd(), 0) {
            for output in self.outputs {
                self.store.discard(output.object)?;
            }
            return Err(unkept);
        }
        self.outputs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(self.outputs)
    }

    fn folder(&mut self, dir: BorrowedFd<'_>, depth: usize) -> Result<(), Unkept> {
        let entries = tree::list(dir).or_io("list outputs in", &self.output.path)?;
        let length = self.path.len();
        // First of all what is to be refused, so that little is hashed in vain.
        for entry in &entries {
            self.enter(length, &entry.name);
            if !matches!(entry.kind, FileType::RegularFile | FileType::Directory) {
                return Err(self.refuse_kind(dir, entry));
            }
            if self.path.len() > LONGEST_NAME {
                return Err(self.refuse(&format!(
                    "has a name of {} bytes, and {LONGEST_NAME} is the most; shorten it",
                    self.path.len()
                )));
            }
        }
        for Entry { name, kind, .. } in entries {
            self.enter(length, &name);
            if kind == FileType::RegularFile {
                self.file(dir, &name)?;
            } else {
                self.subfolder(dir, &name, depth)?;
            }
        }
        self.path.truncate(length);
        Ok(())
    }

    fn subfolder(&mut self, dir: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<(), Unkept> {
        if depth == DEEPEST {
            return Err(self.refuse(&format!(
                "lies more than {DEEPEST} folders deep; use fewer, or pack them into an archive"
            )));
        }
        let folder = match tree::insist_on_folder(dir, name) {
            Err(Errno::XDEV) => {
                return Err(self.refuse_mount());
            }
            Err(Errno::ACCESS | Errno::PERM) => {
                return Err(self.refuse("is a folder that can't be read; chmod it, or remove it"));
            }
            opened => opened.or_io("open outputs in", &self.output.path)?,
        };
        self.folder(folder.as_fd(), depth + 1)?;
        if is_prepared(self.prepared, &self.path) {
            let stat = rustix::fs::fstat(&folder).or_io("look at", &self.output.path)?;
            if Mode::from_raw_mode(stat.st_mode) != Mode::RWXU {
                rustix::fs::fchmod(&folder, Mode::RWXU).or_io("chmod", &self.output.path)?;
            }
            return Ok(());
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Err(self.refuse("got new files while its outputs were taken; who writes there?"))
            }
            Err(Errno::PERM) if is_forbidden(&folder) || is_forbidden(dir) => {
                Err(self.refuse_forbidden())
            }
            done => Ok(done.or_io("remove folders in", &self.output.path)?),
        }
    }

    fn enter(&mut self, length: usize, name: &[u8]) {
        self.path.truncate(length);
        if length > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
    }

    /// A refusal of what is being looked at.
    pub(super) fn refuse(&self, why: &str) -> Unkept {
        Unkept::Refused(format!("output `{}` {why}", printable(&self.path)))
    }

    pub(super) fn refuse_mount(&self) -> Unkept {
        self.refuse("is a mount point; unmount it before the script ends")
    }

    pub(super) fn refuse_forbidden(&self) -> Unkept {
        self.refuse(
            "is immutable or append-only, or its folder is; lift that in the script (chattr -i -a)",
        )
    }

    fn refuse_kind(&self, dir: BorrowedFd<'_>, entry: &Entry) -> Unkept {
        let what = match entry.kind {
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(dir, entry.name.as_slice(), Vec::new());
                let target = target.map_or_else(|_| Vec::new(), |target| target.into_bytes());
                return self.refuse(&format!(
                    "is a symbolic link to `{}`, and links are not stored; copy the file (cp -L)",
                    printable(&target)
                ));
            }
            FileType::Fifo => "a FIFO",
            FileType::Socket => "a socket",
            FileType::CharacterDevice | FileType::BlockDevice => "a device",
            _ => "of an unknown kind",
        };
        self.refuse(&format!(
            "is {what}, and only regular files can be kept; remove it, or use TMPDIR"
        ))
    }
}

/// OUTPUT_DIR must still be the folder that the script was given.
fn check_in_place(output: &Folder) -> Result<(), Unkept> {
    let cure = "empty it with rm -rf \"$OUTPUT_DIR\"/* and leave the folder itself";
    let found = match output.look(CWD, &output.path) {
        Ok(None) => "replaced",
        Err(Errno::NOENT | Errno::NOTDIR) => "removed or renamed",
        found => return Ok(found.map(drop).or_io("look at", &output.path)?),
    };
    let path = printable(output.path.as_os_str().as_bytes());
    Err(Unkept::Refused(format!("OUTPUT_DIR (`{path}`) was {found}; {cure}")))
}

/// chattr +i or +a, which only root can have set.
pub(super) fn is_forbidden(file: impl AsFd) -> bool {
    rustix::fs::ioctl_getflags(file)
        .is_ok_and(|flags| flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND))
}

/// Whether a folder is the prepared one, or above it.
fn is_prepared(prepared: &[u8], path: &[u8]) -> bool {
    prepared.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}
