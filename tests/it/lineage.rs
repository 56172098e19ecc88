//! `lineage` and `graph`.

use serde_json::{Value, json};

use crate::harness::{Project, sha256};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

/// `a` makes 30 files of one; `b` copies them; `all` gathers them.
fn wide() -> Project {
    let p = Project::new().file("in/1", "1\n");
    let fan = "for n in $(seq 10 39); do echo $n >$OUTPUT_DIR/$n; done";
    p.task_with("a", "inputs = [\"in/*\"]", fan).task("b", COPY);
    p.task_with("all", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    p.run().ok();
    p
}

fn lineage(p: &Project, args: &[&str]) -> Value {
    p.call(["lineage", "--json"].iter().chain(args)).ok().json()
}

fn tasks(lineage: &Value) -> Vec<String> {
    let steps = lineage["steps"].as_array().unwrap();
    let mut tasks: Vec<String> = steps
        .iter()
        .map(|step| {
            format!("{} {}", step["task"].as_str().unwrap(), step["input"].as_str().unwrap())
        })
        .collect();
    tasks.sort();
    tasks
}

#[test]
fn a_step_is_followed_both_ways() {
    let p = wide();
    let found = lineage(&p, &["b/10"]);
    assert_eq!(tasks(&found), ["a 1", "all ", "b 10"]);
    let id = found["made_by"][0].as_i64().unwrap();
    assert_eq!(found["links"].as_array().unwrap().len(), 2);
    assert_eq!(found["object"], Value::Null);
    let text = p.call(["lineage", &id.to_string()]).ok();
    let text = text.answers("└─ step 1 a (1): done, 30 outputs\n     └─ file in/1\n");
    text.answers("all: done, 1 output\n     └─ all ");
    let dot = p.call(["lineage", "b/10", "--dot"]).ok();
    dot.answers("digraph lineage {").answers(&format!("s1 -> s{id};")).answers("b (10)");
}

#[test]
fn an_exported_file_is_found_by_its_bytes() {
    let p = wide();
    p.call(["export", "b", "--to", "out"]).ok();
    let hash = sha256(b"10\n");
    // `a` made it and `b` copied it: both did, and `b` works on it.
    for word in ["out/10", &hash, &hash[..8]] {
        let found = lineage(&p, &[word]);
        assert_eq!(found["object"], json!({ "object": hash, "bytes": 3 }), "{word}");
        assert_eq!(tasks(&found), ["a 1", "all ", "b 10"], "{word}");
        assert_eq!(found["made_by"].as_array().unwrap().len(), 2);
        assert_eq!(found["used_by"].as_array().unwrap().len(), 1);
    }
    let input = lineage(&p, &["in/1"]);
    assert_eq!((&input["made_by"], &input["used_by"]), (&json!([]), &json!([1])));
    p.call(["lineage", "in/1"]).ok().answers("made by\n  nothing\nused by\n  step 1 a (1)");
    p.file("out/10", "changed");
    p.call(["lineage", "out/10"]).fails(2).says("out/10").says(&sha256(b"changed"));
}

#[test]
fn many_are_counted_and_all_are_shown_if_asked_for() {
    let p = wide();
    let found = lineage(&p, &["1"]);
    assert_eq!(found["more_consumers"], json!([{ "step": 1, "count": 20 }]));
    assert_eq!(tasks(&found).len(), 12);
    p.call(["lineage", "1"]).ok().answers("… and 20 more (--all)");
    p.call(["lineage", "1", "--dot"]).ok().answers("20 more");
    assert_eq!(lineage(&p, &["all/"])["more_producers"][0]["count"], 20);
    let all = lineage(&p, &["1", "--all"]);
    assert_eq!((tasks(&all).len(), &all["more_consumers"]), (32, &json!([])));
    assert_eq!(all["links"].as_array().unwrap().len(), 60);
    assert_eq!(all["steps"][0]["output_count"], 30);
}

#[test]
fn what_names_nothing_is_told() {
    let p = wide();
    p.call(["lineage", "none"])
        .fails(2)
        .says("no task is called `none`")
        .says("no file and no hash");
    p.call(["lineage", "999"]).fails(2).says("no step 999");
    p.call(["lineage", "b"]).fails(2).says("30 steps").says("b/INPUT_NAME");
    p.call(["lineage", "1", "--json", "--dot"]).fails(2).says("--dot");
    p.call(["lineage"]).fails(2).says("WHAT");
}

#[test]
fn history_is_told_apart() {
    let p = Project::new()
        .file("in/1", "1\n")
        .task_with("a", "inputs = [\"in/*\"]", COPY)
        .task("b", COPY);
    p.run().ok();
    p.file("in/1", "2\n").run().ok();
    p.call(["lineage", "1"]).ok().answers("step 1 a (1): done, 1 output, history");
    p.call(["lineage", "a/1"]).ok().answers("step 3 a (1): done, 1 output\n");
}

#[test]
fn what_is_live_comes_first_and_history_after() {
    let p = Project::new().file("in/1", "1\n").task_with("a", "inputs = [\"in/*\"]", COPY);
    // Each script makes a step of its own on the one output.
    let scripts: Vec<String> = (0..12).map(|n| format!("{COPY} # {n}")).collect();
    for script in &scripts {
        p.task("b", script).run().ok();
    }
    let live = p.call(["lineage", "a/1"]).ok().stdout;
    let led_to: Vec<&str> = live.split("and led to").nth(1).unwrap().lines().collect();
    assert!(led_to[2].ends_with("step 13 b (1): done, 1 output"), "{live}");
    assert!(led_to[4].ends_with("step 2 b (1): done, 1 output, history"), "{live}");
    assert!(live.contains("… and 2 more (--all)"), "{live}");
    // An older script makes an older step live again.
    p.task("b", &scripts[5]).run().ok().ran([]);
    let found = p.call(["lineage", "a/1", "--all"]).ok().stdout;
    let steps: Vec<&str> = found.lines().filter(|line| line.contains(" b (1)")).collect();
    assert_eq!(steps.len(), 12, "{found}");
    assert!(steps[0].ends_with("step 7 b (1): done, 1 output"), "{found}");
    assert!(steps[1..].iter().all(|step| step.ends_with("history")), "{found}");
}

#[test]
fn a_long_chain_is_no_trouble() {
    let p = Project::new();
    for n in 0..300 {
        let script = if n == 0 { "echo 1 >$OUTPUT_DIR/x" } else { COPY };
        p.task(&format!("t{n}"), script);
    }
    p.run_with(["-q"]).ok();
    let found = lineage(&p, &["t0/", "--all"]);
    assert_eq!(found["steps"].as_array().unwrap().len(), 300);
    p.call(["lineage", "t0/", "--all"]).ok().answers("too deep to be drawn further");
    let cut = lineage(&p, &["t0/"]);
    assert_eq!(cut["more_consumers"].as_array().unwrap().len(), 1);
    // The page stays 80 columns wide.
    let graph = p.call(["graph"]).ok().stdout;
    assert_eq!(graph.lines().count(), 300);
    assert!(graph.lines().all(|line| line.chars().count() <= 80), "{graph}");
    let indents: Vec<usize> =
        graph.lines().map(|line| line.len() - line.trim_start().len()).collect();
    assert!(indents.is_sorted() && indents[299] > indents[150], "{graph}");
}

#[test]
fn every_level_of_a_graph_is_indented() {
    let p = Project::new();
    for n in 0..12 {
        p.task(&format!("t{n}"), "true");
    }
    let graph = p.call(["graph", "-manifest", "pipeline.toml"]).ok().stdout;
    for (n, line) in graph.lines().enumerate() {
        assert!(line.starts_with(&format!("{:1$}t{n} ", "", 2 * n)), "{graph}");
    }
}

#[test]
fn a_graph_is_drawn_from_the_database_or_from_a_manifest() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    let long = "a-name-of-sixty-four-characters-which-is-as-long-as-one-may-be-x";
    p.task_with("first", "inputs = [\"in/*\"]", COPY)
        .task_with("second", "match = [\"1\"]", "false")
        .task_with(long, "from = [\"first\"]", COPY)
        .task_with(
            "all",
            &format!("from = [\"first\", \"second\", \"{long}\"]\ngather = true"),
            "true",
        );
    let alone = p
        .call(["graph", "-manifest", "pipeline.toml"])
        .ok()
        .answers("first")
        .answers("not run yet");
    assert!(alone.stdout.lines().all(|line| line.chars().count() <= 80));
    assert!(!p.path("db").exists());
    p.call(["graph"]).fails(2).says("./db");
    p.run_with(["-k"]).fails(1);
    let graph = p.call(["graph", "--json"]).ok().json();
    assert_eq!(graph, p.call(["graph", "--format=json", "-manifest", "pipeline.toml"]).ok().json());
    assert_eq!(graph["tasks"][1]["match"], json!(["1"]));
    assert_eq!(graph["tasks"][0]["inputs"], json!(["in/*"]));
    assert_eq!(graph["tasks"][3]["from"], json!(["first", "second", long]));
    assert_eq!(
        (&graph["tasks"][0]["steps"]["done"], &graph["tasks"][1]["steps"]["failed"]),
        (&json!(2), &json!(1))
    );
    let text = p
        .call(["graph"])
        .ok()
        .answers("first")
        .answers("1 failed")
        .answers("<- gathers first, second");
    assert!(text.stdout.lines().all(|line| line.chars().count() <= 80), "{}", text.stdout);
    p.call(["graph", "--format", "dot"])
        .ok()
        .answers("digraph tasks {")
        .answers("t0 -> t1 [label=\"1\"];");
    p.call(["graph", "--format", "mermaid"])
        .ok()
        .answers("flowchart LR\n")
        .answers("t0 --> t1")
        .answers("class t1 failed");
    p.call(["graph", "--format", "png"]).fails(2).says("`--format`").says("mermaid");
}
