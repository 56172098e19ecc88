//! What is recorded of a step, and of the time before it: what `explain` compares.

use rusqlite::{OptionalExtension, Row, params};

use crate::error::{OrDb, Result};
use crate::ids::{RecipeId, RunId, StepId, TaskId};
use crate::object::ObjectHash;

use super::Reader;
use super::value::{Name, NameBytes};

const WHAT: &str = "look up a step";

/// A step as `explain` looks at it.
#[derive(Debug, Clone)]
pub struct StepFacts {
    pub id: StepId,
    pub task: TaskId,
    pub name: Vec<u8>,
    pub object: ObjectHash,
    pub recipe: RecipeId,
    pub live: bool,
}

const FACTS: &str = "SELECT s.id, s.task, s.name, s.object, s.recipe, s.live FROM step s";

fn facts(row: &Row<'_>) -> rusqlite::Result<StepFacts> {
    Ok(StepFacts {
        id: row.get(0)?,
        task: row.get(1)?,
        name: row.get::<_, NameBytes>(2)?.0,
        object: row.get(3)?,
        recipe: row.get(4)?,
        live: row.get(5)?,
    })
}

/// A step.
pub fn step_facts(reader: &Reader, step: StepId) -> Result<StepFacts> {
    reader.conn.query_row(&format!("{FACTS} WHERE s.id = ?1"), [step], facts).or_db(WHAT)
}

/// The step of this task on an input of this name that ran last before a moment: what `step` replaced.
/// Of a live one only history can be that; another live one of its name stands beside it.
pub fn predecessor(reader: &Reader, step: &StepFacts, before_ms: i64) -> Result<Option<StepFacts>> {
    // Looking through history only is quick beside a million live steps: it has an index of its own.
    let among = if step.live { "INDEXED BY idx_step_retired" } else { "INDEXED BY idx_step_task" };
    let history = if step.live { "AND s.live = 0" } else { "" };
    reader.conn.prepare_cached(&format!(
        "{FACTS} {among} JOIN attempt a ON a.step = s.id WHERE s.task = ?1 AND s.name = ?2 AND s.id <> ?3
         {history} AND a.started_ms < ?4 ORDER BY a.started_ms DESC, s.id DESC LIMIT 1"
    ))
    .and_then(|mut s| {
        s.query_row(params![step.task, Name(&step.name), step.id, before_ms], facts).optional()
    })
    .or_db(WHAT)
}

/// A task as `explain` looks at it.
#[derive(Debug, Clone)]
pub struct TaskFacts {
    pub recipe: RecipeId,
    pub cache: bool,
    /// In the manifest of the last run.
    pub present: bool,
    /// The last other recipe that it had steps of.
    pub before: Option<RecipeId>,
    /// The run in which a step of the present recipe first ran.
    pub since: Option<RunId>,
    /// What the last run did of it: attempts that succeeded, and that did not.
    pub last: (u64, u64),
}

/// A task.
pub fn task_facts(reader: &Reader, task: TaskId) -> Result<TaskFacts> {
    let (recipe, cache, present): (RecipeId, bool, bool) = reader
        .conn
        .query_row(
            "SELECT recipe, cache, position IS NOT NULL FROM task WHERE id = ?1",
            [task],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .or_db(WHAT)?;
    let before = reader.conn
        .query_row(
            // A step of another recipe than the present one doesn't live.
            "SELECT recipe FROM step INDEXED BY idx_step_retired WHERE task = ?1 AND live = 0 AND recipe <> ?2
             ORDER BY id DESC LIMIT 1",
            params![task, recipe],
            |row| row.get(0),
        )
        .optional()
        .or_db(WHAT)?;
    let since = reader.conn
        .query_row(
            "SELECT (SELECT min(run) FROM attempt WHERE step = s.id)
             FROM step s INDEXED BY idx_step_task WHERE s.task = ?1 AND s.recipe = ?2 ORDER BY s.id LIMIT 1",
            params![task, recipe],
            |row| row.get(0),
        )
        .optional()
        .or_db(WHAT)?
        .flatten();
    let last = reader
        .conn
        .query_row(
            "SELECT done, failed FROM run_task WHERE task = ?1 AND run = (SELECT max(id) FROM run)",
            [task],
            |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs())),
        )
        .optional()
        .or_db(WHAT)?
        .unwrap_or_default();
    Ok(TaskFacts { recipe, cache, present, before, since, last })
}

/// Paths of the input files of a task that held an object when they were last hashed.
pub fn files_of(reader: &Reader, task: TaskId, object: &ObjectHash) -> Result<Vec<Vec<u8>>> {
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT path FROM input_file WHERE task = ?1 AND object = ?2 AND path <> '' LIMIT 10",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map(params![task, object], |row| Ok(row.get::<_, NameBytes>(0)?.0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// The last run.
pub fn last_run(reader: &Reader) -> Result<Option<RunId>> {
    reader.conn.query_row("SELECT max(id) FROM run", [], |row| row.get(0)).or_db(WHAT)
}
