//! The tables `worker` and `attempt_worker`: the workers of runs with `--on`, and which of them made an attempt. Other runs
//! have no rows there, nor have attempts that were made on the run's own machine.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{OptionalExtension, Row, params};

use crate::elsewhere::{WorkerChange, WorkerNote, WorkerSlot};
use crate::error::{OrDb, Result};
use crate::ids::{RunId, StepId};

use crate::db::{Reader, Writer};

const WHAT: &str = "read the workers of a run";

pub(in crate::db) const MIGRATION: &str = "
CREATE TABLE worker(
  run       INTEGER NOT NULL REFERENCES run(id),
  id        INTEGER NOT NULL,          -- within the run, from 1
  worker    INTEGER NOT NULL,          -- which of the run's workers; one in the place of a lost one has its number
  host      TEXT NOT NULL,             -- empty: nobody knows
  slots     INTEGER NOT NULL,          -- attempts at once
  job       TEXT,                      -- in a batch system
  joined_ms INTEGER,                   -- milliseconds since 1970, UTC; NULL: it never was ready
  left_ms   INTEGER,                   -- NULL: it is there, or the run was killed
  lost      TEXT,                      -- why it was lost; NULL: it was not
  made      INTEGER,                   -- attempts that it made; NULL as left_ms
  PRIMARY KEY(run, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt_worker(
  step   INTEGER NOT NULL REFERENCES step(id),
  number INTEGER NOT NULL,             -- of the attempt
  worker INTEGER NOT NULL,             -- worker.id, of the attempt's run
  slot   INTEGER NOT NULL,             -- from 1
  PRIMARY KEY(step, number)
) STRICT, WITHOUT ROWID;
";

/// A worker of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRow {
    /// Within the run, from 1.
    pub id: i64,
    /// Which of the run's workers. Those that were lost have the number of the one in their place.
    pub worker: i64,
    /// As its machine calls itself; of one that never connected, as the command line does. Empty: nobody knows.
    pub host: String,
    /// Attempts at once.
    pub slots: i64,
    /// In a batch system.
    pub job: Option<String>,
    /// Milliseconds since 1970; `None`: it never was ready.
    pub joined_ms: Option<i64>,
    /// `None`: it is there, or the run was killed.
    pub left_ms: Option<i64>,
    /// Why it was lost.
    pub lost: Option<String>,
    /// Attempts that it made; `None` as `left_ms`.
    pub made: Option<i64>,
}

/// Writes down what has become of workers of a run.
///
/// # Errors
/// If the rows can't be written.
pub fn note_workers(writer: &mut Writer, run: RunId, notes: &[WorkerNote]) -> Result<()> {
    let what = "note the workers of a run";
    let joined = "INSERT INTO worker(run, id, worker, host, slots, job, joined_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let left = "INSERT INTO worker(run, id, worker, host, slots, job, left_ms, lost, made)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT(run, id) DO UPDATE SET left_ms = ?7, lost = ?8, made = ?9";
    for note in notes {
        let WorkerNote { id, worker, host, slots, job, at_ms, change } = note;
        let (worker, slots) = (*worker as i64, *slots as i64);
        match change {
            WorkerChange::Joined => writer.conn.prepare_cached(joined).and_then(|mut insert| {
                insert.execute(params![run, id, worker, host, slots, job, at_ms])
            }),
            WorkerChange::Left { lost, made, .. } => {
                let made = *made as i64;
                writer.conn.prepare_cached(left).and_then(|mut insert| {
                    insert.execute(params![run, id, worker, host, slots, job, at_ms, lost, made])
                })
            }
        }
        .or_db(what)?;
    }
    Ok(())
}

/// The workers that a run has, or had, by number, and those of one number in the order in which they came.
///
/// # Errors
/// If the database can't be read.
pub fn workers(reader: &Reader, run: RunId) -> Result<Vec<WorkerRow>> {
    let sql = "SELECT id, worker, host, slots, job, joined_ms, left_ms, lost, made FROM worker WHERE run = ?1
         ORDER BY worker, id";
    let mut statement = reader.conn.prepare(sql).or_db(WHAT)?;
    let rows = statement.query_map([run], |row| {
        Ok(WorkerRow {
            id: row.get(0)?,
            worker: row.get(1)?,
            host: row.get(2)?,
            slots: row.get(3)?,
            job: row.get(4)?,
            joined_ms: row.get(5)?,
            left_ms: row.get(6)?,
            lost: row.get(7)?,
            made: row.get(8)?,
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// Adds who made an attempt.
pub(in crate::db) fn insert_slot(
    writer: &mut Writer,
    (step, number): (StepId, i64),
    on: &WorkerSlot,
) -> Result<()> {
    let sql = "INSERT INTO attempt_worker(step, number, worker, slot) VALUES (?1, ?2, ?3, ?4)";
    writer
        .conn
        .prepare_cached(sql)
        .and_then(|mut insert| insert.execute(params![step, number, on.id, on.slot as i64]))
        .map(drop)
        .or_db("commit steps")
}

/// By number, who made the attempts at a step that were made elsewhere.
pub(in crate::db) fn slots_of(reader: &Reader, step: StepId) -> Result<HashMap<i64, WorkerSlot>> {
    let sql = "SELECT x.number, w.id, w.worker, w.host, x.slot FROM attempt_worker x
         JOIN attempt a ON a.step = x.step AND a.number = x.number
         JOIN worker w ON w.run = a.run AND w.id = x.worker WHERE x.step = ?1";
    let mut statement = reader.conn.prepare_cached(sql).or_db(WHAT)?;
    let rows = statement.query_map([step], |row| Ok((row.get(0)?, slot(row, 1)?)));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

fn slot(row: &Row<'_>, at: usize) -> rusqlite::Result<WorkerSlot> {
    let number = |n: usize| row.get::<_, i64>(n).map(|n| usize::try_from(n).unwrap_or_default());
    Ok(WorkerSlot {
        id: row.get(at)?,
        worker: number(at + 1)?,
        host: Arc::from(row.get_ref(at + 2)?.as_str()?),
        slot: number(at + 3)?,
    })
}

/// By lane, `attempt.worker`, the slot that made a run's attempts in it, or the last of several that did.
///
/// # Errors
/// If the database can't be read.
pub fn lanes(reader: &Reader, run: RunId) -> Result<HashMap<u64, WorkerSlot>> {
    let has_workers = "SELECT 1 FROM worker WHERE run = ?1 LIMIT 1";
    let has_workers = reader.conn.query_row(has_workers, [run], |_| Ok(())).optional();
    if has_workers.or_db(WHAT)?.is_none() {
        return Ok(HashMap::new());
    }
    let sql = "SELECT a.worker, w.id, w.worker, w.host, x.slot FROM attempt_worker x
         CROSS JOIN attempt a ON a.step = x.step AND a.number = x.number AND a.run = ?1
         CROSS JOIN worker w ON w.run = a.run AND w.id = x.worker
         WHERE a.worker IS NOT NULL GROUP BY a.worker, w.id ORDER BY w.id";
    let mut statement = reader.conn.prepare(sql).or_db(WHAT)?;
    let rows =
        statement.query_map([run], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), slot(row, 1)?)));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}
