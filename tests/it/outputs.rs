//! `outputs`: what each step has to leave; and what is said where nothing is asked for and nothing was made.

use serde_json::json;

use crate::harness::Project;

#[test]
fn a_step_that_leaves_nothing_of_what_is_asked_for_fails_and_says_what_was_there_instead() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("in/3", "3\n");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]\noutputs = [\"*.jpg\", \"log/*\"]",
        "mkdir $OUTPUT_DIR/log; echo >$OUTPUT_DIR/log/x
         case $INPUT_NAME in
           1) echo >$OUTPUT_DIR/a.jpg ;;
           2) echo >$OUTPUT_DIR/a.png ;;
           3) rm -r $OUTPUT_DIR/log ;;
         esac",
    )
    .task("b", "true");
    let ran = p.run_with(["-k"]).fails(1);
    let no = "the script has left no ";
    let ran =
        ran.says(&format!("{no}`*.jpg` (of `outputs`) in OUTPUT_DIR; there is `a.png`, `log/x`"));
    ran.says(&format!("{no}`*.jpg`, `log/*` (of `outputs`) in OUTPUT_DIR; OUTPUT_DIR is empty"));
    // Nothing of them is passed on or kept.
    assert_eq!(p.ledger().iter().filter(|line| line.starts_with('b')).count(), 2);
    assert_eq!(p.sql("SELECT name FROM output ORDER BY name"), ["a.jpg", "log/x"]);
    let outcomes = "SELECT outcome FROM attempt WHERE step < 4 ORDER BY step";
    assert_eq!(p.sql(outcomes), ["ok", "refused", "refused"]);
}

#[test]
fn a_step_without_its_outputs_is_tried_again_like_any_other_that_fails() {
    let p = Project::new().task_with(
        "a",
        "retries = 2\noutputs = [\"x\"]",
        "[ $ATTEMPT -lt 3 ] || echo >$OUTPUT_DIR/x",
    );
    p.run().ok();
    assert_eq!(p.ledger().len(), 3);
}

/// A task over two files: one of its steps leaves a picture, the other one a text; and one after it.
fn loose(keys: &str) -> Project {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    with(&p, keys)
}

fn with(p: &Project, keys: &str) -> Project {
    p.task_with(
        "a",
        &format!("inputs = [\"in/*\"]\n{keys}"),
        "case $(cat $INPUT_FILE) in 1) echo 1 >$OUTPUT_DIR/x.jpg ;; *) echo 2 >$OUTPUT_DIR/x.txt ;; esac",
    )
    .task("b", "cp $INPUT_FILE $OUTPUT_DIR/")
}

#[test]
fn what_was_done_under_looser_rules_is_judged_by_what_is_known_of_it() {
    let p = loose("");
    p.run().ok().ran_on(["a 1", "a 2", "b x.jpg", "b x.txt"]);
    // All that is asked for is there.
    with(&p, "outputs = [\"x.*\"]").run().ok().ran([]);
    with(&p, "outputs = [\"*.jpg\"]");
    let plan = p.run_with(["-n", "--json"]).ok().json();
    assert_eq!(plan["tasks"][0]["reasons"], json!([{ "why": "lacking", "steps": 1 }]));
    p.run_with(["-n"]).ok().answers("1 without what `outputs` asks for");
    p.run_with(["-k"]).fails(1).ran_on(["a 2"]);
    assert_eq!(p.exported_partially("b").into_keys().collect::<Vec<_>>(), ["x.jpg"]);
    // It failed, so it runs again; what came of it is known.
    with(&p, "").run().ok().ran_on(["a 2"]);
    assert_eq!(p.exported("b").len(), 2);
    p.run().ok().says("nothing to do");
}

#[test]
fn what_comes_out_of_history_is_judged_too() {
    let p = loose("");
    p.run().ok();
    p.file("in/2", "1\n").run().ok().ran_on(["a 2"]);
    with(&p, "outputs = [\"*.jpg\"]").run().ok().ran([]);
    p.file("in/2", "2\n").run_with(["-k"]).fails(1).ran_on(["a 2"]);
}

#[test]
fn the_plan_knows_what_a_gather_lacks_and_that_nothing_else_does_its_work() {
    let p = loose("");
    let total = |keys: &str| {
        let script = "cat $INPUT_DIR/* >$OUTPUT_DIR/all";
        p.task_with("total", &format!("gather = true\n{keys}"), script)
    };
    total("").run().ok();
    total("outputs = [\"al*\"]").call(["plan"]).ok().answers("0 steps to run");
    p.run().ok().ran([]).says_nothing_of("no longer needed");
    total("outputs = [\"*.csv\"]");
    let plan = p.call(["plan", "--json"]).ok().json();
    assert_eq!(plan["tasks"][2]["reasons"], json!([{ "why": "lacking", "steps": 1 }]));
    p.call(["plan"]).ok().answers("1 without what `outputs` asks for\n1 step to run\n");
    p.run().fails(1).ran(["total"]).says_nothing_of("no longer needed");
    // Two steps that both lack something are not each other's work.
    total("");
    p.run().ok();
    with(&p, "outputs = [\"*.csv\"]").call(["plan"]).ok().answers("2 steps to run");
}

#[test]
fn a_gather_whose_choice_comes_to_the_same_stands_and_another_one_does_not() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x; echo 2 >$OUTPUT_DIR/y");
    let total = |keys: &str| {
        let script = "cat $INPUT_DIR/* >$OUTPUT_DIR/all";
        p.task_with("total", &format!("gather = true\n{keys}"), script)
    };
    total("").run().ok();
    total("match = [\"?\"]").call(["plan"]).ok().answers("0 steps to run: all is up to date");
    p.run().ok().ran([]);
    total("match = [\"x\"]").run().ok().ran(["total"]);
    assert_eq!(p.exported("total").into_values().collect::<Vec<_>>(), ["1\n"]);
    // The same bytes under the same name, made by another task: its lineage is another one.
    p.task_with("c", "from = []", "echo 1 >$OUTPUT_DIR/x");
    total("from = [\"c\"]").run().ok().ran(["c"]);
    let makers = p.call(["explain", "total/"]).ok();
    makers.answers("made by step 4 c");
}

#[test]
fn results_of_a_task_with_a_depfile_are_judged_too() {
    let script = "echo >$OUTPUT_DIR/x.txt; echo 'x: h' >$OUTPUT_DIR/.d";
    let p = Project::new().file("h", "1\n").task_with("a", "depfile = \".d\"", script);
    p.run().ok();
    p.task_with("a", "depfile = \".d\"\noutputs = [\"x.*\"]", script).run().ok().ran([]);
    p.task_with("a", "depfile = \".d\"\noutputs = [\"*.jpg\"]", script);
    p.run().fails(1).ran(["a"]).says("left no `*.jpg`");
    p.task_with("a", "depfile = \".d\"\noutputs = [\"x.*\", \".d\"]", script);
    p.run().fails(2).says("`.d` of `outputs` is the depfile, and no output").says("^");
}

#[test]
fn of_a_batch_the_step_that_lacks_something_fails_alone() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("in/3", "3\n");
    p.manifest(
        "[[task]]\nname = \"a\"\ninputs = [\"in/*\"]\nbatch = 3\noutputs = [\"y\"]\nscript = '''
         for d in $BATCH_DIR/*; do [ \"$(cat $d/input/*)\" = 2 ] || echo >$d/output/y; done'''\n",
    );
    p.run_with(["-k", "-j1"]).fails(1).says("left no `y`");
    assert_eq!(p.sql("SELECT name FROM step WHERE state = 2"), ["2"]);
    assert_eq!(p.sql("SELECT count(*) FROM attempt"), ["3"]);
}

#[test]
fn the_rule_is_no_part_of_the_recipe() {
    let p = loose("outputs = [\"x.*\"]");
    p.run().ok();
    let keys = p.sql("SELECT key FROM step ORDER BY id");
    with(&p, "outputs = []").run().ok().ran([]);
    with(&p, "").run().ok().ran([]);
    assert_eq!(p.sql("SELECT key FROM step ORDER BY id"), keys);
}

#[test]
fn a_consumed_task_whose_steps_left_nothing_is_told_once_unless_that_is_meant() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("in/3", "3\n");
    let task = |keys: &str, script: &str| {
        p.task_with("a", &format!("inputs = [\"in/*\"]\n{keys}"), script)
            .task("b", "cp $INPUT_FILE $OUTPUT_DIR/")
    };
    task("", "[ $INPUT_NAME = 1 ] || exit 0; echo >$OUTPUT_DIR/x");
    let ran = p.run_with(["-j1"]).ok();
    let told = "task `a`: 2 steps left nothing in OUTPUT_DIR, step 2 for one, so `b` got nothing of them; outputs = [\"*\"]";
    assert_eq!(ran.stderr.matches(told).count(), 1, "{}", ran.stderr);
    // As long as it is so, whoever asks is told.
    let ran = p.run().ok().says("nothing to do");
    assert_eq!(ran.stderr.matches(told).count(), 1, "{}", ran.stderr);
    p.call(["plan"]).ok().says(told);
    let page = p.call(["report", "-o", "-"]).ok().stdout;
    assert!(
        page.contains("all done; 1 warning") && page.contains("2 steps left nothing"),
        "{page}"
    );
    // A run that has something else to do knows it too.
    let ran = p.file("in/1", "one\n").run().ok().ran(["a"]);
    assert_eq!(ran.stderr.matches(told).count(), 1, "{}", ran.stderr);
    let ran = task("outputs = []", "exit 0").run().ok();
    ran.says_nothing_of("left nothing").says_nothing_of("got no step");
    p.run().ok().says("nothing to do").says_nothing_of("warning");
    let ran = task("outputs = [\"*\"]", "echo x >x").run().fails(1);
    ran.says("in OUTPUT_DIR; OUTPUT_DIR is empty, and its script doesn't mention it");
    let ran = task("", "echo y >x").run().ok();
    let ran = ran.says(" for one, and its script doesn't mention it, so `b` got nothing of them");
    ran.says("task `b` got no step: there is no output of `a` for it");
    // The last task is consumed by nobody.
    Project::new().task("a", "true").run().ok().says_nothing_of("warning");
}

#[test]
fn a_match_that_takes_nothing_and_a_task_without_a_step_are_told_once() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/*\"]", "echo >$OUTPUT_DIR/x.csv; echo >$OUTPUT_DIR/y.csv")
        .task_with("b", "match = [\"*.txt\"]", "true")
        .task_with("all", "gather = true", "true");
    let ran = p.run().ok();
    let told = "task `b`: `match` (`*.txt`) takes none of the outputs of `a`, such as `x.csv`";
    assert_eq!(ran.stderr.matches(told).count(), 1, "{}", ran.stderr);
    let told = "task `all` got no step: there is no output of `b` for it";
    assert_eq!(ran.stderr.matches(told).count(), 1, "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("`b` got no step").count(), 0, "{}", ran.stderr);
    p.run().ok().says("nothing to do").says("takes none of the outputs of `a`").says(told);
    // Another run that has nothing for it, and then one that has.
    let ran = p.file("in/3", "3\n").run().ok().ran(["a"]);
    ran.says("takes none of the outputs of `a`").says(told);
    p.task_with("b", "match = [\"*.csv\"]", "echo >$OUTPUT_DIR/z").run().ok();
    p.run().ok().says("nothing to do").says_nothing_of("warning");
}

#[test]
fn a_match_that_has_taken_something_is_not_told_for_what_it_leaves() {
    let p = Project::new().file("in/1", "1\n");
    p.task_with("a", "inputs = [\"in/*\"]", "echo >$OUTPUT_DIR/$INPUT_NAME.$(cat $INPUT_FILE)")
        .task_with("b", "match = [\"*.1\"]", "echo >$OUTPUT_DIR/z");
    p.run().ok().says_nothing_of("takes none");
    // In this run there is nothing for it, but in the last one there was.
    p.file("in/2", "2\n").run().ok().ran(["a"]).says_nothing_of("takes none");
}

#[test]
fn a_run_with_failures_explains_no_task_without_steps() {
    let p = Project::new().task("a", "exit 1").task("b", "true");
    p.run_with(["-k"]).fails(1).says_nothing_of("got no step");
}

#[test]
fn globs_that_match_no_output_are_refused_with_their_place() {
    for (keys, told) in [
        ("outputs = \"x\"", "`outputs` must be a list of strings"),
        ("outputs = [\"/x\"]", "`/x` matches no output"),
        ("outputs = [\"../x\"]", "`../x` matches no output"),
        ("outputs = [\"sub/\"]", "`sub/` names a folder, not files"),
        ("outputs = [\"x[\"]", "`x[` is no glob"),
        ("outputs = [\"{sample}.bam\"]", "`{sample}.bam` of `outputs` can't make a label"),
        (
            "outputs = [\"$OUTPUT_DIR/*.jpg\"]",
            "no variable has a value in `$OUTPUT_DIR/*.jpg` of `outputs`",
        ),
        ("output = [\"x\"]", "did you mean `outputs`?"),
        ("expect = [\"x\"]", "did you mean `outputs`?"),
    ] {
        let p = Project::new().task_with("t", keys, "true");
        p.run().fails(2).says("pipeline.toml:3:").says(told).says("^");
    }
}
