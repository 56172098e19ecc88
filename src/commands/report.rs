//! `report`: the HTML page about a pipeline, to a file or to standard output.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use rustix::fs::{Mode, OFlags};

use crate::cli::values::{default_db, path};
use crate::db::Db;
use crate::error::{Error, OrIo as _, Result, exit};
use crate::folder;
use crate::report;
use crate::store::Store;
use crate::text::shown;

use super::outside::NewFile;
use super::{Command, answer};

/// Write an HTML page: the state of the pipeline, how the last run went, why steps failed.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "report")]
#[argh(
    note = "The page is a single file that loads nothing from a network, and stays small however many steps there \
    are. With its script, steps can be filtered, sorted and grouped, and #step-17 is the link to one; without, all else \
    can be read. Outputs of tasks with `report = true` are in it. It can be written during a run, and by one: \
    `run --report FILE`."
)]
pub struct ReportArgs {
    /// the database folder, which is only read; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// the file to write, - for standard output; default: report.html
    #[argh(option, short = 'o', arg_name = "FILE", from_str_fn(path), default = "default_page()")]
    pub output: PathBuf,

    /// overwrite a file that is no such page
    #[argh(switch)]
    pub force: bool,
}

impl Command for ReportArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn execute(&self) -> Result<u8> {
        write(&self.output, &self.db, self.force, OPTION)?;
        Ok(exit::OK)
    }
}

/// The option that names the file.
const OPTION: &str = "-o";

/// Writes the page about the pipeline in the folder `db` to a file, or for `-` to standard output. `option` is the one that
/// names the file, for messages.
pub(super) fn write(path: &Path, db: &Path, force: bool, option: &str) -> Result<()> {
    let (reader, store) = (Db::open_read_only(db)?, Store::open_read_only(db)?);
    let page = report::page(&reader, &store, db)?;
    if path == Path::new("-") {
        return answer::write(|out| out.write_all(page.as_bytes()));
    }
    replace(path, &page, db, force, option)
}

fn default_page() -> PathBuf {
    PathBuf::from("report.html")
}

/// What all pages begin with, those of older builds too, and what their title ends with.
const BEGINNING: &[u8] = b"<!DOCTYPE html>\n";
const TITLE_END: &str = " task-pipeline report</title>";

/// As much of a file is looked at to know a page: more than the longest title.
const HEAD: u64 = 64 << 10;

/// Whether a file is a page of ours.
fn is_page(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let file = File::open(path).or_io("read", path)?;
    file.take(HEAD).read_to_end(&mut head).or_io("read", path)?;
    let mut parts = head.windows(TITLE_END.len());
    Ok(head.starts_with(BEGINNING) && parts.any(|part| part == TITLE_END.as_bytes()))
}

/// Where a page is to be put.
enum PagePlace {
    /// Something else than a regular file, such as /dev/null: it is written to.
    Device,
    /// A file at the end of all links, and whether there is one now.
    File { end: PathBuf, is_there: bool },
}

/// Finds the place of a page. A file that is no page is somebody's, and is not overwritten unless `force`.
///
/// # Errors
/// [`Error::Usage`] if it is no place for a page.
fn place(path: &Path, db: &Path, force: bool, option: &str) -> Result<PagePlace> {
    // A regular file must not replace something else, such as /dev/null.
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return Ok(PagePlace::Device);
    }
    // A link that was named is meant, such as /dev/stdout: it is kept, and what it leads to is written.
    let end = match path.is_symlink() {
        true => path.canonicalize().or_io("write", path)?,
        false => path.to_owned(),
    };
    if end.file_name().is_none() {
        let path = shown(path);
        return Err(Error::Usage(format!("`{path}` is no file; name one with {option} FILE")));
    }
    let found = match fs::symlink_metadata(&end) {
        Ok(found) => Some(found),
        Err(err) if err.kind() == ErrorKind::NotFound => None,
        Err(err) => return Err(err).or_io("look at", path),
    };
    if folder::is_in_database(&end, Some(db)) {
        return Err(folder::only_runs_write(
            path,
            &format!("name another file with {option} FILE"),
        ));
    }
    if found.as_ref().is_some_and(Metadata::is_file) && !is_page(&end)? {
        // An empty one is what `mktemp` makes.
        if !force && found.as_ref().is_some_and(|found| found.len() > 0) {
            return Err(Error::Usage(format!(
                "`{}` is not a page of `report`; name another file with {option} FILE, or add --force to overwrite it",
                shown(path)
            )));
        }
    }
    Ok(PagePlace::File { end, is_there: found.is_some() })
}

/// Fails, before anything is done, if a page could not be written there.
pub(super) fn check(path: &Path, db: &Path, force: bool, option: &str) -> Result<()> {
    if path == Path::new("-") {
        return Ok(());
    }
    let PagePlace::File { end, .. } = place(path, db, force, option)? else { return Ok(()) };
    if end.is_dir() {
        let path = shown(path);
        return Err(Error::Usage(format!("`{path}` is a folder; name a file with {option} FILE")));
    }
    folder_of(&end).or_io("write", path).map(drop)
}

/// The folder of a file.
fn folder_of(end: &Path) -> rustix::io::Result<OwnedFd> {
    let folder = end.parent().filter(|folder| !folder.as_os_str().is_empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(folder.unwrap_or(Path::new(".")), flags, Mode::empty())
}

/// Writes the page so that a browser, or a reader in a build, sees the old one or the new one, never half of one.
fn replace(path: &Path, page: &str, db: &Path, force: bool, option: &str) -> Result<()> {
    let (end, is_there) = match place(path, db, force, option)? {
        PagePlace::Device => return fs::write(path, page).or_io("write", path),
        PagePlace::File { end, is_there } => (end, is_there),
    };
    let dir = folder_of(&end).or_io("write", path)?;
    let new = NewFile::make(dir.as_fd(), ".task-pipeline-report", 0o666).or_io("write", path)?;
    new.file().write_all(page.as_bytes()).or_io("write", path)?;
    let name = end.file_name().unwrap_or_default().as_bytes();
    let placed = if is_there { new.replace(name) } else { new.add(name) };
    placed.or_io("write", path)
}
