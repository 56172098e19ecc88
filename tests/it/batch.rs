//! `batch`: several steps share one start of their script, and each is a step of its own all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Dice, Project, WAIT_FOR_GO, files, wait_for};

/// Reads a text of `step.json`.
const READ: &str = r#"read_json() { sed "s/.*\"$1\":\"//; s/\".*//" step.json; }"#;

/// A task with `batch` and further keys. It notes each start with the number of its steps; then, in the folder of each
/// step, it notes the step, and does this.
fn task(name: &str, keys: &str, each: &str) -> String {
    format!(
        "[[task]]\nname = \"{name}\"\n{keys}\nscript = '''\n{READ}
echo $TASK_NAME $(ls \"$BATCH_DIR\" | wc -l) >>starts
root=$PWD
for dir in $(ls \"$BATCH_DIR\" | sort -n); do
  cd \"$BATCH_DIR/$dir\"; name=$(read_json name)
  echo \"$TASK_NAME $name\" >>$root/ledger
  {each}
  cd $root
done
'''\n"
    )
}

/// A project with so many inputs, called `1`, `2` and so on, each with its name as content.
fn project(inputs: usize) -> Project {
    let p = Project::new();
    (1..=inputs).for_each(|n| drop(p.file(format!("in/{n}"), format!("{n}\n"))));
    p
}

const COPY: &str = "cp input/* output/$name";

const ROOT: &str = "inputs = [\"in/*\"]\nbatch = 100";

/// Each start of a script: its task, and the number of its steps.
fn starts(p: &Project) -> Vec<String> {
    std::fs::read_to_string(p.path("starts"))
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn up_to_so_many_steps_share_a_start_and_each_is_a_step_of_its_own() {
    let p = project(10);
    p.manifest(&task("a", "inputs = [\"in/*\"]\nbatch = 4", COPY));
    p.run_with(["-j1"]).ok().says("total 10 steps: 10 done").says("with 3 others");
    assert_eq!(starts(&p), ["a 4", "a 4", "a 2"]);
    let wanted: BTreeMap<String, String> =
        (1..=10).map(|n| (n.to_string(), format!("{n}\n"))).collect();
    assert_eq!(p.exported("a"), wanted);
    let status = p.call(["status", "--json"]).ok().json();
    assert_eq!(
        (&status["tasks"][0]["done"], &status["tasks"][0]["attempts"]),
        (&10.into(), &10.into())
    );
    // One input changes: it alone runs, by itself.
    p.file("in/3", "three\n").run().ok().says("10 done (9 reused)").ran_on(["a 3"]);
    assert_eq!(starts(&p).last().unwrap(), "a 1");
    p.run().ok().says("nothing to do");
}

#[test]
fn results_and_keys_are_the_same_whatever_a_step_shares_its_script_with() {
    let keys_of = |batch: usize| {
        let p = project(7);
        p.manifest(&task(
            "a",
            &format!("inputs = [\"in/*\"]\nbatch = {batch}"),
            "read_json key >output/$name",
        ));
        p.run().ok();
        let keys = p.exported("a");
        let short = p.sql("SELECT name, key FROM step ORDER BY name");
        for (row, (name, key)) in short.iter().zip(&keys) {
            assert_eq!(
                *row,
                format!("{name}|{}", u64::from_str_radix(&key[..16], 16).unwrap() as i64)
            );
        }
        (keys, short)
    };
    let alone = keys_of(1);
    assert_eq!(alone.0.values().collect::<BTreeSet<_>>().len(), 7);
    assert_eq!(keys_of(3), alone);
    assert_eq!(keys_of(100), alone);
}

#[test]
fn the_size_of_a_batch_reruns_nothing_and_that_there_is_one_is_part_of_the_recipe() {
    let p = project(3);
    p.manifest(&task("a", ROOT, COPY)).run().ok();
    p.manifest(&task("a", "inputs = [\"in/*\"]\nbatch = 2", COPY)).run().ok().says("nothing to do");
    p.manifest(&task("a", "inputs = [\"in/*\"]", "exit 1"));
    p.call(["explain", "a", "-manifest", "pipeline.toml"]).ok().answers("batch turned off");
    p.call(["plan"]).ok().answers("batch turned off");
    p.manifest(&task("a", ROOT, COPY)).run().ok().ran([]);
}

#[test]
fn what_is_pending_is_split_among_the_scripts_that_may_run_at_once() {
    let p = project(10);
    p.manifest(&task("a", ROOT, COPY)).run_with(["-j3"]).ok();
    let mut sizes = starts(&p);
    sizes.sort();
    assert_eq!(sizes, ["a 2", "a 4", "a 4"]);
    p.remove("starts");
    p.manifest(&task("a", &format!("{ROOT}\nparallel = 1\nenv = {{ X = \"1\" }}"), COPY));
    p.run_with(["-j3"]).ok();
    assert_eq!(starts(&p), ["a 10"]);
}

#[test]
fn a_script_takes_what_is_scarce_once_for_all_its_steps() {
    let p = project(10);
    p.manifest(&task("a", &format!("{ROOT}\nuses = {{ gpu = 1 }}"), COPY));
    p.run_with(["-j4", "--have", "gpu=1"]).ok().says("10 done");
    assert_eq!(starts(&p), ["a 10"]);
    p.remove("starts").run_with(["-j4", "-B", "--have", "gpu=2"]).ok().says("10 done");
    assert_eq!(starts(&p), ["a 5", "a 5"]);
}

#[test]
fn parallel_limits_how_many_scripts_run_at_once_each_with_its_batch() {
    let p = project(12);
    let each = "mkdir $root/taken.$$ 2>/dev/null || :; ls -d $root/taken.* | wc -l >>$root/at-once; cp input/* output/$name";
    let script = task("a", "inputs = [\"in/*\"]\nbatch = 2\nparallel = 2", each);
    p.manifest(&script.replace("done\n'''", "done\nrmdir $root/taken.$$\n'''"))
        .run_with(["-j4"])
        .ok();
    assert_eq!(starts(&p), ["a 2"; 6]);
    assert!(p.read("at-once").lines().all(|count| count.trim().parse::<u32>().unwrap() <= 2));
}

#[test]
fn what_has_come_up_meanwhile_shares_the_next_start() {
    let p = project(6);
    let each = format!("[ $name != 1 ] || (cd $root; {WAIT_FOR_GO}); {COPY}");
    let up = "[[task]]\nname = \"up\"\ninputs = [\"in/*\"]\nparallel = 1\nscript = 'cp $INPUT_FILE $OUTPUT_DIR'\n";
    p.manifest(&(up.to_owned() + &task("a", "batch = 100\nparallel = 1", &each)));
    let running = p.run_cmd(["-j2"]).start();
    let done = "SELECT count(*) FROM step s JOIN task t ON t.id = s.task WHERE t.name = 'up' AND state = 1";
    wait_for("what comes before", || {
        p.path("db/db").exists() && starts(&p) == ["a 1"] && p.sql(done) == ["6"]
    });
    p.file("go", "");
    running.end().ok();
    assert_eq!(starts(&p), ["a 1", "a 5"]);
}

#[test]
fn of_a_script_that_fails_each_step_runs_again_by_itself_so_that_only_the_guilty_fail() {
    let p = project(6);
    p.manifest(&task(
        "a",
        ROOT,
        "[ $name != 4 ] || { echo poison; exit 3; }; cp input/* output/$name",
    ));
    let ran = p.run_with(["-k", "-j1"]).fails(1);
    let ran = ran.says("with 5 others: failed: exit code 3; each of them runs again by itself");
    ran.says("total 6 steps: 5 done, 1 failed, 0 left").says("step 4 a (4): exit code 3");
    assert_eq!(starts(&p), ["a 6", "a 1", "a 1", "a 1", "a 1", "a 1", "a 1"]);
    assert_eq!(p.sql("SELECT name FROM step WHERE state <> 1"), ["4"]);
    // Attempts of all of them are on record, and say that they were shared.
    let attempts = "SELECT number, outcome, batch_item, batch_size FROM attempt WHERE step = ";
    assert_eq!(p.sql(&format!("{attempts} 2")), ["1|exit|2|6", "2|ok||"]);
    assert_eq!(p.sql(&format!("{attempts} 4")), ["1|exit|4|6", "2|exit||"]);
    // The next run tries it again.
    p.manifest(&task("a", ROOT, COPY)).run().ok().says("6 done");
}

#[test]
fn without_keep_going_nothing_more_is_started_once_the_guilty_one_is_found() {
    let p = project(6);
    p.manifest(&task("a", ROOT, "[ $name != 4 ] || exit 3; cp input/* output/$name"));
    p.run_with(["-j1"]).fails(1).says("3 done, 1 failed, 2 left");
    p.run_with(["-j1"]).fails(1);
    let p = project(6);
    p.manifest(&task(
        "a",
        "inputs = [\"in/*\"]\nbatch = 2",
        "[ $name != 1 ] || echo no >failed; cp input/* output/$name",
    ));
    p.run_with(["-j1"]).fails(1).says("1 done, 1 failed, 4 left").says("the script says: no");
    assert_eq!(starts(&p), ["a 2"]);
}

#[test]
fn a_step_that_the_script_names_as_failed_fails_alone_and_what_it_left_is_dropped() {
    let p = project(4);
    let each =
        "cp input/* output/$name; echo left >output/left; [ $name != 3 ] || echo 'bad sum' >failed";
    p.manifest(&task("a", ROOT, each));
    p.run_with(["-j1"])
        .fails(1)
        .says("step 3 a (3): failed: the script says: bad sum")
        .says("3 done");
    assert_eq!(starts(&p), ["a 4"]);
    assert_eq!(p.sql("SELECT count(*) FROM output"), ["6"]);
    assert_eq!(p.sql("SELECT outcome, detail FROM attempt WHERE step = 3"), ["reported|bad sum"]);
    // It is tried again, alone or not, and has nothing of what it left.
    p.remove("starts").manifest(&task("a", ROOT, "n=$(ls output | wc -l); echo $n >output/$name"));
    p.run().ok();
    assert_eq!(
        p.exported("a").values().collect::<BTreeSet<_>>(),
        BTreeSet::from([&"0\n".to_owned()])
    );
}

#[test]
fn an_output_that_is_refused_fails_its_step_alone() {
    let p = project(3);
    p.manifest(&task("a", ROOT, "[ $name != 2 ] || ln -s x output/link; cp input/* output/$name"));
    p.run_with(["-j1"])
        .fails(1)
        .says("step 2 a (2): failed: output `link` is a symbolic link")
        .says("2 done");
    assert_eq!(starts(&p), ["a 3"]);
}

#[test]
fn retries_count_for_each_step_and_not_for_what_it_shared() {
    let p = project(4);
    p.manifest(&task(
        "a",
        &format!("{ROOT}\nretries = 1"),
        "[ $name != 2 ] || exit 3; cp input/* output/$name",
    ));
    p.run_with(["-k", "-j1"]).fails(1).says("3 done, 1 failed");
    assert_eq!(
        p.sql("SELECT step, count(*) FROM attempt GROUP BY step"),
        ["1|2", "2|3", "3|2", "4|2"]
    );
    // Those that the script names as failed share the next start, too.
    let p = project(4);
    let each = "[ $name = 1 ] || [ $(sed 's/.*\"attempt\"://; s/,.*//' step.json) = 2 ] || echo once >failed; cp input/* output/$name";
    p.manifest(&task("a", &format!("{ROOT}\nretries = 1"), each));
    p.run_with(["-k", "-j1"])
        .ok()
        .says("step 2 a (2): attempt 1 of 2 failed: the script says: once; trying again")
        .says("4 done");
    assert_eq!(starts(&p), ["a 4", "a 3"]);
}

#[test]
fn a_time_limit_is_that_of_the_script_and_then_of_each_step_by_itself() {
    let p = project(3);
    p.manifest(&task(
        "a",
        &format!("{ROOT}\ntimeout = \"1s\""),
        "[ $name != 2 ] || sleep 60; cp input/* output/$name",
    ));
    let ran = p.run_with(["-k", "-j1"]).fails(1);
    ran.says("with 2 others: failed: timed out after 1").says("2 done, 1 failed");
    assert_eq!(p.sql("SELECT outcome FROM attempt WHERE step = 2"), ["timeout", "timeout"]);
    assert_eq!(p.sql("SELECT outcome FROM attempt WHERE step = 3"), ["timeout", "ok"]);
}

#[test]
fn equal_work_is_done_once_within_a_batch_too() {
    let p = Project::new().file("in/a/x", "same").file("in/b/x", "same").file("in/b/y", "other");
    let each = "cp input/* output/$name";
    let up = task("a", "inputs = [\"in/a/*\", \"in/b/*\"]\nbatch = 100", each);
    p.manifest(&(up + "[[task]]\nname = \"all\"\ngather = true\nscript = 'ls $INPUT_DIR | wc -l >$OUTPUT_DIR/n'\n"));
    p.run_with(["-j1"]).ok().says("same work as step");
    assert_eq!(starts(&p), ["a 2"]);
    assert_eq!(p.exported("all"), files([("n", "3\n")]));
}

#[test]
fn without_a_cache_all_steps_share_scripts_in_every_run() {
    let p = project(4);
    p.manifest(&task("a", &format!("{ROOT}\ncache = false"), COPY));
    p.run_with(["-j1"]).ok();
    p.run_with(["-j1"]).ok().says("4 done");
    assert_eq!(starts(&p), ["a 4", "a 4"]);
    let p = project(4);
    p.manifest(&task("a", ROOT, COPY)).run_with(["-j1"]).ok();
    p.run_with(["-B", "-j1"]).ok().says("4 done");
    assert_eq!(starts(&p), ["a 4", "a 4"]);
}

#[test]
fn steps_that_see_the_same_by_with_share_a_start_and_what_they_see() {
    let p = Project::new();
    for name in ["A_1", "A_2", "A_3", "B_1", "B_2"] {
        p.file(format!("in/{name}"), name);
    }
    let index = "[[task]]\nname = \"index\"\ninputs = [\"ref/{s}.txt\"]\nscript = 'cp $INPUT_FILE $OUTPUT_DIR/i'\n";
    p.file("ref/A.txt", "a").file("ref/B.txt", "b");
    let each = "cat input/* $WITH_DIR/index/i >output/$name";
    let user = task("a", "inputs = [\"in/{s}_{n}\"]\nbatch = 100\nwith = [\"index\"]", each);
    p.manifest(&(index.to_owned() + &user)).run_with(["-j1"]).ok();
    let mut sizes = starts(&p);
    sizes.sort();
    assert_eq!(sizes, ["a 2", "a 3"]);
    let wanted = files([
        ("A_1", "A_1a"),
        ("A_2", "A_2a"),
        ("A_3", "A_3a"),
        ("B_1", "B_1b"),
        ("B_2", "B_2b"),
    ]);
    assert_eq!(p.exported("a"), wanted);
    // One index for all: one start.
    p.remove("starts").remove("ref/B.txt").file("ref/all.txt", "c").remove("ref/A.txt");
    let one = index.replace("{s}.txt", "all.txt");
    p.manifest(&(one + &user)).run_with(["-j1"]).ok();
    assert_eq!(starts(&p), ["a 5"]);
}

#[test]
fn groups_and_rows_have_their_inputs_and_labels_in_the_folder_of_each() {
    let p = Project::new();
    for (name, text) in [("A_1", "1"), ("A_2", "2"), ("B_1", "3")] {
        p.file(format!("in/{name}"), text);
    }
    let up = "[[task]]\nname = \"up\"\ninputs = [\"in/{sample}_{n}\"]\nscript = 'cp $INPUT_FILE $OUTPUT_DIR'\n";
    let each =
        "cat $(cat inputs) >output/$(read_json sample); ls input >>output/$(read_json sample)";
    p.manifest(&(up.to_owned() + &task("a", "batch = 9\ngather = [\"sample\"]", each)));
    p.run_with(["-j1"]).ok();
    assert_eq!(p.exported("a"), files([("A", "12A_1\nA_2\n"), ("B", "3B_1\n")]));

    let p = Project::new()
        .file("t.csv", "s,r\nA,one\nB,two\nC,\n")
        .file("one", "1\n")
        .file("two", "2\n");
    let each = "cat $(cat inputs) /dev/null >output/$(read_json s); [ \"$(read_json r)\" = \"$(cat inputs)\" ]";
    p.manifest(&task("a", "table = \"t.csv\"\npaths = [\"r\"]\nbatch = 9", each));
    p.run_with(["-j1"]).ok();
    assert_eq!(starts(&p), ["a 3"]);
    assert_eq!(p.exported("a"), files([("A", "1\n"), ("B", "2\n"), ("C", "")]));
}

#[test]
fn each_steps_log_is_that_of_the_script_and_says_so() {
    let p = project(3);
    p.manifest(&task("a", ROOT, "echo about $name; cp input/* output/$name"));
    p.run_with(["-v", "-j1"])
        .ok()
        .says("step 1 a (1) with 2 others| about 3")
        .says_nothing_of("step 2 a (2) with 2 others| ");
    assert_eq!(p.sql("SELECT count(DISTINCT log), count(log) FROM attempt"), ["1|3"]);
    p.call(["log", "a/2"])
        .ok()
        .answers("about 1\nabout 2\nabout 3\n")
        .says("step 2 shared its script with others (2 of 3 in batch 1 of run 1)");
    p.call(["log", "a"]).ok().answers("== step 2 a (2): attempt 1, ok, 2 of 3 in batch 1\n");
    let logs = p.call(["log", "a", "--json"]).ok().json();
    assert_eq!(logs[1]["attempt"]["batch"], serde_json::json!({"number": 1, "item": 2, "size": 3}));
    p.call(["explain", "a/2"]).ok().answers("ok, 2 of 3 in batch 1").answers("batch: true");
    let explained = p.call(["explain", "a/2", "--json"]).ok().json();
    assert_eq!(explained["of_step"]["attempts"][0]["batch"]["item"], 2);
    p.call(["report", "-o", "report.html"]).ok();
    assert!(p.read("report.html").contains("step 1 with 2 more"));
}

#[test]
fn the_time_of_a_script_counts_once() {
    let p = project(5);
    p.manifest(&task("a", ROOT, COPY)).run_with(["-j1"]).ok();
    assert_eq!(p.sql("SELECT count(DISTINCT wall_us), count(*) FROM attempt"), ["1|5"]);
    let whole: i64 = p.sql("SELECT max(wall_us) FROM attempt")[0].parse().unwrap();
    let sum: i64 = p.sql("SELECT wall_us FROM run_task")[0].parse().unwrap();
    assert!((whole - 5..=whole).contains(&sum), "{sum} of {whole}");
}

#[test]
fn events_say_which_steps_shared_a_script_and_a_trace_has_one_bar_for_them() {
    let p = project(3);
    p.manifest(&task("a", ROOT, "[ $name != 2 ] || echo no >failed; cp input/* output/$name"));
    p.run_with(["-j1", "--events", "events", "--trace", "trace"]).fails(1);
    let events: Vec<serde_json::Value> =
        p.read("events").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &events {
        crate::harness::schema::check("event", event).unwrap();
    }
    let ended: Vec<_> = events.iter().filter(|event| event["event"] == "step_ended").collect();
    assert_eq!(ended.len(), 3);
    for (event, item) in ended.iter().zip(1..) {
        assert_eq!(event["batch"], serde_json::json!({"number": 1, "item": item, "size": 3}));
        assert_eq!(event["outcome"], if item == 2 { "reported" } else { "ok" });
    }
    let trace: serde_json::Value = serde_json::from_str(&p.read("trace")).unwrap();
    let bars: Vec<_> =
        trace.as_array().unwrap().iter().filter(|event| event["name"] == "a").collect();
    assert_eq!((bars.len(), &bars[0]["args"]["steps"]), (1, &3.into()));
}

#[test]
fn status_counts_the_steps_that_run_and_their_log_can_be_followed() {
    let p = project(3);
    let each = format!("echo about $name; [ $name != 2 ] || (cd $root; {WAIT_FOR_GO}); {COPY}");
    p.manifest(&task("a", ROOT, &each));
    let running = p.run_cmd(["-j1"]).start();
    wait_for("the second step", || p.ledger().len() == 2);
    let status = p.call(["status", "--json"]).ok().json();
    assert_eq!(status["tasks"][0]["running"], 3);
    let steps: Vec<_> =
        status["running"].as_array().unwrap().iter().map(|step| &step["input"]).collect();
    assert_eq!(steps, ["1", "2", "3"]);
    p.call(["status"]).ok().answers("running: 3").answers("step 1 a (1) and 2 more in its batch");
    let follower = p.cmd(["log", "-f", "a"]).start();
    wait_for("the log", || follower.stdout().contains("about 2"));
    p.file("go", "");
    running.end().ok();
    assert_eq!(follower.end().ok().stdout, "about 1\nabout 2\nabout 3\n");
}

#[test]
fn a_run_that_is_stopped_keeps_nothing_of_a_batch_and_all_of_it_is_pending() {
    let p = project(3);
    let each = format!("cp input/* output/$name; [ $name != 2 ] || (cd $root; {WAIT_FOR_GO})");
    p.manifest(&task("a", ROOT, &each));
    for signal in [Signal::INT, Signal::KILL] {
        let running = p.run_cmd(["-j1"]).start();
        let before = p.ledger().len();
        wait_for("the second step", || {
            p.ledger().len() >= before.max(2) && p.ledger().last().unwrap() == "a 2"
        });
        running.signal(signal);
        running.end().dies_of(signal);
        assert_eq!(p.sql("SELECT count(*) FROM attempt"), ["0"]);
        assert_eq!(p.sql("SELECT DISTINCT state FROM step"), ["0"]);
        std::fs::remove_file(p.path("ledger")).unwrap();
    }
    p.file("go", "").run().ok().says("3 done");
    assert_eq!(std::fs::read_dir(p.path("db/scratch")).unwrap().count(), 0);
}

#[test]
fn a_file_that_changes_meanwhile_keeps_back_all_of_a_batch() {
    let p = project(3).file("words", "old");
    let each = "[ $name != 2 ] || echo new >$root/words; cp input/* output/$name";
    p.manifest(&task("a", &format!("{ROOT}\nfiles = [\"words\"]"), each));
    p.run_with(["-j1"])
        .fails(1)
        .says("`words` (of `files`) was changed")
        .says("0 done, 0 failed, 3 left");
    assert_eq!(p.sql("SELECT count(*) FROM attempt"), ["0"]);
    p.manifest(&task("a", &format!("{ROOT}\nfiles = [\"words\"]"), COPY)).run().ok().says("3 done");
}

#[test]
fn each_step_of_a_batch_has_a_depfile_of_its_own() {
    let p = project(4).file("one", "1").file("two", "2");
    let each = "read=one; [ $name != 3 ] || read=two; cat input/* $root/$read >output/$name; echo \"x: $read\" >output/.d";
    p.manifest(&task("a", &format!("{ROOT}\ndepfile = \".d\""), each)).run_with(["-j1"]).ok();
    assert_eq!(starts(&p), ["a 4"]);
    p.file("two", "22").run_with(["-j1"]).ok().says("4 done (3 reused)").ran_on(["a 3"]);
    p.file("one", "11").run_with(["-j1"]).ok().says("4 done (1 reused)");
    assert_eq!(starts(&p), ["a 4", "a 1", "a 3"]);
    p.file("one", "1").file("two", "2").run().ok().ran([]);
    // What one of them has read can't be looked at: it fails alone.
    let each = each.replace("read=two", "read=none").replace("$root/$read", "$root/one");
    p.manifest(&task("a", &format!("{ROOT}\ndepfile = \".d\""), &each)).run_with(["-j1"]).fails(1);
    assert_eq!(p.sql("SELECT name FROM step WHERE state = 2 AND live = 1"), ["3"]);
}

#[test]
fn repair_runs_a_step_of_a_batch_by_itself() {
    let p = project(3);
    p.manifest(&task("a", ROOT, "echo made of $name >output/$name")).run_with(["-j1"]).ok();
    let object = p.sql("SELECT lower(hex(object)) FROM output WHERE name = '2'").remove(0);
    std::fs::remove_file(p.object(&object)).unwrap();
    p.call(["verify"]).fails(65);
    p.call(["repair"]).ok().answers("made again by step 2");
    assert_eq!(starts(&p), ["a 3", "a 1"]);
    p.call(["verify", "--data"]).ok();
}

#[test]
fn a_batch_in_a_sandbox_reaches_its_own_folders_and_nothing_else() {
    if let Some(why) = task_pipeline::step::obstacle(false) {
        eprintln!("SKIPPED: {why}");
        return;
    }
    let p = project(3).file("secret", "s");
    // The steps of a task in a sandbox can't write beside the manifest.
    let script = |line: &str| {
        format!(
            "[[task]]\nname = \"a\"\n{ROOT}\nsandbox = true\nscript = '''\nroot=$PWD; echo x >$TMPDIR/x
for dir in \"$BATCH_DIR\"/*; do cd $dir; cat step.json >/dev/null; cp input/* output/; {line}; done\n'''\n"
        )
    };
    p.manifest(&script("[ $(cat input/*) != 2 ] || echo no >failed"))
        .run_with(["-j1"])
        .fails(1)
        .says("the script says: no");
    p.manifest(&script("! cat $root/secret; ! touch $root/new; ! ls $root/db"))
        .run_with(["-j1"])
        .ok();
    assert_eq!(p.exported("a").len(), 3);
    assert_eq!(p.sql("SELECT max(batch_size) FROM attempt"), ["3"]);
    assert!(!p.path("new").exists());
    let log = p.call(["log", "a/1"]).ok().stdout;
    assert_eq!(log.matches("Permission denied").count(), 9, "{log}");
}

#[test]
fn a_batch_takes_one_token_of_the_jobserver_and_can_pass_it_on() {
    let p = project(4);
    p.manifest(&task(
        "a",
        &format!("{ROOT}\njobserver = true"),
        "[ -n \"$MAKEFLAGS\" ]; cp input/* output/$name",
    ));
    p.run_with(["-j2"]).ok().says("4 done");
    assert_eq!(starts(&p), ["a 2", "a 2"]);
}

#[test]
fn a_pipeline_of_batches_runs_to_its_end_and_again_after_a_change() {
    let p = project(40);
    let split = "for n in 1 2 3; do echo $name $n >output/$name-$n; done";
    let tasks = task("a", "inputs = [\"in/*\"]\nbatch = 7", split)
        + &task("b", "batch = 5", COPY)
        + &task("c", "batch = 100\nmatch = [\"*-[13]\"]", COPY);
    let all =
        "[[task]]\nname = \"all\"\ngather = true\nscript = 'cat $INPUT_DIR/* >$OUTPUT_DIR/all'\n";
    p.manifest(&(tasks + all)).run().ok().says("total 241 steps: 241 done");
    p.remove("in/7").file("in/8", "eight").run().ok().says("0 failed, 0 left");
    assert_eq!(p.exported("all")["all"].lines().count(), 78);
}

#[test]
fn a_key_that_makes_no_sense_is_a_mistake_with_its_cure() {
    let mistake = |keys: &str, script: &str| {
        let p = project(1);
        p.manifest(&format!("[[task]]\nname = \"a\"\ninputs = [\"in/{{sample}}\"]\n{keys}\nscript = '''{script}'''\n"));
        p.run().fails(2)
    };
    mistake("batch = 0", "true")
        .says("`batch` is 0, but must be from 1 to 10000")
        .says("such as batch = 100");
    mistake("batch = \"100\"", "true").says("`batch` must be a whole number");
    mistake("batch = true", "true").says("`batch` must be a whole number");
    mistake("chunk_size = 2", "true").says("did you mean `batch`?");
    mistake("batch = 2\ngather = true", "true")
        .says("`batch` does nothing with gather = true")
        .says("gather = [\"sample\"]");
    let ran = mistake("batch = 2", "cat \"$INPUT_FILE\" >\"$OUTPUT_DIR/x\"");
    let ran = ran
        .says("pipeline.toml:5:")
        .says("the script uses INPUT_FILE, which the steps of a batch don't share");
    let ran = ran.says("the script uses OUTPUT_DIR").says("$BATCH_DIR/1");
    let lines: Vec<&str> = ran.stderr.lines().collect();
    let at = lines.iter().position(|line| line.contains("script = '''cat")).unwrap();
    assert_eq!(lines[at + 1].find("^^^^^^^^^^^"), lines[at].find("$INPUT_FILE"), "{}", ran.stderr);
    mistake("batch = 2", "echo $sample")
        .says("the script uses the label `sample`")
        .says("`labels`");
    mistake("batch = 2\nshell = \"python3\"", "import os\nprint(os.environ[\"STEP_KEY\"])")
        .says("the script uses STEP_KEY");
    mistake("batch = 2\nshell = \"python3\"", "import os\nprint(os.environ.get('sample'))")
        .says("the label `sample`");
    // Variables of its own, comments and other words are none of that.
    let p = project(1);
    let script = "# not $INPUT_FILE\nINPUT_FILE=x; echo $INPUT_FILE sample OUTPUT_DIR";
    p.manifest(&format!(
        "[[task]]\nname = \"a\"\ninputs = [\"in/*\"]\nbatch = 2\nscript = '''\n{script}\n'''\n"
    ));
    p.run().ok();
    p.manifest("[[task]]\nname = \"a\"\nscript = 'true'\nenv = { BATCH_DIR = \"x\" }\n")
        .run()
        .fails(2)
        .says("`BATCH_DIR` is set by task-pipeline");
}

/// The steps that are done according to the database, by key.
fn committed(p: &Project) -> Vec<String> {
    let is_made = "SELECT count(*) FROM sqlite_schema WHERE name = 'meta'";
    if !p.path("db/db").exists() || p.path("db/db-journal").exists() || p.sql(is_made) != ["1"] {
        return Vec::new();
    }
    let keys = p.sql("SELECT key FROM step WHERE state = 1");
    keys.iter().map(|key| format!("{:016x}", key.parse::<i64>().unwrap())).collect()
}

#[test]
fn no_step_of_a_batch_is_committed_twice_whenever_a_run_is_killed() {
    let seed = std::env::var("TASK_PIPELINE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed
        .unwrap_or_else(|| Instant::now().elapsed().as_nanos() as u64 ^ std::process::id() as u64);
    let kills: usize =
        std::env::var("TASK_PIPELINE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    eprintln!("TASK_PIPELINE_SEED={seed}");
    let mut dice = Dice::new(seed);
    let mut killed = 0;
    while killed < kills {
        let p = project(60);
        let each = "echo $(read_json key) >>$root/keys; [ $name != 33 ] || [ -e $root/cured ] || exit 1; cp input/* output/$name";
        p.manifest(
            &(task("a", "inputs = [\"in/*\"]\nbatch = 9", each)
                + &task("b", "batch = 4", each.split_once(';').unwrap().0)),
        );
        let keys = || -> Vec<String> {
            let text = std::fs::read_to_string(p.path("keys")).unwrap_or_default();
            text.lines().map(|key| key[..16].to_owned()).collect()
        };
        loop {
            let (before, done) = (keys().len(), committed(&p));
            let running = p.run_cmd(["-j2", "-k"]).start();
            std::thread::sleep(Duration::from_millis(dice.below(400)));
            running.signal(Signal::KILL);
            let ran = running.end();
            let again = keys().split_off(before);
            for key in &done {
                assert!(!again.contains(key), "{key} was done and ran again (seed {seed})");
            }
            killed += usize::from(ran.was_killed());
            if !ran.was_killed() || killed >= kills {
                break;
            }
        }
        p.file("cured", "").run().ok();
        p.call(["verify", "--data"]).ok();
        assert_eq!(
            p.sql("SELECT count(*), count(DISTINCT key) FROM step WHERE state = 1"),
            ["120|120"]
        );
        // No step has two attempts that succeeded.
        let twice =
            "SELECT step FROM attempt WHERE outcome = 'ok' GROUP BY step HAVING count(*) > 1";
        assert_eq!(p.sql(twice), [""; 0]);
    }
}
