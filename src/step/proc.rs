//! Single processes, by number and by what /proc tells of them. Unaware of who started them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, Signal};

use crate::text::printable;

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

/// What /proc tells of a process.
pub(super) struct Process {
    pid: i32,
    pub(super) name: String,
    pub(super) is_zombie: bool,
    /// It has something to do: it runs, or would if there were a processor or a disk for it.
    pub(super) is_busy: bool,
    pub(super) group: i32,
    /// Where its environment lies; both 0 while it has none yet.
    environment: (u64, u64),
}

/// Whether a process comes from a certain scratch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Here,
    Elsewhere,
    /// It is in the middle of an exec or of its end, when it has no environment.
    NotYetKnown,
}

impl Process {
    pub(super) fn read(pid: i32) -> Option<Process> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // `pid (name) state ppid pgrp …`, and the name may hold anything, parentheses as well.
        let open = stat.iter().position(|byte| *byte == b'(')?;
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let name = printable(stat.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) counts the state as field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Process {
            pid,
            name,
            is_zombie: matches!(field(3)?, "Z" | "X"),
            is_busy: matches!(field(3)?, "R" | "D"),
            group: field(5)?.parse().ok()?,
            environment: (field(50)?.parse().ok()?, field(51)?.parse().ok()?),
        })
    }

    /// Looks for an OUTPUT_DIR or a TMPDIR in `scratch` in its environment.
    pub(super) fn origin(&self, scratch: &Path) -> Origin {
        let path = format!("/proc/{}/environ", self.pid);
        for _ in 0..2 {
            let environment = match fs::read(&path) {
                Ok(environment) => environment,
                // No memory: it is ending, as new kernels put it; older ones show nothing.
                Err(err) if err.raw_os_error() == Some(libc::ESRCH) => Vec::new(),
                // Another user's by now, or gone.
                Err(_) => return Origin::Elsewhere,
            };
            if holds_cookie(&environment, scratch) {
                return Origin::Here;
            }
            if !environment.is_empty() {
                return Origin::Elsewhere;
            }
            match Process::read(self.pid) {
                Some(now) if now.is_zombie => return Origin::Elsewhere,
                Some(Process { environment: (0, 0), .. }) => return Origin::NotYetKnown,
                // It is there, and empty; unless it came between the two looks.
                Some(Process { environment: (start, end), .. }) if start == end => break,
                Some(_) => {}
                None => return Origin::Elsewhere,
            }
        }
        Origin::Elsewhere
    }
}

/// Whether an environment block names a folder below `scratch` as OUTPUT_DIR or TMPDIR.
pub(super) fn holds_cookie(environment: &[u8], scratch: &Path) -> bool {
    let scratch = scratch.as_os_str().as_bytes();
    environment.split(|byte| *byte == 0).any(|variable| {
        let value = variable.strip_prefix(b"OUTPUT_DIR=").or(variable.strip_prefix(b"TMPDIR="));
        value
            .and_then(|value| value.strip_prefix(scratch))
            .is_some_and(|rest| rest.first() == Some(&b'/'))
    })
}
