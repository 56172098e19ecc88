//! One `[[task]]` on its own: its keys, their values, and which of them go together. Unaware of the
//! other tasks.

use std::ops::Range;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::Task;
use super::mistake::quoted;
use super::source::Findings;
use super::value::{self, Value};
use super::{keys, lists};

const NAME_RULE: &str = "a name is 1 to 64 of the characters A-Z a-z 0-9 . _ -";

/// A task whose producers are still names.
pub(super) struct Draft {
    pub(super) task: Task,
    /// Place of the value of `name`, if there is one.
    pub(super) name_place: Option<Range<usize>>,
    /// `from` as written; `None` if it isn't there.
    pub(super) from: Option<Vec<(String, Range<usize>)>>,
    /// Place of the key `inputs`, if it is there.
    pub(super) inputs_place: Option<Range<usize>>,
    /// Place of the key `gather`, if it is on.
    pub(super) gather_place: Option<Range<usize>>,
    /// Place of the key `match`, if it is there.
    pub(super) match_place: Option<Range<usize>>,
    /// The bytes that belong to the task: from its header to the next one's.
    pub(super) extent: Range<usize>,
}

/// Reads a task that stands in `extent` and whose header is at `header`.
pub(super) fn read(
    found: &mut Findings<'_>,
    table: &DeTable<'_>,
    header: &Range<usize>,
    extent: Range<usize>,
) -> Draft {
    let mut draft = Draft {
        task: blank(),
        name_place: None,
        from: None,
        inputs_place: None,
        gather_place: None,
        match_place: None,
        extent,
    };
    for (key, value) in table {
        read_key(found, &mut draft, key.get_ref(), key.span(), value);
    }
    for key in ["name", "script"] {
        if !table.contains_key(key) && !found.is_damaged_in(&draft.extent) {
            let message = format!("the task has no `{key}`");
            found.add(header, message, format!("add {key} = \"…\""));
        }
    }
    check_together(found, &draft, table);
    draft
}

fn read_key(
    found: &mut Findings<'_>,
    draft: &mut Draft,
    key: &str,
    key_place: Range<usize>,
    value: &Value<'_>,
) {
    let task = &mut draft.task;
    match key {
        "name" => {
            draft.name_place = Some(value.span());
            task.name = value::string(found, key, value).unwrap_or_default().to_owned();
            if matches!(value.get_ref(), DeValue::String(_)) && !is_name(&task.name) {
                let message = format!("{} can't be the name of a task", quoted(&task.name));
                found.add(&value.span(), message, NAME_RULE);
            }
        }
        "script" => {
            if let Some(script) = value::string(found, key, value) {
                task.script = script.to_owned();
                if script.trim().is_empty() {
                    let help = "write what the task does; `:` does nothing";
                    found.add(&value.span(), "the script is empty", help);
                }
            }
        }
        "inputs" => {
            draft.inputs_place = Some(key_place);
            task.inputs = lists::globs(found, key, value);
            if is_empty_list(value) {
                let help = "name at least one file, or leave `inputs` out: a task with from = [] gets \
                            the files named on the command line";
                found.add(&value.span(), "`inputs` is empty", help);
            }
        }
        "match" => {
            draft.match_place = Some(key_place);
            task.matches = lists::globs(found, key, value);
            if is_empty_list(value) {
                let help = "leave `match` out to take every output";
                found.add(&value.span(), "`match` is empty and would take no output", help);
            }
        }
        "from" => draft.from = Some(lists::strings(found, key, value)),
        "files" => task.files = lists::files(found, value),
        "parallel" => task.parallel = value::parallel(found, value),
        "retries" => task.retries = value::retries(found, value).unwrap_or_default(),
        "timeout" => {
            task.timeout = value::span(found, key, value);
            if task.timeout == Some(Duration::ZERO) {
                let help = "leave `timeout` out for no limit";
                found.add(&value.span(), "`timeout` is zero", help);
            }
        }
        "retry_delay" => task.retry_delay = value::span(found, key, value).unwrap_or_default(),
        "env" => task.env = lists::env(found, value),
        "shell" => {
            if let Some(shell) = shell(found, value) {
                task.shell = shell;
            }
        }
        "cache" => task.cache = value::boolean(found, key, value).unwrap_or(true),
        "jobserver" => {
            task.jobserver = value::boolean(found, key, value).unwrap_or_default();
        }
        "gather" => {
            task.gather = value::boolean(found, key, value).unwrap_or_default();
            draft.gather_place = task.gather.then_some(key_place);
        }
        _ => keys::unknown(found, key, &key_place),
    }
}

/// Keys that are right by themselves but not beside each other.
fn check_together(found: &mut Findings<'_>, draft: &Draft, table: &DeTable<'_>) {
    if let Some(place) = &draft.inputs_place {
        if draft.from.as_ref().is_some_and(|from| !from.is_empty()) {
            let help = "drop one of the two: a task works on files or on other tasks' outputs";
            found.add(place, "`inputs` can't go together with `from`", help);
        }
        if draft.task.gather {
            let help = "gather the outputs of another task that has the `inputs`";
            found.add(place, "`inputs` can't go together with `gather`", help);
        }
    }
    if let Some((key, _)) = table.get_key_value("retry_delay")
        && !table.contains_key("retries")
    {
        let help = "add retries = 2, or drop `retry_delay`";
        found.add(&key.span(), "`retry_delay` does nothing without `retries`", help);
    }
}

/// `shell`, split into words as a shell would.
fn shell(found: &mut Findings<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    const HELP: &str = "name an interpreter and its arguments, such as \"bash -euo pipefail\"";
    let text = value::string(found, "shell", value)?;
    match shlex::split(text) {
        Some(words) if words.first().is_some_and(|word| !word.is_empty()) => Some(words),
        Some(_) => {
            found.add(&value.span(), "`shell` is empty", HELP);
            None
        }
        None => {
            let help = "close every quote, and put something after the last `\\`";
            found.add(&value.span(), "`shell` can't be split into words", help);
            None
        }
    }
}

fn is_empty_list(value: &Value<'_>) -> bool {
    matches!(value.get_ref(), DeValue::Array(items) if items.is_empty())
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn blank() -> Task {
    Task {
        name: String::new(),
        script: String::new(),
        inputs: Vec::new(),
        from: Vec::new(),
        matches: Vec::new(),
        parallel: None,
        timeout: None,
        retries: 0,
        retry_delay: Duration::ZERO,
        env: Default::default(),
        files: Vec::new(),
        shell: vec!["sh".to_owned(), "-e".to_owned()],
        cache: true,
        gather: false,
        jobserver: false,
    }
}
