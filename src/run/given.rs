//! An INPUT, and where it is named: for whoever has to correct that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::text::shown;

/// An INPUT of the command line, or of a list that it names.
pub(super) struct GivenInput {
    pub(super) path: PathBuf,
    /// The list and the number of the line (or of the name, if they end in NUL), from 1; `None`: the command line.
    pub(super) listed: Option<(Arc<Path>, usize)>,
}

impl GivenInput {
    /// For messages: ` (line 3 of `list`)`.
    pub(super) fn place(&self) -> String {
        match &self.listed {
            Some((list, line)) => format!(" (line {line} of `{}`)", shown(list)),
            None => String::new(),
        }
    }
}
