#!/usr/bin/env bash
# One gather over very many small files: how long they take to be staged, when they are new and when others were staged and
# removed just before, and what is kept in memory. Prints one line for each run.
#   benches/gather.sh [COUNT]...        4771 and 100000; half a minute; wants: apt-get install jq time
# Nothing is deleted; the folder is named at the end.
# shellcheck disable=SC2016  # what is quoted is for other shells
set -euo pipefail

here=$(cd "$(dirname "$0")/.." && pwd)
ours=${TASK_PIPELINE_BIN:-$here/target/release/task-pipeline}
[ -x "$ours" ] || { echo "build it first: cargo build --release" >&2; exit 2; }
[ -x /usr/bin/time ] || { echo "apt-get install time" >&2; exit 2; }
command -v jq > /dev/null || { echo "apt-get install jq" >&2; exit 2; }
root=$(mktemp -d "${TMPDIR:-/tmp}/gather.XXXXXX")

task() { # NAME SCRIPT [LINE]
    printf "[[task]]\nname = '%s'\n%s\nscript = '''\n%s\n'''\n" "$1" "${3:-}" "$2"
}

[ $# -gt 0 ] || set -- 4771 100000
for count; do
    dir=$root/$count
    mkdir "$dir"
    {
        task make 'seq '"$count"' | split -d -a 6 -l 1 - "$OUTPUT_DIR/l"'
        task all 'wc -l < "$INPUT_FILE" > "$OUTPUT_DIR/n"' 'gather = true'
    } > "$dir/p.toml"
    sync
    for again in '' '-B --step all' '-B --step all'; do
        # shellcheck disable=SC2086  # options
        /usr/bin/time -o "$dir/time" -f %M "$ours" -q $again -j2 -manifest "$dir/p.toml" -db "$dir/db" --events "$dir/events"
        jq -rs --arg what "$count inputs${again:+, again}" --argjson kib "$(tail -n 1 "$dir/time")" '
            def of($event; $task): map(select(.event == $event and .task == $task)) | first;
            of("step_ended"; "all") as $all | of("step_ended"; "make") as $make | of("step_started"; "all") as $started |
            "\($what): staged in \($all.started_ms - $started.time_ms) ms" +
            (if $make then ", \($all.started_ms - $make.time_ms) ms after the last step before" else "" end) +
            "; script and checks \($all.time_ms - $all.started_ms) ms; \($kib / 1024 | round) MB"' "$dir/events"
    done
done
echo "what was made is in $root" >&2
