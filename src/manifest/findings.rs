//! The list of all mistakes in one manifest. Unaware of tasks.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::diagnostic::{Diagnostic, SourceText, quoted};
use crate::order;

/// Collects mistakes. After a syntax error the parser guesses what the text around it means, so mistakes
/// that may come from such a guess are dropped.
pub(super) struct Findings<'s> {
    pub(super) source: &'s SourceText<'s>,
    /// Each with its offset.
    diagnostics: Vec<(usize, Diagnostic)>,
    /// Lines with a syntax error.
    damaged: BTreeSet<usize>,
    /// The text after this offset is probably the inside of a string that was never closed.
    swallowed: usize,
}

impl<'s> Findings<'s> {
    pub(super) fn new(source: &'s SourceText<'s>) -> Findings<'s> {
        let (diagnostics, damaged) = (Vec::new(), BTreeSet::new());
        Findings { source, diagnostics, damaged, swallowed: usize::MAX }
    }

    /// An error that the TOML parser reports.
    pub(super) fn syntax(&mut self, span: Option<Range<usize>>, message: &str) {
        // The parser gives no place for a dotted key with too many parts.
        let span = span.unwrap_or(0..0);
        self.damaged.insert(self.source.line(span.start));
        self.push(&span, message.to_owned(), None);
    }

    /// Reports that the string which begins at `start` contains what should come after it. If a syntax
    /// error follows, the string was probably never closed, and mistakes found after it mean nothing.
    pub(super) fn runs_on(&mut self, start: usize, over: &str) {
        let line = self.source.line(start);
        let help = format!(
            "the string that begins on line {line} goes on over {over}; is its end missing?"
        );
        let after = self.diagnostics.iter_mut().filter(|(at, diagnostic)| {
            // Only syntax errors have no help yet.
            *at >= start && diagnostic.help.is_none()
        });
        if let Some((first, diagnostic)) = after.min_by_key(|(at, _)| *at) {
            diagnostic.help = Some(help);
            self.swallowed = self.swallowed.min(start);
            // From there on the parser took strings for what is between them, and the other way round.
            let first = *first;
            self.diagnostics.retain(|(at, _)| *at <= first);
        }
    }

    /// Adds a mistake at `span` and what to do about it.
    pub(super) fn add(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        // After a syntax error the parser puts placeholders without a place into the tree.
        let is_placeholder = self.is_damaged() && *span == (0..0);
        let is_guess = self.damaged.contains(&self.source.line(span.start));
        if !is_placeholder && !is_guess && span.start < self.swallowed {
            self.push(span, message.into(), Some(help.into()));
        }
    }

    /// Adds mistakes in another file, which the manifest names at `span`.
    pub(super) fn add_elsewhere(&mut self, span: &Range<usize>, mistakes: Vec<Diagnostic>) {
        self.diagnostics.extend(mistakes.into_iter().map(|mistake| (span.start, mistake)));
    }

    /// Adds a mistake of the manifest as a whole.
    pub(super) fn add_whole(&mut self, message: &str, help: &str) {
        self.diagnostics.push((0, Diagnostic::of_file(self.source.path(), message, help)));
    }

    /// Adds a value of the wrong type: `` `parallel` must be a whole number, not a string ``.
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
        self.diagnostics.push((span.start, self.source.diagnostic(span, message, help)));
    }

    /// True if there is any syntax error: what seems to be missing may have been misread.
    pub(super) fn is_damaged(&self) -> bool {
        !self.damaged.is_empty()
    }

    /// True if there is a syntax error within these bytes.
    pub(super) fn is_damaged_in(&self, span: &Range<usize>) -> bool {
        let lines = self.source.line(span.start)..=self.source.line(span.end);
        span.end > self.swallowed || self.damaged.range(lines).next().is_some()
    }

    /// Every mistake once, in the order of the text.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        order::sort_by_key(&mut self.diagnostics, |(at, _)| *at);
        self.diagnostics.dedup();
        self.diagnostics.into_iter().map(|(_, diagnostic)| diagnostic).collect()
    }
}
