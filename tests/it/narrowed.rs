//! Choosing work: `--only`, of which `--step` is the older name, `--until`, `--redo`, `-C` and what is said of them.

use crate::harness::{Project, files};

const COPY: &str = "cp \"$INPUT_FILE\" \"$OUTPUT_DIR/$INPUT_NAME\"";

/// Two samples of two lanes, merged by sample.
fn samples() -> Project {
    let p = Project::new();
    for name in ["A_1", "A_2", "B_1", "B_2"] {
        p.file(format!("in/{name}"), format!("{name}\n"));
    }
    p.task_with("a", "inputs = [\"in/{sample}_{lane}\"]", COPY);
    p.task_with("merge", "gather = [\"sample\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample")
}

#[test]
fn step_with_labels_runs_the_steps_that_have_them_and_no_others() {
    let p = samples();
    p.run_with(["--step", "a[sample=A]"])
        .ok()
        .ran_on(["a A_1", "a A_2"])
        // Two of a, and one of merge for each sample.
        .says("2 done, 0 failed, 4 left");
    p.run_with(["--step", "a[sample=A]"]).ok().ran([]);
    // Several labels narrow, several options widen.
    p.run_with(["--step", "a[sample=B,lane=2]", "--step", "merge[sample=A]"])
        .ok()
        .ran_on(["a B_2", "merge A"]);
    p.run_with(["--step", "a[lane=2]", "--step", "a"]).ok().ran_on(["a B_1"]);
    p.run().ok().ran_on(["merge B"]);
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn what_is_left_out_is_no_part_of_how_far_a_run_is() {
    let p = Project::new();
    for name in ["1", "2", "3"] {
        p.file(format!("in/{name}"), name);
    }
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task("b", COPY).task("c", COPY);
    p.task_with("all", "gather = true", "true");
    let ran = p.run_with(["--only", "a", "--progress", "plain"]).ok();
    ran.says("to run: 3 steps so far").says("[3/3] ").says_nothing_of("/4]");
    let ran = p.run_with(["--until", "b", "--progress", "plain"]).ok();
    ran.says("to run: 3 steps so far").says("[3/3] ");
    p.run_with(["--until", "b"]).ok().says("nothing to run; 6 up to date");
    p.run_with(["--progress", "plain"]).ok().says("[4/4] ");
}

#[test]
fn what_is_upstream_of_a_step_with_labels_is_not_run_for_it() {
    let p = samples();
    let first = "task `merge` can't run before `a`, which --only leaves out: add --only a, or say --until merge";
    p.run_with(["--step", "merge[sample=A]"]).fails(1).ran([]).says(first);
    p.run_with(["--step", "a"]).ok();
    let ran = p.run_with(["--step", "merge[sample=A]"]).ok().ran_on(["merge A"]);
    assert!(!ran.stderr.contains("leaves out"), "{}", ran.stderr);
}

#[test]
fn all_that_a_step_waits_for_is_named_in_the_order_in_which_it_has_to_run() {
    let p = Project::new().file("in/1", "1\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task("b", COPY).task("c", COPY);
    p.run_with(["--step", "c"]).ran([]).says(
        "before `a`, `b`, which --only leaves out: add --only a --only b, or say --until c\n",
    );
    p.run_with(["--step", "a", "--step", "c"])
        .ran(["a"])
        .says("before `b`, which --only leaves out");
    p.run_with(["--step", "b", "--step", "c"]).ok().ran(["b", "c"]);
    // What failed has to run first as well.
    p.task("b", "false").run_with(["-q"]).fails(1);
    p.run_with(["--step", "c"])
        .ran([])
        .says("before `b`, which --only leaves out: add --only b, or say --until c\n");
}

#[test]
fn what_labels_leave_out_keeps_its_results_and_is_not_forced() {
    let p = samples();
    p.run().ok();
    p.run_with(["-B", "--step", "a[sample=A]"]).ok().ran_on(["a A_1", "a A_2"]);
    p.run().ok().ran([]).says("nothing to do");
    assert_eq!(p.exported("merge")["B"], "B_1\nB_2\n");
    p.task_with("a", "inputs = [\"in/{sample}_{lane}\"]\ncache = false", COPY);
    p.run_with(["--step", "a[sample=B]"]).ok().ran_on(["a B_1", "a B_2"]);
}

#[test]
fn plan_counts_only_the_steps_with_the_labels() {
    let p = samples();
    let plan = |args: &[&str]| p.call(["plan", "--json"].iter().chain(args)).ok().json();
    let of = |plan: &serde_json::Value, n: usize| {
        let task = &plan["tasks"][n];
        (task["new"].clone(), task["again"].clone(), task["left_out"].clone())
    };
    let first = plan(&["--step", "a[sample=A]"]);
    assert_eq!(of(&first, 0), (2.into(), 0.into(), false.into()));
    assert_eq!(first["to_run"], 2);
    assert_eq!(of(&first, 1).2, true);
    p.run().ok();
    assert_eq!(plan(&["--step", "a[sample=A]"])["settled"], true);
    let forced = plan(&["-B", "--step", "a[lane=1]"]);
    assert_eq!(of(&forced, 0), (0.into(), 2.into(), false.into()));
    p.call(["plan", "-B", "--step", "a[lane=1]"]).ok().answers("2 forced");
}

#[test]
fn a_label_that_no_step_can_have_is_refused_with_those_that_there_are() {
    let p = samples();
    for command in ["run", "plan"] {
        let step = |word: &str| p.call([command, "--step", word]).fails(2).ran([]);
        step("a[smple=A]").says("`a` have no label `smple`; did you mean `sample`?");
        step("merge[lane=1]").says("`merge` have no label `lane`; they have: sample");
        step("a[sample=C]").says("no step of `a` has sample=C; there are: sample=A; sample=B");
        step("merge[sample=C]").says("no step of `merge` has sample=C");
        step("a[sample=A,lane=3]")
            .says("no step of `a` has lane=3,sample=A; there are: lane=1,sample=A;");
        step("a[sample]").says("names no labels; write them as in TASK[sample=A,lr=0.1]");
        step("b[sample=A]").says("no task is called `b`; there are: a, merge");
    }
    p.run().ok();
    p.run_with(["--step", "merge[sample=C]"]).fails(2).says("there are: sample=A; sample=B");
    p.task("plain", COPY).task_with("all", "gather = true", "true");
    p.run_with(["--step", "all[sample=A]"]).fails(2).says("no label `sample`; they have none");
}

/// Three tasks in a row, and one beside them.
fn row() -> Project {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task("b", COPY).task("c", COPY);
    p.task_with("other", "from = []", "true")
}

#[test]
fn until_runs_a_task_with_all_that_it_needs_and_nothing_else() {
    let p = row();
    p.call(["plan", "--until", "b"]).ok().answers("left out by --only or --until");
    p.run_with(["--until", "b"]).ok().ran_on(["a 1", "a 2", "b 1", "b 2"]);
    p.run_with(["--until", "b"]).ok().ran([]);
    p.file("in/2", "two\n")
        .run_with(["--until", "b", "--only", "other"])
        .ok()
        .ran_on(["a 2", "b 2", "other"]);
    p.run().ok().ran_on(["c 1", "c 2"]);
    p.run_with(["--until", "d"]).fails(2).says("--until: no task is called `d`");
    samples().run_with(["--until", "a[sample=A]"]).fails(2).says("--only 'a[sample=A]'");
    // What it sees by `with` is needed too.
    let p = row().task_with("sees", "from = []\nwith = [\"b\"]", "cat $WITH_DIR/b/1");
    p.run_with(["--until", "sees"]).ok().ran_on(["a 1", "a 2", "b 1", "b 2", "sees"]);
}

#[test]
fn redo_runs_steps_again_and_only_what_comes_out_different_after_them() {
    let p = row();
    p.run().ok();
    p.call(["plan", "--redo", "a"]).ok().answers("2 forced");
    p.run_with(["--redo", "a"])
        .ok()
        .ran_on(["a 1", "a 2"])
        .says("total 7 steps: 7 done (5 reused)");
    p.run_with(["--redo", "b/2"]).ok().ran_on(["b 2"]);
    p.run_with(["--redo", "1", "--redo", "other"]).ok().ran_on(["a 1", "other"]);
    p.run().ok().says("nothing to do");
    p.run_with(["--redo", "d"]).fails(2).says("--redo: ").says("`d`");
    p.run_with(["--redo", "a", "-B"]).fails(2).says("drop it, or --redo");
    p.file("in/2", "two\n").run().ok();
    p.run_with(["--redo", "2"]).fails(2).says("step 2 a (2) is history");
    let p = samples();
    p.run().ok();
    p.run_with(["--redo", "a[sample=A]"]).ok().ran_on(["a A_1", "a A_2"]);
    p.run_with(["--redo", "merge[sample=B]"]).ok().ran_on(["merge B"]);
    p.run_with(["--redo", "a[smple=A]"]).fails(2).says("did you mean `sample`?");
}

#[test]
fn a_step_that_is_redone_and_fails_keeps_the_result_it_had() {
    let p = Project::new().task("a", "[ ! -e broken ]; echo 1 >$OUTPUT_DIR/x").task("b", COPY);
    p.run().ok();
    p.file("broken", "")
        .run_with(["--redo", "a"])
        .fails(1)
        .ran(["a"])
        .says("keeps the result it had");
    assert_eq!(p.exported("b"), files([("x", "1\n")]));
    p.run().ok().says("nothing to do");
}

#[test]
fn an_input_that_is_the_name_of_a_task_is_no_input() {
    let p = row();
    for command in ["run", "plan"] {
        p.call([command, "b"]).fails(2).says("`b` is a task: --only b runs it alone, --until b");
    }
    p.call(["run", "nope"]).fails(2).says_nothing_of("is a task");
    p.file("b", "").call(["plan", "b"]).ok();
}

#[test]
fn a_run_can_begin_in_another_folder() {
    let p = row();
    p.file("sub/x", "");
    p.cmd(["-C", "..", "-q"])
        .dir("sub")
        .go()
        .ok()
        .ran_on(["a 1", "a 2", "b 1", "b 2", "c 1", "c 2", "other"]);
    p.cmd(["-C..", "status"]).dir("sub").go().ok().answers("7 done");
    p.call(["-C", "no-such", "status"]).fails(2).says("can't go to `no-such`");
    p.call(["-C"]).fails(2).says("`-C` needs a folder");
    p.call(["status", "-C", "sub"]).fails(2).says("task-pipeline -C DIR status");
    p.cmd(["run", "-f", "../pipeline.toml", "-db", "../db"]).dir("sub").go().ok().ran([]);
}

#[test]
fn what_only_leaves_out_and_redo_names_is_refused() {
    let p = samples();
    p.run().ok();
    for command in ["run", "plan"] {
        let refused = |args: &[&str], word: &str, add: &str| {
            p.call([command].iter().chain(args))
                .fails(2)
                .ran([])
                .says(&format!("--redo: `{word}` is none of what --only names"))
                .says(&format!("add --only {add}, or drop --redo {word}"));
        };
        refused(&["--only", "a", "--redo", "merge"], "merge", "merge");
        refused(&["--only", "a[sample=A]", "--redo", "a[sample=B]"], "a[sample=B]", "a");
        refused(&["--only", "a[sample=A]", "--redo", "a/B_1"], "a/B_1", "a");
    }
    p.call(["plan", "--until", "a", "--redo", "merge"]).fails(2).says("what --until names");
    p.run_with(["--only", "a[sample=A]", "--redo", "a[lane=2]"]).ok().ran_on(["a A_2"]);
    p.run_with(["--only", "a[sample=A]", "--redo", "a/A_1"]).ok().ran_on(["a A_1"]);
}
