#!/usr/bin/env python3
"""T6: the power fails. A run on ext4 and xfs on a loop device; at a random moment the file system is shut down
(what it has not written is lost), the runner killed, and the disk mounted anew. Always: every step
that was said to be done is in the database as done (`--durability batch`), no such step runs again, every
row's object is there and hashes right; runs that follow, cut as well or not, complete to the state of an
undisturbed one. With `--durability off` steps may be lost, but the next run finds and remakes all that
is bad.

T6_CUTS: cuts that hit a run (those that come after its end are told apart) for each of ext4 and xfs; T6_OFF: with `--durability off`; T6_MIXED: with one of each in turn; T6_CONTROL: at most so many for each
negative control; T6_SYSTEMS="ext4 xfs".
"""

import threading

from common import *
from faults import *

# The plain one, and one with labels, groups and a side input; each life of a disk has one of them.
PIPELINES = [n_steps(files=4, width=4), grouped(files=3, width=2)]
MEBIBYTES = {"ext4": 48, "xfs": 320}
LONGEST = 0.6  # seconds until a cut


class Disk:
    """A box on a loop device, life after life."""

    def __init__(self, family, system, mode, wants, skipped=""):
        self.family, self.system, self.mode, self.wants = family, system, mode, wants
        self.env = skip_sync(skipped)
        # What is said to be done is so after the cut; and so is all else that is in the database.
        self.is_safe, self.is_all_safe = mode != "off", mode == "batch"
        self.args = ("-j2", "--min-free", "0", "--durability", "batch" if self.is_safe else "off")
        self.random = random.Random(f"{family.seed} {system} {mode} {skipped}")
        self.cuts = self.late = self.lives = self.lost = self.bad = self.again = 0
        self.found = []

    def say(self, what):
        self.found.append(f"{self.system}, {self.mode}, cut {self.cuts}: {what}"[:600])

    def one_life(self, most):
        """A new disk, a few cuts, and a run to the end."""
        self.lives += 1
        pipeline, want = PIPELINES[self.lives % 2], self.wants[self.lives % 2]
        with MountBox(pipeline, f"t06-{self.system}") as box:
            image = box.path / "disk"
            make_image(image, self.system, MEBIBYTES[self.system])
            box.mount_image(image)
            self.acked, self.offset, self.committed = set(), 0, set()
            for _ in range(self.random.randint(1, 12)):
                if self.cuts >= most or self.found:
                    break
                if self.cut(box):
                    break
            code, text = box.run(*self.args, env=self.env)
            if code != OK:
                self.say(f"the run that is not cut: exit {code}: {text[-300:]}")
            else:
                self.look(box, text)
                wrong = settled(want, box.canonical())
                if wrong:
                    self.say(f"another final state: {wrong[:2]}")
                wrong = box.verify()
                if wrong:
                    self.say(wrong)
            box.umount()

    def cut(self, box):
        """One run, cut short. True if it came to its end before that."""
        said = box.path / "said"
        if self.mode == "mixed":
            self.without_fsync(box)
        with open(said, "wb") as out:
            runner = box.start(*self.args, env=self.env, stdout=out, stderr=out)
        try:
            code = runner.wait(self.random.random() ** 1.5 * LONGEST)
        except subprocess.TimeoutExpired:
            code = None
        self.cuts += code is None
        self.late += code is not None
        # What is said from here on doesn't count: an fsync that the shutdown overtakes returns 0 though its
        # bytes are lost (a loop of write, fsync, count loses its last count in every tenth shutdown).
        before = said.stat().st_size
        box.cut_power()
        runner.kill()
        runner.wait()
        box.kill_survivors()
        box.umount()
        box.mount_image(box.path / "disk")
        text = said.read_text(errors="replace")
        if code not in (None, OK, IO):
            self.say(f"a run after a cut ended by itself: exit {code}: {text[-300:]}")
        self.look(box, said.read_bytes()[:before].decode(errors="replace"))
        return code == OK

    def without_fsync(self, box):
        """A run that syncs nothing, and is killed."""
        runner = box.start("-j2", "--min-free", "0", "--durability", "off", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            runner.wait(self.random.random() * LONGEST / 2)
        runner.kill()
        runner.wait()
        box.kill_survivors()

    def look(self, box, text):
        """What has to be true of the disk."""
        self.acked |= acknowledged(text)
        started = box.started(self.offset)
        self.offset = box.ledger.stat().st_size
        if not (box.db / "db").exists():
            if self.acked and self.is_safe:
                self.lost += 1
                self.say("the database is gone")
            return
        connection = open_copy(box.db)
        try:
            (sound,) = connection.execute("PRAGMA quick_check").fetchone()
            if sound != "ok":
                self.say(f"the database: {sound}")
            tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'step'").fetchone()[0]
            done = dict(connection.execute("SELECT id, key FROM step WHERE state = 1")) if tables else {}
            lost = self.acked - done.keys()
            if lost and self.is_safe:
                self.lost += 1
                self.say(f"steps {sorted(lost)} were said to be done and are not")
            if self.is_safe:
                safe = done.keys() if self.is_all_safe else self.acked & done.keys()
                again = self.committed & set(started)
                if again:
                    self.again += 1
                    self.say(f"committed steps were run again: {sorted(again)}")
                self.committed = {f"{done[step] & (1 << 64) - 1:016x}" for step in safe}
                bad = bad_objects(box.db, connection, None if self.is_all_safe else safe) if tables else []
                if bad:
                    self.bad += 1
                    self.say(f"rows with a bad object: {bad[:3]}")
        finally:
            connection.close()

    def run(self, cuts, until_found=False):
        while self.cuts < cuts and not (until_found and self.found):
            self.one_life(cuts)
            if self.found and not until_found:
                for what in self.found:
                    self.family.deviate(what)
                self.found = []
        return self


def main():
    family = Family("T6")
    systems = os.environ.get("T6_SYSTEMS", "ext4 xfs").split()
    for system in list(systems):
        lacking = missing("root", "mount", f"mkfs.{system}")
        if lacking:
            skip("T6", f"{system} needs {', '.join(lacking)}")
            systems.remove(system)
    if not systems:
        family.control("not run", True)
        family.done("not run")
    wants = [undisturbed(pipeline) for pipeline in PIPELINES]
    cuts, off = family.count("cuts", 12, 1000), family.count("off", 4, 150)
    mixed = family.count("mixed", 4, 150)
    most = family.count("control", 60, 200)
    disks = {}

    def both(system):
        for mode, count in (("batch", cuts), ("mixed", mixed), ("off", off)):
            disks[system, mode] = Disk(family, system, mode, wants).run(count)
        disks[system, "control"] = Disk(family, system, "batch", wants, "all").run(most, until_found=True)

    threads = [threading.Thread(target=both, args=(system,)) for system in systems]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parts, numbers = [], {}
    for system in systems:
        if (system, "control") not in disks:
            family.deviate(f"{system}: did not come to its end")
            continue
        batch, both_ways, loose, control = (disks[system, mode] for mode in ("batch", "mixed", "off", "control"))
        family.control(f"{system} without any sync", bool(control.found))
        parts.append(f"{batch.cuts} cuts of a run on {system} and {batch.late} after its end: {batch.lost} lost, {batch.bad} bad, {batch.again} run again; {both_ways.cuts} with runs without durability between: {both_ways.lost} lost, {both_ways.bad} bad; {loose.cuts} with durability off, all remade")
        numbers[system] = {"cuts": batch.cuts, "after_the_end": batch.late, "lives": batch.lives, "lost": batch.lost, "bad": batch.bad, "mixed": both_ways.cuts, "off": loose.cuts, "control_cuts": control.cuts}
        numbers[system]["control_found"] = control.found[:1]
    family.done("; ".join(parts), **numbers)


main()
