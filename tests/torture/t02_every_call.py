#!/usr/bin/env python3
"""T2: kill -9 at every call of a ten-step run that changes a file, takes a lock or starts a script:
k = 1, 2, … until the run is through before its k-th call. After each kill the next start must lead to the
state of an undisturbed run, with nothing committed run again.

Swept: -j1 and -j2, each with --durability batch and off; and the start after a kill (killed at a random
call, then at every call of the second start).

T2_STEP: only every so many-th call, from a random one of the first so many on.
"""

import concurrent.futures
import itertools
import os
import signal

from common import *

# The sweep would be blind if the library saw none of these.
SEEN = {
    "batch": {"fsync", "pwrite64", "renameat2", "mkdirat", "unlinkat", "ftruncate64", "open64", "openat64", "write", "fchmod", "flock"},
    "off": {"pwrite64", "renameat2", "mkdirat", "unlinkat", "ftruncate64", "open64", "openat64", "write", "fchmod", "flock"},
}
if os.environ.get("TORTURE_LAUNCH") != "fork":
    for seen in SEEN.values():
        seen.add("posix_spawnp")
UNTOUCHED = 3  # so many runs in a row that came to their end: the sweep has passed the last call


class Sweep:
    def __init__(self, family, jobs, durability, want):
        self.family, self.want = family, want
        self.args = (f"-j{jobs}", "--durability", durability)
        self.durability = durability
        self.library = compile_c("killat", "-shared", "-fPIC")
        self.kills = self.same = self.again = 0

    def environment(self, box, at=None, **more):
        env = {"LD_PRELOAD": self.library, "KILL_PATH": box.path, "KILL_LOG": box.path / "calls", **more}
        return env | ({"KILL_AT": at} if at else {})

    def calls(self, box):
        return [line.split()[1] for line in (box.path / "calls").read_text().splitlines()]

    def seen(self):
        """Calls of an undisturbed run, and whether every kind was seen that must be."""
        with Box(name="t02") as box:
            code, text = box.run(*self.args, env=self.environment(box))
            calls = self.calls(box)
            if code != OK:
                self.family.deviate(f"an undisturbed run with the library: exit {code}: {text}")
        return len(calls), SEEN[self.durability] - set(calls)

    def one(self, k, first=None, **lie):
        """Kills at the k-th call, or first at another one and then at the k-th of the next start. Gives
        (was killed, what was wrong afterwards)."""
        faults = []
        box = Box(name="t02")
        for at in [first, k] if first else [k]:
            committed, offset = box.committed(), box.ledger.stat().st_size
            code, text = box.run(*self.args, env=self.environment(box, at, **lie))
            again = committed & set(box.started(offset))
            if code not in (OK, -signal.SIGKILL):
                faults.append(f"exit {code}: {text}")
            if wrong := unfounded(box, text):
                faults.append(wrong)
            if again:
                self.again += len(again)
                faults.append(f"committed steps were run again: {sorted(again)}")
        killed = code == -signal.SIGKILL
        if killed:
            committed, offset = box.committed(), box.ledger.stat().st_size
            if committed and (wrong := box.verify()):
                faults.append(f"right after the kill: {wrong}")
            code, text = box.run(*self.args)
            again = committed & set(box.started(offset))
            if code != OK:
                faults.append(f"the next start: exit {code}: {text}")
            if again:
                self.again += len(again)
                faults.append(f"committed steps were run again: {sorted(again)}")
        faults += final_faults(box, self.want)
        where = f"{' '.join(self.args)}, call {k} ({(self.calls(box) or ['none'])[-1]}){f' after {first}' if first else ''}"
        if not faults or lie:
            box.remove()
        return killed, [f"{fault} [{where}, {box.path}]" for fault in faults]

    def sweep(self, step, total, restart=False):
        """Two at once: much of the time goes into waiting for the disk."""
        family = self.family
        chance = random.Random(family.random.random())
        at = itertools.count(chance.randrange(step) + 1, step)
        untouched = 0
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            while untouched < UNTOUCHED:
                points = [(next(at), chance.randrange(1, total) if restart else None) for _ in range(8)]
                for (k, _), (killed, faults) in zip(points, pool.map(lambda point: self.one(*point), points)):
                    if killed:
                        self.kills += 1
                        self.same += not faults
                    untouched = 0 if killed else untouched + 1
                    for fault in faults:
                        family.deviate(fault)
                if points[-1][0] > 20 * total:
                    family.deviate("the sweep doesn't end")
                    break


def controls(family, sweep, total):
    # Writes to the database's log that never happen: what was said to be done is not. From the middle on, where
    # steps are committed: a run that finds none of its tables in the log ends by itself.
    lies = {"KILL_LIE": "/db/db-wal", "KILL_LIE_FROM": total // 2}
    faults = [fault for k in (total * 3 // 4, total - 10) for fault in sweep.one(k, **lies)[1]]
    noticed = any("said to be done, but not committed" in fault for fault in faults)
    family.control("writes to the log of the database that do nothing", noticed)
    # Renames into the store that never happen: rows without objects.
    noticed = any(sweep.one(k, KILL_LIE="/db/objects/")[1] for k in (total // 2, total - 10))
    family.control("renames into the store that do nothing", noticed)
    # A library that sees nothing.
    blind = Sweep(family, 1, "batch", sweep.want)
    blind.environment = lambda box, at=None, **more: {"LD_PRELOAD": blind.library, "KILL_PATH": "/nowhere", "KILL_LOG": box.path / "calls"}
    (_, missed) = blind.seen()
    family.control("a library that sees no call", bool(missed))


def main():
    family = Family("T2")
    step = family.count("step", 40, 1)
    want = undisturbed(n_steps())
    kills = same = again = 0
    totals = {}
    for jobs, durability, restart in [(1, "batch", 0), (1, "off", 0), (2, "batch", 0), (2, "off", 0), (2, "batch", 1)]:
        sweep = Sweep(family, jobs, durability, want)
        total, missed = sweep.seen()
        family.expect(not missed, f"the library did not see {sorted(missed)}")
        sweep.sweep(step, total, restart)
        totals[f"-j{jobs} {durability}{' restart' if restart else ''}"] = sweep.kills
        print(f"T2: -j{jobs} {durability}{', the start after a kill' if restart else ''}: {total} calls, {sweep.kills} kills, {sweep.same} identical", flush=True)
        kills, same, again = kills + sweep.kills, same + sweep.same, again + sweep.again
        if not restart and durability == "batch" and jobs == 1:
            controls(family, sweep, total)
    family.done(f"{kills} kills, {same} identical, {again} run again", kills=kills, identical=same, run_again=again, sweeps=totals)


main()
