//! `export TASK --to DIR`: the live results of a task as ordinary files. A second export updates the
//! folder: it writes what changed, removes files of an earlier export that are no longer live, and
//! touches nothing else, so that for make a file is old if nothing changed.

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::attempt::NamedObject;
use crate::cli::values::{default_db, name, path};
use crate::db::{self, Db};
use crate::error::{Error, OrIo as _, Result, exit};
use crate::names;
use crate::object::{ObjectHash, ObjectHasher};
use crate::store::Store;
use crate::text::{as_path, path_bytes, printable, shown};

use super::{Command, answer, complain};

/// A file in the folder that lists what the last export wrote.
const RECORD: &str = ".task-pipeline-export";
const RECORD_HEAD: &[u8] = b"task-pipeline export 1";

/// Copy a task's outputs into a folder, under their names.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "export")]
#[argh(
    note = "Files that an earlier export wrote stay untouched if they are up to date, and are removed if they are \
    no longer outputs. While steps are pending or failed, nothing is written and the exit code is 1, unless \
    --partial is given."
)]
pub struct ExportArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// the folder, created if missing
    #[argh(option, arg_name = "DIR", from_str_fn(path))]
    pub to: PathBuf,

    /// export what there is, even if steps are pending or failed
    #[argh(switch)]
    pub partial: bool,

    /// print what was written as JSON
    #[argh(switch)]
    pub json: bool,

    /// the task whose outputs are exported
    #[argh(positional, arg_name = "TASK", from_str_fn(name))]
    pub task: String,
}

impl Command for ExportArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn execute(&self) -> Result<u8> {
        let db = Db::open_read_only(&self.db)?;
        let store = Store::open_read_only(&self.db)?;
        let (complete, outputs) = db.read(|reader| {
            let task = db::find_task(reader, &self.task)?;
            let mut outputs = Vec::new();
            db::each_live_output(reader, task, &mut |output| {
                outputs.push(output);
                Ok(())
            })?;
            Ok((db::is_complete(reader)?, outputs))
        })?;
        if !complete {
            let why = "the pipeline is incomplete: steps failed or are still to run (`task-pipeline status`)";
            if !self.partial {
                complain(&format!("{why}; run it again, or add --partial to export what there is"));
                return Ok(exit::STEPS_FAILED);
            }
            complain(why);
        }
        fs::create_dir_all(&self.to).or_io("make the folder", &self.to)?;
        let folder = Folder { store: &store, to: &self.to };
        let changes = folder.bring_up_to_date(&outputs)?;
        let export = Export { task: &self.task, complete, changes };
        if self.json {
            answer::json(&export)?;
        } else {
            // No answer: it only confirms what can be seen in the folder.
            let Changes { files, written, removed } = &export.changes;
            let to = shown(&self.to);
            complain(&format!(
                "{files} file(s) of {} in {to}: {written} written, {removed} removed",
                self.task
            ));
        }
        Ok(exit::OK)
    }
}

/// The answer.
#[derive(Serialize)]
struct Export<'a> {
    task: &'a str,
    /// No step has failed or is still to run.
    complete: bool,
    #[serde(flatten)]
    changes: Changes,
}

/// What was done to the folder, in files.
#[derive(Default, Serialize)]
struct Changes {
    /// That are now there.
    files: usize,
    written: usize,
    removed: usize,
}

/// A file as an export left it; if size or time differ, somebody else has changed it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Left {
    object: ObjectHash,
    executable: bool,
    size: u64,
    mtime_ns: i128,
}

struct Folder<'a> {
    store: &'a Store,
    to: &'a Path,
}

impl Folder<'_> {
    fn bring_up_to_date(&self, outputs: &[NamedObject]) -> Result<Changes> {
        let mut before = self.read_record()?;
        let mut changes = Changes { files: outputs.len(), ..Changes::default() };
        let names = names::distinct(outputs.iter().map(|output| output.name.as_slice()));
        let mut record = RECORD_HEAD.to_vec();
        record.push(0);
        for (output, name) in outputs.iter().zip(&names) {
            let earlier = before.remove(name);
            let left = match earlier.filter(|left| self.is_fresh(name, left, output)) {
                Some(left) => left,
                None => {
                    changes.written += 1;
                    self.write(name, output)?
                }
            };
            note(&mut record, name, &left);
        }
        for (name, left) in before {
            changes.removed += usize::from(self.remove(&name, &left)?);
        }
        let path = self.to.join(RECORD);
        let draft = self.to.join(format!("{RECORD}.{}", std::process::id()));
        fs::write(&draft, record).or_io("write", &draft)?;
        fs::rename(&draft, &path).or_io("write", &path)?;
        Ok(changes)
    }

    fn path(&self, name: &[u8]) -> PathBuf {
        self.to.join(as_path(&names::below(name)))
    }

    fn is_fresh(&self, name: &[u8], left: &Left, output: &NamedObject) -> bool {
        left.object == output.object
            && left.executable == output.executable
            && is_as_left(&self.path(name), left)
    }

    /// Writes one file beside its final place, checks its hash, and renames it.
    fn write(&self, name: &[u8], output: &NamedObject) -> Result<Left> {
        let path = self.path(name);
        let folder = path.parent().unwrap_or(self.to);
        fs::create_dir_all(folder).or_io("make the folder", folder)?;
        if path.is_dir() && !path.is_symlink() {
            return Err(Error::Usage(format!(
                "`{}` is a folder, but a result has this name; export into another folder",
                shown(&path)
            )));
        }
        let draft = folder.join(format!("{RECORD}.{}~", std::process::id()));
        let mode = if output.executable { 0o777 } else { 0o666 };
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&draft)
            .or_io("write", &draft)?;
        let copied = self.copy(&output.object, &mut file, &draft);
        let left = copied.and_then(|()| {
            fs::rename(&draft, &path).or_io("write", &path)?;
            let metadata = file.metadata().or_io("look at", &path)?;
            Ok(Left {
                object: output.object,
                executable: output.executable,
                size: metadata.len(),
                mtime_ns: mtime_ns(&metadata),
            })
        });
        if left.is_err() {
            let _ = fs::remove_file(&draft);
        }
        left
    }

    fn copy(&self, object: &ObjectHash, to: &mut File, draft: &Path) -> Result<()> {
        let from = self.store.path(object);
        let mut source = self.store.open_object(object)?;
        let mut hasher = ObjectHasher::default();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let n = source.read(&mut buffer).or_io("read", &from)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            to.write_all(&buffer[..n]).or_io("write", draft)?;
        }
        if hasher.finish() == *object {
            return Ok(());
        }
        let why = "its bytes have another hash".to_owned();
        Err(Error::Damaged { object: *object, path: from, why })
    }

    /// Removes a file of an earlier export, unless somebody else has changed it since.
    fn remove(&self, name: &[u8], left: &Left) -> Result<bool> {
        let path = self.path(name);
        if !path.is_symlink() && !path.exists() {
            return Ok(false);
        }
        if !is_as_left(&path, left) {
            complain(&format!(
                "kept {}: it is no longer a result, but it was changed after the export",
                printable(path_bytes(&path))
            ));
            return Ok(false);
        }
        fs::remove_file(&path).or_io("remove", &path)?;
        let mut folder = path.parent();
        while let Some(empty) = folder.filter(|folder| *folder != self.to) {
            // Fails at the first folder that is not empty.
            if fs::remove_dir(empty).is_err() {
                break;
            }
            folder = empty.parent();
        }
        Ok(true)
    }

    fn read_record(&self) -> Result<HashMap<Vec<u8>, Left>> {
        let path = self.to.join(RECORD);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(HashMap::new()),
            Err(err) => return Err(err).or_io("read", &path),
        };
        let mut lines = bytes.split(|&byte| byte == 0);
        if lines.next() != Some(RECORD_HEAD) {
            return Err(Error::Usage(format!(
                "`{}` is not from an export of this version; remove it, or export into another folder",
                shown(&path)
            )));
        }
        // A line that can't be read (there should be none) only means that a file is written once more.
        Ok(lines.filter_map(read_note).collect())
    }
}

fn note(record: &mut Vec<u8>, name: &[u8], left: &Left) {
    let mode = if left.executable { 'x' } else { '-' };
    record.extend_from_slice(
        format!("{} {mode} {} {} ", left.object, left.size, left.mtime_ns).as_bytes(),
    );
    record.extend_from_slice(name);
    record.push(0);
}

fn read_note(line: &[u8]) -> Option<(Vec<u8>, Left)> {
    let mut words = line.splitn(5, |&byte| byte == b' ');
    let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let object = ObjectHash::parse(word()?).ok()?;
    let executable = word()? == "x";
    let size = word()?.parse().ok()?;
    let mtime_ns = word()?.parse().ok()?;
    Some((words.next()?.to_vec(), Left { object, executable, size, mtime_ns }))
}

fn is_as_left(path: &Path, left: &Left) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| {
        found.is_file() && found.len() == left.size && mtime_ns(&found) == left.mtime_ns
    })
}

fn mtime_ns(metadata: &Metadata) -> i128 {
    i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec())
}
