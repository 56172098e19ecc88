//! What can't be in a manifest, and what is said about it.

use super::*;

#[test]
fn names_are_checked() {
    let refused = |name: &str| bad(format!("[[task]]\nname = {name:?}\nscript = ':'\n"));
    for name in ["", "a b", "ä", "a/b", &"x".repeat(65)] {
        assert!(refused(name).contains("can't be the name of a task"), "{name}");
    }
    good(format!("[[task]]\nname = '{}'\nscript = ':'\n", "x".repeat(64)));
    good("[[task]]\nname = 'A-z_0.9'\nscript = ':'\n");
}

#[test]
fn wrong_types_show_how_to_write_it() {
    let cases = [
        (
            "from = \"a\"",
            "7:8: `from` must be a list of strings, not a string; write from = [\"a\"]",
        ),
        (
            "inputs = 'x*'",
            "7:10: `inputs` must be a list of strings, not a string; write inputs = ['x*']",
        ),
        (
            "match = \"x\"",
            "7:9: `match` must be a list of strings, not a string; write match = [\"x\"]",
        ),
        (
            "files = \"x\"",
            "7:9: `files` must be a list of strings, not a string; write files = [\"x\"]",
        ),
        (
            "files = [1]",
            "7:10: `an item of files` must be a string, not a whole number; write files = [\"…\"]",
        ),
        (
            "parallel = \"2\"",
            "7:12: `parallel` must be a whole number, not a string; write parallel = 2, without quotes",
        ),
        (
            "parallel = 2.5",
            "7:12: `parallel` must be a whole number, not a number with a fraction; write parallel = 2, without quotes",
        ),
        (
            "cache = \"false\"",
            "7:9: `cache` must be true or false, not a string; write cache = true or cache = false, without quotes",
        ),
        (
            "timeout = 2024-01-01",
            "7:11: `timeout` must be a string, not a date or time; write a number and its unit, such as \"500ms\", \"30s\" or \"1h30m\"",
        ),
        (
            "env = [\"A=1\"]",
            "7:7: `env` must be a table, not a list; write env = { NAME = \"value\" }",
        ),
        ("env = { A = true }", "7:13: `A` must be a string, not true or false; write \"true\""),
        ("shell = [\"bash\"]", "7:9: `shell` must be a string, not a list; write shell = \"…\""),
    ];
    for (keys, told) in cases {
        assert_eq!(of_keys(keys), [told], "{keys}");
    }
}

#[test]
fn numbers_and_spans_have_bounds() {
    let cases = [
        ("parallel = 0", "`parallel` is 0, but must be at least 1"),
        ("parallel = -1", "`parallel` is -1, but must be at least 1"),
        ("parallel = 99999999999999999999999", "but must be at least 1"),
        ("retries = -1", "`retries` is -1, but must be from 0 to 1000"),
        ("retries = 1001", "`retries` is 1001, but must be from 0 to 1000"),
        ("timeout = \"0s\"", "`timeout` is zero"),
        ("timeout = \"\"", "the duration `` is empty"),
        ("timeout = \"30\"", "the duration `30` has no unit"),
        ("timeout = \"9999999999h\"", "is longer than 100 years"),
        ("retry_delay = \"1s\"", "`retry_delay` does nothing without `retries`"),
    ];
    for (keys, told) in cases {
        let mistakes = of_keys(keys);
        assert!(mistakes.len() == 1 && mistakes[0].contains(told), "{keys}: {mistakes:?}");
    }
    for keys in ["parallel = 0x10", "retries = 1_000", "retries = 0\nretry_delay = \"0s\""] {
        assert_eq!(of_keys(keys), Vec::<String>::new(), "{keys}");
    }
}

#[test]
fn keys_that_do_not_go_together_are_told() {
    let cases = [
        ("inputs = [\"x\"]\nfrom = [\"a\"]", "7:1: `inputs` can't go together with `from`"),
        ("inputs = [\"x\"]\ngather = true", "7:1: `inputs` can't go together with `gather`"),
        ("from = []\ngather = true", "8:1: `gather` on a root"),
        ("from = []\nmatch = [\"x\"]", "8:1: `match` on a root"),
        ("inputs = []", "7:10: `inputs` is empty"),
        ("match = []", "7:9: `match` is empty and would take no output"),
    ];
    for (keys, told) in cases {
        let mistakes = of_keys(keys);
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(told), "{keys}: {mistakes:?}");
    }
    for keys in ["inputs = [\"x\"]\nfrom = []", "inputs = [\"x\"]\ngather = false"] {
        assert_eq!(of_keys(keys), Vec::<String>::new(), "{keys}");
    }
}

#[test]
fn what_no_process_or_path_can_hold_is_refused() {
    let cases = [
        ("env = { \"\" = \"x\" }", "7:9: `` can't be the name of a variable"),
        ("env = { \"A=B\" = \"x\" }", "7:9: `A=B` can't be the name of a variable"),
        ("env = { \"A\\u0000\" = \"x\" }", "7:9: `A\\x00` can't be the name of a variable"),
        ("env = { A = \"\\u0000\" }", "7:13: `A` contains a NUL byte"),
        ("env = { OUTPUT_DIR = \"x\" }", "7:9: `OUTPUT_DIR` is set by task-pipeline itself"),
        ("env.TMPDIR = \"x\"", "7:5: `TMPDIR` is set by task-pipeline itself"),
        ("shell = \"\"", "7:9: `shell` is empty"),
        ("shell = \"'' x\"", "7:9: `shell` is empty"),
        ("shell = \"bash 'x\"", "7:9: `shell` can't be split into words"),
        ("inputs = [\"a\", \"[\"]", "7:16: `[` is no glob: "),
        ("inputs = [\"data/\"]", "7:11: `data/` names a folder, not files"),
        ("inputs = [\"\"]", "7:11: an item of `inputs` is empty"),
        ("inputs = [\"a\\u0000\"]", "7:11: an item of `inputs` contains a NUL byte"),
        ("match = [\"/x\"]", "7:10: `/x` matches no output"),
        ("match = [\"../x\"]", "7:10: `../x` matches no output"),
        ("files = [\"x/\"]", "7:10: `x/` names a folder, not a file"),
    ];
    for (keys, told) in cases {
        let mistakes = of_keys(keys);
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(told), "{keys}: {mistakes:?}");
    }
    assert!(
        bad("[[task]]\nname = 'a'\nscript = \"a\\u0000\"")
            .contains("3:10: `script` contains a NUL")
    );
    assert!(bad("[[task]]\nname = 'a'\nscript = \" \\n\"").contains("3:10: the script is empty"));
}

#[test]
fn from_names_tasks_each_once() {
    assert_eq!(
        of_keys("from = [\"x\"]"),
        ["7:9: no task is called `x`; name a task of this manifest"]
    );
    let text = "[[task]]\nname = 'fetch'\nscript = ':'\n[[task]]\nname = 'b'\nscript = ':'\n\
                from = ['fetch', 'fecth', 'fetch']\n";
    assert_eq!(
        brief(text),
        [
            "7:18: no task is called `fecth`; did you mean `fetch`?",
            "7:27: task `fetch` is already in this `from`; take it out: its outputs are consumed once",
        ]
    );
}

#[test]
fn each_circle_is_shown_whole_and_once() {
    let task =
        |name: &str, keys: &str| format!("[[task]]\nname = '{name}'\nscript = ':'\n{keys}\n");
    let text =
        task("a", "from = ['c']") + &task("b", "") + &task("c", "") + &task("d", "from = ['d']");
    assert_eq!(
        brief(text),
        [
            "4:9: tasks consume each other's outputs in a circle: a -> b -> c -> a; \
             `c` consumes `b` only because that is the task above: write from = [] if it is a root",
            "16:9: task `d` consumes its own outputs: d -> d; take one of them out of a `from`",
        ]
    );
    let text =
        task("a", "from = ['b', 'c']") + &task("b", "from = ['a']") + &task("c", "from = ['a']");
    let circles = brief(text);
    assert_eq!(circles.len(), 2, "{circles:?}");
    assert!(circles[0].starts_with("4:9: ") && circles[0].contains("a -> b -> a"), "{circles:?}");
    assert!(circles[1].starts_with("4:14: ") && circles[1].contains("a -> c -> a"), "{circles:?}");
}
