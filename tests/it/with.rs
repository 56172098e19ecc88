//! Section 13: `with`, what every step of a task sees besides its input.

use crate::harness::{Project, files};

/// A task `map` that sees what `index` makes of one file, and runs on each of two.
fn project() -> Project {
    let p = Project::new().file("ref/r", "r\n").file("in/1", "1\n").file("in/2", "2\n");
    p.task_with(
        "index",
        "inputs = [\"ref/*\"]",
        "tr a-z A-Z <$INPUT_FILE >$OUTPUT_DIR/x; mkdir $OUTPUT_DIR/d; echo y >$OUTPUT_DIR/d/y",
    );
    p.task_with(
        "map",
        "inputs = [\"in/*\"]\nwith = [\"index\"]",
        "cat $INPUT_FILE $WITH_DIR/index/x $WITH_DIR/index/d/y >$OUTPUT_DIR/$INPUT_NAME",
    )
}

#[test]
fn every_step_also_sees_the_live_outputs_of_another_task_under_their_names() {
    let p = project();
    p.run().ok().ran(["index", "map", "map"]);
    assert_eq!(p.exported("map"), files([("1", "1\nR\ny\n"), ("2", "2\nR\ny\n")]));
    p.run().ok().says("nothing to do");
}

#[test]
fn what_it_sees_is_part_of_its_identity_so_one_that_comes_out_the_same_runs_nothing() {
    let p = project();
    p.run().ok();
    p.file("ref/r", "s\n").run().ok().ran(["index", "map", "map"]);
    assert_eq!(p.exported("map"), files([("1", "1\nS\ny\n"), ("2", "2\nS\ny\n")]));
    // It comes out as before.
    p.file("ref/r", "S\n").run().ok().ran(["index"]);
    p.run().ok().says("nothing to do");
    // A revert finds the older results.
    p.file("ref/r", "r\n").run().ok().ran([]);
    assert_eq!(p.exported("map"), files([("1", "1\nR\ny\n"), ("2", "2\nR\ny\n")]));
    p.run().ok().says("nothing to do");
    // Further inputs see it too, and only they run.
    p.file("in/3", "3\n").run().ok().ran_on(["map 3"]);
    p.remove("in/1").run().ok().ran([]);
    assert_eq!(p.exported("map"), files([("2", "2\nR\ny\n"), ("3", "3\nR\ny\n")]));
}

#[test]
fn a_step_sees_what_agrees_with_it_on_every_label_that_both_have() {
    let p = Project::new().file("ref/A.fa", "a\n").file("ref/B.fa", "b\n").file("ref/C.fa", "c\n");
    p.file("in/A_1", "A1\n").file("in/A_2", "A2\n").file("in/B_1", "B1\n").file("all/x", "all\n");
    p.task_with("index", "inputs = [\"ref/{sample}.fa\"]", "cp $INPUT_FILE $OUTPUT_DIR/$sample")
        .task_with("common", "inputs = [\"all/*\"]", "cp $INPUT_FILE $OUTPUT_DIR/x")
        .task_with(
            "map",
            "inputs = [\"in/{sample}_{lane}\"]\nwith = [\"index\", \"common\"]",
            "cat $INPUT_FILE $WITH_DIR/*/* >$OUTPUT_DIR/$INPUT_NAME",
        );
    p.run().ok();
    let expected = [("A_1", "A1\nall\na\n"), ("A_2", "A2\nall\na\n"), ("B_1", "B1\nall\nb\n")];
    assert_eq!(p.exported("map"), files(expected));
    // Only those that see the difference run again.
    p.file("ref/A.fa", "aa\n").run().ok().ran_on(["index A.fa", "map A_1", "map A_2"]);
    p.file("ref/C.fa", "cc\n").run().ok().ran_on(["index C.fa"]);
    p.file("all/x", "ALL\n").run().ok().ran(["common", "map", "map", "map"]);
    // Without labels of its own it sees all of them.
    p.task_with(
        "all",
        "from = []\ninputs = [\"all/x\"]\nwith = [\"index\"]",
        "cat $WITH_DIR/index/* >$OUTPUT_DIR/x",
    );
    p.run().ok().ran(["all"]);
    assert_eq!(p.exported("all"), files([("x", "aa\nb\ncc\n")]));
}

#[test]
fn it_waits_until_all_that_it_could_see_is_done() {
    let p = Project::new();
    for n in 0..20 {
        p.file(format!("ref/{n}"), n.to_string());
    }
    p.file("in/1", "1\n");
    p.task_with("index", "inputs = [\"ref/*\"]", "cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME")
        .task("sort", "cp $INPUT_FILE $OUTPUT_DIR/$INPUT_NAME")
        .task_with(
            "map",
            "inputs = [\"in/*\"]\nwith = [\"sort\"]",
            "ls $WITH_DIR/sort | wc -l >$OUTPUT_DIR/n",
        )
        .task("end", "cp $INPUT_FILE $OUTPUT_DIR");
    p.run().ok();
    assert_eq!(p.exported("end")["n"].trim(), "20");
    assert_eq!(p.ledger()[40..], ["map 1", "end n"]);
    p.remove("ref/7").run().ok().ran(["map", "end"]);
    assert_eq!(p.exported("end")["n"].trim(), "19");
}

#[test]
fn where_there_is_nothing_to_see_a_step_does_not_run_and_the_summary_says_so() {
    let p = Project::new().file("ref/A", "a").file("in/A", "A").file("in/B", "B");
    p.task_with(
        "index",
        "inputs = [\"ref/{k}\"]",
        "[ ! -s $INPUT_FILE ] || cp $INPUT_FILE $OUTPUT_DIR",
    )
    .task_with(
        "map",
        "inputs = [\"in/{k}\"]\nwith = [\"index\"]",
        "cat $WITH_DIR/index/* >$OUTPUT_DIR/$k",
    )
    .task("end", "cp $INPUT_FILE $OUTPUT_DIR");
    let says = "task map: 1 input has no step, since its `with` gives nothing to see";
    p.run().ok().ran_on(["index A", "map A", "end A"]).says(says);
    p.run().ok().says("nothing to do").says(says);
    p.call(["plan"]).ok().says(says);
    assert_eq!(p.exported("end"), files([("A", "a")]));
    p.file("ref/A", "").run().ok().ran_on(["index A"]).says("2 inputs have no step");
    assert_eq!(p.exported("end"), files([]));
    p.file("ref/B", "b").run().ok().ran_on(["index B", "map B", "end B"]).says(says);
    // Nor does one that gathers.
    p.task_with("all", "from = [\"end\"]\ngather = true\nwith = [\"none\"]", "true");
    p.task_with("none", "from = []\ninputs = [\"ref/A\"]", "true");
    p.run().ok().ran(["none"]).says("task all: 1 input has no step");
}

#[test]
fn names_with_subfolders_keep_them_and_the_second_of_one_name_is_called_name_2() {
    let p = Project::new().file("ref/1", "1\n").file("ref/2", "2\n").file("in/x", "");
    p.task_with(
        "index",
        "inputs = [\"ref/*\"]",
        "mkdir -p $OUTPUT_DIR/d/e; cp $INPUT_FILE $OUTPUT_DIR/d/e/f; : >$OUTPUT_DIR/$INPUT_NAME",
    )
    .task_with(
        "map",
        "inputs = [\"in/*\"]\nwith = [\"index\"]",
        "cd $WITH_DIR; find . -type f | sort >$OUTPUT_DIR/x; cat index/d/e/f index/d/e/f~2 >$OUTPUT_DIR/y",
    );
    p.run().ok();
    let got = p.exported("map");
    assert_eq!(got["x"], "./index/1\n./index/2\n./index/d/e/f\n./index/d/e/f~2\n");
    let mut content: Vec<&str> = got["y"].lines().collect();
    content.sort_unstable();
    assert_eq!(content, ["1", "2"]);
    // An edit of one swaps none.
    p.file("ref/2", "9\n").run().ok();
    assert_eq!(p.exported("map")["y"], got["y"].replace('2', "9"));
}

#[test]
fn a_cycle_is_refused_through_all_of_from_with_and_gather() {
    let p = Project::new()
        .task_with("a", "inputs = [\"in/*\"]\nwith = [\"c\"]", "true")
        .task_with("b", "from = [\"a\"]\ngather = true", "true")
        .task_with("c", "from = [\"b\"]", "true");
    p.run()
        .fails(2)
        .says("tasks consume each other's outputs in a cycle: a -> b -> c -> a")
        .says("remove one of them from a `from` or a `with`");
    let p = Project::new().task_with("a", "with = [\"a\"]", "true");
    p.run().fails(2).says("consumes its own outputs: a -> a");
}

#[test]
fn mistakes_in_with_are_told_with_their_cure() {
    let p = Project::new()
        .task("index", "true")
        .task_with("b", "with = [\"indx\", \"index\", \"index\"]", "true")
        .task_with("c", "with = []", "true");
    p.run()
        .fails(2)
        .says("no task is called `indx`")
        .says("did you mean `index`?")
        .says("task `index` is already in this `with`")
        .says("`with` is empty");
}

#[test]
fn several_tasks_may_see_one_and_one_may_see_several() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with("a", "inputs = [\"in/1\"]", "cp $INPUT_FILE $OUTPUT_DIR/x")
        .task_with("b", "inputs = [\"in/2\"]", "cp $INPUT_FILE $OUTPUT_DIR/x")
        .task_with(
            "c",
            "from = [\"a\"]\nwith = [\"a\", \"b\"]",
            "cat $INPUT_FILE $WITH_DIR/*/x >$OUTPUT_DIR/x",
        )
        .task_with(
            "d",
            "from = [\"b\"]\nwith = [\"c\", \"a\"]",
            "cat $INPUT_FILE $WITH_DIR/*/x >$OUTPUT_DIR/x",
        );
    p.run().ok().ran(["a", "b", "c", "d"]);
    assert_eq!(p.exported("d"), files([("x", "2\n1\n1\n1\n2\n")]));
    p.file("in/2", "3\n").run().ok().ran(["b", "c", "d"]);
    assert_eq!(p.exported("d"), files([("x", "3\n1\n1\n1\n3\n")]));
    p.run().ok().says("nothing to do");
}

#[test]
fn it_goes_with_inputs_from_gather_groups_and_matrix() {
    let p = Project::new()
        .file("ref/r", "r")
        .file("in/a_1", "a1")
        .file("in/a_2", "a2")
        .file("in/b_1", "b1");
    let see = "echo $(cat $WITH_DIR/index/x) $(cat $INPUT_FILE) >$OUTPUT_DIR/$INPUT_NAME.out";
    let all = "echo $(cat $WITH_DIR/index/x) $(cat $INPUT_DIR/*) >$OUTPUT_DIR/x${INPUT_NAME}";
    p.task_with("index", "inputs = [\"ref/*\"]", "cp $INPUT_FILE $OUTPUT_DIR/x")
        .task_with("files", "inputs = [\"in/{k}_{n}\"]\nwith = [\"index\"]", see)
        .task_with("each", "with = [\"index\"]\nmatrix = { lr = [1, 2] }", see)
        .task_with("group", "from = [\"files\"]\ngather = [\"k\"]\nwith = [\"index\"]", all)
        .task_with("all", "from = [\"files\"]\ngather = true\nwith = [\"index\"]", all)
        .task_with("disk", "inputs = [\"in/*\"]\ngather = true\nwith = [\"index\"]", all)
        .task_with(
            "end",
            "from = [\"group\"]\ngather = [\"k\"]",
            "cat $INPUT_DIR/* >$OUTPUT_DIR/$k",
        );
    p.run().ok();
    assert_eq!(p.sql("SELECT count(*) FROM step WHERE live"), ["16"]);
    assert_eq!(p.exported("group"), files([("xa", "r r a1 r a2\n"), ("xb", "r r b1\n")]));
    assert_eq!(p.exported("all"), files([("x", "r r a1 r a2 r b1\n")]));
    assert_eq!(p.exported("disk"), files([("x", "r a1a2b1\n")]));
    assert_eq!(p.exported("end"), files([("a", "r r a1 r a2\n"), ("b", "r r b1\n")]));
    p.run().ok().says("nothing to do");
    p.file("in/b_1", "b2").run().ok().ran_on([
        "files b_1",
        "each b_1.out",
        "each b_1.out",
        "group b",
        "all",
        "disk",
        "end b",
    ]);
    p.file("ref/r", "R").run().ok();
    assert_eq!(p.exported("end"), files([("a", "R R a1 R a2\n"), ("b", "R R b2\n")]));
    assert_eq!(p.exported("disk"), files([("x", "R a1a2b2\n")]));
    assert_eq!(p.sql("SELECT count(*) FROM step WHERE live"), ["16"]);
    p.file("ref/r", "r").run().ok().ran([]);
    assert_eq!(p.exported("end"), files([("a", "r r a1 r a2\n"), ("b", "r r b2\n")]));
    p.run().ok().says("nothing to do");
}

#[test]
fn plan_tells_what_waits_for_what_it_sees_and_exactly_what_does_not() {
    let p = project();
    p.call(["plan"]).ok().answers("~2").answers("when all that it sees is done");
    p.run().ok();
    p.call(["plan", "--check"]).ok();
    p.file("in/3", "3\n");
    p.call(["plan"]).ok().answers("1 step to run").answers("1 new");
    p.run().ok().ran_on(["map 3"]);
    p.file("ref/r", "s\n");
    p.call(["plan"]).ok().answers("1 step to run, and ~3 that come of them");
    p.call(["plan", "--check"]).fails(3);
    p.run().ok();
    p.call(["plan", "--check"]).ok();
    p.call(["plan", "-B"]).ok().answers("1 step to run, and ~3 that come of them");
}

#[test]
fn a_killed_run_is_taken_up_wherever_it_was() {
    let p = project();
    for kill in ["$TASK_NAME = index", "$TASK_NAME/$INPUT_NAME = map/2"] {
        p.file("kill", "").file("ref/r", kill);
        let script = format!(
            "if [ -e kill ] && [ {kill} ]; then kill -9 $PPID; sleep 60; fi; cat $INPUT_FILE"
        );
        p.task_with("index", "inputs = [\"ref/*\"]", &format!("{script} >$OUTPUT_DIR/x"));
        p.task_with(
            "map",
            "inputs = [\"in/*\"]\nwith = [\"index\"]",
            &format!("{script} $WITH_DIR/index/x >$OUTPUT_DIR/$INPUT_NAME"),
        );
        assert!(p.run_with(["-j1"]).was_killed());
        p.remove("kill").run().ok();
        let expected = [("1", format!("1\n{kill}")), ("2", format!("2\n{kill}"))];
        assert_eq!(p.exported("map"), expected.map(|(name, text)| (name.to_owned(), text)).into());
        p.run().ok().says("nothing to do");
    }
}

/// A task that sees two outputs which are new whenever they are made; each fails while a file says so.
fn moody() -> Project {
    let p =
        Project::new().file("ref/a", "").file("ref/b", "").file("in/1", "1\n").file("round", "1\n");
    p.task_with(
        "index",
        "inputs = [\"ref/{k}\"]",
        "[ ! -e fail-$k ]; { echo $k; cat round; } >$OUTPUT_DIR/$k",
    )
    .task_with(
        "map",
        "inputs = [\"in/*\"]\nwith = [\"index\"]",
        "cat $WITH_DIR/index/* >$OUTPUT_DIR/x",
    )
    .task("end", "cp $INPUT_FILE $OUTPUT_DIR");
    p.run().ok();
    p
}

#[test]
fn what_sees_others_keeps_its_result_until_all_that_is_forced_has_come_out_new() {
    let p = moody();
    p.file("round", "2\n").file("fail-b", "");
    p.run_with(["-B", "-j1"]).fails(1).ran_on(["index a", "index b"]);
    assert_eq!(p.call(["cat", "map"]).ok().stdout, "a\n1\nb\n1\n");
    assert_eq!(p.exported_partially("end"), files([("x", "a\n1\nb\n1\n")]));
    p.call(["status"]).ok().answers("map may be out of date");
    p.call(["explain", "map"]).ok().answers("what it sees may have changed since");
    // It is out of date: one of the results that it sees is another one.
    p.run().ok().ran(["map", "end"]);
    assert_eq!(p.exported("end"), files([("x", "a\n2\nb\n1\n")]));
    p.run().ok().says("nothing to do");
    p.remove("fail-b").file("round", "3\n");
    p.run_with(["-B"]).ok().ran_on(["index a", "index b", "map 1", "end x"]);
    assert_eq!(p.exported("end"), files([("x", "a\n3\nb\n3\n")]));
    // What comes out as it was changes nothing.
    p.run_with(["-B"]).ok().ran_on(["index a", "index b", "map 1", "end x"]);
    assert_eq!(p.sql("SELECT count(*) FROM step WHERE live"), ["4"]);
    p.run().ok().says("nothing to do");
}

#[test]
fn an_uncached_task_that_comes_out_the_same_runs_nothing_that_sees_it() {
    let p = project();
    p.task_with(
        "index",
        "inputs = [\"ref/*\"]\ncache = false",
        "cat round $INPUT_FILE >$OUTPUT_DIR/x; mkdir $OUTPUT_DIR/d; echo y >$OUTPUT_DIR/d/y",
    );
    p.file("round", "1\n").run().ok().ran(["index", "map", "map"]);
    p.run().ok().ran(["index"]);
    assert_eq!(p.exported("map"), files([("1", "1\n1\nr\ny\n"), ("2", "2\n1\nr\ny\n")]));
    p.file("round", "2\n").run().ok().ran(["index", "map", "map"]);
    assert_eq!(p.exported("map"), files([("1", "1\n2\nr\ny\n"), ("2", "2\n2\nr\ny\n")]));
    p.file("round", "1\n").run().ok().ran(["index"]);
    assert_eq!(p.exported("map"), files([("1", "1\n1\nr\ny\n"), ("2", "2\n1\nr\ny\n")]));
    assert_eq!(p.sql("SELECT count(*) FROM step WHERE live"), ["3"]);
}

#[test]
fn a_failed_step_holds_what_could_see_it_and_nothing_else() {
    let p = moody();
    p.task_with("other", "inputs = [\"in/*\"]", "true").run().ok();
    p.file("fail-b", "").file("ref/b", "new").file("in/2", "2\n");
    p.run_with(["-k"])
        .fails(1)
        .ran(["index", "other"])
        .says("task map waits: 1 of 2 steps of index failed");
    p.run_with(["-k"]).fails(1).ran(["index"]);
    p.remove("fail-b").run().ok().ran_on(["index b", "map 2"]);
    p.run().ok().says("nothing to do");
}

#[test]
fn an_input_that_cannot_be_read_holds_what_could_see_what_comes_of_it() {
    let p = moody();
    std::os::unix::fs::symlink("nowhere", p.path("ref/c")).unwrap();
    p.file("in/2", "2\n").run_with(["-k"]).fails(1).ran([]).says("c` can't be read");
    p.run_with(["-k"]).fails(1).ran([]);
    p.remove("ref/c").run().ok().ran_on(["map 2"]);
    p.run().ok().says("nothing to do");
}

#[test]
fn explain_names_what_it_sees_that_changed() {
    let p = project();
    p.run().ok();
    p.file("ref/r", "s\n").run().ok();
    p.call(["explain", "map/1"])
        .ok()
        .answers("because index/x, which it sees, changed\n")
        .answers("in/1");
    p.task_with(
        "index",
        "inputs = [\"ref/*\"]",
        "echo >$OUTPUT_DIR/x; mkdir $OUTPUT_DIR/d; echo y >$OUTPUT_DIR/d/z",
    );
    p.task_with(
        "map",
        "inputs = [\"in/*\"]\nwith = [\"index\"]",
        "cat $INPUT_FILE $WITH_DIR/index/x >$OUTPUT_DIR/$INPUT_NAME",
    );
    p.run().ok();
    p.call(["explain", "map/1"])
        .ok()
        .answers("index/d/y, which it saw, is gone")
        .answers("index/d/z, which it sees, is new");
}

#[test]
fn lineage_leads_to_what_a_step_sees_and_back() {
    let p = project();
    p.run().ok();
    p.call(["lineage", "map/1"])
        .ok()
        .answers("index (r)")
        .answers("file in/1")
        .answers("file ref/r");
    p.call(["lineage", "index/r"]).ok().answers("map (1)").answers("map (2)");
    let hash = crate::harness::sha256(b"R\n");
    p.call(["lineage", &hash]).ok().answers("map (1)");
    assert_eq!(
        p.call(["lineage", "map/1", "--json"]).ok().json()["links"].as_array().unwrap().len(),
        1
    );
}

#[test]
fn graph_shows_what_is_seen_as_a_dashed_edge() {
    let p = project();
    p.run().ok();
    p.call(["graph"]).ok().answers("<- in/*  with index");
    p.call(["graph", "--format", "dot"]).ok().answers("t0 -> t1 [style=dashed];");
    p.call(["graph", "--format", "mermaid", "-manifest", "pipeline.toml"])
        .ok()
        .answers("t0 -.-> t1");
    assert_eq!(
        p.call(["graph", "--json"]).ok().json()["tasks"][1]["with"],
        serde_json::json!(["index"])
    );
}

#[test]
fn what_is_done_again_sees_what_it_saw() {
    let p = project();
    p.run().ok();
    p.call(["gc", "--grace", "0s"]).ok();
    let expected = p.exported("map");
    let hash = crate::harness::sha256(b"1\nR\ny\n");
    std::fs::remove_file(p.object(&hash)).unwrap();
    p.call(["verify"]).fails(65).answers(&hash);
    p.call(["repair"]).ok().answers("made again by step");
    // Also if what it saw has to be made again before.
    std::fs::remove_file(p.object(&hash)).unwrap();
    std::fs::remove_file(p.object(&crate::harness::sha256(b"R\n"))).unwrap();
    p.call(["repair"]).ok().answers("made again by step");
    p.call(["verify", "--data"]).ok();
    assert_eq!(p.exported("map"), expected);
    p.run().ok().says("nothing to do");
}

#[test]
fn what_a_script_does_to_what_it_sees_harms_nobody() {
    let p = project();
    p.task_with(
        "map",
        "inputs = [\"in/*\"]\nwith = [\"index\"]",
        "cat $WITH_DIR/index/x >$OUTPUT_DIR/$INPUT_NAME; sed -i s/R/spoilt/ $WITH_DIR/index/x; grep -q spoilt $WITH_DIR/index/x; rm $WITH_DIR/index/d/y; echo new >$WITH_DIR/new; [ $INPUT_NAME != 1 ] || rm -rf $WITH_DIR",
    )
    .task_with("after", "from = [\"map\"]", "[ -z \"${WITH_DIR-}\" ]; cp $INPUT_FILE $OUTPUT_DIR");
    p.file("in/3", "3\n").run_with(["-j1"]).ok();
    assert_eq!(p.exported("after"), files([("1", "R\n"), ("2", "R\n"), ("3", "R\n")]));
    assert_eq!(p.exported("index"), files([("d/y", "y\n"), ("x", "R\n")]));
}

#[test]
fn what_a_script_forces_to_change_of_what_it_sees_is_healed_and_can_be_had_as_a_copy() {
    let p = project();
    let script = "cat $WITH_DIR/index/x >$OUTPUT_DIR/$INPUT_NAME; [ $INPUT_NAME != 1 ] || { chmod u+w $WITH_DIR/index/x; echo spoilt >$WITH_DIR/index/x; }";
    p.task_with("map", "inputs = [\"in/*\"]\nwith = [\"index\"]", script);
    p.run_with(["-j1", "-k"])
        .fails(1)
        .says("a file of WITH_DIR (`index/x`) was modified, and the files in WITH_DIR are no private copies")
        .says("set input = \"copy\" in its task");
    p.call(["verify", "--data"]).ok();
    assert_eq!(p.call(["cat", "index/x"]).ok().stdout, "R\n");
    p.task_with("map", "inputs = [\"in/*\"]\nwith = [\"index\"]\ninput = \"copy\"", script);
    p.run_with(["-j1"]).ok();
    assert_eq!(p.exported("map"), files([("1", "R\n"), ("2", "R\n")]));
    p.call(["verify", "--data"]).ok();
}

#[test]
fn programs_that_are_seen_can_be_run() {
    let p = Project::new().file("in/1", "1");
    p.task_with(
        "tool",
        "from = []",
        "printf '#!/bin/sh\\necho ran\\n' >$OUTPUT_DIR/tool; chmod +x $OUTPUT_DIR/tool",
    )
    .task_with(
        "use",
        "inputs = [\"in/*\"]\nwith = [\"tool\"]",
        "$WITH_DIR/tool/tool >$OUTPUT_DIR/x",
    );
    p.run().ok();
    assert_eq!(p.exported("use"), files([("x", "ran\n")]));
}

#[test]
fn the_folder_is_called_like_the_task_so_another_name_is_another_listing() {
    let p = project();
    p.run().ok();
    p.rename("index", "other");
    p.task_with(
        "map",
        "inputs = [\"in/*\"]\nwith = [\"other\"]",
        "cat $INPUT_FILE $WITH_DIR/*/x $WITH_DIR/*/d/y >$OUTPUT_DIR/$INPUT_NAME",
    );
    p.run().ok().ran(["map", "map"]);
    p.rename("map", "renamed").run().ok().ran([]);
    // Without `with` a step is the one that it always was.
    p.task_with("renamed", "inputs = [\"in/*\"]", "cp $INPUT_FILE $OUTPUT_DIR")
        .run()
        .ok()
        .ran(["renamed", "renamed"]);
    assert_eq!(p.sql("SELECT count(*) FROM step WHERE live AND side IS NOT NULL"), ["0"]);
}

#[test]
fn a_run_that_is_killed_again_and_again_comes_to_what_a_whole_one_comes_to() {
    let p = Project::new().file("in/a_1", "a1\n").file("in/a_2", "a2\n").file("in/b_1", "b1\n");
    let task = |name: &str, keys: &str, script: &str| {
        // The runner is killed by the step of this number.
        let kill =
            "n=$(cat n); echo $((n+1)) >n; if [ $n = $(cat at) ]; then kill -9 $PPID; sleep 60; fi";
        p.task_with(name, keys, &format!("{kill}; {script} >$OUTPUT_DIR/x"));
    };
    task("index", "inputs = [\"in/{k}_{n}\"]", "cat $INPUT_FILE");
    task("group", "gather = [\"k\"]", "cat $INPUT_DIR/*");
    task("all", "from = [\"index\"]\ngather = true", "cat $INPUT_DIR/*");
    task("see", "inputs = [\"in/{k}_*\"]\nwith = [\"group\", \"all\"]", "cat $WITH_DIR/*/*");
    task("next", "with = [\"see\"]", "cat $INPUT_FILE $WITH_DIR/*/*");
    task("end", "gather = [\"k\"]\nwith = [\"all\"]", "cat $INPUT_DIR/* $WITH_DIR/*/*");
    for (round, options) in ["", "", "-B"].iter().enumerate() {
        p.file("in/a_1", format!("a1 {round}\n"));
        let mut kills = 0;
        for at in (0..).step_by(2) {
            p.file("n", "0").file("at", at.to_string());
            let ran = p.run_with(
                ["-j1"].iter().chain(options.split_whitespace().collect::<Vec<_>>().iter()),
            );
            if ran.is_ok() {
                break;
            }
            assert!(ran.was_killed());
            kills += 1;
        }
        assert!(kills > 2);
        p.run().ok();
        p.file("at", "none");
        p.call(["-manifest", "pipeline.toml", "-db", &format!("fresh{round}")]).ok();
        let living = "SELECT t.name, s.name, s.object_hash, s.side, s.labels, s.state, o.object FROM task t
            JOIN step s ON s.task = t.id AND s.live = 1 LEFT JOIN output o ON o.step = s.id ORDER BY 1, 2, 3, 4, 5";
        assert_eq!(p.sql(living), p.sql_in(&format!("fresh{round}"), living));
        p.run().ok().says("nothing to do");
    }
}

#[test]
fn a_forced_step_that_sees_others_runs_once_whatever_runs_anew_above_it() {
    let p = moody();
    p.task_with("count", "inputs = [\"on/*\"]", "{ cat $INPUT_FILE; cat round; } >$OUTPUT_DIR/c")
        .task_with(
            "both",
            "with = [\"index\"]",
            "cat $INPUT_FILE $WITH_DIR/index/* >$OUTPUT_DIR/$INPUT_NAME",
        );
    p.file("on/1", "1\n").file("on/2", "2\n").run().ok();
    for round in ["2\n", "2\n", "3\n"] {
        p.file("round", round);
        for jobs in ["-j1", "-j4"] {
            p.run_with(["-B", jobs]).ok().ran_on([
                "index a", "index b", "map 1", "end x", "count 1", "count 2", "both c", "both c",
            ]);
            assert_eq!(
                p.call(["status", "--json"]).ok().json()["out_of_date"],
                serde_json::json!([])
            );
            p.run().ok().says("nothing to do");
        }
    }
    // One of both ways fails: what stands is told to be out of date, and the next run cures it.
    p.file("round", "4\n").file("fail-b", "").run_with(["-B", "-k", "-j1"]).fails(1);
    p.run().ok().says_nothing_of("nothing to do");
    p.remove("fail-b").run().ok().says("nothing to do");
    let seen = p.sql("SELECT count(*) FROM step WHERE live AND state = 1");
    assert_eq!(seen, ["8"]);
}

#[test]
fn what_fails_elsewhere_makes_no_doubt_of_what_is_seen() {
    let p = Project::new().file("in/a_1", "a1").file("in/a_2", "a2").file("in/b_1", "b1");
    p.task_with("index", "inputs = [\"in/{k}_{n}\"]", "cp $INPUT_FILE $OUTPUT_DIR/$n")
        .task_with("group", "gather = [\"k\"]", "cat $INPUT_DIR/* >$OUTPUT_DIR/x")
        .task_with("all", "from = [\"index\"]\ngather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/x")
        .task_with(
            "map",
            "inputs = [\"in/{k}_{n}\"]\nwith = [\"group\", \"all\"]",
            "cat $WITH_DIR/*/x >$OUTPUT_DIR/$INPUT_NAME",
        )
        .task_with("other", "from = []\ninputs = [\"in/a_1\"]", "exit 3");
    p.run_with(["-k"]).fails(1);
    p.call(["plan"]).ok().answers("1 step to run\n").answers("1 failed last time");
    p.run_with(["-k"]).fails(1).ran(["other"]).says_nothing_of("no longer needed");
    p.file("in/a_3", "a3").run_with(["-k"]).fails(1);
    p.call(["plan"]).ok().answers("1 step to run\n");
    let a = p.sql("SELECT count(DISTINCT side) FROM step WHERE live = 1");
    assert_eq!(a, ["2"]);
}

#[test]
fn a_large_file_that_is_seen_is_guarded_like_a_large_input() {
    let p = Project::new().file("in/1", "1");
    p.task_with("index", "from = []", "head -c 17000000 /dev/zero >$OUTPUT_DIR/x").task_with(
        "map",
        "inputs = [\"in/*\"]\nwith = [\"index\"]",
        "wc -c <$WITH_DIR/index/x >$OUTPUT_DIR/n; [ ! -e bad ] || { chmod u+w $WITH_DIR/index/x; echo >>$WITH_DIR/index/x; }",
    );
    p.run().ok();
    assert_eq!(p.call(["cat", "map"]).ok().stdout.trim(), "17000000");
    // A file system with clones gives private copies of any size.
    let ran = p.file("bad", "").run_with(["-B"]);
    assert!(ran.is_ok() || ran.stderr.contains("a file of WITH_DIR (`index/x`) was modified"));
    p.call(["verify", "--data"]).ok();
    assert_eq!(p.call(["cat", "index"]).ok().stdout.len(), 17_000_000);
}

#[test]
fn it_goes_with_a_table_whose_columns_choose_what_a_row_sees() {
    let p = Project::new().file("ref/hg.fa", "human\n").file("ref/mm.fa", "mouse\n");
    p.file("samples.csv", "sample,genome\nA,hg\nB,mm\nC,none\n");
    p.task_with("index", "inputs = [\"ref/{genome}.fa\"]", "cp $INPUT_FILE $OUTPUT_DIR/x")
        .task_with(
            "map",
            "table = \"samples.csv\"\nwith = [\"index\"]",
            "{ echo $sample; cat $WITH_DIR/index/x; } >$OUTPUT_DIR/$sample",
        );
    p.run().ok().ran(["index", "index", "map", "map"]).says("task map: 1 input has no step");
    assert_eq!(p.exported("map"), files([("A", "A\nhuman\n"), ("B", "B\nmouse\n")]));
    p.run().ok().says("nothing to do");
    p.file("ref/hg.fa", "HUMAN\n").run().ok().ran(["index", "map"]);
    p.file("samples.csv", "sample,genome\nA,hg\nB,hg\n");
    p.call(["plan"]).ok().answers("1 step to run\n");
    p.run().ok().ran(["map"]);
    assert_eq!(p.exported("map"), files([("A", "A\nHUMAN\n"), ("B", "B\nHUMAN\n")]));
    p.file("ref/hg.fa", "human\n").file("samples.csv", "sample,genome\nA,hg\nB,mm\n");
    p.run().ok().ran([]);
    assert_eq!(p.exported("map"), files([("A", "A\nhuman\n"), ("B", "B\nmouse\n")]));
}

#[test]
fn after_a_complete_run_no_task_that_gathers_and_sees_is_out_of_date() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    let all = "find -L $INPUT_DIR $WITH_DIR -type f -exec cat {} + | sort >$OUTPUT_DIR/x";
    p.task_with("i", "inputs = [\"in/*\"]", "cp $INPUT_FILE $OUTPUT_DIR")
        .task_with("a", "inputs = [\"in/*\"]", "cp $INPUT_FILE $OUTPUT_DIR")
        .task_with("b", "from = [\"a\"]\ngather = true\nwith = [\"i\"]", all)
        .task_with("c", "from = [\"b\"]\ngather = true\nwith = [\"a\"]", all)
        .task_with("d", "from = [\"b\", \"c\"]\ngather = true\nwith = [\"c\"]", all);
    let is_settled = || {
        p.call(["plan", "--check"]).ok().answers("0 steps to run");
        let status = p.call(["status", "--json"]).ok().json();
        assert_eq!(status["out_of_date"], serde_json::json!([]));
        p.run().ok().says("nothing to do");
    };
    p.run().ok().ran(["i", "i", "a", "a", "b", "c", "d"]);
    is_settled();
    p.file("in/2", "3\n").run().ok().ran(["i", "a", "b", "c", "d"]);
    is_settled();
    // A run that ends before it comes to them leaves them for the next one.
    p.task_with("i", "inputs = [\"in/*\"]", "[ ! -e fail ]; tr 1 4 <$INPUT_FILE >$OUTPUT_DIR/x");
    p.file("fail", "").run_with(["-k"]).fails(1).ran(["i", "i"]);
    p.call(["plan", "--check"]).fails(3);
    p.remove("fail").run().ok().ran(["i", "i", "b", "c", "d"]);
    is_settled();
    p.run_with(["-B"]).ok().ran(["i", "i", "a", "a", "b", "c", "d"]);
    is_settled();
}

/// Groups `m` of what `a` makes, which see what `index` makes; where there is a file `fail-K`, the steps of `a` with the
/// label K fail.
fn grouped() -> Project {
    let p = Project::new().file("ref/r", "").file("round", "1\n");
    for k in ["A", "B", "C"] {
        p.file(format!("in/{k}"), format!("{k}\n"));
    }
    p.task_with("index", "inputs = [\"ref/*\"]", "cat round >$OUTPUT_DIR/x")
        .task_with("a", "inputs = [\"in/{k}\"]", "[ ! -e fail-$k ]; cp $INPUT_FILE $OUTPUT_DIR")
        .task_with(
            "m",
            "gather = [\"k\"]\nwith = [\"index\"]",
            "cat $INPUT_DIR/* $WITH_DIR/index/x >$OUTPUT_DIR/$k",
        )
}

#[test]
fn what_fails_in_a_forced_run_keeps_no_other_group_that_sees_others_from_running() {
    let p = grouped().file("fail-C", "");
    p.run_with(["-k"]).fails(1).ran_on(["index r", "a A", "a B", "a C", "m A", "m B"]);
    let forced = ["index r", "a A", "a B", "a C", "m A", "m B"];
    for round in ["1\n", "2\n", "3\n"] {
        p.file("round", round).run_with(["-k", "-B"]).fails(1).ran_on(forced);
        let made = [("A", format!("A\n{round}")), ("B", format!("B\n{round}"))];
        let made = made.each_ref().map(|(k, made)| (*k, made.as_str()));
        assert_eq!(p.exported_partially("m"), files(made));
    }
    p.run_with(["-k"]).fails(1).ran_on(["a C"]);
    p.remove("fail-C").run().ok().ran_on(["a C", "m C"]);
    p.call(["plan", "--check"]).ok();
    p.run().ok().says("nothing to do");
}

#[test]
fn a_group_that_sees_others_keeps_its_result_where_a_forced_run_fails_before_it() {
    let p = grouped();
    p.run().ok();
    let before = p.exported("m");
    // What it gathers is not made anew, and then nothing is.
    p.file("fail-B", "")
        .run_with(["-k", "-B"])
        .fails(1)
        .ran_on(["index r", "a A", "a B", "a C", "m A", "m C"]);
    assert_eq!(p.exported("m"), before);
    p.file("fail-A", "").file("fail-C", "").run_with(["-B", "-j1"]).fails(1);
    assert_eq!(p.exported("m"), before);
    // One that sees something else now waits for the next run.
    p.file("round", "2\n").run_with(["-k", "-B"]).fails(1).ran_on(["index r", "a A", "a B", "a C"]);
    assert_eq!(p.exported_partially("m"), before);
    p.call(["status"]).ok().answers("m may be out of date");
    p.run().ok().ran_on(["m A", "m B", "m C"]);
    assert_eq!(p.exported("m"), files([("A", "A\n2\n"), ("B", "B\n2\n"), ("C", "C\n2\n")]));
    p.run().ok().says("nothing to do");
}
