//! Permission to run a script: a slot of ours, and a token of the jobserver if there is one.
//!
//! # Slots
//!
//! How many scripts run at once. The pool has one thread more than there are slots; the one without a slot
//! commits, so that the scripts go on while the disk is waited for.
//!
//! A worker keeps its slot from step to step: handing it over would cost a thread switch a step, which on two
//! cores is a tenth of what starting `sh` costs. Slots, not threads, are what users see as workers: there are
//! never more of them than scripts at once.
//!
//! # Tokens
//!
//! One token for each script that runs. This process owns one from birth, the others are asked for. A thread
//! of the crate's asks, because whoever reads from the pipe can't wait for anything else; the workers wait
//! here, where they hear both of tokens and of the end. A token is returned after every script, because other
//! processes share the jobserver.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jobserver::{Acquired, Client, HelperThread};

use crate::error::{OrIo, Result};
use crate::stop::StopSwitch;

pub(super) struct Slots {
    free: Mutex<BinaryHeap<Reverse<usize>>>,
    changed: Condvar,
}

/// Permission to run scripts, one at a time; given back when dropped.
pub(super) struct Slot<'a> {
    slots: &'a Slots,
    /// From 1.
    pub(super) number: usize,
}

impl Slots {
    pub(super) fn new(count: usize) -> Slots {
        Slots { free: Mutex::new((1..=count).map(Reverse).collect()), changed: Condvar::new() }
    }

    /// Waits for a free slot, and takes the one with the lowest number. `None` when `due` says that there
    /// is something else to do first; it is asked at the start, at each [`Slots::wake`], and when the
    /// time comes that it named.
    pub(super) fn take(&self, due: impl Fn() -> Due) -> Option<Slot<'_>> {
        let mut free = self.free();
        loop {
            if let Some(Reverse(number)) = free.pop() {
                return Some(Slot { slots: self, number });
            }
            free = match due() {
                Due::Now => return None,
                Due::Never => self.changed.wait(free).unwrap_or_else(PoisonError::into_inner),
                Due::At(time) => {
                    let left = time.saturating_duration_since(Instant::now());
                    let woken = self.changed.wait_timeout(free, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Lets whoever waits for a slot ask anew what is due.
    pub(super) fn wake(&self) {
        // Under the mutex, or it could come between somebody's question and their sleep.
        let _free = self.free();
        self.changed.notify_one();
    }

    fn free(&self) -> MutexGuard<'_, BinaryHeap<Reverse<usize>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When whoever waits for a slot has something else to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
    Never,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.free().push(Reverse(self.number));
        self.slots.changed.notify_one();
    }
}

/// Nothing to do with a jobserver if there is none: then a token is to be had at once, always.
pub(super) struct Tokens {
    shared: Arc<TokenPool>,
    asking: Option<HelperThread>,
}

#[derive(Default)]
struct TokenPool {
    state: Mutex<TokenState>,
    stop: Arc<StopSwitch>,
    /// There is a token, or the run stops.
    changed: Condvar,
}

#[derive(Default)]
struct TokenState {
    /// Our own is in use.
    own_is_taken: bool,
    /// Those that no worker has taken yet.
    arrived: Vec<Acquired>,
    /// Workers that need one.
    waiting: usize,
    /// How many are asked for.
    asked: usize,
    /// The jobserver is gone: our own token has to do.
    is_cut_off: bool,
}

/// Permission to run one script; given back when dropped.
pub(super) struct Token<'a> {
    shared: &'a TokenPool,
    kind: Kind,
}

enum Kind {
    /// There is no jobserver.
    Free,
    Own,
    /// Goes back to the jobserver when it is dropped.
    #[expect(dead_code, reason = "held for its drop")]
    Lent(Acquired),
}

impl Tokens {
    pub(super) fn new(jobserver: Option<Client>, stop: Arc<StopSwitch>) -> Result<Tokens> {
        let shared = Arc::new(TokenPool { stop, ..TokenPool::default() });
        // Weak, or the switch and its listener would keep each other for ever.
        let woken = Arc::downgrade(&shared);
        shared.stop.listen(move || {
            if let Some(shared) = woken.upgrade() {
                shared.let_go();
            }
        });
        let asking = match jobserver {
            None => None,
            Some(client) => {
                // The crate ends its thread with this signal: blocked, it would leave with a token.
                crate::sys::unblock(&[libc::SIGUSR1]).or_system("listen for signals")?;
                let shared = Arc::clone(&shared);
                let take_in = move |token: io::Result<Acquired>| shared.take_in(token.ok());
                let thread = client.into_helper_thread(take_in);
                Some(thread.or_system("start a thread")?)
            }
        };
        Ok(Tokens { shared, asking })
    }

    /// Waits for a token. `None`: no more is to be started.
    pub(super) fn take(&self) -> Option<Token<'_>> {
        let shared = &*self.shared;
        let Some(asking) = &self.asking else { return Some(Token { shared, kind: Kind::Free }) };
        let mut state = shared.state();
        state.waiting += 1;
        let kind = loop {
            if !shared.stop.may_start() {
                break None;
            }
            if let Some(kind) = state.pick() {
                break Some(kind);
            }
            if state.asked < state.waiting && !state.is_cut_off {
                state.asked += 1;
                asking.request_token();
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.waiting -= 1;
        // Ours came back before the one that was asked for: somebody else may need that.
        let surplus = if state.arrived.len() > state.waiting { state.arrived.pop() } else { None };
        drop(state);
        drop(surplus);
        kind.map(|kind| Token { shared, kind })
    }
}

impl TokenState {
    fn pick(&mut self) -> Option<Kind> {
        if !self.own_is_taken {
            self.own_is_taken = true;
            return Some(Kind::Own);
        }
        self.arrived.pop().map(Kind::Lent)
    }
}

impl TokenPool {
    fn state(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run stops: nobody waits any longer, and tokens that nobody has taken go back.
    fn let_go(&self) {
        let arrived = std::mem::take(&mut self.state().arrived);
        drop(arrived);
        self.changed.notify_all();
    }

    /// What came of asking for a token. One that nobody waits for any more goes back at once.
    fn take_in(&self, token: Option<Acquired>) {
        let mut state = self.state();
        state.asked = state.asked.saturating_sub(1);
        state.is_cut_off |= token.is_none();
        if state.waiting > state.arrived.len() && self.stop.may_start() {
            state.arrived.extend(token);
            self.changed.notify_all();
        } else {
            drop(state);
            drop(token);
        }
    }
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        if matches!(self.kind, Kind::Own) {
            self.shared.state().own_is_taken = false;
            self.shared.changed.notify_all();
        }
    }
}
