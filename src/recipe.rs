//! What a task *does*, hashed: the identity that decides whether a result may be kept, and the
//! fields that say why it may not. Unaware of steps and of the database.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::manifest::Task;
use crate::object::ObjectHash;

/// The fields of a recipe. Kept in the database as JSON, so that `explain` can compare two of them
/// field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipe {
    /// Programme and arguments before the script's file: `["sh", "-e"]`.
    pub interpreter: Vec<String>,
    /// The script's text.
    pub script: String,
    /// The manifest's `env`, sorted by name.
    pub env: Vec<(String, String)>,
    /// `files`, sorted by path: (path as written, hex hash of the content).
    pub files: Vec<(String, String)>,
    /// One step over all inputs together.
    pub gather: bool,
}

impl Recipe {
    /// The recipe of a task. `hash_file` tells the content hash of one of its `files` (an absolute
    /// path); whoever calls may answer from a cache.
    pub fn of(
        _task: &Task,
        _dir: &Path,
        _hash_file: &mut dyn FnMut(&Path) -> Result<ObjectHash>,
    ) -> Result<Recipe> {
        unimplemented!()
    }

    /// SHA-256 over tagged, length-prefixed fields.
    pub fn hash(&self) -> ObjectHash {
        unimplemented!()
    }
}
