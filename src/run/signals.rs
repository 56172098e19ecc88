//! Signals as messages: a thread forwards them, only the dispatcher decides.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR2, SIGXCPU};
use signal_hook::iterator::{Handle, Signals};

use crate::error::{OrIo, Result};
use crate::stop::{Stop, StopSwitch};
use crate::sys::proc;

use super::message::Message;

/// No run listens: a signal does what it does to any process.
static IS_IDLE: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// The last signal that was forwarded, for one that came when a run no longer cared.
static LAST: AtomicI32 = AtomicI32::new(0);

/// For a process that outlives its runs: between them deadly signals end it as they would have
/// before the first one. (A handler that has once been set is never quite taken away.)
///
/// # Errors
/// Those of sigaction(2).
pub fn die_when_idle() -> Result<()> {
    for signal in taken() {
        let done = signal_hook::flag::register_conditional_default(signal, Arc::clone(&IS_IDLE));
        done.or_system("listen for signals")?;
    }
    Ok(())
}

/// A signal that arrived during the last run, even if that had come to its end already.
pub fn late_signal() -> Option<i32> {
    match LAST.load(Ordering::Acquire) {
        0 => None,
        signal => Some(signal),
    }
}

/// Signals that end a process which doesn't take them. Not USR1, by which the crate jobserver ends a thread; nor
/// those that tell of a fault of ours.
const DEADLY: [i32; 7] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR2, SIGALRM, SIGXCPU];

/// The deadly ones, but none that was ignored when we were started: `nohup` and a shell's `&` mean it.
fn taken() -> Vec<i32> {
    let mut taken = DEADLY.to_vec();
    taken.retain(|&signal| !is_ignored(signal));
    taken
}

fn is_ignored(signal: i32) -> bool {
    proc::ignored_signals() >> (signal - 1) & 1 == 1
}

/// Ends this process by a signal that it took: dying of it, not merely exiting, tells a calling shell or make to
/// stop too. Returns the exit code to end with where that can't be done: the first process of a container
/// doesn't die of its own signals.
pub fn die_of(signal: i32) -> u8 {
    if std::process::id() != 1 {
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}

/// Takes signals until dropped.
pub struct Forwarder {
    handle: Handle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Forwarder {
    /// Takes the deadly signals, and TSTP, which a terminal sends for Ctrl-Z. Counts the deadly ones in `count`, for
    /// when the dispatcher itself waits.
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

    /// Hands each signal to `take`, on a thread, until that returns false.
    fn each(mut take: impl FnMut(i32) -> bool + Send + 'static) -> Result<Forwarder> {
        let mut taken = taken();
        if !is_ignored(SIGTSTP) {
            taken.push(SIGTSTP);
        }
        let mut signals = Signals::new(&taken).or_system("listen for signals")?;
        crate::sys::unblock(&taken).or_system("listen for signals")?;
        IS_IDLE.store(false, Ordering::Release);
        let handle = signals.handle();
        let thread = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if signal != SIGTSTP {
                        LAST.store(signal, Ordering::Release);
                    }
                    if !take(signal) {
                        break;
                    }
                }
            })
            .or_system("start the signal thread")?;
        Ok(Forwarder { handle, thread: Some(thread) })
    }
}

/// A script that runs without a run, in a repair, is ended by a signal, and at once by a second one. Ctrl-Z does
/// nothing meanwhile.
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
