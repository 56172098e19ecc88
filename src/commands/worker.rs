//! `worker`: makes attempts for a run on another machine, which starts it.

use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::values::{bytes_of_size, path, time};
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
    pub connect: Option<String>,

    /// name of the run
    #[argh(option, arg_name = "NAME")]
    pub run: Option<String>,

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

    /// instead: wait until the worker with this folder in TMPDIR has ended, end the scripts that it
    /// has left, and remove the folder; each worker starts one of these
    #[argh(option, arg_name = "DIR", from_str_fn(path))]
    pub sweep: Option<PathBuf>,
}

impl Command for WorkerArgs {
    fn check(&self) -> std::result::Result<(), &'static str> {
        match (&self.connect, &self.run, &self.sweep) {
            (None, None, Some(_)) | (Some(_), Some(_), None) => Ok(()),
            (_, _, Some(_)) => Err("--sweep goes with no other option"),
            (_, _, None) => {
                Err("a worker needs --connect and --run; `run --on` starts workers by itself")
            }
        }
    }

    fn execute(&self) -> Result<u8> {
        if let Some(folder) = &self.sweep {
            remote::sweep(folder)?;
            return Ok(exit::OK);
        }
        crate::sys::ignore_tty_stops().or_system("set up signals")?;
        remote::work(&WorkerOptions {
            connect: self.connect.clone().unwrap_or_default(),
            run: self.run.clone().unwrap_or_default(),
            number: self.number,
            slots: self.slots,
            cache: self.worker_cache,
            walltime: self.walltime,
            reconnect: self.reconnect,
        })?;
        Ok(exit::OK)
    }
}
