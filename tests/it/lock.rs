//! Section 7: one runner per database.

use rustix::process::Signal;

use crate::harness::{Project, WAIT_FOR_GO, wait_for};

/// A project whose one step runs until `go`.
fn busy() -> Project {
    Project::new().task("slow", &format!(": >started; {WAIT_FOR_GO}; echo 1 >$OUTPUT_DIR/x"))
}

#[test]
fn a_second_run_says_who_holds_the_database_and_exits_with_75() {
    let p = busy();
    let first = p.run_cmd([""; 0]).start();
    wait_for("the step", || p.path("started").exists());
    let pid = format!("pid {}", first.pid());
    p.run().fails(75).ran([]).says(&pid).says("--wait");
    p.run_with(["-B"]).fails(75).says(&pid);
    p.file("go", "");
    first.end().ok().ran(["slow"]);
    p.run().ok().ran([]);
}

#[test]
fn a_second_run_waits_if_it_is_told_to_and_says_whom_for() {
    let p = busy();
    let first = p.run_cmd([""; 0]).start();
    wait_for("the step", || p.path("started").exists());
    let second = p.run_cmd(["--wait"]).start();
    let pid = format!("pid {}", first.pid());
    wait_for("the second one's news", || second.stderr().contains(&pid));
    p.file("go", "");
    first.end().ok();
    second.end().ok().says("waiting").says("nothing to do");
}

#[test]
fn another_database_is_another_matter() {
    let p = busy();
    let first = p.run_cmd([""; 0]).start();
    wait_for("the step", || p.path("started").exists());
    p.file("go", "");
    p.call(["-db", "other"]).ok();
    first.end().ok();
}

#[test]
fn a_killed_runner_leaves_no_lock_though_its_script_lives_on() {
    let p = busy();
    let first = p.run_cmd([""; 0]).start();
    wait_for("the step", || p.path("started").exists());
    first.signal(Signal::KILL);
    first.end().dies_of(Signal::KILL);
    p.file("go", "").run().ok().ran(["slow"]);
}

#[test]
fn a_waiting_run_can_be_interrupted() {
    let p = busy();
    let first = p.run_cmd([""; 0]).start();
    wait_for("the step", || p.path("started").exists());
    let second = p.run_cmd(["--wait"]).start();
    wait_for("the second one's news", || second.stderr().contains("waiting"));
    second.signal(Signal::INT);
    second.end().dies_of(Signal::INT);
    p.file("go", "");
    first.end().ok();
}
