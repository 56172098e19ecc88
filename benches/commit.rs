//! How many completions a second the database takes, by the size of the group that shares a transaction.
//! Each has an output and bears a step of the next task, as in a map followed by another one. In `batch`
//! the outputs are real objects, and the barrier before the COMMIT is timed with it.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use task_pipeline::attempt::{AttemptRecord, Outcome, Output, PeakOf, Usage, Verdict};
use task_pipeline::db::{
    self, Applied, Before, Completion, Db, Durability, Flow, FlowTask, Forced, InputRow, Inputs,
    Registration, RunRow, Stat,
};
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
    /// Input files so far: a step of the first task each.
    supplied: i64,
    run: RunId,
}

impl Bench {
    fn new(durability: Durability) -> Bench {
        let folder = common::folder();
        let db = Db::open(&folder, durability).unwrap();
        let store = Store::open(&folder, Arc::new(common::NoRows)).unwrap();
        Bench { db, store, flow: flow(), durability, run: RunId(0), supply: 1..1, supplied: 0 }
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

    /// A run that finds more input files. Its steps have numbers of their own: those of the second task that
    /// are there already have lower ones.
    fn resupply(&mut self) {
        let (db, flow, new) = (&self.db, &self.flow, self.supplied..self.supplied + SUPPLY);
        let registrations = [registration("first", 1), registration("second", 2)];
        let rows = db.read(|reader| db::task_rows(reader, &registrations)).unwrap();
        let before = rows.iter().map(|row| row.known.as_ref().and_then(|known| known.wiring));
        let before: Vec<Before> = before.map(|wiring| Before { wiring }).collect();
        db.read(|reader| {
            Inputs::begin(reader)?;
            for n in new.clone() {
                let name = format!("f{n}").into_bytes();
                let object = ObjectHash::of(&n.to_le_bytes());
                let row = InputRow { name: name.clone(), stat: STAT, object };
                Inputs::found(reader, flow.tasks[0].id, &name, &row)?;
            }
            db::plan(reader, flow, &before, &[false; 2], &[])
        })
        .unwrap();
        let applied = Applied {
            registrations: &registrations,
            rows: &rows,
            scans: &[None, None],
            unread: &[],
            run: &RunRow {
                started_ms: 0,
                boot: String::new(),
                pid: 0,
                durability: self.durability.as_str(),
                manifest: Vec::new(),
                dir: Vec::new(),
                always: false,
                title: None,
            },
        };
        self.run = db.write(|writer| db::apply(writer, flow, &applied)).unwrap();
        let after = StepId(self.supply.end - 1);
        let leaves = db.read(|reader| db::leaves(reader, &flow.tasks[0], after, SUPPLY as usize));
        let leaves = leaves.unwrap();
        let (first, last) = (leaves[0].step.0, leaves[leaves.len() - 1].step.0);
        assert_eq!((leaves.len() as i64, last - first + 1), (SUPPLY, SUPPLY));
        self.supplied = new.end;
        self.supply = first..last + 1;
    }

    /// What the committer does with a group: barrier, COMMIT.
    fn commit(&self, completions: &[Completion], placed: &[Placed]) -> Duration {
        let start = Instant::now();
        if !placed.is_empty() {
            self.store.sync(&placed.iter().collect::<Vec<_>>()).unwrap();
        }
        let effects =
            self.db.write(|writer| db::commit(writer, &self.flow, self.run, completions)).unwrap();
        let took = start.elapsed();
        assert_eq!(effects.pending, [(TaskIndex(1), completions.len() as u64)]);
        took
    }
}

const STAT: Stat = Stat { size: 8, mtime_ns: 0, ctime_ns: 0, inode: 0, executable: false };

fn registration(name: &str, recipe: u8) -> Registration {
    Registration {
        resources: None,
        name: name.to_owned(),
        script: String::new(),
        gather: false,
        recipe_hash: ObjectHash::of(&[recipe]),
        recipe_json: "{}".to_owned(),
        cache: true,
        feeds: "{}".to_owned(),
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
                peak_of: PeakOf::Process,
                wall: Duration::from_micros(1000),
                user: Duration::from_micros(400),
                system: Duration::from_micros(400),
                peak_memory: 2000,
            },
            worker: Some(1),
            on: None,
            batch: None,
            start: Default::default(),
            log: None,
        },
        verdict: Verdict::Done,
        outputs: vec![Output { name: format!("f{step}").into(), object, size, executable: false }],
        dependencies: Vec::new(),
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
        with: Vec::new(),
        users: Vec::new(),
        sides: Arc::default(),
        accepts: None,
        gather: false,
        row_name: None,
        gather_empty: false,
        wanted: Vec::new(),
        has_depfile: false,
        cache: true,
        forced: Forced::default(),
        only: None,
        labeller: None,
        variants: 1,
        gather_keys: Vec::new(),
        wiring: ObjectHash::EMPTY,
    };
    let tasks = vec![task(1, &[], &[1]), task(2, &[0], &[])];
    Flow { tasks, order: vec![TaskIndex(0), TaskIndex(1)], has_groups: false }
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
