//! flock(2): the only door to fs2. Its methods are written `FileExt::` in full, because std has grown methods of
//! the same names.
//!
//! A lock belongs to the open file, not to the process: who opens the file a second time can lock itself out. It ends
//! with the last descriptor of that open file, so descriptors must not leak into scripts (std and we open with
//! close-on-exec), and unlocking is said explicitly, for a script between its fork and its exec has a copy.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use fs2::FileExt;

/// Takes the lock for oneself, if nobody has it. False if somebody does.
///
/// # Errors
/// Those of flock(2), where the file system has no locks say.
pub fn try_exclusive(file: &File) -> io::Result<bool> {
    match FileExt::try_lock_exclusive(file) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(err) => Err(err),
    }
}

/// Waits until nobody has the lock, and takes it for oneself.
///
/// # Errors
/// Those of flock(2), except for EINTR.
pub fn exclusive(file: &File) -> io::Result<()> {
    uninterrupted(|| FileExt::lock_exclusive(file))
}

/// Waits until nobody has the lock exclusively, and takes it together with others.
///
/// # Errors
/// Those of flock(2), except for EINTR.
pub fn shared(file: &File) -> io::Result<()> {
    uninterrupted(|| FileExt::lock_shared(file))
}

/// Gives the lock back.
///
/// # Errors
/// Those of flock(2).
pub fn unlock(file: &File) -> io::Result<()> {
    FileExt::unlock(file)
}

/// The processes that hold the lock of a file, as far as they can be seen from this process's container, asked
/// without touching the lock. `None` if the kernel doesn't tell.
///
/// # Errors
/// Those of fstat(2).
pub fn holders(file: &File) -> io::Result<Option<Vec<u32>>> {
    Ok(holders_of("FLOCK", 0, &file.metadata()?))
}

/// The processes that hold a write lock of fcntl(2) on a byte of a file. For one that must not be opened, because
/// closing it would drop this process's own locks.
///
/// # Errors
/// Those of stat(2).
pub fn byte_holders(path: &Path, byte: u64) -> io::Result<Option<Vec<u32>>> {
    Ok(holders_of("POSIX", byte, &std::fs::metadata(path)?))
}

fn holders_of(kind: &str, byte: u64, file: &std::fs::Metadata) -> Option<Vec<u32>> {
    let inode = file.ino();
    // Each line is `1: FLOCK  ADVISORY  WRITE 4711 fe:00:131 0 EOF`.
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        // Behind `->` stand those who wait.
        let is_it = words.get(1) == Some(&kind)
            && words.get(5)?.rsplit(':').next()?.parse() == Ok(inode)
            && (kind == "FLOCK" || words.get(3) == Some(&"WRITE"))
            && words.get(6)?.parse::<u64>().ok()? <= byte
            && words.get(7)?.parse::<u64>().map_or(true, |end| byte <= end)
            && (kind == "FLOCK" || words.get(3) == Some(&"WRITE"))
            && words.get(6)?.parse::<u64>().ok()? <= byte
            && words.get(7)?.parse::<u64>().map_or(true, |end| byte <= end);
        if is_it { words.get(4)?.parse().ok() } else { None }
    };
    Some(locks.lines().filter_map(holder).collect())
}

/// Whether a process holds the lock of a file. `None` if the kernel doesn't tell.
///
/// # Errors
/// As for [`holders`].
pub fn is_held_by(pid: u32, file: &File) -> io::Result<Option<bool>> {
    Ok(holders(file)?.map(|holders| holders.contains(&pid)))
}

fn uninterrupted(mut lock: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    loop {
        match lock() {
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_by_others_and_told_of() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (one, two) = (file.reopen().unwrap(), file.reopen().unwrap());
        let own = std::process::id();
        assert!(try_exclusive(&one).unwrap());
        assert!(!try_exclusive(&two).unwrap());
        // A machine without /proc/locks knows nothing, which is not "no".
        assert_ne!(is_held_by(own, &two).unwrap(), Some(false));
        unlock(&one).unwrap();
        assert_ne!(is_held_by(own, &two).unwrap(), Some(true));
        shared(&one).unwrap();
        shared(&two).unwrap();
        assert!(!try_exclusive(&two).unwrap());
        unlock(&one).unwrap();
        exclusive(&two).unwrap();
    }
}
