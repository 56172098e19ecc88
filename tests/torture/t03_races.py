#!/usr/bin/env python3
"""T3: several processes on one database.

- Runners that start at the same moment: exactly one wins; the others exit 75 within a second and name
  the winner; with --wait they wait, and then find nothing to do.
- A runner and a loop of `gc`: gc exits 75 while it runs, or goes first; the state at the end is that of an
  undisturbed run.
- A runner and loops of every reader: no reader fails or waits for the runner, and none of the runner's
  files is deleted under it.

T3_RACES, T3_GCS, T3_READERS: rounds of each.
"""

import contextlib
import fcntl
import os
import re
import shutil
import struct
import subprocess
import threading
import time

from common import *

GATE = "until test -e go; do sleep 0.01; done"
PROMPT = 1.0  # seconds in which a runner gives up on a database that is in use
SWIFT = 5.0  # seconds that a reader may take: SQLite would wait for ten if it were locked out


def deleted(pid):
    """Open files of a process that are deleted, but for those in memory, which never had a name."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
            if target.endswith(" (deleted)") and not target.startswith("/memfd:"):
                found.append(target)
    return found


def gated(files=1, width=2, pause=""):
    """A pipeline whose last step waits for the file `go`."""
    manifest, files = n_steps(files, width, pause)
    return manifest.replace(json.dumps(LAST), json.dumps(LAST + GATE)), files


class Race:
    """Runners that start together. `lie` makes their flocks do nothing."""

    def __init__(self, box, args, lie=False):
        self.box, self.faults = box, []
        env = {}
        if lie:
            env = {"LD_PRELOAD": compile_c("killat", "-shared", "-fPIC"), "KILL_PATH": box.path, "KILL_LIE": "/db/lock|/db$"}
        self.runners = [box.start(*more, env=env) for more in args]
        self.waiting = ["--wait" in more for more in args]

    def play(self):
        began = time.monotonic()
        impatient = [runner for runner, waits in zip(self.runners, self.waiting) if not waits]
        out = {}

        def ended():
            for runner in impatient:
                if runner not in out and runner.poll() is not None:
                    out[runner] = (runner.communicate()[0].decode(errors="replace"), time.monotonic() - began)
            # All but one give up while the winner waits for `go`.
            return len(out) >= len(impatient) - 1

        try:
            until(ended, "the losers", 20)
        except RuntimeError as error:
            self.faults.append(str(error))
        losers = list(out)
        winners = [runner for runner in impatient if runner not in losers]
        (self.box.path / "go").touch()
        for runner in self.runners:
            if runner not in out:
                out[runner] = (runner.communicate(timeout=PATIENCE)[0].decode(errors="replace"), 0)
        for runner in losers:
            text, seconds = out[runner]
            if runner.returncode != LOCKED:
                self.faults.append(f"two at once: exit {runner.returncode}: {text}")
            elif seconds > PROMPT:
                self.faults.append(f"gave up only after {seconds:.2f} s")
            elif not any(f"pid {other.pid} " in text for other in self.runners if other not in losers):
                self.faults.append(f"does not name the holder: {text}")
        waiting = any(self.waiting)
        for runner in winners:
            # One that waits may have been first, and the last of the others is refused, too.
            if runner.returncode != OK and not (waiting and runner.returncode == LOCKED):
                self.faults.append(f"the winner: exit {runner.returncode}: {out[runner][0]}")
        for runner in self.runners:
            if runner not in impatient and runner.returncode != OK:
                self.faults.append(f"one that waited: exit {runner.returncode}: {out[runner][0]}")
        return self.faults


def race(family, want, pipeline, lie=False):
    chance = family.random
    with Box(pipeline, "t03") as box:
        state = chance.choice(["new", "killed", "complete"])
        if state == "killed":
            runner = box.start()
            until(lambda: box.ledger.stat().st_size >= 65 * chance.randrange(1, 4), "some steps")
            runner.kill()
            runner.communicate()
        elif state == "complete":
            (box.path / "go").touch()
            box.run()
            (box.path / "go").unlink()
        more = ["-B"] if state == "complete" else []
        rivals = chance.choice([["-j1"], ["-j2", "--wait"], ["-j2"]])
        faults = Race(box, [["-j2", *more], ["-j1", *more], *([rivals + more] if chance.random() < 0.3 else [])], lie).play()
        if not faults and state != "complete":  # -B makes second attempts
            faults += final_faults(box, want)
        return [f"{fault} [{state}, {box.path}]" for fault in faults]


def with_gc(family, want, pipeline):
    """gc again and again, while a run starts, works and ends."""
    faults, sweeps, busy = [], 0, 0
    with Box(pipeline, "t03") as box:
        box.run("--step", "split")
        # Something to remove: results of a script that is no more.
        manifest = box.path / "pipeline.toml"
        manifest.write_text(box.manifest.replace("splitting", "once splitting"))
        box.run("--step", "split")
        manifest.write_text(box.manifest)
        runner = None
        while True:
            if runner is None:
                runner = box.start("--wait", f"-j{family.random.choice([1, 2])}")
            began = time.monotonic()
            code, text = box.run("gc", "--grace", "0s", *family.random.choice([[], ["--keep-history"], ["-n"]]))
            sweeps += 1
            if code == LOCKED:
                busy += 1
                if time.monotonic() - began > PROMPT:
                    faults.append(f"gc gave up only after {time.monotonic() - began:.2f} s")
            elif code != OK:
                faults.append(f"gc beside a run: exit {code}: {text}")
            if gone := deleted(runner.pid) if runner.poll() is None else []:
                faults.append(f"deleted under the runner: {gone}")
            if runner.poll() is not None:
                break
            if busy >= 2:
                (box.path / "go").touch()
        text = runner.communicate()[0].decode(errors="replace")
        if runner.returncode != OK:
            faults.append(f"the run beside gc: exit {runner.returncode}: {text}")
        # The history differs, and what only history needs may be gone; all that is live is as it must be.
        if wrong := box.verify():
            faults.append(wrong)
        for task in ("work", "total", "last"):
            code, text = box.run("export", task, "--to", f"out/{task}")
            if code != OK:
                faults.append(f"export {task} after gc: exit {code}: {text}")
        code, text = box.run("gc", "--grace", "0s")
        if code != OK:
            faults.append(f"gc after the run: exit {code}: {text}")
        # Logs of history go with it, and come back only if the step runs again.
        logs = {log.lower() for log in re.findall(r"'([0-9A-F]{64})'\)$", "\n".join(want["attempt"]), re.M)}

        def kept(rows):
            return {row for row in rows if "lock" not in row and not any(log in row for log in logs)}

        live, have = kept(want["objects"]), kept(map(repr, box.objects()))
        if live != have:
            faults.append(f"objects after gc: missing {live - have}, too many {have - live}")
        code, text = box.run()
        if code != OK or "nothing to do" not in text:
            faults.append(f"a run after gc: exit {code}: {text}")
        return [f"{fault} [{box.path}]" for fault in faults], sweeps, busy


READERS = [
    ["status"],
    ["status", "--json"],
    ["log", "--failed"],
    ["log", "split/0.txt"],
    ["cat", "split"],
    ["export", "split", "--to", "out", "--partial"],
    ["verify"],
    ["verify", "--data"],
    ["plan"],
    ["-n", "--json"],
]
NOT_YET = ("no database", "nothing was ever run", "no task is called", "no step", "has no results at present", "has not run")


def with_readers(family, want, pipeline, sabotage=None):
    """Every reader again and again, from before the database is there until the run has ended."""
    faults, reads, again = [], [0], family.random.random() < 0.5
    with Box(pipeline, "t03") as box:
        if again:
            (box.path / "go").touch()
            box.run()
            (box.path / "go").unlink()
        over = threading.Event()

        def read(args, must=True):
            began = time.monotonic()
            code, text = box.run(*args, patience=SWIFT)
            reads[0] += 1
            if code == USAGE and not must and any(word in text for word in NOT_YET):
                return
            if code != OK:
                faults.append(f"{' '.join(args)} beside a run: exit {code} after {time.monotonic() - began:.2f} s: {text}")

        def loop(chance):
            while not over.is_set() and not faults:
                args = list(chance.choice(READERS))
                if args[0] == "export":
                    args[3] = f"out-{threading.get_ident()}"
                read(args, must=False)

        runner = box.start("-j2", *(["-B"] if again else []))
        loops = [threading.Thread(target=loop, args=[random.Random(family.random.random())]) for _ in range(2)]
        for thread in loops:
            thread.start()
        try:
            until(lambda: faults or box.ledger.stat().st_size >= 65 * len(want["step"]) * (1 + again), "the last step")
            if sabotage:
                sabotage(box)
            # The run now waits for `go`, with lock and database in its hands: all readers must come through.
            for args in READERS:
                if not faults:
                    read(args)
            if gone := deleted(runner.pid):
                faults.append(f"deleted under the runner: {gone}")
        finally:
            over.set()
            (box.path / "go").touch()
            for thread in loops:
                thread.join()
        text = runner.communicate(timeout=PATIENCE)[0].decode(errors="replace")
        if runner.returncode != OK:
            faults.append(f"the run beside readers: exit {runner.returncode}: {text}")
        if not faults and not again:
            for name in box.path.glob("out*"):
                shutil.rmtree(name)
            faults += final_faults(box, want)
        return [f"{fault} [{box.path}]" for fault in faults], reads[0]


def controls(family, want, pipeline):
    # Flocks on DB/lock that do nothing: two runners at once.
    noticed = any(any("two at once" in fault or "in vain" in fault or "exit" in fault for fault in race(family, want, pipeline, lie=True)) for _ in range(3))
    family.control("locks that do nothing", noticed)

    def log_deleted(box):
        (box.db / "db-wal").rename(box.path / "stolen")
        (box.path / "stolen").unlink()

    faults, _ = with_readers(family, want, pipeline, log_deleted)
    family.control("the log of the database deleted during a run", any("deleted under" in fault or "exit" in fault for fault in faults))

    def objects_hidden(box):
        (box.db / "objects").rename(box.db / "hidden")

    faults, _ = with_readers(family, want, pipeline, objects_hidden)
    family.control("objects taken away under the readers", any("beside a run" in fault for fault in faults))

    held = []

    def locked_out(box):
        # The lock that SQLite takes on its way to any other.
        file = open(box.db / "db", "r+b")
        held.append(file)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0x40000000, 1, 0) + b"\0" * 4)

    try:
        faults, _ = with_readers(family, want, pipeline, locked_out)
        noticed = any("hangs" in fault or "75" in fault for fault in faults)
    except (OSError, RuntimeError, subprocess.TimeoutExpired) as error:
        faults, noticed = [str(error)], False
    for file in held:
        file.close()
    if not noticed:
        print(faults)
    family.control("readers locked out", noticed)


def main():
    family = Family("T3")
    races, gcs, readers = family.count("races", 12, 500), family.count("gcs", 3, 60), family.count("readers", 3, 60)
    pipeline, wide = gated(), gated(2, 6)

    # The gate is part of the script, so the undisturbed run needs it open.
    def open_gate(pipeline):
        with Box(pipeline, "undisturbed") as box:
            (box.path / "go").touch()
            code, text = box.run("-j2")
            if code != OK:
                sys.exit(f"an undisturbed run fails already: exit {code}\n{text}")
            return box.canonical()

    want, want_wide = open_gate(pipeline), open_gate(wide)
    clean = 0
    for _ in range(races):
        faults = race(family, want, pipeline)
        clean += not faults
        for fault in faults:
            family.deviate(fault)
    sweeps = busy = reads = 0
    for _ in range(gcs):
        faults, n, b = with_gc(family, want, pipeline)
        sweeps, busy, clean = sweeps + n, busy + b, clean + (not faults)
        for fault in faults:
            family.deviate(fault)
    for _ in range(readers):
        faults, n = with_readers(family, want_wide, wide)
        reads, clean = reads + n, clean + (not faults)
        for fault in faults:
            family.deviate(fault)
    controls(family, want, pipeline)
    rounds = races + gcs + readers
    family.done(
        f"{rounds} rounds, {clean} clean ({races} races, {sweeps} gc of which {busy} met a run, {reads} reads)",
        rounds=rounds, clean=clean, races=races, gcs=sweeps, gcs_refused=busy, reads=reads,
    )


main()
