//! Who made what, and who consumes it: the steps around a step, for `lineage`; and what is recorded of a step and
//! of its predecessors, for `explain`. Each question reads an index, and no more of it than is asked for.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, Row, params};

use crate::attempt::NamedObject;
use crate::error::{Error, OrDb, Result};
use crate::ids::{RecipeId, RunId, StepId, TaskId};
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::text::printable;

use crate::db::Reader;
use crate::db::commit::outputs_of;
use crate::db::read::queries::{STEP, StepRow, find_steps, split_word, step_row};
use crate::db::read::status::OUT_OF_DATE;
use crate::db::types::{Name, NameBytes};
use crate::db::upkeep::verify::ROWS_ON;

const WHAT: &str = "look up the lineage";
/// Steps that an error lists.
const STEPS_SHOWN: usize = 10;
const STEP_WHAT: &str = "look up a step";

/// Files that are named of one step.
const FILES: usize = 10;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the steps that made what this one works on.
    Up,
    /// To the steps that work on what this one made.
    Down,
}

impl Direction {
    /// A query for the neighbours of step ?1, those by `with` too, each once. Indexes cover it.
    fn ids(self) -> &'static str {
        match self {
            Direction::Up => {
                "SELECT from_step_id AS id FROM step_link WHERE to_step_id = ?1
                 UNION SELECT l.from_step_id FROM step t JOIN side_link l ON l.side = t.side WHERE t.id = ?1"
            }
            Direction::Down => {
                "SELECT to_step_id AS id FROM step_link WHERE from_step_id = ?1
                 UNION SELECT t.id FROM side_link l JOIN step t ON t.side = l.side WHERE l.from_step_id = ?1"
            }
        }
    }
}

/// At most `limit` steps next to a step, the live ones first, and how many there are in all.
///
/// # Errors
/// If the database can't be read.
pub fn neighbours(
    reader: &Reader,
    step: StepId,
    way: Direction,
    limit: usize,
) -> Result<(Vec<StepRow>, usize)> {
    // Twice the same question, instead of an order by `live`: as soon as there are enough, no more are looked at.
    let mut statement = reader
        .conn
        .prepare_cached(&format!(
            "{STEP} WHERE s.id IN ({}) AND +s.live = ?3 ORDER BY s.id LIMIT ?2",
            way.ids()
        ))
        .or_db(WHAT)?;
    let mut steps: Vec<StepRow> = Vec::new();
    for live in [true, false] {
        let most = i64::try_from(limit - steps.len()).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![step, most, live], step_row);
        let rows: Vec<StepRow> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
        steps.extend(rows);
    }
    let count = if steps.len() < limit { steps.len() } else { count(reader, step, way)? };
    Ok((steps, count))
}

fn count(reader: &Reader, step: StepId, way: Direction) -> Result<usize> {
    reader
        .conn
        .prepare_cached(&format!("SELECT count(*) FROM ({})", way.ids()))
        .and_then(|mut s| s.query_row([step], |row| row.get::<_, i64>(0)))
        .map(|count| usize::try_from(count).unwrap_or(usize::MAX))
        .or_db(WHAT)
}

/// At most `limit` outputs of a step, and how many there are in all.
///
/// # Errors
/// If the database can't be read.
pub fn first_outputs(
    reader: &Reader,
    step: StepId,
    limit: usize,
) -> Result<(Vec<NamedObject>, usize)> {
    if limit == usize::MAX {
        let all = outputs_of(reader, step)?;
        let count = all.len();
        return Ok((all, count));
    }
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT name, object, executable FROM output WHERE step = ?1 ORDER BY name LIMIT ?2",
        )
        .or_db(WHAT)?;
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement.query_map(params![step, most], |row| {
        Ok(NamedObject {
            name: row.get::<_, NameBytes>(0)?.0,
            object: row.get(1)?,
            executable: row.get(2)?,
        })
    });
    let outputs: Vec<NamedObject> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
    if outputs.len() < limit {
        let count = outputs.len();
        return Ok((outputs, count));
    }
    let count = reader
        .conn
        .prepare_cached("SELECT count(*) FROM output WHERE step = ?1")
        .and_then(|mut s| s.query_row([step], |row| row.get::<_, i64>(0)))
        .or_db(WHAT)?;
    Ok((outputs, usize::try_from(count).unwrap_or(usize::MAX)))
}

/// The steps that made an object, and those that work on it: live ones first, at most `limit` of each.
/// No index leads there: it would cost more bytes a step than are left, and looking through a million
/// rows takes a fifth of a second.
///
/// # Errors
/// If the database can't be read.
pub fn around_object(
    reader: &Reader,
    object: &ObjectHash,
    limit: usize,
) -> Result<(Vec<StepRow>, Vec<StepRow>)> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut made = reader
        .conn
        .prepare_cached(&format!(
            "{STEP} WHERE s.id IN (SELECT step FROM output WHERE object = ?1)
             ORDER BY s.live DESC, s.id LIMIT ?2"
        ))
        .or_db(WHAT)?;
    let makers = made.query_map(params![object, most], step_row).and_then(|rows| rows.collect());
    let makers: Vec<StepRow> = makers.or_db(WHAT)?;
    // What was made is consumed over links; only for an input file all steps are looked through.
    let condition = match makers.is_empty() {
        true => format!(
            "s.object = ?1 OR s.live = 1 AND (s.task, s.origin) IN ({ROWS_ON}) OR s.live = 1 AND s.task IN (
               SELECT t.id FROM task t JOIN input_file f ON f.task = t.id WHERE t.gather = 1 AND f.object = ?1)"
        ),
        false => {
            let ids: Vec<String> = makers.iter().map(|maker| maker.id.to_string()).collect();
            let ids = ids.join(",");
            format!(
                "s.object = ?1 AND s.id IN (SELECT to_step_id FROM step_link WHERE from_step_id IN ({ids}))
                 OR s.side IN (SELECT side FROM side_link WHERE from_step_id IN ({ids}))"
            )
        }
    };
    let mut used = reader
        .conn
        .prepare(&format!("{STEP} WHERE {condition} ORDER BY s.live DESC, s.id LIMIT ?2"))
        .or_db(WHAT)?;
    let users = used.query_map(params![object, most], step_row).and_then(|rows| rows.collect());
    Ok((makers, users.or_db(WHAT)?))
}

/// The one step that a word of the command line names, as [`find_steps`] understands it.
///
/// # Errors
/// [`Error::Usage`] if there is none, or if several live: with what tells them apart.
pub fn find_one_step(reader: &Reader, word: &[u8]) -> Result<StepRow> {
    let mut steps = find_steps(reader, word)?;
    let Some(last) = steps.pop() else { return Err(Error::Internal("no step".to_owned())) };
    if steps.is_empty() {
        return Ok(last);
    }
    steps.push(last);
    let mut text =
        format!("{} steps are called `{}`; name one by its number", steps.len(), printable(word));
    if steps.iter().any(|step| step.labels != steps[0].labels) {
        let StepRow { task, labels, .. } = &steps[0];
        let input = split_word(word)?.2.map(|name| format!("/{}", printable(name)));
        let input = input.unwrap_or_default();
        text.push_str(&format!(", or by its labels, as in {task}[{labels}]{input}"));
    }
    for step in steps.iter().take(STEPS_SHOWN) {
        text.push_str(&format!("\n  {}", step.text()));
        if let Some(file) = files_of(reader, step.id, &|_| None)?.first() {
            text.push_str(&format!(", from the file {}", printable(file)));
        } else if let Some(maker) = neighbours(reader, step.id, Direction::Up, 1)?.0.first() {
            text.push_str(&format!(", made by {}", maker.text()));
        }
    }
    if steps.len() > STEPS_SHOWN {
        text.push_str(&format!("\n  … and {} more", steps.len() - STEPS_SHOWN));
    }
    Err(Error::Usage(text))
}

/// A step as `explain` looks at it.
#[derive(Debug, Clone)]
pub struct StepFacts {
    pub id: StepId,
    pub task: TaskId,
    pub name: Vec<u8>,
    pub object: ObjectHash,
    pub recipe: RecipeId,
    pub live: bool,
    /// Its input has the executable bit.
    pub executable: bool,
    pub labels: Labels,
    /// The listing of what it sees by `with`.
    pub side: Option<ObjectHash>,
    /// Its task has a table now.
    pub is_row: bool,
}

const FACTS: &str =
    "SELECT s.id, s.task, s.name, s.object, s.recipe, s.live, s.executable, s.labels, s.side,
       (SELECT feeds FROM task WHERE id = s.task) FROM step s";

/// The table of a task, by what the database keeps of its wiring.
fn table_of(feeds: Option<String>) -> Option<String> {
    let feeds: serde_json::Value = serde_json::from_str(&feeds?).ok()?;
    feeds["table"].as_str().map(str::to_owned)
}

fn facts(row: &Row<'_>) -> rusqlite::Result<StepFacts> {
    Ok(StepFacts {
        id: row.get(0)?,
        task: row.get(1)?,
        name: row.get::<_, NameBytes>(2)?.0,
        object: row.get(3)?,
        recipe: row.get(4)?,
        live: row.get(5)?,
        executable: row.get(6)?,
        labels: row.get(7)?,
        side: row.get(8)?,
        is_row: table_of(row.get(9)?).is_some(),
    })
}

/// A step.
///
/// # Errors
/// If the database can't be read.
pub fn step_facts(reader: &Reader, step: StepId) -> Result<StepFacts> {
    reader.conn.query_row(&format!("{FACTS} WHERE s.id = ?1"), [step], facts).or_db(STEP_WHAT)
}

/// The step of this task on an input of this name that ran last before a moment: what `step` replaced.
/// Of a live one only history can be that; another live one of its name stands beside it. One with its labels comes
/// first. For the row of a table it is the one with most labels in common, and with one at least, whose row is not there
/// any more.
///
/// # Errors
/// If the database can't be read.
pub fn predecessor(reader: &Reader, step: &StepFacts, before_ms: i64) -> Result<Option<StepFacts>> {
    // Looking through history only is quick beside a million live steps: it has an index of its own.
    let among = if step.live { "INDEXED BY idx_step_retired" } else { "INDEXED BY idx_step_task" };
    let history = if step.live { "AND s.live = 0" } else { "" };
    let (fits, best) = match step.is_row {
        true => (
            "common_labels(s.labels, ?5) > 0
             AND (s.labels IS ?5 OR s.origin NOT IN (SELECT origin FROM step WHERE task = ?1 AND live = 1))",
            "common_labels(s.labels, ?5)",
        ),
        false => ("s.name = ?2", "s.labels IS ?5"),
    };
    reader
        .conn
        .prepare_cached(&format!(
        "{FACTS} {among} JOIN attempt a ON a.step = s.id WHERE s.task = ?1 AND {fits} AND s.id <> ?3
         {history} AND a.started_ms < ?4 ORDER BY {best} DESC, a.started_ms DESC, s.id DESC LIMIT 1"
    ))
        .and_then(|mut s| {
            s.query_row(
                params![step.task, Name(&step.name), step.id, before_ms, step.labels],
                facts,
            )
            .optional()
        })
        .or_db(STEP_WHAT)
}

/// A task as `explain` looks at it.
#[derive(Debug, Clone)]
pub struct TaskFacts {
    pub recipe: RecipeId,
    pub cache: bool,
    pub gather: bool,
    /// In the manifest of the last run.
    pub present: bool,
    /// What it gathers, or sees by `with`, may have changed since its steps were made.
    pub out_of_date: bool,
    /// The last other recipe that it had steps of.
    pub before: Option<RecipeId>,
    /// The run in which a step of the present recipe first ran.
    pub since: Option<RunId>,
    /// What the last run did of it: attempts that succeeded, and that did not.
    pub last: (u64, u64),
}

/// A task.
///
/// # Errors
/// If the database can't be read.
pub fn task_facts(reader: &Reader, task: TaskId) -> Result<TaskFacts> {
    let (recipe, cache, present, out_of_date, gather): (RecipeId, bool, bool, bool, bool) = reader
        .conn
        .query_row(
            &format!("SELECT recipe, cache, position IS NOT NULL, {OUT_OF_DATE}, gather FROM task t WHERE id = ?1"),
            [task],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)),
        )
        .or_db(STEP_WHAT)?;
    let before = reader.conn
        .query_row(
            // A step of another recipe than the present one doesn't live.
            "SELECT recipe FROM step INDEXED BY idx_step_retired WHERE task = ?1 AND live = 0 AND recipe <> ?2
             ORDER BY id DESC LIMIT 1",
            params![task, recipe],
            |row| row.get(0),
        )
        .optional()
        .or_db(STEP_WHAT)?;
    let since = reader.conn
        .query_row(
            "SELECT (SELECT min(run) FROM attempt WHERE step = s.id)
             FROM step s INDEXED BY idx_step_task WHERE s.task = ?1 AND s.recipe = ?2 ORDER BY s.id LIMIT 1",
            params![task, recipe],
            |row| row.get(0),
        )
        .optional()
        .or_db(STEP_WHAT)?
        .flatten();
    let last = reader
        .conn
        .query_row(
            "SELECT done, failed FROM run_task WHERE task = ?1 AND run = (SELECT max(id) FROM run)",
            [task],
            |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, i64>(1)?.unsigned_abs())),
        )
        .optional()
        .or_db(STEP_WHAT)?
        .unwrap_or_default();
    Ok(TaskFacts { recipe, cache, gather, present, out_of_date, before, since, last })
}

/// Paths of at most ten input files that a step works on, if they are as it found them when they were last hashed; for a
/// row of a table, the table and the files that the row names. Of several with the same content it is the one at its
/// origin, which history of the oldest databases doesn't have.
/// `listing` reads the object of a step that gathers files; without that all files of its task may be meant.
///
/// # Errors
/// If the database can't be read.
pub fn files_of(
    reader: &Reader,
    step: StepId,
    listing: &dyn Fn(&ObjectHash) -> Option<Vec<NamedObject>>,
) -> Result<Vec<Vec<u8>>> {
    let (object, gathers, table): (ObjectHash, bool, _) = reader
        .conn
        .query_row(
            "SELECT s.object, t.gather, t.feeds FROM step s JOIN task t ON t.id = s.task WHERE s.id = ?1",
            [step],
            |row| Ok((row.get(0)?, row.get(1)?, table_of(row.get(2)?))),
        )
        .or_db(STEP_WHAT)?;
    let listed = if gathers { listing(&object) } else { None };
    let id = |name: &[u8], object: &ObjectHash| ObjectHash::of(&[name, object.as_bytes()].concat());
    let listed: Option<HashSet<ObjectHash>> =
        listed.map(|items| items.iter().map(|item| id(&item.name, &item.object)).collect());
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT f.path, f.name, f.object FROM step s JOIN input_file f ON f.task = s.task
             WHERE s.id = ?1 AND f.path <> ''
             AND (?2 OR f.object = s.object AND (s.origin = 0 OR s.origin = file_origin(f.path)))
             UNION ALL SELECT f.path, f.name, f.object FROM step s
             JOIN input_file r ON r.task = s.task AND row_origin(r.path) = s.origin AND r.object = s.object
             JOIN input_file f ON f.task = -s.task AND names_file(r.name, f.path) WHERE s.id = ?1",
        )
        .or_db(STEP_WHAT)?;
    let mut rows = statement.query(params![step, gathers]).or_db(STEP_WHAT)?;
    let mut files: Vec<Vec<u8>> = table.map(String::into_bytes).into_iter().collect();
    while files.len() < FILES
        && let Some(row) = rows.next().or_db(STEP_WHAT)?
    {
        let name: NameBytes = row.get(1).or_db(STEP_WHAT)?;
        let item = id(&name.0, &row.get(2).or_db(STEP_WHAT)?);
        if listed.as_ref().is_none_or(|listed| listed.contains(&item)) {
            files.push(row.get::<_, NameBytes>(0).or_db(STEP_WHAT)?.0);
        }
    }
    Ok(files)
}

/// A run as `explain` looks at it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunFacts {
    pub id: RunId,
    /// It was to make everything anew.
    pub is_forced: bool,
    /// And has not, or not yet.
    pub lacks_anew: bool,
}

/// The last run.
///
/// # Errors
/// If the database can't be read.
pub fn last_run(reader: &Reader) -> Result<Option<RunFacts>> {
    // One that was narrowed by --only and did all that was asked is `partial`.
    let sql =
        "SELECT id, always, always AND (result IS NULL OR result IN ('failed', 'stopped')) FROM run
         ORDER BY id DESC LIMIT 1";
    reader
        .conn
        .query_row(sql, [], |row| {
            Ok(RunFacts { id: row.get(0)?, is_forced: row.get(1)?, lacks_anew: row.get(2)? })
        })
        .optional()
        .or_db(STEP_WHAT)
}
