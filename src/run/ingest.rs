//! Input files read: hashed, and unless it is a dry run, stored and committed.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::db::{self, Db, Durability, InputRow, Inputs, Stat};
use crate::error::{Error, OrDb, OrIo, Result};
use crate::ids::TaskId;
use crate::object::{ObjectHash, ObjectHasher};
use crate::store::Placed;
use crate::text::path_bytes;

use super::identity::identity;
use super::scan::Scanner;
use super::walk::stat_of;

/// A file whose inode changed less than this before it was hashed may change once more within the same
/// tick of the file system's clock, and nobody could tell; it is hashed again next time.
const RACY_NS: i64 = 50_000_000;

/// Files hashed, stored and committed together.
const CHUNK: usize = 512;

/// A file that has to be hashed.
pub(super) struct Suspect {
    pub(super) path: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) full: PathBuf,
    pub(super) was_known: bool,
}

/// Files being taken in, a chunk at a time.
pub(super) struct Intake<'a> {
    scanner: &'a Scanner<'a>,
    task: TaskId,
    waiting: Vec<Suspect>,
    /// Read, but not committed yet.
    read: Vec<(Suspect, Taken)>,
    trusted: bool,
}

impl<'a> Intake<'a> {
    pub(super) fn new(scanner: &'a Scanner<'a>, task: TaskId) -> Intake<'a> {
        Intake { scanner, task, waiting: Vec::new(), read: Vec::new(), trusted: true }
    }

    /// One more file.
    pub(super) fn add(&mut self, suspect: Suspect) -> Result<()> {
        self.waiting.push(suspect);
        if self.waiting.len() < CHUNK { Ok(()) } else { self.advance() }
    }

    /// Takes in what is left. False if a file is too fresh to be trusted.
    pub(super) fn finish(mut self) -> Result<bool> {
        while !(self.waiting.is_empty() && self.read.is_empty()) {
            self.advance()?;
        }
        Ok(self.trusted)
    }

    fn advance(&mut self) -> Result<()> {
        let (waiting, read) = (std::mem::take(&mut self.waiting), std::mem::take(&mut self.read));
        self.read = self.scanner.take_all(self.task, waiting, read)?;
        self.trusted &= self.read.iter().all(|(_, taken)| taken.is_trusted());
        Ok(())
    }
}

impl Scanner<'_> {
    /// Makes objects durable and commits them.
    pub(super) fn keep(&self, placed: &[Placed]) -> Result<()> {
        let Some(store) = self.store else { return Ok(()) };
        match self.durability {
            Durability::Batch => store.sync(&placed.iter().collect::<Vec<_>>())?,
            Durability::Off => db::note_unsynced(&self.db.lock(), &identity(self.db_dir)?)?,
        }
        let objects: Vec<(ObjectHash, u64)> = placed.iter().map(|p| (p.hash, p.size)).collect();
        db::put_objects(&mut self.db.lock(), &objects)?;
        for placed in placed {
            store.note_committed(&placed.hash);
        }
        Ok(())
    }

    /// Hashes and stores suspects, several at a time, and meanwhile commits those of the call before:
    /// the one keeps the processors busy, the other the disk.
    fn take_all(
        &self,
        task: TaskId,
        suspects: Vec<Suspect>,
        before: Vec<(Suspect, Taken)>,
    ) -> Result<Vec<(Suspect, Taken)>> {
        let share = suspects.len().div_ceil(self.jobs.get()).max(1);
        let taken: Result<Vec<Vec<Taken>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = suspects
                .chunks(share)
                .map(|part| {
                    std::thread::Builder::new().spawn_scoped(scope, move || {
                        part.iter().map(|suspect| self.take(&suspect.full)).collect()
                    })
                })
                .collect();
            self.note_all(task, before)?;
            threads
                .into_iter()
                .map(|thread| {
                    thread.or_io("start a thread of", "/proc/self")?.join().unwrap_or_else(|_| {
                        Err(Error::Internal("hashing an input panicked".to_owned()))
                    })
                })
                .collect()
        });
        Ok(suspects.into_iter().zip(taken?.into_iter().flatten()).collect())
    }

    /// Commits the objects of files that were read, and leaves the files in the temporary tables.
    fn note_all(&self, task: TaskId, all: Vec<(Suspect, Taken)>) -> Result<()> {
        let mut placed = Vec::with_capacity(all.len());
        let mut rows = Vec::with_capacity(all.len());
        for (suspect, taken) in all {
            placed.extend(taken.placed);
            let row = InputRow { name: suspect.name, stat: taken.stat, object: taken.object };
            rows.push((suspect.path, suspect.was_known, row));
        }
        if !placed.is_empty() {
            self.keep(&placed)?;
        }
        drop(placed);
        let mut conn = self.db.lock();
        let tx = conn.transaction().or_db("note input files")?;
        for (path, was_known, row) in rows {
            if was_known {
                Inputs::gone(&tx, task, &path)?;
            }
            Inputs::found(&tx, task, &path, &row)?;
        }
        tx.commit().or_db("note input files")
    }

    /// Hashes one file, storing it unless this is a dry run.
    pub(super) fn take(&self, full: &Path) -> Result<Taken> {
        // A file that somebody is writing gives other bytes each time; three looks, then say so.
        for _ in 0..3 {
            let mut file = File::open(full).or_io("read input", full)?;
            let before = stat_of(&file.metadata().or_io("look at input", full)?);
            let (object, placed) = match self.store {
                Some(store) => {
                    let placed = store.put_file(&mut file)?;
                    (placed.hash, Some(placed))
                }
                None => (hash_file(&mut file).or_io("read input", full)?, None),
            };
            let mut stat = stat_of(&file.metadata().or_io("look at input", full)?);
            if stat != before {
                continue;
            }
            let now_ns = super::now_ms().saturating_mul(1_000_000);
            if now_ns.saturating_sub(stat.ctime_ns) < RACY_NS {
                stat.mtime_ns = Stat::UNTRUSTED;
            }
            return Ok(Taken { object, placed, stat });
        }
        Err(Error::Usage(format!(
            "input `{}` changes while it is read; run again when nobody writes to it",
            full.display()
        )))
    }
}

impl Taken {
    /// What the inode says is enough to know the content by, next time.
    pub(super) fn is_trusted(&self) -> bool {
        self.stat.mtime_ns != Stat::UNTRUSTED
    }
}

/// A file's content and what its inode said of it.
pub(super) struct Taken {
    pub(super) object: ObjectHash,
    pub(super) placed: Option<Placed>,
    pub(super) stat: Stat,
}

pub(super) fn hash_file(file: &mut File) -> std::io::Result<ObjectHash> {
    let mut hasher = ObjectHasher::default();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match std::io::Read::read(file, &mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// What a file is known to hold, if its inode says that it didn't change; otherwise it is hashed.
pub(super) fn hash_listed_file(db: &Db, full: &Path) -> Result<ObjectHash> {
    let metadata = std::fs::metadata(full).or_io("look at", full)?;
    let stat = stat_of(&metadata);
    let path = path_bytes(full);
    let known = Inputs::known(&db.lock(), db::FILES, path)?;
    if let Some(row) = known
        && row.stat == stat
    {
        return Ok(row.object);
    }
    let mut file = File::open(full).or_io("read", full)?;
    let object = hash_file(&mut file).or_io("read", full)?;
    let mut row = InputRow { name: Vec::new(), stat, object };
    if super::now_ms().saturating_mul(1_000_000).saturating_sub(stat.ctime_ns) < RACY_NS {
        row.stat.mtime_ns = Stat::UNTRUSTED;
    }
    Inputs::found(&db.lock(), db::FILES, path, &row)?;
    Ok(object)
}
