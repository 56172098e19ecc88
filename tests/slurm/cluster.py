"""A real Slurm cluster on one machine: every node a slurmd in a network namespace of its own, with its own host name,
/tmp, /var/tmp and /dev/shm. So a node can be cut off, killed and started again, and nothing that a run does can lean on
what nodes of a real cluster don't share.

Everything it makes lies in one folder below /var/lib, but for the namespaces and a bridge; nothing below /etc is
touched, and none of the machine's own Slurm daemons, if there are any. Several clusters can be up at once, each with a
number, from which its names, addresses and ports follow.
"""

import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BASE = "/var/lib"  # not /tmp, which nodes have of their own
LOCKS = "/run"
MOST = 16  # clusters at once

OWN = ("slurmstepd", "slurmd", "sshfs", "ssh")  # processes of a node that belong to it

NEEDED = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "munged": "munge",
    "sbatch": "slurm-client",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}


def missing(needed=NEEDED):
    """Debian's packages that have to be installed, or [] if all is there."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    return sorted({package for command, package in needed.items() if not shutil.which(command, path=path)})


def obstacle():
    """Why there can be no cluster on this machine; "" if there can."""
    if os.getuid() != 0:
        return "a cluster needs root, for its network namespaces"
    if lacking := missing():
        return f"not installed: {' '.join(lacking)}"
    name = f"tpprobe{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"this machine allows no network namespaces: {made.stderr.strip()}"
    # Entering one needs more rights than making it.
    entered = subprocess.run(
        ["nsenter", f"--net=/run/netns/{name}", "unshare", "-m", "-u", "true"], capture_output=True, text=True
    )
    subprocess.run(["ip", "netns", "del", name], check=False)
    return f"this machine lets nobody enter namespaces: {entered.stderr.strip()}" if entered.returncode else ""


def until(condition, what, seconds=60.0, pause=0.05):
    """Waits until `condition()` is true and gives its value; RuntimeError if it never is."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise RuntimeError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(pause)


def start_of(pid):
    """When a process was started, in ticks since boot; None if there is none, or nothing but its number. With its number that is
    a name which nothing else ever gets."""
    try:
        words = pathlib.Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if words[0] in "ZX" else words[19]


def end(pid, start, patience=10.0):
    """Ends a process, gently at first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if start_of(pid) != start:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        with contextlib.suppress(RuntimeError):
            until(lambda: start_of(pid) != start, f"end of {pid}", patience)


def ip(*words, check=True):
    return subprocess.run(["ip", *map(str, words)], check=check, capture_output=True, text=True).stdout


class Cluster:
    """Up for as long as it is entered."""

    def __init__(self, nodes=4, cpus=2, slurmd_timeout=20):
        self.nodes, self.cpus, self.slurmd_timeout = nodes, cpus, slurmd_timeout
        self.daemons = {}  # name -> (pid, start)
        self.children = {}  # pid -> Popen, so that who has ended is no zombie

    # ---- up and down

    def __enter__(self):
        self.take_number()
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.cancel_all()
        for pid, start in reversed(self.daemons.values()):
            end(pid, start)
        for pid, start in self.strays():
            end(pid, start, 2.0)
        self.remove_network()
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self.lock)

    def take_number(self):
        """The first that nobody has; whatever a killed one has left under it is removed."""
        for self.number in range(MOST):
            self.lock = os.open(f"{LOCKS}/task-pipeline-cluster-{self.number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                os.close(self.lock)
        else:
            raise RuntimeError(f"there are {MOST} clusters already")
        for line in os.pread(self.lock, 1 << 20, 0).decode().splitlines():
            pid, start = line.split()
            end(int(pid), start, 2.0)
        os.ftruncate(self.lock, 0)
        self.remove_network()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"task-pipeline-cluster-{self.number}-", dir=BASE))
        self.folder.chmod(0o755)
        self.bridge = f"tpc{self.number}br"
        self.address = f"10.99.{self.number}.1"
        self.port = 16800 + 100 * self.number

    def space(self, n):
        """Name of a node's network namespace."""
        return f"tpc{self.number}n{n}"

    def remove_network(self):
        for name in ip("netns", "list").split("\n"):
            if name.startswith(f"tpc{self.number}n"):
                ip("netns", "del", name.split()[0], check=False)
        for n in range(1, 64):
            if not os.path.exists(f"/sys/class/net/tpc{self.number}v{n}"):
                break
            ip("link", "del", f"tpc{self.number}v{n}", check=False)
        ip("link", "del", f"tpc{self.number}br", check=False)

    def make(self):
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{self.address}/24", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        for n in range(1, self.nodes + 1):
            space, veth = self.space(n), f"tpc{self.number}v{n}"
            ip("netns", "add", space)
            ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("link", "set", veth, "master", self.bridge, "up")
            ip("-n", space, "addr", "add", f"10.99.{self.number}.{10 + n}/24", "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", space, "link", "set", "lo", "up")
        for name in ("sock", "log", "state", "spool", "bin", "munge"):
            (self.folder / name).mkdir(mode=0o700 if name == "munge" else 0o755)
        key = self.folder / "munge" / "key"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        (self.folder / "slurm.conf").write_text(self.configuration())
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        self.start_munged()
        self.start_controller()
        for n in range(1, self.nodes + 1):
            self.start_node(n)
        self.wait_for_nodes()

    def configuration(self):
        at, host = self.folder, os.uname().nodename.split(".")[0]
        lines = [
            f"ClusterName=tp{self.number}",
            f"SlurmctldHost={host}({self.address})",
            f"SlurmctldPort={self.port + 17}",
            "SlurmUser=root",
            "SlurmdUser=root",
            "AuthType=auth/munge",
            "CredType=cred/munge",
            f"AuthInfo=socket={at}/sock/munge",
            f"StateSaveLocation={at}/state",
            f"SlurmdSpoolDir={at}/spool/%n",
            f"SlurmctldPidFile={at}/spool/slurmctld.pid",
            f"SlurmdPidFile={at}/spool/%n.pid",
            f"SlurmctldLogFile={at}/log/slurmctld",
            f"SlurmdLogFile={at}/log/%n",
            # The weakest way in which Slurm ends a job's processes: whatever it leaves, the worker has to end.
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "JobAcctGatherType=jobacct_gather/none",
            "MpiDefault=none",
            "AccountingStorageType=accounting_storage/none",
            "JobCompType=jobcomp/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU",
            "SchedulerType=sched/backfill",
            # The processors need not exist.
            "SlurmdParameters=config_overrides",
            "ReturnToService=2",
            f"SlurmdTimeout={self.slurmd_timeout}",
            "SlurmctldTimeout=60",
            "KillWait=5",
            "UnkillableStepTimeout=30",
            "InactiveLimit=0",
            "JobRequeue=1",
        ]
        for n in range(1, self.nodes + 1):
            where = f"NodeHostname=n{n} NodeAddr=10.99.{self.number}.{10 + n} Port={self.port + 18}"
            lines.append(f"NodeName=n{n} {where} CPUs={self.cpus} State=UNKNOWN")
        lines.append(f"PartitionName=main Nodes=n[1-{self.nodes}] Default=YES MaxTime=INFINITE State=UP")
        return "\n".join(lines) + "\n"

    @property
    def environment(self):
        """What a client of this cluster needs."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": os.environ["PATH"]}

    def spawn(self, name, *command):
        with open(self.folder / "log" / f"{name}.out", "ab") as log:
            process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.environment},
            )
        self.children[process.pid] = process
        self.daemons[name] = (process.pid, start_of(process.pid))
        os.lseek(self.lock, 0, os.SEEK_END)
        os.write(self.lock, f"{process.pid} {self.daemons[name][1]}\n".encode())

    def start_munged(self):
        at = self.folder
        places = [f"--{word}={at}/munge/{word.split('-')[0]}" for word in ("key-file", "pid-file", "log-file", "seed-file")]
        self.spawn("munged", "munged", "--foreground", "--force", f"--socket={at}/sock/munge", *places)
        until(lambda: self.says("munge", "-S", f"{at}/sock/munge", "-n"), "munged")

    def start_controller(self):
        self.spawn("slurmctld", "slurmctld", "-D", "-f", self.folder / "slurm.conf")
        until(lambda: "is UP" in (self.says("scontrol", "ping") or ""), f"slurmctld, see {self.folder}/log")

    def start_node(self, n):
        """Everything that a node has of its own is new: it has been switched off and on."""
        mounts = "".join(f"mount -t tmpfs none {place}; " for place in ("/tmp", "/var/tmp", "/dev/shm"))
        inside = f"set -e; hostname n{n}; mount --make-rprivate /; {mounts}exec slurmd -D -N n{n} -f {self.folder}/slurm.conf"
        self.spawn(f"n{n}", "nsenter", f"--net=/run/netns/{self.space(n)}", "unshare", "-m", "-u", "sh", "-c", inside)

    def wait_for_nodes(self, seconds=60.0):
        until(self.are_up, f"all nodes idle, see {self.folder}/log", seconds, 0.1)

    def are_up(self):
        """Whether all nodes take jobs. One that a killed slurmctld has drained for what it has forgotten is brought back."""
        listed = [line.split() for line in (self.says("sinfo", "-h", "-N", "-o", "%N %T") or "").splitlines()]
        for node, state in listed:
            if state.startswith("drained"):
                self.says("scontrol", "update", f"NodeName={node}", "State=RESUME")
        return sum(state in ("idle", "mixed", "allocated") for _, state in listed) >= self.nodes

    # ---- its clients

    def says(self, *command, limit=30):
        """What a command prints; None if it fails."""
        try:
            ran = subprocess.run(
                list(map(str, command)), capture_output=True, text=True, timeout=limit, env={**os.environ, **self.environment}
            )
        except subprocess.TimeoutExpired:
            return None
        return ran.stdout if ran.returncode == 0 else None

    def jobs(self):
        """[(id, state, name, node)] of the jobs that are not over."""
        return [tuple(line.split("|")) for line in (self.says("squeue", "-h", "-r", "-o", "%i|%T|%j|%N") or "").splitlines()]

    def cancel_all(self):
        ids = {job[0].split("_")[0] for job in self.jobs()}
        if ids:
            self.says("scancel", "--full", *ids)
            until(lambda: not self.jobs(), "the end of all jobs", 20)

    # ---- what can happen to it

    def kill(self, name):
        """kill -9 of a daemon."""
        pid, start = self.daemons.pop(name)
        if start_of(pid) == start:
            os.kill(pid, signal.SIGKILL)
        self.children.pop(pid).wait()

    def kill_node(self, n):
        """kill -9 of a node's slurmd, of its slurmstepds, and of the workers; not of what these have started."""
        doomed = [pid for pid, line in self.processes(n) if line[0].startswith("slurmstepd") or "worker" in line[1:2]]
        self.kill(f"n{n}")
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(doomed)

    def cut(self, n):
        """Nothing goes to the node, nor comes from it."""
        ip("link", "set", f"tpc{self.number}v{n}", "down")

    def heal(self, n):
        ip("link", "set", f"tpc{self.number}v{n}", "up")

    # ---- what is on it

    def processes(self, n):
        """[(pid, words of the command line)] of a node, but for its slurmd."""
        try:
            space = os.stat(f"/run/netns/{self.space(n)}").st_ino
        except OSError:
            return []
        slurmd = self.daemons.get(f"n{n}", (None, None))[0]
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/net").st_ino != space or int(entry) == slurmd:
                    continue
                line = pathlib.Path("/proc", entry, "cmdline").read_bytes()
                if line:
                    found.append((int(entry), [word.decode(errors="replace") for word in line.rstrip(b"\0").split(b"\0")]))
        return found

    def strays(self):
        """[(pid, start)] of all that is on any node."""
        found = [pid for n in range(1, self.nodes + 1) for pid, _ in self.processes(n)]
        return [(pid, start) for pid in found if (start := start_of(pid))]

    def workers(self, n=None):
        """Numbers of the processes that are workers, of one node or of all."""
        nodes = [n] if n else range(1, self.nodes + 1)
        return [pid for node in nodes for pid, line in self.processes(node) if line[1:3] == ["worker", "--connect"]]

    def left(self):
        """What is on the nodes that is none of Slurm's own."""
        return [
            (n, pid, " ".join(line)[:200])
            for n in range(1, self.nodes + 1)
            for pid, line in self.processes(n)
            if not line[0].startswith(OWN)
        ]

    def folders(self):
        """What workers have left in the /tmp of nodes."""
        found = []
        for n in range(1, self.nodes + 1):
            slurmd = self.daemons.get(f"n{n}", (0, 0))[0]
            with contextlib.suppress(OSError):
                found += [f"n{n}:{name}" for name in os.listdir(f"/proc/{slurmd}/root/tmp") if "worker" in name]
        return found


if __name__ == "__main__":
    # For a person: a cluster until Enter is pressed, and a line for the shell that uses it.
    if why := obstacle():
        sys.exit(why)
    with Cluster() as cluster:
        print(f"export SLURM_CONF={cluster.folder}/slurm.conf; runs need --listen {cluster.address}", flush=True)
        sys.stdin.readline()
