//! `[params]`: values that a command line may override, and which tasks use them. A task that doesn't say so in its
//! `params` isn't given one: whoever changes a value must be able to tell what runs again.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

use super::document;
use super::findings::Findings;
use super::task::Draft;
use super::value::{Setting, Value, type_name};
use super::{WhatFile, read_text};
use crate::diagnostic::quoted;
use crate::error::{Error, Result};
use crate::suggest;
use crate::text::printable;

/// Bytes of a name.
const LONGEST: usize = 64;

/// What a command line says of `[params]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamOverrides {
    /// `--params`: TOML files of values; of two values of one name, the later one counts.
    pub files: Vec<PathBuf>,
    /// `-P`: wins over the files; of two of one name, the later one.
    pub values: Vec<(String, String)>,
}

impl ParamOverrides {
    /// Puts these values in place of the defaults.
    ///
    /// # Errors
    /// [`Error::Manifest`] with every mistake in the file, [`Error::Usage`] with every name that is not one of
    /// `params`.
    pub(super) fn apply(&self, params: &mut BTreeMap<String, String>) -> Result<()> {
        for path in &self.files {
            let text = read_text(path, &WhatFile::PARAMS)?;
            let values = document::read(path, &text, |found, root| of_file(found, root, params));
            params.extend(values.map_err(Error::Manifest)?);
        }
        let mut unknown = Vec::new();
        for (name, value) in &self.values {
            match params.get_mut(name) {
                Some(known) => known.clone_from(value),
                None => {
                    let name = printable(name.as_bytes());
                    unknown
                        .push(format!("-P: no param is called `{name}`; {}", cure(&name, params)));
                }
            }
        }
        if unknown.is_empty() { Ok(()) } else { Err(Error::Usage(unknown.join("\n"))) }
    }
}

/// What may have been meant by a name that is none.
fn cure(name: &str, params: &BTreeMap<String, String>) -> String {
    match suggest::nearest(name, params.keys().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if params.is_empty() => {
            format!("add its default at the top of the manifest: [params] and {name} = …")
        }
        None => {
            let names: Vec<&str> = params.keys().map(String::as_str).collect();
            format!("there are: {}", names.join(", "))
        }
    }
}

/// The values of a `--params` file.
fn of_file(
    found: &mut Findings<'_>,
    root: &DeTable<'_>,
    params: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    for (key, item) in root {
        let name = key.get_ref().as_ref();
        if name == "params" && matches!(item.get_ref(), DeValue::Table(_)) {
            let help = "take the header out: the file has the values and nothing else";
            found.add(&key.span(), "`[params]` in a file of params", help);
        } else if !params.contains_key(name) {
            let message = format!("no param of the manifest is called {}", quoted(name));
            found.add(&key.span(), message, cure(&printable(name.as_bytes()), params));
        } else if let Some(text) = text_of(found, name, item) {
            values.insert(name.to_owned(), text);
        }
    }
    values
}

/// Reads the table `[params]`. A name that can't be one is kept, so that what refers to it is no further mistake.
pub(super) fn read(found: &mut Findings<'_>, setting: Setting<'_, '_>) -> BTreeMap<String, String> {
    let mut params = BTreeMap::new();
    for (key, item) in setting.table(found, "{ name = \"value\" }").into_iter().flatten() {
        let name = key.get_ref().as_ref();
        if !is_name(name) {
            let message = format!("{} can't be the name of a param", quoted(name));
            let help = "a name is a lower-case letter, and then up to 63 of a-z 0-9 _: scripts see it as a variable";
            found.add(&key.span(), message, help);
        }
        let text = text_of(found, name, item).unwrap_or_default();
        params.insert(name.to_owned(), text);
    }
    params
}

fn is_name(name: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= LONGEST
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(rest)
}

/// A value as scripts get it: a number as TOML writes it, less the `_` between its digits.
fn text_of(found: &mut Findings<'_>, name: &str, item: &Value<'_>) -> Option<String> {
    match item.get_ref() {
        DeValue::String(_) => Setting { key: name, value: item }.string(found).map(str::to_owned),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        other => {
            let wanted = "a string, a number, true or false";
            let help = format!("write {name} = \"…\"");
            found.wrong_type(&item.span(), name, wanted, type_name(other), help);
            None
        }
    }
}

/// Gives each task the values of the params that it names, and reports those that its script uses all the same.
pub(super) fn resolve(
    found: &mut Findings<'_>,
    params: &BTreeMap<String, String>,
    drafts: &mut [Draft],
) {
    for draft in drafts {
        let mut named: HashSet<&str> = HashSet::new();
        for (name, place) in &draft.params {
            if !named.insert(name) {
                let message = format!("param {} is already in this `params`", quoted(name));
                found.add(place, message, "take it out");
            } else if draft.task.env.contains_key(name) {
                let message = format!("`{name}` is a param and in `env` too");
                found.add(place, message, "drop one of the two: a variable has one value");
            } else if let Some(value) = params.get(name) {
                draft.task.params.insert(name.clone(), value.clone());
            } else if !found.is_damaged() {
                let message = format!("no param is called {}", quoted(name));
                found.add(place, message, cure(&printable(name.as_bytes()), params));
            }
        }
        if !params.is_empty() && is_shell(&draft.task.interpreter()) {
            check_script(found, params, &named, draft);
        }
    }
}

/// Reports each param that a script uses although its task doesn't name it: it would be empty, or what the caller's
/// environment happens to hold.
fn check_script(
    found: &mut Findings<'_>,
    params: &BTreeMap<String, String>,
    named: &HashSet<&str>,
    draft: &Draft,
) {
    let Some(place) = &draft.script_place else { return };
    let script = &draft.task.script;
    let mut told: HashSet<&str> = HashSet::new();
    for (n, (at, name)) in mentions(script).enumerate() {
        let is_meant = params.contains_key(name)
            && !named.contains(name)
            && !draft.task.env.contains_key(name)
            && !is_in_comment(script, at);
        if !is_meant || told.contains(name) || is_assigned(script, name) {
            continue;
        }
        told.insert(name);
        // As it is written there are escapes and quotes around it, but as many variables.
        let written = found.source.text().get(place.clone()).unwrap_or_default();
        let place = match mentions(written).nth(n) {
            Some((at, same)) if same == name => {
                let start = place.start + at;
                let braces = usize::from(written[at..].starts_with("${"));
                start..start + 1 + braces + name.len()
            }
            _ => place.clone(),
        };
        let message = format!("the script uses the param `{name}`, which the task doesn't name");
        let help = match named.is_empty() {
            true => format!("add params = [\"{name}\"] to the task"),
            false => format!("add \"{name}\" to the `params` of the task"),
        };
        found.add(&place, message, format!("{help}; a variable of its own needs another name"));
    }
}

/// True if a program expands `$name` as a shell does; in Perl or awk that is something else.
fn is_shell(interpreter: &[String]) -> bool {
    const SHELLS: [&str; 14] = [
        "sh", "bash", "dash", "ash", "busybox", "ksh", "ksh93", "mksh", "zsh", "yash", "posh",
        "fish", "csh", "tcsh",
    ];
    let words = interpreter.iter().flat_map(|word| word.split_ascii_whitespace());
    let mut names = words.map(|word| word.rsplit('/').next().unwrap_or(word));
    let is_option = |word: &&str| word.starts_with('-') || word.contains('=');
    match names.next() {
        Some("env") => {
            names.find(|word| !is_option(word)).is_some_and(|name| SHELLS.contains(&name))
        }
        first => first.is_some_and(|name| SHELLS.contains(&name)),
    }
}

/// Every `$name` and `${name…}` of a text, and where its `$` is. What is in single quotes counts: it may be another
/// shell's script.
fn mentions(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while let Some(found) = text[at..].find(['$', '\\']) {
            let start = at + found;
            let rest = &text[start + 1..];
            if text[start..].starts_with('\\') || rest.starts_with('$') {
                // The next character stands for itself, or is the number of the shell.
                at = start + 1 + rest.chars().next().map_or(0, char::len_utf8);
                continue;
            }
            let braces = rest.strip_prefix('{');
            let rest = braces.map_or(rest, |inner| inner.strip_prefix(['#', '!']).unwrap_or(inner));
            let end = rest.find(|c: char| !is_of_name(c)).unwrap_or(rest.len());
            at = text.len() - rest.len() + end;
            if end > 0 {
                return Some((start, &rest[..end]));
            }
        }
        None
    })
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// True if what is at an offset is probably in a comment: behind a `#` that begins a word and is not within quotes.
fn is_in_comment(script: &str, at: usize) -> bool {
    let line = &script[script[..at].rfind('\n').map_or(0, |end| end + 1)..at];
    line.match_indices('#').any(|(hash, _)| {
        let before = &line[..hash];
        let begins_word = before.is_empty() || before.ends_with([' ', '\t', ';']);
        begins_word && ['"', '\''].iter().all(|quote| before.matches(*quote).count() % 2 == 0)
    })
}

/// True if a script gives a variable a value itself, wherever that is: `seed=1`, `for seed in`, `read seed`.
fn is_assigned(script: &str, name: &str) -> bool {
    /// The words after them are names of variables.
    const BINDERS: [&str; 11] = [
        "for",
        "read",
        "select",
        "local",
        "declare",
        "typeset",
        "mapfile",
        "readarray",
        "getopts",
        "let",
        "set",
    ];
    /// May come before a command or an assignment.
    const PREFIXES: [&str; 15] = [
        "do", "then", "else", "elif", "if", "while", "until", "!", "time", "export", "readonly",
        "env", "command", "builtin", "nohup",
    ];
    script.match_indices(name).any(|(at, _)| {
        let (before, after) = (&script[..at], &script[at + name.len()..]);
        let command = before.rfind([';', '&', '|', '(', ')', '{', '}', '\n', '`']);
        let command = &before[command.map_or(0, |end| end + 1)..];
        let open = command.trim_end_matches(['"', '\'']);
        if !(open.is_empty() || open.ends_with([' ', '\t'])) || after.starts_with(is_of_name) {
            return false;
        }
        let mut words = open.split_ascii_whitespace();
        if words.clone().any(|word| BINDERS.contains(&word)) {
            return true;
        }
        let is_value = after.starts_with('=') || after.starts_with("+=");
        let is_option = words.clone().next_back() == Some("-v");
        let comes_first = words.all(|word| PREFIXES.contains(&word) || word.contains('='));
        is_option || is_value && comes_first
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mention_is_what_a_shell_would_expand() {
        let names = |text| mentions(text).map(|(_, name)| name).collect::<Vec<_>>().join(" ");
        assert_eq!(
            names("echo $seed ${seed} \"${seed:-1}\" ${#seed} '$seed'"),
            "seed seed seed seed seed"
        );
        assert_eq!(names(r"\$seed $$seed $1 $( $seed_2 $seeds"), "1 seed_2 seeds");
        assert_eq!(names("$"), "");
        assert_eq!(names("${"), "");
        assert_eq!(names("ä$ä \\"), "");
    }

    #[test]
    fn a_variable_of_the_scripts_own_is_told_by_how_it_is_set() {
        for script in [
            "seed=1",
            "x=1 seed=2 cmd",
            "if seed=$(cmd); then",
            "for seed in 1 2; do",
            "read -r a seed",
            "local seed",
            "export seed=1",
            "(seed=1)",
            "printf -v seed x",
            "awk -v seed=1",
            "awk -v 'seed=1'",
            "cat | while read seed; do",
            "seed+=x",
            "while getopts s: seed; do",
            "((seed=1))",
        ] {
            assert!(is_assigned(script, "seed"), "{script}");
        }
        for script in [
            "cmd --seed=$seed",
            "cmd seed=$seed",
            "echo seed",
            "seeds=1",
            "my_seed=1",
            "cmd -seed 1",
            "for x in $seed; do echo seed=1",
            "./seed=1",
            "echo $seed",
        ] {
            assert!(!is_assigned(script, "seed"), "{script}");
        }
    }

    #[test]
    fn only_shells_expand_a_dollar_as_a_shell_does() {
        let is = |line: &str| is_shell(&line.split('|').map(str::to_owned).collect::<Vec<_>>());
        assert!(
            is("sh|-e")
                && is("/bin/bash")
                && is("/usr/bin/env|bash")
                && is("/usr/bin/env|-S bash -eu")
        );
        assert!(!is("perl") && !is("/usr/bin/env|python3") && !is("awk|-f") && !is("tclsh"));
    }

    #[test]
    fn a_comment_mentions_nothing() {
        let is = |script: &str| is_in_comment(script, script.find('$').unwrap_or_default());
        assert!(is("# $seed") && is("echo  # $seed") && is("a\n\t# b $seed\n"));
        assert!(!is("echo \"# $seed\"") && !is("echo a#$seed") && !is("# a\necho $seed"));
    }
}
