//! Many steps in one run, in little memory.

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
