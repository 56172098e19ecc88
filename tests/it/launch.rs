//! How scripts are started: a forked interpreter is the same as one that was started anew, in every respect that a script
//! can see, and whatever happens to it.

use std::collections::BTreeMap;
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{Project, wait_for};

/// Inputs. A worker starts the first two of a task in the plain way, and a slot may have two workers.
const STEPS: usize = 8;

/// So that these tests mean the same however all others start their scripts.
const AUTO: [&str; 3] = ["-j1", "--launch", "auto"];

fn project() -> Project {
    let p = Project::new();
    for n in 1..=STEPS {
        p.file(format!("in/{n}"), format!("{n}\n"));
    }
    p
}

/// What the steps of a task leave, started in either way; and that they were.
fn in_both_ways(p: &Project, keys: &str, script: &str) -> [BTreeMap<String, String>; 2] {
    ["auto", "spawn"].map(|how| {
        p.manifest(&format!(
            "[[task]]\nname = \"look\"\ninputs = [\"in/*\"]\n{keys}\nscript = '''{script}'''\n"
        ));
        p.run_with(["-j1", "-v", "-B", "--launch", how]).ok();
        assert_eq!(forked_steps(p) > 0, how == "auto", "{how}");
        p.exported("look")
    })
}

/// Attempts of the last run that were started by a fork.
fn forked_steps(p: &Project) -> usize {
    let sql = "SELECT count(*) FROM attempt WHERE forked = 1 AND run = (SELECT max(id) FROM run)";
    p.sql(sql)[0].parse().unwrap()
}

fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let is_there = found.is_ok_and(|found| found.status.success());
    if !is_there {
        eprintln!("SKIPPED: {program} is not installed");
    }
    is_there
}

/// All that a script can find out about its own process. The folders of a run and of a worker differ from those of
/// another one.
const LOOK: &str = r#"
tidy() { sed -E 's#[^ ]*/scratch/[^/]*/w[0-9]+/#SCRATCH/#g; s/^ATTEMPT=.*/ATTEMPT/'; }
exec 9>"$OUTPUT_DIR/$INPUT_NAME"
{
    echo "$0 $# $-" | tidy
    tr '\0' ' ' </proc/$$/cmdline | tidy; echo
    cat /proc/$$/comm; readlink /proc/$$/exe /proc/$$/cwd /proc/$PPID/exe
    read -r pid comm state parent group session rest </proc/$$/stat
    [ "$pid $group $parent" = "$$ $$ $PPID" ] && echo numbers
    [ "$session" = "$(cut -d' ' -f6 /proc/$PPID/stat)" ] && echo session
    cut -d' ' -f7,18,19,20,41 /proc/$$/stat
    grep -E '^(Uid|Gid|Groups|SigIgn|NoNewPrivs|Seccomp|Cap.*|Threads|Cpus_allowed):' /proc/$$/status >"$TMPDIR/status"
    # Without glibc's own two, 32 and 33, which its posix_spawn leaves ignored.
    sed -E 's/^(SigIgn:.{8})../\1../' "$TMPDIR/status"
    cat /proc/$$/limits /proc/$$/oom_score_adj; umask
    env | sort | tidy
    tr '\0' '\n' </proc/$$/environ | sed '/^$/d' | sort | tidy
    # Not at one end of a pipe of its own.
    ls -l /proc/$$/fd >"$TMPDIR/open"
    sed -E 's/.* ([0-9]+ -> )/\1/; s/pipe:.*/pipe/; s#[^ ]*/scratch/[^/]*/w[0-9]+/#SCRATCH/#; /^total/d' "$TMPDIR/open"
    (echo "sub $(( $$ == pid ))"); sh -c 'echo "child $PPID"' | sed "s/$$/own/"
    sleep 0 & wait $!; echo "waited $?"
    (exit 7) || echo "code $?"
    trap 'echo trapped' USR1; kill -USR1 $$
    cat </dev/stdin | wc -c
    set -- $(ulimit -n) $(nice); echo "$@"
} >&9 2>&1
exec 9>&-
"#;

#[test]
fn a_forked_shell_finds_the_world_that_it_finds_when_it_is_started_anew() {
    for shell in ["sh -e", "bash -eu", "busybox sh -e"] {
        let program = shell.split(' ').next().unwrap();
        // A busybox that is linked statically is started anew: nothing to compare.
        if !has(program) || program == "busybox" && !is_dynamic("busybox") {
            continue;
        }
        let p = project();
        let [forked, plain] = in_both_ways(&p, &format!("shell = \"{shell}\""), LOOK);
        assert_eq!(forked.len(), STEPS);
        for (name, forked) in &forked {
            assert!(forked.contains("\nnumbers\n") && forked.contains("\ntrapped\n"), "{forked}");
            assert!(!forked.contains("LD_PRELOAD"), "{forked}");
            assert_eq!(forked, &plain[name], "{shell}, {name}");
        }
    }
}

fn is_dynamic(program: &str) -> bool {
    let line = format!("head -c 4096 \"$(command -v {program})\" | grep -q ld-linux");
    Command::new("sh").args(["-c", &line]).status().is_ok_and(|status| status.success())
}

#[test]
fn a_forked_python_has_its_own_number_threads_signals_and_chance() {
    if !has("/usr/bin/python3") {
        return;
    }
    let script = r#"
import os, random, signal, threading
said = []
signal.signal(signal.SIGUSR1, lambda number, frame: said.append(number))
signal.raise_signal(signal.SIGUSR1)
thread = threading.Thread(target=lambda: said.append(threading.get_native_id() != os.getpid()))
thread.start()
thread.join()
with open("/proc/self/stat") as stat:
    said.append(int(stat.read().split()[0]) == os.getpid() == threading.get_native_id() == os.getpgid(0))
said += [os.environ["INPUT_NAME"], sorted(os.environ)]
if os.fork() == 0:
    os._exit(0 if os.getpid() == threading.get_native_id() else 1)
said.append(os.wait()[1])
said.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
folder = os.environ["OUTPUT_DIR"]
with open(folder + "/" + os.environ["INPUT_NAME"], "w") as out:
    out.write(repr(said))
with open(folder + "/chance-" + os.environ["INPUT_NAME"], "w") as out:
    out.write(f"{hash('x')} {random.random()}")
"#;
    let p = project();
    let [forked, plain] = in_both_ways(&p, "shell = \"/usr/bin/python3\"", script);
    for (name, forked) in forked.iter().filter(|(name, _)| !name.starts_with("chance")) {
        assert!(forked.starts_with("[10, True, True, "), "{forked}");
        assert_eq!(forked, &plain[name]);
    }
    let chances: Vec<_> = forked.iter().filter(|(name, _)| name.starts_with("chance")).collect();
    for (name, chance) in &chances {
        assert!(chances.iter().all(|(other, same)| other == name || same != chance), "{chances:?}");
    }
}

/// A shell of ours, linked against another C library: prints what main is given and what the library knows.
const MUSL: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile int raised;
static void on(int number) { raised = number; }
static void *run(void *own) { *(int *)own = syscall(SYS_gettid) != getpid(); return own; }
int main(int argc, char **argv, char **variables) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("OUTPUT_DIR"), getenv("INPUT_NAME"));
    FILE *out = fopen(path, "w");
    int count = 0, same = 1, other = 0;
    for (; variables[count]; count++) same &= variables[count] == environ[count];
    signal(SIGUSR1, on);
    raise(SIGUSR1);
    pthread_t thread;
    pthread_create(&thread, 0, run, &other);
    pthread_join(thread, 0);
    int status = 1;
    pid_t child = fork();
    if (child == 0) { raise(SIGUSR1); _exit(raised != SIGUSR1); }
    waitpid(child, &status, 0);
    fprintf(out, "%d %d %d %d %d %d %s %d\n", argc, count, same, raised == SIGUSR1, other, status, getenv("INPUT_NAME"),
            (int)syscall(SYS_gettid) == getpid());
    return fclose(out);
}
"#;

#[test]
fn a_forked_interpreter_of_another_c_library_has_its_own_numbers_and_variables() {
    if !has("musl-gcc") {
        return;
    }
    let p = project();
    p.file("shell.c", MUSL);
    let mut compiler = Command::new("musl-gcc");
    let built = compiler.args(["-o", "shell", "shell.c"]).current_dir(p.root()).status();
    assert!(built.unwrap().success());
    let [forked, plain] = in_both_ways(&p, "shell = \"./shell\"", "nothing");
    assert_eq!(forked.len(), STEPS);
    assert_eq!(forked, plain);
    for (name, told) in forked {
        let told: Vec<&str> = told.split_whitespace().collect();
        assert_eq!((told[0], &told[2..]), ("2", &["1", "1", "1", "0", &name, "1"][..]), "{told:?}");
    }
}

/// What a library may do before main: draw numbers, note the time, its process and its variables, open a file, start a
/// thread.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>
unsigned seed;
int owner, opened;
const char *task;
volatile int asked, answered;
static void *answer(void *none) {
    while (!asked) usleep(1000);
    answered = 1;
    return none;
}
__attribute__((constructor)) static void begin(void) {
    pthread_t thread;
    getrandom(&seed, sizeof seed, 0);
    owner = getpid();
    task = getenv("TASK_NAME");
    opened = open("/dev/null", O_RDONLY);
    pthread_create(&thread, 0, answer, 0);
}
"#;

/// An interpreter that tells what that library has found, and what else its chance may come from: the kernel's bytes and
/// the place of its heap.
const WITH_LIBRARY: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <unistd.h>
extern unsigned seed;
extern int owner, opened;
extern const char *task;
extern volatile int asked, answered;
int main(void) {
    char path[4096];
    const char *folder = getenv("OUTPUT_DIR"), *name = getenv("INPUT_NAME");
    asked = 1;
    for (int n = 0; n < 20000 && !answered; n++) usleep(1000);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *out = fopen(path, "w");
    fprintf(out, "%d %s %d %d\n", owner == getpid(), task ? task : "none", opened, answered);
    fclose(out);
    snprintf(path, sizeof path, "%s/chance-%s", folder, name);
    out = fopen(path, "w");
    fprintf(out, "%u %llu %p\n", seed, *(unsigned long long *)getauxval(AT_RANDOM), malloc(1));
    return fclose(out);
}
"#;

#[test]
fn each_forked_interpreter_starts_its_libraries_itself_and_has_a_chance_of_its_own() {
    for compiler in ["cc", "musl-gcc"] {
        if !has(compiler) {
            continue;
        }
        let p = project();
        p.file("state.c", LIBRARY).file("shell.c", WITH_LIBRARY);
        let compile = |args: &[&str]| {
            let built = Command::new(compiler).args(args).current_dir(p.root()).status();
            assert!(built.unwrap().success());
        };
        compile(&["-shared", "-fPIC", "-pthread", "-o", "libstate.so", "state.c"]);
        compile(&["-o", "shell", "shell.c", "-L.", "-lstate", "-Wl,-rpath,$ORIGIN"]);
        let [forked, plain] = in_both_ways(&p, "shell = \"./shell\"", "nothing");
        let mut chances = [const { Vec::new() }; 3];
        for (name, told) in &forked {
            if !name.starts_with("chance") {
                assert_eq!(told, "1 look 3 1\n", "{compiler}, {name}");
                assert_eq!(told, &plain[name]);
                continue;
            }
            for (chance, drawn) in told.split_whitespace().zip(&mut chances) {
                drawn.push(chance.to_owned());
            }
        }
        // musl takes its heap from a place of the kernel's choice, which a fork doesn't change.
        let differing = if compiler == "cc" { 3 } else { 2 };
        for drawn in &mut chances[..differing] {
            drawn.sort();
            drawn.dedup();
            assert_eq!(drawn.len(), STEPS, "{compiler}: {drawn:?}");
        }
    }
}

#[test]
fn an_interpreter_that_is_replaced_during_a_run_is_used_from_the_next_step_on() {
    if !has("bash") {
        return;
    }
    let p = project();
    let copy = |from: &str, to: &str| {
        let from = Command::new("sh").args(["-c", &format!("command -v {from}")]).output().unwrap();
        let from = String::from_utf8(from.stdout).unwrap();
        std::fs::copy(std::fs::canonicalize(from.trim()).unwrap(), p.path(to)).unwrap();
    };
    copy("sh", "shell");
    copy("bash", "next");
    let p = p.task_with(
        "look",
        "inputs = [\"in/*\"]\nshell = \"./shell -e\"",
        r#"echo "${BASH_VERSION:+bash}" >"$OUTPUT_DIR/$INPUT_NAME"
           if [ "$INPUT_NAME" = 6 ]; then mv next shell; fi"#,
    );
    p.run_with(AUTO).ok();
    let looks: Vec<String> = p.exported("look").into_values().collect();
    assert_eq!(looks, ["\n", "\n", "\n", "\n", "\n", "\n", "bash\n", "bash\n"]);
    assert!(forked_steps(&p) > 0);
}

#[test]
fn a_server_that_is_killed_costs_nothing_but_time() {
    let p = project().task_with(
        "kill",
        "inputs = [\"in/*\"]",
        r#"for child in $(cat /proc/"$PPID"/task/*/children); do
               if [ "$child" != $$ ]; then kill -9 "$child"; echo killed >>servers; fi
           done
           echo "$INPUT_NAME" >"$OUTPUT_DIR/$INPUT_NAME""#,
    );
    p.run_with(AUTO).ok();
    assert_eq!(p.exported("kill").len(), STEPS);
    assert!(p.read("servers").contains("killed"));
    assert_eq!(p.sql("SELECT count(*), max(number) FROM attempt"), [format!("{STEPS}|1")]);
}

#[test]
fn a_server_whose_object_is_ignored_would_find_no_script() {
    let p = project().task_with(
        "look",
        "inputs = [\"in/*\"]",
        r#"for child in $(cat /proc/"$PPID"/task/*/children); do
               if [ "$child" != $$ ]; then
                   file=$(tr '\0' '\n' <"/proc/$child/cmdline" | tail -n 1)
                   echo "$file" >>servers
                   if [ -e "$file" ]; then echo "$file" >>scripts; fi
               fi
           done"#,
    );
    p.run_with(AUTO).ok();
    assert!(p.read("servers").contains("/scratch/"));
    assert!(!p.path("scripts").exists());
}

#[test]
fn nothing_is_left_of_a_server_when_the_run_has_ended_or_was_killed() {
    let p = project().task_with(
        "wait",
        "inputs = [\"in/*\"]",
        r#"if [ "$INPUT_NAME" = 7 ] && [ ! -e go ]; then : >waits; while [ ! -e go ]; do sleep 0.02; done; fi"#,
    );
    let run = p.run_cmd(AUTO).start();
    wait_for("the last step but one", || p.path("waits").exists());
    let folder = p.path("db/scratch");
    let of_ours = || {
        let needle = folder.to_str().unwrap().as_bytes();
        let is_ours = |pid: &u32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.windows(needle.len()).any(|part| part == needle))
        };
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        all.filter(is_ours).count()
    };
    let before = of_ours();
    assert!(before >= 2, "a server and the script");
    run.signal(Signal::KILL);
    run.end().dies_of(Signal::KILL);
    // Nobody is there who could end it, nor has to.
    wait_for("the end of the server", || of_ours() == 1);
    p.file("go", "");
    p.run_with(AUTO).ok();
    assert_eq!(of_ours(), 0);
}

#[test]
fn whatever_is_unusual_is_started_anew_and_v_says_why() {
    let p = project().task_with("look", "inputs = [\"in/*\"]", ":");
    let preloaded = p.run_cmd(AUTO.iter().chain(&["-v"])).env("LD_PRELOAD", "libm.so.6").go().ok();
    preloaded.says("task `look`: each step starts its interpreter anew: LD_PRELOAD is set");
    assert_eq!(forked_steps(&p), 0);
    p.run_cmd(AUTO.iter().chain(&["-B"]))
        .env("LD_PRELOAD", "libm.so.6")
        .go()
        .ok()
        .says_nothing_of("anew");
    // A script with a jobserver needs descriptors of its own.
    let p = p.task_with("look", "inputs = [\"in/*\"]\njobserver = true", ":");
    p.run_with(AUTO).ok();
    assert_eq!(forked_steps(&p), 0);
    // One whose first object must be the sanitizer's. Not every compiler has that.
    let p = project().file("shell.c", "int main(void) { return 0; }");
    let mut compiler = Command::new("cc");
    compiler.args(["-fsanitize=address", "-o", "shell", "shell.c"]).current_dir(p.root());
    if compiler.output().unwrap().status.success() {
        let p = p.task_with("look", "inputs = [\"in/*\"]\nshell = \"./shell\"", ":");
        p.run_with(AUTO.iter().chain(&["-v"])).ok().says("its loader takes no object of ours");
        assert_eq!(forked_steps(&p), 0);
    }
    // An interpreter that is a script.
    let p = project().program("shell", "#!/bin/sh\nexec sh \"$@\"\n").task_with(
        "look",
        "inputs = [\"in/*\"]\nshell = \"bin/shell -e\"",
        ":",
    );
    p.run_with(AUTO.iter().chain(&["-v"])).ok().says("is no program of this machine's kind");
    assert_eq!(forked_steps(&p), 0);
}

#[test]
fn the_way_of_a_start_is_told_by_explain_log_and_events() {
    let p = project().task_with("look", "inputs = [\"in/*\"]", ":");
    p.run_with(AUTO.iter().chain(&["--events", "events"])).ok();
    let ways: Vec<String> = p
        .read("events")
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .filter(|event| event["event"] == "step_ended")
        .map(|event| event["start"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((ways.len(), &*ways[0]), (STEPS, "spawn"));
    let forked = p.sql("SELECT min(step) FROM attempt WHERE forked = 1").remove(0);
    assert_eq!(ways[forked.parse::<usize>().unwrap() - 1], "fork");
    let explain = p.call(["explain", "--json", &forked]).ok().json();
    assert_eq!(explain["of_step"]["attempts"][0]["start"], "fork");
    p.call(["explain", &forked]).ok().answers("by a forked interpreter");
    assert_eq!(p.call(["log", "--json", &forked]).ok().json()[0]["attempt"]["start"], "fork");
    assert_eq!(p.call(["log", "--json", "1"]).ok().json()[0]["attempt"]["start"], "spawn");
}

#[test]
fn a_sandbox_is_entered_by_a_forked_script_too() {
    let p = project().file("secret", "secret\n");
    let script = r#"cat "$INPUT_FILE" >"$OUTPUT_DIR/$INPUT_NAME"
        if cat secret; then echo read >>"$OUTPUT_DIR/$INPUT_NAME"; fi"#;
    let keys = "inputs = [\"in/*\"]\nsandbox = true";
    p.manifest(&format!("[[task]]\nname = \"look\"\n{keys}\nscript = '''{script}'''\n"));
    if let Some(why) = task_pipeline::step::obstacle(true) {
        return eprintln!("SKIPPED: {why}");
    }
    p.run_with(AUTO).ok();
    assert!(forked_steps(&p) > 0);
    for (name, content) in p.exported("look") {
        assert_eq!(content, format!("{name}\n"));
    }
}

#[test]
fn servers_take_no_descriptors_that_the_scripts_need() {
    let p = project();
    for n in STEPS + 1..=40 {
        p.file(format!("in/{n}"), "");
    }
    let task = |n| format!("[[task]]\nname = \"t{n}\"\ninputs = [\"in/*\"]\nscript = \":\"\n");
    p.manifest(&(1..=12).map(task).collect::<String>());
    p.run_cmd(["-j64", "--launch", "fork"]).shell("ulimit -n 256").go().ok();
    assert!(forked_steps(&p) > 0);
}

#[test]
fn servers_take_no_processes_that_the_scripts_need() {
    if !has("prlimit") {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return eprintln!("SKIPPED: this user may have more than 63 processes already");
    }
    for (limit, has_servers) in [("63", false), ("4096", true)] {
        let p = project().task_with("look", "inputs = [\"in/*\"]", ":");
        let shell = format!("prlimit --pid $$ --nproc={limit}:");
        p.run_cmd(["-j1", "--launch", "fork"]).shell(&shell).go().ok();
        assert_eq!(forked_steps(&p) > 0, has_servers, "{limit}");
    }
}

#[test]
fn a_server_that_a_script_has_stopped_goes_on_when_it_is_needed() {
    let p = project().task_with(
        "stop",
        "inputs = [\"in/*\"]",
        r#"for child in $(cat /proc/"$PPID"/task/*/children); do
               if [ "$child" != $$ ]; then kill -STOP "$child"; echo stopped >>servers; fi
           done"#,
    );
    p.run_with(["-j1", "--launch", "fork"]).ok();
    assert!(p.read("servers").contains("stopped"));
    assert_eq!(forked_steps(&p), STEPS);
}

#[test]
fn a_loader_that_is_to_speak_or_do_more_does_so_for_each_script() {
    for name in ["LD_DEBUG", "LD_SHOW_AUXV", "GLIBC_TUNABLES"] {
        let p = project().task_with(
            "look",
            &format!("inputs = [\"in/*\"]\nenv = {{ {name} = \"statistics\" }}"),
            ":",
        );
        p.run_with(AUTO.iter().chain(&["-v"])).ok().says(&format!("anew: {name} is set"));
        assert_eq!(forked_steps(&p), 0);
    }
}
