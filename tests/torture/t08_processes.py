#!/usr/bin/env python3
"""T8: whatever a step leaves behind, however the step or the runner ends: when the runner has ended (after a
kill -9: when the next one has), nothing of it is alive, the exit code and the recorded outcome are right,
and the next run completes. And what a script finds: descriptors 0, 1, 2 only, its own process group,
no signal blocked, none ignored but SIGTTIN and SIGTTOU (by design) and what the runner's parent ignored; TMPDIR and
OUTPUT_DIR empty, whatever the step before has left there and however it ended.

T8_CASES: how many of the cases (shape x ending); every shape and every ending is among them.
"""

import concurrent.futures
import itertools
import os
import re
import signal
import subprocess
import threading
import time

from common import *

# What a script leaves running. @N@ is a number that no other process has in its command line.
SHAPES = {
    "nothing": ":",
    "group": "sleep @N@ &",
    "log held open": "sleep @N@ 3>&1 & sleep @N@ >/dev/null 2>&1 </dev/null &",
    "own group": "bash -mc 'sleep @N@ &'",
    "session": "setsid sleep @N@ &",
    "setsid escapee": "setsid -f sleep @N@ || true",
    "double fork": "(sh -c 'sleep @N@ >/dev/null 2>&1 </dev/null &' &)",
    "stopped": "sh -c 'kill -STOP $$; sleep @N@' &",
    "stopped session": "setsid sh -c 'kill -STOP $$; sleep @N@' &",
    "deaf to TERM": "sh -c 'trap \"\" TERM HUP INT; sleep @N@; sleep @N@' &",
    "deaf session": "setsid -f sh -c 'trap \"\" TERM HUP INT; sleep @N@; sleep @N@'",
    "starts another on TERM": "sh -c 'trap \"setsid -f sleep @N@; exit\" TERM; sleep @N@ & wait' &",
    "nohup": "nohup sleep @N@ >/dev/null 2>&1 &",
    "tree": "sh -c 'sh -c \"sleep @N@ & setsid sleep @N@ & wait\" & wait' &",
    "bomb of 200": "i=0; while [ $i -lt 50 ]; do sleep @N@ & setsid sleep @N@ & setsid -f sleep @N@ || true; (sleep @N@ &); i=$((i+1)); done",
    "script deaf": "trap '' TERM HUP INT",
    "script stopped": ": > started; kill -STOP $$",
}
DEAF = {"deaf to TERM", "deaf session", "script deaf"}

# How it ends: what the script does after its shape, the exit code, the recorded outcome.
ENDINGS = {
    "exits": ("", OK, "ok"),
    "fails": ("exit 3", FAILED, "exit"),
    "crashes": ("kill -9 $$", FAILED, "signal"),
    "times out": ("wait", FAILED, "timeout"),
    "INT": ("wait", -signal.SIGINT, None),
    "TERM": ("wait", -signal.SIGTERM, None),
    "HUP": ("wait", -signal.SIGHUP, None),
    "INT INT": ("wait", -signal.SIGINT, None),
    "INT in a time limit's grace": ("deaf wait", -signal.SIGINT, "timeout"),
    "KILL": ("wait", -signal.SIGKILL, None),
}
GRACE = 5.0  # between TERM and KILL, as the manual has it
LIMIT = 0.3  # of the steps that time out
GATE = "until test -e go; do sleep 0.02 || true; done"
WAYS = {"": "", "wait": GATE, "exit 3": "exit 3", "kill -9 $$": "kill -9 $$", "deaf wait": GATE}

RUN = " ".join([BIN, *launched([])])

numbers = itertools.count(10_000_000 + random.SystemRandom().randrange(80_000_000))
numbers_lock = threading.Lock()


def number():
    with numbers_lock:
        return str(next(numbers))


def alive(box, mark):
    """Living processes of this box: by environment, or by the number in their command line."""
    found = dict(box.survivors())
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = open(f"/proc/{entry}/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if mark.encode() in line or any(mark.encode() in word for word in line if word.startswith(b"trap")):
            found[int(entry)] = b" ".join(line).decode(errors="replace")
    return found


def make(shape, ending, mark, is_grouped):
    """a, which does it, and b, which follows; `is_grouped`: a sees what another task has made, and b gathers by a label."""
    way = WAYS[ENDINGS[ending][0]]
    early = "trap ': > termed' TERM" if ENDINGS[ending][0] == "deaf wait" else ""
    script = (
        MARK
        + f"if [ ! -e go ]; then\n{early}\n{SHAPES[shape].replace('@N@', mark)}\n: > started\n{way}\nfi\n"
        + 'echo result > "$OUTPUT_DIR/x"\n'
    )
    more = {"timeout": f"{LIMIT * 1000:.0f}ms"} if ending in ("times out", "INT in a time limit's grace") else {}
    follow = 'cat "$INPUT_FILE" > "$OUTPUT_DIR/y"\n'
    if not is_grouped:
        return task("a", script, **more) + task("b", MARK + follow), 0
    return (
        task("side", MARK + 'echo side > "$OUTPUT_DIR/side"\n')
        + task("a", 'test -s "$WITH_DIR/side/side"\n' + script, **more, **{"from": [], "with": ["side"]})
        + 'matrix = { kind = ["k"] }\n'
        + task("b", MARK + 'test "$kind" = k\n' + 'cat "$INPUT_DIR/x" > "$OUTPUT_DIR/y"\n', gather=["kind"])
    ), 0


def case(shape, ending, through_shell=False, is_grouped=False, sabotage=None):
    """Plays one case; gives (what was wrong, seconds beyond a time limit)."""
    mark, faults, over = number(), [], 0.0
    _, code, outcome = ENDINGS[ending]
    box = Box(make(shape, ending, mark, is_grouped), "t08")
    try:
        with open(box.path / "out", "w+b") as out:
            if through_shell:
                # What a shell sees of it.
                line = f"sh -c 'echo $$ > pid; exec {RUN} -j2'; exit $?"
                process = subprocess.Popen(["bash", "-c", line], cwd=box.path, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=box.environment(), start_new_session=True)
                until(lambda: (box.path / "pid").exists() and (box.path / "pid").read_text().strip(), "the runner's number")
                runner = int((box.path / "pid").read_text())
                code = 128 - code if code < 0 else code
            else:
                process = box.start("-j2", stdout=out, stderr=out)
                runner = process.pid
            began = time.monotonic()
            sent = ending.split(" ")[0]
            if sent in ("INT", "TERM", "HUP", "KILL"):
                until(lambda: (box.path / "started").exists() or process.poll() is not None, "the script's start")
                if "grace" in ending:
                    until(lambda: (box.path / "termed").exists() or process.poll() is not None, "the time limit")
                if sabotage:
                    sabotage(box, mark)
                os.kill(runner, getattr(signal, f"SIG{sent}"))
                if ending == "INT INT":
                    until(lambda: b"SIGINT" in (box.path / "out").read_bytes() or process.poll() is not None, "the first signal's news")
                    os.kill(runner, signal.SIGINT)
            try:
                process.wait(4 * GRACE + PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                faults.append("hangs")
            seconds = time.monotonic() - began
        text = (box.path / "out").read_text(errors="replace")
        if sabotage and ending == "exits":
            sabotage(box, mark)
        if ending != "KILL" and (left := alive(box, mark)):
            faults.append(f"{len(left)} survivors: {list(left.items())[:4]}")
        if process.returncode != code:
            faults.append(f"exit {process.returncode} and not {code}: {text}")
        if "panicked" in text or "internal error" in text:
            faults.append(f"panicked: {text}")
        recorded = [row[0] for row in box.query("SELECT outcome FROM attempt JOIN step s ON s.id = step JOIN task t ON t.id = s.task WHERE t.name = 'a'")]
        if recorded != ([outcome] if outcome else []):
            faults.append(f"recorded {recorded} and not {outcome}")
        # TERM-ignoring leftovers cost the grace, anything else much less; with INT INT, and after KILL, nobody waits.
        limit = LIMIT if ending == "times out" else 0
        if shape not in DEAF and "grace" not in ending and seconds > limit + GRACE:
            faults.append(f"took {seconds:.1f} s")
        if ending == "times out":
            ((wall,),) = box.query("SELECT wall_us FROM attempt a JOIN step s ON s.id = a.step JOIN task t ON t.id = s.task WHERE t.name = 'a'")
            over = wall / 1e6 - LIMIT
            if over < 0 or over > (GRACE + 2 if shape in DEAF else GRACE):
                faults.append(f"a time limit of {LIMIT} s ended after {wall / 1e6:.2f} s")
        # The next start ends what a killed runner left, and completes.
        (box.path / "go").touch()
        code, text = box.run("-j2")
        if code != OK:
            faults.append(f"the next run: exit {code}: {text}")
        if left := alive(box, mark):
            faults.append(f"{len(left)} survivors after the next run: {list(left.items())[:4]}")
        if box.leftovers():
            faults.append(f"left in scratch: {box.leftovers()}")
        if wrong := box.verify():
            faults.append(wrong)
    except (RuntimeError, ProcessLookupError) as error:
        faults.append(f"{error}: {(box.path / 'out').read_text(errors='replace')}")
    finally:
        for pid in alive(box, mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        where = f"[{shape}; {ending}{'; through a shell' if through_shell else ''}{'; groups' if is_grouped else ''}; {box.path}]"
        if not faults or sabotage:
            box.remove()
    return [f"{fault} {where}" for fault in faults], over


# ---- what a script finds --------------------------------------------------------------------------


def bits(*signals):
    return sum(1 << number - 1 for number in signals)


def masks(process):
    """(ignored, blocked) signals of a process."""
    text = open(f"/proc/{process}/status").read()
    return [int(re.search(rf"^{name}:\s*(\w+)", text, re.M).group(1), 16) for name in ("SigIgn", "SigBlk")]


def descriptors(pid):
    """What a process has open; asked again for a while, because `sleep` reads its locale before it sleeps."""
    end = time.monotonic() + 2
    while True:
        fds = {}
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                fds[fd] = os.readlink(f"/proc/{pid}/fd/{fd}")
            except FileNotFoundError:
                pass
        if sorted(fds) == ["0", "1", "2"] or time.monotonic() > end:
            return fds
        time.sleep(0.01)


def world(before="", ignored=(), script="exec sleep @N@", with_="env"):
    """Looks at a script from outside while it waits. `before` and `with_` are how the runner is started."""
    mark, faults = number(), []
    with Box((task("a", MARK + ": > started\n" + script.replace("@N@", mark)), 0), "t08") as box:
        out = open(box.path / "out", "w+b")
        secret = open(box.path / "secret", "w+b")
        process = subprocess.Popen(
            ["bash", "-c", f"{before} exec {with_} {RUN} -j2"], cwd=box.path, env=box.environment(),
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=[secret.fileno()], start_new_session=True,
        )
        with secret, out:
            try:
                sleeper = until(lambda: [pid for pid, line in alive(box, mark).items() if line.startswith("sleep")], "the script")[0]
                fds = descriptors(sleeper)
                if sorted(fds) != ["0", "1", "2"] or fds["0"] != "/dev/null" or fds["1"] != fds["2"] or not fds["1"].startswith("pipe:"):
                    faults.append(f"descriptors: {fds}")
                # glibc's posix_spawn ignores its own two signals, 32 and 33, in the child of a process with threads.
                have = masks(sleeper)[0] & ~bits(32, 33)
                want = bits(signal.SIGTTIN, signal.SIGTTOU, *ignored)
                if have != want:
                    faults.append(f"SigIgn {have:x} and not {want:x}")
                if masks(sleeper)[1]:
                    faults.append(f"SigBlk {masks(sleeper)[1]:x} and not 0")
                if os.getpgid(sleeper) == os.getpgid(process.pid):
                    faults.append("in the runner's process group")
            except (RuntimeError, OSError) as error:
                faults.append(f"{error}: {(box.path / 'out').read_text()}")
            for pid in alive(box, mark):
                os.kill(pid, signal.SIGKILL)
            process.wait(PATIENCE)
            text = (box.path / "out").read_text(errors="replace")
            if process.returncode != FAILED:  # its script was killed
                faults.append(f"exit {process.returncode}: {text}")
    return [f"{fault} [{before} {with_}]" for fault in faults]


def keeps_ignoring():
    """nohup: HUP is nobody's business. A shell's `&`: nor are INT and QUIT."""
    faults = []
    for ignored in (signal.SIGHUP, signal.SIGINT):
        with Box((task("a", MARK + f": > started\n{GATE}\n"), 0), "t08") as box:
            line = f"trap '' {ignored.name[3:]}; exec {RUN}"
            process = subprocess.Popen(["bash", "-c", line], cwd=box.path, env=box.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
            until(lambda: (box.path / "started").exists(), "the script")
            os.kill(process.pid, ignored)
            (box.path / "go").touch()
            text = process.communicate(timeout=PATIENCE)[0].decode()
            if process.returncode != OK:
                faults.append(f"{ignored.name} was ignored when it started, but: exit {process.returncode}: {text}")
    return faults


# What a step puts into a folder: all that may lie there, as hard to see and to remove as it can make it.
LITTER = """
cd "$1"
echo x > file; echo x > .hidden; : > empty; ln -s file link; ln -s nowhere dangling; mkfifo fifo
mkdir -p deep/er .folder; echo x > deep/er/file; chmod 400 deep/er/file; chmod 0 deep/er deep
touch -d @0 .
"""

# How it ends then, by the name of its input.
LITTERERS = {
    "exits": "",
    "fails": "exit 3",
    "crashes": "kill -9 $$",
    "times out": "sleep @N@",
    "is refused": 'ln -s nowhere "$OUTPUT_DIR/refused"',
    "leaves a process": 'sleep @N@ > "$TMPDIR/log" & cd /',
}


def cleanliness(before_the_look=""):
    """Every step notes what it finds in TMPDIR and OUTPUT_DIR, and leaves a lot there. One worker, so that each
    step follows on another; each way to end is there three times, as the order is the program's affair."""
    mark, faults = number(), []
    case = "\n".join(f"*.'{ending}') {last.replace('@N@', mark)} ;;" for ending, last in LITTERERS.items())
    look = 'find "$TMPDIR" "$OUTPUT_DIR" -mindepth 1 >> found\necho "$TMPDIR" >> folders\n'
    script = MARK + before_the_look + "\n" + look + "sh litter \"$TMPDIR\"\necho x > \"$OUTPUT_DIR/x\"\n"
    text = task("a", script + f'case "$INPUT_NAME" in\n{case}\nesac\n', inputs=["in/*"], timeout=f"{LIMIT * 1000:.0f}ms")
    with Box((text + task("b", script), 0), "t08") as box:
        (box.path / "litter").write_text(LITTER)
        for n in range(3):
            for ending in LITTERERS:
                (box.path / "in" / f"{n}.{ending}").write_text(f"{n} {ending}")
        code, text = box.run("-j1", "-k")
        if code != FAILED:
            faults.append(f"exit {code}: {text}")
        folders = (box.path / "folders").read_text().splitlines()
        # `x` of those that end well is the same file every time; b may take it for one step or for several.
        if (got := len(folders)) <= 3 * len(LITTERERS):
            faults.append(f"only {got} steps ran: {text}")
        if found := (box.path / "found").read_text().splitlines():
            faults.append(f"steps found what others had left: {len(found)} names, as {found[:3]}")
        if left := [folder for folder in set(folders) if os.path.exists(folder)]:
            faults.append(f"TMPDIR is still there: {left}")
        if (left := alive(box, mark)) or box.leftovers():
            faults.append(f"left: {left} {box.leftovers()}")
    return faults


WORLDS = [
    ("", ()),
    ("trap '' HUP;", (signal.SIGHUP,)),
    ("trap '' INT QUIT;", (signal.SIGINT, signal.SIGQUIT)),
    ("trap '' PIPE;", ()),  # std gives every child the default; a script wants it
    ("exec 3</dev/null 9>/dev/null 100</etc/passwd;", ()),
    ("", (), "env --ignore-signal=CHLD"),
    ("", (), "env --block-signal=TERM,INT"),
]


def controls(family):
    def outsider(box, mark):
        # Started by somebody else: nobody but this test ends it.
        subprocess.Popen(["setsid", "-f", "sleep", mark])
        until(lambda: any(line.startswith("sleep") for line in alive(box, mark).values()), "the outsider")

    for ending in ("exits", "INT"):
        faults, _ = case("group", ending, sabotage=outsider)
        family.control(f"a process from outside, {ending}", any("survivors" in fault for fault in faults))
    # A daemon that has left group, session and environment behind can't be told from somebody else's: the
    # documented limit, and the proof that `alive` would see it.
    SHAPES["wiped"] = "setsid -f env -i sleep @N@; until pgrep -f 'sleep @N@' >/dev/null; do :; done"
    faults, _ = case("wiped", "exits")
    family.control("a daemon with its environment wiped", any("survivors" in fault for fault in faults))
    ENDINGS["lies"] = ("exit 3", OK, "ok")
    faults, _ = case("nothing", "lies")
    family.control("a wrong exit code", any("exit 1 and not 0" in fault for fault in faults))
    del SHAPES["wiped"], ENDINGS["lies"]
    faults = world(script="exec 5</dev/null; exec sleep @N@")
    family.control("a descriptor too many", any("descriptors" in fault for fault in faults))
    faults = world(script="trap '' USR1; exec sleep @N@")
    family.control("an ignored signal too many", any("SigIgn" in fault for fault in faults))
    faults = cleanliness('echo x > "$TMPDIR/early"')
    family.control("a file in TMPDIR before the script looks", any("had left" in fault for fault in faults))


def main():
    family = Family("T8")
    impossible = {("script stopped", ending) for ending in ("exits", "fails", "crashes")}
    impossible |= {("script stopped", "INT in a time limit's grace"), ("script deaf", "INT in a time limit's grace")}
    every = [pair for pair in itertools.product(SHAPES, ENDINGS) if pair not in impossible]
    count = min(family.count("cases", 24, len(every)), len(every))
    family.random.shuffle(every)
    # First those that bring a new shape or ending.
    shapes, endings, first, rest = set(), set(), [], []
    for shape, ending in every:
        is_new = shape not in shapes or ending not in endings
        (first if is_new else rest).append((shape, ending))
        shapes.add(shape)
        endings.add(ending)
    chosen = (first + rest)[:count]
    shells = {pair for n, pair in enumerate(chosen) if pair[1] in ("INT", "TERM", "HUP", "exits", "fails") and n % 3 == 0}
    groups = set(family.random.sample(chosen, len(chosen) // 2))
    clean, survivors, over = 0, 0, 0.0
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for faults, late in pool.map(lambda pair: case(*pair, pair in shells, pair in groups), chosen):
            clean += not faults
            survivors += sum("survivors" in fault for fault in faults)
            over = max(over, late if late < GRACE else 0)
            for fault in faults:
                family.deviate(fault)
    for before, ignored, *with_ in WORLDS:
        for fault in world(before, ignored, with_=with_[0] if with_ else "env"):
            family.deviate(fault)
    for fault in keeps_ignoring() + cleanliness():
        family.deviate(fault)
    controls(family)
    family.done(
        f"{len(chosen)} cases of {len(every)}, {clean} clean, {survivors} survivors; time limits kept within {over * 1000:.0f} ms; {len(WORLDS) + 3} looks at a script's world",
        cases=len(chosen), clean=clean, survivors=survivors, late_ms=round(over * 1000),
    )


main()
