//! A database folder, looked at before anything in it is opened or changed: is it one of ours, of which layout,
//! and is it whole? Only looks. Unaware of what the files hold.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, OrIo, Result};
use crate::text::{printable, shown};

/// Name of the file that says what the folder is.
pub(crate) const FORMAT_FILE: &str = "format";

/// What it says in the layout of this build: objects at `AB/CD/EFGH…`, the database beside them.
pub(crate) const FORMAT: &str = "task-pipeline 3\n";

/// What it says in layouts of older builds.
pub(crate) const OLDER_FORMATS: [&str; 2] = ["task-pipeline 1\n", "task-pipeline 2\n"];

/// What it says while an older layout is converted, so that an older build, which would miss the objects that have
/// moved already, refuses the folder.
pub(crate) const CONVERTING: &str = "task-pipeline 3, being converted\n";

/// Files that may lie in an otherwise empty folder, because file systems, version control and backups put them there.
const HARMLESS: [&str; 4] = ["lost+found", ".gitignore", ".gitkeep", "CACHEDIR.TAG"];

/// `PRAGMA application_id` of our database, "tskp", which SQLite keeps in the file's header.
const APPLICATION_ID: &[u8; 4] = b"tskp";

/// Modes of the folders and files in a database. Nobody else may write to it even if the umask is 0; whether the group
/// may, the umask says.
pub(crate) const FOLDER_MODE: u32 = 0o775;
pub(crate) const FILE_MODE: u32 = 0o664;

/// What a folder turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FolderKind {
    /// Missing, empty, or made by a run that was killed before it had begun.
    New,
    /// A database of this build's layout.
    Current,
    /// A database that has to be converted, or to be converted to the end.
    Older,
    /// Its `format` is lost, but `db` is ours. Its layout can be any.
    Unsigned,
}

/// Finds out what `dir` is. Changes nothing.
///
/// # Errors
/// [`Error::Foreign`] if the folder holds something else, has a layout that this build doesn't know, or has lost its
/// `db`; [`Error::Io`] if it can't be looked at.
pub(crate) fn look(dir: &Path) -> Result<FolderKind> {
    let layout = match read_format(dir)? {
        Some(layout) => layout,
        None => match first_stranger(dir)? {
            None => return Ok(FolderKind::New),
            // A first run that has just begun writes the file before anything that is strange without it.
            Some(stranger) => match read_format(dir)? {
                Some(layout) => layout,
                None if has_our_header(&dir.join("db")) => FolderKind::Unsigned,
                None => return Err(not_ours(dir, &stranger)),
            },
        },
    };
    check_db(dir)?;
    Ok(layout)
}

/// Makes a folder of a database, and those above it that are missing.
pub(crate) fn make(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(dir)
}

/// Whether a folder says of itself that it is a database, of any layout that this build knows.
pub(crate) fn is_database(dir: &Path) -> bool {
    matches!(read_format(dir), Ok(Some(_)))
}

/// Whether a path leads into a folder that [`is_database`], or into `db`. The end of the path need not exist.
pub(crate) fn is_in_database(path: &Path, db: Option<&Path>) -> bool {
    // Links on the way are followed, as they will be when the path is used.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = absolute.ancestors().find_map(|path| path.canonicalize().ok());
    let is_it = |folder: &Path| db.is_some_and(|db| is_same(folder, db)) || is_database(folder);
    existing.is_some_and(|existing| existing.ancestors().any(is_it))
}

/// Refuses to write what no run writes into a database.
pub(crate) fn only_runs_write(path: &Path, cure: &str) -> Error {
    let shown = shown(path);
    Error::Usage(format!("`{shown}` is in a database, in which nothing but runs may write; {cure}"))
}

/// Whether two paths lead to the same file or folder.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    id(one).is_some_and(|one| id(other) == Some(one))
}

/// `None` if the file is missing, or empty: a power cut may leave a new name without its bytes.
fn read_format(dir: &Path) -> Result<Option<FolderKind>> {
    let path = dir.join(FORMAT_FILE);
    // Anything but a file could make us wait for ever.
    let bytes = match fs::metadata(&path) {
        Ok(found) if found.is_file() => fs::read(&path),
        Ok(_) => {
            return Err(foreign(
                path,
                "is no regular file, so the folder is not a database of \
                                           task-pipeline; choose another --db"
                    .to_owned(),
            ));
        }
        Err(err) => Err(err),
    };
    let text = match bytes {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(err) if is_missing(&err) => return Ok(None),
        Err(err) => return Err(err).or_io("read", path),
    };
    match text.as_str() {
        "" => Ok(None),
        FORMAT => Ok(Some(FolderKind::Current)),
        CONVERTING => Ok(Some(FolderKind::Older)),
        older if OLDER_FORMATS.contains(&older) => Ok(Some(FolderKind::Older)),
        other => {
            let said: String = other.trim().chars().take(80).collect();
            let why = format!(
                "says `{}`, but this build knows only `{}`; use the task-pipeline that made it, or another --db",
                printable(said.as_bytes()),
                FORMAT.trim()
            );
            Err(foreign(path, why))
        }
    }
}

/// Something in a folder without `format` that no run of ours puts there before it writes that file.
fn first_stranger(dir: &Path) -> Result<Option<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries.or_io("look into the database folder", dir)?,
    };
    let mut strangers = Vec::new();
    for entry in entries {
        let entry = entry.or_io("look into the database folder", dir)?;
        let (name, path) = (entry.file_name(), entry.path());
        let kind = entry.file_type().or_io("look at", &path)?;
        let (is_file, is_dir) = (kind.is_file(), kind.is_dir());
        let is_ours = match name.as_bytes() {
            // Empty, or `read_format` had found something.
            b"format" => true,
            b"format~" => is_file,
            b"lock" => is_file && is_lock(&path).or_io("read", &path)?,
            b"db" => is_file && entry.metadata().is_ok_and(|found| found.len() == 0),
            b"objects" => is_dir && is_empty_store(&path).or_io("look into", &path)?,
            name => HARMLESS.iter().any(|harmless| harmless.as_bytes() == name),
        };
        if !is_ours {
            strangers.push(path);
        }
    }
    Ok(strangers.into_iter().min())
}

/// Whether a file is a lock of ours: empty, or signed by a run.
fn is_lock(path: &Path) -> io::Result<bool> {
    let mut beginning = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut beginning)?;
    Ok(beginning.is_empty() || beginning == b"pid ")
}

/// Whether a folder is an object store into which nothing was put.
fn is_empty_store(path: &Path) -> io::Result<bool> {
    let names = |path: &Path| -> io::Result<Vec<_>> {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect()
    };
    let found = names(path)?;
    let is_draft = |name: &std::ffi::OsString| name == ".tmp" && path.join(".tmp").is_dir();
    Ok(found.iter().all(is_draft) && (found.is_empty() || names(&path.join(".tmp"))?.is_empty()))
}

/// Whether a file begins like a SQLite database of ours. Asked only where `format` is lost: SQLite must not have the
/// file open in this process, whose locks would go when we close it.
fn has_our_header(path: &Path) -> bool {
    let mut header = [0; 72];
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    is_file
        && File::open(path).and_then(|mut file| file.read_exact(&mut header)).is_ok()
        && header.starts_with(b"SQLite format 3\0")
        && header[68..] == *APPLICATION_ID
}

fn not_ours(dir: &Path, stranger: &Path) -> Error {
    let name = stranger.file_name().unwrap_or_default().as_bytes();
    let why = format!(
        "is not a database of task-pipeline, but perhaps another program's: it has no file `{FORMAT_FILE}`, and holds \
         something else (`{}`); nothing in it was changed; name a new or empty folder with --db",
        printable(name)
    );
    foreign(dir.to_owned(), why)
}

/// The rows must be there if anything was ever kept: without them nobody knows what the objects are.
fn check_db(dir: &Path) -> Result<()> {
    let path = dir.join("db");
    let what = match fs::metadata(&path) {
        Ok(found) if found.is_file() && found.len() > 0 => return Ok(()),
        Ok(found) if found.is_file() => "is empty (0 bytes)",
        Ok(found) => {
            let what = if found.file_type().is_fifo() { "a FIFO" } else { "no regular file" };
            let why =
                format!("is {what}, so it can't be a database; remove it, or choose another --db");
            return Err(foreign(path, why));
        }
        Err(err) if is_missing(&err) => "is missing",
        Err(err) => return Err(err).or_io("look at", path),
    };
    if !was_in_use(dir) {
        // So a first run looks that has just begun, or was killed then.
        return Ok(());
    }
    let shown = printable(dir.as_os_str().as_bytes());
    let why = format!(
        "{what}, though results were kept in this folder: which steps are done, what their results are called, their \
         logs and the history are lost (the bytes are still in `{shown}/objects`); put a copy of `db` back, or begin \
         anew: name another --db, or remove the folder (rm -r {shown})"
    );
    Err(foreign(path, why))
}

/// Whether a run has kept anything here, ever.
fn was_in_use(dir: &Path) -> bool {
    let entries = |name: &str| fs::read_dir(dir.join(name)).into_iter().flatten().flatten();
    // Objects may have been freed; the locks of their shards stay.
    entries("objects").any(|entry| entry.file_name() != ".tmp")
        || entries("locks").next().is_some()
        // SQLite would throw the log away that belongs to an empty file.
        || fs::metadata(dir.join("db-wal")).is_ok_and(|found| found.len() > 0)
}

fn foreign(path: PathBuf, why: String) -> Error {
    Error::Foreign { path, why }
}

fn is_missing(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
