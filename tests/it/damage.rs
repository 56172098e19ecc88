//! Damage: `verify` finds it, `repair` undoes it or says why not, and nothing makes it worse.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use rustix::process::Signal;

use crate::harness::{Project, Ran, chmod, is_alive, sha256, wait_for};

const COPY: &str = "cat $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME";

fn object(p: &Project, bytes: &str) -> PathBuf {
    let hash = sha256(bytes.as_bytes());
    p.object(&hash)
}

fn change(p: &Project, sql: &str) {
    rusqlite::Connection::open(p.path("db/db")).unwrap().execute_batch(sql).unwrap();
}

fn verify(p: &Project) -> Ran {
    p.call(["verify", "--data"])
}

#[test]
fn an_object_that_can_be_written_to_is_damage_and_undone_without_a_script() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    p.run().ok();
    let path = object(&p, "1\n");
    chmod(&path, 0o644);
    p.call(["verify"]).fails(65).answers("its mode is 0644 instead of 0444");
    p.call(["repair"]).ok().ran([]).answers("made read-only again");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o444);
    verify(&p).ok();
    // Written to as well: then a chmod is not enough.
    chmod(&path, 0o644);
    fs::write(&path, "harm").unwrap();
    p.call(["repair"]).ok().ran(["a"]).answers("made again by step");
    verify(&p).ok();
}

#[test]
fn steps_that_make_each_others_input_come_back_together() {
    // Which of the three is tried first must not matter.
    for first in ["a", "b", "zz"] {
        let p = Project::new().file("in", first).task_with(
            "make",
            "inputs = [\"in\"]",
            &format!("printf {first}q >$OUTPUT_DIR/x"),
        );
        p.task("up", "tr a-z A-Z <$INPUT_FILE >$OUTPUT_DIR/x")
            .task("down", "tr A-Z a-z <$INPUT_FILE >$OUTPUT_DIR/x");
        p.run().ok();
        fs::remove_file(object(&p, &format!("{first}q"))).unwrap();
        fs::remove_file(object(&p, &format!("{}Q", first.to_uppercase()))).unwrap();
        verify(&p).fails(65).answers("2 damaged");
        p.call(["repair"]).ok().answers("2 damaged, 2 repaired, 0 left");
        verify(&p).ok();
    }
}

#[test]
fn history_that_is_lost_runs_again_when_it_comes_back() {
    let script = |word: &str| format!("date +%N >$OUTPUT_DIR/x; echo {word} >>$OUTPUT_DIR/x");
    let p = Project::new().task("a", &script("one")).task("b", COPY);
    p.run().ok();
    let lost = p.exported("b")["x"].clone();
    p.task("a", &script("two")).run().ok();
    fs::remove_file(object(&p, &lost)).unwrap();
    p.call(["repair"]).fails(65).answers("not deterministic");
    verify(&p).ok();
    p.task("a", &script("one")).run().ok().ran(["a", "b"]);
    verify(&p).ok();
}

#[test]
fn a_file_in_the_place_of_a_folder_of_objects_is_no_obstacle() {
    for level in [1, 2] {
        let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
        p.run().ok();
        let object = object(&p, "1\n");
        let folder = object.ancestors().nth(level).unwrap();
        fs::remove_dir_all(folder).unwrap();
        fs::write(folder, "in the way").unwrap();
        verify(&p).fails(65).answers("it is missing");
        p.call(["repair"]).ok().answers("made again by step");
        verify(&p).ok();
    }
}

#[test]
fn verify_reports_every_object_of_a_missing_folder_and_makes_none() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    p.run().ok();
    fs::remove_dir_all(p.path("db/objects")).unwrap();
    verify(&p).fails(65).answers("it is missing");
    assert!(!p.path("db/objects").exists());
    p.call(["repair"]).ok();
    verify(&p).ok();
}

#[test]
fn an_object_that_has_lost_its_row_is_neither_garbage_nor_lost() {
    let p = Project::new().task("a", "date +%N >$OUTPUT_DIR/x");
    p.run().ok();
    let made = p.exported("a")["x"].clone();
    change(&p, "DELETE FROM object");
    verify(&p).fails(65).answers("it is not kept");
    p.call(["gc", "--grace", "0s"]).ok();
    assert_eq!(fs::read_to_string(object(&p, &made)).unwrap(), made);
    p.call(["repair"]).ok().ran([]).answers("recorded again");
    verify(&p).ok();
}

#[test]
fn a_damaged_database_is_nothing_to_act_upon() {
    let p = Project::new().task("a", "echo 1; echo $INPUT_NAME >$OUTPUT_DIR/x").task("b", COPY);
    p.run().ok();
    p.task("a", "echo 2; echo $INPUT_NAME >$OUTPUT_DIR/x").run().ok();
    change(&p, "PRAGMA wal_checkpoint(TRUNCATE)");
    let file = p.path("db/db");
    let good = fs::read(&file).unwrap();
    let mut bad = good.clone();
    let last = bad.len() - 4096;
    bad[last..].fill(0);
    fs::write(&file, &bad).unwrap();
    let objects = crate::harness::tree(&p.path("db/objects"));
    verify(&p).fails(65);
    p.call(["gc", "--grace", "0s"]).fails(65).says("db/db");
    p.call(["repair"]).fails(65);
    assert_eq!(crate::harness::tree(&p.path("db/objects")), objects);
    fs::write(&file, good).unwrap();
    verify(&p).ok();
}

#[test]
fn a_format_that_is_not_ours_is_refused_by_all_that_change_something() {
    for format in [&b"task-pipeline 99\n"[..], b"\xff\xfe\x00"] {
        let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
        p.run().ok();
        p.file("db/format", format);
        p.run().fails(65).says("db/format");
        p.call(["gc", "--grace", "0s"]).fails(65).says("db/format");
        p.call(["repair"]).fails(65).says("db/format");
    }
}

#[test]
fn a_lock_that_is_a_link_overwrites_nothing() {
    let p = Project::new().task("a", "true").file("mine", "precious");
    p.run().ok();
    p.remove("db/lock");
    symlink(p.path("mine"), p.path("db/lock")).unwrap();
    p.run().fails(74).says("db/lock");
    assert_eq!(p.read("mine"), "precious");
}

/// Removes what a query says, and returns it.
fn lose(p: &Project, query: &str) -> String {
    let hash = p.sql(query).remove(0);
    fs::remove_file(p.object(&hash)).unwrap();
    hash
}

#[test]
fn a_lost_listing_is_listed_again_at_once() {
    let p = Project::new().file("in/1", "1\n").task_with("a", "inputs = [\"in/*\"]", COPY);
    p.task_with("b", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/b").run().ok();
    let listing = lose(&p, "SELECT object_hash FROM step WHERE task = 2");
    p.call(["repair"]).ok().ran([]).answers("listed again");
    assert!(fs::read_to_string(p.object(&listing)).unwrap().ends_with("  1\n"));
    verify(&p).ok();
    p.run().ok().says("nothing to do");
    assert_eq!(p.exported("b")["b"], "1\n");
}

const JOIN: &str = "cat $INPUT_DIR/* >$OUTPUT_DIR";

/// A gather by two labels, and one of what comes of it by one of them.
fn gathers_in_a_row() -> Project {
    let p = Project::new().file("in/A_g1", "1 ").file("in/B_g1", "2 ").file("in/C_g2", "3 ");
    p.task_with(
        "align",
        "inputs = [\"in/{sample}_{grp}\"]",
        "cat $INPUT_FILE >$OUTPUT_DIR/$sample.x; echo >$OUTPUT_DIR/$sample.log",
    )
    .task_with(
        "merge",
        "gather = [\"sample\", \"grp\"]\nmatch = [\"*.x\"]",
        &format!("{JOIN}/m_$sample"),
    )
    .task_with("top", "gather = [\"grp\"]", &format!("{JOIN}/$grp"))
}

#[test]
fn a_group_is_whole_and_there_once_after_the_repair_of_any_listing() {
    let p = gathers_in_a_row();
    p.run().ok();
    let expected = p.exported("top");
    assert_eq!(expected["g1"], "1 2 ");
    for task in ["merge", "top"] {
        for name in p.sql(&format!(
            "SELECT s.name FROM step s JOIN task t ON t.id = s.task WHERE t.name = '{task}'"
        )) {
            lose(&p, &format!("SELECT object_hash FROM step WHERE name = '{name}'"));
            p.call(["repair"]).ok().ran([]).answers("1 repaired");
            verify(&p).ok();
            p.run().ok().says("nothing to do");
            assert_eq!(p.exported("top"), expected);
        }
    }
    p.run_with(["-B"]).ok();
    assert_eq!(p.exported("top"), expected);
}

#[test]
fn a_group_waits_for_a_listing_that_only_the_next_run_can_make() {
    let p = gathers_in_a_row();
    p.run().ok();
    let (expected, manifest) = (p.exported("top"), p.read("pipeline.toml"));
    // Without the manifest, nobody knows what `match` has chosen.
    let p = p.file("pipeline.toml", "no manifest");
    lose(&p, "SELECT object_hash FROM step WHERE name = 'A/g1'");
    p.call(["repair"]).ok().ran([]).answers("the next run makes it again");
    let p = p.file("pipeline.toml", &manifest);
    p.call(["plan", "--check"]).fails(3);
    p.run().ok().ran([]);
    assert_eq!(p.exported("top"), expected);
    assert_eq!(p.sql("SELECT count(*) FROM step WHERE live"), ["8"]);
    verify(&p).ok();
    p.call(["plan", "--check"]).ok();
    p.run().ok().says("nothing to do");
}

#[test]
fn what_gathers_is_made_again_after_all_that_it_gathers() {
    let p = Project::new();
    for n in ["1", "2", "3"] {
        p.file(format!("in/{n}"), n);
    }
    let p = p
        .task_with(
            "a",
            "inputs = [\"in/*\"]",
            "echo a $(cat $INPUT_FILE) >$OUTPUT_DIR/x$INPUT_NAME",
        )
        .task_with("b", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/b; echo b >>$OUTPUT_DIR/b");
    p.run().ok();
    // The listing in between is lost as well, at last.
    for query in ["", "SELECT object_hash FROM step WHERE name = ''"] {
        for n in ["1", "2", "3"] {
            fs::remove_file(object(&p, &format!("a {n}\n"))).unwrap();
        }
        fs::remove_file(object(&p, "a 1\na 2\na 3\nb\n")).unwrap();
        if !query.is_empty() {
            lose(&p, query);
        }
        p.call(["repair"]).ok().answers("0 left");
        verify(&p).ok();
        p.run().ok().says("nothing to do");
    }
}

#[test]
fn a_listing_of_history_is_listed_again_or_told_to_be_one() {
    let p = Project::new().file("in/1", "1").file("in/2", "2").task_with(
        "a",
        "inputs = [\"in/*\"]",
        COPY,
    );
    let p = p.task_with("b", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/b");
    p.run().ok();
    p.file("in/2", "two");
    p.run().ok();
    let history = "SELECT object_hash FROM step WHERE task = 2 AND NOT live";
    lose(&p, history);
    p.call(["repair"]).ok().ran([]).answers("listed again");
    verify(&p).ok();
    p.run().ok().says("nothing to do");
    // What it was linked from is not known any more.
    change(&p, "DELETE FROM step_link WHERE to_step_id IN (SELECT id FROM step WHERE NOT live)");
    lose(&p, history);
    p.call(["repair"]).fails(65).answers("not repaired: it was the listing of a gather step");
    verify(&p).ok();
    p.run().ok().says("nothing to do");
    p.file("in/2", "2");
    p.run().ok();
    assert_eq!(p.exported("b")["b"], "12");
}

#[test]
fn what_a_script_has_mounted_is_not_emptied_when_the_run_ends() {
    let p = Project::new().file("tree/f", "mine");
    p.task("a", "mkdir $TMPDIR/d; mount --bind tree $TMPDIR/d || exit 0; touch mounted");
    p.run().ok();
    if p.path("mounted").exists() {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let root = p.root().canonicalize().unwrap();
        let places = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for place in places.filter(|place| place.starts_with(root.to_str().unwrap())) {
            let status = std::process::Command::new("umount").arg(place).status().unwrap();
            assert!(status.success(), "umount {place}");
        }
    } else {
        eprintln!("SKIPPED: this user can mount nothing");
    }
    assert_eq!(p.read("tree/f"), "mine");
}

#[test]
fn a_repair_runs_scripts_as_a_run_does() {
    let p = Project::new()
        .task_with(
            "slow",
            "from = []\ntimeout = \"1s\"",
            "if [ -e hang ]; then sleep 1000; fi; echo slow >$OUTPUT_DIR/x",
        )
        .task_with(
            "shares",
            "from = []\njobserver = true",
            "case $MAKEFLAGS in *jobserver-auth*) echo shares >$OUTPUT_DIR/x; esac",
        )
        .task_with("tool", "from = []", "echo tool >$OUTPUT_DIR/t; chmod +x $OUTPUT_DIR/t")
        .task_with("uses", "gather = true", "test -x $INPUT_DIR/t && echo uses >$OUTPUT_DIR/x");
    p.run().ok();
    for bytes in ["slow\n", "shares\n", "uses\n"] {
        fs::remove_file(object(&p, bytes)).unwrap();
    }
    p.file("hang", "");
    let repaired = p.call(["repair"]).fails(65).answers("3 damaged, 2 repaired, 1 left");
    repaired.answers("step 1 can't make it again: it failed: timed out");
    p.remove("hang");
    p.run_with(["-B", "--step", "slow"]).ok();
    verify(&p).ok();
}

#[test]
fn a_task_called_as_a_folder_of_the_scratch_can_be_repaired() {
    // A repair works in `repair-PID/w0`, with these folders in it.
    let names = ["w0", "w0.1", "repair", "in", "out", "tmp", "scripts", "log", "spare", "inputs"];
    let p = Project::new();
    for name in names {
        p.task_with(name, "from = []", &format!("echo {name} >$OUTPUT_DIR/x"));
    }
    p.run().ok();
    for name in names {
        fs::remove_file(object(&p, &format!("{name}\n"))).unwrap();
    }
    let repaired = p.call(["repair"]).ok();
    repaired.answers("10 damaged, 10 repaired, 0 left").ran(names);
    verify(&p).ok();
    p.run().ok().ran([]);
}

#[test]
fn a_signal_ends_a_repair_together_with_its_script() {
    let p = Project::new().task(
        "a",
        "echo 1 >$OUTPUT_DIR/x; if [ -e hang ]; then echo $$ >pid~; mv pid~ pid; sleep 1000; fi",
    );
    p.run().ok();
    fs::remove_file(object(&p, "1\n")).unwrap();
    p.file("hang", "");
    let repair = p.cmd(["repair"]).start();
    wait_for("the script", || p.path("pid").exists());
    repair.signal(Signal::INT);
    repair.end().dies_of(Signal::INT).says("repairs the rest");
    assert!(!is_alive(&p.read("pid")));
    p.remove("hang").call(["repair"]).ok().answers("made again by step");
    verify(&p).ok();
}

#[test]
fn what_was_made_of_damaged_bytes_is_made_again_after_a_repair() {
    let sum = "cksum <\"$(find $INPUT_DIR -type f)\" >$OUTPUT_DIR/all";
    let p = Project::new()
        .task("a", "head -c 3000000 /dev/zero >$OUTPUT_DIR/x")
        .task_with("b", "from = [\"a\"]", "cksum <$INPUT_FILE >$OUTPUT_DIR/y")
        .task_with("all", "from = [\"a\"]\ngather = true", sum)
        .task_with("c", "from = [\"b\"]", COPY);
    p.run().ok();
    let good = ["b", "all", "c"].map(|task| p.exported(task));
    let bad = object(&p, &"\0".repeat(3_000_000));
    chmod(&bad, 0o644);
    let mut bytes = fs::read(&bad).unwrap();
    bytes[1_000_000] = b'!';
    fs::write(&bad, bytes).unwrap();
    chmod(&bad, 0o444);
    // So large an object is handed out as it is.
    p.task_with("b", "from = [\"a\"]", "cksum  <$INPUT_FILE >$OUTPUT_DIR/y")
        .task_with("all", "from = [\"a\"]\ngather = true", &format!("{sum} "))
        .run()
        .ok()
        .ran(["b", "all", "c"]);
    assert_ne!(["b", "all", "c"].map(|task| p.exported(task)), good);
    p.call(["repair"]).ok().answers("may have worked on damaged bytes").ran(["a"]);
    p.run().ok();
    assert_eq!(["b", "all", "c"].map(|task| p.exported(task)), good);
    verify(&p).ok();
    p.run().ok().ran([]);
}
