//! Barriers, locks, damage, and threads that meet.

use std::fs;
use std::sync::Arc;

use super::*;
use crate::error::Error;

#[test]
fn a_barrier_covers_few_and_many_objects_once() {
    let world = World::new();
    for count in [1, sync::FEW_FILES, sync::FEW_FILES + 1, 500] {
        let placed: Vec<Placed> =
            (0..count).map(|n| world.put(format!("{count} {n}").as_bytes())).collect();
        assert!(placed.iter().all(|placed| !world.is_durable(placed)));
        world.store.sync(&placed.iter().collect::<Vec<_>>()).unwrap();
        assert!(placed.iter().all(|placed| world.is_durable(placed)));
    }
    world.store.sync(&[]).unwrap();
}

#[test]
fn a_failed_barrier_is_an_error_and_leaves_nothing_marked_durable() {
    let world = World::new();
    let placed = world.put(b"to be lost");
    let path = world.store.path(&placed.hash);
    fs::remove_file(&path).unwrap();
    let Err(Error::Io { what, path: told, .. }) = world.store.sync(&[&placed]) else { panic!() };
    assert_eq!((what, told), ("sync", path));
    assert!(!world.is_durable(&placed));
}

#[test]
fn gc_waits_for_everybody_who_has_placed_something_in_the_shard() {
    let world = World::new();
    let placed = world.put(b"busy");
    let shard = placed.hash.shard();
    let is_locked = |store: &Store| {
        let file = fs::File::open(store.root.join(format!("{shard:02x}/lock"))).unwrap();
        fs2::FileExt::try_lock_exclusive(&file).is_err()
    };
    assert!(is_locked(&world.store));
    let again = world.put(b"busy");
    drop(placed);
    assert!(is_locked(&world.store));
    drop(again);
    assert!(!is_locked(&world.store));
    let exclusive = world.store.lock_shard_exclusive(shard).unwrap();
    assert!(is_locked(&world.store));
    // Another shard is not concerned.
    drop(world.store.lock_shard_exclusive(shard.wrapping_add(1)).unwrap());
    let store = Arc::new(Store::open(world.dir.path(), false).unwrap());
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let placed = store.put(b"busy", &|_| Ok(None)).unwrap();
        sender.send(()).unwrap();
        drop(placed);
    });
    assert!(receiver.recv_timeout(std::time::Duration::from_millis(100)).is_err());
    drop(exclusive);
    waiting.join().unwrap();
    assert!(receiver.recv().is_ok());
}

#[test]
fn reading_tells_damage_from_trouble() {
    let world = World::new();
    let hash = world.commit(world.put(b"some bytes"));
    assert_eq!(world.store.read_small(&hash, 10).unwrap().unwrap(), b"some bytes");
    assert_eq!(world.store.read_small(&hash, 9).unwrap(), None);
    assert_eq!(world.store.check(&hash, Some(10), true).unwrap(), Ok(()));
    let why = world.store.check(&hash, Some(11), false).unwrap().unwrap_err();
    assert_eq!(why, "it has 10 bytes instead of 11");
    plant(&world.store.path(&hash), b"same bytes");
    assert_eq!(world.store.check(&hash, Some(10), false).unwrap(), Ok(()));
    assert!(world.store.check(&hash, Some(10), true).unwrap().is_err());
    assert!(matches!(world.store.read_small(&hash, 10), Err(Error::Damaged { .. })));
    fs::remove_file(world.store.path(&hash)).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, world.store.path(&hash), Mode::RWXU).unwrap();
    assert!(matches!(world.store.open_object(&hash), Err(Error::Damaged { .. })));
    fs::remove_file(world.store.path(&hash)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", world.store.path(&hash)).unwrap();
    assert!(matches!(world.store.open_object(&hash), Err(Error::Damaged { .. })));
    assert!(matches!(world.store.open_object(&ObjectHash::of(b"?")), Err(Error::Damaged { .. })));
}

#[test]
fn opening_removes_what_dead_writers_left_and_nothing_else() {
    let world = World::new();
    let tmp = world.dir.path().join("objects/.tmp");
    let own = format!("{}-77", std::process::id());
    for name in ["4194304999-1", "stray-3", &own] {
        fs::write(tmp.join(name), "x").unwrap();
    }
    drop(Store::open(world.dir.path(), false).unwrap());
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 3);
    drop(Store::open(world.dir.path(), true).unwrap());
    let left: Vec<_> =
        fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [own.as_str()]);
    assert!(Store::open(&world.dir.path().join("none"), false).is_err());
}

#[test]
fn threads_that_place_the_same_objects_agree() {
    let world = World::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..200u32 {
                    let placed = world.put(&(n % 20).to_le_bytes());
                    assert_eq!(world.store.check(&placed.hash, Some(4), true).unwrap(), Ok(()));
                    if n % 3 == 0 {
                        world.commit(placed);
                    }
                }
            });
        }
    });
    assert_eq!(world.committed.lock().unwrap().len(), 20);
    assert!(world.store.inner.shards.iter().all(|shard| shard.state().is_idle()));
    world.assert_tidy();
}
