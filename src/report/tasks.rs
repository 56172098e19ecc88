//! The tasks: the graph, and the same and more as a table.

use crate::text::size;

use super::facts::Facts;
use super::graph::{self, state};
use super::html::{count, html, text};
use super::summary::icon;
use super::{open, scroll};

/// Rows of a table that has one for each task.
pub(super) const SHOWN: usize = 300;

/// The section.
pub(super) fn section(out: &mut String, facts: &Facts) {
    open(out, "tasks");
    if facts.tasks.is_empty() {
        html!(out, "<p>No manifest has been run here yet.</p>\n</section>\n");
        return;
    }
    graph::draw(out, facts);
    html!(out, "<p class=\"key\" aria-hidden=\"true\">");
    for (state, words) in [("done", "done"), ("failed", "failed"), ("pending", "pending")] {
        html!(out, "<span>", icon(state), words, "</span> ");
    }
    html!(out, "</p>\n");
    scroll(out, "Steps of each task");
    html!(
        out,
        "<table>\n<caption>Steps of each task, in the order of the manifest</caption>\n<thead><tr>"
    );
    html!(out, "<th scope=\"col\">Task</th>");
    for head in ["Done", "Failed", "Pending", "Retired", "Outputs", "Size"] {
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
        html!(out, if task.gather { " <small>gathers</small>" } else { "" }, "</th>");
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
        html!(out, "<p>", count((facts.tasks.len() - SHOWN) as u64), " more tasks are told by ");
        html!(out, "<code>task-pipeline status</code>.</p>\n");
    }
    if facts.tasks.iter().any(|task| task.retired > 0) {
        html!(
            out,
            "<p class=\"muted\">Retired steps belong to earlier inputs or scripts; they come alive again with their \
             results.</p>\n"
        );
    }
    html!(out, "</section>\n");
}
