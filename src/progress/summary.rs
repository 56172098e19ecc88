//! A run in numbers, and what failed in it.

use std::time::Duration;

use crate::ids::StepId;
use crate::object::ObjectHash;

/// Why an attempt failed, with the end of its log.
#[derive(Debug, Clone)]
pub struct Failure {
    pub step: StepId,
    pub task: String,
    pub input: Vec<u8>,
    /// "exit code 3", "killed by signal 9 (SIGKILL), maybe out of memory", "timed out after 30s" …
    pub why: String,
    /// The last lines, without line ends.
    pub log_tail: Vec<Vec<u8>>,
    pub log: Option<ObjectHash>,
}

/// A run in numbers.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Steps whose scripts ran and that are done.
    pub done: u64,
    /// Live steps that did not have to run.
    pub reused: u64,
    /// Of these, steps that came alive again during the run.
    pub revived: u64,
    pub outputs: u64,
    /// Steps that failed.
    pub failed: u64,
    /// The first of them.
    pub failures: Vec<Failure>,
    /// Live steps that are still to run.
    pub left: u64,
    /// Names of gather tasks that could not be planned.
    pub waiting: Vec<String>,
    /// The signal that stopped the run.
    pub interrupted: Option<i32>,
    /// Objects that scripts spoilt, with what is wrong; set aside already.
    pub spoilt: Vec<(ObjectHash, String)>,
    /// Every live step is done.
    pub complete: bool,
    pub wall: Duration,
}
