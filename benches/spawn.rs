//! One step end to end, from its object to its output in the store, against a bare process that is
//! given the same script, folder and redirections and leaves the same file; and the step in a sandbox. `sh`
//! reading and writing by itself, and starting one `tr`.

mod common;

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use task_pipeline::attempt::{NamedObject, Outcome};
use task_pipeline::ids::StepId;
use task_pipeline::labels::Labels;
use task_pipeline::object::ObjectHash;
use task_pipeline::step::{
    Attempt, GRACE, Input, Item, Launch, Sandbox, Scratch, Script, Supervisor, execute, obstacle,
};
use task_pipeline::store::Store;

const SCRIPTS: [(&str, &str); 2] = [
    ("builtin", r#"read -r x < "$INPUT_FILE"; echo "$x $STEP_ID" > "$OUTPUT_DIR/$INPUT_NAME""#),
    ("tr", r#"echo "$STEP_ID" | tr 0-9 a-j > "$OUTPUT_DIR/$INPUT_NAME""#),
];

/// A step's world, made by hand.
struct Bare {
    folder: PathBuf,
    log: File,
}

impl Bare {
    fn new(script: &str) -> Bare {
        let folder = common::folder();
        std::fs::create_dir(folder.join("out")).unwrap();
        std::fs::write(folder.join("script"), script).unwrap();
        std::fs::write(folder.join("input"), "line\n").unwrap();
        let log = File::options().append(true).create(true).open(folder.join("log")).unwrap();
        Bare { folder, log }
    }

    fn run(&self, step: i64) {
        let status = Command::new("sh")
            .args([Path::new("-e"), &self.folder.join("script")])
            .current_dir(&self.folder)
            .env("INPUT_FILE", self.folder.join("input"))
            .env("INPUT_NAME", format!("f{step}"))
            .env("OUTPUT_DIR", self.folder.join("out"))
            .env("STEP_ID", step.to_string())
            .stdin(Stdio::null())
            .stdout(self.log.try_clone().unwrap())
            .stderr(self.log.try_clone().unwrap())
            .process_group(0)
            .status();
        assert!(status.unwrap().success());
    }
}

/// The same by what a worker has.
struct Ours {
    store: Store,
    scratch: Scratch,
    supervisor: Supervisor,
    script: Arc<Script>,
    input: ObjectHash,
}

impl Ours {
    fn new(script: &str, launch: Launch, sandbox: Option<Sandbox>) -> Ours {
        let folder = common::folder();
        let store = Store::open(&folder, Arc::new(common::NoRows)).unwrap();
        let input = store.put(b"line\n").unwrap().hash;
        Ours {
            store,
            scratch: Scratch::create(&folder.join("scratch"), 0, launch).unwrap(),
            supervisor: Supervisor::new(GRACE, Arc::default()).unwrap(),
            script: Arc::new(Script {
                sandbox: sandbox.map(Box::new),
                ..Script::new("task", &["sh", "-e"], script.as_bytes(), folder)
            }),
            input,
        }
    }

    fn run(&mut self, step: i64) {
        let item = Item {
            step: StepId(step),
            number: 1,
            key: self.input,
            input: Input::One(NamedObject {
                name: format!("f{step}").into(),
                object: self.input,
                executable: false,
            }),
            labels: Labels::default(),
        };
        let script = Arc::clone(&self.script);
        let attempt = Attempt { items: vec![item], cpus: 1, side: Vec::new(), script };
        let Ours { store, scratch, supervisor, .. } = self;
        let ran = execute(scratch, store, supervisor, None, &attempt, &mut |_| {});
        let (report, _placed) = ran.unwrap().remove(0);
        assert_eq!((report.record.outcome, report.outputs.len()), (Outcome::Succeeded, 1));
    }
}

/// On a thread of its own, like a worker's: what scripts leave behind is looked for among the children
/// of the first one.
fn on_a_thread(once: &mut (dyn FnMut() + Send), iterations: u64) -> Duration {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let start = Instant::now();
            (0..iterations).for_each(|_| once());
            start.elapsed()
        });
        worker.join().unwrap()
    })
}

fn spawns(criterion: &mut Criterion) {
    let mut benches = criterion.benchmark_group("spawn");
    benches.throughput(Throughput::Elements(1));
    for (name, script) in SCRIPTS {
        // Outputs are numbered through all iterations, so that each makes a new file, as in a run.
        let (bare, mut step) = (Bare::new(script), 0);
        benches.bench_function(BenchmarkId::new("bare", name), |timer| {
            common::settle();
            timer.iter_custom(|iterations| {
                on_a_thread(
                    &mut || {
                        step += 1;
                        bare.run(step);
                    },
                    iterations,
                )
            });
        });
        let sandbox = Sandbox { read: Vec::new(), list: Vec::new(), network: true };
        let kinds = [
            ("ours", Launch::Spawn, None),
            ("forked", Launch::Fork, None),
            ("sandbox", Launch::Spawn, Some(sandbox)),
        ];
        for (kind, launch, sandbox) in kinds {
            if sandbox.is_some() && obstacle(false).is_some() {
                // There is nothing to measure.
                continue;
            }
            let (mut ours, mut step) = (Ours::new(script, launch, sandbox), 0);
            benches.bench_function(BenchmarkId::new(kind, name), |timer| {
                common::settle();
                timer.iter_custom(|iterations| {
                    on_a_thread(
                        &mut || {
                            step += 1;
                            ours.run(step);
                        },
                        iterations,
                    )
                });
            });
        }
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = spawns }
criterion_main!(benches);
