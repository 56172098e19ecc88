//! What is written without fsync, and what a later run makes of it. A power cut is played: the
//! database says that all that was written comes from another boot. That `batch` survives real ones is
//! shown by `tests/torture`.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Project, WAIT_FOR_GO, sha256, wait_for};

const UNSYNCED: &str = "SELECT (SELECT count(*) FROM run WHERE sound = 0) \
                        + (SELECT count(*) FROM meta WHERE key = 'unsynced')";

fn project() -> Project {
    Project::new().file("in", "input\n").task_with(
        "a",
        "inputs = [\"in\"]",
        "cat $INPUT_FILE $INPUT_FILE >$OUTPUT_DIR/x",
    )
}

fn object(p: &Project, content: &str) -> std::path::PathBuf {
    let hash = sha256(content.as_bytes());
    p.object(&hash)
}

/// What a power cut may leave under a name that was never synced.
fn lose(p: &Project, content: &str) {
    fs::remove_file(object(p, content)).unwrap();
    fs::write(object(p, content), "").unwrap();
}

fn run_after_boot(p: &Project, durability: &str) -> crate::harness::Ran {
    if p.path("db/db").exists() {
        let other = "UPDATE run SET boot = 'another'; UPDATE meta SET value = 'another' WHERE key = 'unsynced'";
        rusqlite::Connection::open(p.path("db/db")).unwrap().execute_batch(other).unwrap();
    }
    p.run_with(["--durability", durability])
}

#[test]
fn a_power_cut_after_a_run_without_fsync_costs_what_is_spoilt_and_no_more() {
    let p = project().task("b", "cat $INPUT_FILE $INPUT_FILE >$OUTPUT_DIR/y");
    run_after_boot(&p, "off").ok().ran(["a", "b"]);
    lose(&p, &"input\n".repeat(4));
    run_after_boot(&p, "off").ok().ran(["b"]).says("1 object did not survive a power cut");
    lose(&p, "input\n");
    lose(&p, "input\ninput\n");
    run_after_boot(&p, "batch").ok().ran(["a"]).says("2 objects did not survive");
    p.call(["verify", "--data"]).ok();
    run_after_boot(&p, "batch").ok().ran([]).says_nothing_of("power cut");
}

#[test]
fn a_power_cut_after_batch_is_not_looked_for() {
    let p = project();
    run_after_boot(&p, "batch").ok().ran(["a"]);
    assert_eq!(p.sql(UNSYNCED), ["0"]);
    lose(&p, "input\ninput\n");
    run_after_boot(&p, "batch").ok().ran([]);
    p.call(["verify"]).fails(65);
}

#[test]
fn batch_makes_durable_what_a_run_without_fsync_left_before_it_builds_on_it() {
    let p = project();
    p.run_with(["--durability", "off"]).ok().ran(["a"]);
    p.run_with(["--durability", "off"]).ok().ran([]);
    assert_ne!(p.sql(UNSYNCED), ["0"]);
    p.run().ok().ran([]);
    assert_eq!(p.sql(UNSYNCED), ["0"]);
}

#[test]
fn the_log_of_a_killed_run_is_in_the_database_before_anything_is_added_to_it() {
    let p = project().task("slow", &format!(": >started\n{WAIT_FOR_GO}"));
    let first = p.run_cmd([""; 0]).start();
    wait_for("the second step", || p.path("started").exists());
    first.signal(Signal::KILL);
    first.end().dies_of(Signal::KILL);
    p.remove("started");
    let second = p.run_cmd([""; 0]).start();
    wait_for("the second step again", || p.path("started").exists());
    p.file("alone/db", fs::read(p.path("db/db")).unwrap());
    assert_eq!(p.sql_in("alone", "SELECT count(*) FROM step WHERE state = 1"), ["1"]);
    p.file("go", "");
    second.end().ok().ran(["slow"]);
}

#[test]
fn steps_that_were_sent_to_the_pool_already_heed_the_free_space_floor() {
    let p = Project::new();
    for n in 0..40 {
        p.file(format!("in/{n}"), format!("{n}"));
    }
    let found = rustix::fs::statvfs(p.root()).unwrap();
    let free = found.f_bavail * found.f_frsize;
    // The first step takes twice as much as may be taken.
    let script = format!("[ -e hog ] || fallocate -l {} hog", free / 16);
    p.task_with("a", "inputs = [\"in/*\"]", &script);
    let floor = (free - free / 32).to_string();
    let stopped = p.run_with(["-j1", "--min-free", &floor]).fails(73).says("have to stay free");
    let ran = p.ledger().len();
    assert!((1..40).contains(&ran), "{ran} steps ran: {}", stopped.stderr);
    p.remove("hog").run_with(["--min-free", "0"]).ok();
    assert_eq!(p.ledger().len(), 40);
}
