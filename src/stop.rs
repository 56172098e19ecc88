//! Whether a run goes on: one value for everybody who starts scripts, waits to start one, or ends them.
//! Unaware of why it changes.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// How a run goes on. It only ever moves to a later one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Stop {
    /// Scripts are started.
    Go,
    /// No more scripts are started; those that run are waited for.
    Drain,
    /// Scripts that run are sent TERM, and KILL after the grace.
    Term,
    /// Scripts that run are sent KILL.
    Kill,
}

const ALL: [Stop; 4] = [Stop::Go, Stop::Drain, Stop::Term, Stop::Kill];

type Listener = Box<dyn Fn() + Send + Sync>;

/// The one place that holds a run's [`Stop`]. Whoever waits for something else, and must not go on waiting
/// when the run stops, is woken by a listener and then asks [`StopSwitch::now`]; nobody keeps a copy.
#[derive(Default)]
pub struct StopSwitch {
    now: AtomicU8,
    listeners: Mutex<Vec<Listener>>,
}

impl StopSwitch {
    /// How the run goes on at this moment.
    pub fn now(&self) -> Stop {
        ALL[usize::from(self.now.load(Ordering::SeqCst)).min(ALL.len() - 1)]
    }

    /// True if scripts may be started.
    pub fn may_start(&self) -> bool {
        self.now() == Stop::Go
    }

    /// Moves on to `to`, unless it is there or beyond already, and wakes all listeners.
    pub fn advance(&self, to: Stop) {
        if self.now.fetch_max(to as u8, Ordering::SeqCst) >= to as u8 {
            return;
        }
        for listener in &*self.listeners.lock().unwrap_or_else(PoisonError::into_inner) {
            listener();
        }
    }

    /// Calls `listener` after every change, on the thread that makes it. It must not block, nor call back
    /// into this switch but for [`StopSwitch::now`].
    pub fn listen(&self, listener: impl Fn() + Send + Sync + 'static) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Box::new(listener));
    }
}

impl fmt::Debug for StopSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StopSwitch({:?})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn it_only_moves_on_and_wakes_listeners_when_it_does() {
        let stop = StopSwitch::default();
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        stop.listen(move || {
            count.fetch_add(1, Ordering::SeqCst);
        });
        assert!(stop.may_start());
        stop.advance(Stop::Term);
        stop.advance(Stop::Drain);
        stop.advance(Stop::Term);
        assert_eq!((stop.now(), woken.load(Ordering::SeqCst)), (Stop::Term, 1));
        stop.advance(Stop::Kill);
        assert_eq!((stop.now(), woken.load(Ordering::SeqCst)), (Stop::Kill, 2));
    }
}
