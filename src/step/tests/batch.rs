//! Several steps that share one start of a script: what it finds, and what is taken from each.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use super::world::World;
use crate::attempt::{NamedObject, Outcome};
use crate::ids::StepId;
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::step::{Attempt, Input, Item, Made, execute};

/// The script goes into the folder of each step.
fn for_each(script: &str) -> String {
    format!("for dir in \"$BATCH_DIR\"/*; do cd \"$dir\"; n=${{dir##*/}}; {script}; done")
}

impl World {
    /// An attempt at a step for each of these inputs.
    fn batch(&self, script: &str, inputs: &[(&str, &str)]) -> Attempt {
        let mut attempt = self.attempt(script);
        Arc::make_mut(&mut attempt.script).batch = true;
        attempt.items = inputs
            .iter()
            .zip(1..)
            .map(|((name, bytes), n)| Item {
                step: StepId(n),
                number: 1,
                key: ObjectHash::of(name.as_bytes()),
                input: Input::One(NamedObject {
                    name: name.as_bytes().to_vec(),
                    object: self.object(bytes.as_bytes()),
                    executable: false,
                }),
                labels: [("sample", *name)].into_iter().collect(),
            })
            .collect();
        attempt
    }

    fn make(&mut self, attempt: &Attempt) -> Vec<Made> {
        let World { scratch, store, supervisor, .. } = self;
        execute(scratch, store, supervisor, None, attempt, &mut |_| {}).unwrap()
    }

    /// What each step has come to: its outputs, or the sentence that says why not.
    fn share(&mut self, script: &str, inputs: &[(&str, &str)]) -> Vec<Result<String, String>> {
        let attempt = self.batch(script, inputs);
        let made = self.make(&attempt);
        let end = |(report, _): &Made| match &report.record.outcome {
            Outcome::Succeeded => {
                let outputs = self.contents(report);
                let outputs = outputs.iter().map(|(name, content)| format!("{name}={content}"));
                Ok(outputs.collect::<Vec<_>>().join(" "))
            }
            other => Err(other.to_string()),
        };
        made.iter().map(end).collect()
    }
}

fn ok(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

#[test]
fn each_step_has_a_folder_with_its_input_its_facts_and_room_for_its_outputs() {
    let mut world = World::new();
    let script = for_each(
        r#"cat input/* >"output/$(ls input)"; sed "s|$BATCH_DIR|BATCH|" step.json >output/json; ls >output/ls"#,
    );
    let ends = world.share(&script, &[("a", "A"), ("sub/b", "B")]);
    let json = |n, name: &str, base: &str| {
        let key = ObjectHash::of(name.as_bytes());
        format!(
            "json={{\"name\":\"{name}\",\"labels\":{{\"sample\":\"{name}\"}},\"key\":\"{key}\",\"step\":{n},\"attempt\":1,\
             \"input\":\"BATCH/{n}/input/{base}\"}}\n ls=input\noutput\nstep.json\n"
        )
    };
    assert_eq!(
        ends,
        [ok(&format!("a=A {}", json(1, "a", "a"))), ok(&format!("b=B {}", json(2, "sub/b", "b")))]
    );
    // What already exists is the folder part of the name.
    let ends = world.share(&for_each("cp input/* output/sub/x"), &[("sub/b", "B")]);
    assert_eq!(ends, [ok("sub/x=B")]);
    world.assert_clean();
}

#[test]
fn what_differs_from_step_to_step_is_no_variable_of_a_batch() {
    let mut world = World::new();
    let names = "INPUT_FILE INPUT_NAME INPUT_DIR OUTPUT_DIR STEP_ID STEP_KEY ATTEMPT sample";
    let script = format!(
        "cd \"$BATCH_DIR/1\"; for name in {names}; do env | grep \"^$name=\" >>output/x || :; done; echo $TASK_NAME >>output/x; [ -d $TMPDIR ]"
    );
    assert_eq!(world.share(&script, &[("a", "")]), [ok("x=t\n")]);
    // Nor is BATCH_DIR one of a script for one step.
    assert_eq!(world.succeed("env | grep ^BATCH || echo none >$OUTPUT_DIR/x")[0].1, "none\n");
}

#[test]
fn a_step_fails_alone_if_the_script_says_so_in_a_file() {
    let mut world = World::new();
    let ones: Vec<(String, String)> = [
        ("1", "printf ' bad sum\\n\\n in line 3\\n' >failed"),
        ("2", ":"),
        ("3", ": >failed"),
        ("4", "mkdir failed"),
        ("5", "ln -s /etc/passwd failed"),
        ("6", "mkfifo failed"),
        ("7", "printf 'a\\033[2Jb\\377\\n' >failed"),
        ("8", "yes long | head -c 100000 >failed"),
        ("9", "echo no >failed; chmod 0 failed"),
    ]
    .map(|(name, script)| (name.to_owned(), script.to_owned()))
    .into();
    let inputs: Vec<(&str, &str)> =
        ones.iter().map(|(name, script)| (name.as_str(), script.as_str())).collect();
    let script = for_each("echo out >output/out; . input/*");
    let ends = world.share(&script, &inputs);
    let failed = |n: usize| ends[n - 1].clone().unwrap_err();
    assert_eq!(failed(1), "the script says: bad sum; in line 3");
    assert_eq!(ends[1], ok("out=out\n"));
    assert_eq!(failed(3), "the script says: failed, without a message");
    assert!(failed(4).contains("no file"), "{ends:?}");
    assert!(failed(5).contains("can't be read"), "{ends:?}");
    assert!(failed(6).contains("no file"), "{ends:?}");
    assert!(failed(7).ends_with("a\\u{1b}[2Jb\\xff"), "{ends:?}");
    assert!(failed(8).len() < 2000 && failed(8).ends_with(" …"), "{ends:?}");
    assert!(failed(9).starts_with("the script says: "), "{ends:?}");
    world.assert_clean();
}

#[test]
fn an_output_that_can_not_be_kept_fails_its_step_alone() {
    let mut world = World::new();
    let script = for_each(". input/*; echo $n >>output/x || :");
    let ends = world.share(
        &script,
        &[
            ("1", "ln -s x output/link"),
            ("2", ":"),
            ("3", "rm -r output; mkdir other; mv other output"),
            ("4", "rm -r output"),
            ("5", "rm -r output; ln -s ../2/output output"),
            ("6", "cd ..; mv 6 six; mkdir 6"),
            ("7", "chmod 0 output"),
            ("8", "mkfifo output/fifo"),
        ],
    );
    let refused = |n: usize| ends[n - 1].clone().unwrap_err();
    assert!(refused(1).contains("`link` is a symbolic link"), "{ends:?}");
    assert!(ends[1].as_ref().is_ok_and(|outputs| outputs.starts_with("x=2\n")), "{ends:?}");
    // Its number may have been given to the new one, which then is as good.
    assert!(ends[2] == ok("x=3\n") || refused(3).contains("replaced"), "{ends:?}");
    assert!(refused(4).contains("removed"), "{ends:?}");
    assert!(refused(5).contains("replaced"), "{ends:?}");
    assert!(refused(6).contains("removed"), "{ends:?}");
    assert!(ends[6].is_ok(), "{ends:?}");
    assert!(refused(8).contains("`fifo` is a FIFO"), "{ends:?}");
    world.assert_clean();
    // Nothing of it is there for the next batch.
    assert_eq!(
        world.share(&for_each("ls >output/ls"), &[("1", "")]),
        [ok("ls=input\noutput\nstep.json\n")]
    );
}

#[test]
fn a_batch_finds_nothing_of_the_one_before_it_whatever_that_did() {
    let mut world = World::new();
    for script in [
        "touch \"$BATCH_DIR/9\"",
        "rm -r \"$BATCH_DIR\"",
        "mv \"$BATCH_DIR\" \"$BATCH_DIR.2\"; mkdir \"$BATCH_DIR\"; touch \"$BATCH_DIR/1\"",
    ] {
        world.share(script, &[("a", ""), ("b", "")]);
        assert_eq!(
            world.share("ls $BATCH_DIR >$BATCH_DIR/1/output/ls", &[("a", "")]),
            [ok("ls=1\n")]
        );
    }
    // Nor of a script for one step that knows where to look.
    world.run("mkdir -p \"${OUTPUT_DIR%/*}/batch/1\"");
    assert_eq!(
        world.share(&for_each("ls >output/ls"), &[("a", "")]),
        [ok("ls=input\noutput\nstep.json\n")]
    );
}

#[test]
fn the_folders_of_a_batch_serve_the_next_one_unless_a_script_has_spoilt_them() {
    let mut world = World::new();
    let inputs = [("a", "A"), ("b", "B"), ("sub/c", "C")];
    // What is there, and which folders: as one of the three must find it.
    let look = for_each(
        "stat -c %i . input output >output/x; find . ! -type d >>output/x; cat step.json input/* >>output/x",
    );
    let inodes = |ends: &[Result<String, String>]| -> BTreeSet<String> {
        let numbers = ends.iter().flat_map(|end| end.as_ref().unwrap().lines().take(3));
        numbers.map(|number| number.trim_start_matches("x=").to_owned()).collect()
    };
    let first = world.share(&look, &inputs);
    assert_eq!(inodes(&world.share(&look, &inputs)), inodes(&first), "they are used again");
    assert!(inodes(&world.share(&look, &inputs[..1])).is_subset(&inodes(&first)));
    let fresh = |ends: Vec<Result<String, String>>| -> Vec<String> {
        let rest = |end: Result<String, String>| {
            let text = end.unwrap().lines().skip(3).collect::<Vec<_>>().join("\n");
            text.replace(char::is_numeric, "")
        };
        ends.into_iter().map(rest).collect()
    };
    let wanted = fresh(world.share(&look, &inputs));
    for spoil in [
        "chmod 0 input output; chmod 500 .",
        "rm step.json; ln -s /dev/null step.json",
        "ln step.json \"$TMPDIR/../kept.$n\"",
        "chmod 0 step.json",
        "mkdir more; echo x >more/x; echo x >input/x; mkdir -p output/d/e; touch failed",
        "rm -r input; mkdir input",
        "mv output out; ln -s out output",
        "rm -r ../\"$n\"",
        "cd ..; mv $n x$n; mv x$n $n; touch $n/failed",
        "exit 1",
        "mkdir ../../spare-batch/$n/more",
        "rm -r ../../spare-batch/*; touch ../../spare-batch/1",
    ] {
        world.share(&for_each(spoil), &inputs);
        assert_eq!(fresh(world.share(&look, &inputs)), wanted, "{spoil}");
    }
    let kept = fs::read_to_string(world.path("scratch/run/w0/kept.1"));
    assert!(
        kept.is_ok_and(|kept| kept.contains("\"name\":\"a\"")),
        "what has another name is not written to"
    );
    world.assert_clean();
}

#[test]
fn all_of_a_batch_have_the_log_the_times_and_the_end_of_their_script() {
    let mut world = World::new();
    let attempt = world.batch("echo said; exit 3", &[("a", ""), ("b", "")]);
    let made = world.make(&attempt);
    assert_eq!(made.len(), 2);
    let records: Vec<_> = made.iter().map(|(report, _)| &report.record).collect();
    assert!(records.iter().all(|record| record.outcome == Outcome::Exited(3)));
    assert_eq!(records[0].log, records[1].log);
    assert_eq!(records[0].usage, records[1].usage);
    assert_eq!(world.log(&made[1].0), "said\n");
    assert_eq!(made.iter().map(|(_, placed)| placed.len()).sum::<usize>(), 1);
}

#[test]
fn many_inputs_of_a_step_and_the_files_of_a_row_are_in_its_folder() {
    let mut world = World::new();
    world.gather(&[(b"r1/a", b"A"), (b"r2/a", b"B")]);
    let mut attempt = world.batch(
        r#"cd "$BATCH_DIR/1"; xargs cat <inputs >output/all; cat input/r2/a >output/r2; sed "s|$BATCH_DIR|BATCH|g" step.json >output/json"#,
        &[("x", "")],
    );
    Arc::make_mut(&mut attempt.script).paths = ["r1", "r2", "r3"].map(str::to_owned).into();
    attempt.items[0].input = world.input.clone();
    attempt.items[0].labels = Labels::default();
    let made = world.make(&attempt);
    assert_eq!(made[0].0.record.outcome, Outcome::Succeeded, "{}", world.log(&made[0].0));
    let outputs = world.contents(&made[0].0);
    assert_eq!((outputs[0].1.as_str(), outputs[2].1.as_str()), ("AB", "B"));
    let json: serde_json::Value = serde_json::from_str(&outputs[1].1).unwrap();
    assert_eq!(json["input"], "BATCH/1/inputs");
    let paths =
        serde_json::json!({"r1": "BATCH/1/input/r1/a", "r2": "BATCH/1/input/r2/a", "r3": ""});
    assert_eq!(json["paths"], paths);
}

#[test]
fn a_large_input_that_one_step_changes_fails_that_step_and_no_other() {
    let mut world = World::new();
    let large = |byte: u8| vec![byte; (16 << 20) + 1];
    let (a, b) = (world.object(&large(b'a')), world.object(&large(b'b')));
    let script = for_each(
        "cmp -s input/* /dev/null || :; if [ $n = 2 ] && [ -n \"$FORCE\" ]; then chmod u+w input/*; echo x >input/*; fi; echo $n >output/n",
    );
    // Forced where it is a link; a private copy is the script's own.
    world.env = vec![("FORCE".to_owned(), "1".to_owned())];
    let mut attempt = world.batch(&script, &[("1", ""), ("2", ""), ("3", "")]);
    for (item, object) in attempt.items.iter_mut().zip([a, b, a]) {
        item.input = Input::One(NamedObject { name: b"big".to_vec(), object, executable: false });
    }
    let made = world.make(&attempt);
    let ends: Vec<bool> = made.iter().map(|(report, _)| report.record.outcome.is_ok()).collect();
    let is_link = !made[1].0.damaged_inputs.is_empty();
    assert_eq!(ends, [true, !is_link, true]);
    assert!(made[0].0.damaged_inputs.is_empty() && made[2].0.damaged_inputs.is_empty());
    assert_eq!(fs::read(world.store.path(&a)).unwrap(), large(b'a'));
    // The same with copies damages nothing.
    world.copies_input = true;
    let mut attempt = world.batch(&script, &[("1", ""), ("2", "")]);
    for item in &mut attempt.items {
        item.input =
            Input::One(NamedObject { name: b"big".to_vec(), object: a, executable: false });
    }
    let made = world.make(&attempt);
    assert!(made.iter().all(|(report, _)| report.record.outcome.is_ok()));
    assert_eq!(fs::read(world.store.path(&a)).unwrap(), large(b'a'));
}

#[test]
fn an_executable_input_of_a_batch_can_be_run() {
    let mut world = World::new();
    let mut attempt =
        world.batch(&for_each("input/* >output/said"), &[("a", "#!/bin/sh\necho $0 | tail -c8\n")]);
    if let Input::One(input) = &mut attempt.items[0].input {
        input.executable = true;
    }
    let made = world.make(&attempt);
    assert_eq!(made[0].0.record.outcome, Outcome::Succeeded, "{}", world.log(&made[0].0));
}

#[test]
fn several_steps_with_a_script_for_one_are_refused() {
    let mut world = World::new();
    let mut attempt = world.batch("true", &[("a", ""), ("b", "")]);
    Arc::make_mut(&mut attempt.script).batch = false;
    let World { scratch, store, supervisor, .. } = &mut world;
    assert!(execute(scratch, store, supervisor, None, &attempt, &mut |_| {}).is_err());
}
