//! `worker`: makes attempts for a run on another machine, which starts it.

use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::values::{bytes_of_size, time};
use crate::error::{OrIo as _, Result, exit};
use crate::remote::{self, WorkerOptions};

use super::Command;
use super::run::DEFAULT_CACHE;

/// Run steps for a run elsewhere; `run --on` starts workers by itself.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "worker")]
#[argh(
    note = "A worker reads the secret of its run from the first line of standard input. It keeps its files in a \
    folder of its own in TMPDIR, which it removes when it ends, and ends when the run does, or when it hears nothing of \
    it for 20 s."
)]
pub struct WorkerArgs {
    /// where the run listens
    #[argh(option, arg_name = "HOST:PORT")]
    pub connect: String,

    /// name of the run
    #[argh(option, arg_name = "NAME")]
    pub run: String,

    /// which of the run's workers it is; default: 1
    #[argh(option, arg_name = "N", default = "1")]
    pub number: usize,

    /// steps at once; default: 1
    #[argh(option, arg_name = "N", default = "1")]
    pub slots: usize,

    /// disk space for objects that it may need again; default: 10G
    #[argh(option, arg_name = "SIZE", from_str_fn(bytes_of_size), default = "DEFAULT_CACHE")]
    pub worker_cache: u64,

    /// after this time it is ended from outside: it takes no more steps 2 minutes before, or a
    /// fifth of the time if that is less
    #[argh(option, arg_name = "TIME", from_str_fn(time))]
    pub walltime: Option<Duration>,

    /// when the connection was lost, try for so long to connect again; default: not at all
    #[argh(option, arg_name = "TIME", from_str_fn(time), default = "Duration::ZERO")]
    pub reconnect: Duration,
}

impl Command for WorkerArgs {
    fn execute(&self) -> Result<u8> {
        crate::sys::ignore_tty_stops().or_system("set up signals")?;
        remote::work(&WorkerOptions {
            connect: self.connect.clone(),
            run: self.run.clone(),
            number: self.number,
            slots: self.slots,
            cache: self.worker_cache,
            walltime: self.walltime,
            reconnect: self.reconnect,
        })?;
        Ok(exit::OK)
    }
}
