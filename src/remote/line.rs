//! One side's end of a connection on which both have said hello: whoever has something to say writes a whole message,
//! one thread reads, and hands each message to the slot that it is about.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, OrIo as _, Result};
use crate::object::ObjectHash;
use crate::step::Script;
use crate::stop::{Stop, StopSwitch};
use crate::store::{Placed, Store};

use super::wire::{self, Frame, LONGEST, PIECE, WireMessage};

/// How often either side says that it is there.
const BEAT: Duration = Duration::from_secs(5);

/// Either side gives the other one up after so long without a word, or if it takes none for so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Messages that wait for a slot. A side that sends an object is slowed down by one that can't write it as fast.
const WAITING: usize = 4;

/// How often somebody who waits for a message looks whether the run is to end at once.
const LOOK: Duration = Duration::from_millis(500);

/// A run that is to end at once waits so long for workers to say that their scripts have ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Why an attempt came to nothing.
pub(super) enum Trouble {
    /// The other side is gone, or says what can't be; a sentence.
    Lost(String),
    /// The other side gives the attempt up.
    GivenUp,
    /// Our own failure.
    Ours(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Ours(error)
    }
}

pub(super) struct Line {
    stream: TcpStream,
    writer: Mutex<Writer>,
    /// Why it was broken off.
    end: OnceLock<String>,
    /// The reader hands a message over, which may take as long as somebody needs to write it to the disk.
    is_busy: AtomicBool,
    /// When the other side was heard last.
    heard: Mutex<Instant>,
}

struct Writer {
    stream: TcpStream,
    /// Scripts that the other side knows, by number.
    scripts: Vec<Arc<Script>>,
}

/// A connection, ready to be [read](Line::read).
pub(super) struct NewLine {
    pub(super) line: Arc<Line>,
    /// What the reader hands messages to, by slot.
    pub(super) senders: Vec<flume::Sender<Frame>>,
    /// Where they arrive, by slot.
    pub(super) inboxes: Vec<Inbox>,
}

/// Where the messages about one slot arrive.
pub(super) struct Inbox {
    frames: flume::Receiver<Frame>,
    line: Arc<Line>,
    stop: Arc<StopSwitch>,
}

impl Line {
    /// Makes the end of a connection, and the inboxes of so many slots.
    ///
    /// # Errors
    /// If the system refuses to set a time limit.
    pub(super) fn open(
        stream: TcpStream,
        slots: usize,
        stop: &Arc<StopSwitch>,
    ) -> io::Result<NewLine> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let writer = Writer { stream: stream.try_clone()?, scripts: Vec::new() };
        let line = Arc::new(Line {
            stream,
            writer: Mutex::new(writer),
            end: OnceLock::new(),
            is_busy: AtomicBool::new(false),
            heard: Mutex::new(Instant::now()),
        });
        let (mut senders, mut inboxes) = (Vec::new(), Vec::new());
        for _ in 0..slots {
            let (sender, frames) = flume::bounded(WAITING);
            senders.push(sender);
            inboxes.push(Inbox { frames, line: Arc::clone(&line), stop: Arc::clone(stop) });
        }
        Ok(NewLine { line, senders, inboxes })
    }

    /// Sends a message with bytes. One that can't be sent breaks the line off.
    pub(super) fn send(&self, message: &WireMessage, bytes: &[u8]) -> Result<(), Trouble> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.send_by(&mut writer, message, bytes)
    }

    fn send_by(
        &self,
        writer: &mut Writer,
        message: &WireMessage,
        bytes: &[u8],
    ) -> Result<(), Trouble> {
        if let Some(why) = self.end.get() {
            return Err(Trouble::Lost(why.clone()));
        }
        wire::write(&mut writer.stream, message, bytes).map_err(|err| {
            let why = self.break_off(&match err.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("it took nothing for {} s", PATIENCE.as_secs())
                }
                _ => format!("the connection broke ({err})"),
            });
            Trouble::Lost(why)
        })
    }

    /// Sends a message that names a script by its number, which `message` is given; the other side learns it first.
    pub(super) fn send_with_script(
        &self,
        script: &Arc<Script>,
        message: impl FnOnce(usize) -> WireMessage,
        bytes: &[u8],
    ) -> Result<(), Trouble> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let known = writer.scripts.iter().position(|known| Arc::ptr_eq(known, script));
        let number = match known {
            Some(number) => number,
            None => {
                let number = writer.scripts.len();
                let told = WireMessage::Script { number, script: (**script).clone() };
                self.send_by(&mut writer, &told, &[])?;
                writer.scripts.push(Arc::clone(script));
                number
            }
        };
        self.send_by(&mut writer, &message(number), bytes)
    }

    /// Ends the connection, unless that was done before, and tells why it was ended.
    pub(super) fn break_off(&self, why: &str) -> String {
        let why = self.end.get_or_init(|| why.to_owned()).clone();
        // That the other side has closed it is no error.
        let _ = self.stream.shutdown(Shutdown::Both);
        why
    }

    /// Why it was broken off; `None`: it was not.
    pub(super) fn end(&self) -> Option<&str> {
        self.end.get().map(String::as_str)
    }

    /// Since when the other side has said nothing.
    pub(super) fn silence(&self) -> Duration {
        if self.is_busy.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Reads until the connection ends, and tells why it did. Messages about a slot go to `slots`, others to `take`,
    /// which may end it, and must not wait for the other side.
    pub(super) fn read(
        self: &Arc<Line>,
        slots: Vec<flume::Sender<Frame>>,
        mut take: impl FnMut(Frame) -> Result<(), String>,
    ) -> String {
        let (quit, has_quit) = flume::bounded::<()>(0);
        let line = Arc::clone(self);
        let beats = std::thread::Builder::new().name("beats".to_owned()).spawn(move || {
            while let Err(flume::RecvTimeoutError::Timeout) = has_quit.recv_timeout(BEAT) {
                if line.send(&WireMessage::Beat, &[]).is_err() {
                    return;
                }
            }
        });
        let why = match &beats {
            Ok(_) => self.read_on(&slots, &mut take),
            Err(err) => format!("no thread could be started ({err})"),
        };
        let why = self.break_off(&why);
        drop((quit, slots));
        if let Ok(beats) = beats {
            let _ = beats.join();
        }
        why
    }

    fn read_on(
        &self,
        slots: &[flume::Sender<Frame>],
        take: &mut dyn FnMut(Frame) -> Result<(), String>,
    ) -> String {
        let mut from = BufReader::with_capacity(PIECE, Hearing(self));
        loop {
            let frame = match wire::read(&mut from, LONGEST) {
                Ok(frame) => frame,
                Err(err) => {
                    return match err.kind() {
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                            format!("it said nothing for {} s", PATIENCE.as_secs())
                        }
                        io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
                        io::ErrorKind::InvalidData => format!("it said what is no message ({err})"),
                        _ => format!("the connection broke ({err})"),
                    };
                }
            };
            match frame.message.about() {
                None => {
                    if let Err(why) = take(frame) {
                        return why;
                    }
                }
                Some((slot, _)) => {
                    let Some(slot) = slots.get(slot) else {
                        return "it named a slot that there isn't".to_owned();
                    };
                    self.is_busy.store(true, Ordering::Release);
                    let handed = slot.send(frame);
                    self.hear();
                    self.is_busy.store(false, Ordering::Release);
                    if handed.is_err() {
                        return "nobody listens any more".to_owned();
                    }
                }
            }
        }
    }

    /// Sends all of a file, for an attempt at a slot.
    pub(super) fn send_file(
        &self,
        (slot, ticket): (usize, u64),
        mut file: File,
        store: &Store,
    ) -> Result<(), Trouble> {
        let mut piece = Vec::with_capacity(PIECE);
        loop {
            piece.clear();
            let read = file.by_ref().take(PIECE as u64).read_to_end(&mut piece);
            if let Err(error) = read.or_io("read an object in", store.root()) {
                self.send(&WireMessage::Gone { slot, ticket }, &[])?;
                return Err(error.into());
            }
            if !piece.is_empty() {
                self.send(&WireMessage::Bytes { slot, ticket }, &piece)?;
            }
            if piece.len() < PIECE {
                return self.send(&WireMessage::Bytes { slot, ticket }, &[]);
            }
        }
    }
}

/// Notes when something came.
struct Hearing<'a>(&'a Line);

impl Read for Hearing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&self.0.stream).read(buffer)?;
        self.0.hear();
        Ok(read)
    }
}

impl Inbox {
    /// Waits for the next message, whatever it is about; `None`: there will be no more.
    pub(super) fn next(&self) -> Option<Frame> {
        self.frames.recv().ok()
    }

    /// Waits for the next message about an attempt. What is said of another one is too late: it is not believed.
    pub(super) fn about(&self, about: (usize, u64)) -> Result<Frame, Trouble> {
        let mut killed: Option<Instant> = None;
        loop {
            match self.frames.recv_timeout(LOOK) {
                Ok(frame) if frame.message.about() == Some(about) => return Ok(frame),
                Ok(_) => {}
                Err(flume::RecvTimeoutError::Timeout) if self.stop.now() == Stop::Kill => {
                    if killed.get_or_insert_with(Instant::now).elapsed() >= LAST_WORDS {
                        return Err(Trouble::Lost(self.line.break_off("the run was stopped")));
                    }
                }
                Err(flume::RecvTimeoutError::Timeout) => {}
                Err(flume::RecvTimeoutError::Disconnected) => {
                    return Err(Trouble::Lost(self.line.break_off("the connection is closed")));
                }
            }
        }
    }

    /// Takes an object that was asked for, in constant memory, and makes sure that it is the one.
    pub(super) fn object(
        &self,
        about: (usize, u64),
        object: ObjectHash,
        store: &Store,
    ) -> Result<Placed, Trouble> {
        let mut pieces = Pieces { inbox: self, about, piece: Vec::new(), read: 0, end: None };
        let placed = store.put_from(&mut pieces);
        match pieces.end {
            Some(Ok(())) => {}
            Some(Err(trouble)) => return Err(trouble),
            // The store could not take it, so that pieces are on their way to nobody.
            None => {
                self.line.break_off("an object could not be kept");
            }
        }
        let placed = placed?;
        if placed.hash != object {
            let why = format!("object {object} came with other bytes than its own");
            store.discard(placed)?;
            return Err(Trouble::Lost(self.line.break_off(&why)));
        }
        Ok(placed)
    }
}

/// The bytes of an object as they arrive.
struct Pieces<'a> {
    inbox: &'a Inbox,
    about: (usize, u64),
    piece: Vec<u8>,
    /// Of the piece.
    read: usize,
    /// How it ended.
    end: Option<Result<(), Trouble>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.end.is_some() {
            return Ok(0);
        }
        if self.read == self.piece.len() {
            let trouble = match self.inbox.about(self.about) {
                Ok(Frame { message: WireMessage::Bytes { .. }, bytes }) if bytes.is_empty() => {
                    self.end = Some(Ok(()));
                    return Ok(0);
                }
                Ok(Frame { message: WireMessage::Bytes { .. }, bytes }) => {
                    (self.piece, self.read) = (bytes, 0);
                    None
                }
                Ok(Frame { message: WireMessage::Gone { .. }, .. }) => Some(Trouble::GivenUp),
                Ok(_) => {
                    let why = "it said something else in the middle of an object";
                    Some(Trouble::Lost(self.inbox.line.break_off(why)))
                }
                Err(trouble) => Some(trouble),
            };
            if let Some(trouble) = trouble {
                self.end = Some(Err(trouble));
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let n = buffer.len().min(self.piece.len() - self.read);
        buffer[..n].copy_from_slice(&self.piece[self.read..self.read + n]);
        self.read += n;
        Ok(n)
    }
}
