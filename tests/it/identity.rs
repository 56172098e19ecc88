//! Section 5: what is part of a step's identity, and what is not.

use crate::harness::{Project, WAIT_FOR_GO, files, wait_for};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

/// A pipeline of three tasks of which the last one is wired by name.
fn chain() -> Project {
    Project::new()
        .task("a", "echo 1 >$OUTPUT_DIR/x")
        .task("b", "sed s/1/2/ $INPUT_FILE >$OUTPUT_DIR/x")
        .task_with("c", "from = [\"b\"]", "sed s/2/3/ $INPUT_FILE >$OUTPUT_DIR/x")
}

#[test]
fn a_renamed_task_keeps_its_results() {
    let p = chain();
    p.run().ok();
    p.rename("a", "z").run().ok().ran([]);
    assert_eq!(p.exported("z"), files([("x", "1\n")]));
    p.call(["export", "a", "--to", "out"]).fails(2).says("`a`");
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn a_renamed_task_keeps_its_results_and_those_of_a_task_that_names_it() {
    let p = chain();
    p.run().ok();
    p.rename("b", "y").task_with("c", "from = [\"y\"]", "sed s/2/3/ $INPUT_FILE >$OUTPUT_DIR/x");
    p.run().ok().ran([]);
    assert_eq!(p.exported("c"), files([("x", "3\n")]));
}

#[test]
fn all_tasks_may_be_renamed_together() {
    let p = chain();
    p.run().ok();
    p.rename("a", "one").rename("b", "two").rename("c", "three");
    p.task_with("three", "from = [\"two\"]", "sed s/2/3/ $INPUT_FILE >$OUTPUT_DIR/x");
    p.run().ok().ran([]);
    assert_eq!(p.exported("three"), files([("x", "3\n")]));
    assert_eq!(p.sql("SELECT name FROM task ORDER BY position"), ["one", "two", "three"]);
}

#[test]
fn tasks_may_take_each_others_names() {
    let p = chain();
    p.run().ok();
    // a -> b, b -> c, c -> a
    p.rename("c", "tmp").rename("b", "c").rename("a", "b").rename("tmp", "a");
    p.task_with("a", "from = [\"c\"]", "sed s/2/3/ $INPUT_FILE >$OUTPUT_DIR/x");
    p.run().ok().ran([]);
    assert_eq!(p.exported("a"), files([("x", "3\n")]));
    assert_eq!(p.exported("b"), files([("x", "1\n")]));
}

#[test]
fn tasks_of_one_script_may_be_renamed() {
    let p = Project::new()
        .task_with("a", "from = []", "echo 1 >$OUTPUT_DIR/x")
        .task("b", COPY)
        .task("c", COPY)
        .task("d", COPY);
    p.run().ok().ran(["a", "b", "c", "d"]);
    p.rename("b", "bb").rename("d", "dd").run().ok().ran([]);
    assert_eq!(p.exported("dd"), files([("x", "1\n")]));
}

#[test]
fn a_rename_and_an_edit_elsewhere_reruns_only_the_edited_task() {
    let p = chain();
    p.run().ok();
    p.rename("a", "z").task_with("c", "from = [\"b\"]", "sed s/2/9/ $INPUT_FILE >$OUTPUT_DIR/x");
    p.run().ok().ran(["c"]);
    assert_eq!(p.exported("c"), files([("x", "9\n")]));
}

#[test]
fn a_new_task_may_take_a_renamed_ones_old_name() {
    let p = chain();
    p.run().ok();
    p.rename("c", "last").task_with("c", "from = [\"b\"]", "echo new >$OUTPUT_DIR/new");
    p.run().ok().ran(["c"]);
    assert_eq!(p.exported("last"), files([("x", "3\n")]));
    assert_eq!(p.exported("c"), files([("new", "new\n")]));
}

#[test]
fn names_may_go_round_through_tasks_that_come_and_go() {
    let p = chain();
    p.run().ok();
    // A name of history, a rename to it, and a new task under the name that is free then.
    p.drop_task("c").run().ok();
    p.rename("b", "c")
        .task_with("b", "from = [\"c\"]", "echo b >$OUTPUT_DIR/new")
        .run()
        .ok()
        .ran(["b"]);
    assert_eq!(p.exported("c"), files([("x", "2\n")]));
    assert_eq!(p.exported("b"), files([("new", "b\n")]));
    p.rename("b", "tmp").rename("c", "b").rename("tmp", "c");
    p.task_with("c", "from = [\"b\"]", "echo b >$OUTPUT_DIR/new").run().ok().ran([]);
    assert_eq!(p.exported("c"), files([("new", "b\n")]));
    assert_eq!(
        p.sql("SELECT name FROM task WHERE position NOT NULL ORDER BY position"),
        ["a", "b", "c"]
    );
}

#[test]
fn a_task_may_take_the_name_of_one_that_was_dropped_before() {
    let p = Project::new().file("in/1", "1\n").task_with("top", "inputs = [\"in/*\"]", COPY);
    p.task_with("a", "from = [\"top\"]", COPY).task_with("b", "from = [\"top\"]", COPY);
    p.run().ok().ran(["top", "a", "b"]);
    p.drop_task("a").file("in/1", "2\n").run().ok().ran(["top", "b"]);
    p.rename("b", "a").run().ok().ran([]);
    assert_eq!(p.exported("a"), files([("1", "2\n")]));
}

#[test]
fn tasks_may_change_places() {
    let p = Project::new()
        .task_with("a", "from = []", "echo 1 >$OUTPUT_DIR/x")
        .task_with("b", "from = [\"a\"]", COPY)
        .task_with("c", "from = [\"b\"]", COPY);
    p.run().ok();
    let a = ("a", "from = []", "echo 1 >$OUTPUT_DIR/x");
    p.drop_task("a").task_with(a.0, a.1, a.2);
    p.run().ok().ran([]).says("nothing to do");
    assert_eq!(p.sql("SELECT name FROM task ORDER BY position"), ["b", "c", "a"]);
}

#[test]
fn limits_are_no_part_of_what_a_task_does() {
    let p = chain();
    p.run().ok();
    let keys = "from = [\"b\"]\ntimeout = \"1h\"\nretries = 3\nretry_delay = \"1ms\"\nparallel = 1\ncache = true\njobserver = true\nmatch = [\"*\"]";
    p.task_with("c", keys, "sed s/2/3/ $INPUT_FILE >$OUTPUT_DIR/x")
        .run()
        .ok()
        .ran([])
        .says("nothing to do");
    // Wiring that comes to the same is no change either.
    let script = "sed s/2/3/ $INPUT_FILE >$OUTPUT_DIR/x";
    p.task_with("c", "", script).run().ok().ran([]).says("nothing to do");
}

#[test]
fn the_environment_given_to_a_script_is_part_of_it() {
    let p = Project::new()
        .task_with("a", "env = { A = \"1\", B = \"2\" }", "echo $A${B:-} >$OUTPUT_DIR/x")
        .task("b", COPY);
    p.run().ok();
    p.task_with("a", "env = { B = \"2\", A = \"1\" }", "echo $A${B:-} >$OUTPUT_DIR/x")
        .run()
        .ok()
        .ran([]);
    p.task_with("a", "env = { A = \"12\", B = \"\" }", "echo $A${B:-} >$OUTPUT_DIR/x")
        .run()
        .ok()
        .ran(["a"]);
    p.task_with("a", "env = { A = \"3\" }", "echo $A${B:-} >$OUTPUT_DIR/x")
        .run()
        .ok()
        .ran(["a", "b"]);
    p.task_with("a", "env = { A = \"1\", B = \"2\" }", "echo $A${B:-} >$OUTPUT_DIR/x")
        .run()
        .ok()
        .ran([]);
    assert_eq!(p.exported("b"), files([("x", "12\n")]));
    // The environment of the run is not.
    p.run_cmd([""; 0]).env("A", "9").env("OTHER", "x").go().ok().ran([]);
}

#[test]
fn the_content_of_files_is_part_of_a_task() {
    let p = Project::new().file("words.txt", "w\n").file("in/1", "1\n");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]\nfiles = [\"words.txt\"]",
        "cat words.txt $INPUT_FILE >$OUTPUT_DIR/x",
    )
    .task("b", COPY);
    p.run().ok().ran(["a", "b"]);
    p.file("words.txt", "w\n").run().ok().ran([]);
    p.file("words.txt", "v\n").run().ok().ran(["a", "b"]);
    assert_eq!(p.exported("b"), files([("x", "v\n1\n")]));
    p.file("words.txt", "w\n").run().ok().ran([]);
    assert_eq!(p.exported("b"), files([("x", "w\n1\n")]));
    p.remove("words.txt").run().fails(2).says("words.txt");
}

#[test]
fn what_was_made_while_one_of_files_changed_is_not_kept() {
    let p = Project::new().file("words", "v1\n").file("in/1", "").file("in/2", "");
    let wait = format!("{WAIT_FOR_GO}\ncat words >$OUTPUT_DIR/x");
    p.task_with("a", "inputs = [\"in/*\"]\nfiles = [\"words\"]", &wait).task("b", COPY).task_with(
        "other",
        "inputs = [\"in/*\"]",
        &format!("{WAIT_FOR_GO}\n{COPY}"),
    );
    let run = p.run_cmd(["-j1"]).start();
    wait_for("the first script", || p.ledger().len() == 1);
    p.file("words", "v2\n").file("go", "");
    // One of its steps has run in vain, the other is not even tried; the rest goes on.
    let ran = run.end().fails(1).says("`a`").says("words").says("run again");
    ran.ran_on(["a 1", "other 1", "other 2"]).says("0 failed, 2 left");
    assert_eq!(
        p.sql("SELECT count(*) FROM attempt JOIN step ON id = step WHERE name = '1'"),
        ["1"]
    );
    // Undone, and it is as if nothing had been; done for good, and it is the new content.
    p.file("words", "v1\n").run().ok().ran(["a", "a", "b"]);
    assert!(p.exported("b").values().all(|text| text == "v1\n"));
    p.file("words", "v2\n").run().ok().ran(["a", "a", "b"]);
    assert!(p.exported("b").values().all(|text| text == "v2\n"));
}

#[test]
fn a_file_of_files_that_is_only_touched_meanwhile_costs_one_more_attempt_and_changes_nothing() {
    let p = Project::new().file("words", "v1\n");
    p.task_with("a", "files = [\"words\"]", &format!("{WAIT_FOR_GO}\ncat words >$OUTPUT_DIR/x"));
    let run = p.run_cmd([""; 0]).start();
    wait_for("the script", || p.ledger().len() == 1);
    p.file("words.new", "v1\n");
    std::fs::rename(p.path("words.new"), p.path("words")).unwrap();
    p.file("go", "");
    // What the script has read may have been something else for a moment.
    run.end().ok().ran(["a", "a"]);
    assert_eq!(p.sql("SELECT number, outcome FROM attempt"), ["1|ok"]);
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn the_interpreter_is_part_of_a_task() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    p.run().ok();
    p.task_with("a", "shell = \"sh -eu\"", "echo 1 >$OUTPUT_DIR/x").run().ok().ran([]);
    p.task_with("a", "shell = \"bash -e\"", "echo 1 >$OUTPUT_DIR/x").run().ok().ran(["a"]);
}

#[test]
fn equal_tasks_have_each_their_own_steps() {
    let p = Project::new()
        .task("a", "echo 1 >$OUTPUT_DIR/x")
        .task_with("b", "from = [\"a\"]", COPY)
        .task_with("c", "from = [\"a\"]", COPY);
    p.run().ok().ran(["a", "b", "c"]);
    assert_eq!(p.exported("c"), files([("x", "1\n")]));
}

#[test]
fn a_project_that_moved_runs_nothing() {
    let p = Project::new().file("m/in/1", "1\n").file(
        "m/pipeline.toml",
        "[[task]]\nname = \"a\"\ninputs = [\"in/*\"]\nscript = 'echo ran >>ledger; cp $INPUT_FILE $OUTPUT_DIR/x'\n",
    );
    p.cmd(["-manifest", "m/pipeline.toml"]).go().ok();
    std::fs::rename(p.path("m"), p.path("elsewhere")).unwrap();
    std::fs::rename(p.path("db"), p.path("database")).unwrap();
    p.cmd(["-manifest", "elsewhere/pipeline.toml", "-db", "database"])
        .go()
        .ok()
        .says("nothing to do");
    assert_eq!(p.read("elsewhere/ledger"), "ran\n");
}

#[test]
fn a_task_that_begins_to_gather_is_another_one() {
    let p = Project::new()
        .task("a", "echo 1 >$OUTPUT_DIR/x; echo 2 >$OUTPUT_DIR/y")
        .task("b", "cat $INPUT_FILE >$OUTPUT_DIR/out-$(basename $INPUT_FILE)");
    p.run().ok().ran(["a", "b", "b"]);
    p.task_with("b", "gather = true", "cat $INPUT_FILE >$OUTPUT_DIR/out-$(basename $INPUT_FILE)")
        .run()
        .ok()
        .ran(["b"]);
    p.task("b", "cat $INPUT_FILE >$OUTPUT_DIR/out-$(basename $INPUT_FILE)").run().ok().ran([]);
    assert_eq!(p.exported("b"), files([("out-x", "1\n"), ("out-y", "2\n")]));
}
