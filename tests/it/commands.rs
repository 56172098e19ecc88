//! The commands that read: status, log, cat, and run -n.

use serde_json::json;

use crate::harness::{Project, Ran, WAIT_FOR_GO, chmod, files, sha256, tree, wait_for};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

/// Two inputs, of which the second one fails in the second task.
fn half_done() -> Project {
    let p = Project::new()
        .file("in/1", "1\n")
        .file("in/2", "2\n")
        .task_with("a", "inputs = [\"in/*\"]", COPY)
        .task("b", "echo hello from $INPUT_NAME; [ $INPUT_NAME = 1 ]; cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME");
    p.run_with(["-k"]).fails(1);
    p
}

#[test]
fn a_run_tells_what_the_owner_wants_to_know() {
    let p = Project::new()
        .task("first", "echo 1 >$OUTPUT_DIR/x; echo 2 >$OUTPUT_DIR/y")
        .task("second", "true");
    let ran = p.run().ok();
    let ran = ran.says("pipeline.toml").says("2 tasks").says("db").says("registered first, second");
    let ran =
        ran.says("step 1 first: done, 2 outputs").says("second (x): done").says("second (y): done");
    ran.says("total 3 steps: 3 done").answers("");
    assert_eq!(p.run().stdout, "", "answers only go to stdout");
}

#[test]
fn status_counts_the_steps_of_each_task() {
    let p = half_done();
    let status = p.call(["status", "--json"]).ok().json();
    let numbers = |n: usize| {
        let task = &status["tasks"][n];
        json!([
            task["task"],
            task["done"],
            task["pending"],
            task["failed"],
            task["outputs"],
            task["bytes"]
        ])
    };
    assert_eq!(numbers(0), json!(["a", 2, 0, 0, 2, 4]));
    assert_eq!(numbers(1), json!(["b", 1, 0, 1, 1, 2]));
    assert_eq!(status["last_run"]["result"], "failed");
    p.call(["status"]).ok().answers("a ").answers("b ").answers("pipeline.toml").answers("failed");
}

#[test]
fn status_answers_during_a_run() {
    let p = Project::new()
        .task("quick", "echo 1 >$OUTPUT_DIR/x")
        .task("slow", &format!(": >started; {WAIT_FOR_GO}"));
    let running = p.run_cmd([""; 0]).start();
    wait_for("the slow step", || p.path("started").exists());
    let status = p.call(["status", "--json"]).ok().json();
    assert_eq!(
        (&status["tasks"][0]["done"], &status["tasks"][1]["pending"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(status["last_run"]["pid"], running.pid());
    p.call(["log", "quick"]).ok();
    p.call(["cat", "quick/x"]).ok().answers("1\n");
    p.call(["export", "quick", "--to", "out"]).fails(1);
    p.run_with(["-n"]).ok();
    p.file("go", "");
    running.end().ok();
}

#[test]
fn commands_without_a_database_say_so() {
    let p = Project::new().task("a", "true");
    for args in [&["status"][..], &["log", "1"], &["cat", "a"], &["export", "a", "--to", "out"]] {
        p.call(args).fails(2).says("./db");
        p.call(args.iter().chain(&["-db", "other"])).fails(2).says("other");
    }
    assert!(!p.path("db").exists() && !p.path("out").exists());
}

#[test]
fn log_prints_what_a_step_printed() {
    let p = half_done();
    let id = p.sql("SELECT id FROM step WHERE name = '2' AND state = 2").remove(0);
    for word in [id.as_str(), "b/2"] {
        assert_eq!(p.call(["log", word]).ok().stdout, "hello from 2\n");
    }
    p.call(["log", "b"]).ok().answers("hello from 1\n").answers("hello from 2\n");
    assert_eq!(p.call(["log", "--failed"]).ok().stdout, "hello from 2\n");
    let silent = Project::new().task("quiet", "exit 3");
    silent.run().fails(1);
    silent.call(["log", "--failed"]).ok().says("failed, and printed nothing");
    assert_eq!(p.call(["log", "a/1"]).ok().stdout, "");
    p.call(["log", "999"]).fails(2).says("999");
    p.call(["log", "none/2"]).fails(2).says("`none`").says("a, b");
    p.call(["log", "b/none"]).fails(2);
}

#[test]
fn log_knows_every_attempt() {
    let p = Project::new().task_with("a", "retries = 1", "echo attempt $ATTEMPT; [ $ATTEMPT = 2 ]");
    p.run().ok();
    assert_eq!(p.call(["log", "a"]).ok().stdout, "attempt 2\n");
    assert_eq!(p.call(["log", "1", "--attempt", "1"]).ok().stdout, "attempt 1\n");
    p.call(["log", "1", "--attempt", "3"]).fails(2);
    let log = p.call(["log", "1", "--attempt=1", "--json"]).ok().json();
    assert_eq!((&log[0]["log"], &log[0]["attempt"]["code"]), (&json!("attempt 1\n"), &json!(1)));
    assert_eq!((&log[0]["attempt"]["outcome"], &log[0]["task"]), (&json!("exit"), &json!("a")));
    assert!(log[0]["attempt"]["wall_us"].as_i64().unwrap() > 0, "{log}");
    assert!(log[0]["attempt"]["peak_kib"].as_i64().unwrap() > 0, "{log}");
}

#[test]
fn a_log_is_given_raw() {
    let p = Project::new().task("a", "printf 'a\\033[31m\\377\\000z'");
    p.run().ok().says_nothing_of("\u{1b}");
    let log = p.call(["log", "a"]).ok();
    assert!(log.stdout.contains('\u{1b}') && log.stdout.contains('\0'));
    p.task("a", "printf 'a\\033[31mz\\n'; exit 1")
        .run()
        .fails(1)
        .says_nothing_of("\u{1b}")
        .says("a\\u{1b}[31mz");
}

#[test]
fn verbose_shows_logs_and_quiet_only_failures() {
    let p = Project::new()
        .task("a", "echo hello; echo 1 >$OUTPUT_DIR/x")
        .task("b", "echo oh no; false");
    let ran =
        p.run_with(["-q"]).fails(1).says("oh no").says_nothing_of("hello").says_nothing_of("done");
    ran.says_nothing_of("registered");
    p.run_with(["-v", "-B"]).fails(1).says("hello").says("oh no");
    p.task("b", "true").run().ok().says_nothing_of("hello");
    assert_eq!(p.run_with(["-q"]).ok().stderr, "");
}

#[test]
fn cat_writes_objects_by_hash_or_name() {
    let p = Project::new().task(
        "a",
        "echo 1 >$OUTPUT_DIR/x; mkdir $OUTPUT_DIR/d; printf '\\000\\001' >$OUTPUT_DIR/d/y",
    );
    p.run().ok();
    let hash = sha256(b"1\n");
    for word in [hash.as_str(), &hash[..8], "a/x"] {
        assert_eq!(p.call(["cat", word]).ok().stdout, "1\n");
    }
    assert_eq!(p.call(["cat", "a/d/y"]).ok().stdout, "\0\u{1}");
    assert_eq!(p.call(["cat", "a"]).ok().stdout, "\0\u{1}1\n");
    assert_eq!(p.call(["cat", "a/x", &hash]).ok().stdout, "1\n1\n");
    p.call(["cat", "a/none"]).fails(2).says("a/none");
    p.call(["cat", &sha256(b"unknown")]).fails(2);
}

#[test]
fn n_tells_what_would_run_and_changes_nothing() {
    let p = half_done();
    p.file("in/3", "3\n");
    let before = tree(&p.root());
    // Whoever reads a database in WAL mode may touch its shared memory.
    let lasting = |tree: Vec<String>| {
        tree.into_iter().filter(|line| !line.ends_with("db-shm")).collect::<Vec<_>>()
    };
    let plan = p.run_with(["-n", "--json"]).ok().ran([]).json();
    let numbers = |n: usize| {
        let task = &plan["tasks"][n];
        json!([task["task"], task["new"], task["again"], task["reused"], task["retired"]])
    };
    assert_eq!(numbers(0), json!(["a", 1, 0, 2, 0]));
    assert_eq!(numbers(1), json!(["b", 0, 1, 1, 0]));
    assert_eq!(plan["to_run"], 2);
    p.run_with(["-n"]).ok().answers("a ").answers("2 steps to run");
    p.call(["plan", "-manifest", "pipeline.toml"]).ok().answers("2 steps to run");
    p.run_with(["-n", "-B"]).ok().answers("a ");
    assert_eq!(lasting(tree(&p.root())), lasting(before));
}

#[test]
fn n_needs_no_database_and_makes_none() {
    let p = Project::new().task("a", "true").task_with("all", "gather = true", "true");
    let before = tree(&p.root());
    let plan = p.run_with(["-n", "--json"]).ok().json();
    assert_eq!(
        (&plan["tasks"][0]["new"], &plan["tasks"][1]["waits_for_inputs"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(tree(&p.root()), before);
}

#[test]
fn n_agrees_with_the_run_after_it() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task("b", COPY);
    for change in 0..4 {
        match change {
            0 => p.file("in/3", "3\n"),
            1 => p.remove("in/1"),
            2 => p.task("b", "cp $INPUT_FILE $OUTPUT_DIR/y"),
            _ => p.rename("a", "z"),
        };
        let plan = p.run_with(["plan", "-n", "--json"][1..].iter()).ok().json();
        let before = p.ledger().len();
        p.run_with(["--step", if change == 3 { "z" } else { "a" }, "--step", "b"]).ok();
        let ran = p.ledger().len() - before;
        assert!(plan["to_run"].as_u64().unwrap() as usize <= ran, "change {change}: {plan}");
        assert_eq!(p.run_with(["-n", "--json"]).ok().json()["to_run"], 0);
    }
    assert_eq!(p.exported("b").len(), 2);
    assert_eq!(p.exported("z"), files([("2", "2\n"), ("3", "3\n")]));
}

#[test]
fn a_word_that_is_a_task_and_a_step_means_neither_until_it_says_which() {
    // Step 1 is of task `2`, step 2 of task `1`.
    let p = Project::new().task("2", "echo task two").task_with("1", "from = []", "echo task one");
    p.run().ok();
    let first = p.call(["log", "task:2"]).ok().stdout;
    assert_eq!(first, "task two\n");
    let step = p.sql("SELECT s.id FROM step s JOIN task t ON t.id = s.task WHERE t.name = '1'");
    assert_eq!(step, ["2"]);
    for command in ["log", "explain", "lineage"] {
        p.call([command, "2"]).fails(2).says("task:2").says("step:2");
    }
    p.call(["log", "step:2"]).ok().answers("task one\n");
    p.call(["explain", "step:2"]).ok().answers("step 2 1");
    p.call(["lineage", "step:2"]).ok().answers("step 2 1");
    p.call(["explain", "task:2"]).ok().answers("2 ran in run 1");
    p.call(["lineage", "task:2"]).ok().answers("step 1 2");
    // What has one meaning needs no help.
    p.drop_task("1").task_with("7", "from = []", "echo task seven").run().ok();
    p.call(["log", "7"]).ok().answers("task seven\n");
    p.call(["log", "2/"]).ok().answers("task two\n");
    p.call(["log", "step:99"]).fails(2).says("there is no step 99; `task-pipeline status` lists");
    p.call(["log", "step:x"]).fails(2).says("number");
}

#[test]
fn a_word_that_is_a_task_and_an_object_means_neither_until_it_says_which() {
    let hash = sha256(b"good\n");
    let p = Project::new().task(&hash[..8], "echo good >$OUTPUT_DIR/x; echo more >$OUTPUT_DIR/y");
    p.run().ok();
    let task = format!("task:{}", &hash[..8]);
    for command in ["cat", "lineage"] {
        p.call([command, &hash[..8]]).fails(2).says(&task).says(&hash);
        p.call([command, &hash[..9]]).ok();
    }
    p.call(["cat", &hash]).ok().answers("good\n");
    p.call(["cat", &task]).ok().answers("good\nmore\n");
    p.call(["cat", &format!("{task}/y")]).ok().answers("more\n");
}

#[test]
fn what_has_changed_in_the_store_is_not_printed_and_ends_with_65() {
    let p = Project::new();
    p.task("a", "echo good >$OUTPUT_DIR/x; head -c 3000000 /dev/zero >$OUTPUT_DIR/y; echo log")
        .run()
        .ok();
    let spoil = |bytes: &[u8], by: &[u8]| {
        let path = p.object(&sha256(bytes));
        chmod(&path, 0o644);
        let mut spoilt = bytes.to_owned();
        let at = bytes.len() - by.len();
        spoilt[at..].copy_from_slice(by);
        std::fs::write(path, spoilt).unwrap();
    };
    let large = vec![0; 3_000_000];
    p.call(["cat", "a/y"]).ok();
    spoil(b"good\n", b"evil\n");
    spoil(&large, b"1");
    spoil(b"log\n", b"lie\n");
    let told = |ran: Ran, printed: usize| {
        let ran = ran.fails(65).says("damaged").says("repair");
        assert_eq!(ran.stdout.len(), printed);
    };
    told(p.call(["cat", "a/x"]), 0);
    told(p.call(["cat", &sha256(b"good\n")]), 0);
    // Of a large one the end is missing, so that no reader takes it for whole.
    told(p.call(["cat", "a/y"]), 2 << 20);
    told(p.call(["log", "a"]), 0);
}

#[test]
fn a_path_with_control_characters_is_shown_escaped() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    p.run().ok();
    let evil = "e\u{1b}]0;x\u{7}\n";
    p.file(format!("{evil}/file"), "of nobody");
    let file = format!("{evil}/file");
    for args in [
        &["status", "-db", evil][..],
        &["status", "-db", &file],
        &["-manifest", "pipeline.toml", "-db", evil],
        &["-manifest", "pipeline.toml", "-db", &file],
        &["-manifest", evil],
        &["-manifest", "pipeline.toml", evil],
        &["-manifest", "pipeline.toml", "--events", &format!("{file}/x")],
        &["export", "a", "--to", &file],
        &["export", evil, "--to", "out"],
        &["report", "-o", &format!("{file}/x")],
        &["cat", evil],
        &["log", evil],
        &["lineage", evil],
        &["lineage", &file],
    ] {
        let ran = p.call(args);
        let told = format!("{}{}", ran.stdout, ran.stderr);
        assert!(!told.contains('\u{1b}') && !told.contains('\u{7}'), "{args:?}: {told:?}");
        assert!(told.contains("\\x1b"), "{args:?}: {told}");
    }
}

#[test]
fn a_command_that_is_recommended_names_the_database() {
    let p = Project::new();
    p.task("a", "exit 1").task_with("b", "gather = true", "true");
    p.run_with(["-db", "my db"]).fails(1).says("task-pipeline log 1 -db 'my db'");
    let call = |args: &[&str]| p.call(args.iter().copied().chain(["-db", "my db"]));
    call(&["log", "9"]).fails(2).says("`task-pipeline status -db 'my db'` lists the tasks");
    let export = call(&["export", "b", "--to", "out"]).fails(1);
    export.says("can't be read (`task-pipeline status -db 'my db'`)");
    p.task("a", "echo good >$OUTPUT_DIR/x").run_with(["-db", "my db"]).ok();
    p.remove(p.path("my db/objects").join(two_levels(&sha256(b"good\n"))));
    call(&["verify"]).fails(65).answers("`task-pipeline repair -db 'my db'` repairs what it can");
    call(&["cat", "a"]).fails(65).says("`task-pipeline repair -db 'my db'` makes it again");
    call(&["report", "-o", "page.html"]).ok();
    assert!(p.read("page.html").contains("\"db\":\" -db 'my db'\""));
    // Where it is the default, nothing has to be said.
    p.run().ok();
    p.call(["log", "9"]).fails(2).says_nothing_of("-db");
}

/// Where an object lies below `objects/`.
fn two_levels(hash: &str) -> std::path::PathBuf {
    [&hash[..2], &hash[2..4], &hash[4..]].iter().collect()
}
