//! The README is true.

use std::path::Path;
use std::process::Command;

use task_pipeline::manifest::Manifest;

use crate::harness::schema;

const README: &str = include_str!("../../README.md");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A fenced block: its language, its text, and the line before its fence.
struct Block {
    language: String,
    text: String,
    before: String,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = "";
    for line in README.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                    before: before.to_owned(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) if line.trim().is_empty() => {}
            (None, None) => before = line,
        }
    }
    assert!(open.is_none(), "a block is never closed");
    blocks
}

#[test]
fn every_manifest_in_it_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipeline.toml");
    let manifests: Vec<Block> =
        blocks().into_iter().filter(|block| block.language == "toml").collect();
    assert!(!manifests.is_empty());
    for block in manifests {
        std::fs::write(&path, &block.text).unwrap();
        let read = Manifest::read(&path);
        assert!(read.is_ok(), "{}\n{}", read.unwrap_err(), block.text);
    }
}

#[test]
fn its_first_manifest_runs_as_it_says() {
    let first = blocks().into_iter().find(|block| block.language == "toml").unwrap();
    let p = crate::harness::Project::new().manifest(&first.text);
    p.file("a", "one two three\n").file("b", "one\n");
    p.run_with(["a", "b"]).ok().says("total 4 steps");
    assert_eq!(p.call(["cat", "upper/b"]).ok().stdout, "ONE\n");
    assert_eq!(p.call(["cat", "count"]).ok().stdout, "3\n1\n");
    p.run().ok().says("nothing to do");
}

/// Each line that asks `jq` something, in the project of the first manifest.
#[test]
fn its_lines_with_jq_get_answers_and_every_json_answer_has_one() {
    let blocks = blocks();
    let first = blocks.iter().find(|block| block.language == "toml").unwrap();
    let p = crate::harness::Project::new().manifest(&first.text);
    p.file("a", "one two three\n").file("b", "one\n").run_with(["a", "b"]).ok();
    let is_asked = |line: &&str| line.starts_with("task-pipeline ") && line.contains(" | jq ");
    let lines: Vec<&str> = blocks
        .iter()
        .filter(|block| block.language == "sh")
        .flat_map(|block| block.text.lines())
        .filter(is_asked)
        .collect();
    for command in schema::commands().into_iter().filter(|command| *command != "run") {
        let line = lines.iter().find(|line| line.starts_with(&format!("task-pipeline {command} ")));
        assert!(line.is_some_and(|line| line.contains("-json")), "no line for `{command} --json`");
    }
    if Command::new("jq").arg("--version").output().is_err() {
        return eprintln!("jq is not installed, so its lines were not tried");
    }
    let bin = Path::new(env!("CARGO_BIN_EXE_task-pipeline")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for line in lines {
        // Something has to run, or there are no events.
        p.remove("a").file("a", format!("{line}\n")).call(["status"]).ok();
        let script = format!("set -o pipefail; {line}");
        let ran = Command::new("bash")
            .args(["-c", &script])
            .current_dir(p.root())
            .env("PATH", &path)
            .output()
            .unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(
            ran.status.success() && !out.is_empty() && !out.contains("null"),
            "{line}\n{out}\n{err}"
        );
    }
}

#[test]
fn every_manifest_among_the_fixtures_is_one() {
    let mut count = 0;
    for entry in
        walkdir::WalkDir::new(Path::new(ROOT).join("fixtures")).into_iter().map(Result::unwrap)
    {
        if entry.path().extension().is_some_and(|extension| extension == "toml") {
            Manifest::read(entry.path())
                .unwrap_or_else(|err| panic!("{}: {err}", entry.path().display()));
            count += 1;
        }
    }
    assert!(count > 0);
}

/// Whether `text` is `pattern`, in which `…` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let parts: Vec<&str> = pattern.split('…').collect();
    let Some(mut rest) = text.strip_prefix(parts[0]) else { return false };
    let [_, middle @ .., last] = parts.as_slice() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[test]
fn dots_stand_for_anything() {
    assert!(fits("a\n", "a\n") && fits("a…c", "abc") && fits("…", "") && fits("a…b…", "axxbyy"));
    assert!(!fits("a", "ab") && !fits("a…c", "ab") && !fits("a…b…c", "acb"));
}

/// Runs the blocks below a `<!-- test -->` in a copy of the repository, one after the other, and
/// compares each with the `text` block that follows it, if one does.
#[test]
fn its_commands_do_what_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("task-pipeline");
    let script = "git clone -q --no-hardlinks \"$0\" \"$1\" 2>/dev/null || { mkdir \"$1\" && cp -r \"$0\"/[!t]* \"$1\"; }; cp \"$0/README.md\" \"$1\"; cp -r \"$0/fixtures\" \"$1\"";
    let made = Command::new("sh").args(["-c", script, ROOT]).arg(&copy).status().unwrap();
    assert!(made.success());
    let bin = Path::new(env!("CARGO_BIN_EXE_task-pipeline")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let blocks = blocks();
    for (n, block) in blocks.iter().enumerate() {
        if block.before.trim() != "<!-- test -->" {
            continue;
        }
        assert_eq!(block.language, "sh", "only commands can be tested:\n{}", block.text);
        let script = format!("exec 2>&1\nset -e\n{}", block.text);
        let run = Command::new("sh")
            .args(["-c", &script])
            .current_dir(&copy)
            .env("PATH", &path)
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{}\n{output}", block.text);
        if let Some(expected) = blocks.get(n + 1).filter(|next| next.language == "text") {
            assert!(
                fits(&expected.text, &output),
                "{}\nexpected:\n{}\ngot:\n{output}",
                block.text,
                expected.text
            );
        }
    }
}

#[test]
fn its_exit_codes_are_those_of_the_program() {
    use task_pipeline::error::exit;
    let codes = [
        exit::OK,
        exit::STEPS_FAILED,
        exit::USAGE,
        exit::TO_DO,
        exit::DAMAGED,
        exit::INTERNAL,
        exit::NO_SPACE,
        exit::IO,
        exit::LOCKED,
    ];
    let listed: Vec<u8> = README
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(listed, codes);
}

#[test]
fn its_tables_are_those_of_the_database() {
    let p = crate::harness::Project::new().task("a", "true");
    p.run().ok();
    for column in p.sql("SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT IN ('argument', 'meta')") {
        let (table, column) = column.split_once('.').unwrap();
        let row = README.lines().find(|line| line.starts_with(&format!("| `{table}` |")));
        let row = row.unwrap_or_else(|| panic!("table {table} is not in the README"));
        assert!(row.contains(&format!("`{column}`")), "{table}.{column} is not in the README");
    }
}
