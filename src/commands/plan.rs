//! `plan`, also `-n`: what a run would do, and why. Changes nothing.

use std::io::Write;

use serde_json::{Value, json};

use crate::cli::Run;
use crate::db::Why;
use crate::error::{Result, exit};
use crate::progress::{Lines, Loudness, Paint};
use crate::run::{self, Forecast, TaskForecast};

use super::answer;

/// Prints the plan. With `check`, the exit code tells whether there is anything to do.
pub(super) fn plan(args: &Run, check: bool) -> Result<u8> {
    let options = super::run::options(args)?;
    let loudness = if args.quiet { Loudness::Quiet } else { Loudness::Normal };
    let mut progress = Lines::new(std::io::stderr(), loudness, Paint::Plain);
    let forecast = run::dry_run(&options, &mut progress)?;
    if args.json {
        answer::json(&as_json(&forecast))?;
    } else {
        answer::write(|out| write(&forecast, out))?;
    }
    Ok(if check && !forecast.is_settled() { exit::TO_DO } else { exit::OK })
}

fn as_json(forecast: &Forecast) -> Value {
    let task = |task: &TaskForecast| {
        let reasons: Vec<_> = task
            .reasons
            .iter()
            .map(|(why, steps)| json!({ "why": why.word(), "steps": steps }))
            .collect();
        json!({
            "task": task.name, "new": task.plan.fresh, "again": task.plan.again,
            "reused": task.plan.reused, "retired": task.plan.retired, "reasons": reasons,
            "changes": task.changes, "later": task.later,
            "waits_for_inputs": task.plan.waits_for_inputs, "left_out": task.is_left_out,
        })
    };
    json!({
        "tasks": forecast.tasks.iter().map(task).collect::<Vec<_>>(), "to_run": forecast.to_run(),
        "later": forecast.later(), "retired_with_task": forecast.retired_with_task,
        "settled": forecast.is_settled(),
    })
}

fn write(forecast: &Forecast, out: &mut dyn Write) -> std::io::Result<()> {
    let width = forecast.tasks.iter().map(|task| task.name.len()).max().unwrap_or(0).max(4);
    writeln!(out, "{:width$}  {:>9}  {:>9}  {:>9}  why", "task", "run", "reused", "retired")?;
    for task in &forecast.tasks {
        let run = match (task.to_run(), task.later) {
            (known, Some(0)) => known.to_string(),
            (known, Some(later)) => format!("~{}", known + later),
            (0, None) => "?".to_owned(),
            (known, None) => format!("{known} + ?"),
        };
        let line = format!(
            "{:width$}  {run:>9}  {:>9}  {:>9}  {}",
            task.name,
            task.plan.reused,
            task.plan.retired,
            why(task)
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    if forecast.retired_with_task > 0 {
        writeln!(
            out,
            "{} steps of tasks that are no longer in the manifest retire",
            forecast.retired_with_task
        )?;
    }
    let known = forecast.to_run();
    match forecast.later() {
        Some(0) if forecast.is_settled() => writeln!(out, "0 steps to run: all is up to date"),
        Some(0) => writeln!(out, "{known} steps to run"),
        Some(later) => writeln!(out, "{known} steps to run, and ~{later} that come of them"),
        None => writeln!(out, "{known} steps to run, and what comes of them"),
    }
}

/// `2 new, 1 input changed`
fn why(task: &TaskForecast) -> String {
    if task.is_left_out {
        return "left out by --step".to_owned();
    }
    let mut words: Vec<String> = task
        .reasons
        .iter()
        .map(|(why, steps)| match why {
            Why::New => format!("{steps} new"),
            Why::Recipe if task.changes.is_empty() => format!("{steps} recipe changed"),
            Why::Recipe => format!("{steps} {}", task.changes.join(", ")),
            Why::Input => format!("{steps} input changed"),
            Why::Failed => format!("{steps} failed last time"),
            Why::Pending => format!("{steps} pending"),
            Why::Gone => format!("{steps} results gone"),
            Why::Forced => format!("{steps} forced"),
            Why::Uncached => format!("{steps} with cache = false"),
        })
        .collect();
    // Where no step can be named yet, at least what will make them run.
    let is_named = task.reasons.iter().any(|(why, _)| *why == Why::Recipe);
    if !is_named && task.later != Some(0) {
        words.extend(task.changes.iter().cloned());
    }
    match task.later {
        Some(0) => {}
        _ if task.plan.waits_for_inputs => {
            words.push("when all that it gathers is done".to_owned())
        }
        Some(later) => words.push(format!("~{later} that come of earlier tasks")),
        None => words.push("what comes of earlier tasks".to_owned()),
    }
    words.join(", ")
}
