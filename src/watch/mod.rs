//! Waits until one of the files that a run reads changes. Unaware of manifests, runs and databases.
//!
//! inotify reports what happens in a folder. So we watch every folder that holds, or could come to hold, a file that
//! is read, and every folder above those, because any of them may be moved away and replaced. Other
//! things happen in these folders too; their paths tell them apart.
//!
//! A watcher is never updated. After a change the caller creates a new watcher *before* it reads anything
//! again, so that no change during the reading is missed. A new folder, or an overflow of the kernel's queue, is
//! therefore a change like any other.

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
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::error::{OrIo, Result};
use crate::sys::proc;
use crate::text::{path_bytes, printable};

pub use plan::{Reads, Tree};

use plan::WatchPlan;

/// Quiet period: a change is reported only once nothing has changed for this long. Saving a file is several
/// changes, and unpacking an archive many.
const QUIET: Duration = Duration::from_millis(100);

/// Upper limit of that: a program that writes all the time must not hold back the report for ever.
const LONGEST: Duration = Duration::from_secs(2);

/// Events of interest in a folder whose files are read.
const FILES: WatchFlags = FOLDERS
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    // The executable bit is part of an input.
    .union(WatchFlags::ATTRIB);

/// Events of interest in a folder that only leads to files that are read.
const FOLDERS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    // A folder may be reached by two paths, once for its files and once on the way to others.
    .union(WatchFlags::MASK_ADD);

/// Collects changes from the moment it is created.
pub struct Watcher {
    inotify: OwnedFd,
    /// By watch descriptor: the paths by which the caller knows the folder.
    folders: HashMap<i32, Vec<PathBuf>>,
    plan: WatchPlan,
}

/// What has changed; never empty once returned.
#[derive(Debug, Default)]
pub struct Changes {
    paths: BTreeSet<PathBuf>,
    /// The kernel's queue overflowed, so some changes are unknown.
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
    /// Starts watching. Files that don't exist yet are noticed when they appear.
    ///
    /// # Errors
    /// If a limit of the system on watches is reached, or a folder can't be watched.
    pub fn new(reads: Reads) -> Result<Watcher> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let inotify = inotify.map_err(|err| limit(err, "max_user_instances"));
        let inotify = inotify.or_system("watch files")?;
        let mut folders: HashMap<i32, Vec<PathBuf>> = HashMap::new();
        let plan = WatchPlan::new(reads, &mut |folder, has_files| {
            let flags = if has_files { FILES } else { FOLDERS };
            match inotify::add_watch(&inotify, folder, flags) {
                Ok(watch) => {
                    let names = folders.entry(watch).or_default();
                    if !names.iter().any(|known| known == folder) {
                        names.push(folder.to_owned());
                    }
                    Ok(())
                }
                // Missing: the folder above reports when it appears. Unreadable: the run can't read it either.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP) => Ok(()),
                Err(err) => Err(limit(err, "max_user_watches")).or_io("watch", folder),
            }
        })?;
        Ok(Watcher { inotify, folders, plan })
    }

    /// Waits for a change, and then for a moment without further ones.
    ///
    /// # Errors
    /// If inotify fails.
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
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(changes),
                Ok(_) | Err(Errno::INTR) => {}
                Err(err) => return Err(err).or_system("wait for changes"),
            }
            let has_changed = self.take(&mut changes).or_system("read changes")?;
            if has_changed && begun.is_none() {
                begun = Some(Instant::now());
            }
            if begun.is_some_and(|begun| begun.elapsed() >= LONGEST) {
                return Ok(changes);
            }
        }
    }

    /// Reads all pending events; true if some of them matter.
    fn take(&self, changes: &mut Changes) -> Result<bool, Errno> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut has_changed = false;
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
                has_changed = true;
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
                if name.is_none() || self.plan.matters(folder, &path, is_dir) {
                    has_changed = true;
                    changes.paths.insert(path);
                }
            }
        }
        debug_assert!(!has_changed || !changes.is_empty());
        Ok(has_changed)
    }
}

/// Explains an error that means a limit is reached; the kernel calls it "No space left on device".
fn limit(err: Errno, name: &str) -> io::Error {
    if !matches!(err, Errno::NOSPC | Errno::MFILE) {
        return err.into();
    }
    let limit = proc::setting(&format!("fs/inotify/{name}"));
    io::Error::other(format!(
        "the limit of {} per user is reached; raise it with `sysctl fs.inotify.{name}=…`",
        limit
    ))
}
