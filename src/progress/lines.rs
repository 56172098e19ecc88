//! One line per event: for a file, a pipe, a Makefile. No escape codes.

use std::io::Write;

use crate::text::{plural, printable, printable_line, span};

use super::{Event, Failure, Paint, Progress, StepName, Summary};

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loudness {
    /// Warnings, failures and what they amount to.
    Quiet,
    /// Every event.
    Normal,
}

/// Writes to standard error, or to wherever a test wants to read it.
pub struct Lines<W: Write> {
    out: W,
    loudness: Loudness,
    paint: Paint,
}

impl<W: Write> Lines<W> {
    /// Whole lines to `out`, each with one write.
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

/// What an event looks like; line end included.
pub(super) fn text(event: &Event<'_>, loudness: Loudness, paint: Paint) -> Option<String> {
    let quiet = loudness == Loudness::Quiet;
    Some(match event {
        Event::Warning(text) => format!("{} {text}\n", paint.doubtful("warning:")),
        Event::Failed(ended, failure) => failure_text(failure, ended.again, paint),
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
            text.push_str(&format!(
                "to run: {} step{} so far; {reused} up to date",
                plan.to_run(),
                plural(plan.to_run())
            ));
            if retired + plan.retired_with_task > 0 {
                text.push_str(&format!("; {} no longer needed", retired + plan.retired_with_task));
            }
            text.push('\n');
            text
        }
        Event::Done(ended) => {
            let outputs = ended.completion.outputs.len();
            format!(
                "{}: {}, {outputs} output{}, {}\n",
                step_text(&ended.name),
                paint.good("done"),
                plural(outputs as u64),
                span(ended.wall())
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

pub(super) fn step_text(name: &StepName<'_>) -> String {
    crate::text::step(name.step.0, name.task, name.input)
}

fn failed_text(failure: &Failure) -> String {
    crate::text::step(failure.step.0, &failure.task, &failure.input)
}

fn failure_text(failure: &Failure, again: bool, paint: Paint) -> String {
    let again = if again { "; trying again" } else { "" };
    let failed = paint.bad("failed");
    let mut text = format!("{}: {failed}: {}{again}\n", failed_text(failure), failure.why);
    for line in &failure.log_tail {
        text.push_str(&paint.faint("  | "));
        text.push_str(&printable_line(line));
        text.push('\n');
    }
    text
}

fn log_text(step: &StepName<'_>, log: &[u8], paint: Paint) -> String {
    let mut text = String::with_capacity(log.len() + 64);
    let prefix = paint.faint(format!("{}| ", step_text(step)));
    for line in log.strip_suffix(b"\n").unwrap_or(log).split(|&byte| byte == b'\n') {
        text.push_str(&prefix);
        text.push_str(&printable_line(line));
        text.push('\n');
    }
    text
}

fn interrupted_text(signal: i32, presses: usize) -> String {
    let name = signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
    match presses {
        1 => format!("{name}: ending the running steps; once more ends them at once\n"),
        _ => format!("{name} again: killing the running steps\n"),
    }
}

/// The end of a run. Failures are repeated here, because they may be far up the screen.
fn summary_text(summary: &Summary, quiet: bool, paint: Paint) -> Option<String> {
    let Summary { done, reused, failed, outputs, left, .. } = summary;
    let mut text = String::new();
    if *failed > 0 {
        let all = format!("{failed} step{} failed:", plural(*failed));
        text.push_str(&format!("{}\n", paint.bad(all)));
        for failure in &summary.failures {
            text.push_str(&format!(
                "  {}: {} (task-pipeline log {})\n",
                failed_text(failure),
                failure.why,
                failure.step
            ));
        }
        let unnamed = failed - summary.failures.len() as u64;
        if unnamed > 0 {
            text.push_str(&format!("  and {unnamed} more: task-pipeline log --failed\n"));
        }
    }
    for task in &summary.waiting {
        text.push_str(&format!("task {task} waits: not everything that it gathers is done\n"));
    }
    if quiet {
        return (!text.is_empty()).then_some(text);
    }
    let time = span(summary.wall);
    if *done == 0 && summary.complete {
        text.push_str(&format!(
            "nothing to do: {reused} step{} up to date ({time})\n",
            plural(*reused)
        ));
        return Some(text);
    }
    let total = done + reused + failed + left;
    text.push_str(&format!(
        "total {total} step{}: {done} run, {reused} reused, {failed} failed, {left} left; {outputs} output{}; {time}\n",
        plural(total),
        plural(*outputs)
    ));
    Some(text)
}
