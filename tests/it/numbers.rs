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
    assert_eq!(status["steps"], json!({ "total": 5, "done": 5, "failed": 0, "left": 0 }));
    // So nothing of it is done once more.
    p.run().ok().ran([""; 0]).says("nothing to do: 5 steps up to date");
}
