//! Processes that lost their parents and were adopted by us: found, told apart, ended. The reasons stand
//! at the top of `process`.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Signal, WaitId, WaitIdOptions};

use super::proc::{Process, pid, signal_group};
use super::supervisor::{Ending, Supervisor};

/// What a script leaves behind has so long to end by itself before it is told to.
const SETTLE: Duration = Duration::from_millis(50);

/// Pauses between two looks at something that is ending.
const SHORTEST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Names of processes in one warning.
const NAMES: usize = 5;

/// The list of adopted processes, and what is remembered of them.
pub(super) struct Orphans {
    /// Children of the first thread; `None` where the kernel has no such file.
    children: Option<File>,
    /// Processes without an environment, by number and start time. The mutex also guards every look
    /// at, signal to, and reaping of an orphan.
    blank: Mutex<HashSet<(i32, u64)>>,
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
}

impl Orphans {
    pub(super) fn open() -> Orphans {
        let own = std::process::id();
        let children = File::open(format!("/proc/self/task/{own}/children")).ok();
        Orphans { children, blank: Mutex::default() }
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

    fn guard(&self) -> MutexGuard<'_, HashSet<(i32, u64)>> {
        self.blank.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut told: HashSet<i32> = HashSet::new();
        let mut names: Vec<String> = Vec::new();
        let mut pause = SHORTEST_PAUSE;
        loop {
            let mut blank = self.orphans().guard();
            let orphans = self.look(leader, scratch, &mut blank);
            if orphans.is_empty() {
                break;
            }
            let now = Instant::now();
            let is_due = |at: Instant| now.saturating_duration_since(at) >= self.grace();
            if self.is_killing() || term_at.is_some_and(is_due) {
                // A process that KILL doesn't end hangs in the kernel. Its folders are never used
                // again, so it can be left to itself.
                if term_at.is_some_and(|at| is_due(at + self.grace())) {
                    leftovers.were_ended = true;
                    let stuck = list_names(orphans.iter().map(|orphan| orphan.name.as_str()));
                    leftovers.warning =
                        Some(format!("could not end what was left behind: {stuck}"));
                    return leftovers;
                }
                term_at.get_or_insert(now);
                leftovers.were_ended = true;
                signal(&orphans, leader, Signal::KILL);
                let new = orphans.into_iter().filter(|orphan| told.insert(orphan.pid));
                names.extend(new.map(|orphan| orphan.name));
                pause = SHORTEST_PAUSE;
            } else if term_at.is_some() || now.saturating_duration_since(began) >= SETTLE {
                term_at.get_or_insert(now);
                leftovers.were_ended = true;
                let new: Vec<Orphan> =
                    orphans.into_iter().filter(|orphan| told.insert(orphan.pid)).collect();
                signal(&new, leader, Signal::TERM);
                signal(&new, leader, Signal::CONT);
                names.extend(new.into_iter().map(|orphan| orphan.name));
            }
            drop(blank);
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        // After a time limit or a cancelled run it goes without saying.
        if leftovers.were_ended && ending.is_none() {
            let names = list_names(names.iter().map(String::as_str));
            leftovers.warning = Some(format!("ended what the script had left running: {names}"));
        }
        leftovers
    }

    /// What is left of one step and alive. Reaps every orphan that has ended, whoever left it.
    fn look(&self, leader: i32, scratch: &Path, blank: &mut HashSet<(i32, u64)>) -> Vec<Orphan> {
        loop {
            let mut orphans = Vec::new();
            let mut has_reaped = false;
            for pid in self.orphans().list() {
                if self.is_leader(pid) {
                    continue;
                }
                let Some(process) = Process::read(pid) else { continue };
                if process.is_zombie && reap(pid) {
                    blank.remove(&(pid, process.start));
                    has_reaped = true;
                } else if process.group == leader || process.is_from(scratch, blank) {
                    orphans.push(Orphan { pid, group: process.group, name: process.name });
                }
            }
            // The children of what was reaped may be ours by now.
            if !has_reaped {
                return orphans;
            }
        }
    }
}

/// Signals orphans; the caller holds the guard, so that their numbers are still theirs.
fn signal(orphans: &[Orphan], leader: i32, signal: Signal) {
    if orphans.iter().any(|orphan| orphan.group == leader) {
        signal_group(leader, signal);
    }
    for orphan in orphans.iter().filter(|orphan| orphan.group != leader) {
        if orphan.group == orphan.pid {
            signal_group(orphan.pid, signal);
        } else if let Some(pid) = pid(orphan.pid) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

fn reap(child: i32) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    pid(child).is_some_and(|child| {
        matches!(rustix::process::waitid(WaitId::Pid(child), options), Ok(Some(_)))
    })
}

fn list_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let all: Vec<&str> = names.collect();
    let mut text = all[..all.len().min(NAMES)].join(", ");
    if all.len() > NAMES {
        text.push_str(&format!(" and {} more", all.len() - NAMES));
    }
    text
}
