//! Why the steps of a plan have to run, counted per task. Reads the temporary tables that `plan` left on
//! this connection; only a dry run asks.

use std::collections::HashSet;

use rusqlite::{OptionalExtension, params};

use crate::error::{OrDb, Result};
use crate::ids::{RecipeId, StepId, TaskIndex};
use crate::labels::Labels;

use crate::db::Reader;
use crate::db::commit::valid_result;
use crate::db::dependencies::PRESENT;
use crate::db::flow::{Flow, FlowTask};
use crate::db::plan::gather::{each_group, labels_of};
use crate::db::types::NameBytes;
use crate::order;

const WHAT: &str = "look for reasons";

/// Why a step has to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Nothing of this name was worked on before.
    New,
    /// Another recipe than the step that it replaces.
    Recipe,
    /// Another object than the step that it replaces.
    Input,
    /// It failed.
    Failed,
    /// It was to run already: the run was stopped, or killed.
    Pending,
    /// A file that it has said it read is not what it was.
    Dependency,
    /// It was done, but lacks something that `outputs` asks for now.
    Lacking,
    /// It was done, but something that it made is not there any more.
    Gone,
    /// `-B`
    Forced,
    /// `cache = false`
    Uncached,
}

impl Why {
    /// True if the step was never seen before.
    pub fn is_fresh(self) -> bool {
        matches!(self, Why::New | Why::Recipe | Why::Input)
    }

    /// One word, for programs.
    pub fn word(self) -> &'static str {
        match self {
            Why::New => "new",
            Why::Recipe => "recipe",
            Why::Input => "input",
            Why::Failed => "failed",
            Why::Pending => "pending",
            Why::Dependency => "dependency",
            Why::Lacking => "lacking",
            Why::Gone => "gone",
            Why::Forced => "forced",
            Why::Uncached => "uncached",
        }
    }
}

/// The steps of a task that have to run, by reason; none twice, and none that `--only` leaves out.
///
/// # Errors
/// If the database can't be read.
pub fn reasons(reader: &Reader, flow: &Flow, index: TaskIndex) -> Result<Vec<(Why, u64)>> {
    let task = flow.task(index);
    let mut reasons: Vec<(Why, u64)> = Vec::new();
    let known = of_known(reader, index, task)?;
    for (why, count) in of_fresh(reader, index, task)?.into_iter().chain(known) {
        if count == 0 {
            continue;
        }
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, sum)) => *sum += count,
            None => reasons.push((why, count)),
        }
    }
    order::sort_by(&mut reasons, Ord::cmp);
    Ok(reasons)
}

/// A step that is born replaces the one of its name that stops being live; of a table's row, the one with its labels.
fn of_fresh(reader: &Reader, index: TaskIndex, task: &FlowTask) -> Result<Vec<(Why, u64)>> {
    // An index, because there may be as many of the one as of the other.
    reader
        .conn
        .execute_batch(
            "DROP TABLE IF EXISTS temp.leaving;
         CREATE TEMP TABLE leaving(name ANY PRIMARY KEY, is_same INTEGER) STRICT, WITHOUT ROWID;",
        )
        .or_db(WHAT)?;
    let place = if task.row_name.is_some() { "origin" } else { "name" };
    reader.conn.prepare_cached(&format!(
        "INSERT OR IGNORE INTO leaving SELECT s.{place}, s.recipe = ?2 FROM change c JOIN step s ON s.id = c.step
         WHERE c.task = ?1 AND c.live = 0 AND s.live = 1 ORDER BY 2 DESC"
    ))
    .and_then(|mut s| s.execute(params![task.id, task.recipe]))
    .or_db(WHAT)?;
    reader
        .conn
        .prepare_cached(&format!(
            "SELECT count(*) FILTER (WHERE l.name IS NULL), count(*) FILTER (WHERE l.is_same = 0),
           count(*) FILTER (WHERE l.is_same = 1)
         FROM fresh f LEFT JOIN leaving l ON l.name = f.{place} WHERE f.task = ?1 AND f.held = 0
         AND may_run(?2, f.labels)"
        ))
        .and_then(|mut s| {
            s.query_row(params![task.id, index.0 as i64], |row| {
                let count = |n| row.get::<_, i64>(n).map(i64::unsigned_abs);
                Ok(vec![(Why::New, count(0)?), (Why::Recipe, count(1)?), (Why::Input, count(2)?)])
            })
        })
        .or_db(WHAT)
}

/// Steps `s` of task ?1, at place ?2, that are known and have to run.
fn known() -> String {
    format!("{KNOWN_STEPS} WHERE {MAY_RUN}")
}

/// The same, without the condition that goes with it.
const KNOWN_STEPS: &str =
    "FROM (SELECT step FROM change WHERE task = ?1 AND live = 1 AND state <> 1
    UNION ALL SELECT id FROM step WHERE task = ?1 AND live = 1 AND state <> 1
      AND NOT EXISTS (SELECT 1 FROM change c WHERE c.step = step.id)
    UNION ALL SELECT step FROM turn WHERE task = ?1 AND turn = 2) k
  JOIN step s ON s.id = k.step";

const MAY_RUN: &str = "NOT EXISTS (SELECT 1 FROM turn t WHERE t.step = s.id AND t.turn < 2) AND may_run(?2, s.labels)";

/// How many of the steps of a task that have to be done need no run: another one does the same work, or has done it.
///
/// # Errors
/// If the database can't be read.
pub fn shared(
    reader: &Reader,
    flow: &Flow,
    index: TaskIndex,
    reasons: &[(Why, u64)],
) -> Result<u64> {
    let task = flow.task(index);
    if !task.shares_work() || reasons.is_empty() {
        return Ok(0);
    }
    if task.has_depfile {
        return shared_with_depfile(reader, index, task);
    }
    let known = known();
    // Within an index, if it holds all that is asked for.
    let is_plain = task.only.is_none()
        && reasons.iter().all(|(why, _)| why.is_fresh())
        && !flow.tasks.iter().any(FlowTask::runs_anew);
    let keys = match is_plain {
        true => "fresh WHERE task = ?1".to_owned(),
        false => format!(
            "(SELECT key FROM fresh f WHERE f.task = ?1 AND f.held = 0 AND may_run(?2, f.labels)
             UNION ALL SELECT s.key {known})"
        ),
    };
    let sql = format!(
        "SELECT coalesce(sum(n - NOT (NOT ?3 AND EXISTS (SELECT 1 FROM step t INDEXED BY idx_step_key
           WHERE t.key = w.key AND t.state = 1 AND t.task = ?1 AND t.recipe = ?4
           AND NOT EXISTS (SELECT 1 FROM change c WHERE c.step = t.id AND c.state <> 1)))), 0)
         FROM (SELECT key, count(*) AS n FROM {keys} GROUP BY key) w"
    );
    reader
        .conn
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            let params = params![task.id, index.0 as i64, task.forced.is_any(), task.recipe];
            statement.query_row(params, |row| row.get::<_, i64>(0))
        })
        .map(i64::unsigned_abs)
        .or_db(WHAT)
}

/// The groups of a gather task that will have a step and have none yet: those that something was made for, and those
/// that the labels of steps upstream tell which have to run. What labels outputs to come will have is not known.
///
/// # Errors
/// If the database can't be read.
pub fn groups_to_come(reader: &Reader, flow: &Flow, index: TaskIndex) -> Result<u64> {
    let task = flow.task(index);
    let mut groups = HashSet::new();
    each_group(reader, flow, index, &mut |group, _| {
        groups.insert(group);
    })?;
    let known = known();
    let to_run = format!(
        "SELECT f.labels FROM fresh f WHERE f.task = ?1 AND f.held = 0 AND may_run(?2, f.labels)
         UNION ALL SELECT s.labels {known}"
    );
    let mut to_run = reader.conn.prepare(&to_run).or_db(WHAT)?;
    let upstream = flow.upstream(index).into_iter().enumerate().filter(|(_, is)| *is);
    for up in upstream.map(|(n, _)| TaskIndex(n)) {
        let mut rows = to_run.query(params![flow.task(up).id, up.0 as i64]).or_db(WHAT)?;
        while let Some(row) = rows.next().or_db(WHAT)? {
            let labels: Labels = row.get(0).or_db(WHAT)?;
            let group = labels.only(task.gather_keys.iter().map(String::as_str));
            if group.len() == task.gather_keys.len() {
                groups.insert(group);
            }
        }
    }
    let there = "SELECT labels FROM step s WHERE task = ?1 AND live = 1
          AND NOT EXISTS (SELECT 1 FROM turn t WHERE t.step = s.id AND t.turn < 2)
          AND NOT EXISTS (SELECT 1 FROM change c WHERE c.step = s.id AND c.live = 0)
        UNION ALL SELECT s.labels FROM change c JOIN step s ON s.id = c.step WHERE c.task = ?1 AND c.live = 1";
    for group in labels_of(reader, there, task.id)? {
        groups.remove(&group);
    }
    Ok(u64::try_from(groups.len()).unwrap_or(u64::MAX))
}

/// The same where work is known by a result that is valid, which may be an older one of the step itself.
fn shared_with_depfile(reader: &Reader, index: TaskIndex, task: &FlowTask) -> Result<u64> {
    let (result, known) = (valid_result(task), known());
    // To `valid_result`, a step that is not there yet is one, too.
    let sql = format!(
        "WITH due(key, task, recipe, object, name, executable, labels, side) AS (
           SELECT key, task, recipe, object, name, executable, labels, side FROM fresh f
             WHERE f.task = ?1 AND f.held = 0 AND may_run(?2, f.labels)
           UNION ALL SELECT s.key, s.task, s.recipe, s.object, s.name, s.executable, s.labels, s.side {known})
         SELECT coalesce(sum(n - NOT (NOT ?3 AND is_known)), 0) FROM (
           SELECT count(*) AS n, {result} IS NOT NULL AS is_known FROM due s GROUP BY key)"
    );
    reader
        .conn
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            let params = params![task.id, index.0 as i64, task.forced.is_any()];
            statement.query_row(params, |row| row.get::<_, i64>(0))
        })
        .map(i64::unsigned_abs)
        .or_db(WHAT)
}

/// The files on which results of a task depend whose steps have to be done, and that are not what they were, by path.
///
/// # Errors
/// If the database can't be read.
pub fn changed_dependencies(
    reader: &Reader,
    index: TaskIndex,
    task: &FlowTask,
) -> Result<Vec<Vec<u8>>> {
    let mut statement = reader
        .conn
        .prepare_cached(&format!(
            "SELECT f.path FROM dependency_file f WHERE f.id IN (
               SELECT v.file {KNOWN_STEPS} CROSS JOIN step_result x ON x.step = s.id
               CROSS JOIN result_dependency d ON d.result = x.result CROSS JOIN dependency_version v ON v.id = d.version
               CROSS JOIN dependency_file g ON g.id = v.file
               WHERE {MAY_RUN} AND {PRESENT} <> v.id) ORDER BY f.path"
        ))
        .or_db(WHAT)?;
    let rows = statement
        .query_map(params![task.id, index.0 as i64], |row| Ok(row.get::<_, NameBytes>(0)?.0));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

fn of_known(reader: &Reader, index: TaskIndex, task: &FlowTask) -> Result<Vec<(Why, u64)>> {
    let known = known();
    // It has results, none of which is valid or can have been taken.
    let is_outdated = match task.has_depfile {
        true => "EXISTS (SELECT 1 FROM step_result x WHERE x.step = s.id)",
        false => "0",
    };
    let mut statement = reader.conn
        .prepare_cached(&format!(
            "SELECT s.state, EXISTS (SELECT 1 FROM attempt a WHERE a.step = s.id AND a.outcome = 'ok') AS ok,
               {is_outdated} AS outdated, count(*), NOT {} AS lacking
             {known} GROUP BY 1, 2, 3, 5",
            task.lacks_nothing("output o WHERE o.step = s.id")
        ))
        .or_db(WHAT)?;
    let rows = statement.query_map(params![task.id, index.0 as i64], |row| {
        let why = match (row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(4)?) {
            (1, ..) if task.forced.is_any() => Why::Forced,
            (1, ..) if !task.cache => Why::Uncached,
            (2, ..) => Why::Failed,
            (_, true, _, true) => Why::Lacking,
            (_, _, true, _) => Why::Dependency,
            (_, true, ..) => Why::Gone,
            (_, false, ..) => Why::Pending,
        };
        Ok((why, row.get::<_, i64>(3)?.unsigned_abs()))
    });
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// The different labels of the steps that a task will have by this plan, and whether any with them isn't done.
///
/// # Errors
/// If the database can't be read.
pub fn planned_labels(reader: &Reader, task: &FlowTask) -> Result<Vec<(Labels, bool)>> {
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT labels, max(is_open) FROM (
               SELECT s.labels, coalesce(c.state, s.state) <> 1 AS is_open
                 FROM step s LEFT JOIN change c ON c.step = s.id WHERE s.task = ?1 AND coalesce(c.live, s.live) = 1
               UNION ALL SELECT labels, 1 FROM fresh WHERE task = ?1) GROUP BY labels",
        )
        .or_db(WHAT)?;
    let rows = statement.query_map([task.id], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.and_then(|rows| rows.collect()).or_db(WHAT)
}

/// True if a gather task that has no step has something to gather, or runs over nothing too.
///
/// # Errors
/// If the database can't be read.
pub fn has_inputs(reader: &Reader, flow: &Flow, index: TaskIndex) -> Result<bool> {
    if flow.task(index).gather_empty {
        return Ok(true);
    }
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM step p JOIN output o ON o.step = p.id WHERE p.task IN ({})
         AND p.live = 1 AND p.state = 1 AND accepts({}, p.task, o.name))",
        flow.ids(&flow.task(index).from),
        index.0
    );
    reader.conn.query_row(&sql, [], |row| row.get(0)).or_db(WHAT)
}

/// True if a task takes any output that there is of another one.
///
/// # Errors
/// If the database can't be read.
pub fn is_any_taken(
    reader: &Reader,
    flow: &Flow,
    producer: TaskIndex,
    consumer: TaskIndex,
) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM step p JOIN output o ON o.step = p.id
               WHERE p.task = ?1 AND p.live = 1 AND p.state = 1 AND accepts(?2, p.task, o.name))";
    reader
        .conn
        .prepare_cached(sql)
        .and_then(|mut s| {
            s.query_row(params![flow.task(producer).id, consumer.0 as i64], |row| row.get(0))
        })
        .or_db(WHAT)
}

/// How many live steps of a task are done and have left nothing, and the first of them.
///
/// # Errors
/// If the database can't be read.
pub fn left_nothing(
    reader: &Reader,
    flow: &Flow,
    index: TaskIndex,
) -> Result<Option<(u64, StepId)>> {
    let sql = "SELECT count(*), min(id) FROM step s INDEXED BY idx_step_task WHERE task = ?1 AND live = 1 AND state = 1
               AND NOT EXISTS (SELECT 1 FROM output o WHERE o.step = s.id)";
    let (count, first): (i64, Option<StepId>) = reader
        .conn
        .prepare_cached(sql)
        .and_then(|mut s| s.query_row([flow.task(index).id], |row| Ok((row.get(0)?, row.get(1)?))))
        .or_db(WHAT)?;
    Ok(first.map(|first| (count.unsigned_abs(), first)))
}

/// The fields of a recipe, as JSON.
///
/// # Errors
/// If the database can't be read.
pub fn recipe_fields(reader: &Reader, recipe: RecipeId) -> Result<Option<String>> {
    reader
        .conn
        .prepare_cached("SELECT fields FROM recipe WHERE id = ?1")
        .and_then(|mut s| s.query_row([recipe], |row| row.get(0)).optional())
        .or_db(WHAT)
}
