//! Section 6: which folder is a database, and what in it is ours.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Project, WAIT_FOR_GO, chmod, wait_for};

fn one() -> Project {
    Project::new().task("a", "echo 1 >$OUTPUT_DIR/x")
}

/// A project whose one step runs until `go`.
fn busy() -> Project {
    Project::new().task("slow", &format!(": >started; {WAIT_FOR_GO}; echo 1 >$OUTPUT_DIR/x"))
}

/// All that must not change of a folder: names, contents, modes, times of change.
fn state(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap) {
        let found = entry.metadata().unwrap();
        let bytes = if found.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
        let (mode, changed) = (found.mode(), (found.ctime(), found.ctime_nsec()));
        all.push(format!("{:?} {mode:o} {changed:?} {bytes:?}", entry.path()));
    }
    all
}

#[test]
fn a_folder_that_is_no_database_is_refused_before_a_byte_in_it_is_changed() {
    for file in [
        "db/scratch/1-1/thesis.txt",
        "db/objects/ab/cd/model.bin",
        "db/lock",
        "db/db",
        "db/format",
        "db/x",
    ] {
        let p = one().file(file, "notes");
        let before = state(&p.path("db"));
        let commands = [
            &["-manifest", "pipeline.toml", "-db", "db"][..],
            &["-manifest", "pipeline.toml", "-db", "db", "--wait"],
            &["-manifest", "pipeline.toml", "-db", "db", "-n"],
            &["plan", "-manifest", "pipeline.toml"],
            &["status"],
            &["gc", "--grace", "0s"],
            &["repair"],
            &["verify"],
            &["log", "1"],
        ];
        for command in commands {
            let ran = p.call(command).fails(65).ran([]);
            if file != "db/format" {
                ran.says("is not a database of task-pipeline")
                    .says("name a new or empty folder with --db");
            }
        }
        assert_eq!(state(&p.path("db")), before, "{file}");
    }
}

#[test]
fn an_empty_folder_becomes_a_database_also_with_what_a_killed_first_run_left_in_it() {
    let nothing: &[(&str, &str)] = &[];
    let files: [&[(&str, &str)]; 6] = [
        nothing,
        &[("lock", "")],
        &[("lock", "pid 4194304 on here, since then\n")],
        &[("lock", ""), ("format~", "task-pi")],
        &[("lock", ""), ("format", "")],
        &[(".gitignore", "*\n")],
    ];
    for files in files {
        let p = one();
        fs::create_dir(p.path("db")).unwrap();
        for (name, bytes) in files {
            p.file(Path::new("db").join(name), bytes);
        }
        p.call(["status"]).fails(2).says("there is no database");
        p.run().ok().ran(["a"]);
        p.call(["status"]).ok();
    }
}

#[test]
fn a_database_that_lost_its_format_is_known_by_its_tables() {
    let p = one();
    p.run().ok();
    p.remove("db/format").run().ok().ran([]);
    assert_eq!(p.read("db/format"), "task-pipeline 3\n");
}

#[test]
fn what_does_not_bear_our_names_stays_where_it_is() {
    let p = one();
    p.run().ok();
    let mine = [
        "db/scratch/thesis.txt",
        "db/scratch/mine/x",
        "db/objects/mine/model.bin",
        "db/objects/ab/cd/model.bin",
        "db/objects/.tmp/notes.txt",
        "db/objects/.tmp/notes",
        "db/locks/notes",
        "db/notes",
    ];
    for file in mine {
        p.file(file, "precious");
    }
    p.file("db/scratch/7-99999999/w0/out/x", "left by a run that was killed");
    p.task("a", "echo 2 >$OUTPUT_DIR/x").run().ok().ran(["a"]);
    p.call(["gc", "--grace", "0s"]).ok();
    p.call(["repair"]).ok();
    for file in mine {
        assert_eq!(p.read(file), "precious");
    }
    assert!(!p.path("db/scratch/7-99999999").exists());
}

#[test]
fn a_lost_database_is_told_and_not_begun_anew() {
    for is_empty in [true, false] {
        let p = one();
        p.run().ok();
        if is_empty {
            p.file("db/db", "");
        } else {
            p.remove("db/db");
        }
        let before = state(&p.path("db"));
        for command in [
            &["-manifest", "pipeline.toml"][..],
            &["plan", "-manifest", "pipeline.toml"],
            &["status"],
            &["gc"],
            &["repair"],
            &["verify"],
        ] {
            let ran = p.call(command).fails(65).ran([]).says("results were kept in this folder");
            ran.says("are lost").says("begin anew").says(if is_empty {
                "0 bytes"
            } else {
                "is missing"
            });
        }
        assert_eq!(state(&p.path("db")), before);
        fs::remove_dir_all(p.path("db")).unwrap();
        p.run().ok().ran(["a"]);
    }
}

#[test]
fn a_run_whose_database_is_removed_does_not_end_well() {
    for name in ["db", "db/db"] {
        let p = busy();
        let running = p.run_cmd([""; 0]).start();
        wait_for("the step", || p.path("started").exists());
        fs::rename(p.path(name), p.path("gone")).unwrap();
        p.file("go", "");
        let ran = running.end();
        assert!(!ran.is_ok(), "{name}");
        drop(fs::remove_dir_all(p.path("db")));
        p.run().ok().ran(["slow"]);
    }
}

#[test]
fn a_fifo_in_the_place_of_a_file_makes_nobody_wait() {
    for name in ["db", "format"] {
        let p = one();
        p.run().ok();
        p.remove(format!("db/{name}"));
        assert!(Command::new("mkfifo").arg(p.path("db").join(name)).status().unwrap().success());
        for command in [
            &["-manifest", "pipeline.toml"][..],
            &["plan", "-manifest", "pipeline.toml"],
            &["status"],
            &["verify"],
        ] {
            p.call(command).fails(65).says(&format!("db/{name}`"));
        }
    }
}

#[test]
fn readers_look_at_the_format() {
    let p = one();
    p.run().ok();
    p.file("db/format", "task-pipeline 99\n");
    for command in
        [&["status"][..], &["plan", "-manifest", "pipeline.toml"], &["cat", "a"], &["verify"]]
    {
        p.call(command).fails(65).says("task-pipeline 99");
    }
}

#[test]
fn without_the_lock_file_a_second_run_still_sees_the_first() {
    let p = busy();
    let first = p.run_cmd([""; 0]).start();
    wait_for("the step", || p.path("started").exists());
    p.remove("db/lock");
    let pid = format!("pid {}", first.pid());
    p.run().fails(75).ran([]).says(&pid).says("lock file was removed");
    p.call(["gc"]).fails(75).says(&pid);
    let waiting = p.run_cmd(["--wait"]).start();
    wait_for("the news", || waiting.stderr().contains(&pid));
    p.file("go", "");
    first.end().ok().ran(["slow"]);
    waiting.end().ok();
}

/// The command line that runs another one in namespaces of its own, if that is possible here.
fn container(more: &str) -> Option<String> {
    let unshare = format!("unshare --mount {more}");
    let may = Command::new("sh").args(["-c", &format!("{unshare} true")]).output();
    let can = may.is_ok_and(|may| may.status.success());
    if !can {
        eprintln!("SKIPPED: this user can't `{unshare}`");
    }
    can.then_some(unshare)
}

#[test]
fn a_run_in_a_container_is_under_way_for_those_outside() {
    let Some(unshare) = container("--map-root-user --pid --fork --kill-child --mount-proc") else {
        return;
    };
    let p = busy();
    let running = p.run_cmd([""; 0]).shell(&format!("exec {unshare} \"$0\" \"$@\"")).start();
    wait_for("the step", || p.path("started").exists());
    p.call(["status"]).ok().answers("under way in another container");
    assert_eq!(p.call(["status", "--json"]).ok().json()["last_run"]["under_way"], true);
    p.run().fails(75);
    p.file("go", "");
    running.end().ok();
    p.call(["status"]).ok().answers("complete");
    let killed = p.run_cmd(["-B"]).start();
    p.remove("go").remove("started");
    wait_for("the step", || p.path("started").exists());
    killed.signal(Signal::KILL);
    killed.end();
    p.call(["status"]).ok().answers("killed");
    p.file("go", "").run().ok();
}

#[test]
fn the_scripts_of_another_database_at_the_same_path_live() {
    // In a user namespace of its own it could not see the other one's processes at all.
    let Some(unshare) = container("") else { return };
    let p = busy();
    for name in ["one", "two", "here"] {
        fs::create_dir(p.path(name)).unwrap();
    }
    let arguments = "exec \"$0\" -manifest pipeline.toml -db here/db";
    let bound = |name: &str| {
        let line = format!("exec {unshare} sh -c 'mount --bind {name} here; {arguments}' \"$0\"");
        p.cmd([""; 0]).shell(&line)
    };
    let running = bound("one").start();
    wait_for("the step", || p.path("started").exists());
    // A run of the same number and process, killed.
    let name = fs::read_dir(p.path("one/db/scratch")).unwrap().next().unwrap().unwrap().file_name();
    p.file("two/db/format", "task-pipeline 3\n");
    fs::create_dir_all(p.path("two/db/scratch").join(name)).unwrap();
    // It sees the script's process, whose environment names a path that leads elsewhere here.
    let second = bound("two").start();
    wait_for("its step", || p.ledger().len() == 2);
    p.file("go", "");
    running.end().ok();
    second.end().ok();
}

#[test]
fn temporary_files_of_the_database_lie_in_its_scratch() {
    let p = busy().task_with(
        "slow",
        "inputs = [\"in/*\"]",
        &format!(": >started; {WAIT_FOR_GO}; exit 1"),
    );
    fs::create_dir(p.path("in")).unwrap();
    for n in 0..4000 {
        fs::write(p.path(format!("in/{n:0200}")), n.to_string()).unwrap();
    }
    let running = p.run_cmd(["-j1", "--durability", "off"]).start();
    wait_for("the step", || p.path("started").exists());
    let fds = fs::read_dir(format!("/proc/{}/fd", running.pid())).unwrap().flatten();
    let above_2 = fds.filter(|fd| fd.file_name().to_string_lossy().parse::<u32>().unwrap() > 2);
    let open: Vec<_> = above_2.filter_map(|fd| fs::read_link(fd.path()).ok()).collect();
    // They have no name; nor has what was never in a folder.
    let is_temporary = |path: &&PathBuf| {
        path.to_string_lossy().ends_with(" (deleted)")
            && !path.starts_with("/memfd:task-pipeline (deleted)")
    };
    let temporary: Vec<_> = open.iter().filter(is_temporary).collect();
    assert!(!temporary.is_empty(), "all of it fitted in memory: {open:?}");
    let scratch = p.path("db/scratch").canonicalize().unwrap();
    assert!(temporary.iter().all(|path| path.starts_with(&scratch)), "{temporary:?}");
    p.file("go", "");
    running.end().fails(1);
}

/// A line of shell that makes what comes after it run without the rights of root.
fn as_nobody() -> &'static str {
    // Whoever is not root has too few rights as it is.
    if rustix::process::geteuid().is_root() {
        "exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$0\" \"$@\""
    } else {
        ":"
    }
}

#[test]
fn who_may_not_write_reads_also_after_sqlite3_has_removed_the_log() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    p.run().ok();
    let log = p.path("db/db-wal");
    assert!(log.exists());
    rusqlite::Connection::open(p.path("db/db"))
        .unwrap()
        .execute_batch("SELECT count(*) FROM step")
        .unwrap();
    assert!(!log.exists() && !p.path("db/db-shm").exists());
    chmod(&p.root(), 0o755);
    chmod(&p.path("db"), 0o555);
    let call = |args: &[&str]| p.cmd(args).shell(as_nobody()).go();
    call(&["status"]).ok().answers("1");
    assert_eq!(call(&["cat", "a"]).ok().stdout, "1\n");
    call(&["plan", "-manifest", "pipeline.toml"]).ok();
    call(&["verify", "--data"]).ok();
    // What is in the log only can't be read without shared memory.
    chmod(&p.path("db"), 0o755);
    p.file("db/db-wal", "changes");
    chmod(&p.path("db"), 0o555);
    call(&["status"]).fails(74).says("db-shm").says("task-pipeline status");
    chmod(&p.path("db"), 0o755);
}

/// A folder seen through a FUSE file system that lies on this machine.
struct Fuse(PathBuf);

impl Fuse {
    /// `None`, said aloud, where there can be none.
    fn mount(p: &Project, name: &str) -> Option<Fuse> {
        let behind = p.path(format!("{name}.behind"));
        let front = p.path(name);
        fs::create_dir(&behind).unwrap();
        fs::create_dir(&front).unwrap();
        let mounted = Command::new("bindfs").args([&behind, &front]).output();
        if mounted.as_ref().is_ok_and(|mounted| mounted.status.success()) {
            return Some(Fuse(front));
        }
        eprintln!("SKIPPED: bindfs can mount nothing here: {mounted:?}");
        None
    }
}

impl Drop for Fuse {
    fn drop(&mut self) {
        // Lazily, in case a test that fails has left something running in it.
        let _ = Command::new("fusermount").args(["-u", "-z"]).arg(&self.0).output();
    }
}

#[test]
fn what_fuse_keeps_of_removed_files_is_no_output_and_in_nobodys_way() {
    let p = Project::new();
    let Some(_fuse) = Fuse::mount(&p, "m") else { return };
    for n in 0..60 {
        p.file(format!("m/in/{}/{n}", n % 3), n.to_string());
    }
    p.task_with(
        "a",
        "inputs = [\"m/in/**\"]",
        "mkdir $OUTPUT_DIR/sub $TMPDIR/d
         echo same >$OUTPUT_DIR/sub/same; echo same >$OUTPUT_DIR/$INPUT_NAME
         exec 3>$OUTPUT_DIR/gone 4>$OUTPUT_DIR/sub/gone 5>$TMPDIR/d/gone
         rm $OUTPUT_DIR/gone $OUTPUT_DIR/sub/gone $TMPDIR/d/gone",
    );
    p.call(["-k", "-q", "-manifest", "pipeline.toml", "-db", "m/db", "-j4"]).ok();
    assert_eq!(p.sql_in("m/db", "SELECT count(*) FROM output"), ["120"]);
    assert_eq!(p.sql_in("m/db", "SELECT count(DISTINCT name) FROM output"), ["61"]);
}

#[test]
fn a_run_killed_on_fuse_is_no_obstacle_to_the_next() {
    let p = Project::new();
    let Some(_fuse) = Fuse::mount(&p, "m") else { return };
    p.task(
        "a",
        &format!(
            "mkdir $TMPDIR/d; exec 3>$TMPDIR/d/gone; rm $TMPDIR/d/gone; : >started; {WAIT_FOR_GO}"
        ),
    );
    let args = ["-manifest", "pipeline.toml", "-db", "m/db"];
    let running = p.cmd(args).start();
    wait_for("the step", || p.path("started").exists());
    running.signal(Signal::KILL);
    running.end();
    p.file("go", "").call(args).ok().ran(["a"]);
}

#[test]
fn a_database_is_not_writable_for_others_whatever_the_umask_and_for_its_group_as_that_says() {
    for (umask, group) in [("000", 0o020), ("002", 0o020), ("022", 0)] {
        let p = Project::new();
        p.task("a", "echo 1 >$OUTPUT_DIR/x; echo 2 >$OUTPUT_DIR/y")
            .task("b", "cp $INPUT_FILE $OUTPUT_DIR/z");
        let under = |args: &[&str]| p.cmd(args).shell(&format!("umask {umask}")).go();
        under(&["-manifest", "pipeline.toml", "-db", "deep/er/db"]).ok();
        let db = p.path("deep/er/db");
        // What is made in the course of time: folders that are missing, and a place for what is damaged.
        let object = &p.sql_in("deep/er/db", "SELECT object FROM output ORDER BY object")[0];
        let object = db.join("objects").join(&object[..2]).join(&object[2..4]).join(&object[4..]);
        chmod(&object, 0o644);
        fs::write(&object, "damage").unwrap();
        fs::remove_dir_all(db.join("locks")).unwrap();
        fs::remove_dir_all(db.join("scratch")).unwrap();
        under(&["repair", "-db", "deep/er/db"]).ok();
        under(&["gc", "-db", "deep/er/db", "--grace", "0s"]).ok();
        assert!(db.join("quarantine").is_dir() && db.join("locks").is_dir());
        let all = walkdir::WalkDir::new(p.path("deep")).into_iter().map(Result::unwrap);
        for entry in all {
            let found = entry.metadata().unwrap();
            let mode = found.mode() & 0o777;
            assert_eq!(mode & 0o002, 0, "{umask} {mode:o} {:?}", entry.path());
            if found.is_dir() {
                assert_eq!(mode & 0o020, group, "{umask} {mode:o} {:?}", entry.path());
            }
        }
    }
}

#[test]
fn who_may_not_read_a_database_is_told_so_and_what_to_do() {
    let p = one();
    p.run().ok();
    chmod(&p.root(), 0o755);
    for (name, mode) in [("db/db", 0o000), ("db/db-wal", 0o000)] {
        let before = fs::metadata(p.path(name)).unwrap().mode() & 0o777;
        chmod(&p.path(name), mode);
        for command in [&["status"][..], &["log", "1"], &["cat", "a"]] {
            let ran = p.cmd(command).shell(as_nobody()).go();
            if ran.is_ok() {
                // What is all in the database can be read without its log.
                assert_eq!(name, "db/db-wal");
                continue;
            }
            ran.fails(74).says("Permission denied").says("db/db").says("chmod");
        }
        chmod(&p.path(name), before);
    }
}
