//! After a power cut: looks again at what runs without fsync committed under another boot or mount.

use crate::db::{self, Db};
use crate::error::Result;
use crate::object::ObjectHash;
use crate::store::Store;

/// Checks the objects of runs that a power cut may have spoilt, and has the bad ones made anew by the
/// run that begins. Costs nothing if there is no such run. Returns how many objects were bad.
///
/// # Errors
/// What keeps it from looking.
pub fn recover(db: &Db, store: &Store, boot: &str) -> Result<u64> {
    if db::unsound_runs(&db.lock(), boot)? == 0 {
        return Ok(0);
    }
    let mut suspects: Vec<(ObjectHash, u64)> = Vec::new();
    db::each_unsound_object(&db.lock(), boot, &mut |hash, size| {
        suspects.push((hash, size));
        Ok(())
    })?;
    let mut bad = Vec::new();
    for (hash, size) in suspects {
        if store.check(&hash, Some(size), true)?.is_err() {
            store.forget(&hash);
            bad.push(hash);
        }
    }
    db::redo(&mut db.lock(), &bad, boot)?;
    Ok(bad.len() as u64)
}
