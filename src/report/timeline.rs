//! What each worker did when, in the last run that executed anything: step by step if they can be told apart,
//! else how much of each moment went into which task.

mod draw;

use crate::db::{Attempt, TaskSpan};
use crate::ids::{RunId, StepId, TaskId};

use super::html::{Escaped, text};
use super::lanes::{COLORS, Lane};

pub(in crate::report) use draw::section;

/// More bars than this are no longer told apart.
const MOST_BARS: u64 = 500;
const MOST_LANES: u64 = 24;
const SLICES: usize = 200;

const LANE: f64 = 22.0;
const GAP: f64 = 6.0;

pub(super) struct Timeline {
    run: RunId,
    begun_ms: i64,
    /// At least a millisecond.
    long_ms: f64,
    attempts: u64,
    workers: u64,
    /// Tasks with a colour of their own, those that took most time.
    colored: Vec<TaskId>,
    others: bool,
    lanes: Vec<Lane>,
    /// `None` if there are too many.
    bars: Option<Vec<Bar>>,
}

struct Bar {
    lane: usize,
    step: StepId,
    task: TaskId,
    input: Vec<u8>,
    from: f64,
    to: f64,
    wall_us: u64,
    failed: bool,
}

impl Timeline {
    pub(super) fn new(run: RunId, spans: &[TaskSpan]) -> Timeline {
        let begun_ms = spans.iter().map(|span| span.begun_ms).min().unwrap_or(0);
        let ended_ms = spans.iter().map(|span| span.ended_ms).max().unwrap_or(0);
        let workers = spans.iter().map(|span| span.workers).max().unwrap_or(0);
        let attempts = spans.iter().map(|span| span.attempts).sum();
        let mut by_time: Vec<&TaskSpan> = spans.iter().collect();
        by_time.sort_by_key(|span| std::cmp::Reverse(span.wall_us));
        let colored: Vec<TaskId> = by_time.iter().take(COLORS - 1).map(|span| span.task).collect();
        // One more for what an older build ran.
        let lanes = workers.clamp(1, MOST_LANES) as usize;
        Timeline {
            run,
            begun_ms,
            long_ms: (ended_ms.saturating_sub(begun_ms)).max(1) as f64,
            attempts,
            workers: workers.max(1),
            others: spans.len() > colored.len(),
            colored,
            lanes: vec![Lane::new(SLICES); lanes],
            bars: (attempts <= MOST_BARS).then(Vec::new),
        }
    }

    pub(super) fn see(&mut self, attempt: &Attempt<'_>) {
        if attempt.run != self.run {
            return;
        }
        let from = (attempt.started_ms - self.begun_ms) as f64 / self.long_ms;
        let to = from + attempt.wall_us as f64 / 1e3 / self.long_ms;
        let at = self.lane_of(attempt.worker);
        let color = self.color(attempt.task);
        let lane = &mut self.lanes[at];
        lane.add(from, to, self.long_ms * 1e3, color, !attempt.succeeded);
        lane.attempts += 1;
        lane.failed += u64::from(!attempt.succeeded);
        lane.busy_us += attempt.wall_us;
        let Attempt { step, task, input, wall_us, succeeded, .. } = *attempt;
        if let Some(bars) = &mut self.bars {
            bars.push(Bar {
                lane: at,
                step,
                task,
                input: input.to_vec(),
                from,
                to,
                wall_us,
                failed: !succeeded,
            });
        }
    }

    fn lane_of(&self, worker: u64) -> usize {
        let lanes = self.lanes.len() as u64;
        let nth = worker.saturating_sub(1).min(self.workers - 1);
        (nth * lanes / self.workers) as usize
    }

    fn color(&self, task: TaskId) -> usize {
        self.colored.iter().position(|colored| *colored == task).unwrap_or(COLORS - 1)
    }

    /// The workers of a lane, first and last.
    fn workers_of(&self, lane: usize) -> (u64, u64) {
        let of = |worker: &u64| self.lane_of(*worker) == lane;
        let first = (1..=self.workers).find(of).unwrap_or(1);
        (first, (first..=self.workers).take_while(of).last().unwrap_or(first))
    }

    fn label(&self, lane: usize) -> Escaped {
        match self.workers_of(lane) {
            (first, last) if first == last => text(format!("Worker {first}")),
            (first, last) => text(format!("Workers {first}–{last}")),
        }
    }
}
