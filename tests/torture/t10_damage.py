#!/usr/bin/env python3
"""T10: damage, by the hundred.

- Objects: flipped bits, cut, zeroed, longer, gone, replaced by folders, links, FIFOs and other objects,
  exchanged with each other, chmodded; whole folders gone or in the way. `verify --data` must find exactly those;
  `repair` must bring back all that an input file or a step can make, list the rest with a reason, and leave
  everything else as it was; a step that makes something else each time is reported; a further `repair` finds only
  the rest. What the messages advise then leads to a whole database.
- The database's own files: pages zeroed, exchanged, filled with noise, cut; `db-wal`, `db-shm`, `format`, `lock`,
  `locks`, `scratch`. Every command either works or refuses with 65 (74 if it can't open what is there), never
  panics, never hangs, and makes nothing worse: with the old files back, everything is as it was.

A chmod is damage (an object is read-only so that nothing can edit it), and undone without running anything.

T10_DAMAGES: to objects. T10_PAGES: to the database.
"""

import collections
import stat

from common import *
from faults import DOCUMENTED, skip

# What each task is good for: see the comments. `fill` makes its output large.
PIPELINE = (
    task("split", MARK + 'for i in 1 2 3; do { echo "part $i"; cat "$INPUT_FILE"; } > "$OUTPUT_DIR/$INPUT_NAME.$i"; done; echo "log of $INPUT_NAME"', inputs=["in/*.txt"])
    + task("work", MARK + 'mkdir "$OUTPUT_DIR/d"; tr a-z A-Z < "$INPUT_FILE" > "$OUTPUT_DIR/d/$INPUT_NAME"; echo same > "$OUTPUT_DIR/same"; chmod +x "$OUTPUT_DIR/same"; : > "$OUTPUT_DIR/empty"')
    # These two make each other's input.
    + task("down", MARK + 'tr A-Z a-z < "$INPUT_FILE" > "$OUTPUT_DIR/down"', match=["d/*"])
    + task("up", MARK + 'tr a-z A-Z < "$INPUT_FILE" > "$OUTPUT_DIR/up"')
    # Its output is its input.
    + task("same", MARK + 'cat "$INPUT_FILE" > "$OUTPUT_DIR/copy"', **{"from": ["split"]})
    + task("big", MARK + 'head -c 1200000 /dev/zero | tr "\\\\0" x > "$OUTPUT_DIR/$INPUT_NAME"; cat "$INPUT_FILE" >> "$OUTPUT_DIR/$INPUT_NAME"', **{"from": ["split"], "match": ["0.txt.*"]})
    + task("bigger", MARK + 'cat "$INPUT_FILE" "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"; echo read')
    + task("all", MARK + 'tr "\\n" "\\0" < "$INPUT_FILE" | xargs -0 cksum | cut -d" " -f1,2 > "$OUTPUT_DIR/all"', gather=True, **{"from": ["work", "up", "same"]})
    + task("last", MARK + 'cat "$INPUT_FILE" > "$OUTPUT_DIR/last"; echo done')
    # Makes something else each time.
    + task("noise", MARK + 'head -c 24 /dev/urandom | od -An -tx1 > "$OUTPUT_DIR/noise"; echo fixed > "$OUTPUT_DIR/fixed"', **{"from": ["last"]})
    + task("after", MARK + '{ echo "made of"; cat "$INPUT_FILE"; } > "$OUTPUT_DIR/$INPUT_NAME.after"')
    # Of a file that is there no more.
    + task("named", MARK + '{ echo named; cat "$INPUT_FILE"; } > "$OUTPUT_DIR/$INPUT_NAME"', **{"from": []})
), 2
OLD = 'echo "part $i"', 'echo "Part $i"'  # the script of an earlier run: its results are history


def prepare():
    """A box with history, a complete run, a file that is gone, and a copy of its database."""
    box = Box(PIPELINE, "t10")
    (box.path / "argument").write_text("only once\n")
    manifest = box.path / "pipeline.toml"
    manifest.write_text(box.manifest.replace(*OLD))
    code, text = box.run("argument", "--only", "split", "--only", "work")
    manifest.write_text(box.manifest)
    more, said = box.run("-j2")
    if (code, more) != (OK, OK):
        sys.exit(f"a run fails already: {code} {more}: {text}{said}")
    (box.path / "argument").unlink()
    with contextlib.closing(sqlite3.connect(box.db / "db")) as connection:
        # So that what the log still holds doesn't hide damage of the pages.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copytree(box.db, box.path / "pristine", symlinks=True)
    return box


def renew(box):
    """The undamaged database again. Damaged modes and kinds are in the way of nothing but rm."""
    subprocess.run(["chmod", "-R", "u+rwX", box.db], check=False, stderr=subprocess.DEVNULL)
    for thing in (box.db,):
        subprocess.run(["rm", "-rf", thing], check=True)
    shutil.copytree(box.path / "pristine", box.db, symlinks=True)


def place(box, hash):
    return object_path(box.db, hash)


class World:
    """What the database says: who makes what, which objects have a file, what is live."""

    def __init__(self, box):
        self.sizes = dict(box.query("SELECT lower(hex(hash)), size FROM object"))
        self.made = collections.defaultdict(list)  # object: [(task, what the step works on)]
        for object, task, works_on in box.query(
            "SELECT lower(hex(o.object)), t.name, s.object_hash FROM output o JOIN step s ON s.id = o.step JOIN task t ON t.id = s.task WHERE s.state = 1"
        ):
            self.made[object].append((task, works_on))
        self.files = {object for object, path in box.query("SELECT lower(hex(object)), path FROM input_file") if object and (box.path / os.fsdecode(path)).exists()}
        self.listings = {object for (object,) in box.query("SELECT s.object_hash FROM step s JOIN task t ON t.id = s.task WHERE t.gather = 1 AND s.live = 1")}
        # What a gather step works on: a line for each object, which begins with its hash (a `\\` before it: the name is escaped).
        self.gathered = {listing: {line.lstrip("\\")[:64] for line in place(box, listing).read_text().splitlines()} for listing in self.listings}
        self.logs = {object for (object,) in box.query("SELECT lower(hex(log)) FROM attempt WHERE log IS NOT NULL")}
        works_on = {object for (object,) in box.query("SELECT object_hash FROM step")}
        self.only_logs = self.logs - set(self.made) - self.files - works_on
        self.live = {object for (object,) in box.query(
            "SELECT object_hash FROM step WHERE live = 1 UNION SELECT lower(hex(o.object)) FROM output o JOIN step s ON s.id = o.step WHERE s.live = 1"
            " UNION SELECT lower(hex(a.log)) FROM attempt a JOIN step s ON s.id = a.step WHERE s.live = 1 AND a.log IS NOT NULL")}

    def lost(self, bad):
        """Those that nothing can bring back: what an input file or a deterministic step makes comes back as soon
        as what the step works on is good; listings are listed anew, logs are given up."""
        left = set(bad) - self.files - self.only_logs - self.listings - {hashlib.sha256(b"").hexdigest()}
        while True:
            back = {object for object in left if any(self.makes(task, object) and not left & self.needs(works_on) for task, works_on in self.made[object])}
            if not back:
                return left
            left -= back

    def needs(self, works_on):
        """A listing can be listed anew whatever it names, but its step reads all of that."""
        return self.gathered.get(works_on, {works_on})

    def makes(self, task, object):
        return task != "noise" or self.sizes[object] == len(b"fixed\n")


# ---- damages --------------------------------------------------------------------------------------


def write_to(path, data):
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)


def flip(box, path, chance, other):
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    write_to(path, data)


def cut(box, path, chance, other):
    write_to(path, path.read_bytes()[: chance.randrange(path.stat().st_size)])


def zero(box, path, chance, other):
    write_to(path, bytes(path.stat().st_size))


def empty(box, path, chance, other):
    write_to(path, b"")


def longer(box, path, chance, other):
    write_to(path, path.read_bytes() + b"x" * chance.randrange(1, 5000))


def crafted(box, path, chance, other):
    """The right beginning and the right length, but not the right end; or another object's bytes."""
    data = path.read_bytes()
    write_to(path, chance.choice([data[:-1] + bytes([data[-1] ^ 1]), other.read_bytes()]))


def unlink(box, path, chance, other):
    path.unlink()


def folder(box, path, chance, other):
    path.unlink()
    path.mkdir()
    if chance.random() < 0.5:
        (path / "precious").write_text("kept for its owner")


def symlink(box, path, chance, other):
    """Also one to the very bytes: a link isn't an object."""
    twin = box.path / f"twin-{path.name}"
    shutil.copyfile(path, twin)
    path.unlink()
    path.symlink_to(chance.choice(["nowhere", other, twin, "/"]))


def fifo(box, path, chance, other):
    path.unlink()
    os.mkfifo(path)


def chmod(box, path, chance, other):
    path.chmod(chance.choice([0o644, 0o600, 0o666, 0o777, 0o4755, 0o200] + ([] if os.geteuid() == 0 else [0])))


def shard_gone(box, path, chance, other):
    """AB, with this object alone in it."""
    shutil.rmtree(path.parent)


def file_in_the_way(box, path, chance, other):
    """A file where AB should be."""
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")


# Kinds that change bytes which are there, and those that may hit an empty object as well.
KINDS = [flip, cut, zero, empty, longer, crafted, unlink, folder, symlink, fifo, chmod, shard_gone, file_in_the_way]
NEEDS_BYTES = {flip, cut, zero, empty, crafted}
ALONE = {shard_gone, file_in_the_way}  # no other object in the shard


def damage(box, world, chance, count):
    """Damages about so many different objects; {hash: kind}."""
    done = {}
    every = sorted(world.sizes)
    for hash in chance.sample(every, min(count, len(every) - 8)):
        if hash in done:
            continue
        path, size = place(box, hash), world.sizes[hash]
        others = [h for h in every if h not in done and h != hash]
        kinds = [kind for kind in KINDS if (size or kind not in NEEDS_BYTES)]
        if others and size and chance.random() < 0.08:
            twin = chance.choice([h for h in others if world.sizes[h]] or others)
            here, there = path.read_bytes(), place(box, twin).read_bytes()
            write_to(path, there)
            write_to(place(box, twin), here)
            done[hash] = done[twin] = "exchanged"
            continue
        kind = chance.choice(kinds)
        if kind in ALONE and any(h != hash and h[:2] == hash[:2] for h in every):
            kind = unlink
        other = place(box, chance.choice([h for h in others if world.sizes[h] != size] or others))
        kind(box, path, chance, other)
        done[hash] = kind.__name__
    # Two damages may have met: what is good again is none.
    return {hash: kind for hash, kind in done.items() if kind == "chmod" or not is_good(box, hash)}


def is_good(box, hash):
    path = place(box, hash)
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and hashlib.sha256(path.read_bytes()).hexdigest() == hash


def findings(box, *args):
    """(exit code, {object: why}, [what is wrong with the database], text) of a verify."""
    code, text = box.run("verify", "--json", *args)
    try:
        said = json.loads(text)["findings"]
    except (ValueError, KeyError):
        return code, {}, [], text
    return code, {f["object"]: f["why"] for f in said if f["object"]}, [f["why"] for f in said if not f["object"]], text


def mend(box, *args):
    code, text = box.run("repair", "--json", *args)
    try:
        said = json.loads(text)["objects"]
    except (ValueError, KeyError):
        return code, {}, text
    return code, {o["object"]: (o["repaired"], o["how"]) for o in said}, text


def compare(what, want, got):
    missing, extra = sorted(set(want) - set(got)), sorted(set(got) - set(want))
    return [f"{what}: missing {missing[:3]}, too many {extra[:3]}"] if missing or extra else []


def one_round(box, world, bad, sabotage=None):
    """All that must hold after these damages."""
    faults = []
    code, found, database, text = findings(box, "--data")
    if code != (DAMAGED if bad else OK) or database:
        faults.append(f"verify --data: exit {code}: {text[-400:]}")
    faults += compare("found by verify --data", bad, found)
    _, quick, _, text = findings(box)
    if extra := set(quick) - set(bad):
        faults.append(f"verify finds what isn't damaged: {extra}")
    lost = world.lost({hash for hash, kind in bad.items() if kind != "chmod"})
    before = box.ledger.stat().st_size
    code, repaired, text = mend(box)
    if code != (DAMAGED if lost else OK):
        faults.append(f"repair: exit {code} instead of {DAMAGED if lost else OK}: {text[-600:]}")
    faults += compare("dealt with by repair", bad, repaired)
    faults += compare("left by repair", lost, [hash for hash, (is_good, _) in repaired.items() if not is_good])
    for hash, (_, how) in repaired.items():
        if bad.get(hash) == "chmod" and "made read-only again" not in how:
            faults.append(f"a chmod was repaired otherwise: {how}")
        if hash in lost:
            by_noise = any(task == "noise" and not lost & world.needs(works_on) for task, works_on in world.made[hash])
            if ("not deterministic" in how) != by_noise or not how.startswith("not repaired: "):
                faults.append(f"{hash}, made by {world.made[hash]}: {how}")
    if all(kind == "chmod" for kind in bad.values()) and box.ledger.stat().st_size != before:
        faults.append("scripts ran, only to undo chmods")
    if sabotage:
        sabotage(box)
    # Everything else is as it was.
    gone = lost | (set(bad) & (world.only_logs | world.listings) - {h for h, k in bad.items() if k == "chmod"})
    for hash in set(world.sizes) - gone:
        if not is_good(box, hash) or place(box, hash).stat().st_mode & 0o7777 != 0o444 or place(box, hash).stat().st_nlink != 1:
            faults.append(f"{hash} ({bad.get(hash, 'not damaged')}) isn't as it should be")
    # What lies in the way of an object that didn't come back lies there still.
    there = {name.replace("/", "") for name, _ in box.objects() if not name.startswith(".tmp")}
    there = {name for name in there if not any(hash.startswith(name) for hash in gone)}
    faults += compare("files below objects/", set(world.sizes) - gone, there)
    code, left, _, text = findings(box, "--data")
    faults += compare("left in verify", lost & world.live, left)
    size = box.ledger.stat().st_size
    code, again, text = mend(box)
    faults += compare("left in a further repair", lost & world.live, again)
    most = 65 * sum(len(world.made[hash]) for hash in lost)
    if box.ledger.stat().st_size - size > most:
        faults.append(f"a further repair ran {(box.ledger.stat().st_size - size) // 65} scripts")
    if box.leftovers():
        faults.append(f"left in scratch: {box.leftovers()}")
    if faults:
        return faults
    # What the messages say to do.
    (box.path / "argument").write_text("only once\n")
    tasks = sorted({task for hash in lost & world.live for task, _ in world.made[hash] if task == "noise"})
    # "the next run makes it again", then "`-B` with --only and its task", "and the next run what follows from it".
    box.run("-j2", "-k", "argument")
    if tasks:
        box.run("-j2", "-B", *(word for task in tasks for word in ("--only", task)))
    code, text = box.run("-j2", "argument")
    if code == DAMAGED:  # and its message
        box.run("repair")
        code, text = box.run("-j2", "argument")
    if code != OK or (wrong := box.verify()):
        _, left, _, _ = findings(box, "--data")
        if code != OK or not set(left) <= lost:
            faults.append(f"after doing as told: exit {code}: {text[-500:]}")
    (box.path / "argument").unlink()
    return faults


# ---- the database's own files ---------------------------------------------------------------------

PAGE = 4096


def pages(box):
    return (box.db / "db").stat().st_size // PAGE


def poke(box, at, data):
    with open(box.db / "db", "r+b") as file:
        file.seek(at)
        file.write(data)


def page_zeroed(box, chance):
    poke(box, PAGE * chance.randrange(pages(box)), bytes(PAGE))


def page_of_noise(box, chance):
    poke(box, PAGE * chance.randrange(pages(box)), chance.randbytes(PAGE))


def half_a_page(box, chance):
    poke(box, PAGE * chance.randrange(pages(box)) + PAGE // 2, chance.randbytes(PAGE // 2))


def pages_exchanged(box, chance):
    data = (box.db / "db").read_bytes()
    a, b = chance.sample(range(pages(box)), 2)
    poke(box, PAGE * a, data[PAGE * b : PAGE * (b + 1)])
    poke(box, PAGE * b, data[PAGE * a : PAGE * (a + 1)])


def bytes_flipped(box, chance):
    size = (box.db / "db").stat().st_size
    for _ in range(chance.randrange(1, 20)):
        poke(box, chance.randrange(size), bytes([chance.randrange(256)]))


def header_flipped(box, chance):
    poke(box, chance.randrange(100), bytes([chance.randrange(256)]))


def database_cut(box, chance):
    os.truncate(box.db / "db", chance.randrange(1, (box.db / "db").stat().st_size))


PAGES = [page_zeroed, page_of_noise, half_a_page, pages_exchanged, bytes_flipped, header_flipped, database_cut]
COMMANDS = [["verify", "--data"], ["status"], ["plan"], ["export", "last", "--to", "out"], ["cat", "last"], ["repair"], ["gc", "--grace", "0s"], ["log", "last"], ["-j2", "-k"]]


def swap(name, make):
    """Something else in the place of one of the database's files."""

    def damage(box, chance=None):
        path = box.db / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        make(path)

    return damage


# (name, damage, exit codes of commands that change something, of readers); {0}: it doesn't matter.
FILES = [
    ("format of a newer one", swap("format", lambda p: p.write_text("task-pipeline 99\n")), {DAMAGED}, {OK, DAMAGED}),
    ("format of noise", swap("format", lambda p: p.write_bytes(b"\xff\xfe\x00\x80" * 9)), {DAMAGED}, {OK, DAMAGED}),
    ("format a folder", swap("format", lambda p: p.mkdir()), {IO, DAMAGED}, {OK, IO, DAMAGED}),
    ("format gone", swap("format", lambda p: None), {OK}, {OK}),
    ("format empty", swap("format", lambda p: p.touch()), {OK}, {OK}),
    ("lock of noise", swap("lock", lambda p: p.write_bytes(os.urandom(300))), {OK}, {OK}),
    ("lock gone", swap("lock", lambda p: None), {OK}, {OK}),
    ("lock a folder", swap("lock", lambda p: p.mkdir()), {IO}, {OK}),
    ("lock a link to a user's file", swap("lock", lambda p: p.symlink_to(p.parent.parent / "user")), {IO}, {OK}),
    ("locks gone", swap("locks", lambda p: None), {OK}, {OK}),
    ("locks a file", swap("locks", lambda p: p.write_text("x")), {IO, OK}, {OK}),
    ("scratch a file", swap("scratch", lambda p: p.write_text("x")), {IO, OK}, {OK}),
    ("scratch a link to a user's folder", swap("scratch", lambda p: p.symlink_to(p.parent.parent / "folder")), {IO, OK}, {OK}),
    ("scratch gone", swap("scratch", lambda p: None), {OK}, {OK}),
    ("db-wal of noise", swap("db-wal", lambda p: p.write_bytes(os.urandom(50_000))), {OK}, {OK}),
    ("db-wal gone", swap("db-wal", lambda p: None), {OK}, {OK}),
    ("db-shm of noise", swap("db-shm", lambda p: p.write_bytes(os.urandom(32_768))), {OK}, {OK}),
    ("db-shm gone", swap("db-shm", lambda p: None), {OK}, {OK}),
    ("db a text", swap("db", lambda p: p.write_text("this is no database\n" * 400)), {DAMAGED}, {DAMAGED}),
    ("db a folder", swap("db", lambda p: p.mkdir()), {IO, DAMAGED}, {IO, DAMAGED}),
    ("db a database of somebody else", swap("db", lambda p: sqlite3.connect(p).executescript("CREATE TABLE theirs(x); INSERT INTO theirs VALUES (1)")), {DAMAGED}, {DAMAGED}),
    ("objects a file", swap("objects", lambda p: p.write_text("x")), {IO, DAMAGED}, {IO, DAMAGED, OK}),
]


def snapshot(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def every_command(box, what, wanted=None, sabotage=None):
    """Runs them all on a damaged database; gives (faults, whether it was noticed)."""
    faults, noticed = [], False
    (box.path / "user").write_text("mine")
    (box.path / "argument").write_text("only once\n")
    (box.path / "folder").mkdir(exist_ok=True)
    (box.path / "folder" / "precious").write_text("mine")
    objects = dict(box.objects()) if (box.db / "objects").is_dir() else {}
    verified = None
    for args in COMMANDS:
        shutil.rmtree(box.path / "out", ignore_errors=True)
        changes = args[0] in ("repair", "gc", "-j2")
        if args[0] == "gc" and verified == OK and wanted is None:
            continue  # what nobody can see, gc can't see either
        code, text = box.run(*args, patience=30)
        where = f"{what}: {' '.join(args)}: exit {code}"
        verified = code if args[0] == "verify" else verified
        noticed = noticed or code == DAMAGED
        if code not in DOCUMENTED or "panicked" in text or "internal error" in text:
            faults.append(f"{where}: {text[-500:]}")
        elif code not in (OK, FAILED) and not re.search(r"`[^`]+`|^database: |damaged|object [0-9a-f]{64}", text, re.M):
            faults.append(f"{where}: a message without a place: {text[-300:]}")
        elif wanted and code not in wanted[0 if changes else 1]:
            faults.append(f"{where} instead of {sorted(wanted[0 if changes else 1])}: {text[-300:]}")
        if args[0] in ("gc", "repair") and code == DAMAGED and verified == DAMAGED and objects != (dict(box.objects()) if (box.db / "objects").is_dir() else {}):
            faults.append(f"{where}: objects have changed on the word of a damaged database: {text[-300:]}")
    if sabotage:
        sabotage(box)
    (box.path / "argument").unlink()
    if (box.path / "user").read_text() != "mine" or (box.path / "folder" / "precious").read_text() != "mine":
        faults.append(f"{what}: a user's file behind a link was changed")
    return faults, noticed


def restored(box, what, names):
    """The old files back: everything must be as it was."""
    for name in names:
        for path in (box.db / name,):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        source = box.path / "pristine" / name
        if source.is_dir():
            shutil.copytree(source, box.db / name)
        elif source.exists():
            shutil.copyfile(source, box.db / name)
    if wrong := box.verify():
        return [f"{what}: made worse: {wrong[-600:]}"]
    return []


# ---- controls -------------------------------------------------------------------------------------


def controls(family, box, world):
    chance = family.random
    hash = next(h for h in sorted(world.made) if world.sizes[h] and not world.lost({h}))

    def with_one(kind, sabotage=None, said=None):
        renew(box)
        kind(box, place(box, hash), chance, None)
        return one_round(box, world, said if said is not None else {hash: kind.__name__}, sabotage)

    def found(faults, word):
        return any(word in fault for fault in faults)

    family.control("a damage that isn't told of", found(with_one(flip, said={}), "found by verify"))
    renew(box)
    family.control("a damage that was never done", found(one_round(box, world, {hash: "flip"}), "found by verify"))
    family.control("a repair that makes something else", found(with_one(unlink, lambda b: flip(b, place(b, hash), chance, None)), "isn't as it should be"))
    family.control("a repair that leaves files", found(with_one(unlink, lambda b: write_new(place(b, "ab" * 32))), "files below objects/"))
    family.control("a repair that forgets one", found(with_one(flip, lambda b: place(b, hash).unlink()), "isn't as it should be"))
    noise = next(h for h in world.made if world.lost({h}))
    renew(box)
    place(box, noise).unlink()
    pure = World(box)
    pure.makes = lambda task, object: True
    family.control("a lost one that is taken for repaired", found(one_round(box, pure, {noise: "unlink"}), "left by repair"))
    renew(box)
    database_cut(box, random.Random(1))
    faults, _ = every_command(box, "control", None, lambda b: place(b, hash).unlink(missing_ok=True))
    family.control("an object removed beside a damaged database", found(faults + restored(box, "control", ["db", "db-wal", "db-shm"]), "made worse"))
    renew(box)
    faults, _ = every_command(box, "control", ({DAMAGED}, {DAMAGED}))
    family.control("a database that isn't damaged", found(faults, "instead of"))


def write_new(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("stray")


def main():
    family = Family("T10")
    chance = family.random
    box = prepare()
    world = World(box)
    controls(family, box, world)
    total, kinds, rounds, lost = family.count("damages", 60, 200), collections.Counter(), 0, 0
    while sum(kinds.values()) < total:
        renew(box)
        bad = damage(box, world, chance, chance.choice([1, 1, 2, 3, 5, 8, 13, 40]))
        if not bad:
            continue
        rounds += 1
        kinds.update(bad.values())
        lost += len(world.lost({hash for hash, kind in bad.items() if kind != "chmod"}))
        for fault in one_round(box, world, bad):
            family.deviate(f"{dict(sorted(bad.items())) if len(bad) < 6 else collections.Counter(bad.values())}: {fault}")
    damages = sum(kinds.values())
    noticed = poked = 0
    count = family.count("pages", 14, 150)
    for n in range(count):
        renew(box)
        kind = PAGES[n % len(PAGES)]
        kind(box, chance)
        poked += 1
        faults, seen = every_command(box, kind.__name__)
        noticed += seen
        for fault in faults + restored(box, kind.__name__, ["db", "db-wal", "db-shm"]):
            family.deviate(fault)
    for name, harm, changing, reading in FILES:
        renew(box)
        harm(box)
        poked += 1
        # Without its database or its objects a folder has no more than what is there.
        faults, _ = every_command(box, name, (changing, reading))
        for fault in faults + restored(box, name, ["db", "db-wal", "db-shm", "format", "lock", "locks", "scratch"] + (["objects"] if name.startswith("objects") else [])):
            family.deviate(fault)
    box.remove()
    line = (
        f"{damages} damages to objects in {rounds} rounds, all found, {damages - lost} undone, {lost} without a way back listed;"
        f" {poked} to the database and its files, {noticed} of {count} to pages noticed"
    )
    family.done(line, damages=damages, rounds=rounds, lost=lost, kinds=dict(kinds), database=poked, pages_noticed=noticed)


main()
