//! What a step could reach beyond its scratch: the store through names that it keeps, the store through
//! outputs that are refused, and whatever it has mounted.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::world::{World, pair};
use crate::attempt::Outcome;
use crate::object::ObjectHash;
use crate::step::remove_scratch;

fn large(seed: u8) -> Vec<u8> {
    (0..(16 << 20) + 1000).map(|n: u32| (n % 251) as u8 ^ seed).collect()
}

#[test]
fn a_name_that_a_script_keeps_of_its_large_input_is_no_way_into_the_store() {
    for script in [
        r#"mv "$INPUT_FILE" "$KEPT""#,
        r#"ln "$INPUT_FILE" "$KEPT""#,
        r#"ln "$INPUT_FILE" "$KEPT"; rm -f "$INPUT_FILE"; exit 3"#,
        r#"ln "$INPUT_FILE" "$KEPT"; ln -s / "$OUTPUT_DIR/refused""#,
    ] {
        let mut world = World::new();
        let (bytes, kept) = (large(1), world.path("kept"));
        world.env = vec![("KEPT".into(), kept.to_str().unwrap().into())];
        let object = world.object(&bytes);
        drop(world.input(b"big", &bytes).run(script));
        assert_eq!(fs::read(&kept).unwrap(), bytes, "{script}");
        fs::set_permissions(&kept, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        fs::write(&kept, "harm").unwrap();
        let size = Some(bytes.len() as u64);
        assert_eq!(world.store.check(&object, size, true).unwrap(), Ok(()), "{script}");
        let found = fs::metadata(world.store.path(&object)).unwrap();
        assert_eq!((found.nlink(), found.mode() & 0o7777), (1, 0o444), "{script}");
        world.assert_clean();
    }
}

#[test]
fn an_object_that_somebody_else_has_linked_stays_as_it_is() {
    let mut world = World::new();
    let object = ObjectHash::of(&large(2));
    world.input(b"big", &large(2));
    let path = world.store.path(&object);
    fs::hard_link(&path, world.path("backup")).unwrap();
    let before = fs::metadata(&path).unwrap().ino();
    drop(world.run(r#"cat "$INPUT_FILE" > /dev/null"#));
    assert_eq!(fs::metadata(&path).unwrap().ino(), before);
}

#[test]
fn nothing_is_stored_of_a_step_that_is_refused() {
    let mut world = World::new();
    let known = world.object(b"known\n");
    world.refused(
        r#"cd "$OUTPUT_DIR"; echo known > a; echo new > b; echo new > c; echo twin > d; ln d e
           mkdir z; ln -s x z/link"#,
    );
    assert!(world.store.path(&known).exists());
    for bytes in [&b"new\n"[..], b"twin\n"] {
        assert!(!world.store.path(&ObjectHash::of(bytes)).exists());
    }
}

#[test]
fn what_root_has_made_immutable_is_undone_or_refused() {
    let mut world = World::new();
    for (script, sentence) in [
        (r#"chattr +i "$OUTPUT_DIR" || exit 9"#, None),
        (r#"touch "$TMPDIR/x"; chattr +i "$TMPDIR/x" "$TMPDIR" || exit 9"#, None),
        (r#"chattr +i "$INPUT_FILE" "${INPUT_FILE%/*}" || exit 9"#, None),
        (
            r#"cd "$OUTPUT_DIR"; mkdir d; touch d/f; chattr +i d || exit 9"#,
            Some("`d/f` is immutable"),
        ),
        (r#"cd "$OUTPUT_DIR"; mkdir d; chattr +i d || exit 9"#, Some("`d` is immutable")),
    ] {
        let report = world.input(b"in", b"bytes").run(script);
        match (&report.record.outcome, sentence) {
            // Not root, or a file system without.
            (Outcome::Exited(9), _) => return,
            (Outcome::Refused(said), Some(part)) => assert!(said.contains(part), "{said}"),
            (outcome, _) => {
                assert_eq!((outcome, sentence), (&Outcome::Succeeded, None), "{script}");
            }
        }
        world.assert_clean();
    }
}

#[test]
fn nothing_is_removed_or_changed_through_a_mount() {
    let mut world = World::new();
    let (file, tree) = (world.path("file"), world.path("tree"));
    fs::create_dir(&tree).unwrap();
    fs::write(&file, "mine").unwrap();
    fs::write(tree.join("f"), "mine").unwrap();
    let mode = fs::metadata(&file).unwrap().mode();
    for (name, path) in [("FILE", &file), ("TREE", &tree)] {
        world.env.push((name.into(), path.to_str().unwrap().into()));
    }
    for (script, refused) in [
        (r#"touch "$OUTPUT_DIR/f"; mount --bind "$FILE" "$OUTPUT_DIR/f" || exit 9"#, true),
        (r#"mkdir "$OUTPUT_DIR/d"; mount --bind "$TREE" "$OUTPUT_DIR/d" || exit 9"#, true),
        (r#"mkdir "$TMPDIR/d"; mount --bind "$TREE" "$TMPDIR/d" || exit 9"#, false),
        (r#"mount --bind "$TREE" "$TMPDIR" || exit 9"#, false),
    ] {
        let report = world.run(script);
        match &report.record.outcome {
            // Not root, or not allowed to.
            Outcome::Exited(9) => return,
            Outcome::Refused(said) => {
                assert!(refused && said.contains("is a mount point"), "{said}");
            }
            outcome => assert!(!refused && *outcome == Outcome::Succeeded, "{outcome:?}"),
        }
        world.assert_clean();
        assert_eq!(world.succeed(r#"echo 1 > "$OUTPUT_DIR/x""#), [pair("x", "1\n")]);
    }
    let folder = world.path("scratch/run");
    assert!(remove_scratch(&folder).is_err(), "what is mounted can't be removed");
    unmount_below(&folder);
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(fs::metadata(&file).unwrap().mode(), mode);
    assert_eq!(fs::read_to_string(tree.join("f")).unwrap(), "mine");
    remove_scratch(&folder).unwrap();
}

fn unmount_below(folder: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let below = format!("{}/", folder.display());
    for place in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        if place.starts_with(&below) {
            assert!(std::process::Command::new("umount").arg(place).status().unwrap().success());
        }
    }
}
