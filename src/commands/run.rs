//! `run`, also without the word.

use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use crate::cli::{self, Run};
use crate::db::Durability;
use crate::error::{Error, OrIo as _, Result, exit};
use crate::make;
use crate::progress::{Bar, Lines, Loudness, Progress};
use crate::run::{self, RunOptions};

/// The manifest where none is named.
const DEFAULT_MANIFEST: &str = "pipeline.toml";

/// Runs the pipeline.
pub(super) fn run(args: &Run) -> Result<u8> {
    crate::sys::ignore_tty_stops().or_io("set up", "signals")?;
    let options = options(args)?;
    let mut progress = progress(args);
    let summary =
        run::run(&options, progress.as_mut()).map_err(|err| hint(err, &options.inputs))?;
    drop(progress);
    if let Some(signal) = summary.interrupted {
        // Dying of it, not merely exiting, tells a calling shell or make to stop too.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    Ok(if summary.failed > 0 { exit::STEPS_FAILED } else { exit::OK })
}

/// Shows a run as is asked for and as standard error can.
pub(super) fn progress(args: &Run) -> Box<dyn Progress> {
    let stderr = std::io::stderr();
    match () {
        () if args.quiet => Box::new(Lines::new(stderr, Loudness::Quiet)),
        () if stderr.is_terminal() && !args.verbose => Box::new(Bar::new()),
        () => Box::new(Lines::new(stderr, Loudness::Normal)),
    }
}

/// A mistyped command, or one that comes too late, was taken for an input.
pub(super) fn hint(error: Error, inputs: &[PathBuf]) -> Error {
    let command = inputs
        .iter()
        .filter(|input| !input.exists())
        .find_map(|input| cli::command_like(input.as_os_str()));
    match (error, command) {
        (Error::Usage(text), Some(command)) => {
            Error::Usage(format!("{text}\ndid you mean the command `{command}`? it comes first"))
        }
        (error, _) => error,
    }
}

/// Turns words into what a run understands.
pub(super) fn options(args: &Run) -> Result<RunOptions> {
    let manifest = match &args.manifest {
        Some(manifest) => manifest.clone(),
        None => default_manifest()?,
    };
    let durability = match args.durability {
        cli::Durability::Batch => Durability::Batch,
        cli::Durability::Off => Durability::Off,
    };
    let cpus = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let make = make::inherited();
    let no_jobserver = make.out_of_reach.filter(|_| args.jobs.is_none());
    // With a jobserver as many as there are tokens: make says how many there are at most. Without one its
    // -j says nothing of others, but that one job is one.
    let tokens = make.jobs.filter(|jobs| make.jobserver.is_some() || jobs.get() == 1);
    Ok(RunOptions {
        manifest,
        db: args.db.clone(),
        jobs: args.jobs.or(tokens).unwrap_or(cpus),
        jobserver: make.jobserver.clone(),
        no_jobserver: no_jobserver.map(|cure| format!("make's -j is not shared: {cure}")),
        keep_going: args.keep_going,
        always: args.always,
        only: args.step.clone(),
        inputs: args.inputs.clone(),
        no_inputs: args.no_inputs,
        wait: args.wait,
        durability,
        verbose: args.verbose,
        min_free: args.min_free,
        allow_network_fs: args.allow_network_fs,
    })
}

fn default_manifest() -> Result<PathBuf> {
    let path = Path::new(DEFAULT_MANIFEST);
    if path.try_exists().or_io("look for", path)? {
        return Ok(path.to_owned());
    }
    Err(Error::Usage(format!(
        "no manifest: name one with -manifest FILE, or call it `{DEFAULT_MANIFEST}` in this folder"
    )))
}
