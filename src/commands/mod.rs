//! The subcommands, each in a file of its own: its options (whose comments are the help that users read),
//! its answer, as JSON and as text, and what it does. Answers go to stdout, everything else to stderr.
//!
//! A new subcommand is such a file, and its two lines here. Help, the manual page and completions follow
//! from the list below.

mod answer;
mod cat;
mod columns;
mod completions;
mod crew;
mod explain;
mod export;
mod gc;
mod graph;
mod init;
mod lineage;
mod log;
mod man;
mod outside;
mod repair;
mod report;
mod run;
mod status;
mod style;
#[cfg(test)]
mod tests;
mod verify;
mod worker;
mod workers;

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use argh::{ArgsInfo, FromArgs};

use crate::attempt::NamedObject;
use crate::cli::{Alias, CommandLine, EarlyExit};
use crate::db::{Db, Durability};
use crate::error::{Error, OrIo as _, Result, exit};
use crate::hint;
use crate::jobserver;
use crate::object::ObjectHash;
use crate::progress::{Lines, Loudness, Paint};
use crate::proof::Proof;
use crate::run::{RunLock, explain, tell_on_stderr};
use crate::store::{self, Store};
use crate::text::shown;

/// A subcommand with its options.
trait Command {
    /// The folder that `--db` names, for messages about the database; a command without that option has no
    /// such messages.
    fn db(&self) -> &Path {
        Path::new("db")
    }

    /// Refuses options that contradict each other; the error says what to do.
    fn check(&self) -> std::result::Result<(), &'static str> {
        Ok(())
    }

    /// Does what the command is for, and returns the exit code.
    fn execute(&self) -> Result<u8>;
}

/// Makes the enum of all subcommands, which argh reads, and a [`Command`] of each.
macro_rules! subcommands {
    ($($name:ident: $args:path,)*) => {
        /// A command line that was understood.
        #[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
        #[argh(subcommand)]
        #[allow(missing_docs, reason = "a variant is documented where its arguments are defined")]
        #[allow(clippy::large_enum_variant, reason = "there is one of it, as long as the program runs")]
        pub enum Invocation {
            $($name($args),)*
        }

        impl Invocation {
            fn command(&self) -> &dyn Command {
                match self {
                    $(Invocation::$name(args) => args,)*
                }
            }
        }
    };
}

// In the order of the help.
subcommands! {
    Run: run::RunArgs,
    Plan: run::PlanArgs,
    Status: status::StatusArgs,
    Log: log::LogArgs,
    Explain: explain::ExplainArgs,
    Lineage: lineage::LineageArgs,
    Graph: graph::GraphArgs,
    Cat: cat::CatArgs,
    Export: export::ExportArgs,
    Report: report::ReportArgs,
    Verify: verify::VerifyArgs,
    Repair: repair::RepairArgs,
    Gc: gc::GcArgs,
    Init: init::InitArgs,
    Workers: workers::WorkersArgs,
    Worker: worker::WorkerArgs,
    Completions: completions::CompletionsArgs,
    Man: man::ManArgs,
}

const ALIASES: &[Alias] = &[run::WATCH];

fn command_line() -> CommandLine {
    CommandLine::new::<Invocation>(ALIASES)
}

/// Reads the words of a command line; the first is the program's name, as in [`std::env::args_os`].
///
/// # Errors
/// An [`EarlyExit`] if help or the version was asked for, or if the words can't be used.
pub fn parse(args: impl Iterator<Item = OsString>) -> std::result::Result<Invocation, EarlyExit> {
    let invocation: Invocation = command_line().parse(args)?;
    invocation.command().check().map_err(EarlyExit::misuse)?;
    Ok(invocation)
}

/// Goes where `-C DIR` before the command says, and returns the words without it. Several are followed one after the
/// other, as by make.
fn enter(args: impl Iterator<Item = OsString>) -> std::result::Result<Vec<OsString>, EarlyExit> {
    let mut args: std::collections::VecDeque<OsString> = args.collect();
    let program = args.pop_front();
    while let Some(first) = args.front().filter(|first| first.as_bytes().starts_with(b"-C")) {
        let dir = OsString::from_vec(first.as_bytes()[2..].to_vec());
        args.pop_front();
        let dir = if dir.is_empty() { args.pop_front().unwrap_or_default() } else { dir };
        if dir.is_empty() {
            return Err(EarlyExit::misuse("`-C` needs a folder: task-pipeline -C DIR …"));
        }
        if let Err(why) = std::env::set_current_dir(&dir) {
            let dir = shown(Path::new(&dir));
            return Err(EarlyExit::misuse(format!("can't go to `{dir}`: {why}")));
        }
    }
    Ok(program.into_iter().chain(args).collect())
}

/// Runs a command line to its exit code. No panic reaches the user.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    // Before any file is opened: it could get the number of make's pipe.
    jobserver::inherited();
    std::panic::set_hook(Box::new(|panic| {
        complain(&format!(
            "internal error: {panic}\nthis is a bug in task-pipeline; nothing that was committed is lost"
        ));
    }));
    let invocation = match enter(args).and_then(|args| parse(args.into_iter())) {
        Ok(invocation) => invocation,
        Err(early) if early.code == exit::OK => {
            let shown = answer::write(|out| writeln!(out, "{}", early.text));
            return shown.map_or_else(|err| fail(&err), |()| ExitCode::SUCCESS);
        }
        Err(early) => {
            complain(&early.text);
            return ExitCode::from(early.code);
        }
    };
    // Before the first write, and so long before the first script.
    if let Err(err) = crate::sys::survive_file_signals().or_system("handle signals") {
        return fail(&err);
    }
    let command = invocation.command();
    hint::set_db(command.db());
    let done = catch_unwind(AssertUnwindSafe(|| command.execute()));
    match done.map(|done| done.map_err(|error| explain(error, command.db()))) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(err)) => fail(&err),
        Err(_) => ExitCode::from(exit::INTERNAL),
    }
}

/// Opens a database to change it: with the run lock, which must be kept until the change is complete.
fn open_to_change(dir: &Path, wait: bool) -> Result<(RunLock, Arc<Db>, Store)> {
    // First read-only, which explains what is wrong if there is no database, and creates none.
    drop(Db::open_read_only(dir)?);
    let mut progress = Lines::new(std::io::stderr(), Loudness::Normal, Paint::Plain);
    let lock = RunLock::take(dir, wait, &mut progress)?;
    store::prepare(dir)?;
    let db = Arc::new(Db::open(dir, Durability::Batch)?);
    tell_on_stderr(&db);
    let store = Store::open(dir, Arc::clone(&db) as Arc<dyn Proof>)?;
    Ok((lock, db, store))
}

/// The files that a step which gathers them worked on, by its object; `None` if that can't be read.
fn gathered_files(db: &Path, listing: &ObjectHash) -> Option<Vec<NamedObject>> {
    let listing = Store::open_read_only(db).ok()?.read_small(listing, u64::MAX).ok()??;
    Some(crate::db::read_listing(&listing))
}

fn fail(err: &Error) -> ExitCode {
    complain(&err.to_string());
    ExitCode::from(err.exit_code())
}

/// One message of ours on stderr; whether anybody reads it must not matter.
fn complain(text: &str) {
    let _ = std::io::stderr().write_all(format!("task-pipeline: {text}\n").as_bytes());
}
