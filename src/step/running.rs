//! Which steps run just now, asked from outside. A run never writes it down: that would cost something a
//! step, and a kill would leave it wrong. The children of the runner know who they are, by their
//! environment, and since when, by their process; what a killed runner left is nobody's child.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::order;
use crate::sys::proc::{self, Process};

/// A script that runs.
#[derive(Debug, Clone)]
pub struct Running {
    pub step: i64,
    pub task: String,
    /// INPUT_NAME
    pub input: Vec<u8>,
    pub attempt: i64,
    pub pid: i32,
    pub elapsed: Duration,
    /// What it prints goes there, and so will the next step's.
    pub log: PathBuf,
    /// With the pid: which process it is.
    started: u64,
}

impl Running {
    /// True if it still runs; then all that was read from its log before is its own.
    pub fn is_alive(&self) -> bool {
        Process::read(self.pid)
            .is_some_and(|process| process.started == self.started && !process.is_zombie)
    }
}

/// The scripts that the process `runner` has started and whose scratch is below `scratch_root`, by step.
pub fn running(runner: u32, scratch_root: &Path) -> Vec<Running> {
    let Ok(runner) = i32::try_from(runner) else { return Vec::new() };
    let Ok(root) = scratch_root.canonicalize() else { return Vec::new() };
    let mut running: Vec<Running> =
        proc::children_of(runner).into_iter().filter_map(|pid| look(pid, runner, &root)).collect();
    order::sort_by_key(&mut running, |running| running.step);
    running
}

fn look(pid: i32, runner: i32, root: &Path) -> Option<Running> {
    let before =
        Process::read(pid).filter(|process| process.parent == runner && !process.is_zombie)?;
    let environment = proc::environment(pid).ok()?;
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
        elapsed: before.age()?,
        log: room.join("log"),
        started: before.started,
    })
}
