//! What outlives a script is found and ended, and nothing else is.

use std::fs;

use super::world::{World, is_alive, wait_until};
use crate::attempt::Outcome;
use crate::step::end_survivors;

/// Runs a script that writes the number of a process it leaves behind to `$PIDS`; that process must be
/// gone afterwards, without having been waited for, and the user must be told.
fn leaves_nothing(world: &mut World, script: &str) -> String {
    let pids = world.path("pids");
    let _ = fs::remove_file(&pids);
    world.env = vec![("PIDS".into(), pids.to_str().unwrap().into())];
    let report = world.run(script);
    assert_eq!(report.record.outcome, Outcome::Succeeded, "{script}: {}", world.log(&report));
    for pid in fs::read_to_string(&pids).unwrap().lines() {
        assert!(!is_alive(pid), "{script}: {pid} lives");
    }
    assert_eq!(report.warnings.len(), 1, "{script}: {:?}", report.warnings);
    let warning = report.warnings[0].clone();
    world.assert_clean();
    warning
}

#[test]
fn background_processes_are_ended_in_whatever_way_they_left() {
    let mut world = World::new();
    let daemon = r#"python3 -c '
import os, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
open(os.environ["PIDS"], "w").write(str(os.getpid()) + "\n")
time.sleep(1000)'
while [ ! -s "$PIDS" ]; do :; done"#;
    for script in [
        r#"sleep 1000 & echo $! > "$PIDS""#,
        r#"sh -c 'sleep 1000 & echo $! >> "$PIDS"; sleep 1000' & echo $! >> "$PIDS"; while [ "$(wc -l < "$PIDS")" -lt 2 ]; do :; done"#,
        r#"setsid sleep 1000 & echo $! > "$PIDS""#,
        r#"set -m; sleep 1000 & echo $! > "$PIDS""#,
        r#"setsid sh -c 'setsid sleep 1000 & echo $! >> "$PIDS"; sleep 1000' & echo $! >> "$PIDS"; while [ "$(wc -l < "$PIDS")" -lt 2 ]; do :; done"#,
        r#"sleep 1000 & echo $! > "$PIDS"; kill -STOP $!"#,
        r#"setsid sleep 1000 & echo $! > "$PIDS"; kill -STOP $!"#,
        r#"env -i sleep 1000 & echo $! > "$PIDS""#,
        daemon,
    ] {
        let warning = leaves_nothing(&mut world, script);
        assert!(warning.contains("left running: "), "{warning}");
        assert!(!warning.ends_with(": "), "{warning}");
    }
}

#[test]
fn a_term_ignorer_is_killed_after_the_grace() {
    let mut world = World::new();
    for start in ["", "setsid "] {
        leaves_nothing(
            &mut world,
            &format!(
                r#"{start}sh -c 'trap "" TERM; echo $$ > "$PIDS"; while :; do sleep 1000; done' & while [ ! -s "$PIDS" ]; do :; done"#
            ),
        );
    }
}

#[test]
fn many_leftovers_are_ended_together() {
    let mut world = World::new();
    leaves_nothing(
        &mut world,
        r#"i=0; while [ $i -lt 100 ]; do sleep 1000 & echo $! >> "$PIDS"; setsid sleep 1000 & echo $! >> "$PIDS"; i=$((i+1)); done"#,
    );
}

#[test]
fn a_late_writer_is_ended_before_outputs_are_looked_at() {
    let mut world = World::new();
    world.env = vec![("PIDS".into(), world.path("go").to_str().unwrap().into())];
    // It would write as soon as the script has ended, and it is given no time to.
    let report = world.run(
        r#"sh -c 'while kill -0 $PPID 2>/dev/null; do sleep 0.01; done; sleep 1; echo late > "$OUTPUT_DIR/late"' &
           echo now > "$OUTPUT_DIR/now""#,
    );
    assert_eq!(world.contents(&report).len(), 1);
    assert_eq!(report.warnings.len(), 1);
}

#[test]
fn what_ends_by_itself_at_once_is_neither_cut_off_nor_reported() {
    let mut world = World::new();
    world.interpreter = vec!["bash".into(), "-e".into()];
    for _ in 0..20 {
        let report =
            world.run(r#"exec > >(cat > "$OUTPUT_DIR/copy"); i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done"#);
        assert_eq!(report.record.outcome, Outcome::Succeeded);
        assert!(report.warnings.is_empty(), "{:?}", report.warnings);
        assert!(world.contents(&report)[0].1.ends_with("\n1999\n"));
    }
}

#[test]
fn a_holder_of_stdout_doesn_t_hold_us_up() {
    let mut world = World::new();
    // If it did, this would not come back for a thousand seconds.
    let report = world.run("sleep 1000 & echo said");
    assert_eq!(world.log(&report), "said\n");
}

#[test]
fn a_process_of_somebody_else_is_left_alone() {
    // Wiped environment and own session: no cookie, so not ours to end. It is ended here.
    let mut world = World::new();
    let pids = world.path("pids");
    world.env = vec![("PIDS".into(), pids.to_str().unwrap().into())];
    let report = world.run(
        r#"env -i setsid sh -c 'echo $$ > "$0"; exec sleep 1000' "$PIDS" & while [ ! -s "$PIDS" ]; do :; done"#,
    );
    assert_eq!(report.record.outcome, Outcome::Succeeded);
    let pid = fs::read_to_string(pids).unwrap();
    assert!(is_alive(&pid));
    world.assert_clean();
    let number = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(number, rustix::process::Signal::KILL).unwrap();
    wait_until(|| !is_alive(&pid));
    // Its zombie is reaped by whichever step ends next.
    world.assert_clean();
    assert!(!fs::exists(format!("/proc/{}", pid.trim())).unwrap());
}

#[test]
fn survivors_of_a_killed_runner_are_ended_and_their_folders_removed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("scratch");
    assert_eq!(end_survivors(&root).unwrap(), 0);
    let out = root.join("1-2/w0/out");
    fs::create_dir_all(out.join("a/b")).unwrap();
    fs::write(out.join("a/b/c"), "x").unwrap();
    fs::set_permissions(out.join("a"), std::os::unix::fs::PermissionsExt::from_mode(0o000))
        .unwrap();
    let mut survivor =
        std::process::Command::new("sleep").arg("1000").env("OUTPUT_DIR", &out).spawn().unwrap();
    let stranger = std::process::Command::new("sleep")
        .arg("1000")
        .env("OUTPUT_DIR", dir.path().join("scratch2/1-2/w0/out"))
        .spawn()
        .unwrap();
    // A run that this folder never saw: perhaps another folder had this path then.
    let unknown = std::process::Command::new("sleep")
        .arg("1000")
        .env("OUTPUT_DIR", root.join("1-3/w0/out"))
        .spawn()
        .unwrap();
    fs::create_dir(root.join("mine")).unwrap();
    fs::write(root.join("notes"), "mine too").unwrap();
    // Only after exec does it have the environment.
    assert_eq!(end_survivors(&root).unwrap(), 1);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&survivor.wait().unwrap()), Some(9));
    for mut other in [stranger, unknown] {
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
    assert!(!root.join("1-2").exists());
    assert_eq!(fs::read_dir(&root).unwrap().count(), 2);
    assert_eq!(end_survivors(&root).unwrap(), 0);
}

#[test]
fn folders_that_were_full_are_not_listed_for_every_step_afterwards() {
    let mut world = World::new();
    let names: Vec<String> = (0..3000).map(|n| format!("a rather long name {n}")).collect();
    let inputs: Vec<(&[u8], &[u8])> =
        names.iter().map(|name| (name.as_bytes(), &b"x"[..])).collect();
    let side = world.objects(&inputs);
    let fill = |dir: &str| {
        format!("cd \"${dir}\"; seq -f 'a rather long name %g' 3000 | xargs -d '\\n' touch")
    };
    for (script, shows) in [
        (fill("OUTPUT_DIR"), false),
        (fill("OUTPUT_DIR") + "; exit 3", false),
        (fill("TMPDIR"), false),
        ("true".to_owned(), true),
    ] {
        world.side = if shows { side.clone() } else { Vec::new() };
        world.gather(if shows { &inputs } else { &[] });
        drop(world.run(&script));
        world.side.truncate(1);
        let outputs = world.input(b"in", b"1").succeed(
            r#"for dir in "${INPUT_FILE%/*}" "$OUTPUT_DIR" "$TMPDIR" $WITH_DIR; do
                 [ $(stat -c %s "$dir") -lt 65536 ] || echo "$dir"; done >"$OUTPUT_DIR/large""#,
        );
        assert_eq!(outputs, [super::world::pair("large", "")], "{script}");
    }
}
