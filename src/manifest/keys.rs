//! The keys of a task, and what was probably meant by any other.

use std::ops::Range;

use super::mistake::quoted;
use super::source::Findings;
use crate::suggest;

const KEYS: [&str; 15] = [
    "name",
    "script",
    "inputs",
    "from",
    "match",
    "parallel",
    "timeout",
    "retries",
    "retry_delay",
    "env",
    "files",
    "shell",
    "cache",
    "gather",
    "jobserver",
];

/// What other tools call these keys.
const ALIASES: [(&str, &str); 21] = [
    ("id", "name"),
    ("run", "script"),
    ("cmd", "script"),
    ("command", "script"),
    ("code", "script"),
    ("depends", "from"),
    ("depends_on", "from"),
    ("dependencies", "from"),
    ("deps", "from"),
    ("needs", "from"),
    ("after", "from"),
    ("requires", "from"),
    ("filter", "match"),
    ("pattern", "match"),
    ("glob", "match"),
    ("jobs", "parallel"),
    ("threads", "parallel"),
    ("retry", "retries"),
    ("environment", "env"),
    ("interpreter", "shell"),
    ("make", "jobserver"),
];

/// Reports a key that a task doesn't have.
pub(super) fn unknown(found: &mut Findings<'_>, key: &str, place: &Range<usize>) {
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(key));
    let help = match alias.map(|(_, key)| *key).or_else(|| suggest::nearest(key, KEYS)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("a task has {}", KEYS.join(", ")),
    };
    found.add(place, format!("unknown key {} in a task", quoted(key)), help);
}
