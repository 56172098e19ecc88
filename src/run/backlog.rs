//! What is left to do, by task: numbers, and the leaves read from the database but not yet with a
//! worker. Unaware of workers, processes and the screen.

use std::collections::{BTreeSet, HashSet, VecDeque};

use crate::attempt::Verdict;
use crate::db::{self, Db, Flow, Leaf};
use crate::error::Result;
use crate::ids::{StepId, TaskIndex};

/// Leaves read at once.
const BATCH: usize = 256;

/// What the manifest and the command line say of a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Edges to the end of the graph: the lower, the sooner.
    pub(super) height: usize,
    /// At most this many steps at once.
    pub(super) limit: usize,
    /// Not to be started in this run.
    pub(super) excluded: bool,
}

struct TaskState {
    terms: Terms,
    /// Live steps that have to run, wherever they are.
    pending: u64,
    /// Of these, read from the database: ready, with a worker, or waiting for another try.
    held: u64,
    /// Of these, with a worker.
    in_flight: usize,
    failed: u64,
    ready: VecDeque<Leaf>,
    /// Leaves up to here were read.
    after: StepId,
    /// `gather`: its step is made, or there is nothing to gather.
    gathered: bool,
    /// Producers that are not closed.
    open_producers: usize,
    /// Nothing of it has to run or has failed, and its producers are closed: it can't get another
    /// output in this run.
    is_closed: bool,
}

pub(super) struct Backlog {
    /// By place in the manifest.
    tasks: Vec<TaskState>,
    /// (height, place) of tasks that have something to start.
    startable: BTreeSet<(usize, usize)>,
    held_steps: HashSet<StepId>,
    /// Gather tasks whose inputs are all there, by their place in the flow's order. Kept up as tasks
    /// close: looking upstream of each gather task whenever a task ends would be quadratic in a chain.
    due_gathers: BTreeSet<(usize, TaskIndex)>,
    /// Place of each task in the flow's order.
    rank: Vec<usize>,
}

impl Backlog {
    /// Reads what is left to do: costs as much as there is.
    pub(super) fn read(db: &Db, flow: &Flow, terms: Vec<Terms>) -> Result<Backlog> {
        let conn = db.lock();
        let todo = db::todo(&conn)?;
        let mut tasks = Vec::with_capacity(terms.len());
        for (task, terms) in flow.tasks.iter().zip(terms) {
            let left = todo.get(&task.id).copied().unwrap_or_default();
            tasks.push(TaskState {
                terms,
                pending: left.pending,
                held: 0,
                in_flight: 0,
                failed: left.failed,
                ready: VecDeque::new(),
                after: StepId::default(),
                gathered: task.gather && db::has_live_step(&conn, task.id)?,
                open_producers: task.from.len(),
                is_closed: false,
            });
        }
        let startable = BTreeSet::new();
        let mut rank = vec![0; tasks.len()];
        for (place, index) in flow.order.iter().enumerate() {
            rank[index.0] = place;
        }
        let mut backlog = Backlog {
            tasks,
            startable,
            held_steps: HashSet::new(),
            due_gathers: BTreeSet::new(),
            rank,
        };
        for n in 0..backlog.tasks.len() {
            backlog.review(n);
        }
        for &index in &flow.order {
            backlog.close(flow, index);
        }
        Ok(backlog)
    }

    /// Keeps the list of startable tasks true, after every change of a task's numbers.
    fn review(&mut self, n: usize) {
        let TaskState { terms, pending, held, in_flight, ready, .. } = &self.tasks[n];
        let elsewhere = held - ready.len() as u64;
        if !terms.excluded && *in_flight < terms.limit && *pending > elsewhere {
            self.startable.insert((terms.height, n));
        } else {
            self.startable.remove(&(terms.height, n));
        }
    }

    /// The next leaf to start: of the task nearest to the end of the graph.
    pub(super) fn next(&mut self, db: &Db, flow: &Flow) -> Result<Option<(TaskIndex, Leaf)>> {
        while let Some(&(height, n)) = self.startable.first() {
            if self.tasks[n].ready.is_empty() {
                self.read_leaves(db, flow, n)?;
            }
            if let Some(leaf) = self.tasks[n].ready.pop_front() {
                return Ok(Some((TaskIndex(n), leaf)));
            }
            // Its numbers promised a leaf that the database doesn't have: don't ask for ever.
            self.startable.remove(&(height, n));
        }
        Ok(None)
    }

    fn read_leaves(&mut self, db: &Db, flow: &Flow, n: usize) -> Result<()> {
        let id = flow.tasks[n].id;
        let conn = db.lock();
        let task = &mut self.tasks[n];
        loop {
            let from = task.after;
            let leaves = db::leaves(&conn, id, from, BATCH)?;
            let was_last = leaves.len() < BATCH;
            for leaf in leaves {
                task.after = leaf.step;
                if self.held_steps.insert(leaf.step) {
                    task.held += 1;
                    task.ready.push_back(leaf);
                }
            }
            if !task.ready.is_empty() || (was_last && from == StepId::default()) {
                return Ok(());
            }
            if was_last {
                // A step that came alive again may have a lower id than those read last.
                task.after = StepId::default();
            }
        }
    }

    /// True if another step of a task may be started.
    pub(super) fn has_room(&self, task: TaskIndex) -> bool {
        let task = &self.tasks[task.0];
        task.in_flight < task.terms.limit
    }

    /// A leaf went to the workers.
    pub(super) fn started(&mut self, task: TaskIndex) {
        self.tasks[task.0].in_flight += 1;
        self.review(task.0);
    }

    /// An attempt is over and committed.
    pub(super) fn ended(&mut self, flow: &Flow, task: TaskIndex, step: StepId, verdict: Verdict) {
        let state = &mut self.tasks[task.0];
        state.in_flight -= 1;
        if verdict != Verdict::TryAgain {
            state.pending -= 1;
            state.held -= 1;
            self.held_steps.remove(&step);
        }
        if verdict == Verdict::Failed {
            state.failed += 1;
        }
        self.review(task.0);
        self.close(flow, task);
    }

    /// Closes a task if nothing can come of it any more, and then its consumers.
    fn close(&mut self, flow: &Flow, task: TaskIndex) {
        let mut open = vec![task];
        while let Some(task) = open.pop() {
            let is_gather = flow.task(task).gather;
            let state = &mut self.tasks[task.0];
            if state.is_closed || state.open_producers > 0 {
                continue;
            }
            if is_gather && !state.gathered {
                self.due_gathers.insert((self.rank[task.0], task));
            } else if state.pending == 0 && state.failed == 0 {
                state.is_closed = true;
                for consumer in &flow.task(task).consumers {
                    self.tasks[consumer.0].open_producers -= 1;
                    open.push(*consumer);
                }
            }
        }
    }

    /// A leaf came back without a result: it is pending as before.
    pub(super) fn put_back(&mut self, task: TaskIndex, step: StepId) {
        let state = &mut self.tasks[task.0];
        state.in_flight -= 1;
        state.held -= 1;
        state.after = StepId::default();
        self.held_steps.remove(&step);
        self.review(task.0);
    }

    /// A leaf came back that no worker had taken yet: it is the next one of its task.
    pub(super) fn recall(&mut self, task: TaskIndex, leaf: Leaf) {
        self.tasks[task.0].ready.push_front(leaf);
        self.unsend(task);
    }

    /// A leaf came back, and whoever asks keeps it.
    pub(super) fn unsend(&mut self, task: TaskIndex) {
        self.tasks[task.0].in_flight -= 1;
        self.review(task.0);
    }

    /// Edges from a task to the end of the graph.
    pub(super) fn height(&self, task: TaskIndex) -> usize {
        self.tasks[task.0].terms.height
    }

    /// More steps of a task have to run.
    pub(super) fn grow(&mut self, task: TaskIndex, count: u64) {
        self.tasks[task.0].pending += count;
        self.review(task.0);
    }

    /// Takes a gather task that is not planned yet and has everything upstream done: producers before
    /// their consumers.
    pub(super) fn pop_due_gather(&mut self) -> Option<TaskIndex> {
        self.due_gathers.pop_first().map(|(_, task)| task)
    }

    /// The step of a gather task is made, and [grown](Self::grow) by it, or there is nothing to gather.
    pub(super) fn gathered(&mut self, flow: &Flow, task: TaskIndex) {
        self.tasks[task.0].gathered = true;
        self.close(flow, task);
    }

    /// Names of gather tasks that are not planned.
    pub(super) fn waiting(&self, flow: &Flow) -> Vec<String> {
        let tasks = flow.tasks.iter().zip(&self.tasks);
        let waiting = tasks.filter(|(task, state)| task.gather && !state.gathered);
        waiting.map(|(task, _)| task.name.clone()).collect()
    }

    /// Steps that have to run.
    pub(super) fn pending(&self) -> u64 {
        self.tasks.iter().map(|task| task.pending).sum()
    }

    /// Steps that failed.
    pub(super) fn failed(&self) -> u64 {
        self.tasks.iter().map(|task| task.failed).sum()
    }
}
