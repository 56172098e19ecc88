"""What the families T4 to T10 share: a database on a file system of its own (tmpfs, or ext4 and xfs on
a loop device), the final state that counts after a fault, and what a message has to say.
"""

import fcntl
import hashlib
import os
import pathlib
import re
import shutil
import sqlite3
import struct
import subprocess
import tempfile
import time

from common import BIN, DAMAGED, FAILED, INTERNAL, IO, LOCKED, NO_SPACE, OK, SKIPPED, USAGE, Box, compile_c, differences, launched, object_path, until

DOCUMENTED = {OK, FAILED, USAGE, DAMAGED, NO_SPACE, IO, LOCKED}  # 70 is a bug
ROOM = os.environ.get("TORTURE_DIR") or ("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())


def sh(*command, check=True):
    """Runs a tool of the system; gives its exit code and what it printed."""
    done = subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()}")
    return done.returncode, done.stdout + done.stderr


def missing(*tools):
    """Of these programs, those that are not here; `root` stands for being root."""
    return [tool for tool in tools if (os.geteuid() if tool == "root" else not shutil.which(tool))]


def skip(name, why):
    """Says aloud that a part is left out, and once more in the family's result."""
    SKIPPED.append(why)
    print(f"{name}: SKIPPED: {why}", flush=True)


def skip_sync(what):
    """The environment in which the syncs of `files`, `dirs` or `all` of the store report success and do nothing."""
    return {"LD_PRELOAD": compile_c("fail", "-shared", "-fPIC"), "FAIL_SKIP_SYNC": what} if what else {}


class MountBox(Box):
    """A box whose database lies in `mnt`, where a test mounts what it likes."""

    def __init__(self, pipeline=None, name="box"):
        os.environ.setdefault("TORTURE_DIR", ROOM)
        super().__init__(pipeline, name)
        self.mnt = self.path / "mnt"
        self.mnt.mkdir()
        self.db = self.mnt / "db"
        self.scratch = self.db / "scratch"

    def command(self, *args):
        return [BIN, *map(str, args), "-db", str(self.db), *launched(args)]

    def mount_tmpfs(self, **options):
        sh("mount", "-t", "tmpfs", "-o", ",".join(f"{name}={value}" for name, value in options.items()), "torture", self.mnt)

    def remount_tmpfs(self, **options):
        sh("mount", "-o", ",".join(["remount", *(f"{name}={value}" for name, value in options.items())]), self.mnt)

    def mount_image(self, image, *options):
        sh("mount", "-o", ",".join(["loop", *options]), image, self.mnt)

    def cut_power(self):
        """The file system is gone from now on, with all that it had not written: what `xfs_io -x -c shutdown`
        does. ext4 has taken over the number of the call."""
        fd = os.open(self.mnt, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, 0x8004587D, struct.pack("I", 2))  # GOINGDOWN, without flushing its journal
        finally:
            os.close(fd)

    def umount(self):
        """Unmounts, once the last process has let go of it."""
        def try_it():
            code, text = sh("umount", self.mnt, check=False)
            return code == 0 or "not mounted" in text
        until(try_it, f"umount {self.mnt}", 20)

    def remove(self):
        self.kill_survivors()
        sh("umount", "-l", self.mnt, check=False)
        super().remove()



def make_image(path, kind, mebibytes):
    """An empty file system in a sparse file."""
    with open(path, "wb") as file:
        file.truncate(mebibytes << 20)
    if kind == "ext4":
        sh("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", path)
    else:
        sh("mkfs.xfs", "-q", "-f", path)


def copy_sparse(source, target):
    sh("cp", "--sparse=always", source, target)


# ---- the final state ------------------------------------------------------------------------------


def settled(want, got):
    """Sentences that say what is missing or wrong at the end. Attempts that a fault made fail, with their
    logs, are history, not deviations; and a name that no row proves is harmless."""
    keep = [name for name in want if name not in ("attempt", "object", "objects")]
    found = differences({name: want[name] for name in keep}, {name: got[name] for name in keep})
    for name in ("object", "objects"):
        found += [f"{name}: missing {row}" for row in sorted(set(want[name]) - set(got[name]))]
    last, wanted = {}, {}
    for rows, into in ((got["attempt"], last), (want["attempt"], wanted)):
        for row in rows:
            step, number, *rest = eval(row, {})  # repr of a tuple of ours
            into[step] = max(into.get(step, (0, [])), (number, rest))
    for step, (_, rest) in wanted.items():
        if last.get(step, (0, None))[1] != rest:
            found.append(f"attempt: {step}: {last.get(step)} instead of {rest}")
    return found[:6]


def bad_objects(db_dir, connection=None, steps=None):
    """Rows whose object is missing or wrong, looked at without the program: [sentence]. With `steps`, only
    what these have made and printed."""
    own = connection is None
    connection = connection or open_copy(db_dir)
    bad = []
    try:
        rows = connection.execute("SELECT lower(hex(hash)), size FROM object").fetchall()
        if steps is not None:
            of_steps = "SELECT lower(hex(object)), step FROM output UNION SELECT lower(hex(log)), step FROM attempt WHERE log IS NOT NULL"
            theirs = {name for name, step in connection.execute(of_steps) if step in steps}
            rows = [(name, size) for name, size in rows if name in theirs] + [(name, 0) for name in theirs - {name for name, _ in rows}]
    finally:
        if own:
            connection.close()
    for name, size in rows:
        path = object_path(db_dir, name)
        try:
            data = path.read_bytes()
        except OSError as error:
            bad.append(f"{name}: {error.strerror}")
            continue
        if hashlib.sha256(data).hexdigest() != name:
            bad.append(f"{name}: {len(data)} bytes, {size} in its row, other content")
    return bad


def open_copy(db_dir):
    """The database, read from a copy of its files; nobody may be writing to it."""
    folder = tempfile.mkdtemp(prefix="torture-copy-", dir=ROOM)
    try:
        for name in ("db", "db-wal"):
            if os.path.exists(f"{db_dir}/{name}"):
                shutil.copyfile(f"{db_dir}/{name}", f"{folder}/{name}")
        source = sqlite3.connect(f"{folder}/db")
        copy = sqlite3.connect(":memory:")
        source.backup(copy)
        source.close()
        return copy
    finally:
        shutil.rmtree(folder)


DONE = re.compile(r"^(?:\[\d+/\d+\] )?step (\d+) .*: done, ", re.M)


def acknowledged(text):
    """Numbers of the steps that progress called done."""
    return {int(number) for number in DONE.findall(text)}


# ---- messages -------------------------------------------------------------------------------------

REASONS = (
    "No space left on device|Input/output error|Too many open files|Cannot allocate memory|Permission denied"
    "|Interrupted system call|Resource temporarily unavailable|Out of memory|out of memory|disk I/O error|unable to open"
    "|database or disk is full|database is locked|locking protocol|no space: |Structure needs cleaning"
    "|Read-only file system|Bad file descriptor|is in use|its journal is still of the kind"
    "|database disk image is malformed|attempt to write a readonly database|File exists"
)


# What the system may refuse and has no path.
WITHOUT_A_PATH = "could not (start a thread|start the signal thread|listen for signals|set up signals|handle signals|close inherited files|become the reaper of orphans|make a pipe|pass make's jobserver on): "


def complaint(text):
    """The last message of ours, or ""."""
    lines = [line for line in text.splitlines() if line.startswith("task-pipeline: ")]
    return lines[-1] if lines else ""


def wrong_with_message(code, text):
    """What a failed run's message lacks, or ""."""
    if "panicked" in text or "internal error" in text:
        return "a panic"
    if code == OK or (isinstance(code, int) and code < 0):
        return ""
    if code == FAILED:
        step = re.search(r"^\s+step \d+ .*: .* \(task-pipeline log \d+\)$", text, re.M)
        # An input that can't be read fails alone, before there is a step for it.
        unread = re.search(r"task `[^`]*`: .*`[^`]*` can't be read: ", text)
        return "" if step or unread else "no failed step or unread input is named"
    said = complaint(text) or next((line for line in text.splitlines() if ": not repaired: " in line and "`" in line), "")
    if code == DAMAGED and (": not repaired: " in said or re.search("^database: .*; restore it from a backup", text, re.M)):
        return ""
    if not said:
        return "no message"
    if not re.search(r"`[^`]*`", said) and not re.search(WITHOUT_A_PATH, said):
        return f"no path in the message: {said}"
    if not re.search(REASONS, said):
        return f"no reason in the message: {said}"
    return ""
