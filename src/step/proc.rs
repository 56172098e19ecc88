//! Single processes, by number and by what /proc tells of them. Unaware of who started them.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::text::printable;

/// Looks at a process without an environment before it is believed to have none: just after exec there
/// is a moment in which the kernel shows nothing.
const BLANK_LOOKS: u32 = 3;

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
    pub(super) group: i32,
    /// Clock ticks since boot: with the number, it names one process for ever.
    pub(super) start: u64,
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
        Some(Process {
            pid,
            name,
            is_zombie: matches!(*fields.first()?, "Z" | "X"),
            group: fields.get(2)?.parse().ok()?,
            start: fields.get(19)?.parse().ok()?,
        })
    }

    /// Whether its environment holds an OUTPUT_DIR or a TMPDIR in this scratch.
    pub(super) fn is_from(&self, scratch: &Path, blank: &mut HashSet<(i32, u64)>) -> bool {
        if blank.contains(&(self.pid, self.start)) {
            return false;
        }
        for _ in 0..BLANK_LOOKS {
            match fs::read(format!("/proc/{}/environ", self.pid)) {
                Ok(environment) if environment.is_empty() => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(environment) => return holds_cookie(&environment, scratch),
                // Another user's by now, or gone.
                Err(_) => return false,
            }
        }
        blank.insert((self.pid, self.start));
        false
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
