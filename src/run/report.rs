//! From what happened in an attempt to its rows, and to what is said of it.

use std::time::Instant;

use crate::attempt::{AttemptRecord, Outcome, Output, verdict};
use crate::db::Completion;
use crate::error::{OrIo, Result};
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
    ) -> Result<Option<Ready>> {
        let task = &self.tasks[job.task.0];
        let is_stopping = !self.stop.may_start();
        let verdict = verdict(&report.outcome, job.tried, task.retries, is_stopping);
        let Some(verdict) = verdict else { return Ok(None) };
        let failure = match report.outcome {
            Outcome::Succeeded => None,
            ref outcome => Some(self.failure(job, outcome, report.log.as_ref())?),
        };
        let log = match &report.log {
            Some(log) if self.verbose => self.read_log(log)?,
            _ => None,
        };
        let attempt = AttemptRecord {
            number: job.leaf.attempt,
            outcome: report.outcome,
            started_ms: report.started_ms,
            usage: report.usage,
            log: report.log.as_ref().map(|log| log.hash),
            worker: i64::try_from(worker).ok(),
        };
        let mut outputs = Vec::with_capacity(report.outputs.len());
        let mut placed: Vec<Placed> = Vec::with_capacity(report.outputs.len() + 1);
        for output in report.outputs {
            outputs.push(Output {
                name: output.name,
                object: output.object.hash,
                size: output.object.size,
                executable: output.executable,
            });
            placed.push(output.object);
        }
        let log_size = report.log.as_ref().map_or(0, |log| log.size);
        placed.extend(report.log);
        let finish = Finish { job: job.clone(), worked, failure, warnings: report.warnings, log };
        let completion =
            Completion { step: job.leaf.step, task: job.task, attempt, verdict, outputs, log_size };
        Ok(Some(Ready { completion, placed, finish, is_urgent: task.is_limited }))
    }

    fn failure(&self, job: &Job, outcome: &Outcome, log: Option<&Placed>) -> Result<Failure> {
        let mut log_tail = Vec::new();
        if let Some(log) = log {
            let mut file = self.store.open_object(&log.hash)?;
            log_tail =
                tail(&mut file, TAIL_LINES).or_io("read the log", self.store.path(&log.hash))?;
        }
        Ok(Failure {
            step: job.leaf.step,
            task: self.tasks[job.task.0].name.clone(),
            input: job.leaf.name.clone(),
            why: outcome.to_string(),
            log_tail,
            log: log.map(|log| log.hash),
        })
    }

    fn read_log(&self, log: &Placed) -> Result<Option<Vec<u8>>> {
        let path = self.store.path(&log.hash);
        let file = self.store.open_object(&log.hash)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, SHOWN_LOG), &mut bytes)
            .or_io("read the log", &path)?;
        Ok(Some(bytes))
    }
}
