//! How many completions a second the database takes, by the size of the group that shares a transaction.
//! Each has an output and bears a step of the next task, as in a map followed by another one. In `batch`
//! the outputs are real objects, and the barrier before the COMMIT is timed with it.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use task_pipeline::attempt::{AttemptRecord, Outcome, Output, Usage, Verdict};
use task_pipeline::db::{Completion, Db, Durability, Flow, FlowTask, commit};
use task_pipeline::ids::{RecipeId, RunId, StepId, TaskId, TaskIndex};
use task_pipeline::object::ObjectHash;
use task_pipeline::store::{Placed, Store};

/// Steps made at once, outside the measured part.
const SUPPLY: i64 = 1 << 15;

/// A database with steps to complete.
struct Bench {
    db: Db,
    store: Store,
    flow: Flow,
    durability: Durability,
    /// Numbers of steps that are there to be completed.
    supply: std::ops::Range<i64>,
}

impl Bench {
    fn new(durability: Durability) -> Bench {
        let folder = common::folder();
        let db = Db::open(&folder, durability).unwrap();
        db.lock()
            .execute_batch(
                "INSERT INTO recipe VALUES (1, x'01', '{}'), (2, x'02', '{}');
                 INSERT INTO task(id, name, script, position, recipe, gather)
                 VALUES (1, 'first', '', 0, 1, 0), (2, 'second', '', 1, 2, 0);
                 INSERT INTO run(started_ms, boot, pid, durability, sound, manifest, dir)
                 VALUES (0, '', 0, '', 1, '', '');",
            )
            .unwrap();
        let store = Store::open(&folder, Arc::new(common::NoRows)).unwrap();
        Bench { db, store, flow: flow(), durability, supply: 1..1 }
    }

    /// Completions of `count` steps, and what they placed.
    fn group(&mut self, count: i64) -> (Vec<Completion>, Vec<Placed>) {
        if self.supply.end - self.supply.start < count {
            self.resupply();
        }
        let steps = self.supply.start..self.supply.start + count;
        self.supply.start = steps.end;
        let mut placed = Vec::new();
        let completions = steps.map(|step| {
            let bytes = format!("what step {step} made\n");
            let object = ObjectHash::of(bytes.as_bytes());
            if self.durability == Durability::Batch {
                placed.push(self.store.put(bytes.as_bytes()).unwrap());
            }
            completion(step, object, bytes.len() as u64)
        });
        (completions.collect(), placed)
    }

    /// Steps in numbers of their own: those of the second task get higher ones.
    fn resupply(&mut self) {
        let mut conn = self.db.lock();
        let tx = conn.transaction().unwrap();
        let first: i64 = tx
            .query_row("SELECT coalesce(max(id), 0) + 1 FROM step", [], |row| row.get(0))
            .unwrap();
        for step in first..first + SUPPLY {
            let object = ObjectHash::of(&step.to_le_bytes());
            let mut key = [0; 8];
            key.copy_from_slice(&object.as_bytes()[..8]);
            tx.prepare_cached(
                "INSERT INTO step(id, object, task, recipe, name, key, executable, live, state)
                 VALUES (?1, ?2, 1, 1, 'f' || ?1, ?3, 0, 1, 0)",
            )
            .and_then(|mut s| {
                s.execute((step, object.as_bytes().as_slice(), i64::from_le_bytes(key)))
            })
            .unwrap();
        }
        tx.commit().unwrap();
        self.supply = first..first + SUPPLY;
    }

    /// What the committer does with a group: barrier, COMMIT.
    fn commit(&self, completions: &[Completion], placed: &[Placed]) -> Duration {
        let start = Instant::now();
        if !placed.is_empty() {
            self.store.sync(&placed.iter().collect::<Vec<_>>()).unwrap();
        }
        let effects = commit(&mut self.db.lock(), &self.flow, RunId(1), completions).unwrap();
        let took = start.elapsed();
        assert_eq!(effects.pending, vec![(TaskIndex(1), 1); completions.len()]);
        took
    }
}

fn completion(step: i64, object: ObjectHash, size: u64) -> Completion {
    Completion {
        step: StepId(step),
        task: TaskIndex(0),
        attempt: AttemptRecord {
            number: 1,
            outcome: Outcome::Succeeded,
            started_ms: 1_700_000_000_000,
            usage: Usage {
                wall: Duration::from_micros(1000),
                user: Duration::from_micros(400),
                system: Duration::from_micros(400),
                peak_memory: 2000,
            },
            worker: Some(1),
            log: None,
        },
        verdict: Verdict::Done,
        outputs: vec![Output { name: format!("f{step}").into(), object, size, executable: false }],
        log_size: 0,
    }
}

fn flow() -> Flow {
    let task = |id: usize, from: &[usize], consumers: &[usize]| FlowTask {
        id: TaskId(id as i64),
        name: format!("task {id}"),
        recipe: RecipeId(id as i64),
        recipe_hash: ObjectHash::of(&[id as u8]),
        from: from.iter().copied().map(TaskIndex).collect(),
        consumers: consumers.iter().copied().map(TaskIndex).collect(),
        accepts: None,
        gather: false,
        cache: true,
        forced: false,
        names_unique: true,
        wiring: ObjectHash::EMPTY,
    };
    let tasks = vec![task(1, &[], &[1]), task(2, &[0], &[])];
    Flow { tasks, order: vec![TaskIndex(0), TaskIndex(1)] }
}

fn commits(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("commit");
    for durability in [Durability::Off, Durability::Batch] {
        for size in [1, 8, 64] {
            let mut bench = None;
            benches.throughput(Throughput::Elements(size));
            benches.bench_function(BenchmarkId::new(durability.as_str(), size), |timer| {
                // Made only if the filter lets it through, and then once.
                let bench = bench.get_or_insert_with(|| Bench::new(durability));
                common::settle();
                timer.iter_custom(|iterations| {
                    let mut total = Duration::ZERO;
                    for _ in 0..iterations {
                        let (completions, placed) = bench.group(size as i64);
                        total += bench.commit(&completions, &placed);
                    }
                    total
                });
            });
        }
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = commits }
criterion_main!(benches);
