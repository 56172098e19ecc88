//! What `verify`, `repair` and `gc` ask and change.

use rusqlite::OptionalExtension;

use crate::attempt::NamedObject;
use crate::error::{OrDb, Result};
use crate::ids::{ResultId, StepId, TaskId};
use crate::labels::Labels;
use crate::names;
use crate::object::ObjectHash;
use crate::table::Row;

use crate::db::commit::outputs_of;
use crate::db::inputs::{InputRow, Inputs, files_of_rows};
use crate::db::listing::listing_line;
use crate::db::types::NameBytes;
use crate::db::{Reader, Writer};

const WHAT: &str = "look through the database";

/// Calls `see` with (hash, bytes) of every committed object.
///
/// # Errors
/// If the database can't be read.
pub fn each_object(
    reader: &Reader,
    see: &mut dyn FnMut(ObjectHash, u64) -> Result<()>,
) -> Result<()> {
    let mut statement =
        reader.conn.prepare("SELECT hash, size FROM object ORDER BY hash").or_db(WHAT)?;
    let mut rows = statement.query([]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        see(row.get(0).or_db(WHAT)?, row.get::<_, i64>(1).or_db(WHAT)?.unsigned_abs())?;
    }
    Ok(())
}

/// What SQLite itself finds wrong with the file, and references to rows that aren't there. `whole` compares
/// the indexes with their tables as well.
///
/// # Errors
/// Also if a page can't be read: that is told apart from damage, for a backup doesn't cure it.
pub fn check_database(reader: &Reader, whole: bool) -> Result<Vec<String>> {
    let check = if whole { "PRAGMA integrity_check(20)" } else { "PRAGMA quick_check(20)" };
    let mut statement = reader.conn.prepare(check).or_db(WHAT)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0));
    let found: Vec<String> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
    // A row may have several lines, the first of which names the database.
    let lines = found.iter().flat_map(|row| row.lines());
    let mut wrong: Vec<String> =
        lines.filter(|line| *line != "ok" && !line.starts_with("***")).map(str::to_owned).collect();
    if let Some(code) = wrong.iter().find_map(|line| unreadable(line)) {
        let source = rusqlite::ffi::Error::new(code);
        return Err(rusqlite::Error::SqliteFailure(source, None)).or_db(WHAT);
    }
    let mut statement = reader
        .conn
        .prepare("SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2")
        .or_db(WHAT)?;
    let rows = statement.query_map([], |row| {
        let (table, parent, count) =
            (row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?);
        Ok(format!("{count} row(s) of {table} refer to rows of {parent} that aren't there"))
    });
    wrong.extend(rows.and_then(|rows| rows.collect::<rusqlite::Result<Vec<_>>>()).or_db(WHAT)?);
    Ok(wrong)
}

/// The error of reading that a line of `quick_check` speaks of, if it does: it goes on after one as after
/// damage.
fn unreadable(line: &str) -> Option<i32> {
    use rusqlite::ffi::{SQLITE_IOERR, SQLITE_IOERR_READ, SQLITE_NOMEM};
    if let Some((_, code)) = line.split_once("unable to get the page. error code=") {
        let code = code.trim().parse::<i32>().ok()?;
        return matches!(code & 0xff, SQLITE_IOERR | SQLITE_NOMEM).then_some(code);
    }
    // Pages that can't exist are called invalid.
    line.contains("failed to get page").then_some(SQLITE_IOERR_READ)
}

/// Objects that live steps refer to (input, outputs, last log) and that have no row.
///
/// # Errors
/// If the database can't be read.
pub fn unproven_objects(reader: &Reader) -> Result<Vec<ObjectHash>> {
    let mut statement = reader
        .conn
        .prepare(&format!(
            "SELECT DISTINCT object FROM ({LIVE_OBJECTS}) WHERE object IS NOT NULL
             AND object NOT IN (SELECT hash FROM object) ORDER BY object"
        ))
        .or_db(WHAT)?;
    let rows = statement.query_map([], |row| row.get(0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// Everything that a live step works on, made or printed, or another one for it; for what gathers files, and for rows that
/// name some, the files too.
pub(in crate::db) const LIVE_OBJECTS: &str = "
    SELECT object FROM step WHERE live = 1
    UNION ALL SELECT o.object FROM step s JOIN output o ON o.step = s.id WHERE s.live = 1 AND s.state = 1
    UNION ALL SELECT a.log FROM step s JOIN attempt a ON a.step IN (s.id, s.same_as) WHERE s.live = 1
      AND (a.number = (SELECT max(number) FROM attempt WHERE step = a.step) OR a.step = s.same_as AND a.outcome = 'ok')
    UNION ALL SELECT a.log FROM step s JOIN step_result x ON x.step = s.id JOIN result r ON r.id = x.result
      JOIN attempt a ON a.step = r.step AND a.number = r.attempt WHERE s.live = 1
    UNION ALL SELECT i.log FROM interrupted i JOIN step s ON s.id = i.step WHERE s.live = 1
    UNION ALL SELECT f.object FROM task t JOIN input_file f ON f.task = t.id
      WHERE t.gather = 1 AND t.position IS NOT NULL
    UNION ALL SELECT f.object FROM task t JOIN input_file f ON f.task = -t.id WHERE t.position IS NOT NULL";

/// The rows of tables that name a file with the object ?1: (task, origin).
pub(in crate::db) const ROWS_ON: &str = "
    SELECT r.task, row_origin(r.path) FROM input_file f JOIN input_file r ON r.task = -f.task
    WHERE f.object = ?1 AND f.task < 0 AND names_file(r.name, f.path)";

/// A step that made an object, with what is needed to make it again.
#[derive(Debug, Clone)]
pub struct Producer {
    pub step: StepId,
    pub task: String,
    pub name: Vec<u8>,
    pub object: ObjectHash,
    pub executable: bool,
    pub labels: Labels,
    /// The listing of what it sees by `with`.
    pub side: Option<ObjectHash>,
    pub gather: bool,
    pub recipe_hash: ObjectHash,
    /// The recipe's fields as JSON.
    pub recipe_json: String,
    /// Its task has `sandbox = true`.
    pub is_sandboxed: bool,
    /// Folder of the manifest of its last attempt, absolute.
    pub dir: Vec<u8>,
    /// What it has said it read when it made the object, if its task has a depfile.
    pub result: Option<ResultId>,
    /// All that it made.
    pub outputs: Vec<NamedObject>,
}

/// What a task's `feeds` say; those of older builds say nothing.
fn is_sandboxed(feeds: Option<String>) -> bool {
    let feeds = feeds.and_then(|feeds| serde_json::from_str::<serde_json::Value>(&feeds).ok());
    feeds.is_some_and(|feeds| feeds["sandbox"] == true)
}

/// The steps whose outputs are recorded as this object, live ones first.
/// A step that is to run anew counts too: it has the outputs of its last success until then.
///
/// # Errors
/// If the database can't be read.
pub fn producers(reader: &Reader, object: &ObjectHash) -> Result<Vec<Producer>> {
    let mut statement = reader.conn
        .prepare_cached(
            "SELECT DISTINCT s.id, t.name, s.name, s.object, s.executable, t.gather, r.hash, r.fields,
               (SELECT run.dir FROM attempt a JOIN run ON run.id = a.run WHERE a.step = coalesce(s.same_as, s.id)
                ORDER BY a.number DESC LIMIT 1), s.labels, s.side, t.feeds, m.result
             FROM (SELECT o.step, x.result FROM output o LEFT JOIN step_result x ON x.step = o.step WHERE o.object = ?1
                   UNION SELECT r.step, r.id FROM result_output o JOIN result r ON r.id = o.result WHERE o.object = ?1) m
             JOIN step s ON s.id = m.step JOIN task t ON t.id = s.task JOIN recipe r ON r.id = s.recipe
             WHERE s.state <> 2 OR m.result IS NOT NULL ORDER BY s.live DESC, s.id DESC, m.result DESC",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([object], |row| {
        Ok(Producer {
            step: row.get(0)?,
            task: row.get(1)?,
            name: row.get::<_, NameBytes>(2)?.0,
            object: row.get(3)?,
            executable: row.get(4)?,
            gather: row.get(5)?,
            recipe_hash: row.get(6)?,
            recipe_json: row.get(7)?,
            dir: row.get::<_, Option<NameBytes>>(8)?.map(|dir| dir.0).unwrap_or_default(),
            labels: row.get(9)?,
            side: row.get(10)?,
            is_sandboxed: is_sandboxed(row.get(11)?),
            result: row.get(12)?,
            outputs: Vec::new(),
        })
    });
    let mut producers: Vec<Producer> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
    for producer in &mut producers {
        producer.outputs = outputs_of(reader, producer.step)?;
    }
    Ok(producers)
}

/// The outputs of all steps that a step is linked from: of those are what a gather step works on.
///
/// # Errors
/// If the database can't be read.
pub fn linked_outputs(reader: &Reader, step: StepId) -> Result<Vec<NamedObject>> {
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT o.name, o.object, o.executable
             FROM step_link l JOIN output o ON o.step = l.from_step_id WHERE l.to_step_id = ?1",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([step], |row| {
        Ok(NamedObject {
            name: row.get::<_, NameBytes>(0)?.0,
            object: row.get(1)?,
            executable: row.get(2)?,
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// Steps that are done and worked on this object, by themselves or among what they gathered or saw, are to be done again, and
/// so is what comes out differently then. Returns how many they are.
///
/// # Errors
/// If the rows can't be written.
pub fn redo_consumers(writer: &mut Writer, object: &ObjectHash) -> Result<usize> {
    let are_concerned = format!(
        "(object = ?1 OR id IN (
               SELECT l.to_step_id FROM output o JOIN step_link l ON l.from_step_id = o.step
               JOIN step s ON s.id = l.to_step_id JOIN task t ON t.id = s.task
               WHERE o.object = ?1 AND t.gather = 1
               UNION SELECT s.id FROM input_file f JOIN task t ON t.id = f.task JOIN step s ON s.task = t.id
               WHERE f.object = ?1 AND t.gather = 1 AND s.live = 1
               UNION SELECT s.id FROM output o JOIN side_link l ON l.from_step_id = o.step JOIN step s ON s.side = l.side
               WHERE o.object = ?1)
               OR live = 1 AND (task, origin) IN ({ROWS_ON}))"
    );
    // What they made before with other files may have been made of it, too.
    let results =
        format!("DELETE FROM result WHERE step IN (SELECT id FROM step WHERE {are_concerned})");
    writer.conn.execute(&results, [object]).or_db(WHAT)?;
    let steps = format!("UPDATE step SET state = 0 WHERE state = 1 AND {are_concerned}");
    let redone = writer.conn.execute(&steps, [object]).or_db(WHAT)?;
    if redone > 0 {
        look_at_all_anew(writer)?;
    }
    Ok(redone)
}

/// Paths of input files that held this object when they were last hashed.
///
/// # Errors
/// If the database can't be read.
pub fn input_files(reader: &Reader, object: &ObjectHash) -> Result<Vec<Vec<u8>>> {
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT DISTINCT path FROM input_file WHERE object = ?1 AND task <> 0 AND path <> ''",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([object], |row| Ok(row.get::<_, NameBytes>(0)?.0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// What steps on rows of tables work on, if it was this object: the rows as JSON, or the listings of their files.
///
/// # Errors
/// If the database can't be read.
pub fn contents_of_rows(reader: &Reader, object: &ObjectHash) -> Result<Vec<Vec<u8>>> {
    let mut statement = reader
        .conn
        .prepare_cached("SELECT task, path, name FROM input_file WHERE object = ?1 AND task > 0")
        .or_db(WHAT)?;
    let rows = statement.query_map([object], |row| {
        let text = |n| row.get::<_, NameBytes>(n).map(|text| String::from_utf8(text.0));
        Ok((row.get::<_, TaskId>(0)?, text(1)?, text(2)?))
    });
    let rows: Vec<_> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
    let mut contents = Vec::new();
    for row in rows {
        let (task, Ok(labels), Ok(files)) = row else { continue };
        let Some(files) = Labels::from_json(&files) else { continue };
        contents.push(Row::object(&labels));
        let mut listing = Vec::new();
        for (column, path) in files.iter() {
            let path = path.as_bytes();
            if let Some(file) = Inputs::known(reader, files_of_rows(task), path)? {
                let name = names::in_column(column, path);
                let InputRow { stat, object, .. } = file;
                listing_line(
                    &mut listing,
                    &NamedObject { name, object, executable: stat.executable },
                );
            }
        }
        contents.push(listing);
    }
    Ok(contents)
}

/// Folder of the manifest of the last run.
///
/// # Errors
/// If the database can't be read.
pub fn last_dir(reader: &Reader) -> Result<Option<Vec<u8>>> {
    reader
        .conn
        .query_row("SELECT dir FROM run ORDER BY id DESC LIMIT 1", [], |row| {
            Ok(row.get::<_, NameBytes>(0)?.0)
        })
        .optional()
        .or_db(WHAT)
}

/// Live gather steps that work on this listing, which can't be had again, are retired, so that the next run lists anew,
/// and so is all that comes of them: a group downstream must not be taken for complete without them.
///
/// # Errors
/// If the rows can't be written.
pub fn retire_gather(writer: &mut Writer, listing: &ObjectHash) -> Result<usize> {
    let retired = writer
        .conn
        .execute(
            "WITH RECURSIVE below(step) AS (
               SELECT s.id FROM step s JOIN task t ON t.id = s.task
                 WHERE s.live = 1 AND s.object = ?1 AND t.gather = 1
               UNION SELECT s.id FROM below b JOIN step_link l ON l.from_step_id = b.step
                 JOIN step s ON s.id = l.to_step_id WHERE s.live = 1)
             UPDATE step SET live = 0 WHERE id IN (SELECT step FROM below)",
            [listing],
        )
        .or_db(WHAT)?;
    if retired > 0 {
        look_at_all_anew(writer)?;
    }
    Ok(retired)
}

/// The next plan takes nothing for settled.
fn look_at_all_anew(writer: &mut Writer) -> Result<()> {
    writer
        .conn
        .execute_batch(
            "DELETE FROM meta WHERE key IN ('complete', 'settled', 'unsettled'); UPDATE task SET wiring = NULL, scan = NULL;",
        )
        .or_db(WHAT)
}

/// True if a gather step, live or not, works on this.
///
/// # Errors
/// If the database can't be read.
pub fn is_listing(reader: &Reader, object: &ObjectHash) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM step s JOIN task t ON t.id = s.task WHERE s.object = ?1 AND t.gather = 1)";
    reader.conn.query_row(sql, [object], |row| row.get(0)).or_db(WHAT)
}

/// The log of these attempts is lost. Returns how many they are.
///
/// # Errors
/// If the rows can't be written.
pub fn lose_log(writer: &mut Writer, log: &ObjectHash) -> Result<usize> {
    let attempts = writer.conn.execute("UPDATE attempt SET log = NULL WHERE log = ?1", [log]);
    let interrupted = writer.conn.execute("DELETE FROM interrupted WHERE log = ?1", [log]);
    Ok(attempts.or_db(WHAT)? + interrupted.or_db(WHAT)?)
}

/// An object is proven no more.
///
/// # Errors
/// If the rows can't be written.
pub fn forget_object(writer: &mut Writer, object: &ObjectHash) -> Result<()> {
    writer.conn.execute("DELETE FROM object WHERE hash = ?1", [object]).or_db(WHAT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_cannot_be_read_is_no_damage() {
        let read = Some(rusqlite::ffi::SQLITE_IOERR_READ);
        assert_eq!(unreadable("Tree 21 page 21: unable to get the page. error code=266"), read);
        assert_eq!(unreadable("Freelist: failed to get page 10"), read);
        assert_eq!(unreadable("Tree 2 page 3: unable to get the page. error code=7"), Some(7));
        assert_eq!(unreadable("Tree 2 page 3: unable to get the page. error code=11"), None);
        assert_eq!(unreadable("Tree 3 page 3 cell 0: invalid page number 99"), None);
    }
}
