//! `report`: the HTML page about a pipeline, to a file or to standard output.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};

use crate::cli::values::{default_db, path};
use crate::db::Db;
use crate::error::{Error, OrIo as _, Result, exit};
use crate::report;
use crate::store::Store;
use crate::text::path_bytes;

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
            replace(&self.output, &page)?;
        }
        Ok(exit::OK)
    }
}

fn default_page() -> PathBuf {
    PathBuf::from("report.html")
}

/// Writes the page so that a browser, or a reader in a build, sees the old one or the new one, never half
/// of one.
fn replace(path: &Path, page: &str) -> Result<()> {
    let Some(name) = path.file_name() else {
        let shown = crate::text::printable(path_bytes(path)).into_owned();
        return Err(Error::Usage(format!("`{shown}` is no file; name one with -o FILE")));
    };
    // A regular file must not replace something else, such as /dev/null.
    if fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
        return fs::write(path, page).or_io("write", path);
    }
    let mut draft_name = std::ffi::OsString::from(".");
    draft_name.push(name);
    draft_name.push(format!(".{}.partial", std::process::id()));
    let draft = path.with_file_name(draft_name);
    let written = File::create_new(&draft).or_io("make", &draft).and_then(|mut file| {
        file.write_all(page.as_bytes()).or_io("write", &draft)?;
        drop(file);
        fs::rename(&draft, path).or_io("write", path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}
