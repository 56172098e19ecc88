#!/usr/bin/env python3
"""T1: kill -9 of the runner at random moments, again and again, until the pipeline is done.

Whatever the moment (planning, reading inputs, scripts, commits) and whoever is hit (the runner, its group,
everything in its session at once):
- what the runner said to be done is committed, and is not run again;
- every row's object is there and whole (`verify --data` between kills);
- the next start works: the lock is not stale, nothing of the killed run acts any more once a new step
  has started (scripts trace their start and end), the scratch is empty at the end;
- the final state is that of an undisturbed run, and a further run finds nothing to do.

T1_KILLS: how many kills.
"""

import contextlib
import fcntl
import os
import re
import signal
import sqlite3
import subprocess
import time

from common import *

# What a work step does between its first and its last line in `trace`. Each leaves something
# running when the runner is killed; none leaves anything when it is not.
TRACE = 'echo "start $OUTPUT_DIR" >> trace\n%s\necho "end $OUTPUT_DIR" >> trace'
PAUSES = {
    "none": "",
    "sleep": TRACE % "sleep 0.1",
    "deaf": TRACE % "trap '' TERM HUP INT; sleep 0.1",
    "background": TRACE % "(sleep 0.1; echo \"late $OUTPUT_DIR\" >> trace) & wait",
    "session": TRACE % "setsid sh -c 'sleep 0.1; echo \"late $OUTPUT_DIR\" >> trace' & wait",
}
SHAPES = {"none": [(2, 3), (12, 1)]}


def pipelines(is_full):
    """{(pause, (files, width)): manifest and files}"""
    table = {}
    for name, pause in PAUSES.items():
        for shape in SHAPES.get(name, [(2, 3), (1, 8)])[: None if is_full else 1]:
            table[name, shape] = n_steps(*shape, pause)
        if name in ("none", "session"):
            table[f"groups, {name}", (2, 2)] = grouped(2, 2, pause)
    return table


def kill(process, how):
    if how == "runner":
        os.kill(process.pid, signal.SIGKILL)
    elif how == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        # As when a terminal or a container goes: everybody at once.
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(int(entry)) == process.pid:
                    os.kill(int(entry), signal.SIGKILL)
    process.wait()


def trace_faults(box):
    """Lines written by scripts of a killed run after a later run had started a step."""
    trace = box.path / "trace"
    if not trace.exists():
        return []
    latest, faults = 0, []
    for line in trace.read_text().splitlines():
        run = int(re.search(r"/scratch/(\d+)-", line).group(1))
        if run < latest:
            faults.append(f"a script of run {run} acted after run {latest} had begun: {line}")
        latest = max(latest, run)
    return faults


class Pipeline:
    """One pipeline, killed until it is done. `problems` says what was not as it must be."""

    def __init__(self, key, pipeline, want, span):
        self.box = Box(pipeline, "t01")
        self.pipeline, self.want, self.span = key, want, span
        self.problems = []
        self.kills = self.live = self.again = self.survived = 0
        self.committed = set()  # ever, not only now: what is done stays done

    def problem(self, what):
        self.problems.append(f"{what} [{self.pipeline}, kill {self.kills}, {self.box.path}]")

    def one_start(self, chance, delay):
        """Starts the runner and kills it after `delay` seconds; without, sees it to its end. True if it
        came to its end."""
        box = self.box
        self.committed |= box.committed()
        offset = box.ledger.stat().st_size
        args = [f"-j{chance.choice([1, 2, 4])}", "--durability", chance.choice(["batch", "off"])]
        with open(box.path / "out", "w+b") as out:
            process = box.start(*args, stdout=out)
            try:
                process.wait(PATIENCE if delay is None else delay)
            except subprocess.TimeoutExpired:
                if delay is None:
                    self.problem("hangs")
                kill(process, chance.choice(["runner", "runner", "group", "session"]))
            out.seek(0)
            text = out.read().decode(errors="replace")
        again = self.committed & set(box.started(offset))
        if again:
            self.again += len(again)
            self.problem(f"committed steps were run again: {sorted(again)}")
        if process.returncode == -signal.SIGKILL:
            self.kills += 1
            self.live += bool(box.survivors())
        elif process.returncode != OK:
            self.problem(f"exit {process.returncode}: {text.strip()}")
        if wrong := unfounded(box, text):
            self.problem(wrong)
        return process.returncode != -signal.SIGKILL

    def check_between(self, chance):
        """Sometimes a reader comes between two runs."""
        if not self.box.committed():
            return
        choice = chance.random()
        if choice < 0.25 and (wrong := self.box.verify()):
            self.problem(wrong)
        elif choice < 0.5:
            code, text = self.box.run(chance.choice(["status", "log"]), *(["--failed"] if choice < 0.3 else []))
            if code not in (OK, USAGE) or "panic" in text:
                self.problem(f"a reader after a kill: exit {code}: {text}")

    def delay(self, chance):
        # One in three hits the start: opening, planning, reading inputs.
        return chance.uniform(0, 0.06 if chance.random() < 0.34 else self.span)

    def finish(self):
        """The last, undisturbed start, and all that must be true after it."""
        box = self.box
        for fault in trace_faults(box):
            self.survived += 1
            self.problem(fault)
        self.survived += len(box.survivors())
        for fault in final_faults(box, self.want):
            self.problem(fault)

    def all(self, chance, most, sabotage=None):
        """Kills until it is done or there were `most` kills, then lets it end. `sabotage` is done once,
        after the first kill that found something committed."""
        done = False
        while not done and self.kills < most:
            done = self.one_start(chance, self.delay(chance))
            if not done and sabotage and self.box.committed():
                self.committed |= self.box.committed()
                sabotage(self)
                sabotage = None
            elif not done and not sabotage:
                self.check_between(chance)
        if not done:
            self.one_start(chance, None)
        self.finish()
        return sabotage is None


# ---- sabotage: each must be noticed ---------------------------------------------------------------


def change(box, sql):
    """Writes to the database behind the program's back. Nobody else has it open."""
    connection = sqlite3.connect(box.db / "db")
    connection.execute(sql)
    connection.commit()
    connection.close()


def step_undone(pipeline):
    change(pipeline.box, "UPDATE step SET state = 0 WHERE id = (SELECT min(id) FROM step WHERE state = 1)")


def row_lost(pipeline):
    change(pipeline.box, "DELETE FROM attempt WHERE step = (SELECT min(step) FROM attempt)")


def first_output(box):
    """Path of an object that a step has made, and that nobody makes again."""
    ((object,),) = box.query(
        "SELECT lower(hex(o.object)) FROM output o JOIN step s ON s.id = o.step JOIN task t ON t.id = s.task"
        " WHERE t.name = 'split' ORDER BY s.id LIMIT 1"
    )
    return object_path(box.db, object)


def object_lost(pipeline):
    first_output(pipeline.box).unlink()


def object_flipped(pipeline):
    path = first_output(pipeline.box)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def hide_scratch(box):
    """The next start finds an empty scratch, so it looks for no survivors."""
    for folder in box.scratch.iterdir():
        folder.rename(box.path / f"hidden-{folder.name}")


def deeds_of_survivors(hide=None):
    """Kills a runner while its scripts wait, and starts the next one. Once this one has started a step, the
    scripts may go on, those of the killed run too. Gives what these did then."""
    wait = TRACE % "until test -e go; do sleep 0.02; done"
    with Box(n_steps(1, 4, wait), "t01") as box:
        trace = box.path / "trace"

        def started():
            return re.findall(r"^start .*/scratch/(\d+)-", trace.read_text() if trace.exists() else "", re.M)

        first = box.start("-j4", stdout=subprocess.DEVNULL)
        until(lambda: len(started()) == 4, "four scripts to wait")
        kill(first, "runner")
        if hide:
            hide(box)
        second = box.start("-j4", stdout=subprocess.DEVNULL)
        until(lambda: len(set(started())) == 2, "a step of the next run")
        (box.path / "go").touch()
        second.wait(PATIENCE)
        until(lambda: not box.survivors(), "the scripts to end")
        return trace_faults(box)


def controls(family, table):
    def until_noticed(name, key, sabotage, sign):
        """A sabotage may come too late to matter; a few tries are fair."""
        pipeline, want, span = table[key]
        for n in range(12):
            chance = random.Random(f"{family.seed} {name} {n}")
            torture = Pipeline(key, pipeline, want, span)
            was_done = torture.all(chance, 6, sabotage)
            noticed = [problem for problem in torture.problems if re.search(sign, problem)]
            torture.box.remove()
            if was_done and noticed:
                return family.control(name, True)
        family.control(name, False)

    few = ("none", (2, 3))
    until_noticed("a committed step set back to pending", few, step_undone, "run again")
    until_noticed("an attempt's row deleted", few, row_lost, "final state differs: attempt")
    until_noticed("an object deleted", few, object_lost, "verify|final state differs: objects|exit 65")
    until_noticed("a byte of an object changed", few, object_flipped, "verify|final state differs: objects|exit 65")
    for fault in deeds_of_survivors():
        family.deviate(fault)
    family.control("survivors hidden from the next start", deeds_of_survivors(hide_scratch))

    # A lock that somebody holds.
    torture = Pipeline(few, *table[few])
    torture.all(random.Random(1), 1)
    with open(torture.box.db / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        torture.problems.clear()
        torture.one_start(random.Random(1), None)
    family.control("the lock held by a stranger", any("exit 75" in problem for problem in torture.problems))
    torture.box.remove()


def main():
    family = Family("T1")
    kills = family.count("kills", 40, 1000)
    table = {}
    for key, pipeline in pipelines(family.is_full).items():
        want = undisturbed(pipeline)
        began = time.monotonic()
        undisturbed(pipeline)
        table[key] = (pipeline, want, time.monotonic() - began)
    done = same = again = survived = live = boxes = 0
    while done < kills:
        key = family.random.choice(list(table))
        torture = Pipeline(key, *table[key])
        torture.all(family.random, min(12, kills - done))
        done += torture.kills
        boxes += 1
        same += torture.kills if not torture.problems else 0
        again += torture.again
        survived += torture.survived
        live += torture.live
        for problem in torture.problems:
            family.deviate(problem)
        if not torture.problems:
            torture.box.remove()
    controls(family, table)
    family.done(
        f"{done} kills ({boxes} pipelines, {live} kills left scripts running), {same} identical, "
        f"{again} run again, {survived} survivors",
        kills=done, identical=same, run_again=again, survivors=survived, pipelines=boxes, left_running=live,
    )


main()
