//! One thread of the pool: takes a step, runs it, hands in its completion. Knows how to turn a task
//! and a leaf into an attempt, and the report of that into rows.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::attempt::{NamedObject, Outcome, Verdict, verdict};
use crate::db::{self, Completion, Db, Dependency, Flow, Interrupted};
use crate::elsewhere::WorkerSlot;
use crate::error::{Error, OrIo, Result};
use crate::exec::{Engaged, Executor, Needs, Ran};
use crate::ids::TaskIndex;
use crate::maintain;
use crate::manifest::Manifest;
use crate::object::ObjectHash;
use crate::progress::Failure;
use crate::step::{self, Attempt, Input, Item, Made, Report, Script};
use crate::stop::{Stop, StopSwitch};
use crate::store::{Placed, Store};
use crate::sys::clock::{now_ms, now_ns, stamp_ns};
use crate::text::{TAIL_LINES, lines_above, shown, tail};
use crate::tokens::Tokens;

use super::committer::{Committer, InterruptedLog, PendingCommit};
use super::dependencies::{DependencyCheck, ReadFiles};
use super::free_space::FreeSpace;
use super::lack;
use super::listed::ListedFiles;
use super::message::{AttemptReport, Job, Jobs, Message};
use super::permits::{Due, Slot, Slots};
use super::unset;

/// No more of a log than this is shown with `-v`.
const SHOWN_LOG: u64 = 1 << 20;

/// All that workers share.
pub(super) struct Engine {
    pub(super) db: Arc<Db>,
    pub(super) store: Arc<Store>,
    pub(super) flow: Arc<Flow>,
    pub(super) manifest: Arc<Manifest>,
    /// By place in the manifest.
    pub(super) scripts: Vec<Arc<Script>>,
    /// By place in the manifest: what each task's scripts read besides their input.
    pub(super) listed: Arc<Vec<ListedFiles>>,
    pub(super) dependencies: DependencyCheck,
    /// By place in the manifest: one of these was found changed.
    pub(super) outdated: Vec<AtomicBool>,
    /// By place in the manifest: it was said why its interpreter is started anew for each step.
    pub(super) noted: Vec<AtomicBool>,
    pub(super) db_dir: PathBuf,
    /// Objects that scripts have changed in this run.
    pub(super) spoilt: Mutex<HashSet<ObjectHash>>,
    pub(super) committer: Committer,
    pub(super) slots: Slots,
    pub(super) free_space: FreeSpace,
    pub(super) tokens: Tokens,
    /// `-j`
    pub(super) jobs: usize,
    /// Names of what `--have` says there is.
    pub(super) have: Vec<String>,
    /// The dispatcher wants to know of each script that is over.
    pub(super) is_tight: Arc<AtomicBool>,
    pub(super) stop: Arc<StopSwitch>,
    pub(super) messages: flume::Sender<Message>,
    /// Somebody wants to know of starts.
    pub(super) tell_starts: bool,
    pub(super) verbose: bool,
    /// `-k`.
    pub(super) keep_going: bool,
}

/// The pauses before further attempts of a step whose `files` were changed and changed back while it ran: so long that
/// their time stamps tell that this was before, also where those are whole or even seconds.
const PAUSES: [Duration; 2] = [Duration::from_millis(60), Duration::from_millis(2100)];

/// Where an attempt is made.
struct MadeAt {
    /// Which of the scripts that may run at once it is.
    lane: usize,
    /// The place takes the next one as soon as the script is over.
    is_site_lane: bool,
    /// `None`: on this machine.
    on: Option<WorkerSlot>,
}

/// What became of jobs that share a script.
enum Attempted {
    Ready(Vec<PendingCommit>),
    /// That says nothing about the steps; with what had been printed until then.
    Cancelled(Vec<InterruptedLog>),
    /// Nor does that, and each is to run by itself.
    Parted,
    /// Whoever made the attempt is gone.
    Lost,
    /// This one of the task's `files` changed meanwhile.
    Outdated(PathBuf),
    /// While it ran one of the task's `files` may have been another one, which it no longer is: nothing is kept of the
    /// attempt, and another one is due.
    Again(PathBuf),
}

/// Takes steps until there are no more. Never panics: the pool would swallow it, and the dispatcher
/// would wait for ever.
pub(super) fn work(engine: &Engine, executor: &mut dyn Executor, jobs: &flume::Receiver<Jobs>) {
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
        jobs: &flume::Receiver<Jobs>,
    ) -> bool {
        loop {
            self.committer.wait_for_room();
            let jobs = match jobs.try_recv() {
                Ok(jobs) => jobs,
                // Nothing to run, so there is time for what this and others have queued.
                Err(_) if self.committer.wants_lead() => return false,
                Err(_) => match jobs.recv() {
                    Ok(jobs) => jobs,
                    Err(_) => return true,
                },
            };
            self.run_script(slot, executor, jobs);
            if self.committer.due() == Due::Now {
                return false;
            }
        }
    }

    /// Runs one script, which is for one step or for several.
    fn run_script(&self, slot: &Slot<'_>, executor: &mut dyn Executor, jobs: Jobs) {
        let Some(task) = jobs.first().map(|job| job.task) else { return };
        if !self.stop.may_start() || self.is_outdated(task) {
            return self.say(Message::Dropped { jobs });
        }
        if let Err(error) = self.free_space.check() {
            self.stop.advance(Stop::Drain);
            return self.say(Message::Broken { jobs, error });
        }
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            let mut pauses = PAUSES.into_iter();
            loop {
                let pause = pauses.next();
                let attempt = self.attempt(slot, executor, task, &jobs, pause.is_none());
                let is_due = matches!(attempt, Ok(Attempted::Again(_))) && self.stop.may_start();
                match pause {
                    Some(pause) if is_due => std::thread::sleep(pause),
                    _ => return attempt,
                }
            }
        }));
        match attempt {
            Ok(Ok(Attempted::Ready(ready))) => {
                if self.committer.submit(ready) {
                    self.slots.wake();
                }
            }
            Ok(Ok(Attempted::Cancelled(logs))) => {
                if self.committer.submit_interrupted(logs) {
                    self.slots.wake();
                }
                self.say(Message::Dropped { jobs });
            }
            Ok(Ok(Attempted::Parted)) => self.say(Message::Parted { jobs }),
            Ok(Ok(Attempted::Lost)) => self.say(Message::Lost { jobs }),
            Ok(Ok(Attempted::Outdated(file) | Attempted::Again(file))) => {
                self.say(Message::Outdated { jobs, file })
            }
            Ok(Err(error)) => self.say(Message::Broken { jobs, error }),
            Err(_) => {
                let steps: Vec<String> = jobs.iter().map(|job| job.leaf.step.to_string()).collect();
                let steps = steps.join(", ");
                let error = Error::Internal(format!("a worker panicked on step {steps}"));
                self.say(Message::Broken { jobs, error });
            }
        }
    }

    fn say(&self, message: Message) {
        // The dispatcher outlives every worker, so this can't fail while it matters.
        let _ = self.messages.send(message);
    }

    /// True once one of the task's `files` was found to be other than its recipe says: what the scripts would make of
    /// it isn't what was planned.
    fn is_outdated(&self, task: TaskIndex) -> bool {
        self.outdated[task.0].load(Ordering::Acquire)
    }

    /// Runs one attempt at steps of a task; after the last one, what they said they read can't have been changed meanwhile
    /// once more.
    fn attempt(
        &self,
        slot: &Slot<'_>,
        executor: &mut dyn Executor,
        task: TaskIndex,
        jobs: &Jobs,
        is_last: bool,
    ) -> Result<Attempted> {
        let (mut token, cpus, made_at) = match executor.engage(&self.needs(task, jobs))? {
            Engaged::Nowhere => return Ok(Attempted::Cancelled(Vec::new())),
            // make's tokens are those of this machine.
            Engaged::There { on, lane, cpus } => {
                (None, cpus, MadeAt { lane, is_site_lane: true, on: Some(on) })
            }
            Engaged::Here { lane } => {
                let cpus = self.manifest.tasks[task.0].cpus.get().min(self.jobs);
                let Some(taken) = self.tokens.take(cpus) else {
                    return Ok(Attempted::Cancelled(Vec::new()));
                };
                let cpus = taken.cpus();
                let is_site_lane = lane.is_some();
                let lane = lane.unwrap_or(slot.number);
                (Some(taken), cpus, MadeAt { lane, is_site_lane, on: None })
            }
        };
        let (began, since_ns, stamp_ns) = (Instant::now(), now_ns(), stamp_ns());
        let attempt = self.describe(task, jobs, cpus)?;
        if self.tell_starts {
            for job in jobs {
                let (job, on) = (job.clone(), made_at.on.clone());
                self.say(Message::Started { job, worker: made_at.lane, on, at: began });
            }
        }
        let mut over = None;
        let ran = executor.run(&attempt, &mut |outcomes| {
            over = Some(Instant::now());
            // Before the outputs are looked at, or another script would start after a failure.
            let is_final = |(job, outcome)| self.is_final(job, outcome);
            if !self.keep_going && jobs.iter().zip(outcomes).any(is_final) {
                self.stop.advance(Stop::Drain);
            }
            drop(token.take());
            // One whose `files` or dependencies have changed meanwhile may run once more.
            let may_repeat = !self.listed[task.0].is_empty() || attempt.script.depfile.is_some();
            if self.is_tight.load(Ordering::Acquire)
                && !may_repeat
                && let Some(first) = jobs.first()
            {
                self.say(Message::Freed { step: first.leaf.step });
            }
        });
        let mut made = match ran.map(Some).or_else(|error| self.excuse(error, &attempt))? {
            Some(Ran::Over(made)) => made,
            // Nobody knows how it ended: it runs again.
            Some(Ran::Cancelled(made)) => {
                let logs = self.interrupted(jobs, made)?;
                return Ok(Attempted::Cancelled(logs));
            }
            Some(Ran::Lost(_)) => return Ok(Attempted::Lost),
            None => return Ok(Attempted::Parted),
        };
        if let Some(note) = made.iter().find_map(|(report, _)| report.note.as_ref())
            && self.verbose
            && !self.noted[task.0].swap(true, Ordering::Relaxed)
        {
            self.say(Message::Note(note.clone()));
        }
        for (report, _) in &made {
            self.set_aside(&report.damaged_inputs)?;
        }
        // A failure is recorded all the same: its log may say what is wrong, and the next run tries it again.
        if made.iter().any(|(report, _)| report.record.outcome.is_ok())
            && let Some((file, is_back)) = self.listed[task.0].changed(since_ns)?
        {
            discard(&self.store, made.into_iter().flat_map(|(_, placed)| placed))?;
            if is_back {
                return Ok(Attempted::Again(file));
            }
            self.outdated[task.0].store(true, Ordering::Release);
            return Ok(Attempted::Outdated(file));
        }
        for made in &mut made {
            self.insist_on_outputs(task, made)?;
        }
        let mut dependencies = vec![Vec::new(); made.len()];
        let mut changed = None;
        if let Some(depfile) = &attempt.script.depfile {
            for (made, known) in made.iter_mut().zip(&mut dependencies) {
                match self.read_files(depfile, made, stamp_ns, is_last)? {
                    Ok(read) => *known = read,
                    Err(file) => changed = Some(file),
                }
            }
        }
        if let Some(file) = changed {
            discard(&self.store, made.into_iter().flat_map(|(_, placed)| placed))?;
            return Ok(Attempted::Again(file));
        }
        let ended = over.filter(|_| made_at.is_site_lane).unwrap_or_else(Instant::now);
        let worked = (began, ended);
        let mut all = Vec::with_capacity(made.len());
        for ((job, made), dependencies) in jobs.iter().zip(made).zip(dependencies) {
            match self.ready(job, &made_at, worked, made, dependencies)? {
                Some(ready) => all.push(ready),
                None => return Ok(Attempted::Cancelled(Vec::new())),
            }
        }
        Ok(Attempted::Ready(all))
    }

    /// What a step has said it read. One that can't have read what is there now has failed; unless that was changed
    /// meanwhile, and the attempt is not the last one: then this file is returned, and the attempt to be repeated.
    fn read_files(
        &self,
        depfile: &str,
        (report, placed): &mut Made,
        stamp_ns: i64,
        is_last: bool,
    ) -> Result<std::result::Result<Vec<Dependency>, PathBuf>> {
        if !report.record.outcome.is_ok() {
            return Ok(Ok(Vec::new()));
        }
        let why = match self.dependencies.check(
            &self.db,
            depfile,
            &report.dependencies,
            stamp_ns,
        )? {
            ReadFiles::Known(known) => return Ok(Ok(known)),
            ReadFiles::Changed(file) if !is_last => return Ok(Err(file)),
            ReadFiles::Changed(file) => format!(
                "`{}`, which it has read, was changed while it ran, three times; run again when nobody writes to \
                 it, and let the script itself write to TMPDIR",
                shown(&file)
            ),
            ReadFiles::Refused(why) => why,
        };
        self.refuse(report, placed, why)?;
        Ok(Ok(Vec::new()))
    }

    /// A step that has left nothing of a kind which its task's `outputs` asks for has failed.
    fn insist_on_outputs(&self, task: TaskIndex, (report, placed): &mut Made) -> Result<()> {
        let declared = &self.manifest.tasks[task.0];
        let Some(patterns) = &declared.outputs else { return Ok(()) };
        if patterns.is_empty() || !report.record.outcome.is_ok() {
            return Ok(());
        }
        let names = report.outputs.iter().map(|output| output.name.as_slice());
        let flow = self.flow.task(task);
        let lacking = flow.lacking(names.clone());
        if lacking.is_empty() {
            return Ok(());
        }
        let why = lack::sentence(&lacking, patterns, &flow.wanted, names, declared);
        self.refuse(report, placed, why)
    }

    /// The logs of attempts that were not let come to their end; nothing else is kept of them.
    fn interrupted(&self, jobs: &Jobs, made: Vec<Made>) -> Result<Vec<InterruptedLog>> {
        let mut logs = Vec::new();
        // One log for all that share it.
        let mut shared = None;
        for (job, (report, placed)) in jobs.iter().zip(made) {
            let is_log = |placed: &Placed| Some(placed.hash) == report.record.log;
            let (mut log, others): (Vec<_>, Vec<_>) = placed.into_iter().partition(is_log);
            discard(&self.store, others)?;
            let guard = log.pop();
            shared = shared.or(guard.as_ref().map(|log| (log.hash, log.size)));
            let Some((log, size)) = shared else { continue };
            let (step, number, run) = (job.leaf.step, job.leaf.attempt, self.committer.run);
            logs.push(InterruptedLog { row: Interrupted { step, number, run, log }, size, guard });
        }
        Ok(logs)
    }

    /// A step has failed after all: nothing is kept of it but its log.
    fn refuse(&self, report: &mut Report, placed: &mut Vec<Placed>, why: String) -> Result<()> {
        report.outputs.clear();
        report.record.outcome = Outcome::Refused(why);
        let is_log = |placed: &Placed| Some(placed.hash) == report.record.log;
        let (log, outputs) = std::mem::take(placed).into_iter().partition(is_log);
        *placed = log;
        discard(&self.store, outputs)
    }

    /// Nobody else may read what a script has spoilt, this worker's next step least of all; it is got back
    /// when the run is over.
    fn set_aside(&self, spoilt: &[ObjectHash]) -> Result<()> {
        for object in spoilt {
            self.spoilt().insert(*object);
            step::note_spoilt(object);
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

    /// Whether a step of this run has changed an object, or one that has been lent it may have.
    fn is_spoilt(&self, object: &ObjectHash) -> Result<bool> {
        // In this order: it is among ours before it is no longer one that may be.
        Ok(step::may_be_spoilt(&self.store, object)? || self.spoilt().contains(object))
    }

    /// An input that another step has spoilt in this run is that step's fault and no damaged database: this
    /// one fails, and the next run has its input again. Of several, those that it is not an input of run by themselves:
    /// `None`.
    fn excuse(&self, error: Error, attempt: &Attempt) -> Result<Option<Ran>> {
        match error {
            Error::Damaged { object, .. } if self.is_spoilt(&object)? => {
                let [item] = attempt.items.as_slice() else { return Ok(None) };
                let why = "another step has changed its input; that is got back when the run is over: run again";
                let outcome = Outcome::Refused(why.to_owned());
                Ok(Some(Ran::Over(vec![(Report::of(item, outcome), Vec::new())])))
            }
            error => Err(error),
        }
    }

    /// True if an attempt failed and is not followed by another one in this run.
    fn is_final(&self, job: &Job, outcome: &Outcome) -> bool {
        let retries = self.manifest.tasks[job.task.0].retries;
        let has_fellows = job.shared().is_some();
        verdict(outcome, job.tried, retries, false, has_fellows) == Some(Verdict::Failed)
    }

    /// What the script of these jobs takes.
    fn needs(&self, task: TaskIndex, jobs: &Jobs) -> Needs {
        let declared = &self.manifest.tasks[task.0];
        let kind = |name: &String| self.have.iter().position(|known| known == name);
        Needs {
            cpus: declared.cpus.get(),
            memory: jobs.first().map_or(0, |first| first.memory),
            uses: declared
                .uses
                .iter()
                .filter_map(|(name, n)| Some((kind(name)?, n.get())))
                .collect(),
        }
    }

    /// `cpus` is what the script is told that it has.
    fn describe(&self, task: TaskIndex, jobs: &Jobs, cpus: usize) -> Result<Attempt> {
        let items = jobs.iter().map(|job| self.describe_step(job)).collect::<Result<_>>()?;
        // Jobs that share a script see the same.
        let side = match jobs.first().and_then(|job| job.leaf.side) {
            Some(side) => self.db.read(|reader| db::side_listing(reader, &side))?,
            None => Vec::new(),
        };
        Ok(Attempt { items, cpus, side, script: Arc::clone(&self.scripts[task.0]) })
    }

    fn describe_step(&self, job: &Job) -> Result<Item> {
        let task = &self.manifest.tasks[job.task.0];
        let leaf = &job.leaf;
        let input = if task.gather || task.has_paths() {
            Input::Many { name: leaf.name.clone(), items: self.items(job)? }
        } else {
            Input::One(NamedObject {
                name: leaf.name.clone(),
                object: leaf.object,
                executable: leaf.executable,
            })
        };
        let key = db::step_key(
            &self.flow.task(job.task).recipe_hash,
            &leaf.object,
            &leaf.name,
            leaf.executable,
            &leaf.labels,
            leaf.side.as_ref(),
        );
        let labels = leaf.labels.clone();
        Ok(Item { step: leaf.step, number: leaf.attempt, key, input, labels })
    }

    /// The inputs of a step that works on several.
    fn items(&self, job: &Job) -> Result<Vec<NamedObject>> {
        let (flow, index) = (&self.flow, job.task);
        if flow.task(index).is_root() {
            let listing = self.store.read_small(&job.leaf.object, u64::MAX)?;
            return Ok(db::read_listing(&listing.unwrap_or_default()));
        }
        self.db.read(|reader| {
            if flow.task(index).is_grouped() {
                let producers = db::linked_steps(reader, job.leaf.step)?;
                return db::group_inputs(reader, flow, index, &job.leaf.labels, &producers);
            }
            let mut items = Vec::new();
            db::gather_inputs(reader, flow, index, &mut |input| items.push(input))?;
            Ok(items)
        })
    }

    /// `None` if the attempt says nothing about the step. `worked` is from when to when it had its worker.
    fn ready(
        &self,
        job: &Job,
        made_at: &MadeAt,
        worked: (Instant, Instant),
        (report, placed): Made,
        dependencies: Vec<Dependency>,
    ) -> Result<Option<PendingCommit>> {
        let task = &self.manifest.tasks[job.task.0];
        let Report { mut record, outputs, log_size, warnings, .. } = report;
        let is_stopping = !self.stop.may_start();
        let batch = job.shared();
        let verdict =
            verdict(&record.outcome, job.tried, task.retries, is_stopping, batch.is_some());
        let Some(verdict) = verdict else { return Ok(None) };
        record.worker = i64::try_from(made_at.lane).ok();
        record.on.clone_from(&made_at.on);
        if made_at.on.is_some() {
            // By another clock: it was not before it was sent there, nor can the script have ended after that was told.
            let ago = |at: Instant| now_ms() - i64::try_from(at.elapsed().as_millis()).unwrap_or(0);
            let wall = i64::try_from(record.usage.wall.as_millis()).unwrap_or(0);
            record.started_ms = record.started_ms.min(ago(worked.1) - wall).max(ago(worked.0));
        }
        record.batch = batch;
        let failure = match &record.outcome {
            Outcome::Succeeded => None,
            outcome => Some(self.failure(job, outcome, record.log, verdict.is_again())?),
        };
        let log = match &record.log {
            // One log for all that share it.
            Some(log) if self.verbose && job.batch.item == 1 => self.read_log(log)?,
            _ => None,
        };
        let report = AttemptReport { job: job.clone(), worked, failure, warnings, log };
        let completion = Completion {
            step: job.leaf.step,
            task: job.task,
            attempt: record,
            verdict,
            outputs,
            dependencies,
            log_size,
        };
        Ok(Some(PendingCommit { completion, placed, report, is_urgent: task.parallel.is_some() }))
    }

    fn failure(
        &self,
        job: &Job,
        outcome: &Outcome,
        log: Option<ObjectHash>,
        is_again: bool,
    ) -> Result<Failure> {
        let task = &self.manifest.tasks[job.task.0];
        let (mut log_tail, mut log_above) = (Vec::new(), 0);
        // A log is shown once, after the last attempt.
        if let Some(log) = log.as_ref().filter(|_| !is_again) {
            let mut file = self.store.open_object(log)?;
            let read = tail(&mut file, TAIL_LINES).and_then(|tail| {
                log_above = lines_above(&mut file, &tail)?;
                Ok(tail)
            });
            log_tail = read.or_io("read the log", self.store.path(log))?;
        }
        let mut why = outcome.to_string();
        if let (Outcome::Exited(_), Some(hint)) = (outcome, unset::hint(&log_tail, task)) {
            why = format!("{why}: {hint}");
        }
        Ok(Failure {
            step: job.leaf.step,
            task: task.name.clone(),
            input: job.leaf.name.clone(),
            labels: job.leaf.labels.clone(),
            why,
            tries: (job.tried + 1, task.retries + 1),
            log_tail,
            log_above,
            log,
        })
    }

    fn read_log(&self, log: &ObjectHash) -> Result<Option<Vec<u8>>> {
        let path = self.store.path(log);
        let file = self.store.open_object(log)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, SHOWN_LOG), &mut bytes)
            .or_io("read the log", &path)?;
        Ok(Some(bytes))
    }
}

/// Nothing is kept of these.
fn discard(store: &Store, placed: impl IntoIterator<Item = Placed>) -> Result<()> {
    placed.into_iter().try_for_each(|placed| store.discard(placed))
}
