//! Sections 4 and 10, where standard error is a terminal: `script` of util-linux gives one.

use std::process::{Command, Output, Stdio};

use crate::harness::Project;

/// Runs the program in the project's folder, on a terminal of its own. What it shows comes as standard
/// output.
fn on_a_terminal(p: &Project, args: &str) -> Output {
    let command = format!("{} {args}", env!("CARGO_BIN_EXE_task-pipeline"));
    let mut script = Command::new("timeout");
    script.args(["60", "script", "-qefc", &command, "/dev/null"]).current_dir(p.root());
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
    let output = on_a_terminal(&p, "-k");
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("\u{1b}[") && text.contains("/30"), "no bar:\n{text}");
    assert!(
        text.contains("(29): failed: exit code 1") && text.contains("total 30 steps: 29 run"),
        "{text}"
    );
    assert!(!text.contains("(7): done"), "a line per step beside the bar:\n{text}");
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
