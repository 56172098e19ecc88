//! What `repair` can set right without making anything again: a mode, or a row.

use std::fs::File;

use crate::db::{self, Db};
use crate::error::{OrIo, Result};
use crate::object::ObjectHash;
use crate::store::Store;

use super::verify::{Remedy, look};

/// What is wrong with an object when its mode is right again.
pub(super) fn make_read_only(
    db: &Db,
    store: &Store,
    object: &ObjectHash,
) -> Result<Option<(String, Remedy)>> {
    let path = store.path(object);
    if let Err(err) = store.make_read_only(object) {
        let why = format!("its mode can't be changed (`{}`): {err}", path.display());
        return Ok(Some((why, Remedy::Nothing)));
    }
    match db::known_object(&db.lock(), object)? {
        Some(size) => look(store, object, size, true),
        None => Ok(None),
    }
}

/// Proves an object again that has lost its row and lies there with the right bytes. False if it doesn't.
pub(super) fn record(db: &Db, store: &Store, object: &ObjectHash) -> Result<bool> {
    if db::known_object(&db.lock(), object)?.is_some() || store.check(object, None, true)?.is_err()
    {
        return Ok(false);
    }
    let path = store.path(object);
    let file = File::open(&path).or_io("open object", &path)?;
    // A name alone proves nothing, and its bytes may not be on the disk yet.
    file.sync_all().or_io("sync object", &path)?;
    store.make_read_only(object).or_io("make read-only", &path)?;
    let size = file.metadata().or_io("look at object", &path)?.len();
    db::put_objects(&mut db.lock(), &[(*object, size)])?;
    Ok(true)
}
