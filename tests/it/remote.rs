//! Runs whose steps are made by workers: the same results as on one machine, whatever happens to the workers, and
//! whoever else comes to the door.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Project, WAIT_FOR_GO, wait_for};

/// Steps of every kind, with a failure and a retry.
const EVERY_KIND: &str = r#"
[params]
seed = 3

[[task]]
name = "part"
inputs = ["in/{group}_*.txt"]
params = ["seed"]
files = ["factor.txt"]
script = '''
f=$(cat factor.txt)
awk -v f="$f" -v s="$seed" '{ print $1 * f + s }' "$INPUT_FILE" >"$OUTPUT_DIR/$(basename "$INPUT_NAME")"
mkdir "$OUTPUT_DIR/deep"; head -c 70000 /dev/zero | tr '\0' "$group" >"$OUTPUT_DIR/deep/$group.bin"
printf '#!/bin/sh\necho %s\n' "$group" >"$OUTPUT_DIR/tool"; chmod +x "$OUTPUT_DIR/tool"
echo "to stdout of $INPUT_NAME"; echo "to stderr" >&2
'''

[[task]]
name = "sum"
from = ["part"]
match = ["*.txt"]
gather = ["group"]
script = '''cat "$INPUT_DIR"/* | sort -n >"$OUTPUT_DIR/sum"; wc -l <"$INPUT_FILE"'''

[[task]]
name = "index"
script = '''printf 'a\000b\377' >"$OUTPUT_DIR/index.bin"'''

[[task]]
name = "both"
from = ["sum"]
with = ["index"]
script = '''cat "$INPUT_FILE" "$WITH_DIR/index/index.bin" >"$OUTPUT_DIR/both"; [ -x "$0" ] || true'''

[[task]]
name = "tools"
from = ["part"]
match = ["tool"]
script = '''"$INPUT_FILE" >"$OUTPUT_DIR/said"'''

[[task]]
name = "many"
from = ["part"]
match = ["deep/*"]
batch = 3
script = '''
for step in "$BATCH_DIR"/[0-9]*; do
  for file in "$step"/input/*; do wc -c <"$file" >"$step/output/size"; done
done
'''

[[task]]
name = "rows"
table = "samples.csv"
paths = ["r1"]
script = '''cat "$r1" >"$OUTPUT_DIR/$sample"'''

[[task]]
name = "sweep"
matrix = { lr = ["0.1", "0.2"], depth = ["3", "5"] }
script = '''echo "$lr $depth" >"$OUTPUT_DIR/x"'''

[[task]]
name = "object"
from = ["index"]
depfile = "x.d"
cpus = 2
script = '''echo "x: factor.txt" >"$OUTPUT_DIR/x.d"; cp "$INPUT_FILE" "$OUTPUT_DIR/x"; echo "$CPUS"'''

[[task]]
name = "unsteady"
retries = 2
script = '''[ "$ATTEMPT" -ge 3 ] || exit 7; echo "$ATTEMPT" >"$OUTPUT_DIR/x"'''

[[task]]
name = "wrong"
from = ["sum"]
timeout = "30s"
script = '''echo going; kill -9 $$'''

[[task]]
name = "final"
gather = true
from = ["both", "tools", "many", "rows", "sweep", "object", "unsteady"]
script = '''(cd "$INPUT_DIR"; find . -type f | LC_ALL=C sort | xargs cat) >"$OUTPUT_DIR/all"'''
"#;

fn every_kind() -> Project {
    let p = Project::new().manifest(EVERY_KIND).file("factor.txt", "7\n");
    p.file("samples.csv", "sample,r1\nA,a.fq\nB,b.fq\n").file("a.fq", "aaa\n").file("b.fq", "bb\n");
    for (n, name) in ["a_1", "a_2", "b_1", "b_2", "c_1"].into_iter().enumerate() {
        p.file(format!("in/{name}.txt"), format!("{n}\n{}\n", n + 10));
    }
    p
}

/// All that the database knows of steps, but for times and numbers that depend on the order of the steps.
fn content(p: &Project, db: &str) -> Vec<String> {
    let mut rows = p.sql_in(
        db,
        "SELECT t.name, s.name, s.labels, hex(s.object), s.key, s.state, s.live, s.executable, hex(s.side)
         FROM step s JOIN task t ON t.id = s.task",
    );
    rows.extend(p.sql_in(
        db,
        "SELECT t.name, s.name, s.key, o.name, o.object, o.executable
         FROM output o JOIN step s ON s.id = o.step JOIN task t ON t.id = s.task",
    ));
    rows.extend(p.sql_in(
        db,
        "SELECT t.name, s.name, s.key, a.number, a.outcome, a.code, a.detail, a.log
         FROM attempt a JOIN step s ON s.id = a.step JOIN task t ON t.id = s.task",
    ));
    rows.extend(p.sql_in(db, "SELECT hash, size FROM object"));
    rows.sort();
    rows
}

#[test]
fn a_manifest_with_steps_of_every_kind_comes_out_as_on_one_machine() {
    let p = every_kind();
    p.run_with(["-k", "-j2"]).fails(1);
    let local = content(&p, "db");
    assert!(local.len() > 60, "{local:#?}");
    p.call(["-db", "remote", "-k", "--on", "local:2x2"]).fails(1).says("wrong");
    assert_eq!(content(&p, "remote"), local);
    p.call(["-db", "mixed", "-k", "--on", "local:1x2", "-j1"]).fails(1).says("wrong");
    assert_eq!(content(&p, "mixed"), local);
    // Nothing is left to do but what failed, wherever it ran.
    p.call(["-db", "remote", "-k"]).fails(1).says("3 failed");
    assert_eq!(left_behind(&p), Vec::<PathBuf>::new());
}

/// What workers have left in their TMPDIR, which is the project's folder if [`on`] has called the run.
pub(crate) fn left_behind(p: &Project) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(p.root()).unwrap().map(|entry| entry.unwrap().path());
    let is_workers = |path: &PathBuf| {
        path.file_name().unwrap().to_string_lossy().starts_with("task-pipeline-worker-")
    };
    entries.filter(is_workers).collect()
}

/// A run with workers whose TMPDIR is the project's folder.
pub(crate) fn on(p: &Project, args: &[&str]) -> crate::harness::Call {
    let call = p.run_cmd(args);
    call.env("TMPDIR", p.root().to_str().unwrap())
}

#[test]
fn every_exit_code_and_signal_is_told_as_it_was() {
    let p = Project::new().task(
        "codes",
        r#"c=$(cat "$INPUT_FILE"); echo "$c" >"$OUTPUT_DIR/x"; case $c in s*) kill -"${c#s}" $$;; *) exit "$c";; esac"#,
    );
    for code in 0..=255 {
        p.file(format!("in/{code}"), format!("{code}\n"));
    }
    for signal in [1, 2, 6, 9, 11, 13, 15] {
        p.file(format!("in/s{signal}"), format!("s{signal}\n"));
    }
    let inputs: Vec<String> = std::fs::read_dir(p.path("in"))
        .unwrap()
        .map(|entry| format!("in/{}", entry.unwrap().file_name().to_str().unwrap()))
        .collect();
    let args: Vec<&str> =
        ["-k", "--on", "local:4"].into_iter().chain(inputs.iter().map(String::as_str)).collect();
    on(&p, &args).go().fails(1).says("262 failed");
    let told: BTreeMap<String, String> = p
        .sql("SELECT s.name, a.outcome, a.code FROM attempt a JOIN step s ON s.id = a.step")
        .into_iter()
        .map(|row| {
            let (name, rest) = row.split_once('|').unwrap();
            (name.rsplit('/').next().unwrap().to_owned(), rest.to_owned())
        })
        .collect();
    let wanted = |name: &String| match (name.as_str(), name.strip_prefix('s')) {
        ("0", _) => "ok|".to_owned(),
        (_, Some(signal)) => format!("signal|{signal}"),
        (code, None) => format!("exit|{code}"),
    };
    let all: BTreeMap<String, String> =
        told.keys().map(|name| (name.clone(), wanted(name))).collect();
    assert_eq!((told.len(), &told), (263, &all));
}

#[test]
fn two_thousand_small_steps_go_through_four_workers_each_once() {
    let p = Project::new()
        .task("many", r#"for n in $(seq 1000); do echo "$n" >"$OUTPUT_DIR/$n"; done"#)
        .task("each", r#"echo "<$(cat "$INPUT_FILE")>" >"$OUTPUT_DIR/$INPUT_NAME""#)
        .task("all", r#"cat "$INPUT_FILE" >"$OUTPUT_DIR/$INPUT_NAME"; echo "$INPUT_NAME""#);
    on(&p, &["--on", "local:4"]).go().ok().says(": 2001 done");
    let out = p.exported("all");
    assert_eq!(out.len(), 1000);
    assert!((1..=1000).all(|n| out[&n.to_string()] == format!("<{n}>\n")));
    assert_eq!(p.sql("SELECT count(*), count(DISTINCT step) FROM attempt"), ["2001|2001"]);
    assert_eq!(p.ledger().len(), 2001);
}

/// Processes of workers that belong to a project, by their folders' names.
pub(crate) fn workers(p: &Project) -> Vec<i32> {
    left_behind(p)
        .iter()
        .filter_map(|path| path.file_name()?.to_str()?.split('-').nth(3)?.parse().ok())
        .collect()
}

pub(crate) fn kill(pid: i32, signal: Signal) {
    // It may have gone by itself.
    let _ = kill_process(Pid::from_raw(pid).unwrap(), signal);
}

#[test]
fn the_steps_of_a_worker_that_is_killed_run_again_in_the_same_run_and_nothing_of_it_is_left() {
    let p = Project::new().task("many", r#"for n in 1 2; do echo "$n" >"$OUTPUT_DIR/$n"; done"#).task(
        "each",
        &format!(r#"echo "$$" >"pid.$INPUT_NAME.$ATTEMPT"; {WAIT_FOR_GO}; cat "$INPUT_FILE" >"$OUTPUT_DIR/x""#),
    );
    let running = on(&p, &["--on", "local:2"]).start();
    wait_for("two steps", || p.path("pid.1.1").exists() && p.path("pid.2.1").exists());
    let before = workers(&p);
    assert_eq!(before.len(), 2);
    kill(before[0], Signal::KILL);
    // Another worker takes its place, and ends what it has left.
    wait_for("another worker", || workers(&p).iter().any(|pid| !before.contains(pid)));
    wait_for("a second attempt", || p.path("pid.1.2").exists() || p.path("pid.2.2").exists());
    let lost = if p.path("pid.1.2").exists() { "pid.1.1" } else { "pid.2.1" };
    let script: i32 = p.read(lost).trim().parse().unwrap();
    wait_for("the end of the first attempt's script", || {
        !crate::harness::is_alive(&script.to_string())
    });
    p.file("go", "");
    running.end().ok().says("was lost").says("its step runs again").says(": 3 done");
    assert_eq!(p.sql("SELECT count(*), count(DISTINCT step), max(number) FROM attempt"), ["3|3|2"]);
    assert_eq!(left_behind(&p), Vec::<PathBuf>::new());
}

#[test]
fn a_step_that_brings_its_workers_down_is_left_and_the_others_are_done() {
    let p = Project::new()
        .task("many", r#"for n in 1 2 3 4; do echo "$n" >"$OUTPUT_DIR/$n"; done"#)
        .task(
            "each",
            r#"[ "$INPUT_NAME" != 2 ] || kill -9 "$PPID"; cat "$INPUT_FILE" >"$OUTPUT_DIR/x""#,
        );
    let ran = on(&p, &["--on", "local:4", "--launch", "spawn"]).go().fails(1);
    ran.says("has lost its worker 3 times and is left in this run").says(": 4 done").says("1 left");
    // Its next attempt has a number of its own.
    p.task("each", r#"cat "$INPUT_FILE" >"$OUTPUT_DIR/x""#);
    p.run().ok();
}

#[test]
fn a_run_whose_workers_are_all_lost_ends_and_says_so() {
    let p = Project::new().task("a", r#"kill -9 "$PPID"; sleep 60"#);
    let ran = on(&p, &["--on", "local:1", "--launch", "spawn"]).go().fails(69);
    ran.says("worker 1 on ").says("not used any more in this run").says("no worker is left of 1");
    p.task("a", "true").run().ok();
}

#[test]
fn a_run_that_is_killed_takes_its_workers_along_and_the_next_one_loses_and_repeats_nothing() {
    let p = Project::new()
        .task("many", r#"for n in $(seq 40); do echo "$n" >"$OUTPUT_DIR/$n"; done"#)
        .task("each", r#"cat "$INPUT_FILE" >"$OUTPUT_DIR/$INPUT_NAME"; sleep 0.05"#);
    for round in 0..3 {
        let running = on(&p, &["--on", "local:3"]).start();
        wait_for("some steps", || p.path("db/db").exists() && p.ledger().len() > 1 + 8 * round);
        running.signal(Signal::KILL);
        drop(running.end());
        wait_for("the end of the workers", || left_behind(&p).is_empty());
    }
    on(&p, &["--on", "local:3"]).go().ok();
    assert_eq!(p.exported("each").len(), 40);
    let counts = "SELECT count(*), count(DISTINCT step) FROM attempt WHERE outcome = 'ok'";
    assert_eq!(p.sql(counts), ["41|41"]);
}

#[test]
fn ctrl_c_ends_the_scripts_of_workers_and_leaves_their_steps_pending() {
    let p = Project::new().task("slow", "echo $$ >pid; exec sleep 600");
    let running = on(&p, &["--on", "local:2"]).start();
    wait_for("the script", || p.path("pid").exists() && !p.read("pid").is_empty());
    running.signal(Signal::INT);
    running.end().dies_of(Signal::INT);
    let script: i32 = p.read("pid").trim().parse().unwrap();
    wait_for("the end of the script", || !crate::harness::is_alive(&script.to_string()));
    assert_eq!(p.sql("SELECT count(*) FROM attempt"), ["0"]);
    assert_eq!(p.sql("SELECT state FROM step"), ["0"]);
    assert_eq!(left_behind(&p), Vec::<PathBuf>::new());
}

/// The port that a run listens on, as its workers were told.
pub(crate) fn port(p: &Project) -> u16 {
    let find = || {
        workers(p).into_iter().find_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            let at = words.iter().position(|word| *word == b"--connect")?;
            std::str::from_utf8(words[at + 1]).ok()?.rsplit(':').next()?.parse().ok()
        })
    };
    wait_for("a worker", || find().is_some());
    find().unwrap()
}

#[test]
fn strangers_at_the_door_are_sent_away_and_the_run_goes_on() {
    let p = Project::new()
        .task("many", r#"for n in 1 2 3 4; do echo "$n" >"$OUTPUT_DIR/$n"; done"#)
        .task("each", &format!("{WAIT_FOR_GO}; cat $INPUT_FILE >$OUTPUT_DIR/x"));
    let running = on(&p, &["--on", "local:2"]).start();
    let port = port(&p);
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let silent: Vec<TcpStream> = (0..1000).map(|_| connect()).collect();

    // Garbage, all at once and byte by byte.
    let mut garbage = connect();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let answer = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut answer = Vec::new();
        // Bytes that were never read make a reset of the end.
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    assert!(!answer(&mut garbage).contains("Refused"));

    // Another version, and somebody who doesn't know the secret.
    let mut other = connect();
    other.write_all(b"task-pipeline\n\xff\x00").unwrap();
    assert!(answer(&mut other).contains("install the same task-pipeline"));
    let mut liar = connect();
    let hello = b"{}";
    let mut said = b"task-pipeline\n\x01\x00".to_vec();
    said.extend((hello.len() as u32).to_le_bytes());
    said.extend(hello);
    said.extend([7; 32]);
    liar.write_all(&said).unwrap();
    assert!(answer(&mut liar).contains("doesn't know the secret"));
    // A hello that never ends.
    let mut endless = connect();
    endless.write_all(b"task-pipeline\n\x01\x00\xff\xff\xff\x7f").unwrap();
    assert!(answer(&mut endless).contains("a hello of 2147483647 bytes"));

    // A worker that is lost meanwhile finds its way in.
    let before = workers(&p);
    kill(before[0], Signal::KILL);
    wait_for("another worker", || {
        let now = workers(&p);
        now.len() == 2 && now.iter().any(|pid| !before.contains(pid))
    });
    p.file("go", "");
    let ran = running.end().ok().says(": 5 done");
    ran.says("is no worker").says("doesn't know the secret of this run").says("said nothing");
    drop(silent);
}

#[test]
fn a_worker_is_told_why_it_is_not_wanted() {
    let p = Project::new();
    p.cmd(["worker", "--connect", "127.0.0.1:1", "--run", "x"])
        .stdin("no secret\n")
        .go()
        .fails(2)
        .says("secret");
    let secret = "ab".repeat(32);
    let ran = p.cmd(["worker", "--connect", "127.0.0.1:1", "--run", "x"]).stdin(&secret).go();
    ran.fails(69).says("could not connect to the run at 127.0.0.1:1");
}

#[test]
fn objects_go_to_a_worker_and_back_whole_whatever_their_size() {
    let p = Project::new()
        .task(
            "make",
            r#"for n in 0 1 16383 16384 16385 131072 200000 5000000 20000000; do
                 head -c "$n" /dev/urandom >"$OUTPUT_DIR/$n"; done"#,
        )
        .task("copy", r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME""#)
        .task_with(
            "all",
            "gather = true",
            r#"cd "$INPUT_DIR"; cat $(ls | sort -n) >"$OUTPUT_DIR/all""#,
        );
    on(&p, &["--on", "local:3", "--worker-cache", "1M"]).go().ok().says(": 11 done");
    assert_eq!(p.exported("make"), p.exported("copy"));
    p.call(["verify"]).ok();
    assert_eq!(left_behind(&p), Vec::<PathBuf>::new());
}

#[test]
fn options_of_workers_that_don_t_fit_are_refused() {
    let p = Project::new().task("a", "true");
    p.run_with(["--on", "local:0"]).fails(2).says("one worker at least");
    p.run_with(["--on", "elsewhere"]).fails(2).says("local:N");
    p.run_with(["--on", "slurm:2"]).fails(2).says("--on slurm needs --walltime");
    p.run_with(["--walltime", "1h"]).fails(2).says("add --on slurm:N");
    p.run_with(["--on", "local:2", "--sbatch-arg=-pshort"]).fails(2).says("add --on slurm:N");
    let there = ["--on", "slurm:2", "--walltime", "1h", "--sbatch-arg=--clusters=c2"];
    p.run_with(there).fails(2).says("set SLURM_CLUSTERS");
    p.run_with(["--on", "local:2", "--listen", "here"]).fails(2).says("add --on ssh:HOST");
    p.run_with(["--on", "ssh:-oProxyCommand=x"]).fails(2).says("ssh:host1");
    p.run_with(["--on", "ssh:a", "--listen", "x:0"]).fails(2).says("HOST:PORT");
}

/// Runs here what it is to run elsewhere.
pub(crate) const SSH: &str = r#"#!/bin/sh
while [ "$1" != -- ]; do shift; done
echo "$2" >>hosts
[ "$2" != down ] || { echo "ssh: connect to host down port 22: No route to host" >&2; exit 255; }
shift 2
exec sh -c "$*"
"#;

#[test]
fn workers_are_started_by_ssh_and_a_host_that_is_down_is_left_out() {
    let p = Project::named("has a blank ")
        .program("ssh", SSH)
        .task("many", r#"for n in 1 2 3 4 5 6; do echo "$n" >"$OUTPUT_DIR/$n"; done"#)
        .task("each", &format!(r#"{WAIT_FOR_GO}; cat "$INPUT_FILE" >"$OUTPUT_DIR/x""#));
    let run = on(&p, &["--on", "ssh:near,2/down,2/me@far", "--listen", "127.0.0.1"]).start();
    wait_for("the last attempt at a host", || run.stderr().contains("not used any more"));
    p.file("go", "");
    let ran = run.end().ok().says(": 7 done").says("worker 2 on down was lost");
    ran.says("No route to host");
    let hosts: std::collections::BTreeSet<String> =
        p.read("hosts").lines().map(str::to_owned).collect();
    assert_eq!(hosts.into_iter().collect::<Vec<_>>(), ["down", "me@far", "near"]);
    assert_eq!(left_behind(&p), Vec::<PathBuf>::new());
}

/// A batch system of one machine, which runs everything at once; `$how` says what is wrong with it.
pub(crate) fn slurm(p: &Project, how: &str) {
    let sbatch = r#"#!/bin/sh
cd "${0%/bin/*}"
printf '%s\n' "$*" >>sbatch.log
env | grep -E '^(SLURM|SBATCH)_' >>sbatch.env
script=job.$$; cat >$script
[ ! -e elsewhere ] || sed -i "s/--connect [^ ]*/--connect $(cat elsewhere)/" $script
HOW
for word; do
  case $word in --array=*) tasks=${word#*=} ;; --job-name=*) name=${word#*=} ;; esac
done
for task in $(echo "$tasks" | tr , ' '); do
  SLURM_ARRAY_TASK_ID=$task SLURM_JOB_ID=7$task SLURMD_NODENAME=n$task setsid sh $script >/dev/null 2>&1 &
  echo "77_$task|RUNNING|$name" >>queue
done
AFTER
echo 77
"#;
    let (before, after) = match how {
        "refuses" => ("echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1", ""),
        "times out" => {
            ("", "echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1")
        }
        "says junk" => ("", "echo 'Welcome to the cluster!'; exit 0"),
        "hangs" => ("", "exec sleep 600"),
        _ => ("", ""),
    };
    let sbatch = match how {
        "starts late" => sbatch.replace(
            "setsid sh $script",
            "setsid sh -c 'until [ -e squeue.log ]; do sleep 0.05; done; exec sh \"$0\"' $script",
        ),
        _ => sbatch.to_owned(),
    };
    p.program("sbatch", &sbatch.replace("HOW", before).replace("AFTER", after));
    p.program("squeue", "#!/bin/sh\ncd \"${0%/bin/*}\"; echo x >>squeue.log; cat queue\n");
    p.program("scancel", "#!/bin/sh\ncd \"${0%/bin/*}\"; echo \"$@\" >>scancel.log\n");
}

/// A run on three jobs of two slots.
pub(crate) fn on_slurm(p: &Project, args: &[&str]) -> crate::harness::Call {
    let options = ["--on", "slurm:3x2", "--walltime", "90s", "--listen", "127.0.0.1"];
    on(p, &options.into_iter().chain(args.iter().copied()).collect::<Vec<_>>())
}

pub(crate) fn some_steps() -> Project {
    Project::new()
        .task("many", r#"for n in $(seq 20); do echo "$n" >"$OUTPUT_DIR/$n"; done"#)
        .task("each", r#"cat "$INPUT_FILE" >"$OUTPUT_DIR/x""#)
}

#[test]
fn one_array_of_jobs_has_all_workers_and_is_cancelled_by_its_name_at_the_end() {
    let p = some_steps();
    slurm(&p, "");
    let call = on_slurm(&p, &["--sbatch-arg=--partition=long", "--sbatch-arg=-Amine"]);
    let call = call.env("SLURM_JOB_ID", "9").env("SBATCH_PARTITION", "wrong");
    call.env("SLURM_CONF", "/etc/slurm.conf").go().ok().says(": 21 done");
    let log = p.read("sbatch.log");
    assert_eq!(log.lines().count(), 1, "{log}");
    for word in [
        "--array=1,2,3",
        "--cpus-per-task=2",
        "--time=2",
        "--no-requeue",
        "--partition=long",
        "-Amine",
    ] {
        assert!(log.split_whitespace().any(|one| one == word), "{word}: {log}");
    }
    let name = log.trim().rsplit("--job-name=").next().unwrap().to_owned();
    assert!(name.starts_with("tp-1-"), "{log}");
    assert_eq!(p.read("sbatch.env"), "SLURM_CONF=/etc/slurm.conf\n");
    assert_eq!(p.read("scancel.log"), format!("--name={name}\n"));
    assert!(!p.path("squeue.log").exists() && !p.path("db/slurm").exists());
    wait_for("the end of the workers", || left_behind(&p).is_empty());
}

#[test]
fn a_submission_of_which_nobody_knows_what_became_is_made_once() {
    for how in ["times out", "says junk", "hangs"] {
        let p = some_steps();
        slurm(&p, how);
        on_slurm(&p, &[]).go().ok().says(": 21 done");
        assert_eq!(p.read("sbatch.log").lines().count(), 1, "{how}");
        assert_eq!(p.read("scancel.log").lines().count(), 1, "{how}");
        let asked = p.path("squeue.log").exists().then(|| p.read("squeue.log").lines().count());
        assert!(asked.unwrap_or(0) <= 1, "{how}: {asked:?}");
        assert_eq!(p.sql("SELECT count(*), count(DISTINCT step) FROM attempt"), ["21|21"], "{how}");
    }
}

#[test]
fn one_answer_of_the_queue_without_the_jobs_is_no_word_on_them() {
    let trouble = "the queue can't be asked: squeue: it failed and said nothing";
    let cases = [
        ("", ""),
        ("echo 'slurm_load_jobs error: Invalid job id'; echo '|||'", ""),
        ("exit 1", trouble),
        ("exec sleep 600", ""),
    ];
    let case = |said: &str, told: &str| {
        let p = some_steps();
        slurm(&p, "starts late");
        let squeue = format!("#!/bin/sh\ncd \"${{0%/bin/*}}\"; echo x >>squeue.log; {said}\n");
        p.program("squeue", &squeue);
        let run = on_slurm(&p, &["--sbatch-arg=--exclude=n9"]).go().ok();
        run.says(": 21 done").says_nothing_of("no more workers").says(told);
        let log = p.read("sbatch.log");
        assert_eq!(log.lines().count(), 1, "{said}: {log}");
        assert!(log.contains("--exclude=n9 "), "{log}");
    };
    // Each waits for the first question to the queue.
    std::thread::scope(|scope| {
        for (said, told) in cases {
            scope.spawn(move || case(said, told));
        }
    });
}

#[test]
fn what_slurm_refuses_ends_the_run_with_its_words() {
    let p = some_steps();
    slurm(&p, "refuses");
    let ran = on_slurm(&p, &[]).go().fails(69).says("invalid partition specified: gpu");
    // Nothing was submitted, so there is nothing to cancel, now or later.
    ran.says_nothing_of("cancelled");
    assert!(!p.path("scancel.log").exists() && !p.path("db/slurm").exists());
    assert_eq!(p.read("sbatch.log").lines().count(), 1);
    p.run().ok().says(": 21 done");
}

#[test]
fn without_slurm_s_commands_a_run_says_so() {
    let p = some_steps().program("sbatch", "no program at all");
    on_slurm(&p, &[]).go().fails(69).says("sbatch could not be run").says("no worker is left");
    // The run goes on while that is found out.
    let p = Project::new().program("sbatch", "no program at all").task("one", WAIT_FOR_GO);
    let run = on_slurm(&p, &["-j1"]).start();
    wait_for("the news", || run.stderr().contains("sbatch could not be run"));
    p.file("go", "");
    run.end().ok().says(": 1 done");
}

#[test]
fn the_jobs_of_a_run_that_was_killed_are_cancelled_by_the_next_one() {
    let p = Project::new().task("slow", "[ -e go ] || { : >started; exec sleep 600; }");
    slurm(&p, "");
    let running = on_slurm(&p, &[]).start();
    wait_for("the script", || p.path("started").exists());
    let name = p.read("db/slurm");
    running.signal(Signal::KILL);
    drop(running.end());
    assert!(!p.path("scancel.log").exists());
    p.file("go", "");
    // Also where the next run needs no workers.
    p.run().ok().says("that an earlier run has left are cancelled").says(": 1 done");
    assert_eq!(p.read("scancel.log"), format!("--name={name}"));
    assert!(!p.path("db/slurm").exists());
    for pid in workers(&p) {
        kill(pid, Signal::TERM);
    }
    wait_for("the end of the workers", || left_behind(&p).is_empty());
}

#[test]
fn ctrl_c_cancels_the_jobs_too() {
    let p = Project::new().task("slow", ": >started; exec sleep 600");
    slurm(&p, "");
    let running = on_slurm(&p, &[]).start();
    wait_for("the script", || p.path("started").exists());
    running.signal(Signal::INT);
    running.end().dies_of(Signal::INT);
    assert_eq!(p.read("scancel.log").lines().count(), 1);
    assert_eq!(p.sql("SELECT count(*) FROM attempt"), ["0"]);
}

#[test]
fn a_job_that_drains_is_not_submitted_again_and_a_host_that_drains_is_left_out() {
    let p = Project::new()
        .task("many", r#"for n in $(seq 12); do echo "$n" >"$OUTPUT_DIR/$n"; done"#)
        .task(
            "each",
            &format!(
                r#"echo >started.$INPUT_NAME; {WAIT_FOR_GO}; cat "$INPUT_FILE" >"$OUTPUT_DIR/x""#
            ),
        );
    slurm(&p, "");
    let run = on_slurm(&p, &[]).start();
    let started = || (1..=12).filter(|n| p.path(format!("started.{n}")).exists()).count();
    wait_for("six steps", || started() == 6);
    let host = |n: usize| {
        let workers = p.call(["workers", "--json"]).ok().json();
        (workers["workers"][n]["host"].clone(), workers["workers"][n]["job"].clone())
    };
    assert_eq!(host(1), ("n2".into(), "72".into()));
    p.call(["workers", "--drain", "1", "n2"]).ok();
    p.file("go", "");
    // A job elsewhere takes the place of the one on the host; its script runs on n2 here, and is sent away.
    run.end().ok().says(": 13 done").says_nothing_of("was lost");
    let log = p.read("sbatch.log");
    assert!(!log.lines().skip(1).any(|line| line.contains("--array=1")), "{log}");
    assert!(log.lines().skip(1).all(|line| line.contains("--exclude=n2")), "{log}");
    wait_for("the end of the workers", || left_behind(&p).is_empty());
}
