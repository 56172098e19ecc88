//! Files outside the database that a command line names: `report`, `--events`, `--trace`. None is overwritten that is
//! not theirs. What `export` does is in `export`.

use std::fs;
use std::os::unix::fs::symlink;

use crate::harness::{Project, Ran, tree};

/// Each writer of such a file, writing to this one.
const WRITERS: [&str; 3] = ["report", "--events", "--trace"];

fn write(p: &Project, writer: &str, to: &str, options: &[&str]) -> Ran {
    match writer {
        "report" => p.call(["report", "-o", to].iter().chain(options)),
        option => p.run_with(["-q", "-B", option, to].iter().chain(options)),
    }
}

fn project() -> Project {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    p.run().ok();
    p
}

#[test]
fn a_file_that_is_not_theirs_is_not_overwritten_unless_that_is_asked_for() {
    for writer in WRITERS {
        let p = project();
        for mine in [
            "my own work\n",
            "{}\n",
            "[\n{\"args\":{}}\n",
            "<!DOCTYPE html>\n<title>mine</title>\n",
        ] {
            p.file("mine", mine);
            let before = tree(&p.path("mine"));
            write(&p, writer, "mine", &[]).fails(2).says("`mine`").says("--force").ran([]);
            assert_eq!(tree(&p.path("mine")), before);
        }
        let manifest = p.read("pipeline.toml");
        write(&p, writer, "pipeline.toml", &[]).fails(2);
        write(&p, writer, "./bin/../pipeline.toml", &[]).fails(2);
        assert_eq!(p.read("pipeline.toml"), manifest);
        write(&p, writer, "mine", &["--force"]).ok();
        assert!(!p.read("mine").contains("my own work"), "{writer}");
        // From then on it is theirs.
        write(&p, writer, "mine", &[]).ok();
    }
}

#[test]
fn their_own_files_new_ones_and_empty_ones_are_written() {
    for writer in WRITERS {
        let p = project();
        p.file("empty", "");
        for _ in 0..2 {
            write(&p, writer, "new", &[]).ok();
            write(&p, writer, "empty", &[]).ok();
        }
        assert!(p.read("empty").contains("task-pipeline"), "{writer}");
        // None is taken for another's.
        for other in WRITERS.iter().filter(|other| **other != writer) {
            write(&p, other, "new", &[]).fails(2).says("--force");
        }
    }
}

#[test]
fn a_link_that_was_named_is_kept_and_judged_by_what_it_leads_to() {
    for writer in WRITERS {
        let p = project();
        p.file("elsewhere/mine", "mine\n").file("elsewhere/empty", "");
        for name in ["mine", "empty", "nothing"] {
            symlink(p.path("elsewhere").join(name), p.path(name)).unwrap();
        }
        write(&p, writer, "mine", &[]).fails(2).says("--force");
        assert_eq!(p.read("elsewhere/mine"), "mine\n");
        write(&p, writer, "empty", &[]).ok();
        assert!(
            p.path("empty").is_symlink() && p.read("elsewhere/empty").contains("task-pipeline")
        );
        // One that leads nowhere makes nothing there.
        write(&p, writer, "nothing", &["--force"]).fails(74).says("nothing");
        assert!(!p.path("elsewhere/nothing").exists());
    }
}

#[test]
fn what_is_no_file_is_written_to() {
    for writer in WRITERS {
        let p = project();
        let page = p.cmd(match writer {
            "report" => vec!["report", "-o", "/dev/stdout"],
            option => vec!["-manifest", "pipeline.toml", "-q", "-B", option, "/dev/stdout"],
        });
        page.redirected("| cat >through.pipe").go().ok();
        assert!(p.read("through.pipe").contains("task-pipeline"), "{writer}");
        write(&p, writer, "/dev/null", &[]).ok();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}

#[test]
fn a_file_of_a_database_is_not_overwritten_even_if_that_is_asked_for() {
    for writer in WRITERS {
        let p = project();
        // The lock is empty.
        for name in ["db/format", "db/db", "db/lock"] {
            let before = fs::read(p.path(name)).unwrap();
            write(&p, writer, name, &["--force"]).fails(2).says("nothing but runs may write");
            assert_eq!(fs::read(p.path(name)).unwrap(), before);
        }
    }
}

#[test]
fn nothing_but_a_run_adds_a_file_to_a_database() {
    for writer in WRITERS {
        let p = project();
        for name in ["db/new", "db/objects/new", "db/scratch/../new"] {
            write(&p, writer, name, &["--force"]).fails(2).says("nothing but runs may write");
            assert!(!p.path(name).exists(), "{writer} {name}");
        }
        // Nor to what becomes one.
        fs::create_dir(p.path("empty.db")).unwrap();
        if writer != "report" {
            let run = ["-manifest", "pipeline.toml", "-db", "empty.db", writer, "empty.db/new"];
            p.call(run).fails(2).says("nothing but runs may write");
            assert!(!p.path("empty.db/new").exists());
        }
    }
}

#[test]
fn force_says_what_it_is_not_for() {
    let p = project();
    p.run_with(["--force"]).fails(2).says("-B").ran([]);
    p.call(["watch", "--force"]).fails(2);
}

#[test]
fn a_page_leaves_no_draft() {
    let p = project();
    p.call(["report", "-o", "out.html"]).ok();
    p.call(["report", "-o", "out.html"]).ok();
    fs::create_dir(p.path("folder")).unwrap();
    p.call(["report", "-o", "folder"]).fails(74);
    let mut names: Vec<_> =
        fs::read_dir(p.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["bin", "db", "folder", "ledger", "out.html", "pipeline.toml"]);
}
