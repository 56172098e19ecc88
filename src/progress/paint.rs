//! Colours, or none.

use std::fmt::Display;

/// Whether there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Colored,
}

impl Paint {
    /// What went well.
    pub(super) fn good(self, text: impl Display) -> String {
        self.sgr("32", text)
    }

    /// What may be a mistake.
    pub(super) fn doubtful(self, text: impl Display) -> String {
        self.sgr("33", text)
    }

    /// What failed.
    pub(super) fn bad(self, text: impl Display) -> String {
        self.sgr("1;31", text)
    }

    /// What stands behind the rest.
    pub(super) fn faint(self, text: impl Display) -> String {
        self.sgr("2", text)
    }

    fn sgr(self, code: &str, text: impl Display) -> String {
        match self {
            Paint::Plain => text.to_string(),
            Paint::Colored => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}
