//! Many steps in one run, and many tasks in one manifest, in little memory.

use crate::harness::Project;

/// Runs `count` steps and one that gathers them, and reads the runner's peak memory from there.
fn steps_in_little_memory(count: usize) {
    let p = Project::new();
    for n in 0..count {
        p.file(format!("in/{n:05}"), format!("{n}\n"));
    }
    p.manifest(
        r#"
[[task]]
name = "each"
inputs = ["in/*"]
script = 'read -r n <"$INPUT_FILE"; echo "$n" >"$OUTPUT_DIR/$INPUT_NAME"'
[[task]]
name = "all"
gather = true
script = 'wc -l <"$INPUT_FILE" >"$OUTPUT_DIR/count"; while read -r key value unit; do case $key in VmHWM:) echo "$value" >"$OUTPUT_DIR/peak";; esac; done <"/proc/$PPID/status"'
cache = false
"#,
    );
    // The sum of the lines would cost a MiB of stderr at this size; the numbers are asked for anyway.
    p.run_with(["-q"]).ok();
    let each = p.sql("SELECT count(*) FROM step WHERE state = 1 AND live = 1");
    assert_eq!(each, [(count + 1).to_string()]);
    let end = p.exported("all");
    assert_eq!(end["count"].trim(), count.to_string());
    let peak_kib: u64 = end["peak"].trim().parse().unwrap();
    assert!(peak_kib < 40 * 1024, "{peak_kib} KiB at the end of {count} steps");
    // Again, with one changed file.
    p.file("in/00007", "changed\n").run_with(["-q"]).ok();
    assert_eq!(p.sql("SELECT count(*) FROM attempt"), [(count + 3).to_string()]);
    let peak_kib: u64 = p.exported("all")["peak"].trim().parse().unwrap();
    assert!(peak_kib < 40 * 1024, "{peak_kib} KiB after {count} steps");
}

#[test]
fn two_thousand_steps_run_in_less_than_40_mib() {
    steps_in_little_memory(2_000);
}

#[test]
fn twenty_thousand_steps_run_in_less_than_40_mib() {
    if std::env::var_os("TASK_PIPELINE_SCALE").is_some() {
        steps_in_little_memory(20_000);
    }
}

/// Peak memory in KiB of `plan`, `run` and again `plan` of a chain of `count` tasks; all but the first
/// have `others` as further keys. Another pipeline starts and measures them: the kernel adds the memory
/// of the process that starts a program to the program's peak, and a test binary may be large.
fn peaks_of_a_chain(count: usize, others: &str) -> Vec<u64> {
    let p = Project::new();
    let task = |n| {
        let keys = if n == 0 { "" } else { others };
        format!("[[task]]\nname = \"t{n}\"\nscript = \":\"\n{keys}\n")
    };
    p.file("chain.toml", (0..count).map(task).collect::<String>());
    let measured = |name: &str, args: &str| {
        let program = env!("CARGO_BIN_EXE_task-pipeline");
        format!(
            "[[task]]\nname = \"{name}\"\nfrom = []\nscript = '''\n\
             exec '{program}' {args} -manifest chain.toml -db chain >/dev/null\n'''\n"
        )
    };
    // One after the other; the second plan has rows to compare with.
    for (name, args) in [("first", "plan"), ("second", "run -q"), ("third", "plan")] {
        p.manifest(&measured(name, args));
        p.run_with(["-q"]).ok();
    }
    let peaks = p.sql("SELECT peak_kib FROM attempt WHERE outcome = 'ok' ORDER BY run");
    assert_eq!(p.sql_in("chain", "SELECT count(*) FROM task"), [count.to_string()]);
    assert_eq!(peaks.len(), 3);
    peaks.iter().map(|peak| peak.parse().unwrap()).collect()
}

/// Compares with a chain of 10 tasks: the base is what the program needs for itself.
fn chains_in_little_memory(count: usize, most_mib: u64) {
    for others in ["", "gather = true"] {
        let few = peaks_of_a_chain(10, others);
        let many = peaks_of_a_chain(count, others);
        for (few, many) in few.iter().zip(&many) {
            let more_kib = many.saturating_sub(*few);
            assert!(more_kib < most_mib * 1024, "{count} tasks, `{others}`: {few:?}, {many:?} KiB");
        }
    }
}

// With a list of everything upstream of each task, 2,000 tasks took 43 MiB more than 10.
#[test]
fn a_chain_of_two_thousand_tasks_takes_less_than_16_mib_more_than_one_of_ten() {
    chains_in_little_memory(2_000, 16);
}

#[test]
fn a_chain_of_ten_thousand_tasks_takes_less_than_40_mib_more_than_one_of_ten() {
    if std::env::var_os("TASK_PIPELINE_SCALE").is_some() {
        chains_in_little_memory(10_000, 40);
    }
}
