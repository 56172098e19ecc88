//! One line per event, for a file, a pipe or a build log; and the colors of everything on standard error.

use std::fmt::Display;
use std::io::Write;

use unicode_width::UnicodeWidthStr as _;

use crate::attempt::{BatchPlace, Verdict};
use crate::db::unseeing_sentence;
use crate::labels::step_text;
use crate::text::{attempts_text, db_option, plural, printable, printable_line, span};

use super::counter::Counter;
use super::{Event, Failure, Progress, StepName, Summary};

/// Columns of a log, where there is no terminal that has any.
pub(super) const COLUMNS: usize = 80;

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loudness {
    /// Warnings, failures and what follows from them.
    Quiet,
    /// The beginning and the end too, but no line per step.
    Brief,
    /// Every event.
    Normal,
    /// What the scripts print too.
    Verbose,
}

/// Whether text is colored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Colored,
}

impl Paint {
    /// Success.
    pub fn good(self, text: impl Display) -> String {
        self.sgr("32", text)
    }

    /// A warning.
    pub fn doubtful(self, text: impl Display) -> String {
        self.sgr("33", text)
    }

    /// A failure.
    pub fn bad(self, text: impl Display) -> String {
        self.sgr("1;31", text)
    }

    /// Less important than the rest.
    pub fn faint(self, text: impl Display) -> String {
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

/// How events are put into words.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    pub(super) loudness: Loudness,
    pub(super) paint: Paint,
    /// What a line that names everything is cut to.
    pub(super) columns: usize,
    /// Steps are named one by one, with how far the run is.
    pub(super) counts: bool,
    /// ` -db DIR`, for the commands that are recommended; empty for the default.
    pub(super) db: String,
}

impl Voice {
    /// Hears for which database it speaks.
    pub(super) fn hear(&mut self, event: &Event<'_>) {
        if let Event::Begun(begun) = event {
            self.db = db_option(begun.db);
        }
    }
}

/// Prints events to a writer, usually standard error.
pub struct Lines<W: Write> {
    out: W,
    voice: Voice,
    counter: Counter,
}

impl<W: Write> Lines<W> {
    /// Each event is one write, so that the lines of several processes don't mix.
    pub fn new(out: W, loudness: Loudness, paint: Paint) -> Lines<W> {
        let voice = Voice { loudness, paint, columns: COLUMNS, counts: true, db: String::new() };
        Lines { out, voice, counter: Counter::default() }
    }
}

impl<W: Write> Progress for Lines<W> {
    fn tell(&mut self, event: &Event<'_>) {
        self.voice.hear(event);
        self.counter.take(event);
        if let Some(text) = text(event, &self.voice, &self.counter) {
            // A closed or full standard error must not stop a run.
            let _ = self.out.write_all(text.as_bytes());
        }
    }
}

/// An event as text, line ends included; `None` if it isn't shown.
pub(super) fn text(event: &Event<'_>, voice: &Voice, counter: &Counter) -> Option<String> {
    let Voice { loudness, paint, .. } = *voice;
    let quiet = loudness == Loudness::Quiet;
    let is_brief = loudness <= Loudness::Brief;
    let count = || if is_brief || !voice.counts { String::new() } else { format!("{counter} ") };
    Some(match event {
        Event::Warning(text) => format!("{} {text}\n", paint.doubtful("warning:")),
        Event::Failed(ended, failure) => match (ended.completion.verdict, ended.name.batch) {
            (Verdict::Alone, Some(batch)) if batch.item > 1 => return None,
            (Verdict::Alone, Some(batch)) => batch_failure_text(batch, failure, paint),
            _ if ended.is_retried() => retry_text(failure, paint),
            _ => count() + &failure_text(failure, voice),
        },
        Event::Log { step, log } => log_text(step, log, paint),
        Event::Interrupted { signal, presses } => interrupted_text(*signal, *presses),
        Event::Ended(summary) => summary_text(summary, voice)?,
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
            let tasks = known.flow.tasks.iter().map(|task| task.name.as_str());
            // The bar names the tasks itself.
            let mut text = match voice.counts || loudness == Loudness::Verbose {
                true => registered_text(tasks, voice.columns),
                false => String::new(),
            };
            let reused: u64 = plan.tasks.iter().map(|task| task.reused).sum();
            let retired: u64 = plan.tasks.iter().map(|task| task.retired).sum();
            let to_run = plan.to_run() + plan.to_come();
            match to_run {
                0 => text.push_str(&format!("nothing to run; {reused} up to date")),
                _ => text.push_str(&format!(
                    "to run: {to_run} step{} so far; {reused} up to date",
                    plural(to_run)
                )),
            }
            if retired + plan.retired_with_task > 0 {
                text.push_str(&format!("; {} no longer needed", retired + plan.retired_with_task));
            }
            text.push('\n');
            text
        }
        Event::Shared(_) | Event::Done(_) if is_brief => return None,
        Event::Shared(shared) => {
            let count = count();
            let name = step_text(shared.step.0, shared.task, shared.input, shared.labels);
            let (done, same_as) = (paint.good("done"), shared.same_as);
            match shared.has_failed {
                true => format!(
                    "{count}{name}: {}, same work as step {same_as}, which failed\n",
                    paint.bad("failed")
                ),
                false if same_as == shared.step => {
                    format!("{count}{name}: {done}, an earlier result is valid again\n")
                }
                false => format!("{count}{name}: {done}, same work as step {same_as}\n"),
            }
        }
        Event::Done(ended) => {
            let outputs = ended.completion.outputs.len();
            let batch = ended.name.batch;
            let shared = batch.map(|batch| format!(" with {}", fellows(batch)));
            format!(
                "{}{}: {}, {outputs} output{}, {}{}\n",
                count(),
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
        | Event::Worker(_)
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

/// `registered a, b, c and 37 more`: as many tasks as fit on a line, at least one.
fn registered_text<'a>(tasks: impl Iterator<Item = &'a str>, columns: usize) -> String {
    let tasks: Vec<&str> = tasks.collect();
    let all = format!("registered {}", tasks.join(", "));
    if all.width() <= columns {
        return all + "\n";
    }
    let mut text = "registered ".to_owned();
    for (n, task) in tasks.iter().enumerate() {
        let rest = tasks.len() - n;
        let comma = if n > 0 { ", " } else { "" };
        let more = if rest > 1 { format!(" and {} more", rest - 1).width() } else { 0 };
        if n > 0 && text.width() + comma.width() + task.width() + more > columns {
            return text + &format!(" and {rest} more\n");
        }
        text = text + comma + task;
    }
    text + "\n"
}

/// Of an attempt that isn't the last one: a line.
fn retry_text(failure: &Failure, paint: Paint) -> String {
    let Failure { why, tries: (this, most), .. } = failure;
    let failed = paint.doubtful("failed");
    format!("{}: attempt {this} of {most} {failed}: {why}; trying again\n", failed_step(failure))
}

/// Of a step that has failed: with the end of its last log.
fn failure_text(failure: &Failure, voice: &Voice) -> String {
    let failed = voice.paint.bad("failed");
    let which = match failure.tries {
        (_, 1) => String::new(),
        (this, most) => format!(" (attempt {this} of {most})"),
    };
    let mut text = format!("{}: {failed}: {}{which}\n", failed_step(failure), failure.why);
    // All of it was printed before.
    if voice.loudness == Loudness::Verbose {
        return text;
    }
    if failure.log_above > 0 {
        let (lines, s) = (failure.log_above, plural(failure.log_above));
        let log = format!("task-pipeline log {}{}", failure.step, voice.db);
        let above = voice.paint.faint(format!("… {lines} line{s} above: {log}"));
        text.push_str(&format!("  {above}\n"));
    }
    for line in &failure.log_tail {
        text.push_str(&voice.paint.faint("  | "));
        text.push_str(&printable_line(line));
        text.push('\n');
    }
    text
}

/// Of a script that several steps shared: told once.
fn batch_failure_text(batch: BatchPlace, failure: &Failure, paint: Paint) -> String {
    let failed = paint.doubtful("failed");
    format!(
        "{} with {}: {failed}: {}; each of them runs again by itself\n",
        failed_step(failure),
        fellows(batch),
        failure.why
    )
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
fn summary_text(summary: &Summary, voice: &Voice) -> Option<String> {
    let Voice { loudness, paint, db, .. } = voice;
    let quiet = *loudness == Loudness::Quiet;
    let Summary { done, reused, failed, outputs, .. } = summary;
    let mut text = String::new();
    // A log has one line, however long; a terminal would part it anywhere.
    let is_narrow =
        |head: &str, rest: &str| !voice.counts && head.width() + 1 + rest.width() > voice.columns;
    if *failed > 0 {
        let all = format!("{failed} step{} failed:", plural(*failed));
        text.push_str(&format!("{}\n", paint.bad(all)));
        for failure in &summary.failures {
            let what = format!("  {}: {}", failed_step(failure), failure.why);
            let hint = format!("(task-pipeline log {}{db})", failure.step);
            let gap = if is_narrow(&what, &hint) { "\n    " } else { " " };
            text.push_str(&format!("{what}{gap}{hint}\n"));
        }
        let unnamed = failed - summary.failures.len() as u64;
        if unnamed > 0 {
            text.push_str(&format!("  and {unnamed} more: task-pipeline log --failed{db}\n"));
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
        text.push_str(&unseeing_sentence(task, *count));
        text.push('\n');
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
    if summary.untried > 0 {
        let (untried, s) = (summary.untried, plural(summary.untried));
        let was = if untried == 1 { "was" } else { "were" };
        text.push_str(&format!(
            "{untried} step{s} failed before and {was} not tried again, since --only leaves {} out\n",
            if untried == 1 { "it" } else { "them" }
        ));
    }
    let steps = format!("total {};", summary.steps());
    let rest = format!(
        "{}; {outputs} output{}; {time}",
        attempts_text(summary.attempts, summary.failed_attempts),
        plural(*outputs)
    );
    let gap = if is_narrow(&steps, &rest) { "\n  " } else { " " };
    text.push_str(&format!("{steps}{gap}{rest}\n"));
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_named_as_long_as_the_line_lasts() {
        let names = ["one", "two", "three", "four"];
        let text = |columns| registered_text(names.into_iter(), columns);
        assert_eq!(text(80), "registered one, two, three, four\n");
        assert_eq!(text(32), "registered one, two, three, four\n");
        assert_eq!(text(31), "registered one, two and 2 more\n");
        assert_eq!(text(0), "registered one and 3 more\n");
    }
}
