//! Objects that a script sees as links: the inputs of a gather, and what is in WITH_DIR.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use super::world::{World, pair};
use crate::attempt::Outcome;
use crate::ids::StepId;
use crate::object::ObjectHash;
use crate::step::{Input, Launch, Scratch, execute};

/// Which of the two a test is about: with the variable of the folder.
const BOTH: [&str; 2] = ["INPUT_DIR", "WITH_DIR"];

/// These files in a folder; a script finds it as `$DIR`.
fn world_of(dir: &str, inputs: &[(&[u8], &[u8])]) -> World {
    let mut world = World::new();
    show(&mut world, dir, inputs);
    world
}

fn show(world: &mut World, dir: &str, inputs: &[(&[u8], &[u8])]) {
    match dir {
        "INPUT_DIR" => drop(world.gather(inputs)),
        _ => world.side = world.objects(inputs),
    }
}

fn script_in(dir: &str, script: &str) -> String {
    format!("cd \"${dir}\"; {script}")
}

/// An object is as it was put, and nobody has another name of it.
fn assert_intact(world: &World, object: &ObjectHash, what: &str) {
    assert_eq!(world.store.check(object, None, true).unwrap(), Ok(()), "{what}");
    let found = fs::metadata(world.store.path(object)).unwrap();
    assert_eq!((found.nlink(), found.mode() & 0o7777), (1, 0o444), "{what}");
}

#[test]
fn what_a_gather_and_with_show_are_links_that_can_only_be_read() {
    for dir in BOTH {
        let mut world = world_of(dir, &[(b"a", b"1\n"), (b"d/b", b"2\n"), (b"d/e/c", b"1\n")]);
        for _ in 0..2 {
            let outputs = world
                .succeed(&script_in(dir, r#"stat -c "%n %a %h" a d/b d/e/c >"$OUTPUT_DIR/x""#));
            assert_eq!(outputs, [pair("x", "a 444 3\nd/b 444 2\nd/e/c 444 3\n")], "{dir}");
        }
        for bytes in [b"1\n", b"2\n"] {
            assert_intact(&world, &ObjectHash::of(bytes), dir);
        }
        world.copies_input = true;
        let outputs = world.succeed(&script_in(
            dir,
            r#"echo 3 >>a; cat a d/b >"$OUTPUT_DIR/x"; stat -c "%a %h" d/b d/e/c >"$OUTPUT_DIR/y""#,
        ));
        assert_eq!(outputs, [pair("x", "1\n3\n2\n"), pair("y", "644 1\n644 1\n")], "{dir}");
        world.side.clear();
        world.assert_clean();
    }
}

#[test]
fn whatever_a_script_does_to_a_link_the_object_is_intact_or_known_to_be_damaged() {
    let is_root = rustix::process::geteuid().is_root();
    for dir in BOTH {
        for (script, is_damage) in [
            ("chmod u+w a; printf x 1<>a", true),
            ("chmod u+w a; echo more >>a", true),
            ("chmod u+w a; : >a", true),
            ("touch -r a b; chmod u+w a; printf x 1<>a; touch -r b a", true),
            ("mv a c; chmod u+w c; printf x 1<>c", true),
            ("ln a $TMPDIR/c; rm -f a; chmod u+w $TMPDIR/c; printf x 1<>$TMPDIR/c", true),
            ("mv a $OUTPUT_DIR/c; chmod u+w $OUTPUT_DIR/c; printf x 1<>$OUTPUT_DIR/c", true),
            // The first thing that it does, and so soon that the clock may not have moved.
            ("printf x 1<>a", is_root),
            ("chmod 777 a", false),
            ("chmod 0 a", false),
            ("touch -d 2001-01-01 a", false),
            ("rm -f a", false),
            ("rm -f a; mkdir a; touch a/x", false),
            ("rm -f a; echo other >a", false),
            ("sed -i s/y/x/ a; [ \"$(cat a)\" = bxtes ]", false),
            ("mv a $OUTPUT_DIR/x", false),
            ("ln a $OUTPUT_DIR/x", false),
            ("ln a $TMPDIR/x", false),
            ("cd /; mv \"$OLDPWD\" \"$OLDPWD.old\"", false),
            ("cd /; rm -rf \"$OLDPWD\"; ln -s / \"$OLDPWD\"", false),
        ] {
            let mut world = world_of(dir, &[(b"a", b"bytes"), (b"b", b"others")]);
            let what = format!("{dir}: {script}");
            let report = world.run(&script_in(dir, &format!("{script} || exit 9")));
            let object = ObjectHash::of(b"bytes");
            if is_damage {
                let Outcome::Refused(sentence) = &report.record.outcome else {
                    panic!("{what}: {:?}", report.record.outcome)
                };
                assert!(sentence.contains("(`a`) was modified, and the "), "{sentence}");
                assert!(sentence.contains("set input = \"copy\""), "{sentence}");
                assert_eq!(report.damaged_inputs, [object], "{what}");
                assert!(world.store.check(&object, None, true).unwrap().is_err(), "{what}");
            } else {
                // Who may not write fails by that.
                let is_refused = script == "printf x 1<>a";
                let expected = if is_refused { Outcome::Exited(9) } else { Outcome::Succeeded };
                assert_eq!(report.record.outcome, expected, "{what}");
                assert!(report.damaged_inputs.is_empty(), "{what}");
                assert_intact(&world, &object, &what);
            }
            assert_intact(&world, &ObjectHash::of(b"others"), &what);
            world.side.clear();
            world.assert_clean();
        }
    }
}

#[test]
fn of_many_files_that_a_script_has_changed_one_is_told_by_name_and_all_are_known() {
    let names: Vec<String> = (0..2000).map(|n| format!("{}/{n:04}", n % 3)).collect();
    let inputs: Vec<(&[u8], &[u8])> =
        names.iter().map(|name| (name.as_bytes(), name.as_bytes())).collect();
    let mut world = world_of("INPUT_DIR", &inputs);
    let report = world.run("cd $INPUT_DIR/1; chmod u+w *; for f in *; do echo >>$f; done; exit 3");
    assert_eq!(report.record.outcome, Outcome::Exited(3));
    let changed = names.iter().filter(|name| name.starts_with('1'));
    let mut changed: Vec<ObjectHash> =
        changed.map(|name| ObjectHash::of(name.as_bytes())).collect();
    let mut damaged = report.damaged_inputs.clone();
    changed.sort();
    damaged.sort();
    assert_eq!(damaged, changed);
    assert!(report.warnings[0].contains("(`1/0001`) and 666 more were modified"), "{report:?}");
    for name in names.iter().filter(|name| !name.starts_with('1')) {
        assert_intact(&world, &ObjectHash::of(name.as_bytes()), name);
    }
}

#[test]
fn a_name_that_a_script_keeps_of_a_link_is_no_way_into_the_store() {
    for dir in BOTH {
        for script in ["mv a $KEPT", "ln a $KEPT", "ln a $KEPT; rm -f a; exit 3"] {
            let mut world = world_of(dir, &[(b"a", b"bytes"), (b"b", b"bytes")]);
            let kept = world.path("kept");
            world.env = vec![("KEPT".into(), kept.to_str().unwrap().into())];
            drop(world.run(&script_in(dir, script)));
            fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&kept, "harm").unwrap();
            assert_intact(&world, &ObjectHash::of(b"bytes"), script);
            world.side.clear();
            world.assert_clean();
        }
    }
}

#[test]
fn nothing_is_removed_through_what_a_script_has_put_in_the_place_of_a_folder() {
    for dir in BOTH {
        for script in [
            "rm -rf d; ln -s $MINE d",
            "mv d e; ln -s $MINE d",
            "rm -rf d/e; ln -s $MINE/e d/e",
            "cd /; rm -rf $OLDPWD; ln -s ${MINE%/d} $OLDPWD",
        ] {
            let mut world = world_of(dir, &[(b"d/a", b"1"), (b"d/e/b", b"2")]);
            let mine = world.path("mine/d");
            fs::create_dir_all(mine.join("e")).unwrap();
            for file in ["a", "e/b"] {
                fs::write(mine.join(file), "mine").unwrap();
            }
            world.env = vec![("MINE".into(), mine.to_str().unwrap().into())];
            assert!(world.succeed(&script_in(dir, script)).is_empty());
            for file in ["a", "e/b"] {
                let left = fs::read_to_string(mine.join(file));
                assert_eq!(left.ok().as_deref(), Some("mine"), "{dir}: {script}: {file}");
            }
            for bytes in [b"1", b"2"] {
                assert_intact(&world, &ObjectHash::of(bytes), script);
            }
            world.side.clear();
            world.assert_clean();
        }
    }
}

#[test]
fn a_failure_says_that_inputs_were_links_and_what_to_do() {
    let mut world = world_of("INPUT_DIR", &[(b"a", b"bytes")]);
    let refused = "echo \"sort: open failed: a: Permission denied\"; exit 3";
    let report = world.run(refused);
    assert!(
        report.warnings[0].starts_with("its inputs were read-only links; a script that changes")
            && report.warnings[0].ends_with("needs input = \"copy\" in its task"),
        "{:?}",
        report.warnings
    );
    // Most failures have other reasons.
    for other in ["exit 3", "echo 'wrong: no such column'; exit 3"] {
        assert_eq!(world.run(other).warnings, [""; 0], "{other}");
    }
    world.copies_input = true;
    assert_eq!(world.run(refused).warnings, [""; 0]);
    world.copies_input = false;
    let mut world = world_of("WITH_DIR", &[(b"a", b"bytes")]);
    assert_eq!(world.run("echo wrong; exit 3").warnings, [""; 0]);
    for said in ["sort: open failed: a: Permission denied", "gzip: a has 1 other link"] {
        let report = world.run(&format!("echo '{said}'; exit 3"));
        let is_told =
            |warning: &String| warning.starts_with("the files in WITH_DIR were read-only");
        assert!(report.warnings.iter().any(is_told), "{said}: {:?}", report.warnings);
    }
}

#[test]
fn several_workers_lend_the_same_objects_at_once() {
    let names: Vec<String> = (0..300).map(|n| format!("{n}")).collect();
    let inputs: Vec<(&[u8], &[u8])> =
        names.iter().map(|name| (name.as_bytes(), name.as_bytes())).collect();
    let mut world = world_of("WITH_DIR", &inputs);
    show(&mut world, "INPUT_DIR", &inputs);
    let (store, supervisor) = (&world.store, &world.supervisor);
    let scratch = world.dir.path().join("scratch/run");
    std::thread::scope(|scope| {
        for worker in 1..5 {
            let mut attempt = world.attempt(
                r#"cat "$INPUT_DIR"/* "$WITH_DIR"/* | wc -c; case $((STEP_ID % 4)) in
                   1) rm -f "$INPUT_DIR"/1*;; 2) mv "$WITH_DIR"/2* "$TMPDIR";; 3) touch "$WITH_DIR"/3*; esac"#,
            );
            let scratch = scratch.clone();
            scope.spawn(move || {
                let mut scratch = Scratch::create(&scratch, worker, Launch::Auto).unwrap();
                for step in 0..8 {
                    attempt.items[0].step = StepId(step);
                    let made =
                        execute(&mut scratch, store, supervisor, None, &attempt, &mut |_| {});
                    let (report, _placed) = &made.unwrap()[0];
                    assert_eq!(report.record.outcome, Outcome::Succeeded);
                    assert!(report.damaged_inputs.is_empty());
                }
            });
        }
    });
    for name in &names {
        assert_intact(&world, &ObjectHash::of(name.as_bytes()), name);
    }
    world.side.clear();
    world.assert_clean();
}

#[test]
fn an_object_is_copied_where_it_has_all_the_links_that_its_file_system_allows() {
    let mut world = world_of("INPUT_DIR", &[(b"a", b"bytes"), (b"b", b"bytes"), (b"c", b"other")]);
    let object = ObjectHash::of(b"bytes");
    let names = world.path("names");
    fs::create_dir(&names).unwrap();
    // Up to the limit of ext4, but for one.
    let path = world.store.path(&object);
    let is_linked = |n: u32| fs::hard_link(&path, names.join(n.to_string())).is_ok();
    let made = (0..65_000).take_while(|n| is_linked(*n)).count() as u64;
    fs::remove_file(names.join("0")).unwrap();
    let script = r#"cd "$INPUT_DIR"; cat a b c; stat -c %h a b c >"$OUTPUT_DIR/x""#;
    let outputs = world.succeed(script);
    // No limit, or a higher one: all of them are links.
    let of_b = if made < 65_000 { 1 } else { made + 2 };
    let of_a = if made < 65_000 { made + 1 } else { made + 2 };
    assert_eq!(outputs, [pair("x", &format!("{of_a}\n{of_b}\n2\n"))]);
    let found = fs::metadata(&path).unwrap();
    assert_eq!((found.nlink(), found.mode() & 0o7777), (made, 0o444));
    world.assert_clean();
}

#[test]
fn inputs_on_another_file_system_are_copied() {
    let mut world = world_of("INPUT_DIR", &[(b"a", b"bytes")]);
    world.side = world.objects(&[(b"b", b"others")]);
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    world.scratch = Scratch::create(&elsewhere.path().join("scratch"), 0, Launch::Auto).unwrap();
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    let is_linked = device(elsewhere.path()) == device(world.dir.path());
    world.env = vec![("NAMES".into(), if is_linked { "2" } else { "1" }.into())];
    // Outputs can't be placed from there.
    let outputs = world.succeed(
        r#"[ "$(stat -c %h "$INPUT_DIR/a")" = $NAMES ]; [ "$(cat "$INPUT_DIR/a" "$WITH_DIR/b")" = bytesothers ]"#,
    );
    assert!(outputs.is_empty());
    for bytes in [&b"bytes"[..], b"others"] {
        assert_intact(&world, &ObjectHash::of(bytes), "copied");
    }
}

#[test]
fn an_object_that_was_made_writable_is_lent_read_only() {
    let mut world = world_of("INPUT_DIR", &[(b"a", b"bytes")]);
    let path = world.store.path(&ObjectHash::of(b"bytes"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let outputs = world.succeed(r#"stat -c %a "$INPUT_DIR/a" >"$OUTPUT_DIR/x""#);
    assert_eq!(outputs, [pair("x", "444\n")]);
}

#[test]
fn the_files_of_a_row_stay_its_own() {
    let mut world = World::new();
    let items = world.objects(&[(b"r1/a", b"1\n"), (b"r2/a", b"2\n")]);
    world.input = Input::Many { name: b"row".to_vec(), items };
    let mut attempt = world.attempt(r#"echo 3 >>"$r1"; cat "$r1" "$r2" >"$OUTPUT_DIR/x""#);
    let script = std::sync::Arc::make_mut(&mut attempt.script);
    script.paths = vec!["r1".to_owned(), "r2".to_owned()];
    let World { scratch, store, supervisor, .. } = &mut world;
    let made = execute(scratch, store, supervisor, None, &attempt, &mut |_| {}).unwrap();
    let (report, _placed) = &made[0];
    assert_eq!(report.record.outcome, Outcome::Succeeded, "{}", world.log(report));
    assert_eq!(world.contents(report), [pair("x", "1\n3\n2\n")]);
}
