//! The files that must be there before anything is made: a missing one is a mistake like any other in
//! the manifest.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::manifest::{Manifest, is_plain};

/// Standard input, as an INPUT.
pub(super) const STDIN: &str = "-";

/// Checks every INPUT, every plain path of `inputs` and every one of `files`.
///
/// # Errors
/// [`Error::Usage`] naming all that are missing or are no files.
pub(super) fn check(manifest: &Manifest, arguments: &[PathBuf]) -> Result<()> {
    let mut wrong = Vec::new();
    for task in &manifest.tasks {
        for path in task.inputs.iter().filter(|path| is_plain(path)) {
            if let Some(why) = unusable(&manifest.dir.join(path)) {
                wrong.push(format!("task `{}`: input `{path}` {why}", task.name));
            }
        }
        for path in &task.files {
            if let Some(why) = unusable(&manifest.dir.join(path)) {
                wrong.push(format!("task `{}`: file `{path}` (of `files`) {why}", task.name));
            }
        }
    }
    wrong.extend(unusable_arguments(arguments));
    if arguments.iter().filter(|path| path.as_os_str() == STDIN).count() > 1 {
        wrong.push("`-` (standard input) can be given only once".to_owned());
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::Usage(wrong.join("\n"))) }
}

/// Checks INPUTs of an earlier run: they may have gone since.
pub(super) fn check_arguments(arguments: &[PathBuf]) -> Result<()> {
    let mut wrong = unusable_arguments(arguments);
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.push(
        "name the inputs anew, or forget those of the earlier run with --no-inputs".to_owned(),
    );
    Err(Error::Usage(wrong.join("\n")))
}

fn unusable_arguments(arguments: &[PathBuf]) -> Vec<String> {
    let files = arguments.iter().filter(|path| path.as_os_str() != STDIN);
    files
        .filter_map(|path| unusable(path).map(|why| format!("input `{}` {why}", path.display())))
        .collect()
}

fn unusable(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => None,
        Ok(found) if found.is_dir() => {
            Some("is a folder; name its files, for example with a glob".to_owned())
        }
        Ok(_) => Some("is not a regular file; copy it into one".to_owned()),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            Some("does not exist; check the spelling, or make it first".to_owned())
        }
        Err(err) => Some(format!("can't be read: {err}")),
    }
}
