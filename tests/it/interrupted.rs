//! What a script had printed when its run was interrupted or killed: kept, and told apart from attempts.

use rustix::process::Signal;

use crate::harness::{Project, WAIT_FOR_GO, wait_for};

/// A step that is half way until it is let go.
fn half_way(keys: &str) -> Project {
    let script =
        format!("echo attempt $ATTEMPT is half way; : >started; {WAIT_FOR_GO}; echo all the way");
    Project::new().task("quick", "echo 1 >$OUTPUT_DIR/x").task_with("slow", keys, &script)
}

/// Whether what a step has printed is in its worker's file, from which it can be had after a kill.
fn is_filed(p: &Project) -> bool {
    let scratch = std::fs::read_dir(p.path("db/scratch")).into_iter().flatten().flatten();
    let workers = scratch.flat_map(|run| std::fs::read_dir(run.path()).into_iter().flatten());
    let logs = workers.flatten().map(|worker| worker.path().join("log"));
    logs.into_iter().any(|log| log.metadata().is_ok_and(|log| log.len() > 0))
}

/// Stops the run by a signal in the middle of the slow step.
fn stop(p: &Project, signal: Signal) {
    let running = p.run_cmd(["-j", "1"]).start();
    wait_for("the slow step", || p.path("started").exists() && is_filed(p));
    running.signal(signal);
    running.end().dies_of(signal);
    p.remove("started");
}

#[test]
fn the_log_of_an_interrupted_attempt_is_kept_and_the_attempt_counts_for_nothing() {
    let p = half_way("");
    stop(&p, Signal::INT);
    let said = "attempt 1 at step 2 was interrupted in run 1: this is what it had printed";
    p.call(["log", "2"]).ok().says(said).answers("attempt 1 is half way\n");
    p.call(["log", "slow", "--attempt", "1"]).ok().answers("attempt 1 is half way\n");
    p.call(["explain", "2"]).ok().answers("attempt 1 in run 1: interrupted; task-pipeline log 2\n");
    p.call(["status"]).ok().answers("total 2 steps: 1 done, 0 failed, 1 left");
    assert_eq!(p.sql("SELECT count(*) FROM attempt WHERE step = 2"), ["0"]);
    // It is an object like any other.
    p.call(["verify", "--data"]).ok();
    p.call(["gc", "--grace", "0s", "--history", "1"]).ok();
    p.call(["log", "2"]).ok().answers("attempt 1 is half way\n");

    p.file("go", "").run().ok().ran_on(["slow x"]);
    p.call(["log", "2"]).ok().answers("attempt 1 is half way\nall the way\n");
    p.call(["log", "2", "--interrupted"]).ok().says(said).answers("attempt 1 is half way\n");
    p.call(["log", "1", "--interrupted"]).fails(2).says("no log of an interrupted attempt");
    p.call(["log", "2", "--interrupted", "--json"]).fails(2).says("drop --json");
}

#[test]
fn what_a_killed_run_had_printed_is_there_before_the_next_run_and_after_it() {
    let p = half_way("");
    stop(&p, Signal::KILL);
    let said = "attempt 1 at step 2 was interrupted in run 1: this is what it had printed";
    p.call(["log", "2"]).ok().says(said).answers("attempt 1 is half way\n");
    p.file("go", "").run().ok().ran_on(["slow x"]);
    assert_eq!(std::fs::read_dir(p.path("db/scratch")).unwrap().count(), 0);
    p.call(["log", "2"]).ok().answers("attempt 1 is half way\nall the way\n");
    p.call(["log", "2", "--interrupted"]).ok().says(said).answers("attempt 1 is half way\n");
    p.call(["verify", "--data"]).ok();
}

#[test]
fn a_kill_uses_up_no_retry_and_is_no_failure() {
    let p = half_way("retries = 1");
    stop(&p, Signal::KILL);
    stop(&p, Signal::KILL);
    p.task_with("slow", "retries = 1", "echo number $ATTEMPT; [ $ATTEMPT = 2 ]");
    p.run().ok().says("attempt 1 of 2").says_nothing_of("attempt 2 of 2");
}

#[test]
fn each_step_of_a_batch_has_the_log_that_it_shared() {
    for signal in [Signal::INT, Signal::KILL] {
        let p = Project::new().manifest(&format!(
            "[[task]]\nname = \"two\"\nscript = 'echo 1 >$OUTPUT_DIR/x; echo 2 >$OUTPUT_DIR/y'\n\
             [[task]]\nname = \"all\"\nbatch = 2\nscript = 'echo both; : >started; {WAIT_FOR_GO}'\n"
        ));
        stop(&p, signal);
        for step in ["2", "3"] {
            p.call(["log", step]).ok().says("interrupted in run 1").answers("both\n");
        }
        let all = p.call(["log", "all"]).ok();
        all.answers("== step 3 all (y): attempt 1, interrupted in run 1\nboth\n");
        p.file("go", "").run().ok();
        p.call(["log", "3", "--interrupted"]).ok().answers("both\n");
    }
}

#[test]
fn the_log_of_a_task_says_which_of_its_steps_were_interrupted() {
    let p = half_way("");
    stop(&p, Signal::TERM);
    p.call(["log", "--failed"]).ok().says_nothing_of("interrupted");
    let json = p.call(["log", "slow", "--json"]).ok().json();
    assert!(json[0]["attempt"].is_null(), "{json}");
    assert_eq!(json[0]["interrupted"]["log"], "attempt 1 is half way\n");
}
