//! One mistake in a text file of the user's: where it is, what is wrong, what to do about it. Data until
//! it is displayed. Unaware of what the file means.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use unicode_width::UnicodeWidthStr;

use crate::text::{path_bytes, printable, printable_line};

/// One mistake, with all that is needed to find it and to fix it. Displayed as
///
/// ```text
/// pipeline.toml:6:8: task `a` is already defined on line 2
///   |
/// 6 | name = "a"
///   |        ^^^
///   = help: give it another name
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file, as it was named on the command line.
    pub path: PathBuf,
    /// `None` if the mistake isn't on any one line.
    pub location: Option<Location>,
    /// What is wrong, without a full stop. Printable.
    pub message: String,
    /// What to do about it. Printable.
    pub help: Option<String>,
}

impl Diagnostic {
    /// A mistake of the file as a whole.
    pub fn of_file(path: &Path, message: impl Into<String>, help: &str) -> Diagnostic {
        let help = Some(help.to_owned());
        Diagnostic { path: path.to_owned(), location: None, message: message.into(), help }
    }
}

/// A place in a file's text, with the line that it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    /// The line as it is in the file, without its end; of a very long line, the part around the place.
    pub source: String,
    /// Characters of `source` before the first caret.
    pub caret: usize,
    /// Characters of `source` to underline; at least 1.
    pub width: usize,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printable(path_bytes(&self.path)))?;
        let Some(location) = &self.location else {
            write!(f, ": {}", self.message)?;
            return match &self.help {
                Some(help) => write!(f, "\n  = help: {help}"),
                None => Ok(()),
            };
        };
        let Location { line, column, .. } = location;
        let gutter = " ".repeat(line.to_string().len());
        writeln!(f, ":{line}:{column}: {}", self.message)?;
        writeln!(f, "{gutter} |")?;
        let source = printable_line(location.source.as_bytes());
        writeln!(f, "{}", format!("{line} | {source}").trim_end())?;
        write!(f, "{gutter} | {}", location.underline())?;
        match &self.help {
            Some(help) => write!(f, "\n{gutter} = help: {help}"),
            None => Ok(()),
        }
    }
}

impl Location {
    /// White space as wide on the screen as the text before the place, then carets. Escapes and East
    /// Asian characters take more than one column. A tab stays a tab, so that it ends where the tab of
    /// the line above ends.
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

/// A file's text with the start of each line, so that the line of an offset is found without reading
/// the text again.
pub struct SourceText<'t> {
    path: &'t Path,
    text: &'t str,
    line_starts: Vec<usize>,
}

/// Longer lines are shown in part: a script of a megabyte on one line is legal TOML. Characters.
const WIDEST: usize = 160;

impl<'t> SourceText<'t> {
    /// The text of the file at `path`, which is only named.
    pub fn new(path: &'t Path, text: &'t str) -> SourceText<'t> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        SourceText { path, text, line_starts }
    }

    /// The path of the file, as it was given.
    pub fn path(&self) -> &'t Path {
        self.path
    }

    /// The whole text.
    pub fn text(&self) -> &'t str {
        self.text
    }

    /// Line of a byte offset, counted from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn location(&self, span: &Range<usize>) -> Location {
        let start = char_boundary(self.text, span.start);
        let end = char_boundary(self.text, span.end).max(start);
        let line = self.line(start);
        let line_start = self.line_starts[line - 1];
        let rest = &self.text[line_start..];
        let whole = rest.split('\n').next().unwrap_or(rest);
        let whole = whole.strip_suffix('\r').unwrap_or(whole);
        let before = self.text[line_start..start].chars().count();
        let inside = whole.get(start - line_start..(end - line_start).min(whole.len()));
        let width = inside.map_or(0, |inside| inside.chars().count());
        let (source, caret) = window(whole, before);
        Location { line, column: before + 1, source, caret, width: width.max(1) }
    }

    /// A mistake at a range of bytes, which may lie outside of the text or within a character.
    pub fn diagnostic(
        &self,
        span: &Range<usize>,
        message: String,
        help: Option<String>,
    ) -> Diagnostic {
        let location = Some(self.location(span));
        // Messages of the TOML parser and the glob library may quote control characters.
        let printable = |text: String| printable_line(text.as_bytes());
        let (message, help) = (printable(message), help.map(printable));
        Diagnostic { path: self.path.to_owned(), location, message, help }
    }
}

/// The part of a long line around a column, and the column within that part.
fn window(line: &str, column: usize) -> (String, usize) {
    let skip = column.saturating_sub(WIDEST / 2);
    let mut chars = line.chars();
    let mut shown: String = chars.by_ref().skip(skip).take(WIDEST).collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    match skip {
        0 => (shown, column),
        skip => (format!("…{shown}"), column - skip + 1),
    }
}

fn char_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// Columns that a character takes once it is printed.
fn width(c: char) -> usize {
    printable_line(c.encode_utf8(&mut [0; 4]).as_bytes()).width()
}

/// Text of the user's for use in a message: in backticks, printable, cut after 64 characters.
pub fn quoted(text: &str) -> String {
    const MOST: usize = 64;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("`{}…`", printable(&text.as_bytes()[..end])),
        None => format!("`{}`", printable(text.as_bytes())),
    }
}
