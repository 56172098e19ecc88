//! `log STEP`: what a script printed, or, with `--follow`, what it prints while it runs.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write};
use std::num::NonZeroU32;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::attempt::{AttemptRecord, BatchPlace, Outcome, StepState, micros};
use crate::cli::values::{attempt, bytes, default_db, path};
use crate::db::{self, AttemptOfRun, Db, Interrupted, Meant, StepRow};
use crate::elsewhere::WorkerSlot;
use crate::error::{Error, OrIo as _, Result, exit};
use crate::ids::{RunId, StepId};
use crate::labels::Labels;
use crate::maintain::left_logs;
use crate::object::ObjectHash;
use crate::order;
use crate::remote::{Caller, LiveStep};
use crate::run::{Runner, runner};
use crate::step::{self, Left, Running};
use crate::store::Store;
use crate::text::printable_line;

use super::{Command, answer, complain};

/// Interval between two reads of a log that is followed: its cost to the run is too small to measure, and a
/// reader does not notice it.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes that are read at once while following.
const CHUNK: u64 = 1 << 20;

/// A log that grows as fast as it is read is cut there. More than a log can have.
const MOST_SO_FAR: u64 = 1 << 30;

/// Print the output of a step's script.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "log")]
pub struct LogArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// print JSON
    #[argh(switch)]
    pub json: bool,

    /// print the log of the N-th attempt, counted from 1; default: the last one
    #[argh(option, arg_name = "N", from_str_fn(attempt))]
    pub attempt: Option<NonZeroU32>,

    /// print the log of the last attempt that was interrupted, though there is a later one
    #[argh(switch)]
    pub interrupted: bool,

    /// if the step is running, keep printing until it ends
    #[argh(switch, short = 'f')]
    pub follow: bool,

    /// print the logs of all steps whose last attempt failed
    #[argh(switch)]
    pub failed: bool,

    /// the step, by its id or TASK/INPUT_NAME; or TASK or `TASK[sample=A]`, for all its steps
    #[argh(positional, arg_name = "STEP", from_str_fn(bytes))]
    pub step: Option<OsString>,
}

impl Command for LogArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        match () {
            () if self.step.is_none() && !self.failed => {
                Err("name a STEP (its id, TASK or TASK/INPUT_NAME), or add --failed")
            }
            () if self.step.is_none() && self.attempt.is_some() => {
                Err("--attempt goes with a STEP: name one")
            }
            () if self.interrupted
                && (self.json || self.failed || self.follow || self.attempt.is_some()) =>
            {
                Err(
                    "--interrupted shows one log, as text: drop --json, --failed, --follow or --attempt",
                )
            }
            () if self.follow && (self.json || self.failed || self.attempt.is_some()) => Err(
                "--follow shows the attempt that runs, as it is printed: drop --json, --failed or --attempt",
            ),
            () => Ok(()),
        }
    }

    fn execute(&self) -> Result<u8> {
        let db = Db::open_read_only(&self.db)?;
        let store = Store::open_read_only(&self.db)?;
        let steps = match (&self.step, self.failed) {
            (Some(step), false) => db.read(|reader| {
                let word = step.as_bytes();
                match db::meaning(reader, word)? {
                    Meant::Steps(_, _, Some(_)) => Ok(vec![db::find_one_step(reader, word)?]),
                    _ => db::find_steps(reader, word),
                }
            })?,
            (None, true) => db.read(db::failed_steps)?,
            _ => return Err(Error::Usage("log: name a STEP, or give --failed".to_owned())),
        };
        if self.follow {
            match follow(&db, &store, &self.db, &steps)? {
                Followed::ToTheEnd => return Ok(exit::OK),
                // It is over already: its log is printed, as without --follow.
                Followed::NotRunning => {}
            }
        }
        let running = match self.attempt {
            None if !self.json && !self.failed => running_now(&db, &self.db, &steps)?,
            _ => Vec::new(),
        };
        let is_running = |step: &StepRow| running.iter().any(|(id, _)| *id == step.id);
        // What a killed run has left, before the next one takes it into the store.
        let left = match runner(&self.db) {
            None if !self.failed => left_logs(&db, &self.db)?,
            _ => Vec::new(),
        };
        // Of each step whose last attempt was interrupted: what it had printed.
        let mut cut_off: Vec<(StepId, CutOff<'_>)> = Vec::new();
        // Of the last attempt that was chosen.
        let mut run = None;
        let mut chosen = Vec::new();
        for step in steps {
            let whose = other(&step).filter(|_| self.attempt.is_none()).unwrap_or(step.id);
            let (of_runs, made) = db.read(|reader| {
                Ok((db::attempts(reader, whose)?, db::attempt_of_result(reader, step.id)?))
            })?;
            let is_last_ok = of_runs.last().is_some_and(|attempt| attempt.record.outcome.is_ok());
            let mut attempts = of_runs.iter().map(|attempt| attempt.record.clone());
            let attempt = match self.attempt {
                Some(number) => attempts.find(|attempt| attempt.number == i64::from(number.get())),
                // An earlier result of it may be valid again.
                None if made.is_some() && is_last_ok && step.state == StepState::Done => {
                    attempts.rfind(|attempt| Some(attempt.number) == made)
                }
                // It may have failed since, when it was to run anew.
                None if whose != step.id && step.state == StepState::Done => {
                    attempts.rfind(|attempt| attempt.outcome.is_ok())
                }
                None => attempts.next_back(),
            };
            let of_run = |of_run: &&AttemptOfRun| {
                attempt.as_ref().is_some_and(|attempt| attempt.number == of_run.record.number)
            };
            run = of_runs.iter().find(of_run).map(|of_run| of_run.run);
            let last = of_runs.last().map_or(0, |attempt| attempt.record.number);
            let is_wanted = |number| match self.attempt {
                Some(wanted) => number == i64::from(wanted.get()) && attempt.is_none(),
                None => number > last || self.interrupted || self.json,
            };
            if !self.failed && !is_running(&step) {
                let found = CutOff::find(&db, &left, step.id)?;
                cut_off.extend(found.filter(|cut| is_wanted(cut.number)).map(|cut| (step.id, cut)));
            }
            chosen.push((step, attempt));
        }
        if let [(step, attempt)] = chosen.as_slice() {
            if let Some((_, CutOff { number, run, .. })) = cut_off.first().filter(|_| !self.json) {
                complain(&format!(
                    "attempt {number} at step {} was interrupted in run {run}: this is what it had printed",
                    step.id
                ));
            }
            match (self.attempt, other(step)) {
                _ if !cut_off.is_empty() => {}
                _ if self.interrupted => {
                    let why =
                        format!("no log of an interrupted attempt at step {} is kept", step.id);
                    return Err(Error::Usage(why));
                }
                (Some(number), _) if attempt.is_none() => {
                    let why = format!("step {} has no attempt {number}", step.id);
                    return Err(Error::Usage(why));
                }
                _ if self.json => {}
                _ if is_running(step) => complain(&format!(
                    "step {} is running: this is what it has printed so far; -f follows it",
                    step.id
                )),
                (None, Some(other)) => complain(&format!(
                    "step {} did not run: it is the same work as step {other}, whose log this is",
                    step.id
                )),
                (None, None) if attempt.is_none() => {
                    complain(&format!("step {} has not run yet", step.id));
                }
                _ => {}
            }
            if let Some(on) = attempt.as_ref().and_then(|attempt| attempt.on.as_ref())
                && !self.json
                && !is_running(step)
            {
                complain(&format!("step {} was made by {on}", step.id));
            }
            if let Some(batch) = attempt.as_ref().and_then(|attempt| attempt.batch)
                && !self.json
                && !is_running(step)
                && cut_off.is_empty()
            {
                let run = run.map(|run| format!(" of run {run}")).unwrap_or_default();
                complain(&format!(
                    "step {} shared its script with others ({batch}{run}): this is the log of all {}",
                    step.id, batch.size
                ));
            }
        }
        if self.json {
            let logs: Result<Vec<StepLog>> = chosen
                .into_iter()
                .map(|(step, attempt)| {
                    let cut = cut_off.iter().find(|(id, _)| *id == step.id).map(|(_, cut)| cut);
                    StepLog::read(&store, step, attempt, cut)
                })
                .collect();
            answer::json(&logs?)?;
            return Ok(exit::OK);
        }
        // One after the other: together they may not fit into memory.
        for (step, attempt) in &chosen {
            let is_one = chosen.len() == 1;
            // The other one's log is there by itself.
            let attempt = attempt.as_ref().filter(|_| is_one || other(step).is_none());
            let so_far = running.iter().find(|(id, _)| *id == step.id).map(|(_, log)| log);
            let cut = cut_off.iter().find(|(id, _)| *id == step.id).map(|(_, cut)| cut);
            let head = match (so_far, cut) {
                _ if is_one => None,
                (Some(_), _) => Some(format!("== {}: running", step.text())),
                (None, Some(cut)) => {
                    let CutOff { number, run, .. } = cut;
                    Some(format!("== {}: attempt {number}, interrupted in run {run}", step.text()))
                }
                (None, None) => Some(head(step, attempt)),
            };
            let log = match (so_far, cut, attempt.and_then(|attempt| attempt.log)) {
                (Some(so_far), ..) => so_far.clone(),
                (None, Some(cut), _) => cut.read(&store)?,
                (None, None, Some(log)) => read(&store, &log)?,
                (None, None, None) => Vec::new(),
            };
            if self.failed && is_one && log.is_empty() {
                // Nothing at all would look as if nothing had failed.
                complain(&format!("{} failed, and printed nothing", step.text()));
            }
            answer::write(|out| {
                if let Some(head) = head {
                    writeln!(out, "{head}")?;
                }
                show(out, &log)
            })?;
        }
        Ok(exit::OK)
    }
}

/// An attempt that was interrupted, and had printed something.
struct CutOff<'a> {
    number: i64,
    run: RunId,
    log: Cut<'a>,
}

/// Where what it had printed is.
enum Cut<'a> {
    InStore(ObjectHash),
    /// In the folders of a killed run.
    Left(&'a Left),
}

impl CutOff<'_> {
    /// The last one at a step.
    fn find<'a>(db: &Db, left: &'a [Left], step: StepId) -> Result<Option<CutOff<'a>>> {
        let of_step = |left: &'a Left| {
            let (_, number) = *left.steps.iter().find(|(id, _)| *id == step)?;
            Some(CutOff { number, run: left.run, log: Cut::Left(left) })
        };
        if let Some(found) = left.iter().find_map(of_step) {
            return Ok(Some(found));
        }
        let kept = db.read(|reader| db::interrupted(reader, step))?;
        Ok(kept.map(|Interrupted { number, run, log, .. }| CutOff {
            number,
            run,
            log: Cut::InStore(log),
        }))
    }

    fn read(&self, store: &Store) -> Result<Vec<u8>> {
        match self.log {
            Cut::InStore(log) => read(store, &log),
            Cut::Left(left) => {
                let mut bytes = Vec::new();
                left.read()
                    .read_to_end(&mut bytes)
                    .or_io("read the log that a killed run has left in", "the scratch folder")?;
                Ok(bytes)
            }
        }
    }
}

/// A step with what one attempt of it printed: `--json` answers with a list of these.
#[derive(Serialize)]
struct StepLog {
    step: StepId,
    task: String,
    #[serde(rename = "input", serialize_with = "answer::escaped")]
    name: Vec<u8>,
    object: ObjectHash,
    live: bool,
    state: StepState,
    labels: Labels,
    /// The step that did the same work, whose results it has.
    same_as: Option<StepId>,
    /// That of the other one, if there is one. `None`: it has not run yet.
    attempt: Option<Attempt>,
    /// Bytes that are not UTF-8 are replaced.
    log: String,
    interrupted: Option<InterruptedAttempt>,
}

/// The last attempt that was interrupted, if it had printed something.
#[derive(Serialize)]
struct InterruptedAttempt {
    number: i64,
    run: RunId,
    /// As that of the step.
    log: String,
}

/// One execution of a step's script.
#[derive(Serialize)]
struct Attempt {
    /// From 1.
    number: i64,
    outcome: &'static str,
    code: Option<i32>,
    detail: Option<String>,
    /// Milliseconds since 1970.
    started_ms: i64,
    wall_us: u64,
    user_us: u64,
    system_us: u64,
    peak_kib: u64,
    /// Whose peak that is.
    peak_of: &'static str,
    /// Where others shared the script: times, memory and log are theirs too.
    batch: Option<BatchPlace>,
    /// How its interpreter was started.
    start: &'static str,
    /// The worker that made it; `None`: the run's own machine.
    on: Option<WorkerSlot>,
}

impl StepLog {
    fn read(
        store: &Store,
        step: StepRow,
        attempt: Option<AttemptRecord>,
        cut: Option<&CutOff<'_>>,
    ) -> Result<StepLog> {
        let interrupted = cut.map(|cut| {
            let log = String::from_utf8_lossy(&cut.read(store)?).into_owned();
            Ok(InterruptedAttempt { number: cut.number, run: cut.run, log })
        });
        let interrupted = interrupted.transpose()?;
        let log = match attempt.as_ref().and_then(|attempt| attempt.log) {
            Some(log) => String::from_utf8_lossy(&read(store, &log)?).into_owned(),
            None => String::new(),
        };
        let attempt = attempt.map(
            |AttemptRecord { number, outcome, started_ms, usage, batch, start, on, .. }| Attempt {
                number,
                outcome: outcome.word(),
                code: outcome.code(),
                detail: outcome.detail().map(str::to_owned),
                started_ms,
                wall_us: micros(usage.wall),
                user_us: micros(usage.user),
                system_us: micros(usage.system),
                peak_kib: usage.peak_memory,
                peak_of: usage.peak_of.as_str(),
                batch,
                start: start.as_str(),
                on,
            },
        );
        let StepRow { id, task, name, object, live, state, labels, same_as } = step;
        Ok(StepLog {
            step: id,
            task,
            name,
            object,
            live,
            state,
            labels,
            same_as,
            attempt,
            log,
            interrupted,
        })
    }
}

/// The step that did the work of this one, or failed at it.
fn other(step: &StepRow) -> Option<StepId> {
    step.same_as.filter(|_| step.state != StepState::Pending)
}

fn head(step: &StepRow, attempt: Option<&AttemptRecord>) -> String {
    let name = step.text();
    match attempt {
        Some(attempt) => {
            let batch = attempt.batch.map(|batch| format!(", {batch}")).unwrap_or_default();
            let on = attempt.on.as_ref().map(|on| format!(", {on}")).unwrap_or_default();
            format!("== {name}: attempt {}, {}{on}{batch}", attempt.number, words(&attempt.outcome))
        }
        None => match other(step) {
            Some(other) if step.state == StepState::Failed => {
                format!("== {name}: failed, same work as step {other}")
            }
            Some(other) => format!("== {name}: not run, same work as step {other}"),
            None => format!("== {name}: not run yet"),
        },
    }
}

fn words(outcome: &Outcome) -> String {
    match (outcome.code(), outcome.detail()) {
        (_, Some(detail)) => format!("{}: {detail}", outcome.word()),
        (Some(code), None) => format!("{} {code}", outcome.word()),
        (None, None) => outcome.word().to_owned(),
    }
}

/// A whole log: an attempt's is capped when it is kept.
fn read(store: &Store, hash: &ObjectHash) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    store.open_object(hash)?.read_to_end(&mut bytes).or_io("read the log", store.path(hash))?;
    if ObjectHash::of(&bytes) != *hash {
        return Err(store.damaged(hash));
    }
    Ok(bytes)
}

/// Writes a log: raw into a pipe, escaped on a terminal.
fn show(out: &mut dyn Write, log: &[u8]) -> std::io::Result<()> {
    if !answer::is_terminal() {
        return out.write_all(log);
    }
    for line in log.strip_suffix(b"\n").unwrap_or(log).split(|&byte| byte == b'\n') {
        writeln!(out, "{}", printable_line(line))?;
    }
    Ok(())
}

/// What those of `steps` that run just now have printed so far.
fn running_now(db: &Db, dir: &Path, steps: &[StepRow]) -> Result<Vec<(StepId, Vec<u8>)>> {
    let Some(mut scripts) = Scripts::of(db, dir)? else { return Ok(Vec::new()) };
    let mut all = scripts.running.clone();
    all.retain(|running| steps.iter().any(|step| step.id == running.step));
    let so_far = |running: RunningScript| Some((running.step, scripts.so_far(&running)?));
    Ok(all.into_iter().filter_map(so_far).collect())
}

/// What a run has under way, here and elsewhere.
struct Scripts {
    /// The process that makes the run.
    runner: Runner,
    running: Vec<RunningScript>,
    /// Asks the run what its workers do.
    caller: Option<Caller>,
}

/// A step whose script runs.
#[derive(Clone)]
struct RunningScript {
    step: StepId,
    attempt: i64,
    at: RunsAt,
}

/// Where it runs. Steps that share a script have the same one.
#[derive(Clone)]
enum RunsAt {
    Here(Running),
    There(WorkerSlot),
}

impl Scripts {
    /// `None`: no run is under way.
    fn of(db: &Db, dir: &Path) -> Result<Option<Scripts>> {
        let Some(runner) = runner(dir) else { return Ok(None) };
        let mut running = Vec::new();
        if let Runner::Here(pid) = runner {
            let here = |one: Running| RunningScript {
                step: StepId(one.step),
                attempt: one.attempt,
                at: RunsAt::Here(one),
            };
            running.extend(step::running(pid, &dir.join("scratch")).into_iter().map(here));
        }
        let mut caller = None;
        if let Some(run) = db.read(|reader| db::last_runs(reader, 1))?.pop()
            && runner.can_be(run.pid)
        {
            caller = Caller::of_run(dir, RunId(run.id), run.pid);
        }
        let live = caller.as_mut().map(Caller::live).unwrap_or_default();
        let there = |LiveStep { step, attempt, on, .. }| RunningScript {
            step,
            attempt,
            at: RunsAt::There(on),
        };
        running.extend(live.steps.into_iter().map(there));
        Ok(Some(Scripts { runner, running, caller }))
    }

    /// A later attempt at the same step.
    fn again(&self, before: &RunningScript) -> Option<RunningScript> {
        let is_it = |one: &&RunningScript| one.step == before.step && one.attempt > before.attempt;
        self.running.iter().find(is_it).cloned()
    }

    /// All that a script has printed, as long as it runs. Otherwise it is in the store or will soon be.
    fn so_far(&mut self, script: &RunningScript) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            let next = self.next(script, bytes.len() as u64)?;
            if next.is_empty() || bytes.len() as u64 > MOST_SO_FAR {
                return Some(bytes);
            }
            bytes.extend(next);
        }
    }

    /// What it has printed from a byte on, up to [`CHUNK`]; `None`: it doesn't run any more.
    fn next(&mut self, script: &RunningScript, from: u64) -> Option<Vec<u8>> {
        match &script.at {
            RunsAt::Here(running) => {
                let mut log = File::open(&running.log).ok()?;
                log.seek(SeekFrom::Start(from)).ok()?;
                let mut bytes = Vec::new();
                log.take(CHUNK).read_to_end(&mut bytes).ok()?;
                // The worker truncates the log for its next step only after this one is gone, so bytes that were
                // read while it was still running are its own.
                running.is_alive().then_some(bytes)
            }
            RunsAt::There(_) => {
                let printed = self.caller.as_mut()?.printed(script.step, script.attempt, from);
                printed.is_running.then_some(printed.bytes)
            }
        }
    }
}

impl RunningScript {
    /// Whether they share a script.
    fn is_fellow(&self, other: &RunningScript) -> bool {
        match (&self.at, &other.at) {
            (RunsAt::Here(one), RunsAt::Here(two)) => one.pid == two.pid,
            (RunsAt::There(one), RunsAt::There(two)) => one == two,
            _ => false,
        }
    }
}

/// How following a log ended.
enum Followed {
    /// The log was printed to its end.
    ToTheEnd,
    /// None of the steps is running.
    NotRunning,
}

/// Prints the log of the running one of `steps` as it grows, until that step ends.
///
/// # Errors
/// [`Error::Usage`] if several of them are running.
fn follow(db: &Db, store: &Store, dir: &Path, steps: &[StepRow]) -> Result<Followed> {
    let Some(mut scripts) = Scripts::of(db, dir)? else { return Ok(Followed::NotRunning) };
    let mut running: Vec<RunningScript> = Vec::new();
    let mut all = scripts.running.clone();
    order::sort_by_key(&mut all, |running| running.step);
    for one in all {
        let is_meant = steps.iter().any(|step| step.id == one.step);
        // Those that share a script share its log.
        if is_meant && !running.iter().any(|other| other.is_fellow(&one)) {
            running.push(one);
        }
    }
    let mut running = match running.as_slice() {
        [] => return Ok(Followed::NotRunning),
        [running] => running.clone(),
        several => {
            let ids: Vec<String> = several.iter().map(|running| running.step.to_string()).collect();
            return Err(Error::Usage(format!(
                "--follow shows one step, and several of these run: name one of {}",
                ids.join(", ")
            )));
        }
    };
    let mut screen = Screen { is_terminal: answer::is_terminal(), line: Vec::new() };
    let mut shown = 0;
    loop {
        while let Some(bytes) = scripts.next(&running, shown) {
            shown += bytes.len() as u64;
            if !screen.show(&bytes)? {
                return Ok(Followed::ToTheEnd);
            }
            if bytes.is_empty() {
                std::thread::sleep(PAUSE);
            }
        }
        match rest(db, store, dir, &running, scripts.runner, shown)? {
            Rest::Log(bytes) => drop(screen.show(&bytes)?),
            Rest::Nothing => {}
            Rest::Again(again) => {
                let (now, attempt) = *again;
                screen.end()?;
                complain(&format!(
                    "step {} runs again, as attempt {}, for its worker was lost",
                    attempt.step, attempt.attempt
                ));
                (scripts, running, shown) = (now, attempt, 0);
                continue;
            }
        }
        screen.end()?;
        return Ok(Followed::ToTheEnd);
    }
}

/// What came after a step that was followed.
enum Rest {
    /// The rest of its log.
    Log(Vec<u8>),
    /// It printed nothing, or the run ended without committing the attempt.
    Nothing,
    /// Another attempt: nobody knows how this one ended.
    Again(Box<(Scripts, RunningScript)>),
}

/// The rest of the log of a step that has ended, after `shown` bytes. It is in the store once the attempt
/// is committed.
fn rest(
    db: &Db,
    store: &Store,
    dir: &Path,
    running: &RunningScript,
    runner: Runner,
    shown: u64,
) -> Result<Rest> {
    loop {
        // In this order, so that the last commit of a run that ends meanwhile is still seen.
        let is_running = crate::run::runner(dir) == Some(runner);
        let attempts = db.read(|reader| db::attempts(reader, running.step))?;
        let attempts = attempts.into_iter().map(|attempt| attempt.record);
        if let Some(attempt) = attempts.into_iter().find(|one| one.number >= running.attempt) {
            let is_it = attempt.number == running.attempt;
            let Some(log) = attempt.log.filter(|_| is_it) else { return Ok(Rest::Nothing) };
            let (path, mut file) = (store.path(&log), store.open_object(&log)?);
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(shown)).or_io("read the log", &path)?;
            file.read_to_end(&mut bytes).or_io("read the log", &path)?;
            return Ok(Rest::Log(bytes));
        }
        if !is_running {
            return Ok(Rest::Nothing);
        }
        if matches!(running.at, RunsAt::There(_))
            && let Some(now) = Scripts::of(db, dir)?
            && let Some(again) = now.again(running)
        {
            return Ok(Rest::Again(Box::new((now, again))));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Standard output, written piece by piece.
struct Screen {
    is_terminal: bool,
    /// The beginning of an unfinished line: a terminal is shown only whole lines, escaped.
    line: Vec<u8>,
}

impl Screen {
    /// False if nobody reads any more.
    fn show(&mut self, bytes: &[u8]) -> Result<bool> {
        if !self.is_terminal {
            return self.write(bytes);
        }
        self.line.extend_from_slice(bytes);
        let Some(end) = self.line.iter().rposition(|&byte| byte == b'\n') else { return Ok(true) };
        let rest = self.line.split_off(end + 1);
        let whole = std::mem::replace(&mut self.line, rest);
        let mut text = String::new();
        for line in whole.strip_suffix(b"\n").unwrap_or(&whole).split(|&byte| byte == b'\n') {
            text.push_str(&printable_line(line));
            text.push('\n');
        }
        self.write(text.as_bytes())
    }

    fn end(&mut self) -> Result<()> {
        if !self.line.is_empty() {
            let line = printable_line(&std::mem::take(&mut self.line));
            self.write(format!("{line}\n").as_bytes())?;
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> Result<bool> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(err) if err.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            written => written.or_io("write to", "standard output").map(|()| true),
        }
    }
}
