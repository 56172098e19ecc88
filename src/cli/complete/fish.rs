//! For fish.

use argh::SubCommandInfo;

use super::{Takes, options, short, takes, value};

const HEAD: &str = r#"# fish completions of task-pipeline: task-pipeline completions fish >~/.config/fish/completions/task-pipeline.fish

# The tasks of the manifest or the database that the command line names.
function __task_pipeline_tasks
    set -l words (commandline -opc)
    set -l asked
    for i in (seq 2 (count $words))
        if string match -qr '^--?(manifest|db)$' -- $words[$i]; and test $i -lt (count $words)
            set -a asked $words[$i] $words[(math $i + 1)]
        end
    end
    $words[1] completions $asked tasks 2>/dev/null
end

complete -c task-pipeline -f
"#;

pub(super) fn script(commands: &[SubCommandInfo]) -> String {
    let names: Vec<&str> = commands.iter().map(|command| command.name).collect();
    let others: Vec<&str> = names.iter().copied().filter(|name| *name != "run").collect();
    let mut out = HEAD.to_owned();
    for command in commands {
        let about = quoted(command.command.description);
        out.push_str(&format!(
            "complete -c task-pipeline -n 'test (count (commandline -opc)) -eq 1' -a {} -d {about}\n",
            command.name
        ));
    }
    for command in commands {
        // What is no other command is a run.
        let seen = |names: &str| format!("__fish_seen_subcommand_from {names}");
        let when = match command.name {
            "run" => format!("not {}", seen(&others.join(" "))),
            name => seen(name),
        };
        let line = format!("complete -c task-pipeline -n {}", quoted(&when));
        for flag in options(&command.command) {
            let long = flag.long.trim_start_matches('-');
            let letter = flag.short.map_or(String::new(), |letter| format!(" -s {letter}"));
            let value = value(flag).map_or(String::new(), |(_, takes)| {
                format!(" {}{}", if takes == Takes::File { "-r" } else { "-x" }, action(takes))
            });
            let about = quoted(short(flag));
            out.push_str(&format!("{line} -l {long}{letter}{value} -d {about}\n"));
        }
        if let Some(last) = command.command.positionals.last() {
            let action = action(takes(last.name));
            if !action.is_empty() {
                out.push_str(&format!("{line}{action}\n"));
            }
        }
    }
    out
}

fn action(takes: Takes) -> String {
    match takes {
        Takes::File => " -F".to_owned(),
        Takes::Folder => " -a '(__fish_complete_directories)'".to_owned(),
        Takes::Task => " -a '(__task_pipeline_tasks)'".to_owned(),
        Takes::Words(words) => format!(" -a '{words}'"),
        Takes::Other => String::new(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
