//! The folder of a worker on its node: its objects, and the scratch of its scripts. Held by a lock for as long as the
//! worker lives, so that the next one on the node can tell what a killed one has left: processes, and this folder.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::error::{OrIo as _, Result};
use crate::object::to_hex;
use crate::remote::secret;
use crate::step;
use crate::sys::flock;

/// Beginning of its name, in TMPDIR.
const PREFIX: &str = "task-pipeline-worker-";

/// Held as long as the worker lives.
const LOCK: &str = "lock";

/// Name of the lock before it is held.
const DRAFT: &str = "lock~";

/// Where the scratch of its scripts is, below it.
const SCRATCH: &str = "scratch";

/// Removed when it is dropped.
pub(super) struct WorkerFolder {
    pub(super) path: PathBuf,
    _lock: File,
}

impl WorkerFolder {
    /// Makes a new one below TMPDIR, and removes what dead workers have left there.
    ///
    /// # Errors
    /// If it can't be made.
    pub(super) fn make() -> Result<WorkerFolder> {
        let base = std::env::temp_dir();
        let base = std::path::absolute(&base).or_io("find the folder", base)?;
        remove_stale(&base);
        let name = format!("{PREFIX}{}-{}", std::process::id(), &to_hex(&secret::nonce()?)[..8]);
        let path = base.join(name);
        let private = || {
            let mut builder = DirBuilder::new();
            builder.mode(0o700);
            builder
        };
        private().create(&path).or_io("make the worker's folder", &path)?;
        let draft = path.join(DRAFT);
        let lock = File::create_new(&draft).or_io("make", &draft)?;
        flock::exclusive(&lock).or_io("lock", &draft)?;
        // Only now others take its folder for one that may be left.
        fs::rename(&draft, path.join(LOCK)).or_io("rename", &draft)?;
        private().create(path.join(SCRATCH)).or_io("make the scratch folder in", &path)?;
        Ok(WorkerFolder { path, _lock: lock })
    }

    /// A folder for scratch that is there and private, and was never there before.
    pub(super) fn scratch(&self, nth: usize) -> Result<PathBuf> {
        let path = self.path.join(SCRATCH).join(format!("{nth}-{}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path).or_io("make the scratch folder", &path)?;
        Ok(path)
    }
}

impl Drop for WorkerFolder {
    fn drop(&mut self) {
        // What can't be removed now is removed by the next worker on this node.
        let _ = remove(&self.path);
    }
}

/// Removes the folders of workers that are dead, and ends their scripts. Trouble with them is not this worker's.
fn remove_stale(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    let own = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let is_ours = entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())
            // Of the entry itself: a link is nobody's worker.
            && entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == own);
        if !is_ours {
            continue;
        }
        let path = entry.path();
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if flock::try_exclusive(&lock).is_ok_and(|is_dead| is_dead) {
            let _ = remove(&path);
        }
    }
}

/// First the scratch, which may hold anything that scripts have made.
fn remove(path: &Path) -> io::Result<()> {
    step::end_survivors(&path.join(SCRATCH)).map_err(io::Error::other)?;
    fs::remove_dir_all(path)
}
