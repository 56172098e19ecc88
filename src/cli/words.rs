//! Brings the words into the form that argh expects: adds the command that was left out, takes long
//! options with one dash, `--name=value`, `-j8`, `-kn`, `-` and `--`. Mistakes are found here too,
//! because argh would name neither the command nor the option that was probably meant.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality};

use super::token::encode;
use super::{CommandLine, DEFAULT, EarlyExit, HELP, help};
use crate::manifest;
use crate::suggest;
use crate::text::printable;

/// Other names of options.
const ALIASES: [(&str, &str); 2] = [("parallel", "jobs"), ("step", "only")];

/// Options whose value may be left out, and the value that is meant then. A value that is given has to
/// be in the same word: `--data=5%`.
const IMPLIED: [(&str, &str); 1] = [("--data", "100%")];

/// What `help` tells of besides commands.
pub(super) const MANIFEST: &str = "manifest";

/// What the words ask for.
pub(super) enum Request<'c> {
    Version,
    /// The help of one command, or of all.
    Help(Option<&'c CommandInfoWithArgs>),
    /// The keys of a manifest.
    Manifest,
    /// A schema of it.
    Schema,
    /// One key of it, as it was typed.
    Key(String),
    /// A command, and the words for argh.
    Command(&'c str, Vec<String>),
}

/// The words that have not been read yet.
pub(super) struct Words<'c> {
    words: VecDeque<OsString>,
    known: &'c CommandLine,
}

/// An option with its value, as argh will get it.
struct Given<'c> {
    flag: &'c FlagInfo<'static>,
    /// One letter or the long one, as it was given: argh's message names it.
    name: String,
    value: Option<OsString>,
}

impl<'c> Words<'c> {
    pub(super) fn new(words: impl Iterator<Item = OsString>, known: &'c CommandLine) -> Words<'c> {
        Words { words: words.collect(), known }
    }

    pub(super) fn request(mut self) -> Result<Request<'c>, EarlyExit> {
        let first = self.words.front().and_then(|word| word.to_str()).unwrap_or_default();
        if matches!(first, HELP | "--help" | "-help" | "-h") {
            return self.help();
        }
        match self.words.front().and_then(|word| self.known.find(word)) {
            Some(command) => {
                self.words.pop_front();
                self.of_command(command)
            }
            None => match self.known.find(DEFAULT) {
                Some(run) => {
                    let meant = self.meant();
                    self.of_command(run).map_err(|misuse| match meant {
                        Some(hint) => {
                            EarlyExit { text: format!("{}\n{hint}", misuse.text), ..misuse }
                        }
                        None => misuse,
                    })
                }
                None => Ok(Request::Help(None)),
            },
        }
    }

    /// What `help` is to tell of.
    fn help(&self) -> Result<Request<'c>, EarlyExit> {
        let Some(topic) = self.words.get(1).filter(|word| !word.as_bytes().starts_with(b"-"))
        else {
            return Ok(Request::Help(None));
        };
        if topic != MANIFEST {
            return match self.known.find(topic) {
                Some(command) => Ok(Request::Help(Some(command))),
                None => {
                    let commands = self.known.commands.iter().map(|command| command.name);
                    Err(no_help("command", topic, commands.chain([MANIFEST])))
                }
            };
        }
        if self.words.iter().any(|word| word == "--json" || word == "-json") {
            return Ok(Request::Schema);
        }
        let Some(key) = self.words.get(2) else { return Ok(Request::Manifest) };
        let keys = || manifest::KEYS.iter().map(|key| key.name);
        match key.to_str().filter(|key| keys().any(|known| known == *key)) {
            Some(key) => Ok(Request::Key(key.to_owned())),
            None => Err(no_help("key of a task", key, keys())),
        }
    }

    /// A hint for a first word that is no command but looks like one, as in `exprot total --to out`: without it, all that
    /// is said is that `run` has no such option.
    fn meant(&self) -> Option<String> {
        let word = self.words.front().filter(|word| !Path::new(word).exists())?;
        let command = self.known.command_like(word)?;
        Some(format!("did you mean the command `{command}`?"))
    }

    fn of_command(&mut self, command: &'c CommandInfoWithArgs) -> Result<Request<'c>, EarlyExit> {
        let mut given: Vec<Given<'c>> = Vec::new();
        let mut positionals: Vec<OsString> = Vec::new();
        while let Some(word) = self.words.pop_front() {
            match word.as_bytes() {
                b"--" => positionals.extend(self.words.drain(..)),
                b"-" => positionals.push(word),
                b"-h" | b"-help" | b"--help" => return Ok(Request::Help(Some(command))),
                b"-V" | b"-version" | b"--version" => return Ok(Request::Version),
                [b'-', ..] => self.options(command, &word, &mut given)?,
                _ => positionals.push(word),
            }
        }
        check_complete(command, &given, &positionals)?;
        let mut words = Vec::new();
        let mut name = command.name;
        if let Some(alias) = self.known.alias(name) {
            name = alias.of;
            words.push(alias.switch.to_owned());
            given.retain(|given| given.flag.long != alias.switch);
        }
        for Given { name, value, .. } in given {
            words.push(name);
            words.extend(value.as_deref().map(encode));
        }
        words.extend(positionals.iter().map(|word| encode(word)));
        Ok(Request::Command(name, words))
    }

    /// The options in one word: one long name, or several letters.
    fn options(
        &mut self,
        command: &'c CommandInfoWithArgs,
        word: &OsStr,
        given: &mut Vec<Given<'c>>,
    ) -> Result<(), EarlyExit> {
        let bytes = word.as_bytes();
        let name = bytes.strip_prefix(b"--").unwrap_or(&bytes[1..]);
        let equals = name.iter().position(|byte| *byte == b'=');
        let (name, value) = match equals {
            Some(at) => (&name[..at], Some(OsString::from_vec(name[at + 1..].to_vec()))),
            None => (name, None),
        };
        let name = std::str::from_utf8(name).map_err(|_| unknown(command, word))?;
        if let Some(flag) = by_name(command, name) {
            return self.take(command, flag, flag.long.to_owned(), value, given);
        }
        // A letter with its value, `-j8`, unless it looks like a misspelt long name, `-jobz`. `-Pspeed=7` doesn't: what
        // comes before the `=` is a name of the user's.
        let letters = word.to_str().and_then(|word| word.strip_prefix('-'));
        let is_pair = name.starts_with('P') && equals.is_some();
        let letters = letters.filter(|letters| {
            !letters.starts_with('-') && (is_pair || guess(command, name).is_none())
        });
        let mut letters = letters.ok_or_else(|| unknown(command, word))?.chars();
        while let Some(letter) = letters.next() {
            let flag = command.flags.iter().find(|flag| flag.short == Some(letter));
            let flag = flag.ok_or_else(|| unknown(command, word))?;
            let rest = letters.as_str();
            if takes_value(flag) && !rest.is_empty() {
                let value = rest.strip_prefix('=').unwrap_or(rest);
                return self.take(command, flag, format!("-{letter}"), Some(value.into()), given);
            }
            self.take(command, flag, format!("-{letter}"), None, given)?;
        }
        Ok(())
    }

    /// Takes an option with its value, which is the next word unless it was in the same one. If an option
    /// is given twice the later one counts, so a user can override what a Makefile says.
    fn take(
        &mut self,
        command: &CommandInfoWithArgs,
        flag: &'c FlagInfo<'static>,
        name: String,
        attached: Option<OsString>,
        given: &mut Vec<Given<'c>>,
    ) -> Result<(), EarlyExit> {
        let value = match (takes_value(flag), attached) {
            (false, Some(_)) => {
                return Err(misuse(command, &format!("`{name}` takes no value")));
            }
            (false, None) => None,
            (true, Some(value)) => Some(value),
            (true, None) => match implied(flag).or_else(|| self.words.pop_front()) {
                Some(value) => Some(value),
                None => return Err(misuse(command, &format!("`{name}` needs a value"))),
            },
        };
        if flag.optionality != Optionality::Repeating {
            given.retain(|earlier| earlier.flag.long != flag.long);
        }
        given.push(Given { flag, name, value });
        Ok(())
    }
}

fn check_complete(
    command: &CommandInfoWithArgs,
    given: &[Given<'_>],
    positionals: &[OsString],
) -> Result<(), EarlyExit> {
    let takes = command.positionals;
    let missing = command.flags.iter().find(|flag| {
        flag.optionality == Optionality::Required
            && !given.iter().any(|given| given.flag.long == flag.long)
    });
    let is_endless = takes.last().is_some_and(|last| last.optionality == Optionality::Repeating);
    if let Some(extra) = positionals.get(takes.len())
        && !is_endless
    {
        let extra = printable(extra.as_bytes());
        // `export total out`: the word is the value of the option that is missing.
        let hint = match missing {
            Some(flag) if takes_value(flag) => format!("; did you mean `{} {extra}`?", flag.long),
            _ => String::new(),
        };
        return Err(misuse(command, &format!("`{}` can't use `{extra}`{hint}", command.name)));
    }
    if let Some(flag) = missing {
        let what = format!("`{}` needs {}", command.name, help::spelled(flag));
        return Err(misuse(command, &what));
    }
    match takes.get(positionals.len()).filter(|next| next.optionality == Optionality::Required) {
        Some(next) => Err(misuse(command, &format!("`{}` needs a {}", command.name, next.name))),
        None => Ok(()),
    }
}

pub(super) fn by_name<'c>(
    command: &'c CommandInfoWithArgs,
    name: &str,
) -> Option<&'c FlagInfo<'static>> {
    let has =
        |name: &str| command.flags.iter().any(|flag| flag.long.strip_prefix("--") == Some(name));
    let alias = ALIASES.iter().find(|(alias, of)| *alias == name && has(of));
    let name = alias.map_or(name, |(_, name)| *name);
    command.flags.iter().find(|flag| flag.long.strip_prefix("--") == Some(name))
}

fn implied(flag: &FlagInfo<'_>) -> Option<OsString> {
    IMPLIED.iter().find(|(long, _)| *long == flag.long).map(|(_, value)| value.into())
}

pub(super) fn takes_value(flag: &FlagInfo<'_>) -> bool {
    matches!(flag.kind, FlagInfoKind::Option { .. })
}

/// The option, without its dashes, that was probably meant.
fn guess(command: &CommandInfoWithArgs, name: &str) -> Option<&'static str> {
    let long = command.flags.iter().filter_map(|flag| flag.long.strip_prefix("--"));
    // Any two letters are one slip away from the shortest names.
    let known = long.chain(ALIASES.iter().map(|(alias, _)| *alias)).filter(|_| name.len() > 2);
    suggest::nearest(name, known)
}

/// `help` was asked for what there is not.
fn no_help<'a>(kind: &str, word: &OsStr, known: impl Iterator<Item = &'a str>) -> EarlyExit {
    let hint = match suggest::nearest(&word.to_string_lossy(), known) {
        Some(meant) => format!("; did you mean `{meant}`?"),
        None => String::new(),
    };
    let shown = printable(word.as_bytes());
    EarlyExit::misuse(format!(
        "help: there is no {kind} `{shown}`{hint}\nsee `{} --help`",
        help::PROGRAM
    ))
}

fn unknown(command: &CommandInfoWithArgs, word: &OsStr) -> EarlyExit {
    let shown = printable(word.as_bytes());
    let name = shown.trim_start_matches('-').split('=').next().unwrap_or_default();
    let hint = match guess(command, name) {
        Some(meant) => format!("; did you mean `--{meant}`?"),
        None => String::new(),
    };
    let hint = match word.as_bytes().starts_with(b"-C") {
        true => format!("; it comes first: `{} -C DIR {}`", help::PROGRAM, command.name),
        false => hint,
    };
    misuse(command, &format!("unknown option `{shown}`{hint}"))
}

fn misuse(command: &CommandInfoWithArgs, what: &str) -> EarlyExit {
    let see = format!("see `{} {} --help`", help::PROGRAM, command.name);
    EarlyExit::misuse(format!("{what}\n{see}"))
}
