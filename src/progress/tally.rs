//! How far a run is, in numbers: told by events, asked by whoever draws. Unaware of screens and of time,
//! which is given.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::ids::StepId;

use super::{Event, Registered, StepEnded};

mod eta;

/// The rate is that of the last moments.
const WINDOW: Duration = Duration::from_secs(10);

/// A task in this run.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskTally {
    pub(super) name: String,
    /// Places of the tasks whose outputs it consumes.
    pub(super) from: Vec<usize>,
    pub(super) is_gather: bool,
    /// A `gather` whose step isn't made yet.
    pub(super) is_unplanned: bool,
    /// At most this many at once.
    pub(super) limit: usize,
    /// Known to have to run, running ones included.
    pub(super) pending: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    /// Had their results already.
    pub(super) reused: u64,
    /// Attempts that ended in this run, and the time that workers spent on them.
    pub(super) attempts: u64,
    pub(super) spent: Duration,
    /// Attempts of earlier runs, and their mean time.
    pub(super) history: (u64, Duration),
}

/// A script that runs.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub(super) step: StepId,
    pub(super) task: usize,
    /// Logical name of its input.
    pub(super) input: Vec<u8>,
    pub(super) since: Instant,
}

/// A run in numbers, so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) tasks: Vec<TaskTally>,
    /// In the order of `Flow::order`: producers first.
    pub(super) order: Vec<usize>,
    pub(super) running: HashMap<StepId, Running>,
    pub(super) jobs: usize,
    pub(super) samples: VecDeque<(Instant, u64)>,
}

impl Tally {
    /// Takes what it has to know from an event.
    pub(super) fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Begun(asked) => self.jobs = asked.jobs,
            Event::Registered(known) => self.register(known),
            Event::Grown { task, pending, revived, .. } => {
                if let Some(task) = self.tasks.get_mut(task.0) {
                    task.pending += pending;
                    task.reused += revived;
                    task.is_unplanned = false;
                }
            }
            Event::Started(started) => {
                let running = Running {
                    step: started.name.step,
                    task: started.name.index.0,
                    input: started.name.input.to_vec(),
                    since: started.at,
                };
                self.running.insert(running.step, running);
            }
            Event::Dropped(name) => {
                self.running.remove(&name.step);
            }
            Event::Done(ended) => self.end(ended, true),
            Event::Failed(ended, _) => self.end(ended, false),
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
                limit: *limit,
                pending: plan.fresh + plan.again,
                reused: plan.reused,
                history: history.unwrap_or_default(),
                ..TaskTally::default()
            })
            .collect();
    }

    fn end(&mut self, ended: &StepEnded<'_>, is_done: bool) {
        self.running.remove(&ended.name.step);
        let Some(task) = self.tasks.get_mut(ended.name.index.0) else { return };
        task.attempts += 1;
        task.spent += ended.worked.1.saturating_duration_since(ended.worked.0);
        if !ended.again {
            task.pending = task.pending.saturating_sub(1);
            *(if is_done { &mut task.done } else { &mut task.failed }) += 1;
        }
    }

    /// Steps that came to an end in this run.
    pub(super) fn ended(&self) -> u64 {
        self.tasks.iter().map(|task| task.done + task.failed).sum()
    }

    pub(super) fn failed(&self) -> u64 {
        self.tasks.iter().map(|task| task.failed).sum()
    }

    /// Steps of this run that are known, ended ones included.
    pub(super) fn known(&self) -> u64 {
        self.ended() + self.tasks.iter().map(|task| task.pending).sum::<u64>()
    }

    /// Notes how far it is, for the rate.
    pub(super) fn sample(&mut self, now: Instant) {
        let ended = self.ended();
        self.samples.push_back((now, ended));
        // The oldest one that is kept is as old as the window, or all there is.
        while self
            .samples
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Steps a second, of late. `None` while there is nothing to say.
    pub(super) fn rate(&self) -> Option<f64> {
        let ((from, before), (to, after)) = (self.samples.front()?, self.samples.back()?);
        let seconds = to.saturating_duration_since(*from).as_secs_f64();
        (seconds > 0.0 && after > before).then(|| (after - before) as f64 / seconds)
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
}
