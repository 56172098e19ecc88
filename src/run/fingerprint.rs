//! One hash over all input files of a task, whatever their order.

use crate::db::Stat;
use crate::object::ObjectHash;

/// Sum of a hash per file: no order, so no sorting; 256 bits, so no accident.
#[derive(Default)]
pub(super) struct Fingerprint([u64; 4], u64);

impl Fingerprint {
    pub(super) fn add(&mut self, path: &[u8], name: &[u8], stat: &Stat) -> Digest {
        let hash = hash_of(path, name, stat);
        for (sum, part) in self.0.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            let mut eight = [0; 8];
            eight.copy_from_slice(part);
            *sum = sum.wrapping_add(u64::from_le_bytes(eight));
        }
        self.1 += 1;
        Digest::from(hash)
    }

    pub(super) fn finish(&self) -> ObjectHash {
        let mut bytes = [0; 40];
        for (eight, sum) in bytes.chunks_exact_mut(8).zip(self.0.iter().chain([&self.1])) {
            eight.copy_from_slice(&sum.to_le_bytes());
        }
        ObjectHash::of(&bytes)
    }
}

/// Half of a hash, of a file's path, name and inode or of its path alone: enough to tell a million of them
/// apart, in 16 bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest(u128);

impl Digest {
    pub(super) fn of(path: &[u8], name: &[u8], stat: &Stat) -> Digest {
        Digest::from(hash_of(path, name, stat))
    }

    pub(super) fn of_path(path: &[u8]) -> Digest {
        Digest::from(ObjectHash::of(path))
    }

    /// The same of a thing that has this content.
    pub(super) fn with(self, content: &ObjectHash) -> Digest {
        Digest(self.0.wrapping_add(Digest::from(*content).0))
    }

    /// With a place in the stead of its last 32 bits, which are not missed.
    pub(super) fn at(self, place: usize) -> Digest {
        Digest(self.0 >> 32 << 32 | place as u128)
    }

    /// Its place, if it is among these, which are sorted and have places.
    pub(super) fn place_in(self, sorted: &[Digest]) -> Option<usize> {
        let found = sorted.get(sorted.partition_point(|known| known.0 >> 32 < self.0 >> 32))?;
        (found.0 >> 32 == self.0 >> 32).then_some((found.0 & 0xffff_ffff) as usize)
    }

    fn from(hash: ObjectHash) -> Digest {
        let mut half = [0; 16];
        half.copy_from_slice(&hash.as_bytes()[..16]);
        Digest(u128::from_le_bytes(half))
    }
}

fn hash_of(path: &[u8], name: &[u8], stat: &Stat) -> ObjectHash {
    let mut bytes = Vec::with_capacity(path.len() + name.len() + 64);
    for part in [path, name] {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    for number in [stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode, i64::from(stat.executable)]
    {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    ObjectHash::of(&bytes)
}
