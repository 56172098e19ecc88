//! `--trace`: the file that Perfetto opens.

use std::collections::BTreeMap;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Project, WAIT_FOR_GO, wait_for};

fn trace(text: &str) -> Vec<Value> {
    serde_json::from_str(text).unwrap_or_else(|err| panic!("{err}:\n{text}"))
}

#[test]
fn every_attempt_is_a_bar_in_its_workers_row_and_none_covers_another() {
    let p = Project::new().task("a", "for n in 1 2 3 4 5 6 7; do echo $n >$OUTPUT_DIR/$n; done");
    p.task_with("b", "retries = 1", "[ $INPUT_NAME != 3 ] || [ $ATTEMPT -gt 1 ]");
    p.run_with(["-j2", "--trace", "t"]).ok();
    let trace = trace(&p.read("t"));
    let mut rows: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    let bars = trace.iter().filter(|event| event["ph"] == "X");
    for bar in bars.clone() {
        let number = |key: &str| bar[key].as_u64().unwrap();
        rows.entry(number("tid")).or_default().push((number("ts"), number("ts") + number("dur")));
    }
    for (row, bars) in &mut rows {
        bars.sort_unstable();
        assert!(bars.windows(2).all(|two| two[0].1 <= two[1].0), "row {row}: {bars:?}");
        let is_named = |event: &&Value| event["name"] == "thread_name" && event["tid"] == *row;
        assert_eq!(trace.iter().filter(is_named).count(), 1, "row {row}");
    }
    assert!(rows.keys().all(|row| *row <= 2), "{rows:?}");
    let attempts = bars.filter(|bar| bar["args"]["attempt"].is_u64());
    let mut attempts: Vec<String> = attempts
        .map(|bar| format!("{}|{}|{}", bar["args"]["step"], bar["args"]["attempt"], bar["tid"]))
        .collect();
    attempts.sort();
    assert_eq!(attempts, p.sql("SELECT step, number, worker FROM attempt ORDER BY 1, 2"));
}

#[test]
fn a_stopped_run_leaves_a_whole_trace_and_a_killed_one_lacks_only_the_bracket() {
    for (signal, lacks) in [(Signal::INT, ""), (Signal::KILL, "]")] {
        let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x").task("b", WAIT_FOR_GO);
        let run = p.run_cmd(["--trace", "t", "--events", "e"]).start();
        wait_for("the second step", || {
            p.path("e").exists() && p.read("e").matches("step_started").count() == 2
        });
        run.signal(signal);
        run.end().dies_of(signal);
        let trace = trace(&(p.read("t") + lacks));
        let steps: Vec<&Value> = trace.iter().filter(|event| event["cat"] == "ok").collect();
        assert_eq!((steps.len(), &steps[0]["name"]), (1, &"a".into()), "{signal:?}");
    }
}
