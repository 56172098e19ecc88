#!/usr/bin/env python3
"""T15: under make and at a terminal.

`make`, `make -j4`, `make -j4 -O`, recipes with and without `+`, `2>&1 | tee`: the pipelines complete, nobody warns
about a jobserver (a script that calls make included, with and without `jobserver = true`), no token is lost (make would
say INTERNAL), every line is whole. ^C, ^C twice,
TERM, HUP and a terminal that goes away: make sees the runner die of the signal, dies of it itself (130 for
a shell), nothing survives, and the next `make` completes. A script that reads the terminal gets an error.

T15_ROUNDS: how often; T15_MAKES, T15_INTERRUPTS: how many of the cases in a round.
"""

import contextlib
import errno
import fcntl
import os
import pty
import select
import signal
import subprocess
import threading
import time

from common import *

GATE = "until test -e go; do sleep 0.01; done"
SUB = "all: x y\nx y:\n\t@echo making $@\n"

# Every line that a run, make or a script of ours may print.
LINE = re.compile(
    r"manifest \S+: \d+ tasks?|database \S+|registered [\w, ]+"
    r"|(to run: \d+ steps? so far|nothing to run); \d+ up to date"
    r"|\[\d+/\d+\] step \d+ \w+( \([\w./]+\))?: done, \d+ outputs?, [\d.]+ (ms|s)"
    r"|\[\d+/\d+\] step \d+ \w+( \([\w./]+\))?: done, same work as step \d+"
    r"|total \d+ steps?: \d+ done( \(\d+ reused\))?, \d+ failed, \d+ left; \d+ attempts?[\w, ]*; \d+ outputs?; [\d.]+ (ms|s)"
    r"|nothing to do: \d+ steps? up to date \([\d.]+ (ms|s)\)"
    r"|make(\[\d+\])?: (Entering|Leaving) directory '[^']+'"
    r"|cd \S+ && \S+/task-pipeline [-\w ]*"
)


class Tree:
    """Pipelines a, b and c and a Makefile that makes them."""

    def __init__(self, plus="", gate=False, args="-j2"):
        pipeline, files = n_steps(1, 3)
        # Whether a jobserver that is not theirs reaches the scripts: make would warn.
        script = MARK + 'test -z "${MAKEFLAGS-}${MFLAGS-}${MAKELEVEL-}"\nmake -f sub.mk && make -j2 -f sub.mk\n' + 'echo made > "$OUTPUT_DIR/made"\n'
        pipeline += task("sub", script)
        # One that shares the tokens, be they make's or the run's.
        script = MARK + 'test -n "$MAKEFLAGS"\nmake -f sub.mk && make -f sub.mk\n' + 'echo made > "$OUTPUT_DIR/made"\n'
        pipeline += task("shared", script, jobserver=True)
        if gate:
            pipeline += task("wait", MARK + f": > started\n{GATE}\n")
        self.boxes = [Box((pipeline, files), f"t15-{name}") for name in "abc"]
        self.path = self.boxes[0].path
        for box in self.boxes:
            (box.path / "sub.mk").write_text(SUB)
        rules = "".join(f"{name}:\n\t{plus}cd {box.path} && {BIN} {args}\n" for name, box in zip("abc", self.boxes))
        (self.path / "Makefile").write_text(f"all: a b c\n{rules}.PHONY: all a b c\n")

    def __enter__(self):
        return self

    def __exit__(self, *trouble):
        for box in self.boxes:
            box.__exit__(*trouble)

    def environment(self):
        return self.boxes[0].environment()

    def logs(self):
        return "".join(box.run("log", name)[1] for box in self.boxes for name in ("sub", "shared"))

    def faults(self, text, whole=True):
        """What is wrong with the output of a make that came to its end."""
        found = []
        for word in ("warning", "jobserver", "INTERNAL", "panicked", "internal error"):
            for line in (text + self.logs()).splitlines():
                if word in line:
                    found.append(f"says {word}: {line}")
        if whole:
            if text and not text.endswith("\n"):
                found.append(f"the last line is torn: {text[-80:]!r}")
            found += [f"a torn line: {line!r}" for line in text.splitlines() if not LINE.fullmatch(line)]
        for box in self.boxes:
            if survivors := box.survivors():
                found.append(f"survivors: {survivors}")
            if box.leftovers():
                found.append(f"left in scratch: {box.leftovers()}")
        return found


def makes(family):
    """make in its moods; gives how many were clean."""
    clean, lines = 0, [
        ("", "make"),
        ("", "make -j4"),
        ("", "make -j4 -O"),
        ("", "make -j4 -Oline"),
        ("+", "make"),
        ("+", "make -j4"),
        ("+", "make -j4 -O"),
        ("+", "make -w -j4"),
        ("", "make 2>&1 | tee tee.out"),
        ("+", "make -j4 2>&1 | tee tee.out"),
        ("", "MAKEFLAGS=-j3 make"),
        ("", "make -j4 a b c --no-print-directory"),
    ]
    lines = family.random.sample(lines, min(len(lines), family.count("makes", 6, len(lines))))
    for plus, line in lines:
        # With a `+` the tokens are the limit, with and without one of its own.
        with Tree(plus, args=family.random.choice(["-j2", "-j5", ""]) if plus else "-j2") as tree:
            faults = []
            for again in (False, True):
                done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], cwd=tree.path, env=tree.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
                if done.returncode != 0:
                    faults.append(f"exit {done.returncode}: {done.stdout}")
                if done.stdout.count("nothing to do") != (3 if again else 0):
                    faults.append(f"{'the second' if again else 'the first'} make: {done.stdout}")
                faults += tree.faults(done.stdout)
            clean += not faults
            for fault in faults:
                family.deviate(f"{fault} [{plus}{line}; {tree.path}]")
    return clean, len(lines)


# ---- at a terminal --------------------------------------------------------------------------------


class Terminal:
    """A command with a terminal of its own. All it prints is read as it comes."""

    def __init__(self, command, cwd, env):
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                os.chdir(cwd)
                os.execve("/bin/bash", ["bash", "-c", command], {**env, "TERM": "xterm"})
            os._exit(127)
        self.printed, self.status, self.is_open = b"", None, True
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        while self.is_open:
            ready, _, _ = select.select([self.master], [], [], 0.05)
            if not ready:
                continue
            try:
                data = os.read(self.master, 65536)
            except OSError as error:
                if error.errno == errno.EIO:  # nobody has the terminal open any more
                    return
                raise
            if not data:
                return
            self.printed += data

    def type(self, keys):
        os.write(self.master, keys)

    def hang_up(self):
        self.is_open = False
        self.reader.join()
        os.close(self.master)

    def ended(self):
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def wait(self):
        until(self.ended, "the command at the terminal")
        if self.is_open:
            self.reader.join()
            os.close(self.master)
        return self.status, self.printed.decode(errors="replace").replace("\r\n", "\n")


def at_terminal(family, command, act, want, tree, sabotage=None):
    """Starts a command at a terminal, acts on it when a script waits, and gives what was wrong."""
    faults = []
    terminal = Terminal(command, tree.path, tree.environment())
    try:
        until(lambda: any((box.path / "started").exists() for box in tree.boxes) or terminal.ended(), "a script that waits")
        act(terminal, tree)
        status, text = terminal.wait()
        # A shell doesn't wait for what it leaves to the kernel to hang up on.
        until(lambda: all(map(idle, tree.boxes)), "the end of the runners", 20)
        if sabotage:
            sabotage(tree)
        if status != want:
            faults.append(f"exit {status} and not {want}: {text}")
        faults += tree.faults(text, whole=False)
    except (RuntimeError, OSError) as error:
        faults.append(f"{error}: {terminal.printed.decode(errors='replace')}")
        with contextlib.suppress(OSError):
            os.killpg(terminal.pid, signal.SIGKILL)
        terminal.is_open = False
    # And it goes on where it was.
    for box in tree.boxes:
        (box.path / "go").touch()
    done = subprocess.run(["make", "-j2"], cwd=tree.path, env=tree.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        faults.append(f"the next make: exit {done.returncode}: {done.stdout}{done.stderr}")
    faults += tree.faults("")
    return [f"{fault} [{command}; {act.__name__}; {tree.path}]" for fault in faults]


def interrupt(terminal, tree):
    terminal.type(b"\x03")


def interrupt_twice(terminal, tree):
    terminal.type(b"\x03")
    until(lambda: b"SIGINT" in terminal.printed or terminal.ended(), "the first one's news")
    terminal.type(b"\x03")


def go_away(terminal, tree):
    terminal.hang_up()


def idle(box):
    """Whether no runner holds the database."""
    try:
        with open(box.db / "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False


def children(pid):
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, IndexError):
            if int(open(f"/proc/{entry}/stat").read().rpartition(")")[2].split()[1]) == pid:
                found.append(int(entry))
    return found


def terminate_make(terminal, tree):
    """TERM to make alone, which passes it on."""
    shells = [terminal.pid, *children(terminal.pid)]
    for pid in shells:
        with contextlib.suppress(OSError):
            if open(f"/proc/{pid}/comm").read().strip() == "make":
                os.kill(pid, signal.SIGTERM)
                return
    raise RuntimeError("no make")


def interrupts(family):
    # With a trap the shell lives on and tells what it saw; without one it dies of the signal as well.
    cases = [
        ("trap : INT; make; exit $?", interrupt, 130),
        ("trap : INT; make -j4; exit $?", interrupt, 130),
        ("trap : INT; make -j4 -O; exit $?", interrupt, 130),
        ("make", interrupt, -signal.SIGINT),
        ("trap : INT; make; exit $?", interrupt_twice, 130),
        (f"trap : INT; {BIN}; exit $?", interrupt, 130),
        (f"trap : INT; {BIN} -q; exit $?", interrupt, 130),
        (f"exec {BIN} -v", interrupt, -signal.SIGINT),
        (f"exec {BIN}", interrupt_twice, -signal.SIGINT),
        (f"exec {BIN}", go_away, -signal.SIGHUP),
        ("make -j4; exit $?", go_away, -signal.SIGHUP),
        ("make -j4; exit $?", terminate_make, 143),
        ("set -o pipefail; trap : INT; make 2>&1 | (trap '' INT; tee tee.out); exit $?", interrupt, 130),
    ]
    clean = 0
    cases = family.random.sample(cases, min(len(cases), family.count("interrupts", 6, len(cases))))
    for n, (command, act, want) in enumerate(cases):
        with Tree("+" if n % 2 else "", gate=True, args="" if n % 4 == 1 else "-j2") as tree:
            faults = at_terminal(family, command, act, want, tree)
            clean += not faults
            for fault in faults:
                family.deviate(fault)
    return clean, len(cases)


def reads_terminal(family):
    """`read </dev/tty` in a script: an error, not a stop for ever."""
    script = MARK + ": > started\nif read line </dev/tty; then echo read; else echo none; fi\necho prompt >/dev/tty || true\n"
    with Box((task("a", script), 0), "t15") as box:
        terminal = Terminal(f"exec {BIN}", box.path, box.environment())
        try:
            status, text = terminal.wait()
        except RuntimeError as error:
            os.kill(terminal.pid, signal.SIGKILL)
            terminal.is_open = False
            family.deviate(f"a script that reads the terminal: {error}")
            return
        _, log = box.run("log", "a")
        if status != OK or "none" not in log:
            family.deviate(f"a script that reads the terminal: exit {status}, log {log!r}: {text}")


def controls(family):
    # A jobserver that reaches a script: make warns, and we see it.
    with Tree() as tree:
        script = (tree.path / "pipeline.toml").read_text().replace("make -f sub.mk", "MAKEFLAGS=' -j --jobserver-auth=3,4' make -f sub.mk").replace('test -z', 'test -n x -o -z')
        (tree.path / "pipeline.toml").write_text(script)
        subprocess.run(["make", "a"], cwd=tree.path, env=tree.environment(), stdin=subprocess.DEVNULL, capture_output=True)
        family.control("a jobserver that is handed to a script", any("jobserver" in fault for fault in tree.faults("")))
    with Tree() as tree:
        family.control("torn lines", len(tree.faults("[1/2] step 1 split: done, 1 ou[2/2] step 2 work: done, 1 output, 3 ms\ntput, 3 ms\ntotal 2 st")) >= 3)
    with Tree(gate=True) as tree:
        # Somebody who ignores INT.
        deaf = tree.path / "deaf"
        deaf.write_text("#!/bin/sh\ntrap '' INT\n: > started\nuntil test -e go-deaf; do sleep 0.01; done\nexit 0\n")
        deaf.chmod(0o755)

        def shrug(terminal, tree):
            terminal.type(b"\x03")
            (tree.path / "go-deaf").touch()

        faults = at_terminal(family, "exec ./deaf", shrug, -signal.SIGINT, tree)
        family.control("a program that ^C doesn't end", any("exit 0 and not -2" in fault for fault in faults))
    with Tree(gate=True) as tree:
        left = []

        def outsider(tree):
            left.append(subprocess.Popen(["sleep", "1000"], env={"OUTPUT_DIR": f"{tree.boxes[0].scratch}/x"}))

        faults = at_terminal(family, f"exec {BIN}", interrupt, -signal.SIGINT, tree, outsider)
        for process in left:
            process.kill()
            process.wait()
        family.control("a process that survives ^C", any("survivors" in fault for fault in faults))


def main():
    family = Family("T15")
    rounds = family.count("rounds", 1, 10)
    made = interrupted = clean = 0
    for _ in range(rounds):
        fine, n = makes(family)
        clean, made = clean + fine, made + n
        fine, n = interrupts(family)
        clean, interrupted = clean + fine, interrupted + n
        reads_terminal(family)
    controls(family)
    family.done(f"{made} makes and {interrupted} interrupts at a terminal, {clean} clean", makes=made, interrupts=interrupted, clean=clean)


main()
