#!/bin/sh
# Runs every family (t*.py), one after the other: tests/torture/run.sh [short|full] [T1 T8 …]
# Ends with the result lines of all of them, and with 1 if any has found a deviation.
set -u
cd "$(dirname "$0")" || exit 2
TORTURE=${1:-short}
case $TORTURE in short | full) ;; *) echo "usage: $0 [short|full] [FAMILY]..." >&2; exit 2 ;; esac
export TORTURE
[ $# -gt 0 ] && shift
# T1, t1, T01 and t01 are all t01_….py.
scripts=
for name in "$@"; do
    number=$(expr "x$name" : 'x[Tt]0*\([1-9][0-9]*\)$')
    script=
    [ -n "$number" ] && for script in t*.py; do
        [ "$(expr "$script" : 't0*\([1-9][0-9]*\)_')" = "$number" ] && break
        script=
    done
    if [ -z "$script" ]; then
        families=$(ls t*.py | sed 's/^t0*\([0-9]*\)_.*/T\1/' | paste -s -d ' ' -)
        echo "$0: no family is called \`$name\`; there are: $families" >&2
        exit 2
    fi
    scripts="$scripts $script"
done
results=$(mktemp) || exit 2
trap 'rm -f "$results"' EXIT
bad=0
for script in ${scripts:-t*.py}; do
    python3 "$script" 2>&1 | tee -a "$results"
    # The status of a family, not of tee: its last line is JSON and says whether it came to its end.
    tail -n 1 "$results" | grep -q '"deviations": \[\], ' || { bad=1; echo "$script: FAILED" | tee -a "$results"; }
done
echo
grep -E '^T[0-9]+: .*controls noticed|FAILED$' "$results"
# Not passed in silence: what this machine can't do.
grep -E '^T[0-9]+: SKIPPED' "$results"
exit $bad
