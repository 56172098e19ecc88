//! What a step has said it read, looked at when it has ended: only what was the same all the while can be what its result
//! depends on.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::db::{self, Db, Dependency, Stat};
use crate::dependencies::{DependencyFiles, FileContent};
use crate::error::Result;
use crate::object::ObjectHash;
use crate::sys::clock::may_be_since;
use crate::text::{as_path, printable};

/// The files that steps of a run have read.
pub(super) struct DependencyCheck {
    files: DependencyFiles,
    /// Steps share most of them.
    seen: Mutex<HashMap<Vec<u8>, (Stat, ObjectHash)>>,
}

/// What a look at them has told.
pub(super) enum ReadFiles {
    /// What they are, and were while the script ran.
    Known(Vec<Dependency>),
    /// This one may have been changed while the script ran.
    Changed(PathBuf),
    /// The step has failed; the sentence says why.
    Refused(String),
}

impl DependencyCheck {
    pub(super) fn new(files: DependencyFiles) -> DependencyCheck {
        DependencyCheck { files, seen: Mutex::default() }
    }

    /// Looks at what a script has written into its depfile. It was started when the clock of time stamps stood at
    /// `since_ns`, or later.
    ///
    /// # Errors
    /// If the database can't be read.
    pub(super) fn check(
        &self,
        db: &Db,
        depfile: &str,
        written: &[Vec<u8>],
        since_ns: i64,
    ) -> Result<ReadFiles> {
        let mut known = Vec::with_capacity(written.len());
        let mut ways: HashSet<&Path> = HashSet::new();
        let names: Vec<(&[u8], Vec<u8>)> = written
            .iter()
            .filter_map(|written| Some((written.as_slice(), self.files.name(written)?)))
            .collect();
        for (written, path) in &names {
            let refuse = |why: &str| {
                let depfile = printable(depfile.as_bytes());
                Ok(ReadFiles::Refused(format!("`{}` (in `{depfile}`) {why}", printable(written))))
            };
            let stat = self.files.look(path);
            if stat == Stat::NONE {
                return refuse(
                    "does not exist; the paths in a depfile are relative to the manifest's folder, and files that the \
                     script makes for itself belong in TMPDIR",
                );
            }
            // The inode that belongs to the content: it may have changed since that look.
            let (stat, object) = match self.known(db, path)? {
                Some((seen, object)) if seen == stat => (stat, object),
                _ => match self.files.read(path) {
                    FileContent::Of(object, stat) => {
                        self.seen().insert(path.clone(), (stat, object));
                        (stat, object)
                    }
                    FileContent::Special => continue,
                    FileContent::None => {
                        return refuse(
                            "can't be read, or changes all the time; what a result depends on must be known",
                        );
                    }
                },
            };
            if may_be_since(stat.ctime_ns, since_ns) {
                return Ok(ReadFiles::Changed(as_path(path).to_owned()));
            }
            for step in self.files.way(path) {
                if ways.insert(step) && self.files.may_be_another_since(step, since_ns) {
                    return Ok(ReadFiles::Changed(step.to_owned()));
                }
            }
            known.push(Dependency { path: path.clone(), stat, object });
        }
        Ok(ReadFiles::Known(known))
    }

    /// What was last seen of a file, by this run's plan if nobody has looked since.
    fn known(&self, db: &Db, path: &[u8]) -> Result<Option<(Stat, ObjectHash)>> {
        if let Some(seen) = self.seen().get(path) {
            return Ok(Some(*seen));
        }
        let known = db.read(|reader| db::Dependencies::known(reader, path))?;
        if let Some(known) = known {
            self.seen().insert(path.to_vec(), known);
        }
        Ok(known)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Vec<u8>, (Stat, ObjectHash)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
