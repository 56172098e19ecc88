//! Everything that the sections tell of, read in one transaction, so that they agree during a run too. The
//! attempts are looked at once, one after the other; only sums of them and a few chosen ones are kept.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use crate::db::{self, Db, FailedStep, ReportRun, ReportTask};
use crate::error::Result;
use crate::ids::{RunId, TaskId};
use crate::run::runner;
use crate::text::{as_path, path_bytes, printable, utc};

use super::slowest::Slowest;
use super::spread::Spreads;
use super::timeline::Timeline;

/// Runs that are listed.
const RUNS: i64 = 10;

/// Failed steps whose logs are shown.
const FAILED: i64 = 30;

pub(super) struct Facts {
    pub(super) now_ms: i64,
    /// The last run is under way.
    pub(super) is_running: bool,
    /// Newest first.
    pub(super) runs: Vec<ReportRun>,
    pub(super) tasks: Vec<ReportTask>,
    pub(super) edges: Vec<(TaskId, TaskId)>,
    pub(super) failed: Vec<FailedStep>,
    pub(super) totals: Totals,
    pub(super) slowest: Slowest,
    pub(super) spreads: Spreads,
    pub(super) timeline: Option<Timeline>,
    names: HashMap<TaskId, String>,
}

/// What runs did.
#[derive(Default)]
pub(super) struct Totals {
    runs: HashMap<RunId, OfRun>,
}

/// What one of them did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OfRun {
    pub(super) attempts: u64,
    pub(super) failed: u64,
    pub(super) cpu_us: u64,
    pub(super) peak_kib: u64,
    /// Live steps that are done because of it.
    pub(super) stands: u64,
}

impl Totals {
    fn see(&mut self, attempt: &db::Attempt<'_>) {
        let run = self.runs.entry(attempt.run).or_default();
        run.attempts += 1;
        run.failed += u64::from(!attempt.succeeded);
        run.cpu_us += attempt.cpu_us;
        run.peak_kib = run.peak_kib.max(attempt.peak_kib);
        run.stands += u64::from(attempt.stands);
    }

    /// Of a run that executed nothing, all is zero.
    pub(super) fn of(&self, run: RunId) -> OfRun {
        self.runs.get(&run).copied().unwrap_or_default()
    }
}

impl Facts {
    pub(super) fn read(db: &Db, dir: &Path) -> Result<Facts> {
        let before = runner(dir);
        let conn = db.lock();
        let tx = db::snapshot(&conn)?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let runs = db::report_runs(&tx, RUNS)?;
        let tasks = db::report_tasks(&tx)?;
        let mut timeline = db::last_work(&tx)?.map(|(run, spans)| Timeline::new(run, &spans));
        let (mut totals, mut slowest, mut spreads) =
            (Totals::default(), Slowest::default(), Spreads::default());
        db::each_attempt(&tx, &mut |attempt| {
            totals.see(attempt);
            slowest.see(attempt);
            spreads.see(attempt);
            if let Some(timeline) = &mut timeline {
                timeline.see(attempt);
            }
        })?;
        let is_of_run = |pid: u32| runs.first().is_some_and(|run| run.pid == i64::from(pid));
        Ok(Facts {
            // Asked twice, so that a run which begins or ends meanwhile is not taken for a killed one.
            is_running: [before, runner(dir)].into_iter().flatten().any(is_of_run),
            now_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            edges: db::report_edges(&tx)?,
            failed: db::report_failed(&tx, FAILED)?,
            names: tasks.iter().map(|task| (task.id, task.name.clone())).collect(),
            runs,
            tasks,
            totals,
            slowest,
            spreads,
            timeline,
        })
    }

    /// The last run.
    pub(super) fn run(&self) -> Option<&ReportRun> {
        self.runs.first()
    }

    /// How the page is called: by its manifest.
    pub(super) fn title(&self) -> String {
        let Some(run) = self.run() else { return "No run yet".to_owned() };
        let manifest = as_path(&run.manifest);
        let name = manifest.file_name().map_or(manifest, |name| name.as_ref());
        printable(path_bytes(name)).into_owned()
    }

    /// When it was made.
    pub(super) fn made(&self) -> String {
        utc(self.now_ms)
    }

    /// The name of a task; those that left the manifest have lost theirs.
    pub(super) fn task(&self, id: TaskId) -> &str {
        self.names.get(&id).map_or("(no longer in the manifest)", String::as_str)
    }

    /// Live steps: done, failed, pending.
    pub(super) fn steps(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&ReportTask) -> u64| self.tasks.iter().map(of).sum();
        (sum(|task| task.done), sum(|task| task.failed), sum(|task| task.pending))
    }
}
