//! `explain`: why a step ran, will run or did not run, and what has changed since the step before it.

mod differences;

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::attempt::{BatchPlace, Start, StepState};
use crate::cli::Color;
use crate::cli::values::{bytes, default_db, param, path};
use crate::db::{self, AttemptOfRun, Db, Interrupted, Meant, Reader, StepRow};
use crate::elsewhere::WorkerSlot;
use crate::error::{Error, Result, exit};
use crate::explain::{self, Explained, MOST_FILES, RunVerdict};
use crate::hint;
use crate::ids::{RecipeId, RunId, StepId};
use crate::labels::Labels;
use crate::manifest::ParamOverrides;
use crate::object::ObjectHash;
use crate::recipe::Recipe;
use crate::text::{counted, printable, printable_line, shown};

use super::answer::SizedObject;
use super::columns::folded;
use super::run::DEFAULT_MANIFEST;
use super::style::Style;
use super::{Command, answer, complain, gathered_files};
use differences::{Field, Present};

/// How many of the steps that made an input are listed.
const MAKERS: usize = 5;

/// Steps of one name that are all explained.
const MOST_STEPS: usize = 5;

/// Explain why a step ran, did not run, or will run: what has changed since its last run.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "explain")]
#[argh(
    note = "The recorded recipe is also compared with the manifest as it is now: with the one that --manifest names, or \
    with pipeline.toml if this folder has one."
)]
pub struct ExplainArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// also compare with this manifest; default: pipeline.toml in this folder, if it is there
    #[argh(option, short = 'f', arg_name = "FILE", from_str_fn(path))]
    pub manifest: Option<PathBuf>,

    /// give one of the manifest's params another value; may be repeated
    #[argh(option, short = 'P', arg_name = "PARAM=VALUE", from_str_fn(param))]
    pub param: Vec<(String, String)>,

    /// take the values of params from a TOML file; may be repeated; -P wins over it
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub params: Vec<PathBuf>,

    /// colours: auto, always or never; default: auto
    #[argh(option, arg_name = "WHEN", default = "Color::Auto")]
    pub color: Color,

    /// print JSON
    #[argh(switch)]
    pub json: bool,

    /// the step, by its id, TASK/INPUT_NAME or `TASK[sample=A]`; or a TASK; or the HASH of what steps made
    #[argh(positional, arg_name = "STEP", from_str_fn(bytes))]
    pub step: OsString,
}

impl Command for ExplainArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn execute(&self) -> Result<u8> {
        let default = Path::new(DEFAULT_MANIFEST);
        let manifest = match &self.manifest {
            Some(manifest) => Some(manifest.as_path()),
            None => Some(default).filter(|path| path.exists()),
        };
        if manifest.is_none() && !(self.params.is_empty() && self.param.is_empty()) {
            let why = "-P and --params go with a manifest: name it with --manifest";
            return Err(Error::Usage(why.to_owned()));
        }
        let db = Db::open_read_only(&self.db)?;
        let word = self.step.as_bytes();
        let explanations = db.read(|reader| {
            let mut explanations = match db::find_object(reader, word)? {
                Some(object) => {
                    let steps = of_object(reader, &object)?.into_iter();
                    steps.map(|step| of_step(reader, step, &self.db)).collect::<Result<_>>()?
                }
                None => self.of_word(reader)?,
            };
            for explanation in &mut explanations {
                let Some(manifest) = manifest else { continue };
                let recorded = explanation.recorded(reader)?;
                let params =
                    ParamOverrides { files: self.params.clone(), values: self.param.clone() };
                let task = &explanation.task;
                match Present::read(&self.db, manifest, &params, task, recorded.as_ref()) {
                    Ok(present) => explanation.present = Some(present),
                    // What is recorded can be told whatever is wrong with a file that nobody named.
                    Err(Error::Manifest(_)) if self.manifest.is_none() => {
                        complain(&format!("{} has mistakes: plan tells them", shown(manifest)));
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(explanations)
        })?;
        // JSON answers with one.
        if let (true, Some(explanation)) = (self.json, explanations.first()) {
            answer::json(&ExplanationAnswer::of(explanation))?;
            return Ok(exit::OK);
        }
        let style = Style::of(self.color);
        answer::write(|out| {
            for (n, explanation) in explanations.iter().enumerate() {
                if n > 0 {
                    writeln!(out)?;
                }
                explanation.text(out, style)?;
            }
            Ok(())
        })?;
        Ok(exit::OK)
    }
}

impl ExplainArgs {
    /// What a word says that is no object's hash.
    fn of_word(&self, reader: &Reader) -> Result<Vec<Explanation>> {
        let word = self.step.as_bytes();
        match db::meaning(reader, word)? {
            Meant::Task(_, name) => Ok(vec![of_task(reader, &name, &self.db)?]),
            Meant::Step(step) => Ok(vec![of_step(reader, *step, &self.db)?]),
            Meant::Steps(_, _, input) => {
                let mut steps = db::find_steps(reader, word)?;
                // A few of one name are all told of; JSON answers with one.
                let most = if self.json || input.is_none() { 1 } else { MOST_STEPS };
                if steps.len() > most {
                    steps = vec![db::find_one_step(reader, word)?];
                }
                steps.into_iter().map(|step| of_step(reader, step, &self.db)).collect()
            }
        }
    }
}

/// The steps that made an object, or, if it is an input, those that work on it: live ones first.
fn of_object(reader: &Reader, object: &ObjectHash) -> Result<Vec<StepRow>> {
    let (makers, users) = db::around_object(reader, object, MOST_STEPS)?;
    let steps = if makers.is_empty() { users } else { makers };
    if steps.is_empty() {
        return Err(Error::Usage(format!("no step made object {object}, and none works on it")));
    }
    Ok(steps)
}

/// The part of the answer that a step has and a task has not.
struct OfStep {
    row: StepRow,
    attempts: Vec<AttemptOfRun>,
    /// The attempt after them, which was interrupted.
    interrupted: Option<Interrupted>,
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
    verdict: RunVerdict,
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
        explain::recipe(reader, recipe)
    }

    fn sentence(&self) -> String {
        self.verdict.sentence(&self.because)
    }

    fn text(&self, out: &mut dyn Write, style: Style) -> std::io::Result<()> {
        let name = match &self.step {
            Some(OfStep { row, .. }) => row.text(),
            None => format!("task {}", self.task),
        };
        let sentence = self.sentence();
        let (word, rest) = sentence.split_once(' ').unwrap_or((sentence.as_str(), ""));
        let word = match self.verdict {
            RunVerdict::Ran(_) => style.paint.good(word),
            RunVerdict::WillRun | RunVerdict::Waits => style.paint.doubtful(word),
            RunVerdict::DidNotRun(_) | RunVerdict::IsHistory => word.to_owned(),
        };
        folded(out, &format!("{name} {word} {rest}"), style)?;
        if let Some(step) = &self.step {
            write_step(step, out, style)?;
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
            let line = match field.is_changed() {
                false => format!("{name}: {}", shown(&field.now)),
                true => format!("{name}: {} -> {}", shown(&field.before), shown(&field.now)),
            };
            folded(out, &line, style)?;
        }
        if unchanged > MOST_FILES {
            writeln!(out, "{}: unchanged", counted(unchanged, "file"))?;
        }
        match self.script_diff.is_empty() {
            true => writeln!(out, "script: unchanged")?,
            false => write_diff("script", &self.script_diff, out, style)?,
        }
        let Some(present) = &self.present else { return Ok(()) };
        let manifest = printable(present.manifest.as_bytes());
        if !present.has_task {
            return folded(out, &format!("{manifest} has no such task: its steps retire"), style);
        }
        if present.changes.is_empty() {
            return folded(out, &format!("{manifest} has the same recipe"), style);
        }
        let changes = present.changes.join(", ");
        let next = match self.verdict {
            RunVerdict::IsHistory => "",
            _ => ", so the next run makes new steps",
        };
        folded(out, &format!("{manifest} has another recipe: {changes}{next}"), style)?;
        match present.script_diff.is_empty() {
            true => Ok(()),
            false => write_diff("script in the manifest", &present.script_diff, out, style),
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
    /// The attempt after them, if it was interrupted and had printed something.
    interrupted: Option<InterruptedAnswer>,
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
    /// The worker that made it; `None`: the run's own machine.
    on: Option<WorkerSlot>,
}

#[derive(Serialize)]
struct InterruptedAnswer {
    number: i64,
    run: RunId,
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
            on: record.on.clone(),
        });
        StepAnswer {
            step: step.row.id,
            name: &step.row.name,
            labels: &step.row.labels,
            state: step.row.state,
            live: step.row.live,
            attempts: attempts.collect(),
            interrupted: step
                .interrupted
                .map(|Interrupted { number, run, .. }| InterruptedAnswer { number, run }),
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

/// Explains all steps of a task together.
fn of_task(reader: &Reader, name: &str, db_dir: &Path) -> Result<Explanation> {
    let task = db::find_task(reader, name)?;
    let facts = db::task_facts(reader, task)?;
    let counts = db::step_counts(reader)?.get(&task).copied().unwrap_or_default();
    let last = db::last_run(reader)?.unwrap_or_default();
    let changes = match facts.before {
        Some(before) => explain::changes(reader, before, facts.recipe)?,
        None => Vec::new(),
    };
    let to_run = counts.pending + counts.failed;
    let (ok, failed) = facts.last;
    let is_outdated = facts.out_of_date && to_run == 0;
    let waits = db::waits(reader)?.into_iter().find(|waits| waits.id == task);
    let verdict = match () {
        () if !facts.present => RunVerdict::IsHistory,
        () if to_run > 0 => RunVerdict::WillRun,
        () if waits.is_some() => RunVerdict::Waits,
        () if ok + failed > 0 => RunVerdict::Ran(last.id),
        () => RunVerdict::DidNotRun(last.id),
    };
    let is_first = facts.since.is_none() || facts.since == Some(last.id);
    let mut because = match verdict {
        RunVerdict::IsHistory => vec!["it is no longer in the manifest".to_owned()],
        RunVerdict::Waits => waits.into_iter().map(|waits| waits.why).collect(),
        RunVerdict::DidNotRun(_) if counts.live() == 0 => vec!["it has no inputs".to_owned()],
        RunVerdict::DidNotRun(_) if last.lacks_anew => vec![explain::not_reached(last)],
        RunVerdict::DidNotRun(_) if is_outdated => Vec::new(),
        RunVerdict::DidNotRun(_) => vec!["neither its recipe nor its inputs changed".to_owned()],
        RunVerdict::WillRun if counts.failed > 0 && counts.live() > 1 => {
            let of = |count| format!("{count} of its {} steps", counts.live());
            let failed = std::iter::once(format!("{} failed last time", of(counts.failed)));
            let pending = counts.pending;
            let still = (pending > 0).then(|| format!("{} are still to run", of(pending)));
            failed.chain(still).collect()
        }
        _ if is_first && !changes.is_empty() && counts.failed == 0 => changes,
        _ if is_first && facts.before.is_none() && counts.failed == 0 => {
            vec!["the task is new".to_owned()]
        }
        // Its only step says it best.
        _ if counts.live() == 1 => {
            let steps = db::find_steps(reader, format!("task:{name}").as_bytes())?;
            let step = steps.into_iter().next().map(|step| of_step(reader, step, db_dir));
            step.transpose()?.map(|step| step.because).unwrap_or_default()
        }
        RunVerdict::Ran(_) if last.is_forced => vec![explain::FORCED.to_owned()],
        _ => vec!["some of its inputs are new or changed, or steps of it had failed".to_owned()],
    };
    let outdated = explain::outdated(&facts);
    if is_outdated && !because.contains(&outdated) {
        because.push(outdated);
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
    let last = db::last_run(reader)?.unwrap_or_default();
    let read = db::step_dependencies(reader, row.id)?;
    let (verdict, because) = Explained {
        row: &row,
        facts: &facts,
        task: &task,
        attempts: &attempts,
        before: before.as_ref(),
        read: read.as_ref(),
        last,
    }
    .verdict(reader)?;
    let object = |object| -> Result<SizedObject> {
        Ok(SizedObject { object, bytes: db::known_object(reader, &object)? })
    };
    let last_number = attempts.last().map_or(0, |attempt| attempt.record.number);
    let interrupted = db::interrupted(reader, row.id)?.filter(|cut| cut.number > last_number);
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
            interrupted,
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

fn write_step(step: &OfStep, out: &mut dyn Write, style: Style) -> std::io::Result<()> {
    for AttemptOfRun { record, run, .. } in &step.attempts {
        let outcome = &record.outcome;
        let code = outcome.code().map(|code| format!(" {code}")).unwrap_or_default();
        let begun = crate::text::utc(record.started_ms);
        let batch = record.batch.map(|batch| format!(", {batch}")).unwrap_or_default();
        let (number, word) = (record.number, outcome.word());
        let start = if record.start == Start::Fork { ", by a forked interpreter" } else { "" };
        let outcome = match outcome.is_ok() {
            true => style.paint.good(word),
            false => style.paint.bad(format!("{word}{code}")),
        };
        let on = record.on.as_ref().map(|on| format!(", by {on}")).unwrap_or_default();
        let line = format!("attempt {number} in run {run}, {begun}{start}{on}: {outcome}{batch}");
        folded(out, &line, style)?;
    }
    if let Some(Interrupted { number, run, .. }) = &step.interrupted {
        let log = hint::command(&format!("log {}", step.row.id));
        let doubtful = style.paint.doubtful("interrupted");
        folded(out, &format!("attempt {number} in run {run}: {doubtful}; {log}"), style)?;
    }
    if let Some(before) = &step.before {
        folded(out, &format!("before: {}", before.text()), style)?;
    }
    folded(out, &format!("input: {}", style.object(&step.now)), style)?;
    if let Some(was) = step.was.filter(|was| was.object != step.now.object) {
        folded(out, &format!("  was: {}", style.object(&was)), style)?;
    }
    for maker in &step.makers {
        folded(out, &format!("made by {}", maker.text()), style)?;
    }
    if step.more_makers > 0 {
        writeln!(out, "and by {} more", step.more_makers)?;
    }
    for file in &step.files {
        folded(out, &format!("from the file {}", printable(file)), style)?;
    }
    for file in step.dependencies.iter().take(MOST_FILES) {
        folded(out, &format!("read {}", printable(file)), style)?;
    }
    match step.dependencies.len().saturating_sub(MOST_FILES) {
        0 => Ok(()),
        more => writeln!(out, "read {}", counted(more, "more file")),
    }
}

fn write_diff(what: &str, diff: &str, out: &mut dyn Write, style: Style) -> std::io::Result<()> {
    writeln!(out, "--- {what} before\n+++ {what} now")?;
    diff.lines().try_for_each(|line| {
        // A script may contain anything, escape sequences for the terminal too.
        let text = printable_line(line.as_bytes());
        match line.as_bytes().first() {
            Some(b'+') => writeln!(out, "{}", style.paint.good(text)),
            Some(b'-') => writeln!(out, "{}", style.paint.bad(text)),
            _ => writeln!(out, "{text}"),
        }
    })
}
