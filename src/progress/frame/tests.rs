//! Frames, as they look.

use super::*;
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
    let mut tally = Tally { jobs: 2, order: vec![0, 1, 2], ..Tally::default() };
    tally.tasks =
        vec![task("fetch", &[], 0, 10), task("count", &[0], 20, 10), task("total", &[1], 0, 0)];
    tally.tasks[2].is_gather = true;
    tally.tasks[2].is_unplanned = true;
    for (step, ran_ms, input) in [(7, 61_000, "a.txt"), (9, 1500, "b\x1b[2J\n.txt"), (11, 20, "c")]
    {
        let since = now.checked_sub(Duration::from_millis(ran_ms)).unwrap();
        let input = input.as_bytes().to_vec();
        tally.running.insert(StepId(step), Running { step: StepId(step), task: 1, input, since });
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
            "[===========>            ]  20/40  48%  10 s left",
            "fetch 10/10  count 10/30  total 0/?",
            "   1:01  step 7 count (a.txt)",
            "   0:01  step 9 count (b\\x1b[2J\\n.txt)",
        ]
    );
}

#[test]
fn what_matters_most_is_what_stays_when_it_gets_narrow() {
    let (mut tally, now) = tally();
    tally.tasks[0].failed = 1;
    tally.tasks[0].done = 9;
    let first =
        |columns| draw(&tally, now, Size { columns, rows: 1 }, Paint::Plain)[0].text.clone();
    assert_eq!(first(60), "[===========>            ]  20/40  48%  10 s left  1 failed");
    assert_eq!(first(40), "20/40  10 s left  1 failed");
    assert_eq!(first(20), "20/40  1 failed");
    assert_eq!(first(10), "20/40");
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
fn where_there_are_too_many_tasks_those_at_work_are_shown() {
    let (mut tally, _) = tally();
    let task = |n: usize| TaskTally { name: format!("task{n}"), ..tally.tasks[0].clone() };
    let mut many: Vec<TaskTally> = (0..20).map(task).collect();
    many[4].pending = 3;
    tally.tasks = many;
    assert_eq!(tasks(&tally, 50), "task4 10/13  task5 10/10  task6 10/10  +13");
    assert_eq!(tasks(&tally, 5), "task4 10/13  +15");
}
