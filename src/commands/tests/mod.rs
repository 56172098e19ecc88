//! The command line as users type it.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use super::cat::CatArgs;
use super::run::RunArgs;
use super::status::StatusArgs;
use super::*;
use crate::cli::Color;

/// What the words of a line ask for, the programme's name left out.
fn asked(line: &str) -> Result<Invocation, EarlyExit> {
    let words = line.split_whitespace().map(OsString::from);
    parse(std::iter::once("task-pipeline".into()).chain(words))
}

fn run(line: &str) -> RunArgs {
    match asked(line) {
        Ok(Invocation::Run(run)) => run,
        other => panic!("{line}: {other:?}"),
    }
}

/// The first line of what is said about a misuse.
fn misuse(line: &str) -> String {
    let exit = asked(line).expect_err(line);
    assert_eq!(exit.code, exit::USAGE, "{line}: {}", exit.text);
    exit.text.lines().next().unwrap_or_default().to_owned()
}

fn help(line: &str) -> String {
    let exit = asked(line).expect_err(line);
    assert_eq!(exit.code, exit::OK, "{line}: {}", exit.text);
    exit.text
}

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

mod answers;
mod spelling;
