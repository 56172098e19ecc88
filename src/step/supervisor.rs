//! Ends scripts that run too long, or that the run no longer wants. One thread for all of them, since a
//! worker that waits for a process can't wait for a deadline as well.
//!
//! Groups are signalled only under the mutex of the register, and only those whose leader is in it and
//! not known to have ended. A worker strikes its leader off under the same mutex before it reaps it. So
//! the number of a group that is signalled here can't have passed to another one.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::orphans::Orphans;
use super::proc::{pid, signal_group};
use crate::error::{OrIo, Result};
use crate::stop::{Stop, StopSwitch};
use crate::sys;

/// Time between TERM and KILL, unless set otherwise.
pub const GRACE: Duration = Duration::from_secs(5);

/// Knows every script that runs, and ends what is to be ended. One per process: see [`Supervisor::new`].
pub struct Supervisor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    register: Mutex<Register>,
    changed: Condvar,
    stop: Arc<StopSwitch>,
    grace: Duration,
    orphans: Orphans,
}

#[derive(Default)]
struct Register {
    /// By leader, from its start until it is reaped.
    running: HashMap<i32, Running>,
    /// When the thread looks again by itself.
    wakes_at: Option<Instant>,
    is_closing: bool,
}

struct Running {
    deadline: Option<Instant>,
    ending: Option<Ending>,
    is_killed: bool,
    has_ended: bool,
}

/// That a script was sent TERM, why and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ending {
    pub(super) cause: Cause,
    pub(super) since: Instant,
}

/// Why we ended a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    TimedOut,
    Cancelled,
}

impl Supervisor {
    /// Ends scripts as `stop` says, now with TERM and after the grace with KILL, or at once with KILL. Prepares
    /// this process for running scripts: it adopts what they leave behind, its descriptors
    /// don't reach them, and signals that the kernel sends to say "somebody wants to write to a file
    /// you look at" or "that file is too long" don't kill it.
    ///
    /// Steps must not be executed on the main thread while others run: adopted processes are looked
    /// for among its children.
    ///
    /// # Errors
    /// [`Error::Io`](crate::error::Error::Io) if one of these, or the thread, can't be had.
    pub fn new(grace: Duration, stop: Arc<StopSwitch>) -> Result<Supervisor> {
        sys::seal_descriptors().or_io("close inherited files of", "/proc/self")?;
        let adopt = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        adopt.or_io("adopt orphans as", "/proc/self")?;
        sys::keep_ended_children().or_io("handle signals of", "/proc/self")?;
        sys::survive_file_signals().or_io("handle signals of", "/proc/self")?;
        let shared = Arc::new(Shared {
            register: Mutex::default(),
            changed: Condvar::new(),
            stop,
            grace,
            orphans: Orphans::open(),
        });
        // Weak, or the switch and its listener would keep each other for ever.
        let woken = Arc::downgrade(&shared);
        shared.stop.listen(move || {
            if let Some(shared) = woken.upgrade() {
                // Under the mutex, or it could come between the thread's last look and its sleep.
                let _register = shared.register();
                shared.changed.notify_one();
            }
        });
        let thread = std::thread::Builder::new().name("supervisor".to_owned());
        let watched = Arc::clone(&shared);
        let thread =
            thread.spawn(move || watched.watch()).or_io("start a thread of", "/proc/self")?;
        Ok(Supervisor { shared, thread: Some(thread) })
    }

    /// How the run goes on.
    pub(super) fn stop(&self) -> Stop {
        self.shared.stop.now()
    }

    pub(super) fn grace(&self) -> Duration {
        self.shared.grace
    }

    pub(super) fn orphans(&self) -> &Orphans {
        &self.shared.orphans
    }

    /// A script has started.
    pub(super) fn started(&self, leader: i32, timeout: Option<Duration>) {
        let now = Instant::now();
        // A time limit beyond the clock is none.
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        let mut register = self.shared.register();
        let mut running = Running { deadline, ending: None, is_killed: false, has_ended: false };
        let mut wake = deadline;
        // The thread may have looked through the register for the last time before this script was in it.
        let stop = self.shared.stop.now();
        if stop >= Stop::Term {
            running.stop(leader, stop, now);
            wake = now.checked_add(self.shared.grace);
        }
        register.running.insert(leader, running);
        if wake.is_some_and(|wake| register.wakes_at.is_none_or(|at| wake < at)) {
            self.shared.changed.notify_one();
        }
    }

    /// A script has ended, but is not reaped: it is signalled no more. Tells whether it was.
    pub(super) fn ended(&self, leader: i32) -> Option<Ending> {
        let mut register = self.shared.register();
        let running = register.running.get_mut(&leader)?;
        running.has_ended = true;
        running.ending
    }

    /// A script was reaped: its number may be anybody's.
    pub(super) fn reaped(&self, leader: i32) {
        self.shared.register().running.remove(&leader);
    }

    /// Whether a process is a script, and so its worker's to reap.
    pub(super) fn is_leader(&self, pid: i32) -> bool {
        self.shared.register().running.contains_key(&pid)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.shared.register().is_closing = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It can't have panicked; and if it had, there would be nobody left to tell.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn register(&self) -> MutexGuard<'_, Register> {
        self.register.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: sleeps until the next deadline, or until there is an earlier one, or the run stops.
    fn watch(&self) {
        let mut register = self.register();
        while !register.is_closing {
            let now = Instant::now();
            let mut next: Option<Instant> = None;
            let stop = self.stop.now();
            for (leader, running) in &mut register.running {
                if stop >= Stop::Term {
                    running.stop(*leader, stop, now);
                }
                if let Some(at) = running.next(*leader, now, self.grace) {
                    next = Some(next.map_or(at, |next| next.min(at)));
                }
            }
            register.wakes_at = next;
            register = match next {
                None => self.changed.wait(register).unwrap_or_else(PoisonError::into_inner),
                Some(next) => {
                    let wait = next.saturating_duration_since(now);
                    let woken = self.changed.wait_timeout(register, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

impl Running {
    /// Does what is due, and tells when the next thing will be.
    fn next(&mut self, leader: i32, now: Instant, grace: Duration) -> Option<Instant> {
        if self.has_ended || self.is_killed {
            return None;
        }
        if self.ending.is_none() {
            let deadline = self.deadline?;
            if now < deadline {
                return Some(deadline);
            }
            self.end(leader, Cause::TimedOut, now);
        }
        let kill_at = self.ending?.since.checked_add(grace)?;
        if now < kill_at {
            return Some(kill_at);
        }
        self.kill(leader);
        None
    }

    /// Does what a stopping run wants done at once.
    fn stop(&mut self, leader: i32, stop: Stop, now: Instant) {
        self.end(leader, Cause::Cancelled, now);
        if stop == Stop::Kill && !self.is_killed {
            self.kill(leader);
        }
    }

    /// TERM for the group, unless the leader ended by itself before.
    fn end(&mut self, leader: i32, cause: Cause, now: Instant) {
        if self.ending.is_some() || self.has_ended || has_exited(leader) {
            return;
        }
        signal_group(leader, Signal::TERM);
        // Stopped processes get TERM only when they go on.
        signal_group(leader, Signal::CONT);
        self.ending = Some(Ending { cause, since: now });
    }

    fn kill(&mut self, leader: i32) {
        if !self.has_ended {
            signal_group(leader, Signal::KILL);
            self.is_killed = true;
        }
    }
}

/// Whether a child has ended; it stays unreaped.
fn has_exited(leader: i32) -> bool {
    let Some(leader) = pid(leader) else { return true };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(rustix::process::waitid(WaitId::Pid(leader), options), Ok(None))
}
