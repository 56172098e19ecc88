//! How the text of an answer looks: colours and width, which a terminal has and a pipe has not.

use std::io::IsTerminal as _;

use crate::cli::Color;
use crate::progress::Paint;
use crate::text::{cut, size};

use super::answer::SizedObject;

/// Columns that a line with a whole hash needs.
const WIDE: usize = 72;

/// Digits of a hash that does without.
const SHORT: usize = 16;

/// What standard output can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) paint: Paint,
    /// `None`: lines may be as long as they like.
    pub(super) columns: Option<usize>,
}

impl Style {
    /// As `--color` says, or else the environment and whether there is a terminal.
    pub(super) fn of(color: Color) -> Style {
        let stdout = std::io::stdout();
        let is_terminal = stdout.is_terminal();
        let has_color = color.decide(is_terminal, |name| std::env::var_os(name));
        let size = rustix::termios::tcgetwinsize(&stdout).ok().filter(|size| size.ws_col > 0);
        Style {
            paint: if has_color { Paint::Colored } else { Paint::Plain },
            columns: size.filter(|_| is_terminal).map(|size| size.ws_col.into()),
        }
    }

    /// An object with its size. In a narrow terminal it is the beginning of its hash, which commands take as well.
    pub(super) fn object(self, object: &SizedObject) -> String {
        let size = object.bytes.map_or_else(|| "no longer kept".to_owned(), size);
        let hash = object.object.hex();
        let digits = if self.columns.is_some_and(|columns| columns < WIDE) { SHORT } else { 64 };
        format!("{} ({size})", hash.get(..digits).unwrap_or(&hash))
    }

    /// As much of a line as a terminal has room for.
    pub(super) fn cut(self, line: &str) -> String {
        self.columns.map_or_else(|| line.to_owned(), |columns| cut(line, columns))
    }
}
