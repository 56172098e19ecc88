//! Databases of every schema and stores of every layout that there ever were: converted by the next run, and nothing
//! of them lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{Dice, Project, contents, sha256, wait_for};

/// The folder with one database of each schema and the manifest that made them.
fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/databases")
}

/// A project whose database is the one that schema `version` left.
fn project(version: i32) -> Project {
    let file = fixtures().join(format!("v{version}.sqlite"));
    let bytes = std::fs::read(&file).unwrap_or_else(|err| {
        let see = fixtures().join("pipeline.toml");
        panic!("{}: {err}; {} says how it is made", file.display(), see.display())
    });
    let manifest = std::fs::read_to_string(fixtures().join("pipeline.toml")).unwrap();
    Project::new().manifest(&manifest).file("db/db", bytes).file("db/format", "task-pipeline 1\n")
}

/// The newest schema of this build: what it gives a new database.
fn newest() -> i32 {
    let p = Project::new().task("a", "true");
    p.run().ok();
    p.sql("PRAGMA user_version")[0].parse().unwrap()
}

#[test]
fn a_database_of_every_schema_goes_on_where_it_was() {
    for version in 1..=newest() {
        let p = project(version);
        p.run().ok().says("nothing to do: 4 steps up to date");
        assert_eq!(p.sql("PRAGMA user_version"), [newest().to_string()], "from v{version}");
        assert_eq!(
            p.sql("SELECT step, number, outcome, code FROM attempt WHERE step = 3"),
            ["3|1|exit|1", "3|2|ok|"],
            "from v{version}"
        );
        p.call(["status"]).ok();
        p.run_with(["-B"]).ok().says("total 4 steps: 4 done");
        let workers = p.sql("SELECT DISTINCT worker FROM attempt WHERE run > 1 ORDER BY 1");
        assert!(workers.iter().all(|worker| !worker.is_empty()), "from v{version}: {workers:?}");
    }
}

/// Older builds ran scripts by `sh -e` where nothing was said, and a task that names it keeps its results.
#[test]
fn without_a_word_about_the_interpreter_everything_of_an_older_build_runs_once_more() {
    let p = project(newest());
    let text = std::fs::read_to_string(fixtures().join("pipeline.toml")).unwrap();
    p.manifest(&text.replace("shell = \"sh -e\"", ""));
    p.run_with(["-n"]).ok().answers("interpreter changed from `sh -e` to `sh -eu`");
    p.run().ok().says("total 4 steps: 4 done");
    p.run().ok().says("nothing to do: 4 steps up to date");
}

#[test]
fn a_reader_says_that_an_older_database_waits_for_the_next_run() {
    let ran = project(1).call(["status"]);
    ran.fails(2).says("has the older schema 1; the next run migrates it");
}

#[test]
fn a_new_database_has_the_tables_of_a_migrated_one() {
    let fresh = Project::new().task("a", "true");
    fresh.run().ok();
    let columns = "SELECT m.name, c.name, c.type, c.\"notnull\", c.pk FROM sqlite_schema m,
                   pragma_table_info(m.name) c WHERE m.type = 'table' ORDER BY m.name, c.cid";
    for version in 1..=newest() {
        let old = project(version);
        old.run().ok();
        assert_eq!(old.sql(columns), fresh.sql(columns), "from v{version}");
    }
}

/// Where an object lay in a layout, below `objects/`.
type Layout = fn(&str) -> PathBuf;

fn two_levels(hash: &str) -> PathBuf {
    [&hash[..2], &hash[2..4], &hash[4..]].iter().collect()
}

fn one_level(hash: &str) -> PathBuf {
    [&hash[..2], &hash[2..]].iter().collect()
}

/// What an interrupted conversion from one to the other left.
fn half_and_half(hash: &str) -> PathBuf {
    if hash.as_bytes()[63].is_multiple_of(2) { one_level(hash) } else { two_levels(hash) }
}

/// Hashes of the files below `objects/`, wherever they lie there.
fn objects(p: &Project) -> BTreeSet<String> {
    contents(&p.path("db/objects")).keys().map(|path| path.replace('/', "")).collect()
}

/// Moves all objects to where an older layout had them.
fn to_older(p: &Project, format: &str, layout: Layout) {
    let root = p.path("db/objects");
    fs::rename(&root, p.path("db/before")).unwrap();
    for path in contents(&p.path("db/before")).keys() {
        let to = root.join(layout(&path.replace('/', "")));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(p.path("db/before").join(path), to).unwrap();
    }
    fs::remove_dir_all(p.path("db/before")).unwrap();
    p.file("db/format", format);
}

/// A project with many objects, all of them committed.
fn with_objects(count: u32) -> Project {
    let script = format!("for i in $(seq {count}); do echo $i >$OUTPUT_DIR/$i; done; echo made");
    let p = Project::new().task("a", &script);
    p.run().ok();
    assert!(objects(&p).len() > count as usize);
    p
}

fn check_is_converted(p: &Project, kept: &BTreeSet<String>) {
    assert_eq!(p.read("db/format"), "task-pipeline 3\n");
    assert_eq!(objects(p), *kept);
    crate::store::every_object_hashes_to_its_path(p);
    p.call(["verify", "--data"]).ok();
    p.run().ok().says("nothing to do");
}

#[test]
fn a_store_of_every_older_layout_is_converted_by_whatever_changes_the_database() {
    let p = with_objects(50);
    let kept = objects(&p);
    let layouts: [(&str, Layout); 4] = [
        ("task-pipeline 1\n", two_levels),
        ("task-pipeline 2\n", one_level),
        ("task-pipeline 1\n", half_and_half),
        ("task-pipeline 3, being converted\n", half_and_half),
    ];
    for (format, layout) in layouts {
        for command in [&["run"][..], &["gc"], &["repair"]] {
            to_older(&p, format, layout);
            for reader in [&["verify"][..], &["cat", "a/1"], &["log", "a"]] {
                p.call(reader).fails(65).says("the next run, gc or repair converts it");
            }
            p.call(["status"]).ok();
            p.call(command).ok();
            check_is_converted(&p, &kept);
        }
    }
}

#[test]
fn a_store_that_has_lost_its_format_is_converted_as_well() {
    let p = with_objects(5);
    let kept = objects(&p);
    to_older(&p, "", one_level);
    p.remove("db/format");
    p.run().ok().says("nothing to do");
    check_is_converted(&p, &kept);
}

#[test]
fn a_conversion_that_is_killed_again_and_again_loses_nothing() {
    let kills =
        std::env::var("TASK_PIPELINE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let mut dice = Dice::new(20_261_126);
    let p = with_objects(1500);
    let kept = objects(&p);
    let is_converted = || p.read("db/format") == "task-pipeline 3\n";
    let mut killed = 0;
    while killed < kills {
        to_older(&p, "task-pipeline 2\n", one_level);
        while !is_converted() && killed < kills {
            let moved = || {
                // Counted while they move: what is gone before it is looked at is no error.
                let files = walkdir::WalkDir::new(p.path("db/objects")).min_depth(3);
                files.into_iter().flatten().count()
            };
            // Somewhere in what is left to be moved.
            let until = moved() + dice.below((kept.len() - moved()) as u64) as usize;
            let run = p.run_cmd([""; 0]).start();
            wait_for("some objects to be moved", || moved() >= until || is_converted());
            run.signal(Signal::KILL);
            let ended = run.end();
            assert_eq!(objects(&p), kept, "{}", ended.stderr);
            if ended.was_killed() && !is_converted() {
                killed += 1;
                p.call(["verify"]).fails(65).says("the next run, gc or repair converts it");
            }
        }
        p.run().ok().says("nothing to do");
        check_is_converted(&p, &kept);
    }
    for (path, content) in contents(&p.path("db/objects")) {
        assert_eq!(sha256(content.as_bytes()), path.replace('/', ""));
    }
}
