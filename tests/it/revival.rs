//! Section 5: forced runs, tasks without a cache, and what happens where several changes meet.

use crate::harness::{Project, files};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

#[test]
fn an_uncached_task_runs_in_every_run_and_what_follows_only_if_its_output_changed() {
    let p = Project::new().file("now", "1\n");
    p.task_with("look", "cache = false", "cp now $OUTPUT_DIR/now").task("use", COPY).task_with(
        "all",
        "gather = true",
        "cat $INPUT_DIR/* >$OUTPUT_DIR/all",
    );
    p.run().ok().ran(["look", "use", "all"]);
    p.run().ok().ran(["look"]).says_nothing_of("nothing to do");
    p.file("now", "2\n").run().ok().ran(["look", "use", "all"]);
    assert_eq!(p.exported("all"), files([("all", "2\n")]));
    p.file("now", "1\n").run().ok().ran(["look"]);
    assert_eq!(p.exported("all"), files([("all", "1\n")]));
    p.task("look", "cp now $OUTPUT_DIR/now").run().ok().ran([]);
}

#[test]
fn an_uncached_task_in_the_middle_runs_once_for_each_of_its_inputs() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY)
        .task_with("b", "cache = false", COPY)
        .task("c", COPY);
    p.run().ok().ran(["a", "a", "b", "b", "c", "c"]);
    p.run().ok().ran_on(["b 1", "b 2"]);
    p.remove("in/1").run().ok().ran_on(["b 2"]);
    p.file("in/2", "3\n").run().ok().ran_on(["a 2", "b 2", "c 2"]);
    assert_eq!(p.exported("c"), files([("2", "3\n")]));
}

#[test]
fn big_b_runs_everything_anew_and_keeps_what_comes_out_the_same() {
    let p = Project::new().file("n", "1\n");
    p.task("a", "cat n >$OUTPUT_DIR/x").task("b", COPY).task_with(
        "c",
        "gather = true",
        "cat $INPUT_DIR/* >$OUTPUT_DIR/c",
    );
    p.run().ok();
    p.run_with(["-B"]).ok().ran(["a", "b", "c"]);
    p.run().ok().ran([]).says("nothing to do");
    p.file("n", "2\n").run().ok().ran([]);
    p.run_with(["-B"]).ok().ran(["a", "b", "c"]);
    assert_eq!(p.exported("c"), files([("c", "2\n")]));
    p.run().ok().ran([]);
    assert_eq!(p.sql("SELECT max(number) FROM attempt"), ["3"]);
}

#[test]
fn a_forced_run_that_makes_other_outputs_replaces_the_old_ones() {
    let p = Project::new().file("names", "x y");
    p.task("a", "for n in $(cat names); do echo $n >$OUTPUT_DIR/$n; done").task("b", COPY);
    p.run().ok().ran(["a", "b", "b"]);
    p.file("names", "y z").run_with(["-B"]).ok().ran_on(["a", "b y", "b z"]);
    assert_eq!(p.exported("b").into_keys().collect::<Vec<_>>(), ["y", "z"]);
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn several_changes_at_once_are_each_seen() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("in/3", "3\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY)
        .task("b", "sed s/$/b/ $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME")
        .task("c", "sed s/$/c/ $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME");
    p.run().ok();
    p.remove("in/1").file("in/2", "22\n").file("in/4", "4\n");
    p.task("c", "sed s/$/C/ $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME").rename("a", "first");
    p.run().ok().ran_on(["first 2", "first 4", "b 2", "b 4", "c 2", "c 3", "c 4"]);
    assert_eq!(p.exported("c"), files([("2", "22bC\n"), ("3", "3bC\n"), ("4", "4bC\n")]));
}

#[test]
fn a_chain_of_results_comes_alive_again_at_once() {
    let p = Project::new().file("in", "1\n");
    p.task_with("t0", "inputs = [\"in\"]", COPY);
    for n in 1..30 {
        p.task(&format!("t{n}"), COPY);
    }
    p.run().ok();
    let steps = p.ledger().len();
    p.file("in", "2\n").run().ok();
    assert_eq!(p.ledger().len(), 2 * steps);
    p.file("in", "1\n").run().ok().ran([]);
    assert_eq!(p.exported("t29"), files([("in", "1\n")]));
    // From the middle: an uncached first task makes the old result once more during the run.
    p.file("in", "2\n").task_with("t0", "inputs = [\"in\"]\ncache = false", COPY);
    p.run().ok().ran(["t0"]);
    assert_eq!(p.exported("t29"), files([("in", "2\n")]));
}

#[test]
fn what_has_two_supports_lives_until_both_are_gone() {
    let p = Project::new().file("in/1", "same\n").file("in/2", "same\n");
    p.task_with("a", "inputs = [\"in/*\"]", "cat $INPUT_FILE >$OUTPUT_DIR/x").task("b", COPY);
    p.run().ok().ran_on(["a 1", "a 2", "b x"]);
    p.remove("in/1").run().ok().ran([]);
    assert_eq!(p.exported("b"), files([("x", "same\n")]));
    p.remove("in/2").run().ok().ran([]);
    assert_eq!(p.exported("b"), files([]));
    p.file("in/1", "same\n").run().ok().ran([]);
    assert_eq!(p.exported("b"), files([("x", "same\n")]));
}

#[test]
fn a_step_keeps_running_for_the_support_that_changed_hands() {
    // `x` is made by task a, then by task b; c never has to run again.
    let p = Project::new()
        .task_with("a", "from = []", "echo 1 >$OUTPUT_DIR/x")
        .task_with("b", "from = []", "echo 1 >$OUTPUT_DIR/y")
        .task_with("c", "from = [\"a\", \"b\"]", COPY);
    p.run().ok().ran_on(["a", "b", "c x", "c y"]);
    // Not each other's very scripts: that would be an exchange of names, which runs nothing.
    p.task_with("a", "from = []", "echo 1 >$OUTPUT_DIR/y # now by a").task_with(
        "b",
        "from = []",
        "echo 1 >$OUTPUT_DIR/x # now by b",
    );
    p.run().ok().ran(["a", "b"]);
    assert_eq!(p.exported("c"), files([("x", "1\n"), ("y", "1\n")]));
}

#[test]
fn step_runs_only_the_tasks_it_names() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x").task("b", COPY).task("c", COPY);
    p.run_with(["--step", "a"]).ok().ran(["a"]);
    p.run_with(["--step", "c"])
        .fails(1)
        .ran([])
        .says("can't run before `b`, which --only leaves out: add --only b, or say --until c");
    p.run_with(["--step", "b", "-step", "c"]).ok().ran(["b", "c"]);
    p.run().ok().ran([]).says("nothing to do");
    p.run_with(["--step", "none"]).fails(2).says("`none`").says("a, b, c");
    p.run_with(["-B", "--step", "b"]).ok().ran(["b"]);
}

#[test]
fn what_step_leaves_out_keeps_its_results() {
    let p = Project::new()
        .task_with("a", "cache = false", "echo 1 >$OUTPUT_DIR/x")
        .task("b", "sed s/1/2/ $INPUT_FILE >$OUTPUT_DIR/x")
        .task("c", COPY);
    p.run().ok().ran(["a", "b", "c"]);
    p.run_with(["--step", "b"]).ok().ran([]);
    p.run_with(["-B", "--step", "b"]).ok().ran(["b"]);
    assert_eq!(p.exported("c"), files([("x", "2\n")]));
    p.task("b", "sed s/1/3/ $INPUT_FILE >$OUTPUT_DIR/x").run_with(["--step", "b"]).ok().ran(["b"]);
    assert_eq!(p.exported("b"), files([("x", "3\n")]));
    p.exported_partially("c");
    p.run().ok().ran(["a", "c"]);
    assert_eq!(p.exported("c"), files([("x", "3\n")]));
}

#[test]
fn an_incomplete_run_is_completed_by_the_next_one() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task_with(
        "b",
        "gather = true",
        "cat $INPUT_DIR/* >$OUTPUT_DIR/b",
    );
    p.run_with(["--step", "a"]).ok().ran(["a", "a"]);
    // Changed before it was complete, and again.
    p.file("in/1", "9\n").run_with(["--step", "a"]).ok().ran_on(["a 1"]);
    p.remove("in/2").run().ok().ran(["b"]);
    assert_eq!(p.exported("b"), files([("b", "9\n")]));
}

#[test]
fn history_is_kept_and_nothing_of_it_is_exported() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    for n in 2..6 {
        p.run().ok();
        p.task("a", &format!("echo {n} >$OUTPUT_DIR/x"));
    }
    p.run().ok();
    assert_eq!(p.exported("a"), files([("x", "5\n")]));
    assert_eq!(p.sql("SELECT live, count(*) FROM step GROUP BY 1 ORDER BY 1"), ["0|4", "1|1"]);
}

#[test]
fn a_step_whose_log_was_collected_comes_alive_without_it() {
    let script = |word: &str| format!("echo {word}; echo same >$OUTPUT_DIR/x");
    let p = Project::new().task("a", &script("one"));
    p.run().ok().ran(["a"]);
    p.task("a", &script("two")).run().ok().ran(["a"]);
    p.call(["gc", "--grace", "0s"]).ok();
    p.task("a", &script("one")).run().ok().ran([]);
    p.call(["verify", "--data"]).ok();
    assert_eq!(p.exported("a"), files([("x", "same\n")]));
}
