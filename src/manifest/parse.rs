//! From the bytes of a manifest to its tasks and params.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::document;
use super::findings::Findings;
use super::params;
use super::tables;
use super::task::{Draft, Task};
use super::value::{Setting, Value, type_name};
use super::wiring;
use crate::diagnostic::{Diagnostic, quoted};
use crate::suggest;

/// The tasks and the params, or all mistakes in the order of the text.
pub(super) fn parse(path: &Path, dir: &Path, bytes: &[u8]) -> Result<Parsed, Vec<Diagnostic>> {
    document::read(path, bytes, |found, root| manifest(found, dir, root))
}

/// What a manifest says.
pub(super) struct Parsed {
    pub(super) tasks: Vec<Task>,
    pub(super) params: BTreeMap<String, String>,
    pub(super) title: Option<String>,
}

fn manifest(found: &mut Findings<'_>, dir: &Path, root: &DeTable<'_>) -> Parsed {
    let (entries, params) = entries(found, root);
    if found.is_damaged() {
        find_swallowed(found, &entries);
    }
    let defaults = match root.get("defaults") {
        Some(value) => Draft::read_defaults(found, Setting { key: "defaults", value }),
        None => Draft::blank(),
    };
    let mut drafts = Vec::with_capacity(entries.len());
    for (n, (header, table)) in entries.iter().enumerate() {
        let end = entries.get(n + 1).map_or(found.source.text().len(), |(next, _)| next.start);
        drafts.push(Draft::read(found, &defaults, table, header, &(header.start..end)));
    }
    let shown_dir = found.source.path().parent().unwrap_or(Path::new(""));
    tables::open(found, dir, shown_dir, &mut drafts);
    params::resolve(found, &params, &mut drafts);
    check_idle(found, &defaults, &drafts);
    let title = root.get("title").and_then(|value| title(found, Setting { key: "title", value }));
    Parsed { tasks: wiring::wire(found, drafts), params, title }
}

/// The table of each task and the place of its header, in the order of the text; and the params.
#[expect(clippy::type_complexity, reason = "a list of pairs and a map, used once")]
fn entries<'r, 'i>(
    found: &mut Findings<'_>,
    root: &'r DeTable<'i>,
) -> (Vec<(Range<usize>, &'r DeTable<'i>)>, BTreeMap<String, String>) {
    let mut entries = Vec::new();
    let mut params = BTreeMap::new();
    for (key, value) in root {
        match key.get_ref().as_ref() {
            "task" => task_key(found, key.span(), value, &mut entries),
            "params" => params = params::read(found, Setting { key: "params", value }),
            // Read before the tasks, and after them.
            "defaults" | "title" => {}
            name => unknown_key(found, name, &key.span()),
        }
    }
    let is_task = |key: &str| !matches!(key, "params" | "defaults" | "title");
    if !root.keys().any(|key| is_task(key.get_ref())) && !found.is_damaged() {
        let help = "begin with [[task]], name = \"…\" and script = \"…\"";
        found.add_whole("the manifest has no tasks", help);
    }
    (entries, params)
}

/// What the pipeline is called in its report.
fn title(found: &mut Findings<'_>, setting: Setting<'_, '_>) -> Option<String> {
    let title = setting.string(found)?.trim();
    if title.is_empty() {
        let help =
            "write what the report is to be called, or leave `title` out for the folder's name";
        found.add(&setting.span(), "`title` is empty", help);
        return None;
    }
    Some(title.to_owned())
}

/// Reports defaults that no task has any use for.
fn check_idle(found: &mut Findings<'_>, defaults: &Draft, drafts: &[Draft]) {
    for key in ["read", "network"] {
        if let Some(place) = defaults.place(key)
            && !drafts.iter().any(|draft| draft.task.sandbox)
        {
            let message = format!("`{key}` does nothing here: no task has `sandbox = true`");
            found.add(place, message, format!("add sandbox = true, or drop `{key}`"));
        }
    }
    if let Some(place) = defaults.place("retry_delay")
        && !drafts.iter().any(|draft| draft.task.retries > 0)
    {
        let help = "add retries = 2, or drop `retry_delay`";
        found.add(place, "`retry_delay` does nothing here: no task has `retries`", help);
    }
}

fn unknown_key(found: &mut Findings<'_>, name: &str, place: &Range<usize>) {
    const TASK: [&str; 6] = ["step", "steps", "stage", "job", "jobs", "rule"];
    const PARAMS: [&str; 8] =
        ["parameters", "parameter", "config", "vars", "variables", "args", "arguments", "options"];
    const DEFAULTS: [&str; 7] =
        ["default", "settings", "global", "globals", "common", "task_defaults", "process"];
    let help = if TASK.contains(&name) || suggest::nearest(name, ["task"]).is_some() {
        "did you mean `task`?"
    } else if PARAMS.contains(&name) || suggest::nearest(name, ["params"]).is_some() {
        "did you mean `params`?"
    } else if DEFAULTS.contains(&name) || suggest::nearest(name, ["defaults"]).is_some() {
        "did you mean `defaults`?"
    } else if suggest::nearest(name, ["title"]).is_some() {
        "did you mean `title`?"
    } else if found.is_damaged() {
        // Probably a key of a task whose header has the syntax error.
        return;
    } else {
        "a manifest consists of [[task]] tables, [params], [defaults] and a title"
    };
    found.add(place, format!("unknown key {}", quoted(name)), help);
}

fn task_key<'r, 'i>(
    found: &mut Findings<'_>,
    key: Range<usize>,
    value: &'r Value<'i>,
    entries: &mut Vec<(Range<usize>, &'r DeTable<'i>)>,
) {
    const HELP: &str = "begin each task with [[task]] on a line of its own";
    match value.get_ref() {
        DeValue::Array(items) => {
            for item in items {
                match item.get_ref() {
                    DeValue::Table(table) => entries.push((item.span(), table)),
                    other => {
                        found.wrong_type(&item.span(), "task", "a table", type_name(other), HELP);
                    }
                }
            }
            if items.is_empty() {
                found.add(&key, "the manifest has no tasks", HELP);
            }
        }
        DeValue::Table(table) => {
            found.add(&key, "`task` must be a list of tables, not one table", "write [[task]]");
            // Report the mistakes in it too, unless it is [task.NAME].
            if table.contains_key("script") {
                entries.push((value.span(), table));
            }
        }
        other => found.wrong_type(&key, "task", "a list of tables", type_name(other), HELP),
    }
}

/// Looks for a `"""` that is never closed: everything up to the next `"""` or to the end of the file
/// becomes part of the string, headers included, and the parser complains only there.
fn find_swallowed(found: &mut Findings<'_>, entries: &[(Range<usize>, &DeTable<'_>)]) {
    for value in entries.iter().flat_map(|(_, table)| table.values()) {
        let DeValue::String(text) = value.get_ref() else {
            continue;
        };
        if text.lines().skip(1).any(|line| line.trim_end() == "[[task]]") {
            found.runs_on(value.span().start, "a `[[task]]`");
        } else if value.span().end == found.source.text().len() && text.contains('\n') {
            found.runs_on(value.span().start, "the rest of the file");
        }
    }
}
