//! `watch`: runs again when something that a run reads has changed, and only then.

use std::fs;
use std::time::SystemTime;

use rustix::process::Signal;

use crate::harness::{Project, Running, WAIT_FOR_GO, wait_for};

const COPY: &str = "cat \"$INPUT_FILE\" >\"$OUTPUT_DIR/out\"";

fn txt(p: &Project) -> Project {
    p.file("in/1.txt", "one").file("in/2.txt", "two");
    p.task_with("a", "inputs = [\"in/**/*.txt\"]", COPY)
}

fn watch(p: &Project) -> Running {
    p.cmd(["watch", "-manifest", "pipeline.toml", "-db", "db", "-j2"]).start()
}

/// Waits for the end of the `n`-th round that printed something.
#[track_caller]
fn round(run: &Running, n: usize) {
    wait_for(&format!("round {n}\n{}", run.stderr()), || {
        run.stderr().matches("waiting for changes").count() >= n
    });
}

/// Ends it as a user does. Fails unless exactly `n` rounds printed something.
#[track_caller]
fn end(run: Running, n: usize) -> Vec<String> {
    run.signal(Signal::INT);
    let ran = run.end().dies_of(Signal::INT);
    assert_eq!(ran.stderr.matches("waiting for changes").count(), n, "{}", ran.stderr);
    ran.stderr.lines().map(str::to_owned).collect()
}

#[test]
fn a_changed_input_runs_what_it_feeds_and_nothing_else() {
    let p = txt(&Project::new());
    let run = watch(&p);
    round(&run, 1);
    assert_eq!(p.ledger().len(), 2);
    p.file("in/1.txt", "uno");
    round(&run, 2);
    let lines = end(run, 2);
    assert_eq!(p.ledger()[2..], ["a 1.txt"]);
    let news = lines.iter().position(|line| line == "in/1.txt changed");
    assert!(lines[news.unwrap() + 1].starts_with("registered a"), "{lines:?}");
    assert_eq!(p.exported("a").len(), 2);
}

#[test]
fn files_come_and_go_in_folders_old_and_new() {
    let p = txt(&Project::new());
    let run = watch(&p);
    round(&run, 1);
    p.file("in/3.txt", "three");
    round(&run, 2);
    p.file("in/deep/deeper/4.txt", "four");
    round(&run, 3);
    // The new folders are watched as well.
    p.file("in/deep/deeper/4.txt", "vier");
    round(&run, 4);
    assert_eq!(p.ledger()[2..], ["a 3.txt", "a deep/deeper/4.txt", "a deep/deeper/4.txt"]);
    p.remove("in/3.txt");
    wait_for("its step to retire", || run.stderr().contains("; 1 no longer needed"));
    fs::remove_dir_all(p.path("in")).unwrap();
    wait_for("all steps to retire", || run.stderr().contains("nothing to run; 0 up to"));
    p.file("in/5.txt", "five");
    wait_for("the new one's step", || p.ledger()[5..] == ["a 5.txt"]);
    run.signal(Signal::INT);
    run.end().dies_of(Signal::INT);
}

#[test]
fn a_broken_manifest_is_waited_for() {
    let p = txt(&Project::new());
    let good = p.read("pipeline.toml");
    p.manifest("[[task]]\nname = 3\n");
    let run = watch(&p);
    round(&run, 1);
    assert!(run.stderr().contains("pipeline.toml:2:8"), "{}", run.stderr());
    assert!(!p.path("db").exists());
    p.manifest(&good);
    round(&run, 2);
    assert_eq!(p.ledger().len(), 2);
    p.remove("pipeline.toml");
    round(&run, 3);
    // After an error it says so when all is well again, even with nothing to do.
    p.manifest(&good);
    round(&run, 4);
    assert!(run.stderr().contains("nothing to do: 2 steps up to date"), "{}", run.stderr());
    // As editors do: a new file, renamed over the old one.
    p.file("pipeline.toml.new", good.replace("cat", "rev"));
    fs::rename(p.path("pipeline.toml.new"), p.path("pipeline.toml")).unwrap();
    round(&run, 5);
    assert_eq!(p.ledger().len(), 4);
    assert!(run.stderr().contains("pipeline.toml changed"), "{}", run.stderr());
    end(run, 5);
    assert!(p.exported("a").values().any(|text| text == "eno"));
}

#[test]
fn what_is_only_touched_or_not_read_passes_without_a_word() {
    let p = txt(&Project::new());
    let run = watch(&p);
    round(&run, 1);
    let said = run.stderr();
    let lock = fs::File::open(p.path("db/lock")).unwrap();
    let signed = || lock.metadata().unwrap().modified().unwrap();
    let before = signed();
    let touched = fs::File::open(p.path("in/1.txt")).unwrap();
    touched.set_modified(SystemTime::now() + std::time::Duration::from_secs(9)).unwrap();
    wait_for("a round", || signed() != before && lock.try_lock().is_ok());
    lock.unlock().unwrap();
    p.file("elsewhere", "").file("in/x.bin", "").file("db/by-hand", "");
    p.file("in/2.txt", "zwei");
    round(&run, 2);
    let news = run.stderr()[said.len()..].to_owned();
    end(run, 2);
    assert!(news.contains("in/2.txt"), "{news}");
    assert!(!news.contains("in/1.txt") && !news.contains("nothing to do"), "{news}");
}

#[test]
fn all_that_a_run_reads_is_watched() {
    let p = Project::new().file("words", "a").file("plain", "b").file("named", "c");
    p.task_with("files", "from = []\nfiles = [\"words\"]", "cat words >$OUTPUT_DIR/x");
    p.task_with("inputs", "inputs = [\"plain\"]", COPY);
    p.run_with(["named"]).ok();
    // The INPUT of the first round is used again.
    let run = watch(&p);
    round(&run, 1);
    for (n, name) in ["words", "plain", "named"].into_iter().enumerate() {
        p.file(name, "new");
        round(&run, n + 2);
        assert!(run.stderr().contains(&format!("{name} changed")), "{}", run.stderr());
    }
    end(run, 4);
    assert_eq!(p.ledger()[2..], ["files named", "inputs plain", "files named"]);
}

#[test]
fn a_missing_input_and_a_failure_are_waited_for() {
    let p = Project::new().task_with("a", "inputs = [\"plain\"]", "grep -q good $INPUT_FILE");
    let run = watch(&p);
    round(&run, 1);
    assert!(run.stderr().contains("does not exist"), "{}", run.stderr());
    p.file("plain", "bad");
    round(&run, 2);
    assert!(run.stderr().contains("1 step failed"), "{}", run.stderr());
    p.file("plain", "good");
    round(&run, 3);
    assert!(run.stderr().contains("1 done, 0 failed"), "{}", run.stderr());
    end(run, 3);
}

#[test]
fn a_link_that_is_swapped_behind_a_link_is_a_change() {
    let p = Project::new();
    for n in 1..=2 {
        for at in ["in/.v", "far/v", "top/v", "one/v"] {
            p.file(format!("{at}{n}/a.txt"), format!("{n}"));
        }
    }
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, p.path("link")).unwrap();
        fs::rename(p.path("link"), p.path(name)).unwrap();
    };
    // A file behind two links, a folder behind two, the start of a pattern, a file by name.
    let chains = [
        (".v", "in/.data", ".data/a.txt", "in/a.txt"),
        ("v", "far/now", "../far/now", "in/sub"),
        ("v", "top/now", "top/now", "start"),
        ("v", "one/now", "one/now/a.txt", "plain"),
    ];
    for (version, inner, through, outer) in chains {
        link(&format!("{version}1"), inner);
        link(through, outer);
    }
    p.task_with("a", "inputs = [\"in/*.txt\", \"in/*/a.txt\", \"start/*\", \"plain\"]", COPY);
    let run = watch(&p);
    round(&run, 1);
    for (n, (version, inner, ..)) in chains.into_iter().enumerate() {
        link(&format!("{version}2"), inner);
        round(&run, n + 2);
        assert!(run.stderr().contains(&format!("{inner} changed")), "{}", run.stderr());
    }
    end(run, 5);
}

#[test]
fn the_database_is_free_while_it_waits() {
    let p = txt(&Project::new());
    let run = watch(&p);
    round(&run, 1);
    p.run().ok().says("nothing to do");
    // It waits for another run instead of giving up.
    let keys = "inputs = [\"in/**/*.txt\"]\nfiles = [\"pipeline.toml\"]";
    p.task_with("a", keys, WAIT_FOR_GO);
    wait_for("the scripts", || p.ledger().len() == 4);
    p.run().fails(75);
    p.file("go", "");
    round(&run, 2);
    end(run, 2);
}

#[test]
fn a_signal_ends_it_as_it_ends_a_run() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let p = Project::new().task("a", WAIT_FOR_GO);
        let run = watch(&p);
        wait_for("the script", || p.ledger().len() == 1);
        run.signal(signal);
        run.end().dies_of(signal).says("ending the running steps").says_nothing_of("waiting for");
    }
    let p = txt(&Project::new());
    let run = watch(&p);
    round(&run, 1);
    run.signal(Signal::TERM);
    run.end().dies_of(Signal::TERM);
}

#[test]
fn what_makes_no_sense_with_it_is_refused() {
    let p = txt(&Project::new());
    p.call(["watch", "-n"]).fails(2).says("contradict");
    p.call(["watch", "--events", "-"]).fails(2).says("tell of one run");
    p.call(["watch", "-"]).fails(2).says("can't be watched");
    p.call(["watch", "--help"]).ok().answers("--durability").answers("Ctrl-C ends");
    p.call(["--help"]).ok().answers("  watch ");
    p.call(["wach", "x"]).fails(2).says("did you mean the command `watch`?");
}

#[test]
fn a_file_of_params_is_watched_too() {
    let p = Project::new().file("mine.toml", "seed = 1\n").manifest(
        "[params]\nseed = 0\n[[task]]\nname = \"a\"\nparams = [\"seed\"]\nscript = '''echo $seed >>ledger'''\n",
    );
    let args = ["watch", "-manifest", "pipeline.toml", "-db", "db", "--params", "mine.toml"];
    let run = p.cmd(args).start();
    round(&run, 1);
    p.file("mine.toml", "seed = 2\n");
    round(&run, 2);
    end(run, 2);
    assert_eq!(p.ledger(), ["1", "2"]);
}

#[test]
fn a_file_that_comes_into_a_folder_of_files_runs_the_task_again() {
    let p = Project::new().file("ref/.hidden", "1").file("src/a.h", "a");
    p.task_with("a", "files = [\"ref/\", \"src/*.h\"]", "true");
    let run = watch(&p);
    round(&run, 1);
    p.file("ref/deep/.new", "2");
    round(&run, 2);
    p.file("src/b.h", "b");
    round(&run, 3);
    end(run, 3);
    assert_eq!(p.ledger().len(), 3);
}

#[test]
fn a_list_of_inputs_is_watched_too() {
    let p = Project::new().file("1", "one").file("2", "two").file("list", "1\n").task("a", COPY);
    let args = ["watch", "-manifest", "pipeline.toml", "-db", "db", "--inputs-from", "list"];
    let run = p.cmd(args).start();
    round(&run, 1);
    p.file("list", "1\n2\n");
    round(&run, 2);
    p.file("2", "zwei");
    round(&run, 3);
    end(run, 3);
    assert_eq!(p.ledger(), ["a 1", "a 2", "a 2"]);
}
