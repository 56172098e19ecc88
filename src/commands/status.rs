//! `status`: where the pipeline stands, also during a run.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::Status;
use crate::db::{self, Db, RunStatus, TaskStatus};
use crate::error::{Result, exit};
use crate::step::{self, Running};
use crate::text::{printable, size, span, utc};

use super::answer;

/// Running steps that a person is shown.
const SHOWN: usize = 20;

/// All that is told.
struct Answer {
    tasks: Vec<TaskStatus>,
    runs: Vec<RunStatus>,
    /// The process that works on the database just now.
    runner: Option<u32>,
    running: Vec<Running>,
}

/// Prints a line per task, what runs, and the last runs.
pub(super) fn status(args: &Status) -> Result<u8> {
    let db = Db::open_read_only(&args.db)?;
    // First who runs: what has ended meanwhile is told by the database.
    let runner = crate::run::runner(&args.db);
    let running =
        runner.map(|pid| step::running(pid, &args.db.join("scratch"))).unwrap_or_default();
    let (tasks, runs) = {
        let conn = db.lock();
        (db::status(&conn)?, db::last_runs(&conn, args.runs.max(1))?)
    };
    let answer = Answer { tasks, runs, runner, running };
    if args.json {
        answer::json(&answer.json())?;
    } else {
        answer::write(|out| answer.write(out))?;
    }
    Ok(exit::OK)
}

impl Answer {
    fn is_under_way(&self, run: &RunStatus) -> bool {
        run.ended_ms.is_none() && self.runner.map(i64::from) == Some(run.pid)
    }

    fn json(&self) -> Value {
        let tasks: Vec<_> = self.tasks.iter().map(|task| {
            let running = self.running.iter().filter(|step| step.task == task.name).count();
            json!({
                "task": task.name, "done": task.done, "pending": task.pending, "running": running,
                "failed": task.failed, "retired": task.retired, "outputs": task.outputs,
                "bytes": task.bytes, "attempts": task.attempts, "wall_us": task.wall_us,
                "peak_kib": task.peak_kib,
            })
        }).collect();
        let running: Vec<_> = self
            .running
            .iter()
            .map(|step| {
                json!({
                    "step": step.step, "task": step.task, "input": printable(&step.input),
                    "attempt": step.attempt, "pid": step.pid,
                    "elapsed_ms": u64::try_from(step.elapsed.as_millis()).unwrap_or(u64::MAX),
                })
            })
            .collect();
        let runs: Vec<_> = self
            .runs
            .iter()
            .map(|run| {
                json!({
                    "id": run.id, "started_ms": run.started_ms, "ended_ms": run.ended_ms,
                    "result": run.result, "under_way": self.is_under_way(run), "done": run.done,
                    "failed": run.failed, "pid": run.pid, "manifest": printable(&run.manifest),
                })
            })
            .collect();
        json!({ "tasks": tasks, "running": running, "last_run": runs.first(), "runs": runs })
    }

    fn write(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let width = self.tasks.iter().map(|task| task.name.len()).max().unwrap_or(0).max(4);
        writeln!(
            out,
            "{:width$}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>10}  {:>12}  {:>10}",
            "task", "done", "pending", "failed", "retired", "outputs", "bytes", "time", "peak"
        )?;
        for task in &self.tasks {
            let TaskStatus { name, done, pending, failed, retired, outputs, .. } = task;
            let (bytes, peak) = (size(task.bytes), size(task.peak_kib * 1024));
            let time = span(Duration::from_micros(task.wall_us));
            writeln!(
                out,
                "{name:width$}  {done:>8}  {pending:>8}  {failed:>8}  {retired:>8}  {outputs:>8}  {bytes:>10}  {time:>12}  {peak:>10}"
            )?;
        }
        if !self.running.is_empty() {
            writeln!(out, "running: {}", self.running.len())?;
        }
        for step in self.running.iter().take(SHOWN) {
            let name = crate::text::step(step.step, &step.task, &step.input);
            let again = match step.attempt {
                1 => String::new(),
                n => format!(", attempt {n}"),
            };
            writeln!(out, "  {name}: {}{again}", span(step.elapsed))?;
        }
        if self.running.len() > SHOWN {
            writeln!(out, "  … and {} more", self.running.len() - SHOWN)?;
        }
        if self.runs.is_empty() {
            writeln!(out, "no run yet")?;
        }
        self.runs.iter().try_for_each(|run| writeln!(out, "{}", self.run_text(run)))
    }

    fn run_text(&self, run: &RunStatus) -> String {
        let begun = format!(
            "run {} of {}, started {}",
            run.id,
            printable(&run.manifest),
            utc(run.started_ms)
        );
        let work = match (run.done, run.failed) {
            (done, 0) => format!("{done} done"),
            (done, failed) => format!("{done} done, {failed} failed"),
        };
        match (&run.result, run.ended_ms) {
            (Some(result), Some(ended)) => {
                let took = u64::try_from(ended - run.started_ms).unwrap_or(0);
                format!("{begun}: {result} after {}; {work}", span(Duration::from_millis(took)))
            }
            _ if self.is_under_way(run) => format!("{begun}: under way, pid {}; {work}", run.pid),
            _ => format!("{begun}: killed, or stopped by an error; {work}"),
        }
    }
}
