"""What every family of the torture suite needs: a pipeline in a folder of its own, the binary run on
it, the final state in a form that can be compared, and the result as a line for people and a line of
JSON.

Environment: TASK_PIPELINE_BIN (the binary), TORTURE=short|full (how much; short if not set), SEED (random
if not set, always printed), TORTURE_DIR (where the folders are made), TORTURE_STRICT (what the machine can't do is
a deviation, not skipped aloud: 1, or the families for which it is), TORTURE_LAUNCH=fork|spawn (how all scripts are
started), T1_KILLS=50 and the like (one count).
Only the standard library. Nothing here waits for a time to pass: `until` waits for a condition.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PATIENCE = 60.0  # seconds after which anything counts as hanging

SKIPPED = []  # what this machine can't do; see faults.skip

# Exit codes of the program, as its manual has them.
OK, FAILED, USAGE, DAMAGED, INTERNAL, NO_SPACE, IO, LOCKED = 0, 1, 2, 65, 70, 73, 74, 75


def binary():
    named = os.environ.get("TASK_PIPELINE_BIN")
    places = [named] if named else [ROOT / "target" / kind / "task-pipeline" for kind in ("release", "debug")]
    for place in map(pathlib.Path, places):
        if place.exists():
            return str(place.resolve())
    sys.exit(f"no binary at {' or '.join(map(str, places))}: cargo build, or set TASK_PIPELINE_BIN")


BIN = binary()


def heed_signals():
    """In the background of a script (`run.sh &`, nohup) these are ignored, and the program, as it has to,
    would go on ignoring them."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


heed_signals()


def until(condition, what, seconds=PATIENCE, pause=0.002):
    """Waits until `condition()` is true and gives its value; RuntimeError if it never is."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(pause)


def compile_c(name, *flags):
    """Builds `name`.c of this folder, once per version; gives the path of the program or, for
    `-shared`, the library."""
    source = HERE / f"{name}.c"
    mark = hashlib.sha256(source.read_bytes() + repr(flags).encode()).hexdigest()[:16]
    folder = pathlib.Path(tempfile.gettempdir()) / f"task-pipeline-torture-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    made = folder / f"{name}-{mark}{'.so' if '-shared' in flags else ''}"
    # One at a time, over all threads and processes; under its name there is never a half of it.
    with open(made.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            part = made.with_suffix(".part")
            subprocess.run(["cc", "-O1", "-Wall", "-o", part, source, *flags, "-ldl", "-lpthread"], check=True)
            part.rename(made)
    return str(made)


# ---- pipelines -----------------------------------------------------------------------------------

# One O_APPEND write per step: which steps were started, in which order, how often.
MARK = "printf '%s\\n' \"$STEP_KEY\" >> ledger\n"

SPLIT = MARK + """
echo "splitting $INPUT_NAME"
for i in $(seq @WIDTH@); do
    { echo "part $i of $INPUT_NAME"; cat "$INPUT_FILE"; @BIG@ } > "$OUTPUT_DIR/$INPUT_NAME.$i"
done
"""
WORK = MARK + """
mkdir -p "$OUTPUT_DIR/sub"
@PAUSE@
tr a-z A-Z < "$INPUT_FILE" > "$OUTPUT_DIR/sub/$INPUT_NAME"
echo same > "$OUTPUT_DIR/same"
chmod +x "$OUTPUT_DIR/same"
echo "worked on $INPUT_NAME" >&2
"""
TOTAL = MARK + """
tr '\\n' '\\0' < "$INPUT_FILE" | xargs -0 cat | cksum > "$OUTPUT_DIR/total"
"""
LAST = MARK + """
cat "$INPUT_FILE" > "$OUTPUT_DIR/last"
: > "$OUTPUT_DIR/empty"
"""


def task(name, script, **more):
    lines = ["[[task]]", f"name = {json.dumps(name)}", f"script = {json.dumps(script)}"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in more.items()]
    return "\n".join(lines) + "\n"


def n_steps(files=2, width=3, pause="", big=False):
    """files + files * width + 2 steps: split, work, a gather, and one after it. Ten if nothing is said.
    `pause` is a line of shell in each work step; `big` makes their inputs larger than 16 MiB."""
    fill = "head -c 16800000 /dev/zero | tr '\\\\0' x;" if big else ""
    split = SPLIT.replace("@WIDTH@", str(width)).replace("@BIG@", fill)
    return (
        task("split", split, inputs=["in/*.txt"])
        + task("work", WORK.replace("@PAUSE@", pause))
        + task("total", TOTAL, gather=True)
        + task("last", LAST)
    ), files


SIDED = MARK + """
mkdir -p "$OUTPUT_DIR/sub"
@PAUSE@
cat "$INPUT_FILE" "$WITH_DIR/index/all" > "$OUTPUT_DIR/sub/$INPUT_NAME.$mode"
echo "worked on $sample, part $part, $mode" >&2
"""
MERGE = MARK + """
echo "$sample: in/$sample.txt" > "$OUTPUT_DIR/.d"
tr '\\n' '\\0' < "$INPUT_FILE" | xargs -0 cat | cksum > "$OUTPUT_DIR/$sample"
"""
INDEX = MARK + """
tr '\\n' '\\0' < "$INPUT_FILE" | xargs -0 cat > "$OUTPUT_DIR/all"
"""


def grouped(files=2, width=2, pause=""):
    """2 * files * width + 2 * files + 3 steps: labels from names and a matrix, a side input, a group for each file, which says what else it has read, one
    step over all groups, and one after it."""
    return (
        task("index", INDEX, inputs=["in/*.txt"], gather=True)
        + task("split", SPLIT.replace("@WIDTH@", str(width)).replace("@BIG@", ""), inputs=["in/{sample}.txt"])
        + task("work", SIDED.replace("@PAUSE@", pause), match=["*.{part}"], **{"from": ["split"], "with": ["index"]})
        + 'matrix = { mode = ["x", "y"] }\n'
        + task("merge", MERGE, gather=["sample"], depfile=".d")
        + task("total", TOTAL, gather=True)
        + task("last", LAST)
    ), files


def launched(args):
    """What TORTURE_LAUNCH adds to the arguments of a run, which are those that begin with no subcommand."""
    how = os.environ.get("TORTURE_LAUNCH")
    return ["--launch", how] if how and all(str(arg).startswith("-") for arg in args[:1]) else []


class Box:
    """A folder with a pipeline, its database and its ledger."""

    def __init__(self, pipeline=None, name="box"):
        base = os.environ.get("TORTURE_DIR") or tempfile.gettempdir()
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"torture-{name}-", dir=base)).resolve()
        self.db = self.path / "db"
        self.scratch = self.db / "scratch"
        self.ledger = self.path / "ledger"
        self.manifest, files = pipeline or n_steps()
        (self.path / "in").mkdir()
        for n in range(files):
            (self.path / "in" / f"{n}.txt").write_text(f"input number {n}\n" * 3)
        (self.path / "pipeline.toml").write_text(self.manifest)
        self.ledger.touch()

    def __enter__(self):
        return self

    def __exit__(self, *trouble):
        if trouble[0] is None and not os.environ.get("TORTURE_KEEP"):
            self.remove()

    def remove(self):
        self.kill_survivors()
        shutil.rmtree(self.path, ignore_errors=True)

    # ---- running

    def command(self, *args):
        return [BIN, *map(str, args), *launched(args)]

    def environment(self, **more):
        names = ("OUTPUT_DIR", "TMPDIR", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "LD_PRELOAD", "PWD", "OLDPWD")
        env = {name: value for name, value in os.environ.items() if name not in names}
        env.update({name: str(value) for name, value in more.items()})
        return env

    def start(self, *args, env=None, **popen):
        """Starts the program in the folder. A session of its own, so that it can be killed as a group."""
        popen.setdefault("stdin", subprocess.DEVNULL)
        popen.setdefault("stdout", subprocess.PIPE)
        popen.setdefault("stderr", subprocess.STDOUT)
        popen.setdefault("start_new_session", True)
        return subprocess.Popen(self.command(*args), cwd=self.path, env=self.environment(**(env or {})), **popen)

    def run(self, *args, env=None, patience=PATIENCE, **popen):
        """Runs the program to its end; gives (exit code or minus the signal, all that it printed)."""
        process = self.start(*args, env=env, **popen)
        try:
            out, _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            return "hangs", (out or b"").decode(errors="replace")
        return process.returncode, (out or b"").decode(errors="replace")

    # ---- what is there afterwards; the runner must be dead for all of these

    @contextlib.contextmanager
    def reading(self):
        """A connection to a copy of the database: SQLite 3.40, which Python may carry, must not come near
        the original's log."""
        with tempfile.TemporaryDirectory(dir=self.path) as copy:
            for name in ("db", "db-wal"):
                if (self.db / name).exists():
                    shutil.copyfile(self.db / name, f"{copy}/{name}")
            with contextlib.closing(sqlite3.connect(f"{copy}/db")) as connection:
                yield connection

    def query(self, sql, *args):
        with self.reading() as connection:
            return connection.execute(sql, args).fetchall()

    def done_steps(self):
        """{id: first 16 digits of the STEP_KEY} of the steps that are committed as done."""
        if not (self.db / "db").exists():
            return {}
        try:
            rows = self.query("SELECT id, key FROM step WHERE state = 1")
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):  # killed before the tables were made
                return {}
            raise
        return {id: f"{key & (1 << 64) - 1:016x}" for id, key in rows}

    def committed(self):
        """STEP_KEYs (their first 16 digits) of the steps that are committed as done."""
        return set(self.done_steps().values())

    def started(self, offset=0):
        """STEP_KEYs in the ledger, from a byte offset on: first 16 digits, in order."""
        with open(self.ledger, "rb") as ledger:
            ledger.seek(offset)
            lines = ledger.read().split(b"\n")
        if lines.pop() != b"" or any(len(line) != 64 for line in lines):
            raise RuntimeError(f"the ledger is torn: {lines[-3:]}")
        return [line[:16].decode() for line in lines]

    def objects(self):
        """[(path below objects/, sha256)] of every file there."""
        root = self.db / "objects"
        found = [path for path in root.rglob("*") if not path.is_dir() or path.is_symlink()]
        return sorted((str(path.relative_to(root)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in found)

    def canonical(self):
        """All that a run leaves, less times, places, processes and the order of things."""
        step = (
            "SELECT s.id, t.name || '/' || s.name || '/' || coalesce(s.labels, '') || '/' || s.object_hash || '/' || hex(r.hash) || '/' || hex(coalesce(s.side, '')) AS step"
            " FROM step s JOIN task t ON t.id = s.task JOIN recipe r ON r.id = s.recipe"
        )
        tables = {
            "task": "SELECT name, script, position, gather, hex(wiring), (SELECT hex(hash) FROM recipe r WHERE r.id = recipe) FROM task",
            "recipe": "SELECT hex(hash), fields FROM recipe",
            "step": f"SELECT n.step, key, executable, live, state FROM step JOIN ({step}) n USING (id)",
            "step_link": f"SELECT a.step, b.step FROM step_link JOIN ({step}) a ON a.id = from_step_id JOIN ({step}) b ON b.id = to_step_id",
            "side": "SELECT hex(hash) FROM side",
            "side_link": f"SELECT n.step, hex(l.side) FROM side_link l JOIN ({step}) n ON n.id = l.from_step_id",
            "output": f"SELECT n.step, name, hex(object), executable FROM output o JOIN ({step}) n ON n.id = o.step",
            "result": f"SELECT n.step, f.path, hex(v.object) FROM step_result x JOIN ({step}) n ON n.id = x.step"
            " JOIN result_dependency d ON d.result = x.result JOIN dependency_version v ON v.id = d.version"
            " JOIN dependency_file f ON f.id = v.file",
            "attempt": f"SELECT n.step, number, outcome, code, detail, hex(log) FROM attempt a JOIN ({step}) n ON n.id = a.step",
            "object": "SELECT hex(hash), size FROM object",
            "input_file": "SELECT path, name, size, executable, hex(object) FROM input_file",
            "argument": "SELECT position, path, hex(object) FROM argument",
            "run": "SELECT result FROM run ORDER BY id DESC LIMIT 1",
        }
        with self.reading() as connection:
            state = {name: sorted(map(repr, connection.execute(sql))) for name, sql in tables.items()}
        state["objects"] = list(map(repr, self.objects()))
        return state

    def verify(self):
        """"" if every object is as its row says, else what is wrong."""
        code, text = self.run("verify", "--data")
        return "" if code == OK else f"verify --data: exit {code}: {text}"

    def leftovers(self):
        """Names in the scratch folder."""
        return sorted(entry.name for entry in self.scratch.iterdir()) if self.scratch.exists() else []

    def survivors(self):
        """[(pid, command line)] of the processes that were started by a step of this database."""
        needle = bytes(self.scratch) + b"/"
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            try:
                environ = pathlib.Path("/proc", entry, "environ").read_bytes()
                line = pathlib.Path("/proc", entry, "cmdline").read_bytes()
            except OSError:
                continue  # gone, or another user's
            if needle in environ:
                found.append((int(entry), line.replace(b"\0", b" ").decode(errors="replace").strip()))
        return found

    def kill_survivors(self):
        for pid, _ in self.survivors():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def object_path(db_dir, name):
    """Where the object of this hash, in lower-case hex, has to lie."""
    return pathlib.Path(db_dir, "objects", name[:2], name[2:4], name[4:])


def differences(want, got, most=6):
    """Sentences that say what differs between two canonical states."""
    found = []
    for name in want:
        a, b = set(want[name]), set(got.get(name, []))
        found += [f"{name}: missing {row}" for row in sorted(a - b)] + [f"{name}: too much {row}" for row in sorted(b - a)]
        if not found and len(want[name]) != len(got.get(name, [])):
            found.append(f"{name}: {len(want[name])} rows, now {len(got.get(name, []))}")
    return found[:most] + ([f"and {len(found) - most} more"] if len(found) > most else [])


def said_done(text):
    """Ids of the steps that a runner said were done."""
    return {int(id) for id in re.findall(r"^(?:\[\d+/\d+\] )?step (\d+) .*: done, ", text, re.M)}


def unfounded(box, text):
    """"" if all that a dead runner said to be done is committed, else what is not."""
    said = said_done(text)
    missing = said - set(box.done_steps()) if said else said
    return f"said to be done, but not committed: steps {sorted(missing)}" if missing else ""


def final_faults(box, want):
    """What is not as an undisturbed run leaves it. The last run on the box has come to its end."""
    try:
        faults = [f"the final state differs: {difference}" for difference in differences(want, box.canonical())]
    except sqlite3.OperationalError as error:
        faults = [f"there is no final state: {error}"]
    if survivors := box.survivors():
        faults.append(f"survivors: {survivors}")
    if box.leftovers():
        faults.append(f"left in scratch: {box.leftovers()}")
    if wrong := box.verify():
        faults.append(wrong)
    size = box.ledger.stat().st_size
    code, text = box.run()
    if code != OK or "nothing to do" not in text or box.ledger.stat().st_size != size:
        faults.append(f"a further run finds something to do: exit {code}: {text}")
    return faults


def undisturbed(pipeline, *args):
    """Final state of a run that nobody disturbs."""
    with Box(pipeline, "undisturbed") as box:
        code, text = box.run("-j2", *args)
        if code != OK:
            sys.exit(f"an undisturbed run fails already: exit {code}\n{text}")
        return box.canonical()


# ---- results -------------------------------------------------------------------------------------


class Family:
    """One family of tests: its seed, its counts, its deviations, and the lines at the end."""

    def __init__(self, name):
        self.name = name
        self.is_full = os.environ.get("TORTURE", "short") == "full"
        self.seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
        self.random = random.Random(f"{name} {self.seed}")
        self.deviations = []
        self.controls = {}
        self.began = time.monotonic()
        print(f"{name}: seed {self.seed}, {'full' if self.is_full else 'short'}, {BIN}", flush=True)

    def count(self, what, short, full):
        """How often: from the environment (T1_KILLS for `kills`), else by TORTURE."""
        named = os.environ.get(f"{self.name}_{what.upper()}")
        return int(named) if named else full if self.is_full else short

    def deviate(self, what):
        self.deviations.append(what)
        print(f"{self.name}: DEVIATION: {what}", flush=True)

    def expect(self, holds, what):
        if not holds:
            self.deviate(what)
        return bool(holds)

    def control(self, what, is_detected):
        """A sabotage that the checks above must notice, or they are blind."""
        self.controls[what] = bool(is_detected)
        if not is_detected:
            self.deviate(f"negative control not noticed: {what}")

    def done(self, line, **numbers):
        """Prints the result and ends the script."""
        noticed = sum(self.controls.values())
        seconds = time.monotonic() - self.began
        strict = os.environ.get("TORTURE_STRICT", "").split()
        if SKIPPED and ("1" in strict or self.name in strict):
            self.deviate(f"nothing may be skipped here: {'; '.join(SKIPPED)}")
        verdict = f"{len(self.deviations)} DEVIATIONS" if self.deviations else "ok"
        if SKIPPED:
            verdict += f", but SKIPPED: {'; '.join(SKIPPED)}"
        if not self.controls:
            self.deviate("no negative control was run")
        print(f"{self.name}: {line}; controls noticed: {noticed}/{len(self.controls)}; {seconds:.0f} s; {verdict}")
        result = {"family": self.name, "seed": self.seed, "full": self.is_full, "skipped": SKIPPED, **numbers}
        result |= {"controls": self.controls, "deviations": self.deviations, "seconds": round(seconds, 1)}
        print(json.dumps(result), flush=True)
        sys.exit(1 if self.deviations else 0)
