//! What is told of the keys of a manifest without a network: help, manual page, and a schema for editors, all of one
//! table; and the schema is held to the parser in both directions.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use task_pipeline::manifest::{KEYS, Manifest, TABLES, TITLE};

use crate::harness::{Project, schema};

/// What is wrong with a manifest as the schema has it.
fn refused_by_schema(text: &str) -> Vec<String> {
    let schema = jsonschema::draft4::new(&schema::read("manifest")).expect("a schema of draft 4");
    let manifest: toml::Value = toml::from_str(text).unwrap_or_else(|err| panic!("{err}\n{text}"));
    let manifest = serde_json::to_value(manifest).expect("JSON");
    schema.iter_errors(&manifest).map(|err| format!("{}: {err}", err.instance_path())).collect()
}

fn names(object: &Value) -> BTreeSet<&str> {
    object["properties"].as_object().expect("properties").keys().map(String::as_str).collect()
}

#[test]
fn the_schema_in_the_repository_is_the_one_that_the_program_prints() {
    let printed = Project::new().call(["help", "manifest", "--json"]).ok().stdout;
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let how = "task-pipeline help manifest --json > fixtures/schemas/manifest.json";
    assert!(schema::read("manifest") == printed, "{how}");
}

#[test]
fn help_tells_of_one_key_and_says_what_it_does_not_know() {
    let p = Project::new();
    let told = p.call(["help", "manifest", "outputs"]).ok().stdout;
    assert!(told.contains("  outputs") && !told.contains("  script"), "{told}");
    p.call(["help", "manifest", "output"])
        .fails(2)
        .says("no key of a task `output`; did you mean `outputs`?");
    p.call(["help", "exprot"]).fails(2).says("no command `exprot`; did you mean `export`?");
    p.call(["help", "manifset"]).fails(2).says("did you mean `manifest`?");
    p.call(["help"]).ok().answers("Commands:");
}

#[test]
fn the_schema_has_every_key_of_the_parser_and_no_other() {
    let schema = schema::read("manifest");
    let keys = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names(&schema["properties"]["task"]["items"]), keys);
    let defaults = KEYS.iter().filter(|key| key.may_be_default()).map(|key| key.name).collect();
    assert_eq!(names(&schema["properties"]["defaults"]), defaults);
    let mut tables: BTreeSet<&str> = TABLES.iter().map(|table| table.name).collect();
    tables.insert("task");
    let at_the_top = tables.iter().copied().chain([TITLE.name]).collect();
    assert_eq!(names(&schema), at_the_top);
    // The parser knows these, and lists them where it meets another one.
    let p = Project::new().top("something = 1").task("a", "true");
    let told = p.run().fails(2).stderr;
    let told = told.lines().find(|line| line.contains("a manifest consists of")).expect(&told);
    let brackets = told.split('[').filter_map(|part| part.split_once(']')).map(|(name, _)| name);
    let known: BTreeSet<&str> = brackets.filter(|name| !name.is_empty()).collect();
    assert_eq!(known, tables, "{told}");
}

#[test]
fn every_example_is_as_the_schema_and_the_parser_have_it() {
    let p = Project::new().file("samples.csv", "sample,r1,r2\n");
    for key in KEYS {
        let text = match key.name {
            "name" => format!("[[task]]\nscript = ':'\n{}\n", key.example),
            "script" => format!("[[task]]\nname = 'a'\n{}\n", key.example),
            _ => format!("[[task]]\nname = 'a'\nscript = ':'\n{}\n", key.example),
        };
        assert_eq!(refused_by_schema(&text), Vec::<String>::new(), "{text}");
        // Nothing is wrong with the value; what it goes with is another question.
        if let Err(err) = Manifest::from_text(Path::new("m.toml"), &p.root(), text.as_bytes()) {
            let told = err.to_string();
            for wrong in ["must be", "unknown key", "is empty", "can't be"] {
                assert!(!told.contains(wrong), "{text}\n{told}");
            }
        }
    }
    for table in TABLES.iter().chain([&TITLE]) {
        let text = format!("{}\n[[task]]\nname = 'a'\nscript = ':'\n", table.example.join("\n"));
        assert_eq!(refused_by_schema(&text), Vec::<String>::new(), "{text}");
        Manifest::from_text(Path::new("m.toml"), &p.root(), text.as_bytes()).expect(&text);
    }
}

#[test]
fn every_manifest_among_the_fixtures_is_as_the_schema_has_it() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut count = 0;
    for entry in walkdir::WalkDir::new(fixtures).into_iter().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let wrong = refused_by_schema(&text);
            assert_eq!(wrong, Vec::<String>::new(), "{}", entry.path().display());
            count += 1;
        }
    }
    assert!(count > 5, "{count}");
}

#[test]
fn what_is_wrong_is_refused_by_the_schema_and_by_the_parser() {
    let task = "[[task]]\nname = 'a'\nscript = ':'\n";
    let mut wrong: Vec<String> = [
        "retries = -1",
        "retries = \"2\"",
        "timeout = 30",
        "timeout = \"soon\"",
        "memory = \"8\"",
        "cpus = 0",
        "outputs = \"*.jpg\"",
        "outputs = [1]",
        "env = { A = 1 }",
        "env_from = [\"$A\"]",
        "cache = \"no\"",
        "input = \"link\"",
        "gather = \"sample\"",
        "match = { a = \"x\" }",
        "inputs = []",
        "matrix = { a = [] }",
        "colour = \"red\"",
        "report = \"yes\"",
    ]
    .iter()
    .map(|keys| format!("{task}{keys}\n"))
    .collect();
    wrong.push("[[task]]\nname = 'a'\n".to_owned());
    wrong.push("[[task]]\nscript = ':'\n".to_owned());
    wrong.push("[[task]]\nname = 'a b'\nscript = ':'\n".to_owned());
    wrong.push(format!("[defaults]\nscript = ':'\n{task}"));
    wrong.push(format!("[defaults]\nretries = -1\n{task}"));
    wrong.push(format!("[params]\nSeed = 1\n{task}"));
    wrong.push(format!("[params]\nseed = [1]\n{task}"));
    wrong.push(format!("title = \"\"\n{task}"));
    wrong.push(format!("title = 3\n{task}"));
    wrong.push(format!("[other]\n{task}"));
    wrong.push("[params]\nseed = 1\n".to_owned());
    for text in wrong {
        assert!(!refused_by_schema(&text).is_empty(), "the schema takes\n{text}");
        let read = Manifest::from_text(Path::new("m.toml"), Path::new("/"), text.as_bytes());
        assert!(read.is_err(), "the parser takes\n{text}");
    }
}

#[test]
fn help_and_manual_have_every_key_with_its_default_and_an_example() {
    let p = Project::new();
    let help = p.call(["help", "manifest"]).ok().stdout;
    assert_eq!(p.call(["--help", "manifest"]).ok().stdout, help);
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let manual = p.call(["man"]).ok().stdout;
    let manual = manual.replace("\\-", "-").replace("\\(dq", "\"").replace("\\(aq", "'");
    for key in KEYS {
        let star = if key.may_be_default() { " *" } else { "" };
        assert!(help.contains(&format!("\n  {}{star}\n", key.name)), "{}", key.name);
        assert!(
            help.contains(&format!("\n        {}\n", key.example)) || help.ends_with(key.example)
        );
        assert!(words(&help).contains(&words(&key.told())), "{}", key.name);
        assert!(manual.contains(&format!("\\fB{}\\fR\n", key.name)), "{}", key.name);
        assert!(words(&manual).contains(&words(key.example)), "{}", key.name);
    }
    assert!(help.contains("\n  title\n") && manual.contains("\\fBtitle\\fR\n"));
    for table in TABLES {
        assert!(help.contains(&format!("\n  [{}]\n", table.name)), "{}", table.name);
        assert!(manual.contains(&format!("\\fB[{}]\\fR\n", table.name)), "{}", table.name);
    }
}

#[test]
fn init_names_the_schema_and_writes_it_beside_the_manifest() {
    let p = Project::new();
    p.call(["init"]).ok();
    let manifest = p.read("pipeline.toml");
    let named = manifest.lines().next().unwrap().strip_prefix("#:schema ./").expect("a schema");
    let written: Value = serde_json::from_str(&p.read(named)).expect("JSON");
    assert!(written == schema::read("manifest"));
    assert_eq!(refused_by_schema(&manifest), Vec::<String>::new());
    assert!(manifest.contains("\n[defaults]\nshell = \"bash -euo pipefail\"\n"));
    p.run().ok();
    assert_eq!(p.call(["cat", "total"]).ok().stdout, "9 words\n");
    // What is there stays, whoever wrote it.
    p.remove("pipeline.toml").file(named, "mine").call(["init"]).ok();
    assert_eq!(p.read(named), "mine");
}

#[test]
fn init_asks_for_no_bash_where_there_is_none() {
    let p = Project::new();
    p.cmd(["init"]).env("PATH", p.path("bin").to_str().unwrap()).go().ok();
    assert!(!p.read("pipeline.toml").contains("bash"), "{}", p.read("pipeline.toml"));
    p.run().ok();
    assert_eq!(p.call(["cat", "total"]).ok().stdout, "9 words\n");
}
