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
use std::collections::{BTreeSet, BinaryHeap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::db::{self, Durability, Effects, Leaf, Verdict};
use crate::error::{Error, Result};
use crate::ids::{StepId, TaskIndex};
use crate::progress::{Event, Failure, Progress, StepDone, StepFailed, StepName, Summary};

use super::shared::{Finish, Job, Message};
use super::worker::Engine;

/// Leaves read at once.
const BATCH: usize = 256;

/// Failures shown again at the end.
const SHOWN_FAILURES: usize = 100;

/// What is left to do of one task.
#[derive(Default)]
struct TaskState {
    /// Live steps that have to run, wherever they are.
    pending: u64,
    /// Of these, read from the database: ready, with a worker, or waiting for another try.
    held: u64,
    /// Of these, with a worker.
    in_flight: usize,
    failed: u64,
    ready: VecDeque<Leaf>,
    /// Leaves up to here were read.
    after: StepId,
    /// At most this many at once.
    limit: usize,
    height: usize,
    /// `gather`: its step is made, or there is nothing to gather.
    gathered: bool,
    /// Not to be started in this run.
    excluded: bool,
}

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
    tasks: Vec<TaskState>,
    /// (height, place) of tasks that have something to start.
    startable: BTreeSet<(usize, usize)>,
    held_steps: HashSet<StepId>,
    delayed: BinaryHeap<Reverse<Delayed>>,
    retry_delay: Vec<std::time::Duration>,
    in_flight: usize,
    stopping: bool,
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
    /// By place in the manifest: (height, limit, retry delay, excluded).
    pub(super) tasks: Vec<(usize, usize, std::time::Duration, bool)>,
}

impl<'a> Dispatcher<'a> {
    pub(super) fn new(parts: Parts<'a>) -> Result<Dispatcher<'a>> {
        let conn = parts.engine.db.lock();
        let todo = db::todo(&conn)?;
        let mut tasks = Vec::with_capacity(parts.tasks.len());
        let mut retry_delay = Vec::with_capacity(parts.tasks.len());
        for (task, (height, limit, delay, excluded)) in
            parts.engine.flow.tasks.iter().zip(parts.tasks)
        {
            let left = todo.get(&task.id).copied().unwrap_or_default();
            retry_delay.push(delay);
            tasks.push(TaskState {
                pending: left.pending,
                failed: left.failed,
                limit,
                height,
                excluded,
                gathered: task.gather && db::has_live_step(&conn, task.id)?,
                ..TaskState::default()
            });
        }
        drop(conn);
        let mut dispatcher = Dispatcher {
            engine: parts.engine,
            jobs: parts.jobs,
            taken_back: parts.taken_back,
            messages: parts.messages,
            progress: parts.progress,
            keep_going: parts.keep_going,
            tasks,
            startable: BTreeSet::new(),
            held_steps: HashSet::new(),
            delayed: BinaryHeap::new(),
            retry_delay,
            in_flight: 0,
            stopping: false,
            presses: 0,
            trouble: None,
            summary: Summary::default(),
        };
        for n in 0..dispatcher.tasks.len() {
            dispatcher.review(n);
        }
        Ok(dispatcher)
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
        self.summary.left = self.tasks.iter().map(|task| task.pending).sum();
        for (task, state) in self.engine.flow.tasks.iter().zip(&self.tasks) {
            if task.gather && !state.gathered {
                self.summary.waiting.push(task.name.clone());
            }
        }
        let failed: u64 = self.tasks.iter().map(|task| task.failed).sum();
        self.summary.complete = self.summary.left == 0
            && failed == 0
            && self.summary.waiting.is_empty()
            && self.summary.interrupted.is_none()
            && self.trouble.is_none();
        (self.summary, self.trouble)
    }

    /// Keeps the list of startable tasks true; call it after every change of a task's numbers.
    fn review(&mut self, n: usize) {
        let task = &self.tasks[n];
        let waiting = task.held - task.ready.len() as u64;
        let startable = !task.excluded && task.in_flight < task.limit && task.pending > waiting;
        if startable {
            self.startable.insert((task.height, n));
        } else {
            self.startable.remove(&(task.height, n));
        }
    }

    /// Sends leaves to the pool until the channel is full or nothing can be started.
    fn fill(&mut self) {
        while !self.stopping && !self.jobs.is_full() {
            let Some(&(_, n)) = self.startable.first() else { return };
            let Some(leaf) = self.next_leaf(n) else {
                continue;
            };
            self.send(Job { task: TaskIndex(n), leaf, tried: 0 });
        }
    }

    fn send(&mut self, job: Job) {
        let n = job.task.0;
        self.in_flight += 1;
        self.tasks[n].in_flight += 1;
        self.review(n);
        if self.jobs.send(job).is_err() {
            // Every worker is gone, which only a bug can do.
            self.in_flight -= 1;
            self.fail(Error::Internal("the pool has gone".to_owned()));
        }
    }

    fn next_leaf(&mut self, n: usize) -> Option<Leaf> {
        if self.tasks[n].ready.is_empty()
            && let Err(error) = self.read_leaves(n)
        {
            self.fail(error);
        }
        let leaf = self.tasks[n].ready.pop_front();
        if leaf.is_none() {
            // Its numbers promised a leaf that the database doesn't have: never ask again and again.
            self.startable.remove(&(self.tasks[n].height, n));
        }
        leaf
    }

    fn read_leaves(&mut self, n: usize) -> Result<()> {
        let id = self.engine.flow.tasks[n].id;
        let conn = self.engine.db.lock();
        let task = &mut self.tasks[n];
        loop {
            let from = task.after;
            let leaves = db::leaves(&conn, id, from, BATCH)?;
            let was_last = leaves.len() < BATCH;
            for leaf in leaves {
                task.after = leaf.step;
                if self.held_steps.insert(leaf.step) {
                    task.held += 1;
                    task.ready.push_back(leaf);
                }
            }
            if !task.ready.is_empty() || (was_last && from == StepId(0)) {
                return Ok(());
            }
            if was_last {
                // A step that came alive again may have a lower id than those read last.
                task.after = StepId(0);
            }
        }
    }

    fn start_delayed(&mut self) {
        let now = Instant::now();
        while !self.stopping && !self.jobs.is_full() {
            match self.delayed.peek() {
                Some(Reverse(Delayed(due, job)))
                    if *due <= now
                        && self.tasks[job.task.0].in_flight < self.tasks[job.task.0].limit => {}
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
            self.tasks[task.0].pending += count;
            grown += count;
            self.review(task.0);
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
        let Finish { job, verdict, outputs, wall, failure, warnings, log } = finish;
        let n = job.task.0;
        self.in_flight -= 1;
        let task = &mut self.tasks[n];
        task.in_flight -= 1;
        if verdict != Verdict::TryAgain {
            task.pending -= 1;
            task.held -= 1;
            self.held_steps.remove(&job.leaf.step);
        }
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
                    self.take_failure(n, failure);
                }
            }
            (_, None) => {}
        }
        if verdict == Verdict::TryAgain {
            let due = Instant::now() + self.retry_delay[n];
            let leaf = Leaf { attempt: job.leaf.attempt + 1, ..job.leaf };
            self.delayed.push(Reverse(Delayed(due, Job { leaf, tried: job.tried + 1, ..job })));
        }
        self.review(n);
        self.tasks[n].pending == 0
    }

    fn take_failure(&mut self, n: usize, failure: Failure) {
        self.tasks[n].failed += 1;
        self.summary.failed += 1;
        if self.summary.failures.len() < SHOWN_FAILURES {
            self.summary.failures.push(failure);
        }
        if !self.keep_going {
            self.stop();
        }
    }

    /// A job that ended without a result is pending as before.
    fn put_back(&mut self, job: &Job) {
        let n = job.task.0;
        self.in_flight -= 1;
        let task = &mut self.tasks[n];
        task.in_flight -= 1;
        task.held -= 1;
        task.after = StepId(0);
        self.held_steps.remove(&job.leaf.step);
        self.review(n);
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
            let flow = Arc::clone(&self.engine.flow);
            let task = flow.task(index);
            let is_settled = |up: &TaskIndex| {
                let state = &self.tasks[up.0];
                state.pending == 0
                    && state.failed == 0
                    && (!flow.task(*up).gather || state.gathered)
            };
            if task.gather && !self.tasks[index.0].gathered && task.ancestors.iter().all(is_settled)
            {
                match self.plan_gather(index) {
                    Ok(effects) => {
                        self.tasks[index.0].gathered = true;
                        self.take_effects(&effects);
                    }
                    Err(error) => return self.fail(error),
                }
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
