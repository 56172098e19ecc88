//! One file per subcommand. Answers go to stdout, everything else to stderr.

mod answer;
mod cat;
mod export;
mod log;
mod plan;
mod run;
mod status;

use std::ffi::OsString;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use crate::cli::{self, Invocation};
use crate::error::{Error, Result, exit};

/// Runs a command line to its exit code. No panic reaches the user.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
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
    match catch_unwind(AssertUnwindSafe(|| dispatch(invocation))) {
        Ok(Ok(code)) => ExitCode::from(code),
        Ok(Err(err)) => fail(&err),
        Err(_) => ExitCode::from(exit::INTERNAL),
    }
}

fn dispatch(command: Invocation) -> Result<u8> {
    match command {
        Invocation::Run(args) if args.dry_run => plan::plan(&args),
        Invocation::Run(args) => run::run(&args),
        Invocation::Plan(args) => plan::plan(&args.into()),
        Invocation::Status(args) => status::status(&args),
        Invocation::Log(args) => log::log(&args),
        Invocation::Cat(args) => cat::cat(&args),
        Invocation::Export(args) => export::export(&args),
    }
}

fn fail(err: &Error) -> ExitCode {
    complain(&err.to_string());
    ExitCode::from(err.exit_code())
}

/// One message of ours on stderr; it must not matter whether anybody reads it.
fn complain(text: &str) {
    let _ = std::io::stderr().write_all(format!("task-pipeline: {text}\n").as_bytes());
}
