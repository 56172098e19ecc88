//! The commands that only ask; like `args`, their comments are the help.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;

use argh::{ArgsInfo, FromArgValue, FromArgs};

use super::values::{attempt, bytes, default_db, name, path};

/// Say what a run would do and why, without doing it.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "plan")]
pub struct Plan {
    /// the tasks, in TOML; pipeline.toml in this folder if not given
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub manifest: Option<PathBuf>,

    /// where results are kept, only read; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// as if everything had to be run anew
    #[argh(switch, short = 'B')]
    pub always: bool,

    /// plan steps of this task only; may be given again
    #[argh(option, arg_name = "NAME", from_str_fn(name))]
    pub step: Vec<String>,

    /// as if there had been no files in earlier runs
    #[argh(switch)]
    pub no_inputs: bool,

    /// exit with 3 if there is anything to run
    #[argh(switch)]
    pub check: bool,

    /// as JSON
    #[argh(switch)]
    pub json: bool,

    /// files for the root tasks, one step each; - is standard input
    #[argh(positional, arg_name = "INPUT", from_str_fn(path))]
    pub inputs: Vec<PathBuf>,
}

/// Say where the pipeline stands: steps of each task, what runs just now, the last runs.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "status")]
pub struct Status {
    /// where results are kept; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// how many of the last runs are listed; 5 if not given
    #[argh(option, arg_name = "N", default = "5")]
    pub runs: usize,

    /// as JSON
    #[argh(switch)]
    pub json: bool,
}

/// Print what a step's script printed.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "log")]
pub struct Log {
    /// where results are kept; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// as JSON
    #[argh(switch)]
    pub json: bool,

    /// the N-th attempt, counted from 1; the last one if not given
    #[argh(option, arg_name = "N", from_str_fn(attempt))]
    pub attempt: Option<NonZeroU32>,

    /// of a step that runs: go on until it ends
    #[argh(switch, short = 'f')]
    pub follow: bool,

    /// of all steps that have failed
    #[argh(switch)]
    pub failed: bool,

    /// a step: its id, TASK, or TASK/INPUT_NAME
    #[argh(positional, arg_name = "STEP", from_str_fn(bytes))]
    pub step: Option<OsString>,
}

/// Say why a step ran, didn't run, or will run: what differs from the time before.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "explain")]
#[argh(
    note = "With --manifest, what is recorded is compared with the manifest as it is now as well."
)]
pub struct Explain {
    /// where results are kept; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// the tasks as they are now, in TOML; none if not given
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub manifest: Option<PathBuf>,

    /// as JSON
    #[argh(switch)]
    pub json: bool,

    /// a step: its id or TASK/INPUT_NAME; or a TASK
    #[argh(positional, arg_name = "STEP", from_str_fn(bytes))]
    pub step: OsString,
}

/// Show what something came from and what came of it, as a tree.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "lineage")]
#[argh(
    note = "A FILE is found by its bytes, wherever it was exported to. Of many producers or consumers the first \
    ones are shown, and how many more there are."
)]
pub struct Lineage {
    /// where results are kept; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// show all, however many
    #[argh(switch)]
    pub all: bool,

    /// as JSON
    #[argh(switch)]
    pub json: bool,

    /// as a graph in the language of Graphviz
    #[argh(switch)]
    pub dot: bool,

    /// a step (its id, or TASK/INPUT_NAME), the HASH of an object, or a FILE
    #[argh(positional, arg_name = "WHAT", from_str_fn(bytes))]
    pub what: OsString,
}

/// Draw the tasks, who feeds whom, and their steps.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "graph")]
#[argh(
    note = "The tasks are those of the last run, or of the manifest that is named, which needs no database."
)]
pub struct Graph {
    /// where results are kept; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// the tasks, in TOML; those of the last run if not given
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub manifest: Option<PathBuf>,

    /// text, dot, mermaid or json; text if not given
    #[argh(option, arg_name = "FORMAT", default = "GraphFormat::Text")]
    pub format: GraphFormat,

    /// as --format json
    #[argh(switch)]
    pub json: bool,
}

/// How a graph is written.
#[derive(FromArgValue, Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphFormat {
    /// For a terminal of 80 columns.
    Text,
    /// Graphviz.
    Dot,
    /// For Markdown.
    Mermaid,
    /// For programs.
    Json,
}
