//! `plan`, also `-n`: what a run would do, and why. Changes nothing.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::cli::values::{bytes, default_db, name, param, path};
use crate::cli::{Color, ProgressStyle};
use crate::db::{Durability, Why};
use crate::error::{Result, exit};
use crate::progress::{Lines, Loudness, Paint};
use crate::run::{self, Forecast, TaskForecast};
use crate::step::Launch;
use crate::text::{counted, plural, printable};

use super::super::Command;
use super::super::answer::{self, Answer};
use super::super::columns::{self, Cell, Column, Tone};
use super::super::style::Style;
use super::{RunArgs, check_inputs, hint};

/// Of the table of tasks.
const COLUMNS: &[Column] = &[
    Column { title: "task", rank: 0, stays: true, is_text: true },
    Column { title: "run", rank: 0, stays: true, is_text: false },
    Column { title: "reused", rank: 0, stays: false, is_text: false },
    Column { title: "retired", rank: 0, stays: false, is_text: false },
    Column { title: "why", rank: 0, stays: false, is_text: true },
];

/// Show what a run would do, and why, without running anything.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "plan")]
pub struct PlanArgs {
    /// the manifest; default: pipeline.toml in this folder
    #[argh(option, short = 'f', arg_name = "FILE", from_str_fn(path))]
    pub manifest: Option<PathBuf>,

    /// the database folder, which is only read; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// plan as if all steps had to run again
    #[argh(switch, short = 'B')]
    pub always: bool,

    /// plan only steps of this task, or with `TASK[sample=A]` those with this label (also --step);
    /// may be repeated
    #[argh(option, arg_name = "TASK", from_str_fn(name))]
    pub only: Vec<String>,

    /// plan this task with all that it needs, and nothing else; may be repeated
    #[argh(option, arg_name = "TASK", from_str_fn(name))]
    pub until: Vec<String>,

    /// plan as if these steps had to run again: a step (its id or TASK/INPUT_NAME), a TASK or
    /// `TASK[sample=A]`; may be repeated
    #[argh(option, arg_name = "WHAT", from_str_fn(bytes))]
    pub redo: Vec<OsString>,

    /// give one of the manifest's params another value; may be repeated
    #[argh(option, short = 'P', arg_name = "PARAM=VALUE", from_str_fn(param))]
    pub param: Vec<(String, String)>,

    /// take the values of params from a TOML file; may be repeated; -P wins over it
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub params: Vec<PathBuf>,

    /// name further INPUTs in a file, one a line; - is standard input; may be repeated
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub inputs_from: Vec<PathBuf>,

    /// plan as if earlier runs had had no INPUTs
    #[argh(switch)]
    pub no_inputs: bool,

    /// exit with code 3 if there is anything to run
    #[argh(switch)]
    pub check: bool,

    /// colours: auto, always or never; default: auto
    #[argh(option, arg_name = "WHEN", default = "Color::Auto")]
    pub color: Color,

    /// print JSON
    #[argh(switch)]
    pub json: bool,

    /// files for the root tasks, one step each; - is standard input
    #[argh(positional, arg_name = "INPUT", from_str_fn(path))]
    pub inputs: Vec<PathBuf>,
}

impl Command for PlanArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        check_inputs(&self.inputs, &self.inputs_from, self.no_inputs)
    }

    fn execute(&self) -> Result<u8> {
        plan(&self.as_run(), self.check)
    }
}

impl PlanArgs {
    /// The run that is asked about.
    pub(in crate::commands) fn as_run(&self) -> RunArgs {
        RunArgs {
            manifest: self.manifest.clone(),
            db: self.db.clone(),
            jobs: None,
            keep_going: false,
            dry_run: true,
            watch: false,
            always: self.always,
            quiet: false,
            verbose: false,
            only: self.only.clone(),
            until: self.until.clone(),
            redo: self.redo.clone(),
            param: self.param.clone(),
            params: self.params.clone(),
            inputs_from: self.inputs_from.clone(),
            no_inputs: self.no_inputs,
            wait: false,
            durability: Durability::Batch,
            launch: Launch::Auto,
            min_free: 0,
            memory: None,
            have: Vec::new(),
            allow_network_fs: true,
            on: None,
            worker_cache: 0,
            listen: None,
            walltime: None,
            sbatch_arg: Vec::new(),
            events: None,
            trace: None,
            report: None,
            force: false,
            progress: ProgressStyle::Auto,
            color: self.color,
            json: self.json,
            inputs: self.inputs.clone(),
        }
    }
}

/// Prints what a run would do. With `check`, the exit code tells whether there is anything to do.
///
/// # Errors
/// Those of planning: a manifest with mistakes, a database that can't be read.
pub(super) fn plan(args: &RunArgs, check: bool) -> Result<u8> {
    let options = args.options()?;
    let loudness = if args.quiet { Loudness::Quiet } else { Loudness::Normal };
    let mut progress = Lines::new(std::io::stderr(), loudness, Paint::Plain);
    let forecast = run::dry_run(&options, &mut progress).map_err(|err| hint(err, args))?;
    answer::give(&Plan::of(&forecast, Style::of(args.color)), args.json)?;
    Ok(if check && !forecast.is_settled() { exit::TO_DO } else { exit::OK })
}

/// The answer.
#[derive(Serialize)]
struct Plan<'a> {
    tasks: Vec<PlannedTask>,
    to_run: u64,
    shared: u64,
    later: Option<u64>,
    retired_with_task: u64,
    unread: usize,
    dependency_stats: u64,
    settled: bool,
    #[serde(skip)]
    forecast: &'a Forecast,
    #[serde(skip)]
    style: Style,
}

/// Steps of one task.
#[derive(Serialize)]
struct PlannedTask {
    task: String,
    new: u64,
    again: u64,
    shared: u64,
    reused: u64,
    retired: u64,
    reasons: Vec<Reason>,
    changes: Vec<String>,
    /// Paths, made printable.
    dependencies: Vec<String>,
    later: Option<u64>,
    waits_for_inputs: bool,
    left_out: bool,
}

/// Why steps have to run.
#[derive(Serialize)]
struct Reason {
    why: &'static str,
    steps: u64,
}

impl Plan<'_> {
    fn of(forecast: &Forecast, style: Style) -> Plan<'_> {
        let task = |task: &TaskForecast| {
            let reasons =
                task.reasons.iter().map(|(why, steps)| Reason { why: why.word(), steps: *steps });
            PlannedTask {
                task: task.name.clone(),
                new: task.plan.fresh,
                again: task.plan.again,
                shared: task.shared,
                reused: task.plan.reused,
                retired: task.plan.retired,
                reasons: reasons.collect(),
                changes: task.changes.clone(),
                dependencies: task.dependencies.iter().map(|path| shown(path)).collect(),
                later: task.later,
                waits_for_inputs: task.plan.waits_for_inputs,
                left_out: task.is_left_out,
            }
        };
        Plan {
            tasks: forecast.tasks.iter().map(task).collect(),
            to_run: forecast.to_run(),
            shared: forecast.shared(),
            later: forecast.later(),
            retired_with_task: forecast.retired_with_task,
            unread: forecast.unread,
            dependency_stats: forecast.dependency_stats,
            settled: forecast.is_settled(),
            forecast,
            style,
        }
    }
}

impl Answer for Plan<'_> {
    fn text(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let row = |task: &TaskForecast| {
            let run = match (task.to_run(), task.later) {
                (known, Some(0)) => known.to_string(),
                (known, Some(later)) => format!("~{}", known + later),
                (0, None) => "?".to_owned(),
                (known, None) => format!("{known} + ?"),
            };
            let tone = if run == "0" { Tone::Plain } else { Tone::Doubtful };
            vec![
                Cell::text(&task.name),
                Cell { is_zero: run == "0", text: run, tone },
                Cell::count(task.plan.reused, Tone::Good),
                Cell::count(task.plan.retired, Tone::Plain),
                Cell::text(why(task)),
            ]
        };
        let rows: Vec<Vec<Cell>> = self.forecast.tasks.iter().map(row).collect();
        columns::write(out, COLUMNS, &rows, self.style)?;
        if self.forecast.retired_with_task > 0 {
            writeln!(
                out,
                "{} of tasks that are no longer in the manifest {}",
                counted(self.forecast.retired_with_task, "step"),
                if self.forecast.retired_with_task == 1 { "retires" } else { "retire" }
            )?;
        }
        if self.unread > 0 {
            let (unread, s) = (self.unread, plural(self.unread as u64));
            let them = if unread == 1 { "it" } else { "them" };
            writeln!(out, "{unread} input{s} can't be read; gather steps wait for {them}")?;
        }
        if self.shared > 0 {
            let (shared, s) = (self.shared, plural(self.shared));
            let has_depfile = |task: &TaskForecast| task.has_depfile && task.shared > 0;
            let before = match self.forecast.tasks.iter().any(has_depfile) {
                true => ", or done before",
                false => "",
            };
            writeln!(
                out,
                "{shared} step{s} need{} no run: the same work as another{before}",
                if shared == 1 { "s" } else { "" }
            )?;
        }
        if self.dependency_stats > 0 {
            let (calls, s) = (self.dependency_stats, plural(self.dependency_stats));
            writeln!(out, "{calls} stat call{s} for files that steps have said they read")?;
        }
        let known = counted(self.forecast.to_run(), "step");
        match self.forecast.later() {
            Some(0) if self.forecast.is_settled() => {
                writeln!(out, "0 steps to run: all is up to date")
            }
            Some(0) => writeln!(out, "{known} to run"),
            Some(later) => writeln!(out, "{known} to run, and ~{later} that come of them"),
            None => writeln!(out, "{known} to run, and what comes of them"),
        }
    }
}

/// Changed files that are told by name.
const NAMED: usize = 3;

/// `src/a.h, src/b.h and 3 more changed`
fn changed(paths: &[Vec<u8>]) -> String {
    if paths.is_empty() {
        return "with other files read".to_owned();
    }
    let named: Vec<String> = paths.iter().take(NAMED).map(|path| shown(path)).collect();
    let more = match paths.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more} changed", named.join(", "))
}

fn shown(path: &[u8]) -> String {
    printable(path).into_owned()
}

/// `2 new, 1 input changed`
fn why(task: &TaskForecast) -> String {
    if task.is_left_out {
        return "left out by --only or --until".to_owned();
    }
    let mut words: Vec<String> = task
        .reasons
        .iter()
        .map(|(why, steps)| match why {
            Why::New => format!("{steps} new"),
            Why::Recipe if task.changes.is_empty() => format!("{steps} recipe changed"),
            Why::Recipe => format!("{steps} {}", task.changes.join(", ")),
            Why::Input => format!("{steps} input changed"),
            Why::Failed => format!("{steps} failed last time"),
            Why::Pending => format!("{steps} pending"),
            Why::Dependency => format!("{steps} {}", changed(&task.dependencies)),
            Why::Lacking => format!("{steps} without what `outputs` asks for"),
            Why::Gone => format!("{steps} with results gone"),
            Why::Forced => format!("{steps} forced"),
            Why::Uncached => format!("{steps} with cache = false"),
        })
        .collect();
    if task.shared > 0 {
        let how = match task.has_depfile {
            true => "without a run",
            false => "the same work as another",
        };
        words.push(format!("{} of them {how}", task.shared));
    }
    // Where no step can be named yet, at least what will make them run.
    let is_named = task.reasons.iter().any(|(why, _)| *why == Why::Recipe);
    if !is_named && task.later != Some(0) {
        words.extend(task.changes.iter().cloned());
    }
    match task.later {
        Some(0) => {}
        _ if task.plan.held > 0 => words.push("when all that it sees is done".to_owned()),
        _ if task.plan.waits_for_inputs => {
            words.push("when all that it gathers is done".to_owned())
        }
        Some(later) => words.push(format!("~{later} that come of earlier tasks")),
        None => words.push("what comes of earlier tasks".to_owned()),
    }
    words.join(", ")
}
