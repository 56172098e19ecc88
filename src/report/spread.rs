//! How long the steps of each task took, and how much memory: a row of numbers with a histogram, all on one
//! scale, so that tasks can be compared.

use std::collections::{BTreeMap, HashMap};

use crate::db::{ReportAttempt, ReportTask};
use crate::ids::TaskId;

use super::facts::Facts;
use super::html::{At, count, html, text};
use super::scale::{LogScale, anchor, memory_words, time_words};
use super::{number_heads, open, scroll};

/// At most this many tasks are listed.
const SHOWN: usize = 100;

/// Distance from one bar of a histogram to the next, in pixels.
const STEP: f64 = 4.0;
const HEIGHT: f64 = 30.0;

/// Duration and memory of the steps of every task.
#[derive(Default)]
pub(super) struct Spreads(HashMap<TaskId, [Spread; 2]>);

impl Spreads {
    /// Counts an attempt, if it is the one that a step's result comes from.
    pub(super) fn see(&mut self, attempt: &ReportAttempt<'_>) {
        if attempt.stands {
            let [wall, peak] = self.0.entry(attempt.task).or_default();
            wall.add(attempt.wall_us);
            peak.add(attempt.peak_kib);
        }
    }
}

/// Buckets per doubling. A value read back from its bucket is at most 2.2 % off.
const BUCKETS: f64 = 16.0;

/// Bars of a histogram.
const BARS: usize = 56;

/// How the values of one task are spread. However many values there are, their buckets are few.
#[derive(Default)]
struct Spread {
    /// How many values fall into each bucket.
    buckets: BTreeMap<u16, u64>,
    values: u64,
    low: u64,
    high: u64,
}

impl Spread {
    fn add(&mut self, value: u64) {
        let bucket = ((value.max(1) as f64).log2() * BUCKETS).floor() as u16;
        *self.buckets.entry(bucket).or_default() += 1;
        self.low = if self.values == 0 { value } else { self.low.min(value) };
        self.high = self.high.max(value);
        self.values += 1;
    }

    /// The value in the middle of a bucket.
    fn middle(bucket: u16) -> f64 {
        ((f64::from(bucket) + 0.5) / BUCKETS).exp2()
    }

    /// The value that this share of the values doesn't exceed; off by at most a bucket.
    fn quantile(&self, share: f64) -> u64 {
        let rank = (self.values as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, values) in &self.buckets {
            seen += values;
            if seen >= rank {
                return (Spread::middle(*bucket).round() as u64).clamp(self.low, self.high);
            }
        }
        self.high
    }

    /// The number of values in each bar of a histogram. A bucket that touches several bars is divided among them;
    /// otherwise the bars between two buckets would be gaps.
    fn bars(&self, axis: LogScale) -> [f64; BARS] {
        let mut bars = [0.0; BARS];
        let place = |bucket: f64| {
            let value = (bucket / BUCKETS).exp2().clamp(self.low as f64, self.high as f64);
            axis.place(value) * BARS as f64
        };
        for (bucket, values) in &self.buckets {
            let (from, to) = (place(f64::from(*bucket)), place(f64::from(*bucket) + 1.0));
            let (first, last) = ((from as usize).min(BARS - 1), (to as usize).min(BARS - 1));
            for (bar, sum) in bars.iter_mut().enumerate().take(last + 1).skip(first) {
                let within = to.min(bar as f64 + 1.0) - from.max(bar as f64);
                let share = if first == last { 1.0 } else { (within / (to - from)).max(0.0) };
                *sum += *values as f64 * share;
            }
        }
        bars
    }
}

/// One of the two measures, and how it is shown.
struct Measure {
    title: &'static str,
    caption: &'static str,
    /// Which of the two spreads of a task.
    index: usize,
    words: fn(u64) -> String,
    /// What the manifest says of it.
    declared: fn(&ReportTask) -> Option<u64>,
    /// Round values that may be marked on the axis.
    round: &'static [(f64, &'static str)],
}

const MEASURES: [Measure; 2] = [
    Measure {
        title: "Time",
        caption: "Wall time of the last attempt at each step that is done",
        index: 0,
        words: time_words,
        declared: |_| None,
        round: &[
            (1e2, "0.1 ms"),
            (1e3, "1 ms"),
            (2e3, "2 ms"),
            (5e3, "5 ms"),
            (1e4, "10 ms"),
            (2e4, "20 ms"),
            (5e4, "50 ms"),
            (1e5, "100 ms"),
            (2e5, "200 ms"),
            (5e5, "500 ms"),
            (1e6, "1 s"),
            (2e6, "2 s"),
            (5e6, "5 s"),
            (1e7, "10 s"),
            (3e7, "30 s"),
            (6e7, "1 min"),
            (3e8, "5 min"),
            (6e8, "10 min"),
            (1.8e9, "30 min"),
            (3.6e9, "1 h"),
            (1.8e10, "5 h"),
            (8.64e10, "24 h"),
        ],
    },
    Measure {
        title: "Memory",
        caption: "Highest memory of the last attempt at each step that is done",
        index: 1,
        words: memory_words,
        declared: |task| task.declared.memory.map(|bytes| bytes / 1024),
        round: &[
            (64.0, "64 KiB"),
            (256.0, "256 KiB"),
            (1024.0, "1 MiB"),
            (2048.0, "2 MiB"),
            (4096.0, "4 MiB"),
            (8192.0, "8 MiB"),
            (16_384.0, "16 MiB"),
            (65_536.0, "64 MiB"),
            (262_144.0, "256 MiB"),
            (1_048_576.0, "1 GiB"),
            (4_194_304.0, "4 GiB"),
            (16_777_216.0, "16 GiB"),
            (67_108_864.0, "64 GiB"),
        ],
    },
];

/// A table for each measure.
pub(super) fn section(out: &mut String, facts: &Facts, spreads: &Spreads) {
    open(out, "spread");
    let measured = facts.tasks.iter().filter_map(|task| Some((task, spreads.0.get(&task.id)?)));
    let mut measured: Vec<(&ReportTask, &[Spread; 2])> = measured.collect();
    let left_out = measured.len().saturating_sub(SHOWN);
    measured.truncate(SHOWN);
    if measured.is_empty() {
        html!(out, "<p>No step is done yet.</p>\n</section>\n");
        return;
    }
    html!(
        out,
        "<p class=\"lead\">The scale is logarithmic and the same for all tasks; the line within a histogram \
        is its median.</p>\n"
    );
    for measure in &MEASURES {
        let rows: Vec<(&ReportTask, &Spread)> =
            measured.iter().map(|(task, spreads)| (*task, &spreads[measure.index])).collect();
        table(out, measure, &rows);
    }
    if left_out > 0 {
        html!(out, "<p>", count(left_out as u64), " more tasks are left out.</p>\n");
    }
    html!(out, "</section>\n");
}

fn table(out: &mut String, measure: &Measure, rows: &[(&ReportTask, &Spread)]) {
    let low = rows.iter().map(|(_, spread)| spread.low).min().unwrap_or(0);
    let high = rows.iter().map(|(_, spread)| spread.high).max().unwrap_or(0);
    let axis = LogScale::new(low, high);
    html!(out, "<h3>", measure.title, "</h3>\n");
    scroll(out, measure.caption);
    html!(
        out,
        "<table>\n<caption>",
        measure.caption,
        "</caption>\n<thead><tr><th scope=\"col\">Task</th>"
    );
    let heads = ["Steps", "Least", "Median", "95 %", "Most", "Declared"];
    let has_declared = rows.iter().any(|(task, _)| (measure.declared)(task).is_some());
    number_heads(out, &heads[..heads.len() - usize::from(!has_declared)]);
    let width = BARS as f64 * STEP;
    html!(
        out,
        "<td class=\"plot\"><svg width=\"",
        At(width),
        "\" height=\"16\" aria-hidden=\"true\">"
    );
    for (place, words) in axis.marks(measure.round) {
        let anchor = anchor(place, 0.1..=0.9);
        html!(
            out,
            "<text x=\"",
            At(place * width),
            "\" y=\"12\" text-anchor=\"",
            anchor,
            "\">",
            words,
            "</text>"
        );
    }
    html!(out, "</svg></td></tr></thead>\n<tbody>\n");
    for (task, spread) in rows {
        html!(
            out,
            "<tr><th scope=\"row\">",
            text(&task.name),
            "</th><td class=\"n\">",
            count(spread.values),
            "</td>"
        );
        for value in [spread.low, spread.quantile(0.5), spread.quantile(0.95), spread.high] {
            html!(out, "<td class=\"n\">", text((measure.words)(value)), "</td>");
        }
        if has_declared {
            let declared = (measure.declared)(task).map(measure.words).unwrap_or_default();
            html!(out, "<td class=\"n\">", text(declared), "</td>");
        }
        html!(out, "<td class=\"plot\">");
        histogram(out, spread, axis);
        html!(out, "</td></tr>\n");
    }
    html!(out, "</tbody>\n</table>\n</div>\n");
}

/// Bars on the common scale. The highest bar of each task has the full height.
fn histogram(out: &mut String, spread: &Spread, axis: LogScale) {
    let bars = spread.bars(axis);
    let most = bars.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let width = BARS as f64 * STEP;
    html!(
        out,
        "<svg width=\"",
        At(width),
        "\" height=\"",
        At(HEIGHT),
        "\" aria-hidden=\"true\"><path class=\"bar\" d=\""
    );
    for (at, values) in bars.iter().enumerate().filter(|(_, values)| **values > 0.0) {
        // A single value among thousands stays visible.
        let height = (values / most * (HEIGHT - 4.0)).max(1.5);
        html!(
            out,
            "M",
            At(at as f64 * STEP),
            " ",
            At(HEIGHT - 1.0),
            "v",
            At(-height),
            "h",
            At(STEP - 1.0)
        );
        html!(out, "v", At(height), "z");
    }
    let median = axis.place(spread.quantile(0.5) as f64) * width;
    let median = median.clamp(0.5, width - 0.5);
    html!(
        out,
        "\"/><path class=\"base\" d=\"M0 ",
        At(HEIGHT - 0.5),
        "h",
        At(width),
        "\"/><path class=\"median\" d=\"M"
    );
    html!(out, At(median), " 0v", At(HEIGHT), "\"/></svg>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_the_true_ones_and_never_beyond_the_ends() {
        let mut spread = Spread::default();
        for value in 1..=10_000 {
            spread.add(value);
        }
        assert_eq!((spread.low, spread.high, spread.values), (1, 10_000, 10_000));
        for (share, exact) in [(0.5, 5000.0), (0.95, 9500.0)] {
            let off = spread.quantile(share) as f64 / exact - 1.0;
            assert!(off.abs() < 0.03, "{share}: {off}");
        }
        assert!(spread.buckets.len() < 250, "{}", spread.buckets.len());
        let drawn = spread.bars(LogScale::new(1, 10_000));
        assert!((drawn.iter().sum::<f64>() - 10_000.0).abs() < 1e-6, "{drawn:?}");
        assert!(drawn[BARS / 2..].iter().all(|bar| *bar > 0.0), "{drawn:?}");
        let mut one = Spread::default();
        one.add(0);
        assert_eq!((one.quantile(0.0), one.quantile(0.5), one.quantile(1.0)), (0, 0, 0));
    }
}
