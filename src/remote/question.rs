//! What other processes of this machine may ask a run about its workers, and what they are answered: a question and an
//! answer are a line of JSON each, and behind an answer there may be bytes.

use std::io::{self, BufRead, Read as _, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::elsewhere::WorkerSlot;
use crate::ids::StepId;

/// Name of the socket, in the run's scratch.
pub(super) const SOCKET: &str = "ask";

/// Bytes of a line at most.
const LONGEST: u64 = 64 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Question {
    /// Which workers are there, and what do they do?
    Live,
    /// What has the script of this attempt printed, from that byte on?
    Log { step: StepId, attempt: i64, from: u64 },
    /// These workers, by number or host, are to finish what they do, and leave.
    Drain(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    Live(LiveWorkers),
    /// With so many bytes behind it.
    Log {
        is_running: bool,
        bytes: usize,
    },
    /// The numbers of the workers.
    Drained(Vec<usize>),
    /// It can't be done; a sentence.
    Refused(String),
}

/// The workers that are connected just now, and what they do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveWorkers {
    pub workers: Vec<LiveWorker>,
    pub steps: Vec<LiveStep>,
}

/// A worker that is connected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveWorker {
    /// As in the table `worker`.
    pub id: i64,
    /// Attempts that it makes, and that it has made.
    pub running: usize,
    pub made: u64,
    /// It takes no more.
    pub is_draining: bool,
}

/// A step of which a worker makes an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveStep {
    pub step: StepId,
    pub attempt: i64,
    /// Steps of a batch have the same.
    pub on: WorkerSlot,
    /// Since it was sent there, milliseconds.
    pub elapsed_ms: u64,
}

/// Writes a question or an answer.
pub(super) fn write(to: &mut impl Write, line: &impl Serialize, bytes: &[u8]) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    text.extend_from_slice(bytes);
    to.write_all(&text)
}

/// Reads one; `None` at the end.
pub(super) fn read<T: DeserializeOwned>(from: &mut impl BufRead) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(LONGEST).read_until(b'\n', &mut line)?;
    match line.is_empty() {
        true => Ok(None),
        false => Ok(Some(serde_json::from_slice(&line)?)),
    }
}
