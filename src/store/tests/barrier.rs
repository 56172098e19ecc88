//! What survives, and who waits for whom.

use super::*;

#[test]
fn a_barrier_covers_few_and_many_objects_once() {
    let world = World::new();
    for count in [1, crate::store::barrier::FEW_FILES, crate::store::barrier::FEW_FILES + 1, 500] {
        let placed: Vec<Placed> =
            (0..count).map(|n| world.put(format!("{count} {n}").as_bytes())).collect();
        assert!(placed.iter().all(|placed| !world.is_durable(placed)));
        world.store.sync(&placed.iter().collect::<Vec<_>>()).unwrap();
        assert!(placed.iter().all(|placed| world.is_durable(placed)));
    }
    world.store.sync(&[]).unwrap();
}

#[test]
fn the_way_to_sync_that_was_cheaper_of_late_is_taken() {
    let ms = std::time::Duration::from_millis;
    let mut barrier = crate::store::barrier::Barrier::new();
    barrier.syncfs_is_mute = false;
    // Both are tried first.
    assert!(barrier.prefer_each(10));
    barrier.learn(ms(60), 20);
    assert!(!barrier.prefer_each(10));
    barrier.learn(ms(4), 0);
    assert!(!barrier.prefer_each(1) && !barrier.prefer_each(10));
    // Others write a lot: everything is dearer than a few files.
    barrier.learn(ms(400), 0);
    assert!(barrier.prefer_each(10) && !barrier.prefer_each(crate::store::barrier::FEW_FILES + 1));
    // That is not believed for ever.
    let tries = (0..10_000).take_while(|_| {
        barrier.learn(ms(60), 20);
        barrier.prefer_each(10)
    });
    assert!((50..1000).contains(&tries.count()));
    // Where syncfs doesn't tell of errors it is never used.
    barrier.syncfs_is_mute = true;
    assert!(barrier.prefer_each(100_000));
}

#[test]
fn a_failed_barrier_is_an_error_and_so_is_every_one_after_it() {
    let world = World::new();
    let placed = world.put(b"to be lost");
    let path = world.store.path(&placed.hash);
    fs::remove_file(&path).unwrap();
    let Err(Error::Io { what, path: told, .. }) = world.store.sync(&[&placed]) else { panic!() };
    assert_eq!((what, told), ("sync", path));
    assert!(!world.is_durable(&placed));
    // The next one would succeed, though the kernel may have dropped bytes of this object as well.
    let other = world.put(b"good as it seems");
    let Err(Error::Io { source, .. }) = world.store.sync(&[&other]) else { panic!() };
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    assert!(!world.is_durable(&other) && world.store.sync_all().is_err());
}

#[test]
fn gc_waits_for_everybody_who_has_placed_something_in_the_shard() {
    let world = World::new();
    let placed = world.put(b"busy");
    let shard = placed.hash.shard();
    let is_locked = |store: &Store| {
        let file = fs::File::open(store.root.join(format!("../locks/{shard:02x}"))).unwrap();
        !crate::sys::flock::try_exclusive(&file).unwrap()
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
    let store = Store::open(world.dir.path(), Arc::new(Rows::default())).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let placed = store.put(b"busy").unwrap();
        sender.send(()).unwrap();
        drop(placed);
    });
    assert!(receiver.recv_timeout(std::time::Duration::from_millis(100)).is_err());
    drop(exclusive);
    waiting.join().unwrap();
    assert!(receiver.recv().is_ok());
}

#[test]
fn a_thousand_objects_in_flight_need_few_lock_files_and_keep_gc_out_all_the_same() {
    let world = World::new();
    let placed: Vec<Placed> = (0..1000).map(|n: u32| world.put(&n.to_le_bytes())).collect();
    let locks = world.dir.path().join("locks");
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let open = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    assert_eq!(open.filter(|path| path.starts_with(&locks)).count(), shard::FEW_LOCKS + 1);
    // Those that have no file of their own open.
    let by_byte: Vec<u8> = (0..=u8::MAX)
        .filter(|shard| !locks.join(format!("{shard:02x}")).exists())
        .filter(|shard| placed.iter().any(|placed| placed.hash.shard() == *shard))
        .collect();
    assert!(by_byte.len() > 200);
    let store = Store::open(world.dir.path(), Arc::new(Rows::default())).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        drop(store.lock_shard_exclusive(by_byte[7]).unwrap());
        sender.send(()).unwrap();
    });
    assert!(receiver.recv_timeout(std::time::Duration::from_millis(100)).is_err());
    drop(placed);
    waiting.join().unwrap();
    assert!(receiver.recv().is_ok());
    assert!(
        (0..=u8::MAX).all(|shard| world.store.inner.shards[usize::from(shard)].state().is_idle())
    );
}
