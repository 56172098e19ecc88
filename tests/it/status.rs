//! `status` and `log --follow` during a run, and the sums that the database keeps for `status`.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Project, WAIT_FOR_GO, wait_for};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

fn status(p: &Project) -> Value {
    p.call(["status", "--json"]).ok().json()
}

/// A run whose step `slow` prints `first` and waits.
fn slow() -> Project {
    let p = Project::new();
    p.file("in/x", "").task_with("quick", "inputs = [\"in/*\"]", COPY);
    p.task("slow", &format!("echo first; : >started; {WAIT_FOR_GO}; echo last; printf end"))
}

#[test]
fn what_runs_is_told_with_its_time() {
    let p = slow();
    assert!(!p.path("db").exists());
    let run = p.run_cmd([""; 0]).start();
    wait_for("the slow step", || p.path("started").exists());
    let now = status(&p);
    let step = &now["running"][0];
    assert_eq!(
        json!([step["step"], step["task"], step["input"], step["attempt"]]),
        json!([2, "slow", "x", 1])
    );
    assert_eq!(now["tasks"][1]["running"], 1);
    assert_eq!(
        (&now["last_run"]["under_way"], &now["last_run"]["result"]),
        (&json!(true), &Value::Null)
    );
    p.call(["status"]).ok().answers("running: 1").answers("step 2 slow (x): ").answers("under way");
    p.file("go", "");
    run.end().ok();
    let after = status(&p);
    assert_eq!((&after["running"], &after["last_run"]["under_way"]), (&json!([]), &json!(false)));
}

#[test]
fn a_killed_run_is_not_under_way() {
    let p = slow();
    let run = p.run_cmd([""; 0]).start();
    wait_for("the slow step", || p.path("started").exists());
    run.signal(Signal::KILL);
    assert!(run.end().was_killed());
    let now = status(&p);
    assert_eq!((&now["running"], &now["last_run"]["under_way"]), (&json!([]), &json!(false)));
    assert_eq!(now["tasks"][1]["pending"], 1);
    p.call(["status"]).ok().answers("killed");
    // No step is running that could be followed.
    p.call(["log", "slow", "--follow"]).ok().says_nothing_of("is running");
    p.file("go", "").run().ok();
}

#[test]
fn the_log_of_a_running_step_is_what_it_has_printed_so_far() {
    let p = slow();
    let run = p.run_cmd([""; 0]).start();
    wait_for("the slow step", || p.path("started").exists());
    wait_for("its first line", || p.call(["log", "2"]).ok().stdout == "first\n");
    p.call(["log", "slow"]).ok().says("step 2 is running").says("-f").answers("first\n");
    p.file("go", "");
    run.end().ok();
    assert_eq!(p.call(["log", "2"]).ok().says_nothing_of("running").stdout, "first\nlast\nend");
}

#[test]
fn a_log_is_followed_until_its_step_ends() {
    let p = slow();
    let run = p.run_cmd([""; 0]).start();
    wait_for("the slow step", || p.path("started").exists());
    let follow = p.cmd(["log", "slow/x", "--follow"]).start();
    wait_for("its first line", || follow.stdout() == "first\n");
    p.file("go", "");
    assert_eq!(follow.end().ok().stdout, "first\nlast\nend");
    run.end().ok();
    assert_eq!(
        p.call(["log", "slow", "-f"]).ok().stdout,
        "first\nlast\nend",
        "of one that is over"
    );
    p.call(["log", "slow", "-f", "--json"]).fails(2).says("--follow");
}

#[test]
fn a_log_is_followed_until_the_run_is_killed() {
    let p = slow();
    let run = p.run_cmd([""; 0]).start();
    wait_for("the slow step", || p.path("started").exists());
    let follow = p.cmd(["log", "2", "--follow"]).start();
    wait_for("its first line", || follow.stdout() == "first\n");
    run.signal(Signal::INT);
    run.end().dies_of(Signal::INT);
    assert_eq!(follow.end().ok().stdout, "first\n");
}

#[test]
fn followed_is_one_step() {
    let p = Project::new().file("in/x", "").file("in/y", "");
    p.task_with("a", "inputs = [\"in/*\"]", &format!(": >started.$INPUT_NAME; {WAIT_FOR_GO}"));
    let run = p.run_cmd(["-j2"]).start();
    wait_for("both", || p.path("started.x").exists() && p.path("started.y").exists());
    p.call(["log", "a", "--follow"]).fails(2).says("name one of 1, 2");
    p.file("go", "");
    run.end().ok();
}

/// The outputs and bytes that `status` reports, and the same counted from all rows.
#[track_caller]
fn check_sums(p: &Project) {
    let added_up = p.sql(
        "SELECT t.name, count(o.step), coalesce(sum(b.size), 0) FROM task t
         LEFT JOIN step s ON s.task = t.id AND s.live = 1 AND s.state = 1
         LEFT JOIN output o ON o.step = s.id LEFT JOIN object b ON b.hash = o.object
         WHERE t.position IS NOT NULL GROUP BY t.id ORDER BY t.position",
    );
    let counted = p.sql(
        "SELECT t.name, count(*) FILTER (WHERE live = 1 AND state = 1),
           count(*) FILTER (WHERE live = 1 AND state = 0), count(*) FILTER (WHERE state = 2 AND live = 1),
           count(*) FILTER (WHERE live = 0)
         FROM task t LEFT JOIN step s ON s.task = t.id WHERE t.position IS NOT NULL GROUP BY t.id
         ORDER BY t.position",
    );
    let attempts = p.sql(
        "SELECT t.name, count(a.step), coalesce(sum(a.wall_us), 0), coalesce(max(a.peak_kib), 0)
         FROM task t LEFT JOIN step s ON s.task = t.id LEFT JOIN attempt a ON a.step = s.id
         WHERE t.position IS NOT NULL GROUP BY t.id ORDER BY t.position",
    );
    let now = status(p);
    let rows = |keys: &[&str]| -> Vec<String> {
        let row = |task: &Value| {
            let words = keys.iter().map(|key| match &task[key] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            words.collect::<Vec<_>>().join("|")
        };
        now["tasks"].as_array().unwrap().iter().map(row).collect()
    };
    assert_eq!(rows(&["task", "outputs", "bytes"]), added_up);
    assert_eq!(rows(&["task", "done", "pending", "failed", "retired"]), counted);
    assert_eq!(rows(&["task", "attempts", "wall_us", "peak_kib"]), attempts);
}

#[test]
fn sums_that_are_kept_are_what_adding_up_gives() {
    let p = Project::new().file("in/1", "one\n").file("in/2", "two\n").file("in/3", "three\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY)
        .task("b", "[ -e bad ] && exit 1; cp $INPUT_FILE $OUTPUT_DIR/x; echo 12345 >$OUTPUT_DIR/y")
        .task_with("c", "retries = 1", "[ $ATTEMPT -gt 1 ] && cp $INPUT_FILE $OUTPUT_DIR/z")
        .task_with("all", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    p.run().ok();
    check_sums(&p);
    p.remove("in/3").file("bad", "").file("in/4", "four\n").run_with(["-k"]).fails(1);
    check_sums(&p);
    p.remove("bad").run().ok();
    check_sums(&p);
    p.file("in/3", "three\n").run().ok();
    check_sums(&p);
    p.task("b", "cp $INPUT_FILE $OUTPUT_DIR/other").run().ok();
    check_sums(&p);
    p.run_with(["-B"]).ok();
    check_sums(&p);
    p.drop_task("c").rename("b", "bb").run().ok();
    check_sums(&p);
    p.call(["gc", "--grace", "0s"]).ok();
    check_sums(&p);
    let object = p.sql("SELECT lower(hex(o.object)) FROM output o JOIN step s ON s.id = o.step WHERE live = 1 ORDER BY 1").remove(0);
    std::fs::remove_file(p.object(&object)).unwrap();
    p.call(["repair"]).ok();
    check_sums(&p);
    p.run().ok();
    check_sums(&p);
}

#[test]
fn an_older_database_gets_its_sums() {
    let p =
        Project::new().task("a", "echo 1 >$OUTPUT_DIR/x; echo 22 >$OUTPUT_DIR/y").task("b", COPY);
    p.run().ok();
    // Back to schema 3.
    let conn = rusqlite::Connection::open(p.path("db/db")).unwrap();
    conn.execute_batch(
        "DROP TRIGGER task_added; DROP TRIGGER output_added; DROP TRIGGER output_removed;
         DROP TRIGGER step_moved; DROP TABLE total; DROP TABLE run_task; DROP INDEX idx_step_retired;
         ALTER TABLE run DROP COLUMN always; ALTER TABLE run DROP COLUMN steps; ALTER TABLE task DROP COLUMN cache;
         ALTER TABLE task DROP COLUMN feeds; ALTER TABLE argument DROP COLUMN manifest;
         DROP INDEX idx_step_key; ALTER TABLE step DROP COLUMN origin; ALTER TABLE step DROP COLUMN labels;
         ALTER TABLE step DROP COLUMN same_as; DROP INDEX idx_step_side; ALTER TABLE step DROP COLUMN side;
         DROP TABLE side_link; DROP TABLE side; DROP TABLE step_result; DROP TABLE result_output;
         DROP TABLE result_dependency; DROP TABLE result; DROP TABLE interrupted; DROP TABLE dependency_version; DROP TABLE dependency_file;
         ALTER TABLE attempt DROP COLUMN peak_of; ALTER TABLE task DROP COLUMN resources;
         ALTER TABLE attempt DROP COLUMN batch; ALTER TABLE attempt DROP COLUMN batch_item;
         ALTER TABLE attempt DROP COLUMN batch_size; ALTER TABLE attempt DROP COLUMN forked;
         CREATE INDEX idx_step_key ON step(key); DROP TABLE worker; DROP TABLE attempt_worker;
         PRAGMA user_version = 3;",
    )
    .unwrap();
    conn.close().unwrap();
    p.call(["status"]).fails(2).says("the next run migrates it");
    p.run().ok();
    check_sums(&p);
}

#[test]
fn what_a_first_run_left_that_was_killed_at_once_is_told_in_words() {
    let p = Project::new().task("a", "true").file("db/format", "task-pipeline 1\n");
    // A transaction whose first pages are already in the file.
    let conn = rusqlite::Connection::open(p.path("half")).unwrap();
    conn.execute_batch(
        "CREATE TABLE t(x); INSERT INTO t SELECT zeroblob(4000) FROM pragma_function_list LIMIT 100;
         PRAGMA cache_size = 2; BEGIN; UPDATE t SET x = randomblob(4000);",
    )
    .unwrap();
    std::fs::copy(p.path("half"), p.path("db/db")).unwrap();
    std::fs::copy(p.path("half-journal"), p.path("db/db-journal")).unwrap();
    for args in [&["status"][..], &["lineage", "1"], &["explain", "a"], &["graph"], &["log", "1"]] {
        p.call(args).fails(2).says("killed before it had kept anything");
    }
}
