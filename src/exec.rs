//! Where attempts are made: the seam between a run and the places that execute its steps. A slot of any place
//! is a thread of the run's pool that calls [`Executor::run`] and blocks until the attempt is over; places
//! differ in nothing else. Unaware of tasks, plans and the database.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::attempt::Outcome;
use crate::elsewhere::{WorkerNote, WorkerSlot};
use crate::error::{Error, Result};
use crate::jobserver::Share;
use crate::object::ObjectHash;
use crate::step::{self, Attempt, FULL, GRACE, Launch, Made, Scratch, Supervisor};
use crate::stop::StopSwitch;
use crate::store::Store;

/// What became of an attempt.
#[derive(Debug)]
pub enum Ran {
    /// It is over: what came of each of its steps. The guards keep the objects that the reports name from gc until their
    /// rows are committed.
    Over(Vec<Made>),
    /// The run is stopping; that says nothing about the step. What is known of the attempt is what was printed until then.
    Cancelled(Vec<Made>),
    /// The place is gone, and nobody knows how the attempt ended; a sentence that says why.
    Lost(String),
}

/// What a script takes of the machine that it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Processors, each of them a slot.
    pub cpus: usize,
    /// Bytes.
    pub memory: u64,
    /// Of what `--have` names: its place there, and how many.
    pub uses: Vec<(usize, usize)>,
}

/// Where an attempt will be made. A lane makes one attempt at a time; they count from 1 to the number of scripts at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Engaged {
    /// On this machine; in this lane of the site's, if it tells its slots apart.
    Here { lane: Option<usize> },
    /// By a worker, which has so many of the processors that were asked for.
    There { on: WorkerSlot, lane: usize, cpus: usize },
    /// Nowhere: the run is stopping.
    Nowhere,
}

/// Makes attempts, one after the other. Belongs to one thread at a time.
pub trait Executor: Send {
    /// Waits until the next attempt can be made, with all it needs.
    ///
    /// # Errors
    /// If it never can.
    fn engage(&mut self, _needs: &Needs) -> Result<Engaged> {
        Ok(Engaged::Here { lane: None })
    }

    /// Makes one attempt. `ended` is called exactly once, at the latest before this returns, when the script
    /// and all it started are over; it is told the outcome for each step as far as it is known then: of none if the
    /// script did not run to its end.
    ///
    /// # Errors
    /// Our own failure, which says nothing about the step.
    fn run(&mut self, attempt: &Attempt, ended: &mut dyn FnMut(&[Outcome])) -> Result<Ran>;
}

/// A place with executors. It observes the run's `StopSwitch` by itself.
pub trait Site: Send + Sync {
    /// Its executors, each as soon as it can be used. The channel closes when there will be no more.
    ///
    /// # Errors
    /// If the place can't be used at all.
    fn grow(&self) -> Result<flume::Receiver<Box<dyn Executor>>>;

    /// Calls `stop`, in which this process is stopped by Ctrl-Z until it goes on: scripts that a user would take for
    /// stopped are so meanwhile, too. A sentence instead, if it must not be stopped.
    fn while_stopped(&self, stop: &mut dyn FnMut()) -> Option<String> {
        stop();
        None
    }
}

/// What a place tells of itself.
#[derive(Debug, Clone)]
pub enum News {
    /// Worth knowing, and nobody's fault.
    Note(String),
    /// Possibly a mistake.
    Warning(String),
    /// A worker has come or gone.
    Worker(WorkerNote),
}

/// Where it tells it. Must not block.
pub type Tell = Arc<dyn Fn(News) + Send + Sync>;

/// The manifest of a run, for those who have to make sure that they have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Absolute.
    pub manifest: PathBuf,
    /// Of its bytes; `None`: it is no file, but a pipe say.
    pub hash: Option<ObjectHash>,
    /// The `files` of its tasks.
    pub files: Arc<Vec<HomeFile>>,
}

/// A file that scripts read where they find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HomeFile {
    /// Absolute.
    pub path: Vec<u8>,
    pub object: ObjectHash,
    /// Bytes.
    pub size: u64,
    /// When it was written last, nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// What a site is given of a run.
#[derive(Clone)]
pub struct Ground {
    pub store: Arc<Store>,
    pub stop: Arc<StopSwitch>,
    /// A folder that no other run ever had.
    pub scratch: PathBuf,
    /// Executors, all of which may be in use at once.
    pub executors: usize,
    /// Tokens for scripts that want them.
    pub share: Option<Arc<Share>>,
    /// There are such scripts: on other machines they have a jobserver of their own.
    pub wants_jobserver: bool,
    pub launch: Launch,
    pub tell: Tell,
    pub home: Home,
}

/// This machine: scripts are processes of ours.
pub struct Local {
    ground: Ground,
    supervisor: Arc<Supervisor>,
}

impl Local {
    /// # Errors
    /// As [`Supervisor::new`].
    pub fn new(ground: Ground) -> Result<Local> {
        let supervisor = Arc::new(Supervisor::new(GRACE, Arc::clone(&ground.stop))?);
        Ok(Local { ground, supervisor })
    }
}

impl Site for Local {
    fn grow(&self) -> Result<flume::Receiver<Box<dyn Executor>>> {
        let (send, receive) = flume::unbounded();
        for number in 0..self.ground.executors {
            let (ground, supervisor) = (self.ground.clone(), Arc::clone(&self.supervisor));
            let executor = Worker { ground, supervisor, number, scratch: None };
            let _ = send.send(Box::new(executor) as Box<dyn Executor>);
        }
        Ok(receive)
    }

    fn while_stopped(&self, stop: &mut dyn FnMut()) -> Option<String> {
        self.supervisor.while_stopped(stop);
        None
    }
}

/// An executor of [`Local`].
struct Worker {
    ground: Ground,
    supervisor: Arc<Supervisor>,
    number: usize,
    /// Made when it is first needed.
    scratch: Option<Scratch>,
}

impl Executor for Worker {
    fn run(&mut self, attempt: &Attempt, ended: &mut dyn FnMut(&[Outcome])) -> Result<Ran> {
        let Ground { store, scratch: folder, share, launch, .. } = &self.ground;
        let scratch = match &mut self.scratch {
            Some(scratch) => scratch,
            None => self.scratch.insert(Scratch::create(folder, self.number, *launch)?),
        };
        let share = share.as_deref();
        let made = step::execute(scratch, store, &self.supervisor, share, attempt, ended)?;
        if let Some(free) = made.iter().find_map(|(report, _)| report.full_disk) {
            // It is the disk that has failed: the step stays pending, for the run that finds room.
            return Err(Error::NoSpace { path: folder.clone(), free, floor: FULL });
        }
        if made.iter().any(|(report, _)| report.record.outcome == Outcome::Cancelled) {
            return Ok(Ran::Cancelled(made));
        }
        Ok(Ran::Over(made))
    }
}
