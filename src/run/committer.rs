//! Group commit, leader and follower: a worker queues its completion, and whoever gets the lead
//! commits everything queued, barrier first. No timer: a lone slow step commits at once, fast steps
//! form groups by themselves, and the busier the pool, the more of them share one barrier.
//!
//! The barrier runs without the connection's mutex, so that the dispatcher can read leaves meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::db::{self, Completion, Db, Durability, Flow};
use crate::error::Result;
use crate::ids::RunId;
use crate::progress::Commit;
use crate::store::{Placed, Store};

use super::shared::{Finish, Message};

/// An attempt on its way to the database.
pub(super) struct Ready {
    pub(super) completion: Completion,
    /// Keep the objects from gc and in the barrier until the rows are committed.
    pub(super) placed: Vec<Placed>,
    pub(super) finish: Finish,
}

pub(super) struct Committer {
    pub(super) db: Arc<Db>,
    pub(super) store: Arc<Store>,
    pub(super) flow: Arc<Flow>,
    pub(super) run: RunId,
    pub(super) durability: Durability,
    pub(super) messages: flume::Sender<Message>,
    queue: Mutex<Vec<Ready>>,
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
            queue: Mutex::new(Vec::new()),
            lead: Mutex::new(()),
            broken: AtomicBool::new(false),
        }
    }

    /// Hands in a completion. Returns at once if somebody else has the lead, who will commit it.
    pub(super) fn submit(&self, ready: Ready) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push(ready);
        loop {
            let Ok(lead) = self.lead.try_lock() else { return };
            loop {
                let group =
                    std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner));
                if group.is_empty() {
                    break;
                }
                self.commit(group);
            }
            drop(lead);
            // Somebody may have queued after the last look and found the lead taken.
            if self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
                return;
            }
        }
    }

    fn commit(&self, group: Vec<Ready>) {
        let mut completions = Vec::with_capacity(group.len());
        let mut placed = Vec::new();
        let mut finishes = Vec::with_capacity(group.len());
        let began = Instant::now();
        for ready in group {
            completions.push(ready.completion);
            placed.extend(ready.placed);
            finishes.push(ready.finish);
        }
        if self.broken.load(Ordering::Acquire) {
            for finish in finishes {
                self.say(Message::Dropped { job: finish.job });
            }
            return;
        }
        match self.keep(&completions, &placed) {
            Ok((effects, synced)) => {
                for placed in &placed {
                    self.store.note_committed(&placed.hash);
                }
                // The objects' guards go now: rows prove them.
                drop(placed);
                let steps = finishes.len();
                let commit = Commit { steps, began, synced, ended: Instant::now() };
                let ended = finishes.into_iter().zip(completions).collect();
                self.say(Message::Committed { ended, effects, commit });
            }
            Err(error) => {
                self.broken.store(true, Ordering::Release);
                self.say(Message::Broken { job: None, error });
                for finish in finishes {
                    self.say(Message::Dropped { job: finish.job });
                }
            }
        }
    }

    /// Object complete under its name, then durable, then the row. Says when they were durable.
    fn keep(
        &self,
        completions: &[Completion],
        placed: &[Placed],
    ) -> Result<(db::Effects, Instant)> {
        if self.durability == Durability::Batch && !placed.is_empty() {
            self.store.sync(&placed.iter().collect::<Vec<_>>())?;
        }
        let synced = Instant::now();
        let effects = db::commit(&mut self.db.lock(), &self.flow, self.run, completions)?;
        Ok((effects, synced))
    }

    fn say(&self, message: Message) {
        // The dispatcher outlives every worker, so this can't fail while it matters.
        let _ = self.messages.send(message);
    }
}
