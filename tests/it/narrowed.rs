//! `--step TASK[sample=A]`: a run, or a plan, of the steps with these labels.

use crate::harness::Project;

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
        .says("2 done, 0 failed, 3 left");
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
fn what_is_upstream_of_a_step_with_labels_is_not_run_for_it() {
    let p = samples();
    let first = "task `merge` can't run before `a`, which --step leaves out: add --step a\n";
    p.run_with(["--step", "merge[sample=A]"]).ok().ran([]).says(first);
    p.run_with(["--step", "a"]).ok();
    let ran = p.run_with(["--step", "merge[sample=A]"]).ok().ran_on(["merge A"]);
    assert!(!ran.stderr.contains("leaves out"), "{}", ran.stderr);
}

#[test]
fn all_that_a_step_waits_for_is_named_in_the_order_in_which_it_has_to_run() {
    let p = Project::new().file("in/1", "1\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task("b", COPY).task("c", COPY);
    p.run_with(["--step", "c"])
        .ran([])
        .says("before `a`, `b`, which --step leaves out: add --step a --step b\n");
    p.run_with(["--step", "a", "--step", "c"])
        .ran(["a"])
        .says("before `b`, which --step leaves out");
    p.run_with(["--step", "b", "--step", "c"]).ok().ran(["b", "c"]);
    // What failed has to run first as well.
    p.task("b", "false").run_with(["-q"]).fails(1);
    p.run_with(["--step", "c"]).ran([]).says("before `b`, which --step leaves out: add --step b\n");
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
