//! A store in a folder of its own, with a set of hashes for a database.

mod barrier;
mod placing;
mod reading;

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::*;
use crate::error::Error;
use crate::proof::Rows;

struct World {
    dir: TempDir,
    store: Store,
    database: Arc<Database>,
}

/// What the store asks.
#[derive(Default)]
struct Database {
    rows: Rows,
    questions: AtomicUsize,
    /// Done once, after the answer to a question was found and before it is given.
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Proof for Database {
    fn committed_size(&self, hash: &ObjectHash) -> Result<Option<u64>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        let answer = self.rows.committed_size(hash);
        let meanwhile = self.meanwhile.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
        answer
    }
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path()).unwrap();
        let database = Arc::new(Database::default());
        let store = Store::open(dir.path(), Arc::clone(&database) as Arc<dyn Proof>).unwrap();
        World { dir, store, database }
    }

    fn put(&self, bytes: &[u8]) -> Placed {
        self.store.put(bytes).unwrap()
    }

    fn commit(&self, placed: Placed) -> ObjectHash {
        self.store.sync(&[&placed]).unwrap();
        self.database.rows.insert(placed.hash, placed.size);
        self.store.note_committed(&placed.hash);
        placed.hash
    }

    /// Places a file made in a folder of its own.
    fn place(&self, bytes: &[u8]) -> Placed {
        let scratch = self.dir.path().join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        fs::write(scratch.join("file"), bytes).unwrap();
        let dir = fs::File::open(&scratch).unwrap();
        let (hash, size) = (ObjectHash::of(bytes), bytes.len() as u64);
        let placed = self.store.place(dir.as_fd(), b"file", hash, size);
        assert!(!scratch.join("file").exists());
        placed.unwrap()
    }

    fn inode(&self, hash: &ObjectHash) -> u64 {
        fs::metadata(self.store.path(hash)).unwrap().ino()
    }

    fn is_durable(&self, placed: &Placed) -> bool {
        !self.store.inner.shard(&placed.hash).state().needs_sync(&placed.hash)
    }

    /// No copy is left over.
    fn assert_tidy(&self) {
        assert_eq!(fs::read_dir(self.dir.path().join("objects/.tmp")).unwrap().count(), 0);
    }
}

/// What a power cut leaves: the name, but not the bytes.
fn plant(path: &Path, bytes: &[u8]) {
    let _ = fs::remove_file(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}
