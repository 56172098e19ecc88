//! For zsh.

use argh::{Optionality, SubCommandInfo};

use super::{Takes, options, short, takes, value};

const HEAD: &str = r#"#compdef task-pipeline
# zsh completions of task-pipeline: task-pipeline completions zsh >~/.zfunc/_task-pipeline

# The tasks of the manifest or the database that the command line names.
_task_pipeline_tasks() {
    local -a asked tasks
    local i
    for ((i = 2; i < $#_task_pipeline_words; i++)); do
        case $_task_pipeline_words[i] in
            -manifest | --manifest) asked+=(--manifest $_task_pipeline_words[i+1]) ;;
            -db | --db) asked+=(--db $_task_pipeline_words[i+1]) ;;
        esac
    done
    tasks=(${(f)"$(_call_program tasks $_task_pipeline_words[1] completions ${(q)asked} tasks)"})
    compadd -a tasks
}

_task_pipeline() {
    local -a _task_pipeline_words commands
    local command=run
    _task_pipeline_words=($words)
"#;

const TAIL: &str = r#"}

_task_pipeline "$@"
"#;

pub(super) fn script(commands: &[SubCommandInfo]) -> String {
    let mut out = HEAD.to_owned();
    out.push_str("    commands=(\n");
    for command in commands {
        let about = quoted(&format!("{}:{}", command.name, command.command.description));
        out.push_str(&format!("        {about}\n"));
    }
    out.push_str(
        "    )\n    if ((CURRENT == 2)) && [[ $words[2] != -* ]]; then\n        \
         _describe command commands\n    elif ((CURRENT > 2)) && ((${#commands[(r)$words[2]:*]})); then\n        \
         command=$words[2]\n        shift words\n        ((CURRENT--))\n    fi\n    case $command in\n",
    );
    for command in commands {
        out.push_str(&format!("        {})\n            _arguments -s", command.name));
        for flag in options(&command.command) {
            let repeats = if flag.optionality == Optionality::Repeating { "*" } else { "" };
            let about = escaped(short(flag));
            let value = value(flag).map_or(String::new(), |(name, takes)| action(name, takes));
            let equals = if value.is_empty() { "" } else { "=" };
            let spec = |name: &str| quoted(&format!("{repeats}{name}[{about}]{value}"));
            out.push_str(&format!(
                " \\\n                {}",
                spec(&format!("{}{equals}", flag.long))
            ));
            if let Some(letter) = flag.short {
                let plus = if value.is_empty() { "" } else { "+" };
                out.push_str(&format!(
                    " \\\n                {}",
                    spec(&format!("-{letter}{plus}"))
                ));
            }
        }
        for (n, positional) in command.command.positionals.iter().enumerate() {
            let place = match positional.optionality {
                Optionality::Repeating | Optionality::Greedy => "*".to_owned(),
                _ => (n + 1).to_string(),
            };
            let value = action(positional.name, takes(positional.name));
            out.push_str(&format!(" \\\n                {}", quoted(&format!("{place}{value}"))));
        }
        out.push_str("\n            ;;\n");
    }
    out.push_str("    esac\n");
    out.push_str(TAIL);
    out
}

fn action(name: &str, takes: Takes) -> String {
    match takes {
        Takes::File => format!(":{name}:_files"),
        Takes::Folder => format!(":{name}:_files -/"),
        Takes::Task => format!(":{name}:_task_pipeline_tasks"),
        Takes::Words(words) => format!(":{name}:({words})"),
        Takes::Other => format!(":{name}: "),
    }
}

/// What `_arguments` could take for its own.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if matches!(c, '[' | ']' | ':' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}
