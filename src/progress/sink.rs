//! A file or standard output that takes whole lines, and reports once when it can take no more.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, OrIo as _, Result};
use crate::sys::flock;
use crate::text::printable;

/// Where lines go. Each is one write, so that a kill leaves whole lines.
pub(super) struct Sink {
    out: Box<dyn Write>,
    /// The same file and its length, if it is a regular one: a line that was written in part is cut off again.
    file: Option<(File, u64)>,
    path: PathBuf,
    is_broken: bool,
    complaint: Option<String>,
}

impl Sink {
    /// Creates or empties the file; `-` is standard output.
    ///
    /// # Errors
    /// If the file can't be opened; [`Error::Taken`] while another sink has it, whose lines then stay.
    pub(super) fn open(path: &Path) -> Result<Sink> {
        if path.as_os_str() == "-" {
            let path = PathBuf::from("standard output");
            return Ok(Sink::new(Box::new(std::io::stdout()), None, path));
        }
        // Append mode: if somebody truncates the file, our next line leaves no hole before it.
        let file = File::options().create(true).append(true).open(path).or_io("write to", path)?;
        let is_regular = file.metadata().or_io("look at", path)?.is_file();
        if is_regular {
            // Some file systems have no locks; the file is used without one there.
            if matches!(flock::try_exclusive(&file), Ok(false)) {
                return Err(Error::Taken { path: path.to_owned() });
            }
            file.set_len(0).or_io("empty", path)?;
        }
        let again =
            if is_regular { Some((file.try_clone().or_io("open", path)?, 0)) } else { None };
        Ok(Sink::new(Box::new(file), again, path.to_owned()))
    }

    fn new(out: Box<dyn Write>, file: Option<(File, u64)>, path: PathBuf) -> Sink {
        Sink { out, file, path, is_broken: false, complaint: None }
    }

    /// Writes whole lines. After the first failure it writes nothing any more.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if self.is_broken {
            return;
        }
        let written = self.out.write_all(bytes).and_then(|()| self.out.flush());
        match (written, &mut self.file) {
            (Ok(()), Some((_, length))) => *length += bytes.len() as u64,
            (Ok(()), None) => {}
            (Err(err), file) => {
                self.is_broken = true;
                if let Some((file, length)) = file {
                    let _ = file.set_len(*length);
                }
                // A reader that closed its end has read enough.
                if err.kind() != ErrorKind::BrokenPipe {
                    let path = printable(self.path.as_os_str().as_encoded_bytes());
                    self.complaint = Some(format!(
                        "could not write to `{path}`: {err}; the run goes on without it"
                    ));
                }
            }
        }
    }

    /// Why nothing more is written; returned once.
    pub(super) fn complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_another_sink_has_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        let mut first = Sink::open(&path).unwrap();
        first.write(b"x\n");
        let error = Sink::open(&path).err().unwrap();
        assert!(matches!(&error, Error::Taken { path: taken } if *taken == path), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"x\n");
        drop(first);
        Sink::open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_full_disk_is_reported_once() {
        let mut sink = Sink::open(Path::new("/dev/full")).unwrap();
        sink.write(b"x\n");
        sink.write(b"y\n");
        let complaint = sink.complaint().unwrap();
        assert!(
            complaint.contains("/dev/full") && complaint.contains("No space left"),
            "{complaint}"
        );
        assert_eq!(sink.complaint(), None);
    }
}
