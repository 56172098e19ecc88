//! Sections 6 and 7: what lies on disk.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Project, sha256, tree};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

/// Checks every file below `objects/`, and that every object which a row names is there.
#[track_caller]
pub(crate) fn every_object_hashes_to_its_path(p: &Project) {
    let mut found = BTreeSet::new();
    for entry in walkdir::WalkDir::new(p.path("db/objects")).into_iter().map(Result::unwrap) {
        let path =
            entry.path().strip_prefix(p.path("db/objects")).unwrap().to_string_lossy().into_owned();
        if entry.file_type().is_dir() {
            continue;
        }
        assert_eq!((path.find('/'), path.rfind('/')), (Some(2), Some(5)), "{path}");
        assert_eq!(sha256(&fs::read(entry.path()).unwrap()), path.replace('/', ""), "{path}");
        let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o444, "{path}: {mode:o}");
        found.insert(path.replace('/', ""));
    }
    let named = "SELECT lower(hex(hash)) FROM object UNION SELECT lower(hex(object)) FROM output
                 UNION SELECT object_hash FROM step UNION SELECT lower(hex(log)) FROM attempt WHERE log NOT NULL
                 UNION SELECT lower(hex(object)) FROM input_file WHERE task <> 0";
    for hash in p.sql(named) {
        assert!(found.contains(&hash), "a row proves {hash}, but it isn't there");
    }
}

fn busy() -> Project {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        "echo log of $INPUT_NAME; cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME; : >$OUTPUT_DIR/empty",
    )
    .task(
        "b",
        "cat $INPUT_FILE; [ $INPUT_NAME != 2 ]; head -c 2000000 /dev/zero >$OUTPUT_DIR/large",
    )
    .task_with("c", "from = [\"a\"]\ngather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/c");
    p.run_with(["-k"]).fails(1);
    p
}

#[test]
fn every_object_hashes_to_its_path_and_every_row_proves_one() {
    let p = busy();
    every_object_hashes_to_its_path(&p);
    assert!(p.sql("SELECT count(*) FROM object")[0].parse::<u32>().unwrap() >= 7);
    let sizes = "SELECT size FROM object WHERE size IN (0, 2, 2000000) ORDER BY 1";
    assert_eq!(p.sql(sizes), ["0", "2", "2", "2000000"]);
}

#[test]
fn the_folder_of_a_database_holds_what_is_documented() {
    let p = busy();
    let mut names: Vec<String> = fs::read_dir(p.path("db"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["db", "db-shm", "db-wal", "format", "lock", "locks", "objects", "scratch"]);
    assert_eq!(fs::read_dir(p.path("db/scratch")).unwrap().count(), 0, "scratch is left");
}

#[test]
fn the_owners_tables_have_their_columns_and_indexes() {
    let p = busy();
    let columns = |table: &str| p.sql(&format!("SELECT name FROM pragma_table_xinfo('{table}')"));
    let has = |table: &str, wanted: &[&str]| {
        for wanted in wanted {
            assert!(columns(table).iter().any(|name| name == wanted), "{table}.{wanted}");
        }
    };
    has("task", &["id", "name", "script"]);
    has("step", &["id", "object_hash", "task"]);
    assert_eq!(columns("step_link"), ["from_step_id", "to_step_id"]);
    let key = "SELECT name FROM pragma_table_info('step_link') WHERE pk > 0 ORDER BY pk";
    assert_eq!(p.sql(key), ["from_step_id", "to_step_id"]);
    let indexed = |name: &str| {
        p.sql(&format!("SELECT m.tbl_name, i.name FROM sqlite_schema m, pragma_index_info(m.name) i WHERE m.name = '{name}'"))
    };
    assert_eq!(indexed("idx_task_name"), ["task|name"]);
    assert_eq!(indexed("idx_step_task"), ["step|task"]);
    assert_eq!(indexed("idx_step_link_from"), ["step_link|from_step_id"]);
    let unique = "SELECT count(*) FROM pragma_index_list('task') l, pragma_index_info(l.name) i WHERE l.\"unique\" = 1 AND i.name = 'name'";
    assert_eq!(p.sql(unique), ["1"]);
    assert_eq!(p.sql("PRAGMA journal_mode"), ["wal"]);
}

#[test]
fn a_steps_object_is_an_output_of_the_step_it_is_linked_from() {
    let p = busy();
    let links = "SELECT count(*) FROM step_link l JOIN step s ON s.id = l.to_step_id JOIN task t ON t.id = s.task WHERE t.gather = 0";
    let proven = format!(
        "{links} AND EXISTS (SELECT 1 FROM output o WHERE o.step = l.from_step_id AND lower(hex(o.object)) = s.object_hash AND o.name = s.name)"
    );
    assert_eq!(p.sql(links), p.sql(&proven));
    // `a` twice with two outputs each, of which the empty ones are equal.
    assert_eq!(p.sql(links), ["4"]);
    let of_b = "FROM step WHERE task = (SELECT id FROM task WHERE name = 'b')";
    assert_eq!(p.sql(&format!("SELECT count(*), count(same_as) {of_b}")), ["4|1"]);
}

#[test]
fn the_tables_answer_plain_questions() {
    let p = busy();
    let scripts = p.sql("SELECT name FROM task WHERE script LIKE '%log of%'");
    assert_eq!(scripts, ["a"]);
    let slow = "SELECT count(*) FROM attempt a JOIN step s ON s.id = a.step WHERE a.wall_us > 0 AND a.peak_kib > 0 AND a.started_ms > 1700000000000";
    assert_eq!(p.sql(slow), p.sql("SELECT count(*) FROM attempt"));
    assert_eq!(
        p.sql("SELECT result, ended_ms >= started_ms, durability FROM run"),
        ["failed|1|batch"]
    );
    // The SQLite inside has no functions for JSON.
    let fields = p.sql("SELECT fields FROM recipe ORDER BY id LIMIT 1").remove(0);
    let fields: serde_json::Value = serde_json::from_str(&fields).unwrap();
    assert!(fields["script"].as_str().unwrap().contains("log of"), "{fields}");
}

#[test]
fn equal_bytes_are_kept_once() {
    let p = Project::new().file("in/1", "same\n").file("in/2", "same\n").file("in/3", "same\n");
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task("b", COPY);
    p.run().ok();
    assert_eq!(p.sql("SELECT count(*) FROM object WHERE size = 5"), ["1"]);
    let kept = crate::harness::contents(&p.path("db/objects"));
    assert_eq!(kept.values().filter(|content| *content == "same\n").count(), 1);
}

#[test]
fn a_name_without_a_row_proves_nothing() {
    // After a power cut a name may hold anything; whoever makes the object anew replaces it.
    let p = Project::new().task("a", "true");
    p.run().ok();
    let hash = sha256(b"precious\n");
    let path = p.object(&hash);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "").unwrap();
    p.task("a", "echo precious >$OUTPUT_DIR/x").task("b", COPY).run().ok();
    assert_eq!(p.exported("b")["x"], "precious\n");
    every_object_hashes_to_its_path(&p);
}

#[test]
fn a_missing_object_is_told_and_nothing_wrong_is_made_of_it() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    p.run().ok();
    let hash = sha256(b"1\n");
    fs::remove_file(p.object(&hash)).unwrap();
    p.call(["cat", "a/x"]).fails(65).says(&hash);
    p.call(["export", "a", "--to", "out"]).fails(65).says(&hash);
    p.task("b", COPY).run().fails(65).ran([]).says(&hash);
}

#[test]
fn a_million_steps_would_fit_the_budget() {
    let p = Project::new();
    for n in 0..500 {
        p.file(format!("in/{n:03}"), format!("{n}\n"));
    }
    p.manifest("[[task]]\nname = \"a\"\ninputs = [\"in/*\"]\nscript = 'read -r n <$INPUT_FILE; echo $n$n >$OUTPUT_DIR/$INPUT_NAME'\n");
    let size = |p: &Project| {
        p.sql("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")[0]
            .parse::<i64>()
            .unwrap()
    };
    p.run_with(["--durability", "off"]).ok();
    let small = size(&p);
    for n in 500..2500 {
        p.file(format!("in/{n:03}"), format!("{n}\n"));
    }
    p.run_with(["--durability", "off"]).ok();
    let bytes = (size(&p) - small) / 2000;
    // Two objects, an input file, a step, an output and an attempt each.
    assert!(bytes <= 400, "{bytes} bytes of database per step");
}

#[test]
fn what_is_sparse_stays_so() {
    use std::os::unix::fs::MetadataExt as _;
    let p = Project::new();
    let input = fs::File::create(p.path("in")).unwrap();
    input.set_len(40 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&input, b"data", 20 << 20).unwrap();
    p.task_with(
        "a",
        "inputs = [\"in\"]\ninput = \"copy\"",
        // An output with a second name is copied.
        r#"cd $OUTPUT_DIR; cp --sparse=always $INPUT_FILE x; ln x y; echo more >>x; echo $(stat -c %b $INPUT_FILE)"#,
    );
    p.run().ok();
    let mut count = 0;
    for entry in walkdir::WalkDir::new(p.path("db/objects")).into_iter().map(Result::unwrap) {
        let found = entry.metadata().unwrap();
        if found.len() >= 40 << 20 {
            assert!(found.blocks() * 512 < 1 << 20, "{found:?}");
            count += 1;
        }
    }
    assert_eq!(count, 2);
    let blocks: u64 =
        p.call(["log", "a"]).ok().stdout.trim().lines().last().unwrap().parse().unwrap();
    assert!(blocks * 512 < 1 << 20, "the script's copy takes {blocks} blocks");
    p.call(["verify", "--data"]).ok();
}

#[test]
fn a_step_of_many_outputs_needs_few_open_files() {
    let script = "i=0; while [ $i -lt 2000 ]; do echo $i >$OUTPUT_DIR/$i; i=$((i+1)); done";
    let p = Project::new().task("a", script);
    p.run_cmd(["-j1"]).shell("ulimit -n 64").go().ok();
    assert_eq!(p.exported("a").len(), 2000);
}

#[test]
fn gc_keeps_what_is_younger_than_its_grace_although_nothing_needs_it() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    p.run().ok();
    p.task("a", "echo 2 >$OUTPUT_DIR/x").run().ok();
    let stray = p.object(&"0".repeat(64));
    p.file(&stray, "");
    let objects = || tree(&p.path("db/objects"));
    let before = objects();
    for options in [&["gc"][..], &["gc", "--grace", "1h"], &["gc", "--grace", "1h", "--history=1"]]
    {
        p.call(options).ok().answers("removed 0 objects and 0 strays");
        assert_eq!(objects(), before, "{options:?}");
    }
    p.call(["gc", "--grace", "0s"]).ok().answers("removed 1 object and 1 stray");
    assert!(!p.object(&sha256(b"1\n")).exists() && !stray.exists());
    assert!(p.object(&sha256(b"2\n")).exists());
}
