//! `report`: a page about a pipeline, into a file or to standard output.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use crate::cli::Report;
use crate::db::Db;
use crate::error::{Error, OrIo as _, Result, exit};
use crate::report;
use crate::store::Store;
use crate::text::path_bytes;

use super::answer;

/// Makes the page.
pub(super) fn report(args: &Report) -> Result<u8> {
    let db = Db::open_read_only(&args.db)?;
    let store = Store::open_read_only(&args.db)?;
    let page = report::page(&db, &store, &args.db)?;
    if args.output == Path::new("-") {
        answer::write(|out| out.write_all(page.as_bytes()))?;
    } else {
        replace(&args.output, &page)?;
    }
    Ok(exit::OK)
}

/// A browser, or a reader in a build, sees the old page or the new one, never half of one.
fn replace(path: &Path, page: &str) -> Result<()> {
    let Some(name) = path.file_name() else {
        let shown = crate::text::printable(path_bytes(path)).into_owned();
        return Err(Error::Usage(format!("`{shown}` is no file; name one with -o FILE")));
    };
    // What is no regular file, /dev/null for one, must not be replaced by one.
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
