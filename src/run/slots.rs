//! How many scripts run at once. The pool has one thread more than there are slots: a worker that
//! waits for the disk in a commit holds no slot, so the scripts go on.
//!
//! With a jobserver a slot needs a token as well: the one that this process owns from birth, or one
//! that is asked for. Tokens are asked for by a thread of the crate's, since whoever reads from the pipe
//! can't wait for anything else; the workers wait here, where they hear both of tokens and of the end.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jobserver::{Acquired, Client, HelperThread};

use crate::error::{OrIo, Result};

pub(super) struct Slots {
    shared: Arc<Shared>,
    asking: Option<HelperThread>,
}

struct Shared {
    state: Mutex<State>,
    /// There is a free slot, or the end.
    freed: Condvar,
    /// There is a token, or the end.
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    free: usize,
    is_closed: bool,
    /// Our own token is in use.
    own_is_taken: bool,
    /// Tokens that no worker has taken yet.
    tokens: Vec<Acquired>,
    /// Workers that have a slot and need a token.
    waiting: usize,
    /// Tokens that are asked for.
    asked: usize,
    /// The jobserver is gone: our own token has to do.
    is_cut_off: bool,
}

/// Permission to run a script; given back when dropped.
pub(super) struct Slot<'a> {
    shared: &'a Shared,
    token: Option<Token>,
}

enum Token {
    Own,
    /// Goes back to the jobserver when it is dropped.
    #[expect(dead_code, reason = "held for its drop")]
    Lent(Acquired),
}

impl Slots {
    pub(super) fn new(count: usize, jobserver: Option<Client>) -> Result<Slots> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { free: count, ..State::default() }),
            freed: Condvar::new(),
            arrived: Condvar::new(),
        });
        let asking = match jobserver {
            None => None,
            Some(client) => {
                // The crate ends its thread with this signal: blocked, it would leave with a token.
                crate::sys::unblock(&[libc::SIGUSR1]).or_io("listen for", "signals")?;
                let shared = Arc::clone(&shared);
                let take_in = move |token: std::io::Result<Acquired>| shared.take_in(token.ok());
                let thread = client.into_helper_thread(take_in);
                Some(thread.or_io("start a thread of", "/proc/self")?)
            }
        };
        Ok(Slots { shared, asking })
    }

    /// Waits for a free slot and, if need be, for a token. `None`: no more is to be started.
    pub(super) fn take(&self) -> Option<Slot<'_>> {
        let shared = &*self.shared;
        let mut state = shared.state();
        while state.free == 0 && !state.is_closed {
            state = shared.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return None;
        }
        state.free -= 1;
        let Some(asking) = &self.asking else { return Some(Slot { shared, token: None }) };
        state.waiting += 1;
        let token = loop {
            if state.is_closed {
                break None;
            }
            if let Some(token) = state.token() {
                break Some(token);
            }
            if state.asked < state.waiting && !state.is_cut_off {
                state.asked += 1;
                asking.request_token();
            }
            state = shared.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.waiting -= 1;
        // Ours came back before the one that was asked for: somebody else may need that.
        let surplus = if state.tokens.len() > state.waiting { state.tokens.pop() } else { None };
        if token.is_none() {
            state.free += 1;
        }
        drop(state);
        drop(surplus);
        token.map(|token| Slot { shared, token: Some(token) })
    }

    /// No more is to be started: nobody waits any longer, and nobody gets a slot.
    pub(super) fn close(&self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        let tokens = std::mem::take(&mut state.tokens);
        drop(state);
        drop(tokens);
        self.shared.freed.notify_all();
        self.shared.arrived.notify_all();
    }
}

impl State {
    fn token(&mut self) -> Option<Token> {
        if !self.own_is_taken {
            self.own_is_taken = true;
            return Some(Token::Own);
        }
        self.tokens.pop().map(Token::Lent)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came of asking for a token. One that nobody waits for any more goes back at once.
    fn take_in(&self, token: Option<Acquired>) {
        let mut state = self.state();
        state.asked = state.asked.saturating_sub(1);
        state.is_cut_off |= token.is_none();
        if state.waiting > state.tokens.len() && !state.is_closed {
            state.tokens.extend(token);
            self.arrived.notify_all();
        } else {
            drop(state);
            drop(token);
        }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let own = matches!(self.token, Some(Token::Own));
        // Before the slot is free, or its next holder would ask for another one.
        drop(self.token.take());
        let mut state = self.shared.state();
        state.free += 1;
        if own {
            state.own_is_taken = false;
            self.shared.arrived.notify_all();
        }
        drop(state);
        self.shared.freed.notify_one();
    }
}
