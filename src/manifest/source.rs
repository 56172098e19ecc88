//! The manifest's text with its lines, and the list of what is wrong with it. Unaware of tasks.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use super::mistake::{self, Mistake, Place, quoted};
use crate::text::printable_line;

/// The text, with the start of every line, so that finding a place costs no walk over the text.
pub(super) struct Source<'t> {
    path: &'t Path,
    text: &'t str,
    line_starts: Vec<usize>,
}

/// Lines longer than this are shown in part: a script of a megabyte on one line is legal TOML.
const WIDEST: usize = 160;

impl<'t> Source<'t> {
    pub(super) fn new(path: &'t Path, text: &'t str) -> Source<'t> {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Source { path, text, line_starts }
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// Line of a byte offset, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn place(&self, span: &Range<usize>) -> Place {
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
        Place { line, column: before + 1, source, caret, width: width.max(1) }
    }

    pub(super) fn mistake(
        &self,
        span: &Range<usize>,
        message: String,
        help: Option<String>,
    ) -> Mistake {
        let place = Some(self.place(span));
        // The parser's and the glob library's words may quote what a terminal would obey.
        let printable = |text: String| printable_line(text.as_bytes());
        let (message, help) = (printable(message), help.map(printable));
        Mistake { path: self.path.to_owned(), place, message, help }
    }
}

/// The part of a long line around a column, and that column in the part.
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

/// Collects mistakes. A syntax error makes what stands around it unreliable, so that mistakes which
/// would only be its echo are not collected.
pub(super) struct Findings<'s> {
    pub(super) source: &'s Source<'s>,
    mistakes: Vec<(usize, Mistake)>,
    /// Lines with a syntax error.
    damaged: BTreeSet<usize>,
    /// From this offset on the text is believed to be the inside of a string that was never closed.
    swallowed: usize,
}

impl<'s> Findings<'s> {
    pub(super) fn new(source: &'s Source<'s>) -> Findings<'s> {
        let (mistakes, damaged) = (Vec::new(), BTreeSet::new());
        Findings { source, mistakes, damaged, swallowed: usize::MAX }
    }

    /// What the TOML parser found.
    pub(super) fn syntax(&mut self, span: Option<Range<usize>>, message: &str) {
        // The parser leaves out the place of a dotted key with too many dots.
        let span = span.unwrap_or(0..0);
        self.damaged.insert(self.source.line(span.start));
        self.push(&span, message.to_owned(), None);
    }

    /// Says that a string which begins at `start` runs on over what should come after it. If a syntax
    /// error follows, it was probably never closed, and what was found after it has no meaning of its
    /// own.
    pub(super) fn runs_on(&mut self, start: usize, over: &str) {
        let line = self.source.line(start);
        let help = format!(
            "the string that begins on line {line} goes on over {over}; is its end missing?"
        );
        let after = self.mistakes.iter_mut().filter(|(at, mistake)| {
            // Only syntax errors have no help yet.
            *at >= start && mistake.help.is_none()
        });
        if let Some((first, mistake)) = after.min_by_key(|(at, _)| *at) {
            mistake.help = Some(help);
            self.swallowed = self.swallowed.min(start);
            // Strings and what lies between them are swapped from there on.
            let first = *first;
            self.mistakes.retain(|(at, _)| *at <= first);
        }
    }

    /// A mistake at `span`, and its cure.
    pub(super) fn add(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        // After a syntax error the parser puts stand-ins without a place into the tree.
        let is_stand_in = self.is_damaged() && *span == (0..0);
        let is_echo = self.damaged.contains(&self.source.line(span.start));
        if !is_stand_in && !is_echo && span.start < self.swallowed {
            self.push(span, message.into(), Some(help.into()));
        }
    }

    /// A mistake of the manifest as a whole.
    pub(super) fn add_whole(&mut self, message: &str, help: &str) {
        self.mistakes.push((0, mistake::whole(self.source.path, message.to_owned(), help)));
    }

    /// A value of the wrong kind: `` `parallel` must be a whole number, not a string ``.
    pub(super) fn wrong_type(
        &mut self,
        span: &Range<usize>,
        what: &str,
        wanted: &str,
        got: &str,
        help: impl Into<String>,
    ) {
        self.add(span, format!("{} must be {wanted}, not {got}", quoted(what)), help);
    }

    fn push(&mut self, span: &Range<usize>, message: String, help: Option<String>) {
        self.mistakes.push((span.start, self.source.mistake(span, message, help)));
    }

    /// True if there is any syntax error: then what is missing may only have been misread.
    pub(super) fn is_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// True if a syntax error lies within these bytes.
    pub(super) fn is_damaged_in(&self, span: &Range<usize>) -> bool {
        let lines = self.source.line(span.start)..=self.source.line(span.end);
        span.end > self.swallowed || self.damaged.range(lines).next().is_some()
    }

    /// Every mistake once, in the order of the text.
    pub(super) fn into_mistakes(mut self) -> Vec<Mistake> {
        self.mistakes.sort_by_key(|(at, _)| *at);
        self.mistakes.dedup();
        self.mistakes.into_iter().map(|(_, mistake)| mistake).collect()
    }
}
