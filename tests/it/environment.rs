//! `env_from` and `clean_env`: what a script has of the caller's variables, and what of that its results depend on.

use std::collections::BTreeSet;

use serde_json::json;

use crate::harness::{Project, Ran, chmod};

/// A task that depends on the caller's STR, and one after it that doesn't.
fn project() -> Project {
    Project::new()
        .task_with("a", "env_from = [\"STR\"]", "echo \"${STR-unset}\" >$OUTPUT_DIR/x")
        .task("b", "echo b >$OUTPUT_DIR/y")
}

/// Runs with this value of STR.
fn run(p: &Project, value: Option<&str>, args: &[&str]) -> Ran {
    let call = p.run_cmd(args);
    match value {
        Some(value) => call.env("STR", value).go(),
        None => call.go(),
    }
}

#[track_caller]
fn runs<const N: usize>(p: &Project, value: Option<&str>, tasks: [&str; N], expected: &str) {
    run(p, value, &[]).ok().ran(tasks);
    assert_eq!(p.call(["cat", "a"]).ok().stdout, format!("{expected}\n"));
}

#[test]
fn a_variable_of_the_callers_is_passed_and_its_value_is_part_of_the_recipe() {
    let p = project();
    runs(&p, Some("one"), ["a", "b"], "one");
    runs(&p, Some("one"), [], "one");
    runs(&p, Some("two"), ["a", "b"], "two");
    // What was made with the first value comes back with it.
    runs(&p, Some("one"), [], "one");
}

#[test]
fn unset_is_different_from_empty() {
    let p = project();
    runs(&p, None, ["a", "b"], "unset");
    runs(&p, Some(""), ["a", "b"], "");
    runs(&p, None, [], "unset");
}

#[test]
fn plan_and_explain_name_the_variable_and_keep_its_value_to_themselves() {
    let p = project();
    runs(&p, Some("s3cret"), ["a", "b"], "s3cret");
    let plan = |value: Option<&str>| {
        run(&p, value, &["-n", "--json"]).ok().json()["tasks"][0]["changes"].clone()
    };
    assert_eq!(plan(Some("s3cret")), json!([]));
    assert_eq!(plan(Some("0ther")), json!(["env_from STR changed"]));
    assert_eq!(plan(None), json!(["env_from STR was set and is unset"]));
    runs(&p, Some("0ther"), ["a", "b"], "0ther");
    let told = p.call(["explain", "a"]).ok().answers("env_from STR changed").stdout;
    let fields = p.call(["explain", "a", "--json"]).ok().json().to_string();
    assert!(fields.contains("env_from STR"), "{fields}");
    for text in [told, fields] {
        assert!(!text.contains("s3cret") && !text.contains("0ther"), "{text}");
    }
    p.task("a", "echo \"${STR-unset}\" >$OUTPUT_DIR/x");
    assert_eq!(plan(Some("0ther")), json!(["env_from STR removed"]));
}

/// Spoils an output that has this name.
fn spoil(p: &Project, name: &str) {
    let object = p.sql(&format!(
        "SELECT lower(hex(o.object)) FROM output o JOIN step s ON s.id = o.step WHERE s.live = 1 AND o.name = '{name}'"
    ));
    chmod(&p.object(&object[0]), 0o644);
    std::fs::write(p.object(&object[0]), "damaged").unwrap();
}

#[test]
fn a_repair_gives_the_script_the_value_that_it_had_whoever_repairs() {
    for value in [Some("one"), None] {
        let p = project();
        runs(&p, value, ["a", "b"], value.unwrap_or("unset"));
        spoil(&p, "x");
        p.cmd(["repair"]).env("STR", "two").go().ok().answers("made again by step");
        assert_eq!(p.call(["cat", "a"]).ok().stdout, format!("{}\n", value.unwrap_or("unset")));
    }
}

#[test]
fn a_variable_of_the_task_itself_goes_before_a_default() {
    let p = Project::new()
        .top("[defaults]\nenv = { STR = \"default\" }\nenv_from = [\"OTHER\"]")
        .task_with("a", "env_from = [\"STR\"]", "echo \"$STR $OTHER\" >$OUTPUT_DIR/x")
        .task_with("b", "env = { OTHER = \"own\" }", "echo \"$STR $OTHER\" >$OUTPUT_DIR/x")
        .task("c", "echo \"$STR $OTHER\" >$OUTPUT_DIR/x");
    p.run_cmd([""; 0]).env("STR", "callers").env("OTHER", "others").go().ok();
    for (task, expected) in [("a", "callers others"), ("b", "default own"), ("c", "default others")]
    {
        assert_eq!(p.call(["cat", task]).ok().stdout, format!("{expected}\n"));
    }
}

/// Names of the variables that a script has, but for those that a shell sets itself.
const NAMES: &str = r"env | sed -n 's/^\([A-Za-z_0-9]*\)=.*/\1/p' | grep -vxE 'PWD|OLDPWD|SHLVL|_' >$OUTPUT_DIR/names";

const OWN: [&str; 9] = [
    "ATTEMPT",
    "CPUS",
    "INPUT_FILE",
    "INPUT_NAME",
    "OUTPUT_DIR",
    "STEP_ID",
    "STEP_KEY",
    "TASK_NAME",
    "TMPDIR",
];

#[test]
fn in_a_clean_environment_there_is_what_the_task_names_and_nothing_else() {
    let expected = OWN.iter().chain(&["PATH", "HOME", "LANG", "MINE", "STR", "seed", "lane"]);
    let expected: BTreeSet<String> = expected.map(|name| (*name).to_owned()).collect();
    for (launch, sandbox) in [("spawn", ""), ("fork", ""), ("fork", "sandbox = true")] {
        if !sandbox.is_empty() && !crate::sandbox::can_confine() {
            continue;
        }
        let p = Project::new();
        p.manifest(&format!(
            "[params]\nseed = 1\n[[task]]\nname = \"a\"\ninputs = [\"in/{{lane}}\"]\nclean_env = true\n\
             env = {{ MINE = \"1\" }}\nenv_from = [\"STR\", \"NOWHERE\"]\nparams = [\"seed\"]\n{sandbox}\n\
             script = '''{NAMES}'''\n"
        ));
        for lane in ["1", "2", "3", "4"] {
            p.file(format!("in/{lane}"), lane);
        }
        let call = p.run_cmd(["--launch", launch, "-j1"]).env("STR", "s").env("LANG", "C");
        call.env("SECRET", "x").env("LC_ALL", "C").env("MAKEFLAGS", "-j").go().ok();
        for lane in ["1", "2", "3", "4"] {
            let names = p.call(["cat", &format!("a[lane={lane}]")]).ok().stdout;
            let names: BTreeSet<String> = names.lines().map(str::to_owned).collect();
            assert_eq!(names, expected, "{launch} {sandbox}, {lane}");
        }
    }
}

#[test]
fn a_clean_environment_is_part_of_the_recipe_and_a_repair_keeps_it() {
    let script = "echo \"${SECRET-none}\" >$OUTPUT_DIR/x";
    let p = Project::new().task("a", script);
    let run = || p.run_cmd([""; 0]).env("SECRET", "x").go().ok();
    run().ran(["a"]);
    p.task_with("a", "clean_env = true", script);
    let plan = p.run_with(["-n", "--json"]).ok().json();
    assert_eq!(plan["tasks"][0]["changes"], json!(["clean_env turned on"]));
    run().ran(["a"]);
    assert_eq!(p.call(["cat", "a"]).ok().stdout, "none\n");
    spoil(&p, "x");
    p.cmd(["repair"]).env("SECRET", "y").go().ok().answers("made again by step");
    p.task("a", script);
    run().ran([]);
    assert_eq!(p.call(["cat", "a"]).ok().stdout, "x\n");
}

#[test]
fn what_can_be_no_variable_of_the_callers_is_refused() {
    for (keys, told) in [
        ("env_from = \"STR\"", "`env_from` must be a list of strings"),
        ("env_from = [\"$STR\"]", "`env_from` takes names, not values"),
        ("env_from = [\"A=B\"]", "`A=B` can't be the name of a variable"),
        ("env_from = [\"A\", \"A\"]", "`A` is in this `env_from` already"),
        ("env_from = [\"OUTPUT_DIR\"]", "`OUTPUT_DIR` is set by task-pipeline itself"),
        ("env_from = [\"MAKEFLAGS\"]", "`MAKEFLAGS` is make's, and no script gets it"),
        ("env = { A = \"1\" }\nenv_from = [\"A\"]", "`A` is in `env` and in `env_from`"),
        (
            "inputs = [\"{a}\"]\nenv_from = [\"a\"]",
            "`env_from` sets a, which is a label of its steps",
        ),
        ("clean_env = \"yes\"", "`clean_env` must be true or false"),
    ] {
        let p = Project::new().task_with("t", keys, "true");
        p.run().fails(2).says("pipeline.toml:").says(told).says("^");
    }
    let p = Project::new().task_with("t", "env_from = [\"STR\"]", "true");
    let ran = p.run_cmd([""; 0]).env_bytes("STR", b"\xff").go();
    ran.fails(2).says("pipeline.toml:3:13: the value that `STR` has is not UTF-8");
}
