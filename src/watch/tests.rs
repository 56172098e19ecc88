//! Which changes a watcher reports, on a folder of its own.

use std::fs;

use super::*;

struct World(tempfile::TempDir);

impl World {
    fn new(paths: &[&str]) -> World {
        let world = World(tempfile::tempdir().unwrap());
        paths.iter().for_each(|path| world.write(path));
        world
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), "x").unwrap();
    }

    /// Watches a file `manifest` and the pattern `glob` below `start`.
    fn watcher(&self, start: &str, glob: &str, depth: Option<usize>) -> Watcher {
        let glob = crate::manifest::glob_set([glob]).unwrap();
        let start = self.path(start);
        Watcher::new(Reads {
            files: vec![self.path("manifest")],
            trees: vec![Tree { start, glob, depth, hidden: false }],
            skip: vec![self.path("db")],
            skip_with: Some(".mark"),
        })
        .unwrap()
    }

    fn told(&self, watcher: &mut Watcher) -> Vec<String> {
        let changes = watcher.wait().unwrap();
        let below =
            |path: &PathBuf| path.strip_prefix(self.0.path()).unwrap().display().to_string();
        changes.paths.iter().map(below).collect()
    }
}

#[test]
fn only_what_is_read_is_told() {
    let w = World::new(&["a.txt", "sub/b.txt", "db/objects/c.txt", "out/.mark", "out/d.txt"]);
    let mut watcher = w.watcher("", "**/*.txt", None);
    for path in [
        "a.bin",
        ".a.txt.swp",
        ".hidden.txt",
        ".dir/e.txt",
        "db/new.txt",
        "db/objects/c.txt",
        "out/d.txt",
        "out/f.txt",
        "sub/x",
    ] {
        w.write(path);
    }
    fs::read(w.path("a.txt")).unwrap();
    w.write("sub/b.txt");
    assert_eq!(w.told(&mut watcher), ["sub/b.txt"]);
}

#[test]
fn whatever_way_a_file_changes_it_is_told() {
    type Way<'a> = (&'a str, &'a dyn Fn(&World));
    let ways: [Way<'_>; 6] = [
        ("written", &|w| w.write("in/a.txt")),
        ("removed", &|w| fs::remove_file(w.path("in/a.txt")).unwrap()),
        ("put in place", &|w| {
            w.write("in/.tmp");
            fs::rename(w.path("in/.tmp"), w.path("in/a.txt")).unwrap();
        }),
        ("moved away", &|w| fs::rename(w.path("in/a.txt"), w.path("a.txt")).unwrap()),
        ("linked", &|w| fs::hard_link(w.path("manifest"), w.path("in/b.txt")).unwrap()),
        ("made executable", &|w| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(w.path("in/a.txt"), fs::Permissions::from_mode(0o755)).unwrap();
        }),
    ];
    for (way, change) in ways {
        let w = World::new(&["in/a.txt", "manifest"]);
        let mut watcher = w.watcher("in", "*.txt", Some(1));
        change(&w);
        assert_eq!(w.told(&mut watcher).len(), 1, "{way}");
    }
}

#[test]
fn what_is_not_there_yet_is_watched_for() {
    let w = World::new(&["x"]);
    let mut watcher = w.watcher("a/b", "*/*.txt", Some(2));
    fs::create_dir(w.path("c")).unwrap();
    fs::create_dir(w.path("a")).unwrap();
    assert_eq!(w.told(&mut watcher), ["a"]);
    let mut watcher = w.watcher("a/b", "*/*.txt", Some(2));
    fs::create_dir(w.path("a/b")).unwrap();
    assert_eq!(w.told(&mut watcher), ["a/b"]);
    let mut watcher = w.watcher("a/b", "*/*.txt", Some(2));
    fs::create_dir(w.path("a/b/c")).unwrap();
    assert_eq!(w.told(&mut watcher), ["a/b/c"]);
    let mut watcher = w.watcher("a/b", "*/*.txt", Some(2));
    fs::create_dir(w.path("a/b/c/too-deep")).unwrap();
    w.write("a/b/c/d.txt");
    assert_eq!(w.told(&mut watcher), ["a/b/c/d.txt"]);
    w.write("manifest");
    assert_eq!(w.told(&mut watcher), ["manifest"]);
}

#[test]
fn another_folder_in_the_place_of_one_is_told() {
    let w = World::new(&["a/in/1.txt", "b/in/1.txt"]);
    let mut watcher = w.watcher("a/in", "*.txt", Some(1));
    fs::rename(w.path("a"), w.path("old")).unwrap();
    fs::rename(w.path("b"), w.path("a")).unwrap();
    assert!(w.told(&mut watcher).contains(&"a".to_owned()));
    let mut watcher = w.watcher("a/in", "*.txt", Some(1));
    fs::remove_dir_all(w.path("a/in")).unwrap();
    assert!(w.told(&mut watcher).contains(&"a/in".to_owned()));
}

#[test]
fn what_a_link_leads_to_is_watched() {
    let w = World::new(&["else/where/1", "in/x", "far/manifest"]);
    std::os::unix::fs::symlink(w.path("else/where/1"), w.path("in/1.txt")).unwrap();
    std::os::unix::fs::symlink(w.path("far/manifest"), w.path("manifest")).unwrap();
    for depth in [None, Some(1)] {
        let mut watcher = w.watcher("in", "*.txt", depth);
        w.write("else/where/1");
        assert_eq!(w.told(&mut watcher), ["else/where/1"]);
        w.write("far/manifest");
        assert_eq!(w.told(&mut watcher), ["far/manifest"]);
    }
}

#[test]
fn more_than_the_kernel_keeps_is_a_change_too() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let w = World::new(&["in/a", "in/b"]);
    let mut watcher = w.watcher("in", "*.txt", Some(1));
    // None of these matters, but the lost ones might. Two files in turn, because the kernel merges equal events.
    for _ in 0..limit.trim().parse::<usize>().unwrap() / 2 + 1 {
        w.write("in/a");
        w.write("in/b");
    }
    assert_eq!(watcher.wait().unwrap().to_string(), "many files changed");
}

#[test]
fn who_writes_all_the_time_can_not_put_it_off() {
    let w = World::new(&["in/a.txt"]);
    let mut watcher = w.watcher("in", "*.txt", Some(1));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                w.write("in/a.txt");
            }
        });
        assert_eq!(w.told(&mut watcher), ["in/a.txt"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
