//! The record in a folder of exports: which export wrote which file, with its hash. Unaware of what is in the folder.
//!
//! It is a list of items, each ended by NUL, since names may contain everything else:
//!
//! ```text
//! task-pipeline export 2
//! unfinished                     while an export is at work; what it is about to write is noted before
//! by TASK DB                     whose files follow; DB is the path of the database from this folder on
//! task ID                        the task's id there, which it keeps when it is renamed
//! HASH x SIZE MTIME:CTIME NAME   x or -, the executable bit; times in nanoseconds (of older builds no CTIME)
//! HASH - ? ? NAME                about to be written
//! by                             whose files follow that an older build wrote
//! ```
//!
//! The database is named by its path, so that one that was made anew is the same, and results may be moved together
//! with it.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::Stat;

use crate::attempt::NamedObject;
use crate::error::Result;
use crate::ids::TaskId;
use crate::object::ObjectHash;

const HEAD: &[u8] = b"task-pipeline export 2";
/// By older builds: the files of the last export only, whichever task it was of.
const OLDER_HEAD: &[u8] = b"task-pipeline export 1";

/// Whose results they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Exporter {
    pub(super) task: String,
    /// The path of the database from the folder on.
    pub(super) db: Vec<u8>,
}

/// What tells without reading it that a file is as it was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    size: u64,
    mtime_ns: i128,
    /// Whoever keeps the times of a file (`cp -p`, `rsync -t`) can't keep this one.
    ctime_ns: i128,
}

impl Seen {
    pub(super) fn of(found: &Metadata) -> Seen {
        let ns = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let mtime_ns = ns(found.mtime(), found.mtime_nsec());
        Seen { size: found.len(), mtime_ns, ctime_ns: ns(found.ctime(), found.ctime_nsec()) }
    }

    pub(super) fn of_stat(found: &Stat) -> Seen {
        let mtime_ns = i128::from(found.st_mtime) * 1_000_000_000 + i128::from(found.st_mtime_nsec);
        let ctime_ns = i128::from(found.st_ctime) * 1_000_000_000 + i128::from(found.st_ctime_nsec);
        Seen { size: found.st_size as u64, mtime_ns, ctime_ns }
    }
}

/// A file that an export wrote, or was about to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) object: ObjectHash,
    pub(super) executable: bool,
    /// `None`: about to be written.
    pub(super) seen: Option<Seen>,
}

impl Claim {
    /// On what is about to be written.
    pub(super) fn planned(output: &NamedObject) -> Claim {
        Claim { object: output.object, executable: output.executable, seen: None }
    }
}

/// By name. Several of one name if an export was killed: it had, or had not yet, replaced the file.
pub(super) type Claims = BTreeMap<Vec<u8>, Vec<Claim>>;

/// A whole record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// `None`: by an older build, which did not note the task.
    pub(super) claims: BTreeMap<Option<Exporter>, Claims>,
    /// The ids of their tasks, as far as they are noted.
    pub(super) ids: BTreeMap<Exporter, TaskId>,
    /// An export is at work, or was killed.
    pub(super) is_unfinished: bool,
}

impl Record {
    /// `None` if the bytes are no record that this build understands. An item that can't be read is left out: then
    /// the file counts as one that no export wrote.
    pub(super) fn parse(bytes: &[u8]) -> Option<Record> {
        let mut record = Record::default();
        let mut exporter = None;
        let mut items = bytes.split(|&byte| byte == 0);
        match items.next()? {
            HEAD => {}
            // Where one was killed is in no record of theirs.
            OLDER_HEAD => record.is_unfinished = true,
            _ => return None,
        }
        for item in items {
            if item == b"unfinished" {
                record.is_unfinished = true;
            } else if item == b"by" {
                exporter = None;
            } else if let Some(named) = item.strip_prefix(b"by ") {
                let space = named.iter().position(|&byte| byte == b' ')?;
                let task = String::from_utf8(named[..space].to_vec()).ok()?;
                exporter = Some(Exporter { task, db: named[space + 1..].to_vec() });
            } else if let (Some(id), Some(exporter)) = (parse_id(item), &exporter) {
                record.ids.insert(exporter.clone(), id);
            } else if let Some((name, claim)) = parse_claim(item) {
                let claims = record.claims.entry(exporter.clone()).or_default();
                claims.entry(name).or_default().push(claim);
            }
        }
        Some(record)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = HEAD.to_vec();
        bytes.push(0);
        if self.is_unfinished {
            bytes.extend_from_slice(b"unfinished\0");
        }
        for (exporter, claims) in &self.claims {
            bytes.extend_from_slice(b"by");
            if let Some(Exporter { task, db }) = exporter {
                bytes.extend_from_slice(format!(" {task} ").as_bytes());
                bytes.extend_from_slice(db);
            }
            bytes.push(0);
            if let Some(id) = exporter.as_ref().and_then(|exporter| self.ids.get(exporter)) {
                bytes.extend_from_slice(format!("task {id}\0").as_bytes());
            }
            for (name, claim) in claims
                .iter()
                .flat_map(|(name, claims)| claims.iter().map(move |claim| (name, claim)))
            {
                write_claim(&mut bytes, name, claim);
            }
        }
        bytes
    }

    /// Gives exporters of a database the names that their tasks have now.
    ///
    /// # Errors
    /// Those of `name_now`, which is told the task's name and id, and what it claims.
    pub(super) fn rename(
        &mut self,
        db: &[u8],
        name_now: &dyn Fn(String, TaskId, &Claims) -> Result<String>,
    ) -> Result<()> {
        let mut renamed = Record { is_unfinished: self.is_unfinished, ..Record::default() };
        for (exporter, claims) in std::mem::take(&mut self.claims) {
            let id = exporter.as_ref().and_then(|exporter| self.ids.get(exporter)).copied();
            let exporter = match (exporter, id) {
                (Some(Exporter { task, db: its }), Some(id)) if its == db => {
                    Some(Exporter { task: name_now(task, id, &claims)?, db: its })
                }
                (other, _) => other,
            };
            if let (Some(exporter), Some(id)) = (&exporter, id) {
                renamed.ids.insert(exporter.clone(), id);
            }
            let all = renamed.claims.entry(exporter).or_default();
            for (name, claims) in claims {
                all.entry(name).or_default().extend(claims);
            }
        }
        *self = renamed;
        Ok(())
    }

    /// Nobody claims a name any more.
    pub(super) fn disclaim(&mut self, name: &[u8]) {
        for claims in self.claims.values_mut() {
            claims.remove(name);
        }
        self.claims.retain(|_, claims| !claims.is_empty());
    }

    /// What all others but this exporter claim under a name.
    pub(super) fn of_others<'r>(
        &'r self,
        exporter: &'r Exporter,
        name: &'r [u8],
    ) -> impl Iterator<Item = (&'r Exporter, &'r Claim)> {
        self.claims.iter().flat_map(move |(other, claims)| {
            let other = other.as_ref().filter(|other| *other != exporter);
            let claims = other.and_then(|other| Some((other, claims.get(name)?)));
            claims
                .into_iter()
                .flat_map(|(other, claims)| claims.iter().map(move |claim| (other, claim)))
        })
    }
}

fn write_claim(bytes: &mut Vec<u8>, name: &[u8], claim: &Claim) {
    let mode = if claim.executable { 'x' } else { '-' };
    let seen = match claim.seen {
        Some(Seen { size, mtime_ns, ctime_ns }) => format!("{size} {mtime_ns}:{ctime_ns}"),
        None => "? ?".to_owned(),
    };
    bytes.extend_from_slice(format!("{} {mode} {seen} ", claim.object).as_bytes());
    bytes.extend_from_slice(name);
    bytes.push(0);
}

fn parse_id(item: &[u8]) -> Option<TaskId> {
    std::str::from_utf8(item.strip_prefix(b"task ")?).ok()?.parse().ok().map(TaskId)
}

fn parse_claim(item: &[u8]) -> Option<(Vec<u8>, Claim)> {
    let mut words = item.splitn(5, |&byte| byte == b' ');
    let mut word = || words.next().and_then(|word| std::str::from_utf8(word).ok());
    let object = ObjectHash::parse(word()?).ok()?;
    let executable = word()? == "x";
    let seen = match (word()?, word()?) {
        ("?", "?") => None,
        (size, times) => {
            let (mtime, ctime) = times.split_once(':').unwrap_or((times, "0"));
            let (mtime_ns, ctime_ns) = (mtime.parse().ok()?, ctime.parse().ok()?);
            Some(Seen { size: size.parse().ok()?, mtime_ns, ctime_ns })
        }
    };
    let name = words.next()?.to_vec();
    // Nobody but us writes it, but anybody may: no name leads out of the folder.
    let is_part = |part: &[u8]| !part.is_empty() && part != b"." && part != b"..";
    name.split(|&byte| byte == b'/')
        .all(is_part)
        .then_some((name, Claim { object, executable, seen }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        let claim = |bytes: &[u8], executable, seen| Claim {
            object: ObjectHash::of(bytes),
            executable,
            seen,
        };
        let seen = Some(Seen { size: 3, mtime_ns: -5, ctime_ns: 7 });
        let odd: &[u8] = b"d/ a\n\xff";
        let a = Exporter { task: "a".to_owned(), db: b"../ my db".to_vec() };
        let record = Record {
            claims: [
                (None, Claims::from([(b"old".to_vec(), vec![claim(b"1", false, seen)])])),
                (
                    Some(a.clone()),
                    Claims::from([(
                        odd.to_vec(),
                        vec![claim(b"1", false, seen), claim(b"2", true, None)],
                    )]),
                ),
            ]
            .into(),
            ids: [(a.clone(), TaskId(7))].into(),
            is_unfinished: true,
        };
        assert_eq!(Record::parse(&record.to_bytes()), Some(record.clone()));
        assert_eq!(record.of_others(&a, odd).count(), 0);
        let b = Exporter { task: "b".to_owned(), ..a };
        assert_eq!(record.of_others(&b, odd).count(), 2);
    }

    #[test]
    fn a_record_of_an_older_build_is_understood() {
        let hash = ObjectHash::of(b"1\n");
        let bytes = format!("task-pipeline export 1\0{hash} x 2 1700000000123456789 d/x\0");
        let record = Record::parse(bytes.as_bytes()).unwrap();
        let claim = Claim {
            object: hash,
            executable: true,
            seen: Some(Seen { size: 2, mtime_ns: 1_700_000_000_123_456_789, ctime_ns: 0 }),
        };
        assert_eq!(record.claims[&None], Claims::from([(b"d/x".to_vec(), vec![claim])]));
        assert_eq!(Record::parse(b"task-pipeline export 3\0"), None);
    }

    #[test]
    fn no_name_in_a_record_leads_out_of_the_folder() {
        let hash = ObjectHash::of(b"1\n");
        for name in ["../x", "/etc/passwd", "a//b", "a/../../x", "."] {
            let bytes = format!("task-pipeline export 1\0{hash} - 2 3 {name}\0");
            assert_eq!(Record::parse(bytes.as_bytes()).unwrap().claims.len(), 0, "{name}");
        }
    }
}
