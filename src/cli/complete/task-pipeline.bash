# bash completions of task-pipeline: source <(task-pipeline completions bash)
_task_pipeline() {
    local cur=${COMP_WORDS[COMP_CWORD]} word quoted
    [[ $cur == "=" ]] && cur=
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        case $word in
            :files) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
            :folders) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
            *) printf -v quoted %q "$word"; [[ $quoted == "$cur"* ]] && COMPREPLY+=("$quoted") ;;
        esac
    done < <("${COMP_WORDS[0]/#\~/$HOME}" completions --words bash -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _task_pipeline task-pipeline
