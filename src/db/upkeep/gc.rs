//! What `gc` asks and changes: which objects nothing needs, and that they are no longer proven.

use crate::error::{OrDb, Result};
use crate::object::ObjectHash;

use crate::db::dependencies::is_valid;
use crate::db::upkeep::verify::LIVE_OBJECTS;
use crate::db::{Reader, Writer};

const WHAT: &str = "look for what nothing needs";

/// Which old results count as needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// All of them.
    All,
    /// Those of the last so many runs.
    Runs(u32),
}

/// Makes an empty temporary table of objects, in the place of an earlier one.
fn make_set(reader: &Reader, name: &str) -> Result<()> {
    let sql = format!(
        "DROP TABLE IF EXISTS temp.{name};
         CREATE TEMP TABLE {name}(object BLOB PRIMARY KEY) WITHOUT ROWID;"
    );
    reader.conn.execute_batch(&sql).or_db(WHAT)
}

/// Calls `see` with (hash, bytes) of every object that nothing needed refers to. Without all history, it has to be known
/// what the files that steps have read are now: see [`Dependencies`](crate::db::Dependencies).
///
/// # Errors
/// If the database can't be read.
pub fn each_garbage(
    reader: &Reader,
    history: History,
    see: &mut dyn FnMut(ObjectHash, u64),
) -> Result<()> {
    make_set(reader, "needed")?;
    let old = match history {
        History::All => "
            UNION ALL SELECT object FROM step
            UNION ALL SELECT object FROM output UNION ALL SELECT object FROM result_output
            UNION ALL SELECT log FROM attempt UNION ALL SELECT log FROM interrupted"
            .to_owned(),
        History::Runs(runs) => format!(
            "UNION ALL SELECT s.object FROM step s JOIN attempt a ON a.step = s.id
               WHERE a.run > (SELECT max(id) FROM run) - {runs}
             UNION ALL SELECT o.object FROM output o JOIN attempt a ON a.step = o.step
               WHERE a.run > (SELECT max(id) FROM run) - {runs}
             UNION ALL SELECT o.object FROM result_output o JOIN result r ON r.id = o.result
               JOIN attempt a ON a.step = r.step AND a.number = r.attempt
               WHERE a.run > (SELECT max(id) FROM run) - {runs}
             UNION ALL SELECT log FROM attempt WHERE run > (SELECT max(id) FROM run) - {runs}
             UNION ALL SELECT log FROM interrupted WHERE run > (SELECT max(id) FROM run) - {runs}
             UNION ALL SELECT o.object FROM step s JOIN result r ON r.step = s.id
               JOIN result_output o ON o.result = r.id WHERE s.live = 1 AND {}",
            is_valid("r.id")
        ),
    };
    reader
        .conn
        .execute_batch(&format!(
            "INSERT OR IGNORE INTO temp.needed SELECT object FROM ({LIVE_OBJECTS}
           UNION ALL SELECT object FROM input_file UNION ALL SELECT object FROM argument {old})
         WHERE object IS NOT NULL"
        ))
        .or_db(WHAT)?;
    let mut statement = reader
        .conn
        .prepare("SELECT hash, size FROM object WHERE hash NOT IN temp.needed ORDER BY hash")
        .or_db(WHAT)?;
    let mut rows = statement.query([]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        see(row.get(0).or_db(WHAT)?, row.get::<_, i64>(1).or_db(WHAT)?.unsigned_abs());
    }
    Ok(())
}

/// Whether the last [`each_garbage`] found somebody who needs an object.
///
/// # Errors
/// If the database can't be read.
pub fn is_needed(reader: &Reader, object: &ObjectHash) -> Result<bool> {
    reader
        .conn
        .query_row("SELECT EXISTS (SELECT 1 FROM temp.needed WHERE object = ?1)", [object], |row| {
            row.get(0)
        })
        .or_db(WHAT)
}

/// Takes the rows of objects away, in one transaction. A step of history that made one of them has to
/// run again if it ever comes alive again; one that only printed it comes alive without its log.
///
/// # Errors
/// If the rows can't be written.
pub fn drop_objects(writer: &mut Writer, objects: &[ObjectHash]) -> Result<()> {
    make_set(writer, "dropped")?;
    for object in objects {
        writer
            .conn
            .prepare_cached("INSERT OR IGNORE INTO temp.dropped VALUES (?1)")
            .and_then(|mut s| s.execute([object]))
            .or_db(WHAT)?;
    }
    writer
        .conn
        .execute_batch(
            "UPDATE step SET state = 0 WHERE live = 0 AND state = 1 AND id IN
           (SELECT step FROM output WHERE object IN temp.dropped);
         DELETE FROM result WHERE id IN (SELECT result FROM result_output WHERE object IN temp.dropped)
           AND id NOT IN (SELECT x.result FROM step_result x JOIN step s ON s.id = x.step WHERE s.live = 1 AND s.state = 1);
         UPDATE attempt SET log = NULL WHERE log IN temp.dropped;
         DELETE FROM interrupted WHERE log IN temp.dropped;
         DELETE FROM object WHERE hash IN temp.dropped;",
        )
        .or_db(WHAT)?;
    Ok(())
}
