//! Every figure means one thing, whoever tells it: the run, its events, `status` and the report.

use serde_json::{Value, json};

use crate::harness::{Project, WAIT_FOR_GO, wait_for};

/// 30 steps of which 4 fail, and one that gathers what they make.
fn four_of_thirty(retries: usize) -> Project {
    let p = Project::new();
    for n in 1..=30 {
        p.file(format!("in/{n:02}"), format!("{n}\n"));
    }
    let script = "[ -e cured ] || case $INPUT_NAME in 05|11|17|23) exit 3;; esac\n\
                  cp \"$INPUT_FILE\" \"$OUTPUT_DIR/$INPUT_NAME\"";
    p.task_with("work", &format!("inputs = [\"in/*\"]\nretries = {retries}"), script);
    p.task_with("all", "gather = true", "cat \"$INPUT_DIR\"/* >\"$OUTPUT_DIR/all\"")
}

/// The text of the report, without its markup.
fn report(p: &Project) -> String {
    p.call(["report", "-o", "report.html"]).ok();
    let mut text = String::new();
    for part in p.read("report.html").split('<') {
        text.push_str(part.split_once('>').map_or(part, |(_, text)| text));
        text.push(' ');
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn all_say_the_same(retries: usize) {
    let p = four_of_thirty(retries);
    let tried = 4 * (1 + retries as u64);
    for (reused, attempts) in [(0, 26 + tried), (26, tried)] {
        let steps = json!({ "total": 31, "done": 26, "failed": 4, "left": 1 });
        let mut of_run = steps.clone();
        of_run["reused"] = json!(reused);
        let words = match reused {
            0 => "total 31 steps: 26 done, 4 failed, 1 left".to_owned(),
            _ => format!("total 31 steps: 26 done ({reused} reused), 4 failed, 1 left"),
        };
        let failed = if tried == attempts { "all".to_owned() } else { format!("{tried} of them") };
        let waits = "task all waits: 4 of 30 steps of work failed";
        let ran = p.run_with(["-k", "--events", "events"]).fails(1);
        ran.says(&format!("{words}; {attempts} attempts, {failed} failed"))
            .says("4 steps failed:")
            .says(waits);

        let events = p.read("events");
        let events: Vec<Value> =
            events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let summary = events.iter().find(|event| event["event"] == "summary").unwrap();
        assert_eq!(summary["steps"], of_run);
        assert_eq!([&summary["failed"], &summary["left"]], [4, 1]);
        assert_eq!([&summary["attempts"], &summary["failed_attempts"]], [attempts, tried]);
        let is_end = |event: &&Value| event["event"] == "step_ended";
        assert_eq!(events.iter().filter(is_end).count() as u64, attempts);
        let is_last = |event: &&Value| is_end(event) && event["again"] == false;
        let has_failed = |event: &&Value| is_last(event) && event["outcome"] != "ok";
        assert_eq!(events.iter().filter(has_failed).count(), 4);

        let status = p.call(["status", "--json"]).ok().json();
        assert_eq!(status["steps"], steps);
        let last = &status["last_run"];
        assert_eq!(last["steps"], of_run);
        assert_eq!([&last["attempts"], &last["failed_attempts"]], [attempts, tried]);
        let took = last["ended_ms"].as_i64().unwrap() - last["started_ms"].as_i64().unwrap();
        assert_eq!(took, summary["wall_us"].as_i64().unwrap() / 1000);
        let all = &status["tasks"][1];
        assert_eq!((&all["left"], &all["pending"]), (&json!(1), &json!(0)));
        assert_eq!(all["waits"], "4 of 30 steps of work failed");
        let run = words.strip_prefix("total ").unwrap();
        p.call(["status"])
            .ok()
            .answers("total 31 steps: 26 done, 4 failed, 1 left")
            .answers(waits)
            .answers(&format!("{run}; {attempts} attempts, {failed} failed"));

        let report = report(&p);
        assert!(report.contains("4 of 31 steps failed, 1 left"), "{report}");
        assert!(report.contains("Steps done 26 Steps failed 4 Steps left 1"), "{report}");
        let told = format!("Attempts in this run {attempts} Steps reused {reused}");
        assert!(report.contains(&told), "{told}\n{report}");
    }
    p.file("cured", "").run().ok().says("total 31 steps: 31 done (26 reused), 0 failed, 0 left");
    let status = p.call(["status", "--json"]).ok().json();
    assert_eq!(status["steps"], json!({ "total": 31, "done": 31, "failed": 0, "left": 0 }));
}

#[test]
fn the_run_its_events_the_status_and_the_report_say_the_same_numbers() {
    all_say_the_same(0);
}

#[test]
fn retries_are_attempts_and_no_steps_whoever_tells_it() {
    all_say_the_same(2);
}

#[test]
fn what_waits_for_running_steps_is_left_and_says_why() {
    let p = Project::new().file("in/x", "");
    p.task_with("slow", "inputs = [\"in/*\"]", &format!(": >started; {WAIT_FOR_GO}"));
    p.task_with("all", "gather = true\ngather_empty = true", "true");
    p.task_with("after", "from = []\nwith = [\"all\"]", "true");
    let run = p.run_cmd([""; 0]).start();
    wait_for("the slow step", || p.path("started").exists());
    p.call(["status"])
        .ok()
        .answers("total 3 steps: 0 done, 0 failed, 3 left")
        .answers("task all waits: the step of slow is still to run")
        .answers("task after waits: the step of slow is still to run");
    p.file("go", "");
    run.end().ok().says("to run: 3 steps so far");
}

#[test]
fn what_a_forced_run_did_not_make_anew_keeps_its_result_and_says_so() {
    let p = Project::new();
    for n in 1..=5 {
        p.file(format!("in/{n}"), format!("{n}\n"));
    }
    p.task_with("a", "inputs = [\"in/*\"]", "[ ! -e broken ] || [ $INPUT_NAME != 2 ]").run().ok();
    p.file("broken", "").run_with(["-B", "-j1"]).fails(1).says(
        "4 steps did not come out anew and keep the results they had\n\
         total 5 steps: 1 done, 1 failed, 3 left; 2 attempts, 1 of them failed",
    );
    let status = p.call(["status", "--json"]).ok().json();
    assert_eq!(status["steps"], json!({ "total": 5, "done": 4, "failed": 1, "left": 0 }));
    // The results are all there, so nothing of it is done once more.
    p.run().ok().ran([""; 0]).says("nothing to do: 5 steps up to date");
}

#[test]
fn what_failed_when_it_was_to_run_anew_has_failed_in_status_and_report_too() {
    let p = Project::new();
    for n in 1..=3 {
        p.file(format!("in/{n}"), format!("{n}\n"));
    }
    let w = |more: &str| {
        let keys = format!("inputs = [\"in/*\"]{more}");
        drop(p.task_with(
            "w",
            &keys,
            "[ ! -e broken-w ] || exit 3; cp \"$INPUT_FILE\" \"$OUTPUT_DIR\"",
        ));
    };
    w("");
    p.task_with(
        "g",
        "gather = true",
        "[ ! -e broken ] || { echo 'no luck'; exit 7; }; echo 1 >$OUTPUT_DIR/x",
    );
    p.task("post", "true").run().ok();
    let failed = |done: u64, failed: u64, named: &str| {
        let steps = json!({ "total": 5, "done": done, "failed": failed, "left": 0 });
        let status = p.call(["status", "--json"]).ok().json();
        assert_eq!(status["steps"], steps);
        assert_eq!(status["failed_anew"].as_array().map(Vec::len), Some(failed as usize));
        p.call(["status"]).ok().answers(named);
        let page = report(&p);
        let verdict = format!("{failed} of 5 steps failed; {failed} keep");
        assert!(page.contains(&verdict) && !page.contains("all done"), "{page}");
        assert!(page.contains("keeps the result that it had"), "{page}");
    };
    let redo = ["--redo", "g", "--report", "page.html"];
    p.file("broken", "").run_with(redo).fails(1).says("4 done (4 reused), 1 failed, 0 left");
    let page = p.read("page.html");
    assert!(page.contains("1 of 5 steps failed; 1 keeps the result it had"), "{page}");
    assert!(page.contains("no luck") && page.contains("id=\"failures\""), "{page}");
    failed(4, 1, "step 4 g failed in the last run and keeps the result it had");
    p.run_with(["-B", "-k"]).fails(1);
    failed(4, 1, "failed in the last run and keeps the result it had");
    // As soon as it comes out well it has not failed any more.
    p.remove("broken");
    p.run_with(["--redo", "g"]).ok();
    let status = p.call(["status", "--json"]).ok().json();
    assert_eq!((&status["steps"]["failed"], &status["failed_anew"]), (&json!(0), &json!([])));
    assert!(report(&p).contains("5 steps, all done"));
    w("\ncache = false");
    p.run().ok();
    p.file("broken-w", "").run_with(["-k"]).fails(1);
    failed(2, 3, "w (2) failed in the last run and keeps the result it had");
}

#[test]
fn what_is_not_tried_again_stays_failed() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/{n}\"]", "[ $n = 1 ] || [ -e cured ]");
    p.task_with("o", "from = []", "true").run_with(["-k"]).fails(1).says("1 failed, 0 left");
    let status = || p.call(["status", "--json"]).ok().json()["steps"].clone();
    let before = json!({ "total": 3, "done": 2, "failed": 1, "left": 0 });
    assert_eq!(status(), before);
    p.run_with(["--only", "o", "--redo", "o"])
        .ok()
        .ran(["o"])
        .says("1 step failed before and was not tried again, since --only leaves it out")
        .says("total 3 steps: 2 done (1 reused), 1 failed, 0 left");
    assert_eq!(status(), before);
    p.run_with(["--only", "a[n=1]"]).ok().ran([""; 0]).says("1 failed, 0 left");
    assert_eq!(status(), before);
    p.call(["report"]).ok();
    assert!(report(&p).contains("1 of 3 steps failed"));
    p.file("cured", "").run().ok().ran(["a"]);
    assert_eq!(status(), json!({ "total": 3, "done": 3, "failed": 0, "left": 0 }));
}

#[test]
fn a_group_that_waits_is_left_and_says_why() {
    let p = Project::new();
    for name in ["s1.1", "s1.2", "s2.1", "s2.2", "s3.1", "s3.2", "s4.1"] {
        p.file(format!("in/{name}.txt"), "1\n");
    }
    let script = "[ -e cured ] || case $sample in s3|s4) exit 7;; esac\n\
                  cp \"$INPUT_FILE\" \"$OUTPUT_DIR/$lane\"";
    p.task_with("w", "inputs = [\"in/{sample}.{lane}.txt\"]", script);
    p.task_with("merge", "gather = [\"sample\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/m");
    let waits = "task merge waits: 3 of 7 steps of w failed";
    p.run_with(["-k"]).fails(1).says(waits).says("total 11 steps: 6 done, 3 failed, 2 left");
    let status = p.call(["status", "--json"]).ok().json();
    assert_eq!(status["steps"], json!({ "total": 11, "done": 6, "failed": 3, "left": 2 }));
    assert_eq!(status["tasks"][1]["left"], 2);
    p.call(["status"]).ok().answers(waits).answers("6 done, 3 failed, 2 left");
    assert!(report(&p).contains("3 of 11 steps failed, 2 left"));
    p.call(["explain", "merge"]).ok().answers("waits").answers("3 of 7 steps of w failed");

    // What can't be made of what --only names is no success, and what is there is.
    let first = "all of task `merge` can't run before `w`, which --only leaves out";
    p.run_with(["--only", "merge"]).fails(1).ran([""; 0]).says(first);
    p.run_with(["--only", "merge[sample=s3]"]).fails(1).ran([""; 0]).says(first);
    p.run_with(["--only", "merge[sample=s1]"]).ok().ran([""; 0]);
    p.file("cured", "").run().ok();
    assert_eq!(p.call(["status", "--json"]).ok().json()["steps"]["left"], 0);
    p.run_with(["--only", "merge"]).ok().ran([""; 0]);
}
