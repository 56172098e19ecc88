//! `status`: where the pipeline stands, also during a run.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::cli::Color;
use crate::cli::values::{default_db, path};
use crate::db::{self, Db, Declared, Reader, RunStatus, RunSteps, StepRow, TaskStatus, Waits};
use crate::elsewhere::WorkerSlot;
use crate::error::{Result, exit};
use crate::ids::StepId;
use crate::labels::{Labels, step_text};
use crate::progress::Paint;
use crate::remote::LiveStep;
use crate::run::Runner;
use crate::step;
use crate::text::{attempts_text, counted, db_option, plural, printable, size, span, utc};

use super::Command;
use super::answer::{self, Answer};
use super::columns::{self, Cell, Column, Tone};
use super::crew::{self, RunCrew, WorkerState};
use super::style::Style;

/// How many running steps the text form lists.
const SHOWN: usize = 20;

/// Of the table of tasks.
const COLUMNS: &[Column] = &[
    Column { title: "task", rank: 0, stays: true, is_text: true },
    Column { title: "done", rank: 0, stays: true, is_text: false },
    Column { title: "left", rank: 0, stays: false, is_text: false },
    Column { title: "failed", rank: 0, stays: false, is_text: false },
    Column { title: "retired", rank: 3, stays: false, is_text: false },
    Column { title: "outputs", rank: 2, stays: false, is_text: false },
    Column { title: "bytes", rank: 4, stays: false, is_text: false },
    Column { title: "time", rank: 1, stays: false, is_text: false },
    Column { title: "peak", rank: 5, stays: false, is_text: false },
    Column { title: "declared", rank: 6, stays: false, is_text: true },
];

/// Show the state of the pipeline: the steps of each task, what is running, the last runs.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "status")]
pub struct StatusArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// list the last N runs; default: 5
    #[argh(option, arg_name = "N", default = "5")]
    pub runs: usize,

    /// colours: auto, always or never; default: auto
    #[argh(option, arg_name = "WHEN", default = "Color::Auto")]
    pub color: Color,

    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

impl Command for StatusArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn execute(&self) -> Result<u8> {
        let db = Db::open_read_only(&self.db)?;
        // Who runs comes first: the database has the result of any step that ends after this.
        let runner = crate::run::runner(&self.db);
        let running = match runner {
            Some(Runner::Here(pid)) => step::running(pid, &self.db.join("scratch")),
            _ => Vec::new(),
        };
        let status = db.read(|reader| {
            let (tasks, runs) = (db::status(reader)?, db::last_runs(reader, self.runs.max(1))?);
            let failed_anew = Kept::of(reader)?;
            let (unread, out_of_date) = (db::unread(reader)?, db::out_of_date(reader)?);
            let crew = match runs.first() {
                Some(run) => {
                    RunCrew::of(reader, &self.db, run, is_under_way(run, runs.first(), runner))?
                }
                None => RunCrew::default(),
            };
            let mut running: Vec<RunningStep> = running.iter().map(RunningStep::here).collect();
            running.extend(crew.steps.iter().map(RunningStep::there));
            for running in &mut running {
                let Ok(step) = db::find_step(reader, StepId(running.step)) else { continue };
                (running.task, running.labels) = (step.task, step.labels);
                if running.on.is_some() {
                    running.name = step.name;
                }
            }
            // Of a step that is too new the next answer tells.
            running.retain(|running| !running.task.is_empty());
            let status = Status::of(tasks, runs, db::waits(reader)?, runner, running);
            let (workers, style) = (crew.workers, Style::of(self.color));
            let db_option = db_option(&self.db);
            Ok(Status { failed_anew, unread, out_of_date, workers, style, db_option, ..status })
        })?;
        answer::give(&status, self.json)?;
        Ok(exit::OK)
    }
}

/// The answer.
#[derive(Serialize)]
struct Status {
    /// Of all tasks together.
    steps: Steps,
    tasks: Vec<Task>,
    running: Vec<RunningStep>,
    /// Of the last run, if it has or had any.
    workers: Vec<WorkerState>,
    /// Steps that failed in the last run, when they were to run anew, and keep the results that they had. They count as
    /// failed.
    failed_anew: Vec<Kept>,
    /// Inputs that the last run couldn't read, a sentence each.
    unread: Vec<String>,
    /// Tasks that gather what may have changed since.
    out_of_date: Vec<String>,
    last_run: Option<Run>,
    /// The last ones, newest first.
    runs: Vec<Run>,
    #[serde(skip)]
    style: Style,
    /// For commands that are recommended.
    #[serde(skip)]
    db_option: String,
}

/// The live steps in numbers.
#[derive(Clone, Copy, Default, Serialize)]
struct Steps {
    total: u64,
    done: u64,
    failed: u64,
    left: u64,
}

/// A task of the last manifest. Steps are counted unless a field says otherwise.
#[derive(Serialize)]
struct Task {
    task: String,
    done: u64,
    /// Still to run, or running.
    pending: u64,
    /// The same, and those that it waits for to be made: one for each group that has no step yet, or one.
    left: u64,
    /// Why it waits and has no step yet, or none of a group: a sentence.
    waits: Option<String>,
    running: usize,
    failed: u64,
    /// History.
    retired: u64,
    /// Live outputs.
    outputs: u64,
    /// Of these outputs.
    bytes: u64,
    /// In all runs.
    attempts: u64,
    /// Sum over all attempts, microseconds.
    wall_us: u64,
    /// Highest of all attempts.
    peak_kib: u64,
    /// What the manifest says that each step takes: `cpus`, `memory` in bytes, `uses`.
    #[serde(flatten)]
    declared: Declared,
}

/// A step that failed when it was to run anew.
#[derive(Serialize)]
struct Kept {
    step: i64,
    task: String,
    #[serde(rename = "input", serialize_with = "answer::escaped")]
    name: Vec<u8>,
    labels: Labels,
}

/// A step whose script runs just now.
#[derive(Serialize)]
struct RunningStep {
    step: i64,
    task: String,
    #[serde(rename = "input", serialize_with = "answer::escaped")]
    name: Vec<u8>,
    labels: Labels,
    attempt: i64,
    /// `None`: it runs on another machine, or as part of a worker.
    pid: Option<i32>,
    elapsed_ms: u64,
    /// The worker that makes it; `None`: the run's own machine.
    on: Option<WorkerSlot>,
}

/// A run, over or not.
#[derive(Clone, Serialize)]
struct Run {
    id: i64,
    /// Milliseconds since 1970, like the next.
    started_ms: i64,
    /// `None`: it is under way, or it was killed.
    ended_ms: Option<i64>,
    /// `None` as above.
    result: Option<String>,
    under_way: bool,
    /// If it is under way: its process can't be seen from here.
    #[serde(skip)]
    is_elsewhere: bool,
    /// `None`: it is under way, was killed, or an older build made it.
    steps: Option<RunSteps>,
    attempts: u64,
    /// Of these.
    failed_attempts: u64,
    pid: i64,
    /// As it was named, made printable.
    manifest: String,
}

/// Whether a run, the newest one, is made just now.
fn is_under_way(run: &RunStatus, newest: Option<&RunStatus>, runner: Option<Runner>) -> bool {
    run.ended_ms.is_none()
        && newest.is_some_and(|newest| newest.id == run.id)
        && runner.is_some_and(|runner| runner.can_be(run.pid))
}

impl Kept {
    /// Those of the present tasks.
    fn of(reader: &Reader) -> Result<Vec<Kept>> {
        let mut all = Vec::new();
        for (_, step) in db::failed_anew(reader)? {
            let row = db::find_step(reader, step)?;
            let StepRow { task, name, labels, .. } = row;
            all.push(Kept { step: step.0, task, name, labels });
        }
        Ok(all)
    }
}

impl RunningStep {
    fn here(step: &step::Running) -> RunningStep {
        RunningStep {
            step: step.step,
            task: step.task.clone(),
            name: step.input.clone(),
            labels: Labels::default(),
            attempt: step.attempt,
            pid: Some(step.pid),
            elapsed_ms: u64::try_from(step.elapsed.as_millis()).unwrap_or(u64::MAX),
            on: None,
        }
    }

    /// Task and input are not known there.
    fn there(step: &LiveStep) -> RunningStep {
        RunningStep {
            step: step.step.0,
            task: String::new(),
            name: Vec::new(),
            labels: Labels::default(),
            attempt: step.attempt,
            pid: None,
            elapsed_ms: step.elapsed_ms,
            on: Some(step.on.clone()),
        }
    }

    /// Whether they share a script.
    fn is_fellow(&self, other: &RunningStep) -> bool {
        (self.pid, &self.on) == (other.pid, &other.on)
    }
}

impl Status {
    fn of(
        tasks: Vec<TaskStatus>,
        runs: Vec<RunStatus>,
        waits: Vec<Waits>,
        runner: Option<Runner>,
        running: Vec<RunningStep>,
    ) -> Status {
        let why = |task: &TaskStatus| waits.iter().find(|waits| waits.id == task.id);
        let task = |task: TaskStatus| Task {
            left: task.pending + why(&task).map_or(0, |waits| waits.steps),
            waits: why(&task).map(|waits| waits.why.clone()),
            running: running.iter().filter(|step| step.task == task.name).count(),
            task: task.name,
            done: task.done,
            pending: task.pending,
            failed: task.failed,
            retired: task.retired,
            outputs: task.outputs,
            bytes: task.bytes,
            attempts: task.attempts,
            wall_us: task.wall_us,
            peak_kib: task.peak_kib,
            declared: task.declared,
        };
        let newest = runs.first().cloned();
        let run = |run: RunStatus| Run {
            under_way: is_under_way(&run, newest.as_ref(), runner),
            is_elsewhere: runner == Some(Runner::Elsewhere),
            id: run.id,
            started_ms: run.started_ms,
            ended_ms: run.ended_ms,
            result: run.result,
            steps: run.steps,
            attempts: (run.done + run.failed).unsigned_abs(),
            failed_attempts: run.failed.unsigned_abs(),
            pid: run.pid,
            manifest: printable(&run.manifest).into_owned(),
        };
        let runs: Vec<Run> = runs.into_iter().map(run).collect();
        let tasks: Vec<Task> = tasks.into_iter().map(task).collect();
        let mut steps = Steps::default();
        for task in &tasks {
            steps.done += task.done;
            steps.failed += task.failed;
            steps.left += task.left;
        }
        steps.total = steps.done + steps.failed + steps.left;
        Status {
            steps,
            tasks,
            running,
            workers: Vec::new(),
            failed_anew: Vec::new(),
            unread: Vec::new(),
            out_of_date: Vec::new(),
            last_run: runs.first().cloned(),
            runs,
            style: Style { paint: Paint::Plain, columns: None },
            db_option: String::new(),
        }
    }
}

impl Answer for Status {
    fn text(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let row = |task: &Task| {
            let (bytes, peak) = (size(task.bytes), size(task.peak_kib * 1024));
            let time = span(Duration::from_micros(task.wall_us));
            let unless = |is_zero, text| Cell { text, is_zero, ..Cell::default() };
            vec![
                Cell::text(&task.task),
                Cell::count(task.done, Tone::Good),
                Cell::count(task.left, Tone::Doubtful),
                Cell::count(task.failed, Tone::Bad),
                Cell::count(task.retired, Tone::Plain),
                Cell::count(task.outputs, Tone::Plain),
                unless(task.bytes == 0, bytes),
                unless(task.wall_us == 0, time),
                unless(task.peak_kib == 0, peak),
                unless(task.declared.is_nothing(), task.declared.to_string()),
            ]
        };
        let rows: Vec<Vec<Cell>> = self.tasks.iter().map(row).collect();
        columns::write(out, COLUMNS, &rows, self.style)?;
        let Steps { total, done, failed, left } = self.steps;
        if !self.tasks.is_empty() {
            let s = plural(total);
            writeln!(out, "total {total} step{s}: {done} done, {failed} failed, {left} left")?;
        }
        for task in &self.tasks {
            if let Some(why) = &task.waits {
                let waits = self.style.paint.doubtful("waits");
                columns::folded(out, &format!("task {} {waits}: {why}", task.task), self.style)?;
            }
        }
        for kept in self.failed_anew.iter().take(SHOWN) {
            let name = step_text(kept.step, &kept.task, &kept.name, &kept.labels);
            let failed = self.style.paint.bad("failed");
            let text = format!("{name} {failed} in the last run and keeps the result it had");
            columns::folded(out, &text, self.style)?;
        }
        if self.failed_anew.len() > SHOWN {
            writeln!(out, "… and {} more keep theirs", self.failed_anew.len() - SHOWN)?;
        }
        if !self.running.is_empty() {
            writeln!(out, "running: {}", self.running.len())?;
        }
        // One line for all that share a script.
        let mut scripts: Vec<(&RunningStep, usize)> = Vec::new();
        for step in &self.running {
            match scripts.iter_mut().find(|(first, _)| first.is_fellow(step)) {
                Some((_, steps)) => *steps += 1,
                None => scripts.push((step, 1)),
            }
        }
        for (step, steps) in scripts.iter().take(SHOWN) {
            let name = step_text(step.step, &step.task, &step.name, &step.labels);
            let again = match step.attempt {
                1 => String::new(),
                n => format!(", attempt {n}"),
            };
            let more = match steps - 1 {
                0 => String::new(),
                more => format!(" and {more} more in its batch"),
            };
            let on = step.on.as_ref().map(|on| format!(", {on}")).unwrap_or_default();
            let elapsed = span(Duration::from_millis(step.elapsed_ms));
            columns::folded(out, &format!("  {name}{more}: {elapsed}{again}{on}"), self.style)?;
        }
        if scripts.len() > SHOWN {
            writeln!(out, "  … and {} more", scripts.len() - SHOWN)?;
        }
        if !self.workers.is_empty() {
            crew::table(out, &self.workers[..self.workers.len().min(SHOWN)], self.style)?;
        }
        if self.workers.len() > SHOWN {
            let more = counted(self.workers.len() - SHOWN, "more worker");
            writeln!(out, "… and {more}: `task-pipeline workers{}` lists them", self.db_option)?;
        }
        for sentence in self.unread.iter().take(SHOWN) {
            writeln!(out, "{sentence}")?;
        }
        if self.unread.len() > SHOWN {
            writeln!(out, "… and {}", counted(self.unread.len() - SHOWN, "more input"))?;
        }
        for task in &self.out_of_date {
            writeln!(out, "{task} may be out of date: the next run looks at it again")?;
        }
        if self.runs.is_empty() {
            writeln!(out, "no run yet")?;
        }
        self.runs.iter().try_for_each(|run| {
            let sentence = run.sentence(self.style.paint);
            sentence.lines().try_for_each(|line| columns::folded(out, line, self.style))
        })
    }
}

impl Run {
    /// `run 3 of pipeline.toml, 2026-11-27 13:51:08 UTC: ok after 2 s`, and below it what became of the steps.
    fn sentence(&self, paint: Paint) -> String {
        let begun = format!("run {} of {}, {}", self.id, self.manifest, utc(self.started_ms));
        let attempts = attempts_text(self.attempts, self.failed_attempts);
        let work = match &self.steps {
            Some(steps) => format!("{steps}; {attempts}"),
            None => attempts,
        };
        let state = match (&self.result, self.ended_ms) {
            (Some(result), Some(ended)) => {
                let took = u64::try_from(ended - self.started_ms).unwrap_or(0);
                let painted = match result.as_str() {
                    "complete" => paint.good(result),
                    "failed" => paint.bad(result),
                    _ => paint.doubtful(result),
                };
                format!("{painted} after {}", span(Duration::from_millis(took)))
            }
            _ if self.under_way && self.is_elsewhere => {
                format!("under way in another container (pid {} there)", self.pid)
            }
            _ if self.under_way => format!("under way, pid {}", self.pid),
            _ => format!("{}, or stopped by an error", paint.bad("killed")),
        };
        format!("{begun}: {state}\n  {work}")
    }
}
