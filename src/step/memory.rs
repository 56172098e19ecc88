//! How much memory a script takes, all of its processes together. Unaware of how it is started and ended.
//!
//! wait4(2) tells the peak of the largest process, which is all there is to know of a script of one process. Of several
//! the sum counts, so it is taken now and then, seldom enough to cost nothing beside the script: not at all for one
//! that ends within [`FIRST`].
//!
//! Why not by a cgroup of its own for each step, which has the exact peak of them all? Its peak includes the page cache:
//! a `cat` of a file of 300 MiB has one of 300 MiB, and so would any script that reads much; such steps would wait for
//! memory that they don't need. Besides, an ordinary user has none to make, and it costs 290 µs a step (measured, kernel
//! 6.18, cgroup v1), which is half of what starting `sh` does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use crate::attempt::{PeakOf, Start};
use crate::sys::proc;

/// From the start of a script to the first look at it.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause between two looks, unless looking takes long.
const LONGEST: Duration = Duration::from_secs(1);

/// A look takes at most one part in so many of the time.
const SHARE: u32 = 50;

/// Two ways of the kernel to count the same pages differ by so much, in KiB: it counts in batches by processor.
const SLACK: u64 = 1024;

/// The highest peak of our own that was ever seen, in KiB.
static OWN: AtomicU64 = AtomicU64::new(0);

/// What is known of a script while it runs.
pub(super) struct TreeMemory {
    leader: i32,
    next: Instant,
    pause: Duration,
    /// The highest sum that was seen, in KiB; 0: none.
    highest: u64,
}

impl TreeMemory {
    /// Of the script with this leader, which has just been started.
    pub(super) fn of(leader: i32) -> TreeMemory {
        TreeMemory { leader, next: Instant::now() + FIRST, pause: FIRST, highest: 0 }
    }

    /// Until when the next look may wait.
    pub(super) fn next_look(&self) -> Timespec {
        let left = self.next.saturating_duration_since(Instant::now());
        // At least a millisecond, or a coarse clock would make us spin.
        let left = left.clamp(Duration::from_millis(1), LONGEST * SHARE);
        Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) }
    }

    /// Looks, if it is time.
    pub(super) fn look(&mut self) {
        let began = Instant::now();
        if began < self.next {
            return;
        }
        let tree = proc::tree(self.leader);
        let sum: u64 = tree.iter().filter_map(|&pid| proc::resident(pid)).sum();
        if sum > self.highest {
            // Processes that were forked share pages, which count once. To tell takes long where there are many, so only
            // a sum that would be a new peak is looked into.
            let part = |&pid: &i32| proc::proportional(pid).or_else(|| proc::resident(pid));
            let exact = match tree.len() {
                0 | 1 => sum,
                _ => tree.iter().filter_map(part).sum(),
            };
            self.highest = self.highest.max(exact);
        }
        self.pause = (self.pause * 3 / 2).min(LONGEST).max(began.elapsed() * SHARE);
        self.next = Instant::now() + self.pause;
    }

    /// The peak, in KiB, and of what; `largest` is that of the largest process as the kernel has it.
    pub(super) fn peak(&self, largest: u64, start: Start) -> (u64, PeakOf) {
        match start == Start::Fork || is_more_than_our_own(largest) {
            _ if self.highest > largest => (self.highest, PeakOf::Tree),
            true if self.highest > 0 => (largest, PeakOf::Tree),
            true => (largest, PeakOf::Process),
            false if self.highest > 0 => (self.highest, PeakOf::Tree),
            false => (largest, PeakOf::Runner),
        }
    }
}

/// A child that was started by posix_spawn counts as its own what we had at that moment. Ours only grows, so it
/// is looked at again only when a child had more than was known of ours.
fn is_more_than_our_own(peak: u64) -> bool {
    let is_more = |own: u64| peak > own + SLACK;
    if !is_more(OWN.load(Ordering::Relaxed)) {
        return false;
    }
    let own = proc::own_peak().unwrap_or(0);
    OWN.fetch_max(own, Ordering::Relaxed);
    is_more(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_the_trees_where_somebody_looked_and_never_the_runners_own() {
        let own = proc::own_peak().unwrap();
        let seen = |highest| TreeMemory { highest, ..TreeMemory::of(1) };
        let (small, large) = (own / 2, own * 2 + 2 * SLACK);
        assert_eq!(seen(0).peak(small, Start::Spawn), (small, PeakOf::Runner));
        assert_eq!(seen(0).peak(small, Start::Fork), (small, PeakOf::Process));
        assert_eq!(seen(500).peak(small, Start::Spawn), (500, PeakOf::Tree));
        assert_eq!(seen(0).peak(large, Start::Spawn), (large, PeakOf::Process));
        assert_eq!(seen(500).peak(large, Start::Spawn), (large, PeakOf::Tree));
        assert_eq!(seen(large + 1).peak(large, Start::Spawn), (large + 1, PeakOf::Tree));
    }
}
