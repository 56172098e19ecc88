//! Leaves: live steps that still have to run. Read through a partial index that holds nothing else,
//! so a poll costs the same beside ten steps or ten million done ones. See `turns` for the others.

use std::collections::HashMap;

use rusqlite::params;

use crate::error::{OrDb, Result};
use crate::ids::{ResultId, StepId, TaskId};
use crate::labels::Labels;
use crate::object::ObjectHash;

use crate::db::Reader;
use crate::db::commit::{SAME_WORK, valid_result};
use crate::db::dependencies::maker;
use crate::db::flow::FlowTask;
use crate::db::types::NameBytes;
use crate::order;

/// A step that has to run.
#[derive(Debug, Clone)]
pub struct Leaf {
    pub step: StepId,
    pub object: ObjectHash,
    /// Logical name of the input.
    pub name: Vec<u8>,
    pub executable: bool,
    pub labels: Labels,
    /// The listing of what it sees by `with`.
    pub side: Option<ObjectHash>,
    /// Tells steps that are not the same work from most others: the beginning of STEP_KEY.
    pub key: i64,
    /// A step that has done the same work.
    pub same_as: Option<StepId>,
    /// If its task has a depfile: the result of that step, or an older one of its own, that is valid.
    pub result: Option<ResultId>,
    /// Number of the attempt to come, from 1.
    pub attempt: i64,
}

/// At most `limit` leaves of a task with ids above `after`, in the order of their ids. For the connection that made
/// the plan of the run.
///
/// # Errors
/// If the database can't be read.
pub fn leaves(reader: &Reader, task: &FlowTask, after: StepId, limit: usize) -> Result<Vec<Leaf>> {
    // Equal work with a depfile is only done if what it has read is still the same.
    let (same_as, result) = match task.has_depfile {
        true => ("NULL", valid_result(task)),
        false => (
            "(SELECT t.id FROM step t INDEXED BY idx_step_key WHERE t.key = s.key AND t.state = 1 AND t.id <> s.id AND {SAME_WORK} LIMIT 1)",
            "NULL".to_owned(),
        ),
    };
    let same_as = same_as.replace("{SAME_WORK}", SAME_WORK);
    // Two statements, each in the order of its index: one for both would sort all that is left at each poll.
    let pending = read_leaves(
        reader,
        &format!(
            "SELECT id, object, name, executable,
               (SELECT coalesce(max(number), 0) + 1 FROM attempt WHERE step = s.id), labels, key, {same_as}, side, {result}
             FROM step s WHERE task = ?1 AND state = 0 AND live = 1 AND state <> 1 AND id > ?2
               AND NOT EXISTS (SELECT 1 FROM temp.turn t WHERE t.step = s.id AND t.turn < 2)
             ORDER BY id LIMIT ?3"
        ),
        (task.id, after, limit),
    )?;
    let anew = read_leaves(
        reader,
        "SELECT s.id, s.object, s.name, s.executable,
           (SELECT coalesce(max(number), 0) + 1 FROM attempt WHERE step = s.id), s.labels, s.key, NULL, s.side, NULL
         FROM temp.turn t CROSS JOIN step s ON s.id = t.step
         WHERE t.task = ?1 AND t.turn = 2 AND t.step > ?2 ORDER BY t.step LIMIT ?3",
        (task.id, after, limit),
    )?;
    let mut leaves = pending;
    for leaf in &mut leaves {
        if let Some(result) = leaf.result {
            leaf.same_as = Some(maker(reader, result)?);
        }
    }
    if !anew.is_empty() {
        leaves.extend(anew);
        order::sort_by_key(&mut leaves, |leaf| leaf.step);
        leaves.truncate(limit);
    }
    Ok(leaves)
}

fn read_leaves(
    reader: &Reader,
    sql: &str,
    (task, after, limit): (TaskId, StepId, usize),
) -> Result<Vec<Leaf>> {
    let mut statement = reader.conn.prepare_cached(sql).or_db("read leaf steps")?;
    let rows = statement.query_map(params![task, after, limit as i64], |row| {
        Ok(Leaf {
            step: row.get(0)?,
            object: row.get(1)?,
            name: row.get::<_, NameBytes>(2)?.0,
            executable: row.get(3)?,
            labels: row.get(5)?,
            key: row.get(6)?,
            same_as: row.get(7)?,
            side: row.get(8)?,
            result: row.get(9)?,
            attempt: row.get(4)?,
        })
    });
    rows.and_then(|rows| rows.collect()).or_db("read leaf steps")
}

/// Live steps of a task that aren't done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Todo {
    pub pending: u64,
    pub failed: u64,
}

/// What is left to do, by task; tasks with nothing left are absent. Costs as much as there is left.
///
/// # Errors
/// If the database can't be read.
pub fn todo(reader: &Reader) -> Result<HashMap<TaskId, Todo>> {
    let mut statement = reader
        .conn
        .prepare_cached(
            "SELECT task, state, count(*) FROM step INDEXED BY idx_step_todo
             WHERE live = 1 AND state <> 1 GROUP BY task, state",
        )
        .or_db("count leaf steps")?;
    let mut todo: HashMap<TaskId, Todo> = HashMap::new();
    let rows = statement
        .query_map([], |row| {
            Ok((row.get::<_, TaskId>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        })
        .or_db("count leaf steps")?;
    for row in rows {
        let (task, state, count) = row.or_db("count leaf steps")?;
        let todo = todo.entry(task).or_default();
        match state {
            0 => todo.pending = count.unsigned_abs(),
            _ => todo.failed = count.unsigned_abs(),
        }
    }
    Ok(todo)
}

/// Calls `each` with task and labels of each live step that isn't done or runs anew; without those that wait for a
/// producer. For the connection that made the plan of the run.
///
/// # Errors
/// If the database can't be read.
pub fn each_todo(reader: &Reader, each: &mut dyn FnMut(TaskId, &Labels)) -> Result<()> {
    let what = "count leaf steps";
    // One by one: of a table's rows each has labels of its own, and a list of them would be most of a run's memory.
    let sql = "SELECT task, labels FROM step s INDEXED BY idx_step_todo WHERE live = 1 AND state <> 1
             AND NOT EXISTS (SELECT 1 FROM temp.turn t WHERE t.step = s.id AND t.turn < 2)
           UNION ALL SELECT s.task, s.labels FROM temp.turn t JOIN step s ON s.id = t.step WHERE t.turn = 2";
    let mut statement = reader.conn.prepare_cached(sql).or_db(what)?;
    let mut rows = statement.query([]).or_db(what)?;
    while let Some(row) = rows.next().or_db(what)? {
        each(row.get(0).or_db(what)?, &row.get(1).or_db(what)?);
    }
    Ok(())
}

/// True if a task has a live step: for a gather task, that it is planned.
///
/// # Errors
/// If the database can't be read.
pub fn has_live_step(reader: &Reader, task: TaskId) -> Result<bool> {
    reader
        .conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM step WHERE task = ?1 AND live = 1)")
        .and_then(|mut s| s.query_row([task], |row| row.get(0)))
        .or_db("look for a live step")
}
