#!/usr/bin/env python3
"""Runs on a real Slurm of four nodes (`cluster`), and all that can happen to one: `run.sh` says how it is called.

Each run makes 500 steps on `slurm:4x2`. However it was disturbed, it has to end with what an undisturbed run on this
machine leaves, with no result recorded twice, and with nothing left on the nodes or in the queue. The figures that are
printed are those of README.md.
"""

import contextlib
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "torture"))

from common import BIN, OK, Box, differences, task  # noqa: E402

import cluster as clusters  # noqa: E402
from cluster import Cluster, until  # noqa: E402

STEPS = 500

# Beside the steps themselves, which are in no need of a shared folder, each notes that it was started, and where.
EACH = """
printf '%s %s\\n' "$STEP_KEY" "${SLURMD_NODENAME:-here}" >>ledger
sleep "$(cat pace)"
{ cat "$INPUT_FILE"; cksum <"$INPUT_FILE"; } >"$OUTPUT_DIR/$INPUT_NAME"
echo "of $INPUT_NAME"
"""

PIPELINE = (
    task("many", f'for n in $(seq {STEPS - 2}); do echo "line $n" >"$OUTPUT_DIR/$n"; done')
    + task("each", EACH)
    + task("all", 'cat "$INPUT_DIR"/* | cksum >"$OUTPUT_DIR/sum"', gather=True)
)

LONG_STEP = 40  # seconds

# A worker that was cut off ends its scripts after 20 s, and itself 60 s later; with some room for a busy machine.
LEASE = 110.0

reference = {}
lock = threading.Lock()


class Report:
    """What one series has found. Threads share the lines, so each is printed whole."""

    def __init__(self, name):
        self.name, self.began = name, time.monotonic()
        self.deviations, self.figures, self.controls = [], {}, {}

    def say(self, text):
        with lock:
            print(f"{self.name}: {text}", flush=True)

    def add(self, what, count=1):
        self.figures[what] = self.figures.get(what, 0) + count

    def most(self, what, value):
        self.figures[what] = max(self.figures.get(what, 0), round(value, 1))

    def expect(self, holds, what):
        if not holds:
            self.deviations.append(what)
            self.say(f"DEVIATION: {what}")
        return bool(holds)

    def skip(self, why):
        self.figures[f"SKIPPED: {why}"] = 1

    def control(self, what, is_noticed):
        """Something that is wrong on purpose, which the checks have to notice."""
        self.controls[what] = bool(is_noticed)
        self.expect(is_noticed, f"not noticed: {what}")

    def close(self):
        figures = ", ".join(f"{what}: {value}" for what, value in self.figures.items())
        noticed = f"controls noticed: {sum(self.controls.values())}/{len(self.controls)}; " if self.controls else ""
        verdict = f"{len(self.deviations)} DEVIATIONS" if self.deviations else "ok"
        self.say(f"{figures}; {noticed}{time.monotonic() - self.began:.0f} s; {verdict}")


class Project(Box):
    """A pipeline in a folder that is the same on all nodes."""

    def __init__(self, place, pace):
        with lock:
            os.environ["TORTURE_DIR"] = str(place)
            super().__init__((PIPELINE, 0), "slurm")
        self.pace(pace)

    def pace(self, seconds):
        """How long each step takes, from now on."""
        (self.path / "pace~").write_text(f"{seconds}\n")
        (self.path / "pace~").rename(self.path / "pace")

    def steps_begun(self):
        """[(STEP_KEY, node)] in order."""
        return [tuple(line.split()) for line in self.ledger.read_text().splitlines()]

    def canonical(self):
        """All that a run leaves, but for the numbers of attempts, since those that were lost have one too."""
        state = super().canonical()
        rows = self.query(
            "SELECT t.name, s.name, s.key, a.outcome, a.code, a.detail, hex(a.log)"
            " FROM attempt a JOIN step s ON s.id = a.step JOIN task t ON t.id = s.task"
        )
        return {**state, "attempt": sorted(map(repr, rows))}

    def exported(self):
        """{path: bytes} of the last two tasks."""
        found = {}
        for name in ("each", "all"):
            to = self.path / "exported" / name
            code, text = self.run("export", name, "--to", to)
            if code != OK:
                raise RuntimeError(f"export: exit {code}: {text}")
            found |= {str(path.relative_to(self.path)): path.read_bytes() for path in to.rglob("*") if path.is_file() and path.name[0] != "."}
        shutil.rmtree(self.path / "exported")
        return found


class Run:
    """A coordinator."""

    def __init__(self, cluster, project, *args, on="slurm:4x2", walltime="2h"):
        self.cluster, self.project = cluster, project
        self.out = project.path / "out"
        self.squeues = project.path / "squeues"
        counted = cluster.folder / "bin"
        squeue = f'#!/bin/sh\necho x >>"$SQUEUES"\nexec {shutil.which("squeue")} "$@"\n'
        with lock:
            if not (counted / "squeue").exists():
                (counted / "squeue~").write_text(squeue)
                (counted / "squeue~").chmod(0o755)
                (counted / "squeue~").rename(counted / "squeue")
        environment = {**cluster.environment, "SQUEUES": self.squeues}
        environment["PATH"] = f"{counted}:{environment['PATH']}"
        self.began = time.monotonic()
        # Runs on this project so far, and since when.
        self.count = project.runs = getattr(project, "runs", 0) + 1
        self.first = project.first = getattr(project, "first", self.began)
        with open(self.out, "ab") as out:
            options = ["--on", on, "--walltime", walltime, "--listen", cluster.address, "--progress", "plain"]
            self.process = project.start(*options, *args, env=environment, stdout=out, stderr=out)

    def text(self):
        return self.out.read_text(errors="replace")

    def begun(self, count):
        """Waits until so many steps have begun."""
        self.until(lambda: len(self.project.steps_begun()) >= count, f"{count} steps")

    def everywhere(self):
        """Waits until each node has begun a step."""
        self.until(lambda: len({node for _, node in self.project.steps_begun()}) == 4, "a step on each node")

    def until(self, condition, what, seconds=180.0):
        def is_so():
            if condition():
                return True
            if self.process.poll() is not None:
                raise RuntimeError(f"the run has ended before: {what}\n{self.text()}")
            return False

        until(is_so, what, seconds)

    def end(self, patience=600.0):
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "hangs"

    def kill(self):
        self.process.kill()
        self.process.wait()


def check(report, run, code):
    """Everything that has to be so after the last run on a project."""
    cluster, project = run.cluster, run.project
    at = f"[{project.path}]"
    if not report.expect(code == OK, f"exit {code}: {run.text()[-2000:]} {at}"):
        return
    report.add("runs")
    for difference in differences(reference["state"], project.canonical()):
        report.expect(False, f"{difference} {at}")
    want, got = reference["exported"], project.exported()
    other = [name for name in {**want, **got} if want.get(name) != got.get(name)]
    report.expect(not other, f"export gives something else: {other[:5]} of {len(got)} {at}")
    recorded, steps = project.query("SELECT count(*), count(DISTINCT step) FROM attempt WHERE outcome = 'ok'")[0]
    report.add("recorded twice", recorded - steps)
    report.expect((recorded, steps) == (STEPS, STEPS), f"{recorded} results of {steps} steps are recorded {at}")
    begun = project.steps_begun()
    report.add("begun twice", len(begun) - len(set(key for key, _ in begun)))
    if wrong := project.verify():
        report.expect(False, f"{wrong} {at}")
    report.expect(not (project.db / "slurm").exists(), f"names of jobs are left in the database's folder {at}")
    code, text = project.run()
    report.expect(code == OK and "nothing to do" in text, f"a further run: exit {code}: {text} {at}")
    asked = len(run.squeues.read_text().split()) if run.squeues.exists() else 0
    report.most("squeue calls on a project", asked)
    minutes = (time.monotonic() - run.first) / 60
    report.expect(asked <= run.count + minutes, f"squeue was called {asked} times in {minutes:.1f} minutes {at}")


def all_gone(report, cluster):
    """No process, folder or job is left."""
    began = time.monotonic()
    try:
        until(lambda: not cluster.left() and not cluster.jobs(), "nothing left on the nodes", LEASE, 0.2)
    except RuntimeError:
        report.add("processes left", len(cluster.left()))
        report.expect(False, f"left after the lease: {cluster.left()[:5]}, {cluster.jobs()[:5]}")
    report.add("processes left", 0)
    report.most("seconds until the nodes were empty", time.monotonic() - began)
    report.expect(not cluster.folders(), f"left in /tmp of nodes: {cluster.folders()}")


@contextlib.contextmanager
def project_on(cluster, pace):
    project = Project(cluster.folder, pace)
    try:
        yield project
    except BaseException:
        with lock:
            out = project.path / "out"
            print(out.read_text(errors="replace")[-3000:] if out.exists() else "", flush=True)
        raise
    finally:
        if not os.environ.get("TORTURE_KEEP"):
            shutil.rmtree(project.path, ignore_errors=True)


# ---- the short selection --------------------------------------------------------------------------


def undisturbed(report, cluster):
    """500 steps, whose nodes share nothing but the folder of the pipeline."""
    # Slow enough that the last of four jobs still finds some.
    with project_on(cluster, 0.05) as project:
        run = Run(cluster, project)
        code = run.end()
        report.figures["seconds of the run"] = round(time.monotonic() - run.began, 1)
        check(report, run, code)
        nodes = {node for _, node in project.steps_begun()}
        report.expect(nodes == {"n1", "n2", "n3", "n4"}, f"steps ran only on {nodes}")
        all_gone(report, cluster)
        # What these checks are worth.
        state = project.canonical()
        state["attempt"].append(state["attempt"][-1])
        report.control("an attempt that is recorded twice", differences(reference["state"], state))
    stray = subprocess.Popen(["nsenter", f"--net=/run/netns/{cluster.space(1)}", "sleep", "60"])
    try:
        report.control("a process on a node", until(cluster.left, "a process on a node"))
    finally:
        stray.kill()
        stray.wait()


def killed_worker(report, cluster):
    with project_on(cluster, 0.15) as project:
        run = Run(cluster, project)
        run.everywhere()
        os.kill(cluster.workers(1)[0], signal.SIGKILL)
        check(report, run, run.end())
        report.expect("on n1 was lost" in run.text(), f"the run says nothing of it: {run.text()}")
        all_gone(report, cluster)


def killed_node(report, cluster):
    with project_on(cluster, 0.15) as project:
        run = Run(cluster, project)
        run.everywhere()
        cluster.kill_node(2)
        check(report, run, run.end())
        report.expect("on n2 was lost" in run.text(), f"the run says nothing of it: {run.text()}")
        until(lambda: not [left for left in cluster.left() if left[0] == 2], "nothing left on the dead node", LEASE)
        cluster.start_node(2)
        all_gone(report, cluster)
        cluster.wait_for_nodes(90)


def cancelled_jobs(report, cluster):
    """One job is cancelled from outside, and later all: others take their place."""
    with project_on(cluster, 0.15) as project:
        run = Run(cluster, project)
        run.everywhere()
        one = next(job for job in cluster.jobs() if job[2].startswith("tp-"))
        cluster.says("scancel", one[0])
        run.until(lambda: "leaves: " in run.text(), "the end of one worker")
        first = {job[0] for job in cluster.jobs()}
        cluster.says("scancel", *{job.split("_")[0] for job in first})
        run.until(lambda: {job[0] for job in cluster.jobs() if job[1] == "RUNNING"} - first, "other jobs")
        check(report, run, run.end())
        all_gone(report, cluster)


def partition(report, cluster):
    """A node is cut off for 45 s, while its scripts run, and heals."""
    with project_on(cluster, 0.9) as project:
        run = Run(cluster, project)
        run.begun(40)
        cut_off(report, run, 1)
        check(report, run, run.end())
        all_gone(report, cluster)
        report.expect("on n1 was lost" in run.text(), f"the run says nothing of it: {run.text()}")


def cut_off(report, run, n, seconds=45.0):
    """A node is cut off for longer than its worker's lease, and then heals."""
    cluster, project = run.cluster, run.project

    def running():
        return [pid for pid, line in cluster.processes(n) if line[0] == "sleep"]

    # Steps that begin now would outlive the lease.
    pace = (project.path / "pace").read_text()
    project.pace(LONG_STEP)
    run.until(lambda: [1 for pid in running() if long_sleep(pid)], f"a long step on n{n}")
    cluster.cut(n)
    began = time.monotonic()
    project.pace(pace.strip())
    until(lambda: not running(), "the end of scripts on a node that is cut off", LONG_STEP)
    report.most("seconds until scripts of a node that was cut off had ended", time.monotonic() - began)
    count = len(project.steps_begun())
    time.sleep(max(0.0, began + seconds - time.monotonic()))
    since = [node for _, node in project.steps_begun()[count:]]
    report.expect(f"n{n}" not in since, f"n{n} began steps while it was cut off")
    report.expect(since or run.process.poll() is not None, "the other nodes did not go on")
    cluster.heal(n)
    report.add("partitions")


def long_sleep(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path("/proc", str(pid), "cmdline").read_bytes().split(b"\0")[1] == str(LONG_STEP).encode()


def killed_controller(report, cluster):
    """slurmctld is killed 1 s after the submission, which it may forget, and once more later."""
    with project_on(cluster, 0.3) as project:
        run = Run(cluster, project)
        until(lambda: (project.db / "slurm").exists(), "the submission", pause=0.01)
        time.sleep(1.0)
        cluster.kill("slurmctld")
        time.sleep(3.0)
        cluster.start_controller()
        run.begun(60)
        cluster.kill("slurmctld")
        time.sleep(3.0)
        cluster.start_controller()
        report.add("kills", 2)
        check(report, run, run.end())
        all_gone(report, cluster)
        cluster.wait_for_nodes(90)


def killed_coordinator(report, cluster):
    """kill -9 of the run itself, and another one that goes on."""
    with project_on(cluster, 0.1) as project:
        for round in range(2):
            run = Run(cluster, project)
            run.begun(len(project.steps_begun()) + 100)
            run.kill()
            report.add("kills")
        run = Run(cluster, project)
        check(report, run, run.end())
        all_gone(report, cluster)


def stale_folder(report, cluster):
    """The pipeline's folder comes to this machine and to each node by a network file system, which shows for 20 s what
    was so before. Then the manifest is changed here, and run at once."""
    if lacking := clusters.missing({"sshfs": "sshfs", "sshd": "openssh-server", "ssh-keygen": "openssh-client"}):
        return report.skip(f"not installed: {' '.join(lacking)}")
    real, seen = cluster.folder / "real", cluster.folder / "seen"
    real.mkdir()
    seen.mkdir()
    with SharedFolder(cluster, real, seen) as folder:
        folder.mount_here()
        project = Project(seen, 0.05)
        db = cluster.folder / "db"
        manifest = project.path / "pipeline.toml"
        text = manifest.read_text()
        for n in range(1, 5):
            folder.mount_on(n)
        for count in (60, 5, 100):
            manifest.write_text(text.replace(f"seq {STEPS - 2}", f"seq {count}"))
            run = Run(cluster, project, "--db", db)
            code = run.end()
            report.expect(code == OK, f"exit {code}: {run.text()[-2000:]}")
            report.add("runs after a change")
            lost = run.text().count("was lost")
            report.expect(lost == 0, f"{lost} workers were lost: {run.text()[-2000:]}")
        report.figures["workers that saw the old manifest"] = run.text().count("is another one on")
        code, text = project.run("export", "--db", db, "each", "--to", cluster.folder / "exported")
        names = [name for name in os.listdir(cluster.folder / "exported") if name[0] != "."]
        report.expect(code == OK and len(names) == 100, f"export: {code}, {len(names)} files, {text}")
        all_gone(report, cluster)


class SharedFolder:
    """A folder of this machine that others see by sshfs, with caches."""

    def __init__(self, cluster, real, seen):
        self.cluster, self.real, self.seen = cluster, real, seen
        self.mounts = []

    def __enter__(self):
        at = self.at = self.cluster.folder / "ssh"
        at.mkdir(mode=0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", at / name], check=True)
        shutil.copy(at / "user.pub", at / "authorized")
        os.makedirs("/run/sshd", exist_ok=True)
        port = self.cluster.port + 19
        lines = [
            f"ListenAddress {self.cluster.address}:{port}",
            f"HostKey {at}/host",
            f"AuthorizedKeysFile {at}/authorized",
            f"PidFile {at}/pid",
            "StrictModes no",
            "PermitRootLogin prohibit-password",
            "Subsystem sftp internal-sftp",
        ]
        (at / "config").write_text("\n".join(lines) + "\n")
        self.cluster.spawn("sshd", shutil.which("sshd"), "-D", "-e", "-f", at / "config")
        options = {
            "port": port,
            "IdentityFile": at / "user",
            "UserKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "no",
            "dcache_timeout": 20,
            "attr_timeout": 20,
            "entry_timeout": 20,
            "negative_timeout": 20,
        }
        self.mount = ["sshfs", *(f"-o{name}={value}" for name, value in options.items())]
        self.mount += [f"root@{self.cluster.address}:{self.real}", str(self.seen)]
        return self

    def mount_here(self):
        def is_mounted():
            return subprocess.run(self.mount, capture_output=True).returncode == 0

        until(is_mounted, "a mount by sshfs")
        self.mounts.append([])

    def mount_on(self, n):
        inside = ["nsenter", f"--target={self.cluster.daemons[f'n{n}'][0]}", "--mount", "--net"]
        subprocess.run([*inside, *self.mount], check=True, capture_output=True)
        self.mounts.append(inside)

    def __exit__(self, *_):
        self.cluster.cancel_all()
        for inside in reversed(self.mounts):
            subprocess.run([*inside, "umount", "--lazy", self.seen], capture_output=True)


# ---- the long series ------------------------------------------------------------------------------


def series(report, cluster, what, count, disturb, pace, at_once=1):
    """Runs, each disturbed by `disturb`, which gives how often, until there were `count` of it."""
    while report.figures.get(what, 0) < count:
        with project_on(cluster, pace) as project:
            run = Run(cluster, project)
            disturb(report, run)
            check(report, run, run.end())
            all_gone(report, cluster)
        cluster.wait_for_nodes(180)
        report.say(f"{report.figures[what]} {what}")


def worker_kills(report, cluster, count):
    chance = random.Random(cluster.number)

    def disturb(report, run):
        # No node twice: it would not be used again.
        for n in chance.sample([1, 2, 3, 4], 3):
            run.begun(len(run.project.steps_begun()) + chance.randrange(1, 60))
            for pid in run.cluster.workers(n):
                os.kill(pid, signal.SIGKILL)
                report.add("worker kills")

    series(report, cluster, "worker kills", count, disturb, 0.15)


def node_kills(report, cluster, count):
    chance = random.Random(cluster.number)

    def disturb(report, run):
        for n in chance.sample([1, 2, 3, 4], 2):
            run.begun(len(run.project.steps_begun()) + chance.randrange(1, 80))
            run.cluster.kill_node(n)
            report.add("node kills")
        began = time.monotonic()
        until(lambda: not [left for left in run.cluster.left() if left[0] == n], "nothing left on a dead node", LEASE)
        report.most("seconds until a dead node was empty", time.monotonic() - began)
        for n in range(1, 5):
            if f"n{n}" not in run.cluster.daemons:
                run.cluster.start_node(n)

    series(report, cluster, "node kills", count, disturb, 0.2)


def partitions(report, cluster, count):
    chance = random.Random(cluster.number)

    def disturb(report, run):
        run.begun(chance.randrange(10, 80))
        cut_off(report, run, chance.randrange(1, 5))

    series(report, cluster, "partitions", count, disturb, 0.9)


def coordinator_kills(report, cluster, count):
    chance = random.Random(cluster.number)
    while report.figures.get("coordinator kills", 0) < count:
        with project_on(cluster, 0.1) as project:
            for _ in range(4):
                run = Run(cluster, project)
                if chance.random() < 0.25:
                    # While its workers are being started.
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        run.process.wait(chance.uniform(0.0, 2.0))
                else:
                    run.begun(len(project.steps_begun()) + chance.randrange(1, 100))
                run.kill()
                report.add("coordinator kills")
            run = Run(cluster, project)
            check(report, run, run.end())
            all_gone(report, cluster)
        report.say(f"{report.figures['coordinator kills']} coordinator kills")


def controller_kills(report, cluster, count):
    chance = random.Random(cluster.number)

    def disturb(report, run):
        if chance.random() < 0.5:
            until(lambda: (run.project.db / "slurm").exists(), "the submission", pause=0.01)
            time.sleep(chance.uniform(0.0, 3.0))
        else:
            run.begun(chance.randrange(1, 200))
        run.cluster.kill("slurmctld")
        time.sleep(chance.uniform(0.0, 10.0))
        run.cluster.start_controller()
        report.add("slurmctld kills")

    series(report, cluster, "slurmctld kills", count, disturb, 0.2)


def throughput(report, cluster, count):
    """Small steps on this machine, on workers that are processes of it, and on the nodes: the same steps with the same results."""
    manifest = task("many", f'seq {count} | split -l1 -a4 - "$OUTPUT_DIR/x"')
    manifest += task("each", 'read n <"$INPUT_FILE"; echo "<$n>" >"$OUTPUT_DIR/y"')
    # Of the steps themselves, from the first to the last one.
    span = "SELECT max(a.started_ms) - min(a.started_ms) FROM attempt a WHERE a.step > 1"
    ways = {"here": ["-j8"], "local": ["--on", "local:4x2"]}
    ways["slurm"] = ["--on", "slurm:4x2", "--walltime", "1h", "--listen", cluster.address]
    want = None
    for way, options in ways.items():
        with lock:
            os.environ["TORTURE_DIR"] = str(cluster.folder)
            box = Box((manifest, 0), "rate")
        began = time.monotonic()
        code, text = box.run(*options, "--progress", "none", env=cluster.environment, patience=300)
        wall = time.monotonic() - began
        report.expect(code == OK, f"{way}: exit {code}: {text}")
        report.figures[f"{way}, steps a second"] = round(count / box.query(span)[0][0] * 1000)
        report.figures[f"{way}, seconds in all"] = round(wall, 1)
        state = box.canonical()
        want = want or state
        report.expect(state == want, f"{way} leaves something else: {differences(want, state)}")
        shutil.rmtree(box.path)


def short_walltime(report, cluster, _):
    """Jobs that are too short for the run: what they have begun they end, and others go on."""
    with project_on(cluster, 1.2) as project:
        run = Run(cluster, project, walltime="1m")
        check(report, run, run.end())
        report.expect("its walltime is almost over" in run.text(), f"no worker has left in time: {run.text()[-2000:]}")
        report.expect("was lost" not in run.text(), f"a worker was lost: {run.text()[-2000:]}")
        all_gone(report, cluster)


def large_object(report, cluster, count):
    """An object of a GiB goes to a worker, and comes back as another one, in constant memory."""
    most = 64 << 10  # KiB
    manifest = task("make", f'head -c {count} /dev/urandom >"$OUTPUT_DIR/x"')
    manifest += task("copy", '{ cat "$INPUT_FILE"; echo; } >"$OUTPUT_DIR/x"')
    with lock:
        os.environ["TORTURE_DIR"] = str(cluster.folder)
        project = Box((manifest, 0), "large")
    code, text = project.run("--until", "make", patience=120)
    report.expect(code == OK, f"exit {code}: {text}")
    run = Run(cluster, project, on="slurm:1x1")
    peaks = {}
    while run.process.poll() is None:
        for who, pids in (("run", [run.process.pid]), ("worker", cluster.workers())):
            for pid in pids:
                with contextlib.suppress(OSError, AttributeError):
                    status = pathlib.Path("/proc", str(pid), "status").read_text()
                    peaks[who] = max(peaks.get(who, 0), int(re.search(r"VmHWM:\s*(\d+) kB", status).group(1)))
        time.sleep(0.05)
    report.expect(run.process.returncode == OK, f"exit {run.process.returncode}: {run.text()}")
    if wrong := project.verify():
        report.expect(False, wrong)
    sizes = [size for (size,) in project.query("SELECT size FROM object ORDER BY size DESC LIMIT 2")]
    report.expect(sizes == [count + 1, count], f"objects of {sizes} bytes")
    for who in ("run", "worker"):
        report.figures[f"peak of the {who}, KiB"] = peaks.get(who, 0)
        report.expect(0 < peaks.get(who, 0) < most, f"the {who} has taken {peaks.get(who)} KiB")
    shutil.rmtree(project.path)


# ---- which, and how many at once ------------------------------------------------------------------

# Each line is one cluster, on which these come one after the other. Slurm takes a node that was cut off back only after a
# while, so that is the last thing.
SHORT = [
    ["undisturbed", "killed_worker", "killed_node", "killed_coordinator"],
    ["cancelled_jobs", "partition"],
    ["killed_controller", "stale_folder"],
]

LONG = {
    "throughput": (5000, 1),
    "large_object": (1 << 30, 1),
    "short_walltime": (1, 1),
    "worker_kills": (100, 2),
    "node_kills": (20, 2),
    "partitions": (20, 4),
    "coordinator_kills": (20, 1),
    "controller_kills": (5, 1),
}


def on_a_cluster(names, reports, args=()):
    """One cluster, from its start to its end."""
    began = time.monotonic()
    cluster = Cluster()
    try:
        with cluster:
            for name in names:
                report = Report(name)
                reports.append(report)
                if name == "undisturbed":
                    report.figures["seconds until the nodes were idle"] = round(time.monotonic() - began, 1)
                try:
                    globals()[name](report, cluster, *args)
                except Exception:
                    report.expect(False, traceback.format_exc())
                report.close()
    except Exception:
        report = Report("cluster")
        reports.append(report)
        report.expect(False, traceback.format_exc())
    stray = [pid for pid, start in cluster.daemons.values() if clusters.start_of(pid) == start]
    if stray or os.path.exists(f"/sys/class/net/{cluster.bridge}"):
        reports[-1].expect(False, f"what was up is still there: {stray}")


def main():
    how, wanted = (sys.argv[1:2] or ["short"])[0], sys.argv[2:]
    known = [name for names in SHORT for name in names] if how == "short" else list(LONG)
    if how not in ("short", "long") or not set(wanted) <= set(known):
        sys.exit(f"usage: {sys.argv[0]} [short|long] [NAME]...; names are {', '.join(known)}")
    if why := clusters.obstacle():
        print(f"slurm: SKIPPED: {why}")
        return 0
    # The nodes have a /tmp of their own, where the binary may lie.
    with contextlib.ExitStack() as stack:
        base = pathlib.Path(f"{clusters.BASE}/task-pipeline-slurm-{os.getpid()}")
        base.mkdir(mode=0o755)
        stack.callback(shutil.rmtree, base, True)
        import common

        common.BIN = shutil.copy(BIN, base / "task-pipeline")
        local = Project(base, 0)
        code, text = local.run("-j4", patience=120)
        if code != OK:
            sys.exit(f"an undisturbed run on this machine fails already: exit {code}\n{text}")
        reference.update(state=local.canonical(), exported=local.exported())
        reports, threads = [], []
        if how == "short":
            plans = [([name for name in names if not wanted or name in wanted], ()) for names in SHORT]
        else:
            chosen = {name: LONG[name] for name in wanted or known}
            plans = [([name], (-(-count // ways),)) for name, (count, ways) in chosen.items() for _ in range(ways)]
        for names, args in plans:
            if names:
                thread = threading.Thread(target=on_a_cluster, args=(names, reports, args))
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join()
    deviations = sum(len(report.deviations) for report in reports)
    print(f"slurm: {len(reports)} series, {deviations} deviations")
    return 1 if deviations or not reports else 0


if __name__ == "__main__":
    sys.exit(main())
