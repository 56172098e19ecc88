#compdef task-pipeline
# zsh completions of task-pipeline: task-pipeline completions zsh >~/.zfunc/_task-pipeline
_task_pipeline() {
    local line ret=1
    local -a found paths
    for line in "${(@f)$(_call_program words ${(q)words[1]} completions --words zsh -- "${(@qq)${(@Q)words[2,CURRENT]}}")}"; do
        case $line in
            :files) paths=(_files) ;;
            :folders) paths=(_files -/) ;;
            ?*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    (($#found)) && _describe task-pipeline found && ret=0
    (($#paths)) && { compset -P '-*='; $paths && ret=0 }
    return ret
}
_task_pipeline "$@"
