//! `plan`: what a run would do, why, and how much will come of it.

use serde_json::{Value, json};

use crate::harness::Project;

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

/// Two inputs; `a` makes two files of each; all are gathered.
fn fan() -> Project {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("words", "the\n");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        "for n in x y; do cat $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME.$n; done",
    )
    .task_with("b", "files = [\"words\"]\nenv = { LANG = \"C\" }", COPY)
    .task_with("all", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/all")
}

fn plan(p: &Project, args: &[&str]) -> Value {
    p.run_with(["-n", "--json"].iter().chain(args)).ok().ran([]).json()
}

/// Reasons, changes and guess of the n-th task.
fn of(plan: &Value, n: usize) -> Value {
    let task = &plan["tasks"][n];
    let reasons: serde_json::Map<String, Value> = task["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reason| (reason["why"].as_str().unwrap().to_owned(), reason["steps"].clone()))
        .collect();
    json!([reasons, task["changes"], task["later"]])
}

#[test]
fn a_first_plan_knows_what_is_there_and_no_more() {
    let p = fan();
    let first = plan(&p, &[]);
    assert_eq!(of(&first, 0), json!([{ "new": 2 }, [], 0]));
    assert_eq!(of(&first, 1), json!([{}, [], null]));
    assert_eq!(of(&first, 2), json!([{}, [], 1]));
    assert_eq!((&first["to_run"], &first["later"]), (&json!(2), &Value::Null));
    p.run_with(["-n"]).ok().answers("2 steps to run, and what comes of them").answers("2 new");
}

#[test]
fn a_database_with_nothing_in_it_is_planned_for_as_if_there_were_none() {
    let p = fan();
    let first = plan(&p, &[]);
    // As a run leaves it that is killed before it could make a table: the second already with a header.
    p.file("db/format", "task-pipeline 3\n").file("db/db", "");
    assert_eq!(plan(&p, &[])["tasks"], first["tasks"]);
    assert_eq!(std::fs::metadata(p.path("db/db")).unwrap().len(), 0);
    let conn = rusqlite::Connection::open(p.path("db/db")).unwrap();
    conn.pragma_update(None, "journal_mode", "wal").unwrap();
    drop(conn);
    assert!(std::fs::metadata(p.path("db/db")).unwrap().len() > 0);
    assert_eq!(plan(&p, &[])["tasks"], first["tasks"]);
    p.run().ok();
}

#[test]
fn nothing_to_do_is_settled() {
    let p = fan();
    let check = ["plan", "--check", "-manifest", "pipeline.toml"];
    p.call(check).fails(3);
    p.run().ok();
    p.call(check).ok().answers("0 steps to run: all is up to date");
    assert_eq!(plan(&p, &[])["settled"], true);
    // What only disappears changes results too.
    p.remove("in/1");
    p.call(check).fails(3);
    p.run().ok();
    p.call(check).ok();
}

#[test]
fn gathering_nothing_is_settled_too() {
    let p = Project::new().task("a", "true").task_with("all", "gather = true", "true");
    p.run().ok().ran(["a"]);
    p.call(["plan", "--check"]).ok();
}

#[test]
fn what_comes_of_changes_is_guessed_from_what_came_before() {
    let p = fan();
    p.run().ok();
    p.file("in/3", "3\n").file("in/1", "one\n");
    let next = plan(&p, &[]);
    assert_eq!(of(&next, 0), json!([{ "new": 1, "input": 1 }, [], 0]));
    assert_eq!(of(&next, 1), json!([{}, [], 4]));
    assert_eq!(of(&next, 2), json!([{}, [], 1]));
    assert_eq!((&next["to_run"], &next["later"]), (&json!(2), &json!(5)));
    let text = p.run_with(["-n"]).ok().answers("2 steps to run, and ~5 that come of them");
    text.answers("1 new, 1 input changed").answers("~4 that come of earlier tasks");
    // It was right.
    let before = p.ledger().len();
    p.run().ok();
    assert_eq!(p.ledger().len() - before, 7);
}

#[test]
fn a_changed_recipe_is_told_field_by_field() {
    let p = fan();
    p.run().ok();
    p.file("words", "a\n");
    p.task_with(
        "b",
        "files = [\"words\"]\nenv = { LANG = \"de\", X = \"1\" }\nshell = \"bash -e\"",
        COPY,
    );
    let next = plan(&p, &[]);
    assert_eq!(of(&next, 0), json!([{}, [], 0]));
    let changes = [
        "interpreter changed from `sh -eu` to `bash -e`",
        "env LANG changed",
        "env X added",
        "file words changed",
    ];
    assert_eq!(of(&next, 1), json!([{ "recipe": 4 }, changes, 0]));
    p.run_with(["-n"]).ok().answers("4 interpreter changed from").answers("file words changed");
    p.task_with("b", "files = [\"words\"]\nenv = { LANG = \"C\" }", "true").file("words", "the\n");
    assert_eq!(of(&plan(&p, &[]), 1), json!([{ "recipe": 4 }, ["script changed"], 0]));
    // Further down nothing can be named yet, but what will change it can.
    p.task_with("a", "inputs = [\"in/*\"]", "cp $INPUT_FILE $OUTPUT_DIR/z");
    assert_eq!(of(&plan(&p, &[]), 1), json!([{}, ["script changed"], 4]));
}

#[test]
fn what_is_known_runs_again_for_a_reason() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task("b", "[ -e good ]; echo 1 >$OUTPUT_DIR/x");
    p.run_with(["-j1"]).fails(1);
    let next = plan(&p, &[]);
    assert_eq!(of(&next, 1), json!([{ "failed": 1, "pending": 1 }, [], 0]), "{next}");
    p.file("good", "").run().ok();
    assert_eq!(of(&plan(&p, &["-B"]), 0), json!([{ "forced": 2 }, [], 0]));
    assert_eq!(of(&plan(&p, &["-B"]), 1)[2], 2);
    p.task_with("a", "inputs = [\"in/*\"]\ncache = false", COPY);
    assert_eq!(of(&plan(&p, &[]), 0), json!([{ "uncached": 2 }, [], 0]));
    p.run_with(["-n"]).ok().answers("2 with cache = false");
}

#[test]
fn results_that_are_gone_are_a_reason() {
    let p = Project::new().file("in/1", "1\n").task_with("a", "inputs = [\"in/*\"]", COPY);
    p.run().ok();
    p.file("in/1", "other\n").run().ok();
    p.call(["gc", "--grace", "0s"]).ok();
    p.file("in/1", "1\n");
    assert_eq!(of(&plan(&p, &[]), 0), json!([{ "gone": 1 }, [], 0]));
}

#[test]
fn equal_work_is_planned_to_run_once() {
    let p = Project::new().file("a/f", "same").file("b/f", "same").file("c/f", "other");
    let on = |inputs: &str| p.task_with("t", &format!("inputs = {inputs}"), COPY);
    on(r#"["a/f", "b/f", "c/f"]"#).task("u", COPY);
    let first = plan(&p, &[]);
    assert_eq!((&first["to_run"], &first["shared"]), (&json!(2), &json!(1)));
    assert_eq!(of(&first, 0), json!([{ "new": 3 }, [], 0]));
    let text = p.run_with(["-n"]).ok().answers("3 new, 1 of them the same work as another");
    text.answers("1 step needs no run").answers("2 steps to run, and what comes of them");
    p.run().ok().ran(["t", "t", "u", "u"]);
    assert_eq!(plan(&p, &[])["settled"], true);
    // Work that is done already isn't run for another step either, unless it is forced.
    p.file("d/f", "same");
    on(r#"["a/f", "b/f", "c/f", "d/f"]"#);
    let more = plan(&p, &["--step", "t"]);
    assert_eq!(
        (&more["to_run"], &more["shared"], &more["settled"]),
        (&json!(0), &json!(1), &json!(false))
    );
    let forced = plan(&p, &["-B", "--step", "t"]);
    assert_eq!((&forced["to_run"], &forced["shared"]), (&json!(2), &json!(2)));
    p.run_with(["-B", "--step", "t"]).ok().ran(["t", "t"]);
}

#[test]
fn what_step_leaves_out_is_not_counted() {
    let p = fan();
    p.run().ok();
    p.file("in/3", "3\n").task_with("b", "env = { A = \"b\" }", COPY);
    let only = plan(&p, &["--step", "a"]);
    assert_eq!((&only["to_run"], &only["later"]), (&json!(1), &json!(0)));
    assert_eq!(
        (&only["tasks"][1]["left_out"], &only["tasks"][0]["left_out"]),
        (&json!(true), &json!(false))
    );
    p.run_with(["-n", "--step", "a"]).ok().answers("left out by --only");
}

#[test]
fn the_groups_that_are_to_come_are_counted_by_the_labels_that_are_known() {
    let p = Project::new();
    for name in ["A_1", "A_2", "B_1", "C_1"] {
        p.file(format!("in/{name}"), format!("{name}\n"));
    }
    let p = p.task_with("each", "inputs = [\"in/{sample}_{lane}\"]", COPY);
    // Nothing has run: what is to run has its labels already.
    let groups = "gather = [\"sample\"]";
    let with_groups = p.task_with("merge", groups, "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    assert_eq!(of(&plan(&with_groups, &[]), 1), json!([{}, [], 3]));
    let p = with_groups;
    p.run().ok();
    assert_eq!(of(&plan(&p, &[]), 1), json!([{}, [], 0]));
    // One group changes, and one is new.
    p.file("in/A_1", "changed\n").file("in/D_1", "new\n");
    let changed = plan(&p, &[]);
    assert_eq!(of(&changed, 0), json!([{ "input": 1, "new": 1 }, [], 0]));
    assert_eq!(of(&changed, 1), json!([{}, [], 2]));
    p.run().ok().ran(["each", "each", "merge", "merge"]);
    // All that another task is to gather is there.
    let p = p.task_with(
        "again",
        "from = [\"each\"]\ngather = [\"sample\"]",
        "ls $INPUT_DIR >$OUTPUT_DIR/all",
    );
    assert_eq!(of(&plan(&p, &[]), 2), json!([{}, [], 4]));
    p.run().ok().ran(["again", "again", "again", "again"]);
}
