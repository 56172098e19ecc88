//! Objects placed, joined, deduplicated and healed.

use super::*;

#[test]
fn bytes_and_files_become_read_only_objects_under_their_names() {
    let world = World::new();
    let large: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    for bytes in [&b""[..], b"abc", &large] {
        let source = world.dir.path().join("source");
        fs::write(&source, bytes).unwrap();
        let mut file = fs::File::open(&source).unwrap();
        let placed = world.store.put_file(&mut file).unwrap();
        assert_eq!((placed.hash, placed.size), (ObjectHash::of(bytes), bytes.len() as u64));
        let path = world.store.path(&placed.hash);
        let hex = placed.hash.hex();
        assert!(path.ends_with(format!("objects/{}/{}/{}", &hex[..2], &hex[2..4], &hex[4..])));
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o444);
        world.commit(placed);
    }
    let hash = world.commit(world.place(b"placed"));
    assert_eq!(fs::metadata(world.store.path(&hash)).unwrap().permissions().mode() & 0o7777, 0o444);
    world.assert_tidy();
}

#[test]
fn a_committed_object_is_never_renamed_over() {
    let world = World::new();
    for knows in [true, false] {
        let bytes = format!("bytes {knows}").into_bytes();
        let hash = world.commit(world.place(&bytes));
        let inode = world.inode(&hash);
        if !knows {
            world.store.forget(&hash);
        }
        for placed in [world.place(&bytes), world.put(&bytes)] {
            assert_eq!(world.inode(&hash), inode);
            assert!(world.is_durable(&placed));
        }
    }
    world.assert_tidy();
}

/// In a young store an object is not looked for before it is written.
#[test]
fn an_object_of_a_young_store_that_is_there_after_all_is_found_or_healed() {
    let world = World::new();
    let kinds: [(&[u8], Option<&[u8]>); 3] =
        [(b"intact", None), (b"cut short", Some(b"cut")), (b"a stray", Some(b"of another length"))];
    for (bytes, _) in kinds {
        world.commit(world.put(bytes));
    }
    // Another process, which has seen no folder.
    let database = Arc::clone(&world.database) as Arc<dyn Proof>;
    let store = Store::open(world.dir.path(), database).unwrap();
    for (bytes, harm) in kinds {
        let hash = ObjectHash::of(bytes);
        if let Some(harm) = harm {
            plant(&store.path(&hash), harm);
        }
        let inode = world.inode(&hash);
        let mut next = 0_u32;
        while !store.inner.folders_are_new.load(Ordering::Relaxed) {
            store.put(&next.to_ne_bytes()).unwrap();
            next += 1;
        }
        for _ in 0..3 {
            let placed = store.put(bytes).unwrap();
            assert_eq!((placed.hash, placed.size), (hash, bytes.len() as u64));
        }
        assert_eq!(world.inode(&hash) == inode, harm.is_none());
        assert_eq!(store.check(&hash, Some(bytes.len() as u64), true).unwrap(), Ok(()));
    }
    world.assert_tidy();
}

#[test]
fn the_database_is_asked_once_for_the_same_bytes() {
    let world = World::new();
    let hash = world.commit(world.place(b"often"));
    world.store.forget(&hash);
    world.database.questions.store(0, Ordering::SeqCst);
    for _ in 0..10 {
        world.place(b"often");
        world.put(b"often");
    }
    assert_eq!(world.database.questions.load(Ordering::SeqCst), 1);
}

#[test]
fn a_stray_proves_nothing_and_is_renamed_over() {
    let world = World::new();
    for bytes in [&b""[..], b"rotten", b"abcdefgh"] {
        let hash = ObjectHash::of(b"abcdefgh");
        plant(&world.store.path(&hash), bytes);
        let placed = world.place(b"abcdefgh");
        assert_eq!(world.store.check(&hash, Some(8), true).unwrap(), Ok(()));
        assert!(!world.is_durable(&placed));
        drop(placed);
        plant(&world.store.path(&hash), bytes);
        let placed = world.put(b"abcdefgh");
        assert_eq!(world.store.check(&hash, Some(8), true).unwrap(), Ok(()));
        assert!(!world.is_durable(&placed));
    }
    world.assert_tidy();
}

#[test]
fn a_committed_object_that_is_lost_or_of_another_kind_is_healed() {
    let world = World::new();
    let hash = world.commit(world.put(b"precious"));
    let path = world.store.path(&hash);
    let spoils: [&dyn Fn(); 4] = [
        &|| fs::remove_file(&path).unwrap(),
        &|| plant(&path, b"prec"),
        &|| {
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        },
        &|| {
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            fs::write(path.join("x"), "x").unwrap();
        },
    ];
    for (n, spoil) in spoils.iter().enumerate() {
        for via_put in [true, false] {
            spoil();
            assert!(world.store.check(&hash, Some(8), false).unwrap().is_err(), "{n}");
            let placed = if via_put { world.put(b"precious") } else { world.place(b"precious") };
            assert_eq!(world.store.check(&hash, Some(8), true).unwrap(), Ok(()), "{n}");
            world.commit(placed);
        }
    }
    let text = fs::read_to_string("/etc/passwd").unwrap();
    assert!(text.contains("root"));
}

#[test]
fn an_object_in_flight_is_joined_and_still_has_to_be_synced() {
    let world = World::new();
    let first = world.place(b"same");
    let inode = world.inode(&first.hash);
    let second = world.place(b"same");
    let third = world.put(b"same");
    assert_eq!(world.inode(&first.hash), inode);
    assert_eq!(world.database.questions.load(Ordering::SeqCst), 0);
    assert!(!world.is_durable(&second) && !world.is_durable(&third));
    // The first one's step is refused: nothing of it is committed. The others hold the object.
    drop(first);
    assert!(!world.is_durable(&second));
    world.store.sync(&[&second, &third]).unwrap();
    assert!(world.is_durable(&third));
    drop((second, third));
    // Nobody has committed it, so it is a stray now.
    let again = world.place(b"same");
    assert_ne!(world.inode(&again.hash), inode);
    world.assert_tidy();
}

#[test]
fn a_commit_between_question_and_rename_is_noticed() {
    for via_put in [true, false] {
        let world = Arc::new(World::new());
        let bytes = b"raced";
        let hash = ObjectHash::of(bytes);
        plant(&world.store.path(&hash), &[b'x'; 5]);
        let committed_inode = Arc::new(AtomicUsize::new(0));
        // While the first one asks the database, another one places and commits the very object.
        let (rival, inode) = (Arc::clone(&world), Arc::clone(&committed_inode));
        *world.database.meanwhile.lock().unwrap() = Some(Box::new(move || {
            let placed = rival.place(bytes);
            rival.commit(placed);
            rival.store.forget(&hash);
            inode.store(rival.inode(&hash) as usize, Ordering::SeqCst);
        }));
        let placed = if via_put {
            world.store.put(bytes).unwrap()
        } else {
            let folder = world.dir.path().join("first");
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("x"), bytes).unwrap();
            let dir = fs::File::open(&folder).unwrap();
            world.store.place(dir.as_fd(), b"x", hash, bytes.len() as u64).unwrap()
        };
        assert_eq!(world.inode(&hash) as usize, committed_inode.load(Ordering::SeqCst));
        assert!(world.is_durable(&placed));
        world.assert_tidy();
    }
}

#[test]
fn file_systems_without_noreplace_are_served_as_well() {
    let world = World::new();
    world.store.inner.must_look_first.store(true, Ordering::SeqCst);
    let hash = world.commit(world.place(b"committed"));
    let inode = world.inode(&hash);
    world.store.forget(&hash);
    drop(world.place(b"committed"));
    assert_eq!(world.inode(&hash), inode);
    let stray = ObjectHash::of(b"stray");
    plant(&world.store.path(&stray), b"");
    drop(world.place(b"stray"));
    assert_eq!(world.store.check(&stray, Some(5), true).unwrap(), Ok(()));
}

#[test]
fn a_swapped_candidate_is_not_taken() {
    let world = World::new();
    let path = world.dir.path().join("out");
    fs::write(&path, "hashed").unwrap();
    let hashed = fs::File::open(&path).unwrap();
    let inode = hashed.metadata().unwrap().ino();
    fs::write(world.dir.path().join("other"), "HASHED").unwrap();
    fs::rename(world.dir.path().join("other"), &path).unwrap();
    let dir = fs::File::open(world.dir.path()).unwrap();
    let hash = ObjectHash::of(b"hashed");
    let placed =
        world.store.place_open((hashed.as_fd(), inode), dir.as_fd(), b"out", (hash, 6)).unwrap();
    assert!(placed.is_none());
    assert!(!world.store.path(&hash).exists());
    assert!(!world.store.inner.shard(&hash).state().is_in_flight(&hash));
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
    assert_eq!(world.database.rows.len(), 20);
    assert!(world.store.inner.shards.iter().all(|shard| shard.state().is_idle()));
    world.assert_tidy();
}

#[test]
fn what_is_discarded_goes_unless_somebody_else_has_it() {
    let world = World::new();
    let discard = |placed| world.store.discard(placed).unwrap();
    let (first, second) = (world.put(b"twice"), world.put(b"twice"));
    let path = world.store.path(&first.hash);
    discard(first);
    assert!(path.exists(), "another one still has it");
    discard(second);
    assert!(!path.exists());
    // Had by somebody else meanwhile, who has committed it.
    let (first, second) = (world.put(b"committed"), world.put(b"committed"));
    let hash = world.commit(second);
    world.store.forget(&hash);
    discard(first);
    assert!(world.store.path(&hash).exists());
    // Deduplicated against a committed one.
    discard(world.put(b"committed"));
    assert!(world.store.path(&hash).exists());
}

#[test]
fn a_folder_that_somebody_has_removed_is_made_again_and_synced_again() {
    let world = World::new();
    for level in [1, 2] {
        let hash = world.commit(world.put(b"in a folder"));
        let path = world.store.path(&hash);
        fs::remove_dir_all(path.ancestors().nth(level).unwrap()).unwrap();
        world.store.forget(&hash);
        let placed = world.put(b"in a folder");
        assert_eq!(fs::read(&path).unwrap(), b"in a folder");
        assert!(world.store.inner.shard(&hash).state().begin_sync_of_folders(), "{level}");
        drop(placed);
    }
    world.assert_tidy();
}

#[test]
fn objects_find_their_folders_whether_most_of_those_are_there_or_not() {
    let world = World::new();
    let hashes: Vec<ObjectHash> =
        (0..200u32).map(|n| world.commit(world.put(&n.to_le_bytes()))).collect();
    // Every other folder is there, which is what can be guessed least.
    for hash in hashes.iter().skip(1).step_by(2) {
        fs::remove_dir_all(world.store.path(hash).parent().unwrap()).unwrap();
    }
    let store = Store::open(world.dir.path(), Arc::new(Rows::default())).unwrap();
    for (n, hash) in (0..200u32).zip(&hashes) {
        assert_eq!(store.put(&n.to_le_bytes()).unwrap().hash, *hash);
        assert_eq!(fs::read(store.path(hash)).unwrap(), n.to_le_bytes());
    }
}
