//! Supervises one script, from its start until nothing of it is left. Unaware of inputs and outputs.
//!
//! # Waiting
//!
//! The worker polls two descriptors: the pipe of the log, which it drains, and the leader's pidfd, which becomes
//! readable when the leader has ended. The leader stays a zombie. While the zombie exists its pid cannot be reused, so signalling its group is safe.
//! Only when nothing of the step is left, or can be
//! got rid of, is it reaped, with `wait4`, which tells what it cost. A stopped process has not ended; the
//! supervisor sends CONT after TERM.
//!
//! We wait for the process, never for the end of its output: a background `sleep 1000` may keep the pipe open as
//! long as it likes.
//!
//! # What a script leaves behind
//!
//! A process may outlive the leader in its group (`sleep 1000 &`), in a group of its own (`set -m`), or
//! in a session of its own (`setsid`, a daemon's double fork). Whichever way, with its parent dead it
//! is adopted, and by us, since the runner is a child subreaper. Adopted processes are children of the
//! first thread, while the scripts are children of the worker threads that started them; so
//! `/proc/self/task/PID/children` of the first thread lists just what was left behind by any step. One
//! `pread` of that, 1 µs, is the price of the usual case, in which it is empty.
//!
//! If it is not, each one is looked at: it is ours to end if it is in the group of our leader, or if its
//! environment holds the cookie, an OUTPUT_DIR or a TMPDIR in our scratch. A daemon that has wiped its
//! environment and left the group can't be told from somebody else's; it is left alone, and reaped when
//! it ends. Only the tops of the trees are children of ours; when such a top dies, its children
//! become the next ones. Hence: look again until there is nothing.
//!
//! First it is given a moment to end by itself: `exec > >(tee log)` leaves a `tee` that ends as soon as it
//! has read what there is, and must not be cut off. Then TERM, CONT, the grace, KILL.
//!
//! # Numbers that were passed on
//!
//! A number of a process is only signalled or reaped while it can't have been given to another one. A
//! group: while its leader is an unreaped child of ours. An orphan: it is a child of ours, so it stays at
//! least a zombie until somebody in this process reaps it, and that is done under one mutex,
//! together with the listing and the signalling. Nobody here calls `waitpid(-1)`: it would take other
//! workers' scripts away from them.
//!
//! Where the kernel has no `children` file (it is a build option, on in every distribution), the group is
//! killed when the leader has ended, and what has left the group is not found.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions};

use super::launcher::Started;
use super::log::LogPipe;
use super::memory::TreeMemory;
use super::proc::pid;
use super::supervisor::{Cause, Leftovers, Supervisor};
use crate::attempt::Usage;
use crate::error::{Error, OrIo, Result};
use crate::sys::{self, Reaped};

const LOG: &str = "keep the log of a script in";

/// How often a script is looked at where the kernel has no pidfd.
const WITHOUT_PIDFD: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// How a script ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// Set if we ended it.
    pub(super) cause: Option<Cause>,
    pub(super) usage: Usage,
    pub(super) leftovers: Leftovers,
}

/// Waits for a script that the supervisor knows of, ends it if it has to be ended, and ends all it leaves.
///
/// # Errors
/// If the process is not ours to wait for, which is a bug.
pub(super) fn supervise(
    supervisor: &Supervisor,
    started: Started,
    start: Instant,
    scratch: &Path,
    log: &mut LogPipe,
) -> Result<Ended> {
    let leader = started.leader;
    let mut memory = TreeMemory::of(leader);
    let waited = wait_for_end(leader, scratch, log, &mut memory);
    let wall = start.elapsed();
    let ending = supervisor.ended(leader);
    let leftovers = waited.and_then(|()| {
        // What is left may have to write before it can end.
        let leftovers = supervisor.end_leftovers(leader, scratch, ending, &mut || log.drain());
        leftovers.and_then(|leftovers| log.drain().map(|()| leftovers)).or_io(LOG, scratch)
    });
    let reaped = sys::reap(leader).or_io("wait for a script in", scratch);
    supervisor.reaped(leader);
    let (leftovers, reaped) = (leftovers?, reaped?);
    let (peak_memory, peak_of) = memory.peak(reaped.peak_memory, started.start);
    let Reaped { user, system, status, .. } = reaped;
    let usage = Usage { wall, user, system, peak_memory, peak_of };
    let cause = ending.map(|ending| ending.cause);
    Ok(Ended { status, cause, usage, leftovers })
}

/// Waits until a leader has ended, and leaves it unreaped. Drains the log meanwhile, and looks at its memory.
fn wait_for_end(
    leader: i32,
    scratch: &Path,
    log: &mut LogPipe,
    memory: &mut TreeMemory,
) -> Result<()> {
    let not_ours = || Error::Internal(format!("process {leader} is not ours to wait for"));
    let leader = pid(leader).ok_or_else(not_ours)?;
    let pidfd = match rustix::process::pidfd_open(leader, PidfdFlags::empty()) {
        Ok(pidfd) => Some(pidfd),
        Err(Errno::SRCH) => return Err(not_ours()),
        // Linux before 5.3, or a sandbox: then it is asked for again and again.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => None,
        Err(err) => return Err(err).or_io("wait for a script in", scratch),
    };
    let on_error = |err: Errno| Err(err).or_io("wait for a script in", scratch);
    loop {
        let (has_ended, has_log) = match &pidfd {
            Some(pidfd) => {
                let mut polled = [
                    PollFd::new(pidfd, PollFlags::IN),
                    PollFd::from_borrowed_fd(log.read_end(), PollFlags::IN),
                ];
                match rustix::event::poll(&mut polled, Some(&memory.next_look())) {
                    Ok(_) => {}
                    Err(Errno::INTR) => continue,
                    Err(err) => return on_error(err),
                }
                (!polled[0].revents().is_empty(), !polled[1].revents().is_empty())
            }
            None => {
                let mut polled = [PollFd::from_borrowed_fd(log.read_end(), PollFlags::IN)];
                match rustix::event::poll(&mut polled, Some(&WITHOUT_PIDFD)) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(err) => return on_error(err),
                }
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
                match rustix::process::waitid(WaitId::Pid(leader), options) {
                    Ok(ended) => (ended.is_some(), !polled[0].revents().is_empty()),
                    Err(Errno::CHILD) => return Err(not_ours()),
                    Err(err) => return on_error(err),
                }
            }
        };
        if has_ended {
            return Ok(());
        }
        memory.look();
        if has_log {
            log.drain_for_followers().or_io(LOG, scratch)?;
        }
    }
}
