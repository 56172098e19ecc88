//! Which attempts took long besides their scripts: laying out the inputs before, keeping the outputs after. The report draws
//! it, where a timeline of scripts alone would be blank. Those of a run are kept in one piece when it ends, so that no
//! attempt costs a byte more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::attempt::AttemptRecord;
use crate::db::Overhead;
use crate::ids::StepId;
use crate::sys::clock::now_ms;

/// Less is not worth being drawn.
const LEAST: Duration = Duration::from_millis(50);

/// So many of a run are kept, those that took longest.
const MOST: usize = 500;

/// The longest ones so far; the shortest of them is on top.
#[derive(Default)]
pub(super) struct Overheads(BinaryHeap<Reverse<(Duration, Overhead)>>);

impl Overheads {
    /// Takes note of an attempt that had its worker from `worked.0` to `worked.1`.
    pub(super) fn see(&mut self, step: StepId, record: &AttemptRecord, worked: (Instant, Instant)) {
        let whole = worked.1.saturating_duration_since(worked.0);
        let long = whole.saturating_sub(record.usage.wall);
        let is_first = record.batch.is_none_or(|batch| batch.item == 1);
        let is_among =
            self.0.len() < MOST || self.0.peek().is_some_and(|Reverse(last)| last.0 < long);
        if long < LEAST || !is_first || !is_among {
            return;
        }
        let ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let ended_ms = now_ms() - ms(worked.1.elapsed());
        let script_ended_ms = record.started_ms + ms(record.usage.wall);
        self.0.push(Reverse((
            long,
            Overhead {
                step,
                worker: record.worker.map_or(0, i64::unsigned_abs),
                before_ms: (record.started_ms - (ended_ms - ms(whole))).max(0),
                started_ms: record.started_ms,
                script_ended_ms,
                after_ms: (ended_ms - script_ended_ms).max(0),
            },
        )));
        if self.0.len() > MOST {
            self.0.pop();
        }
    }

    /// All that were kept.
    pub(super) fn into_list(self) -> Vec<Overhead> {
        self.0.into_iter().map(|Reverse((_, overhead))| overhead).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_took_long_besides_the_script_is_kept_in_bounded_memory() {
        let mut overheads = Overheads::default();
        let now = Instant::now();
        for n in 0..MOST as u64 + 10 {
            let second = json!({ "secs": 1, "nanos": 0 });
            let record: AttemptRecord = serde_json::from_value(json!({
                "number": 1, "outcome": "Succeeded", "started_ms": now_ms(), "worker": 2, "start": "spawn",
                "usage": {
                    "wall": second, "user": second, "system": second, "peak_memory": 1, "peak_of": "process",
                },
            }))
            .unwrap();
            let began = now.checked_sub(Duration::from_millis(1000 + n)).unwrap();
            overheads.see(StepId(n as i64), &record, (began, now));
        }
        let mut steps: Vec<i64> = overheads.into_list().iter().map(|one| one.step.0).collect();
        steps.sort_unstable();
        // None of less than 50 ms.
        assert_eq!(steps, (50..MOST as i64 + 10).collect::<Vec<_>>());
    }
}
