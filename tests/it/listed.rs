//! Section 13, `files` as globs and folders: the content of all that they stand for is part of the recipe.

use crate::harness::{Project, WAIT_FOR_GO, wait_for};

/// A task that reads a glob and a folder.
fn project() -> Project {
    let p = Project::new().file("src/a.h", "a\n").file("src/b.h", "b\n").file("src/c.c", "c\n");
    p.file("ref/.hidden", "h\n").file("ref/deep/x", "x\n");
    p.task_with(
        "a",
        "files = [\"src/*.h\", \"ref/\"]",
        "cat src/*.h; find ref -type f -exec cat {} + >$OUTPUT_DIR/all",
    )
}

#[track_caller]
fn because(p: &Project, sentence: &str) {
    assert_eq!(p.call(["explain", "a/", "--json"]).ok().json()["sentence"], sentence);
}

#[test]
fn a_change_of_any_file_that_a_glob_or_a_folder_stands_for_runs_the_task_again() {
    let p = project();
    p.run().ok().ran(["a"]);
    p.run().ok().says("nothing to do");
    for file in ["src/a.h", "ref/.hidden", "ref/deep/x"] {
        p.file(file, "new\n").run().ok().ran(["a"]);
        because(&p, &format!("ran in run {} because file {file} changed", runs(&p)));
    }
    // What they don't stand for is no business of the task's.
    p.file("src/c.c", "new\n").run().ok().ran([]);
}

fn runs(p: &Project) -> String {
    p.sql("SELECT max(id) FROM run").remove(0)
}

#[test]
fn a_file_that_comes_or_goes_is_a_change_and_its_undoing_costs_nothing() {
    let p = project();
    p.run().ok();
    p.file("src/new.h", "n\n");
    p.call(["plan"]).ok().answers("1 file src/new.h added");
    p.call(["explain", "a", "--manifest", "pipeline.toml"])
        .ok()
        .answers("pipeline.toml has another recipe: file src/new.h added");
    p.run().ok().ran(["a"]);
    because(&p, "ran in run 2 because file src/new.h added");
    p.remove("src/new.h").run().ok().ran([]);
    p.file("ref/deep/deeper/y", "y\n").run().ok().ran(["a"]);
    std::fs::remove_dir_all(p.path("ref/deep/deeper")).unwrap();
    p.run().ok().ran([]);
    p.remove("ref/.hidden").file("ref/.hidden", "h\n").run().ok().ran([]);
}

#[test]
fn a_plain_path_has_the_recipe_that_it_always_had() {
    let p = Project::new().file("ref/x", "x\n").task_with("a", "files = [\"ref/x\"]", "true");
    p.run().ok().ran(["a"]);
    p.task_with("a", "files = [\"ref/\"]", "true").run().ok().ran([]);
    p.task_with("a", "files = [\"ref/?\", \"ref/x\"]", "true").run().ok().ran([]);
}

#[test]
fn what_is_made_while_a_file_comes_or_goes_is_not_kept() {
    for (change, file) in [
        ("echo n >src/new.h", "src/new.h"),
        ("rm src/b.h", "src/b.h"),
        ("mkdir ref/deep/deeper; echo n >ref/deep/deeper/n", "ref/deep/deeper/n"),
        ("echo n >src/a.h", "src/a.h"),
    ] {
        let p = project();
        p.task_with("a", "files = [\"src/*.h\", \"ref/\"]", &format!("{change}; true"));
        let told = format!("`{file}` (of `files`) was changed while the run was reading it");
        p.run().fails(1).ran(["a"]).says(&told);
        assert_eq!(p.sql("SELECT count(*) FROM output"), ["0"]);
    }
    // One that they don't stand for may.
    let p = project();
    let script = "echo n >src/new.c; mkdir src/sub; echo n >src/sub/n.h; echo 1 >$OUTPUT_DIR/x";
    p.task_with("a", "files = [\"src/*.h\", \"ref/\"]", script).run().ok().ran(["a"]);
}

#[test]
fn what_is_made_while_a_file_is_changed_and_changed_back_is_not_kept() {
    for change in [
        "echo n >src/a.h; cat src/a.h >seen; cp -p saved src/a.h",
        "mv src/a.h away; echo n >src/a.h; cat src/a.h >seen; mv -f away src/a.h",
        "ln -sfn ref linked; cat linked/deep/x >seen; ln -sfn src linked",
        "rm -rf other; mv src away; cp -r ref src; mv src other; mv away src",
    ] {
        let p = project();
        std::os::unix::fs::symlink("src", p.path("linked")).unwrap();
        p.file("saved", p.read("src/a.h"));
        let keys = "files = [\"src/a.h\", \"linked/b.h\", \"ref/\"]";
        p.task_with("a", keys, &format!("[ -e calm ] || {{ {change}; }}; echo 1 >$OUTPUT_DIR/x"));
        let told = "(of `files`) was changed while the run was reading it";
        p.run().fails(1).ran(["a", "a", "a"]).says(told);
        assert_eq!(p.sql("SELECT count(*) FROM output"), ["0"], "{change}");
        // If it happens once, the step runs once more.
        p.task_with(
            "a",
            keys,
            &format!("[ -e once ] || {{ echo >once; {change}; }}; echo 1 >$OUTPUT_DIR/x"),
        );
        p.run().ok().ran(["a", "a"]);
    }
    // What comes and goes beside a file is no change of it, nor is what was changed before the step began.
    let p = project();
    p.task_with("first", "", "echo n >src/a.h; cp -p saved src/a.h; echo 1 >$OUTPUT_DIR/x");
    p.file("saved", p.read("src/a.h"));
    p.task_with(
        "a",
        "files = [\"src/a.h\"]",
        "sleep 0.2; echo 1 >src/new; rm src/new; echo 1 >$OUTPUT_DIR/x",
    );
    p.run().ok().ran(["first", "a"]);
}

#[test]
fn a_folder_that_was_not_there_and_comes_meanwhile_is_noticed() {
    let p = Project::new().task_with(
        "a",
        "files = [\"gen/*.h\"]",
        &format!("{WAIT_FOR_GO}\necho 1 >$OUTPUT_DIR/x"),
    );
    let run = p.run_cmd([""; 0]).start();
    wait_for("the script", || p.ledger().len() == 1);
    p.file("gen/a.h", "a\n").file("go", "");
    let ran = run.end().fails(1).says("task `a`: `gen/*.h` in `files` matches no file");
    ran.says("`gen/a.h` (of `files`) was changed");
    p.run().ok().ran(["a"]).says_nothing_of("matches no file");
}

#[test]
fn neither_the_database_nor_an_export_is_one_of_files() {
    let p = Project::new().file("x", "x\n");
    let text = "[[task]]\nname = \"a\"\nfiles = [\"**/*\"]\nscript = \"echo 1 >$OUTPUT_DIR/x\"\n";
    p.manifest(text).run().ok();
    p.call(["export", "a", "--to", "out"]).ok();
    let listed = |p: &Project| {
        let explained = p.call(["explain", "a", "--json"]).ok().json();
        let fields = explained["recipe"].as_array().unwrap().clone();
        let names = fields.iter().filter_map(|field| field["field"].as_str().map(str::to_owned));
        names.filter(|name| name.starts_with("file ")).collect::<Vec<_>>()
    };
    p.run()
        .ok()
        .says("the database `db` lies among the inputs")
        .says("wrote to `out`")
        .says("nothing to do");
    let names = listed(&p);
    assert!(names.contains(&"file x".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains(" db/") || name.contains(" out/")), "{names:?}");
    p.task_with("a", "files = [\"db/db\"]", "true")
        .run()
        .fails(2)
        .says("lies in the run's own database");
}

#[test]
fn what_files_can_not_stand_for_is_refused_with_the_cure() {
    let p = Project::new().file("ref/x", "x\n");
    let with = |files: &str| p.task_with("a", &format!("files = [\"{files}\"]"), "true").run();
    with("ref").fails(2).says("`ref` (of `files`) is a folder; write `ref/` for all files in it");
    with("ref/x/").fails(2).says("is not a folder; drop the `/` at its end");
    with("none/").fails(2).says("`none/` (of `files`) does not exist");
    with("a[").fails(2).says("`a[` is no glob").says("^^^^");
    assert!(!p.path("db").exists());
    with("none/*").ok().says("`none/*` in `files` matches no file");
}

#[test]
fn a_name_that_is_not_utf_8_is_one_of_files_too() {
    use std::os::unix::ffi::OsStrExt as _;
    let p = Project::new();
    let name = std::path::Path::new("ref").join(std::ffi::OsStr::from_bytes(b"\xff"));
    p.file(&name, "1").task_with("a", "files = [\"ref/\"]", "true").run().ok().ran(["a"]);
    p.file(&name, "2").run().ok().ran(["a"]);
    p.call(["explain", "a/"]).ok().answers("file ref/\\\\xff changed");
    p.run().ok().says("nothing to do");
}

#[test]
fn a_link_to_nothing_among_the_files_is_told_with_its_task_and_what_to_do() {
    for pattern in ["ref/x", "ref/*", "ref/"] {
        let p = Project::new().file("ref/a", "a");
        std::os::unix::fs::symlink("nowhere", p.path("ref/x")).unwrap();
        p.task_with("t", &format!("files = [\"{pattern}\"]"), "true");
        p.run()
            .fails(2)
            .ran([])
            .says("task `t`")
            .says("`ref/x`")
            .says("is a symbolic link to nothing");
        p.remove("ref/x");
        std::os::unix::fs::symlink("x", p.path("ref/x")).unwrap();
        p.run().fails(2).ran([]).says("task `t`").says("`ref/x`").says("ymbolic link");
        p.remove("ref/x").file("ref/x", "x").run().ok().ran(["t"]);
    }
}

#[test]
fn an_exclusion_among_the_files_is_a_mistake() {
    let p =
        Project::new().file("ref/a", "a").task_with("t", "files = [\"ref/\", \"!ref/a\"]", "true");
    p.run().fails(2).says("`files` takes no exclusions").says("write ./!");
}
