#!/usr/bin/env python3
"""T16: the state after any edits, against figures that come from no run of the program. This file works out, in
plain Python, which steps are live, what each works on and makes, and which link leads to which; it reads the
database with sqlite3 and the objects as files. (Families that compare two runs of the program can't see what it
does wrong in both.)

A pipeline is edited and put back: texts, a script (also so that it makes the old files again), a name, a task that
goes and returns; the runner is sometimes killed, and gc comes in between. After each edit the live steps, their outputs and
links, the files and the exports are those worked out here, and what ran is what had never been done or what gc
had removed.

T16_ROUNDS: how many pipelines. T16_EDITS: edits of each.
"""

import collections
import signal

from common import *

WORDS = ["apple", "berry", "cherry", "date", ""]
FILES = ["a.txt", "b.txt", "c.txt"]

# (word before each line, what follows): the third script is new and makes the files of the first.
CUTS = [("one", ""), ("two", ""), ("one", " # again")]

NOTE = "printf '%s\\n' \"@ID@ $INPUT_NAME $STEP_KEY\" >> ledger\n"
CUT = (
    "n=0\nwhile IFS= read -r line; do\n    n=$((n+1)); echo \"@WORD@ $line\" > \"$OUTPUT_DIR/$INPUT_NAME.$n\"\n"
    "done < \"$INPUT_FILE\"@REST@\n"
)
LOUD = 'mkdir "$OUTPUT_DIR/loud"; tr a-z A-Z < "$INPUT_FILE" > "$OUTPUT_DIR/loud/$INPUT_NAME"\n'
FIRST = 'head -c @BYTES@ "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"\n'
JOIN = 'wc -c < "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"; chmod +x "$OUTPUT_DIR/$INPUT_NAME"\n'
TOTAL = 'tr \'\\n\' \'\\0\' < "$INPUT_FILE" | xargs -0 cat > "$OUTPUT_DIR/total"\n'
LAST = 'cat "$INPUT_FILE" "$INPUT_FILE" > "$OUTPUT_DIR/last"\n'

# A file as an input or an output: its bytes, and whether it is executable.
File = collections.namedtuple("File", "data executable")


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Step:
    """A step as it has to be: what it does (`work`), what it works on, what it makes, who made its input."""

    def __init__(self, task, work, name, file, outputs, producers):
        self.task, self.name, self.file, self.outputs, self.producers = task, name, file, outputs, producers
        self.work = (work, name, sha(file.data), file.executable)  # of which one is done once
        self.place = (task, name, sha(file.data))


class Pipeline:
    """What the user has written, and what has to come of it."""

    def __init__(self):
        self.texts = {name: f"{name} apple\n{name} berry\n" for name in FILES}
        self.texts["z.txt"] = "z stays\n"  # so that there is always something to gather
        self.cut = 0
        self.loud = "loud"
        self.has_first = True
        self.bytes = 5  # that `first` keeps

    def write(self, box):
        for old in (box.path / "in").iterdir():
            if old.name not in self.texts or old.read_text() != self.texts[old.name]:
                old.unlink()
        for name, text in self.texts.items():
            if not (box.path / "in" / name).exists():
                (box.path / "in" / name).write_text(text)
        word, rest = CUTS[self.cut]
        note = lambda id, script: NOTE.replace("@ID@", id) + script
        text = task("cut", note(f"cut{self.cut}", CUT.replace("@WORD@", word).replace("@REST@", rest)), inputs=["in/*.txt"])
        text += task(self.loud, note("loud", LOUD))
        text += task("first", note(f"first{self.bytes}", FIRST.replace("@BYTES@", str(self.bytes))), **{"from": ["cut"], "match": ["*.1"]}) if self.has_first else ""
        text += task("join", note("join", JOIN), **{"from": [self.loud, *(["first"] if self.has_first else [])]})
        text += task("total", note("total", TOTAL), gather=True) + task("last", note("last", LAST))
        (box.path / "pipeline.toml").write_text(text)

    def edit(self, dice):
        """Changes one thing by chance; says what."""
        what = dice.choice(["text", "text", "text", "file", "cut", "cut", "bytes", "name", "first"])
        name = dice.choice(FILES)
        if what == "text":
            words = dice.sample(WORDS, dice.randrange(4))
            self.texts[name] = "".join(f"{name} {word}\n" for word in words)
        elif what == "file" and name in self.texts:
            del self.texts[name]
        elif what == "file":
            self.texts[name] = f"{name} apple\n{name} berry\n"
        elif what == "cut":
            self.cut = dice.randrange(len(CUTS))
        elif what == "bytes":
            self.bytes = dice.randrange(3, 6)
        elif what == "name":
            self.loud = "noisy" if self.loud == "loud" else "loud"
        else:
            self.has_first = not self.has_first
        return f"{what} {name}"

    def steps(self):
        """All that has to be live."""
        word, _ = CUTS[self.cut]
        steps = []

        def add(task, work, name, file, outputs, *producers):
            step = Step(task, work, name, file, {out: File(*made) for out, made in outputs.items()}, producers)
            steps.append(step)
            return step

        for name, text in self.texts.items():
            lines = text.splitlines()
            pieces = {f"{name}.{n}": (f"{word} {line}\n".encode(), False) for n, line in enumerate(lines, 1)}
            cut = add("cut", f"cut{self.cut}", name, File(text.encode(), False), pieces)
            for piece, file in cut.outputs.items():
                makers = [add(self.loud, "loud", piece, file, {f"loud/{piece}": (file.data.upper(), False)}, cut)]
                if self.has_first and piece.endswith(".1"):
                    makers.append(add("first", f"first{self.bytes}", piece, file, {piece: (file.data[: self.bytes], False)}, cut))
                for maker in makers:
                    ((out, made),) = maker.outputs.items()
                    add("join", "join", out, made, {out: (b"%d\n" % len(made.data), True)}, maker)
        joins = sorted((step for step in steps if step.task == "join"), key=lambda step: step.name.encode())
        counts = [(step.name, step.outputs[step.name]) for step in joins]
        # As `sha256sum` writes it; the star stands for the executable bit.
        listing = "".join(f"{sha(file.data)} {'*' if file.executable else ' '}{name}\n" for name, file in counts).encode()
        whole = b"".join(file.data for _, file in counts)
        total = add("total", "total", "", File(listing, False), {"total": (whole, False)}, *joins)
        add("last", "last", "total", File(whole, False), {"last": (whole + whole, False)}, total)
        return steps


LIVE = "SELECT s.id, t.name AS task, s.name, s.object_hash AS object, s.state FROM step s JOIN task t ON t.id = s.task WHERE s.live = 1"


def compared(what, want, got):
    """Sentences that say what is missing, and what there is too much of."""
    want, got = collections.Counter(want), collections.Counter(got)
    missing, extra = want - got, got - want
    return [f"{what}: {word} {sorted(rows.elements())[:3]}{f' and {rows.total() - 3} more' if rows.total() > 3 else ''}" for word, rows in (("missing", missing), ("too much", extra)) if rows]


def faults_of(box, steps):
    """What of the state isn't as worked out."""
    faults = []
    live = box.query(f"SELECT task, name, object, state FROM ({LIVE})")
    faults += compared("live steps", [(*step.place, 1) for step in steps], live)
    made = box.query(f"SELECT l.task, l.name, l.object, o.name, lower(hex(o.object)), o.executable FROM ({LIVE}) l JOIN output o ON o.step = l.id")
    faults += compared("outputs", [(*step.place, name, sha(file.data), int(file.executable)) for step in steps for name, file in step.outputs.items()], made)
    links = box.query(f"SELECT a.task, a.name, a.object, b.task, b.name, b.object FROM step_link JOIN ({LIVE}) a ON a.id = from_step_id JOIN ({LIVE}) b ON b.id = to_step_id")
    faults += compared("links", [(*maker.place, *step.place) for step in steps for maker in step.producers], links)
    files = [file for step in steps for file in (step.file, *step.outputs.values())]
    for data in {file.data for file in files}:
        path = object_path(box.db, sha(data))
        if not path.exists() or path.read_bytes() != data:
            faults.append(f"object {sha(data)} is missing or has other bytes")
    for task in ("join", "last"):
        shutil.rmtree(box.path / "out", ignore_errors=True)
        code, text = box.run("export", task, "--to", "out")
        out = box.path / "out"
        got = [(str(path.relative_to(out)), path.read_bytes(), os.access(path, os.X_OK)) for path in out.rglob("*") if path.is_file() and not path.name.startswith(".task-pipeline")]
        want = [(name, file.data, file.executable) for step in steps if step.task == task for name, file in step.outputs.items()]
        # Root may execute what has any executable bit, and nothing else; so may its owner here.
        if code != OK:
            faults.append(f"export {task}: exit {code}: {text}")
        faults += compared(f"export {task}", want, got)
    return faults


class World:
    """A pipeline under edits."""

    def __init__(self, family):
        self.dice, self.pipeline = family.random, Pipeline()
        self.box = Box(("", 0), "t16")
        self.steps, self.known = [], set()
        self.made = {}  # of each work, the hashes of what it makes
        self.edits, self.kills, self.sweeps, self.said = [], 0, 0, 0

    def ran(self):
        """What the scripts noted since the last time: (id, input's name, STEP_KEY)."""
        with open(self.box.ledger, "rb") as ledger:
            ledger.seek(self.said)
            text = ledger.read().decode()
        self.said += len(text)
        return [tuple(line.split(" ")) for line in text.splitlines()]

    def settle(self, kill=False, sabotage=None):
        """Runs to the end; gives what is wrong then."""
        self.pipeline.write(self.box)
        self.steps = self.pipeline.steps()
        todo = [step.work for step in self.steps if step.work not in self.known]
        faults, committed, first = [], set(), []
        if kill and todo:
            runner = self.box.start("-j2", stdout=subprocess.DEVNULL)
            enough = self.dice.randrange(1, len(todo) + 1)
            note = self.box.ledger
            until(lambda: runner.poll() is not None or note.read_bytes()[self.said:].count(b"\n") >= enough, "scripts to run")
            runner.kill()
            runner.wait()
            self.kills += runner.returncode == -signal.SIGKILL
            committed = self.box.committed()
            first = self.ran()
        code, text = self.box.run("-j2")
        if code != OK:
            faults.append(f"exit {code}: {text}")
        if sabotage:
            sabotage(self.box)
        second = self.ran()
        if first or committed:
            again = [line for line in second if line[2][:16] in committed]
            faults += [f"committed before the kill, and run again: {again}"] if again else []
            faults += compared("run", {work[:2] for work in todo}, {line[:2] for line in first + second})
        else:
            faults += compared("run", [work[:2] for work in todo], [line[:2] for line in second])
        self.known |= {step.work for step in self.steps}
        self.made |= {step.work: {sha(file.data) for file in step.outputs.values()} for step in self.steps}
        faults += faults_of(self.box, self.steps)
        return [f"{fault} [{'; '.join(self.edits[-3:])}; {self.box.path}]" for fault in faults]

    def collect(self, *options):
        """gc. Results of history are gone afterwards, unless something live needs the same bytes."""
        code, text = self.box.run("gc", *options)
        self.sweeps += 1
        if "--grace" in options and "--keep-history" not in options:
            live = {step.work for step in self.steps}
            needed = {sha(file.data) for step in self.steps for file in (step.file, *step.outputs.values())}
            self.known = {work for work in self.known if work in live or self.made[work] <= needed}
        return [f"gc: exit {code}: {text}"] if code != OK else []


def there_and_back(pipeline):
    """Edits that are taken back: whatever was known comes alive again, with all that follows from it."""
    yield "a text", lambda: pipeline.texts.update({"a.txt": "a.txt cherry\n"})
    yield "a text back", lambda: pipeline.texts.update({"a.txt": "a.txt apple\na.txt berry\n"})
    yield "a script", lambda: setattr(pipeline, "cut", 1)
    yield "a script back", lambda: setattr(pipeline, "cut", 0)
    yield "a script", lambda: setattr(pipeline, "cut", 1)
    # The steps of a new script make the old files again: what follows comes alive during the run.
    yield "a new script for the old files", lambda: setattr(pipeline, "cut", 2)
    yield "a task gone", lambda: setattr(pipeline, "has_first", False)
    yield "the task back", lambda: setattr(pipeline, "has_first", True)
    # The steps of its new script are planned while all that they work on is there.
    yield "a script further down", lambda: setattr(pipeline, "bytes", 4)
    yield "that script back", lambda: setattr(pipeline, "bytes", 5)
    yield "a file gone", lambda: pipeline.texts.pop("b.txt")
    yield "the file back", lambda: pipeline.texts.update({"b.txt": "b.txt apple\nb.txt berry\n"})
    yield "a name", lambda: setattr(pipeline, "loud", "noisy")


def round_of(family, edits):
    """One pipeline: a fixed part, then chance."""
    world = World(family)
    dice = world.dice
    faults = world.settle()
    for what, edit in there_and_back(world.pipeline):
        edit()
        world.edits.append(what)
        faults += world.settle()
    for _ in range(edits):
        world.edits.append(world.pipeline.edit(dice))
        faults += world.settle(kill=dice.random() < 0.3)
        if dice.random() < 0.3:
            faults += world.collect(*dice.choice([["--grace", "0s"], ["--keep-history", "--grace", "0s"], []]))
            faults += world.settle()
    if wrong := world.box.verify():
        faults.append(wrong)
    if not faults:
        world.box.remove()
    return world, faults


# ---- sabotage: each must be noticed ---------------------------------------------------------------


def change(sql):
    """Writes to the database behind the program's back. Nobody else has it open."""
    def sabotage(box):
        with contextlib.closing(sqlite3.connect(box.db / "db")) as connection:
            if connection.execute(sql).rowcount < 1:
                raise RuntimeError(f"nothing is changed by {sql}")
            connection.commit()
    return sabotage


def other_bytes(box):
    ((name,),) = box.query(f"SELECT object FROM ({LIVE}) WHERE task = 'last'")
    path = object_path(box.db, name)
    path.chmod(0o644)
    path.write_bytes(b"9\n")


def one_run_more(box):
    with open(box.ledger, "a") as ledger:
        ledger.write(f"join loud/a.txt.1 {'0' * 64}\n")


ONE = "(SELECT max(s.id) FROM step s JOIN task t ON t.id = s.task WHERE t.name = '%s' AND s.live = 1)"
SABOTAGE = {
    "a link that isn't written": (change(f"DELETE FROM step_link WHERE to_step_id = {ONE % 'join'}"), "links: missing"),
    "no link to the step of a gather task": (change(f"DELETE FROM step_link WHERE to_step_id = {ONE % 'total'}"), "links: missing"),
    "a step that doesn't come alive again": (change(f"UPDATE step SET live = 0 WHERE id = {ONE % 'join'}"), "live steps: missing"),
    "a step of history that lives": (change("UPDATE step SET live = 1 WHERE id = (SELECT min(id) FROM step WHERE live = 0)"), "live steps: too much"),
    "an output under another name": (change(f"UPDATE output SET name = 'x' WHERE step = {ONE % 'join'}"), "outputs: missing"),
    "an object with other bytes": (other_bytes, "has other bytes"),
    "a script that ran again": (one_run_more, "run: too much"),
}


def controls(family):
    for what, (sabotage, sign) in SABOTAGE.items():
        world = World(family)
        world.settle()
        world.pipeline.texts["a.txt"] = "a.txt date\n"
        faults = world.settle(sabotage=sabotage)
        family.control(what, any(sign in fault for fault in faults))
        world.box.remove()


def main():
    family = Family("T16")
    rounds, edits = family.count("rounds", 2, 20), family.count("edits", 8, 20)
    states = kills = sweeps = 0
    for _ in range(rounds):
        world, faults = round_of(family, edits)
        states += 1 + len(world.edits)
        kills += world.kills
        sweeps += world.sweeps
        for fault in faults:
            family.deviate(fault)
    controls(family)
    family.done(f"{states} states of {rounds} pipelines worked out, {kills} kills, {sweeps} gc", states=states, kills=kills, sweeps=sweeps, rounds=rounds)


main()
