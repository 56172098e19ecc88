//! Starts scripts by forking an interpreter that is loaded already: most of what a small step costs is the exec and
//! the loading of its shell.
//!
//! Once a worker has started a task's script twice in the plain way, it keeps a server for it: the interpreter
//! with the script's own arguments, and an object that the loader puts in. `preload.c` has that half: its constructor
//! runs after the loader and before all others, and forks for every step. The child goes on into the constructors of its
//! libraries and `main`. So it has the number, the parent (`CLONE_PARENT`: it is a child of the worker's thread), the
//! arguments and the executable that a plain start would give it; its environment is put where the server's was, of the
//! same number of variables.
//!
//! It is an optimisation and nothing else. Whatever is unusual leads to a plain start, which `-v` mentions once a task:
//! a static interpreter, one with another user's or more rights, one that a probe can't load the object into (the probe
//! runs `/dev/null`, never the script), somebody else's preloaded objects, a jobserver, an environment that is too large.
//! The interpreter is looked at before each step: one that was replaced gets a new server.
//!
//! Worker, server and script take turns. Left to itself the kernel spreads them over the processors, and each turn wakes
//! another one, which on virtual ones costs more than the fork. So a server is bound to the processor that its worker is
//! on, and the script goes back to those of its worker before it does anything; but only while hardly any other program uses
//! the processors: beside others two workers stay on one, and the run takes longer. When others come, a bound server is
//! replaced, since nobody can tell what taskset had told it before.
//!
//! A server ends when the worker's end of its socket closes, which also a killed runner's does. One that dies or doesn't
//! answer is killed, and so is the script that it may have started and not told of.

mod interpreter;
mod neighbours;
mod server;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu};

use super::launcher::{Launch, Launcher, NotStarted, Spawn, Started};
use super::script::{Exec, Script};
use crate::attempt::Start;
use crate::error::{OrIo, Result};
use crate::order;
use crate::sys::limits;

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

/// One of so many processes that this user may have is a server at most. What a script wants to start itself nobody
/// starts again.
const PROCESSES_EACH: u64 = 64;

/// Further attempts to start a script then, and the pause before one that frees nothing itself.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// Longest environment that is sent, in bytes, with the working directory. `preload.c` has room for so much.
const LONGEST: usize = 1 << 17;

/// What comes first in a request, in bytes: two numbers and a set of processors.
const HEAD: usize = 8 + CpuSet::MAX_CPU / 8;

/// Starts a worker's scripts.
pub(super) struct ForkServer {
    spawn: Spawn,
    /// Before a script gets a server.
    plain_starts: u32,
    /// The one that was used last is the last.
    servers: Vec<Server>,
    /// Whether hardly any other program uses the processors.
    is_alone: fn() -> bool,
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
    /// Once it was to be forked.
    base: Option<BaseVariables>,
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
            is_alone: neighbours::is_alone,
            known: HashMap::new(),
            note: None,
        }
    }

    /// `None`: it is to be started in the plain way.
    fn fork(&mut self, exec: &Exec<'_>) -> Result<Option<Started>> {
        if !self.may_fork(exec) {
            return Ok(None);
        }
        let Some(known) = self.known.get_mut(&exec.script.task) else { return Ok(None) };
        let base = known.base.get_or_insert_with(|| BaseVariables::of(exec));
        let Some(mut request) = Request::of(exec, base) else { return Ok(None) };
        // Where a plain start would let the script run; only to be asked for if the server is bound.
        let own = if (self.is_alone)() { sched_getaffinity(None).ok() } else { None };
        let Some(mut server) = self.take_server(exec, &request, own.is_some()) else {
            return Ok(None);
        };
        if let Some(own) = own
            && server.bind(sched_getcpu())
        {
            request.let_go(&own);
        }
        let others: Vec<i32> = self.servers.iter().map(Server::pid).collect();
        match server.ask(&request.bytes, &others) {
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
        let task = &exec.script.task;
        let is_known = |known: &Known| Arc::ptr_eq(&known.script, exec.script);
        if !self.known.get(task).is_some_and(is_known) {
            let script = Arc::clone(exec.script);
            let new = Known { script, plain_starts: 0, is_plain: false, base: None };
            self.known.insert(task.clone(), new);
        }
        let Some(known) = self.known.get_mut(task) else { return false };
        if known.is_plain {
            return false;
        }
        let is_due = known.plain_starts >= self.plain_starts;
        known.plain_starts += u32::from(!is_due);
        is_due
    }

    /// The server of a script, or a new one. One that was bound to a processor only if it `may_be_bound`.
    fn take_server(
        &mut self,
        exec: &Exec<'_>,
        request: &Request,
        may_be_bound: bool,
    ) -> Option<Server> {
        // There may be another one for steps with more or fewer variables.
        let (count, bytes) = (request.variables, request.bytes.len());
        let fits = |server: &Server| server.is_for(exec) && server.has_room(count, bytes);
        if let Some(n) = self.servers.iter().position(fits) {
            let server = self.servers.remove(n);
            if !server.is_within(exec.rules.as_ref()) {
                // The rules of a sandbox may name files that change from step to step: a server for each is no use.
                drop(server);
                self.give_up(exec, "its sandbox is another one for each step");
                return None;
            }
            if server.is_current() && (may_be_bound || !server.is_bound()) {
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
        if server::alive() >= most.min(most_by_processes()) {
            return None;
        }
        let variables = environment(exec);
        let started = match self.spawn.interpreter(exec) {
            Ok(interpreter) => interpreter::check(&interpreter, &variables)
                .and_then(|()| Server::start(exec, interpreter, &variables, bytes)),
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

/// Servers of all workers, as far as the limit of processes goes.
fn most_by_processes() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    let most = || limits::processes().map_or(usize::MAX, |limit| (limit / PROCESSES_EACH) as usize);
    *MOST.get_or_init(most)
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

/// The variables of a script that are the same for all of its steps, sorted, each as it is sent: there are dozens, and the few
/// that a step has of its own are put between them.
struct BaseVariables {
    lines: Vec<(OsString, Vec<u8>)>,
    /// They can be sent.
    are_clean: bool,
}

impl BaseVariables {
    fn of(exec: &Exec<'_>) -> BaseVariables {
        let mut variables: Variables<'_> = exec.base_env().collect();
        for (name, _) in &exec.vars {
            variables.remove(OsStr::new(name));
        }
        let are_clean = variables.iter().all(|(name, value)| is_clean(name, value));
        let line = |(name, value): (&OsStr, &OsStr)| {
            let mut line = Vec::new();
            add_variable(&mut line, name, value);
            (name.to_owned(), line)
        };
        BaseVariables { lines: variables.into_iter().map(line).collect(), are_clean }
    }
}

/// What a server is sent.
struct Request {
    bytes: Vec<u8>,
    /// How many there are in it.
    variables: usize,
}

impl Request {
    /// `None` if that can't be said in this way.
    fn of(exec: &Exec<'_>, base: &BaseVariables) -> Option<Request> {
        let dir = exec.script.dir.as_bytes();
        let mut own: Vec<(&OsStr, &OsStr)> = Vec::new();
        let set = exec.vars.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
        own.extend(set.map(|(name, value)| (OsStr::new(*name), value.as_os_str())));
        own.extend(exec.labels.iter().map(|(key, value)| (OsStr::new(key), OsStr::new(value))));
        own.extend(exec.columns.iter().map(|(key, path)| (OsStr::new(key), path.as_os_str())));
        if !base.are_clean
            || dir.contains(&0)
            || !own.iter().all(|(name, value)| is_clean(name, value))
        {
            return None;
        }
        order::sort_by_key(&mut own, |(name, _)| *name);
        let mut bytes = vec![0; HEAD];
        bytes.extend_from_slice(dir);
        bytes.push(0);
        let mut variables = 0;
        let (mut base, mut own) = (base.lines.iter().peekable(), own.into_iter().peekable());
        while let Some((name, value)) = own.next() {
            // Of several of one name the last one counts.
            if own.peek().is_some_and(|(next, _)| *next == name) {
                continue;
            }
            while let Some((_, line)) = base.next_if(|(other, _)| **other < *name) {
                bytes.extend_from_slice(line);
                variables += 1;
            }
            base.next_if(|(other, _)| **other == *name);
            add_variable(&mut bytes, name, value);
            variables += 1;
        }
        for (_, line) in base {
            bytes.extend_from_slice(line);
            variables += 1;
        }
        let length = bytes.len() - HEAD;
        if length > LONGEST {
            return None;
        }
        bytes[..4].copy_from_slice(&u32::try_from(length).ok()?.to_ne_bytes());
        bytes[4..8].copy_from_slice(&u32::try_from(variables).ok()?.to_ne_bytes());
        Some(Request { bytes, variables })
    }

    /// Lets the child of a server that is bound run on these processors.
    fn let_go(&mut self, processors: &CpuSet) {
        let mut words = [0_u64; CpuSet::MAX_CPU / 64];
        for n in (0..CpuSet::MAX_CPU).filter(|n| processors.is_set(*n)) {
            words[n / 64] |= 1 << (n % 64);
        }
        for (place, word) in self.bytes[8..HEAD].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_ne_bytes());
        }
    }
}

/// Whether a variable can be told from others where a NUL ends each.
fn is_clean(name: &OsStr, value: &OsStr) -> bool {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    !name.is_empty() && !name.contains(&b'=') && !name.contains(&0) && !value.contains(&0)
}

fn add_variable(bytes: &mut Vec<u8>, name: &OsStr, value: &OsStr) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(0);
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::path::Path;

    use rustix::thread::sched_setaffinity;

    use super::*;
    use crate::attempt::var;
    use crate::labels::Labels;
    use crate::step::proc::pid;
    use crate::sys;

    fn processors(process: i32) -> Vec<usize> {
        let set = sched_getaffinity(pid(process)).unwrap();
        (0..CpuSet::MAX_CPU).filter(|n| set.is_set(*n)).collect()
    }

    /// Lets this thread, and what it starts, run on these.
    fn run_on(processors: impl IntoIterator<Item = usize>) {
        let mut set = CpuSet::new();
        processors.into_iter().for_each(|processor| set.set(processor));
        sched_setaffinity(None, &set).unwrap();
    }

    /// Forks a script, and gives the processors that its server and it may run on.
    fn fork(servers: &mut ForkServer, script: &Arc<Script>, dir: &Path) -> (Vec<usize>, String) {
        // A server keeps the one that it was started with.
        let log = File::options().append(true).create(true).open(dir.join("log")).unwrap();
        log.set_len(0).unwrap();
        let mut vars = [const { ("UNSET", None) }; 12];
        vars[0] = (var::TASK_NAME, Some("look".into()));
        let exec = Exec {
            script,
            file: dir.join("look"),
            log: log.as_fd(),
            share: None,
            rules: None,
            vars,
            labels: &Labels::default(),
            columns: &[],
        };
        let started = servers.fork(&exec).unwrap().expect("it is forked");
        let server = processors(servers.servers[0].pid());
        sys::reap(started.leader).unwrap();
        (server, fs::read_to_string(dir.join("log")).unwrap())
    }

    #[test]
    fn a_server_is_bound_while_nobody_else_is_there_and_its_scripts_are_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("look"), "exec grep ^Cpus_allowed: /proc/self/status").unwrap();
        let script = Arc::new(Script::new("look", &["/bin/sh"], b"", dir.path()));
        let allowed = || {
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            let line = status.lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap();
            format!("{line}\n")
        };

        let all = processors(0);
        let mut servers = ForkServer::new(Launch::Fork);
        for is_alone in [false, true, true, false, true] {
            servers.is_alone = if is_alone { || true } else { || false };
            let (server, script) = fork(&mut servers, &script, dir.path());
            assert_eq!(server.len(), if is_alone { 1 } else { all.len() });
            assert_eq!(script, allowed());
        }

        // A bound server's script follows its worker when taskset moves that in the middle of a run.
        run_on(all[..1].iter().copied());
        assert_eq!(fork(&mut servers, &script, dir.path()).1, allowed());
        run_on(all.iter().copied());
        assert_eq!(fork(&mut servers, &script, dir.path()).1, allowed());
    }
}
