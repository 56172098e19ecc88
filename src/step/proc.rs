//! Processes of a step: signalled by number, and known by their environment.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, Signal};

use crate::sys::proc::{self, Process};

/// Signals a group whose number is known to be ours. That all of it has ended meanwhile is no error.
pub(super) fn signal_group(group: i32, signal: Signal) {
    if let Some(group) = pid(group) {
        let _ = rustix::process::kill_process_group(group, signal);
    }
}

/// A process number as rustix has it; none for 0 and below, which would mean groups.
pub(super) fn pid(number: i32) -> Option<Pid> {
    (number > 0).then(|| Pid::from_raw(number)).flatten()
}

/// Whether a process comes from a certain scratch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Belonging {
    Here,
    Elsewhere,
    /// It is in the middle of an exec or of its end, when it has no environment.
    NotYetKnown,
}

impl Belonging {
    /// Looks for an OUTPUT_DIR, a BATCH_DIR or a TMPDIR in `scratch` in a process's environment.
    pub(super) fn of(pid: i32, scratch: &Path) -> Belonging {
        for _ in 0..2 {
            let environment = match proc::environment(pid) {
                Ok(environment) => environment,
                // No memory: it is ending, as new kernels put it; older ones show nothing.
                Err(err) if err.raw_os_error() == Some(libc::ESRCH) => Vec::new(),
                // Another user's by now, or gone.
                Err(_) => return Belonging::Elsewhere,
            };
            if holds_cookie(&environment, scratch) {
                return Belonging::Here;
            }
            if !environment.is_empty() {
                return Belonging::Elsewhere;
            }
            match Process::read(pid) {
                Some(now) if now.is_zombie => return Belonging::Elsewhere,
                Some(now) if now.is_between_programs() => return Belonging::NotYetKnown,
                // It is there, and empty; unless it came between the two looks.
                Some(now) if now.has_empty_environment() => return Belonging::Elsewhere,
                Some(_) => {}
                None => return Belonging::Elsewhere,
            }
        }
        Belonging::NotYetKnown
    }
}

/// Whether an environment block names a folder below `scratch` as one of its script.
pub(super) fn holds_cookie(environment: &[u8], scratch: &Path) -> bool {
    cookies(environment, scratch).next().is_some()
}

/// The paths below `scratch` that an environment block names as OUTPUT_DIR, BATCH_DIR or TMPDIR.
pub(super) fn cookies<'e>(
    environment: &'e [u8],
    scratch: &'e Path,
) -> impl Iterator<Item = &'e [u8]> {
    let scratch = scratch.as_os_str().as_bytes();
    environment.split(|byte| *byte == 0).filter_map(move |variable| {
        let names: [&[u8]; 3] = [b"OUTPUT_DIR=", b"BATCH_DIR=", b"TMPDIR="];
        let value = names.into_iter().find_map(|name| variable.strip_prefix(name))?;
        value.strip_prefix(scratch)?.strip_prefix(b"/")
    })
}
