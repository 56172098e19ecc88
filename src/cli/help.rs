//! Help texts, made of the comments on the options of each command. argh could make them too, but leaves
//! out the names of values and knows nothing of exit codes.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};

use crate::error::exit;
use crate::manifest;

use super::CommandLine;

/// The program's name in usage lines.
pub(super) const PROGRAM: &str = "task-pipeline";

const WIDTH: usize = 80;
/// Where the second column begins.
const COLUMN: usize = 26;

pub(super) const ABOUT: &str = "Runs the shell scripts of a TOML manifest as a dataflow. Every input, output and log \
    is stored by its content, so only what has changed runs again, whatever happened in between.";

const MANIFEST: &str = "A manifest is a TOML file with a [[task]] for each task. `task-pipeline help manifest --json` \
    prints the same as a JSON schema, for editors; `task-pipeline init` writes a manifest to start from.";

pub(super) const SPELLING: &str = "Options can be written with one dash or two, as --name VALUE or --name=VALUE. \
    Words after -- are not taken for options. -C DIR before the command goes to that folder first.";

pub(super) const CODES: [(u8, &str); 10] = [
    (exit::OK, "success"),
    (exit::STEPS_FAILED, "steps failed, inputs can't be read, or an export would be incomplete"),
    (exit::USAGE, "a mistake in the command line or the manifest"),
    (exit::TO_DO, "plan --check: there is something to do"),
    (exit::DAMAGED, "stored data is damaged"),
    (exit::UNAVAILABLE, "--on: no worker is left, or none could be started"),
    (exit::INTERNAL, "a bug in task-pipeline"),
    (exit::NO_SPACE, "no space left"),
    (exit::IO, "reading or writing failed"),
    (exit::LOCKED, "another run holds the database or the event file"),
];

/// `task-pipeline --help`
pub(super) fn overview(known: &CommandLine) -> String {
    let commands = &known.commands;
    let mut out = wrapped(ABOUT, 0);
    out.push_str("\n\nUsage: task-pipeline [run] [OPTIONS] [INPUT]...\n");
    out.push_str("       task-pipeline COMMAND [OPTIONS] ...\n\nCommands:");
    for command in commands {
        row(&mut out, command.name, command.command.description);
    }
    if let Some(run) = commands.iter().find(|command| command.name == "run") {
        out.push_str("\n\nOptions of run:");
        flags(&mut out, known.options(&run.command));
    }
    row(&mut out, "    --version", "print the version");
    out.push_str("\n\nExit codes:");
    for (code, meaning) in CODES {
        row(&mut out, &code.to_string(), meaning);
    }
    out.push_str("\n  A run that a signal stops dies of that signal (Ctrl-C: 130 in a shell).\n\n");
    out.push_str(&wrapped(SPELLING, 0));
    out.push_str("\n`task-pipeline COMMAND --help` describes a command in full,");
    out.push_str("\n`task-pipeline help manifest [KEY]` every key of a manifest, or one.");
    out
}

/// `task-pipeline help manifest`
pub(super) fn manifest() -> String {
    let mut out = wrapped(MANIFEST, 0);
    out.push_str("\n\nAbove all tables:");
    entry(&mut out, manifest::TITLE.name, manifest::TITLE.about, manifest::TITLE.example);
    out.push_str("\n\nTables:");
    for table in manifest::TABLES {
        entry(&mut out, &format!("[{}]", table.name), table.about, table.example);
    }
    out.push_str("\n\nKeys of a [[task]], those with a * of [defaults] too:");
    for key in manifest::KEYS {
        let star = if key.may_be_default() { " *" } else { "" };
        entry(&mut out, &format!("{}{star}", key.name), &key.told(), &[key.example]);
    }
    out
}

/// `task-pipeline help manifest KEY`
pub(super) fn key(name: &str) -> String {
    let mut out = String::new();
    for key in manifest::KEYS.iter().filter(|key| key.name == name) {
        entry(&mut out, key.name, &key.told(), &[key.example]);
        if key.may_be_default() {
            out.push_str("\n\n  In [defaults] it holds for every task.");
        }
    }
    out.trim_start_matches('\n').to_owned()
}

/// Adds what there is to know of a key or a table.
fn entry(out: &mut String, name: &str, about: &str, example: &[&str]) {
    /// Of everything but names.
    const INDENT: usize = 6;
    out.push_str(&format!("\n\n  {name}\n{:INDENT$}{}", "", wrapped(about, INDENT)));
    for line in example {
        out.push_str(&format!("\n{:1$}{line}", "", INDENT + 2));
    }
}

/// `task-pipeline COMMAND --help`
pub(super) fn of<'c>(
    command: &CommandInfoWithArgs,
    options: impl Iterator<Item = &'c FlagInfo<'static>>,
) -> String {
    let mut out = wrapped(command.description, 0);
    out.push_str(&format!("\n\nUsage: {}", usage(command)));
    let mut positionals = positionals(command).peekable();
    if positionals.peek().is_some() {
        out.push_str("\n\nArguments:");
        for positional in positionals {
            row(&mut out, positional.name, positional.description);
        }
    }
    out.push_str("\n\nOptions:");
    flags(&mut out, options);
    for note in command.notes {
        out.push_str("\n\n");
        out.push_str(&wrapped(note, 0));
    }
    if !command.examples.is_empty() {
        out.push_str("\n\nExamples:");
        for example in command.examples {
            out.push_str(&format!("\n  {example}"));
        }
    }
    out
}

/// How a command is called: `task-pipeline export [OPTIONS] --to DIR TASK`.
pub(super) fn usage(command: &CommandInfoWithArgs) -> String {
    let mut out = format!("{PROGRAM} {} [OPTIONS]", command.name);
    for flag in command.flags.iter().filter(|flag| flag.optionality == Optionality::Required) {
        out.push_str(&format!(" {}", spelled(flag)));
    }
    for positional in positionals(command) {
        out.push_str(&match positional.optionality {
            Optionality::Required => format!(" {}", positional.name),
            Optionality::Optional => format!(" [{}]", positional.name),
            Optionality::Repeating | Optionality::Greedy => format!(" [{}]...", positional.name),
        });
    }
    out
}

/// An option with its value, as on the command line: `--to DIR`.
pub(super) fn spelled(flag: &FlagInfo<'_>) -> String {
    match flag.kind {
        FlagInfoKind::Switch => flag.long.to_owned(),
        FlagInfoKind::Option { arg_name } => format!("{} {arg_name}", flag.long),
    }
}

/// The arguments that are documented.
pub(super) fn positionals(
    command: &CommandInfoWithArgs,
) -> impl Iterator<Item = &PositionalInfo<'static>> {
    command.positionals.iter().filter(|positional| !positional.hidden)
}

fn flags<'c>(out: &mut String, options: impl Iterator<Item = &'c FlagInfo<'static>>) {
    // argh puts --help first; people look for the options of the command first.
    let (help, own): (Vec<_>, Vec<_>) = options.partition(|flag| flag.long == "--help");
    for flag in own {
        let letter = flag.short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        row(out, &(letter + &spelled(flag)), flag.description);
    }
    for _ in help {
        row(out, "-h, --help", "print this help");
    }
}

/// A row of two columns. The second one is wrapped; if the first is too long, it begins on the next line.
fn row(out: &mut String, left: &str, right: &str) {
    let gap = match left.chars().count() + 2 {
        width if width < COLUMN => " ".repeat(COLUMN - width),
        _ => format!("\n{:COLUMN$}", ""),
    };
    out.push_str(&format!("\n  {left}{gap}{}", wrapped(right, COLUMN)));
}

/// A text wrapped to [`WIDTH`]; all lines but the first are indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut out = String::new();
    let mut column = indent;
    for word in text.split_whitespace() {
        let width = word.chars().count();
        if column > indent && column + 1 + width > WIDTH {
            out.push_str(&format!("\n{:indent$}", ""));
            column = indent;
        } else if column > indent {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out
}
