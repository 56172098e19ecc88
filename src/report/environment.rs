//! The last runs, the versions of everything, and the machine.

use std::fs;
use std::path::Path;

use crate::db::{self, ReportRun, WorkerRow};
use crate::text::{path_bytes, utc};

use super::facts::{Facts, Totals};
use super::html::{count, html, name, text};
use super::scale::{memory_words, time};
use super::summary::{icon, result};
use super::{VERSION, number_heads, open, scroll};

/// The section.
pub(super) fn section(
    out: &mut String,
    facts: &Facts,
    totals: &Totals,
    of_run: &[WorkerRow],
    dir: &Path,
) {
    open(out, "environment");
    if !facts.runs.is_empty() {
        runs(out, facts, totals);
    }
    if !of_run.is_empty() {
        workers(out, of_run);
    }
    let (sqlite, schema) = db::versions();
    let absolute = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    html!(
        out,
        "<h3>Versions and machine</h3>\n<dl class=\"facts\">\n<dt>task-pipeline</dt><dd>",
        VERSION
    );
    html!(
        out,
        "</dd>\n<dt>SQLite</dt><dd>",
        text(sqlite),
        "</dd>\n<dt>Schema</dt><dd>",
        i64::from(schema)
    );
    html!(out, "</dd>\n<dt>Database</dt><dd class=\"path\">", name(path_bytes(&absolute)));
    if let Some(run) = facts.run() {
        html!(out, "</dd>\n<dt>Durability</dt><dd>", text(&run.durability));
    }
    if let Some(kernel) = line("/proc/sys/kernel/osrelease") {
        html!(out, "</dd>\n<dt>Kernel</dt><dd>Linux ", text(kernel));
    }
    if let Ok(cpus) = std::thread::available_parallelism() {
        html!(out, "</dd>\n<dt>CPUs</dt><dd>", cpus.get());
        if let Some(model) = field("/proc/cpuinfo", "model name") {
            html!(out, " × ", text(model));
        }
    }
    let kib =
        field("/proc/meminfo", "MemTotal").and_then(|total| total.split(' ').next()?.parse().ok());
    if let Some(kib) = kib {
        html!(out, "</dd>\n<dt>Memory</dt><dd>", text(memory_words(kib)));
    }
    html!(
        out,
        "</dd>\n</dl>\n<p class=\"muted\">This describes the machine that the page was made on.</p>\n</section>\n"
    );
}

fn runs(out: &mut String, facts: &Facts, totals: &Totals) {
    html!(out, "<h3>Runs</h3>\n");
    scroll(out, "Last runs");
    html!(
        out,
        "<table>\n<caption>The last runs, newest first</caption>\n<thead><tr><th scope=\"col\" class=\"n\">Run</th>"
    );
    html!(out, "<th scope=\"col\">Result</th><th scope=\"col\">Started</th>");
    number_heads(out, &["Wall time", "Attempts", "Failed", "CPU time"]);
    html!(out, "</tr></thead>\n<tbody>\n");
    for run in &facts.runs {
        let of_run = totals.of(run.id);
        html!(
            out,
            "<tr><th scope=\"row\" class=\"n\">",
            run.id.0,
            "</th><td class=\"word\">",
            icon(state(run)),
            text(result(run))
        );
        html!(out, "</td><td class=\"n\">", text(utc(run.started_ms)), "</td><td class=\"n\">");
        match run.ended_ms.map(|ended| u64::try_from(ended - run.started_ms).unwrap_or(0)) {
            Some(ms) => html!(out, time(ms.saturating_mul(1000))),
            None => html!(out, "–"),
        }
        html!(
            out,
            "</td><td class=\"n\">",
            count(of_run.attempts),
            "</td><td class=\"n\">",
            count(of_run.failed)
        );
        html!(out, "</td><td class=\"n\">", time(of_run.cpu_us), "</td></tr>\n");
    }
    html!(out, "</tbody>\n</table>\n</div>\n");
}

/// More rows than this say no more.
const MOST_WORKERS: usize = 500;

fn workers(out: &mut String, workers: &[WorkerRow]) {
    html!(out, "<h3>Workers of the last run</h3>\n");
    scroll(out, "Workers of the last run");
    html!(
        out,
        "<table>\n<caption>One in the place of a lost one has its number</caption>\n<thead><tr><th scope=\"col\" class=\"n\">Worker</th>"
    );
    html!(out, "<th scope=\"col\">Host</th>");
    number_heads(out, &["Slots", "Since", "Until", "Attempts"]);
    html!(out, "<th scope=\"col\">Lost</th></tr></thead>\n<tbody>\n");
    let moment = |ms: Option<i64>| text(ms.map_or_else(|| "–".to_owned(), utc));
    for worker in workers.iter().take(MOST_WORKERS) {
        html!(out, "<tr><th scope=\"row\" class=\"n\">", worker.worker, "</th><td>");
        html!(out, name(worker.host.as_bytes()), "</td><td class=\"n\">", worker.slots);
        html!(out, "</td><td class=\"n\">", moment(worker.joined_ms));
        html!(out, "</td><td class=\"n\">", moment(worker.left_ms), "</td><td class=\"n\">");
        match worker.made {
            Some(made) => html!(out, count(made.unsigned_abs())),
            None => html!(out, "–"),
        }
        let lost = worker.lost.as_deref().unwrap_or_default();
        html!(out, "</td><td>", text(lost), "</td></tr>\n");
    }
    html!(out, "</tbody>\n</table>\n</div>\n");
    if workers.len() > MOST_WORKERS {
        html!(
            out,
            "<p class=\"muted\">and ",
            count((workers.len() - MOST_WORKERS) as u64),
            " more</p>\n"
        );
    }
}

fn state(run: &ReportRun) -> &'static str {
    match run.result.as_deref() {
        Some("complete") => "done",
        Some("failed") => "failed",
        _ => "pending",
    }
}

/// The first line of a file.
fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.trim().to_owned())
}

/// The first value of that name in a file of `name: value` lines.
fn field(path: &str, name: &str) -> Option<String> {
    let all = fs::read_to_string(path).ok()?;
    let line =
        all.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
