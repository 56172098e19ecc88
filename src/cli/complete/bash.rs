//! For bash.

use argh::SubCommandInfo;

use super::{Takes, options, takes, value};

const HEAD: &str = r#"# bash completions of task-pipeline: source <(task-pipeline completions bash)

# The tasks of the manifest or the database that the command line names.
_task_pipeline_tasks() {
    local i word asked=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]#-}
        case ${word#-} in
            manifest | db)
                [[ ${COMP_WORDS[i + 1]} == "=" ]] && ((i++))
                asked+=("--${word#-}" "${COMP_WORDS[i + 1]/#\~/$HOME}")
                ;;
        esac
    done
    "${COMP_WORDS[0]/#\~/$HOME}" completions "${asked[@]}" tasks 2>/dev/null
}

_task_pipeline() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command=run long short takes=
    if [[ $cur == "=" ]]; then
        cur=
    elif [[ $prev == "=" ]]; then
        prev=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    COMPREPLY=()
"#;

const TAIL: &str = r#"    if [[ -z $takes && $cur == -* ]]; then
        # Long options are written with one dash or two.
        [[ $cur == --* || $cur == - ]] || long=${long//--/-}
        COMPREPLY=($(compgen -W "$long $short" -- "$cur"))
        return
    fi
    [[ -z $takes ]] && takes=$rest
    case $takes in
        file) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
        folder) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
        task) COMPREPLY=($(compgen -W "$(_task_pipeline_tasks)" -- "$cur")) ;;
        words:*) COMPREPLY=($(compgen -W "${takes#words:}" -- "$cur")) ;;
    esac
    # The first word is a command, or what the command `run` may begin with.
    if ((COMP_CWORD == 1)); then
        COMPREPLY+=($(compgen -W "$commands" -- "$cur"))
    fi
}
complete -F _task_pipeline task-pipeline
"#;

pub(super) fn script(commands: &[SubCommandInfo]) -> String {
    let names: Vec<&str> = commands.iter().map(|command| command.name).collect();
    let mut out = HEAD.to_owned();
    out.push_str(&format!("    local rest= commands=\"{}\"\n", names.join(" ")));
    out.push_str(&format!(
        "    if ((COMP_CWORD > 1)); then\n        case ${{COMP_WORDS[1]}} in\n            {}) command=${{COMP_WORDS[1]}} ;;\n        esac\n    fi\n",
        names.join(" | ")
    ));
    out.push_str("    case $command in\n");
    for command in commands {
        let long: Vec<&str> = options(&command.command).map(|flag| flag.long).collect();
        let short = options(&command.command).filter_map(|flag| flag.short);
        let short: Vec<String> = short.map(|letter| format!("-{letter}")).collect();
        let rest = command.command.positionals.last().map_or(Takes::Other, |last| takes(last.name));
        out.push_str(&format!(
            "        {})\n            long=\"{}\" short=\"{}\" rest=\"{}\"\n",
            command.name,
            long.join(" "),
            short.join(" "),
            word(rest)
        ));
        out.push_str("            case $prev in\n");
        for flag in options(&command.command) {
            if let Some((_, takes)) = value(flag) {
                let name = flag.long.trim_start_matches('-');
                let letter = flag.short.map_or(String::new(), |letter| format!(" | -{letter}"));
                let takes = word(takes);
                out.push_str(&format!(
                    "                -{name} | --{name}{letter}) takes=\"{takes}\" ;;\n"
                ));
            }
        }
        out.push_str("            esac\n            ;;\n");
    }
    out.push_str("    esac\n");
    out.push_str(TAIL);
    out
}

fn word(takes: Takes) -> String {
    match takes {
        Takes::File => "file".to_owned(),
        Takes::Folder => "folder".to_owned(),
        Takes::Task => "task".to_owned(),
        Takes::Words(words) => format!("words:{words}"),
        Takes::Other => "other".to_owned(),
    }
}
