//! Manifests that are huge, torn or hostile: answers, in time, and never a panic.

use super::*;

/// A small generator of numbers, the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

const SAMPLE: &str = r#"
[[task]]
name = "fetch"
inputs = ["data/*.csv", "{a,b}/[x-z]?.txt"]
script = """
#!/bin/bash
echo "grün\t日本" > "$OUTPUT_DIR/x"
"""
[[task]]
name = 'process'
from = ["fetch"]
match = ["*.txt"]
parallel = 2
cpus = 4
memory = "1.5GiB"
uses = { gpu = 1 }
timeout = "1h30m"
retries = 2
retry_delay = "1.5s"
files = ["stopwords.txt"]
shell = "bash -euo 'pipefail'"
env = { LC_ALL = "C", N = "1" }
cache = false
script = '''wc < "$INPUT_FILE"'''
[[task]]
name = "total"
gather = true
script = ":"
[task.env]
A.B = 1
"#;

#[test]
fn a_manifest_torn_anywhere_is_answered() {
    for end in 0..SAMPLE.len() {
        let _ = read(&SAMPLE.as_bytes()[..end]);
        let _ = read(&SAMPLE.as_bytes()[end..]);
    }
}

#[test]
fn a_manifest_with_random_damage_is_answered() {
    let scraps = [
        "[[",
        "]]",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\"\"\"",
        "'",
        "'''",
        "=",
        ".",
        ",",
        "#",
        "\n",
        "\r",
        "\0",
        "\\",
        "\\u0000",
        "\u{feff}",
        "ä",
        "日",
        "\t",
        "\u{1b}[2J",
        "\u{202e}",
        "-1",
        "1e999",
        "true",
        "[[task]]\n",
        "name = \"a\"\n",
        "from = [\"a\"]\n",
        "task",
        "*",
        "{a",
        "99999999999999999999",
        "1979-05-27",
    ];
    let rounds =
        std::env::var("TASK_PIPELINE_FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(1500);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..rounds {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for _ in 0..=dice.roll(6) {
            let at = dice.roll(bytes.len() + 1);
            let until = (at + dice.roll(20)).min(bytes.len());
            let scrap = scraps[dice.roll(scraps.len())].as_bytes();
            match dice.roll(4) {
                0 => drop(bytes.drain(at..until)),
                1 => drop(bytes.splice(at..at, scrap.iter().copied())),
                2 => drop(bytes.splice(at..until, scrap.iter().copied())),
                _ => drop(bytes.splice(at..at, [dice.roll(256) as u8])),
            }
        }
        if let Err(err) = read(&bytes) {
            let shown = err.to_string();
            let obeyed = |c: char| (c.is_control() && !"\n\t".contains(c)) || c == '\u{202e}';
            assert!(!shown.contains(obeyed), "{shown:?}");
        }
    }
}

#[test]
fn random_bytes_are_answered() {
    let mut dice = Dice(42);
    for _ in 0..500 {
        let bytes: Vec<u8> = (0..dice.roll(200)).map(|_| dice.roll(256) as u8).collect();
        let _ = read(&bytes);
        let ascii: Vec<u8> = bytes.iter().map(|byte| byte & 127).collect();
        let _ = read(&ascii);
    }
}

#[test]
fn deep_nesting_neither_panics_nor_overflows_the_stack() {
    let key = vec!["a"; 79].join(".");
    let inline = format!("{key} = {{ ").repeat(80) + &"}".repeat(80);
    let cases = [
        "[".repeat(100_000),
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("a{} = 1", ".a".repeat(100_000)),
        format!("[a{}]", ".a".repeat(100_000)),
        format!("[[task]]\nname='a'\nscript=':'\nenv = {{ {inline} }}"),
        format!("[{key}]\n{inline}\n{inline}\n"),
        format!("{inline}\na = 1\n"),
        format!("[[task]]\nname='a'\nscript=':'\ninputs = ['{}']", "{".repeat(4000)),
        format!(
            "[[task]]\nname='a'\nscript=':'\ninputs = ['{}{}']",
            "{".repeat(2000),
            "}".repeat(2000)
        ),
        format!("[[task]]\nname='a'\nscript=':'\ninputs = ['{}']", "*".repeat(4000)),
        format!("[[task]]\nname='a'\nscript=':'\ninputs = ['{}']", "[!a-z]**/".repeat(400)),
    ];
    for text in cases {
        let _ = read(text);
    }
}

fn many(task: impl Fn(usize) -> String) -> String {
    (0..10_000).map(|n| format!("[[task]]\n{}\n", task(n))).collect()
}

#[test]
fn ten_thousand_tasks_are_read() {
    let chain = many(|n| format!("name = 't{n}'\nscript = 'echo'"));
    assert_eq!(good(chain).len(), 10_000);
    let star =
        many(|n| format!("name = 't{n}'\nscript = 'echo'\nfrom = ['t0']\nmatch = ['*.{n}']"));
    let star = star.replacen("from = ['t0']\nmatch = ['*.0']", "", 1);
    assert_eq!(good(star).len(), 10_000);
}

#[test]
fn ten_thousand_mistakes_are_all_told() {
    let count = |text: String| brief(text).len();
    let unknown = many(|n| format!("name = 't{n}'\nscript = 'echo'\nfrom = ['u{n}']"));
    assert_eq!(count(unknown), 10_000);
    let same = many(|_| "name = 'a'\nscript = 'echo'".to_owned());
    assert_eq!(count(same), 9_999);
    // Every task consumes the one above and the last one: as many cycles as tasks, each up to as long.
    let cycles = many(|n| {
        let above = n.saturating_sub(1);
        format!("name = 't{n}'\nscript = 'echo'\nfrom = ['t{above}', 't9999']")
    });
    let cycles = cycles.replacen("'t9998', 't9999'", "'t9998'", 1);
    assert!(count(cycles) >= 9_999);
    let syntax = many(|n| format!("name = t{n}\nscript = 'echo'"));
    assert_eq!(count(syntax), 10_000);
    let junk = "}\n".repeat(10_000);
    assert!(count(junk) > 0);
}
