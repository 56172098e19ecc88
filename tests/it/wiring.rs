//! Section 3 and 5: who feeds whom.

use crate::harness::{Project, files};

const COPY: &str = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;

#[test]
fn a_task_takes_the_one_above_unless_it_says_otherwise() {
    let p = Project::new()
        .task("a", "echo 1 >$OUTPUT_DIR/x")
        .task("b", "sed s/$/b/ $INPUT_FILE >$OUTPUT_DIR/x")
        .task("c", "sed s/$/c/ $INPUT_FILE >$OUTPUT_DIR/x")
        .task_with("d", "from = [\"a\"]", "sed s/$/d/ $INPUT_FILE >$OUTPUT_DIR/x");
    p.run().ok().ran_on(["a", "b x", "c x", "d x"]);
    assert_eq!(p.exported("c"), files([("x", "1bc\n")]));
    assert_eq!(p.exported("d"), files([("x", "1d\n")]));
}

#[test]
fn a_root_without_inputs_runs_once_on_the_empty_object() {
    let p = Project::new().task(
        "a",
        "wc -c <$INPUT_FILE | tr -d ' ' >$OUTPUT_DIR/x; echo \"[$INPUT_NAME]\" >>$OUTPUT_DIR/x",
    );
    p.run().ok().ran(["a"]);
    assert_eq!(p.exported("a"), files([("x", "0\n[]\n")]));
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(p.sql("SELECT object_hash FROM step"), [empty]);
}

#[test]
fn there_may_be_several_roots() {
    let p = Project::new()
        .file("left/1", "l\n")
        .file("right/2", "r\n")
        .task_with("left", "inputs = [\"left/*\"]", COPY)
        .task_with("right", "inputs = [\"right/*\"]", COPY)
        .task_with("alone", "from = []", "echo a >$OUTPUT_DIR/3")
        .task_with("all", "from = [\"left\", \"right\", \"alone\"]", COPY);
    p.run().ok().ran_on(["left 1", "right 2", "alone", "all 1", "all 2", "all 3"]);
    assert_eq!(p.exported("all"), files([("1", "l\n"), ("2", "r\n"), ("3", "a\n")]));
}

#[test]
fn match_chooses_among_the_outputs() {
    let p = Project::new()
        .task("a", "cd $OUTPUT_DIR; mkdir sub; echo 1 >x.txt; echo 2 >y.bin; echo 3 >sub/z.txt")
        .task_with("flat", "from = [\"a\"]\nmatch = [\"*.txt\"]", COPY)
        .task_with("deep", "from = [\"a\"]\nmatch = [\"**/*.txt\"]", COPY)
        .task_with("two", "from = [\"a\"]\nmatch = [\"*.bin\", \"sub/*\"]", COPY)
        .task_with("none", "from = [\"a\"]\nmatch = [\"*.none\"]", COPY);
    p.run().ok().ran_on([
        "a",
        "flat x.txt",
        "deep x.txt",
        "deep sub/z.txt",
        "two y.bin",
        "two sub/z.txt",
    ]);
}

#[test]
fn a_step_fans_out_over_as_many_outputs_as_there_are() {
    let p = Project::new()
        .file("list", "1\n2\n3\n4\n5\n")
        .task_with(
            "split",
            "inputs = [\"list\"]",
            "while read n; do echo $n >$OUTPUT_DIR/$n; done <$INPUT_FILE",
        )
        .task("each", "expr $(cat $INPUT_FILE) \\* 10 >$OUTPUT_DIR/$INPUT_NAME");
    p.run().ok().ran(["split", "each", "each", "each", "each", "each"]);
    p.file("list", "2\n3\n7\n");
    p.run().ok().ran_on(["split list", "each 7"]);
    assert_eq!(p.exported("each"), files([("2", "20\n"), ("3", "30\n"), ("7", "70\n")]));
}

#[test]
fn no_output_at_all_is_fine() {
    let p = Project::new().task("a", "true").task("b", "true");
    p.run().ok().ran(["a"]);
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn the_name_of_an_input_may_have_folders_which_exist_in_the_output_folder() {
    let p = Project::new()
        .task("a", "mkdir -p $OUTPUT_DIR/p/q; echo 1 >$OUTPUT_DIR/p/q/x.txt")
        .task("b", "basename $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME; (cd $OUTPUT_DIR; find . -type d) >$OUTPUT_DIR/dirs");
    p.run().ok().ran_on(["a", "b p/q/x.txt"]);
    assert_eq!(p.exported("b"), files([("p/q/x.txt", "x.txt\n"), ("dirs", ".\n./p\n./p/q\n")]));
}

#[test]
fn a_diamond_meets_again() {
    let p = Project::new()
        .task("top", "echo 1 >$OUTPUT_DIR/x")
        .task("left", "sed s/$/l/ $INPUT_FILE >$OUTPUT_DIR/left")
        .task_with("right", "from = [\"top\"]", "sed s/$/r/ $INPUT_FILE >$OUTPUT_DIR/right")
        .task_with("end", "from = [\"left\", \"right\"]", COPY);
    p.run().ok().ran_on(["top", "left x", "right x", "end left", "end right"]);
    assert_eq!(p.exported("end"), files([("left", "1l\n"), ("right", "1r\n")]));
}

#[test]
fn equal_content_from_two_producers_is_two_steps_and_one_piece_of_work() {
    let p = Project::new()
        .task_with("a", "from = []", "echo same >$OUTPUT_DIR/x")
        .task_with("b", "from = []", "echo same >$OUTPUT_DIR/x")
        .task_with("c", "from = [\"a\", \"b\"]", COPY);
    p.run().ok().ran(["a", "b", "c"]).says("c (x): done, same work as step ");
    let links = "SELECT f.name, t.name FROM step_link l JOIN step fs ON fs.id = l.from_step_id
                 JOIN task f ON f.id = fs.task JOIN step ts ON ts.id = l.to_step_id
                 JOIN task t ON t.id = ts.task ORDER BY 1";
    assert_eq!(p.sql(links), ["a|c", "b|c"]);
    assert_eq!(p.exported("c"), files([("x", "same\n"), ("x~2", "same\n")]));
    // Another content of one of them is no work for the other one.
    p.task_with("b", "from = []", "echo other >$OUTPUT_DIR/x").run().ok().ran(["b", "c"]);
    assert_eq!(p.exported("c").len(), 2);
    p.task_with("b", "from = []", "true").run().ok().ran(["b"]);
    assert_eq!(p.exported("c"), files([("x", "same\n")]));
}

#[test]
fn equal_content_under_two_names_is_two_steps() {
    let p = Project::new()
        .task("a", "echo same >$OUTPUT_DIR/x; echo same >$OUTPUT_DIR/y")
        .task("b", COPY);
    p.run().ok().ran_on(["a", "b x", "b y"]);
    assert_eq!(p.sql("SELECT count(*) FROM object WHERE size = 5"), ["1"]);
}

#[test]
fn a_task_may_consume_a_task_below_it() {
    let p = Project::new().task_with("last", "from = [\"first\"]", COPY).task_with(
        "first",
        "from = []",
        "echo 1 >$OUTPUT_DIR/x",
    );
    p.run().ok().ran_on(["first", "last x"]);
    p.task_with("first", "from = []", "echo 2 >$OUTPUT_DIR/x").run().ok().ran(["first", "last"]);
    assert_eq!(p.exported("last"), files([("x", "2\n")]));
}

#[test]
fn at_most_parallel_steps_of_a_task_run_at_once() {
    let p = Project::new().task_with(
        "one",
        "inputs = [\"in/*\"]\nparallel = 1",
        "mkdir busy; echo $INPUT_NAME >$OUTPUT_DIR/$INPUT_NAME; rmdir busy",
    );
    for n in 0..20 {
        p.file(format!("in/{n}"), n.to_string());
    }
    p.run_with(["-j8"]).ok();
    assert_eq!(p.exported("one").len(), 20);
}

#[test]
fn j_scripts_run_at_once_and_no_more() {
    // Each of four waits until it sees a second one; a third one at the same time is a failure.
    let p = Project::new().task_with(
        "pair",
        "inputs = [\"in/*\"]",
        "mkdir -p at; : >at/$INPUT_NAME\n\
         n=0; until [ $(ls at | wc -l) -ge 2 ] || [ -e met ]; do sleep 0.01; n=$((n+1)); [ $n -lt 2000 ]; done\n\
         : >met; [ $(ls at | wc -l) -le 2 ]; rm at/$INPUT_NAME",
    );
    for n in 0..4 {
        p.file(format!("in/{n}"), n.to_string());
    }
    p.run_with(["-j", "2"]).ok();
    // With one at a time nobody is ever met.
    p.remove("met");
    p.task_with("pair", "inputs = [\"in/*\"]", "mkdir busy; rmdir busy");
    p.run_with(["-parallel", "1"]).ok();
}

const TWO: &str = "from = [\"index\", \"reads\"]\nmatch = ";

/// Two producers that leave files of the same names.
fn two_producers() -> Project {
    let p = Project::new().task("index", "echo 1 >$OUTPUT_DIR/x.bwt; echo 2 >$OUTPUT_DIR/x.log");
    p.task_with("reads", "from = []", "echo 3 >$OUTPUT_DIR/r.fq; echo 4 >$OUTPUT_DIR/x.log")
}

#[test]
fn a_table_of_matches_filters_each_producer_by_itself() {
    let copy = r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#;
    let p = two_producers();
    let with = |table: &str| p.task_with("use", &format!("{TWO}{table}"), copy);
    // Of a producer that is not in it everything is taken.
    let ran = with("{ index = [\"*.bwt\"] }").run().ok();
    ran.ran_on(["index", "reads", "use r.fq", "use x.bwt", "use x.log"]);
    assert_eq!(p.call(["cat", "use/x.log"]).ok().stdout, "4\n");
    with("{ index = [\"*.log\"], reads = [\"*.fq\"] }");
    p.call(["plan"]).ok().answers("1 step to run");
    p.run().ok().ran_on(["use x.log"]).says("2 no longer needed");
    assert_eq!(p.call(["cat", "use/x.log"]).ok().stdout, "2\n");
    p.run().ok().says("nothing to do");
    with("[\"*.log\"]").run().ok().ran_on([]);
    assert_eq!(
        p.sql(
            "SELECT count(*) FROM step s JOIN task t ON t.id = s.task WHERE live AND t.name = 'use'"
        ),
        ["2"]
    );
}

#[test]
fn a_table_of_matches_filters_what_is_gathered_too() {
    let p = two_producers();
    let with = |table: &str| {
        let keys = format!("gather = true\n{TWO}{table}");
        p.task_with("all", &keys, "cat $INPUT_DIR/*/* >$OUTPUT_DIR/all").run().ok();
        p.call(["cat", "all"]).ok().stdout
    };
    assert_eq!(with("{ index = [\"*.bwt\"] }"), "1\n3\n4\n");
    assert_eq!(with("{ index = [\"*.bwt\"], reads = [\"*.fq\"] }"), "1\n3\n");
    p.call(["lineage", "all/"]).ok().answers("index").answers("reads");
    // A renamed producer is the same one; but its folder is called otherwise, which the script sees.
    p.rename("index", "made");
    let keys = "gather = true\nfrom = [\"made\", \"reads\"]\nmatch = { made = [\"*.bwt\"], reads = [\"*.fq\"] }";
    p.task_with("all", keys, "cat $INPUT_DIR/*/* >$OUTPUT_DIR/all").run().ok().ran(["all"]);
}

#[test]
fn the_graph_shows_what_is_taken_of_each_producer() {
    let p = two_producers();
    p.task_with("use", &format!("{TWO}{{ index = [\"*.bwt\"] }}"), "true");
    let of = |args: &[&str]| p.call(args).ok().json()["tasks"][2]["match_of"].clone();
    let expected = serde_json::json!([{ "from": "index", "match": ["*.bwt"] }]);
    assert_eq!(of(&["graph", "--json", "--manifest", "pipeline.toml"]), expected);
    p.run().ok();
    assert_eq!(of(&["graph", "--json"]), expected);
    p.call(["graph", "--format", "dot"])
        .ok()
        .answers("t0 -> t2 [label=\"*.bwt\"];")
        .answers("t1 -> t2;");
}
