//! Which steps live, computed set by set in temporary tables; nothing that lasts is written here
//! (see `apply`), so that a dry run is this file and nothing else.
//!
//! A step lives while something supports it: a present input file, or an output of a live step that
//! is done. Walking the tasks in topological order, each task is looked at in one of two ways:
//! *whole*, if its recipe or its wiring changed since it was last planned, or by *difference*: only
//! steps whose support changed further up. A task that neither applies to isn't looked at.
//!
//! `change` holds known steps that get another (live, state); `fresh` steps to be born; `gain` each
//! support that is new, from which the links are made; `turn` what runs anew, and what waits for that.

pub(in crate::db) mod apply;
pub(in crate::db) mod gather;
pub(in crate::db) mod reasons;
mod rules;
pub(in crate::db) mod tasks;
pub(in crate::db) mod with;

use rusqlite::params;

use crate::error::{OrDb, Result};
use crate::ids::{TaskId, TaskIndex};
use crate::object::ObjectHash;

use crate::db::Reader;
use crate::db::commit::turns::TABLE as TURNS;
use crate::db::flow::Flow;
use crate::db::functions;
use crate::db::plan::rules::{Planner, WHAT};

/// The plan of one task, in numbers of steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskPlan {
    /// Never seen before. As all others here, without those that wait for what runs anew further up.
    pub fresh: u64,
    /// Known and to be run (again): pending or failed before, forced, uncached.
    pub again: u64,
    /// Live and done.
    pub reused: u64,
    /// Stop being live.
    pub retired: u64,
    /// `gather`: its one step can't be known before everything upstream is done.
    pub waits_for_inputs: bool,
    /// `with`: inputs on which steps can be made when all that they see is done.
    pub held: u64,
}

impl TaskPlan {
    /// Steps that are not made before others are done: one, if it isn't known how many.
    pub fn to_come(&self) -> u64 {
        self.held.max(u64::from(self.waits_for_inputs))
    }
}

/// The plan of a run.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// By place in the manifest.
    pub tasks: Vec<TaskPlan>,
    /// Steps of tasks that the manifest doesn't have any more.
    pub retired_with_task: u64,
}

impl Plan {
    /// Steps that are known to have to run.
    pub fn to_run(&self) -> u64 {
        self.tasks.iter().map(|task| task.fresh + task.again).sum()
    }

    /// Steps that are not made before others are done, as far as they are known.
    pub fn to_come(&self) -> u64 {
        let has_work = |task: &TaskPlan| task.fresh + task.again + task.reused + task.held > 0;
        match self.tasks.iter().any(has_work) {
            true => self.tasks.iter().map(TaskPlan::to_come).sum(),
            false => 0,
        }
    }
}

/// What the last plan left in the row of a task.
pub struct Before {
    pub wiring: Option<ObjectHash>,
}

/// Computes the plan into temporary tables. Expects the scan's ([`crate::db::Inputs`]) to be there.
/// `before` is in manifest order, and so is `unread`: tasks with inputs that can't be read; `removed` are the tasks of the last manifest that this one hasn't.
///
/// # Errors
/// If the database can't be read.
pub fn plan(
    reader: &Reader,
    flow: &Flow,
    before: &[Before],
    unread: &[bool],
    removed: &[TaskId],
) -> Result<Plan> {
    prepare(reader)?;
    functions::register_flow(&reader.conn, flow)?;
    let variants = flow.tasks.iter().map(|task| task.variants).max().unwrap_or(1);
    for n in 0..variants {
        let mut insert =
            reader.conn.prepare_cached("INSERT INTO variant VALUES (?1)").or_db(WHAT)?;
        insert.execute([n as i64]).or_db(WHAT)?;
    }
    let planner = Planner { reader, flow };
    for &task in removed {
        planner.run(
            "INSERT INTO change SELECT id, task, 0, state, state = 1 FROM step WHERE task = ?1 AND live = 1",
            params![task],
        )?;
    }
    // By place, of a task or anything upstream of it: it is to change or has to run; runs anew; may get steps that are in
    // no plan, or inputs that can't be read now. Handed on from task to task: a list of everything upstream of each would
    // be quadratic in a chain.
    let mut unsettled = vec![false; flow.tasks.len()];
    let mut anew = unsettled.clone();
    let mut lacks = unread.to_vec();
    let has_gather = flow.tasks.iter().any(|task| task.gather || !task.with.is_empty());
    for &index in &flow.order {
        let task = flow.task(index);
        let any = |of: &[bool], tasks: &[TaskIndex]| tasks.iter().any(|task| of[task.0]);
        // Whatever there is to see may not be all.
        let is_blind = any(&unsettled, &task.with) || any(&lacks, &task.with);
        let whole = before[index.0].wiring != Some(task.wiring);
        let upstream_unsettled = is_blind || any(&unsettled, &task.from);
        let upstream_anew = any(&anew, &task.with) || any(&anew, &task.from);
        if !is_blind {
            task.sides.open();
        }
        match () {
            () if task.gathers_outputs() || is_blind => {
                let still_stands = || gather::still_stands(reader, flow, index);
                let is_doubtful = is_blind || whole && (upstream_unsettled || !still_stands()?);
                planner.gather(index, task, is_doubtful, upstream_unsettled)?;
            }
            () if whole || task.forced.is_any() || task.gathers_files() => {
                planner.whole(index, task)?
            }
            () => planner.difference(index, task)?,
        }
        if task.has_depfile {
            planner.check_results(task)?;
        }
        if whole && !task.wanted.is_empty() {
            planner.judge_outputs(task)?;
        }
        planner.rerun(index, task)?;
        if !is_blind && any(&anew, &task.with) {
            task.sides.close();
        }
        anew[index.0] = planner.take_turns(index, task, upstream_anew)? || upstream_anew;
        lacks[index.0] |=
            task.fed_by().any(|task| lacks[task.0]) || with::lacks_steps(reader, flow, index)?;
        unsettled[index.0] = has_gather && (upstream_unsettled || planner.is_unsettled(task)?);
    }
    let mut plan = Plan { tasks: Vec::new(), retired_with_task: 0 };
    for &task in removed {
        plan.retired_with_task +=
            planner.count("SELECT count(*) FROM change WHERE task = ?1", task)?;
    }
    for (n, task) in flow.tasks.iter().enumerate() {
        plan.tasks.push(planner.summary(TaskIndex(n), task)?);
    }
    Ok(plan)
}

// STRICT, because elsewhere a column of type ANY turns the name `007` into the number 7.
fn prepare(reader: &Reader) -> Result<()> {
    reader
        .conn
        .execute_batch(&format!(
            "{TURNS}
         DROP TABLE IF EXISTS temp.variant; DROP TABLE IF EXISTS temp.change; DROP TABLE IF EXISTS temp.gain;
         DROP TABLE IF EXISTS temp.fresh; DROP TABLE IF EXISTS temp.wanted;
         CREATE TEMP TABLE change(
           step INTEGER PRIMARY KEY, task INTEGER, live INTEGER, state INTEGER,
           was INTEGER                             -- it supported its consumers before
         ) STRICT;
         CREATE INDEX temp.change_task ON change(task);
         CREATE TEMP TABLE gain(
           id INTEGER PRIMARY KEY, task INTEGER, key INTEGER, object BLOB, name ANY,
           executable INTEGER, labels TEXT, origin INTEGER, producer INTEGER, side BLOB
         ) STRICT;
         CREATE INDEX temp.gain_task ON gain(task);
         CREATE TEMP TABLE fresh(
           id INTEGER PRIMARY KEY, task INTEGER, recipe INTEGER, key INTEGER, object BLOB, name ANY,
           executable INTEGER, labels TEXT, origin INTEGER, side BLOB,
           held INTEGER NOT NULL DEFAULT 0,        -- only what runs anew, or may change by it, supports it
           UNIQUE(task, key, origin)
         ) STRICT;
         CREATE INDEX temp.fresh_task ON fresh(task, held);
         CREATE TEMP TABLE wanted(key INTEGER, origin INTEGER, PRIMARY KEY(key, origin)) WITHOUT ROWID;
         CREATE TEMP TABLE variant(n INTEGER PRIMARY KEY);"
        ))
        .or_db(WHAT)
}
