//! The command line: from words to a command. This module knows no command itself; the list of
//! commands, with their options and their help, is derived by argh where they are defined and given to
//! [`CommandLine::new`]. Parsing, `--help`, the manual page and completions all follow from that list.

mod complete;
mod help;
mod man;
mod progress_style;
mod token;
pub(crate) mod values;
mod words;

use std::ffi::{OsStr, OsString};

use argh::{ArgsInfo, CommandInfoWithArgs, FlagInfo, FromArgs, SubCommandInfo};

pub use complete::{NameSource, Shell, WantedNames};
pub use progress_style::ProgressStyle;
pub use values::Color;

use crate::error::exit;
use crate::manifest;
use crate::suggest;
use words::{Request, Words};

/// The command that is meant when none is named.
const DEFAULT: &str = "run";

/// Asks for the help of all commands, or of the one that follows.
const HELP: &str = "help";

/// What is printed instead of running a command: on stdout an answer such as help, on stderr what is
/// wrong with the words.
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

    /// The words can't be used; `text` says why.
    pub fn misuse(text: impl Into<String>) -> EarlyExit {
        EarlyExit { text: text.into(), code: exit::USAGE }
    }
}

/// A command that is another command with a switch.
#[derive(Debug, Clone, Copy)]
pub struct Alias {
    /// The name of the command.
    pub name: &'static str,
    /// The command that it stands for.
    pub of: &'static str,
    /// The switch that it adds, with its dashes.
    pub switch: &'static str,
    /// Options of that command that don't go with the switch, with their dashes: its help leaves them out. Who gives one
    /// all the same is told why it doesn't fit.
    pub unfit: &'static [&'static str],
    /// As in the help of a command.
    pub description: &'static str,
    /// As in the help of a command.
    pub notes: &'static [&'static str],
}

/// Every command there is.
pub struct CommandLine {
    /// Aliases included, with the options of the command that they stand for.
    commands: Vec<SubCommandInfo>,
    aliases: &'static [Alias],
}

impl CommandLine {
    /// The commands of `C`, an enum of argh subcommands, and `aliases` for some of them.
    pub fn new<C: ArgsInfo>(aliases: &'static [Alias]) -> CommandLine {
        let mut commands = C::get_args_info().commands;
        for alias in aliases {
            let known = commands.iter().find(|command| command.name == alias.of);
            let Some(SubCommandInfo { command: known, .. }) = known else { continue };
            let command = CommandInfoWithArgs {
                name: alias.name,
                description: alias.description,
                notes: alias.notes,
                flags: known.flags,
                positionals: known.positionals,
                ..Default::default()
            };
            commands.push(SubCommandInfo { name: alias.name, command });
        }
        CommandLine { commands, aliases }
    }

    /// Reads the words of a command line; the first is the program's name, as in
    /// [`std::env::args_os`]. `C` is the enum that [`CommandLine::new`] was given.
    ///
    /// # Errors
    /// An [`EarlyExit`] if help or the version was asked for, or if the words can't be used.
    pub fn parse<C: FromArgs>(&self, args: impl Iterator<Item = OsString>) -> Result<C, EarlyExit> {
        match Words::new(args.skip(1), self).request()? {
            Request::Version => Err(EarlyExit::answer(version())),
            Request::Manifest => Err(EarlyExit::answer(help::manifest())),
            Request::Key(name) => Err(EarlyExit::answer(help::key(&name))),
            Request::Schema => Err(EarlyExit::answer(format!("{:#}", manifest::schema()))),
            Request::Help(None) => Err(EarlyExit::answer(help::overview(self))),
            Request::Help(Some(command)) => {
                let text = help::of(command, self.options(command));
                Err(EarlyExit::answer(text))
            }
            Request::Command(name, words) => {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                C::from_args(&[help::PROGRAM, name], &words).map_err(in_our_words)
            }
        }
    }

    fn find(&self, name: impl AsRef<OsStr>) -> Option<&CommandInfoWithArgs> {
        let name = name.as_ref();
        self.commands.iter().find(|known| name == known.name).map(|known| &known.command)
    }

    /// The options of a command that its help lists.
    fn options<'c>(
        &self,
        command: &'c CommandInfoWithArgs,
    ) -> impl Iterator<Item = &'c FlagInfo<'static>> {
        let alias = self.alias(command.name);
        let is_unfit = move |flag: &FlagInfo<'_>| {
            alias.is_some_and(|alias| flag.long == alias.switch || alias.unfit.contains(&flag.long))
        };
        command.flags.iter().filter(move |flag| !flag.hidden && !is_unfit(flag))
    }

    fn alias(&self, name: &str) -> Option<&'static Alias> {
        self.aliases.iter().find(|alias| alias.name == name)
    }

    /// The command that a word which is no input was probably meant to be: `staus`, or a `status` that
    /// came after an option and was therefore taken for an input.
    pub fn command_like(&self, word: &OsStr) -> Option<&'static str> {
        let commands = self.commands.iter().map(|command| command.name);
        suggest::nearest(word.to_str()?, commands.chain([HELP]))
    }

    /// What a shell's completion script is told about the last of `words`, which leave out the program's
    /// name. `names` finds those of tasks, and what there is of a task.
    pub fn complete(
        &self,
        shell: Shell,
        words: &[OsString],
        names: impl Fn(&NameSource, WantedNames<'_>) -> Vec<String>,
    ) -> String {
        complete::answer(self, shell, words, names)
    }

    /// The manual page, in roff.
    pub fn manual(&self) -> String {
        man::page(self)
    }
}

fn version() -> String {
    format!("{} {}", help::PROGRAM, env!("CARGO_PKG_VERSION"))
}

/// Turns argh's report of a bad value into a sentence of ours; every other mistake is found before argh
/// sees the words.
fn in_our_words(report: argh::EarlyExit) -> EarlyExit {
    let text = report.output.trim_end();
    let parts = || {
        let rest = text.strip_prefix("Error parsing ")?;
        let (what, rest) = rest.split_once("' with value '")?;
        // The reason is ours and never holds this separator; the value may.
        let (value, why) = rest.rsplit_once("': ")?;
        Some((what, token::printable(value), why))
    };
    let Some((what, value, why)) = parts() else {
        return EarlyExit::misuse(text);
    };
    EarlyExit::misuse(match what.strip_prefix("option '") {
        Some(option) => format!("bad value `{value}` for `{option}`: {why}"),
        None => format!("bad argument `{value}`: {why}"),
    })
}
