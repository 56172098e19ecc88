//! Axes, and quantities as text.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::text::{size, span};

use super::html::{Escaped, text};

/// A duration; a short one to a tenth of a millisecond.
pub(super) fn time(us: u64) -> Escaped {
    text(time_words(us))
}

/// The same, not escaped yet.
pub(super) fn time_words(us: u64) -> String {
    match us {
        0..10_000 => format!("{:.1} ms", us as f64 / 1e3),
        us => span(Duration::from_micros(us)),
    }
}

/// An amount of memory.
pub(super) fn memory_words(kib: u64) -> String {
    size(kib.saturating_mul(1024))
}

/// A part of a whole: `12.5%`.
pub(super) fn percent(part: f64, whole: f64) -> Escaped {
    let share = if whole > 0.0 { part / whole * 100.0 } else { 0.0 };
    text(format!("{}%", rounded(share, 2)))
}

/// The `text-anchor` for the label of a mark at this place between 0 and 1. Outside of `middle` a centred label would
/// reach over the edge.
pub(super) fn anchor(place: f64, middle: RangeInclusive<f64>) -> &'static str {
    if place < *middle.start() {
        "start"
    } else if place > *middle.end() {
        "end"
    } else {
        "middle"
    }
}

/// A number without trailing zeros after the point.
fn rounded(value: f64, places: usize) -> String {
    let long = format!("{value:.places$}");
    if !long.contains('.') {
        return long;
    }
    long.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Possible distances between the marks of a time axis, milliseconds.
const CLOCK: [f64; 25] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 10e3, 15e3, 30e3, 60e3,
    120e3, 300e3, 600e3, 900e3, 1800e3, 3600e3, 7200e3, 21_600e3, 43_200e3,
];

/// Marks of a time axis from zero, at most nine, as (milliseconds, label).
pub(super) fn clock(until_ms: f64) -> Vec<(f64, String)> {
    let day = 86_400e3;
    let wide = || (until_ms / 8.0 / day).ceil() * day;
    let step = CLOCK.into_iter().find(|step| until_ms / step <= 8.0).unwrap_or_else(wide);
    let words = |ms: f64| match ms {
        0.0 => "0".to_owned(),
        ms if step < 1e3 && until_ms < 1e3 => format!("{} ms", rounded(ms, 0)),
        ms if step < 60e3 && until_ms < 120e3 => format!("{} s", rounded(ms / 1e3, 3)),
        ms if step < 60e3 => format!("{}:{:02}", ms as u64 / 60_000, ms as u64 / 1000 % 60),
        ms if step < 3600e3 && until_ms < 7200e3 => format!("{} min", rounded(ms / 60e3, 1)),
        ms => format!("{} h", rounded(ms / 3600e3, 1)),
    };
    (0..)
        .map(|n| f64::from(n) * step)
        .take_while(|ms| *ms <= until_ms)
        .map(|ms| (ms, words(ms)))
        .collect()
}

/// A logarithmic axis.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogScale {
    low: f64,
    high: f64,
}

impl LogScale {
    /// From one value to another. It has a length even if they are equal.
    pub(super) fn new(low: u64, high: u64) -> LogScale {
        let low = (low.max(1) as f64).log10();
        let high = (high.max(1) as f64).log10().max(low);
        let lacking = (0.6 - (high - low)).max(0.0) / 2.0;
        LogScale { low: low - lacking, high: high + lacking }
    }

    /// The place of a value: 0 at the low end, 1 at the high end.
    pub(super) fn place(&self, value: f64) -> f64 {
        ((value.max(1.0).log10() - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Those of some round values that are on the axis and not too close together, as (place, label).
    pub(super) fn marks(&self, round: &[(f64, &'static str)]) -> Vec<(f64, &'static str)> {
        let mut marks: Vec<(f64, &'static str)> = Vec::new();
        for (value, words) in round {
            let log = value.log10();
            let place = (log - self.low) / (self.high - self.low);
            let has_room = marks.last().is_none_or(|(last, _)| place - last > 0.24);
            if (0.0..=1.0).contains(&place) && has_room {
                marks.push((place, words));
            }
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_has_few_and_round_marks() {
        let words = |until| clock(until).into_iter().map(|(_, words)| words).collect::<Vec<_>>();
        assert_eq!(words(420.0), ["0", "100 ms", "200 ms", "300 ms", "400 ms"]);
        assert_eq!(words(1500.0)[..3], ["0", "0.2 s", "0.4 s"]);
        assert_eq!(words(90e3), ["0", "15 s", "30 s", "45 s", "60 s", "75 s", "90 s"]);
        assert_eq!(words(200e3)[1..3], ["0:30", "1:00"]);
        assert_eq!(words(3600e3)[1..3], ["10 min", "20 min"]);
        assert_eq!(words(1e9)[..2], ["0", "48 h"]);
        assert_eq!(words(0.0), ["0"]);
    }

    #[test]
    fn a_logarithmic_axis_has_a_length_even_of_one_value() {
        let axis = LogScale::new(1000, 1000);
        assert!((axis.place(1000.0) - 0.5).abs() < 1e-9);
        assert_eq!(LogScale::new(0, 0).place(0.0), 0.5);
        let axis = LogScale::new(1, 10_000);
        assert_eq!((axis.place(1.0), axis.place(100.0), axis.place(1e9)), (0.0, 0.5, 1.0));
        assert_eq!(axis.marks(&[(10.0, "a"), (11.0, "b"), (1000.0, "c"), (1e6, "d")]).len(), 2);
    }
}
