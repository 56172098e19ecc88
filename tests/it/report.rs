//! `report`: the page is correct, well-formed and small, and no name can break it. `tests/browser/report.py` checks
//! how it looks.

use std::collections::BTreeSet;
use std::fs;

use rusqlite::Connection;

use crate::harness::{Project, WAIT_FOR_GO};

const ELEMENTS: &str = "a b body br caption code dd details div dl dt footer h1 h2 h3 head header html li main meta \
    nav p pre section small span style summary table tbody td th thead title tr ul \
    circle defs g line path pattern rect svg symbol text use";
const VOID: [&str; 2] = ["meta", "br"];
const ATTRIBUTES: &str = "aria-hidden aria-label aria-labelledby charset class content cx cy d fill height href \
    http-equiv id lang name open overflow patternTransform patternUnits preserveAspectRatio r role rx scope \
    tabindex text-anchor transform viewBox width x x1 x2 y y2";

/// The texts of a page. Fails unless the page is well-formed and contains nothing that runs, or loads or styles
/// anything from elsewhere.
#[track_caller]
fn texts(page: &str) -> String {
    let rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    let (mut rest, mut open, mut texts, mut ids) =
        (rest, Vec::new(), String::new(), BTreeSet::new());
    let known = |list: &str, word: &str| list.split_whitespace().any(|known| known == word);
    while let Some(at) = rest.find('<') {
        if open.last() != Some(&"style") {
            texts += &plain(&rest[..at]);
        }
        let (tag, after) = rest[at + 1..].split_once('>').expect("an end of the tag");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "…{}", &texts[texts.len().saturating_sub(200)..]);
            continue;
        }
        let is_closed = tag.ends_with('/');
        let mut parts = tag.trim_end_matches('/').splitn(2, ' ');
        let name = parts.next().unwrap();
        assert!(known(ELEMENTS, name), "<{tag}>");
        let mut attributes = parts.next().unwrap_or_default().trim();
        while !attributes.is_empty() {
            let end = attributes.find(['=', ' ']).unwrap_or(attributes.len());
            let (key, after) = attributes.split_at(end);
            assert!(known(ATTRIBUTES, key), "`{key}` in <{tag}>");
            let value = match after.strip_prefix("=\"") {
                Some(after) => {
                    let (value, after) = after.split_once('"').expect("an end of the value");
                    attributes = after.trim_start();
                    value
                }
                None => {
                    attributes = after.trim_start();
                    ""
                }
            };
            assert!(key != "href" || value.starts_with('#'), "<{tag}>");
            assert!(key != "id" || ids.insert(value), "two elements are `{value}`");
        }
        if !is_closed && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    assert!(page.contains("content=\"default-src 'none'; style-src 'unsafe-inline'"));
    assert!(!page.contains("url(http") && !page.contains("@import"));
    let odd = page.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
    assert_eq!(odd, None);
    texts
}

/// Escaped text, unescaped.
fn plain(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&#39;", "'").replace("&amp;", "&")
}

#[track_caller]
fn report(p: &Project) -> String {
    let page = p.call(["report", "-o", "-"]).ok().stdout;
    texts(&page);
    page
}

/// Four steps of `a` feed `b`; one of those of `b` fails.
fn with_a_failure() -> Project {
    let p = Project::new()
        .task("a", "for i in 1 2 3 4; do echo $i > $OUTPUT_DIR/part-$i; done")
        .task("b", "seq 30; [ $INPUT_NAME != part-3 ] || exit 7; cp $INPUT_FILE $OUTPUT_DIR/")
        .task_with("c", "gather = true", "true");
    p.run_with(["-k"]).fails(1);
    p
}

#[test]
fn a_report_tells_where_things_stand_and_why_a_step_failed() {
    let p = with_a_failure();
    let page = report(&p);
    let told = texts(&page);
    for text in [
        "pipeline.toml",
        "1 of 6 steps failed, 1 left",
        "part-3",
        "exit code 7",
        "\n11\n",
        "\n30\n",
        "5 attempts of run 1 by worker",
        "0 done, 0 failed, 1 left; gathers",
        "SQLite",
        "Linux ",
        "batch",
        &p.path("db").canonicalize().unwrap().display().to_string(),
    ] {
        assert!(told.contains(text), "{text:?} is not in\n{told}");
    }
    // The last 20 lines of the log and no more.
    assert!(!told.contains("\n10\n") && told.contains("b part-3: step"), "{told}");
    assert!(page.contains("<dt>Steps reused</dt><dd>0</dd>"));
    p.task("b", "cp $INPUT_FILE $OUTPUT_DIR/").task("c", "true").run().ok();
    p.task("d", "true").run().ok();
    let told = texts(&report(&p));
    assert!(told.contains("9 steps, all done"), "{told}");
    assert!(!told.contains("Failures"), "{told}");
}

#[test]
fn no_name_and_no_log_breaks_the_page() {
    let odd = "<script>alert('x')<!-- \"&amp; \u{1b}[31m \u{202e}]]>";
    let p = Project::new().task_with(
        "odd",
        "inputs = ['data/*']",
        "echo \"</pre></style><script>\"; cat \"$INPUT_FILE\"; ln -s / \"$OUTPUT_DIR/</title><b a='\"; exit 0",
    );
    p.file(format!("data/{odd}"), odd)
        .file("data/\\\"><img onerror=1 src=x>", "\x00\x07\r\x1b]0;title\x07");
    fs::rename(p.path("pipeline.toml"), p.path("<b title=\"'>.toml")).unwrap();
    p.call(["-manifest", "<b title=\"'>.toml", "-db", "d\"<i>&", "-k"]).fails(1);
    let page = p.call(["report", "-db", "d\"<i>&", "-o", "-"]).ok().stdout;
    let told = texts(&page);
    for text in [
        "<b title=\"'>.toml",
        "d\"<i>&",
        "<script>alert('x')<!-- \"&amp; \\x1b[31m \\xe2\\x80\\xae]]>",
        "\\\\\"><img onerror=1 src=x>",
        "</pre></style><script>",
        "</title><b a='",
        "\\u{0}\\u{7}\\r\\u{1b}]0;title\\u{7}",
    ] {
        assert!(told.contains(text), "{text:?} is not in\n{told}");
    }
}

#[test]
fn a_report_of_many_steps_is_small_and_still_exact() {
    let p = with_a_failure();
    let few = report(&p);
    let db = Connection::open(p.path("db/db")).unwrap();
    db.execute_batch(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 5000)
         INSERT INTO step(id, object, task, recipe, name, key, executable, live, state)
           SELECT 100 + n, object, task, recipe, 'copy ' || n, key + n, 0, 1, CASE WHEN n % 50 THEN 1 ELSE 2 END
           FROM n JOIN step ON id = 2 - n % 2;
         INSERT INTO attempt(step, number, run, outcome, code, started_ms, wall_us, user_us, system_us, peak_kib, worker)
           SELECT s.id, 1, r.id, CASE s.state WHEN 1 THEN 'ok' ELSE 'exit' END, s.id % 100, r.started_ms + s.id, 1000000 + s.id,
             10, 10, 1024, 1 + s.id % 300
           FROM step s JOIN run r WHERE s.id > 100;",
    )
    .unwrap();
    let page = report(&p);
    assert!(page.len() < 300_000, "{} bytes after {}", page.len(), few.len());
    let told = texts(&page);
    for text in [
        "101 of 5,006 steps failed, 1 left",
        "5,005 attempts of run 1",
        "30 of 101",
        "22 more",
        "Workers 1–13",
        "copy 4999",
        "The higher, the busier",
    ] {
        assert!(told.contains(text), "{text:?} is not in\n{told}");
    }
}

#[test]
fn a_report_replaces_its_file_at_once_or_not_at_all() {
    let p = with_a_failure().file("out/report.html", "old");
    p.call(["report"]).ok();
    assert_eq!(p.call(["report", "-o", "out/report.html", "--force"]).ok().stdout, "");
    texts(&p.read("report.html"));
    texts(&p.read("out/report.html"));
    p.call(["report", "-o", "out"]).fails(74).says("out");
    p.call(["report", "-o", "nowhere/report.html"]).fails(74).says("nowhere");
    p.call(["report", "-o", ".."]).fails(2).says("no file");
    p.call(["report", "-o", "/dev/null"]).ok();
    assert_eq!(fs::read_dir(p.path("out")).unwrap().count(), 1);
    let rest = fs::read_dir(p.root()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!rest.into_iter().any(|name| name.to_string_lossy().contains("partial")));
}

#[test]
fn a_report_changes_nothing_and_works_during_a_run() {
    let p = Project::new()
        .task("first", "echo 1 > $OUTPUT_DIR/x")
        .task("second", &format!("touch waiting; {WAIT_FOR_GO}"));
    let run = p.run_cmd([""; 0]).start();
    crate::harness::wait_for("the second step", || p.path("waiting").exists());
    let told = texts(&report(&p));
    assert!(told.contains("1 of 2 steps done, 1 left; the run is under way"), "{told}");
    p.file("go", "");
    run.end().ok();
    let before = fs::read(p.path("db/db")).unwrap();
    report(&p);
    assert_eq!(fs::read(p.path("db/db")).unwrap(), before);
}

#[test]
fn a_report_of_nothing_says_so() {
    let p = Project::new().task("a", "true");
    p.call(["report"]).fails(2).says("there is no database in `./db`");
    assert!(!p.path("report.html").exists() && !p.path("db").exists());
    p.run().ok();
    let db = Connection::open(p.path("db/db")).unwrap();
    db.execute_batch("DELETE FROM attempt; DELETE FROM output; DELETE FROM step; DELETE FROM task; DELETE FROM run")
        .unwrap();
    let told = texts(&report(&p));
    assert!(told.contains("Nothing has been run on this database yet"), "{told}");
    assert!(
        told.contains("No step is done yet") && told.contains("No manifest has been run"),
        "{told}"
    );
}

#[test]
fn a_log_that_is_gone_is_told_in_its_place() {
    let p = with_a_failure();
    for shard in fs::read_dir(p.path("db/objects")).unwrap() {
        fs::remove_dir_all(shard.unwrap().path()).unwrap();
    }
    let told = texts(&report(&p));
    assert!(told.contains("is damaged") && told.contains("exit code 7"), "{told}");
}
