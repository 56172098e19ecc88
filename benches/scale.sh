#!/usr/bin/env bash
# Large runs: whether the millionth step costs what the thousandth did, what is kept in memory and on
# disk, and what a run costs that has nothing to do. Prints one figure a line, with its target.
#   benches/scale.sh                 an hour or so, and 15 GB; wants: apt-get install time
#   STEPS=20000 MIDDLE=10000 SMALL=2000 FAN=10000 FILES=10000 benches/scale.sh      a minute
# Nothing is deleted; the folder is named at the end.
# shellcheck disable=SC2016  # what is quoted is for other shells
set -euo pipefail

STEPS=${STEPS:-1000000}     # steps of the large run, interrupted twice
MIDDLE=${MIDDLE:-100000}    # of one in between, from one input too
SMALL=${SMALL:-10000}       # of the small one that it is compared with
FAN=${FAN:-100000}          # outputs of one step, gathered in the end
FILES=${FILES:-100000}      # input files
DURABILITY=${DURABILITY:-off}
here=$(cd "$(dirname "$0")/.." && pwd)
ours=${TASK_PIPELINE_BIN:-$here/target/release/task-pipeline}
[ -x "$ours" ] || { echo "build it first: cargo build --release" >&2; exit 2; }
[ -x /usr/bin/time ] || { echo "apt-get install time" >&2; exit 2; }
root=$(mktemp -d "${TMPDIR:-/tmp}/scale.XXXXXX")

say() { printf '%-62s %12s   %s\n' "$1" "$2" "${3:-}"; }
calc() { awk "BEGIN { printf \"%.${2:-3}f\", $1 }"; }
# Seconds that a command takes.
seconds() {
    local begun=$EPOCHREALTIME ended
    "$@" > /dev/null 2>> "$root/stderr"
    ended=$EPOCHREALTIME
    calc "(${ended/./} - ${begun/./}) / 1e6" 6
    echo
}
median() { sort -n | awk '{ t[NR] = $1 } END { print NR % 2 ? t[(NR + 1) / 2] : (t[NR / 2] + t[NR / 2 + 1]) / 2 }'; }

# A run, or a part of one, ended by a signal once so many steps are said to be done. Adds its seconds to
# `wall`, the steps it told of to `told`, and keeps the largest memory in `peak` (KiB).
leg() { # DIR [SIGNAL STEPS]
    local dir=$1 signal=${2:-} until=${3:-0} timer runner log begun ended read=0 size count=0
    log=$dir/log.$((++legs))
    : > "$log"
    begun=$EPOCHREALTIME
    # A shell's background job would ignore ^C, and hand that on.
    /usr/bin/time -o "$dir/time" -f %M env --default-signal=INT \
        "$ours" --durability "$DURABILITY" -j2 -manifest "$dir/p.toml" -db "$dir/db" 2> "$log" &
    timer=$!
    if [ -n "$signal" ]; then
        # Only what is new of the log: this loop is not to be measured.
        while kill -0 $timer 2> /dev/null && [ "$count" -lt "$until" ]; do
            sleep 1
            size=$(stat -c %s "$log")
            count=$((count + $(tail -c "+$((read + 1))" "$log" | head -c "$((size - read))" | grep -c ': done' || true)))
            read=$size
        done
        runner=$(ps -o pid= --ppid $timer | tr -d ' ') || true
        [ -z "$runner" ] || kill "-$signal" "$runner"
    fi
    wait $timer || [ -n "$signal" ] || { tail -n 5 "$log" >&2; exit 1; }
    ended=$EPOCHREALTIME
    wall=$(calc "$wall + (${ended/./} - ${begun/./}) / 1e6" 6)
    told=$((told + $(grep -c ': done' "$log" || true)))
    local memory
    memory=$(tail -n 1 "$dir/time")
    [ "$memory" -le "$peak" ] || peak=$memory
}

begin() { legs=0 wall=0 told=0 peak=0; }

# That nothing which was committed ran twice, if sqlite3 is there to tell.
once() { # DIR
    command -v sqlite3 > /dev/null || return 0
    say "  attempts, and the most of one step" "$(sqlite3 "$1/db/db" 'SELECT count(*) || ", " || max(number) FROM attempt')" \
        "the second: 1"
}

task() { # NAME SCRIPT [LINE]
    printf "[[task]]\nname = '%s'\n%s\nscript = '''\n%s\n'''\n" "$1" "${3:-}" "$2"
}

builtin='read -r x < "$INPUT_FILE"; echo "done $x" > "$OUTPUT_DIR/$INPUT_NAME"'

# One input with a line for each step, split in two stages, so that no step leaves too many outputs.
fan_of() { # DIR STEPS
    mkdir "$1"
    seq "$2" > "$1/input"
    {
        task pieces 'split -d -a 4 -n l/100 "$INPUT_FILE" "$OUTPUT_DIR/p"' "inputs = ['input']"
        task lines 'split -d -a 6 -l 1 "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME-"'
        task each "$builtin"
    } > "$1/p.toml"
    sync
}

# The median of nine runs that have nothing to do, in milliseconds.
nothing() { # DIR
    local n
    for ((n = 0; n < 9; n++)); do
        seconds "$ours" -q -manifest "$1/p.toml" -db "$1/db"
    done | median | awk '{ printf "%.1f", $1 * 1000 }'
}

bytes_per_step() { calc "$(stat -c %s "$1/db/db") / $2" 0; }

echo "in $root, --durability $DURABILITY" >&2
# Three times, because it is short, and all others are compared with it.
for n in 1 2 3; do
    fan_of "$root/small$n" "$SMALL"
    begin
    leg "$root/small$n"
    calc "$wall / $SMALL * 1000" 4 >> "$root/small"
    echo >> "$root/small"
done
small=$(median < "$root/small")
say "ms per step, $SMALL steps, median of 3" "$small"
say "  peak memory, MB" "$(calc "$peak / 1024" 1)"

fan_of "$root/middle" "$MIDDLE"
begin
leg "$root/middle"
say "ms per step, $MIDDLE steps" "$(calc "$wall / $MIDDLE * 1000" 4)"
say "  nothing to do, ms" "$(nothing "$root/middle")" "at most 20 (100,000 steps)"

fan_of "$root/large" "$STEPS"
begin
leg "$root/large" INT $((STEPS / 3))
leg "$root/large" KILL $((STEPS / 3))
leg "$root/large"
large=$(calc "$wall / $STEPS * 1000" 4)
say "ms per step, $STEPS steps, ^C and kill -9 included" "$large"
say "  of that with $SMALL" "$(calc "$large / $small" 2)" "at most 1.15"
say "  peak memory, MB" "$(calc "$peak / 1024" 1)" "at most 64"
say "  database, bytes a step" "$(bytes_per_step "$root/large" "$STEPS")" "at most 410"
say "  steps told to be done, of $((STEPS + 101))" "$told"
once "$root/large"
say "  nothing to do, ms" "$(nothing "$root/large")" "at most 30 (1,000,000 steps)"

mkdir "$root/fan"
seq "$FAN" > "$root/fan/input"
{
    task fan 'split -d -a 6 -l 1 "$INPUT_FILE" "$OUTPUT_DIR/l"' "inputs = ['input']"
    task each "$builtin"
    task total 'wc -l < "$INPUT_FILE" > "$OUTPUT_DIR/total"' 'gather = true'
} > "$root/fan/p.toml"
sync
begin
leg "$root/fan" INT $((FAN / 3))
leg "$root/fan"
say "one step with $FAN outputs, a step on each, gathered: s" "$(calc "$wall" 1)"
say "  ms per step, ^C included" "$(calc "$wall / $FAN * 1000" 4)"
say "  peak memory, MB" "$(calc "$peak / 1024" 1)"
say "  gathered" "$("$ours" cat -db "$root/fan/db" total)" "$FAN"
once "$root/fan"
say "  nothing to do, ms" "$(nothing "$root/fan")"

mkdir -p "$root/files/in"
seq "$FILES" | split -d -a 6 -l 1 - "$root/files/in/f"
task each "$builtin" "inputs = ['in/*']" > "$root/files/p.toml"
sync
begin
leg "$root/files"
say "ms per step, $FILES input files" "$(calc "$wall / $FILES * 1000" 4)"
say "  peak memory, MB" "$(calc "$peak / 1024" 1)"
for ((n = 0; n < 9; n++)); do
    # In turn, and each pair the other way round.
    run=(seconds "$ours" -q -manifest "$root/files/p.toml" -db "$root/files/db")
    find=(seconds find "$root/files/in" -printf '%s %T@\n')
    if ((n % 2)); then r=$("${run[@]}") f=$("${find[@]}"); else f=$("${find[@]}") r=$("${run[@]}"); fi
    echo "$r" >> "$root/run.s"
    echo "$f" >> "$root/find.s"
    echo "$r $f" | awk '{ print $1 / $2 }' >> "$root/ratio"
done
say "  nothing to do, ms" "$(median < "$root/run.s" | awk '{ printf "%.1f", $1 * 1000 }')"
say "  find -printf on them, ms" "$(median < "$root/find.s" | awk '{ printf "%.1f", $1 * 1000 }')"
say "  ratio, median of 9 pairs" "$(median < "$root/ratio")" "at most 2"
for ((n = 0; n < 5; n++)); do
    echo "changed $n" > "$root/files/in/f000000"
    seconds "$ours" plan -manifest "$root/files/p.toml" -db "$root/files/db"
done > "$root/plan.s"
say "  plan with one of them changed, s" "$(median < "$root/plan.s")" "at most 0.5"

strip -o "$root/stripped" "$ours"
say "binary, stripped, MB" "$(calc "$(stat -c %s "$root/stripped") / 1e6" 2)" "at most 5"
ldd "$ours" | awk '{ print $1 }' | grep -v -E '^(linux-vdso|/lib|libc\.so|libm\.so)' | paste -sd' ' > "$root/libraries" || true
say "  libraries beside libc" "$(sed 's/^$/none/' "$root/libraries")" "none"
if [ "${STATIC:-1}" = 1 ]; then
    host=$(rustc -vV | sed -n 's/^host: //p')
    if (cd "$here" && RUSTFLAGS='-C target-feature=+crt-static' \
        cargo build -q --release --target "$host" --target-dir target/static 2>> "$root/stderr"); then
        static=$here/target/static/$host/release/task-pipeline
        say "  with crt-static: ldd says" "$(ldd "$static" 2>&1 | paste -sd' ' | sed 's/^[[:space:]]*//')" "statically linked"
        # A function that is only referred to weakly is missing in it, and that shows when it is called.
        counted=$("$static" init "$root/words" 2>> "$root/stderr" && cd "$root/words" && "$static" -q && "$static" cat total) || true
        say "  with crt-static: the first run's result" "${counted:-none}" "9 words"
        strip -o "$root/static" "$static"
        say "  with crt-static, stripped, MB" "$(calc "$(stat -c %s "$root/static") / 1e6" 2)"
    else
        say "  with crt-static" "fails" "builds; see $root/stderr"
    fi
fi
echo "what was made is in $root" >&2
