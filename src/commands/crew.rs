//! The workers of a run as `status` and `workers` show them: what the database has of them, with what the run says that
//! they do just now.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use crate::db::{self, Reader, RunStatus, WorkerRow};
use crate::error::Result;
use crate::ids::RunId;
use crate::remote::{Caller, LiveStep, LiveWorkers};
use crate::text::{printable, printable_line, utc};

use super::columns::{self, Cell, Column, Tone};
use super::style::Style;

const COLUMNS: &[Column] = &[
    Column { title: "worker", rank: 0, stays: true, is_text: true },
    Column { title: "slots", rank: 3, stays: true, is_text: false },
    Column { title: "running", rank: 0, stays: true, is_text: false },
    Column { title: "attempts", rank: 2, stays: true, is_text: false },
    Column { title: "lost", rank: 1, stays: true, is_text: false },
    Column { title: "since", rank: 5, stays: false, is_text: true },
    Column { title: "job", rank: 6, stays: false, is_text: true },
    Column { title: "state", rank: 0, stays: true, is_text: true },
];

/// The workers of a run.
#[derive(Default)]
pub(super) struct RunCrew {
    pub(super) workers: Vec<WorkerState>,
    /// Of which they make attempts just now.
    pub(super) steps: Vec<LiveStep>,
    pub(super) caller: Option<Caller>,
}

/// One of a run's workers: the one that has its place now, or had it last.
#[derive(Clone, Serialize)]
pub(super) struct WorkerState {
    pub(super) worker: i64,
    /// Made printable.
    pub(super) host: String,
    slots: i64,
    job: Option<String>,
    /// connected, draining, left, lost
    state: &'static str,
    /// Milliseconds since 1970, as the next. `None`: it never was ready.
    since_ms: Option<i64>,
    /// `None`: it is there, or the run was killed.
    left_ms: Option<i64>,
    /// Attempts that it makes just now.
    running: usize,
    /// Attempts that workers in its place have made in this run.
    made: u64,
    /// How often the worker in its place was lost.
    lost: usize,
    /// The last time: why.
    why_lost: Option<String>,
}

impl RunCrew {
    /// Those of a run. One that is `under_way` is asked.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(super) fn of(
        reader: &Reader,
        dir: &Path,
        run: &RunStatus,
        under_way: bool,
    ) -> Result<RunCrew> {
        let id = RunId(run.id);
        let rows = db::workers(reader, id)?;
        let mut caller = if under_way { Caller::of_run(dir, id, run.pid) } else { None };
        let live = caller.as_mut().map(Caller::live).unwrap_or_default();
        let mut workers: Vec<WorkerState> = Vec::new();
        for of_one in rows.chunk_by(|a, b| a.worker == b.worker) {
            workers.extend(WorkerState::of(of_one, &live, under_way));
        }
        Ok(RunCrew { workers, steps: live.steps, caller })
    }
}

impl WorkerState {
    /// Of all that had the same place.
    fn of(rows: &[WorkerRow], live: &LiveWorkers, under_way: bool) -> Option<WorkerState> {
        let last = rows.last()?;
        let now = live.workers.iter().find(|live| live.id == last.id);
        let made = |row: &WorkerRow| row.made.map_or(0, i64::unsigned_abs);
        let mut lost = rows.iter().filter_map(|row| row.lost.as_ref());
        let state = match (now, last.left_ms) {
            (Some(now), _) if now.is_draining => "draining",
            (Some(_), _) => "connected",
            (None, _) if last.lost.is_some() => "lost",
            (None, None) if under_way => "connected",
            (None, _) => "left",
        };
        Some(WorkerState {
            worker: last.worker,
            host: printable(last.host.as_bytes()).into_owned(),
            slots: last.slots,
            job: last.job.as_ref().map(|job| printable_line(job.as_bytes())),
            state,
            since_ms: last.joined_ms,
            left_ms: last.left_ms,
            running: now.map_or(0, |now| now.running),
            made: rows.iter().map(made).sum::<u64>() + now.map_or(0, |now| now.made),
            lost: lost.clone().count(),
            why_lost: lost.next_back().map(|why| printable_line(why.as_bytes())),
        })
    }

    /// `2 on n3`
    fn name(&self) -> String {
        match self.host.as_str() {
            "" => self.worker.to_string(),
            host => format!("{} on {host}", self.worker),
        }
    }

    fn cells(&self) -> Vec<Cell> {
        let tone = match self.state {
            "connected" => Tone::Good,
            "draining" => Tone::Doubtful,
            "lost" => Tone::Bad,
            _ => Tone::Plain,
        };
        let state = match &self.why_lost {
            Some(why) if self.state == "lost" => format!("lost: {why}"),
            Some(why) => format!("{}; one before was lost: {why}", self.state),
            None => self.state.to_owned(),
        };
        vec![
            Cell::text(self.name()),
            Cell::count(self.slots.unsigned_abs(), Tone::Plain),
            Cell::count(self.running as u64, Tone::Plain),
            Cell::count(self.made, Tone::Plain),
            Cell::count(self.lost as u64, Tone::Bad),
            Cell::text(self.since_ms.map(utc).unwrap_or_default()),
            Cell::text(self.job.clone().unwrap_or_default()),
            Cell { tone, ..Cell::text(state) },
        ]
    }
}

/// Writes a table of workers, a row each.
///
/// # Errors
/// Those of `out`.
pub(super) fn table(
    out: &mut dyn Write,
    workers: &[WorkerState],
    style: Style,
) -> std::io::Result<()> {
    let rows: Vec<Vec<Cell>> = workers.iter().map(WorkerState::cells).collect();
    columns::write(out, COLUMNS, &rows, style)
}
