//! The commands and their options. The comments are the help that users read: argh keeps them.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgValue, FromArgs};

use super::answers::{Explain, Graph, Lineage, Log, Plan, Status};
use super::care::{Gc, Repair, Verify};
use super::color::Color;
use super::report::Report;
use super::start::{Completions, Init, Man};
use super::values::{DEFAULT_MIN_FREE, bytes, bytes_of_size, default_db, jobs, name, path};

/// The words after the programme's name.
#[derive(FromArgs)]
pub(super) struct TopLevel {
    #[argh(subcommand)]
    pub(super) command: Invocation,
}

/// What is asked for.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand)]
pub enum Invocation {
    /// `run`, said or not.
    Run(Run),
    /// `plan`; turns into a [`Run`].
    Plan(Plan),
    /// `status`
    Status(Status),
    /// `log`
    Log(Log),
    /// `explain`
    Explain(Explain),
    /// `lineage`
    Lineage(Lineage),
    /// `graph`
    Graph(Graph),
    /// `cat`
    Cat(Cat),
    /// `export`
    Export(Export),
    /// `report`
    Report(Report),
    /// `verify`
    Verify(Verify),
    /// `repair`
    Repair(Repair),
    /// `gc`
    Gc(Gc),
    /// `init`
    Init(Init),
    /// `completions`
    Completions(Completions),
    /// `man`
    Man(Man),
}

impl Invocation {
    /// The folder that `--db` names.
    pub fn db(&self) -> &Path {
        match self {
            Invocation::Run(Run { db, .. })
            | Invocation::Plan(Plan { db, .. })
            | Invocation::Status(Status { db, .. })
            | Invocation::Log(Log { db, .. })
            | Invocation::Explain(Explain { db, .. })
            | Invocation::Lineage(Lineage { db, .. })
            | Invocation::Graph(Graph { db, .. })
            | Invocation::Cat(Cat { db, .. })
            | Invocation::Export(Export { db, .. })
            | Invocation::Report(Report { db, .. })
            | Invocation::Verify(Verify { db, .. })
            | Invocation::Repair(Repair { db, .. })
            | Invocation::Gc(Gc { db, .. })
            | Invocation::Completions(Completions { db, .. }) => db,
            // They have none; what fails there has a path of its own.
            Invocation::Init(_) | Invocation::Man(_) => Path::new("."),
        }
    }
}

/// Run what has to be run, and keep the results.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "run")]
#[argh(
    note = "Without INPUT, a root task that has no `inputs` gets the files of the last run on this database, or, if \
    there never were any, runs once on an empty file. Steps whose task and input are as before \
    are not run again."
)]
#[argh(example = "task-pipeline -manifest workflow.toml -db ./my-pipeline-db")]
#[argh(example = "task-pipeline -j8 -k data/*.csv")]
pub struct Run {
    /// the tasks, in TOML; pipeline.toml in this folder if not given
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub manifest: Option<PathBuf>,

    /// where results are kept, made if missing; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// steps to run at once, also --parallel; if not given, the number of CPUs, or, under a make that
    /// shares its -j, as many as make lets
    #[argh(option, short = 'j', arg_name = "N", from_str_fn(jobs))]
    pub jobs: Option<NonZeroUsize>,

    /// after a failure, go on with all that doesn't depend on it
    #[argh(switch, short = 'k')]
    pub keep_going: bool,

    /// only say what would be run, and why
    #[argh(switch, short = 'n')]
    pub dry_run: bool,

    /// run again whenever an input, one of `files` or the manifest changes, until Ctrl-C
    #[argh(switch)]
    pub watch: bool,

    /// run everything anew, even what has not changed
    #[argh(switch, short = 'B')]
    pub always: bool,

    /// say nothing but failures
    #[argh(switch, short = 'q')]
    pub quiet: bool,

    /// show what the scripts print
    #[argh(switch, short = 'v')]
    pub verbose: bool,

    /// run steps of this task only; may be given again
    #[argh(option, arg_name = "NAME", from_str_fn(name))]
    pub step: Vec<String>,

    /// forget the files of earlier runs, and use none
    #[argh(switch)]
    pub no_inputs: bool,

    /// if another run holds the database or the file for events, wait for its end
    #[argh(switch)]
    pub wait: bool,

    /// what survives a power cut: batch (all that was reported done) or off (faster; a kill still
    /// loses nothing); batch if not given
    #[argh(option, arg_name = "MODE", default = "Durability::Batch")]
    pub durability: Durability,

    /// start no step when less than this is free (512M, 10G); 64M if not given
    #[argh(option, arg_name = "SIZE", from_str_fn(bytes_of_size), default = "DEFAULT_MIN_FREE")]
    pub min_free: u64,

    /// allow a database on a network mount, where locks may not hold and a crash may corrupt it
    #[argh(switch)]
    pub allow_network_fs: bool,

    /// tell every event as a line of JSON; - is standard output
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub events: Option<PathBuf>,

    /// draw what ran when on which worker, for ui.perfetto.dev
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub trace: Option<PathBuf>,

    /// colours: auto, always or never; auto if not given
    #[argh(option, arg_name = "WHEN", default = "Color::Auto")]
    pub color: Color,

    /// with -n: the plan as JSON
    #[argh(switch)]
    pub json: bool,

    /// files for the root tasks, one step each; - is standard input
    #[argh(positional, arg_name = "INPUT", from_str_fn(path))]
    pub inputs: Vec<PathBuf>,
}

/// Write objects or outputs to standard output.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "cat")]
pub struct Cat {
    /// where results are kept; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// what to write, in this order: an object's HASH, TASK, or TASK/OUTPUT_NAME
    #[argh(positional, arg_name = "WHAT", from_str_fn(bytes))]
    pub what: Vec<OsString>,
}

/// Copy a task's outputs into a folder, under their names.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "export")]
#[argh(
    note = "Files that are as an earlier export left them stay untouched; what one left and is no output any more \
    is removed. While steps are pending or failed nothing is written, and the exit code is 1, unless \
    --partial is given."
)]
pub struct Export {
    /// where results are kept; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// the folder, made if missing
    #[argh(option, arg_name = "DIR", from_str_fn(path))]
    pub to: PathBuf,

    /// export what there is, even if steps are pending or failed
    #[argh(switch)]
    pub partial: bool,

    /// say what was written as JSON
    #[argh(switch)]
    pub json: bool,

    /// the task
    #[argh(positional, arg_name = "TASK", from_str_fn(name))]
    pub task: String,
}

/// What survives a power cut.
#[derive(FromArgValue, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// All that was reported done.
    Batch,
    /// What the system had written by itself; the next run checks.
    Off,
}
