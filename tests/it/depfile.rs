//! Section 13, `depfile`: a result stands while what its script said it read has that content, and comes back with it.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;

use crate::harness::{Project, WAIT_FOR_GO, files, sha256, wait_for};

/// Puts together the parts that the input names, without comments, and says which they were.
const JOIN: &str = r#"{ printf 'out:'; sed 's,.*, inc/&.h,' "$INPUT_FILE" | tr '\n' ' '; echo; } >"$OUTPUT_DIR/.d"
while read -r part; do sed '/^#/d' "inc/$part.h"; done <"$INPUT_FILE" >"$OUTPUT_DIR/$INPUT_NAME""#;

const ALL: &str = r#"cat "$INPUT_DIR"/* >"$OUTPUT_DIR/all""#;

/// `x` reads a and b, `y` reads b and c.
fn project() -> Project {
    let p = Project::new().file("in/x", "a\nb\n").file("in/y", "b\nc\n");
    p.file("inc/a.h", "A\n").file("inc/b.h", "B\n").file("inc/c.h", "C\n");
    p.task_with("join", "inputs = [\"in/*\"]\ndepfile = \".d\"", JOIN);
    p.task_with("all", "gather = true", ALL)
}

/// One step that leaves this rule.
fn with_rule(rule: &str) -> Project {
    let p = Project::new().file("inc/a.h", "A\n").file("rule", rule);
    let script = r#"cat rule >"$OUTPUT_DIR/.d"; echo 1 >"$OUTPUT_DIR/out""#;
    p.task_with("a", "depfile = \".d\"", script)
}

fn read_files(p: &Project) -> Vec<String> {
    p.sql("SELECT path FROM dependency_file ORDER BY path")
}

#[track_caller]
fn because(p: &Project, step: &str, sentence: &str) {
    assert_eq!(p.call(["explain", step, "--json"]).ok().json()["sentence"], sentence);
}

#[test]
fn a_change_of_what_a_step_has_read_runs_that_step_and_no_other() {
    let p = project();
    p.run().ok().ran_on(["join x", "join y", "all"]);
    assert_eq!(p.exported("all"), files([("all", "A\nB\nB\nC\n")]));
    p.run().ok().ran([]).says("nothing to do");
    p.file("inc/a.h", "AA\n").run().ok().ran_on(["join x", "all"]);
    p.file("inc/b.h", "BB\n").run().ok().ran_on(["join x", "join y", "all"]);
    assert_eq!(p.exported("all"), files([("all", "AA\nBB\nBB\nC\n")]));
    assert_eq!(p.sql("SELECT name FROM output ORDER BY name"), ["all", "all", "all", "x", "y"]);
    // What nobody has read is nobody's business.
    p.file("inc/d.h", "D\n").run().ok().ran([]).says("nothing to do");
}

#[test]
fn an_output_that_comes_out_the_same_runs_nothing_further_down() {
    let p = project();
    p.run().ok();
    p.file("inc/b.h", "# why\nB\n").run().ok().ran_on(["join x", "join y"]);
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn what_was_made_of_older_content_comes_back_with_it() {
    let p = project();
    p.run().ok();
    let first = p.exported("all");
    p.file("inc/b.h", "2\n").run().ok().ran_on(["join x", "join y", "all"]);
    p.file("inc/b.h", "3\n").run().ok().ran_on(["join x", "join y", "all"]);
    let third = p.exported("all");
    p.file("inc/b.h", "B\n").run().ok().ran([]).says("an earlier result is valid again");
    assert_eq!(p.exported("all"), first);
    p.run().ok().ran([]).says("nothing to do");
    // Of two files, each in its own time.
    p.file("inc/a.h", "AA\n").run().ok().ran_on(["join x", "all"]);
    p.file("inc/b.h", "3\n").run().ok().ran_on(["join x", "all"]);
    p.file("inc/a.h", "A\n").run().ok().ran([]);
    assert_eq!(p.exported("all"), third);
    assert_eq!(p.sql("SELECT count(*) FROM step WHERE same_as IS NOT NULL"), ["0"]);
}

#[test]
fn the_log_of_a_step_is_that_of_the_result_that_it_has() {
    let p = Project::new().file("inc/a.h", "A\n");
    let script = r#"echo "x: inc/a.h" >"$OUTPUT_DIR/.d"; cat inc/a.h"#;
    p.task_with("a", "depfile = \".d\"", script).run().ok();
    p.file("inc/a.h", "AA\n").run().ok();
    assert_eq!(p.call(["log", "a"]).ok().stdout, "AA\n");
    p.file("inc/a.h", "A\n").run().ok().ran([]);
    assert_eq!(p.call(["log", "a"]).ok().stdout, "A\n");
    assert_eq!(p.call(["log", "a", "--attempt", "2"]).ok().stdout, "AA\n");
    // As long as it has it, gc keeps the log too.
    p.call(["gc", "--grace", "0s"]).ok();
    assert_eq!(p.call(["log", "a"]).ok().stdout, "A\n");
}

#[test]
fn touching_a_file_or_replacing_it_by_its_like_runs_nothing() {
    let p = project();
    p.run().ok();
    p.remove("inc/b.h").file("inc/b.h", "B\n").run().ok().ran([]).says("nothing to do");
    p.file("other", "B\n").remove("inc/b.h");
    symlink("../other", p.path("inc/b.h")).unwrap();
    p.run().ok().ran([]).says("nothing to do");
    p.file("other", "other\n").run().ok().ran_on(["join x", "join y", "all"]);
}

#[test]
fn a_file_that_is_gone_is_a_change_and_so_is_its_return() {
    let p = project();
    p.run().ok();
    p.remove("inc/a.h").run().fails(1).ran_on(["join x"]);
    p.run().fails(1).ran_on(["join x"]);
    // The result from before it went stands again, though an attempt has failed since.
    p.file("inc/a.h", "A\n").run().ok().ran([]).says("an earlier result is valid again");
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn a_step_that_reads_other_files_than_before_depends_on_those() {
    let p = Project::new().file("inc/main.h", "first\n").file("inc/first.h", "1\n");
    p.file("inc/second.h", "2\n");
    let script = r#"next=inc/$(cat inc/main.h).h; echo "x: inc/main.h $next" >"$OUTPUT_DIR/.d"
                    cat "$next" >"$OUTPUT_DIR/out""#;
    p.task_with("a", "depfile = \".d\"", script).run().ok().ran(["a"]);
    p.file("inc/second.h", "22\n").run().ok().ran([]);
    p.file("inc/main.h", "second\n").run().ok().ran(["a"]);
    p.file("inc/first.h", "11\n").run().ok().ran([]);
    p.file("inc/second.h", "222\n").run().ok().ran(["a"]);
    assert_eq!(p.exported("a"), files([("out", "222\n")]));
    // With the old `main.h`, the old `first.h` is another one.
    p.file("inc/main.h", "first\n").run().ok().ran(["a"]);
    p.file("inc/first.h", "1\n").run().ok().ran([]);
    assert_eq!(p.exported("a"), files([("out", "1\n")]));
}

#[test]
fn steps_that_do_the_same_work_share_results_old_and_new() {
    let p = Project::new().file("in/1/x", "a\n").file("in/2/x", "a\n").file("inc/a.h", "A\n");
    let keys = "inputs = [\"in/1/*\", \"in/2/*\"]\ndepfile = \".d\"";
    p.task_with("join", keys, JOIN).run().ok().ran_on(["join x"]).says("same work as step");
    p.file("inc/a.h", "AA\n").run().ok().ran_on(["join x"]).says("same work as step");
    p.call(["plan"]).ok().answers("0 steps to run: all is up to date");
    p.file("inc/a.h", "A\n");
    p.call(["plan"])
        .ok()
        .answers("2 inc/a.h changed, 2 of them without a run")
        .answers("2 steps need no run: the same work as another, or done before");
    p.run().ok().ran([]);
    assert_eq!(p.sql("SELECT count(*), count(DISTINCT object) FROM output"), ["2|1"]);
    // A third one finds what was made for the others, in both contents.
    p.file("inc/a.h", "AA\n").file("in/3/x", "a\n");
    p.task_with("join", &keys.replace("in/2/*", "in/3/*"), JOIN).run().ok().ran([]);
    p.file("inc/a.h", "A\n").run().ok().ran([]);
    assert_eq!(p.exported("join"), files([("x", "A\n"), ("x~2", "A\n")]));
}

#[test]
fn a_step_of_history_comes_back_only_with_what_it_has_read() {
    let p = project();
    p.run().ok();
    p.file("in/x", "c\n").run().ok().ran_on(["join x", "all"]);
    // While it was history, one of its files has changed.
    p.file("inc/a.h", "AA\n").run().ok().ran([]);
    p.file("in/x", "a\nb\n").run().ok().ran_on(["join x", "all"]);
    assert_eq!(p.exported("all"), files([("all", "AA\nB\nB\nC\n")]));
    p.file("in/x", "c\n").file("inc/a.h", "A\n").run().ok().ran([]);
    p.file("in/x", "a\nb\n").run().ok().ran([]);
    assert_eq!(p.exported("all"), files([("all", "A\nB\nB\nC\n")]));
}

#[test]
fn a_step_that_an_upstream_step_brings_back_is_looked_at_too() {
    let p = Project::new().file("word", "one\n").file("inc/a.h", "A\n");
    let make = r#"cp word "$OUTPUT_DIR/x""#;
    let read = r#"echo "x: inc/a.h" >"$OUTPUT_DIR/.d"; cat "$INPUT_FILE" inc/a.h >"$OUTPUT_DIR/x""#;
    p.task_with("make", "cache = false", make).task_with("read", "depfile = \".d\"", read);
    p.run().ok().ran(["make", "read"]);
    p.file("word", "two\n").run().ok().ran(["make", "read"]);
    p.file("word", "one\n").run().ok().ran(["make"]);
    p.file("word", "two\n").file("inc/a.h", "AA\n").run().ok().ran(["make", "read"]);
    assert_eq!(p.exported("read"), files([("x", "two\nAA\n")]));
    p.file("word", "one\n").run().ok().ran(["make", "read"]);
    p.file("inc/a.h", "A\n").run().ok().ran(["make"]);
    assert_eq!(p.exported("read"), files([("x", "one\nA\n")]));
}

#[test]
fn gather_with_and_labels_go_together_with_a_depfile() {
    let p = Project::new().file("in/A_1", "1\n").file("in/B_1", "2\n").file("inc/a.h", "A\n");
    let read = |more: &str| {
        format!(r#"echo "x: inc/a.h" >"$OUTPUT_DIR/.d"; cat {more} inc/a.h >"$OUTPUT_DIR/x""#)
    };
    p.task_with("root", "inputs = [\"in/{s}_*\"]", r#"cp "$INPUT_FILE" "$OUTPUT_DIR/x""#)
        .task_with("by", "gather = [\"s\"]\ndepfile = \".d\"", &read("\"$INPUT_DIR\"/*"))
        .task_with(
            "see",
            "from = [\"root\"]\nwith = [\"by\"]\ndepfile = \".d\"",
            &read("\"$WITH_DIR\"/by/*"),
        )
        .task_with(
            "files",
            "inputs = [\"in/*\"]\ngather = true\ndepfile = \".d\"",
            &read("\"$INPUT_DIR\"/*"),
        );
    p.run().ok().ran(["root", "root", "by", "by", "see", "see", "files"]);
    let first = p.exported("see");
    p.run().ok().ran([]).says("nothing to do");
    p.file("inc/a.h", "AA\n").run().ok().ran(["by", "by", "see", "see", "files"]);
    assert_ne!(p.exported("see"), first);
    p.file("inc/a.h", "A\n").run().ok().ran([]);
    assert_eq!(p.exported("see"), first);
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn a_task_without_a_cache_runs_whatever_there_is() {
    let p = project();
    p.task_with("join", "inputs = [\"in/*\"]\ndepfile = \".d\"\ncache = false", JOIN);
    p.run().ok().ran_on(["join x", "join y", "all"]);
    p.run().ok().ran_on(["join x", "join y"]);
    p.file("inc/a.h", "AA\n").run().ok().ran_on(["join x", "join y", "all"]);
    p.file("inc/a.h", "A\n").run().ok().ran_on(["join x", "join y"]);
}

#[test]
fn a_forced_run_makes_all_anew_and_a_failing_one_keeps_what_there_is() {
    let p = project();
    p.run().ok();
    p.run_with(["-B"]).ok().ran_on(["join x", "join y", "all"]);
    // One result for one content of its files.
    assert_eq!(p.sql("SELECT count(*) FROM result"), ["2"]);
    p.file("inc/a.h", "AA\n").run().ok().ran_on(["join x", "all"]);
    p.file("inc/a.h", "A\n").run_with(["-B"]).ok().ran_on(["join x", "join y", "all"]);
    p.run().ok().ran([]).says("nothing to do");
    let script = format!("[ ! -e broken ]\n{JOIN}");
    p.task_with("join", "inputs = [\"in/*\"]\ndepfile = \".d\"", &script).run().ok();
    p.file("broken", "").run_with(["-B", "-k"]).fails(1).ran_on(["join x", "join y"]);
    assert_eq!(p.exported("all"), files([("all", "A\nB\nB\nC\n")]));
    p.remove("broken").run().ok().ran([]);
    // It goes on to depend on what it has read.
    p.file("inc/a.h", "AA\n").run().ok().ran_on(["join x"]);
}

#[test]
fn a_step_that_is_tried_again_depends_on_what_its_last_attempt_has_read() {
    let p = Project::new().file("inc/a.h", "A\n").file("inc/b.h", "B\n");
    let script = r#"[ "$ATTEMPT" = 1 ] && echo "x: inc/a.h" >"$OUTPUT_DIR/.d" && exit 1
                    echo "x: inc/b.h" >"$OUTPUT_DIR/.d""#;
    p.task_with("a", "depfile = \".d\"\nretries = 1", script).run().ok().ran(["a", "a"]);
    assert_eq!(read_files(&p), ["inc/b.h"]);
    p.file("inc/a.h", "AA\n").run().ok().ran([]);
    p.file("inc/b.h", "BB\n").run().ok().ran(["a"]);
}

#[test]
fn the_depfile_is_no_output_wherever_it_lies() {
    let p = Project::new().file("inc/a.h", "A\n");
    let script = r#"mkdir -p "$OUTPUT_DIR/deps"; echo "x: inc/a.h" >"$OUTPUT_DIR/deps/x.d"
                    echo 1 >"$OUTPUT_DIR/out"; echo "no: rule" >"$OUTPUT_DIR/x.d""#;
    p.task_with("a", "depfile = \"deps/x.d\"", script).run().ok();
    assert_eq!(p.exported("a"), files([("out", "1\n"), ("x.d", "no: rule\n")]));
    p.file("inc/a.h", "AA\n").run().ok().ran(["a"]);
    // The key is a part of the recipe: without it, this is another task.
    p.task("a", script).run().ok().ran(["a"]);
    assert_eq!(p.exported("a").len(), 3);
}

#[test]
fn a_depfile_that_is_missing_or_no_rule_fails_the_step_and_says_what_to_do() {
    let p = Project::new();
    let task = |script: &str| p.task_with("a", "depfile = \".d\"", script);
    task("echo 1 >$OUTPUT_DIR/out").run().fails(1).says(
        "the script has left no `.d` in OUTPUT_DIR, which is its depfile; let it write one (cc -MMD -MF \
         \"$OUTPUT_DIR/.d\"), or take `depfile` out of its task",
    );
    task("echo just words >$OUTPUT_DIR/.d").run().fails(1).says(
        "the depfile `.d` is no rule of make's, such as `x.o: src/x.c src/x.h`: line 1 has no `:` behind a target",
    );
    task("mkdir $OUTPUT_DIR/.d").run().fails(1).says("has left no `.d`");
    task("ln -s /etc/passwd $OUTPUT_DIR/.d").run().fails(1).says("is a symbolic link");
    task("echo x: inc/none.h >$OUTPUT_DIR/.d; echo 1 >$OUTPUT_DIR/out").run().fails(1).says(
        "`inc/none.h` (in `.d`) does not exist; the paths in a depfile are relative to the manifest's folder",
    );
    assert_eq!(p.sql("SELECT count(*) FROM output"), ["0"]);
    p.call(["verify", "--data"]).ok();
    p.call(["gc", "--grace", "0s"]).ok();
    task("echo x: inc/none.h >$OUTPUT_DIR/.d").file("inc/none.h", "").run().ok();
    // An empty one names nothing.
    task(": >$OUTPUT_DIR/.d").run().ok();
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn what_is_the_steps_own_is_no_dependency() {
    let p = Project::new().file("in/x", "x\n").file("inc/a.h", "A\n");
    let script = r#"echo t >"$TMPDIR/t"; echo o >"$OUTPUT_DIR/o"
        echo "x: $INPUT_FILE $TMPDIR/t $OUTPUT_DIR/o $0 db/format ./inc//a.h $PWD/inc/a.h" >"$OUTPUT_DIR/.d""#;
    p.task_with("a", "inputs = [\"in/*\"]\ndepfile = \".d\"", script).run().ok();
    assert_eq!(read_files(&p), ["inc/a.h"]);
    p.file("inc/a.h", "AA\n").run().ok().ran(["a"]);
}

#[test]
fn files_elsewhere_folders_and_odd_names_can_be_dependencies() {
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("sys.h");
    fs::write(&outside, "1\n").unwrap();
    let p = with_rule(&format!(
        "x: {} inc my\\ $$file\\#.h \\\n  /dev/null inc/a.h\n\ninc/a.h:\n",
        outside.display()
    ));
    p.file("my $file#.h", "m\n").run().ok();
    assert_eq!(read_files(&p).len(), 4);
    p.run().ok().ran([]).says("nothing to do");
    fs::write(&outside, "2\n").unwrap();
    p.run().ok().ran(["a"]);
    p.file("my $file#.h", "mm\n").run().ok().ran(["a"]);
    // A folder is the names in it.
    p.file("inc/new.h", "N\n").run().ok().ran(["a"]);
    p.file("inc/new.h", "NN\n").run().ok().ran([]);
    p.remove("inc/new.h").run().ok().ran([]).says("an earlier result is valid again");
}

#[test]
fn the_manifests_folder_itself_can_be_a_dependency() {
    for rule in ["x: .\n", "x: ./\n", "x: ./.\n"] {
        // What the harness would make in it while the script runs is there before.
        let p = with_rule(rule).file("ledger", "");
        p.run().ok().ran(["a"]);
        assert_eq!(read_files(&p), ["."]);
        p.run().ok().ran([]).says("nothing to do");
        p.file("new", "N\n").run().ok().ran(["a"]);
        p.remove("new").run().ok().ran([]).says("an earlier result is valid again");
    }
}

#[test]
fn what_is_made_while_a_file_is_edited_is_made_again() {
    for change in [
        "echo n >inc/a.h",
        "echo n >inc/a.h; cat inc/a.h >seen; cp -p saved inc/a.h",
        "mv inc/a.h away; echo n >inc/a.h; cat inc/a.h >seen; mv -f away inc/a.h",
        "mv inc away; cp -r other inc; cat inc/a.h >seen; mv inc other; mv away inc",
        "ln -sfn other linked; cat linked/a.h >seen; ln -sfn inc linked",
    ] {
        let p = Project::new().file("inc/a.h", "A\n").file("other/a.h", "O\n").file("saved", "A\n");
        symlink("inc", p.path("linked")).unwrap();
        let script = format!(
            r#"[ -e once ] || {{ echo >once; {change}; }}
               echo "x: inc/a.h linked/a.h" >"$OUTPUT_DIR/.d"; cp inc/a.h "$OUTPUT_DIR/out""#
        );
        p.task_with("a", "depfile = \".d\"", &script).run().ok().ran(["a", "a"]);
        assert_eq!(p.exported("a")["out"], p.read("inc/a.h"), "{change}");
        p.run().ok().ran([]).says("nothing to do");
    }
}

#[test]
fn a_script_that_edits_what_it_reads_fails_and_says_so() {
    let p = with_rule("x: inc/a.h\n");
    let script = r#"cat rule >"$OUTPUT_DIR/.d"; echo n >>inc/a.h; echo 1 >"$OUTPUT_DIR/out""#;
    p.task_with("a", "depfile = \".d\"", script).run().fails(1).ran(["a", "a", "a"]).says(
        "`inc/a.h`, which it has read, was changed while it ran, three times; run again when nobody writes to it, and let \
         the script itself write to TMPDIR",
    );
    assert_eq!(p.sql("SELECT count(*) FROM output"), ["0"]);
    p.call(["verify", "--data"]).ok();
}

#[test]
fn what_is_edited_after_a_step_has_read_it_is_seen_by_the_next_run() {
    // `x` is done when the file is edited, `y` begins after that, so the run itself has both contents.
    let p = project();
    let script = format!("[ $INPUT_NAME = x ] || {{ echo >began; {WAIT_FOR_GO}; }}\n{JOIN}");
    p.task_with("join", "inputs = [\"in/*\"]\ndepfile = \".d\"\nparallel = 1", &script);
    let run = p.run_cmd(["-j1"]).start();
    wait_for("y to begin", || p.path("began").exists());
    p.file("inc/b.h", "new\n").file("go", "");
    // What `y` has read was edited while it ran: it runs again.
    run.end().ok().ran_on(["join x", "join y", "join y", "all"]);
    assert_eq!(p.exported("all"), files([("all", "A\nB\nnew\nC\n")]));
    p.run().ok().ran_on(["join x", "all"]);
    assert_eq!(p.exported("all"), files([("all", "A\nnew\nnew\nC\n")]));
    // Back again without a run in between that has seen the other one.
    p.file("inc/b.h", "B\n").run().ok().ran_on(["join y", "all"]);
    assert_eq!(p.exported("all"), files([("all", "A\nB\nB\nC\n")]));
}

#[test]
fn a_run_that_is_killed_goes_on_where_it_was() {
    let p = project();
    p.run().ok();
    let slow = format!("[ ! -e slow ] || {{ echo >began; {WAIT_FOR_GO}; }}\n{JOIN}");
    p.task_with("join", "inputs = [\"in/*\"]\ndepfile = \".d\"", &slow).run().ok();
    p.file("slow", "").file("inc/b.h", "BB\n");
    let run = p.run_cmd(["-j1"]).start();
    wait_for("a script to begin", || p.path("began").exists());
    run.signal(Signal::KILL);
    assert!(run.end().was_killed());
    p.call(["plan"]).ok().answers("2 inc/b.h changed");
    because(&p, "join/x", "will run because inc/b.h changed");
    // The older results are as good as ever.
    p.file("inc/b.h", "B\n").run().ok().ran([]);
    p.file("inc/b.h", "BB\n").remove("slow").run().ok().ran_on(["join x", "join y", "all"]);
    p.call(["verify", "--data"]).ok();
}

#[test]
fn explain_and_plan_name_what_changed() {
    let p = project();
    p.run().ok();
    // Until they are older than the file system can tell apart, files are read again.
    wait_for("the files to be old enough", || {
        p.run().ok();
        p.call(["plan", "--json"]).ok().json()["dependency_stats"] == 3
    });
    p.file("inc/a.h", "AA\n");
    p.call(["plan"])
        .ok()
        .answers("1 inc/a.h changed")
        .answers("5 stat calls for files that steps have said they read");
    let plan = p.call(["plan", "--json"]).ok().json();
    assert_eq!(plan["dependency_stats"], 5);
    assert_eq!(plan["tasks"][0]["dependencies"], serde_json::json!(["inc/a.h"]));
    assert_eq!(plan["tasks"][0]["reasons"][0]["why"], "dependency");
    p.run().ok();
    let last = p.sql("SELECT max(id) FROM run").remove(0);
    because(&p, "join/x", &format!("ran in run {last} because inc/a.h changed"));
    p.call(["explain", "join/x"])
        .ok()
        .answers("read inc/a.h\nread inc/b.h\n")
        .answers("depfile: .d");
    because(
        &p,
        "join/y",
        &format!(
            "did not run in run {last} because recipe, input and what it has read are as they were in run 1, when it was done"
        ),
    );
    p.file("inc/a.h", "A\n").run().ok();
    let last = p.sql("SELECT max(id) FROM run").remove(0);
    let why = "what it has read is as it was for attempt 1, whose result it has again";
    because(&p, "join/x", &format!("did not run in run {last} because {why}"));
    p.call(["lineage", "join/y"]).ok().answers("read inc/b.h").answers("read inc/c.h");
    let steps = p.call(["lineage", "join/y", "--json"]).ok().json()["steps"].clone();
    assert_eq!(steps[0]["dependencies"], serde_json::json!(["inc/b.h", "inc/c.h"]));
}

#[test]
fn a_plan_takes_one_stat_of_a_file_however_many_steps_have_read_it() {
    let p = Project::new();
    for n in 0..5 {
        p.file(format!("inc/{n}.h"), "x\n");
    }
    for n in 0..100 {
        p.file(format!("in/{n}"), "0\n1\n2\n3\n4\n");
    }
    p.task_with("join", "inputs = [\"in/*\"]\ndepfile = \".d\"", JOIN).run().ok();
    assert_eq!(p.sql("SELECT count(*) FROM result_dependency"), ["500"]);
    wait_for("the files to be old enough", || {
        p.run().ok();
        p.call(["plan", "--json"]).ok().json()["dependency_stats"] == 5
    });
    // Two more for each that is read again.
    p.file("inc/0.h", "y\n").file("inc/1.h", "y\n");
    let plan = p.call(["plan", "--json"]).ok().json();
    assert_eq!((&plan["dependency_stats"], &plan["to_run"]), (&9.into(), &100.into()));
}

#[test]
fn gc_keeps_the_older_result_that_what_lies_on_the_disk_makes_valid() {
    let p = project();
    p.run().ok();
    p.file("inc/a.h", "2\n").run().ok();
    p.file("inc/a.h", "3\n").run().ok();
    let has = |content: &str| p.object(&sha256(content.as_bytes())).exists();
    assert!(has("A\nB\n") && has("2\nB\n") && has("3\nB\n"));
    // No run has seen yet that it is back.
    p.file("inc/a.h", "A\n").call(["gc", "--grace", "0s", "-n"]).ok();
    p.call(["gc", "--grace", "0s", "--keep-history"]).ok();
    assert!(has("A\nB\n") && has("2\nB\n") && has("3\nB\n"));
    p.call(["gc", "--grace", "0s"]).ok();
    assert!(has("A\nB\n") && !has("2\nB\n") && has("3\nB\n"));
    p.run().ok().ran_on(["all"]);
    p.file("inc/a.h", "2\n").run().ok().ran_on(["join x", "all"]);
    p.call(["gc", "--grace", "0s", "--history", "1"]).ok();
    p.file("inc/a.h", "3\n").run().ok().ran_on(["join x", "all"]);
    p.file("inc/a.h", "2\n").run().ok().ran([]);
    p.call(["verify", "--data"]).ok();
}

#[test]
fn gc_forgets_files_that_no_result_depends_on() {
    let p = project();
    p.run().ok();
    assert_eq!(read_files(&p), ["inc/a.h", "inc/b.h", "inc/c.h"]);
    p.file("in/y", "b\n").run().ok();
    p.call(["gc", "--grace", "0s"]).ok();
    assert_eq!(read_files(&p), ["inc/a.h", "inc/b.h"]);
    p.run().ok().ran([]).says("nothing to do");
    p.file("in/y", "b\nc\n").run().ok().ran_on(["join y", "all"]);
}

#[test]
fn repair_runs_a_step_again_only_if_what_it_read_is_as_it_was() {
    let p = project();
    p.run().ok();
    let lost = p.object(&sha256(b"A\nB\n"));
    fs::remove_file(&lost).unwrap();
    p.file("inc/a.h", "AA\n")
        .call(["repair"])
        .fails(65)
        .ran([])
        .answers("can't make it again: it read `inc/a.h`, which is not what it was then");
    p.run().ok().ran_on(["join x", "all"]);
    p.file("inc/a.h", "A\n").run().ok().ran_on(["join x"]);
    fs::remove_file(&lost).unwrap();
    p.call(["repair"]).ok().ran_on(["join x"]).answers("made again by step");
    assert_eq!(p.exported("all"), files([("all", "A\nB\nB\nC\n")]));
    // So does an older result, as long as it can be made.
    p.file("inc/a.h", "AA\n").run().ok().ran([]);
    p.file("inc/a.h", "A\n");
    fs::remove_file(&lost).unwrap();
    p.call(["repair"]).ok().ran_on(["join x"]).answers("made again by step");
    p.run().ok().ran([]);
}

#[test]
fn watch_runs_again_when_what_a_step_has_read_changes() {
    let p = project();
    let run = p.cmd(["watch", "-manifest", "pipeline.toml", "-db", "db"]).start();
    let rounds = |n: usize| {
        wait_for("the next round", || run.stderr().matches("waiting for changes").count() >= n);
    };
    rounds(1);
    p.file("inc/a.h", "AA\n");
    rounds(2);
    assert_eq!(p.ledger()[3..], ["join x", "all"]);
    p.file("inc/a.h", "A\n");
    rounds(3);
    assert!(run.stderr().contains("an earlier result is valid again"), "{}", run.stderr());
    run.signal(Signal::INT);
    run.end().dies_of(Signal::INT);
    assert_eq!(p.ledger().len(), 5);
}

#[test]
fn a_step_that_is_left_out_by_name_is_pending_when_its_files_change() {
    let p = project();
    p.task_with("other", "from = []", "true").run().ok();
    p.file("inc/a.h", "AA\n").run_with(["--step", "other"]).ok().ran([]);
    p.call(["status"]).ok();
    p.run().ok().ran_on(["join x", "all"]);
}

#[test]
fn mistakes_of_the_key_are_told_with_a_cure() {
    let p = Project::new();
    for bad in ["", "/abs/.d", "../x.d", "a/./b", "x/"] {
        p.task_with("a", &format!("depfile = \"{bad}\""), "true")
            .run()
            .fails(2)
            .says(&format!("`{bad}` is no name of a file below OUTPUT_DIR"));
    }
    p.task_with("a", "dep_file = \".d\"", "true").run().fails(2).says("did you mean `depfile`?");
    p.task_with("a", "depfile = \"x.d\"", "true").task_with("b", "match = [\"x.d\"]", "true");
    p.run().fails(2).says("`match` would take `x.d`, which is a depfile and no output");
}

#[test]
fn the_manifest_may_move_to_another_folder_with_all_that_it_reads() {
    let p = project();
    p.run().ok();
    for name in ["pipeline.toml", "in", "inc"] {
        fs::create_dir_all(p.path("moved")).unwrap();
        fs::rename(p.path(name), p.path("moved").join(name)).unwrap();
    }
    let run = || p.cmd(["-manifest", "moved/pipeline.toml", "-db", "db"]).go();
    run().ok().says("nothing to do");
    p.file("moved/inc/a.h", "AA\n");
    run().ok();
    assert_eq!(p.read("moved/ledger").lines().count(), 2);
}
