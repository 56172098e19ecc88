//! `status`: where the pipeline stands, also during a run.

use std::time::Duration;

use serde_json::json;

use crate::cli::Status;
use crate::db::{self, Db, RunStatus, TaskStatus};
use crate::error::{Result, exit};
use crate::run::utc;
use crate::text::{printable, size, span};

use super::answer;

/// Prints a line per task and the last run.
pub(super) fn status(args: &Status) -> Result<u8> {
    let db = Db::open_read_only(&args.db)?;
    let (tasks, runs) = {
        let conn = db.lock();
        (db::status(&conn)?, db::last_runs(&conn, 1)?)
    };
    if args.json {
        let tasks: Vec<_> = tasks
            .iter()
            .map(|task| {
                json!({
                    "task": task.name, "done": task.done, "pending": task.pending, "failed": task.failed,
                    "retired": task.retired, "outputs": task.outputs, "bytes": task.bytes,
                    "wall_us": task.wall_us, "peak_kib": task.peak_kib,
                })
            })
            .collect();
        let run = runs.first().map(|run| {
            json!({
                "id": run.id, "started_ms": run.started_ms, "ended_ms": run.ended_ms,
                "result": run.result, "pid": run.pid, "manifest": printable(&run.manifest),
            })
        });
        answer::json(&json!({ "tasks": tasks, "last_run": run }))?;
        return Ok(exit::OK);
    }
    answer::write(|out| {
        let width = tasks.iter().map(|task| task.name.len()).max().unwrap_or(0).max(4);
        writeln!(
            out,
            "{:width$}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>10}  {:>12}  {:>10}",
            "task", "done", "pending", "failed", "retired", "outputs", "bytes", "time", "peak"
        )?;
        for task in &tasks {
            let TaskStatus { name, done, pending, failed, retired, outputs, .. } = task;
            let (bytes, peak) = (size(task.bytes), size(task.peak_kib * 1024));
            let time = span(Duration::from_micros(task.wall_us));
            writeln!(
                out,
                "{name:width$}  {done:>8}  {pending:>8}  {failed:>8}  {retired:>8}  {outputs:>8}  {bytes:>10}  {time:>12}  {peak:>10}"
            )?;
        }
        match runs.first() {
            Some(run) => writeln!(out, "{}", run_text(run)),
            None => writeln!(out, "no run yet"),
        }
    })?;
    Ok(exit::OK)
}

fn run_text(run: &RunStatus) -> String {
    let begun =
        format!("run {} of {}, started {}", run.id, printable(&run.manifest), utc(run.started_ms));
    match (&run.result, run.ended_ms) {
        (Some(result), Some(ended)) => {
            let took = u64::try_from(ended - run.started_ms).unwrap_or(0);
            format!("{begun}: {result} after {}", span(Duration::from_millis(took)))
        }
        _ => format!("{begun} by pid {}: under way, or killed", run.pid),
    }
}
