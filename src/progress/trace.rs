//! `--trace`: the Chrome trace format, which Perfetto and chrome://tracing open. Each worker is a row, and each slot of
//! one elsewhere; each attempt is a bar; the commits have a row of their own.
//!
//! The file is one JSON array with an event a line. The format allows the closing bracket to be missing, so the
//! trace of a killed run can be opened too.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::attempt::micros;
use crate::elsewhere::WorkerSlot;
use crate::error::Result;
use crate::text::{path_bytes, printable};

use super::sink::{Format, Sink};
use super::{Commit, Event, Progress, StepEnded};

/// The row of the commits; workers count from 1.
const COMMITS: usize = 0;

const FORMAT: Format = Format {
    what: "a trace",
    is_it: |bytes| bytes.starts_with(b"[\n{\"args\":{\"name\":\"task-pipeline "),
};

/// Writes a trace.
pub struct Trace {
    sink: Sink,
    begun: Instant,
    /// Rows that already have a name.
    rows: HashSet<usize>,
    is_first: bool,
}

impl Trace {
    /// Writes to a file, which is emptied first, or for `-` to standard output. `force`: even if the file holds
    /// something else than a trace.
    ///
    /// # Errors
    /// If the file can't be opened, or holds something else;
    /// [`Error::Taken`](crate::error::Error::Taken) while another run writes to it.
    pub fn open(path: &Path, force: bool) -> Result<Trace> {
        let sink = Sink::open(path, &FORMAT, force)?;
        Ok(Trace { sink, begun: Instant::now(), rows: HashSet::new(), is_first: true })
    }

    fn write(&mut self, event: &Value) {
        let before = if std::mem::take(&mut self.is_first) { "[\n" } else { ",\n" };
        self.sink.write(format!("{before}{event}").as_bytes());
    }

    /// Microseconds from the start of the trace to this moment.
    fn us(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.begun))
    }

    /// Names a row, and fixes its position, before its first bar.
    fn row(&mut self, row: usize, on: Option<&WorkerSlot>) {
        if self.rows.insert(row) {
            let name = match (row, on) {
                (COMMITS, _) => "commits".to_owned(),
                (_, Some(WorkerSlot { worker, slot, host, .. })) => {
                    format!("worker {worker}, slot {slot} on {}", printable(host.as_bytes()))
                }
                (row, None) => format!("worker {row}"),
            };
            self.write(&json!({
                "name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": name},
            }));
            self.write(&json!({
                "name": "thread_sort_index", "ph": "M", "pid": 1, "tid": row, "args": {"sort_index": row},
            }));
        }
    }

    /// Its row has a name already.
    fn bar(&mut self, row: usize, name: &str, kind: &str, span: (Instant, Instant), args: Value) {
        let (began, ended) = (self.us(span.0), self.us(span.1));
        self.write(&json!({
            "name": name, "cat": kind, "ph": "X", "pid": 1, "tid": row,
            "ts": began, "dur": ended.saturating_sub(began), "args": args,
        }));
    }

    fn step(&mut self, ended: &StepEnded<'_>, why: Option<&str>) {
        let name = &ended.name;
        if name.batch.is_some_and(|batch| batch.item > 1) {
            // The bar of the first one is that of all that shared the script.
            return;
        }
        let attempt = &ended.completion.attempt;
        let usage = &attempt.usage;
        let row = attempt.worker.and_then(|worker| usize::try_from(worker).ok()).unwrap_or(1);
        let args = json!({
            "step": name.step.0, "steps": name.batch.map_or(1, |batch| batch.size), "input": printable(name.input), "labels": name.labels, "attempt": name.attempt,
            "outcome": attempt.outcome.word(), "why": why, "outputs": ended.completion.outputs.len(),
            "wall_us": micros(usage.wall), "user_us": micros(usage.user), "system_us": micros(usage.system),
            "peak_kib": usage.peak_memory, "log": attempt.log.map(|log| log.hex()),
            "host": attempt.on.as_ref().map(|on| printable(on.host.as_bytes())),
        });
        self.row(row, attempt.on.as_ref());
        // Viewers color bars and sum them up by name, so all steps of a task have one.
        self.bar(row, name.task, attempt.outcome.word(), ended.worked, args);
    }

    fn commit(&mut self, commit: &Commit) {
        self.row(COMMITS, None);
        let args = json!({"steps": commit.steps});
        if commit.synced > commit.began {
            self.bar(COMMITS, "barrier", "commit", (commit.began, commit.synced), args.clone());
        }
        self.bar(COMMITS, "commit", "commit", (commit.synced, commit.ended), args);
    }
}

impl Progress for Trace {
    fn tell(&mut self, event: &Event<'_>) {
        match event {
            Event::Begun(asked) => {
                let name = format!("task-pipeline {}", printable(path_bytes(asked.manifest)));
                self.write(&json!({
                    "name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": {"name": name},
                }));
            }
            Event::Done(ended) => self.step(ended, None),
            Event::Failed(ended, failure) => self.step(ended, Some(&failure.why)),
            Event::Committed(commit) => self.commit(commit),
            Event::Interrupted { signal, .. } => {
                let at = self.us(Instant::now());
                self.write(&json!({
                    "name": format!("signal {signal}"), "ph": "i", "s": "g", "pid": 1, "tid": 0, "ts": at,
                }));
            }
            Event::Exits { .. } => self.sink.write(b"\n]\n"),
            _ => {}
        }
    }

    fn complaint(&mut self) -> Option<String> {
        self.sink.complaint()
    }
}
