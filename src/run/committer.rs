//! Group commit, leader and follower: a worker queues its completion, and whoever gets the lead
//! commits everything queued, barrier first.
//!
//! When is it time? At once, if the worker has no other step to run: a lone step, and a chain of
//! them, never wait. Otherwise the worker runs that other step, and a commit falls due when [`GROUP`]
//! completions are queued or the first of them has waited for [`PATIENCE`], whichever comes first. A
//! transaction for each step of a millisecond cost a tenth of the step (pages written once a step instead
//! of once a group), and the dispatcher was woken for each.
//!
//! The barrier runs without the connection's mutex, so that the dispatcher can read leaves meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::db::{self, Completion, Db, Durability, Flow, Interrupted, KnownWork, Writer};
use crate::elsewhere::WorkerNote;
use crate::error::Result;
use crate::ids::RunId;
use crate::progress::Commit;
use crate::store::{Placed, Store};

use super::message::{AttemptReport, Message};
use super::permits::Due;

/// Completions that are enough for a commit. Each keeps gc out of the shards of its objects; so not many more.
pub(super) const GROUP: usize = 64;

/// With so many completions waiting behind a commit that doesn't end, because another program has locked the database or
/// the disk hangs, nothing more is started.
const PILE: usize = 16 * GROUP;

/// How long a completion may wait for others, as long as there are steps to run. A barrier makes whoever
/// creates files wait for the file system's journal; and without one, fewer transactions write the pages that
/// all of them touch less often (2 % of a run of 300,000 steps, against 5 ms).
const PATIENCE: Duration = Duration::from_millis(25);

/// An attempt on its way to the database.
pub(super) struct PendingCommit {
    pub(super) completion: Completion,
    /// Keep the objects from gc and in the barrier until the rows are committed.
    pub(super) placed: Vec<Placed>,
    pub(super) report: AttemptReport,
    /// The task has a limit of steps at once, and this one counts until it is committed.
    pub(super) is_urgent: bool,
}

/// What an attempt had printed that was not let come to its end, on its way to the database.
pub(super) struct InterruptedLog {
    pub(super) row: Interrupted,
    /// Bytes.
    pub(super) size: u64,
    /// As in [`PendingCommit`]; of several that share a log, the first one has it.
    pub(super) guard: Option<Placed>,
}

#[derive(Default)]
struct Queue {
    ready: Vec<PendingCommit>,
    interrupted: Vec<InterruptedLog>,
    /// When the first of them came.
    since: Option<Instant>,
    /// Something waits for one of them: the next step of a task that runs so many at once, no more.
    is_urgent: bool,
}

pub(super) struct Committer {
    pub(super) db: Arc<Db>,
    pub(super) store: Arc<Store>,
    pub(super) flow: Arc<Flow>,
    pub(super) run: RunId,
    pub(super) durability: Durability,
    pub(super) messages: flume::Sender<Message>,
    queue: Mutex<Queue>,
    /// What has become of workers, to be written no later than an attempt that one of them has made.
    notes: Mutex<Vec<WorkerNote>>,
    /// The queue was taken by whoever leads.
    taken: Condvar,
    lead: Mutex<()>,
    /// A commit failed: a second fsync may lie, so nothing more is recorded.
    broken: AtomicBool,
}

impl Committer {
    pub(super) fn new(
        db: Arc<Db>,
        store: Arc<Store>,
        flow: Arc<Flow>,
        run: RunId,
        durability: Durability,
        messages: flume::Sender<Message>,
    ) -> Committer {
        Committer {
            db,
            store,
            flow,
            run,
            durability,
            messages,
            queue: Mutex::default(),
            notes: Mutex::default(),
            taken: Condvar::new(),
            lead: Mutex::new(()),
            broken: AtomicBool::new(false),
        }
    }

    /// Hands in completions, to be committed together. True if they are the first ones that wait.
    pub(super) fn submit(&self, ready: Vec<PendingCommit>) -> bool {
        let mut queue = self.queue();
        queue.is_urgent |= ready.iter().any(|ready| ready.is_urgent);
        queue.ready.extend(ready);
        let is_first = queue.since.is_none();
        queue.since.get_or_insert_with(Instant::now);
        is_first
    }

    /// Hands in logs of interrupted attempts. True as in [`submit`](Self::submit).
    pub(super) fn submit_interrupted(&self, logs: Vec<InterruptedLog>) -> bool {
        if logs.is_empty() {
            return false;
        }
        let mut queue = self.queue();
        queue.interrupted.extend(logs);
        let is_first = queue.since.is_none();
        queue.since.get_or_insert_with(Instant::now);
        is_first
    }

    /// Whether anything waits for its commit, and nobody commits just now: whoever does looks again
    /// before it takes another step.
    pub(super) fn wants_lead(&self) -> bool {
        self.queue().since.is_some() && !self.is_led()
    }

    /// When somebody ought to take the lead.
    pub(super) fn due(&self) -> Due {
        let queue = self.queue();
        match queue.since {
            None => Due::Never,
            // Whoever has the lead looks again when it gives it up.
            Some(_) if self.is_led() => Due::Never,
            Some(_) if queue.is_urgent || queue.ready.len() >= GROUP => Due::Now,
            Some(since) if since.elapsed() >= PATIENCE => Due::Now,
            Some(since) => Due::At(since + PATIENCE),
        }
    }

    fn is_led(&self) -> bool {
        self.lead.try_lock().is_err()
    }

    /// Commits everything queued, unless somebody else is about to do that. True if more is queued by
    /// then, which whoever waits for a slot has to be told.
    pub(super) fn lead(&self) -> bool {
        loop {
            let Ok(lead) = self.lead.try_lock() else { return false };
            let group = std::mem::take(&mut *self.queue());
            self.taken.notify_all();
            if group.since.is_some() {
                self.commit(group);
            }
            drop(lead);
            // Somebody may have queued after the last look and found the lead taken.
            match self.due() {
                Due::Now => {}
                Due::At(_) => return true,
                Due::Never => return false,
            }
        }
    }

    /// Waits as long as a commit is under way behind which too much has piled up already.
    pub(super) fn wait_for_room(&self) {
        let mut queue = self.queue();
        while queue.ready.len() >= PILE && self.is_led() {
            // Whoever leads takes the queue before it gives up the lead; the limit is for one who was about to when
            // it was filled.
            let woken = self.taken.wait_timeout(queue, PATIENCE);
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Gives leaves the results of steps that have done the same work, or lets them fail with them. What that made possible is told behind everything
    /// that is committed already: some of these leaves may be too new to be counted yet. Whoever waits for a slot has
    /// to be told that the lead was taken meanwhile.
    ///
    /// # Errors
    /// If the rows can't be written.
    pub(super) fn share_known(&self, known: &[KnownWork]) -> Result<()> {
        let _lead = self.lead.lock().unwrap_or_else(PoisonError::into_inner);
        let effects = self.db.write(|writer| db::share_known(writer, &self.flow, known))?;
        self.say(Message::Shared(effects));
        Ok(())
    }

    /// Takes what has become of a worker: it is kept with the next attempts, or [before](Self::keep_notes).
    pub(super) fn note(&self, note: WorkerNote) {
        self.notes().push(note);
    }

    /// Keeps what has become of workers, if it isn't kept yet.
    ///
    /// # Errors
    /// If the rows can't be written.
    pub(super) fn keep_notes(&self) -> Result<()> {
        if self.broken.load(Ordering::Acquire) || self.notes().is_empty() {
            return Ok(());
        }
        self.db.write(|writer| self.write_notes(writer))
    }

    fn write_notes(&self, writer: &mut Writer) -> Result<()> {
        let notes = std::mem::take(&mut *self.notes());
        db::note_workers(writer, self.run, &notes)
    }

    fn notes(&self) -> MutexGuard<'_, Vec<WorkerNote>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit(&self, group: Queue) {
        let Queue { ready, interrupted, .. } = group;
        let mut completions = Vec::with_capacity(ready.len());
        let mut placed = Vec::new();
        let mut reports = Vec::with_capacity(ready.len());
        let began = Instant::now();
        let mut logs = Vec::with_capacity(interrupted.len());
        for InterruptedLog { row, size, guard } in interrupted {
            logs.push((row, size));
            placed.extend(guard);
        }
        for ready in ready {
            completions.push(ready.completion);
            placed.extend(ready.placed);
            reports.push(ready.report);
        }
        if self.broken.load(Ordering::Acquire) {
            self.say(Message::Dropped {
                jobs: reports.into_iter().map(|ended| ended.job).collect(),
            });
            return;
        }
        match self.keep(&completions, &logs, &placed) {
            Ok((effects, synced)) => {
                for placed in &placed {
                    self.store.note_committed(&placed.hash);
                }
                // The objects' guards go now: rows prove them.
                drop(placed);
                let steps = reports.len();
                if steps == 0 {
                    return;
                }
                let commit = Commit { steps, began, synced, ended: Instant::now() };
                let ended = reports.into_iter().zip(completions).collect();
                self.say(Message::Committed { ended, effects, commit });
            }
            Err(error) => {
                self.broken.store(true, Ordering::Release);
                self.say(Message::Broken { jobs: Vec::new(), error });
                self.say(Message::Dropped {
                    jobs: reports.into_iter().map(|ended| ended.job).collect(),
                });
            }
        }
    }

    /// Object complete under its name, then durable, then the row. Says when they were durable.
    fn keep(
        &self,
        completions: &[Completion],
        logs: &[(Interrupted, u64)],
        placed: &[Placed],
    ) -> Result<(db::Effects, Instant)> {
        if self.durability == Durability::Batch && !placed.is_empty() {
            self.store.sync(&placed.iter().collect::<Vec<_>>())?;
        }
        let synced = Instant::now();
        let effects = self.db.write(|writer| {
            self.write_notes(writer)?;
            db::note_interrupted(writer, logs)?;
            db::commit(writer, &self.flow, self.run, completions)
        })?;
        Ok((effects, synced))
    }

    fn say(&self, message: Message) {
        // The dispatcher outlives every worker, so this can't fail while it matters.
        let _ = self.messages.send(message);
    }
}
