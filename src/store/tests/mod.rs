//! A store in a folder of its own, with a set of hashes for a database.

mod barrier;
mod placing;
mod reading;

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::error::Error;

struct World {
    dir: TempDir,
    store: Store,
    committed: Mutex<HashMap<ObjectHash, u64>>,
    questions: AtomicUsize,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), true).unwrap();
        World { dir, store, committed: Mutex::default(), questions: AtomicUsize::new(0) }
    }

    fn ask(&self, hash: &ObjectHash) -> Result<Option<u64>> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        Ok(self.committed.lock().unwrap().get(hash).copied())
    }

    fn put(&self, bytes: &[u8]) -> Placed {
        self.store.put(bytes, &|hash| self.ask(hash)).unwrap()
    }

    fn commit(&self, placed: Placed) -> ObjectHash {
        self.store.sync(&[&placed]).unwrap();
        self.committed.lock().unwrap().insert(placed.hash, placed.size);
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
        let placed = self.store.place(dir.as_fd(), b"file", hash, size, &|hash| self.ask(hash));
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
