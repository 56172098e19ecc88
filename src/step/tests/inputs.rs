//! What a script reads, and what it can do to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::world::{World, pair};
use crate::attempt::{NamedObject, Outcome};
use crate::error::Error;
use crate::object::ObjectHash;
use crate::step::Input;

/// So much that it may be a link.
fn large(seed: u8) -> Vec<u8> {
    (0..(16 << 20) + 1000).map(|n: u32| (n % 251) as u8 ^ seed).collect()
}

#[test]
fn a_script_finds_its_world() {
    let mut world = World::new();
    world.env = vec![("TASK_NAME".into(), "t".into()), ("INPUT_FILE".into(), "no".into())];
    let outputs = world.input(b"a/b.txt", b"hello\n").succeed(
        r#"
        [ "${INPUT_FILE##*/}" = b.txt ]; [ "$INPUT_NAME" = a/b.txt ]; [ "$TASK_NAME" = t ]
        [ -d "$TMPDIR" ]; [ -d "$OUTPUT_DIR/a" ]; [ -z "${INPUT_DIR+set}" ]; [ -z "${MAKEFLAGS+set}" ]
        [ "${0##*/}" = t ]; case "$INPUT_FILE$OUTPUT_DIR$TMPDIR" in /*/*/*) ;; *) exit 1; esac
        [ -z "$(cat)" ]   # stdin is empty
        cat "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME"
        "#,
    );
    assert_eq!(outputs, [pair("a/b.txt", "hello\n")]);
    world.assert_clean();
}

#[test]
fn the_root_object_is_an_empty_file_called_input() {
    let outputs = World::new().succeed(
        r#"[ -f "$INPUT_FILE" ]; [ -z "$INPUT_NAME" ]; echo "${INPUT_FILE##*/}" >"$OUTPUT_DIR/x""#,
    );
    assert_eq!(outputs, [pair("x", "input\n")]);
}

#[test]
fn moving_the_input_to_the_outputs_is_the_identity() {
    let mut world = World::new();
    for round in 0..3 {
        let bytes = format!("content {round}");
        let outputs =
            world.input(b"in", bytes.as_bytes()).succeed(r#"mv "$INPUT_FILE" "$OUTPUT_DIR"/x"#);
        assert_eq!(outputs, [pair("x", &bytes)]);
    }
    let bytes = large(1);
    let hash = world.object(&bytes);
    world.input(b"in", &bytes);
    let report = world.run(r#"mv "$INPUT_FILE" "$OUTPUT_DIR"/x"#);
    assert_eq!(report.record.outcome, Outcome::Succeeded);
    assert_eq!(report.outputs[0].object, hash);
    assert_eq!(world.store.check(&hash, Some(bytes.len() as u64), true).unwrap(), Ok(()));
    world.assert_clean();
}

#[test]
fn a_script_may_do_anything_to_its_small_input() {
    let mut world = World::new();
    for script in [
        r#"echo longer and longer >> "$INPUT_FILE""#,
        r#": > "$INPUT_FILE""#,
        r#"rm "$INPUT_FILE""#,
        r#"rm "$INPUT_FILE"; echo other > "$INPUT_FILE""#,
        r#"rm "$INPUT_FILE"; mkfifo "$INPUT_FILE""#,
        r#"rm "$INPUT_FILE"; ln -s /dev/full "$INPUT_FILE""#,
        r#"ln "$INPUT_FILE" "$TMPDIR/x""#,
        r#"mv "$INPUT_FILE" "${INPUT_FILE%/*}/other""#,
        r#"chmod 0 "$INPUT_FILE""#,
        r#"touch "${INPUT_FILE%/*}/another""#,
        r#"rm "$INPUT_FILE"; mkdir "$INPUT_FILE"; touch "$INPUT_FILE/x""#,
        r#"ln -s / "${INPUT_FILE%/*}/link""#,
        r#"rm -r "${INPUT_FILE%/*}""#,
        r#"chmod 500 "${INPUT_FILE%/*}""#,
        r#"rm -r "$TMPDIR""#,
        r#"mkdir -p "$TMPDIR/a/b"; touch "$TMPDIR/a/b/c"; chmod 0 "$TMPDIR/a""#,
        r#"mv "$TMPDIR" "$TMPDIR.old"; ln -s / "$TMPDIR""#,
    ] {
        world.input(b"name", b"some bytes");
        assert!(world.succeed(script).is_empty(), "{script}");
        world.assert_clean();
        assert!(fs::metadata("/etc").is_ok());
    }
}

#[test]
fn what_a_script_has_put_in_the_place_of_its_input_is_never_written_to() {
    let mut world = World::new();
    let precious = world.path("precious");
    world.env = vec![("PRECIOUS".into(), precious.to_str().unwrap().into())];
    let spare = r#"cd "$OUTPUT_DIR/..""#;
    for (script, gathers) in [
        (r#"ln -f "$PRECIOUS" "$INPUT_FILE""#.to_owned(), false),
        (r#"ln -fs "$PRECIOUS" "$INPUT_FILE""#.to_owned(), false),
        (r#"ln "$INPUT_FILE" "$PRECIOUS".link"#.to_owned(), false),
        // Where the file waits while there is something else to stage.
        (format!(r#"{spare}; [ -f spare ]; ln -f "$PRECIOUS" spare"#), true),
        (format!(r#"{spare}; [ -f spare ]; ln -fs "$PRECIOUS" spare"#), true),
        (format!(r#"{spare}; [ -f spare ]; rm spare; mkfifo spare"#), true),
        (format!(r#"{spare}; [ -f spare ]; rm spare; mkdir spare"#), true),
    ] {
        fs::write(&precious, "mine").unwrap();
        fs::set_permissions(&precious, fs::Permissions::from_mode(0o600)).unwrap();
        world.input(b"in", b"the first");
        world.succeed("true");
        if gathers {
            world.gather(&[(b"in", b"1")]);
        }
        world.succeed(&script);
        let outputs = world.input(b"in", b"the next").succeed(
            r#"cat "$INPUT_FILE" >"$OUTPUT_DIR/x"; stat -c %a "$INPUT_FILE" >"$OUTPUT_DIR/y""#,
        );
        assert_eq!(outputs, [pair("x", "the next"), pair("y", "644\n")], "{script}");
        assert_eq!(fs::read(&precious).unwrap(), b"mine", "{script}");
        let mode = fs::metadata(&precious).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600, "{script}");
        if let Ok(link) = fs::read(world.path("precious.link")) {
            assert_eq!(link, b"the first", "{script}");
        }
        world.assert_clean();
    }
}

#[test]
fn a_hard_link_of_the_input_in_the_outputs_is_copied() {
    let mut world = World::new();
    for bytes in [b"small".to_vec(), large(2)] {
        world.input(b"in", &bytes);
        let report = world.run(r#"ln "$INPUT_FILE" "$OUTPUT_DIR"/x"#);
        assert_eq!(report.record.outcome, Outcome::Succeeded);
        assert_eq!(report.outputs[0].object, ObjectHash::of(&bytes));
        world.assert_clean();
    }
}

#[test]
fn the_executable_bit_is_as_asked_for() {
    let mut world = World::new();
    let small = world.object(b"#!/bin/sh\nexit 7\n");
    let large = world.object(&large(3));
    for (object, executable) in [(small, true), (small, false), (large, true), (large, false)] {
        let name = b"tool".to_vec();
        world.input = Input::One(NamedObject { name, object, executable });
        let test = if executable { r#"[ -x "$INPUT_FILE" ]"# } else { r#"[ ! -x "$INPUT_FILE" ]"# };
        assert!(world.succeed(test).is_empty());
    }
    let mode = fs::metadata(world.store.path(&large)).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o444);
}

#[test]
fn a_forced_write_to_a_large_input_is_told_and_the_object_named() {
    let mut world = World::new();
    let bytes = large(4);
    let object = world.object(&bytes);
    world.input(b"big.bin", &bytes);
    let report = world
        .run(r#"chmod u+w "$INPUT_FILE"; printf x | dd of="$INPUT_FILE" conv=notrunc 2>/dev/null"#);
    // On a file system with clones the copy is private, and all is well.
    if report.record.outcome == Outcome::Succeeded {
        assert_eq!(world.store.check(&object, None, true).unwrap(), Ok(()));
        return;
    }
    let Outcome::Refused(sentence) = &report.record.outcome else {
        panic!("{:?}", report.record.outcome)
    };
    assert!(sentence.contains("big.bin") && sentence.contains("input = \"copy\""), "{sentence}");
    assert_eq!(report.damaged_inputs, [object]);
    assert!(world.store.check(&object, None, true).unwrap().is_err());
    world.assert_clean();
}

#[test]
fn a_failing_script_that_damages_its_input_is_found_out_too() {
    let mut world = World::new();
    let object = world.object(&large(5));
    world.input(b"big", &large(5));
    let report = world.run(r#"chmod u+w "$INPUT_FILE"; echo more >> "$INPUT_FILE"; exit 3"#);
    assert_eq!(report.record.outcome, Outcome::Exited(3));
    if !report.damaged_inputs.is_empty() {
        assert_eq!(report.damaged_inputs, [object]);
        assert!(report.warnings[0].contains("modified"), "{:?}", report.warnings);
    }
}

#[test]
fn what_only_looks_like_damage_is_none() {
    let mut world = World::new();
    let object = world.object(&large(6));
    for script in [
        r#"chmod 600 "$INPUT_FILE""#,
        r#"touch "$INPUT_FILE""#,
        r#"rm -f "$INPUT_FILE""#,
        r#"mv "$INPUT_FILE" "$TMPDIR/y""#,
        r#"ln "$INPUT_FILE" "$TMPDIR/y""#,
    ] {
        world.input(b"big", &large(6));
        let report = world.run(script);
        assert_eq!(report.record.outcome, Outcome::Succeeded, "{script}");
        assert!(report.damaged_inputs.is_empty());
        let mode = fs::metadata(world.store.path(&object)).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o444, "{script}");
    }
    world.assert_clean();
}

#[test]
fn a_missing_or_changed_input_object_is_damage_and_not_the_scripts_fault() {
    let mut world = World::new();
    world.input(b"in", b"precious");
    let Input::One(NamedObject { object, .. }) = world.input else { unreachable!() };
    let path = world.store.path(&object);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, b"precioUs").unwrap();
    assert!(matches!(world.try_run("true"), Err(Error::Damaged { .. })));
    fs::remove_file(&path).unwrap();
    assert!(matches!(world.try_run("true"), Err(Error::Damaged { .. })));
    fs::create_dir(&path).unwrap();
    assert!(matches!(world.try_run("true"), Err(Error::Damaged { .. })));
    world.assert_clean();
}

#[test]
fn gather_gives_all_inputs_under_their_names_and_a_list() {
    let mut world = World::new();
    let big = large(7);
    world.gather(&[(b"a", b"1"), (b"a", b"2"), (b"a~2", b"3"), (b"d/e", b"4"), (b"z", &big)]);
    let outputs = world.succeed(
        r#"[ "${INPUT_FILE##*/}" = inputs ]; [ -z "$INPUT_NAME" ]
           sed "s,$INPUT_DIR/,," "$INPUT_FILE" > "$OUTPUT_DIR/list"
           cd "$INPUT_DIR"; cat a a~2 a~3 d/e > "$OUTPUT_DIR/all"; wc -c < z > "$OUTPUT_DIR/z"
           xargs -d '\n' cat < "$INPUT_FILE" | wc -c > "$OUTPUT_DIR/sum""#,
    );
    let sum = format!("{}\n", big.len() + 4);
    assert_eq!(
        outputs,
        [
            pair("all", "1324"),
            pair("list", "a\na~3\na~2\nd/e\nz\n"),
            pair("sum", &sum),
            pair("z", &format!("{}\n", big.len())),
        ]
    );
    world.assert_clean();
}

#[test]
fn gather_takes_any_number_of_inputs_in_little_memory() {
    let mut world = World::new();
    let count: usize = std::env::var("GATHER_COUNT").map_or(1000, |count| count.parse().unwrap());
    let names: Vec<String> = (0..count).map(|n| format!("{}/{n}", n % 7)).collect();
    let mut names: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    names.sort();
    let inputs: Vec<(&[u8], &[u8])> = names.iter().map(|name| (*name, &b"x"[..])).collect();
    world.gather(&inputs);
    let outputs = world.succeed(r#"wc -l < "$INPUT_FILE" > "$OUTPUT_DIR/n"; find "$INPUT_DIR" -type f | wc -l >> "$OUTPUT_DIR/n""#);
    assert_eq!(outputs, [pair("n", &format!("{count}\n{count}\n"))]);
    world.assert_clean();
}

#[test]
fn names_that_are_no_text_reach_the_script_as_they_are() {
    let mut world = World::new();
    for name in [&b"\xff\xfe"[..], b"new\nline", b"-n", b"a b'\"$x"] {
        let outputs = world
            .input(name, b"1")
            .succeed(r#"[ "${INPUT_FILE##*/}" = "$INPUT_NAME" ]; cat < "$INPUT_FILE" > "$OUTPUT_DIR/$INPUT_NAME""#);
        assert_eq!(outputs, [pair(&crate::text::printable(name), "1")]);
    }
}

#[test]
fn the_folder_of_the_name_is_there_each_time() {
    let mut world = World::new();
    for name in [&b"a/b/1"[..], b"a/b/2", b"a/c/3", b"4", b"a/b/5"] {
        let outputs = world.input(name, b"x").succeed(
            r#"cp "$INPUT_FILE" "$OUTPUT_DIR/$INPUT_NAME"; cd "$OUTPUT_DIR"; find . -type d | sort | tr '\n' ' '"#,
        );
        assert_eq!(outputs, [pair(std::str::from_utf8(name).unwrap(), "x")]);
    }
    world.input(b"a/b/6", b"x");
    assert!(world.succeed(r#"rm -r "$OUTPUT_DIR/a""#).is_empty());
    assert!(world.succeed(r#"chmod 500 "$OUTPUT_DIR/a"; [ -d "$OUTPUT_DIR/a/b" ]"#).is_empty());
    assert!(
        world
            .succeed(r#"[ -d "$OUTPUT_DIR/a/b" ]; touch "$OUTPUT_DIR/a/x"; rm "$OUTPUT_DIR/a/x""#)
            .is_empty()
    );
    // A name that leads out of OUTPUT_DIR gets no folder.
    world.input(b"../evil/x", b"x");
    assert!(world.succeed(r#"[ ! -e "$OUTPUT_DIR/../evil" ]"#).is_empty());
    world.assert_clean();
}

#[test]
fn what_a_script_does_to_its_own_file_never_reaches_the_next_step() {
    let mut world = World::new();
    for deed in [
        r#"rm "$0""#,
        r#"printf 'exit 7\n' > "$0""#,
        r#"sed -i 's/echo/false/' "$0""#,
        r#"chmod 0 "$0""#,
        r#"rm "$0"; mkdir "$0"; touch "$0/x""#,
        r#"rm "$0"; ln -s /bin/false "$0""#,
        r#"d=${0%/*}; mv "$d" "$d.old"; mkdir "$d"; echo 'exit 7' > "$0""#,
    ] {
        let attempt = world.attempt(&format!("{{ echo said; {deed}; exit; }}"));
        for round in 0..3 {
            let World { scratch, store, supervisor, .. } = &mut world;
            let ran = crate::step::execute(scratch, store, supervisor, None, &attempt, &mut |_| {});
            let (report, _placed) = ran.unwrap().remove(0);
            assert_eq!(report.record.outcome, Outcome::Succeeded, "{deed}, round {round}");
            assert_eq!(world.log(&report), "said\n", "{deed}, round {round}");
        }
    }
    world.assert_clean();
}

#[test]
fn an_attempt_and_its_report_are_data_that_a_wire_can_carry() {
    let mut world = World::new();
    world.env = vec![("A".into(), "b".into())];
    world.timeout = Some(std::time::Duration::from_secs(30));
    world.input(b"\xff/name", b"some bytes");
    let attempt = world.attempt("echo x > \"$OUTPUT_DIR/x\"; echo said");
    let text = serde_json::to_string(&attempt).unwrap();
    assert_eq!(serde_json::from_str::<crate::step::Attempt>(&text).unwrap(), attempt);
    let report = world.run("echo x > \"$OUTPUT_DIR/x\"; echo said");
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<crate::step::Report>(&text).unwrap(), report);
}

#[test]
fn a_script_may_do_anything_to_its_input_up_to_16_mib_and_with_input_copy_to_any() {
    let mut world = World::new();
    let big = large(9);
    let medium = &big[..2 << 20];
    let script = r#"gzip "$INPUT_FILE"; gzip -dc "$INPUT_FILE.gz" | cmp - "$1" || true
                    gzip -d "$INPUT_FILE.gz"; echo more >> "$INPUT_FILE"; mv "$INPUT_FILE" "$OUTPUT_DIR/x""#;
    for (bytes, copies_input) in [(medium, false), (&big[..], true)] {
        world.copies_input = copies_input;
        world.input(b"in", bytes);
        let report = world.run(script);
        assert_eq!(report.record.outcome, Outcome::Succeeded, "{}", world.log(&report));
        assert_eq!(report.outputs[0].object, ObjectHash::of(&[bytes, b"more\n"].concat()));
        assert_eq!(report.warnings, [""; 0]);
    }
    // Where it is a link, the failure says so, and what to do.
    world.copies_input = false;
    world.input(b"in", &big);
    let report = world.run(r#"gzip "$INPUT_FILE""#);
    if !report.record.outcome.is_ok() {
        assert!(report.warnings[0].contains("input = \"copy\""), "{:?}", report.warnings);
    }
}

#[test]
fn a_gather_list_has_one_path_a_line_whatever_the_names_are() {
    let mut world = World::new();
    let names: [&[u8]; 4] = [b"one\n/etc/passwd", b"one_/etc/passwd", b"a b", b"back\\slash"];
    let inputs: Vec<(&[u8], &[u8])> = names.iter().map(|name| (*name, *name)).collect();
    let outputs = world.gather(&inputs).succeed(
        r#"while IFS= read -r path; do cat "$path"; echo; done < "$INPUT_FILE" > "$OUTPUT_DIR/all"
           [ "$(wc -l < "$INPUT_FILE")" = 4 ]; ! grep -qv "^$INPUT_DIR/" "$INPUT_FILE""#,
    );
    let expected = "one\n/etc/passwd\none_/etc/passwd\na b\nback\\slash\n";
    assert_eq!(outputs[0].1, expected);
}

#[test]
fn tmpdir_is_empty_for_the_next_step_whatever_its_times_say() {
    let mut world = World::new();
    world.succeed(r#"echo secret > "$TMPDIR/x"; touch -d @1 "$TMPDIR"; touch -d @1 "$TMPDIR/x""#);
    assert!(world.succeed(r#"[ -z "$(ls -A "$TMPDIR")" ]"#).is_empty());
}
