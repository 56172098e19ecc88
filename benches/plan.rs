//! What it costs to find out what is to be done, by the number of steps: the whole way from opening the
//! manifest, as a user waits for it. PLAN_STEPS=10000,100000 chooses other sizes.
//!
//! `fan`: one input file, whose step leaves an output for each of the other steps.
//! `files`: an input file for each tenth step, which leaves outputs for nine others.

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use task_pipeline::db::Durability;
use task_pipeline::progress::Silent;
use task_pipeline::run::{self, RunOptions};

fn sizes() -> Vec<usize> {
    let words = std::env::var("PLAN_STEPS").unwrap_or_else(|_| "10000,100000".to_owned());
    words
        .split(',')
        .map(|word| word.trim().parse().expect("PLAN_STEPS is a list of numbers"))
        .collect()
}

/// A pipeline that is complete.
struct Pipeline {
    folder: PathBuf,
    options: RunOptions,
    /// Changes so far, each unlike those before.
    changes: usize,
}

impl Pipeline {
    /// From files below `in`, each with `outputs` outputs for the task `each`.
    fn of_files(files: usize, outputs: usize) -> Pipeline {
        let folder = common::folder();
        std::fs::create_dir(folder.join("in")).unwrap();
        for n in 0..files {
            std::fs::write(folder.join(format!("in/f{n}")), format!("{n}\n")).unwrap();
        }
        // A file hashed within moments of its making is hashed again, as it may have changed since.
        std::thread::sleep(Duration::from_millis(100));
        let options = common::options(&folder, Durability::Off);
        let pipeline = Pipeline { folder, options, changes: 0 };
        pipeline.write_manifest(outputs, ":");
        pipeline
    }

    fn write_manifest(&self, outputs: usize, script: &str) {
        let text = format!(
            "[[task]]\nname = 'first'\nscript = ':'\ninputs = ['in/*']\nenv = {{ SAME = '{outputs}' }}\n\
             [[task]]\nname = 'each'\nscript = '{script}'\nenv = {{ SAME = '1' }}\n"
        );
        std::fs::write(self.folder.join("pipeline.toml"), text).unwrap();
    }

    /// Brings it up to date.
    fn complete(self, steps: u64) -> Pipeline {
        let summary = common::run(&self.options);
        assert_eq!((summary.done, summary.complete), (steps, true));
        common::settle();
        self
    }

    fn nothing_to_do(&self, steps: u64) -> Duration {
        let start = Instant::now();
        let summary = common::run(&self.options);
        let took = start.elapsed();
        assert_eq!((summary.done, summary.reused), (0, steps));
        took
    }

    /// A plan that is made and dropped, so that the next one meets the same.
    fn plan(&self, to_run: u64) -> Duration {
        let start = Instant::now();
        let plan = run::dry_run(&self.options, &mut Silent).unwrap();
        let took = start.elapsed();
        assert_eq!(plan.to_run(), to_run);
        took
    }

    fn change_input(&mut self) {
        self.changes += 1;
        let text = format!("changed {} times\n", self.changes);
        std::fs::write(self.folder.join("in/f0"), text).unwrap();
    }
}

fn measure(
    criterion: &mut Criterion,
    name: &str,
    steps: usize,
    mut once: impl FnMut() -> Duration,
) {
    let mut benches = criterion.benchmark_group("plan");
    benches.sampling_mode(SamplingMode::Flat);
    benches.bench_function(BenchmarkId::new(name, steps), |timer| {
        timer.iter_custom(|iterations| (0..iterations).map(|_| once()).sum());
    });
    benches.finish();
}

fn plans(criterion: &mut Criterion) {
    for steps in sizes() {
        let all = steps as u64;
        // Setting up takes longer than measuring, so it waits for a bench that the filter lets through.
        let mut fan = None;
        let make = || Pipeline::of_files(1, steps - 1).complete(all);
        measure(criterion, "fan, nothing to do", steps, || {
            fan.get_or_insert_with(make).nothing_to_do(all)
        });
        measure(criterion, "fan, script changed", steps, || {
            let pipeline = fan.get_or_insert_with(make);
            pipeline.write_manifest(steps - 1, "another");
            pipeline.plan(all - 1)
        });
        let mut files = None;
        let make = || Pipeline::of_files(steps / 10, 9).complete(all);
        measure(criterion, "files, nothing to do", steps, || {
            files.get_or_insert_with(make).nothing_to_do(all)
        });
        measure(criterion, "files, input changed", steps, || {
            let pipeline = files.get_or_insert_with(make);
            pipeline.change_input();
            pipeline.plan(1)
        });
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = plans }
criterion_main!(benches);
