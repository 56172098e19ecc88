//! The completion of steps: attempt, outputs, links and the new steps of every consumer, one
//! transaction for all that is ready. "Running" is never written, so a kill leaves nothing to clean up.

pub(in crate::db) mod completion;
pub(in crate::db) mod leaves;
pub(in crate::db) mod runs;
pub(in crate::db) mod totals;
pub(in crate::db) mod turns;

use std::collections::HashSet;

use rusqlite::{CachedStatement, OptionalExtension, params};

use crate::attempt::{NamedObject, Output, StepState, Verdict};
use crate::error::{OrDb, Result};
use crate::ids::{RunId, StepId, TaskId, TaskIndex};
use crate::object::ObjectHash;

use crate::db::commit::completion::{Completion, Effects};
use crate::db::commit::runs::unsettle;
use crate::db::commit::turns::Turn;
use crate::db::flow::{Flow, FlowTask};
use crate::db::functions::{short_key, step_key};
use crate::db::types::{Name, NameBytes};
use crate::db::{Reader, Writer};

const WHAT: &str = "commit steps";

/// Commits attempts. When it returns, they are as durable as the connection was opened for.
///
/// # Errors
/// If the rows can't be written.
pub fn commit(
    writer: &mut Writer,
    flow: &Flow,
    run: RunId,
    completions: &[Completion],
) -> Result<Effects> {
    let mut effects = Effects::default();
    for completion in completions {
        record(writer, flow, run, completion, &mut effects)?;
    }
    crate::db::commit::totals::add_to_run(writer, flow, run, completions)?;
    Ok(effects)
}

fn statement<'a>(reader: &'a Reader, sql: &str) -> Result<CachedStatement<'a>> {
    reader.conn.prepare_cached(sql).or_db(WHAT)
}

fn record(
    writer: &mut Writer,
    flow: &Flow,
    run: RunId,
    completion: &Completion,
    effects: &mut Effects,
) -> Result<()> {
    let &Completion { step, task, ref attempt, verdict, .. } = completion;
    insert_objects(writer, completion.objects())?;
    crate::db::attempts::insert(writer, step, run, attempt)?;
    if verdict == Verdict::TryAgain {
        return Ok(());
    }
    let is_anew = turns::of(writer, step)? == Some(Turn::Anew);
    if is_anew {
        turns::set(writer, step, Some(Turn::Over))?;
    }
    // It keeps the result it has, unless its task says that none is to be used twice.
    if is_anew && verdict == Verdict::Failed && flow.task(task).cache {
        return Ok(());
    }
    let before = if is_anew { outputs_of(writer, step)? } else { Vec::new() };
    replace_result(writer, completion)?;
    let now: Vec<NamedObject> = completion.outputs.iter().map(Output::named).collect();
    if is_anew {
        let kept: HashSet<&NamedObject> = now.iter().collect();
        let lost: Vec<NamedObject> =
            before.iter().filter(|output| !kept.contains(output)).cloned().collect();
        if !lost.is_empty() || now.len() != before.len() || verdict == Verdict::Failed {
            withdraw(writer, flow, task, lost)?;
        }
    }
    match verdict {
        Verdict::Done => support(writer, flow, task, step, now, effects),
        _ => Ok(()),
    }
}

/// The step is done or failed, with the outputs of this attempt and no others.
fn replace_result(writer: &mut Writer, completion: &Completion) -> Result<()> {
    let Completion { step, attempt, verdict, outputs, .. } = completion;
    let state = match verdict {
        Verdict::Done => StepState::Done,
        _ => StepState::Failed,
    };
    statement(writer, "UPDATE step SET state = ?2 WHERE id = ?1")?
        .execute(params![step, state])
        .or_db(WHAT)?;
    if attempt.number > 1 {
        statement(writer, "DELETE FROM output WHERE step = ?1")?.execute([step]).or_db(WHAT)?;
    }
    let mut insert = statement(
        writer,
        "INSERT INTO output(step, name, object, executable) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for output in outputs {
        insert
            .execute(params![step, Name(&output.name), output.object, output.executable])
            .or_db(WHAT)?;
    }
    Ok(())
}

pub(in crate::db) fn insert_objects(
    writer: &mut Writer,
    objects: impl IntoIterator<Item = (ObjectHash, u64)>,
) -> Result<()> {
    let mut insert = statement(
        writer,
        "INSERT INTO object(hash, size) VALUES (?1, ?2) ON CONFLICT(hash) DO UPDATE SET size = ?2
         WHERE size <> ?2",
    )?;
    for (hash, size) in objects {
        insert.execute(params![hash, i64::try_from(size).unwrap_or(i64::MAX)]).or_db(WHAT)?;
    }
    Ok(())
}

/// Commits objects that no step made: input files.
///
/// # Errors
/// If the rows can't be written.
pub fn put_objects(writer: &mut Writer, objects: &[(ObjectHash, u64)]) -> Result<()> {
    insert_objects(writer, objects.iter().copied())?;
    Ok(())
}

/// Size in bytes of an object that is committed. A row proves an object; a name on disk doesn't.
///
/// # Errors
/// If the database can't be read.
pub fn known_object(reader: &Reader, hash: &ObjectHash) -> Result<Option<u64>> {
    statement(reader, "SELECT size FROM object WHERE hash = ?1")?
        .query_row([hash], |row| row.get::<_, i64>(0))
        .optional()
        .map(|size| size.map(i64::unsigned_abs))
        .or_db("look up an object")
}

/// A step is live and done: its outputs support the steps of its consumers. One that knows this very
/// object under this name simply comes alive again, and if it was done, what it made supports others
/// in turn: early cut-off.
pub(in crate::db) fn support(
    writer: &mut Writer,
    flow: &Flow,
    task: TaskIndex,
    step: StepId,
    outputs: Vec<NamedObject>,
    effects: &mut Effects,
) -> Result<()> {
    // A list, not recursion: a chain of revived steps may be as long as the graph.
    let mut done = vec![(task, step, outputs)];
    while let Some((task, producer, outputs)) = done.pop() {
        for &index in &flow.task(task).consumers {
            let consumer = flow.task(index);
            if consumer.gather {
                continue;
            }
            let (mut pending, mut revived) = (0, 0);
            let is_taken = |output: &&NamedObject| consumer.takes(flow.task(task).id, &output.name);
            for output in outputs.iter().filter(is_taken) {
                match supported(writer, consumer, producer, output)? {
                    Supported::WasLive => {}
                    Supported::Pending => pending += 1,
                    Supported::Revived(step) => {
                        revived += 1;
                        done.push((index, step, outputs_of(writer, step)?));
                    }
                }
            }
            effects.note(index, pending, revived);
        }
    }
    Ok(())
}

pub(in crate::db) enum Supported {
    /// It has another support already; nothing changes but its lineage.
    WasLive,
    /// Born, alive again or waiting until now, and still to run.
    Pending,
    /// Alive again or waiting until now, and done.
    Revived(StepId),
}

/// A step of this task has other outputs now, without those that are `lost`: what nothing else supports stops being live, and so
/// does every gather step further down, whose inputs are no longer known.
fn withdraw(
    writer: &mut Writer,
    flow: &Flow,
    task: TaskIndex,
    lost: Vec<NamedObject>,
) -> Result<()> {
    unsettle(writer)?;
    let mut open = vec![(task, lost)];
    for gather in flow.gathers_below(task) {
        for step in live_steps_of(writer, flow.task(gather).id)? {
            open.push((gather, outputs_of(writer, step)?));
            retire(writer, step)?;
        }
    }
    while let Some((task, lost)) = open.pop() {
        for &index in &flow.task(task).consumers {
            let consumer = flow.task(index);
            if consumer.gather {
                continue;
            }
            let producer = flow.task(task).id;
            for output in lost.iter().filter(|output| consumer.takes(producer, &output.name)) {
                let Some(Known { step, live: true, state }) = known(writer, consumer, output)?
                else {
                    continue;
                };
                if !is_supported(writer, flow, index, step, output)? {
                    if state == StepState::Done {
                        open.push((index, outputs_of(writer, step)?));
                    }
                    retire(writer, step)?;
                }
            }
        }
    }
    Ok(())
}

/// True if a live step that is done has made what a step works on.
fn is_supported(
    reader: &Reader,
    flow: &Flow,
    index: TaskIndex,
    step: StepId,
    input: &NamedObject,
) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM step_link l JOIN step p ON p.id = l.from_step_id
           JOIN output o ON o.step = p.id AND o.name = ?2
           WHERE l.to_step_id = ?1 AND p.task IN ({}) AND p.live = 1 AND p.state = 1
           AND o.object = ?3 AND o.executable = ?4 AND accepts({}, p.task, o.name))",
        flow.ids(&flow.task(index).from),
        index.0
    );
    statement(reader, &sql)?
        .query_row(params![step, Name(&input.name), input.object, input.executable], |row| {
            row.get(0)
        })
        .or_db(WHAT)
}

fn live_steps_of(reader: &Reader, task: TaskId) -> Result<Vec<StepId>> {
    let mut select = statement(reader, "SELECT id FROM step WHERE task = ?1 AND live = 1")?;
    let rows = select.query_map([task], |row| row.get(0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

fn retire(writer: &mut Writer, step: StepId) -> Result<()> {
    turns::set(writer, step, None)?;
    statement(writer, "UPDATE step SET live = 0 WHERE id = ?1")?.execute([step]).or_db(WHAT)?;
    Ok(())
}

/// What is known of the step of a task on an object.
struct Known {
    step: StepId,
    live: bool,
    state: StepState,
}

fn known(reader: &Reader, task: &FlowTask, input: &NamedObject) -> Result<Option<Known>> {
    let key = short_key(&step_key(&task.recipe_hash, &input.object, &input.name, input.executable));
    statement(
        reader,
        "SELECT id, live, state FROM step
         WHERE key = ?1 AND task = ?2 AND recipe = ?3 AND name = ?4 AND object = ?5
           AND executable = ?6",
    )?
    .query_row(
        params![key, task.id, task.recipe, Name(&input.name), input.object, input.executable],
        |row| Ok(Known { step: row.get(0)?, live: row.get(1)?, state: row.get(2)? }),
    )
    .optional()
    .or_db(WHAT)
}

fn supported(
    writer: &mut Writer,
    consumer: &FlowTask,
    producer: StepId,
    output: &NamedObject,
) -> Result<Supported> {
    let (step, supported) = activate(writer, consumer, output)?;
    statement(writer, "INSERT OR IGNORE INTO step_link(from_step_id, to_step_id) VALUES (?1, ?2)")?
        .execute(params![producer, step])
        .or_db(WHAT)?;
    Ok(supported)
}

/// Finds or makes the step of a task on an object, and makes it live.
pub(in crate::db) fn activate(
    writer: &mut Writer,
    task: &FlowTask,
    input: &NamedObject,
) -> Result<(StepId, Supported)> {
    match known(writer, task, input)? {
        Some(Known { step, live: true, state }) => {
            let supported = match turns::of(writer, step)? {
                None | Some(Turn::Anew | Turn::Over) => Supported::WasLive,
                Some(Turn::WaitsAnew) => {
                    turns::set(writer, step, Some(Turn::Anew))?;
                    Supported::Pending
                }
                Some(Turn::Waits) => {
                    turns::set(writer, step, None)?;
                    match state {
                        StepState::Done => Supported::Revived(step),
                        _ => Supported::Pending,
                    }
                }
            };
            Ok((step, supported))
        }
        Some(Known { step, live: false, state }) => {
            // What comes out of history in a run that makes it anew has no result that anything relies on.
            let is_done = state == StepState::Done && !task.runs_anew();
            let state = if is_done { StepState::Done } else { StepState::Pending };
            statement(writer, "UPDATE step SET live = 1, state = ?2 WHERE id = ?1")?
                .execute(params![step, state])
                .or_db(WHAT)?;
            Ok((step, if is_done { Supported::Revived(step) } else { Supported::Pending }))
        }
        None => {
            statement(
                writer,
                "INSERT INTO step(object, task, recipe, name, key, executable, live, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, 0)",
            )?
            .execute(params![
                input.object,
                task.id,
                task.recipe,
                Name(&input.name),
                short_key(&step_key(
                    &task.recipe_hash,
                    &input.object,
                    &input.name,
                    input.executable
                )),
                input.executable
            ])
            .or_db(WHAT)?;
            Ok((StepId(writer.conn.last_insert_rowid()), Supported::Pending))
        }
    }
}

/// The outputs of a step, by name.
pub(in crate::db) fn outputs_of(reader: &Reader, step: StepId) -> Result<Vec<NamedObject>> {
    let mut select = statement(
        reader,
        "SELECT name, object, executable FROM output WHERE step = ?1 ORDER BY name",
    )?;
    let rows = select.query_map([step], |row| {
        Ok(NamedObject {
            name: row.get::<_, NameBytes>(0)?.0,
            object: row.get(1)?,
            executable: row.get(2)?,
        })
    });
    rows.and_then(|rows| rows.collect()).or_db("read outputs")
}
