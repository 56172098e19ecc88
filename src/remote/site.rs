//! A run's place on other machines: the door, the workers, and an executor for each of their slots.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::attempt::Outcome;
use crate::error::{Error, OrIo as _, Result};
use crate::exec::{Engaged, Executor, Ground, Local, Needs, Ran, Site};
use crate::step::Attempt;
use crate::sys::{memory, proc};

use super::desk::{self, Desk};
use super::door::{self, Door};
use super::fleet::{self, Crew};
use super::hub::{FleetEvent, Hub};
use super::listen::Listen;
use super::orders::Orders;
use super::places::{Berth, Booking, Places, Room};
use super::processes::Processes;
use super::secret::Secret;
use super::slurm::{Pilots, RECONNECT, Slurm, SlurmOptions};
use super::wire::Terms;
use super::workers::{StartedBy, Workers};

/// Descriptors that a run needs for workers, besides two for each.
pub const FILES: u64 = door::MOST as u64 + desk::FILES + 16;

/// What the command line says of workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteOptions {
    /// `--on`
    pub workers: Workers,
    /// Scripts at once on this machine, besides.
    pub local: usize,
    /// `--worker-cache`, bytes.
    pub cache: u64,
    /// `--listen`
    pub listen: Option<Listen>,
    /// For workers that are jobs of Slurm.
    pub slurm: SlurmOptions,
}

impl RemoteOptions {
    /// Scripts at once, everywhere together.
    pub fn all_slots(&self) -> usize {
        self.local + self.workers.all_slots()
    }

    /// Scripts at once of one worker, or of this machine, whichever has more.
    pub fn most_slots(&self) -> usize {
        self.local.max(self.workers.most_slots())
    }

    /// Workers, and this machine if it makes attempts too.
    pub fn machines(&self) -> usize {
        self.workers.count() + usize::from(self.local > 0)
    }
}

/// Other machines, and this one if it was asked for too.
pub struct Remote {
    hub: Arc<Hub>,
    executors: usize,
    fleet: Option<JoinHandle<()>>,
    door: Option<Door>,
    /// Where others ask about the workers.
    desk: Option<Desk>,
    /// Stops the scripts of this machine.
    local: Option<Local>,
}

impl Remote {
    /// Opens the door, and starts the workers. `have` is how many there are of what `--have` names, and `memory` what
    /// `--memory` says, both of each worker.
    ///
    /// # Errors
    /// If nothing can be listened on, or the system refuses a thread.
    pub fn open(
        ground: Ground,
        options: &RemoteOptions,
        have: Vec<usize>,
        memory: Option<u64>,
    ) -> Result<Remote> {
        let (events, hear) = flume::unbounded();
        let stop = Arc::clone(&ground.stop);
        let places = Places::new(Arc::clone(&stop));
        let run = ground.scratch.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let terms = Terms {
            manifest: ground.home.manifest.as_os_str().as_bytes().to_vec(),
            hash: ground.home.hash,
            launch: ground.launch.as_str().to_owned(),
            jobserver: ground.wants_jobserver,
        };
        let hub = Arc::new(Hub {
            store: Arc::clone(&ground.store),
            stop: Arc::clone(&stop),
            places: Arc::clone(&places),
            secret: Secret::new()?,
            run,
            terms,
            files: Arc::clone(&ground.home.files),
            tell: Arc::clone(&ground.tell),
            events: events.clone(),
            have: have.clone(),
            memory,
            counts_workers: options.workers.by != StartedBy::Slurm,
            local: options.local,
            slots: options.workers.slots.clone(),
            tickets: AtomicU64::new(1),
            workers: AtomicI64::new(0),
            is_over: AtomicBool::new(false),
            hosts: match &options.workers.by {
                StartedBy::Ssh(hosts) => hosts.clone(),
                StartedBy::Local | StartedBy::Slurm => Vec::new(),
            },
            roster: Default::default(),
        });
        stop.listen(move || {
            let _ = events.send(FleetEvent::Changed);
        });
        let is_local = options.workers.by == StartedBy::Local;
        let own = if is_local { "127.0.0.1".to_owned() } else { proc::kernel("hostname") };
        let listen = options.listen.clone().unwrap_or_else(|| Listen::any(&own));
        let (listener, address) = listen.open(is_local)?;
        let receiver = Arc::clone(&hub);
        let receive = Box::new(move |guest| receiver.receive(guest));
        let door = Door::open(listener, hub.secret.clone(), receive)?;
        let desk = Desk::open(&ground.scratch, Arc::clone(&hub))?;
        let executors = ground.executors;
        let folder = ground.scratch.clone();
        let local = match options.local {
            0 => None,
            executors => {
                let local = Local::new(Ground { executors, ..ground })?;
                let here = |(number, executor)| Berth::Here { executor, number };
                let slots = local.grow()?.into_iter().enumerate().map(here).collect();
                let memory = memory.or_else(memory::available).unwrap_or(u64::MAX);
                places.add(Room { cpus: executors, memory, uses: have }, slots);
                Some(local)
            }
        };
        let mut crew = crew(&hub, options, address, folder);
        let keeper = Arc::clone(&hub);
        let thread = std::thread::Builder::new().name("fleet".to_owned());
        let fleet = thread.spawn(move || fleet::keep(&keeper, &hear, &mut *crew));
        let fleet = fleet.or_system("start a thread")?;
        Ok(Remote { hub, executors, fleet: Some(fleet), door: Some(door), desk, local })
    }
}

/// Who starts the workers, and how.
fn crew(
    hub: &Arc<Hub>,
    options: &RemoteOptions,
    address: String,
    folder: PathBuf,
) -> Box<dyn Crew> {
    let slots = options.workers.slots.clone();
    let posts = slots.iter().map(|_| Default::default()).collect();
    let (run, cache) = (hub.run.clone(), options.cache);
    let (walltime, reconnect) = (None, Duration::ZERO);
    let orders = Orders { address, run, slots, cache, walltime, reconnect };
    let hub = Arc::clone(hub);
    match &options.workers.by {
        StartedBy::Local => Box::new(Processes { hub, orders, hosts: Vec::new(), folder, posts }),
        StartedBy::Ssh(hosts) => {
            Box::new(Processes { hub, orders, hosts: hosts.clone(), folder, posts })
        }
        StartedBy::Slurm => {
            let walltime = Some(options.slurm.walltime);
            let orders = Orders { walltime, reconnect: RECONNECT, ..orders };
            let root = hub.store.root();
            let dir = root.parent().unwrap_or(root).to_owned();
            let slurm = options.slurm.clone();
            Box::new(Pilots::new(hub, orders, slurm, Slurm::default(), (dir, folder)))
        }
    }
}

impl Site for Remote {
    fn grow(&self) -> Result<flume::Receiver<Box<dyn Executor>>> {
        let (send, receive) = flume::unbounded();
        for _ in 0..self.executors {
            let seat = Seat { hub: Arc::clone(&self.hub), taken: None };
            let _ = send.send(Box::new(seat) as Box<dyn Executor>);
        }
        Ok(receive)
    }

    fn while_stopped(&self, _stop: &mut dyn FnMut()) -> Option<String> {
        Some(
            "a run with workers can't be suspended: they would give it up after 20 s; Ctrl-C stops it, and the next \
             run goes on"
                .to_owned(),
        )
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.hub.is_over.store(true, Ordering::Release);
        let _ = self.hub.events.send(FleetEvent::Changed);
        if let Some(fleet) = self.fleet.take() {
            let _ = fleet.join();
        }
        drop(self.door.take());
        drop(self.desk.take());
        self.hub.finish();
        drop(self.local.take());
    }
}

/// An executor that makes each attempt at a place that is free.
struct Seat {
    hub: Arc<Hub>,
    /// Where the next one is made.
    taken: Option<Booking>,
}

impl Executor for Seat {
    fn engage(&mut self, needs: &Needs) -> Result<Engaged> {
        self.let_go();
        let Some(taken) = self.hub.places.take(needs)? else { return Ok(Engaged::Nowhere) };
        let engaged = match &taken.slot {
            Berth::Here { number, .. } => Engaged::Here { lane: Some(number + 1) },
            Berth::There { link, number, .. } => Engaged::There {
                on: link.slot(*number),
                lane: self.hub.lane(link.number, *number),
                cpus: taken.cpus(),
            },
        };
        self.taken = Some(taken);
        Ok(engaged)
    }

    fn run(&mut self, attempt: &Attempt, ended: &mut dyn FnMut(&[Outcome])) -> Result<Ran> {
        let Some(taken) = &mut self.taken else {
            return Err(Error::Internal("an attempt without a place".to_owned()));
        };
        let ran = match &mut taken.slot {
            Berth::Here { executor, .. } => executor.run(attempt, ended),
            Berth::There { link, number, inbox } => {
                let about = (*number, self.hub.ticket());
                link.run(inbox, about, &self.hub.store, attempt, ended)
            }
        };
        self.let_go();
        ran
    }
}

impl Seat {
    fn let_go(&mut self) {
        if let Some(taken) = self.taken.take() {
            self.hub.places.give_back(taken);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.let_go();
    }
}
