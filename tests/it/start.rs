//! What helps beginners: `init`, completions, the manual page. The help says what the last two must have.

use std::process::{Command, Stdio};

use crate::harness::Project;

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
    // `-j, --jobs N`: the explanation that follows may name options too.
    let words = words.flat_map(|line| line.split_whitespace().take(2));
    let words = words.filter(|word| word.starts_with('-'));
    let options: Vec<&str> = words.map(|word| word.trim_end_matches(',')).collect();
    assert!(options.contains(&"--help") && options.contains(&"-h"), "{help}");
    options
}

/// What a shell prints when it runs these words.
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
    assert!(shown.contains("--manifest") && shown.contains("default: ./db"), "{shown}");
    assert!(
        shown.contains("source  <(task-pipeline") || shown.contains("source <(task-pipeline"),
        "{shown}"
    );
}

/// What is told to the script of a shell: the words that may stand for the last one of `line`.
#[track_caller]
fn told(p: &Project, shell: &str, line: &[&str]) -> Vec<String> {
    let ran = p.call(["completions", "--words", shell, "--"].iter().chain(line)).ok();
    let word = |line: &str| line.split('\t').next().unwrap().to_owned();
    ran.stdout.lines().map(word).collect()
}

#[test]
fn every_shell_is_given_every_command_and_option() {
    let p = Project::new();
    for shell in ["bash", "zsh", "fish"] {
        let first = told(&p, shell, &[""]);
        for (name, help) in commands(&p) {
            assert!(first.contains(&name), "{shell}: {name}");
            let given = told(&p, shell, &[&name, "-"]);
            for option in options(&help).into_iter().filter(|option| *option != "-h") {
                assert!(given.iter().any(|word| word == option), "{shell}: {name} {option}");
            }
        }
    }
    p.call(["completions", "tcsh"]).fails(2).says("bash");
    p.call(["completions", "bash", "extra"]).fails(2).says("one SHELL");
}

#[test]
fn completions_depend_on_the_words_before_the_cursor() {
    let p = with_tasks();
    let told = |line: &[&str]| told(&p, "fish", line);
    let tasks = ["fetch", "sum-up"];
    assert_eq!(told(&["export", "--partial", ""]), tasks);
    assert_eq!(told(&["export", "--to", ""]), [":folders"]);
    assert_eq!(told(&["--events=x", "--trace", ""]), [":files"]);
    assert_eq!(told(&["-j8", "-kj", ""]), [""; 0]);
    assert_eq!(told(&["-j8", "x", ""]), [":files"]);
    assert_eq!(told(&["--color="]), ["--color=auto", "--color=always", "--color=never"]);
    assert_eq!(told(&["graph", "-format", ""]), ["text", "dot", "mermaid", "json"]);
    assert_eq!(told(&["graph", "--format="])[1], "--format=dot");
    assert_eq!(told(&["--launch", ""]), ["auto", "fork", "spawn"]);
    assert_eq!(told(&["--progress", ""]), ["auto", "plain", "bar", "none"]);
    assert_eq!(told(&["-C", ""]), [":folders"]);
    assert_eq!(told(&["-C", "x", "export", "--to", ""]), [":folders"]);
    assert!(told(&["-C", "x", ""]).contains(&"status".to_owned()));
    assert!(told(&[""]).contains(&"help".to_owned()));
    assert!(told(&["help", ""]).contains(&"manifest".to_owned()));
    assert!(told(&["help", ""]).contains(&"export".to_owned()));
    assert!(told(&["help", "manifest", ""]).contains(&"outputs".to_owned()));
    assert_eq!(told(&["--step", "--step", "log", "--", "-"]), [":files"]);
    assert_eq!(told(&["completions", ""]), ["bash", "zsh", "fish"]);
    assert!(told(&["status", "-j"]).contains(&"-json".to_owned()));
    assert!(!told(&["completions", "--"]).contains(&"--words".to_owned()));
    assert!(told(&["--no-such", "--"]).contains(&"--keep-going".to_owned()));
}

/// What bash makes of a line, with a comma behind each word.
fn completed_by_bash(p: &Project, line: &str) -> String {
    // It asks the program for all that may change.
    if !p.path("done.bash").exists() {
        p.file("done.bash", p.call(["completions", "bash"]).ok().stdout);
    }
    let script = format!(
        "source ./done.bash; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
         _task_pipeline; printf '%s,' \"${{COMPREPLY[@]}}\""
    );
    shell(p, &["bash", "--norc", "-c", &script])
}

#[test]
fn bash_completes_commands_options_values_files_and_tasks() {
    let p = with_tasks().file("my input.txt", "");
    let complete = |line: &str| completed_by_bash(&p, line);
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
fn after_the_name_of_a_task_come_those_of_its_inputs_or_outputs() {
    let p = Project::new().file("in/my file.txt", "").file("in/b", "");
    let script = "touch \"$OUTPUT_DIR/of $INPUT_NAME\"";
    p.task_with("copy", "inputs = [\"in/*\"]", script);
    let told = |line: &[&str]| told(&p, "fish", line);
    assert_eq!(told(&["log", "copy/"]), [""; 0]);
    p.run().ok();
    for command in ["log", "explain", "lineage"] {
        assert_eq!(told(&[command, "copy/"]), ["copy/b", "copy/my file.txt"], "{command}");
    }
    assert_eq!(told(&["log", "copy/m"]), ["copy/my file.txt"]);
    assert_eq!(told(&["cat", "copy/"]), ["copy/of b", "copy/of my file.txt"]);
    assert_eq!(told(&["cat", "copy/of b", "co"]), ["copy"]);
    assert_eq!(told(&["log", "no-task/"]), [""; 0]);
    let complete = |line: &str| completed_by_bash(&p, line);
    // As the shell has to read it, also where that was begun.
    assert_eq!(complete("task-pipeline log copy/"), r"copy/b,copy/my\ file.txt,");
    assert_eq!(complete(r"task-pipeline log 'copy/my\ f'"), r"copy/my\ file.txt,");
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
fn zsh_asks_for_the_words_and_offers_them() {
    let p = with_tasks().file("my input.txt", "");
    p.file("_task-pipeline", p.call(["completions", "zsh"]).ok().stdout);
    // What would be shown, without a terminal: the functions that show it are replaced.
    let complete = |line: &str, current: usize| {
        let script = format!(
            "_call_program() {{ shift; eval $* }}; _describe() {{ print -rl -- ${{(P)@[-1]}} }}; \
             _files() {{ print files $* }}; compset() {{ true }}; \
             words=({line}); CURRENT={current}; source ./_task-pipeline || true"
        );
        let said = shell(&p, &["zsh", "-f", "-c", &script]);
        said.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(complete("task-pipeline export ''", 3), ["fetch", "sum-up"]);
    assert_eq!(complete("task-pipeline --color ''", 3), ["auto", "always", "never"]);
    assert_eq!(complete("task-pipeline export --to ''", 4), ["files -/"]);
    assert!(complete("task-pipeline st", 2).contains(&"status".to_owned()));
    assert!(complete("task-pipeline log -", 3).contains(&"--follow".to_owned()));
    p.file("my pipeline.toml", p.read("pipeline.toml")).remove("pipeline.toml");
    let named = r"task-pipeline -manifest 'my\ pipeline.toml' --step ''";
    assert_eq!(complete(named, 5), ["fetch", "sum-up"]);
}

#[test]
fn the_names_of_tasks_are_those_of_the_manifest_or_nothing() {
    let p = with_tasks();
    let tasks = |words: &[&str]| told(&p, "zsh", &[&["run"], words, &["--step", ""]].concat());
    assert_eq!(tasks(&[]), ["fetch", "sum-up"]);
    p.file("broken.toml", "[[task]").file("other.toml", "[[task]]\nname = 'x'\nscript = 'true'");
    assert_eq!(tasks(&["-manifest", "other.toml"]), ["x"]);
    assert_eq!(tasks(&["-manifest", "broken.toml"]), [""; 0]);
    assert!(!p.path("db").exists());
}

#[test]
fn the_starter_runs_as_it_is_and_is_never_written_over() {
    let p = Project::new();
    p.call([""; 0]).fails(2).says("task-pipeline init");
    p.call(["init"]).ok().says("wrote pipeline.toml; run it with: task-pipeline");
    p.call([""; 0]).ok().says("total 4 steps: 4 done");
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
