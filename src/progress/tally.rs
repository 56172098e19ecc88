//! How far a run is, in numbers: fed by events, read by whoever draws. Unaware of screens; the time is an
//! argument.
//!
//! # The time left
//!
//! Steps that don't exist yet count too: per step upstream, as many as there have been so far. Each is expected to
//! take the mean of its task's attempts in this run and, at first, in earlier runs. One that has run for longer than
//! that is expected to take as long again, and its task's mean grows with it. The sum is divided among the workers. The
//! result is at least what a task's own limit allows, and at least one step after the other along the longest path
//! through the graph.
//!
//! Nothing is said while a task has steps to run of which none has ever ended: a guess from other tasks would be none.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::attempt::{BatchPlace, Verdict};
use crate::ids::StepId;
use crate::labels::Labels;

use super::{Event, Registered, StepEnded};

/// The rate is measured over this long.
const WINDOW: Duration = Duration::from_secs(10);

/// Earlier runs weigh at most as much as this many attempts of this one.
const TRUST: u64 = 10;

/// A task in this run.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskTally {
    pub(super) name: String,
    /// Indices of the tasks whose outputs it consumes.
    pub(super) from: Vec<usize>,
    pub(super) is_gather: bool,
    /// A `gather` whose step doesn't exist yet.
    pub(super) is_unplanned: bool,
    /// This run doesn't do any of it.
    pub(super) is_left_out: bool,
    /// At most this many scripts at once.
    pub(super) limit: usize,
    /// Steps that have to run or are running.
    pub(super) pending: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    /// Steps that already had their results.
    pub(super) reused: u64,
    /// Attempts that ended in this run, and how long they occupied workers.
    pub(super) attempts: u64,
    pub(super) spent: Duration,
    /// Number of attempts in earlier runs, and their mean duration.
    pub(super) history: (u64, Duration),
}

impl TaskTally {
    /// Expected seconds per attempt; `None` if none has ended. `running`: how long those that run have run, in seconds.
    fn mean(&self, running: &[f64]) -> Option<f64> {
        let (attempts, mean) = self.history;
        let trusted = attempts.min(TRUST);
        let mut total = self.spent.as_secs_f64() + mean.as_secs_f64() * trusted as f64;
        let mut count = (trusted + self.attempts) as f64;
        if count == 0.0 {
            return None;
        }
        let usual = total / count;
        for late in running.iter().filter(|ran| **ran > usual) {
            total += 2.0 * late;
            count += 1.0;
        }
        Some(total / count)
    }

    /// Steps that have outputs.
    fn with_results(&self) -> u64 {
        self.done + self.reused
    }
}

/// A script that is running.
#[derive(Debug, Clone)]
pub(super) struct RunningStep {
    pub(super) step: StepId,
    pub(super) task: usize,
    /// Logical name of its input.
    pub(super) input: Vec<u8>,
    pub(super) labels: Labels,
    pub(super) since: Instant,
    /// Where it shares its script with others.
    pub(super) batch: Option<BatchPlace>,
}

impl RunningStep {
    /// How many steps its script works on.
    fn steps(&self) -> u32 {
        steps(self.batch)
    }
}

/// How many steps share a script.
fn steps(batch: Option<BatchPlace>) -> u32 {
    batch.map_or(1, |batch| u32::try_from(batch.size).unwrap_or(1)).max(1)
}

/// A run in numbers, so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) tasks: Vec<TaskTally>,
    /// In the order of `Flow::order`: producers first.
    pub(super) order: Vec<usize>,
    pub(super) running: HashMap<StepId, RunningStep>,
    /// Scripts at once.
    pub(super) jobs: usize,
    /// When the run was requested.
    pub(super) begun: Option<Instant>,
    /// How many steps had ended at which moment; the last [`WINDOW`] of it.
    pub(super) samples: VecDeque<(Instant, u64)>,
}

impl Tally {
    /// Updates the counts from an event.
    pub(super) fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Begun(asked) => {
                self.jobs = asked.jobs;
                self.begun = Some(Instant::now());
            }
            Event::Registered(known) => self.register(known),
            Event::Grown { task, pending, revived, .. } => {
                if let Some(task) = self.tasks.get_mut(task.0) {
                    task.pending += pending;
                    task.reused += revived;
                    task.is_unplanned = false;
                }
            }
            Event::Shared(shared) => {
                if let Some(task) = self.tasks.get_mut(shared.index.0) {
                    task.pending = task.pending.saturating_sub(1);
                    match shared.has_failed {
                        true => task.failed += 1,
                        false => task.reused += 1,
                    }
                }
            }
            Event::Started(started) => {
                let running = RunningStep {
                    step: started.name.step,
                    task: started.name.index.0,
                    input: started.name.input.to_vec(),
                    labels: started.name.labels.clone(),
                    since: started.at,
                    batch: started.name.batch,
                };
                self.running.insert(running.step, running);
            }
            Event::Dropped(name) => {
                self.running.remove(&name.step);
            }
            Event::Done(ended) | Event::Failed(ended, _) => self.end(ended),
            _ => {}
        }
    }

    fn register(&mut self, known: &Registered<'_>) {
        self.order = known.flow.order.iter().map(|index| index.0).collect();
        let history = known.history.iter().copied().map(Some).chain(std::iter::repeat(None));
        let tasks = known.flow.tasks.iter().zip(&known.plan.tasks).zip(known.limits).zip(history);
        self.tasks = tasks
            .map(|(((task, plan), limit), history)| TaskTally {
                name: task.name.clone(),
                from: task.from.iter().map(|index| index.0).collect(),
                is_gather: task.gather,
                is_unplanned: plan.waits_for_inputs,
                is_left_out: task.is_left_out(),
                limit: *limit,
                pending: plan.fresh + plan.again,
                reused: plan.reused,
                history: history.unwrap_or_default(),
                ..TaskTally::default()
            })
            .collect();
    }

    fn end(&mut self, ended: &StepEnded<'_>) {
        self.running.remove(&ended.name.step);
        let Some(task) = self.tasks.get_mut(ended.name.index.0) else { return };
        task.attempts += 1;
        let worked = ended.worked.1.saturating_duration_since(ended.worked.0);
        task.spent += worked / steps(ended.name.batch);
        match ended.completion.verdict {
            Verdict::Done => task.done += 1,
            Verdict::Failed => task.failed += 1,
            Verdict::TryAgain | Verdict::Alone => return,
        }
        task.pending = task.pending.saturating_sub(1);
    }

    /// Steps that are done or failed in this run.
    pub(super) fn ended(&self) -> u64 {
        self.tasks.iter().map(|task| task.done + task.failed).sum()
    }

    pub(super) fn failed(&self) -> u64 {
        self.tasks.iter().map(|task| task.failed).sum()
    }

    /// Steps of this run that exist, including those that have ended.
    pub(super) fn known(&self) -> u64 {
        self.ended() + self.tasks.iter().map(|task| task.pending).sum::<u64>()
    }

    /// Records the number of ended steps, for the rate.
    pub(super) fn sample(&mut self, now: Instant) {
        let ended = self.ended();
        self.samples.push_back((now, ended));
        // Keeps one sample that is at least as old as the window.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Steps a second, recently; `None` while nothing is known.
    pub(super) fn rate(&self) -> Option<f64> {
        let ((from, before), (to, after)) = (self.samples.front()?, self.samples.back()?);
        let seconds = to.saturating_duration_since(*from).as_secs_f64();
        (seconds > 0.0 && after > before).then(|| (after - before) as f64 / seconds)
    }

    /// By task: the steps that have to run, and those that are expected to come.
    fn expected(&self) -> Vec<f64> {
        let mut expected: Vec<f64> = self.tasks.iter().map(|task| task.pending as f64).collect();
        for &n in &self.order {
            let task = &self.tasks[n];
            let upstream: f64 = task.from.iter().map(|&from| expected[from]).sum();
            if task.is_unplanned {
                expected[n] += 1.0;
            } else if upstream > 0.0 && !task.is_gather && !task.is_left_out {
                let made: u64 = task.from.iter().map(|&from| self.tasks[from].with_results()).sum();
                let born = task.pending + task.with_results() + task.failed;
                let each = if made == 0 { 1.0 } else { born as f64 / made as f64 };
                expected[n] += upstream * each;
            }
        }
        expected
    }

    /// How many steps are expected that don't exist yet.
    pub(super) fn unborn(&self) -> f64 {
        let pending: u64 = self.tasks.iter().map(|task| task.pending).sum();
        (self.expected().iter().sum::<f64>() - pending as f64).max(0.0)
    }

    /// How far the run is: steps that have ended, of all that exist or are expected; true if some are only expected.
    pub(super) fn progress(&self) -> (u64, u64, bool) {
        let unborn = self.unborn().ceil() as u64;
        (self.ended(), self.known() + unborn, unborn > 0)
    }

    /// The estimated time left; `None` while nothing is known.
    pub(super) fn eta(&self, now: Instant) -> Option<Duration> {
        let mut running_for: Vec<Vec<f64>> = vec![Vec::new(); self.tasks.len()];
        for step in self.running.values() {
            let ran = now.saturating_duration_since(step.since) / step.steps();
            running_for[step.task].push(ran.as_secs_f64());
        }
        let tasks = self.tasks.iter().zip(&running_for);
        let means: Vec<Option<f64>> = tasks.map(|(task, running)| task.mean(running)).collect();
        let is_open = |task: &TaskTally| task.pending > 0;
        if self.tasks.iter().zip(&means).any(|(task, mean)| is_open(task) && mean.is_none()) {
            return None;
        }
        let known: Vec<f64> = means.iter().copied().flatten().collect();
        if known.is_empty() {
            return None;
        }
        // A task whose steps don't exist yet, and never did, is expected to be like the others.
        let other = known.iter().sum::<f64>() / known.len() as f64;
        let mean = |n: usize| means[n].unwrap_or(other);
        // What a step will still take that has run for so long.
        let rest = |n: usize, ran: f64| if ran > mean(n) { ran } else { mean(n) - ran };
        let expected = self.expected();
        let mut left: Vec<f64> =
            expected.iter().enumerate().map(|(n, count)| count * mean(n)).collect();
        // By task: how many steps are running, and how long the last of them will still take.
        let mut running = vec![(0.0, 0.0_f64); left.len()];
        for (n, ran) in
            running_for.iter().enumerate().flat_map(|(n, all)| all.iter().map(move |ran| (n, *ran)))
        {
            left[n] += rest(n, ran) - mean(n);
            running[n].0 += 1.0;
            running[n].1 = running[n].1.max(rest(n, ran));
        }
        let jobs = self.jobs.max(1);
        let youngest = running.iter().map(|(_, rest)| *rest).fold(0.0, f64::max);
        let mut longest = youngest.max(left.iter().sum::<f64>() / jobs as f64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let mut tally = Tally { tasks: vec![TaskTally::default()], ..Tally::default() };
        assert_eq!(tally.rate(), None);
        for second in 0..=30 {
            tally.tasks[0].done = if second < 15 { 100 * second } else { 1500 + 2 * (second - 15) };
            tally.sample(start + Duration::from_secs(second));
        }
        assert_eq!(tally.rate(), Some(2.0));
    }

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
    fn nothing_is_said_before_a_step_of_each_open_task_has_ended() {
        let a =
            TaskTally { pending: 9, done: 1, attempts: 1, spent: SECOND, ..TaskTally::default() };
        let b = TaskTally { pending: 1, ..TaskTally::default() };
        assert_eq!(seconds(&chain(vec![a.clone(), b.clone()], 1)), None);
        let b = TaskTally { attempts: 1, spent: SECOND, done: 1, ..b };
        assert!(seconds(&chain(vec![a, b], 1)).is_some());
    }

    #[test]
    fn a_step_that_runs_for_longer_than_usual_takes_as_long_again() {
        let now = Instant::now();
        let a = TaskTally { pending: 1, done: 10, history: (10, SECOND), ..TaskTally::default() };
        let mut tally = chain(vec![a], 2);
        let since = now.checked_sub(300 * SECOND).unwrap();
        let (input, labels) = (Vec::new(), Labels::default());
        let step = RunningStep { step: StepId(1), task: 0, input, labels, since, batch: None };
        tally.running.insert(step.step, step);
        assert_eq!(tally.eta(now), Some(300 * SECOND));
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
    fn of_the_time_of_a_batch_each_step_has_its_share() {
        let now = Instant::now();
        let a = TaskTally { pending: 20, history: (10, SECOND), ..TaskTally::default() };
        let mut tally = chain(vec![a], 1);
        for item in 1..=10 {
            let batch = Some(BatchPlace { number: 1, item, size: 10 });
            let since = now.checked_sub(4 * SECOND).unwrap();
            let (step, input, labels) = (StepId(item), Vec::new(), Labels::default());
            let step = RunningStep { step, task: 0, input, labels, since, batch };
            tally.running.insert(step.step, step);
        }
        // Ten that wait, and what is left of the ten seconds of the others.
        assert_eq!(tally.eta(now), Some(16 * SECOND));
    }

    #[test]
    fn what_runs_is_partly_done() {
        let now = Instant::now();
        let a = TaskTally { pending: 2, history: (10, 100 * SECOND), ..TaskTally::default() };
        let mut tally = chain(vec![a], 2);
        for (id, ran) in [(1, 40), (2, 70)] {
            let since = now.checked_sub(ran * SECOND).unwrap();
            let (input, labels) = (Vec::new(), Labels::default());
            let step = RunningStep { step: StepId(id), task: 0, input, labels, since, batch: None };
            tally.running.insert(step.step, step);
        }
        assert_eq!(tally.eta(now), Some(60 * SECOND));
    }
}
