#!/usr/bin/env python3
"""T11: gc, repair and the conversion of an older store, killed (kill -9) at every call that changes a file or takes a lock: k = 1, 2, … until they
are through before their k-th call. After each kill nothing that is live is missing, a run finds nothing to do,
the same command again ends well, and the state is then that of an undisturbed one. A half converted store says so.

Also gc by chance: rounds of edits, reverts and runs with gc in between, against results by a fresh database. And
`--grace`: what gc may remove is worked out here, from the rows and the times of the files.
(gc beside a run: T3. gc and repair with failing system calls: T5.)

T11_STEP: only every so many-th call. T11_ROUNDS: of gc by chance.
"""

import itertools
import signal
import time

from common import *

SEEN = {"unlink", "unlinkat", "pwrite64", "fsync", "flock", "rename", "renameat", "renameat2", "open64", "openat64", "rmdir"}
NEEDED = {"gc": {"pwrite64", "fsync", "flock"}, "repair": {"pwrite64", "fsync", "flock", "renameat2"}, "conversion": {"rename", "mkdir", "fsync"}}
UNTOUCHED = 3


def with_garbage():
    """A database with a history, and what an undisturbed gc leaves of it."""
    box = Box(name="t11")
    before = (box.path / "in" / "0.txt").read_text()
    box.run()
    (box.path / "in" / "0.txt").write_text("another\n")
    box.run()
    (box.path / "in" / "0.txt").write_text(before)
    code, text = box.run()
    # Files that no row proves, as a killed run leaves them.
    for n in range(3):
        stray = object_path(box.db, f"{n:02x}" + "0" * 62)
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_text("stray")
    if code != OK:
        sys.exit(f"a run fails already: exit {code}: {text}")
    return box


def with_damage():
    """A database in which every fourth object is gone or changed; all of them can be made again."""
    box = Box(name="t11")
    code, text = box.run()
    for n, (name, _) in enumerate(box.objects()):
        path = box.db / "objects" / name
        if n % 4 == 0 and path.stat().st_size > 0 and not is_log(box, name):
            path.chmod(0o644)
            path.write_text("harm") if n % 8 else path.unlink()
    return box


def with_older_layout():
    """A store of format 2: objects at AB/CDEF…"""
    box = Box(name="t11")
    code, text = box.run()
    if code != OK:
        sys.exit(f"a run fails already: exit {code}: {text}")
    for name, _ in box.objects():
        shard, folder, rest = name.split("/")
        (box.db / "objects" / name).rename(box.db / "objects" / shard / (folder + rest))
        with contextlib.suppress(OSError):
            (box.db / "objects" / shard / folder).rmdir()
    (box.db / "format").write_text("task-pipeline 2\n")
    return box


def is_log(box, name):
    return bool(box.query("SELECT 1 FROM attempt WHERE log = ?", bytes.fromhex(name.replace("/", ""))))


class Sweep:
    def __init__(self, family, what, make, args):
        self.family, self.what, self.args = family, what, args
        self.library = compile_c("killat", "-shared", "-fPIC")
        self.box = make()
        self.pristine = self.box.path / "pristine"
        shutil.copytree(self.box.db, self.pristine)
        self.damaged = self.box.verify() if what == "repair" else ""
        self.calls = self.count()
        self.want = self.state()
        self.kills = self.same = 0

    def environment(self, **more):
        return {"LD_PRELOAD": self.library, "KILL_PATH": self.box.path, "KILL_LOG": self.box.path / "calls", **more}

    def count(self):
        log = self.box.path / "calls"
        log.unlink(missing_ok=True)
        code, text = self.box.run(*self.args, env=self.environment())
        if code != OK:
            self.family.deviate(f"an undisturbed {self.what}: exit {code}: {text}")
        calls = [line.split()[1] for line in log.read_text().splitlines()]
        missed = NEEDED[self.what] - set(calls)
        self.family.expect(not missed, f"the library did not see {sorted(missed)} of {self.what}")
        return calls

    def state(self):
        return self.box.canonical()

    def renew(self):
        shutil.rmtree(self.box.db)
        shutil.copytree(self.pristine, self.box.db)

    def one(self, k, sabotage=None, **lie):
        """Gives (was killed, what was wrong afterwards)."""
        box, faults = self.box, []
        self.renew()
        (box.path / "calls").unlink(missing_ok=True)
        code, text = box.run(*self.args, env=self.environment(KILL_AT=k, **lie))
        if code not in (OK, -signal.SIGKILL):
            faults.append(f"exit {code}: {text}")
        killed = code == -signal.SIGKILL
        if sabotage:
            sabotage(box)
        if killed or lie:
            if self.what == "conversion":
                code, text = box.run("verify", "--data")
                if code != OK and "the next run, gc or repair converts it" not in text:
                    faults.append(f"right after the kill: verify: exit {code}: {text}")
            if self.what == "gc":
                if wrong := box.verify():
                    faults.append(f"right after the kill: {wrong}")
                size = box.ledger.stat().st_size
                code, text = box.run()
                if code != OK or "nothing to do" not in text or box.ledger.stat().st_size != size:
                    faults.append(f"a run after the kill finds something to do: exit {code}: {text}")
            code, text = box.run(*self.args)
            if code != OK:
                faults.append(f"the same again: exit {code}: {text}")
        if wrong := differences(self.want, self.state()):
            faults += [f"another state: {line}" for line in wrong]
        if wrong := box.verify():
            faults.append(wrong)
        if box.leftovers() or box.survivors():
            faults.append(f"left: {box.leftovers()} {box.survivors()}")
        call = self.calls[k - 1] if k <= len(self.calls) else "none"
        return killed, [f"{fault} [{self.what}, call {k} ({call})]" for fault in faults]

    def sweep(self, step):
        untouched = 0
        for k in itertools.count(self.family.random.randrange(step) + 1, step):
            killed, faults = self.one(k)
            self.kills += killed
            self.same += killed and not faults
            for fault in faults:
                self.family.deviate(fault)
            untouched = 0 if killed else untouched + 1
            if untouched == UNTOUCHED or k > 20 * len(self.calls) + 100:
                break


def by_chance(family):
    """Edits, reverts and runs with gc in between; the live results are always those of a fresh database."""
    chance, faults, sweeps = family.random, [], 0
    texts, scripts = ["input number 0\n" * 3, "another\n", "a third\n", ""], ["splitting", "cutting", "parting"]
    with Box(name="t11") as box:
        for _ in range(6):
            (box.path / "in" / f"{chance.randrange(2)}.txt").write_text(chance.choice(texts))
            (box.path / "pipeline.toml").write_text(box.manifest.replace("splitting", chance.choice(scripts)))
            code, text = box.run("-j2")
            if code != OK:
                faults.append(f"a run: exit {code}: {text}")
            if chance.random() < 0.7:
                sweeps += 1
                code, text = box.run("gc", "--grace", "0s", *chance.choice([[], ["--history", "2"], ["--keep-history"]]))
                if code != OK:
                    faults.append(f"gc: exit {code}: {text}")
                if wrong := box.verify():
                    faults.append(f"after gc: {wrong}")
                code, text = box.run()
                if code != OK or "nothing to do" not in text:
                    faults.append(f"a run after gc: exit {code}: {text}")
        code, text = box.run("-db", "fresh")
        for name in ("work", "total", "last"):
            box.run("export", name, "--to", f"out/{name}")
            box.run("export", name, "--to", f"fresh-out/{name}", "-db", "fresh")
        compared = [{str(p.relative_to(box.path / root)): p.read_bytes() for p in (box.path / root).rglob("*") if p.is_file() and not p.name.startswith(".task")} for root in ("out", "fresh-out")]
        if compared[0] != compared[1] or not compared[0]:
            faults.append(f"results differ from those of a fresh database: {len(compared[0])} and {len(compared[1])} files")
        return [f"{fault} [{box.path}]" for fault in faults], sweeps


# What a live step works on, made or printed, and what an input file or an argument is.
NEEDED_OBJECTS = """
SELECT object FROM step WHERE live = 1
UNION SELECT o.object FROM output o JOIN step s ON s.id = o.step WHERE s.live = 1
UNION SELECT a.log FROM attempt a JOIN step s ON s.id = a.step WHERE s.live = 1 AND a.log IS NOT NULL
UNION SELECT object FROM input_file UNION SELECT object FROM argument WHERE object IS NOT NULL
"""
GRACE = 3.0  # seconds; long enough for a gc to come to look at the files


def changed(box):
    """{object: when its file was last changed (its inode's time), in seconds}"""
    root = box.db / "objects"
    return {str(path.relative_to(root)).replace("/", ""): path.stat().st_ctime_ns / 1e9 for path in root.rglob("*") if path.is_file()}


def graces(sabotage=None):
    """gc with a time of grace: nothing younger goes, everything older that nobody needs does. `sabotage` are the
    arguments of a gc in the place of the one that is looked at."""
    faults = []

    def sweep(box, *options):
        code, text = box.run("gc", *options)
        if code != OK:
            faults.append(f"gc {' '.join(options)}: exit {code}: {text}")

    with with_garbage() as box:
        before, state = changed(box), box.canonical()
        for options in ([], ["--grace", "1h"], ["--grace", "1h", "--history", "1"]):
            sweep(box, *options)
            if wrong := differences(state, box.canonical()):
                faults.append(f"gc {' '.join(options)} removed what is a minute old at most: {wrong}")
                return faults
        garbage = sorted(before.keys() - {name for (name,) in box.query(f"SELECT lower(hex(object)) FROM ({NEEDED_OBJECTS})")})
        until(lambda: time.time() > max(before.values()) + GRACE, "everything to be older than the grace")
        # Every second one is as new as can be. The strays come first, so some of each kind are new.
        for name in garbage[::2]:
            path = object_path(box.db, name)
            path.chmod(path.stat().st_mode)
        before, began = changed(box), time.time()
        sweep(box, *(sabotage or ["--grace", f"{GRACE * 1000:.0f}ms"]))
        after, ended = changed(box), time.time()
        rows = {name for (name,) in box.query("SELECT lower(hex(hash)) FROM object")}
        gone = before.keys() - after.keys()
        young = {name for name in gone if before[name] + GRACE > ended}
        old = {name for name in garbage if name not in gone and before[name] + GRACE <= began}
        if young:
            faults.append(f"removed although younger than the grace: {sorted(young)[:3]} and {len(young)} in all")
        if old or not gone:
            faults.append(f"not removed although older than the grace: {sorted(old)[:3]} and {len(old)} in all")
        if wrong := gone - set(garbage):
            faults.append(f"removed although needed: {sorted(wrong)[:3]}")
        if wrong := gone & rows:
            faults.append(f"rows without a file: {sorted(wrong)[:3]}")
        sweep(box, "--grace", "0s")
        if (left := changed(box).keys()) != before.keys() - set(garbage):
            faults.append(f"left by gc --grace 0s: {len(left)} objects instead of {len(before) - len(garbage)}")
        if wrong := box.verify():
            faults.append(wrong)
    return faults


def controls(family, gc, repair, conversion):
    def live_gone(box):
        hash = box.query("SELECT lower(hex(o.object)) FROM output o JOIN step s ON s.id = o.step WHERE s.live = 1 ORDER BY 1 LIMIT 1")[0][0]
        (object_path(box.db, hash)).unlink()

    half = len(gc.calls) // 2
    family.control("a live object that gc removes", bool(gc.one(half, live_gone)[1]))
    # Rows that stay although the names are gone: what a gc in the wrong order leaves, if it is killed in between.
    noticed = any(gc.one(k, KILL_LIE="/db/db-wal")[1] for k in (half, len(gc.calls) - 3))
    family.control("rows that never go", noticed)
    # Names that stay, without a further gc, are seen as another state.
    gc.renew()
    family.control("a gc that removes nothing", bool(differences(gc.want, gc.state())))
    noticed = any(repair.one(k, KILL_LIE="/db/objects/")[1] for k in (len(repair.calls) // 2, len(repair.calls) - 3))
    family.control("repaired objects that never get their name", noticed)
    # Objects that are said to be moved and are not.
    noticed = any(conversion.one(k, KILL_LIE="/db/objects/")[1] for k in (1, len(conversion.calls) // 2))
    family.control("moves that never happen", noticed)
    noticed = any("younger than the grace" in fault for fault in graces(["--grace", "0s"]))
    family.control("a gc that heeds no grace", noticed)
    noticed = any("older than the grace" in fault for fault in graces(["--grace", "1h"]))
    family.control("a gc that removes nothing old", noticed)


def main():
    family = Family("T11")
    step = family.count("step", 7, 1)
    gc = Sweep(family, "gc", with_garbage, ("gc", "--grace", "0s"))
    repair = Sweep(family, "repair", with_damage, ("repair",))
    conversion = Sweep(family, "conversion", with_older_layout, ())
    family.expect("damaged" in repair.damaged, f"nothing was damaged: {repair.damaged}")
    controls(family, gc, repair, conversion)
    for sweep in (gc, repair, conversion):
        sweep.sweep(step)
        print(f"T11: {sweep.what}: {len(sweep.calls)} calls, {sweep.kills} kills, {sweep.same} identical", flush=True)
        sweep.box.remove()
    for fault in graces():
        family.deviate(fault)
    rounds, sweeps = family.count("rounds", 3, 60), 0
    for _ in range(rounds):
        faults, n = by_chance(family)
        sweeps += n
        for fault in faults:
            family.deviate(fault)
    kills, same = (sum(getattr(sweep, what) for sweep in (gc, repair, conversion)) for what in ("kills", "same"))
    line = f"{kills} kills ({gc.kills} of gc, {repair.kills} of repair, {conversion.kills} of a conversion), {same} identical; {sweeps} gc by chance in {rounds} rounds"
    family.done(line, kills=kills, identical=same, gc=gc.kills, repair=repair.kills, conversion=conversion.kills, sweeps=sweeps, rounds=rounds)


main()
