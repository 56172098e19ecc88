//! Logs of attempts that a run did not let come to an end, or that its own end cut off. Such an attempt says nothing about
//! its step, is no row of `attempt`, and the next one has its number; only what its script had printed is kept.

use rusqlite::{OptionalExtension, params};

use crate::error::{OrDb, Result};
use crate::ids::{RunId, StepId};
use crate::object::ObjectHash;

use crate::db::commit::insert_objects;
use crate::db::{Reader, Writer};

const WHAT: &str = "keep the logs of interrupted attempts";

/// What schema 14 adds.
pub(in crate::db) const MIGRATION: &str = "
-- What the last attempt at a step that was interrupted had printed. It tells nothing of the step, and is no attempt.
CREATE TABLE interrupted(
  step   INTEGER PRIMARY KEY REFERENCES step(id),
  number INTEGER NOT NULL,             -- of the attempt; the next one has it again
  run    INTEGER NOT NULL REFERENCES run(id),
  log    BLOB NOT NULL                 -- object with stdout and stderr
) STRICT;
";

/// An attempt that was interrupted, and had printed something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted {
    pub step: StepId,
    /// From 1, over all runs; that of the next attempt.
    pub number: i64,
    pub run: RunId,
    pub log: ObjectHash,
}

/// Keeps these, each with the bytes of its log, instead of earlier ones of their steps. Steps and runs that aren't known
/// are passed over. The logs are complete under their names.
///
/// # Errors
/// If the rows can't be written.
pub fn note_interrupted(writer: &mut Writer, attempts: &[(Interrupted, u64)]) -> Result<()> {
    if attempts.is_empty() {
        return Ok(());
    }
    insert_objects(writer, attempts.iter().map(|(attempt, size)| (attempt.log, *size)))?;
    let mut insert = writer
        .conn
        .prepare_cached(
            "INSERT OR REPLACE INTO interrupted(step, number, run, log) SELECT ?1, ?2, ?3, ?4
             WHERE EXISTS (SELECT 1 FROM step WHERE id = ?1) AND EXISTS (SELECT 1 FROM run WHERE id = ?3)",
        )
        .or_db(WHAT)?;
    for (Interrupted { step, number, run, log }, _) in attempts {
        insert.execute(params![step, number, run, log]).or_db(WHAT)?;
    }
    Ok(())
}

/// The last attempt at a step that was interrupted, if it had printed something.
///
/// # Errors
/// If the database can't be read.
pub fn interrupted(reader: &Reader, step: StepId) -> Result<Option<Interrupted>> {
    let sql = "SELECT number, run, log FROM interrupted WHERE step = ?1";
    let row = reader.conn.prepare_cached(sql).or_db(WHAT)?.query_row([step], |row| {
        Ok(Interrupted { step, number: row.get(0)?, run: row.get(1)?, log: row.get(2)? })
    });
    row.optional().or_db(WHAT)
}

/// Boot and mount under which a run was begun, if it is known.
///
/// # Errors
/// If the database can't be read.
pub fn boot_of_run(reader: &Reader, run: RunId) -> Result<Option<String>> {
    let sql = "SELECT boot FROM run WHERE id = ?1";
    reader.conn.query_row(sql, [run], |row| row.get(0)).optional().or_db(WHAT)
}
