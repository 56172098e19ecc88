//! Commands that a message recommends: whole, so that they can be copied into a shell.

use std::path::Path;
use std::sync::OnceLock;

use crate::text::db_option;

/// ` -db DIR`, as the program was called; empty for the default.
static DB: OnceLock<String> = OnceLock::new();

/// From now on, commands that are recommended are about this database. To be called once, before there are messages.
pub(crate) fn set_db(db: &Path) {
    let _ = DB.set(db_option(db));
}

/// ` -db DIR`, for a command that is recommended; empty if there is nothing to say.
pub(crate) fn db() -> &'static str {
    DB.get().map_or("", String::as_str)
}

/// `task-pipeline log 7 -db DIR` for `log 7`.
pub(crate) fn command(words: &str) -> String {
    format!("task-pipeline {words}{}", db())
}
