//! A run on more than one machine: attempts are made by workers that connect to the run, and everything else stays as it
//! is. Plan, backlog, commits and database are the coordinator's alone; a worker knows neither tasks nor tables.
//!
//! # The seam
//!
//! [`Remote`] is a [`Site`](crate::exec::Site) like [`Local`](crate::exec::Local): a slot of a worker is a thread of the
//! run's pool that blocks, here on a message and there on a process. What crosses the wire are the very structs of
//! `step`: an `Attempt` there, `Report`s back (`wire`). Objects travel by content: small ones with the message
//! that names them, others if the other side asks for them, and either side hashes what it gets before it believes it.
//!
//! # Who is believed
//!
//! Whoever connects proves that it knows the run's secret, and so does the coordinator, since a worker runs what it is
//! told to (`secret`, `door`). The secret is never on a command line. What is said afterwards is neither signed nor
//! encrypted: the network between the machines of a cluster has to be trusted.
//!
//! # Failure
//!
//! A step is done when its report is committed, and never because of what a batch system or an exit code of a worker
//! says. So whatever happens to a worker, its steps are pending again, in this run. Both sides beat every 5 s and give
//! each other up after 30 s without a word; a worker that hears nothing for 20 s ends its scripts (`line`, `worker`). Each
//! attempt has a ticket, and what is said of another one than the slot's present one is dropped. So no result is
//! recorded twice, and a script runs twice at once only while a worker is frozen: at least once, as ever.
//!
//! A loss is no failure of the script and uses up none of its retries. It is counted: a step that was lost three times
//! is left, since it may be what brings its workers down, and a host that was lost twice is used no more (`hub`).
//!
//! # What is where
//!
//! `workers` reads `--on`; `site` sets up the coordinator, which listens as `listen` says; `door` lets in; `hub` has who is
//! there; `fleet` looks after the workers, which are `processes` here or at the end of an ssh, or jobs of `slurm`; `places` finds room for an attempt; `link` has it made. `line` is either side's end of a connection, `worker` the
//! other side. Other processes of this machine ask about the workers (`caller`, `question`), and the `desk` answers.

mod caller;
mod command;
mod desk;
mod door;
mod fleet;
mod hub;
mod line;
mod link;
mod listen;
mod orders;
mod places;
mod processes;
mod question;
mod secret;
mod site;
mod slurm;
mod wire;
mod worker;
mod workers;

use std::path::Path;

use crate::error::Result;

pub use caller::{Caller, Printed};
pub use listen::Listen;
pub use question::{LiveStep, LiveWorker, LiveWorkers};
pub use site::{FILES, Remote, RemoteOptions};
pub use slurm::SlurmOptions;
pub use worker::{WorkerOptions, sweep, work};
pub use workers::{StartedBy, Workers};

/// Cancels jobs of Slurm that a killed run on this database folder has left. `folder` is for what commands say. Gives a
/// sentence if there were any.
///
/// # Errors
/// If what is known of them can't be read or written.
pub fn cancel_leftovers(dir: &Path, folder: &Path) -> Result<Option<String>> {
    slurm::cancel_leftovers(dir, folder, &slurm::Slurm::default())
}
