//! What each root reads: its patterns, the INPUTs of this command line, or those of an earlier one.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::db::{self, Argument, Db};
use crate::error::{Error, OrIo, Result};
use crate::manifest::{Manifest, Task, without_captures};
use crate::names;
use crate::object::ObjectHash;
use crate::progress::{Event, Progress};
use crate::sys::proc::descriptor;
use crate::text::{as_path, counted, path_bytes, printable, shown};

use super::RunOptions;
use super::given::GivenInput;
use super::scan::{Scanner, Source};

/// The INPUTs: those named on the command line, then those of the lists that it names.
///
/// # Errors
/// If a list can't be read, or names nothing.
pub(super) fn inputs(options: &RunOptions) -> Result<Vec<GivenInput>> {
    let named = |path: &PathBuf| GivenInput { path: path.clone(), listed: None };
    let mut inputs: Vec<GivenInput> = options.inputs.iter().map(named).collect();
    for list in &options.inputs_from {
        let mut bytes = Vec::new();
        let read = match list.as_os_str() == "-" {
            true => std::io::stdin().lock().read_to_end(&mut bytes),
            false => File::open(list).and_then(|mut file| file.read_to_end(&mut bytes)),
        };
        match read {
            Ok(_) => {}
            Err(err) if err.kind() == ErrorKind::NotFound => {
                let list = shown(list);
                return Err(Error::Usage(format!("--inputs-from: `{list}` does not exist")));
            }
            Err(err) if err.kind() == ErrorKind::IsADirectory => {
                let list = shown(list);
                return Err(Error::Usage(format!(
                    "--inputs-from: `{list}` is a folder; name a file with one INPUT a line, or give the folder's \
                     files as INPUTs: {list}/*"
                )));
            }
            Err(err) => return Err(err).or_io("read the list of inputs", list),
        }
        let listed = listed(&bytes);
        if listed.is_empty() {
            // Not the INPUTs of an earlier run: whoever made an empty list meant none of them.
            let list = shown(list);
            return Err(Error::Usage(format!(
                "--inputs-from: `{list}` names no file; to run without INPUTs, use --no-inputs"
            )));
        }
        let name: Arc<Path> = list.as_path().into();
        let place = |line| Some((Arc::clone(&name), line));
        let listed =
            listed.into_iter().map(|(line, path)| GivenInput { path, listed: place(line) });
        inputs.extend(listed);
    }
    Ok(inputs)
}

/// The names in a list, with their numbers: one a line, or each ended by a NUL if there is one anywhere, since a name may
/// hold a newline.
fn listed(bytes: &[u8]) -> Vec<(usize, PathBuf)> {
    let end = if bytes.contains(&0) { 0 } else { b'\n' };
    let names = (1..).zip(bytes.split(|byte| *byte == end));
    let mut names: Vec<(usize, &[u8])> =
        names.filter(|(_, name)| !name.trim_ascii().is_empty()).collect();
    // Written on Windows. A name may end in a CR, but not every one does.
    if end == b'\n' && names.iter().all(|(_, name)| name.ends_with(b"\r")) {
        names.iter_mut().for_each(|(_, name)| *name = &name[..name.len() - 1]);
    }
    // In a list `-` is a file like any other.
    names
        .into_iter()
        .map(|(line, name)| (line, as_path(if name == b"-" { b"./-" } else { name }).to_owned()))
        .collect()
}

/// The INPUTs of a run.
pub(super) struct NamedInputs<'a> {
    pub(super) inputs: &'a [PathBuf],
    /// Those that are open already, in their order.
    pub(super) streams: Vec<File>,
    /// Forget those of earlier runs.
    pub(super) forget: bool,
}

/// What each task reads from disk; nothing for a task that others feed.
pub(super) fn sources(
    scanner: &Scanner<'_>,
    manifest: &Manifest,
    named: NamedInputs<'_>,
    progress: &mut dyn Progress,
) -> Result<Vec<Vec<Source>>> {
    let takes_arguments =
        |task: &Task| task.is_root() && task.inputs.is_empty() && task.table.is_none();
    let arguments = if manifest.tasks.iter().any(takes_arguments) {
        arguments(scanner, manifest, named, progress)?
    } else if named.inputs.is_empty() {
        Vec::new()
    } else {
        return Err(Error::Usage(
            "no task takes files from the command line: each root has `inputs` or a `table` of its own; \
             leave INPUT out, or take those from the task that should read them"
                .to_owned(),
        ));
    };
    let arguments = with_names(arguments, progress);
    Ok(manifest
        .tasks
        .iter()
        .map(|task| match () {
            () if !task.is_root() => Vec::new(),
            () if let Some(table) = &task.table => vec![Source::Table(Arc::clone(table))],
            () if !task.inputs.is_empty() => {
                let exclusions = task.exclusions.iter().cloned().map(Source::Exclusion);
                let patterns =
                    task.inputs.iter().map(|glob| Source::Pattern(without_captures(glob)));
                patterns.chain(exclusions).collect()
            }
            () if arguments.is_empty() => vec![Source::Nothing],
            () => {
                let arguments = arguments.iter().cloned();
                arguments.map(|(argument, name)| Source::Argument(argument, name)).collect()
            }
        })
        .collect())
}

/// Names of INPUTs that a note lists.
const NAMED: usize = 3;

/// The INPUTs with their names. It is said where those are more than base names: a script that was written for one file
/// may not expect it.
fn with_names(arguments: Vec<Argument>, progress: &mut dyn Progress) -> Vec<(Argument, Vec<u8>)> {
    let is_file = |argument: &&Argument| argument.object.is_none();
    let files: Vec<&[u8]> = arguments.iter().filter(is_file).map(|file| &*file.path).collect();
    let names = names::of_files(&files);
    let with_folders: Vec<&[u8]> = {
        let has_folder = |name: &&[u8]| name.contains(&b'/');
        names.iter().map(Vec::as_slice).filter(has_folder).collect()
    };
    if !with_folders.is_empty() {
        let some = with_folders.iter().take(NAMED).map(|name| format!("`{}`", printable(name)));
        let more = match with_folders.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        progress.tell(&Event::Note(&format!(
            "INPUTs of one base name keep their folders in INPUT_NAME: {}{more}",
            some.collect::<Vec<_>>().join(", ")
        )));
    }
    let mut names = names.into_iter();
    let name = |argument: &Argument| match (&argument.object, argument.path.as_slice()) {
        (None, path) => names.next().unwrap_or_else(|| path.to_vec()),
        (Some(_), b"-") => b"stdin".to_vec(),
        (Some(_), path) => names::split(path).1.to_vec(),
    };
    let all: Vec<Vec<u8>> = arguments.iter().map(name).collect();
    arguments.into_iter().zip(all).collect()
}

/// INPUTs of earlier runs.
#[derive(Default)]
pub(super) struct Remembered {
    pub(super) arguments: Vec<Argument>,
    /// None was named with this manifest but with that one, which is gone if there are `arguments`.
    elsewhere: Option<PathBuf>,
}

/// The INPUTs that were last named with this manifest: another one on the same database has its own. A manifest that
/// is gone was probably renamed to this one.
pub(super) fn remembered(db: &Db, manifest: &Manifest) -> Result<Remembered> {
    let path = manifest.full_path();
    let (arguments, others) = db.read(|reader| {
        let arguments = db::arguments(reader, path_bytes(&path))?;
        let is_known = !arguments.is_empty();
        Ok((arguments, if is_known { Vec::new() } else { db::manifests_with_arguments(reader)? }))
    })?;
    let others: Vec<PathBuf> = others.iter().map(|other| as_path(other).to_owned()).collect();
    if let Some(gone) = others.iter().find(|other| !other.exists()) {
        let arguments = db.read(|reader| db::arguments(reader, path_bytes(gone)))?;
        return Ok(Remembered { arguments, elsewhere: Some(gone.clone()) });
    }
    Ok(Remembered { arguments, elsewhere: others.into_iter().next() })
}

/// The INPUTs: those named now, or else those of the last run that named any.
fn arguments(
    scanner: &Scanner<'_>,
    manifest: &Manifest,
    given: NamedInputs<'_>,
    progress: &mut dyn Progress,
) -> Result<Vec<Argument>> {
    let Remembered { arguments: remembered, elsewhere } = remembered(scanner.db, manifest)?;
    if given.inputs.is_empty() && !given.forget {
        if let Some(other) = &elsewhere {
            let other = printable(path_bytes(other)).into_owned();
            progress.tell(&Event::Warning(&if remembered.is_empty() {
                format!(
                    "no INPUT is known for this manifest; those of earlier runs were for `{other}`"
                )
            } else {
                format!("`{other}` is gone: its INPUTs are taken for those of this manifest")
            }));
        }
        if !remembered.is_empty() {
            let text = format!(
                "using the {} of an earlier run; --no-inputs forgets {}",
                counted(remembered.len(), "input"),
                if remembered.len() == 1 { "it" } else { "them" }
            );
            progress.tell(&Event::Note(&text));
            let paths = remembered
                .iter()
                .filter(|argument| argument.object.is_none())
                .map(|argument| GivenInput {
                    path: as_path(&argument.path).to_owned(),
                    listed: None,
                })
                .collect();
            super::preflight::check_arguments(paths)?;
        }
        return Ok(remembered);
    }
    let mut named = Vec::with_capacity(given.inputs.len());
    let mut streams = given.streams.into_iter();
    for path in given.inputs {
        named.push(match descriptor(path) {
            Some(fd) => {
                let path = if fd == 0 { Path::new("-") } else { path };
                let object = match streams.next() {
                    Some(mut stream) => Some(keep_stream(scanner, path, &mut stream)?),
                    None => None,
                };
                Argument { path: path_bytes(path).to_vec(), object }
            }
            None => {
                let full = std::path::absolute(path).or_io("find", path)?;
                Argument { path: path_bytes(&full).to_vec(), object: None }
            }
        });
    }
    let gone = elsewhere.filter(|other| !other.exists());
    if scanner.store.is_some() && (named != remembered || gone.is_some()) {
        let path = manifest.full_path();
        scanner.db.write(|writer| {
            if let Some(gone) = &gone {
                db::set_arguments(writer, path_bytes(gone), &[])?;
            }
            db::set_arguments(writer, path_bytes(&path), &named)
        })?;
    }
    Ok(named)
}

/// Standard input can be read only once, so what it holds is kept. It is read from where it stands: a script may have
/// taken the first lines.
fn keep_stream(scanner: &Scanner<'_>, path: &Path, stream: &mut File) -> Result<ObjectHash> {
    let Some(store) = scanner.store else {
        return ObjectHash::of_stream(stream).or_io("read input", path);
    };
    let placed = super::scan::store_input(store, stream, path)?;
    let object = placed.hash;
    scanner.keep(&[placed])?;
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_name_a_line_unless_there_is_a_nul() {
        let names = |bytes: &[u8]| -> Vec<String> {
            listed(bytes).iter().map(|(line, name)| format!("{line}:{}", name.display())).collect()
        };
        assert_eq!(names(b"a\n\n b c \n  \n-\nd"), ["1:a", "3: b c ", "5:./-", "6:d"]);
        assert_eq!(names(b"a\nb\0c\0"), ["1:a\nb", "2:c"]);
        assert_eq!(names(b"\n\n"), [""; 0]);
    }
}
