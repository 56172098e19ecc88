//! `run`, the command that is meant when none is named; and the two that are variants of it: `plan`, which
//! only shows what a run would do, and `watch`, which runs again and again.

mod plan;
mod watch;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use crate::cli::values::{
    bytes, bytes_of_size, default_db, jobs, memory, name, param, path, resource, time,
};
use crate::cli::{Color, ProgressStyle};
use crate::db::{Db, Durability, report_runs};
use crate::error::{Error, OrIo as _, Result, exit};
use crate::folder;
use crate::jobserver;
use crate::manifest::{Manifest, ParamOverrides};
use crate::progress::{
    Bar, Begun, Event, JsonLines, Lines, Loudness, Paint, Progress, Summary, Tee, Trace,
};
use crate::remote::{Listen, RemoteOptions, SlurmOptions, StartedBy, Workers};
use crate::run::{self, RunOptions};
use crate::step::Launch;
use crate::sys::proc::descriptor;
use crate::text::printable;

use super::{Command, command_line, export, report};
pub(super) use plan::PlanArgs;
pub(super) use watch::WATCH;

/// Bytes that a run leaves free: room to report that space is short, and to go on afterwards.
const DEFAULT_MIN_FREE: u64 = 64 << 20;

/// Bytes of objects that a worker keeps.
pub(super) const DEFAULT_CACHE: u64 = 10 << 30;

/// How often `--wait` checks whether a file for events is free.
const POLL: Duration = Duration::from_millis(100);

/// The manifest, if none is named.
pub(super) const DEFAULT_MANIFEST: &str = "pipeline.toml";

/// Run every step that is not up to date, and keep the results.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "run")]
#[argh(
    note = "Without INPUT, a root task that has no `inputs` gets the files of the last run on this database; if \
    there never were any, it runs once on an empty file. A step is not run again while its task and its input \
    are unchanged."
)]
#[argh(example = "task-pipeline -manifest workflow.toml -db ./my-pipeline-db")]
#[argh(example = "task-pipeline -j8 -k data/*.csv")]
pub struct RunArgs {
    /// the manifest; default: pipeline.toml in this folder
    #[argh(option, short = 'f', arg_name = "FILE", from_str_fn(path))]
    pub manifest: Option<PathBuf>,

    /// the database folder, created if missing; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// run at most N steps at once (also --parallel); default: the number of CPUs, or, under a make
    /// that shares its -j, as many as make allows
    #[argh(option, short = 'j', arg_name = "N", from_str_fn(jobs))]
    pub jobs: Option<NonZeroUsize>,

    /// after a failure, continue with everything that does not depend on it
    #[argh(switch, short = 'k')]
    pub keep_going: bool,

    /// only show what would run, and why
    #[argh(switch, short = 'n')]
    pub dry_run: bool,

    /// keep running: start again whenever an input, one of `files` or the manifest changes
    #[argh(switch)]
    pub watch: bool,

    /// run all steps again, even if nothing has changed
    #[argh(switch, short = 'B')]
    pub always: bool,

    /// report only failures
    #[argh(switch, short = 'q')]
    pub quiet: bool,

    /// show the output of the scripts
    #[argh(switch, short = 'v')]
    pub verbose: bool,

    /// run only steps of this task, or with `TASK[sample=A]` those with this label (also --step);
    /// may be repeated
    #[argh(option, arg_name = "TASK", from_str_fn(name))]
    pub only: Vec<String>,

    /// run this task with all that it needs, and nothing else; may be repeated
    #[argh(option, arg_name = "TASK", from_str_fn(name))]
    pub until: Vec<String>,

    /// run these steps again, even if nothing has changed: a step (its id or TASK/INPUT_NAME), a
    /// TASK or `TASK[sample=A]`; may be repeated
    #[argh(option, arg_name = "WHAT", from_str_fn(bytes))]
    pub redo: Vec<OsString>,

    /// give one of the manifest's params another value; may be repeated
    #[argh(option, short = 'P', arg_name = "PARAM=VALUE", from_str_fn(param))]
    pub param: Vec<(String, String)>,

    /// take the values of params from a TOML file; may be repeated; -P wins over it
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub params: Vec<PathBuf>,

    /// name further INPUTs in a file, one a line; - is standard input; may be repeated
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub inputs_from: Vec<PathBuf>,

    /// forget the INPUTs of earlier runs, and use none
    #[argh(switch)]
    pub no_inputs: bool,

    /// if another run holds the database or the event file, wait until it ends
    #[argh(switch)]
    pub wait: bool,

    /// what survives a power cut: batch (everything reported as done) or off (faster; a kill still
    /// loses nothing); default: batch
    #[argh(option, arg_name = "MODE", from_str_fn(durability), default = "Durability::Batch")]
    pub durability: Durability,

    /// how scripts are started: auto (by forking an interpreter that is loaded already, from the
    /// third step of a task on), fork (from the first one on) or spawn (each with an interpreter
    /// of its own); default: auto
    #[argh(option, arg_name = "HOW", from_str_fn(launch), default = "Launch::Auto")]
    pub launch: Launch,

    /// memory that the running steps may need together (8G); default: what the machine has to
    /// spare at the start, or the limit of its cgroup
    #[argh(option, arg_name = "SIZE", from_str_fn(memory))]
    pub memory: Option<u64>,

    /// how many there are of something that tasks name in `uses` (gpu=2); may be repeated
    #[argh(option, arg_name = "NAME=N", from_str_fn(resource))]
    pub have: Vec<(String, usize)>,

    /// where steps run: slurm:8 has Slurm start eight workers, slurm:8x4 eight of four slots each,
    /// ssh:h1,4/h2 starts one on h1 and one of four slots on h2, local:4 four on this machine; with
    /// -j, so many steps run here besides
    #[argh(option, arg_name = "WHERE", from_str_fn(workers))]
    pub on: Option<Workers>,

    /// disk space that each worker of --on takes for objects that it may need again; default: 10G
    #[argh(option, arg_name = "SIZE", from_str_fn(bytes_of_size), default = "DEFAULT_CACHE")]
    pub worker_cache: u64,

    /// with --on ssh or slurm: where workers find this run; default: this machine's name, and any
    /// port
    #[argh(option, arg_name = "HOST[:PORT[-PORT]]", from_str_fn(listen))]
    pub listen: Option<Listen>,

    /// with --on slurm, which needs it: time limit of each job (4h); steps that it is too short for
    /// run again in another
    #[argh(option, arg_name = "TIME", from_str_fn(time))]
    pub walltime: Option<Duration>,

    /// with --on slurm: an argument for sbatch, such as --sbatch-arg=--partition=long; may be repeated
    #[argh(option, arg_name = "ARG", from_str_fn(name))]
    pub sbatch_arg: Vec<String>,

    /// start no more steps when less disk space than this is free (512M, 10G); default: 64M
    #[argh(option, arg_name = "SIZE", from_str_fn(bytes_of_size), default = "DEFAULT_MIN_FREE")]
    pub min_free: u64,

    /// allow a database on a network file system, where locks are unreliable and a crash may
    /// corrupt it
    #[argh(switch)]
    pub allow_network_fs: bool,

    /// write every event as a line of JSON; - is standard output
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub events: Option<PathBuf>,

    /// write a timeline of the run, for ui.perfetto.dev
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub trace: Option<PathBuf>,

    /// write a page about the pipeline at the end, also if steps failed; see `report`
    #[argh(option, arg_name = "FILE", from_str_fn(path))]
    pub report: Option<PathBuf>,

    /// with --events, --trace or --report: overwrite a file that holds something else
    #[argh(switch)]
    pub force: bool,

    /// how progress is shown: bar (redrawn on a terminal), plain (a line per step, for logs), none
    /// (the beginning, failures and the end) or auto (bar on a terminal, else plain); default: auto
    #[argh(option, arg_name = "STYLE", default = "ProgressStyle::Auto")]
    pub progress: ProgressStyle,

    /// colours: auto, always or never; default: auto
    #[argh(option, arg_name = "WHEN", default = "Color::Auto")]
    pub color: Color,

    /// with -n: print the plan as JSON
    #[argh(switch)]
    pub json: bool,

    /// files for the root tasks, one step each; - is standard input
    #[argh(positional, arg_name = "INPUT", from_str_fn(path))]
    pub inputs: Vec<PathBuf>,
}

impl Command for RunArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        check_inputs(&self.inputs, &self.inputs_from, self.no_inputs)?;
        let has_event_file = self.events.is_some() || self.trace.is_some();
        match () {
            () if self.quiet && self.verbose => {
                Err("--quiet and --verbose contradict each other: drop one of them")
            }
            () if self
                .have
                .iter()
                .enumerate()
                .any(|(n, (name, _))| self.have[..n].iter().any(|(other, _)| other == name)) =>
            {
                Err("--have names something twice: drop one of them")
            }
            () if self.is_on_slurm() && self.walltime.is_none_or(|time| time.is_zero()) => {
                Err("--on slurm needs --walltime TIME: it is what ends a job that is left behind")
            }
            () if !self.is_on_slurm() && self.walltime.is_some() => {
                Err("--walltime is of jobs of Slurm: add --on slurm:N, or drop it")
            }
            () if !self.is_on_slurm() && !self.sbatch_arg.is_empty() => {
                Err("--sbatch-arg is for jobs of Slurm: add --on slurm:N, or drop it")
            }
            () if self
                .sbatch_arg
                .iter()
                .any(|arg| arg.starts_with("-M") || arg.starts_with("--clus")) =>
            {
                Err(
                    "--sbatch-arg names a cluster, which squeue and scancel would not know of: set SLURM_CLUSTERS, which all of \
                     Slurm's commands read",
                )
            }
            () if self.listen.is_some() && !self.has_far_workers() => Err(
                "--listen is for workers on other machines: add --on ssh:HOST or slurm:N, or drop it",
            ),
            () if self.watch && self.dry_run => {
                Err("--watch and --dry-run contradict each other: drop one of them")
            }
            () if self.watch && !self.redo.is_empty() => {
                Err("--redo is for one run: drop it, or --watch")
            }
            () if self.always && !self.redo.is_empty() => {
                Err("-B runs everything again: drop it, or --redo")
            }
            () if self.watch && has_event_file => {
                Err("--events and --trace tell of one run: drop them, or --watch")
            }
            () if self.watch && {
                let mut all = self.inputs.iter().chain(&self.inputs_from);
                all.any(|input| descriptor(input).is_some())
            } =>
            {
                Err(
                    "standard input (-) can't be watched, nor what else is open already: name files",
                )
            }
            () if self.json && !self.dry_run => {
                Err("--json goes with --dry-run: add -n, or ask `status --json` after the run")
            }
            () if self.dry_run && has_event_file => Err(
                "--events and --trace tell of a run, and --dry-run starts none: drop them, or --dry-run",
            ),
            () if self.dry_run && self.report.is_some() => Err(
                "--report tells of a run, and --dry-run starts none: drop one of them, or use `report`",
            ),
            () if self.force && !has_event_file && self.report.is_none() => Err(
                "--force lets --events, --trace or --report overwrite a file: add one of them; to run all steps again, \
                 use -B",
            ),
            () if self.events.is_some() && self.events == self.trace => {
                Err("--events and --trace can't share a file: name another one")
            }
            () if self.report.is_some()
                && (self.report == self.events || self.report == self.trace) =>
            {
                Err("--report can't share a file with --events or --trace: name another one")
            }
            () => Ok(()),
        }
    }

    fn execute(&self) -> Result<u8> {
        match () {
            () if self.dry_run => plan::plan(self, false),
            // `make -n` runs recipe lines with a `+` too, and we ask for the `+`.
            () if jobserver::inherited().runs_nothing => plan::plan(self, false),
            () if self.watch => watch::watch(self),
            () => run(self),
        }
    }
}

impl RunArgs {
    fn is_on_slurm(&self) -> bool {
        self.on.as_ref().is_some_and(|on| on.by == StartedBy::Slurm)
    }

    fn has_far_workers(&self) -> bool {
        self.on.as_ref().is_some_and(|on| on.by != StartedBy::Local)
    }

    /// Who hears of events: the screen, and the files that were asked for.
    fn audience(&self) -> Result<Tee> {
        let mut audience = Tee::default();
        let stderr = std::io::stderr();
        let is_terminal = stderr.is_terminal();
        let has_color = self.color.decide(is_terminal, |name| std::env::var_os(name));
        let paint = if has_color { Paint::Colored } else { Paint::Plain };
        let can_draw = is_terminal && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let loudness = match self.progress {
            _ if self.quiet => Loudness::Quiet,
            _ if self.verbose => Loudness::Verbose,
            ProgressStyle::None => Loudness::Brief,
            _ => Loudness::Normal,
        };
        let draws = match self.progress {
            ProgressStyle::Auto => can_draw,
            ProgressStyle::Bar => true,
            ProgressStyle::Plain | ProgressStyle::None => false,
        };
        match draws && !self.quiet {
            true => audience.add(Bar::start(loudness, paint)?),
            false => audience.add(Lines::new(stderr, loudness, paint)),
        }
        for path in [&self.events, &self.trace].into_iter().flatten() {
            if path.as_os_str() != "-" && folder::is_in_database(path, Some(&self.db)) {
                return Err(folder::only_runs_write(path, "name another file"));
            }
        }
        if let Some(path) = &self.events {
            let lines = when_free(self, &mut audience, || JsonLines::open(path, self.force))?;
            audience.add(lines);
        }
        if let Some(path) = &self.trace {
            let trace = when_free(self, &mut audience, || Trace::open(path, self.force))?;
            audience.add(trace);
        }
        Ok(audience)
    }

    /// Fails, before anything has run, if the page of `--report` could not be written.
    fn check_report(&self) -> Result<()> {
        let check = |path: &PathBuf| report::check(path, &self.db, self.force, REPORT);
        self.report.as_ref().map_or(Ok(()), check)
    }

    /// Writes the page of `--report`, if this process has begun a run or found nothing to do.
    fn write_report(&self, end: &Result<Summary>) -> Result<()> {
        let Some(path) = &self.report else { return Ok(()) };
        if end.is_err() && !has_begun(&self.db) {
            return Ok(());
        }
        report::write(path, &self.db, self.force, REPORT)
    }

    /// What the words mean to a run, together with what make says.
    fn options(&self) -> Result<RunOptions> {
        let manifest = match &self.manifest {
            Some(manifest) => manifest.clone(),
            None => default_manifest()?,
        };
        let cpus = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let make = jobserver::inherited();
        let no_jobserver = make.out_of_reach.filter(|_| self.jobs.is_none());
        // With a jobserver there are as many jobs as tokens, and make says how many there are at most. Without
        // one, only -j1 tells anything: one job is all that may run.
        let tokens = make.jobs.filter(|jobs| make.jobserver.is_some() || jobs.get() == 1);
        let on = self.on.clone().map(|workers| RemoteOptions {
            workers,
            local: self.jobs.map_or(0, NonZeroUsize::get),
            cache: self.worker_cache,
            listen: self.listen.clone(),
            slurm: SlurmOptions {
                walltime: self.walltime.unwrap_or_default(),
                args: self.sbatch_arg.clone(),
            },
        });
        let slots = on.as_ref().and_then(|on| NonZeroUsize::new(on.all_slots()));
        Ok(RunOptions {
            manifest,
            db: self.db.clone(),
            jobs: slots.or(self.jobs).or(tokens).unwrap_or(cpus),
            jobserver: make.jobserver.clone(),
            no_jobserver: no_jobserver.map(|cure| format!("make's -j is not shared: {cure}")),
            keep_going: self.keep_going,
            always: self.always,
            only: self.only.clone(),
            until: self.until.clone(),
            redo: self.redo.clone(),
            inputs: self.inputs.clone(),
            inputs_from: self.inputs_from.clone(),
            no_inputs: self.no_inputs,
            params: ParamOverrides { files: self.params.clone(), values: self.param.clone() },
            wait: self.wait,
            durability: self.durability,
            launch: self.launch,
            verbose: self.verbose,
            min_free: self.min_free,
            memory: self.memory,
            have: self.have.clone(),
            allow_network_fs: self.allow_network_fs,
            on,
        })
    }
}

/// What is wrong with the inputs of a run or of a plan.
fn check_inputs(
    inputs: &[PathBuf],
    lists: &[PathBuf],
    no_inputs: bool,
) -> std::result::Result<(), &'static str> {
    if no_inputs && !inputs.is_empty() {
        return Err("--no-inputs and an INPUT contradict each other: drop one of them");
    }
    if no_inputs && !lists.is_empty() {
        return Err("--no-inputs and --inputs-from contradict each other: drop one of them");
    }
    let is_stdin = |input: &&PathBuf| input.as_os_str() == "-";
    if inputs.iter().chain(lists).filter(is_stdin).count() > 1 {
        return Err("standard input (-) can be read only once: drop all but one `-`");
    }
    Ok(())
}

fn launch(word: &str) -> std::result::Result<Launch, String> {
    let mut known = [Launch::Auto, Launch::Fork, Launch::Spawn].into_iter();
    let found = known.find(|launch| launch.as_str() == word);
    found.ok_or_else(|| r#"expected "auto", "fork" or "spawn""#.to_owned())
}

fn listen(word: &str) -> std::result::Result<Listen, String> {
    word.parse()
}

fn workers(word: &str) -> std::result::Result<Workers, String> {
    word.parse()
}

fn durability(word: &str) -> std::result::Result<Durability, String> {
    let known = [Durability::Batch, Durability::Off].into_iter();
    let mut known = known.filter(|durability| durability.as_str() == word);
    known.next().ok_or_else(|| r#"expected "batch" or "off""#.to_owned())
}

/// Runs the pipeline once.
fn run(args: &RunArgs) -> Result<u8> {
    crate::sys::ignore_tty_stops().or_system("set up signals")?;
    let options = args.options().map_err(|err| hint(err, args))?;
    args.check_report()?;
    let mut audience = args.audience()?;
    audience.tell(&Event::Begun(&Begun {
        manifest: &options.manifest,
        db: &options.db,
        jobs: options.jobs.get(),
        durability: options.durability.as_str(),
    }));
    let end = run::run(&options, &mut audience).map_err(|err| hint(err, args));
    let is_published = end.as_ref().is_ok_and(|end| publish(&options.db, end, &mut audience));
    let unreported = args.write_report(&end).err();
    if let Some(error) = &unreported {
        audience.tell(&Event::Warning(&format!("there is no report of this run: {error}")));
    }
    let (code, signal) = match &end {
        Ok(summary)
            if summary.failed + summary.obstacles > 0
                || summary.is_out_of_reach
                || !is_published =>
        {
            (exit::STEPS_FAILED, summary.interrupted)
        }
        // All results are kept, but an event file or a trace is incomplete, or there is no report.
        Ok(summary) if audience.has_complained() || unreported.is_some() => {
            (exit::IO, summary.interrupted)
        }
        Ok(summary) => (exit::OK, summary.interrupted),
        Err(error) => (error.exit_code(), None),
    };
    let error = end.as_ref().err().map(ToString::to_string);
    audience.tell(&Event::Exits { code, signal, error: error.as_deref() });
    drop(audience);
    end?;
    if let Some(signal) = signal {
        return Ok(run::die_of(signal));
    }
    Ok(code)
}

/// The option, for messages.
const REPORT: &str = "--report";

/// Whether the last run in this database is one of this process: a run that failed before it was noted changed nothing.
fn has_begun(db: &Path) -> bool {
    let last = Db::open_read_only(db).and_then(|db| db.read(|reader| report_runs(reader, 1)));
    last.is_ok_and(|runs| runs.iter().any(|run| run.pid == i64::from(std::process::id())))
}

/// Makes the exports that the manifest asks for, unless the run was told to stop. False if one could not be made.
fn publish(db: &Path, end: &Summary, progress: &mut dyn Progress) -> bool {
    end.interrupted.is_some() || export::publish(db, &end.exports, progress)
}

/// Opens a file for events; with `--wait` as soon as no other run writes to it.
fn when_free<T>(args: &RunArgs, audience: &mut Tee, open: impl Fn() -> Result<T>) -> Result<T> {
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

/// Adds a suggestion if an input that does not exist is the name of a task, or looks like a command: one that is
/// misspelt, or that comes too late on the line.
fn hint(error: Error, args: &RunArgs) -> Error {
    let known = command_line();
    let missing = || args.inputs.iter().filter(|input| !input.exists());
    // Whatever else is wrong with the manifest is told elsewhere.
    let path = args.manifest.as_deref().unwrap_or(Path::new(DEFAULT_MANIFEST));
    let manifest = missing().next().and_then(|_| Manifest::read(path).ok());
    let task = missing()
        .filter_map(|input| input.to_str())
        .find(|input| manifest.as_ref().is_some_and(|manifest| manifest.find(input).is_some()));
    let command = missing().find_map(|input| known.command_like(input.as_os_str()));
    match (error, task, command) {
        (Error::Usage(text), Some(task), _) => Error::Usage(format!(
            "{text}\n`{task}` is a task: --only {task} runs it alone, --until {task} with all that it needs, \
             --redo {task} once more"
        )),
        (Error::Usage(text), None, Some(command)) => {
            Error::Usage(format!("{text}\ndid you mean the command `{command}`? it comes first"))
        }
        (error, ..) => error,
    }
}

fn default_manifest() -> Result<PathBuf> {
    let path = Path::new(DEFAULT_MANIFEST);
    if path.try_exists().or_io("look for", path)? {
        return Ok(path.to_owned());
    }
    Err(Error::Usage(format!(
        "no manifest: name one with -manifest FILE, or put a `{DEFAULT_MANIFEST}` into this folder; \
         `task-pipeline init` writes one to start from"
    )))
}
