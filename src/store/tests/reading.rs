//! Objects given back, and damage told.

use super::*;

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
    drop(Store::open_read_only(world.dir.path()).unwrap());
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 3);
    drop(Store::open(world.dir.path(), Arc::new(Rows::default())).unwrap());
    let left: Vec<_> =
        fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [own.as_str()]);
    assert!(Store::open_read_only(&world.dir.path().join("none")).is_err());
}

#[test]
fn an_object_is_read_whole_however_long_it_is_and_a_longer_one_than_asked_for_is_not() {
    let world = World::new();
    for length in [1, 4095, 4096, 4097, 100_000] {
        let bytes: Vec<u8> = (0..length).map(|n: u32| (n % 251) as u8).collect();
        let hash = world.commit(world.put(&bytes));
        let size = u64::from(length);
        assert_eq!(world.store.read_small(&hash, size).unwrap(), Some(bytes.clone()), "{length}");
        assert_eq!(world.store.read_small(&hash, 1 << 20).unwrap(), Some(bytes), "{length}");
        let mut buffer = Vec::new();
        let loaded = world.store.load(&hash, size - 1, &mut buffer).unwrap();
        let Loaded::Large { mut file, stat } = loaded else { panic!("{length}") };
        assert_eq!(stat.st_size as u64, size);
        assert_eq!(ObjectHash::of_stream(&mut file).unwrap(), hash, "{length}");
    }
}
