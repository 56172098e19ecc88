//! The one question that the store asks of the database. Unaware of both.

use crate::error::Result;
use crate::object::ObjectHash;

/// Knows which objects are committed. A row proves an object; a name in `objects/` proves nothing, because a
/// power cut may leave a name without its bytes.
pub trait Proof: Send + Sync {
    /// The size in bytes of the committed row of an object; `None` if there is no such row.
    ///
    /// May wait for a commit of another thread, so nobody asks while holding a lock that a commit needs.
    ///
    /// # Errors
    /// If the rows can't be read.
    fn committed_size(&self, hash: &ObjectHash) -> Result<Option<u64>>;
}

/// Rows in memory, in place of a database.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Rows(std::sync::Mutex<std::collections::HashMap<ObjectHash, u64>>);

#[cfg(test)]
impl Rows {
    pub(crate) fn insert(&self, hash: ObjectHash, size: u64) {
        self.0.lock().unwrap().insert(hash, size);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

#[cfg(test)]
impl Proof for Rows {
    fn committed_size(&self, hash: &ObjectHash) -> Result<Option<u64>> {
        Ok(self.0.lock().unwrap().get(hash).copied())
    }
}
