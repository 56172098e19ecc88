//! What scripts had printed when their runner was killed is taken into the store by whoever has the database next, before
//! the folders that it lies in are removed.

use std::path::Path;

use crate::db::{self, Db, Interrupted};
use crate::error::{OrIo, Result};
use crate::step::{self, Left};
use crate::store::Store;
use crate::sys;

/// The logs that killed runs have left below `db_dir`. After a power cut nobody knows whether a file is as it was written,
/// so these are left out. No run is under way.
///
/// # Errors
/// If the database can't be read.
pub fn left_logs(db: &Db, db_dir: &Path) -> Result<Vec<Left>> {
    let mut left = step::left_logs(&db_dir.join("scratch"));
    if !left.is_empty() {
        let boot = sys::boot_and_mount(db_dir).or_io("look at", db_dir)?;
        let boot_of = |run| db.read(|reader| db::boot_of_run(reader, run));
        let boots = left.iter().map(|left| boot_of(left.run)).collect::<Result<Vec<_>>>()?;
        let mut boots = boots.into_iter();
        left.retain(|_| boots.next().flatten().as_ref() == Some(&boot));
    }
    Ok(left)
}

/// Keeps them, as those of interrupted attempts. The caller holds the run lock.
///
/// # Errors
/// If they can't be written to the store, or the rows can't be.
pub fn inherit_logs(db: &Db, store: &Store, db_dir: &Path) -> Result<()> {
    let left = left_logs(db, db_dir)?;
    if left.is_empty() {
        return Ok(());
    }
    let (mut attempts, mut placed) = (Vec::new(), Vec::new());
    for left in left {
        let log = store.put_from(&mut left.read())?;
        let interrupted =
            |(step, number)| (Interrupted { step, number, run: left.run, log: log.hash }, log.size);
        attempts.extend(left.steps.iter().copied().map(interrupted));
        placed.push(log);
    }
    store.sync(&placed.iter().collect::<Vec<_>>())?;
    db.write(|writer| db::note_interrupted(writer, &attempts))?;
    for placed in &placed {
        store.note_committed(&placed.hash);
    }
    Ok(())
}
