#!/usr/bin/env bash
# Asking while it runs: how long `status`, `explain`, `lineage` and `log --follow` take during a run, and
# what they cost the run. Runs without and with questions in turn; prints medians and the worst.
#   benches/answers.sh [PAIRS]       default 5; 3 minutes. STEPS, PAUSE (seconds between questions)
# Nothing is deleted; the folder is named at the end.
# shellcheck disable=SC2016  # what is quoted is for other shells
set -euo pipefail

pairs=${1:-5}
STEPS=${STEPS:-20000}
PAUSE=${PAUSE:-1}
here=$(cd "$(dirname "$0")/.." && pwd)
ours=${TASK_PIPELINE_BIN:-$here/target/release/task-pipeline}
[ -x "$ours" ] || { echo "build it first: cargo build --release" >&2; exit 2; }
root=$(mktemp -d "${TMPDIR:-/tmp}/answers.XXXXXX")

seq "$STEPS" > "$root/input"
cat > "$root/p.toml" <<'TOML'
[[task]]
name = "lines"
inputs = ["input"]
script = 'split -d -a 6 -l 1 "$INPUT_FILE" "$OUTPUT_DIR/l"'

[[task]]
name = "each"
script = 'read -r x < "$INPUT_FILE"; echo "done $x"; echo "made of $x" > "$OUTPUT_DIR/$INPUT_NAME"'
TOML

ask() { # DB QUESTION...
    local db=$1 begun ended
    shift
    begun=$EPOCHREALTIME
    "$ours" "$@" -db "$db" > "$root/answer" 2> "$root/stderr" || { cat "$root/stderr" >&2; exit 1; }
    ended=$EPOCHREALTIME
    [ -s "$root/answer" ] || { echo "no answer to: $*" >&2; exit 1; }
    echo "${1}${2:+ $2} $((${ended/./} - ${begun/./}))" >> "$root/asked"
}

# The hash of what the first step of `each` made.
made=$(printf 'made of 1\n' | sha256sum | cut -d' ' -f1)
run() { # NAME WITH_QUESTIONS
    local db=$root/$1 runner number=0 ready=
    sync
    # Takes its own time: whoever asks sees its end up to a pause too late.
    (
        begun=$EPOCHREALTIME
        "$ours" -q -j2 --durability off -manifest "$root/p.toml" -db "$db" 2> "$root/stderr"
        ended=$EPOCHREALTIME
        echo "$1 $2 $((${ended/./} - ${begun/./}))" >> "$root/runs"
    ) &
    runner=$!
    while [ "$2" = yes ]; do
        # Not a `sleep`, which would be a process more.
        read -r -t "$PAUSE" < "$root/never" || true
        kill -0 $runner 2> /dev/null || break
        # Nothing to be asked before the first of them is done.
        [ -n "$ready" ] || "$ours" cat -db "$db" each/l000000 > /dev/null 2>&1 || continue
        ready=yes
        case $((number++ % 5)) in
            0) ask "$db" status ;;
            1) ask "$db" explain each/l000000 ;;
            2) ask "$db" lineage each/l000000 ;;
            3) ask "$db" lineage "$made" ;;
            4) ask "$db" log --follow each/l000000 ;;
        esac
    done
    wait $runner || { cat "$root/stderr" >&2; exit 1; }
}

mkfifo "$root/never"
exec 9<> "$root/never"
for ((pair = 1; pair <= pairs; pair++)); do
    # Each pair the other way round.
    if ((pair % 2)); then order="no yes"; else order="yes no"; fi
    for with in $order; do run "$pair-$with" $with; done
done

# Of each pair, since the machine's pace changes from one to the next; then the one in the middle.
awk '
    { split($1, name, "-"); t[name[1], $2] = $3; if (name[1] + 0 > pairs) pairs = name[1] + 0 }
    END { for (p = 1; p <= pairs; p++) print t[p, "yes"] / t[p, "no"], t[p, "no"] / 1e6, t[p, "yes"] / 1e6 }
' "$root/runs" | sort -n | awk '
    { line[NR] = $0; ratio[NR] = $1 }
    END {
        middle = NR % 2 ? ratio[(NR + 1) / 2] : (ratio[NR / 2] + ratio[NR / 2 + 1]) / 2
        for (n = 1; n <= NR; n++) { split(line[n], f, " "); printf "without %.2f s, with questions %.2f s: %.3f\n", f[2], f[3], f[1] }
        printf "median of %d pairs: %.3f   at most 1.03\n", NR, middle
    }'
sed 's/ each[^ ]*//; s/ [0-9a-f]\{64\} / HASH /; s/ \([0-9]*\)$/\t\1/' "$root/asked" | sort -t "$(printf '\t')" -k1,1 -k2,2n | awk -F '\t' '
    { t[$1, ++n[$1]] = $2 }
    END {
        for (question in n)
            printf "%-16s asked %3d times, median %4.0f ms, worst %4.0f ms   under 200\n", question, n[question],
                t[question, int((n[question] + 1) / 2)] / 1e3, t[question, n[question]] / 1e3
    }'
echo "what was made is in $root" >&2
