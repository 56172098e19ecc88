//! An interpreter that was loaded for one task's script and forks for each of its steps.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Variables;
use crate::step::launcher::starting;
use crate::step::proc::{pid, signal_group};
use crate::step::script::{Exec, Script};
use crate::step::stamp::Stamp;
use crate::sys::{self, limits};

/// `preload.c`, built by `build.rs`; empty where that could not be done.
static OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/preload.so"));

/// Descriptors of a server, as `preload.c` knows them.
const OBJECT_FD: i32 = 3;
const SOCKET_FD: i32 = 4;
const RULES_FD: i32 = 5;

/// The variable in whose place a server's own environment has the one that loads the object. Every script has it.
const EXCHANGED: &str = crate::attempt::var::TASK_NAME;

/// What a server's last argument has instead of its last slash, as `preload.c` knows it. A task's name never has it.
const STAND_IN: u8 = 0x7f;

/// Bytes that a server's environment may grow: values differ from step to step.
const MARGIN: usize = 4096;

/// For this long an answer is waited for. A fork takes a fraction of a millisecond, but the machine may be overloaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// And this long before it is woken: a script may have stopped it.
const NUDGE: Duration = Duration::from_millis(500);

/// Servers of this process.
static ALIVE: AtomicUsize = AtomicUsize::new(0);

/// How many servers this process has.
pub(super) fn alive() -> usize {
    ALIVE.load(Ordering::Relaxed)
}

/// A server, as a child of the thread that started it. Ends with this value.
pub(super) struct Server {
    pid: i32,
    socket: UnixStream,
    script: Arc<Script>,
    file: PathBuf,
    interpreter: PathBuf,
    stamp: Stamp,
    /// Those of the sandbox that its children are in.
    rules: Option<Arc<OwnedFd>>,
    /// The one that it is bound to.
    processor: Option<usize>,
    /// Variables of its environment, and bytes that those of its children may have.
    variables: usize,
    bytes: usize,
}

/// What a server says to a request.
pub(super) enum Forked {
    /// Number of the script's process.
    Child(i32),
    /// The working directory can't be entered.
    NoFolder,
    /// There is no further process to be had.
    NoFork(Errno),
}

impl Server {
    /// Starts one for scripts like this; the request for it has so many bytes. Or says why there can be none.
    pub(super) fn start(
        exec: &Exec<'_>,
        interpreter: PathBuf,
        variables: &Variables<'_>,
        bytes: usize,
    ) -> Result<Server, String> {
        let stat = rustix::fs::stat(&interpreter).map_err(|err| err.to_string())?;
        let stamp = Stamp::of(&stat);
        probe(exec, &interpreter, stamp, variables)?;
        let what = |err: io::Error| format!("no interpreter can be kept loaded: {err}");
        let (mut socket, child) =
            begin(exec, &interpreter, variables, Role::Serve).map_err(what)?;
        ALIVE.fetch_add(1, Ordering::Relaxed);
        let server = |socket| Server {
            pid: child,
            socket,
            script: Arc::clone(exec.script),
            file: exec.file.clone(),
            interpreter,
            stamp,
            rules: exec.rules.clone(),
            processor: None,
            variables: variables.len(),
            bytes: bytes + MARGIN,
        };
        let greeting = read_answer(&mut socket, child);
        let server = server(socket);
        greeting.map(|_| server).map_err(what)
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    pub(super) fn interpreter(&self) -> &Path {
        &self.interpreter
    }

    pub(super) fn is_for(&self, exec: &Exec<'_>) -> bool {
        Arc::ptr_eq(&self.script, exec.script) && self.file == exec.file
    }

    /// Whether its children are in a sandbox like this.
    pub(super) fn is_within(&self, rules: Option<&Arc<OwnedFd>>) -> bool {
        match (&self.rules, rules) {
            (None, None) => true,
            (Some(own), Some(rules)) => Arc::ptr_eq(own, rules),
            _ => false,
        }
    }

    /// Whether its children can have an environment like this.
    pub(super) fn has_room(&self, variables: usize, bytes: usize) -> bool {
        self.variables == variables && bytes <= self.bytes
    }

    /// Whether its interpreter is still the one that a plain start would find.
    pub(super) fn is_current(&self) -> bool {
        rustix::fs::stat(&self.interpreter).is_ok_and(|stat| Stamp::of(&stat) == self.stamp)
    }

    /// Lets it fork. `others` are the children of this thread besides it.
    ///
    /// # Errors
    /// If it doesn't answer. It is dead then, and so is a child that it may have had.
    pub(super) fn ask(&mut self, request: &[u8], others: &[i32]) -> io::Result<Forked> {
        let asked =
            self.socket.write_all(request).and_then(|()| read_answer(&mut self.socket, self.pid));
        match asked {
            Ok((leader, 0)) => {
                // It does so itself, but maybe not before somebody signals the group. Once it has executed something
                // it may not be told any more, and need not.
                let _ = rustix::process::setpgid(pid(leader), pid(leader));
                Ok(Forked::Child(leader))
            }
            Ok((_, 1)) => Ok(Forked::NoFolder),
            Ok((errno, _)) => Ok(Forked::NoFork(Errno::from_raw_os_error(-errno))),
            Err(err) => {
                self.end();
                // A script whose start nobody heard of.
                for child in sys::proc::children_of_this_thread() {
                    if child != self.pid && !others.contains(&child) {
                        signal_group(child, Signal::KILL);
                        kill(child);
                    }
                }
                Err(err)
            }
        }
    }

    /// Binds it to a processor; its children have to be told where they may run. False if that can't be done.
    pub(super) fn bind(&mut self, processor: usize) -> bool {
        let Some(server) = pid(self.pid).filter(|_| processor < CpuSet::MAX_CPU) else {
            return false;
        };
        if self.processor != Some(processor) {
            let mut set = CpuSet::new();
            set.set(processor);
            if sched_setaffinity(Some(server), &set).is_err() {
                return self.processor.is_some();
            }
            self.processor = Some(processor);
        }
        true
    }

    /// Whether it was bound to a processor. It stays so: what it was before, nobody can tell.
    pub(super) fn is_bound(&self) -> bool {
        self.processor.is_some()
    }

    fn end(&mut self) {
        if self.pid > 0 {
            kill(std::mem::take(&mut self.pid));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Kills a child and reaps it.
fn kill(child: i32) {
    if let Some(child) = pid(child) {
        let _ = rustix::process::kill_process(child, Signal::KILL);
    }
    // It is ours, so there is nothing to be done about a failure.
    let _ = sys::reap(child);
}

/// What an interpreter with the object in it is started for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// To see whether the loader takes the object: it reads an empty script if not.
    Probe,
    Serve,
}

/// Starts an interpreter with the object in it. Gives this end of its socket, and its number.
fn begin(
    exec: &Exec<'_>,
    interpreter: &Path,
    variables: &Variables<'_>,
    role: Role,
) -> io::Result<(UnixStream, i32)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(NUDGE))?;
    ours.set_write_timeout(Some(PATIENCE))?;
    let (object, theirs) = (object()?, OwnedFd::from(theirs));
    let high = |fd: &OwnedFd| sys::duplicate_high(fd.as_raw_fd());
    let (object, theirs) = (high(object)?, high(&theirs)?);
    let script = exec.script;
    let mut command = Command::new(interpreter);
    command.arg0(&script.interpreter[0]).args(&script.interpreter[1..]);
    let log = || match role {
        Role::Probe => Ok(Stdio::null()),
        Role::Serve => exec.log.try_clone_to_owned().map(Stdio::from),
    };
    // Both separate the names of objects, so any number of them may follow the last one.
    let (separator, file) = match role {
        Role::Probe => (":", PathBuf::from("/dev/null")),
        Role::Serve => (" ", without_slash(&exec.file)),
    };
    let preload = sys::proc::path_of_number(OBJECT_FD) + &separator.repeat(MARGIN);
    command
        .arg(file)
        .current_dir(script.dir())
        .process_group(0)
        .stdin(Stdio::from(File::open("/dev/null")?))
        .stdout(log()?)
        .stderr(log()?)
        .env_clear()
        .envs(variables)
        .env_remove(EXCHANGED)
        .env("LD_PRELOAD", preload);
    let rules = match (&exec.rules, role) {
        (Some(rules), Role::Serve) => Some(high(rules)?),
        _ => None,
    };
    let mut fds = vec![(object.as_raw_fd(), OBJECT_FD), (theirs.as_raw_fd(), SOCKET_FD)];
    fds.extend(rules.iter().map(|rules| (rules.as_raw_fd(), RULES_FD)));
    sys::hand_down_as(&mut command, &fds);
    if let Some(limit) = limits::original_open_files() {
        sys::limit_open_files(&mut command, limit);
    }
    let starting = starting();
    let child = command.spawn();
    drop(starting);
    Ok((ours, i32::try_from(child?.id()).unwrap_or(0)))
}

/// The path of a script for an interpreter that must not run it itself, if the loader ignores the object in spite of
/// the probe: that would be a second run, and without a sandbox.
fn without_slash(file: &Path) -> PathBuf {
    let mut path = file.as_os_str().as_bytes().to_vec();
    if let Some(slash) = path.iter().rposition(|byte| *byte == b'/') {
        path[slash] = STAND_IN;
    }
    PathBuf::from(OsString::from_vec(path))
}

/// Waits for an answer, two numbers of four bytes, and lets a server go on that somebody has stopped.
fn read_answer(socket: &mut UnixStream, server: i32) -> io::Result<(i32, i32)> {
    let (started, mut answer, mut got) = (Instant::now(), [[0; 4]; 2], 0);
    while got < answer.as_flattened().len() {
        match socket.read(&mut answer.as_flattened_mut()[got..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            // It has taken longer than NUDGE.
            Err(err) if err.kind() == io::ErrorKind::WouldBlock && started.elapsed() < PATIENCE => {
                if let Some(server) = pid(server) {
                    let _ = rustix::process::kill_process(server, Signal::CONT);
                }
            }
            Err(err) => return Err(err),
        }
    }
    Ok((i32::from_ne_bytes(answer[0]), i32::from_ne_bytes(answer[1])))
}

/// By place and state of the interpreter: whether its loader takes the object.
type Probes = HashMap<PathBuf, (Stamp, Result<(), String>)>;

/// Tries once in a process whether an interpreter's loader takes the object.
fn probe(
    exec: &Exec<'_>,
    interpreter: &Path,
    stamp: Stamp,
    variables: &Variables<'_>,
) -> Result<(), String> {
    static PROBES: OnceLock<Mutex<Probes>> = OnceLock::new();
    let mut probes =
        PROBES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, answer)) = probes.get(interpreter)
        && *known == stamp
    {
        return answer.clone();
    }
    let answer = match begin(exec, interpreter, variables, Role::Probe) {
        Ok((mut socket, child)) => {
            let greeting = read_answer(&mut socket, child);
            kill(child);
            greeting.map(|_| ()).map_err(|_| "its loader takes no object of ours".to_owned())
        }
        Err(err) => Err(format!("a probe of its interpreter failed: {err}")),
    };
    probes.insert(interpreter.to_owned(), (stamp, answer.clone()));
    answer
}

/// The object as a file that nobody can change.
fn object() -> io::Result<&'static OwnedFd> {
    static FILE: OnceLock<Result<OwnedFd, Errno>> = OnceLock::new();
    let make = || {
        if OBJECT.is_empty() {
            return Err(Errno::NOSYS);
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("task-pipeline", flags)?;
        let mut rest = OBJECT;
        while !rest.is_empty() {
            rest = &rest[rustix::io::write(&file, rest)?..];
        }
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(file)
    };
    FILE.get_or_init(make).as_ref().map_err(|errno| io::Error::from(*errno))
}
