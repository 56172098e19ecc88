//! What the benches share: folders that nobody removes, criterion's settings, a run without processes.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use criterion::Criterion;
use task_pipeline::attempt::{Outcome, Usage};
use task_pipeline::db::Durability;
use task_pipeline::error::{Error, Result};
use task_pipeline::object::ObjectHash;
use task_pipeline::progress::Silent;
use task_pipeline::proof::Proof;
use task_pipeline::run::{self, RunOptions};
use task_pipeline::step::{Attempt, Input, PlacedOutput, Report, Scratch, Supervisor};
use task_pipeline::store::Store;

/// Few samples, because every one writes files: more of them measure the disk's patience.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

/// A new folder. It stays: on ext4 removing thousands of files slows the making of new ones for minutes.
/// All of them are below `target/tmp`, to be removed when no measurement is due.
pub(crate) fn folder() -> PathBuf {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let root = ROOT.get_or_init(|| {
        let below = Path::new(env!("CARGO_TARGET_TMPDIR"));
        std::fs::create_dir_all(below).unwrap();
        tempfile::Builder::new().prefix("bench-").tempdir_in(below).unwrap().keep()
    });
    let folder = root.join(NEXT.fetch_add(1, Ordering::Relaxed).to_string());
    std::fs::create_dir(&folder).unwrap();
    folder
}

/// What was written before is on the disk, and no part of what is measured next.
pub(crate) fn settle() {
    rustix::fs::sync();
}

/// A database in which no object is committed.
pub(crate) struct NoRows;

impl Proof for NoRows {
    fn committed_size(&self, _: &ObjectHash) -> Result<Option<u64>> {
        Ok(None)
    }
}

/// A run on `folder/db` of `folder/pipeline.toml`, whose attempts take no time.
pub(crate) fn options(folder: &Path, durability: Durability) -> RunOptions {
    RunOptions {
        manifest: folder.join("pipeline.toml"),
        db: folder.join("db"),
        jobs: NonZeroUsize::new(2).unwrap(),
        jobserver: None,
        no_jobserver: None,
        keep_going: false,
        always: false,
        only: Vec::new(),
        inputs: Vec::new(),
        no_inputs: false,
        wait: false,
        durability,
        verbose: false,
        min_free: 0,
        allow_network_fs: true,
        execute: instant,
    }
}

/// Runs it, and insists that nothing failed.
pub(crate) fn run(options: &RunOptions) -> task_pipeline::progress::Summary {
    let summary = run::run(options, &mut Silent).unwrap();
    assert_eq!(summary.failed, 0);
    summary
}

/// An attempt without a process. The task's `env` says what it leaves: SAME=n, n outputs whose bytes all
/// steps have, and names of their own; OWN=n, n outputs that no other step has.
pub(crate) fn instant(
    _: &mut Scratch,
    store: &Store,
    _: &Supervisor,
    attempt: &Attempt,
    on_exit: &mut dyn FnMut(&Outcome),
) -> Result<Report> {
    on_exit(&Outcome::Succeeded);
    let mut outputs = Vec::new();
    for n in 0..number(attempt, "SAME")? {
        let object = store.put(b"the same\n")?;
        let name = named(attempt, &format!(".same{n}"));
        outputs.push(PlacedOutput { name, object, executable: false });
    }
    for n in 0..number(attempt, "OWN")? {
        let bytes = format!("{:?} {n}\n", variable(attempt, "STEP_ID"));
        let object = store.put(bytes.as_bytes())?;
        let name = named(attempt, &format!(".own{n}"));
        outputs.push(PlacedOutput { name, object, executable: false });
    }
    outputs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Report {
        outcome: Outcome::Succeeded,
        started_ms: 0,
        usage: Usage::default(),
        outputs,
        log: None,
        warnings: Vec::new(),
        damaged_inputs: Vec::new(),
        full_disk: None,
    })
}

/// The input's name with something behind it.
fn named(attempt: &Attempt, end: &str) -> Vec<u8> {
    match &attempt.input {
        Input::One(input) => [&input.name, end.as_bytes()].concat(),
        Input::Many(_) => end.into(),
    }
}

fn variable<'a>(attempt: &'a Attempt, name: &str) -> Option<&'a OsStr> {
    attempt.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
}

fn number(attempt: &Attempt, name: &str) -> Result<usize> {
    let Some(value) = variable(attempt, name) else { return Ok(0) };
    value
        .to_str()
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Error::Usage(format!("{name} is no number")))
}
