//! One file per subcommand. Answers go to stdout, everything else to stderr.

mod answer;
mod cat;
mod explain;
mod export;
mod follow;
mod gc;
mod graph;
mod lineage;
mod log;
mod plan;
mod repair;
mod report;
mod run;
mod start;
mod status;
mod verify;
mod watch;

use std::ffi::OsString;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli::{self, Invocation};
use crate::db::{Db, Durability};
use crate::error::{Error, OrIo as _, Result, exit};
use crate::jobserver;
use crate::progress::{Lines, Loudness, Paint};
use crate::proof::Proof;
use crate::run::{RunLock, explain};
use crate::store::{self, Store};

/// Runs a command line to its exit code. No panic reaches the user.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    // Before any file is opened, whose number could be that of make's pipe.
    jobserver::inherited();
    std::panic::set_hook(Box::new(|panic| {
        complain(&format!(
            "internal error: {panic}\nthis is a bug in task-pipeline; nothing that was committed is lost"
        ));
    }));
    let invocation = match cli::parse(args) {
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
    // From the first write on, which comes long before the first script.
    if let Err(err) = crate::sys::survive_file_signals().or_io("handle signals of", "/proc/self") {
        return fail(&err);
    }
    let db = invocation.db().to_owned();
    let done = catch_unwind(AssertUnwindSafe(|| dispatch(invocation)));
    match done.map(|done| done.map_err(|error| explain(error, &db))) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(err)) => fail(&err),
        Err(_) => ExitCode::from(exit::INTERNAL),
    }
}

fn dispatch(command: Invocation) -> Result<u8> {
    match command {
        Invocation::Run(args) if args.dry_run => plan::plan(&args, false),
        // Recipe lines with a `+`, which we ask for, are run by `make -n` as well.
        Invocation::Run(args) if jobserver::inherited().runs_nothing => plan::plan(&args, false),
        Invocation::Run(args) if args.watch => watch::watch(&args),
        Invocation::Run(args) => run::run(&args),
        Invocation::Plan(args) => {
            let check = args.check;
            plan::plan(&args.into(), check)
        }
        Invocation::Status(args) => status::status(&args),
        Invocation::Log(args) => log::log(&args),
        Invocation::Explain(args) => explain::explain(&args),
        Invocation::Lineage(args) => lineage::lineage(&args),
        Invocation::Graph(args) => graph::graph(&args),
        Invocation::Cat(args) => cat::cat(&args),
        Invocation::Export(args) => export::export(&args),
        Invocation::Report(args) => report::report(&args),
        Invocation::Verify(args) => verify::verify(&args),
        Invocation::Repair(args) => repair::repair(&args),
        Invocation::Gc(args) => gc::gc(&args),
        Invocation::Init(args) => start::init(&args),
        Invocation::Completions(args) => start::completions(&args),
        Invocation::Man(_) => start::man(),
    }
}

/// Opens a database for work on it: with the run lock, which has to be kept as long.
fn open_to_change(dir: &Path, wait: bool) -> Result<(RunLock, Arc<Db>, Store)> {
    // First for reading, which says what is wrong if there is no database, and makes none.
    drop(Db::open_read_only(dir)?);
    let mut progress = Lines::new(std::io::stderr(), Loudness::Normal, Paint::Plain);
    let lock = RunLock::take(dir, wait, &mut progress)?;
    store::prepare(dir)?;
    let db = Arc::new(Db::open(dir, Durability::Batch)?);
    let store = Store::open(dir, Arc::clone(&db) as Arc<dyn Proof>)?;
    Ok((lock, db, store))
}

fn fail(err: &Error) -> ExitCode {
    complain(&err.to_string());
    ExitCode::from(err.exit_code())
}

/// One message of ours on stderr; it must not matter whether anybody reads it.
fn complain(text: &str) {
    let _ = std::io::stderr().write_all(format!("task-pipeline: {text}\n").as_bytes());
}
