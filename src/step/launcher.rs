//! Starts a script: descriptors, process group, exec. Unaware of how it ends.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::script::{Exec, Interpreters, Script};
use crate::attempt::Start;
use crate::error::{Error, OrIo, Result};
use crate::labels::Labels;
use crate::sys::confined::{self, Confined};
use crate::sys::{self, limits};
use crate::text::printable;

/// Held for writing while a program is open for writing, for reading while a script is started: a process
/// just forked holds every descriptor until it executes something, and what anybody has open for writing
/// can't be run ("text file busy").
pub(super) static STARTING: RwLock<()> = RwLock::new(());

/// Keeps programs from being written; hold it while a process is started.
pub(super) fn starting() -> RwLockReadGuard<'static, ()> {
    STARTING.read().unwrap_or_else(PoisonError::into_inner)
}

/// How scripts may be started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Launch {
    /// By forking an interpreter that is loaded already, where that can be done and pays.
    #[default]
    Auto,
    /// By forking, where that can be done.
    Fork,
    /// Each with an interpreter of its own.
    Spawn,
}

impl Launch {
    /// As on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Launch::Auto => "auto",
            Launch::Fork => "fork",
            Launch::Spawn => "spawn",
        }
    }
}

/// A way to start scripts. One per worker, so that it may keep what most of a worker's steps have in common.
pub(super) trait Launcher: Send {
    /// Starts the script as the leader of a new process group, and as our own child, or says why it can't be started.
    ///
    /// # Errors
    /// What is our own trouble and not the script's: no memory, no processes, no descriptors.
    fn launch(&mut self, exec: &Exec<'_>) -> Result<Result<Started, NotStarted>>;

    /// The worker has new folders: forget everything about the old ones.
    fn reset(&mut self);

    /// A sentence for who wants to know more, once.
    fn take_note(&mut self) -> Option<String> {
        None
    }
}

/// A script that runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Started {
    /// Number of its process, which leads a group of its own.
    pub(super) leader: i32,
    pub(super) start: Start,
}

/// Why a script can't be started.
pub(super) struct NotStarted {
    pub(super) sentence: String,
    /// The program that may not be executed, if that is why.
    pub(super) refused: Option<PathBuf>,
}

/// posix_spawn(3), by std; and for a script in a sandbox, what does the same and confines it. Keeps the last command, since most steps of a worker differ in few variables only.
#[derive(Default)]
pub(super) struct Spawn {
    last: Option<Prepared>,
    interpreters: Interpreters,
}

struct Prepared {
    command: Command,
    script: Arc<Script>,
    file: PathBuf,
    /// Its values may differ.
    labels: Labels,
    /// /dev/null for a script in a sandbox, whose descriptors std doesn't know.
    confined_stdin: Option<File>,
}

impl Launcher for Spawn {
    fn launch(&mut self, exec: &Exec<'_>) -> Result<Result<Started, NotStarted>> {
        if !self.last.as_ref().is_some_and(|last| last.is_for(exec)) {
            // std looks PATH up in the child, by a slow way, when the environment is not inherited as it
            // is; and a place found here makes for a better message.
            match self.interpreters.find(exec) {
                Ok(program) => self.last = Some(Prepared::new(exec, &program)?),
                Err(sentence) => return Ok(Err(NotStarted { sentence, refused: None })),
            }
        }
        let Some(Prepared { command, confined_stdin, .. }) = &mut self.last else {
            return Err(Error::Internal("no command was prepared".to_owned()));
        };
        for (name, value) in &exec.vars {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        for (key, value) in exec.labels.iter() {
            command.env(key, value);
        }
        for (column, path) in exec.columns {
            command.env(column, path);
        }
        let starting = starting();
        let spawned = match (&exec.rules, confined_stdin) {
            (Some(rules), Some(stdin)) => confined::spawn(
                command,
                &Confined {
                    name: &exec.script.interpreter[0],
                    stdin: stdin.as_fd(),
                    output: exec.log,
                    handed_down: exec.handed_down().map_or(&[], |handed| &handed.fds),
                    open_files: limits::original_open_files(),
                    rules: rules.as_fd(),
                },
            ),
            // Never a start without the sandbox.
            (Some(_), None) => {
                return Err(Error::Internal("a sandbox was not prepared".to_owned()));
            }
            (None, _) => command.spawn().map(|child| i32::try_from(child.id()).unwrap_or(0)),
        };
        drop(starting);
        match spawned {
            Ok(leader) => Ok(Ok(Started { leader, start: Start::Spawn })),
            Err(err) if is_ours(&err) => Err(err).or_io("start", command.get_program()),
            Err(err) => {
                let program = PathBuf::from(command.get_program());
                self.reset();
                self.interpreters.forget();
                let sentence = sentence(&err, exec.script, &program);
                let is_refused = err.raw_os_error() == Some(libc::EACCES);
                Ok(Err(NotStarted { sentence, refused: is_refused.then_some(program) }))
            }
        }
    }

    fn reset(&mut self) {
        self.last = None;
    }
}

impl Spawn {
    /// The interpreter that a script is started with, or a sentence that says why there is none.
    pub(super) fn interpreter(&mut self, exec: &Exec<'_>) -> Result<PathBuf, String> {
        self.interpreters.find(exec)
    }
}

impl Prepared {
    fn new(exec: &Exec<'_>, program: &Path) -> Result<Prepared> {
        let Exec { script, file, log, .. } = exec;
        let log = || log.try_clone_to_owned().or_io("duplicate the log of", file);
        let null = File::open("/dev/null").or_io("open", "/dev/null")?;
        let mut command = Command::new(program);
        command
            .arg0(&script.interpreter[0])
            .args(&script.interpreter[1..])
            .arg(file)
            .current_dir(script.dir())
            .env_clear()
            .envs(exec.base_env());
        let confined_stdin = if exec.rules.is_some() {
            Some(null)
        } else {
            command
                // Own group, to be signalled as a whole. Price: Ctrl-C no longer reaches it by itself.
                .process_group(0)
                .stdin(Stdio::from(null))
                .stdout(Stdio::from(log()?))
                .stderr(Stdio::from(log()?));
            if let Some(handed) = exec.handed_down().filter(|handed| !handed.fds.is_empty()) {
                sys::hand_down(&mut command, &handed.fds);
            }
            if let Some(limit) = limits::original_open_files() {
                sys::limit_open_files(&mut command, limit);
            }
            None
        };
        let (script, file, labels) = (Arc::clone(script), file.clone(), exec.labels.clone());
        Ok(Prepared { command, script, file, labels, confined_stdin })
    }

    /// Whether only values of variables differ.
    fn is_for(&self, exec: &Exec<'_>) -> bool {
        let keys =
            |labels: &Labels| labels.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>();
        Arc::ptr_eq(&self.script, exec.script)
            && self.file == exec.file
            && self.labels.len() == exec.labels.len()
            && (self.labels.is_empty() || keys(&self.labels) == keys(exec.labels))
    }
}

/// Errors of a start that say nothing about the script.
fn is_ours(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        Some(
            libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::EINTR | libc::ENOSYS
        )
    )
}

/// Why a script can't be started. A missing folder and a missing program give the same error, so the folder
/// is looked at first.
fn sentence(err: &io::Error, script: &Script, program: &Path) -> String {
    let named = printable(program.as_os_str().as_bytes());
    if !script.dir().is_dir() {
        let dir = printable(script.dir.as_bytes());
        return format!("the working directory `{dir}` is no longer there");
    }
    match err.raw_os_error() {
        Some(libc::ENOENT) if program.exists() => {
            format!("the interpreter `{named}` names another one, or a loader, that is missing")
        }
        Some(libc::ENOENT | libc::ENOTDIR) => {
            format!("the interpreter `{named}` is missing; install it, or set `shell`")
        }
        Some(libc::EACCES) => format!("the interpreter `{named}` may not be executed by this user"),
        Some(libc::E2BIG) => "arguments and environment are too long for the system: set fewer or \
                              shorter variables, or read them from a file"
            .to_owned(),
        _ => format!("the interpreter `{named}` could not be started: {err}"),
    }
}
