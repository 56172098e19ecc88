//! Input files as they were when last hashed. (size, mtime, ctime, inode) only saves hashing again;
//! what decides is the content.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use rusqlite::{OptionalExtension, Row, params};

use crate::error::{OrDb, Result};
use crate::ids::TaskId;
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::origin::Origin;

use crate::db::types::{Name, NameBytes};
use crate::db::{Reader, Writer};

/// The `task` of the rows that stand for a task's `files`.
pub const FILES: TaskId = TaskId(0);

/// The `task` of the rows that stand for the files which a task's table names; the rows of the task itself stand for those
/// of its table: the path has the labels, the name has the files.
pub fn files_of_rows(task: TaskId) -> TaskId {
    TaskId(-task.0)
}

/// What a file's inode says of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    pub size: i64,
    /// Nanoseconds since 1970; [`Stat::UNTRUSTED`] if the file was hashed so soon after a change that
    /// a later change could leave the same times.
    pub mtime_ns: i64,
    pub ctime_ns: i64,
    pub inode: i64,
    pub executable: bool,
}

impl Stat {
    /// An `mtime_ns` that no file has: the file is hashed again next time.
    pub const UNTRUSTED: i64 = i64::MIN;

    /// Of what is no file.
    pub const NONE: Stat = Stat { size: 0, mtime_ns: 0, ctime_ns: 0, inode: 0, executable: false };

    /// What an inode says.
    pub fn of(found: &Metadata) -> Stat {
        Stat {
            size: i64::try_from(found.size()).unwrap_or(i64::MAX),
            mtime_ns: nanoseconds(found.mtime(), found.mtime_nsec()),
            ctime_ns: nanoseconds(found.ctime(), found.ctime_nsec()),
            inode: found.ino() as i64,
            executable: found.mode() & 0o111 != 0,
        }
    }

    /// The same, of what another call for it gave.
    pub fn of_inode(found: &rustix::fs::Stat) -> Stat {
        Stat {
            size: found.st_size,
            mtime_ns: nanoseconds(found.st_mtime, found.st_mtime_nsec),
            ctime_ns: nanoseconds(found.st_ctime, found.st_ctime_nsec),
            inode: found.st_ino as i64,
            executable: found.st_mode & 0o111 != 0,
        }
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// A row of `input_file`, less its task and path.
#[derive(Debug, Clone)]
pub struct InputRow {
    pub name: Vec<u8>,
    pub stat: Stat,
    pub object: ObjectHash,
}

/// What a scan found different from `input_file`, kept in temporary tables until the plan is applied:
/// the cache must never know a file whose step was not planned.
pub struct Inputs;

impl Inputs {
    /// Makes the empty temporary tables.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn begin(reader: &Reader) -> Result<()> {
        reader
            .conn
            .execute_batch(
                "DROP TABLE IF EXISTS temp.scan; DROP TABLE IF EXISTS temp.gone;
             DROP TABLE IF EXISTS temp.listing;
             CREATE TEMP TABLE scan(
               task INTEGER NOT NULL, path ANY NOT NULL, name ANY NOT NULL, size INTEGER NOT NULL,
               mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
               executable INTEGER NOT NULL, object BLOB NOT NULL, PRIMARY KEY(task, path)
             ) STRICT, WITHOUT ROWID;
             CREATE TEMP TABLE gone(
               task INTEGER NOT NULL, path ANY NOT NULL, PRIMARY KEY(task, path)
             ) STRICT, WITHOUT ROWID;
             CREATE TEMP TABLE listing(
               task INTEGER NOT NULL, name ANY NOT NULL, object BLOB NOT NULL, labels TEXT,
               origin INTEGER NOT NULL
             ) STRICT;
             CREATE INDEX temp.listing_task ON listing(task);",
            )
            .or_db("prepare the scan")
    }

    /// What is known of a file.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn known(reader: &Reader, task: TaskId, path: &[u8]) -> Result<Option<InputRow>> {
        reader
            .conn
            .prepare_cached(
                "SELECT name, size, mtime_ns, ctime_ns, inode, executable, object
             FROM input_file WHERE task = ?1 AND path = ?2",
            )
            .and_then(|mut s| s.query_row(params![task, Name(path)], read_row).optional())
            .or_db("look up an input file")
    }

    /// The content of a file as this plan has found it, and its executable bit.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn present(
        reader: &Reader,
        task: TaskId,
        path: &[u8],
    ) -> Result<Option<(ObjectHash, bool)>> {
        reader
            .conn
            .prepare_cached(
                "SELECT object, executable FROM temp.scan WHERE task = ?1 AND path = ?2
                 UNION ALL SELECT object, executable FROM input_file f WHERE task = ?1 AND path = ?2
                   AND NOT EXISTS (SELECT 1 FROM temp.gone g WHERE g.task = f.task AND g.path = f.path)",
            )
            .and_then(|mut s| {
                s.query_map(params![task, Name(path)], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .next()
                    .transpose()
            })
            .or_db("look up an input file")
    }

    /// Notes a new or changed file.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn found(reader: &Reader, task: TaskId, path: &[u8], row: &InputRow) -> Result<()> {
        reader
            .conn
            .prepare_cached(
                "INSERT OR REPLACE INTO temp.scan VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )
            .and_then(|mut s| {
                s.execute(params![
                    task,
                    Name(path),
                    Name(&row.name),
                    row.stat.size,
                    row.stat.mtime_ns,
                    row.stat.ctime_ns,
                    row.stat.inode,
                    row.stat.executable,
                    row.object,
                ])
            })
            .or_db("note an input file")?;
        Ok(())
    }

    /// Notes that the row of a file is no longer true: the file changed or is not there any more.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn gone(reader: &Reader, task: TaskId, path: &[u8]) -> Result<()> {
        reader
            .conn
            .prepare_cached("INSERT OR IGNORE INTO temp.gone VALUES (?1, ?2)")
            .and_then(|mut s| s.execute(params![task, Name(path)]))
            .or_db("note an input file")?;
        Ok(())
    }

    /// Notes what a step of a root that gathers its files works on.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn listed(
        reader: &Reader,
        task: TaskId,
        name: &[u8],
        labels: &Labels,
        listing: &ObjectHash,
    ) -> Result<()> {
        let origin = Origin::group(labels);
        reader
            .conn
            .prepare_cached("INSERT INTO temp.listing VALUES (?1, ?2, ?3, ?4, ?5)")
            .and_then(|mut s| s.execute(params![task, Name(name), listing, labels, origin]))
            .or_db("note what is gathered")?;
        Ok(())
    }

    /// Calls `see` with the path and the row of every file known for a task, in the order of the paths.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn each(reader: &Reader, task: TaskId, see: &mut dyn FnMut(&[u8], InputRow)) -> Result<()> {
        let mut statement = reader
            .conn
            .prepare_cached(
                "SELECT name, size, mtime_ns, ctime_ns, inode, executable, object, path
                 FROM input_file WHERE task = ?1 ORDER BY path",
            )
            .or_db("list input files")?;
        let mut rows = statement.query([task]).or_db("list input files")?;
        while let Some(row) = rows.next().or_db("list input files")? {
            let path: NameBytes = row.get(7).or_db("list input files")?;
            see(&path.0, read_row(row).or_db("list input files")?);
        }
        Ok(())
    }

    /// Calls `see` with the path of every file known for a task, in order.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn each_path(reader: &Reader, task: TaskId, see: &mut dyn FnMut(&[u8])) -> Result<()> {
        let mut statement = reader
            .conn
            .prepare_cached("SELECT path FROM input_file WHERE task = ?1 ORDER BY path")
            .or_db("list input files")?;
        let mut rows = statement.query([task]).or_db("list input files")?;
        while let Some(row) = rows.next().or_db("list input files")? {
            let path: NameBytes = row.get(0).or_db("list input files")?;
            see(&path.0);
        }
        Ok(())
    }

    /// Number of files known for a task.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn count(reader: &Reader, task: TaskId) -> Result<u64> {
        reader
            .conn
            .prepare_cached("SELECT count(*) FROM input_file WHERE task = ?1")
            .and_then(|mut s| s.query_row([task], |row| row.get::<_, i64>(0)))
            .map(i64::unsigned_abs)
            .or_db("count input files")
    }

    /// Makes the scan's findings permanent, inside the caller's transaction.
    pub(in crate::db) fn apply(writer: &mut Writer) -> Result<()> {
        writer
            .conn
            .execute_batch(
                "DELETE FROM input_file WHERE (task, path) IN (SELECT task, path FROM temp.gone);
             INSERT OR REPLACE INTO input_file
               SELECT task, path, name, size, mtime_ns, ctime_ns, inode, executable, object
               FROM temp.scan;
             DELETE FROM temp.gone; DELETE FROM temp.scan;",
            )
            .or_db("keep the scan")
    }
}

/// Reads (name, size, mtime_ns, ctime_ns, inode, executable, object).
fn read_row(row: &Row<'_>) -> rusqlite::Result<InputRow> {
    Ok(InputRow {
        name: row.get::<_, NameBytes>(0)?.0,
        stat: Stat {
            size: row.get(1)?,
            mtime_ns: row.get(2)?,
            ctime_ns: row.get(3)?,
            inode: row.get(4)?,
            executable: row.get(5)?,
        },
        object: row.get(6)?,
    })
}
