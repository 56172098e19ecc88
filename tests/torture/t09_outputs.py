#!/usr/bin/env python3
"""T9: hostile and odd outputs, and hostile treatment of inputs; every row of a table.

Three steps share one scratch; the second one misbehaves. A row that is *refused* has to fail that step alone,
with a sentence that names the path (escaped) and a cure; nothing of it may be stored, what the script pointed
at must be as it was, and the cured script completes. A row that is *kept* has to come out again, in the database
and in an export, with exactly these names, bytes and executable bits. Always: no hang, no raw control characters
on a terminal, nothing left in scratch, every object alone, ours, read-only, without attributes, and proven by a row.

Inputs: a script may do what it likes to its small one; a change of a large one fails the step, and the object is
healed from its file or its producer. Names that the script keeps elsewhere are no way into the store.

T9_FILES: outputs of one step. T9_SPARSE: MiB of a sparse output. T9_RSS: KiB that the runner may use.
"""

import array
import contextlib
import mmap
import pty
import socket
import stat
import threading

from common import *
from faults import skip

def sha256(data):
    return hashlib.sha256(data).hexdigest()


IS_ROOT = os.geteuid() == 0
IMPOSSIBLE = 9  # exit code of a script whose row can't be played on this machine
LARGE = (16 << 20) + 1000  # bytes: handed out as a link where there are no clones
NEXT = MARK + 'cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME"'
ODD = """
if [ "$INPUT_NAME" = 1.txt ] && [ ! -e cured ]; then
BOX=$PWD
cd "$OUTPUT_DIR"
@ODD@
else
echo "fine $INPUT_NAME" > "$OUTPUT_DIR/$INPUT_NAME"
fi
"""
INPUT = b"input number 1\n" * 3
OBJECT = f"object=db/objects/{sha256(INPUT)[:2]}/{sha256(INPUT)[2:4]}/{sha256(INPUT)[4:]}\n"
FINE = {b"0.txt": (b"fine 0.txt\n", False), b"2.txt": (b"fine 2.txt\n", False)}


def py(code):
    """A line of shell that runs Python in OUTPUT_DIR."""
    return "python3 - <<'PYTHON' || exit 9\nimport os, socket, struct\nBOX = os.environ['BOX']\n" + code + "\nPYTHON\n"


class Row:
    """What the second script does, and what has to come of it: `refused` is what the sentence must hold, `kept`
    {name: (bytes, is executable)}, `says` what is told although it is kept."""

    def __init__(self, name, odd, refused=None, kept=None, says=(), root=False, before=None, after=None, every=True, files=None, mounts=False):
        self.name, self.odd, self.refused, self.kept, self.says, self.root = name, odd, refused, kept, says, root
        self.before, self.after, self.every, self.files = before, after, every, files
        self.mounts = mounts

    def pipeline(self):
        script = MARK + "export BOX=$PWD\n" + ODD.replace("@ODD@", self.odd)
        more = {} if self.every else {"match": ["[02].txt"]}
        return task("odd", script, inputs=["in/*.txt"]) + task("next", NEXT, **more), 3


# ---- what is looked at ----------------------------------------------------------------------------


def store_faults(box, leftovers=True):
    """Objects that are not as the store makes them, or that no row proves."""
    faults = []
    rows = {hash for (hash,) in box.query("SELECT lower(hex(hash)) FROM object")}
    for name, hash in box.objects():
        path = box.db / "objects" / name
        found = path.lstat()
        if name.replace("/", "") != hash:
            faults.append(f"object {name} has other bytes")
        if hash not in rows:
            faults.append(f"object {name} is stored, and no row proves it")
        if found.st_mode != stat.S_IFREG | 0o444:
            faults.append(f"object {name} has the mode {found.st_mode:o}")
        if found.st_nlink != 1 or found.st_uid != os.geteuid():
            faults.append(f"object {name} has {found.st_nlink} names and the owner {found.st_uid}")
        if attributes := [name for name in os.listxattr(path) if not name.startswith("security.") or name.endswith("capability")]:
            faults.append(f"object {name} has attributes: {attributes}")
    if leftovers and box.leftovers():
        faults.append(f"left in scratch: {box.leftovers()}")
    if wrong := box.verify():
        faults.append(wrong)
    return faults


def outputs(box, task="odd"):
    """{name: (bytes, is executable)} of a task's outputs, from rows and objects."""
    sql = "SELECT CAST(o.name AS BLOB), lower(hex(o.object)), o.executable FROM output o JOIN step s ON s.id = o.step JOIN task t ON t.id = s.task WHERE t.name = ? AND s.live = 1 AND s.state = 1"
    found = {}
    for name, hash, executable in box.query(sql, task):
        path = object_path(box.db, hash)
        found[bytes(name)] = (path.read_bytes() if path.stat().st_size < 1 << 25 else None, bool(executable))
    return found


def tree(folder):
    """The same of a folder."""
    root, found = os.fsencode(folder), {}
    # By descriptor, because a path of 4,096 bytes below the folder is too long for one call.
    for path, _, names, dir_fd in os.fwalk(root):
        for name in names:
            if name == b".task-pipeline-export":
                continue
            below = os.path.join(path, name)[len(root) + 1 :]
            found_stat = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
            if not stat.S_ISREG(found_stat.st_mode):
                found[below] = "not a file"
                continue
            with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=dir_fd), "rb") as file:
                data = file.read() if found_stat.st_size < 1 << 25 else None
            found[below] = (data, bool(found_stat.st_mode & 0o111))
    return found


def differing(want, got):
    """"" if both are the same, else what differs."""
    if want == got:
        return ""
    missing, extra = sorted(want.keys() - got.keys()), sorted(got.keys() - want.keys())
    other = [name for name in want.keys() & got.keys() if want[name] != got[name]]
    return f"missing {missing[:3]}, too many {extra[:3]}, different {[(name, str(got[name])[:80]) for name in sorted(other)[:3]]}"


def raw(text):
    """"" unless control characters reached the terminal."""
    found = re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)
    return f"a raw {found[0]!r} in {text[max(0, found.start() - 60):found.end() + 20]!r}" if found else ""


# ---- one row --------------------------------------------------------------------------------------


def refusal_faults(row, code, text):
    """What is wrong with how a refusal is told."""
    faults = []
    if code != FAILED:
        faults.append(f"exit {code} instead of 1: {text[-600:]}")
    line = next((line for line in text.splitlines() if "FAILED" in line or ": failed" in line), "")
    for part in row.refused:
        if part not in text:
            faults.append(f"the message lacks {part!r}: {line or text[-600:]}")
    if "panicked" in text or "internal error" in text:
        faults.append(f"a panic: {text}")
    if wrong := raw(text):
        faults.append(wrong)
    return faults


def play(row, sabotage=None, patience=PATIENCE):
    """Gives what was wrong, or None if the row can't be played here."""
    box = Box(row.pipeline(), "t09")
    faults = []
    with contextlib.ExitStack() as stack:
        stack.callback(box.remove)
        for name, data in (row.files or {}).items():
            (box.path / name).write_bytes(data)
        if row.before:
            row.before(box, stack)
        code, text = box.run("-j1", "-k", patience=patience)
        if f"exit code {IMPOSSIBLE}" in text:
            return None
        if code == "hangs":
            return [f"hangs: {text}"]
        if sabotage:
            text = sabotage(box, text) or text
        if row.refused is not None:
            faults += refusal_faults(row, code, text)
            if wrong := differing(FINE, outputs(box)):
                faults.append(f"outputs after a refusal: {wrong}")
            if wrong := differing(FINE, outputs(box, "next")):
                faults.append(f"the next step after a refusal: {wrong}")
            # What is mounted in scratch can't be removed; the next run tries again.
            faults += store_faults(box, not row.mounts)
            if wrong := raw(box.run("log", "--failed")[1]) or raw(box.run("status")[1]):
                faults.append(wrong)
            if row.after:
                faults += row.after(box) or []
            # The cure.
            (box.path / "cured").touch()
            size = box.ledger.stat().st_size
            code, text = box.run("-j1")
            if code != OK or box.ledger.stat().st_size != size + 2 * 65:
                faults.append(f"the cured run: exit {code}, {(box.ledger.stat().st_size - size) // 65} scripts: {text[-600:]}")
            want = FINE | {b"1.txt": (b"fine 1.txt\n", False)}
        else:
            if code != OK:
                faults.append(f"exit {code} instead of 0: {text[-600:]}")
            faults += [f"it isn't said: {part!r}: {text[-600:]}" for part in row.says if part not in text]
            if wrong := raw(text):
                faults.append(wrong)
            want = FINE | row.kept
            if row.after:
                faults += row.after(box) or []
        if faults:
            return faults
        for name in ("odd", "next"):
            wanted = want if name == "odd" or row.every else {k: v for k, v in want.items() if k in FINE}
            if wrong := differing(wanted, outputs(box, name)):
                faults.append(f"outputs of {name}: {wrong}")
        code, text = box.run("export", "odd", "--to", "out")
        wrong = differing(want, tree(box.path / "out"))
        if code != OK or wrong:
            faults.append(f"export: exit {code}: {text[-300:]}: {wrong}")
        faults += store_faults(box, not row.mounts or row.refused is not None)
        code, text = box.run("-j1")
        if code != OK or "nothing to do" not in text:
            faults.append(f"a further run: exit {code}: {text[-300:]}")
    return faults


# ---- strangers and fixtures -----------------------------------------------------------------------


def stranger(mapped):
    """Somebody outside the step who gets the output's descriptor over a socket, and keeps it or a mapping of it."""

    def before(box, stack):
        server = socket.socket(socket.AF_UNIX)
        os.chdir(box.path)  # a short path for a socket
        server.bind("stranger")
        server.listen(1)
        held = []

        def serve():
            with contextlib.suppress(OSError):
                peer, _ = server.accept()
                _, ancillary, _, _ = peer.recvmsg(1, socket.CMSG_SPACE(4))
                fd = array.array("i", ancillary[0][2])[0]
                if mapped:
                    held.append(mmap.mmap(fd, 4, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE))
                    os.close(fd)
                else:
                    held.append(os.fdopen(fd, "r+b"))
                peer.sendall(b"x")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()

        def stop():
            server.close()
            for thing in held:
                thing.close()

        stack.callback(stop)

    return before


PASSED_ON = py("""
fd = os.open("busy", os.O_RDWR | os.O_CREAT)
os.write(fd, b"data")
peer = socket.socket(socket.AF_UNIX)
peer.connect(BOX + "/stranger")
socket.send_fds(peer, [b"f"], [fd])
os.close(fd)
peer.recv(1)
""")


def unmount(box):
    for line in reversed(pathlib.Path("/proc/self/mounts").read_text().splitlines()):
        place = line.split()[1]
        if place.startswith(f"{box.path}/"):
            subprocess.run(["umount", "-l", place], check=True)


def mounts(name, odd, refused=None, kept=None, more=()):
    """A row whose script mounts something, `tree` of the box among it. That stays mounted, being the user's
    business; and whatever is removed, nothing may be removed through it."""

    def before(box, stack):
        (box.path / "tree").mkdir()
        (box.path / "tree" / "f").write_bytes(SMALL_ONE)
        stack.callback(unmount, box)

    def after(box):
        unmount(box)
        return untouched("elsewhere", SMALL_ONE)(box) + untouched("tree/f", SMALL_ONE)(box) + list(more)

    return Row(name, odd, refused, kept, root=True, files={"elsewhere": SMALL_ONE}, before=before, after=after, mounts=True)


def untouched(name, data):
    """After a step: a file of the box that has to be as it was."""

    def after(box):
        found = (box.path / name).read_bytes() if (box.path / name).exists() else None
        return [] if found == data else [f"{name} is no longer what it was: {found!r}"]

    return after


def written_to(name, data, writes=True):
    """The other name of an output is the script's business: written to afterwards, it must not reach the store."""

    def after(box):
        found = untouched(name, data)(box)
        if writes and not found:
            os.chmod(box.path / name, 0o644)
            with open(box.path / name, "r+b") as file:
                file.write(b"harm")
        return found + store_faults(box)

    return after


SMALL_ONE = b"elsewhere\n"


def rows(family):
    files, sparse = family.count("files", 2_000, 100_000), family.count("sparse", 64, 10_240)
    link = "links are not stored; copy the file (cp -L)"
    kind = "only regular files can be kept; remove it, or use TMPDIR"
    gone = 'empty it with rm -rf "$OUTPUT_DIR"/* and leave the folder itself'
    esc = b"a\x1b]0;owned\x07\x1b[31m"
    yield from [
        # Refused: links.
        Row("symlink to an output", "echo x > real; ln -s real link", ["output `link` is a symbolic link to `real`", link]),
        Row("symlink to a file elsewhere", "ln -s /etc/passwd link", ["output `link` is a symbolic link to `/etc/passwd`", link]),
        Row("symlink up and out", "mkdir d; ln -s ../../../../elsewhere d/up", ["output `d/up` is a symbolic link to `../../../../elsewhere`", link], files={"elsewhere": SMALL_ONE}, after=untouched("elsewhere", SMALL_ONE)),
        Row("dangling symlink", "ln -s nowhere link", ["output `link` is a symbolic link to `nowhere`", link]),
        Row("symlink to a folder", "mkdir -p d/e; ln -s d e", ["output `e` is a symbolic link to `d`", link]),
        Row("symlink to itself", "ln -s loop loop", ["output `loop` is a symbolic link to `loop`", link]),
        Row("symlink with a name that draws", "mkdir d; ln -s \"$(printf 'to\\033[2Jgo\\nx')\" \"$(printf 'd/a\\nb\\033[31m')\"", ["output `d/a\\nb\\x1b[31m` is a symbolic link to `to\\x1b[2Jgo\\nx`", link]),
        Row("symlink among good outputs", "echo 1 > a; echo 2 > z; mkdir b; echo 3 > b/f; ln -s ../a b/link", ["output `b/link`", link]),
        # Refused: no regular files.
        Row("FIFO", "mkfifo f", ["output `f` is a FIFO", kind]),
        Row("FIFO in a folder, with a name that is no text", "mkdir d; mkfifo \"$(printf 'd/\\377')\"", ["output `d/\\xff` is a FIFO", kind]),
        Row("socket", py("socket.socket(socket.AF_UNIX).bind('s')"), ["output `s` is a socket", kind]),
        Row("character device", "mknod n c 1 5 || exit 9", ["output `n` is a device", kind], root=True),
        Row("block device", "mknod n b 7 250 || exit 9", ["output `n` is a device", kind], root=True),
        # Refused: OUTPUT_DIR.
        Row("OUTPUT_DIR removed", 'cd /; rm -r "$OUTPUT_DIR"', ["OUTPUT_DIR (`/", "was removed or renamed", gone]),
        Row("OUTPUT_DIR renamed", 'cd /; mv "$OUTPUT_DIR" "$OUTPUT_DIR.old"', ["was removed or renamed", gone]),
        Row("OUTPUT_DIR and all about it removed", 'cd /; rm -r "${OUTPUT_DIR%/*}"', ["was removed or renamed", gone]),
        Row("OUTPUT_DIR replaced by a folder", 'cd /; rm -r "$OUTPUT_DIR"; mkdir "$OUTPUT_DIR"; echo x > "$OUTPUT_DIR/x"', ["was replaced", gone]),
        Row("OUTPUT_DIR replaced by a file", 'cd /; rm -r "$OUTPUT_DIR"; echo x > "$OUTPUT_DIR"', ["was replaced", gone]),
        Row("OUTPUT_DIR replaced by a link", 'cd /; mkdir "$BOX/decoy"; cp "$BOX/elsewhere" "$BOX/decoy/kept"; rm -r "$OUTPUT_DIR"; ln -s "$BOX/decoy" "$OUTPUT_DIR"', ["was replaced", gone], files={"elsewhere": SMALL_ONE}, after=untouched("decoy/kept", SMALL_ONE)),
        Row("OUTPUT_DIR replaced by a link to /", 'cd /; rm -r "$OUTPUT_DIR"; ln -s / "$OUTPUT_DIR"', ["was replaced", gone]),
        Row("OUTPUT_DIR exchanged for TMPDIR", 'cd /; mv "$OUTPUT_DIR" "$OUTPUT_DIR.old"; mv "$TMPDIR" "$OUTPUT_DIR"; mv "$OUTPUT_DIR.old" "$TMPDIR"', ["was replaced", gone]),
        # Refused: somebody writes.
        Row("descriptor passed to a stranger", PASSED_ON, ["output `busy` is still open for writing somewhere outside this step", "wait for the writer"], before=stranger(False)),
        Row("mapping of a stranger", PASSED_ON, ["output `busy` is still open for writing somewhere outside this step", "wait for the writer"], before=stranger(True)),
        # Refused: names and depths.
        Row("path of 4,097 bytes", py("for _ in range(16):\n    os.mkdir('x' * 254)\n    os.chdir('x' * 254)\nopen('y' * 17, 'w').write('deep')"), ["has a name of 4097 bytes, and 4096 is the most; shorten it"]),
        Row("65 folders deep", py("for _ in range(65):\n    os.mkdir('d')\n    os.chdir('d')\nopen('f', 'w')"), ["lies more than 64 folders deep", "pack them into an archive"]),
        Row("3,000 folders deep", py("for _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\nopen('f', 'w')"), ["lies more than 64 folders deep", "pack them into an archive"]),
        # Refused: what even root may not move.
        Row("immutable file", "echo x > f; chattr +i f || exit 9", ["output `f` is immutable or append-only", "chattr -i -a"], root=True),
        Row("append-only file", "echo x > f; chattr +a f || exit 9", ["output `f` is immutable or append-only", "chattr -i -a"], root=True),
        Row("immutable folder", "mkdir d; echo x > d/f; chattr +i d || exit 9", ["output `d", "immutable or append-only", "chattr -i -a"], root=True),
        Row("immutable hard link", "ln \"$BOX/elsewhere\" f; chattr +i f || exit 9", ["output `f` is immutable or append-only", "chattr -i -a"], root=True, files={"elsewhere": SMALL_ONE}, after=untouched("elsewhere", SMALL_ONE)),
    ]
    yield from [
        # Kept exactly: names.
        Row("sub-directories", "mkdir -p a/b/c empty/er; echo 1 > a/b/c/f; echo 2 > a/f; echo 3 > f", kept={b"a/b/c/f": (b"1\n", False), b"a/f": (b"2\n", False), b"f": (b"3\n", False)}),
        Row("empty files", ": > a; mkdir d; : > d/b", kept={b"a": (b"", False), b"d/b": (b"", False)}),
        Row("no output at all", ":", kept={}),
        Row("only empty folders", "mkdir -p a/b c", kept={}),
        Row("names that are no text", py("open(b'\\xff\\xfe', 'w').write('1')\nos.mkdir(b'\\x80')\nopen(b'\\x80/\\xc3\\x28', 'w').write('2')"), kept={b"\xff\xfe": (b"1", False), b"\x80/\xc3\x28": (b"2", False)}),
        Row("names with newlines, tabs and drawing", py(f"open(b'a\\nb', 'w').write('1')\nopen(b'\\t', 'w').write('2')\nopen({esc!r}, 'w').write('3')\nopen(b'\\r\\n', 'w').write('4')"), kept={b"a\nb": (b"1", False), b"\t": (b"2", False), esc: (b"3", False), b"\r\n": (b"4", False)}),
        Row("names that look like something else", py("for n in ['-rf', '...', '..x', ' ', '*', '$HOME', '`id`', '\\\\', '\"', \"'\", 'lost+found', '.nfs0001', '.hidden', 'a~2', '%s', 'NUL']:\n    open(n, 'w').write(n)"), kept={os.fsencode(n): (os.fsencode(n), False) for n in ["-rf", "...", "..x", " ", "*", "$HOME", "`id`", "\\", '"', "'", "lost+found", ".nfs0001", ".hidden", "a~2", "%s", "NUL"]}),
        Row("twins but for case and for normal form", py("for n in ['name', 'NAME', 'Name', '\\u00e9', 'e\\u0301']:\n    open(n, 'w').write(n)"), kept={n.encode(): (n.encode(), False) for n in ["name", "NAME", "Name", "\u00e9", "e\u0301"]}),
        Row("name of 255 bytes", py("open('n' * 255, 'w').write('1')"), kept={b"n" * 255: (b"1", False)}),
        Row("path of 4,096 bytes, as deep as a path goes", py("for _ in range(16):\n    os.mkdir('x' * 254)\n    os.chdir('x' * 254)\nopen('y' * 16, 'w').write('deep')"), kept={b"/".join([b"x" * 254] * 16 + [b"y" * 16]): (b"deep", False)}, every=False),
        Row("64 folders deep", py("for _ in range(64):\n    os.mkdir('d')\n    os.chdir('d')\nopen('f', 'w').write('1')"), kept={b"d/" * 64 + b"f": (b"1", False)}),
        # Kept, modes and attributes stripped.
        Row("executable bit", "for m in 755 700 711 654 601 644 400; do echo $m > $m; chmod $m $m; done", kept={str(m).encode(): (b"%d\n" % m, m not in (644, 400)) for m in (755, 700, 711, 654, 601, 644, 400)}),
        Row("setuid, setgid, sticky", "for m in 4755 2644 1644 7777; do echo $m > $m; chmod $m $m; done", kept={str(m).encode(): (b"%d\n" % m, m in (4755, 7777)) for m in (4755, 2644, 1644, 7777)}, says=["output `4755` has lost its setuid or setgid bit", "`2644` has lost", "`7777` has lost"]),
        Row("extended attributes", py("open('f', 'w').write('1')\nfor n in range(20):\n    os.setxattr('f', f'user.note{n}', b'x' * 50)"), kept={b"f": (b"1", False)}),
        Row("very many extended attributes", py("open('f', 'w').write('1')\nfor n in range(100):\n    os.setxattr('f', f'user.note{n:03}', b'x' * 8)"), kept={b"f": (b"1", False)}),
        Row("access list", py("open('f', 'w').write('1')\nacl = struct.pack('<I' + 'HHI' * 5, 2, 1, 6, 0xffffffff, 2, 7, 12345, 4, 4, 0xffffffff, 16, 7, 0xffffffff, 32, 4, 0xffffffff)\nos.setxattr('f', 'system.posix_acl_access', acl)\nassert 'system.posix_acl_access' in os.listxattr('f')"), kept={b"f": (b"1", True)}),
        Row("file capability", py("open('f', 'w').write('1')\nos.setxattr('f', 'security.capability', struct.pack('<IIIII', 0x02000001, 1 << 13, 0, 0, 0))"), kept={b"f": (b"1", False)}, root=True),
        Row("unreadable files and folders", "mkdir d; echo 1 > d/f; echo 2 > g; echo 3 > x; chmod 0 d/f g d; chmod 100 x", kept={b"d/f": (b"1\n", False), b"g": (b"2\n", False), b"x": (b"3\n", True)}),
        Row("immutable OUTPUT_DIR", "echo x > f; chattr +i . || exit 9", kept={b"f": (b"x\n", False)}, root=True),
        Row("append-only OUTPUT_DIR, nothing in it", "chattr +a . || exit 9", kept={}, root=True),
        Row("immutable TMPDIR", 'echo x > "$TMPDIR/x"; chattr +i "$TMPDIR/x" "$TMPDIR" || exit 9', kept={}, root=True),
        Row("immutable input and folder of it", 'chattr +i "$INPUT_FILE" "${INPUT_FILE%/*}" || exit 9', kept={}, root=True),
        Row("unwritable OUTPUT_DIR", "echo 1 > f; chmod 500 .", kept={b"f": (b"1\n", False)}),
        # Copied, not adopted.
        Row("hard link to the small input", 'ln "$INPUT_FILE" f; ln "$INPUT_FILE" "$BOX/kept"', kept={b"f": (INPUT, False)}, after=written_to("kept", INPUT)),
        Row("hard link to a file elsewhere", 'ln "$BOX/elsewhere" f', kept={b"f": (SMALL_ONE, False)}, files={"elsewhere": SMALL_ONE}, after=written_to("elsewhere", SMALL_ONE)),
        Row("hard link to a large file elsewhere", 'ln "$BOX/elsewhere" f', kept={b"f": (b"L" * LARGE, False)}, files={"elsewhere": b"L" * LARGE}, after=written_to("elsewhere", b"L" * LARGE)),
        Row("outputs that are links to each other", "echo twin > a; ln a b; mkdir d; ln a d/c; chmod +x a", kept={b"a": (b"twin\n", True), b"b": (b"twin\n", True), b"d/c": (b"twin\n", True)}),
        Row("hard link to an object", OBJECT + 'ln "$BOX/$object" f; cat f > copy', kept={b"f": (INPUT, False), b"copy": (INPUT, False)}),
        Row("an object moved out of the store", OBJECT + 'mv "$BOX/$object" f', kept={b"f": (INPUT, False)}),
        Row("another owner's file", "echo 1 > f; mkdir d; echo 2 > d/g; chown 12345:12345 f d d/g; chmod 600 f; chmod +x d/g", kept={b"f": (b"1\n", False), b"d/g": (b"2\n", True)}, root=True),
        Row("the input moved to the outputs", 'mv "$INPUT_FILE" f', kept={b"f": (INPUT, False)}),
        # Much.
        Row("many files", py(f"for n in range({files}):\n    if n % 1000 == 0:\n        os.mkdir(str(n // 1000))\n    open(f'{{n // 1000}}/{{n}}', 'w').write(str(n % 5000))"), kept={b"%d/%d" % (n // 1000, n): (b"%d" % (n % 5000), False) for n in range(files)}, every=False),
        Row("sparse file", f"truncate -s {sparse}M f; echo end >> f", kept={b"f": (None, False) if sparse >= 32 else (bytes(sparse << 20) + b"end\n", False)}, every=False),
        Row("sparse file in holes", "truncate -s 3M f; printf x | dd of=f bs=1 seek=2000000 conv=notrunc 2> /dev/null", kept={b"f": (bytes(2_000_000) + b"x" + bytes((3 << 20) - 2_000_001), False)}),
    ]
    mount = "is a mount point; unmount it before the script ends"
    yield from [
        mounts("file system mounted inside", "mkdir d; mount -t tmpfs none d || exit 9; echo x > d/f", ["output `d` " + mount]),
        mounts("folder of the same disk mounted inside", 'mkdir d; mount --bind "$BOX/tree" d || exit 9', ["output `d` " + mount]),
        mounts("file mounted inside", ': > f; mount --bind "$BOX/elsewhere" f || exit 9', ["output `f` " + mount]),
        mounts("file system mounted over OUTPUT_DIR", 'cd /; mount -t tmpfs none "$OUTPUT_DIR" || exit 9; echo x > "$OUTPUT_DIR/f"', ["was replaced"]),
        mounts("folder mounted over OUTPUT_DIR", 'cd /; mount --bind "$BOX/tree" "$OUTPUT_DIR" || exit 9', ["was replaced"]),
        mounts("folder mounted in TMPDIR", 'mkdir "$TMPDIR/d"; mount --bind "$BOX/tree" "$TMPDIR/d" || exit 9', kept={}),
        mounts("folder mounted over TMPDIR", 'mount --bind "$BOX/tree" "$TMPDIR" || exit 9', kept={}),
        mounts("folder mounted over the input's", 'mount --bind "$BOX/tree" "${INPUT_FILE%/*}" || exit 9', kept={}),
    ]


# ---- inputs ---------------------------------------------------------------------------------------

FORCE = 'chmod u+w "$INPUT_FILE"; '
# (name, script, changes the bytes of the input)
DEEDS = [
    ("rewritten", FORCE + 'printf harm | dd of="$INPUT_FILE" conv=notrunc 2> /dev/null', True),
    ("rewritten at the end", FORCE + 'printf harm | dd of="$INPUT_FILE" conv=notrunc bs=1 seek=900 2> /dev/null', True),
    ("truncated", FORCE + ': > "$INPUT_FILE"', True),
    ("shortened by a byte", FORCE + 'truncate -s -1 "$INPUT_FILE"', True),
    ("appended to", FORCE + 'echo harm >> "$INPUT_FILE"', True),
    ("mapped and written", FORCE + "python3 -c 'import mmap, os; f = open(os.environ[\"INPUT_FILE\"], \"r+b\"); mmap.mmap(f.fileno(), 4)[:] = b\"harm\"'", True),
    ("rewritten, its times put back", FORCE + 'touch -r "$INPUT_FILE" "$TMPDIR/t"; printf harm | dd of="$INPUT_FILE" conv=notrunc 2> /dev/null; touch -r "$TMPDIR/t" "$INPUT_FILE"', True),
    ("moved to the outputs and appended to", 'mv "$INPUT_FILE" "$OUTPUT_DIR/moved"; chmod u+w "$OUTPUT_DIR/moved"; echo harm >> "$OUTPUT_DIR/moved"', True),
    ("moved away", 'mv "$INPUT_FILE" "$BOX/taken"', False),
    ("linked elsewhere", 'ln "$INPUT_FILE" "$BOX/taken"', False),
    ("linked elsewhere, then removed", 'ln "$INPUT_FILE" "$BOX/taken"; rm "$INPUT_FILE"', False),
    ("made writable", 'chmod 777 "$INPUT_FILE"', False),
    ("made unreadable", 'chmod 0 "$INPUT_FILE"', False),
    ("touched", 'touch -d 2001-01-01 "$INPUT_FILE"', False),
    ("removed", 'rm -f "$INPUT_FILE"', False),
    ("replaced by a folder", 'rm -f "$INPUT_FILE"; mkdir "$INPUT_FILE"; : > "$INPUT_FILE/x"', False),
    ("replaced by another file", 'cp "$INPUT_FILE" "$TMPDIR/x"; rm -f "$INPUT_FILE"; echo harm > "$INPUT_FILE"', False),
]


def deed(family, name, script, size, changes, source, sabotage=None):
    """One deed on an input of so many bytes, that came from a file, from a step, or from standard input."""
    data = (b"%08d" % family.random.randrange(10**8) + b"i" * size)[:size]
    body = 'export BOX=$PWD\nif [ "$INPUT_NAME" != 2.txt ] && [ ! -e cured ]; then\n' + script + '\nelse wc -c < "$INPUT_FILE" > "$OUTPUT_DIR/size"\nfi'
    if source == "file":
        text = task("harm", MARK + body, inputs=["in/[12].txt"])
    elif source == "stdin":
        text = task("harm", MARK + body)
    else:
        text = task("make", MARK + 'cat "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"', inputs=["in/[12].txt"]) + task("harm", MARK + body)
    text += task("next", MARK + 'cat "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"')
    faults = []
    with Box((text, 3), "t09") as box:
        for n in (1, 2):
            (box.path / "in" / f"{n}.txt").write_bytes(data if n == 1 else data[::-1])
        if source == "stdin":
            process = box.start("-j1", "-k", "-", stdin=subprocess.PIPE)
            out, _ = process.communicate(data, timeout=PATIENCE)
            code, said = process.returncode, out.decode(errors="replace")
        else:
            code, said = box.run("-j1", "-k")
        if sabotage:
            code, said = sabotage(box, code, said)
        if source != "stdin" and (box.path / "in" / "1.txt").read_bytes() != data:
            faults.append("the user's own file was changed")
        # A file system with clones gives a private copy of a large one, too.
        is_told = code == FAILED and "was modified, and inputs of 16 MiB and more are no private copies here" in said and "step" in said
        if changes and size > 16 << 20:
            if not is_told:
                faults.append(f"exit {code}: {said[-500:]}")
        elif code != OK:
            faults.append(f"exit {code} instead of 0: {said[-500:]}")
        if changes and size > 16 << 20 and source == "stdin":
            # Nothing can bring it back: that must be told, by the run and by verify.
            if "not repaired: no step makes it; put the input file back and run again" not in said:
                faults.append(f"that it is lost isn't told: {said[-500:]}")
            verdict, text = box.run("verify", "--data")
            if verdict != DAMAGED:
                faults.append(f"verify: exit {verdict}: {text}")
            return faults
        if (box.path / "taken").exists():
            if (box.path / "taken").read_bytes() != data:
                faults.append("what was taken is not the input")
            os.chmod(box.path / "taken", 0o644)
            with open(box.path / "taken", "r+b") as file:
                file.write(b"harm afterwards")
        faults += store_faults(box)
        (box.path / "cured").touch()
        if source == "stdin":
            return faults
        code, said = box.run("-j1", *([] if changes and size > 16 << 20 else ["-B"]))
        got = outputs(box, "harm").get(b"size", (None, None))[0]
        if code != OK or got != b"%d\n" % size:
            faults.append(f"the cured run: exit {code}, {got!r}: {said[-500:]}")
        faults += store_faults(box)
    return faults


# ---- terminals, memory ----------------------------------------------------------------------------


def on_a_terminal(script):
    """All that a run prints on a terminal."""
    with Box(Row("", script).pipeline(), "t09") as box:
        master, slave = pty.openpty()
        process = box.start("-j1", "-k", stdout=slave, stderr=slave)
        os.close(slave)
        said = b""
        with contextlib.suppress(OSError):  # EIO when the last one has closed it
            while piece := os.read(master, 65536):
                said += piece
        process.wait(timeout=PATIENCE)
        os.close(master)
        return said


def draws(said):
    """True if the sequences of the hostile name reached the terminal."""
    return b"\x1b]0;" in said or b"\x07" in said or b"\x1b[31m" in said


def peak(row):
    """(exit code, peak memory in KiB) of a run of this row: of the runner alone, since its last exec."""
    with Box(row.pipeline(), "t09") as box:
        process = box.start("-j1", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        highest = 0
        while process.poll() is None:
            with contextlib.suppress(OSError):
                found = re.search(r"VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{process.pid}/status").read_text())
                highest = max(highest, int(found[1])) if found else highest
            time.sleep(0.002)
        return process.returncode, highest


def controls(family, odd):
    by_name = {row.name: row for row in odd}

    def spoilt(name, sabotage, word, **more):
        row = by_name[name]
        faults = play(Row(row.name, more.pop("odd", row.odd), row.refused, row.kept, row.says, files=row.files, **more), sabotage)
        family.control(f"{word}", faults and any(word in fault for fault in faults))

    def stray(box, text):
        path = object_path(box.db, "ab" + "0" * 62)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")

    def first(box):
        return box.db / "objects" / box.objects()[0][0]

    def bytes_of(box, text):
        path = first(box)
        path.chmod(0o644)
        path.write_bytes(b"harm")
        path.chmod(0o444)

    def extra_name(box, text):
        os.link(first(box), box.path / "alias")

    spoilt("FIFO", None, "instead of 1", odd="echo x > f")
    spoilt("sub-directories", None, "instead of 0", odd="exit 3")
    spoilt("empty files", None, "outputs of odd", odd=": > a; mkdir d; echo > d/b")
    spoilt("executable bit", None, "different", odd=by_name["executable bit"].odd + "; chmod -x 711")
    spoilt("FIFO", lambda box, text: text.replace("use TMPDIR", ""), "the message lacks")
    spoilt("FIFO", lambda box, text: text + "\x1b[31m", "a raw")
    spoilt("FIFO", stray, "no row proves it")
    spoilt("FIFO", bytes_of, "has other bytes")
    spoilt("FIFO", lambda box, text: first(box).chmod(0o644), "has the mode")
    spoilt("FIFO", extra_name, "has 2 names")
    spoilt("FIFO", lambda box, text: (box.scratch / "left").touch(), "left in scratch")
    spoilt("OUTPUT_DIR replaced by a link", lambda box, text: (box.path / "decoy" / "kept").unlink(), "no longer what it was", after=by_name["OUTPUT_DIR replaced by a link"].after)
    if IS_ROOT or os.access("/", os.W_OK):
        spoilt("FIFO", lambda box, text: os.setxattr(first(box), "user.x", b"1"), "has attributes")
    family.control("a script that never ends", (play(Row("", "sleep 100", ["x"]), patience=1) or [""])[0].startswith("hangs"))
    family.control("a terminal that is drawn on", draws(on_a_terminal("").replace(b"manifest", b"\x1b]0;owned\x07")))
    family.control("a peak of memory", peak(by_name["no output at all"])[1] > 1)

    # A step that writes to the object itself, not to its input: the checks of the store must see it.
    def harmed(box, code, said):
        bytes_of(box, said)
        return code, said

    faults = deed(family, "", ":", 1000, False, "file", harmed)
    family.control("an object harmed by a step", any("has other bytes" in fault for fault in faults))
    faults = deed(family, "", ":", LARGE, True, "file")
    family.control("a change that isn't told", any(fault.startswith("exit 0") for fault in faults))


def main():
    family = Family("T9")
    odd = list(rows(family))
    skipped, counts = [], {"refused": 0, "kept": 0}
    controls(family, odd)
    for row in odd:
        if row.root and not IS_ROOT:
            skipped.append(row.name)
            continue
        faults = play(row, patience=600)
        if faults is None:
            skipped.append(row.name)
            continue
        counts["kept" if row.refused is None else "refused"] += 1
        for fault in faults:
            family.deviate(f"{row.name}: {fault}")
    deeds = 0
    for name, script, changes in DEEDS:
        for size, source in ((1000, "file"), (LARGE, "file"), (LARGE, "step"), (LARGE, "stdin")):
            if source == "stdin" and not family.is_full and name not in ("rewritten", "moved away"):
                continue
            deeds += 1
            for fault in deed(family, name, script, size, changes, source):
                family.deviate(f"input of {size} bytes from a {source} {name}: {fault}")
    for script in (py("open(b'a\\x1b]0;owned\\x07\\x1b[31m', 'w').write('1')"), py("os.mkfifo(b'a\\x1b]0;owned\\x07\\x1b[31m')"), "printf '\\033]0;owned\\007\\033[31m'; exit 1"):
        said = on_a_terminal(script)
        family.expect(not draws(said), f"a terminal is drawn on by {script!r}: {said[-600:]!r}")
        family.expect(b"3 " in said or b"step" in said, f"nothing was said: {said!r}")
    limit, peaks = family.count("rss", 65_536, 65_536), {}
    for row in odd:
        if row.name in ("many files", "sparse file"):
            code, kib = peak(row)
            peaks[row.name] = kib
            family.expect(code == OK and kib <= limit, f"{row.name}: exit {code}, {kib} KiB of memory, {limit} are the most")
    if skipped:
        skip("T9", f"rows that this machine can't play: {', '.join(skipped)}")
    line = f"{counts['refused']} rows refused, {counts['kept']} kept, {deeds} deeds on inputs, {len(skipped)} rows skipped; at most {max(peaks.values()) >> 10} MiB of memory"
    family.done(line, **counts, deeds=deeds, peaks=peaks)


main()
