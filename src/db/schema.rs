//! The tables, as an interface: people query them, so `fixtures/schemas/README.md` describes them. Unaware
//! of what anyone does with them.
//!
//! `task`, `step`, `step_link` and the three `idx_…` named in their comments are the owner's; the rest
//! stands beside them. Names of files are TEXT when they are UTF-8 and BLOB otherwise, which keeps
//! every name exact and the usual one readable. Hashes are 32-byte BLOBs (`lower(hex(…))` shows
//! them), but for `step.object_hash`, which is hex as the owner has it, and made from `step.object`.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::error::{Error, OrDb, Result};
use crate::labels::Labels;
use crate::origin::Origin;

/// `PRAGMA application_id`: "tskp". Tells our database from anybody else's.
const APPLICATION_ID: i32 = 0x7473_6b70;

/// Grows at the end only: an entry's index plus one is the schema version it makes.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE recipe(
  id     INTEGER PRIMARY KEY,
  hash   BLOB NOT NULL UNIQUE,         -- identity of what a task does
  fields TEXT NOT NULL                 -- JSON: interpreter, script, env, files, gather
) STRICT;

CREATE TABLE task(
  id       INTEGER PRIMARY KEY,
  name     TEXT NOT NULL UNIQUE,
  script   TEXT NOT NULL,
  position INTEGER,                    -- place in the manifest, from 0; NULL: no longer in it
  recipe   INTEGER NOT NULL REFERENCES recipe(id),
  gather   INTEGER NOT NULL,
  wiring   BLOB,                       -- recipe, from, match and inputs as last planned
  scan     BLOB                        -- fingerprint of its input files as last planned
) STRICT;
CREATE INDEX idx_task_name ON task(name);

CREATE TABLE step(
  id          INTEGER PRIMARY KEY,
  object_hash TEXT NOT NULL,           -- hex name of the object that the step works on
  task        INTEGER NOT NULL REFERENCES task(id),
  recipe      INTEGER NOT NULL REFERENCES recipe(id),
  name        ANY NOT NULL,            -- logical name of the input
  key         INTEGER NOT NULL,        -- first 8 bytes of STEP_KEY
  executable  INTEGER NOT NULL,        -- the input has the executable bit
  live        INTEGER NOT NULL,        -- 1: belongs to the present manifest and inputs; 0: history
  state       INTEGER NOT NULL         -- 0 pending, 1 done, 2 failed
) STRICT;
CREATE INDEX idx_step_task ON step(task);
CREATE INDEX idx_step_key  ON step(key);
CREATE INDEX idx_step_todo ON step(task, state) WHERE live = 1 AND state <> 1;

CREATE TABLE step_link(
  from_step_id INTEGER NOT NULL REFERENCES step(id),   -- made the object
  to_step_id   INTEGER NOT NULL REFERENCES step(id),   -- consumes it
  PRIMARY KEY(from_step_id, to_step_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_step_link_from ON step_link(from_step_id);
CREATE INDEX idx_step_link_to   ON step_link(to_step_id);

CREATE TABLE object(
  hash BLOB NOT NULL PRIMARY KEY,
  size INTEGER NOT NULL                -- bytes
) STRICT, WITHOUT ROWID;

CREATE TABLE output(
  step       INTEGER NOT NULL REFERENCES step(id),
  name       ANY NOT NULL,             -- path below OUTPUT_DIR
  object     BLOB NOT NULL,
  executable INTEGER NOT NULL,
  PRIMARY KEY(step, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt(
  step       INTEGER NOT NULL REFERENCES step(id),
  number     INTEGER NOT NULL,         -- from 1, over all runs
  run        INTEGER NOT NULL REFERENCES run(id),
  outcome    TEXT NOT NULL,            -- ok, exit, signal, timeout, refused, start
  code       INTEGER,                  -- exit code or signal number; NULL: 0 or none
  detail     TEXT,                     -- why it was refused or not started
  started_ms INTEGER NOT NULL,         -- milliseconds since 1970, UTC
  wall_us    INTEGER NOT NULL,         -- microseconds
  user_us    INTEGER NOT NULL,
  system_us  INTEGER NOT NULL,
  peak_kib   INTEGER NOT NULL,         -- peak memory, KiB
  log        BLOB,                     -- object with stdout and stderr; NULL: nothing was printed
  PRIMARY KEY(step, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE run(
  id         INTEGER PRIMARY KEY,
  started_ms INTEGER NOT NULL,
  ended_ms   INTEGER,                  -- NULL: under way, or killed
  boot       TEXT NOT NULL,            -- boot id of the machine, mount id of the store
  pid        INTEGER NOT NULL,
  durability TEXT NOT NULL,            -- batch, off
  sound      INTEGER NOT NULL,         -- 0: a power cut may have spoilt what it committed
  manifest   ANY NOT NULL,             -- path, as it was named
  dir        ANY NOT NULL,             -- its folder, absolute
  result     TEXT                      -- complete, partial, failed, stopped; NULL as ended_ms
) STRICT;

CREATE TABLE input_file(
  task       INTEGER NOT NULL,         -- 0: one of a task's `files`
  path       ANY NOT NULL,             -- below the manifest's folder, or absolute
  name       ANY NOT NULL,             -- logical name
  size       INTEGER NOT NULL,
  mtime_ns   INTEGER NOT NULL,         -- with ctime and inode: saves hashing, decides nothing
  ctime_ns   INTEGER NOT NULL,
  inode      INTEGER NOT NULL,
  executable INTEGER NOT NULL,
  object     BLOB NOT NULL,
  PRIMARY KEY(task, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE argument(                 -- INPUT… of the last run that named any
  position INTEGER PRIMARY KEY,
  path     ANY NOT NULL,               -- absolute; `-` is what standard input held
  object   BLOB                        -- of standard input
) STRICT;

CREATE TABLE meta(key TEXT NOT NULL PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;
",
    "
-- Which of the scripts that may run at once it was: from 1 to -j. NULL: made by an older build.
ALTER TABLE attempt ADD COLUMN worker INTEGER;
",
    "
-- The hex hash took 32 bytes a step more than the hash itself; now it is worked out when it is asked for.
CREATE TABLE step_3(
  id          INTEGER PRIMARY KEY,
  object_hash TEXT NOT NULL GENERATED ALWAYS AS (lower(hex(object))) VIRTUAL,  -- hex name of the object
  object      BLOB NOT NULL,           -- what the step works on
  task        INTEGER NOT NULL REFERENCES task(id),
  recipe      INTEGER NOT NULL REFERENCES recipe(id),
  name        ANY NOT NULL,            -- logical name of the input
  key         INTEGER NOT NULL,        -- first 8 bytes of STEP_KEY
  executable  INTEGER NOT NULL,        -- the input has the executable bit
  live        INTEGER NOT NULL,        -- 1: belongs to the present manifest and inputs; 0: history
  state       INTEGER NOT NULL         -- 0 pending, 1 done, 2 failed
) STRICT;
INSERT INTO step_3(id, object, task, recipe, name, key, executable, live, state)
  SELECT id, unhex(object_hash), task, recipe, name, key, executable, live, state FROM step;
DROP TABLE step;
ALTER TABLE step_3 RENAME TO step;
CREATE INDEX idx_step_task ON step(task);
CREATE INDEX idx_step_key  ON step(key);
CREATE INDEX idx_step_todo ON step(task, state) WHERE live = 1 AND state <> 1;
",
    crate::db::commit::totals::MIGRATION,
    "
-- INPUTs are remembered for each manifest. NULL: by an older build, which did not note for which.
ALTER TABLE argument ADD COLUMN manifest ANY;                   -- its path, absolute

-- The executable bit of the input became a part of STEP_KEY, where it is set. An older build did not follow a change of
-- it: tasks that may have steps with a bit other than their input's are looked at anew.
UPDATE step SET key = step_key((SELECT hash FROM recipe r WHERE r.id = step.recipe), object, name, 1)
  WHERE executable = 1;
UPDATE task SET wiring = NULL WHERE id IN (
  SELECT task FROM input_file WHERE executable = 1
  UNION SELECT task FROM step WHERE live = 1 AND executable = 1
  UNION SELECT s.task FROM output o JOIN step_link l ON l.from_step_id = o.step
    JOIN step s ON s.id = l.to_step_id AND s.live = 1 WHERE o.executable = 1);
DELETE FROM meta WHERE key = 'complete' AND EXISTS (
  SELECT 1 FROM task WHERE position IS NOT NULL AND wiring IS NULL);
",
    "
-- Two steps on equal bytes are two steps: origin tells where the input comes from. Older builds made them one, so
-- every task is looked at anew; what they made stays, see `origins`.
ALTER TABLE step ADD COLUMN origin INTEGER NOT NULL DEFAULT 0;  -- first 8 bytes of a hash of the way to its input
ALTER TABLE step ADD COLUMN labels TEXT;                        -- JSON object, keys sorted; NULL: none
ALTER TABLE step ADD COLUMN same_as INTEGER;                    -- step that did the same work, whose results it has
DROP INDEX idx_step_key;
CREATE INDEX idx_step_key ON step(key, origin);
UPDATE task SET wiring = NULL, scan = NULL;
DELETE FROM meta WHERE key = 'complete';
",
    "
ALTER TABLE step ADD COLUMN side BLOB;  -- what it sees by `with`, a row of side; NULL: its task has none
CREATE INDEX idx_step_side ON step(side) WHERE side IS NOT NULL;

CREATE TABLE side(
  hash    BLOB NOT NULL UNIQUE,
  listing BLOB NOT NULL                -- as `sha256sum` writes it: TASK/NAME of all that is seen
) STRICT;

CREATE TABLE side_link(
  from_step_id INTEGER NOT NULL REFERENCES step(id),   -- made something that is seen
  side         BLOB NOT NULL REFERENCES side(hash),
  PRIMARY KEY(from_step_id, side)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_side_link_side ON side_link(side);
",
    "
ALTER TABLE attempt ADD COLUMN peak_of TEXT;   -- whose peak_kib is: tree, runner; NULL: the largest process's
ALTER TABLE task ADD COLUMN resources TEXT;    -- JSON: cpus, memory in bytes, uses; NULL: none declared
",
    crate::db::dependencies::MIGRATION,
    "
-- Steps that shared one start of a script have times and log of all of them together. One of them may have the outcome
-- `reported`.
ALTER TABLE attempt ADD COLUMN batch      INTEGER;   -- which start it was, counted within its run; NULL: none shared
ALTER TABLE attempt ADD COLUMN batch_item INTEGER;   -- which of its steps, from 1
ALTER TABLE attempt ADD COLUMN batch_size INTEGER;   -- how many there were
",
    "
ALTER TABLE attempt ADD COLUMN forked INTEGER;   -- 1: a loaded interpreter was forked; NULL: it was started anew
",
    "
ALTER TABLE run ADD COLUMN steps TEXT;   -- JSON: total, done, reused, failed, left; NULL: not ended, or an older build
",
    crate::db::workers::MIGRATION,
    crate::db::interrupted::MIGRATION,
];

/// Schema whose steps have an origin.
const WITH_ORIGINS: i32 = 6;

/// The newest schema that this build knows.
pub(in crate::db) const VERSION: i32 = MIGRATIONS.len() as i32;

/// What `check` found.
pub(in crate::db) enum FoundSchema {
    /// An empty file: nobody's database yet.
    Nothing,
    /// Ours, of this version.
    Version(i32),
}

/// Reads whose database this is.
///
/// # Errors
/// [`Error::Foreign`] for another program's database and for a newer schema.
pub(in crate::db) fn check(conn: &Connection, path: &std::path::Path) -> Result<FoundSchema> {
    // One transaction: a run that makes the tables just now is seen before or after, not in between.
    let tx = conn.unchecked_transaction().or_db("read the schema version")?;
    let (id, version): (i32, i32) = tx
        .query_row(
            "SELECT application_id, user_version FROM pragma_application_id, pragma_user_version",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .or_db("read the schema version")?;
    let tables: i64 = tx
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .or_db("read the schema")?;
    drop(tx);
    let foreign = |why: String| Err(Error::Foreign { path: path.to_owned(), why });
    match (id, version, tables) {
        (0, 0, 0) => Ok(FoundSchema::Nothing),
        (APPLICATION_ID, newer, _) if newer > VERSION => foreign(format!(
            "has schema {newer}, but this build knows schemas up to {VERSION}; \
             use the newer task-pipeline that wrote it, or another --db"
        )),
        (APPLICATION_ID, version, _) if version > 0 => Ok(FoundSchema::Version(version)),
        _ => foreign("is a SQLite database of another program; choose another --db".to_owned()),
    }
}

/// Brings a database to [`VERSION`]. One transaction for all steps: readers of a new database must not find
/// it half made and take it for an old one.
pub(in crate::db) fn migrate(conn: &Connection, found: &FoundSchema) -> Result<()> {
    let from = match found {
        FoundSchema::Nothing => 0,
        FoundSchema::Version(version) => *version,
    };
    if from >= VERSION {
        return Ok(());
    }
    let what = "make the tables";
    let tx = Transaction::new_unchecked(conn, TransactionBehavior::Exclusive).or_db(what)?;
    for sql in &MIGRATIONS[from.max(0) as usize..] {
        tx.execute_batch(sql).or_db(what)?;
    }
    if (1..WITH_ORIGINS).contains(&from) {
        origins(&tx).or_db(what)?;
    }
    tx.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
    ))
    .or_db(what)?;
    tx.commit().or_db(what)
}

/// Gives the steps of an older build their origins, from the input files down the links. A step that stood for several
/// of one content gets that of one of them; the others are made by the next run, without running anything, since the
/// work is done.
fn origins(conn: &Connection) -> rusqlite::Result<()> {
    conn.execute_batch(
        "CREATE TEMP TABLE level(step INTEGER PRIMARY KEY);
         CREATE TEMP TABLE next_level(step INTEGER PRIMARY KEY, origin INTEGER);
         INSERT OR IGNORE INTO next_level SELECT s.id, file_origin(f.path) FROM input_file f
           JOIN step s ON s.task = f.task AND s.object = f.object AND s.name = f.name WHERE s.live = 1;",
    )?;
    conn.execute(
        "INSERT OR IGNORE INTO next_level SELECT id, ?1 FROM step
         WHERE task IN (SELECT id FROM task WHERE gather = 1)",
        [Origin::group(&Labels::default())],
    )?;
    while conn.query_row("SELECT EXISTS (SELECT 1 FROM next_level)", [], |row| row.get(0))? {
        conn.execute_batch(
            "UPDATE step SET origin = (SELECT origin FROM next_level n WHERE n.step = step.id)
               WHERE id IN (SELECT step FROM next_level);
             DELETE FROM level; INSERT INTO level SELECT step FROM next_level; DELETE FROM next_level;
             INSERT OR IGNORE INTO next_level SELECT s.id, output_origin(p.task, p.origin, s.name)
               FROM level JOIN step p ON p.id = level.step JOIN step_link l ON l.from_step_id = p.id
               JOIN step s ON s.id = l.to_step_id WHERE s.origin = 0;",
        )?;
    }
    conn.execute_batch("DROP TABLE level; DROP TABLE next_level;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_database_gets_its_tables_in_one_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let conn = Connection::open(&path).unwrap();
        crate::db::functions::register_identity(&conn).unwrap();
        migrate(&conn, &FoundSchema::Nothing).unwrap();
        drop(conn);
        // The file change counter: how many transactions there were.
        assert_eq!(std::fs::read(&path).unwrap()[24..28], 1_u32.to_be_bytes());
    }
}
