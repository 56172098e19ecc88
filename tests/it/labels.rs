//! Section 12: labels, from captures and a matrix; groups that fire as soon as they are complete.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::json;

use crate::harness::{Project, WAIT_FOR_GO, files, wait_for};

const COPY: &str = "cp \"$INPUT_FILE\" \"$OUTPUT_DIR/$INPUT_NAME\"";

/// Four files of two samples and two lanes.
fn reads() -> Project {
    let p = Project::new();
    for name in ["A_1", "A_2", "B_1", "B_2"] {
        p.file(format!("reads/{name}.fastq"), format!("{name}\n"));
    }
    p
}

const READS: &str = "inputs = [\"reads/{sample}_{lane}.fastq\"]";

#[test]
fn a_capture_in_inputs_is_a_label_and_a_variable_of_the_script() {
    let p = reads().task_with("a", READS, "echo $sample-$lane >$OUTPUT_DIR/$sample.$lane");
    p.run().ok().ran(["a", "a", "a", "a"]);
    let expected = [("A.1", "A-1\n"), ("A.2", "A-2\n"), ("B.1", "B-1\n"), ("B.2", "B-2\n")];
    assert_eq!(p.exported("a"), files(expected));
    assert_eq!(
        p.sql("SELECT labels FROM step ORDER BY name LIMIT 1"),
        ["{\"lane\":\"1\",\"sample\":\"A\"}"]
    );
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn a_label_never_hides_a_variable_of_the_caller_from_a_step_without_it() {
    let p = Project::new().file("in/x.txt", "").file("in/x_1.csv", "");
    p.task_with(
        "a",
        "inputs = [\"in/*.txt\", \"in/{sample}_{lane}.csv\"]",
        "echo \"${sample-none}\" >$OUTPUT_DIR/$INPUT_NAME",
    );
    p.run_cmd(["-j1"]).env("sample", "mine").go().ok();
    assert_eq!(p.exported("a"), files([("x.txt", "mine\n"), ("x_1.csv", "x\n")]));
}

#[test]
fn an_output_has_the_labels_of_the_step_that_left_it() {
    let p = reads().task_with("a", READS, COPY).task("b", "echo $sample >$OUTPUT_DIR/$INPUT_NAME");
    p.task("c", "echo $lane >$OUTPUT_DIR/$INPUT_NAME");
    p.run().ok();
    assert_eq!(p.exported("c")["A_2.fastq"], "2\n");
}

#[test]
fn a_capture_in_match_adds_a_label_or_is_a_join_on_one_that_is_there() {
    let p = reads().task_with(
        "a",
        READS,
        "echo 1 >$OUTPUT_DIR/A.bam; echo 2 >$OUTPUT_DIR/B.bam; echo 3 >$OUTPUT_DIR/$sample.k.idx",
    );
    p.task_with("own", "match = [\"{sample}.bam\"]", "echo $sample >$OUTPUT_DIR/$sample.$lane");
    p.task_with(
        "kind",
        "from = [\"a\"]\nmatch = [\"*.{kind}.idx\"]",
        "echo $kind >$OUTPUT_DIR/$sample.$lane",
    );
    p.run().ok();
    // Each step takes only what is called like its own sample.
    let own = p.exported("own");
    assert_eq!(own.keys().collect::<Vec<_>>(), ["A.1", "A.2", "B.1", "B.2"]);
    assert_eq!(p.exported("kind")["B.2"], "k\n");
}

#[test]
fn a_matrix_makes_one_step_per_input_and_combination() {
    let p = Project::new().file("in/x", "x\n").file("in/y", "y\n").task_with(
        "fit",
        "inputs = [\"in/*\"]\nmatrix = { lr = [\"0.1\", 0.01], depth = [3, 5] }",
        "echo $lr $depth >\"$OUTPUT_DIR/$INPUT_NAME-$lr-$depth\"",
    );
    p.run().ok();
    let got = p.exported("fit");
    assert_eq!(got.len(), 8);
    assert_eq!(got["y-0.01-5"], "0.01 5\n");
    // One more value runs what is new, one less runs nothing, and back again neither.
    let with = |values: &str| {
        let keys = format!("inputs = [\"in/*\"]\nmatrix = {{ lr = [{values}], depth = [3, 5] }}");
        p.task_with("fit", &keys, "echo $lr $depth >\"$OUTPUT_DIR/$INPUT_NAME-$lr-$depth\"");
        p.run().ok()
    };
    with("\"0.1\", 0.01, 1").ran(["fit"; 4]);
    with("1").ran([]);
    assert_eq!(p.exported("fit").len(), 4);
    with("\"0.1\", 0.01, 1").ran([]);
    assert_eq!(p.exported("fit").len(), 12);
}

#[test]
fn labels_are_part_of_step_key_and_a_step_without_any_keeps_the_key_it_had() {
    let p = Project::new().file("in/x", "x\n").task_with("a", "inputs = [\"in/*\"]", COPY);
    p.run().ok();
    let key = || p.sql("SELECT key FROM step WHERE live = 1");
    let without = key();
    p.task_with("a", "inputs = [\"in/{name}\"]", COPY).run().ok().ran(["a"]);
    assert_ne!(key(), without);
    p.task_with("a", "inputs = [\"in/?\"]", COPY).run().ok().ran([]);
    assert_eq!(key(), without);
}

#[test]
fn gather_by_a_label_makes_one_step_of_each_value() {
    let p = reads().task_with("a", READS, COPY).task_with(
        "merge",
        "gather = [\"sample\"]",
        "cat \"$INPUT_DIR\"/* >$OUTPUT_DIR/$sample.txt; echo \"$INPUT_NAME ${lane-}\" >$OUTPUT_DIR/$sample.name",
    );
    p.task_with("all", "gather = true\nmatch = [\"*.txt\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    p.run().ok().ran(["a", "a", "a", "a", "merge", "merge", "all"]);
    assert_eq!(p.exported("merge")["B.txt"], "B_1\nB_2\n");
    assert_eq!(p.exported("merge")["B.name"], "B \n");
    assert_eq!(p.exported("all"), files([("all", "A_1\nA_2\nB_1\nB_2\n")]));
    p.run().ok().ran([]).says("nothing to do");
    // Only the group of what changed runs again.
    p.file("reads/B_2.fastq", "new\n").run().ok().ran(["a", "merge", "all"]);
    assert_eq!(p.exported("all"), files([("all", "A_1\nA_2\nB_1\nnew\n")]));
    // A group without members is gone; one that is new is made.
    p.remove("reads/B_1.fastq").remove("reads/B_2.fastq").file("reads/C_1.fastq", "C\n");
    p.run().ok().ran(["a", "merge", "all"]);
    assert_eq!(p.exported("all"), files([("all", "A_1\nA_2\nC\n")]));
}

#[test]
fn gather_by_several_labels_names_its_steps_by_their_values() {
    let p = reads().file("reads/A_1.more", "more\n");
    p.task_with("a", "inputs = [\"reads/{sample}_{lane}.*\"]", COPY);
    p.task_with(
        "g",
        "gather = [\"lane\", \"sample\"]",
        "cat $INPUT_DIR/* >$OUTPUT_DIR/$INPUT_NAME",
    );
    p.run().ok();
    let got = p.exported("g");
    assert_eq!(got.keys().collect::<Vec<_>>(), ["1/A", "1/B", "2/A", "2/B"]);
    assert_eq!(got["1/A"], "A_1\nmore\n");
}

#[test]
fn input_name_of_a_group_is_a_path_below_output_dir_whatever_its_values_are() {
    let outputs_of = |values: &[&str]| {
        let p = Project::new();
        p.task_with("a", &format!("matrix = {{ k = {values:?} }}"), "echo >$OUTPUT_DIR/x");
        p.task_with("g", "gather = [\"k\"]", "printf %s \"$k\" >\"$OUTPUT_DIR/$INPUT_NAME\"");
        p.run().ok();
        p.exported("g")
    };
    let expected = [("%", ""), ("%2E", "."), ("%2E%2E", ".."), ("a/%/b", "a//b"), ("c", "c")];
    assert_eq!(outputs_of(&["", ".", "..", "a//b", "c"]), files(expected));
    assert_eq!(outputs_of(&["/x"]), files([("%/x", "/x")]));
    let long = "x".repeat(300);
    let got = outputs_of(&[&long]);
    let (name, value) = got.last_key_value().unwrap();
    assert!(name.starts_with("xxx") && name.len() < 255 && *value == long, "{name}");
}

#[test]
fn a_join_of_two_tasks_brings_together_what_has_one_value() {
    let p = Project::new();
    for name in ["tumor/1", "tumor/2", "normal/1", "normal/2"] {
        p.file(format!("{name}.bam"), format!("{name}\n"));
    }
    p.task_with("tumor", "inputs = [\"tumor/{patient}.bam\"]", COPY);
    p.task_with("normal", "inputs = [\"normal/{patient}.bam\"]", COPY);
    p.task_with(
        "call",
        "from = [\"tumor\", \"normal\"]\ngather = [\"patient\"]",
        "cat $INPUT_DIR/tumor/$patient.bam $INPUT_DIR/normal/$patient.bam >$OUTPUT_DIR/$patient",
    );
    p.run().ok();
    let expected = [("1", "tumor/1\nnormal/1\n"), ("2", "tumor/2\nnormal/2\n")];
    assert_eq!(p.exported("call"), files(expected));
}

#[test]
fn a_group_runs_while_steps_of_other_groups_are_pending() {
    let p = reads().task_with(
        "a",
        READS,
        "[ $sample = A ] || while ! [ -e go ]; do sleep 0.01; done\ncp $INPUT_FILE $OUTPUT_DIR/",
    );
    p.task_with(
        "merge",
        "gather = [\"sample\"]",
        "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample; echo $sample >>merged",
    );
    let run = p.run_cmd(["-j3"]).start();
    // The shell makes the file before it writes to it.
    let merged = || fs::read_to_string(p.path("merged")).unwrap_or_default();
    wait_for("the first group", || !merged().is_empty());
    assert_eq!(merged(), "A\n");
    p.file("go", "");
    run.end().ok();
    assert_eq!(p.exported("merge").len(), 2);
}

#[test]
fn a_failed_step_holds_only_its_own_group_and_one_without_a_value_holds_all() {
    let p = reads().task_with(
        "a",
        READS,
        "[ $sample = A ] || [ -e cured ]; cp $INPUT_FILE $OUTPUT_DIR/",
    );
    p.task_with("merge", "gather = [\"sample\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample");
    p.run_with(["-k"]).fails(1).ran(["a", "a", "a", "a", "merge"]).says("task merge waits");
    p.file("cured", "").run().ok().ran(["a", "a", "merge"]);
    // The second task learns the value only from its outputs.
    let p = Project::new().file("in/1", "").file("in/2", "");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        "[ $INPUT_NAME = 1 ] || [ -e cured ]; echo $INPUT_NAME >$OUTPUT_DIR/s.$INPUT_NAME",
    );
    p.task_with(
        "merge",
        "match = [\"s.{sample}\"]\ngather = [\"sample\"]",
        "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample",
    );
    p.run_with(["-k"]).fails(1).ran(["a", "a"]).says("task merge waits");
    p.file("cured", "").run().ok().ran(["a", "merge", "merge"]);
}

#[test]
fn a_group_may_follow_a_group() {
    let p = reads().task_with("a", READS, COPY);
    p.task_with("pair", "gather = [\"sample\", \"lane\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/$lane");
    p.task_with("sample", "gather = [\"sample\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample");
    p.task("end", COPY);
    p.run().ok();
    assert_eq!(p.exported("end"), files([("A", "A_1\nA_2\n"), ("B", "B_1\nB_2\n")]));
    p.file("reads/A_1.fastq", "new\n").run().ok().ran(["a", "pair", "sample", "end"]);
    assert_eq!(p.exported("end")["A"], "new\nA_2\n");
}

#[test]
fn a_key_that_some_path_to_a_gather_cannot_define_is_a_mistake_found_without_running() {
    let p = Project::new().task_with("a", "inputs = [\"in/{sample}.x\"]", COPY);
    p.task_with("b", "inputs = [\"other/*\"]", COPY);
    p.task_with("g", "from = [\"a\", \"b\"]\ngather = [\"sample\"]", "true");
    p.run()
        .fails(2)
        .says("the outputs of `b` have no label `sample` to gather by")
        .says("pipeline.toml:");
    p.task_with("g", "from = [\"a\"]\ngather = [\"simple\"]", "true");
    p.run().fails(2).says("no label `simple`").says("every one of them has sample");
    assert!(!p.path("db").exists());
}

#[test]
fn mistakes_with_labels_are_told_with_place_and_cure() {
    for (keys, told) in [
        ("inputs = [\"{Sample}.x\"]", "it has to begin with a lower-case letter"),
        ("inputs = [\"{a,{b}}.x\"]", "is one of several alternatives"),
        ("matrix = { PATH = [\"/\"] }", "can't be a label"),
        ("matrix = {}", "`matrix` is empty"),
        ("matrix = { lr = [] }", "has no value"),
        ("matrix = { lr = [1, 1] }", "is there twice"),
        ("matrix = { lr = \"1\" }", "a list of values"),
        ("gather = []", "`gather` names no label"),
        ("gather = [\"X\"]", "can't be a label"),
        ("matrix = { lr = [1] }\nenv = { lr = \"2\" }", "`env` sets lr"),
        ("gather = true\nmatrix = { lr = [1] }", "`matrix` can't go together with `gather`"),
        ("groupby = [\"x\"]", "did you mean `gather`?"),
    ] {
        let p = Project::new().task_with("r", "from = []", "true");
        let from = if keys.starts_with("inputs") { "" } else { "from = [\"r\"]\n" };
        p.task_with("a", &format!("{from}{keys}"), "true");
        p.run().fails(2).says(told).says("pipeline.toml:");
    }
}

#[test]
fn equal_work_runs_once_and_each_step_has_its_own_lineage_and_count() {
    let p = Project::new().file("in/1", "aaa").file("in/2", "bbb").file("in/3", "cc");
    p.task_with("count", "inputs = [\"in/*\"]", "wc -c <$INPUT_FILE >$OUTPUT_DIR/n");
    p.task("double", "echo $(($(cat $INPUT_FILE) * 2)) >$OUTPUT_DIR/n");
    p.task_with("sum", "gather = true", "cat $INPUT_DIR/* | paste -sd+ | bc >$OUTPUT_DIR/sum 2>/dev/null || cat $INPUT_DIR/* | awk '{ n += $1 } END { print n }' >$OUTPUT_DIR/sum");
    p.run()
        .ok()
        .ran(["count", "count", "count", "double", "double", "sum"])
        .says("same work as step");
    assert_eq!(p.exported("sum"), files([("sum", "16\n")]));
    // Each names its own file.
    for file in ["1", "2"] {
        let other = if file == "1" { "in/2" } else { "in/1" };
        for command in ["lineage", "explain"] {
            let told = p.call([command, &format!("count/{file}")]).ok().stdout;
            assert!(told.contains(&format!("in/{file}")) && !told.contains(other), "{told}");
        }
    }
    // One of the two goes: the other one's results stay.
    p.file("in/2", "bbbb").run().ok().ran(["count", "double", "sum"]);
    assert_eq!(p.exported("sum"), files([("sum", "18\n")]));
    // Also if the one that ran is retired.
    p.file("in/1", "dddd").run().ok().ran(["count", "sum"]).says("same work as step");
    assert_eq!(p.exported("sum"), files([("sum", "20\n")]));
    p.call(["verify"]).ok();
}

/// Two inputs of one name: equal ones are the same work.
const TWO: &str = "inputs = [\"a/f\", \"b/f\"]";

#[test]
fn the_second_of_two_equal_steps_waits_for_the_first_and_fails_with_it() {
    let p = Project::new().file("a/f", "same").file("b/f", "same");
    p.task_with(
        "t",
        TWO,
        "echo try; echo x >>tries; [ $(wc -l <tries) -gt 1 ]; cp $INPUT_FILE $OUTPUT_DIR/",
    );
    let run = p.run_with(["-k", "-j2"]).fails(1).ran(["t"]);
    let run = run.says("step 2 t (f): failed, same work as step 1, which failed\n");
    run.says("2 steps failed:").says("0 done, 2 failed, 0 left");
    assert_eq!(p.sql("SELECT state, same_as FROM step ORDER BY id"), ["2|", "2|1"]);
    assert_eq!(p.call(["log", "2"]).ok().says("same work as step 1").stdout, "try\n");
    p.call(["log", "--failed"]).ok().answers("t (f): failed, same work as step 1\n");
    let why = "will run because it is the same work as step 1, which failed last time";
    p.call(["explain", "2"]).ok().answers(why);
    p.run().ok().ran(["t"]).says("same work as step");
    assert_eq!(p.exported("t").len(), 2);
    p.call(["verify"]).ok();
}

#[test]
fn of_equal_steps_one_alone_is_tried_again() {
    let p = Project::new().file("a/f", "same").file("b/f", "same");
    p.task_with("t", &format!("{TWO}\nretries = 2"), "exit 1");
    p.run_with(["-k", "-j2"]).fails(1).ran(["t", "t", "t"]);
    p.task_with(
        "t",
        &format!("{TWO}\nretries = 1"),
        "echo x >>tries; [ $(wc -l <tries) -gt 1 ]; cp $INPUT_FILE $OUTPUT_DIR/",
    );
    p.run_with(["-k", "-j2"]).ok().ran(["t", "t"]).says("same work as step");
}

#[test]
fn a_step_that_comes_up_after_its_work_has_failed_is_not_tried_in_that_run() {
    let p = Project::new().file("in/1", "1").file("in/2", "2").task_with(
        "a",
        "inputs = [\"in/*\"]",
        "[ $INPUT_NAME = 1 ] || while ! grep -q ^b ledger; do sleep 0.01; done\necho same >$OUTPUT_DIR/x",
    );
    p.task("b", "exit 1");
    let run = p.run_with(["-k", "-j2"]).fails(1).ran(["a", "a", "b"]);
    run.says("which failed").says("2 done, 2 failed, 0 left");
}

#[test]
fn equal_steps_that_run_anew_and_fail_keep_the_results_they_had() {
    let p = Project::new().file("a/f", "same").file("b/f", "same");
    p.task_with("t", TWO, "[ ! -e broken ]; cp $INPUT_FILE $OUTPUT_DIR/").task("u", COPY);
    p.run().ok().ran(["t", "u"]);
    p.file("broken", "").run_with(["-B", "-k"]).fails(1).ran(["t"]).says("2 failed");
    assert_eq!(p.exported("u").len(), 2);
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn what_shares_work_is_told_after_what_did_it() {
    let p = Project::new().file("a/f", "same").file("b/f", "same").task_with("t", TWO, COPY);
    let told = p.run().ok().stderr;
    let at = |text: &str| told.find(text).unwrap_or_else(|| panic!("no {text} in {told}"));
    assert!(at("step 1 t (f): done, 1 output") < at("step 2 t (f): done, same work as step 1"));
}

#[test]
fn the_log_of_work_that_a_live_step_shares_outlives_the_step_that_did_it() {
    let p = Project::new().file("a/f", "same").file("b/f", "same");
    let script = "echo log of it; cp $INPUT_FILE $OUTPUT_DIR/";
    p.task_with("t", TWO, script).run().ok().ran(["t"]);
    p.task_with("t", "inputs = [\"b/f\"]", script).run().ok();
    let live = p.sql("SELECT id FROM step WHERE live = 1 AND same_as NOT NULL").remove(0);
    p.call(["gc", "--grace", "0s"]).ok();
    assert_eq!(p.call(["log", &live]).ok().says("whose log this is").stdout, "log of it\n");
    let log = p.call(["log", "--json", &live]).ok().json();
    assert_eq!((&log[0]["log"], &log[0]["same_as"]), (&json!("log of it\n"), &json!(1)));
    p.call(["verify", "--data"]).ok();
}

#[test]
fn a_task_that_is_not_cached_shares_no_work() {
    let p = Project::new().file("a/f", "same").file("b/f", "same");
    p.task_with("t", "cache = false", COPY);
    p.run_with(["a/f", "b/f"]).ok().ran(["t", "t"]);
    p.run().ok().ran(["t", "t"]);
}

#[test]
fn a_forced_run_shares_work_and_groups_as_the_first_one() {
    let p = reads().file("more/A_1.fastq", "A_1\n").task_with(
        "a",
        "inputs = [\"reads/{sample}_{lane}.fastq\", \"more/{sample}_{lane}.fastq\"]",
        "[ ! -e broken ] || [ $sample = A ]; cp $INPUT_FILE $OUTPUT_DIR/$sample$lane",
    );
    p.task_with("merge", "gather = [\"sample\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample");
    let all = ["a", "a", "a", "a", "merge", "merge"];
    p.run().ok().ran(all).says("same work as step");
    let merged = p.exported("merge");
    assert_eq!(merged["A"], "A_1\nA_1\nA_2\n");
    p.run_with(["-B"]).ok().ran(all).says("same work as step");
    assert_eq!(p.exported("merge"), merged);
    // What fails in a forced run leaves its group as it was, and the other one is made anew.
    p.file("broken", "");
    p.run_with(["-B", "-k"]).fails(1).ran(["a", "a", "a", "a", "merge"]);
    assert_eq!(p.exported("merge"), merged);
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn steps_are_told_with_their_labels_and_found_by_them() {
    let p = reads().task_with("a", READS, "echo log of $sample$lane; cp $INPUT_FILE $OUTPUT_DIR/");
    p.task_with("merge", "gather = [\"sample\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample");
    p.run().ok().says("a (A_1.fastq) [lane=1,sample=A]: done").says("merge (B) [sample=B]: done");
    p.call(["log", "a[sample=B,lane=2]"]).ok().answers("log of B2");
    p.call(["explain", "merge[sample=A]"]).ok().answers("merge (A) [sample=A]");
    p.call(["lineage", "merge[sample=A]"]).ok().answers("a (A_2.fastq) [lane=2,sample=A]");
    p.call(["log", "a[sample=C]"]).fails(2).says("`a[sample=C]` has no steps");
    p.call(["log", "a[sample]"])
        .fails(2)
        .says("names no labels; write them as in TASK[sample=A,lr=0.1]");
}

#[test]
fn labels_narrow_a_task_wherever_one_is_named() {
    let p = reads().task_with("a", READS, "echo log of $sample$lane; echo $lane >$OUTPUT_DIR/n");
    p.task_with("merge", "gather = [\"sample\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample");
    p.run().ok();
    p.call(["cat", "merge[sample=B]"]).ok().answers("1\n2\n");
    assert_eq!(p.call(["cat", "a[lane=2]"]).ok().stdout, "2\n2\n");
    assert_eq!(p.call(["cat", "a[lane=2,sample=A]/n"]).ok().stdout, "2\n");
    p.call(["cat", "merge[sample=C]"]).fails(2).says("`merge[sample=C]` has no results");
    p.call(["cat", "merge[sample"]).fails(2).says("write them as in TASK[sample=A,lr=0.1]");
    assert_eq!(p.exported("merge[sample=B]"), files([("B", "1\n2\n")]));
    assert_eq!(p.exported("a[sample=B]"), files([("n", "1\n"), ("n~2", "2\n")]));
    p.call(["export", "merge[sample=C]", "--to", "o"]).fails(2).says("has no steps");
    let log = p.call(["log", "a[sample=B]"]).ok().stdout;
    assert!(log.contains("log of B1") && log.contains("log of B2") && !log.contains("log of A"));
    p.call(["log", "a[sample=B]/B_2.fastq"]).ok().answers("log of B2");
    p.call(["explain", "a[sample=B]/B_2.fastq"]).ok().answers("a (B_2.fastq)");
    // History of these labels is passed over as long as a step of them lives.
    p.file("reads/B_2.fastq", "new\n").run().ok();
    p.call(["explain", "a[sample=B,lane=2]"]).ok().answers("because its input changed");
    p.remove("reads/B_2.fastq").run().ok();
    p.call(["explain", "a[sample=B,lane=2]"]).ok().answers("is history");
}

#[test]
fn an_export_by_labels_removes_what_is_stale_of_its_own_and_nothing_else() {
    let p = reads().task_with("a", READS, "cp $INPUT_FILE $OUTPUT_DIR/$sample-$lane");
    p.run().ok();
    let export = |task: &str| p.call(["export", task, "--to", "o"]).ok();
    export("a[sample=A]").says("2 written, 0 removed");
    export("a[sample=B]").says("2 written, 0 removed");
    p.remove("reads/A_2.fastq").rename("a", "b").run().ok();
    export("b[sample=A]").says("0 written, 1 removed");
    assert!(p.path("o/B-2").exists() && p.path("o/A-1").exists());
}

#[test]
fn a_name_that_several_live_steps_have_is_refused_with_what_tells_them_apart() {
    let p = Project::new().file("x/f", "1").file("y/f", "2");
    let of = |inputs: &str| p.task_with("t", &format!("inputs = {inputs}"), COPY);
    let both = r#"["x/f", "y/f"]"#;
    of(both).task("u", COPY).run().ok();
    for command in ["log", "explain --json", "lineage"] {
        let call = |word: &str| p.call(command.split(' ').chain([word]));
        let told = call("t/f").fails(2).says("2 steps are called `t/f`");
        told.says("name one by its number").says("step 1 t (f), from the file x/f").says("step 2");
        call("u/f").fails(2).says("made by step 1 t (f)").says("made by step 2 t (f)");
    }
    // To people, a few of one name are all explained.
    p.call(["explain", "u/f"]).ok().answers("step 3 u (f) ran").answers("\n\nstep 4 u (f) ran");
    // One that is history is no other one.
    p.file("y/f", "3").run().ok();
    p.call(["log", "t/f"]).fails(2).says("2 steps are called");
    of(r#"["x/f"]"#).run().ok();
    p.call(["log", "t/f"]).ok();
    let p = reads().task_with("a", "inputs = [\"reads/*\"]\nmatrix = { lr = [1, 2] }", "true");
    p.run().ok();
    let json = ["explain", "--json", "a/A_1.fastq"];
    p.call(json).fails(2).says("or by its labels, as in a[lr=1]/A_1.fastq");
    p.call(["explain", "a[lr=1]/A_1.fastq"]).ok();
    p.call(["explain", "a[lr=1]"]).fails(2).says("4 steps are called `a[lr=1]`");
}

#[test]
fn answers_for_programs_have_the_labels_of_each_step() {
    let p = reads().task_with("a", READS, &format!("cp $INPUT_FILE $OUTPUT_DIR/; {WAIT_FOR_GO}"));
    let run = p.run_cmd(["-j1", "--trace", "trace"]).start();
    let running = || p.call(["status", "--json"]).ok().json()["running"].clone();
    wait_for("the first script", || !p.ledger().is_empty());
    wait_for("a running step", || running()[0]["labels"] == json!({ "lane": "1", "sample": "A" }));
    p.call(["status"]).ok().answers("a (A_1.fastq) [lane=1,sample=A]: ");
    p.file("go", "");
    run.end().ok();
    assert!(p.read("trace").contains("\"labels\":{\"lane\":\"1\",\"sample\":\"A\"}"));
    p.task_with("merge", "gather = [\"sample\"]", "echo hi").run().ok();
    let b = json!({ "sample": "B" });
    let json = |args: [&str; 3]| p.call(args).ok().json();
    assert_eq!(json(["log", "--json", "merge[sample=B]"])[0]["labels"], b);
    let explained = json(["explain", "--json", "merge[sample=B]"]);
    assert_eq!(explained["of_step"]["labels"], b);
    assert_eq!(explained["of_step"]["made_by"][0]["labels"]["sample"], "B");
    let lineage = json(["lineage", "--json", "merge[sample=B]"]);
    let of = lineage["steps"].as_array().unwrap().iter().map(|step| step["labels"].clone());
    assert!(of.clone().any(|labels| labels == b));
    assert!(of.clone().any(|labels| labels == json!({ "lane": "2", "sample": "B" })));
}

#[test]
fn graph_names_the_keys_of_each_task_and_what_a_gather_goes_by() {
    let p = reads().task_with("a", READS, COPY);
    p.task_with("merge", "match = [\"*.fastq\"]\ngather = [\"sample\"]", "true");
    p.run().ok();
    let shown =
        |args: &[&str]| p.call(["graph"].iter().chain(args)).ok().answers("[lane, sample]").stdout;
    for from in [&[][..], &["-manifest", "pipeline.toml"][..]] {
        let text = shown(from);
        assert!(text.contains("<- gathers a by sample  [sample]"), "{text}");
        assert!(shown(&[from, &["--format", "mermaid"]].concat()).contains("<br/>[sample]"));
        let dot = shown(&[from, &["--format", "dot"]].concat());
        assert!(dot.contains("t0 -> t1 [label=\"*.fastq by sample\"];"), "{dot}");
        let json = p.call(["graph", "--json"].iter().chain(from)).ok().json();
        assert_eq!(json["tasks"][0]["labels"], json!(["lane", "sample"]));
        assert_eq!(json["tasks"][1]["gather_by"], json!(["sample"]));
    }
}

#[test]
fn explain_names_the_label_that_changed_when_nothing_else_did() {
    let p = Project::new().file("in/x", "x\n");
    let with = |lr: &str| {
        p.task_with("fit", &format!("inputs = [\"in/*\"]\nmatrix = {{ {lr} }}"), "true");
        p.run().ok();
    };
    with("lr = [1], depth = [3]");
    with("lr = [2], depth = [3]");
    p.call(["explain", "fit[lr=2]"]).ok().answers("because lr was `1` and is `2`");
    with("lr = [2]");
    p.call(["explain", "fit[lr=2]"]).ok().answers("because label depth is gone");
    // What has its labels is what it is compared with, whatever was done later.
    with("lr = [2, 1]");
    p.file("in/x", "y\n").run().ok();
    p.call(["explain", "fit[lr=1]"])
        .ok()
        .answers("input changed")
        .answers("before: step 4 fit (x) [lr=1]");
}

#[test]
fn a_group_of_files_names_none_of_another_group_with_the_same_content() {
    let p = Project::new().file("in/A_1", "same").file("in/B_1", "same");
    p.task_with("g", "inputs = [\"in/{sample}_{lane}\"]\ngather = [\"sample\"]", "true");
    p.run().ok();
    for command in ["lineage", "explain"] {
        let told = p.call([command, "g[sample=A]"]).ok().answers("in/A_1").stdout;
        assert!(!told.contains("in/B_1"), "{told}");
    }
}

#[test]
fn a_report_shows_the_labels_of_steps_and_the_keys_of_tasks() {
    let p = reads().task_with("a", READS, "[ $sample$lane != B2 ]");
    p.task_with("merge", "gather = [\"sample\"]", "true");
    p.run_with(["-k"]).fails(1);
    p.call(["report", "-o", "r.html"]).ok();
    let page = p.read("r.html");
    assert!(page.contains("<th scope=\"col\">Labels</th>"));
    assert!(page.contains("<td class=\"path\">lane=1,sample=A"));
    assert!(
        page.contains("B_2.fastq</span> [lane=2,sample=B] <span")
            || page.contains("B_2.fastq [lane=2,sample=B]")
    );
    assert!(page.contains("<title>a A_1.fastq [lane=1,sample=A]: step 1"));
    assert!(page.contains("merge <small>gathers by sample</small> <small>[sample]</small>"));
    // A step that failed with another one is there with the log of that one.
    let p = Project::new().file("a/f", "same").file("b/f", "same");
    p.task_with("t", TWO, "echo why; false").run_with(["-k"]).fails(1).ran(["t"]);
    let page = p.call(["report", "-o", "-"]).ok().stdout;
    assert_eq!(page.matches("<span class=\"why\">exit code 1</span>").count(), 2);
    assert_eq!(page.matches("why\n</pre>").count(), 2);
    // Without labels there is no column of them.
    let p = Project::new().file("f", "").task_with("a", "inputs = [\"f\"]", COPY);
    p.run().ok();
    p.call(["report", "-o", "r.html"]).ok();
    assert!(!p.read("r.html").contains("Labels</th>"));
}

#[test]
fn a_step_that_has_the_results_of_another_one_says_so() {
    let p = Project::new().file("a/f", "same").file("b/f", "same").task_with("t", TWO, COPY);
    p.run_with(["-j1"]).ok().ran(["t"]);
    let shared = p.sql("SELECT id, same_as FROM step WHERE same_as NOT NULL").remove(0);
    let (step, other) = shared.split_once('|').unwrap();
    let same = format!("same work as step {other}");
    p.call(["explain", step]).ok().answers("did not run in run 1").answers(&same);
    p.call(["log", step]).ok().says(&same);
    // It can be made again all the same.
    let object = p.sql("SELECT lower(hex(object)) FROM output").remove(0);
    fs::remove_file(p.object(&object)).unwrap();
    p.call(["repair"]).ok();
    p.call(["verify", "--data"]).ok();
}

#[test]
fn a_value_that_is_no_plain_text_makes_a_label_and_is_found_as_it_is_printed() {
    let p = Project::new();
    for name in [&b"a\xff"[..], b"a\nb", b"a\\b"] {
        let path = p.path("in").join(std::ffi::OsStr::from_bytes(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, name).unwrap();
    }
    p.task_with(
        "t",
        "inputs = [\"in/{s}\"]",
        "cat \"$INPUT_FILE\"; cp \"$INPUT_FILE\" $OUTPUT_DIR/x",
    );
    p.run().ok().says("3 done");
    for printed in [r"a\nb", r"a\\b", r"a\\xff"] {
        let word = format!("t[s={printed}]");
        p.call(["log", &word]).ok();
        p.call(["explain", &word]).ok().answers(&format!("s={printed}"));
        p.call(["cat", &word]).ok();
        p.run_with(["--step", &word, "-n"]).ok();
    }
    assert_eq!(p.call(["cat", r"t[s=a\nb]"]).ok().stdout, "a\nb");
}
