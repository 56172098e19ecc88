//! One mistake in a manifest: where, what, what to do.
use crate::error::Error;
use std::fmt;
use std::path::Path;

/// STUB
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    pub text: String,
}
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
pub(super) fn unreadable(path: &Path, err: std::io::Error) -> Error {
    Error::Io { what: "read manifest", path: path.to_owned(), source: err }
}
