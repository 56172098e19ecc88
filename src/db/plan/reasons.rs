//! Why the steps of a plan have to run, counted per task. Reads the temporary tables that `plan` left on
//! this connection; only a dry run asks.

use rusqlite::{OptionalExtension, params};

use crate::error::{OrDb, Result};
use crate::ids::{RecipeId, TaskIndex};

use crate::db::Reader;
use crate::db::flow::{Flow, FlowTask};

const WHAT: &str = "look for reasons";

/// Why a step has to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Nothing of this name was worked on before.
    New,
    /// Another recipe than the step that it replaces.
    Recipe,
    /// Another object than the step that it replaces.
    Input,
    /// It failed.
    Failed,
    /// It was to run already: the run was stopped, or killed.
    Pending,
    /// It was done, but something that it made is not there any more.
    Gone,
    /// `-B`
    Forced,
    /// `cache = false`
    Uncached,
}

impl Why {
    /// One word, for programs.
    pub fn word(self) -> &'static str {
        match self {
            Why::New => "new",
            Why::Recipe => "recipe",
            Why::Input => "input",
            Why::Failed => "failed",
            Why::Pending => "pending",
            Why::Gone => "gone",
            Why::Forced => "forced",
            Why::Uncached => "uncached",
        }
    }
}

/// The steps of a task that have to run, by reason; none twice.
///
/// # Errors
/// If the database can't be read.
pub fn reasons(reader: &Reader, task: &FlowTask) -> Result<Vec<(Why, u64)>> {
    let mut reasons: Vec<(Why, u64)> = Vec::new();
    for (why, count) in of_fresh(reader, task)?.into_iter().chain(of_known(reader, task)?) {
        if count == 0 {
            continue;
        }
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, sum)) => *sum += count,
            None => reasons.push((why, count)),
        }
    }
    reasons.sort_unstable();
    Ok(reasons)
}

/// A step that is born replaces the one of its name that stops being live.
fn of_fresh(reader: &Reader, task: &FlowTask) -> Result<Vec<(Why, u64)>> {
    // An index, because there may be as many of the one as of the other.
    reader
        .conn
        .execute_batch(
            "DROP TABLE IF EXISTS temp.leaving;
         CREATE TEMP TABLE leaving(name ANY PRIMARY KEY, is_same INTEGER) STRICT, WITHOUT ROWID;",
        )
        .or_db(WHAT)?;
    reader.conn.prepare_cached(
        "INSERT OR IGNORE INTO leaving SELECT s.name, s.recipe = ?2 FROM change c JOIN step s ON s.id = c.step
         WHERE c.task = ?1 AND c.live = 0 AND s.live = 1 ORDER BY 2 DESC",
    )
    .and_then(|mut s| s.execute(params![task.id, task.recipe]))
    .or_db(WHAT)?;
    reader
        .conn
        .prepare_cached(
            "SELECT count(*) FILTER (WHERE l.name IS NULL), count(*) FILTER (WHERE l.is_same = 0),
           count(*) FILTER (WHERE l.is_same = 1)
         FROM fresh f LEFT JOIN leaving l ON l.name = f.name WHERE f.task = ?1 AND f.held = 0",
        )
        .and_then(|mut s| {
            s.query_row([task.id], |row| {
                let count = |n| row.get::<_, i64>(n).map(i64::unsigned_abs);
                Ok(vec![(Why::New, count(0)?), (Why::Recipe, count(1)?), (Why::Input, count(2)?)])
            })
        })
        .or_db(WHAT)
}

fn of_known(reader: &Reader, task: &FlowTask) -> Result<Vec<(Why, u64)>> {
    let mut statement = reader.conn
        .prepare_cached(
            "SELECT s.state, EXISTS (SELECT 1 FROM attempt a WHERE a.step = s.id AND a.outcome = 'ok') AS ok,
               count(*)
             FROM (SELECT step FROM change WHERE task = ?1 AND live = 1 AND state <> 1
               UNION ALL SELECT id FROM step WHERE task = ?1 AND live = 1 AND state <> 1
                 AND NOT EXISTS (SELECT 1 FROM change c WHERE c.step = step.id)
               UNION ALL SELECT step FROM turn WHERE task = ?1 AND turn = 2) k
             JOIN step s ON s.id = k.step
             WHERE NOT EXISTS (SELECT 1 FROM turn t WHERE t.step = s.id AND t.turn < 2) GROUP BY 1, 2",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([task.id], |row| {
        let why = match (row.get::<_, i64>(0)?, row.get::<_, bool>(1)?) {
            (1, _) if task.forced => Why::Forced,
            (1, _) => Why::Uncached,
            (2, _) => Why::Failed,
            (_, true) => Why::Gone,
            (_, false) => Why::Pending,
        };
        Ok((why, row.get::<_, i64>(2)?.unsigned_abs()))
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// True if a gather task that has no step has something to gather, or runs over nothing too.
///
/// # Errors
/// If the database can't be read.
pub fn has_inputs(reader: &Reader, flow: &Flow, index: TaskIndex) -> Result<bool> {
    if flow.task(index).gather_empty {
        return Ok(true);
    }
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM step p JOIN output o ON o.step = p.id WHERE p.task IN ({})
         AND p.live = 1 AND p.state = 1 AND accepts({}, p.task, o.name))",
        flow.ids(&flow.task(index).from),
        index.0
    );
    reader.conn.query_row(&sql, [], |row| row.get(0)).or_db(WHAT)
}

/// The fields of a recipe, as JSON.
///
/// # Errors
/// If the database can't be read.
pub fn recipe_fields(reader: &Reader, recipe: RecipeId) -> Result<Option<String>> {
    reader
        .conn
        .prepare_cached("SELECT fields FROM recipe WHERE id = ?1")
        .and_then(|mut s| s.query_row([recipe], |row| row.get(0)).optional())
        .or_db(WHAT)
}
