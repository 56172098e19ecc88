//! Scripts and progress where standard error is a terminal. `script` of util-linux provides one.

use std::process::{Command, Output, Stdio};

use crate::harness::{Project, sha256};

/// Runs the program in the project's folder, on a terminal of its own. What the terminal shows is the standard
/// output, and is in the file `typescript` while the program runs.
fn on_a_terminal(p: &Project, args: &str) -> Output {
    on_a_terminal_with(p, "", args)
}

/// The same, after a shell command `before`.
fn on_a_terminal_with(p: &Project, before: &str, args: &str) -> Output {
    let command = format!("{before} {} {args}", env!("CARGO_BIN_EXE_task-pipeline"));
    let mut script = Command::new("timeout");
    script.args(["60", "script", "-qefc", &command, "typescript"]).current_dir(p.root());
    script.env("TERM", "xterm").env("COLUMNS", "100").stdin(Stdio::null()).output().unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_bar_is_drawn_and_what_matters_stays() {
    let p = Project::new();
    for n in 0..30 {
        p.file(format!("in/{n}"), n.to_string());
    }
    p.task_with(
        "a",
        "inputs = [\"in/*\"]",
        "echo 1 >$OUTPUT_DIR/$INPUT_NAME; [ $INPUT_NAME != 29 ]",
    );
    let output = on_a_terminal_with(&p, "NO_COLOR=1", "-k");
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("\u{1b}[") && text.contains("/30"), "no bar:\n{text}");
    assert!(
        text.contains("(29): failed: exit code 1") && text.contains("total 30 steps: 29 done"),
        "{text}"
    );
    assert!(!text.contains("(7): done"), "a line per step beside the bar:\n{text}");
}

#[test]
fn verbose_keeps_the_bar_and_has_a_line_for_each_step_above_it() {
    let p = Project::new().task("a", "echo said; echo 1 >$OUTPUT_DIR/x");
    let text = shown(&on_a_terminal_with(&p, "NO_COLOR=1", "-v"));
    assert!(text.contains("\u{1b}[K") && text.contains("/1  "), "no bar:\n{text}");
    assert!(text.contains("step 1 a: done") && text.contains("| said"), "{text}");
    assert!(text.contains("registered a"), "{text}");
    let text = shown(&on_a_terminal_with(&p, "NO_COLOR=1", "-B"));
    assert!(!text.contains("registered"), "the bar names the tasks:\n{text}");
}

#[test]
fn how_progress_is_shown_can_be_chosen_anywhere() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x").task("b", "true");
    let plain = shown(&on_a_terminal_with(&p, "NO_COLOR=1", "--progress plain"));
    assert!(plain.contains("[1/2] step 1 a: done") && !plain.contains('\u{1b}'), "{plain:?}");
    let none = p.run_with(["-B", "--progress", "none"]).ok();
    none.says("to run: ").says("total 2 steps: 2 done").says_nothing_of("step 1 a");
    let bar = p.run_with(["-B", "--progress=bar"]).ok();
    bar.says("\u{1b}[K").says(" elapsed").says_nothing_of("step 1 a");
    p.run_with(["-B", "--progress", "bar", "-q"]).ok().says_nothing_of("total");
    p.run_with(["--progress", "dots"]).fails(2).says("--progress");
}

#[test]
fn answers_have_colours_where_they_are_wanted() {
    let p = Project::new().task("good", "true").task_with("bad", "from = []", "exit 1");
    p.run_with(["-k"]).fails(1);
    let asked = ["status", "plan", "graph", "explain 1", "lineage 2"];
    for question in asked {
        let on = shown(&on_a_terminal(&p, question));
        assert!(on.contains("\u{1b}["), "{question}: {on:?}");
        for never in ["--color never", "--color=never"] {
            let off = shown(&on_a_terminal(&p, &format!("{question} {never}")));
            assert!(!off.contains('\u{1b}'), "{question}: {off:?}");
        }
        let off = shown(&on_a_terminal_with(&p, "NO_COLOR=1", question));
        assert!(!off.contains('\u{1b}'), "{question}: {off:?}");
        let words = || question.split(' ');
        assert!(!p.call(words()).ok().stdout.contains('\u{1b}'), "{question}");
        assert!(p.call(words().chain(["--color", "always"])).ok().stdout.contains('\u{1b}'));
        let forced = p.cmd(words()).env("CLICOLOR_FORCE", "1").go().ok();
        assert!(forced.stdout.contains('\u{1b}'), "{question}");
    }
}

#[test]
fn tables_are_no_wider_than_the_terminal_and_have_no_empty_columns() {
    let p = Project::new();
    let long = "a-task-with-a-name-that-is-nearly-as-long-as-names-may-be-0123";
    p.task(long, "echo 1 >$OUTPUT_DIR/x").task("short", "exit 1");
    p.run().fails(1);
    p.task(long, "echo 2 >$OUTPUT_DIR/x").run().fails(1);
    let made = format!("lineage {}", sha256(b"2\n"));
    for columns in [48, 80, 120] {
        let before = format!("export NO_COLOR=1; stty cols {columns};");
        for question in ["status", "plan", "graph", "explain 2", "explain 1", "lineage 1", &made] {
            let text = shown(&on_a_terminal_with(&p, &before, question));
            // Words and lines of a script are not parted.
            let is_text = |line: &&str| line.contains(long) || line.contains("$TASK_NAME");
            for line in text.lines().filter(|line| columns > 48 || !is_text(line)) {
                assert!(line.trim_end().chars().count() <= columns, "{columns}: {line:?}");
            }
        }
    }
    let status = p.call(["status"]).ok().stdout;
    let head = status.lines().next().unwrap();
    assert!(head.contains("failed") && head.contains("retired"), "{status}");
    assert!(!head.contains("left") && !head.contains("declared"), "{status}");
}

#[test]
fn elsewhere_there_are_lines_without_escape_codes() {
    let p = Project::new().task("a", "echo 1 >$OUTPUT_DIR/x");
    p.run().ok().says("step 1 a: done").says_nothing_of("\u{1b}").says_nothing_of("\r");
}

#[test]
fn a_script_that_asks_the_terminal_gets_an_error_instead_of_waiting() {
    let p = Project::new().task("a", "read -r answer </dev/tty; echo \"$answer\" >$OUTPUT_DIR/x");
    let output = on_a_terminal(&p, "");
    assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
    p.task("a", "stty -echo </dev/tty || echo no terminal; echo 1 >$OUTPUT_DIR/x");
    let output = on_a_terminal(&p, "");
    assert_eq!(output.status.code(), Some(0), "{}", shown(&output));
}

#[test]
fn what_a_script_prints_can_not_steer_the_terminal() {
    let p = Project::new().task("a", "printf 'x\\033]0;title\\007y\\n'; exit 1");
    let text = shown(&on_a_terminal(&p, ""));
    assert!(text.contains("]0;title") && !text.contains("\u{1b}]0"), "{text:?}");
    let log = shown(&on_a_terminal(&p, "log a"));
    assert!(log.contains("]0;title") && !log.contains("\u{1b}]0"), "{log:?}");
}

#[test]
fn what_runs_for_long_is_named_and_gone_in_the_end() {
    let p = Project::new().file("in/odd", "");
    std::fs::rename(p.path("in/odd"), p.path("in/o\u{1b}[2Jd")).unwrap();
    p.task_with("slow", "inputs = [\"in/*\"]", "n=0; until grep -q 'step 1 slow' typescript || [ $n -gt 600 ]; do sleep 0.1; n=$((n+1)); done");
    let text = shown(&on_a_terminal(&p, ""));
    assert!(text.contains("  step 1 slow (o\\x1b[2Jd)"), "{text:?}");
    // The frame is cleared before the last lines.
    let end = text.rfind("\u{1b}[J").unwrap();
    assert!(text[end..].contains("total 1 step: 1 done"), "{text:?}");
}

#[test]
fn a_terminal_that_can_not_draw_gets_plain_lines() {
    let p = Project::new().task("a", "exit 1");
    for before in ["TERM=dumb", "unset TERM;"] {
        let text = shown(&on_a_terminal_with(&p, before, ""));
        assert!(
            text.contains("failed: exit code 1") && !text.contains('\u{1b}'),
            "{before}: {text:?}"
        );
    }
}

#[test]
fn a_terminal_of_any_width_can_be_drawn_on() {
    let p = Project::new()
        .task("a", "for n in 1 2 3; do echo $n >$OUTPUT_DIR/$n; done")
        .task("b", "true");
    for columns in [1, 2, 7, 400] {
        let before = format!("stty cols {columns} rows 3;");
        let output = on_a_terminal_with(&p, &before, "-B");
        let text = shown(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(text.contains("total 4 steps: 4 done"), "{text}");
    }
}

#[test]
fn colors_are_there_when_they_are_wanted_and_never_in_a_pipe_unasked() {
    let p = Project::new().task("a", "exit 1");
    let red = "\u{1b}[1;31mfailed";
    assert!(shown(&on_a_terminal(&p, "-v")).contains(red));
    for (before, args) in
        [("NO_COLOR=1", "-v"), ("NO_COLOR=1", ""), ("", "--color=never"), ("", "-v --color never")]
    {
        let text = shown(&on_a_terminal_with(&p, before, args));
        assert!(text.contains("failed: exit code 1"), "{before} {args}: {text:?}");
        let has_color = text.split("\u{1b}[").skip(1).any(|code| {
            code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
        });
        assert!(!has_color, "{before} {args}: {text:?}");
    }
    p.run_with(["--color=always"]).fails(1).says(red);
    p.run_cmd([""; 0]).env("CLICOLOR_FORCE", "1").go().fails(1).says(red);
    p.run().fails(1).says_nothing_of("\u{1b}");
    p.run_with(["--color", "maybe"]).fails(2).says("--color");
}
