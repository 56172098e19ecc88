//! `completions`: the completion script of a shell, and the answers to its questions.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use argh::{ArgsInfo, FromArgs};

use crate::cli::values::{bytes, default_db};
use crate::cli::{NameSource, Shell, WantedNames};
use crate::db::{self, Db, Reader};
use crate::error::{Result, exit};
use crate::ids::{RunId, TaskId};
use crate::manifest::Manifest;
use crate::text::printable;

use super::run::DEFAULT_MANIFEST;
use super::{Command, answer, command_line};

/// Print the completion script for a shell.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "completions")]
#[argh(
    note = "bash: put source <(task-pipeline completions bash) into ~/.bashrc. zsh: write it to a file _task-pipeline in \
    a folder of $fpath. fish: write it to ~/.config/fish/completions/task-pipeline.fish."
)]
pub struct CompletionsArgs {
    /// complete the WORDs instead, for the script of the shell
    #[argh(switch, hidden_help)]
    pub words: bool,

    /// bash, zsh or fish
    #[argh(positional, arg_name = "SHELL")]
    pub shell: Shell,

    /// the words of a command line without the program's name; the last one is at the cursor
    #[argh(positional, arg_name = "WORD", from_str_fn(bytes), hidden_help)]
    pub line: Vec<OsString>,
}

impl Command for CompletionsArgs {
    fn check(&self) -> std::result::Result<(), &'static str> {
        match self.words || self.line.is_empty() {
            true => Ok(()),
            false => Err("`completions` takes one SHELL"),
        }
    }

    fn execute(&self) -> Result<u8> {
        if self.words {
            let told = command_line().complete(self.shell, &self.line, names);
            answer::write(|out| out.write_all(told.as_bytes()))?;
        } else {
            answer::write(|out| out.write_all(self.shell.script().as_bytes()))?;
        }
        Ok(exit::OK)
    }
}

/// The names that are wanted, as far as they can be found: somebody is typing, and an error would not help.
fn names(source: &NameSource, wanted: WantedNames<'_>) -> Vec<String> {
    let db = source.db.clone().unwrap_or_else(default_db);
    match wanted {
        WantedNames::Tasks => tasks(source, &db),
        WantedNames::Workers => workers(&db).unwrap_or_default(),
        WantedNames::Inputs(task, begun) => results(&db, task, begun, db::each_live_input),
        WantedNames::Outputs(task, begun) => results(&db, task, begun, db::each_live_output_name),
    }
}

fn tasks(source: &NameSource, db: &Path) -> Vec<String> {
    let manifest = source.manifest.as_deref().unwrap_or(Path::new(DEFAULT_MANIFEST));
    if let Ok(manifest) = Manifest::read(manifest) {
        return manifest.tasks.into_iter().map(|task| task.name).collect();
    }
    let known = Db::open_read_only(db).and_then(|db| db.read(db::known_tasks));
    let present = known.unwrap_or_default().into_iter().filter(|task| task.present);
    present.map(|task| task.name).collect()
}

/// Numbers and hosts of the workers of the last run.
fn workers(db: &Path) -> Result<Vec<String>> {
    let rows = Db::open_read_only(db)?.read(|reader| match db::last_runs(reader, 1)?.pop() {
        Some(run) => db::workers(reader, RunId(run.id)),
        None => Ok(Vec::new()),
    })?;
    let hosts = rows.iter().map(|row| printable(row.host.as_bytes()).into_owned());
    let names = rows.iter().map(|row| row.worker.to_string()).chain(hosts);
    let names: BTreeSet<String> = names.filter(|name| !name.is_empty()).collect();
    Ok(names.into_iter().collect())
}

/// Names that are offered: nobody reads more, and somebody waits for them.
const MOST: usize = 1000;

type EachName = fn(&Reader, TaskId, &mut dyn FnMut(&[u8]) -> bool) -> Result<()>;

/// The names of a task that begin as printed text, as `log` and `cat` take them.
fn results(db: &Path, task: &str, begun: &str, each: EachName) -> Vec<String> {
    let mut names = BTreeSet::new();
    // bash sends words as they are typed: the quotes of one say nothing of the name.
    let begun = if begun.contains('\\') { "" } else { begun };
    let found = Db::open_read_only(db).and_then(|db| {
        db.read(|reader| {
            let task = db::find_task(reader, task)?;
            each(reader, task, &mut |name| {
                let name = printable(name);
                if name.starts_with(begun) && !name.is_empty() {
                    names.insert(name.into_owned());
                }
                names.len() < MOST
            })
        })
    });
    if found.is_ok() { names.into_iter().collect() } else { Vec::new() }
}
