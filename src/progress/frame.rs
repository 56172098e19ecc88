//! A frame of the progress bar: a pure function of the run so far and the size of the terminal.
//!
//! ```text
//! [=====>                  ]  1234/~5000  24%  412/s  0:03 elapsed  10 s left  2 failed
//! fetch 500/500  split 412/500  count 322/4000
//!    0:07  step 123 count (src/lib.rs)
//! ```

use std::time::{Duration, Instant};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::labels::step_text;
use crate::order;
use crate::text::span;

use super::lines::{Paint, fellows};
use super::tally::{RunningStep, Tally};

/// Width of the meter in columns, brackets included.
const BAR: usize = 26;

/// Shorter steps would come and go too fast to be read.
const WORTH_A_LINE: Duration = Duration::from_millis(300);

/// At most this many running steps are shown, however large the terminal is.
const MOST_LINES: usize = 10;

/// Size of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// A line and its width, not counting color codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FrameLine {
    pub(super) text: String,
    pub(super) columns: usize,
}

/// The lines from top to bottom. None reaches the last column, because terminals differ in when they wrap; one row
/// is left for the lines that scroll.
pub(super) fn draw(tally: &Tally, now: Instant, size: Size, paint: Paint) -> Vec<FrameLine> {
    let columns = size.columns.saturating_sub(1);
    let mut lines = vec![bar(tally, now, columns, paint)];
    let room = size.rows.saturating_sub(2).min(MOST_LINES + 1);
    if room > 0 && tally.tasks.len() > 1 {
        lines.push(plain(&tasks(tally, columns), columns, |text| text.to_owned()));
    }
    let mut running: Vec<&RunningStep> = tally.running.values().collect();
    running.retain(|step| now.saturating_duration_since(step.since) >= WORTH_A_LINE);
    // One line for all that share a script.
    running.retain(|step| step.batch.is_none_or(|batch| batch.item == 1));
    order::sort_by_key(&mut running, |step| (step.since, step.step));
    for running in running.into_iter().take((room + 1).saturating_sub(lines.len())) {
        let ran = clock(now.saturating_duration_since(running.since));
        let task = tally.tasks.get(running.task).map_or("", |task| &task.name);
        let mut text = format!(
            "{ran:>7}  {}",
            step_text(running.step.0, task, &running.input, &running.labels)
        );
        if let Some(batch) = running.batch {
            text.push_str(&format!(" with {}", fellows(batch)));
        }
        lines.push(plain(&text, columns, |text| paint.faint(text)));
    }
    lines
}

/// A part of the first line. Where space is short, the parts of the highest rank are left out first.
struct Part {
    rank: usize,
    text: String,
    columns: usize,
}

fn bar(tally: &Tally, now: Instant, columns: usize, paint: Paint) -> FrameLine {
    let (ended, all, is_guess) = tally.progress();
    let share = ended as f64 / (all as f64).max(1.0);
    // Rounding must not show 100 % before the last step has ended.
    let percent = if ended == all { 100 } else { (share * 100.0).min(99.0) as u64 };
    let mut parts = Vec::new();
    let mut part = |rank, text: String, painted: &dyn Fn(&str) -> String| {
        parts.push(Part { rank, columns: text.width(), text: painted(&text) });
    };
    let as_is = |text: &str| text.to_owned();
    part(4, meter(share), &|text| paint.good(text));
    part(0, format!("{ended}/{}{all}", if is_guess { "~" } else { "" }), &as_is);
    part(5, format!("{percent}%"), &as_is);
    if let Some(rate) = tally.rate() {
        part(6, per_time(rate), &as_is);
    }
    if let Some(begun) = tally.begun {
        part(3, format!("{} elapsed", clock(now.saturating_duration_since(begun))), &as_is);
    }
    if let Some(eta) = tally.eta(now).filter(|_| ended < all) {
        part(2, format!("{} left", about(eta)), &as_is);
    }
    if tally.failed() > 0 {
        part(1, format!("{} failed", tally.failed()), &|text| paint.bad(text));
    }
    fit(parts, columns)
}

/// Leaves out the least important parts until the rest fits.
fn fit(mut parts: Vec<Part>, columns: usize) -> FrameLine {
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
    FrameLine { text: texts.join("  "), columns }
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

/// An estimated time, in whole seconds.
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

/// The tasks with their counts. Where they don't all fit, the line starts at the first task that still has work,
/// and ends with how many are left out.
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

/// As much of a text as fits.
fn plain(text: &str, columns: usize, painted: impl Fn(&str) -> String) -> FrameLine {
    let mut width = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        let next = width + c.width().unwrap_or(0);
        if next > columns {
            break;
        }
        (width, end) = (next, at + c.len_utf8());
    }
    FrameLine { text: painted(&text[..end]), columns: width }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::BatchPlace;
    use crate::ids::StepId;
    use crate::progress::tally::TaskTally;

    fn tally() -> (Tally, Instant) {
        let now = Instant::now();
        let task = |name: &str, from: &[usize], pending, done| TaskTally {
            name: name.to_owned(),
            from: from.to_vec(),
            limit: usize::MAX,
            pending,
            done,
            history: (10, Duration::from_secs(1)),
            ..TaskTally::default()
        };
        let begun = now.checked_sub(Duration::from_secs(75));
        let mut tally = Tally { jobs: 2, order: vec![0, 1, 2], begun, ..Tally::default() };
        tally.tasks =
            vec![task("fetch", &[], 0, 10), task("count", &[0], 20, 10), task("total", &[1], 0, 0)];
        tally.tasks[2].is_gather = true;
        tally.tasks[2].is_unplanned = true;
        for (step, ran_ms, input) in
            [(7, 61_000, "a.txt"), (9, 1500, "b\x1b[2J\n.txt"), (11, 20, "c")]
        {
            let since = now.checked_sub(Duration::from_millis(ran_ms)).unwrap();
            let (step, input) = (StepId(step), input.as_bytes().to_vec());
            let labels = [("lr", "1")].into_iter().filter(|_| step.0 == 7).collect();
            let step = RunningStep { step, task: 1, input, labels, since, batch: None };
            tally.running.insert(step.step, step);
        }
        (tally, now)
    }

    fn drawn(columns: usize, rows: usize, paint: Paint) -> Vec<String> {
        let (tally, now) = tally();
        let lines = draw(&tally, now, Size { columns, rows }, paint);
        lines.into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_frame_has_the_bar_the_tasks_and_what_runs_for_long() {
        assert_eq!(
            drawn(80, 24, Paint::Plain),
            [
                "[===========>            ]  20/~41  48%  1:15 elapsed  2 min 18 s left",
                "fetch 10/10  count 10/30  total 0/?",
                "   1:01  step 7 count (a.txt) [lr=1]",
                "   0:01  step 9 count (b\\x1b[2J\\n.txt)",
            ]
        );
    }

    #[test]
    fn steps_that_share_a_script_share_a_line() {
        let (mut tally, now) = tally();
        for (step, item) in [(7, 1), (9, 2)] {
            let batch = Some(BatchPlace { number: 1, item, size: 2 });
            tally.running.get_mut(&StepId(step)).unwrap().batch = batch;
        }
        let lines = draw(&tally, now, Size { columns: 80, rows: 24 }, Paint::Plain);
        let lines: Vec<String> = lines.into_iter().skip(2).map(|line| line.text).collect();
        assert_eq!(lines, ["   1:01  step 7 count (a.txt) [lr=1] with 1 other"]);
    }

    #[test]
    fn what_matters_most_is_what_stays_when_it_gets_narrow() {
        let (mut tally, now) = tally();
        tally.tasks[0].failed = 1;
        tally.tasks[0].done = 9;
        let first =
            |columns| draw(&tally, now, Size { columns, rows: 1 }, Paint::Plain)[0].text.clone();
        let whole = "[===========>            ]  20/~41  1:15 elapsed  2 min 18 s left  1 failed";
        assert_eq!(first(80), whole);
        assert_eq!(first(50), "20/~41  1:15 elapsed  2 min 18 s left  1 failed");
        assert_eq!(first(40), "20/~41  2 min 18 s left  1 failed");
        assert_eq!(first(20), "20/~41  1 failed");
        assert_eq!(first(10), "20/~41");
        assert_eq!(first(5), "");
        assert_eq!(first(0), "");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_nor_the_frame_higher() {
        for columns in 0..90 {
            for rows in 0..8 {
                let (mut tally, now) = tally();
                tally.tasks[1].name = "a-task-of-a-rather-long-name".to_owned();
                tally.running.values_mut().for_each(|step| step.input = "読み物".repeat(9).into());
                for paint in [Paint::Plain, Paint::Colored] {
                    let lines = draw(&tally, now, Size { columns, rows }, paint);
                    assert!(lines.len() < rows.max(2), "{columns}x{rows}: {lines:?}");
                    for line in lines {
                        assert!(line.columns <= columns.saturating_sub(1), "{columns}: {line:?}");
                        if paint == Paint::Plain {
                            assert_eq!(line.text.width(), line.columns, "{line:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn colors_are_all_that_colors_add() {
        let plain = drawn(80, 24, Paint::Plain);
        let colored = drawn(80, 24, Paint::Colored);
        assert!(colored[0].starts_with("\x1b[32m["), "{colored:?}");
        let bare = |line: &String| {
            ["\x1b[32m", "\x1b[2m", "\x1b[0m"]
                .iter()
                .fold(line.clone(), |line, code| line.replace(code, ""))
        };
        assert_eq!(colored.iter().map(bare).collect::<Vec<_>>(), plain);
    }

    #[test]
    fn where_tasks_do_not_fit_those_with_work_are_shown() {
        let (mut tally, _) = tally();
        let task = |n: usize| TaskTally { name: format!("task{n}"), ..tally.tasks[0].clone() };
        let mut many: Vec<TaskTally> = (0..20).map(task).collect();
        many[4].pending = 3;
        tally.tasks = many;
        assert_eq!(tasks(&tally, 50), "task4 10/13  task5 10/10  task6 10/10  +13");
        assert_eq!(tasks(&tally, 5), "task4 10/13  +15");
    }
}
