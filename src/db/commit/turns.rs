//! Whose turn it is in this run, where the rows of `step` don't say it: steps that are done and run anew (`-B`,
//! `cache = false`), and what comes of them.
//!
//! A step that runs anew stays live and done, with the outputs it had, until a new result is committed: whatever ends
//! the run before, the database says what it said. So what is to run anew is noted in a temporary table, which goes with
//! the connection. It also holds back what lies downstream, which a new result may change: those steps wait until one
//! of their producers is through, and then go the way of a step that has just got its support. They aren't retired
//! meanwhile. If the new attempt fails, they go on waiting, and are at the end of the run as they were.

use std::collections::HashMap;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{OptionalExtension, ToSql, params};

use crate::error::{OrDb, Result};
use crate::ids::{StepId, TaskId};

use crate::db::{Reader, Writer};

const WHAT: &str = "look whose turn it is";

/// Made for each plan.
pub(in crate::db) const TABLE: &str = "
DROP TABLE IF EXISTS temp.turn;
CREATE TEMP TABLE turn(step INTEGER PRIMARY KEY, task INTEGER, turn INTEGER) STRICT;
CREATE INDEX temp.turn_task ON turn(task, turn);
";

/// What a run has in mind with a step. The digits stand in several statements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::db) enum Turn {
    /// 0: waits for a producer, and is then what its row says.
    Waits,
    /// 1: is done, waits for a producer, and then runs anew.
    WaitsAnew,
    /// 2: is done, and runs anew.
    Anew,
    /// 3: ran anew, whatever came of it.
    Over,
}

impl ToSql for Turn {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let digit: i64 = match self {
            Turn::Waits => 0,
            Turn::WaitsAnew => 1,
            Turn::Anew => 2,
            Turn::Over => 3,
        };
        Ok(digit.into())
    }
}

impl FromSql for Turn {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Turn> {
        match value.as_i64()? {
            0 => Ok(Turn::Waits),
            1 => Ok(Turn::WaitsAnew),
            2 => Ok(Turn::Anew),
            3 => Ok(Turn::Over),
            other => Err(FromSqlError::OutOfRange(other)),
        }
    }
}

/// The turn of a step; `None`: it is what its row says.
pub(in crate::db) fn of(reader: &Reader, step: StepId) -> Result<Option<Turn>> {
    reader
        .conn
        .prepare_cached("SELECT turn FROM temp.turn WHERE step = ?1")
        .and_then(|mut s| s.query_row([step], |row| row.get(0)).optional())
        .or_db(WHAT)
}

/// Moves a step on; `None`: it is what its row says.
pub(in crate::db) fn set(writer: &mut Writer, step: StepId, turn: Option<Turn>) -> Result<()> {
    let changed = match turn {
        Some(turn) => writer
            .conn
            .prepare_cached("UPDATE temp.turn SET turn = ?2 WHERE step = ?1")
            .and_then(|mut s| s.execute(params![step, turn])),
        None => writer
            .conn
            .prepare_cached("DELETE FROM temp.turn WHERE step = ?1")
            .and_then(|mut s| s.execute([step])),
    };
    changed.or_db(WHAT)?;
    Ok(())
}

/// Steps of a task whose turn differs from what their rows say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turns {
    /// Done, and run anew.
    pub anew: u64,
    /// Done, and wait for a producer to run anew themselves.
    pub waits_anew: u64,
    /// Done, and wait for a producer that may replace them: they keep the results they have.
    pub kept: u64,
    /// Pending, and wait for a producer.
    pub held: u64,
}

/// Those of every task that has any. Over those of this run's plan, less what was done since.
///
/// # Errors
/// If the database can't be read.
pub fn turns(reader: &Reader) -> Result<HashMap<TaskId, Turns>> {
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT t.task, count(*) FILTER (WHERE t.turn = 2),
               count(*) FILTER (WHERE t.turn = 1 AND s.state = 1),
               count(*) FILTER (WHERE t.turn = 0 AND s.state = 1),
               count(*) FILTER (WHERE t.turn < 2 AND s.state = 0)
             FROM temp.turn t JOIN step s ON s.id = t.step WHERE t.turn < 3 GROUP BY t.task",
        )
        .or_db(WHAT)?;
    let count = |row: &rusqlite::Row<'_>, n| row.get::<_, i64>(n).map(i64::unsigned_abs);
    let rows = statement.query_map([], |row| {
        Ok((
            row.get(0)?,
            Turns {
                anew: count(row, 1)?,
                waits_anew: count(row, 2)?,
                kept: count(row, 3)?,
                held: count(row, 4)?,
            },
        ))
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}
