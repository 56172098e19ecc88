#!/usr/bin/env python3
"""T14: standard output and standard error that are closed, full (/dev/full) or broken pipes, in every
combination, for every command; and a limit on the size of files. A run completes with its own exit
code whoever listens; an answer that can't be written ends with 73 or 74, one that nobody reads any
more with 0; under a limit it ends as documented and the next run completes. Nowhere a panic.

T14_COMMANDS: how many of the (command, stdout, stderr) triples. T14_LIMITS: how many limits.
"""

import itertools
import os
import resource
import signal
import subprocess

from common import *

SINKS = ["ok", "closed", "full", "broken"]
FAILING = task("a", MARK + 'echo result > "$OUTPUT_DIR/x"\n') + task("b", MARK + "echo why >&2; exit 3\n")
COMMANDS = {
    # name: (arguments, exit code); those that run something get a fresh folder
    "run": (["-j2"], OK),
    "run -v": (["-v"], OK),
    "run -q": (["-q"], OK),
    "run of a failing pipeline": (["-k"], FAILED),
    "run, nothing to do": ([], OK),
    "plan": (["plan"], OK),
    "plan --json": (["plan", "--json"], OK),
    "status": (["status"], OK),
    "status --json": (["status", "--json"], OK),
    "log": (["log", "split/0.txt"], OK),
    "log --json": (["log", "split/0.txt", "--json"], OK),
    "log --failed": (["log", "--failed"], OK),
    "cat": (["cat", "work"], OK),
    "export": (["export", "work", "--to", "to"], OK),
    "export --json": (["export", "work", "--to", "to", "--json"], OK),
    "verify": (["verify", "--data"], OK),
    "verify --json": (["verify", "--json"], OK),
    "repair": (["repair"], OK),
    "gc": (["gc"], OK),
    "gc --json": (["gc", "--json", "-n"], OK),
    "help": (["--help"], OK),
    "help of run": (["run", "--help"], OK),
    "version": (["--version"], OK),
    "misuse": (["--nonsense"], USAGE),
    "no such task": (["cat", "nonsense"], USAGE),
}
FRESH = {"run", "run -v", "run -q", "run of a failing pipeline"}


def call(arguments, box, out, err, sigpipe=signal.SIG_IGN, program=None):
    """Runs a command with these sinks; gives (exit code or minus the signal, what could be read)."""
    ends, read, closed = {}, {}, []
    for name, kind in (("stdout", out), ("stderr", err)):
        if kind == "full":
            ends[name] = os.open("/dev/full", os.O_WRONLY)
        elif kind == "broken":
            reader, ends[name] = os.pipe()
            os.close(reader)
        else:
            read[name] = open(box.path / name, "w+b")
            ends[name] = os.dup(read[name].fileno())
            if kind == "closed":
                closed.append({"stdout": 1, "stderr": 2}[name])

    def prepare():
        for fd in closed:
            os.close(fd)
        signal.signal(signal.SIGPIPE, sigpipe)

    process = subprocess.Popen(
        [*(program or [BIN]), *arguments], cwd=box.path, env=box.environment(), stdin=subprocess.DEVNULL,
        preexec_fn=prepare, restore_signals=False, start_new_session=True, **ends,
    )
    for fd in ends.values():
        os.close(fd)
    try:
        code = process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        code = "hangs"
    texts = {}
    for name, file in read.items():
        file.seek(0)
        texts[name] = file.read().decode(errors="replace")
        file.close()
    return code, texts


def judge(name, out, err, got, texts, answers, code):
    """What is wrong with how a command ended. `answers`: it writes to standard output when it can."""
    faults = []
    wanted = {NO_SPACE, IO} if out == "full" and answers else {code}
    if got not in wanted:
        faults.append(f"exit {got} and not {' or '.join(map(str, sorted(wanted)))}")
    text = "".join(texts.values())
    if "panicked" in text or "internal error" in text:
        faults.append("panicked")
    if out == "full" and answers and err == "ok" and "standard output" not in texts["stderr"]:
        faults.append("doesn't say that it could not write")
    return [f"{fault} [{name}; stdout {out}, stderr {err}]: {text}" for fault in faults]


def sinks(family, want):
    triples = list(itertools.product(COMMANDS, SINKS, SINKS))
    family.random.shuffle(triples)
    triples = triples[: family.count("commands", 70, len(triples))]
    clean = 0
    with Box(name="t14") as kept:
        kept.run()
        answers = {}
        for name, (arguments, code) in COMMANDS.items():
            if name not in FRESH:
                got, texts = call(arguments, kept, "ok", "ok")
                answers[name] = bool(texts["stdout"])
                for fault in judge(name, "ok", "ok", got, texts, answers[name], code):
                    family.deviate(fault)
        for name, out, err in triples:
            arguments, code = COMMANDS[name]
            sigpipe = family.random.choice([signal.SIG_IGN, signal.SIG_DFL])
            faults = []
            if name in FRESH:
                with Box((FAILING, 0) if "failing" in name else None, "t14") as box:
                    got, texts = call(arguments, box, out, err, sigpipe)
                    if code == OK:
                        faults += [f"{fault} [{name}; stdout {out}, stderr {err}]" for fault in final_faults(box, want)]
            else:
                got, texts = call(arguments, kept, out, err, sigpipe)
            faults += judge(name, out, err, got, texts, answers.get(name, False), code)
            clean += not faults
            for fault in faults:
                family.deviate(fault)
        for fault in final_faults(kept, want):
            family.deviate(fault)
    return len(triples), clean


def pipelines(family, want):
    """As people write it: `| head -1`, `2>&1 | head -1`, `>&-`."""
    lines = [
        (f"set -o pipefail; {BIN} 2>&1 | head -n 1 >/dev/null", OK),
        (f"set -o pipefail; {BIN} -v 2>&1 | true", OK),
        (f"{BIN} >&- 2>&-", OK),
        (f"{BIN} <&- >&- 2>&-", OK),
        (f"{BIN} 2>/dev/full >/dev/full", OK),
        (f"set -o pipefail; {BIN} -q && {BIN} cat work | head -c 1 >/dev/null", OK),
        (f"set -o pipefail; {BIN} -q && {BIN} status --json | true", OK),
    ]
    for line, code in lines:
        with Box(name="t14") as box:
            done = subprocess.run(["bash", "-c", line], cwd=box.path, env=box.environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, text=True)
            if done.returncode != code or "panick" in done.stderr:
                family.deviate(f"exit {done.returncode} [{line}]: {done.stderr}")
            for fault in final_faults(box, want):
                family.deviate(f"{fault} [{line}]")
    return len(lines)


def limited(box, limit, arguments=("-j2",), program=None):
    def prepare():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    # Output into a pipe, which has no size.
    process = subprocess.Popen([*(program or [BIN]), *arguments], cwd=box.path, env=box.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=prepare, start_new_session=True)
    text = process.communicate(timeout=PATIENCE)[0].decode(errors="replace")
    return process.returncode, text


def judge_limit(limit, code, text):
    faults = []
    # FAILED: a script of the pipeline died of it. The others: it was our own file.
    if code not in (OK, FAILED, IO, NO_SPACE):
        faults.append(f"exit {code}")
    if code in (IO, NO_SPACE) and "could not" not in text and "no space" not in text:
        faults.append("doesn't say what it could not do")
    if "panicked" in text or "internal error" in text:
        faults.append("panicked")
    return [f"{fault} [files of at most {limit} bytes]: {text}" for fault in faults]


def limits(family, pipeline, want):
    every = [0, 1, 10, 100, 1000, 4095, 4096, 4097, 8192] + [n * 4096 for n in range(3, 64, 4)] + [n << 10 for n in (300, 400, 512, 700, 900, 1024, 1200, 2048)]
    family.random.shuffle(every)
    every = every[: family.count("limits", 6, len(every))]
    codes = {}
    for limit in sorted(every):
        with Box(pipeline, "t14") as box:
            code, text = limited(box, limit)
            codes[code] = codes.get(code, 0) + 1
            faults = judge_limit(limit, code, text)
            if (box.db / "db").exists() and box.done_steps():
                for arguments in (["status"], ["verify"]):
                    got, said = limited(box, limit, arguments)
                    if got not in (OK, IO, NO_SPACE) or "panic" in said:
                        faults.append(f"{arguments[0]}: exit {got}: {said}")
            box.run()
            if code == OK:
                faults += final_faults(box, want)
            else:
                # Attempts that failed under the limit stay on record, and what could not be committed any
                # more is a file without a row, which gc removes.
                past = ("attempt", "object", "objects")
                faults += differences(*({**state, **dict.fromkeys(past, [])} for state in (want, box.canonical())))
                if wrong := box.verify():
                    faults.append(wrong)
                missing = set(want["objects"]) - set(map(repr, box.objects()))
                if missing:
                    faults.append(f"objects are missing: {missing}")
                code, text = box.run()
                if "nothing to do" not in text:
                    faults.append(f"a further run finds something to do: exit {code}: {text}")
            for fault in faults:
                family.deviate(f"{fault} [files of at most {limit} bytes, exit {code}]")
    return len(every), codes


def controls(family):
    with Box(name="t14") as box:
        careless = ["python3", "-c", "import sys; print('x' * 100000); sys.stdout.flush()"]
        got, texts = call([], box, "full", "ok", program=careless)
        family.control("a program that dies of a full disk", judge("careless", "full", "ok", got, texts, True, OK))
        got, texts = call([], box, "broken", "ok", signal.SIG_DFL, ["sh", "-c", "yes"])
        family.control("a program that dies of SIGPIPE", judge("careless", "broken", "ok", got, texts, True, OK))
        got, texts = call([], box, "ok", "ok", program=["sh", "-c", "echo \"thread 'main' panicked\" >&2"])
        family.control("a program that panics", judge("careless", "ok", "ok", got, texts, True, OK))
        code, text = limited(box, 1000, [], ["sh", "-c", "exec head -c 5000 /dev/zero > zeros"])
        family.control("a program that dies of SIGXFSZ", judge_limit(1000, code, text))


def main():
    family = Family("T14")
    want = undisturbed(n_steps())
    big = n_steps(1, 2, big=True)
    want_big = undisturbed(big)
    triples, clean = sinks(family, want)
    lines = pipelines(family, want)
    tried, codes = limits(family, big, want_big)
    controls(family)
    family.done(
        f"{triples} commands with broken outputs, {clean} clean; {lines} shell lines; {tried} limits of file size (exit codes {dict(sorted(codes.items()))})",
        commands=triples, clean=clean, lines=lines, limits=tried, codes={str(code): n for code, n in codes.items()},
    )


main()
