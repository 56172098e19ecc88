//! Section 10: `export`.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use rustix::process::Signal;

use crate::harness::{Project, chmod, contents, files, sha256, tree, wait_for};

fn project() -> Project {
    let p = Project::new().file("names", "x y d/z");
    p.task_with(
        "a",
        "files = [\"names\"]",
        "mkdir $OUTPUT_DIR/d; for n in $(cat names); do echo $n >$OUTPUT_DIR/$n; done",
    );
    p.run().ok();
    p.call(["export", "a", "--to", "out"]).ok();
    p
}

#[test]
fn outputs_are_written_under_their_names() {
    let p = project();
    assert_eq!(contents(&p.path("out")), files([("x", "x\n"), ("y", "y\n"), ("d/z", "d/z\n")]));
    let to = p.path("deep/er");
    p.call(["export", "a", "--to", to.to_str().unwrap()]).ok();
    assert_eq!(contents(&to).len(), 3);
}

#[test]
fn exported_files_are_the_users_own() {
    let p = project();
    let mode = p.path("out/x").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o600, 0o600, "{mode:o}");
    p.file("out/x", "edited\n");
    crate::store::every_object_hashes_to_its_path(&p);
    p.call(["export", "a", "--to", "out", "--force"]).ok();
    assert_eq!(p.read("out/x"), "x\n");
}

#[test]
fn what_is_live_no_more_is_removed_and_foreign_files_stay() {
    let p = project();
    p.file("out/foreign", "mine\n").file("out/d/foreign", "mine\n").file("names", "y v").run().ok();
    p.call(["export", "a", "--to", "out"]).ok();
    let left = [("y", "y\n"), ("v", "v\n"), ("foreign", "mine\n"), ("d/foreign", "mine\n")];
    assert_eq!(contents(&p.path("out")), files(left));
    p.remove("out/d/foreign").file("names", "x y d/z").run().ok();
    p.call(["export", "a", "--to", "out"]).ok();
    p.file("names", "x").run().ok();
    p.call(["export", "a", "--to", "out"]).ok();
    assert_eq!(contents(&p.path("out")), files([("x", "x\n"), ("foreign", "mine\n")]));
    assert!(!p.path("out/d").exists(), "an empty folder of ours is left");
}

#[test]
fn an_unchanged_file_is_not_written_again() {
    let p = project();
    let stat = |name: &str| {
        let found = p.path(name).metadata().unwrap();
        (found.ino(), found.mtime(), found.mtime_nsec())
    };
    let before = (stat("out/x"), stat("out/d/z"));
    p.file("names", "x d/z w").run().ok();
    p.call(["export", "a", "--to", "out"]).ok();
    assert_eq!((stat("out/x"), stat("out/d/z")), before);
    assert_eq!(p.read("out/w"), "w\n");
}

#[test]
fn a_second_output_of_one_name_gets_a_number() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("in/3", "3\n");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        "mkdir $OUTPUT_DIR/d; cp $INPUT_FILE $OUTPUT_DIR/d/x.txt",
    );
    p.run().ok();
    let exported = p.exported("a");
    assert_eq!(exported.keys().collect::<Vec<_>>(), ["d/x.txt", "d/x~2.txt", "d/x~3.txt"]);
    let mut values: Vec<&str> = exported.values().map(String::as_str).collect();
    values.sort_unstable();
    assert_eq!(values, ["1\n", "2\n", "3\n"]);
}

#[test]
fn an_output_that_is_called_like_a_numbered_one_is_not_lost() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        "cp $INPUT_FILE $OUTPUT_DIR/x; echo own$INPUT_NAME >$OUTPUT_DIR/x~2",
    );
    p.run().ok();
    let mut values: Vec<String> = p.exported("a").into_values().collect();
    values.sort();
    assert_eq!(values, ["1\n", "2\n", "own1\n", "own2\n"]);
}

#[test]
fn an_output_may_be_a_file_where_another_has_a_folder() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/*\"]", "if [ $INPUT_NAME = 1 ]; then echo file >$OUTPUT_DIR/n; else mkdir $OUTPUT_DIR/n; echo below >$OUTPUT_DIR/n/m; fi");
    p.run().ok();
    let ran = p.call(["export", "a", "--to", "out"]);
    // Both can't be there under their names; which way it goes, nothing is lost in silence.
    if contents(&p.path("out")).len() < 2 {
        assert!(!ran.stderr.is_empty());
        ran.says("n");
    }
}

#[test]
fn the_executable_bit_is_kept_and_follows_its_output() {
    let p = Project::new().task(
        "a",
        "echo echo hi >$OUTPUT_DIR/tool; chmod +x $OUTPUT_DIR/tool; echo 1 >$OUTPUT_DIR/data",
    );
    p.run().ok();
    let mode =
        |name: &str| p.path("out").join(name).metadata().unwrap().permissions().mode() & 0o111;
    p.call(["export", "a", "--to", "out"]).ok();
    assert_eq!((mode("tool"), mode("data")), (0o111, 0));
    p.task(
        "a",
        "echo echo hi >$OUTPUT_DIR/tool; echo 1 >$OUTPUT_DIR/data; chmod +x $OUTPUT_DIR/data",
    )
    .run()
    .ok();
    p.call(["export", "a", "--to", "out"]).ok();
    assert_eq!((mode("tool"), mode("data")), (0, 0o111));
}

#[test]
fn an_incomplete_pipeline_is_told_and_exits_with_1_unless_that_is_wanted() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        "cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME; [ $INPUT_NAME = 1 ]",
    );
    p.run_with(["-k"]).fails(1);
    p.call(["export", "a", "--to", "out"]).fails(1).says("incomplete");
    p.call(["export", "a", "--to", "out", "--partial"]).ok().says("incomplete");
    assert_eq!(contents(&p.path("out")), files([("1", "1\n")]));
}

#[test]
fn a_mistake_in_the_request_writes_nothing() {
    let p = project();
    p.call(["export", "none", "--to", "other"]).fails(2).says("`none`").says("a");
    assert!(!p.path("other").exists());
    p.file("file", "mine\n").call(["export", "a", "--to", "file"]);
    assert_eq!(p.read("file"), "mine\n");
}

#[test]
fn a_link_in_place_of_a_file_is_replaced_not_followed() {
    let p = project();
    p.file("elsewhere", "mine\n").remove("out/x");
    symlink(p.path("elsewhere"), p.path("out/x")).unwrap();
    p.call(["export", "a", "--to", "out"]).fails(1).says("out/x is a symbolic link");
    assert!(p.path("out/x").is_symlink());
    p.call(["export", "a", "--to", "out", "--force"]).ok();
    assert_eq!(p.read("elsewhere"), "mine\n");
    assert!(p.path("out/x").symlink_metadata().unwrap().is_file());
}

#[test]
fn a_file_that_somebody_changed_is_kept_when_it_is_no_result_any_more() {
    let p = project();
    p.file("out/x", "my own work\n").file("names", "y").run().ok();
    p.call(["export", "a", "--to", "out"]).ok().says("out/x");
    assert_eq!(contents(&p.path("out")), files([("x", "my own work\n"), ("y", "y\n")]));
}

#[test]
fn json_tells_what_was_done() {
    let p = project();
    p.file("names", "y v w").run().ok();
    let answer = p.call(["export", "a", "--to", "out", "--json"]).ok().json();
    let expected = serde_json::json!({ "task": "a", "files": 3, "written": 2, "removed": 2, "complete": true });
    assert_eq!(answer, expected);
}

/// Two tasks, which write what the files `a` and `b` list, a name a line. What they write is their own name and that.
fn two() -> Project {
    let p = Project::new().file("a.list", "a\nd/1\n").file("b.list", "b\nd/2\n");
    for (task, keys) in [("a", "files = [\"a.list\"]"), ("b", "files = [\"b.list\"]\nfrom = []")] {
        p.task_with(
            task,
            keys,
            "while read n; do mkdir -p $OUTPUT_DIR/$(dirname $n); echo $TASK_NAME $n >$OUTPUT_DIR/$n; done <$TASK_NAME.list",
        );
    }
    p.run().ok();
    p
}

fn export(p: &Project, task: &str) {
    p.call(["export", task, "--to", "out"]).ok();
}

#[test]
fn tasks_share_a_folder_and_each_removes_only_its_own() {
    let p = two();
    export(&p, "a");
    export(&p, "b");
    let all = [("a", "a a\n"), ("d/1", "a d/1\n"), ("b", "b b\n"), ("d/2", "b d/2\n")];
    assert_eq!(contents(&p.path("out")), files(all));
    p.file("a.list", "a\n").run().ok();
    export(&p, "b");
    assert_eq!(
        contents(&p.path("out")),
        files(all),
        "another task's files, though stale, were touched"
    );
    export(&p, "a");
    let left = [("a", "a a\n"), ("b", "b b\n"), ("d/2", "b d/2\n")];
    assert_eq!(contents(&p.path("out")), files(left));
    p.file("a.list", "").file("b.list", "").run().ok();
    export(&p, "a");
    export(&p, "b");
    assert_eq!(contents(&p.path("out")), files([]));
}

#[test]
fn exports_of_two_databases_share_a_folder_though_their_tasks_have_one_name() {
    let p = two();
    export(&p, "a");
    p.file("a.list", "other\n");
    p.cmd(["-manifest", "pipeline.toml", "-db", "db2"]).go().ok();
    p.call(["export", "a", "--to", "out", "-db", "db2"]).ok();
    let all = [("a", "a a\n"), ("d/1", "a d/1\n"), ("other", "a other\n")];
    assert_eq!(contents(&p.path("out")), files(all));
    // One that was made anew goes on where the old one was.
    fs::remove_dir_all(p.path("db")).unwrap();
    p.run().ok();
    export(&p, "a");
    assert_eq!(contents(&p.path("out")), files([("other", "a other\n")]));
    p.file("a.list", "").cmd(["-manifest", "pipeline.toml", "-db", "db2"]).go().ok();
    p.call(["export", "a", "--to", "out", "-db", "db2"]).ok();
    assert_eq!(
        contents(&p.path("out")),
        files([("other", "a other\n")]),
        "it is a result of db too"
    );
}

#[test]
fn a_folder_of_results_moves_together_with_its_database() {
    let p = two();
    p.call(["export", "a", "--to", "all/out", "-db", "db"]).ok();
    fs::rename(p.path("db"), p.path("all/db")).unwrap();
    fs::rename(p.path("all"), p.path("moved")).unwrap();
    p.file("a.list", "a\nnew\n");
    p.call(["-manifest", "pipeline.toml", "-db", "moved/db"]).ok();
    // Before it lay at ../../db from there, now at ../db: another one, for all that can be told.
    p.call(["export", "a", "--to", "moved/out", "-db", "moved/db"]).ok();
    fs::rename(p.path("moved"), p.path("again")).unwrap();
    p.file("a.list", "new\n");
    p.call(["-manifest", "pipeline.toml", "-db", "again/db"]).ok();
    p.call(["export", "a", "--to", "again/out", "-db", "again/db"]).ok();
    let left = contents(&p.path("again/out"));
    assert_eq!(left.get("new").map(String::as_str), Some("a new\n"));
}

#[test]
fn a_result_of_another_task_is_not_overwritten() {
    let p = two();
    p.file("b.list", "a\nb\n").run().ok();
    export(&p, "a");
    let before = tree(&p.path("out"));
    p.call(["export", "b", "--to", "out"])
        .fails(1)
        .says("out/a is a result of task `a`")
        .says("--force");
    assert_eq!(tree(&p.path("out")), before);
    p.call(["export", "b", "--to", "out", "--force"]).ok();
    let taken = [("a", "b a\n"), ("b", "b b\n"), ("d/1", "a d/1\n")];
    assert_eq!(contents(&p.path("out")), files(taken));
    p.call(["export", "a", "--to", "out"]).fails(1).says("out/a is a result of task `b`");
}

#[test]
fn a_file_of_two_tasks_stays_until_neither_has_it() {
    let p = Project::new().file("n", "x").file("m", "x");
    for (task, list) in [("a", "n"), ("b", "m")] {
        let keys = format!("files = [\"{list}\"]\nfrom = []");
        p.task_with(
            task,
            &keys,
            &format!("for n in $(cat {list}); do echo same >$OUTPUT_DIR/$n; done"),
        );
    }
    p.run().ok();
    export(&p, "a");
    p.call(["export", "b", "--to", "out"]).ok().says("0 written");
    p.file("n", "y").run().ok();
    export(&p, "a");
    assert_eq!(contents(&p.path("out")), files([("x", "same\n"), ("y", "same\n")]));
    p.file("m", "y").run().ok();
    export(&p, "b");
    assert_eq!(contents(&p.path("out")), files([("y", "same\n")]));
}

#[test]
fn what_no_export_wrote_or_was_edited_since_is_in_the_way_and_all_of_it_is_listed() {
    let p = project();
    p.file("names", "x y d/z w v").run().ok();
    // Of the same size and time as what the record says.
    let time = fs::metadata(p.path("out/x")).unwrap().modified().unwrap();
    p.file("out/x", "X\n").file("out/w", "mine\n").file("out/y", "edited\n");
    fs::File::options().write(true).open(p.path("out/x")).unwrap().set_modified(time).unwrap();
    let before = tree(&p.path("out"));
    let ran = p.call(["export", "a", "--to", "out"]).fails(1).says("nothing was written");
    let ran = ran
        .says("out/w was not written by an export")
        .says("out/y was edited after it was exported");
    ran.says("--force").says_nothing_of("out/v").says_nothing_of("out/d");
    assert_eq!(tree(&p.path("out")), before);
    // What looks as it was left is believed as long as nothing has to be done with it.
    p.task_with(
        "a",
        "files = [\"names\"]",
        "for n in $(cat names); do echo new $n >$OUTPUT_DIR/$(basename $n); done",
    );
    p.run().ok();
    p.call(["export", "a", "--to", "out"])
        .fails(1)
        .says("out/x was edited")
        .says("out/y")
        .says("out/w");
    assert_eq!(tree(&p.path("out")), before);
    p.call(["export", "a", "--to", "out", "--force"]).ok();
    let new = [
        ("x", "new x\n"),
        ("y", "new y\n"),
        ("z", "new d/z\n"),
        ("w", "new w\n"),
        ("v", "new v\n"),
    ];
    assert_eq!(contents(&p.path("out")), files(new));
}

#[test]
fn a_file_with_the_very_bytes_is_no_obstacle() {
    let p = project();
    // Copied about: another time, no record.
    p.remove("out/.task-pipeline-export").file("out/x", "x\n");
    p.call(["export", "a", "--to", "out"]).ok().says("0 written, 0 removed");
    p.file("names", "y").run().ok();
    p.call(["export", "a", "--to", "out"]).ok().says("0 written, 2 removed");
    assert_eq!(contents(&p.path("out")), files([("y", "y\n")]));
}

#[test]
fn a_stale_file_that_was_edited_without_a_trace_is_kept() {
    let p = project();
    let time = fs::metadata(p.path("out/x")).unwrap().modified().unwrap();
    p.file("out/x", "X\n");
    fs::File::options().write(true).open(p.path("out/x")).unwrap().set_modified(time).unwrap();
    p.file("names", "y").run().ok();
    p.call(["export", "a", "--to", "out"]).ok().says("kept out/x");
    p.call(["export", "a", "--to", "out"]).ok().says_nothing_of("out/x");
    assert_eq!(contents(&p.path("out")), files([("x", "X\n"), ("y", "y\n")]));
}

#[test]
fn a_file_becomes_a_folder_and_back() {
    let p = Project::new().file("n", "x");
    p.task_with(
        "a",
        "files = [\"n\"]",
        "for n in $(cat n); do mkdir -p $OUTPUT_DIR/$(dirname $n); echo $n >$OUTPUT_DIR/$n; done",
    );
    for names in ["x", "x/y x/z/w", "x", "x/z/w/v", "x/z", "x"] {
        p.file("n", names).run().ok();
        export(&p, "a");
        let expected =
            names.split(' ').map(|name| (name.to_owned(), format!("{name}\n"))).collect();
        assert_eq!(contents(&p.path("out")), expected, "{names}");
    }
    p.file("n", "x/y").run().ok();
    export(&p, "a");
    p.file("out/x/mine", "mine\n").file("n", "x").run().ok();
    let before = tree(&p.path("out"));
    for options in [&[][..], &["--force"]] {
        let call = ["export", "a", "--to", "out"].iter().chain(options);
        p.call(call).fails(1).says("out/x is a folder that holds something else (x/mine)");
        assert_eq!(tree(&p.path("out")), before);
    }
    p.remove("out/x/mine");
    fs::create_dir_all(p.path("out/x/empty/er")).unwrap();
    export(&p, "a");
    assert_eq!(contents(&p.path("out")), files([("x", "x\n")]));
    p.file("out/x", "mine\n").file("n", "x/y").run().ok();
    p.call(["export", "a", "--to", "out"])
        .fails(1)
        .says("out/x/y needs the folder x, which is a file");
    p.call(["export", "a", "--to", "out", "--force"]).ok();
    assert_eq!(contents(&p.path("out")), files([("x/y", "x/y\n")]));
}

#[test]
fn an_output_called_like_the_record_is_refused_by_name() {
    for name in [
        ".task-pipeline-export",
        ".task-pipeline-export.1~",
        "d/.task-pipeline-export",
        ".task-pipeline-export/x",
    ] {
        let p = Project::new();
        p.task("a", &format!("mkdir -p $OUTPUT_DIR/$(dirname {name}); echo A >$OUTPUT_DIR/{name}; echo 1 >$OUTPUT_DIR/x"));
        p.run().ok();
        for options in [&[][..], &["--force"]] {
            let call = ["export", "a", "--to", "out"].iter().chain(options);
            p.call(call)
                .fails(1)
                .says(&format!("out/{name} has the name of an export's own files"));
            assert!(!p.path("out").exists(), "something was written");
        }
    }
    // That is no reserved one.
    let p = Project::new().task("a", "echo A >$OUTPUT_DIR/.task-pipeline-exports");
    p.run().ok();
    assert_eq!(p.exported("a").len(), 1);
}

#[test]
fn a_killed_export_is_finished_by_the_next_one() {
    let p = Project::new().file("n", "f 300\n");
    let script = "read name count <n; for i in $(seq $count); do head -c 200000 /dev/urandom >$OUTPUT_DIR/$name$i; done";
    p.task_with("a", "files = [\"n\"]", script);
    let written = || fs::read_dir(p.path("out")).map_or(0, |entries| entries.count());
    let killed = || {
        let before = written();
        let export = p.cmd(["export", "a", "--to", "out"]).start();
        wait_for("some files", || written() > before + 5);
        export.signal(Signal::KILL);
        drop(export);
    };
    p.run().ok();
    killed();
    killed();
    // By the same one.
    export(&p, "a");
    assert_eq!(fs::read_dir(p.path("out")).unwrap().count(), 301);
    // By one whose outputs have other names, and by another task.
    p.file("n", "g 300\n").run().ok();
    killed();
    p.file("n", "h 3\n").run().ok();
    export(&p, "a");
    let mut names: Vec<String> = contents(&p.path("out")).into_keys().collect();
    names.sort();
    assert_eq!(names, ["h1", "h2", "h3"]);
    assert_eq!(fs::read_dir(p.path("out")).unwrap().count(), 4, "a draft is left");
}

#[test]
fn drafts_of_a_killed_export_are_removed_wherever_they_lie() {
    let p = two();
    export(&p, "a");
    let ours = [
        "out/.task-pipeline-export.0123456789abcdef0123456789abcdef~",
        "out/.task-pipeline-export.4711",
    ];
    let below = "out/d/.task-pipeline-export.ffffffffffffffffffffffffffffffff~";
    let not_ours = ["out/.task-pipeline-export.txt", "out/.task-pipeline-exports"];
    for name in ours.iter().chain(&not_ours).chain([&below]) {
        p.file(name, "half");
    }
    // As a kill leaves the record: something was about to be written.
    let record = p.read("out/.task-pipeline-export");
    let hash = sha256(b"a new\n");
    let record =
        record.replacen("export 2\0", "export 2\0unfinished\0", 1) + &format!("{hash} - ? ? new\0");
    p.file("out/.task-pipeline-export", record).file("out/new", "a new\n");
    export(&p, "b");
    assert!(ours.iter().chain([&below]).all(|name| !p.path(name).exists()));
    assert!(not_ours.iter().all(|name| p.path(name).exists()));
    assert!(p.path("out/new").exists(), "another task's");
    // What was about to be written was written, and is a result no more.
    export(&p, "a");
    assert!(!p.path("out/new").exists());
}

#[test]
fn nothing_leads_out_of_the_folder() {
    let p = two();
    p.file("elsewhere/1", "mine\n").file("out/x", "");
    symlink(p.path("elsewhere"), p.path("out/d")).unwrap();
    let before = (tree(&p.path("out")), tree(&p.path("elsewhere")));
    p.call(["export", "a", "--to", "out"])
        .fails(1)
        .says("out/d/1 needs the folder d, which is a symbolic link");
    assert_eq!((tree(&p.path("out")), tree(&p.path("elsewhere"))), before);
    p.call(["export", "a", "--to", "out", "--force"]).ok();
    assert_eq!(contents(&p.path("elsewhere")), files([("1", "mine\n")]));
    assert_eq!(p.read("out/d/1"), "a d/1\n");
    // Nor when something is removed.
    fs::remove_dir_all(p.path("out/d")).unwrap();
    p.file("elsewhere/1", "a d/1\n");
    symlink(p.path("elsewhere"), p.path("out/d")).unwrap();
    p.file("a.list", "a\n").run().ok();
    export(&p, "a");
    assert_eq!(p.read("elsewhere/1"), "a d/1\n");
    // The folder itself may be reached by a link: it was named.
    symlink(p.path("out"), p.path("link")).unwrap();
    p.call(["export", "a", "--to", "link"]).ok().says("0 written");
    // Nor through the record.
    p.remove("out/.task-pipeline-export").file("record", "mine\n");
    symlink(p.path("record"), p.path("out/.task-pipeline-export")).unwrap();
    p.call(["export", "a", "--to", "out"]).fails(2).says("is no record");
    assert_eq!(p.read("record"), "mine\n");
}

#[test]
fn no_draft_is_written_through_a_link_that_somebody_has_put_there() {
    let p = two();
    p.file("precious", "mine\n");
    fs::create_dir(p.path("out")).unwrap();
    // As older builds called them; the number is that of the process, and can be foretold.
    let export = p.cmd(["export", "a", "--to", "out"]);
    for pid in std::process::id()..std::process::id() + 2000 {
        for end in ["", "~"] {
            symlink(p.path("precious"), p.path(format!("out/.task-pipeline-export.{pid}{end}")))
                .unwrap();
        }
    }
    export.go().ok();
    assert_eq!(p.read("precious"), "mine\n");
    assert_eq!(p.read("out/a"), "a a\n");
}

#[test]
fn an_export_into_a_database_is_refused() {
    let p = two();
    p.file("a.list", "db/db\nobjects/x\n").run().ok();
    p.cmd(["-manifest", "pipeline.toml", "-db", "other"]).go().ok();
    symlink(p.path("db"), p.path("link")).unwrap();
    let look = |db: &str| {
        let mut found = tree(&p.path(db));
        // Readers write into it.
        found.retain(|line| !line.ends_with(" db-shm"));
        found
    };
    let before = (look("db"), look("other"));
    for to in ["db", "db/objects", "db/new/er", "link", "other", "other/scratch", "db/../other"] {
        p.call(["export", "b", "--to", to, "--force"]).fails(2).says("is in a database");
    }
    // Nor does the name of an output lead into one.
    p.call(["export", "a", "--to", ".", "--force"])
        .fails(1)
        .says("db/db needs the folder db, which is a database");
    assert_eq!((look("db"), look("other")), before);
}

#[test]
fn a_partial_export_removes_nothing() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("tool", "1\n");
    let script = "cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME; [ ! -e down ]";
    p.task_with("a", "inputs = [\"in/*\"]\nfiles = [\"tool\"]", script);
    p.run().ok();
    export(&p, "a");
    p.file("tool", "2\n").file("down", "").run_with(["-k"]).fails(1);
    p.call(["export", "a", "--to", "out"]).fails(1);
    p.call(["export", "a", "--to", "out", "--partial"]).ok().says("0 removed");
    assert_eq!(contents(&p.path("out")), files([("1", "1\n"), ("2", "2\n")]));
    // Once it is known which results there are, the others go.
    p.remove("in/2").run_with(["-k"]).fails(1);
    p.call(["export", "a", "--to", "out", "--partial"]).ok().says("0 removed");
    p.remove("down").run().ok();
    p.call(["export", "a", "--to", "out"]).ok().says("1 removed");
    assert_eq!(contents(&p.path("out")), files([("1", "1\n")]));
}

#[test]
fn a_renamed_task_keeps_the_files_that_it_exported() {
    for is_complete in [true, false] {
        let export = |p: &Project, task: &str, said: &str| {
            p.call(["export", task, "--to", "out", "--partial"]).ok().says(said);
        };
        let p = Project::new().file("in/a", "it is a\n").file("in/b", "it is b\n");
        p.task_with(
            "old",
            "inputs = [\"in/*\"]",
            "[ $INPUT_NAME != bad ]; cp $INPUT_FILE $OUTPUT_DIR",
        );
        p.run().ok();
        export(&p, "old", "2 written");
        p.rename("old", "new");
        // The old name is that of another task now, which has nothing there.
        p.task_with("old", "from = []", "echo other >$OUTPUT_DIR/other");
        if !is_complete {
            p.file("in/bad", "fails");
        }
        let run = || p.run_with(["-k"]).fails(i32::from(!is_complete));
        run();
        assert!(!p.ledger().iter().any(|ran| ran.starts_with("new") && ran != "new bad"));
        export(&p, "old", "1 written, 0 removed");
        export(&p, "new", "0 written, 0 removed");
        // What changes is not in the way, though another name may be noted with it.
        p.rename("new", "newer").remove("in/a").file("in/b", "it is B\n");
        run();
        let (a, said) = match is_complete {
            true => (None, "1 written, 1 removed"),
            false => (Some(("a", "it is a\n")), "1 written, 0 removed"),
        };
        export(&p, "newer", said);
        let left = [("b", "it is B\n"), ("other", "other\n")];
        let left = a.into_iter().chain(left).map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(contents(&p.path("out")), left.collect());
    }
}

#[test]
fn an_id_that_belongs_to_another_task_in_a_new_database_renames_nothing() {
    let p = two();
    export(&p, "a");
    export(&p, "b");
    fs::remove_dir_all(p.path("db")).unwrap();
    p.drop_task("a").run().ok();
    p.task_with("a", "from = []", "echo other >$OUTPUT_DIR/other").run().ok();
    export(&p, "b");
    assert_eq!(contents(&p.path("out")).len(), 4);
    p.call(["export", "a", "--to", "out"]).ok().says("1 written, 2 removed");
    p.call(["export", "b", "--to", "out"]).ok().says("0 written, 0 removed");
}

#[test]
fn what_was_edited_and_given_its_old_size_and_time_is_seen_to_be_edited() {
    let p = two();
    export(&p, "a");
    let before = p.path("out/a").metadata().unwrap();
    p.file("out/a", "z z\n");
    let file = fs::File::options().append(true).open(p.path("out/a")).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(file.metadata().unwrap().len(), before.len());
    p.call(["export", "a", "--to", "out"]).fails(1).says("was edited after it was exported");
    p.call(["export", "a", "--to", "out", "--force"]).ok().says("1 written");
    assert_eq!(p.read("out/a"), "a a\n");
    // The executable bit is the output's.
    chmod(&p.path("out/a"), 0o755);
    p.call(["export", "a", "--to", "out"]).ok().says("1 written");
    assert_eq!(p.path("out/a").metadata().unwrap().permissions().mode() & 0o111, 0);
    p.call(["export", "a", "--to", "out"]).ok().says("0 written");
}

#[test]
fn a_record_of_an_older_build_is_understood() {
    let p = two();
    export(&p, "a");
    // That build knew only the last export, and not of which task.
    let line = |name: &str| {
        let found = p.path("out").join(name).metadata().unwrap();
        let time = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
        format!(
            "{} - {} {time} {name}\0",
            sha256(p.read(format!("out/{name}")).as_bytes()),
            found.len()
        )
    };
    let record = format!("task-pipeline export 1\0{}{}", line("a"), line("d/1"));
    p.file("out/.task-pipeline-export", record).file("out/.task-pipeline-export.4711~", "draft");
    // It is of no use to another task, which leaves all of it alone.
    export(&p, "b");
    assert_eq!(contents(&p.path("out")).len(), 4);
    p.file("a.list", "a\n").run().ok();
    p.call(["export", "a", "--to", "out"]).ok().says("0 written, 1 removed");
    let left = [("a", "a a\n"), ("b", "b b\n"), ("d/2", "b d/2\n")];
    assert_eq!(contents(&p.path("out")), files(left));
    p.file("out/.task-pipeline-export", "task-pipeline export 3\0");
    p.call(["export", "a", "--to", "out"]).fails(2).says("is no record");
}

#[test]
fn an_export_with_nothing_to_do_writes_nothing() {
    let p = project();
    let record = || fs::metadata(p.path("out/.task-pipeline-export")).unwrap().ino();
    let before = record();
    export(&p, "a");
    assert_eq!(record(), before);
    chmod(&p.path("out"), 0o555);
    export(&p, "a");
    chmod(&p.path("out"), 0o755);
}

#[test]
fn exports_into_one_folder_wait_for_each_other() {
    let p = Project::new();
    let tasks: Vec<String> = (0..6).map(|n| format!("t{n}")).collect();
    for task in &tasks {
        p.task_with(
            task,
            "from = []",
            "for i in $(seq 30); do echo $i >$OUTPUT_DIR/$TASK_NAME.$i; done",
        );
    }
    p.run().ok();
    let running: Vec<_> =
        tasks.iter().map(|task| p.cmd(["export", task, "--to", "out"]).start()).collect();
    for running in running {
        running.end().ok();
    }
    assert_eq!(contents(&p.path("out")).len(), 180);
    for task in &tasks {
        p.call(["export", task, "--to", "out"]).ok().says("0 written, 0 removed");
    }
}

#[test]
fn a_task_is_judged_by_itself_and_what_feeds_it() {
    let p = Project::new().file("in/A", "a\n").file("in/B", "b\n");
    let copy = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;
    p.task_with("a", "inputs = [\"in/{sample}\"]", copy)
        .task_with("merged", "gather = [\"sample\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample")
        .task_with("all", "from = [\"a\"]\ngather = true", "ls $INPUT_DIR >$OUTPUT_DIR/all")
        .task_with("broken", "from = []", "false")
        .task_with("behind", "from = [\"broken\"]\ngather = true", "true")
        .task_with("beside", "from = [\"a\"]\nwith = [\"broken\"]", "true");
    let export = |task: &str| p.call(["export", task, "--to", &format!("to/{task}"), "--json"]);
    p.run_with(["-k"]).fails(1);
    for fine in ["a", "merged", "merged[sample=A]", "all"] {
        assert_eq!(export(fine).ok().json()["complete"], true, "{fine}");
    }
    for lacking in ["broken", "behind", "beside"] {
        export(lacking).fails(1).says(&format!("{lacking} is incomplete"));
    }
    // No step of these is to run, but what gathers is missing, and known to be.
    p.task_with(
        "a",
        "inputs = [\"in/{sample}\"]",
        &format!("{copy}; echo >>$OUTPUT_DIR/$INPUT_NAME"),
    );
    p.run_with(["--step", "a"]).ok();
    assert_eq!(export("a").ok().json()["complete"], true);
    for lacking in ["merged", "all"] {
        export(lacking).fails(1).says(&format!("{lacking} is incomplete"));
    }
    p.run_with(["-k"]).fails(1);
    assert_eq!(export("all").ok().json()["complete"], true);
    // A run that was killed says nothing of what is missing.
    p.task_with("broken", "from = []", "kill -9 $PPID; false");
    p.run().dies_of(Signal::KILL);
    export("a").fails(1).says("a is incomplete");
    p.task_with("broken", "from = []", "touch $OUTPUT_DIR/x").run_with(["-q"]).ok();
    assert_eq!(export("beside").ok().json()["complete"], true);
}
