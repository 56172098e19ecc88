//! Other tools that share the tokens, and the Makefile among the fixtures.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{INPUTS, at_once, makes, project, sh, tools};

#[test]
fn cargo_in_a_script_shares_the_j_of_the_run() {
    let home = |name: &str, folder: &str| {
        let default = format!("{}/{folder}", std::env::var("HOME").unwrap());
        format!("export {name}={}\n", std::env::var(name).unwrap_or(default))
    };
    let homes = home("CARGO_HOME", ".cargo") + &home("RUSTUP_HOME", ".rustup");
    // Another user's, below /root say, may be out of reach.
    let asked =
        Command::new("sh").args(["-c", &format!("{homes} cargo --version")]).output().unwrap();
    if !asked.status.success() {
        let why = String::from_utf8_lossy(&asked.stderr);
        return eprintln!("SKIPPED: this user has no cargo that runs: {}", why.trim_end());
    }
    for make in makes() {
        let p = project(make.as_deref());
        let members = ["a", "b", "c", "d", "e"];
        p.file("w/Cargo.toml", format!("[workspace]\nmembers = {members:?}\nresolver = \"2\"\n"));
        for name in members {
            p.file(format!("w/{name}/src/lib.rs"), "");
            let package =
                format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
            p.file(format!("w/{name}/Cargo.toml"), package);
        }
        p.program("rustc-counted", "#!/bin/sh\ncase \" $* \" in *' --crate-name ___ '*|*' -vV '*) exec \"$@\";; esac\necho + >>$JOBS/inner; sleep 0.05; \"$@\"; echo - >>$JOBS/inner\n");
        let script = "RUSTC_WRAPPER=rustc-counted cargo build -q --offline --manifest-path w/Cargo.toml --target-dir \"$TMPDIR\"";
        p.file("in/1", "1").file("in/2", "2");
        p.task_with("a", &format!("{INPUTS}\njobserver = true"), script);
        let text = sh(&p, &format!("{homes} task-pipeline -j2 -v"));
        let (most, all) = at_once(&p, "inner");
        assert!(most <= 2 && all == 10, "{most} of {all} rustc at once\n{text}");
    }
}

#[test]
fn ninja_in_a_script_shares_the_j_of_the_run() {
    let Some(tools) = tools().filter(|tools| tools.join("ninja").exists()) else {
        eprintln!("SKIPPED: no ninja 1.13: tests/tools/get.sh gets it");
        return;
    };
    let p = project(Some(&tools));
    std::os::unix::fs::symlink(tools.join("ninja"), p.path("bin/ninja")).unwrap();
    let builds: String = (0..6).map(|n| format!("build {n}: job\n")).collect();
    p.file("build.ninja", format!("rule job\n  command = job inner\n{builds}"));
    p.file("in/1", "1").file("in/2", "2");
    let script = "cp build.ninja \"$TMPDIR\"; ninja -C \"$TMPDIR\"";
    p.task_with("a", &format!("{INPUTS}\njobserver = true"), script);
    let text = sh(&p, "task-pipeline -j2 -v");
    assert_eq!(at_once(&p, "inner"), (2, 12), "{text}");
}

#[test]
fn the_makefile_among_the_fixtures_runs_nothing_twice() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/make");
    for make in makes() {
        let p = project(make.as_deref());
        for name in ["Makefile", "pipeline.toml", "data/monday.txt", "data/tuesday.txt"] {
            p.file(name, fs::read(fixture.join(name)).unwrap());
        }
        let attempts = || p.sql_in("build/db", "SELECT count(*) FROM attempt")[0].clone();
        let time = |name: &str| fs::metadata(p.path(name)).unwrap().modified().unwrap();
        // make compares times, and a file system's clock is coarse.
        let later = time("pipeline.toml") + std::time::Duration::from_secs(100);
        let touch = |name: &str| fs::File::open(p.path(name)).unwrap().set_modified(later).unwrap();
        sh(&p, "make -j4");
        assert_eq!(p.read("build/report.txt"), "sold: 13\n");
        assert_eq!(attempts(), "3");
        let (report, exported) = (time("build/report.txt"), time("build/exported"));
        let text = sh(&p, "make -j4");
        assert!(text.contains("is up to date") && !text.contains("task-pipeline"), "{text}");
        assert_eq!((report, exported), (time("build/report.txt"), time("build/exported")));
        // A touched input: make asks, the pipeline knows better, and the report stays.
        touch("data/monday.txt");
        let text = sh(&p, "make -j4");
        assert!(text.contains("nothing to do: 3 steps up to date"), "{text}");
        assert_eq!((attempts(), report), ("3".to_owned(), time("build/report.txt")));
        touch("build/exported");
        let text = sh(&p, "make -j4");
        assert!(text.contains("is up to date") && !text.contains("task-pipeline"), "{text}");
        // A changed one.
        p.file("data/monday.txt", "apples 30\n");
        fs::remove_file(p.path("build/exported")).unwrap();
        sh(&p, "make -j4");
        assert_eq!(p.read("build/report.txt"), "sold: 36\n");
        assert_eq!(attempts(), "5");
    }
}
