//! What a runner that was killed with -9 has left: processes that still write, and their folders.
//!
//! A process is a survivor if its environment says that it works in the folder of a dead run *and* that folder is
//! ours: the path alone may lead to another folder where the process is, in a container, or have led to another one
//! when the process began.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::process::{PidfdFlags, Signal};

use super::proc::{cookies, pid};
use super::{tmp, tree};
use crate::error::{OrIo, Result};
use crate::sys::proc::{self, Process};

/// A killed process has so long to be gone; only one that hangs in the kernel needs more.
const PATIENCE: Duration = Duration::from_secs(10);

/// For this long a process in the middle of an exec is awaited, looked at again after such a pause.
const EXEC_PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// Rounds over all processes: a survivor may start another one while we look.
const ROUNDS: usize = 20;

/// Kills the processes of earlier runs on this database, known by an OUTPUT_DIR or TMPDIR below
/// `scratch_root`, and removes the folders of those runs. The caller holds the run lock, so that all of them are
/// dead. Gives the number of processes killed. One system call or two if the folder
/// is empty or missing.
///
/// # Errors
/// [`Error::Io`](crate::error::Error::Io) if the folder can't be listed, processes can't be looked at, one won't die, or a
/// folder can't be removed.
pub fn end_survivors(scratch_root: &Path) -> Result<usize> {
    let scratch_root = std::path::absolute(scratch_root).or_io("find the folder", scratch_root)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root: OwnedFd = match rustix::fs::openat(CWD, &scratch_root, flags, Mode::empty()) {
        Err(rustix::io::Errno::NOENT) => return Ok(0),
        opened => opened.or_io("open", &scratch_root)?,
    };
    let mut stale = tree::list(root.as_fd()).or_io("list", &scratch_root)?;
    // Whatever else lies there is somebody else's.
    stale.retain(|entry| entry.kind == FileType::Directory && is_name_of_run(&entry.name));
    if stale.is_empty() {
        return Ok(0);
    }
    let mut runs = HashMap::with_capacity(stale.len());
    for entry in &stale {
        let stat = rustix::fs::statat(&root, entry.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
            .or_io("look into", &scratch_root)?;
        runs.insert(entry.name.clone(), (stat.st_dev, stat.st_ino));
    }
    let dead = DeadRuns { root: &scratch_root, runs };
    let mut ended = 0;
    for _ in 0..ROUNDS {
        let killed = kill_all(&dead)?;
        if killed == 0 {
            break;
        }
        ended += killed;
    }
    for entry in stale {
        let removed = match remove_run(root.as_fd(), &entry.name) {
            // Its last users are dead, but FUSE has yet to hear of it. The next run tries again.
            Err(err) if tree::is_put_off(&err) => Ok(()),
            done => done.map_err(name_mounts),
        };
        removed.or_io("remove", scratch_root.join(OsStr::from_bytes(&entry.name)))?;
    }
    Ok(ended)
}

/// Removes the scratch of a run that has ended. Enters nothing that a script has mounted there.
///
/// # Errors
/// What can't be removed: the next run tries again.
pub fn remove_scratch(folder: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
    remove_run(parent.as_fd(), name.as_bytes())
}

/// Removes the folder of a run, and the TMPDIRs that its workers have elsewhere.
fn remove_run(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    if let Ok(run) = tree::open_folder(parent, name) {
        for worker in tree::list(run.as_fd())? {
            if worker.kind == FileType::Directory
                && let Ok(worker) = tree::open_folder(run.as_fd(), &worker.name)
            {
                tmp::remove_elsewhere(worker.as_fd())?;
            }
        }
    }
    tree::remove(parent, name)
}

/// One round: all at once, then the wait for each.
fn kill_all(dead: &DeadRuns<'_>) -> Result<usize> {
    let mut dying = Vec::new();
    for number in proc::all().or_system("list the processes")? {
        if number == std::process::id() as i32 || !dead.have_left(number) {
            continue;
        }
        // Held from before the second look, so that the one killed is the one looked at.
        let Some(process) = pid(number) else { continue };
        let Ok(process) = rustix::process::pidfd_open(process, PidfdFlags::empty()) else {
            continue;
        };
        if !dead.have_left(number) {
            continue;
        }
        rustix::process::pidfd_send_signal(&process, Signal::KILL)
            .or_io("end a process left by an earlier run,", proc::folder(number))?;
        dying.push((number, process));
    }
    let deadline = Instant::now() + PATIENCE;
    for (number, process) in &dying {
        wait_until_gone(process, deadline).or_io(
            "wait for the end of a process left by an earlier run,",
            proc::folder(*number),
        )?;
    }
    Ok(dying.len())
}

/// Says what "invalid cross-device link" and "resource busy" mean here.
fn name_mounts(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EXDEV | libc::EBUSY) => {
            io::Error::other("a script has left something mounted in it; unmount that (umount)")
        }
        _ => error,
    }
}

/// Runs whose folders lie in `root`.
struct DeadRuns<'a> {
    root: &'a Path,
    /// Device and inode of each folder, by name.
    runs: HashMap<Vec<u8>, (u64, u64)>,
}

impl DeadRuns<'_> {
    /// Whether a process is a survivor of one of them.
    fn have_left(&self, number: i32) -> bool {
        let Some(environment) = environment(number) else { return false };
        cookies(&environment, self.root).any(|rest| {
            let name = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
            let Some(ours) = self.runs.get(name) else { return false };
            // In our own mount namespace the path means what it means to us, even after a chroot.
            proc::shares_mounts(number)
                || proc::identity_seen_by(number, &self.root.join(OsStr::from_bytes(name)))
                    == Some(*ours)
        })
    }
}

/// The environment of a process, awaited while it is in the middle of an exec. `None`: unreadable, for it is another
/// user's, or gone; either way none of ours.
fn environment(number: i32) -> Option<Vec<u8>> {
    let began = Instant::now();
    loop {
        let environment = proc::environment(number).ok()?;
        // A thread of the kernel and a zombie have no environment either, and no program.
        let is_between_programs = environment.is_empty()
            && proc::has_program(number)
            && Process::read(number).is_some_and(|process| process.is_between_programs());
        if !is_between_programs || began.elapsed() >= EXEC_PATIENCE {
            return Some(environment);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether a folder is called as the scratch of a run (`12-4711`) or of a repair (`repair-4711`).
fn is_name_of_run(name: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else { return false };
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    name.split_once('-')
        .is_some_and(|(run, pid)| (run == "repair" || is_number(run)) && is_number(pid))
}

fn wait_until_gone(process: &OwnedFd, deadline: Instant) -> io::Result<()> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        let mut polled = [PollFd::new(process, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(err) => return Err(err.into()),
        }
    }
}
