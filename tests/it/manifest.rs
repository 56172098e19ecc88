//! Section 3: what is no manifest is refused, every mistake at once, and nothing is written.

use crate::harness::{Project, Ran, files, tree};

/// Runs a manifest that must be refused, and checks that this left nothing behind.
#[track_caller]
fn refused(text: &str) -> Ran {
    let p = Project::new().manifest(text);
    let before = tree(&p.root());
    let ran = p.run().fails(2);
    assert_eq!(tree(&p.root()), before, "something was written");
    ran
}

/// A manifest of one task with these further keys.
fn one(keys: &str) -> String {
    format!("[[task]]\nname = \"a\"\nscript = \"true\"\n{keys}\n")
}

#[test]
fn all_mistakes_are_told_at_once() {
    refused(
        r#"
[[task]]
name = "a"
script = ""
[[task]]
name = "a"
script = "true"
timeout = "soon"
[[task]]
name = "b"
script = "true"
from = ["ghost"]
parallel = 0
colour = "red"
match = ["["]
"#,
    )
    .says("pipeline.toml:4:10:")
    .says("pipeline.toml:6:8:")
    .says("pipeline.toml:8:11:")
    .says("pipeline.toml:12:9:")
    .says("pipeline.toml:13:12:")
    .says("pipeline.toml:14:1:")
    .says("pipeline.toml:15:10:")
    .says("already defined on line 3")
    .says("`ghost`")
    .says("`colour`");
}

#[test]
fn a_mistake_shows_its_line_with_a_caret_below_the_place() {
    let ran = refused("[[task]]\nname = \"a\"\nscript = \"true\"\nfrom = [\"gho\"]\n");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let shown = lines.iter().position(|line| line.contains("from = [\"gho\"]")).unwrap();
    assert!(
        lines[..shown].iter().any(|line| line.contains("pipeline.toml:4:9:")),
        "{}",
        ran.stderr
    );
    assert_eq!(lines[shown].find("\"gho\""), lines[shown + 1].find('^'), "{}", ran.stderr);
    assert_eq!(lines[shown + 1].matches('^').count(), "\"gho\"".len(), "{}", ran.stderr);
}

#[test]
fn a_slip_is_answered_with_what_was_meant() {
    refused(&one("retires = 2")).says("did you mean `retries`?");
    refused(&one(
        "from = [\"b\"]\n[[task]]\nname = \"split\"\nscript = \"true\"\nfrom = [\"splt\"]",
    ))
    .says("did you mean `split`?");
    refused("[[step]]\nname = \"a\"\n").says("did you mean `task`?");
}

#[test]
fn a_cycle_is_printed() {
    let task = |name: &str, from: &str| {
        format!("[[task]]\nname = \"{name}\"\nscript = \"true\"\nfrom = [\"{from}\"]\n")
    };
    refused(&(task("a", "c") + &task("b", "a") + &task("c", "b"))).says("a -> b -> c -> a");
    refused(&task("a", "a")).says("a -> a");
}

#[test]
fn each_value_that_makes_no_sense_is_refused_with_its_place() {
    let long = format!("name = \"{}\"", "x".repeat(65));
    for (keys, told) in [
        ("inputs = [\"x\"]\nfrom = [\"a\"]", "`inputs`"),
        ("gather = true", "`gather` on a root"),
        ("match = [\"*\"]", "`match` on a root"),
        ("inputs = [\"a[\"]", "`a[`"),
        ("inputs = []", "`inputs` is empty"),
        ("timeout = \"5 parsecs\"", "timeout"),
        ("timeout = 30", "`timeout` must be"),
        ("retry_delay = \"1s\"", "`retry_delay`"),
        ("retries = -1", "retries"),
        ("parallel = \"two\"", "`parallel` must be"),
        ("cache = 1", "`cache` must be"),
        ("env = { \"A=B\" = \"x\" }", "A=B"),
        ("env = { A = 1 }", "must be a string"),
        ("shell = \"\"", "`shell` is empty"),
        ("shell = \"bash 'x\"", "`shell`"),
    ] {
        refused(&one(keys)).says("pipeline.toml:").says(told).says("^");
    }
    let names = ["a b", "", "a/b", "ä", ".", ".."].map(|name| format!("name = \"{name}\""));
    for name in names.iter().chain([&long]) {
        refused(&format!("[[task]]\n{name}\nscript = \"true\"\n")).says("pipeline.toml:2:8:");
    }
    refused("[[task]]\nname = \"a\"\n").says("no `script`");
    refused("[[task]]\nscript = \"true\"\n").says("no `name`");
}

#[test]
fn what_is_no_manifest_at_all_is_refused() {
    refused("").says("no tasks");
    refused("[[task]\nname = ").says("pipeline.toml:1:");
    let p = Project::new().file("pipeline.toml", b"name = \"\xff\"");
    p.run().fails(2).says("UTF-8");
    p.cmd(["-manifest", "bin"]).go().fails(2).says("bin").says("folder");
    p.cmd(["-manifest", "none.toml"]).go().fails(2).says("none.toml");
    assert!(!p.path("db").exists());
}

#[test]
fn nothing_is_written_to_a_database_that_exists_already() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    p.run().ok();
    p.manifest("[[task]]\nname = \"a\"\nscript = 1\n");
    let before = tree(&p.root());
    p.run().fails(2);
    assert_eq!(tree(&p.root()), before);
}

#[test]
fn a_file_that_is_named_but_missing_is_a_mistake() {
    let missing = "inputs = [\"data/none.csv\"]\nfiles = [\"none.txt\"]";
    refused(&one(missing)).says("data/none.csv").says("none.txt");
    let p = Project::new().task("a", "true");
    p.run_with(["gone.txt", "lost.txt"]).fails(2).says("gone.txt").says("lost.txt");
    p.run_with(["bin"]).fails(2).says("`bin`").says("folder");
    assert!(!p.path("db").exists());
}

#[test]
fn a_glob_that_matches_nothing_is_only_a_warning() {
    let p = Project::new().task_with("a", "inputs = [\"data/*.csv\"]", "true");
    p.run().ok().ran([]).says("warning").says("`a`");
}

#[test]
fn every_key_is_understood() {
    let p = Project::new().file("data/1.csv", "1\n").file("words.txt", "w\n").manifest(
        r#"
[[task]]
name    = "split"
script  = "cp $INPUT_FILE $OUTPUT_DIR/one.txt; echo no >$OUTPUT_DIR/no.bin"
inputs  = ["data/*.csv"]
[[task]]
name    = "Count_all.v-2"
from    = ["split"]
match   = ["*.txt"]
parallel = 2
timeout = "30s"
retries = 2
retry_delay = "1s"
env     = { LC_ALL = "C" }
files   = ["words.txt"]
shell   = "bash -euo pipefail"
cache   = true
script  = "cat $INPUT_FILE words.txt >$OUTPUT_DIR/$INPUT_NAME"
[[task]]
name    = "total"
gather  = true
script  = "cat $(cat $INPUT_FILE) >$OUTPUT_DIR/total"
"#,
    );
    p.run().ok();
    assert_eq!(p.exported("total"), files([("total", "1\nw\n")]));
}

#[test]
fn a_name_may_have_64_characters() {
    let name = "a.-_".repeat(16);
    let p = Project::new().task(&name, "echo 1 >$OUTPUT_DIR/x");
    p.run().ok().ran([name.as_str()]);
}

#[test]
fn every_key_is_in_the_manual_and_in_the_readme() {
    let refused = refused(&one("zzzzzz = 1"));
    let (_, list) = refused.stderr.split_once("a task has ").expect("the list of keys");
    let keys: Vec<&str> = list.lines().next().unwrap().split(", ").collect();
    assert!(keys.len() >= 15 && keys.contains(&"retry_delay"), "{keys:?}");
    let page = Project::new().call(["man"]).ok().stdout;
    let readme = include_str!("../../README.md");
    for key in keys {
        assert!(page.contains(&format!("\\fB{key}\\fR")), "{key} in the manual");
        let is_explained = |line: &str| line.starts_with(key) && line.contains(" = ");
        assert!(readme.lines().any(is_explained), "{key} in README.md");
    }
}

#[test]
fn a_manifest_saved_with_crlf_means_lf_and_this_is_said_once() {
    let lf = r#"[[task]]
name = "a"
script = """
#!/bin/sh -e
printf 'one\ntwo' >$OUTPUT_DIR/x.txt
"""
[[task]]
name = "b"
script = '''
cat $INPUT_FILE >$OUTPUT_DIR/y
'''
"#;
    let p = Project::new().manifest(&lf.replace('\n', "\r\n"));
    let ran = p.run().ok().says("CRLF");
    assert_eq!(ran.stderr.matches("CRLF").count(), 1, "{}", ran.stderr);
    assert_eq!(p.exported("a"), files([("x.txt", "one\ntwo")]));
    assert_eq!(p.exported("b"), files([("y", "one\ntwo")]));
    // It is the same manifest.
    p.manifest(lf).run().ok().says("nothing to do").says_nothing_of("CRLF");
    // A CR that is written as an escape is meant.
    p.manifest("[[task]]\r\nname = \"a\"\r\nscript = \"printf 'x\\r' >$OUTPUT_DIR/x\"\r\n");
    p.run().ok();
    assert_eq!(p.exported("a"), files([("x", "x\r")]));
    // Places in it are right.
    p.manifest("[[task]]\r\nname = 3\r\n").run().fails(2).says("pipeline.toml:2:8");
}
