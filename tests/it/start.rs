//! What helps to begin: `init`, completions, the manual page. Both of the latter are held to the help.

use std::process::{Command, Stdio};

use crate::harness::{Project, Ran};

/// (command, its help)
fn commands(p: &Project) -> Vec<(String, String)> {
    let overview = p.call(["--help"]).ok().stdout;
    let list = overview.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
    assert!(names.len() > 10 && names.contains(&"completions"), "{names:?}");
    let help = |name: &&str| ((*name).to_owned(), p.call([name, "--help"]).ok().stdout);
    names.iter().map(help).collect()
}

/// The options in a help text.
fn options(help: &str) -> Vec<&str> {
    let table = help.split("Options:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let words =
        table.lines().filter(|line| line.starts_with("  ") && !line.starts_with("        "));
    let words = words.flat_map(|line| line.trim_start().split("  ").take(1));
    let words = words.flat_map(|left| left.split([' ', ',']));
    let options: Vec<&str> = words.filter(|word| word.starts_with('-')).collect();
    assert!(options.contains(&"--help") && options.contains(&"-h"), "{help}");
    options
}

/// What a shell says to a line of its own.
#[track_caller]
fn shell(p: &Project, words: &[&str]) -> String {
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_task-pipeline")).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut run = Command::new(words[0]);
    run.args(&words[1..]).current_dir(p.root()).env("PATH", path).env("HOME", p.root());
    let output = run
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|err| panic!("{}: {err}; is it installed?", words[0]));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && told.is_empty(), "{words:?}\n{told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn with_tasks() -> Project {
    Project::new().task("fetch", "true").task("sum-up", "true")
}

#[test]
fn the_manual_has_every_command_and_option() {
    let p = Project::new();
    let page = p.call(["man"]).ok().stdout;
    for (name, help) in commands(&p) {
        let section = page.split(&format!(".SS \"{name}\"\n")).nth(1).expect(&name);
        let section = section.split("\n.S").next().unwrap();
        for option in options(&help) {
            let bold = format!("\\fB{}\\fR", option.replace('-', "\\-"));
            assert!(section.contains(&bold), "{name} {option}\n{section}");
        }
    }
    for code in ["0", "1", "2", "65", "70", "73", "74", "75"] {
        assert!(page.contains(&format!("\\fB{code}\\fR")), "{code}");
    }
}

#[test]
fn the_manual_is_roff_without_a_warning() {
    let p = Project::new();
    p.file("page.1", p.call(["man"]).ok().stdout);
    let shown = shell(&p, &["groff", "-man", "-Tutf8", "-P-cbou", "-ww", "-rLL=78n", "page.1"]);
    assert!(shown.contains("--manifest") && shown.contains("./db if not given"), "{shown}");
    assert!(
        shown.contains("source  <(task-pipeline") || shown.contains("source <(task-pipeline"),
        "{shown}"
    );
}

#[test]
fn every_shell_is_given_every_command_and_option() {
    let p = Project::new();
    for (shell, script) in
        ["bash", "zsh", "fish"].map(|shell| (shell, p.call(["completions", shell]).ok().stdout))
    {
        for (name, help) in commands(&p) {
            assert!(script.contains(&name), "{shell}: {name}");
            // Help is left out of no command, so it may be told once for all.
            for option in options(&help).into_iter().filter(|option| *option != "-h") {
                let bare = option.trim_start_matches('-');
                let told = match shell {
                    "fish" if option.starts_with("--") => format!("-l {bare} "),
                    "fish" => format!("-s {bare} "),
                    _ => option.to_owned(),
                };
                assert!(script.contains(&told), "{shell}: {name} {option}");
            }
        }
    }
    p.call(["completions", "tcsh"]).fails(2).says("bash");
}

#[test]
fn bash_completes_commands_options_values_files_and_tasks() {
    let p = with_tasks().file("my input.txt", "");
    p.file("done.bash", p.call(["completions", "bash"]).ok().stdout);
    let complete = |line: &str| {
        let script = format!(
            "source ./done.bash; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _task_pipeline; printf '%s,' \"${{COMPREPLY[@]}}\""
        );
        shell(&p, &["bash", "--norc", "-c", &script])
    };
    assert_eq!(complete("task-pipeline st"), "status,");
    assert_eq!(complete("task-pipeline my"), "my input.txt,");
    assert_eq!(complete("task-pipeline --ev"), "--events,");
    assert_eq!(complete("task-pipeline -manif"), "-manifest,");
    assert_eq!(complete("task-pipeline export --t"), "--to,");
    assert_eq!(complete("task-pipeline export ''"), "fetch,sum-up,");
    assert_eq!(complete("task-pipeline run -k --step s"), "sum-up,");
    assert_eq!(complete("task-pipeline --color = al"), "always,");
    assert_eq!(complete("task-pipeline --durability ''"), "batch,off,");
    assert_eq!(complete("task-pipeline log -manifest"), ",");
    // Without a manifest, the database knows them.
    p.run().ok();
    std::fs::rename(p.path("db"), p.path("elsewhere")).unwrap();
    p.remove("pipeline.toml");
    assert_eq!(complete("task-pipeline export ''"), ",");
    assert_eq!(complete("task-pipeline export -db elsewhere f"), "fetch,");
}

#[test]
fn zsh_and_fish_take_their_completions() {
    let p = with_tasks();
    p.file("_task-pipeline", p.call(["completions", "zsh"]).ok().stdout);
    p.file("done.fish", p.call(["completions", "fish"]).ok().stdout);
    shell(&p, &["zsh", "-f", "-n", "_task-pipeline"]);
    let load =
        "fpath=($PWD $fpath); autoload -U compinit; compinit -u -D; echo $_comps[task-pipeline]";
    assert_eq!(shell(&p, &["zsh", "-f", "-c", load]), "_task-pipeline\n");
    let fish = |line: &str| {
        let script = format!("source done.fish; complete -C '{line}'");
        let said = shell(&p, &["fish", "--no-config", "-c", &script]);
        said.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(fish("task-pipeline stat"), ["status"]);
    assert_eq!(fish("task-pipeline export "), ["fetch", "sum-up"]);
    assert_eq!(fish("task-pipeline --step s"), ["sum-up"]);
    assert_eq!(fish("task-pipeline log --att"), ["--attempt"]);
    assert_eq!(fish("task-pipeline --color "), ["always", "auto", "never"]);
}

#[test]
fn the_names_of_tasks_are_those_of_the_manifest_or_nothing() {
    let p = with_tasks();
    let told = |ran: Ran| ran.ok().stdout;
    assert_eq!(told(p.call(["completions", "tasks"])), "fetch\nsum-up");
    p.file("broken.toml", "[[task]").file("other.toml", "[[task]]\nname = 'x'\nscript = 'true'");
    assert_eq!(told(p.call(["completions", "tasks", "-manifest", "other.toml"])), "x");
    assert_eq!(told(p.call(["completions", "tasks", "-manifest", "broken.toml"])), "");
    assert!(!p.path("db").exists());
}

#[test]
fn the_starter_runs_as_it_is_and_is_never_written_over() {
    let p = Project::new();
    p.call([""; 0]).fails(2).says("task-pipeline init");
    p.call(["init"]).ok().says("wrote pipeline.toml; run it with: task-pipeline");
    p.call([""; 0]).ok().says("total 4 steps: 4 run");
    assert_eq!(p.exported("total")["total.txt"], "9 words\n");
    p.call([""; 0]).ok().says("nothing to do: 4 steps");
    p.file("pipeline.toml", "mine")
        .call(["init"])
        .fails(2)
        .says("`pipeline.toml` is there already");
    assert_eq!(p.read("pipeline.toml"), "mine");
    p.call(["init", "a/new folder"]).ok().says("cd 'a/new folder' && task-pipeline");
    assert!(p.path("a/new folder/pipeline.toml").exists());
    p.call(["init", "pipeline.toml"]).fails(74).says("pipeline.toml");
}
