//! What became of the input files since they were last planned. Two passes: the first only takes each file's
//! stat and sums a fingerprint, in 16 bytes a file, and is all that happens when nothing changed; the second
//! compares with the database, and hashes, stores and commits what is new or changed. If no file is new, it
//! need not look at the disk again.

use std::collections::HashSet;
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::db::{self, Argument, Db, Durability, FlowTask, InputRow, Inputs, Stat};
use crate::error::{Error, OrIo, Result};
use crate::ids::TaskId;
use crate::labels::Labels;
use crate::manifest::is_plain;
use crate::object::ObjectHash;
use crate::store::{Placed, Store};
use crate::table::Table;
use crate::text::{as_path, path_bytes, printable};

use super::exclusions::Exclusions;
use super::fingerprint::{Digest, Fingerprint};
use super::walk::{Crossed, FoundFile, PatternWalk, is_within};
use crate::sys::boot_and_mount;
use crate::sys::clock::{is_racy, now_ns};

/// Where a root's steps come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// One of `inputs`.
    Pattern(String),
    /// What `inputs` leave out, without the `!`.
    Exclusion(String),
    /// The files that the rows of a table name.
    Table(Arc<Table>),
    /// An INPUT of the command line, and its name.
    Argument(Argument, Vec<u8>),
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
    /// What the passes came across since it was last taken.
    pub(super) crossed: Mutex<Crossed>,
}

/// What the first pass saw.
pub(super) struct ScanSummary {
    /// Of the files.
    fingerprint: ObjectHash,
    /// Of the rows of a table.
    pub(super) rows: Option<ObjectHash>,
    pub(super) idle: IdlePatterns,
    /// Each file, sorted.
    pub(super) files: Vec<Digest>,
}

impl ScanSummary {
    /// Of all that was seen.
    pub(super) fn fingerprint(&self) -> ObjectHash {
        ScanSummary::total(&self.fingerprint, self.rows.as_ref())
    }

    /// Of files and, if there is a table, of its rows.
    pub(super) fn total(files: &ObjectHash, rows: Option<&ObjectHash>) -> ObjectHash {
        match rows {
            Some(rows) => ObjectHash::of(&[*files.as_bytes(), *rows.as_bytes()].concat()),
            None => *files,
        }
    }
}

/// Patterns that are of no use.
#[derive(Default)]
pub(super) struct IdlePatterns {
    /// Those that match no file, without captures.
    pub(super) unmatched: Vec<String>,
    /// Exclusions that left no file out.
    pub(super) exclusions: Vec<String>,
    /// How many files exclusions left out.
    pub(super) left_out: u64,
}

/// Sees (path, name, stat, content if it is no file).
type See<'a> = dyn FnMut(&[u8], &[u8], Stat, Option<ObjectHash>) -> Result<()> + 'a;

impl Scanner<'_> {
    /// Calls `see` for all that `sources` name and don't leave out. Returns the patterns that did nothing.
    fn each(&self, sources: &[Source], see: &mut See<'_>) -> Result<IdlePatterns> {
        let (mut unmatched, mut left_out) = (Vec::new(), 0);
        let exclusions = sources.iter().filter_map(|source| match source {
            Source::Exclusion(pattern) => Some(pattern.as_str()),
            _ => None,
        });
        let mut exclusions = Exclusions::new(self.dir, exclusions.collect())?;
        let mut sources = sources.iter().peekable();
        while let Some(source) = sources.next() {
            match source {
                Source::Nothing => see(b"", b"", Stat::NONE, Some(ObjectHash::EMPTY))?,
                Source::Exclusion(_) => {}
                Source::Pattern(plain)
                    if is_plain(plain) && exclusions.leave_out(plain.as_bytes()) =>
                {
                    left_out += 1;
                }
                Source::Argument(Argument { path, object: Some(object) }, name) => {
                    let stat = Stat { inode: i64::from(object.as_bytes()[0]), ..Stat::NONE };
                    see(path, name, stat, Some(*object))?;
                }
                Source::Argument(Argument { path, object: None }, name) => {
                    let path = as_path(path);
                    self.refuse_own(path)?;
                    if let Some(stat) = self.look(path) {
                        see(path_bytes(path), name, stat, None)?;
                    }
                }
                Source::Table(table) => self.each_file_of(table, see)?,
                Source::Pattern(plain) if is_plain(plain) => {
                    let path = Path::new(plain);
                    let full = self.dir.join(path);
                    self.refuse_own(&full)?;
                    if let Some(stat) = self.look(&full) {
                        let name = path.file_name().unwrap_or(path.as_os_str());
                        see(path_bytes(path), path_bytes(Path::new(name)), stat, None)?;
                    }
                }
                Source::Pattern(pattern) => {
                    let mut patterns = vec![pattern.as_str()];
                    while let Some(Source::Pattern(next)) = sources
                        .next_if(|next| matches!(next, Source::Pattern(next) if !is_plain(next)))
                    {
                        patterns.push(next);
                    }
                    let mut crossed = Crossed::default();
                    for walk in PatternWalk::all(&patterns)? {
                        let see = &mut |found: FoundFile<'_>| {
                            let path = path_bytes(found.path);
                            if exclusions.leave_out(path) {
                                left_out += 1;
                                return Ok(());
                            }
                            see(path, found.name, found.stat, None)
                        };
                        unmatched.extend(walk.run(self.dir, self.db_dir, &mut crossed, see)?);
                    }
                    crossed.refused.retain(|(path, _)| !exclusions.leave_out_all(path));
                    self.crossed().add(crossed);
                }
            }
        }
        Ok(IdlePatterns { unmatched, exclusions: exclusions.idle(), left_out })
    }

    /// The same for the files that the rows of a table name, each of them once.
    fn each_file_of(&self, table: &Table, see: &mut See<'_>) -> Result<()> {
        if !table.has_paths() {
            return Ok(());
        }
        let mut seen: HashSet<Digest> = HashSet::new();
        table.each(&mut |row| {
            for (_, path) in row.each_file() {
                if !seen.insert(Digest::of_path(path_bytes(&path))) {
                    continue;
                }
                let full = self.dir.join(&path);
                self.refuse_own(&full)?;
                if let Some(stat) = self.look(&full) {
                    let name = crate::names::split(path_bytes(&path)).1;
                    see(path_bytes(&path), name, stat, None)?;
                }
            }
            Ok(())
        })
    }

    /// What the inode of an input says; one that can't be looked at is noted.
    fn look(&self, full: &Path) -> Option<Stat> {
        match std::fs::metadata(full) {
            Ok(metadata) => Some(Stat::of(&metadata)),
            Err(err) => {
                self.crossed().refused.push((full.to_owned(), err));
                None
            }
        }
    }

    fn crossed(&self) -> MutexGuard<'_, Crossed> {
        self.crossed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the passes came across since this was last asked.
    pub(super) fn take_crossed(&self) -> Crossed {
        std::mem::take(&mut self.crossed())
    }

    /// To open a file of the database would, on closing it, drop SQLite's locks.
    fn refuse_own(&self, path: &Path) -> Result<()> {
        if !is_within(path, self.db_dir) {
            return Ok(());
        }
        Err(Error::Usage(format!(
            "input `{}` lies in the run's own database; export what you want to read",
            printable(path_bytes(path))
        )))
    }

    /// First pass: what a root reads, as far as inodes tell.
    pub(super) fn stat_pass(&self, sources: &[Source]) -> Result<ScanSummary> {
        let mut fingerprint = Fingerprint::default();
        let mut files = Vec::new();
        let idle = self.each(sources, &mut |path, name, stat, object| {
            files.push(fingerprint.add(path, name, &stat));
            if let Some(object) = object {
                fingerprint.add(object.as_bytes(), b"", &Stat::NONE);
            }
            Ok(())
        })?;
        files.sort_unstable();
        Ok(ScanSummary { fingerprint: fingerprint.finish(), rows: None, idle, files })
    }

    /// Second pass: leaves in the temporary tables what is new, changed or gone. Returns the
    /// fingerprint of what was seen, if no file was too fresh to be trusted.
    pub(super) fn hash_pass(
        &self,
        task: TaskId,
        sources: &[Source],
        summary: &ScanSummary,
    ) -> Result<Option<ObjectHash>> {
        match self.revisit(task, sources, summary)? {
            Some(trusted) => Ok(trusted.then_some(summary.fingerprint)),
            None => self.compare_all(task, sources),
        }
    }

    fn compare_all(&self, task: TaskId, sources: &[Source]) -> Result<Option<ObjectHash>> {
        let mut fingerprint = Fingerprint::default();
        let mut seen: HashSet<Digest> = HashSet::new();
        let mut known_and_seen = 0;
        let mut ingest = Ingest::new(self, task);
        self.each(sources, &mut |path, name, stat, object| {
            fingerprint.add(path, name, &stat);
            if let Some(object) = object {
                fingerprint.add(object.as_bytes(), b"", &Stat::NONE);
            }
            if !seen.insert(Digest::of_path(path)) {
                return Ok(()); // two patterns name this file: the first one decides
            }
            let known = self.db.read(|reader| Inputs::known(reader, task, path))?;
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
            ingest.add(Changed {
                path: path.to_vec(),
                name: name.to_vec(),
                was_known: known.is_some(),
                content: Content::File(self.dir.join(as_path(path))),
            })
        })?;
        let trusted = ingest.finish()?;
        self.db.read(|reader| {
            if known_and_seen == Inputs::count(reader, task)? {
                return Ok(());
            }
            let mut vanished = Vec::new();
            Inputs::each_path(reader, task, &mut |path| {
                if !seen.contains(&Digest::of_path(path)) {
                    vanished.push(path.to_vec());
                }
            })?;
            for path in vanished {
                Inputs::gone(reader, task, &path)?;
            }
            Ok(())
        })?;
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
        self.db.read(|reader| {
            if was_known {
                Inputs::gone(reader, task, path)?;
            }
            Inputs::found(reader, task, path, &InputRow { name: name.to_vec(), stat, object })
        })
    }

    /// The second look at input files when none of them is new: then the database knows every path, and the
    /// disk is asked only for those whose inode the first pass did not see as it was. One changed file of a
    /// hundred thousand costs a walk over them and a walk over their rows, instead of two and a query each.
    ///
    /// As the whole comparison, where that can be spared: whether all files could be trusted. `None`, and
    /// nothing done, if there are new files, or anything but files.
    fn revisit(
        &self,
        task: TaskId,
        sources: &[Source],
        summary: &ScanSummary,
    ) -> Result<Option<bool>> {
        let is_files = |source: &Source| {
            matches!(source, Source::Pattern(_) | Source::Exclusion(_) | Source::Table(_))
        };
        if !sources.iter().all(is_files) {
            return Ok(None);
        }
        let has = |digest| summary.files.binary_search(&digest).is_ok();
        let mut unknown = summary.files.len();
        let mut lost: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        self.db.read(|reader| {
            Inputs::each(reader, task, &mut |path: &[u8], row: InputRow| {
                if has(Digest::of(path, &row.name, &row.stat)) {
                    unknown = unknown.saturating_sub(1);
                } else {
                    lost.push((path.to_vec(), row.name));
                }
            })
        })?;
        // More new files than there are changed ones in any case.
        if unknown > lost.len() {
            return Ok(None);
        }
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        for (path, name) in lost {
            let full = self.dir.join(as_path(&path));
            let stat = std::fs::metadata(&full).ok().map(|metadata| Stat::of(&metadata));
            if stat.is_some_and(|stat| has(Digest::of(&path, &name, &stat))) {
                unknown = unknown.saturating_sub(1);
                let content = Content::File(full);
                changed.push(Changed { path, name, was_known: true, content });
            } else {
                gone.push(path);
            }
        }
        if unknown > 0 {
            return Ok(None);
        }
        for path in gone {
            self.db.read(|reader| Inputs::gone(reader, task, &path))?;
        }
        let mut ingest = Ingest::new(self, task);
        for file in changed {
            ingest.add(file)?;
        }
        ingest.finish().map(Some)
    }

    /// Makes objects durable and commits them.
    pub(super) fn keep(&self, placed: &[Placed]) -> Result<()> {
        let Some(store) = self.store else { return Ok(()) };
        match self.durability {
            Durability::Batch => store.sync(&placed.iter().collect::<Vec<_>>())?,
            Durability::Off => {
                let boot = boot_and_mount(self.db_dir).or_io("look at", self.db_dir)?;
                self.db.write(|writer| db::note_unsynced(writer, &boot))?;
            }
        }
        let objects: Vec<(ObjectHash, u64)> = placed.iter().map(|p| (p.hash, p.size)).collect();
        self.db.write(|writer| db::put_objects(writer, &objects))?;
        for placed in placed {
            store.note_committed(&placed.hash);
        }
        Ok(())
    }

    /// Notes the steps of a root that gathers its files. Their listings are objects: they must be there before the steps.
    /// `unread` are the labels of what can't be read: groups that it may belong to have no step.
    pub(super) fn list(&self, task: &FlowTask, unread: &[Labels]) -> Result<()> {
        let mut listings = self.db.read(|reader| db::file_listings(reader, task))?;
        listings.retain(|(group, _)| !unread.iter().any(|labels| labels.agree(&group.labels)));
        let mut placed = Vec::with_capacity(listings.len());
        for (group, listing) in &listings {
            let object = match self.store {
                Some(store) => {
                    let object = store.put(listing)?;
                    let hash = object.hash;
                    placed.push(object);
                    hash
                }
                None => ObjectHash::of(listing),
            };
            let name = group.name(task);
            self.db
                .read(|reader| Inputs::listed(reader, task.id, &name, &group.labels, &object))?;
        }
        self.keep(&placed)
    }

    /// Hashes and stores changed, several at a time, and meanwhile commits those of the call before:
    /// the one keeps the processors busy, the other the disk.
    fn take_all(
        &self,
        task: TaskId,
        changed: Vec<Changed>,
        before: Vec<(Changed, Option<Hashed>)>,
    ) -> Result<Vec<(Changed, Option<Hashed>)>> {
        let share = changed.len().div_ceil(self.jobs.get().min(READERS)).max(1);
        let taken: Result<Vec<Vec<Option<Hashed>>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = changed
                .chunks(share)
                .map(|part| {
                    std::thread::Builder::new().spawn_scoped(scope, move || {
                        part.iter().map(|changed| self.hash_or_refuse(&changed.content)).collect()
                    })
                })
                .collect();
            self.note_all(task, before)?;
            threads
                .into_iter()
                .map(|thread| {
                    thread.or_system("start a thread")?.join().unwrap_or_else(|_| {
                        Err(Error::Internal("hashing an input panicked".to_owned()))
                    })
                })
                .collect()
        });
        Ok(changed.into_iter().zip(taken?.into_iter().flatten()).collect())
    }

    /// Commits the objects of files that were read, and leaves the files in the temporary tables.
    fn note_all(&self, task: TaskId, all: Vec<(Changed, Option<Hashed>)>) -> Result<()> {
        let mut placed = Vec::with_capacity(all.len());
        let mut rows = Vec::with_capacity(all.len());
        for (changed, taken) in all {
            let row = taken.map(|taken| {
                placed.extend(taken.placed);
                InputRow { name: changed.name, stat: taken.stat, object: taken.object }
            });
            rows.push((changed.path, changed.was_known, row));
        }
        if !placed.is_empty() {
            self.keep(&placed)?;
        }
        drop(placed);
        self.db.read(|reader| {
            for (path, was_known, row) in rows {
                if was_known {
                    Inputs::gone(reader, task, &path)?;
                }
                if let Some(row) = row {
                    Inputs::found(reader, task, &path, &row)?;
                }
            }
            Ok(())
        })
    }

    /// [`Self::hash`], but a file that can't be read is noted, and `None`.
    fn hash_or_refuse(&self, content: &Content) -> Result<Option<Hashed>> {
        let full = match content {
            Content::File(full) => full,
            Content::Bytes(bytes) => {
                let placed = self.store.map(|store| store.put(bytes)).transpose()?;
                let object = placed.as_ref().map_or_else(|| ObjectHash::of(bytes), |p| p.hash);
                return Ok(Some(Hashed { object, placed, stat: Stat::NONE }));
            }
        };
        let err = match self.hash(full) {
            Ok(hashed) => return Ok(Some(hashed)),
            Err(Error::Io { what: READ | LOOK, source, .. }) => source,
            Err(Error::Usage(why)) => std::io::Error::other(why),
            Err(error) => return Err(error),
        };
        self.crossed().refused.push((full.to_owned(), err));
        Ok(None)
    }

    /// Hashes one file, storing it unless this is a dry run.
    fn hash(&self, full: &Path) -> Result<Hashed> {
        // A file that somebody is writing gives other bytes each time; three looks, then say so.
        for _ in 0..3 {
            let mut file = File::open(full).or_io(READ, full)?;
            let before = Stat::of(&file.metadata().or_io(LOOK, full)?);
            let now_ns = now_ns();
            let (object, placed) = match self.store {
                Some(store) => {
                    let placed = store_input(store, &mut file, full)?;
                    (placed.hash, Some(placed))
                }
                None => (ObjectHash::of_stream(&mut file).or_io(READ, full)?, None),
            };
            let mut stat = Stat::of(&file.metadata().or_io(LOOK, full)?);
            if stat != before {
                continue;
            }
            if is_racy(stat.ctime_ns, now_ns) {
                stat.mtime_ns = Stat::UNTRUSTED;
            }
            return Ok(Hashed { object, placed, stat });
        }
        Err(Error::Usage(
            "it changes while it is read; run again when nobody writes to it".to_owned(),
        ))
    }
}

/// Files read at once: more wait for the disk, and each takes some descriptors.
const READERS: usize = 8;

/// What fails if a file can't be read.
const READ: &str = "read input";
const LOOK: &str = "look at input";

/// Files, or rows, hashed, stored and committed together.
const CHUNK: usize = 512;

/// A file, or row of a table, that has to be hashed.
pub(super) struct Changed {
    pub(super) path: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) was_known: bool,
    pub(super) content: Content,
}

/// Where its content is.
pub(super) enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// Files, or rows, being taken in, a chunk at a time.
pub(super) struct Ingest<'a> {
    scanner: &'a Scanner<'a>,
    task: TaskId,
    waiting: Vec<Changed>,
    /// Read, but not committed yet.
    read: Vec<(Changed, Option<Hashed>)>,
    trusted: bool,
}

impl<'a> Ingest<'a> {
    pub(super) fn new(scanner: &'a Scanner<'a>, task: TaskId) -> Ingest<'a> {
        Ingest { scanner, task, waiting: Vec::new(), read: Vec::new(), trusted: true }
    }

    /// One more of them.
    pub(super) fn add(&mut self, changed: Changed) -> Result<()> {
        self.waiting.push(changed);
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
        self.trusted &=
            self.read.iter().all(|(_, taken)| taken.as_ref().is_some_and(Hashed::is_trusted));
        Ok(())
    }
}

impl Hashed {
    /// What the inode says is enough to know the content by, next time.
    pub(super) fn is_trusted(&self) -> bool {
        self.stat.mtime_ns != Stat::UNTRUSTED
    }
}

/// The content, and what the inode said of it.
struct Hashed {
    pub(super) object: ObjectHash,
    pub(super) placed: Option<Placed>,
    pub(super) stat: Stat,
}

/// Puts all that `file` still gives into the store. An error of reading it names `path`; any other is the store's.
pub(super) fn store_input(store: &Store, file: &mut File, path: &Path) -> Result<Placed> {
    struct Source<'a>(&'a mut File, Option<std::io::Error>);
    impl std::io::Read for Source<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(buffer).inspect_err(|err| {
                self.1 = err.raw_os_error().map(std::io::Error::from_raw_os_error);
            })
        }
    }
    let mut source = Source(file, None);
    let placed = store.put_from(&mut source);
    match source.1 {
        Some(err) if placed.is_err() => Err(err).or_io("read input", path),
        _ => placed,
    }
}
