//! `plan`, also `-n`: what a run would do. Changes nothing.

use serde_json::json;

use crate::cli::Run;
use crate::db::TaskPlan;
use crate::error::{Result, exit};
use crate::progress::{Lines, Loudness, Paint};
use crate::run;

use super::answer;

/// Prints the plan.
pub(super) fn plan(args: &Run) -> Result<u8> {
    let options = super::run::options(args)?;
    let loudness = if args.quiet { Loudness::Quiet } else { Loudness::Normal };
    let (prepared, plan) =
        run::dry_run(&options, &mut Lines::new(std::io::stderr(), loudness, Paint::Plain))?;
    let names = prepared.names();
    if args.json {
        let tasks: Vec<_> = names
            .iter()
            .zip(&plan.tasks)
            .map(|(name, task)| {
                json!({
                    "task": name, "new": task.fresh, "again": task.again, "reused": task.reused,
                    "retired": task.retired, "waits_for_inputs": task.waits_for_inputs,
                })
            })
            .collect();
        answer::json(&json!({
            "tasks": tasks, "to_run": plan.to_run(), "retired_with_task": plan.retired_with_task,
        }))?;
        return Ok(exit::OK);
    }
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0).max(4);
    answer::write(|out| {
        writeln!(
            out,
            "{:width$}  {:>9}  {:>9}  {:>9}  {:>9}",
            "task", "new", "again", "reused", "retired"
        )?;
        for (name, task) in names.iter().zip(&plan.tasks) {
            let TaskPlan { fresh, again, reused, retired, .. } = task;
            write!(out, "{name:width$}  {fresh:>9}  {again:>9}  {reused:>9}  {retired:>9}")?;
            let note =
                if task.waits_for_inputs { "  when all that it gathers is done" } else { "" };
            writeln!(out, "{note}")?;
        }
        if plan.retired_with_task > 0 {
            writeln!(
                out,
                "{} steps of tasks that are no longer in the manifest retire",
                plan.retired_with_task
            )?;
        }
        writeln!(out, "{} steps to run so far, and what comes of them", plan.to_run())
    })?;
    Ok(exit::OK)
}
