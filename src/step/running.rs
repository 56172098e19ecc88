//! Which steps run just now, asked from outside. A run never writes it down: that would cost something a
//! step, and a kill would leave it wrong. The children of the runner know who they are, by their
//! environment, and since when, by their process; what a killed runner left is nobody's child.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A script that runs.
#[derive(Debug, Clone)]
pub struct Running {
    pub step: i64,
    pub task: String,
    /// INPUT_NAME
    pub input: Vec<u8>,
    pub attempt: i64,
    pub pid: u32,
    pub elapsed: Duration,
    /// What it prints goes there, and so will the next step's.
    pub log: PathBuf,
    /// With the pid: which process it is.
    started: u64,
}

impl Running {
    /// True if it still runs; then all that was read from its log before is its own.
    pub fn is_alive(&self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.started == self.started && !stat.is_zombie)
    }
}

/// The scripts that the process `runner` has started and whose scratch is below `scratch_root`, by step.
pub fn running(runner: u32, scratch_root: &Path) -> Vec<Running> {
    let Ok(root) = scratch_root.canonicalize() else { return Vec::new() };
    let mut running: Vec<Running> =
        children(runner).into_iter().filter_map(|pid| look(pid, runner, &root)).collect();
    running.sort_by_key(|running| running.step);
    running
}

fn look(pid: u32, runner: u32, root: &Path) -> Option<Running> {
    let before = stat(pid).filter(|stat| stat.parent == runner && !stat.is_zombie)?;
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let get = |name: &str| {
        environment.split(|byte| *byte == 0).find_map(|variable| {
            variable.strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"="))
        })
    };
    let number =
        |name: &str| get(name).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    // Between fork and exec it still has the runner's own environment.
    let output = Path::new(std::ffi::OsStr::from_bytes(get("OUTPUT_DIR")?));
    let room = output.parent().filter(|room| room.starts_with(root))?;
    Some(Running {
        step: number("STEP_ID")?,
        task: String::from_utf8_lossy(get("TASK_NAME")?).into_owned(),
        input: OsString::from_vec(get("INPUT_NAME")?.to_vec()).into_vec(),
        attempt: number("ATTEMPT")?,
        pid,
        elapsed: since(before.started)?,
        log: room.join("log"),
        started: before.started,
    })
}

struct Stat {
    parent: u32,
    is_zombie: bool,
    /// In ticks since the machine came up.
    started: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // `pid (name) state ppid …`, and the name may hold anything.
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // proc(5) counts the state as field 3.
    let field = |number: usize| fields.get(number - 3).copied();
    Some(Stat {
        parent: field(4)?.parse().ok()?,
        is_zombie: matches!(field(3)?, "Z" | "X"),
        started: field(22)?.parse().ok()?,
    })
}

/// Time since a process began.
fn since(ticks: u64) -> Option<Duration> {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
    let began = ticks as f64 / per_second as f64;
    Some(Duration::from_secs_f64((uptime - began).max(0.0)))
}

/// Processes that any thread of `runner` started; where the kernel doesn't list them, all there are.
fn children(runner: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{runner}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().flat_map(str::parse::<u32>)),
            // The thread has ended, or there is no such file.
            Err(_) if thread.path().join("stat").exists() => return everybody(),
            Err(_) => {}
        }
    }
    found
}

fn everybody() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
