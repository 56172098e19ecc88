//! `DB/format`: says what the folder is, before anything in it is opened.

use std::fs;
use std::path::Path;

use crate::error::{Error, OrIo, Result};

/// The layout of this build: shards of two levels, the database beside them.
const FORMAT: &str = "task-pipeline 1\n";

/// Writes the file into a new folder, checks it in an old one.
///
/// # Errors
/// [`Error::Foreign`] for a layout that this build doesn't know.
pub(super) fn check(db_dir: &Path) -> Result<()> {
    let path = db_dir.join("format");
    match fs::read_to_string(&path) {
        Ok(text) if text == FORMAT => Ok(()),
        Ok(text) => {
            let why = format!(
                "says `{}`, but this build knows only `{}`; use the task-pipeline that made it, or another --db",
                crate::text::printable(text.trim().as_bytes()),
                FORMAT.trim()
            );
            Err(Error::Foreign { path, why })
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            let draft = db_dir.join("format~");
            fs::write(&draft, FORMAT).or_io("write", &draft)?;
            fs::rename(&draft, &path).or_io("write", &path)
        }
        Err(err) => Err(err).or_io("read", &path),
    }
}
