//! What the dispatcher makes of each message: the second half of its `impl`.

use std::time::Instant;

use crate::db::{Effects, Leaf, Verdict};
use crate::ids::TaskIndex;
use crate::maintain;
use crate::object::ObjectHash;
use crate::progress::{Event, Failure, StepDone, StepFailed, StepName};

use super::super::disk;
use super::super::shared::{Finish, Job, Message};
use super::super::worker::Engine;
use super::Dispatcher;

/// Failures shown again at the end.
const SHOWN_FAILURES: usize = 100;

impl Dispatcher<'_> {
    pub(super) fn take(&mut self, message: Message) -> bool {
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

    pub(super) fn take_effects(&mut self, effects: &Effects) {
        let mut grown = 0;
        for &(task, count) in &effects.pending {
            self.backlog.grow(task, count);
            grown += count;
        }
        for &(_, count) in &effects.revived {
            self.summary.revived += count;
        }
        self.make_way_for(effects);
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
            self.delayed.push(due, Job { leaf, tried: job.tried + 1, ..job });
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
    pub(super) fn put_back(&mut self, job: &Job) {
        self.in_flight -= 1;
        self.backlog.put_back(job.task, job.leaf.step);
    }
}
