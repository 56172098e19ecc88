//! The table `attempt`: the one place that knows its columns. A new one is a migration in `schema`, a field of
//! [`AttemptRecord`], and a line in each of [`COLUMNS`], [`insert`] and `record` here.

use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Row, params};

use crate::attempt::{AttemptRecord, Outcome, Usage};
use crate::error::{OrDb, Result};
use crate::ids::{RunId, StepId};

use crate::db::types::micros;
use crate::db::{Reader, Writer};

/// One attempt at a step, and the run that made it.
#[derive(Debug, Clone)]
pub struct AttemptOfRun {
    pub record: AttemptRecord,
    pub run: RunId,
    /// The run was one with `-B`.
    pub always: bool,
}

/// What [`insert`] writes and `record` reads, in this order, after the step and the run.
const COLUMNS: &str =
    "number, outcome, code, detail, started_ms, wall_us, user_us, system_us, peak_kib, log, worker";

/// Adds an attempt of a run.
pub(in crate::db) fn insert(
    writer: &mut Writer,
    step: StepId,
    run: RunId,
    attempt: &AttemptRecord,
) -> Result<()> {
    let AttemptRecord { number, outcome, started_ms, usage, log, worker } = attempt;
    writer
        .conn
        .prepare_cached(&format!(
            "INSERT INTO attempt(step, run, {COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
        ))
        .and_then(|mut insert| {
            insert.execute(params![
                step,
                run,
                number,
                outcome.word(),
                outcome.code(),
                outcome.detail(),
                started_ms,
                micros(usage.wall),
                micros(usage.user),
                micros(usage.system),
                i64::try_from(usage.peak_memory).unwrap_or(i64::MAX),
                log,
                worker,
            ])
        })
        .map(drop)
        .or_db("commit steps")
}

/// Reads [`COLUMNS`], the first of which is column `at`.
fn record(row: &Row<'_>, at: usize) -> rusqlite::Result<AttemptRecord> {
    let micros = |n| row.get::<_, i64>(n).map(|us| Duration::from_micros(us.unsigned_abs()));
    let word: String = row.get(at + 1)?;
    let outcome = Outcome::from_parts(&word, row.get(at + 2)?, row.get(at + 3)?);
    let outcome = outcome.ok_or_else(|| {
        let unknown = format!("an attempt ended in a way that this build doesn't know: `{word}`");
        rusqlite::Error::FromSqlConversionFailure(at + 1, Type::Text, unknown.into())
    })?;
    Ok(AttemptRecord {
        number: row.get(at)?,
        outcome,
        started_ms: row.get(at + 4)?,
        usage: Usage {
            wall: micros(at + 5)?,
            user: micros(at + 6)?,
            system: micros(at + 7)?,
            peak_memory: row.get::<_, i64>(at + 8)?.unsigned_abs(),
        },
        log: row.get(at + 9)?,
        worker: row.get(at + 10)?,
    })
}

/// All attempts at a step, oldest first.
///
/// # Errors
/// If the database can't be read.
pub fn attempts(reader: &Reader, step: StepId) -> Result<Vec<AttemptOfRun>> {
    let what = "read the attempts at a step";
    // No column of `run` is called like one of these.
    let sql = format!(
        "SELECT a.run, r.always, {COLUMNS} FROM attempt a JOIN (SELECT id, always FROM run) r ON r.id = a.run
         WHERE a.step = ?1 ORDER BY a.number"
    );
    let mut statement = reader.conn.prepare_cached(&sql).or_db(what)?;
    let rows = statement.query_map([step], |row| {
        Ok(AttemptOfRun { run: row.get(0)?, always: row.get(1)?, record: record(row, 2)? })
    });
    rows.and_then(|rows| rows.collect()).or_db(what)
}
