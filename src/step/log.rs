//! What a script writes to stdout and stderr: one pipe for both, so that their order is kept, drained into a
//! file while the script runs, and kept as an object when it has ended.
//!
//! A pipe and not the file itself, because `echo … > /dev/stderr` opens a file anew and truncates it. The pipe
//! is never read to its end: a background `sleep` may hold it open as long as it likes. The file is there for
//! whoever follows the log of a running script, and never holds more than [`CAP`] bytes: its first half is the
//! beginning, its second half a ring with the latest. A log that is in the pipe when its script has ended, as
//! most are, never gets into the file.
//!
//! Beside the file lies another one, of one line: whose log it is. It is written before the log's first byte, so that
//! what a runner that is killed leaves in the file can be told apart. See [`LeftLog`].

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use crate::error::{OrIo, Result};
use crate::store::{Placed, Store};
use crate::text;

/// Longest log that is kept whole, in bytes; of a longer one, half of that from either end.
pub(super) const CAP: u64 = 64 << 20;

/// A log up to so many bytes is kept in memory when its script has ended.
const MEMORY: u64 = 1 << 20;

/// Bytes read from the pipe at a time: what a pipe holds, unless a script has changed that.
const PIECE: usize = 64 << 10;

/// The largest pipe that a script can make of it without privileges (/proc/sys/fs/pipe-max-size).
const MOST: usize = 1 << 20;

/// Name of the file in a worker's folder, and of the one that says whose log it is.
const NAMES: [&str; 2] = ["log", "log.of"];

/// The log of one worker's steps, one after the other.
pub(super) struct LogPipe {
    /// Doesn't block.
    read: OwnedFd,
    /// For the scripts; open here too, so that the next step finds it open.
    write: OwnedFd,
    file: File,
    /// Whose log that is.
    owner: File,
    /// Step and attempt; zeros if several share the script, which are listed beside.
    of: (i64, i64),
    cap: u64,
    /// Bytes of this step that went to the file, overwritten ones included.
    filed: u64,
    /// Bytes of this step that came after those.
    recent: Vec<u8>,
    /// What is read at a time.
    piece: Box<[u8]>,
}

impl LogPipe {
    /// Makes the two files in a worker's folder, and the pipe.
    pub(super) fn make(root: BorrowedFd<'_>, cap: u64) -> io::Result<LogPipe> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let open = |name| rustix::fs::openat(root, name, flags, Mode::RUSR | Mode::WUSR);
        let (file, owner) = (File::from(open(NAMES[0])?), File::from(open(NAMES[1])?));
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        // Only this end: scripts expect a write to wait.
        rustix::io::ioctl_fionbio(&read, true)?;
        let (of, recent, piece) = ((0, 0), Vec::new(), vec![0; PIECE].into());
        Ok(LogPipe { read, write, file, owner, of, cap, filed: 0, recent, piece })
    }

    /// The end that scripts write to.
    pub(super) fn write_end(&self) -> BorrowedFd<'_> {
        self.write.as_fd()
    }

    /// The end that becomes readable when a script has written something.
    pub(super) fn read_end(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Before an attempt at a step, or, with zeros, at several: what somebody wrote after the last one had ended belongs
    /// to nobody. Nor does the next script inherit what that one has made of its stdout: node, for one, leaves pipes
    /// that don't wait, in which others lose what they write.
    pub(super) fn begin(&mut self, of: (i64, i64)) -> io::Result<()> {
        rustix::fs::fcntl_setfl(&self.write, OFlags::empty())?;
        self.drain()?;
        self.recent.clear();
        self.of = of;
        Ok(())
    }

    /// Takes what the pipe holds, and makes it visible to those who follow.
    pub(super) fn drain_for_followers(&mut self) -> io::Result<()> {
        self.drain()?;
        self.flush()
    }

    /// Takes what the pipe holds, but not more than it can hold at once: whoever still writes to it may go on
    /// for ever.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut left = MOST;
        while left > 0 {
            match rustix::io::read(&self.read, &mut *self.piece) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(n) => {
                    self.recent.extend_from_slice(&self.piece[..n]);
                    left = left.saturating_sub(n);
                }
                Err(Errno::INTR) => {}
                Err(err) => return Err(err.into()),
            }
            if self.recent.len() as u64 > MEMORY.min(self.cap / 2) {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let half = self.cap / 2;
        let ring = self.cap - half;
        let mut bytes = self.recent.as_slice();
        let filed = self.filed + bytes.len() as u64;
        // Of a longer one it also says where in the ring it ends.
        if !bytes.is_empty() && (self.filed == 0 || filed > self.cap) {
            let (step, number) = self.of;
            // As long as the line before.
            let line = format!("{step:>20} {number:>20} {filed:>20}\n");
            self.owner.write_all_at(line.as_bytes(), 0)?;
        }
        while !bytes.is_empty() {
            let (at, room) = match self.filed {
                filed if filed < half => (filed, half - filed),
                filed => {
                    let at = (filed - half) % ring;
                    (half + at, ring - at)
                }
            };
            let n = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            self.file.write_all_at(&bytes[..n], at)?;
            self.filed += n as u64;
            bytes = &bytes[n..];
        }
        self.recent.clear();
        Ok(())
    }

    /// Puts the log of a step that has ended into the store, and forgets it; `None` if nothing was written.
    pub(super) fn keep(&mut self, store: &Store) -> Result<Option<Placed>> {
        if self.filed == 0 {
            if self.recent.is_empty() {
                return Ok(None);
            }
            let placed = store.put(&self.recent)?;
            self.recent.clear();
            return Ok(Some(placed));
        }
        let what = || store.root().join("../scratch");
        self.flush().or_io("write a log in", what())?;
        let placed = store.put_from(&mut log_in(&self.file, self.filed, self.cap))?;
        self.file.set_len(0).or_io("empty a log in", what())?;
        self.filed = 0;
        Ok(Some(placed))
    }
}

/// The log in a file that so many bytes went to, in order: what was cut out of it is said where it was.
fn log_in(file: &File, filed: u64, cap: u64) -> impl Read {
    let part = |from, to| Part { file, from, to };
    let half = cap / 2;
    let (head, cut, oldest) = match filed <= cap {
        true => (filed, String::new(), cap),
        false => {
            let cut = format!("\n[… {} cut here …]\n", text::size(filed - cap));
            (half, cut, half + (filed - half) % (cap - half))
        }
    };
    let newest = if filed <= cap { cap } else { half };
    let tail = part(oldest, cap).chain(part(newest, oldest));
    part(0, head).chain(Cursor::new(cut)).chain(tail)
}

/// The log of an attempt whose runner was killed, as far as it was in the file.
pub(super) struct LeftLog {
    file: File,
    /// Step and attempt.
    of: (i64, i64),
    filed: u64,
    cap: u64,
}

impl LeftLog {
    /// Looks into the folder of a worker that is dead, whose logs had this cap; `None`: it has left none, or a script has
    /// put something else in its place.
    pub(super) fn find(worker: BorrowedFd<'_>, cap: u64) -> Option<LeftLog> {
        let open = |name| {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(worker, name, flags, Mode::empty()).ok()?);
            file.metadata().ok().filter(|found| found.is_file()).map(|found| (file, found.len()))
        };
        let ((file, len), (owner, _)) = (open(NAMES[0])?, open(NAMES[1])?);
        let mut line = String::new();
        owner.take(100).read_to_string(&mut line).ok()?;
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<i64>().ok());
        let (step, number, filed) = (numbers.next()??, numbers.next()??, numbers.next()??);
        // What was to be written next may not be there yet, and only of a long one is it known where it ends.
        let filed = if len < cap { len } else { cap.max(filed.unsigned_abs()) };
        (len > 0).then_some(LeftLog { file, of: (step, number), filed, cap })
    }

    /// Step and attempt; zeros if several shared the script.
    pub(super) fn of(&self) -> (i64, i64) {
        self.of
    }

    /// The log.
    pub(super) fn read(&self) -> impl Read {
        log_in(&self.file, self.filed, self.cap)
    }
}

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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;
    use crate::proof::Rows;

    fn kept(cap: u64, bytes: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Arc::new(Rows::default())).unwrap();
        let root = File::open(dir.path()).unwrap();
        let mut log = LogPipe::make(root.as_fd(), cap).unwrap();
        let mut write = File::from(log.write_end().try_clone_to_owned().unwrap());
        for round in 0..2 {
            log.begin((7, 1)).unwrap();
            for piece in bytes.chunks(10_000) {
                write.write_all(piece).unwrap();
                if round == 0 { log.drain_for_followers() } else { log.drain() }.unwrap();
            }
            assert!(log.file.metadata().unwrap().len() <= cap);
            // As much as somebody finds who looks after a kill.
            let mut left = Vec::new();
            if let Some(found) = LeftLog::find(root.as_fd(), cap).filter(|_| round == 0) {
                assert_eq!(found.of(), (7, 1));
                found.read().read_to_end(&mut left).unwrap();
            }
            let placed = log.keep(&store).unwrap();
            let read = placed.map(|placed| std::fs::read(store.path(&placed.hash)).unwrap());
            let read = read.unwrap_or_default();
            if round == 1 {
                return read;
            }
            assert_eq!(left, read);
            assert!(LeftLog::find(root.as_fd(), cap).is_none(), "it has been kept");
        }
        unreachable!()
    }

    #[test]
    fn a_log_is_kept_whole_up_to_the_cap_and_both_ends_of_a_longer_one() {
        let bytes: Vec<u8> = (0..300_000u32).map(|n| (n >> 4) as u8).collect();
        assert_eq!(kept(1000, b""), b"");
        assert_eq!(kept(1 << 20, &bytes), bytes);
        assert_eq!(kept(300_000, &bytes), bytes);
        let cap = 100_001;
        let log = kept(cap as u64, &bytes);
        let (head, tail) = (cap / 2, cap - cap / 2);
        assert_eq!(log[..head], bytes[..head]);
        assert_eq!(log[log.len() - tail..], bytes[bytes.len() - tail..]);
        let middle = String::from_utf8_lossy(&log[head..log.len() - tail]);
        assert_eq!(middle, format!("\n[… {} cut here …]\n", text::size(199_999)));
    }
}
