# fish completions of task-pipeline: task-pipeline completions fish >~/.config/fish/completions/task-pipeline.fish
function __task_pipeline
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l option (string match -r -- '^-.*?=' $current)
    set -l path (string replace -r -- '^-.*?=' '' $current)
    for line in ($words[1] completions --words fish -- $words[2..] "$current" 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path "$path" | string replace -r '^' -- "$option"
            case :folders
                __fish_complete_directories "$path" '' | string replace -r '^' -- "$option"
            case '*'
                echo $line
        end
    end
end
complete -c task-pipeline -f -a '(__task_pipeline)'
