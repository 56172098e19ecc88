//! What several sections share: the last runs, the tasks, and what each run did.

use std::collections::HashMap;

use crate::db::{ReportAttempt, ReportRun, ReportTask};
use crate::ids::{RunId, StepId, TaskId};
use crate::run::Runner;
use crate::sys::clock;
use crate::text::{as_path, path_bytes, printable, utc};

/// Where the pipeline stands.
pub(super) struct Facts {
    /// When the page is made, milliseconds since 1970.
    pub(super) now_ms: i64,
    /// The last run is still under way.
    pub(super) is_running: bool,
    /// Nothing failed or is still to run.
    pub(super) is_complete: bool,
    /// The last runs, newest first.
    pub(super) runs: Vec<ReportRun>,
    /// The tasks in manifest order.
    pub(super) tasks: Vec<ReportTask>,
    /// Steps that failed in the last run, when they were to run anew, and keep an earlier result; by id.
    pub(super) failed_anew: Vec<StepId>,
    /// What the last run had to say of results that may not be what was meant, a sentence each.
    pub(super) remarks: Vec<String>,
    /// What the manifest calls the pipeline.
    title: Option<String>,
    names: HashMap<TaskId, String>,
}

impl Facts {
    /// As of now. `runners` are those who held the run lock before and after `runs` were read: a
    /// run that began or ended in between must not look as if it had been killed.
    pub(super) fn new(
        runs: Vec<ReportRun>,
        tasks: Vec<ReportTask>,
        failed_anew: Vec<StepId>,
        is_complete: bool,
        remarks: Vec<String>,
        title: Option<String>,
        runners: [Option<Runner>; 2],
    ) -> Facts {
        let is_of_run = |runner: Runner| runs.first().is_some_and(|run| runner.can_be(run.pid));
        Facts {
            now_ms: clock::now_ms(),
            is_running: runners.into_iter().flatten().any(is_of_run),
            is_complete,
            names: tasks.iter().map(|task| (task.id, task.name.clone())).collect(),
            remarks,
            title,
            runs,
            tasks,
            failed_anew,
        }
    }

    /// The last run.
    pub(super) fn run(&self) -> Option<&ReportRun> {
        self.runs.first()
    }

    /// The page's title: what the manifest says, else the name of its folder.
    pub(super) fn title(&self) -> String {
        if let Some(title) = &self.title {
            return printable(title.as_bytes()).into_owned();
        }
        let Some(run) = self.run() else { return "No run yet".to_owned() };
        let dir = as_path(&run.dir);
        let name = dir.file_name().map_or(dir, |name| name.as_ref());
        printable(path_bytes(name)).into_owned()
    }

    /// When the page was made.
    pub(super) fn made(&self) -> String {
        utc(self.now_ms)
    }

    /// The name of a task. Tasks that left the manifest have none.
    pub(super) fn task(&self, id: TaskId) -> &str {
        self.names.get(&id).map_or("(no longer in the manifest)", String::as_str)
    }

    /// The number of live steps that are done, failed and pending. One that failed and keeps an earlier result has failed.
    pub(super) fn steps(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&ReportTask) -> u64| self.tasks.iter().map(of).sum();
        (sum(|task| task.done), sum(|task| task.failed), sum(|task| task.pending))
    }
}

/// What each run did.
#[derive(Default)]
pub(super) struct Totals {
    runs: HashMap<RunId, RunTotals>,
}

/// What one run did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RunTotals {
    pub(super) attempts: u64,
    pub(super) failed: u64,
    /// Attempts by a forked interpreter.
    pub(super) forked: u64,
    pub(super) cpu_us: u64,
    pub(super) peak_kib: u64,
    /// Live steps whose results come from this run.
    pub(super) stands: u64,
}

impl Totals {
    /// Counts an attempt.
    pub(super) fn see(&mut self, attempt: &ReportAttempt<'_>) {
        let run = self.runs.entry(attempt.run).or_default();
        run.attempts += 1;
        run.failed += u64::from(!attempt.succeeded);
        run.forked += u64::from(attempt.is_forked);
        run.cpu_us += attempt.cpu_us;
        run.peak_kib = run.peak_kib.max(attempt.peak_kib);
        run.stands += u64::from(attempt.stands);
    }

    /// Those of one run; all zero if it executed nothing.
    pub(super) fn of(&self, run: RunId) -> RunTotals {
        self.runs.get(&run).copied().unwrap_or_default()
    }
}
