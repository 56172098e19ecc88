//! Commits without fsync, looked at by the run that comes after them: under the same boot and mount a run
//! that promises more makes them durable; after a power cut they are checked.

use crate::db::{self, Db, Durability};
use crate::error::Result;
use crate::object::ObjectHash;
use crate::store::Store;

/// Checks the objects of runs that a power cut may have spoilt, and has the bad ones made anew by the
/// run that begins. Costs nothing if there is no such run. Returns how many objects were bad.
///
/// # Errors
/// What keeps it from looking.
pub fn recover(db: &Db, store: &Store, boot: &str, durability: Durability) -> Result<u64> {
    let unsynced = db.read(|reader| db::unsynced(reader, boot))?;
    let bad = if unsynced.elsewhere { look_again(db, store, boot)? } else { 0 };
    // A step whose output lies there already leaves it as it is, for its row proves it. Under `batch` the
    // row has to prove it after a power cut as well, whoever wrote it.
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
    // Another mount is no proof of a power cut. If there was none, what was good may have been so in
    // memory only.
    store.sync_all()?;
    db.write(|writer| db::redo(writer, &bad, boot))?;
    Ok(bad.len() as u64)
}
