//! What a script wrote to stdout and stderr, kept as an object.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::scratch::Workspace;
use super::stage::SMALL;
use crate::error::{OrIo, Result};
use crate::store::{Placed, Store};
use crate::text;

/// Longest log that is kept whole, in bytes; of a longer one, half of that from either end.
pub(super) const CAP: u64 = 64 << 20;

/// A part of a file, read without moving the file's own position.
struct Part<'a> {
    file: &'a File,
    from: u64,
    to: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.to - self.from).unwrap_or(usize::MAX);
        let most = buffer.len().min(left);
        let read = self.file.read_at(&mut buffer[..most], self.from)?;
        self.from += read as u64;
        Ok(read)
    }
}

/// Puts the log into the store and empties it for the next step; `None` if nothing was written.
pub(super) fn keep(
    workspace: &Workspace,
    store: &Store,
    cap: u64,
    buffer: &mut Vec<u8>,
) -> Result<Option<Placed>> {
    let Workspace { log, path, .. } = workspace;
    let size = rustix::fs::fstat(log).or_io("read the log in", path)?.st_size as u64;
    if size == 0 {
        return Ok(None);
    }
    let part = |from, to| Part { file: log, from, to };
    let placed = if size <= SMALL.min(cap) {
        buffer.clear();
        part(0, size).read_to_end(buffer).or_io("read the log in", path)?;
        store.put(buffer)?
    } else if size <= cap {
        store.put_from(&mut part(0, size))?
    } else {
        let cut = format!("\n[… {} cut here …]\n", text::size(size - cap));
        let (head, tail) = (part(0, cap / 2), part(size - (cap - cap / 2), size));
        store.put_from(&mut head.chain(cut.as_bytes()).chain(tail))?
    };
    log.set_len(0).or_io("empty the log in", path)?;
    Ok(Some(placed))
}
