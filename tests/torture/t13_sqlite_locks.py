#!/usr/bin/env python3
"""T13: SQLite's locks stay with the runner.

A process that opens and closes a file loses all its POSIX locks on it, whoever in it had taken them. If a
runner did that to its database, the next process to close the database would take itself for the last one
and delete the log that the runner goes on writing to: commits vanish without a word.

While a run waits in a step, every subcommand runs beside it. Then F_GETLK from here must still see the
runner's locks on the database and its shared memory; opening and closing the database from here must leave
the log where it is; and no script may have a descriptor of the database or of a lock. Then the run
commits more, is killed, and all that it said to be done must be there.

T13_ROUNDS: how many runs.
"""

import fcntl
import os
import signal
import sqlite3
import struct

from common import *

# SQLite's lock bytes: the shared range in the database, "dead man's switch" in the shared memory.
SHARED, SHARED_SIZE, SWITCH = 0x40000002, 510, 128
FLOCK = "hhqqi4x"

GATES = "echo x > \"at-$TASK_NAME\"; until test -e \"go-$TASK_NAME\"; do sleep 0.01; done"
READERS = [
    (["status"], OK),
    (["status", "--json"], OK),
    (["log", "--failed"], OK),
    (["log", "split/0.txt"], OK),
    (["cat", "split"], OK),
    (["export", "split", "--to", "exported", "--partial"], OK),
    (["verify"], OK),
    (["verify", "--data"], OK),
    (["plan"], OK),
    (["-n"], OK),
    (["--help"], OK),
    (["--version"], OK),
    (["gc"], LOCKED),
    (["gc", "-n"], LOCKED),
    (["repair"], LOCKED),
    ([], LOCKED),
    (["run", "-B"], LOCKED),
]


def holder(path, start, length):
    """Process that keeps others from writing to these bytes, or None."""
    with open(path, "r+b") as file:
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))
        return None if kind == fcntl.F_UNLCK else pid


def foreign(pid, folder):
    """Files of a folder that a process has open, less those of the scratch."""
    found = []
    try:
        fds = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []  # it has ended
    for fd in fds:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith(f"{folder}/") and not target.startswith(f"{folder}/scratch/"):
            found.append(target)
    return found


def one(family, touch=False):
    chance, faults = family.random, []
    manifest, files = n_steps(2, 3)
    # The gather step waits, then the last one does.
    manifest = manifest.replace(json.dumps(TOTAL), json.dumps(TOTAL + GATES)).replace(json.dumps(LAST), json.dumps(LAST + GATES))
    with Box((manifest, files), "t13") as box:
        env = {}
        if touch:
            env = {"LD_PRELOAD": compile_c("killat", "-shared", "-fPIC"), "KILL_TOUCH": box.db / "db"}
        out = open(box.path / "out", "w+b")
        args = [f"-j{chance.choice([1, 2])}", "--durability", chance.choice(["batch", "off"])]
        runner = box.start(*args, env=env, stdout=out)
        try:
            until(lambda: (box.path / "at-total").exists() or runner.poll() is not None, "the gather step")
            log = os.stat(box.db / "db-wal")
            calls = READERS[:]
            chance.shuffle(calls)
            for args, code in calls:
                got, text = box.run(*args)
                if got != code:
                    faults.append(f"{' '.join(args)}: exit {got} and not {code}: {text}")
            for name, start, length in (("db", SHARED, SHARED_SIZE), ("db-shm", SWITCH, 1)):
                if (pid := holder(box.db / name, start, length)) != runner.pid:
                    faults.append(f"the lock on {name} is held by {pid} and not by {runner.pid}")
            # Not read-only, or it would not try to be the last; and nothing is written meanwhile.
            connection = sqlite3.connect(box.db / "db")
            connection.execute("SELECT count(*) FROM step").fetchall()
            connection.close()
            after = os.stat(box.db / "db-wal") if (box.db / "db-wal").exists() else None
            if after is None or after.st_ino != log.st_ino or after.st_size != log.st_size:
                faults.append("the log of the database was deleted or emptied under the runner")
            if gone := [file for file in foreign(runner.pid, box.db) if file.endswith(" (deleted)")]:
                faults.append(f"deleted under the runner: {gone}")
            for pid, line in box.survivors():
                if open_files := foreign(pid, box.db):
                    faults.append(f"a script's process ({line}) has {open_files} open")
            (box.path / "go-total").touch()
            until(lambda: (box.path / "at-last").exists() or runner.poll() is not None, "the last step")
            until(lambda: b"total: done" in (box.path / "out").read_bytes() or runner.poll() is not None, "the news of the gather step", 10)
        except (RuntimeError, OSError, sqlite3.Error) as error:
            faults.append(f"{error}: {(box.path / 'out').read_text()}")
        runner.kill()
        runner.wait()
        out.close()
        text = (box.path / "out").read_text()
        try:
            if wrong := unfounded(box, text):
                faults.append(wrong)
            (box.path / "go-total").touch()
            (box.path / "go-last").touch()
            code, text = box.run()
            if code != OK:
                faults.append(f"the next run: exit {code}: {text}")
            if wrong := box.verify():
                faults.append(wrong)
        except sqlite3.Error as error:
            faults.append(f"the database: {error}")
        if touch:
            box.remove()
    return [f"{fault} [{box.path}]" for fault in faults]


def main():
    family = Family("T13")
    rounds, clean = family.count("rounds", 2, 50), 0
    for _ in range(rounds):
        faults = one(family)
        clean += not faults
        for fault in faults:
            family.deviate(fault)
    faults = one(family, touch=True)
    family.control("the runner opens and closes its database: lock gone", any("is held by None" in fault for fault in faults))
    family.control("the runner opens and closes its database: log gone", any("deleted" in fault for fault in faults))
    family.control("the runner opens and closes its database: commits gone", any("not committed" in fault for fault in faults))
    # A script that is handed the database: seen?
    with Box(name="t13") as box:
        box.run()
        with open(box.db / "db") as file:
            process = subprocess.Popen(["sleep", "1000"], env={"OUTPUT_DIR": f"{box.scratch}/x"}, pass_fds=[file.fileno()])
        noticed = any(foreign(pid, box.db) for pid, _ in box.survivors())
        process.kill()
        process.wait()
    family.control("a script's process with the database open", noticed)
    family.done(f"{rounds} runs, {len(READERS)} subcommands each, {clean} clean", rounds=rounds, clean=clean, subcommands=len(READERS))


main()
