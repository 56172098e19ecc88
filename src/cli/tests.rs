use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::*;

/// What the words of a line ask for, the programme's name left out.
fn asked(line: &str) -> Result<Invocation, EarlyExit> {
    let words = line.split_whitespace().map(OsString::from);
    parse(std::iter::once("task-pipeline".into()).chain(words))
}

fn run(line: &str) -> Run {
    match asked(line) {
        Ok(Invocation::Run(run)) => run,
        other => panic!("{line}: {other:?}"),
    }
}

/// The first line of what is said about a misuse.
fn misuse(line: &str) -> String {
    let exit = asked(line).expect_err(line);
    assert_eq!(exit.code, exit::USAGE, "{line}: {}", exit.text);
    exit.text.lines().next().unwrap_or_default().to_owned()
}

fn help(line: &str) -> String {
    let exit = asked(line).expect_err(line);
    assert_eq!(exit.code, exit::OK, "{line}: {}", exit.text);
    exit.text
}

fn paths(paths: &[&str]) -> Vec<PathBuf> {
    paths.iter().map(PathBuf::from).collect()
}

#[test]
fn the_owners_spelling_works() {
    let run = run("-manifest workflow.toml -db ./my-pipeline-db -parallel 3");
    assert_eq!(run.manifest.as_deref(), Some(Path::new("workflow.toml")));
    assert_eq!(run.db, Path::new("./my-pipeline-db"));
    assert_eq!(run.jobs.map(|jobs| jobs.get()), Some(3));
}

#[test]
fn without_words_it_is_a_run_with_defaults() {
    let run = run("");
    assert_eq!((run.manifest, run.db), (None, PathBuf::from("./db")));
    assert_eq!((run.jobs, run.durability), (None, Durability::Batch));
    assert!(!run.keep_going && !run.dry_run && !run.always && !run.quiet && !run.verbose);
    assert!(
        run.step.is_empty() && run.inputs.is_empty() && !run.no_inputs && !run.wait && !run.json
    );
    assert!(parse(std::iter::empty()).is_ok());
}

#[test]
fn every_spelling_of_an_option_means_the_same() {
    for line in [
        "-j8",
        "-j 8",
        "-j=8",
        "-jobs 8",
        "--jobs=8",
        "-jobs=8",
        "--parallel 8",
        "-parallel=8",
    ] {
        assert_eq!(run(line).jobs.map(|jobs| jobs.get()), Some(8), "{line}");
    }
    for line in [
        "--manifest=M",
        "-manifest=M",
        "--manifest M",
        "run -manifest M",
        "run --manifest=M",
    ] {
        assert_eq!(
            run(line).manifest.as_deref(),
            Some(Path::new("M")),
            "{line}"
        );
    }
    for line in [
        "-k -n",
        "-kn",
        "-n -k",
        "--keep-going --dry-run",
        "-keep-going -dry-run",
    ] {
        let run = run(line);
        assert!(run.keep_going && run.dry_run, "{line}");
    }
    assert!(run("-kj4 -B").always && run("-kj4").jobs.is_some());
    assert_eq!(
        run("--manifest=a=b").manifest.as_deref(),
        Some(Path::new("a=b"))
    );
    assert_eq!(run("-durability off").durability, Durability::Off);
    assert_eq!(run("-step a --step=b").step, ["a", "b"]);
    assert_eq!(run("-j4 -j8").jobs.map(|jobs| jobs.get()), Some(8));
}

#[test]
fn inputs_may_stand_anywhere() {
    assert_eq!(run("a -k b -j 2 c").inputs, paths(&["a", "b", "c"]));
    assert_eq!(run("run run status").inputs, paths(&["run", "status"]));
    assert_eq!(run("-").inputs, paths(&["-"]));
    assert_eq!(
        run("-- -weird-file --db -").inputs,
        paths(&["-weird-file", "--db", "-"])
    );
    assert_eq!(run("-k -- -h").inputs, paths(&["-h"]));
    assert_eq!(run("a help").inputs, paths(&["a", "help"]));
    assert_eq!(run("run help").inputs, paths(&["help"]));
    assert_eq!(run("-- help").inputs, paths(&["help"]));
}

#[test]
fn the_value_of_an_option_may_look_like_anything() {
    assert_eq!(run("-db -k").db, Path::new("-k"));
    assert_eq!(run("-db help").db, Path::new("help"));
    assert_eq!(run("-db --").db, Path::new("--"));
    assert_eq!(run("--step --help").step, ["--help"]);
}

#[test]
fn words_that_are_not_utf8_survive() {
    let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    // The last one looks like what stands in for such words on their way through argh.
    let words = [
        odd(b"-\xff"),
        odd(b"\xff\n"),
        odd("\u{f8ff}6869".as_bytes()),
    ];
    let line = ["task-pipeline", "-db"].map(OsString::from).into_iter();
    let line = line
        .chain([odd(b"d\xfe")])
        .chain(["--".into()])
        .chain(words.clone());
    let Ok(Invocation::Run(run)) = parse(line) else {
        panic!("no run")
    };
    assert_eq!(run.db.into_os_string(), odd(b"d\xfe"));
    assert_eq!(run.inputs, words.map(PathBuf::from));
    let line = ["x".into(), odd(b"--db=\xff")].into_iter();
    let Ok(Invocation::Run(run)) = parse(line) else {
        panic!("no run")
    };
    assert_eq!(run.db.into_os_string(), odd(b"\xff"));
    let log = parse(["x".into(), "log".into(), odd(b"t/\xff")].into_iter());
    let Ok(Invocation::Log(log)) = log else {
        panic!("no log")
    };
    assert_eq!(log.step, Some(odd(b"t/\xff")));
    let exit = parse(["x".into(), odd(b"--\xff\x1b")].into_iter()).expect_err("no such option");
    assert!(
        exit.text.starts_with("unknown option `--\\xff\\x1b`"),
        "{}",
        exit.text
    );
    let exit = parse(["x".into(), "--step".into(), odd(b"\xff")].into_iter()).expect_err("no name");
    assert!(
        exit.text.starts_with("bad value `\\xff` for `--step`: "),
        "{}",
        exit.text
    );
}

#[test]
fn every_command_is_read() {
    let plan = asked("plan -manifest M --json -B in");
    let Ok(Invocation::Plan(plan)) = plan else {
        panic!("{plan:?}")
    };
    let run = Run::from(plan);
    assert!(run.dry_run && run.json && run.always);
    assert_eq!(run.inputs, paths(&["in"]));
    let status = Status {
        db: "D".into(),
        json: true,
    };
    assert_eq!(asked("status -db D -json"), Ok(Invocation::Status(status)));
    let log = asked("log -attempt 2 count/a.txt");
    let Ok(Invocation::Log(log)) = log else {
        panic!("{log:?}")
    };
    assert_eq!(
        (log.attempt.map(|n| n.get()), log.step),
        (Some(2), Some("count/a.txt".into()))
    );
    assert!(asked("log --failed").is_ok());
    let cat = Cat {
        db: "./db".into(),
        what: vec!["total".into(), "-x/y".into()],
    };
    assert_eq!(asked("cat total -- -x/y"), Ok(Invocation::Cat(cat)));
    let export = asked("export total --to out --partial");
    let Ok(Invocation::Export(export)) = export else {
        panic!("{export:?}")
    };
    assert_eq!(
        (export.task.as_str(), export.to),
        ("total", PathBuf::from("out"))
    );
    assert!(export.partial && !export.json);
}

#[test]
fn misuse_says_what_was_meant() {
    assert_eq!(
        misuse("--manifset M"),
        "unknown option `--manifset`; did you mean `--manifest`?"
    );
    assert_eq!(
        misuse("-manifset M"),
        "unknown option `-manifset`; did you mean `--manifest`?"
    );
    assert_eq!(
        misuse("-paralel=4"),
        "unknown option `-paralel=4`; did you mean `--parallel`?"
    );
    assert_eq!(
        misuse("-jobz"),
        "unknown option `-jobz`; did you mean `--jobs`?"
    );
    assert_eq!(misuse("-kx"), "unknown option `-kx`");
    assert_eq!(misuse("--frobnicate"), "unknown option `--frobnicate`");
    assert_eq!(misuse("status -k"), "unknown option `-k`");
    assert_eq!(misuse("--db"), "`--db` needs a value");
    assert_eq!(misuse("-kj"), "`--jobs` needs a value");
    assert_eq!(misuse("--keep-going=yes"), "`--keep-going` takes no value");
    assert_eq!(misuse("status x"), "`status` can't use `x`");
    assert_eq!(misuse("export a b --to d"), "`export` can't use `b`");
    assert_eq!(misuse("export a"), "`export` needs --to DIR");
    assert_eq!(misuse("export --to d"), "`export` needs a TASK");
    let exit = asked("status -k").expect_err("no such option");
    assert!(
        exit.text.ends_with("see `task-pipeline status --help`"),
        "{}",
        exit.text
    );
}

#[test]
fn bad_values_are_told_in_our_words() {
    let number = "must be a whole number from 1 to 4096";
    for value in ["0", "-1", "x", "1.5", "80000", "99999999999999999999"] {
        let told = format!("bad value `{value}` for `--jobs`: {number}");
        assert_eq!(misuse(&format!("-j {value}")), told);
    }
    assert_eq!(
        misuse("--durability full"),
        "bad value `full` for `--durability`: expected \"batch\" or \"off\""
    );
    assert_eq!(
        misuse("--db="),
        "bad value `` for `--db`: a path can't be empty"
    );
    let exit = parse(["x".into(), OsString::new()].into_iter()).expect_err("no path");
    assert_eq!(exit.text, "bad argument ``: a path can't be empty");
    assert!(misuse("log --attempt 0 s").starts_with("bad value `0` for `--attempt`: must be"));
}

#[test]
fn words_that_contradict_each_other_are_refused() {
    for line in [
        "-q -v",
        "--no-inputs in",
        "plan --no-inputs in",
        "--json",
        "- -",
    ] {
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
    for line in ["-h", "-help", "help", "help nonsense", "-h -k"] {
        assert_eq!(help(line), overview, "{line}");
    }
    for line in [
        "log --help",
        "log -h",
        "log x -help",
        "help log",
        "--help log",
        "log --failed -h",
    ] {
        assert!(
            help(line).starts_with("Print what a step's script printed."),
            "{line}"
        );
    }
    assert!(help("-k --help").starts_with("Run what has to be run"));
}

#[test]
fn help_lists_every_command_option_and_exit_code() {
    let overview = help("--help");
    for command in Invocation::get_args_info().commands {
        assert!(
            overview.contains(&format!("\n  {} ", command.name)),
            "{}",
            command.name
        );
        let help = help(&format!("{} --help", command.name));
        for flag in command.command.flags {
            assert!(help.contains(flag.long), "{} {}", command.name, flag.long);
        }
        for line in help.lines().chain(overview.lines()) {
            assert!(
                line.chars().count() <= 80 && line.trim_end() == line,
                "{line:?}"
            );
        }
    }
    for code in [0, 1, 2, 65, 70, 73, 74, 75] {
        assert!(overview.contains(&format!("\n  {code} ")), "{code}");
    }
}

#[test]
fn the_version_is_an_answer() {
    for line in [
        "--version",
        "-version",
        "-V",
        "-k --version",
        "status --version",
    ] {
        assert_eq!(
            help(line),
            concat!("task-pipeline ", env!("CARGO_PKG_VERSION")),
            "{line}"
        );
    }
}

#[test]
fn a_word_that_should_have_been_a_command_is_recognised() {
    assert_eq!(command_like(OsStr::new("staus")), Some("status"));
    assert_eq!(command_like(OsStr::new("status")), Some("status"));
    assert_eq!(command_like(OsStr::new("data.csv")), None);
    assert_eq!(command_like(OsStr::from_bytes(b"\xff")), None);
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
