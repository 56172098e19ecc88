//! The manifest: text in, tasks that make sense together out, or every mistake at once.
//! Unaware of the database and of what is on disk (`inputs` are patterns here, not files).

mod keys;
mod lists;
mod mistake;
mod parse;
mod pattern;
mod source;
mod task;
#[cfg(test)]
mod tests;
mod value;
mod wiring;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, OrIo, Result};
use crate::ids::TaskIndex;

pub use mistake::{Mistake, Place};
pub use pattern::{fixed_part, glob_set, is_plain};

/// A manifest without mistakes.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// As it was named on the command line.
    pub path: PathBuf,
    /// Its folder, absolute: working directory of every script, base of every relative path.
    pub dir: PathBuf,
    /// In the order of the file; [`TaskIndex`] counts here.
    pub tasks: Vec<Task>,
}

/// One `[[task]]`.
#[derive(Debug, Clone)]
pub struct Task {
    /// `[A-Za-z0-9._-]{1,64}`, unique in the manifest.
    pub name: String,
    /// Text of the script, exactly as TOML gives it.
    pub script: String,
    /// Globs or plain paths of files on disk, relative to the manifest's folder. Only roots have any.
    pub inputs: Vec<String>,
    /// Tasks whose outputs this one consumes, in the order written; empty for a root.
    pub from: Vec<TaskIndex>,
    /// Globs on output names (`match`); empty takes every output.
    pub matches: Vec<String>,
    /// At most this many steps of the task at once.
    pub parallel: Option<NonZeroUsize>,
    /// Wall time after which an attempt is ended.
    pub timeout: Option<Duration>,
    /// Further attempts within one run after a failed one.
    pub retries: u32,
    /// Pause before each further attempt.
    pub retry_delay: Duration,
    /// Added to the environment; part of the recipe.
    pub env: BTreeMap<String, String>,
    /// Files the script reads, relative to the manifest's folder; their content is part of the recipe.
    pub files: Vec<String>,
    /// Interpreter and its arguments, from `shell`, split at white space with shell-like quotes; a `#!`
    /// line of the script wins over it (see [`crate::recipe`]). `["sh", "-e"]` by default.
    pub shell: Vec<String>,
    /// False: runs anew in every run.
    pub cache: bool,
    /// True: one step over all inputs together.
    pub gather: bool,
    /// True: a make, cargo or ninja in the script shares the run's `-j`.
    pub jobserver: bool,
}

impl Task {
    /// True if nothing feeds this task but files.
    pub fn is_root(&self) -> bool {
        self.from.is_empty()
    }
}

impl Manifest {
    /// Reads and checks a manifest file.
    ///
    /// # Errors
    /// [`Error::Manifest`] with every mistake found (not a file, not UTF-8, bad TOML, bad values, bad
    /// wiring); [`Error::Io`] if the file can't be read for another reason.
    pub fn read(path: &Path) -> Result<Manifest> {
        let bytes = read_bytes(path).map_err(|err| mistake::unreadable(path, err))?;
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
        let tasks = parse::parse(path, bytes).map_err(Error::Manifest)?;
        Ok(Manifest { path: path.to_owned(), dir: dir.to_owned(), tasks })
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

/// A manifest of 10,000 tasks has a few MiB; what has more, such as /dev/zero, is none.
const LARGEST: u64 = 64 << 20;

fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}
