//! Standard output. A reader that goes away (`| head`) ends a command quietly, without an error.

use std::io::{BufWriter, ErrorKind, IsTerminal as _, Write};

use serde::{Serialize, Serializer};

use crate::error::{OrIo as _, Result};
use crate::object::ObjectHash;
use crate::text::printable;

/// The answer of a command: its fields are for programs, its text is for people.
pub(super) trait Answer: Serialize {
    /// Writes the text form.
    ///
    /// # Errors
    /// Those of `out`.
    fn text(&self, out: &mut dyn Write) -> std::io::Result<()>;
}

/// An object in a JSON answer.
#[derive(Clone, Copy, Serialize)]
pub(super) struct SizedObject {
    pub(super) object: ObjectHash,
    /// `None` if it isn't kept any more.
    pub(super) bytes: Option<u64>,
}

/// Prints an answer, as one JSON document or as text.
///
/// # Errors
/// [`Error::Io`](crate::error::Error::Io) if it can't be written.
pub(super) fn give(answer: &impl Answer, as_json: bool) -> Result<()> {
    if as_json { json(answer) } else { write(|out| answer.text(out)) }
}

/// Prints a value as one JSON document.
///
/// # Errors
/// [`Error::Io`](crate::error::Error::Io) if it can't be written.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    write(|out| {
        // A `Value` has its keys sorted, so the order of a struct's fields doesn't matter.
        serde_json::to_writer_pretty(&mut *out, &serde_json::to_value(value)?)?;
        out.write_all(b"\n")
    })
}

/// Prints what `print` writes.
///
/// # Errors
/// [`Error::Io`](crate::error::Error::Io) if it can't be written.
pub(super) fn write(print: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = print(&mut out).and_then(|()| out.flush());
    match written {
        Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.or_io("write to", "standard output"),
    }
}

/// True if standard output is a terminal: text from scripts has to be escaped.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// A name of any bytes as JSON text, escaped as on the screen.
pub(super) fn escaped<S: Serializer>(
    name: &[u8],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&printable(name))
}

/// As [`escaped`], for a list of names.
pub(super) fn all_escaped<S: Serializer>(
    names: &[Vec<u8>],
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(|name| printable(name)))
}
