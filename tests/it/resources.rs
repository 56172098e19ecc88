//! `cpus`, `memory` and `uses`: what runs at once never takes more than there is, and what waits for room is first in
//! line. What runs is told by marks that the scripts leave in a file, as they begin and as they end.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Project, Tokens, WAIT_FOR_GO, wait_for};

const INPUTS: &str = "inputs = [\"in/*\"]";

/// A script that marks when it begins and ends, and does this in between.
fn marked(script: &str) -> String {
    format!(
        "echo \"+ $TASK_NAME $INPUT_NAME $CPUS\" >>marks\n{script}\necho \"- $TASK_NAME $INPUT_NAME $CPUS\" >>marks"
    )
}

/// A step that begins or ends.
#[derive(Debug)]
struct Mark {
    begins: bool,
    task: String,
    cpus: u64,
}

fn marks(p: &Project) -> Vec<Mark> {
    let read = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let [sign, task, _, cpus] = words[..] else { panic!("{line}") };
        Mark { begins: sign == "+", task: task.to_owned(), cpus: cpus.parse().unwrap() }
    };
    p.read("marks").lines().map(read).collect()
}

/// The highest sum, over all that ran at once, of what each takes.
fn most(marks: &[Mark], takes: impl Fn(&Mark) -> u64) -> u64 {
    let (mut now, mut most) = (0, 0);
    for mark in marks {
        match mark.begins {
            true => now += takes(mark),
            false => now -= takes(mark),
        }
        most = most.max(now);
    }
    assert_eq!(now, 0, "all that began has ended: {marks:?}");
    most
}

fn inputs(p: &Project, count: usize) {
    for n in 0..count {
        p.file(format!("in/{n}"), n.to_string());
    }
}

#[test]
fn forty_steps_of_mixed_needs_never_take_more_than_there_is_and_none_is_overtaken() {
    let p = Project::new();
    inputs(&p, 4);
    // Processors, and megabytes of the 1,024.
    let needs = [
        (1, 300),
        (2, 200),
        (1, 1000),
        (1, 0),
        (2, 1024),
        (1, 700),
        (1, 500),
        (3, 100),
        (1, 2000),
        (1, 200),
    ];
    for (n, (cpus, memory)) in needs.iter().enumerate() {
        let memory = if *memory > 0 { format!("memory = \"{memory}M\"") } else { String::new() };
        let keys = format!("{INPUTS}\nfrom = []\ncpus = {cpus}\n{memory}");
        p.task_with(&format!("t{n}"), &keys, &marked("sleep 0.04"));
    }
    p.run_with(["-j2", "--memory", "1G"]).ok().says("40 done");
    let marks = marks(&p);
    let place = |mark: &Mark| mark.task[1..].parse::<usize>().unwrap();
    // More than there is: all there is.
    let cpus =
        |mark: &Mark| if needs[place(mark)].1 > 1024 { 2 } else { needs[place(mark)].0.min(2) };
    let memory = |mark: &Mark| needs[place(mark)].1.min(1024);
    assert_eq!(most(&marks, cpus), 2, "{marks:?}");
    assert!((1000..=1024).contains(&most(&marks, memory)), "{marks:?}");
    assert!(marks.iter().all(|mark| mark.cpus == needs[place(mark)].0.min(2)), "{marks:?}");
    // Of two that run at once, either may be the first to leave its mark. Nobody else is ahead of its place in line: so
    // whoever was first waited for what ran when it came, and for nothing else.
    let begun: Vec<usize> = marks.iter().filter(|mark| mark.begins).map(place).collect();
    assert_eq!(begun.len(), 40);
    for (n, place) in begun.iter().enumerate() {
        let overtaken = begun[..n.saturating_sub(1)].iter().find(|before| *before > place);
        assert_eq!(overtaken, None, "t{place} was overtaken: {begun:?}");
    }
    // Where there is room for two, two run.
    assert_eq!(most(&marks, |_| 1), 2, "{marks:?}");
}

#[test]
fn what_comes_up_later_and_needs_more_goes_before_what_could_always_run() {
    // Of processors, and of memory while there are processors enough.
    for (jobs, big, small) in [(3, "cpus = 3", ""), (4, "memory = \"900M\"", "memory = \"200M\"")] {
        let p = Project::new();
        inputs(&p, 60);
        p.file("gate", "");
        p.task_with("gate", "inputs = [\"gate\"]", ": >$OUTPUT_DIR/x");
        p.task_with("big", big, &marked(":"));
        let small = format!("{INPUTS}\nfrom = []\n{small}");
        p.task_with("small", &small, &marked("sleep 0.02; : >$OUTPUT_DIR/x"));
        p.task_with("after", "gather = true", ":");
        p.run_with([&format!("-j{jobs}"), "--memory", "1000M", "--events", "events"]).ok();
        let events: Vec<Value> =
            p.read("events").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let at = |event: &str, task: &str| {
            let is_it = |known: &Value| known["event"] == event && known["task"] == task;
            events.iter().position(is_it).unwrap_or_else(|| panic!("no {event} of {task}"))
        };
        let (came, begun) = (at("step_ended", "gate"), at("step_started", "big"));
        let is_small =
            |known: &&Value| known["event"] == "step_started" && known["task"] == "small";
        let overtaking = events[came..begun].iter().filter(is_small).count();
        assert!(overtaking <= jobs, "{overtaking} began although they had not when it came");
        let marks = marks(&p);
        let weight = |mark: &Mark| if mark.task == "big" { jobs as u64 } else { 1 };
        assert!(most(&marks, weight) <= jobs as u64, "{marks:?}");
        let before = marks.iter().take_while(|mark| mark.task != "big").count();
        assert!(before < 60, "it was not the last: {marks:?}");
    }
}

#[test]
fn a_step_of_more_processors_than_j_runs_alone_and_is_told_how_many_it_has() {
    let p = Project::new();
    inputs(&p, 3);
    p.task_with("wide", &format!("{INPUTS}\ncpus = 8"), &marked("sleep 0.02"));
    p.task_with("one", &format!("{INPUTS}\nfrom = []"), &marked("sleep 0.02"));
    let says = "task `wide` asks for 8 cpus, more than -j 3: each of its steps runs alone";
    p.run_with(["-j3"]).ok().says(says);
    let marks = marks(&p);
    assert_eq!(most(&marks, |mark| mark.cpus), 3, "{marks:?}");
    assert!(marks.iter().all(|mark| mark.cpus == if mark.task == "wide" { 3 } else { 1 }));
}

#[test]
fn as_many_run_as_the_memory_has_room_for() {
    let p = Project::new();
    inputs(&p, 6);
    // The first two meet, or wait for ever.
    let meet =
        "echo $INPUT_NAME >>here; until [ $(wc -l <here) -ge 2 ]; do sleep 0.01; done; sleep 0.02";
    p.task_with("a", &format!("{INPUTS}\nmemory = \"400M\""), &marked(meet));
    p.run_with(["-j4", "--memory", "1G"]).ok().says_nothing_of("wait for memory");
    assert_eq!(most(&marks(&p), |_| 1), 2);
}

#[test]
fn a_step_of_more_memory_than_there_is_runs_alone() {
    let p = Project::new();
    inputs(&p, 2);
    p.task_with("huge", &format!("{INPUTS}\nmemory = \"2G\""), &marked("sleep 0.02"));
    p.task_with("one", &format!("{INPUTS}\nfrom = []"), &marked("sleep 0.02"));
    let says = "task `huge` asks for 2.0 GiB of memory, more than the 1.0 GiB there are";
    p.run_with(["-j4", "--memory", "1G"]).ok().says(says);
    let marks = marks(&p);
    let weight = |mark: &Mark| if mark.task == "huge" { 100 } else { 1 };
    assert!([100, 2].contains(&most(&marks, weight)), "{marks:?}");
}

/// Fills so many megabytes and keeps them for a while.
fn fill(megabytes: u32, seconds: &str) -> String {
    let bytes = megabytes << 20;
    format!("head -c {bytes} /dev/zero | tail -c {bytes} | {{ sleep {seconds}; cat >/dev/null; }}")
}

#[test]
fn what_the_last_steps_took_is_assumed_of_the_next_ones() {
    let p = Project::new();
    inputs(&p, 1);
    p.task_with("a", INPUTS, &marked(&fill(150, "0")));
    p.run_with(["-j4"]).ok();
    let seen: u64 = p.sql("SELECT peak_kib FROM attempt")[0].parse().unwrap();
    assert!((150 << 10..250 << 10).contains(&seen), "{seen} KiB");
    p.remove("marks");
    inputs(&p, 8);
    let text = "steps of `a` wait for memory: each is taken to need 1";
    p.run_with(["-j4", "--memory", "400M"]).ok().says(text).says("8 done (1 reused)");
    assert_eq!(most(&marks(&p), |_| 1), 2, "a fifth more than 150 MiB goes twice into 400");
    // Who says that it needs less is believed.
    p.remove("marks").task_with(
        "a",
        &format!("{INPUTS}\nmemory = \"1M\""),
        &marked(&fill(2, "0.05")),
    );
    p.run_with(["-j4", "--memory", "400M", "-B"]).ok().says_nothing_of("wait for memory");
    assert!(most(&marks(&p), |_| 1) > 2);
}

#[test]
fn the_peak_of_a_script_is_that_of_all_its_processes_together() {
    let p = Project::new().task("a", &format!("({}) & {}; wait", fill(80, "3"), fill(80, "3")));
    p.task_with("b", "from = []", ":");
    p.run().ok();
    let row = p.sql(
        "SELECT peak_of, peak_kib >= 160 * 1024, peak_kib < 260 * 1024 FROM attempt ORDER BY step",
    );
    assert_eq!(row[0], "tree|1|1", "{:?}", p.sql("SELECT peak_kib FROM attempt"));
    // The other step's is not in it; of what, depends on whether somebody looked in time.
    assert!(row[1].ends_with("|0|1"), "{row:?}");
    let log: Value = p.call(["log", "a", "--json"]).ok().json();
    assert_eq!(log[0]["attempt"]["peak_of"], "tree");
}

#[test]
fn of_what_there_is_only_so_much_is_used_and_who_needs_none_passes() {
    let p = Project::new();
    inputs(&p, 3);
    let train = "until [ $(grep -c '^- plain' marks) = 3 ]; do sleep 0.01; done";
    p.task_with("train", &format!("{INPUTS}\nuses = {{ gpu = 2, licence = 1 }}"), &marked(train));
    p.task_with("plain", &format!("{INPUTS}\nfrom = []"), &marked(":"));
    p.run_with(["-j3", "--have", "gpu=3", "--have", "licence=1"]).ok().says("6 done");
    assert_eq!(most(&marks(&p), |mark| u64::from(mark.task == "train")), 1);
}

#[test]
fn what_nobody_has_is_an_error_before_anything_runs() {
    let p = Project::new();
    p.task_with("a", "uses = { gpu = 2 }", "true").task_with("b", "uses = { port = 1 }", "true");
    p.run().fails(2).says("task `a` uses 2 of `gpu`, but --have names none; add --have gpu=2");
    let ran = p.run_with(["--have", "gpu=1", "--have", "ports=1"]);
    ran.fails(2)
        .says("task `a` uses 2 of `gpu`, but --have gpu=1 has fewer; add more of them")
        .says("task `b` uses 1 of `port`, but --have names none; did you mean `ports`?");
    assert!(p.ledger().is_empty() && !p.path("db").exists());
    // Only a run needs them.
    p.call(["plan"]).ok();
    p.run_with(["--have", "gpu=2", "--have=port=7"]).ok();
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let p = Project::new().task("a", "true");
    let refused = [
        (["--memory", "8"], "it has no unit; write a size such as 512M or 8G"),
        (["--memory", "0G"], "no step could run"),
        (["--have", "gpu"], "must be a name, `=` and a number: --have gpu=2"),
        (["--have", "=2"], "must be a name, `=` and a number: --have gpu=2"),
        (["--have", "gpu=-1"], "must be a name, `=` and a number: --have gpu=2"),
    ];
    for (args, why) in refused {
        p.run_with(args).fails(2).says(why);
    }
    let twice = ["--have", "gpu=1", "--have", "gpu=2"];
    p.run_with(twice).fails(2).says("--have names something twice");
    p.run_with(["-memory", "1.5GiB"]).ok();
}

#[test]
fn what_a_step_takes_is_no_part_of_its_recipe_but_is_shown_beside_what_was_seen() {
    let p = Project::new().task("a", "true");
    p.run().ok();
    let told = p.call(["status"]).ok().stdout;
    assert!(!told.contains("declared"), "{told}");
    let keys = "cpus = 2\nmemory = \"1.5G\"\nuses = { gpu = 1 }";
    p.task_with("a", keys, "true");
    p.run_with(["--have", "gpu=1"]).ok().says("nothing to do");
    p.call(["status"]).ok().answers("  declared\n").answers("  2 cpus, 1.5 GiB, 1 gpu\n");
    let status: Value = p.call(["status", "--json"]).ok().json();
    let task = &status["tasks"][0];
    assert_eq!(
        json!([task["cpus"], task["memory"], task["uses"]]),
        json!([2, 3_u64 << 29, { "gpu": 1 }])
    );
    p.call(["report"]).ok();
    let report = p.read("report.html");
    assert!(report.contains("takes 2 cpus, 1.5 GiB, 1 gpu"), "the tasks");
    assert!(report.contains("Declared") && report.contains(">1.5 GiB<"), "beside the peaks");
    p.task_with("a", "", "true").run().ok().says("nothing to do");
    let told = p.call(["status"]).ok().stdout;
    assert!(!told.contains("declared"), "{told}");
}

#[test]
fn a_run_that_stops_doesnt_wait_for_the_first_in_line() {
    let hold = || {
        let p = Project::new();
        p.task_with("hold", "inputs = [\"pipeline.toml\"]", WAIT_FOR_GO);
        p.task_with("wide", "from = []\ninputs = [\"pipeline.toml\"]\ncpus = 2", "true")
    };
    let p = hold();
    let run = p.run_cmd(["-j2"]).start();
    wait_for("the one that runs", || p.ledger().len() == 1);
    run.signal(Signal::INT);
    run.end().dies_of(Signal::INT);
    assert_eq!(p.ledger().len(), 1);
    // After a failure too, and what it would have run is left.
    let p = hold().task_with("hold", "inputs = [\"pipeline.toml\"]", "exit 3");
    p.run_with(["-j2"]).fails(1).says("1 failed");
    let p = p.task_with("hold", "inputs = [\"pipeline.toml\"]\nretries = 2", "[ $ATTEMPT = 3 ]");
    p.run_with(["-j2"]).ok().says("2 done");
}

#[test]
fn retries_and_further_steps_of_a_task_keep_to_what_there_is() {
    let p = Project::new();
    inputs(&p, 6);
    let keys = format!("{INPUTS}\ncpus = 2\nretries = 3\nparallel = 2");
    p.task_with("a", &keys, &format!("{}\n[ $ATTEMPT = 3 ]", marked(":")));
    p.task_with("b", &format!("{INPUTS}\nfrom = []"), &marked(":"));
    p.run_with(["-j5", "-k"]).ok().says("12 done");
    let marks = marks(&p);
    assert!(most(&marks, |mark| mark.cpus) <= 5, "{marks:?}");
    assert_eq!(marks.iter().filter(|mark| mark.begins && mark.task == "a").count(), 18);
}

#[test]
fn a_retry_isnt_kept_waiting_by_those_of_another_task_that_have_no_room() {
    let p = Project::new();
    inputs(&p, 3);
    // Three that are to run by themselves, one after the other, and end when the retry has run.
    let alone = format!("[ ! -e $BATCH_DIR/2 ]\n{WAIT_FOR_GO}");
    let batch = format!("{INPUTS}\nbatch = 3\nparallel = 1\nscript = '''{alone}'''");
    let retry = "inputs = [\"in/0\"]\nretries = 1\nretry_delay = \"300ms\"\nscript = '[ $ATTEMPT = 2 ]; touch go'";
    p.manifest(&format!("[[task]]\nname = \"a\"\n{batch}\n\n[[task]]\nname = \"b\"\n{retry}\n"));
    p.run_with(["-j2", "-k"]).ok().says("4 done, 0 failed");
}

#[test]
fn several_tokens_are_taken_at_once_and_none_is_held_meanwhile() {
    for form in [Tokens::fifo, Tokens::pipe] {
        let p = Project::new();
        let tokens = form(&p, b"x");
        p.task_with("a", "cpus = 3", &marked(WAIT_FOR_GO));
        let run = tokens.lend(p.run_cmd([""; 0])).start();
        tokens.give(b"y");
        let marks = || std::fs::read_to_string(p.path("marks")).unwrap_or_default();
        wait_for("the script", || !marks().is_empty());
        assert_eq!((p.read("marks").as_str(), &*tokens.left()), ("+ a  3\n", &b""[..]));
        p.file("go", "");
        run.end().ok();
        assert_eq!(tokens.left(), b"xy");
    }
}

#[test]
fn tokens_that_never_come_are_done_without() {
    let p = Project::new();
    inputs(&p, 5);
    let tokens = Tokens::fifo(&p, b"x");
    p.task_with("a", &format!("{INPUTS}\ncpus = 4"), &marked(":"));
    let began = Instant::now();
    tokens.lend(p.run_cmd([""; 0])).go().ok();
    let marks = marks(&p);
    assert!(marks.iter().all(|mark| (1..=2).contains(&mark.cpus)), "{marks:?}");
    assert_eq!(tokens.left(), b"x");
    // Waited for once, not for each step; the bound is far off, for slow machines.
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_repair_tells_a_script_how_many_processors_it_has() {
    let p = Project::new();
    let script = "echo $CPUS >>cpus; echo made >$OUTPUT_DIR/x";
    p.task_with("a", "cpus = 4096", script);
    p.run_with(["-j3"]).ok();
    let hash = &p.sql("SELECT lower(hex(object)) FROM output")[0];
    std::fs::remove_file(p.object(hash)).unwrap();
    p.call(["repair"]).ok();
    let all = std::thread::available_parallelism().unwrap();
    assert_eq!(p.read("cpus"), format!("3\n{all}\n"));
}

/// A cgroup of this process's own, if it may make one: the folder.
fn make_cgroup() -> Option<std::path::PathBuf> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.split_once(":memory:"))?.1.to_owned();
    let folder = std::path::PathBuf::from(format!(
        "/sys/fs/cgroup/memory{own}/task-pipeline-{}",
        std::process::id()
    ));
    std::fs::create_dir_all(folder.join("inner")).ok()?;
    Some(folder)
}

#[test]
fn the_limit_of_a_cgroup_further_up_is_all_the_memory_there_is() {
    let Some(group) = make_cgroup() else {
        return eprintln!("SKIPPED: this user can't make a cgroup of version 1");
    };
    std::fs::write(group.join("memory.limit_in_bytes"), "400M").unwrap();
    let p = Project::new().task_with("a", "memory = \"401M\"", "true");
    let inner = group.join("inner/cgroup.procs");
    let line =
        format!("echo $$ >{} && exec {}", inner.display(), env!("CARGO_BIN_EXE_task-pipeline"));
    let mut command = std::process::Command::new("sh");
    let ran = command.args(["-c", &line]).current_dir(p.root()).output().unwrap();
    for folder in ["inner", ""] {
        wait_for("the cgroup to be empty", || std::fs::remove_dir(group.join(folder)).is_ok());
    }
    let told = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && told.contains("more than the 400.0 MiB there are"), "{told}");
}
