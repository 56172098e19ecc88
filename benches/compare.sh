#!/usr/bin/env bash
# Whole programs side by side on the same work, in turn, in fresh folders; medians and ratios.
#   benches/compare.sh [ROUNDS]      default 5; wants: apt-get install ninja-build parallel (snakemake);
#                                  n2 takes part if it is in PATH (cargo install --git https://github.com/evmar/n2)
# TASK_PIPELINE_BEFORE=FILE: another build of it, which takes part: a change is measured in one run with what was before.
# WORKS="builtin tr chain big" chooses; N, CHAIN, SLOW and BIG_MIB set the sizes. 5 rounds need 10 GB.
#
# How it is kept fair:
# - In each round every program does the work once; every second round goes through them backwards, so
#   that none always runs after the same other one.
# - A ratio is formed within a round, where disk and machine are in the same mood for both; printed are
#   the median of these ratios, the smallest and the largest.
# - `sync` before each program: what the one before has left to be written is not the next one's burden.
#   Least of all that of `--durability batch`, whose barrier may write all that is unwritten (syncfs).
# - Every program starts one `sh` for each step (ours-… forks one that is loaded, spawn-… starts each anew), and makes one file for it in a folder of its own.
# - Nothing is deleted between rounds: on ext4, deleting thousands of files slows the making of new ones
#   for minutes. The large files of `big`, which comes last, are few, and are deleted.
# shellcheck disable=SC2016  # what is quoted is for other shells
set -euo pipefail

rounds=${1:-5}
works=${WORKS:-builtin tr chain big}
N=${N:-5000}
CHAIN=${CHAIN:-2000}
SLOW=${SLOW:-500}       # inputs of Snakemake, which needs 25 ms for each
BIG_MIB=${BIG_MIB:-1024}
here=$(cd "$(dirname "$0")/.." && pwd)
ours=${TASK_PIPELINE_BIN:-$here/target/release/task-pipeline}
before=${TASK_PIPELINE_BEFORE:-}
[ -x "$ours" ] || { echo "build it first: cargo build --release" >&2; exit 2; }
missing=()
for tool in ninja:ninja-build make:make parallel:parallel snakemake:snakemake; do
    command -v "${tool%%:*}" > /dev/null || missing+=("${tool##*:}")
done
[ ${#missing[@]} -eq 0 ] || echo "left out, not installed: apt-get install ${missing[*]}" >&2

root=$(mktemp -d "${TMPDIR:-/tmp}/compare.XXXXXX")
results=$root/results
builtin='read -r x < "$INPUT_FILE"; echo "$x" > "$OUTPUT_DIR/$INPUT_NAME"'
with_tr='tr a-z A-Z < "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"'
# The same for programs that hand over two paths; `$` and the paths as each wants them.
plain() { # WORK DOLLAR INPUT OUTPUT
    case $1 in
        tr) printf 'tr a-z A-Z < %s > %s' "$3" "$4" ;;
        *) printf 'read -r x < %s; echo "%sx" > %s' "$3" "$2" "$4" ;;
    esac
}

inputs() { # FOLDER COUNT
    local n
    mkdir "$1"
    for ((n = 0; n < $2; n++)); do printf 'line %d\n' "$n" > "$1/f$n"; done
}
inputs "$root/in" "$N"
inputs "$root/chain-in" "$CHAIN"
inputs "$root/slow-in" "$SLOW"

# Runs a command and notes the time of it: round, work, program, steps, seconds.
timed() { # ROUND WORK PROGRAM STEPS COMMAND...
    local round=$1 work=$2 program=$3 steps=$4 begun ended
    shift 4
    sync
    begun=$EPOCHREALTIME
    "$@" > /dev/null 2>> "$root/stderr" || { echo "$program failed; see $root/stderr" >&2; exit 1; }
    ended=$EPOCHREALTIME
    echo "$round $work $program $steps $((${ended/./} - ${begun/./}))" >> "$results"
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

# What starting the shells costs by itself: so many times `sh -e FILE`, by two threads, on the same files.
bare=$root/bare
cat > "$bare.c" << 'END'
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
extern char **environ;
static int count;
static char *script, *in, *out;
static void *work(void *half) {
    for (long n = (long)half; n < count; n += 2) {
        char input[4096], name[64], folder[4096], *argv[] = {"sh", "-e", script, 0}, *env[4096];
        int status, e = 0;
        pid_t child;
        while (environ[e]) e++;
        memcpy(env, environ, e * sizeof *env);
        snprintf(input, sizeof input, "INPUT_FILE=%s/f%ld", in, n);
        snprintf(name, sizeof name, "INPUT_NAME=f%ld", n);
        snprintf(folder, sizeof folder, "OUTPUT_DIR=%s", out);
        env[e++] = input, env[e++] = name, env[e++] = folder, env[e] = 0;
        if (posix_spawn(&child, "/bin/sh", 0, 0, argv, env) || waitpid(child, &status, 0) != child || status)
            exit(1);
    }
    return 0;
}
int main(int argc, char **argv) {
    pthread_t other;
    if (argc != 5) return 2;
    count = atoi(argv[1]), script = argv[2], in = argv[3], out = argv[4];
    pthread_create(&other, 0, work, (void *)1);
    work(0);
    return pthread_join(other, 0);
}
END
cc -O2 -o "$bare" "$bare.c" -lpthread 2> /dev/null || echo "left out, no C compiler: bare starts of sh" >&2

# The programs that are there, of those named: forwards in odd rounds, backwards in even ones.
in_turn() { # ROUND PROGRAM...
    local round=$1 program list=()
    shift
    for program in "$@"; do
        case $program in
            ninja | n2 | make | parallel | snakemake) command -v "$program" > /dev/null || continue ;;
            before-*) [ -n "$before" ] || continue ;;
            sh) [ -x "$bare" ] || continue ;;
        esac
        if ((round % 2)); then list+=("$program"); else list=("$program" "${list[@]}"); fi
    done
    echo "${list[@]}"
}

# Which build of ours a program is.
build() { case $1 in before-*) echo "$before" ;; *) echo "$ours" ;; esac }

map() { # ROUND WORK SCRIPT
    local round=$1 work=$2 script=$3 dir=$root/$2-$1 program n
    mkdir -p "$dir"/{xargs,ninja,n2,make,parallel,snakemake,sh}/out
    echo "$script" > "$dir/script"
    manifest "$dir/p.toml" "$root/in" "$script"
    {
        printf 'rule r\n  command = %s\n' "$(plain "$work" '$$' '$in' '$out')"
        for ((n = 0; n < N; n++)); do echo "build out/f$n: r $root/in/f$n"; done
    } > "$dir/ninja/build.ninja"
    cp "$dir/ninja/build.ninja" "$dir/n2/"
    {
        printf 'all: $(addprefix out/,%s)\n' "$(cd "$root/in" && echo *)"
        printf 'out/%%: %s/%%\n\t@%s\n' "$root/in" "$(plain "$work" '$$' '$<' '$@')"
    } > "$dir/make/Makefile"
    {
        printf 'rule all:\n  input: expand("out/f{n}", n=range(%d))\n' "$SLOW"
        printf 'rule r:\n  input: "%s/{f}"\n  output: "out/{f}"\n' "$root/slow-in"
        printf '  shell: """%s"""\n' "$(plain "$work" '$' '{input}' '{output}')"
    } > "$dir/snakemake/Snakefile"
    for program in $(in_turn "$round" ours-off before-off ninja spawn-off ours-batch before-batch sh spawn-batch \
        n2 xargs make parallel snakemake); do
        case $program in
            spawn-*)
                timed "$round" "$work" "$program" "$N" "$ours" -q --launch spawn --durability "${program#*-}" -j2 \
                    -manifest "$dir/p.toml" -db "$dir/$program" ;;
            sh) timed "$round" "$work" sh "$N" "$bare" "$N" "$dir/script" "$root/in" "$dir/sh/out" ;;
            ours-* | before-*)
                timed "$round" "$work" "$program" "$N" "$(build "$program")" -q --durability "${program#*-}" -j2 \
                    -manifest "$dir/p.toml" -db "$dir/$program" ;;
            ninja) timed "$round" "$work" ninja "$N" ninja -C "$dir/ninja" -j2 --quiet ;;
            n2) timed "$round" "$work" n2 "$N" n2 -C "$dir/n2" -j 2 ;;
            make) timed "$round" "$work" make "$N" make -s -j2 -C "$dir/make" ;;
            xargs)
                timed "$round" "$work" xargs "$N" sh -c 'cd "$1" && seq 0 "$2" |
                    xargs -P2 -I{} sh -c "$3" sh "$4/f{}" "out/f{}"' \
                    sh "$dir/xargs" $((N - 1)) "$(plain "$work" '$' '"$1"' '"$2"')" "$root/in" ;;
            parallel)
                timed "$round" "$work" parallel "$N" sh -c 'cd "$1" && seq 0 "$2" |
                    SHELL=/bin/sh parallel --will-cite -j2 --joblog log "$3"' \
                    sh "$dir/parallel" $((N - 1)) "$(plain "$work" '$' "$root/in/f{}" 'out/f{}')" ;;
            snakemake)
                timed "$round" "$work" snakemake "$SLOW" env -C "$dir/snakemake" snakemake -q -j2 ;;
        esac
        case $program in xargs | ninja | n2 | make | parallel | sh) full "$N" "$dir/$program/out" ;; esac
    done
    for program in $(in_turn "$round" ours find ninja make); do
        case $program in
            ours)
                timed "$round" "$work-again" ours "$N" \
                    "$ours" -q -j2 -manifest "$dir/p.toml" -db "$dir/ours-off" ;;
            ninja) timed "$round" "$work-again" ninja "$N" ninja -C "$dir/ninja" -j2 --quiet ;;
            make) timed "$round" "$work-again" make "$N" make -s -j2 -C "$dir/make" ;;
            find) timed "$round" "$work-again" find "$N" find "$root/in" -printf '%s %T@\n' ;;
        esac
    done
}

chain() { # ROUND
    local round=$1 dir=$root/chain-$1 program n t from
    mkdir -p "$dir"/{ninja,make}/{1,2,3,4}
    manifest "$dir/p.toml" "$root/chain-in" "$builtin" "$builtin" "$builtin" "$builtin"
    {
        printf 'rule r\n  command = %s\n' "$(plain builtin '$$' '$in' '$out')"
        for ((n = 0; n < CHAIN; n++)); do
            echo "build 1/f$n: r $root/chain-in/f$n"
            for t in 2 3 4; do echo "build $t/f$n: r $((t - 1))/f$n"; done
        done
    } > "$dir/ninja/build.ninja"
    {
        printf 'all: $(addprefix 4/,%s)\n.SECONDARY:\n' "$(cd "$root/chain-in" && echo *)"
        for t in 1 2 3 4; do
            if ((t == 1)); then from=$root/chain-in; else from=$((t - 1)); fi
            printf '%d/%%: %s/%%\n\t@%s\n' "$t" "$from" "$(plain builtin '$$' '$<' '$@')"
        done
    } > "$dir/make/Makefile"
    for program in $(in_turn "$round" ours-off before-off ninja ours-batch before-batch make); do
        case $program in
            ours-* | before-*)
                timed "$round" chain "$program" $((4 * CHAIN)) "$(build "$program")" -q --durability "${program#*-}" \
                    -j2 -manifest "$dir/p.toml" -db "$dir/$program" ;;
            ninja) timed "$round" chain ninja $((4 * CHAIN)) ninja -C "$dir/ninja" -j2 --quiet ;;
            make) timed "$round" chain make $((4 * CHAIN)) make -s -j2 -C "$dir/make" ;;
        esac
        case $program in ninja | make) full "$CHAIN" "$dir/$program"/[1-4] ;; esac
    done
}

big() { # ROUND
    local round=$1 dir=$root/big-$1 cat='cat "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"' program
    mkdir "$dir"
    manifest "$dir/p.toml" "$root/big-in" "$cat" "$cat" "$cat"
    for program in $(in_turn "$round" ours-off before-off cat+sha256sum ours-batch before-batch); do
        case $program in
            ours-* | before-*)
                timed "$round" big "$program" 3 "$(build "$program")" -q --durability "${program#*-}" -j2 \
                    -manifest "$dir/p.toml" -db "$dir/$program" ;;
            *)
                timed "$round" big "$program" 3 sh -c 'cd "$1" && cat "$2" > 1 && sha256sum 1 &&
                    cat 1 > 2 && sha256sum 2 && cat 2 > 3 && sha256sum 3' sh "$dir" "$root/big-in/big" ;;
        esac
    done
    rm -r "$dir"
}

# Each of these folders has so many files, or a program did less than was asked for.
full() { # COUNT FOLDER...
    local count=$1 folder
    shift
    for folder in "$@"; do
        [ "$(find "$folder" -type f | wc -l)" -eq "$count" ] || { echo "$folder is not full" >&2; exit 1; }
    done
}

is_wanted() { case " $works " in *" $1 "*) ;; *) return 1 ;; esac }
for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    is_wanted builtin && map $round builtin "$builtin"
    is_wanted tr && map $round tr "$with_tr"
    is_wanted chain && chain $round
done
if is_wanted big; then
    mkdir "$root/big-in"
    head -c "${BIG_MIB}M" /dev/urandom > "$root/big-in/big"
    for ((round = 1; round <= rounds; round++)); do
        echo "big: round $round of $rounds" >&2
        big $round
    done
    rm -r "$root/big-in"
fi

# Medians of times per step, and of each round's ratio to a rival.
awk '
    function median(list, count,    n, t, i, j) {
        n = split(list, t, " ")
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && t[j - 1] + 0 > t[j] + 0; j--) { s = t[j]; t[j] = t[j - 1]; t[j - 1] = s }
        low = t[1]; high = t[n]
        return n % 2 ? t[(n + 1) / 2] : (t[n / 2] + t[n / 2 + 1]) / 2
    }
    function against(work, program, rival,    r, list, middle) {
        if (program == rival) return "-"
        list = ""
        for (r = 1; r <= rounds; r++)
            if ((r, work, program) in each && (r, work, rival) in each)
                list = list " " each[r, work, program] / each[r, work, rival]
        if (list == "") return "-"
        middle = median(list)
        return sprintf("%.2f (%.2f-%.2f)", middle, low, high)
    }
    {
        key = $2 " " $3
        if (!(key in times)) order[++keys] = key
        times[key] = times[key] " " $5 / 1e6
        each[$1, $2, $3] = $5 / $4
        steps[key] = $4
        if ($1 > rounds) rounds = $1
    }
    END {
        printf "%-14s %-14s %9s %9s   %-18s %s\n", "work", "program", "median s", "ms/step",
            "of ninja (min-max)", "of xargs, find or cat"
        for (k = 1; k <= keys; k++) {
            split(order[k], part, " ")
            rival = part[1] ~ /-again$/ ? "find" : part[1] == "big" ? "cat+sha256sum" : "xargs"
            time = median(times[order[k]])
            printf "%-14s %-14s %9.3f %9.3f   %-18s %s\n", part[1], part[2], time,
                1000 * time / steps[order[k]], against(part[1], part[2], "ninja"),
                against(part[1], part[2], rival)
        }
        for (k = 1; k <= keys; k++) {
            split(order[k], part, " ")
            if (part[2] ~ /^(ours|spawn)-/ && (part[1] " sh") in times)
                printf "%-14s %-14s of bare starts of sh: %s\n", part[1], part[2], against(part[1], part[2], "sh")
        }
        for (k = 1; k <= keys; k++) {
            split(order[k], part, " ")
            was = part[2]
            if (sub(/^ours-/, "before-", was) && (part[1] " " was in times))
                printf "%-14s %-14s of %s: %s\n", part[1], part[2], was, against(part[1], part[2], was)
        }
    }' "$results"
echo "what was made is in $root" >&2
