//! The door of a coordinator: who connects is greeted, and let in if it proves in time that it belongs to this run.
//!
//! One thread for all who have not said hello yet, since a thread each would let strangers use up the threads of the
//! machine. So it waits for many at once; and if more of them wait than [`MOST`], the one that has waited longest goes: a
//! worker says hello as soon as it is greeted, and one that is sent away all the same comes back.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::error::{OrIo as _, Result};

use super::secret::{LENGTH, Secret, Side, nonce};
use super::wire::{self, Hello, LONGEST_HELLO, MAGIC, VERSION, WireMessage};

/// Whoever has not said hello by then is sent away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Strangers at once: each takes a descriptor.
pub(super) const MOST: usize = 256;

/// A pause where the system has no more descriptors to give.
const PAUSE: Duration = Duration::from_millis(100);

/// Who was let in.
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) hello: Hello,
    /// As it was sent.
    pub(super) said: Vec<u8>,
}

/// Told of a guest, or in a sentence of somebody who was sent away. Must not block.
pub(super) type Receive = Box<dyn Fn(Result<Guest, String>) + Send>;

/// Lets in until it is dropped.
pub(super) struct Door {
    close: Arc<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

struct Stranger {
    stream: TcpStream,
    since: Instant,
    nonce: [u8; LENGTH],
    /// What it has said so far.
    said: Vec<u8>,
}

/// What became of a stranger.
enum Judged {
    /// It has more to say.
    Waits,
    /// It is sent away, with a sentence for it if it understands that, and one for the user.
    Refused {
        answer: Option<String>,
        why: String,
    },
    Welcome {
        hello: Hello,
        said: Vec<u8>,
    },
}

impl Door {
    /// # Errors
    /// If the system refuses a descriptor or a thread.
    pub(super) fn open(listener: TcpListener, secret: Secret, receive: Receive) -> Result<Door> {
        listener.set_nonblocking(true).or_system("listen for workers")?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let close = Arc::new(rustix::event::eventfd(0, flags).or_system("listen for workers")?);
        let mut keeper = Keeper {
            listener,
            secret,
            receive,
            strangers: VecDeque::new(),
            told: BTreeSet::new(),
            close: Arc::clone(&close),
        };
        let thread = std::thread::Builder::new().name("door".to_owned());
        let thread = thread.spawn(move || keeper.keep()).or_system("start a thread")?;
        Ok(Door { close, thread: Some(thread) })
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // It fails only if that was done 2^64 times.
        let _ = rustix::io::write(&self.close, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    listener: TcpListener,
    secret: Secret,
    receive: Receive,
    /// The one who came first is the first.
    strangers: VecDeque<Stranger>,
    /// Sentences about strangers: each is told once, however many come.
    told: BTreeSet<String>,
    close: Arc<OwnedFd>,
}

impl Keeper {
    fn keep(&mut self) {
        loop {
            let wait = self.strangers.front().map(|first| {
                let left = PATIENCE.saturating_sub(first.since.elapsed());
                Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 })
            });
            let mut polled = vec![
                PollFd::new(&self.close, PollFlags::IN),
                PollFd::new(&self.listener, PollFlags::IN),
            ];
            polled.extend(self.strangers.iter().map(|one| PollFd::new(&one.stream, PollFlags::IN)));
            match rustix::event::poll(&mut polled, wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                // No memory, for a moment.
                Err(_) => std::thread::sleep(PAUSE),
            }
            let is_ready: Vec<bool> = polled.iter().map(|one| !one.revents().is_empty()).collect();
            drop(polled);
            if is_ready[0] {
                return;
            }
            self.look(&is_ready[2..]);
            if is_ready[1] {
                self.accept();
            }
        }
    }

    /// Hears those who have said something, and sends those away who have said nothing for too long.
    fn look(&mut self, is_ready: &[bool]) {
        for (mut one, is_ready) in std::mem::take(&mut self.strangers).into_iter().zip(is_ready) {
            let judged = match is_ready {
                true => one.hear(&self.secret),
                false => Judged::Waits,
            };
            match judged {
                Judged::Waits if one.since.elapsed() >= PATIENCE => {
                    self.tell("said nothing for 10 s that a worker says".to_owned());
                }
                Judged::Waits => self.strangers.push_back(one),
                Judged::Refused { answer, why } => {
                    if let Some(why) = answer {
                        // A new connection takes so few bytes at once, or the other side is no worker.
                        let mut frame = Vec::new();
                        let _ = wire::write(&mut frame, &WireMessage::Refused { why }, &[]);
                        let _ = one.stream.write_all(&frame);
                    }
                    self.tell(why);
                }
                Judged::Welcome { hello, said } => {
                    (self.receive)(Ok(Guest { stream: one.stream, hello, said }));
                }
            }
        }
    }

    fn tell(&mut self, why: String) {
        if self.told.len() < MOST && self.told.insert(why.clone()) {
            (self.receive)(Err(why));
        }
    }

    fn accept(&mut self) {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return,
                // It has gone already.
                Err(err) if err.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    // No descriptor is left: those who say nothing make room.
                    match self.strangers.pop_front() {
                        Some(_) => continue,
                        None => return std::thread::sleep(PAUSE),
                    }
                }
            };
            if let Some(stranger) = Stranger::greet(stream) {
                self.strangers.push_back(stranger);
            }
            if self.strangers.len() > MOST {
                self.strangers.pop_front();
                self.tell("said nothing while many others came".to_owned());
            }
        }
    }
}

impl Stranger {
    /// `None` if it has gone already.
    fn greet(mut stream: TcpStream) -> Option<Stranger> {
        stream.set_nonblocking(true).ok()?;
        let nonce = nonce().ok()?;
        let greeting = [&wire::preamble()[..], &nonce[..]].concat();
        stream.write_all(&greeting).ok()?;
        Some(Stranger { stream, since: Instant::now(), nonce, said: Vec::new() })
    }

    /// Takes what it has said, and finds out who it is.
    fn hear(&mut self, secret: &Secret) -> Judged {
        let mut piece = [0; 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(0) => {
                    let why = "went away before it had said hello".to_owned();
                    return Judged::Refused { answer: None, why };
                }
                Ok(n) => self.said.extend_from_slice(&piece[..n]),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Judged::Waits,
                Err(_) => {
                    let why = "went away before it had said hello".to_owned();
                    return Judged::Refused { answer: None, why };
                }
            }
            match self.judge(secret) {
                Judged::Waits => {}
                judged => return judged,
            }
        }
    }

    fn judge(&self, secret: &Secret) -> Judged {
        let said = self.said.as_slice();
        let begun = said.len().min(MAGIC.len());
        if said[..begun] != MAGIC[..begun] {
            let why = "is no worker: it said something else than one says".to_owned();
            return Judged::Refused { answer: None, why };
        }
        let refuse = |why: String| Judged::Refused { answer: Some(why.clone()), why };
        match wire::version_of(said) {
            None => return Judged::Waits,
            Some(VERSION) => {}
            Some(other) => {
                return refuse(format!(
                    "speaks version {other} of the protocol, and the run version {VERSION}; install the same \
                     task-pipeline on both machines"
                ));
            }
        }
        let rest = &said[MAGIC.len() + 2..];
        let Some((length, rest)) = rest.split_at_checked(4) else { return Judged::Waits };
        let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length > LONGEST_HELLO {
            return refuse(format!("said a hello of {length} bytes"));
        }
        let Some((hello, rest)) = rest.split_at_checked(length) else { return Judged::Waits };
        let Some(proof) = rest.get(..LENGTH) else { return Judged::Waits };
        if rest.len() > LENGTH {
            return refuse("went on talking before it was welcome".to_owned());
        }
        if !secret.is_proof(Side::Worker, &self.nonce, hello, proof) {
            return refuse("doesn't know the secret of this run".to_owned());
        }
        match serde_json::from_slice::<Hello>(hello) {
            Ok(known) => Judged::Welcome { hello: known, said: hello.to_vec() },
            Err(err) => refuse(format!("said a hello that can't be read ({err})")),
        }
    }
}

/// What a worker answers to a greeting.
pub(super) fn answer(secret: &Secret, nonce: &[u8], hello: &[u8]) -> Vec<u8> {
    let length = (hello.len() as u32).to_le_bytes();
    let proof = secret.prove(Side::Worker, nonce, hello);
    [&wire::preamble()[..], &length, hello, &proof].concat()
}
