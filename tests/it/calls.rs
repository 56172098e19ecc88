//! What a step costs in system calls: counted, so that it can't creep up unseen.

use std::collections::BTreeMap;
use std::process::Command;

use crate::harness::Project;

const STEPS: usize = 200;

/// Calls of a worker a step on ext4, with room for two more than there were when this was written; without those in
/// [`is_of_a_commit`]. Among them is what a worker does once, and making the folders of an empty store.
const MOST: f64 = 55.6;

/// The same where an interpreter is forked.
const MOST_FORKED: f64 = 50.0;

/// The same for the locks of the shards: a commit of one step alone makes at most five, if its shard isn't the one before
/// it; one of many steps, two and a half for each.
const MOST_OF_LOCKS: f64 = 5.3;

/// Where one call doesn't tell that it has listed a whole folder, and another not whether that is immutable: three of each
/// for the listings, and `geteuid` and `ioctl` as root.
const ELSEWHERE: f64 = 9.0;

/// `f_type` of ext4.
const EXT4: u32 = 0xef53;

/// Calls that depend on how many steps are committed together, or on how fast the machine is, and not on what a step
/// does.
fn is_of_a_commit(name: &str, line: &str) -> bool {
    let of_database = ["/db/db>", "/db/db-wal>", "/db/db-shm>"];
    matches!(name, "futex" | "statfs" | "sched_yield" | "restart_syscall")
        || of_database.iter().any(|file| line.contains(file))
}

/// Whether calls can be traced here; if not, says why the test can't be made.
fn has_strace() -> bool {
    match Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output() {
        Ok(tried) if tried.status.success() => true,
        Ok(tried) => {
            let why = String::from_utf8_lossy(&tried.stderr).into_owned();
            eprintln!("skipped: strace may not trace here: {why}");
            false
        }
        Err(err) => {
            eprintln!("skipped: strace can't be run, install it: {err}");
            false
        }
    }
}

/// Calls by name of every thread that has started scripts, and how many it started.
fn of_workers(trace: &str) -> (BTreeMap<&str, usize>, BTreeMap<&str, usize>, usize) {
    let mut threads: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    for line in trace.lines() {
        // `4711 openat(AT_FDCWD</tmp>, "x" …`; what begins otherwise is a signal, an end, or the rest of a call.
        let Some((thread, call)) = line.split_once(' ') else { continue };
        let Some((name, _)) = call.trim_start().split_once('(') else { continue };
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            threads.entry(thread).or_default().push((name, line));
        }
    }
    // A forked script's group is made by the worker too.
    let is_start = |(name, line): &(&str, &str)| match *name {
        "vfork" => true,
        "setpgid" => !line.contains("setpgid(0, 0"),
        name => name.starts_with("clone") && line.contains("CLONE_VFORK"),
    };
    let (mut calls, mut locks, mut starts) = (BTreeMap::new(), BTreeMap::new(), 0);
    for thread in threads.values() {
        let started = thread.iter().filter(|call| is_start(call)).count();
        if started == 0 {
            continue;
        }
        starts += started;
        for (name, line) in thread.iter().filter(|(name, line)| !is_of_a_commit(name, line)) {
            let counts = if line.contains("/locks/") { &mut locks } else { &mut calls };
            *counts.entry(*name).or_default() += 1;
        }
    }
    (calls, locks, starts)
}

#[test]
fn a_step_makes_few_system_calls() {
    count_calls("spawn", MOST);
}

#[test]
fn a_forked_step_makes_fewer() {
    count_calls("fork", MOST_FORKED);
}

fn count_calls(launch: &str, most: f64) {
    if !has_strace() {
        return;
    }
    let p = Project::new();
    for n in 0..STEPS {
        p.file(format!("in/{n}.txt"), format!("line {n}\n"));
    }
    p.manifest(
        r#"[[task]]
           name = "a"
           inputs = ["in/*.txt"]
           script = 'echo $INPUT_NAME >"$OUTPUT_DIR/$INPUT_NAME"'"#,
    );
    let strace = r#"exec strace -f -y -o calls "$0" "$@""#;
    p.run_cmd(["-j1", "--durability", "off", "-q", "--launch", launch]).shell(strace).go().ok();
    let trace = p.read("calls");
    let (calls, locks, starts) = of_workers(&trace);
    assert_eq!(starts, STEPS);
    let a_step = |count: usize| count as f64 / STEPS as f64;
    let mut table = String::new();
    let mut sums = [0.0; 2];
    for (sum, (counts, note)) in sums.iter_mut().zip([(&calls, ""), (&locks, " (locks)")]) {
        *sum = a_step(counts.values().sum());
        for (name, count) in counts {
            table.push_str(&format!("{:8.2} {name}{note}\n", a_step(*count)));
        }
    }
    eprintln!("{table}{:8.2} in all, and {:.2} for locks", sums[0], sums[1]);
    let kind = rustix::fs::statfs(p.root()).unwrap().f_type as u32;
    let most = if kind == EXT4 { most } else { most + ELSEWHERE };
    assert!(sums[0] <= most, "more than {most} calls a step:\n{table}");
    assert!(sums[1] <= MOST_OF_LOCKS, "more than {MOST_OF_LOCKS} calls a step for locks:\n{table}");
}

/// As ^Z and `fg`, or a debugger, would: a signal on its way to a thread cuts short what the kernel tells it of a folder.
#[test]
fn a_signal_while_a_folder_is_read_hides_no_output() {
    if !has_strace() {
        return;
    }
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("in/3", "3\n");
    p.manifest(
        r#"[[task]]
           name = "a"
           inputs = ["in/*"]
           script = 'for n in 1 2 3; do echo $n >"$OUTPUT_DIR/$INPUT_NAME.$n"; done'"#,
    );
    let strace = r#"exec strace -f -qq -o /dev/null -e trace=getdents64 -e inject=getdents64:signal=SIGURG "$0" "$@""#;
    p.run_cmd(["-j2"]).shell(strace).go().ok();
    assert_eq!(p.sql("SELECT count(*) FROM output"), ["9"]);
}
