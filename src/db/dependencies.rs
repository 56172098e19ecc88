//! `depfile`: results that stand while the files which their steps said they have read have that content. Unaware of
//! where files are and how they are hashed.
//!
//! A step of such a task may have several results; `step_result` says which of them its outputs are, if it is done. A
//! result is *valid* if each of its dependencies is the present version of its file. What is present is what the last
//! plan found: it takes the stat of each file (`dependency_file` is shared by all steps, so that headers cost one stat
//! and not one for each object), hashes those whose inode changed, and notes them in `temp.dependency_seen`. A step whose
//! result isn't valid is pending. As a leaf it gets an older result that is valid, of its own or of other steps of the
//! same work, in the way in which steps share work; only if there is none, its script runs.
//!
//! A commit adds files and versions, and never changes what is present: a file that was edited while the run went on
//! has another inode than the plan saw, so the next plan looks at it again, and at every result that has any version of
//! it (`temp.doubted`).

use rusqlite::{OptionalExtension, Row, params};

use crate::attempt::Output;
use crate::error::{OrDb, Result};
use crate::ids::{DependencyFileId, ResultId, StepId};
use crate::object::{FieldHasher, ObjectHash};
use crate::order;

use crate::db::functions::short_key;
use crate::db::inputs::Stat;
use crate::db::types::{Name, NameBytes};
use crate::db::{Reader, Writer};

const WHAT: &str = "look for what steps have read";

/// What schema 9 adds.
pub(in crate::db) const MIGRATION: &str = "
-- Files that steps have said they read (`depfile`). A version is a content of one: 0 where there is no such file.
CREATE TABLE dependency_file(
  id       INTEGER PRIMARY KEY,
  path     ANY NOT NULL UNIQUE,        -- below the manifest's folder, or absolute
  size     INTEGER NOT NULL,
  mtime_ns INTEGER NOT NULL,           -- with ctime and inode: saves hashing, decides nothing
  ctime_ns INTEGER NOT NULL,
  inode    INTEGER NOT NULL,
  version  INTEGER NOT NULL            -- as last planned
) STRICT;
CREATE TABLE dependency_version(
  id     INTEGER PRIMARY KEY,
  file   INTEGER NOT NULL REFERENCES dependency_file(id),
  object BLOB NOT NULL,                -- SHA-256 of the content; of a folder, of the names in it
  UNIQUE(file, object)
) STRICT;

CREATE TABLE result(                   -- what steps of tasks with a depfile have made, now and before
  id       INTEGER PRIMARY KEY,
  step     INTEGER NOT NULL REFERENCES step(id),
  attempt  INTEGER NOT NULL,           -- of the step, which made it
  versions INTEGER NOT NULL            -- first 8 bytes of a hash of its dependencies
) STRICT;
CREATE INDEX idx_result_step ON result(step);
CREATE TABLE result_dependency(        -- the result stands while each of these is present
  result  INTEGER NOT NULL REFERENCES result(id),
  version INTEGER NOT NULL REFERENCES dependency_version(id),
  PRIMARY KEY(result, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX idx_result_dependency_version ON result_dependency(version);
CREATE TABLE result_output(
  result     INTEGER NOT NULL REFERENCES result(id),
  name       ANY NOT NULL,             -- path below OUTPUT_DIR
  object     BLOB NOT NULL,
  executable INTEGER NOT NULL,
  PRIMARY KEY(result, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE step_result(              -- which of them the outputs of a step are that is done
  step   INTEGER PRIMARY KEY REFERENCES step(id),
  result INTEGER NOT NULL REFERENCES result(id)
) STRICT;
CREATE INDEX idx_step_result ON step_result(result);
CREATE TRIGGER result_removed AFTER DELETE ON result BEGIN
  DELETE FROM result_dependency WHERE result = old.id;
  DELETE FROM result_output WHERE result = old.id;
  DELETE FROM step_result WHERE result = old.id;
END;
";

/// A file that a step has said it read, as it was when the step had ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Below the manifest's folder, or absolute.
    pub path: Vec<u8>,
    pub stat: Stat,
    pub object: ObjectHash,
}

/// A file that some result depends on, as the last plan found it.
#[derive(Debug, Clone)]
pub struct DependencyFile {
    pub id: DependencyFileId,
    /// Below the manifest's folder, or absolute.
    pub path: Vec<u8>,
    /// [`Stat::NONE`] if it was not there.
    pub stat: Stat,
}

/// A condition that the result whose id this SQL gives is valid, for a connection that has made a plan.
pub(in crate::db) fn is_valid(result: &str) -> String {
    format!(
        "NOT EXISTS (
           SELECT 1 FROM result_dependency d JOIN dependency_version v ON v.id = d.version
           JOIN dependency_file g ON g.id = v.file
           WHERE d.result = {result} AND {PRESENT} <> v.id)"
    )
}

/// The version of the file `g` that this plan has found.
pub(in crate::db) const PRESENT: &str =
    "coalesce((SELECT n.version FROM temp.dependency_seen n WHERE n.file = g.id), g.version)";

/// What a plan finds different from `dependency_file`, kept in temporary tables until it is applied.
pub struct Dependencies;

impl Dependencies {
    /// Makes the empty temporary tables.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn begin(reader: &Reader) -> Result<()> {
        reader
            .conn
            .execute_batch(
                "DROP TABLE IF EXISTS temp.dependency_seen; DROP TABLE IF EXISTS temp.doubted;
                 CREATE TEMP TABLE dependency_seen(
                   file INTEGER PRIMARY KEY, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER, inode INTEGER,
                   object BLOB,                -- NULL: it is not there
                   version INTEGER NOT NULL    -- of which results may know; 0: of which none does
                 ) STRICT;
                 CREATE TEMP TABLE doubted(result INTEGER PRIMARY KEY) STRICT;",
            )
            .or_db(WHAT)
    }

    /// Calls `see` with every file that a result depends on, in no order.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn each(reader: &Reader, see: &mut dyn FnMut(DependencyFile)) -> Result<()> {
        let mut statement = reader
            .conn
            .prepare_cached("SELECT size, mtime_ns, ctime_ns, inode, id, path FROM dependency_file")
            .or_db(WHAT)?;
        let mut rows = statement.query([]).or_db(WHAT)?;
        while let Some(row) = rows.next().or_db(WHAT)? {
            let file = DependencyFile {
                stat: read_stat(row).or_db(WHAT)?,
                id: row.get(4).or_db(WHAT)?,
                path: row.get::<_, NameBytes>(5).or_db(WHAT)?.0,
            };
            see(file);
        }
        Ok(())
    }

    /// Notes a file whose inode isn't as it was, with its content; `None`: it is not there, or can't be read.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn seen(
        reader: &Reader,
        file: DependencyFileId,
        stat: Stat,
        object: Option<ObjectHash>,
    ) -> Result<()> {
        let Stat { size, mtime_ns, ctime_ns, inode, .. } = stat;
        reader
            .conn
            .prepare_cached(
                "INSERT OR REPLACE INTO temp.dependency_seen VALUES (?1, ?2, ?3, ?4, ?5, ?6,
                   coalesce((SELECT id FROM dependency_version WHERE file = ?1 AND object = ?6), 0))",
            )
            .and_then(|mut s| s.execute(params![file, size, mtime_ns, ctime_ns, inode, object]))
            .or_db(WHAT)?;
        Ok(())
    }

    /// All that is different is noted.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn all_seen(reader: &Reader) -> Result<()> {
        reader
            .conn
            .execute_batch(
                "INSERT OR IGNORE INTO temp.doubted
                   SELECT d.result FROM temp.dependency_seen n
                   CROSS JOIN dependency_version v ON v.file = n.file AND v.id <> n.version
                   CROSS JOIN result_dependency d ON d.version = v.id;",
            )
            .or_db(WHAT)
    }

    /// What is known of a file: its inode and its content, if it was there as last planned.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn known(reader: &Reader, path: &[u8]) -> Result<Option<(Stat, ObjectHash)>> {
        reader
            .conn
            .prepare_cached(
                "SELECT size, mtime_ns, ctime_ns, inode, v.object FROM dependency_file f
                 JOIN dependency_version v ON v.id = f.version WHERE path = ?1",
            )
            .and_then(|mut s| {
                s.query_row([Name(path)], |row| Ok((read_stat(row)?, row.get(4)?))).optional()
            })
            .or_db(WHAT)
    }

    /// Forgets files and contents that no result depends on.
    ///
    /// # Errors
    /// If the rows can't be written.
    pub fn prune(writer: &mut Writer) -> Result<()> {
        writer
            .conn
            .execute_batch(
                "DELETE FROM dependency_file WHERE NOT EXISTS (
                   SELECT 1 FROM dependency_version v JOIN result_dependency d ON d.version = v.id
                   WHERE v.file = dependency_file.id);
                 DELETE FROM dependency_version WHERE file NOT IN (SELECT id FROM dependency_file)
                   OR NOT EXISTS (SELECT 1 FROM result_dependency d WHERE d.version = dependency_version.id)
                     AND id NOT IN (SELECT version FROM dependency_file);",
            )
            .or_db(WHAT)
    }

    /// Makes what was found permanent, inside the caller's transaction.
    pub(in crate::db) fn apply(writer: &mut Writer) -> Result<()> {
        writer
            .conn
            .execute_batch(
                "INSERT OR IGNORE INTO dependency_version(file, object)
                   SELECT file, object FROM temp.dependency_seen WHERE object IS NOT NULL;
                 UPDATE dependency_file SET (size, mtime_ns, ctime_ns, inode, version) = (
                   SELECT n.size, n.mtime_ns, n.ctime_ns, n.inode, coalesce((
                     SELECT v.id FROM dependency_version v WHERE v.file = n.file AND v.object = n.object), 0)
                   FROM temp.dependency_seen n WHERE n.file = dependency_file.id)
                 WHERE id IN (SELECT file FROM temp.dependency_seen);
                 DELETE FROM temp.dependency_seen; DELETE FROM temp.doubted;",
            )
            .or_db(WHAT)
    }
}

/// Whether a step of history may come alive with the result that it has.
pub(in crate::db) fn has_valid_result(reader: &Reader, step: StepId) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM step_result x WHERE x.step = ?1 AND {})",
        is_valid("x.result")
    );
    reader
        .conn
        .prepare_cached(&sql)
        .and_then(|mut s| s.query_row([step], |row| row.get(0)))
        .or_db(WHAT)
}

/// The step that made a result.
pub(in crate::db) fn maker(reader: &Reader, result: ResultId) -> Result<StepId> {
    reader
        .conn
        .prepare_cached("SELECT step FROM result WHERE id = ?1")
        .and_then(|mut s| s.query_row([result], |row| row.get(0)))
        .or_db(WHAT)
}

/// Notes what an attempt of a step has made, and on what that depends.
pub(in crate::db) fn keep_result(
    writer: &mut Writer,
    (step, attempt): (StepId, i64),
    outputs: &[Output],
    dependencies: &[Dependency],
) -> Result<()> {
    let mut versions = Vec::with_capacity(dependencies.len());
    for dependency in dependencies {
        versions.push(version_of(writer, dependency)?);
    }
    order::sort_by(&mut versions, Ord::cmp);
    versions.dedup();
    let mut hasher = FieldHasher::new("task-pipeline dependencies 1");
    for version in &versions {
        hasher.field("version", &version.to_le_bytes());
    }
    let hash = short_key(&hasher.finish());
    let result = insert_result(writer, (step, attempt, hash), outputs, &versions)?;
    set_result(writer, step, Some(result))
}

fn insert_result(
    writer: &mut Writer,
    (step, attempt, hash): (StepId, i64, i64),
    outputs: &[Output],
    versions: &[i64],
) -> Result<ResultId> {
    let statement = |sql| writer.conn.prepare_cached(sql).or_db(WHAT);
    statement("INSERT INTO result(step, attempt, versions) VALUES (?1, ?2, ?3)")?
        .execute(params![step, attempt, hash])
        .or_db(WHAT)?;
    let result = ResultId(writer.conn.last_insert_rowid());
    let mut insert = statement("INSERT INTO result_dependency(result, version) VALUES (?1, ?2)")?;
    for version in versions {
        insert.execute(params![result, version]).or_db(WHAT)?;
    }
    let mut insert = statement(
        "INSERT INTO result_output(result, name, object, executable) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for Output { name, object, executable, .. } in outputs {
        insert.execute(params![result, Name(name), object, executable]).or_db(WHAT)?;
    }
    // One that stood on the very same is replaced. Whoever shares it goes on with what stands as long.
    let sql = "UPDATE step_result SET result = ?1 WHERE result IN (
                 SELECT id FROM result WHERE step = ?2 AND versions = ?3 AND id <> ?1)";
    statement(sql)?.execute(params![result, step, hash]).or_db(WHAT)?;
    statement("DELETE FROM result WHERE step = ?2 AND versions = ?3 AND id <> ?1")?
        .execute(params![result, step, hash])
        .or_db(WHAT)?;
    Ok(result)
}

/// The row of a content of a file; one that is new is present.
fn version_of(writer: &mut Writer, dependency: &Dependency) -> Result<i64> {
    let Dependency { path, stat, object } = dependency;
    let statement = |sql| writer.conn.prepare_cached(sql).or_db(WHAT);
    let file: Option<DependencyFileId> =
        statement("SELECT id FROM dependency_file WHERE path = ?1")?
            .query_row([Name(path)], |row| row.get(0))
            .optional()
            .or_db(WHAT)?;
    let add_version = |file: DependencyFileId| {
        statement("INSERT INTO dependency_version(file, object) VALUES (?1, ?2)")?
            .execute(params![file, object])
            .or_db(WHAT)?;
        Ok(writer.conn.last_insert_rowid())
    };
    if let Some(file) = file {
        let known: Option<i64> =
            statement("SELECT id FROM dependency_version WHERE file = ?1 AND object = ?2")?
                .query_row(params![file, object], |row| row.get(0))
                .optional()
                .or_db(WHAT)?;
        return known.map_or_else(|| add_version(file), Ok);
    }
    let Stat { size, mtime_ns, ctime_ns, inode, .. } = *stat;
    statement(
        "INSERT INTO dependency_file(path, size, mtime_ns, ctime_ns, inode, version)
         VALUES (?1, ?2, ?3, ?4, ?5, 0)",
    )?
    .execute(params![Name(path), size, mtime_ns, ctime_ns, inode])
    .or_db(WHAT)?;
    let file = DependencyFileId(writer.conn.last_insert_rowid());
    let version = add_version(file)?;
    statement("UPDATE dependency_file SET version = ?2 WHERE id = ?1")?
        .execute(params![file, version])
        .or_db(WHAT)?;
    Ok(version)
}

/// Says which result the outputs of a step are; `None`: it has none.
pub(in crate::db) fn set_result(
    writer: &mut Writer,
    step: StepId,
    result: Option<ResultId>,
) -> Result<()> {
    let changed = match result {
        Some(result) => writer
            .conn
            .prepare_cached("INSERT OR REPLACE INTO step_result(step, result) VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![step, result])),
        None => writer
            .conn
            .prepare_cached("DELETE FROM step_result WHERE step = ?1")
            .and_then(|mut s| s.execute([step])),
    };
    changed.or_db(WHAT)?;
    Ok(())
}

/// The result that a step has.
pub(in crate::db) fn result_of(reader: &Reader, step: StepId) -> Result<Option<ResultId>> {
    reader
        .conn
        .prepare_cached("SELECT result FROM step_result WHERE step = ?1")
        .and_then(|mut s| s.query_row([step], |row| row.get(0)).optional())
        .or_db(WHAT)
}

/// The files that a result depends on, with their content, by path.
///
/// # Errors
/// If the database can't be read.
pub fn dependencies_of(reader: &Reader, result: ResultId) -> Result<Vec<(Vec<u8>, ObjectHash)>> {
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT f.path, v.object FROM result_dependency d JOIN dependency_version v ON v.id = d.version
             JOIN dependency_file f ON f.id = v.file WHERE d.result = ?1 ORDER BY f.path",
        )
        .or_db(WHAT)?;
    let rows =
        statement.query_map([result], |row| Ok((row.get::<_, NameBytes>(0)?.0, row.get(1)?)));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// The attempt that made the result of a step, of the step that made it; `None`: its task has no depfile, or it has no
/// result.
///
/// # Errors
/// If the database can't be read.
pub fn attempt_of_result(reader: &Reader, step: StepId) -> Result<Option<i64>> {
    reader
        .conn
        .prepare_cached(
            "SELECT r.attempt FROM step_result x JOIN result r ON r.id = x.result WHERE x.step = ?1",
        )
        .and_then(|mut s| s.query_row([step], |row| row.get(0)).optional())
        .or_db(WHAT)
}

/// What a step has said it read, as `explain` looks at it.
#[derive(Debug, Clone)]
pub struct StepDependencies {
    /// The step that made its result, or its last one, and in which attempt.
    pub made_by: (StepId, i64),
    /// The files that the result depends on, by path.
    pub files: Vec<Vec<u8>>,
    /// Those of them that the last plan found changed.
    pub changed: Vec<Vec<u8>>,
    /// Those that were not what they had been for the attempt before that one.
    pub changed_before: Vec<Vec<u8>>,
}

/// What the result of a step depends on, or its last result if it has none; `None`: it never had any.
///
/// # Errors
/// If the database can't be read.
pub fn step_dependencies(reader: &Reader, step: StepId) -> Result<Option<StepDependencies>> {
    let found: Option<(ResultId, StepId, i64)> = reader
        .conn
        .prepare_cached(
            "SELECT r.id, r.step, r.attempt FROM result r WHERE r.id = coalesce(
               (SELECT result FROM step_result WHERE step = ?1), (SELECT max(id) FROM result WHERE step = ?1))",
        )
        .and_then(|mut s| {
            s.query_row([step], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()
        })
        .or_db(WHAT)?;
    let Some((result, maker, attempt)) = found else { return Ok(None) };
    let paths = |sql: &str| {
        let mut statement = reader.conn.prepare_cached(sql).or_db(WHAT)?;
        let rows = statement.query_map([result], |row| Ok(row.get::<_, NameBytes>(0)?.0));
        rows.and_then(|rows| rows.collect::<rusqlite::Result<Vec<_>>>()).or_db(WHAT)
    };
    let changed = paths(
        "SELECT f.path FROM result_dependency d JOIN dependency_version v ON v.id = d.version
         JOIN dependency_file f ON f.id = v.file WHERE d.result = ?1 AND f.version <> v.id ORDER BY f.path",
    )?;
    let changed_before = paths(
        "SELECT f.path FROM result r JOIN result_dependency d ON d.result = (
           SELECT p.id FROM result p WHERE p.step = r.step AND p.attempt < r.attempt ORDER BY p.attempt DESC LIMIT 1)
         JOIN dependency_version v ON v.id = d.version JOIN dependency_file f ON f.id = v.file
         WHERE r.id = ?1 AND v.id NOT IN (SELECT version FROM result_dependency WHERE result = r.id)
         ORDER BY f.path",
    )?;
    let files = dependencies_of(reader, result)?.into_iter().map(|(path, _)| path).collect();
    Ok(Some(StepDependencies { made_by: (maker, attempt), files, changed, changed_before }))
}

/// Reads (size, mtime_ns, ctime_ns, inode).
fn read_stat(row: &Row<'_>) -> rusqlite::Result<Stat> {
    Ok(Stat {
        size: row.get(0)?,
        mtime_ns: row.get(1)?,
        ctime_ns: row.get(2)?,
        inode: row.get(3)?,
        executable: false,
    })
}
