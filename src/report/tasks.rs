//! The tasks: a drawing of the graph, a table with the same counts and more, which on a phone is cards and stands for both,
//! and the scripts.

use std::collections::HashMap;

use crate::db::ReportTask;
use crate::hint;
use crate::ids::TaskId;
use crate::text::size;

use super::facts::Facts;
use super::html::{At, count, html, text};
use super::layout::{Layout, Position, layout};
use super::summary::icon;
use super::{number_heads, open, scroll};

/// At most this many tasks are in the table.
const SHOWN: usize = 300;

/// Bytes of a script that are shown, and of all of them together.
const SCRIPT: usize = 16 << 10;
const SCRIPTS: usize = 256 << 10;

/// Columns of numbers.
const HEADS: [&str; 6] = ["Done", "Failed", "Left", "Retired", "Outputs", "Size"];

/// Beyond these a drawing would be a tangle.
const MOST_TASKS: usize = 120;
const MOST_EDGES: usize = 400;

// Pixels: the size of a box, and the distance from one to the next.
const WIDTH: f64 = 208.0;
const HEIGHT: f64 = 62.0;
const APART: f64 = 22.0;
const MARGIN: f64 = 3.0;
/// Room for edges, between columns beside each other and between lines below each other.
const BESIDE: f64 = 64.0;
const BELOW: f64 = 40.0;
/// Width of the page, and the scale below which names could hardly be read: a drawing that would need less scrolls.
const PAGE: f64 = 1104.0;
const SMALLEST: f64 = 0.72;
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
        "<table class=\"cards\">\n<caption>Steps of each task, in the order of the manifest</caption>\n<thead><tr>"
    );
    html!(out, "<th scope=\"col\">Task</th>");
    number_heads(out, &HEADS);
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
        let numbers =
            [task.done, task.failed, task.pending, task.retired, task.outputs, task.bytes];
        for (number, head) in numbers.into_iter().zip(HEADS) {
            let nil = if number == 0 { " nil" } else { "" };
            html!(out, "<td class=\"n", nil, "\" data-label=\"", head, "\">");
            match head {
                "Size" => html!(out, text(size(number)), "</td>"),
                _ => html!(out, count(number), "</td>"),
            }
        }
        html!(out, "</tr>\n");
    }
    html!(out, "</tbody>\n</table>\n</div>\n");
    if facts.tasks.len() > SHOWN {
        html!(out, "<p>", count((facts.tasks.len() - SHOWN) as u64), " more tasks are listed by ");
        html!(out, "<code>", text(hint::command("status")), "</code>.</p>\n");
    }
    scripts(out, facts);
    if facts.tasks.iter().any(|task| task.retired > 0) {
        html!(
            out,
            "<p class=\"muted\">Retired steps belong to earlier inputs or scripts. If those come back, so do their \
             results.</p>\n"
        );
    }
    html!(out, "</section>\n");
}

/// The script behind each task.
fn scripts(out: &mut String, facts: &Facts) {
    html!(out, "<h3>Scripts</h3>\n");
    let mut bytes = 0;
    for task in facts.tasks.iter().take(SHOWN) {
        html!(out, "<details class=\"script\" id=\"script-", task.id.0, "\"><summary><b>");
        html!(out, text(&task.name), "</b> <code>", text(&task.interpreter), "</code></summary>\n");
        if !task.says.is_empty() {
            html!(out, "<dl class=\"facts\">\n");
            for (key, value) in &task.says {
                html!(out, "<dt>", text(key), "</dt><dd class=\"path\">", text(value), "</dd>\n");
            }
            html!(out, "</dl>\n");
        }
        html!(
            out,
            "<pre tabindex=\"0\" role=\"region\" aria-label=\"Script of ",
            text(&task.name),
            "\">"
        );
        let lines = task.script.trim_end().lines();
        let room = SCRIPT.min(SCRIPTS.saturating_sub(bytes));
        let mut shown = 0;
        for line in lines.clone().take_while(|line| {
            shown += line.len() + 1;
            shown <= room
        }) {
            html!(out, text(line), "\n");
            bytes += line.len() + 1;
        }
        html!(out, "</pre>\n");
        if shown > room {
            html!(out, "<p class=\"muted\">The rest is left out: it is in the manifest.</p>\n");
        }
        html!(out, "</details>\n");
    }
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
    let drawing = Drawing::of(&layout);
    let (width, height) = drawing.size(&layout);
    let least = width * SMALLEST;
    html!(out, "<div class=\"drawing\">\n");
    scroll(out, "Graph of the tasks");
    // It takes the width that there is, but never more than it needs, and never so little that nobody can read it.
    html!(out, "<svg class=\"graph", if least > PAGE { " wide" } else { "" });
    html!(out, "\" width=\"", At(if least > PAGE { least } else { width }), "\" viewBox=\"0 0 ");
    html!(
        out,
        At(width),
        " ",
        At(height),
        "\" role=\"group\" aria-label=\"Tasks ",
        drawing.words()
    );
    html!(out, "; each links to its row in the table below\">\n<g class=\"edges\">");
    for edge in &layout.edges {
        drawing.edge(out, edge);
    }
    html!(out, "</g>\n");
    for (task, place) in facts.tasks.iter().zip(&layout.nodes) {
        node(out, task, drawing.corner(*place));
    }
    html!(out, "</svg>\n</div>\n</div>\n");
}

/// Which way a graph is drawn: whichever needs less width, unless there is room anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drawing {
    FromLeft,
    FromTop,
}

impl Drawing {
    fn of(layout: &Layout) -> Drawing {
        let width = |drawing: Drawing| drawing.size(layout).0;
        let (beside, below) = (width(Drawing::FromLeft), width(Drawing::FromTop));
        if beside <= PAGE || beside <= below { Drawing::FromLeft } else { Drawing::FromTop }
    }

    fn words(self) -> &'static str {
        match self {
            Drawing::FromLeft => "from left to right",
            Drawing::FromTop => "from top to bottom",
        }
    }

    /// Width and height.
    fn size(self, layout: &Layout) -> (f64, f64) {
        let last = Position { column: layout.columns.saturating_sub(1), row: layout.rows - 1.0 };
        let (x, y) = self.corner(last);
        (x + WIDTH + MARGIN, y + HEIGHT + MARGIN)
    }

    /// The upper left corner of a box.
    fn corner(self, place: Position) -> (f64, f64) {
        let column = place.column as f64;
        let (x, y) = match self {
            Drawing::FromLeft => (column * (WIDTH + BESIDE), place.row * (HEIGHT + APART)),
            Drawing::FromTop => (place.row * (WIDTH + APART), column * (HEIGHT + BELOW)),
        };
        (MARGIN + x, MARGIN + y)
    }

    /// An edge through these positions: a curve from each to the next, straight past the column of each that it only
    /// passes, and a head.
    fn edge(self, out: &mut String, way: &[Position]) {
        html!(out, "<path d=\"");
        for (n, pair) in way.windows(2).enumerate() {
            let ((x1, y1), (x2, y2)) = (self.leaves(pair[0]), self.enters(pair[1]));
            html!(out, if n == 0 { "M" } else { "L" }, At(x1), " ", At(y1), "C");
            let (middle_x, middle_y) = (f64::midpoint(x1, x2), f64::midpoint(y1, y2));
            let [a, b, c, d] = match self {
                Drawing::FromLeft => [middle_x, y1, middle_x, y2],
                Drawing::FromTop => [x1, middle_y, x2, middle_y],
            };
            html!(out, At(a), " ", At(b), " ", At(c), " ", At(d), " ", At(x2), " ", At(y2));
        }
        html!(out, "\"/>");
        if let Some(end) = way.last() {
            let (x, y) = self.enters(*end);
            html!(out, "<path class=\"head\" d=\"M");
            match self {
                Drawing::FromLeft => html!(out, At(x - 6.0), " ", At(y - 3.5), "l6 3.5-6 3.5z"),
                Drawing::FromTop => html!(out, At(x - 3.5), " ", At(y - 6.0), "l3.5 6 3.5-6z"),
            }
            html!(out, "\"/>");
        }
    }

    /// Where an edge comes to a box.
    fn enters(self, place: Position) -> (f64, f64) {
        let (x, y) = self.corner(place);
        match self {
            Drawing::FromLeft => (x, y + HEIGHT / 2.0),
            Drawing::FromTop => (x + WIDTH / 2.0, y),
        }
    }

    /// Where an edge goes from a box.
    fn leaves(self, place: Position) -> (f64, f64) {
        let (x, y) = self.corner(place);
        match self {
            Drawing::FromLeft => (x + WIDTH, y + HEIGHT / 2.0),
            Drawing::FromTop => (x + WIDTH / 2.0, y + HEIGHT),
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
