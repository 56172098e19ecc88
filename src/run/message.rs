//! What the dispatcher and the workers say to each other.

use std::path::PathBuf;
use std::time::Instant;

use crate::attempt::BatchPlace;
use crate::db::{Completion, Effects, Leaf};
use crate::elsewhere::WorkerSlot;
use crate::error::Error;
use crate::exec::News;
use crate::ids::{StepId, TaskIndex};
use crate::object::ObjectHash;
use crate::progress::{Commit, Failure};

/// A step to run.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) task: TaskIndex,
    pub(super) leaf: Leaf,
    /// Attempts made in this run before this one, without those that it shared and that failed.
    pub(super) tried: u32,
    /// It shared its script with others in vain: it runs by itself.
    pub(super) is_alone: bool,
    /// The jobs that share one start of the script, and which of them it is.
    pub(super) batch: BatchPlace,
    /// Bytes that the script is taken to need, once it was handed out; of the first of those that share it.
    pub(super) memory: u64,
}

impl Job {
    /// Its place among several; `None`: it runs by itself.
    pub(super) fn shared(&self) -> Option<BatchPlace> {
        Some(self.batch).filter(|batch| batch.size > 1)
    }
}

/// Jobs that share one start of the script: one, unless their task is a batch.
pub(super) type Jobs = Vec<Job>;

/// What is to be said of an attempt besides what is recorded.
#[derive(Debug)]
pub(super) struct AttemptReport {
    pub(super) job: Job,
    /// From when to when it had its worker.
    pub(super) worked: (Instant, Instant),
    pub(super) failure: Option<Failure>,
    pub(super) warnings: Vec<String>,
    /// With `-v`: what the script printed.
    pub(super) log: Option<Vec<u8>>,
}

/// What reaches the dispatcher.
#[derive(Debug)]
pub(super) enum Message {
    /// A script was started.
    Started { job: Job, worker: usize, on: Option<WorkerSlot>, at: Instant },
    /// The script of a step is over, and all that it has started. Told only as long as somebody waits for that.
    Freed { step: StepId },
    /// One transaction's worth of attempts is durable.
    Committed { ended: Vec<(AttemptReport, Completion)>, effects: Effects, commit: Commit },
    /// Leaves have the results of other steps.
    Shared(Effects),
    /// Objects that a script spoilt; set aside already.
    Spoilt(Vec<ObjectHash>),
    /// Jobs ended without an attempt to record: cancelled, or not begun.
    Dropped { jobs: Jobs },
    /// The same, of jobs that are each to run by itself.
    Parted { jobs: Jobs },
    /// One of the task's `files` was changed while its script ran, so the result is not that of its recipe and is not
    /// kept.
    Outdated { jobs: Jobs, file: PathBuf },
    /// We could not do our part; the jobs, if any, stay pending.
    Broken { jobs: Jobs, error: Error },
    /// Jobs whose worker was lost: nobody knows how they ended.
    Lost { jobs: Jobs },
    /// Something worth telling.
    Note(String),
    /// The place where attempts are made tells something.
    News(News),
    /// A deadly signal arrived.
    Signal(i32),
    /// Ctrl-Z.
    Suspend,
}
