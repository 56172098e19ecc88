//! What is read, what is refused, and what is said about it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::*;

fn read(text: impl AsRef<[u8]>) -> Result<Manifest> {
    Manifest::from_text(Path::new("pipeline.toml"), Path::new("/project"), text.as_ref())
}

fn good(text: impl AsRef<[u8]>) -> Vec<Task> {
    read(text).unwrap_or_else(|err| panic!("{err}")).tasks
}

/// Every mistake as it is displayed.
fn bad(text: impl AsRef<[u8]>) -> String {
    read(text).expect_err("a mistake").to_string()
}

/// The mistakes of a task with these further keys, without the pictures: `line:column: message; help`.
fn of_keys(keys: &str) -> Vec<String> {
    brief(format!(
        "[[task]]\nname = \"a\"\nscript = \":\"\n[[task]]\nname = \"t\"\nscript = \":\"\n{keys}\n"
    ))
}

fn brief(text: impl AsRef<[u8]>) -> Vec<String> {
    let Err(Error::Manifest(mistakes)) = read(text) else {
        return Vec::new();
    };
    let brief = |mistake: &Diagnostic| {
        let help = mistake.help.clone().unwrap_or_default();
        match &mistake.location {
            Some(place) => format!("{}:{}: {}; {help}", place.line, place.column, mistake.message),
            None => format!("{}; {help}", mistake.message),
        }
    };
    mistakes.iter().map(brief).collect()
}

mod defaults;
mod places;
mod refusals;
mod tasks;
mod torture;
