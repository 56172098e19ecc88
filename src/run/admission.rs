//! What the steps that run take of the machine, and which step may be started beside them. Unaware of the database and
//! of what the steps do.
//!
//! # What is admitted
//!
//! A step takes `cpus` of the run's `-j`, some memory, and of what it `uses` so many. It is started when all of this is
//! free at once, and gives it back when its script and all that this has started are over. Who asks for more
//! processors than `-j`, or for more memory than there is, runs alone: to refuse would make a pipeline fail on one day
//! and run on the next, since the memory that a machine has to spare changes. What it `uses` is checked before the run begins.
//!
//! Of several steps that share a script, one takes this for all.
//!
//! # Nobody starves
//!
//! The first step that has no room stays first in line, whatever turns up that is nearer to the end of the graph. A step
//! behind it is started only if of everything that the first one needs enough is left for it: then the first one waits
//! for nobody but those that ran when it came. So a step that needs nothing of what is scarce does pass (one
//! without a GPU, while the GPUs are taken), as long as a processor stays free for the first in line.
//!
//! # What it costs
//!
//! A step is *easy* if so many of its kind as may run at once can't fill the memory, and it takes one processor and
//! nothing else. As long as all that run are easy and so is the next, nothing has to be counted: the slots of the
//! workers keep to `-j`, and the channel to them may be filled. As soon as one isn't, the run is *tight*: what lies in the
//! channel comes back, from then on only what has room is sent, and workers tell when a script ends, which costs a
//! switch of threads a step.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::attempt::{PeakOf, Usage};
use crate::db::PEAKS;
use crate::ids::{StepId, TaskIndex};

/// What there is to be shared.
#[derive(Debug, Clone)]
pub(super) struct Capacity {
    /// `-j`
    pub(super) cpus: usize,
    /// Bytes.
    pub(super) memory: u64,
    /// By place, which is what [`TaskNeeds::uses`] refers to.
    pub(super) have: Vec<usize>,
}

/// What the manifest says that each step of a task takes.
#[derive(Debug, Clone)]
pub(super) struct TaskNeeds {
    pub(super) cpus: usize,
    /// Bytes; `None`: to be learned.
    pub(super) memory: Option<u64>,
    /// Place of a kind, and how many of it.
    pub(super) uses: Vec<(usize, usize)>,
}

/// A task, and what was learned of it.
struct TaskDemand {
    needs: TaskNeeds,
    /// Of the last attempts, in KiB, the newest first. Empty if the memory is declared.
    peaks: VecDeque<u64>,
    /// Bytes that a step is taken to need now.
    memory: u64,
    is_easy: bool,
    /// The peaks of earlier runs are known.
    has_history: bool,
    /// It was told that its steps wait for memory.
    is_told: bool,
}

/// Steps wait for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scarcity {
    /// Bytes that each is taken to need.
    pub(super) each: u64,
    /// Bytes that there are.
    pub(super) all: u64,
}

/// What some steps take together.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    cpus: usize,
    memory: u64,
    uses: Vec<usize>,
}

pub(super) struct Admission {
    capacity: Capacity,
    /// By place in the manifest.
    tasks: Vec<TaskDemand>,
    /// Steps that were handed out and whose scripts are not over.
    running: HashMap<StepId, TaskIndex>,
    /// How many of them each task has.
    by_task: BTreeMap<TaskIndex, usize>,
    /// Workers tell of each script that ends.
    is_tight: Arc<AtomicBool>,
}

impl Admission {
    pub(super) fn new(
        capacity: Capacity,
        needs: Vec<TaskNeeds>,
        is_tight: Arc<AtomicBool>,
    ) -> Admission {
        let tasks = needs.into_iter().map(|needs| TaskDemand {
            memory: needs.memory.unwrap_or(0),
            has_history: needs.memory.is_some(),
            needs,
            peaks: VecDeque::new(),
            is_easy: false,
            is_told: false,
        });
        let mut admission = Admission {
            capacity,
            tasks: tasks.collect(),
            running: HashMap::new(),
            by_task: BTreeMap::new(),
            is_tight,
        };
        (0..admission.tasks.len()).for_each(|n| admission.assess(TaskIndex(n)));
        admission
    }

    fn assess(&mut self, task: TaskIndex) {
        let Capacity { cpus, memory, .. } = self.capacity;
        let state = &mut self.tasks[task.0];
        if let (None, Some(highest)) = (state.needs.memory, state.peaks.iter().max()) {
            // A fifth more.
            state.memory =
                highest.saturating_mul(1024).saturating_add(highest.saturating_mul(1024) / 5);
        }
        state.is_easy = state.needs.cpus == 1
            && state.needs.uses.is_empty()
            && state.memory.saturating_mul(cpus as u64) <= memory;
    }

    /// True if the peaks of memory that earlier runs have seen of a task should be [told](Self::remember).
    pub(super) fn wants_history(&self, task: TaskIndex) -> bool {
        !self.tasks[task.0].has_history
    }

    /// What attempts of earlier runs took, in KiB, the newest first.
    pub(super) fn remember(&mut self, task: TaskIndex, peaks: Vec<u64>) {
        let state = &mut self.tasks[task.0];
        state.has_history = true;
        state.peaks.extend(peaks);
        state.peaks.truncate(PEAKS);
        self.assess(task);
    }

    /// Learns what an attempt took. True if the task is no longer easy, which it was.
    pub(super) fn learn(&mut self, task: TaskIndex, usage: &Usage) -> bool {
        let state = &mut self.tasks[task.0];
        // One that stayed below what the runner has needs no room that anybody would miss.
        if state.needs.memory.is_some() || usage.peak_of == PeakOf::Runner || usage.peak_memory == 0
        {
            return false;
        }
        state.peaks.push_front(usage.peak_memory);
        state.peaks.truncate(PEAKS);
        let was_easy = state.is_easy;
        self.assess(task);
        was_easy && !self.tasks[task.0].is_easy
    }

    /// Finds out anew whether the run is tight, for which something that waits suffices.
    pub(super) fn review(&self, is_waiting: bool) -> bool {
        let is_hard = |task: &TaskIndex| !self.tasks[task.0].is_easy;
        let is_tight = is_waiting || self.by_task.keys().any(is_hard);
        self.is_tight.store(is_tight, Ordering::Release);
        is_tight
    }

    pub(super) fn is_easy(&self, task: TaskIndex) -> bool {
        self.tasks[task.0].is_easy
    }

    /// Bytes that a step of a task is taken to need now.
    pub(super) fn memory(&self, task: TaskIndex) -> u64 {
        self.tasks[task.0].memory
    }

    /// What a step of a task takes.
    fn need(&self, task: TaskIndex) -> Taken {
        let Capacity { cpus, memory, have } = &self.capacity;
        let state = &self.tasks[task.0];
        let mut uses = vec![0; have.len()];
        for &(kind, count) in &state.needs.uses {
            uses[kind] += count;
        }
        // More than there is: alone.
        let is_alone = state.needs.cpus >= *cpus || state.memory > *memory;
        let cpus = if is_alone { *cpus } else { state.needs.cpus };
        Taken { cpus, memory: state.memory.min(*memory), uses }
    }

    /// What all that run take. They may be more than there is, once it is learned what they take.
    fn taken(&self) -> Taken {
        let mut sum = Taken { cpus: 0, memory: 0, uses: vec![0; self.capacity.have.len()] };
        for (&task, &count) in &self.by_task {
            let Taken { cpus, memory, uses } = self.need(task);
            sum.cpus += cpus * count;
            sum.memory = sum.memory.saturating_add(memory.saturating_mul(count as u64));
            sum.uses.iter_mut().zip(uses).for_each(|(sum, used)| *sum += used * count);
        }
        sum
    }

    /// How many steps of a task may run at once if nothing else does; 1 at least.
    pub(super) fn at_once(&self, task: TaskIndex) -> usize {
        let Taken { cpus, memory, uses } = self.need(task);
        let of_memory = self.capacity.memory.checked_div(memory);
        let of_memory = of_memory.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        let of_uses =
            self.capacity.have.iter().zip(uses).map(|(have, used)| have.checked_div(used));
        let counts = [self.capacity.cpus.checked_div(cpus), of_memory].into_iter().chain(of_uses);
        counts.flatten().min().unwrap_or(1).max(1)
    }

    /// Whether there is room for a step of a task, and of all that the `first` in line needs enough is left for that.
    pub(super) fn has_room(&self, task: TaskIndex, first: Option<TaskIndex>) -> bool {
        let (taken, need) = (self.taken(), self.need(task));
        let first = first.map(|first| self.need(first));
        let Capacity { cpus, memory, have } = &self.capacity;
        let fits = |all: u64, taken: u64, need: u64, first: Option<u64>| {
            let free = all.saturating_sub(taken);
            need == 0 || free.checked_sub(need).is_some_and(|left| left >= first.unwrap_or(0))
        };
        let of_first = |of: &dyn Fn(&Taken) -> u64| first.as_ref().map(of);
        fits(
            *cpus as u64,
            taken.cpus as u64,
            need.cpus as u64,
            of_first(&|first| first.cpus as u64),
        ) && fits(*memory, taken.memory, need.memory, of_first(&|first| first.memory))
            && (0..have.len()).all(|kind| {
                let first = of_first(&|first| first.uses[kind] as u64);
                fits(have[kind] as u64, taken.uses[kind] as u64, need.uses[kind] as u64, first)
            })
    }

    /// Whether a step of whatever task could be started beside the `first` in line: at least it takes a processor.
    pub(super) fn may_pass(&self, first: TaskIndex) -> bool {
        self.capacity.cpus > self.taken().cpus + self.need(first).cpus
    }

    /// What is to be told, once, of a task whose next step has no room for the memory that it is taken to need, though
    /// nobody has said that it needs so much.
    pub(super) fn scarcity(&mut self, task: TaskIndex) -> Option<(TaskIndex, Scarcity)> {
        let (taken, all) = (self.taken().memory, self.capacity.memory);
        let state = &mut self.tasks[task.0];
        let is_scarce = taken > 0 && state.memory > all.saturating_sub(taken);
        if state.needs.memory.is_some() || !is_scarce || state.is_told {
            return None;
        }
        state.is_told = true;
        Some((task, Scarcity { each: state.memory, all }))
    }

    /// A step was handed out.
    pub(super) fn take(&mut self, step: StepId, task: TaskIndex) {
        if self.running.insert(step, task).is_none() {
            *self.by_task.entry(task).or_default() += 1;
        }
    }

    /// A step gives back what it took, if it hasn't done so yet.
    pub(super) fn give_back(&mut self, step: StepId) {
        let Some(task) = self.running.remove(&step) else { return };
        if let Some(count) = self.by_task.get_mut(&task) {
            *count -= 1;
            if *count == 0 {
                self.by_task.remove(&task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TaskIndex = TaskIndex(0);
    const B: TaskIndex = TaskIndex(1);
    const C: TaskIndex = TaskIndex(2);

    fn needs(cpus: usize, memory: Option<u64>, uses: &[(usize, usize)]) -> TaskNeeds {
        TaskNeeds { cpus, memory, uses: uses.to_vec() }
    }

    fn admission(needs: Vec<TaskNeeds>) -> Admission {
        let capacity = Capacity { cpus: 4, memory: 1000 << 10, have: vec![2] };
        Admission::new(capacity, needs, Arc::default())
    }

    #[test]
    fn a_step_has_room_if_all_it_takes_is_free_at_once() {
        let mut a = admission(vec![
            needs(3, None, &[]),
            needs(1, Some(600 << 10), &[]),
            needs(1, None, &[(0, 2)]),
        ]);
        a.take(StepId(1), A);
        assert!(!a.has_room(A, None) && a.has_room(B, None) && a.has_room(C, None));
        a.take(StepId(2), B);
        assert!(!a.has_room(B, None) && !a.has_room(C, None), "no processor is left");
        a.give_back(StepId(1));
        a.give_back(StepId(1));
        assert!(a.has_room(A, None) && !a.has_room(B, None) && a.has_room(C, None));
        a.take(StepId(3), C);
        assert!(!a.has_room(C, None), "both of the two are in use");
    }

    #[test]
    fn how_many_may_run_at_once_is_told_by_what_is_scarcest() {
        let a = admission(vec![
            needs(1, None, &[]),
            needs(2, Some(300 << 10), &[]),
            needs(1, Some(1), &[(0, 1)]),
            needs(9, Some(u64::MAX), &[(0, 2)]),
        ]);
        assert_eq!([A, B, C, TaskIndex(3)].map(|task| a.at_once(task)), [4, 2, 2, 1]);
    }

    #[test]
    fn what_asks_for_more_than_there_is_runs_alone() {
        for huge in [needs(5, None, &[]), needs(1, Some(1001 << 10), &[])] {
            let mut a = admission(vec![huge, needs(1, None, &[])]);
            assert!(a.has_room(A, None));
            a.take(StepId(1), A);
            assert!(!a.has_room(B, None));
            a.give_back(StepId(1));
            a.take(StepId(2), B);
            assert!(!a.has_room(A, None));
        }
    }

    #[test]
    fn nothing_takes_what_the_first_in_line_waits_for() {
        let mut a = admission(vec![
            needs(1, None, &[(0, 1)]),
            needs(1, None, &[]),
            needs(1, Some(300 << 10), &[]),
        ]);
        a.take(StepId(1), A);
        a.take(StepId(2), A);
        assert!(!a.has_room(A, None));
        assert!(a.has_room(B, Some(A)) && a.may_pass(A), "it needs none of what is scarce");
        a.take(StepId(3), B);
        assert!(!a.has_room(B, Some(A)) && !a.may_pass(A), "a processor stays free for the first");
        // All the memory would be free for the first one, a step of C, and one beside it.
        let mut a = admission(vec![
            needs(1, Some(500 << 10), &[]),
            needs(1, Some(200 << 10), &[]),
            needs(1, Some(700 << 10), &[]),
        ]);
        a.take(StepId(1), A);
        assert!(!a.has_room(C, None) && a.has_room(B, None) && !a.has_room(B, Some(C)));
    }

    #[test]
    fn the_highest_of_the_last_peaks_and_a_fifth_is_assumed() {
        let seen = |kib, of| Usage { peak_memory: kib, peak_of: of, ..Usage::default() };
        let mut a = admission(vec![needs(1, None, &[]), needs(1, Some(1), &[])]);
        assert!(a.is_easy(A) && a.wants_history(A) && !a.wants_history(B));
        a.remember(A, vec![100]);
        assert!(a.is_easy(A) && a.need(A).memory >= 119 << 10, "{:?}", a.need(A));
        assert!(a.learn(A, &seen(500, PeakOf::Process)));
        assert!(!a.is_easy(A) && !a.learn(A, &seen(500, PeakOf::Tree)));
        a.take(StepId(1), A);
        assert!(!a.has_room(A, None));
        assert!(!a.learn(B, &seen(5000, PeakOf::Tree)) && a.need(B).memory == 1);
        // What was smaller than the runner says nothing, and old peaks are forgotten.
        for n in 0..PEAKS {
            a.learn(A, &seen(900, PeakOf::Runner));
            assert!(!a.is_easy(A), "{n}");
            a.learn(A, &seen(10, PeakOf::Process));
        }
        assert!(a.is_easy(A));
    }
}
