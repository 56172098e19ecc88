//! What becomes of a run when the connection to a worker breaks, falls silent or is slow, when a worker's time or disk
//! is used up, and when its job can't even start.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::{Project, WAIT_FOR_GO, is_alive, wait_for};
use crate::remote::{SSH, kill, left_behind, on, on_slurm, port, slurm, some_steps, workers};
use crate::sandbox::can_confine;

/// A way to the run's port that can be cut.
struct Detour {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Detour {
    /// Leads to what `find` gives once somebody comes.
    fn to(find: impl Fn() -> u16 + Send + 'static) -> Detour {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let kept = Arc::clone(&open);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(("127.0.0.1", find())) else { continue };
                let copy = |mut from: TcpStream, mut to: TcpStream| {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                };
                copy(near.try_clone().unwrap(), far.try_clone().unwrap());
                copy(far.try_clone().unwrap(), near.try_clone().unwrap());
                kept.lock().unwrap().extend([near, far]);
            }
        });
        Detour { address, open }
    }

    /// Ends all connections that there are.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Processes of the scripts that have written their numbers to `pid.*`.
fn scripts(p: &Project) -> Vec<String> {
    let entries = std::fs::read_dir(p.root()).unwrap().map(|entry| entry.unwrap().path());
    let is_pid = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("pid.");
    entries
        .filter(is_pid)
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .filter(|pid| !pid.trim().is_empty())
        .collect()
}

/// The first attempt at each of so many steps doesn't end by itself.
fn endless_at_first(steps: usize) -> Project {
    let names: String = (1..=steps).map(|n| format!(" {n}")).collect();
    Project::new()
        .task("many", &format!(r#"for n in{names}; do echo "$n" >"$OUTPUT_DIR/$n"; done"#))
        .task(
            "each",
            r#"[ "$ATTEMPT" -gt 1 ] || { echo $$ >"pid.$INPUT_NAME"; exec sleep 600; }
cat "$INPUT_FILE" >"$OUTPUT_DIR/x""#,
        )
}

#[test]
fn a_worker_that_lost_its_connection_comes_back_and_its_steps_run_again() {
    let p = endless_at_first(2);
    slurm(&p, "");
    let port = free_port();
    let detour = Detour::to(move || port);
    p.file("elsewhere", detour.address.to_string());
    let listen = format!("127.0.0.1:{port}");
    let args = ["--on", "slurm:1x2", "--walltime", "9m", "--listen", &listen];
    let running = on(&p, &args).start();
    wait_for("two scripts", || scripts(&p).len() == 2);
    let before = workers(&p);
    detour.cut();
    running.end().ok().says("on n1 was lost").says("its 2 steps run again").says(": 3 done");
    assert!(scripts(&p).iter().all(|pid| !is_alive(pid)));
    assert_eq!(before.len(), 1);
    // It was the same worker, in the same job.
    assert_eq!(p.read("sbatch.log").lines().count(), 1);
    assert_eq!(p.sql("SELECT count(*), count(DISTINCT step), max(number) FROM attempt"), ["3|3|2"]);
    wait_for("the end of the workers", || left_behind(&p).is_empty());
}

#[test]
fn scripts_of_workers_end_when_their_run_has_said_nothing_for_20_s() {
    let p = endless_at_first(2);
    let running = on(&p, &["--on", "local:2"]).start();
    wait_for("two scripts", || scripts(&p).len() == 2);
    // It is there, and its connections are; but it doesn't answer.
    running.signal(Signal::STOP);
    wait_for("the end of the scripts", || scripts(&p).iter().all(|pid| !is_alive(pid)));
    wait_for("the end of the workers", || left_behind(&p).is_empty());
    running.signal(Signal::CONT);
    running.end().ok().says("was lost").says(": 3 done");
    assert_eq!(p.sql("SELECT count(*), count(DISTINCT step), max(number) FROM attempt"), ["3|3|2"]);
}

#[test]
fn whoever_says_hello_too_slowly_is_sent_away_and_the_run_goes_on() {
    let p = Project::new().task("one", &format!(": >started; {WAIT_FOR_GO}"));
    let running = on(&p, &["--on", "local:1"]).start();
    let mut slow = TcpStream::connect(("127.0.0.1", port(&p))).unwrap();
    wait_for("the script", || p.path("started").exists());
    let mut said = b"task-pipeline\n\x01\x00\x00\x10\x00\x00".to_vec();
    said.resize(4096, b' ');
    // At a byte every 20 ms it would take a minute and a half.
    slow.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut heard = [0; 1024];
    let sent = said.iter().take_while(|byte| {
        let is_over = |read: std::io::Result<usize>| match read {
            Ok(count) => count == 0,
            Err(err) => err.kind() != std::io::ErrorKind::WouldBlock,
        };
        slow.write_all(&[**byte]).is_ok() && !is_over(slow.read(&mut heard))
    });
    let sent = sent.count();
    assert!(sent < said.len(), "it was heard to its end");
    p.file("go", "");
    running.end().ok().says("said nothing for 10 s that a worker says").says(": 1 done");
}

#[test]
fn a_job_that_is_requeued_goes_on_with_what_the_first_one_has_lost() {
    let p = endless_at_first(2);
    slurm(&p, "");
    let call = on(&p, &["--on", "slurm:1x2", "--walltime", "9m", "--listen", "127.0.0.1"]);
    let running = call.start();
    wait_for("two scripts", || scripts(&p).len() == 2);
    let first = workers(&p)[0];
    let job = |number: &str| {
        let numbers = format!("SLURM_ARRAY_TASK_ID=1 SLURM_JOB_ID={number} SLURMD_NODENAME=n2");
        let script = format!("{numbers} TMPDIR=\"$PWD\" exec sh job.*");
        Command::new("sh").args(["-c", &script]).current_dir(p.root()).spawn().unwrap()
    };
    // One job too many leaves.
    assert!(job("99").wait().unwrap().success());
    // As Slurm does it: the same script, with the same numbers; and before the first one is missed, as when its node is cut
    // off.
    kill(first, Signal::STOP);
    let mut again = job("71");
    let ran = running.end().ok().says("on n1 was lost: it has connected anew").says(": 3 done");
    ran.says_nothing_of("on n2 was lost");
    assert!(again.wait().unwrap().success());
    kill(first, Signal::KILL);
    assert_eq!(p.read("sbatch.log").lines().count(), 1);
    assert_eq!(p.sql("SELECT count(*), count(DISTINCT step), max(number) FROM attempt"), ["3|3|2"]);
    // Its heir has seen to what the first one has left.
    wait_for("the end of what was left", || {
        left_behind(&p).is_empty() && scripts(&p).iter().all(|pid| !is_alive(pid))
    });
}

#[test]
fn a_job_that_was_cancelled_is_submitted_anew_and_its_scripts_have_not_failed() {
    let p =
        Project::new().task("many", r#"for n in 1 2; do echo "$n" >"$OUTPUT_DIR/$n"; done"#).task(
            "each",
            r#"[ -e go ] || { echo $$ >"pid.$INPUT_NAME"; exec sleep 600; }
cat "$INPUT_FILE" >"$OUTPUT_DIR/x""#,
        );
    slurm(&p, "");
    let running = on_slurm(&p, &[]).start();
    wait_for("two scripts", || scripts(&p).len() == 2);
    p.file("go", "");
    // Slurm ends all processes of a job at once; here none gets ahead of the other.
    let (scripts, workers) = (scripts(&p), workers(&p));
    workers.iter().for_each(|pid| kill(*pid, Signal::STOP));
    let scripts = scripts.iter().map(|pid| pid.trim().parse().unwrap());
    scripts.chain(workers.clone()).for_each(|pid| kill(pid, Signal::TERM));
    workers.iter().for_each(|pid| kill(*pid, Signal::CONT));
    let ran = running.end().ok().says("leaves: it was sent signal 15").says(": 3 done, 0 failed");
    ran.says_nothing_of("was lost");
    let log = p.read("sbatch.log");
    assert!(log.lines().count() >= 2 && log.contains("--array=1,2,3 "), "{log}");
    let named: std::collections::BTreeSet<&str> =
        log.lines().map(|line| line.rsplit("--job-name=").next().unwrap()).collect();
    assert_eq!(named.len(), log.lines().count(), "each array has a name of its own");
    assert_eq!(p.sql("SELECT count(*), count(DISTINCT outcome) FROM attempt"), ["3|1"]);
}

#[test]
fn a_worker_whose_walltime_is_almost_over_ends_what_it_has_begun_and_another_job_goes_on() {
    let p = Project::new()
        .task("many", r#"for n in $(seq 12); do echo "$n" >"$OUTPUT_DIR/$n"; done"#)
        .task("each", r#"sleep 0.5; cat "$INPUT_FILE" >"$OUTPUT_DIR/x""#);
    slurm(&p, "");
    // A fifth of so short a time is left for scripts that run.
    let ran = on(&p, &["--on", "slurm:1x2", "--walltime", "2s", "--listen", "127.0.0.1"]).go().ok();
    ran.says("takes no more steps: its walltime is almost over")
        .says(": 13 done")
        .says_nothing_of("was lost");
    assert!(p.read("sbatch.log").lines().count() >= 2);
    assert_eq!(p.sql("SELECT count(*), max(number) FROM attempt"), ["13|1"]);
}

#[test]
fn a_worker_whose_disk_is_full_is_left_out_and_its_steps_run_elsewhere() {
    let mount = r#"unshare --mount sh -c 'mount -t tmpfs -o size=2m none "$0" && exec "$@"'"#;
    let may = Command::new("sh").args(["-c", &format!("{mount} /mnt true")]).output();
    if !may.is_ok_and(|may| may.status.success()) {
        return eprintln!("SKIPPED: this user can mount nothing");
    }
    let p = Project::new()
        .task("many", r#"for n in 1 2 3; do echo "$n" >"$OUTPUT_DIR/$n"; done"#)
        .task(
            "each",
            r#"head -c 4000000 /dev/urandom >"$OUTPUT_DIR/large"; [ -e roomy ] || sleep 0.1"#,
        );
    // The second host has room as soon as the first one is out of the race.
    let small = format!(r#"[ "$host" = small ] && exec {mount} "$TMPDIR" sh -c "$*""#);
    p.program("ssh", &SSH.replace("shift 2\n", &format!("host=$2; shift 2\n{small}\n")));
    std::fs::create_dir(p.path("tmp")).unwrap();
    let call = p.run_cmd(["--on", "ssh:small,1/roomy", "--listen", "127.0.0.1"]);
    let ran = call.env("TMPDIR", p.path("tmp").to_str().unwrap()).go().ok();
    ran.says("was lost")
        .says("make room and run the same command again")
        .says("it is not used any more")
        .says(": 4 done, 0 failed");
    assert_eq!(p.sql("SELECT count(*), count(DISTINCT outcome) FROM attempt"), ["4|1"]);
}

#[test]
fn a_manifest_that_a_network_file_system_shows_late_is_waited_for() {
    let see = r#"mount --bind old pipeline.toml && exec "$@""#;
    let p = Project::new().task("a", "true");
    p.file("old", p.read("pipeline.toml"));
    let may = Command::new("unshare")
        .args(["--mount", "sh", "-c", see, "sh", "true"])
        .current_dir(p.root())
        .output();
    if !may.is_ok_and(|may| may.status.success()) {
        return eprintln!("SKIPPED: this user can mount nothing");
    }
    p.task("b", "true");
    let late = "{ until [ -e fresh ]; do sleep 0.02; done; umount pipeline.toml; } & ";
    let see = see.replace("&& ", &format!("&& {late}"));
    let see = format!("exec unshare --mount sh -c '{see}' sh sh -c \"$*\"");
    p.program("ssh", &SSH.replace("exec sh -c \"$*\"", &see));
    let running = on(&p, &["--on", "ssh:far", "--listen", "127.0.0.1"]).start();
    wait_for("the note", || running.stderr().contains("it looks again for 60 s"));
    p.file("fresh", "");
    let ran = running.end().ok().says("pipeline.toml` is another one on ").says(": 1 done");
    ran.says_nothing_of("was lost");
}

#[test]
fn scripts_are_forked_and_confined_by_workers_as_here() {
    let p = Project::new()
        .task("many", r#"for n in $(seq 30); do echo "$n" >"$OUTPUT_DIR/$n"; done"#)
        .task("each", r#"cat "$INPUT_FILE" >"$OUTPUT_DIR/x""#);
    on(&p, &["--on", "local:2", "--launch", "auto"]).go().ok().says(": 31 done");
    // Each worker's first two starts are plain.
    assert_eq!(p.sql("SELECT count(*) >= 20 FROM attempt WHERE forked = 1"), ["1"]);

    if !can_confine() {
        return;
    }
    let p = Project::new().file("secret", "secret\n").manifest(
        r#"
[[task]]
name = "confined"
sandbox = true
script = 'cat secret && exit 9; echo kept out >"$OUTPUT_DIR/x"'
"#,
    );
    for (db, options) in [("here", ["-j1"].as_slice()), ("there", &["--on", "local:1"])] {
        p.call([&["-db", db], options].concat()).ok().says(": 1 done");
        assert_eq!(p.sql_in(db, "SELECT outcome, log IS NULL FROM attempt"), ["ok|0"], "{db}");
    }
}

/// What Slurm knows of three jobs that have ended before their workers had connected; once this holds.
fn failed_jobs(p: &Project, code: &str, once: &str) {
    slurm(p, "");
    let how = "s/|RUNNING|/|FAILED|/; s/$/|NonZeroExitCode|n7/";
    p.program(
        "squeue",
        &format!("#!/bin/sh\ncd \"${{0%/bin/*}}\"; echo x >>squeue.log\nif {once}; then sed '{how}' queue; else cat queue; fi\n"),
    );
    let log = r#"echo "$@" >>"${0%/bin/*}/scontrol.log""#;
    p.program("scontrol", &format!("#!/bin/sh\n{log}; echo ' ExitCode={code}:0'\n"));
}

#[test]
fn the_last_words_of_jobs_that_can_t_connect_are_told() {
    let p = some_steps();
    failed_jobs(&p, "69", "[ -s db/scratch/*/worker-3.log ]");
    // Nobody listens there.
    p.file("elsewhere", format!("127.0.0.1:{}", free_port()));
    let ran = on_slurm(&p, &[]).go().fails(69);
    ran.says("3 jobs in a row ended before a worker had connected; the last one on n7: could not connect to the run at");
}

#[test]
fn why_jobs_that_say_nothing_have_ended_is_told_as_far_as_slurm_knows() {
    let cases = [
        ("127", "exit code 127, so `"),
        ("69", "so it did not get through to this run at 127.0.0.1:"),
        ("3", "exit code 3; add --sbatch-arg=--output=FILE"),
        ("0", "FAILED (NonZeroExitCode); add --sbatch-arg=--output=FILE"),
    ];
    let start = |(code, why)| {
        let p = some_steps();
        failed_jobs(&p, code, "true");
        // Jobs come to nothing before they begin.
        p.program("setsid", "#!/bin/sh\nexit 1\n");
        let running = on_slurm(&p, &[]).start();
        (p, running, why)
    };
    for (p, running, why) in cases.map(start) {
        running.end().fails(69).says(why);
        assert_eq!(p.read("scontrol.log"), "show job 77_3\n");
        assert_eq!(p.read("squeue.log").lines().count(), 1);
    }
}
