//! Section 13, `[params]`: defaults, what overrides them, and whose recipe they are part of.

use serde_json::json;

use crate::harness::Project;

/// Two tasks, of which one has the seed.
fn project() -> Project {
    project_with("seed = 42")
}

fn project_with(params: &str) -> Project {
    let task = |name: &str, keys: &str, script: &str| {
        let ledger = r#"printf '%s %s\n' "$TASK_NAME" "$INPUT_NAME" >>ledger"#;
        format!("[[task]]\nname = \"{name}\"\n{keys}\nscript = '''\n{ledger}\n{script}\n'''\n")
    };
    let text = format!("[params]\n{params}\n")
        + &task("plain", "", "echo x >$OUTPUT_DIR/x")
        + &task("drawn", "params = [\"seed\"]", "echo \"$seed\" >$OUTPUT_DIR/seed");
    Project::new().manifest(&text)
}

#[track_caller]
fn seed(p: &Project, expected: &str) {
    assert_eq!(p.call(["cat", "drawn"]).ok().stdout, format!("{expected}\n"));
}

#[test]
fn a_param_is_part_of_the_recipes_of_the_tasks_that_name_it_and_of_no_other() {
    let p = project();
    p.run().ok().ran(["plain", "drawn"]);
    seed(&p, "42");
    p.run_with(["-P", "seed=7"]).ok().ran(["drawn"]);
    seed(&p, "7");
    p.run_with(["-P", "seed=7"]).ok().says("nothing to do");
}

#[test]
fn what_the_command_line_says_is_not_remembered_and_the_defaults_results_come_back() {
    let p = project();
    p.run().ok();
    p.run_with(["-P", "seed=7"]).ok().ran(["drawn"]);
    p.run().ok().ran([]);
    seed(&p, "42");
}

#[test]
fn the_later_override_wins_and_all_win_over_the_file() {
    let p = project_with("seed = 1\nmode = \"a\"");
    p.file("mine.toml", "seed = 2\n# more\nmode = true\n");
    let by = |args: &[&str]| {
        p.run_with(args).ok();
        p.call(["cat", "drawn"]).ok().stdout
    };
    assert_eq!(by(&["--params", "mine.toml"]), "2\n");
    assert_eq!(by(&["-Pseed=3", "--params", "mine.toml"]), "3\n");
    p.file("yours.toml", "seed = 4\n");
    assert_eq!(by(&["--params", "yours.toml", "--params", "mine.toml"]), "2\n");
    assert_eq!(by(&["--params", "mine.toml", "--params", "yours.toml"]), "4\n");
    assert_eq!(by(&["-P", "seed=3", "-P", "seed=4"]), "4\n");
    assert_eq!(by(&["-P", "seed=a=b c"]), "a=b c\n");
    assert_eq!(by(&["--param=seed="]), "\n");
}

#[test]
fn an_override_of_what_is_no_param_is_refused_with_what_was_meant() {
    let p = project();
    let sead = "-P: no param is called `sead`; did you mean `seed`?";
    p.run_with(["-P", "sead=7"]).fails(2).says(sead);
    p.run_with(["-P", "x=1", "-P", "y=1"]).fails(2).says("called `x`").says("called `y`");
    p.run_with(["-P", "seed"]).fails(2).says("-P seed=7");
    p.run_with(["-Pstep=7"]).fails(2).says("no param is called `step`");
    assert!(!p.path("db").exists());
    let p = Project::new().task("a", "true");
    p.run_with(["-P", "seed=7"]).fails(2).says("add its default at the top of the manifest");
}

#[test]
fn a_file_of_params_tells_its_mistakes_with_their_places() {
    let p = project().file("mine.toml", "seed = [1]\nsead = 1\n");
    let with = |file: &str| p.run_with(["--params", file]).fails(2);
    with("mine.toml")
        .says("mine.toml:1:8: `seed` must be a string, a number, true or false, not a list")
        .says("mine.toml:2:1: no param of the manifest is called `sead`")
        .says("did you mean `seed`?")
        .says("^^^^");
    p.file("mine.toml", "[params]\nseed = 1\n");
    with("mine.toml").says("take the header out");
    with("none.toml").says("none.toml: there is no such file").says("--params FILE");
    with(".").says("this is a folder, not a file of params");
    p.file("mine.toml", "seed = \n");
    with("mine.toml").says("mine.toml:1:");
}

#[test]
fn plan_and_explain_name_the_param_that_changed() {
    let p = project();
    p.run().ok();
    let plan = p.call(["plan", "-P", "seed=7"]).ok();
    plan.answers("1 param seed was 42 and is 7").answers("1 step to run");
    p.call(["explain", "drawn", "--manifest", "pipeline.toml", "-P", "seed=7"])
        .ok()
        .answers("has another recipe: param seed was 42 and is 7, so the next run makes new steps");
    p.call(["explain", "drawn", "-P", "seed=7"]).ok().answers("param seed was 42 and is 7");
    p.run_with(["-P", "seed=7"]).ok().ran(["drawn"]);
    let explained = p.call(["explain", "drawn/x", "--json"]).ok().json();
    assert_eq!(explained["sentence"], "ran in run 2 because param seed was 42 and is 7");
    let fields = explained["recipe"].as_array().unwrap();
    let param = fields.iter().find(|field| field["field"] == "param seed").unwrap();
    let expected = json!({ "field": "param seed", "before": "42", "now": "7", "changed": true });
    assert_eq!(*param, expected);
}

#[test]
fn repair_gives_a_step_the_values_that_it_had() {
    let p = project();
    p.run_with(["-P", "seed=7"]).ok();
    let hash = p.sql("SELECT lower(hex(object)) FROM output WHERE name = 'seed'").remove(0);
    std::fs::remove_file(p.object(&hash)).unwrap();
    p.call(["repair"]).ok().answers("made again by step");
    seed(&p, "7");
}

#[test]
fn the_graph_shows_which_params_a_task_has() {
    let p = project();
    let params = |args: &[&str]| {
        let graph = p.call(args).ok().json();
        let tasks = graph["tasks"].as_array().unwrap();
        tasks.iter().map(|task| task["params"].clone()).collect::<Vec<_>>()
    };
    let expected = [json!([]), json!(["seed"])];
    assert_eq!(params(&["graph", "--json", "--manifest", "pipeline.toml"]), expected);
    p.run().ok();
    assert_eq!(params(&["graph", "--json"]), expected);
    p.call(["graph"]).ok().answers("<- plain  $seed");
    p.call(["graph", "--format", "dot"]).ok().answers("\\n$seed\"");
    p.call(["graph", "--format", "mermaid"]).ok().answers("<br/>$seed\"]");
}

#[test]
fn a_param_that_is_a_label_too_is_a_mistake_also_where_the_label_is_inherited() {
    for (keys, below) in [
        ("inputs = [\"in/{seed}\"]\nparams = [\"seed\"]", ""),
        ("inputs = [\"in/*\"]\nmatrix = { seed = [1] }\nparams = [\"seed\"]", ""),
        ("inputs = [\"in/{seed}\"]", "params = [\"seed\"]"),
    ] {
        let task = |name: &str, keys: &str| {
            format!("[[task]]\nname = \"{name}\"\n{keys}\nscript = 'true'\n")
        };
        let text = format!("[params]\nseed = 1\n{}{}", task("a", keys), task("b", below));
        let p = Project::new().file("in/1", "1").manifest(&text);
        p.run().fails(2).says("`seed` is a param and a label of its steps").says("another name");
    }
}
