//! Whatever kills a run, the same command goes on where it was.
//!
//! A run is killed at a random moment, then the same command is given again (and maybe killed again),
//! until it comes to its end. No step that was committed at a kill may run after it, and the end must
//! be that of a run that nothing disturbed. TASK_PIPELINE_KILLS sets the number of kills.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Dice, Project, Ran};

/// Each script notes its task and its STEP_KEY before it does anything.
const MANIFEST: &str = r#"
[[task]]
name = "split"
inputs = ["in/*"]
script = '''echo "$TASK_NAME $STEP_KEY" >>ledger; for n in 1 2 3 4; do echo "$INPUT_NAME $n" >"$OUTPUT_DIR/$INPUT_NAME-$n"; done'''
[[task]]
name = "upper"
script = '''echo "$TASK_NAME $STEP_KEY" >>ledger; echo "a log"; tr a-z A-Z <"$INPUT_FILE" >"$OUTPUT_DIR/$INPUT_NAME"'''
[[task]]
name = "last"
script = '''echo "$TASK_NAME $STEP_KEY" >>ledger; read -r a n <"$INPUT_FILE"; echo "$n" >"$OUTPUT_DIR/last"'''
[[task]]
name = "flaky"
from = ["upper"]
match = ["*-2"]
retries = 1
script = '''echo "$TASK_NAME $STEP_KEY" >>ledger; [ $((ATTEMPT % 2)) = 0 ]; cp "$INPUT_FILE" "$OUTPUT_DIR"'''
[[task]]
name = "all"
from = ["upper", "last"]
gather = true
script = '''echo "$TASK_NAME $STEP_KEY" >>ledger; cd "$INPUT_DIR"; cat */* >"$OUTPUT_DIR/all"'''
[[task]]
name = "end"
script = '''echo "$TASK_NAME $STEP_KEY" >>ledger; wc -l <"$INPUT_FILE" >"$OUTPUT_DIR/end"'''
"#;

fn project() -> Project {
    let p = Project::new().manifest(MANIFEST);
    for name in ["one", "two", "three"] {
        p.file(format!("in/{name}"), name);
    }
    p
}

type Exports = Vec<BTreeMap<String, String>>;

fn exports(p: &Project) -> Exports {
    ["split", "upper", "last", "flaky", "all", "end"].map(|task| p.exported(task)).into()
}

/// The steps that are done according to the database, as the ledger names them.
fn committed(p: &Project) -> Vec<String> {
    let is_made = "SELECT count(*) FROM sqlite_schema WHERE name = 'meta'";
    // Killed while the file was turned into a WAL database: whoever writes next rolls that back.
    let is_half_made = p.path("db/db-journal").exists();
    if !p.path("db/db").exists() || is_half_made || p.sql(is_made) != ["1"] {
        return Vec::new();
    }
    let rows =
        p.sql("SELECT t.name, s.key FROM step s JOIN task t ON t.id = s.task WHERE s.state = 1");
    rows.iter()
        .map(|row| {
            let (task, key) = row.split_once('|').unwrap();
            format!("{task} {:016x}", key.parse::<i64>().unwrap())
        })
        .collect()
}

/// The ledger from a line on, with as much of the key as the database's column has.
fn ran_since(p: &Project, line: usize) -> Vec<String> {
    let short = |line: &String| {
        let (task, key) = line.split_once(' ').unwrap();
        format!("{task} {}", key.get(..16).unwrap_or(key))
    };
    p.ledger()[line..].iter().map(short).collect()
}

/// Runs until a moment, or to the end; tells whether it was killed.
fn run_for(p: &Project, args: &[&str], time: Duration) -> (Ran, bool) {
    let running = p.run_cmd(args).start();
    std::thread::sleep(time);
    running.signal(Signal::KILL);
    let ran = running.end();
    let was_killed = ran.was_killed();
    (ran, was_killed)
}

fn survive_kills(kills: u64, args: &[&str], seed: u64) {
    let mut dice = Dice::new(seed);
    let undisturbed = project();
    let begun = Instant::now();
    undisturbed.run_with(args).ok();
    let whole = begun.elapsed().as_micros() as u64;
    let expected = exports(&undisturbed);
    let mut killed = 0;
    while killed < kills {
        let p = project();
        let mut proven = Vec::new();
        let mut line = 0;
        for _ in 0..6 {
            let delay = Duration::from_micros(dice.below(whole));
            let (ran, was_killed) = run_for(&p, args, delay);
            check_nothing_ran_again(&ran_since(&p, line), &proven, &ran);
            if !was_killed {
                break;
            }
            killed += 1;
            // Scripts of the killed run may still be noting themselves: they are of no committed step.
            line = p.ledger().len();
            proven = committed(&p);
        }
        let ran = p.run_with(args).ok();
        check_nothing_ran_again(&ran_since(&p, line), &proven, &ran);
        assert_eq!(exports(&p), expected, "{}", ran.stderr);
        crate::store::every_object_hashes_to_its_path(&p);
        assert_eq!(std::fs::read_dir(p.path("db/scratch")).unwrap().count(), 0);
        p.run_with(args).ok().says("nothing to do");
    }
}

fn check_nothing_ran_again(ran: &[String], proven: &[String], last: &Ran) {
    for step in ran {
        assert!(!proven.contains(step), "{step} was committed and ran again\n{}", last.stderr);
    }
}

fn kills(default: u64) -> u64 {
    std::env::var("TASK_PIPELINE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn a_run_that_is_killed_again_and_again_comes_to_the_same_end() {
    survive_kills(kills(30), &[], 20_260_101);
}

#[test]
fn so_does_one_without_durability_and_with_many_jobs() {
    survive_kills(kills(20), &["-j6", "--durability", "off"], 777);
}

#[test]
fn a_run_killed_while_a_later_edit_is_worked_off_comes_to_the_same_end() {
    let mut dice = Dice::new(4711);
    let undisturbed = project();
    undisturbed.run().ok();
    let edit = |p: &Project| {
        p.file("in/two", "two\n").file("in/four", "4").remove("in/one");
        p.manifest(&MANIFEST.replace("tr a-z A-Z", "tr a-y A-Y"))
    };
    edit(&undisturbed);
    let begun = Instant::now();
    undisturbed.run().ok();
    let whole = begun.elapsed().as_micros() as u64;
    let expected = exports(&undisturbed);
    for _ in 0..kills(10).div_ceil(2) {
        let p = project();
        p.run().ok();
        edit(&p);
        let (_, _) = run_for(&p, &[], Duration::from_micros(dice.below(whole)));
        let (line, proven) = (p.ledger().len(), committed(&p));
        let ran = p.run().ok();
        check_nothing_ran_again(&ran_since(&p, line), &proven, &ran);
        assert_eq!(exports(&p), expected);
        crate::store::every_object_hashes_to_its_path(&p);
    }
}
