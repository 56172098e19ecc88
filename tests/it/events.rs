//! `--events`, and which worker ran what. Every event is checked against its schema.

use std::collections::BTreeSet;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Project, WAIT_FOR_GO, schema, wait_for};

/// The events in a file. Fails unless each is as `fixtures/schemas/event.json` describes.
fn events(p: &Project, name: &str) -> Vec<Value> {
    let text = p.read(name);
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line:\n{text}");
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap());
    events.inspect(|event| schema::check("event", event).unwrap()).collect()
}

/// The text of the file so far; empty if it doesn't exist yet.
fn so_far(p: &Project, name: &str) -> String {
    std::fs::read_to_string(p.path(name)).unwrap_or_default()
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

/// The bytes that an escaped name stands for.
fn unescape(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let (byte, length) = match rest[0] {
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'r' => (b'\r', 1),
            b'\\' => (b'\\', 1),
            b'x' => (u8::from_str_radix(std::str::from_utf8(&rest[1..3]).unwrap(), 16).unwrap(), 3),
            other => panic!("no escape: {other}"),
        };
        bytes.push(byte);
        rest = &rest[length..];
    }
    bytes
}

#[test]
fn a_worker_is_one_of_the_scripts_that_may_run_at_once() {
    let p =
        Project::new().task("a", "for n in 1 2 3 4 5 6 7 8 9; do echo $n >$OUTPUT_DIR/$n; done");
    p.task("b", "true").run_with(["-j3"]).ok();
    let workers = p.sql("SELECT DISTINCT worker FROM attempt ORDER BY worker");
    assert!(workers.iter().all(|worker| ["1", "2", "3"].contains(&worker.as_str())), "{workers:?}");
    p.run_with(["-j1", "-B"]).ok();
    assert_eq!(p.sql("SELECT DISTINCT worker FROM attempt WHERE run = 2"), ["1"]);
}

#[test]
fn every_kind_of_event_is_told_and_is_as_its_schema_says() {
    let p = Project::new().file("x", "1").file("y", "2");
    p.task("a", "echo said; cat $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME");
    // Two inputs of one name and content are one piece of work.
    p.file("equal/n", "1").file("also/n", "1");
    p.task_with("same", "inputs = [\"equal/n\", \"also/n\"]", "true");
    p.task_with(
        "b",
        "from = [\"a\"]\nretries = 1",
        "cp $INPUT_FILE $OUTPUT_DIR/; [ $ATTEMPT -gt 1 ]",
    );
    p.task_with("nothing", "inputs = [\"no/*\"]", "true");
    p.task_with("c", "from = [\"b\"]\ngather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/c");
    p.run_with(["-v", "--events", "1", "x", "y"]).ok();
    // Results of an earlier run become live again; the inputs of the last run are used, which a note says.
    p.run_with(["-B", "--events", "2"]).ok().says("x");
    p.task("a", &format!("{WAIT_FOR_GO}; cat $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME"));
    let run = p.run_cmd(["--events", "3"]).start();
    wait_for("a step", || so_far(&p, "3").contains("step_started"));
    run.signal(Signal::TERM);
    run.end().dies_of(Signal::TERM);

    let all: Vec<Value> = ["1", "2", "3"].iter().flat_map(|name| events(&p, name)).collect();
    let told: BTreeSet<&str> = all.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let known: BTreeSet<&str> = [
        "started",
        "note",
        "warning",
        "opened",
        "planned",
        "grown",
        "step_shared",
        "step_started",
        "step_ended",
        "step_dropped",
        "step_log",
        "committed",
        "interrupted",
        "summary",
        "ended",
    ]
    .into();
    assert_eq!(told, known);
    let mut wrong = all[0].clone();
    wrong["more"] = 1.into();
    schema::check("event", &wrong).unwrap_err();
    for name in ["1", "2", "3"] {
        let events = events(&p, name);
        assert_eq!(events[0]["schema"], "task-pipeline events 1");
        assert_eq!(events.last().unwrap()["event"], "ended");
        let elapsed: Vec<u64> =
            events.iter().map(|event| event["elapsed_us"].as_u64().unwrap()).collect();
        assert!(elapsed.is_sorted(), "{elapsed:?}");
        assert_eq!(of_kind(&events, "planned").len(), 1);
    }
}

#[test]
fn the_events_of_a_step_say_what_the_database_says() {
    let p = Project::new();
    p.task("a", "echo said; printf 12345 >$OUTPUT_DIR/o; chmod +x $OUTPUT_DIR/o");
    p.task_with("b", "retries = 1", "[ $ATTEMPT -gt 1 ]");
    p.run_with(["--events", "e"]).ok();
    let events = events(&p, "e");
    let ended = of_kind(&events, "step_ended");
    let said: Vec<String> = ended
        .iter()
        .map(|e| {
            let column = |name: &str| e[name].as_str().map_or(e[name].to_string(), str::to_owned);
            [
                "step",
                "attempt",
                "outcome",
                "wall_us",
                "user_us",
                "system_us",
                "peak_kib",
                "started_ms",
                "worker",
            ]
            .map(column)
            .join("|")
        })
        .collect();
    assert_eq!(said, p.sql("SELECT step, number, outcome, wall_us, user_us, system_us, peak_kib, started_ms, worker FROM attempt ORDER BY step, number"));
    assert_eq!(
        ended[0]["log"].as_str().unwrap(),
        p.sql("SELECT lower(hex(log)) FROM attempt WHERE step = 1")[0]
    );
    assert_eq!(ended[0]["outputs"][0]["size"], 5);
    assert_eq!(ended[0]["outputs"][0]["executable"], true);
    assert_eq!(ended[0]["outputs"][0]["object"], ended[1]["object"]);
    assert_eq!((&ended[1]["exit_code"], &ended[1]["again"]), (&1.into(), &true.into()));
    let started = of_kind(&events, "step_started");
    assert_eq!(started.len(), 3);
    assert!(
        started.iter().zip(&ended).all(|(s, e)| s["key"] == e["key"] && s["worker"] == e["worker"])
    );
}

#[test]
fn a_step_that_is_told_as_ended_is_in_the_database() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x").task("b", WAIT_FOR_GO);
    let run = p.run_cmd(["--events", "e"]).start();
    wait_for("the first step's end", || so_far(&p, "e").contains("step_ended"));
    assert_eq!(p.sql("SELECT task, state FROM step ORDER BY id"), ["1|1", "2|0"]);
    p.file("go", "");
    run.end().ok();
}

#[test]
fn the_file_is_emptied_and_whatever_happens_has_whole_lines() {
    let p = Project::new().file("e", "old\n").task("a", WAIT_FOR_GO);
    let run = p.run_cmd(["--events", "e", "--force"]).start();
    wait_for("a step", || so_far(&p, "e").contains("step_started"));
    run.signal(Signal::KILL);
    assert!(run.end().was_killed());
    let told = events(&p, "e");
    assert_eq!(
        (&told[0]["event"], &told.last().unwrap()["event"]),
        (&"started".into(), &"step_started".into())
    );
    // A run that can't even begin has events too.
    p.manifest("[[task]]\nname = 1\n").run_with(["--events", "e"]).fails(2);
    let told = events(&p, "e");
    let kinds: Vec<&Value> = told.iter().map(|event| &event["event"]).collect();
    assert_eq!(kinds, ["started", "ended"]);
    assert!(told[1]["exit_code"] == 2 && told[1]["error"].as_str().unwrap().contains("name"));
}

#[test]
fn a_run_that_comes_too_late_leaves_the_events_of_the_first_alone() {
    let p = Project::new().task("a", WAIT_FOR_GO);
    let first = p.run_cmd(["--events", "e"]).start();
    wait_for("a step", || so_far(&p, "e").contains("step_started"));
    let before = so_far(&p, "e");
    p.run_with(["--events", "e"]).fails(75).says("`e`").says("--wait");
    p.run_with(["--trace", "e"]).fails(75).says("`e`");
    assert_eq!(so_far(&p, "e"), before);
    // A run with `--wait` waits for the file, and then for the database.
    let second = p.run_cmd(["--wait", "--events", "e"]).start();
    p.file("go", "");
    first.end().ok();
    second.end().ok();
    let told = events(&p, "e");
    assert_eq!(of_kind(&told, "started").len(), 1);
    assert_eq!(of_kind(&told, "step_started").len(), 0);
}

#[test]
fn a_full_disk_for_the_events_is_said_once_and_stops_nothing() {
    let p = Project::new()
        .task("a", "for n in 1 2 3; do echo $n >$OUTPUT_DIR/$n; done")
        .task("b", "true");
    for option in ["--events", "--trace"] {
        let ran = p.run_with(["-B", option, "/dev/full"]).fails(74).says("total 4 steps: 4 done");
        assert_eq!(
            ran.stderr.matches("could not write to `/dev/full`").count(),
            1,
            "{}",
            ran.stderr
        );
    }
    p.run_with(["--events", "no/such/folder"]).fails(74).says("no/such/folder").ran([]);
}

#[test]
fn a_reader_that_has_read_enough_stops_nothing() {
    let p = Project::new()
        .task("a", "for n in 1 2 3; do echo $n >$OUTPUT_DIR/$n; done")
        .task("b", "true");
    let line = format!(
        "{{ {} -q --events -; echo $? >code; }} | head -n 1",
        env!("CARGO_BIN_EXE_task-pipeline")
    );
    let output = Command::new("sh").args(["-c", &line]).current_dir(p.root()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("task-pipeline events 1") && text.lines().count() == 1, "{text}");
    assert_eq!((p.read("code").as_str(), output.stderr.as_slice()), ("0\n", &b""[..]));
    assert_eq!(p.sql("SELECT count(*) FROM step WHERE state = 1"), ["4"]);
}

#[test]
fn odd_names_can_be_had_back_from_their_escapes() {
    let p = Project::new();
    p.task("a", "cd $OUTPUT_DIR; touch \"$(printf 'a\\nb\\tc\\\\d\\033[1m')\" \"$(printf '\\377\\376')\" grün");
    p.run_with(["--events", "e"]).ok();
    let events = events(&p, "e");
    let names = of_kind(&events, "step_ended")[0]["outputs"].as_array().unwrap();
    let names: Vec<Vec<u8>> =
        names.iter().map(|output| unescape(output["name"].as_str().unwrap())).collect();
    let made: [&[u8]; 3] = [b"a\nb\tc\\d\x1b[1m", "grün".as_bytes(), b"\xff\xfe"];
    assert_eq!(names, made);
}

#[test]
fn a_plan_has_no_events() {
    let p = Project::new().task("a", "true");
    p.run_with(["-n", "--events", "e"]).fails(2).says("--events and --trace tell of a run");
    p.run_with(["--events", "-", "--trace", "-"]).fails(2).says("can't share");
    assert!(!p.path("e").exists());
}
