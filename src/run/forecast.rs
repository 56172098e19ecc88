//! A plan with its reasons, and with a guess at what can't be known yet: the steps that will come of
//! steps that have to run first.

use std::collections::HashMap;

use crate::db::{self, Db, Plan, Reader, StepCounts, TaskPlan, Why};
use crate::error::{Error, Result};
use crate::ids::{TaskId, TaskIndex};
use crate::recipe::Recipe;

use super::prepare::Prepared;

/// What a run would do.
pub struct Forecast {
    /// In manifest order.
    pub tasks: Vec<TaskForecast>,
    /// Steps of tasks that the manifest doesn't have any more.
    pub retired_with_task: u64,
    /// Inputs that can't be read: what they would make is in none of the numbers.
    pub unread: usize,
    /// Calls that asked for the inodes of files that steps have said they read.
    pub dependency_stats: u64,
}

/// What a run would do of one task.
pub struct TaskForecast {
    pub name: String,
    pub plan: TaskPlan,
    /// Known steps that have to be done and need no run, since others do the same work.
    pub shared: u64,
    /// Known steps that have to be done, by reason.
    pub reasons: Vec<(Why, u64)>,
    /// What another recipe differs in: `script changed`.
    pub changes: Vec<String>,
    /// The files that its steps have said they read and that are not what they were, by path, if steps have to be done
    /// for that.
    pub dependencies: Vec<Vec<u8>>,
    /// Work of it may have been done before by the very same steps.
    pub has_depfile: bool,
    /// Further steps, as many as there were of as many before; `None` if there never were any to go by.
    pub later: Option<u64>,
    /// `--only` names others.
    pub is_left_out: bool,
}

impl TaskForecast {
    /// Steps that are known to have to be done.
    fn to_do(&self) -> u64 {
        if self.is_left_out { 0 } else { self.plan.fresh + self.plan.again }
    }

    /// Steps of these whose script has to run.
    pub fn to_run(&self) -> u64 {
        self.to_do() - self.shared
    }
}

impl Forecast {
    /// Steps that are known to have to run.
    pub fn to_run(&self) -> u64 {
        self.tasks.iter().map(TaskForecast::to_run).sum()
    }

    /// Steps that need no run, since others do the same work.
    pub fn shared(&self) -> u64 {
        self.tasks.iter().map(|task| task.shared).sum()
    }

    /// The guess at all others; `None` if some task gives nothing to go by.
    pub fn later(&self) -> Option<u64> {
        self.tasks.iter().map(|task| task.later).sum()
    }

    /// True if a run would find all as it is to be.
    pub fn is_settled(&self) -> bool {
        let is_settled = |task: &TaskForecast| {
            task.to_do() == 0 && task.later == Some(0) && task.plan.retired == 0
        };
        self.unread == 0 && self.retired_with_task == 0 && self.tasks.iter().all(is_settled)
    }
}

/// Adds reasons and guesses to a plan that was just made on this database.
pub(super) fn forecast(db: &Db, prepared: &Prepared, plan: &Plan) -> Result<Forecast> {
    db.read(|reader| forecast_in(reader, prepared, plan))
}

fn forecast_in(reader: &Reader, prepared: &Prepared, plan: &Plan) -> Result<Forecast> {
    let counts = db::step_counts(reader)?;
    let mut tasks = Vec::with_capacity(plan.tasks.len());
    for (n, (task, plan)) in prepared.flow.tasks.iter().zip(&plan.tasks).enumerate() {
        let mut changes = Vec::new();
        if let Some(known) = &prepared.rows[n].known
            && known.recipe_hash != task.recipe_hash
            && let Some(fields) = db::recipe_fields(reader, known.recipe)?
        {
            let before: Recipe =
                serde_json::from_str(&fields).map_err(|err| Error::Internal(err.to_string()))?;
            changes = prepared.recipes[n].changes(&before);
        }
        let is_left_out = task.is_left_out();
        let mut plan = *plan;
        let mut reasons = Vec::new();
        let mut shared = 0;
        if !is_left_out {
            reasons = db::reasons(reader, &prepared.flow, TaskIndex(n))?;
            shared = db::shared(reader, &prepared.flow, TaskIndex(n), &reasons)?;
            // Without what --only leaves out.
            let steps = |is_fresh| {
                let fits = move |(why, _): &&(Why, u64)| why.is_fresh() == is_fresh;
                reasons.iter().filter(fits).map(|(_, steps)| steps).sum()
            };
            (plan.fresh, plan.again) = (steps(true), steps(false));
        }
        let dependencies = match reasons.iter().any(|(why, _)| *why == Why::Dependency) {
            true => db::changed_dependencies(reader, TaskIndex(n), task)?,
            false => Vec::new(),
        };
        tasks.push(TaskForecast {
            name: task.name.clone(),
            plan,
            shared,
            reasons,
            changes,
            dependencies,
            has_depfile: task.has_depfile,
            later: Some(0),
            is_left_out,
        });
    }
    // By place: true if anything upstream will change.
    let mut upstream_changes = vec![false; tasks.len()];
    // By place: true if inputs of it, or further up, can't be read.
    let mut lacks: Vec<bool> = prepared.unread().iter().map(|unread| !unread.is_empty()).collect();
    for &index in &prepared.flow.order {
        if !tasks[index.0].is_left_out {
            let changes = upstream_changes[index.0];
            let has_inputs = || db::has_inputs(reader, &prepared.flow, index);
            tasks[index.0].later = match prepared.flow.task(index) {
                task if task.gathers_outputs() && task.is_grouped() => {
                    let waits = tasks[index.0].plan.waits_for_inputs;
                    let least = u64::from(changes && tasks[index.0].to_do() == 0);
                    match changes || waits && has_inputs()? {
                        true => db::groups_to_come(reader, &prepared.flow, index)?.max(least),
                        false => 0,
                    }
                    .into()
                }
                _ => later(prepared, &tasks, &counts, index, changes, has_inputs)?,
            };
        }
        let flow = prepared.flow.task(index);
        let is_blind = flow.with.iter().any(|with| lacks[with.0]);
        lacks[index.0] |= flow.fed_by().any(|task| lacks[task.0]);
        if is_blind || lacks[index.0] && flow.gather && !flow.is_grouped() {
            tasks[index.0].later = Some(0);
        }
        let task = &tasks[index.0];
        let changes = task.to_do() > 0 || task.later != Some(0) || task.plan.retired > 0;
        if changes || upstream_changes[index.0] {
            for fed in prepared.flow.task(index).fed() {
                upstream_changes[fed.0] = true;
            }
        }
    }
    let unread = prepared.refused_files();
    let (retired_with_task, dependency_stats) =
        (plan.retired_with_task, prepared.dependency_stats());
    Ok(Forecast { tasks, retired_with_task, unread, dependency_stats })
}

fn later(
    prepared: &Prepared,
    tasks: &[TaskForecast],
    counts: &HashMap<TaskId, StepCounts>,
    index: TaskIndex,
    upstream_changes: bool,
    has_inputs: impl Fn() -> Result<bool>,
) -> Result<Option<u64>> {
    let task = prepared.flow.task(index);
    if task.gathers_outputs() {
        let is_known = tasks[index.0].to_do() > 0;
        let runs = !is_known
            && (upstream_changes || tasks[index.0].plan.waits_for_inputs && has_inputs()?);
        return Ok(Some(u64::from(runs)));
    }
    let held = tasks[index.0].plan.held;
    let mut from = 0;
    for up in &task.from {
        match tasks[up.0].later {
            Some(later) => from += tasks[up.0].to_do() + later,
            None => return Ok(None),
        }
    }
    if from == 0 {
        return Ok(Some(held));
    }
    let of =
        |index: &TaskIndex| counts.get(&prepared.flow.task(*index).id).copied().unwrap_or_default();
    let per_step = |children: u64, parents: u64| {
        (children > 0 && parents > 0).then(|| children as f64 / parents as f64)
    };
    let parents = |count: fn(StepCounts) -> u64| task.from.iter().map(|up| count(of(up))).sum();
    // As it is now (those that are held aren't counted among the live ones), or, if nothing lives, as it ever was.
    let now = per_step(of(&index).live(), parents(|up| up.done));
    let ratio = now.or_else(|| {
        per_step(of(&index).live() + of(&index).retired, parents(|up| up.done + up.retired))
    });
    // What is made anew upstream stands for inputs that there are.
    let more = ratio.map(|ratio| (from as f64 * ratio).round() as u64);
    Ok(more.map(|more| if task.forced.is_all() { more.max(held) } else { more + held }))
}
