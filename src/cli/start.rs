//! The commands that help to begin; like `args`, their comments are the help.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgValue, FromArgs};

use super::values::{default_db, path};

/// Write a manifest to begin with: pipeline.toml, which runs as it is.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "init")]
pub struct Init {
    /// where to, made if missing; this folder if not given
    #[argh(positional, arg_name = "DIR", from_str_fn(path))]
    pub dir: Option<PathBuf>,
}

/// Print what a shell needs to complete the words of a command line.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "completions")]
#[argh(
    note = "bash: source <(task-pipeline completions bash), for instance in ~/.bashrc. zsh: into a file _task-pipeline \
    in a folder of $fpath. fish: into ~/.config/fish/completions/task-pipeline.fish."
)]
pub struct Completions {
    /// for tasks: the manifest whose tasks are meant; pipeline.toml in this folder if not given
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub manifest: Option<PathBuf>,

    /// for tasks: the database whose tasks are meant if there is no manifest; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// bash, zsh or fish; or tasks, for the names of the tasks, which the shells ask for
    #[argh(positional, arg_name = "SHELL")]
    pub shell: Shell,
}

/// Print the manual page, in roff.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "man")]
#[argh(note = "To read it: task-pipeline man | man -l -. To install it: into \
    share/man/man1/task-pipeline.1.")]
pub struct Man {}

/// Who asks for completions.
#[derive(FromArgValue, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
    /// One of their scripts, while a command line is typed.
    Tasks,
}
