//! How scripts end, by themselves or by us.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::world::{World, is_alive, pair, wait_until};
use crate::attempt::{NamedObject, Outcome};
use crate::ids::StepId;
use crate::stop::Stop;
use crate::sys;

#[test]
fn exit_codes_and_signals_are_told_apart() {
    let mut world = World::new();
    assert_eq!(world.run("exit 0").record.outcome, Outcome::Succeeded);
    assert_eq!(world.run("exit 3").record.outcome, Outcome::Exited(3));
    assert_eq!(world.run("kill -KILL $$").record.outcome, Outcome::Signalled(9));
    assert_eq!(world.run("kill -TERM $$").record.outcome, Outcome::Signalled(15));
    let report = world.run(r#"echo 1 > "$OUTPUT_DIR/x"; exit 1"#);
    assert_eq!((report.record.outcome, report.outputs.len()), (Outcome::Exited(1), 0));
    world.assert_clean();
}

#[test]
fn a_parent_that_ignores_ended_children_does_no_harm() {
    // In a process of its own, which inherits what the shell ignores.
    let own = std::env::current_exe().unwrap();
    let test = "step::tests::ending::exit_codes_and_signals_are_told_apart";
    let script = r#"trap "" CHLD; exec "$0" --exact "$1""#;
    let run = std::process::Command::new("bash").args(["-c", script]).arg(own).arg(test).output();
    let run = run.unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn usage_is_measured() {
    let report = World::new().run("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done");
    assert!(report.record.usage.wall > Duration::ZERO && report.record.usage.user > Duration::ZERO);
    assert!(report.record.usage.peak_memory > 100 && report.record.started_ms > 1_600_000_000_000);
}

#[test]
fn an_interpreter_that_can_t_be_started_is_told_with_the_reason() {
    let mut world = World::new();
    fs::write(world.path("plain"), "").unwrap();
    fs::write(world.path("odd"), "#!/no/such/thing\n").unwrap();
    fs::write(world.path("garbage"), [0u8; 64]).unwrap();
    for name in ["odd", "garbage"] {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(world.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (interpreter, part) in [
        ("no-such-shell", "is not in PATH"),
        ("/no/such/shell", "is missing"),
        ("./plain", "may not be executed"),
        ("./odd", "names another one"),
        ("./garbage", "could not be started"),
        ("", "no interpreter"),
    ] {
        world.interpreter = vec![interpreter.to_owned()];
        match world.run("true").record.outcome {
            // PATH itself is long, and the same for every step.
            Outcome::NotStarted(sentence) => {
                assert!(sentence.contains(part) && !sentence.contains("/bin:"), "{sentence}");
            }
            other => panic!("{interpreter}: {other:?}"),
        }
    }
    world.interpreter = vec!["sh".to_owned()];
    world.env = vec![("BIG".into(), "x".repeat(4 << 20))];
    match world.run("true").record.outcome {
        Outcome::NotStarted(sentence) => assert!(sentence.contains("too long"), "{sentence}"),
        other => panic!("{other:?}"),
    }
    world.env.clear();
    world.assert_clean();
}

#[test]
fn a_missing_working_directory_is_not_blamed_on_the_interpreter() {
    let mut world = World::new();
    let mut attempt = world.attempt("true");
    Arc::make_mut(&mut attempt.script).dir = world.path("gone").into();
    let World { scratch, store, supervisor, .. } = &mut world;
    let ran = crate::step::execute(scratch, store, supervisor, None, &attempt, &mut |_| {});
    match &ran.unwrap()[0].0.record.outcome {
        Outcome::NotStarted(sentence) => {
            assert!(sentence.contains("working directory"), "{sentence}")
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_changed_environment_reaches_the_next_step() {
    let mut world = World::new();
    for (env, expected) in [
        (vec![("A", "1")], "1.\n"),
        (vec![("A", "2")], "2.\n"),
        (vec![("B", "3")], ".3\n"),
        (vec![], ".\n"),
        (vec![("A", "4"), ("B", "5")], "4.5\n"),
    ] {
        world.env = env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        assert_eq!(world.succeed(r#"echo "$A.$B" > "$OUTPUT_DIR/x""#), [pair("x", expected)]);
    }
}

#[test]
fn a_script_has_three_descriptors_and_no_odd_signals() {
    let mut world = World::new();
    // One that is inheritable, as a careless parent would pass it to us.
    let outputs = world.succeed(
        r#"ls -l /proc/self/fd | sed -n 's/.* \([0-9]*\) -> \(.*\)/\1 \2/p' | grep -v ' /proc/' > "$TMPDIR/fds"
           sed "s,${TMPDIR%/*}/,," "$TMPDIR/fds" | sed 's/pipe:.*/pipe/' > "$OUTPUT_DIR/fds"
           while read key value; do
               case $key in SigBlk:|SigIgn:) echo "$value"; esac
           done < /proc/self/status > "$OUTPUT_DIR/signals""#,
    );
    assert_eq!(outputs[0], pair("fds", "0 /dev/null\n1 pipe\n2 pipe\n"));
    let masks: Vec<u64> =
        outputs[1].1.lines().map(|mask| u64::from_str_radix(mask, 16).unwrap()).collect();
    let ours = [libc::SIGIO, libc::SIGXFSZ, libc::SIGPIPE].map(|signal| 1 << (signal - 1));
    assert_eq!((masks[0], ours.map(|bit: u64| masks[1] & bit)), (0, [0; 3]));
}

#[test]
fn reading_the_terminal_fails_at_once() {
    // There is none in most test runs, which fails at once too; with one, this is the cure.
    sys::ignore_tty_stops().unwrap();
    let mut world = World::new();
    world.timeout = Some(Duration::from_secs(10));
    let report = world.run("read line < /dev/tty");
    assert!(matches!(report.record.outcome, Outcome::Exited(_)), "{:?}", report.record.outcome);
}

#[test]
fn a_time_limit_ends_whatever_a_script_does() {
    let mut world = World::new();
    let limit = Duration::from_millis(100);
    world.timeout = Some(limit);
    for script in [
        "sleep 1000",
        "trap '' TERM; while :; do sleep 1000 || :; done",
        "kill -STOP $$",
        "trap 'exit 0' TERM; while :; do sleep 0.01; done",
        "sleep 1000 & wait",
        "sh -c 'trap \"\" TERM; while :; do sleep 1000 || :; done'",
    ] {
        let start = Instant::now();
        let report = world.run(script);
        assert_eq!(report.record.outcome, Outcome::TimedOut(Some(limit)), "{script}");
        assert!(start.elapsed() >= limit, "{script}");
    }
    world.timeout = Some(Duration::from_secs(1000));
    assert_eq!(world.run("exit 4").record.outcome, Outcome::Exited(4));
    world.timeout = None;
    world.assert_clean();
}

#[test]
fn a_stopped_script_need_not_wait_for_the_kill() {
    let mut world = World::new();
    world.grace(Duration::from_secs(600));
    world.timeout = Some(Duration::from_millis(50));
    // If it did, this would not come back for ten minutes.
    assert!(matches!(world.run("kill -STOP $$").record.outcome, Outcome::TimedOut(_)));
}

#[test]
fn an_earlier_deadline_is_not_missed_behind_a_later_one() {
    let mut first = World::new();
    first.timeout = Some(Duration::from_secs(600));
    let mut second = World::new();
    second.supervisor = Arc::clone(&first.supervisor);
    second.timeout = Some(Duration::from_millis(50));
    let go = first.path("go");
    first.env = vec![("GO".into(), go.to_str().unwrap().into())];
    let waiting = std::thread::spawn(move || {
        first.run(r#"while [ ! -e "$GO" ]; do sleep 0.01; done"#).record.outcome
    });
    assert!(matches!(second.run("sleep 1000").record.outcome, Outcome::TimedOut(_)));
    fs::write(go, "").unwrap();
    assert_eq!(waiting.join().unwrap(), Outcome::Succeeded);
}

#[test]
fn cancelling_ends_what_runs_and_lets_nothing_start() {
    let mut world = World::new();
    let pid = world.path("pid");
    world.env = vec![("PID".into(), pid.to_str().unwrap().into())];
    let stop = Arc::clone(&world.stop);
    let runs = std::thread::spawn(move || {
        let first =
            world.run(r#"echo $$ > "$PID.new"; mv "$PID.new" "$PID"; sleep 1000"#).record.outcome;
        let second = world.run("exit 0").record.outcome;
        (first, second)
    });
    wait_until(|| pid.exists());
    stop.advance(Stop::Term);
    // The folder goes with the thread's world.
    assert_eq!(runs.join().unwrap(), (Outcome::Cancelled, Outcome::Cancelled));
}

#[test]
fn killing_doesn_t_wait_for_the_grace() {
    let mut world = World::new();
    world.grace(Duration::from_secs(600));
    let pid = world.path("pid");
    world.env = vec![("PID".into(), pid.to_str().unwrap().into())];
    let stop = Arc::clone(&world.stop);
    let run = std::thread::spawn(move || {
        let report = world.run(r#"trap '' TERM; setsid sh -c 'trap "" TERM; echo $$ > "$PID.new"; mv "$PID.new" "$PID"; while :; do sleep 1000; done'"#);
        (report.record.outcome, world)
    });
    wait_until(|| pid.exists());
    let number = fs::read_to_string(&pid).unwrap();
    stop.advance(Stop::Term);
    stop.advance(Stop::Kill);
    assert_eq!(run.join().unwrap().0, Outcome::Cancelled);
    assert!(!is_alive(&number));
}

#[test]
fn two_workers_lend_the_same_large_object_at_once() {
    let bytes = vec![7u8; (16 << 20) + 1];
    let mut world = World::new();
    let object = world.object(&bytes);
    let (store, supervisor) = (&world.store, &world.supervisor);
    let base = world.dir.path();
    std::thread::scope(|scope| {
        for worker in 1..5 {
            let mut attempt = world.attempt(r#"for i in 1 2 3; do cmp "$INPUT_FILE" "$INPUT_FILE"; done; [ $((STEP_ID % 3)) -ne 0 ] || rm -f "$INPUT_FILE""#);
            attempt.items[0].input = crate::step::Input::One(NamedObject {
                name: b"big".to_vec(),
                object,
                executable: false,
            });
            scope.spawn(move || {
                let mut scratch = crate::step::Scratch::create(
                    &base.join("scratch/run"),
                    worker,
                    crate::step::Launch::Auto,
                )
                .unwrap();
                for step in 0..8 {
                    attempt.items[0].step = StepId(step);
                    let made = crate::step::execute(
                        &mut scratch,
                        store,
                        supervisor,
                        None,
                        &attempt,
                        &mut |_| {},
                    )
                    .unwrap();
                    let (report, _placed) = &made[0];
                    assert_eq!(report.record.outcome, Outcome::Succeeded);
                    assert!(report.damaged_inputs.is_empty());
                }
            });
        }
    });
    assert_eq!(world.store.check(&object, Some(bytes.len() as u64), true).unwrap(), Ok(()));
    world.assert_clean();
}
