//! The dispatcher: the one owner of a run's truth.
//!
//! It reads leaf steps out of the database into a bounded channel, nearest to the end of the graph
//! first, and hears of their ends on an unbounded one (a worker must never wait to report). It alone decides
//! what is started next and when a gather task may be planned. Whether a failed attempt is tried again is the
//! verdict of `attempt::verdict`, which a worker passes before the attempt is committed; whether anything is
//! started at all is up to the run's `StopSwitch`, which a failure, a signal or a full disk moves on,
//! wherever it is seen first. Only committed steps reach the dispatcher as done, so what it shows is as
//! durable as was asked for.
//!
//! In the loop nothing returns early: leaving it would abandon running scripts and the ends they are
//! about to report. Trouble is noted, nothing more is started, and what runs is finished.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::attempt::{NamedObject, StepState, Verdict};
use crate::db::{
    self, Completion, Durability, Effects, Flow, FlowTask, Group, KnownWork, SharedStep,
};
use crate::error::{Error, Result};
use crate::exec::{News, Site};
use crate::ids::{StepId, TaskIndex};
use crate::progress::{
    Event, Failure, Progress, StepEnded, StepName, StepShared, StepStarted, Summary,
};
use crate::stop::Stop;
use crate::text::{path_bytes, printable, size};

use super::admission::Scarcity;
use super::backlog::{Backlog, Lost, MOST_LOSSES, Next};
use super::harvest::Harvest;
use super::message::{AttemptReport, Job, Jobs, Message};
use super::overheads::Overheads;
use super::worker::Engine;

/// Failures shown again at the end.
const SHOWN_FAILURES: usize = 100;

pub(super) struct Dispatcher<'a> {
    pub(super) engine: Arc<Engine>,
    pub(super) jobs: flume::Sender<Jobs>,
    /// The other end of the same channel: to take back what no worker has taken yet.
    pub(super) taken_back: flume::Receiver<Jobs>,
    pub(super) messages: flume::Receiver<Message>,
    pub(super) progress: &'a mut dyn Progress,
    pub(super) backlog: Backlog,
    pub(super) site: &'a dyn Site,
    pub(super) outcome: RunOutcome,
    /// Signals that arrived.
    pub(super) presses: usize,
}

/// What a dispatcher has heard of so far.
#[derive(Default)]
pub(super) struct RunOutcome {
    pub(super) summary: Summary,
    /// What stopped us, if it was no failure of a script.
    pub(super) trouble: Option<Error>,
    pub(super) harvest: Harvest,
    /// What took long besides the scripts.
    pub(super) overheads: Overheads,
}

impl Dispatcher<'_> {
    /// Runs until nothing is left to start and nothing runs. An error of ours comes with the summary
    /// of what was done in spite of it.
    pub(super) fn drive(mut self) -> RunOutcome {
        loop {
            self.plan_sides();
            self.plan_groups();
            self.plan_gathers();
            let now = Instant::now();
            self.fill(now);
            let may_start = self.engine.stop.may_start();
            if !may_start && let Some(first) = self.backlog.take_first() {
                first.iter().for_each(|job| self.put_back(job));
            }
            if may_start && self.backlog.has_due() {
                // Leaves that had their results from others were the last thing that was to be gathered.
                continue;
            }
            let may_retry = self.backlog.has_delayed() && may_start;
            if self.backlog.in_flight() == 0 && !may_retry {
                break;
            }
            self.hear(now);
        }
        self.finish()
    }

    fn finish(mut self) -> RunOutcome {
        let waiting = self.backlog.waiting(&self.engine.flow);
        let asked = self.engine.db.read(|reader| {
            let turns = db::turns(reader)?;
            let (mut without_step, mut blind) = (Vec::new(), Vec::new());
            for &index in &waiting {
                let task = self.engine.flow.task(index);
                if !task.is_ready() {
                    blind.push(task.name.clone());
                    continue;
                }
                // Of several groups, some may be there and others not.
                let lacks_groups = task.is_grouped() && !turns.contains_key(&task.id);
                if lacks_groups || !db::has_live_step(reader, task.id)? {
                    without_step.push(task.name.clone());
                }
            }
            let mut unseeing = Vec::new();
            for (n, task) in self.engine.flow.tasks.iter().enumerate() {
                let count = db::unseeing(reader, &self.engine.flow, TaskIndex(n))?;
                unseeing.extend((count > 0).then(|| (task.name.clone(), count)));
            }
            // It costs a look at all tasks.
            let waits = if waiting.is_empty() { Vec::new() } else { db::waits(reader)? };
            // Only `--only` leaves out what failed before.
            let failed = match self.engine.flow.tasks.iter().any(|task| task.only.is_some()) {
                true => db::todo(reader)?.values().map(|todo| todo.failed).sum(),
                false => 0,
            };
            Ok((turns, without_step, blind, unseeing, waits, failed))
        });
        let (turns, without_step, blind, unseeing, waits, failed) = asked.unwrap_or_else(|error| {
            self.fail(error);
            Default::default()
        });
        let pending = self.backlog.pending();
        let RunOutcome { mut summary, trouble, harvest, overheads } = self.outcome;
        summary.complete = pending == 0
            && self.backlog.failed() == 0
            && waiting.is_empty()
            && summary.interrupted.is_none()
            && trouble.is_none();
        summary.untried = u64::saturating_sub(failed, summary.failed - summary.kept);
        (summary.waiting, summary.blind) = (without_step, blind);
        summary.unseeing.extend(unseeing);
        // What was to run anew and was not reached has the result that it had, and is left all the same.
        summary.left = pending + waits.iter().map(|waits| waits.steps).sum::<u64>();
        summary.reasons = waits.into_iter().map(|waits| (waits.task, waits.why)).collect();
        for db::Turns { anew, waits_anew, kept, held } in turns.into_values() {
            summary.left += waits_anew + held;
            summary.kept += anew + waits_anew;
            summary.reused += kept;
        }
        RunOutcome { summary, trouble, harvest, overheads }
    }

    /// Sends jobs to the pool until the channel is full or nothing can be started.
    /// Retries that are due `now` are among them.
    fn fill(&mut self, now: Instant) {
        while self.engine.stop.may_start() && !self.jobs.is_full() {
            let next = self.backlog.next(now, &self.engine.db, &self.engine.flow);
            let known = self.backlog.take_known();
            let is_news = !known.is_empty();
            if let Err(error) = self.share_known(&known) {
                self.backlog.put_known_back(&known);
                self.fail(error);
            }
            for (task, Scarcity { each, all }) in self.backlog.take_news() {
                let text = format!(
                    "steps of `{}` wait for memory: each is taken to need {}, a fifth more than the last ones took, and \
                     there is {}; set `memory` in the task, or --memory",
                    self.engine.flow.task(task).name,
                    size(each),
                    size(all)
                );
                self.progress.tell(&Event::Note(&text));
            }
            match next {
                Ok(Next::Start(jobs)) => self.send(jobs),
                Ok(Next::Recall) => self.recall(),
                Ok(Next::Nothing) if is_news => {}
                Ok(Next::Nothing) => return,
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Takes back what no worker has taken yet.
    fn recall(&mut self) {
        self.backlog.recall(self.taken_back.try_iter().collect());
    }

    /// Leaves that are the same work as a step that is done have its results; one that has failed, they fail with.
    fn share_known(&mut self, known: &[KnownWork]) -> Result<()> {
        if known.is_empty() {
            return Ok(());
        }
        let shared = self.engine.committer.share_known(known);
        self.engine.slots.wake();
        shared?;
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
        Ok(())
    }

    fn send(&mut self, jobs: Jobs) {
        if let Err(flume::SendError(jobs)) = self.jobs.send(jobs) {
            // Every worker is gone, which only a bug can do.
            jobs.iter().for_each(|job| self.backlog.put_back(job));
            self.fail(Error::Internal("the pool has gone".to_owned()));
        }
    }

    /// Takes back what no worker has taken yet, if steps nearer to the end have come up: they go first. So it is if these
    /// may share a script with some of those.
    /// The channel holds enough for a group of commits, so without this a pipeline would be worked
    /// off in broad layers instead of to its end, and in batches of one.
    fn make_way_for(&mut self, effects: &Effects) {
        if self.backlog.is_to_recall(effects.pending.iter().map(|&(task, _)| task)) {
            self.recall();
        }
    }

    /// Blocks for one message, or until a retry is due that wasn't when retries were last `seen` to; then drains the
    /// channel.
    fn hear(&mut self, seen: Instant) {
        let first = match self.backlog.next_due(seen) {
            Some(due) if self.engine.stop.may_start() => self.messages.recv_deadline(due).ok(),
            // One that was due already waits for room, which only a message can bring.
            _ => self.messages.recv().ok(),
        };
        let Some(first) = first else { return };
        self.take(first);
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
    }

    fn fail(&mut self, error: Error) {
        self.outcome.trouble.get_or_insert(error);
        self.stop(Stop::Drain);
    }

    /// Nothing more is started; what no worker has taken yet comes back.
    fn stop(&mut self, how: Stop) {
        self.engine.stop.advance(how);
        let back: Vec<Jobs> = self.taken_back.try_iter().collect();
        back.iter().flatten().for_each(|job| self.put_back(job));
    }

    /// Plans every task of which all is there that its steps see by `with`.
    fn plan_sides(&mut self) {
        while self.engine.stop.may_start()
            && let Some(index) = self.backlog.pop_due_sides()
        {
            let engine = &self.engine;
            let planned = engine.db.write(|writer| db::plan_with(writer, &engine.flow, index));
            match planned.and_then(|effects| self.take_effects(&effects)) {
                Ok(()) => self.backlog.sided(&self.engine.flow, index),
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Plans every gather task whose inputs are all there.
    fn plan_gathers(&mut self) {
        while self.engine.stop.may_start()
            && let Some(index) = self.backlog.pop_due_gather()
        {
            let planned = match self.engine.flow.task(index).is_grouped() {
                // Its groups were planned one by one.
                true => Ok(()),
                false => self.plan_gather(index, &Group::default()),
            };
            match planned.and_then(|()| self.end_gather(index)) {
                Ok(()) => self.backlog.gathered(&self.engine.flow, index),
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Lets go of what a gather task made of results that are no more. Only where steps run anew may there be any.
    fn end_gather(&self, index: TaskIndex) -> Result<()> {
        let engine = &self.engine;
        if !engine.flow.tasks.iter().any(FlowTask::runs_anew) {
            return Ok(());
        }
        engine.db.write(|writer| db::end_gather(writer, &engine.flow, index))
    }

    /// Plans every group that is complete.
    fn plan_groups(&mut self) {
        while self.engine.stop.may_start()
            && let Some((index, group)) = self.backlog.pop_due_group()
        {
            match self.plan_gather(index, &group) {
                Ok(()) => self.backlog.group_made(index, &group.labels),
                Err(error) => return self.fail(error),
            }
        }
    }

    /// Makes a step of a gather task, if there is anything to gather.
    fn plan_gather(&mut self, index: TaskIndex, group: &Group) -> Result<()> {
        let effects = self.make_gather(index, group)?;
        // First the steps that it makes: without them the task would count as done.
        self.take_effects(&effects)
    }

    fn make_gather(&self, index: TaskIndex, group: &Group) -> Result<Effects> {
        let engine = &self.engine;
        let mut listing = Vec::new();
        let mut list = |input: NamedObject| db::listing_line(&mut listing, &input);
        engine.db.read(|reader| {
            if !engine.flow.task(index).is_grouped() {
                return db::gather_inputs(reader, &engine.flow, index, &mut list);
            }
            let Group { labels, producers } = group;
            let inputs = db::group_inputs(reader, &engine.flow, index, labels, producers)?;
            inputs.into_iter().for_each(list);
            Ok(())
        })?;
        if listing.is_empty() && !engine.flow.task(index).gather_empty {
            return Ok(Effects::default());
        }
        let placed = engine.store.put(&listing)?;
        if engine.committer.durability == Durability::Batch {
            engine.store.sync(&[&placed])?;
        }
        engine.db.write(|writer| {
            db::plan_gather(writer, &engine.flow, index, group, placed.hash, placed.size)
        })
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Started { job, worker, on, at } => {
                let name = name(&self.engine.flow, &job);
                let started = StepStarted { name, worker, on: on.as_ref(), at };
                self.progress.tell(&Event::Started(&started));
            }
            Message::Freed { step } => self.backlog.give_back(step),
            Message::Committed { ended, effects, commit } => {
                self.progress.tell(&Event::Committed(&commit));
                if let Err(error) = self.take_effects(&effects) {
                    self.fail(error);
                }
                for (report, completion) in ended {
                    self.take_attempt(report, &completion);
                }
                self.tell_shared(&effects);
            }
            Message::Shared(effects) => {
                if let Err(error) = self.take_effects(&effects) {
                    self.fail(error);
                }
                self.tell_shared(&effects);
            }
            Message::Spoilt(objects) => {
                let why = "a script changed it".to_owned();
                self.outcome
                    .summary
                    .spoilt
                    .extend(objects.into_iter().map(|object| (object, why.clone())));
            }
            Message::Dropped { jobs } => jobs.iter().for_each(|job| self.put_back(job)),
            Message::Parted { jobs } => {
                for job in jobs {
                    self.progress.tell(&Event::Dropped(&name(&self.engine.flow, &job)));
                    self.backlog.part(job);
                }
            }
            Message::Outdated { jobs, file } => self.take_outdated(&jobs, &file),
            Message::Broken { jobs, error } => {
                jobs.iter().for_each(|job| self.put_back(job));
                self.fail(error);
            }
            Message::Lost { jobs } => jobs.into_iter().for_each(|job| self.take_lost(job)),
            Message::Note(text) | Message::News(News::Note(text)) => {
                self.progress.tell(&Event::Note(&text));
            }
            Message::News(News::Warning(text)) => self.progress.tell(&Event::Warning(&text)),
            Message::News(News::Worker(note)) => {
                self.progress.tell(&Event::Worker(&note));
                if let Err(error) = self.engine.committer.keep_notes() {
                    self.fail(error);
                }
            }
            Message::Suspend => self.suspend(),
            Message::Signal(signal) => {
                self.presses += 1;
                self.progress.tell(&Event::Interrupted { signal, presses: self.presses });
                self.outcome.summary.interrupted.get_or_insert(signal);
                self.stop(if self.presses == 1 { Stop::Term } else { Stop::Kill });
            }
        }
    }

    /// Stops the scripts, then this whole process, until somebody lets it go on.
    fn suspend(&mut self) {
        let mut stopped = Ok(());
        let refused = self.site.while_stopped(&mut || {
            stopped = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
        });
        if let Some(why) = refused {
            self.progress.tell(&Event::Note(&why));
        }
        if let Err(err) = stopped {
            self.progress.tell(&Event::Warning(&format!("can't stop: {err}")));
        }
    }

    /// First what is open from now on, then what is done: a group must not look complete in between.
    fn take_effects(&mut self, effects: &Effects) -> Result<()> {
        self.backlog.open_groups(effects);
        for &(task, pending) in &effects.pending {
            self.backlog.grow(task, pending);
            let flow = self.engine.flow.task(task);
            // What this run doesn't do is no part of how far it is.
            if !flow.is_left_out() {
                let name = &flow.name;
                self.progress.tell(&Event::Grown { task, name, pending, revived: 0 });
            }
        }
        for &(task, revived) in &effects.revived {
            self.outcome.summary.revived += revived;
            let name = &self.engine.flow.task(task).name;
            self.progress.tell(&Event::Grown { task, name, pending: 0, revived });
        }
        for &(task, step) in &effects.revived_steps {
            self.join_groups_of(task, step)?;
        }
        for &(task, count) in &effects.unseeing {
            let name = &self.engine.flow.task(task).name;
            let unseeing = &mut self.outcome.summary.unseeing;
            match unseeing.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += count,
                None => unseeing.push((name.clone(), count)),
            }
        }
        for SharedStep { work, .. } in &effects.shared {
            if !work.has_failed {
                self.outcome.summary.revived += 1;
                self.join_groups_of(work.task, work.step)?;
            }
        }
        self.backlog.shared(&self.engine.flow, &effects.shared);
        self.make_way_for(effects);
        Ok(())
    }

    /// Tells of steps that have the results of others, once these were told of themselves.
    fn tell_shared(&mut self, effects: &Effects) {
        for SharedStep { work, name, labels } in &effects.shared {
            let KnownWork { task: index, step, same_as, has_failed, .. } = *work;
            let task = &self.engine.flow.task(index).name;
            let shared = StepShared { index, task, step, same_as, has_failed, input: name, labels };
            self.progress.tell(&Event::Shared(&shared));
            if has_failed {
                self.note_failure(
                    index,
                    Failure {
                        step,
                        task: task.clone(),
                        input: name.clone(),
                        labels: labels.clone(),
                        why: format!("same work as step {same_as}, which failed"),
                        tries: (1, 1),
                        log_tail: Vec::new(),
                        log_above: 0,
                        log: None,
                    },
                );
            }
        }
    }

    /// A step that is live and done again has made something for these groups.
    fn join_groups_of(&mut self, task: TaskIndex, step: StepId) -> Result<()> {
        for gatherer in self.backlog.gatherers(task) {
            let flow = &self.engine.flow;
            let groups =
                self.engine.db.read(|reader| db::groups_of_step(reader, flow, gatherer, step))?;
            for group in &groups {
                self.backlog.join_group(gatherer, group, step);
            }
        }
        Ok(())
    }

    /// So has one that just ran.
    fn join_groups(&mut self, job: &Job, completion: &Completion) {
        for gatherer in self.backlog.gatherers(job.task) {
            let task = self.engine.flow.task(gatherer);
            for output in &completion.outputs {
                if let Some(group) = task.group_on(
                    self.engine.flow.task(job.task).id,
                    &output.name,
                    &job.leaf.labels,
                ) {
                    self.backlog.join_group(gatherer, &group, job.leaf.step);
                }
            }
        }
    }

    fn take_attempt(&mut self, report: AttemptReport, completion: &Completion) {
        let AttemptReport { job, worked, failure, warnings, log } = report;
        let verdict = completion.verdict;
        let name = name(&self.engine.flow, &job);
        for warning in &warnings {
            let text = format!("step {} ({}): {warning}", name.step, name.task);
            self.progress.tell(&Event::Warning(&text));
        }
        if let Some(log) = &log {
            self.progress.tell(&Event::Log { step: &name, log });
        }
        let again = verdict.is_again();
        self.outcome.summary.attempts += 1;
        self.outcome.overheads.see(job.leaf.step, &completion.attempt, worked);
        self.outcome.summary.failed_attempts += u64::from(verdict != Verdict::Done);
        let ended = StepEnded { name, completion, worked };
        match (verdict, failure) {
            (Verdict::Done, _) => {
                self.outcome.summary.done += 1;
                self.outcome.summary.outputs += completion.outputs.len() as u64;
                let (flow, outputs) = (&self.engine.flow, &completion.outputs);
                self.outcome.harvest.take(flow, job.task, outputs);
                self.progress.tell(&Event::Done(&ended));
            }
            (_, Some(failure)) => {
                self.progress.tell(&Event::Failed(&ended, &failure));
                if !again {
                    self.take_failure(job.task, failure);
                }
            }
            (_, None) => {}
        }
        self.join_groups(&job, completion);
        // Those that share a script have taken this together.
        if job.batch.item == 1 && self.backlog.learn(job.task, &completion.attempt.usage) {
            self.recall();
        }
        let pause = match verdict {
            Verdict::Alone => Duration::ZERO,
            _ => self.engine.manifest.tasks[job.task.0].retry_delay,
        };
        let due = Instant::now() + pause;
        self.backlog.settle(&self.engine.flow, job, verdict, due);
    }

    fn note_failure(&mut self, task: TaskIndex, failure: Failure) {
        self.outcome.summary.failed += 1;
        if self.engine.flow.task(task).runs_anew() {
            let step = self.engine.db.read(|reader| db::find_step(reader, failure.step));
            self.outcome.summary.kept +=
                u64::from(step.is_ok_and(|step| step.state == StepState::Done));
        }
        if self.outcome.summary.failures.len() < SHOWN_FAILURES {
            self.outcome.summary.failures.push(failure);
        }
    }

    fn take_failure(&mut self, task: TaskIndex, failure: Failure) {
        self.note_failure(task, failure);
        // On a full disk it is the disk that failed.
        if let Err(error) = self.engine.free_space.check_now() {
            self.fail(error);
        }
        if !self.engine.keep_going {
            self.stop(Stop::Drain);
        }
    }

    /// The script of these jobs may have read something else than its recipe says: the steps are pending as before, and
    /// nothing more of their task is started, for it would be the same.
    fn take_outdated(&mut self, jobs: &Jobs, file: &Path) {
        if let Some(job) = jobs.first()
            && self.backlog.exclude(job.task)
        {
            self.outcome.summary.obstacles += 1;
            let text = format!(
                "task `{}`: `{}` (of `files`) was changed while the run was reading it; what was made meanwhile is not \
                 kept, run again",
                self.engine.flow.task(job.task).name,
                printable(path_bytes(file))
            );
            self.progress.tell(&Event::Warning(&text));
        }
        jobs.iter().for_each(|job| self.put_back(job));
    }

    /// A job whose worker was lost runs again, unless it was lost too often: it may be what brings workers down.
    fn take_lost(&mut self, job: Job) {
        self.progress.tell(&Event::Dropped(&name(&self.engine.flow, &job)));
        if !self.engine.stop.may_start() {
            return self.backlog.put_back(&job);
        }
        let (task, step) = (self.engine.flow.task(job.task).name.clone(), job.leaf.step);
        if self.backlog.lose(job) == Lost::ForGood {
            self.outcome.summary.obstacles += 1;
            let text = format!(
                "step {step} ({task}) has lost its worker {MOST_LOSSES} times and is left in this run; maybe it takes \
                 more memory than there is"
            );
            self.progress.tell(&Event::Warning(&text));
        }
    }

    /// A job that ended without a result is pending as before.
    fn put_back(&mut self, job: &Job) {
        self.backlog.put_back(job);
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
        executable: job.leaf.executable,
        labels: &job.leaf.labels,
        side: job.leaf.side.as_ref(),
        recipe: &task.recipe_hash,
        attempt: job.leaf.attempt,
        batch: job.shared(),
    }
}
