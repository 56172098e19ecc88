//! The dispatcher: the one owner of a run's truth.
//!
//! It reads leaf steps out of the database into a bounded channel, nearest to the end of the graph
//! first, and hears of their ends on an unbounded one (a worker must never wait to report). Only it
//! decides: what is started, what is tried again, when a gather task may be planned, when to stop.
//! Only committed steps reach it as done, so what it shows is as durable as was asked for.
//!
//! In the loop nothing returns early: leaving it would abandon running scripts and the ends they are
//! about to report. Trouble is noted, nothing more is started, and what runs is finished.

mod news;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::db::{self, Durability, Effects};
use crate::error::{Error, Result};
use crate::ids::TaskIndex;
use crate::progress::{Progress, Summary};
use crate::stop::Stop;

use super::backlog::Backlog;
use super::delayed;
use super::shared::{Job, Message};
use super::worker::Engine;

pub(super) struct Dispatcher<'a> {
    engine: Arc<Engine>,
    jobs: flume::Sender<Job>,
    /// The other end of the same channel: to take back what no worker has taken yet.
    taken_back: flume::Receiver<Job>,
    messages: flume::Receiver<Message>,
    progress: &'a mut dyn Progress,
    keep_going: bool,
    backlog: Backlog,
    delayed: delayed::Queue,
    retry_delay: Vec<Duration>,
    in_flight: usize,
    /// Height of the task whose step was sent last, which is the farthest from the end.
    last_height: usize,
    presses: usize,
    trouble: Option<Error>,
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
            delayed: delayed::Queue::default(),
            retry_delay: parts.retry_delay,
            in_flight: 0,
            last_height: 0,
            presses: 0,
            trouble: None,
            summary: Summary::default(),
        }
    }

    /// Runs until nothing is left to start and nothing runs. An error of ours comes with the summary
    /// of what was done in spite of it.
    pub(super) fn drive(mut self) -> (Summary, Option<Error>) {
        loop {
            self.plan_gathers();
            self.start_delayed();
            self.fill();
            if self.in_flight == 0 && (self.delayed.is_empty() || !self.engine.stop.may_start()) {
                break;
            }
            self.hear();
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
        while self.engine.stop.may_start() && !self.jobs.is_full() {
            match self.backlog.next(&self.engine.db, &self.engine.flow) {
                Ok(Some((task, leaf))) => self.send(Job { task, leaf, tried: 0 }),
                Ok(None) => return,
                Err(error) => return self.fail(error),
            }
        }
    }

    fn send(&mut self, job: Job) {
        self.in_flight += 1;
        self.last_height = self.backlog.height(job.task);
        self.backlog.started(job.task);
        if self.jobs.send(job).is_err() {
            // Every worker is gone, which only a bug can do.
            self.in_flight -= 1;
            self.fail(Error::Internal("the pool has gone".to_owned()));
        }
    }

    /// Takes back what no worker has taken yet, if steps nearer to the end have come up: they go first.
    /// The channel holds enough for a group of commits, so without this a pipeline would be worked
    /// off in broad layers instead of to its end.
    fn make_way_for(&mut self, effects: &Effects) {
        let heights = effects.pending.iter().map(|&(task, _)| self.backlog.height(task));
        if heights.min().is_none_or(|nearest| nearest >= self.last_height) {
            return;
        }
        let back: Vec<Job> = self.taken_back.try_iter().collect();
        let (first_tries, retries): (Vec<Job>, Vec<Job>) =
            back.into_iter().partition(|job| job.tried == 0);
        for job in first_tries.into_iter().rev() {
            self.in_flight -= 1;
            self.backlog.recall(job.task, job.leaf);
        }
        for job in retries {
            self.in_flight -= 1;
            self.backlog.unsend(job.task);
            self.send(job);
        }
    }

    fn start_delayed(&mut self) {
        let now = Instant::now();
        while self.engine.stop.may_start() && !self.jobs.is_full() {
            let backlog = &self.backlog;
            let Some(job) = self.delayed.pop_due(now, |job| backlog.has_room(job.task)) else {
                return;
            };
            self.send(job);
        }
    }

    /// Waits for news and takes all there is.
    fn hear(&mut self) {
        let first = match self.delayed.next_due() {
            Some(due) if self.engine.stop.may_start() && due > Instant::now() => {
                self.messages.recv_deadline(due).ok()
            }
            _ => self.messages.recv().ok(),
        };
        let Some(first) = first else { return };
        self.take(first);
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
    }

    fn fail(&mut self, error: Error) {
        self.trouble.get_or_insert(error);
        self.stop(Stop::Drain);
    }

    /// Nothing more is started; what no worker has taken yet comes back.
    fn stop(&mut self, how: Stop) {
        self.engine.stop.advance(how);
        let back: Vec<Job> = self.taken_back.try_iter().collect();
        for job in back {
            self.put_back(&job);
        }
    }

    /// Plans every gather task whose inputs are all there.
    fn plan_gathers(&mut self) {
        while self.engine.stop.may_start()
            && let Some(index) = self.backlog.pop_due_gather()
        {
            match self.plan_gather(index) {
                Ok(effects) => {
                    // First the steps that it makes: without them the task would count as done.
                    self.take_effects(&effects);
                    self.backlog.gathered(&self.engine.flow, index);
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
        let placed = engine.store.put(&listing)?;
        if engine.committer.durability == Durability::Batch {
            engine.store.sync(&[&placed])?;
        }
        let plan =
            db::plan_gather(&mut engine.db.lock(), &engine.flow, index, placed.hash, placed.size)?;
        Ok(plan.effects)
    }
}
