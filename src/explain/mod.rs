//! Why a step ran, did not run, or will run: a verdict, and the reasons for it in words. `explain` prints them, and the
//! report shows them, so that the two never tell different stories. Unaware of how it is printed.

mod differences;

use crate::attempt::StepState;
use crate::db::{AttemptOfRun, Reader, RunFacts, StepDependencies, StepFacts, StepRow, TaskFacts};
use crate::error::Result;
use crate::ids::RunId;
use crate::text::{counted, printable};

pub(crate) use differences::{changes, recipe};

/// Unchanged `files` that are listed.
pub(crate) const MOST_FILES: usize = 20;

/// Whether a step or a task ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunVerdict {
    Ran(RunId),
    WillRun,
    /// The run is the last one.
    DidNotRun(RunId),
    /// It has no step yet.
    Waits,
    /// It belongs to an earlier manifest or to earlier inputs.
    IsHistory,
}

impl RunVerdict {
    /// The word for it in JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            RunVerdict::Ran(_) => "ran",
            RunVerdict::WillRun => "will run",
            RunVerdict::DidNotRun(_) => "did not run",
            RunVerdict::Waits => "waits",
            RunVerdict::IsHistory => "history",
        }
    }

    /// The run that it speaks of.
    pub(crate) fn run(self) -> Option<RunId> {
        match self {
            RunVerdict::Ran(run) | RunVerdict::DidNotRun(run) => Some(run),
            RunVerdict::WillRun | RunVerdict::Waits | RunVerdict::IsHistory => None,
        }
    }

    /// `ran in run 3 because script changed`
    pub(crate) fn sentence(self, because: &[String]) -> String {
        let because = because.join(", and ");
        match self {
            RunVerdict::Ran(run) => format!("ran in run {run} because {because}"),
            RunVerdict::WillRun => format!("will run because {because}"),
            RunVerdict::DidNotRun(run) => format!("did not run in run {run} because {because}"),
            RunVerdict::Waits => format!("waits: {because}"),
            RunVerdict::IsHistory => format!("is history because {because}"),
        }
    }
}

/// Why everything ran, if it was `-B`.
pub(crate) const FORCED: &str = "everything was to run anew (-B)";

const INPUT_CHANGED: &str = "its input changed";

/// Why a result that stands may not be the one that belongs to what is upstream.
pub(crate) fn outdated(task: &TaskFacts) -> String {
    let verb = if task.gather { "gathers" } else { "sees" };
    format!("what it {verb} may have changed since; its result stands until there is another one")
}

/// Why a step keeps the result that it had, though a run was to make everything anew.
pub(crate) fn not_reached(run: RunFacts) -> String {
    format!("run {} (-B) has not got to it", run.id)
}

/// A step, and all that decides why it ran.
pub(crate) struct Explained<'a> {
    pub(crate) row: &'a StepRow,
    pub(crate) facts: &'a StepFacts,
    pub(crate) task: &'a TaskFacts,
    /// Oldest first.
    pub(crate) attempts: &'a [AttemptOfRun],
    /// The step that it replaced.
    pub(crate) before: Option<&'a StepFacts>,
    /// What it has said it read.
    pub(crate) read: Option<&'a StepDependencies>,
    /// The last run.
    pub(crate) last: RunFacts,
}

impl Explained<'_> {
    /// The verdict on it, and its reasons.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(crate) fn verdict(&self, reader: &Reader) -> Result<(RunVerdict, Vec<String>)> {
        let Explained { row, facts, task, attempts, before, read, last } = *self;
        let mut changes = Vec::new();
        if let Some(before) = before {
            changes = differences::changes(reader, before.recipe, facts.recipe)?;
            let seen = differences::of_sides(reader, before.side, facts.side)?;
            if !seen.is_empty() && before.object != facts.object {
                changes.push(INPUT_CHANGED.to_owned());
            }
            changes.extend(seen);
        }
        let whys = Whys { before, changes, read };
        let (verdict, mut because) = judge(facts, task, row, attempts, whys, last);
        if task.out_of_date && row.live && row.state == StepState::Done {
            because.push(outdated(task));
        }
        Ok((verdict, because))
    }
}

/// What may have been the reason for a step.
struct Whys<'a> {
    /// The step that it replaced.
    before: Option<&'a StepFacts>,
    /// What is different from that one.
    changes: Vec<String>,
    /// What it has said it read.
    read: Option<&'a StepDependencies>,
}

/// `src/a.h changed`, for each of some files.
fn changed_files(paths: &[Vec<u8>]) -> Vec<String> {
    let mut phrases: Vec<String> =
        paths.iter().take(MOST_FILES).map(|path| format!("{} changed", printable(path))).collect();
    if paths.len() > MOST_FILES {
        phrases.push(format!("{} changed", counted(paths.len() - MOST_FILES, "more file")));
    }
    phrases
}

/// The verdict on a step, and its reasons.
fn judge(
    facts: &StepFacts,
    task: &TaskFacts,
    row: &StepRow,
    attempts: &[AttemptOfRun],
    Whys { before, changes, read }: Whys<'_>,
    last: RunFacts,
) -> (RunVerdict, Vec<String>) {
    // Why the step exists at all.
    let born = || match before {
        _ if !changes.is_empty() => changes.clone(),
        Some(before)
            if before.labels != facts.labels
                && (facts.is_row
                    || (before.object, before.executable) == (facts.object, facts.executable)) =>
        {
            differences::labels(&before.labels, &facts.labels)
        }
        Some(before) if before.object != facts.object => vec![INPUT_CHANGED.to_owned()],
        Some(before) if before.executable != facts.executable => {
            let verb = if facts.executable { "was set" } else { "was cleared" };
            vec![format!("the executable bit of its input {verb}")]
        }
        Some(_) => vec!["nothing like it was kept".to_owned()],
        None if facts.is_row => vec!["its row is new".to_owned()],
        None if facts.name.is_empty() => vec!["the task is new".to_owned()],
        None => vec!["its input is new".to_owned()],
    };
    let was_ok = attempts.iter().any(|attempt| attempt.record.outcome.is_ok());
    if !facts.live {
        let why = match task.present {
            true => "no present input or output asks for it; its results come back if one does",
            false => "its task is no longer in the manifest",
        };
        return (RunVerdict::IsHistory, vec![why.to_owned()]);
    }
    if row.state == StepState::Done
        && let Some(other) = row.same_as
    {
        let why = format!("it is the same work as step {other}, whose results it has");
        return (RunVerdict::DidNotRun(last.id), vec![why]);
    }
    if row.state == StepState::Failed
        && let Some(other) = row.same_as
    {
        let why = format!("it is the same work as step {other}, which failed last time");
        return (RunVerdict::WillRun, vec![why]);
    }
    let Some((attempt, earlier)) = attempts.split_last() else {
        return (RunVerdict::WillRun, born());
    };
    if row.state == StepState::Done
        && let Some(StepDependencies { made_by: (_, number), .. }) = read
        && let Some(later) = attempts.iter().rfind(|other| other.record.number > *number)
        // It keeps what it has if it fails when it is to run anew.
        && (later.record.outcome.is_ok() || !later.always && task.cache)
    {
        let why = format!(
            "what it has read is as it was for attempt {number}, whose result it has again"
        );
        return (RunVerdict::DidNotRun(last.id), vec![why]);
    }
    if row.state == StepState::Done
        && !attempt.record.outcome.is_ok()
        && let Some(kept) = attempts.iter().rfind(|attempt| attempt.record.outcome.is_ok())
    {
        return kept_result(kept, attempt, last.id);
    }
    match row.state {
        StepState::Failed => {
            let why = format!("it failed last time: {}", attempt.record.outcome);
            (RunVerdict::WillRun, vec![why])
        }
        StepState::Pending if was_ok && read.is_some_and(|read| !read.changed.is_empty()) => {
            (RunVerdict::WillRun, read.map(|read| changed_files(&read.changed)).unwrap_or_default())
        }
        StepState::Pending if was_ok => (
            RunVerdict::WillRun,
            vec![
                "its results are gone, or lack what `outputs` asks for, or it is to run anew"
                    .to_owned(),
            ],
        ),
        StepState::Pending => {
            (RunVerdict::WillRun, vec!["its last attempt did not succeed".to_owned()])
        }
        StepState::Done if attempt.run != last.id => {
            let all = match read {
                Some(_) => "recipe, input and what it has read",
                None => "recipe and input",
            };
            let as_before =
                format!("{all} are as they were in run {}, when it was done", attempt.run);
            let missed = last.lacks_anew.then(|| not_reached(last));
            let why = std::iter::once(as_before).chain(missed).collect();
            (RunVerdict::DidNotRun(last.id), why)
        }
        StepState::Done => {
            let why = match earlier.last() {
                // The first attempt of this run has a reason; the others are its retries.
                Some(before) if before.run == attempt.run => {
                    let first = attempts.iter().find(|other| other.run == attempt.run);
                    let before = attempts.iter().rfind(|other| other.run != attempt.run);
                    let mut why = match (first, before) {
                        (Some(_), Some(before)) => again(before, attempt, task, read),
                        _ => born(),
                    };
                    why.push("an attempt failed, and was made again".to_owned());
                    why
                }
                Some(before) => again(before, attempt, task, read),
                None => born(),
            };
            (RunVerdict::Ran(attempt.run), why)
        }
    }
}

/// The verdict on a step that failed when it was to run anew: it is done, as before.
fn kept_result(
    kept: &AttemptOfRun,
    failed: &AttemptOfRun,
    last: RunId,
) -> (RunVerdict, Vec<String>) {
    let whose = format!("its result is that of attempt {} in run {}", kept.record.number, kept.run);
    let number = failed.record.number;
    if failed.run == last {
        let why = match failed.always {
            true => FORCED.to_owned(),
            false => "its task has cache = false".to_owned(),
        };
        return (RunVerdict::Ran(last), vec![why, format!("attempt {number} failed: {whose}")]);
    }
    let since = format!("attempt {number} in run {}, which was to run it anew, failed", failed.run);
    (
        RunVerdict::DidNotRun(last),
        vec![format!("recipe and input are as they were when it was done: {whose}"), since],
    )
}

/// Why a step that had already run in one run ran again in another.
fn again(
    before: &AttemptOfRun,
    attempt: &AttemptOfRun,
    task: &TaskFacts,
    read: Option<&StepDependencies>,
) -> Vec<String> {
    let changed = read.map(|read| changed_files(&read.changed_before)).unwrap_or_default();
    let is_forced = attempt.always || !task.cache;
    if !changed.is_empty() && before.record.outcome.is_ok() && !is_forced {
        return changed;
    }
    let why = match () {
        () if !before.record.outcome.is_ok() => format!("it had failed in run {}", before.run),
        () if attempt.always => FORCED.to_owned(),
        () if !task.cache => "its task has cache = false".to_owned(),
        () => {
            "what it had made was not there any more, or lacked what `outputs` asks for, or it was to run anew (--redo)".to_owned()
        }
    };
    vec![why]
}
