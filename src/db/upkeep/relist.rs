//! What a gather step works on, listed again: from what it is linked from, which stays known for history too. A listing
//! that comes out with the right hash is the right one, so that more than one way may be tried.

use crate::attempt::NamedObject;
use crate::error::{OrDb, Result};
use crate::ids::{StepId, TaskId};
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::order;
use crate::origin::Origin;

use crate::db::Reader;
use crate::db::flow::{Flow, FlowTask};
use crate::db::inputs::FILES;
use crate::db::listing::listing_line;
use crate::db::types::NameBytes;

const WHAT: &str = "list anew what a gather step works on";

/// Something that a gather step may have gathered.
struct Gathered {
    producer: TaskId,
    task: String,
    origin: Origin,
    labels: Labels,
    /// Its step is live and done.
    is_present: bool,
    /// Its name for `match`: for a file, its path.
    path: Vec<u8>,
    /// As it is listed.
    output: NamedObject,
}

impl Gathered {
    fn is_input_of(&self, task: &FlowTask, group: &Labels) -> bool {
        let Gathered { producer, path, labels, .. } = self;
        match task.is_grouped() {
            true => task.group_on(*producer, path, labels).as_ref() == Some(group),
            false => task.takes(*producer, path),
        }
    }
}

/// The listing of this hash, if a gather step works on it, and what it lists is known still. Without the flow of the last
/// manifest, nobody knows what `match` chose.
///
/// # Errors
/// If the database can't be read.
pub fn relisted(
    reader: &Reader,
    flow: Option<&Flow>,
    listing: &ObjectHash,
) -> Result<Option<Vec<u8>>> {
    for (step, id, labels) in steps_on(reader, listing)? {
        let task = flow.and_then(|flow| flow.tasks.iter().find(|task| task.id == id));
        // A step of history may have gathered otherwise than the task does now.
        for task in task.map(Some).into_iter().chain([None]) {
            let mut gathered = linked(reader, step)?;
            if gathered.is_empty() {
                gathered = files(reader, id)?;
            }
            if let Some(task) = task {
                gathered.retain(|one| one.is_input_of(task, &labels));
            }
            name_folders(task, &mut gathered);
            if let Some(bytes) = one_of(listing, gathered) {
                return Ok(Some(bytes));
            }
        }
    }
    Ok(None)
}

/// What comes of several tasks lies in a folder for each.
fn name_folders(task: Option<&FlowTask>, gathered: &mut [Gathered]) {
    let has_folders = match task {
        Some(task) => task.from.len() > 1,
        None => gathered.iter().any(|one| one.task != gathered[0].task),
    };
    if has_folders {
        for Gathered { task, output, .. } in gathered {
            output.name = [task.as_bytes(), b"/", &output.name].concat();
        }
    }
}

/// A gather step is linked from steps of history too, if those had made the same.
fn one_of(listing: &ObjectHash, mut gathered: Vec<Gathered>) -> Option<Vec<u8>> {
    let bytes_of = |listed: &mut dyn Iterator<Item = &Gathered>| {
        let mut bytes = Vec::new();
        listed.for_each(|one| listing_line(&mut bytes, &one.output));
        (ObjectHash::of(&bytes) == *listing).then_some(bytes)
    };
    for is_grouped in [false, true] {
        if is_grouped {
            // Within a group, folders count as a part of the name, and names that are not UTF-8 stand among the others.
            order::sort_by(&mut gathered, |a, b| {
                (&a.output.name, a.origin, &a.output.object).cmp(&(
                    &b.output.name,
                    b.origin,
                    &b.output.object,
                ))
            });
        }
        let present = bytes_of(&mut gathered.iter().filter(|one| one.is_present));
        let found = present.or_else(|| bytes_of(&mut gathered.iter())).or_else(|| {
            let mut last: Option<(Origin, &NamedObject)> = None;
            bytes_of(&mut gathered.iter().filter(|one| {
                let this = Some((one.origin, &one.output));
                std::mem::replace(&mut last, this) != this
            }))
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The gather steps that work on this listing, live ones first, with their tasks and labels.
fn steps_on(reader: &Reader, listing: &ObjectHash) -> Result<Vec<(StepId, TaskId, Labels)>> {
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT s.id, s.task, s.labels FROM step s JOIN task t ON t.id = s.task
             WHERE s.object = ?1 AND t.gather = 1 ORDER BY s.live DESC, s.id DESC",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([listing], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

fn linked(reader: &Reader, step: StepId) -> Result<Vec<Gathered>> {
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT p.task, t.name, p.origin, p.labels, p.live = 1 AND p.state = 1, o.name, o.object, o.executable
             FROM step_link l JOIN step p ON p.id = l.from_step_id JOIN task t ON t.id = p.task
             JOIN output o ON o.step = p.id WHERE l.to_step_id = ?1
             ORDER BY t.name, o.name, output_origin(p.task, p.origin, o.name), o.object",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([step], |row| {
        let (producer, origin) = (row.get(0)?, row.get(2)?);
        let name = row.get::<_, NameBytes>(5)?.0;
        Ok(Gathered {
            producer,
            task: row.get(1)?,
            origin: Origin::output(producer, origin, &name),
            labels: row.get(3)?,
            is_present: row.get(4)?,
            path: name.clone(),
            output: NamedObject { name, object: row.get(6)?, executable: row.get(7)? },
        })
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// What a task that gathers files has found when it was looked at last.
fn files(reader: &Reader, task: TaskId) -> Result<Vec<Gathered>> {
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT path, name, object, executable FROM input_file WHERE task = ?1 AND path <> '' ORDER BY name, path",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([task], |row| {
        let path = row.get::<_, NameBytes>(0)?.0;
        let name = row.get::<_, NameBytes>(1)?.0;
        let output = NamedObject { name, object: row.get(2)?, executable: row.get(3)? };
        Ok((path, output))
    });
    let rows: Vec<(Vec<u8>, NamedObject)> = rows.and_then(|rows| rows.collect()).or_db(WHAT)?;
    let gathered = |(path, output): (Vec<u8>, NamedObject)| Gathered {
        producer: FILES,
        task: String::new(),
        origin: Origin::file(&path),
        labels: Labels::default(),
        is_present: true,
        path,
        output,
    };
    Ok(rows.into_iter().map(gathered).collect())
}
