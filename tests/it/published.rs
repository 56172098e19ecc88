//! `export` in the manifest: after a run the results of a task lie in a folder.

use std::fs;

use crate::harness::{Project, contents, files};

/// A file for each sample and lane, copied, with `export` as given.
fn reads(export: &str) -> Project {
    let p = Project::new();
    for name in ["A_1", "A_2", "B_1"] {
        p.file(format!("reads/{name}.fq"), format!("{name}\n"));
    }
    p.task_with(
        "a",
        &format!("inputs = [\"reads/{{sample}}_{{lane}}.fq\"]\nexport = \"{export}\""),
        "[ ! -e down ] || [ $sample != B ]; cp $INPUT_FILE $OUTPUT_DIR/x; ",
    );
    p
}

#[test]
fn after_a_run_the_results_lie_in_the_folder_of_the_labels_that_they_have() {
    let p = reads("out/{sample}/lane_{lane}");
    p.call(["plan"]).ok();
    p.run_with(["-n"]).ok();
    assert!(!p.path("out").exists());
    p.run().ok().says("3 files of a in out: 3 written, 0 removed");
    let all = [("A/lane_1/x", "A_1\n"), ("A/lane_2/x", "A_2\n"), ("B/lane_1/x", "B_1\n")];
    assert_eq!(contents(&p.path("out")), files(all));
    // Nothing to do is nothing to write; what the user has removed comes back.
    p.run().ok().says("nothing to do").says_nothing_of("written");
    p.remove("out/A/lane_2/x");
    p.run().ok().ran([]).says("1 written");
    assert_eq!(contents(&p.path("out")), files(all));
    // What is no longer a result goes, and where it lies is no part of the recipe.
    p.remove("reads/A_2.fq");
    p.run().ok().ran([]).says("0 written, 1 removed");
    assert_eq!(contents(&p.path("out")), files([all[0], all[2]]));
    p.task_with(
        "a",
        "inputs = [\"reads/{sample}_{lane}.fq\"]\nexport = \"out\"",
        "[ ! -e down ] || [ $sample != B ]; cp $INPUT_FILE $OUTPUT_DIR/x; ",
    );
    p.run().ok().ran([]);
    assert_eq!(contents(&p.path("out")), files([("x", "A_1\n"), ("x~2", "B_1\n")]));
}

#[test]
fn only_a_task_that_is_complete_is_exported_after_a_run_and_another_one_does_not_hinder_it() {
    let p = reads("out/a");
    p.task_with("b", "export = \"out/b\"", "cp $INPUT_FILE $OUTPUT_DIR/y");
    p.task_with("alone", "from = []\nexport = \"out/alone\"", "echo 1 >$OUTPUT_DIR/z");
    p.file("down", "").run_with(["-k"]).fails(1);
    assert_eq!(contents(&p.path("out/alone")), files([("z", "1\n")]));
    assert!(!p.path("out/a").exists() && !p.path("out/b").exists());
    p.remove("down");
    p.run().ok();
    assert_eq!(contents(&p.path("out/a")).len() + contents(&p.path("out/b")).len(), 6);
    // A gather whose producers are not complete is not complete, whatever it still has.
    p.task_with(
        "all",
        "gather = true\nfrom = [\"a\"]\nexport = \"out/all\"",
        "cat $INPUT_DIR/* >$OUTPUT_DIR/all",
    );
    p.file("down", "").file("reads/B_1.fq", "new\n").run_with(["-k"]).fails(1);
    assert!(!p.path("out/all").exists());
    p.remove("down");
    p.run().ok();
    assert!(p.read("out/all/all").contains("new\n"));
}

#[test]
fn what_an_export_of_a_run_did_not_write_is_kept_and_told_and_all_else_stands() {
    let p = reads("out/{sample}").file("out/A/x", "mine\n");
    p.task_with("b", "export = \"other\"", "cp $INPUT_FILE $OUTPUT_DIR/y");
    let ran = p.run().fails(1).says("export of task `a`: nothing was written to");
    ran.says("out/A/x was not written by an export").says("name another folder");
    assert_eq!(contents(&p.path("out")), files([("A/x", "mine\n")]));
    assert_eq!(contents(&p.path("other")).len(), 3);
    p.remove("out/A/x");
    p.run().ok().ran([]).says("3 written");
    // Edited since.
    p.file("out/B/x", "edited\n").file("reads/B_1.fq", "new\n");
    p.run().fails(1).says("was edited after it was exported");
    assert_eq!(p.read("out/B/x"), "edited\n");
    p.remove("out/B/x");
    p.run().ok();
    assert_eq!(p.read("out/B/x"), "new\n");
}

#[test]
fn tasks_may_share_a_folder_and_exports_are_never_inputs() {
    let p = Project::new().file("in/1.txt", "1\n");
    p.task_with(
        "a",
        "inputs = [\"**/*.txt\"]\nexport = \"in/out\"",
        "cp $INPUT_FILE $OUTPUT_DIR/a.txt",
    );
    p.task_with("b", "export = \"in/out\"", "cp $INPUT_FILE $OUTPUT_DIR/b.txt");
    p.run().ok().ran(["a", "b"]);
    p.run().ok().ran([]);
    assert_eq!(contents(&p.path("in/out")), files([("a.txt", "1\n"), ("b.txt", "1\n")]));
}

#[test]
fn any_value_of_a_label_makes_a_folder_below_the_exports() {
    let p = Project::new().task_with(
        "a",
        "matrix = { v = [\"..\", \"\", \"/etc\", \"a b\"] }\nexport = \"out/{v}\"",
        "echo 1 >$OUTPUT_DIR/x",
    );
    p.run().ok();
    let all = contents(&p.path("out"));
    let names: Vec<&String> = all.keys().collect();
    assert_eq!(names, ["%/etc/x", "%/x", "%2E%2E/x", "a b/x"]);
    assert_eq!(fs::read_dir(p.path("out")).unwrap().count(), 4);
}

#[test]
fn an_export_that_leads_elsewhere_or_names_no_label_is_a_mistake_with_its_cure() {
    let told = |export: &str| reads(export).run().fails(2);
    told("/tmp/x").says("absolute path").says("`export TASK --to DIR`");
    told("../x").says("leads out of the manifest's folder");
    told(".").says("names the manifest's own folder");
    told("{sample}").says("begins with a label").says("results/{sample}");
    told("out/{sample").says("a brace in `export` has no other half");
    told("out/{Sample}").says("can't be a label");
    told("out/{sampel}").says("not every output has the label `sampel`").says("lane, sample");
    let p = reads("db/x");
    p.run().fails(1).says("export of task `a`").says("is in a database");
    let p = reads("out").task_with("b", "publishDir = \"x\"", "true");
    p.run().fails(2).says("did you mean `export`?");
}

#[test]
fn a_task_that_waits_for_what_it_sees_keeps_its_export() {
    for gather in ["", "\ngather = true"] {
        let p = Project::new().file("ref/A", "1\n").file("ref/B", "2\n");
        p.file("in/A", "a\n").file("in/B", "b\n");
        let script = "! grep FAIL $INPUT_FILE || exit 1; cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME";
        p.task_with("i", "inputs = [\"ref/{s}\"]", script);
        let keys = format!("inputs = [\"in/*\"]\nwith = [\"i\"]{gather}\nexport = \"res\"");
        p.task_with("m", &keys, "cat $WITH_DIR/i/* >$OUTPUT_DIR/${INPUT_NAME:-all}");
        p.run().ok();
        let before = contents(&p.path("res"));
        assert!(!before.is_empty());
        p.file("ref/A", "FAIL\n").run_with(["-k"]).fails(1);
        assert_eq!(contents(&p.path("res")), before);
        p.file("ref/A", "3\n").run().ok().says("written");
        assert_ne!(contents(&p.path("res")), before);
    }
}
