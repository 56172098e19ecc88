//! Signals as messages: a thread forwards them, only the dispatcher decides.

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::error::{OrIo, Result};

use super::shared::Message;

/// Forwards signals until dropped.
pub(super) struct Forwarder {
    handle: Handle,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Forwarder {
    /// Takes INT, TERM and HUP, but none that was ignored when we were started: `nohup` and a shell's
    /// `&` mean it.
    pub(super) fn start(messages: flume::Sender<Message>) -> Result<Forwarder> {
        let ignored = ignored();
        let mut taken = vec![SIGINT, SIGTERM, SIGHUP];
        taken.retain(|&signal| ignored >> (signal - 1) & 1 == 0);
        let mut signals = Signals::new(&taken).or_io("listen for", "signals")?;
        crate::sys::unblock(&taken).or_io("listen for", "signals")?;
        let handle = signals.handle();
        let thread = std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    if messages.send(Message::Signal(signal)).is_err() {
                        break;
                    }
                }
            })
            .or_io("start", "the signal thread")?;
        Ok(Forwarder { handle, thread: Some(thread) })
    }
}

/// Signals that are ignored, as the kernel tells: bit n-1 for signal n.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
