//! Steps that were to run anew in the last run, failed, and keep the result that they had.

use rusqlite::{OptionalExtension, params};

use crate::error::{OrDb, Result};
use crate::ids::{RunId, StepId, TaskId};

use crate::db::Reader;

const WHAT: &str = "look for steps that failed anew";

/// Live steps that are done by an earlier attempt and whose last one, in the last run, failed (`-B`, `--redo`,
/// `cache = false`); by task and id. Costs as much as failed in that run; only where that was more than the failures of
/// steps that still count as failed, the steps of the task are looked at.
///
/// # Errors
/// If the database can't be read.
pub fn failed_anew(reader: &Reader) -> Result<Vec<(TaskId, StepId)>> {
    let newest = "SELECT id FROM run ORDER BY id DESC LIMIT 1";
    let run: Option<RunId> =
        reader.conn.query_row(newest, [], |row| row.get(0)).optional().or_db(WHAT)?;
    let Some(run) = run else { return Ok(Vec::new()) };
    let mut tasks = reader
        .conn
        .prepare_cached(
            "SELECT r.task FROM run_task r WHERE r.run = ?1 AND r.failed > (
               SELECT count(*) FROM step s INDEXED BY idx_step_todo
                 JOIN attempt a ON a.step = s.id AND a.run = ?1 AND a.outcome <> 'ok'
               WHERE s.task = r.task AND s.live = 1 AND s.state <> 1 AND s.state = 2)
             ORDER BY r.task",
        )
        .or_db(WHAT)?;
    let mut steps = reader
        .conn
        .prepare_cached(
            "SELECT s.task, s.id FROM step s INDEXED BY idx_step_task
             WHERE s.task = ?1 AND s.live = 1 AND s.state = 1 AND (
               SELECT a.run = ?2 AND a.outcome <> 'ok' FROM attempt a
               WHERE a.step = s.id ORDER BY a.number DESC LIMIT 1)
             ORDER BY s.id",
        )
        .or_db(WHAT)?;
    let tasks: Vec<TaskId> =
        tasks.query_map([run], |row| row.get(0)).and_then(|rows| rows.collect()).or_db(WHAT)?;
    let mut found = Vec::new();
    for task in tasks {
        let rows = steps.query_map(params![task, run], |row| Ok((row.get(0)?, row.get(1)?)));
        let rows: Vec<(TaskId, StepId)> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
        found.extend(rows);
    }
    Ok(found)
}
