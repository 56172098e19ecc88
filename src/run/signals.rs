//! Signals as messages: a thread forwards them, only the dispatcher decides.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::error::{OrIo, Result};
use crate::sys::proc;

use super::message::Message;

/// No run listens: a signal does what it does to any process.
static IS_IDLE: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(true)));

/// The last signal that was forwarded, for one that came when a run no longer cared.
static LAST: AtomicI32 = AtomicI32::new(0);

/// For a process that outlives its runs: between them INT, TERM and HUP end it as they would have
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

/// INT, TERM and HUP, but none that was ignored when we were started: `nohup` and a shell's `&` mean it.
fn taken() -> Vec<i32> {
    let ignored = proc::ignored_signals();
    let mut taken = vec![SIGINT, SIGTERM, SIGHUP];
    taken.retain(|&signal| ignored >> (signal - 1) & 1 == 0);
    taken
}

/// Forwards signals until dropped.
pub(super) struct Forwarder {
    handle: Handle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Forwarder {
    /// Takes INT, TERM and HUP.
    pub(super) fn start(messages: flume::Sender<Message>) -> Result<Forwarder> {
        let taken = taken();
        let mut signals = Signals::new(&taken).or_system("listen for signals")?;
        crate::sys::unblock(&taken).or_system("listen for signals")?;
        IS_IDLE.store(false, Ordering::Release);
        let handle = signals.handle();
        let thread = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    LAST.store(signal, Ordering::Release);
                    if messages.send(Message::Signal(signal)).is_err() {
                        break;
                    }
                }
            })
            .or_system("start the signal thread")?;
        Ok(Forwarder { handle, thread: Some(thread) })
    }
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
