//! How options and arguments are written, and what misuse is told.

use crate::harness::{Project, files};

fn project() -> Project {
    Project::new().task("a", "echo 1 >$OUTPUT_DIR/x")
}

#[test]
fn long_options_may_be_written_in_each_of_the_usual_ways() {
    for args in [
        &["-manifest", "pipeline.toml", "-db", "here"][..],
        &["--manifest", "pipeline.toml", "--db", "here"],
        &["-manifest=pipeline.toml", "-db=here"],
        &["--manifest=pipeline.toml", "--db=here"],
        &["run", "-manifest", "pipeline.toml", "-db", "here"],
        &["-db", "./here", "-manifest", "./pipeline.toml"],
        &["-db", "here"],
    ] {
        let p = project();
        p.call(args).ok().ran(["a"]);
        assert!(p.path("here/db").is_file(), "{args:?}");
        assert!(!p.path("db").exists(), "{args:?}");
    }
}

#[test]
fn the_database_is_db_in_this_folder_unless_it_is_named() {
    let p = project();
    p.call([""; 0]).ok().ran(["a"]);
    assert!(p.path("db/db").is_file());
    assert_eq!(p.exported("a"), files([("x", "1\n")]));
}

#[test]
fn the_folders_of_a_database_are_made() {
    let p = project();
    p.call(["-db", "deep/er/db"]).ok();
    assert!(p.path("deep/er/db/db").is_file());
}

#[test]
fn the_number_of_jobs_may_be_written_in_each_of_the_usual_ways() {
    let p = project();
    for args in [
        &["-j2"][..],
        &["-j", "2"],
        &["-j=2"],
        &["--jobs=2"],
        &["-jobs", "2"],
        &["-parallel", "2"],
        &["--parallel=2"],
        &["-kj2"],
    ] {
        p.run_with(args).ok();
    }
    for args in [&["-j0"][..], &["-j"], &["-j", "two"], &["--jobs=-1"]] {
        p.run_with(args).fails(2);
    }
}

#[test]
fn misuse_exits_with_2_and_says_what_was_meant() {
    let p = project();
    p.call(["-manifets", "pipeline.toml"]).fails(2).says("-manifets").says("--manifest");
    p.call(["--keep-goin"]).fails(2).says("--keep-going");
    p.call(["-x"]).fails(2).says("-x");
    p.call(["-manifest"]).fails(2).says("manifest");
    p.call(["staus"]).fails(2).says("status");
    p.call(["export", "a"]).fails(2).says("--to");
    p.call(["export", "--to", "out"]).fails(2).says("TASK");
    p.call(["log"]).fails(2).says("STEP");
    p.call(["cat"]).fails(2).says("HASH");
    p.call(["status", "extra"]).fails(2).says("extra");
    p.run_with(["--durability", "maybe"]).fails(2).says("maybe");
    p.run_with(["-q", "-v"]).fails(2);
    p.run_with(["--json"]).fails(2).says("-n");
    assert!(!p.path("db").exists());
}

#[test]
fn help_and_version_go_to_stdout() {
    let p = Project::new();
    for args in [&["-h"][..], &["--help"], &["-help"], &["help"]] {
        let ran = p.call(args).ok().answers("manifest").answers("status").answers("export");
        assert_eq!(ran.stderr, "");
    }
    p.call(["run", "-h"]).ok().answers("--keep-going").answers("-B");
    p.call(["export", "--help"]).ok().answers("--to").answers("--partial");
    for args in [["--version"], ["-version"]] {
        p.call(args).ok().answers(env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn an_input_may_look_like_an_option_or_a_command_after_two_dashes() {
    let p = Project::new()
        .file("-x", "x\n")
        .file("status", "s\n")
        .task("a", "cp $INPUT_FILE $OUTPUT_DIR/out$INPUT_NAME");
    p.run_with(["--", "-x", "status"]).ok().ran_on(["a -x", "a status"]);
    assert_eq!(p.exported("a"), files([("out-x", "x\n"), ("outstatus", "s\n")]));
}

#[test]
fn options_may_come_after_inputs() {
    let p = Project::new().file("x", "x\n").task("a", "cp $INPUT_FILE $OUTPUT_DIR/out");
    p.call(["x", "-manifest", "pipeline.toml", "-k"]).ok().ran_on(["a x"]);
}

#[test]
fn the_manifest_is_looked_for_and_its_absence_told() {
    let p = Project::new();
    p.call([""; 0]).fails(2).says("-manifest").says("pipeline.toml");
    p.call(["-manifest", "other.toml"]).fails(2).says("other.toml");
    assert!(!p.path("db").exists());
}

#[test]
fn results_do_not_depend_on_durability() {
    let p = project();
    p.run_with(["--durability", "off"]).ok().ran(["a"]);
    p.run_with(["--durability=batch"]).ok().ran([]);
    assert_eq!(p.exported("a"), files([("x", "1\n")]));
    assert_eq!(p.sql("SELECT durability FROM run WHERE id = 1"), ["off"]);
}

#[test]
fn another_programs_database_is_left_alone() {
    let p = project();
    std::fs::create_dir(p.path("db")).unwrap();
    let conn = rusqlite::Connection::open(p.path("db/db")).unwrap();
    conn.execute_batch("CREATE TABLE precious(x); INSERT INTO precious VALUES (1);").unwrap();
    drop(conn);
    let before = p.read("db/db");
    p.run().fails(65).ran([]).says("another program").says("--db");
    assert_eq!(p.read("db/db"), before);
    p.file("other/db", "this is no database, but a text that somebody wrote")
        .call(["-db", "other"])
        .fails(65);
    assert_eq!(p.read("other/db"), "this is no database, but a text that somebody wrote");
}

#[test]
fn a_newer_schema_is_refused_by_its_number() {
    let p = project();
    p.run().ok();
    let conn = rusqlite::Connection::open(p.path("db/db")).unwrap();
    conn.pragma_update(None, "user_version", 999).unwrap();
    drop(conn);
    p.run().fails(65).says("schema 999");
    p.call(["status"]).fails(65).says("schema 999");
}
