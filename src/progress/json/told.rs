//! From an event to what is written of it. Names are escaped by [`printable`], which can be undone.

use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

use crate::attempt::{Outcome, micros};
use crate::progress::{Event, StepEnded, StepName};
use crate::sys::proc;
use crate::text::{path_bytes, printable};

use super::SCHEMA;
use super::body::{Body, End, Host, Output, Step, Task};

/// The name and the content of an event; times are counted from `begun`.
pub(super) fn of<'a>(event: &Event<'a>, begun: Instant) -> Option<(&'static str, Body<'a>)> {
    let since = |at: Instant| micros(at.saturating_duration_since(begun));
    Some(match event {
        Event::Begun(asked) => {
            let body = Body::Started {
                schema: SCHEMA,
                version: env!("CARGO_PKG_VERSION"),
                manifest: path(asked.manifest),
                db: path(asked.db),
                jobs: asked.jobs,
                durability: asked.durability,
                pid: std::process::id(),
                host: host(),
            };
            ("started", body)
        }
        Event::Note(text) => ("note", Body::Text { text }),
        Event::Warning(text) => ("warning", Body::Text { text }),
        Event::Opened { tasks, .. } => ("opened", Body::Opened { tasks: *tasks }),
        Event::Registered(known) => {
            let tasks = known.flow.tasks.iter().zip(&known.plan.tasks);
            let tasks = tasks.map(|(task, plan)| Task {
                task: &task.name,
                new: plan.fresh,
                again: plan.again,
                reused: plan.reused,
                retired: plan.retired,
                waits_for_inputs: plan.waits_for_inputs,
            });
            let body = Body::Planned {
                run: known.run.0,
                tasks: tasks.collect(),
                to_run: known.plan.to_run(),
                retired_with_task: known.plan.retired_with_task,
            };
            ("planned", body)
        }
        Event::Grown { name, pending, revived, .. } => {
            ("grown", Body::Grown { task: name, pending: *pending, revived: *revived })
        }
        Event::Started(started) => {
            let (step, began_us) = (step(&started.name), since(started.at));
            ("step_started", Body::StepStarted { step, worker: started.worker, began_us })
        }
        Event::Done(ended) => ("step_ended", step_ended(ended, None, since)),
        Event::Failed(ended, failure) => {
            ("step_ended", step_ended(ended, Some(&failure.why), since))
        }
        Event::Dropped(name) => ("step_dropped", Body::StepDropped(step(name))),
        Event::Log { step: name, log } => {
            ("step_log", Body::StepLog { step: step(name), text: printable(log) })
        }
        Event::Committed(commit) => {
            let body = Body::Committed {
                steps: commit.steps,
                began_us: since(commit.began),
                barrier_us: micros(commit.synced.saturating_duration_since(commit.began)),
                commit_us: micros(commit.ended.saturating_duration_since(commit.synced)),
            };
            ("committed", body)
        }
        Event::Interrupted { signal, presses } => {
            let signal_name = signal_hook::low_level::signal_name(*signal);
            ("interrupted", Body::Interrupted { signal: *signal, signal_name, presses: *presses })
        }
        Event::Ended(summary) => {
            let body = Body::Summary {
                done: summary.done,
                reused: summary.reused,
                revived: summary.revived,
                failed: summary.failed,
                left: summary.left,
                outputs: summary.outputs,
                waiting: &summary.waiting,
                spoilt: summary.spoilt.iter().map(|(object, _)| object.hex()).collect(),
                complete: summary.complete,
                wall_us: micros(summary.wall),
            };
            ("summary", body)
        }
        Event::Exits { code, signal, error } => {
            let exit_code = if signal.is_none() { Some(*code) } else { None };
            ("ended", Body::Ended { exit_code, signal: *signal, error: *error })
        }
    })
}

fn step<'a>(name: &StepName<'a>) -> Step<'a> {
    Step {
        step: name.step.0,
        task: name.task,
        input: printable(name.input),
        object: name.object.hex(),
        key: name.key().hex(),
        attempt: name.attempt,
    }
}

fn step_ended<'a>(
    ended: &StepEnded<'a>,
    why: Option<&'a str>,
    since: impl Fn(Instant) -> u64,
) -> Body<'a> {
    let completion = ended.completion;
    let attempt = &completion.attempt;
    let outputs = completion.outputs.iter().map(|output| Output {
        name: printable(&output.name),
        object: output.object.hex(),
        size: output.size,
        executable: output.executable,
    });
    let (exit_code, signal) = match attempt.outcome {
        Outcome::Succeeded => (Some(0), None),
        Outcome::Exited(code) => (Some(code), None),
        Outcome::Signalled(signal) => (None, Some(signal)),
        _ => (None, None),
    };
    let end = End {
        worker: attempt.worker,
        outcome: attempt.outcome.word(),
        again: ended.again,
        exit_code,
        signal,
        why,
        began_us: since(ended.worked.0),
        ended_us: since(ended.worked.1),
        started_ms: attempt.started_ms,
        wall_us: micros(attempt.usage.wall),
        user_us: micros(attempt.usage.user),
        system_us: micros(attempt.usage.system),
        peak_kib: attempt.usage.peak_memory,
        outputs: outputs.collect(),
        log: attempt.log.map(|log| log.hex()),
    };
    Body::StepEnded { step: step(&ended.name), end: Box::new(end) }
}

fn path(path: &Path) -> Cow<'_, str> {
    printable(path_bytes(path))
}

fn host() -> Host {
    Host {
        name: proc::kernel("hostname"),
        kernel: proc::kernel("osrelease"),
        arch: std::env::consts::ARCH,
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
    }
}
