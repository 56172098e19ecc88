//! `run`, also without the word.

use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::{self, Run};
use crate::db::Durability;
use crate::error::{Error, OrIo as _, Result, exit};
use crate::jobserver;
use crate::progress::{
    Bar, Begun, Event, JsonLines, Lines, Loudness, Paint, Progress as _, Several, Trace,
};
use crate::run::{self, RunOptions};
use crate::text::printable;

/// How often `--wait` looks whether a file of events is free.
const POLL: Duration = Duration::from_millis(100);

/// The manifest where none is named.
pub(super) const DEFAULT_MANIFEST: &str = "pipeline.toml";

/// Runs the pipeline.
pub(super) fn run(args: &Run) -> Result<u8> {
    crate::sys::ignore_tty_stops().or_io("set up", "signals")?;
    let options = options(args)?;
    let mut audience = audience(args)?;
    audience.tell(&Event::Begun(&Begun {
        manifest: &options.manifest,
        db: &options.db,
        jobs: options.jobs.get(),
        durability: options.durability.as_str(),
    }));
    let end = run::run(&options, &mut audience).map_err(|err| hint(err, &options.inputs));
    let (code, signal) = match &end {
        Ok(summary) if summary.failed > 0 => (exit::STEPS_FAILED, summary.interrupted),
        // The results are all there, but not all of what was to be written of them.
        Ok(summary) if audience.has_complained() => (exit::IO, summary.interrupted),
        Ok(summary) => (exit::OK, summary.interrupted),
        Err(error) => (error.exit_code(), None),
    };
    let error = end.as_ref().err().map(ToString::to_string);
    audience.tell(&Event::Exits { code, signal, error: error.as_deref() });
    drop(audience);
    end?;
    if let Some(signal) = signal {
        // Dying of it, not merely exiting, tells a calling shell or make to stop too.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    Ok(code)
}

/// Who is told: the screen, and the files that were asked for.
pub(super) fn audience(args: &Run) -> Result<Several> {
    let mut audience = Several::default();
    let stderr = std::io::stderr();
    let is_terminal = stderr.is_terminal();
    let has_color = args.color.decide(is_terminal, |name| std::env::var_os(name));
    let paint = if has_color { Paint::Colored } else { Paint::Plain };
    let can_draw = is_terminal && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    match () {
        () if args.quiet => audience.add(Lines::new(stderr, Loudness::Quiet, paint)),
        () if can_draw && !args.verbose => audience.add(Bar::start(paint)?),
        () => audience.add(Lines::new(stderr, Loudness::Normal, paint)),
    }
    if let Some(path) = &args.events {
        let lines = when_free(args, &mut audience, || JsonLines::open(path))?;
        audience.add(lines);
    }
    if let Some(path) = &args.trace {
        let trace = when_free(args, &mut audience, || Trace::open(path))?;
        audience.add(trace);
    }
    Ok(audience)
}

/// Opens a file of events; with `--wait` once no other run writes to it.
fn when_free<T>(args: &Run, audience: &mut Several, open: impl Fn() -> Result<T>) -> Result<T> {
    let mut told = false;
    loop {
        match open() {
            Err(Error::Taken { path }) if args.wait => {
                if !told {
                    let path = printable(path.as_os_str().as_encoded_bytes());
                    audience
                        .tell(&Event::Note(&format!("waiting: another run writes to `{path}`")));
                    told = true;
                }
                std::thread::sleep(POLL);
            }
            other => return other,
        }
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
    let make = jobserver::inherited();
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
        "no manifest: name one with -manifest FILE, or call it `{DEFAULT_MANIFEST}` in this folder; \
         `task-pipeline init` writes one to begin with"
    )))
}
