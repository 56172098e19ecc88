//! Section 5: a failed step satisfies nobody and is tried again.

use rustix::process::Signal;

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
    assert_eq!(p.exported("slow"), files([("x", "1\n")]));
    p.call(["export", "after", "--to", "out"]).fails(1).says("after is incomplete");
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
fn a_step_that_fails_keeps_the_result_that_it_has_until_it_succeeds() {
    let p = Project::new()
        .file("value", "1\n")
        .task_with("a", "cache = false", "[ ! -e broken ]; cp value $OUTPUT_DIR/x")
        .task("b", COPY)
        .task_with("all", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    p.run().ok();
    for _ in 0..2 {
        p.file("broken", "").file("value", "2\n").run().fails(1).ran(["a"]);
        assert_eq!(p.exported("a"), files([("x", "1\n")]));
        assert_eq!(p.exported("b"), files([("x", "1\n")]));
        assert_eq!(p.exported("all"), files([("all", "1\n")]));
    }
    p.remove("broken").run().ok().ran(["a", "b", "all"]);
    assert_eq!(p.exported("all"), files([("all", "2\n")]));
}

/// Two files, copied twice, then gathered; it fails for file 2 while `broken` is there.
fn fan() -> Project {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        "[ $INPUT_NAME = 1 ] || [ ! -e broken ]; cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME",
    )
    .task("b", COPY)
    .task_with("all", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    p.run().ok();
    p.file("broken", "")
}

fn states(p: &Project) -> Vec<String> {
    p.sql("SELECT live, state, count(*) FROM step GROUP BY 1, 2 ORDER BY 1, 2")
}

#[test]
fn a_forced_step_that_fails_keeps_the_result_that_it_has() {
    let p = fan();
    p.call(["export", "all", "--to", "out"]).ok();
    p.run_with(["-B", "-j1"]).fails(1).says("1 step failed").says("exit code 1");
    assert_eq!(states(&p), ["1|1|5"]);
    assert_eq!(p.sql("SELECT outcome FROM attempt WHERE step = 2 ORDER BY number"), ["ok", "exit"]);
    // Its consumers go on having its support.
    assert_eq!(p.exported("a"), files([("1", "1\n"), ("2", "2\n")]));
    assert_eq!(p.exported("all"), files([("all", "1\n2\n")]));
    p.call(["export", "all", "--to", "out", "--partial"]).ok();
    assert_eq!(p.read("out/all"), "1\n2\n");
    p.call(["cat", "b/2"]).ok().answers("2\n");
    // The next run has nothing to do for it, and one that is forced again does it again.
    p.run().ok().ran([]).says("nothing to do: 5 steps up to date");
    p.run_with(["-B", "-k"]).fails(1).ran_on(["a 1", "a 2", "b 1"]);
    p.remove("broken").run_with(["-B"]).ok().ran_on(["a 1", "a 2", "b 1", "b 2", "all"]);
    assert_eq!(states(&p), ["1|1|5"]);
}

#[test]
fn what_follows_from_a_forced_step_that_failed_is_left_as_it_is() {
    let p = fan();
    let ran = p.run_with(["-B", "-k"]).fails(1).ran_on(["a 1", "a 2", "b 1"]);
    ran.says("total 5 steps: 2 done, 1 failed, 2 left").says_nothing_of("waits");
    assert_eq!(p.exported("all"), files([("all", "1\n2\n")]));
    p.run().ok().ran([]);
    // What is pending below it is none of this run's business, and the next one does it.
    p.task("b", "sed s/$/b/ $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME");
    p.run_with(["-B", "-k"]).fails(1).ran_on(["a 1", "a 2", "b 1"]).says("2 left");
    p.run().ok().ran_on(["b 2", "all"]);
    assert_eq!(p.exported("all"), files([("all", "1b\n2b\n")]));
}

#[test]
fn a_forced_step_with_another_result_replaces_what_followed_from_the_old_one() {
    let p = Project::new().file("n", "1\n").task("a", "cat n >$OUTPUT_DIR/x");
    p.task("b", "[ ! -e broken ]; cp $INPUT_FILE $OUTPUT_DIR").task_with(
        "all",
        "gather = true",
        "cat $INPUT_DIR/* >$OUTPUT_DIR/all",
    );
    p.task("end", COPY).run().ok();
    // What works on the new result has none of its own to keep; what gathers has no other yet.
    p.file("n", "2\n").file("broken", "").run_with(["-B"]).fails(1).ran(["a", "b"]);
    assert_eq!(states(&p), ["0|1|1", "1|1|3", "1|2|1"]);
    p.call(["export", "end", "--to", "out"]).fails(1).says("--partial");
    assert_eq!(p.exported_partially("end"), files([("all", "1\n")]));
    p.remove("broken").run().ok().ran(["b", "all", "end"]);
    assert_eq!(p.exported("end"), files([("all", "2\n")]));
    // And back: the old results come alive where they are not to be made anew.
    p.file("n", "1\n").run_with(["-B", "--step", "a"]).ok().ran(["a"]);
    assert_eq!(p.exported("end"), files([("all", "1\n")]));
    p.run().ok().ran([]);
}

/// Three steps whose outputs are new whenever they run, gathered; each fails while a file says so.
fn moody(keys: &str) -> Project {
    let p = Project::new().file("in/a_1", "").file("in/a_2", "").file("in/b_1", "");
    p.task_with(
        "r",
        "inputs = [\"in/{k}_{n}\"]",
        "[ ! -e fail-$INPUT_NAME ]; { echo $INPUT_NAME; cat round; } >$OUTPUT_DIR/$INPUT_NAME",
    )
    .task_with("g", keys, "cat $INPUT_DIR/* >$OUTPUT_DIR/all")
    .task("end", COPY)
    .file("round", "1\n");
    p.run().ok();
    p
}

#[test]
fn what_gathers_keeps_its_result_until_all_that_is_forced_upstream_has_come_out_new() {
    let p = moody("gather = true");
    let before = "a_1\n1\na_2\n1\nb_1\n1\n";
    p.file("round", "2\n").file("fail-a_2", "");
    p.run_with(["-B", "-j1"]).fails(1).ran_on(["r a_1", "r a_2"]).says_nothing_of("g waits");
    assert_eq!(p.call(["cat", "g"]).ok().stdout, before);
    assert_eq!(p.exported_partially("end"), files([("all", before)]));
    // It is out of date: one of the results that it gathers is another one.
    p.call(["plan"]).ok().says_nothing_of("nothing to do");
    p.run().ok().ran(["g", "end"]);
    let mixed = "a_1\n2\na_2\n1\nb_1\n1\n";
    assert_eq!(p.exported("end"), files([("all", mixed)]));
    p.run().ok().says("nothing to do");
    p.remove("fail-a_2")
        .file("round", "3\n")
        .run_with(["-B"])
        .ok()
        .ran_on(["r a_1", "r a_2", "r b_1", "g", "end all"]);
    assert_eq!(p.exported("end"), files([("all", "a_1\n3\na_2\n3\nb_1\n3\n")]));
    assert_eq!(states(&p).last().unwrap(), "1|1|5");
    p.run().ok().says("nothing to do");
}

#[test]
fn what_a_forced_run_did_not_reach_counts_as_left() {
    let p = moody("gather = true");
    p.file("round", "2\n").file("fail-a_2", "");
    p.run_with(["-B", "-j1"]).fails(1).says("total 5 steps: 1 done, 1 failed, 3 left");
    // What is not to run anew is not left, whatever runs anew above it.
    let p = moody("gather = true").file("fail-a_1", "");
    p.run_with(["-B", "-j1", "--step", "r"]).fails(1).says("2 done (2 reused), 1 failed, 2 left");
}

#[test]
fn status_names_what_gathers_and_may_be_out_of_date() {
    let p = moody("gather = true");
    let may_be = |p: &Project| p.call(["status"]).ok().stdout.contains("g may be out of date");
    assert!(!may_be(&p));
    p.file("round", "2\n").file("fail-a_2", "").run_with(["-B", "-j1"]).fails(1);
    assert!(may_be(&p));
    assert_eq!(p.call(["status", "--json"]).ok().json()["out_of_date"], serde_json::json!(["g"]));
    p.run().ok().ran(["g", "end"]);
    assert!(!may_be(&p));
    assert_eq!(p.call(["status", "--json"]).ok().json()["out_of_date"], serde_json::json!([]));
    // One that came out as it was makes nothing out of date.
    p.run_with(["-B", "-j1"]).fails(1);
    assert!(!may_be(&p));
}

#[test]
fn explain_says_what_a_forced_run_has_not_got_to_and_what_may_be_out_of_date() {
    let p = moody("gather = true");
    p.file("round", "2\n").file("fail-a_2", "").run_with(["-B", "-j1"]).fails(1);
    let says = |what: &str, sentence: &str| {
        let said = p.call(["explain", what]).ok().stdout;
        assert!(said.contains(sentence), "{said}");
    };
    says("r/a_1", "ran in run 2 because everything was to run anew (-B)");
    says("r", "ran in run 2 because everything was to run anew (-B)");
    let kept = "recipe and input are as they were in run 1, when it was done, and run 2 (-B) has not got to it";
    says("r/b_1", kept);
    says("end/all", kept);
    says("end", "did not run in run 2 because run 2 (-B) has not got to it");
    let changed =
        "what it gathers may have changed since; its result stands until there is another one";
    says("g", changed);
    says("g/", changed);
    p.run().ok().ran(["g", "end"]);
    says(
        "r/b_1",
        "did not run in run 3 because recipe and input are as they were in run 1, when it was done\n",
    );
    says("g", "ran in run 3 because its input changed");
}

#[test]
fn a_group_keeps_its_result_until_all_of_it_that_is_forced_has_come_out_new() {
    let p = moody("gather = [\"k\"]");
    p.file("round", "2\n").file("fail-a_2", "");
    p.run_with(["-B", "-k", "-j1"]).fails(1);
    p.call(["export", "g", "--to", "out", "--partial"]).ok();
    assert_eq!(p.read("out/all") + &p.read("out/all~2"), "a_1\n1\na_2\n1\nb_1\n2\n");
    p.run().ok().ran(["g", "end"]);
    p.call(["export", "g", "--to", "out"]).ok();
    assert_eq!(p.read("out/all"), "a_1\n2\na_2\n1\n");
    // A group of which nothing is left goes, once all is through.
    p.remove("fail-a_2").task_with(
        "r",
        "inputs = [\"in/{k}_{n}\"]",
        "[ $k = a ] || [ ! -e none ] || exit 0; { echo $INPUT_NAME; cat round; } >$OUTPUT_DIR/$INPUT_NAME",
    );
    p.run().ok();
    p.file("none", "").run_with(["-B"]).ok();
    assert_eq!(p.sql("SELECT labels FROM step WHERE live AND task = 2"), ["{\"k\":\"a\"}"]);
    assert_eq!(p.exported("end").len(), 1);
    p.run().ok().says("nothing to do");
}

#[test]
fn a_forced_step_that_fails_once_is_tried_again_as_often_as_retries_says() {
    let p = Project::new().task_with("a", "retries = 2", "[ ! -e broken ]; echo 1 >$OUTPUT_DIR/x");
    p.task("b", COPY).run().ok();
    p.file("broken", "").run_with(["-B"]).fails(1).ran(["a", "a", "a"]);
    p.run().ok().ran([]);
    p.task_with(
        "a",
        "retries = 2",
        "[ $ATTEMPT -gt 2 ] || [ $ATTEMPT = 1 ]; echo 1 >$OUTPUT_DIR/x",
    );
    p.run().ok().ran(["a"]);
    p.run_with(["-B"]).ok().ran(["a", "a", "b"]);
    p.run().ok().says("nothing to do");
}

#[test]
fn explain_and_log_tell_of_a_forced_attempt_that_failed_and_whose_result_stands() {
    let p = fan();
    p.task("b", "echo said; [ ! -e broken ]; cp $INPUT_FILE $OUTPUT_DIR").run_with(["-k"]).fails(1);
    p.remove("broken").run().ok();
    p.file("broken", "").run_with(["-B", "-j1", "--step", "b"]).fails(1);
    let step = &p.sql("SELECT step FROM attempt ORDER BY run DESC LIMIT 1")[0];
    let sentence = p.call(["explain", step]).ok().stdout;
    assert!(
        sentence.contains(
            "ran in run 4 because everything was to run anew (-B), and attempt 3 failed: \
             its result is that of attempt 2 in run 3"
        ),
        "{sentence}"
    );
    assert_eq!(p.call(["log", step]).ok().stdout, "said\n");
    assert!(p.call(["log", "--failed"]).ok().stdout.contains("said"));
    p.run().ok().ran([]);
    p.remove("broken").file("in/3", "3\n").run().ok().ran_on(["a 3", "b 3", "all"]);
    let sentence = p.call(["explain", step]).ok().stdout;
    assert!(
        sentence.contains(
            "did not run in run 5 because recipe and input are as they were when it was done: \
             its result is that of attempt 2 in run 3, and attempt 3 in run 4, which was to run it anew, failed"
        ),
        "{sentence}"
    );
    let status = p.call(["status", "--json"]).ok().stdout;
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["tasks"][1]["done"], 3, "{status}");
    assert_eq!(status["tasks"][1]["failed"], 0, "{status}");
}

#[test]
fn a_forced_run_that_is_interrupted_leaves_what_it_did_not_reach_as_it_was() {
    for (signal, exit) in [(Signal::INT, true), (Signal::TERM, true), (Signal::KILL, false)] {
        let p = Project::new();
        for n in 0..20 {
            p.file(format!("in/{n:02}"), n.to_string());
        }
        let script = "[ ! -e down ] || [ $INPUT_NAME != 05 ] || { : >there; sleep 60; }; cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME";
        p.task_with("a", "inputs = [\"in/*\"]", script).task("b", COPY).task_with(
            "all",
            "gather = true\ncache = false",
            "cat $INPUT_DIR/* >$OUTPUT_DIR/all",
        );
        p.run().ok();
        let before = p.exported("all");
        p.call(["export", "b", "--to", "out"]).ok();
        let running = p.file("down", "").run_cmd(["-B", "-j1"]).start();
        wait_for("the step", || p.path("there").exists());
        running.signal(signal);
        let ran = running.end();
        // Of `a`, `b` and what gathers: two of the first two came out, and the step that was interrupted is left too.
        assert_eq!(ran.stderr.contains("0 failed, "), exit, "{}", ran.stderr);
        assert!(!ran.stderr.contains("0 left"), "{}", ran.stderr);
        p.remove("down");
        assert_eq!(states(&p), ["1|1|41"], "{signal:?}");
        assert_eq!(p.exported("all"), before);
        p.call(["export", "b", "--to", "out"]).ok().says("0 written, 0 removed");
        p.run().ok().ran(["all"]);
    }
}

#[test]
fn a_run_that_is_killed_before_it_reached_an_uncached_task_keeps_its_result() {
    let p = Project::new().task_with(
        "first",
        "from = []\ncache = false",
        "[ ! -e down ] || { : >there; sleep 60; }; echo 1 >$OUTPUT_DIR/x",
    );
    p.task_with("second", "cache = false", COPY).task("third", COPY).run().ok();
    let running = p.file("down", "").run_cmd([""; 0]).start();
    wait_for("the step", || p.path("there").exists());
    running.signal(Signal::KILL);
    running.end();
    assert_eq!(p.exported("third"), files([("x", "1\n")]));
    // It runs anew in every run, and so does one that follows from it.
    p.remove("down").run().ok().ran(["first", "second"]);
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
            "cat $INPUT_DIR/*/* >$OUTPUT_DIR/all",
        )
        .task("after", COPY);
    p.run_with(["-k"]).fails(1).ran(["good", "bad"]).says("task all waits");
    p.file("cured", "").run().ok().ran(["bad", "all", "after"]);
    assert_eq!(p.exported("after"), files([("all", "2\n1\n")]));
    // An edit breaks it again: what was gathered is out of date, and says so.
    p.remove("cured").task_with("bad", "from = []", "[ -e cured ]; echo 3 >$OUTPUT_DIR/y");
    p.run_with(["-k"]).fails(1).ran(["bad"]).says("task all waits");
    p.call(["export", "after", "--to", "out"]).fails(1);
}

#[test]
fn a_summary_counts_what_was_done() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task("b", "[ $INPUT_NAME = 1 ]");
    p.run_with(["-k"])
        .fails(1)
        .says("total 4 steps: 3 done, 1 failed, 0 left; 4 attempts, 1 of them failed; 2 outputs");
    p.file("in/3", "3\n").run_with(["-k"]).fails(1).says("4 done (3 reused), 2 failed, 0 left");
    p.task("b", "true").run().ok().says("0 failed, 0 left");
}

#[test]
fn a_failure_is_told_once_with_the_end_of_its_last_log_and_where_the_rest_is() {
    let p = Project::new();
    let script = "n=1; while [ $n -le 300 ]; do echo line $n of $ATTEMPT; n=$((n+1)); done; exit 3";
    p.task_with("a", "retries = 2", script);
    let ran = p.call(["-db", "build/my db"]).fails(1);
    let text = ran.stderr.clone();
    ran.says("\nstep 1 a: attempt 1 of 3 failed: exit code 3; trying again\n")
        .says("\nstep 1 a: attempt 2 of 3 failed: exit code 3; trying again\n")
        .says(
            "\n[1/1] step 1 a: failed: exit code 3 (attempt 3 of 3)\n  \
             … 280 lines above: task-pipeline log 1 -db 'build/my db'\n  | line 281 of 3\n",
        )
        .says("\n  step 1 a: exit code 3 (task-pipeline log 1 -db 'build/my db')\n");
    assert_eq!(text.matches("  | ").count(), 20, "{text}");
    p.call(["log", "1", "-db", "build/my db"]).ok().answers("line 1 of 3");
    // What was printed already is not repeated, and the default database is not named.
    let text = p.run_with(["-v"]).fails(1).stderr;
    assert!(text.contains("a| line 1 of 3") && !text.contains("  | line"), "{text}");
    assert!(text.contains("(task-pipeline log 1)"), "{text}");
}

#[test]
fn many_tasks_are_named_on_one_line() {
    let p = Project::new();
    for n in 0..40 {
        p.task_with(&format!("task-number-{n}"), "from = []", "true");
    }
    let text = p.run().ok().stderr;
    let line = text.lines().find(|line| line.starts_with("registered ")).unwrap();
    assert!(line.chars().count() <= 80 && line.ends_with(" more"), "{line}");
    assert!(line.starts_with("registered task-number-0, task-number-1, "), "{line}");
}
