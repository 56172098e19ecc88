//! Whether other programs use the processors besides this one and its scripts.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::sys::proc::{BusyTicks, busy_ticks};

/// Between two looks. The kernel counts in ticks, mostly of 10 ms.
const PERIOD: Duration = Duration::from_millis(200);

/// The others count if they use more than one of so many parts of what we use: less may be our own servers, whose time
/// counts as ours only once they have ended.
const PART: u64 = 4;

/// True if hardly anybody else used a processor between the last two looks; false if that isn't known yet, or can't be
/// told. A script counts as ours only once it has ended, so one that takes longer than a look looks like a neighbour: then
/// nothing is gained, but steps that take so long have nothing to gain.
pub(super) fn is_alone() -> bool {
    static LAST: Mutex<Option<(Instant, BusyTicks)>> = Mutex::new(None);
    static IS_ALONE: AtomicBool = AtomicBool::new(false);
    // If another worker looks just now, what was seen before will do.
    if let Ok(mut last) = LAST.try_lock() {
        let now = Instant::now();
        let is_due = last.is_none_or(|(at, _)| now - at >= PERIOD);
        if is_due && let Some(after) = busy_ticks() {
            let is_alone = last.is_some_and(|(_, before)| were_few(before, after));
            IS_ALONE.store(is_alone, Ordering::Relaxed);
            *last = Some((now, after));
        }
    }
    IS_ALONE.load(Ordering::Relaxed)
}

/// Whether the others used little between two looks.
fn were_few(before: BusyTicks, after: BusyTicks) -> bool {
    let ours = after.ours.saturating_sub(before.ours);
    let all = after.all.saturating_sub(before.all);
    all.saturating_sub(ours) * PART <= ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_count_if_they_use_more_than_a_quarter_of_what_we_use() {
        let before = BusyTicks { ours: 1_000, all: 5_000 };
        for (ours, others, few) in
            [(40, 0, true), (40, 10, true), (40, 11, false), (0, 1, false), (20, 20, false)]
        {
            let after = BusyTicks { ours: before.ours + ours, all: before.all + ours + others };
            assert_eq!(were_few(before, after), few, "{ours} {others}");
        }
        // The machine counts by samples, so it may have seen less of us than there was.
        assert!(were_few(before, BusyTicks { ours: 1_040, all: 5_030 }));
    }

    #[test]
    fn what_this_process_uses_is_part_of_what_the_machine_uses() {
        let before = crate::sys::proc::busy_ticks().unwrap();
        let mut now = before;
        let mut sum = 0_u64;
        while now.ours < before.ours + 5 {
            sum = std::hint::black_box(sum.wrapping_add(1));
            if sum.is_multiple_of(100_000) {
                now = crate::sys::proc::busy_ticks().unwrap();
            }
        }
        assert!(now.all > before.all, "{before:?} {now:?}");
    }
}
