//! What the benches share: folders that nobody removes, criterion's settings, a run without processes.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use criterion::Criterion;
use task_pipeline::attempt::{Outcome, Output};
use task_pipeline::db::Durability;
use task_pipeline::error::{Error, Result};
use task_pipeline::exec::{Executor, Ground, Ran, Site};
use task_pipeline::object::ObjectHash;
use task_pipeline::progress::Silent;
use task_pipeline::proof::Proof;
use task_pipeline::run::{self, RunOptions};
use task_pipeline::step::{Attempt, Input, Item, Report};
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
        until: Vec::new(),
        redo: Vec::new(),
        inputs: Vec::new(),
        inputs_from: Vec::new(),
        no_inputs: false,
        params: Default::default(),
        wait: false,
        durability,
        launch: Default::default(),
        verbose: false,
        memory: None,
        have: Vec::new(),
        min_free: 0,
        allow_network_fs: true,
        on: None,
    }
}

/// Runs it, and insists that nothing failed.
pub(crate) fn run(options: &RunOptions) -> task_pipeline::progress::Summary {
    let summary =
        run::run_on(options, &|ground| Ok(Box::new(Instant(ground))), &mut Silent).unwrap();
    assert_eq!(summary.failed, 0);
    summary
}

/// A place where attempts take no time and no process.
struct Instant(Ground);

impl Site for Instant {
    fn grow(&self) -> Result<flume::Receiver<Box<dyn Executor>>> {
        let (send, receive) = flume::unbounded();
        for _ in 0..self.0.executors {
            let executor = InstantExecutor(Arc::clone(&self.0.store));
            send.send(Box::new(executor) as Box<dyn Executor>).unwrap();
        }
        Ok(receive)
    }
}

/// The task's `env` says what an attempt leaves: SAME=n, n outputs whose bytes all steps have, and names of
/// their own; OWN=n, n outputs that no other step has.
struct InstantExecutor(Arc<Store>);

impl Executor for InstantExecutor {
    fn run(&mut self, attempt: &Attempt, ended: &mut dyn FnMut(&[Outcome])) -> Result<Ran> {
        ended(&[Outcome::Succeeded]);
        let item = &attempt.items[0];
        let mut report = Report::of(item, Outcome::Succeeded);
        let mut placed = Vec::new();
        let mut leave = |name: Vec<u8>, bytes: &[u8]| -> Result<()> {
            let object = self.0.put(bytes)?;
            let (hash, size) = (object.hash, object.size);
            report.outputs.push(Output { name, object: hash, size, executable: false });
            placed.push(object);
            Ok(())
        };
        for n in 0..number(attempt, "SAME")? {
            leave(named(item, &format!(".same{n}")), b"the same\n")?;
        }
        for n in 0..number(attempt, "OWN")? {
            let bytes = format!("{} {n}\n", item.step);
            leave(named(item, &format!(".own{n}")), bytes.as_bytes())?;
        }
        report.outputs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Ran::Over(vec![(report, placed)]))
    }
}

/// The input's name with something behind it.
fn named(item: &Item, end: &str) -> Vec<u8> {
    match &item.input {
        Input::One(input) => [&input.name, end.as_bytes()].concat(),
        Input::Many { .. } => end.into(),
    }
}

fn variable<'a>(attempt: &'a Attempt, name: &str) -> Option<&'a OsStr> {
    attempt.script.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
}

fn number(attempt: &Attempt, name: &str) -> Result<usize> {
    let Some(value) = variable(attempt, name) else { return Ok(0) };
    value
        .to_str()
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| Error::Usage(format!("{name} is no number")))
}
