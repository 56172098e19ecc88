//! What the bottom of a terminal shows of a run: a pure function of how far it is and of the room.
//!
//! ```text
//! [=====>                  ]  1234/5000  24%  412/s  10 s left  2 failed
//! fetch 500/500  split 412/500  count 322/4000
//!    0:07  step 123 count (src/lib.rs)
//! ```

use std::time::{Duration, Instant};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::text::{span, step};

use super::Paint;
use super::tally::{Running, Tally};

/// Columns of the bar, brackets included.
const BAR: usize = 26;

/// Steps that run for less come and go too fast to be read.
const WORTH_A_LINE: Duration = Duration::from_millis(300);

/// No more of them are shown, however large the terminal is.
const MOST_LINES: usize = 10;

/// Columns and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// A line and how many columns it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) columns: usize,
}

/// The lines, from above. None takes the last column, where terminals differ in what they do next; all
/// of them leave a row for what scrolls.
pub(super) fn draw(tally: &Tally, now: Instant, size: Size, paint: Paint) -> Vec<Line> {
    let columns = size.columns.saturating_sub(1);
    let mut lines = vec![bar(tally, now, columns, paint)];
    let room = size.rows.saturating_sub(2).min(MOST_LINES + 1);
    if room > 0 && tally.tasks.len() > 1 {
        lines.push(plain(&tasks(tally, columns), columns, |text| text.to_owned()));
    }
    let mut running: Vec<&Running> = tally.running.values().collect();
    running.retain(|step| now.saturating_duration_since(step.since) >= WORTH_A_LINE);
    running.sort_unstable_by_key(|step| (step.since, step.step));
    for running in running.into_iter().take((room + 1).saturating_sub(lines.len())) {
        let ran = clock(now.saturating_duration_since(running.since));
        let task = tally.tasks.get(running.task).map_or("", |task| &task.name);
        let text = format!("{ran:>7}  {}", step(running.step.0, task, &running.input));
        lines.push(plain(&text, columns, |text| paint.faint(text)));
    }
    lines
}

/// A part of the first line: the higher its rank, the sooner it is left out.
struct Part {
    rank: usize,
    text: String,
    columns: usize,
}

fn bar(tally: &Tally, now: Instant, columns: usize, paint: Paint) -> Line {
    let (ended, known) = (tally.ended(), tally.known());
    let share = ended as f64 / (known as f64 + tally.unborn()).max(1.0);
    // 100 % is said when it is true, not a moment sooner.
    let percent = if ended == known && tally.unborn() == 0.0 {
        100
    } else {
        (share * 100.0).min(99.0) as u64
    };
    let mut parts = Vec::new();
    let mut part = |rank, text: String, painted: &dyn Fn(&str) -> String| {
        parts.push(Part { rank, columns: text.width(), text: painted(&text) });
    };
    let as_is = |text: &str| text.to_owned();
    part(3, meter(share), &|text| paint.good(text));
    part(0, format!("{ended}/{known}"), &as_is);
    part(4, format!("{percent}%"), &as_is);
    if let Some(rate) = tally.rate() {
        part(5, per_time(rate), &as_is);
    }
    if let Some(eta) = tally.eta(now).filter(|_| ended < known) {
        part(2, format!("{} left", about(eta)), &as_is);
    }
    if tally.failed() > 0 {
        part(1, format!("{} failed", tally.failed()), &|text| paint.bad(text));
    }
    fit(parts, columns)
}

/// Leaves out what there is no room for, the least important first.
fn fit(mut parts: Vec<Part>, columns: usize) -> Line {
    let width = |parts: &[Part]| {
        parts.iter().map(|part| part.columns).sum::<usize>() + 2 * parts.len().saturating_sub(1)
    };
    while width(&parts) > columns
        && let Some(least) = (0..parts.len()).max_by_key(|&n| parts[n].rank)
    {
        parts.remove(least);
    }
    let columns = width(&parts);
    let texts: Vec<String> = parts.into_iter().map(|part| part.text).collect();
    Line { text: texts.join("  "), columns }
}

fn meter(share: f64) -> String {
    let inside = BAR - 2;
    let full = ((share * inside as f64) as usize).min(inside);
    let tip = if full < inside { ">" } else { "" };
    format!("[{:<inside$}]", "=".repeat(full) + tip)
}

/// `0:07`, `12:34`, `1:02:03`.
fn clock(time: Duration) -> String {
    let s = time.as_secs();
    match s / 3600 {
        0 => format!("{}:{:02}", s / 60, s % 60),
        hours => format!("{hours}:{:02}:{:02}", s / 60 % 60, s % 60),
    }
}

/// A guess of a time, which has no tenths of a second.
fn about(time: Duration) -> String {
    let s = time.as_secs_f64().ceil() as u64;
    if s < 60 { format!("{} s", s.max(1)) } else { span(Duration::from_secs(s)) }
}

fn per_time(rate: f64) -> String {
    match rate {
        rate if rate >= 9.95 => format!("{rate:.0}/s"),
        rate if rate >= 0.995 => format!("{rate:.1}/s"),
        rate => format!("{:.1}/min", rate * 60.0),
    }
}

/// The tasks with their counts. Where there are too many, those that are through go first, from the left;
/// then the last ones.
fn tasks(tally: &Tally, columns: usize) -> String {
    let all: Vec<String> = tally
        .tasks
        .iter()
        .map(|task| {
            let ended = task.done + task.failed;
            let known = ended + task.pending;
            let open = if task.is_unplanned { "?".to_owned() } else { known.to_string() };
            format!("{} {ended}/{open}", task.name)
        })
        .collect();
    let is_open = |n: &usize| tally.tasks[*n].pending > 0 || tally.tasks[*n].is_unplanned;
    let first_open = (0..all.len()).find(is_open).unwrap_or(0);
    let from = if all.join("  ").width() <= columns { 0 } else { first_open };
    let mut text = String::new();
    for (n, task) in all.iter().enumerate().skip(from) {
        let rest = all.len() - n;
        let more = if rest > 1 { format!("  +{}", rest - 1).width() } else { 0 };
        let gap = if text.is_empty() { 0 } else { 2 };
        if !text.is_empty() && text.width() + gap + task.width() + more > columns {
            return format!("{text}  +{rest}");
        }
        text.push_str(if gap > 0 { "  " } else { "" });
        text.push_str(task);
    }
    text
}

/// As much of a text as there is room for.
fn plain(text: &str, columns: usize, painted: impl Fn(&str) -> String) -> Line {
    let mut width = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let next = width + c.width().unwrap_or(0);
        if next > columns {
            break;
        }
        (width, end) = (next, at + c.len_utf8());
    }
    Line { text: painted(&text[..end]), columns: width }
}

#[cfg(test)]
mod tests;
