//! What scripts had printed when their runner was killed. It lies in the folders of the dead run, until the next run takes
//! it into the store.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::log::{CAP, LeftLog};
use super::running::{STEPS, listed};
use super::tree::{self, Entry};
use crate::ids::{RunId, StepId};

/// One script's log, and whose it is.
pub struct Left {
    /// The run that was killed.
    pub run: RunId,
    /// Each step that the script was for, with the number of the attempt.
    pub steps: Vec<(StepId, i64)>,
    log: LeftLog,
}

impl Left {
    /// The log, as far as it had been read from the script.
    pub fn read(&self) -> impl Read {
        self.log.read()
    }
}

/// The logs that dead runs have left below `scratch_root`: of attempts that nothing else is known of. Whatever can't be
/// read is passed over. One system call or two if the folder is empty or missing.
///
/// The runs whose folders these are have to be dead: a log that is being written is found too.
pub fn left_logs(scratch_root: &Path) -> Vec<Left> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(root) = rustix::fs::openat(CWD, scratch_root, flags, Mode::empty()) else {
        return Vec::new();
    };
    let mut left = Vec::new();
    for run in folders(root.as_fd()) {
        // `12-4711`; a repair's attempts are nobody's.
        let number = std::str::from_utf8(&run.name).ok().and_then(|name| name.split_once('-'));
        let Some(number) = number.and_then(|(run, _)| run.parse().ok()) else { continue };
        let Ok(dir) = tree::open_folder(root.as_fd(), &run.name) else { continue };
        for worker in folders(dir.as_fd()) {
            let Ok(worker) = tree::open_folder(dir.as_fd(), &worker.name) else { continue };
            let Some(log) = LeftLog::find(worker.as_fd(), CAP) else { continue };
            let steps = match log.of() {
                (0, _) => {
                    let listed = listed(worker.as_fd(), Path::new(STEPS)).unwrap_or_default();
                    listed.into_iter().map(|(step, number, _)| (StepId(step), number)).collect()
                }
                (step, number) => vec![(StepId(step), number)],
            };
            left.push(Left { run: RunId(number), steps, log });
        }
    }
    left
}

/// The folders in a folder.
fn folders(dir: BorrowedFd<'_>) -> Vec<Entry> {
    let mut entries = tree::list(dir).unwrap_or_default();
    entries.retain(|entry| entry.kind == FileType::Directory);
    entries
}
