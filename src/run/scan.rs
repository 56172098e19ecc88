//! What became of the input files since they were last planned. Two passes: the first only looks at
//! inodes and sums a fingerprint, in 16 bytes a file, and is all that happens when nothing changed; the
//! second compares with the database and hashes what is new or changed. If no file is new, it need not
//! look at the disk again: see `revisit`.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::Path;

use crate::db::{Argument, Db, Durability, InputRow, Inputs, Stat};
use crate::error::{OrIo, Result};
use crate::ids::TaskId;
use crate::object::ObjectHash;
use crate::store::Store;

use super::fingerprint::{Digest, Fingerprint};
use super::ingest::{Intake, Suspect};
use super::walk::{Found, stat_of, walk};
use crate::text::{as_path, path_bytes};

/// Where a root's steps come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// One of `inputs`.
    Pattern(String),
    /// An INPUT of the command line.
    Argument(Argument),
    /// One step on the empty object.
    Nothing,
}

/// Everything a scan needs to know.
pub(super) struct Scanner<'a> {
    pub(super) db: &'a Db,
    /// `None`: a dry run, which hashes and keeps nothing.
    pub(super) store: Option<&'a Store>,
    /// The manifest's folder.
    pub(super) dir: &'a Path,
    /// Never walked into.
    pub(super) db_dir: &'a Path,
    pub(super) jobs: NonZeroUsize,
    pub(super) durability: Durability,
}

/// What the first pass saw.
pub(super) struct Sight {
    pub(super) fingerprint: ObjectHash,
    /// Patterns that matched no file.
    pub(super) unmatched: u64,
    /// Each file, sorted.
    pub(super) files: Vec<Digest>,
}

const NO_STAT: Stat = Stat { size: 0, mtime_ns: 0, ctime_ns: 0, inode: 0, executable: false };

/// Sees (path, name, stat, content if it is no file).
type See<'a> = dyn FnMut(&[u8], &[u8], Stat, Option<ObjectHash>) -> Result<()> + 'a;

impl Scanner<'_> {
    /// Calls `see` for all that `sources` name. Returns how many patterns matched nothing.
    fn each(&self, sources: &[Source], see: &mut See<'_>) -> Result<u64> {
        let mut matched_nothing = 0;
        for source in sources {
            match source {
                Source::Nothing => see(b"", b"", NO_STAT, Some(ObjectHash::EMPTY))?,
                Source::Argument(Argument { path, object: Some(object) }) => {
                    let stat = Stat { inode: i64::from(object.as_bytes()[0]), ..NO_STAT };
                    see(path, b"stdin", stat, Some(*object))?;
                }
                Source::Argument(Argument { path, object: None }) => {
                    let path = as_path(path);
                    let metadata = std::fs::metadata(path).or_io("look at input", path)?;
                    let name = path.file_name().unwrap_or(path.as_os_str());
                    see(path_bytes(path), path_bytes(Path::new(name)), stat_of(&metadata), None)?;
                }
                Source::Pattern(pattern) => {
                    let mut found_any = false;
                    walk(self.dir, pattern, self.db_dir, &mut |found: Found<'_>| {
                        found_any = true;
                        see(path_bytes(found.path), found.name, found.stat, None)
                    })?;
                    matched_nothing += u64::from(!found_any);
                }
            }
        }
        Ok(matched_nothing)
    }

    /// First pass: what a root reads, as far as inodes tell.
    pub(super) fn look(&self, sources: &[Source]) -> Result<Sight> {
        let mut fingerprint = Fingerprint::default();
        let mut files = Vec::new();
        let unmatched = self.each(sources, &mut |path, name, stat, object| {
            files.push(fingerprint.add(path, name, &stat));
            if let Some(object) = object {
                fingerprint.add(object.as_bytes(), b"", &NO_STAT);
            }
            Ok(())
        })?;
        files.sort_unstable();
        Ok(Sight { fingerprint: fingerprint.finish(), unmatched, files })
    }

    /// Second pass: leaves in the temporary tables what is new, changed or gone. Returns the
    /// fingerprint of what was seen, if no file was too fresh to be trusted.
    pub(super) fn compare(
        &self,
        task: TaskId,
        sources: &[Source],
        sight: &Sight,
    ) -> Result<Option<ObjectHash>> {
        match self.revisit(task, sources, sight)? {
            Some(trusted) => Ok(trusted.then_some(sight.fingerprint)),
            None => self.compare_all(task, sources),
        }
    }

    fn compare_all(&self, task: TaskId, sources: &[Source]) -> Result<Option<ObjectHash>> {
        let mut fingerprint = Fingerprint::default();
        let mut seen: HashSet<Digest> = HashSet::new();
        let mut known_and_seen = 0;
        let mut intake = Intake::new(self, task);
        self.each(sources, &mut |path, name, stat, object| {
            fingerprint.add(path, name, &stat);
            if let Some(object) = object {
                fingerprint.add(object.as_bytes(), b"", &NO_STAT);
            }
            if !seen.insert(Digest::of_path(path)) {
                return Ok(()); // two patterns name this file: the first one decides
            }
            let known = Inputs::known(&self.db.lock(), task, path)?;
            known_and_seen += u64::from(known.is_some());
            if let Some(row) = &known
                && row.stat == stat
                && row.name == name
                && object.is_none_or(|object| object == row.object)
            {
                return Ok(());
            }
            if let Some(object) = object {
                self.note_object(task, path, name, stat, object, known.is_some())?;
                return Ok(());
            }
            let full = self.dir.join(as_path(path));
            intake.add(Suspect {
                path: path.to_vec(),
                name: name.to_vec(),
                full,
                was_known: known.is_some(),
            })
        })?;
        let trusted = intake.finish()?;
        if known_and_seen < Inputs::count(&self.db.lock(), task)? {
            let conn = self.db.lock();
            let mut vanished = Vec::new();
            Inputs::each_path(&conn, task, &mut |path| {
                if !seen.contains(&Digest::of_path(path)) {
                    vanished.push(path.to_vec());
                }
            })?;
            for path in vanished {
                Inputs::gone(&conn, task, &path)?;
            }
        }
        Ok(trusted.then(|| fingerprint.finish()))
    }

    /// Content that is no file: nothing, or what standard input held (which is stored already).
    fn note_object(
        &self,
        task: TaskId,
        path: &[u8],
        name: &[u8],
        stat: Stat,
        object: ObjectHash,
        was_known: bool,
    ) -> Result<()> {
        if let Some(store) = self.store
            && object == ObjectHash::EMPTY
        {
            let placed = store.put(b"")?;
            self.keep(&[placed])?;
        }
        let conn = self.db.lock();
        if was_known {
            Inputs::gone(&conn, task, path)?;
        }
        Inputs::found(&conn, task, path, &InputRow { name: name.to_vec(), stat, object })
    }
}
