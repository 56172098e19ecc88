//! The folder of a worker on its node: its objects, and the scratch of its scripts. Held by a lock for as long as the
//! worker lives, so that others can tell what a killed one has left: processes, and this folder.
//!
//! There may be no other worker on this node for a long time. So each has an heir, a process that does nothing but wait for that
//! lock, and then ends what is left.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::error::{Error, OrIo as _, Result};
use crate::object::to_hex;
use crate::remote::secret;
use crate::step;
use crate::sys::flock;
use crate::text::shown;

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

/// Starts the heir of the worker whose folder this is. It doesn't end with the worker's process group, and holds none of
/// its descriptors. The calling thread must live as long as the worker, and not be its first: among that one's children are
/// looked for what scripts leave behind.
///
/// # Errors
/// If it can't be started. Then what is left of a killed worker is ended by the next one on this node.
pub(super) fn start_heir(folder: &Path) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["worker", "--sweep"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Waits until the worker whose folder this is has ended. Then ends its scripts, and removes the folder, if it is still there.
///
/// # Errors
/// [`Error::Usage`] if it is no folder of a worker of this user; [`Error::Io`] if something of it can't be removed.
pub fn sweep(folder: &Path) -> Result<()> {
    let metadata = match fs::symlink_metadata(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.or_io("look at", folder)?,
    };
    let name = folder.file_name().unwrap_or_default();
    if !is_of_worker(name, &metadata) {
        let folder = shown(folder);
        return Err(Error::Usage(format!("`{folder}` is not the folder of a worker of yours")));
    }
    // Who ends a job ends all its processes at once: the worker first has to end its scripts, and may not get to the end of that.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        signal_hook::flag::register(signal, Arc::default()).or_system("handle signals")?;
    }
    let lock = match File::open(folder.join(LOCK)) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.or_io("open the lock in", folder)?,
    };
    flock::exclusive(&lock).or_io("wait for the end of the worker in", folder)?;
    match remove(folder) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.or_io("remove", folder),
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
    for entry in entries.flatten() {
        // Of the entry itself: a link is nobody's worker.
        if !entry.metadata().is_ok_and(|found| is_of_worker(&entry.file_name(), &found)) {
            continue;
        }
        let path = entry.path();
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if flock::try_exclusive(&lock).is_ok_and(|is_dead| is_dead) {
            let _ = remove(&path);
        }
    }
}

/// Whether this is the folder of a worker of this user.
fn is_of_worker(name: &OsStr, metadata: &Metadata) -> bool {
    let own = rustix::process::geteuid().as_raw();
    name.as_bytes().starts_with(PREFIX.as_bytes()) && metadata.is_dir() && metadata.uid() == own
}

/// First the scratch, which may hold anything that scripts have made; last the lock, by which a later worker knows the folder
/// if this is cut off.
fn remove(path: &Path) -> io::Result<()> {
    step::end_survivors(&path.join(SCRATCH)).map_err(io::Error::other)?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir_all(path)
}
