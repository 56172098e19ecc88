//! Section 10: `export`.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::harness::{Project, contents, files};

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
    p.call(["export", "a", "--to", "out"]).ok();
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
    assert_eq!(exported.keys().collect::<Vec<_>>(), ["d/x.txt", "d/x.txt~2", "d/x.txt~3"]);
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
    std::os::unix::fs::symlink(p.path("elsewhere"), p.path("out/x")).unwrap();
    p.call(["export", "a", "--to", "out"]).ok();
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
