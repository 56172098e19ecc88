//! Writes a file in which blocks of zeros take no room on the disk.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;

/// What file systems allocate at least, mostly.
const BLOCK: usize = 4096;

/// Buffer for copies.
const BUFFER: usize = 256 << 10;

/// A new file, written from its beginning to its end: a hole takes the place of every block of zeros. So what was sparse
/// stays so, without a look at where its holes are; they have to be read anyhow, to be hashed.
pub(super) struct SparseWriter<'f> {
    file: &'f File,
    at: u64,
}

impl<'f> SparseWriter<'f> {
    /// `file` is empty.
    pub(super) fn new(file: &'f File) -> SparseWriter<'f> {
        SparseWriter { file, at: 0 }
    }

    /// To be called when all is written: a hole at the end has no length yet.
    pub(super) fn finish(self) -> io::Result<()> {
        self.file.set_len(self.at)
    }
}

impl Write for SparseWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let first = (BLOCK - self.at as usize % BLOCK).min(bytes.len());
        let (first, rest) = bytes.split_at(first);
        // Where the data began of which nothing is written yet.
        let mut begun = 0;
        let mut end = 0;
        for block in std::iter::once(first).chain(rest.chunks(BLOCK)) {
            if block.iter().all(|byte| *byte == 0) {
                self.file.write_all_at(&bytes[begun..end], self.at + begun as u64)?;
                begun = end + block.len();
            }
            end += block.len();
        }
        self.file.write_all_at(&bytes[begun..], self.at + begun as u64)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies all that `from` still gives into an empty file, with holes.
///
/// # Errors
/// Those of reading and of writing.
pub(crate) fn copy_sparse(from: &mut dyn Read, to: &File) -> io::Result<()> {
    let mut writer = SparseWriter::new(to);
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return writer.finish(),
            Ok(n) => writer.write_all(&buffer[..n])?,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_back_is_what_was_written_however_it_is_cut() {
        let mut bytes = vec![0; 5 * BLOCK + 100];
        bytes[BLOCK - 1] = 1;
        bytes[3 * BLOCK] = 2;
        for length in [0, 1, BLOCK, 2 * BLOCK, bytes.len() - 1, bytes.len()] {
            for piece in [1, 100, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, bytes.len()] {
                let file = tempfile::tempfile().unwrap();
                let mut writer = SparseWriter::new(&file);
                for piece in bytes[..length].chunks(piece) {
                    writer.write_all(piece).unwrap();
                }
                writer.finish().unwrap();
                let mut back = vec![9; length];
                file.read_exact_at(&mut back, 0).unwrap();
                assert_eq!(file.metadata().unwrap().len(), length as u64);
                assert!(back == bytes[..length], "{length} bytes in pieces of {piece}");
            }
        }
    }
}
