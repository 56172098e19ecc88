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
        (
            "memory = 8000",
            "7:10: `memory` must be a string with a unit, not a bare number; write memory = \"8000M\" if megabytes are meant",
        ),
        (
            "uses = [\"gpu\"]",
            "7:8: `uses` must be a table, not a list; write uses = { gpu = 1 }; tasks whose outputs are seen too are named by `with`",
        ),
        (
            "uses = { gpu = \"1\" }",
            "7:16: `gpu` must be a whole number, not a string; write gpu = 2, without quotes",
        ),
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
        ("cpus = 0", "`cpus` is 0, but must be from 1 to 4096"),
        ("cpus = 5000", "`cpus` is 5000, but must be from 1 to 4096"),
        ("memory = \"0G\"", "`memory` is zero"),
        ("memory = \"8\"", "the size `8` has no unit"),
        ("memory = \"8 PB\"", "the size `8 PB` has a unit other than K, M, G and T"),
        ("uses = {}", "`uses` is empty"),
        ("uses = { gpu = 0 }", "`gpu` is 0, but must be from 1 to 1000000"),
        ("uses = { \"a b\" = 1 }", "`a b` can't be a resource: it has other characters"),
        ("uses = { \"1\" = 1 }", "`1` can't be a resource: it doesn't begin with a letter"),
        ("uses = { mem = 1 }", "`mem` is no resource of `uses`"),
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
    for keys in [
        "cpus = 4096",
        "memory = \"1.5GiB\"",
        "uses = { gpu-a_1 = 1 }",
        "parallel = 0x10",
        "retries = 1_000",
        "retries = 0\nretry_delay = \"0s\"",
    ] {
        assert_eq!(of_keys(keys), Vec::<String>::new(), "{keys}");
    }
}

#[test]
fn keys_that_do_not_go_together_are_told() {
    let cases = [
        ("inputs = [\"x\"]\nfrom = [\"a\"]", "7:1: `inputs` can't go together with `from`"),
        ("from = []\ngather = true", "8:1: `gather` on a root"),
        ("from = []\nmatch = [\"x\"]", "8:1: `match` on a root"),
        ("inputs = []", "7:10: `inputs` is empty"),
        ("match = []", "7:9: `match` is empty and would take no output"),
    ];
    for (keys, told) in cases {
        let mistakes = of_keys(keys);
        assert!(mistakes.len() == 1 && mistakes[0].starts_with(told), "{keys}: {mistakes:?}");
    }
    for keys in ["inputs = [\"x\"]\nfrom = []", "inputs = [\"x\"]\ngather = true"] {
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
        ("files = [\"x[\"]", "7:10: `x[` is no glob"),
        ("match = { a = [\"x[\"] }", "7:16: `x[` is no glob"),
        ("match = { a = [] }", "7:15: `match` would take no output of `a`"),
        ("gather_empty = true", "7:1: `gather_empty` does nothing without `gather`"),
        ("match = {}", "7:9: `match` is empty"),
        (
            "match = { a = \"x\" }",
            "7:15: `a` must be a list of strings, not a string; write a = [\"x\"]",
        ),
        ("match = { b = [\"*\"] }", "7:11: `b` is not in the `from` of the task; its `from` has a"),
        ("from = [\"a\"]\nmatch = { t = [\"*\"] }", "8:11: `t` is not in the `from` of the task"),
        ("from = []\nmatch = { a = [\"*\"] }", "8:1: `match` on a root"),
        ("inputs = [\"x\", \"!x[\"]", "7:16: `x[` is no glob"),
        ("inputs = [\"x\", \"!\"]", "7:16: `!` alone leaves nothing out"),
        ("inputs = [\"!x\"]", "7:10: `inputs` has nothing but exclusions"),
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
            "7:27: task `fetch` is already in this `from`; remove it: a task's outputs are consumed only once",
        ]
    );
}

#[test]
fn each_cycle_is_shown_whole_and_once() {
    let task =
        |name: &str, keys: &str| format!("[[task]]\nname = '{name}'\nscript = ':'\n{keys}\n");
    let text =
        task("a", "from = ['c']") + &task("b", "") + &task("c", "") + &task("d", "from = ['d']");
    assert_eq!(
        brief(text),
        [
            "4:9: tasks consume each other's outputs in a cycle: a -> b -> c -> a; \
             `c` consumes `b` only because that is the task above: write from = [] if it is a root",
            "16:9: task `d` consumes its own outputs: d -> d; remove one of them from a `from`",
        ]
    );
    let text =
        task("a", "from = ['b', 'c']") + &task("b", "from = ['a']") + &task("c", "from = ['a']");
    let cycles = brief(text);
    assert_eq!(cycles.len(), 2, "{cycles:?}");
    assert!(cycles[0].starts_with("4:9: ") && cycles[0].contains("a -> b -> a"), "{cycles:?}");
    assert!(cycles[1].starts_with("4:14: ") && cycles[1].contains("a -> c -> a"), "{cycles:?}");
}

/// The mistakes of a manifest with a param `seed` and a task with these further keys.
fn of_params(keys: &str) -> Vec<String> {
    brief(format!("[params]\nseed = 42\n[[task]]\nname = \"t\"\n{keys}\n"))
}

#[test]
fn a_title_is_text_at_the_top() {
    let brief = |line: &str| brief(format!("{line}\n[[task]]\nname = 't'\nscript = ':'\n"));
    assert!(brief("title = \"Words\"").is_empty());
    assert!(brief("title = 3")[0].starts_with("1:9: `title` must be a string, not "));
    assert_eq!(
        brief("title = \"  \""),
        [
            "1:9: `title` is empty; write what the report is to be called, or leave `title` out for the folder's name"
        ]
    );
    assert_eq!(brief("titel = \"x\""), ["1:1: unknown key `titel`; did you mean `title`?"]);
    assert_eq!(
        of_keys("title = \"x\""),
        [
            "7:1: unknown key `title` in a task; it names the whole pipeline: write it at the top, before the first table"
        ]
    );
}

#[test]
fn a_param_has_a_name_and_one_value() {
    let brief =
        |line: &str| brief(format!("[params]\n{line}\n[[task]]\nname = 't'\nscript = ':'\n"));
    assert_eq!(
        brief("Seed = 1"),
        [
            "2:1: `Seed` can't be the name of a param; a name is a lower-case letter, and then up to 63 of a-z 0-9 _: \
          scripts see it as a variable"
        ]
    );
    for name in ["_x", "\"\"", "a-b", "1x", &"x".repeat(65)] {
        let found = brief(&format!("{name} = 1"));
        assert!(found[0].contains("can't be the name of a param"), "{name}");
    }
    assert!(brief(&format!("{} = 1", "x".repeat(64))).is_empty());
    assert_eq!(
        brief("x = [1]"),
        ["2:5: `x` must be a string, a number, true or false, not a list; write x = \"…\""]
    );
    assert!(brief("x = 2024-01-01")[0].contains("not a date or time"));
    assert!(brief("x.y = 1")[0].contains("not a table"));
    assert!(brief("x = \"a\\u0000\"")[0].contains("NUL"));
}

#[test]
fn a_task_names_params_that_there_are() {
    let script = "script = \":\"\n";
    let of = |keys: &str| of_params(&format!("{script}{keys}"));
    assert_eq!(of("params = [\"sed\"]"), ["6:11: no param is called `sed`; did you mean `seed`?"]);
    assert_eq!(of("params = [\"other\"]"), ["6:11: no param is called `other`; there are: seed"]);
    assert_eq!(
        of("params = [\"seed\", \"seed\"]"),
        ["6:19: param `seed` is already in this `params`; take it out"]
    );
    assert_eq!(
        of("params = [\"seed\"]\nenv = { seed = \"1\" }"),
        ["6:11: `seed` is a param and in `env` too; drop one of the two: a variable has one value"]
    );
    assert_eq!(
        of("param = [\"seed\"]"),
        ["6:1: unknown key `param` in a task; did you mean `params`?"]
    );
    assert_eq!(
        of_keys("params = [\"seed\"]"),
        [
            "7:11: no param is called `seed`; add its default at the top of the manifest: [params] and seed = …"
        ]
    );
    let text = "[parameters]\nx = 1\n[[task]]\nname = 't'\nscript = ':'";
    assert!(bad(text).contains("did you mean `params`?"));
}

#[test]
fn a_script_that_uses_a_param_has_a_task_that_names_it() {
    let cure = "add params = [\"seed\"] to the task; a variable of its own needs another name";
    let mistake = |place: &str| {
        vec![format!(
            "{place}: the script uses the param `seed`, which the task doesn't name; {cure}"
        )]
    };
    assert_eq!(of_params("script = \"echo $seed\""), mistake("5:16"));
    assert_eq!(of_params("script = \"echo \\\"a\\\" ${seed:-1}\""), mistake("5:22"));
    assert_eq!(of_params("script = '''\n# $seed\necho $x\n\techo ${#seed}\n'''"), mistake("8:7"));
    assert_eq!(of_params("shell = \"bash -eu\"\nscript = 'cmd --seed=$seed'"), mistake("6:22"));
    let carets = bad("[params]\nseed = 1\n[[task]]\nname = 't'\nscript = 'echo ${seed}'\n");
    assert!(carets.contains("\n  |                ^^^^^^\n"), "{carets}");
    for fine in [
        "script = 'echo $seed'\nparams = [\"seed\"]",
        "script = 'echo $seed'\nenv = { seed = \"1\" }",
        "script = 'seed=$RANDOM; echo $seed'",
        "script = 'for seed in 1 2; do echo $seed; done'",
        "script = 'echo $seeds $my_seed \\$seed'",
        "script = 'my $seed = 1; print $seed'\nshell = \"perl\"",
        "script = '''\n#!/usr/bin/env python3\nprint(\"$seed\")'''",
        "script = 'echo  # $seed'",
    ] {
        assert_eq!(of_params(fine), Vec::<String>::new(), "{fine}");
    }
}
