//! `report`: the page is correct, well-formed and small, and no name can break it. `tests/browser/report.py` checks
//! how it looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rusqlite::Connection;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::harness::{Project, WAIT_FOR_GO};

const ELEMENTS: &str = "a b body br caption code dd details div dl dt figcaption figure footer h1 h2 h3 head header html img li main meta \
    nav p pre script section small span style summary table tbody td th thead title tr ul \
    circle defs g line path pattern rect svg symbol text use";
const VOID: [&str; 3] = ["meta", "br", "img"];
const ATTRIBUTES: &str = "alt aria-hidden aria-label aria-labelledby charset class content cx cy d fill height href \
    hidden http-equiv id lang name open overflow patternTransform patternUnits preserveAspectRatio r role rx scope src \
    tabindex text-anchor transform type viewBox width x x1 x2 y y2";

/// The texts of a page. Fails unless the page is well-formed and contains nothing that runs but the script that its policy
/// allows by hash, or that loads or styles anything from elsewhere.
#[track_caller]
fn texts(page: &str) -> String {
    let rest = page.strip_prefix("<!DOCTYPE html>\n").expect("a doctype");
    let (mut rest, mut open, mut texts, mut ids) =
        (rest, Vec::new(), String::new(), BTreeSet::new());
    let mut scripts = Vec::new();
    let known = |list: &str, word: &str| list.split_whitespace().any(|known| known == word);
    while let Some(at) = rest.find('<') {
        match open.last() {
            Some(&"style") => {}
            Some(&"script") => {
                // What is within is no markup: it ends with the end of the element and nothing else.
                let end = rest.find("</script>").expect("an end of the script");
                scripts.push(&rest[..end]);
                rest = &rest[end..];
                open.pop();
                rest = rest.strip_prefix("</script>").unwrap();
                continue;
            }
            _ => texts += &plain(&rest[..at]),
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
        let is_script = matches!(tag, "script" | "script type=\"application/json\" id=\"data\"");
        assert!(name != "script" || is_script, "<{tag}>");
        let mut attributes = parts.next().unwrap_or_default().trim();
        while !attributes.is_empty() {
            let end = attributes.find(['=', ' ']).unwrap_or(attributes.len());
            let (key, after) = attributes.split_at(end);
            assert!(known(ATTRIBUTES, key) || key.starts_with("data-"), "`{key}` in <{tag}>");
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
            assert!(key != "src" || name == "img" && value.starts_with("data:image/"), "<{tag}>");
            assert!(key != "id" || ids.insert(value), "two elements are `{value}`");
        }
        if !is_closed && !VOID.contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    let [_, script] = scripts[..] else { panic!("{} scripts", scripts.len()) };
    let hash = base64(&Sha256::digest(script));
    assert!(page.contains(&format!(
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{hash}'; base-uri"
    )));
    assert!(!page.contains("url(http") && !page.contains("@import"));
    let odd = page.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
    assert_eq!(odd, None);
    texts
}

/// Bytes in Base64, by another way than the program's: bit by bit.
fn base64(bytes: &[u8]) -> String {
    let digits: Vec<char> =
        ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(['+', '/']).collect();
    let bits: Vec<usize> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |n| usize::from(byte >> n & 1)))
        .collect();
    let digit = |six: &[usize]| {
        let value = six.iter().fold(0, |value, bit| value * 2 + bit);
        digits[value << (6 - six.len())]
    };
    let mut text: String = bits.chunks(6).map(digit).collect();
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

/// The data that the page's script is given.
#[track_caller]
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let (json, _) = rest.split_once("</script>").unwrap();
    assert!(!json.contains('<'), "{json}");
    serde_json::from_str(json).unwrap()
}

/// One column of the steps in the data, by step.
#[track_caller]
fn column(data: &Value, name: &str) -> BTreeMap<i64, Value> {
    let at = data["columns"].as_array().unwrap().iter().position(|known| known == name).unwrap();
    let rows = data["steps"].as_array().unwrap();
    rows.iter().map(|row| (row[0].as_i64().unwrap(), row[at].clone())).collect()
}

/// The same of a column of texts.
#[track_caller]
fn text_column(data: &Value, name: &str) -> BTreeMap<i64, String> {
    let text = |number: Value| {
        data["texts"][number.as_u64().unwrap() as usize].as_str().unwrap().to_owned()
    };
    column(data, name).into_iter().map(|(step, number)| (step, text(number))).collect()
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
    let data = data(&page);
    let inputs: Vec<String> = column(&data, "input")
        .into_values()
        .map(|input| input.as_str().unwrap().to_owned())
        .collect();
    assert!(inputs.iter().any(|input| input.starts_with("<script>alert('x')<!--")), "{inputs:?}");
    assert!(
        data["logs"][0].as_str().unwrap().starts_with("</pre></style><script>"),
        "{}",
        data["logs"]
    );
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
    // The data has all 5,005 steps; what is drawn doesn't grow with them.
    let (drawn, rest) = page.split_once("<script type").unwrap();
    let (listed, rest) = rest.split_once("</script>").unwrap();
    let drawn = drawn.len() + rest.len();
    assert!(drawn < 300_000, "{drawn} bytes after {}", few.len());
    assert!(listed.len() < 5005 * 120, "{} bytes of data", listed.len());
    assert_eq!(data(&page)["steps"].as_array().unwrap().len(), 5005);
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

#[test]
fn the_data_of_a_report_tells_of_each_step_what_explain_lineage_and_log_do() {
    let p = with_a_failure();
    let data = data(&report(&p));
    assert_eq!((&data["all"], &data["cut"]), (&json!(5), &json!(false)));
    let id = |words: &str| {
        p.call(["explain", words, "--json"]).ok().json()["of_step"]["step"].as_i64().unwrap()
    };
    let of_task = |task: i64| {
        let steps = column(&data, "task").into_iter().filter(move |(_, of)| *of == task);
        steps.map(|(step, _)| step).collect::<Vec<_>>()
    };
    let (a, failed, fine) = (of_task(0)[0], id("b/part-3"), id("b/part-2"));
    let (why, outcome) = (text_column(&data, "why"), text_column(&data, "outcome"));
    for step in [a, failed, fine] {
        let explained = p.call(["explain", &step.to_string(), "--json"]).ok().json();
        assert_eq!(why[&step], explained["sentence"].as_str().unwrap(), "step {step}");
    }
    assert_eq!((&*outcome[&failed], &*outcome[&fine]), ("exit code 7", ""));
    let more = column(&data, "more");
    let ids = |value: &Value| {
        let mut ids: Vec<i64> =
            value[0].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        ids.sort_unstable();
        (ids, value[1].as_u64().unwrap())
    };
    assert_eq!(ids(&more[&failed]["up"]), (vec![a], 1));
    assert_eq!(ids(&more[&a]["down"]), (of_task(1), 4));
    assert_eq!(more[&fine]["in"], json!([[["part-2", 2]], 1]));
    assert_eq!(more[&fine]["out"], json!([[["part-2", 2]], 1]));
    assert_eq!(more[&failed]["out"], Value::Null);
    let log = column(&data, "log")[&failed].as_u64().unwrap() as usize;
    let lines: Vec<String> = (11..=30).map(|n| n.to_string()).collect();
    assert_eq!(data["logs"][log - 2], lines.join("\n"));
    assert_eq!(column(&data, "log")[&a], 0);
}

#[test]
fn the_data_of_a_report_names_the_file_that_a_step_works_on_and_the_values_of_labels() {
    let p = Project::new().file("in/A.txt", "1").file("in/B.txt", "22");
    p.task_with(
        "a",
        "inputs = [\"in/{sample}.txt\"]",
        "[ $sample = A ]; cp $INPUT_FILE $OUTPUT_DIR/x",
    )
    .task_with("all", "gather = true", "true");
    p.run_with(["-k"]).fails(1);
    let data = data(&report(&p));
    let labels = column(&data, "labels");
    let step = |sample: &str| {
        let of = |(step, labels): (&i64, &Value)| (labels["sample"] == sample).then_some(*step);
        labels.iter().find_map(of).unwrap()
    };
    let more = column(&data, "more");
    assert_eq!(more[&step("A")]["in"], json!([[["in/A.txt", 1]], 1]));
    assert_eq!(more[&step("B")]["in"], json!([[["in/B.txt", 2]], 1]));
    assert_eq!(data["groups"], json!({"sample": [[["A", 1, 0, 0], ["B", 0, 1, 0]], 0]}));
}

#[test]
fn the_script_of_the_page_ends_where_its_element_does() {
    let script = include_str!("../../src/report/script.js");
    assert!(!script.contains("</script") && !script.contains("<!--"));
    // Nothing that makes markup, or code, of text.
    for door in [
        "innerHTML",
        "outerHTML",
        "insertAdjacent",
        "document.write",
        "eval",
        "Function(",
        "DOMParser",
        "srcdoc",
    ] {
        assert!(!script.contains(door), "{door}");
    }
}

#[test]
fn a_report_is_called_what_its_manifest_says_or_else_as_its_folder() {
    let p = Project::new().task("a", "true");
    p.run().ok();
    let folder = p.root().file_name().unwrap().to_string_lossy().into_owned();
    let title = |p: &Project| {
        let page = report(p);
        let (_, rest) = page.split_once("<h1>").unwrap();
        plain(rest.split_once("</h1>").unwrap().0)
    };
    assert_eq!(title(&p), folder);
    // Also if nothing else has changed, and nothing is run.
    p.file("pipeline.toml", format!("title = \"<b>Words & numbers\"\n{}", p.read("pipeline.toml")));
    p.run().ok();
    assert_eq!(title(&p), "<b>Words & numbers");
    p.file("pipeline.toml", p.read("pipeline.toml").split_once('\n').unwrap().1);
    p.run().ok();
    assert_eq!(title(&p), folder);
}

/// Outputs of one step: pictures, tables, texts, and what none of it is.
const RESULTS: &str = r#"cd "$OUTPUT_DIR"
printf '\211PNG\r\n\032\n123' > a.png
printf '\377\330\377\340' > b.jpg
echo '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>' > c.svg
printf 'name,"n, m"\n</td><script>,2\nb,-10.5\n' > d.csv
printf 'x\ty\n1\t2\n' > e.tsv
printf '{"a":[1,"<b>"]}' > f.json
printf 'first\n</pre><!--\n' > g.txt
printf 'a\0b' > h.bin
: > i.txt
seq 500 > j.txt
head -c 70000 /dev/zero | tr '\0' 'x' > k.txt
{ echo n; seq 300; } > l.csv
{ printf '\211PNG\r\n\032\n'; head -c 2200000 /dev/zero; } > m.png
"#;

#[test]
fn outputs_of_tasks_that_say_so_are_in_the_report() {
    let p = Project::new()
        .task_with("plots", "report = true", RESULTS)
        .task("quiet", "echo no > $OUTPUT_DIR/quiet.txt");
    p.run().ok();
    let page = report(&p);
    let told = texts(&page);
    let image =
        |media: &str, bytes: &[u8]| format!("src=\"data:image/{media};base64,{}\"", base64(bytes));
    for (media, bytes) in [
        ("png", &b"\x89PNG\r\n\x1a\n123"[..]),
        ("jpeg", b"\xff\xd8\xff\xe0"),
        ("svg+xml", b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>\n"),
    ] {
        assert!(page.contains(&image(media, bytes)), "{media}");
    }
    assert_eq!(page.matches("<img ").count(), 3);
    assert!(page.contains("<th scope=\"col\">name</th><th scope=\"col\" class=\"n\">n, m</th>"));
    assert!(page.contains("<td>&lt;/td&gt;&lt;script&gt;</td><td class=\"n\">2</td>"));
    assert!(page.contains("<td class=\"n\">1</td><td class=\"n\">2</td>"));
    for text in [
        "{\n  \"a\": [\n    1,\n    \"<b>\"\n  ]\n}",
        "first\n</pre><!--\n",
        "neither a picture that the page can show nor text",
        "It is empty.",
        "399\n400\n",
        "The first 200 rows",
        "The picture is too large for the page",
    ] {
        assert!(told.contains(text), "{text:?} is not in\n{told}");
    }
    assert!(!told.contains("\n401\n") && !page.contains("<b class=\"path\">quiet.txt"), "{told}");
    // What is said to be left out can be had as it is said: of j, k, l, m and h.
    let left_out: Vec<&str> =
        page.match_indices("task-pipeline cat ").map(|(at, _)| &page[at..]).collect();
    assert_eq!(left_out.len(), 5);
    for command in left_out {
        let hash = command.split_whitespace().nth(2).unwrap().split('<').next().unwrap();
        assert!(!p.call(["cat", hash]).ok().stdout.is_empty());
    }
    // A switch more or less runs nothing, and the next report has it.
    p.file("pipeline.toml", p.read("pipeline.toml").replace("report = true", "report = false"));
    p.run().ok().ran([]);
    assert!(!report(&p).contains("<img"));
}

#[test]
fn a_result_that_is_gone_is_told_in_its_place() {
    let p = Project::new().task_with("plots", "report = true", "echo 1 > $OUTPUT_DIR/x.txt");
    p.run().ok();
    fs::remove_dir_all(p.path("db/objects")).unwrap();
    fs::create_dir(p.path("db/objects")).unwrap();
    assert!(texts(&report(&p)).contains("is damaged"));
}

#[test]
fn a_run_writes_its_report_at_the_end_also_if_it_failed() {
    let p = Project::new().task("a", "exit 3");
    p.run_with(["--report", "page.html"]).fails(1);
    assert!(texts(&p.read("page.html")).contains("1 of 1 step failed"));
    p.task("a", "true").run_with(["--report", "page.html"]).ok();
    assert!(texts(&p.read("page.html")).contains("1 step, all done"));
    // Also if there was nothing to do.
    p.remove("page.html").run_with(["--report", "page.html"]).ok().says("nothing to do");
    assert!(texts(&p.read("page.html")).contains("1 step, all done"));
    let run = p.run_with(["-q", "--report", "-"]).ok();
    assert!(texts(&run.stdout).contains("1 step, all done"));
}

#[test]
fn a_run_overwrites_nothing_with_its_report_and_finds_out_before_it_begins() {
    let p = Project::new().task("a", "true").file("mine.html", "mine").file("folder/x", "");
    p.run_with(["--report", "mine.html"])
        .fails(2)
        .says("is not a page of `report`")
        .says("--report FILE");
    p.run_with(["--report", "folder"]).fails(2).says("is a folder");
    p.run_with(["--report", "nowhere/page.html"]).fails(74).says("nowhere");
    assert_eq!(p.read("mine.html"), "mine");
    assert!(!p.path("db").exists());
    p.run_with(["--report", "mine.html", "--force"]).ok();
    texts(&p.read("mine.html"));
    p.run_with(["--report", "db/page.html"]).fails(2).says("--report FILE");
    p.run_with(["-n", "--report", "other.html"]).fails(2).says("--report");
    p.run_with(["--events", "x", "--report", "x"]).fails(2).says("share a file");
    // A run that never began says nothing about the one before.
    p.remove("mine.html").file("pipeline.toml", "nonsense");
    p.run_with(["--report", "mine.html"]).fails(2);
    assert!(!p.path("mine.html").exists());
}

#[test]
fn a_run_that_is_told_to_stop_writes_its_report() {
    let p = Project::new().task("a", "touch begun; sleep 60");
    let run = p.run_cmd(["--report", "page.html"]).start();
    crate::harness::wait_for("the script", || p.path("begun").exists());
    run.signal(rustix::process::Signal::INT);
    run.end().dies_of(rustix::process::Signal::INT);
    assert!(texts(&p.read("page.html")).contains("0 of 1 step done"));
}

#[test]
fn what_took_long_besides_scripts_is_in_the_timeline() {
    let p = Project::new()
        .task("many", "i=0; while [ $i -lt 1500 ]; do : > $OUTPUT_DIR/$i; i=$((i + 1)); done")
        .task_with("all", "gather = true", "true");
    p.run().ok();
    assert_eq!(p.sql("SELECT count(*) FROM meta WHERE key = 'overheads'"), ["1"]);
    // How long it takes is up to the machine, so here it is said to have been long.
    let started = &p.sql("SELECT started_ms FROM attempt WHERE step = 2")[0];
    let overhead = format!(
        "{{\"step\":2,\"worker\":1,\"before_ms\":700,\"started_ms\":{started},\"script_ended_ms\":{started},\"after_ms\":0}}"
    );
    let db = Connection::open(p.path("db/db")).unwrap();
    db.execute("UPDATE meta SET value = ?1 WHERE key = 'overheads'", [format!("[1,[{overhead}]]")])
        .unwrap();
    let told = texts(&report(&p));
    assert!(told.contains("inputs of step 2 laid out in 700 ms"), "{told}");
    assert!(told.contains("before a script: inputs laid out; after it: outputs kept"), "{told}");
}

#[test]
fn a_task_is_shown_with_what_the_manifest_says_of_it_and_of_variables_only_their_names() {
    let p =
        Project::new().file("in/A.txt", "1\n").file("words", "the\n").top("[params]\nseed = 42");
    p.task_with(
        "a",
        "inputs = [\"in/{sample}.txt\"]\noutputs = [\"*.out\"]\nparams = [\"seed\"]\nenv = { KEY = \"hidden-1\" }\n\
         env_from = [\"TOKEN\"]\nclean_env = true\nfiles = [\"words\"]",
        "echo >$OUTPUT_DIR/x.out",
    );
    p.task_with("all", "gather = true\nmatch = [\"*.out\"]\noutputs = []", "true");
    p.run_cmd([""; 0]).env("TOKEN", "hidden-2").go().ok();
    let page = report(&p);
    for (key, value) in [
        ("inputs", "in/{sample}.txt"),
        ("outputs", "*.out"),
        ("params", "seed = 42"),
        ("env", "KEY"),
        ("env_from", "TOKEN"),
        ("clean_env", "yes"),
        ("files", "words"),
        ("from", "a"),
        ("gather", "yes"),
        ("match", "*.out"),
        ("outputs", "may be none"),
    ] {
        let said = format!("<dt>{key}</dt><dd class=\"path\">{value}</dd>");
        assert!(page.contains(&said), "{said}");
    }
    assert!(!page.contains("hidden-"), "{page}");
}
