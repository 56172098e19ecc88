//! Objects put and got, against the plain writing and reading of files and against their hashing alone:
//! the store can't be faster than the sum of the two. Every put is of new bytes.

mod common;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use task_pipeline::object::ObjectHash;
use task_pipeline::store::Store;

const SIZES: [(&str, usize); 3] = [("1 kB", 1 << 10), ("1 MB", 1 << 20), ("64 MB", 64 << 20)];

/// Files that are read in turn.
const READ: usize = 8;

/// Bytes that were never written before.
fn renew(bytes: &mut [u8]) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    number
}

/// One call to be measured, given bytes of its size.
type Once<'a> = &'a (dyn Fn(&mut [u8]) + Sync);

/// The time in which each of `threads` does something to a buffer of its own `iterations` times.
fn in_threads(threads: usize, size: usize, iterations: u64, once: Once<'_>) -> Duration {
    let barrier = std::sync::Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut bytes = vec![b'x'; size];
                    barrier.wait();
                    (0..iterations).for_each(|_| once(&mut bytes));
                })
            })
            .collect();
        barrier.wait();
        let start = Instant::now();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        start.elapsed()
    })
}

/// Objects, and the same bytes as plain files.
struct Library {
    objects: Vec<ObjectHash>,
    files: Vec<PathBuf>,
}

impl Library {
    fn new(store: &Store, folder: &Path, size: usize) -> Library {
        let mut library = Library { objects: Vec::new(), files: Vec::new() };
        let mut bytes = vec![b'x'; size];
        for _ in 0..READ {
            let number = renew(&mut bytes);
            library.objects.push(store.put(&bytes).unwrap().hash);
            library.files.push(folder.join(format!("read{number}")));
            std::fs::write(library.files.last().unwrap(), &bytes).unwrap();
        }
        library
    }
}

fn stores(criterion: &mut Criterion) {
    for (name, size) in SIZES {
        let (db, folder) = (common::folder(), common::folder());
        let store = Store::open(&db, Arc::new(common::NoRows)).unwrap();
        let library = Library::new(&store, &folder, size);
        let turn = AtomicU64::new(0);
        let next = || turn.fetch_add(1, Ordering::Relaxed) as usize % READ;
        let put = |bytes: &mut [u8]| {
            renew(bytes);
            store.put(bytes).unwrap();
        };
        let write = |bytes: &mut [u8]| {
            let number = renew(bytes);
            std::fs::write(folder.join(number.to_string()), bytes).unwrap();
        };
        let hash = |bytes: &mut [u8]| {
            black_box(ObjectHash::of(bytes));
        };
        let get = |_: &mut [u8]| {
            let object = &library.objects[next()];
            black_box(store.read_small(object, u64::MAX).unwrap().unwrap());
        };
        let read = |_: &mut [u8]| {
            black_box(std::fs::read(&library.files[next()]).unwrap());
        };
        let kinds: [(&str, Once<'_>); 5] = [
            ("put", &put),
            ("fs::write", &write),
            ("sha256", &hash),
            ("get", &get),
            ("fs::read", &read),
        ];
        for threads in [1, 2] {
            let mut benches = criterion.benchmark_group(format!("store, {name}"));
            benches.throughput(Throughput::Bytes((size * threads) as u64));
            if size >= 1 << 20 {
                // Or gigabytes are written.
                benches.measurement_time(Duration::from_millis(400));
            }
            for (kind, once) in kinds {
                benches.bench_function(BenchmarkId::new(kind, threads), |timer| {
                    common::settle();
                    timer.iter_custom(|iterations| in_threads(threads, size, iterations, once));
                });
            }
            benches.finish();
        }
        if size >= 1 << 20 {
            // Large files are few, and removing few files does no harm.
            std::fs::remove_dir_all(db).unwrap();
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
}

criterion_group! { name = benches; config = common::criterion(); targets = stores }
criterion_main!(benches);
