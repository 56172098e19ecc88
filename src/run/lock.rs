//! One runner per database: a flock on `DB/lock`, which the kernel drops however the runner dies.
//! Never on the database file itself: closing a descriptor of that would drop SQLite's own locks.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::attempt::var;
use crate::error::{Error, OrIo, Result};
use crate::progress::{Event, Progress};
use crate::sys::clock::now_ms;
use crate::sys::{flock, proc};

/// Permission to change a database folder, until dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
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
            // Signing would overwrite what a link leads to.
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .or_io("open the lock", &path)?;
        let begun = Instant::now();
        let mut told = false;
        loop {
            if flock::try_exclusive(&file).or_io("lock", &path)? {
                break;
            }
            let holder = holder(&mut file);
            let patience = match signer(&holder) {
                None => SIGNING,
                Some(pid) if has_ended(pid) => INHERITED,
                Some(_) => Duration::ZERO,
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
        let mut lock = RunLock { file };
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
        let _ = flock::unlock(&self.file);
    }
}

/// The process that has the lock now, if it can be seen from here. Only reads: taking even a shared lock for a moment
/// would be in a runner's way.
pub(crate) fn runner(db_dir: &Path) -> Option<u32> {
    let mut file = File::open(db_dir.join("lock")).ok()?;
    let pid = signer(&holder(&mut file)).filter(|pid| !has_ended(*pid))?;
    // A signature outlives its writer, and its number may belong to another process by now.
    (flock::is_held_by(pid, &file).ok()? != Some(false)).then_some(pid)
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
