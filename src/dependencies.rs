//! The files that steps have said they read: what their inodes say, and what is in them. Unaware of who asks, and of
//! what was planned.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use crate::db::{Db, Dependencies, DependencyFile, Stat};
use crate::error::{Error, OrIo, Result};
use crate::object::{FieldHasher, ObjectHash};
use crate::sys::clock::{is_racy, now_ns};
use crate::text::{as_path, path_bytes};

/// Where the paths in depfiles lead.
pub(crate) struct DependencyFiles {
    /// The manifest's folder.
    dir: PathBuf,
    folder: OwnedFd,
    /// Nothing in it is ever opened: on closing it, SQLite's locks would be dropped.
    db_dir: PathBuf,
    /// Calls that have asked for an inode.
    stats: AtomicU64,
}

/// What a file is that a step has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileContent {
    /// A file; or a folder, whose content is the names in it. The inode is as it was before and after it was read, and
    /// [untrusted](Stat::UNTRUSTED) if it can't tell a later change.
    Of(ObjectHash, Stat),
    /// It has no content: a device, say.
    Special,
    /// It is not there, it can't be read, or it changes all the time.
    None,
}

/// What became of the files that results depend on.
#[derive(Debug, Default)]
pub(crate) struct DependencyScan {
    /// Those whose inode isn't what it was.
    changed: Vec<DependencyFile>,
}

/// Files that are worth another thread.
const SHARE: usize = 2_000;

/// Threads that ask for inodes.
const READERS: usize = 8;

impl DependencyFiles {
    /// # Errors
    /// If the manifest's folder can't be opened.
    pub(crate) fn new(dir: &Path, db_dir: &Path) -> Result<DependencyFiles> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, dir, flags, Mode::empty()).or_io("open", dir)?;
        let stats = AtomicU64::new(0);
        Ok(DependencyFiles { dir: dir.to_owned(), folder, db_dir: db_dir.to_owned(), stats })
    }

    /// The name of a file that a script has written into its depfile: below the manifest's folder, or absolute. `None`:
    /// it is a part of the run itself.
    pub(crate) fn name(&self, written: &[u8]) -> Option<Vec<u8>> {
        let path = as_path(written);
        let full = self.dir.join(path);
        if resolved(&full).starts_with(&self.db_dir) {
            return None;
        }
        let path = path.strip_prefix(&self.dir).unwrap_or(path);
        let plain: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        Some(match path_bytes(&plain) {
            // The manifest's folder itself.
            b"" => b".".to_vec(),
            plain => plain.to_vec(),
        })
    }

    /// How many calls have asked for an inode.
    pub(crate) fn stats(&self) -> u64 {
        self.stats.load(Ordering::Relaxed)
    }

    fn count(&self, calls: usize) {
        self.stats.fetch_add(calls as u64, Ordering::Relaxed);
    }

    /// What the inode says; [`Stat::NONE`]: there is no such file. One call.
    pub(crate) fn look(&self, path: &[u8]) -> Stat {
        self.count(1);
        look_from(self.folder.as_fd(), path)
    }

    /// The way to a file, from the root or the manifest's folder on: each folder and link of it.
    pub(crate) fn way<'p>(&self, path: &'p [u8]) -> impl Iterator<Item = &'p Path> {
        as_path(path).ancestors().filter(|step| !matches!(step.as_os_str().as_bytes(), b"" | b"/"))
    }

    /// Whether something else may have been at this place of a [way](Self::way) after the moment that
    /// [`stamp_ns`](crate::sys::clock::stamp_ns) told. To be renamed, or made anew, is a change of a folder or a link itself; what comes and goes in
    /// a folder changes its other time too. A file tells by any change of it.
    pub(crate) fn may_be_another_since(&self, path: &Path, since_ns: i64) -> bool {
        self.count(1);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let Ok(found) = rustix::fs::statat(&self.folder, path, flags) else { return true };
        let kind = FileType::from_raw_mode(found.st_mode);
        let Stat { mtime_ns, ctime_ns, .. } = Stat::of_inode(&found);
        let is_used = kind == FileType::Directory && mtime_ns == ctime_ns;
        !is_used && crate::sys::clock::may_be_since(ctime_ns, since_ns)
    }

    /// Reads a file.
    pub(crate) fn read(&self, path: &[u8]) -> FileContent {
        let full = self.dir.join(as_path(path));
        // Three looks at one that somebody is writing.
        for _ in 0..3 {
            match self.read_once(&full) {
                Ok(Some(content)) => return content,
                Ok(None) => {}
                Err(_) => return FileContent::None,
            }
        }
        FileContent::None
    }

    /// `None`: it has changed meanwhile.
    fn read_once(&self, full: &Path) -> io::Result<Option<FileContent>> {
        self.count(2);
        let found = std::fs::metadata(full)?;
        let (before, kind) = (Stat::of(&found), found.file_type());
        if full.canonicalize()?.starts_with(&self.db_dir) {
            return Ok(Some(FileContent::None));
        }
        let now_ns = now_ns();
        let object = match () {
            () if kind.is_dir() => names_in(full)?,
            () if kind.is_file() => {
                // What has become a FIFO in between must not hang us.
                let flags = OFlags::NONBLOCK.bits() as i32;
                let mut file = File::options().read(true).custom_flags(flags).open(full)?;
                ObjectHash::of_stream(&mut file)?
            }
            () => return Ok(Some(FileContent::Special)),
        };
        let after = Stat::of(&std::fs::metadata(full)?);
        if after != before {
            return Ok(None);
        }
        let after = Stat { executable: false, ..after };
        let stat = match is_racy(after.ctime_ns, now_ns) {
            true => Stat { mtime_ns: Stat::UNTRUSTED, ..after },
            false => after,
        };
        Ok(Some(FileContent::Of(object, stat)))
    }

    /// Takes the stat of every file that results depend on.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) fn scan(&self, db: &Db) -> Result<DependencyScan> {
        let mut files = Vec::new();
        db.read(|reader| Dependencies::each(reader, &mut |file| files.push(file)))?;
        self.count(files.len());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = threads.min(READERS).min(files.len() / SHARE).max(1);
        let share = files.len().div_ceil(threads).max(1);
        let folder = self.folder.as_fd();
        let is_same = |file: &DependencyFile| look_from(folder, &file.path) == file.stat;
        let same: Result<Vec<Vec<bool>>> = std::thread::scope(|scope| {
            let mut parts = files.chunks(share);
            let first = parts.next().unwrap_or_default();
            let others: Vec<_> = parts
                .map(|part| {
                    let look = move || part.iter().map(is_same).collect();
                    std::thread::Builder::new().spawn_scoped(scope, look)
                })
                .collect();
            let mut same = vec![first.iter().map(is_same).collect()];
            for thread in others {
                let part = thread.or_system("start a thread")?.join();
                same.push(
                    part.map_err(|_| Error::Internal("looking at files panicked".to_owned()))?,
                );
            }
            Ok(same)
        });
        let mut same = same?.into_iter().flatten();
        files.retain(|_| same.next() != Some(true));
        Ok(DependencyScan { changed: files })
    }
}

impl DependencyScan {
    /// True if nothing has changed, as far as inodes tell.
    pub(crate) fn is_quiet(&self) -> bool {
        self.changed.is_empty()
    }

    /// Reads the files whose inode isn't what it was, and leaves what they are in the temporary tables of the plan.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) fn note(&mut self, db: &Db, files: &DependencyFiles) -> Result<()> {
        let mut read = Vec::with_capacity(self.changed.len());
        for file in self.changed.drain(..) {
            let (stat, object) = match files.read(&file.path) {
                FileContent::Of(object, stat) => (stat, Some(object)),
                FileContent::Special | FileContent::None => (nothing(files.look(&file.path)), None),
            };
            read.push((file.id, stat, object));
        }
        db.read(|reader| {
            for (id, stat, object) in read {
                Dependencies::seen(reader, id, stat, object)?;
            }
            Dependencies::all_seen(reader)
        })
    }
}

/// The inode of what has no content: one that is there is looked at again, whatever it says.
fn nothing(stat: Stat) -> Stat {
    if stat == Stat::NONE { stat } else { Stat { mtime_ns: Stat::UNTRUSTED, ..stat } }
}

fn look_from(folder: BorrowedFd<'_>, path: &[u8]) -> Stat {
    match rustix::fs::statat(folder, path, AtFlags::empty()) {
        Ok(found) => Stat { executable: false, ..Stat::of_inode(&found) },
        Err(_) => Stat::NONE,
    }
}

/// The content of a folder.
fn names_in(folder: &Path) -> io::Result<ObjectHash> {
    let names: io::Result<Vec<_>> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect();
    let mut hasher = FieldHasher::new("task-pipeline folder 1");
    for name in crate::order::set(names?) {
        hasher.field("name", name.as_bytes());
    }
    Ok(hasher.finish())
}

/// A path without `.` and `..`, links not followed.
fn resolved(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    plain
}
