//! What is said while another program keeps the database from being written to: who it is, and since when.
//! Nothing is lost by waiting.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::db::{Busy, Db};
use crate::sys::clock::now_ms;
use crate::sys::proc::Process;
use crate::text::utc;

use super::message::Message;

/// Waits as long as it takes, and says so on stderr: for when nobody listens to messages. A signal ends the process.
pub(crate) fn tell_on_stderr(db: &Db) {
    db.on_busy(Arc::new(|busy| {
        if busy.is_news {
            // Whether anybody reads it must not matter.
            let _ = std::io::stderr().write_all(format!("{}\n", sentence(busy)).as_bytes());
        }
        true
    }));
}

/// Waits as long as it takes, or until a second signal has arrived, and tells the dispatcher.
pub(super) fn tell_dispatcher(
    db: &Db,
    messages: flume::Sender<Message>,
    signals: Arc<AtomicUsize>,
) {
    db.on_busy(Arc::new(move |busy| {
        if busy.is_news {
            let _ = messages.send(Message::Note(sentence(busy)));
        }
        signals.load(Ordering::Acquire) < 2
    }));
}

fn sentence(busy: &Busy) -> String {
    let who = match busy.holder {
        Some(pid) => match i32::try_from(pid).ok().and_then(Process::read) {
            Some(process) => format!("process {pid} ({})", process.name),
            None => format!("process {pid}"),
        },
        None => "another program".to_owned(),
    };
    let waited = i64::try_from(busy.waited.as_millis()).unwrap_or(0);
    format!(
        "waiting: {who} has kept the database from being written to since {}; nothing is lost meanwhile",
        utc(now_ms() - waited)
    )
}
