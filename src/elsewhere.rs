//! Workers of a run as everyone speaks of them, from the place that has them to the tables and the screen: which one made
//! an attempt, and what became of each. Plain data.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::text::printable_line;

/// A slot of a worker, which makes one attempt at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSlot {
    /// Which of those that have connected in this run, see [`WorkerNote`].
    #[serde(skip)]
    pub id: i64,
    /// Which of the run's workers, from 1. One that takes the place of a lost one has its number.
    pub worker: usize,
    /// As its machine calls itself.
    pub host: Arc<str>,
    /// From 1.
    pub slot: usize,
}

/// `worker 2 on n3, slot 1`
impl fmt::Display for WorkerSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WorkerSlot { worker, host, slot, .. } = self;
        write!(f, "worker {worker} on {}, slot {slot}", printable_line(host.as_bytes()))
    }
}

/// Something has become of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerNote {
    /// Unlike that of any other worker of the run, of one in whose place it is too: from 1.
    pub id: i64,
    /// As in [`WorkerSlot`].
    pub worker: usize,
    /// As its machine calls itself; of one that never connected, as the command line does. Empty: nobody said.
    pub host: Arc<str>,
    /// Attempts that it makes at once.
    pub slots: usize,
    /// Its job in a batch system.
    pub job: Option<String>,
    /// Milliseconds since 1970.
    pub at_ms: i64,
    pub change: WorkerChange,
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerChange {
    /// It has connected, and takes attempts.
    Joined,
    /// It has gone.
    Left {
        /// Why it was lost: a sentence. `None`: it was not needed any more.
        lost: Option<String>,
        /// Attempts that were lost with it.
        running: usize,
        /// Attempts that it made.
        made: u64,
    },
}
