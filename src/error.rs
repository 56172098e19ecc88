//! What failed, where, and what to do next. The exit codes of the program are decided here.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::object::ObjectHash;
use crate::text::shown;

/// What stopped *us*. A script's failure is no error but an answer: see `step::Outcome`.
#[derive(Debug)]
pub enum Error {
    /// A system call failed. `what` is a verb phrase: "read manifest".
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// The system refused something that has no path, such as another thread. `what` is a verb phrase: "start a
    /// thread".
    System { what: &'static str, source: io::Error },
    /// The manifest can't be used; all that is wrong with it.
    Manifest(Vec<Diagnostic>),
    /// The command line or the request can't be used.
    Usage(String),
    /// Inputs can't be read; a sentence for each.
    Inputs(Vec<String>),
    /// SQLite refused. `what` is a verb phrase: "commit steps". `path` is empty where it failed, and
    /// added by [`Error::in_db`] on the way out.
    Db { what: &'static str, path: PathBuf, source: rusqlite::Error },
    /// The database belongs to something else, or to a newer task-pipeline.
    Foreign { path: PathBuf, why: String },
    /// Another process works on this database.
    Locked { path: PathBuf, holder: String },
    /// The database is in use by the run that started this process: to wait for that would never end.
    OwnRun { path: PathBuf, holder: String },
    /// Another run writes what it tells into this file.
    Taken { path: PathBuf },
    /// An object's bytes aren't what its name says, or it is gone.
    Damaged { object: ObjectHash, path: PathBuf, why: String },
    /// Less is free than has to stay free. Bytes.
    NoSpace { path: PathBuf, free: u64, floor: u64 },
    /// There is no worker to make attempts, or a worker can't be one of its run.
    Unavailable(String),
    /// A bug of ours.
    Internal(String),
}

/// Result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Exit codes, as `fixtures/schemas/README.md` lists them.
pub mod exit {
    /// All well.
    pub const OK: u8 = 0;
    /// Steps failed, or an export is incomplete or would overwrite what it did not write.
    pub const STEPS_FAILED: u8 = 1;
    /// The command line or the manifest can't be used.
    pub const USAGE: u8 = 2;
    /// `plan --check`: there is something to do.
    pub const TO_DO: u8 = 3;
    /// Stored data is damaged.
    pub const DAMAGED: u8 = 65;
    /// No worker is there to run steps, or this one is not wanted.
    pub const UNAVAILABLE: u8 = 69;
    /// A bug in task-pipeline.
    pub const INTERNAL: u8 = 70;
    /// No space left.
    pub const NO_SPACE: u8 = 73;
    /// Reading or writing failed.
    pub const IO: u8 = 74;
    /// Another process holds the database, or the file for events; try later.
    pub const LOCKED: u8 = 75;
}

impl Error {
    /// The process's exit code for this error.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Io { source, .. } | Error::System { source, .. } if is_no_space(source) => {
                exit::NO_SPACE
            }
            Error::NoSpace { .. } => exit::NO_SPACE,
            Error::Inputs(_) => exit::STEPS_FAILED,
            Error::Io { .. } | Error::System { .. } => exit::IO,
            Error::Manifest(_) | Error::Usage(_) => exit::USAGE,
            Error::Db { source, .. } => match source.sqlite_error_code() {
                Some(rusqlite::ErrorCode::DiskFull) => exit::NO_SPACE,
                Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                    exit::DAMAGED
                }
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
                    exit::LOCKED
                }
                _ => exit::IO,
            },
            Error::Foreign { .. } | Error::Damaged { .. } => exit::DAMAGED,
            Error::Locked { .. } | Error::OwnRun { .. } | Error::Taken { .. } => exit::LOCKED,
            Error::Unavailable(_) => exit::UNAVAILABLE,
            Error::Internal(_) => exit::INTERNAL,
        }
    }

    /// Adds the database's path to what SQLite said, which never names it.
    #[must_use]
    pub fn in_db(self, file: &Path) -> Error {
        match self {
            Error::Db { what, path, source } if path.as_os_str().is_empty() => {
                Error::Db { what, path: file.to_owned(), source }
            }
            other => other,
        }
    }

    /// True if a file of the database could not be opened, read or written.
    pub fn is_database_io(&self) -> bool {
        let Error::Db { source, .. } = self else { return false };
        matches!(
            source.sqlite_error_code(),
            Some(rusqlite::ErrorCode::SystemIoFailure | rusqlite::ErrorCode::CannotOpen)
        )
    }

    /// What SQLite was to do when a file could not be opened, or not for writing.
    pub fn refused_by_sqlite(&self) -> Option<&'static str> {
        use rusqlite::ErrorCode::{CannotOpen, PermissionDenied, ReadOnly};
        match self {
            Error::Db { what, source, .. } => {
                matches!(source.sqlite_error_code(), Some(CannotOpen | ReadOnly | PermissionDenied))
                    .then_some(what)
            }
            _ => None,
        }
    }

    /// True if the disk, a quota or the inodes are used up.
    pub fn is_no_space(&self) -> bool {
        self.exit_code() == exit::NO_SPACE
    }
}

const MAKE_ROOM: &str = "; make room and run the same command again";

/// What to do about an error of the system, where that is the same whatever was tried.
fn cure(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE) => "; raise the limit of open files (ulimit -n), or add a smaller -j",
        _ if is_no_space(error) => MAKE_ROOM,
        _ => "",
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { what, path, source } => {
                write!(f, "could not {what} `{}`: {source}", shown(path))?;
                f.write_str(cure(source))
            }
            Error::System { what, source } => {
                write!(f, "could not {what}: {source}")?;
                f.write_str(cure(source))
            }
            Error::Manifest(diagnostics) => {
                for (n, diagnostic) in diagnostics.iter().enumerate() {
                    if n > 0 {
                        f.write_str("\n")?;
                    }
                    diagnostic.fmt(f)?;
                }
                Ok(())
            }
            Error::Usage(text) | Error::Unavailable(text) | Error::Internal(text) => {
                f.write_str(text)
            }
            Error::Inputs(sentences) => {
                for sentence in sentences {
                    writeln!(f, "{sentence}")?;
                }
                f.write_str("nothing was run; put them right, or add -k to go on with the others")
            }
            Error::Db { what, path, source } => {
                write!(f, "could not {what}")?;
                if !path.as_os_str().is_empty() {
                    write!(f, " in `{}`", shown(path))?;
                }
                write!(f, ": {source}")?;
                if let rusqlite::Error::SqliteFailure(code, _) = source
                    && code.extended_code > 0xff
                {
                    // Which of the calls of the system it was: sqlite.org/rescode.html.
                    write!(f, " (SQLite code {})", code.extended_code)?;
                }
                if self.is_no_space() {
                    f.write_str(MAKE_ROOM)?;
                }
                Ok(())
            }
            Error::Foreign { path, why } => write!(f, "`{}` {why}", shown(path)),
            Error::Locked { path, holder } => write!(
                f,
                "database `{}` is in use: {holder}; try again later, or add --wait",
                shown(path)
            ),
            Error::OwnRun { path, holder } => write!(
                f,
                "database `{}` is in use by the run that this script belongs to ({holder}); it can't wait for its own \
                 end: use another --db in the script, or add a task",
                shown(path)
            ),
            Error::Taken { path } => write!(
                f,
                "another run is writing to `{}`; name another file, try again later, or add --wait",
                shown(path)
            ),
            Error::NoSpace { path, free, floor } => write!(
                f,
                "no space: {} free on the disk of `{}`, and {} have to stay free; what was finished is \
                 kept, make room and run the same command again",
                crate::text::size(*free),
                shown(path),
                crate::text::size(*floor)
            ),
            Error::Damaged { object, path, why } => write!(
                f,
                "object {object} is damaged: {why} (`{}`); `{}` makes it again",
                shown(path),
                crate::hint::command("repair")
            ),
        }
    }
}

impl std::error::Error for Error {}

/// Says what failed, and where, of a bare I/O error.
pub trait OrIo<T> {
    /// Adds the verb and the path: `fs::read(p).or_io("read manifest", p)`.
    ///
    /// # Errors
    /// [`Error::Io`] in place of the bare error.
    fn or_io(self, what: &'static str, path: impl AsRef<Path>) -> Result<T>;

    /// Adds the verb, where there is no path: `thread.spawn(f).or_system("start a thread")`.
    ///
    /// # Errors
    /// [`Error::System`] in place of the bare error.
    fn or_system(self, what: &'static str) -> Result<T>;
}

impl<T, E: Into<io::Error>> OrIo<T> for Result<T, E> {
    fn or_io(self, what: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| io_error(what, path.as_ref(), source.into()))
    }

    fn or_system(self, what: &'static str) -> Result<T> {
        self.map_err(|source| Error::System { what, source: source.into() })
    }
}

// Once each, and not at each of a thousand places that may fail.
#[cold]
#[inline(never)]
fn io_error(what: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Io { what, path: path.to_owned(), source }
}

#[cold]
#[inline(never)]
fn db_error(what: &'static str, source: rusqlite::Error) -> Error {
    Error::Db { what, path: PathBuf::new(), source }
}

/// Adds the verb to a bare SQLite error.
pub trait OrDb<T> {
    /// See the trait.
    fn or_db(self, what: &'static str) -> Result<T>;
}

impl<T> OrDb<T> for Result<T, rusqlite::Error> {
    fn or_db(self, what: &'static str) -> Result<T> {
        self.map_err(|source| db_error(what, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_sqlite_refuses_is_told_with_path_reason_and_cure() {
        let refused = |code: i32| {
            let words = rusqlite::ffi::code_to_str(code & 0xff).to_owned();
            let source =
                rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(words));
            Err::<(), _>(source).or_db("commit steps").unwrap_err().in_db(Path::new("x/db"))
        };
        let full = refused(rusqlite::ffi::SQLITE_FULL);
        assert_eq!(
            full.to_string(),
            "could not commit steps in `x/db`: database or disk is full; make room and run the same command again"
        );
        assert_eq!(full.exit_code(), exit::NO_SPACE);
        let broken = refused(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        assert_eq!(
            broken.to_string(),
            "could not commit steps in `x/db`: disk I/O error (SQLite code 1034)"
        );
        assert_eq!(broken.exit_code(), exit::IO);
        // The first path is the right one.
        assert!(broken.in_db(Path::new("elsewhere")).to_string().contains("`x/db`"));
    }
}
