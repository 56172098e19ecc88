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
//! asks, because whoever waits for the pipe can't wait for a mutex; the workers wait here, where they hear both
//! of tokens and of the end. (The jobserver crate has such a thread, too, but ends it with SIGUSR1, which batch
//! systems send to end a job.) A token is returned after every script, because other processes share the
//! jobserver.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;

use crate::error::{OrIo, Result};
use crate::jobserver::LentToken;
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
    asking: Option<Asking>,
}

/// The thread that waits for tokens.
struct Asking {
    /// Tells it that something has changed.
    wake: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
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
    arrived: Vec<LentToken>,
    /// Workers that need one.
    waiting: usize,
    /// How many are asked for.
    asked: usize,
    /// The jobserver is gone: our own token has to do.
    is_cut_off: bool,
    /// Nobody will ask any more.
    is_over: bool,
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
    Lent(LentToken),
}

impl Tokens {
    pub(super) fn new(tokens: Option<Arc<File>>, stop: Arc<StopSwitch>) -> Result<Tokens> {
        let shared = Arc::new(TokenPool { stop, ..TokenPool::default() });
        // Weak, or the switch and its listener would keep each other for ever.
        let woken = Arc::downgrade(&shared);
        shared.stop.listen(move || {
            if let Some(shared) = woken.upgrade() {
                shared.let_go();
            }
        });
        let asking = match tokens {
            None => None,
            Some(tokens) => {
                let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
                let wake = rustix::event::eventfd(0, flags).or_system("wait for tokens")?;
                let (wake, shared) = (Arc::new(wake), Arc::clone(&shared));
                let woken = Arc::clone(&wake);
                let thread = std::thread::Builder::new().name("tokens".to_owned());
                let thread = thread.spawn(move || shared.ask(&tokens, &woken));
                Some(Asking { wake, thread: Some(thread.or_system("start a thread")?) })
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
                asking.wake();
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

impl Asking {
    fn wake(&self) {
        // It fails only if the thread was woken 2^64 times and never looked.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(asking) = &mut self.asking {
            self.shared.state().is_over = true;
            asking.wake();
            if let Some(thread) = asking.thread.take() {
                let _ = thread.join();
            }
        }
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

    /// Takes tokens in as long as some are asked for.
    fn ask(&self, tokens: &Arc<File>, wake: &OwnedFd) {
        loop {
            let watched = match &*self.state() {
                TokenState { is_over: true, .. } => return,
                TokenState { asked: 0, .. } => 1,
                _ => 2,
            };
            let mut ready =
                [PollFd::new(wake, PollFlags::IN), PollFd::new(&**tokens, PollFlags::IN)];
            match rustix::event::poll(&mut ready[..watched], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return self.take_in(None),
            }
            // Before the state is looked at again, so that no call is missed.
            let _ = rustix::io::read(wake, &mut [0; 8]);
            if ready[1].revents().is_empty() {
                continue;
            }
            let mut byte = [0];
            match (&**tokens).read(&mut byte) {
                Ok(1) => {
                    self.take_in(Some(LentToken { tokens: Arc::clone(tokens), byte: byte[0] }))
                }
                // Another process was faster.
                Err(err)
                    if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                _ => self.take_in(None),
            }
        }
    }

    /// The run stops: nobody waits any longer, and tokens that nobody has taken go back.
    fn let_go(&self) {
        let arrived = std::mem::take(&mut self.state().arrived);
        drop(arrived);
        self.changed.notify_all();
    }

    /// What came of asking for a token. One that nobody waits for any more goes back at once.
    fn take_in(&self, token: Option<LentToken>) {
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
