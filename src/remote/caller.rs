//! Asks a run of this machine about its workers.

use std::io::{self, BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, OrIo as _, Result};
use crate::ids::{RunId, StepId};
use crate::sys::local_socket;

use super::question::{self, LiveWorkers, Question, Reply, SOCKET};

/// An answer takes no longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a script that runs has printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// False: it doesn't run any more, and there are no bytes.
    pub is_running: bool,
    /// No more than come at once.
    pub bytes: Vec<u8>,
}

/// A run that answers.
pub struct Caller {
    stream: BufReader<UnixStream>,
    /// The run's scratch.
    folder: PathBuf,
}

impl Caller {
    /// Finds the run of this number, made by process `pid`, on the database in `dir`. `None`: it has no workers, is
    /// over, or belongs to somebody else.
    pub fn of_run(dir: &Path, run: RunId, pid: i64) -> Option<Caller> {
        let folder = dir.join("scratch").join(format!("{run}-{pid}"));
        let stream = local_socket::connect(&folder, SOCKET).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(Caller { stream: BufReader::new(stream), folder })
    }

    fn ask(&mut self, question: &Question) -> io::Result<(Reply, Vec<u8>)> {
        question::write(self.stream.get_mut(), question, &[])?;
        let answer = question::read(&mut self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut bytes = match &answer {
            Reply::Log { bytes, .. } => vec![0; *bytes],
            _ => Vec::new(),
        };
        self.stream.read_exact(&mut bytes)?;
        Ok((answer, bytes))
    }

    /// The workers that are connected, and what they do. None of them, if the run ends meanwhile.
    pub fn live(&mut self) -> LiveWorkers {
        match self.ask(&Question::Live) {
            Ok((Reply::Live(live), _)) => live,
            _ => LiveWorkers::default(),
        }
    }

    /// What the script of an attempt has printed from a byte on.
    pub fn printed(&mut self, step: StepId, attempt: i64, from: u64) -> Printed {
        match self.ask(&Question::Log { step, attempt, from }) {
            Ok((Reply::Log { is_running, .. }, bytes)) => Printed { is_running, bytes },
            _ => Printed { is_running: false, bytes: Vec::new() },
        }
    }

    /// Lets workers, named by number or host, finish what they do and leave. Gives their numbers.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such worker, and then none is told; [`Error::Io`] if the run does not answer.
    pub fn drain(&mut self, workers: Vec<String>) -> Result<Vec<usize>> {
        let (answer, _) =
            self.ask(&Question::Drain(workers)).or_io("ask the run in", &self.folder)?;
        match answer {
            Reply::Drained(numbers) => Ok(numbers),
            Reply::Refused(why) => Err(Error::Usage(why)),
            _ => Err(Error::Internal("the run has answered another question".to_owned())),
        }
    }
}
