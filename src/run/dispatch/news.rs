//! What the dispatcher makes of each message: the second half of its `impl`.

use std::time::Instant;

use crate::attempt::Verdict;
use crate::db::{Completion, Effects, Flow, Leaf};
use crate::progress::{Event, Failure, StepEnded, StepName, StepStarted};

use crate::stop::Stop;

use super::super::shared::{Finish, Job, Message};
use super::Dispatcher;

/// Failures shown again at the end.
const SHOWN_FAILURES: usize = 100;

impl Dispatcher<'_> {
    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Started { job, worker, at } => {
                let name = name(&self.engine.flow, &job);
                self.progress.tell(&Event::Started(&StepStarted { name, worker, at }));
            }
            Message::Committed { ended, effects, commit } => {
                self.progress.tell(&Event::Committed(&commit));
                self.take_effects(&effects);
                for (finish, completion) in ended {
                    self.take_finish(finish, &completion);
                }
            }
            Message::Spoilt(objects) => {
                let why = "a script changed it".to_owned();
                self.summary.spoilt.extend(objects.into_iter().map(|object| (object, why.clone())));
            }
            Message::Dropped { job } => self.put_back(&job),
            Message::Broken { job, error } => {
                if let Some(job) = &job {
                    self.put_back(job);
                }
                self.fail(error);
            }
            Message::Signal(signal) => {
                self.presses += 1;
                self.progress.tell(&Event::Interrupted { signal, presses: self.presses });
                self.summary.interrupted.get_or_insert(signal);
                self.stop(if self.presses == 1 { Stop::Term } else { Stop::Kill });
            }
        }
    }

    pub(super) fn take_effects(&mut self, effects: &Effects) {
        for &(task, pending) in &effects.pending {
            self.backlog.grow(task, pending);
            let name = &self.engine.flow.task(task).name;
            self.progress.tell(&Event::Grown { task, name, pending, revived: 0 });
        }
        for &(task, revived) in &effects.revived {
            self.summary.revived += revived;
            let name = &self.engine.flow.task(task).name;
            self.progress.tell(&Event::Grown { task, name, pending: 0, revived });
        }
        self.make_way_for(effects);
    }

    fn take_finish(&mut self, finish: Finish, completion: &Completion) {
        let Finish { job, worked, failure, warnings, log } = finish;
        let verdict = completion.verdict;
        self.in_flight -= 1;
        self.backlog.ended(&self.engine.flow, job.task, job.leaf.step, verdict);
        let name = name(&self.engine.flow, &job);
        for warning in &warnings {
            let text = format!("step {} ({}): {warning}", name.step, name.task);
            self.progress.tell(&Event::Warning(&text));
        }
        if let Some(log) = &log {
            self.progress.tell(&Event::Log { step: &name, log });
        }
        let again = verdict == Verdict::TryAgain;
        let ended = StepEnded { name, completion, worked, again };
        match (verdict, failure) {
            (Verdict::Done, _) => {
                self.summary.done += 1;
                self.summary.outputs += completion.outputs.len() as u64;
                self.progress.tell(&Event::Done(&ended));
            }
            (_, Some(failure)) => {
                self.progress.tell(&Event::Failed(&ended, &failure));
                if !again {
                    self.take_failure(failure);
                }
            }
            (_, None) => {}
        }
        if again {
            let due = Instant::now() + self.retry_delay[job.task.0];
            let leaf = Leaf { attempt: job.leaf.attempt + 1, ..job.leaf };
            self.delayed.push(due, Job { leaf, tried: job.tried + 1, ..job });
        }
    }

    fn take_failure(&mut self, failure: Failure) {
        self.summary.failed += 1;
        if self.summary.failures.len() < SHOWN_FAILURES {
            self.summary.failures.push(failure);
        }
        // On a full disk it is the disk that failed.
        if let Err(error) = self.engine.floor.check_now() {
            self.fail(error);
        }
        if !self.keep_going {
            self.stop(Stop::Drain);
        }
    }

    /// A job that ended without a result is pending as before.
    pub(super) fn put_back(&mut self, job: &Job) {
        self.in_flight -= 1;
        self.backlog.put_back(job.task, job.leaf.step);
        self.progress.tell(&Event::Dropped(&name(&self.engine.flow, job)));
    }
}

fn name<'a>(flow: &'a Flow, job: &'a Job) -> StepName<'a> {
    let task = flow.task(job.task);
    StepName {
        step: job.leaf.step,
        index: job.task,
        task: &task.name,
        input: &job.leaf.name,
        object: &job.leaf.object,
        recipe: &task.recipe_hash,
        attempt: job.leaf.attempt,
    }
}
