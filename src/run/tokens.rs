//! The tokens of a jobserver: one for each script that runs. This process owns one from birth, the
//! others are asked for. They are asked for by a thread of the crate's, since whoever reads from the pipe
//! can't wait for anything else; the workers wait here, where they hear both of tokens and of the end.
//! Unlike a slot a token goes back after each script: others than we may be waiting for it.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jobserver::{Acquired, Client, HelperThread};

use crate::error::{OrIo, Result};
use crate::stop::StopSwitch;

/// Nothing to do with a jobserver if there is none: then a token is to be had at once, always.
pub(super) struct Tokens {
    shared: Arc<Shared>,
    asking: Option<HelperThread>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    stop: Arc<StopSwitch>,
    /// There is a token, or the run stops.
    changed: Condvar,
}

#[derive(Default)]
struct State {
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
    shared: &'a Shared,
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
        let shared = Arc::new(Shared { stop, ..Shared::default() });
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
                crate::sys::unblock(&[libc::SIGUSR1]).or_io("listen for", "signals")?;
                let shared = Arc::clone(&shared);
                let take_in = move |token: io::Result<Acquired>| shared.take_in(token.ok());
                let thread = client.into_helper_thread(take_in);
                Some(thread.or_io("start a thread of", "/proc/self")?)
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

impl State {
    fn pick(&mut self) -> Option<Kind> {
        if !self.own_is_taken {
            self.own_is_taken = true;
            return Some(Kind::Own);
        }
        self.arrived.pop().map(Kind::Lent)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
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
