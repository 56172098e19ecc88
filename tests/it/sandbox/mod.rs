//! `sandbox = true`: a script reaches what its task declares, and the kernel refuses the rest.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Project, Tokens, chmod, files, sha256, tree};

/// What Landlock doesn't refuse: the attempt, up to which version of it, and the words for it in the README.
const OUT_OF_REACH: [(&str, i32, &str); 7] = [
    ("look at a file's size and times", i32::MAX, "see that a file exists"),
    ("change a file's mode", i32::MAX, "change its mode, times and owner"),
    ("change a file's times", i32::MAX, "change its mode, times and owner"),
    ("change a file's owner", i32::MAX, "change its mode, times and owner"),
    (
        "read the runner's environment",
        i32::MAX,
        "As root it can also read the environment of other processes",
    ),
    ("send by UDP", 9, "UDP (before Linux 7.2)"),
    ("connect to a Unix socket by its path", 8, "Unix sockets by their paths (before Linux 7.1)"),
];

/// Whether this kernel confines anything at all; says so if it doesn't.
pub(crate) fn can_confine() -> bool {
    let why = task_pipeline::step::obstacle(true);
    if let Some(why) = &why {
        eprintln!("SKIPPED: {why}");
    }
    why.is_none()
}

#[test]
fn a_hostile_script_reaches_nothing_but_what_the_readme_says() {
    if !can_confine() {
        return;
    }
    if !Path::new("/usr/bin/python3").exists() {
        return eprintln!("SKIPPED: no /usr/bin/python3");
    }
    let p = Project::new().file("victim/secret", "secret\n").file("victim/plain", "plain\n");
    p.file("victim/program", "#!/bin/sh\n").file("in.txt", "input\n");
    chmod(&p.path("victim/program"), 0o755);
    std::fs::create_dir(p.path("victim/empty")).unwrap();
    let theirs = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let name = format!("task-pipeline-{}", std::process::id());
    let _by_name =
        UnixListener::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
    let _by_path = UnixListener::bind(p.path("victim/s")).unwrap();
    let mut other = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();

    // So that there is an object to go for.
    let object = "[[task]]\nname = \"first\"\nscript = 'echo object > $OUTPUT_DIR/x'\n";
    p.manifest(object).run().ok();
    let hash = &p.sql("SELECT lower(hex(object)) FROM output")[0];
    let env = format!(
        "env = {{ OTHER = \"{}\", TCP = \"{}\", UDP = \"{}\", ABSTRACT = \"{name}\", OBJECT = \"{}\", THEIRS = \"{}\" }}",
        other.id(),
        tcp.local_addr().unwrap().port(),
        udp.local_addr().unwrap().port(),
        p.object(hash).display(),
        theirs.path().display(),
    );
    p.manifest(&format!(
        "{object}[[task]]\nname = \"evil\"\ninputs = [\"in.txt\"]\nsandbox = true\nnetwork = false\n{env}\n\
         shell = \"/usr/bin/python3 -I\"\nscript = '''\n{}'''\n",
        include_str!("hostile.py")
    ));
    let victim = tree(&p.path("victim"));
    let ran = p.run();
    let log = p.call(["log", "evil"]).stdout;
    other.kill().unwrap();
    other.wait().unwrap();
    ran.ok();

    let number = |word: &str| -> i32 {
        let line = log.lines().find_map(|line| line.strip_prefix(word)).unwrap();
        line.trim().parse().unwrap()
    };
    let (abi, tried) = (number("abi "), number("tried "));
    let refused = log.lines().filter(|line| line.starts_with("refused: ")).count() as i32;
    let succeeded: Vec<&str> =
        log.lines().filter_map(|line| line.strip_prefix("SUCCEEDED: ")).collect();
    assert!(tried >= 60 && refused >= 50, "{log}");
    assert_eq!(refused + succeeded.len() as i32, tried, "an attempt is unclear: {log}");
    let readme =
        include_str!("../../../README.md").split_whitespace().collect::<Vec<_>>().join(" ");
    for what in succeeded {
        let known = OUT_OF_REACH.iter().find(|(known, last, _)| *known == what && abi <= *last);
        let scoped = ["signal", "abstract"].iter().any(|word| what.contains(word)) && abi < 6;
        let words = known.map(|(_, _, words)| *words).or(scoped.then_some("Linux 6.12"));
        let words = words.unwrap_or_else(|| panic!("`{what}` should have been refused:\n{log}"));
        assert!(readme.contains(words), "the README doesn't say that `{what}` isn't refused");
    }
    chmod(&p.path("victim/plain"), 0o644);
    assert_eq!(tree(&p.path("victim")), victim, "{log}");
    p.call(["verify", "--data"]).ok();
}

#[test]
fn a_script_reads_what_it_declares_and_writes_where_it_should() {
    if !can_confine() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(data.path().join("ref/deep")).unwrap();
    std::fs::write(data.path().join("ref/deep/genome"), "genome\n").unwrap();
    let script = r#"
        cat "$INPUT_FILE" words.txt src/*.h ref/deep/.hidden "$REF/deep/genome" beside > "$TMPDIR/all"
        mv "$TMPDIR/all" "$OUTPUT_DIR/all"
        mkdir "$OUTPUT_DIR/sub"; echo x > "$OUTPUT_DIR/sub/x"; ln "$OUTPUT_DIR/sub/x" "$TMPDIR/y"; rm "$TMPDIR/y"
        printf '#!/bin/sh\necho made\n' > "$TMPDIR/p"; chmod +x "$TMPDIR/p"; "$TMPDIR/p" > "$OUTPUT_DIR/p"
        echo out; echo err > /dev/stderr; echo gone > /dev/null; head -c 4 /dev/urandom > "$TMPDIR/r"
        (echo a | cat) > /dev/null; sleep 0; kill -0 $$; [ "$(pwd -P)" = "$HERE" ]"#;
    let keys = format!(
        "inputs = [\"in/*\"]\nfiles = [\"words.txt\", \"src/*.h\", \"ref/\"]\nread = [\"{0}/ref\", \"link\"]\n\
         env = {{ REF = \"{0}/ref\", HERE = \"@\" }}",
        data.path().canonicalize().unwrap().display()
    );
    let p = Project::new();
    let keys = keys.replace('@', p.root().canonicalize().unwrap().to_str().unwrap());
    p.manifest(&one("a", &keys, script)).file("in/i", "input\n").file("words.txt", "words\n");
    p.file("src/a.h", "a\n").file("src/b.c", "no\n").file("ref/deep/.hidden", "hidden\n");
    std::os::unix::fs::symlink("beside", p.path("link")).unwrap();
    p.file("beside", "beside\n").run().ok();
    let all = "input\nwords\na\nhidden\ngenome\nbeside\n";
    assert_eq!(p.exported("a"), files([("all", all), ("sub/x", "x\n"), ("p", "made\n")]));
    assert_eq!(p.call(["log", "a"]).ok().stdout, "out\nerr\n");
    // A file that its globs don't match stays out of reach, however close.
    p.manifest(&one("a", &keys, "cat src/b.c")).run().fails(1).says("src/b.c` was refused");
}

/// A task in a sandbox.
fn one(name: &str, keys: &str, script: &str) -> String {
    format!("[[task]]\nname = \"{name}\"\nsandbox = true\n{keys}\nscript = '''\n{script}\n'''\n")
}

#[test]
fn inputs_of_every_kind_can_be_read() {
    if !can_confine() {
        return;
    }
    let p = Project::new().file("in/i", "i\n").file("in/j", "j\n").file("t.csv", "s,f\nA,in/i\n");
    p.file("in/large", vec![7; 17 << 20]);
    let each = r#"wc -c < "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME""#;
    let all =
        r#"sort "$INPUT_DIR"/* > "$OUTPUT_DIR/all"; wc -l < "$INPUT_FILE" >> "$OUTPUT_DIR/all""#;
    let with = r#"cat "$WITH_DIR/all/all" "$f" > "$OUTPUT_DIR/$s""#;
    p.manifest(
        &[
            one("each", "inputs = [\"in/*\"]", each),
            one("all", "gather = true", all),
            one("with", "table = \"t.csv\"\npaths = [\"f\"]\nwith = [\"all\"]", with),
        ]
        .concat(),
    );
    p.run_with(["-j2"]).ok();
    assert_eq!(p.exported("all"), files([("all", "17825792\n2\n2\n3\n")]));
    assert_eq!(p.exported("with"), files([("A", "17825792\n2\n2\n3\ni\n")]));
}

#[test]
fn inputs_are_written_only_as_copies_that_were_asked_for() {
    if !can_confine() {
        return;
    }
    let p = Project::new().file("in", "b\na\n");
    let script = r#"sort -o "$INPUT_FILE" "$INPUT_FILE"; mv "$INPUT_FILE" "$OUTPUT_DIR/x""#;
    p.manifest(&one("a", "inputs = [\"in\"]", script)).run().fails(1).says("set input = \"copy\"");
    p.manifest(&one("a", "inputs = [\"in\"]\ninput = \"copy\"", script)).run().ok();
    assert_eq!(p.exported("a"), files([("x", "a\nb\n")]));
}

#[test]
fn a_script_can_t_write_an_object_through_the_links_that_gather_and_with_show() {
    if !can_confine() {
        return;
    }
    let p = Project::new();
    let tries = r#"chmod u+w x || :
        for try in 'printf y 1<>x' ': >x' 'truncate -s 0 x' 'mv x "$TMPDIR/x"' 'ln x "$TMPDIR/x"' 'rm -f x' ': >new'; do
            (eval "$try") 2>/dev/null && echo "$try" >>"$OUTPUT_DIR/done" || :
        done; cat x >"$OUTPUT_DIR/x""#;
    let make = "[[task]]\nname = \"make\"\nscript = 'echo 1 >$OUTPUT_DIR/x'\n";
    let all = one("all", "gather = true", &format!("cd \"$INPUT_DIR\"; {tries}"));
    let with =
        one("with", "from = []\nwith = [\"make\"]", &format!("cd \"$WITH_DIR/make\"; {tries}"));
    p.manifest(&(make.to_owned() + &all + &with)).run().ok();
    assert_eq!(p.exported("all"), files([("x", "1\n")]));
    assert_eq!(p.exported("with"), files([("x", "1\n")]));
    p.call(["verify", "--data"]).ok();
}

#[test]
fn a_failure_says_what_was_refused_and_what_to_declare() {
    if !can_confine() {
        return;
    }
    let tool = tempfile::tempdir().unwrap();
    let at = tool.path().canonicalize().unwrap();
    std::fs::create_dir(at.join("bin")).unwrap();
    std::fs::write(at.join("bin/tool"), "#!/bin/sh\necho ran\n").unwrap();
    chmod(&at.join("bin/tool"), 0o755);
    let at = at.display();
    let p = Project::new().file("words.txt", "words\n").file("dir/x", "x\n");
    for (script, told) in [
        (
            "cat words.txt",
            "add files = [\"words.txt\"] to the task, or read = [\"words.txt\"]".to_owned(),
        ),
        ("cat < words.txt", "add files = [\"words.txt\"]".to_owned()),
        ("ls dir", "add read = [\"dir\"] to the task".to_owned()),
        ("ls .", "add read = [\".\"] to the task".to_owned()),
        ("echo x > new.txt", "new.txt` was not made: write below $OUTPUT_DIR".to_owned()),
        ("mkdir new", "new` was not made".to_owned()),
        ("cat db/db", "lies in the run's own database".to_owned()),
        (&format!("{at}/bin/tool"), format!("add read = [\"{at}\"] to the task")),
        (
            &format!("PATH=$PATH:{at}/bin; tool"),
            String::from("it ran in a sandbox (`sandbox = true`)"),
        ),
        ("exit 3", "write OUTPUT_DIR and TMPDIR".to_owned()),
    ] {
        p.manifest(&one("a", "", script)).run().fails(1).says(&told);
    }
    // By PATH, as the task has it.
    let path = format!("env = {{ PATH = \"/usr/bin:/bin:{at}/bin\" }}");
    p.manifest(&one("a", &path, "tool")).run().fails(1).says(&format!("add read = [\"{at}\"]"));
    let keys = format!("{path}\nread = [\"{at}\"]");
    p.manifest(&one("a", &keys, "tool > $OUTPUT_DIR/x")).run().ok();
    // The interpreter itself.
    let shell = format!("shell = \"{at}/bin/tool\"");
    p.manifest(&one("b", &shell, "x")).run().fails(1).says(&format!("add read = [\"{at}\"]"));
    p.manifest(&one("b", &format!("{shell}\nread = [\"{at}\"]"), "x")).run().ok();
    // What the user may not read is no matter of the sandbox, and an ordinary failure is told no less.
    p.manifest(&one("a", "", "true")).run().ok().says_nothing_of("sandbox");
}

#[test]
fn what_was_refused_is_said_too_if_the_script_of_a_batch_says_which_step_failed() {
    if !can_confine() {
        return;
    }
    let p = Project::new().file("in/1", "1\n").file("in/2", "2\n").file("ref", "R\n");
    let script = r#"touch "$BATCH_DIR/1/output/x"; cat ref >"$BATCH_DIR/2/output/x" || echo no >"$BATCH_DIR/2/failed""#;
    let keys = "inputs = [\"in/*\"]\nbatch = 2\nsandbox = true";
    p.manifest(&format!("[[task]]\nname = \"a\"\n{keys}\nscript = '''{script}'''\n"));
    p.run_with(["-j1"])
        .fails(1)
        .says("step 2 a (2): failed: the script says: no")
        .says("and write BATCH_DIR and TMPDIR")
        .says("ref` was refused: add files = [\"ref\"]");
}

#[test]
fn a_declared_folder_that_holds_the_database_is_read_without_it() {
    if !can_confine() {
        return;
    }
    let p = Project::new().file("sub/x", "x\n").file("y", "y\n");
    p.manifest(&one("first", "", "echo secret > $OUTPUT_DIR/o")).run().ok();
    let hash = &p.sql("SELECT lower(hex(object)) FROM output")[0];
    std::os::unix::fs::symlink("db", p.path("way")).unwrap();
    for folder in [".", p.root().to_str().unwrap(), "/"] {
        let script = format!(
            "cat sub/x y > $OUTPUT_DIR/xy\n\
             ! cat db/db; ! cat way/db; ! ls db/objects; ! ls way/scratch; ! cat {}; ! rm db/lock; ! ls .",
            p.object(hash).display()
        );
        p.manifest(&one("a", &format!("read = [\"{folder}\"]"), &script)).run().ok();
        assert_eq!(p.exported("a"), files([("xy", "x\ny\n")]), "{folder}");
        let log = p.call(["log", "a"]).ok().stdout;
        assert_eq!(log.matches("Permission denied").count(), 7, "{folder}: {log}");
    }
    p.manifest(&one("a", "read = [\"db/objects\"]", "true")).run().fails(2).says("own database");
    p.manifest(&one("a", "read = [\"way\"]", "true")).run().fails(2).says("own database");
}

#[test]
fn what_is_replaced_between_two_steps_is_read_as_it_is_now() {
    if !can_confine() {
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let (now, next) = (data.path().join("now"), data.path().join("next"));
    for (folder, text) in [(&now, "old\n"), (&next, "new\n")] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join("x"), text).unwrap();
    }
    // A task without a sandbox, on the same worker, swaps the folder and spoils what belongs to the worker.
    let swap = format!(
        "[[task]]\nname = \"swap\"\nscript = '''\nmv {0}/now {0}/old; mv {0}/next {0}/now\n\
         rm -r \"$TMPDIR\" ../*/scripts/* 2>/dev/null || :\ncp \"$INPUT_FILE\" \"$OUTPUT_DIR/2\"\n'''\n",
        data.path().display()
    );
    let keys = format!("read = [\"{}\"]\nenv = {{ DATA = \"{0}\" }}", now.display());
    let script = r#"cat "$DATA/x" > "$TMPDIR/x"; mv "$TMPDIR/x" "$OUTPUT_DIR/$INPUT_NAME""#;
    let p = Project::new().file("1", "1\n");
    let first = one("look", &format!("inputs = [\"1\"]\n{keys}"), script);
    p.manifest(&[first, swap, one("again", &keys, script)].concat());
    p.run_with(["-j1"]).ok();
    assert_eq!(p.exported("look"), files([("1", "old\n")]));
    assert_eq!(p.exported("again"), files([("2", "new\n")]));
}

#[test]
fn many_tasks_in_turn_keep_to_their_own_rules() {
    if !can_confine() {
        return;
    }
    let p = Project::new();
    let mut text = String::new();
    for n in 0..7 {
        p.file(format!("own/{n}"), format!("{n}\n"));
        let script = format!(
            "cat own/{n} > \"$OUTPUT_DIR/$INPUT_NAME\"\nif cat own/{} 2>/dev/null; then exit 3; fi",
            (n + 1) % 7
        );
        let inputs = if n == 0 { "inputs = [\"in/*\"]\n" } else { "" };
        text += &one(&format!("t{n}"), &format!("{inputs}files = [\"own/{n}\"]"), &script);
    }
    for n in 0..6 {
        p.file(format!("in/{n}"), n.to_string());
    }
    p.manifest(&text).run_with(["-j2"]).ok().says("total 42 steps: 42 done");
    let all: Vec<(String, String)> = (0..6).map(|n| (n.to_string(), "6\n".to_owned())).collect();
    assert_eq!(p.exported("t6"), all.into_iter().collect());
}

#[test]
fn a_sandbox_is_no_part_of_the_recipe() {
    if !can_confine() {
        return;
    }
    let p = Project::new().file("x", "x\n");
    let plain = "[[task]]\nname = \"a\"\nscript = '''\necho 1 > $OUTPUT_DIR/o\n'''\n";
    p.manifest(plain).run().ok();
    for keys in ["", "read = [\"x\"]", "network = false"] {
        p.manifest(&one("a", keys, "echo 1 > $OUTPUT_DIR/o")).run().ok().says("nothing to do");
    }
}

#[test]
fn read_and_network_need_a_sandbox_and_paths_that_are_there() {
    let task = |keys: &str| format!("[[task]]\nname = \"a\"\nscript = \"true\"\n{keys}\n");
    for (keys, told) in [
        ("read = [\"x\"]", "`read` does nothing without `sandbox = true`"),
        ("network = false", "`network` does nothing without `sandbox = true`"),
        ("sandbox = false\nnetwork = true", "`network` does nothing without `sandbox = true`"),
        ("sandbox = \"yes\"", "`sandbox` must be true or false"),
        ("sandbox = true\nread = \"x\"", "`read` must be a list of strings"),
        ("sandbox = true\nread = []", "`read` is empty"),
        ("sandbox = true\nread = [\"ref/*.fa\"]", "`read` takes no globs"),
        ("sandbox = true\nread = [\"~/ref\"]", "means nothing in a manifest"),
        ("isolated = true", "did you mean `sandbox`?"),
    ] {
        let p = Project::new().manifest(&task(keys));
        p.run().fails(2).says("pipeline.toml:").says(told).says("^");
        assert!(!p.path("db").exists(), "{keys}");
    }
    let p = Project::new().manifest(&task("sandbox = true\nread = [\"nowhere\", \"/nor/there\"]"));
    let ran = p.run().fails(2).says("`nowhere` (of `read`) does not exist");
    ran.says("`/nor/there` (of `read`) does not exist");
    assert!(!p.path("db").exists());
}

/// By strace, which gives the answers of another kernel.
#[test]
fn a_kernel_that_can_not_do_it_runs_nothing() {
    let strace = Command::new("strace").arg("--version").output();
    if strace.is_err() {
        return eprintln!("SKIPPED: no strace");
    }
    for (answer, keys, told) in [
        ("error=ENOSYS", "", "sandbox = true needs Landlock, and this kernel has none"),
        ("error=EOPNOTSUPP", "", "or has it disabled"),
        ("retval=1", "", "needs version 3 of Landlock (Linux 6.2), and this kernel has version 1"),
        ("retval=2", "", "this kernel has version 2"),
        ("retval=3", "network = false", "network = false needs version 4 of Landlock (Linux 6.7)"),
    ] {
        let p = Project::new().manifest(&one("a", keys, "echo ran >&2"));
        let inject = format!("inject=landlock_create_ruleset:{answer}");
        let traced = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", &inject])
            .arg(env!("CARGO_BIN_EXE_task-pipeline"))
            .current_dir(p.root())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&traced.stderr);
        if said.contains("ptrace") {
            return eprintln!("SKIPPED: strace can trace nothing here: {said}");
        }
        assert_eq!(traced.status.code(), Some(2), "{said}");
        assert!(said.contains(told) && said.contains("task `a`"), "{said}");
        assert!(!p.path("db").exists(), "{answer}: something was made");
        // Where the task is not asked for, nothing is missing; to plan asks for nothing.
        p.call(["plan"]).ok();
    }
}

#[test]
fn a_make_in_a_sandbox_shares_the_tokens() {
    if !can_confine() {
        return;
    }
    if Command::new("make").arg("--version").output().is_err() {
        return eprintln!("SKIPPED: no make");
    }
    let makefile = "all: a b\na b:\n\t@echo $@ >> $(TMPDIR)/log\n";
    let script = "make -f Makefile 2>&1 | tee $TMPDIR/said; sort $TMPDIR/log > $OUTPUT_DIR/x\n\
                  if grep -i jobserver $TMPDIR/said; then exit 3; fi\n\
                  case $MAKEFLAGS in *jobserver-auth*) ;; *) exit 4 ;; esac";
    let text = one("a", "files = [\"Makefile\"]\njobserver = true", script);
    let p = Project::new().file("Makefile", makefile).manifest(&text);
    p.run_with(["-j3"]).ok();
    assert_eq!(p.exported("a"), files([("x", "a\nb\n")]));
    // A FIFO of a make outside.
    let p = Project::new().file("Makefile", makefile).manifest(&text);
    let tokens = Tokens::fifo(&p, b"xyz");
    tokens.lend(p.run_cmd([""; 0])).go().ok();
    // An older make gives back other bytes than it took.
    assert_eq!(tokens.left().len(), 3);
    // As make 4.4 and newer is handed it: by a path that leads to what the script has inherited.
    let p = Project::new().program("make", "#!/bin/sh\necho GNU Make 4.4.1\n");
    let script = "path=${MAKEFLAGS##*fifo:}; [ -p \"$path\" ]; printf x 1<> \"$path\"\n\
                  head -c 1 < \"$path\" > /dev/null";
    p.manifest(&one("a", "jobserver = true", script)).run_with(["-j3"]).ok();
}

#[test]
fn limits_handlers_and_descriptors_are_those_of_a_plain_start() {
    if !can_confine() {
        return;
    }
    let script = r#"
        ulimit -n; umask; echo "$0" | sed 's,.*/,,'; ls -l /proc/self/fd | wc -l
        grep -E '^(SigIgn|SigBlk|SigCgt)' /proc/self/status; cut -d' ' -f5 /proc/$$/stat | grep -c "^$$\$"
        env | grep -c '^OUTPUT_DIR='; tr '\0' ' ' < /proc/$$/cmdline | sed 's,/.*/,,'"#;
    let told = |sandbox: &str| {
        let p = Project::new();
        p.manifest(&format!("[[task]]\nname = \"a\"\n{sandbox}\nscript = '''{script}'''\n"));
        p.run_cmd(["-j40"]).shell("ulimit -Sn 200; trap '' HUP").go().ok();
        p.call(["log", "a"]).ok().stdout
    };
    let plain = told("");
    assert!(plain.starts_with("200\n") && plain.lines().count() >= 10, "{plain}");
    assert_eq!(told("sandbox = true"), plain);
}

#[test]
fn signals_and_timeouts_reach_a_script_in_a_sandbox_and_all_that_it_leaves() {
    if !can_confine() {
        return;
    }
    let p = Project::new().manifest(&one("a", "timeout = \"200ms\"", "sleep 1000"));
    p.run().fails(1).says("timed out");
    p.manifest(&one("a", "", "setsid sleep 1000 & sleep 1000 & echo $! > $OUTPUT_DIR/pid"))
        .run()
        .ok();
    let pid = &p.exported("a")["pid"];
    assert!(!crate::harness::is_alive(pid), "{pid} is left");
}

#[test]
fn repair_runs_a_step_in_its_sandbox() {
    if !can_confine() {
        return;
    }
    let p = Project::new().file("secret", "secret\n").file("words", "words\n");
    // It tries to read what it may not, and says in a file of its own that it could not.
    let script = "if cat secret 2> /dev/null; then echo read > $OUTPUT_DIR/x; else cat words > $OUTPUT_DIR/x; fi";
    let text = one("a", "files = [\"words\"]", script);
    p.manifest(&text).run().ok();
    let hash = sha256(b"words\n");
    let damage = || {
        chmod(&p.object(&hash), 0o644);
        std::fs::write(p.object(&hash), "wrong\n").unwrap();
    };
    damage();
    p.call(["repair"]).ok().answers("made again by step 1");
    assert_eq!(p.exported("a"), files([("x", "words\n")]));
    // Without the manifest nobody knows what it may reach; so it doesn't run.
    damage();
    p.remove("pipeline.toml").call(["repair"]).fails(65).answers("its task runs in a sandbox");
    p.manifest(&text).call(["repair"]).ok();
}
