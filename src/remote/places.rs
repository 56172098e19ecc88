//! Where attempts can be made: slots of workers that have connected, and those of this machine. An attempt that needs
//! several processors, memory, or something that `--have` names takes all of it from one worker.
//!
//! Nobody starves: who came first and has no room yet keeps the worker that has most room for itself, until it has all
//! it needs there; those behind go elsewhere. Who asks for more than any worker has gets a whole one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::exec::{Executor, Needs};
use crate::stop::StopSwitch;

use super::line::Inbox;
use super::link::Link;
use super::wire::WireMessage;

/// What there is at one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) cpus: usize,
    /// Bytes.
    pub(super) memory: u64,
    /// By place in `--have`.
    pub(super) uses: Vec<usize>,
}

/// Makes attempts, one at a time.
pub(super) enum Berth {
    Here { executor: Box<dyn Executor>, number: usize },
    There { link: Arc<Link>, number: usize, inbox: Inbox },
}

/// A slot that somebody has taken, with all that goes with it. To be [given back](Places::give_back).
pub(super) struct Booking {
    member: u64,
    room: Room,
    pub(super) slot: Berth,
}

impl Booking {
    /// Processors.
    pub(super) fn cpus(&self) -> usize {
        self.room.cpus
    }
}

struct Member {
    all: Room,
    free: Room,
    slots: Vec<Berth>,
    /// It takes no more.
    is_leaving: bool,
}

struct Waiter {
    ticket: u64,
    needs: Needs,
}

#[derive(Default)]
struct Members {
    members: HashMap<u64, Member>,
    next: u64,
    line: VecDeque<Waiter>,
    granted: HashMap<u64, Booking>,
    /// Why there will be no more members.
    end: Option<String>,
}

pub(super) struct Places {
    state: Mutex<Members>,
    changed: Condvar,
    stop: Arc<StopSwitch>,
}

impl Room {
    /// What of the needs can be had here at all.
    fn clamp(&self, needs: &Needs) -> Room {
        let mut uses = vec![0; self.uses.len()];
        for &(kind, count) in &needs.uses {
            if let Some(used) = uses.get_mut(kind) {
                *used = count.min(self.uses[kind]);
            }
        }
        Room {
            cpus: needs.cpus.clamp(1, self.cpus.max(1)),
            memory: needs.memory.min(self.memory),
            uses,
        }
    }

    /// How far it can meet the needs: who has less than was asked for is a last resort.
    fn meets(&self, needs: &Needs) -> bool {
        let has =
            |&(kind, count): &(usize, usize)| self.uses.get(kind).is_some_and(|&n| n >= count);
        self.cpus >= needs.cpus && self.memory >= needs.memory && needs.uses.iter().all(has)
    }

    fn has(&self, room: &Room) -> bool {
        self.cpus >= room.cpus
            && self.memory >= room.memory
            && self.uses.iter().zip(&room.uses).all(|(free, used)| free >= used)
    }

    fn take(&mut self, room: &Room) {
        self.cpus -= room.cpus;
        self.memory -= room.memory;
        self.uses.iter_mut().zip(&room.uses).for_each(|(free, used)| *free -= used);
    }

    fn give_back(&mut self, room: &Room) {
        self.cpus += room.cpus;
        self.memory += room.memory;
        self.uses.iter_mut().zip(&room.uses).for_each(|(free, used)| *free += used);
    }
}

impl Places {
    pub(super) fn new(stop: Arc<StopSwitch>) -> Arc<Places> {
        let places = Arc::new(Places { state: Mutex::default(), changed: Condvar::new(), stop });
        // Weak, or the switch and its listener would keep each other for ever.
        let woken = Arc::downgrade(&places);
        places.stop.listen(move || {
            if let Some(places) = woken.upgrade() {
                // Under the mutex, or it could come between somebody's last look and their sleep.
                let _state = places.state();
                places.changed.notify_all();
            }
        });
        places
    }

    fn state(&self) -> MutexGuard<'_, Members> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds slots; the number is how they are [removed](Self::remove).
    pub(super) fn add(&self, all: Room, slots: Vec<Berth>) -> u64 {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        let member = Member { free: all.clone(), all, slots, is_leaving: false };
        state.members.insert(number, member);
        self.grant(&mut state);
        number
    }

    /// Attempts are made there no more; when those under way are over, the worker is dismissed.
    pub(super) fn leave(&self, member: u64) {
        let mut state = self.state();
        let idle = state.members.get_mut(&member).and_then(|member| {
            member.is_leaving = true;
            member.dismissed()
        });
        self.grant(&mut state);
        drop(state);
        dismiss(idle);
    }

    pub(super) fn remove(&self, member: u64) {
        let mut state = self.state();
        state.members.remove(&member);
        self.grant(&mut state);
    }

    /// There will be no more places: who waits for one and finds none is told why.
    pub(super) fn close(&self, why: String) {
        self.state().end.get_or_insert(why);
        self.changed.notify_all();
    }

    /// Waits for a slot with all that is needed. `None`: the run is stopping.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there is no place, and never will be.
    pub(super) fn take(&self, needs: &Needs) -> Result<Option<Booking>> {
        let mut state = self.state();
        state.next += 1;
        let ticket = state.next;
        state.line.push_back(Waiter { ticket, needs: needs.clone() });
        self.grant(&mut state);
        loop {
            if let Some(taken) = state.granted.remove(&ticket) {
                return Ok(Some(taken));
            }
            let none_left = state
                .end
                .clone()
                .filter(|_| !state.members.values().any(|member| !member.is_leaving));
            if none_left.is_some() || !self.stop.may_start() {
                state.line.retain(|waiter| waiter.ticket != ticket);
                return none_left.map_or(Ok(None), |why| Err(Error::Unavailable(why)));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// An attempt is over. A slot of somebody who is gone is not used again.
    pub(super) fn give_back(&self, taken: Booking) {
        let mut idle = None;
        let mut state = self.state();
        if let Some(member) = state.members.get_mut(&taken.member) {
            let is_gone = match &taken.slot {
                Berth::Here { .. } => false,
                Berth::There { link, .. } => link.line.end().is_some(),
            };
            member.is_leaving |= is_gone;
            member.free.give_back(&taken.room);
            member.slots.push(taken.slot);
            idle = member.dismissed();
        }
        self.grant(&mut state);
        drop(state);
        dismiss(idle);
    }

    /// Gives those who wait what there is, the first in line first.
    fn grant(&self, state: &mut Members) {
        let mut kept = HashSet::new();
        let mut at = 0;
        let mut has_granted = false;
        while let Some(waiter) = state.line.get(at) {
            let Some(number) = state.choose(&waiter.needs, &kept) else {
                at += 1;
                continue;
            };
            let Some(member) = state.members.get_mut(&number) else { return };
            let room = member.all.clamp(&waiter.needs);
            match member.free.has(&room).then(|| member.slots.pop()).flatten() {
                Some(slot) => {
                    member.free.take(&room);
                    let ticket = waiter.ticket;
                    state.granted.insert(ticket, Booking { member: number, room, slot });
                    state.line.remove(at);
                    has_granted = true;
                }
                None => {
                    kept.insert(number);
                    at += 1;
                }
            }
        }
        if has_granted || state.end.is_some() {
            self.changed.notify_all();
        }
    }
}

impl Member {
    /// The worker, if it is to go and nothing is made there any more.
    fn dismissed(&self) -> Option<Arc<Link>> {
        match self.slots.first() {
            Some(Berth::There { link, .. }) if self.is_leaving && self.free == self.all => {
                Some(Arc::clone(link))
            }
            _ => None,
        }
    }
}

fn dismiss(link: Option<Arc<Link>>) {
    // One that can't be told is told by the end of its connection.
    let _ = link.map(|link| link.line.send(&WireMessage::Bye, &[]));
}

impl Members {
    /// The place for somebody with these needs: the one that has room now, of those that ever could the one with most
    /// processors free.
    fn choose(&self, needs: &Needs, kept: &HashSet<u64>) -> Option<u64> {
        let all = || self.members.iter().filter(|(_, member)| !member.is_leaving);
        let can_meet = all().any(|(_, member)| member.all.meets(needs));
        let most = all().map(|(_, member)| member.all.cpus).max().unwrap_or(0);
        let serves = |member: &Member| match can_meet {
            true => member.all.meets(needs),
            // Then a whole one, of the largest.
            false => member.all.cpus == most,
        };
        let rank = |(number, member): &(&u64, &Member)| {
            let has_room = member.free.has(&member.all.clamp(needs));
            (has_room, member.free.cpus, std::cmp::Reverse(**number))
        };
        all()
            .filter(|(number, member)| !kept.contains(number) && serves(member))
            .max_by_key(rank)
            .map(|(number, _)| *number)
    }
}
