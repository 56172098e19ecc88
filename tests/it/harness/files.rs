//! Small things that tests share: folders as maps, waiting for a condition, a seeded die.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

/// Waits until `is_so`.
#[track_caller]
pub(crate) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process of this number runs; a zombie doesn't.
pub(crate) fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// Every regular file below a folder: name and content; without the record that `export` keeps.
pub(crate) fn contents(dir: &Path) -> BTreeMap<String, String> {
    let files = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap);
    files
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let name = entry.path().strip_prefix(dir).unwrap().to_string_lossy().into_owned();
            (name, String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned())
        })
        .filter(|(name, _)| name != ".task-pipeline-export")
        .collect()
}

/// The same, written down by a test.
pub(crate) fn files<const N: usize>(files: [(&str, &str); N]) -> BTreeMap<String, String> {
    files.map(|(name, content)| (name.to_owned(), content.to_owned())).into()
}

/// Everything below a folder: path, mode, size, and of a file its hash.
pub(crate) fn tree(dir: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().flatten();
    entries
        .map(|entry| {
            let name = entry.path().strip_prefix(dir).unwrap_or(entry.path()).display().to_string();
            let mode = entry.metadata().map_or(0, |found| found.permissions().mode());
            // Nothing but a regular file is read: a FIFO would hang.
            match entry.file_type().is_file().then(|| fs::read(entry.path()).unwrap_or_default()) {
                Some(bytes) => {
                    format!("{mode:o} {:>8} {} {name}", bytes.len(), &sha256(&bytes)[..12])
                }
                None => format!("{mode:o} {name}/"),
            }
        })
        .collect()
}

pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn sorted(items: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut items: Vec<String> = items.into_iter().collect();
    items.sort();
    items
}

/// Random numbers that come again with their seed (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    /// Seeded by TASK_PIPELINE_SEED, or else by `seed`; says which.
    pub(crate) fn new(seed: u64) -> Dice {
        let given = std::env::var("TASK_PIPELINE_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or(seed);
        eprintln!("TASK_PIPELINE_SEED={seed}");
        Dice(seed.wrapping_mul(2).wrapping_add(1))
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit.max(1)
    }
}
