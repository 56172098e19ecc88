//! Hostile and odd outputs.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::world::{World, pair};
use crate::attempt::Outcome;
use crate::object::ObjectHash;

#[test]
fn what_is_no_regular_file_is_refused_by_name_with_a_cure() {
    let mut world = World::new();
    for (script, parts) in [
        (
            r#"ln -s /etc/passwd "$OUTPUT_DIR/a""#,
            &["`a`", "symbolic link to `/etc/passwd`", "cp -L"][..],
        ),
        (r#"ln -s nowhere "$OUTPUT_DIR/a""#, &["`a`", "`nowhere`"]),
        (r#"mkfifo "$OUTPUT_DIR/f""#, &["`f`", "FIFO"]),
        (r#"mkdir "$OUTPUT_DIR/d"; mkfifo "$OUTPUT_DIR/d/f""#, &["`d/f`", "FIFO"]),
        (r#"mkdir "$OUTPUT_DIR/d"; ln -s .. "$OUTPUT_DIR/d/up""#, &["`d/up`"]),
        (
            r#"python3 -c 'import socket,os; socket.socket(socket.AF_UNIX).bind(os.environ["OUTPUT_DIR"]+"/s")'"#,
            &["`s`", "socket"],
        ),
        (
            "printf x > \"$OUTPUT_DIR/ok\"; ln -s x \"$OUTPUT_DIR/$(printf 'a\\nb\\033[31m')\"",
            &["`a\\nb\\x1b[31m`"],
        ),
        (r#"rm -r "$OUTPUT_DIR""#, &["OUTPUT_DIR", "removed"]),
        (r#"mv "$OUTPUT_DIR" "$OUTPUT_DIR.old""#, &["OUTPUT_DIR", "removed or renamed"]),
        (
            r#"rm -r "$OUTPUT_DIR"; mkdir "$OUTPUT_DIR"; touch "$OUTPUT_DIR/x""#,
            &["OUTPUT_DIR", "replaced"],
        ),
        (
            r#"mv "$OUTPUT_DIR" "$OUTPUT_DIR.old"; ln -s / "$OUTPUT_DIR""#,
            &["OUTPUT_DIR", "replaced"],
        ),
        (r#"rm -r "${OUTPUT_DIR%/*}""#, &["OUTPUT_DIR", "removed"]),
    ] {
        let sentence = world.refused(script);
        for part in parts {
            assert!(sentence.contains(part), "{script}: {sentence}");
        }
        world.assert_clean();
    }
    assert!(fs::metadata("/etc/passwd").is_ok());
}

#[test]
fn devices_are_refused_unopened() {
    let mut world = World::new();
    let report = world.run(r#"mknod "$OUTPUT_DIR/n" c 1 3 || exit 9"#);
    if report.record.outcome == Outcome::Exited(9) {
        return; // Only root can make one.
    }
    let Outcome::Refused(sentence) = report.record.outcome else {
        panic!("{:?}", report.record.outcome)
    };
    assert!(sentence.contains("`n` is a device"), "{sentence}");
    world.assert_clean();
}

#[test]
fn odd_names_and_contents_are_kept_exactly() {
    let mut world = World::new();
    let report = world.run(
        r#"cd "$OUTPUT_DIR"; mkdir -p d/e empty/er; : > nothing; echo 1 > d/e/f; echo 2 > ./-n
           printf 3 > "$(printf 'a\nb')"; printf 4 > "$(printf '\377')"; printf 5 > ...; printf 6 > ' '
           printf 7 > tool; chmod 700 tool; printf 8 > other; chmod 4755 other"#,
    );
    assert_eq!(report.record.outcome, Outcome::Succeeded, "{}", world.log(&report));
    let names: Vec<_> = world.contents(&report);
    assert_eq!(
        names,
        [
            pair(" ", "6"),
            pair("-n", "2\n"),
            pair("...", "5"),
            pair("a\\nb", "3"),
            pair("d/e/f", "1\n"),
            pair("nothing", ""),
            pair("other", "8"),
            pair("tool", "7"),
            pair("\\xff", "4"),
        ]
    );
    let executable: Vec<_> =
        report.outputs.iter().filter(|output| output.executable).map(|o| o.name.clone()).collect();
    assert_eq!(executable, [b"other".to_vec(), b"tool".to_vec()]);
    assert_eq!(report.warnings.len(), 1);
    assert!(report.warnings[0].contains("`other` has lost its setuid"), "{:?}", report.warnings);
    for output in &report.outputs {
        let mode = fs::metadata(world.store.path(&output.object)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o444);
    }
    world.assert_clean();
}

#[test]
fn outputs_with_other_names_are_copied_not_adopted() {
    let mut world = World::new();
    let outside = world.path("outside");
    fs::write(&outside, "mine").unwrap();
    world.env = vec![("OUTSIDE".into(), outside.to_str().unwrap().into())];
    let outputs = world.succeed(r#"cd "$OUTPUT_DIR"; ln "$OUTSIDE" x; echo twin > y; ln y z"#);
    assert_eq!(outputs, [pair("x", "mine"), pair("y", "twin\n"), pair("z", "twin\n")]);
    let object = fs::metadata(world.store.path(&ObjectHash::of(b"mine"))).unwrap();
    assert_ne!(object.ino(), fs::metadata(&outside).unwrap().ino());
    assert_eq!(fs::metadata(&outside).unwrap().nlink(), 1);
    world.assert_clean();
}

#[test]
fn files_and_folders_without_permissions_are_read_all_the_same() {
    let mut world = World::new();
    let outputs =
        world.succeed(r#"cd "$OUTPUT_DIR"; mkdir d; echo 1 > d/f; echo 2 > g; chmod 0 d/f g d"#);
    assert_eq!(outputs, [pair("d/f", "1\n"), pair("g", "2\n")]);
    world.assert_clean();
}

#[test]
fn attributes_don_t_get_into_the_store() {
    let mut world = World::new();
    let set = |name: &str| {
        format!(
            r#"python3 -c 'import os; os.setxattr(os.environ["OUTPUT_DIR"]+"/x", "{name}", b"1")'"#
        )
    };
    let report = world.run(&format!(r#"echo 1 > "$OUTPUT_DIR/x"; {} || exit 9"#, set("user.note")));
    if report.record.outcome == Outcome::Exited(9) {
        return; // No attributes here.
    }
    assert_eq!(report.record.outcome, Outcome::Succeeded);
    let path = world.store.path(&report.outputs[0].object);
    let mut list = [0u8; 256];
    let length = rustix::fs::listxattr(&path, &mut list[..]).unwrap();
    assert!(!list[..length].starts_with(b"user."), "{:?}", &list[..length]);
}

#[test]
fn immutable_files_are_refused_and_gone_afterwards() {
    let mut world = World::new();
    for flag in ["i", "a"] {
        let report = world
            .run(&format!(r#"echo 1 > "$OUTPUT_DIR/x"; chattr +{flag} "$OUTPUT_DIR/x" || exit 9"#));
        if report.record.outcome == Outcome::Exited(9) {
            return; // Not root, or a file system without.
        }
        let Outcome::Refused(sentence) = report.record.outcome else {
            panic!("{:?}", report.record.outcome)
        };
        assert!(sentence.contains("`x` is immutable") && sentence.contains("chattr"), "{sentence}");
        world.assert_clean();
    }
}

#[test]
fn another_users_file_is_copied() {
    let mut world = World::new();
    let report = world.run(r#"echo 1 > "$OUTPUT_DIR/x"; chown 12345 "$OUTPUT_DIR/x" || exit 9"#);
    if report.record.outcome == Outcome::Exited(9) {
        return; // Not root.
    }
    assert_eq!(world.contents(&report), [pair("x", "1\n")]);
    let object = fs::metadata(world.store.path(&report.outputs[0].object)).unwrap();
    assert_ne!(object.uid(), 12345);
    world.assert_clean();
}

#[test]
fn a_file_still_open_for_writing_elsewhere_is_refused() {
    let mut world = World::new();
    // This process is the stranger: it opens the output while the script waits for it to do so.
    let (fifo, out) = (world.path("fifo"), world.scratch.workspace.output.path.join("x"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    world.env = vec![("FIFO".into(), fifo.to_str().unwrap().into())];
    let stranger = std::thread::spawn(move || {
        let mut go = fs::File::options().write(true).open(fifo).unwrap();
        let writer = fs::File::options().append(true).open(out).unwrap();
        std::io::Write::write_all(&mut go, b"go\n").unwrap();
        writer
    });
    let sentence = world.refused(r#"echo 1 > "$OUTPUT_DIR/x"; read line < "$FIFO""#);
    assert!(sentence.contains("`x` is still open for writing"), "{sentence}");
    drop(stranger.join().unwrap());
    world.assert_clean();
}

#[test]
fn too_deep_and_too_long_are_refused_and_still_removed() {
    let mut world = World::new();
    let deep = |depth: usize, name: &str| {
        format!(
            r#"cd "$OUTPUT_DIR"; python3 -c '
import os
for n in range({depth}): os.mkdir("{name}"); os.chdir("{name}")
open("f", "w")'"#
        )
    };
    assert_eq!(world.succeed(&deep(64, "d")).len(), 1);
    world.assert_clean();
    for depth in [65, 3000] {
        let sentence = world.refused(&deep(depth, "d"));
        assert!(sentence.contains("more than 64 folders deep"), "{sentence}");
        world.assert_clean();
    }
    let sentence = world.refused(&deep(20, &"x".repeat(250)));
    assert!(sentence.contains("4096 is the most"), "{}", &sentence[sentence.len() - 100..]);
    world.assert_clean();
}

#[test]
fn ten_thousand_outputs_are_kept() {
    let mut world = World::new();
    let report = world.run(
        r#"cd "$OUTPUT_DIR"; mkdir a b; python3 -c '
for n in range(10000): open(("a/" if n % 2 else "b/") + str(n), "w").write(str(n // 2))'"#,
    );
    assert_eq!(report.record.outcome, Outcome::Succeeded, "{}", world.log(&report));
    assert_eq!(report.outputs.len(), 10000);
    assert!(report.outputs.is_sorted_by(|a, b| a.name < b.name));
    let mut hashes: Vec<_> = report.outputs.iter().map(|output| output.object).collect();
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), 5000);
    world.assert_clean();
}

#[test]
fn the_log_holds_both_streams_in_order_and_is_empty_for_the_next_step() {
    let mut world = World::new();
    let report = world.run("echo 1; echo 2 >&2; echo 3; sh -c 'echo 4 >&2'; exit 5");
    assert_eq!(report.record.outcome, Outcome::Exited(5));
    assert_eq!(world.log(&report), "1\n2\n3\n4\n");
    let report = world.run("true");
    assert!(report.record.log.is_none());
    let report = world.run("echo x > /dev/stdout; echo y");
    assert_eq!(world.log(&report), "x\ny\n");
}

#[test]
fn a_log_is_not_truncated_by_opening_it_anew() {
    let mut world = World::new();
    let report =
        world.run("echo 1; echo 2 > /dev/stderr; echo 3 > /dev/stdout; echo 4 | tee /dev/stderr");
    assert_eq!(world.log(&report), "1\n2\n3\n4\n4\n");
}

#[test]
fn a_log_longer_than_a_pipe_is_whole_and_a_held_pipe_is_not_waited_for() {
    let mut world = World::new();
    let report = world.run("seq 200000; exec > /dev/null 2>&1; exit 3");
    let expected: String = (1..=200_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(world.log(&report), expected);
    // What is left behind may need the pipe drained before it can end by itself.
    let report = world.run("seq 30000 & exit 0");
    assert!(world.log(&report).ends_with("\n30000\n"));
    // A flood from something left behind is no reason to wait for its end.
    let report = world.run("yes & exit 0");
    assert_eq!(report.warnings.len(), 1);
    world.assert_clean();
}

#[test]
fn folders_without_permissions_are_taken_all_the_same() {
    // Root may do anything; the suite is run as an ordinary user too.
    let mut world = World::new();
    for mode in ["555", "500", "0", "111", "333"] {
        let outputs = world.succeed(&format!(
            r#"mkdir -p "$OUTPUT_DIR/d/e"; echo x > "$OUTPUT_DIR/d/e/f"; echo y > "$OUTPUT_DIR/d/g"
               chmod {mode} "$OUTPUT_DIR/d/e" "$OUTPUT_DIR/d""#
        ));
        assert_eq!(outputs, [pair("d/e/f", "x\n"), pair("d/g", "y\n")], "{mode}");
        world.assert_clean();
    }
    for mode in ["555", "0"] {
        let outputs =
            world.succeed(&format!(r#"echo x > "$OUTPUT_DIR/f"; chmod {mode} "$OUTPUT_DIR""#));
        assert_eq!(outputs, [pair("f", "x\n")], "{mode}");
        world.assert_clean();
    }
}

#[test]
fn a_file_called_as_fuse_calls_removed_ones_is_an_output_elsewhere() {
    let mut world = World::new();
    let name = ".fuse_hidden000001a500000003";
    let report = world.run(&format!(r#"mkdir "$OUTPUT_DIR/d"; echo 1 >"$OUTPUT_DIR/d/{name}""#));
    assert_eq!(world.contents(&report), [pair(&format!("d/{name}"), "1\n")]);
    world.assert_clean();
}
