//! What is said instead of doing anything.

use super::*;

#[test]
fn misuse_says_what_was_meant() {
    assert_eq!(misuse("--manifset M"), "unknown option `--manifset`; did you mean `--manifest`?");
    assert_eq!(misuse("-manifset M"), "unknown option `-manifset`; did you mean `--manifest`?");
    assert_eq!(misuse("-paralel=4"), "unknown option `-paralel=4`; did you mean `--parallel`?");
    assert_eq!(misuse("-jobz"), "unknown option `-jobz`; did you mean `--jobs`?");
    assert_eq!(misuse("-kx"), "unknown option `-kx`");
    assert_eq!(misuse("--frobnicate"), "unknown option `--frobnicate`");
    assert_eq!(misuse("status -k"), "unknown option `-k`");
    assert_eq!(misuse("--db"), "`--db` needs a value");
    assert_eq!(misuse("-kj"), "`-j` needs a value");
    assert_eq!(misuse("--keep-going=yes"), "`--keep-going` takes no value");
    assert_eq!(misuse("status x"), "`status` can't use `x`");
    assert_eq!(misuse("export a b --to d"), "`export` can't use `b`");
    assert_eq!(misuse("export a b"), "`export` can't use `b`; did you mean `--to b`?");
    assert_eq!(misuse("export a"), "`export` needs --to DIR");
    assert_eq!(misuse("export --to d"), "`export` needs a TASK");
    let exit = asked("status -k").expect_err("no such option");
    assert!(exit.text.ends_with("see `task-pipeline status --help`"), "{}", exit.text);
    let exit = asked("exprot a --to d").expect_err("no such option");
    assert!(exit.text.starts_with("unknown option `--to`"), "{}", exit.text);
    assert!(exit.text.ends_with("did you mean the command `export`?"), "{}", exit.text);
}

#[test]
fn bad_values_are_told_in_our_words() {
    let number = "must be a whole number from 1 to 4096";
    for value in ["0", "-1", "x", "1.5", "80000", "99999999999999999999"] {
        let told = format!("bad value `{value}` for `-j`: {number}");
        assert_eq!(misuse(&format!("-j {value}")), told);
    }
    assert_eq!(
        misuse("--durability full"),
        "bad value `full` for `--durability`: expected \"batch\" or \"off\""
    );
    assert_eq!(misuse("--db="), "bad value `` for `--db`: a path can't be empty");
    let exit = parse(["x".into(), OsString::new()].into_iter()).expect_err("no path");
    assert_eq!(exit.text, "bad argument ``: a path can't be empty");
    assert!(misuse("log --attempt 0 s").starts_with("bad value `0` for `--attempt`: must be"));
}

#[test]
fn words_that_contradict_each_other_are_refused() {
    for line in ["-q -v", "--no-inputs in", "plan --no-inputs in", "--json", "- -"] {
        misuse(line);
    }
    assert!(misuse("log").contains("--failed"));
    assert!(misuse("log --failed --attempt 2").contains("STEP"));
    assert!(misuse("cat").contains("WHAT"));
    assert!(run("-n --json").json);
}

#[test]
fn help_is_an_answer_wherever_it_is_asked_for() {
    let overview = help("--help");
    for line in ["-h", "-help", "help", "-h -k"] {
        assert_eq!(help(line), overview, "{line}");
    }
    for line in ["log --help", "log -h", "log x -help", "help log", "--help log", "log --failed -h"]
    {
        assert!(help(line).starts_with("Print the output of a step's script."), "{line}");
    }
    assert!(help("-k --help").starts_with("Run every step that is not up to date"));
    assert_eq!(misuse("help nonsense"), "help: there is no command `nonsense`");
}

#[test]
fn help_lists_every_command_option_and_exit_code() {
    let overview = help("--help");
    for command in Invocation::get_args_info().commands {
        assert!(overview.contains(&format!("\n  {} ", command.name)), "{}", command.name);
        let help = help(&format!("{} --help", command.name));
        for flag in command.command.flags.iter().filter(|flag| !flag.hidden) {
            assert!(help.contains(flag.long), "{} {}", command.name, flag.long);
        }
        for line in help.lines().chain(overview.lines()) {
            assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line:?}");
        }
    }
    for line in help("help manifest").lines() {
        assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line:?}");
    }
    for code in [0, 1, 2, 3, 65, 70, 73, 74, 75] {
        assert!(overview.contains(&format!("\n  {code} ")), "{code}");
    }
}

#[test]
fn the_help_of_watch_lists_only_what_goes_with_watching() {
    let watch = help("watch --help");
    for fits in ["--jobs", "--keep-going", "--inputs-from", "--wait", "INPUT"] {
        assert!(watch.contains(fits), "{fits}");
    }
    for unfit in ["--watch", "--dry-run", "--json", "--events", "--trace", "--force"] {
        assert!(!watch.contains(unfit), "{unfit}");
        assert!(help("run --help").contains(unfit), "{unfit}");
    }
    // One that is given all the same is told why it doesn't fit, not that it is unknown.
    assert!(misuse("watch --events e").contains("--events and --trace tell of one run"));
    assert!(misuse("watch -n").contains("contradict"));
}

#[test]
fn the_version_is_an_answer() {
    for line in ["--version", "-version", "-V", "-k --version", "status --version"] {
        assert_eq!(help(line), concat!("task-pipeline ", env!("CARGO_PKG_VERSION")), "{line}");
    }
}

#[test]
fn a_word_that_should_have_been_a_command_is_recognised() {
    assert_eq!(command_line().command_like(OsStr::new("staus")), Some("status"));
    assert_eq!(command_line().command_like(OsStr::new("status")), Some("status"));
    assert_eq!(command_line().command_like(OsStr::new("hepl")), Some("help"));
    assert_eq!(command_line().command_like(OsStr::new("data.csv")), None);
    assert_eq!(command_line().command_like(OsStr::from_bytes(b"\xff")), None);
}

#[test]
fn no_words_make_it_panic() {
    let scraps = [
        "-",
        "--",
        "---",
        "=",
        "-=",
        "--=",
        "-j",
        "-jx",
        "-k=",
        "help",
        "run",
        "log",
        "--to",
        "-db=",
        "\u{f8ff}",
        "\u{f8ff}zz",
        "-ä",
        "--ä=1",
        "",
        " ",
        "-\u{1b}",
        "a",
        "9",
        "export",
        "-h=1",
    ];
    for a in scraps {
        for b in scraps {
            for c in scraps {
                let _ = parse(["x", a, b, c].map(OsString::from).into_iter());
            }
        }
    }
}
