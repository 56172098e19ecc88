//! Where everything stands, in numbers. Reads sums and indexes only, never all steps row by row.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use rusqlite::{Row, params};
use serde::{Deserialize, Serialize};

use crate::error::{OrDb, Result};
use crate::ids::TaskId;
use crate::text::size;

use crate::db::Reader;
use crate::db::commit::leaves::todo;
use crate::db::flow::Flow;
use crate::db::read::failed_anew::failed_anew;
use crate::db::run_steps::RunSteps;
use crate::db::types::NameBytes;

const WHAT: &str = "read the database";

/// A task of the last manifest, in numbers.
#[derive(Debug, Clone, Default)]
pub struct TaskStatus {
    pub id: TaskId,
    pub name: String,
    pub done: u64,
    /// Still to run, or running.
    pub pending: u64,
    /// Those that failed in the last run and keep an earlier result included.
    pub failed: u64,
    /// Steps that are history.
    pub retired: u64,
    /// Live outputs and their bytes.
    pub outputs: u64,
    pub bytes: u64,
    /// All attempts of all runs.
    pub attempts: u64,
    /// Sum over them, microseconds.
    pub wall_us: u64,
    /// Highest of them.
    pub peak_kib: u64,
    /// What the manifest says that each step takes.
    pub declared: Declared,
}

/// What the manifest says that each step of a task takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Declared {
    /// Of `-j`.
    pub cpus: u64,
    /// Bytes; `None`: not declared.
    pub memory: Option<u64>,
    /// Of what `--have` names.
    pub uses: BTreeMap<String, u64>,
}

impl Default for Declared {
    fn default() -> Declared {
        Declared { cpus: 1, memory: None, uses: BTreeMap::new() }
    }
}

impl Declared {
    /// Nothing is declared.
    pub fn is_nothing(&self) -> bool {
        *self == Declared::default()
    }

    /// Reads the column `task.resources`.
    pub(in crate::db) fn read(json: Option<String>) -> Declared {
        json.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
    }
}

/// `4 cpus, 8.0 GiB, 1 gpu`; empty if nothing is declared.
impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus = (self.cpus > 1).then(|| format!("{} cpus", self.cpus));
        let uses = self.uses.iter().map(|(name, count)| format!("{count} {name}"));
        let words = cpus.into_iter().chain(self.memory.map(size)).chain(uses);
        f.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}

/// Every task of the last manifest, in its order.
///
/// # Errors
/// If the database can't be read.
pub fn status(reader: &Reader) -> Result<Vec<TaskStatus>> {
    let mut tasks = reader
        .conn
        .prepare(
            "SELECT t.id, t.name, coalesce(l.outputs, 0), coalesce(l.bytes, 0),
               coalesce(sum(r.done + r.failed), 0), coalesce(sum(r.wall_us), 0), coalesce(max(r.peak_kib), 0),
               t.resources
             FROM task t LEFT JOIN total l ON l.task = t.id LEFT JOIN run_task r ON r.task = t.id
             WHERE t.position IS NOT NULL GROUP BY t.id ORDER BY t.position",
        )
        .or_db(WHAT)?;
    let unsigned = |row: &Row<'_>, n: usize| row.get::<_, i64>(n).map(i64::unsigned_abs);
    let rows = tasks.query_map([], |row| {
        Ok(TaskStatus {
            id: row.get(0)?,
            name: row.get(1)?,
            outputs: unsigned(row, 2)?,
            bytes: unsigned(row, 3)?,
            attempts: unsigned(row, 4)?,
            wall_us: unsigned(row, 5)?,
            peak_kib: unsigned(row, 6)?,
            declared: Declared::read(row.get(7)?),
            ..TaskStatus::default()
        })
    });
    let mut tasks: Vec<TaskStatus> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
    let counts = step_counts(reader)?;
    for task in &mut tasks {
        let of_task = counts.get(&task.id).copied().unwrap_or_default();
        (task.done, task.pending) = (of_task.done, of_task.pending);
        (task.failed, task.retired) = (of_task.failed, of_task.retired);
    }
    for (task, _) in failed_anew(reader)? {
        if let Some(task) = tasks.iter_mut().find(|known| known.id == task) {
            (task.done, task.failed) = (task.done.saturating_sub(1), task.failed + 1);
        }
    }
    Ok(tasks)
}

/// For rows of `task t`: the task gathers or has `with`, and what it gathers or sees may have changed since its live steps were made. A commit
/// that changes it takes its `wiring` away, and the next plan looks at it again.
pub(in crate::db) const OUT_OF_DATE: &str =
    "t.position IS NOT NULL AND t.wiring IS NULL
  AND EXISTS (SELECT 1 FROM step WHERE task = t.id AND live = 1 AND state = 1 AND (t.gather = 1 OR side IS NOT NULL))";

/// The names of the tasks whose results may be out of date until they are gathered again, in the manifest's order.
///
/// # Errors
/// If the database can't be read.
pub fn out_of_date(reader: &Reader) -> Result<Vec<String>> {
    let sql = format!("SELECT t.name FROM task t WHERE {OUT_OF_DATE} ORDER BY t.position");
    let mut statement = reader.conn.prepare(&sql).or_db(WHAT)?;
    let rows = statement.query_map([], |row| row.get(0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// Steps of a task by what they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepCounts {
    pub done: u64,
    pub pending: u64,
    pub failed: u64,
    pub retired: u64,
}

impl StepCounts {
    /// Steps that aren't history.
    pub fn live(&self) -> u64 {
        self.done + self.pending + self.failed
    }
}

/// The steps of every task that has any. Counted within indexes: all steps, less those that the two
/// partial ones hold.
///
/// # Errors
/// If the database can't be read.
pub fn step_counts(reader: &Reader) -> Result<HashMap<TaskId, StepCounts>> {
    let by_task = |sql: &str| -> Result<HashMap<TaskId, u64>> {
        let mut statement = reader.conn.prepare_cached(sql).or_db(WHAT)?;
        let rows = statement
            .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))
            .and_then(|rows| rows.collect());
        rows.or_db(WHAT)
    };
    let all = by_task("SELECT task, count(*) FROM step INDEXED BY idx_step_task GROUP BY task")?;
    let retired = by_task(
        "SELECT task, count(*) FROM step INDEXED BY idx_step_retired WHERE live = 0 GROUP BY task",
    )?;
    let todo = todo(reader)?;
    let count = |(task, all)| {
        let todo = todo.get(&task).copied().unwrap_or_default();
        let retired = retired.get(&task).copied().unwrap_or(0);
        let rest = todo.pending + todo.failed + retired;
        let counts = StepCounts {
            done: u64::saturating_sub(all, rest),
            pending: todo.pending,
            failed: todo.failed,
            retired,
        };
        (task, counts)
    };
    Ok(all.into_iter().map(count).collect())
}

/// A run, and what it has done so far.
#[derive(Debug, Clone)]
pub struct RunStatus {
    pub id: i64,
    pub started_ms: i64,
    pub ended_ms: Option<i64>,
    pub result: Option<String>,
    pub pid: i64,
    pub manifest: Vec<u8>,
    /// Attempts that succeeded, and that did not.
    pub done: i64,
    pub failed: i64,
    /// `None`: it is under way, was killed, or an older build made it.
    pub steps: Option<RunSteps>,
}

/// The newest runs, newest first.
///
/// # Errors
/// If the database can't be read.
pub fn last_runs(reader: &Reader, limit: usize) -> Result<Vec<RunStatus>> {
    let mut statement = reader
        .conn
        .prepare(
            "WITH last AS MATERIALIZED (SELECT * FROM run ORDER BY id DESC LIMIT ?1)
             SELECT r.id, r.started_ms, r.ended_ms, r.result, r.pid, r.manifest,
               coalesce(sum(w.done), 0), coalesce(sum(w.failed), 0), r.steps
             FROM last r LEFT JOIN task t LEFT JOIN run_task w ON w.run = r.id AND w.task = t.id
             GROUP BY r.id ORDER BY r.id DESC",
        )
        .or_db(WHAT)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![limit], |row| {
        Ok(RunStatus {
            id: row.get(0)?,
            started_ms: row.get(1)?,
            ended_ms: row.get(2)?,
            result: row.get(3)?,
            pid: row.get(4)?,
            manifest: row.get::<_, NameBytes>(5)?.0,
            done: row.get(6)?,
            failed: row.get(7)?,
            steps: row
                .get::<_, Option<String>>(8)?
                .and_then(|steps| serde_json::from_str(&steps).ok()),
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// A task of the last manifest, and where its inputs come from.
#[derive(Debug, Clone)]
pub struct Wiring {
    pub name: String,
    pub gather: bool,
    /// As JSON; `None` until a run of this build has planned it.
    pub feeds: Option<String>,
}

/// The tasks of the last manifest, in its order.
///
/// # Errors
/// If the database can't be read.
pub fn wiring(reader: &Reader) -> Result<Vec<Wiring>> {
    let mut statement = reader
        .conn
        .prepare(
            "SELECT name, gather, feeds FROM task WHERE position IS NOT NULL ORDER BY position",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([], |row| {
        Ok(Wiring { name: row.get(0)?, gather: row.get(1)?, feeds: row.get(2)? })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// A list of words in what the table keeps of the wiring of a task, as JSON.
pub(in crate::db) fn feeding(feeds: Option<&str>, key: &str) -> Vec<String> {
    let feeds: serde_json::Value =
        serde_json::from_str(feeds.unwrap_or("null")).unwrap_or_default();
    let words = feeds[key].as_array().into_iter().flatten();
    words.filter_map(|word| word.as_str().map(str::to_owned)).collect()
}

/// Steps that are looked at, per task: the newest. A mean over millions would take longer than it is worth.
const SAMPLE: i64 = 100;

/// By place in the manifest: the number of successful attempts looked at, and their mean time. Costs the
/// same however many there are.
///
/// # Errors
/// If the database can't be read.
pub fn mean_times(reader: &Reader, flow: &Flow) -> Result<Vec<(u64, Duration)>> {
    let what = "read earlier times";
    let mut select = reader
        .conn
        .prepare_cached(
            "SELECT count(*), coalesce(avg(a.wall_us * 1.0 / coalesce(a.batch_size, 1)), 0)
             FROM (SELECT id FROM step WHERE task = ?1 ORDER BY id DESC LIMIT ?2) s
             JOIN attempt a ON a.step = s.id WHERE a.outcome = 'ok'",
        )
        .or_db(what)?;
    let mean = |row: &rusqlite::Row<'_>| {
        let micros: f64 = row.get(1)?;
        Ok((row.get::<_, i64>(0)?.unsigned_abs(), Duration::from_secs_f64(micros.max(0.0) / 1e6)))
    };
    let times = flow.tasks.iter().map(|task| select.query_row(params![task.id, SAMPLE], mean));
    times.collect::<rusqlite::Result<_>>().or_db(what)
}
