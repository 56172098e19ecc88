//! Completions for shells, made of the definitions that help is made of.

mod bash;
mod fish;
mod zsh;

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, SubCommandInfo};

use super::start::Shell;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    File,
    Folder,
    Task,
    /// One of these words.
    Words(&'static str),
    /// Something that can't be guessed.
    Other,
}

/// By the name that help gives a value.
fn takes(arg_name: &str) -> Takes {
    match arg_name {
        "FILE" | "INPUT" => Takes::File,
        "DIR" => Takes::Folder,
        "NAME" | "TASK" | "STEP" | "WHAT" => Takes::Task,
        "WHEN" => Takes::Words("auto always never"),
        "MODE" => Takes::Words("batch off"),
        "SHELL" => Takes::Words("bash zsh fish tasks"),
        _ => Takes::Other,
    }
}

/// The name of an option's value and what it is; `None` for a switch.
fn value<'a>(flag: &FlagInfo<'a>) -> Option<(&'a str, Takes)> {
    match flag.kind {
        FlagInfoKind::Switch => None,
        FlagInfoKind::Option { arg_name } => Some((arg_name, takes(arg_name))),
    }
}

/// The options of a command that are told of.
fn options(command: &CommandInfoWithArgs) -> impl Iterator<Item = &FlagInfo<'static>> {
    command.flags.iter().filter(|flag| !flag.hidden)
}

/// What fits beside a word of an option's description: the part before the first semicolon.
fn short<'a>(flag: &FlagInfo<'a>) -> &'a str {
    if flag.long == "--help" {
        return "print help";
    }
    let mut depth = 0;
    for (at, c) in flag.description.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ';' if depth == 0 => return &flag.description[..at],
            _ => {}
        }
    }
    flag.description
}

/// The script for a shell. Empty for [`Shell::Tasks`], who is told names instead.
pub(super) fn script(shell: Shell, commands: &[SubCommandInfo]) -> String {
    match shell {
        Shell::Bash => bash::script(commands),
        Shell::Zsh => zsh::script(commands),
        Shell::Fish => fish::script(commands),
        Shell::Tasks => String::new(),
    }
}
