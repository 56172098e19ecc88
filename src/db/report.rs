//! What a report needs, as of one moment. Whatever grows with the number of steps is counted by SQLite or
//! handed over row by row.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::attempt::StepState;
use crate::error::{Error, OrDb, Result};
use crate::ids::{RunId, StepId, TaskId};
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::order;

use crate::db::read::failed_anew::failed_anew;
use crate::db::read::status::{Declared, StepCounts, feeding, step_counts};
use crate::db::read::waits::waits;
use crate::db::schema;
use crate::db::types::NameBytes;
use crate::db::{Reader, Writer};

const WHAT: &str = "read the database";

/// The versions of SQLite and of the tables.
pub fn versions() -> (&'static str, i32) {
    (rusqlite::version(), schema::VERSION)
}

/// A run as it was begun, and how it ended.
#[derive(Debug, Clone)]
pub struct ReportRun {
    pub id: RunId,
    pub started_ms: i64,
    pub ended_ms: Option<i64>,
    pub result: Option<String>,
    pub pid: i64,
    pub durability: String,
    pub manifest: Vec<u8>,
    pub dir: Vec<u8>,
}

/// The newest runs, newest first.
///
/// # Errors
/// If the database can't be read.
pub fn report_runs(reader: &Reader, limit: i64) -> Result<Vec<ReportRun>> {
    let mut statement = reader
        .conn
        .prepare(
            "SELECT id, started_ms, ended_ms, result, pid, durability, manifest, dir
             FROM run ORDER BY id DESC LIMIT ?1",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([limit], |row| {
        Ok(ReportRun {
            id: row.get(0)?,
            started_ms: row.get(1)?,
            ended_ms: row.get(2)?,
            result: row.get(3)?,
            pid: row.get(4)?,
            durability: row.get(5)?,
            manifest: row.get::<_, NameBytes>(6)?.0,
            dir: row.get::<_, NameBytes>(7)?.0,
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// A task of the last manifest, and how far its steps are.
#[derive(Debug, Clone)]
pub struct ReportTask {
    pub id: TaskId,
    pub name: String,
    /// What runs its script, as one would type it in a shell; and the script.
    pub interpreter: String,
    pub script: String,
    pub gather: bool,
    /// Keys that it gathers by, and keys of the labels that its steps may have.
    pub gather_by: Option<String>,
    pub labels: Option<String>,
    pub done: u64,
    /// Those that failed in the last run and keep an earlier result included.
    pub failed: u64,
    pub pending: u64,
    /// Steps that are history.
    pub retired: u64,
    /// Of live steps that are done, and their bytes.
    pub outputs: u64,
    pub bytes: u64,
    /// What the manifest says that each step takes.
    pub declared: Declared,
    /// Its outputs are to be shown.
    pub shows_outputs: bool,
    /// What else the manifest says of it: (key, value in words). Of variables only the names: a page is sent to others.
    pub says: Vec<(&'static str, String)>,
}

fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(i64::unsigned_abs)
}

/// The tasks in manifest order.
///
/// # Errors
/// If the database can't be read.
pub fn report_tasks(reader: &Reader) -> Result<Vec<ReportTask>> {
    let mut counts = step_counts(reader)?;
    for (task, _) in failed_anew(reader)? {
        let counts = counts.entry(task).or_default();
        (counts.done, counts.failed) = (counts.done.saturating_sub(1), counts.failed + 1);
    }
    let waiting: HashMap<TaskId, u64> =
        waits(reader)?.into_iter().map(|waits| (waits.id, waits.steps)).collect();
    let mut statement = reader.conn
        .prepare(
            "SELECT t.id, t.name, t.gather, coalesce(l.outputs, 0), coalesce(l.bytes, 0), t.feeds,
               t.resources, t.script, r.fields
             FROM task t JOIN recipe r ON r.id = t.recipe LEFT JOIN total l ON l.task = t.id WHERE t.position IS NOT NULL ORDER BY t.position",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([], |row| {
        let id = row.get(0)?;
        let StepCounts { done, failed, pending, retired } =
            counts.get(&id).copied().unwrap_or_default();
        let (name, gather) = (row.get(1)?, row.get(2)?);
        let (outputs, bytes) = (unsigned(row, 3)?, unsigned(row, 4)?);
        let feeds: Option<String> = row.get(5)?;
        let words = |key| Some(feeding(feeds.as_deref(), key).join(", ")).filter(|w| !w.is_empty());
        let (gather_by, labels) = (words("gather_by"), words("labels"));
        let recipe = row.get_ref(8)?.as_str()?;
        let json = |text: Option<&str>| -> serde_json::Value {
            text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        };
        let (recipe, feeds) = (json(Some(recipe)), json(feeds.as_deref()));
        Ok(ReportTask {
            id,
            name,
            gather,
            gather_by,
            labels,
            done,
            failed,
            pending: pending + waiting.get(&id).copied().unwrap_or(0),
            retired,
            outputs,
            bytes,
            declared: Declared::read(row.get(6)?),
            shows_outputs: feeds["report"] == true,
            interpreter: interpreter(&recipe),
            says: says(&feeds, &recipe),
            script: row.get(7)?,
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// The interpreter that a recipe names.
fn interpreter(recipe: &serde_json::Value) -> String {
    let words = recipe["interpreter"].as_array().into_iter().flatten();
    let words: Vec<&str> = words.filter_map(|word| word.as_str()).collect();
    shlex::try_join(words.iter().copied()).unwrap_or_else(|_| words.join(" "))
}

/// Names of `files` that are told.
const MOST_FILES: usize = 20;

/// What the manifest says of a task, from what is kept of its wiring and its recipe.
fn says(feeds: &serde_json::Value, recipe: &serde_json::Value) -> Vec<(&'static str, String)> {
    let mut says = Vec::new();
    // Words, or pairs of which the first is the word.
    let words = |value: &serde_json::Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        let word = |item: &serde_json::Value| item.as_str().or(item[0].as_str()).map(str::to_owned);
        items.filter_map(word).collect()
    };
    let mut say = |key, words: Vec<String>| {
        if !words.is_empty() {
            says.push((key, words.join(", ")));
        }
    };
    for key in ["inputs", "from", "match", "with"] {
        say(key, words(&feeds[key]));
    }
    let of_task = |(task, globs)| format!("{task}: {}", words(globs).join(", "));
    say("match", feeds["match_of"].as_object().into_iter().flatten().map(of_task).collect());
    say("table", feeds["table"].as_str().map(str::to_owned).into_iter().collect());
    say("paths", words(&recipe["paths"]));
    match recipe["gather_keys"].is_null() && recipe["gather"] == true {
        true => say("gather", vec!["yes".to_owned()]),
        false => say("gather", words(&recipe["gather_keys"])),
    }
    match feeds["outputs"].as_array() {
        Some(globs) if globs.is_empty() => say("outputs", vec!["may be none".to_owned()]),
        _ => say("outputs", words(&feeds["outputs"])),
    }
    let params = recipe["params"].as_array().into_iter().flatten();
    let pair =
        |pair: &serde_json::Value| Some(format!("{} = {}", pair[0].as_str()?, pair[1].as_str()?));
    say("params", params.filter_map(pair).collect());
    say("env", words(&recipe["env"]));
    say("env_from", words(&recipe["env_from"]));
    let mut files = words(&recipe["files"]);
    let more = files.len().saturating_sub(MOST_FILES);
    files.truncate(MOST_FILES);
    files.extend((more > 0).then(|| format!("{more} more")));
    say("files", files);
    say("depfile", recipe["depfile"].as_str().map(str::to_owned).into_iter().collect());
    let switches = [
        ("clean_env", &recipe["clean_env"]),
        ("sandbox", &feeds["sandbox"]),
        ("batch", &recipe["batch"]),
    ];
    for (key, _) in switches.iter().filter(|(_, value)| **value == true) {
        say(key, vec!["yes".to_owned()]);
    }
    says
}

/// Pairs of tasks, sorted: the outputs of the first are inputs of the second, or seen by it.
///
/// # Errors
/// If the database can't be read.
pub fn report_edges(reader: &Reader) -> Result<Vec<(TaskId, TaskId)>> {
    let mut edges: Vec<(TaskId, TaskId)> = Vec::new();
    let wiring = "SELECT name, id, feeds FROM task WHERE position IS NOT NULL";
    let mut statement = reader.conn.prepare(wiring).or_db(WHAT)?;
    let tasks = statement.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))));
    let tasks: HashMap<String, (TaskId, Option<String>)> =
        tasks.and_then(|tasks| tasks.collect()).or_db(WHAT)?;
    for (id, feeds) in tasks.values() {
        for key in ["from", "with"] {
            let from = feeding(feeds.as_deref(), key);
            edges.extend(from.iter().filter_map(|name| Some((tasks.get(name)?.0, *id))));
        }
    }
    // A database that an older build planned tells it only by what its steps did.
    let mut statement = reader
        .conn
        .prepare(
            "SELECT f.task, t.task FROM step_link l CROSS JOIN step f ON f.id = l.from_step_id
             CROSS JOIN step t ON t.id = l.to_step_id WHERE f.live = 1 AND t.live = 1
             AND EXISTS (SELECT 1 FROM task WHERE position IS NOT NULL AND feeds IS NULL)",
        )
        .or_db(WHAT)?;
    let mut rows = statement.query([]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        edges.push((row.get(0).or_db(WHAT)?, row.get(1).or_db(WHAT)?));
    }
    edges.sort_unstable_by_key(|(from, to)| (from.0, to.0));
    edges.dedup();
    Ok(edges)
}

/// What a run did of one task.
#[derive(Debug, Clone, Copy)]
pub struct TaskSpan {
    pub task: TaskId,
    pub attempts: u64,
    /// Sum of their times.
    pub wall_us: u64,
    /// Highest number of a worker; 0 if an older build ran them.
    pub workers: u64,
    /// From when to when, milliseconds since 1970.
    pub begun_ms: i64,
    pub ended_ms: i64,
}

/// What an attempt took besides its script. Times are milliseconds, moments since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Overhead {
    /// The step; of several that shared the script, the first.
    pub step: StepId,
    /// 0 if nobody noted it.
    pub worker: u64,
    /// How long its inputs were laid out before the script was started.
    pub before_ms: i64,
    pub started_ms: i64,
    pub script_ended_ms: i64,
    /// How long its outputs were kept and its inputs taken back after that.
    pub after_ms: i64,
}

/// Keeps those of a run, in place of those of the run before.
///
/// # Errors
/// If the row can't be written.
pub fn note_overheads(writer: &mut Writer, run: RunId, overheads: &[Overhead]) -> Result<()> {
    let what = "close the run";
    let json =
        serde_json::to_string(&(run, overheads)).map_err(|err| Error::Internal(err.to_string()))?;
    let sql = "INSERT OR REPLACE INTO meta(key, value) VALUES ('overheads', ?1)";
    writer.conn.execute(sql, [json]).map(drop).or_db(what)
}

/// Those of a run, as far as they are known.
///
/// # Errors
/// If the database can't be read.
pub fn report_overheads(reader: &Reader, run: RunId) -> Result<Vec<Overhead>> {
    let sql = "SELECT value FROM meta WHERE key = 'overheads'";
    let json: Option<String> =
        reader.conn.query_row(sql, [], |row| row.get(0)).optional().or_db(WHAT)?;
    let kept: Option<(RunId, Vec<Overhead>)> =
        json.and_then(|json| serde_json::from_str(&json).ok());
    Ok(kept.filter(|(of, _)| *of == run).map(|(_, overheads)| overheads).unwrap_or_default())
}

/// The newest run that executed anything, and its part in each task.
///
/// # Errors
/// If the database can't be read.
pub fn last_work(reader: &Reader) -> Result<Option<(RunId, Vec<TaskSpan>)>> {
    let newest =
        reader.conn.query_row("SELECT max(run) FROM attempt", [], |row| row.get(0)).or_db(WHAT)?;
    let Some(run) = newest else { return Ok(None) };
    // Added up here: SQLite would sort all attempts by task, in memory.
    let sql =
        "SELECT s.task, a.wall_us / coalesce(a.batch_size, 1), coalesce(a.worker, 0), a.started_ms,
                 a.started_ms + a.wall_us / 1000
               FROM attempt a CROSS JOIN step s ON s.id = a.step WHERE a.run = ?1";
    let mut statement = reader.conn.prepare(sql).or_db(WHAT)?;
    let mut rows = statement.query([run]).or_db(WHAT)?;
    let mut spans: BTreeMap<TaskId, TaskSpan> = BTreeMap::new();
    while let Some(row) = rows.next().or_db(WHAT)? {
        let one = task_span(row).or_db(WHAT)?;
        let span = spans.entry(one.task).or_insert(TaskSpan { attempts: 0, wall_us: 0, ..one });
        span.attempts += 1;
        span.wall_us += one.wall_us;
        span.workers = span.workers.max(one.workers);
        span.begun_ms = span.begun_ms.min(one.begun_ms);
        span.ended_ms = span.ended_ms.max(one.ended_ms);
    }
    Ok(Some((run, spans.into_values().collect())))
}

/// What one attempt is of its task.
fn task_span(row: &Row<'_>) -> rusqlite::Result<TaskSpan> {
    Ok(TaskSpan {
        task: row.get(0)?,
        attempts: 1,
        wall_us: unsigned(row, 1)?,
        workers: unsigned(row, 2)?,
        begun_ms: row.get(3)?,
        ended_ms: row.get(4)?,
    })
}

/// An attempt at a step.
#[derive(Debug, Clone, Copy)]
pub struct ReportAttempt<'r> {
    pub step: StepId,
    pub task: TaskId,
    /// It belongs to the present manifest and inputs.
    pub live: bool,
    /// It is the last attempt at its step.
    pub is_last: bool,
    /// It belongs to the present manifest and inputs, is done, and this is its last attempt.
    pub stands: bool,
    /// Name of the step's input.
    pub input: &'r [u8],
    /// As the database has them; `None`: none.
    pub labels: Option<&'r str>,
    pub run: RunId,
    pub succeeded: bool,
    pub started_ms: i64,
    /// Its part of what it took, where it shared its script.
    pub wall_us: u64,
    /// User and system; likewise.
    pub cpu_us: u64,
    /// Of the script.
    pub peak_kib: u64,
    /// Which of the steps that shared the script it is, from 1, and how many there were.
    pub item: u64,
    pub steps: u64,
    /// An interpreter that was loaded already was forked for it.
    pub is_forked: bool,
    /// 0 if an older build ran it.
    pub worker: u64,
}

impl ReportAttempt<'_> {
    /// Its labels as users are told of them.
    pub fn label_text(&self) -> String {
        self.labels.and_then(Labels::from_json).unwrap_or_default().to_string()
    }
}

/// Calls `see` with every attempt at every step.
///
/// # Errors
/// If the database can't be read.
pub fn each_attempt(reader: &Reader, see: &mut dyn FnMut(&ReportAttempt<'_>)) -> Result<()> {
    // Backwards: the result of a step that is done is that of the last attempt that succeeded.
    let mut statement = reader
        .conn
        .prepare(
            "SELECT a.step, s.task, s.state = 1, s.name, a.run, a.outcome = 'ok', a.started_ms,
               a.wall_us, a.user_us + a.system_us, a.peak_kib, coalesce(a.worker, 0), s.labels,
               coalesce(a.batch_item, 1), coalesce(a.batch_size, 1), a.forked IS 1, s.live = 1
             FROM attempt a CROSS JOIN step s ON s.id = a.step ORDER BY a.step DESC, a.number DESC",
        )
        .or_db(WHAT)?;
    let mut rows = statement.query([]).or_db(WHAT)?;
    // The step before, and the last one of which an attempt succeeded.
    let mut before = (None, None);
    while let Some(row) = rows.next().or_db(WHAT)? {
        let attempt = attempt(row, &mut before).or_db(WHAT)?;
        see(&attempt);
    }
    Ok(())
}

fn attempt<'r>(
    row: &'r Row<'_>,
    before: &mut (Option<StepId>, Option<StepId>),
) -> rusqlite::Result<ReportAttempt<'r>> {
    let step = row.get(0)?;
    let succeeded = row.get(5)?;
    let live = row.get(15)?;
    let is_last = before.0.replace(step) != Some(step);
    let is_last_success = succeeded && before.1.replace(step) != Some(step);
    let steps = unsigned(row, 13)?.max(1);
    Ok(ReportAttempt {
        step,
        task: row.get(1)?,
        live,
        is_last,
        stands: is_last_success && live && row.get(2)?,
        input: row.get_ref(3)?.as_bytes()?,
        labels: row.get_ref(11)?.as_str_or_null()?,
        run: row.get(4)?,
        succeeded,
        started_ms: row.get(6)?,
        wall_us: unsigned(row, 7)? / steps,
        cpu_us: unsigned(row, 8)? / steps,
        peak_kib: unsigned(row, 9)?,
        worker: unsigned(row, 10)?,
        item: unsigned(row, 12)?,
        steps,
        is_forked: row.get(14)?,
    })
}

/// A step that failed, and how.
#[derive(Debug, Clone)]
pub struct FailedStep {
    pub step: StepId,
    pub task: TaskId,
    pub input: Vec<u8>,
    pub labels: Labels,
    /// Number of its last attempt.
    pub attempt: u64,
    pub outcome: String,
    pub code: Option<i64>,
    pub detail: Option<String>,
    pub wall_us: u64,
    pub log: Option<ObjectHash>,
    /// How many failed in the same way, the same task included.
    pub alike: u64,
    /// It was to run anew, and keeps the result that it had.
    pub keeps_result: bool,
}

/// Steps that failed, at most so many, so that every way to fail is among them if it can be. One that failed with another
/// one has the attempt of that one. `anew` failed when they were to run anew, and are done all the same.
///
/// # Errors
/// If the database can't be read.
pub fn report_failed(reader: &Reader, anew: &[StepId], limit: i64) -> Result<Vec<FailedStep>> {
    let temporary = "DROP TABLE IF EXISTS temp.failed_anew;
        CREATE TEMP TABLE failed_anew(step INTEGER PRIMARY KEY) STRICT;";
    reader.conn.execute_batch(temporary).or_db(WHAT)?;
    for step in anew {
        let insert = reader.conn.prepare_cached("INSERT INTO temp.failed_anew VALUES (?1)");
        insert.and_then(|mut insert| insert.execute([step])).or_db(WHAT)?;
    }
    let mut statement = reader
        .conn
        .prepare(
            "SELECT s.id, s.task, s.name, a.number, a.outcome, a.code, a.detail, a.wall_us, a.log,
               count(*) OVER alike AS alike, row_number() OVER (alike ORDER BY s.id) AS nth, s.labels, f.keeps
             FROM (SELECT id, coalesce(same_as, id) AS whose, 0 AS keeps FROM step
                 WHERE live = 1 AND state <> 1 AND state = 2
               UNION ALL SELECT step, step, 1 FROM temp.failed_anew) f
             JOIN step s ON s.id = f.id JOIN attempt a ON a.step = f.whose
               AND a.number = (SELECT max(number) FROM attempt WHERE step = a.step)
             WINDOW alike AS (PARTITION BY s.task, a.outcome, a.code)
             ORDER BY nth, alike DESC, s.id LIMIT ?1",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([limit], |row| {
        Ok(FailedStep {
            step: row.get(0)?,
            task: row.get(1)?,
            input: row.get::<_, NameBytes>(2)?.0,
            attempt: unsigned(row, 3)?,
            outcome: row.get(4)?,
            code: row.get(5)?,
            detail: row.get(6)?,
            wall_us: unsigned(row, 7)?,
            log: row.get(8)?,
            alike: unsigned(row, 9)?,
            labels: row.get(11)?,
            keeps_result: row.get(12)?,
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// Live steps, at most so many: those that failed, or all.
///
/// # Errors
/// If the database can't be read.
pub fn report_steps(reader: &Reader, only_failed: bool, limit: i64) -> Result<Vec<StepId>> {
    // The same condition twice: the shorter one alone would not use the index on what is not done.
    let state = if only_failed { "AND state <> 1 AND state = 2" } else { "" };
    let sql = format!("SELECT id FROM step WHERE live = 1 {state} ORDER BY id LIMIT ?1");
    let mut statement = reader.conn.prepare(&sql).or_db(WHAT)?;
    let rows = statement.query_map([limit], |row| row.get(0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// The files, each as a path, that these steps work on; of gather steps and rows of tables none. One pass over the input
/// files, however many steps there are.
///
/// # Errors
/// If the database can't be read.
pub fn report_files(reader: &Reader, steps: &[StepId]) -> Result<HashMap<StepId, Vec<u8>>> {
    reader
        .conn
        .execute_batch(
            "DROP TABLE IF EXISTS temp.listed;
             CREATE TEMP TABLE listed(task INTEGER, origin INTEGER, step INTEGER, PRIMARY KEY(task, origin, step))
               STRICT, WITHOUT ROWID;",
        )
        .or_db(WHAT)?;
    let sql = "INSERT INTO temp.listed SELECT s.task, s.origin, s.id FROM step s WHERE s.id = ?1
               AND EXISTS (SELECT 1 FROM input_file f WHERE f.task = s.task)";
    for step in steps {
        reader
            .conn
            .prepare_cached(sql)
            .and_then(|mut insert| insert.execute([step]))
            .or_db(WHAT)?;
    }
    let mut files = HashMap::new();
    {
        // In this order: the files are many, and of steps there is an index.
        let sql = "SELECT l.step, f.path FROM (SELECT DISTINCT task FROM temp.listed) t
                   CROSS JOIN input_file f ON f.task = t.task AND f.path <> ''
                   CROSS JOIN temp.listed l ON l.task = f.task AND l.origin = file_origin(f.path)";
        let mut statement = reader.conn.prepare(sql).or_db(WHAT)?;
        let mut rows = statement.query([]).or_db(WHAT)?;
        while let Some(row) = rows.next().or_db(WHAT)? {
            let path: NameBytes = row.get(1).or_db(WHAT)?;
            files.insert(row.get(0).or_db(WHAT)?, path.0);
        }
    }
    reader.conn.execute_batch("DROP TABLE temp.listed").or_db(WHAT)?;
    Ok(files)
}

/// An output as the report names it: its size is not known if its object is gone.
#[derive(Debug, Clone)]
pub struct ReportOutput {
    pub name: Vec<u8>,
    pub object: ObjectHash,
    pub bytes: Option<u64>,
}

/// At most `limit` outputs of a step, by name, and how many there are in all.
///
/// # Errors
/// If the database can't be read.
pub fn report_outputs(
    reader: &Reader,
    step: StepId,
    limit: i64,
) -> Result<(Vec<ReportOutput>, u64)> {
    let sql =
        "SELECT o.name, o.object, b.size FROM output o LEFT JOIN object b ON b.hash = o.object
               WHERE o.step = ?1 ORDER BY o.name LIMIT ?2";
    let mut statement = reader.conn.prepare_cached(sql).or_db(WHAT)?;
    let rows = statement.query_map(params![step, limit], |row| {
        let bytes: Option<i64> = row.get(2)?;
        Ok(ReportOutput {
            name: row.get::<_, NameBytes>(0)?.0,
            object: row.get(1)?,
            bytes: bytes.map(i64::unsigned_abs),
        })
    });
    let outputs: Vec<ReportOutput> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
    if (outputs.len() as i64) < limit {
        let count = outputs.len() as u64;
        return Ok((outputs, count));
    }
    let count = reader
        .conn
        .prepare_cached("SELECT count(*) FROM output WHERE step = ?1")
        .and_then(|mut s| s.query_row([step], |row| unsigned(row, 0)))
        .or_db(WHAT)?;
    Ok((outputs, count))
}

/// What the manifest of the last run calls the pipeline.
///
/// # Errors
/// If the database can't be read.
pub fn report_title(reader: &Reader) -> Result<Option<String>> {
    let sql = "SELECT value FROM meta WHERE key = 'title'";
    reader.conn.query_row(sql, [], |row| row.get(0)).optional().or_db(WHAT)
}

/// An output of a live step that is done, to be shown.
#[derive(Debug, Clone)]
pub struct ReportResult {
    pub step: StepId,
    pub labels: Labels,
    pub name: Vec<u8>,
    pub object: ObjectHash,
    /// `None` if the object is gone.
    pub bytes: Option<u64>,
}

/// The outputs of a task, at most `limit`, step by step.
///
/// # Errors
/// If the database can't be read.
pub fn report_results(reader: &Reader, task: TaskId, limit: usize) -> Result<Vec<ReportResult>> {
    let sql = "SELECT s.id, s.labels, o.name, o.object, b.size
               FROM step s INDEXED BY idx_step_task CROSS JOIN output o ON o.step = s.id
               LEFT JOIN object b ON b.hash = o.object
               WHERE s.task = ?1 AND s.live = 1 AND s.state = 1 ORDER BY s.id, o.name LIMIT ?2";
    let mut statement = reader.conn.prepare_cached(sql).or_db(WHAT)?;
    let rows = statement.query_map(params![task, limit as i64], |row| {
        let bytes: Option<i64> = row.get(4)?;
        Ok(ReportResult {
            step: row.get(0)?,
            labels: row.get(1)?,
            name: row.get::<_, NameBytes>(2)?.0,
            object: row.get(3)?,
            bytes: bytes.map(i64::unsigned_abs),
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// The live steps with one value of a label.
#[derive(Debug, Clone, Default)]
pub struct LabelGroup {
    pub value: String,
    pub done: u64,
    pub failed: u64,
    pub pending: u64,
}

impl LabelGroup {
    fn steps(&self) -> u64 {
        self.done + self.failed + self.pending
    }
}

/// The live steps by the values of a label.
#[derive(Debug, Clone, Default)]
pub struct LabelGroups {
    /// The values with most steps, those first.
    pub groups: Vec<LabelGroup>,
    /// How many values are not among them; `None`: too many to be counted, and none is.
    pub left_out: Option<u64>,
}

/// Values of a label that are counted. One with more is the name of something, and nothing to group by.
const MOST_VALUES: usize = 20_000;

/// The live steps by each of their labels, at most `limit` values of each. SQLite is built without JSON, so they are
/// counted here, in memory that doesn't grow with the number of steps. `anew` failed although they are done.
///
/// # Errors
/// If the database can't be read.
pub fn label_groups(
    reader: &Reader,
    anew: &[StepId],
    limit: usize,
) -> Result<BTreeMap<String, LabelGroups>> {
    let anew: HashSet<&StepId> = anew.iter().collect();
    let sql = "SELECT labels, state, id FROM step WHERE live = 1 AND labels IS NOT NULL";
    let mut statement = reader.conn.prepare(sql).or_db(WHAT)?;
    let mut rows = statement.query([]).or_db(WHAT)?;
    let mut all: BTreeMap<String, Option<HashMap<String, LabelGroup>>> = BTreeMap::new();
    while let Some(row) = rows.next().or_db(WHAT)? {
        let (labels, mut state, step): (Labels, StepState, StepId) =
            row.get(0).and_then(|labels| Ok((labels, row.get(1)?, row.get(2)?))).or_db(WHAT)?;
        if anew.contains(&step) {
            state = StepState::Failed;
        }
        for (key, value) in labels.iter() {
            if !all.contains_key(key) {
                all.insert(key.to_owned(), Some(HashMap::new()));
            }
            let Some(Some(values)) = all.get_mut(key) else { continue };
            if !values.contains_key(value) {
                if values.len() == MOST_VALUES {
                    all.insert(key.to_owned(), None);
                    continue;
                }
                let group = LabelGroup { value: value.to_owned(), ..LabelGroup::default() };
                values.insert(value.to_owned(), group);
            }
            let Some(group) = values.get_mut(value) else { continue };
            match state {
                StepState::Done => group.done += 1,
                StepState::Failed => group.failed += 1,
                StepState::Pending => group.pending += 1,
            }
        }
    }
    let sorted = |values: HashMap<String, LabelGroup>| {
        let mut groups: Vec<LabelGroup> = values.into_values().collect();
        order::sort_by(&mut groups, |a, b| b.steps().cmp(&a.steps()).then(a.value.cmp(&b.value)));
        let left_out = groups.len().saturating_sub(limit) as u64;
        groups.truncate(limit);
        LabelGroups { groups, left_out: Some(left_out) }
    };
    Ok(all.into_iter().map(|(key, values)| (key, values.map(sorted).unwrap_or_default())).collect())
}
