//! Section 13, `inputs` with exclusions: what they leave out is as if it were not there.

use serde_json::json;

use crate::harness::{Project, chmod};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/x""#;

fn project(inputs: &str) -> Project {
    let p = Project::new().file("src/a.c", "a").file("src/b.c", "b").file("src/old/c.c", "c");
    p.task_with("a", &format!("inputs = [{inputs}]"), COPY)
}

#[test]
fn what_is_left_out_has_no_step_wherever_the_exclusion_stands() {
    project(r#""src/*.c", "!src/b.c""#).run().ok().ran_on(["a a.c"]);
    project(r#""!src/b.c", "src/*.c""#).run().ok().ran_on(["a a.c"]);
    project(r#""src/**/*.c", "!./src/old/""#).run().ok().ran_on(["a a.c", "a b.c"]);
    project(r#""src/**/*.c", "!src/old""#).run().ok().ran_on(["a a.c", "a b.c"]);
    project(r#""src/**/*.c", "!**/[bc].c""#).run().ok().ran_on(["a a.c"]);
    project(r#""src/a.c", "src/b.c", "!src/a*""#).run().ok().ran_on(["a b.c"]);
    project(r#""src/*.c", "!src/*""#).run().ok().ran_on([]).says_nothing_of("leaves no file out");
}

#[test]
fn to_leave_out_one_more_or_one_less_runs_or_retires_just_that() {
    let p = project(r#""src/**/*.c""#);
    p.run().ok().ran_on(["a a.c", "a b.c", "a old/c.c"]);
    let with = |inputs: &str| p.task_with("a", &format!("inputs = [{inputs}]"), COPY);
    with(r#""src/**/*.c", "!src/b.c""#);
    p.call(["plan"]).ok().answers("0 steps to run");
    p.run().ok().ran([]).says("1 no longer needed");
    assert_eq!(p.sql("SELECT name FROM step WHERE live = 1 ORDER BY name"), ["a.c", "old/c.c"]);
    p.file("src/b.c", "new").run().ok().says("nothing to do");
    with(r#""src/**/*.c", "!src/old/""#).run().ok().ran_on(["a b.c"]);
    p.run().ok().says("nothing to do");
    // One changed file costs no second look at the others; it is left out there too.
    p.file("src/a.c", "aa").file("src/old/d.c", "d").run().ok().ran_on(["a a.c"]);
}

#[test]
fn an_exclusion_that_leaves_nothing_out_is_a_warning() {
    let told = "task `a`: `!src/none.c` in `inputs` leaves no file out";
    project(r#""src/a.c", "!src/none.c", "!src/old/""#)
        .run()
        .ok()
        .says(told)
        .says("`!src/old/` in `inputs` leaves no file out");
    let p = project(r#""src/**/*.c", "!src/none.c", "!src/old/""#);
    p.run().ok().says(told).says_nothing_of("!src/old/");
    p.run().ok().says(told).says("nothing to do");
}

#[test]
fn a_name_that_begins_with_an_exclamation_mark_can_be_an_input() {
    let p = Project::new().file("!x", "1").file("y", "2");
    p.task_with("a", "inputs = [\"./!x\"]", COPY).run().ok().ran_on(["a !x"]);
    p.task_with("a", "inputs = [\"?x\", \"!!x\"]", COPY).run().ok().ran_on([]);
}

#[test]
fn a_folder_that_is_left_out_need_not_be_readable() {
    let p = project(r#""src/**/*.c", "!src/old/""#);
    chmod(&p.path("src/old"), 0);
    p.run().ok().ran_on(["a a.c", "a b.c"]);
    chmod(&p.path("src/old"), 0o755);
}

#[test]
fn the_graph_shows_what_is_left_out() {
    let p = project(r#""src/*.c", "!src/b.c""#);
    let inputs = |args: &[&str]| p.call(args).ok().json()["tasks"][0]["inputs"].clone();
    let expected = json!(["src/*.c", "!src/b.c"]);
    assert_eq!(inputs(&["graph", "--json", "--manifest", "pipeline.toml"]), expected);
    p.run().ok();
    assert_eq!(inputs(&["graph", "--json"]), expected);
    p.call(["graph"]).ok().answers("<- src/*.c, !src/b.c");
}

#[test]
fn exclusions_that_leave_nothing_are_told() {
    for exclusion in ["in/", "../HERE/in/a"] {
        let p = Project::new().file("in/a", "a");
        let root = p.root().to_owned();
        let here = root.file_name().unwrap().to_str().unwrap();
        let exclusion = exclusion.replace("HERE", here);
        p.task_with("t", &format!("inputs = [\"in/*\", \"!{exclusion}\"]"), "true");
        p.run()
            .ok()
            .ran([])
            .says("the exclusions in `inputs` leave out every file that the rest matches");
    }
}

#[test]
fn an_exclusion_can_not_capture() {
    let p = Project::new().task_with("t", "inputs = [\"in/{k}\", \"!in/{k}.bak\"]", "true");
    p.run().fails(2).says("an exclusion can't capture").says("write `*` for it");
}
