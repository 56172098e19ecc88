//! Section 5: a failed step satisfies nobody and is tried again.

use crate::harness::{Project, WAIT_FOR_GO, files, wait_for};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

#[test]
fn nothing_new_is_started_after_a_failure() {
    let script = "echo >>begun; if [ $INPUT_NAME = 03 ]; then : >failed; exit 1; fi; [ ! -e failed ] || : >late; echo 1 >$OUTPUT_DIR/$INPUT_NAME";
    // With one script at a time whatever runs after the failure was started after it.
    for _ in 0..5 {
        let p = Project::new();
        for n in 0..20 {
            p.file(format!("in/{n:02}"), n.to_string());
        }
        p.task_with("a", "inputs = [\"in/*\"]", script).task("b", "[ ! -e failed ] || : >late");
        let ran = p.run_with(["-j1"]).fails(1);
        assert_eq!(ran.stderr.matches(": failed: exit code 1").count(), 1, "{}", ran.stderr);
        assert_eq!(p.sql("SELECT count(*) FROM step WHERE state = 2"), ["1"]);
        assert!(p.read("begun").lines().count() < 20);
        assert!(!p.path("late").exists(), "{}", ran.stderr);
    }
}

#[test]
fn what_runs_while_another_fails_is_finished_and_kept() {
    let p = Project::new()
        .task_with(
            "slow",
            "from = []",
            &format!(": >started; {WAIT_FOR_GO}; echo 1 >$OUTPUT_DIR/x"),
        )
        .task_with("bad", "from = []", "until [ -e started ]; do sleep 0.01; done; exit 3")
        .task_with("after", "from = [\"slow\"]", COPY);
    let running = p.run_cmd(["-j2"]).start();
    wait_for("the failure", || running.stderr().contains("exit code 3"));
    p.file("go", "");
    running.end().fails(1).ran(["slow", "bad"]);
    assert_eq!(p.exported_partially("slow"), files([("x", "1\n")]));
    p.task_with("bad", "from = []", "true").run().ok().ran(["bad", "after"]);
}

#[test]
fn k_goes_on_with_everything_that_does_not_depend_on_it() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("in/3", "3\n");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        "[ $INPUT_NAME != 2 ]; cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME",
    )
    .task("b", COPY)
    .task_with("all", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    p.run_with(["-k", "-j1"])
        .fails(1)
        .ran_on(["a 1", "a 2", "a 3", "b 1", "b 3"])
        .says("1 step failed")
        .says("task all waits");
    p.run_with(["--keep-going"]).fails(1).ran_on(["a 2"]).says("task all waits");
}

#[test]
fn a_failed_step_is_tried_again_in_the_next_run_and_nothing_else() {
    let p = Project::new()
        .task("a", "echo 1 >$OUTPUT_DIR/x")
        .task("b", "[ -e cured ]; cp $INPUT_FILE $OUTPUT_DIR")
        .task("c", COPY);
    p.run().fails(1).ran(["a", "b"]);
    p.run().fails(1).ran(["b"]);
    p.file("cured", "").run().ok().ran(["b", "c"]);
    p.run().ok().ran([]).says("nothing to do");
    assert_eq!(p.sql("SELECT group_concat(outcome) FROM attempt WHERE step = 2"), ["exit,exit,ok"]);
}

#[test]
fn a_failed_step_is_tried_again_at_once_as_often_as_retries_says() {
    let p = Project::new().task_with(
        "a",
        "retries = 2",
        "echo $ATTEMPT >>attempts; [ $ATTEMPT = 3 ]; echo 1 >$OUTPUT_DIR/x",
    );
    p.run().ok().ran(["a", "a", "a"]).says("trying again");
    assert_eq!(p.read("attempts"), "1\n2\n3\n");
    p.task_with("a", "retries = 1\nretry_delay = \"10ms\"", "echo $ATTEMPT >$OUTPUT_DIR/x; false")
        .run()
        .fails(1)
        .ran(["a", "a"]);
    assert_eq!(
        p.sql("SELECT number, outcome FROM attempt WHERE step = 2 ORDER BY 1"),
        ["1|exit", "2|exit"]
    );
    // The next run has its own retries, and the numbers go on.
    p.run().fails(1).ran(["a", "a"]);
    assert_eq!(p.sql("SELECT max(number) FROM attempt WHERE step = 2"), ["4"]);
    p.run_with(["-k"]).fails(1).ran(["a", "a"]).says("1 step failed");
}

#[test]
fn an_attempt_that_failed_leaves_nothing_to_the_next_one() {
    let p = Project::new().task_with(
        "a",
        "retries = 1",
        "[ -z \"$(ls -A $OUTPUT_DIR)\" ]; echo $ATTEMPT >$OUTPUT_DIR/$ATTEMPT; [ $ATTEMPT = 2 ]",
    );
    p.run().ok();
    assert_eq!(p.exported("a"), files([("2", "2\n")]));
}

#[test]
fn a_failure_is_shown_with_the_last_twenty_lines_of_its_log_and_again_at_the_end() {
    let p = Project::new().file("in/the input", "x\n");
    p.task_with(
        "bad",
        "inputs = [\"in/*\"]",
        "n=0; while [ $n -lt 30 ]; do n=$((n+1)); echo line-$n-; done; exit 42",
    );
    let ran = p
        .run()
        .fails(1)
        .says("bad")
        .says("the input")
        .says("exit code 42")
        .says("line-11-")
        .says("line-30-");
    ran.says_nothing_of("line-10-").says("1 step failed").says("task-pipeline log 1");
    let log = p.call(["log", "1"]).ok().stdout;
    assert_eq!(log.lines().count(), 30, "{log}");
}

#[test]
fn the_summary_names_every_failure() {
    let p = Project::new();
    for n in 0..7 {
        p.file(format!("in/file{n}"), n.to_string());
    }
    p.task_with("bad", "inputs = [\"in/*\"]", "exit $(cat $INPUT_FILE)");
    let ran = p.run_with(["-k"]).fails(1).says("6 steps failed");
    let summary = ran.stderr.split("6 steps failed").nth(1).unwrap();
    for n in 1..7 {
        assert!(summary.contains(&format!("(file{n}): exit code {n}")), "{summary}");
    }
}

#[test]
fn the_outputs_of_a_failed_step_are_dropped_and_its_log_is_kept() {
    let p = Project::new()
        .task("a", "echo unwanted >$OUTPUT_DIR/x; echo said; exit 1")
        .task("b", "true");
    p.run().fails(1).ran(["a"]);
    assert_eq!(p.sql("SELECT count(*) FROM output"), ["0"]);
    assert_eq!(p.call(["log", "a"]).ok().stdout, "said\n");
    let objects = crate::harness::contents(&p.path("db/objects"));
    assert!(!objects.values().any(|content| content == "unwanted\n"), "{objects:?}");
}

#[test]
fn a_step_that_fails_where_it_was_done_before_loses_its_results() {
    let p = Project::new()
        .task_with("a", "cache = false", "[ ! -e broken ]; echo 1 >$OUTPUT_DIR/x")
        .task("b", COPY);
    p.run().ok();
    p.file("broken", "").run().fails(1).ran(["a"]);
    assert_eq!(p.exported_partially("a"), files([]));
    assert_eq!(p.exported_partially("b"), files([]));
    p.remove("broken").run().ok().ran(["a"]);
    assert_eq!(p.exported("b"), files([("x", "1\n")]));
}

#[test]
fn a_forced_run_that_failed_is_completed_by_the_next_one() {
    let p = Project::new().task("a", "[ ! -e broken ]; echo 1 >$OUTPUT_DIR/x").task("b", COPY);
    p.run().ok();
    p.file("broken", "").run_with(["-B"]).fails(1).ran(["a"]);
    // What was to run anew still is.
    p.remove("broken").run().ok().ran(["a", "b"]);
    p.run().ok().ran([]);
}

#[test]
fn a_failure_that_was_edited_away_is_forgotten() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x").task("b", "false");
    p.run().fails(1);
    p.task("b", "true").run().ok().ran(["b"]);
    p.run().ok().says("nothing to do");
    p.task("b", "false").run().fails(1).ran(["b"]);
    p.drop_task("b").run().ok().ran([]);
    p.run().ok().says("nothing to do");
}

#[test]
fn a_failure_upstream_keeps_gather_waiting_until_it_is_cured() {
    let p = Project::new()
        .task_with("good", "from = []", "echo 1 >$OUTPUT_DIR/x")
        .task_with("bad", "from = []", "[ -e cured ]; echo 2 >$OUTPUT_DIR/y")
        .task_with(
            "all",
            "from = [\"good\", \"bad\"]\ngather = true",
            "cat $INPUT_DIR/* >$OUTPUT_DIR/all",
        )
        .task("after", COPY);
    p.run_with(["-k"]).fails(1).ran(["good", "bad"]).says("task all waits");
    p.file("cured", "").run().ok().ran(["bad", "all", "after"]);
    assert_eq!(p.exported("after"), files([("all", "1\n2\n")]));
    // An edit breaks it again: what was gathered is out of date, and says so.
    p.remove("cured").task_with("bad", "from = []", "[ -e cured ]; echo 3 >$OUTPUT_DIR/y");
    p.run_with(["-k"]).fails(1).ran(["bad"]).says("task all waits");
    p.call(["export", "after", "--to", "out"]).fails(1);
}

#[test]
fn a_summary_counts_what_was_done() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task("b", "[ $INPUT_NAME = 1 ]");
    p.run_with(["-k"]).fails(1).says("total 4 steps: 3 run, 0 reused, 1 failed, 0 left; 2 outputs");
    p.file("in/3", "3\n").run_with(["-k"]).fails(1).says("3 reused, 2 failed, 0 left");
    p.task("b", "true").run().ok().says("0 failed, 0 left");
}
