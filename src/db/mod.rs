//! The one connection to SQLite, behind one mutex. Unaware of scripts, processes and files other
//! than its own.
//!
//! WAL, because readers (`status`, `log`, …) must neither wait nor make a run wait. It needs shared
//! memory, so the database can't lie on a network mount. `synchronous` is FULL under `--durability
//! batch`: a COMMIT that returned survives a power cut. Under `off` it is NORMAL: a killed process
//! loses nothing, a power cut may lose the last commits, never the consistency of the database.
//!
//! Nothing else in this process may open `db`, `db-wal` or `db-shm`: closing any descriptor of theirs
//! drops SQLite's POSIX locks, and the next reader would then delete the log of a live writer.

mod attempts;
mod commit;
mod dependencies;
mod flow;
mod forced;
mod functions;
mod inputs;
mod interrupted;
mod lineage;
mod listing;
mod plan;
mod read;
mod remarks;
mod report;
mod run_steps;
mod schema;
mod sides;
mod types;
mod upkeep;
mod workers;

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::error::{Error, OrDb, OrIo, Result};
use crate::folder;
use crate::hint;
use crate::object::ObjectHash;
use crate::proof::Proof;
use crate::sys::flock;
use crate::text::shown;

pub use attempts::{AttemptOfRun, PEAKS, attempts, recent_peaks};
pub use commit::completion::{Completion, Effects, KnownWork, SharedStep};
pub use commit::leaves::{Leaf, Todo, each_todo, has_live_step, leaves, todo};
pub use commit::runs::{
    Argument, Complete, RunRow, Settled, arguments, complete, end_run, live_steps,
    manifests_with_arguments, set_arguments, unread,
};
pub use commit::totals::recount;
pub use commit::turns::{Turns, turns};
pub use commit::{commit, known_object, put_objects, share_known};
pub use dependencies::{
    Dependencies, Dependency, DependencyFile, StepDependencies, attempt_of_result, dependencies_of,
    step_dependencies,
};
pub use flow::{Accepts, Flow, FlowTask, Labeller, Wanted};
pub use forced::Forced;
pub use functions::step_key;
pub use inputs::{FILES, InputRow, Inputs, Stat, files_of_rows};
pub use interrupted::{Interrupted, boot_of_run, interrupted, note_interrupted};
pub use lineage::{
    Direction, RunFacts, StepFacts, TaskFacts, around_object, files_of, find_one_step,
    first_outputs, last_run, neighbours, predecessor, step_facts, task_facts,
};
pub use listing::{listing_line, read_listing};
pub use plan::apply::{Applied, apply};
pub use plan::gather::{
    Group, each_group, end_gather, file_listings, gather_inputs, group_inputs, groups_of_step,
    linked_steps, live_labels, plan_gather,
};
pub use plan::reasons::{
    Why, changed_dependencies, groups_to_come, has_inputs, is_any_taken, left_nothing,
    planned_labels, reasons, recipe_fields, shared,
};
pub use plan::tasks::{KnownTask, Registration, TaskRow, known_tasks, task_rows};
pub use plan::with::{plan_with, unseeing};
pub use plan::{Before, Plan, TaskPlan, plan};
pub use read::failed_anew::failed_anew;
pub use read::queries::{
    Meant, StepRow, each_live_input, each_live_output, each_live_output_name, failed_steps,
    find_object, find_step, find_steps, find_task, is_complete, is_task_complete, meaning,
    objects_made_by, present_name, split_word,
};
pub use read::status::{
    Declared, RunStatus, StepCounts, TaskStatus, Wiring, last_runs, mean_times, out_of_date,
    status, step_counts, wiring,
};
pub use read::waits::{Waits, waits};
pub use remarks::{Remarks, unseeing_sentence};
pub use report::{
    FailedStep, LabelGroup, LabelGroups, Overhead, ReportAttempt, ReportOutput, ReportResult,
    ReportRun, ReportTask, TaskSpan, each_attempt, label_groups, last_work, note_overheads,
    report_edges, report_failed, report_files, report_outputs, report_overheads, report_results,
    report_runs, report_steps, report_tasks, report_title, versions,
};
pub use run_steps::RunSteps;
pub use sides::{Sides, side_listing};
pub use upkeep::gc::{History, drop_objects, each_garbage, is_needed};
pub use upkeep::relist::relisted;
pub use upkeep::unsynced::{
    Unsynced, all_synced, each_unsound_object, note_unsynced, redo, unsynced,
};
pub use upkeep::verify::{
    Producer, check_database, contents_of_rows, each_object, forget_object, input_files,
    is_listing, last_dir, linked_outputs, lose_log, producers, redo_consumers, retire_gather,
    unproven_objects,
};
pub use workers::{WorkerRow, lanes, note_workers, workers};

/// SQLite before this has a bug that can corrupt a WAL database with two connections
/// (sqlite.org/wal.html#walresetbug).
const OLDEST_SQLITE: i32 = 3_051_003;

/// When a COMMIT may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// What was said to be done survives a power cut.
    Batch,
    /// What was said to be done survives the death of the process.
    Off,
}

impl Durability {
    /// As on the command line and in the table `run`.
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Batch => "batch",
            Durability::Off => "off",
        }
    }
}

/// The database of one `--db` folder. [`Db::read`] and [`Db::write`] are the only ways to its rows: no
/// type of SQLite's leaves this module.
pub struct Db {
    connection: Mutex<Writer>,
    /// The database is read as if nobody could change it; if there is anything in this file, its log, somebody does.
    unseen_log: Option<PathBuf>,
    on_busy: Mutex<Option<OnBusy>>,
}

/// Another program has begun to write to the database and goes on doing so.
#[derive(Debug)]
pub struct Busy {
    /// How long we have waited.
    pub waited: Duration,
    /// Who it is, as far as that can be found out.
    pub holder: Option<u32>,
    /// It has taken so long that somebody should be told, or be told again.
    pub is_news: bool,
}

/// Asked every now and then whether to go on waiting.
pub type OnBusy = Arc<dyn Fn(&Busy) -> bool + Send + Sync>;

/// How long it takes until waiting for another program is worth a word.
const FIRST_NEWS: Duration = Duration::from_secs(2);

/// And another one.
const NEXT_NEWS: Duration = Duration::from_secs(60);

/// Shortest pause between two attempts to begin.
const BRIEFLY: Duration = Duration::from_millis(1);

/// How long a write waits for another program where nobody was told what to do about it; and SQLite in a read.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The rows as of one moment. The functions of this module that only ask take it. Through it they may also
/// write temporary tables, which this connection alone sees: a plan is made in them.
pub struct Reader {
    conn: Connection,
}

/// The rows, to be changed. Whatever is done with it is committed together or not at all.
pub struct Writer {
    reader: Reader,
}

impl Deref for Writer {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

/// A transaction under way: rolled back when dropped, unless it was committed.
struct Transaction<'w> {
    writer: &'w mut Writer,
}

impl<'w> Transaction<'w> {
    fn begin(writer: &'w mut Writer, sql: &str, what: &'static str) -> Result<Transaction<'w>> {
        begin(&writer.conn, sql, what)?;
        Ok(Transaction { writer })
    }

    fn commit(self, what: &'static str) -> Result<()> {
        let conn = &self.writer.conn;
        conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])).or_db(what)?;
        Ok(())
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // After some errors, such as a full disk, SQLite has rolled back already.
        if !self.writer.conn.is_autocommit() {
            // Nobody could do anything about a failure. If a transaction stays open, the next BEGIN says so.
            let _ = self.writer.conn.execute_batch("ROLLBACK");
        }
    }
}

impl Db {
    /// Path of the database file in a `--db` folder.
    pub fn file(dir: &Path) -> PathBuf {
        dir.join("db")
    }

    /// Opens for a run, making or migrating the tables as needed. The caller holds the run lock.
    ///
    /// # Errors
    /// [`Error::Foreign`] for somebody else's or a newer database.
    pub fn open(dir: &Path, durability: Durability) -> Result<Db> {
        let path = Db::file(dir);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let conn = connect(&path, flags)?;
        let found = schema::check(&conn, &path)?;
        conn.pragma_update(None, "journal_mode", "wal").or_db("switch to WAL")?;
        let synchronous = match durability {
            Durability::Batch => "full",
            Durability::Off => "normal",
        };
        conn.pragma_update(None, "synchronous", synchronous).or_db("set synchronous")?;
        // The log stays when the last connection closes: on a full disk it could not be made again,
        // and without it the database can't even be read.
        let mut keep_log = 1;
        conn.file_control(Some("main"), rusqlite::FileControl::PersistWal(&mut keep_log))
            .or_db("keep the log")?;
        // Hashes and keys come in no order, so that each completion of a large run writes pages that no other
        // one did lately: 16 MiB of pages kept in memory, and a log of up to 32 MB between checkpoints, save
        // two percent of a run of 300,000 steps, against SQLite's 2 MB and a log of 8 MB.
        conn.execute_batch(
            "PRAGMA journal_size_limit = 67108864; PRAGMA wal_autocheckpoint = 8000; \
             PRAGMA cache_size = -16384; PRAGMA foreign_keys = OFF;",
        )
        .or_db("set up the connection")?;
        keep_temporary_files_in(&conn, dir)?;
        schema::migrate(&conn, &found)?;
        insist_on_wal(&conn, &path)?;
        empty_log(&conn)?;
        // Under `off` as well, once: objects without the database that knows them are worth nothing.
        if matches!(found, schema::FoundSchema::Nothing) {
            sync_names(dir)?;
        }
        Ok(Db::of(conn))
    }

    /// Opens an existing database for reading only. Needs no lock and blocks nobody.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no database; [`Error::Foreign`] if the folder is none of ours.
    pub fn open_read_only(dir: &Path) -> Result<Db> {
        if !is_there(dir)? {
            return Err(Error::Usage(format!(
                "there is no database in `{}`; name the folder of a run with --db",
                shown(dir)
            )));
        }
        Db::open_existing(dir)?
            .ok_or_else(|| Error::Usage(format!("nothing was ever run in `{}`", shown(dir))))
    }

    /// For a plan: the database for reading only, or one in memory while there is none or no table in it.
    ///
    /// # Errors
    /// As [`Db::open_read_only`], but for what isn't there.
    pub fn open_for_plan(dir: &Path) -> Result<Db> {
        let found = if is_there(dir)? { Db::open_existing(dir)? } else { None };
        found.map_or_else(Db::empty, Ok)
    }

    fn of(conn: Connection) -> Db {
        Db {
            connection: Mutex::new(Writer { reader: Reader { conn } }),
            unseen_log: None,
            on_busy: Mutex::default(),
        }
    }

    /// Nothing if no table was ever made in it.
    fn open_existing(dir: &Path) -> Result<Option<Db>> {
        let path = Db::file(dir);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut conn = connect(&path, flags)?;
        let mut found = schema::check(&conn, &path);
        let mut unseen_log = None;
        if let Err(error) = &found
            && lacks_shared_memory(error)
        {
            unseen_log = Some(unseen_log_of(dir)?);
            conn = connect(&immutable(&path), flags | OpenFlags::SQLITE_OPEN_URI)?;
            found = schema::check(&conn, &path);
        }
        keep_temporary_files_in_memory(&conn)?;
        match found.map_err(|error| unfinished(error, dir))? {
            schema::FoundSchema::Version(schema::VERSION) => {
                Ok(Some(Db { unseen_log, ..Db::of(conn) }))
            }
            schema::FoundSchema::Version(older) => Err(Error::Usage(format!(
                "`{}` has the older schema {older}; the next run migrates it",
                shown(&path)
            ))),
            schema::FoundSchema::Nothing => Ok(None),
        }
    }

    /// A database in memory.
    pub(crate) fn empty() -> Result<Db> {
        let conn = connect(Path::new(":memory:"), OpenFlags::default())?;
        keep_temporary_files_in_memory(&conn)?;
        schema::migrate(&conn, &schema::FoundSchema::Nothing)?;
        Ok(Db::of(conn))
    }

    /// Asks `read` with the rows of one moment, whatever a run does meanwhile. Others of this process wait, so
    /// it must not take long, and it must not ask the database again but through its argument.
    ///
    /// # Errors
    /// Those of `read`; what it left in temporary tables is then undone.
    pub fn read<T>(&self, read: impl FnOnce(&Reader) -> Result<T>) -> Result<T> {
        let (mut read, mut answer) = (Some(read), None);
        self.read_once(&mut |reader| {
            answer = read.take().map(|read| read(reader)).transpose()?;
            Ok(())
        })?;
        answer.ok_or_else(unasked)
    }

    /// What is the same for whoever reads, and so is there once and not a hundred times.
    fn read_once(&self, read: &mut dyn FnMut(&Reader) -> Result<()>) -> Result<()> {
        let what = "read the database";
        let mut writer = self.lock();
        let transaction = Transaction::begin(&mut writer, "BEGIN DEFERRED", what)?;
        read(&transaction.writer.reader)?;
        transaction.commit(what)?;
        match &self.unseen_log {
            Some(log) if has_bytes(log) => Err(Error::Locked {
                path: log.parent().unwrap_or(log).to_owned(),
                holder:
                    "a run has begun meanwhile, which can't be watched without write permission"
                        .to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// Lets `write` change rows, and commits if it succeeds. When this returns, the changes are as durable as
    /// the database was opened for. As with [`Db::read`], everybody else waits.
    ///
    /// # Errors
    /// Those of `write`, and of the commit; nothing is changed then.
    pub fn write<T>(&self, write: impl FnOnce(&mut Writer) -> Result<T>) -> Result<T> {
        let (mut write, mut answer) = (Some(write), None);
        self.write_once(&mut |writer| {
            answer = write.take().map(|write| write(writer)).transpose()?;
            Ok(())
        })?;
        answer.ok_or_else(unasked)
    }

    /// As [`Db::read_once`].
    fn write_once(&self, write: &mut dyn FnMut(&mut Writer) -> Result<()>) -> Result<()> {
        let what = "write to the database";
        let began = Instant::now();
        let mut next_news = FIRST_NEWS;
        loop {
            let mut writer = self.lock();
            // IMMEDIATE: a transaction that reads before it writes could not be retried. And without SQLite's own
            // patience: meanwhile others of this process may read.
            writer.conn.busy_timeout(Duration::ZERO).or_db(what)?;
            let begun = begin(&writer.conn, "BEGIN IMMEDIATE", what);
            writer.conn.busy_timeout(BUSY_TIMEOUT).or_db(what)?;
            match begun {
                Ok(()) => {
                    let transaction = Transaction { writer: &mut writer };
                    write(transaction.writer)?;
                    return transaction.commit(what);
                }
                Err(error) => {
                    drop(writer);
                    if !is_busy(&error) {
                        return Err(error);
                    }
                    let waited = began.elapsed();
                    let is_news = waited >= next_news;
                    if is_news {
                        next_news = waited + NEXT_NEWS;
                    }
                    if !self.goes_on_waiting(waited, is_news) {
                        return Err(error);
                    }
                    // From a millisecond up to fifty: a tenth of what was waited.
                    std::thread::sleep((waited / 10).clamp(BRIEFLY, 50 * BRIEFLY));
                }
            }
        }
    }

    /// What a write does while another program keeps it from beginning: it asks `on_busy`, again and again, whether
    /// to go on waiting. Without this it gives up after ten seconds.
    pub fn on_busy(&self, on_busy: OnBusy) {
        *self.on_busy.lock().unwrap_or_else(PoisonError::into_inner) = Some(on_busy);
    }

    fn goes_on_waiting(&self, waited: Duration, is_news: bool) -> bool {
        let on_busy = self.on_busy.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(on_busy) = on_busy else { return waited < BUSY_TIMEOUT };
        let holder = if is_news { self.holder() } else { None };
        on_busy(&Busy { waited, holder, is_news })
    }

    /// Another process that has begun to write.
    fn holder(&self) -> Option<u32> {
        /// WAL_WRITE_LOCK: https://sqlite.org/walformat.html, "File Locks".
        const WRITE_LOCK: u64 = 120;
        let path = self.lock().conn.path().map(|path| format!("{path}-shm"))?;
        let holders = flock::byte_holders(Path::new(&path), WRITE_LOCK).ok()??;
        holders.into_iter().find(|pid| *pid != std::process::id())
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        // A panic elsewhere leaves SQLite itself sound: its transaction was rolled back while unwinding.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection, moving the log into the database.
    ///
    /// # Errors
    /// If the database can't be read.
    pub fn close(self) -> Result<()> {
        let writer = self.connection.into_inner().unwrap_or_else(PoisonError::into_inner);
        writer.reader.conn.close().map_err(|(_, source)| source).or_db("close the database")
    }
}

impl Proof for Db {
    fn committed_size(&self, hash: &ObjectHash) -> Result<Option<u64>> {
        self.read(|reader| known_object(reader, hash))
    }
}

/// A transaction that came to its end without having asked.
#[cold]
fn unasked() -> Error {
    Error::Internal("the database was not asked".to_owned())
}

/// Whether there is a database in a folder, which has to be one of ours.
fn is_there(dir: &Path) -> Result<bool> {
    folder::look(dir)?;
    let path = Db::file(dir);
    path.try_exists().or_io("look for the database", &path)
}

fn begin(conn: &Connection, sql: &str, what: &'static str) -> Result<()> {
    conn.prepare_cached(sql).and_then(|mut begin| begin.execute([])).or_db(what)?;
    Ok(())
}

/// Whether another connection was in the way.
fn is_busy(error: &Error) -> bool {
    let Error::Db { source, .. } = error else { return false };
    source.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
}

/// Whether SQLite could not read for want of the files `-wal` and `-shm`. `sqlite3` removes both when it is the last
/// to close the database, and who may not write to the folder can't make them again.
fn lacks_shared_memory(error: &Error) -> bool {
    use rusqlite::ffi;
    match error {
        Error::Db { source: rusqlite::Error::SqliteFailure(code, _), .. } => match code.code {
            ffi::ErrorCode::CannotOpen => true,
            ffi::ErrorCode::ReadOnly => !matches!(
                code.extended_code,
                ffi::SQLITE_READONLY_ROLLBACK | ffi::SQLITE_READONLY_RECOVERY
            ),
            _ => false,
        },
        _ => false,
    }
}

/// Path of the log of a database that is all in its file, so that it can be read without log and shared memory.
///
/// # Errors
/// [`Error::Io`] if it isn't, with what to do.
fn unseen_log_of(dir: &Path) -> Result<PathBuf> {
    let log = dir.join("db-wal");
    if has_bytes(&log) {
        let status = hint::command("status");
        let why = format!(
            "its log `db-wal` holds the latest changes, but can't be read without `db-shm`, which is missing or must \
             not be read or made; let somebody who may write to the folder run `{status}`"
        );
        return Err(std::io::Error::other(why)).or_io("read the database", Db::file(dir));
    }
    Ok(log)
}

fn has_bytes(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.len() > 0)
}

/// The name by which SQLite opens a file that nobody can change.
fn immutable(path: &Path) -> PathBuf {
    let mut name = "file:".to_owned();
    for byte in crate::text::path_bytes(path) {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                name.push(char::from(*byte));
            }
            byte => name.push_str(&format!("%{byte:02X}")),
        }
    }
    PathBuf::from(name + "?immutable=1")
}

/// Where SQLite keeps what doesn't fit in its memory: in the run's scratch, which lies on the disk that has to have
/// room anyway. `/var/tmp` may be small, full or read-only, and no message would name it.
fn keep_temporary_files_in(conn: &Connection, dir: &Path) -> Result<()> {
    let scratch = dir.join("scratch");
    folder::make(&scratch).or_io("make the scratch folder", &scratch)?;
    match std::path::absolute(&scratch).ok().as_deref().and_then(Path::to_str) {
        Some(scratch) => conn.pragma_update(None, "temp_store_directory", scratch),
        // Only text can be said to SQLite.
        None => return keep_temporary_files_in_memory(conn),
    }
    .or_db("set the folder of temporary files")
}

/// For who only reads: no file may be made in the folder, and none need be made elsewhere on the machine.
fn keep_temporary_files_in_memory(conn: &Connection) -> Result<()> {
    conn.pragma_update(None, "temp_store", "memory").or_db("set up the connection")
}

/// A first run that was killed before its first commit leaves something to be undone, which a reader
/// can't do.
fn unfinished(error: Error, dir: &Path) -> Error {
    use rusqlite::ffi;
    let code = match &error {
        Error::Db { source: rusqlite::Error::SqliteFailure(code, _), .. } => code.extended_code,
        _ => 0,
    };
    match code {
        ffi::SQLITE_READONLY_ROLLBACK | ffi::SQLITE_READONLY_RECOVERY => Error::Usage(format!(
            "the first run in `{}` was killed before it had kept anything; the next run puts that right",
            shown(dir)
        )),
        _ => error,
    }
}

/// The statement that switches to WAL answers with a row before it is through. What fails afterwards, in
/// making the switch durable, nobody is told; it is seen when the tables have been read once more.
fn insist_on_wal(conn: &Connection, path: &Path) -> Result<()> {
    let what = "switch to WAL";
    let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0)).or_db(what)?;
    if mode == "wal" {
        return Ok(());
    }
    let refused = std::io::Error::other(format!(
        "its journal is still of the kind `{mode}`; is the disk in order, and do file systems of its kind \
         share memory?"
    ));
    Err(refused).or_io(what, path)
}

/// Makes the names of a new database's files durable, and that of its folder. SQLite syncs the folder too, but
/// doesn't say if that fails; and steps that leave nothing have no barrier which would do it.
fn sync_names(dir: &Path) -> Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    for folder in [Some(dir), parent].into_iter().flatten() {
        std::fs::File::open(folder).and_then(|file| file.sync_all()).or_io("sync", folder)?;
    }
    Ok(())
}

/// Moves what a killed run has left in the log into the database before anything is added to it. If its last
/// fsync of the log failed, the kernel takes the lost bytes for written, and the next fsync succeeds
/// without them: what is committed behind them would be lost with them.
fn empty_log(conn: &Connection) -> Result<()> {
    conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        .or_db("move the log into the database")
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let version = rusqlite::version_number();
    if version < OLDEST_SQLITE {
        return Err(Error::Internal(format!(
            "this build carries SQLite {}, which can corrupt a database; build it with 3.51.3 or newer",
            rusqlite::version()
        )));
    }
    let conn = Connection::open_with_flags(path, flags).or_db("open the database")?;
    conn.busy_timeout(BUSY_TIMEOUT).or_db("set a timeout")?;
    conn.set_prepared_statement_cache_capacity(128);
    // Else SQLite parses some statements anew whenever their parameters change, to see whether a partial index fits:
    // a quarter of a millisecond a step.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .or_db("set up the connection")?;
    conn.execute_batch(
        "PRAGMA mmap_size = 0; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
    )
    .or_db("set up the connection")?;
    functions::register_identity(&conn)?;
    Ok(conn)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: ObjectHash = ObjectHash::EMPTY;

    #[test]
    fn a_write_that_fails_or_panics_changes_nothing() {
        let db = Db::empty().unwrap();
        let failed = db.write(|writer| -> Result<()> {
            put_objects(writer, &[(OBJECT, 0)])?;
            Err(Error::Internal("on purpose".to_owned()))
        });
        assert!(matches!(failed, Err(Error::Internal(_))));
        assert_eq!(db.committed_size(&OBJECT).unwrap(), None);

        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            db.write(|writer| -> Result<()> {
                put_objects(writer, &[(OBJECT, 0)])?;
                panic!("on purpose")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!(db.committed_size(&OBJECT).unwrap(), None);
        db.write(|writer| put_objects(writer, &[(OBJECT, 0)])).unwrap();
        assert_eq!(db.committed_size(&OBJECT).unwrap(), Some(0));
    }

    #[test]
    fn a_prepared_statement_stays_prepared_whatever_is_bound_to_it() {
        let db = Db::empty().unwrap();
        db.read(|reader| {
            // There are partial indexes for `live = 0` and `live = 1`.
            let sql = "SELECT id FROM step WHERE task = ?1 AND live = ?2";
            let mut statement = reader.conn.prepare(sql).or_db("prepare")?;
            for n in 0..3 {
                assert!(!statement.exists([n, n]).or_db("ask")?);
            }
            assert_eq!(statement.get_status(rusqlite::StatementStatus::RePrepare), 0);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn a_read_is_one_moment_though_another_process_writes() {
        let dir = tempfile::tempdir().unwrap();
        let writing = Db::open(dir.path(), Durability::Off).unwrap();
        let reading = Db::open_read_only(dir.path()).unwrap();
        reading
            .read(|reader| {
                assert_eq!(known_object(reader, &OBJECT)?, None);
                writing.write(|writer| put_objects(writer, &[(OBJECT, 0)]))?;
                assert_eq!(known_object(reader, &OBJECT)?, None);
                Ok(())
            })
            .unwrap();
        assert_eq!(reading.committed_size(&OBJECT).unwrap(), Some(0));
    }
}
