//! Processes that lost their parents and were adopted by us: found, told apart, ended. The reasons stand
//! at the top of `process`.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::proc::{Origin, Process, pid, signal_group};
use super::supervisor::{Ending, Supervisor};
use crate::stop::Stop;

/// What a script leaves behind has so long to end by itself before it is told to.
const SETTLE: Duration = Duration::from_millis(50);

/// And so long if it is at work all the time: on a busy machine a `tee` may need long for its last lines.
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

/// The list of adopted processes.
pub(super) struct Orphans {
    /// Children of the first thread; `None` where the kernel has no such file.
    children: Option<File>,
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
    pub(super) fn open() -> Orphans {
        let own = std::process::id();
        let children = File::open(format!("/proc/self/task/{own}/children")).ok();
        Orphans { children }
    }

    /// Numbers of all adopted processes, ended ones included.
    fn list(&self) -> Vec<i32> {
        let Some(children) = &self.children else { return Vec::new() };
        let mut text = Vec::new();
        let mut buffer = [0; 1024];
        // Should it fail, nothing is found: there is nobody to blame for it.
        while let Ok(n @ 1..) = children.read_at(&mut buffer, text.len() as u64) {
            text.extend_from_slice(&buffer[..n]);
        }
        let text = String::from_utf8_lossy(&text);
        text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
    }
}

impl Supervisor {
    /// Ends what the script of `leader`, which has ended but is not reaped, has left behind. `scratch` is
    /// the folder that its OUTPUT_DIR and TMPDIR are in; `ending` tells whether it was told to end.
    pub(super) fn end_leftovers(
        &self,
        leader: i32,
        scratch: &Path,
        ending: Option<Ending>,
    ) -> Leftovers {
        let mut leftovers = Leftovers::default();
        if self.orphans().children.is_none() {
            signal_group(leader, Signal::KILL);
            return leftovers;
        }
        if self.orphans().list().is_empty() {
            return leftovers;
        }
        let began = Instant::now();
        let mut term_at = ending.map(|ending| ending.since);
        // Told to end, and what they are called.
        let mut told: HashMap<i32, String> = HashMap::new();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut orphans, all_known) = self.look(leader, scratch);
            let waited = |since: Instant| since.elapsed();
            if orphans.is_empty() && (all_known || waited(began) >= EXEC_PATIENCE) {
                break;
            }
            let must_kill =
                self.stop() == Stop::Kill || term_at.is_some_and(|at| waited(at) >= self.grace());
            if term_at.is_some_and(|at| waited(at) >= 2 * self.grace()) && !orphans.is_empty() {
                // A process that KILL doesn't end hangs in the kernel. Its folders are never used
                // again, so it can be left to itself.
                let stuck = list_names(orphans.into_iter().map(|orphan| orphan.name));
                let warning = format!("could not end what the script had left running: {stuck}");
                return Leftovers { were_ended: true, warning: Some(warning) };
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
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        // After a time limit or a cancelled run it goes without saying.
        if leftovers.were_ended && ending.is_none() {
            let names = list_names(told.into_values());
            leftovers.warning = Some(format!("ended what the script had left running: {names}"));
        }
        leftovers
    }

    /// What is left of one step and alive, and whether that is all. Reaps every orphan that has ended,
    /// whoever left it.
    fn look(&self, leader: i32, scratch: &Path) -> (Vec<Orphan>, bool) {
        loop {
            let (mut orphans, mut all_known, mut has_reaped) = (Vec::new(), true, false);
            for pid in self.orphans().list() {
                if self.is_leader(pid) {
                    continue;
                }
                let Some(process) = Process::read(pid) else { continue };
                if process.is_zombie && reap(pid) {
                    has_reaped = true;
                    continue;
                }
                let origin = match process.group == leader {
                    true => Origin::Here,
                    false => process.origin(scratch),
                };
                match origin {
                    Origin::Here => {
                        let Process { group, name, is_busy, .. } = process;
                        orphans.push(Orphan { pid, group, name, is_busy });
                    }
                    Origin::NotYetKnown => all_known = false,
                    Origin::Elsewhere => {}
                }
            }
            // The children of what was reaped may be ours by now.
            if !has_reaped {
                return (orphans, all_known);
            }
        }
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
    names.sort_unstable();
    let mut text = names[..names.len().min(NAMES)].join(", ");
    if names.len() > NAMES {
        text.push_str(&format!(" and {} more", names.len() - NAMES));
    }
    text
}
