//! The time of day. Durations are measured by `Instant`, which no one can set back.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970; 0 on a clock that is set before that.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The moment that a file which is changed now gets as its time stamp: the kernel's clock for that goes in ticks.
/// Nanoseconds since 1970.
pub fn stamp_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

/// True if a file that was last changed at `ctime_ns` may have been changed after `stamp_ns` said `since_ns`.
pub fn may_be_since(ctime_ns: i64, since_ns: i64) -> bool {
    since_ns.saturating_sub(ctime_ns) <= granularity_ns(ctime_ns)
}

/// True if a file that was last changed at `ctime_ns` could change once more after `now_ns` and get the same time
/// stamp: then its inode can't tell whether it is still what was read from `now_ns` on, and it is hashed again next
/// time.
///
/// The time stamp itself says how far apart two of them have to be. One with a fraction of a second comes from the
/// kernel's clock, which ticks 100 times a second or more. One without is taken as whole seconds (ext4 with inodes of
/// 128 bytes, ext3, HFS+, some NFS servers), and with even seconds as a multiple of two (FAT).
pub fn is_racy(ctime_ns: i64, now_ns: i64) -> bool {
    /// Five ticks of the slowest clock that a kernel is built with.
    const TICK: i64 = 50_000_000;
    now_ns.saturating_sub(ctime_ns) < granularity_ns(ctime_ns) + TICK
}

/// How far apart the time stamps of a file system are, as far as one of them tells.
fn granularity_ns(ctime_ns: i64) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    match () {
        () if ctime_ns % SECOND != 0 => 0,
        () if ctime_ns % (2 * SECOND) != 0 => SECOND,
        () => 2 * SECOND,
    }
}

/// Nanoseconds since 1970, of the same clock as [`now_ms`].
pub fn now_ns() -> i64 {
    now_ms().saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_stamp_is_trusted_once_it_is_older_than_the_file_system_can_tell_apart() {
        const MS: i64 = 1_000_000;
        const S: i64 = 1000 * MS;
        // (time stamp, how long it can't be told from a later one)
        for (ctime, coarse) in [(7 * S + 1, 0), (7 * S, S), (8 * S, 2 * S), (8 * S + 500 * MS, 0)] {
            assert!(is_racy(ctime, ctime + coarse), "{ctime}");
            assert!(is_racy(ctime, ctime + coarse + 49 * MS), "{ctime}");
            assert!(!is_racy(ctime, ctime + coarse + 50 * MS), "{ctime}");
            // Clocks of servers go wrong.
            assert!(is_racy(ctime, ctime - 10 * S), "{ctime}");
        }
    }

    #[test]
    fn a_file_may_have_been_changed_since_a_moment_unless_its_stamp_is_older() {
        const S: i64 = 1_000_000_000;
        for (ctime, coarse) in [(7 * S + 1, 0), (7 * S, S), (8 * S, 2 * S)] {
            assert!(may_be_since(ctime, ctime - 1));
            assert!(may_be_since(ctime, ctime + coarse));
            assert!(!may_be_since(ctime, ctime + coarse + 1));
        }
    }

    #[test]
    fn a_file_that_is_changed_now_is_stamped_no_earlier() {
        let before = stamp_ns();
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = rustix::fs::fstat(&file).unwrap();
        assert!(found.st_ctime * 1_000_000_000 + found.st_ctime_nsec as i64 >= before);
        assert!(now_ns() >= before / 1_000_000 * 1_000_000);
    }
}
