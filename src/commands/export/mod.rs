//! `export TASK --to DIR`: the live results of a task as ordinary files. A second export updates the folder: it writes
//! what changed, removes files of an earlier export that are no longer live, and touches nothing else, so that for make a
//! file is old if nothing changed. Several tasks may share a folder. What no export wrote, or what was edited since, is
//! never overwritten or removed, unless that is asked for.

mod publish;
mod record;
mod target;
mod update;

use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::attempt::NamedObject;
use crate::cli::values::{default_db, name, path};
use crate::db::{self, Db};
use crate::error::{Error, Result, exit};
use crate::hint;
use crate::ids::TaskId;
use crate::labels::task_word;
use crate::store::Store;
use crate::text::{counted, path_bytes, shown};

use super::{Command, answer, complain};
pub(super) use publish::publish;
use record::Exporter;
use target::Target;
use update::{Obstacle, Update, reserved};

/// Copy a task's outputs into a folder, under their names.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "export")]
#[argh(
    note = "Files that an earlier export of the task wrote stay untouched if they are up to date, and are removed if \
    they are no longer outputs. Where an output is to be, a file that no export wrote, that was edited since, or that \
    another task has exported is in the way: all of them are listed, nothing is written, and the exit code is 1, unless \
    --force is given. So it is while steps of the task, or of a task that feeds it, are pending or failed, unless \
    --partial is given; then nothing is removed."
)]
pub struct ExportArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// the folder, created if missing
    #[argh(option, arg_name = "DIR", from_str_fn(path))]
    pub to: PathBuf,

    /// export what there is, even if steps are pending or failed
    #[argh(switch)]
    pub partial: bool,

    /// overwrite files that are in the way
    #[argh(switch)]
    pub force: bool,

    /// print what was written as JSON
    #[argh(switch)]
    pub json: bool,

    /// the task whose outputs are exported; `TASK[sample=A]`: those of its steps with this label
    #[argh(positional, arg_name = "TASK", from_str_fn(name))]
    pub task: String,
}

impl Command for ExportArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn execute(&self) -> Result<u8> {
        let db = Db::open_read_only(&self.db)?;
        let store = Store::open_read_only(&self.db)?;
        let (task, exported, complete, outputs) = db.read(|reader| {
            let (name, labels) = task_word(&self.task).map_err(Error::Usage)?;
            let task = db::find_task(reader, name)?;
            let mut exported = name.to_owned();
            if !labels.is_empty() {
                db::find_steps(reader, self.task.as_bytes())?;
                // The record ends it with a blank.
                exported += &format!("[{labels}]").replace(' ', "\\x20");
            }
            let mut outputs = Vec::new();
            db::each_live_output(reader, task, &labels, &mut |output, _| {
                outputs.push(output);
                Ok(())
            })?;
            Ok((task, exported, db::is_task_complete(reader, name)?, outputs))
        })?;
        if !complete {
            let why = format!(
                "{} is incomplete: of it or of a task that feeds it, steps failed or are still to run, or inputs can't be \
                 read (`{}`)",
                self.task,
                hint::command("status")
            );
            if !self.partial {
                complain(&format!("{why}; run it again, or add --partial to export what there is"));
                return Ok(exit::STEPS_FAILED);
            }
            complain(&why);
        }
        let kept = (&db, self.db.as_path(), &store);
        let changes = match bring(
            kept,
            (task, exported),
            &self.to,
            &outputs,
            (self.force, !complete),
        )? {
            Ok(changes) => changes,
            Err(obstacles) => {
                let cure =
                    "move these away, export into another folder, or add --force to overwrite them";
                complain(&obstacles_text(&self.to, &obstacles, cure));
                return Ok(exit::STEPS_FAILED);
            }
        };
        let export = Export { task: &self.task, complete, changes };
        if self.json {
            answer::json(&export)?;
        } else {
            // No answer: it only confirms what can be seen in the folder.
            let Changes { files, written, removed } = &export.changes;
            let to = shown(&self.to);
            complain(&format!(
                "{} of {} in {to}: {written} written, {removed} removed",
                counted(*files, "file"),
                self.task
            ));
        }
        Ok(exit::OK)
    }
}

/// Brings a folder up to date with these outputs of a task, called so in its record, from a database (with its folder)
/// and its store. The last two: overwrite what is in the way; results may be missing, so nothing is stale.
///
/// # Errors
/// What is in the way, if anything is; those of [`Target::open`] and [`Update::run`].
fn bring(
    (db, db_dir, store): (&Db, &Path, &Store),
    (task, exported): (TaskId, String),
    to: &Path,
    outputs: &[NamedObject],
    (force, partial): (bool, bool),
) -> Result<std::result::Result<Changes, Vec<Obstacle>>> {
    let reserved = reserved(outputs);
    if !reserved.is_empty() {
        return Ok(Err(reserved));
    }
    let mut wait = || complain(&format!("waiting: another export writes into `{}`", shown(to)));
    let target = &Target::open(to, db_dir, &mut wait)?;
    let exporter = Exporter { task: exported, db: path_bytes(&target.path_of_db()?).to_owned() };
    Update { store, target, db, task, exporter, force, partial }.run(outputs)
}

/// Says what is in the way, and what to do if that can go.
fn obstacles_text(to: &Path, obstacles: &[Obstacle], cure: &str) -> String {
    let mut text = format!("nothing was written to `{}`:", shown(to));
    for obstacle in obstacles {
        text.push_str(&format!("\n  {}", obstacle.text(to)));
    }
    if obstacles.iter().all(Obstacle::can_go) {
        text.push_str(&format!("\n{cure}"));
    }
    text
}

/// The answer.
#[derive(Serialize)]
struct Export<'a> {
    task: &'a str,
    /// No step of the task, or of a task that feeds it, has failed or is still to run.
    complete: bool,
    #[serde(flatten)]
    changes: Changes,
}

/// What was done to the folder, in files.
#[derive(Default, Serialize)]
struct Changes {
    /// That are now there.
    files: usize,
    written: usize,
    removed: usize,
}
