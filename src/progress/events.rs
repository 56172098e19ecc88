//! `--events`: one JSON object a line for every event, in the order in which things happened.
//!
//! `fixtures/schemas/event.json` describes each kind. Within one version of the schema fields are only
//! added. The `…Fields` types are that schema; they are apart from the types they are made of, so that
//! those can change without changing what programs read.

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;
use std::time::Instant;

use serde::Serialize;

use crate::attempt::{BatchPlace, Outcome, Output, micros};
use crate::db::RunSteps;
use crate::elsewhere::{WorkerChange, WorkerNote, WorkerSlot};
use crate::error::Result;
use crate::ids::StepId;
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::sys::{clock, proc};
use crate::text::{path_bytes, printable};

use super::sink::{Format, Sink};
use super::{Begun, Commit, Event, Progress, Registered, StepEnded, StepName, Summary};

/// The name and version of the format, in the first event.
const SCHEMA: &str = "task-pipeline events 1";

const FORMAT: Format = Format {
    what: "events",
    is_it: |bytes| {
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let schema = b"\"schema\":\"task-pipeline events ";
        line.starts_with(b"{\"event\":\"started\"")
            && line.windows(schema.len()).any(|part| part == schema)
    },
};

/// Writes events for programs.
pub struct JsonLines {
    sink: Sink,
    begun: Instant,
    /// Reused from line to line.
    buffer: Vec<u8>,
    running: HashSet<StepId>,
}

impl JsonLines {
    /// Writes to a file, which is emptied first, or for `-` to standard output. `force`: even if the file holds
    /// something else than events.
    ///
    /// # Errors
    /// If the file can't be opened, or holds something else;
    /// [`Error::Taken`](crate::error::Error::Taken) while another run writes to it.
    pub fn open(path: &Path, force: bool) -> Result<JsonLines> {
        Ok(JsonLines {
            sink: Sink::open(path, &FORMAT, force)?,
            begun: Instant::now(),
            buffer: Vec::new(),
            running: HashSet::new(),
        })
    }

    /// Microseconds from the first event to this moment.
    fn since_begun(&self, at: Instant) -> u64 {
        micros(at.saturating_duration_since(self.begun))
    }

    /// What the schema calls an event, and its fields.
    fn fields<'a>(&self, event: &Event<'a>) -> (&'static str, Fields<'a>) {
        match event {
            Event::Begun(begun) => ("started", begun_fields(begun)),
            Event::Note(text) => ("note", Fields::Text { text }),
            Event::Warning(text) => ("warning", Fields::Text { text }),
            Event::Opened { tasks, .. } => ("opened", Fields::Opened { tasks: *tasks }),
            Event::Registered(known) => ("planned", planned_fields(known)),
            Event::Grown { name, pending, revived, .. } => {
                ("grown", Fields::Grown { task: name, pending: *pending, revived: *revived })
            }
            Event::Shared(shared) => {
                let fields = Fields::Shared {
                    step: shared.step.0,
                    task: shared.task,
                    input: printable(shared.input),
                    labels: shared.labels,
                    failed: shared.has_failed,
                    same_as: shared.same_as.0,
                };
                ("step_shared", fields)
            }
            Event::Worker(note) => worker_fields(note),
            Event::Started(started) => {
                let fields = Fields::StepStarted {
                    step: step_fields(&started.name),
                    worker: started.worker,
                    on: started.on,
                    began_us: self.since_begun(started.at),
                };
                ("step_started", fields)
            }
            Event::Done(ended) => ("step_ended", self.end_fields(ended, None)),
            Event::Failed(ended, failure) => {
                ("step_ended", self.end_fields(ended, Some(&failure.why)))
            }
            Event::Dropped(name) => ("step_dropped", Fields::StepDropped(step_fields(name))),
            Event::Log { step, log } => {
                ("step_log", Fields::StepLog { step: step_fields(step), text: printable(log) })
            }
            Event::Committed(commit) => ("committed", self.commit_fields(commit)),
            Event::Interrupted { signal, presses } => {
                let signal_name = signal_hook::low_level::signal_name(*signal);
                let (signal, presses) = (*signal, *presses);
                ("interrupted", Fields::Interrupted { signal, signal_name, presses })
            }
            Event::Ended(summary) => ("summary", summary_fields(summary)),
            Event::Exits { code, signal, error } => {
                let exit_code = if signal.is_none() { Some(*code) } else { None };
                ("ended", Fields::Ended { exit_code, signal: *signal, error: *error })
            }
        }
    }

    fn end_fields<'a>(&self, ended: &StepEnded<'a>, why: Option<&'a str>) -> Fields<'a> {
        let attempt = &ended.completion.attempt;
        let (exit_code, signal) = match attempt.outcome {
            Outcome::Succeeded => (Some(0), None),
            Outcome::Exited(code) => (Some(code), None),
            Outcome::Signalled(signal) => (None, Some(signal)),
            _ => (None, None),
        };
        let end = EndFields {
            worker: attempt.worker,
            on: attempt.on.as_ref(),
            outcome: attempt.outcome.word(),
            again: ended.is_retried(),
            exit_code,
            signal,
            why,
            began_us: self.since_begun(ended.worked.0),
            ended_us: self.since_begun(ended.worked.1),
            started_ms: attempt.started_ms,
            wall_us: micros(attempt.usage.wall),
            user_us: micros(attempt.usage.user),
            system_us: micros(attempt.usage.system),
            peak_kib: attempt.usage.peak_memory,
            peak_of: attempt.usage.peak_of.as_str(),
            start: attempt.start.as_str(),
            outputs: ended.completion.outputs.iter().map(output_fields).collect(),
            log: attempt.log,
        };
        Fields::StepEnded { step: step_fields(&ended.name), end: Box::new(end) }
    }

    fn commit_fields<'a>(&self, commit: &Commit) -> Fields<'a> {
        Fields::Committed {
            steps: commit.steps,
            began_us: self.since_begun(commit.began),
            barrier_us: micros(commit.synced.saturating_duration_since(commit.began)),
            commit_us: micros(commit.ended.saturating_duration_since(commit.synced)),
        }
    }
}

impl Progress for JsonLines {
    fn tell(&mut self, event: &Event<'_>) {
        match event {
            Event::Started(started) => {
                self.running.insert(started.name.step);
            }
            Event::Done(ended) | Event::Failed(ended, _) => {
                self.running.remove(&ended.name.step);
            }
            // Readers never saw this step start, so there is nothing to take back.
            Event::Dropped(name) if !self.running.remove(&name.step) => return,
            _ => {}
        }
        let (event, fields) = self.fields(event);
        let line = JsonLine {
            event,
            time_ms: clock::now_ms(),
            elapsed_us: micros(self.begun.elapsed()),
            fields,
        };
        self.buffer.clear();
        // Writing into memory can't fail, and neither can serializing these types.
        if serde_json::to_writer(&mut self.buffer, &line).is_ok() {
            self.buffer.push(b'\n');
            self.sink.write(&self.buffer);
        }
    }

    fn wants_starts(&self) -> bool {
        true
    }

    fn complaint(&mut self) -> Option<String> {
        self.sink.complaint()
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    event: &'static str,
    /// Milliseconds since 1970.
    time_ms: i64,
    /// Since the first event, by the monotonic clock.
    elapsed_us: u64,
    #[serde(flatten)]
    fields: Fields<'a>,
}

/// What each kind of event has beside its name and times. Names are escaped by [`printable`], which is
/// reversible.
#[derive(Serialize)]
#[serde(untagged)]
enum Fields<'a> {
    Begun {
        schema: &'static str,
        version: &'static str,
        manifest: Cow<'a, str>,
        db: Cow<'a, str>,
        jobs: usize,
        durability: &'a str,
        pid: u32,
        host: HostFields,
    },
    Text {
        text: &'a str,
    },
    Opened {
        tasks: usize,
    },
    Planned {
        run: i64,
        tasks: Vec<TaskFields<'a>>,
        to_run: u64,
        retired_with_task: u64,
    },
    Grown {
        task: &'a str,
        pending: u64,
        revived: u64,
    },
    Shared {
        step: i64,
        task: &'a str,
        input: Cow<'a, str>,
        labels: &'a Labels,
        failed: bool,
        same_as: i64,
    },
    WorkerJoined {
        worker: usize,
        host: &'a str,
        slots: usize,
        job: Option<&'a str>,
    },
    WorkerLeft {
        worker: usize,
        host: &'a str,
        lost: Option<&'a str>,
        running: usize,
        made: u64,
    },
    StepStarted {
        #[serde(flatten)]
        step: StepFields<'a>,
        worker: usize,
        on: Option<&'a WorkerSlot>,
        began_us: u64,
    },
    StepEnded {
        #[serde(flatten)]
        step: StepFields<'a>,
        #[serde(flatten)]
        end: Box<EndFields<'a>>,
    },
    StepDropped(StepFields<'a>),
    StepLog {
        #[serde(flatten)]
        step: StepFields<'a>,
        text: Cow<'a, str>,
    },
    Committed {
        steps: usize,
        began_us: u64,
        barrier_us: u64,
        commit_us: u64,
    },
    Interrupted {
        signal: i32,
        signal_name: Option<&'static str>,
        presses: usize,
    },
    Summary {
        done: u64,
        reused: u64,
        revived: u64,
        failed: u64,
        left: u64,
        steps: RunSteps,
        kept: u64,
        attempts: u64,
        failed_attempts: u64,
        outputs: u64,
        waiting: Vec<&'a String>,
        spoilt: Vec<ObjectHash>,
        complete: bool,
        wall_us: u64,
    },
    Ended {
        exit_code: Option<u8>,
        signal: Option<i32>,
        error: Option<&'a str>,
    },
}

#[derive(Serialize)]
struct HostFields {
    name: String,
    kernel: String,
    arch: &'static str,
    cpus: usize,
}

#[derive(Serialize)]
struct TaskFields<'a> {
    task: &'a str,
    new: u64,
    again: u64,
    reused: u64,
    retired: u64,
    waits_for_inputs: bool,
}

#[derive(Serialize)]
struct StepFields<'a> {
    step: i64,
    task: &'a str,
    input: Cow<'a, str>,
    object: ObjectHash,
    key: ObjectHash,
    labels: &'a Labels,
    attempt: i64,
    batch: Option<BatchPlace>,
}

#[derive(Serialize)]
struct EndFields<'a> {
    worker: Option<i64>,
    on: Option<&'a WorkerSlot>,
    outcome: &'static str,
    again: bool,
    exit_code: Option<i32>,
    signal: Option<i32>,
    why: Option<&'a str>,
    began_us: u64,
    ended_us: u64,
    started_ms: i64,
    wall_us: u64,
    user_us: u64,
    system_us: u64,
    peak_kib: u64,
    peak_of: &'static str,
    start: &'static str,
    outputs: Vec<OutputFields<'a>>,
    log: Option<ObjectHash>,
}

#[derive(Serialize)]
struct OutputFields<'a> {
    name: Cow<'a, str>,
    object: ObjectHash,
    size: u64,
    executable: bool,
}

fn begun_fields<'a>(begun: &Begun<'a>) -> Fields<'a> {
    let host = HostFields {
        name: proc::kernel("hostname"),
        kernel: proc::kernel("osrelease"),
        arch: std::env::consts::ARCH,
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
    };
    Fields::Begun {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        manifest: printable(path_bytes(begun.manifest)),
        db: printable(path_bytes(begun.db)),
        jobs: begun.jobs,
        durability: begun.durability,
        pid: std::process::id(),
        host,
    }
}

fn planned_fields<'a>(known: &Registered<'a>) -> Fields<'a> {
    let tasks = known.flow.tasks.iter().zip(&known.plan.tasks);
    let tasks = tasks.map(|(task, plan)| TaskFields {
        task: &task.name,
        new: plan.fresh,
        again: plan.again,
        reused: plan.reused,
        retired: plan.retired,
        waits_for_inputs: plan.waits_for_inputs,
    });
    Fields::Planned {
        run: known.run.0,
        tasks: tasks.collect(),
        to_run: known.plan.to_run(),
        retired_with_task: known.plan.retired_with_task,
    }
}

fn worker_fields(note: &WorkerNote) -> (&'static str, Fields<'_>) {
    let WorkerNote { worker, host, slots, job, change, .. } = note;
    match change {
        WorkerChange::Joined => {
            let (worker, slots, job) = (*worker, *slots, job.as_deref());
            ("worker_joined", Fields::WorkerJoined { worker, host, slots, job })
        }
        WorkerChange::Left { lost, running, made } => {
            let (worker, running, made) = (*worker, *running, *made);
            let lost = lost.as_deref();
            ("worker_left", Fields::WorkerLeft { worker, host, lost, running, made })
        }
    }
}

fn step_fields<'a>(name: &StepName<'a>) -> StepFields<'a> {
    StepFields {
        step: name.step.0,
        task: name.task,
        input: printable(name.input),
        object: *name.object,
        key: name.key(),
        labels: name.labels,
        attempt: name.attempt,
        batch: name.batch,
    }
}

fn output_fields(output: &Output) -> OutputFields<'_> {
    OutputFields {
        name: printable(&output.name),
        object: output.object,
        size: output.size,
        executable: output.executable,
    }
}

fn summary_fields<'a>(summary: &'a Summary) -> Fields<'a> {
    Fields::Summary {
        done: summary.done,
        reused: summary.reused,
        revived: summary.revived,
        failed: summary.failed,
        left: summary.left,
        steps: summary.steps(),
        kept: summary.kept,
        attempts: summary.attempts,
        failed_attempts: summary.failed_attempts,
        outputs: summary.outputs,
        waiting: summary.waiting.iter().chain(&summary.blind).collect(),
        spoilt: summary.spoilt.iter().map(|(object, _)| *object).collect(),
        complete: summary.complete,
        wall_us: micros(summary.wall),
    }
}
