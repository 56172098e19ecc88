//! What a good manifest means.

use super::*;

#[test]
fn every_key_is_read() {
    let tasks = good(
        r#"
[[task]]
name = "split"
script = """
#!/bin/bash
echo
"""
inputs = ["data/*.csv", "more/x.csv"]
[[task]]
name = "count"
from = ["split"]
match = ["*.txt"]
script = "wc"
parallel = 2
cpus = 4
memory = "1.5G"
uses = { gpu = 1, licence = 2 }
timeout = "30s"
retries = 2
retry_delay = "1s"
files = ["stopwords.txt"]
shell = "bash -euo 'pipe fail'"
cache = false
[task.env]
LC_ALL = "C"
[[task]]
name = "total"
gather = true
script = ":"
"#,
    );
    let [split, count, total] = tasks.as_slice() else { panic!("{tasks:?}") };
    assert_eq!(split.script, "#!/bin/bash\necho\n");
    assert_eq!(split.inputs, ["data/*.csv", "more/x.csv"]);
    assert_eq!(*split.shell, ["sh", "-eu"]);
    assert!(split.is_root() && split.cache && !split.gather);
    assert_eq!(count.from, [TaskIndex(0)]);
    assert_eq!(count.matches, ["*.txt"]);
    assert_eq!(count.parallel, NonZeroUsize::new(2));
    assert_eq!((count.cpus.get(), count.memory), (4, Some(3 << 29)));
    let uses: Vec<(&str, usize)> = count.uses.iter().map(|(name, n)| (&**name, n.get())).collect();
    assert_eq!(uses, [("gpu", 1), ("licence", 2)]);
    assert_eq!((total.cpus.get(), total.memory, total.uses.len()), (1, None, 0));
    assert_eq!(count.timeout, Some(Duration::from_secs(30)));
    assert_eq!((count.retries, count.retry_delay), (2, Duration::from_secs(1)));
    assert_eq!(count.env, BTreeMap::from([("LC_ALL".to_owned(), "C".to_owned())]));
    assert_eq!(count.files, ["stopwords.txt"]);
    assert_eq!(*count.shell, ["bash", "-euo", "pipe fail"]);
    assert!(!count.cache);
    assert!(total.gather);
    assert_eq!(total.from, [TaskIndex(1)]);
}

#[test]
fn from_defaults_to_the_task_above() {
    let task =
        |keys: &str, name: &str| format!("[[task]]\nname = \"{name}\"\nscript = \":\"\n{keys}\n");
    let text = task("", "a")
        + &task("", "b")
        + &task("from = []", "c")
        + &task("inputs = [\"x\"]", "d")
        + &task("", "e")
        + &task("from = [\"e\", \"a\"]", "f");
    let from: Vec<Vec<TaskIndex>> = good(text).into_iter().map(|task| task.from).collect();
    let t = TaskIndex;
    assert_eq!(from, [vec![], vec![t(0)], vec![], vec![], vec![t(3)], vec![t(4), t(0)]]);
}

#[test]
fn inline_tables_are_tasks_too() {
    let tasks = good("task = [{ name = 'a', script = ':' }, { name = 'b', script = ':' }]");
    assert_eq!(tasks[1].from, [TaskIndex(0)]);
}

#[test]
fn a_manifest_without_tasks_says_how_to_begin() {
    for text in ["", "# nothing\n", "task = []"] {
        assert!(bad(text).contains("the manifest has no tasks"), "{text}");
    }
    assert!(bad("[task]\nname = 'a'\nscript = ':'\n").contains("help: write [[task]]"));
    assert!(bad("[[tasks]]\nname = 'a'\n").contains("did you mean `task`?"));
    assert!(bad("[[step]]\nname = 'a'\n").contains("did you mean `task`?"));
    assert!(bad("task = 1").contains("`task` must be a list of tables, not a whole number"));
    assert!(bad("task = [1]").contains("`task` must be a table, not a whole number"));
    assert!(bad("[[task]]\n").contains("the task has no `name`"));
    assert!(bad("[[task]]\n").contains("the task has no `script`"));
}

#[test]
fn a_task_has_the_params_that_it_names_as_toml_writes_them() {
    let tasks = good(
        r#"
[params]
seed = 42
big = 1_000_000
mask = 0xFF
rate = 1e-3
fast = true
mode = "a b"
[[task]]
name = "a"
script = "echo $seed"
params = ["seed", "big", "mask", "rate", "fast", "mode"]
[[task]]
name = "b"
script = "echo"
"#,
    );
    let values: Vec<(&str, &str)> =
        tasks[0].params.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("big", "1000000"),
        ("fast", "true"),
        ("mask", "0xFF"),
        ("mode", "a b"),
        ("rate", "1e-3"),
        ("seed", "42"),
    ];
    assert_eq!(values, expected);
    assert!(tasks[1].params.is_empty());
}
