//! `DB/format`: says what the folder is, before anything in it is opened.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use crate::error::{Error, OrIo, Result};

/// The layout of this build: shards of two levels, the database beside them.
const FORMAT: &str = "task-pipeline 1\n";

/// Writes the file into a new folder, checks it in an old one.
///
/// # Errors
/// [`Error::Foreign`] for a layout that this build doesn't know.
pub fn check(db_dir: &Path) -> Result<()> {
    let path = db_dir.join("format");
    match fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) {
        Ok(text) if text == FORMAT => Ok(()),
        // A power cut may leave a new name without its bytes.
        Ok(text) if text.is_empty() => write(db_dir, &path),
        Ok(text) => {
            let why = format!(
                "says `{}`, but this build knows only `{}`; use the task-pipeline that made it, or another --db",
                crate::text::printable(text.trim().as_bytes()),
                FORMAT.trim()
            );
            Err(Error::Foreign { path, why })
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => write(db_dir, &path),
        Err(err) => Err(err).or_io("read", &path),
    }
}

/// The bytes are on the disk before they get their name: the file decides whether the folder is ours.
fn write(db_dir: &Path, path: &Path) -> Result<()> {
    let draft = db_dir.join("format~");
    let mut file = File::create(&draft).or_io("write", &draft)?;
    file.write_all(FORMAT.as_bytes()).and_then(|()| file.sync_all()).or_io("write", &draft)?;
    fs::rename(&draft, path).or_io("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_what_a_power_cut_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("format");
        for before in [None, Some(""), Some(FORMAT)] {
            if let Some(before) = before {
                fs::write(&path, before).unwrap();
            }
            check(dir.path()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), FORMAT);
        }
        fs::write(&path, "task-pipeline 2\n").unwrap();
        assert!(check(dir.path()).unwrap_err().to_string().contains("task-pipeline 2"));
    }
}
