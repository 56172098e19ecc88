//! One mistake in a manifest: where, what, what to do.
use std::fmt;
use std::path::Path;
use crate::error::{Error};

/// STUB
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake { pub text: String }
impl fmt::Display for Mistake { fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.text) } }
pub(super) fn unreadable(path: &Path, err: std::io::Error) -> Error { Error::Io { what: "read manifest", path: path.to_owned(), source: err } }
