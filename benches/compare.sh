#!/usr/bin/env bash
# Whole programs side by side on the same work, in turn, in fresh folders; medians and ratios.
#   benches/compare.sh [ROUNDS]      default 5; wants: apt-get install ninja-build parallel time
# N, CHAIN and BIG_MIB set the sizes. Nothing is deleted between rounds: on ext4, deleting the files of
# one round slows the next one for minutes. The folder is named at the end; remove it when you like.
set -euo pipefail

rounds=${1:-5}
N=${N:-5000}
CHAIN=${CHAIN:-2000}
BIG_MIB=${BIG_MIB:-1024}
here=$(cd "$(dirname "$0")/.." && pwd)
ours=${TASK_PIPELINE_BIN:-$here/target/release/task-pipeline}
[ -x "$ours" ] || { echo "build it first: cargo build --release" >&2; exit 2; }
missing=()
for tool in ninja:ninja-build parallel:parallel; do
    command -v "${tool%%:*}" > /dev/null || missing+=("${tool##*:}")
done
[ ${#missing[@]} -eq 0 ] || echo "left out, not installed: apt-get install ${missing[*]}" >&2

root=$(mktemp -d "${TMPDIR:-/tmp}/compare.XXXXXX")
results=$root/results
builtin='read -r x < "$INPUT_FILE"; echo "$x" > "$OUTPUT_DIR/$INPUT_NAME"'
with_tr='tr a-z A-Z < "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"'
# The same for programs that hand over two paths.
plain_builtin='read -r x < "$1"; echo "$x" > "$2"'
plain_tr='tr a-z A-Z < "$1" > "$2"'

mkdir "$root/in"
for ((i = 0; i < N; i++)); do printf 'line %d\n' "$i" > "$root/in/f$i"; done
mkdir "$root/chain-in"
for ((i = 0; i < CHAIN; i++)); do printf 'line %d\n' "$i" > "$root/chain-in/f$i"; done

now() { date +%s.%N; }
timed() { # WORK PROGRAM COMMAND...
    local work=$1 program=$2 begun ended
    shift 2
    begun=$(now)
    "$@" > /dev/null 2>> "$root/stderr"
    ended=$(now)
    echo "$work $program $(echo "$ended - $begun" | bc)" >> "$results"
}

manifest() { # FILE INPUT_FOLDER SCRIPT...
    local file=$1 folder=$2 n=0 script
    shift 2
    for script in "$@"; do
        n=$((n + 1))
        printf '[[task]]\nname = "t%d"\n' $n
        [ $n -gt 1 ] || printf 'inputs = ["%s/*"]\n' "$folder"
        printf "script = '''\n%s\n'''\n" "$script"
    done > "$file"
}

map() { # WORK SCRIPT PLAIN_SCRIPT ROUND
    local work=$1 script=$2 plain=$3 dir=$root/$1-$4 n
    mkdir -p "$dir"/{xargs,ninja,make,parallel}/out
    manifest "$dir/p.toml" "$root/in" "$script"
    timed "$work" ours-off "$ours" -q --durability off -j2 -manifest "$dir/p.toml" -db "$dir/db-off"
    if command -v ninja > /dev/null; then
        {
            printf 'rule r\n  command = %s\n' "${plain//\$/\$\$}" | sed 's/\$\$1/$in/; s/\$\$2/$out/'
            for ((n = 0; n < N; n++)); do echo "build out/f$n: r $root/in/f$n"; done
        } > "$dir/ninja/build.ninja"
        timed "$work" ninja ninja -C "$dir/ninja" -j2 --quiet
    fi
    timed "$work" ours-batch "$ours" -q -j2 -manifest "$dir/p.toml" -db "$dir/db-batch"
    # shellcheck disable=SC2016
    timed "$work" xargs sh -c 'cd "$1" && seq 0 '$((N - 1))' | xargs -P2 -I{} sh -c "$2" sh "$3/f{}" "out/f{}"' \
        sh "$dir/xargs" "$plain" "$root/in"
    {
        echo "all: \$(addprefix out/,$(cd "$root/in" && echo *))"
        printf 'out/%%: %s/%%\n\t@%s\n' "$root/in" "${plain//\$/\$\$}" | sed 's/\$\$1/$</; s/\$\$2/$@/'
    } > "$dir/make/Makefile"
    timed "$work" make make -s -j2 -C "$dir/make"
    if command -v parallel > /dev/null; then
        # shellcheck disable=SC2016
        timed "$work" parallel sh -c 'cd "$1" && seq 0 '$((N - 1))' |
            parallel --will-cite -j2 --joblog log sh -c "'\''$2'\''" sh "$3/f{}" "out/f{}"' \
            sh "$dir/parallel" "$plain" "$root/in"
    fi
    timed "$work-again" ours "$ours" -q -j2 -manifest "$dir/p.toml" -db "$dir/db-off"
    if command -v ninja > /dev/null; then
        timed "$work-again" ninja ninja -C "$dir/ninja" -j2 --quiet
    fi
    timed "$work-again" make make -s -j2 -C "$dir/make"
    # shellcheck disable=SC2016
    timed "$work-again" find find "$root/in" -printf '%s %T@\n'
}

chain() { # ROUND
    local dir=$root/chain-$1 n t
    mkdir -p "$dir/ninja"
    manifest "$dir/p.toml" "$root/chain-in" "$builtin" "$builtin" "$builtin" "$builtin"
    timed chain ours-off "$ours" -q --durability off -j2 -manifest "$dir/p.toml" -db "$dir/db-off"
    if command -v ninja > /dev/null; then
        {
            printf 'rule r\n  command = read -r x < $in; echo "$$x" > $out\n'
            for ((n = 0; n < CHAIN; n++)); do
                echo "build 1/f$n: r $root/chain-in/f$n"
                for t in 2 3 4; do echo "build $t/f$n: r $((t - 1))/f$n"; done
            done
        } > "$dir/ninja/build.ninja"
        timed chain ninja ninja -C "$dir/ninja" -j2 --quiet
    fi
    timed chain ours-batch "$ours" -q -j2 -manifest "$dir/p.toml" -db "$dir/db-batch"
}

big() { # ROUND
    local dir=$root/big-$1 cat='cat "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"'
    mkdir -p "$dir/in"
    head -c "${BIG_MIB}M" /dev/urandom > "$dir/in/big"
    manifest "$dir/p.toml" "$dir/in" "$cat" "$cat" "$cat"
    timed big ours-off "$ours" -q --durability off -j2 -manifest "$dir/p.toml" -db "$dir/db"
    # shellcheck disable=SC2016
    timed big cat+sha256sum sh -c 'cd "$1" && cat in/big > 1 && sha256sum 1 && cat 1 > 2 && sha256sum 2 &&
        cat 2 > 3 && sha256sum 3' sh "$dir"
    rm -rf "$dir/db" "$dir"/[123] "$dir/in"   # a few large files: no harm to the inode allocator
}

for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    map builtin "$builtin" "$plain_builtin" $round
    map tr "$with_tr" "$plain_tr" $round
    chain $round
    [ "$BIG_MIB" -eq 0 ] || big $round
done

printf '%-16s %-14s %10s %10s  %s\n' work program 'median s' 'ms/step' 'time by ninja (or find, cat)'
sort -k1,2 -k3,3n "$results" | awk -v n="$N" -v chain="$CHAIN" '
    {
        key = $1 " " $2
        if (!(key in times)) order[++keys] = key
        times[key] = times[key] " " $3
    }
    END {
        for (k = 1; k <= keys; k++) {
            count = split(times[order[k]], t, " ")
            median[order[k]] = t[int((count + 1) / 2)]
        }
        for (k = 1; k <= keys; k++) {
            split(order[k], part, " ")
            work = part[1]
            rival = "ninja"
            if (work ~ /again/) rival = "find"
            if (work == "big") rival = "cat+sha256sum"
            base = median[work " " rival]
            steps = n
            if (work == "chain") steps = 4 * chain
            if (work == "big") steps = 3
            time = median[order[k]]
            printf "%-16s %-14s %10.3f %10.3f  %s\n", work, part[2], time, 1000 * time / steps,
                (base > 0 ? sprintf("%.2f", time / base) : "-")
        }
    }'
echo "what was made is in $root" >&2
