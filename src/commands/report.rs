//! `report`: the HTML page about a pipeline, to a file or to standard output.

use std::fs::{self, File, Metadata};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
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
    note = "The page is a single file without scripts that loads nothing from a network, and stays small \
    however many steps there are. It can be written during a run."
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
        let db = Db::open_read_only(&self.db)?;
        let store = Store::open_read_only(&self.db)?;
        let page = report::page(&db, &store, &self.db)?;
        if self.output == Path::new("-") {
            answer::write(|out| out.write_all(page.as_bytes()))?;
        } else {
            replace(&self.output, &page, &self.db, self.force)?;
        }
        Ok(exit::OK)
    }
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

/// Writes the page so that a browser, or a reader in a build, sees the old one or the new one, never half of one. A file
/// that is no page is somebody's, and is not overwritten unless `force`.
fn replace(path: &Path, page: &str, db: &Path, force: bool) -> Result<()> {
    // A regular file must not replace something else, such as /dev/null.
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return fs::write(path, page).or_io("write", path);
    }
    // A link that was named is meant, such as /dev/stdout: it is kept, and what it leads to is written.
    let end = match path.is_symlink() {
        true => path.canonicalize().or_io("write", path)?,
        false => path.to_owned(),
    };
    let Some(name) = end.file_name() else {
        return Err(Error::Usage(format!("`{}` is no file; name one with -o FILE", shown(path))));
    };
    let found = match fs::symlink_metadata(&end) {
        Ok(found) => Some(found),
        Err(err) if err.kind() == ErrorKind::NotFound => None,
        Err(err) => return Err(err).or_io("look at", path),
    };
    if folder::is_in_database(&end, Some(db)) {
        return Err(folder::only_runs_write(path, "name another file with -o FILE"));
    }
    if found.as_ref().is_some_and(Metadata::is_file) && !is_page(&end)? {
        // An empty one is what `mktemp` makes.
        if !force && found.as_ref().is_some_and(|found| found.len() > 0) {
            return Err(Error::Usage(format!(
                "`{}` is not a page of `report`; name another file with -o FILE, or add --force to overwrite it",
                shown(path)
            )));
        }
    }
    let folder = end.parent().filter(|folder| !folder.as_os_str().is_empty());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(folder.unwrap_or(Path::new(".")), flags, Mode::empty());
    let dir = dir.or_io("write", path)?;
    let new = NewFile::make(dir.as_fd(), ".task-pipeline-report", 0o666).or_io("write", path)?;
    new.file().write_all(page.as_bytes()).or_io("write", path)?;
    let placed = match found {
        Some(_) => new.replace(name.as_bytes()),
        None => new.add(name.as_bytes()),
    };
    placed.or_io("write", path)
}
