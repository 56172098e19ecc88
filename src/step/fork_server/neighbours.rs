//! Whether other programs use the processors besides this one and its scripts.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::sys::proc::{Busy, busy};

/// Between two looks. The kernel counts in ticks, mostly of 10 ms.
const PERIOD: Duration = Duration::from_millis(200);

/// The others count if they use more than one of so many parts of what we use: less may be our own servers, whose time
/// is no process's until they end.
const PART: u64 = 4;

/// What has been seen.
struct Look {
    at: Instant,
    busy: Busy,
    is_alone: bool,
}

/// True if hardly anybody else used a processor until the last look; false if that isn't known yet, or can't be told.
pub(super) fn is_alone() -> bool {
    static LAST: Mutex<Option<Look>> = Mutex::new(None);
    // Another worker looks just now: next time.
    let Ok(mut last) = LAST.try_lock() else { return false };
    let now = Instant::now();
    match &mut *last {
        Some(look) if now - look.at < PERIOD => look.is_alone,
        look => {
            let Some(busy) = busy() else { return false };
            let is_alone = look.as_ref().is_some_and(|look| were_few(look.busy, busy));
            *look = Some(Look { at: now, busy, is_alone });
            is_alone
        }
    }
}

/// Whether the others used little between two looks.
fn were_few(before: Busy, after: Busy) -> bool {
    let ours = after.ours.saturating_sub(before.ours);
    let all = after.all.saturating_sub(before.all);
    all.saturating_sub(ours) * PART <= ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_count_if_they_use_more_than_a_quarter_of_what_we_use() {
        let before = Busy { ours: 1_000, all: 5_000 };
        for (ours, others, few) in
            [(40, 0, true), (40, 10, true), (40, 11, false), (0, 1, false), (20, 20, false)]
        {
            let after = Busy { ours: before.ours + ours, all: before.all + ours + others };
            assert_eq!(were_few(before, after), few, "{ours} {others}");
        }
        // The machine counts by samples, so it may have seen less of us than there was.
        assert!(were_few(before, Busy { ours: 1_040, all: 5_030 }));
    }

    #[test]
    fn what_this_process_uses_is_part_of_what_the_machine_uses() {
        let before = crate::sys::proc::busy().unwrap();
        let mut now = before;
        let mut sum = 0_u64;
        while now.ours < before.ours + 5 {
            sum = std::hint::black_box(sum.wrapping_add(1));
            if sum.is_multiple_of(100_000) {
                now = crate::sys::proc::busy().unwrap();
            }
        }
        assert!(now.all > before.all, "{before:?} {now:?}");
    }
}
