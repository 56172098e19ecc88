//! Questions that readers ask: `log`, `cat`, `export`. Each is one short read.

use std::collections::{HashMap, HashSet};

use rusqlite::{OptionalExtension, Row, params};
use serde::Deserialize;

use crate::attempt::{NamedObject, StepState};
use crate::error::{Error, OrDb, Result};
use crate::hint;
use crate::ids::{StepId, TaskId};
use crate::labels::{Labels, step_text, task_word};
use crate::object::ObjectHash;
use crate::text::{printable, unescaped};

use crate::db::Reader;
use crate::db::commit::runs::unsettled;
use crate::db::read::status::wiring;
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
    let name = printable(name.as_bytes());
    Err(Error::Usage(format!("no task is called `{name}`; there are: {}", names.join(", "))))
}

/// The name of a task, if the present manifest has it.
///
/// # Errors
/// If the database can't be read.
pub fn present_name(reader: &Reader, task: TaskId) -> Result<Option<String>> {
    reader
        .conn
        .query_row("SELECT name FROM task WHERE id = ?1 AND position IS NOT NULL", [task], |row| {
            row.get(0)
        })
        .optional()
        .or_db(WHAT)
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
    pub labels: Labels,
    /// The step that did the same work, whose results it has.
    pub same_as: Option<StepId>,
}

impl StepRow {
    /// As users are told of it.
    pub fn text(&self) -> String {
        step_text(self.id.0, &self.task, &self.name, &self.labels)
    }
}

pub(in crate::db) const STEP: &str =
    "SELECT s.id, t.name, s.name, s.object, s.live, s.state, s.labels, s.same_as
                    FROM step s JOIN task t ON t.id = s.task";

pub(in crate::db) fn step_row(row: &Row<'_>) -> rusqlite::Result<StepRow> {
    Ok(StepRow {
        id: row.get(0)?,
        task: row.get(1)?,
        name: row.get::<_, NameBytes>(2)?.0,
        object: row.get(3)?,
        live: row.get(4)?,
        state: row.get(5)?,
        labels: row.get(6)?,
        same_as: row.get(7)?,
    })
}

/// What a word of the command line names, in the words of [`meaning`].
#[derive(Debug)]
pub enum Meant {
    /// The step of this id.
    Step(Box<StepRow>),
    /// A task, with its name.
    Task(TaskId, String),
    /// Steps of a task: those with these labels, and maybe others, and with an input of this name if there is one.
    Steps(TaskId, Labels, Option<Vec<u8>>),
}

/// Makes the id of a step, or the name of a task, unmistakable. No name of a task has a colon.
const STEP_PREFIX: &str = "step:";
const TASK_PREFIX: &str = "task:";

/// What a word of the command line names: the id of a step, or `TASK`, `TASK/INPUT_NAME`, `TASK[sample=A,lr=0.1]`,
/// `TASK[sample=A]/INPUT_NAME`. A task may be called like an id; then the word alone means neither, and `step:ID` and
/// `task:TASK` tell them apart.
///
/// # Errors
/// [`Error::Usage`] if there is no such step or task, or if the word has two meanings.
pub fn meaning(reader: &Reader, word: &[u8]) -> Result<Meant> {
    if let Some(id) = word.strip_prefix(STEP_PREFIX.as_bytes()) {
        let id = std::str::from_utf8(id).ok().and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| {
            Error::Usage(format!("`{}` is no id of a step, which is a number", printable(word)))
        })?;
        return find_step(reader, StepId(id)).map(|step| Meant::Step(Box::new(step)));
    }
    let is_task = word.starts_with(TASK_PREFIX.as_bytes());
    let word = word.strip_prefix(TASK_PREFIX.as_bytes()).unwrap_or(word);
    let text = String::from_utf8_lossy(word);
    if !is_task && let Ok(id) = text.parse::<i64>() {
        let step = step_of_id(reader, StepId(id))?;
        match (is_present(reader, &text)?, step) {
            (false, Some(step)) => return Ok(Meant::Step(Box::new(step))),
            (false, None) => return Err(no_step(StepId(id))),
            (true, None) => {}
            (true, Some(step)) => {
                let name = step.text();
                return Err(Error::Usage(format!(
                    "`{text}` is a task and the id of a step ({name}): write {TASK_PREFIX}{text} or {STEP_PREFIX}{id}"
                )));
            }
        }
    }
    let (name, labels, input) = split_word(word)?;
    let task = find_task(reader, &name)?;
    let input = input.map(|input| input_name(reader, task, input)).transpose()?;
    Ok(match input.is_none() && labels.is_empty() {
        true => Meant::Task(task, name),
        false => Meant::Steps(task, labels, input),
    })
}

/// `TASK[sample=A]/NAME` in its parts, of which only the task has to be there. The labels end with the first bracket
/// that has nothing or a name behind it.
///
/// # Errors
/// [`Error::Usage`] if there are brackets with no labels in them.
pub fn split_word(word: &[u8]) -> Result<(String, Labels, Option<&[u8]>)> {
    let is_end = |n: &usize| match word[*n] {
        b'/' => !word[..*n].contains(&b'['),
        b']' => word[..*n].contains(&b'[') && word.get(n + 1).is_none_or(|&next| next == b'/'),
        _ => false,
    };
    let end = (0..word.len()).find(is_end).unwrap_or(word.len());
    let end = end + usize::from(word.get(end) == Some(&b']'));
    let (task, name) = (&word[..end], word.get(end + 1..));
    let task = String::from_utf8_lossy(task);
    let (task, labels) = task_word(&task).map_err(Error::Usage)?;
    Ok((task.to_owned(), labels, name))
}

/// The name of an input that a word stands for: the word itself, or if no step of the task has that name, what is
/// printed so.
fn input_name(reader: &Reader, task: TaskId, word: &[u8]) -> Result<Vec<u8>> {
    let Some(printed) = unescaped(word).filter(|name| name != word) else {
        return Ok(word.to_owned());
    };
    let newest = |name: &[u8]| -> Result<Option<StepId>> {
        let sql =
            "SELECT id FROM step WHERE task = ?1 AND name = ?2 ORDER BY live DESC, id DESC LIMIT 1";
        let found = reader.conn.query_row(sql, params![task, Name(name)], |row| row.get(0));
        found.optional().or_db(WHAT)
    };
    match (newest(word)?, newest(&printed)?) {
        (Some(literal), Some(as_printed)) => Err(Error::Usage(format!(
            "two inputs may be meant: the name of one is printed as `{}`, that of the other as `{}`; name the step by \
             its id: {literal} for the first, {as_printed} for the second",
            printable(word),
            printable(&printed)
        ))),
        (Some(_), None) => Ok(word.to_owned()),
        (None, _) => Ok(printed),
    }
}

/// The steps that a word of the command line names: one by its id, or all live ones of `TASK[labels]/INPUT_NAME`. If
/// labels or a name were given and none lives, it is the last one of history.
///
/// # Errors
/// Those of [`meaning`], and [`Error::Usage`] if there is no such step.
pub fn find_steps(reader: &Reader, word: &[u8]) -> Result<Vec<StepRow>> {
    let (task, labels, input) = match meaning(reader, word)? {
        Meant::Step(step) => return Ok(vec![*step]),
        Meant::Task(task, _) => (task, Labels::default(), None),
        Meant::Steps(task, labels, input) => (task, labels, input),
    };
    let live = if labels.is_empty() && input.is_none() { "AND s.live = 1" } else { "" };
    let mut steps = match &input {
        Some(name) => steps_where(
            reader,
            "s.task = ?1 AND s.name = ?2 ORDER BY s.id",
            params![task, Name(name)],
        ),
        None => steps_where(reader, &format!("s.task = ?1 {live} ORDER BY s.id"), [task]),
    }?;
    steps.retain(|step| step.labels.has(&labels));
    let last = steps.pop_if(|step| !step.live);
    steps.retain(|step| step.live);
    steps.extend(last.filter(|_| steps.is_empty()));
    if steps.is_empty() {
        return Err(Error::Usage(format!("`{}` has no steps", printable(word))));
    }
    Ok(steps)
}

/// A step by its id.
///
/// # Errors
/// [`Error::Usage`] if there is none.
pub fn find_step(reader: &Reader, id: StepId) -> Result<StepRow> {
    step_of_id(reader, id)?.ok_or_else(|| no_step(id))
}

fn step_of_id(reader: &Reader, id: StepId) -> Result<Option<StepRow>> {
    reader.conn.query_row(&format!("{STEP} WHERE s.id = ?1"), [id], step_row).optional().or_db(WHAT)
}

fn no_step(id: StepId) -> Error {
    let status = hint::command("status");
    Error::Usage(format!("there is no step {id}; `{status}` lists the tasks"))
}

/// An object whose hash begins with this word of the command line. `None` if the word is no such beginning, or if there
/// is no such object.
///
/// # Errors
/// [`Error::Usage`] if there are several, or if the word names a task or a step as well.
pub fn find_object(reader: &Reader, word: &[u8]) -> Result<Option<ObjectHash>> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let Ok(text) = std::str::from_utf8(word) else { return Ok(None) };
    if !(SHORTEST_HASH..=64).contains(&word.len()) || !word.iter().all(is_digit) {
        return Ok(None);
    }
    let object = match objects_by_prefix(reader, text)?.as_slice() {
        [] => return Ok(None),
        [object] => *object,
        _ => {
            return Err(Error::Usage(format!(
                "several objects begin with `{text}`; write more digits of the one that is meant"
            )));
        }
    };
    let other = if is_present(reader, text)? {
        Some(("a task", TASK_PREFIX))
    } else {
        let step = text.parse().ok().map(|id| step_of_id(reader, StepId(id))).transpose()?;
        step.flatten().map(|_| ("the id of a step", STEP_PREFIX))
    };
    match other {
        Some((what, prefix)) => Err(Error::Usage(format!(
            "`{text}` is {what} and the beginning of an object's hash ({object}): write {prefix}{text} or more digits"
        ))),
        None => Ok(Some(object)),
    }
}

/// A shorter word is never taken for the beginning of a hash.
const SHORTEST_HASH: usize = 6;

/// Whether the present manifest has a task of this name.
fn is_present(reader: &Reader, name: &str) -> Result<bool> {
    reader
        .conn
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM task WHERE name = ?1 AND position IS NOT NULL)",
            [name],
            |row| row.get(0),
        )
        .or_db(WHAT)
}

/// Live steps that failed.
///
/// # Errors
/// If the database can't be read.
pub fn failed_steps(reader: &Reader) -> Result<Vec<StepRow>> {
    // What was done and failed when it was to run anew is done as before.
    steps_where(
        reader,
        "s.id IN (SELECT id FROM step WHERE live = 1 AND state <> 1 AND state = 2
           UNION ALL SELECT a.step FROM attempt a WHERE a.outcome <> 'ok' AND NOT EXISTS (
             SELECT 1 FROM attempt n WHERE n.step = a.step AND n.number > a.number))
         AND s.live = 1 AND s.state <> 0 ORDER BY s.task, s.id",
        [],
    )
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

/// Calls `see` with every live output of those steps of a task that have these labels, by (name, hash).
///
/// # Errors
/// If the database can't be read.
pub fn each_live_output(
    reader: &Reader,
    task: TaskId,
    labels: &Labels,
    see: &mut dyn FnMut(NamedObject, &Labels) -> Result<()>,
) -> Result<()> {
    let mut statement = reader
        .conn
        .prepare(
            "SELECT o.name, o.object, o.executable, s.labels FROM step s JOIN output o ON o.step = s.id
             WHERE s.task = ?1 AND s.live = 1 AND s.state = 1
             ORDER BY o.name, output_origin(s.task, s.origin, o.name), o.object",
        )
        .or_db(WHAT)?;
    let mut rows = statement.query([task]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        let its: Labels = row.get(3).or_db(WHAT)?;
        if !its.has(labels) {
            continue;
        }
        let output = NamedObject {
            name: row.get::<_, NameBytes>(0).or_db(WHAT)?.0,
            object: row.get(1).or_db(WHAT)?,
            executable: row.get(2).or_db(WHAT)?,
        };
        see(output, &its)?;
    }
    Ok(())
}

/// Calls `see` with the name of the input of each live step of a task, until it returns false. One may come twice.
///
/// # Errors
/// If the database can't be read.
pub fn each_live_input(
    reader: &Reader,
    task: TaskId,
    see: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<()> {
    each_name(reader, "SELECT name FROM step WHERE task = ?1 AND live = 1", task, see)
}

/// The same with the name of each of its live outputs.
///
/// # Errors
/// If the database can't be read.
pub fn each_live_output_name(
    reader: &Reader,
    task: TaskId,
    see: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<()> {
    let sql = "SELECT o.name FROM step s JOIN output o ON o.step = s.id
               WHERE s.task = ?1 AND s.live = 1 AND s.state = 1";
    each_name(reader, sql, task, see)
}

fn each_name(
    reader: &Reader,
    sql: &str,
    task: TaskId,
    see: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<()> {
    let mut statement = reader.conn.prepare(sql).or_db(WHAT)?;
    let mut rows = statement.query([task]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        if !see(&row.get::<_, NameBytes>(0).or_db(WHAT)?.0) {
            break;
        }
    }
    Ok(())
}

/// All objects that a task ever had as outputs, as far as the history goes back.
///
/// # Errors
/// If the database can't be read.
pub fn objects_made_by(reader: &Reader, task: TaskId) -> Result<HashSet<ObjectHash>> {
    let mut statement = reader
        .conn
        .prepare("SELECT o.object FROM step s JOIN output o ON o.step = s.id WHERE s.task = ?1")
        .or_db(WHAT)?;
    let rows = statement.query_map([task], |row| row.get(0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// Objects whose hash begins with these hex digits, two at most.
///
/// # Errors
/// If the database can't be read.
fn objects_by_prefix(reader: &Reader, hex: &str) -> Result<Vec<ObjectHash>> {
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

/// True if every live step of the present manifest is done and every gather task has its step: as the last run left it,
/// or as it found it, if it was to make anew what was complete and has changed nothing.
///
/// # Errors
/// If the database can't be read.
pub fn is_complete(reader: &Reader) -> Result<bool> {
    reader
        .conn
        .query_row(
            "SELECT NOT EXISTS (SELECT 1 FROM step WHERE live = 1 AND state <> 1)
         AND (EXISTS (SELECT 1 FROM meta WHERE key = 'settled')
           OR NOT EXISTS (SELECT 1 FROM run WHERE id = (SELECT max(id) FROM run)
                          AND (result IS NULL OR result <> 'complete')))",
            [],
            |row| row.get(0),
        )
        .or_db(WHAT)
}

/// The same for the results of one task: of it and of every task upstream, however far, whatever became of others.
///
/// # Errors
/// If the database can't be read.
pub fn is_task_complete(reader: &Reader, name: &str) -> Result<bool> {
    if is_complete(reader)? {
        return Ok(true);
    }
    let Some(unsettled) = unsettled(reader)? else { return Ok(false) };
    let fed_by: HashMap<String, Option<FedBy>> = wiring(reader)?
        .into_iter()
        .map(|task| (task.name, task.feeds.and_then(|feeds| serde_json::from_str(&feeds).ok())))
        .collect();
    let mut to_run = reader
        .conn
        .prepare(
            "SELECT EXISTS (SELECT 1 FROM step s JOIN task t ON t.id = s.task
                            WHERE t.name = ?1 AND s.live = 1 AND s.state <> 1)",
        )
        .or_db(WHAT)?;
    let (mut open, mut seen) = (vec![name], HashSet::new());
    while let Some(task) = open.pop() {
        if !seen.insert(task) {
            continue;
        }
        // A task that is in no manifest any more has no results that could be incomplete, nor is it known what fed it.
        let Some(Some(fed_by)) = fed_by.get(task) else { return Ok(false) };
        let has_to_run: bool = to_run.query_row([task], |row| row.get(0)).or_db(WHAT)?;
        if has_to_run || unsettled.iter().any(|unsettled| unsettled == task) {
            return Ok(false);
        }
        open.extend(fed_by.from.iter().chain(&fed_by.with).map(String::as_str));
    }
    Ok(true)
}

/// The tasks that feed a task, as the database keeps them with its wiring.
#[derive(Deserialize)]
struct FedBy {
    from: Vec<String>,
    #[serde(default)]
    with: Vec<String>,
}
