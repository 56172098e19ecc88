//! Section 5: what runs, and what doesn't.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::harness::{Project, files, wait_for};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

/// Three input files, a task that keeps their first lines, one that counts letters, one that sums up.
fn pipeline() -> Project {
    Project::new()
        .file("in/1", "one\nx\n")
        .file("in/2", "three\nx\n")
        .file("in/3", "seventeen\nx\n")
        .task_with("head", "inputs = [\"in/*\"]", "head -n1 $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME")
        .task("length", "read -r word <$INPUT_FILE; echo ${#word} >$OUTPUT_DIR/$INPUT_NAME")
        .task_with(
            "sum",
            "gather = true",
            "s=0; for f in $INPUT_DIR/*; do s=$((s+$(cat $f))); done; echo $s >$OUTPUT_DIR/sum",
        )
}

#[test]
fn a_second_run_has_nothing_to_do_and_says_so() {
    let p = pipeline();
    p.run()
        .ok()
        .ran(["head", "head", "head", "length", "length", "length", "sum"])
        .says_nothing_of("nothing to do");
    assert_eq!(p.exported("sum"), files([("sum", "17\n")]));
    p.run().ok().ran([]).says("nothing to do").says("7 steps");
}

#[test]
fn touching_a_file_runs_nothing() {
    let p = pipeline();
    p.run().ok();
    let past = SystemTime::now() - Duration::from_secs(100_000);
    File::options().write(true).open(p.path("in/1")).unwrap().set_modified(past).unwrap();
    p.run().ok().ran([]).says("nothing to do");
    let content = p.read("in/2");
    p.remove("in/2").file("in/2", content).run().ok().ran([]).says("nothing to do");
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn an_edited_input_reruns_only_what_it_feeds() {
    let p = pipeline();
    p.run().ok();
    p.file("in/2", "eleven\n").run().ok().ran_on(["head 2", "length 2", "sum"]);
    assert_eq!(p.exported("sum"), files([("sum", "18\n")]));
}

#[test]
fn where_an_output_comes_out_the_same_nothing_after_it_runs() {
    let p = pipeline();
    p.run().ok();
    p.file("in/2", "three\nanother second line\n").run().ok().ran_on(["head 2"]);
    p.file("in/2", "seven\n").run().ok().ran_on(["head 2", "length 2"]);
    assert_eq!(p.exported("sum"), files([("sum", "17\n")]));
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn an_edit_of_the_same_size_at_once_after_a_run_is_seen() {
    let p = pipeline();
    for word in ["three", "seven", "eight", "three", "seven"] {
        p.file("in/2", format!("{word}\n")).run().ok();
        assert_eq!(p.exported("head")["2"], format!("{word}\n"));
    }
}

#[test]
fn an_edit_that_keeps_size_and_mtime_is_seen() {
    let p = pipeline();
    p.run().ok();
    let mtime = p.path("in/2").metadata().unwrap().modified().unwrap();
    p.file("in/2", "seven\nx\n");
    File::options().write(true).open(p.path("in/2")).unwrap().set_modified(mtime).unwrap();
    p.run().ok().ran_on(["head 2", "length 2"]);
}

/// A file system in a file, on which a time has no fraction of a second.
struct Coarse(PathBuf);

impl Coarse {
    /// `None`, said aloud, where none can be mounted.
    fn mount(p: &Project, name: &str) -> Option<Coarse> {
        let (image, folder) = (p.path("image"), p.path(name));
        std::fs::create_dir(&folder).unwrap();
        File::create(&image).unwrap().set_len(16 << 20).unwrap();
        // An inode of 128 bytes has no room for it.
        let line = "mkfs.ext4 -q -I 128 -O ^has_journal \"$0\" && mount -o loop \"$0\" \"$1\"";
        let mut shell = Command::new("sh");
        let made = shell.args(["-c", line]).args([&image, &folder]).output().unwrap();
        if made.status.success() {
            return Some(Coarse(folder));
        }
        eprintln!("SKIPPED: no ext4 can be mounted here: {made:?}");
        None
    }
}

impl Drop for Coarse {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[test]
fn an_edit_within_the_same_coarse_tick_is_seen() {
    let p = Project::new();
    let Some(_coarse) = Coarse::mount(&p, "m") else { return };
    p.task_with("a", "inputs = [\"m/in/*\"]", COPY).file("m/in/f", "0000");
    let stat = || {
        let found = p.path("m/in/f").metadata().unwrap();
        assert_eq!((found.mtime_nsec(), found.ctime_nsec()), (0, 0));
        (found.ino(), found.size(), found.mtime(), found.ctime())
    };
    // A run that is over within the second in which the file was written leaves room for an edit in that second.
    let is_same_tick = |round: u32| {
        p.file("m/in/f", format!("{round:04}"));
        let before = stat();
        p.run().ok();
        p.file("m/in/f", format!("{:04}", round + 1));
        let is_same = stat() == before;
        p.run().ok();
        assert_eq!(p.exported("a")["f"], format!("{:04}", round + 1));
        is_same
    };
    let round = std::cell::Cell::new(0);
    wait_for("an edit in the second of the run", || {
        round.set(round.get() + 2);
        is_same_tick(round.get())
    });
}

#[test]
fn a_removed_input_takes_its_results_with_it() {
    let p = pipeline();
    p.run().ok();
    p.remove("in/3").run().ok().ran_on(["sum"]);
    assert_eq!(p.exported("length"), files([("1", "3\n"), ("2", "5\n")]));
    assert_eq!(p.exported("sum"), files([("sum", "8\n")]));
    p.run().ok().ran([]).says("nothing to do");
    // It comes back, and with it everything that was made of it.
    p.file("in/3", "seventeen\nx\n").run().ok().ran([]);
    assert_eq!(p.exported("sum"), files([("sum", "17\n")]));
}

#[test]
fn a_renamed_input_is_another_step_since_its_name_is_another() {
    let p = pipeline();
    p.run().ok();
    std::fs::rename(p.path("in/3"), p.path("in/4")).unwrap();
    p.run().ok().ran_on(["head 4", "length 4", "sum"]);
    assert_eq!(p.exported("length"), files([("1", "3\n"), ("2", "5\n"), ("4", "9\n")]));
}

#[test]
fn an_added_input_runs_alone() {
    let p = pipeline();
    p.run().ok();
    p.file("in/4", "four\n").run().ok().ran_on(["head 4", "length 4", "sum"]);
    assert_eq!(p.exported("sum"), files([("sum", "21\n")]));
}

#[test]
fn a_changed_script_reruns_only_its_task_and_what_really_changed_after_it() {
    let p = pipeline();
    p.run().ok();
    // Another text to the same effect: nothing after it runs.
    let same = "read -r w <$INPUT_FILE; echo ${#w} >$OUTPUT_DIR/$INPUT_NAME";
    p.task("length", same).run().ok().ran(["length", "length", "length"]);
    // One of three comes out differently.
    let other =
        "read -r w <$INPUT_FILE; [ $w != three ] || w=3; echo ${#w} >$OUTPUT_DIR/$INPUT_NAME";
    p.task("length", other).run().ok().ran(["length", "length", "length", "sum"]);
    assert_eq!(p.exported("sum"), files([("sum", "13\n")]));
}

#[test]
fn a_reverted_script_runs_nothing() {
    let p = pipeline();
    p.run().ok();
    let script = "head -n1 $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME";
    let tail = "tail -n1 $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME";
    p.task_with("head", "inputs = [\"in/*\"]", tail).run().ok();
    assert_eq!(p.exported("sum"), files([("sum", "3\n")]));
    p.task_with("head", "inputs = [\"in/*\"]", script).run().ok().ran([]);
    assert_eq!(p.exported("sum"), files([("sum", "17\n")]));
    p.task_with("head", "inputs = [\"in/*\"]", tail).run().ok().ran([]);
    assert_eq!(p.exported("sum"), files([("sum", "3\n")]));
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn an_edit_and_its_revert_runs_nothing() {
    let p = pipeline();
    p.run().ok();
    p.file("in/1", "twelve\n").run().ok().ran_on(["head 1", "length 1", "sum"]);
    p.file("in/1", "one\nx\n").run().ok().ran([]);
    assert_eq!(p.exported("sum"), files([("sum", "17\n")]));
}

#[test]
fn an_added_task_runs_alone_and_a_removed_one_goes_with_its_results() {
    let p = pipeline();
    p.run().ok();
    p.task_with("more", "from = [\"head\"]", COPY).run().ok().ran(["more", "more", "more"]);
    p.drop_task("more").run().ok().ran([]);
    p.call(["export", "more", "--to", "out"]).fails(0);
    assert_eq!(crate::harness::contents(&p.path("out")), files([]));
    p.task_with("more", "from = [\"head\"]", COPY).run().ok().ran([]);
    assert_eq!(p.exported("more").len(), 3);
}

#[test]
fn a_task_put_in_between_reruns_what_comes_after_only_if_it_changes_something() {
    let p =
        Project::new().task("a", "echo 1 >$OUTPUT_DIR/x").task_with("c", "from = [\"a\"]", COPY);
    p.run().ok();
    p.task_with("b", "from = [\"a\"]", COPY).task_with("c", "from = [\"b\"]", COPY);
    p.run().ok().ran_on(["b x"]);
    let changed = "sed s/1/2/ $INPUT_FILE >$OUTPUT_DIR/x";
    p.task_with("b", "from = [\"a\"]", changed).run().ok().ran_on(["b x", "c x"]);
    assert_eq!(p.exported("c"), files([("x", "2\n")]));
    p.task_with("c", "from = [\"a\"]", COPY).run().ok().ran([]);
    assert_eq!(p.exported("c"), files([("x", "1\n")]));
}

#[test]
fn a_changed_match_or_from_runs_only_what_is_new() {
    let p = Project::new()
        .task("a", "for n in x.txt y.txt z.bin; do echo $n >$OUTPUT_DIR/$n; done")
        .task_with("b", "match = [\"x.*\"]", COPY);
    p.run().ok().ran_on(["a", "b x.txt"]);
    p.task_with("b", "match = [\"*.txt\"]", COPY).run().ok().ran_on(["b y.txt"]);
    p.task_with("b", "match = [\"y*\", \"z*\"]", COPY).run().ok().ran_on(["b z.bin"]);
    assert_eq!(p.exported("b").into_keys().collect::<Vec<_>>(), ["y.txt", "z.bin"]);
    p.task_with("b", "", COPY).run().ok().ran([]);
    assert_eq!(p.exported("b").len(), 3);
    p.task_with("b", "inputs = [\"in/*\"]", COPY).file("in/z.bin", "z.bin\n").run().ok().ran([]);
    assert_eq!(p.exported("b"), files([("z.bin", "z.bin\n")]));
}
