//! `DB/format`: says what the folder is, before anything in it is opened.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::{layout, make_folders};
use crate::error::{Error, OrIo, Result};

/// The layout of this build: objects at `AB/CDEF…`, the database beside them.
const FORMAT: &str = "task-pipeline 2\n";

/// The layout before: objects at `AB/CD/EFGH…`.
const TWO_LEVELS: &str = "task-pipeline 1\n";

/// What `DB/format` says.
enum Found {
    Nothing,
    Ours,
    Older,
}

/// Writes the file into a new folder, checks it in an old one, and converts one of an older layout. Then makes
/// the folders of the object store. The caller holds the run lock.
///
/// # Errors
/// [`Error::Foreign`] for a layout that this build doesn't know.
pub fn prepare(db_dir: &Path) -> Result<()> {
    let path = db_dir.join("format");
    match look(&path)? {
        Found::Ours => {}
        Found::Nothing => write(db_dir, &path)?,
        Found::Older => {
            layout::convert(db_dir)?;
            write(db_dir, &path)?;
        }
    }
    // Before the tables: a reader that finds these looks for objects.
    make_folders(db_dir)
}

/// For those who only read, and so can't convert anything.
pub(super) fn check(db_dir: &Path) -> Result<()> {
    let path = db_dir.join("format");
    match look(&path)? {
        Found::Ours | Found::Nothing => Ok(()),
        Found::Older => {
            let why = "is of an older task-pipeline; the next run or gc converts it".to_owned();
            Err(Error::Foreign { path, why })
        }
    }
}

fn look(path: &Path) -> Result<Found> {
    match fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) {
        Ok(text) if text == FORMAT => Ok(Found::Ours),
        Ok(text) if text == TWO_LEVELS => Ok(Found::Older),
        // A power cut may leave a new name without its bytes.
        Ok(text) if text.is_empty() => Ok(Found::Nothing),
        Ok(text) => {
            let why = format!(
                "says `{}`, but this build knows only `{}`; use the task-pipeline that made it, or another --db",
                crate::text::printable(text.trim().as_bytes()),
                FORMAT.trim()
            );
            Err(Error::Foreign { path: path.to_owned(), why })
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(err) => Err(err).or_io("read", path),
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
            prepare(dir.path()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), FORMAT);
        }
        fs::write(&path, "task-pipeline 3\n").unwrap();
        assert!(prepare(dir.path()).unwrap_err().to_string().contains("task-pipeline 3"));
    }

    #[test]
    fn a_store_of_two_levels_is_converted_wherever_it_was_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let objects = dir.path().join("objects");
        fs::create_dir_all(objects.join("ab/cd")).unwrap();
        fs::create_dir_all(objects.join("ab/ce")).unwrap();
        fs::write(objects.join("ab/cd/ef01"), "one").unwrap();
        fs::write(objects.join("ab/cd02"), "moved before the interruption").unwrap();
        fs::write(dir.path().join("format"), TWO_LEVELS).unwrap();
        assert!(check(dir.path()).unwrap_err().to_string().contains("older"));
        prepare(dir.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(objects.join("ab"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["cd02", "cdef01"]);
        assert_eq!(fs::read_to_string(objects.join("ab/cdef01")).unwrap(), "one");
        check(dir.path()).unwrap();
    }
}
