//! Section 4: what a script finds around it.

use crate::harness::{Project, files};

#[test]
fn a_script_is_told_what_it_works_on() {
    let p = Project::new()
        .task("first", "mkdir $OUTPUT_DIR/sub; echo hello >$OUTPUT_DIR/sub/in.txt")
        .task(
            "second",
            "cd $OUTPUT_DIR\n\
         echo \"$INPUT_NAME $(basename $INPUT_FILE) $(cat $INPUT_FILE)\" >input\n\
         echo \"$TASK_NAME $ATTEMPT\" >task\n\
         echo \"$STEP_ID\" >id; echo \"$STEP_KEY\" >key\n\
         echo \"${INPUT_DIR-unset}\" >dir\n\
         find . -type f -newer $INPUT_FILE >/dev/null; [ -d $TMPDIR ]",
        );
    p.run().ok();
    let got = p.exported("second");
    assert_eq!(got["input"], "sub/in.txt in.txt hello\n");
    assert_eq!(got["task"], "second 1\n");
    assert_eq!(got["dir"], "unset\n");
    assert_eq!([got["id"].trim()], p.sql("SELECT id FROM step WHERE name = 'sub/in.txt'")[..]);
    let key = got["key"].trim();
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
}

#[test]
fn a_step_key_is_the_same_in_another_folder_and_after_a_rename() {
    let key = "echo $STEP_KEY >$OUTPUT_DIR/key";
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x").task("b", key);
    p.run().ok();
    let q = Project::new()
        .task("other", "true")
        .task_with("a", "from = []", "echo 1 >$OUTPUT_DIR/x")
        .task("z", key);
    q.run().ok();
    assert_eq!(p.exported("b"), q.exported("z"));
    let r = Project::new().task("a", "echo 2 >$OUTPUT_DIR/x").task("b", key);
    r.run().ok();
    assert_ne!(p.exported("b"), r.exported("b"));
}

#[test]
fn attempts_are_counted_over_all_runs() {
    let p = Project::new().task("a", "echo $ATTEMPT >attempt; [ -e go ]; cp attempt $OUTPUT_DIR");
    p.run().fails(1);
    p.run().fails(1);
    p.file("go", "").run().ok();
    assert_eq!(p.exported("a"), files([("attempt", "3\n")]));
}

#[test]
fn output_dir_and_tmpdir_are_empty_for_every_step_and_gone_afterwards() {
    let p = Project::new().task_with(
        "a",
        "inputs = [\"in/*\"]",
        "[ -z \"$(ls -A $OUTPUT_DIR)\" ]; [ -z \"$(ls -A $TMPDIR)\" ]; [ $TMPDIR != $OUTPUT_DIR ]\n\
         mkdir -p $TMPDIR/d/e $OUTPUT_DIR/d; echo x >$TMPDIR/d/e/f; echo x >$TMPDIR/.h; echo x >$OUTPUT_DIR/d/f; echo x >$OUTPUT_DIR/.h\n\
         chmod 0 $TMPDIR/d/e; echo $TMPDIR >>tmpdirs; [ $INPUT_NAME != 5 ]",
    );
    for n in 0..10 {
        p.file(format!("in/{n}"), n.to_string());
    }
    p.run_with(["-j1", "-k"]).fails(1);
    assert_eq!(
        p.sql("SELECT count(*), count(DISTINCT step) FROM output WHERE name IN ('.h', 'd/f')"),
        ["18|9"]
    );
    for dir in p.read("tmpdirs").lines() {
        assert!(!std::path::Path::new(dir).exists(), "{dir} is still there");
    }
}

#[test]
fn the_working_folder_is_the_manifests_and_standard_input_is_empty() {
    let p = Project::new()
        .task("a", "pwd -P >$OUTPUT_DIR/pwd; readlink /proc/self/fd/0 >$OUTPUT_DIR/stdin");
    p.run_cmd([""; 0]).stdin("not for scripts\n").go().ok();
    let pwd = format!("{}\n", p.root().canonicalize().unwrap().display());
    assert_eq!(p.exported("a"), files([("pwd", &pwd), ("stdin", "/dev/null\n")]));
}

#[test]
fn stdout_and_stderr_are_one_log_in_order_and_a_file() {
    let p = Project::new().task(
        "a",
        "for n in 1 2 3 4; do echo out $n; echo err $n >&2; done; readlink /proc/self/fd/1 >where\n\
         [ $(readlink /proc/$$/fd/1) = $(readlink /proc/$$/fd/2) ]",
    );
    p.run().ok();
    let log = p.call(["log", "a"]).ok().stdout;
    assert_eq!(log, "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nout 4\nerr 4\n");
    assert!(p.read("where").starts_with('/'), "{} is no file", p.read("where"));
}

#[test]
fn what_a_script_makes_of_its_stdout_does_not_reach_the_next_one() {
    let p = Project::new();
    for n in 1..=8 {
        p.file(format!("in/{n}"), "");
    }
    let p = p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        r#"before=$(grep flags: /proc/$$/fdinfo/1)
           dd if=/dev/null oflag=nonblock status=none
           after=$(grep flags: /proc/$$/fdinfo/1)
           echo "$before" >"$OUTPUT_DIR/$INPUT_NAME"
           echo "$after" >"$OUTPUT_DIR/after-$INPUT_NAME""#,
    );
    p.run_with(["-j1"]).ok();
    for (name, flags) in p.exported("a") {
        let flags = flags.trim_start_matches("flags:").trim();
        let is_nonblocking = u32::from_str_radix(flags, 8).unwrap() & 0o4000 != 0;
        assert_eq!(is_nonblocking, name.starts_with("after"), "{name}: {flags}");
    }
}

#[test]
fn the_environment_is_inherited_less_what_belongs_to_make() {
    let p = Project::new().task_with(
        "a",
        "env = { MINE = \"from the manifest\", LC_ALL = \"C\" }",
        "env >$OUTPUT_DIR/env",
    );
    let call = p.run_cmd([""; 0]).env("MAKEFLAGS", "-j4 --jobserver-auth=3,4").env("MFLAGS", "-j4");
    call.env("MAKELEVEL", "1")
        .env("GIVEN", "from outside")
        .env("LC_ALL", "xx")
        .env("STEP_ID", "999")
        .go()
        .ok();
    let env = &p.exported("a")["env"];
    let lines: Vec<&str> = env.lines().collect();
    assert!(lines.contains(&"GIVEN=from outside"), "{env}");
    assert!(lines.contains(&"MINE=from the manifest"), "{env}");
    assert!(lines.contains(&"LC_ALL=C") && !lines.contains(&"LC_ALL=xx"), "{env}");
    assert!(!lines.contains(&"STEP_ID=999"), "{env}");
    assert!(!env.contains("MAKE") && !env.contains("MFLAGS"), "{env}");
}

#[test]
fn exactly_three_descriptors_are_open() {
    // `ls` opens the folder it lists as the lowest free one, so the list ends with its own: 3.
    let p = Project::new()
        .manifest("[[task]]\nname = \"a\"\nshell = \"ls /proc/self/fd\"\nscript = \"x\"\n");
    p.run().ok();
    let log = p.call(["log", "a"]).ok().stdout;
    let numbers: Vec<&str> = log.lines().filter(|line| line.parse::<u32>().is_ok()).collect();
    assert_eq!(numbers, ["0", "1", "2", "3"], "{log}");
}

#[test]
fn a_script_leads_a_process_group_of_its_own() {
    let p = Project::new().task("a", "[ $(cut -d' ' -f5 /proc/$$/stat) = $$ ]");
    p.run().ok();
}

#[test]
fn a_script_may_be_longer_than_an_argument_can_be() {
    let long = "# a comment that makes this script long\n".repeat(8000);
    assert!(long.len() > 2 * 128 * 1024);
    let p = Project::new().task("a", &format!("{long}echo end >$OUTPUT_DIR/x"));
    p.run().ok();
    assert_eq!(p.exported("a"), files([("x", "end\n")]));
}

#[test]
fn the_default_shell_stops_at_the_first_failure() {
    let p = Project::new().task("a", "false\necho went on >$OUTPUT_DIR/x");
    p.run().fails(1);
    p.task("a", "false | true; false || true; echo went on >$OUTPUT_DIR/x").run().ok();
}

#[test]
fn shell_names_another_interpreter() {
    let p = Project::new().task_with("a", "shell = \"bash -euo pipefail\"", "false | true");
    p.run().fails(1);
    p.task_with(
        "a",
        "shell = \"bash -euo pipefail\"",
        "[[ a == a ]]; echo $BASH_VERSION >$OUTPUT_DIR/x",
    )
    .run()
    .ok();
    p.program("my shell", "#!/bin/sh\necho \"$1\" >$OUTPUT_DIR/arg; exec sh \"$2\"\n");
    p.task_with("a", "shell = \"'my shell' 'two words'\"", "echo ran >$OUTPUT_DIR/x").run().ok();
    assert_eq!(p.exported("a"), files([("arg", "two words\n"), ("x", "ran\n")]));
    p.task_with("a", "shell = \"no-such-shell\"", "true").run().fails(1).says("no-such-shell");
}

#[test]
fn a_shebang_wins_over_shell() {
    let p = Project::new().manifest(
        "[[task]]\nname = \"a\"\nshell = \"no-such-shell\"\nscript = \"\"\"\n#!/bin/bash\n\
         false\n[[ a == a ]] && echo $BASH >$OUTPUT_DIR/x\n\"\"\"\n\
         [[task]]\nname = \"b\"\nscript = '''\n#!/usr/bin/env -S awk -f\nBEGIN { print 6 * 7 > (ENVIRON[\"OUTPUT_DIR\"] \"/x\") }\n'''\n",
    );
    p.run().ok();
    assert_eq!(p.exported("a"), files([("x", "/bin/bash\n")]));
    assert_eq!(p.exported("b"), files([("x", "42\n")]));
}

#[test]
fn a_script_may_begin_with_a_dash() {
    let p = Project::new()
        .manifest("[[task]]\nname = \"a\"\nscript = '''-c || echo ran >$OUTPUT_DIR/x'''\n");
    p.run().ok();
    assert_eq!(p.exported("a"), files([("x", "ran\n")]));
}

#[test]
fn an_input_may_be_edited_moved_or_deleted_without_harm() {
    let p = Project::new()
        .task("a", "for n in 1 2 3 4 5 6; do echo $n >$OUTPUT_DIR/$n; done")
        .task(
            "spoil",
            "case $INPUT_NAME in\n\
             1|4) echo spoilt >>$INPUT_FILE;;\n\
             2|5) mv $INPUT_FILE $OUTPUT_DIR/moved$INPUT_NAME;;\n\
             3) rm $INPUT_FILE;;\n6) rm $INPUT_FILE; mkdir $INPUT_FILE; echo x >$INPUT_FILE/x;;\nesac",
        )
        .task_with("after", "from = [\"a\"]", "cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME");
    p.run_with(["-j1"]).ok();
    let numbers =
        files([("1", "1\n"), ("2", "2\n"), ("3", "3\n"), ("4", "4\n"), ("5", "5\n"), ("6", "6\n")]);
    assert_eq!(p.exported("after"), numbers);
    assert_eq!(p.exported("a"), numbers);
    assert_eq!(p.exported("spoil"), files([("moved2", "2\n"), ("moved5", "5\n")]));
    crate::store::every_object_hashes_to_its_path(&p);
}

#[test]
fn a_large_input_that_is_spoilt_fails_the_step_and_is_healed() {
    let p = Project::new()
        .task("a", "head -c 3000000 /dev/zero >$OUTPUT_DIR/large")
        .task("spoil", "chmod u+w $INPUT_FILE; echo spoilt >>$INPUT_FILE")
        .task_with("after", "from = [\"a\"]", "wc -c <$INPUT_FILE | tr -d ' ' >$OUTPUT_DIR/size");
    let ran = p.run_with(["-j1", "-k"]);
    // Where the file system clones files it was a private copy; elsewhere the step is refused.
    if p.sql("SELECT state FROM step WHERE task = (SELECT id FROM task WHERE name = 'spoil')")
        != ["1"]
    {
        ran.fails(1).says("spoil").says("INPUT_FILE").says("copy it first");
    }
    p.task("spoil", "true").run().ok();
    crate::store::every_object_hashes_to_its_path(&p);
    assert_eq!(p.exported("after"), files([("size", "3000000\n")]));
}

#[test]
fn an_input_that_is_a_program_can_be_run() {
    let p = Project::new()
        .task("a", "for n in 1 2 3; do printf '#!/bin/sh\\necho ran %s\\n' $n >$OUTPUT_DIR/$n; chmod +x $OUTPUT_DIR/$n; done")
        .task("b", "$INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME");
    p.run_with(["-j1"]).ok();
    assert_eq!(p.exported("b"), files([("1", "ran 1\n"), ("2", "ran 2\n"), ("3", "ran 3\n")]));
}

#[test]
fn an_input_keeps_its_executable_bit() {
    let p = Project::new()
        .task("a", "printf 'echo ran\\n' >$OUTPUT_DIR/tool; chmod +x $OUTPUT_DIR/tool; echo 1 >$OUTPUT_DIR/data")
        .task("b", "if [ -x $INPUT_FILE ]; then echo x; else echo -; fi >$OUTPUT_DIR/$INPUT_NAME");
    p.run_with(["-j1"]).ok();
    assert_eq!(p.exported("b"), files([("tool", "x\n"), ("data", "-\n")]));
}
