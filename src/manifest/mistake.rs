//! One mistake in a manifest: where, what, what to do. Data until it is displayed.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use unicode_width::UnicodeWidthStr;

use crate::error::Error;
use crate::text::{printable, printable_line};

/// One mistake, with all that is needed to find it and to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The manifest as it was named.
    pub path: PathBuf,
    /// `None` if it isn't about any one line.
    pub place: Option<Place>,
    /// What is wrong, without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// A place in the manifest's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line, raw and without its end; of a very long one the part around the place.
    pub source: String,
    /// Characters of `source` before the place.
    pub caret: usize,
    /// Characters the mistake covers on this line; at least 1.
    pub width: usize,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(self.path.as_os_str().as_bytes()))?;
        let Some(place) = &self.place else {
            write!(f, ": {}", self.message)?;
            return match &self.help {
                Some(help) => write!(f, "\n  = help: {help}"),
                None => Ok(()),
            };
        };
        let Place { line, column, .. } = place;
        let gutter = " ".repeat(line.to_string().len());
        writeln!(f, ":{line}:{column}: {}", self.message)?;
        writeln!(f, "{gutter} |")?;
        let source = printable_line(place.source.as_bytes());
        writeln!(f, "{}", format!("{line} | {source}").trim_end())?;
        write!(f, "{gutter} | {}", place.underline())?;
        match &self.help {
            Some(help) => write!(f, "\n{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl Place {
    /// White space as wide as what precedes the place on the screen, then carets. Escapes and East
    /// Asian characters are wider than one column, and a tab is as wide as the same tab above it.
    fn underline(&self) -> String {
        let mut out = String::new();
        let mut chars = self.source.chars();
        for c in chars.by_ref().take(self.caret) {
            match c {
                '\t' => out.push('\t'),
                c => out.extend(std::iter::repeat_n(' ', width(c))),
            }
        }
        let carets = chars.take(self.width).map(width).sum::<usize>().max(1);
        out.extend(std::iter::repeat_n('^', carets));
        out
    }
}

/// Columns that a character takes once it is printed.
fn width(c: char) -> usize {
    printable_line(c.encode_utf8(&mut [0; 4]).as_bytes()).width()
}

/// A name or a value of the user's for use inside a message: in backticks, escaped, not too long.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("`{}…`", printable(&text.as_bytes()[..end])),
        None => format!("`{}`", printable(text.as_bytes())),
    }
}

/// A manifest that can't be read at all. What the user can mend on the command line is a mistake;
/// a failing disk is not.
pub(super) fn unreadable(path: &Path, source: io::Error) -> Error {
    let (message, help) = match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            ("there is no such file", "name the manifest with -manifest FILE")
        }
        io::ErrorKind::IsADirectory => {
            ("this is a folder, not a manifest", "name the file in it, such as pipeline.toml")
        }
        io::ErrorKind::FileTooLarge => {
            ("this is larger than 64 MiB", "name a manifest: a TOML file of tasks")
        }
        _ => {
            return Error::Io { what: "read manifest", path: path.to_owned(), source };
        }
    };
    Error::Manifest(vec![whole(path, message.to_owned(), help)])
}

/// A mistake about the file as a whole.
pub(super) fn whole(path: &Path, message: String, help: &str) -> Mistake {
    Mistake { path: path.to_owned(), place: None, message, help: Some(help.to_owned()) }
}
