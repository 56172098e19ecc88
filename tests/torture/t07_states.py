#!/usr/bin/env python3
"""T7: every state that a power cut can leave. A run on a disk that logs each write and each flush; then the
disk is rebuilt as it was after any write, with all writes up to there (a prefix), or with those since
the last flush dropped or torn by chance, in pieces of 4 KiB. Each is mounted and looked at: what had been
said to be done is done, every row's object is there and hashes right; every so many are run on to the
state of an undisturbed run.

The database's log is as large as it gets beforehand, so that it is overwritten in place, and half of the
states come from a run whose fsync of it is fdatasync (as in most builds of SQLite; ours calls fsync):
only then doesn't it bring the names of the objects along, and their own syncs are all that does.

Negative controls: without the sync of files (empty objects), and without any (missing ones). Without the
sync of folders alone nothing is lost on ext4 and xfs, which is told, not demanded: an object is renamed
first and synced then, and the sync of a file commits the rename with it.

T7_EXT4, T7_XFS: states; T7_CONTROL: states of each control; T7_RESTART: of every so many
states one is run on.
"""

import collections
import glob
import shlex
import threading

from common import *
from faults import *

PIPELINE = n_steps(files=5, width=4)
MEBIBYTES = {"ext4": 64, "xfs": 320}
# The pause keeps groups of commits small: the log grows by the group.
WARM = (
    task("warm", 'for i in $(seq 3000); do echo $i > "$OUTPUT_DIR/$i"; done')
    + task("tick", 'sleep 0.01; cp "$INPUT_FILE" "$OUTPUT_DIR"')
)
ARGS = ("-j2", "--min-free", "0")
PIECE = 4096
WRITE, FLUSH, MARKED = 1, 2, 3


DATASYNC = {"LD_PRELOAD": compile_c("fail", "-shared", "-fPIC"), "FAIL_DATASYNC": "1"}


def logger():
    flags = ["-I/usr/include/fuse3", "-D_FILE_OFFSET_BITS=64", "-lfuse3"]
    if shutil.which("pkg-config"):
        code, text = sh("pkg-config", "--cflags", "--libs", "fuse3", check=False)
        flags = shlex.split(text) + ["-D_FILE_OFFSET_BITS=64"] if code == 0 else flags
    return compile_c("blocklog", *flags)


def warm_up(box, image):
    """A database whose log has its full length, on a clean disk."""
    box.mount_image(image)
    (box.path / "warm.toml").write_text(WARM)
    runner = box.start("-j2", "-manifest", "warm.toml", "--durability", "off", "--min-free", "0", stdout=subprocess.DEVNULL)
    log = box.db / "db-wal"
    until(lambda: runner.poll() is not None or (log.exists() and log.stat().st_size > 2000 * 4120), "the log to grow", 120)
    if runner.poll() is not None:
        raise RuntimeError("the warming run ended before the log had its length")
    runner.kill()
    runner.wait()
    box.kill_survivors()
    box.umount()


def record(box, image, log, env):
    """The run on the logged disk. Its standard error goes into the log."""
    fuse = box.path / "fuse"
    fuse.mkdir(exist_ok=True)
    sh(logger(), image, log, fuse)
    try:
        until(lambda: (fuse / "disk").exists(), "the logged disk")
        device = sh("losetup", "-f", "--show", fuse / "disk")[1].strip()
        try:
            sh("mount", device, box.mnt)
            with open(fuse / "mark", "wb", buffering=0) as mark:
                runner = box.start(*ARGS, env=env, stdout=subprocess.DEVNULL, stderr=mark)
                code = runner.wait(PATIENCE)
            box.umount()
        finally:
            sh("losetup", "-d", device, check=False)
    finally:
        until(lambda: sh("fusermount3", "-u", fuse, check=False)[0] == 0, "the logged disk to be let go")
    if code != OK:
        raise RuntimeError(f"the recorded run: exit {code}")


def records(path):
    data = path.read_bytes()
    found, at = [], 0
    while at < len(data):
        kind, length, offset = struct.unpack_from("<IIQ", data, at)
        at += 16
        found.append((kind, offset, memoryview(data)[at:at + length]))
        at += length
    return found


class States:
    """Rebuilds the disk as it was after any record."""

    def __init__(self, base, log, target):
        self.base, self.records, self.target = base, records(log), target
        self.whole = target.with_suffix(".whole")  # all writes up to `self.at`
        copy_sparse(base, self.whole)
        self.at = 0
        self.flushes = [n for n, (kind, _, _) in enumerate(self.records) if kind == FLUSH]
        self.begins = next(n for n, (kind, _, _) in enumerate(self.records) if kind == MARKED)

    def advance(self, to):
        if to < self.at:
            copy_sparse(self.base, self.whole)
            self.at = 0
        with open(self.whole, "r+b") as disk:
            for kind, offset, data in self.records[self.at:to]:
                if kind == WRITE:
                    disk.seek(offset)
                    disk.write(data)
        self.at = to

    def build(self, cut, seed):
        """The disk after the first `cut` records; with a seed, of those since the last flush only some."""
        last = next((n for n in reversed(self.flushes) if n < cut), 0)
        self.advance(last if seed else cut)
        # A file of its own each time: `mount -o loop` uses a loop device that still has the old one once more, with
        # what it remembers of it.
        self.target.unlink(missing_ok=True)
        clone(self.whole, self.target)
        if not seed:
            return
        dice = random.Random(f"{seed} {cut}")
        with open(self.target, "r+b") as disk:
            for kind, offset, data in self.records[last:cut]:
                if kind != WRITE or dice.random() < 0.5:
                    continue
                keep = range(0, len(data), PIECE)
                if dice.random() < 0.3:
                    keep = [at for at in keep if dice.random() < 0.5]
                for at in keep:
                    disk.seek(offset + at)
                    disk.write(data[at:at + PIECE])

    def said(self, cut):
        return b"".join(bytes(data) for kind, _, data in self.records[:cut] if kind == MARKED).decode(errors="replace")


def clone(source, target):
    """A sparse copy, only of what is there."""
    with open(source, "rb") as a, open(target, "wb") as b:
        end = os.fstat(a.fileno()).st_size
        b.truncate(end)
        at = 0
        while at < end:
            try:
                at = os.lseek(a.fileno(), at, os.SEEK_DATA)
            except OSError:
                break  # only a hole is left
            hole = os.lseek(a.fileno(), at, os.SEEK_HOLE)
            os.lseek(b.fileno(), at, os.SEEK_SET)
            while at < hole:
                at += os.sendfile(b.fileno(), a.fileno(), at, min(hole - at, 1 << 24))


class System:
    """All states of one recorded run."""

    def __init__(self, family, system, count, seeds, restart, want, env=None):
        self.family, self.system, self.count, self.seeds, self.restart, self.want = family, system, count, seeds, restart, want
        self.env = env or {}
        self.tried = self.restarted = self.all_records = 0
        self.kinds = collections.Counter()
        self.examples = []
        self.kept = None  # the first bad state, for whoever wants to look into it

    def bad(self, kind, cut, seed, what):
        self.kinds[kind] += 1
        if len(self.examples) < 20:
            self.examples.append(f"{self.system}, record {cut}, seed {seed}: {what}"[:500])

    def run(self, enough=None):
        with MountBox(PIPELINE, f"t07-{self.system}") as box:
            image, base, log = box.path / "disk", box.path / "base", box.path / "log"
            make_image(image, self.system, MEBIBYTES[self.system])
            warm_up(box, image)
            copy_sparse(image, base)
            record(box, image, log, self.env)
            states = States(base, log, box.path / "state")
            every = [(cut, seed) for cut in range(states.begins + 1, len(states.records) + 1) for seed in range(self.seeds + 1)]
            step = max(1, len(every) / self.count)
            chosen = [every[int(n * step)] for n in range(min(self.count, len(every)))]
            # In the order of their last flush, so that the disk only has to move forward.
            chosen.sort(key=lambda state: (state[1] > 0, state[0]))
            self.all_records = len(states.records)
            for n, (cut, seed) in enumerate(chosen):
                self.look(box, states, cut, seed, self.restart and n % self.restart == 0)
                # The controls, which are never run on, are meant to be bad.
                if self.examples and self.restart and not self.kept:
                    states.build(cut, seed)
                    self.kept = box.path.parent / f"{box.path.name}-{cut}-{seed}.disk"
                    copy_sparse(states.target, self.kept)
                    self.examples[-1] += f" [{self.kept}]"
                if enough and self.kinds["object"] >= enough:
                    break
        return self

    def look(self, box, states, cut, seed, restart):
        self.tried += 1
        states.build(cut, seed)
        code, text = sh("mount", "-o", "loop", states.target, box.mnt, check=False)
        if code:
            return self.bad("does not mount", cut, seed, text.strip())
        try:
            connection = open_copy(box.db)
            try:
                (sound,) = connection.execute("PRAGMA quick_check").fetchone()
                if sound != "ok":
                    self.bad("database", cut, seed, sound)
                done = {step for (step,) in connection.execute("SELECT id FROM step WHERE state = 1")}
                lost = acknowledged(states.said(cut)) - done
                if lost:
                    self.bad("lost", cut, seed, f"steps {sorted(lost)} were said to be done and are not")
                wrong = bad_objects(box.db, connection)
                if wrong:
                    self.bad("object", cut, seed, f"rows with a bad object: {wrong[:2]}")
            finally:
                connection.close()
            if restart:
                self.restarted += 1
                self.run_on(box, cut, seed)
        except (sqlite3.Error, OSError) as error:
            self.bad("unreadable", cut, seed, repr(error))
        finally:
            box.umount()

    def run_on(self, box, cut, seed):
        code, text = box.run(*ARGS)
        if code != OK:
            return self.bad("restart", cut, seed, f"exit {code}: {text[-300:]}")
        wrong = settled(self.want, live(box.canonical()))
        if wrong:
            self.bad("state", cut, seed, f"another final state: {wrong[:2]}")
        wrong = box.verify()
        if wrong:
            self.bad("verify", cut, seed, wrong)


def live(state):
    """Less what the warming run has left, which the pipeline no longer has."""
    old = ("'warm", "'tick", "warm.toml")
    kept = {name: [row for row in rows if not any(word in row for word in old)] for name, rows in state.items()}
    # Recipes have no names; which are needed, is told by the steps.
    needed = {row.split("/")[-1].split("'")[0] for row in kept["step"]}
    kept["recipe"] = [row for row in kept["recipe"] if row.split("'")[1] in needed]
    return kept


def main():
    family = Family("T7")
    lacking = missing("root", "mount", "losetup", "fusermount3", "mkfs.ext4", "cc")
    if not os.path.exists("/dev/fuse"):
        lacking.append("/dev/fuse")
    if not glob.glob("/usr/include/fuse3/fuse.h"):
        lacking.append("libfuse3-dev")
    if lacking:
        skip("T7", f"needs {', '.join(lacking)}")
        family.control("not run", True)
        family.done("not run")
    # The rows of the warming run decide over numbers, and these over some hashes.
    with Box(PIPELINE, "t07") as box:
        (box.path / "warm.toml").write_text(WARM)
        box.run("-j2", "-manifest", "warm.toml", "--durability", "off")
        box.run(*ARGS)
        want = live(box.canonical())
    restart = family.count("restart", 20, 20)
    ext4 = family.count("ext4", 40, 2400)
    parts = [System(family, "ext4", ext4 // 2, 2, restart, want), System(family, "ext4", ext4 // 2, 2, restart, want, DATASYNC)]
    xfs = family.count("xfs", 0, 400)
    if xfs and missing("mkfs.xfs"):
        skip("T7", "xfs needs mkfs.xfs")
    elif xfs:
        parts += [System(family, "xfs", xfs // 2, 0, restart, want, env) for env in (None, DATASYNC)]
    most = family.count("control", 60, 300)
    words = ("files", "all", "dirs") if family.is_full else ("files", "all")
    controls = {word: System(family, "ext4", most, 0, 0, want, DATASYNC | skip_sync(word)) for word in words}
    threads = [threading.Thread(target=part.run) for part in parts]
    enough = None if family.is_full else 1
    threads += [threading.Thread(target=control.run, args=(enough,)) for control in controls.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for part in parts:
        for example in part.examples:
            family.deviate(example)
        if part.tried < part.count:
            family.deviate(f"{part.system}: only {part.tried} of {part.count} states")
    for part in parts + list(controls.values()):
        if not part.tried:
            family.deviate(f"{part.system}: no state was looked at")
    family.control("ext4 without the sync of files", controls["files"].kinds["object"] > 0)
    family.control("ext4 without any sync", controls["all"].kinds["object"] > 0)
    lines, numbers = [], {}
    for system in dict.fromkeys(part.system for part in parts):
        own = [part for part in parts if part.system == system]
        tried, restarted, bad = (sum(numbers) for numbers in zip(*((part.tried, part.restarted, sum(part.kinds.values())) for part in own)))
        lines.append(f"{tried} {system} states: {bad} bad ({restarted} run on)")
        numbers[system] = {"states": tried, "records": [part.all_records for part in own], "restarted": restarted, "bad": [dict(part.kinds) for part in own]}
    lines += [f"controls: skip {word}: {control.kinds['object']} of {control.tried} bad" for word, control in controls.items()]
    family.done("; ".join(lines), **numbers, control={word: {"states": control.tried, "bad": dict(control.kinds), "example": control.examples[-1:]} for word, control in controls.items()})


main()
