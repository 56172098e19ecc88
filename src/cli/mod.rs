//! The command line: from words to what is asked for. Unaware of manifests and databases; what can
//! be told from the words alone is checked here, and nothing else.
//!
//! The types of `args` are the only list of commands and options there is: repairs and help read
//! it too. A new command is a struct and a variant there.

mod answers;
mod args;
mod care;
mod check;
mod color;
mod complete;
mod help;
mod hidden;
mod man;
mod start;
#[cfg(test)]
mod tests;
mod values;
mod words;

use std::ffi::{OsStr, OsString};

use argh::{ArgsInfo, CommandInfoWithArgs, FromArgs, SubCommandInfo};

pub use answers::{Explain, Graph, GraphFormat, Lineage, Log, Plan, Status};
pub use args::{Cat, Durability, Export, Invocation, Run};
pub use care::{Gc, Repair, Verify};
pub use color::Color;
pub use start::{Completions, Init, Man, Shell};

use crate::error::exit;
use crate::suggest;
use words::{Request, Words};

/// `run --watch`
const WATCH: &str = "watch";

/// What is printed instead of doing anything: help on stdout, or on stderr what is wrong with the
/// words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlyExit {
    /// Without a final newline.
    pub text: String,
    /// Exit code: 0 for an answer that was asked for, 2 for misuse.
    pub code: u8,
}

impl EarlyExit {
    fn answer(text: String) -> EarlyExit {
        EarlyExit { text, code: exit::OK }
    }

    fn misuse(text: impl Into<String>) -> EarlyExit {
        EarlyExit { text: text.into(), code: exit::USAGE }
    }
}

/// Reads the words of a command line; the first is the programme's name, as in [`std::env::args_os`].
///
/// # Errors
/// An [`EarlyExit`] if help or the version was asked for, or if the words can't be used.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Invocation, EarlyExit> {
    let commands = commands();
    match Words::new(args.skip(1), &commands).request()? {
        Request::Version => Err(EarlyExit::answer(version())),
        Request::Help(None) => Err(EarlyExit::answer(help::overview(&commands))),
        Request::Help(Some(command)) => Err(EarlyExit::answer(help::of(command))),
        Request::Command(words) => {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let top = args::TopLevel::from_args(&[help::PROGRAM], &words).map_err(mend)?;
            top.command.check().map_err(EarlyExit::misuse)?;
            Ok(top.command)
        }
    }
}

/// Every command there is. `watch` is `run --watch` by another name.
pub(crate) fn commands() -> Vec<SubCommandInfo> {
    let mut commands = Invocation::get_args_info().commands;
    if let Some(run) = commands.iter().position(|command| command.name == "run") {
        let SubCommandInfo { command: run, .. } = &commands[run];
        let command = CommandInfoWithArgs {
            name: WATCH,
            description: "Run, and run again whenever an input, one of `files` or the manifest changes.",
            notes: &[
                "A round that finds nothing to do says nothing. A manifest with mistakes is waited \
                for: they are shown, and the next change of it is tried. Ctrl-C ends.",
            ],
            flags: run.flags,
            positionals: run.positionals,
            ..Default::default()
        };
        commands.push(SubCommandInfo { name: WATCH, command });
    }
    commands
}

/// The command that a word which is no input was probably meant to be: `staus`, or a `status` that
/// came after an option and so was taken for an input.
pub fn command_like(word: &OsStr) -> Option<&'static str> {
    let commands = commands();
    suggest::nearest(word.to_str()?, commands.iter().map(|command| command.name))
}

/// What a shell needs to complete command lines.
pub fn completions(shell: Shell) -> String {
    complete::script(shell, &commands())
}

/// The manual page, in roff.
pub fn manual() -> String {
    man::page(&commands())
}

fn version() -> String {
    format!("{} {}", help::PROGRAM, env!("CARGO_PKG_VERSION"))
}

/// Turns argh's report of a value that can't be read into a sentence of ours; all else is found
/// before argh sees the words.
fn mend(report: argh::EarlyExit) -> EarlyExit {
    let text = report.output.trim_end();
    let parts = || {
        let rest = text.strip_prefix("Error parsing ")?;
        let (what, rest) = rest.split_once("' with value '")?;
        // The reason is ours and has no such thing in it; the value may.
        let (value, why) = rest.rsplit_once("': ")?;
        Some((what, hidden::printable(value), why))
    };
    let Some((what, value, why)) = parts() else {
        return EarlyExit::misuse(text);
    };
    EarlyExit::misuse(match what.strip_prefix("option '") {
        Some(option) => format!("bad value `{value}` for `{option}`: {why}"),
        None => format!("bad argument `{value}`: {why}"),
    })
}
