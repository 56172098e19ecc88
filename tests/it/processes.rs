//! Section 8: processes and signals.

use rustix::process::Signal;

use crate::harness::{Project, WAIT_FOR_GO, files, is_alive, wait_for};

#[test]
fn a_step_that_runs_too_long_is_ended_with_all_it_started() {
    let p = Project::new().task_with(
        "a",
        "timeout = \"300ms\"",
        "sleep 1000 & echo $! >child; echo $$ >shell; sleep 1000",
    );
    p.run().fails(1).ran(["a"]).says("timed out").says("300");
    assert_eq!(p.sql("SELECT outcome FROM attempt"), ["timeout"]);
    assert!(!is_alive(&p.read("child")) && !is_alive(&p.read("shell")));
}

#[test]
fn a_step_that_ignores_term_is_killed_after_the_grace() {
    let p = Project::new().task_with(
        "a",
        "timeout = \"200ms\"",
        "trap '' TERM; echo $$ >shell; for n in 1 2 3 4 5 6; do sleep 10; done",
    );
    p.run().fails(1).says("timed out");
    assert!(!is_alive(&p.read("shell")));
}

#[test]
fn what_a_finished_step_left_running_is_ended_and_reported() {
    let p = Project::new().task("a", "sleep 1000 & echo $! >child; (sleep 1000 >/dev/null 2>&1 </dev/null &); echo 1 >$OUTPUT_DIR/x");
    p.run().ok().says("warning").says("a");
    wait_for("the child's end", || !is_alive(&p.read("child")));
    assert_eq!(p.exported("a"), files([("x", "1\n")]));
}

#[test]
fn a_leftover_can_not_change_the_outputs_any_more() {
    let p = Project::new().task(
        "a",
        &format!(
            "echo 1 >$OUTPUT_DIR/x; ({WAIT_FOR_GO}; echo late >>$OUTPUT_DIR/x; echo >late) & true"
        ),
    );
    p.run().ok();
    p.file("go", "");
    assert_eq!(p.exported("a"), files([("x", "1\n")]));
    assert!(!p.path("late").exists());
    crate::store::every_object_hashes_to_its_path(&p);
}

#[test]
fn death_by_a_signal_is_told_by_its_name() {
    let p = Project::new().task("a", "kill -SEGV $$");
    p.run().fails(1).says("SIGSEGV");
    assert_eq!(p.sql("SELECT outcome, code FROM attempt"), ["signal|11"]);
    p.task("a", "kill -9 $$").run().fails(1).says("signal 9").says("memory");
}

#[test]
fn signals_that_the_parent_ignores_or_blocks_by_accident_do_no_harm() {
    let p = waiting(&Project::new());
    let env = |option: &str| {
        let mut command = std::process::Command::new("env");
        command.args([option, env!("CARGO_BIN_EXE_task-pipeline"), "-q"]).current_dir(p.root());
        command
    };
    // Without SIGCHLD the kernel would reap the scripts itself.
    p.file("go", "");
    assert!(env("--ignore-signal=CHLD").status().unwrap().success());
    p.remove("go").remove("started");
    let mut running = env("--block-signal=TERM").arg("-B").spawn().unwrap();
    wait_for("the slow step", || p.path("started").exists());
    rustix::process::kill_process(rustix::process::Pid::from_child(&running), Signal::TERM)
        .unwrap();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(running.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    assert!(!is_alive(&p.read("shell")));
}

/// Two steps, one of which waits to be let go.
fn waiting(p: &Project) -> Project {
    p.task("quick", "echo 1 >$OUTPUT_DIR/x").task(
        "slow",
        &format!("echo $$ >shell; : >started; {WAIT_FOR_GO}; cp $INPUT_FILE $OUTPUT_DIR/x"),
    )
}

#[test]
fn the_first_signal_ends_what_runs_and_the_runner_dies_of_it() {
    let signals = [
        Signal::INT,
        Signal::TERM,
        Signal::HUP,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::VTALARM,
        Signal::PROF,
        Signal::XCPU,
        Signal::POWER,
        Signal::STKFLT,
        Signal::SYS,
        Signal::TRAP,
        Signal::ABORT,
    ];
    for signal in signals {
        let p = waiting(&Project::new());
        let running = p.run_cmd([""; 0]).start();
        wait_for("the slow step", || p.path("started").exists());
        running.signal(signal);
        running.end().dies_of(signal);
        assert!(!is_alive(&p.read("shell")));
        assert_eq!(p.sql("SELECT result FROM run"), ["stopped"]);
        // What was cancelled tells nothing of the step; what was done is kept.
        assert_eq!(p.sql("SELECT count(*) FROM attempt"), ["1"]);
        p.file("go", "").run().ok().ran_on(["slow x"]);
        assert_eq!(p.exported("slow"), files([("x", "1\n")]));
    }
}

#[test]
fn a_signal_of_real_time_ends_what_runs_and_the_runner_dies_of_it() {
    use std::os::unix::process::ExitStatusExt as _;
    for signal in [34, 64] {
        let p = waiting(&Project::new());
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_task-pipeline"));
        let mut running = command.arg("-q").current_dir(p.root()).spawn().unwrap();
        wait_for("the slow step", || p.path("started").exists());
        let kill = [format!("-{signal}"), running.id().to_string()];
        assert!(std::process::Command::new("kill").args(kill).status().unwrap().success());
        assert_eq!(running.wait().unwrap().signal(), Some(signal));
        assert!(!is_alive(&p.read("shell")));
    }
}

#[test]
fn a_signal_ends_what_shares_tokens_too_whoever_else_uses_that_signal() {
    for signal in [Signal::USR1, Signal::TERM] {
        let p = Project::new().task_with(
            "slow",
            "jobserver = true",
            &format!("echo $$ >shell; : >started; {WAIT_FOR_GO}"),
        );
        let running = p.run_cmd(["-j", "2"]).start();
        wait_for("the slow step", || p.path("started").exists());
        running.signal(signal);
        running.end().dies_of(signal);
        assert!(!is_alive(&p.read("shell")));
        p.file("go", "").run_with(["-j", "2"]).ok().ran(["slow"]);
    }
}

#[test]
fn the_second_signal_kills_at_once() {
    let p = Project::new().task(
        "stubborn",
        "trap '' INT TERM HUP; echo $$ >shell; : >started; for n in 1 2 3 4 5 6; do sleep 10; done",
    );
    let running = p.run_cmd([""; 0]).start();
    wait_for("the step", || p.path("started").exists());
    running.signal(Signal::INT);
    wait_for("the first one's news", || running.stderr().contains("SIGINT"));
    running.signal(Signal::INT);
    running.end().dies_of(Signal::INT);
    assert!(!is_alive(&p.read("shell")));
}

#[test]
fn what_a_killed_runner_left_behind_is_ended_by_the_next_one() {
    let p = waiting(&Project::new());
    let running = p.run_cmd([""; 0]).start();
    wait_for("the slow step", || p.path("started").exists());
    let left = p.read("shell");
    running.signal(Signal::KILL);
    running.end().dies_of(Signal::KILL);
    p.task("slow", "cp $INPUT_FILE $OUTPUT_DIR/x").run().ok().ran_on(["slow x"]);
    wait_for("the end of what was left", || !is_alive(&left));
    assert_eq!(std::fs::read_dir(p.path("db/scratch")).unwrap().count(), 0);
}

#[test]
fn a_reader_that_goes_away_does_not_stop_a_run() {
    let p = Project::new()
        .task("a", "n=0; while [ $n -lt 50 ]; do echo $n >$OUTPUT_DIR/$n; n=$((n+1)); done")
        .task("b", "true");
    let script = format!(
        "{} -manifest pipeline.toml 2>&1 | head -n 1; {0} cat a/7 | true",
        env!("CARGO_BIN_EXE_task-pipeline")
    );
    let out = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(p.root())
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&out.stderr).contains("panic"), "{out:?}");
    p.run().ok().ran([]).says("nothing to do");
    let full = format!("{} cat a >/dev/full", env!("CARGO_BIN_EXE_task-pipeline"));
    let out = std::process::Command::new("sh")
        .args(["-c", &full])
        .current_dir(p.root())
        .output()
        .unwrap();
    assert!(matches!(out.status.code(), Some(73 | 74)), "{out:?}");
}

#[test]
fn a_limit_on_the_size_of_files_is_an_error_and_no_death() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    for kib in [0, 4, 60] {
        let script = format!("ulimit -f {kib}; {} -db small", env!("CARGO_BIN_EXE_task-pipeline"));
        let mut command = std::process::Command::new("bash");
        let out = command.args(["-c", &script]).current_dir(p.root()).output().unwrap();
        assert!(matches!(out.status.code(), Some(73 | 74)), "{kib}: {out:?}");
    }
    p.call(["-db", "small"]).ok().ran(["a"]);
}

/// The state of a process as ps(1) shows it: `T` is stopped.
fn state(pid: &str) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().unwrap_or_default().chars().take(1).collect()
}

#[test]
fn ctrl_z_stops_the_scripts_too_and_they_go_on_with_the_runner() {
    let p = Project::new().task("quick", "echo 1 >$OUTPUT_DIR/x");
    // It starts nothing while it waits: a shell whose child is stopped before it has become a program is never `T`.
    p.task("slow", "echo $$ >shell; : >started; read -r line <gate; cp $INPUT_FILE $OUTPUT_DIR/x");
    let gate = std::process::Command::new("mkfifo").arg(p.path("gate")).status().unwrap();
    assert!(gate.success());
    let running = p.run_cmd([""; 0]).start();
    wait_for("the slow step", || p.path("started").exists());
    let (runner, shell) = (running.pid().to_string(), p.read("shell"));
    running.signal(Signal::TSTP);
    wait_for("the runner's stop", || state(&runner) == "T");
    wait_for("the script's stop", || state(&shell) == "T");
    running.signal(Signal::CONT);
    wait_for("the script", || state(&shell) != "T");
    std::fs::write(p.path("gate"), "go\n").unwrap();
    running.end().ok().ran(["quick", "slow"]);
}

/// A socket as Python's multiprocessing makes it.
const SOCKET: &str = r#"python3 -c '
import os, socket
d = os.environ["TMPDIR"] + "/pymp-12345678"; os.mkdir(d)
socket.socket(socket.AF_UNIX).bind(d + "/listener-12345678")
open("tmpdir", "w").write(os.environ["TMPDIR"])'"#;

#[test]
fn tmpdir_is_short_enough_for_a_socket_however_deep_the_project_lies() {
    let deep = "d".repeat(60);
    let p = Project::new().task("a", &format!("{SOCKET}; : >started; {WAIT_FOR_GO}"));
    let run = |p: &Project| p.run_cmd(["-db", &format!("{deep}/db")]);
    let running = run(&p).start();
    wait_for("the socket", || p.path("started").exists());
    let left = std::path::PathBuf::from(p.read("tmpdir"));
    assert!(left.is_dir() && !left.starts_with(p.root()), "{left:?}");
    // What a killed runner has left is removed by the next one, there too.
    running.signal(Signal::KILL);
    running.end().dies_of(Signal::KILL);
    p.file("go", "");
    run(&p).go().ok();
    let used = std::path::PathBuf::from(p.read("tmpdir"));
    assert!(!left.exists() && !used.exists(), "{left:?} or {used:?} is left");
}

#[test]
fn more_scripts_than_files_may_be_open_and_each_has_the_limit_that_was_given() {
    let p = Project::new();
    for n in 0..200 {
        p.file(format!("in/{n}"), n.to_string());
    }
    // All at once: each waits until all have started.
    p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        r#"ulimit -Sn >"$OUTPUT_DIR/$INPUT_NAME.first"
           : > "started-$INPUT_NAME"; until [ "$(ls | grep -c ^started-)" = 200 ]; do sleep 0.5; done
           ulimit -Sn >"$OUTPUT_DIR/$INPUT_NAME""#,
    );
    let call = p.run_cmd(["-j", "200"]).shell("ulimit -Sn 256");
    call.go().ok();
    assert!(p.exported("a").values().all(|limit| limit == "256\n"));
}

#[test]
fn fewer_scripts_than_asked_for_run_where_no_more_files_may_be_open_and_that_is_said_once() {
    let p = Project::new();
    for n in 0..80 {
        p.file(format!("in/{n}"), n.to_string());
    }
    // Long enough that as many run at once as may.
    p.task_with("a", "inputs = [\"in/*\"]", "sleep 0.2; cp $INPUT_FILE $OUTPUT_DIR/x")
        .task("b", "cp $INPUT_FILE $OUTPUT_DIR/y");
    for limit in [100, 700] {
        let ran = p.run_cmd(["-B", "-j", "1000"]).shell(&format!("ulimit -n {limit}")).go().ok();
        assert_eq!(ran.stderr.matches("scripts at once instead of 1000").count(), 1);
        ran.says(&format!("no more than {limit} files may be open"));
    }
    p.run_with(["-B", "-j", "40"]).ok().says_nothing_of("at once instead");
}

#[test]
fn a_runs_scratch_belongs_to_its_user_alone_whatever_the_umask() {
    let p = waiting(&Project::new());
    let running = p.run_cmd([""; 0]).shell("umask 000").start();
    wait_for("the slow step", || p.path("started").exists());
    for entry in std::fs::read_dir(p.path("db/scratch")).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    p.file("go", "");
    running.end().ok();
}

#[test]
fn the_first_process_of_a_container_exits_as_if_it_had_died_of_the_signal() {
    let namespace = ["unshare", "--pid", "--fork", "--kill-child", "--map-root-user"];
    let may = std::process::Command::new(namespace[0]).args(&namespace[1..]).arg("true").output();
    if !may.is_ok_and(|may| may.status.success()) {
        return eprintln!("SKIPPED: this user may make no namespaces");
    }
    let p = Project::new().task("a", ": >started; sleep 1000");
    let running =
        p.run_cmd([""; 0]).shell(&format!("exec {} \"$0\" \"$@\"", namespace.join(" "))).start();
    wait_for("the step", || p.path("started").exists());
    let children = format!("/proc/{0}/task/{0}/children", running.pid());
    let runner = std::fs::read_to_string(children).unwrap();
    let runner = rustix::process::Pid::from_raw(runner.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(runner, Signal::TERM).unwrap();
    running.end().fails(128 + 15);
}
