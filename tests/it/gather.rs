//! Section 4: one step over everything.

use crate::harness::{Project, files, sha256};

#[test]
fn one_step_works_on_all_outputs_together() {
    let p = Project::new()
        .task("a", "for n in 3 1 2; do echo $n >$OUTPUT_DIR/$n; done")
        .task("b", "echo b$(cat $INPUT_FILE) >$OUTPUT_DIR/$INPUT_NAME")
        .task_with("all", "gather = true", "xargs cat <$INPUT_FILE >$OUTPUT_DIR/all");
    p.run().ok().ran(["a", "b", "b", "b", "all"]);
    assert_eq!(p.exported("all"), files([("all", "b1\nb2\nb3\n")]));
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn inputs_lie_in_input_dir_under_their_names_and_in_order_in_the_list() {
    let p = Project::new()
        .task("a", "mkdir $OUTPUT_DIR/sub; echo 1 >$OUTPUT_DIR/z; echo 2 >$OUTPUT_DIR/sub/y")
        .task_with(
            "all",
            "gather = true",
            "sed \"s,^$INPUT_DIR/,,\" $INPUT_FILE >$OUTPUT_DIR/list\ncat $INPUT_DIR/sub/y $INPUT_DIR/z >$OUTPUT_DIR/content\n\
             (cd $INPUT_DIR; find . -type f | sort) >$OUTPUT_DIR/found",
        );
    p.run().ok();
    let expected = [("list", "sub/y\nz\n"), ("content", "2\n1\n"), ("found", "./sub/y\n./z\n")];
    assert_eq!(p.exported("all"), files(expected));
}

#[test]
fn the_second_of_one_name_is_called_name_2() {
    let p = Project::new()
        .file("in/a", "a\n")
        .file("in/b", "b\n")
        .file("in/c", "c\n")
        .task_with("each", "inputs = [\"in/*\"]", "cp $INPUT_FILE $OUTPUT_DIR/x")
        .task_with(
            "all",
            "gather = true",
            "cd $INPUT_DIR; ls >$OUTPUT_DIR/names; cat x x~2 x~3 >$OUTPUT_DIR/content; wc -l <$INPUT_FILE >$OUTPUT_DIR/count",
        );
    p.run().ok();
    let got = p.exported("all");
    assert_eq!(got["names"], "x\nx~2\nx~3\n");
    assert_eq!(got["count"].trim(), "3");
    let mut content: Vec<&str> = got["content"].lines().collect();
    content.sort_unstable();
    assert_eq!(content, ["a", "b", "c"]);
    // By where they come from: an edit of one swaps none.
    p.file("in/b", "other\n").run().ok().ran(["each", "all"]);
    assert_eq!(p.exported("all")["content"], got["content"].replace("b\n", "other\n"));
}

#[test]
fn the_outputs_of_several_tasks_lie_in_a_folder_for_each() {
    let p = Project::new()
        .task_with("a", "from = []", "echo a >$OUTPUT_DIR/x")
        .task_with("b", "from = []", "mkdir $OUTPUT_DIR/d; echo b >$OUTPUT_DIR/d/x")
        .task_with(
            "all",
            "from = [\"b\", \"a\"]\ngather = true",
            "cat $INPUT_DIR/a/x $INPUT_DIR/b/d/x >$OUTPUT_DIR/content\n\
             sed \"s,^$INPUT_DIR/,,\" $INPUT_FILE >$OUTPUT_DIR/list",
        );
    p.run().ok().ran(["a", "b", "all"]);
    assert_eq!(p.exported("all"), files([("content", "a\nb\n"), ("list", "a/x\nb/d/x\n")]));
}

#[test]
fn equal_content_of_two_producers_is_there_twice() {
    let p = Project::new()
        .file("in/a", "same\n")
        .file("in/b", "same\n")
        .task_with("each", "inputs = [\"in/*\"]", "cp $INPUT_FILE $OUTPUT_DIR/x")
        .task_with("all", "gather = true", "ls $INPUT_DIR >$OUTPUT_DIR/names");
    p.run().ok();
    assert_eq!(p.exported("all"), files([("names", "x\nx~2\n")]));
}

#[test]
fn the_object_of_a_gather_step_is_a_listing_that_sha256sum_checks() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/one; echo 2 >$OUTPUT_DIR/two").task_with(
        "all",
        "gather = true",
        "true",
    );
    p.run().ok();
    let hash =
        p.sql("SELECT object_hash FROM step WHERE task = (SELECT id FROM task WHERE name = 'all')");
    let listing = p.call(["cat", &hash[0]]).ok().stdout;
    let expected = format!("{}  one\n{}  two\n", sha256(b"1\n"), sha256(b"2\n"));
    assert_eq!(listing, expected);
    assert_eq!(sha256(listing.as_bytes()), hash[0]);
    let links = "SELECT count(*) FROM step_link WHERE to_step_id = (SELECT max(id) FROM step)";
    assert_eq!(p.sql(links), ["1"]);
}

#[test]
fn match_chooses_what_is_gathered() {
    let p = Project::new()
        .task("a", "echo 1 >$OUTPUT_DIR/x.txt; echo 2 >$OUTPUT_DIR/y.bin")
        .task_with("all", "gather = true\nmatch = [\"*.txt\"]", "ls $INPUT_DIR >$OUTPUT_DIR/names");
    p.run().ok();
    assert_eq!(p.exported("all"), files([("names", "x.txt\n")]));
}

#[test]
fn where_nothing_is_to_be_gathered_no_step_runs() {
    let p = Project::new()
        .task("a", "true")
        .task_with("all", "gather = true", "true")
        .task("after", "true");
    p.run().ok().ran(["a"]);
    p.run().ok().ran([]).says("nothing to do");
}

#[test]
fn gather_may_follow_gather_and_feed_others() {
    let p = Project::new()
        .task("a", "echo 1 >$OUTPUT_DIR/x; echo 2 >$OUTPUT_DIR/y")
        .task_with("sum", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/sum")
        .task("lines", "wc -l <$INPUT_FILE | tr -d ' ' >$OUTPUT_DIR/lines")
        .task_with(
            "end",
            "from = [\"sum\", \"lines\"]\ngather = true",
            "cat $INPUT_DIR/lines/lines $INPUT_DIR/sum/sum >$OUTPUT_DIR/end",
        );
    p.run().ok().ran(["a", "sum", "lines", "end"]);
    assert_eq!(p.exported("end"), files([("end", "2\n1\n2\n")]));
    p.run().ok().ran([]);
}

#[test]
fn a_gather_step_runs_again_only_if_what_it_gathers_changed() {
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n");
    p.task_with(
        "each",
        "inputs = [\"in/*\"]",
        "wc -c <$INPUT_FILE | tr -d ' ' >$OUTPUT_DIR/$INPUT_NAME",
    )
    .task_with("all", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    p.run().ok().ran(["each", "each", "all"]);
    p.file("in/1", "9\n").run().ok().ran_on(["each 1"]);
    p.file("in/1", "99\n").run().ok().ran_on(["each 1", "all"]);
    p.file("in/3", "3\n").run().ok().ran_on(["each 3", "all"]);
    assert_eq!(p.exported("all"), files([("all", "3\n2\n2\n")]));
    p.remove("in/3").run().ok().ran([]);
    assert_eq!(p.exported("all"), files([("all", "3\n2\n")]));
}

#[test]
fn an_input_of_gather_that_a_script_forces_to_change_is_healed_and_can_be_had_as_a_copy() {
    let p = Project::new()
        .task("a", "echo 1 >$OUTPUT_DIR/x; echo 2 >$OUTPUT_DIR/y")
        .task_with(
            "spoil",
            "from = [\"a\"]\ngather = true",
            "chmod u+w $INPUT_DIR/x; echo spoilt >$INPUT_DIR/x; rm -rf $INPUT_DIR; rm $INPUT_FILE",
        )
        .task_with("after", "from = [\"a\"]", "cat $INPUT_FILE >$OUTPUT_DIR/$INPUT_NAME");
    p.run_with(["-j1", "-k"])
        .fails(1)
        .says("an input (`x`) was modified, and the inputs of a gather are no private copies")
        .says("set input = \"copy\" in its task");
    p.call(["verify", "--data"]).ok();
    assert_eq!(p.call(["cat", "a/x"]).ok().stdout, "1\n");
    p.task_with(
        "spoil",
        "from = [\"a\"]\ngather = true\ninput = \"copy\"",
        "echo spoilt >$INPUT_DIR/x; rm -rf $INPUT_DIR; rm $INPUT_FILE",
    );
    p.run_with(["-j1"]).ok();
    assert_eq!(p.exported("after"), files([("x", "1\n"), ("y", "2\n")]));
    p.call(["verify", "--data"]).ok();
}

#[test]
fn a_gather_that_writes_to_its_inputs_is_told_that_they_were_links() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x").task_with(
        "all",
        "gather = true",
        "gzip $INPUT_DIR/x; cat $INPUT_DIR/x.gz >$OUTPUT_DIR/x.gz",
    );
    p.run().fails(1).says("its inputs were read-only links").says("input = \"copy\"");
    p.task_with(
        "all",
        "gather = true\ninput = \"copy\"",
        "gzip $INPUT_DIR/x; gzip -dc $INPUT_DIR/x.gz >$OUTPUT_DIR/x",
    );
    p.run().ok();
    assert_eq!(p.exported("all"), files([("x", "1\n")]));
}

#[test]
fn executable_inputs_of_gather_stay_so() {
    let p = Project::new()
        .task("a", "printf '#!/bin/sh\\necho ran\\n' >$OUTPUT_DIR/tool; chmod +x $OUTPUT_DIR/tool; echo 1 >$OUTPUT_DIR/data")
        .task_with("all", "gather = true", "$INPUT_DIR/tool >$OUTPUT_DIR/x; [ ! -x $INPUT_DIR/data ]");
    p.run().ok();
    assert_eq!(p.exported("all"), files([("x", "ran\n")]));
}

#[test]
fn with_gather_empty_there_is_a_step_over_nothing_too() {
    let p = Project::new().file("in/a", "bad\n");
    p.task_with(
        "check",
        "inputs = [\"in/*\"]",
        "! grep -q bad $INPUT_FILE || cp $INPUT_FILE $OUTPUT_DIR/x",
    );
    let report = "wc -l <$INPUT_FILE >$OUTPUT_DIR/report; ls $INPUT_DIR >>$OUTPUT_DIR/report";
    let with = |keys: &str| p.task_with("report", &format!("gather = true\n{keys}"), report);
    with("gather_empty = true").run().ok().ran(["check", "report"]);
    assert_eq!(p.call(["cat", "report"]).ok().stdout, "1\nx\n");
    p.file("in/a", "good\n");
    p.call(["plan"]).ok().answers("when all that it gathers is done");
    p.run().ok().ran(["check", "report"]);
    assert_eq!(p.call(["cat", "report"]).ok().stdout, "0\n");
    p.run().ok().says("nothing to do");
    // Over something again, and back: both results are there.
    p.file("in/a", "bad\n").run().ok().ran([]);
    p.remove("in/a").run().ok().ran([]);
    assert_eq!(p.call(["cat", "report"]).ok().stdout, "0\n");
    // It is no part of the recipe: only whether there is a step.
    with("").run().ok().ran([]).says("1 no longer needed");
    p.call(["plan", "--check"]).ok();
    with("gather_empty = true");
    p.call(["plan"]).ok().answers("~1");
    p.run().ok().ran([]);
    assert_eq!(p.call(["cat", "report"]).ok().stdout, "0\n");
}

#[test]
fn what_gathers_nothing_is_made_again_by_repair() {
    let p = Project::new().file("in/a", "");
    p.task_with("check", "inputs = [\"in/*\"]", "true");
    p.task_with("report", "gather = true\ngather_empty = true", "echo none >$OUTPUT_DIR/report");
    p.run().ok();
    let hash = p.sql("SELECT lower(hex(object)) FROM output").remove(0);
    std::fs::remove_file(p.object(&hash)).unwrap();
    p.call(["repair"]).ok().answers("made again by step");
    p.run().ok().ran([]);
}

const LINK: &str = "for f in $INPUT_DIR/*; do echo $(basename $f) $(cat $f); done >$OUTPUT_DIR/all";

/// A task that gathers files on disk.
fn linked(keys: &str) -> Project {
    let p = Project::new().file("src/a.o", "1").file("src/b.o", "2").file("src/c.tmp", "3");
    p.task_with("link", &format!("gather = true\n{keys}"), LINK)
}

#[test]
fn files_on_disk_can_be_gathered_too() {
    let p = linked("inputs = [\"src/*\", \"!src/*.tmp\"]");
    p.call(["plan"]).ok().answers("1 step to run").answers("1 new");
    p.run().ok().ran_on(["link"]);
    assert_eq!(p.call(["cat", "link"]).ok().stdout, "a.o 1\nb.o 2\n");
    p.run().ok().says("nothing to do");
    let listing = format!("{}  a.o\n{}  b.o\n", sha256(b"1"), sha256(b"2"));
    assert_eq!(p.sql("SELECT object_hash FROM step WHERE live"), [sha256(listing.as_bytes())]);
    // Whatever changes about them, there is one step, and an undone change costs nothing.
    p.file("src/a.o", "one").run().ok().ran(["link"]);
    p.file("src/a.o", "1").file("src/d.o", "4");
    p.call(["plan"]).ok().answers("1 step to run").answers("1 input changed");
    p.run().ok().ran(["link"]);
    assert_eq!(p.call(["cat", "link"]).ok().stdout, "a.o 1\nb.o 2\nd.o 4\n");
    p.remove("src/d.o");
    p.call(["plan"]).ok().answers("0 steps to run");
    p.run().ok().ran([]);
    p.file("src/c.tmp", "new").run().ok().says("nothing to do");
    assert_eq!(p.sql("SELECT count(*) FROM step WHERE live"), ["1"]);
    p.run_with(["-B"]).ok().ran(["link"]);
}

#[test]
fn what_comes_of_gathered_files_feeds_others_like_any_output() {
    let p = linked("inputs = [\"src/*.o\"]").file("in/x", "x");
    p.task("sort", "sort -r $INPUT_FILE >$OUTPUT_DIR/sorted");
    p.task_with("other", "inputs = [\"in/*\"]", "cp $INPUT_FILE $OUTPUT_DIR/x");
    p.task_with(
        "end",
        "from = [\"sort\", \"other\"]\ngather = true",
        "find $INPUT_DIR -type f | sort -r | xargs cat >$OUTPUT_DIR/end",
    );
    p.run().ok().ran(["link", "sort", "other", "end"]);
    assert_eq!(p.call(["cat", "end"]).ok().stdout, "b.o 2\na.o 1\nx");
    p.file("src/b.o", "9").run().ok().ran(["link", "sort", "end"]);
    assert_eq!(p.call(["cat", "end"]).ok().stdout, "b.o 9\na.o 1\nx");
    // None left, and some again: what gathers the rest notices both.
    std::fs::remove_dir_all(p.path("src")).unwrap();
    p.run().ok().ran(["end"]);
    assert_eq!(p.call(["cat", "end"]).ok().stdout, "x");
    p.file("src/a.o", "1").file("src/b.o", "9").run().ok().ran([]);
    assert_eq!(p.call(["cat", "end"]).ok().stdout, "b.o 9\na.o 1\nx");
}

#[test]
fn no_files_are_gathered_only_with_gather_empty() {
    let p = Project::new().task_with(
        "link",
        "gather = true\ninputs = [\"none/*\"]",
        "ls $INPUT_DIR >$OUTPUT_DIR/x",
    );
    p.run().ok().ran([]).says("matches no file");
    p.task_with(
        "link",
        "gather = true\ngather_empty = true\ninputs = [\"none/*\"]",
        "ls $INPUT_DIR >$OUTPUT_DIR/x",
    );
    p.run().ok().ran(["link"]);
    assert_eq!(p.call(["cat", "link"]).ok().stdout, "");
    p.file("none/a", "").run().ok().ran(["link"]);
    assert_eq!(p.call(["cat", "link"]).ok().stdout, "a\n");
}

#[test]
fn explain_and_lineage_name_the_files_that_were_gathered() {
    let p = linked("inputs = [\"src/*.o\"]");
    p.run().ok();
    p.call(["explain", "link/"])
        .ok()
        .answers("from the file src/a.o")
        .answers("from the file src/b.o");
    p.call(["lineage", "link/"]).ok().answers("file src/a.o").answers("file src/b.o");
    p.call(["lineage", &sha256(b"1")]).ok().answers("link");
    p.call(["graph"]).ok().answers("<- gathers src/*.o");
    p.file("src/a.o", "one").run().ok();
    p.call(["explain", "link/"]).ok().answers("because its input changed");
}

#[test]
fn damage_of_gathered_files_is_found_and_repaired() {
    let p = linked("inputs = [\"src/*.o\"]");
    super::harness::chmod(&p.path("src/b.o"), 0o755);
    p.task_with(
        "link",
        "gather = true\ninputs = [\"src/*.o\"]",
        &format!("{LINK}; ls -l $INPUT_DIR | grep -c x.*b.o >$OUTPUT_DIR/x"),
    );
    p.run().ok();
    p.call(["gc", "--grace", "0s"]).ok();
    let object = |hash: &str| p.object(hash);
    // One of the files, which is read again from its place.
    std::fs::remove_file(object(&sha256(b"1"))).unwrap();
    p.call(["verify"]).fails(65).answers(&sha256(b"1"));
    p.call(["repair"]).ok().answers("read again from src/a.o");
    // The output, for which the script runs again on what the listing says.
    let output = p.sql("SELECT lower(hex(object)) FROM output WHERE name = 'x'").remove(0);
    std::fs::remove_file(object(&output)).unwrap();
    p.call(["repair"]).ok().answers("made again by step");
    // The listing itself.
    let listing = p.sql("SELECT object_hash FROM step WHERE live").remove(0);
    std::fs::remove_file(object(&listing)).unwrap();
    p.call(["repair"]).ok().answers("listed again");
    p.call(["verify", "--data"]).ok();
    assert_eq!(p.sql("SELECT count(*) FROM step WHERE live AND state = 1"), ["1"]);
    p.run().ok().says("nothing to do");
}

#[test]
fn a_gather_over_files_of_which_one_cannot_be_read_does_not_run() {
    let p = linked("inputs = [\"src/*.o\"]").file("in/x", "x");
    p.task_with("other", "inputs = [\"in/*\"]", "true");
    std::os::unix::fs::symlink("nowhere", p.path("src/c.o")).unwrap();
    p.run().fails(1).ran([]).says("c.o` can't be read");
    p.run_with(["-k"]).fails(1).ran(["other"]).says("c.o` can't be read");
    p.remove("src/c.o").run().ok().ran(["link"]);
}

#[test]
fn files_on_disk_are_gathered_by_the_labels_that_their_names_give() {
    let p = Project::new();
    for name in ["A_1", "A_2", "B_1"] {
        p.file(format!("reads/{name}.fq"), format!("{name}\n"));
    }
    p.task_with(
        "merge",
        "inputs = [\"reads/{sample}_{lane}.fq\"]\ngather = [\"sample\"]",
        "echo $sample $INPUT_NAME $(cat $INPUT_DIR/*) >$OUTPUT_DIR/$sample",
    );
    p.call(["plan"]).ok().answers("2 steps to run");
    p.run().ok().ran(["merge", "merge"]);
    p.call(["export", "merge", "--to", "out"]).ok();
    assert_eq!(p.read("out/A"), "A A A_1 A_2\n");
    assert_eq!(p.read("out/B"), "B B B_1\n");
    // Each answer names the files of the group, and a file the group that it is in.
    let files = |what: &str| p.call(["lineage", what, "--json"]).ok().json()["steps"][0].clone();
    assert_eq!(files("merge/B")["files"], serde_json::json!(["reads/B_1.fq"]));
    assert_eq!(files("reads/B_1.fq")["step"], files("merge/B")["step"]);
    let of_file = p.call(["lineage", "reads/B_1.fq", "--json"]).ok().json();
    assert_eq!(of_file["used_by"], serde_json::json!([files("merge/B")["step"]]));
    assert!(
        !p.call(["explain", "merge/B"]).ok().answers("reads/B_1.fq").stdout.contains("reads/A")
    );
    // A file belongs to one group, and only that one is made again.
    p.file("reads/B_2.fq", "B_2\n").run().ok().ran(["merge"]);
    p.call(["export", "merge", "--to", "out"]).ok();
    assert_eq!(p.read("out/B"), "B B B_1 B_2\n");
    p.remove("reads/A_1.fq");
    p.remove("reads/A_2.fq");
    p.run().ok().ran([]);
    assert_eq!(p.sql("SELECT labels FROM step WHERE live"), ["{\"sample\":\"B\"}"]);
    p.task_with("merge", "inputs = [\"reads/{sample}_*.fq\"]\ngather = [\"lane\"]", "true");
    p.run().fails(2).says("the `inputs` have no label `lane` to gather by");
}

#[test]
fn a_file_that_cannot_be_read_holds_only_the_group_of_files_that_its_name_says() {
    let p = Project::new().file("reads/A_1.fq", "1").file("reads/B_1.fq", "1");
    p.task_with(
        "merge",
        "inputs = [\"reads/{sample}_{lane}.fq\"]\ngather = [\"sample\"]",
        "cat $INPUT_DIR/* >$OUTPUT_DIR/$sample",
    );
    std::os::unix::fs::symlink("nowhere", p.path("reads/A_2.fq")).unwrap();
    p.run_with(["-k"]).fails(1).ran_on(["merge B"]).says("A_2.fq` can't be read");
    p.file("reads/B_1.fq", "2").run_with(["-k"]).fails(1).ran_on(["merge B"]);
    p.remove("reads/A_2.fq").run().ok().ran_on(["merge A"]);
    p.run().ok().says("nothing to do");
}

#[test]
fn a_list_of_paths_is_refused_where_the_database_has_a_line_break_in_its_own() {
    let p = Project::new().file("in/1", "1\n");
    p.task_with("a", "inputs = [\"in/*\"]", "cp \"$INPUT_FILE\" \"$OUTPUT_DIR/x\"");
    p.run_with(["-db", "a\nb"]).ok();
    p.task_with("all", "gather = true", "cat $INPUT_DIR/* >$OUTPUT_DIR/all");
    p.run_with(["-db", "a\nb"]).fails(2).ran([]).says("has a line break").says("--db");
}
