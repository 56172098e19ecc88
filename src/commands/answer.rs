//! Standard output. A reader that went away (`| head`) is a quiet end, not an error.

use std::io::{BufWriter, ErrorKind, IsTerminal as _, Write};

use crate::error::{OrIo as _, Result};

/// Writes an answer.
pub(super) fn write(give: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let written = give(&mut out).and_then(|()| out.flush());
    match written {
        Err(err) if err.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.or_io("write to", "standard output"),
    }
}

/// Writes a value as one JSON document.
pub(super) fn json(value: &serde_json::Value) -> Result<()> {
    write(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// True if a person reads: what could steer a terminal has to be escaped.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
