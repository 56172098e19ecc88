//! How long steps took in earlier runs.

use std::time::Duration;

use rusqlite::params;

use crate::error::{OrDb, Result};

use super::Reader;
use super::flow::Flow;

/// Steps that are looked at, per task: the newest. A mean over millions would take longer than it is worth.
const SAMPLE: i64 = 100;

/// By place in the manifest: the number of successful attempts looked at, and their mean time. Costs the
/// same however many there are.
pub fn mean_times(reader: &Reader, flow: &Flow) -> Result<Vec<(u64, Duration)>> {
    let what = "read earlier times";
    let mut select = reader
        .conn
        .prepare_cached(
            "SELECT count(*), coalesce(avg(a.wall_us), 0)
             FROM (SELECT id FROM step WHERE task = ?1 ORDER BY id DESC LIMIT ?2) s
             JOIN attempt a ON a.step = s.id WHERE a.outcome = 'ok'",
        )
        .or_db(what)?;
    let mean = |row: &rusqlite::Row<'_>| {
        let micros: f64 = row.get(1)?;
        Ok((row.get::<_, i64>(0)?.unsigned_abs(), Duration::from_secs_f64(micros.max(0.0) / 1e6)))
    };
    let times = flow.tasks.iter().map(|task| select.query_row(params![task.id, SAMPLE], mean));
    times.collect::<rusqlite::Result<_>>().or_db(what)
}
