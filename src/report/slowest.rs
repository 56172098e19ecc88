//! The steps that took longest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::db::ReportAttempt;
use crate::ids::{StepId, TaskId};
use crate::order;

use super::facts::Facts;
use super::html::{At, html, name, text};
use super::scale::{memory_words, time};
use super::{open, scroll};

/// At most this many steps are listed.
const SHOWN: usize = 20;

/// The slowest attempts so far, at most [`SHOWN`]; the quickest of them is on top.
#[derive(Default)]
pub(super) struct Slowest(BinaryHeap<Reverse<Slow>>);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Slow {
    wall_us: u64,
    step: StepId,
    task: TaskId,
    input: Vec<u8>,
    labels: String,
    cpu_us: u64,
    peak_kib: u64,
}

impl Slowest {
    /// Keeps an attempt if it is among the slowest that a step's result comes from.
    pub(super) fn see(&mut self, attempt: &ReportAttempt<'_>) {
        let ReportAttempt { step, task, wall_us, cpu_us, peak_kib, .. } = *attempt;
        let is_slow = self.0.len() < SHOWN
            || self.0.peek().is_some_and(|Reverse(last)| last.wall_us < wall_us);
        if !attempt.stands || !is_slow {
            return;
        }
        self.0.push(Reverse(Slow {
            wall_us,
            step,
            task,
            input: attempt.input.to_vec(),
            labels: attempt.label_text(),
            cpu_us,
            peak_kib,
        }));
        if self.0.len() > SHOWN {
            self.0.pop();
        }
    }

    fn sorted(&self) -> Vec<&Slow> {
        let mut all: Vec<&Slow> = self.0.iter().map(|Reverse(slow)| slow).collect();
        order::sort_by_key(&mut all, |slow| Reverse((slow.wall_us, Reverse(slow.step))));
        all
    }
}

/// The section: a table, longest first.
pub(super) fn section(out: &mut String, facts: &Facts, slowest: &Slowest) {
    open(out, "slowest");
    let slowest = slowest.sorted();
    let Some(longest) = slowest.first() else {
        html!(out, "<p>No step is done yet.</p>\n</section>\n");
        return;
    };
    scroll(out, "Slowest steps");
    html!(
        out,
        "<table>\n<caption>Steps that are done, by the time of their last attempt</caption>\n<thead><tr>"
    );
    html!(
        out,
        "<th scope=\"col\" class=\"n\">Step</th><th scope=\"col\">Task</th><th scope=\"col\">Input</th>"
    );
    let has_labels = slowest.iter().any(|slow| !slow.labels.is_empty());
    if has_labels {
        html!(out, "<th scope=\"col\">Labels</th>");
    }
    html!(
        out,
        "<th scope=\"col\" class=\"n\">Time</th><td></td><th scope=\"col\" class=\"n\">CPU</th>"
    );
    html!(out, "<th scope=\"col\" class=\"n\">Memory</th></tr></thead>\n<tbody>\n");
    for slow in &slowest {
        html!(
            out,
            "<tr id=\"step-",
            slow.step.0,
            "\"><th scope=\"row\" class=\"n\"><a href=\"#step-",
            slow.step.0,
            "\">",
            slow.step.0,
            "</a></th><td class=\"word\">",
            text(facts.task(slow.task))
        );
        html!(out, "</td><td class=\"path\">", name(&slow.input));
        if has_labels {
            html!(out, "</td><td class=\"path\">", text(&slow.labels));
        }
        html!(out, "</td><td class=\"n\">", time(slow.wall_us));
        let width = slow.wall_us as f64 / longest.wall_us.max(1) as f64 * 120.0;
        html!(
            out,
            "</td><td><svg width=\"120\" height=\"10\" aria-hidden=\"true\"><rect width=\"",
            At(width.max(1.0))
        );
        html!(
            out,
            "\" height=\"10\" class=\"bar\"/></svg></td><td class=\"n\">",
            time(slow.cpu_us)
        );
        html!(out, "</td><td class=\"n\">", text(memory_words(slow.peak_kib)), "</td></tr>\n");
    }
    html!(out, "</tbody>\n</table>\n</div>\n</section>\n");
}
