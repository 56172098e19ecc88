//! The values that are lists of strings, and `env`: each item with its own place, so that a mistake
//! points at the very item.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::de::DeValue;

use super::mistake::quoted;
use super::pattern;
use super::source::Findings;
use super::value::{Value, kind, string};

/// Set by the runner for every step; a manifest's own value would never be seen.
const RESERVED: [&str; 9] = [
    "INPUT_FILE",
    "INPUT_NAME",
    "INPUT_DIR",
    "OUTPUT_DIR",
    "TASK_NAME",
    "STEP_ID",
    "STEP_KEY",
    "ATTEMPT",
    "TMPDIR",
];

/// A list of strings with the place of each. A bare string is a mistake, but is read as a list of one,
/// so that the rest of the task makes sense.
pub(super) fn strings(
    found: &mut Findings<'_>,
    key: &str,
    value: &Value<'_>,
) -> Vec<(String, Range<usize>)> {
    let items = match value.get_ref() {
        DeValue::Array(items) => items,
        DeValue::String(text) => {
            // As the user wrote it, so that the cure can be copied.
            let written = found.source.text().get(value.span()).unwrap_or_default();
            let is_short = written.len() <= 80 && !written.contains('\n');
            let written = if is_short { written } else { "\"…\"" };
            let help = format!("write {key} = [{written}]");
            found.wrong_type(&value.span(), key, "a list of strings", "a string", help);
            return vec![(text.to_string(), value.span())];
        }
        other => {
            let help = format!("write {key} = [\"…\"]");
            found.wrong_type(&value.span(), key, "a list of strings", kind(other), help);
            return Vec::new();
        }
    };
    let what = format!("an item of {key}");
    let mut list = Vec::with_capacity(items.len());
    for item in items {
        match item.get_ref() {
            DeValue::String(text) if text.contains('\0') => {
                let message = format!("an item of `{key}` contains a NUL byte");
                found.add(&item.span(), message, "take the `\\u0000` out: no name could hold it");
            }
            DeValue::String(text) if text.is_empty() => {
                found.add(&item.span(), format!("an item of `{key}` is empty"), "take it out");
            }
            DeValue::String(text) => list.push((text.to_string(), item.span())),
            other => {
                let help = format!("write {key} = [\"…\"]");
                found.wrong_type(&item.span(), &what, "a string", kind(other), help);
            }
        }
    }
    list
}

/// `inputs` and `match`: globs.
pub(super) fn globs(found: &mut Findings<'_>, key: &str, value: &Value<'_>) -> Vec<String> {
    let list = strings(found, key, value);
    for (glob, span) in &list {
        if let Err(why) = pattern::glob_set([glob.as_str()]) {
            let help = "put a `\\` before a character that stands for itself (`\\\\` within \"…\")";
            found.add(span, format!("{} is no glob: {why}", quoted(glob)), help);
        } else if glob.ends_with('/') {
            let help = format!("write {} for the files in it", quoted(&format!("{glob}*")));
            found.add(span, format!("{} names a folder, not files", quoted(glob)), help);
        } else if key == "match" && !could_be_an_output(glob) {
            let message = format!("{} matches no output", quoted(glob));
            let help =
                "an output's name is its path below OUTPUT_DIR, such as `x.txt` or `sub/x.txt`";
            found.add(span, message, help);
        }
    }
    list.into_iter().map(|(glob, _)| glob).collect()
}

/// False for names that no file below OUTPUT_DIR can have: absolute ones, and those with `.` or `..`.
fn could_be_an_output(glob: &str) -> bool {
    !glob.split('/').any(|part| part.is_empty() || part == "." || part == "..")
}

/// `env`: names and values that a process can be given.
pub(super) fn env(found: &mut Findings<'_>, value: &Value<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let DeValue::Table(table) = value.get_ref() else {
        let help = "write env = { NAME = \"value\" }";
        found.wrong_type(&value.span(), "env", "a table", kind(value.get_ref()), help);
        return env;
    };
    for (name, value) in table {
        let place = name.span();
        let name = name.get_ref().as_ref();
        if name.is_empty() || name.contains(['=', '\0']) {
            let message = format!("{} can't be the name of a variable", quoted(name));
            found.add(&place, message, "use a name that isn't empty, without `=` and NUL");
        } else if RESERVED.contains(&name) {
            let message = format!("`{name}` is set by task-pipeline itself, for every step");
            found.add(&place, message, "use another name");
        }
        if let Some(value) = string(found, name, value) {
            env.insert(name.to_owned(), value.to_owned());
        }
    }
    env
}

/// `files`: paths, not globs.
pub(super) fn files(found: &mut Findings<'_>, value: &Value<'_>) -> Vec<String> {
    let list = strings(found, "files", value);
    for (path, span) in &list {
        if path.ends_with('/') {
            let message = format!("{} names a folder, not a file", quoted(path));
            found.add(span, message, "name each file that the script reads");
        }
    }
    list.into_iter().map(|(path, _)| path).collect()
}
