//! Walks OUTPUT_DIR: refuses what can't be kept, and makes an object of each regular file once it is sure
//! that nobody else can change it. By descriptor, never following, never opening what is not a regular file:
//! opening a FIFO would hang, opening a device might do something.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, IFlags, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::batch::BatchFolder;
use super::folder::Folder;
use super::scratch::SmallFile;
use super::tree::{self, Entry};
use crate::attempt::Output;
use crate::depfile;
use crate::error::{Error, OrIo, Result};
use crate::object::{ObjectHash, ObjectHasher};
use crate::order;
use crate::store::{Placed, Store};
use crate::sys;
use crate::text::{printable, size};

const LISTING: &str = "list outputs in";

/// Longest name of an output, in bytes.
const LONGEST_NAME: usize = 4096;

/// Folders inside folders inside OUTPUT_DIR.
const DEEPEST: usize = 64;

/// Bytes read at a time while hashing.
const BUFFER: usize = 256 << 10;

/// Most bytes of a depfile that are read.
const LONGEST_RULE: u64 = 64 << 20;

/// What a walk has taken.
pub(super) struct Taken {
    /// By name.
    pub(super) outputs: Vec<Output>,
    /// Their objects, in no order.
    pub(super) placed: Vec<Placed>,
    /// What the depfile names.
    pub(super) rule: Option<Vec<Vec<u8>>>,
}

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
    pub(super) small: &'a mut Option<SmallFile>,
    /// The folder to leave in OUTPUT_DIR, if it is still as it was made.
    pub(super) prepared: &'a [u8],
    pub(super) buffer: &'a mut Vec<u8>,
    pub(super) warnings: &'a mut Vec<String>,
    pub(super) outputs: Vec<Output>,
    /// Their objects, in no order.
    pub(super) placed: Vec<Placed>,
    /// Path of what is being looked at, below OUTPUT_DIR.
    pub(super) path: Vec<u8>,
    /// The file that is no output, but says what the script has read.
    pub(super) depfile: Option<&'a str>,
    /// What it names, once it was found.
    pub(super) rule: Option<Vec<Vec<u8>>>,
    /// Set if something is left in OUTPUT_DIR that only its file system can remove.
    pub(super) has_remains: &'a mut bool,
}

impl Walk<'_> {
    /// Takes every output. If it succeeds, nothing is left in OUTPUT_DIR but the prepared folder, and remains.
    /// If not, nothing is kept of those that were taken already.
    pub(super) fn run(mut self) -> Result<Taken, Unkept> {
        check_in_place(self.output)?;
        let output = self.output;
        let entries = output.list().or_io(LISTING, &output.path).map_err(Unkept::from);
        let taken = entries.and_then(|entries| self.folder(output.fd(), entries, 0));
        let taken = taken.and_then(|()| self.insist_on_depfile());
        if let Err(unkept) = taken.map_err(|unkept| self.blame(unkept)) {
            for placed in self.placed {
                self.store.discard(placed)?;
            }
            return Err(unkept);
        }
        order::sort_by(&mut self.outputs, |a, b| a.name.cmp(&b.name));
        Ok(Taken { outputs: self.outputs, placed: self.placed, rule: self.rule })
    }

    /// Without it nobody would know when the outputs are out of date.
    fn insist_on_depfile(&self) -> Result<(), Unkept> {
        match self.depfile {
            Some(depfile) if self.rule.is_none() => {
                let name = printable(depfile.as_bytes());
                Err(Unkept::Refused(format!(
                    "the script has left no `{name}` in OUTPUT_DIR, which is its depfile; let it write one \
                     (cc -MMD -MF \"$OUTPUT_DIR/{name}\"), or take `depfile` out of its task"
                )))
            }
            _ => Ok(()),
        }
    }

    /// Reads and removes the depfile.
    fn take_depfile(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Unkept> {
        let (file, _) = self.open(dir, name)?;
        if FileType::from_raw_mode(self.stat(&file)?.st_mode) != FileType::RegularFile {
            return Err(self.refuse("was swapped while it was looked at; who writes there?"));
        }
        let mut text = Vec::new();
        (&file)
            .take(LONGEST_RULE + 1)
            .read_to_end(&mut text)
            .or_io("read the depfile in", &self.output.path)?;
        let name_shown = printable(&self.path).into_owned();
        if text.len() as u64 > LONGEST_RULE {
            let why = format!("the depfile `{name_shown}` is longer than {}", size(LONGEST_RULE));
            return Err(Unkept::Refused(why));
        }
        let rule = depfile::prerequisites(&text).map_err(|why| {
            Unkept::Refused(format!(
                "the depfile `{name_shown}` is no rule of make's, such as `x.o: src/x.c src/x.h`: {why}"
            ))
        })?;
        match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
            Err(Errno::PERM) if is_forbidden(&file) || is_forbidden(dir) => {
                return Err(self.refuse_forbidden());
            }
            done => done.or_io("remove the depfile in", &self.output.path)?,
        }
        self.rule = Some(rule);
        Ok(())
    }

    fn folder(
        &mut self,
        dir: BorrowedFd<'_>,
        mut entries: Vec<Entry>,
        depth: usize,
    ) -> Result<(), Unkept> {
        // What the script has removed is no output, though somebody may still have it open.
        entries.retain(|entry| !entry.is_removed_file(dir));
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
            if kind == FileType::RegularFile && self.is_depfile() {
                self.take_depfile(dir, &name)?;
            } else if kind == FileType::RegularFile {
                self.file(dir, &name)?;
            } else {
                self.subfolder(dir, &name, depth)?;
            }
        }
        self.path.truncate(length);
        Ok(())
    }

    fn is_depfile(&self) -> bool {
        self.depfile.is_some_and(|depfile| depfile.as_bytes() == self.path)
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
        // Its files are to be moved out of it.
        let mode = Mode::from_raw_mode(
            rustix::fs::fstat(&folder).or_io("look at", &self.output.path)?.st_mode,
        );
        if !mode.contains(Mode::RWXU) && rustix::fs::fchmod(&folder, Mode::RWXU).is_err() {
            return Err(self.refuse(
                "is a folder of another user's that can't be written to; chown or chmod it",
            ));
        }
        let entries = tree::list(folder.as_fd()).or_io(LISTING, &self.output.path)?;
        self.folder(folder.as_fd(), entries, depth + 1)?;
        if is_prepared(self.prepared, &self.path) {
            let stat = rustix::fs::fstat(&folder).or_io("look at", &self.output.path)?;
            if Mode::from_raw_mode(stat.st_mode) != Mode::RWXU {
                rustix::fs::fchmod(&folder, Mode::RWXU).or_io("chmod", &self.output.path)?;
            }
            return Ok(());
        }
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            // On FUSE, an output that was not needed may stay under another name until it is closed in fact.
            Err(Errno::NOTEMPTY | Errno::EXIST) if tree::has_only_removed_files(folder.as_fd()) => {
                *self.has_remains = true;
                Ok(())
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                Err(self.refuse("got new files while its outputs were taken; who writes there?"))
            }
            Err(Errno::PERM) if is_forbidden(&folder) || is_forbidden(dir) => {
                Err(self.refuse_forbidden())
            }
            done => Ok(done.or_io("remove folders in", &self.output.path)?),
        }
    }

    /// What the kernel refuses because of what the script has made is that script's failure, never the run's.
    fn blame(&self, unkept: Unkept) -> Unkept {
        let Unkept::Failed(Error::Io { source, path, .. }) = &unkept else { return unkept };
        if !path.starts_with(&self.output.path) {
            // The store's: a broken `DB/locks`, say.
            return unkept;
        }
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(
                Errno::ACCESS
                | Errno::PERM
                | Errno::ROFS
                | Errno::BUSY
                | Errno::XDEV
                | Errno::NOENT
                | Errno::NOTDIR
                | Errno::LOOP
                | Errno::STALE
                | Errno::NAMETOOLONG
                | Errno::NXIO
                | Errno::NODEV,
            ) => self.refuse(&format!(
                "can't be taken: {source}; look at its owner and mode, and at its folder's"
            )),
            _ => unkept,
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
    fn refuse(&self, why: &str) -> Unkept {
        Unkept::Refused(format!("output `{}` {why}", printable(&self.path)))
    }

    fn refuse_mount(&self) -> Unkept {
        self.refuse("is a mount point; unmount it before the script ends")
    }

    fn refuse_forbidden(&self) -> Unkept {
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

    /// Takes the output at `self.path`, which the listing says is a regular file.
    fn file(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Unkept> {
        let (file, mode) = self.open(dir, name)?;
        let mut stat = self.stat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(self.refuse("was swapped while it was looked at; who writes there?"));
        }
        if self.small.as_ref().is_some_and(|small| small.inode == stat.st_ino) {
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
        self.outputs.push(Output {
            name: self.path.clone(),
            object: placed.hash,
            size: placed.size,
            executable,
        });
        self.placed.push(placed);
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
                let pinned = crate::sys::proc::path_of(pinned.as_fd());
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

/// OUTPUT_DIR must still be the folder that the script was given.
fn check_in_place(output: &Folder) -> Result<(), Unkept> {
    match output.look(CWD, &output.path) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(not_in_place("replaced", &output.path)),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(not_in_place("removed or renamed", &output.path)),
        Err(err) => Ok(Err(err).or_io("look at", &output.path)?),
    }
}

/// Opens the folder of the outputs of a step of a batch.
pub(super) fn of_batch(batch: &BatchFolder, nth: usize) -> Result<(Folder, &[u8]), Unkept> {
    let Some((path, prepared)) = batch.output(nth) else {
        return Err(Error::Internal(format!("step {nth} of a batch has no folder")).into());
    };
    let refuse = |why: &str| {
        let path = printable(path.as_os_str().as_bytes());
        Err(Unkept::Refused(format!("the folder of its outputs (`{path}`) {why}")))
    };
    match batch.open_output(nth) {
        Ok(Some(folder)) => Ok((folder, prepared)),
        Ok(None) => Err(not_in_place("replaced", path)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
            Err(not_in_place("removed, renamed or replaced", path))
        }
        Err(Errno::XDEV) => refuse("is a mount point; unmount it before the script ends"),
        Err(Errno::ACCESS | Errno::PERM) => refuse("can't be read; look at its owner and mode"),
        Err(err) => Ok(Err(err).or_io("look at", path)?),
    }
}

/// A folder for outputs is not what it was, but `found`.
fn not_in_place(found: &str, path: &Path) -> Unkept {
    let path = printable(path.as_os_str().as_bytes());
    Unkept::Refused(format!(
        "OUTPUT_DIR (`{path}`) was {found}; empty it with rm -rf \"$OUTPUT_DIR\"/* and leave the folder itself"
    ))
}

/// chattr +i or +a, which only root can have set.
fn is_forbidden(file: impl AsFd) -> bool {
    rustix::fs::ioctl_getflags(file)
        .is_ok_and(|flags| flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND))
}

/// Whether a folder is the prepared one, or above it.
fn is_prepared(prepared: &[u8], path: &[u8]) -> bool {
    prepared.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
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
