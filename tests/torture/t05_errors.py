#!/usr/bin/env python3
"""T5: system calls that fail. Every call that the program makes through libc is counted over all its
threads, and one of them, or from one on all of its kind, fails with EIO, ENOSPC, EMFILE, ENOMEM, EINTR,
EAGAIN or EACCES. Always: a documented exit code (never 70), no panic, a message with path and reason,
nothing bad in the store, nothing acknowledged that is not committed, and the next run completes to the
state of an undisturbed one. After a sync has failed nothing is acknowledged any more.

T5_ERRORS: how many; T5_SYNCS: of every so many syncs one fails; T5_KERNEL: how many by strace (mmap, clone3
and what else doesn't pass through libc).
"""

import collections
import concurrent.futures
import errno
import threading

from common import *
from faults import *

PIPELINE = n_steps()
# Scripts that notice when a call of their own fails.
COPIES = (
    task("a", MARK + 'cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME"', inputs=["in/*.txt"])
    + task("b", MARK + 'cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME.b"')
    + task("c", MARK + 'cp -r "$INPUT_DIR/." "$OUTPUT_DIR"', gather=True)
), 3
ARGS = ("-j1", "--min-free", "0")
ERRNOS = ("EIO", "ENOSPC", "EMFILE", "ENOMEM", "EINTR", "EAGAIN", "EACCES")
# These may be answered by trying again, for as long as it takes.
FOR_EVER = ("EINTR", "EAGAIN")
LIBRARY = compile_c("fail", "-shared", "-fPIC")
STRACED = ("openat", "openat2", "mmap", "clone3", "statx", "getdents64", "read", "write", "fsync", "fcntl", "flock", "ftruncate", "renameat2", "unlinkat", "mkdirat", "pwrite64")
KEY = threading.Lock()


class Calls:
    """What the log of fail.c says."""

    def __init__(self, path):
        self.all = []
        for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
            number, name, rest = (line.split(" ", 2) + [""])[:3]
            self.all.append((int(number), name, rest.startswith("! "), rest.removeprefix("! ")))

    def failed(self):
        return [(name, what) for _, name, failed, what in self.all if failed]

    def was_made_good(self):
        """Whether the failed sync of a folder was followed by one that succeeded, and that before anything
        was called done. SQLite doesn't heed the result of its own sync of the database's folder; and what
        fails there is the file system's journal, which then fails for good."""
        at = next(n for n, call in enumerate(self.all) if call[2])
        _, name, _, folder = self.all[at]
        for _, later, failed, what in self.all[at + 1:]:
            if later == "say" and ": done," in what:
                return False
            if (later, what) == (name, folder) and not failed:
                return True
        return False

    def said_after_failure(self):
        """Everything said after the first failure, line ends as `~`, and what of it was said after a commit
        that came later still. (What was committed before may be said a moment after.)"""
        at = next((n for n, call in enumerate(self.all) if call[2]), len(self.all))
        said, late, has_committed = "", "", False
        for _, name, failed, what in self.all[at:]:
            has_committed |= name == "fsync" and not failed and what.endswith("/db-wal")
            if name == "say":
                said += what
                late += what if has_committed else ""
        return said, late


def subject_run(box):
    return ARGS


def second_run(box):
    """One input is new, one changed, one gone: fault in the planning of a known database."""
    box.run(*ARGS)
    (box.path / "in" / "0.txt").write_text("another\n")
    return ARGS


def collect(box):
    """gc with something to remove."""
    box.run(*ARGS)
    before = (box.path / "in" / "0.txt").read_text()
    (box.path / "in" / "0.txt").write_text("another\n")
    box.run(*ARGS)
    (box.path / "in" / "0.txt").write_text(before)
    box.run(*ARGS)
    return ("gc", "--grace", "0s")


def mend(box):
    """repair with something to make again."""
    box.run(*ARGS)
    for path in sorted(p for p in (box.db / "objects").rglob("*") if p.is_file() and p.stat().st_size > 0)[::5]:
        path.unlink()
    return ("repair",)


SUBJECTS = {"run": subject_run, "change": second_run, "gc": collect, "repair": mend}


def base_of(subject):
    """Names of the counted calls of an undisturbed command, in order."""
    with Box(PIPELINE, "t05") as box:
        args = SUBJECTS[subject](box)
        log = box.path / "calls"
        code, text = box.run(*args, env={"LD_PRELOAD": LIBRARY, "FAIL_LOG": log})
        if code != OK:
            raise RuntimeError(f"{subject} fails undisturbed: exit {code}: {text}")
        names = {number: name for number, name, _, _ in Calls(log).all if number}
        return [names[number] for number in sorted(names)]


def check(family, box, what, code, text, subject, want, log=None):
    """All that has to hold after a fault."""
    def expect(holds, why):
        with KEY:
            family.expect(holds, f"{what}: {why}"[:700])

    expect(code in DOCUMENTED, f"exit {code}: {text[-300:]}")
    wrong = wrong_with_message(code, text)
    expect(not wrong, f"exit {code}, {wrong}: {text[-200:]}")
    # SQLite takes an EIO of a read for a damaged file.
    expect(code != DAMAGED or subject == "repair" or "malformed" in text, f"exit 65: {text[-400:]}")
    try:
        done = {step for (step,) in box.query("SELECT id FROM step WHERE state = 1")} if (box.db / "db").exists() else set()
    except sqlite3.OperationalError:
        done = set()
    lost = acknowledged(text) - done
    expect(not lost, f"steps {sorted(lost)} were said to be done and are not")
    if subject == "repair":
        again, text = box.run("repair")
        expect(again == OK, f"repair again: exit {again}: {text[-400:]}")
    else:
        read, text = box.run("verify", "--data")
        expect(read == OK or (read == USAGE and not done), f"verify: exit {read}: {text[-400:]}")
    if subject == "gc":
        again, text = box.run("gc", "--grace", "0s")
        expect(again == OK, f"gc again: exit {again}: {text[-400:]}")
    again, text = box.run(*ARGS)
    if again != OK:
        return expect(False, f"next run: exit {again}: {text[-400:]}")
    wrong = settled(want, box.canonical())
    expect(not wrong, f"another final state: {wrong[:2]}")
    wrong = box.verify()
    expect(not wrong, wrong)


def one_error(family, subject, number, name, code_name, sticky, wants):
    """One injected error; gives (function, error, exit code), or None if it never came to be."""
    what = f"{subject}, call {number} ({name}{', all from there' if sticky else ''}) {code_name}"
    with Box(PIPELINE, "t05") as box:
        args = SUBJECTS[subject](box)
        log = box.path / "calls"
        env = {"LD_PRELOAD": LIBRARY, "FAIL_LOG": log, "FAIL_AT": number, "FAIL_ERRNO": getattr(errno, code_name)}
        if sticky:
            env |= {"FAIL_ALL": 1, "FAIL_ON": name}
        code, text = box.run(*args, env=env, patience=40)
        calls = Calls(log)
        failed = calls.failed()
        if not failed:
            return None
        what += f" on {failed[0][0]} {failed[0][1].replace(str(box.path), '')}"
        before = len(family.deviations)
        check(family, box, what, code, text, subject, wants[subject])
        if failed[0][0] in ("fsync", "fdatasync", "syncfs"):
            after_sync(family, what, code, failed[0][1], calls)
        if len(family.deviations) > before:
            print(f"    kept: {box.path}", flush=True) if os.environ.get("TORTURE_KEEP") else None
        return failed[0][0], code_name, code


def after_sync(family, what, code, of, calls):
    """The first failing sync ends the run; only SQLite's own moving of its log into the database, which it
    repeats, may fail unnoticed, when all is said."""
    if of.endswith("/db") and not of.endswith("/db/db") and calls.was_made_good():
        return
    said, late = calls.said_after_failure()
    family.expect(": done," not in late, f"{what}: acknowledged after a failed sync: {late[:300]}")
    at_the_end = "total " not in said
    if "/objects" in of or not at_the_end:
        family.expect(code in (IO, NO_SPACE), f"{what}: exit {code} after a failed sync of {of}")


def choose(family, names, count):
    """`count` different (call, error, sticky), every function as often as its share allows, but each of
    them at least a few times."""
    by_name = collections.defaultdict(list)
    for number, name in enumerate(names, 1):
        by_name[name].append(number)
    chosen = []
    # SQLite takes whatever fcntl(2) fails with for a lock that another program holds, and that is waited for.
    everything = {name: [(n, e, s) for n in numbers for e in ERRNOS for s in (False, True) if not (s and (e in FOR_EVER or name.startswith("fcntl")))] for name, numbers in by_name.items()}
    for cases in everything.values():
        family.random.shuffle(cases)
    share = max(2, count // max(1, 2 * len(everything)))
    for name, cases in everything.items():
        chosen += [(name, *case) for case in cases[:share]]
        del cases[:share]
    rest = [(name, *case) for name, cases in everything.items() for case in cases]
    family.random.shuffle(rest)
    family.random.shuffle(chosen)
    return (chosen + rest)[:count]


def in_parallel(jobs):
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return [future.result() for future in [pool.submit(*job) for job in jobs]]


def by_strace(family, count, wants):
    """The kernel's side of the same, for what does not pass through libc, with strace. Its counts are per
    thread, and the scripts are traced too, so that a script may fail as well."""
    fired = collections.Counter()
    for _ in range(count):
        call, error, at = family.random.choice(STRACED), family.random.choice(ERRNOS), family.random.randint(1, 40)
        what = f"strace {call} {error} from {at}"
        with Box(COPIES, "t05") as box:
            trace = box.path / "trace"
            box.command = lambda *args: ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={at}", BIN, *map(str, args)]
            code, text = box.run(*ARGS, patience=120)
            del box.command
            if "(INJECTED)" not in trace.read_text(errors="replace"):
                continue
            if code == 127 and "error while loading shared libraries" in text:
                continue
            if "task-pipeline" not in text and "manifest" not in text and code in (1, 127, -6, -11):
                continue  # the loader or Rust's start-up, before there is any code of ours
            check(family, box, what, code, text, "run", wants["copies"])
            fired[code] += 1
    return fired


def controls(family, want):
    """A run that swallows a fault: faked by a state in which a step is not done and an object is gone."""
    with Box(PIPELINE, "t05") as box:
        box.run(*ARGS)
        quiet = Family.__new__(Family)
        quiet.name, quiet.deviations = "T5 control", []
        quiet.expect = lambda holds, why: holds or quiet.deviations.append(why)
        text = "step 99 x: done, 1 output, 1 ms\nthread panicked at src/x.rs\n"
        check(quiet, box, "control", 70, text, "run", want)
        family.control("exit 70, a panic, a step that is not done", len(quiet.deviations) >= 3)
    with Box(PIPELINE, "t05") as box:
        log = box.path / "calls"
        log.write_text("1 fsync ! /x/objects/ab/cd\n2 fsync /x/db-wal\n0 say step 1 a: done, 1 output~\n")
        quiet.deviations = []
        after_sync(quiet, "control", OK, "/x/objects/ab/cd", Calls(log))
        family.control("done after a failed sync", len(quiet.deviations) == 2)
    family.control("a message without path or reason", wrong_with_message(74, "task-pipeline: could not go on") != "")


def main():
    family = Family("T5")
    wants = {}
    for subject in SUBJECTS:
        with Box(PIPELINE, "t05") as box:
            box.run(*SUBJECTS[subject](box))
            box.run(*ARGS)
            wants[subject] = box.canonical()
    wants["copies"] = undisturbed(COPIES)
    controls(family, wants["run"])
    names = {subject: base_of(subject) for subject in SUBJECTS}
    total = family.count("errors", 60, 1100)
    jobs = []
    for subject, share in (("run", 0.6), ("change", 0.15), ("gc", 0.1), ("repair", 0.15)):
        for name, number, error, sticky in choose(family, names[subject], max(4, int(total * share))):
            jobs.append((one_error, family, subject, number, name, error, sticky, wants))
    every = family.count("syncs", 20, 2)
    syncs = [n for n, name in enumerate(names["run"], 1) if name in ("fsync", "syncfs")][::every]
    jobs += [(one_error, family, "run", n, "fsync", "EIO", False, wants) for n in syncs]
    results = [result for result in in_parallel(jobs) if result]
    strace = collections.Counter()
    if missing("strace"):
        skip("T5", "the part that needs strace")
    else:
        strace = by_strace(family, family.count("kernel", 4, 60), wants)
    codes = collections.Counter(code for _, _, code in results) + strace
    fired = len(results) + sum(strace.values())
    codes = collections.Counter({str(code): count for code, count in codes.items()})
    functions = collections.Counter(name for name, _, _ in results)
    line = f"{fired} errors injected into {len(functions)} functions ({sum(strace.values())} by strace): {len(family.deviations)} bad; exit codes {dict(sorted(codes.items()))}"
    family.done(line, errors=fired, by_strace=sum(strace.values()), functions=dict(functions), codes={str(k): v for k, v in sorted(codes.items())})


main()
