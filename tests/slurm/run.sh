#!/bin/sh
# Runs on a real Slurm of four nodes, which it starts: tests/slurm/run.sh [short|long] [NAME]...
# `short` is what CI runs, in less than five minutes; `long` gives the figures of README.md. Ends with 1 if anything deviates.
set -u
cd "$(dirname "$0")" || exit 2
exec python3 suite.py "$@"
