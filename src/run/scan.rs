//! What became of the input files since they were last planned. Two passes: the first only looks at
//! inodes and sums a fingerprint, in constant memory, and is all that happens when nothing changed;
//! the second compares with the database and hashes what is new or changed.

use std::collections::HashSet;
use std::fs::{File, Metadata};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::db::{self, Argument, Db, Durability, InputRow, Inputs, Stat};
use crate::error::{Error, OrIo, Result};
use crate::ids::TaskId;
use crate::object::{ObjectHash, ObjectHasher};
use crate::store::{Placed, Store};

use super::walk::{Found, walk};
use crate::text::{as_path, path_bytes};

/// A file whose inode changed less than this before it was hashed may change once more within the same
/// tick of the file system's clock, and nobody could tell; it is hashed again next time.
const RACY_NS: i64 = 50_000_000;

/// Files hashed, stored and committed together.
const CHUNK: usize = 512;

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

/// Sum of a hash per file: no order, so no sorting; 256 bits, so no accident.
#[derive(Default)]
struct Fingerprint([u64; 4], u64);

impl Fingerprint {
    fn add(&mut self, path: &[u8], name: &[u8], stat: &Stat) {
        let mut bytes = Vec::with_capacity(path.len() + name.len() + 64);
        for part in [path, name] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        for number in
            [stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode, i64::from(stat.executable)]
        {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let hash = ObjectHash::of(&bytes);
        for (sum, part) in self.0.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(part);
            *sum = sum.wrapping_add(u64::from_le_bytes(eight));
        }
        self.1 += 1;
    }

    fn finish(&self) -> ObjectHash {
        let mut bytes = [0; 40];
        for (eight, sum) in bytes.chunks_exact_mut(8).zip(self.0.iter().chain([&self.1])) {
            eight.copy_from_slice(&sum.to_le_bytes());
        }
        ObjectHash::of(&bytes)
    }
}

fn stat_of(metadata: &Metadata) -> Stat {
    let ns = |seconds: i64, nanoseconds: i64| {
        seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
    };
    Stat {
        size: i64::try_from(metadata.size()).unwrap_or(i64::MAX),
        mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        inode: metadata.ino() as i64,
        executable: metadata.mode() & 0o111 != 0,
    }
}

const NO_STAT: Stat = Stat { size: 0, mtime_ns: 0, ctime_ns: 0, inode: 0, executable: false };

/// A file that has to be hashed.
struct Suspect {
    path: Vec<u8>,
    name: Vec<u8>,
    full: PathBuf,
    was_known: bool,
}

impl Scanner<'_> {
    /// Calls `see` with (path, name, stat, content if it is no file) of all that `sources` name.
    fn each(
        &self,
        sources: &[Source],
        see: &mut dyn FnMut(&[u8], &[u8], Stat, Option<ObjectHash>) -> Result<()>,
    ) -> Result<u64> {
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
                        see(path_bytes(found.path), found.name, stat_of(&found.metadata), None)
                    })?;
                    matched_nothing += u64::from(!found_any);
                }
            }
        }
        Ok(matched_nothing)
    }

    /// First pass: the fingerprint of all that a root reads, and how many patterns matched nothing.
    pub(super) fn fingerprint(&self, sources: &[Source]) -> Result<(ObjectHash, u64)> {
        let mut fingerprint = Fingerprint::default();
        let unmatched = self.each(sources, &mut |path, name, stat, object| {
            fingerprint.add(path, name, &stat);
            if let Some(object) = object {
                fingerprint.add(object.as_bytes(), b"", &NO_STAT);
            }
            Ok(())
        })?;
        Ok((fingerprint.finish(), unmatched))
    }

    /// Second pass: leaves in the temporary tables what is new, changed or gone. Returns the
    /// fingerprint of what was seen, if no file was too fresh to be trusted.
    pub(super) fn compare(&self, task: TaskId, sources: &[Source]) -> Result<Option<ObjectHash>> {
        let mut fingerprint = Fingerprint::default();
        let mut seen: HashSet<u128> = HashSet::new();
        let mut known_and_seen = 0;
        let mut suspects = Vec::new();
        let mut trusted = true;
        self.each(sources, &mut |path, name, stat, object| {
            fingerprint.add(path, name, &stat);
            if let Some(object) = object {
                fingerprint.add(object.as_bytes(), b"", &NO_STAT);
            }
            if !seen.insert(short(path)) {
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
            suspects.push(Suspect {
                path: path.to_vec(),
                name: name.to_vec(),
                full,
                was_known: known.is_some(),
            });
            if suspects.len() >= CHUNK {
                trusted &= self.take_all(task, &mut suspects)?;
            }
            Ok(())
        })?;
        trusted &= self.take_all(task, &mut suspects)?;
        if known_and_seen < Inputs::count(&self.db.lock(), task)? {
            let conn = self.db.lock();
            let mut vanished = Vec::new();
            Inputs::each_path(&conn, task, &mut |path| {
                if !seen.contains(&short(path)) {
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
            let placed = store.put(b"", &|hash| db::known_object(&self.db.lock(), hash))?;
            self.keep(&[placed])?;
        }
        let conn = self.db.lock();
        if was_known {
            Inputs::gone(&conn, task, path)?;
        }
        Inputs::found(&conn, task, path, &InputRow { name: name.to_vec(), stat, object })
    }

    /// Makes objects durable and commits them.
    pub(super) fn keep(&self, placed: &[Placed]) -> Result<()> {
        let Some(store) = self.store else { return Ok(()) };
        if self.durability == Durability::Batch {
            store.sync(&placed.iter().collect::<Vec<_>>())?;
        }
        let objects: Vec<(ObjectHash, u64)> = placed.iter().map(|p| (p.hash, p.size)).collect();
        db::put_objects(&mut self.db.lock(), &objects)?;
        for placed in placed {
            store.note_committed(&placed.hash);
        }
        Ok(())
    }

    /// Hashes and keeps suspects, several at a time. False if one of them is too fresh to be trusted.
    fn take_all(&self, task: TaskId, suspects: &mut Vec<Suspect>) -> Result<bool> {
        let share = suspects.len().div_ceil(self.jobs.get()).max(1);
        let taken: Vec<Result<Vec<Taken>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = suspects
                .chunks(share)
                .map(|part| {
                    scope.spawn(move || {
                        part.iter().map(|suspect| self.take(&suspect.full)).collect()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| {
                        Err(Error::Internal("hashing an input panicked".to_owned()))
                    })
                })
                .collect()
        });
        let mut all = Vec::with_capacity(suspects.len());
        for part in taken {
            all.extend(part?);
        }
        let placed: Vec<Placed> = all.iter_mut().filter_map(|taken| taken.placed.take()).collect();
        if !placed.is_empty() {
            self.keep(&placed)?;
        }
        drop(placed);
        let mut trusted = true;
        let mut conn = self.db.lock();
        let tx =
            conn.transaction().map_err(|source| Error::Db { what: "note input files", source })?;
        for (suspect, taken) in suspects.drain(..).zip(all) {
            trusted &= taken.stat.mtime_ns != Stat::UNTRUSTED;
            if suspect.was_known {
                Inputs::gone(&tx, task, &suspect.path)?;
            }
            let row = InputRow { name: suspect.name, stat: taken.stat, object: taken.object };
            Inputs::found(&tx, task, &suspect.path, &row)?;
        }
        tx.commit().map_err(|source| Error::Db { what: "note input files", source })?;
        Ok(trusted)
    }

    /// Hashes one file, storing it unless this is a dry run.
    pub(super) fn take(&self, full: &Path) -> Result<Taken> {
        // A file that somebody is writing gives other bytes each time; three looks, then say so.
        for _ in 0..3 {
            let mut file = File::open(full).or_io("read input", full)?;
            let before = stat_of(&file.metadata().or_io("look at input", full)?);
            let (object, placed) = match self.store {
                Some(store) => {
                    let placed = store
                        .put_file(&mut file, &|hash| db::known_object(&self.db.lock(), hash))?;
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

/// Half of a path's hash: enough to tell a million paths apart, in 16 bytes each.
fn short(path: &[u8]) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&ObjectHash::of(path).as_bytes()[..16]);
    u128::from_le_bytes(half)
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
