//! The ways to write one thing.

use super::*;

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
        run.only.is_empty() && run.inputs.is_empty() && !run.no_inputs && !run.wait && !run.json
    );
    assert!(parse(std::iter::empty()).is_ok());
}

#[test]
fn every_spelling_of_an_option_means_the_same() {
    for line in
        ["-j8", "-j 8", "-j=8", "-jobs 8", "--jobs=8", "-jobs=8", "--parallel 8", "-parallel=8"]
    {
        assert_eq!(run(line).jobs.map(|jobs| jobs.get()), Some(8), "{line}");
    }
    for line in
        ["--manifest=M", "-manifest=M", "--manifest M", "run -manifest M", "run --manifest=M"]
    {
        assert_eq!(run(line).manifest.as_deref(), Some(Path::new("M")), "{line}");
    }
    for line in ["-k -n", "-kn", "-n -k", "--keep-going --dry-run", "-keep-going -dry-run"] {
        let run = run(line);
        assert!(run.keep_going && run.dry_run, "{line}");
    }
    assert!(run("-kj4 -B").always && run("-kj4").jobs.is_some());
    assert_eq!(run("--manifest=a=b").manifest.as_deref(), Some(Path::new("a=b")));
    assert_eq!(run("-durability off").durability, Durability::Off);
    assert_eq!(run("-step a --only=b -only c").only, ["a", "b", "c"]);
    assert_eq!(run("-f M").manifest.as_deref(), Some(Path::new("M")));
    assert_eq!(run("-j4 -j8").jobs.map(|jobs| jobs.get()), Some(8));
}

#[test]
fn inputs_may_stand_anywhere() {
    assert_eq!(run("a -k b -j 2 c").inputs, paths(&["a", "b", "c"]));
    assert_eq!(run("run run status").inputs, paths(&["run", "status"]));
    assert_eq!(run("-").inputs, paths(&["-"]));
    assert_eq!(run("-- -weird-file --db -").inputs, paths(&["-weird-file", "--db", "-"]));
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
    assert_eq!(run("--step --help").only, ["--help"]);
}

#[test]
fn words_that_are_not_utf8_survive() {
    let odd = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    // The last one looks like what stands in for such words on their way through argh.
    let words = [odd(b"-\xff"), odd(b"\xff\n"), odd("\u{f8ff}6869".as_bytes())];
    let line = ["task-pipeline", "-db"].map(OsString::from).into_iter();
    let line = line.chain([odd(b"d\xfe")]).chain(["--".into()]).chain(words.clone());
    let Ok(Invocation::Run(run)) = parse(line) else { panic!("no run") };
    assert_eq!(run.db.into_os_string(), odd(b"d\xfe"));
    assert_eq!(run.inputs, words.map(PathBuf::from));
    let line = ["x".into(), odd(b"--db=\xff")].into_iter();
    let Ok(Invocation::Run(run)) = parse(line) else { panic!("no run") };
    assert_eq!(run.db.into_os_string(), odd(b"\xff"));
    let log = parse(["x".into(), "log".into(), odd(b"t/\xff")].into_iter());
    let Ok(Invocation::Log(log)) = log else { panic!("no log") };
    assert_eq!(log.step, Some(odd(b"t/\xff")));
    let exit = parse(["x".into(), odd(b"--\xff\x1b")].into_iter()).expect_err("no such option");
    assert!(exit.text.starts_with("unknown option `--\\xff\\x1b`"), "{}", exit.text);
    let exit = parse(["x".into(), "--step".into(), odd(b"\xff")].into_iter()).expect_err("no name");
    assert!(exit.text.starts_with("bad value `\\xff` for `--only`: "), "{}", exit.text);
}

#[test]
fn every_command_is_read() {
    let plan = asked("plan -manifest M --json -B in");
    let Ok(Invocation::Plan(plan)) = plan else { panic!("{plan:?}") };
    let run = plan.as_run();
    assert!(run.dry_run && run.json && run.always);
    assert_eq!(run.inputs, paths(&["in"]));
    let color = Color::Auto;
    let status = StatusArgs { db: "D".into(), runs: 2, color, json: true };
    assert_eq!(asked("status -db D -json -runs=2"), Ok(Invocation::Status(status)));
    let log = asked("log -attempt 2 count/a.txt");
    let Ok(Invocation::Log(log)) = log else { panic!("{log:?}") };
    assert_eq!((log.attempt.map(|n| n.get()), log.step), (Some(2), Some("count/a.txt".into())));
    assert!(asked("log --failed").is_ok());
    let cat = CatArgs { db: "./db".into(), what: vec!["total".into(), "-x/y".into()] };
    assert_eq!(asked("cat total -- -x/y"), Ok(Invocation::Cat(cat)));
    let export = asked("export total --to out --partial");
    let Ok(Invocation::Export(export)) = export else { panic!("{export:?}") };
    assert_eq!((export.task.as_str(), export.to), ("total", PathBuf::from("out")));
    assert!(export.partial && !export.json);
}
