//! The files that must be there before anything is made: a missing one is a mistake like any other in
//! the manifest.

use std::fs::File;
use std::path::Path;

use crate::db::Stat;
use crate::diagnostic::Diagnostic;
use crate::error::{Error, Result};
use crate::manifest::{Manifest, is_plain};
use crate::object::ObjectHash;
use crate::sys::duplicate_high;
use crate::sys::proc::descriptor;
use crate::table::TableCheck;
use crate::text::shown;

use super::fingerprint::Fingerprint;
use super::given::GivenInput;

/// What was found before anything is made.
pub(super) struct Checked {
    /// Those INPUTs that are open already, such as standard input: now, while no descriptor can be one of our own.
    pub(super) streams: Vec<File>,
    /// What to say of the tables, a sentence each.
    pub(super) warnings: Vec<String>,
    /// By place: a fingerprint of the rows of the task's table.
    pub(super) rows: Vec<Option<ObjectHash>>,
}

/// Rows of a table that are told by name to be there twice.
const TOLD: usize = 5;

/// Checks every INPUT, every plain path of `inputs`, every one of `files` and `read`, and every row of the tables.
///
/// # Errors
/// [`Error::Usage`] naming all that are missing or are no files; [`Error::Manifest`] if there are mistakes in a table,
/// with all of the others too.
pub(super) fn check(manifest: &Manifest, arguments: &[GivenInput]) -> Result<Checked> {
    let (mut wrong, mut mistakes, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
    let mut rows = vec![None; manifest.tasks.len()];
    for (task, rows) in manifest.tasks.iter().zip(&mut rows) {
        if let Some(table) = &task.table {
            let unusable = |path: &Path| unusable_in_manifest(path, unusable_input);
            let mut sum = Fingerprint::default();
            let found = table.check(&unusable, &mut |row| {
                sum.add(row.labels.as_bytes(), row.files.as_bytes(), &Stat::NONE);
            })?;
            *rows = Some(sum.finish());
            warnings.extend(odd_rows(&task.name, &table.name(), &found));
            // Two tasks may have one table.
            let new = found.mistakes.into_iter().filter(|mistake| !mistakes.contains(mistake));
            mistakes.extend(new.collect::<Vec<_>>());
        }
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
        for path in &task.read {
            if let Err(err) = std::fs::metadata(manifest.dir.join(path)) {
                let why = match err.kind() {
                    std::io::ErrorKind::NotFound => {
                        "does not exist; check the spelling, or make it first".to_owned()
                    }
                    _ => format!("can't be looked at: {err}"),
                };
                wrong.push(format!("task `{}`: `{path}` (of `read`) {why}", task.name));
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
    if !mistakes.is_empty() {
        let of_manifest = wrong.into_iter().map(|message| Diagnostic {
            path: manifest.path.clone(),
            location: None,
            message,
            help: None,
        });
        return Err(Error::Manifest(of_manifest.chain(mistakes).collect()));
    }
    if wrong.is_empty() {
        Ok(Checked { streams, warnings, rows })
    } else {
        Err(Error::Usage(wrong.join("\n")))
    }
}

/// What is odd about the rows of a task's table and no mistake.
fn odd_rows(task: &str, table: &str, found: &TableCheck) -> Vec<String> {
    if found.rows == 0 && found.mistakes.is_empty() {
        return vec![format!("task `{task}`: `{table}` has no rows")];
    }
    let told = found.repeated.iter().take(TOLD).map(|(line, first)| {
        format!(
            "task `{task}`: line {line} of `{table}` says what line {first} says; they are one step"
        )
    });
    let mut warnings: Vec<String> = told.collect();
    let more = found.repeated_count - warnings.len() as u64;
    if more > 0 {
        let row = if more == 1 { "row" } else { "rows" };
        warnings.push(format!("task `{task}`: {more} more {row} of `{table}` are there twice"));
    }
    warnings
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
