//! Runs, and what the last complete one left behind.

use rusqlite::{OptionalExtension, params};

use crate::error::{Error, OrDb, Result};
use crate::ids::RunId;
use crate::object::ObjectHash;

use crate::db::run_steps::RunSteps;
use crate::db::types::{Name, NameBytes};
use crate::db::{Reader, Writer};

/// A row of `run` as it begins.
#[derive(Debug, Clone)]
pub struct RunRow {
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// Boot of the machine and mount of the database folder, in one word.
    pub boot: String,
    pub pid: u32,
    pub durability: &'static str,
    /// As it was named.
    pub manifest: Vec<u8>,
    /// Its folder, absolute.
    pub dir: Vec<u8>,
    /// `-B`
    pub always: bool,
    /// What the manifest calls the pipeline.
    pub title: Option<String>,
}

/// Adds the row of a run that begins.
pub(in crate::db) fn insert_run(writer: &mut Writer, run: &RunRow) -> Result<RunId> {
    writer
        .conn
        .execute(
            "INSERT INTO run(started_ms, boot, pid, durability, sound, manifest, dir, always)
         VALUES (?1, ?2, ?3, ?4, ?4 = 'batch', ?5, ?6, ?7)",
            params![
                run.started_ms,
                run.boot,
                run.pid,
                run.durability,
                Name(&run.manifest),
                Name(&run.dir),
                run.always
            ],
        )
        .or_db("note the run")?;
    let id = RunId(writer.conn.last_insert_rowid());
    let named = match &run.title {
        Some(title) => writer
            .conn
            .execute("INSERT OR REPLACE INTO meta(key, value) VALUES ('title', ?1)", [title]),
        None => writer.conn.execute("DELETE FROM meta WHERE key = 'title'", []),
    };
    named.or_db("note the run")?;
    Ok(id)
}

/// Forgets that the pipeline is complete, and with which inputs.
pub(in crate::db) fn unsettle(writer: &mut Writer) -> Result<()> {
    writer
        .conn
        .prepare_cached("DELETE FROM meta WHERE key IN ('complete', 'settled', 'unsettled')")
        .and_then(|mut s| s.execute([]))
        .or_db("note that the pipeline is not complete")?;
    Ok(())
}

/// Remembers which inputs a run couldn't read, a sentence each, in place of those of the run before.
pub(in crate::db) fn note_unread(writer: &mut Writer, sentences: &[String]) -> Result<()> {
    let what = "note inputs that can't be read";
    writer.conn.execute("DELETE FROM meta WHERE key = 'unread'", []).or_db(what)?;
    if !sentences.is_empty() {
        let list =
            serde_json::to_string(sentences).map_err(|err| Error::Internal(err.to_string()))?;
        writer
            .conn
            .execute("INSERT INTO meta(key, value) VALUES ('unread', ?1)", [list])
            .or_db(what)?;
    }
    Ok(())
}

/// The inputs that the last run couldn't read, a sentence each.
///
/// # Errors
/// If the database can't be read.
pub fn unread(reader: &Reader) -> Result<Vec<String>> {
    let list: Option<String> = reader
        .conn
        .query_row("SELECT value FROM meta WHERE key = 'unread'", [], |row| row.get(0))
        .optional()
        .or_db("read which inputs can't be read")?;
    Ok(list.and_then(|list| serde_json::from_str(&list).ok()).unwrap_or_default())
}

/// The names of the tasks that the last run left with steps that failed, are to run or are missing, whatever is upstream of
/// them; `None` if that run was complete, is under way or was killed.
pub(in crate::db) fn unsettled(reader: &Reader) -> Result<Option<Vec<String>>> {
    let list: Option<String> = reader
        .conn
        .query_row("SELECT value FROM meta WHERE key = 'unsettled'", [], |row| row.get(0))
        .optional()
        .or_db("read which tasks are incomplete")?;
    Ok(list.and_then(|list| serde_json::from_str(&list).ok()))
}

/// How the tasks stand at the end of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Every live step is done and none is missing.
    All,
    /// Those of all tasks but these, by name.
    AllBut(Vec<String>),
}

/// Closes a run. With `complete`, the next run whose fingerprint is the same has nothing to do.
///
/// # Errors
/// If the rows can't be written.
pub fn end_run(
    writer: &mut Writer,
    run: RunId,
    ended_ms: i64,
    (result, steps): (&str, &RunSteps),
    settled: &Settled,
    complete: Option<&Complete>,
) -> Result<()> {
    let what = "close the run";
    let steps = serde_json::to_string(steps).map_err(|err| Error::Internal(err.to_string()))?;
    writer
        .conn
        .execute(
            "UPDATE run SET ended_ms = ?2, result = ?3, steps = ?4 WHERE id = ?1",
            params![run, ended_ms, result, steps],
        )
        .or_db(what)?;
    let set = "INSERT OR REPLACE INTO meta(key, value) VALUES (?1, ?2)";
    match settled {
        Settled::All => writer.conn.execute(set, params!["settled", 1]),
        Settled::AllBut(tasks) => {
            let list = serde_json::json!(tasks).to_string();
            writer.conn.execute(set, params!["unsettled", list])
        }
    }
    .or_db(what)?;
    if let Some(complete) = complete {
        let mut set = writer.conn.prepare_cached(set).or_db(what)?;
        set.execute(params!["complete", complete.fingerprint]).or_db(what)?;
        set.execute(params!["complete_steps", complete.steps as i64]).or_db(what)?;
    }
    Ok(())
}

/// The state after a complete run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complete {
    /// Over recipes, wiring and inputs.
    pub fingerprint: ObjectHash,
    /// Live steps, all done.
    pub steps: u64,
}

/// What the last run left, if it was complete and nothing was taken away since.
///
/// # Errors
/// If the database can't be read.
pub fn complete(reader: &Reader) -> Result<Option<Complete>> {
    let get = |key: &str| {
        reader
            .conn
            .prepare_cached("SELECT value FROM meta WHERE key = ?1")
            .map(|s| (s, key.to_owned()))
    };
    let what = "read the last run";
    let (mut statement, key) = get("complete").or_db(what)?;
    let Some(fingerprint) = statement.query_row([key], |row| row.get(0)).optional().or_db(what)?
    else {
        return Ok(None);
    };
    let (mut statement, key) = get("complete_steps").or_db(what)?;
    let steps: Option<i64> = statement.query_row([key], |row| row.get(0)).optional().or_db(what)?;
    Ok(Some(Complete { fingerprint, steps: steps.unwrap_or(0).unsigned_abs() }))
}

/// Live steps of all tasks.
///
/// # Errors
/// If the database can't be read.
pub fn live_steps(reader: &Reader) -> Result<u64> {
    reader
        .conn
        .query_row("SELECT count(*) FROM step WHERE live = 1", [], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
        .or_db("count steps")
}

/// An INPUT of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    /// Absolute, or `-`.
    pub path: Vec<u8>,
    /// What standard input held.
    pub object: Option<ObjectHash>,
}

/// The INPUTs of the last run with this manifest that named any; or those that an older build remembers for any
/// manifest.
///
/// # Errors
/// If the database can't be read.
pub fn arguments(reader: &Reader, manifest: &[u8]) -> Result<Vec<Argument>> {
    let mut statement = reader
        .conn
        .prepare(
            "SELECT path, object FROM argument WHERE manifest IS
               (SELECT manifest FROM argument WHERE manifest = ?1 LIMIT 1) ORDER BY position",
        )
        .or_db("read the inputs")?;
    let rows = statement.query_map([Name(manifest)], |row| {
        Ok(Argument { path: row.get::<_, NameBytes>(0)?.0, object: row.get(1)? })
    });
    rows.and_then(|rows| rows.collect()).or_db("read the inputs")
}

/// The manifests for which INPUTs are remembered, the last one first.
///
/// # Errors
/// If the database can't be read.
pub fn manifests_with_arguments(reader: &Reader) -> Result<Vec<Vec<u8>>> {
    let what = "read the inputs";
    let mut statement = reader
        .conn
        .prepare(
            "SELECT manifest FROM argument WHERE manifest IS NOT NULL GROUP BY manifest
             ORDER BY max(position) DESC",
        )
        .or_db(what)?;
    let rows = statement.query_map([], |row| Ok(row.get::<_, NameBytes>(0)?.0));
    rows.and_then(|rows| rows.collect()).or_db(what)
}

/// Replaces those of a manifest.
///
/// # Errors
/// If the rows can't be written.
pub fn set_arguments(writer: &mut Writer, manifest: &[u8], arguments: &[Argument]) -> Result<()> {
    let what = "keep the inputs";
    writer
        .conn
        .execute("DELETE FROM argument WHERE manifest = ?1 OR manifest IS NULL", [Name(manifest)])
        .or_db(what)?;
    for argument in arguments {
        writer
            .conn
            .prepare_cached("INSERT INTO argument(path, object, manifest) VALUES (?1, ?2, ?3)")
            .and_then(|mut s| {
                s.execute(params![Name(&argument.path), argument.object, Name(manifest)])
            })
            .or_db(what)?;
    }
    Ok(())
}
