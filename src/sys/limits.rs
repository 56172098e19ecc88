//! The limit of open files. The soft one is 1,024 nearly everywhere, for the sake of programs that use select(2)
//! and can't handle more; programs that can are expected to raise it to the hard one for themselves, and to give
//! what they start the old one.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit};

/// The limit that we were started with, if we have raised it.
static ORIGINAL: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit, at most to the hard one, if it is below `needed` descriptors.
///
/// # Errors
/// Those of setrlimit(2).
pub fn raise_open_files(needed: u64) -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|soft| soft >= needed) {
        return Ok(());
    }
    let raised = limit.maximum.map_or(needed, |hard| hard.min(needed));
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit })?;
    let _ = ORIGINAL.set(limit);
    Ok(())
}

/// Gives a process that was just started the limit that we were started with. It may have been running with ours
/// for some microseconds: what it has opened meanwhile stays open.
pub fn give_back_open_files(child: Pid) {
    if let Some(original) = ORIGINAL.get() {
        // It may have ended already.
        let _ = rustix::process::prlimit(Some(child), Resource::Nofile, *original);
    }
}
