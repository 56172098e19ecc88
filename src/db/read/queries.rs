//! Questions that readers ask: `log`, `cat`, `export`. Each is one short read.

use rusqlite::{OptionalExtension, Row, params};

use crate::attempt::{NamedObject, StepState};
use crate::error::{Error, OrDb, Result};
use crate::ids::{StepId, TaskId};
use crate::object::ObjectHash;

use crate::db::Reader;
use crate::db::types::{Name, NameBytes};

const WHAT: &str = "read the database";

/// A task by its name.
///
/// # Errors
/// [`Error::Usage`] with the names there are, if there is none of this name.
pub fn find_task(reader: &Reader, name: &str) -> Result<TaskId> {
    let found = reader
        .conn
        .query_row("SELECT id FROM task WHERE name = ?1", [name], |row| row.get(0))
        .optional()
        .or_db(WHAT)?;
    if let Some(id) = found {
        return Ok(id);
    }
    let mut statement = reader
        .conn
        .prepare("SELECT name FROM task WHERE position IS NOT NULL ORDER BY position LIMIT 20")
        .or_db(WHAT)?;
    let names: Vec<String> =
        statement.query_map([], |row| row.get(0)).and_then(|rows| rows.collect()).or_db(WHAT)?;
    Err(Error::Usage(format!("no task is called `{name}`; there are: {}", names.join(", "))))
}

/// A step with its task.
#[derive(Debug, Clone)]
pub struct StepRow {
    pub id: StepId,
    pub task: String,
    pub name: Vec<u8>,
    pub object: ObjectHash,
    pub live: bool,
    pub state: StepState,
}

pub(in crate::db) const STEP: &str = "SELECT s.id, t.name, s.name, s.object, s.live, s.state
                    FROM step s JOIN task t ON t.id = s.task";

pub(in crate::db) fn step_row(row: &Row<'_>) -> rusqlite::Result<StepRow> {
    Ok(StepRow {
        id: row.get(0)?,
        task: row.get(1)?,
        name: row.get::<_, NameBytes>(2)?.0,
        object: row.get(3)?,
        live: row.get(4)?,
        state: row.get(5)?,
    })
}

/// The steps that a word of the command line names: an id, `TASK` (all its live steps) or
/// `TASK/INPUT_NAME` (the live ones first, then history, newest first).
///
/// # Errors
/// [`Error::Usage`] if there is none.
pub fn find_steps(reader: &Reader, word: &[u8]) -> Result<Vec<StepRow>> {
    let text = String::from_utf8_lossy(word);
    if let Ok(id) = text.parse::<i64>() {
        let found = reader
            .conn
            .query_row(&format!("{STEP} WHERE s.id = ?1"), [id], step_row)
            .optional()
            .or_db(WHAT)?;
        return found.map(|step| vec![step]).ok_or_else(|| {
            Error::Usage(format!("there is no step {id}; `task-pipeline status` lists the tasks"))
        });
    }
    let (task, name) = match word.iter().position(|&byte| byte == b'/') {
        Some(slash) => (&word[..slash], Some(&word[slash + 1..])),
        None => (word, None),
    };
    let task = find_task(reader, &String::from_utf8_lossy(task))?;
    let steps = match name {
        None => steps_where(reader, "s.task = ?1 AND s.live = 1 ORDER BY s.id", params![task]),
        Some(name) => steps_where(
            reader,
            "s.task = ?1 AND s.name = ?2 ORDER BY s.live DESC, s.id DESC",
            params![task, Name(name)],
        ),
    }?;
    if steps.is_empty() {
        return Err(Error::Usage(format!("`{}` has no steps", crate::text::printable(word))));
    }
    Ok(steps)
}

/// Live steps that failed.
///
/// # Errors
/// If the database can't be read.
pub fn failed_steps(reader: &Reader) -> Result<Vec<StepRow>> {
    steps_where(reader, "s.live = 1 AND s.state <> 1 AND s.state = 2 ORDER BY s.task, s.id", [])
}

fn steps_where(
    reader: &Reader,
    condition: &str,
    params: impl rusqlite::Params,
) -> Result<Vec<StepRow>> {
    let mut statement = reader.conn.prepare(&format!("{STEP} WHERE {condition}")).or_db(WHAT)?;
    let rows = statement.query_map(params, step_row);
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// Calls `see` with every live output of a task, by (name, hash).
///
/// # Errors
/// If the database can't be read.
pub fn each_live_output(
    reader: &Reader,
    task: TaskId,
    see: &mut dyn FnMut(NamedObject) -> Result<()>,
) -> Result<()> {
    let mut statement = reader
        .conn
        .prepare(
            "SELECT o.name, o.object, o.executable FROM step s JOIN output o ON o.step = s.id
             WHERE s.task = ?1 AND s.live = 1 AND s.state = 1 ORDER BY o.name, o.object",
        )
        .or_db(WHAT)?;
    let mut rows = statement.query([task]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        see(NamedObject {
            name: row.get::<_, NameBytes>(0).or_db(WHAT)?.0,
            object: row.get(1).or_db(WHAT)?,
            executable: row.get(2).or_db(WHAT)?,
        })?;
    }
    Ok(())
}

/// Objects whose hash begins with these hex digits, two at most.
///
/// # Errors
/// If the database can't be read.
pub fn objects_by_prefix(reader: &Reader, hex: &str) -> Result<Vec<ObjectHash>> {
    let (Ok(low), Ok(high)) =
        (ObjectHash::parse(&format!("{hex:0<64}")), ObjectHash::parse(&format!("{hex:f<64}")))
    else {
        return Ok(Vec::new());
    };
    let mut statement = reader
        .conn
        .prepare("SELECT hash FROM object WHERE hash BETWEEN ?1 AND ?2 LIMIT 2")
        .or_db(WHAT)?;
    let rows = statement.query_map([low, high], |row| row.get(0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// True if every live step of the present manifest is done and every gather task has its step.
///
/// # Errors
/// If the database can't be read.
pub fn is_complete(reader: &Reader) -> Result<bool> {
    reader
        .conn
        .query_row(
            "SELECT NOT EXISTS (SELECT 1 FROM step WHERE live = 1 AND state <> 1)
         AND NOT EXISTS (SELECT 1 FROM run WHERE id = (SELECT max(id) FROM run)
                         AND (result IS NULL OR result <> 'complete'))",
            [],
            |row| row.get(0),
        )
        .or_db(WHAT)
}
