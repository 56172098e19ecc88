//! The steps that failed, with the ends of their logs.

use crate::db::FailedStep;
use crate::error::{OrIo as _, Result};
use crate::hint;
use crate::store::Store;
use crate::text::{TAIL_LINES, span, tail};

use super::facts::Facts;
use super::html::{count, html, name, text};
use super::open;
use super::summary::icon;

/// At most this many failed steps are on the page.
pub(super) const SHOWN: i64 = 30;

/// So many show their logs without a click.
const OPEN: usize = 3;

/// So many are listed without a click, so that the sections below stay within reach.
const LISTED: usize = 8;

/// The section; nothing if no step failed.
pub(super) fn section(out: &mut String, facts: &Facts, failed: &[FailedStep], store: &Store) {
    if failed.is_empty() {
        return;
    }
    open(out, "failures");
    let (_, all, _) = facts.steps();
    let shown = failed.len();
    if shown as u64 == all {
        html!(out, "<p class=\"lead\">Each with the end of what its script printed.</p>\n");
    } else {
        html!(out, "<p class=\"lead\">", count(shown as u64), " of ", count(all));
        html!(
            out,
            ", each way to fail among them, with the ends of their logs. <code>",
            text(hint::command("log --failed")),
            "</code> prints all.</p>\n"
        );
    }
    for (at, step) in failed.iter().enumerate() {
        if at == LISTED {
            html!(out, "<details class=\"rest\"><summary>", shown - LISTED, " more</summary>\n");
        }
        one(out, facts, step, store, at < OPEN);
    }
    if shown > LISTED {
        html!(out, "</details>\n");
    }
    html!(out, "</section>\n");
}

fn one(out: &mut String, facts: &Facts, step: &FailedStep, store: &Store, is_open: bool) {
    html!(
        out,
        "<details id=\"step-",
        step.step.0,
        "\" class=\"failure\"",
        if is_open { " open" } else { "" },
        "><summary>",
        icon("failed")
    );
    html!(out, "<b>", text(facts.task(step.task)), "</b> <span class=\"path\">", name(&step.input));
    if !step.labels.is_empty() {
        html!(out, " [", text(step.labels.to_string()), "]");
    }
    html!(
        out,
        "</span> <span class=\"why\">",
        text(outcome(step)),
        "</span></summary>\n<p class=\"muted\"><a href=\"#step-"
    );
    html!(out, step.step.0, "\">Step ", step.step.0, "</a>, attempt ", step.attempt, ", ");
    html!(out, text(span(std::time::Duration::from_micros(step.wall_us))));
    if step.alike > 1 {
        html!(out, "; ", count(step.alike), " steps of this task failed in this way");
    }
    if step.keeps_result {
        html!(out, "; it was to run anew, and keeps the result that it had");
    }
    html!(out, "</p>\n");
    if let Some(detail) = &step.detail {
        html!(out, "<p>", text(detail), "</p>\n");
    }
    let lines = match lines(step, store) {
        Ok(lines) => lines,
        // A report is needed most when things are broken, so a missing log doesn't end it.
        Err(error) => {
            html!(out, "<p>", text(error.to_string()), "</p>\n</details>\n");
            return;
        }
    };
    if lines.is_empty() {
        html!(out, "<p class=\"muted\">It printed nothing.</p>\n");
    } else {
        html!(
            out,
            "<pre tabindex=\"0\" role=\"region\" aria-label=\"Log of step ",
            step.step.0,
            "\">"
        );
        for line in &lines {
            html!(out, text(line), "\n");
        }
        html!(out, "</pre>\n");
    }
    html!(out, "</details>\n");
}

/// The last lines of a step's log.
fn lines(step: &FailedStep, store: &Store) -> Result<Vec<Vec<u8>>> {
    let Some(log) = &step.log else { return Ok(Vec::new()) };
    let path = store.path(log);
    let mut file = store.open_object(log)?;
    file.metadata().or_io("read the log", &path)?;
    tail(&mut file, TAIL_LINES).or_io("read the log", &path)
}

/// How the step failed, in a few words.
fn outcome(step: &FailedStep) -> String {
    match (step.outcome.as_str(), step.code) {
        ("exit", Some(code)) => format!("exit code {code}"),
        ("signal", Some(code)) => format!("signal {code}"),
        ("timeout", _) => "timed out".to_owned(),
        ("refused", _) => "its outputs were refused".to_owned(),
        ("reported", _) => "its script says so".to_owned(),
        ("start", _) => "could not be started".to_owned(),
        (other, _) => other.to_owned(),
    }
}
