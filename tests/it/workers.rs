//! What is told of workers: which one made an attempt, who is there and what they do, what a script prints there, and how
//! one of them leaves.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::{Call, Project, WAIT_FOR_GO, schema, wait_for};

/// A run with workers whose TMPDIR is the project's folder.
fn on(p: &Project, args: &[&str]) -> Call {
    p.run_cmd(args).env("TMPDIR", p.root().to_str().unwrap())
}

/// A task with a step for each of so many inputs.
fn each(script: &str, inputs: usize) -> Project {
    let p = Project::new().task_with("each", "inputs = [\"in/*\"]", script);
    for n in 1..=inputs {
        p.file(format!("in/{n}"), format!("{n}\n"));
    }
    p
}

fn events(p: &Project, name: &str) -> Vec<Value> {
    let events = p.read(name);
    let events = events.lines().map(|line| serde_json::from_str(line).unwrap());
    events.inspect(|event| schema::check("event", event).unwrap()).collect()
}

const WHO: &str = "SELECT a.worker, w.worker, x.slot, w.host FROM attempt a
     LEFT JOIN attempt_worker x ON x.step = a.step AND x.number = a.number
     LEFT JOIN worker w ON w.run = a.run AND w.id = x.worker";

#[test]
fn every_attempt_names_the_worker_that_made_it() {
    let p = each("echo hi; cat $INPUT_FILE >$OUTPUT_DIR/x", 30);
    on(&p, &["--on", "local:2x2", "--events", "e", "--trace", "t"]).go().ok().says(": 30 done");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned();

    // A lane is one slot of one worker.
    let lanes: BTreeSet<String> = p.sql(WHO).into_iter().collect();
    let all = ["1|1|1", "2|1|2", "3|2|1", "4|2|2"].map(|slot| format!("{slot}|{host}"));
    assert!(lanes.is_subset(&BTreeSet::from(all)), "{lanes:?}");
    let rows = "SELECT worker, slots, joined_ms <= left_ms, lost FROM worker ORDER BY worker";
    assert_eq!(p.sql(rows), ["1|2|1|", "2|2|1|"]);
    assert_eq!(p.sql("SELECT sum(made) FROM worker"), ["30"]);

    let events = events(&p, "e");
    let of_kind = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((of_kind("worker_joined"), of_kind("worker_left")), (2, 2));
    let told: BTreeSet<String> = events
        .iter()
        .filter(|event| event["event"] == "step_ended")
        .map(|event| {
            let on = &event["on"];
            format!("{}|{}|{}|{host}", event["worker"], on["worker"], on["slot"])
        })
        .collect();
    assert_eq!(told, lanes);
    assert!(
        events.iter().any(|event| event["event"] == "step_started" && event["on"]["host"] == *host)
    );

    let trace: Vec<Value> = serde_json::from_str(&p.read("t")).unwrap();
    let names: BTreeMap<u64, &str> = trace
        .iter()
        .filter(|event| event["name"] == "thread_name")
        .map(|event| (event["tid"].as_u64().unwrap(), event["args"]["name"].as_str().unwrap()))
        .collect();
    let bars = trace.iter().filter(|event| event["name"] == "each");
    let mut rows: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
    for bar in bars {
        let number = |key: &str| bar[key].as_u64().unwrap();
        let lane = number("tid");
        let (worker, slot) = ((lane - 1) / 2 + 1, (lane - 1) % 2 + 1);
        assert_eq!(names[&lane], format!("worker {worker}, slot {slot} on {host}"));
        assert_eq!(bar["args"]["host"], *host);
        rows.entry(lane).or_default().push((number("ts"), number("ts") + number("dur")));
    }
    for bars in rows.values_mut() {
        bars.sort_unstable();
        assert!(bars.windows(2).all(|two| two[0].1 <= two[1].0), "one covers another: {bars:?}");
    }

    let by = format!(" on {host}, slot ");
    p.call(["explain", "each/1"]).ok().answers(", by worker ").answers(&by);
    p.call(["log", "each/1"]).ok().answers("hi\n").says("was made by worker ").says(&by);
    let log = p.call(["log", "each/1", "--json"]).json();
    assert_eq!(log[0]["attempt"]["on"]["host"], *host);
    let explained = p.call(["explain", "each/1", "--json"]).json();
    assert_eq!(explained["of_step"]["attempts"][0]["on"]["host"], *host);
    let page = p.call(["report", "-o", "-"]).ok().stdout;
    assert!(page.contains("Workers of the last run") && page.contains(&by), "{by}");

    // What this machine makes has no row.
    p.run_with(["-B", "-j2"]).ok();
    assert_eq!(p.sql("SELECT count(*) FROM attempt_worker"), ["30"]);
    let status = p.call(["status", "--json"]).json();
    assert_eq!(status["workers"], Value::Array(Vec::new()));
    p.call(["workers"]).ok().answers("run 2, has no workers");
    assert!(
        p.call(["explain", "each/1", "--json"]).json()["of_step"]["attempts"][1]["on"].is_null()
    );
}

#[test]
fn slots_of_this_machine_have_lanes_of_their_own_beside_workers() {
    // All three at once, or they wait for ever.
    let all = "[ -e started.1 ] && [ -e started.2 ] && [ -e started.3 ]";
    let p = each(&format!("echo >started.$INPUT_NAME; until {all}; do sleep 0.01; done"), 3);
    on(&p, &["--on", "local:2", "-j1"]).go().ok();
    let mut lanes = p.sql(WHO);
    lanes.sort();
    let lanes: Vec<String> =
        lanes.iter().map(|row| row.rsplit_once('|').unwrap().0.to_owned()).collect();
    assert_eq!(lanes, ["1||", "2|1|1", "3|2|1"]);
}

#[test]
fn a_worker_that_was_lost_is_told_with_the_one_in_its_place() {
    let p = each(r#"[ "$ATTEMPT" -gt 1 ] || kill -9 "$PPID"; cat $INPUT_FILE >$OUTPUT_DIR/x"#, 1);
    on(&p, &["--on", "local:1", "--launch", "spawn", "--events", "e"]).go().ok().says("was lost");
    assert_eq!(
        p.sql("SELECT worker, lost IS NULL, made FROM worker ORDER BY id"),
        ["1|0|0", "1|1|1"]
    );
    let answer = p.call(["workers", "--json"]).json();
    let worker = &answer["workers"][0];
    assert_eq!(answer["workers"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&worker["lost"], &worker["made"], &worker["state"]),
        (&1.into(), &1.into(), &"left".into())
    );
    p.call(["workers"]).ok().answers("1 worker of run 1").answers("one before was lost");
    p.call(["status"]).ok().answers("one before was lost");
    let lost = events(&p, "e").into_iter().filter(|event| event["event"] == "worker_left");
    let lost: Vec<(Value, bool)> =
        lost.map(|event| (event["running"].clone(), event["lost"].is_null())).collect();
    assert_eq!(lost, [(1.into(), false), (0.into(), true)]);
}

#[test]
fn status_shows_workers_and_what_they_run() {
    let p = each(&format!("echo >started.$INPUT_NAME; {WAIT_FOR_GO}"), 2);
    let run = on(&p, &["--on", "local:2"]).start();
    wait_for("two steps", || p.path("started.1").exists() && p.path("started.2").exists());
    let status = p.call(["status", "--json"]).ok().json();
    let running = status["running"].as_array().unwrap();
    assert_eq!(running.len(), 2, "{status}");
    for step in running {
        assert_eq!((&step["task"], &step["attempt"]), (&"each".into(), &1.into()));
        assert!(step["pid"].is_null() && step["on"]["slot"] == 1, "{step}");
    }
    assert_eq!(status["tasks"][0]["running"], 2);
    let inputs: BTreeSet<&str> =
        running.iter().map(|step| step["input"].as_str().unwrap()).collect();
    assert_eq!(inputs, BTreeSet::from(["1", "2"]));
    let workers = status["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 2);
    assert!(
        workers.iter().all(|worker| worker["state"] == "connected" && worker["running"] == 1),
        "{status}"
    );
    p.call(["status"]).ok().answers("running: 2").answers(", worker 1 on ").answers("connected");
    p.call(["workers"]).ok().answers("2 workers of run 1, which is under way");
    p.call(["workers", "2", "--json"]).ok().json()["workers"]
        .as_array()
        .map(Vec::len)
        .filter(|n| *n == 1)
        .unwrap();
    p.call(["workers", "3"]).fails(2).says("no worker `3`");
    let words = ["completions", "--words", "bash", "--", "workers", "--drain", ""];
    p.call(words).ok().answers("1\t\n2\t\n");
    p.file("go", "");
    run.end().ok();
    let status = p.call(["status", "--json"]).ok().json();
    let workers = status["workers"].as_array().unwrap();
    assert!(
        workers.iter().all(|worker| worker["state"] == "left" && worker["made"] == 1),
        "{status}"
    );
}

#[test]
fn a_worker_that_drains_finishes_and_leaves_without_being_lost() {
    let p = each(
        &format!("echo >started.$INPUT_NAME; {WAIT_FOR_GO}; cat $INPUT_FILE >$OUTPUT_DIR/x"),
        8,
    );
    let run = on(&p, &["--on", "local:2", "--events", "e"]).start();
    let started = || (1..=8).filter(|n| p.path(format!("started.{n}")).exists()).count();
    wait_for("two steps", || started() == 2);
    p.call(["workers", "--drain"]).fails(2).says("--drain needs a WORKER");
    p.call(["workers", "--drain", "1", "elsewhere"]).fails(2).says("no worker `elsewhere`");
    let answer = p.call(["workers", "--drain", "1", "--json"]).ok().json();
    assert_eq!(answer["workers"][0]["state"], "draining", "{answer}");
    p.call(["workers"]).ok().answers("draining").answers("connected");
    p.file("go", "");
    run.end()
        .ok()
        .says("worker 1 on ")
        .says("takes no more steps")
        .says_nothing_of("lost")
        .says(": 8 done");
    // The other one has made all but its step, and none came in its place.
    assert_eq!(p.sql("SELECT worker, lost, made FROM worker ORDER BY worker"), ["1||1", "2||7"]);
    p.call(["workers", "--drain", "2"]).fails(2).says("no run is under way");
}

#[test]
fn all_workers_that_ssh_has_started_on_a_host_drain_by_its_name() {
    let p = each(
        &format!("echo >started.$INPUT_NAME; {WAIT_FOR_GO}; cat $INPUT_FILE >$OUTPUT_DIR/x"),
        8,
    );
    let p = p.program("ssh", SSH).file("near/.keep", "").file("far/.keep", "");
    let run = on(&p, &["--on", "ssh:near,near,far", "--listen", "127.0.0.1"]).start();
    let started = || (1..=8).filter(|n| p.path(format!("started.{n}")).exists()).count();
    wait_for("three steps", || started() == 3);
    p.call(["workers", "--drain", "near"]).ok();
    let workers = p.call(["workers", "--json"]).ok().json();
    let states: Vec<&str> =
        (0..3).map(|n| workers["workers"][n]["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["draining", "draining", "connected"]);
    p.file("go", "");
    run.end().ok().says(": 8 done").says_nothing_of("lost");
    assert_eq!(
        p.sql("SELECT worker, lost, made FROM worker ORDER BY worker"),
        ["1||1", "2||1", "3||6"]
    );
}

#[test]
fn a_run_whose_workers_all_drain_keeps_what_is_done() {
    let p = each(
        &format!("echo >started.$INPUT_NAME; {WAIT_FOR_GO}; cat $INPUT_FILE >$OUTPUT_DIR/x"),
        3,
    );
    let run = on(&p, &["--on", "local:1"]).start();
    wait_for("a step", || (1..=3).any(|n| p.path(format!("started.{n}")).exists()));
    let host =
        p.call(["workers", "--json"]).json()["workers"][0]["host"].as_str().unwrap().to_owned();
    // All that are on a host, by its name.
    p.call(["workers", "--drain", &host]).ok();
    p.file("go", "");
    run.end().fails(69).says("no worker is left").says_nothing_of("lost");
    assert_eq!(p.sql("SELECT count(*) FROM attempt"), ["1"]);
    p.run().ok().says("3 done (1 reused)");
}

#[test]
fn the_log_of_a_step_that_a_worker_runs_is_shown_and_followed() {
    let p = each(&format!("echo first; {WAIT_FOR_GO}; echo second"), 1);
    let run = on(&p, &["--on", "local:1"]).start();
    wait_for("the first line", || {
        p.path("db/db").exists() && p.call(["log", "each"]).stdout == "first\n"
    });
    p.call(["log", "each/1"]).ok().answers("first\n").says("is running");
    let follower = p.cmd(["log", "-f", "each"]).start();
    wait_for("the follower", || follower.stdout() == "first\n");
    p.file("go", "");
    assert_eq!(follower.end().ok().stdout, "first\nsecond\n");
    run.end().ok();
    assert_eq!(p.call(["log", "each", "-f"]).ok().stdout, "first\nsecond\n");
}

#[test]
fn a_log_is_followed_on_when_its_worker_is_lost() {
    let first = "[ $ATTEMPT -gt 1 ] || { until [ -e kill ]; do sleep 0.01; done; kill -9 $PPID; sleep 60; }";
    let p = each(&format!("echo attempt $ATTEMPT; {first}; {WAIT_FOR_GO}; echo end"), 1);
    let run = on(&p, &["--on", "local:1", "--launch", "spawn"]).start();
    wait_for("the first line", || {
        p.path("db/db").exists() && p.call(["log", "each"]).stdout == "attempt 1\n"
    });
    let follower = p.cmd(["log", "-f", "each"]).start();
    wait_for("the follower", || follower.stdout() == "attempt 1\n");
    p.file("kill", "");
    wait_for("the second attempt", || follower.stdout() == "attempt 1\nattempt 2\n");
    p.file("go", "");
    let followed = follower.end().ok().says("step 1 runs again, as attempt 2");
    assert_eq!(followed.stdout, "attempt 1\nattempt 2\nend\n");
    run.end().ok();
}

#[test]
fn a_long_log_of_a_worker_comes_whole() {
    let p = each(&format!("seq 200000; echo >printed; {WAIT_FOR_GO}; echo end"), 1);
    let run = on(&p, &["--on", "local:1"]).start();
    wait_for("the log", || p.path("printed").exists());
    let all: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    let follower = p.cmd(["log", "-f", "each"]).start();
    wait_for("the follower", || follower.stdout().len() == all.len());
    wait_for("all of it", || p.call(["log", "each"]).stdout == all);
    p.file("go", "");
    assert!(follower.end().ok().stdout == all.clone() + "end\n");
    run.end().ok();
}

#[test]
fn the_slots_of_a_worker_are_the_tokens_of_its_jobserver() {
    let p = Project::new()
        .file(
            "inner.mk",
            "all: 1 2\n1 2:\n\t@echo + >>meet; until [ $$(wc -l <meet) -ge 2 ]; do :; done\n",
        )
        .task_with("a", "jobserver = true", "echo \"$MAKEFLAGS\"; make -f inner.mk");
    // Both targets run at once, or they wait for ever.
    on(&p, &["--on", "local:1x2"]).go().ok();
    let log = p.call(["log", "a"]).ok().stdout;
    assert!(log.contains("-j2 --jobserver-") && !log.contains("warning"), "{log}");

    // Two scripts have a token each, so that the make in either has no more.
    let script = "echo >>scripts; until [ $(wc -l <scripts) -ge 2 ]; do :; done; make -f inner.mk";
    let p = each(script, 2);
    p.task_with("each", "inputs = [\"in/*\"]\njobserver = true", script);
    p.file("inner.mk", "all: 1 2 3\n1 2 3:\n\t@echo + >>jobs; sleep 0.03; echo - >>jobs\n");
    on(&p, &["--on", "local:1x2"]).go().ok();
    let (mut now, mut most) = (0, 0);
    for line in p.read("jobs").lines() {
        now += if line == "+" { 1 } else { -1 };
        most = most.max(now);
    }
    assert!((now, most) == (0, 2), "{most} at once");
}

/// Runs here, in a folder of its own, what it is to run elsewhere.
const SSH: &str = r#"#!/bin/sh
while [ "$1" != -- ]; do shift; done
host=$2; shift 2
cd "${0%/bin/*}/$host" && exec sh -c "$*"
"#;

#[test]
fn a_worker_that_sees_another_file_is_refused() {
    let p = Project::new().program("ssh", SSH).task_with(
        "a",
        "files = [\"ref\"]",
        "cat ref >$OUTPUT_DIR/x",
    );
    // What the link leads to depends on where one stands.
    std::os::unix::fs::symlink("/proc/self/cwd/real", p.path("ref")).unwrap();
    let wide = "x".repeat(100_000);
    for (here, there, why) in [
        ("one\n".to_owned(), Some("two\n".to_owned()), "is another one on "),
        ("one\n".to_owned(), Some("three\n".to_owned()), "is another one on "),
        ("one\n".to_owned(), None, "can't be read on "),
        (wide.clone(), Some(wide.replace('x', "y")), "is another one on "),
    ] {
        p.file("real", &here).file("same/real", &here).file("other/.keep", "");
        match there {
            Some(there) => {
                let file = p.file("other/real", there).path("other/real");
                // Within one tick of the file system's clock both would have been written at the same time.
                let long_ago =
                    std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
                std::fs::File::options()
                    .write(true)
                    .open(file)
                    .unwrap()
                    .set_modified(long_ago)
                    .unwrap();
            }
            None => drop(p.remove("other/real")),
        }
        let on_hosts = |hosts: &str| {
            let on_hosts = format!("ssh:{hosts}");
            on(&p, &["-B", "--on", &on_hosts, "--listen", "127.0.0.1"]).go()
        };
        let refused = on_hosts("other").fails(69);
        let refused = refused.says("ref` (of `files`)").says(why);
        refused.says("has to be the same on every machine of a run");
        // The script reads what the link leads to in the manifest's folder.
        on_hosts("same").ok();
    }
}
