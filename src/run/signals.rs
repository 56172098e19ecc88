//! Signals as messages: a thread forwards them, and the dispatcher alone decides what to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use libc::SIGTSTP;
use signal_hook::iterator::{Handle, Signals};

use crate::error::{OrIo, Result};
use crate::stop::{Stop, StopSwitch};
use crate::sys::{self, proc};

use super::message::Message;

/// True while no run is listening: signals then have their default effect.
static IS_IDLE: AtomicBool = AtomicBool::new(true);

/// The last signal that was forwarded, in case it came too late for the run to act on it.
static LAST: AtomicI32 = AtomicI32::new(0);

/// For a process that outlives its runs: between runs, a fatal signal ends it as it would have before the first
/// one. (signal-hook never fully removes a handler once it is installed.)
///
/// # Errors
/// Those of sigaction(2).
pub fn die_when_idle() -> Result<()> {
    for signal in handled() {
        sys::die_when(signal, &IS_IDLE).or_system("listen for signals")?;
    }
    Ok(())
}

/// The last signal that arrived while a run was listening, even if its work was already done.
pub fn late_signal() -> Option<i32> {
    match LAST.load(Ordering::Acquire) {
        0 => None,
        signal => Some(signal),
    }
}

/// Signals that end a process unless it handles them, besides those of real time. Not those after which a process can't
/// go on (BUS, FPE, ILL, SEGV); nor IO, PIPE and XFSZ, which tell what return values tell as well.
const FATAL: [i32; 15] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGXCPU,
    libc::SIGPWR,
    libc::SIGSTKFLT,
    libc::SIGSYS,
    libc::SIGTRAP,
    libc::SIGABRT,
];

/// The fatal signals that we handle: all but those ignored when we were started, since `nohup` and a shell's `&` have
/// them ignored on purpose.
fn handled() -> Vec<i32> {
    let ignored = proc::ignored_signals();
    let all = FATAL.into_iter().chain(libc::SIGRTMIN()..=libc::SIGRTMAX());
    all.filter(|signal| ignored >> (signal - 1) & 1 == 0).collect()
}

fn is_ignored(signal: i32) -> bool {
    proc::ignored_signals() >> (signal - 1) & 1 == 1
}

/// Ends this process by a signal that it caught: dying of it, rather than merely exiting, tells a calling shell or
/// make to stop too. Returns the exit code to use where that is impossible: the first process of a container doesn't
/// die of signals that it sends itself.
pub fn die_of(signal: i32) -> u8 {
    if std::process::id() != 1 {
        sys::die_of(signal);
    }
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Catches signals until it is dropped.
pub struct Forwarder {
    handle: Handle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Forwarder {
    /// Catches the fatal signals, and TSTP, which a terminal sends on Ctrl-Z. Counts the fatal ones in `count`, for the
    /// times when the dispatcher is blocked and reads no messages.
    pub(super) fn start(
        messages: flume::Sender<Message>,
        count: Arc<AtomicUsize>,
    ) -> Result<Forwarder> {
        Forwarder::each(move |signal| {
            let message = if signal == SIGTSTP {
                Message::Suspend
            } else {
                count.fetch_add(1, Ordering::AcqRel);
                Message::Signal(signal)
            };
            messages.send(message).is_ok()
        })
    }

    /// Passes each signal to `take`, on a thread of its own, until `take` returns false.
    fn each(mut take: impl FnMut(i32) -> bool + Send + 'static) -> Result<Forwarder> {
        let mut handled = handled();
        if !is_ignored(SIGTSTP) {
            handled.push(SIGTSTP);
        }
        let mut signals = Signals::new(&handled).or_system("listen for signals")?;
        sys::unblock(&handled).or_system("listen for signals")?;
        IS_IDLE.store(false, Ordering::Release);
        let handle = signals.handle();
        let thread = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                let note = |signal| {
                    if signal != SIGTSTP {
                        LAST.store(signal, Ordering::Release);
                    }
                };
                for signal in signals.forever() {
                    note(signal);
                    if !take(signal) {
                        break;
                    }
                }
                // One that came just before the end.
                signals.pending().for_each(note);
            })
            .or_system("start the signal thread")?;
        Ok(Forwarder { handle, thread: Some(thread) })
    }
}

/// For scripts that run outside a run, in a repair: the first signal ends them, and a second one kills them at once.
/// Ctrl-Z is ignored meanwhile.
///
/// # Errors
/// Those of sigaction(2), and of starting a thread.
pub(super) fn stop_on_signals(stop: Arc<StopSwitch>) -> Result<Forwarder> {
    Forwarder::each(move |signal| {
        if signal != SIGTSTP {
            stop.advance(if stop.may_start() { Stop::Term } else { Stop::Kill });
        }
        true
    })
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        IS_IDLE.store(true, Ordering::Release);
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
