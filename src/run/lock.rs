//! One runner per database: a flock on `DB/lock`, which the kernel drops however the runner dies.
//! Never on the database file itself: closing a descriptor of that would drop SQLite's own locks.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, OrIo, Result};
use crate::progress::{Event, Progress};

/// Permission to change a database folder. Given back when dropped.
#[derive(Debug)]
pub struct RunLock {
    file: File,
}

/// How often `--wait` looks again.
const POLL: Duration = Duration::from_millis(100);

/// A runner that was killed while it started a script leaves a child that has the lock until its exec
/// closes it: moments, or seconds where the machine is busy.
const INHERITED: Duration = Duration::from_secs(10);

/// Between taking the lock and signing it there is a moment in which the file names nobody. So long it
/// is read again before that is believed.
const SIGNING: Duration = Duration::from_millis(500);

/// How often it is looked at meanwhile.
const SHORT_POLL: Duration = Duration::from_millis(5);

impl RunLock {
    /// Takes the lock, or with `wait` waits for it, saying whom for.
    ///
    /// # Errors
    /// [`Error::Locked`] with the holder.
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
            match fs2::FileExt::try_lock_exclusive(&file) {
                Ok(()) => break,
                Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(err) => return Err(err).or_io("lock", &path),
            }
            let holder = holder(&mut file);
            let patience = match signer(&holder) {
                None => SIGNING,
                Some(pid) if is_gone(pid) => INHERITED,
                Some(_) => Duration::ZERO,
            };
            if begun.elapsed() < patience {
                std::thread::sleep(SHORT_POLL);
                continue;
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

    /// Says in the file who holds it: information, not protection.
    fn sign(&mut self, path: &PathBuf) -> Result<()> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let text = format!(
            "pid {} on {}, since {}\n",
            std::process::id(),
            host.trim(),
            crate::text::utc(super::now_ms())
        );
        self.file.set_len(0).or_io("sign the lock", path)?;
        self.file.seek(SeekFrom::Start(0)).or_io("sign the lock", path)?;
        self.file.write_all(text.as_bytes()).or_io("sign the lock", path)
    }
}

impl Drop for RunLock {
    fn drop(&mut self) {
        // So that the next one's rivals can't take us for the holder.
        let _ = self.file.set_len(0);
        // Said explicitly, because a script that was never ended may have inherited the descriptor if
        // some library forgot close-on-exec.
        let _ = fs2::FileExt::unlock(&self.file);
    }
}

/// The process that has the lock now, if it is one that can be seen from here. Only reads: for a moment
/// even a shared lock of ours would be in a runner's way.
pub(crate) fn runner(db_dir: &Path) -> Option<u32> {
    let mut file = File::open(db_dir.join("lock")).ok()?;
    let inode = file.metadata().ok()?.ino();
    let pid = signer(&holder(&mut file)).filter(|pid| !is_gone(*pid))?;
    // A signature outlives its writer, and the number may have gone to somebody else since. Each line is
    // `1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF`.
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else { return Some(pid) };
    let is_held = locks.lines().any(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let place = words.get(5).and_then(|place| place.rsplit(':').next());
        words.get(1) == Some(&"FLOCK")
            && words.get(4).and_then(|word| word.parse().ok()) == Some(pid)
            && place.and_then(|place| place.parse().ok()) == Some(inode)
    });
    is_held.then_some(pid)
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

/// True if the process that signed the lock has ended, reaped or not. It is not believed for ever: the
/// pid may be one of another container.
fn is_gone(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
        Err(err) => err.kind() == std::io::ErrorKind::NotFound && Path::new("/proc/self").exists(),
    }
}
