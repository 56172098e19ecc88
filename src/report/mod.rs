//! `report`: one page about where a pipeline stands, how its last run went and why steps failed.
//!
//! It needs no network, and it stays small however many steps there are: what is drawn step by step for a few hundred
//! is summed up for more. A section is a file, with the sums that only it needs; all of them see each attempt once, in one
//! pass over the database. `html` is why no name and no log can break the page.
//!
//! The page can be read without a script. With its one script it can be asked as well: `steps` says of what. The page
//! allows that script by its hash, and no other, wherever the page is opened. It makes elements by name and text only, from
//! the data that `steps` leaves in the page. Unaware of where the page goes.

mod environment;
mod facts;
mod failed;
mod html;
mod layout;
mod results;
mod scale;
mod slowest;
mod spread;
mod steps;
mod summary;
mod tasks;
mod timeline;

use std::path::Path;

use crate::db::{self, Db, FailedStep, Reader, Remarks, WorkerRow};
use crate::error::Result;
use crate::ids::{StepId, TaskId};
use crate::object::ObjectHash;
use crate::run::{Runner, runner};
use crate::store::Store;

use facts::{Facts, Totals};
use html::{Base64, html, text};
use results::TaskResults;
use slowest::Slowest;
use spread::Spreads;
use steps::{Listing, Picked};
use timeline::Timeline;

/// At most this many runs are listed.
const RUNS: i64 = 10;

/// The page's style sheet, as `build.rs` leaves it.
const STYLE: &str = include_str!(concat!(env!("OUT_DIR"), "/style.css"));

/// The page's script, as above.
const SCRIPT: &str = include_str!(concat!(env!("OUT_DIR"), "/script.js"));

/// Icons that show a state without color.
const SYMBOLS: &str = "<svg width=\"0\" height=\"0\" aria-hidden=\"true\" class=\"defs\"><defs>\
<symbol id=\"done\" viewBox=\"0 0 12 12\"><path d=\"M2 6.5 5 9.5 10 3\" class=\"stroke\"/></symbol>\
<symbol id=\"failed\" viewBox=\"0 0 12 12\"><path d=\"M2.5 2.5l7 7m0-7l-7 7\" class=\"stroke\"/></symbol>\
<symbol id=\"pending\" viewBox=\"0 0 12 12\"><circle cx=\"6\" cy=\"6\" r=\"3.75\" class=\"stroke\"/></symbol>\
<symbol id=\"cross\" overflow=\"visible\"><path d=\"M-3.5-3.5l7 7m0-7l-7 7\" class=\"cross\"/></symbol>\
<pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
<rect width=\"5\" height=\"5\" class=\"hatch-a\"/><rect width=\"2\" height=\"5\" class=\"hatch-b\"/></pattern>\
<pattern id=\"besides\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
<rect width=\"4\" height=\"4\" class=\"besides-a\"/><rect width=\"1\" height=\"4\" class=\"besides-b\"/></pattern>\
</defs></svg>\n";

/// All that is read from the database, as of one moment: the sections agree even during a run.
struct Content {
    facts: Facts,
    totals: Totals,
    failed: Vec<FailedStep>,
    edges: Vec<(TaskId, TaskId)>,
    timeline: Option<Timeline>,
    slowest: Slowest,
    spreads: Spreads,
    listing: Listing,
    results: Vec<TaskResults>,
    /// Of the last run.
    workers: Vec<WorkerRow>,
}

impl Content {
    fn read(db: &Db, store: &Store, dir: &Path) -> Result<Content> {
        let runner_before = runner(dir);
        db.read(|reader| Content::read_in(reader, store, dir, runner_before))
    }

    /// Everything as of one moment, so that the sections agree during a run too.
    fn read_in(
        reader: &Reader,
        store: &Store,
        dir: &Path,
        runner_before: Option<Runner>,
    ) -> Result<Content> {
        let runs = db::report_runs(reader, RUNS)?;
        let last_run = runs.first().map(|run| run.id);
        let runners = [runner_before, runner(dir)];
        let tasks = db::report_tasks(reader)?;
        let mut anew: Vec<StepId> =
            db::failed_anew(reader)?.into_iter().map(|(_, step)| step).collect();
        anew.sort_unstable();
        let title = db::report_title(reader)?;
        let facts = Facts::new(
            runs,
            tasks,
            anew,
            db::is_complete(reader)?,
            Remarks::read(reader)?.all(),
            title,
            runners,
        );
        let mut results = Vec::new();
        for task in facts.tasks.iter().filter(|task| task.shows_outputs) {
            let outputs = db::report_results(reader, task.id, results::SHOWN)?;
            results.push(TaskResults { task: task.name.clone(), outputs, all: task.outputs });
        }
        let workers = match last_run {
            Some(run) => db::workers(reader, run)?,
            None => Vec::new(),
        };
        let mut timeline = None;
        if let Some((run, spans)) = db::last_work(reader)? {
            let (overheads, slots) = (db::report_overheads(reader, run)?, db::lanes(reader, run)?);
            timeline = Some(Timeline::new(run, &spans, overheads, slots));
        }
        let mut totals = Totals::default();
        let (mut slowest, mut spreads) = (Slowest::default(), Spreads::default());
        let mut picked = Picked::default();
        db::each_attempt(reader, &mut |attempt| {
            totals.see(attempt);
            slowest.see(attempt);
            spreads.see(attempt);
            picked.see(attempt);
            if let Some(timeline) = &mut timeline {
                timeline.see(attempt);
            }
        })?;
        Ok(Content {
            failed: db::report_failed(reader, &facts.failed_anew, failed::SHOWN)?,
            edges: db::report_edges(reader)?,
            listing: Listing::read(reader, store, &facts, picked)?,
            facts,
            totals,
            timeline,
            slowest,
            spreads,
            results,
            workers,
        })
    }
}

/// The page, as of now.
///
/// # Errors
/// If the database can't be read. If a log can't be read, the page says so in its place.
pub fn page(db: &Db, store: &Store, dir: &Path) -> Result<String> {
    let content = Content::read(db, store, dir)?;
    let facts = &content.facts;
    let mut page = String::with_capacity(128 << 10);
    let out = &mut page;
    html!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         img-src data:; script-src 'sha256-",
        Base64(ObjectHash::of(SCRIPT.as_bytes()).as_bytes()),
        "'; base-uri 'none'; form-action 'none'\">\n",
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
        "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n",
        "<title>",
        text(facts.title()),
        " · task-pipeline report</title>\n<style>\n",
        STYLE,
        "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the report</a>\n",
        SYMBOLS
    );
    summary::header(out, facts);
    html!(out, "<nav aria-label=\"Sections\"><ul>\n");
    let is_there = |id: &str| match id {
        "failures" => !content.failed.is_empty(),
        "results" => !content.results.is_empty(),
        _ => true,
    };
    for (id, title) in SECTIONS.into_iter().filter(|(id, _)| is_there(id)) {
        let scripted = if id == "steps" { " class=\"scripted\" hidden" } else { "" };
        html!(out, "<li", scripted, "><a href=\"#", id, "\">", title, "</a></li>\n");
    }
    html!(out, "</ul></nav>\n<main id=\"main\" tabindex=\"-1\">\n");
    summary::section(out, facts, &content.totals);
    failed::section(out, facts, &content.failed, store);
    results::section(out, facts, &content.results, store);
    tasks::section(out, facts, &content.edges);
    steps::section(out, &content.listing);
    timeline::section(out, facts, content.timeline.as_ref());
    slowest::section(out, facts, &content.slowest);
    spread::section(out, facts, &content.spreads);
    environment::section(out, facts, &content.totals, &content.workers, dir);
    html!(out, "</main>\n<footer>Made by task-pipeline ", VERSION, " on ", text(facts.made()));
    html!(out, ".</footer>\n<script>", SCRIPT, "</script>\n</body>\n</html>\n");
    Ok(page)
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The ids and headings of the sections, in order.
const SECTIONS: [(&str, &str); 9] = [
    ("summary", "Summary"),
    ("failures", "Failures"),
    ("results", "Results"),
    ("tasks", "Tasks"),
    ("steps", "Steps"),
    ("timeline", "Timeline"),
    ("slowest", "Slowest steps"),
    ("spread", "Time and memory"),
    ("environment", "Environment"),
];

/// Opens the section of that id with its heading.
fn open(out: &mut String, id: &'static str) {
    let title = SECTIONS.iter().find(|section| section.0 == id).map_or(id, |section| section.1);
    // What only a script can show is hidden until there is one.
    let scripted = if id == "steps" { "\" class=\"scripted\" hidden" } else { "\"" };
    html!(
        out,
        "<section id=\"",
        id,
        scripted,
        " aria-labelledby=\"",
        id,
        "-title\">\n<h2 id=\"",
        id
    );
    html!(out, "-title\">", title, "</h2>\n");
}

/// Opens a box whose content may be wider than the page: it scrolls by itself, also with the keyboard.
fn scroll(out: &mut String, label: &'static str) {
    html!(
        out,
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"",
        label,
        "\">\n"
    );
}

/// Heads of a table's columns that hold numbers.
fn number_heads(out: &mut String, heads: &[&'static str]) {
    for head in heads {
        html!(out, "<th scope=\"col\" class=\"n\">", *head, "</th>");
    }
}
