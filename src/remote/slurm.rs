//! Workers as jobs of Slurm: one array of single-node jobs, each of which runs a worker. Not a job a step, and never
//! Slurm's own word on how a step has ended: srun exits with 0 when its node dies, and jobs that have ended are forgotten.
//!
//! # An array too many is harmless, one too few is not
//!
//! An array has a name that no other array has, `tp-RUN-NONCE`, because numbers of jobs are given again. Before it is
//! submitted its name is written to `DB/slurm` and synced. If sbatch says that it was submitted, it was. If it says that
//! something is wrong with what it was asked for, it was not, and the run ends with its words. But if it hangs, can't reach
//! the controller, or says what can't be understood, nobody knows: then the queue is asked for the name, twice, a minute apart. If it has the
//! name, all is well; else another array is submitted, under another name. A worker that
//! comes too late is told that its place is taken.
//!
//! # The queue is asked once a minute at most
//!
//! For the first time a quarter of a minute after a submission, which is when most mistakes show; and not at all as long as
//! all workers are connected. Who is listed as ended, or isn't listed twice in a row, makes room for another job. That the
//! queue can't be asked is no news of the jobs.
//!
//! # Why a job has come to nothing
//!
//! Whoever can't connect can't say why. A worker's messages go to the run's folder if its node has that, and else
//! nowhere: a job whose output file can't be made is not started at all. What is always known is the exit code, which is
//! asked for once, when no more jobs are submitted.
//!
//! # The end
//!
//! At the end of a run, for whatever reason, its workers are told, and whatever has one of the names is cancelled. A run that was
//! killed leaves the names in `DB/slurm`: the next one cancels them. Its workers have ended by then, for they
//! have tried in vain to reach it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{OrIo as _, Result, exit};
use crate::object::to_hex;
use crate::text::{plural, printable_line, shown};

use super::command::{self, Said};
use super::fleet::Crew;
use super::hub::Hub;
use super::orders::Orders;
use super::processes::last_line;
use super::secret;

/// The names of arrays that may be in the queue, one a line; in the database folder.
const NAMES: &str = "slurm";

/// After so many jobs in a row that end before their worker has connected, no more are submitted.
const MOST_SILENT: usize = 3;

/// At most this many times the array is submitted anew after a doubt.
const MOST_DOUBTS: u32 = 5;

/// What else to do about jobs that say nothing.
const HINT: &str = "add --sbatch-arg=--output=FILE to see what they say";

/// The queue is asked so soon after a submission, or after the whole interval if that is less.
const FIRST_QUESTION: Duration = Duration::from_secs(15);

/// A worker that has lost its connection tries so long to come back.
pub(super) const RECONNECT: Duration = Duration::from_secs(60);

/// What the command line says of jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlurmOptions {
    /// `--walltime`
    pub walltime: Duration,
    /// `--sbatch-arg`
    pub args: Vec<String>,
}

/// Slurm's commands, and how patient we are with them.
#[derive(Debug, Clone)]
pub(super) struct Slurm {
    pub(super) sbatch: PathBuf,
    pub(super) squeue: PathBuf,
    pub(super) scancel: PathBuf,
    pub(super) scontrol: PathBuf,
    /// A command is ended after that.
    pub(super) limit: Duration,
    /// At the end of a run, scancel is.
    pub(super) last_limit: Duration,
    /// Between two questions to the queue.
    pub(super) interval: Duration,
}

impl Default for Slurm {
    fn default() -> Slurm {
        Slurm {
            sbatch: "sbatch".into(),
            squeue: "squeue".into(),
            scancel: "scancel".into(),
            scontrol: "scontrol".into(),
            limit: Duration::from_secs(60),
            last_limit: Duration::from_secs(20),
            interval: Duration::from_secs(60),
        }
    }
}

/// An array that was submitted, or may have been.
struct JobArray {
    name: String,
    since: Instant,
    /// It is in the queue for certain, or was.
    is_known: bool,
    /// It was not submitted for certain.
    is_void: bool,
    /// The queue was asked for it.
    was_asked: bool,
}

/// How a worker's job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    /// None was submitted.
    None,
    /// One of this array.
    Submitted { array: usize },
    /// Its worker is connected.
    Here { array: usize },
    /// Its worker was, and may come back.
    Away { array: usize },
}

/// A command that runs.
enum Asked {
    Sbatch(usize),
    Squeue,
    /// How a job has ended.
    Scontrol(EndedJob),
}

/// A job that has ended before its worker had connected.
#[derive(Debug, Clone)]
struct EndedJob {
    /// As the queue has it.
    id: String,
    /// Which of the run's workers it was.
    number: usize,
    /// Why, in a word of Slurm's.
    why: String,
    node: String,
}

pub(super) struct Pilots {
    hub: Arc<Hub>,
    orders: Orders,
    options: SlurmOptions,
    slurm: Slurm,
    /// `DB`
    dir: PathBuf,
    /// For what commands say.
    folder: PathBuf,
    arrays: Vec<JobArray>,
    /// By number, from 1.
    jobs: Vec<Job>,
    /// Jobs in a row that have ended before they had connected.
    silent: usize,
    doubts: u32,
    asked: Option<(Asked, flume::Receiver<Said>)>,
    last_question: Option<Instant>,
    /// Why jobs wait, as it was told last.
    told_reason: String,
    /// Why the queue could not be asked, as it was told last; empty: it could.
    told_trouble: String,
    /// By number: the queue was asked for it last time, and did not list it.
    was_missed: Vec<bool>,
    /// No more are submitted.
    is_closed: bool,
    /// Commands that still run are of no more use.
    is_over: Arc<AtomicBool>,
}

impl Pilots {
    pub(super) fn new(
        hub: Arc<Hub>,
        orders: Orders,
        options: SlurmOptions,
        slurm: Slurm,
        (dir, folder): (PathBuf, PathBuf),
    ) -> Pilots {
        let count = orders.slots.len();
        let jobs = vec![Job::None; count];
        Pilots {
            hub,
            orders,
            options,
            slurm,
            dir,
            folder,
            arrays: Vec::new(),
            jobs,
            silent: 0,
            doubts: 0,
            asked: None,
            last_question: None,
            told_reason: String::new(),
            told_trouble: String::new(),
            was_missed: vec![false; count],
            is_closed: false,
            is_over: Arc::default(),
        }
    }

    fn job(&mut self, number: usize) -> Option<&mut Job> {
        self.jobs.get_mut(number.checked_sub(1)?)
    }

    /// Runs a command on a thread of its own.
    fn ask(&mut self, what: Asked, program: PathBuf, args: Vec<String>, input: String) {
        let (tell, told) = flume::bounded(1);
        let (limit, folder) = (self.slurm.limit, self.folder.clone());
        let is_over = Arc::clone(&self.is_over);
        let run = move || {
            let is_over = || is_over.load(Ordering::Relaxed);
            drop(tell.send(command::run(&program, &args, &input, limit, &folder, &is_over)));
        };
        let thread = std::thread::Builder::new().name("slurm".to_owned());
        if let Err(err) = thread.spawn(run) {
            return self.close(format!("no thread could be started ({err})"));
        }
        self.asked = Some((what, told));
    }

    fn close(&mut self, why: String) {
        self.is_closed = true;
        self.hub.warn(format!("no more workers are to be had of Slurm: {why}"));
        let why =
            "no worker is left: see above why; what is done is kept, and the next run goes on";
        self.hub.places.close(why.to_owned());
    }

    /// Submits an array of all jobs that are missing.
    fn submit(&mut self) {
        let is_missing = |number: &usize| self.jobs[number - 1] == Job::None;
        let (retired, missing): (Vec<usize>, Vec<usize>) = (1..=self.jobs.len())
            .filter(is_missing)
            .partition(|number| self.hub.is_retired(*number));
        if missing.is_empty() {
            if retired.len() == self.jobs.len() {
                self.close("all of them were told to leave".to_owned());
            }
            return;
        }
        let submitted = self.prepare(&missing);
        let (args, script) = match submitted {
            Ok(submitted) => submitted,
            Err(error) => return self.close(error.to_string()),
        };
        let array = self.arrays.len() - 1;
        for number in missing {
            self.jobs[number - 1] = Job::Submitted { array };
        }
        self.ask(Asked::Sbatch(array), self.slurm.sbatch.clone(), args, script);
    }

    /// Notes the intent, and tells how the array is submitted.
    fn prepare(&mut self, missing: &[usize]) -> Result<(Vec<String>, String)> {
        let run = self.orders.run.split('-').next().unwrap_or_default();
        let name = format!("tp-{run}-{}", &to_hex(&secret::nonce()?)[..12]);
        let names = self.arrays.iter().map(|array| array.name.as_str()).chain([name.as_str()]);
        let mut all = names_in(&self.dir)?;
        for name in names {
            if !all.iter().any(|known| known == name) {
                all.push(name.to_owned());
            }
        }
        write_names(&self.dir, &all)?;
        let since = Instant::now();
        let array = JobArray {
            name: name.clone(),
            since,
            is_known: false,
            is_void: false,
            was_asked: false,
        };
        self.arrays.push(array);
        let slots = self.orders.slots.first().copied().unwrap_or(1);
        // A minute is the least that Slurm knows.
        let minutes = self.options.walltime.as_secs().div_ceil(60).max(1);
        let array = missing.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let mut args: Vec<String> =
            ["--parsable", "--nodes=1", "--ntasks=1", "--no-requeue", "--output=/dev/null"]
                .map(str::to_owned)
                .to_vec();
        args.push(format!("--array={array}"));
        args.push(format!("--cpus-per-task={slots}"));
        args.push(format!("--time={minutes}"));
        // Of several of the same option sbatch takes the last.
        let mut excluded = self.hub.excluded();
        for arg in &self.options.args {
            match arg.strip_prefix("--exclude=") {
                Some(hosts) => excluded.push(hosts.to_owned()),
                None => args.push(arg.clone()),
            }
        }
        if !excluded.is_empty() {
            args.push(format!("--exclude={}", excluded.join(",")));
        }
        // Last, so that it is the one that counts.
        args.push(format!("--job-name={name}"));
        let mut words = self.orders.words(1)?;
        let number = words.iter().position(|word| word == "--number").map(|at| at + 1);
        let at = number.unwrap_or_default();
        let (before, after) =
            (Orders::line(&words[..at])?, Orders::line(&words.split_off(at + 1))?);
        let script = format!(
            "#!/bin/sh\n{}exec {before} \"$SLURM_ARRAY_TASK_ID\" {after} <<'SECRET'\n{}\nSECRET\n",
            self.redirection()?,
            self.hub.secret.hex()
        );
        Ok((args, script))
    }

    /// A line of the jobs' script that has their messages written to the run's folder, where that can be done; nothing
    /// if the user has said where they go.
    fn redirection(&self) -> Result<String> {
        let is_redirected = |arg: &String| {
            ["-o", "-e", "--ou", "--er"].iter().any(|option| arg.starts_with(option))
        };
        if self.options.args.iter().any(is_redirected) {
            return Ok(String::new());
        }
        let log = Orders::line(&[self.folder.join("worker-").into()])?;
        let log = format!("{log}\"$SLURM_ARRAY_TASK_ID\".log");
        // In a shell of its own, which alone ends if that can't be done.
        Ok(format!("(: >{log}) 2>/dev/null && exec 2>{log}\n"))
    }

    /// Where a worker's messages go, if its node has our folder.
    fn log(&self, number: usize) -> PathBuf {
        self.folder.join(format!("worker-{number}.log"))
    }

    /// Asks the queue, if there is something to be learned and it is time.
    fn question(&mut self) {
        let is_settled = |(number, job): (usize, &Job)| {
            matches!(job, Job::Here { .. }) || *job == Job::None && self.hub.is_retired(number)
        };
        let is_complete = (1..).zip(&self.jobs).all(is_settled);
        let is_doubtful = |array: &JobArray| !array.is_known && !array.was_asked;
        // The first time at once if nobody knows whether there is an array at all.
        let since = match self.arrays.last() {
            Some(last) if is_doubtful(last) => self.last_question,
            Some(last) => {
                let interval = self.slurm.interval;
                let early = interval.saturating_sub(FIRST_QUESTION);
                self.last_question.max(last.since.checked_sub(early))
            }
            None => return,
        };
        if is_complete || since.is_some_and(|since| since.elapsed() < self.slurm.interval) {
            return;
        }
        self.last_question = Some(Instant::now());
        let names: Vec<&str> = self.arrays.iter().map(|array| array.name.as_str()).collect();
        // A line for each job: the numbers of those that wait together are cut off after 64 bytes.
        let args = ["--noheader", "--array", "--states=all", "--format=%i|%T|%j|%r|%N", "--name"]
            .map(str::to_owned);
        let args = args.into_iter().chain([names.join(",")]).collect();
        self.ask(Asked::Squeue, self.slurm.squeue.clone(), args, String::new());
    }

    fn take_sbatch(&mut self, array: usize, said: Said) {
        match said {
            // `123`, or `123;cluster`
            Said::Yes(out) => {
                let number = out.trim().split(';').next().unwrap_or_default();
                let is_number =
                    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
                self.arrays[array].is_known = is_number;
                if !is_number {
                    let said = printable_line(out.trim().as_bytes());
                    self.hub.note(format!(
                        "sbatch said `{said}`; the queue is asked whether there is a job"
                    ));
                }
            }
            Said::No(why) if is_passing(&why) => {
                self.hub.note(format!(
                    "{}; the queue is asked whether there is a job",
                    printable_line(why.as_bytes())
                ));
            }
            Said::No(why) | Said::Unstarted(why) => {
                self.arrays[array].is_void = true;
                self.jobs
                    .iter_mut()
                    .filter(|job| job.array() == Some(array))
                    .for_each(|job| *job = Job::None);
                self.close(printable_line(why.as_bytes()));
            }
            Said::Nothing(why) => {
                self.hub.note(format!(
                    "{}; the queue is asked whether there is a job",
                    printable_line(why.as_bytes())
                ));
            }
        }
    }

    fn take_squeue(&mut self, said: Said) {
        let out = match said {
            Said::Yes(out) => out,
            // No news of the jobs.
            Said::No(why) | Said::Nothing(why) | Said::Unstarted(why) => {
                let why = printable_line(why.as_bytes());
                if self.told_trouble != why {
                    let every = self.slurm.interval.as_secs();
                    self.hub.note(format!(
                        "the queue can't be asked: {why}; it is tried again every {every} s"
                    ));
                    self.told_trouble = why;
                }
                return;
            }
        };
        self.told_trouble.clear();
        let listed = listed(&out);
        let mut last = None;
        let mut waiting = Vec::new();
        for (n, array) in self.arrays.iter_mut().enumerate() {
            let rows: Vec<&Row> = listed.iter().filter(|row| row.name == array.name).collect();
            array.is_known |= !rows.is_empty();
            array.was_asked = true;
            let mut ended = Vec::new();
            for (number, job) in (1..).zip(&self.jobs) {
                let is_waited_for =
                    matches!(job, Job::Submitted { array } | Job::Away { array } if *array == n);
                if !is_waited_for {
                    continue;
                }
                let found = rows.iter().find(|row| row.tasks.has(number));
                let was_missed =
                    std::mem::replace(&mut self.was_missed[number - 1], found.is_none());
                match found {
                    Some(row) if is_alive(row.state) => {
                        waiting.extend((row.state == "PENDING").then_some(row.reason));
                    }
                    Some(row) => ended.push((number, Some(*row))),
                    // One answer without it may be any mishap of the queue's. Two are believed, but are no word on why.
                    None if was_missed => ended.push((number, None)),
                    None => {}
                }
            }
            // A job whose worker was here did exist.
            let is_doubtful = |(number, row): &(usize, Option<&Row<'_>>)| {
                row.is_none() && matches!(self.jobs[number - 1], Job::Submitted { .. })
            };
            self.doubts += u32::from(ended.iter().any(is_doubtful));
            let has_job = array.is_known;
            for (number, row) in ended {
                let job = &mut self.jobs[number - 1];
                let is_wanted = !self.hub.is_retired(number);
                if let Some(row) = row
                    && has_job
                    && is_wanted
                    && matches!(job, Job::Submitted { .. })
                {
                    self.silent += 1;
                    last = Some(EndedJob::of(number, row));
                }
                *job = Job::None;
                self.was_missed[number - 1] = false;
            }
        }
        self.tell_of_waiting(&waiting);
        match last {
            Some(last) if self.silent >= MOST_SILENT => self.inquire(last),
            _ if self.doubts >= MOST_DOUBTS && !self.is_closed => {
                self.close("what sbatch submits is not to be found in the queue".to_owned());
            }
            _ => {}
        }
    }

    /// Says why jobs wait, when that has changed.
    fn tell_of_waiting(&mut self, reasons: &[&str]) {
        let mut known: Vec<&str> =
            reasons.iter().copied().filter(|reason| !["", "None"].contains(reason)).collect();
        known.sort_unstable();
        known.dedup();
        let known = printable_line(known.join(", ").as_bytes());
        if known.is_empty() || known == self.told_reason {
            return;
        }
        let count = reasons.len();
        let s = plural(count as u64);
        self.hub.note(format!("{count} job{s} of this run wait in Slurm's queue: {known}"));
        self.told_reason = known;
    }

    /// No more jobs are submitted. Why the last one has ended is told when it is found out.
    fn inquire(&mut self, job: EndedJob) {
        self.is_closed = true;
        let args = vec!["show".to_owned(), "job".to_owned(), job.id.clone()];
        self.ask(Asked::Scontrol(job), self.slurm.scontrol.clone(), args, String::new());
    }

    fn take_scontrol(&mut self, job: &EndedJob, said: Said) {
        let code = match said {
            Said::Yes(out) => exit_code_in(&out),
            Said::No(_) | Said::Nothing(_) | Said::Unstarted(_) => None,
        };
        self.give_up(job, code);
    }

    fn give_up(&mut self, job: &EndedJob, code: Option<u8>) {
        let node = match job.node.as_str() {
            "" => String::new(),
            node => format!(" on {node}"),
        };
        let program = || match self.orders.words(job.number) {
            Ok(words) => shown(words[0].as_ref()).into_owned(),
            Err(_) => "task-pipeline".to_owned(),
        };
        let (said, code) = (last_line(&self.log(job.number)), code.filter(|code| *code > 0));
        let why = match (said, code) {
            (Some(said), _) => said,
            (None, Some(code @ (126 | 127))) => {
                let program = program();
                format!(
                    "exit code {code}, so `{program}` can't be run there; install it at the same path"
                )
            }
            (None, Some(exit::UNAVAILABLE)) => {
                let address = &self.orders.address;
                format!(
                    "exit code {}, so it did not get through to this run at {address}; --listen says another name, or a \
                     port that is open",
                    exit::UNAVAILABLE
                )
            }
            (None, Some(code)) => format!("exit code {code}; {HINT}"),
            (None, None) => format!("{}; {HINT}", job.why),
        };
        let why = printable_line(why.as_bytes());
        self.close(format!(
            "{MOST_SILENT} jobs in a row ended before a worker had connected; the last one{node}: {why}"
        ));
    }

    /// Cancels everything that has one of our names.
    fn cancel(&mut self) {
        let submitted = self.arrays.iter().filter(|array| !array.is_void);
        let names: Vec<String> = submitted.map(|array| array.name.clone()).collect();
        let (slurm, limit) = (&self.slurm, self.slurm.last_limit);
        if let Err(why) = cancel(slurm, &names, limit, &self.folder) {
            return self.hub.warn(format!(
                "the run's jobs could not be cancelled ({why}); they end by themselves, or by `scancel --name={}`, and the \
                 next run cancels them",
                names.join(",")
            ));
        }
        let left = names_in(&self.dir).map(|mut all| {
            all.retain(|name| !self.arrays.iter().any(|array| array.name == *name));
            all
        });
        if let Err(error) = left.and_then(|left| write_names(&self.dir, &left)) {
            self.hub.warn(error.to_string());
        }
    }
}

impl Job {
    fn array(self) -> Option<usize> {
        match self {
            Job::None => None,
            Job::Submitted { array } | Job::Here { array } | Job::Away { array } => Some(array),
        }
    }
}

impl Crew for Pilots {
    fn tend(&mut self) {
        if let Some((what, told)) = self.asked.take() {
            let Ok(said) = told.try_recv() else {
                self.asked = Some((what, told));
                return;
            };
            match what {
                Asked::Sbatch(array) => self.take_sbatch(array, said),
                Asked::Squeue => self.take_squeue(said),
                Asked::Scontrol(job) => self.take_scontrol(&job, said),
            }
        }
        if self.is_closed || !self.hub.stop.may_start() {
            return;
        }
        self.submit();
        if self.asked.is_none() {
            self.question();
        }
    }

    fn joined(&mut self, number: usize) {
        (self.silent, self.doubts) = (0, 0);
        if let Some(was_missed) = self.was_missed.get_mut(number.wrapping_sub(1)) {
            *was_missed = false;
        }
        let Some(job) = self.job(number) else { return };
        let array = job.array().unwrap_or_default();
        *job = Job::Here { array };
        if let Some(array) = self.arrays.get_mut(array) {
            array.is_known = true;
        }
    }

    fn left(&mut self, number: usize, has_gone: bool) {
        let Some(job) = self.job(number) else { return };
        *job = match job.array() {
            Some(array) if !has_gone => Job::Away { array },
            _ => Job::None,
        };
    }

    fn dismiss(&mut self) {
        // One that is being submitted must not come after what cancels it.
        if let Some((Asked::Sbatch(array), told)) = self.asked.take()
            && !self.arrays[array].is_known
        {
            let _ = told.recv_timeout(self.slurm.last_limit);
        }
        // What still hangs would outlive the run.
        self.is_over.store(true, Ordering::Relaxed);
        if let Some((_, told)) = self.asked.take() {
            let _ = told.recv_timeout(self.slurm.last_limit);
        }
        if !self.arrays.is_empty() {
            self.cancel();
        }
    }
}

impl EndedJob {
    fn of(number: usize, row: &Row<'_>) -> EndedJob {
        let word = |text: &str| printable_line(text.as_bytes());
        let why = match row.reason {
            "" | "None" => word(row.state),
            reason => format!("{} ({})", word(row.state), word(reason)),
        };
        EndedJob { id: row.id.to_owned(), number, why, node: word(row.node) }
    }
}

/// `ExitCode=127:0`, of which the second number is a signal, in what scontrol shows of a job.
fn exit_code_in(shown: &str) -> Option<u8> {
    let words = shown.split_whitespace();
    let both = words.filter_map(|word| word.strip_prefix("ExitCode=")).next_back()?;
    both.split_once(':')?.0.parse().ok()
}

/// A trouble that may be over in a moment, and after which nobody knows whether there is a job.
fn is_passing(why: &str) -> bool {
    let why = why.to_lowercase();
    ["unable to contact", "timed out", "temporarily", "try again", "connection refused"]
        .iter()
        .any(|words| why.contains(words))
}

/// A line of the queue.
#[derive(Debug, PartialEq, Eq)]
struct Row<'a> {
    id: &'a str,
    tasks: Tasks,
    state: &'a str,
    name: &'a str,
    /// Why it waits, or has ended.
    reason: &'a str,
    node: &'a str,
}

/// Numbers within an array: `4`, or `1-3,7-9:2%4` of those that wait.
#[derive(Debug, PartialEq, Eq)]
struct Tasks(Vec<(usize, usize, usize)>);

impl Tasks {
    fn read(text: &str) -> Option<Tasks> {
        let text = text.trim_start_matches('[').trim_end_matches(']');
        let text = text.split('%').next().unwrap_or_default();
        let part = |part: &str| {
            let (range, step) = part.split_once(':').unwrap_or((part, "1"));
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((
                first.parse().ok()?,
                last.parse().ok()?,
                step.parse().ok().filter(|step| *step > 0)?,
            ))
        };
        text.split(',').map(part).collect::<Option<Vec<_>>>().map(Tasks)
    }

    fn has(&self, number: usize) -> bool {
        self.0.iter().any(|&(first, last, step)| {
            (first..=last).contains(&number) && (number - first).is_multiple_of(step)
        })
    }
}

/// The lines that can be understood: `123_4|RUNNING|tp-1-abc|None|node7`.
fn listed(out: &str) -> Vec<Row<'_>> {
    let row = |line| {
        let mut words = str::split(line, '|').map(str::trim);
        let (id, state, name) = (words.next()?, words.next()?, words.next()?);
        let tasks = Tasks::read(id.split_once('_')?.1)?;
        let (reason, node) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        Some(Row { id, tasks, state, name, reason, node })
    };
    out.lines().filter_map(row).collect()
}

/// Whether a job of this state has run, or may yet run.
fn is_alive(state: &str) -> bool {
    const ALIVE: [&str; 13] = [
        "PENDING",
        "CONFIGURING",
        "RUNNING",
        "COMPLETING",
        "SUSPENDED",
        "STOPPED",
        "REQUEUED",
        "REQUEUE_HOLD",
        "REQUEUE_FED",
        "RESIZING",
        "SIGNALING",
        "STAGE_OUT",
        "SPECIAL_EXIT",
    ];
    ALIVE.contains(&state)
}

fn cancel(slurm: &Slurm, names: &[String], limit: Duration, folder: &Path) -> Result<(), String> {
    for name in names {
        match command::run(&slurm.scancel, &[format!("--name={name}")], "", limit, folder, &|| {
            false
        }) {
            Said::Yes(_) => {}
            Said::No(why) | Said::Nothing(why) | Said::Unstarted(why) => {
                return Err(printable_line(why.as_bytes()));
            }
        }
    }
    Ok(())
}

/// Cancels the jobs of runs that were killed. Gives a sentence if there were any.
///
/// # Errors
/// If the file of names can't be read or written.
pub(super) fn cancel_leftovers(dir: &Path, folder: &Path, slurm: &Slurm) -> Result<Option<String>> {
    let names = names_in(dir)?;
    if names.is_empty() {
        return Ok(None);
    }
    let told = names.join(", ");
    match cancel(slurm, &names, slurm.last_limit, folder) {
        Ok(()) => {
            write_names(dir, &[])?;
            Ok(Some(format!("jobs of Slurm that an earlier run has left are cancelled: {told}")))
        }
        Err(why) => Ok(Some(format!(
            "jobs of Slurm that an earlier run has left could not be cancelled ({why}): {told}; the next run tries again"
        ))),
    }
}

fn names_in(dir: &Path) -> Result<Vec<String>> {
    let path = dir.join(NAMES);
    match fs::read_to_string(&path) {
        Ok(text) => {
            Ok(text.lines().filter(|line| line.starts_with("tp-")).map(str::to_owned).collect())
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(err) => Err(err).or_io("read", path),
    }
}

/// Replaces the file, durably; without a name, removes it.
fn write_names(dir: &Path, names: &[String]) -> Result<()> {
    let path = dir.join(NAMES);
    if names.is_empty() {
        return match fs::remove_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.or_io("remove", path),
        };
    }
    let draft = dir.join(format!("{NAMES}~"));
    let mut file = File::create(&draft).or_io("write", &draft)?;
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.or_io("write", &draft)?;
    fs::rename(&draft, &path).or_io("write", &path)?;
    File::open(dir).and_then(|folder| folder.sync_all()).or_io("sync", dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_read_whatever_else_it_says() {
        let out = "12_4|RUNNING|tp-1-ab\r\n12_[5-6,9-13:2%3]|PENDING|tp-1-ab\n7|RUNNING|x\nslurm_load_jobs error\n\
                   12_7|NODE_FAIL|tp-1-ab\n||\n9_x|RUNNING|y\n";
        let rows = listed(out);
        assert_eq!(rows.len(), 3, "{rows:?}");
        let state = |number| rows.iter().find(|row| row.tasks.has(number)).map(|row| row.state);
        assert_eq!(
            [4, 5, 6, 7, 8, 9, 10, 11, 13].map(state).map(|state| state.unwrap_or("-")),
            [
                "RUNNING",
                "PENDING",
                "PENDING",
                "NODE_FAIL",
                "-",
                "PENDING",
                "-",
                "PENDING",
                "PENDING"
            ]
        );
        assert!(is_alive("PENDING") && !is_alive("NODE_FAIL") && !is_alive("COMPLETED"));
    }

    #[test]
    fn names_are_kept_until_their_jobs_are_cancelled() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let program = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        let names = ["tp-1-a".to_owned(), "tp-1-b".to_owned()];
        write_names(dir.path(), &names).unwrap();
        let failing =
            Slurm { scancel: program("bad", "echo gone >&2; exit 1"), ..Slurm::default() };
        let told = cancel_leftovers(dir.path(), dir.path(), &failing).unwrap().unwrap();
        assert!(told.contains("bad: gone") && told.contains("tp-1-a, tp-1-b"), "{told}");
        assert_eq!(names_in(dir.path()).unwrap(), names);
        let log = dir.path().join("log");
        let good = program("good", &format!("echo \"$@\" >>{}", log.to_str().unwrap()));
        let good = Slurm { scancel: good, ..Slurm::default() };
        assert!(cancel_leftovers(dir.path(), dir.path(), &good).unwrap().is_some());
        assert_eq!(fs::read_to_string(log).unwrap(), "--name=tp-1-a\n--name=tp-1-b\n");
        assert!(!dir.path().join(NAMES).exists());
        assert_eq!(cancel_leftovers(dir.path(), dir.path(), &good).unwrap(), None);
    }

    #[test]
    fn a_command_is_ended_at_its_limit_and_believed_only_with_an_exit_code_of_0() {
        let dir = tempfile::tempdir().unwrap();
        let run = |text: &str, limit| {
            let args = ["-c".to_owned(), text.to_owned()];
            command::run(Path::new("/bin/sh"), &args, "input", limit, dir.path(), &|| false)
        };
        let long = Duration::from_secs(60);
        assert_eq!(run("cat; echo x >&2", long), Said::Yes("input".to_owned()));
        assert_eq!(run("echo; echo why >&2; exit 3", long), Said::No("sh: why".to_owned()));
        assert!(matches!(run("sleep 600", Duration::from_millis(50)), Said::Nothing(_)));
        let nothing = command::run(Path::new("/no/such"), &[], "", long, dir.path(), &|| false);
        assert!(matches!(nothing, Said::Unstarted(why) if why.contains("such could not be run")));
    }
}
