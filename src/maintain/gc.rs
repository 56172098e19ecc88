//! `gc`: removes objects that nothing needed refers to. Rows are deleted first, durably, then files: a crash in
//! between leaves files without a row, which the next gc removes.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use walkdir::WalkDir;

use crate::db::{self, Db, Dependencies, History};
use crate::dependencies::DependencyFiles;
use crate::error::{Error, OrIo, Result};
use crate::object::ObjectHash;
use crate::store::Store;
use crate::text::as_path;

/// What `gc` is asked to do.
#[derive(Debug, Clone, Copy)]
pub struct GcOptions {
    /// Only say what would be removed.
    pub dry_run: bool,
    /// Nothing younger is removed.
    pub grace: Duration,
    pub history: History,
}

/// What was removed, or would be.
#[derive(Debug, Default)]
pub struct Freed {
    /// Objects with a row.
    pub objects: Vec<(ObjectHash, u64)>,
    /// Files at an object's place that have no row.
    pub strays: Vec<(PathBuf, u64)>,
}

impl Freed {
    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        let objects = self.objects.iter().map(|(_, size)| size);
        objects.chain(self.strays.iter().map(|(_, size)| size)).sum()
    }
}

/// Removes garbage. The caller holds the run lock.
///
/// # Errors
/// Whatever stops it; what was removed until then is consistent.
pub fn gc(db: &Db, store: &Store, options: GcOptions) -> Result<Freed> {
    let mut freed = Freed::default();
    // A damaged database may have lost references to objects that are needed.
    let wrong = db.read(|reader| db::check_database(reader, true))?;
    if let Some(first) = wrong.first() {
        return Err(Error::Foreign {
            path: Db::file(store.db_dir()),
            why: format!(
                "is damaged, so nothing was removed: {first}; restore it from a backup, or start anew with another --db"
            ),
        });
    }
    // Strays are listed before the rows are read, so that whatever is committed meanwhile has a row by then.
    let strays = strays(store, options.grace)?;
    look_at_dependencies(db, store.db_dir())?;
    let mut garbage = Vec::new();
    db.read(|reader| {
        db::each_garbage(reader, options.history, &mut |hash, size| garbage.push((hash, size)))
    })?;
    for (hash, size) in garbage {
        if is_old(&store.path(&hash), options.grace)? {
            freed.objects.push((hash, size));
        }
    }
    for (hash, path, size) in strays {
        // A needed object that has lost its row is left to `repair`.
        let is_kept = db.read(|reader| {
            Ok(db::known_object(reader, &hash)?.is_some() || db::is_needed(reader, &hash)?)
        })?;
        if !is_kept {
            freed.strays.push((path, size));
        }
    }
    if options.dry_run {
        return Ok(freed);
    }
    let hashes: Vec<ObjectHash> = freed.objects.iter().map(|(hash, _)| *hash).collect();
    for part in hashes.chunk_by(|a, b| a.shard() == b.shard()) {
        let _shard = store.lock_shard_exclusive(part[0].shard())?;
        db.write(|writer| db::drop_objects(writer, part))?;
        for hash in part {
            store.forget(hash);
            remove(store.root(), &store.path(hash))?;
        }
    }
    for (path, _) in &freed.strays {
        remove(store.root(), path)?;
    }
    db.write(Dependencies::prune)?;
    Ok(freed)
}

/// An older result of a step may be the one that belongs to what its files are now, though no run has seen that yet.
fn look_at_dependencies(db: &Db, db_dir: &Path) -> Result<()> {
    db.read(Dependencies::begin)?;
    let Some(dir) = db.read(db::last_dir)? else { return Ok(()) };
    // The manifest's folder may be gone: then its files are.
    if let Ok(files) = DependencyFiles::new(as_path(&dir), db_dir) {
        files.scan(db)?.note(db, &files)?;
    }
    Ok(())
}

fn remove(root: &Path, path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).or_io("remove", path)?,
        Ok(_) => fs::remove_file(path).or_io("remove", path)?,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(err) => return Err(err).or_io("look at", path),
    }
    // The object's folder, then the shard's: removing one fails as long as it is not empty.
    for folder in path.ancestors().skip(1).take_while(|folder| *folder != root).take(2) {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
    Ok(())
}

/// True if the file has not changed for the time of grace, or is missing.
fn is_old(path: &Path, grace: Duration) -> Result<bool> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(err) => return Err(err).or_io("look at", path),
    };
    Ok(is_older(&found, grace))
}

fn is_older(found: &fs::Metadata, grace: Duration) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The inode's time (ctime), not the data's: it is that of the rename into the store.
    let seconds = u64::try_from(found.ctime()).unwrap_or(0);
    let changed =
        SystemTime::UNIX_EPOCH + Duration::new(seconds, found.ctime_nsec().unsigned_abs() as u32);
    match SystemTime::now().duration_since(changed) {
        Ok(age) => age >= grace,
        // The clock was set back: keep it, to be safe.
        Err(_) => grace.is_zero(),
    }
}

/// Files at an object's place, `AB/CD/EFGH…` below `objects/`, that are old enough. Anything with another name is not
/// ours, and stays.
fn strays(store: &Store, grace: Duration) -> Result<Vec<(ObjectHash, PathBuf, u64)>> {
    let root = store.root();
    let mut found = Vec::new();
    let is_shard = |name: &OsStr| {
        name.len() == 2
            && name.as_bytes().iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    let tree = WalkDir::new(root)
        .min_depth(1)
        .max_depth(3)
        .into_iter()
        .filter_entry(|entry| entry.depth() > 2 || is_shard(entry.file_name()));
    for entry in tree {
        let entry = match entry {
            Ok(entry) => entry,
            Err(err) => {
                let path = err.path().unwrap_or(root).to_owned();
                return Err(std::io::Error::from(err)).or_io("walk", path);
            }
        };
        let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let Ok(hash) = ObjectHash::parse(&below.to_string_lossy().replace('/', "")) else {
            continue;
        };
        let metadata = fs::symlink_metadata(entry.path()).or_io("look at", entry.path())?;
        if is_older(&metadata, grace) {
            found.push((hash, entry.into_path(), metadata.len()));
        }
    }
    Ok(found)
}
