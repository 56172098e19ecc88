//! What a coordinator and a worker say to each other, and how: frames of a length, a message in JSON, and bytes as they
//! are. What an attempt is, and what came of it, are the very structs of `step`.
//!
//! Before the first frame the coordinator greets with [`MAGIC`], the [version](VERSION) of what follows and a nonce;
//! the worker answers with magic, version, and its [`Hello`]. These bytes, and `Refused`, stay the same in every version,
//! so that two that don't fit can say so.

use std::io::{self, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::attempt::NamedObject;
use crate::exec::HomeFile;
use crate::ids::StepId;
use crate::object::ObjectHash;
use crate::step::{Item, Report, Script};
use crate::stop::Stop;

use super::secret::LENGTH;

/// The first bytes of either side.
pub(super) const MAGIC: &[u8; 14] = b"task-pipeline\n";

/// Changes with every change of a message.
pub(super) const VERSION: u16 = 1;

/// Bytes of a greeting: magic, version, nonce.
pub(super) const GREETING: usize = MAGIC.len() + 2 + LENGTH;

/// Bytes of a hello at most: whoever sends it is not known yet.
pub(super) const LONGEST_HELLO: usize = 4096;

/// Bytes of a message at most, from somebody who is known: a step may gather a million files.
pub(super) const LONGEST: usize = 1 << 29;

/// Bytes of an object in one frame.
pub(super) const PIECE: usize = 128 << 10;

/// Objects up to so many bytes travel with the message that names them, which saves asking for them.
pub(super) const INLINE: u64 = 16 << 10;

/// Bytes of such objects in one message at most.
pub(super) const INLINE_TOGETHER: usize = 64 << 10;

/// Who connects, and what it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Version of the program.
    pub(super) tool: String,
    /// The run that it was started for.
    pub(super) run: String,
    /// Which of the run's workers it is, from 1.
    pub(super) number: usize,
    /// Scripts at once.
    pub(super) slots: usize,
    pub(super) host: String,
    pub(super) pid: u32,
    /// Of a batch system.
    pub(super) job: Option<String>,
    /// Bytes of memory that its machine has to spare.
    pub(super) memory: Option<u64>,
    /// In hex: what the coordinator has to prove itself with.
    pub(super) nonce: String,
}

/// What a worker has to know of the run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Terms {
    /// Path of the manifest, absolute.
    pub(super) manifest: Vec<u8>,
    /// What it has to hold; `None`: it is no file.
    pub(super) hash: Option<ObjectHash>,
    /// How scripts are started, as on the command line.
    pub(super) launch: String,
    /// There are scripts that want a jobserver.
    pub(super) jobserver: bool,
}

/// One message, in either direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum WireMessage {
    /// To a worker: it is welcome. With the coordinator's proof, in hex.
    Welcome { proof: String, terms: Terms },
    /// To a worker: it isn't; a sentence that says why. It leaves.
    Refused { why: String },
    /// To a worker, once it is welcome: the files that have to be the same there. It is ready when it has seen that they
    /// are.
    Files(Arc<Vec<HomeFile>>),
    /// To a worker: a script, before the first attempt with it. The number is the connection's own.
    Script { number: usize, script: Script },
    /// To a worker: make an attempt. The bytes are those of `inline`, one after the other.
    Attempt(Order),
    /// To a worker: the run goes on so.
    Stop(Stop),
    /// To a worker: it is not needed any more.
    Bye,
    /// From a worker: it takes no more attempts, and is to be dismissed when those under way are over.
    Drain { why: String },
    /// From a worker: something that the user should know of it.
    Note { text: String },
    /// From a worker: it is ready to take attempts.
    Ready,
    /// From a worker: it leaves; a sentence that says why, and whether it is a trouble of its machine.
    Leaving { why: String, is_trouble: bool },
    /// From a worker: the attempt is over. The bytes are those of `inline`; the coordinator asks for what it lacks of
    /// the `offered`.
    Ended(Handover),
    /// From a worker: the run is stopping, and nothing is known of the steps.
    Cancelled { slot: usize, ticket: u64 },
    /// Send these objects, in this order.
    Need { slot: usize, ticket: u64, objects: Vec<ObjectHash> },
    /// The bytes are the next ones of the object that was asked for; none: it is complete.
    Bytes { slot: usize, ticket: u64 },
    /// Instead of the next bytes: they can't be had, and the attempt is not made.
    Gone { slot: usize, ticket: u64 },
    /// To a worker: what has the script of this attempt printed, from that byte on?
    Print { question: u64, step: StepId, attempt: i64, from: u64 },
    /// From a worker: the bytes are the next that it has printed; none, too, if it doesn't run.
    Printed { question: u64 },
    /// Somebody is there.
    Beat,
}

/// An attempt to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) slot: usize,
    /// Unlike that of any other attempt of this run: what is said of another one is not believed.
    pub(super) ticket: u64,
    pub(super) script: usize,
    pub(super) items: Vec<Item>,
    pub(super) cpus: usize,
    pub(super) side: Vec<NamedObject>,
    pub(super) inline: Vec<Inlined>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handover {
    pub(super) slot: usize,
    pub(super) ticket: u64,
    pub(super) reports: Vec<Report>,
    pub(super) inline: Vec<Inlined>,
    /// Objects that the reports name, besides these.
    pub(super) offered: Vec<Inlined>,
}

/// An object and its size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inlined {
    pub(super) object: ObjectHash,
    pub(super) size: u64,
}

impl WireMessage {
    /// The slot and the attempt that it is about; `None`: the whole worker.
    pub(super) fn about(&self) -> Option<(usize, u64)> {
        match self {
            WireMessage::Attempt(Order { slot, ticket, .. })
            | WireMessage::Ended(Handover { slot, ticket, .. })
            | WireMessage::Cancelled { slot, ticket }
            | WireMessage::Need { slot, ticket, .. }
            | WireMessage::Bytes { slot, ticket }
            | WireMessage::Gone { slot, ticket } => Some((*slot, *ticket)),
            WireMessage::Welcome { .. }
            | WireMessage::Refused { .. }
            | WireMessage::Files(_)
            | WireMessage::Script { .. }
            | WireMessage::Stop(_)
            | WireMessage::Bye
            | WireMessage::Drain { .. }
            | WireMessage::Note { .. }
            | WireMessage::Ready
            | WireMessage::Leaving { .. }
            | WireMessage::Print { .. }
            | WireMessage::Printed { .. }
            | WireMessage::Beat => None,
        }
    }
}

/// A message with its bytes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Frame {
    pub(super) message: WireMessage,
    pub(super) bytes: Vec<u8>,
}

/// Writes a message with bytes behind it, in one call if they are few.
pub(super) fn write(to: &mut impl Write, message: &WireMessage, bytes: &[u8]) -> io::Result<()> {
    let mut frame = vec![0; 8];
    serde_json::to_writer(&mut frame, message)?;
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidData, "a message is too long");
    let json = u32::try_from(frame.len() - 8).map_err(too_long)?;
    let rest = u32::try_from(bytes.len()).map_err(too_long)?;
    frame[..4].copy_from_slice(&json.to_le_bytes());
    frame[4..8].copy_from_slice(&rest.to_le_bytes());
    if bytes.len() <= INLINE_TOGETHER {
        frame.extend_from_slice(bytes);
        return to.write_all(&frame);
    }
    to.write_all(&frame)?;
    to.write_all(bytes)
}

/// Reads one message. `longest` limits what it may be long, in bytes.
///
/// # Errors
/// Those of reading; `InvalidData` for what is no message, or too long a one.
pub(super) fn read(from: &mut impl Read, longest: usize) -> io::Result<Frame> {
    let mut lengths = [0; 8];
    from.read_exact(&mut lengths)?;
    let length = |at: usize| {
        let mut four = [0; 4];
        four.copy_from_slice(&lengths[at..at + 4]);
        u32::from_le_bytes(four) as usize
    };
    let (json, rest) = (length(0), length(4));
    if json.saturating_add(rest) > longest {
        let why = format!("a message of {json} and {rest} bytes, and {longest} are the most");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    let json = read_bytes(from, json)?;
    let bytes = read_bytes(from, rest)?;
    Ok(Frame { message: serde_json::from_slice(&json)?, bytes })
}

/// Takes memory as the bytes come in, not as they are announced.
fn read_bytes(from: &mut impl Read, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length.min(PIECE));
    from.take(length as u64).read_to_end(&mut bytes)?;
    match bytes.len() == length {
        true => Ok(bytes),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// Magic and version.
pub(super) fn preamble() -> [u8; MAGIC.len() + 2] {
    let mut bytes = [0; MAGIC.len() + 2];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// The version that a preamble tells; `None`: it is none.
pub(super) fn version_of(preamble: &[u8]) -> Option<u16> {
    let rest = preamble.strip_prefix(MAGIC.as_slice())?;
    Some(u16::from_le_bytes([*rest.first()?, *rest.get(1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_with_its_bytes_and_nothing_else_is_one() {
        let message = WireMessage::Need { slot: 3, ticket: 7, objects: vec![ObjectHash::EMPTY] };
        for length in [0, 5, INLINE_TOGETHER + 1] {
            let bytes = vec![7; length];
            let mut wire = Vec::new();
            write(&mut wire, &message, &bytes).unwrap();
            let read_back = |wire: &[u8], longest| read(&mut &*wire, longest);
            let frame = read_back(&wire, LONGEST).unwrap();
            assert_eq!(frame, Frame { message: message.clone(), bytes });
            assert!(read_back(&wire[..wire.len() - 1], LONGEST).is_err());
            let told = read_back(&wire, 10).unwrap_err().to_string();
            assert!(told.contains("10 are the most"), "{told}");
            wire[8] = b'x';
            assert!(read_back(&wire, LONGEST).is_err());
        }
        assert_eq!(version_of(&preamble()), Some(VERSION));
        assert_eq!(version_of(b"GET / HTTP/1.1\r\n"), None);
        assert_eq!(version_of(b"task-pipeline\n\x01"), None);
    }
}
