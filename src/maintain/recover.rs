//! What happens to commits made without fsync when the next run begins: under the same boot and mount, a run that
//! promises more makes them durable; after a power cut they are checked.

use crate::db::{self, Db, Durability};
use crate::error::Result;
use crate::object::ObjectHash;
use crate::store::Store;

/// Checks the objects of runs that a power cut may have damaged, and marks the steps behind the bad ones, so that the
/// run that begins makes them again. Costs nothing if there is no such run. Returns how many objects were bad.
///
/// # Errors
/// If the database or the store can't be read or written.
pub fn recover(db: &Db, store: &Store, boot: &str, durability: Durability) -> Result<u64> {
    let unsynced = db.read(|reader| db::unsynced(reader, boot))?;
    let bad = if unsynced.elsewhere { look_again(db, store, boot)? } else { 0 };
    // A step whose output exists already leaves it as it is, because a row proves it. Under `batch` that proof has
    // to hold after a power cut too, whoever wrote the object.
    if unsynced.here && durability == Durability::Batch && store.sync_all()? {
        db.write(db::all_synced)?;
    }
    Ok(bad)
}

fn look_again(db: &Db, store: &Store, boot: &str) -> Result<u64> {
    let mut suspects: Vec<(ObjectHash, u64)> = Vec::new();
    db.read(|reader| {
        db::each_unsound_object(reader, boot, &mut |hash, size| suspects.push((hash, size)))
    })?;
    let mut bad = Vec::new();
    for (hash, size) in suspects {
        if store.check(&hash, Some(size), true)?.is_err() {
            store.forget(&hash);
            bad.push(hash);
        }
    }
    // Another mount doesn't prove a power cut. Without one, the good objects may have been read from memory, and not
    // be on the disk yet.
    store.sync_all()?;
    db.write(|writer| db::redo(writer, &bad, boot))?;
    Ok(bad.len() as u64)
}
