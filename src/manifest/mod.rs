//! The manifest: from its text to tasks that are valid by themselves and together, or to a list of every
//! mistake in it. Unaware of the database and of what is on disk (`inputs` are patterns here, not files), but for the
//! headers of tables: they say which labels there are.
//!
//! `document` goes from bytes to TOML tables, `parse` from there to what they are for, `task` from a table to a task, `params` from names to values, `schema` from keys to what editors read, `tables` from
//! files to columns, `mentions` from scripts to variables, `wiring` from the names in `from` to indices. All of them add what they find to one list of findings, and go on.

mod capture;
mod document;
mod findings;
mod globs;
mod kind;
mod labels;
mod mentions;
mod params;
mod parse;
mod pattern;
mod schema;
mod tables;
mod task;
#[cfg(test)]
mod tests;
mod value;
mod wiring;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::diagnostic::Diagnostic;
use crate::error::{Error, OrIo, Result};
use crate::ids::TaskIndex;
use crate::object::ObjectHash;

pub use capture::{Captures, without_captures};
pub use globs::Globs;
pub use kind::Kind;
pub use params::ParamOverrides;
pub use pattern::{expand, fixed_part, glob_set, is_plain};
pub use schema::{TABLES, TITLE, TopTable, schema};
pub(crate) use task::resource_mistake;
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
    /// The values of `[params]`: the defaults, unless the command line has others.
    pub params: BTreeMap<String, String>,
    /// What the pipeline is called in its report.
    pub title: Option<String>,
    /// Its lines end in CRLF, and were read as if they ended in LF.
    pub had_crlf: bool,
    /// Of its bytes.
    pub hash: ObjectHash,
}

impl Manifest {
    /// Reads and checks a manifest file.
    ///
    /// # Errors
    /// [`Error::Manifest`] with every mistake found (not a file, not UTF-8, bad TOML, bad values, bad
    /// wiring); [`Error::Io`] if the file can't be read for another reason.
    pub fn read(path: &Path) -> Result<Manifest> {
        let bytes = read_bytes(path).map_err(|err| unreadable(path, err, &WhatFile::MANIFEST))?;
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let dir = dir.canonicalize().or_io("find the folder", dir)?;
        Manifest::from_text(path, &dir, &bytes)
    }

    /// The same with the values that a command line gives its params.
    ///
    /// # Errors
    /// As for [`Manifest::read`]; with every mistake in the file of params, or every name that is not one of them.
    pub fn read_with(path: &Path, overrides: &ParamOverrides) -> Result<Manifest> {
        let mut manifest = Manifest::read(path)?;
        overrides.apply(&mut manifest.params)?;
        for task in &mut manifest.tasks {
            for (name, value) in &mut task.params {
                if let Some(now) = manifest.params.get(name) {
                    value.clone_from(now);
                }
            }
        }
        Ok(manifest)
    }

    /// Checks the bytes of a manifest named `path` in folder `dir`; neither has to exist, but the tables that it names.
    ///
    /// # Errors
    /// [`Error::Manifest`] with every mistake found.
    pub fn from_text(path: &Path, dir: &Path, bytes: &[u8]) -> Result<Manifest> {
        let lf = with_lf(bytes);
        let parse::Parsed { tasks, params, title } =
            parse::parse(path, dir, &lf).map_err(Error::Manifest)?;
        let had_crlf = matches!(lf, Cow::Owned(_));
        let (path, dir, hash) = (path.to_owned(), dir.to_owned(), ObjectHash::of(bytes));
        Ok(Manifest { path, dir, tasks, params, title, had_crlf, hash })
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

/// The bytes of a further file, with LF for CRLF.
fn read_text(path: &Path, what: &WhatFile) -> Result<Vec<u8>> {
    let bytes = read_bytes(path).map_err(|err| unreadable(path, err, what))?;
    Ok(with_lf(&bytes).into_owned())
}

/// What a file should have been, and what to do if it is not.
struct WhatFile {
    what: &'static str,
    reading: &'static str,
    if_missing: &'static str,
    if_folder: &'static str,
    if_large: &'static str,
}

impl WhatFile {
    const MANIFEST: WhatFile = WhatFile {
        what: "a manifest",
        reading: "read manifest",
        if_missing: "name the manifest with -manifest FILE",
        if_folder: "name the file in it, such as pipeline.toml",
        if_large: "name a manifest: a TOML file of tasks",
    };
    const PARAMS: WhatFile = WhatFile {
        what: "a file of params",
        reading: "read params",
        if_missing: "name a TOML file of values with --params FILE",
        if_folder: "name the file in it",
        if_large: "name a TOML file of values such as seed = 7",
    };
}

/// A file that the user can name differently is a mistake; a failing disk is not.
fn unreadable(path: &Path, source: io::Error, file: &WhatFile) -> Error {
    let (message, help) = match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ("there is no such file".to_owned(), file.if_missing)
        }
        io::ErrorKind::IsADirectory => {
            (format!("this is a folder, not {}", file.what), file.if_folder)
        }
        io::ErrorKind::FileTooLarge => ("this is larger than 64 MiB".to_owned(), file.if_large),
        _ => return Error::Io { what: file.reading, path: path.to_owned(), source },
    };
    Error::Manifest(vec![Diagnostic::of_file(path, message, help)])
}
