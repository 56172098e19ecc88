//! Where a mistake is said to be, and how it looks.

use super::*;

#[test]
fn a_mistake_shows_its_line_a_caret_and_the_cure() {
    let text = "[[task]]\nname = \"a\"\nscript = \":\"\n\n[[task]]\nname = \"a\"\nscript = \":\"\n";
    assert_eq!(
        bad(text),
        "\
pipeline.toml:6:8: task `a` is already defined on line 2
  |
6 | name = \"a\"
  |        ^^^
  = help: give it another name"
    );
}

#[test]
fn all_mistakes_are_told_at_once_and_in_order() {
    let text = "\
[[task]]
name = \"a\"
script = \"\"
paralel = 2

[[task]]
name = \"b c\"
script = \":\"
from = [\"a\", \"d\"]
timeout = 30
";
    assert_eq!(
        brief(text),
        [
            "3:10: the script is empty; write what the task does; `:` does nothing",
            "4:1: unknown key `paralel` in a task; did you mean `parallel`?",
            "7:8: `b c` can't be the name of a task; \
             a name is 1 to 64 of the characters A-Z a-z 0-9 . _ -",
            "9:14: no task is called `d`; name a task of this manifest",
            "10:11: `timeout` must be a string with a unit, not a bare number; \
             write timeout = \"30s\" if seconds are meant",
        ]
    );
}

#[test]
fn tabs_wide_characters_and_escapes_keep_the_caret_in_place() {
    let text = "[[task]]\nname = \"a\"\nscript = \":\"\nenv = {\t\"日本\" = \"é\",\tX = 1 }\n";
    assert!(
        bad(text).ends_with(
            "\
pipeline.toml:4:25: `X` must be a string, not a whole number
  |
4 | env = {\t\"日本\" = \"é\",\tX = 1 }
  |        \t             \t    ^
  = help: write \"1\""
        ),
        "{}",
        bad(text)
    );
}

#[test]
fn control_characters_never_reach_the_terminal() {
    let text = "[[task]]\nname = \"a\"\nscript = \":\" # \u{1b}[31m \u{202e}\nx\u{7}y = 1\n\"\\u001b[2J\" = 1\n";
    let shown = bad(text);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{shown:?}");
    assert!(!shown.contains('\u{202e}'), "{shown:?}");
    assert!(shown.contains("unknown key `\\x1b[2J`"), "{shown}");
}

#[test]
fn a_very_long_line_is_shown_in_part() {
    let text = format!("[[task]]\nname = \"{}\"\nscript = \":\"\n", "ä".repeat(100_000));
    let shown = bad(text);
    assert!(shown.chars().count() < 700, "{}", shown.chars().count());
    let text = format!("task = [{}{{ name = 1, script = \":\" }}]\n", " ".repeat(1000));
    let shown = bad(text);
    assert!(shown.contains("pipeline.toml:1:1018: `name` must be a string"), "{shown}");
    let lines: Vec<&str> = shown.lines().collect();
    let caret = lines[3].chars().position(|c| c == '^').expect("a caret");
    assert_eq!(lines[2].chars().nth(caret), Some('1'));
}

#[test]
fn windows_files_are_read_and_their_mistakes_placed() {
    let text = "\u{feff}[[task]]\r\nname = \"a\"\r\nscript = \":\"\r\nnope = 1\r\n";
    assert!(bad(text).contains("pipeline.toml:4:1: unknown key `nope`"));
    assert!(!bad(text).contains('\r') && !bad(text).contains("\\r"));
    let task = &good("\u{feff}[[task]]\r\nname = \"a\"\r\nscript = '''\r\necho\r\n'''\r\n")[0];
    assert_eq!(task.script, "echo\n");
    assert_eq!(brief("\u{feff}x = 1")[0].split(';').next(), Some("1:1: unknown key `x`"));
}

#[test]
fn bytes_that_are_no_utf8_are_placed_too() {
    let mistakes = brief(b"[[task]]\nname = \"gr\xfcn\"\n");
    let told = "2:11: the file is not UTF-8: byte 0xfc at offset 19";
    assert!(mistakes[0].starts_with(told), "{mistakes:?}");
    let mistakes = brief(b"\xff\xfe[\0[\0");
    assert!(mistakes[0].starts_with("the file is UTF-16"), "{mistakes:?}");
    assert!(brief(b"abc\xe2\x82")[0].starts_with("1:4: the file is not UTF-8: byte 0xe2"));
}

#[test]
fn syntax_errors_bring_no_echo_of_their_own() {
    let one = |text: &str| {
        let mistakes = brief(text);
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
        mistakes[0].clone()
    };
    assert!(one("[[task]]\nname \"a\"\nscript = \":\"\n").starts_with("2:6: key with no value"));
    assert!(one("[[task]]\nname = \nscript = \":\"\n").starts_with("2:8: string values must be"));
    assert!(
        one("[[task]]\nname = \"a\nscript = \":\"\n").starts_with("2:10: invalid basic string")
    );
    assert!(one("[[task]]\nname = \"a\"\nscript = x\n").starts_with("3:10: string values must"));
    assert!(
        one("[[task]\nname = \"a\"\nscript = \":\"\n").starts_with("1:8: unclosed array table")
    );
    assert!(
        one("[[task]]\nname = \"a\"\nname = \"b\"\nscript = \":\"\n").starts_with("3:1: duplicate")
    );
    assert!(one(&format!("a{} = 1\n", ".a".repeat(100))).starts_with("1:1: recursion limit"));
}

#[test]
fn syntax_errors_do_not_hide_mistakes_elsewhere() {
    let text = "[[task]]\nname = \"a\nscript = \":\"\nretries = -1\n\n[[task]]\nname = 7\nscript = \":\"\n";
    let mistakes = brief(text);
    let starts: Vec<&str> = mistakes.iter().map(|text| &text[..4]).collect();
    assert_eq!(starts, ["2:10", "4:11", "7:8:"], "{mistakes:#?}");
}

#[test]
fn a_string_that_was_never_closed_is_pointed_at() {
    let text = "\
[[task]]
name = \"a\"
script = \"\"\"
echo one

[[task]]
name = \"b\"
script = \"\"\"
FOO=1
echo two
\"\"\"
";
    let mistakes = brief(text);
    assert_eq!(
        mistakes,
        ["10:6: key with no value, expected `=`; the string that begins on line 3 goes on over \
          a `[[task]]`; is its end missing?"]
    );
    assert_eq!(
        brief("[[task]]\nname = \"a\"\nscript = \"\"\"\necho one\n"),
        ["5:1: invalid multi-line basic string, expected `\"`; the string that begins on line 3 \
          goes on over the rest of the file; is its end missing?"]
    );
}

#[test]
fn a_manifest_that_cannot_be_read_is_a_mistake_that_names_it() {
    let of = |path: &str| Manifest::read(Path::new(path)).expect_err(path);
    let missing = of("/no/such/pipeline.toml");
    assert_eq!(
        missing.to_string(),
        "/no/such/pipeline.toml: there is no such file\n  = help: name the manifest with -manifest FILE"
    );
    assert_eq!(missing.exit_code(), crate::error::exit::USAGE);
    assert!(of("/").to_string().starts_with("/: this is a folder, not a manifest"));
    assert!(of("/dev/zero").to_string().contains("larger than 64 MiB"));
    assert!(of("/dev/null").to_string().contains("the manifest has no tasks"));
}
