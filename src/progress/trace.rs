//! `--trace`: the Chrome trace format, which Perfetto and chrome://tracing open. Workers are rows, steps
//! are bars; the commits have a row of their own.
//!
//! One JSON array, an event a line. The format allows that the closing bracket is missing, so that the
//! trace of a killed run can be read too.

use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use crate::attempt::micros;
use crate::error::Result;
use crate::text::{path_bytes, printable};

use super::sink::Sink;
use super::{Commit, Event, Progress, StepEnded};

/// The row of the commits.
const COMMITS: usize = 0;

/// Writes a trace.
pub struct Trace {
    sink: Sink,
    begun: Instant,
    /// Rows that have their name already.
    rows: HashSet<usize>,
    is_first: bool,
}

impl Trace {
    /// To a file, which is emptied first, or for `-` to standard output.
    ///
    /// # Errors
    /// If the file can't be made, or another run writes to it.
    pub fn open(path: &Path) -> Result<Trace> {
        let sink = Sink::open(path)?;
        Ok(Trace { sink, begun: Instant::now(), rows: HashSet::new(), is_first: true })
    }

    fn write(&mut self, event: &Value) {
        let before = if std::mem::take(&mut self.is_first) { "[\n" } else { ",\n" };
        self.sink.write(format!("{before}{event}").as_bytes());
    }

    fn us(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.begun);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// Gives a row its name and its place before its first bar.
    fn row(&mut self, row: usize) {
        if self.rows.insert(row) {
            let name = match row {
                COMMITS => "commits".to_owned(),
                row => format!("worker {row}"),
            };
            self.write(&json!({
                "name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": {"name": name},
            }));
            self.write(&json!({
                "name": "thread_sort_index", "ph": "M", "pid": 1, "tid": row, "args": {"sort_index": row},
            }));
        }
    }

    fn bar(&mut self, row: usize, name: &str, kind: &str, span: (Instant, Instant), args: Value) {
        self.row(row);
        let (began, ended) = (self.us(span.0), self.us(span.1));
        self.write(&json!({
            "name": name, "cat": kind, "ph": "X", "pid": 1, "tid": row,
            "ts": began, "dur": ended.saturating_sub(began), "args": args,
        }));
    }

    fn step(&mut self, ended: &StepEnded<'_>, why: Option<&str>) {
        let name = &ended.name;
        let attempt = &ended.completion.attempt;
        let usage = &attempt.usage;
        let row = attempt.worker.and_then(|worker| usize::try_from(worker).ok()).unwrap_or(1);
        let args = json!({
            "step": name.step.0, "input": printable(name.input), "attempt": name.attempt,
            "outcome": attempt.outcome.word(), "why": why, "outputs": ended.completion.outputs.len(),
            "wall_us": micros(usage.wall), "user_us": micros(usage.user), "system_us": micros(usage.system),
            "peak_kib": usage.peak_memory, "log": attempt.log.map(|log| log.hex()),
        });
        // One name per task, so that a viewer gives each task a colour and sums it up.
        self.bar(row, name.task, attempt.outcome.word(), ended.worked, args);
    }

    fn commit(&mut self, commit: &Commit) {
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
