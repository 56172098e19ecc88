//! `with`: the steps of a task that wait for what they see besides their input. Like a gather step they are made when all
//! of that is done; then each is what its input, its labels and what agrees with them make of it.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, Row};

use crate::attempt::NamedObject;
use crate::error::{OrDb, Result};
use crate::ids::{StepId, TaskIndex};
use crate::labels::Labels;
use crate::origin::Origin;

use crate::db::commit::completion::Effects;
use crate::db::commit::{DoneStep, activate, link, replace_gathered, side_on, support};
use crate::db::flow::Flow;
use crate::db::plan::gather::{each_group, labels_of, looked_at};
use crate::db::plan::rules::Planner;
use crate::db::types::NameBytes;
use crate::db::{Reader, Writer};

const WHAT: &str = "plan steps that see others' outputs";

/// Makes the steps of a task live: all that they see is done. Those of a gather task are made when what they gather is
/// done too.
///
/// # Errors
/// If the rows can't be written.
pub fn plan_with(writer: &mut Writer, flow: &Flow, index: TaskIndex) -> Result<Effects> {
    let task = flow.task(index);
    let mut effects = Effects::default();
    let had_no_steps = task.sides.is_unknown();
    task.sides.open();
    if task.gathers_outputs() {
        // Every step that it gets from now on sees all there is. Those that it has may have to be made anew.
        if had_no_steps {
            looked_at(writer, task)?;
        }
        return Ok(effects);
    }
    let inputs = Planner { reader: writer, flow }.inputs(index, task);
    writer
        .conn
        .execute_batch(&format!(
            "DROP TABLE IF EXISTS temp.awaited;
             CREATE TEMP TABLE awaited(
               id INTEGER PRIMARY KEY, object BLOB, name ANY, executable INTEGER, labels TEXT, origin INTEGER,
               producer INTEGER) STRICT;
             INSERT INTO awaited(object, name, executable, labels, origin, producer)
               SELECT object, name, executable, labels, origin, producer FROM ({inputs}) ORDER BY producer, name;"
        ))
        .or_db(WHAT)?;
    let (mut id, mut revived) = (1, Vec::new());
    while let Some((input, labels, origin, producer)) = awaited(writer, id)? {
        id += 1;
        let Some(side) = side_on(writer, flow, index, &labels)? else { continue };
        let (step, supported) = activate(writer, task, &input, (&labels, origin, side))?;
        if let Some(producer) = producer {
            link(writer, producer, step)?;
        }
        let is_revived = effects.note(writer, flow, index, step, &labels, supported)?.is_some();
        revived.extend(is_revived.then_some(step));
    }
    // Before the others support anything: what comes of them may be what came of those that go.
    replace_gathered(writer, flow, index, None)?;
    for step in revived {
        support(writer, flow, DoneStep::read(writer, index, step)?, &mut effects)?;
    }
    looked_at(writer, task)?;
    Ok(effects)
}

/// True if a gather task has something to gather and no step for it, as after a run that was killed. Asked only where it
/// may be seen.
pub(in crate::db) fn lacks_steps(reader: &Reader, flow: &Flow, index: TaskIndex) -> Result<bool> {
    let task = flow.task(index);
    if !task.gathers_outputs() || flow.tasks.iter().all(|task| task.with.is_empty()) {
        return Ok(false);
    }
    let is_settled: bool = reader
        .conn
        .query_row("SELECT EXISTS (SELECT 1 FROM meta WHERE key = 'settled')", [], |row| row.get(0))
        .or_db(WHAT)?;
    if is_settled {
        return Ok(false);
    }
    let sql = "SELECT labels FROM step WHERE task = ?1 AND live = 1";
    let live: HashSet<Labels> = labels_of(reader, sql, task.id)?.into_iter().collect();
    let mut lacks = false;
    each_group(reader, flow, index, &mut |group, _| lacks |= !live.contains(&group))?;
    Ok(lacks)
}

/// How many inputs of a task have no step, because there is nothing that it could see. 0 as long as nobody
/// knows, and for a task that gathers outputs.
///
/// # Errors
/// If the database can't be read.
pub fn unseeing(reader: &Reader, flow: &Flow, index: TaskIndex) -> Result<u64> {
    let task = flow.task(index);
    if task.with.is_empty() || !task.is_ready() || task.gathers_outputs() {
        return Ok(0);
    }
    flow.read_sides(reader, index)?;
    if task.sides.is_for_all() {
        return Ok(0);
    }
    let inputs = Planner { reader, flow }.inputs(index, task);
    let sql = format!("SELECT count(*) FROM ({inputs}) WHERE side({}, labels) IS NULL", index.0);
    let count = reader.conn.query_row(&sql, [], |row| row.get::<_, i64>(0)).or_db(WHAT)?;
    Ok(count.unsigned_abs())
}

/// An input on which a step is to be made: with the labels and the origin of the step, and who made it.
type Awaited = (NamedObject, Labels, Origin, Option<StepId>);

fn awaited(reader: &Reader, id: i64) -> Result<Option<Awaited>> {
    reader
        .conn
        .prepare_cached(
            "SELECT object, name, executable, labels, origin, producer FROM temp.awaited WHERE id = ?1",
        )
        .and_then(|mut select| {
            let read = |row: &Row<'_>| {
                let name = row.get::<_, NameBytes>(1)?.0;
                let input = NamedObject { object: row.get(0)?, name, executable: row.get(2)? };
                Ok((input, row.get(3)?, row.get(4)?, row.get(5)?))
            };
            select.query_row([id], read).optional()
        })
        .or_db(WHAT)
}
