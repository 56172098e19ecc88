//! The dispatcher: the one owner of a run's truth.
//!
//! It reads leaf steps out of the database into a bounded channel, nearest to the end of the graph
//! first, and hears of their ends on an unbounded one (a worker must never wait to report). Only it
//! decides: what is started, what is tried again, when a gather task may be planned, when to stop.
//! Only committed steps reach it as done, so what it shows is as durable as was asked for.
//!
//! In the loop nothing returns early: leaving it would abandon running scripts and the ends they are
//! about to report. Trouble is noted, nothing more is started, and what runs is finished.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::db::{self, Durability, Effects, Leaf, Verdict};
use crate::error::{Error, Result};
use crate::ids::TaskIndex;
use crate::maintain;
use crate::object::ObjectHash;
use crate::progress::{Event, Failure, Progress, StepDone, StepFailed, StepName, Summary};

use super::backlog::Backlog;
use super::disk;
use super::shared::{Finish, Job, Message};
use super::worker::Engine;

/// Failures shown again at the end.
const SHOWN_FAILURES: usize = 100;

/// How often the disk is asked for its free space; a few hundred steps may start in between.
const ROOM_CHECK: Duration = Duration::from_millis(100);

/// A job that waits for another try.
struct Delayed(Instant, Job);

impl Ord for Delayed {
    fn cmp(&self, other: &Delayed) -> std::cmp::Ordering {
        (self.0, self.1.leaf.step).cmp(&(other.0, other.1.leaf.step))
    }
}
impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Delayed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Delayed {
    fn eq(&self, other: &Delayed) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Delayed {}

pub(super) struct Dispatcher<'a> {
    engine: Arc<Engine>,
    jobs: flume::Sender<Job>,
    /// The other end of the same channel: to take back what no worker has taken yet.
    taken_back: flume::Receiver<Job>,
    messages: flume::Receiver<Message>,
    progress: &'a mut dyn Progress,
    keep_going: bool,
    backlog: Backlog,
    delayed: BinaryHeap<Reverse<Delayed>>,
    retry_delay: Vec<Duration>,
    in_flight: usize,
    stopping: bool,
    presses: usize,
    trouble: Option<Error>,
    db_dir: PathBuf,
    /// Bytes that have to stay free.
    min_free: u64,
    room_checked: Option<Instant>,
    summary: Summary,
}

/// Everything a dispatcher is made of.
pub(super) struct Parts<'a> {
    pub(super) engine: Arc<Engine>,
    pub(super) jobs: flume::Sender<Job>,
    pub(super) taken_back: flume::Receiver<Job>,
    pub(super) messages: flume::Receiver<Message>,
    pub(super) progress: &'a mut dyn Progress,
    pub(super) keep_going: bool,
    pub(super) db_dir: &'a Path,
    /// Bytes that have to stay free.
    pub(super) min_free: u64,
    pub(super) backlog: Backlog,
    /// By place in the manifest.
    pub(super) retry_delay: Vec<Duration>,
}

impl<'a> Dispatcher<'a> {
    pub(super) fn new(parts: Parts<'a>) -> Dispatcher<'a> {
        Dispatcher {
            engine: parts.engine,
            jobs: parts.jobs,
            taken_back: parts.taken_back,
            messages: parts.messages,
            progress: parts.progress,
            keep_going: parts.keep_going,
            backlog: parts.backlog,
            delayed: BinaryHeap::new(),
            retry_delay: parts.retry_delay,
            in_flight: 0,
            stopping: false,
            presses: 0,
            trouble: None,
            db_dir: parts.db_dir.to_owned(),
            min_free: parts.min_free,
            room_checked: None,
            summary: Summary::default(),
        }
    }

    /// Runs until nothing is left to start and nothing runs. An error of ours comes with the summary
    /// of what was done in spite of it.
    pub(super) fn drive(mut self) -> (Summary, Option<Error>) {
        let mut gathers_may_be_due = true;
        loop {
            if gathers_may_be_due && !self.stopping {
                self.plan_gathers();
            }
            self.start_delayed();
            self.fill();
            if self.in_flight == 0 && (self.stopping || self.delayed.is_empty()) {
                break;
            }
            gathers_may_be_due = self.hear();
        }
        self.finish()
    }

    fn finish(mut self) -> (Summary, Option<Error>) {
        self.summary.left = self.backlog.pending();
        self.summary.waiting = self.backlog.waiting(&self.engine.flow);
        self.summary.complete = self.summary.left == 0
            && self.backlog.failed() == 0
            && self.summary.waiting.is_empty()
            && self.summary.interrupted.is_none()
            && self.trouble.is_none();
        (self.summary, self.trouble)
    }

    /// Sends leaves to the pool until the channel is full or nothing can be started.
    fn fill(&mut self) {
        while !self.stopping && !self.jobs.is_full() {
            if self.room_checked.is_none_or(|checked| checked.elapsed() >= ROOM_CHECK) {
                self.room_checked = Some(Instant::now());
                if let Err(error) = disk::check_room(&self.db_dir, self.min_free) {
                    return self.fail(error);
                }
            }
            match self.backlog.next(&self.engine.db, &self.engine.flow) {
                Ok(Some((task, leaf))) => self.send(Job { task, leaf, tried: 0 }),
                Ok(None) => return,
                Err(error) => return self.fail(error),
            }
        }
    }

    fn send(&mut self, job: Job) {
        self.in_flight += 1;
        self.backlog.started(job.task);
        if self.jobs.send(job).is_err() {
            // Every worker is gone, which only a bug can do.
            self.in_flight -= 1;
            self.fail(Error::Internal("the pool has gone".to_owned()));
        }
    }

    fn start_delayed(&mut self) {
        let now = Instant::now();
        while !self.stopping && !self.jobs.is_full() {
            match self.delayed.peek() {
                Some(Reverse(Delayed(due, job)))
                    if *due <= now && self.backlog.has_room(job.task) => {}
                _ => return,
            }
            if let Some(Reverse(Delayed(_, job))) = self.delayed.pop() {
                self.send(job);
            }
        }
    }

    /// Waits for news and takes all there is. True if a task may have come to its end.
    fn hear(&mut self) -> bool {
        let first = match self.delayed.peek() {
            Some(Reverse(Delayed(due, _))) if !self.stopping && *due > Instant::now() => {
                match self.messages.recv_deadline(*due) {
                    Ok(message) => message,
                    Err(_) => return false,
                }
            }
            _ => match self.messages.recv() {
                Ok(message) => message,
                Err(_) => return false,
            },
        };
        let mut may_be_due = self.take(first);
        while let Ok(message) = self.messages.try_recv() {
            may_be_due |= self.take(message);
        }
        may_be_due
    }

    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Started { step, task, input } => {
                let name =
                    StepName { step, task: &self.engine.flow.task(task).name, input: &input };
                self.progress.tell(&Event::Started(&name));
                false
            }
            Message::Committed { finishes, effects } => {
                self.take_effects(&effects);
                let mut ended = false;
                for finish in finishes {
                    ended |= self.take_finish(finish);
                }
                ended
            }
            Message::Dropped { job } => {
                self.put_back(&job);
                false
            }
            Message::Broken { job, error } => {
                if let Some(job) = &job {
                    self.put_back(job);
                }
                self.fail(error);
                false
            }
            Message::Signal(signal) => {
                self.presses += 1;
                self.progress.tell(&Event::Interrupted { signal, presses: self.presses });
                self.summary.interrupted.get_or_insert(signal);
                self.stop();
                if self.presses == 1 {
                    self.engine.supervisor.cancel_all();
                } else {
                    self.engine.supervisor.kill_all();
                }
                false
            }
        }
    }

    fn take_effects(&mut self, effects: &Effects) {
        let mut grown = 0;
        for &(task, count) in &effects.pending {
            self.backlog.grow(task, count);
            grown += count;
        }
        for &(_, count) in &effects.revived {
            self.summary.revived += count;
        }
        if grown > 0 {
            self.progress.tell(&Event::Grown { pending: grown });
        }
    }

    /// True if that was the task's last step.
    fn take_finish(&mut self, finish: Finish) -> bool {
        let Finish { job, verdict, outputs, wall, failure, warnings, spoilt, log } = finish;
        self.set_aside(spoilt);
        let n = job.task.0;
        self.in_flight -= 1;
        self.backlog.ended(job.task, job.leaf.step, verdict);
        let name = StepName {
            step: job.leaf.step,
            task: &self.engine.flow.tasks[n].name,
            input: &job.leaf.name,
        };
        for warning in &warnings {
            let text = format!("step {} ({}): {warning}", name.step, name.task);
            self.progress.tell(&Event::Warning(&text));
        }
        if let Some(log) = &log {
            self.progress.tell(&Event::Log { step: &name, log });
        }
        match (verdict, failure) {
            (Verdict::Done, _) => {
                self.summary.done += 1;
                self.summary.outputs += outputs as u64;
                self.progress.tell(&Event::Done(&StepDone { name, outputs, wall }));
            }
            (_, Some(failure)) => {
                let again = verdict == Verdict::TryAgain;
                self.progress.tell(&Event::Failed(&StepFailed { name, failure: &failure, again }));
                if !again {
                    self.take_failure(failure);
                }
            }
            (_, None) => {}
        }
        if verdict == Verdict::TryAgain {
            let due = Instant::now() + self.retry_delay[n];
            let leaf = Leaf { attempt: job.leaf.attempt + 1, ..job.leaf };
            self.delayed.push(Reverse(Delayed(due, Job { leaf, tried: job.tried + 1, ..job })));
        }
        self.backlog.is_exhausted(TaskIndex(n))
    }

    fn take_failure(&mut self, failure: Failure) {
        self.summary.failed += 1;
        if self.summary.failures.len() < SHOWN_FAILURES {
            self.summary.failures.push(failure);
        }
        // On a full disk it is the disk that failed.
        if let Err(error) = disk::check_room(&self.db_dir, self.min_free) {
            self.fail(error);
        }
        if !self.keep_going {
            self.stop();
        }
    }

    /// Nobody else may read what a script has spoilt; it is got back when the run is over.
    fn set_aside(&mut self, spoilt: Vec<ObjectHash>) {
        for object in spoilt {
            let Engine { db, store, .. } = &*self.engine;
            match maintain::set_aside(db, store, &self.db_dir, &object) {
                Ok(()) => {
                    let why = "a script changed it".to_owned();
                    self.summary.spoilt.push((object, why));
                }
                Err(error) => self.fail(error),
            }
        }
    }

    /// A job that ended without a result is pending as before.
    fn put_back(&mut self, job: &Job) {
        self.in_flight -= 1;
        self.backlog.put_back(job.task, job.leaf.step);
    }

    fn fail(&mut self, error: Error) {
        self.trouble.get_or_insert(error);
        self.stop();
    }

    /// Nothing more is started; what no worker has taken yet comes back.
    fn stop(&mut self) {
        self.stopping = true;
        self.engine.stop.store(true, Ordering::Release);
        let back: Vec<Job> = self.taken_back.try_iter().collect();
        for job in back {
            self.put_back(&job);
        }
    }

    /// Plans every gather task whose inputs are all there.
    fn plan_gathers(&mut self) {
        for index in self.engine.flow.order.clone() {
            if !self.backlog.may_gather(&self.engine.flow, index) {
                continue;
            }
            match self.plan_gather(index) {
                Ok(effects) => {
                    self.backlog.gathered(index);
                    self.take_effects(&effects);
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    fn plan_gather(&self, index: TaskIndex) -> Result<Effects> {
        let engine = &self.engine;
        let mut listing = Vec::new();
        db::gather_inputs(&engine.db.lock(), &engine.flow, index, &mut |input| {
            db::listing_line(&mut listing, &input);
        })?;
        if listing.is_empty() {
            return Ok(Effects::default());
        }
        let placed =
            engine.store.put(&listing, &|hash| db::known_object(&engine.db.lock(), hash))?;
        if engine.committer.durability == Durability::Batch {
            engine.store.sync(&[&placed])?;
        }
        let plan =
            db::plan_gather(&mut engine.db.lock(), &engine.flow, index, placed.hash, placed.size)?;
        Ok(plan.effects)
    }
}
