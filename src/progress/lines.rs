//! One line per event, for a file, a pipe or a build log; and the colors of everything on standard error.

use std::fmt::Display;
use std::io::Write;

use crate::attempt::{BatchPlace, Verdict};
use crate::labels::step_text;
use crate::text::{attempts_text, plural, printable, printable_line, span};

use super::{Event, Failure, Progress, StepName, Summary};

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loudness {
    /// Warnings, failures and what follows from them.
    Quiet,
    /// Every event.
    Normal,
}

/// Whether text is colored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Colored,
}

impl Paint {
    /// Success.
    pub(super) fn good(self, text: impl Display) -> String {
        self.sgr("32", text)
    }

    /// A warning.
    pub(super) fn doubtful(self, text: impl Display) -> String {
        self.sgr("33", text)
    }

    /// A failure.
    pub(super) fn bad(self, text: impl Display) -> String {
        self.sgr("1;31", text)
    }

    /// Less important than the rest.
    pub(super) fn faint(self, text: impl Display) -> String {
        self.sgr("2", text)
    }

    /// `code` is a parameter of the terminal's "select graphic rendition" sequence.
    fn sgr(self, code: &str, text: impl Display) -> String {
        match self {
            Paint::Plain => text.to_string(),
            Paint::Colored => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// Prints events to a writer, usually standard error.
pub struct Lines<W: Write> {
    out: W,
    loudness: Loudness,
    paint: Paint,
}

impl<W: Write> Lines<W> {
    /// Each event is one write, so that the lines of several processes don't mix.
    pub fn new(out: W, loudness: Loudness, paint: Paint) -> Lines<W> {
        Lines { out, loudness, paint }
    }
}

impl<W: Write> Progress for Lines<W> {
    fn tell(&mut self, event: &Event<'_>) {
        if let Some(text) = text(event, self.loudness, self.paint) {
            // A closed or full standard error must not stop a run.
            let _ = self.out.write_all(text.as_bytes());
        }
    }
}

/// An event as text, line ends included; `None` if it isn't shown.
pub(super) fn text(event: &Event<'_>, loudness: Loudness, paint: Paint) -> Option<String> {
    let quiet = loudness == Loudness::Quiet;
    Some(match event {
        Event::Warning(text) => format!("{} {text}\n", paint.doubtful("warning:")),
        Event::Failed(ended, failure) => match (ended.completion.verdict, ended.name.batch) {
            (Verdict::Alone, Some(batch)) if batch.item > 1 => return None,
            (Verdict::Alone, Some(batch)) => batch_failure_text(batch, failure, paint),
            _ => failure_text(failure, ended.is_retried(), paint),
        },
        Event::Log { step, log } => log_text(step, log, paint),
        Event::Interrupted { signal, presses } => interrupted_text(*signal, *presses),
        Event::Ended(summary) => summary_text(summary, quiet, paint)?,
        _ if quiet => return None,
        Event::Note(text) => format!("{text}\n"),
        Event::Opened { manifest, tasks, db } => format!(
            "manifest {}: {tasks} task{}\ndatabase {}\n",
            printable(manifest.as_os_str().as_encoded_bytes()),
            plural(*tasks as u64),
            printable(db.as_os_str().as_encoded_bytes())
        ),
        Event::Registered(known) => {
            let plan = known.plan;
            let tasks: Vec<&str> = known.flow.tasks.iter().map(|task| task.name.as_str()).collect();
            let mut text = format!("registered {}\n", tasks.join(", "));
            let reused: u64 = plan.tasks.iter().map(|task| task.reused).sum();
            let retired: u64 = plan.tasks.iter().map(|task| task.retired).sum();
            let to_run = plan.to_run() + plan.to_come();
            text.push_str(&format!(
                "to run: {to_run} step{} so far; {reused} up to date",
                plural(to_run)
            ));
            if retired + plan.retired_with_task > 0 {
                text.push_str(&format!("; {} no longer needed", retired + plan.retired_with_task));
            }
            text.push('\n');
            text
        }
        Event::Shared(shared) => {
            let name = step_text(shared.step.0, shared.task, shared.input, shared.labels);
            let (done, same_as) = (paint.good("done"), shared.same_as);
            match shared.has_failed {
                true => format!(
                    "{name}: {}, same work as step {same_as}, which failed\n",
                    paint.bad("failed")
                ),
                false if same_as == shared.step => {
                    format!("{name}: {done}, an earlier result is valid again\n")
                }
                false => format!("{name}: {done}, same work as step {same_as}\n"),
            }
        }
        Event::Done(ended) => {
            let outputs = ended.completion.outputs.len();
            let batch = ended.name.batch;
            let shared = batch.map(|batch| format!(" with {}", fellows(batch)));
            format!(
                "{}: {}, {outputs} output{}, {}{}\n",
                named(&ended.name),
                paint.good("done"),
                plural(outputs as u64),
                span(ended.wall()),
                shared.unwrap_or_default()
            )
        }
        Event::Begun(_)
        | Event::Grown { .. }
        | Event::Started(_)
        | Event::Dropped(_)
        | Event::Committed(_)
        | Event::Exits { .. } => return None,
    })
}

fn named(name: &StepName<'_>) -> String {
    step_text(name.step.0, name.task, name.input, name.labels)
}

/// The steps that share a script with one.
pub(super) fn fellows(batch: BatchPlace) -> String {
    match batch.size - 1 {
        1 => "1 other".to_owned(),
        more => format!("{more} others"),
    }
}

fn failed_step(failure: &Failure) -> String {
    step_text(failure.step.0, &failure.task, &failure.input, &failure.labels)
}

fn failure_text(failure: &Failure, is_retried: bool, paint: Paint) -> String {
    let again = if is_retried { "; trying again" } else { "" };
    let failed = paint.bad("failed");
    let first = format!("{}: {failed}: {}{again}\n", failed_step(failure), failure.why);
    with_log(first, failure, paint)
}

/// Of a script that several steps shared: told once.
fn batch_failure_text(batch: BatchPlace, failure: &Failure, paint: Paint) -> String {
    let failed = paint.doubtful("failed");
    let first = format!(
        "{} with {}: {failed}: {}; each of them runs again by itself\n",
        failed_step(failure),
        fellows(batch),
        failure.why
    );
    with_log(first, failure, paint)
}

fn with_log(mut text: String, failure: &Failure, paint: Paint) -> String {
    for line in &failure.log_tail {
        text.push_str(&paint.faint("  | "));
        text.push_str(&printable_line(line));
        text.push('\n');
    }
    text
}

fn log_text(step: &StepName<'_>, log: &[u8], paint: Paint) -> String {
    let mut text = String::with_capacity(log.len() + 64);
    let shared = step.batch.map(|batch| format!(" with {}", fellows(batch))).unwrap_or_default();
    let prefix = paint.faint(format!("{}{shared}| ", named(step)));
    for line in log.strip_suffix(b"\n").unwrap_or(log).split(|&byte| byte == b'\n') {
        text.push_str(&prefix);
        text.push_str(&printable_line(line));
        text.push('\n');
    }
    text
}

fn interrupted_text(signal: i32, presses: usize) -> String {
    let name = signal_hook::low_level::signal_name(signal)
        .map_or_else(|| format!("signal {signal}"), str::to_owned);
    match presses {
        1 => format!("{name}: ending the running steps; once more ends them at once\n"),
        _ => format!("{name} again: killing the running steps\n"),
    }
}

/// The end of a run. It repeats the failures, because by now they may have scrolled away.
fn summary_text(summary: &Summary, quiet: bool, paint: Paint) -> Option<String> {
    let Summary { done, reused, failed, outputs, .. } = summary;
    let mut text = String::new();
    if *failed > 0 {
        let all = format!("{failed} step{} failed:", plural(*failed));
        text.push_str(&format!("{}\n", paint.bad(all)));
        for failure in &summary.failures {
            text.push_str(&format!(
                "  {}: {} (task-pipeline log {})\n",
                failed_step(failure),
                failure.why,
                failure.step
            ));
        }
        let unnamed = failed - summary.failures.len() as u64;
        if unnamed > 0 {
            text.push_str(&format!("  and {unnamed} more: task-pipeline log --failed\n"));
        }
    }
    let why = |task: &String| {
        let known = summary.reasons.iter().find(|(known, _)| known == task);
        known.map(|(_, reason)| reason.as_str())
    };
    for task in &summary.waiting {
        let why = why(task).unwrap_or("not everything that it gathers is done");
        text.push_str(&format!("task {task} waits: {why}\n"));
    }
    for task in &summary.blind {
        let why = why(task).unwrap_or("not everything that it sees is done");
        text.push_str(&format!("task {task} waits: {why}\n"));
    }
    if quiet {
        return (!text.is_empty()).then_some(text);
    }
    for (task, count) in &summary.unseeing {
        let (s, have) = (plural(*count), if *count == 1 { "has" } else { "have" });
        text.push_str(&format!(
            "task {task}: {count} input{s} {have} no step, since its `with` gives nothing to see\n"
        ));
    }
    let time = span(summary.wall);
    if *done == 0 && summary.complete {
        text.push_str(&format!(
            "nothing to do: {reused} step{} up to date ({time})\n",
            plural(*reused)
        ));
        return Some(text);
    }
    if summary.kept > 0 {
        let (kept, s) = (summary.kept, plural(summary.kept));
        let them = if kept == 1 { "keeps the result it" } else { "keep the results they" };
        text.push_str(&format!("{kept} step{s} did not come out anew and {them} had\n"));
    }
    text.push_str(&format!(
        "total {}; {}; {outputs} output{}; {time}\n",
        summary.steps(),
        attempts_text(summary.attempts, summary.failed_attempts),
        plural(*outputs)
    ));
    Some(text)
}
