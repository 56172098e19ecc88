//! Section 7: one runner per database.

use std::fs;
use std::path::Path;

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

/// Whether a process has opened the lock.
fn looks_at_the_lock(p: &Project, pid: u32) -> bool {
    let lock = p.path("db/lock").canonicalize().unwrap();
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    fds.map(|fd| std::fs::read_link(fd.path())).any(|open| open.is_ok_and(|open| open == lock))
}

#[test]
fn a_lock_that_only_a_child_of_a_dead_runner_still_has_is_waited_for() {
    let p = Project::new().task("a", "true");
    p.run().ok();
    // So it is between the fork and the exec of a script whose runner was killed.
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    p.file("db/lock", format!("pid {} on here, since then\n", dead.id()));
    let lock = std::fs::File::open(p.path("db/lock")).unwrap();
    lock.lock().unwrap();
    let running = p.run_cmd([""; 0]).start();
    wait_for("its look at the lock", || looks_at_the_lock(&p, running.pid()));
    assert_eq!(running.stderr(), "");
    lock.unlock().unwrap();
    running.end().ok();
    // One that lives is believed at once.
    p.file("db/lock", format!("pid {} on here, since then\n", std::process::id()));
    lock.lock().unwrap();
    p.run().fails(75).says(&format!("pid {}", std::process::id()));
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

#[test]
fn a_holder_that_has_not_signed_yet_is_waited_for() {
    for left_by_the_last_one in ["", "pid 4194304 on nowhere, since long ago\n"] {
        let p = busy().file("go", "");
        p.run().ok();
        let lock = p.path("db/lock");
        let held = fs::File::options().read(true).write(true).open(&lock).unwrap();
        held.try_lock().unwrap();
        fs::write(&lock, left_by_the_last_one).unwrap();
        let second = p.run_cmd(["-B"]).start();
        wait_for("the second one's look", || has_open(second.pid(), &lock));
        let name = format!("pid {} on here, since now", std::process::id());
        fs::write(&lock, &name).unwrap();
        second.end().fails(75).says(&name);
    }
}

fn has_open(pid: u32, path: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    open.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|target| target == path))
}

#[test]
fn a_runner_that_ended_is_not_named() {
    let p = busy().file("go", "");
    p.run().ok();
    assert_eq!(p.read("db/lock"), "");
}

#[test]
fn a_script_that_waits_for_its_own_run_is_told_so() {
    let inner = format!("'{}' -db db", env!("CARGO_BIN_EXE_task-pipeline"));
    // By its environment, or by descent where that was cleared.
    for how in ["", "setsid -w ", "env -i "] {
        let p = Project::new().file("other.toml", "[[task]]\nname = \"x\"\nscript = \":\"\n");
        p.task("a", &format!("{how}{inner} -manifest other.toml --wait 2>said || echo $? >>said"));
        p.run().ok().ran(["a"]);
        let said = p.read("said");
        assert!(said.contains("this script belongs to") && said.ends_with("\n75\n"), "{said}");
        // On another database it may do as it likes.
        p.task("a", &format!("{how}{inner}2 -manifest other.toml --wait")).run().ok().ran(["a"]);
    }
}

/// Another program that has begun to write to the database.
fn foreign_writer(p: &Project) -> rusqlite::Connection {
    let conn = rusqlite::Connection::open(p.path("db/db")).unwrap();
    conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    conn.execute_batch("BEGIN IMMEDIATE").unwrap();
    conn
}

fn fan() -> Project {
    let p = Project::new();
    for n in 0..30 {
        p.file(format!("in/{n}"), n.to_string());
    }
    let script = format!(": >started; {WAIT_FOR_GO}; cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME");
    p.task_with("a", "inputs = [\"in/*\"]", &script)
}

#[test]
fn a_run_waits_for_another_writer_says_for_whom_and_loses_nothing() {
    let p = fan();
    let running = p.run_cmd(["-j2"]).start();
    wait_for("the first step", || p.path("started").exists());
    let other = foreign_writer(&p);
    p.file("go", "");
    // Scripts go on meanwhile, and readers too.
    wait_for("all scripts", || p.ledger().len() == 30);
    let holder = format!("waiting: process {} (", std::process::id());
    wait_for("the news", || running.stderr().contains(&holder));
    p.call(["status"]).ok().answers("under way");
    other.execute_batch("ROLLBACK").unwrap();
    running.end().ok().says("nothing is lost");
    p.run().ok().ran([]);
}

#[test]
fn a_second_signal_ends_the_wait_for_another_writer() {
    let p = fan();
    let running = p.run_cmd(["-j2"]).start();
    wait_for("the first step", || p.path("started").exists());
    let other = foreign_writer(&p);
    p.file("go", "");
    wait_for("the news", || running.stderr().contains("waiting: process"));
    running.signal(Signal::INT);
    wait_for("its answer", || running.stderr().contains("SIGINT"));
    running.signal(Signal::INT);
    assert!(!running.end().is_ok());
    other.execute_batch("ROLLBACK").unwrap();
    p.run().ok();
    assert_eq!(p.exported("a").len(), 30);
}
