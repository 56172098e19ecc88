//! Limits of processes and of open files. The soft one of these is 1,024 nearly everywhere, for the sake of
//! programs that use select(2) and can't handle more; programs that can are expected to raise it to the hard one
//! for themselves, and to give what they start the old one.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit};

/// The limit that we were started with, if we have raised it.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit, at most to the hard one, if it is below `needed` descriptors. Returns what it is now.
///
/// # Errors
/// Those of setrlimit(2).
pub fn raise_open_files(needed: u64) -> io::Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    if soft >= needed {
        return Ok(soft);
    }
    let raised = limit.maximum.map_or(needed, |hard| hard.min(needed));
    if raised > soft {
        rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit })?;
        let _ = ORIGINAL.set(limit);
    }
    Ok(raised)
}

/// The limit that we were started with, if we have raised it. Scripts get it back before they begin: a limit that is
/// set from outside comes too late on a busy machine.
pub fn original_open_files() -> Option<Rlimit> {
    ORIGINAL.get().copied()
}

/// How many processes this user may have, if there is a limit. Root may have more.
pub fn processes() -> Option<u64> {
    rustix::process::getrlimit(Resource::Nproc).current
}
