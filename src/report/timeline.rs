//! What each worker did when, in the last run that executed anything: attempt by attempt if there are few, else
//! how much of each moment went into which task.

use std::collections::HashMap;

use crate::db::{Overhead, ReportAttempt, TaskSpan};
use crate::elsewhere::WorkerSlot;
use crate::ids::{RunId, StepId, TaskId};
use crate::order;

use super::facts::Facts;
use super::html::{At, Escaped, count, html, name, text};
use super::scale::{anchor, clock, percent, time};
use super::{number_heads, open, scroll};

/// Colors there are. The last one is for all tasks without a color of their own.
const COLORS: usize = 7;

/// Width of the drawing in its own units.
const UNITS: f64 = 1000.0;

const CLASSES: [&str; COLORS] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6"];

/// More bars than this could not be told apart.
const MOST_BARS: u64 = 500;
const MOST_LANES: u64 = 24;
/// Slices of each lane.
const SLICES: usize = 200;

/// Height of a lane and the gap between two, in pixels.
const LANE: f64 = 22.0;
const GAP: f64 = 6.0;

/// The attempts of one run, by worker.
pub(super) struct Timeline {
    run: RunId,
    begun_ms: i64,
    /// From the first start to the last end; at least a millisecond.
    long_ms: f64,
    attempts: u64,
    workers: u64,
    /// Tasks with a color of their own: those that took most time.
    colored: Vec<TaskId>,
    /// There are more tasks than colors.
    has_others: bool,
    lanes: Vec<Lane>,
    /// One for each attempt; `None` if there are too many.
    bars: Option<Vec<AttemptBar>>,
    /// What took long besides scripts.
    overheads: Vec<Overhead>,
    /// By number: those that were slots of workers elsewhere.
    slots: HashMap<u64, WorkerSlot>,
}

/// An attempt. `from` and `to` are fractions of the whole time.
struct AttemptBar {
    lane: usize,
    step: StepId,
    task: TaskId,
    input: Vec<u8>,
    labels: String,
    from: f64,
    to: f64,
    wall_us: u64,
    failed: bool,
    /// How many steps the script worked on.
    steps: u64,
}

impl Timeline {
    /// Empty, for the run whose parts in each task these are.
    pub(super) fn new(
        run: RunId,
        spans: &[TaskSpan],
        overheads: Vec<Overhead>,
        slots: HashMap<u64, WorkerSlot>,
    ) -> Timeline {
        let prepared = overheads.iter().map(|one| one.started_ms - one.before_ms);
        let kept = overheads.iter().map(|one| one.script_ended_ms + one.after_ms);
        let begun_ms = spans.iter().map(|span| span.begun_ms).chain(prepared).min().unwrap_or(0);
        let ended_ms = spans.iter().map(|span| span.ended_ms).chain(kept).max().unwrap_or(0);
        let workers = spans.iter().map(|span| span.workers).max().unwrap_or(0);
        let attempts = spans.iter().map(|span| span.attempts).sum();
        let mut by_time: Vec<&TaskSpan> = spans.iter().collect();
        order::sort_by_key(&mut by_time, |span| std::cmp::Reverse(span.wall_us));
        let colored: Vec<TaskId> = by_time.iter().take(COLORS - 1).map(|span| span.task).collect();
        let lanes = workers.clamp(1, MOST_LANES) as usize;
        Timeline {
            run,
            begun_ms,
            long_ms: (ended_ms.saturating_sub(begun_ms)).max(1) as f64,
            attempts,
            workers: workers.max(1),
            has_others: spans.len() > colored.len(),
            colored,
            lanes: vec![Lane::new(SLICES); lanes],
            bars: (attempts <= MOST_BARS).then(Vec::new),
            overheads,
            slots,
        }
    }

    /// Adds an attempt, if it belongs to the run.
    pub(super) fn see(&mut self, attempt: &ReportAttempt<'_>) {
        if attempt.run != self.run {
            return;
        }
        let from = (attempt.started_ms - self.begun_ms) as f64 / self.long_ms;
        let whole_us = attempt.wall_us * attempt.steps;
        let to = from + whole_us as f64 / 1e3 / self.long_ms;
        let at = self.lane_of(attempt.worker);
        let color = self.color(attempt.task);
        let lane = &mut self.lanes[at];
        lane.attempts += 1;
        lane.failed += u64::from(!attempt.succeeded);
        lane.busy_us += attempt.wall_us;
        let ReportAttempt { step, task, input, succeeded, item, steps, .. } = *attempt;
        if item > 1 {
            // The bar of the first one is that of all that shared the script.
            return;
        }
        lane.add(from, to, self.long_ms * 1e3, color, !attempt.succeeded);
        if let Some(bars) = &mut self.bars {
            bars.push(AttemptBar {
                lane: at,
                step,
                task,
                input: input.to_vec(),
                labels: attempt.label_text(),
                from,
                to,
                wall_us: whole_us,
                failed: !succeeded,
                steps,
            });
        }
    }

    /// The lane of a worker. Attempts of older builds, which didn't note the worker, go to the first.
    fn lane_of(&self, worker: u64) -> usize {
        let lanes = self.lanes.len() as u64;
        let nth = worker.saturating_sub(1).min(self.workers - 1);
        (nth * lanes / self.workers) as usize
    }

    fn color(&self, task: TaskId) -> usize {
        self.colored.iter().position(|colored| *colored == task).unwrap_or(COLORS - 1)
    }

    /// The first and the last worker of a lane.
    fn workers_of(&self, lane: usize) -> (u64, u64) {
        let of = |worker: &u64| self.lane_of(*worker) == lane;
        let first = (1..=self.workers).find(of).unwrap_or(1);
        (first, (first..=self.workers).take_while(of).last().unwrap_or(first))
    }

    fn label(&self, lane: usize) -> Escaped {
        match self.workers_of(lane) {
            (first, last) if first == last => match self.slots.get(&first) {
                Some(on) => text(format!("Worker {}.{}", on.worker, on.slot)),
                None => text(format!("Worker {first}")),
            },
            (first, last) => text(format!("Workers {first}–{last}")),
        }
    }
}

/// A row of the drawing: the time of a worker, or of several where there are too many to draw, cut into slices. Its
/// size doesn't depend on the number of steps.
#[derive(Debug, Clone)]
struct Lane {
    /// Microseconds of work, by slice and color.
    slices: Vec<[f64; COLORS]>,
    /// Failures by slice.
    failures: Vec<u64>,
    attempts: u64,
    failed: u64,
    busy_us: u64,
}

impl Lane {
    fn new(slices: usize) -> Lane {
        let slices = slices.max(1);
        Lane {
            slices: vec![[0.0; COLORS]; slices],
            failures: vec![0; slices],
            attempts: 0,
            failed: 0,
            busy_us: 0,
        }
    }

    /// Adds an attempt. `from` and `to` are fractions of the whole time, which is `whole_us` long.
    fn add(&mut self, from: f64, to: f64, whole_us: f64, color: usize, failed: bool) {
        let last = self.slices.len() - 1;
        let many = self.slices.len() as f64;
        let (from, to) = (from.clamp(0.0, 1.0) * many, to.clamp(0.0, 1.0) * many);
        let (first, end) = ((from as usize).min(last), (to as usize).min(last));
        for slice in first..=end {
            let within = (to.min(slice as f64 + 1.0) - from.max(slice as f64)).max(0.0);
            self.slices[slice][color.min(COLORS - 1)] += within / many * whole_us;
        }
        self.failures[end] += u64::from(failed);
    }

    /// Rectangles of one color as (x, width, share of the height below it, own share), x and width in [`UNITS`].
    /// Neighbours that look alike are merged.
    fn bars(&self, color: usize, full_us: f64) -> Vec<(f64, f64, f64, f64)> {
        let width = UNITS / self.slices.len() as f64;
        let mut bars: Vec<(f64, f64, f64, f64)> = Vec::new();
        for (at, slice) in self.slices.iter().enumerate() {
            let share = (slice[color] / full_us).clamp(0.0, 1.0);
            let below = (slice[..color].iter().sum::<f64>() / full_us).clamp(0.0, 1.0 - share);
            if share < 0.005 {
                continue;
            }
            let x = at as f64 * width;
            let alike = |bar: &&mut (f64, f64, f64, f64)| {
                let touches = (bar.0 + bar.1 - x).abs() < 0.01;
                touches && (bar.2 - below).abs() < 0.02 && (bar.3 - share).abs() < 0.02
            };
            match bars.last_mut().filter(alike) {
                Some(bar) => bar.1 += width,
                None => bars.push((x, width, below, share)),
            }
        }
        bars
    }

    /// The slices with failures, as (fraction of the whole time, number of failures).
    fn failures(&self) -> impl Iterator<Item = (f64, u64)> {
        let many = self.failures.len() as f64;
        let failures = self.failures.iter().enumerate().filter(|(_, failures)| **failures > 0);
        failures.map(move |(at, failures)| ((at as f64 + 0.5) / many, *failures))
    }
}

/// The section; `timeline` is `None` if nothing was ever executed.
pub(super) fn section(out: &mut String, facts: &Facts, timeline: Option<&Timeline>) {
    open(out, "timeline");
    let Some(timeline) = timeline else {
        html!(out, "<p>No step has been executed yet.</p>\n</section>\n");
        return;
    };
    html!(
        out,
        "<p class=\"lead\">",
        count(timeline.attempts),
        if timeline.attempts == 1 { " attempt" } else { " attempts" }
    );
    html!(out, " of run ", timeline.run.0, " by worker; time counts from the start of the first.");
    html!(out, if timeline.bars.is_some() { "" } else { " The higher, the busier a worker was." });
    if facts.run().is_some_and(|run| run.id != timeline.run) {
        html!(out, " Later runs had nothing to execute.");
    }
    html!(out, "</p>\n");
    legend(out, facts, timeline);
    plot(out, facts, timeline);
    table(out, timeline);
    html!(out, "</section>\n");
}

fn legend(out: &mut String, facts: &Facts, timeline: &Timeline) {
    html!(out, "<ul class=\"legend\">\n");
    for (color, task) in timeline.colored.iter().enumerate() {
        html!(
            out,
            "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect width=\"12\" height=\"12\" rx=\"2\" class=\""
        );
        html!(out, CLASSES[color], "\"/></svg>", text(facts.task(*task)), "</li>\n");
    }
    if timeline.has_others {
        html!(
            out,
            "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect width=\"12\" height=\"12\" rx=\"2\" "
        );
        html!(out, "class=\"c6\"/></svg>other tasks</li>\n");
    }
    if !timeline.overheads.is_empty() {
        html!(
            out,
            "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect width=\"12\" height=\"12\" rx=\"2\" "
        );
        html!(
            out,
            "class=\"besides\"/></svg>before a script: inputs laid out; after it: outputs kept, inputs taken back</li>\n"
        );
    }
    if timeline.lanes.iter().any(|lane| lane.failed > 0) {
        html!(
            out,
            "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><use href=\"#cross\" x=\"6\" y=\"6\"/></svg>"
        );
        html!(out, "failed</li>\n");
    }
    html!(out, "</ul>\n");
}

fn plot(out: &mut String, facts: &Facts, timeline: &Timeline) {
    let height = timeline.lanes.len() as f64 * (LANE + GAP);
    scroll(out, "Timeline by worker");
    html!(out, "<div class=\"timeline\">\n<div class=\"labels\" aria-hidden=\"true\">");
    for lane in 0..timeline.lanes.len() {
        html!(out, "<div>", timeline.label(lane), "</div>");
    }
    html!(out, "</div>\n<svg width=\"100%\" height=\"", At(height + 22.0), "\" role=\"img\" ");
    html!(
        out,
        "aria-label=\"Workers as rows, time from left to right; the table below has the sums\" "
    );
    // What the script has to know to draw steps at a larger scale.
    html!(out, "data-ms=\"", At(timeline.long_ms), "\" data-begun=\"", timeline.begun_ms);
    html!(out, "\" data-run=\"", timeline.run.0, "\" data-workers=\"", timeline.workers);
    html!(out, "\" data-lanes=\"", timeline.lanes.len(), "\" data-tasks=\"");
    for (n, task) in timeline.colored.iter().enumerate() {
        html!(out, if n > 0 { "," } else { "" }, task.0);
    }
    html!(out, "\">\n<g class=\"axis\">");
    for (ms, words) in clock(timeline.long_ms) {
        let place = ms / timeline.long_ms;
        let x = percent(ms, timeline.long_ms);
        html!(out, "<line class=\"grid\" x1=\"", x, "\" x2=\"", x, "\" y2=\"", At(height), "\"/>");
        let anchor = anchor(place, 0.02..=0.96);
        html!(
            out,
            "<text x=\"",
            x,
            "\" y=\"",
            At(height + 15.0),
            "\" text-anchor=\"",
            anchor,
            "\">",
            text(words)
        );
        html!(out, "</text>\n");
    }
    html!(out, "</g>\n");
    overheads(out, timeline);
    match &timeline.bars {
        Some(bars) => bars.iter().for_each(|bar| step(out, facts, timeline, bar)),
        None => slices(out, timeline, height),
    }
    html!(out, "</svg>\n</div>\n</div>\n");
}

/// What took long before and after scripts, below what the scripts did.
fn overheads(out: &mut String, timeline: &Timeline) {
    for one in &timeline.overheads {
        let parts = [
            (one.started_ms - one.before_ms, one.before_ms, "inputs of step ", " laid out in "),
            (
                one.script_ended_ms,
                one.after_ms,
                "outputs of step ",
                " kept, its inputs taken back in ",
            ),
        ];
        for (from_ms, long_ms, whose, what) in parts.into_iter().filter(|part| part.1 > 0) {
            let from = (from_ms - timeline.begun_ms) as f64;
            html!(out, "<svg data-step=\"", one.step.0, "\" x=\"", percent(from, timeline.long_ms));
            html!(out, "\" width=\"", percent(long_ms as f64, timeline.long_ms), "\" y=\"");
            html!(
                out,
                At(top(timeline.lane_of(one.worker)) + LANE / 4.0),
                "\" height=\"",
                At(LANE / 2.0)
            );
            html!(out, "\"><title>", whose, one.step.0, what, time(long_ms.unsigned_abs() * 1000));
            html!(out, "</title><rect width=\"100%\" height=\"100%\" class=\"besides\"/></svg>\n");
        }
    }
}

fn top(lane: usize) -> f64 {
    lane as f64 * (LANE + GAP) + GAP / 2.0
}

fn step(out: &mut String, facts: &Facts, timeline: &Timeline, bar: &AttemptBar) {
    let AttemptBar { from, to, .. } = *bar;
    html!(
        out,
        "<svg data-step=\"",
        bar.step.0,
        "\" x=\"",
        percent(from, 1.0),
        "\" width=\"",
        percent((to - from).max(0.0015), 1.0),
        "\" y=\""
    );
    html!(
        out,
        At(top(bar.lane)),
        "\" height=\"",
        At(LANE),
        "\"><title>",
        text(facts.task(bar.task)),
        " "
    );
    html!(out, name(&bar.input));
    if !bar.labels.is_empty() {
        html!(out, " [", text(&bar.labels), "]");
    }
    html!(
        out,
        ": step ",
        bar.step.0,
        text(if bar.steps > 1 { format!(" with {} more", bar.steps - 1) } else { String::new() }),
        ", ",
        time(bar.wall_us),
        if bar.failed { ", failed" } else { "" }
    );
    html!(
        out,
        "</title><rect width=\"100%\" height=\"100%\" class=\"step ",
        CLASSES[timeline.color(bar.task)],
        "\"/>"
    );
    if bar.failed {
        html!(out, "<use href=\"#cross\" x=\"50%\" y=\"50%\"/>");
    }
    html!(out, "</svg>\n");
}

fn slices(out: &mut String, timeline: &Timeline, height: f64) {
    html!(
        out,
        "<svg class=\"slices\" width=\"100%\" height=\"",
        At(height),
        "\" viewBox=\"0 0 ",
        At(UNITS),
        " ",
        At(height)
    );
    html!(out, "\" preserveAspectRatio=\"none\">");
    for (at, lane) in timeline.lanes.iter().enumerate() {
        let (first, last) = timeline.workers_of(at);
        let full_us = timeline.long_ms * 1e3 / SLICES as f64 * (last - first + 1) as f64;
        let bottom = top(at) + LANE;
        html!(out, "<path class=\"base\" d=\"M0 ", At(bottom), "H", At(UNITS), "\"/>");
        for (color, class) in CLASSES.into_iter().enumerate() {
            let bars = lane.bars(color, full_us);
            if bars.is_empty() {
                continue;
            }
            html!(out, "<path class=\"", class, "\" d=\"");
            for (x, width, below, share) in bars {
                html!(
                    out,
                    "M",
                    At(x),
                    " ",
                    At(bottom - below * LANE),
                    "v",
                    At(-share * LANE),
                    "h",
                    At(width),
                    "v"
                );
                html!(out, At(share * LANE), "z");
            }
            html!(out, "\"/>");
        }
    }
    html!(out, "</svg>\n");
    for (at, lane) in timeline.lanes.iter().enumerate() {
        for (place, failures) in lane.failures() {
            html!(
                out,
                "<use href=\"#cross\" x=\"",
                percent(place, 1.0),
                "\" y=\"",
                At(top(at) + 4.0),
                "\"><title>"
            );
            html!(out, count(failures), " failed</title></use>");
        }
    }
}

fn table(out: &mut String, timeline: &Timeline) {
    html!(out, "<details><summary>The same in numbers</summary>\n");
    scroll(out, "Work of each worker");
    html!(
        out,
        "<table>\n<caption>Work of each worker</caption>\n<thead><tr><th scope=\"col\">Worker</th>"
    );
    number_heads(out, &["Attempts", "Failed", "Busy", "Share"]);
    html!(out, "</tr></thead>\n<tbody>\n");
    for (at, lane) in timeline.lanes.iter().enumerate() {
        let (first, last) = timeline.workers_of(at);
        let whole = timeline.long_ms * 1e3 * (last - first + 1) as f64;
        html!(
            out,
            "<tr><th scope=\"row\">",
            timeline.label(at),
            "</th><td class=\"n\">",
            count(lane.attempts)
        );
        html!(
            out,
            "</td><td class=\"n\">",
            count(lane.failed),
            "</td><td class=\"n\">",
            time(lane.busy_us)
        );
        let share = (lane.busy_us as f64 / whole * 100.0).round().min(100.0);
        html!(out, "</td><td class=\"n\">", share as u64, " %</td></tr>\n");
    }
    html!(out, "</tbody>\n</table>\n</div>\n</details>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_falls_into_the_slices_it_touches() {
        let mut lane = Lane::new(4);
        lane.add(0.125, 0.5, 800.0, 0, false);
        lane.add(0.5, 0.75, 800.0, 2, true);
        assert_eq!(lane.bars(0, 200.0), [(0.0, 250.0, 0.0, 0.5), (250.0, 250.0, 0.0, 1.0)]);
        assert_eq!(lane.bars(2, 200.0), [(500.0, 250.0, 0.0, 1.0)]);
        assert_eq!(lane.failures().collect::<Vec<_>>(), [(0.875, 1)]);
    }

    #[test]
    fn equal_neighbours_are_one_bar() {
        let mut lane = Lane::new(100);
        lane.add(0.0, 1.0, 1000.0, 1, false);
        assert_eq!(lane.bars(1, 10.0).len(), 1);
        lane.add(2.0, -1.0, f64::NAN, 99, false);
    }
}
