//! What a step costs besides its script: the real dispatcher, pool and committer, with attempts that take
//! no time. The time per element is the overhead per step, with two workers.

mod common;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use task_pipeline::db::Durability;

/// Steps of a run: enough to hide its beginning and end, which are timed too.
const STEPS: u64 = 5_000;

/// A database with [`STEPS`] pending steps, each of which will leave `own` outputs; `more` is the rest of the manifest.
fn pending(durability: Durability, own: u64, more: &str) -> PathBuf {
    let folder = common::folder();
    let manifest = format!(
        "[[task]]\nname = 'fan'\nscript = ':'\nenv = {{ SAME = '{STEPS}' }}\n\
         [[task]]\nname = 'each'\nscript = ':'\nenv = {{ OWN = '{own}' }}\n{more}"
    );
    std::fs::write(folder.join("pipeline.toml"), manifest).unwrap();
    let mut options = common::options(&folder, durability);
    options.only.push("fan".to_owned());
    common::run(&options);
    folder
}

fn dispatch(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("dispatch");
    benches.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(STEPS));
    let kinds = [
        ("no output", Durability::Off, 0),
        ("one output", Durability::Off, 1),
        ("one output", Durability::Batch, 1),
    ];
    for (outputs, durability, own) in kinds {
        benches.bench_function(BenchmarkId::new(outputs, durability.as_str()), |timer| {
            timer.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let options = common::options(&pending(durability, own, ""), durability);
                    common::settle();
                    let start = Instant::now();
                    let summary = common::run(&options);
                    total += start.elapsed();
                    assert_eq!((summary.done, summary.complete), (STEPS, true));
                }
                total
            });
        });
    }
}

/// What groups cost: all outputs gathered in one step, and in 49 by a label that all steps have. The steps that gather are
/// made and not run, so the time per element is that of a completion.
fn groups(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("dispatch");
    // Names of fewer than three digits have no label.
    let labelled = STEPS - 100;
    benches.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(labelled));
    for (kind, gather, steps) in [("one gather", "true", 1), ("49 groups", "['g']", 49)] {
        let more = format!(
            "match = ['.same{{g}}[0-9][0-9]']\n[[task]]\nname = 'all'\nscript = ':'\ngather = {gather}\n"
        );
        benches.bench_function(BenchmarkId::new(kind, "off"), |timer| {
            timer.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let folder = pending(Durability::Off, 1, &more);
                    let mut options = common::options(&folder, Durability::Off);
                    options.only.push("each".to_owned());
                    common::settle();
                    let start = Instant::now();
                    let summary = common::run(&options);
                    total += start.elapsed();
                    assert_eq!((summary.done, summary.left), (labelled, steps));
                }
                total
            });
        });
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = dispatch, groups }
criterion_main!(benches);
