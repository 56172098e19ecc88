//! Which steps run just now, asked from outside. A run never writes it down: that would cost something a
//! step, and a kill would leave it wrong. The children of the runner know who they are, by their
//! environment, and since when, by their process; what a killed runner left is nobody's child.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use crate::order;
use crate::sys::proc::{self, Process};
use crate::text::unescaped;

/// Name of the list, in a worker's folder, of the steps that share the script.
pub(super) const STEPS: &str = "steps";

/// Bytes of that list that are read.
const LONGEST_LIST: u64 = 64 << 20;

/// A step whose script runs. Those of a batch share one.
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

/// The steps whose scripts the process `runner` has started, with a scratch below `scratch_root`, by step.
pub fn running(runner: u32, scratch_root: &Path) -> Vec<Running> {
    let Ok(runner) = i32::try_from(runner) else { return Vec::new() };
    let Ok(root) = scratch_root.canonicalize() else { return Vec::new() };
    let children = proc::children_of(runner).into_iter();
    let mut running: Vec<Running> =
        children.filter_map(|pid| look(pid, runner, &root)).flatten().collect();
    order::sort_by_key(&mut running, |running| running.step);
    running
}

fn look(pid: i32, runner: i32, root: &Path) -> Option<Vec<Running>> {
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
    let folder = Path::new(OsStr::from_bytes(get("OUTPUT_DIR").or(get("BATCH_DIR"))?));
    let room = folder.parent().filter(|room| room.starts_with(root))?;
    let one = Running {
        step: number("STEP_ID").unwrap_or_default(),
        task: String::from_utf8_lossy(get("TASK_NAME")?).into_owned(),
        input: get("INPUT_NAME").unwrap_or_default().to_vec(),
        attempt: number("ATTEMPT").unwrap_or_default(),
        pid,
        elapsed: before.age()?,
        log: room.join("log"),
        started: before.started,
    };
    if get("OUTPUT_DIR").is_some() {
        return (one.step > 0).then(|| vec![one]);
    }
    let of_batch = |(step, attempt, input)| Running { step, attempt, input, ..one.clone() };
    let steps = listed(CWD, &room.join(STEPS))?.into_iter().map(of_batch).collect();
    // Then the list was not the next script's.
    one.is_alive().then_some(steps)
}

/// Step, attempt and INPUT_NAME of each that shares a script.
pub(super) fn listed(dir: BorrowedFd<'_>, list: &Path) -> Option<Vec<(i64, i64, Vec<u8>)>> {
    // Scripts may have put anything in its place.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let list = rustix::fs::openat(dir, list, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&list).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut text = String::new();
    File::from(list).take(LONGEST_LIST).read_to_string(&mut text).ok()?;
    let step = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let mut number = || words.next()?.parse().ok();
        let (step, attempt) = (number()?, number()?);
        Some((step, attempt, unescaped(words.next()?.as_bytes())?))
    };
    Some(text.lines().filter_map(step).collect())
}
