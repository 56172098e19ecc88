//! What a run tells programs: which worker ran what, `--events`, `--trace`.

use crate::harness::Project;

#[test]
fn a_worker_is_one_of_the_scripts_that_may_run_at_once() {
    let p =
        Project::new().task("a", "for n in 1 2 3 4 5 6 7 8 9; do echo $n >$OUTPUT_DIR/$n; done");
    p.task("b", "true").run_with(["-j3"]).ok();
    let workers = p.sql("SELECT DISTINCT worker FROM attempt ORDER BY worker");
    assert!(workers.iter().all(|worker| ["1", "2", "3"].contains(&worker.as_str())), "{workers:?}");
    p.run_with(["-j1", "-B"]).ok();
    assert_eq!(p.sql("SELECT DISTINCT worker FROM attempt WHERE run = 2"), ["1"]);
}
