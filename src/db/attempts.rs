//! The table `attempt`: the one place that knows its columns. A new one is a migration in `schema`, a field of
//! [`AttemptRecord`], and a line in each of [`COLUMNS`], [`insert`] and `record` here.

use std::time::Duration;

use rusqlite::types::Type;
use rusqlite::{Row, params};

use crate::attempt::{AttemptRecord, BatchPlace, Outcome, PeakOf, Start, Usage};
use crate::error::{OrDb, Result};
use crate::ids::{RunId, StepId, TaskId};

use crate::db::types::micros;
use crate::db::{Reader, Writer, workers};

/// One attempt at a step, and the run that made it.
#[derive(Debug, Clone)]
pub struct AttemptOfRun {
    pub record: AttemptRecord,
    pub run: RunId,
    /// The run was one with `-B`.
    pub always: bool,
}

/// What [`insert`] writes and `record` reads, in this order, after the step and the run.
const COLUMNS: &str = "number, outcome, code, detail, started_ms, wall_us, user_us, system_us, peak_kib, log, worker, peak_of, \
     batch, batch_item, batch_size, forked";

/// Adds an attempt of a run.
pub(in crate::db) fn insert(
    writer: &mut Writer,
    step: StepId,
    run: RunId,
    attempt: &AttemptRecord,
) -> Result<()> {
    let AttemptRecord { number, outcome, started_ms, usage, log, worker, on, batch, start } =
        attempt;
    writer
        .conn
        .prepare_cached(&format!(
            "INSERT INTO attempt(step, run, {COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)"
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
                // The usual ones cost no bytes.
                (usage.peak_of != PeakOf::Process).then_some(usage.peak_of.as_str()),
                batch.map(|batch| batch.number),
                batch.map(|batch| batch.item),
                batch.map(|batch| batch.size),
                (*start == Start::Fork).then_some(1),
            ])
        })
        .or_db("commit steps")?;
    match on {
        Some(on) => workers::insert_slot(writer, (step, *number), on),
        None => Ok(()),
    }
}

/// Reads [`COLUMNS`], the first of which is column `at`. Who made it is in another table.
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
            peak_of: peak_of(row, at + 11)?,
        },
        log: row.get(at + 9)?,
        worker: row.get(at + 10)?,
        on: None,
        batch: match row.get(at + 12)? {
            Some(number) => {
                Some(BatchPlace { number, item: row.get(at + 13)?, size: row.get(at + 14)? })
            }
            None => None,
        },
        start: match row.get::<_, Option<i64>>(at + 15)? {
            Some(1) => Start::Fork,
            _ => Start::Spawn,
        },
    })
}

/// Of an older build it may be its own.
fn peak_of(row: &Row<'_>, at: usize) -> rusqlite::Result<PeakOf> {
    let word: Option<String> = row.get(at)?;
    Ok(word.and_then(|word| PeakOf::parse(&word)).unwrap_or_default())
}

/// Attempts from which is learned how much memory a task's steps need.
pub const PEAKS: usize = 20;

/// Steps that are looked at for them.
const STEPS: i64 = 100;

/// The peaks of memory, in KiB, of about the last [`PEAKS`] scripts of a task, the newest first; those that are known. Looked for among the newest steps, and among the newest of those made before `first`, the first one that has
/// to run: so it costs the same however many steps there are.
///
/// # Errors
/// If the database can't be read.
pub fn recent_peaks(reader: &Reader, task: TaskId, first: StepId) -> Result<Vec<u64>> {
    let what = "read earlier peaks of memory";
    let sql = "WITH s AS MATERIALIZED (
          SELECT id FROM (SELECT id FROM step WHERE task = ?1 ORDER BY id DESC LIMIT ?3)
          UNION SELECT id FROM (SELECT id FROM step WHERE task = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3))
        SELECT max(a.peak_kib) FROM s CROSS JOIN attempt a ON a.step = s.id
        WHERE a.peak_of IS NOT 'runner' AND a.outcome <> 'start'
        GROUP BY a.run, coalesce(a.batch, -a.step)
        ORDER BY max(a.started_ms) DESC, max(a.step) DESC LIMIT ?4";
    let mut statement = reader.conn.prepare_cached(sql).or_db(what)?;
    let rows = statement.query_map(params![task, first, STEPS, PEAKS as i64], |row| {
        row.get::<_, i64>(0).map(i64::unsigned_abs)
    });
    rows.and_then(|rows| rows.collect()).or_db(what)
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
    let mut attempts: Vec<AttemptOfRun> = rows.and_then(|rows| rows.collect()).or_db(what)?;
    let mut slots = workers::slots_of(reader, step)?;
    for AttemptOfRun { record, .. } in &mut attempts {
        record.on = slots.remove(&record.number);
    }
    Ok(attempts)
}
