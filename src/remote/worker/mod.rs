//! A worker: takes attempts from the coordinator that it connects to, and makes them as a run makes those of its own
//! machine. It knows neither tasks nor the database.
//!
//! It lives as long as its connection. If that breaks, or nothing is heard for [`LEASE`], it ends its scripts and goes:
//! nobody would take their results, and by the time that the coordinator gives it up and has the steps run elsewhere, they
//! are over. Trouble of its own, a full disk say, is the end of the worker and not of the run: it says why, and the steps
//! go to others.

mod cache;
mod check;
mod folder;

use std::collections::HashSet;
use std::io::{self, BufRead as _, Read, Seek as _, SeekFrom, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use signal_hook::iterator::Signals;

use crate::attempt::Outcome;
use crate::error::{Error, OrIo as _, Result};
use crate::exec::{Executor, Ground, Home, HomeFile, Local, Ran, Site as _};
use crate::ids::StepId;
use crate::jobserver::Jobserver;
use crate::object::{ObjectHash, to_hex};
use crate::proof::Proof;
use crate::step::{self, Attempt, Launch, Made, Running, SERVERS, Script, limit_servers};
use crate::stop::{Stop, StopSwitch};
use crate::store::Store;
use crate::sys::{limits, memory, proc};
use crate::text::as_path;
use crate::tokens::Tokens;

use cache::Cache;
use check::Objection;
use folder::{WorkerFolder, start_heir};

pub use folder::sweep;

use super::door;
use super::line::{Inbox, Line, NewLine, Trouble};
use super::link::objects_of;
use super::secret::{LENGTH, Secret, Side, nonce};
use super::wire::{
    self, Frame, GREETING, Handover, Hello, INLINE, INLINE_TOGETHER, Inlined, Order, PIECE, Terms,
    WireMessage,
};

/// Without a word of the coordinator for so long, a worker ends its scripts.
const LEASE: Duration = Duration::from_secs(20);

/// A script that was ended by a signal may have been ended along with this worker, which then hears of it within so long.
const TOLL: Duration = Duration::from_millis(300);

/// So long before its walltime is over, or a fifth of that, a worker takes no more attempts.
const MARGIN: Duration = Duration::from_secs(120);

/// How often it is looked whether the lease is over.
const LOOK: Duration = Duration::from_secs(1);

/// A manifest that is another one than the run's is looked at again for so long: NFS believes what it has read for a minute
/// at most, unless it is told otherwise.
const STALE: Duration = Duration::from_secs(60);

/// Until it is welcome, each step may take so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// Before it tries again.
const PAUSE: Duration = Duration::from_millis(100);

/// Descriptors of a slot whose script runs, see `run`.
const FILES_EACH: u64 = 16;

/// Descriptors of a worker besides those of its slots.
const FILES: u64 = 48;

/// What a worker is told on its command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerOptions {
    /// `HOST:PORT`
    pub connect: String,
    /// Name of the run.
    pub run: String,
    /// Which of the run's workers it is, from 1.
    pub number: usize,
    /// Scripts at once.
    pub slots: usize,
    /// Bytes of objects that it keeps at most, besides those in use.
    pub cache: u64,
    /// After so long it is ended from outside.
    pub walltime: Option<Duration>,
    /// When the connection was lost, it tries for so long to connect anew.
    pub reconnect: Duration,
}

/// Connects, and makes attempts until the coordinator has no more. The secret is the first line of standard input.
///
/// # Errors
/// [`Error::Unavailable`] if it is not welcome, or if the connection breaks; [`Error::Io`] if it can't make its folder.
pub fn work(options: &WorkerOptions) -> Result<()> {
    let begun = Instant::now();
    let secret = read_secret()?;
    let files = FILES + (options.slots as u64 + 1) * (FILES_EACH + SERVERS as u64);
    let files = limits::raise_open_files(files).or_system("raise the limit of open files")?;
    limit_servers(usize::try_from(files / 2).unwrap_or(usize::MAX));
    let doorbell = Arc::new(Doorbell::default());
    let (stream, terms) = connect(options, &secret, PATIENCE, &doorbell)?;
    let folder = WorkerFolder::make()?;
    let cache = Arc::new(Cache::new(options.cache));
    let store = Arc::new(Store::open_private(&folder.path, Arc::clone(&cache) as Arc<dyn Proof>)?);
    leave_on_signals(&doorbell, &folder.path)?;
    let end = options
        .walltime
        .and_then(|walltime| begun.checked_add(walltime.saturating_sub(MARGIN.min(walltime / 5))));
    let mut connection = Connection { stream, terms, scratch: folder.scratch(1)?, end };
    for nth in 2.. {
        let why = match connection.serve(options.slots, &store, &cache, &doorbell)? {
            Left::Dismissed => return Ok(()),
            Left::ForGood(why) => return Err(Error::Unavailable(why)),
            Left::Lost(why) => why,
        };
        if options.reconnect.is_zero() {
            return Err(Error::Unavailable(why));
        }
        std::thread::sleep(PAUSE);
        let (stream, terms) = connect(options, &secret, options.reconnect, &doorbell)?;
        connection = Connection { stream, terms, scratch: folder.scratch(nth)?, end };
    }
    Ok(())
}

/// How a connection ended.
enum Left {
    /// The coordinator needs this worker no more.
    Dismissed,
    /// This worker can't go on.
    ForGood(String),
    /// It may be had again.
    Lost(String),
}

/// A connection on which both have said hello.
struct Connection {
    stream: TcpStream,
    terms: Terms,
    /// For the scripts of this connection.
    scratch: PathBuf,
    /// When this worker takes no more attempts.
    end: Option<Instant>,
}

impl Connection {
    /// Makes attempts until it ends, and then ends all scripts.
    fn serve(
        self,
        slots: usize,
        store: &Arc<Store>,
        cache: &Arc<Cache>,
        doorbell: &Arc<Doorbell>,
    ) -> Result<Left> {
        let Connection { stream, terms, scratch, end } = self;
        let launch = [Launch::Auto, Launch::Fork, Launch::Spawn];
        let launch = launch.into_iter().find(|launch| launch.as_str() == terms.launch);
        let stop = Arc::new(StopSwitch::default());
        let NewLine { line, senders, inboxes } =
            Line::open(stream, slots, &stop).or_system("talk to the coordinator")?;
        let printing = scratch.clone();
        // Its slots are the tokens.
        let jobserver = match terms.jobserver {
            true => Some(Jobserver::new(slots).or_system("make a pipe")?),
            false => None,
        };
        let share = jobserver.as_ref().map(|jobserver| jobserver.share(slots)).transpose();
        let share = share.or_system("make a jobserver")?.map(Arc::new);
        let tokens = Tokens::new(jobserver.as_ref().map(Jobserver::tokens), Arc::clone(&stop))?;
        let local = Local::new(Ground {
            store: Arc::clone(store),
            stop: Arc::clone(&stop),
            scratch,
            executors: slots,
            share,
            wants_jobserver: terms.jobserver,
            launch: launch.unwrap_or_default(),
            tell: Arc::new(|_| {}),
            home: Home {
                manifest: as_path(&terms.manifest).to_owned(),
                hash: terms.hash,
                files: Arc::default(),
            },
        })?;
        let bench = Arc::new(Bench {
            store: Arc::clone(store),
            cache: Arc::clone(cache),
            line: Arc::clone(&line),
            tokens,
            doorbell: Arc::clone(doorbell),
            scripts: Mutex::default(),
            trouble: OnceLock::new(),
        });
        let mut threads = Vec::new();
        for (executor, inbox) in local.grow()?.into_iter().zip(inboxes) {
            let bench = Arc::clone(&bench);
            let thread = std::thread::Builder::new().name("slot".to_owned());
            let thread = thread.spawn(move || bench.serve(executor, &inbox));
            threads.push(thread.or_system("start a thread")?);
        }
        watch(&line, &stop, end)?;
        doorbell.lead_to(&line);
        let mut is_dismissed = false;
        let why = line.read(senders, |Frame { message, .. }| match message {
            WireMessage::Beat => Ok(()),
            WireMessage::Print { question, step, attempt, from } => {
                print(&line, &printing, question, (step, attempt, from));
                Ok(())
            }
            WireMessage::Files(files) => get_ready(&bench, terms.clone(), files),
            WireMessage::Script { number, script } => bench.learn(number, script),
            WireMessage::Stop(how) => {
                stop.advance(how);
                Ok(())
            }
            WireMessage::Bye => {
                is_dismissed = true;
                Err("it is not needed any more".to_owned())
            }
            _ => Err("the coordinator said what no coordinator says".to_owned()),
        });
        stop.advance(Stop::Kill);
        for thread in threads {
            let _ = thread.join();
        }
        drop(local);
        Ok(match bench.trouble.get() {
            _ if is_dismissed => Left::Dismissed,
            Some(why) => Left::ForGood(why.clone()),
            None if doorbell.has_rung() => Left::ForGood(why),
            None => Left::Lost(why),
        })
    }
}

/// Says that this worker is ready, or leaves, when it has been found out whether all is here that has to be. On a thread of
/// its own: that may take long, and meanwhile both sides beat.
fn get_ready(bench: &Arc<Bench>, terms: Terms, files: Arc<Vec<HomeFile>>) -> Result<(), String> {
    let bench = Arc::clone(bench);
    let look = move || {
        let begun = Instant::now();
        let mut has_told = false;
        loop {
            let why = match check::check(&terms, &files, &host()) {
                // If it can't be sent, the connection's end tells why.
                Ok(()) => return drop(bench.line.send(&WireMessage::Ready, &[])),
                Err(Objection::Stale(why)) if begun.elapsed() < STALE => why,
                Err(Objection::Stale(why) | Objection::Other(why)) => {
                    return leave(&bench.line, bench.trouble.get_or_init(|| why), true);
                }
            };
            if !std::mem::replace(&mut has_told, true) {
                let text = format!("{why}; it looks again for {} s", STALE.as_secs());
                let _ = bench.line.send(&WireMessage::Note { text }, &[]);
            }
            if bench.line.end().is_some() {
                return;
            }
            std::thread::sleep(LOOK);
        }
    };
    let thread = std::thread::Builder::new().name("check".to_owned()).spawn(look);
    thread.map(drop).map_err(|err| format!("no thread could be started ({err})"))
}

/// Tells what the script of an attempt has printed from a byte on. On a thread of its own: who reads must not wait.
fn print(line: &Arc<Line>, scratch: &Path, question: u64, about: (StepId, i64, u64)) {
    let (line, scratch) = (Arc::clone(line), scratch.to_owned());
    let tell = move || {
        let bytes = printed(&scratch, about).unwrap_or_default();
        let _ = line.send(&WireMessage::Printed { question }, &bytes);
    };
    // Without a thread the one who asks is answered by nothing, and asks again.
    let _ = std::thread::Builder::new().name("log".to_owned()).spawn(tell);
}

/// `None`: its script doesn't run.
fn printed(scratch: &Path, (step, attempt, from): (StepId, i64, u64)) -> Option<Vec<u8>> {
    let is_it = |one: &Running| one.step == step.0 && one.attempt == attempt;
    let running = step::running(std::process::id(), scratch).into_iter().find(is_it)?;
    let mut log = std::fs::File::open(&running.log).ok()?;
    log.seek(SeekFrom::Start(from)).ok()?;
    let mut bytes = Vec::new();
    log.take(PIECE as u64).read_to_end(&mut bytes).ok()?;
    // Otherwise it may be the log of the next step.
    running.is_alive().then_some(bytes)
}

/// Says that this worker can't go on, and ends the connection. It `is_trouble` if its machine is to blame.
fn leave(line: &Line, why: &str, is_trouble: bool) {
    let _ = line.send(&WireMessage::Leaving { why: why.to_owned(), is_trouble }, &[]);
    line.break_off(why);
}

/// Where a signal finds the present connection.
#[derive(Default)]
struct Doorbell {
    line: Mutex<Weak<Line>>,
    has_rung: AtomicBool,
    rung: Condvar,
}

impl Doorbell {
    fn lead_to(&self, line: &Arc<Line>) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(line);
        if self.has_rung() {
            line.break_off("it was told to end");
        }
    }

    fn has_rung(&self) -> bool {
        self.has_rung.load(Ordering::Acquire)
    }

    /// Whether it has rung, or rings soon.
    fn rings_within(&self, patience: Duration) -> bool {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.rung.wait_timeout_while(line, patience, |_| !self.has_rung()));
        self.has_rung()
    }

    fn ring(&self, why: &str) {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_rung.store(true, Ordering::Release);
        let found = line.upgrade();
        drop(line);
        self.rung.notify_all();
        if let Some(line) = found {
            leave(&line, why, false);
        }
    }
}

/// Whether a script was ended as a batch system, or a machine that goes down, ends processes; as its shell tells it too.
fn is_by_signal(outcome: &Outcome) -> bool {
    let signals = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGKILL];
    match outcome {
        Outcome::Signalled(signal) => signals.contains(signal),
        Outcome::Exited(code) => signals.iter().any(|signal| 128 + signal == *code),
        _ => false,
    }
}

fn read_secret() -> Result<Secret> {
    let mut line = String::new();
    io::stdin().lock().take(1024).read_line(&mut line).or_system("read the secret")?;
    Secret::parse(&line).ok_or_else(|| {
        Error::Usage(
            "the first line of standard input is not the secret of a run; `run --on` starts workers by itself"
                .to_owned(),
        )
    })
}

/// Why there is no connection.
enum Refusal {
    /// It may be another time: somebody who floods the port can have us pushed out.
    Dropped(io::Error),
    ForGood(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Dropped(error)
    }
}

/// Finds the coordinator, and makes sure of each other. A signal ends the search.
fn connect(
    options: &WorkerOptions,
    secret: &Secret,
    patience: Duration,
    doorbell: &Doorbell,
) -> Result<(TcpStream, Terms)> {
    let begun = Instant::now();
    let why = loop {
        match connect_once(options, secret) {
            Ok(connected) => return Ok(connected),
            Err(Refusal::Dropped(_)) if begun.elapsed() < patience && !doorbell.has_rung() => {
                std::thread::sleep(PAUSE);
            }
            Err(Refusal::Dropped(err)) => break err.to_string(),
            Err(Refusal::ForGood(why)) => break why,
        }
    };
    Err(Error::Unavailable(format!("could not connect to the run at {}: {why}", options.connect)))
}

fn connect_once(options: &WorkerOptions, secret: &Secret) -> Result<(TcpStream, Terms), Refusal> {
    let for_good = |why: &dyn std::fmt::Display| Refusal::ForGood(why.to_string());
    let mut addresses = options.connect.to_socket_addrs().map_err(|err| for_good(&err))?;
    let mut tried = None;
    let stream = addresses.find_map(|address| {
        TcpStream::connect_timeout(&address, PATIENCE).map_err(|err| tried = Some(err)).ok()
    });
    let mut stream = match (stream, tried) {
        (Some(stream), _) => stream,
        // Nobody listens there any more; or, after a partition, not yet.
        (None, Some(err)) if options.reconnect.is_zero() => return Err(for_good(&err)),
        (None, Some(err)) => return Err(Refusal::Dropped(err)),
        (None, None) => return Err(for_good(&"it has no address")),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut greeting = [0; GREETING];
    stream.read_exact(&mut greeting)?;
    let (preamble, theirs) = greeting.split_at(GREETING - LENGTH);
    match wire::version_of(preamble) {
        Some(wire::VERSION) => {}
        Some(other) => {
            return Err(for_good(&format_args!(
                "it speaks version {other} of the protocol, and this is version {}; install the same task-pipeline on \
                 both machines",
                wire::VERSION
            )));
        }
        None => return Err(for_good(&"what answers there is no task-pipeline")),
    }
    let ours = nonce().map_err(|err| for_good(&err))?;
    let ours = to_hex(&ours);
    let hello = Hello {
        tool: env!("CARGO_PKG_VERSION").to_owned(),
        run: options.run.clone(),
        number: options.number,
        slots: options.slots,
        host: host(),
        pid: std::process::id(),
        job: std::env::var("SLURM_JOB_ID").ok(),
        memory: memory::available(),
        nonce: ours.clone(),
    };
    let said = serde_json::to_vec(&hello).map_err(|err| for_good(&err))?;
    stream.write_all(&door::answer(secret, theirs, &said))?;
    match wire::read(&mut stream, 1 << 20)?.message {
        WireMessage::Refused { why } => Err(for_good(&why)),
        WireMessage::Welcome { proof, terms } => {
            // Else somebody else listens at that port by now, and would have us run scripts of theirs.
            let wanted = to_hex(&secret.prove(Side::Coordinator, ours.as_bytes(), &said));
            match proof == wanted {
                true => Ok((stream, terms)),
                false => Err(for_good(&"what answers there doesn't know the secret of the run")),
            }
        }
        _ => Err(for_good(&"what answers there is no task-pipeline")),
    }
}

/// What this machine is called, by Slurm if it is one of its nodes.
fn host() -> String {
    match std::env::var("SLURMD_NODENAME") {
        Ok(node) if !node.is_empty() => node,
        _ => proc::kernel("hostname"),
    }
}

/// Ends the scripts when nothing was heard of the coordinator for too long; and takes no more at the `end`.
fn watch(line: &Arc<Line>, stop: &Arc<StopSwitch>, end: Option<Instant>) -> Result<()> {
    let (line, stop) = (Arc::downgrade(line), Arc::clone(stop));
    let thread = std::thread::Builder::new().name("lease".to_owned());
    let mut end = end;
    let watch = move || {
        loop {
            std::thread::sleep(LOOK);
            let Some(line) = line.upgrade() else { return };
            if line.end().is_some() {
                return;
            }
            if line.silence() >= LEASE {
                stop.advance(Stop::Kill);
                line.break_off(&format!("nothing was heard of the run for {} s", LEASE.as_secs()));
                return;
            }
            if end.take_if(|end| *end <= Instant::now()).is_some() {
                let why = "its walltime is almost over".to_owned();
                let _ = line.send(&WireMessage::Drain { why }, &[]);
            }
        }
    };
    thread.spawn(watch).map(drop).or_system("start a thread")
}

/// A batch system ends a worker by a signal. One that can't be caught is for the worker's heir.
fn leave_on_signals(doorbell: &Arc<Doorbell>, folder: &Path) -> Result<()> {
    let (doorbell, folder) = (Arc::clone(doorbell), folder.to_owned());
    let signals = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
    let mut signals = Signals::new(signals).or_system("listen for signals")?;
    let listen = move || {
        // It goes when we do.
        let _heir = start_heir(&folder);
        for signal in signals.forever() {
            doorbell.ring(&format!("it was sent signal {signal}"));
        }
    };
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(listen).map(drop).or_system("start a thread")
}

/// What the slots of a worker share.
struct Bench {
    store: Arc<Store>,
    cache: Arc<Cache>,
    line: Arc<Line>,
    tokens: Tokens,
    doorbell: Arc<Doorbell>,
    scripts: Mutex<Vec<Arc<Script>>>,
    /// Why this worker can't go on.
    trouble: OnceLock<String>,
}

/// Objects that an attempt needs, which are not removed as long as this lives.
struct Pins<'a> {
    cache: &'a Cache,
    objects: Vec<ObjectHash>,
}

impl Drop for Pins<'_> {
    fn drop(&mut self) {
        self.cache.unpin(&self.objects);
    }
}

impl Bench {
    fn learn(&self, number: usize, script: Script) -> Result<(), String> {
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        if scripts.len() != number {
            return Err("the coordinator left out a script".to_owned());
        }
        scripts.push(Arc::new(script));
        Ok(())
    }

    /// Makes attempts until the connection ends.
    fn serve(&self, mut executor: Box<dyn Executor>, inbox: &Inbox) {
        while let Some(frame) = inbox.next() {
            // Anything else belongs to an attempt that was given up.
            let WireMessage::Attempt(order) = frame.message else { continue };
            let (slot, ticket) = (order.slot, order.ticket);
            let done = self.attempt(&mut *executor, inbox, order, &frame.bytes);
            let why = match done.and_then(|()| Ok(self.cache.shrink(&self.store)?)) {
                Ok(()) => continue,
                Err(Trouble::Lost(_)) => return,
                // The coordinator has said why to the user.
                Err(Trouble::GivenUp) => {
                    let _ = self.line.send(&WireMessage::Cancelled { slot, ticket }, &[]);
                    continue;
                }
                Err(Trouble::Ours(error)) => error.to_string(),
            };
            let why = self.trouble.get_or_init(|| why);
            return leave(&self.line, why, true);
        }
    }

    fn attempt(
        &self,
        executor: &mut dyn Executor,
        inbox: &Inbox,
        order: Order,
        bytes: &[u8],
    ) -> Result<(), Trouble> {
        let Order { slot, ticket, script, items, cpus, side, inline } = order;
        let about = (slot, ticket);
        let script =
            self.scripts.lock().unwrap_or_else(PoisonError::into_inner).get(script).cloned();
        let Some(script) = script else {
            return Err(Trouble::Lost(self.line.break_off("a script was never sent")));
        };
        let mut attempt = Attempt { items, cpus, side, script };
        self.take_inline(&inline, bytes)?;
        let objects: HashSet<ObjectHash> = objects_of(&attempt).collect();
        let mut pins = Pins { cache: &self.cache, objects: Vec::new() };
        self.fetch(inbox, about, objects.into_iter().collect(), &mut pins)?;
        let mut has_repeated = false;
        let ran = loop {
            let Some(token) = self.tokens.take(cpus) else { break Ran::Cancelled(Vec::new()) };
            attempt.cpus = token.cpus();
            let mut token = Some(token);
            // How it ended is told with what came of it: until then it may turn out that this machine's disk was full, which
            // is no failure of the script.
            let ran = executor.run(&attempt, &mut |_| drop(token.take()));
            match ran {
                // The copy here is worth nothing any more, and the coordinator has another.
                Err(Error::Damaged { object, .. }) if !has_repeated => {
                    has_repeated = true;
                    self.remove(&object)?;
                    pins.objects.retain(|pinned| *pinned != object);
                    self.fetch(inbox, about, vec![object], &mut pins)?;
                }
                ran => break ran?,
            }
        };
        match ran {
            // Who ends a job ends all its processes at once: then it is not the script that has failed.
            Ran::Over(made) if self.were_ended_with_us(&made) => {
                // Whoever heard the signal says so, and ends the connection.
                Err(Trouble::Lost("it was told to end".to_owned()))
            }
            Ran::Over(made) => self.hand_in(inbox, about, made),
            Ran::Cancelled(_) | Ran::Lost(_) => {
                self.line.send(&WireMessage::Cancelled { slot, ticket }, &[])
            }
        }
    }

    fn were_ended_with_us(&self, made: &[Made]) -> bool {
        let outcomes = || made.iter().map(|(report, _)| &report.record.outcome);
        if outcomes().all(Outcome::is_ok) {
            return false;
        }
        let patience = if outcomes().any(is_by_signal) { TOLL } else { Duration::ZERO };
        self.doorbell.rings_within(patience)
    }

    fn remove(&self, object: &ObjectHash) -> Result<()> {
        self.cache.forget(&self.store, object);
        let path = self.store.path(object);
        match std::fs::remove_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.or_io("remove a damaged object,", path),
        }
    }

    fn take_inline(&self, inline: &[Inlined], mut bytes: &[u8]) -> Result<(), Trouble> {
        for &Inlined { object, size } in inline {
            let split = usize::try_from(size).ok().and_then(|size| bytes.split_at_checked(size));
            let (content, rest) = split.unwrap_or((bytes, &[]));
            bytes = rest;
            let placed = self.store.put(content)?;
            if placed.hash != object {
                let why = format!("object {object} came with other bytes than its own");
                return Err(Trouble::Lost(self.line.break_off(&why)));
            }
            self.cache.keep(&self.store, &placed);
        }
        Ok(())
    }

    /// Gets what is not here yet.
    fn fetch(
        &self,
        inbox: &Inbox,
        (slot, ticket): (usize, u64),
        mut left: Vec<ObjectHash>,
        pins: &mut Pins<'_>,
    ) -> Result<(), Trouble> {
        loop {
            let lacking = self.cache.pin(&mut left, &mut pins.objects);
            if lacking.is_empty() {
                return Ok(());
            }
            let objects = lacking.clone();
            let asked = self.line.send(&WireMessage::Need { slot, ticket, objects }, &[]);
            if let Err(trouble) = asked {
                self.cache.give_up(&lacking);
                return Err(trouble);
            }
            for (n, object) in lacking.iter().enumerate() {
                match inbox.object((slot, ticket), *object, &self.store) {
                    Ok(placed) => {
                        self.cache.add(&self.store, &placed);
                        pins.objects.push(*object);
                    }
                    Err(trouble) => {
                        self.cache.give_up(&lacking[n..]);
                        return Err(trouble);
                    }
                }
            }
        }
    }

    /// Tells what came of an attempt, and sends what the coordinator lacks of it.
    fn hand_in(
        &self,
        inbox: &Inbox,
        (slot, ticket): (usize, u64),
        made: Vec<Made>,
    ) -> Result<(), Trouble> {
        let mut pins = Pins { cache: &self.cache, objects: Vec::new() };
        let (mut reports, mut named) = (Vec::new(), Vec::new());
        for (mut report, placed) in made {
            for object in std::mem::take(&mut report.damaged_inputs) {
                self.remove(&object)?;
            }
            for placed in placed {
                if !named.iter().any(|one: &Inlined| one.object == placed.hash) {
                    self.cache.keep(&self.store, &placed);
                    self.cache.pin(&mut vec![placed.hash], &mut pins.objects);
                    named.push(Inlined { object: placed.hash, size: placed.size });
                }
            }
            reports.push(report);
        }
        let (mut inline, mut offered, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        for one in named {
            let is_small =
                one.size <= INLINE && bytes.len() as u64 + one.size <= INLINE_TOGETHER as u64;
            let content = match is_small {
                true => self.store.read_small(&one.object, INLINE)?,
                false => None,
            };
            match content {
                Some(content) => {
                    bytes.extend(content);
                    inline.push(one);
                }
                None => offered.push(one),
            }
        }
        let may_be_asked = !offered.is_empty();
        let ending = Handover { slot, ticket, reports, inline, offered };
        self.line.send(&WireMessage::Ended(ending), &bytes)?;
        if !may_be_asked {
            return Ok(());
        }
        let WireMessage::Need { objects, .. } = inbox.about((slot, ticket))?.message else {
            return Err(Trouble::Lost(self.line.break_off("the coordinator asked for nothing")));
        };
        for object in objects {
            if !pins.objects.contains(&object) {
                let why = "the coordinator asked for an object that was not offered";
                return Err(Trouble::Lost(self.line.break_off(why)));
            }
            let file = self.store.open_object(&object)?;
            self.line.send_file((slot, ticket), file, &self.store)?;
        }
        Ok(())
    }
}
