//! The pipelines in `fixtures` that users are to copy from.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Project, Ran, contents};

const PAGE: &str = include_str!("../../fixtures/README.md");

/// A copy of one of the fixtures.
fn copy(name: &str) -> Project {
    let p = Project::new();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    for entry in walkdir::WalkDir::new(&from).into_iter().map(Result::unwrap) {
        let to = p.path(entry.path().strip_prefix(&from).unwrap().to_str().unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(to).unwrap();
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
    p
}

fn edit(p: &Project, file: &str, from: &str, to: &str) {
    let text = p.read(file);
    assert!(text.contains(from), "{file}: {text}");
    p.file(file, text.replace(from, to));
}

#[test]
fn a_sample_sheet_with_an_index_runs_what_a_change_of_it_affects_and_nothing_more() {
    let p = copy("reads");
    p.run().ok().says("total 7 steps: 7 done");
    assert_eq!(p.read("results/hits.tsv"), "A\t4\nB\t2\n");
    assert_eq!(p.read("results/B/B.hits"), "4 r2/B_1_r2.txt:1\n22 r1/B_1_r1.txt:1\n");
    // A row: its own step, its sample's, and the table.
    p.file("samples.csv", p.read("samples.csv") + "B,2,reads/A_1_r1.txt,reads/A_1_r2.txt\n");
    p.run().ok().says("8 done (5 reused)");
    assert_eq!(p.read("results/hits.tsv"), "A\t4\nB\t5\n");
    // Files that are read change: only what they belong to.
    p.file("reads/A_2_r2.txt", "ACATTTGACC\n").run().ok().says("8 done (5 reused)");
    assert_eq!(p.read("results/hits.tsv"), "A\t5\nB\t5\n");
    // Another index of the same content runs nothing below it, one of other content all that see it.
    edit(&p, "pipeline.toml", "# Each word of eight letters", "# Words of eight letters");
    p.run().ok().says("8 done (7 reused)");
    p.file("ref/genome.txt", p.read("ref/genome.txt") + "GATTACATTT\n").run().ok().says("8 done");
    p.file("samples.csv", "sample,lane,r1,r2\nB,1,reads/B_1_r1.txt,reads/B_1_r2.txt\n");
    p.run().ok();
    assert_eq!(p.read("results/hits.tsv"), "B\t2\n");
    assert!(!p.path("results/A").exists());
}

#[test]
fn a_sweep_has_the_best_of_each_set_and_runs_only_what_is_new_of_it() {
    let p = copy("sweep");
    p.run().ok().says("total 17 steps: 17 done");
    let best = p.read("results/best.txt");
    assert_eq!(
        best,
        "flat 0.000000 0.500 rate=0.1 start=0\nsteep 0.000000 2.000 rate=0.1 start=0\n"
    );
    assert_eq!(contents(&p.path("results/flat")).len(), 1);
    // One more rate is one more fit for each set and start, and nothing below changes.
    edit(&p, "pipeline.toml", "\"0.001\"]", "\"0.001\", \"0.0001\"]");
    p.call(["plan"]).ok().answers("4 steps to run");
    p.run().ok().says("0 failed");
    assert_eq!(p.read("results/best.txt"), best);
    assert_eq!(p.call(["cat", "fit[set=steep,rate=0.1,start=0]"]).ok().stdout.lines().count(), 1);
    // A param of `fit` reruns the fits; without it their results come back.
    p.run_with(["-P", "rounds=1"]).ok();
    assert_ne!(p.read("results/best.txt"), best);
    p.run().ok();
    assert_eq!(p.read("results/best.txt"), best);
}

/// The sources that a run has compiled.
fn compiled(ran: &Ran) -> BTreeSet<String> {
    let source = |line: &str| {
        let (_, behind) = line.split_once(" compile (")?;
        let (source, how) = behind.split_once("): ")?;
        how.starts_with("done, 1 output").then(|| source.to_owned())
    };
    ran.stderr.lines().filter_map(source).collect()
}

/// What make has compiled, beside it.
fn compiled_by_make(p: &Project) -> BTreeSet<String> {
    let make = Command::new("make").arg("check").current_dir(p.root()).output().unwrap();
    let (said, wrong) = (String::from_utf8(make.stdout).unwrap(), make.stderr);
    assert!(make.status.success(), "{said}{}", String::from_utf8_lossy(&wrong));
    let source = |line: &str| {
        let (_, behind) = line.split_once(" -c src/")?;
        Some(behind.split(' ').next()?.to_owned())
    };
    said.lines().filter_map(source).collect()
}

#[test]
fn a_program_in_c_is_compiled_again_as_make_does_it_but_by_content_and_with_history() {
    let p = copy("c");
    let all = compiled(&p.run().ok().says("total 12 steps: 12 done"));
    assert_eq!(all.len(), 10);
    assert_eq!(p.call(["cat", "test"]).ok().stdout, "174 tests, 0 failed\n");
    assert_eq!(compiled_by_make(&p), all);
    p.run().ok().says("nothing to do: 12 steps up to date");
    let headers: Vec<String> =
        contents(&p.path("src")).into_keys().filter(|name| name.ends_with(".h")).collect();
    assert_eq!(headers.len(), 10);
    for header in headers {
        let name = format!("src/{header}");
        let (before, built) = (p.read(&name), contents(&p.path("build")));
        p.file(&name, format!("{before}/* A comment changes no object. */\n"));
        let run = p.run().ok();
        let again = compiled(&run);
        assert_eq!(again, compiled_by_make(&p), "{header}");
        assert!(!again.is_empty(), "{header}");
        // Neither linked nor tested.
        run.says(&format!("total 12 steps: 12 done ({} reused)", 12 - again.len()));
        assert_eq!(contents(&p.path("build")), built);
        p.file(&name, before);
        let back = p.run().ok().says("nothing to do: 12 steps up to date");
        assert!(compiled(&back).is_empty(), "{header}");
        // make compiles all of it once more.
        assert_eq!(compiled_by_make(&p), again, "{header}");
    }
    // What does change objects is linked and tested.
    edit(&p, "src/config.h", "FIRST_BUCKETS 8", "FIRST_BUCKETS 4");
    p.run().ok().says("12 done (6 reused)");
    p.call(["explain", "compile/vars.c"]).ok().answers("because src/config.h changed");
    assert_eq!(p.call(["cat", "test"]).ok().stdout, "94 tests, 0 failed\n");
}

/// The system's Python: a wrapper on the PATH may take longer to start than the interpreter. `None` says so.
fn with_python(p: Project) -> Option<Project> {
    let python = "/usr/bin/python3";
    if !Path::new(python).exists() {
        eprintln!("SKIPPED: there is no {python}");
        return None;
    }
    edit(&p, "pipeline.toml", "#!/usr/bin/env python3", &format!("#!{python}"));
    Some(p)
}

/// Starts of scripts that steps of a task shared, and all that were made.
fn starts(p: &Project, task: &str) -> (usize, usize) {
    let of = format!(
        "FROM attempt a JOIN step s ON s.id = a.step JOIN task t ON t.id = s.task WHERE t.name = '{task}'"
    );
    let count = |what: &str| p.sql(&format!("SELECT {what} {of}"))[0].parse().unwrap();
    let shared = count("count(DISTINCT a.run || ' ' || a.batch)");
    (shared, shared + count("count(*) - count(a.batch)"))
}

#[test]
fn a_batch_in_python_pays_its_imports_once_for_a_hundred_mails_and_comes_to_the_same() {
    let Some(p) = with_python(copy("mails")) else { return };
    p.run_with(["-j2", "-P", "mails=2000"]).ok().says("total 2002 steps: 2002 done");
    let (shared, all) = starts(&p, "invoice");
    assert!(shared == all && (20..=24).contains(&all), "{shared} of {all}");
    let sums = p.read("results/sums.txt");
    // The same mails one by one: the same keys, the same results.
    p.remove("results/sums.txt");
    let run = |p: &Project| {
        p.run_with(["-j2", "-P", "mails=50"]).ok();
        let step = "SELECT s.name, s.key, lower(hex(o.object)) FROM step s JOIN task t ON t.id = s.task
                    JOIN output o ON o.step = s.id WHERE s.live = 1 AND t.name = 'invoice' ORDER BY 1";
        p.sql(step)
    };
    let together = run(&p);
    assert_eq!((together.len(), starts(&p, "invoice").1), (50, all), "fewer of the same mails ran");
    let Some(alone) = with_python(copy("mails")) else { return };
    edit(&alone, "pipeline.toml", "batch  = 100", "batch  = 1");
    assert_eq!(run(&alone), together);
    assert_eq!(starts(&alone, "invoice"), (0, 50));
    assert_ne!(sums, alone.read("results/sums.txt"));
}

#[test]
fn a_mail_that_is_broken_fails_by_itself_and_one_that_kills_the_script_is_found() {
    let Some(p) = with_python(copy("mails")) else { return };
    edit(&p, "pipeline.toml", "\"net\": \"%s.%02d\"", "\"net\": \"%s.%s\"");
    let some = "\"$((n % 100))\" > \"$OUTPUT_DIR/$n.eml\"";
    edit(
        &p,
        "pipeline.toml",
        some,
        "\"$([ $n = 7 ] && echo x || echo 5)\" > \"$OUTPUT_DIR/$n.eml\"",
    );
    let ran = p.run_with(["-j2", "-k", "-P", "mails=60"]).fails(1);
    ran.says("(7.eml): failed: the script says: InvalidOperation:").says("60 done, 1 failed");
    assert_eq!(starts(&p, "invoice"), (2, 2));
    edit(
        &p,
        "pipeline.toml",
        "    try:\n",
        "    if step[\"name\"] == \"9.eml\": os.abort()\n    try:\n",
    );
    let ran = p.run_with(["-j2", "-k", "-P", "mails=60"]).fails(1);
    ran.says("(9.eml): killed by signal 6 (SIGABRT)").says("59 done (1 reused), 2 failed");
    // Both batches once more, and the mails of one of them by themselves.
    let (shared, all) = starts(&p, "invoice");
    assert!(shared == 4 && all == 4 + 30, "{shared} of {all}");
}

#[test]
fn the_page_for_newcomers_shows_a_pipeline_that_runs() {
    let from = PAGE.find("```toml\n").unwrap() + "```toml\n".len();
    let manifest = &PAGE[from..from + PAGE[from..].find("```").unwrap()];
    let p = Project::new().manifest(manifest);
    p.file("reads/A_1.txt", "x\ny\n").file("reads/A_2.txt", "x\n").file("reads/B_1.txt", "x\n");
    p.run().ok();
    assert_eq!(p.read("results/table.txt"), "A 3\nB 1\n");
}
