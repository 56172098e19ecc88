//! One runner per database: a flock on `DB/lock`, which the kernel drops however the runner dies.
//! Never on the database file itself: closing a descriptor of that would drop SQLite's own locks.
//!
//! And a second flock on the folder `DB` itself: people remove a lock file by hand when a run says that the database
//! is in use, and a second run beside the first one would kill its scripts.
//!
//! Process numbers tell who it is only to those in the same container. Whether there is a runner at all is told by a
//! mark on the folder, which everybody sees, see [`sys::mark`].

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::attempt::var;
use crate::error::{Error, OrIo, Result};
use crate::folder::FILE_MODE;
use crate::progress::{Event, Progress};
use crate::sys::clock::now_ms;
use crate::sys::{self, flock, proc};

/// Permission to change a database folder, until dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    /// `DB` itself, locked and marked.
    folder: File,
}

/// Who works on a database just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runner {
    /// A process that can be seen from here.
    Here(u32),
    /// One in another container, perhaps.
    Elsewhere,
}

impl Runner {
    /// Whether it can be the run that was begun by process `pid`, as that numbers itself.
    pub(crate) fn can_be(self, pid: i64) -> bool {
        match self {
            Runner::Here(here) => i64::from(here) == pid,
            Runner::Elsewhere => true,
        }
    }
}

/// Pause between two attempts of `--wait`.
const POLL: Duration = Duration::from_millis(100);

/// A runner that was killed while it started a script leaves a child that holds the lock until its exec closes the
/// descriptor. That takes moments, or seconds on a busy machine.
const INHERITED: Duration = Duration::from_secs(10);

/// Between taking the lock and signing it there is a moment in which the file names nobody. For this long an
/// unsigned lock is read again before we give up on learning its owner.
const SIGNING: Duration = Duration::from_millis(500);

/// Pause between two looks meanwhile.
const SHORT_POLL: Duration = Duration::from_millis(5);

impl RunLock {
    /// Takes the lock. If another process has it: with `wait`, says whom it waits for and does so.
    ///
    /// # Errors
    /// [`Error::Locked`] with the holder, unless `wait`; [`Error::OwnRun`] from within one of its scripts; [`Error::Io`] if the file can't be opened or locked.
    pub fn take(db_dir: &Path, wait: bool, progress: &mut dyn Progress) -> Result<RunLock> {
        let path = db_dir.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            // Signing would overwrite what a link leads to.
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .or_io("open the lock", &path)?;
        let folder = File::open(db_dir).or_io("open the database folder", db_dir)?;
        let begun = Instant::now();
        let mut told = false;
        loop {
            let has_file = flock::try_exclusive(&file).or_io("lock", &path)?;
            if has_file && flock::try_exclusive(&folder).or_io("lock", db_dir)? {
                break;
            }
            let (holder, patience) = if has_file {
                (holder_of_folder(&folder), SIGNING)
            } else {
                let holder = holder(&mut file);
                let patience = match signer(&holder) {
                    None => SIGNING,
                    Some(pid) if has_ended(pid) => INHERITED,
                    Some(_) => Duration::ZERO,
                };
                (holder, patience)
            };
            if begun.elapsed() < patience {
                std::thread::sleep(SHORT_POLL);
                continue;
            }
            if is_own_script(db_dir, &file, &holder) {
                return Err(Error::OwnRun { path: db_dir.to_owned(), holder });
            }
            if !wait {
                return Err(Error::Locked { path: db_dir.to_owned(), holder });
            }
            if !told {
                progress
                    .tell(&Event::Note(&format!("waiting: the database is in use by {holder}")));
                told = true;
            }
            std::thread::sleep(POLL);
        }
        // Where there are no such locks, readers take the run for killed; no more.
        let _ = sys::mark(folder.as_fd());
        let mut lock = RunLock { file, folder };
        lock.sign(&path)?;
        Ok(lock)
    }

    /// Writes into the file who holds it. That is information, not protection.
    fn sign(&mut self, path: &PathBuf) -> Result<()> {
        let text = format!(
            "pid {} on {}, since {}\n",
            std::process::id(),
            proc::kernel("hostname"),
            crate::text::utc(now_ms())
        );
        self.file.set_len(0).or_io("sign the lock", path)?;
        self.file.seek(SeekFrom::Start(0)).or_io("sign the lock", path)?;
        self.file.write_all(text.as_bytes()).or_io("sign the lock", path)
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // While the next holder has not signed yet, nobody must take us for the holder.
        let _ = self.file.set_len(0);
        // Explicitly, because a surviving script may have inherited the descriptor from a library that forgot
        // close-on-exec.
        let _ = flock::unlock(&self.folder);
        let _ = flock::unlock(&self.file);
    }
}

/// Who has the lock now. Only looks: taking even a shared lock for a moment would be in a runner's way.
pub(crate) fn runner(db_dir: &Path) -> Option<Runner> {
    let folder = File::open(db_dir).ok()?;
    if !sys::is_marked(folder.as_fd()).ok()? {
        return None;
    }
    let signer = File::open(db_dir.join("lock")).ok().and_then(|mut file| {
        let pid = signer(&holder(&mut file)).filter(|pid| !has_ended(*pid))?;
        // Its number may be that of another process in this container.
        (flock::is_held_by(pid, &file).ok()? != Some(false)).then_some(pid)
    });
    Some(signer.map_or(Runner::Elsewhere, Runner::Here))
}

/// Who has locked the folder, although the lock file was free.
fn holder_of_folder(folder: &File) -> String {
    let holders = flock::holders(folder).ok().flatten().unwrap_or_default();
    let who = match holders.first() {
        Some(pid) => format!("pid {pid}"),
        None => "another process".to_owned(),
    };
    format!("{who}, whose lock file was removed while it runs")
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(512).read_to_string(&mut text));
    match read {
        Ok(n) if n > 0 => crate::text::printable_line(text.trim().as_bytes()),
        _ => "another process".to_owned(),
    }
}

/// The process that a signature names.
fn signer(signature: &str) -> Option<u32> {
    signature.strip_prefix("pid ")?.split(' ').next()?.parse().ok()
}

/// True in a script of the run that holds the lock: by descent, or, for a process that has left its family, by the
/// environment that it was given.
fn is_own_script(db_dir: &Path, lock: &File, signature: &str) -> bool {
    let is_held_by = |pid: &u32| flock::is_held_by(*pid, lock).ok().flatten() != Some(false);
    let pid = signer(signature).filter(is_held_by).and_then(|pid| i32::try_from(pid).ok());
    let scratch = db_dir.join("scratch");
    let outputs = std::env::var_os(var::OUTPUT_DIR).map(PathBuf::from);
    pid.is_some_and(proc::is_ancestor)
        || outputs.is_some_and(|outputs| outputs.starts_with(scratch) && outputs.exists())
}

/// The process that signed the lock has ended.
fn has_ended(pid: u32) -> bool {
    i32::try_from(pid).is_ok_and(proc::has_ended)
}
