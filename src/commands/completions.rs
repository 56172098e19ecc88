//! `completions`: the completion script of a shell, and the answers to its questions.

use std::ffi::OsString;
use std::path::Path;

use argh::{ArgsInfo, FromArgs};

use crate::cli::values::{bytes, default_db};
use crate::cli::{Shell, TaskSource};
use crate::db::{self, Db};
use crate::error::{Result, exit};
use crate::manifest::Manifest;

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
            let told = command_line().complete(self.shell, &self.line, tasks);
            answer::write(|out| out.write_all(told.as_bytes()))?;
        } else {
            answer::write(|out| out.write_all(self.shell.script().as_bytes()))?;
        }
        Ok(exit::OK)
    }
}

/// The names of the tasks, as far as they can be found: somebody is typing, and an error would not help.
fn tasks(source: &TaskSource) -> Vec<String> {
    let manifest = source.manifest.as_deref().unwrap_or(Path::new(DEFAULT_MANIFEST));
    if let Ok(manifest) = Manifest::read(manifest) {
        return manifest.tasks.into_iter().map(|task| task.name).collect();
    }
    let db = source.db.clone().unwrap_or_else(default_db);
    let known = Db::open_read_only(&db).and_then(|db| db.read(db::known_tasks));
    let present = known.unwrap_or_default().into_iter().filter(|task| task.present);
    present.map(|task| task.name).collect()
}
