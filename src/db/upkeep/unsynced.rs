//! What was committed without fsync, and so may be spoilt by a power cut: `--durability off`.

use rusqlite::OptionalExtension;

use crate::error::{OrDb, Result};
use crate::object::ObjectHash;

use crate::db::upkeep::gc::{History, each_garbage};
use crate::db::{Reader, Writer};

const WHAT: &str = "look for unsynced objects";

/// Where objects were committed without fsync that nobody has made durable or looked at since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsynced {
    /// Under this boot and mount: they are good as long as the power stays on.
    pub here: bool,
    /// Under another one: they may be spoilt.
    pub elsewhere: bool,
}

/// Looks at the runs, and at what [`note_unsynced`] has noted.
///
/// # Errors
/// If the database can't be read.
pub fn unsynced(reader: &Reader, boot: &str) -> Result<Unsynced> {
    reader
        .conn
        .query_row(
            "SELECT coalesce(max(boot = ?1), 0), coalesce(max(boot <> ?1), 0) FROM
           (SELECT boot FROM run WHERE sound = 0
            UNION ALL SELECT value FROM meta WHERE key = 'unsynced')",
            [boot],
            |row| Ok(Unsynced { here: row.get(0)?, elsewhere: row.get(1)? }),
        )
        .or_db(WHAT)
}

/// Objects are about to be committed without fsync, before their run has a row that would tell. What
/// comes later in the log never survives what comes earlier, so this does.
///
/// # Errors
/// If the rows can't be written.
pub fn note_unsynced(writer: &mut Writer, boot: &str) -> Result<()> {
    let noted: Option<String> = writer
        .conn
        .query_row("SELECT value FROM meta WHERE key = 'unsynced'", [], |row| row.get(0))
        .optional()
        .or_db(WHAT)?;
    if noted.as_deref() != Some(boot) {
        writer
            .conn
            .execute("INSERT OR REPLACE INTO meta(key, value) VALUES ('unsynced', ?1)", [boot])
            .or_db(WHAT)?;
    }
    Ok(())
}

/// Everything that was ever committed is on the disk.
///
/// # Errors
/// If the rows can't be written.
pub fn all_synced(writer: &mut Writer) -> Result<()> {
    writer
        .conn
        .execute_batch(
            "UPDATE run SET sound = 1 WHERE sound = 0; DELETE FROM meta WHERE key = 'unsynced';",
        )
        .or_db(WHAT)?;
    Ok(())
}

/// Every object that may have been committed without fsync under another boot: calls `see` with (hash,
/// bytes). Which run has read an input, or listed what is gathered, is not written down; so it is all of
/// those, and what nothing refers to, because its run died before it had planned anything.
///
/// # Errors
/// If the database can't be read.
pub fn each_unsound_object(
    reader: &Reader,
    boot: &str,
    see: &mut dyn FnMut(ObjectHash, u64),
) -> Result<()> {
    let mut statement = reader
        .conn
        .prepare(
            "WITH unsound(run) AS (SELECT id FROM run WHERE sound = 0 AND boot <> ?1),
             steps(step) AS (SELECT step FROM attempt WHERE run IN unsound)
             SELECT hash, size FROM object WHERE hash IN (
               SELECT object FROM output WHERE step IN steps
               UNION SELECT log FROM attempt WHERE run IN unsound
               UNION SELECT log FROM interrupted WHERE run IN unsound
               UNION SELECT object FROM input_file
               UNION SELECT object FROM argument
               UNION SELECT object FROM step
                 WHERE id IN steps OR (live = 1 AND state <> 1)
                   OR (live = 1 AND task IN (SELECT id FROM task WHERE gather = 1)))",
        )
        .or_db(WHAT)?;
    let mut rows = statement.query([boot]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        see(row.get(0).or_db(WHAT)?, row.get::<_, i64>(1).or_db(WHAT)?.unsigned_abs());
    }
    each_garbage(reader, History::All, see)
}

/// Objects that turned out bad: their rows go, and all that made or read them is to be done again. A
/// file that held one is hashed anew.
///
/// # Errors
/// If the rows can't be written.
pub fn redo(writer: &mut Writer, bad: &[ObjectHash], boot: &str) -> Result<()> {
    for object in bad {
        let each = [
            "UPDATE step SET state = 0 WHERE id IN (SELECT step FROM output WHERE object = ?1)",
            "DELETE FROM result WHERE id IN (SELECT result FROM result_output WHERE object = ?1)",
            "UPDATE attempt SET log = NULL WHERE log = ?1",
            "DELETE FROM interrupted WHERE log = ?1",
            "DELETE FROM input_file WHERE object = ?1",
            "DELETE FROM object WHERE hash = ?1",
        ];
        for sql in each {
            writer.conn.prepare_cached(sql).and_then(|mut s| s.execute([object])).or_db(WHAT)?;
        }
    }
    if !bad.is_empty() {
        // Every task is planned whole, and every file compared.
        writer.conn.execute_batch(
            "DELETE FROM meta WHERE key IN ('complete', 'settled', 'unsettled'); UPDATE task SET wiring = NULL, scan = NULL;",
        )
        .or_db(WHAT)?;
    }
    for sql in [
        "UPDATE run SET sound = 1 WHERE sound = 0 AND boot <> ?1",
        "DELETE FROM meta WHERE key = 'unsynced' AND value <> ?1",
    ] {
        writer.conn.execute(sql, [boot]).or_db(WHAT)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::{Db, put_objects};

    #[test]
    fn objects_of_a_run_that_died_before_it_had_planned_are_looked_at_after_a_power_cut() {
        let db = Db::empty().unwrap();
        let input = (ObjectHash::of(b"input"), 5);
        db.write(|writer| put_objects(writer, &[(ObjectHash::of(b"earlier"), 7)])).unwrap();
        let nothing = Unsynced { here: false, elsewhere: false };
        assert_eq!(db.read(|reader| unsynced(reader, "one")).unwrap(), nothing);

        db.write(|writer| note_unsynced(writer, "one")).unwrap();
        db.write(|writer| put_objects(writer, &[input])).unwrap();
        assert_eq!(
            db.read(|reader| unsynced(reader, "one")).unwrap(),
            Unsynced { here: true, elsewhere: false }
        );
        assert_eq!(
            db.read(|reader| unsynced(reader, "two")).unwrap(),
            Unsynced { here: false, elsewhere: true }
        );
        let mut seen = Vec::new();
        db.read(|reader| {
            each_unsound_object(reader, "two", &mut |hash, size| seen.push((hash, size)))
        })
        .unwrap();
        assert!(seen.contains(&input));

        db.write(|writer| redo(writer, &[input.0], "two")).unwrap();
        assert_eq!(db.read(|reader| unsynced(reader, "two")).unwrap(), nothing);
        assert_eq!(db.read(|reader| crate::db::known_object(reader, &input.0)).unwrap(), None);
    }
}
