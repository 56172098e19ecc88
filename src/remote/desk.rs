//! Where a run answers questions about its workers: a socket in its scratch, which only its user can reach. It is looked
//! at by those who ask, and costs nothing as long as nobody does.

use std::collections::VecDeque;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::io::Errno;

use crate::error::{OrIo as _, Result};
use crate::sys::local_socket;

use super::hub::Hub;
use super::question::{self, Question, Reply, SOCKET};

/// Askers at once: the one that has come first makes room for one more.
const MOST: usize = 32;

/// Descriptors: of the socket, and of those who ask.
pub(super) const FILES: u64 = 2 + 2 * MOST as u64;

/// Who asks nothing for so long is sent away.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pause where the system has no more descriptors to give.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers until it is dropped.
pub(super) struct Desk {
    close: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Desk {
    /// Opens in a folder. `None` where the file system knows no sockets: then nobody can ask.
    ///
    /// # Errors
    /// If the system refuses a descriptor or a thread.
    pub(super) fn open(folder: &Path, hub: Arc<Hub>) -> Result<Option<Desk>> {
        let Ok(listener) = local_socket::listen(folder, SOCKET) else { return Ok(None) };
        listener.set_nonblocking(true).or_system("listen for questions")?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let close = Arc::new(rustix::event::eventfd(0, flags).or_system("listen for questions")?);
        let closed = Arc::clone(&close);
        let thread = std::thread::Builder::new().name("desk".to_owned());
        let thread = thread.spawn(move || keep(&listener, &closed, &hub));
        Ok(Some(Desk { close, thread: Some(thread.or_system("start a thread")?) }))
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        // It fails only if that was done 2^64 times.
        let _ = rustix::io::write(&self.close, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Somebody who asks, and the thread that answers.
struct Asker {
    stream: UnixStream,
    thread: JoinHandle<()>,
}

impl Asker {
    fn send_away(self) {
        // That it has gone already is as good.
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.thread.join();
    }
}

fn keep(listener: &UnixListener, close: &OwnedFd, hub: &Arc<Hub>) {
    let mut askers: VecDeque<Asker> = VecDeque::new();
    loop {
        let mut polled = [PollFd::new(close, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
        match rustix::event::poll(&mut polled, None) {
            Ok(_) | Err(Errno::INTR) => {}
            // No memory, for a moment.
            Err(_) => std::thread::sleep(PAUSE),
        }
        if !polled[0].revents().is_empty() {
            return askers.into_iter().for_each(Asker::send_away);
        }
        askers.retain(|asker| !asker.thread.is_finished());
        match listener.accept() {
            Ok((stream, _)) => {
                if askers.len() >= MOST
                    && let Some(first) = askers.pop_front()
                {
                    first.send_away();
                }
                // Whoever can't be answered sees the connection's end.
                askers.extend(welcome(stream, hub).ok());
            }
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

fn welcome(stream: UnixStream, hub: &Arc<Hub>) -> io::Result<Asker> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (asking, hub) = (stream.try_clone()?, Arc::clone(hub));
    let thread = std::thread::Builder::new().name("asked".to_owned());
    // Whatever is wrong with somebody who asks is no trouble of the run's.
    let thread = thread.spawn(move || drop(answer(&asking, &hub)))?;
    Ok(Asker { stream, thread })
}

fn answer(stream: &UnixStream, hub: &Hub) -> io::Result<()> {
    let mut from = BufReader::new(stream);
    while let Some(question) = question::read(&mut from)? {
        let (answer, bytes) = match question {
            Question::Live => (Reply::Live(hub.live()), Vec::new()),
            Question::Log { step, attempt, from } => match hub.printed(step, attempt, from) {
                Some(bytes) => (Reply::Log { is_running: true, bytes: bytes.len() }, bytes),
                None => (Reply::Log { is_running: false, bytes: 0 }, Vec::new()),
            },
            Question::Drain(workers) => match hub.drain(&workers) {
                Ok(numbers) => (Reply::Drained(numbers), Vec::new()),
                Err(why) => (Reply::Refused(why), Vec::new()),
            },
        };
        question::write(&mut &*stream, &answer, &bytes)?;
    }
    Ok(())
}
