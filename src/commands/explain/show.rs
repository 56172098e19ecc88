//! An explanation, for people and for programs.

use std::io::{Result, Write};

use serde_json::{Value, json};

use super::{Explanation, InputObject, OfStep, Verdict};
use crate::db::{AttemptOfRun, StepRow};
use crate::text::{self, printable, printable_line, size};

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ran(_) => "ran",
            Verdict::WillRun => "will run",
            Verdict::DidNotRun(_) => "did not run",
            Verdict::IsHistory => "history",
        }
    }

    fn run(self) -> Option<i64> {
        match self {
            Verdict::Ran(run) | Verdict::DidNotRun(run) => Some(run.0),
            Verdict::WillRun | Verdict::IsHistory => None,
        }
    }
}

impl Explanation {
    /// `ran in run 3 because script changed`
    fn sentence(&self) -> String {
        let because = self.because.join(", and ");
        match self.verdict {
            Verdict::Ran(run) => format!("ran in run {run} because {because}"),
            Verdict::WillRun => format!("will run because {because}"),
            Verdict::DidNotRun(run) => format!("did not run in run {run} because {because}"),
            Verdict::IsHistory => format!("is history because {because}"),
        }
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> Result<()> {
        let name = match &self.step {
            Some(OfStep { row, .. }) => text::step(row.id.0, &row.task, &row.name),
            None => format!("task {}", self.task),
        };
        writeln!(out, "{name} {}", self.sentence())?;
        if let Some(step) = &self.step {
            write_step(step, out)?;
        }
        for field in &self.fields {
            let name = printable(field.name.as_bytes());
            let shown = |value: &Option<String>| match value {
                Some(value) => printable(value.as_bytes()).into_owned(),
                None => "(none)".to_owned(),
            };
            match field.is_changed() {
                false => writeln!(out, "{name}: {}", shown(&field.now))?,
                true => writeln!(out, "{name}: {} -> {}", shown(&field.before), shown(&field.now))?,
            }
        }
        match self.script_diff.is_empty() {
            true => writeln!(out, "script: unchanged")?,
            false => write_diff("script", &self.script_diff, out)?,
        }
        let Some(present) = &self.present else { return Ok(()) };
        let manifest = printable(present.manifest.as_bytes());
        if !present.has_task {
            return writeln!(out, "{manifest} has no such task: its steps retire");
        }
        if present.changes.is_empty() {
            return writeln!(out, "{manifest} has the same recipe");
        }
        let changes = present.changes.join(", ");
        let next = match self.verdict {
            Verdict::IsHistory => "",
            _ => ", so the next run makes new steps",
        };
        writeln!(out, "{manifest} has another recipe: {changes}{next}")?;
        match present.script_diff.is_empty() {
            true => Ok(()),
            false => write_diff("script in the manifest", &present.script_diff, out),
        }
    }

    pub(super) fn json(&self) -> Value {
        let step = |step: &StepRow| json!({ "step": step.id.0, "task": step.task, "input": printable(&step.name) });
        let object =
            |input: &InputObject| json!({ "object": input.object.hex(), "bytes": input.size });
        let fields: Vec<_> = self
            .fields
            .iter()
            .map(|field| {
                json!({
                    "field": field.name, "before": field.before, "now": field.now,
                    "changed": field.is_changed(),
                })
            })
            .collect();
        let of_step = self.step.as_ref().map(|of| {
            let attempts: Vec<_> = of
                .attempts
                .iter()
                .map(|AttemptOfRun { record, run, .. }| {
                    json!({
                        "number": record.number, "run": run.0, "outcome": record.outcome.word(),
                        "code": record.outcome.code(), "started_ms": record.started_ms,
                    })
                })
                .collect();
            json!({
                "step": of.row.id.0, "input": printable(&of.row.name), "state": of.row.state,
                "live": of.row.live, "attempts": attempts, "compared_with": of.before.as_ref().map(step),
                "works_on": object(&of.now), "worked_on": of.was.as_ref().map(object),
                "made_by": of.makers.iter().map(step).collect::<Vec<_>>(),
                "made_by_more": of.more_makers,
                "files": of.files.iter().map(|file| printable(file)).collect::<Vec<_>>(),
            })
        });
        let manifest = self.present.as_ref().map(|present| {
            json!({
                "manifest": printable(present.manifest.as_bytes()), "has_task": present.has_task,
                "changes": present.changes, "script_diff": present.script_diff,
            })
        });
        json!({
            "task": self.task, "of_step": of_step, "verdict": self.verdict.word(),
            "run": self.verdict.run(), "because": self.because, "sentence": self.sentence(),
            "recipe": fields, "script_diff": self.script_diff, "manifest": manifest,
        })
    }
}

fn write_step(step: &OfStep, out: &mut dyn Write) -> Result<()> {
    for AttemptOfRun { record, run, .. } in &step.attempts {
        let outcome = &record.outcome;
        let code = outcome.code().map(|code| format!(" {code}")).unwrap_or_default();
        let begun = crate::text::utc(record.started_ms);
        writeln!(out, "attempt {} in run {run}, {begun}: {}{code}", record.number, outcome.word())?;
    }
    let shown = |input: &InputObject| {
        let size = input.size.map_or_else(|| "no longer kept".to_owned(), size);
        format!("{} ({size})", input.object)
    };
    if let Some(before) = &step.before {
        writeln!(out, "before: {}", text::step(before.id.0, &before.task, &before.name))?;
    }
    match &step.was {
        Some(was) if was.object != step.now.object => {
            writeln!(out, "input: {}\n  was: {}", shown(&step.now), shown(was))?;
        }
        _ => writeln!(out, "input: {}", shown(&step.now))?,
    }
    for maker in &step.makers {
        writeln!(out, "made by {}", text::step(maker.id.0, &maker.task, &maker.name))?;
    }
    if step.more_makers > 0 {
        writeln!(out, "and by {} more", step.more_makers)?;
    }
    step.files.iter().try_for_each(|file| writeln!(out, "from the file {}", printable(file)))
}

fn write_diff(what: &str, diff: &str, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "--- {what} before\n+++ {what} now")?;
    // A script may hold anything; a terminal must not obey it.
    diff.lines().try_for_each(|line| writeln!(out, "{}", printable_line(line.as_bytes())))
}
