//! The files that must be there before anything is made: a missing one is a mistake like any other in
//! the manifest.

use std::fs::File;
use std::path::Path;

use crate::error::{Error, Result};
use crate::manifest::{Manifest, is_plain};
use crate::sys::duplicate_high;
use crate::sys::proc::descriptor;
use crate::text::shown;

use super::given::GivenInput;

/// Checks every INPUT, every plain path of `inputs` and every one of `files`. Returns those INPUTs that are open
/// already, such as standard input: now, while no descriptor can be one of our own.
///
/// # Errors
/// [`Error::Usage`] naming all that are missing or are no files.
pub(super) fn check(manifest: &Manifest, arguments: &[GivenInput]) -> Result<Vec<File>> {
    let mut wrong = Vec::new();
    for task in &manifest.tasks {
        for path in task.inputs.iter().filter(|path| is_plain(path)) {
            if let Some(why) = unusable_in_manifest(&manifest.dir.join(path), unusable_input) {
                wrong.push(format!("task `{}`: input `{path}` {why}", task.name));
            }
        }
        for path in task.files.iter().filter(|path| is_plain(path)) {
            if let Some(why) = unusable_listed(&manifest.dir, path) {
                wrong.push(format!("task `{}`: file `{path}` (of `files`) {why}", task.name));
            }
        }
    }
    wrong.extend(unusable_arguments(arguments));
    let mut streams = Vec::new();
    let mut open: Vec<i32> = Vec::new();
    for (GivenInput { path, .. }, fd) in
        arguments.iter().filter_map(|input| Some((input, descriptor(&input.path)?)))
    {
        let name = shown(path);
        if open.contains(&fd) {
            wrong.push(match fd {
                0 => "`-` (standard input) can be given only once".to_owned(),
                _ => format!("`{name}` can be given only once: what was read is gone"),
            });
        }
        open.push(fd);
        match duplicate_high(fd) {
            Ok(fd) => streams.push(File::from(fd)),
            Err(_) => wrong.push(format!("input `{name}` is not open")),
        }
    }
    if wrong.is_empty() { Ok(streams) } else { Err(Error::Usage(wrong.join("\n"))) }
}

/// Checks INPUTs of an earlier run: they may have gone since.
pub(super) fn check_arguments(arguments: Vec<GivenInput>) -> Result<()> {
    let mut wrong = unusable_arguments(&arguments);
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.push(
        "name the inputs anew, or forget those of the earlier run with --no-inputs".to_owned(),
    );
    Err(Error::Usage(wrong.join("\n")))
}

fn unusable_arguments(arguments: &[GivenInput]) -> Vec<String> {
    let files = arguments.iter().filter(|input| descriptor(&input.path).is_none());
    let sentence = |input: &GivenInput| {
        let why = unusable_input(&input.path)?;
        Some(format!("input `{}`{} {why}", shown(&input.path), input.place()))
    };
    files.filter_map(sentence).collect()
}

/// A manifest names files that stay; what is open in this process and nowhere else is for the command line.
fn unusable_in_manifest(path: &Path, unusable: fn(&Path) -> Option<String>) -> Option<String> {
    if descriptor(path).is_some() {
        let cure = "leave it out here, and give it on the command line, to a task with from = []";
        return Some(format!("is not a file but what this process has open; {cure}"));
    }
    unusable(path)
}

/// One of `files`; a folder is meant where the path ends in `/`.
fn unusable_listed(dir: &Path, path: &str) -> Option<String> {
    let full = dir.join(path);
    let is_folder = full.is_dir();
    match path.ends_with('/') {
        true if is_folder => None,
        true if dir.join(path.trim_end_matches('/')).exists() => {
            Some("is not a folder; drop the `/` at its end".to_owned())
        }
        false if is_folder => Some(format!("is a folder; write `{path}/` for all files in it")),
        _ => unusable_in_manifest(&full, unusable),
    }
}

/// What is there but can't be looked at, such as a dangling link, is no mistake of whoever named it: the scan refuses
/// it, and the other inputs go on.
fn unusable_input(path: &Path) -> Option<String> {
    if is_there_but_closed(path) { None } else { unusable(path) }
}

/// True if a path leads somewhere that can't be looked at: a dangling link, a loop of links, a folder without
/// permission, a disk that fails.
pub(super) fn is_there_but_closed(path: &Path) -> bool {
    use std::io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    let is_nowhere = |err: &std::io::Error| {
        matches!(err.kind(), NotFound | NotADirectory | InvalidFilename | InvalidInput)
    };
    std::fs::metadata(path).is_err_and(|err| !is_nowhere(&err) || path.is_symlink())
}

fn unusable(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() => None,
        Ok(found) if found.is_dir() => {
            Some("is a folder; name its files, for example with a glob".to_owned())
        }
        Ok(_) => Some("is not a regular file; copy it into one".to_owned()),
        Err(err) if err.kind() == std::io::ErrorKind::NotFound && path.is_symlink() => {
            Some("is a symbolic link to nothing; correct the link, or name another file".to_owned())
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => {
            Some("does not exist; check the spelling, or make it first".to_owned())
        }
        Err(err) if err.kind() == std::io::ErrorKind::NotADirectory => {
            Some("does not exist: part of its path is a file; check the spelling".to_owned())
        }
        Err(err) => Some(format!("can't be read: {err}")),
    }
}
