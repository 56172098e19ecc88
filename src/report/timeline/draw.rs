//! The drawing of a timeline, and the same in numbers.

use super::{Bar, GAP, LANE, SLICES, Timeline};
use crate::report::facts::Facts;
use crate::report::html::{At, count, html, name, text};
use crate::report::lanes::{COLORS, UNITS};
use crate::report::scale::{anchor, clock, percent, time};
use crate::report::{open, scroll};

const CLASSES: [&str; COLORS] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6"];

/// The section.
pub(in crate::report) fn section(out: &mut String, facts: &Facts) {
    open(out, "timeline");
    let Some(timeline) = &facts.timeline else {
        html!(out, "<p>No step has been executed yet.</p>\n</section>\n");
        return;
    };
    html!(
        out,
        "<p class=\"lead\">",
        count(timeline.attempts),
        if timeline.attempts == 1 { " attempt" } else { " attempts" }
    );
    html!(
        out,
        " of run ",
        timeline.run.0,
        " by worker; the time is since the first of them began."
    );
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
    if timeline.others {
        html!(
            out,
            "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\"><rect width=\"12\" height=\"12\" rx=\"2\" "
        );
        html!(out, "class=\"c6\"/></svg>other tasks</li>\n");
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
        "aria-label=\"Workers as rows, time from left to right; the table below has the sums\">\n"
    );
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
    match &timeline.bars {
        Some(bars) => bars.iter().for_each(|bar| step(out, facts, timeline, bar)),
        None => slices(out, timeline, height),
    }
    html!(out, "</svg>\n</div>\n</div>\n");
}

fn top(lane: usize) -> f64 {
    lane as f64 * (LANE + GAP) + GAP / 2.0
}

fn step(out: &mut String, facts: &Facts, timeline: &Timeline, bar: &Bar) {
    let Bar { from, to, .. } = *bar;
    html!(
        out,
        "<svg x=\"",
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
    html!(
        out,
        name(&bar.input),
        ": step ",
        bar.step.0,
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
        "<svg width=\"100%\" height=\"",
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
    for head in ["Attempts", "Failed", "Busy", "Share"] {
        html!(out, "<th scope=\"col\" class=\"n\">", head, "</th>");
    }
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
