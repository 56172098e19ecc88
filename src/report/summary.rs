//! The first screen of the page: where the pipeline stands, and its last run in numbers.

use crate::db::ReportRun;
use crate::text::{printable, size, utc};

use super::facts::{Facts, RunTotals, Totals};
use super::html::{At, Escaped, count, grouped, html, name, text};
use super::open;
use super::scale::{memory_words, time};

/// The page's title, and where the pipeline stands in one sentence.
pub(super) fn header(out: &mut String, facts: &Facts) {
    let (state, sentence) = verdict(facts);
    html!(out, "<header>\n<p class=\"kicker\">task-pipeline report</p>\n<h1>", text(facts.title()));
    html!(
        out,
        "</h1>\n<p class=\"verdict ",
        state,
        "\">",
        icon(state),
        sentence,
        "</p>\n</header>\n"
    );
}

/// A mark beside words that say the same.
pub(super) fn icon(state: &'static str) -> Icon {
    Icon(state)
}

pub(super) struct Icon(&'static str);

impl super::html::Markup for Icon {
    fn put(&self, page: &mut String) {
        html!(
            page,
            "<svg class=\"icon ",
            self.0,
            "\" aria-hidden=\"true\"><use href=\"#",
            self.0,
            "\"/></svg>"
        );
    }
}

fn verdict(facts: &Facts) -> (&'static str, Escaped) {
    let (done, failed, pending) = facts.steps();
    let Some(run) = facts.run() else {
        return ("pending", text("Nothing has been run on this database yet"));
    };
    let many = |n: u64| format!("{} step{}", grouped(n), if n == 1 { "" } else { "s" });
    let all = many(done + failed + pending);
    let (is_over, is_complete) = (run.ended_ms.is_some(), facts.is_complete);
    let (state, words) = match (failed, pending) {
        (0, 0) if is_over && is_complete => ("done", format!("{all}, all done")),
        (0, 0) if is_over => ("pending", format!("{all} done, but the pipeline is not complete")),
        (0, 0) => ("pending", format!("{all} done")),
        (0, _) => {
            ("pending", format!("{} of {all} done, {} left", grouped(done), grouped(pending)))
        }
        (_, 0) => ("failed", format!("{} of {all} failed", grouped(failed))),
        _ => ("failed", format!("{} of {all} failed, {} left", grouped(failed), grouped(pending))),
    };
    let kept = match facts.failed_anew.len() {
        0 => String::new(),
        1 => "; 1 keeps the result it had".to_owned(),
        more => format!("; {} keep the results they had", grouped(more as u64)),
    };
    let kept = match facts.remarks.len() {
        0 => kept,
        1 => kept + "; 1 warning",
        more => format!("{kept}; {more} warnings"),
    };
    let rest = match (is_over, facts.is_running) {
        (true, _) => "",
        (false, true) => "; the run is under way",
        (false, false) => "; the run was killed",
    };
    (state, text(words + &kept + rest))
}

/// The section.
pub(super) fn section(out: &mut String, facts: &Facts, totals: &Totals) {
    open(out, "summary");
    let (done, failed, pending) = facts.steps();
    share_bar(out, done, failed, pending);
    let outputs = facts.tasks.iter().map(|task| task.outputs).sum();
    let bytes = facts.tasks.iter().map(|task| task.bytes).sum();
    html!(out, "<dl class=\"figures\">\n");
    figure(out, Some("done"), "Steps done", count(done), None);
    figure(out, Some("failed"), "Steps failed", count(failed), None);
    figure(out, Some("pending"), "Steps left", count(pending), None);
    if let Some(run) = facts.run() {
        let of_run = totals.of(run.id);
        let reused = done.saturating_sub(of_run.stands);
        figure(out, None, "Attempts in this run", count(of_run.attempts), None);
        figure(out, None, "Steps reused", count(reused), None);
        let ended_ms = run.ended_ms.unwrap_or(facts.now_ms);
        let wall_ms = u64::try_from(ended_ms - run.started_ms).unwrap_or(0);
        figure(out, None, "Wall time", time(wall_ms.saturating_mul(1000)), None);
        if of_run.attempts > 0 {
            figure(out, None, "CPU time", time(of_run.cpu_us), None);
            figure(out, None, "Highest memory", text(memory_words(of_run.peak_kib)), None);
        }
    }
    figure(out, None, "Outputs", count(outputs), Some(text(size(bytes))));
    html!(out, "</dl>\n");
    for remark in &facts.remarks {
        html!(out, "<p><b>Warning:</b> ", text(remark), "</p>\n");
    }
    if let Some(run) = facts.run() {
        run_details(out, run, totals.of(run.id));
    }
    html!(out, "</section>\n");
}

fn figure(
    out: &mut String,
    state: Option<&'static str>,
    label: &'static str,
    value: Escaped,
    more: Option<Escaped>,
) {
    html!(out, "<div><dt>");
    if let Some(state) = state {
        html!(out, icon(state));
    }
    html!(out, label, "</dt><dd>", value);
    if let Some(more) = more {
        html!(out, " <small>", more, "</small>");
    }
    html!(out, "</dd></div>\n");
}

fn run_details(out: &mut String, run: &ReportRun, totals: RunTotals) {
    html!(out, "<dl class=\"facts\">\n<dt>Run</dt><dd>", run.id.0, ", ");
    html!(out, text(result(run)), "</dd>\n<dt>Started</dt><dd>", text(utc(run.started_ms)));
    if let Some(ended_ms) = run.ended_ms {
        html!(out, "</dd>\n<dt>Ended</dt><dd>", text(utc(ended_ms)));
    }
    if totals.forked > 0 {
        let (forked, anew) = (grouped(totals.forked), grouped(totals.attempts - totals.forked));
        let starts = format!("{forked} by a forked interpreter, {anew} anew");
        html!(out, "</dd>\n<dt>Starts</dt><dd>", text(starts));
    }
    html!(out, "</dd>\n<dt>Manifest</dt><dd class=\"path\">", name(&run.manifest));
    html!(out, "</dd>\n<dt>Folder</dt><dd class=\"path\">", name(&run.dir), "</dd>\n</dl>\n");
}

/// How a run ended, in a word or two.
pub(super) fn result(run: &ReportRun) -> String {
    match &run.result {
        Some(result) => printable(result.as_bytes()).into_owned(),
        None => "not ended".to_owned(),
    }
}

/// A bar that shows the shares of the states.
fn share_bar(out: &mut String, done: u64, failed: u64, pending: u64) {
    let all = (done + failed + pending).max(1) as f64;
    html!(out, "<svg class=\"share\" width=\"100%\" height=\"12\" aria-hidden=\"true\">");
    html!(out, "<rect width=\"100%\" height=\"12\" class=\"rest\"/>");
    let mut x = 0.0;
    for (steps, class) in [(done, "done"), (failed, "failed")] {
        // Even one step in a million is visible.
        let width = if steps == 0 { 0.0 } else { (steps as f64 / all * 100.0).max(0.4) };
        if width > 0.0 {
            html!(
                out,
                "<rect x=\"",
                At(x),
                "%\" width=\"",
                At(width),
                "%\" height=\"12\" class=\""
            );
            html!(out, class, "\"/>");
        }
        x += width;
    }
    html!(out, "</svg>\n");
}
