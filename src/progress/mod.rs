//! What a run reports as it goes: past-tense events, in order, and the audiences that show them.
//!
//! A run only tells; nothing here is ever asked how far the run is, and nothing here knows how a run
//! works. [`Lines`] prints a line per event, [`Bar`] draws the bottom of a terminal, [`JsonLines`] and
//! [`Trace`] write files. [`Tee`] feeds several of them.

mod bar;
mod counter;
mod due_export;
mod events;
mod frame;
mod lines;
mod sink;
mod tally;
mod trace;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::attempt::BatchPlace;
use crate::db::{Completion, Flow, Plan, RunSteps, step_key};
use crate::elsewhere::{WorkerNote, WorkerSlot};
use crate::ids::{RunId, StepId, TaskIndex};
use crate::labels::Labels;
use crate::object::ObjectHash;

pub use bar::Bar;
pub use due_export::DueExport;
pub use events::JsonLines;
pub use lines::{Lines, Loudness, Paint};
pub use trace::Trace;

/// Something that happened. Names are raw bytes; whoever shows them escapes them.
pub enum Event<'a> {
    /// A run was requested; nothing has been read yet.
    Begun(&'a Begun<'a>),
    /// Worth knowing, and nobody's fault.
    Note(&'a str),
    /// Possibly a mistake.
    Warning(&'a str),
    /// Manifest and database are open.
    Opened { manifest: &'a Path, tasks: usize, db: &'a Path },
    /// The plan is made and stored.
    Registered(&'a Registered<'a>),
    /// A task has gained steps: `pending` have to run, `revived` are live again with the results they had.
    Grown { task: TaskIndex, name: &'a str, pending: u64, revived: u64 },
    /// A step has the results of another one that did the same work.
    Shared(&'a StepShared<'a>),
    /// A worker has come or gone.
    Worker(&'a WorkerNote),
    /// A script was started.
    Started(&'a StepStarted<'a>),
    /// A step is done, and its results are as durable as requested.
    Done(&'a StepEnded<'a>),
    /// An attempt failed.
    Failed(&'a StepEnded<'a>, &'a Failure),
    /// A step, possibly started, ended without a result and is pending again.
    Dropped(&'a StepName<'a>),
    /// A step's log; only with `-v`.
    Log { step: &'a StepName<'a>, log: &'a [u8] },
    /// A group of steps is durable.
    Committed(&'a Commit),
    /// A signal arrived, the `presses`-th of this run.
    Interrupted { signal: i32, presses: usize },
    /// The run is over.
    Ended(&'a Summary),
    /// The process is about to exit with this code, or to die of this signal.
    Exits { code: u8, signal: Option<i32>, error: Option<&'a str> },
}

/// What the user asked for.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'a> {
    pub manifest: &'a Path,
    pub db: &'a Path,
    /// Scripts at once.
    pub jobs: usize,
    /// As on the command line: `batch` or `off`.
    pub durability: &'a str,
}

/// What is known before the first step.
#[derive(Clone, Copy)]
pub struct Registered<'a> {
    pub run: RunId,
    pub plan: &'a Plan,
    pub flow: &'a Flow,
    /// By position in the manifest: the number of attempts in earlier runs and their mean duration.
    /// Empty unless [`Progress::wants_history`].
    pub history: &'a [(u64, Duration)],
    /// By position in the manifest: at most this many scripts at once.
    pub limits: &'a [usize],
}

/// Which attempt at which step.
#[derive(Debug, Clone, Copy)]
pub struct StepName<'a> {
    pub step: StepId,
    pub index: TaskIndex,
    pub task: &'a str,
    /// Logical name of the input; empty for a root without inputs and for `gather`.
    pub input: &'a [u8],
    pub object: &'a ObjectHash,
    /// The input has the executable bit.
    pub executable: bool,
    pub labels: &'a Labels,
    /// The listing of what it sees by `with`.
    pub side: Option<&'a ObjectHash>,
    pub recipe: &'a ObjectHash,
    /// Counted from 1 over all runs.
    pub attempt: i64,
    /// Where it shares its script with others.
    pub batch: Option<BatchPlace>,
}

impl StepName<'_> {
    /// The STEP_KEY.
    pub fn key(&self) -> ObjectHash {
        step_key(self.recipe, self.object, self.input, self.executable, self.labels, self.side)
    }
}

/// A step that did not have to run.
#[derive(Debug, Clone, Copy)]
pub struct StepShared<'a> {
    pub step: StepId,
    pub index: TaskIndex,
    pub task: &'a str,
    /// The step that did the same work; the step itself, if an earlier result of it is valid again.
    pub same_as: StepId,
    /// That one has failed, and so has this one.
    pub has_failed: bool,
    /// Name of its input.
    pub input: &'a [u8],
    pub labels: &'a Labels,
}

/// A script that was started.
#[derive(Debug, Clone, Copy)]
pub struct StepStarted<'a> {
    pub name: StepName<'a>,
    /// Which of the scripts that may run at once it is, from 1.
    pub worker: usize,
    /// The worker that makes it; `None`: this machine.
    pub on: Option<&'a WorkerSlot>,
    pub at: Instant,
}

/// An attempt that is over and committed.
#[derive(Debug, Clone, Copy)]
pub struct StepEnded<'a> {
    pub name: StepName<'a>,
    pub completion: &'a Completion,
    /// When it took its worker and when it gave it back.
    pub worked: (Instant, Instant),
}

impl StepEnded<'_> {
    /// How long the script ran.
    pub fn wall(&self) -> Duration {
        self.completion.attempt.usage.wall
    }

    /// True if the step will be tried again within this run.
    pub fn is_retried(&self) -> bool {
        self.completion.verdict.is_again()
    }
}

/// A group commit.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    pub steps: usize,
    pub began: Instant,
    /// When the files were durable; the rows follow.
    pub synced: Instant,
    pub ended: Instant,
}

/// Why an attempt failed, with the end of its log.
#[derive(Debug, Clone)]
pub struct Failure {
    pub step: StepId,
    pub task: String,
    pub input: Vec<u8>,
    pub labels: Labels,
    /// "exit code 3", "killed by signal 9 (SIGKILL), maybe out of memory", "timed out after 30 s" …
    pub why: String,
    /// Which attempt of this run at the step it was, from 1, and how many there are at most.
    pub tries: (u32, u32),
    /// The last lines, without line ends; empty if another attempt follows.
    pub log_tail: Vec<Vec<u8>>,
    /// Lines above those.
    pub log_above: u64,
    pub log: Option<ObjectHash>,
}

/// A run in numbers, and what failed in it.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Steps that ran in this run and are done.
    pub done: u64,
    /// Live steps that did not have to run.
    pub reused: u64,
    /// Of these, steps that came alive again during the run.
    pub revived: u64,
    pub outputs: u64,
    /// Steps that failed.
    pub failed: u64,
    /// Steps that failed in an earlier run, and that `--only` leaves out.
    pub untried: u64,
    /// The first of those failures; the number is limited.
    pub failures: Vec<Failure>,
    /// Live steps that still have to run, or were to run anew and keep the results they had; and one for each task that
    /// waits and has no step yet.
    pub left: u64,
    /// Of those that failed or are left: steps that were to run anew and keep the results they had.
    pub kept: u64,
    /// Attempts of this run, and how many of them failed.
    pub attempts: u64,
    pub failed_attempts: u64,
    /// Files that kept steps from being done: `files` that were changed meanwhile. Each of them was told.
    pub obstacles: u64,
    /// Names of gather tasks that could not be planned.
    pub waiting: Vec<String>,
    /// Names of tasks of which not everything is done that they see by `with`.
    pub blind: Vec<String>,
    /// Why these wait: `4 of 30 steps of work failed`. Not of each of them there is more to say.
    pub reasons: Vec<(String, String)>,
    /// Tasks with inputs on which there are no steps, because there is nothing that they could see, and how many.
    pub unseeing: Vec<(String, u64)>,
    /// Nothing could run of what `--only` names, because something upstream of it is missing, which was told.
    pub is_out_of_reach: bool,
    /// The signal that stopped the run.
    pub interrupted: Option<i32>,
    /// Objects that scripts corrupted, each with what is wrong. They are no longer in the store.
    pub spoilt: Vec<(ObjectHash, String)>,
    /// Every live step is done.
    pub complete: bool,
    /// Exports that the manifest asks for, of tasks that are complete.
    pub exports: Vec<DueExport>,
    pub wall: Duration,
}

impl Summary {
    /// The same steps in the words that `status` has for them.
    pub fn steps(&self) -> RunSteps {
        let &Summary { done, reused, untried, left, .. } = self;
        let (done, failed) = (done + reused, self.failed + untried);
        RunSteps { total: done + failed + left, done, reused, failed, left }
    }
}

/// Where events go.
pub trait Progress {
    /// Shows an event, or ignores it. Can't fail: a run doesn't stop because nobody can read about it.
    fn tell(&mut self, event: &Event<'_>);

    /// Whether [`Event::Started`] is of any use here; it costs a message per step.
    fn wants_starts(&self) -> bool {
        false
    }

    /// Whether the durations of earlier runs are of any use here; they cost a query.
    fn wants_history(&self) -> bool {
        false
    }

    /// A sentence about why it can show no more, returned once.
    fn complaint(&mut self) -> Option<String> {
        None
    }
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn tell(&mut self, _event: &Event<'_>) {}
}

/// Passes every event to several audiences. If one of them breaks, the others show a warning, once.
#[derive(Default)]
pub struct Tee {
    audiences: Vec<Box<dyn Progress>>,
    has_complained: bool,
}

impl Tee {
    /// Adds an audience.
    pub fn add(&mut self, audience: impl Progress + 'static) {
        self.audiences.push(Box::new(audience));
    }

    /// True if an audience has missed something.
    pub fn has_complained(&self) -> bool {
        self.has_complained
    }
}

impl Progress for Tee {
    fn tell(&mut self, event: &Event<'_>) {
        for audience in &mut self.audiences {
            audience.tell(event);
        }
        let complaints: Vec<String> =
            self.audiences.iter_mut().filter_map(|audience| audience.complaint()).collect();
        for complaint in complaints {
            self.has_complained = true;
            for audience in &mut self.audiences {
                audience.tell(&Event::Warning(&complaint));
            }
        }
    }

    fn wants_starts(&self) -> bool {
        self.audiences.iter().any(|audience| audience.wants_starts())
    }

    fn wants_history(&self) -> bool {
        self.audiences.iter().any(|audience| audience.wants_history())
    }
}

/// Shows nothing until there is work: `watch` runs after every change, and most changes need no step.
pub struct QuietUntilWork {
    inner: Box<dyn Progress>,
    /// Shown before everything else.
    opening: Option<String>,
    /// Held back until there is work.
    warnings: Vec<String>,
    has_spoken: bool,
}

impl QuietUntilWork {
    /// Starts with `opening` once there is work. Without an opening nothing is held back.
    pub fn new(inner: Box<dyn Progress>, opening: Option<String>) -> QuietUntilWork {
        QuietUntilWork { inner, has_spoken: opening.is_none(), opening, warnings: Vec::new() }
    }

    /// Whether anything was shown.
    pub fn has_spoken(&self) -> bool {
        self.has_spoken
    }

    /// Shows what was held back, and everything from now on.
    pub fn speak(&mut self) {
        self.has_spoken = true;
        if let Some(opening) = self.opening.take() {
            self.inner.tell(&Event::Note(&opening));
        }
        for warning in self.warnings.drain(..) {
            self.inner.tell(&Event::Warning(&warning));
        }
    }
}

impl Progress for QuietUntilWork {
    fn tell(&mut self, event: &Event<'_>) {
        if !self.has_spoken {
            match event {
                Event::Begun(_) | Event::Note(_) | Event::Opened { .. } => return,
                Event::Warning(text) => return self.warnings.push((*text).to_owned()),
                Event::Registered(registered) => {
                    let plan = registered.plan;
                    let retired: u64 = plan.tasks.iter().map(|task| task.retired).sum();
                    if plan.to_run() + retired + plan.retired_with_task == 0 {
                        return;
                    }
                }
                Event::Ended(summary) if summary.done + summary.failed == 0 => return,
                _ => {}
            }
            self.speak();
        }
        self.inner.tell(event);
    }

    fn wants_starts(&self) -> bool {
        self.inner.wants_starts()
    }

    fn wants_history(&self) -> bool {
        self.inner.wants_history()
    }
}
