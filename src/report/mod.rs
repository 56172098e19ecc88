//! `report`: one page about where a pipeline stands, how its last run went and why steps failed. It needs no
//! network and no script, and it stays small however many steps there are: what is drawn step by step for
//! a few hundred is summed up for more. A file per section; [`html`] is why no name or log can break it.
//! Unaware of where the page goes.

mod cells;
mod environment;
mod facts;
mod failed;
mod graph;
mod html;
mod lanes;
mod layout;
mod scale;
mod slowest;
mod spread;
mod summary;
mod tasks;
mod timeline;

use std::path::Path;

use crate::db::Db;
use crate::error::Result;
use crate::store::Store;

use facts::Facts;
use html::{html, text};

/// Of which the browser makes the page's looks.
const STYLE: &str = include_str!("style.css");

/// Marks that tell a state without its colour.
const SYMBOLS: &str = "<svg width=\"0\" height=\"0\" aria-hidden=\"true\" class=\"defs\"><defs>\
<symbol id=\"done\" viewBox=\"0 0 12 12\"><path d=\"M2 6.5 5 9.5 10 3\" class=\"stroke\"/></symbol>\
<symbol id=\"failed\" viewBox=\"0 0 12 12\"><path d=\"M2.5 2.5l7 7m0-7l-7 7\" class=\"stroke\"/></symbol>\
<symbol id=\"pending\" viewBox=\"0 0 12 12\"><circle cx=\"6\" cy=\"6\" r=\"3.75\" class=\"stroke\"/></symbol>\
<symbol id=\"cross\" overflow=\"visible\"><path d=\"M-3.5-3.5l7 7m0-7l-7 7\" class=\"cross\"/></symbol>\
<pattern id=\"hatch\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">\
<rect width=\"5\" height=\"5\" class=\"hatch-a\"/><rect width=\"2\" height=\"5\" class=\"hatch-b\"/></pattern>\
</defs></svg>\n";

/// The page, as of now.
///
/// # Errors
/// If the database can't be read. A log that is gone is told in its place.
pub fn page(db: &Db, store: &Store, dir: &Path) -> Result<String> {
    let facts = Facts::read(db, dir)?;
    let mut page = String::with_capacity(128 << 10);
    let out = &mut page;
    html!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
         base-uri 'none'; form-action 'none'\">\n",
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
        "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n",
        "<title>",
        text(facts.title()),
        " · task-pipeline report</title>\n<style>\n",
        STYLE,
        "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#main\">Skip to the report</a>\n",
        SYMBOLS
    );
    summary::header(out, &facts);
    html!(out, "<nav aria-label=\"Sections\"><ul>\n");
    let has_failed = !facts.failed.is_empty();
    for (id, title) in SECTIONS.into_iter().filter(|(id, _)| *id != "failures" || has_failed) {
        html!(out, "<li><a href=\"#", id, "\">", title, "</a></li>\n");
    }
    html!(out, "</ul></nav>\n<main id=\"main\" tabindex=\"-1\">\n");
    summary::section(out, &facts);
    failed::section(out, &facts, store)?;
    tasks::section(out, &facts);
    timeline::section(out, &facts);
    slowest::section(out, &facts);
    spread::section(out, &facts);
    environment::section(out, &facts, dir);
    html!(out, "</main>\n<footer>Made by task-pipeline ", VERSION, " on ", text(facts.made()));
    html!(out, ".</footer>\n</body>\n</html>\n");
    Ok(page)
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Their ids and headings, from the top of the page.
const SECTIONS: [(&str, &str); 7] = [
    ("summary", "Summary"),
    ("failures", "Failures"),
    ("tasks", "Tasks"),
    ("timeline", "Timeline"),
    ("slowest", "Slowest steps"),
    ("spread", "Time and memory"),
    ("environment", "Environment"),
];

/// Opens a section with the heading that the list has for it.
fn open(out: &mut String, id: &'static str) {
    let title = SECTIONS.iter().find(|section| section.0 == id).map_or(id, |section| section.1);
    html!(out, "<section id=\"", id, "\" aria-labelledby=\"", id, "-title\">\n<h2 id=\"", id);
    html!(out, "-title\">", title, "</h2>\n");
}

/// A box whose content may be wider than the page: it scrolls by itself, with the keyboard too.
fn scroll(out: &mut String, label: &'static str) {
    html!(
        out,
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"",
        label,
        "\">\n"
    );
}
