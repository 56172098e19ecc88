//! The README is true, and so is the reference beside the schemas. Every command in them is run as a
//! reader would type it, in a folder whose path has blanks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use argh::ArgsInfo as _;
use task_pipeline::commands::Invocation;
use task_pipeline::manifest::{KEYS, Manifest};

use crate::harness::{Project, schema};

const README: &str = include_str!("../../README.md");
const REFERENCE: &str = include_str!("../../fixtures/schemas/README.md");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A fenced block: its language, its text, and the line before its fence.
struct Block {
    language: String,
    text: String,
    before: String,
}

impl Block {
    /// Whether the comment above it says so: `<!-- in the checkout; not run: why -->`.
    fn is_marked(&self, mark: &str) -> bool {
        self.before.starts_with("<!--") && self.before.contains(mark)
    }
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut before = "";
    for line in document.lines() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                    before: before.to_owned(),
                });
                before = "";
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) if line.trim().is_empty() => {}
            (None, None) => before = line.trim_start(),
        }
    }
    assert!(open.is_none(), "a block is never closed");
    blocks
}

fn manifests() -> Vec<Block> {
    blocks(README).into_iter().filter(|block| block.language == "toml").collect()
}

/// A project whose path has a blank.
fn project(manifest: &str) -> Project {
    Project::named("has a blank ").manifest(manifest)
}

/// PATH with the program under test in front.
fn path() -> String {
    let bin = Path::new(env!("CARGO_BIN_EXE_task-pipeline")).parent().unwrap();
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

/// The programs that a text calls and this machine lacks.
fn lacks(text: &str) -> Vec<&'static str> {
    let calls = |tool: &&str| text.split_whitespace().any(|word| word == *tool);
    let is_there = |tool: &str| Command::new(tool).arg("--version").output().is_ok();
    ["jq", "sqlite3", "make"].into_iter().filter(calls).filter(|tool| !is_there(tool)).collect()
}

#[test]
fn every_manifest_in_it_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipeline.toml");
    // The header of a table is a part of what a manifest says.
    std::fs::write(dir.path().join("samples.csv"), "sample,r1,r2\n").unwrap();
    let manifests = manifests();
    assert!(!manifests.is_empty());
    for block in manifests {
        std::fs::write(&path, &block.text).unwrap();
        let read = Manifest::read(&path);
        assert!(read.is_ok(), "{}\n{}", read.unwrap_err(), block.text);
    }
}

#[test]
fn its_first_manifest_runs_as_it_says() {
    let p = project(&manifests()[0].text);
    p.file("texts/a.txt", "one two three\n").file("texts/b c.txt", "one\n");
    p.run().ok().says("total 3 steps");
    assert_eq!(p.call(["cat", "count/b c.txt"]).ok().stdout, "1\n");
    assert_eq!(p.call(["cat", "total"]).ok().stdout, "4\n");
    p.run().ok().says("nothing to do");
}

#[test]
fn its_second_manifest_runs_and_has_every_key() {
    let text = &manifests()[1].text;
    for key in KEYS {
        let is_key = |line: &&str| line.split_whitespace().next() == Some(key.name);
        assert!(text.lines().any(|line| is_key(&line)), "no `{}`:\n{text}", key.name);
    }
    let p = project(text).file("data/a b.csv", "one\ntwo two\n").file("data/c.csv", "");
    p.file("samples.csv", "sample,r1,r2\nA,a_1,a_2\n").file("a_1", "1\n").file("a_2", "2\n");
    p.file("data/d.csv", "three\n".repeat(1500)).file("tidy.sed", "s/two//\n");
    p.run_with(["--have", "disk=2"]).ok();
    assert_eq!(p.call(["cat", "pair"]).ok().stdout, "1\n2\n");
    assert_eq!(p.call(["cat", "total"]).ok().stdout, "1502\n");
}

/// What it recommends inside of scripts, with names and folders that have blanks.
#[test]
fn what_it_shows_of_a_script_works_for_names_with_blanks() {
    let all = blocks(README);
    let parts: Vec<&Block> = all.iter().filter(|block| block.is_marked("in a script")).collect();
    assert!(!parts.is_empty());
    for part in parts {
        let script = format!("exec > \"$OUTPUT_DIR/all\"\n{}", part.text);
        let p = project("")
            .task(
                "two",
                "mkdir \"$OUTPUT_DIR/c d\"; cd \"$OUTPUT_DIR\"; echo 1 > 'a b'; echo 2 > 'c d/e f'",
            )
            .task_with("all", "gather = true", &script);
        p.run().ok();
        assert_eq!(p.call(["cat", "all"]).ok().stdout, "1\n2\n", "{}", part.text);
    }
}

/// Each line that asks `jq` something, in the project of the first manifest.
#[test]
fn lines_with_jq_get_answers_and_every_json_answer_has_one() {
    let p = project(&manifests()[0].text);
    p.file("texts/a.txt", "one two three\n").file("texts/b.txt", "one\n").run().ok();
    let is_asked = |line: &&str| line.starts_with("task-pipeline ") && line.contains(" | jq ");
    let blocks: Vec<Block> = [README, REFERENCE].into_iter().flat_map(blocks).collect();
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
    if !lacks("jq").is_empty() {
        return eprintln!("SKIPPED: jq is not installed, so its lines were not tried");
    }
    for line in lines {
        // Something has to run, or there are no events.
        p.file("texts/a.txt", format!("{line}\n")).call(["status"]).ok();
        let script = format!("set -o pipefail; {line}");
        let ran = Command::new("bash")
            .args(["-c", &script])
            .current_dir(p.root())
            .env("PATH", path())
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

/// A copy of the checkout in a folder whose name has a blank, with the documents as they are now.
fn checkout(dir: &Path) -> PathBuf {
    let copy = dir.join("a checkout");
    let script = "git clone -q --no-hardlinks \"$0\" \"$1\" 2>/dev/null || { mkdir \"$1\" && cp -r \"$0\"/[!t]* \"$1\"; }; cp \"$0/README.md\" \"$1\"; cp -r \"$0/fixtures\" \"$1\"";
    let made = Command::new("sh").args(["-c", script, ROOT]).arg(&copy).status().unwrap();
    assert!(made.success());
    copy
}

/// Runs the commands of a document in one session, from a folder on, and compares what each block prints with
/// the `text` block that follows it, if one does. Gives the folder in which the session ends.
fn type_in(document: &str, checkout: &Path, start: &Path) -> PathBuf {
    let end = tempfile::NamedTempFile::new().unwrap();
    let mut here = start.to_owned();
    let blocks = blocks(document);
    for (n, block) in blocks.iter().enumerate() {
        if block.language != "sh" || block.is_marked("not run: ") || block.is_marked("in a script")
        {
            continue;
        }
        if let missing @ [_, ..] = lacks(&block.text).as_slice() {
            eprintln!("SKIPPED: not tried, for want of {}:\n{}", missing.join(", "), block.text);
            continue;
        }
        if block.is_marked("in the checkout") {
            here = checkout.to_owned();
        }
        let script = format!("exec 2>&1\nset -e\n{}\npwd > \"$END\"", block.text);
        let run = Command::new("sh")
            .args(["-c", &script])
            .current_dir(&here)
            .env("PATH", path())
            .env("END", end.path())
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success(), "{}\n{output}", block.text);
        if let Some(expected) = blocks.get(n + 1)
            && expected.language == "text"
            && expected.before.is_empty()
        {
            let text = &expected.text;
            assert!(fits(text, &output), "{}\nexpected:\n{text}\ngot:\n{output}", block.text);
        }
        here = PathBuf::from(std::fs::read_to_string(end.path()).unwrap().trim_end_matches('\n'));
    }
    here
}

#[test]
fn commands_do_what_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let checkout = checkout(dir.path());
    type_in(README, &checkout, &checkout);
    let p = project(&manifests()[0].text).file("texts/a.txt", "one two\n");
    p.run().ok();
    type_in(REFERENCE, &checkout, &p.root());
}

#[test]
fn it_lists_the_commands_that_there_are() {
    let listed: BTreeSet<String> = README
        .lines()
        .filter_map(|line| line.strip_prefix("task-pipeline "))
        .filter_map(|line| line.split_whitespace().next())
        .map(|word| word.trim_matches(['[', ']']).to_owned())
        .collect();
    for command in Invocation::get_args_info().commands {
        assert!(listed.contains(command.name), "`{}` is not in the README", command.name);
    }
}

/// Files of this repository; what lies elsewhere is not asked for.
#[test]
fn links_lead_somewhere() {
    for (document, folder) in [(README, ""), (REFERENCE, "fixtures/schemas")] {
        for link in document.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            if file.starts_with("https://") {
                continue;
            }
            let path = Path::new(ROOT).join(folder).join(file);
            assert!(path.is_file(), "{link} leads nowhere");
            let heading = format!("\n## {}\n", anchor.replace('-', " "));
            let text = std::fs::read_to_string(&path).unwrap().to_lowercase();
            assert!(
                anchor.is_empty() || text.contains(&heading),
                "{link}: there is no such heading"
            );
        }
    }
}

#[test]
fn exit_codes_are_those_of_the_program() {
    use task_pipeline::error::exit;
    let codes = [
        exit::OK,
        exit::STEPS_FAILED,
        exit::USAGE,
        exit::TO_DO,
        exit::DAMAGED,
        exit::UNAVAILABLE,
        exit::INTERNAL,
        exit::NO_SPACE,
        exit::IO,
        exit::LOCKED,
    ];
    let listed: Vec<u8> = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(listed, codes);
}

#[test]
fn tables_are_those_of_the_database() {
    let p = crate::harness::Project::new().task("a", "true");
    p.run().ok();
    for column in p.sql("SELECT m.name || '.' || c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table'") {
        let (table, column) = column.split_once('.').unwrap();
        let row = REFERENCE.lines().find(|line| line.starts_with(&format!("| `{table}` |")));
        let row = row.unwrap_or_else(|| panic!("table {table} is not in the reference"));
        assert!(row.contains(&format!("`{column}`")), "{table}.{column} is not in the reference");
    }
}

#[test]
fn no_code_span_is_broken() {
    for document in [README, REFERENCE] {
        let mut is_code = false;
        for line in document.lines() {
            if line.trim_start().starts_with("```") {
                is_code = !is_code;
            } else if !is_code {
                assert!(line.matches('`').count() % 2 == 0, "a span ends on another line: {line}");
            }
        }
    }
}
