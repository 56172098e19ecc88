//! `gather`: one step over all live outputs of the tasks it consumes, or over those of each group of labels. Its object
//! is a listing of them in the format of `sha256sum`, so it has a hash and a lineage like any other step.
//!
//! A root may gather its input files. What it works on is known when the run is planned: its listings are made before the
//! plan, and support its steps as files support those of any other root.

use std::collections::BTreeMap;

use rusqlite::params;

use crate::attempt::NamedObject;
use crate::error::{OrDb, Result};
use crate::ids::{RecipeId, StepId, TaskId, TaskIndex};
use crate::labels::Labels;
use crate::names;
use crate::object::ObjectHash;
use crate::order;
use crate::origin::Origin;

use crate::db::commit::completion::{Effects, count};
use crate::db::commit::{activate, link, outputs_of, replace_gathered, side_on, support};
use crate::db::flow::{Flow, FlowTask};
use crate::db::inputs::FILES;
use crate::db::listing::listing_line;
use crate::db::plan::rules::present_files;
use crate::db::types::NameBytes;
use crate::db::{Reader, Writer};

const WHAT: &str = "plan a gather step";

/// What each group of files that a root gathers works on, as a listing, as the scan of this plan has found them. Files of
/// one name are in the order of their paths.
///
/// # Errors
/// If the database can't be read.
pub fn file_listings(reader: &Reader, task: &FlowTask) -> Result<Vec<(Group, Vec<u8>)>> {
    let mut listings: BTreeMap<Labels, Vec<u8>> = BTreeMap::new();
    if task.gather_empty && !task.is_grouped() {
        listings.insert(Labels::default(), Vec::new());
    }
    let files = present_files();
    let sql = format!("SELECT name, object, executable, path FROM ({files}) ORDER BY name, path");
    let mut statement = reader.conn.prepare(&sql).or_db(WHAT)?;
    let mut rows = statement.query([task.id]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        let path = row.get::<_, NameBytes>(3).or_db(WHAT)?.0;
        if let Some(group) = task.group_on(FILES, &path, &Labels::default()) {
            let input = NamedObject {
                name: row.get::<_, NameBytes>(0).or_db(WHAT)?.0,
                object: row.get(1).or_db(WHAT)?,
                executable: row.get(2).or_db(WHAT)?,
            };
            listing_line(listings.entry(group).or_default(), &input);
        }
    }
    let group = |(labels, listing)| (Group { labels, producers: Vec::new() }, listing);
    Ok(listings.into_iter().map(group).collect())
}

fn select(flow: &Flow, index: TaskIndex, columns: &str) -> String {
    format!(
        "SELECT {columns} FROM step p JOIN output o ON o.step = p.id
         WHERE p.task IN ({}) AND p.live = 1 AND p.state = 1",
        flow.ids(&flow.task(index).from)
    )
}

/// The name under which an output of a task is gathered: with several tasks, each has its own folder.
fn gathered_name(flow: &Flow, task: &FlowTask, producer: TaskId, name: Vec<u8>) -> Vec<u8> {
    if task.from.len() < 2 {
        return name;
    }
    let from = task.from.iter().map(|&from| flow.task(from)).find(|from| from.id == producer);
    let folder = from.map_or("", |from| from.name.as_str());
    [folder.as_bytes(), b"/", &name].concat()
}

/// Calls `see` with every input of a gather task that goes by no labels, by (name, origin): editing one must not swap
/// two others. Two producers of one object under one name are two inputs.
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
    let columns = "o.name, o.object, o.executable, p.task";
    let sql = format!(
        "{} ORDER BY (SELECT name FROM task t WHERE t.id = p.task AND {}), o.name,
           output_origin(p.task, p.origin, o.name), o.object",
        select(flow, index, columns),
        task.from.len() > 1,
    );
    let mut statement = reader.conn.prepare(&sql).or_db(WHAT)?;
    let mut rows = statement.query([]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        let name = row.get::<_, NameBytes>(0).or_db(WHAT)?.0;
        let producer = row.get(3).or_db(WHAT)?;
        if task.takes(producer, &name) {
            see(NamedObject {
                name: gathered_name(flow, task, producer, name),
                object: row.get(1).or_db(WHAT)?,
                executable: row.get(2).or_db(WHAT)?,
            });
        }
    }
    Ok(())
}

/// True if the step of a gather task works on just what there is to gather, so that it stands, though the task gathers
/// otherwise now. Everything upstream is done, and stays so. Of groups that isn't looked for.
///
/// # Errors
/// If the database can't be read.
pub(in crate::db) fn still_stands(reader: &Reader, flow: &Flow, index: TaskIndex) -> Result<bool> {
    let task = flow.task(index);
    if task.is_grouped() || !task.with.is_empty() {
        return Ok(false);
    }
    let live = "SELECT id, object, recipe FROM step WHERE task = ?1 AND live = 1 LIMIT 2";
    let mut statement = reader.conn.prepare_cached(live).or_db(WHAT)?;
    let steps = statement
        .query_map([task.id], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, RecipeId>(2)?)));
    let steps: Vec<(StepId, ObjectHash, RecipeId)> =
        steps.and_then(|steps| steps.collect()).or_db(WHAT)?;
    let &[(step, object, recipe)] = steps.as_slice() else { return Ok(false) };
    if recipe != task.recipe {
        return Ok(false);
    }
    let mut listing = Vec::new();
    gather_inputs(reader, flow, index, &mut |input| {
        listing_line(&mut listing, &input);
    })?;
    let is_any = !listing.is_empty() || task.gather_empty;
    if !is_any || ObjectHash::of(&listing) != object {
        return Ok(false);
    }
    // Its links tell where that comes from.
    let sql = format!(
        "SELECT NOT EXISTS (
           SELECT 1 FROM step p JOIN output o ON o.step = p.id
           WHERE p.task IN ({}) AND p.live = 1 AND p.state = 1 AND accepts({}, p.task, o.name)
           AND NOT EXISTS (SELECT 1 FROM step_link WHERE from_step_id = p.id AND to_step_id = ?1))",
        flow.ids(&task.from),
        index.0
    );
    reader.conn.query_row(&sql, [step], |row| row.get(0)).or_db(WHAT)
}

/// What these steps have made for one group of a gather task, in the order of [`gather_inputs`]. Steps that aren't live
/// and done any more are passed over.
///
/// # Errors
/// If the database can't be read.
pub fn group_inputs(
    reader: &Reader,
    flow: &Flow,
    index: TaskIndex,
    group: &Labels,
    producers: &[StepId],
) -> Result<Vec<NamedObject>> {
    let task = flow.task(index);
    let mut inputs = Vec::new();
    for &step in producers {
        let producer = reader
            .conn
            .prepare_cached(
                "SELECT task, origin, labels FROM step WHERE id = ?1 AND live = 1 AND state = 1",
            )
            .and_then(|mut statement| {
                let read = |row: &rusqlite::Row<'_>| {
                    Ok((row.get::<_, TaskId>(0)?, row.get(1)?, row.get::<_, Labels>(2)?))
                };
                statement.query_map([step], read)?.next().transpose()
            });
        let Some((producing, origin, labels)) = producer.or_db(WHAT)? else { continue };
        if !task.from.iter().any(|&from| flow.task(from).id == producing) {
            continue;
        }
        for output in outputs_of(reader, step)? {
            if task.group_on(producing, &output.name, &labels).as_ref() == Some(group) {
                let origin = Origin::output(producing, origin, &output.name);
                let name = gathered_name(flow, task, producing, output.name);
                inputs.push((origin, NamedObject { name, ..output }));
            }
        }
    }
    order::sort_by(&mut inputs, |(a_origin, a), (b_origin, b)| {
        (&a.name, a_origin, &a.object).cmp(&(&b.name, b_origin, &b.object))
    });
    Ok(inputs.into_iter().map(|(_, input)| input).collect())
}

/// The steps that a step is linked from.
///
/// # Errors
/// If the database can't be read.
pub fn linked_steps(reader: &Reader, step: StepId) -> Result<Vec<StepId>> {
    let mut statement = reader
        .conn
        .prepare_cached("SELECT from_step_id FROM step_link WHERE to_step_id = ?1")
        .or_db(WHAT)?;
    let rows = statement.query_map([step], |row| row.get(0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// Calls `see` with each group of a gather task that a live, done step has made something for, and that step. A pair
/// may come twice.
///
/// # Errors
/// If the database can't be read.
pub fn each_group(
    reader: &Reader,
    flow: &Flow,
    index: TaskIndex,
    see: &mut dyn FnMut(Labels, StepId),
) -> Result<()> {
    let task = flow.task(index);
    let sql = select(flow, index, "p.id, p.labels, o.name, p.task");
    let mut statement = reader.conn.prepare(&sql).or_db(WHAT)?;
    let mut rows = statement.query([]).or_db(WHAT)?;
    while let Some(row) = rows.next().or_db(WHAT)? {
        let name = row.get::<_, NameBytes>(2).or_db(WHAT)?.0;
        let producer = row.get(3).or_db(WHAT)?;
        if let Some(group) = task.group_on(producer, &name, &row.get(1).or_db(WHAT)?) {
            see(group, row.get(0).or_db(WHAT)?);
        }
    }
    Ok(())
}

/// The groups of a gather task that one step has made something for.
///
/// # Errors
/// If the database can't be read.
pub fn groups_of_step(
    reader: &Reader,
    flow: &Flow,
    index: TaskIndex,
    step: StepId,
) -> Result<Vec<Labels>> {
    let (producer, labels): (TaskId, Labels) = reader
        .conn
        .prepare_cached("SELECT task, labels FROM step WHERE id = ?1")
        .and_then(|mut statement| statement.query_row([step], |row| Ok((row.get(0)?, row.get(1)?))))
        .or_db(WHAT)?;
    let outputs = outputs_of(reader, step)?;
    let task = flow.task(index);
    Ok(outputs.iter().filter_map(|output| task.group_on(producer, &output.name, &labels)).collect())
}

/// The labels of the live steps of a task, without those that wait for a producer. For the connection that made the
/// plan of the run.
///
/// # Errors
/// If the database can't be read.
pub fn live_labels(reader: &Reader, task: TaskId) -> Result<Vec<Labels>> {
    let sql = "SELECT labels FROM step s WHERE task = ?1 AND live = 1
             AND NOT EXISTS (SELECT 1 FROM temp.turn t WHERE t.step = s.id AND t.turn < 2)";
    labels_of(reader, sql, task)
}

/// The labels that a query for a task gives.
pub(in crate::db) fn labels_of(reader: &Reader, sql: &str, task: TaskId) -> Result<Vec<Labels>> {
    let mut statement = reader.conn.prepare_cached(sql).or_db(WHAT)?;
    let rows = statement.query_map([task], |row| row.get(0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// Which step of a gather task is to be made.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Empty: the only one of its task.
    pub labels: Labels,
    /// The steps that have made something for it; looked for if it is the only one.
    pub producers: Vec<StepId>,
}

impl Group {
    /// INPUT_NAME: the values, in the order in which the manifest names the keys. Of any values folders can be made.
    pub fn name(&self, task: &FlowTask) -> Vec<u8> {
        let values = task.gather_keys.iter().filter_map(|key| self.labels.get(key));
        let values: Vec<&str> = values.collect();
        if values.is_empty() { Vec::new() } else { names::of_values(&values).into_bytes() }
    }
}

/// Everything that a gather task can gather is gathered: steps of it that waited in vain for what runs anew have nothing
/// to work on any more, and the next plan needn't look at the task again for what has happened in this run.
///
/// # Errors
/// If the rows can't be written.
pub fn end_gather(writer: &mut Writer, flow: &Flow, index: TaskIndex) -> Result<()> {
    replace_gathered(writer, flow, index, None)?;
    looked_at(writer, flow.task(index))
}

/// All that a task could not be looked at for before is done.
pub(in crate::db) fn looked_at(writer: &mut Writer, task: &FlowTask) -> Result<()> {
    writer
        .conn
        .prepare_cached("UPDATE task SET wiring = ?2 WHERE id = ?1")
        .and_then(|mut s| s.execute(params![task.id, task.wiring]))
        .or_db(WHAT)?;
    Ok(())
}

/// Makes a step of a gather task live: everything upstream of it is done, `listing` (durable in the store)
/// is what it works on.
///
/// # Errors
/// If the rows can't be written.
pub fn plan_gather(
    writer: &mut Writer,
    flow: &Flow,
    index: TaskIndex,
    group: &Group,
    listing: ObjectHash,
    size: u64,
) -> Result<Effects> {
    let (task, labels) = (flow.task(index), &group.labels);
    let mut effects = Effects::default();
    let Some(side) = side_on(writer, flow, index, labels)? else {
        count(&mut effects.unseeing, index);
        return Ok(effects);
    };
    crate::db::commit::insert_objects(writer, [(listing, size)])?;
    let input = NamedObject { name: group.name(task), object: listing, executable: false };
    let place = (labels, Origin::group(labels), side);
    let (step, supported) = activate(writer, task, &input, place)?;
    if task.is_grouped() {
        for producer in &group.producers {
            link(writer, *producer, step)?;
        }
    } else {
        let from = select(flow, index, "DISTINCT p.id, ?1");
        let mut statement = writer
            .conn
            .prepare(&format!(
                "INSERT OR IGNORE INTO step_link(from_step_id, to_step_id) {from} AND accepts({}, p.task, o.name)",
                index.0
            ))
            .or_db(WHAT)?;
        statement.execute(params![step]).or_db(WHAT)?;
    }
    replace_gathered(writer, flow, index, Some((step, labels)))?;
    if let Some(revived) = effects.note(writer, flow, index, step, labels, supported)? {
        support(writer, flow, revived, &mut effects)?;
    }
    Ok(effects)
}
