//! `explain`: why a step ran, will run or didn't, and what differs from the time before.

mod differences;
mod show;
mod task;

use std::os::unix::ffi::OsStrExt as _;

use rusqlite::Connection;

use crate::attempt::StepState;
use crate::cli::Explain;
use crate::db::{self, AttemptOfRun, Db, StepFacts, StepRow, TaskFacts};
use crate::error::{Result, exit};
use crate::ids::{RecipeId, RunId};
use crate::object::ObjectHash;
use crate::recipe::Recipe;

use super::answer;
use differences::{Field, Present};

/// Steps that made an input and are named.
const MAKERS: usize = 5;

/// What came of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ran(RunId),
    WillRun,
    /// In the last run.
    DidNotRun(RunId),
    /// It belongs to an earlier manifest or to earlier inputs.
    IsHistory,
}

/// An object that a step works on.
struct InputObject {
    object: ObjectHash,
    /// Bytes; `None` if it isn't kept any more.
    size: Option<u64>,
}

/// What only a step has, not a task.
struct OfStep {
    row: StepRow,
    attempts: Vec<AttemptOfRun>,
    /// The step that it is compared with: the same one, or the one that it replaced.
    before: Option<StepRow>,
    now: InputObject,
    was: Option<InputObject>,
    makers: Vec<StepRow>,
    /// Makers that are not named.
    more_makers: usize,
    files: Vec<Vec<u8>>,
}

/// The answer.
struct Explanation {
    task: String,
    step: Option<OfStep>,
    verdict: Verdict,
    because: Vec<String>,
    /// All but the script.
    fields: Vec<Field>,
    script_diff: String,
    present: Option<Present>,
}

/// Explains a step or a task.
pub(super) fn explain(args: &Explain) -> Result<u8> {
    let db = Db::open_read_only(&args.db)?;
    let conn = db.lock();
    let word = args.step.as_bytes();
    let is_task = !word.contains(&b'/') && !word.iter().all(u8::is_ascii_digit);
    let mut explanation = if is_task {
        task::explain(&conn, &String::from_utf8_lossy(word))?
    } else {
        // Of several of one name the live one, then the newest.
        let step = db::find_steps(&conn, word)?.swap_remove(0);
        of_step(&conn, step)?
    };
    if let Some(manifest) = &args.manifest {
        let recorded = explanation.recorded(&conn)?;
        explanation.present = Some(Present::read(manifest, &explanation.task, recorded.as_ref())?);
    }
    drop(conn);
    if args.json {
        answer::json(&explanation.json())?;
    } else {
        answer::write(|out| explanation.write(out))?;
    }
    Ok(exit::OK)
}

impl Explanation {
    /// The recipe that the step, or the task, is recorded with.
    fn recorded(&self, conn: &Connection) -> Result<Option<Recipe>> {
        let recipe = match &self.step {
            Some(step) => db::step_facts(conn, step.row.id)?.recipe,
            None => db::task_facts(conn, db::find_task(conn, &self.task)?)?.recipe,
        };
        differences::recipe(conn, recipe)
    }
}

fn of_step(conn: &Connection, row: StepRow) -> Result<Explanation> {
    let facts = db::step_facts(conn, row.id)?;
    let task = db::task_facts(conn, facts.task)?;
    let attempts = db::attempts(conn, row.id)?;
    let born_ms = attempts.first().map_or(i64::MAX, |attempt| attempt.record.started_ms);
    let before = db::predecessor(conn, &facts, born_ms)?;
    let changes = match &before {
        Some(before) => differences::changes(conn, before.recipe, facts.recipe)?,
        None => Vec::new(),
    };
    let last = db::last_run(conn)?.unwrap_or_default();
    let (verdict, because) = judge(&facts, &task, &row, &attempts, before.as_ref(), changes, last);
    let object = |object| -> Result<InputObject> {
        Ok(InputObject { object, size: db::known_object(conn, &object)? })
    };
    let (makers, count) = db::neighbours(conn, row.id, db::Way::Up, MAKERS)?;
    let files = match makers.is_empty() {
        true => db::files_of(conn, facts.task, &facts.object)?,
        false => Vec::new(),
    };
    let recipes: (Option<RecipeId>, RecipeId) =
        (before.as_ref().map(|before| before.recipe), facts.recipe);
    let (fields, script_diff) = differences::fields(conn, recipes.0, recipes.1)?;
    let was = before.as_ref().map(|before| object(before.object)).transpose()?;
    let before = match before {
        Some(before) => {
            Some(db::find_steps(conn, before.id.to_string().as_bytes())?.swap_remove(0))
        }
        None => None,
    };
    let more_makers = count - makers.len();
    let now = object(facts.object)?;
    Ok(Explanation {
        task: row.task.clone(),
        step: Some(OfStep { row, attempts, before, now, was, makers, more_makers, files }),
        verdict,
        because,
        fields,
        script_diff,
        present: None,
    })
}

/// The verdict on a step, and its reasons.
fn judge(
    facts: &StepFacts,
    task: &TaskFacts,
    row: &StepRow,
    attempts: &[AttemptOfRun],
    before: Option<&StepFacts>,
    changes: Vec<String>,
    last: RunId,
) -> (Verdict, Vec<String>) {
    // Why there is such a step at all.
    let born = || match before {
        _ if !changes.is_empty() => changes.clone(),
        Some(before) if before.object != facts.object => vec!["its input changed".to_owned()],
        Some(_) => vec!["nothing like it was kept".to_owned()],
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
    let Some((attempt, earlier)) = attempts.split_last() else {
        return (Verdict::WillRun, born());
    };
    match row.state {
        StepState::Failed => (Verdict::WillRun, vec!["it failed last time".to_owned()]),
        StepState::Pending if was_ok => {
            (Verdict::WillRun, vec!["its results are gone, or it is to run anew".to_owned()])
        }
        StepState::Pending => {
            (Verdict::WillRun, vec!["its last attempt did not succeed".to_owned()])
        }
        StepState::Done if attempt.run != last => (
            Verdict::DidNotRun(last),
            vec![format!(
                "recipe and input are as they were in run {}, when it was done",
                attempt.run
            )],
        ),
        StepState::Done => {
            let why = match earlier.last() {
                // The first one within this run tells why, the others are retries.
                Some(before) if before.run == attempt.run => {
                    let first = attempts.iter().find(|other| other.run == attempt.run);
                    let before = attempts.iter().rfind(|other| other.run != attempt.run);
                    let mut why = match (first, before) {
                        (Some(_), Some(before)) => again(before, attempt, task),
                        _ => born(),
                    };
                    why.push("an attempt failed, and was made again".to_owned());
                    why
                }
                Some(before) => again(before, attempt, task),
                None => born(),
            };
            (Verdict::Ran(attempt.run), why)
        }
    }
}

/// Why a step that had run ran again in another run.
fn again(before: &AttemptOfRun, attempt: &AttemptOfRun, task: &TaskFacts) -> Vec<String> {
    let why = match () {
        () if !before.record.outcome.is_ok() => format!("it had failed in run {}", before.run),
        () if attempt.always => "everything was to run anew (-B)".to_owned(),
        () if !task.cache => "its task has cache = false".to_owned(),
        () => "what it had made was not there any more".to_owned(),
    };
    vec![why]
}
