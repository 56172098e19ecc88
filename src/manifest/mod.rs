//! The manifest: from its text to tasks that are valid by themselves and together, or to a list of every
//! mistake in it. Unaware of the database and of what is on disk (`inputs` are patterns here, not files).
//!
//! `parse` goes from bytes to TOML tables, `task` from a table to a task, `wiring` from the names in `from`
//! to indices. All of them add what they find to one list of findings, and go on.

mod findings;
mod parse;
mod pattern;
mod task;
#[cfg(test)]
mod tests;
mod value;
mod wiring;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::error::{Error, OrIo, Result};
use crate::ids::TaskIndex;

pub use pattern::{expand, fixed_part, glob_set, is_plain};
pub use task::{KEYS, Key, Task};

/// A manifest without mistakes.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// As named on the command line.
    pub path: PathBuf,
    /// Its folder, absolute: the working directory of every script and the base of every relative path.
    pub dir: PathBuf,
    /// In the order of the file; [`TaskIndex`] counts here.
    pub tasks: Vec<Task>,
    /// Its lines end in CRLF, and were read as if they ended in LF.
    pub had_crlf: bool,
}

impl Manifest {
    /// Reads and checks a manifest file.
    ///
    /// # Errors
    /// [`Error::Manifest`] with every mistake found (not a file, not UTF-8, bad TOML, bad values, bad
    /// wiring); [`Error::Io`] if the file can't be read for another reason.
    pub fn read(path: &Path) -> Result<Manifest> {
        let bytes = read_bytes(path).map_err(|err| unreadable(path, err))?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let dir = dir.canonicalize().or_io("find the folder", dir)?;
        Manifest::from_text(path, &dir, &bytes)
    }

    /// Checks the bytes of a manifest named `path` in folder `dir`; neither has to exist.
    ///
    /// # Errors
    /// [`Error::Manifest`] with every mistake found.
    pub fn from_text(path: &Path, dir: &Path, bytes: &[u8]) -> Result<Manifest> {
        let lf = with_lf(bytes);
        let tasks = parse::parse(path, &lf).map_err(Error::Manifest)?;
        let had_crlf = matches!(lf, Cow::Owned(_));
        Ok(Manifest { path: path.to_owned(), dir: dir.to_owned(), tasks, had_crlf })
    }

    /// Its path, absolute: what is remembered of a manifest goes by that.
    pub fn full_path(&self) -> PathBuf {
        self.dir.join(self.path.file_name().unwrap_or_default())
    }

    /// Every task with its index, in the order of the file.
    pub fn indexed(&self) -> impl Iterator<Item = (TaskIndex, &Task)> {
        self.tasks.iter().enumerate().map(|(n, task)| (TaskIndex(n), task))
    }

    /// The task at an index.
    pub fn task(&self, index: TaskIndex) -> &Task {
        &self.tasks[index.0]
    }

    /// Index of the task of this name.
    pub fn find(&self, name: &str) -> Option<TaskIndex> {
        self.tasks.iter().position(|task| task.name == name).map(TaskIndex)
    }
}

/// The same text with LF for CRLF. An editor of Windows ends every line in CRLF, within a script too, where nobody
/// means it: a shell would take the CR for a character of the last word.
fn with_lf(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.windows(2).any(|pair| pair == b"\r\n") {
        return Cow::Borrowed(bytes);
    }
    let mut lf = Vec::with_capacity(bytes.len());
    for (n, byte) in bytes.iter().enumerate() {
        if !(*byte == b'\r' && bytes.get(n + 1) == Some(&b'\n')) {
            lf.push(*byte);
        }
    }
    Cow::Owned(lf)
}

/// Bytes. A manifest of 10,000 tasks has a few MiB; something larger, such as /dev/zero, is no manifest.
const LARGEST: u64 = 64 << 20;

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

/// A file that the user can name differently is a mistake; a failing disk is not.
fn unreadable(path: &Path, source: io::Error) -> Error {
    let (message, help) = match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ("there is no such file", "name the manifest with -manifest FILE")
        }
        io::ErrorKind::IsADirectory => {
            ("this is a folder, not a manifest", "name the file in it, such as pipeline.toml")
        }
        io::ErrorKind::FileTooLarge => {
            ("this is larger than 64 MiB", "name a manifest: a TOML file of tasks")
        }
        _ => return Error::Io { what: "read manifest", path: path.to_owned(), source },
    };
    Error::Manifest(vec![Diagnostic::of_file(path, message, help)])
}
