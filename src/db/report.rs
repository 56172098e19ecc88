//! What a report needs, as of one moment. Whatever grows with the number of steps is counted by SQLite or
//! handed over row by row.

use std::collections::{HashMap, HashSet};

use rusqlite::{Row, params};

use crate::error::{OrDb, Result};
use crate::ids::{RunId, StepId, TaskId};
use crate::labels::Labels;
use crate::object::ObjectHash;

use crate::db::Reader;
use crate::db::read::status::{Declared, StepCounts, feeding, step_counts};
use crate::db::read::waits::waits;
use crate::db::schema;
use crate::db::types::NameBytes;

const WHAT: &str = "read the database";

/// The versions of SQLite and of the tables.
pub fn versions() -> (&'static str, i32) {
    (rusqlite::version(), schema::VERSION)
}

/// A run as it was begun, and how it ended.
#[derive(Debug, Clone)]
pub struct ReportRun {
    pub id: RunId,
    pub started_ms: i64,
    pub ended_ms: Option<i64>,
    pub result: Option<String>,
    pub pid: i64,
    pub durability: String,
    pub manifest: Vec<u8>,
    pub dir: Vec<u8>,
}

/// The newest runs, newest first.
///
/// # Errors
/// If the database can't be read.
pub fn report_runs(reader: &Reader, limit: i64) -> Result<Vec<ReportRun>> {
    let mut statement = reader
        .conn
        .prepare(
            "SELECT id, started_ms, ended_ms, result, pid, durability, manifest, dir
             FROM run ORDER BY id DESC LIMIT ?1",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([limit], |row| {
        Ok(ReportRun {
            id: row.get(0)?,
            started_ms: row.get(1)?,
            ended_ms: row.get(2)?,
            result: row.get(3)?,
            pid: row.get(4)?,
            durability: row.get(5)?,
            manifest: row.get::<_, NameBytes>(6)?.0,
            dir: row.get::<_, NameBytes>(7)?.0,
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// A task of the last manifest, and how far its steps are.
#[derive(Debug, Clone)]
pub struct ReportTask {
    pub id: TaskId,
    pub name: String,
    pub gather: bool,
    /// Keys that it gathers by, and keys of the labels that its steps may have.
    pub gather_by: Option<String>,
    pub labels: Option<String>,
    pub done: u64,
    pub failed: u64,
    pub pending: u64,
    /// Steps that are history.
    pub retired: u64,
    /// Of live steps that are done, and their bytes.
    pub outputs: u64,
    pub bytes: u64,
    /// What the manifest says that each step takes.
    pub declared: Declared,
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

/// The tasks in manifest order.
///
/// # Errors
/// If the database can't be read.
pub fn report_tasks(reader: &Reader) -> Result<Vec<ReportTask>> {
    let counts = step_counts(reader)?;
    let waiting: HashSet<TaskId> = waits(reader)?.into_iter().map(|waits| waits.id).collect();
    let mut statement = reader.conn
        .prepare(
            "SELECT t.id, t.name, t.gather, coalesce(l.outputs, 0), coalesce(l.bytes, 0), t.feeds,
               t.resources
             FROM task t LEFT JOIN total l ON l.task = t.id WHERE t.position IS NOT NULL ORDER BY t.position",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([], |row| {
        let id = row.get(0)?;
        let StepCounts { done, failed, pending, retired } =
            counts.get(&id).copied().unwrap_or_default();
        let (name, gather) = (row.get(1)?, row.get(2)?);
        let (outputs, bytes) = (unsigned(row, 3)?, unsigned(row, 4)?);
        let feeds: Option<String> = row.get(5)?;
        let words = |key| Some(feeding(feeds.as_deref(), key).join(", ")).filter(|w| !w.is_empty());
        let (gather_by, labels) = (words("gather_by"), words("labels"));
        Ok(ReportTask {
            id,
            name,
            gather,
            gather_by,
            labels,
            done,
            failed,
            pending: pending + u64::from(waiting.contains(&id)),
            retired,
            outputs,
            bytes,
            declared: Declared::read(row.get(6)?),
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// Pairs of tasks, sorted: the outputs of the first are inputs of the second, or seen by it.
///
/// # Errors
/// If the database can't be read.
pub fn report_edges(reader: &Reader) -> Result<Vec<(TaskId, TaskId)>> {
    let mut edges: Vec<(TaskId, TaskId)> = Vec::new();
    let wiring = "SELECT name, id, feeds FROM task WHERE position IS NOT NULL";
    let mut statement = reader.conn.prepare(wiring).or_db(WHAT)?;
    let tasks = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))));
    let tasks: HashMap<String, (TaskId, Option<String>)> =
        tasks.and_then(|tasks| tasks.collect()).or_db(WHAT)?;
    for (id, feeds) in tasks.values() {
        for key in ["from", "with"] {
            let from = feeding(feeds.as_deref(), key);
            edges.extend(from.iter().filter_map(|name| Some((tasks.get(name)?.0, *id))));
        }
    }
    // A database that an older build planned tells it only by what its steps did.
    let mut statement = reader
        .conn
        .prepare(
            "SELECT f.task, t.task FROM step_link l CROSS JOIN step f ON f.id = l.from_step_id
             CROSS JOIN step t ON t.id = l.to_step_id WHERE f.live = 1 AND t.live = 1
             AND EXISTS (SELECT 1 FROM task WHERE position IS NOT NULL AND feeds IS NULL)",
        )
        .or_db(WHAT)?;
    let mut rows = statement.query([]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        edges.push((row.get(0).or_db(WHAT)?, row.get(1).or_db(WHAT)?));
    }
    edges.sort_unstable_by_key(|(from, to)| (from.0, to.0));
    edges.dedup();
    Ok(edges)
}

/// What a run did of one task.
#[derive(Debug, Clone, Copy)]
pub struct TaskSpan {
    pub task: TaskId,
    pub attempts: u64,
    /// Sum of their times.
    pub wall_us: u64,
    /// Highest number of a worker; 0 if an older build ran them.
    pub workers: u64,
    /// From when to when, milliseconds since 1970.
    pub begun_ms: i64,
    pub ended_ms: i64,
}

/// The newest run that executed anything, and its part in each task.
///
/// # Errors
/// If the database can't be read.
pub fn last_work(reader: &Reader) -> Result<Option<(RunId, Vec<TaskSpan>)>> {
    let newest =
        reader.conn.query_row("SELECT max(run) FROM attempt", [], |row| row.get(0)).or_db(WHAT)?;
    let Some(run) = newest else { return Ok(None) };
    let mut statement = reader.conn
        .prepare(
            "SELECT s.task, count(*), sum(a.wall_us / coalesce(a.batch_size, 1)), coalesce(max(a.worker), 0), min(a.started_ms),
               max(a.started_ms + a.wall_us / 1000)
             FROM attempt a CROSS JOIN step s ON s.id = a.step WHERE a.run = ?1 GROUP BY s.task",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map(params![run], |row| {
        Ok(TaskSpan {
            task: row.get(0)?,
            attempts: unsigned(row, 1)?,
            wall_us: unsigned(row, 2)?,
            workers: unsigned(row, 3)?,
            begun_ms: row.get(4)?,
            ended_ms: row.get(5)?,
        })
    });
    Ok(Some((run, rows.and_then(|rows| rows.collect()).or_db(WHAT)?)))
}

/// An attempt at a step.
#[derive(Debug, Clone, Copy)]
pub struct ReportAttempt<'r> {
    pub step: StepId,
    pub task: TaskId,
    /// It belongs to the present manifest and inputs, is done, and this is its last attempt.
    pub stands: bool,
    /// Name of the step's input.
    pub input: &'r [u8],
    /// As the database has them; `None`: none.
    pub labels: Option<&'r str>,
    pub run: RunId,
    pub succeeded: bool,
    pub started_ms: i64,
    /// Its part of what it took, where it shared its script.
    pub wall_us: u64,
    /// User and system; likewise.
    pub cpu_us: u64,
    /// Of the script.
    pub peak_kib: u64,
    /// Which of the steps that shared the script it is, from 1, and how many there were.
    pub item: u64,
    pub steps: u64,
    /// An interpreter that was loaded already was forked for it.
    pub is_forked: bool,
    /// 0 if an older build ran it.
    pub worker: u64,
}

impl ReportAttempt<'_> {
    /// Its labels as users are told of them.
    pub fn label_text(&self) -> String {
        self.labels.and_then(Labels::from_json).unwrap_or_default().to_string()
    }
}

/// Calls `see` with every attempt at every step.
///
/// # Errors
/// If the database can't be read.
pub fn each_attempt(reader: &Reader, see: &mut dyn FnMut(&ReportAttempt<'_>)) -> Result<()> {
    // Backwards: the result of a step that is done is that of the last attempt that succeeded.
    let mut statement = reader.conn
        .prepare(
            "SELECT a.step, s.task, s.live = 1 AND s.state = 1, s.name, a.run, a.outcome = 'ok', a.started_ms,
               a.wall_us, a.user_us + a.system_us, a.peak_kib, coalesce(a.worker, 0), s.labels,
               coalesce(a.batch_item, 1), coalesce(a.batch_size, 1), a.forked IS 1
             FROM attempt a CROSS JOIN step s ON s.id = a.step ORDER BY a.step DESC, a.number DESC",
        )
        .or_db(WHAT)?;
    let mut rows = statement.query([]).or_db(WHAT)?;
    let mut before = None;
    while let Some(row) = rows.next().or_db(WHAT)? {
        let attempt = attempt(row, &mut before).or_db(WHAT)?;
        see(&attempt);
    }
    Ok(())
}

fn attempt<'r>(
    row: &'r Row<'_>,
    before: &mut Option<StepId>,
) -> rusqlite::Result<ReportAttempt<'r>> {
    let step = row.get(0)?;
    let succeeded = row.get(5)?;
    let is_last = succeeded && before.replace(step) != Some(step);
    let steps = unsigned(row, 13)?.max(1);
    Ok(ReportAttempt {
        step,
        task: row.get(1)?,
        stands: is_last && row.get(2)?,
        input: row.get_ref(3)?.as_bytes()?,
        labels: row.get_ref(11)?.as_str_or_null()?,
        run: row.get(4)?,
        succeeded,
        started_ms: row.get(6)?,
        wall_us: unsigned(row, 7)? / steps,
        cpu_us: unsigned(row, 8)? / steps,
        peak_kib: unsigned(row, 9)?,
        worker: unsigned(row, 10)?,
        item: unsigned(row, 12)?,
        steps,
        is_forked: row.get(14)?,
    })
}

/// A step that failed, and how.
#[derive(Debug, Clone)]
pub struct FailedStep {
    pub step: StepId,
    pub task: TaskId,
    pub input: Vec<u8>,
    pub labels: Labels,
    /// Number of its last attempt.
    pub attempt: u64,
    pub outcome: String,
    pub code: Option<i64>,
    pub detail: Option<String>,
    pub wall_us: u64,
    pub log: Option<ObjectHash>,
    /// How many failed in the same way, the same task included.
    pub alike: u64,
}

/// Steps that failed, at most so many, so that every way to fail is among them if it can be. One that failed with another
/// one has the attempt of that one.
///
/// # Errors
/// If the database can't be read.
pub fn report_failed(reader: &Reader, limit: i64) -> Result<Vec<FailedStep>> {
    let mut statement = reader
        .conn
        .prepare(
            "SELECT s.id, s.task, s.name, a.number, a.outcome, a.code, a.detail, a.wall_us, a.log,
               count(*) OVER alike AS alike, row_number() OVER (alike ORDER BY s.id) AS nth, s.labels
             FROM step s JOIN attempt a ON a.step = coalesce(s.same_as, s.id)
               AND a.number = (SELECT max(number) FROM attempt WHERE step = a.step)
             WHERE s.live = 1 AND s.state <> 1 AND s.state = 2
             WINDOW alike AS (PARTITION BY s.task, a.outcome, a.code)
             ORDER BY nth, alike DESC, s.id LIMIT ?1",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([limit], |row| {
        Ok(FailedStep {
            step: row.get(0)?,
            task: row.get(1)?,
            input: row.get::<_, NameBytes>(2)?.0,
            attempt: unsigned(row, 3)?,
            outcome: row.get(4)?,
            code: row.get(5)?,
            detail: row.get(6)?,
            wall_us: unsigned(row, 7)?,
            log: row.get(8)?,
            alike: unsigned(row, 9)?,
            labels: row.get(11)?,
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}
