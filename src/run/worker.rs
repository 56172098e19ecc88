//! One thread of the pool: takes a step, runs it, hands in its completion. Knows how to turn a task
//! and a leaf into an attempt; `report` turns what happened into rows. Decides nothing about the run.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::attempt::{NamedObject, Outcome, Verdict, verdict};
use crate::db::{self, Db, Flow};
use crate::error::{Error, Result};
use crate::exec::{Executor, Ran};
use crate::maintain;
use crate::object::ObjectHash;
use crate::step::{Attempt, Input, Report, Script};
use crate::stop::{Stop, StopSwitch};
use crate::store::Store;

use super::committer::{Committer, Ready};
use super::disk::Floor;
use super::shared::{Job, Message};
use super::slots::{Due, Slot, Slots};
use super::tokens::Tokens;

/// What a worker needs to know of a task.
pub(super) struct TaskWork {
    pub(super) script: Arc<Script>,
    pub(super) gather: bool,
    pub(super) retries: u32,
    /// It has a `parallel`.
    pub(super) is_limited: bool,
}

/// All that workers share.
pub(super) struct Engine {
    pub(super) db: Arc<Db>,
    pub(super) store: Arc<Store>,
    pub(super) flow: Arc<Flow>,
    pub(super) tasks: Vec<TaskWork>,
    pub(super) db_dir: PathBuf,
    /// Objects that scripts have changed in this run.
    pub(super) spoilt: Mutex<HashSet<ObjectHash>>,
    pub(super) committer: Committer,
    pub(super) slots: Slots,
    pub(super) floor: Floor,
    pub(super) tokens: Tokens,
    pub(super) stop: Arc<StopSwitch>,
    pub(super) messages: flume::Sender<Message>,
    /// Somebody wants to know of starts.
    pub(super) tell_starts: bool,
    pub(super) verbose: bool,
    /// `-k`.
    pub(super) keep_going: bool,
}

/// Takes steps until there are no more. Never panics: the pool would swallow it, and the dispatcher
/// would wait for ever.
pub(super) fn work(engine: &Engine, executor: &mut dyn Executor, jobs: &flume::Receiver<Job>) {
    loop {
        if let Some(slot) = engine.slots.take(|| engine.committer.due()) {
            let has_ended = engine.run_steps(&slot, executor, jobs);
            drop(slot);
            if has_ended {
                return;
            }
        }
        if engine.committer.lead() {
            engine.slots.wake();
        }
    }
}

impl Engine {
    /// Runs steps until something has to be committed. True if there will be no more of them.
    fn run_steps(
        &self,
        slot: &Slot<'_>,
        executor: &mut dyn Executor,
        jobs: &flume::Receiver<Job>,
    ) -> bool {
        loop {
            let job = match jobs.try_recv() {
                Ok(job) => job,
                // Nothing to run, so there is time for what this and others have queued.
                Err(_) if self.committer.wants_lead() => return false,
                Err(_) => match jobs.recv() {
                    Ok(job) => job,
                    Err(_) => return true,
                },
            };
            self.run_step(slot, executor, job);
            if self.committer.due() == Due::Now {
                return false;
            }
        }
    }

    fn run_step(&self, slot: &Slot<'_>, executor: &mut dyn Executor, job: Job) {
        if !self.stop.may_start() {
            return self.say(Message::Dropped { job });
        }
        if let Err(error) = self.floor.check() {
            self.stop.advance(Stop::Drain);
            return self.say(Message::Broken { job: Some(job), error });
        }
        let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt(slot, executor, &job)));
        match attempt {
            Ok(Ok(Some(ready))) => {
                if self.committer.submit(ready) {
                    self.slots.wake();
                }
            }
            Ok(Ok(None)) => self.say(Message::Dropped { job }),
            Ok(Err(error)) => self.say(Message::Broken { job: Some(job), error }),
            Err(_) => {
                let error = Error::Internal(format!("a worker panicked on step {}", job.leaf.step));
                self.say(Message::Broken { job: Some(job), error });
            }
        }
    }

    fn say(&self, message: Message) {
        // The dispatcher outlives every worker, so this can't fail while it matters.
        let _ = self.messages.send(message);
    }

    /// Runs one attempt. `None`: it was cancelled, which says nothing about the step.
    fn attempt(
        &self,
        slot: &Slot<'_>,
        executor: &mut dyn Executor,
        job: &Job,
    ) -> Result<Option<Ready>> {
        let mut token = self.tokens.take();
        if token.is_none() {
            return Ok(None);
        }
        let began = Instant::now();
        let attempt = self.describe(job)?;
        if self.tell_starts {
            self.say(Message::Started { job: job.clone(), worker: slot.number, at: began });
        }
        let ran = executor.run(&attempt, &mut |outcome| {
            // Before the outputs are looked at, or another script would start after a failure.
            if self.is_final(job, outcome) && !self.keep_going {
                self.stop.advance(Stop::Drain);
            }
            drop(token.take());
        });
        let (report, placed) = match ran.or_else(|error| self.excuse(error, &attempt))? {
            Ran::Report(report, placed) => (*report, placed),
            // Nobody knows how it ended: it runs again.
            Ran::Cancelled | Ran::Lost(_) => return Ok(None),
        };
        self.set_aside(&report.damaged_inputs)?;
        self.ready(job, slot.number, (began, Instant::now()), report, placed)
    }

    /// Nobody else may read what a script has spoilt, this worker's next step least of all; it is got back
    /// when the run is over.
    fn set_aside(&self, spoilt: &[ObjectHash]) -> Result<()> {
        for object in spoilt {
            self.spoilt().insert(*object);
            maintain::set_aside(&self.db, &self.store, &self.db_dir, object)?;
        }
        if !spoilt.is_empty() {
            self.say(Message::Spoilt(spoilt.to_vec()));
        }
        Ok(())
    }

    fn spoilt(&self) -> MutexGuard<'_, HashSet<ObjectHash>> {
        self.spoilt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An input that another step has spoilt in this run is that step's fault and no damaged database: this
    /// one fails, and the next run has its input again.
    fn excuse(&self, error: Error, attempt: &Attempt) -> Result<Ran> {
        match error {
            Error::Damaged { object, .. } if self.spoilt().contains(&object) => {
                let why = "another step has changed its input; that is got back when the run is over: run again";
                let outcome = Outcome::Refused(why.to_owned());
                Ok(Ran::Report(Box::new(Report::of(attempt, outcome)), Vec::new()))
            }
            error => Err(error),
        }
    }

    /// True if an attempt failed and is not followed by another one in this run.
    fn is_final(&self, job: &Job, outcome: &Outcome) -> bool {
        let retries = self.tasks[job.task.0].retries;
        verdict(outcome, job.tried, retries, false) == Some(Verdict::Failed)
    }

    fn describe(&self, job: &Job) -> Result<Attempt> {
        let task = &self.tasks[job.task.0];
        let leaf = &job.leaf;
        let input = if task.gather {
            let mut items = Vec::new();
            db::gather_inputs(&self.db.lock(), &self.flow, job.task, &mut |input| {
                items.push(input)
            })?;
            Input::Many(items)
        } else {
            Input::One(NamedObject {
                name: leaf.name.clone(),
                object: leaf.object,
                executable: leaf.executable,
            })
        };
        let key = db::step_key(&self.flow.task(job.task).recipe_hash, &leaf.object, &leaf.name);
        Ok(Attempt {
            step: leaf.step,
            number: leaf.attempt,
            key,
            input,
            script: Arc::clone(&task.script),
        })
    }
}
