//! What a run tells: past-tense events, in order. Told, never asks; unaware of how a run works.

mod bar;
mod frame;
mod hush;
mod json;
mod lines;
mod paint;
mod screen;
mod several;
mod sink;
mod summary;
mod tally;
mod trace;

use std::path::Path;
use std::time::{Duration, Instant};

use crate::db::{Completion, Flow, Plan, step_key};
use crate::ids::{RunId, StepId, TaskIndex};
use crate::object::ObjectHash;

pub use bar::Bar;
pub use hush::Hush;
pub use json::JsonLines;
pub use lines::{Lines, Loudness};
pub use paint::Paint;
pub use several::Several;
pub use summary::{Failure, Summary};
pub use trace::Trace;

/// Something that happened. Names are raw bytes: whoever shows them makes them fit to be shown.
pub enum Event<'a> {
    /// A run was asked for; nothing is looked at yet.
    Begun(&'a Begun<'a>),
    /// Something worth knowing that is nobody's fault.
    Note(&'a str),
    /// Something that may be a mistake.
    Warning(&'a str),
    /// Manifest and database are open.
    Opened { manifest: &'a Path, tasks: usize, db: &'a Path },
    /// The plan is made and kept.
    Registered(&'a Registered<'a>),
    /// More steps of a task have to run than was known, or came alive again with their results.
    Grown { task: TaskIndex, name: &'a str, pending: u64, revived: u64 },
    /// A script was started.
    Started(&'a StepStarted<'a>),
    /// A step is done, and its results are as durable as was asked for.
    Done(&'a StepEnded<'a>),
    /// An attempt failed.
    Failed(&'a StepEnded<'a>, &'a Failure),
    /// A step that may have been started has no result, and is to run as before.
    Dropped(&'a StepName<'a>),
    /// A step's log, with `-v`.
    Log { step: &'a StepName<'a>, log: &'a [u8] },
    /// A transaction's worth of steps is durable.
    Committed(&'a Commit),
    /// A signal arrived.
    Interrupted { signal: i32, presses: usize },
    /// The run is over.
    Ended(&'a Summary),
    /// The process ends: with an exit code, or of a signal.
    Exits { code: u8, signal: Option<i32>, error: Option<&'a str> },
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'a> {
    pub manifest: &'a Path,
    pub db: &'a Path,
    /// Scripts at once.
    pub jobs: usize,
    pub durability: &'a str,
}

/// What is known before the first step.
#[derive(Clone, Copy)]
pub struct Registered<'a> {
    pub run: RunId,
    pub plan: &'a Plan,
    pub flow: &'a Flow,
    /// By place in the manifest, where it is wanted: (attempts, their mean time) of earlier runs.
    pub history: &'a [(u64, Duration)],
    /// By place in the manifest: at most this many at once.
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
    pub recipe: &'a ObjectHash,
    /// From 1, over all runs.
    pub attempt: i64,
}

impl StepName<'_> {
    /// The STEP_KEY.
    pub fn key(&self) -> ObjectHash {
        step_key(self.recipe, self.object, self.input)
    }
}

/// A script that was started.
#[derive(Debug, Clone, Copy)]
pub struct StepStarted<'a> {
    pub name: StepName<'a>,
    /// Which of the scripts that may run at once, from 1.
    pub worker: usize,
    pub at: Instant,
}

/// An attempt that is over and committed.
#[derive(Debug, Clone, Copy)]
pub struct StepEnded<'a> {
    pub name: StepName<'a>,
    pub completion: &'a Completion,
    /// From when to when it had its worker.
    pub worked: (Instant, Instant),
    /// It will be tried again within this run.
    pub again: bool,
}

impl StepEnded<'_> {
    /// How long the script ran.
    pub fn wall(&self) -> Duration {
        self.completion.attempt.usage.wall
    }
}

/// A group commit.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    pub steps: usize,
    pub began: Instant,
    /// The files are durable, the rows not yet.
    pub synced: Instant,
    pub ended: Instant,
}

/// Where events go.
pub trait Progress {
    /// Shows an event, or not. Must not fail: nobody's run stops because nobody reads.
    fn tell(&mut self, event: &Event<'_>);

    /// Whether `Started` is of any use here; it costs a message per step.
    fn wants_starts(&self) -> bool {
        false
    }

    /// Whether the times of earlier runs are of any use here.
    fn wants_history(&self) -> bool {
        false
    }

    /// What keeps it from telling on, in a sentence; given once.
    fn complaint(&mut self) -> Option<String> {
        None
    }
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {
    fn tell(&mut self, _event: &Event<'_>) {}
}
