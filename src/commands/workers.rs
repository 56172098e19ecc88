//! `workers`: the workers of a run with `--on`, and their dismissal.

use std::io::Write;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::cli::Color;
use crate::cli::values::{default_db, path};
use crate::db::{self, Db};
use crate::error::{Error, Result, exit};
use crate::text::{counted, db_option, printable_line, shown};

use super::Command;
use super::answer::{self, Answer};
use super::crew::{self, RunCrew, WorkerState};
use super::style::Style;

/// List the workers of the run (run --on), or let some of them leave.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "workers")]
#[argh(
    note = "Without a run under way, the workers of the last one are listed. A worker that drains finishes the steps that \
    it runs and then leaves; none takes its place, and it does not count as lost. With Slurm, a host that drains is left \
    out by the jobs that take the place of those there."
)]
pub struct WorkersArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// let each WORKER finish the steps that it runs, and leave
    #[argh(switch)]
    pub drain: bool,

    /// colours: auto, always or never; default: auto
    #[argh(option, arg_name = "WHEN", default = "Color::Auto")]
    pub color: Color,

    /// print JSON
    #[argh(switch)]
    pub json: bool,

    /// a worker by its number, or all on a host by its name; default: all
    #[argh(positional, arg_name = "WORKER")]
    pub worker: Vec<String>,
}

impl Command for WorkersArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        match self.drain && self.worker.is_empty() {
            true => Err("--drain needs a WORKER: its number, or the name of a host"),
            false => Ok(()),
        }
    }

    fn execute(&self) -> Result<u8> {
        let db = Db::open_read_only(&self.db)?;
        let runner = crate::run::runner(&self.db);
        let read = || {
            db.read(|reader| {
                let Some(run) = db::last_runs(reader, 1)?.pop() else {
                    return Ok((None, false, RunCrew::default()));
                };
                let is_its = runner.is_some_and(|runner| runner.can_be(run.pid));
                let under_way = run.ended_ms.is_none() && is_its;
                Ok((Some(run.id), under_way, RunCrew::of(reader, &self.db, &run, under_way)?))
            })
        };
        let (mut run, mut under_way, mut crew) = read()?;
        if self.drain {
            let Some(caller) = &mut crew.caller else {
                let why = match under_way {
                    true => {
                        "the run has no workers that can be told: it is without --on, or another user's"
                    }
                    false => "no run is under way",
                };
                return Err(Error::Usage(format!(
                    "workers --drain: {why} (`{}`)",
                    shown(&self.db)
                )));
            };
            caller.drain(self.worker.clone())?;
            (run, under_way, crew) = read()?;
        }
        let is_meant = |one: &WorkerState| {
            let is_it = |word: &String| *word == one.host || *word == one.worker.to_string();
            self.worker.is_empty() || self.worker.iter().any(is_it)
        };
        let has_any = !crew.workers.is_empty();
        crew.workers.retain(is_meant);
        if has_any && crew.workers.is_empty() && !self.drain {
            let words = self.worker.join("`, `");
            let words = printable_line(words.as_bytes());
            return Err(Error::Usage(format!(
                "the run has no worker `{words}`; `task-pipeline workers{}` lists them",
                db_option(&self.db)
            )));
        }
        let style = Style::of(self.color);
        answer::give(&Workers { run, under_way, workers: crew.workers, style }, self.json)?;
        Ok(exit::OK)
    }
}

/// The answer.
#[derive(Serialize)]
struct Workers {
    /// `None`: there was none yet.
    run: Option<i64>,
    under_way: bool,
    /// By number.
    workers: Vec<WorkerState>,
    #[serde(skip)]
    style: Style,
}

impl Answer for Workers {
    fn text(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Some(run) = self.run else { return writeln!(out, "no run yet") };
        let state = if self.under_way { ", which is under way" } else { "" };
        if self.workers.is_empty() {
            return writeln!(out, "run {run}{state}, has no workers: it is made on this machine");
        }
        writeln!(out, "{} of run {run}{state}", counted(self.workers.len(), "worker"))?;
        crew::table(out, &self.workers, self.style)
    }
}
