//! A run, from the manifest to the exit code: the one place that knows tasks, steps, the store, the
//! database and the screen.
//!
//! [`run`] has four acts: open, plan, work, close. `prepare` and `scan` find out what there is, `preflight` what
//! is missing; `session` sets up the threads of the third act: the dispatcher's loop (`dispatch`, with the
//! `backlog` of what is left to do) and the workers' (`worker`, with the `committer` that writes down what they
//! did). `permits` limits how many scripts run at once. `forecast` and `reads` answer for a run that doesn't take
//! place.

mod admission;
mod backlog;
mod busy;
mod committer;
mod dependencies;
mod dispatch;
mod exclusions;
mod exports;
mod fingerprint;
mod forecast;
mod free_space;
mod given;
mod groups;
mod harvest;
mod lack;
mod listed;
mod lock;
mod message;
mod overheads;
mod permits;
mod preflight;
mod prepare;
mod reads;
mod sandbox;
mod scan;
mod session;
mod signals;
mod sources;
mod tables;
mod unset;
mod walk;
mod worker;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::db::{
    self, Applied, Complete, Db, Durability, Flow, FlowTask, Overhead, Plan, Remarks, RunRow,
    Settled,
};
use crate::error::{Error, OrIo, Result};
use crate::exec::{Ground, Local, Site};
use crate::folder;
use crate::graph::Graph;
use crate::ids::{RunId, TaskIndex};
use crate::jobserver::Jobserver;
use crate::labels::{Labels, task_word};
use crate::maintain::{self, RunAgain, ScriptLimits};
use crate::manifest::{Manifest, ParamOverrides, Task};
use crate::object::ObjectHash;
use crate::progress::{Event, Progress, Registered, Summary};
use crate::proof::Proof;
use crate::remote::{self, Remote, RemoteOptions};
use crate::step::{KEPT_RULES, Launch, SERVERS, limit_servers};
use crate::store::{self, Store};
use crate::suggest;
use crate::sys;
use crate::sys::clock::now_ms;
use crate::sys::limits;
use crate::text::{counted, plural};

use dispatch::RunOutcome;
use preflight::Checked;
use session::Session;

pub(crate) use busy::tell_on_stderr;
pub use forecast::{Forecast, TaskForecast};
pub(crate) use free_space::explain;
pub(crate) use listed::recipe_of;
pub use lock::RunLock;
pub(crate) use lock::{Runner, runner};
pub use prepare::Prepared;
pub use reads::reads;
pub use signals::{Forwarder, die_of, die_when_idle, late_signal};

/// Descriptors that a run needs besides those of its workers, once the database is open: a dozen, and what a deep tree
/// of outputs takes.
const FILES: u64 = 24;

/// Descriptors that a worker needs. While its script runs they are thirteen: folders, pipes, log and whose it is, pidfd.
/// Before and after, without the pidfd, four more at most.
const FILES_EACH: u64 = 17;

/// Descriptors that a connected worker needs here.
const FILES_A_WORKER: u64 = 4;

/// What the command line asks of a run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    pub manifest: PathBuf,
    pub db: PathBuf,
    /// Scripts at once.
    pub jobs: NonZeroUsize,
    /// make's, whose tokens limit them too.
    pub jobserver: Option<Jobserver>,
    /// Why make's `-j` doesn't, worth telling.
    pub no_jobserver: Option<String>,
    pub keep_going: bool,
    /// `-B`: everything anew.
    pub always: bool,
    /// `--only`: only these tasks, or steps `TASK[sample=A]` of them; empty: all.
    pub only: Vec<String>,
    /// `--until`: these tasks too, and all that is upstream of them.
    pub until: Vec<String>,
    /// `--redo`: steps, tasks, or steps `TASK[sample=A]` of them, that run anew.
    pub redo: Vec<OsString>,
    /// INPUT…; `-` is standard input, and so are other names of descriptors: see `sys::proc::descriptor`.
    pub inputs: Vec<PathBuf>,
    /// Files that name further INPUTs; `-` is standard input.
    pub inputs_from: Vec<PathBuf>,
    /// Forget the inputs of earlier runs.
    pub no_inputs: bool,
    /// `-P` and `--params`.
    pub params: ParamOverrides,
    /// Wait for the database instead of giving up.
    pub wait: bool,
    pub durability: Durability,
    /// How scripts may be started.
    pub launch: Launch,
    /// Show what the scripts print.
    pub verbose: bool,
    /// Bytes that have to stay free.
    pub min_free: u64,
    /// `--memory`: bytes that the steps that run may need together; `None`: what the machine has to spare.
    pub memory: Option<u64>,
    /// `--have`: how many there are of what tasks name in `uses`.
    pub have: Vec<(String, usize)>,
    /// The database may lie on a network mount.
    pub allow_network_fs: bool,
    /// `--on`: workers that make attempts; `None`: this machine does.
    pub on: Option<RemoteOptions>,
}

/// Opens the place where a run's attempts are made.
pub type OpenSite<'a> = &'a dyn Fn(Ground) -> Result<Box<dyn Site>>;

/// Runs a pipeline to its end, or as far as it gets, on this machine, or where the options say.
///
/// # Errors
/// Whatever kept *us* from doing our part; failed steps are in the [`Summary`].
pub fn run(options: &RunOptions, progress: &mut dyn Progress) -> Result<Summary> {
    match &options.on {
        None => run_on(options, &|ground| Ok(Box::new(Local::new(ground)?)), progress),
        Some(on) => {
            let have: Vec<usize> = options.have.iter().map(|(_, count)| *count).collect();
            let open = |ground| -> Result<Box<dyn Site>> {
                Ok(Box::new(Remote::open(ground, on, have.clone(), options.memory)?))
            };
            run_on(options, &open, progress)
        }
    }
}

/// Runs a pipeline as [`run`] does, with attempts made elsewhere, or by something that takes no time.
///
/// # Errors
/// As for [`run`], and those of opening the place.
pub fn run_on(
    options: &RunOptions,
    open_site: OpenSite<'_>,
    progress: &mut dyn Progress,
) -> Result<Summary> {
    let asked = Asked::read(options)?;
    check_uses(&asked.manifest, &options.have)?;
    // Each worker finds out for itself whether its machine can make a sandbox.
    if options.on.as_ref().is_none_or(|on| on.local > 0) {
        sandbox::check(&asked.manifest, &asked.only)?;
    }
    folder::look(&options.db)?;
    folder::make(&options.db).or_io("make the database folder", &options.db)?;
    let dir = options.db.canonicalize().or_io("find the database folder", &options.db)?;
    if dir.as_os_str().as_encoded_bytes().contains(&b'\n')
        && asked.manifest.tasks.iter().any(|task| task.gather)
    {
        return Err(Error::Usage(format!(
            "the path of the database has a line break (`{}`), and the list that `gather` gives a script has a path on \
             each line; move it, or name another one with --db",
            crate::text::shown(&dir)
        )));
    }
    let result = run_in(&dir, options, asked, open_site, progress);
    result.map_err(|error| free_space::explain(error, &dir))
}

/// The four acts of a run: open, plan, work, close.
fn run_in(
    dir: &Path,
    options: &RunOptions,
    asked: Asked,
    open_site: OpenSite<'_>,
    progress: &mut dyn Progress,
) -> Result<Summary> {
    let opened = open(dir, options, &asked.manifest, progress)?;
    // Waiting for another run is no part of it.
    let (begun, started_ms) = (Instant::now(), now_ms());
    let exports = exports::of(&asked.manifest);
    let (prepared, plan, run) = match plan(&opened, options, asked, started_ms, progress)? {
        Planned::NothingToDo { steps } => {
            let (reused, wall) = (steps, begun.elapsed());
            let Remarks { sentences, unseeing, .. } = opened.db.read(Remarks::read)?;
            for sentence in sentences {
                progress.tell(&Event::Warning(&sentence));
            }
            let summary =
                Summary { reused, wall, exports, unseeing, complete: true, ..Summary::default() };
            progress.tell(&Event::Ended(&summary));
            return Ok(summary);
        }
        Planned::Work { prepared, plan, run } => (prepared, plan, run),
    };
    let has_sandbox = prepared.manifest.tasks.iter().any(|task| task.sandbox);
    let jobs = match &options.on {
        None => scripts_at_once(options.jobs, options.launch, has_sandbox, progress)?,
        Some(on) => {
            // The scripts' files are elsewhere; here a worker is a connection.
            let files = FILES + remote::FILES + sys::proc::open_files() as u64;
            let local = (on.local as u64 + 1) * (FILES_EACH + SERVERS as u64);
            let wanted = files + local + FILES_A_WORKER * on.workers.count() as u64;
            limits::raise_open_files(wanted).or_system("raise the limit of open files")?;
            options.jobs
        }
    };
    let options = &RunOptions { jobs, ..options.clone() };
    let session = Session { opened: &opened, prepared: &prepared, run, options, open_site };
    let mut outcome = session.drive(progress)?;
    let summary = &mut outcome.summary;
    summary.reused += plan.tasks.iter().map(|task| task.reused).sum::<u64>() + summary.revived;
    summary.wall = begun.elapsed();
    let refused = prepared.refused().len() as u64;
    summary.obstacles += refused;
    summary.complete &= refused == 0;
    if outcome.trouble.is_none() {
        let (flow, manifest) = (&prepared.flow, &prepared.manifest);
        let mut remarks = opened
            .db
            .read(|reader| outcome.harvest.remarks(reader, flow, manifest, summary.complete))?;
        for sentence in &remarks.sentences {
            progress.tell(&Event::Warning(sentence));
        }
        remarks.unseeing.clone_from(&summary.unseeing);
        opened.db.write(|writer| remarks.note(writer))?;
        summary.exports = exports::due(&opened.db, &prepared, summary)?;
        let sentences = out_of_reach(&opened.db, &prepared, summary)?;
        let ran = summary.attempts + summary.failed > 0 || summary.interrupted.is_some();
        summary.is_out_of_reach = !ran && !sentences.is_empty();
        for sentence in sentences {
            progress.tell(&Event::Warning(&sentence));
        }
    }
    close(&opened, &prepared, (run, started_ms), outcome, progress)
}

/// What to say of the tasks that `--only` names and that have no step yet, or none of a group that it names, because it
/// leaves out what must run first.
fn out_of_reach(db: &Db, prepared: &Prepared, summary: &Summary) -> Result<Vec<String>> {
    if prepared.only.is_empty() {
        return Ok(Vec::new());
    }
    let is_settled = exports::are_settled(db, prepared, summary)?;
    let (counts, waits) = db.read(|reader| Ok((db::step_counts(reader)?, db::waits(reader)?)))?;
    let flow = &prepared.flow;
    let has_any =
        |index: TaskIndex| counts.get(&flow.task(index).id).is_some_and(|counts| counts.live() > 0);
    let has_all = |index: TaskIndex| {
        let waits = waits.iter().find(|waits| waits.id == flow.task(index).id);
        // Groups of other labels are not asked for.
        let lacks_group = waits.is_some_and(|waits| {
            let mut named = prepared.only.iter().filter(|(named, _)| *named == index);
            named.any(|(_, labels)| waits.groups.iter().any(|group| group.agree(labels)))
        });
        !lacks_group && has_any(index)
    };
    let named: BTreeSet<TaskIndex> = prepared.only.iter().map(|(index, _)| *index).collect();
    let mut sentences = Vec::new();
    for index in named.into_iter().filter(|&index| !has_all(index)) {
        let mut is_above = vec![false; flow.tasks.len()];
        let mut open: Vec<TaskIndex> = flow.task(index).fed_by().collect();
        while let Some(task) = open.pop() {
            if !std::mem::replace(&mut is_above[task.0], true) {
                open.extend(flow.task(task).fed_by());
            }
        }
        // Those with something to run, and those that get steps only when these have run.
        let mut must_run = vec![false; flow.tasks.len()];
        for task in flow.order.iter().filter(|task| is_above[task.0]) {
            must_run[task.0] =
                !is_settled[task.0] || flow.task(*task).fed_by().any(|above| must_run[above.0]);
        }
        let left_out = flow.order.iter().map(|&task| (task, flow.task(task)));
        let left_out = left_out.filter(|(task, row)| must_run[task.0] && row.is_left_out());
        let names: Vec<&str> = left_out.map(|(_, row)| row.name.as_str()).collect();
        if !names.is_empty() {
            let task = &flow.task(index).name;
            let what = if has_any(index) { "all of task" } else { "task" };
            sentences.push(format!(
                "{what} `{task}` can't run before `{}`, which --only leaves out: add --only {}, or say --until {task}",
                names.join("`, `"),
                names.join(" --only ")
            ));
        }
    }
    Ok(sentences)
}

/// What the command line and the manifest ask for, without a look at the database.
struct Asked {
    manifest: Manifest,
    graph: Graph,
    /// `--only` and `--until`; empty: all.
    only: Vec<(TaskIndex, Labels)>,
    /// The INPUTs, those of a list too.
    inputs: Vec<PathBuf>,
    /// The INPUTs that are open already, such as standard input, in their order.
    streams: Vec<File>,
    /// What to say of the tables, a sentence each.
    warnings: Vec<String>,
    /// By place: a fingerprint of the rows of the task's table.
    table_rows: Vec<Option<ObjectHash>>,
}

impl Asked {
    /// Reports every mistake that can be found before anything is made.
    fn read(options: &RunOptions) -> Result<Asked> {
        let manifest = Manifest::read_with(&options.manifest, &options.params)?;
        let graph = Graph::of(&manifest);
        let mut only = only(&manifest, &options.only)?;
        for (index, labels) in chosen(&manifest, "--until", &options.until)? {
            if !labels.is_empty() {
                return Err(Error::Usage(format!(
                    "--until takes a whole task; for some of its steps: --only '{}[{labels}]'",
                    manifest.task(index).name
                )));
            }
            only.extend(graph.with_upstream(index).into_iter().map(|up| (up, Labels::default())));
        }
        let inputs = sources::inputs(options)?;
        let Checked { streams, warnings, rows } = preflight::check(&manifest, &inputs)?;
        let inputs = inputs.into_iter().map(|input| input.path).collect();
        Ok(Asked { manifest, graph, only, inputs, streams, warnings, table_rows: rows })
    }
}

/// A database folder that belongs to this run.
struct Opened {
    db: Arc<Db>,
    store: Arc<Store>,
    /// `DB`, absolute.
    dir: PathBuf,
    /// Boot and mount: see `boot_and_mount`.
    boot: String,
    /// Device and inode of the folder and of the file `db`: both have to be there when the run ends.
    identity: [(u64, u64); 2],
    /// Given back last.
    _lock: RunLock,
}

/// First act: the folder is ours, converted if it has to be, and whatever a power cut took is known.
fn open(
    dir: &Path,
    options: &RunOptions,
    manifest: &Manifest,
    progress: &mut dyn Progress,
) -> Result<Opened> {
    if !options.allow_network_fs {
        free_space::refuse_network(dir)?;
    }
    let lock = RunLock::take(dir, options.wait, progress)?;
    store::prepare(dir)?;
    let db = Arc::new(Db::open(dir, options.durability)?);
    busy::tell_on_stderr(&db);
    let store = Arc::new(Store::open(dir, Arc::clone(&db) as Arc<dyn Proof>)?);
    progress.tell(&Event::Opened {
        manifest: &options.manifest,
        tasks: manifest.tasks.len(),
        db: &options.db,
    });
    let boot = sys::boot_and_mount(dir).or_io("look at", dir)?;
    let bad = maintain::recover(&db, &store, &boot, options.durability)?;
    if bad > 0 {
        progress.tell(&Event::Warning(&format!(
            "{} did not survive a power cut; what made {} runs again",
            counted(bad, "object"),
            if bad == 1 { "it" } else { "them" }
        )));
    }
    maintain::inherit_logs(&db, &store, dir)?;
    let identity = identity(dir)?;
    Ok(Opened { db, store, dir: dir.to_owned(), boot, identity, _lock: lock })
}

/// How many scripts may run at once: fewer than -j says where the limit of open files allows no more. Raises that as far
/// as it goes.
fn scripts_at_once(
    jobs: NonZeroUsize,
    launch: Launch,
    has_sandbox: bool,
    progress: &mut dyn Progress,
) -> Result<NonZeroUsize> {
    static IS_TOLD: AtomicBool = AtomicBool::new(false);
    let others = FILES + sys::proc::open_files() as u64;
    // One worker more than scripts: see `permits`.
    let each = FILES_EACH + if has_sandbox { KEPT_RULES as u64 } else { 0 };
    let needed = others + (jobs.get() as u64 + 1) * each;
    let servers = if launch == Launch::Spawn { 0 } else { (jobs.get() + 1) * SERVERS };
    let wanted = needed + servers as u64;
    let limit = limits::raise_open_files(wanted).or_system("raise the limit of open files")?;
    // Scripts come first: servers only save time.
    let left = limit.saturating_sub(needed).max(limit / 16);
    limit_servers(if limit >= wanted { usize::MAX } else { left as usize });
    if limit >= needed {
        return Ok(jobs);
    }
    let most = (limit.saturating_sub(others) / each).saturating_sub(1);
    let most = NonZeroUsize::new(most as usize).unwrap_or(NonZeroUsize::MIN);
    if !IS_TOLD.swap(true, Ordering::Relaxed) {
        progress.tell(&Event::Warning(&format!(
            "{most} script{} at once instead of {jobs}, because no more than {limit} files may be open; for more, \
             raise the hard limit (`ulimit -Hn`)",
            plural(most.get() as u64)
        )));
    }
    Ok(most)
}

/// Device and inode of a database folder, and of its `db`.
fn identity(dir: &Path) -> Result<[(u64, u64); 2]> {
    let of = |path: &Path| {
        let found = std::fs::metadata(path).or_io("look at", path)?;
        Ok((found.dev(), found.ino()))
    };
    Ok([of(dir)?, of(&Db::file(dir))?])
}

/// Fails if what this run has kept is gone, because somebody removed the database meanwhile.
fn is_still_there(opened: &Opened) -> Result<()> {
    match identity(&opened.dir) {
        Ok(now) if now == opened.identity => return Ok(()),
        Ok(_) => {}
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        // That it can't be looked at says nothing about where it is.
        Err(error) => return Err(error),
    }
    Err(Error::Foreign {
        path: opened.dir.clone(),
        why: "was removed or replaced while this run worked in it; what the run has done is lost, run it again"
            .to_owned(),
    })
}

/// What the second act comes to.
enum Planned {
    /// All is as the last complete run left it: so many steps.
    NothingToDo {
        steps: u64,
    },
    Work {
        prepared: Box<Prepared>,
        plan: Plan,
        run: RunId,
    },
}

/// Second act: what has to run, written down.
fn plan(
    opened: &Opened,
    options: &RunOptions,
    asked: Asked,
    started_ms: i64,
    progress: &mut dyn Progress,
) -> Result<Planned> {
    let Opened { db, store, dir, boot, .. } = opened;
    let mut prepared = Prepared::new(db, asked, dir, options, Some(store), progress)?;
    // Labels of --only have to be checked against the steps.
    let names_labels = prepared.only.iter().any(|(_, labels)| !labels.is_empty());
    if !options.always
        && options.redo.is_empty()
        && !names_labels
        && let Some(last) = db.read(db::complete)?
        && prepared.fingerprint == Some(last.fingerprint)
    {
        return Ok(Planned::NothingToDo { steps: last.steps });
    }
    let plan = prepared.plan(db, options, Some(store))?;
    let refused = prepared.refused();
    if !refused.is_empty() && !options.keep_going {
        return Err(Error::Inputs(refused));
    }
    prepared.check_only(db)?;
    for sentence in &refused {
        progress.tell(&Event::Warning(sentence));
    }
    let row = RunRow {
        started_ms,
        boot: boot.clone(),
        pid: std::process::id(),
        durability: options.durability.as_str(),
        manifest: crate::text::path_bytes(&options.manifest).to_vec(),
        dir: crate::text::path_bytes(&prepared.manifest.dir).to_vec(),
        always: options.always,
        title: prepared.manifest.title.clone(),
    };
    let run = db.write(|writer| {
        let applied = Applied {
            registrations: &prepared.registrations,
            rows: &prepared.rows,
            scans: &prepared.scans,
            run: &row,
            unread: &refused,
        };
        db::apply(writer, &prepared.flow, &applied)
    })?;
    prepared.forget_registrations();
    let history = if progress.wants_history() {
        db.read(|reader| db::mean_times(reader, &prepared.flow))?
    } else {
        Vec::new()
    };
    // Of steps that take several processors, so many fewer run at once.
    let at_once = |task: &Task| (options.jobs.get() / task.cpus.get()).max(1);
    let limits = prepared.limits().into_iter().zip(&prepared.manifest.tasks);
    let limits: Vec<usize> = limits.map(|(limit, task)| limit.min(at_once(task))).collect();
    progress.tell(&Event::Registered(&Registered {
        run,
        plan: &without_left_out(&plan, &prepared.flow),
        flow: &prepared.flow,
        history: &history,
        limits: &limits,
    }));
    Ok(Planned::Work { prepared: Box::new(prepared), plan, run })
}

/// A plan as it concerns this run: of what --only and --until leave out nothing has to run.
fn without_left_out<'a>(plan: &'a Plan, flow: &Flow) -> Cow<'a, Plan> {
    if !flow.tasks.iter().any(FlowTask::is_left_out) {
        return Cow::Borrowed(plan);
    }
    let mut plan = plan.clone();
    for (plan, task) in plan.tasks.iter_mut().zip(&flow.tasks) {
        if task.is_left_out() {
            (plan.fresh, plan.again, plan.held, plan.waits_for_inputs) = (0, 0, 0, false);
        }
    }
    Cow::Owned(plan)
}

/// Fourth act: the run's row says how it ended, and what scripts spoilt is got back.
fn close(
    opened: &Opened,
    prepared: &Prepared,
    (run, started_ms): (RunId, i64),
    outcome: RunOutcome,
    progress: &mut dyn Progress,
) -> Result<Summary> {
    let RunOutcome { summary, trouble, harvest: _, overheads } = outcome;
    let result = match &trouble {
        // After a failed write or fsync a second one may lie: the run stays open, like a killed one.
        Some(Error::Io { .. } | Error::Db { .. }) => None,
        Some(_) => Some("stopped"),
        None if summary.complete => Some("complete"),
        None if summary.interrupted.is_some() => Some("stopped"),
        None if summary.failed == 0 && !prepared.only.is_empty() => Some("partial"),
        None => Some("failed"),
    };
    let overheads = overheads.into_list();
    // As long as its summary says, whoever tells it.
    let wall_ms = i64::try_from(summary.wall.as_millis()).unwrap_or(i64::MAX);
    let ended = (run, started_ms.saturating_add(wall_ms));
    let end = |result| end_run(opened, ended, prepared, &summary, result, &overheads);
    let closed = result.map_or(Ok(()), end);
    let healed = heal(opened, prepared, &summary, progress);
    let trouble = trouble.or(closed.err()).or(healed.err()).or(is_still_there(opened).err());
    progress.tell(&Event::Ended(&summary));
    match trouble {
        Some(error) => Err(error),
        None => Ok(summary),
    }
}

/// Gets back what scripts have spoilt through their large inputs.
fn heal(
    opened: &Opened,
    prepared: &Prepared,
    summary: &Summary,
    progress: &mut dyn Progress,
) -> Result<()> {
    if summary.spoilt.is_empty() {
        return Ok(());
    }
    let (again, _signals) = run_again(&opened.db, Some(&prepared.manifest))?;
    for (object, _, repair) in
        maintain::get_back(&opened.db, &opened.store, &opened.dir, &again, &summary.spoilt)?
    {
        let text =
            format!("object {object} was spoilt by a script that changed its input: {repair}");
        progress.tell(&Event::Warning(&text));
    }
    Ok(())
}

/// How a repair runs steps again: with what their manifest says, if it is known. Signals end its scripts as long as
/// the second value lives.
///
/// # Errors
/// If signals can't be taken, a jobserver not be made, or the database not be read.
pub fn run_again(db: &Db, manifest: Option<&Manifest>) -> Result<(RunAgain, Forwarder)> {
    let mut again = RunAgain::default();
    if let Some(manifest) = manifest {
        again.flow = prepare::known_flow(db, manifest)?;
    }
    // One script at a time runs, so that all the processors are its.
    let jobs = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let tasks = manifest
        .iter()
        .flat_map(|manifest| manifest.tasks.iter().map(move |task| (manifest, task)));
    for (manifest, task) in tasks {
        let limits = ScriptLimits {
            timeout: task.timeout,
            copies_input: task.copies_input,
            wants_jobserver: task.jobserver,
            cpus: task.cpus.get().min(jobs),
            sandbox: sandbox::declared(task, &manifest.dir),
        };
        again.limits.insert(task.name.clone(), limits);
    }
    if again.limits.values().any(|limits| limits.wants_jobserver) {
        let jobserver = Jobserver::new(jobs).or_system("make a pipe")?;
        again.share = Some(Arc::new(jobserver.share(jobs).or_system("make a jobserver")?));
    }
    let forwarder = signals::stop_on_signals(Arc::clone(&again.stop))?;
    Ok((again, forwarder))
}

fn end_run(
    opened: &Opened,
    (run, ended_ms): (RunId, i64),
    prepared: &Prepared,
    summary: &Summary,
    result: &str,
    overheads: &[Overhead],
) -> Result<()> {
    let settled = match summary.complete {
        true => Settled::All,
        false => {
            let is_settled = exports::are_settled(&opened.db, prepared, summary)?;
            let tasks = prepared.flow.tasks.iter().zip(is_settled);
            let unsettled = tasks.filter(|(_, is)| !is).map(|(task, _)| task.name.clone());
            Settled::AllBut(unsettled.collect())
        }
    };
    opened.db.write(|writer| {
        db::note_overheads(writer, run, overheads)?;
        let complete = match prepared.fingerprint {
            Some(fingerprint) if summary.complete => {
                Some(Complete { fingerprint, steps: db::live_steps(writer)? })
            }
            _ => None,
        };
        let end = (result, &summary.steps());
        db::end_run(writer, run, ended_ms, end, &settled, complete.as_ref())
    })
}

/// Plans without changing anything: the database is opened for reading only, or is one in memory if
/// there is none.
pub fn dry_run(options: &RunOptions, progress: &mut dyn Progress) -> Result<Forecast> {
    let asked = Asked::read(options)?;
    let db = Db::open_for_plan(&options.db)?;
    let db_dir = options.db.canonicalize().unwrap_or_else(|_| options.db.clone());
    let mut prepared = Prepared::new(&db, asked, &db_dir, options, None, progress)?;
    let plan = prepared.plan(&db, options, None)?;
    prepared.check_only(&db)?;
    for sentence in prepared.refused() {
        progress.tell(&Event::Warning(&sentence));
    }
    let forecast = forecast::forecast(&db, &prepared, &plan)?;
    // What is to be made may have something else to say.
    if forecast.is_settled() {
        for sentence in db.read(Remarks::read)?.all() {
            progress.tell(&Event::Warning(&sentence));
        }
    }
    Ok(forecast)
}

/// Every task that uses what is not there, or not so many of it as each of its steps needs.
fn check_uses(manifest: &Manifest, have: &[(String, usize)]) -> Result<()> {
    let mut wrong = Vec::new();
    for task in &manifest.tasks {
        for (name, count) in &task.uses {
            let lacking = match have.iter().find(|(known, _)| known == name) {
                Some((_, there)) if *there >= count.get() => continue,
                Some((_, there)) => format!("--have {name}={there} has fewer; add more of them"),
                None => {
                    match suggest::nearest(name, have.iter().map(|(known, _)| known.as_str())) {
                        Some(near) => format!("--have names none; did you mean `{near}`?"),
                        None => format!("--have names none; add --have {name}={count}"),
                    }
                }
            };
            wrong.push(format!("task `{}` uses {count} of `{name}`, but {lacking}", task.name));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Error::Usage(wrong.join("\n"))),
    }
}

/// Checks the names of `--only`.
fn only(manifest: &Manifest, words: &[String]) -> Result<Vec<(TaskIndex, Labels)>> {
    chosen(manifest, "--only", words)
}

/// Checks the names of tasks that an option has, and the keys of their labels.
fn chosen(manifest: &Manifest, option: &str, words: &[String]) -> Result<Vec<(TaskIndex, Labels)>> {
    let refuse = |why: String| Error::Usage(format!("{option}: {why}"));
    let one = |word: &String| {
        let (name, labels) = task_word(word).map_err(refuse)?;
        let index = manifest.find(name).ok_or_else(|| {
            let all: Vec<&str> = manifest.tasks.iter().map(|task| task.name.as_str()).collect();
            refuse(format!("no task is called `{name}`; there are: {}", all.join(", ")))
        })?;
        let known = &manifest.task(index).label_keys;
        if let Some((key, _)) =
            labels.iter().find(|(key, _)| !known.iter().any(|known| known == key))
        {
            let keys = || known.iter().map(String::as_str);
            let cure = match suggest::nearest(key, keys()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if known.is_empty() => "they have none".to_owned(),
                None => format!("they have: {}", keys().collect::<Vec<_>>().join(", ")),
            };
            return Err(refuse(format!("the steps of `{name}` have no label `{key}`; {cure}")));
        }
        Ok((index, labels))
    };
    words.iter().map(one).collect()
}
