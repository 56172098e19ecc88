//! How long a run will still take.
//!
//! What is left is counted with the steps that are not born yet: as many for each step upstream as there
//! were so far. Each takes as long as its task's took in this run and, at first, in earlier ones. That is
//! divided among the workers; it can't be shorter than what a task's own limit leaves, nor than one step
//! after the other down the graph.

use std::time::{Duration, Instant};

use super::{Tally, TaskTally};

/// Earlier runs count as much as this many attempts of the present one.
const TRUST: u64 = 10;

impl Tally {
    /// Steps by task that are to run and that are expected to be born.
    fn expected(&self) -> Vec<f64> {
        let mut expected: Vec<f64> = self.tasks.iter().map(|task| task.pending as f64).collect();
        for &n in &self.order {
            let task = &self.tasks[n];
            let upstream: f64 = task.from.iter().map(|&from| expected[from]).sum();
            if task.is_unplanned {
                expected[n] += 1.0;
            } else if upstream > 0.0 && !task.is_gather {
                let made: u64 = task.from.iter().map(|&from| self.tasks[from].with_results()).sum();
                let born = task.pending + task.with_results() + task.failed;
                let each = if made == 0 { 1.0 } else { born as f64 / made as f64 };
                expected[n] += upstream * each;
            }
        }
        expected
    }

    /// Steps that are not born yet.
    pub(in crate::progress) fn unborn(&self) -> f64 {
        let pending: u64 = self.tasks.iter().map(|task| task.pending).sum();
        (self.expected().iter().sum::<f64>() - pending as f64).max(0.0)
    }

    /// The time that is left, if anything is known of it.
    pub(in crate::progress) fn eta(&self, now: Instant) -> Option<Duration> {
        let known: Vec<f64> = self.tasks.iter().filter_map(TaskTally::mean).collect();
        if known.is_empty() {
            return None;
        }
        // A task of which nothing is known is taken for one like the others.
        let other = known.iter().sum::<f64>() / known.len() as f64;
        let mean = |n: usize| self.tasks[n].mean().unwrap_or(other);
        let expected = self.expected();
        let mut left: Vec<f64> =
            expected.iter().enumerate().map(|(n, count)| count * mean(n)).collect();
        // Of the steps that run: how many, and the time that the youngest of them still takes.
        let mut running = vec![(0.0, 0.0_f64); left.len()];
        for step in self.running.values() {
            let (n, ran) = (step.task, now.saturating_duration_since(step.since).as_secs_f64());
            left[n] -= ran.min(mean(n));
            running[n].0 += 1.0;
            running[n].1 = running[n].1.max(mean(n) - ran);
        }
        let jobs = self.jobs.max(1);
        let mut longest = left.iter().sum::<f64>() / jobs as f64;
        let mut path = vec![0.0_f64; left.len()];
        for &n in &self.order {
            let before = self.tasks[n].from.iter().map(|&from| path[from]).fold(0.0, f64::max);
            let (count, youngest) = running[n];
            let own = match expected[n] {
                0.0 => 0.0,
                all if all > count => mean(n),
                _ => youngest,
            };
            path[n] = before + own;
            let at_once = self.tasks[n].limit.clamp(1, jobs) as f64;
            longest = longest.max(path[n]).max(left[n] / at_once);
        }
        Duration::try_from_secs_f64(longest).ok()
    }
}

impl TaskTally {
    /// Seconds that a step takes.
    fn mean(&self) -> Option<f64> {
        let (attempts, mean) = self.history;
        let trusted = attempts.min(TRUST);
        let total = self.spent.as_secs_f64() + mean.as_secs_f64() * trusted as f64;
        let count = trusted + self.attempts;
        (count > 0).then(|| total / count as f64)
    }

    /// Steps whose outputs are there.
    fn with_results(&self) -> u64 {
        self.done + self.reused
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::StepId;
    use crate::progress::tally::Running;

    const SECOND: Duration = Duration::from_secs(1);

    /// A chain of tasks.
    fn chain(tasks: Vec<TaskTally>, jobs: usize) -> Tally {
        let tasks = tasks.into_iter().enumerate().map(|(n, task)| TaskTally {
            from: n.checked_sub(1).into_iter().collect(),
            limit: if task.limit == 0 { usize::MAX } else { task.limit },
            ..task
        });
        let tasks: Vec<TaskTally> = tasks.collect();
        Tally { order: (0..tasks.len()).collect(), tasks, jobs, ..Tally::default() }
    }

    fn seconds(tally: &Tally) -> Option<f64> {
        tally.eta(Instant::now()).map(|eta| (eta.as_secs_f64() * 10.0).round() / 10.0)
    }

    #[test]
    fn nothing_is_said_before_anything_is_known() {
        let a = TaskTally { pending: 100, ..TaskTally::default() };
        assert_eq!(seconds(&chain(vec![a], 2)), None);
    }

    #[test]
    fn earlier_runs_tell_at_first_and_this_one_later() {
        let mut a = TaskTally { pending: 100, history: (1000, 2 * SECOND), ..TaskTally::default() };
        assert_eq!(seconds(&chain(vec![a.clone()], 4)), Some(50.0));
        // 10 of 2 s that are remembered, and 10 of 1 s.
        (a.attempts, a.spent) = (10, 10 * SECOND);
        assert_eq!(seconds(&chain(vec![a], 4)), Some(37.5));
    }

    #[test]
    fn a_limit_and_the_way_down_the_graph_make_it_longer() {
        let of = |pending, limit| TaskTally {
            pending,
            limit,
            history: (10, SECOND),
            ..TaskTally::default()
        };
        assert_eq!(seconds(&chain(vec![of(100, 0)], 10)), Some(10.0));
        assert_eq!(seconds(&chain(vec![of(100, 2)], 10)), Some(50.0));
        // One step, then the one that it bears, then the next.
        assert_eq!(seconds(&chain(vec![of(1, 0), of(0, 0), of(0, 0)], 10)), Some(3.0));
    }

    #[test]
    fn steps_that_are_not_born_yet_count_as_they_were_born_so_far() {
        let a = TaskTally { pending: 10, done: 10, history: (10, SECOND), ..TaskTally::default() };
        // Three for each of the first.
        let b = TaskTally { pending: 20, done: 10, history: (10, SECOND), ..TaskTally::default() };
        let gather = TaskTally { is_gather: true, is_unplanned: true, ..TaskTally::default() };
        let tally = chain(vec![a, b, gather], 1);
        assert_eq!(tally.unborn(), 31.0);
        assert_eq!(seconds(&tally), Some(10.0 + 20.0 + 30.0 + 1.0));
    }

    #[test]
    fn what_runs_is_partly_done() {
        let now = Instant::now();
        let a = TaskTally { pending: 2, history: (10, 100 * SECOND), ..TaskTally::default() };
        let mut tally = chain(vec![a], 2);
        for (id, ran) in [(1, 40), (2, 70)] {
            let since = now.checked_sub(ran * SECOND).unwrap();
            let step = Running { step: StepId(id), task: 0, input: Vec::new(), since };
            tally.running.insert(step.step, step);
        }
        assert_eq!(tally.eta(now), Some(60 * SECOND));
    }
}
