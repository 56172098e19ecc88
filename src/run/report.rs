//! From what happened in an attempt to its rows, and to what is said of it.

use std::time::Instant;

use crate::attempt::{Outcome, verdict};
use crate::db::Completion;
use crate::error::{OrIo, Result};
use crate::object::ObjectHash;
use crate::progress::Failure;
use crate::step::Report;
use crate::store::Placed;
use crate::text::{TAIL_LINES, tail};

use super::committer::Ready;
use super::shared::{Finish, Job};
use super::worker::Engine;

/// No more of a log than this is shown with `-v`.
const SHOWN_LOG: u64 = 1 << 20;

impl Engine {
    /// `None` if the attempt says nothing about the step. `worked` is from when to when it had its worker.
    pub(super) fn ready(
        &self,
        job: &Job,
        worker: usize,
        worked: (Instant, Instant),
        report: Report,
        placed: Vec<Placed>,
    ) -> Result<Option<Ready>> {
        let task = &self.tasks[job.task.0];
        let Report { mut record, outputs, log_size, warnings, .. } = report;
        let is_stopping = !self.stop.may_start();
        let verdict = verdict(&record.outcome, job.tried, task.retries, is_stopping);
        let Some(verdict) = verdict else { return Ok(None) };
        record.worker = i64::try_from(worker).ok();
        let failure = match &record.outcome {
            Outcome::Succeeded => None,
            outcome => Some(self.failure(job, outcome, record.log)?),
        };
        let log = match &record.log {
            Some(log) if self.verbose => self.read_log(log)?,
            _ => None,
        };
        let finish = Finish { job: job.clone(), worked, failure, warnings, log };
        let completion = Completion {
            step: job.leaf.step,
            task: job.task,
            attempt: record,
            verdict,
            outputs,
            log_size,
        };
        Ok(Some(Ready { completion, placed, finish, is_urgent: task.is_limited }))
    }

    fn failure(&self, job: &Job, outcome: &Outcome, log: Option<ObjectHash>) -> Result<Failure> {
        let mut log_tail = Vec::new();
        if let Some(log) = &log {
            let mut file = self.store.open_object(log)?;
            log_tail = tail(&mut file, TAIL_LINES).or_io("read the log", self.store.path(log))?;
        }
        Ok(Failure {
            step: job.leaf.step,
            task: self.tasks[job.task.0].script.task.clone(),
            input: job.leaf.name.clone(),
            why: outcome.to_string(),
            log_tail,
            log,
        })
    }

    fn read_log(&self, log: &ObjectHash) -> Result<Option<Vec<u8>>> {
        let path = self.store.path(log);
        let file = self.store.open_object(log)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, SHOWN_LOG), &mut bytes)
            .or_io("read the log", &path)?;
        Ok(Some(bytes))
    }
}
