//! Completions. What a shell loads is a few fixed lines that send the words of the command line back to
//! us, as `completions --words SHELL -- WORD…` with the word at the cursor last. The answer comes from
//! the same list of commands as the help, so a new option is completed without anybody loading anything
//! anew.
//!
//! The answer has a line for each candidate: the word, a tab, and what it means. The lines `:files` and
//! `:folders` ask the shell to complete paths itself, because each has its own way to quote them.

use std::ffi::OsString;
use std::path::PathBuf;

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, FromArgValue};

use super::words::{MANIFEST, by_name, takes_value};
use super::{CommandLine, DEFAULT, HELP};
use crate::manifest;

const FILES: &str = ":files";
const FOLDERS: &str = ":folders";

/// A shell that can be given completions.
#[derive(FromArgValue, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    /// What the shell loads.
    pub fn script(self) -> &'static str {
        match self {
            Shell::Bash => include_str!("task-pipeline.bash"),
            Shell::Zsh => include_str!("task-pipeline.zsh"),
            Shell::Fish => include_str!("task-pipeline.fish"),
        }
    }
}

/// What names are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedNames<'a> {
    /// Those of the tasks.
    Tasks,
    /// Those of the inputs of the steps of a task that begin like this.
    Inputs(&'a str, &'a str),
    /// Those of its outputs, likewise.
    Outputs(&'a str, &'a str),
    /// Numbers and hosts of the workers.
    Workers,
}

/// Where names come from, as far as the words so far say.
#[derive(Debug, Default)]
pub struct NameSource {
    /// The value of `--manifest`.
    pub manifest: Option<PathBuf>,
    /// The value of `--db`.
    pub db: Option<PathBuf>,
}

/// What a value is.
#[derive(Debug, Clone, Copy)]
enum Takes {
    File,
    Folder,
    Task,
    /// A task or, with its input, a step of it.
    Step,
    /// A task or, with its name, an output of it.
    Output,
    /// The number of a worker, or a host of some.
    Worker,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Something that can't be guessed.
    Other,
}

impl Takes {
    /// By the name that help gives the value.
    fn of(arg_name: &str) -> Takes {
        match arg_name {
            "FILE" | "INPUT" => Takes::File,
            "DIR" => Takes::Folder,
            "NAME" | "TASK" => Takes::Task,
            "STEP" | "WHAT" => Takes::Step,
            "WORKER" => Takes::Worker,
            "WHEN" => Takes::OneOf(&["auto", "always", "never"]),
            "MODE" => Takes::OneOf(&["batch", "off"]),
            "HOW" => Takes::OneOf(&["auto", "fork", "spawn"]),
            "STYLE" => Takes::OneOf(&["auto", "plain", "bar", "none"]),
            "FORMAT" => Takes::OneOf(&["text", "dot", "mermaid", "json"]),
            "SHELL" => Takes::OneOf(&["bash", "zsh", "fish"]),
            _ => Takes::Other,
        }
    }
}

/// The words before the cursor, understood as far as they can be.
#[derive(Default)]
struct Typed<'c> {
    /// The option whose value comes next.
    pending: Option<&'c FlagInfo<'static>>,
    /// Arguments that are no options.
    positionals: usize,
    /// After `--` nothing is an option.
    only_positionals: bool,
    source: NameSource,
}

/// Candidates for the last of `words`, which leave out the program's name.
pub(super) fn answer(
    known: &CommandLine,
    shell: Shell,
    words: &[OsString],
    names: impl Fn(&NameSource, WantedNames<'_>) -> Vec<String>,
) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    if shell == Shell::Bash {
        join_values(&mut words);
    }
    let current = words.pop().unwrap_or_default();
    // `-C DIR` comes first, and what follows is as without it.
    while words.first() == Some(&"-C") {
        if words.len() == 1 {
            return format!("{FOLDERS}\n");
        }
        words.drain(..2);
    }
    if words.first() == Some(&HELP) {
        return topics(known, &words[1..]);
    }
    let named = words.first().and_then(|first| known.find(first));
    let Some(command) = named.or_else(|| known.find(DEFAULT)) else { return String::new() };
    let typed = Typed::read(command, &words[usize::from(named.is_some())..]);

    let mut lines = Vec::new();
    let mut value = |takes, prefix: &str| match takes {
        Takes::File => lines.push(FILES.to_owned()),
        Takes::Folder => lines.push(FOLDERS.to_owned()),
        Takes::Task | Takes::Step | Takes::Output => {
            // `count/` and the beginning of a name: what there is of that task.
            let (wanted, prefix) = match (takes, current.split_once('/')) {
                (Takes::Step, Some((task, begun))) => {
                    (WantedNames::Inputs(task, begun), format!("{task}/"))
                }
                (Takes::Output, Some((task, begun))) => {
                    (WantedNames::Outputs(task, begun), format!("{task}/"))
                }
                _ => (WantedNames::Tasks, prefix.to_owned()),
            };
            let found = names(&typed.source, wanted);
            lines.extend(found.iter().map(|name| format!("{prefix}{name}\t")));
        }
        Takes::Worker => {
            let found = names(&typed.source, WantedNames::Workers);
            lines.extend(found.iter().map(|name| format!("{prefix}{name}\t")));
        }
        Takes::OneOf(words) => {
            lines.extend(words.iter().map(|word| format!("{prefix}{word}\t")));
        }
        Takes::Other => {}
    };
    if let Some(flag) = typed.pending {
        value(takes(flag), "");
    } else if !typed.only_positionals && current.starts_with('-') {
        match current.split_once('=') {
            Some((name, _)) => {
                let flag = by_name(command, name.trim_start_matches('-'));
                value(flag.map_or(Takes::Other, takes), &format!("{name}="));
            }
            None => options(known.options(command), current, &mut lines),
        }
    } else {
        let places: Vec<_> = command.positionals.iter().filter(|place| !place.hidden).collect();
        // The last place may be taken by any number of words.
        if let Some(place) = places.get(typed.positionals).or(places.last()) {
            // What `cat` prints are outputs; other commands are asked about steps.
            let takes = match Takes::of(place.name) {
                Takes::Step if command.name == "cat" => Takes::Output,
                takes => takes,
            };
            value(takes, "");
        }
        // The first word is a command, or already belongs to the default one.
        if words.is_empty() {
            lines.extend(commands(known));
            lines.push(format!("{HELP}\tDescribe a command, or the keys of a manifest."));
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// What `help` can tell of.
fn topics(known: &CommandLine, words: &[&str]) -> String {
    let lines: Vec<String> = match words {
        [] => commands(known).chain([format!("{MANIFEST}\tevery key of a manifest")]).collect(),
        [topic] if *topic == MANIFEST => {
            manifest::KEYS.iter().map(|key| format!("{}\t", key.name)).collect()
        }
        _ => Vec::new(),
    };
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn commands(known: &CommandLine) -> impl Iterator<Item = String> {
    known.commands.iter().map(|known| format!("{}\t{}", known.name, known.command.description))
}

impl<'c> Typed<'c> {
    fn read(command: &'c CommandInfoWithArgs, words: &[&str]) -> Typed<'c> {
        let mut typed = Typed::default();
        for word in words {
            if let Some(flag) = typed.pending.take() {
                typed.note(flag, word);
            } else if typed.only_positionals || *word == "-" || !word.starts_with('-') {
                typed.positionals += 1;
            } else if *word == "--" {
                typed.only_positionals = true;
            } else {
                typed.option(command, word);
            }
        }
        typed
    }

    fn option(&mut self, command: &'c CommandInfoWithArgs, word: &str) {
        let name = word.strip_prefix("--").unwrap_or(&word[1..]);
        let (name, value) =
            name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
        if let Some(flag) = by_name(command, name) {
            match value {
                Some(value) => self.note(flag, value),
                None => self.pending = Some(flag).filter(|flag| takes_value(flag)),
            }
        } else if !word.starts_with("--") {
            // `-kj` needs a value, `-j8` has it.
            let flag = |letter| command.flags.iter().find(|flag| flag.short == Some(letter));
            let letter = name.char_indices().find_map(|(at, letter)| {
                flag(letter).filter(|flag| takes_value(flag)).map(|flag| (at + 1, flag))
            });
            self.pending = letter.filter(|(at, _)| *at == name.len()).map(|(_, flag)| flag);
        }
    }

    fn note(&mut self, flag: &FlagInfo<'_>, value: &str) {
        match flag.long {
            "--manifest" => self.source.manifest = Some(expanded(value)),
            "--db" => self.source.db = Some(expanded(value)),
            _ => {}
        }
    }
}

/// bash splits words at `=`: `--color=al` comes as three words. Without the `=` they mean the same.
fn join_values(words: &mut Vec<&str>) {
    for at in (1..words.len()).rev() {
        if words[at] == "=" && words[at - 1].starts_with('-') {
            // At the cursor, the `=` stands for a value that is still empty.
            if at + 1 == words.len() {
                words[at] = "";
            } else {
                words.remove(at);
            }
        }
    }
}

/// A path as the shell would pass it: shells send words as they were typed.
fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn takes(flag: &FlagInfo<'_>) -> Takes {
    match flag.kind {
        FlagInfoKind::Switch => Takes::Other,
        FlagInfoKind::Option { arg_name } => Takes::of(arg_name),
    }
}

/// The options of a command, with as many dashes as were typed.
fn options<'c>(
    options: impl Iterator<Item = &'c FlagInfo<'static>>,
    current: &str,
    lines: &mut Vec<String>,
) {
    let has_one_dash = current.len() > 1 && !current.starts_with("--");
    for flag in options {
        let long = if has_one_dash { &flag.long[1..] } else { flag.long };
        let about = summary(flag);
        lines.push(format!("{long}\t{about}"));
        if let Some(letter) = flag.short {
            lines.push(format!("-{letter}\t{about}"));
        }
    }
}

/// What fits beside an option: its description up to the first semicolon outside parentheses.
fn summary<'a>(flag: &FlagInfo<'a>) -> &'a str {
    if flag.long == "--help" {
        return "print help";
    }
    let mut depth = 0;
    let end = flag.description.char_indices().find(|(_, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        *c == ';' && depth == 0
    });
    end.map_or(flag.description, |(at, _)| &flag.description[..at])
}
