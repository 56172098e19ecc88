//! A task's script as its steps run it: the file it is run from, its interpreter, its environment.
//!
//! It is run from a *file*, because an argument can't be longer than 128 KiB, and as `INTERPRETER FILE`,
//! because executing a file just written meets ETXTBSY when another thread forks meanwhile. Each worker has
//! a file of its own for each task, called like the task, because that is what an interpreter prints in its
//! messages. A script may do to it what it likes (`trap 'rm -f "$0"' EXIT`, `sed -i`): before the next step
//! it is looked at, and written anew if it is not as we left it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use super::sandbox::Sandbox;
use super::stamp::Stamp;
use super::tree;
use crate::attempt::var;
use crate::error::{OrIo, Result};
use crate::jobserver::{HandedDown, Share};
use crate::labels::Labels;

/// Where programs are looked for when PATH is not set, as execvp does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Programs whose place one worker remembers; more than a pipeline has shells.
const PLACES: usize = 16;

/// What a task does, the same for all of its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// TASK_NAME, and the base name of `$0`.
    pub task: String,
    /// Interpreter and its arguments; the path of the script's file is appended.
    pub interpreter: Arc<[String]>,
    pub bytes: Vec<u8>,
    /// Working directory, absolute: the manifest's folder.
    pub dir: OsString,
    /// Variables of the manifest. Those of [`var`] win over them.
    pub env: Vec<(OsString, OsString)>,
    /// Variables that it doesn't get, though whoever starts it has them.
    #[serde(default)]
    pub unset: Vec<OsString>,
    /// Of the variables of whoever starts it, it gets those of [`var::IN_CLEAN_ENV`] only.
    #[serde(default)]
    pub clean_env: bool,
    pub timeout: Option<Duration>,
    /// Columns of the table that are files: each is a variable, and a folder of INPUT_DIR.
    #[serde(default)]
    pub paths: Vec<String>,
    /// The file below OUTPUT_DIR in which it says what it has read.
    #[serde(default)]
    pub depfile: Option<String>,
    /// `input = "copy"`: it may do anything to its inputs, whatever their size.
    pub copies_input: bool,
    /// It is given tokens for a make, cargo or ninja in it.
    pub wants_jobserver: bool,
    /// It reaches nothing but what this says.
    #[serde(default)]
    pub sandbox: Option<Box<Sandbox>>,
    /// It is started once for several steps, and finds them in BATCH_DIR.
    #[serde(default)]
    pub batch: bool,
}

impl Script {
    /// One that runs in `dir` and asks for nothing else.
    pub fn new(task: &str, interpreter: &[&str], bytes: &[u8], dir: impl Into<OsString>) -> Script {
        Script {
            task: task.to_owned(),
            interpreter: interpreter.iter().map(|word| (*word).to_owned()).collect(),
            bytes: bytes.to_vec(),
            dir: dir.into(),
            env: Vec::new(),
            unset: Vec::new(),
            clean_env: false,
            timeout: None,
            paths: Vec::new(),
            depfile: None,
            copies_input: false,
            wants_jobserver: false,
            sandbox: None,
            batch: false,
        }
    }

    pub(super) fn dir(&self) -> &Path {
        Path::new(&self.dir)
    }

    /// PATH as the script will see it.
    pub(super) fn search_path(&self) -> Option<&OsStr> {
        let own = self.env.iter().rev().find(|(name, _)| name == "PATH");
        let path = own.or_else(|| self.inherited().find(|(name, _)| name == "PATH"));
        path.map(|(_, value)| value.as_os_str())
    }

    /// What it gets of our own environment.
    fn inherited(&self) -> impl Iterator<Item = &'static (OsString, OsString)> {
        let is_kept = |name: &OsString| {
            !self.unset.contains(name)
                && (!self.clean_env || var::IN_CLEAN_ENV.iter().any(|kept| name == kept))
        };
        inherited().iter().filter(move |(name, _)| is_kept(name))
    }
}

/// Everything that a launcher has to know of one attempt.
pub(super) struct Exec<'a> {
    pub(super) script: &'a Arc<Script>,
    /// The script's file.
    pub(super) file: PathBuf,
    /// stdout and stderr.
    pub(super) log: BorrowedFd<'a>,
    pub(super) share: Option<&'a Share>,
    /// The rules of its sandbox.
    pub(super) rules: Option<Arc<OwnedFd>>,
    /// What differs from step to step. `None`: the script must not see such a variable.
    pub(super) vars: [(&'static str, Option<OsString>); 12],
    /// Variables too.
    pub(super) labels: &'a Labels,
    /// The columns of a table that are files, each with the path of its file; empty: the row names none.
    pub(super) columns: &'a [(String, OsString)],
}

impl Exec<'_> {
    /// The environment but for [`Exec::vars`], which win over it; of two of one name the later one counts.
    pub(super) fn base_env(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        let inherited = self.script.inherited();
        let inherited = inherited.map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let share = self.handed_down().into_iter().flat_map(|handed| &handed.env);
        let share = share.map(|(name, value)| (OsStr::new(name), OsStr::new(value)));
        let own = self.script.env.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        inherited.chain(share).chain(own)
    }

    /// What it is given of a jobserver.
    pub(super) fn handed_down(&self) -> Option<&HandedDown> {
        self.share.map(|share| if self.rules.is_some() { &share.confined } else { &share.free })
    }
}

/// Our own environment, less what make has put there, as it was at the first step.
fn inherited() -> &'static [(OsString, OsString)] {
    static INHERITED: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();
    INHERITED.get_or_init(|| {
        std::env::vars_os()
            .filter(|(name, _)| !var::OF_MAKE.iter().any(|make| name == make))
            .collect()
    })
}

/// Remembers where interpreters were found.
#[derive(Default)]
pub(super) struct Interpreters {
    /// (program, PATH) and where it was found.
    places: Vec<((String, Option<OsString>), PathBuf)>,
}

impl Interpreters {
    /// Absolute path of the interpreter, looked for with the PATH that the script will see; or a sentence that
    /// says why there is none.
    pub(super) fn find(&mut self, exec: &Exec<'_>) -> Result<PathBuf, String> {
        let script = exec.script;
        let Some(program) = script.interpreter.first().filter(|program| !program.is_empty()) else {
            return Err("no interpreter is named; write e.g. shell = \"sh -eu\"".to_owned());
        };
        if program.contains('/') {
            return Ok(script.dir().join(program));
        }
        let key = (program.clone(), script.search_path().map(OsStr::to_owned));
        if let Some((_, place)) = self.places.iter().find(|(known, _)| *known == key) {
            return Ok(place.clone());
        }
        let path = key.1.as_deref().unwrap_or(OsStr::new(DEFAULT_PATH));
        let place = std::env::split_paths(path)
            .map(|dir| script.dir().join(dir).join(program))
            .find(|place| is_executable(place))
            .ok_or_else(|| {
                // Not what PATH is: that is long, the same for all, and told for each step.
                format!("the interpreter `{program}` is not in PATH; install it, or set `shell`")
            })?;
        self.places.truncate(PLACES - 1);
        self.places.insert(0, (key, place.clone()));
        Ok(place)
    }

    /// One of them was not what it seemed to be.
    pub(super) fn forget(&mut self) {
        self.places.clear();
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

/// The files that one worker's scripts are run from.
pub(super) struct ScriptFiles {
    folder: Folder,
    /// By task.
    written: HashMap<String, Written>,
}

struct Written {
    script: Arc<Script>,
    path: PathBuf,
    stamp: Stamp,
}

impl ScriptFiles {
    pub(super) fn new(folder: Folder) -> ScriptFiles {
        ScriptFiles { folder, written: HashMap::new() }
    }

    /// Path of a script's file, just as it was written; `None` if a script has put something else in the
    /// folder's place.
    pub(super) fn file(&mut self, script: &Arc<Script>) -> Result<Option<PathBuf>> {
        // By its path, as the interpreter will open it: one look tells about the folder too.
        if let Some(written) = self.written.get(&script.task)
            && Arc::ptr_eq(&written.script, script)
            && rustix::fs::lstat(&written.path).is_ok_and(|stat| Stamp::of(&stat) == written.stamp)
        {
            return Ok(Some(written.path.clone()));
        }
        match self.folder.look(CWD, &self.folder.path) {
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(err) => return Err(err).or_io("look at", &self.folder.path),
        }
        let path = self.folder.path.join(&script.task);
        let stamp = self.write(script).or_io("write the script", &path)?;
        let written = Written { script: Arc::clone(script), path: path.clone(), stamp };
        self.written.insert(script.task.clone(), written);
        Ok(Some(path))
    }

    fn write(&self, script: &Script) -> std::io::Result<Stamp> {
        let name = script.task.as_bytes();
        let dir = self.folder.fd();
        // Whatever a script has made of it; with a new inode, because that one may still read the old file.
        tree::remove_entry(dir, name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?);
        file.write_all(&script.bytes)?;
        // So that even an edit within the same tick of a coarse clock moves the time of last change.
        tree::mark_untouched(&file)?;
        Ok(Stamp::of(&rustix::fs::fstat(&file)?))
    }
}
