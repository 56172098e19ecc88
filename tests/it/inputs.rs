//! Section 3: files on disk and on the command line.

use std::io::{Seek as _, SeekFrom, Write as _};

use crate::harness::{Project, chmod, files};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

#[test]
fn each_file_that_a_glob_matches_is_a_step_named_below_the_fixed_part() {
    let p = Project::new()
        .file("data/a.csv", "a\n")
        .file("data/sub/b.csv", "b\n")
        .file("data/.hidden.csv", "h\n")
        .file("data/c.txt", "c\n")
        .file("other/one.csv", "o\n");
    p.task_with("flat", "inputs = [\"data/*.csv\"]", COPY)
        .task_with("deep", "inputs = [\"data/**/*.csv\"]", COPY)
        .task_with("folders", "inputs = [\"d*/*.csv\"]", COPY)
        .task_with("plain", "inputs = [\"other/one.csv\", \"./data/c.txt\"]", COPY);
    p.run().ok().ran_on([
        "flat a.csv",
        "deep a.csv",
        "deep sub/b.csv",
        "folders data/a.csv",
        "plain one.csv",
        "plain c.txt",
    ]);
    assert_eq!(p.exported("deep"), files([("a.csv", "a\n"), ("sub/b.csv", "b\n")]));
}

#[test]
fn a_name_that_looks_like_a_number_stays_as_it_is() {
    let p = Project::new();
    for name in ["007", "1", "1e3", "0x10", " 7", "-1.50", "NULL"] {
        p.file(format!("in/{name}"), name);
    }
    p.task_with("a", "inputs = [\"in/*\"]", COPY).task("b", COPY).task_with(
        "c",
        "gather = true",
        "ls $INPUT_DIR >$OUTPUT_DIR/names",
    );
    p.run().ok();
    let names = [" 7", "-1.50", "007", "0x10", "1", "1e3", "NULL"];
    assert_eq!(p.exported("b"), files(names.map(|name| (name, name))));
    assert_eq!(p.exported("c")["names"].lines().count(), names.len());
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn inputs_are_relative_to_the_manifest_and_arguments_to_the_working_folder() {
    let p = Project::new()
        .file("m/data/x", "below the manifest\n")
        .file("arg/y", "on the command line\n")
        .file(
            "m/pipeline.toml",
            r#"
[[task]]
name = "a"
inputs = ["data/*"]
script = 'cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME'
[[task]]
name = "b"
from = []
script = 'cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME; pwd -P >$OUTPUT_DIR/pwd'
"#,
        );
    p.cmd(["-manifest", "../m/pipeline.toml", "-db", "../db", "y"]).dir("arg").go().ok();
    assert_eq!(p.exported("a"), files([("x", "below the manifest\n")]));
    let pwd = format!("{}\n", p.path("m").canonicalize().unwrap().display());
    assert_eq!(p.exported("b"), files([("y", "on the command line\n"), ("pwd", &pwd)]));
}

#[test]
fn a_file_that_two_patterns_match_is_one_step() {
    let p = Project::new().file("data/x.csv", "x\n");
    p.task_with("a", "inputs = [\"data/*\", \"data/*.csv\", \"data/x.csv\"]", COPY);
    p.run().ok().ran_on(["a x.csv"]);
    assert_eq!(p.exported("a"), files([("x.csv", "x\n")]));
}

#[test]
fn the_database_is_never_an_input() {
    let p = Project::new().file("one", "1\n").manifest(
        "[[task]]\nname = \"a\"\ninputs = [\"**\"]\nscript = \"echo $INPUT_NAME >$OUTPUT_DIR/name\"\n",
    );
    p.run().ok();
    let inputs = p.sql("SELECT name FROM step WHERE live = 1 ORDER BY 1");
    assert_eq!(inputs, ["one", "pipeline.toml"]);
    p.run().ok().says("nothing to do");
}

#[test]
fn files_on_the_command_line_go_to_every_root_without_inputs() {
    let p = Project::new().file("in/1.txt", "1\n").file("in/2.txt", "2\n").file("own/3.txt", "3\n");
    p.task("a", COPY).task_with("b", "from = []", COPY).task_with(
        "c",
        "inputs = [\"own/*\"]",
        COPY,
    );
    p.run_with(["in/1.txt", "in/2.txt"])
        .ok()
        .ran_on(["a 1.txt", "a 2.txt", "b 1.txt", "b 2.txt", "c 3.txt"]);
}

#[test]
fn files_of_one_name_are_a_step_each_and_equal_ones_one_piece_of_work() {
    let p = Project::new().file("x/n", "1\n").file("y/n", "2\n").file("z/n", "1\n");
    let of = |inputs: &str| p.task_with("a", &format!("inputs = {inputs}"), COPY).run().ok();
    of(r#"["x/n", "y/n", "z/n"]"#).ran_on(["a n", "a n"]);
    let mut contents: Vec<String> = p.exported("a").into_values().collect();
    contents.sort_unstable();
    assert_eq!(contents, ["1\n", "1\n", "2\n"]);
    of(r#"["y/n", "z/n"]"#).ran([]);
    assert_eq!(p.exported("a").len(), 2);
    // Moved: another step, and no work.
    p.file("moved/n", "1\n");
    of(r#"["y/n", "moved/n"]"#).ran([]).says("same work as step");
    of(r#"["y/n"]"#).ran([]);
    assert_eq!(p.exported("a"), files([("n", "2\n")]));
}

#[test]
fn the_inputs_of_the_last_run_are_remembered_and_this_is_said() {
    let p = Project::new().file("1.txt", "1\n").task("a", COPY);
    p.run_with(["1.txt"]).ok().ran(["a"]).says_nothing_of("earlier run");
    p.run().ok().ran([]).says("earlier run").says("--no-inputs");
    p.file("1.txt", "changed\n").run().ok().ran(["a"]).says("earlier run");
    assert_eq!(p.exported("a"), files([("1.txt", "changed\n")]));
    p.run_with(["--no-inputs"]).ok().ran_on(["a"]).says_nothing_of("earlier run");
    p.run().ok().ran([]).says_nothing_of("earlier run");
}

#[test]
fn each_manifest_on_a_database_has_its_own_remembered_inputs() {
    let p = Project::new().file("1.txt", "1\n").file("2.txt", "2\n").task("a", COPY);
    p.file("other.toml", p.read("pipeline.toml"));
    let other = |inputs: &[&str]| {
        p.call(["-manifest", "other.toml", "-db", "db"].iter().chain(inputs)).ok()
    };
    p.run_with(["1.txt"]).ok().ran_on(["a 1.txt"]);
    // Not those of the first one, and it says so.
    other(&[]).ran_on(["a"]).says("no INPUT is known for this manifest").says("pipeline.toml");
    other(&["2.txt"]).ran_on(["a 2.txt"]);
    p.run().ok().ran([]).says("earlier run");
    assert_eq!(p.exported("a"), files([("1.txt", "1\n")]));
    other(&[]).ran([]).says("earlier run");
    assert_eq!(p.exported("a"), files([("2.txt", "2\n")]));
    // One that was renamed takes its own along, until it is told to forget them.
    std::fs::rename(p.path("other.toml"), p.path("new.toml")).unwrap();
    let new = |options: &[&str]| {
        p.call(["-manifest", "new.toml", "-db", "db"].iter().chain(options)).ok()
    };
    new(&[]).ran([]).says("other.toml` is gone");
    new(&["--no-inputs"]);
    new(&[]).ran([]).says_nothing_of("other.toml").says_nothing_of("using");
}

#[test]
fn a_remembered_input_that_is_gone_is_a_mistake_with_its_cure() {
    let p = Project::new().file("1.txt", "1\n").task("a", COPY);
    p.run_with(["1.txt"]).ok();
    p.remove("1.txt").run().fails(2).says("1.txt").says("--no-inputs");
    p.run_with(["--no-inputs", "1.txt"]).fails(2);
}

#[test]
fn inputs_that_no_task_takes_are_a_mistake() {
    let p = Project::new().file("1.txt", "1\n").file("2.txt", "2\n");
    p.task_with("a", "inputs = [\"2.txt\"]", COPY);
    p.run_with(["1.txt"]).fails(2).ran([]).says("inputs");
}

#[test]
fn standard_input_is_an_input_that_is_kept() {
    let p = Project::new().task("a", "tr a-z A-Z <$INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME");
    p.run_cmd(["-"]).stdin("hello\n").go().ok().ran(["a"]);
    assert_eq!(p.exported("a").into_values().collect::<Vec<_>>(), ["HELLO\n"]);
    p.run().ok().ran([]).says("earlier run");
    p.run_cmd(["-"]).stdin("hello\n").go().ok().ran([]);
    p.run_cmd(["-"]).stdin("other\n").go().ok().ran(["a"]);
    assert_eq!(p.exported("a").into_values().collect::<Vec<_>>(), ["OTHER\n"]);
    p.run_with(["-", "-"]).fails(2);
}

#[test]
fn standard_input_is_read_from_where_it_stands_whatever_it_is() {
    let p = Project::new().file("data.csv", "HEADER\nrow\n").task("a", COPY);
    let mut rest = std::fs::File::open(p.path("data.csv")).unwrap();
    rest.seek(SeekFrom::Start(7)).unwrap();
    p.run_cmd(["-"]).stdin_from(rest).go().ok().ran(["a"]);
    assert_eq!(p.exported("a"), files([("stdin", "row\n")]));
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    (&ours).write_all(b"by socket\n").unwrap();
    drop(ours);
    p.run_cmd(["/dev/stdin"]).stdin_from(std::os::fd::OwnedFd::from(theirs)).go().ok().ran(["a"]);
    assert_eq!(p.exported("a"), files([("stdin", "by socket\n")]));
    // By whatever name, it is remembered by its content.
    assert_eq!(p.sql("SELECT path FROM argument"), ["-"]);
    p.run().ok().ran([]).says("earlier run");
}

#[test]
fn an_input_that_the_shell_has_opened_is_read_once_and_kept() {
    let p = Project::new().task("a", COPY);
    for (n, folder) in ["/dev/fd", "/proc/self/fd"].into_iter().enumerate() {
        let [three, four] = [3, 4].map(|fd| format!("{folder}/{fd}"));
        let run = p.run_cmd([&three, &four]);
        let text = format!("3<<three 4<<four\nthree {n}\nthree\nfour {n}\nfour\n");
        run.redirected(&text).go().ok().ran_on(["a 3", "a 4"]);
        let [three, four] = ["three", "four"].map(|word| format!("{word} {n}\n"));
        assert_eq!(p.exported("a"), files([("3", three.as_str()), ("4", &four)]));
        p.run().ok().ran([]).says("earlier run");
    }
    p.run_with(["/dev/fd/9"]).fails(2).ran([]).says("`/dev/fd/9` is not open");
    p.run_cmd(["-", "/dev/stdin"]).stdin("x").go().fails(2).says("only once");
    p.call(["watch", "/dev/fd/3"]).fails(2).says("can't be watched");
    // A manifest is for files.
    let q = Project::new().task_with("a", "inputs = [\"/dev/stdin\"]", COPY);
    q.run_cmd([""; 0]).stdin("x").go().fails(2).ran([]).says("/dev/stdin").says("from = []");
}

#[test]
fn standard_input_goes_beside_files() {
    let p = Project::new().file("x", "file\n").task("a", COPY);
    p.run_cmd(["x", "-"]).stdin("pipe\n").go().ok().ran(["a", "a"]);
    let values: Vec<String> = p.exported("a").into_values().collect();
    assert_eq!(values.len(), 2);
    assert!(values.contains(&"pipe\n".to_owned()) && values.contains(&"file\n".to_owned()));
}

#[test]
fn an_executable_input_stays_executable() {
    let p = Project::new().file("in/tool", "#!/bin/sh\necho ran\n");
    crate::harness::chmod(&p.path("in/tool"), 0o755);
    p.task_with("a", "inputs = [\"in/*\"]", "$INPUT_FILE >$OUTPUT_DIR/x");
    p.run().ok();
    assert_eq!(p.exported("a"), files([("x", "ran\n")]));
}

#[test]
fn the_executable_bit_of_an_input_follows_chmod() {
    let p = Project::new().file("in/f", "x").file("in/g", "g");
    let mode = r#"x=; [ -x "$INPUT_FILE" ] && x=x; echo "$x" >"$OUTPUT_DIR/$INPUT_NAME""#;
    p.task_with("a", "inputs = [\"in/*\"]", mode);
    p.run().ok().ran(["a", "a"]);
    let key = || p.sql("SELECT key FROM step WHERE live = 1 AND name = 'f'");
    let plain = key();
    chmod(&p.path("in/f"), 0o755);
    p.run().ok().ran_on(["a f"]);
    assert_eq!(p.exported("a"), files([("f", "x\n"), ("g", "\n")]));
    assert_ne!(key(), plain);
    assert!(p.call(["explain", "a/f"]).ok().stdout.contains("executable bit of its input was set"));
    // Other bits are not of the program's business; and what was known before comes back.
    chmod(&p.path("in/f"), 0o711);
    p.run().ok().ran([]);
    chmod(&p.path("in/f"), 0o600);
    p.run().ok().ran([]);
    assert_eq!(p.exported("a")["f"], "\n");
    assert_eq!(key(), plain);
    chmod(&p.path("in/g"), 0o700);
    p.run_with(["-B"]).ok().ran(["a", "a"]);
    assert_eq!(p.exported("a"), files([("f", "\n"), ("g", "x\n")]));
    // The same bytes and name with the bit and without are two steps, of which one may go.
    let q = Project::new().file("1/f", "x").file("2/f", "x");
    let of = |inputs: &str| q.task_with("a", &format!("inputs = {inputs}"), mode).run().ok();
    chmod(&q.path("2/f"), 0o755);
    of(r#"["1/f", "2/f"]"#).ran(["a", "a"]);
    of(r#"["2/f"]"#).ran([]);
    assert_eq!(q.exported("a"), files([("f", "x\n")]));
}

#[test]
fn an_output_of_equal_bytes_whose_executable_bit_changed_is_another_input() {
    let p = Project::new().file("mode", "644");
    let make = "echo : >$OUTPUT_DIR/f; chmod $(cat mode) $OUTPUT_DIR/f";
    p.task_with("make", "files = [\"mode\"]", make)
        .task("one", r#"x=; [ -x "$INPUT_FILE" ] && x=x; echo "$x" >$OUTPUT_DIR/x"#)
        .task_with(
            "all",
            "from = [\"make\"]\ngather = true",
            r#"x=; [ -x "$INPUT_DIR/f" ] && x=x; echo "$x" >$OUTPUT_DIR/x"#,
        );
    p.run().ok().ran(["make", "one", "all"]);
    for (mode, x, again) in [("755", "x\n", true), ("644", "\n", false), ("711", "x\n", false)] {
        let ran = p.file("mode", mode).run().ok();
        // 711 is another content of `mode`, but the same bit.
        match (again, mode) {
            (true, _) => ran.ran(["make", "one", "all"]),
            (_, "711") => ran.ran(["make"]),
            _ => ran.ran([]),
        };
        assert_eq!(p.exported("one"), files([("x", x)]), "{mode}");
        assert_eq!(p.exported("all"), files([("x", x)]), "{mode}");
    }
}

#[test]
fn neither_its_own_database_nor_an_export_is_an_input_by_whatever_path() {
    let p = Project::new().file("data/a.txt", "a").file("pipe/keep", "k");
    let manifest = |inputs: &str| {
        let text = format!("[[task]]\nname = \"a\"\ninputs = [{inputs}]\nscript = '{COPY}'\n");
        p.file("pipe/m.toml", text);
    };
    std::os::unix::fs::symlink("../db", p.path("pipe/link")).unwrap();
    std::os::unix::fs::symlink("../db/db", p.path("pipe/file-link")).unwrap();
    let run = || p.call(["-manifest", "pipe/m.toml", "-db", "db"]);
    let inputs = || p.sql("SELECT DISTINCT path FROM input_file ORDER BY 1");
    manifest("\"../**/*\"");
    let ran = run().ok();
    assert_eq!(ran.stderr.matches("database").count(), 2, "{}", ran.stderr);
    assert!(inputs().iter().all(|path| !path.contains("db/")), "{:?}", inputs());
    p.call(["export", "a", "--to", "out"]).ok();
    let ran = run().ok().says("nothing to do");
    assert_eq!(ran.stderr.matches("`export`").count(), 1, "{}", ran.stderr);
    manifest("\"*/*\", \"link/**\", \"file*\", \"../db/*/*\"");
    run().ok().says("database");
    assert_eq!(inputs(), [""; 0]);
    for plain in ["../db/db", "link/format", "file-link"] {
        manifest(&format!("\"{plain}\""));
        run().fails(2).says("own database");
    }
    // Whoever names an export means it.
    manifest("\"../out/data/*\"");
    run().ok();
    assert_eq!(inputs(), ["../out/data/a.txt"]);
}

#[test]
fn an_input_that_cannot_be_read_fails_alone_and_by_name() {
    let p = Project::new().file("in/a", "a").file("in/b", "b").task_with(
        "t",
        "inputs = [\"in/*\"]",
        COPY,
    );
    std::os::unix::fs::symlink("nowhere", p.path("in/dangling")).unwrap();
    p.run().fails(1).ran([]).says("in/dangling").says("add -k");
    p.run_with(["-k"]).fails(1).ran_on(["t a", "t b"]).says("in/dangling");
    p.run_with(["-k"]).fails(1).ran([]).says("in/dangling");
    p.file("nowhere", "").remove("in/dangling").run().ok().ran([]);
    // Links, files and folders that no pattern needs are nobody's business.
    std::fs::create_dir(p.path("in/closed")).unwrap();
    chmod(&p.path("in/closed"), 0);
    p.task_with("t", "inputs = [\"in/{a,b}\"]", COPY).run().ok();
    chmod(&p.path("in/closed"), 0o700);
}

/// Links that lead nowhere: root, too, can't read what they stand for.
fn dangling_and_loop(p: &Project) {
    std::os::unix::fs::symlink("nowhere", p.path("dangling")).unwrap();
    std::os::unix::fs::symlink("loop", p.path("loop")).unwrap();
}

#[test]
fn a_plain_path_that_cannot_be_read_fails_alone_and_by_name() {
    let p = Project::new().file("a", "a").file("b", "b");
    dangling_and_loop(&p);
    p.task_with("t", "inputs = [\"a\", \"dangling\", \"loop\", \"b\"]", COPY).task("u", COPY);
    p.run()
        .fails(1)
        .ran([])
        .says("dangling` can't be read")
        .says("loop` can't be read")
        .says("add -k");
    p.run_with(["-k"]).fails(1).ran_on(["t a", "t b", "u a", "u b"]).says("dangling").says("loop");
    p.run_with(["-k"]).fails(1).ran([]).says("dangling");
    p.run_with(["-n"]).ok().says("dangling");
    p.remove("loop").file("loop", "l").file("nowhere", "n");
    p.run().ok().ran_on(["t dangling", "t loop", "u dangling", "u loop"]);
    p.run().ok().says("nothing to do");
    // As with a glob: what it gave before is history as long as it can't be read.
    p.remove("nowhere").run().fails(1).ran([]);
    assert_eq!(p.exported("u").len(), 4);
    p.run_with(["-k"]).fails(1).ran([]);
    assert_eq!(p.exported_partially("u").len(), 3);
    p.file("nowhere", "n").run().ok().ran([]);
    assert_eq!(p.exported("u").len(), 4);
}

#[test]
fn what_gathers_waits_for_inputs_that_cannot_be_read_as_for_failed_steps() {
    for keys in ["gather = true", "gather = true\ngather_empty = true"] {
        let p = Project::new().file("in/a", "a").file("in/b", "b");
        p.task_with("t", "inputs = [\"in/*\"]", COPY);
        p.task_with("g", keys, "cat $INPUT_DIR/* >$OUTPUT_DIR/all").task("end", COPY);
        std::os::unix::fs::symlink("nowhere", p.path("in/c")).unwrap();
        p.run_with(["-k"]).fails(1).ran_on(["t a", "t b"]).says("in/c` can't be read").says("g");
        p.run_with(["-k"]).fails(1).ran([]);
        p.remove("in/c").run().ok().ran(["g", "end"]);
        // The last one of all.
        p.remove("in/a").remove("in/b");
        std::os::unix::fs::symlink("nowhere", p.path("in/a")).unwrap();
        p.run_with(["-k"]).fails(1).ran([]).says("in/a` can't be read");
        p.call(["plan", "--check"]).fails(3).answers("1 input can't be read");
        p.call(["status"]).ok().answers("in/a` can't be read");
        p.call(["export", "end", "--to", "out"]).fails(1).says("inputs can't be read");
        p.remove("in/a").file("in/a", "a").file("in/b", "b").run().ok().ran([]);
        assert!(!p.call(["status"]).ok().stdout.contains("can't be read"));
        assert_eq!(p.exported("end"), files([("all", "ab")]));
    }
}

#[test]
fn an_input_that_cannot_be_read_holds_the_group_that_its_name_says() {
    let p = Project::new().file("in/a_1", "1").file("in/b_1", "1");
    p.task_with("t", "inputs = [\"in/{k}_*\"]", COPY);
    p.task_with("g", "gather = [\"k\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    std::os::unix::fs::symlink("nowhere", p.path("in/a_2")).unwrap();
    p.run_with(["-k"]).fails(1).ran_on(["t a_1", "t b_1", "g b"]);
    p.remove("in/a_2").file("in/a_2", "2").run().ok().ran_on(["t a_2", "g a"]);
}

#[test]
fn an_input_of_the_command_line_that_cannot_be_read_fails_alone_and_by_name() {
    let p = Project::new().file("a", "a").file("b", "b").task("t", COPY);
    dangling_and_loop(&p);
    let inputs = ["a", "dangling", "loop", "b"];
    p.run_with(inputs).fails(1).ran([]).says("dangling` can't be read").says("loop` can't be read");
    p.run_with(["-k"].iter().chain(&inputs)).fails(1).ran_on(["t a", "t b"]).says("dangling");
    // They are remembered like the others.
    p.run_with(["-k"]).fails(1).ran([]).says("loop").says("earlier run");
    p.file("nowhere", "n")
        .remove("loop")
        .file("loop", "l")
        .run()
        .ok()
        .ran_on(["t dangling", "t loop"]);
}

#[test]
fn a_file_or_a_folder_without_permission_fails_alone_and_by_name() {
    let p = Project::new().file("a", "a").file("locked", "l").file("closed/c", "c");
    chmod(&p.path("locked"), 0);
    chmod(&p.path("closed"), 0);
    let is_root = std::fs::read(p.path("locked")).is_ok();
    p.task_with("t", "inputs = [\"a\", \"locked\", \"closed/c\"]", COPY);
    let ran = p.run_with(["-k"]);
    match is_root {
        true => ran.ok().ran_on(["t a", "t locked", "t c"]),
        false => ran
            .fails(1)
            .ran_on(["t a"])
            .says("locked` can't be read")
            .says("closed/c` can't be read"),
    };
    p.task_with("t", "inputs = [\"a\", \"closed/*\"]", COPY);
    let ran = p.run_with(["-k"]);
    match is_root {
        true => ran.ok(),
        false => ran.fails(1).ran([]).says("closed` can't be read"),
    };
    chmod(&p.path("closed"), 0o700);
}

#[test]
fn a_pattern_that_begins_in_a_dangling_link_is_an_input_that_cannot_be_read() {
    let p = Project::new().file("disk/x", "x").file("a", "a");
    std::os::unix::fs::symlink("disk", p.path("in")).unwrap();
    p.task_with("t", "inputs = [\"a\", \"in/*\"]", COPY).run().ok().ran_on(["t a", "t x"]);
    // A disk that isn't mounted, say: not a folder that was emptied.
    std::fs::rename(p.path("disk"), p.path("away")).unwrap();
    p.run().fails(1).ran([]).says("in` can't be read");
    assert_eq!(p.exported("t").len(), 2);
    std::fs::rename(p.path("away"), p.path("disk")).unwrap();
    p.run().ok().ran([]);
}

#[test]
fn what_does_not_exist_at_all_is_a_mistake_and_so_is_one_of_files_that_dangles() {
    let p = Project::new().file("a", "a");
    dangling_and_loop(&p);
    p.task_with("t", "inputs = [\"a\", \"none\"]", COPY);
    p.run_with(["-k"]).fails(2).ran([]).says("`none` does not exist");
    p.task_with("t", "inputs = [\"a\", \"a/b\"]", COPY).run_with(["-k"]).fails(2).says("a/b");
    p.task_with("t", "files = [\"dangling\"]", COPY)
        .run_with(["-k", "a"])
        .fails(2)
        .says("dangling");
    p.task("t", COPY).run_with(["-k", "a", "none"]).fails(2).ran([]).says("none` does not exist");
}

#[test]
fn a_list_names_inputs_as_the_command_line_does() {
    let p = Project::new().file("a", "1").file("b c", "2").file("d\ne", "3").file("-", "4");
    p.task("t", COPY);
    p.file("list", "b c\n\n-\n");
    p.run_with(["--inputs-from", "list"]).ok().ran_on(["t b c", "t -"]);
    // They are remembered, as INPUTs are; a list and INPUTs go together.
    p.run().ok().says("using the 2 inputs").ran([]);
    p.run_with(["a", "--inputs-from=list"]).ok().ran_on(["t a"]);
    let call = p.run_cmd(["--inputs-from", "-"]).stdin("d\ne\0a\0");
    call.go().ok();
    assert_eq!(p.sql("SELECT name FROM step WHERE live ORDER BY name"), ["a", "d\ne"]);
    p.call(["plan", "--inputs-from", "list"]).ok().answers("0 steps to run");
    // Several lists are one.
    p.file("more", "a\n").run_with(["--inputs-from=list", "--inputs-from=more"]).ok();
    assert_eq!(p.sql("SELECT name FROM step WHERE live ORDER BY name"), ["-", "a", "b c"]);
}

#[test]
fn what_is_missing_from_a_list_is_told_with_the_list_and_the_line() {
    let p = Project::new().file("a", "1").task("t", COPY);
    p.file("list", "a\n\ngone\n").file("more", "bin\n");
    let ran = p.run_with(["--inputs-from=list", "--inputs-from=more", "none"]).fails(2).ran([]);
    ran.says("input `none` does not exist")
        .says("input `gone` (line 3 of `list`) does not exist")
        .says("input `bin` (line 1 of `more`) is a folder");
}

#[test]
fn a_pattern_that_matches_nothing_is_named_unless_something_could_not_be_looked_at() {
    let p = Project::new().file("in/a.txt", "1").task_with(
        "t",
        "inputs = [\"in/*.txt\", \"in/{k}.csv\", \"none/*\"]",
        COPY,
    );
    let ran = p.run().ok();
    let ran = ran.says("task `t`: `in/{k}.csv` in `inputs` matches no file");
    ran.says("task `t`: `none/*` in `inputs` matches no file").says_nothing_of("in/*.txt");
    std::os::unix::fs::symlink("b.csv", p.path("in/b.csv")).unwrap();
    let ran = p.run_with(["-k"]).fails(1).says("b.csv` can't be read");
    ran.says_nothing_of("in/{k}.csv");
}

#[test]
fn a_list_that_names_nothing_is_no_reason_to_take_the_inputs_of_an_earlier_run() {
    let p = Project::new().file("a", "1").file("list", "\n \n").task("t", COPY);
    p.run_with(["a"]).ok();
    p.run_with(["--inputs-from", "list"]).fails(2).says("`list` names no file").says("--no-inputs");
    p.run_cmd(["--inputs-from", "-"]).stdin("").go().fails(2).says("`-` names no file");
    p.run_with(["--inputs-from", "none"]).fails(2).says("`none` does not exist");
    p.run_with(["--inputs-from", "bin"]).fails(2).says("`bin` is a folder").says("bin/*");
    p.file("b c", "2");
    p.file("windows", "a\r\nb c\r\n").run_with(["--inputs-from", "windows"]).ok();
    assert_eq!(p.sql("SELECT name FROM step WHERE live ORDER BY name"), ["a", "b c"]);
    // With names that end in NUL, a CR is part of the name.
    p.file("e\r", "5").run_cmd(["--inputs-from", "-"]).stdin("e\r\0").go().ok();
    assert_eq!(p.sql("SELECT hex(name) FROM step WHERE live"), ["650D"]);
    p.run_with(["a/b"]).fails(2).says("`a/b` does not exist: part of its path is a file");
    p.file("list", "gone\na\n");
    p.run_with(["--inputs-from", "list"])
        .fails(2)
        .says("input `gone` (line 1 of `list`) does not exist");
    p.run_with(["--inputs-from", "list", "--no-inputs"]).fails(2).says("contradict");
    p.run_with(["-", "--inputs-from", "-"]).fails(2).says("read only once");
    p.run_with(["--watch", "--inputs-from", "-"]).fails(2).says("can't be watched");
}

#[test]
fn inputs_of_one_base_name_keep_their_folders() {
    let p = Project::new().file("d/a/x", "1").file("d/b/x", "2").file("d/y", "3");
    p.task("t", "mkdir -p \"$(dirname \"$OUTPUT_DIR/$INPUT_NAME\")\"; cp \"$INPUT_FILE\" \"$OUTPUT_DIR/$INPUT_NAME\"");
    p.task_with("all", "gather = true", "cd $INPUT_DIR; find . -type f | sort >$OUTPUT_DIR/names");
    let note = "INPUTs of one base name keep their folders in INPUT_NAME: `a/x`, `b/x`";
    let ran = p.run_with(["d/a/x", "d/y", "d/b/x"]).ok().says(note);
    ran.ran_on(["all", "t a/x", "t b/x", "t y"]);
    assert_eq!(p.exported("t"), files([("a/x", "1"), ("b/x", "2"), ("y", "3")]));
    assert_eq!(p.exported("all")["names"], "./a/x\n./b/x\n./y\n");
    p.call(["cat", "t/b/x"]).ok().answers("2");
    // They are the same INPUTs in the next run, and those of a list.
    p.run().ok().says(note).ran([]);
    p.file("list", "d/y\nd/../d/b/x\n./d/a/x\n").run_with(["--inputs-from", "list"]).ok().ran([]);
    // One of them alone has its base name, and is another step; the old results come back with the other.
    p.run_with(["d/a/x"]).ok().ran_on(["all", "t x"]);
    p.run_with(["d/a/x", "d/y", "d/b/x"]).ok().ran([]);
}
