#!/usr/bin/env python3
"""T4: no space. The disk fills up at every size from nothing to enough, the inodes run out at every
number, an ext4 of a few MiB as well; a free-space floor stops a run before anything is full. Always: exit
73 with path and reason, readers work, nothing committed is bad, and after room is made the same
command completes to the state of an undisturbed run.

T4_SIZES and T4_INODES: how many sizes and numbers of inodes (0: every one), T4_LOOPS: sizes of ext4.
"""

import sys

from common import *
from faults import *

PIPELINE = n_steps()
# Outputs of up to 100 KB, so that scripts meet the full disk themselves.
LARGE = (
    task("make", MARK + 'for i in 1 2 3; do head -c $((i * 33000)) /dev/zero | tr "\\\\0" $i > "$OUTPUT_DIR/$i"; done', inputs=["in/*.txt"])
    + task("twice", MARK + 'cat "$INPUT_FILE" "$INPUT_FILE" > "$TMPDIR/x"\nmv "$TMPDIR/x" "$OUTPUT_DIR/$INPUT_NAME"')
    + task("all", MARK + 'cat "$INPUT_DIR"/* > "$OUTPUT_DIR/all"', gather=True)
), 2
ARGS = ("-j2", "--min-free", "0")
ENOUGH = {"size": "64m", "nr_inodes": 100000}


def run_out(family, box, what, want, make_room):
    """One run on a disk that is too small, and the next one after `make_room`. True if it was enough."""
    code, text = box.run(*ARGS)
    family.expect(code in (OK, NO_SPACE), f"{what}: exit {code} instead of 73: {text[-500:]}")
    wrong = wrong_with_message(code, text)
    family.expect(not wrong, f"{what}: {wrong}")
    if code == NO_SPACE:
        family.expect("make room" in complaint(text), f"{what}: no cure: {complaint(text)}")
    # Readers: an answer, or, as long as there are no tables, that there is nothing to read.
    has_tables = "registered" in text
    for command in (("status",), ("verify", "--data")):
        read, said = box.run(*command)
        fine = read == OK or (not has_tables and read in (USAGE, NO_SPACE) and complaint(said))
        family.expect(fine, f"{what}: {' '.join(command)}: exit {read}: {said[-300:]}")
    if has_tables:
        done = {step for (step,) in box.query("SELECT id FROM step WHERE state = 1")}
        lost = acknowledged(text) - done
        family.expect(not lost, f"{what}: steps {sorted(lost)} were said to be done and are not")
    make_room()
    again, text = box.run(*ARGS)
    if family.expect(again == OK, f"{what}: with room: exit {again}: {text[-500:]}"):
        wrong = settled(want, box.canonical())
        family.expect(not wrong, f"{what}: another final state: {wrong}")
        family.expect(not box.verify(), f"{what}: {box.verify()}")
    return code == OK


def spread(numbers, count):
    """`count` of them, evenly; all if it is 0."""
    numbers = list(numbers)
    if not count or count >= len(numbers):
        return numbers
    return sorted({numbers[n * (len(numbers) - 1) // max(1, count - 1)] for n in range(count)})


def tmpfs_sweep(family, pipeline, what, sizes, want):
    """Every size in turn; gives how many were tried and how many were too small."""
    too_small = 0
    for size in sizes:
        with MountBox(pipeline, "t04") as box:
            box.mount_tmpfs(**{**ENOUGH, what: size})
            was_enough = run_out(family, box, f"{what}={size}", want, lambda: box.remount_tmpfs(**ENOUGH))
            too_small += not was_enough
    return len(sizes), too_small


def used(pipeline):
    """KiB and inodes that a tmpfs needs for the whole of it: the smallest that is enough, by halving."""
    found = {}
    for what, unit in (("size", 16), ("nr_inodes", 4)):
        low, high = 0, 4096 // unit * 4
        while high - low > 1:
            middle = (low + high) // 2
            with MountBox(pipeline, "t04") as box:
                value = f"{middle * unit}k" if what == "size" else middle * unit
                box.mount_tmpfs(**{**ENOUGH, what: value})
                low, high = (low, middle) if box.run(*ARGS)[0] == OK else (middle, high)
        found[what] = high * unit
    return found["size"], found["nr_inodes"]


def loops(family, want, count):
    """A small ext4: space is promised before it is there (delayed allocation), and root has a reserve."""
    tried = too_small = 0
    for kib in spread(range(800, 4800, 100), count):
        with MountBox(LARGE, "t04") as box:
            image = box.path / "disk"
            with open(image, "wb") as file:
                file.truncate(kib << 10)
            sh("mkfs.ext4", "-q", "-F", "-b", "1024", "-O", "^has_journal" if kib < 2048 else "has_journal", "-N", "512", image)
            box.mount_image(image)

            def make_room():
                box.umount()
                with open(image, "r+b") as file:
                    file.truncate(64 << 20)
                sh("e2fsck", "-f", "-y", image, check=False)
                sh("resize2fs", image)
                box.mount_image(image)

            too_small += not run_out(family, box, f"ext4 of {kib} KiB", want, make_room)
            tried += 1
    return tried, too_small


def floor(family):
    """The default floor: the run stops before anything is full, and says how much has to stay free."""
    pipeline = task("fill", MARK + 'head -c 8000000 /dev/zero | tr "\\\\0" $INPUT_NAME > "$OUTPUT_DIR/x"', inputs=["in/*.txt"]), 9
    with MountBox(pipeline, "t04") as box:
        box.mount_tmpfs(size="112m")
        code, text = box.run("-j2")
        family.expect(code == NO_SPACE, f"floor: exit {code}: {text[-400:]}")
        said = complaint(text)
        family.expect("64.0 MiB have to stay free" in said and str(box.db) in said, f"floor: {said}")
        free = os.statvfs(box.mnt).f_bavail * os.statvfs(box.mnt).f_frsize
        family.expect(free > 32 << 20, f"floor: only {free} bytes were left")
        done = box.query("SELECT count(*) FROM step WHERE state = 1")[0][0]
        family.expect(0 < done < 9, f"floor: {done} of 9 steps are done")
        family.expect(box.run("status")[0] == OK and not box.verify(), "floor: readers fail")
        box.remount_tmpfs(size="300m")
        code, text = box.run("-j2")
        family.expect(code == OK, f"floor: with room: exit {code}: {text[-400:]}")
        family.expect(len(box.started()) == 9, f"floor: {len(box.started())} starts of 9 steps")


def controls(family, want):
    """Spoilt on purpose: a committed object that the full disk has cut short, and a step undone."""
    with MountBox(PIPELINE, "t04") as box:
        box.mount_tmpfs(**ENOUGH)
        box.run(*ARGS)
        path = next(p for p in (box.db / "objects").rglob("*") if p.is_file() and p.stat().st_size > 0 and p.name != "lock")
        path.chmod(0o644)
        path.write_bytes(b"")
        family.control("an object without bytes", bool(box.verify()) and bool(settled(want, box.canonical())))
    with MountBox(PIPELINE, "t04") as box:
        box.mount_tmpfs(size="400k", nr_inodes=10000)
        code, _ = box.run(*ARGS)
        family.control("a run that is not completed", code == NO_SPACE and bool(settled(want, box.canonical())))


def main():
    family = Family("T4")
    lacking = missing("root", "mount", "mkfs.ext4", "resize2fs")
    if lacking:
        skip("T4", f"needs {', '.join(lacking)}")
        family.control("not run", True)
        family.done("not run")
    want, want_large = undisturbed(PIPELINE), undisturbed(LARGE)
    controls(family, want)
    floor(family)
    sizes, inodes = used(PIPELINE)
    large, _ = used(LARGE)
    count = family.count("sizes", 12, 0)
    figures = {}
    figures["sizes"] = tmpfs_sweep(family, PIPELINE, "size", [f"{n}k" for n in spread(range(16, sizes + 33, 16), count)], want)
    figures["large"] = tmpfs_sweep(family, LARGE, "size", [f"{n}k" for n in spread(range(16, large + 33, 16), count)], want_large)
    numbers = spread(range(2, inodes + 6), family.count("inodes", 8, 0))
    figures["inodes"] = tmpfs_sweep(family, PIPELINE, "nr_inodes", numbers, want)
    figures["ext4"] = loops(family, want_large, family.count("loops", 3, 40))
    tried = sum(n for n, _ in figures.values())
    short = sum(n for _, n in figures.values())
    parts = ", ".join(f"{n} {name}" for name, (n, _) in figures.items())
    line = f"{tried} disks ({parts}), {short} of them too small: {len(family.deviations)} bad"
    family.done(line, **{name: {"tried": a, "too_small": b} for name, (a, b) in figures.items()})


main()
