//! What of a file's stat no write leaves as it was.

use rustix::fs::Stat;

use crate::sys::clock::may_be_since;

/// Of a file by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    marks: Marks,
}

/// The same without which file it is, for those who keep very many and know that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    size: i64,
    /// Nanoseconds since 1970.
    modified: i64,
    changed: i64,
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Stamp {
        Stamp { inode: stat.st_ino, marks: Marks::of(stat) }
    }
}

impl Marks {
    pub(super) fn of(stat: &Stat) -> Marks {
        let nanoseconds = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000) + rest;
        Marks {
            size: stat.st_size,
            modified: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Bytes.
    pub(super) fn size(&self) -> u64 {
        self.size as u64
    }

    /// Whether the file may have been changed after [`stamp_ns`](crate::sys::clock::stamp_ns) said this, although it
    /// still has this stamp: time stamps go in ticks.
    pub(super) fn may_hide_change_since(&self, since_ns: i64) -> bool {
        may_be_since(self.changed, since_ns)
    }
}
