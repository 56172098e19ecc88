//! Makes a plan permanent, in one transaction.

use rusqlite::params;

use crate::error::{OrDb, Result};
use crate::object::ObjectHash;

use crate::db::commit::runs::{RunRow, insert_run, note_unread, unsettle};
use crate::db::dependencies::Dependencies;
use crate::db::flow::{Flow, FlowTask};
use crate::db::inputs::Inputs;
use crate::db::plan::gather::labels_of;
use crate::db::plan::rules::SAME;
use crate::db::plan::tasks::{Registration, TaskRow, register};
use crate::db::{Reader, Writer};
use crate::ids::RunId;

/// What is written besides the temporary tables of the plan.
pub struct Applied<'a> {
    pub registrations: &'a [Registration],
    pub rows: &'a [TaskRow],
    /// By place in the manifest: fingerprint of the task's input files, if it can be trusted.
    pub scans: &'a [Option<ObjectHash>],
    pub run: &'a RunRow,
    /// Inputs that can't be read, a sentence each.
    pub unread: &'a [String],
}

/// True if a plan changes nothing: what was complete stays complete, whatever is made anew.
fn is_settled(reader: &Reader, flow: &Flow, applied: &Applied<'_>) -> Result<bool> {
    let is_known = |(row, task): (&TaskRow, &FlowTask)| {
        row.known.as_ref().is_some_and(|known| known.present && known.wiring == Some(task.wiring))
    };
    if !applied.unread.is_empty() || !applied.rows.iter().zip(&flow.tasks).all(is_known) {
        return Ok(false);
    }
    reader
        .conn
        .query_row(
            "SELECT NOT EXISTS (SELECT 1 FROM temp.change) AND NOT EXISTS (SELECT 1 FROM temp.fresh)",
            [],
            |row| row.get(0),
        )
        .or_db("keep the plan")
}

/// What the steps of a plan see is in the database too.
fn keep_sides(writer: &mut Writer, task: &FlowTask) -> Result<()> {
    if task.with.is_empty() {
        return Ok(());
    }
    let sql = "SELECT labels FROM temp.gain WHERE task = ?1 GROUP BY side";
    for labels in labels_of(writer, sql, task.id)? {
        task.sides.keep(writer, &labels)?;
    }
    Ok(())
}

/// Steps that failed are pending again. Those that `--only` leaves out aren't tried, and stay failed.
fn retry(writer: &mut Writer, flow: &Flow) -> Result<()> {
    let failed = "UPDATE step SET state = 0 WHERE live = 1 AND state <> 1 AND state = 2";
    if flow.tasks.iter().all(|task| task.only.is_none()) {
        return writer.conn.execute(failed, []).map(drop).or_db("keep the plan");
    }
    let failed = format!("{failed} AND task = ?1 AND may_run(?2, labels)");
    let mut statement = writer.conn.prepare(&failed).or_db("keep the plan")?;
    for (place, task) in flow.tasks.iter().enumerate().filter(|(_, task)| !task.is_left_out()) {
        statement.execute(params![task.id, place as i64]).or_db("keep the plan")?;
    }
    Ok(())
}

/// Registers the tasks, moves the known steps, bears the fresh ones, makes the links, and notes the
/// run that does it. From here on the state on disk is that of the present manifest and inputs.
///
/// # Errors
/// If the rows can't be written.
pub fn apply(writer: &mut Writer, flow: &Flow, applied: &Applied<'_>) -> Result<RunId> {
    let what = "keep the plan";
    let is_settled = is_settled(writer, flow, applied)?;
    register(writer, applied.registrations, applied.rows)?;
    Inputs::apply(writer)?;
    if flow.tasks.iter().any(|task| task.has_depfile) {
        Dependencies::apply(writer)?;
    }
    writer.conn.execute_batch(&format!(
        "UPDATE step SET (live, state) = (SELECT c.live, c.state FROM temp.change c WHERE c.step = step.id)
           WHERE id IN (SELECT step FROM temp.change);
         INSERT INTO step(object, task, recipe, name, key, executable, live, state, origin, labels, side)
           SELECT object, task, recipe, name, key, executable, 1, 0, origin, labels, side
           FROM temp.fresh ORDER BY id;
         INSERT OR IGNORE INTO step_link(from_step_id, to_step_id)
           SELECT g.producer, s.id FROM temp.gain g CROSS JOIN step s ON {SAME}
           WHERE g.producer IS NOT NULL AND s.task = g.task AND s.live = 1;
         INSERT INTO temp.turn
           SELECT s.id, s.task, 0 FROM temp.fresh g CROSS JOIN step s ON {SAME}
           WHERE g.held = 1 AND s.task = g.task AND s.live = 1;",
    ))
    .or_db(what)?;
    retry(writer, flow)?;
    if !is_settled {
        unsettle(writer)?;
    }
    // What is missing of a task is known again when this run ends.
    writer.conn.execute("DELETE FROM meta WHERE key = 'unsettled'", []).or_db(what)?;
    for (task, scan) in flow.tasks.iter().zip(applied.scans) {
        keep_sides(writer, task)?;
        // A task that waits for what its steps see is looked at again, whatever becomes of this run.
        let is_looked_at = task.with.is_empty() || !task.sides.is_unknown();
        let wiring = is_looked_at.then_some(task.wiring);
        writer
            .conn
            .prepare_cached("UPDATE task SET wiring = ?2, scan = ?3 WHERE id = ?1")
            .and_then(|mut s| s.execute(params![task.id, wiring, scan]))
            .or_db(what)?;
    }
    note_unread(writer, applied.unread)?;
    let run = insert_run(writer, applied.run)?;
    writer
        .conn
        .execute_batch("DELETE FROM temp.fresh; DELETE FROM temp.gain; DELETE FROM temp.change;")
        .or_db(what)?;
    Ok(run)
}
