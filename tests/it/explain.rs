//! `explain`: the sentence, and what differs.

use serde_json::{Value, json};

use crate::harness::{Project, sha256};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

fn project() -> Project {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("words", "the\n");
    p.task_with("a", "inputs = [\"in/*\"]\nfiles = [\"words\"]\nenv = { LANG = \"C\" }", COPY);
    p.task("b", COPY).task_with("all", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/all")
}

fn explain(p: &Project, step: &str) -> Value {
    p.call(["explain", step, "--json"]).ok().json()
}

#[track_caller]
fn says(p: &Project, step: &str, sentence: &str) {
    assert_eq!(explain(p, step)["sentence"], sentence);
    p.call(["explain", step]).ok().answers(sentence);
}

#[test]
fn a_first_run_is_because_all_is_new() {
    let p = project();
    p.run().ok();
    says(&p, "a/1", "ran in run 1 because its input is new");
    says(&p, "all/", "ran in run 1 because the task is new");
    says(&p, "a", "ran in run 1 because the task is new");
    p.run_with(["-B", "--step", "b"]).ok();
    says(&p, "b/1", "ran in run 2 because everything was to run anew (-B)");
    says(
        &p,
        "a/1",
        "did not run in run 2 because recipe and input are as they were in run 1, when it was done",
    );
    says(&p, "a", "did not run in run 2 because neither its recipe nor its inputs changed");
}

#[test]
fn a_changed_recipe_is_shown_field_by_field() {
    let p = project();
    p.run().ok();
    p.file("words", "a\n");
    let keys = "inputs = [\"in/*\"]\nfiles = [\"words\"]\nenv = { LANG = \"de\", X = \"1\" }\nshell = \"bash -e\"";
    p.task_with("a", keys, &format!("set -u\n{COPY}")).run().ok();
    let because = "interpreter changed from `sh -eu` to `bash -e`, and script changed, and env LANG changed, \
                   and env X added, and file words changed";
    says(&p, "a/1", &format!("ran in run 2 because {because}"));
    says(&p, "a", &format!("ran in run 2 because {because}"));
    let explained = explain(&p, "a/1");
    let field = |name: &str| {
        let fields = explained["recipe"].as_array().unwrap();
        let field = fields.iter().find(|field| field["field"] == name).unwrap();
        json!([field["before"], field["now"], field["changed"]])
    };
    assert_eq!(field("interpreter"), json!(["sh -eu", "bash -e", true]));
    assert_eq!(field("env LANG"), json!(["C", "de", true]));
    assert_eq!(field("env X"), json!([null, "1", true]));
    assert_eq!(field("file words"), json!([sha256(b"the\n"), sha256(b"a\n"), true]));
    assert_eq!(field("gather"), json!(["false", "false", false]));
    assert!(explained["script_diff"].as_str().unwrap().contains("\n+set -u\n"), "{explained}");
    let of = &explained["of_step"];
    assert_eq!((&of["compared_with"]["input"], &of["files"]), (&json!("1"), &json!(["in/1"])));
    p.call(["explain", "a/1"])
        .ok()
        .answers("env LANG: C -> de")
        .answers("+set -u")
        .answers("before: step 1 a (1)");
    // What came of it is as it was, and so is what came of that.
    says(
        &p,
        "b/1",
        "did not run in run 2 because recipe and input are as they were in run 1, when it was done",
    );
}

#[test]
fn a_changed_input_is_shown_with_what_made_it() {
    let p = project();
    p.run().ok();
    p.file("in/1", "one\n").run().ok();
    says(&p, "a/1", "ran in run 2 because its input changed");
    says(&p, "b/1", "ran in run 2 because its input changed");
    let of = &explain(&p, "b/1")["of_step"];
    assert_eq!(of["works_on"], json!({ "object": sha256(b"one\n"), "bytes": 4 }));
    assert_eq!(of["worked_on"], json!({ "object": sha256(b"1\n"), "bytes": 2 }));
    assert_eq!((&of["made_by"][0]["task"], &of["made_by"][0]["input"]), (&json!("a"), &json!("1")));
    // The one that it replaced.
    let before = of["compared_with"]["step"].to_string();
    says(
        &p,
        &before,
        "is history because no present input or output asks for it; its results come back if one does",
    );
    assert_eq!(explain(&p, "all/")["of_step"]["made_by"].as_array().unwrap().len(), 2);
    p.drop_task("all").run().ok();
    says(&p, "all", "is history because it is no longer in the manifest");
}

#[test]
fn what_is_said_of_a_task_that_failed_is_that_it_failed() {
    let p = project();
    p.task("b", "[ $INPUT_NAME = 1 ]; echo >$OUTPUT_DIR/x");
    p.run_with(["-k"]).fails(1);
    says(&p, "b", "will run because 1 of its 2 steps failed last time");
    p.task("b", COPY).task_with("all", "gather = true", "exit 1").run().fails(1);
    says(&p, "all", "will run because it failed last time: exit code 1");
    p.task_with("all", "gather = true", "true").run().ok();
    says(&p, "all", "ran in run 3 because script changed");
}

#[test]
fn an_object_is_explained_by_the_steps_that_made_it_or_work_on_it() {
    let p = project();
    p.run().ok();
    let made = sha256(b"1\n2\n");
    for digits in [6, 12, 64] {
        let all = "step 5 all ran in run 1 because the task is new";
        p.call(["explain", &made[..digits]]).ok().answers(all);
    }
    // Steps of two tasks have made this one; JSON answers with the first.
    let one = sha256(b"1\n");
    let both = p.call(["explain", &one]).ok();
    both.answers("step 1 a (1) ran in run 1").answers(" b (1) ran in run 1");
    assert_eq!(explain(&p, &one)["of_step"]["step"], 1);
    p.task_with("a", "inputs = [\"in/*\"]", "wc -c <$INPUT_FILE >$OUTPUT_DIR/n").run().ok();
    p.call(["explain", &sha256(b"the\n")]).fails(2).says("no task is called");
}

#[test]
fn failures_and_what_is_still_to_run() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/*\"]", "[ -e good ]; echo 1 >$OUTPUT_DIR/x").task("b", "true");
    p.run_with(["-j1"]).fails(1);
    says(&p, "a/1", "will run because it failed last time: exit code 1");
    says(&p, "a/2", "will run because its input is new");
    p.file("good", "").run().ok();
    says(&p, "a/1", "ran in run 2 because it had failed in run 1");
    says(&p, "a/2", "ran in run 2 because its input is new");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]\nretries = 1\ncache = false",
        "[ $ATTEMPT -gt 3 ] || [ $ATTEMPT = 2 ]",
    );
    p.run().ok();
    says(
        &p,
        "a/1",
        "ran in run 3 because script changed, and an attempt failed, and was made again",
    );
    p.run_with(["-k"]).ok();
    says(
        &p,
        "a/1",
        "ran in run 4 because its task has cache = false, and an attempt failed, and was made again",
    );
    assert_eq!(explain(&p, "a/1")["of_step"]["attempts"].as_array().unwrap().len(), 4);
}

#[test]
fn the_manifest_as_it_is_now_can_be_compared_too() {
    let p = project();
    p.run().ok();
    let ask = |step: &str| {
        p.call(["explain", step, "--json", "-manifest", "pipeline.toml"]).ok().json()["manifest"]
            .clone()
    };
    // The one in this folder is meant if none is named, as in a run.
    assert_eq!(explain(&p, "b")["manifest"]["manifest"], "pipeline.toml");
    p.file("empty/x", "");
    let elsewhere = p.cmd(["explain", "b", "--json", "-db", "../db"]).dir("empty").go().ok();
    assert_eq!(elsewhere.json()["manifest"], Value::Null);
    assert_eq!((&ask("b")["changes"], &ask("b")["has_task"]), (&json!([]), &json!(true)));
    p.task("b", "true");
    assert_eq!(ask("b/1")["changes"], json!(["script changed"]));
    assert!(ask("b")["script_diff"].as_str().unwrap().contains("+true"));
    let said = p.call(["explain", "b/1", "-manifest", "pipeline.toml"]).ok();
    said.answers(
        "pipeline.toml has another recipe: script changed, so the next run makes new steps",
    );
    p.drop_task("b");
    assert_eq!(ask("b/1")["has_task"], false);
    p.call(["explain", "b/none"]).fails(2).says("b/none");
    p.call(["explain", "nope"]).fails(2).says("a, b, all");
    p.call(["explain"]).fails(2).says("STEP");
}

#[test]
fn a_task_that_waits_is_explained_by_what_it_waits_for() {
    let p = Project::new();
    for n in 1..=6 {
        p.file(format!("in/{n}"), "");
    }
    p.task_with("work", "inputs = [\"in/*\"]", "[ $INPUT_NAME -gt 2 ]");
    p.task_with("all", "gather = true", "true").run_with(["-k"]).fails(1);
    p.call(["explain", "all"]).ok().answers("task all waits: 2 of 6 steps of work failed\n");
    assert_eq!(explain(&p, "all")["verdict"], "waits");
}

#[test]
fn a_few_steps_of_one_name_are_all_explained() {
    let p = Project::new().file("x/f", "1\n").file("y/f", "2\n");
    p.task_with("a", "inputs = [\"x/*\", \"y/*\"]", "true").run().ok();
    let both = p.call(["explain", "a/f"]).ok();
    both.answers("step 1 a (f) ran in run 1").answers("\n\nstep 2 a (f) ran in run 1");
    p.call(["explain", "a/f", "--json"]).fails(2).says("2 steps are called `a/f`");
}

#[test]
fn mistakes_in_a_manifest_that_nobody_named_do_not_hide_what_is_recorded() {
    let p = Project::new().task("a", "true");
    p.run().ok();
    p.manifest("[[task]]\nname = 3\n");
    p.call(["explain", "a"]).ok().answers("task a ran in run 1").says("pipeline.toml has mistakes");
    p.call(["explain", "a", "-f", "pipeline.toml"]).fails(2);
}
