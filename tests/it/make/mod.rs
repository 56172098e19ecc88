//! Under make, and with makes inside scripts: all share one `-j`.
//!
//! What runs at once is counted by what runs: `enter` and `leave` append to a ledger, one write each.
//! `tests/tools/get.sh` gets a make 4.4 and a ninja that knows jobservers; where they aren't, the FIFO is one
//! of our own and the rest is left out, said aloud.

mod guests;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::Project;

/// A job of which no more than allowed may run at once; it lasts long enough to be seen by others.
const JOB: &str = "echo + >>$JOBS/$1; sleep 0.03; echo - >>$JOBS/$1\n";

/// The makes there are, by the folder that has to come first in PATH: the one of the system, and one
/// that has FIFOs.
fn makes() -> Vec<Option<PathBuf>> {
    let newer = tools();
    if newer.is_none() {
        eprintln!("SKIPPED: no make 4.4: tests/tools/get.sh gets it");
    }
    [None].into_iter().chain(newer.map(Some)).collect()
}

fn tools() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin");
    tools.join("make").exists().then_some(tools)
}

/// A project whose scripts and makes find `job LEDGER`, `task-pipeline`, and the make wanted.
fn project(make: Option<&Path>) -> Project {
    let p = Project::new().program("job", &format!("#!/bin/sh\n{JOB}"));
    let links = [("task-pipeline", PathBuf::from(env!("CARGO_BIN_EXE_task-pipeline")))];
    for (name, path) in links.into_iter().chain(make.map(|bin| ("make", bin.join("make")))) {
        std::os::unix::fs::symlink(path, p.path("bin").join(name)).unwrap();
    }
    p
}

/// Runs a command line in the project's folder.
#[track_caller]
fn sh(p: &Project, line: &str) -> String {
    let path = format!("{}:{}", p.path("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec 2>&1; {line}")]).current_dir(p.root()).env_clear();
    command.env("PATH", path).env("HOME", p.root()).env("JOBS", p.root()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}\n{}\n{text}", output.status);
    text
}

/// How many were at work at once, at most, and how many there were.
fn at_once(p: &Project, ledger: &str) -> (usize, usize) {
    let (mut now, mut most, mut all) = (0usize, 0, 0);
    for line in p.read(ledger).lines() {
        match line {
            "+" => {
                now += 1;
                all += 1;
                most = most.max(now);
            }
            _ => now -= 1,
        }
    }
    assert_eq!(now, 0, "all that began has ended");
    (most, all)
}

fn eight_inputs(p: &Project) {
    for n in 0..8 {
        p.file(format!("in/{n}"), n.to_string());
    }
}

const INPUTS: &str = "inputs = [\"in/*\"]";

/// Two recipes, each with a pipeline of its own.
fn two_recipes(p: &Project, plus: &str, options: &str) {
    let line = |db: &str| format!("{db}:\n\t{plus}task-pipeline -db {db}.db {options}\n");
    p.file("Makefile", format!("all: a b\n{}{}.PHONY: all a b\n", line("a"), line("b")));
    eight_inputs(p);
}

#[test]
fn two_recipes_of_make_never_run_more_scripts_than_its_j() {
    for make in makes() {
        for options in ["", "-j4"] {
            let p = project(make.as_deref());
            two_recipes(&p, "+", options);
            p.task_with("a", INPUTS, "job scripts");
            let text = sh(&p, "make -j2");
            assert_eq!(at_once(&p, "scripts"), (2, 16), "{make:?} {options}\n{text}");
            assert!(!text.contains("INTERNAL") && !text.contains("jobserver"), "{text}");
        }
    }
}

#[test]
fn a_pipeline_alone_takes_all_of_makes_tokens() {
    for make in makes() {
        let p = project(make.as_deref());
        eight_inputs(&p);
        p.file("Makefile", "a:\n\t+task-pipeline\n");
        let meet = "echo $INPUT_NAME >>here; until [ $(wc -l <here) -ge 5 ]; do sleep 0.01; done";
        p.task_with("a", INPUTS, meet);
        let text = sh(&p, "make -j5");
        assert!(text.contains("8 done"), "five scripts at once, or they wait for ever\n{text}");
    }
}

#[test]
fn an_own_j_counts_too() {
    let p = project(None);
    eight_inputs(&p);
    p.file("Makefile", "a:\n\t+task-pipeline -j1\n").task_with("a", INPUTS, "job scripts");
    sh(&p, "make -j4");
    assert_eq!(at_once(&p, "scripts"), (1, 8));
    // And so does make's, if it is one, with which there is no jobserver.
    p.file("Makefile", "a:\n\ttask-pipeline -B\n").remove("scripts");
    sh(&p, "make -j1");
    assert_eq!(at_once(&p, "scripts"), (1, 8));
}

#[test]
fn a_make_in_a_script_shares_the_j_of_the_run_and_of_make() {
    let inner = "all: 1 2 3 4 5\n1 2 3 4 5:\n\t@job inner\n";
    for make in makes() {
        // Ours is the jobserver; then make is.
        for line in ["task-pipeline -db a.db -j2", "make -j2"] {
            let p = project(make.as_deref());
            two_recipes(&p, "+", "");
            p.file("inner.mk", inner);
            let script = "echo + >>scripts; make -f inner.mk; echo - >>scripts";
            p.task_with("a", &format!("{INPUTS}\njobserver = true"), script);
            let text = sh(&p, line);
            let (most, all) = at_once(&p, "inner");
            assert!(most == 2 && all >= 40, "{most} of {all} at once, {make:?}, {line}\n{text}");
            assert_eq!(at_once(&p, "scripts").0, 2, "{make:?}, {line}\n{text}");
            let log = sh(&p, "task-pipeline log -db a.db a/0");
            assert!(!log.contains("warning") && !log.contains("jobserver"), "{log}");
        }
    }
}

#[test]
fn a_make_with_a_j_of_its_own_leaves_the_scripts_two() {
    for make in makes() {
        let p = project(make.as_deref());
        two_recipes(&p, "+", "");
        p.file("inner.mk", "all: 1 2 3\n1 2 3:\n\t@job inner\n");
        let script = "echo + >>scripts; make -j8 -f inner.mk; echo - >>scripts";
        p.task_with("a", &format!("{INPUTS}\njobserver = true"), script);
        let text = sh(&p, "make -j2");
        assert_eq!(at_once(&p, "scripts"), (2, 16), "{make:?}\n{text}");
        let log = sh(&p, "task-pipeline log -db a.db a/0");
        assert!(log.contains("-j8 forced"), "it says that it shares nothing:\n{log}");
    }
}

#[test]
fn without_jobserver_true_a_script_knows_nothing_of_make() {
    for make in makes() {
        let p = project(make.as_deref());
        two_recipes(&p, "+", "");
        let fds = "ls /proc/self/fd | wc -l";
        let script = format!("env | grep MAKE && exit 1; [ $({fds}) = 4 ]");
        p.task_with("a", INPUTS, &script);
        sh(&p, "make -j3 -k CC=x");
        // And one that has it gets the jobserver, and nothing else.
        let p = project(make.as_deref());
        two_recipes(&p, "+", "");
        let script =
            "case \"$MAKEFLAGS\" in *CC=*|k*) exit 1;; *-j3\\ --jobserver-*) ;; *) exit 2; esac";
        p.task_with("a", &format!("{INPUTS}\njobserver = true"), script);
        sh(&p, "make -j3 -k CC=x");
    }
}

/// The processors that scripts had at once, at most, and how many scripts there were.
fn cpus_at_once(p: &Project, ledger: &str) -> (usize, usize) {
    let (mut now, mut most, mut all) = (0, 0, 0);
    for line in p.read(ledger).lines() {
        let (sign, cpus) = line.split_once(' ').unwrap();
        let cpus: usize = cpus.parse().unwrap();
        match sign {
            "+" => {
                now += cpus;
                all += 1;
                most = most.max(now);
            }
            _ => now -= cpus,
        }
    }
    assert_eq!(now, 0, "all that began has ended");
    (most, all)
}

#[test]
fn steps_of_several_processors_take_as_many_of_makes_tokens_and_never_wait_for_each_others() {
    for make in makes() {
        let p = project(make.as_deref());
        eight_inputs(&p);
        let script = "echo \"+ $CPUS\" >>scripts; sleep 0.05; echo \"- $CPUS\" >>scripts";
        p.task_with("a", &format!("{INPUTS}\ncpus = 4"), script);
        // Alone it has all four. Of two that run at once each holds one as long as it lives: none can ever have four.
        p.file("Makefile", "one:\n\t+task-pipeline -db one.db\n");
        sh(&p, "make -j4");
        assert_eq!(cpus_at_once(&p, "scripts"), (4, 8), "{make:?}");
        assert_eq!(p.read("scripts").matches("+ 4").count(), 8, "{make:?}");
        p.remove("scripts");
        two_recipes(&p, "+", "");
        let text = sh(&p, "make -j4");
        let (most, all) = cpus_at_once(&p, "scripts");
        assert!(most <= 4 && all == 16, "{most} of {all} at once, {make:?}\n{text}");
        assert!(!text.contains("INTERNAL") && !text.contains("jobserver"), "{text}");
    }
}

#[test]
fn a_pipe_that_was_not_handed_down_is_not_used() {
    for make in makes() {
        let style = if make.is_some() { "--jobserver-style=pipe" } else { "" };
        let p = project(make.as_deref());
        two_recipes(&p, "", "");
        // Four at once, twice what they may be where the tokens are shared.
        let meet = "echo $INPUT_NAME >>here; until [ $(wc -l <here) -ge 4 ]; do sleep 0.01; done";
        p.task_with("a", INPUTS, meet);
        let text = sh(&p, &format!("make -j2 {style}"));
        let cure = "make's -j is not shared: begin this line of the recipe with `+` (-j";
        assert!(text.contains(cure), "{text}");
    }
    let p = project(None);
    two_recipes(&p, "", "");
    p.task_with("a", INPUTS, "true");
    // Whatever has these numbers by chance.
    for fds in ["", "3</dev/null 4</dev/null", "3<pipeline.toml 4>>pipeline.toml", "3>&1 4>&1"] {
        p.program("it", &format!("#!/bin/sh\nexec task-pipeline -B -db a.db \"$@\" {fds}\n"));
        for flags in ["--jobserver-auth=3,4", "--jobserver-fds=3,4", "--jobserver-auth=-2,-2"] {
            let line = format!("MAKEFLAGS=' -j2 {flags}' it | cat");
            let text = sh(&p, &line);
            assert!(text.contains("8 done") && text.contains("not shared"), "{line} {fds}\n{text}");
        }
    }
    // Who says how many wants no advice.
    let text = sh(&p, "MAKEFLAGS=' -j2 --jobserver-auth=3,4' task-pipeline -B -db a.db -j2");
    assert!(!text.contains("not shared"), "{text}");
    let text = sh(&p, "MAKEFLAGS=' -j2 --jobserver-auth=fifo:/no/such' task-pipeline -B -db a.db");
    assert!(text.contains("make's -j is not shared: its FIFO can't be opened"), "{text}");
}

#[test]
fn make_n_runs_no_script_though_its_recipe_has_a_plus() {
    for make in makes() {
        let p = project(make.as_deref());
        two_recipes(&p, "+", "");
        p.task_with("a", INPUTS, "job scripts");
        for line in ["make -n", "make -kn -j2", "make -t", "make -q || true"] {
            let text = sh(&p, line);
            assert!(text.contains("8 steps to run"), "{line}\n{text}");
            assert!(!p.path("a.db").exists() && !p.path("scripts").exists(), "{line}\n{text}");
        }
    }
}
