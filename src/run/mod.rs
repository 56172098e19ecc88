//! A run, from the manifest to the exit code: the one place that knows tasks, steps, the store, the
//! database and the screen. Plan, then work.

mod backlog;
mod committer;
mod delayed;
mod disk;
mod dispatch;
mod files;
mod fingerprint;
mod forecast;
mod identity;
mod ingest;
mod lock;
mod prepare;
mod reads;
mod report;
mod revisit;
mod scan;
mod shared;
mod signals;
mod slots;
mod sources;
mod tokens;
mod walk;
mod work;
mod worker;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::db::{self, Applied, Complete, Db, Durability, RunRow};
use crate::error::{Error, OrIo, Result};
use crate::exec::{Ground, Local, Site};
use crate::graph::Graph;
use crate::ids::{RunId, TaskIndex};
use crate::jobserver::Jobserver;
use crate::maintain;
use crate::manifest::Manifest;
use crate::progress::{Event, Progress, Registered, Summary};
use crate::proof::Proof;
use crate::store::{self, Store};

pub(crate) use disk::explain;
pub use forecast::{Forecast, TaskForecast};
pub use lock::RunLock;
pub(crate) use lock::runner;
pub use prepare::Prepared;
pub use reads::reads;
pub use signals::{die_when_idle, late_signal};

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
    /// Only these tasks; empty: all.
    pub only: Vec<String>,
    /// INPUT…; `-` is standard input.
    pub inputs: Vec<PathBuf>,
    /// Forget the inputs of earlier runs.
    pub no_inputs: bool,
    /// Wait for the database instead of giving up.
    pub wait: bool,
    pub durability: Durability,
    /// Show what the scripts print.
    pub verbose: bool,
    /// Bytes that have to stay free.
    pub min_free: u64,
    /// The database may lie on a network mount.
    pub allow_network_fs: bool,
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Opens the place where a run's attempts are made.
pub type OpenSite<'a> = &'a dyn Fn(Ground) -> Result<Box<dyn Site>>;

/// Runs a pipeline to its end, or as far as it gets, on this machine.
///
/// # Errors
/// Whatever kept *us* from doing our part; failed steps are in the [`Summary`].
pub fn run(options: &RunOptions, progress: &mut dyn Progress) -> Result<Summary> {
    run_on(options, &|ground| Ok(Box::new(Local::new(ground)?)), progress)
}

/// As [`run`], with attempts made elsewhere, or by something that takes no time.
///
/// # Errors
/// As for [`run`], and those of opening the place.
pub fn run_on(
    options: &RunOptions,
    open_site: OpenSite<'_>,
    progress: &mut dyn Progress,
) -> Result<Summary> {
    let begun = Instant::now();
    let manifest = Manifest::read(&options.manifest)?;
    let graph = Graph::of(&manifest);
    let only = only(&manifest, &options.only)?;
    files::check(&manifest, &options.inputs)?;

    std::fs::create_dir_all(&options.db).or_io("make the database folder", &options.db)?;
    let db_dir = options.db.canonicalize().or_io("find the database folder", &options.db)?;
    if !options.allow_network_fs {
        disk::refuse_network(&db_dir)?;
    }
    let lock = RunLock::take(&db_dir, options.wait, progress)?;
    let run = locked(options, open_site, manifest, graph, &only, &db_dir, begun, progress);
    drop(lock);
    run.map_err(|error| disk::explain(error, &db_dir))
}

/// The run itself; the caller holds the lock.
#[expect(clippy::too_many_arguments, reason = "until the acts of a run are apart")]
fn locked(
    options: &RunOptions,
    open_site: OpenSite<'_>,
    manifest: Manifest,
    graph: Graph,
    only: &[TaskIndex],
    db_dir: &Path,
    begun: Instant,
    progress: &mut dyn Progress,
) -> Result<Summary> {
    store::prepare(db_dir)?;
    let db = Arc::new(Db::open(db_dir, options.durability)?);
    let store = Arc::new(Store::open(db_dir, Arc::clone(&db) as Arc<dyn Proof>)?);

    progress.tell(&Event::Opened {
        manifest: &options.manifest,
        tasks: manifest.tasks.len(),
        db: &options.db,
    });
    let boot = identity::identity(db_dir)?;
    let bad = maintain::recover(&db, &store, &boot, options.durability)?;
    if bad > 0 {
        progress.tell(&Event::Warning(&format!(
            "{bad} object(s) did not survive a power cut; what made them runs again"
        )));
    }
    let mut prepared =
        Prepared::new(&db, manifest, graph, db_dir, options, Some(&store), progress)?;
    if !options.always
        && let Some(last) = db::complete(&db.lock())?
        && prepared.fingerprint == Some(last.fingerprint)
    {
        let summary = Summary {
            reused: last.steps,
            wall: begun.elapsed(),
            complete: true,
            ..Summary::default()
        };
        progress.tell(&Event::Ended(&summary));
        return Ok(summary);
    }
    let plan = prepared.plan(&db, options, Some(&store))?;
    let row = RunRow {
        started_ms: now_ms(),
        boot,
        pid: std::process::id(),
        durability: options.durability.as_str(),
        manifest: crate::text::path_bytes(&options.manifest).to_vec(),
        dir: crate::text::path_bytes(&prepared.manifest.dir).to_vec(),
        always: options.always,
    };
    let run = {
        let mut conn = db.lock();
        let applied = Applied {
            registrations: &prepared.registrations,
            rows: &prepared.rows,
            scans: &prepared.scans,
            run: &row,
        };
        db::apply(&mut conn, &prepared.flow, &applied)?
    };
    let history = if progress.wants_history() {
        db::mean_times(&db.lock(), &prepared.flow)?
    } else {
        Vec::new()
    };
    let limits = prepared.limits();
    progress.tell(&Event::Registered(&Registered {
        run,
        plan: &plan,
        flow: &prepared.flow,
        history: &history,
        limits: &limits,
    }));
    let work = work::Work {
        db: Arc::clone(&db),
        store: Arc::clone(&store),
        db_dir,
        run,
        prepared: &prepared,
        options,
        only,
        open_site,
    };
    let (mut summary, trouble) = work.drive(progress)?;
    summary.reused = plan.tasks.iter().map(|task| task.reused).sum::<u64>() + summary.revived;
    summary.wall = begun.elapsed();
    let result = match &trouble {
        // After a failed write or fsync a second one may lie: the run stays open, like a killed one.
        Some(Error::Io { .. } | Error::Db { .. }) => None,
        Some(_) => Some("stopped"),
        None if summary.complete => Some("complete"),
        None if summary.interrupted.is_some() => Some("stopped"),
        None if summary.failed == 0 && !only.is_empty() => Some("partial"),
        None => Some("failed"),
    };
    let closed = result.map_or(Ok(()), |result| close(&db, run, &prepared, &summary, result));
    let healed = heal(&db, &store, db_dir, &summary, progress);
    let trouble = trouble.or(closed.err()).or(healed.err());
    progress.tell(&Event::Ended(&summary));
    match trouble {
        Some(error) => Err(error),
        None => Ok(summary),
    }
}

/// Gets back what scripts have spoilt through their large inputs.
fn heal(
    db: &Db,
    store: &Store,
    db_dir: &Path,
    summary: &Summary,
    progress: &mut dyn Progress,
) -> Result<()> {
    if summary.spoilt.is_empty() {
        return Ok(());
    }
    for (object, _, repair) in maintain::get_back(db, store, db_dir, &summary.spoilt)? {
        let text =
            format!("object {object} was spoilt by a script that changed its input: {repair}");
        progress.tell(&Event::Warning(&text));
    }
    Ok(())
}

fn close(db: &Db, run: RunId, prepared: &Prepared, summary: &Summary, result: &str) -> Result<()> {
    let mut conn = db.lock();
    let complete = match prepared.fingerprint {
        Some(fingerprint) if summary.complete => {
            Some(Complete { fingerprint, steps: db::live_steps(&conn)? })
        }
        _ => None,
    };
    db::end_run(&mut conn, run, now_ms(), result, complete.as_ref())
}

/// Plans without changing anything: the database is opened for reading only, or is one in memory if
/// there is none.
pub fn dry_run(options: &RunOptions, progress: &mut dyn Progress) -> Result<Forecast> {
    let manifest = Manifest::read(&options.manifest)?;
    let graph = Graph::of(&manifest);
    let only = only(&manifest, &options.only)?;
    files::check(&manifest, &options.inputs)?;
    let db = Db::open_for_plan(&options.db)?;
    let db_dir = options.db.canonicalize().unwrap_or_else(|_| options.db.clone());
    let mut prepared = Prepared::new(&db, manifest, graph, &db_dir, options, None, progress)?;
    let plan = prepared.plan(&db, options, None)?;
    forecast::forecast(&db, &prepared, &plan, &only)
}

/// Checks the names of `--step`.
fn only(manifest: &Manifest, names: &[String]) -> Result<Vec<TaskIndex>> {
    names
        .iter()
        .map(|name| {
            manifest.find(name).ok_or_else(|| {
                let all: Vec<&str> = manifest.tasks.iter().map(|task| task.name.as_str()).collect();
                Error::Usage(format!(
                    "--step: no task is called `{name}`; there are: {}",
                    all.join(", ")
                ))
            })
        })
        .collect()
}
