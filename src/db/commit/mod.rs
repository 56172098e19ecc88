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
use crate::ids::{RunId, StepId, TaskIndex};
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::origin::Origin;

use crate::db::commit::completion::{Completion, Effects, KnownWork, SharedStep};
use crate::db::commit::runs::unsettle;
use crate::db::commit::turns::Turn;
use crate::db::dependencies::{has_valid_result, is_valid, keep_result, result_of, set_result};
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

/// Where a step stands, and what its results were.
#[derive(Clone)]
pub(in crate::db) struct StepPlace {
    pub(in crate::db) origin: Origin,
    pub(in crate::db) labels: Labels,
    key: i64,
    /// It has the results of another step.
    is_same: bool,
}

/// A step whose outputs support others.
pub(in crate::db) struct DoneStep {
    pub(in crate::db) task: TaskIndex,
    pub(in crate::db) step: StepId,
    pub(in crate::db) place: StepPlace,
    pub(in crate::db) outputs: Vec<NamedObject>,
}

impl DoneStep {
    /// Reads one.
    pub(in crate::db) fn read(reader: &Reader, task: TaskIndex, step: StepId) -> Result<DoneStep> {
        let outputs = outputs_of(reader, step)?;
        Ok(DoneStep { task, step, place: place_and_turn(reader, step)?.0, outputs })
    }
}

/// Where a step stands, and its turn in this run.
fn place_and_turn(reader: &Reader, step: StepId) -> Result<(StepPlace, Option<Turn>)> {
    let sql = "SELECT origin, labels, key, same_as IS NOT NULL, (SELECT turn FROM temp.turn WHERE step = ?1)
               FROM step WHERE id = ?1";
    statement(reader, sql)?
        .query_row([step], |row| {
            let place = StepPlace {
                origin: row.get(0)?,
                labels: row.get(1)?,
                key: row.get(2)?,
                is_same: row.get(3)?,
            };
            Ok((place, row.get(4)?))
        })
        .or_db(WHAT)
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
    if verdict.is_again() {
        return Ok(());
    }
    let (place, turn) = place_and_turn(writer, step)?;
    let is_anew = turn == Some(Turn::Anew);
    if is_anew {
        turns::set(writer, step, Some(Turn::Over))?;
    }
    let has_failed = verdict == Verdict::Failed;
    let mut work = KnownWork { task, step, same_as: step, result: None, has_failed };
    // It keeps the result it has.
    if is_anew && work.has_failed {
        return share(writer, flow, work, place.key, effects);
    }
    let before = if is_anew { outputs_of(writer, step)? } else { Vec::new() };
    replace_result(writer, completion, &place)?;
    if flow.task(task).has_depfile {
        match has_failed {
            true => set_result(writer, step, None)?,
            false => {
                let Completion { outputs, dependencies, .. } = completion;
                keep_result(writer, (step, attempt.number), outputs, dependencies)?;
            }
        }
        work.result = result_of(writer, step)?;
    }
    let key = place.key;
    let outputs = completion.outputs.iter().map(Output::named).collect();
    let now = DoneStep { task, step, place, outputs };
    if is_anew {
        withdraw_lost(writer, flow, &now, before)?;
    }
    if verdict == Verdict::Done {
        support(writer, flow, now, effects)?;
    }
    share(writer, flow, work, key, effects)
}

/// A step that ran anew has these outputs `now`, and had those `before`.
fn withdraw_lost(
    writer: &mut Writer,
    flow: &Flow,
    step: &DoneStep,
    before: Vec<NamedObject>,
) -> Result<()> {
    let kept: HashSet<&NamedObject> = step.outputs.iter().collect();
    let had = before.len();
    let outputs: Vec<NamedObject> =
        before.into_iter().filter(|output| !kept.contains(output)).collect();
    if outputs.is_empty() && step.outputs.len() == had {
        return Ok(());
    }
    let DoneStep { task, step, ref place, .. } = *step;
    withdraw(writer, flow, DoneStep { task, step, place: place.clone(), outputs })
}

/// The step is done or failed, with the outputs of this attempt and no others.
fn replace_result(writer: &mut Writer, completion: &Completion, place: &StepPlace) -> Result<()> {
    let Completion { step, attempt, verdict, outputs, .. } = completion;
    let state = match verdict {
        Verdict::Done => StepState::Done,
        _ => StepState::Failed,
    };
    statement(writer, "UPDATE step SET state = ?2 WHERE id = ?1")?
        .execute(params![step, state])
        .or_db(WHAT)?;
    if attempt.number > 1 || place.is_same {
        statement(writer, "DELETE FROM output WHERE step = ?1")?.execute([step]).or_db(WHAT)?;
    }
    if place.is_same {
        let own = "UPDATE step SET same_as = NULL WHERE id = ?1";
        statement(writer, own)?.execute([step]).or_db(WHAT)?;
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

/// A step is live and done: its outputs support the steps of its consumers. One that stands on this very
/// output already simply comes alive again, and if it was done, what it made supports others
/// in turn: early cut-off.
pub(in crate::db) fn support(
    writer: &mut Writer,
    flow: &Flow,
    done: DoneStep,
    effects: &mut Effects,
) -> Result<()> {
    // A list, not recursion: a chain of revived steps may be as long as the graph.
    let mut waiting = vec![done];
    while let Some(DoneStep { task, step: producer, place, outputs }) = waiting.pop() {
        let producing = flow.task(task).id;
        for &index in &flow.task(task).consumers {
            let consumer = flow.task(index);
            if consumer.gather {
                continue;
            }
            if !consumer.is_ready() {
                look_again(writer, consumer)?;
                continue;
            }
            let is_taken = |output: &&NamedObject| consumer.takes(producing, &output.name);
            for output in outputs.iter().filter(is_taken) {
                let origin = Origin::output(producing, place.origin, &output.name);
                for labels in consumer.labels_on(producing, &output.name, &place.labels) {
                    let Some(side) = side_on(writer, flow, index, &labels)? else { continue };
                    let place = (&labels, origin, side);
                    let (step, supported) = activate(writer, consumer, output, place)?;
                    link(writer, producer, step)?;
                    let revived = effects.note(writer, flow, index, step, &labels, supported)?;
                    waiting.extend(revived);
                }
            }
        }
    }
    Ok(())
}

/// The listing of what a step of these labels sees by `with`; `None`: nothing, and so there is no such step.
pub(in crate::db) fn side_on(
    writer: &mut Writer,
    flow: &Flow,
    index: TaskIndex,
    labels: &Labels,
) -> Result<Option<Option<ObjectHash>>> {
    let task = flow.task(index);
    if task.with.is_empty() {
        return Ok(Some(None));
    }
    flow.read_sides(writer, index)?;
    Ok(task.sides.keep(writer, labels)?.map(Some))
}

/// Notes that a step consumes what another one made.
pub(in crate::db) fn link(writer: &mut Writer, from: StepId, to: StepId) -> Result<()> {
    let sql = "INSERT OR IGNORE INTO step_link(from_step_id, to_step_id) VALUES (?1, ?2)";
    statement(writer, sql)?.execute([from, to]).or_db(WHAT)?;
    Ok(())
}

pub(in crate::db) enum Supported {
    /// Nothing changes but its lineage.
    WasLive,
    /// Born, alive again or waiting until now, and still to run.
    Pending,
    /// Alive again or waiting until now, and done.
    Revived,
}

/// A step of this task and place has other outputs now, without those that are `lost`: what nothing else supports stops
/// being live. Gather steps further down stay, with the results they have, until [`replace_gathered`] has others for
/// them, in this run or in the next one, whose plan looks at them again.
fn withdraw(writer: &mut Writer, flow: &Flow, lost: DoneStep) -> Result<()> {
    unsettle(writer)?;
    for gather in flow.gathers_below(lost.task) {
        look_again(writer, flow.task(gather))?;
    }
    let mut open = vec![lost];
    while let Some(DoneStep { task, step: from, place, outputs }) = open.pop() {
        let producer = flow.task(task).id;
        for &index in &flow.task(task).consumers {
            let consumer = flow.task(index);
            if consumer.gather {
                continue;
            }
            for output in outputs.iter().filter(|output| consumer.takes(producer, &output.name)) {
                let origin = Origin::output(producer, place.origin, &output.name);
                for labels in consumer.labels_on(producer, &output.name, &place.labels) {
                    // No other output has this origin, so nothing else supports it.
                    let known = match consumer.with.is_empty() {
                        true => {
                            let key = key_on(consumer, output, &labels, None);
                            known(writer, consumer, output, (&labels, origin, None), key)?
                        }
                        false => seeing(writer, consumer, output, (&labels, origin), from)?,
                    };
                    let Some(Known { step, live: true, state }) = known else { continue };
                    if state == StepState::Done {
                        open.push(DoneStep::read(writer, index, step)?);
                    }
                    retire(writer, step)?;
                }
            }
        }
    }
    Ok(())
}

/// The next plan looks at all steps of a task, unless this run comes to do so before.
fn look_again(writer: &mut Writer, task: &FlowTask) -> Result<()> {
    statement(writer, "UPDATE task SET wiring = NULL WHERE id = ?1 AND wiring IS NOT NULL")?
        .execute([task.id])
        .or_db(WHAT)?;
    Ok(())
}

/// Steps of a gather task that waited in vain for what runs anew stop being live: `by` has taken the place of those with
/// its labels, or all of the task has been gathered (`None`).
pub(in crate::db) fn replace_gathered(
    writer: &mut Writer,
    flow: &Flow,
    index: TaskIndex,
    by: Option<(StepId, &Labels)>,
) -> Result<()> {
    let waiting: Vec<StepId> = {
        let sql = "SELECT s.id FROM temp.turn t JOIN step s ON s.id = t.step
             WHERE t.task = ?1 AND t.turn < 2 AND s.live = 1 AND s.id IS NOT ?2 AND (?2 IS NULL OR s.labels IS ?3)";
        let mut select = statement(writer, sql)?;
        let (step, labels) = (by.map(|(step, _)| step), by.map(|(_, labels)| labels));
        let rows = select.query_map(params![flow.task(index).id, step, labels], |row| row.get(0));
        rows.and_then(|rows| rows.collect()).or_db(WHAT)?
    };
    for step in waiting {
        let old = DoneStep::read(writer, index, step)?;
        retire(writer, step)?;
        withdraw(writer, flow, old)?;
    }
    Ok(())
}

fn retire(writer: &mut Writer, step: StepId) -> Result<()> {
    turns::set(writer, step, None)?;
    statement(writer, "UPDATE step SET live = 0 WHERE id = ?1")?.execute([step]).or_db(WHAT)?;
    Ok(())
}

/// The column `key` of the step of a task on an input.
fn key_on(task: &FlowTask, input: &NamedObject, labels: &Labels, side: Option<&ObjectHash>) -> i64 {
    let NamedObject { name, object, executable } = input;
    short_key(&step_key(&task.recipe_hash, object, name, *executable, labels, side))
}

/// What is known of the step of a task on an input.
struct Known {
    step: StepId,
    live: bool,
    state: StepState,
}

fn known(
    reader: &Reader,
    task: &FlowTask,
    input: &NamedObject,
    (labels, origin, side): (&Labels, Origin, Option<ObjectHash>),
    key: i64,
) -> Result<Option<Known>> {
    let NamedObject { name, object, executable } = input;
    statement(
        reader,
        "SELECT id, live, state FROM step
         WHERE key = ?1 AND origin = ?8 AND task = ?2 AND recipe = ?3 AND name = ?4 AND object = ?5
           AND executable = ?6 AND labels IS ?7 AND side IS ?9",
    )?
    .query_row(
        params![key, task.id, task.recipe, Name(name), object, executable, labels, origin, side],
        read_known,
    )
    .optional()
    .or_db(WHAT)
}

fn read_known(row: &rusqlite::Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known { step: row.get(0)?, live: row.get(1)?, state: row.get(2)? })
}

/// The live step of a task with `with` on an output of the step `from`, whatever it sees.
fn seeing(
    reader: &Reader,
    task: &FlowTask,
    input: &NamedObject,
    (labels, origin): (&Labels, Origin),
    from: StepId,
) -> Result<Option<Known>> {
    let NamedObject { name, object, executable } = input;
    statement(
        reader,
        "SELECT s.id, s.live, s.state FROM step_link l JOIN step s ON s.id = l.to_step_id
         WHERE l.from_step_id = ?1 AND s.task = ?2 AND s.live = 1 AND s.name = ?3 AND s.object = ?4
           AND s.executable = ?5 AND s.labels IS ?6 AND s.origin = ?7",
    )?
    .query_row(params![from, task.id, Name(name), object, executable, labels, origin], read_known)
    .optional()
    .or_db(WHAT)
}

/// Finds or makes the step of a task on an input, in this place (labels, origin, what it sees), and makes it live.
pub(in crate::db) fn activate(
    writer: &mut Writer,
    task: &FlowTask,
    input: &NamedObject,
    place: (&Labels, Origin, Option<ObjectHash>),
) -> Result<(StepId, Supported)> {
    let (labels, origin, side) = place;
    let key = key_on(task, input, labels, side.as_ref());
    match known(writer, task, input, place, key)? {
        Some(Known { step, live: true, state }) => {
            let supported = match turns::of(writer, step)? {
                None | Some(Turn::Anew | Turn::Over) => Supported::WasLive,
                Some(Turn::WaitsAnew) => {
                    turns::set(writer, step, Some(Turn::Anew))?;
                    Supported::Pending
                }
                Some(Turn::Waits) => {
                    turns::set(writer, step, None)?;
                    if state == StepState::Failed {
                        // It was left out, and may not fail on what it is given now.
                        statement(writer, "UPDATE step SET state = 0 WHERE id = ?1")?
                            .execute([step])
                            .or_db(WHAT)?;
                    }
                    match state {
                        StepState::Done => Supported::Revived,
                        _ => Supported::Pending,
                    }
                }
            };
            Ok((step, supported))
        }
        Some(Known { step, live: false, state }) => {
            // What comes out of history in a run that makes it anew has no result that anything relies on.
            let is_anew = task.runs_step_anew(step, labels) && task.may_run(labels);
            let is_done = state == StepState::Done
                && !is_anew
                && (!task.has_depfile || has_valid_result(writer, step)?);
            let state = if is_done { StepState::Done } else { StepState::Pending };
            statement(writer, "UPDATE step SET live = 1, state = ?2 WHERE id = ?1")?
                .execute(params![step, state])
                .or_db(WHAT)?;
            Ok((step, if is_done { Supported::Revived } else { Supported::Pending }))
        }
        None => {
            let NamedObject { name, object, executable } = input;
            let (task, recipe, name) = (task.id, task.recipe, Name(name));
            statement(
                writer,
                "INSERT INTO step(object, task, recipe, name, key, executable, live, state, labels, origin, side)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 1, 0, ?7, ?8, ?9)",
            )?
            .execute(params![object, task, recipe, name, key, executable, labels, origin, side])
            .or_db(WHAT)?;
            Ok((StepId(writer.conn.last_insert_rowid()), Supported::Pending))
        }
    }
}

/// What makes two steps one piece of work, `t` and `s`; that they have one key is asked first. Not steps of two tasks
/// that say the same: a script may ask for TASK_NAME.
pub(in crate::db) const SAME_WORK: &str =
    "t.task = s.task AND t.recipe = s.recipe AND t.object = s.object AND t.name = s.name
  AND t.executable = s.executable AND t.labels IS s.labels AND t.side IS s.side";

/// The newest valid result of the work of the step `s` whose objects are all there; NULL if there is none.
pub(in crate::db) fn valid_result(task: &FlowTask) -> String {
    format!(
        "(SELECT r.id FROM step t INDEXED BY idx_step_key CROSS JOIN result r ON r.step = t.id
          WHERE t.key = s.key AND {SAME_WORK} AND {} AND {}
          AND NOT EXISTS (SELECT 1 FROM result_output o WHERE o.result = r.id
            AND NOT EXISTS (SELECT 1 FROM object WHERE hash = o.object)) ORDER BY r.id DESC LIMIT 1)",
        is_valid("r.id"),
        task.lacks_nothing("result_output o WHERE o.result = r.id")
    )
}

/// A step, `work.same_as`, is through: other live steps that are the same work have its results, without running, or have
/// failed with it.
fn share(
    writer: &mut Writer,
    flow: &Flow,
    work: KnownWork,
    key: i64,
    effects: &mut Effects,
) -> Result<()> {
    let (task, step) = (flow.task(work.task), work.same_as);
    if !task.shares_work() {
        return Ok(());
    }
    // Mostly there are none, which has to be found out at little cost.
    let others: Vec<StepId> = {
        let sql = "SELECT id FROM step INDEXED BY idx_step_key WHERE key = ?1 AND task = ?2 AND id <> ?3 ORDER BY id";
        let mut select = statement(writer, sql)?;
        let rows = select.query_map(params![key, task.id, step], |row| row.get(0));
        rows.and_then(|rows| rows.collect()).or_db(WHAT)?
    };
    if others.is_empty() {
        return Ok(());
    }
    let is_due = format!(
        "SELECT EXISTS (SELECT 1 FROM step s JOIN step t LEFT JOIN temp.turn u ON u.step = t.id
         WHERE s.id = ?1 AND t.id = ?2 AND t.live = 1 AND {SAME_WORK}
           AND (CASE u.turn WHEN 2 THEN 1 WHEN 0 THEN 0 WHEN 1 THEN 0 ELSE t.state = 0 END))"
    );
    for other in others {
        let is_due: bool =
            statement(writer, &is_due)?.query_row([step, other], |row| row.get(0)).or_db(WHAT)?;
        if is_due {
            take_results(writer, flow, KnownWork { step: other, ..work }, effects)?;
        }
    }
    Ok(())
}

/// Gives pending steps the results of others that were found to have done the same work, or lets them fail with them. Whichever is not pending
/// any more is left as it is.
///
/// # Errors
/// If the rows can't be written.
pub fn share_known(writer: &mut Writer, flow: &Flow, known: &[KnownWork]) -> Result<Effects> {
    let mut effects = Effects::default();
    for work in known {
        take_results(writer, flow, *work, &mut effects)?;
    }
    Ok(effects)
}

/// A step that is pending or was to run anew is done, with the outputs of another one; or has failed with it.
fn take_results(
    writer: &mut Writer,
    flow: &Flow,
    work: KnownWork,
    effects: &mut Effects,
) -> Result<()> {
    let KnownWork { task, step, same_as: with, result, has_failed } = work;
    let is_anew = turns::of(writer, step)? == Some(Turn::Anew);
    let sql = "SELECT name, labels FROM step WHERE id = ?1 AND live = 1 AND (state = 0 OR ?3)
         AND (?4 OR EXISTS (SELECT 1 FROM step WHERE id = ?2 AND state = 1))";
    let is_certain = has_failed || result.is_some();
    let due: Option<(NameBytes, Labels)> = statement(writer, sql)?
        .query_row(params![step, with, is_anew, is_certain], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
        .or_db(WHAT)?;
    // What --only leaves out may have results, but it doesn't fail.
    let due = due.filter(|(_, labels)| !has_failed || flow.task(task).may_run(labels));
    let Some((NameBytes(name), labels)) = due else { return Ok(()) };
    if is_anew {
        turns::set(writer, step, Some(Turn::Over))?;
    }
    effects.shared.push(SharedStep { work, name, labels });
    if has_failed {
        if !is_anew {
            let sql = "UPDATE step SET state = 2, same_as = ?2 WHERE id = ?1";
            statement(writer, sql)?.execute([step, with]).or_db(WHAT)?;
            let sql = "DELETE FROM output WHERE step = ?1";
            statement(writer, sql)?.execute([step]).or_db(WHAT)?;
            if flow.task(task).has_depfile {
                set_result(writer, step, None)?;
            }
        }
        return Ok(());
    }
    let before = if is_anew { outputs_of(writer, step)? } else { Vec::new() };
    statement(writer, "DELETE FROM output WHERE step = ?1")?.execute([step]).or_db(WHAT)?;
    match result {
        None => {
            let sql = "INSERT INTO output(step, name, object, executable)
                       SELECT ?1, name, object, executable FROM output WHERE step = ?2";
            statement(writer, sql)?.execute([step, with]).or_db(WHAT)?;
        }
        Some(result) => {
            let sql = "INSERT INTO output(step, name, object, executable)
                       SELECT ?1, name, object, executable FROM result_output WHERE result = ?2";
            statement(writer, sql)?.execute(params![step, result]).or_db(WHAT)?;
            set_result(writer, step, Some(result))?;
        }
    }
    // Its own, from before: then it is nobody else's.
    let sql = match result.is_some() {
        true => "UPDATE step SET state = 1, same_as = nullif(?2, ?1) WHERE id = ?1",
        false => {
            "UPDATE step SET state = 1, same_as = coalesce((SELECT same_as FROM step WHERE id = ?2), ?2) WHERE id = ?1"
        }
    };
    statement(writer, sql)?.execute([step, with]).or_db(WHAT)?;
    let done = DoneStep::read(writer, task, step)?;
    if is_anew {
        withdraw_lost(writer, flow, &done, before)?;
    }
    support(writer, flow, done, effects)
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
