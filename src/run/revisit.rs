//! The second look at input files when none of them is new: then the database knows every path, and the
//! disk is asked only for those whose inode the first pass did not see as it was. One changed file of a
//! hundred thousand costs a walk over them and a walk over their rows, instead of two and a query each.

use crate::db::{InputRow, Inputs};
use crate::error::Result;
use crate::ids::TaskId;
use crate::text::as_path;

use super::fingerprint::Digest;
use super::ingest::{Intake, Suspect};
use super::scan::{Scanner, Sight, Source};
use super::walk::stat_of;

impl Scanner<'_> {
    /// As the whole comparison, where that can be spared: whether all files could be trusted. `None`, and
    /// nothing done, if there are new files, or anything but files.
    pub(super) fn revisit(
        &self,
        task: TaskId,
        sources: &[Source],
        sight: &Sight,
    ) -> Result<Option<bool>> {
        if !sources.iter().all(|source| matches!(source, Source::Pattern(_))) {
            return Ok(None);
        }
        let has = |digest| sight.files.binary_search(&digest).is_ok();
        let mut unknown = sight.files.len();
        let mut lost: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        Inputs::each(&self.db.lock(), task, &mut |path: &[u8], row: InputRow| {
            if has(Digest::of(path, &row.name, &row.stat)) {
                unknown = unknown.saturating_sub(1);
            } else {
                lost.push((path.to_vec(), row.name));
            }
        })?;
        // More new files than there are changed ones in any case.
        if unknown > lost.len() {
            return Ok(None);
        }
        let (mut suspects, mut gone) = (Vec::new(), Vec::new());
        for (path, name) in lost {
            let full = self.dir.join(as_path(&path));
            let stat = std::fs::metadata(&full).ok().map(|metadata| stat_of(&metadata));
            if stat.is_some_and(|stat| has(Digest::of(&path, &name, &stat))) {
                unknown = unknown.saturating_sub(1);
                suspects.push(Suspect { path, name, full, was_known: true });
            } else {
                gone.push(path);
            }
        }
        if unknown > 0 {
            return Ok(None);
        }
        for path in gone {
            Inputs::gone(&self.db.lock(), task, &path)?;
        }
        let mut intake = Intake::new(self, task);
        for suspect in suspects {
            intake.add(suspect)?;
        }
        intake.finish().map(Some)
    }
}
