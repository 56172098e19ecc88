//! Starts a script: environment, descriptors, process group. Unaware of how it ends.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use rustix::fs::{Access, AtFlags, CWD};

use super::Attempt;
use super::input::Laid;
use super::scratch::Room;
use crate::error::{Error, OrIo, Result};
use crate::text::printable;

/// Addressed to the programmes that make runs itself: a script that runs make would believe that it has
/// been given a jobserver. One that asks for it gets a jobserver, and nothing else of make's.
const MAKES: [&str; 9] = [
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "MAKEOVERRIDES",
    "GNUMAKEFLAGS",
    "MAKE_TERMOUT",
    "MAKE_TERMERR",
    "MAKEFILES",
    "CARGO_MAKEFLAGS",
];

/// Set here for every step; an attempt's own variables of these names are passed over.
const OURS: [&str; 5] = ["INPUT_FILE", "INPUT_NAME", "INPUT_DIR", "OUTPUT_DIR", "TMPDIR"];

/// Where programmes are looked for when PATH is not set, as execvp does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Programmes that one launcher remembers the place of; more than a pipeline has shells.
const PLACES: usize = 16;

/// Keeps the last command, since most steps of a worker differ in few variables only.
#[derive(Default)]
pub(super) struct Launcher {
    last: Option<Prepared>,
    /// (programme, PATH) and where it was found.
    places: Vec<((String, Option<OsString>), PathBuf)>,
}

struct Prepared {
    command: Command,
    interpreter: Arc<[String]>,
    script: Arc<Path>,
    dir: Arc<Path>,
    /// Names of the attempt's own variables.
    names: Vec<OsString>,
    has_jobserver: bool,
}

impl Launcher {
    /// Starts the script as the leader of a new process group; gives its process number, or a sentence
    /// that says why it can't be started.
    ///
    /// # Errors
    /// What is our own trouble and not the script's: no memory, no processes, no descriptors.
    pub(super) fn launch(
        &mut self,
        attempt: &Attempt,
        room: &Room,
        laid: &Laid,
    ) -> Result<Result<i32, String>> {
        if !self.last.as_ref().is_some_and(|last| last.is_for(attempt)) {
            match self.prepare(attempt, room)? {
                Ok(prepared) => self.last = Some(prepared),
                Err(sentence) => return Ok(Err(sentence)),
            }
        }
        let Some(Prepared { command, .. }) = &mut self.last else {
            return Err(Error::Internal("no command was prepared".to_owned()));
        };
        let own = attempt.env.iter().filter(|(name, _)| !OURS.iter().any(|ours| name == ours));
        command.envs(own.map(|(name, value)| (name, value)));
        command.env("INPUT_FILE", &laid.file).env("INPUT_NAME", &laid.name);
        if laid.has_dir {
            command.env("INPUT_DIR", &room.input.path);
        } else {
            command.env_remove("INPUT_DIR");
        }
        let starting = super::input::starting();
        let spawned = command.spawn();
        drop(starting);
        match spawned {
            Ok(child) => Ok(Ok(i32::try_from(child.id()).unwrap_or(0))),
            Err(err) if is_ours(&err) => Err(err).or_io("start", command.get_program()),
            Err(err) => {
                let program = PathBuf::from(command.get_program());
                self.last = None;
                self.places.clear();
                Ok(Err(sentence(&err, attempt, &program)))
            }
        }
    }

    fn prepare(&mut self, attempt: &Attempt, room: &Room) -> Result<Result<Prepared, String>> {
        // std looks PATH up in the child, by a slow way, when the environment is not inherited as it is;
        // and a place found here makes for a better message.
        let program = match self.find(attempt) {
            Ok(program) => program,
            Err(sentence) => return Ok(Err(sentence)),
        };
        let log = || room.log.try_clone().or_io("duplicate the log in", &room.path);
        let null = File::open("/dev/null").or_io("open", "/dev/null")?;
        let mut command = Command::new(program);
        command
            .arg0(&attempt.interpreter[0])
            .args(&attempt.interpreter[1..])
            .arg(&*attempt.script)
            .current_dir(&attempt.dir)
            // Own group, to be signalled as a whole. Price: Ctrl-C no longer reaches it by itself.
            .process_group(0)
            .stdin(Stdio::from(null))
            .stdout(Stdio::from(log()?))
            .stderr(Stdio::from(log()?))
            .env_clear()
            .envs(inherited().iter().map(|(name, value)| (name, value)))
            .env("OUTPUT_DIR", &room.output.path)
            .env("TMPDIR", &room.tmp.path);
        if let Some(share) = &attempt.jobserver {
            command.envs(share.env.iter().map(|(name, value)| (name, value)));
            if !share.fds.is_empty() {
                crate::sys::hand_down(&mut command, &share.fds);
            }
        }
        Ok(Ok(Prepared {
            command,
            interpreter: Arc::clone(&attempt.interpreter),
            script: Arc::clone(&attempt.script),
            dir: Arc::clone(&attempt.dir),
            names: attempt.env.iter().map(|(name, _)| name.clone()).collect(),
            has_jobserver: attempt.jobserver.is_some(),
        }))
    }

    /// Absolute path of the interpreter, with the PATH that the script will see.
    fn find(&mut self, attempt: &Attempt) -> Result<PathBuf, String> {
        let Some(program) = attempt.interpreter.first().filter(|program| !program.is_empty())
        else {
            return Err("no interpreter is named; write e.g. shell = \"sh -e\"".to_owned());
        };
        if program.contains('/') {
            return Ok(attempt.dir.join(program));
        }
        let own = attempt.env.iter().rev().find(|(name, _)| name == "PATH");
        let path = own.or_else(|| inherited().iter().find(|(name, _)| name == "PATH"));
        let key = (program.clone(), path.map(|(_, value)| value.clone()));
        if let Some((_, place)) = self.places.iter().find(|(known, _)| *known == key) {
            return Ok(place.clone());
        }
        let path = key.1.as_deref().unwrap_or(OsStr::new(DEFAULT_PATH));
        let place = std::env::split_paths(path)
            .map(|dir| attempt.dir.join(dir).join(program))
            .find(|place| is_executable(place))
            .ok_or_else(|| {
                let path = printable(path.as_bytes());
                format!("the interpreter `{program}` is not in PATH ({path}); install it, or set `shell`")
            })?;
        self.places.truncate(PLACES - 1);
        self.places.insert(0, (key, place.clone()));
        Ok(place)
    }
}

impl Prepared {
    /// Whether only values of variables differ.
    fn is_for(&self, attempt: &Attempt) -> bool {
        self.interpreter == attempt.interpreter
            && self.script == attempt.script
            && self.dir == attempt.dir
            && self.has_jobserver == attempt.jobserver.is_some()
            && self.names.len() == attempt.env.len()
            && self.names.iter().zip(&attempt.env).all(|(name, (other, _))| name == other)
    }
}

/// Our own environment, less what make has put there, as it was at the first step.
fn inherited() -> &'static [(OsString, OsString)] {
    static INHERITED: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();
    INHERITED.get_or_init(|| {
        std::env::vars_os().filter(|(name, _)| !MAKES.iter().any(|make| name == make)).collect()
    })
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
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

/// Why a script can't be started. A missing folder and a missing programme give the same error, so the
/// folder is looked at first.
fn sentence(err: &io::Error, attempt: &Attempt, program: &Path) -> String {
    let named = printable(program.as_os_str().as_bytes());
    if !attempt.dir.is_dir() {
        let dir = printable(attempt.dir.as_os_str().as_bytes());
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
