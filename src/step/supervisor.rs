//! Ends scripts that run too long, or that the run no longer wants, and what scripts leave behind. One thread
//! for all deadlines, since a worker that waits for a process can't wait for a deadline as well. The essay on
//! processes is in `process`.
//!
//! Groups are signalled only under the mutex of the register, and only those whose leader is in it and
//! not known to have ended. A worker strikes its leader off under the same mutex before it reaps it. So
//! the number of a group that is signalled here can't have passed to another one.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::proc::{Belonging, pid, signal_group};
use crate::error::{OrIo, Result};
use crate::order;
use crate::stop::{Stop, StopSwitch};
use crate::sys;
use crate::sys::proc::{Adopted, Process};

/// Time between TERM and KILL, unless set otherwise.
pub const GRACE: Duration = Duration::from_secs(5);

/// Grace for leftover processes to exit before SIGTERM.
const SETTLE: Duration = Duration::from_millis(50);

/// The same for those that are at work all the time: on a busy machine a `tee` may need long for its last
/// lines.
const SETTLE_BUSY: Duration = Duration::from_secs(2);

/// For this long a process in the middle of an exec or of its end, whose environment can't be read, is
/// looked at again before it is taken for somebody else's. An exec takes a fraction of a millisecond, but on
/// an overloaded machine 300 ms were too few.
const EXEC_PATIENCE: Duration = Duration::from_secs(5);

/// Pauses between two looks at something that is ending.
const SHORTEST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Names of processes in one warning.
const NAMES: usize = 5;

/// Held for every look at, signal to, and reaping of an orphan. One for the process, as its children are:
/// the list of them skips one if another one is reaped while it is read.
static GUARD: Mutex<()> = Mutex::new(());

/// Knows every script that runs, and ends what is to be ended. One per process: see [`Supervisor::new`].
pub struct Supervisor {
    shared: Arc<Shared>,
    /// See [`Self::starts`]; held for writing while this process is stopped.
    starts: RwLock<()>,
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
    running: HashMap<i32, RunningScript>,
    /// The scripts are stopped: none is ended for its time limit.
    is_suspended: bool,
    /// When the thread looks again by itself.
    wakes_at: Option<Instant>,
    is_closing: bool,
}

struct RunningScript {
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
    /// [`Error::System`](crate::error::Error::System) if one of these, or the thread, can't be had.
    pub fn new(grace: Duration, stop: Arc<StopSwitch>) -> Result<Supervisor> {
        sys::seal_descriptors().or_system("close inherited files")?;
        let adopt = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        adopt.or_system("become the reaper of orphans")?;
        sys::keep_ended_children().or_system("handle signals")?;
        sys::survive_file_signals().or_system("handle signals")?;
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
        let thread = thread.spawn(move || watched.watch()).or_system("start a thread")?;
        Ok(Supervisor { shared, starts: RwLock::default(), thread: Some(thread) })
    }

    /// Stops every script, calls `stop`, and lets them go on. The time that they were stopped doesn't count for their
    /// time limits.
    pub fn while_stopped(&self, stop: &mut dyn FnMut()) {
        // A script that is not in the register yet would go on.
        let _starts = self.starts.write().unwrap_or_else(PoisonError::into_inner);
        let since = Instant::now();
        let mut register = self.shared.register();
        register.is_suspended = true;
        for (leader, running) in &register.running {
            if !running.has_ended {
                signal_group(*leader, Signal::STOP);
            }
        }
        drop(register);
        stop();
        let pause = since.elapsed();
        let mut register = self.shared.register();
        register.is_suspended = false;
        for (leader, running) in &mut register.running {
            running.deadline = running.deadline.and_then(|deadline| deadline.checked_add(pause));
            if !running.has_ended {
                signal_group(*leader, Signal::CONT);
            }
        }
        self.shared.changed.notify_one();
    }

    /// How the run goes on.
    pub(super) fn stop(&self) -> Stop {
        self.shared.stop.now()
    }

    /// To be held from before a script is started until it has [`Self::started`].
    pub(super) fn starts(&self) -> RwLockReadGuard<'_, ()> {
        self.starts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A script has started.
    pub(super) fn started(&self, leader: i32, timeout: Option<Duration>) {
        let now = Instant::now();
        // A time limit beyond the clock is none.
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        let mut register = self.shared.register();
        let mut running =
            RunningScript { deadline, ending: None, is_killed: false, has_ended: false };
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
    fn is_leader(&self, pid: i32) -> bool {
        self.shared.register().running.contains_key(&pid)
    }

    /// Ends what the script of `leader`, which has ended but is not reaped, has left behind. `scratch` is
    /// the folder that its OUTPUT_DIR and TMPDIR are in; `ending` tells whether it was told to end. `drain`
    /// is called meanwhile, so that nothing waits for a full pipe.
    pub(super) fn end_leftovers(
        &self,
        leader: i32,
        scratch: &Path,
        ending: Option<Ending>,
        drain: &mut dyn FnMut() -> io::Result<()>,
    ) -> io::Result<Leftovers> {
        let mut leftovers = Leftovers::default();
        if self.shared.orphans.children.is_none() {
            signal_group(leader, Signal::KILL);
            return Ok(leftovers);
        }
        let guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
        let has_none = self.shared.orphans.list().is_empty();
        drop(guard);
        if has_none {
            return Ok(leftovers);
        }
        let began = Instant::now();
        let mut term_at = ending.map(|ending| ending.since);
        // Told to end, and what they are called.
        let mut told: HashMap<i32, String> = HashMap::new();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut orphans, all_known) = self.look_for_orphans(leader, scratch);
            let waited = |since: Instant| since.elapsed();
            if orphans.is_empty() && (all_known || waited(began) >= EXEC_PATIENCE) {
                break;
            }
            let must_kill = self.shared.stop.now() == Stop::Kill
                || term_at.is_some_and(|at| waited(at) >= self.shared.grace);
            if term_at.is_some_and(|at| waited(at) >= 2 * self.shared.grace) && !orphans.is_empty()
            {
                // A process that KILL doesn't end hangs in the kernel. Its folders are never used
                // again, so it can be left to itself.
                let stuck = list_names(orphans.into_iter().map(|orphan| orphan.name));
                let warning = format!("could not end what the script had left running: {stuck}");
                return Ok(Leftovers { were_ended: true, warning: Some(warning) });
            }
            let is_busy = orphans.iter().any(|orphan| orphan.is_busy);
            let settle = if is_busy { SETTLE_BUSY } else { SETTLE };
            if !orphans.is_empty() && (must_kill || term_at.is_some() || waited(began) >= settle) {
                term_at.get_or_insert_with(Instant::now);
                leftovers.were_ended = true;
                if must_kill {
                    signal(&orphans, leader, &[Signal::KILL]);
                } else {
                    orphans.retain(|orphan| !told.contains_key(&orphan.pid));
                    signal(&orphans, leader, &[Signal::TERM, Signal::CONT]);
                }
                told.extend(orphans.into_iter().map(|orphan| (orphan.pid, orphan.name)));
            }
            drop(guard);
            drain()?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        // After a time limit or a cancelled run it goes without saying.
        if leftovers.were_ended && ending.is_none() {
            let names = list_names(told.into_values());
            leftovers.warning = Some(format!("ended what the script had left running: {names}"));
        }
        Ok(leftovers)
    }

    /// What is left of one step and alive, and whether that is all. Reaps every orphan that has ended,
    /// whoever left it.
    fn look_for_orphans(&self, leader: i32, scratch: &Path) -> (Vec<Orphan>, bool) {
        loop {
            let (mut orphans, mut all_known, mut has_reaped) = (Vec::new(), true, false);
            for pid in self.shared.orphans.list() {
                if self.is_leader(pid) {
                    continue;
                }
                let Some(process) = Process::read(pid) else { continue };
                if process.is_zombie && reap(pid) {
                    has_reaped = true;
                    continue;
                }
                let origin = match process.group == leader {
                    true => Belonging::Here,
                    false => Belonging::of(pid, scratch),
                };
                match origin {
                    Belonging::Here => {
                        let Process { group, name, is_busy, .. } = process;
                        orphans.push(Orphan { pid, group, name, is_busy });
                    }
                    Belonging::NotYetKnown => all_known = false,
                    Belonging::Elsewhere => {}
                }
            }
            // The children of what was reaped may be ours by now.
            if !has_reaped {
                return (orphans, all_known);
            }
        }
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
            let is_suspended = register.is_suspended;
            for (leader, running) in &mut register.running {
                if is_suspended {
                    break;
                }
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

impl RunningScript {
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

/// The list of adopted processes.
struct Orphans {
    /// Children of the first thread; `None` where the kernel has no such file.
    children: Option<Adopted>,
}

/// What was left behind, and what became of it.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    /// Something was alive when it had to be ended.
    pub(super) were_ended: bool,
    /// For the user; empty if nothing need be said.
    pub(super) warning: Option<String>,
}

/// A process left behind by one step.
struct Orphan {
    pid: i32,
    group: i32,
    name: String,
    is_busy: bool,
}

impl Orphans {
    fn open() -> Orphans {
        Orphans { children: Adopted::open() }
    }

    /// Numbers of all adopted processes, ended ones included.
    fn list(&self) -> Vec<i32> {
        self.children.as_ref().map(Adopted::list).unwrap_or_default()
    }
}

/// Signals orphans; the caller holds the guard, so that their numbers are still theirs.
fn signal(orphans: &[Orphan], leader: i32, signals: &[Signal]) {
    for signal in signals {
        if orphans.iter().any(|orphan| orphan.group == leader) {
            signal_group(leader, *signal);
        }
        for orphan in orphans.iter().filter(|orphan| orphan.group != leader) {
            if orphan.group == orphan.pid {
                signal_group(orphan.pid, *signal);
            } else if let Some(pid) = pid(orphan.pid) {
                let _ = rustix::process::kill_process(pid, *signal);
            }
        }
    }
}

fn reap(child: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    pid(child).is_some_and(|child| {
        matches!(rustix::process::waitid(WaitId::Pid(child), options), Ok(Some(_)))
    })
}

fn list_names(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    order::sort_by(&mut names, Ord::cmp);
    let mut text = names[..names.len().min(NAMES)].join(", ");
    if names.len() > NAMES {
        text.push_str(&format!(" and {} more", names.len() - NAMES));
    }
    text
}
