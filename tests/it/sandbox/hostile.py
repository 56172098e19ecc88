# What a script that means harm tries. Each attempt is told in the log: refused, or that it SUCCEEDED.
import ctypes, errno, os, socket, struct

libc = ctypes.CDLL(None, use_errno=True)
out, tmp, given = os.environ["OUTPUT_DIR"], os.environ["TMPDIR"], os.environ["INPUT_FILE"]
runner, other = os.getppid(), int(os.environ["OTHER"])
worker = os.path.dirname(out)
scratch = os.path.dirname(worker)
here = os.getcwd()
tried = 0


def system(number, *args):
    result = libc.syscall(ctypes.c_long(number), *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def call(name, *args):
    result = getattr(libc, name)(*args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def attempt(what):
    def tell(function):
        global tried
        tried += 1
        try:
            function()
        except OSError as error:
            fine = (errno.EACCES, errno.EPERM, errno.EXDEV, errno.ESRCH, errno.ENXIO, errno.ESTALE)
            word = "refused" if error.errno in fine else "UNCLEAR"
            print(f"{word}: {what} ({errno.errorcode.get(error.errno, error.errno)})")
        else:
            print(f"SUCCEEDED: {what}")

    return tell


def read(path):
    with open(path, "rb") as file:
        file.read(1)


def append(path):
    with open(path, "ab") as file:
        file.write(b"x")


def write_new(path):
    with open(path, "xb") as file:
        file.write(b"x")


print("abi", libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1)))
open(out + "/mine", "w").close()

# Files that the task didn't declare.
attempt("read an undeclared file")(lambda: read("victim/secret"))
attempt("read it by its whole path")(lambda: read(here + "/victim/secret"))
attempt("read it through /proc/self/cwd")(lambda: read("/proc/self/cwd/victim/secret"))
attempt("read it through /proc/self/root")(lambda: read("/proc/self/root" + here + "/victim/secret"))
os.symlink(here + "/victim/secret", tmp + "/symlink")
attempt("read it through a symbolic link")(lambda: read(tmp + "/symlink"))
attempt("read it through a hard link")(lambda: (os.link("victim/secret", tmp + "/hard"), read(tmp + "/hard")))
attempt("execute it")(lambda: os.execv("victim/program", ["program"]))
attempt("list the manifest's folder")(lambda: os.listdir("."))
attempt("append to a file")(lambda: append("victim/secret"))
attempt("truncate a file by its path")(lambda: os.truncate("victim/secret", 0))
attempt("make a file")(lambda: write_new("victim/new"))
attempt("make a folder")(lambda: os.mkdir("victim/folder"))
attempt("make a FIFO")(lambda: os.mkfifo("victim/fifo"))
attempt("make a symbolic link")(lambda: os.symlink("x", "victim/link"))
attempt("make a hard link to an output")(lambda: os.link(out + "/mine", "victim/link"))
attempt("make a socket")(lambda: socket.socket(socket.AF_UNIX).bind("victim/bound"))
attempt("unlink a file")(lambda: os.unlink("victim/secret"))
attempt("remove a folder")(lambda: os.rmdir("victim/empty"))
attempt("rename a file")(lambda: os.rename("victim/secret", "victim/renamed"))
attempt("move a file into OUTPUT_DIR")(lambda: os.rename("victim/secret", out + "/stolen"))
attempt("move an output over a file")(lambda: os.rename(out + "/mine", "victim/secret"))
attempt("change the manifest")(lambda: append("pipeline.toml"))

# The database, and what belongs to others in it.
attempt("read the database")(lambda: read("db/db"))
attempt("write to the database")(lambda: append("db/db"))
attempt("write to its log of changes")(lambda: append("db/db-wal"))
attempt("truncate the database")(lambda: os.truncate("db/db", 0))
attempt("unlink the database")(lambda: os.unlink("db/db"))
attempt("move the database")(lambda: os.rename("db", "db.old"))
attempt("list the objects")(lambda: os.listdir("db/objects"))
attempt("read an object")(lambda: read(os.environ["OBJECT"]))
attempt("write to an object")(lambda: append(os.environ["OBJECT"]))
attempt("unlink an object")(lambda: os.unlink(os.environ["OBJECT"]))
attempt("list the run's scratch")(lambda: os.listdir(scratch))
attempt("read the script of another task")(lambda: os.listdir(worker + "/scripts"))
attempt("read the log's file")(lambda: read(worker + "/log"))
attempt("read another worker's TMPDIR")(lambda: os.listdir(os.environ["THEIRS"]))
attempt("write to another worker's TMPDIR")(lambda: write_new(os.environ["THEIRS"] + "/new"))
attempt("make a folder beside its own")(lambda: os.mkdir(worker + "/new"))
attempt("rename OUTPUT_DIR")(lambda: os.rename(out, worker + "/elsewhere"))
attempt("change its own script")(lambda: append(__file__))
attempt("write to its input")(lambda: append(given))
attempt("unlink its input")(lambda: os.unlink(given))


# Around the paths.
@attempt("open a file by its handle")
def _():
    handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 8 + 128)
    mount = ctypes.c_int()
    system(303, -100, b"victim/secret", handle, ctypes.byref(mount), 0)
    folder = os.open(out, os.O_RDONLY)
    system(304, folder, handle, os.O_RDONLY)


attempt("open what the runner has open")(lambda: read(f"/proc/{runner}/fd/0"))
attempt("read the runner's memory")(lambda: read(f"/proc/{runner}/mem"))
attempt("read the runner's environment")(lambda: read(f"/proc/{runner}/environ"))
attempt("go through the runner's root")(lambda: read(f"/proc/{runner}/root{here}/victim/secret"))
attempt("trace the runner")(lambda: call("ptrace", 16, runner, 0, 0))
attempt("trace another process")(lambda: call("ptrace", 16, other, 0, 0))


@attempt("write into the runner's memory")
def _():
    buffer = ctypes.create_string_buffer(8)
    local = struct.pack("PN", ctypes.addressof(buffer), 8)
    remote = struct.pack("PN", 0x400000, 8)
    system(311, runner, local, ctypes.c_ulong(1), remote, ctypes.c_ulong(1), ctypes.c_ulong(0))


for thread in os.listdir(f"/proc/{runner}/task"):
    if int(thread) != runner:
        attempt("trace a thread of the runner")(lambda: call("ptrace", 16, int(thread), 0, 0))
        attempt("signal a thread of the runner")(lambda: os.kill(int(thread), 0))
attempt("signal the runner")(lambda: os.kill(runner, 0))
attempt("signal another process")(lambda: os.kill(other, 0))
attempt("mount something")(lambda: call("mount", b"none", tmp.encode(), b"tmpfs", 0, None))


@attempt("mount something in a namespace of its own")
def _():
    child = os.fork()
    if child == 0:
        try:
            call("unshare", 0x10000000 | 0x20000)
            call("mount", b"none", tmp.encode(), b"tmpfs", 0, None)
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if failed:
        raise OSError(failed, os.strerror(failed))


attempt("make a block device")(lambda: os.mknod(tmp + "/disk", 0o60600, os.makedev(254, 0)))
attempt("make a character device")(lambda: os.mknod(tmp + "/mem", 0o20600, os.makedev(1, 1)))
attempt("open a terminal")(lambda: os.open("/dev/ptmx", os.O_RDWR))
attempt("write to /dev/shm")(lambda: write_new("/dev/shm/task-pipeline-hostile"))
attempt("write to /tmp")(lambda: write_new("/tmp/task-pipeline-hostile"))
attempt("write to a setting of its own in /proc")(lambda: append("/proc/self/oom_score_adj"))
attempt("write to a setting of the kernel")(lambda: append("/proc/sys/kernel/printk"))
attempt("write below /sys")(lambda: append("/sys/kernel/profiling"))


@attempt("get rights by a setuid program")
def _():
    if call("prctl", 39, 0, 0, 0, 0) != 0:
        raise OSError(errno.EPERM, "no_new_privs")


# The network, and other ways to talk.
def connect(family, address, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as one:
        one.connect(address)
        one.send(b"x")


loop = "127.0.0.1"
attempt("connect by TCP")(lambda: connect(socket.AF_INET, (loop, int(os.environ["TCP"]))))
attempt("listen by TCP")(lambda: socket.socket().bind((loop, 0)))
attempt("send by UDP")(lambda: connect(socket.AF_INET, (loop, int(os.environ["UDP"])), socket.SOCK_DGRAM))
attempt("connect to an abstract Unix socket")(lambda: connect(socket.AF_UNIX, b"\0" + os.environb[b"ABSTRACT"]))
attempt("connect to a Unix socket by its path")(lambda: connect(socket.AF_UNIX, "victim/s"))

# Of a file only names and what an inode says.
attempt("look at a file's size and times")(lambda: os.stat("victim/secret"))
attempt("change a file's mode")(lambda: os.chmod("victim/plain", 0o640))
attempt("change a file's times")(lambda: os.utime("victim/plain", (1, 1)))
attempt("change a file's owner")(lambda: os.chown("victim/plain", os.getuid(), os.getgid()))
print("tried", tried)
