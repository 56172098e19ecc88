//! The tasks: a drawing of the graph, and a table with the same counts and more.

use std::collections::HashMap;

use crate::db::ReportTask;
use crate::ids::TaskId;
use crate::text::size;

use super::facts::Facts;
use super::html::{At, count, html, text};
use super::layout::{Layout, Position, layout};
use super::summary::icon;
use super::{open, scroll};

/// At most this many tasks are in the table.
const SHOWN: usize = 300;

/// Beyond these a drawing would be a tangle.
const MOST_TASKS: usize = 120;
const MOST_EDGES: usize = 400;

// Pixels: the size of a box, and the distance from one to the next.
const WIDTH: f64 = 208.0;
const HEIGHT: f64 = 62.0;
const COLUMN: f64 = WIDTH + 64.0;
const ROW: f64 = HEIGHT + 22.0;
const MARGIN: f64 = 3.0;
/// Characters of a name that fit into a box.
const NAME: usize = 22;

/// The section. `edges` are pairs of tasks: the second consumes outputs of the first.
pub(super) fn section(out: &mut String, facts: &Facts, edges: &[(TaskId, TaskId)]) {
    open(out, "tasks");
    if facts.tasks.is_empty() {
        html!(out, "<p>No manifest has been run here yet.</p>\n</section>\n");
        return;
    }
    draw(out, facts, edges);
    html!(out, "<p class=\"key\" aria-hidden=\"true\">");
    for (state, words) in [("done", "done"), ("failed", "failed"), ("pending", "left")] {
        html!(out, "<span>", icon(state), words, "</span> ");
    }
    html!(out, "</p>\n");
    scroll(out, "Steps of each task");
    html!(
        out,
        "<table>\n<caption>Steps of each task, in the order of the manifest</caption>\n<thead><tr>"
    );
    html!(out, "<th scope=\"col\">Task</th>");
    for head in ["Done", "Failed", "Left", "Retired", "Outputs", "Size"] {
        html!(out, "<th scope=\"col\" class=\"n\">", head, "</th>");
    }
    html!(out, "</tr></thead>\n<tbody>\n");
    for task in facts.tasks.iter().take(SHOWN) {
        html!(
            out,
            "<tr id=\"task-",
            task.id.0,
            "\"><th scope=\"row\">",
            icon(state(task)),
            text(&task.name)
        );
        if task.gather {
            html!(out, " <small>gathers");
            if let Some(keys) = &task.gather_by {
                html!(out, " by ", text(keys));
            }
            html!(out, "</small>");
        }
        if let Some(keys) = &task.labels {
            html!(out, " <small>[", text(keys), "]</small>");
        }
        if !task.declared.is_nothing() {
            html!(out, " <small>takes ", text(task.declared.to_string()), "</small>");
        }
        html!(out, "</th>");
        for number in [task.done, task.failed, task.pending, task.retired, task.outputs] {
            html!(
                out,
                "<td class=\"n",
                if number == 0 { " nil" } else { "" },
                "\">",
                count(number),
                "</td>"
            );
        }
        html!(out, "<td class=\"n", if task.bytes == 0 { " nil" } else { "" }, "\">");
        html!(out, text(size(task.bytes)), "</td></tr>\n");
    }
    html!(out, "</tbody>\n</table>\n</div>\n");
    if facts.tasks.len() > SHOWN {
        html!(out, "<p>", count((facts.tasks.len() - SHOWN) as u64), " more tasks are listed by ");
        html!(out, "<code>task-pipeline status</code>.</p>\n");
    }
    if facts.tasks.iter().any(|task| task.retired > 0) {
        html!(
            out,
            "<p class=\"muted\">Retired steps belong to earlier inputs or scripts. If those come back, so do their \
             results.</p>\n"
        );
    }
    html!(out, "</section>\n");
}

/// The drawing, or a sentence that says why there is none.
fn draw(out: &mut String, facts: &Facts, all_edges: &[(TaskId, TaskId)]) {
    if facts.tasks.len() > MOST_TASKS || all_edges.len() > MOST_EDGES {
        html!(out, "<p>The graph has ", facts.tasks.len(), " tasks and ", all_edges.len());
        html!(out, " edges, too many for a drawing.</p>\n");
        return;
    }
    let places: HashMap<TaskId, usize> =
        facts.tasks.iter().enumerate().map(|(place, task)| (task.id, place)).collect();
    let edges =
        all_edges.iter().filter_map(|(from, to)| Some((*places.get(from)?, *places.get(to)?)));
    let layout = layout(facts.tasks.len(), &edges.collect::<Vec<_>>());
    let width = (layout.columns as f64 - 1.0) * COLUMN + WIDTH + 2.0 * MARGIN;
    let height = (layout.rows as f64 - 1.0) * ROW + HEIGHT + 2.0 * MARGIN;
    scroll(out, "Graph of the tasks");
    html!(
        out,
        "<svg class=\"graph\" width=\"",
        At(width),
        "\" height=\"",
        At(height),
        "\" role=\"group\" "
    );
    html!(
        out,
        "aria-label=\"Tasks from left to right; each links to its row in the table below\">\n<g class=\"edges\">"
    );
    edges_of(out, &layout);
    html!(out, "</g>\n");
    for (task, place) in facts.tasks.iter().zip(&layout.nodes) {
        node(out, task, corner(*place));
    }
    html!(out, "</svg>\n</div>\n");
}

fn corner(place: Position) -> (f64, f64) {
    (MARGIN + place.column as f64 * COLUMN, MARGIN + place.row * ROW)
}

fn edges_of(out: &mut String, layout: &Layout) {
    for edge in &layout.edges {
        html!(out, "<path d=\"");
        for (n, pair) in edge.windows(2).enumerate() {
            let (from, to) = (corner(pair[0]), corner(pair[1]));
            let (x1, y1) = (from.0 + WIDTH, from.1 + HEIGHT / 2.0);
            let (x2, y2) = (to.0, to.1 + HEIGHT / 2.0);
            let middle = f64::midpoint(x1, x2);
            if n == 0 {
                html!(out, "M", At(x1), " ", At(y1));
            } else {
                // Straight across a column that the edge only passes through.
                html!(out, "H", At(x1));
            }
            html!(
                out,
                "C",
                At(middle),
                " ",
                At(y1),
                " ",
                At(middle),
                " ",
                At(y2),
                " ",
                At(x2),
                " ",
                At(y2)
            );
        }
        html!(out, "\"/>");
        if let Some(end) = edge.last() {
            let (x, y) = corner(*end);
            html!(out, "<path class=\"head\" d=\"M", At(x - 6.0), " ", At(y + HEIGHT / 2.0 - 3.5));
            html!(out, "l6 3.5-6 3.5z\"/>");
        }
    }
}

/// The state of a task as a whole; also a class of the style sheet.
fn state(task: &ReportTask) -> &'static str {
    match (task.done, task.failed, task.pending) {
        (_, 1.., _) => "failed",
        (_, 0, 1..) | (0, 0, 0) => "pending",
        _ => "done",
    }
}

fn node(out: &mut String, task: &ReportTask, (x, y): (f64, f64)) {
    let ReportTask { done, failed, pending, .. } = *task;
    html!(
        out,
        "<a href=\"#task-",
        task.id.0,
        "\"><g class=\"node ",
        state(task),
        "\" transform=\"translate("
    );
    html!(
        out,
        At(x),
        " ",
        At(y),
        ")\"><title>",
        text(&task.name),
        ": ",
        count(done),
        " done, ",
        count(failed)
    );
    html!(
        out,
        " failed, ",
        count(pending),
        " left",
        if task.gather { "; gathers" } else { "" },
        "</title>"
    );
    html!(
        out,
        "<rect class=\"box\" width=\"",
        At(WIDTH),
        "\" height=\"",
        At(HEIGHT),
        "\" rx=\"6\"/>"
    );
    html!(out, "<text class=\"name\" x=\"12\" y=\"22\">", text(short(&task.name)), "</text>");
    if done + failed + pending == 0 {
        html!(out, "<text x=\"12\" y=\"40\">no steps yet</text>");
    }
    let mut at = 12.0;
    for (steps, state) in [(done, "done"), (failed, "failed"), (pending, "pending")] {
        if steps > 0 {
            html!(
                out,
                "<svg class=\"icon ",
                state,
                "\" x=\"",
                At(at),
                "\" y=\"30\" width=\"12\" height=\"12\">"
            );
            html!(
                out,
                "<use href=\"#",
                state,
                "\"/></svg><text x=\"",
                At(at + 16.0),
                "\" y=\"40\">"
            );
            html!(out, count(steps), "</text>");
            at += 28.0 + 7.6 * digits(steps);
        }
    }
    let all = (done + failed + pending).max(1) as f64;
    let long = WIDTH - 24.0;
    html!(out, "<rect class=\"rest\" x=\"12\" y=\"49\" width=\"", At(long), "\" height=\"5\"/>");
    let mut at = 12.0;
    for (steps, state) in [(done, "done"), (failed, "failed")] {
        if steps > 0 {
            let width = (steps as f64 / all * long).max(2.0);
            html!(
                out,
                "<rect class=\"",
                state,
                "\" x=\"",
                At(at),
                "\" y=\"49\" width=\"",
                At(width)
            );
            html!(out, "\" height=\"5\"/>");
            at += width;
        }
    }
    html!(out, "</g></a>\n");
}

/// The width of a count in digits; a comma is half as wide.
fn digits(number: u64) -> f64 {
    let digits = number.checked_ilog10().unwrap_or(0) + 1;
    f64::from(digits) + f64::from((digits - 1) / 3) * 0.5
}

/// A long name without its middle: related names often differ only at the end.
fn short(name: &str) -> String {
    let length = name.chars().count();
    if length <= NAME {
        return name.to_owned();
    }
    let tail = NAME / 2 - 1;
    let head = name.chars().take(NAME - 1 - tail);
    head.chain(['…']).chain(name.chars().skip(length - tail)).collect()
}
