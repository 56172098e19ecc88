//! What is left to do, by task: numbers, leaves that were read from the database, jobs that are with a worker,
//! jobs that wait for another try. The one place that counts what is in flight. Unaware of workers, processes
//! and the screen.

use std::cmp::Reverse;
use std::collections::btree_map;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::time::Instant;

use crate::attempt::{BatchPlace, Usage, Verdict};
use crate::db::{self, Db, Effects, Flow, FlowTask, Group, KnownWork, Leaf, Reader, SharedStep};
use crate::error::Result;
use crate::ids::{StepId, TaskIndex};
use crate::labels::Labels;

use super::admission::{Admission, Scarcity};
use super::groups::Groups;
use super::message::{Job, Jobs};

/// Leaves read at once.
const BATCH: usize = 256;

/// A step whose worker was lost so often doesn't run again in this run.
pub(super) const MOST_LOSSES: u32 = 3;

/// What the manifest and the command line allow a task.
#[derive(Debug, Clone, Copy)]
pub(super) struct TaskLimits {
    /// Edges to the end of the graph: the lower, the sooner.
    pub(super) height: usize,
    /// At most this many scripts at once.
    pub(super) parallel: usize,
    /// At most this many steps share a script.
    pub(super) batch: usize,
    /// Not to be started in this run.
    pub(super) excluded: bool,
}

struct TaskState {
    limits: TaskLimits,
    /// Live steps that have to run, wherever they are.
    pending: u64,
    /// Of these, read from the database: ready, with a worker, or waiting for another try.
    held: u64,
    /// Scripts that are with a worker, each with some of these.
    in_flight: usize,
    failed: u64,
    /// Inputs of it can't be read: steps are missing.
    lacks_inputs: bool,
    ready: VecDeque<Leaf>,
    /// Leaves up to here were read.
    after: StepId,
    /// `gather`: its step is made, or there is nothing to gather.
    gathered: bool,
    /// Producers that are not closed, those of `with` too.
    open_producers: usize,
    /// Of these, those that its steps can't be made before: of `with`, and all if any of the others runs anew. What they
    /// have made so far is no input then. What a task gathers is waited for by itself.
    open_sides: usize,
    waits_for_all: bool,
    /// Its steps are made as soon as there is an input: what they see by `with` is known.
    is_sided: bool,
    /// Nothing of it has to run, has failed or is missing, and its producers are closed: it can't get another
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
    /// Tasks of which all is there that their steps see, likewise.
    due_sides: BTreeSet<(usize, TaskIndex)>,
    /// Place of each task in the flow's order.
    rank: Vec<usize>,
    /// Jobs handed out that did not come back, and the first in line.
    in_flight: usize,
    /// By the number of their batch, of jobs that share a script: how many of them.
    in_batches: HashMap<i64, i64>,
    /// Number of the batch that was handed out last.
    last_batch: i64,
    admission: Admission,
    /// A script that is not easy has come up, but has not been handed out yet.
    is_counting: bool,
    /// The next script to start, which has no room yet. Nobody gets ahead of it.
    first: Option<Jobs>,
    /// Tasks whose steps wait for memory that they are only taken to need.
    news: Vec<(TaskIndex, Scarcity)>,
    /// Jobs of each task that wait for another try, the next one due first.
    delayed: BTreeMap<TaskIndex, BinaryHeap<Reverse<Delayed>>>,
    /// Height of the task whose job was handed out last, which is the farthest from the end.
    last_height: usize,
    /// By task and key of their work: jobs that are with a worker or wait for another try, or that have failed.
    claims: HashMap<(TaskIndex, i64), Claim>,
    /// Leaves that were found to be the same work as a step that is done, or has failed.
    known: Vec<KnownWork>,
    groups: Groups,
    /// How often the workers of steps were lost.
    losses: HashMap<StepId, u32>,
}

/// A piece of work that somebody is at.
struct Claim {
    owner: StepId,
    /// Leaves that are the same work: they will have its results, or fail with it; if it comes back
    /// without any end, one of them takes its place.
    others: Vec<Leaf>,
    has_failed: bool,
}

/// What a backlog has to start.
pub(super) enum Next {
    Start(Jobs),
    /// From now on only what has room is started: first everything that no worker has taken yet must
    /// be [recalled](Backlog::recall).
    Recall,
    /// Nothing, or nothing that has room.
    Nothing,
}

/// What becomes of a job whose worker was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// It runs again.
    ForNow,
    /// It doesn't in this run.
    ForGood,
}

/// A job that waits for another try, and until when.
struct Delayed(Instant, Job);

impl Ord for Delayed {
    fn cmp(&self, other: &Delayed) -> std::cmp::Ordering {
        (self.0, self.1.leaf.step).cmp(&(other.0, other.1.leaf.step))
    }
}
impl PartialOrd for Delayed {
    fn partial_cmp(&self, other: &Delayed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Delayed {
    fn eq(&self, other: &Delayed) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Delayed {}

/// The task whose script these jobs share.
fn task_of(jobs: &Jobs) -> Option<TaskIndex> {
    jobs.first().map(|first| first.task)
}

/// Whether two jobs that wait for another try may share a script.
fn may_share(one: &Job, other: &Job) -> bool {
    one.task == other.task && one.leaf.side == other.leaf.side && !one.is_alone && !other.is_alone
}

impl Backlog {
    /// Reads what is left to do: costs as much as there is.
    /// `unread`, by place: the labels of steps that are not there because their inputs can't be read.
    pub(super) fn read(
        db: &Db,
        flow: &Flow,
        limits: Vec<TaskLimits>,
        admission: Admission,
        unread: &[Vec<Labels>],
    ) -> Result<Backlog> {
        db.read(|reader| Backlog::read_in(reader, flow, limits, admission, unread))
    }

    fn read_in(
        reader: &Reader,
        flow: &Flow,
        limits: Vec<TaskLimits>,
        admission: Admission,
        unread: &[Vec<Labels>],
    ) -> Result<Backlog> {
        let todo = db::todo(reader)?;
        let turns = db::turns(reader)?;
        let mut tasks = Vec::with_capacity(limits.len());
        for ((task, limits), unread) in flow.tasks.iter().zip(limits).zip(unread) {
            let waits_for_all = !task.gathers_outputs()
                && task.from.iter().any(|&up| turns.contains_key(&flow.task(up).id));
            let sides = if waits_for_all { task.fed_by().count() } else { task.with.len() };
            let left = todo.get(&task.id).copied().unwrap_or_default();
            let turns = turns.get(&task.id).copied().unwrap_or_default();
            tasks.push(TaskState {
                limits,
                pending: left.pending + turns.anew - turns.held,
                held: 0,
                in_flight: 0,
                failed: left.failed,
                lacks_inputs: !unread.is_empty(),
                ready: VecDeque::new(),
                after: StepId::default(),
                // One that waits is looked at once more when everything upstream is done. The steps of a root that
                // gathers its files are known to the plan.
                gathered: task.gathers_files()
                    || task.gathers_outputs()
                        && !task.is_grouped()
                        && turns.waits_anew + turns.kept + turns.held == 0
                        && db::has_live_step(reader, task.id)?,
                open_producers: task.fed_by().count(),
                open_sides: sides,
                waits_for_all,
                is_sided: task.is_ready(),
                is_closed: false,
            });
        }
        let startable = BTreeSet::new();
        let mut rank = vec![0; tasks.len()];
        for (place, index) in flow.order.iter().enumerate() {
            rank[index.0] = place;
        }
        let is_gathered: Vec<bool> = tasks.iter().map(|task: &TaskState| task.gathered).collect();
        let mut groups = Groups::read(reader, flow, &is_gathered)?;
        // They hold what gathers, as failed steps do.
        for (n, unread) in unread.iter().enumerate() {
            unread.iter().for_each(|labels| groups.add_open(TaskIndex(n), labels, 1));
        }
        let mut backlog = Backlog {
            tasks,
            startable,
            held_steps: HashSet::new(),
            due_gathers: BTreeSet::new(),
            due_sides: BTreeSet::new(),
            rank,
            in_flight: 0,
            in_batches: HashMap::new(),
            last_batch: 0,
            admission,
            is_counting: false,
            first: None,
            news: Vec::new(),
            delayed: BTreeMap::new(),
            last_height: 0,
            claims: HashMap::new(),
            known: Vec::new(),
            groups,
            losses: HashMap::new(),
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
        let TaskState { limits, pending, held, in_flight, ready, .. } = &self.tasks[n];
        let elsewhere = held - ready.len() as u64;
        if !limits.excluded && *in_flight < limits.parallel && *pending > elsewhere {
            self.startable.insert((limits.height, n));
        } else {
            self.startable.remove(&(limits.height, n));
        }
    }

    /// Hands out what is to be started next, if there is anything: a retry that is due, or else a leaf of the task
    /// nearest to the end of the graph; with others of its task, where these may share a script. A script that has no room
    /// becomes the first in line, and whoever doesn't get in its way may pass.
    pub(super) fn next(&mut self, now: Instant, db: &Db, flow: &Flow) -> Result<Next> {
        loop {
            let is_tight = self.admission.review(self.is_counting || self.first.is_some());
            let waits = self.first.as_ref().and_then(task_of);
            if let Some(task) = waits
                && self.admission.has_room(task, None)
                && let Some(first) = self.first.take()
            {
                let first = self.fill_up(db, flow, first);
                return Ok(self.hand_out(first));
            }
            let mut jobs = match waits {
                Some(first) if !self.admission.may_pass(first) => Jobs::new(),
                _ => match self.pop_due(now, waits) {
                    jobs if jobs.is_empty() => self.next_leaves(db, flow, waits)?,
                    jobs => jobs,
                },
            };
            let Some(task) = task_of(&jobs) else { return Ok(Next::Nothing) };
            self.mark_in_flight(&mut jobs);
            let is_easy = self.admission.is_easy(task);
            let has_room = || self.admission.has_room(task, None);
            if waits.is_some() || is_easy && !is_tight || is_tight && has_room() {
                return Ok(self.hand_out(jobs));
            }
            if !is_tight {
                // Those that are in the channel come first, and they were not counted.
                self.is_counting = true;
                self.recall(vec![jobs]);
                return Ok(Next::Recall);
            }
            self.news.extend(self.admission.scarcity(task));
            self.first = Some(jobs);
        }
    }

    fn hand_out(&mut self, mut jobs: Jobs) -> Next {
        // What the script takes goes by its first step.
        if let Some(Job { task, leaf, memory, .. }) = jobs.first_mut() {
            self.admission.take(leaf.step, *task);
            *memory = self.admission.memory(*task);
            // As long as this one runs, all are counted anyway.
            self.is_counting &= self.admission.is_easy(*task);
        }
        Next::Start(jobs)
    }

    /// The script of a step is over: others have room.
    pub(super) fn give_back(&mut self, step: StepId) {
        self.admission.give_back(step);
    }

    /// Learns what an attempt took. True if everything that no worker has taken yet must be recalled, since steps like it
    /// take more than was thought.
    pub(super) fn learn(&mut self, task: TaskIndex, usage: &Usage) -> bool {
        self.admission.learn(task, usage)
    }

    /// Takes what is to be told of tasks whose steps wait.
    pub(super) fn take_news(&mut self) -> Vec<(TaskIndex, Scarcity)> {
        std::mem::take(&mut self.news)
    }

    /// Takes the first in line, if one waits: it will not be started.
    pub(super) fn take_first(&mut self) -> Option<Jobs> {
        self.first.take()
    }

    /// Whether a step of a task may be started in spite of the first in line that `waits`, if any.
    fn may_start(&self, task: TaskIndex, waits: Option<TaskIndex>) -> bool {
        waits.is_none() || self.admission.has_room(task, waits)
    }

    /// How many steps of a task are to share a script now: all that are left, divided among the scripts that may run at
    /// once, so that none of these has nothing to do.
    fn batch(&self, n: usize) -> usize {
        let TaskState { limits, pending, .. } = &self.tasks[n];
        let at_once = self.admission.at_once(TaskIndex(n)).min(limits.parallel).max(1);
        let each = pending.div_ceil(at_once as u64);
        usize::try_from(each).unwrap_or(usize::MAX).clamp(1, limits.batch)
    }

    /// The jobs of one task: one that waits for room doesn't keep those of other tasks waiting.
    fn pop_due(&mut self, now: Instant, waits: Option<TaskIndex>) -> Jobs {
        let free = self.delayed.iter().filter_map(|(&task, delayed)| {
            let Reverse(first) = delayed.peek()?;
            let TaskState { in_flight, limits, .. } = &self.tasks[task.0];
            let is_free = *in_flight < limits.parallel && self.may_start(task, waits);
            (first.0 <= now && is_free).then_some((first, task))
        });
        let Some((_, task)) = free.min() else { return Jobs::new() };
        let most = self.batch(task.0);
        let btree_map::Entry::Occupied(mut delayed) = self.delayed.entry(task) else {
            return Jobs::new();
        };
        let mut jobs = Jobs::new();
        while let Some(Reverse(Delayed(due, job))) = delayed.get().peek()
            && *due <= now
            && jobs.first().is_none_or(|first| may_share(first, job) && jobs.len() < most)
        {
            jobs.extend(delayed.get_mut().pop().map(|Reverse(Delayed(_, job))| job));
        }
        if delayed.get().is_empty() {
            delayed.remove();
        }
        jobs
    }

    /// A job is tried again when it is due.
    fn delay(&mut self, due: Instant, job: Job) {
        self.delayed.entry(job.task).or_default().push(Reverse(Delayed(due, job)));
    }

    fn next_leaves(&mut self, db: &Db, flow: &Flow, waits: Option<TaskIndex>) -> Result<Jobs> {
        while let Some((height, n)) = self.next_startable(waits) {
            if self.tasks[n].ready.is_empty() {
                self.read_leaves(db, flow, n)?;
                if !self.may_start(TaskIndex(n), waits) {
                    // Now that it is known what its steps have taken.
                    continue;
                }
            }
            let Some(leaf) = self.tasks[n].ready.pop_front() else {
                // Its numbers promised a leaf that the database doesn't have: don't ask for ever.
                self.startable.remove(&(height, n));
                continue;
            };
            if let Some(job) = self.claim(flow, n, leaf) {
                let mut jobs = vec![job];
                self.add_fellows(db, flow, n, &mut jobs);
                return Ok(jobs);
            }
        }
        Ok(Jobs::new())
    }

    /// Adds leaves to jobs of their task that are to share a script.
    fn add_fellows(&mut self, db: &Db, flow: &Flow, n: usize, jobs: &mut Jobs) {
        let side = jobs.first().map(|first| first.leaf.side);
        while jobs.len() < self.batch(n) {
            let TaskState { pending, held, ready, .. } = &self.tasks[n];
            // Those that are there run meanwhile; what fails is met again.
            if ready.is_empty() && (pending <= held || self.read_leaves(db, flow, n).is_err()) {
                return;
            }
            // All that share a script see the same by `with`.
            let ready = &mut self.tasks[n].ready;
            let fellow = ready.iter().position(|leaf| Some(leaf.side) == side);
            let Some(leaf) = fellow.and_then(|at| ready.remove(at)) else { return };
            jobs.extend(self.claim(flow, n, leaf));
        }
    }

    /// What has come up since a script was made the first in line joins it.
    fn fill_up(&mut self, db: &Db, flow: &Flow, mut jobs: Jobs) -> Jobs {
        let Some(first) = jobs.first().filter(|first| !first.is_alone) else { return jobs };
        let n = first.task.0;
        if self.tasks[n].limits.batch > 1 {
            jobs.iter().for_each(|job| self.mark_back(job));
            self.add_fellows(db, flow, n, &mut jobs);
            self.mark_in_flight(&mut jobs);
        }
        jobs
    }

    /// A leaf becomes a job, unless somebody else is at the same work.
    fn claim(&mut self, flow: &Flow, n: usize, leaf: Leaf) -> Option<Job> {
        let task = TaskIndex(n);
        if flow.tasks[n].shares_work() {
            match self.claims.entry((task, leaf.key)) {
                Entry::Occupied(claim) if claim.get().has_failed => {
                    let (step, same_as) = (leaf.step, claim.get().owner);
                    let (result, has_failed) = (None, true);
                    self.known.push(KnownWork { task, step, same_as, result, has_failed });
                    self.review(n);
                    return None;
                }
                Entry::Occupied(mut claim) => {
                    claim.get_mut().others.push(leaf);
                    self.review(n);
                    return None;
                }
                Entry::Vacant(claim) => {
                    let (owner, others) = (leaf.step, Vec::new());
                    claim.insert(Claim { owner, others, has_failed: false });
                }
            }
        }
        let batch = BatchPlace { number: 0, item: 1, size: 1 };
        Some(Job { task, leaf, tried: 0, is_alone: false, batch, memory: 0 })
    }

    /// The task nearest to the end that has something to start.
    fn next_startable(&self, waits: Option<TaskIndex>) -> Option<(usize, usize)> {
        let may_start = |&&(_, n): &&(usize, usize)| self.may_start(TaskIndex(n), waits);
        self.startable.iter().find(may_start).copied()
    }

    /// A job is not with a worker any more, nor will it be tried again by itself: whoever is the same work and has no
    /// results of it is ready.
    fn release(&mut self, job: &Job) {
        let is_owner = |claim: &Claim| claim.owner == job.leaf.step;
        let work = (job.task, job.leaf.key);
        if !self.claims.get(&work).is_some_and(is_owner) {
            return;
        }
        let others = self.claims.remove(&work).map(|claim| claim.others);
        for leaf in others.into_iter().flatten().rev() {
            self.tasks[job.task.0].ready.push_front(leaf);
        }
        self.review(job.task.0);
    }

    fn mark_in_flight(&mut self, jobs: &mut Jobs) {
        let (size, Some(task)) = (jobs.len() as i64, task_of(jobs)) else { return };
        self.last_batch += 1;
        for (job, item) in jobs.iter_mut().zip(1..) {
            job.batch = BatchPlace { number: self.last_batch, item, size };
        }
        if size > 1 {
            self.in_batches.insert(self.last_batch, size);
        }
        self.in_flight += jobs.len();
        self.last_height = self.tasks[task.0].limits.height;
        self.tasks[task.0].in_flight += 1;
        self.review(task.0);
    }

    fn mark_back(&mut self, job: &Job) {
        self.in_flight -= 1;
        self.admission.give_back(job.leaf.step);
        if let Some(batch) = job.shared()
            && let Some(left) = self.in_batches.get_mut(&batch.number)
        {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.in_batches.remove(&batch.number);
        }
        self.tasks[job.task.0].in_flight -= 1;
    }

    /// Jobs that were handed out and did not come back, and the first in line.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Jobs wait for another try.
    pub(super) fn has_delayed(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// When a task's next retry is due, if that is after `seen`. One that was due then has no room.
    pub(super) fn next_due(&self, seen: Instant) -> Option<Instant> {
        let first = self.delayed.values().filter_map(|delayed| delayed.peek());
        first.map(|Reverse(Delayed(due, _))| *due).filter(|due| *due > seen).min()
    }

    fn read_leaves(&mut self, db: &Db, flow: &Flow, n: usize) -> Result<()> {
        let flow_task = &flow.tasks[n];
        let takes_known = flow_task.shares_work() && !flow_task.forced.is_any();
        let id = flow_task.id;
        let mut wants_history = self.admission.wants_history(TaskIndex(n));
        let task = &mut self.tasks[n];
        loop {
            let from = task.after;
            let leaves = db.read(|reader| db::leaves(reader, flow_task, from, BATCH))?;
            let was_last = leaves.len() < BATCH;
            if wants_history && let Some(first) = leaves.first() {
                wants_history = false;
                let peaks = db.read(|reader| db::recent_peaks(reader, id, first.step))?;
                self.admission.remember(TaskIndex(n), peaks);
            }
            for leaf in leaves {
                task.after = leaf.step;
                if !self.held_steps.insert(leaf.step) {
                    continue;
                }
                task.held += 1;
                // What --only leaves out counts as left, and is never ready.
                if !flow.tasks[n].may_run(&leaf.labels) {
                    continue;
                }
                match leaf.same_as {
                    Some(same_as) if takes_known => {
                        let (task, step, result) = (TaskIndex(n), leaf.step, leaf.result);
                        self.known.push(KnownWork {
                            task,
                            step,
                            same_as,
                            result,
                            has_failed: false,
                        });
                    }
                    _ => task.ready.push_back(leaf),
                }
            }
            let has_any = !task.ready.is_empty() || !self.known.is_empty();
            if has_any || (was_last && from == StepId::default()) {
                return Ok(());
            }
            if was_last {
                // A step that came alive again may have a lower id than those read last.
                task.after = StepId::default();
            }
        }
    }

    /// A job came back, and its attempt is committed. One that is tried again waits until `due`.
    pub(super) fn settle(&mut self, flow: &Flow, job: Job, verdict: Verdict, due: Instant) {
        let task = job.task;
        self.mark_back(&job);
        let state = &mut self.tasks[task.0];
        let is_again = verdict.is_again();
        if is_again && state.limits.excluded {
            state.held -= 1;
            self.held_steps.remove(&job.leaf.step);
            self.release(&job);
        } else if is_again {
            let leaf = Leaf { attempt: job.leaf.attempt + 1, ..job.leaf };
            let is_alone = job.is_alone || verdict == Verdict::Alone;
            let tried = job.tried + u32::from(verdict == Verdict::TryAgain);
            let again = Job { leaf, tried, is_alone, ..job };
            self.delay(due, again);
        } else {
            state.pending -= 1;
            state.held -= 1;
            state.failed += u64::from(verdict == Verdict::Failed);
            self.held_steps.remove(&job.leaf.step);
            match (verdict, self.claims.get_mut(&(task, job.leaf.key))) {
                // The others have failed with it, and so will those that come up later.
                (Verdict::Failed, Some(claim)) => claim.has_failed = true,
                (Verdict::Done, _) => {
                    self.groups.close_one(task, &job.leaf.labels);
                    self.release(&job);
                }
                _ => self.release(&job),
            }
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
            if state.open_sides == 0 && !state.is_sided {
                self.due_sides.insert((self.rank[task.0], task));
                continue;
            }
            if state.is_closed || state.open_producers > 0 {
                continue;
            }
            if is_gather && !state.gathered {
                self.due_gathers.insert((self.rank[task.0], task));
            } else if state.pending == 0 && state.failed == 0 && !state.lacks_inputs {
                state.is_closed = true;
                let FlowTask { consumers, users, .. } = flow.task(task);
                for consumer in consumers {
                    let state = &mut self.tasks[consumer.0];
                    state.open_sides -= usize::from(state.waits_for_all);
                }
                users.iter().for_each(|user| self.tasks[user.0].open_sides -= 1);
                for fed in flow.task(task).fed() {
                    self.tasks[fed.0].open_producers -= 1;
                    open.push(fed);
                }
            }
        }
    }

    /// A job came back without a result, and is to run by itself.
    pub(super) fn part(&mut self, job: Job) {
        if self.tasks[job.task.0].limits.excluded {
            return self.put_back(&job);
        }
        self.mark_back(&job);
        let task = job.task.0;
        self.delay(Instant::now(), Job { is_alone: true, ..job });
        self.review(task);
    }

    /// A job's worker was lost. It runs again, as another attempt, and by itself: those that shared its script need not
    /// be to blame. One that was lost too often stays where it is, and nothing of it is started in this run.
    pub(super) fn lose(&mut self, job: Job) -> Lost {
        if self.tasks[job.task.0].limits.excluded {
            self.put_back(&job);
            return Lost::ForNow;
        }
        let losses = self.losses.entry(job.leaf.step).or_default();
        *losses += 1;
        let is_for_good = *losses >= MOST_LOSSES;
        let task = job.task.0;
        self.mark_back(&job);
        if is_for_good {
            self.release(&job);
        } else {
            let is_alone = job.is_alone || job.shared().is_some();
            let leaf = Leaf { attempt: job.leaf.attempt + 1, ..job.leaf };
            self.delay(Instant::now(), Job { leaf, is_alone, ..job });
        }
        self.review(task);
        if is_for_good { Lost::ForGood } else { Lost::ForNow }
    }

    /// A job came back without a result: its step is pending as before.
    pub(super) fn put_back(&mut self, job: &Job) {
        self.mark_back(job);
        let state = &mut self.tasks[job.task.0];
        state.held -= 1;
        state.after = StepId::default();
        self.held_steps.remove(&job.leaf.step);
        self.release(job);
        self.review(job.task.0);
    }

    /// Nothing more of a task is started in this run; what is with a worker comes back as ever. False if that was so
    /// already.
    pub(super) fn exclude(&mut self, task: TaskIndex) -> bool {
        let was_excluded = std::mem::replace(&mut self.tasks[task.0].limits.excluded, true);
        for Reverse(Delayed(_, job)) in self.delayed.remove(&task).unwrap_or_default() {
            self.tasks[task.0].held -= 1;
            self.held_steps.remove(&job.leaf.step);
            self.release(&job);
        }
        if let Some(first) = self.first.take_if(|first| task_of(first) == Some(task)) {
            first.iter().for_each(|job| self.put_back(job));
        }
        self.review(task.0);
        !was_excluded
    }

    /// True if what no worker has taken yet is to be looked at again because more steps of these tasks have come up: one
    /// is nearer to the end of the graph than the job handed out last, or they may share a script with others.
    pub(super) fn is_to_recall(&self, mut tasks: impl Iterator<Item = TaskIndex>) -> bool {
        tasks.any(|task| {
            let limits = &self.tasks[task.0].limits;
            limits.height < self.last_height || limits.batch > 1
        })
    }

    /// Jobs came back, in the order in which they were handed out, that no worker had taken yet: they are the
    /// next ones of their tasks.
    pub(super) fn recall(&mut self, jobs: Vec<Jobs>) {
        for job in jobs.into_iter().flatten().rev() {
            let task = job.task.0;
            self.mark_back(&job);
            let is_fresh = job.tried == 0 && !job.is_alone;
            if is_fresh {
                self.release(&job);
            }
            match is_fresh {
                _ if self.tasks[task].limits.excluded => {
                    self.tasks[task].held -= 1;
                    self.held_steps.remove(&job.leaf.step);
                }
                true => self.tasks[task].ready.push_front(job.leaf),
                false => self.delay(Instant::now(), job),
            }
            self.review(task);
        }
    }

    /// More steps of a task have to run.
    pub(super) fn grow(&mut self, task: TaskIndex, count: u64) {
        self.tasks[task.0].pending += count;
        self.review(task.0);
    }

    /// Takes the leaves that were found to be the same work as a step that is done, or has failed.
    pub(super) fn take_known(&mut self) -> Vec<KnownWork> {
        std::mem::take(&mut self.known)
    }

    /// These leaves were found to be known, but could not be given their results: they are pending as before.
    pub(super) fn put_known_back(&mut self, known: &[KnownWork]) {
        for &KnownWork { task, step, .. } in known {
            if self.held_steps.remove(&step) {
                self.tasks[task.0].held -= 1;
                self.tasks[task.0].after = StepId::default();
                self.review(task.0);
            }
        }
    }

    /// Steps that were pending are done, since they have the results of others, or have failed with them.
    pub(super) fn shared(&mut self, flow: &Flow, shared: &[SharedStep]) {
        if shared.is_empty() {
            return;
        }
        let steps: HashSet<StepId> = shared.iter().map(|shared| shared.work.step).collect();
        let tasks: HashSet<TaskIndex> = shared.iter().map(|shared| shared.work.task).collect();
        for claim in self.claims.values_mut() {
            claim.others.retain(|leaf| !steps.contains(&leaf.step));
        }
        for task in &tasks {
            self.tasks[task.0].ready.retain(|leaf| !steps.contains(&leaf.step));
        }
        for SharedStep { work: KnownWork { task, step, has_failed, .. }, labels, .. } in shared {
            let state = &mut self.tasks[task.0];
            state.pending -= 1;
            state.held -= u64::from(self.held_steps.remove(step));
            match has_failed {
                true => state.failed += 1,
                false => self.groups.close_one(*task, labels),
            }
        }
        for task in tasks {
            self.review(task.0);
            self.close(flow, task);
        }
    }

    /// Steps with these labels have to run from now on; the numbers of their tasks [grow](Self::grow).
    pub(super) fn open_groups(&mut self, effects: &Effects) {
        for (task, labels) in &effects.labelled {
            self.groups.add_open(*task, labels, 1);
        }
    }

    /// The tasks that gather a task's outputs by groups.
    pub(super) fn gatherers(&self, task: TaskIndex) -> Vec<TaskIndex> {
        self.groups.gatherers(task)
    }

    /// A step has made something for a group.
    pub(super) fn join_group(&mut self, gatherer: TaskIndex, group: &Labels, step: StepId) {
        self.groups.join(gatherer, group, step);
    }

    /// True if a gather task, a group or the steps of a task with `with` may be planned.
    pub(super) fn has_due(&self) -> bool {
        let is_none_due = self.due_sides.is_empty() && self.due_gathers.is_empty();
        !is_none_due || self.groups.has_candidates()
    }

    /// Takes a task of which all is there that its steps see.
    pub(super) fn pop_due_sides(&mut self) -> Option<TaskIndex> {
        self.due_sides.pop_first().map(|(_, task)| task)
    }

    /// The steps of a task that waited for what they see are made, and counted.
    pub(super) fn sided(&mut self, flow: &Flow, task: TaskIndex) {
        self.tasks[task.0].is_sided = true;
        self.groups.sided(task);
        self.close(flow, task);
    }

    /// Takes a group to which nothing upstream can add any more.
    pub(super) fn pop_due_group(&mut self) -> Option<(TaskIndex, Group)> {
        self.groups.pop()
    }

    /// The step of a group is made, and what it made possible is counted.
    pub(super) fn group_made(&mut self, gatherer: TaskIndex, group: &Labels) {
        self.groups.made(gatherer, group);
    }

    /// Takes a gather task that is not planned yet and has everything upstream done: producers before
    /// their consumers.
    pub(super) fn pop_due_gather(&mut self) -> Option<TaskIndex> {
        self.due_gathers.pop_first().map(|(_, task)| task)
    }

    /// The step of a gather task is made, and [grown](Self::grow) by it, or there is nothing to gather.
    pub(super) fn gathered(&mut self, flow: &Flow, task: TaskIndex) {
        self.tasks[task.0].gathered = true;
        if !flow.task(task).is_grouped() {
            self.groups.close_one(task, &Labels::default());
        }
        self.close(flow, task);
    }

    /// Gather tasks that are not planned, and those that wait for what their steps see.
    pub(super) fn waiting(&self, flow: &Flow) -> Vec<TaskIndex> {
        let is_waiting = |n: &usize| {
            !self.tasks[*n].is_sided || flow.tasks[*n].gather && !self.tasks[*n].gathered
        };
        (0..self.tasks.len()).filter(is_waiting).map(TaskIndex).collect()
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
