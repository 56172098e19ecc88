//! A file or standard output that takes whole lines, and reports once when it can take no more.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::error::{Error, OrIo as _, Result};
use crate::sys::flock;
use crate::text::{printable, shown};

/// What a sink is for, and how a file of that kind is known. A file that holds anything else is somebody's, and is not
/// overwritten unless that is asked for.
pub(super) struct Format {
    /// In the plural: "events".
    pub(super) what: &'static str,
    /// Whether a file that begins like this is of this kind, by this build or an older one.
    pub(super) is_it: fn(&[u8]) -> bool,
}

/// As much of a file is looked at to know its kind: more than the first line, whatever paths are in it.
const BEGINNING: u64 = 64 << 10;

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
    /// If the file can't be opened; [`Error::Taken`] while another sink has it, whose lines then stay;
    /// [`Error::Usage`] if it holds something of another format, unless `force`.
    pub(super) fn open(path: &Path, format: &Format, force: bool) -> Result<Sink> {
        if path.as_os_str() == "-" {
            let path = PathBuf::from("standard output");
            return Ok(Sink::new(Box::new(std::io::stdout()), None, path));
        }
        // A link that was there when it was named is meant; none is followed that comes in between, and none makes us
        // create a file elsewhere.
        let is_link = path.is_symlink();
        let flags = if is_link { OFlags::empty() } else { OFlags::NOFOLLOW };
        let found = fs::metadata(path);
        let is_new = found.is_err();
        // Append mode: if somebody truncates the file, our next line leaves no hole before it. Only a regular file is
        // opened for reading too: a FIFO would not wait for its reader then.
        let mut file = File::options()
            .create(!is_link)
            .append(true)
            .read(found.is_ok_and(|found| found.is_file()))
            .custom_flags(flags.bits() as i32)
            .open(path)
            .or_io("write to", path)?;
        let metadata = file.metadata().or_io("look at", path)?;
        let is_regular = metadata.is_file();
        if is_regular {
            // Some file systems have no locks; the file is used without one there.
            if matches!(flock::try_exclusive(&file), Ok(false)) {
                return Err(Error::Taken { path: path.to_owned() });
            }
            // Of a file that has come in between nothing can be read, and so it is refused.
            if !is_new || metadata.len() > 0 {
                Sink::check(&mut file, path, format, force)?;
            }
            file.set_len(0).or_io("empty", path)?;
        }
        let again =
            if is_regular { Some((file.try_clone().or_io("open", path)?, 0)) } else { None };
        Ok(Sink::new(Box::new(file), again, path.to_owned()))
    }

    /// Refuses a file that is not ours to empty.
    fn check(file: &mut File, path: &Path, format: &Format, force: bool) -> Result<()> {
        let mut beginning = Vec::new();
        file.take(BEGINNING).read_to_end(&mut beginning).or_io("read", path)?;
        if (format.is_it)(&beginning) {
            return Ok(());
        }
        if beginning.is_empty() || force {
            return Ok(());
        }
        let what = format.what;
        Err(Error::Usage(format!(
            "`{}` holds something else than {what} of an earlier run; name another file, or add --force to overwrite \
             it",
            shown(path)
        )))
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

    const LINES: Format = Format { what: "lines", is_it: |bytes| bytes.starts_with(b"x") };

    fn open(path: &Path) -> Result<Sink> {
        Sink::open(path, &LINES, false)
    }

    #[test]
    fn a_file_that_another_sink_has_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e");
        let mut first = open(&path).unwrap();
        first.write(b"x\n");
        let error = open(&path).err().unwrap();
        assert!(matches!(&error, Error::Taken { path: taken } if *taken == path), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"x\n");
        drop(first);
        open(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn a_full_disk_is_reported_once() {
        let mut sink = open(Path::new("/dev/full")).unwrap();
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
