use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::manifest::Manifest;
use crate::object::ObjectHash;

/// The recipe of the last task of a manifest; each of `files` has its own path as content.
fn recipe(text: &str) -> Recipe {
    let manifest = Manifest::from_text(Path::new("m.toml"), Path::new("/project"), text.as_bytes());
    let manifest = manifest.expect("a good manifest");
    let task = manifest.tasks.last().expect("a task");
    let files = BTreeSet::from_iter(&task.files);
    let hash = |path: &&String| {
        ((*path).clone(), ObjectHash::of(format!("/project/{path}").as_bytes()).hex())
    };
    Recipe::of(task, files.iter().map(hash).collect())
}

const ABOVE: &str = "[[task]]\nname = \"above\"\nscript = \":\"\n";

/// The recipe of a task with these further keys.
fn with(keys: &str) -> Recipe {
    recipe(&format!("{ABOVE}[[task]]\nname = \"t\"\nscript = \"wc\"\n{keys}\n"))
}

/// The recipe of the same task with one param.
fn params(param: &str) -> Recipe {
    let name = param.split(' ').next().unwrap_or_default();
    let task = format!("[[task]]\nname = \"t\"\nscript = \"wc\"\nparams = [\"{name}\"]\n");
    recipe(&format!("[params]\n{param}\n{ABOVE}{task}"))
}

fn interpreter(script: &str) -> Vec<String> {
    recipe(&format!("[[task]]\nname = \"t\"\nscript = '''{script}'''\n")).interpreter.to_vec()
}

#[test]
fn what_a_task_does_is_in_its_recipe() {
    let plain = with("").hash();
    let others = [
        with("shell = \"bash\""),
        with("shell = \"sh\""),
        with("env = { A = \"1\" }"),
        with("env = { A = \"2\" }"),
        with("env = { B = \"1\" }"),
        with("env = { A = \"1\", B = \"1\" }"),
        with("files = [\"a\"]"),
        with("files = [\"b\"]"),
        with("files = [\"a\", \"b\"]"),
        with("gather = true"),
        params("seed = 1"),
        params("seed = 2"),
        params("sead = 1"),
        recipe(&format!("{ABOVE}[[task]]\nname = \"t\"\nscript = \"wc \"\n")),
    ];
    let mut hashes = BTreeSet::from([plain]);
    for other in others {
        assert!(hashes.insert(other.hash()), "{other:?} has the hash of another");
    }
}

#[test]
fn what_a_task_is_called_and_how_it_is_run_is_not_in_its_recipe() {
    let plain = with("").hash();
    let keys = "from = [\"above\"]\nmatch = [\"*.txt\"]\nparallel = 2\ntimeout = \"1s\"\n\
                retries = 3\nretry_delay = \"1s\"\ncache = false\n\
                cpus = 4\nmemory = \"8G\"\nuses = { gpu = 1 }";
    assert_eq!(with(keys).hash(), plain);
    assert_eq!(recipe("[[task]]\nname = \"other\"\nscript = \"wc\"\n").hash(), plain);
    assert_eq!(with("shell = \"sh -eu\"").hash(), plain);
    assert_eq!(with("files = [\"b\", \"a\", \"a\"]"), with("files = [\"a\", \"b\"]"));
}

#[test]
fn no_field_can_be_taken_for_its_neighbour() {
    let base = with("");
    let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let variants = [
        Recipe { env: pair("a", "b"), ..base.clone() },
        Recipe { files: pair("a", "b"), ..base.clone() },
        Recipe { params: pair("a", "b"), ..base.clone() },
        Recipe { gather: true, params: pair("a", "b"), ..base.clone() },
        Recipe { env: pair("ab", ""), ..base.clone() },
        Recipe {
            interpreter: words(&["sh", "-eu", "wc"]).into(),
            script: String::new(),
            ..base.clone()
        },
        Recipe { interpreter: words(&["sh -eu"]).into(), ..base.clone() },
        Recipe { interpreter: words(&["sh", "-", "eu"]).into(), ..base.clone() },
    ];
    let hashes: BTreeSet<_> = variants.iter().map(Recipe::hash).collect();
    assert_eq!(hashes.len(), variants.len());
}

#[test]
fn the_hash_is_the_same_in_every_release() {
    // If this changes, everything that anyone has run runs anew: raise the version in `hash` too.
    assert_eq!(
        with("shell = \"sh -e\"\nenv = { A = \"1\" }\nfiles = [\"a\"]").hash().hex(),
        "17c987512cf91650c7a5b899a32b31ab610889de2d8c86abc284ef501741a92e"
    );
}

#[test]
fn a_shebang_wins_and_follows_the_kernels_rule() {
    assert_eq!(interpreter("\n#!/bin/bash\necho"), ["/bin/bash"]);
    assert_eq!(interpreter("#! /bin/bash -e"), ["/bin/bash", "-e"]);
    assert_eq!(interpreter("#!/usr/bin/env -S bash -e \t\necho"), ["/usr/bin/env", "-S bash -e"]);
    assert_eq!(interpreter("#!\t/bin/a\t b  c "), ["/bin/a", "b  c"]);
    assert_eq!(interpreter("#!/bin/bash\r\necho"), ["/bin/bash"]);
    for script in ["#!\necho", "#!  \t\necho", "#!", " #!/bin/bash", "\n\n#!/bin/bash", "echo"] {
        assert_eq!(interpreter(script), ["sh", "-eu"], "{script:?}");
    }
}

#[test]
fn changes_say_what_makes_it_another_recipe() {
    let before = with("env = { LC_ALL = \"C\", OLD = \"1\" }\nfiles = [\"stopwords.txt\"]");
    let mut now = with("shell = \"bash\"\nenv = { LC_ALL = \"D\", X = \"1\" }\ngather = true");
    now.script.push('\n');
    assert_eq!(
        now.changes(&before),
        [
            "interpreter changed from `sh -eu` to `bash`",
            "script changed",
            "env LC_ALL changed",
            "env OLD removed",
            "env X added",
            "file stopwords.txt removed",
            "gather turned on",
        ]
    );
    assert_eq!(before.changes(&before), Vec::<String>::new());
    let mut other_content = before.clone();
    other_content.files[0].1.clear();
    assert_eq!(other_content.changes(&before), ["file stopwords.txt changed"]);
}

#[test]
fn a_params_change_tells_from_what_to_what() {
    let changes = |now: &str, before: &str| params(now).changes(&params(before)).join(", ");
    assert_eq!(changes("seed = 7", "seed = 42"), "param seed was 42 and is 7");
    assert_eq!(changes("seed = \"a\\nb\"", "seed = 1"), "param seed was 1 and is a\\nb");
    assert_eq!(changes("x = 1", "y = 1"), "param x added, param y removed");
    let long = format!("seed = \"{}\"", "x".repeat(41));
    assert_eq!(changes(&long, "seed = 1"), "param seed changed");
}

#[test]
fn a_recipe_of_an_older_build_is_read_as_one_without_params() {
    let old = r#"{"interpreter":["sh","-e"],"script":"wc","env":[],"files":[],"gather":false}"#;
    let read: Recipe = serde_json::from_str(old).expect("a recipe");
    let now = with("shell = \"sh -e\"");
    assert_eq!((&read, read.hash()), (&now, now.hash()));
    assert_eq!(serde_json::to_string(&read).expect("JSON"), old);
}

#[test]
fn of_many_changed_files_the_first_are_named() {
    let with = |count: usize| {
        let files: Vec<String> = (0..count).map(|n| format!("\"f{n}\"")).collect();
        with(&format!("files = [{}]", files.join(", ")))
    };
    let changes = with(8).changes(&with(0));
    assert_eq!((changes.len(), changes[7].as_str()), (8, "file f7 added"));
    let changes = with(9).changes(&with(0));
    assert_eq!((changes.len(), changes[7].as_str()), (8, "2 more files changed"));
}
