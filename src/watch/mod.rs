//! Waits until something changes among the files that a run reads. Unaware of manifests, runs and databases.
//!
//! inotify tells what happens in a folder. So every folder is watched in which a file lies that is read, or
//! could come to lie, and every folder above those, because one of them may be moved away and another put
//! in its place. What else happens in them is none of our business, and is told from the rest by its path.
//!
//! Nothing is followed up: after a change the caller reads everything anew and makes a new watcher
//! *before* that, so that what happens while it reads is not missed. Hence a folder that comes to be, or an
//! overflow of the kernel's queue, is a change like any other.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::error::{OrIo, Result};
use crate::text::{path_bytes, printable};

pub use plan::{Reads, Tree};

use plan::Plan;

/// So long nothing must have changed before a change is told: saving a file is several of them, and
/// unpacking an archive many.
const QUIET: Duration = Duration::from_millis(100);

/// But who writes all the time must not keep it from being told.
const LONGEST: Duration = Duration::from_secs(2);

/// What of a folder is worth knowing if the files in it are read.
const FILES: WatchFlags = FOLDERS
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    // The executable bit counts.
    .union(WatchFlags::ATTRIB);

/// What of a folder is worth knowing if something is below it.
const FOLDERS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    // A folder with two names is watched for the sake of both.
    .union(WatchFlags::MASK_ADD);

/// Hears of changes from the moment it is made.
pub struct Watcher {
    inotify: OwnedFd,
    /// Under which names the caller knows a folder.
    folders: HashMap<i32, Vec<PathBuf>>,
    plan: Plan,
}

/// What has changed; never empty.
#[derive(Debug, Default)]
pub struct Changes {
    paths: BTreeSet<PathBuf>,
    /// More happened than the kernel could keep.
    overflowed: bool,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.overflowed
    }
}

/// As a line for the user.
impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.paths.first(), self.paths.len()) {
            (Some(path), n) if !self.overflowed => {
                let here = std::env::current_dir().unwrap_or_default();
                let path = path.strip_prefix(&here).unwrap_or(path);
                f.write_str(&printable(path_bytes(path)))?;
                if n > 1 {
                    write!(f, " and {} more", n - 1)?;
                }
                f.write_str(" changed")
            }
            _ => f.write_str("many files changed"),
        }
    }
}

impl Watcher {
    /// Begins to watch. What does not exist yet is watched for.
    ///
    /// # Errors
    /// If the system lets a user watch no more.
    pub fn new(reads: Reads) -> Result<Watcher> {
        let path = Path::new("/proc/sys/fs/inotify");
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify = inotify.map_err(|err| limit(err, "max_user_instances"));
        let inotify = inotify.or_io("watch files with", path)?;
        let mut folders: HashMap<i32, Vec<PathBuf>> = HashMap::new();
        let plan = Plan::make(reads, &mut |folder, has_files| {
            let flags = if has_files { FILES } else { FOLDERS };
            match inotify::add_watch(&inotify, folder, flags) {
                Ok(watch) => {
                    let names = folders.entry(watch).or_default();
                    if !names.iter().any(|known| known == folder) {
                        names.push(folder.to_owned());
                    }
                    Ok(())
                }
                // Then the folder above tells when it comes to be, or it can't be read by the run either.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => Ok(()),
                Err(err) => Err(limit(err, "max_user_watches")).or_io("watch", folder),
            }
        })?;
        Ok(Watcher { inotify, folders, plan })
    }

    /// Waits for a change, and until there are no more for a moment.
    ///
    /// # Errors
    /// Those of inotify.
    pub fn wait(&mut self) -> Result<Changes> {
        let mut changes = Changes::default();
        let mut begun: Option<Instant> = None;
        loop {
            let patience = begun.map(|begun| LONGEST.saturating_sub(begun.elapsed()).min(QUIET));
            let timeout = patience.map(|patience| Timespec {
                tv_sec: 0,
                tv_nsec: i64::from(patience.min(QUIET).subsec_nanos()),
            });
            let mut fds = [PollFd::new(&self.inotify, PollFlags::IN)];
            let path = Path::new("/proc/self/fd");
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(changes),
                Ok(_) | Err(Errno::INTR) => {}
                Err(err) => return Err(err).or_io("wait for changes in", path),
            }
            let is_news = self.take(&mut changes).or_io("read changes from", path)?;
            if is_news && begun.is_none() {
                begun = Some(Instant::now());
            }
            if begun.is_some_and(|begun| begun.elapsed() >= LONGEST) {
                return Ok(changes);
            }
        }
    }

    /// Takes what there is; true if some of it counts.
    fn take(&self, changes: &mut Changes) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut is_news = false;
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => continue,
                Err(err) => return Err(err),
            };
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.overflowed = true;
                is_news = true;
                continue;
            }
            let Some(folders) = self.folders.get(&event.wd()) else { continue };
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            let has_gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
            for folder in folders {
                let path = match name {
                    Some(name) => folder.join(name),
                    None if flags.intersects(has_gone) => folder.clone(),
                    None => continue,
                };
                let is_dir = name.is_none() || flags.contains(ReadFlags::ISDIR);
                if name.is_none() || self.plan.counts(folder, &path, is_dir) {
                    is_news = true;
                    changes.paths.insert(path);
                }
            }
        }
        debug_assert!(!is_news || !changes.is_empty());
        Ok(is_news)
    }
}

/// "No space left on device" is how the kernel says that a limit is reached.
fn limit(err: Errno, name: &str) -> io::Error {
    if !matches!(err, Errno::NOSPC | Errno::MFILE) {
        return err.into();
    }
    let limit = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}"));
    let limit = limit.unwrap_or_default();
    io::Error::other(format!(
        "the system lets a user have {} of these; raise it with `sysctl fs.inotify.{name}=…`",
        limit.trim()
    ))
}
