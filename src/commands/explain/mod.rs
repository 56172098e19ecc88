//! `explain`: why a step ran, will run or did not run, and what has changed since the step before it.

mod differences;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::attempt::{BatchPlace, Start, StepState};
use crate::cli::values::{bytes, default_db, param, path};
use crate::db::{
    self, AttemptOfRun, Db, Meant, Reader, RunFacts, StepDependencies, StepFacts, StepRow,
    TaskFacts,
};
use crate::error::{Result, exit};
use crate::ids::{RecipeId, RunId, StepId};
use crate::labels::Labels;
use crate::manifest::ParamOverrides;
use crate::recipe::Recipe;
use crate::text::{counted, printable, printable_line, size};

use super::answer::SizedObject;
use super::{Command, answer, gathered_files};
use differences::{Field, Present};

/// How many of the steps that made an input are listed.
const MAKERS: usize = 5;

/// Unchanged `files` that are listed.
const MOST_FILES: usize = 20;

/// Explain why a step ran, did not run, or will run: what has changed since its last run.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "explain")]
#[argh(
    note = "With --manifest, the recorded recipe is also compared with the manifest as it is now."
)]
pub struct ExplainArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// also compare with this manifest; default: none
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub manifest: Option<PathBuf>,

    /// with --manifest: give one of the manifest's params another value; may be repeated
    #[argh(option, short = 'P', arg_name = "PARAM=VALUE", from_str_fn(param))]
    pub param: Vec<(String, String)>,

    /// with --manifest: take the values of params from a TOML file; may be repeated; -P wins over it
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub params: Vec<PathBuf>,

    /// print JSON
    #[argh(switch)]
    pub json: bool,

    /// the step, by its id, TASK/INPUT_NAME or `TASK[sample=A]`; or a TASK
    #[argh(positional, arg_name = "STEP", from_str_fn(bytes))]
    pub step: OsString,
}

impl Command for ExplainArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        match self.manifest.is_none() && !(self.params.is_empty() && self.param.is_empty()) {
            true => Err("-P and --params go with --manifest: name it"),
            false => Ok(()),
        }
    }

    fn execute(&self) -> Result<u8> {
        let db = Db::open_read_only(&self.db)?;
        let word = self.step.as_bytes();
        let explanation = db.read(|reader| {
            let mut explanation = match db::meaning(reader, word)? {
                Meant::Task(_, name) => of_task(reader, &name)?,
                Meant::Step(step) => of_step(reader, *step, &self.db)?,
                Meant::Steps(..) => of_step(reader, db::find_one_step(reader, word)?, &self.db)?,
            };
            if let Some(manifest) = &self.manifest {
                let recorded = explanation.recorded(reader)?;
                let params =
                    ParamOverrides { files: self.params.clone(), values: self.param.clone() };
                let present = Present::read(
                    &self.db,
                    manifest,
                    &params,
                    &explanation.task,
                    recorded.as_ref(),
                )?;
                explanation.present = Some(present);
            }
            Ok(explanation)
        })?;
        if self.json {
            answer::json(&ExplanationAnswer::of(&explanation))?;
        } else {
            answer::write(|out| explanation.text(out))?;
        }
        Ok(exit::OK)
    }
}

/// Whether a step or a task ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ran(RunId),
    WillRun,
    /// The run is the last one.
    DidNotRun(RunId),
    /// It belongs to an earlier manifest or to earlier inputs.
    IsHistory,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ran(_) => "ran",
            Verdict::WillRun => "will run",
            Verdict::DidNotRun(_) => "did not run",
            Verdict::IsHistory => "history",
        }
    }

    fn run(self) -> Option<RunId> {
        match self {
            Verdict::Ran(run) | Verdict::DidNotRun(run) => Some(run),
            Verdict::WillRun | Verdict::IsHistory => None,
        }
    }
}

/// The part of the answer that a step has and a task has not.
struct OfStep {
    row: StepRow,
    attempts: Vec<AttemptOfRun>,
    /// The step that it is compared with: the same one, or the one that it replaced.
    before: Option<StepRow>,
    now: SizedObject,
    was: Option<SizedObject>,
    makers: Vec<StepRow>,
    /// How many makers are not listed.
    more_makers: usize,
    files: Vec<Vec<u8>>,
    /// Files that it has said it read.
    dependencies: Vec<Vec<u8>>,
}

/// The answer.
struct Explanation {
    task: String,
    step: Option<OfStep>,
    verdict: Verdict,
    because: Vec<String>,
    /// Every field of the recipe but the script.
    fields: Vec<Field>,
    script_diff: String,
    present: Option<Present>,
}

impl Explanation {
    /// The recipe that is recorded for the step or the task.
    fn recorded(&self, reader: &Reader) -> Result<Option<Recipe>> {
        let recipe = match &self.step {
            Some(step) => db::step_facts(reader, step.row.id)?.recipe,
            None => db::task_facts(reader, db::find_task(reader, &self.task)?)?.recipe,
        };
        differences::recipe(reader, recipe)
    }

    /// `ran in run 3 because script changed`
    fn sentence(&self) -> String {
        let because = self.because.join(", and ");
        match self.verdict {
            Verdict::Ran(run) => format!("ran in run {run} because {because}"),
            Verdict::WillRun => format!("will run because {because}"),
            Verdict::DidNotRun(run) => format!("did not run in run {run} because {because}"),
            Verdict::IsHistory => format!("is history because {because}"),
        }
    }

    fn text(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let name = match &self.step {
            Some(OfStep { row, .. }) => row.text(),
            None => format!("task {}", self.task),
        };
        writeln!(out, "{name} {}", self.sentence())?;
        if let Some(step) = &self.step {
            write_step(step, out)?;
        }
        let is_plain = |field: &&Field| field.name.starts_with("file ") && !field.is_changed();
        let unchanged = self.fields.iter().filter(is_plain).count();
        for field in &self.fields {
            if is_plain(&field) && unchanged > MOST_FILES {
                continue;
            }
            let name = printable(field.name.as_bytes());
            let shown = |value: &Option<String>| match value {
                Some(value) => printable(value.as_bytes()).into_owned(),
                None => "(none)".to_owned(),
            };
            match field.is_changed() {
                false => writeln!(out, "{name}: {}", shown(&field.now))?,
                true => writeln!(out, "{name}: {} -> {}", shown(&field.before), shown(&field.now))?,
            }
        }
        if unchanged > MOST_FILES {
            writeln!(out, "{}: unchanged", counted(unchanged, "file"))?;
        }
        match self.script_diff.is_empty() {
            true => writeln!(out, "script: unchanged")?,
            false => write_diff("script", &self.script_diff, out)?,
        }
        let Some(present) = &self.present else { return Ok(()) };
        let manifest = printable(present.manifest.as_bytes());
        if !present.has_task {
            return writeln!(out, "{manifest} has no such task: its steps retire");
        }
        if present.changes.is_empty() {
            return writeln!(out, "{manifest} has the same recipe");
        }
        let changes = present.changes.join(", ");
        let next = match self.verdict {
            Verdict::IsHistory => "",
            _ => ", so the next run makes new steps",
        };
        writeln!(out, "{manifest} has another recipe: {changes}{next}")?;
        match present.script_diff.is_empty() {
            true => Ok(()),
            false => write_diff("script in the manifest", &present.script_diff, out),
        }
    }
}

/// The answer as JSON.
#[derive(Serialize)]
struct ExplanationAnswer<'a> {
    task: &'a str,
    /// `None`: a task was asked for.
    of_step: Option<StepAnswer<'a>>,
    verdict: &'static str,
    run: Option<RunId>,
    because: &'a [String],
    sentence: String,
    recipe: Vec<FieldAnswer<'a>>,
    script_diff: &'a str,
    /// `None`: no manifest was named.
    manifest: Option<ManifestAnswer<'a>>,
}

#[derive(Serialize)]
struct StepAnswer<'a> {
    step: StepId,
    #[serde(rename = "input", serialize_with = "answer::escaped")]
    name: &'a [u8],
    labels: &'a Labels,
    state: StepState,
    live: bool,
    attempts: Vec<AttemptAnswer>,
    compared_with: Option<NamedStep<'a>>,
    works_on: SizedObject,
    worked_on: Option<SizedObject>,
    made_by: Vec<NamedStep<'a>>,
    made_by_more: usize,
    #[serde(serialize_with = "answer::all_escaped")]
    files: &'a [Vec<u8>],
    #[serde(serialize_with = "answer::all_escaped")]
    dependencies: &'a [Vec<u8>],
}

#[derive(Serialize)]
struct AttemptAnswer {
    number: i64,
    run: RunId,
    outcome: &'static str,
    code: Option<i32>,
    /// Milliseconds since 1970.
    started_ms: i64,
    /// Where others shared the script.
    batch: Option<BatchPlace>,
    /// How its interpreter was started.
    start: &'static str,
}

#[derive(Serialize)]
struct NamedStep<'a> {
    step: StepId,
    task: &'a str,
    #[serde(rename = "input", serialize_with = "answer::escaped")]
    name: &'a [u8],
    labels: &'a Labels,
}

#[derive(Serialize)]
struct FieldAnswer<'a> {
    field: &'a str,
    before: Option<&'a str>,
    now: Option<&'a str>,
    changed: bool,
}

#[derive(Serialize)]
struct ManifestAnswer<'a> {
    /// Its path, made printable.
    manifest: String,
    has_task: bool,
    changes: &'a [String],
    script_diff: &'a str,
}

impl ExplanationAnswer<'_> {
    fn of(explanation: &Explanation) -> ExplanationAnswer<'_> {
        let fields = explanation.fields.iter().map(|field| FieldAnswer {
            field: &field.name,
            before: field.before.as_deref(),
            now: field.now.as_deref(),
            changed: field.is_changed(),
        });
        let manifest = explanation.present.as_ref().map(|present| ManifestAnswer {
            manifest: printable(present.manifest.as_bytes()).into_owned(),
            has_task: present.has_task,
            changes: &present.changes,
            script_diff: &present.script_diff,
        });
        ExplanationAnswer {
            task: &explanation.task,
            of_step: explanation.step.as_ref().map(StepAnswer::of),
            verdict: explanation.verdict.word(),
            run: explanation.verdict.run(),
            because: &explanation.because,
            sentence: explanation.sentence(),
            recipe: fields.collect(),
            script_diff: &explanation.script_diff,
            manifest,
        }
    }
}

impl StepAnswer<'_> {
    fn of(step: &OfStep) -> StepAnswer<'_> {
        let attempts = step.attempts.iter().map(|AttemptOfRun { record, run, .. }| AttemptAnswer {
            number: record.number,
            run: *run,
            outcome: record.outcome.word(),
            code: record.outcome.code(),
            started_ms: record.started_ms,
            batch: record.batch,
            start: record.start.as_str(),
        });
        StepAnswer {
            step: step.row.id,
            name: &step.row.name,
            labels: &step.row.labels,
            state: step.row.state,
            live: step.row.live,
            attempts: attempts.collect(),
            compared_with: step.before.as_ref().map(NamedStep::of),
            works_on: step.now,
            worked_on: step.was,
            made_by: step.makers.iter().map(NamedStep::of).collect(),
            made_by_more: step.more_makers,
            files: &step.files,
            dependencies: &step.dependencies,
        }
    }
}

impl NamedStep<'_> {
    fn of(step: &StepRow) -> NamedStep<'_> {
        NamedStep { step: step.id, task: &step.task, name: &step.name, labels: &step.labels }
    }
}

const FORCED: &str = "everything was to run anew (-B)";

const INPUT_CHANGED: &str = "its input changed";

/// Why a result that stands may not be the one that belongs to what is upstream.
fn outdated(task: &TaskFacts) -> String {
    let verb = if task.gather { "gathers" } else { "sees" };
    format!("what it {verb} may have changed since; its result stands until there is another one")
}

/// Why a step keeps the result that it had, though a run was to make everything anew.
fn not_reached(run: RunFacts) -> String {
    format!("run {} (-B) has not got to it", run.id)
}

/// Explains all steps of a task together.
fn of_task(reader: &Reader, name: &str) -> Result<Explanation> {
    let task = db::find_task(reader, name)?;
    let facts = db::task_facts(reader, task)?;
    let counts = db::step_counts(reader)?.get(&task).copied().unwrap_or_default();
    let last = db::last_run(reader)?.unwrap_or_default();
    let changes = match facts.before {
        Some(before) => differences::changes(reader, before, facts.recipe)?,
        None => Vec::new(),
    };
    let to_run = counts.pending + counts.failed;
    let (ok, failed) = facts.last;
    let is_outdated = facts.out_of_date && to_run == 0;
    let verdict = match () {
        () if !facts.present => Verdict::IsHistory,
        () if to_run > 0 => Verdict::WillRun,
        () if ok + failed > 0 => Verdict::Ran(last.id),
        () => Verdict::DidNotRun(last.id),
    };
    let is_first = facts.since.is_none() || facts.since == Some(last.id);
    let mut because = match verdict {
        Verdict::IsHistory => vec!["it is no longer in the manifest".to_owned()],
        Verdict::DidNotRun(_) if counts.live() == 0 => vec!["it has no inputs".to_owned()],
        Verdict::DidNotRun(_) if last.lacks_anew => vec![not_reached(last)],
        Verdict::DidNotRun(_) if is_outdated => Vec::new(),
        Verdict::DidNotRun(_) => vec!["neither its recipe nor its inputs changed".to_owned()],
        _ if is_first && !changes.is_empty() => changes,
        _ if is_first && facts.before.is_none() => vec!["the task is new".to_owned()],
        Verdict::Ran(_) if last.is_forced => vec![FORCED.to_owned()],
        _ => vec!["some of its inputs are new or changed, or steps of it had failed".to_owned()],
    };
    if counts.failed > 0 {
        because.push(format!("{} of its steps failed last time", counts.failed));
    }
    if is_outdated {
        because.push(outdated(&facts));
    }
    let (fields, script_diff) = differences::fields(reader, facts.before, facts.recipe)?;
    Ok(Explanation {
        task: name.to_owned(),
        step: None,
        verdict,
        because,
        fields,
        script_diff,
        present: None,
    })
}

fn of_step(reader: &Reader, row: StepRow, db_dir: &Path) -> Result<Explanation> {
    let facts = db::step_facts(reader, row.id)?;
    let task = db::task_facts(reader, facts.task)?;
    let attempts = db::attempts(reader, row.id)?;
    let born_ms = attempts.first().map_or(i64::MAX, |attempt| attempt.record.started_ms);
    let before = db::predecessor(reader, &facts, born_ms)?;
    let mut changes = Vec::new();
    if let Some(before) = &before {
        changes = differences::changes(reader, before.recipe, facts.recipe)?;
        let seen = differences::of_sides(reader, before.side, facts.side)?;
        if !seen.is_empty() && before.object != facts.object {
            changes.push(INPUT_CHANGED.to_owned());
        }
        changes.extend(seen);
    }
    let last = db::last_run(reader)?.unwrap_or_default();
    let read = db::step_dependencies(reader, row.id)?;
    let whys = Whys { before: before.as_ref(), changes, read: read.as_ref() };
    let (verdict, mut because) = judge(&facts, &task, &row, &attempts, whys, last);
    if task.out_of_date && row.live && row.state == StepState::Done {
        because.push(outdated(&task));
    }
    let object = |object| -> Result<SizedObject> {
        Ok(SizedObject { object, bytes: db::known_object(reader, &object)? })
    };
    let (makers, count) = db::neighbours(reader, row.id, db::Direction::Up, MAKERS)?;
    let files = db::files_of(reader, facts.id, &|listing| gathered_files(db_dir, listing))?;
    let recipes: (Option<RecipeId>, RecipeId) =
        (before.as_ref().map(|before| before.recipe), facts.recipe);
    let (fields, script_diff) = differences::fields(reader, recipes.0, recipes.1)?;
    let was = before.as_ref().map(|before| object(before.object)).transpose()?;
    let before = match before {
        Some(before) => Some(db::find_step(reader, before.id)?),
        None => None,
    };
    let more_makers = count - makers.len();
    let now = object(facts.object)?;
    Ok(Explanation {
        task: row.task.clone(),
        step: Some(OfStep {
            row,
            attempts,
            before,
            now,
            was,
            makers,
            more_makers,
            files,
            dependencies: read.map(|read| read.files).unwrap_or_default(),
        }),
        verdict,
        because,
        fields,
        script_diff,
        present: None,
    })
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
) -> (Verdict, Vec<String>) {
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
        return (Verdict::IsHistory, vec![why.to_owned()]);
    }
    if row.state == StepState::Done
        && let Some(other) = row.same_as
    {
        let why = format!("it is the same work as step {other}, whose results it has");
        return (Verdict::DidNotRun(last.id), vec![why]);
    }
    if row.state == StepState::Failed
        && let Some(other) = row.same_as
    {
        let why = format!("it is the same work as step {other}, which failed last time");
        return (Verdict::WillRun, vec![why]);
    }
    let Some((attempt, earlier)) = attempts.split_last() else {
        return (Verdict::WillRun, born());
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
        return (Verdict::DidNotRun(last.id), vec![why]);
    }
    if row.state == StepState::Done
        && !attempt.record.outcome.is_ok()
        && let Some(kept) = attempts.iter().rfind(|attempt| attempt.record.outcome.is_ok())
    {
        return kept_result(kept, attempt, last.id);
    }
    match row.state {
        StepState::Failed => (Verdict::WillRun, vec!["it failed last time".to_owned()]),
        StepState::Pending if was_ok && read.is_some_and(|read| !read.changed.is_empty()) => {
            (Verdict::WillRun, read.map(|read| changed_files(&read.changed)).unwrap_or_default())
        }
        StepState::Pending if was_ok => (
            Verdict::WillRun,
            vec![
                "its results are gone, or lack what `outputs` asks for, or it is to run anew"
                    .to_owned(),
            ],
        ),
        StepState::Pending => {
            (Verdict::WillRun, vec!["its last attempt did not succeed".to_owned()])
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
            (Verdict::DidNotRun(last.id), why)
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
            (Verdict::Ran(attempt.run), why)
        }
    }
}

/// The verdict on a step that failed when it was to run anew: it is done, as before.
fn kept_result(kept: &AttemptOfRun, failed: &AttemptOfRun, last: RunId) -> (Verdict, Vec<String>) {
    let whose = format!("its result is that of attempt {} in run {}", kept.record.number, kept.run);
    let number = failed.record.number;
    if failed.run == last {
        let why = match failed.always {
            true => FORCED.to_owned(),
            false => "its task has cache = false".to_owned(),
        };
        return (Verdict::Ran(last), vec![why, format!("attempt {number} failed: {whose}")]);
    }
    let since = format!("attempt {number} in run {}, which was to run it anew, failed", failed.run);
    (
        Verdict::DidNotRun(last),
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
            "what it had made was not there any more, or lacked what `outputs` asks for".to_owned()
        }
    };
    vec![why]
}

fn write_step(step: &OfStep, out: &mut dyn Write) -> std::io::Result<()> {
    for AttemptOfRun { record, run, .. } in &step.attempts {
        let outcome = &record.outcome;
        let code = outcome.code().map(|code| format!(" {code}")).unwrap_or_default();
        let begun = crate::text::utc(record.started_ms);
        let batch = record.batch.map(|batch| format!(", {batch}")).unwrap_or_default();
        let (number, word) = (record.number, outcome.word());
        let start = if record.start == Start::Fork { ", by a forked interpreter" } else { "" };
        writeln!(out, "attempt {number} in run {run}, {begun}{start}: {word}{code}{batch}")?;
    }
    let shown = |input: &SizedObject| {
        let size = input.bytes.map_or_else(|| "no longer kept".to_owned(), size);
        format!("{} ({size})", input.object)
    };
    if let Some(before) = &step.before {
        writeln!(out, "before: {}", before.text())?;
    }
    match &step.was {
        Some(was) if was.object != step.now.object => {
            writeln!(out, "input: {}\n  was: {}", shown(&step.now), shown(was))?;
        }
        _ => writeln!(out, "input: {}", shown(&step.now))?,
    }
    for maker in &step.makers {
        writeln!(out, "made by {}", maker.text())?;
    }
    if step.more_makers > 0 {
        writeln!(out, "and by {} more", step.more_makers)?;
    }
    step.files.iter().try_for_each(|file| writeln!(out, "from the file {}", printable(file)))?;
    let read = step.dependencies.iter().take(MOST_FILES);
    for file in read {
        writeln!(out, "read {}", printable(file))?;
    }
    match step.dependencies.len().saturating_sub(MOST_FILES) {
        0 => Ok(()),
        more => writeln!(out, "read {}", counted(more, "more file")),
    }
}

fn write_diff(what: &str, diff: &str, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "--- {what} before\n+++ {what} now")?;
    // A script may contain anything, escape sequences for the terminal too.
    diff.lines().try_for_each(|line| writeln!(out, "{}", printable_line(line.as_bytes())))
}
