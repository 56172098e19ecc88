//! `[defaults]`, and the interpreter that a task has if nothing is said.

use serde_json::json;

use crate::harness::Project;

#[test]
fn a_misspelt_variable_fails_the_step_instead_of_writing_somewhere_else() {
    let p =
        Project::new().manifest("[[task]]\nname = \"a\"\nscript = 'echo 1 > \"$OUTPUTDIR/x\"'\n");
    p.run().fails(1).says("exit code 2: `OUTPUTDIR` is not set; did you mean `OUTPUT_DIR`?");
    // The same without a mistake, and the old interpreter where it is asked for.
    p.manifest("[[task]]\nname = \"a\"\nshell = \"sh -e\"\nscript = 'echo \"[$NOWHERE]\" > \"$OUTPUT_DIR/x\"'\n");
    p.run().ok();
    assert_eq!(p.call(["cat", "a"]).ok().stdout, "[]\n");
}

#[test]
fn a_changed_default_reruns_the_tasks_that_have_it_and_plan_says_why() {
    let p = Project::new().task("a", "echo \"${MODE:-none}\" >$OUTPUT_DIR/x").task_with(
        "b",
        "env = { MODE = \"own\" }",
        "echo \"$MODE\" >$OUTPUT_DIR/y",
    );
    p.run().ok().ran(["a", "b"]);
    p.top("[defaults]\nenv = { MODE = \"fast\" }");
    let plan = p.run_with(["-n", "--json"]).ok().json();
    assert_eq!(plan["tasks"][0]["changes"], json!(["env MODE added"]));
    assert_eq!(plan["tasks"][1]["changes"], json!([]));
    p.run().ok().ran(["a", "b"]);
    assert_eq!(p.call(["cat", "a"]).ok().stdout, "fast\n");
    assert_eq!(p.call(["cat", "b"]).ok().stdout, "own\n");
    // No part of a recipe.
    p.top("[defaults]\nenv = { MODE = \"fast\" }\nretries = 2\ntimeout = \"1h\"");
    p.run().ok().ran([]);
    p.top("");
    p.run().ok().ran([]);
    assert_eq!(p.call(["cat", "a"]).ok().stdout, "none\n");
}

#[test]
fn retries_and_timeouts_hold_for_every_task_that_says_nothing_else() {
    let p = Project::new()
        .top("[defaults]\nretries = 2\nshell = \"sh -e\"")
        .task("a", "[ $ATTEMPT = 3 ] || exit 1; echo $UNSET >$OUTPUT_DIR/x")
        .task_with("b", "retries = 0", "exit 7");
    p.run().fails(1);
    assert_eq!(p.ledger(), ["a", "a", "a", "b x"]);
}
