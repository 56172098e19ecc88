//! Sections 4 and 9: what a script leaves behind, and what is refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Project, files};

/// Runs a script whose outputs must be refused, with a sentence that contains `told`.
#[track_caller]
fn refused(script: &str, told: &[&str]) {
    let p = Project::new()
        .task("a", &format!("echo good >$OUTPUT_DIR/good\n{script}"))
        .task("b", "true");
    let mut ran = p.run().fails(1).ran(["a"]);
    for told in told {
        ran = ran.says(told);
    }
    assert_eq!(p.sql("SELECT count(*) FROM output"), ["0"]);
    assert_eq!(p.sql("SELECT outcome, detail IS NOT NULL FROM attempt"), ["refused|1"]);
}

#[test]
fn every_regular_file_is_an_output_wherever_it_lies() {
    let p = Project::new().task(
        "a",
        "cd $OUTPUT_DIR; mkdir -p deep/er empty; echo 1 >one; echo 2 >deep/er/two; : >nothing; echo 3 >.hidden; echo 4 >'a b'",
    );
    p.run().ok();
    let expected = [
        ("one", "1\n"),
        ("deep/er/two", "2\n"),
        ("nothing", ""),
        (".hidden", "3\n"),
        ("a b", "4\n"),
    ];
    assert_eq!(p.exported("a"), files(expected));
}

#[test]
fn strange_names_are_kept_exactly_and_shown_escaped() {
    let p = Project::new()
        .task("a", "cd $OUTPUT_DIR; printf x >\"$(printf 'new\\nline')\"; printf y >\"$(printf 'not\\377utf8')\"; printf z >'back\\slash'")
        .task("b", "printf %s \"$INPUT_NAME\" >$OUTPUT_DIR/name-of-$(cat \"$INPUT_FILE\")");
    p.run().ok().says("new\\nline").says("not\\xffutf8").says("back\\\\slash");
    p.call(["export", "a", "--to", "out"]).ok();
    for (name, content) in [(&b"new\nline"[..], "x"), (b"not\xffutf8", "y"), (b"back\\slash", "z")]
    {
        assert_eq!(p.read(std::path::Path::new("out").join(OsStr::from_bytes(name))), content);
    }
    let names = p.exported("b");
    assert_eq!(
        (names["name-of-x"].as_str(), names["name-of-z"].as_str()),
        ("new\nline", "back\\slash")
    );
    p.run().ok().says("nothing to do");
}

#[test]
fn a_name_as_it_is_printed_is_understood_as_an_argument() {
    let odd =
        [("new\\nline", "new\nline"), ("not\\xffutf8", "not\\377utf8"), ("a\\\\tb", "a\\\\tb")];
    let make: String = odd
        .iter()
        .map(|(_, format)| format!("n=$(printf '{format}.'); echo \"of ${{n%.}}\" >\"${{n%.}}\"; "))
        .collect();
    let p = Project::new().task("a", &format!("cd $OUTPUT_DIR; {make}")).task(
        "b",
        "echo log $(cat \"$INPUT_FILE\"); cp \"$INPUT_FILE\" \"$OUTPUT_DIR/$INPUT_NAME\"",
    );
    let mut ran = p.run().ok();
    p.call(["export", "b", "--to", "out"]).ok();
    for (printed, _) in odd {
        ran = ran.says(printed);
        let word = format!("b/{printed}");
        p.call(["log", &word]).ok().answers("log of ");
        p.call(["explain", &word]).ok().answers(printed);
        p.call(["lineage", &word]).ok().answers(printed);
        p.call(["lineage", &format!("out/{printed}")]).ok().answers(printed);
        assert!(p.call(["cat", &word]).ok().stdout.starts_with("of "), "{printed}");
    }
    // If a name is literally so, either may be meant.
    p.task("a", "cd $OUTPUT_DIR; echo two >'new\\nline'; printf one >\"$(printf 'new\\nline')\"");
    p.run().ok();
    let ids = p.sql("SELECT id FROM step WHERE live AND task = 2 AND name LIKE 'new_%' ORDER BY length(name) DESC");
    let said = format!("{} for the first, {} for the second", ids[0], ids[1]);
    p.call(["cat", r"b/new\nline"]).fails(2).says("two outputs may be meant");
    for command in ["log", "explain", "lineage"] {
        p.call([command, r"b/new\nline"]).fails(2).says("two inputs may be meant").says(&said);
    }
    assert_eq!(p.call(["log", &ids[0]]).ok().stdout, "log two\n");
    assert_eq!(p.call(["log", &ids[1]]).ok().stdout, "log one\n");
    p.file("x\ny", "one").file(r"x\ny", "two\n");
    p.call(["lineage", r"x\ny"]).fails(2).says("two files may be meant");
    assert_eq!(p.call(["cat", r"b/new\\nline"]).ok().stdout, "two\n");
    p.call(["cat", r"b/new\sline"]).fails(2).says("has no results");
}

#[test]
fn the_executable_bit_is_kept_and_others_are_not() {
    let p = Project::new().task("a", "cd $OUTPUT_DIR; for n in tool plain suid; do echo $n >$n; done; chmod 755 tool; chmod 600 plain; chmod 4711 suid");
    p.run().ok();
    p.call(["export", "a", "--to", "out"]).ok();
    let mode = |name: &str| p.path("out").join(name).metadata().unwrap().permissions().mode();
    assert_eq!(mode("tool") & 0o111, 0o111);
    assert_eq!(mode("plain") & 0o111, 0);
    assert_eq!(mode("suid") & 0o6000, 0);
    assert_eq!(
        p.sql("SELECT name, executable FROM output ORDER BY 1"),
        ["plain|0", "suid|1", "tool|1"]
    );
}

#[test]
fn what_is_no_regular_file_is_refused_with_its_path() {
    refused("ln -s good $OUTPUT_DIR/link", &["`link`", "link"]);
    refused("ln -s /nowhere $OUTPUT_DIR/dangling", &["dangling"]);
    refused("mkdir $OUTPUT_DIR/d; ln -s .. $OUTPUT_DIR/d/up", &["d/up"]);
    refused("mkfifo $OUTPUT_DIR/pipe", &["pipe", "FIFO"]);
}

#[test]
fn an_output_folder_that_was_replaced_is_refused() {
    refused("rm -r $OUTPUT_DIR", &["OUTPUT_DIR"]);
    refused("rm -r $OUTPUT_DIR; ln -s /etc $OUTPUT_DIR", &["OUTPUT_DIR"]);
    refused("rm -r $OUTPUT_DIR; echo x >$OUTPUT_DIR", &["OUTPUT_DIR"]);
}

#[test]
fn a_file_with_several_links_is_copied() {
    let p = Project::new().task(
        "a",
        "echo 1 >$OUTPUT_DIR/x; ln $OUTPUT_DIR/x $OUTPUT_DIR/y; ln $OUTPUT_DIR/x outside",
    );
    p.run().ok();
    assert_eq!(p.exported("a"), files([("x", "1\n"), ("y", "1\n")]));
    // The link that is left can't reach the object.
    p.file("outside", "spoilt\n");
    assert_eq!(p.exported("a"), files([("x", "1\n"), ("y", "1\n")]));
    crate::store::every_object_hashes_to_its_path(&p);
}

#[test]
fn the_step_after_a_refused_one_is_none_the_worse() {
    let p = Project::new().task_with(
        "a",
        "inputs = [\"in/*\"]",
        "[ -z \"$(ls -A $OUTPUT_DIR)\" ]\ncase $INPUT_NAME in\n\
         1) rm -r $OUTPUT_DIR;;\n2) ln -s /etc $OUTPUT_DIR/x;;\n3) rm -r $OUTPUT_DIR; echo x >$OUTPUT_DIR;;\n\
         4) chmod 0 $OUTPUT_DIR;;\n5) mkdir -p $OUTPUT_DIR/d/e; chmod 0 $OUTPUT_DIR/d/e; ln -s x $OUTPUT_DIR/y;;\n\
         *) echo ok >$OUTPUT_DIR/x;;\nesac",
    );
    for n in 1..=9 {
        p.file(format!("in/{n}"), n.to_string());
    }
    p.run_with(["-j1", "-k"]).fails(1);
    let done = "SELECT name FROM step WHERE state = 1 AND name > '5' ORDER BY 1";
    assert_eq!(p.sql(done), ["6", "7", "8", "9"]);
    assert_eq!(p.sql("SELECT count(*) FROM output WHERE name = 'x'"), ["4"]);
}

#[test]
fn a_large_output_takes_its_way_too() {
    let p = Project::new()
        .task("a", "yes 0123456789 | head -c 9000000 >$OUTPUT_DIR/large")
        .task("b", "cp $INPUT_FILE $OUTPUT_DIR/copy");
    p.run().ok();
    assert_eq!(p.exported("b")["copy"].len(), 9_000_000);
    assert_eq!(p.sql("SELECT count(*) FROM object WHERE size = 9000000"), ["1"]);
    crate::store::every_object_hashes_to_its_path(&p);
}

#[test]
fn many_outputs_of_one_step_are_all_kept() {
    let p = Project::new()
        .task("a", "n=0; while [ $n -lt 1000 ]; do echo $n >$OUTPUT_DIR/$n; n=$((n+1)); done");
    p.run().ok();
    assert_eq!(p.exported("a").len(), 1000);
}
