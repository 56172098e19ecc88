#!/bin/sh
# Runs every family (t*.py), one after the other: tests/torture/run.sh [short|full] [t01 t08 …]
# Ends with the result lines of all of them, and with 1 if any has found a deviation.
set -u
cd "$(dirname "$0")" || exit 2
TORTURE=${1:-short}
case $TORTURE in short | full) ;; *) echo "usage: $0 [short|full] [FAMILY]..." >&2; exit 2 ;; esac
export TORTURE
[ $# -gt 0 ] && shift
results=$(mktemp) || exit 2
trap 'rm -f "$results"' EXIT
bad=0
for script in t*.py; do
    if [ $# -gt 0 ]; then
        case " $* " in *" ${script%%_*} "*) ;; *) continue ;; esac
    fi
    python3 "$script" 2>&1 | tee -a "$results"
    # The status of a family, not of tee: its last line is JSON and says whether it came to its end.
    tail -n 1 "$results" | grep -q '"deviations": \[\], ' || { bad=1; echo "$script: FAILED" | tee -a "$results"; }
done
echo
grep -E '^T[0-9]+: .*controls noticed|FAILED$' "$results"
# Not passed in silence: what this machine can't do.
grep -E '^T[0-9]+: SKIPPED' "$results"
exit $bad
