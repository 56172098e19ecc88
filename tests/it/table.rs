//! Section 13: one step per row of a table.

use crate::harness::{Project, files, wait_for};

const LABELS: &str = "table = \"samples.csv\"";
const PATHS: &str = "table = \"sheets/samples.csv\"\npaths = [\"r1\", \"r2\"]";
const SAY: &str = "echo $sample-$lane >$OUTPUT_DIR/$sample.$lane";

fn samples() -> Project {
    let p = Project::new().file("samples.csv", "sample,lane\nA,1\nA,2\nB,1\n");
    p.task_with("a", LABELS, SAY)
}

fn pairs() -> Project {
    let p = Project::new().file("sheets/samples.csv", "sample,r1,r2\nA,x/1,y/1\nB,x/2,\n");
    p.file("sheets/x/1", "x1\n").file("sheets/y/1", "y1\n").file("sheets/x/2", "x2\n");
    p.task_with("a", PATHS, "cat \"$r1\" ${r2:+\"$r2\"} >$OUTPUT_DIR/$sample")
}

#[test]
fn there_is_one_step_per_row_and_every_column_is_a_label() {
    let p = samples();
    p.run().ok().ran(["a", "a", "a"]);
    assert_eq!(p.exported("a"), files([("A.1", "A-1\n"), ("A.2", "A-2\n"), ("B.1", "B-1\n")]));
    let labels = p.sql("SELECT labels FROM step ORDER BY labels LIMIT 1");
    assert_eq!(labels, [r#"{"lane":"1","sample":"A"}"#]);
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn without_paths_input_file_is_the_row_as_a_json_object() {
    let p = samples();
    p.task_with(
        "a",
        LABELS,
        "cat $INPUT_FILE >$OUTPUT_DIR/$sample$lane; echo $INPUT_NAME >>$OUTPUT_DIR/$sample$lane",
    );
    p.run().ok();
    assert_eq!(p.exported("a")["B1"], "{\"lane\":\"1\",\"sample\":\"B\"}\nrow.json\n");
}

#[test]
fn a_byte_order_mark_quotes_crlf_and_tabs_are_read_as_they_are_meant() {
    let p = Project::new().file("t.tsv", "\u{feff}sample\tlane\r\n\"A \"\"x\"\"\"\t1,2\r\n");
    p.task_with("a", "table = \"t.tsv\"", "echo \"$sample|$lane\" >$OUTPUT_DIR/x").run().ok();
    assert_eq!(p.exported("a"), files([("x", "A \"x\"|1,2\n")]));
}

#[test]
fn columns_of_paths_are_files_relative_to_the_table_and_no_labels() {
    let p = pairs();
    p.run().ok().ran(["a", "a"]);
    assert_eq!(p.exported("a"), files([("A", "x1\ny1\n"), ("B", "x2\n")]));
    assert_eq!(
        p.sql("SELECT labels FROM step ORDER BY labels"),
        [r#"{"sample":"A"}"#, r#"{"sample":"B"}"#]
    );
}

#[test]
fn files_lie_under_their_own_names_in_a_folder_of_their_column() {
    let p = pairs();
    p.task_with(
        "a",
        PATHS,
        "echo \"${r1#$INPUT_DIR} ${r2#$INPUT_DIR}\" >$OUTPUT_DIR/$sample; sed \"s,^$INPUT_DIR,,\" $INPUT_FILE >>$OUTPUT_DIR/$sample",
    );
    p.run().ok();
    assert_eq!(
        p.exported("a"),
        files([("A", "/r1/1 /r2/1\n/r1/1\n/r2/1\n"), ("B", "/r1/2 \n/r1/2\n")])
    );
}

#[test]
fn a_row_given_twice_is_one_step_and_a_warning() {
    let p = samples().file("samples.csv", "sample,lane\nA,1\n\nB,1\nA,1\n");
    p.run().ok().ran(["a", "a"]).says("line 5 of `samples.csv` says what line 2 says");
}

#[test]
fn rows_with_the_same_labels_and_other_files_are_a_mistake() {
    let p = pairs().file("sheets/samples.csv", "sample,r1,r2\nA,x/1,\nA,x/2,\n");
    p.run().fails(2).ran([]).says("sheets/samples.csv:3:3: the labels are those of line 2");
}

#[test]
fn adding_changing_and_removing_a_row_runs_or_retires_just_that() {
    let p = samples();
    p.run().ok();
    p.file("samples.csv", "sample,lane\nA,1\nA,2\nB,1\nC,1\n").run().ok().ran(["a"]);
    p.file("samples.csv", "sample,lane\nA,1\nA,3\nB,1\nC,1\n").run().ok().ran(["a"]);
    p.file("samples.csv", "sample,lane\nA,1\nA,3\nC,1\n").run().ok().ran([]);
    assert_eq!(p.exported("a").keys().collect::<Vec<_>>(), ["A.1", "A.3", "C.1"]);
    // Back again, from history.
    p.file("samples.csv", "sample,lane\nA,1\nA,2\nB,1\n").run().ok().ran([]);
    assert_eq!(p.exported("a").len(), 3);
}

#[test]
fn moving_rows_and_columns_runs_nothing() {
    let p = samples();
    p.run().ok();
    p.file("samples.csv", "lane,sample\r\n1,B\r\n2,A\r\n1,A\r\n").run().ok().ran([]);
    assert_eq!(p.exported("a").len(), 3);
}

#[test]
fn a_changed_file_runs_the_rows_that_name_it() {
    let p = pairs();
    p.run().ok();
    p.file("sheets/x/2", "other\n").run().ok().ran(["a"]);
    assert_eq!(p.exported("a")["B"], "other\n");
}

#[test]
fn all_mistakes_in_rows_are_told_at_once_with_file_line_and_column() {
    let p = pairs().file("sheets/samples.csv", "sample,r1,r2\nA\nB,x/1,,4\nC,gone,x/nowhere\n");
    let ran = p.run().fails(2).ran([]);
    let ran = ran.says("sheets/samples.csv:2:1: this row has 1 field, but the header has 3");
    let ran = ran.says("sheets/samples.csv:3:8: this row has 4 fields, but the header has 3");
    let ran = ran.says("sheets/samples.csv:4:3: `gone` does not exist");
    ran.says("sheets/samples.csv:4:8: `x/nowhere` does not exist");
    assert!(!p.path("db").exists());
    p.call(["plan", "-manifest", "pipeline.toml"]).fails(2).says("samples.csv:2:1");
}

#[test]
fn a_column_that_can_be_no_label_is_a_mistake_with_its_cure() {
    let p = samples().file("samples.csv", "Sample ID,lane,lane\n");
    let ran = p.run().fails(2).says("samples.csv:1:1: `Sample ID` can't be the name of a column");
    ran.says("call it `sample_id`").says("samples.csv:1:16: column `lane` is there twice");
}

#[test]
fn what_is_wrong_with_a_table_as_such_is_told_at_its_place_in_the_manifest() {
    let p = samples();
    for (keys, text) in [
        ("table = \"gone.csv\"", "table `gone.csv`: there is no such file"),
        ("table = \"samples.csv\"\npaths = [\"lanes\"]", "has no column `lanes`"),
        ("inputs = [\"x*\"]\npaths = [\"r1\"]", "`paths` does nothing without `table`"),
        ("table = \"samples.csv\"\ninputs = [\"x*\"]", "`table` can't go together with `inputs`"),
        ("table = \"samples.csv\"\ngather = true", "`table` can't go together with `gather`"),
        ("table = \"samples.csv\"\nfrom = [\"a\"]", "`table` can't go together with `from`"),
    ] {
        p.task_with("a", keys, SAY).run().fails(2).says(text);
    }
}

#[test]
fn inputs_of_the_command_line_are_for_other_tasks() {
    samples()
        .file("x", "")
        .run_with(["x"])
        .fails(2)
        .says("no task takes files from the command line");
}

#[test]
fn the_labels_of_a_table_feed_gather_and_an_unknown_one_is_a_mistake() {
    let p = samples();
    p.task_with("merge", "gather = [\"sample\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample");
    p.run().ok();
    assert_eq!(p.exported("merge"), files([("A", "A-1\nA-2\n"), ("B", "B-1\n")]));
    p.task_with("merge", "gather = [\"patient\"]", ":").run().fails(2).says("no label `patient`");
}

#[test]
fn a_table_goes_with_matrix() {
    let p = samples().task_with(
        "a",
        &format!("{LABELS}\nmatrix = {{ k = [1, 2] }}"),
        "echo $k >$OUTPUT_DIR/$sample$lane$k",
    );
    p.run().ok();
    assert_eq!(p.exported("a").len(), 6);
    assert_eq!(p.exported("a")["B12"], "2\n");
}

#[test]
fn plan_is_exact() {
    let p = samples();
    p.run().ok();
    p.file("samples.csv", "sample,lane\nA,1\nA,3\nB,1\nC,1\n");
    let plan = p.call(["plan", "-manifest", "pipeline.toml", "--json"]).ok().json();
    let task = &plan["tasks"][0];
    assert_eq!((&task["new"], &task["retired"]), (&2.into(), &1.into()), "{task}");
    p.run().ok().ran(["a", "a"]);
}

#[test]
fn explain_names_the_label_that_changed() {
    let p = samples();
    p.run().ok();
    p.file("samples.csv", "sample,lane\nA,1\nA,2\nB,7\nC,9\n").run().ok();
    p.call(["explain", "a[lane=7]"]).ok().answers("because lane was `1` and is `7`");
    p.call(["explain", "a[lane=9]"]).ok().answers("because its row is new");
}

#[test]
fn lineage_names_the_table_and_the_files_of_the_row() {
    let p = pairs();
    p.run().ok();
    let answer = p.call(["lineage", "a[sample=B]"]).ok();
    let answer = answer.answers("file sheets/samples.csv").answers("file sheets/x/2");
    assert!(!answer.stdout.contains("x/1"), "{}", answer.stdout);
    let users = p.call(["lineage", "sheets/y/1"]).ok().answers("[sample=A]");
    assert!(!users.stdout.contains("[sample=B]"), "{}", users.stdout);
}

#[test]
fn repair_gets_rows_listings_and_files_back() {
    for p in [samples(), pairs()] {
        p.run().ok();
        let lost =
            p.sql("SELECT object_hash FROM step UNION SELECT lower(hex(object)) FROM input_file");
        for object in &lost {
            std::fs::remove_file(p.object(object)).unwrap();
        }
        p.call(["verify"]).fails(65);
        p.call(["repair"]).ok();
        p.call(["verify", "--data"]).ok();
        p.run().ok().ran([]);
    }
}

#[test]
fn watch_follows_the_table_and_its_files() {
    let p = pairs();
    let run = p.cmd(["watch", "-manifest", "pipeline.toml", "-db", "db"]).start();
    let round = |rounds: usize, steps: usize| {
        wait_for(&format!("round {rounds} with {steps} steps\n{}", run.stderr()), || {
            run.stderr().matches("waiting for changes").count() >= rounds
                && p.ledger().len() >= steps
        });
    };
    round(1, 2);
    p.file("sheets/x/2", "changed\n");
    round(2, 3);
    p.file("sheets/samples.csv", "sample,r1,r2\nA,x/1,y/1\nB,x/2,\nC,x/1,\n");
    round(3, 4);
    run.signal(rustix::process::Signal::INT);
    run.end().dies_of(rustix::process::Signal::INT);
    assert_eq!(p.ledger().len(), 4);
}
