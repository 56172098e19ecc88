//! Tokens of a jobserver, taken by this process for the scripts that it runs.
//!
//! One token for each script that runs. This process owns one from birth, the others are asked for. A thread
//! asks, because whoever waits for the pipe can't wait for a mutex; the workers wait here, where they hear both
//! of tokens and of the end. (The jobserver crate has such a thread, too, but ends it with SIGUSR1, which batch
//! systems send to end a job.) A token is returned after every script, because other processes share the
//! jobserver.
//!
//! A script of several processors needs as many tokens. It gets them all at once: what is there but too
//! little goes back, or two who need several, in this process or in two, would each hold some and wait for the
//! other's for ever. Within this process whoever is first in line gets its tokens first. But there may never be so many: each
//! further process that make runs holds one for as long as it lives, a task-pipeline beside this one say. So after
//! [`PATIENCE`] a script is given those that are there, if only our own, and is told that it has so many
//! processors; and the next ones don't wait for more than were there then.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::hash::BuildHasher as _;
use std::io::{ErrorKind, Read as _};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{OrIo, Result};
use crate::jobserver::LentToken;
use crate::stop::StopSwitch;

/// Nothing to do with a jobserver if there is none: then tokens are to be had at once, always.
pub(crate) struct Tokens {
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
    /// Somebody's turn has come, or the run stops.
    changed: Condvar,
}

#[derive(Default)]
struct TokenState {
    /// Our own is in use.
    own_is_taken: bool,
    /// Workers that need some, the first in line first.
    line: VecDeque<Waiting>,
    /// By ticket: what those who waited got.
    granted: HashMap<u64, Vec<Kind>>,
    tickets: u64,
    /// The jobserver is gone: our own token has to do.
    is_cut_off: bool,
    /// Nobody will ask any more.
    is_over: bool,
}

/// A worker that needs tokens.
struct Waiting {
    ticket: u64,
    count: usize,
}

/// Permission to run one script; given back when dropped.
pub(crate) struct Token<'a> {
    tokens: &'a Tokens,
    /// One for each processor that the script has.
    kinds: Vec<Kind>,
    cpus: usize,
}

enum Kind {
    Own,
    /// Goes back to the jobserver when it is dropped.
    #[expect(dead_code, reason = "held for its drop")]
    Lent(LentToken),
}

impl Tokens {
    pub(crate) fn new(tokens: Option<Arc<File>>, stop: Arc<StopSwitch>) -> Result<Tokens> {
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

    /// Waits for so many tokens; may give fewer, see the essay. `None`: no more is to be started.
    pub(crate) fn take(&self, count: usize) -> Option<Token<'_>> {
        let shared = &*self.shared;
        let Some(asking) = &self.asking else {
            return Some(Token { tokens: self, kinds: Vec::new(), cpus: count });
        };
        let mut state = shared.state();
        state.tickets += 1;
        let ticket = state.tickets;
        state.line.push_back(Waiting { ticket, count });
        if state.grant_own() {
            shared.changed.notify_all();
        }
        if !state.line.is_empty() {
            asking.wake();
        }
        loop {
            if !shared.stop.may_start() {
                state.line.retain(|waiting| waiting.ticket != ticket);
                let unused = state.granted.remove(&ticket);
                drop(state);
                drop(unused.map(|kinds| Token { tokens: self, kinds, cpus: 0 }));
                return None;
            }
            if let Some(kinds) = state.granted.remove(&ticket) {
                let cpus = kinds.len();
                return Some(Token { tokens: self, kinds, cpus });
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Token<'_> {
    /// How many processors the script has.
    pub(crate) fn cpus(&self) -> usize {
        self.cpus
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
    /// Gives our own token to the first in line, if that is all it needs, or all there will ever be. True if it got it.
    fn grant_own(&mut self) -> bool {
        let suffices = |first: &Waiting| first.count == 1 || self.is_cut_off;
        if self.own_is_taken || !self.line.front().is_some_and(suffices) {
            return false;
        }
        self.grant(Vec::new())
    }

    /// Gives the first in line our own token, if it is free, and these.
    fn grant(&mut self, lent: Vec<LentToken>) -> bool {
        let Some(first) = self.line.pop_front() else { return false };
        let mut kinds: Vec<Kind> = lent.into_iter().map(Kind::Lent).collect();
        if !std::mem::replace(&mut self.own_is_taken, true) {
            kinds.push(Kind::Own);
        }
        self.granted.insert(first.ticket, kinds);
        true
    }

    /// Who is first in line, and how many tokens of the jobserver's it needs.
    fn asks(&self) -> Option<(u64, usize)> {
        let first = self.line.front().filter(|_| !self.is_cut_off)?;
        Some((first.ticket, first.count - usize::from(!self.own_is_taken)))
    }
}

/// What the asking thread knows of its own.
struct Asker {
    /// The first in line as it was last seen, and since when.
    first: u64,
    since: Instant,
    /// Tokens were too few: until when they are left to others.
    pause: Option<Instant>,
    pauses: u32,
    /// More than so many were waited for in vain.
    enough: usize,
}

impl TokenPool {
    fn state(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes tokens for the first in line, as long as somebody waits.
    fn ask(&self, tokens: &Arc<File>, wake: &OwnedFd) {
        let now = Instant::now();
        let mut asker = Asker { first: 0, since: now, pause: None, pauses: 0, enough: usize::MAX };
        loop {
            let asks = {
                let state = self.state();
                if state.is_over {
                    return;
                }
                state.asks()
            };
            let now = Instant::now();
            if let Some((ticket, _)) = asks
                && ticket != asker.first
            {
                asker = Asker { first: ticket, since: now, pause: None, pauses: 0, ..asker };
            }
            let is_pausing = asker.pause.is_some_and(|until| now < until);
            let watched = if asks.is_some() && !is_pausing { 2 } else { 1 };
            // Whoever needs several may get fewer once it has waited for long.
            let until = match asks {
                Some((_, 2..)) => [asker.pause, Some(asker.since + PATIENCE)]
                    .into_iter()
                    .flatten()
                    .filter(|at| *at > now)
                    .min(),
                _ => asker.pause.filter(|at| *at > now && asks.is_some()),
            };
            let mut ready =
                [PollFd::new(wake, PollFlags::IN), PollFd::new(&**tokens, PollFlags::IN)];
            match rustix::event::poll(
                &mut ready[..watched],
                until.map(|at| timespec(at, now)).as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return self.cut_off(),
            }
            let has_tokens = watched == 2 && !ready[1].revents().is_empty();
            // Before the state is looked at again, so that no call is missed.
            let _ = rustix::io::read(wake, &mut [0; 8]);
            let Some((ticket, count)) = asks else { continue };
            let is_impatient = count > 1 && asker.since.elapsed() >= PATIENCE;
            if !has_tokens && !is_impatient {
                continue;
            }
            let Ok(taken) = read_tokens(tokens, count) else { return self.cut_off() };
            self.offer(ticket, taken, is_impatient, &mut asker);
        }
    }

    /// Gives these tokens to the first in line if they are enough; if not, they go back, because whoever else needs
    /// several would wait for ours, and we for theirs.
    fn offer(&self, ticket: u64, mut taken: Vec<LentToken>, is_impatient: bool, asker: &mut Asker) {
        let mut state = self.state();
        let asks = state.asks().filter(|_| self.stop.may_start());
        let Some((first, count)) = asks else { return drop((state, taken)) };
        let all = taken.len() + usize::from(!state.own_is_taken);
        if is_impatient && first == ticket && all > 0 {
            asker.enough = all;
        }
        if all > 0 && (taken.len() >= count || all >= asker.enough) {
            let surplus = taken.split_off(taken.len().min(count));
            state.grant(taken);
            self.changed.notify_all();
            return drop((state, surplus));
        }
        drop((state, taken));
        if count == 1 {
            return;
        }
        asker.pauses = (asker.pauses + 1).min(5);
        asker.pause = Some(Instant::now() + pause(asker.pauses));
    }

    /// Wakes everybody who waits, because the run stops: they give up, and their tokens go back.
    fn let_go(&self) {
        // Under the mutex, or it could come between somebody's question and their sleep.
        let _state = self.state();
        self.changed.notify_all();
    }

    /// The jobserver is gone.
    fn cut_off(&self) {
        let mut state = self.state();
        state.is_cut_off = true;
        state.grant_own();
        self.changed.notify_all();
    }
}

/// How long somebody who needs several tokens waits for all of them.
const PATIENCE: Duration = Duration::from_secs(3);

/// Takes at most so many tokens, as many as there are.
fn read_tokens(tokens: &Arc<File>, count: usize) -> std::io::Result<Vec<LentToken>> {
    let mut bytes = vec![0; count];
    let read = match (&**tokens).read(&mut bytes) {
        Ok(0) if count > 0 => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(read) => read,
        // Another process was faster.
        Err(err) if matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => 0,
        Err(err) => return Err(err),
    };
    let lent = |&byte: &u8| LentToken { tokens: Arc::clone(tokens), byte };
    Ok(bytes[..read].iter().map(lent).collect())
}

/// How long tokens that were too few are left to others: longer each time, and not the same for two who wait for each
/// other's.
fn pause(times: u32) -> Duration {
    let longest = 2_u64 << times;
    let chance = RandomState::new().hash_one(times);
    Duration::from_millis(1 + chance % longest)
}

fn timespec(until: Instant, now: Instant) -> Timespec {
    let left = until.saturating_duration_since(now) + Duration::from_micros(1);
    Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
}

impl Drop for Token<'_> {
    fn drop(&mut self) {
        if self.kinds.iter().any(|kind| matches!(kind, Kind::Own)) {
            let Tokens { shared, asking } = self.tokens;
            let mut state = shared.state();
            state.own_is_taken = false;
            let is_granted = state.grant_own();
            let is_counted = !is_granted && !state.line.is_empty();
            drop(state);
            shared.changed.notify_all();
            // Whoever needs several needs one less of the jobserver's.
            if let Some(asking) = asking.as_ref().filter(|_| is_counted) {
                asking.wake();
            }
        }
    }
}
