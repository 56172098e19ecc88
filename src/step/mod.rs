//! One step from its object to its outcome: scratch, process, outputs. Unaware of tasks, the
//! database and who asked.
//!
//! `execute` is the sequence; `scratch` the folders a worker reuses for every step; `input`, `gather`
//! and `links` what the script reads; `launch`, `process`, `orphans`, `proc` and `supervisor` the
//! script's life and end; `outputs`, `adopt` and `log` what it leaves; `tree` lists and clears folders by descriptor;
//! `survivors` ends what a killed runner left; `running` tells others what runs.

mod adopt;
mod execute;
mod gather;
mod input;
mod launch;
mod links;
mod log;
mod orphans;
mod outputs;
mod proc;
mod process;
mod running;
mod scratch;
mod supervisor;
mod survivors;
#[cfg(test)]
mod tests;
mod tree;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::attempt::{NamedObject, Outcome, Usage};
use crate::error::Result;
use crate::jobserver::Share;
use crate::object::ObjectHash;
use crate::store::{Placed, Store};

pub use execute::execute;
pub use running::{Running, running};
pub use scratch::{FULL, Scratch};
pub use supervisor::{GRACE, Supervisor};
pub use survivors::{end_survivors, remove_scratch};

/// What a step works on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Input {
    /// One object.
    One(NamedObject),
    /// `gather`: all of them, already sorted by (name, hash).
    Many(Vec<NamedObject>),
}

/// What makes an attempt: [`execute()`], whose place a bench gives to something that takes no time.
pub type Execute =
    fn(&mut Scratch, &Store, &Supervisor, &Attempt, &mut dyn FnMut(&Outcome)) -> Result<Report>;

/// One attempt to be made.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub input: Input,
    /// Interpreter and its arguments; the path of the script's file is appended.
    pub interpreter: Arc<[String]>,
    /// Path of the script's file, already written.
    pub script: Arc<Path>,
    /// Working directory: the manifest's folder.
    pub dir: Arc<Path>,
    /// Variables besides INPUT_FILE, INPUT_NAME, INPUT_DIR, OUTPUT_DIR and TMPDIR, which are added here.
    pub env: Vec<(OsString, OsString)>,
    pub timeout: Option<Duration>,
    /// Tokens for a make, cargo or ninja in the script.
    pub jobserver: Option<Arc<Share>>,
}

/// An output, complete in the store.
#[derive(Debug)]
pub struct PlacedOutput {
    /// Path below OUTPUT_DIR.
    pub name: Vec<u8>,
    pub object: Placed,
    pub executable: bool,
}

/// Everything there is to know of an attempt.
#[derive(Debug)]
pub struct Report {
    pub outcome: Outcome,
    /// Wall-clock start, milliseconds since 1970.
    pub started_ms: i64,
    pub usage: Usage,
    /// Empty unless succeeded; sorted by name.
    pub outputs: Vec<PlacedOutput>,
    /// stdout and stderr in order; `None` if there was nothing.
    pub log: Option<Placed>,
    /// Sentences for the user: processes left behind, mode bits stripped …
    pub warnings: Vec<String>,
    /// Objects that the script has changed through its INPUT_FILE (checked by hashing them again): they
    /// must be healed, and forgotten by the store. Empty but for scripts that force a read-only file.
    pub damaged_inputs: Vec<ObjectHash>,
    /// The script failed, and as it ended there was no room on the disk of its folders: bytes that were
    /// left. Looked at before its files are removed, since it is these that have filled the disk.
    pub full_disk: Option<u64>,
}
