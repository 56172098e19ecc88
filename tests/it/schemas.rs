//! All JSON that the program writes is described in `fixtures/schemas`, strictly.
//!
//! `Ran::json` holds every answer that any test reads to its schema; here is what makes sure that there
//! is one for each command, and one answer at least that has something in every field.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::{Project, chmod, schema};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

/// A run with something of everything: done, failed, retried, retired, an odd name, a log.
fn eventful() -> Project {
    let p = Project::new().file("in/1", "1\n").file("in/a\nb", "2\n").file("in/3", "3\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY)
        .task_with(
            "b",
            "retries = 1",
            "echo at $ATTEMPT; [ $INPUT_NAME != 3 ]; cp \"$INPUT_FILE\" $OUTPUT_DIR/x",
        )
        .task_with("all", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    p.run_with(["-k"]).fails(1);
    p.remove("in/1").run_with(["-k"]).fails(1);
    p
}

/// Command lines, each with `--json` to be added, and how they exit.
const ANSWERS: &[(&[&str], i32)] = &[
    (&["run", "-n", "-manifest", "pipeline.toml"], 0),
    (&["plan", "-manifest", "pipeline.toml"], 0),
    (&["status"], 0),
    (&["workers"], 0),
    (&["log", "b"], 0),
    (&["log", "--failed"], 0),
    (&["explain", "b", "-manifest", "pipeline.toml"], 0),
    (&["explain", "a/1"], 0),
    (&["explain", "b/3", "-manifest", "pipeline.toml"], 0),
    (&["lineage", "1"], 0),
    (&["lineage", "in/3", "--all"], 0),
    (&["graph"], 0),
    (&["graph", "--format", "json", "-manifest", "pipeline.toml", "-db", "none"], 0),
    (&["export", "a", "--to", "out", "--partial"], 0),
    (&["verify"], 65),
    (&["repair"], 0),
    (&["gc", "--grace", "0s"], 0),
];

#[test]
fn every_command_that_answers_in_json_answers_as_its_schema_says() {
    let p = eventful();
    let mut answered = BTreeSet::new();
    for (args, code) in ANSWERS {
        if args[0] == "verify" {
            damage(&p);
        }
        p.call(args.iter().chain(&["--json"])).fails(*code).json();
        answered.insert(args[0]);
    }
    assert_eq!(answered, BTreeSet::from_iter(schema::commands()), "a command is not tried here");
}

/// Spoils an object that can be made again.
fn damage(p: &Project) {
    let object = p.sql("SELECT lower(hex(object)) FROM output ORDER BY 1").remove(0);
    let path = p.object(&object);
    chmod(&path, 0o644);
    std::fs::write(&path, "damaged").unwrap();
}

fn schemas() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(schema::folder()).unwrap().map(|entry| entry.unwrap().path());
    let names: Vec<String> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "json"))
        .map(|file| file.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert!(!names.is_empty());
    names.into_iter().map(|name| (name.clone(), schema::read(&name))).collect()
}

/// Calls `see` with every schema within a schema.
fn each(schema: &Value, see: &mut dyn FnMut(&Value)) {
    match schema {
        Value::Object(keys) => {
            see(schema);
            keys.values().for_each(|value| each(value, see));
        }
        Value::Array(items) => items.iter().for_each(|value| each(value, see)),
        _ => {}
    }
}

#[test]
fn schemas_are_strict_and_need_no_network() {
    // That of the manifest is for what people write: see `reference`.
    for (name, schema) in schemas().into_iter().filter(|(name, _)| name != "manifest") {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert!(schema["title"].is_string(), "{name} has no title");
        each(&schema, &mut |part| {
            let is_object = |kind: &Value| *kind == "object";
            let kind = &part["type"];
            if is_object(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(is_object)) {
                if let Some(keys) = part.get("patternProperties") {
                    // A map: any key of a kind.
                    assert!(keys.is_object() && part.get("properties").is_none(), "{name}: {part}");
                    assert_eq!(part["additionalProperties"], json!(false), "{name}: {part}");
                    return;
                }
                let known = part["properties"].as_object();
                let known =
                    known.unwrap_or_else(|| panic!("{name}: an object without properties: {part}"));
                assert_eq!(part["additionalProperties"], json!(false), "{name}: {part}");
                let required = part["required"].as_array().into_iter().flatten();
                let required: BTreeSet<&str> = required.filter_map(Value::as_str).collect();
                let all: BTreeSet<&str> = known.keys().map(String::as_str).collect();
                assert_eq!(required, all, "{name}: what is absent is null, not left out: {part}");
            }
            if let Some(to) = part.get("$ref") {
                assert!(to.as_str().is_some_and(|to| to.starts_with("#/")), "{name}: {to}");
            }
        });
    }
}

#[test]
fn a_wrong_value_is_found() {
    let mut value = json!({ "objects": 1, "bytes": 2, "hashed": 0, "findings": [] });
    schema::check("verify", &value).unwrap();
    value["more"] = json!(1);
    assert!(schema::check("verify", &value).unwrap_err().contains("more"));
    assert!(schema::check("verify", &json!({})).unwrap_err().contains("objects"));
}
