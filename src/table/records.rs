//! Reads the records of a CSV file one by one. Unaware of what the columns mean.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

/// Bytes of a record. More is read past and not kept: a quote that is never closed would take the rest of the file.
pub(super) const LONGEST: usize = 1 << 20;

/// Bytes read at once.
const CHUNK: usize = 1 << 16;

/// A file that is read, and its present record.
pub(super) struct Records {
    path: PathBuf,
    file: File,
    delimiter: u8,
    reader: Reader,
    chunk: Vec<u8>,
    /// What of the chunk is not yet read.
    rest: Range<usize>,
    /// The fields, one after the other, and where each ends.
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
    is_too_long: bool,
    /// Where the record begins.
    begin: Mark,
    /// Bytes of the file up to its end.
    end: u64,
}

/// Where a record begins, or the end of the line before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    offset: u64,
    line: u64,
}

/// Where a field is.
pub(super) struct FieldPlace {
    /// The record as it is written.
    pub(super) text: String,
    /// The field in it.
    pub(super) span: Range<usize>,
    /// The line that `text` begins on.
    pub(super) line: u64,
}

impl Records {
    pub(super) fn open(path: &Path, delimiter: u8) -> io::Result<Records> {
        Ok(Records {
            path: path.to_owned(),
            file: File::open(path)?,
            delimiter,
            reader: ReaderBuilder::new().delimiter(delimiter).build(),
            chunk: vec![0; CHUNK],
            rest: 0..0,
            text: vec![0; 1 << 10],
            ends: vec![0; 64],
            count: 0,
            is_too_long: false,
            begin: Mark { offset: 0, line: 1 },
            end: 0,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Goes on to the next record. False if there is none.
    pub(super) fn advance(&mut self) -> io::Result<bool> {
        self.begin = Mark { offset: self.end, line: self.reader.line() };
        self.is_too_long = false;
        let (mut written, mut ended) = (0, 0);
        loop {
            if self.rest.is_empty() {
                let read = self.file.read(&mut self.chunk)?;
                self.rest = 0..read;
            }
            let input = &self.chunk[self.rest.clone()];
            let (result, read, wrote, ends) =
                self.reader.read_record(input, &mut self.text[written..], &mut self.ends[ended..]);
            self.rest.start += read;
            self.end += read as u64;
            written += wrote;
            ended += ends;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull if self.text.len() >= LONGEST => {
                    self.is_too_long = true;
                    written = 0;
                }
                ReadRecordResult::OutputFull => self.text.resize(self.text.len() * 2, 0),
                ReadRecordResult::OutputEndsFull if self.ends.len() >= LONGEST => {
                    self.is_too_long = true;
                    ended = 0;
                }
                ReadRecordResult::OutputEndsFull => self.ends.resize(self.ends.len() * 2, 0),
                ReadRecordResult::Record => {
                    self.count = if self.is_too_long { 0 } else { ended };
                    return Ok(true);
                }
                ReadRecordResult::End => return Ok(false),
            }
        }
    }

    /// Number of fields.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn is_too_long(&self) -> bool {
        self.is_too_long
    }

    /// The n-th field.
    pub(super) fn field(&self, n: usize) -> &[u8] {
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[n]]
    }

    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.count).map(|n| self.field(n))
    }

    /// Where the present record is.
    pub(super) fn mark(&self) -> Mark {
        self.begin
    }

    /// The line that a record begins on.
    pub(super) fn line(&self, mark: Mark) -> u64 {
        let raw = self.raw(mark.offset, 256);
        mark.line + raw[..blank(&raw)].iter().filter(|byte| **byte == b'\n').count() as u64
    }

    /// Where the n-th field is; one that is not there would follow the last one.
    pub(super) fn place(&self, n: usize) -> FieldPlace {
        let length = (self.end - self.begin.offset).min(LONGEST as u64);
        let raw = self.raw(self.begin.offset, length);
        let span = span(&raw, self.delimiter, n);
        // The text before the field may not be UTF-8, and then its columns are those of the repaired text.
        let before = String::from_utf8_lossy(&raw[..span.start]).into_owned();
        let field = String::from_utf8_lossy(&raw[span.clone()]);
        let start = before.len();
        let end = start + field.len();
        let text = before + &field + &String::from_utf8_lossy(&raw[span.end..]);
        FieldPlace { text, span: start..end, line: self.begin.line }
    }

    /// So many bytes of the file, without its byte order mark. None if they can't be read.
    fn raw(&self, offset: u64, length: u64) -> Vec<u8> {
        let mut raw = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(offset))?;
            file.take(length).read_to_end(&mut raw)
        });
        if read.is_err() {
            raw.clear();
        }
        match raw.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if offset == 0 => rest.to_vec(),
            _ => raw,
        }
    }
}

/// Bytes of the ends of lines that come before a record.
fn blank(raw: &[u8]) -> usize {
    raw.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count()
}

/// Where the n-th field of a record is.
fn span(raw: &[u8], delimiter: u8, n: usize) -> Range<usize> {
    let mut at = blank(raw);
    for field in 0.. {
        let start = at;
        if raw.get(at) == Some(&b'"') {
            at += 1;
            while at < raw.len() && (raw[at] != b'"' || raw.get(at + 1) == Some(&b'"')) {
                at += if raw[at] == b'"' { 2 } else { 1 };
            }
        }
        let rest = raw.get(at..).unwrap_or_default();
        let is_end = |byte: &u8| *byte == delimiter || matches!(byte, b'\r' | b'\n');
        at += rest.iter().position(is_end).unwrap_or(rest.len());
        if field == n || raw.get(at) != Some(&delimiter) {
            return start..at;
        }
        at += 1;
    }
    0..0
}
