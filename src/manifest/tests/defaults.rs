//! `[defaults]`: what may be there, and what it means for the tasks.

use super::*;

/// The last task of a manifest with these defaults and these further keys.
fn task(defaults: &str, keys: &str) -> String {
    let text = format!(
        "[defaults]\n{defaults}\n[[task]]\nname = \"a\"\nscript = ':'\nretries = 1\nsandbox = true\n\
         [[task]]\nname = \"t\"\nscript = ':'\nretries = 1\nsandbox = true\n{keys}\n"
    );
    format!("{:?}", good(text)[1])
}

#[test]
fn a_default_means_what_it_means_in_each_task_and_a_task_may_say_otherwise() {
    let mut count = 0;
    for key in KEYS.iter().filter(|key| key.may_be_default()) {
        let plain = task("", "");
        if matches!(key.name, "retries" | "sandbox") {
            // Every task here has them.
            assert_eq!(task(key.example, ""), plain, "{}", key.name);
        } else {
            assert_ne!(task(key.example, ""), plain, "{}", key.name);
            assert_eq!(task(key.example, ""), task("", key.example), "{}", key.name);
        }
        count += 1;
    }
    assert!(count > 12, "{count}");
    let cases = [
        ("timeout = \"1s\"", "timeout = \"2s\""),
        ("cache = false", "cache = true"),
        ("shell = \"bash\"", "shell = \"sh -eu\""),
        ("files = [\"a\"]", "files = [\"b\"]"),
        ("uses = { gpu = 1 }", "uses = { disk = 1 }"),
        ("network = false", "network = true"),
        ("input = \"copy\"", "input = \"auto\""),
    ];
    for (default, own) in cases {
        assert_eq!(task(default, own), task("", own), "{own}");
    }
    // What is a mistake elsewhere undoes a default.
    assert_eq!(task("uses = { gpu = 1 }", "uses = {}"), task("", ""));
    assert_eq!(task("read = [\"a\"]", "read = []"), task("", ""));
}

#[test]
fn variables_are_joined_name_by_name() {
    let joined = task("env = { A = \"1\", B = \"1\" }", "env = { B = \"2\", C = \"2\" }");
    assert_eq!(joined, task("", "env = { A = \"1\", B = \"2\", C = \"2\" }"));
}

#[test]
fn what_makes_no_sense_as_a_default_is_refused_with_its_place_and_why() {
    let of = |defaults: &str| {
        brief(format!("[defaults]\n{defaults}\n[[task]]\nname = 'a'\nscript = ':'\n"))
    };
    for key in KEYS.iter().filter(|key| !key.may_be_default()) {
        let told = of(key.example);
        let message = format!("2:1: `{}` can't be a default: ", key.name);
        assert!(told.len() == 1 && told[0].starts_with(&message), "{told:?}");
        assert!(told[0].ends_with("; move it to the tasks that it is for"), "{told:?}");
    }
    assert_eq!(
        of("retires = 2"),
        ["2:1: unknown key `retires` in `[defaults]`; did you mean `retries`?"]
    );
    assert_eq!(
        of("timeout = 30"),
        [
            "2:11: `timeout` must be a string with a unit, not a bare number; write timeout = \"30s\" if seconds are meant"
        ]
    );
    assert_eq!(
        of("read = [\"x\"]"),
        [
            "2:1: `read` does nothing here: no task has `sandbox = true`; add sandbox = true, or drop `read`"
        ]
    );
    assert_eq!(
        of("retry_delay = \"1s\""),
        [
            "2:1: `retry_delay` does nothing here: no task has `retries`; add retries = 2, or drop `retry_delay`"
        ]
    );
    assert_eq!(of("retries = 2\nretry_delay = \"1s\""), Vec::<String>::new());
    assert!(
        brief("defaults = 1\n[[task]]\nname = 'a'\nscript = ':'\n")[0]
            .starts_with("1:12: `defaults` must be a table, not a whole number")
    );
    assert!(
        brief("[default]\n[[task]]\nname = 'a'\nscript = ':'\n")[0]
            .ends_with("did you mean `defaults`?")
    );
    assert!(bad("[defaults]\nretries = 1\n").contains("the manifest has no tasks"));
}

#[test]
fn a_mistake_in_the_defaults_is_told_once() {
    let task = |name: &str| format!("[[task]]\nname = '{name}'\nscript = ':'\n");
    let text = format!("[defaults]\nretries = -1\n{}{}{}", task("a"), task("b"), task("c"));
    assert_eq!(brief(text).len(), 1);
}

#[test]
fn a_default_variable_that_would_hide_a_label_is_told_with_the_task() {
    let text = "[defaults]\nenv = { lane = \"1\" }\n[[task]]\nname = 'a'\ninputs = [\"{lane}.txt\"]\nscript = ':'\n";
    assert_eq!(
        brief(text),
        [
            "2:1: `env` sets lane, which is a label of the steps of `a`; give one of the two another name"
        ]
    );
}
