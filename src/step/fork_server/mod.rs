//! Starts scripts by forking an interpreter that is loaded already: most of what a small step costs is the exec and
//! the loading of its shell.
//!
//! Once a worker has started a task's script twice in the plain way, it keeps a server for it: the interpreter
//! with the script's own arguments, and an object that the loader puts in. `preload.c` has that half: its constructor
//! runs after the loader and before `main`, and forks for every step. The child goes on into `main`. So it has the number,
//! the parent (`CLONE_PARENT`: it is a child of the worker's thread), the arguments and the executable that a plain start
//! would give it; its environment is put where the server's was, of the same number of variables.
//!
//! It is an optimisation and nothing else. Whatever is unusual leads to a plain start, which `-v` mentions once a task:
//! a static interpreter, one with another user's or more rights, one that a probe can't load the object into (the probe
//! runs `/dev/null`, never the script), somebody else's preloaded objects, a jobserver, an environment that is too large.
//! The interpreter is looked at before each step: one that was replaced gets a new server.
//!
//! A server ends when the worker's end of its socket closes, which also a killed runner's does. One that dies or doesn't
//! answer is killed, and so is the script that it may have started and not told of.

mod interpreter;
mod server;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::launcher::{Launch, Launcher, NotStarted, Spawn, Started};
use super::script::{Exec, Script};
use crate::attempt::Start;
use crate::error::{OrIo, Result};

use server::{Forked, Server};

/// Plain starts of a script before it gets a server: a server costs as much as one.
const PLAIN_STARTS: u32 = 2;

/// Servers of one worker; a pipeline rarely has more tasks at once.
pub const SERVERS: usize = 8;

/// Some script could not be started for want of processes or descriptors while there were servers: from then on there
/// are none in this process.
static IS_SCARCE: AtomicBool = AtomicBool::new(false);

/// Servers of all workers.
static MOST: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Further attempts to start a script then, and the pause before one that frees nothing itself.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Longest environment that is sent, in bytes, with the working directory. `preload.c` has room for so much.
const LONGEST: usize = 1 << 17;

/// Starts a worker's scripts.
pub(super) struct ForkServer {
    spawn: Spawn,
    /// Before a script gets a server.
    plain_starts: u32,
    /// The one that was used last is the last.
    servers: Vec<Server>,
    /// By task.
    known: HashMap<String, Known>,
    note: Option<String>,
}

/// What is known of a task's script.
struct Known {
    script: Arc<Script>,
    plain_starts: u32,
    /// It gets no server.
    is_plain: bool,
}

impl Launcher for ForkServer {
    fn launch(&mut self, exec: &Exec<'_>) -> Result<Result<Started, NotStarted>> {
        if IS_SCARCE.load(Ordering::Relaxed) {
            self.servers.clear();
        } else if exec.share.is_none()
            // That there is no process to be had may be the servers' own doing: the plain way tells.
            && let Ok(Some(started)) = self.fork(exec)
        {
            return Ok(Ok(started));
        }
        let mut started = self.spawn.launch(exec);
        for _ in 0..TRIES {
            if started.is_ok() || server::alive() == 0 {
                break;
            }
            // Servers take processes and descriptors that a run without them would have had. Those of other workers
            // end when these start their next script.
            IS_SCARCE.store(true, Ordering::Relaxed);
            if self.servers.is_empty() {
                std::thread::sleep(PAUSE);
            }
            self.servers.clear();
            started = self.spawn.launch(exec);
        }
        started
    }

    fn reset(&mut self) {
        self.servers.clear();
        self.spawn.reset();
    }

    fn take_note(&mut self) -> Option<String> {
        self.note.take()
    }
}

impl ForkServer {
    pub(super) fn new(launch: Launch) -> ForkServer {
        ForkServer {
            spawn: Spawn::default(),
            plain_starts: if launch == Launch::Fork { 0 } else { PLAIN_STARTS },
            servers: Vec::new(),
            known: HashMap::new(),
            note: None,
        }
    }

    /// `None`: it is to be started in the plain way.
    fn fork(&mut self, exec: &Exec<'_>) -> Result<Option<Started>> {
        if !self.may_fork(exec) {
            return Ok(None);
        }
        let variables = environment(exec);
        let Some(request) = request(exec, &variables) else { return Ok(None) };
        let Some(mut server) = self.take_server(exec, &variables, request.len()) else {
            return Ok(None);
        };
        let others: Vec<i32> = self.servers.iter().map(Server::pid).collect();
        match server.ask(&request, &others) {
            Ok(Forked::Child(leader)) => {
                self.servers.push(server);
                Ok(Some(Started { leader, start: Start::Fork }))
            }
            // As it would be of a plain start: our own trouble.
            Ok(Forked::NoFork(errno)) => {
                Err(io::Error::from(errno)).or_io("start", server.interpreter())
            }
            // The plain way finds out what is wrong, and says so.
            Ok(Forked::NoFolder) | Err(_) => Ok(None),
        }
    }

    /// Counts the starts of a script that has no server yet.
    fn may_fork(&mut self, exec: &Exec<'_>) -> bool {
        let new = || Known { script: Arc::clone(exec.script), plain_starts: 0, is_plain: false };
        let known = self.known.entry(exec.script.task.clone()).or_insert_with(new);
        if !Arc::ptr_eq(&known.script, exec.script) {
            *known = new();
        }
        if known.is_plain {
            return false;
        }
        let is_due = known.plain_starts >= self.plain_starts;
        known.plain_starts += u32::from(!is_due);
        is_due
    }

    /// The server of a script, or a new one.
    fn take_server(
        &mut self,
        exec: &Exec<'_>,
        variables: &Variables<'_>,
        bytes: usize,
    ) -> Option<Server> {
        // There may be another one for steps with more or fewer variables.
        let fits = |server: &Server| server.is_for(exec) && server.has_room(variables.len(), bytes);
        if let Some(n) = self.servers.iter().position(fits) {
            let server = self.servers.remove(n);
            if !server.is_within(exec.rules.as_ref()) {
                // The rules of a sandbox may name files that change from step to step: a server for each is no use.
                drop(server);
                self.give_up(exec, "its sandbox is another one for each step");
                return None;
            }
            if server.is_current() {
                return Some(server);
            }
        }
        if self.servers.len() >= SERVERS {
            self.servers.remove(0);
        }
        // Where descriptors are scarce, one after the other: a start takes several for a moment.
        static STARTS: Mutex<()> = Mutex::new(());
        let most = MOST.load(Ordering::Relaxed);
        let _alone =
            (most < usize::MAX).then(|| STARTS.lock().unwrap_or_else(PoisonError::into_inner));
        if server::alive() >= most {
            return None;
        }
        let started = match self.spawn.interpreter(exec) {
            Ok(interpreter) => interpreter::check(&interpreter, variables)
                .and_then(|()| Server::start(exec, interpreter, variables, bytes)),
            // The plain way says what is wrong.
            Err(_) => return None,
        };
        started.map_err(|why| self.give_up(exec, &why)).ok()
    }

    /// A script gets no server any more.
    fn give_up(&mut self, exec: &Exec<'_>, why: &str) {
        let task = &exec.script.task;
        self.note = Some(format!("task `{task}`: each step starts its interpreter anew: {why}"));
        if let Some(known) = self.known.get_mut(task) {
            known.is_plain = true;
        }
    }
}

/// Lets all workers together have so many servers: each takes a descriptor.
pub fn limit_servers(most: usize) {
    MOST.store(most, Ordering::Relaxed);
}

/// Names and values, sorted as a plain start would have them.
type Variables<'a> = BTreeMap<&'a OsStr, &'a OsStr>;

/// All of a script's environment.
fn environment<'a>(exec: &'a Exec<'_>) -> Variables<'a> {
    let mut variables: Variables<'a> = exec.base_env().collect();
    for (name, value) in &exec.vars {
        match value {
            Some(value) => variables.insert(OsStr::new(name), value),
            None => variables.remove(OsStr::new(name)),
        };
    }
    variables.extend(exec.labels.iter().map(|(key, value)| (OsStr::new(key), OsStr::new(value))));
    variables.extend(exec.columns.iter().map(|(key, path)| (OsStr::new(key), path.as_os_str())));
    variables
}

/// What a server is sent; `None` if that can't be said in this way.
fn request(exec: &Exec<'_>, variables: &Variables<'_>) -> Option<Vec<u8>> {
    let mut request = vec![0; 8];
    let mut add = |parts: [&[u8]; 3]| {
        parts.iter().for_each(|part| request.extend_from_slice(part));
        request.push(0);
        parts.iter().all(|part| !part.contains(&0))
    };
    let mut is_clean = add([exec.script.dir.as_bytes(), b"", b""]);
    for (name, value) in variables {
        is_clean &= add([name.as_bytes(), b"=", value.as_bytes()])
            && !name.is_empty()
            && !name.as_bytes().contains(&b'=');
    }
    let (bytes, count) = (request.len() - 8, u32::try_from(variables.len()).ok()?);
    if !is_clean || bytes > LONGEST {
        return None;
    }
    request[..4].copy_from_slice(&u32::try_from(bytes).ok()?.to_ne_bytes());
    request[4..8].copy_from_slice(&count.to_ne_bytes());
    Some(request)
}
