//! `gather`: one step over all live outputs of the tasks it consumes. Its object is a listing of them
//! in the format of `sha256sum`, so it has a hash and a lineage like any other step.

use rusqlite::params;

use crate::attempt::NamedObject;
use crate::error::{OrDb, Result};
use crate::ids::{StepId, TaskIndex};
use crate::object::ObjectHash;

use crate::db::commit::completion::Effects;
use crate::db::commit::{Supported, activate, outputs_of, support};
use crate::db::flow::Flow;
use crate::db::types::NameBytes;
use crate::db::{Reader, Writer};

const WHAT: &str = "plan a gather step";

fn select(flow: &Flow, index: TaskIndex, columns: &str) -> String {
    format!(
        "SELECT {columns} FROM step p JOIN output o ON o.step = p.id
         WHERE p.task IN ({}) AND p.live = 1 AND p.state = 1",
        flow.ids(&flow.task(index).from)
    )
}

/// Calls `see` with every input of a gather task, by (name, hash). Two producers of one object under
/// one name are two inputs.
///
/// # Errors
/// If the database can't be read.
pub fn gather_inputs(
    reader: &Reader,
    flow: &Flow,
    index: TaskIndex,
    see: &mut dyn FnMut(NamedObject),
) -> Result<()> {
    let task = flow.task(index);
    let sql = format!(
        "{} ORDER BY o.name, o.object",
        select(flow, index, "o.name, o.object, o.executable, p.task")
    );
    let mut statement = reader.conn.prepare(&sql).or_db(WHAT)?;
    let mut rows = statement.query([]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        let input = NamedObject {
            name: row.get::<_, NameBytes>(0).or_db(WHAT)?.0,
            object: row.get(1).or_db(WHAT)?,
            executable: row.get(2).or_db(WHAT)?,
        };
        if task.takes(row.get(3).or_db(WHAT)?, &input.name) {
            see(input);
        }
    }
    Ok(())
}

/// A line of the listing, as `sha256sum` writes it: a name with a backslash or a newline is escaped,
/// and the line says so by a backslash of its own.
/// The `*`, which for `sha256sum` says that a file was read as binary and makes no difference, marks one with the
/// executable bit: it is part of what a gather step works on.
pub fn listing_line(listing: &mut Vec<u8>, input: &NamedObject) {
    let escaped = input.name.iter().any(|byte| matches!(byte, b'\\' | b'\n' | b'\r'));
    if escaped {
        listing.push(b'\\');
    }
    listing.extend_from_slice(input.object.hex().as_bytes());
    listing.extend_from_slice(if input.executable { b" *" } else { b"  " });
    for &byte in &input.name {
        match byte {
            b'\\' => listing.extend_from_slice(b"\\\\"),
            b'\n' => listing.extend_from_slice(b"\\n"),
            b'\r' => listing.extend_from_slice(b"\\r"),
            byte => listing.push(byte),
        }
    }
    listing.push(b'\n');
}

/// What planning a gather task made possible.
#[derive(Debug)]
pub struct GatherPlan {
    pub step: StepId,
    pub effects: Effects,
}

/// Makes the step of a gather task live: everything upstream is done, `listing` (durable in the store)
/// is what it works on.
///
/// # Errors
/// If the rows can't be written.
pub fn plan_gather(
    writer: &mut Writer,
    flow: &Flow,
    index: TaskIndex,
    listing: ObjectHash,
    size: u64,
) -> Result<GatherPlan> {
    let task = flow.task(index);
    crate::db::commit::insert_objects(writer, [(listing, size)])?;
    let input = NamedObject { name: Vec::new(), object: listing, executable: false };
    let (step, supported) = activate(writer, task, &input)?;
    let mut statement = writer
        .conn
        .prepare(&format!(
            "INSERT OR IGNORE INTO step_link(from_step_id, to_step_id) {} AND accepts({}, p.task, o.name)",
            select(flow, index, "DISTINCT p.id, ?1"),
            index.0
        ))
        .or_db(WHAT)?;
    statement.execute(params![step]).or_db(WHAT)?;
    drop(statement);
    let mut effects = Effects::default();
    match supported {
        Supported::WasLive => {}
        Supported::Pending => effects.note(index, 1, 0),
        Supported::Revived(step) => {
            effects.note(index, 0, 1);
            let outputs = outputs_of(writer, step)?;
            support(writer, flow, index, step, outputs, &mut effects)?;
        }
    }
    Ok(GatherPlan { step, effects })
}
