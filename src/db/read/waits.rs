//! Tasks that wait for what is upstream of them before they have a step at all, or before they have one of each group.

use std::collections::{BTreeSet, HashMap};

use crate::error::{OrDb, Result};
use crate::ids::TaskId;
use crate::labels::Labels;

use crate::db::Reader;
use crate::db::commit::runs::unread;
use crate::db::plan::gather::labels_of;
use crate::db::read::status::{StepCounts, feeding, step_counts};

/// A task that may get steps when what it waits for is done: one without a live step, or one that gathers by labels and
/// has no step yet of some groups.
#[derive(Debug, Clone)]
pub struct Waits {
    pub id: TaskId,
    pub task: String,
    /// `4 of 30 steps of work failed`
    pub why: String,
    /// Steps of it that are left: one for each group, one if it isn't known how many.
    pub steps: u64,
    /// The groups, as far as the labels of steps upstream tell. Empty if it doesn't gather by labels.
    pub groups: Vec<Labels>,
}

/// A task of the last manifest.
struct WiredTask {
    id: TaskId,
    name: String,
    is_gather: bool,
    /// Labels that it gathers by.
    keys: Vec<String>,
    /// By place: what it takes, and what it sees.
    from: Vec<usize>,
    with: Vec<usize>,
    counts: StepCounts,
}

impl WiredTask {
    /// True if it gathers outputs by labels.
    fn is_grouped(&self) -> bool {
        self.is_gather && !self.keys.is_empty() && !self.from.is_empty()
    }
}

/// What is known of a task and all that is upstream of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upstream {
    Unknown,
    Closed,
    Open,
}

/// Every task of the last manifest that gathers outputs or sees some, has no live step, or none of some group, and has
/// something upstream that failed, is still to run or couldn't be read; in the manifest's order.
///
/// # Errors
/// If the database can't be read.
pub fn waits(reader: &Reader) -> Result<Vec<Waits>> {
    let tasks = known(reader)?;
    if !tasks.iter().any(|task| task.is_gather || !task.with.is_empty()) {
        return Ok(Vec::new());
    }
    let lacks_inputs = !unread(reader)?.is_empty();
    let mut open = vec![Upstream::Unknown; tasks.len()];
    let groups = open_groups(reader, &tasks)?;
    let mut found = Vec::new();
    for (at, task) in tasks.iter().enumerate() {
        // What a task without `gather` takes needn't be complete for it to have steps.
        let fed_by: Vec<usize> = match task.is_gather {
            true => task.from.iter().chain(&task.with).copied().collect(),
            false => task.with.clone(),
        };
        let has_steps = task.counts.live() > 0;
        if fed_by.is_empty() || has_steps && !task.is_grouped() {
            continue;
        }
        let groups = groups.get(&at).cloned().unwrap_or_default();
        let steps = match groups.open.len() as u64 {
            0 => u64::from(!has_steps || groups.has_unknown),
            groups => groups,
        };
        let is_open = fed_by.iter().any(|&up| up != at && is_open(&tasks, up, &mut open));
        if steps > 0 && (is_open || lacks_inputs && !has_steps) {
            let why = why(&tasks, &fed_by, lacks_inputs);
            let (id, task, groups) =
                (task.id, task.name.clone(), groups.open.into_iter().collect());
            found.push(Waits { id, task, why, steps, groups });
        }
    }
    Ok(found)
}

/// Groups of a task to which steps upstream may still add, and that have no step.
#[derive(Clone, Default)]
struct OpenGroups {
    open: BTreeSet<Labels>,
    /// Steps upstream that aren't done don't have all of the labels: there may be any others.
    has_unknown: bool,
}

/// Those of each task that gathers by labels, by place. Costs as much as there is left to do, if there is such a task.
fn open_groups(reader: &Reader, tasks: &[WiredTask]) -> Result<HashMap<usize, OpenGroups>> {
    let what = "look for groups that wait";
    let mut groups: HashMap<usize, OpenGroups> = HashMap::new();
    for (at, grouped) in tasks.iter().enumerate().filter(|(_, task)| task.is_grouped()) {
        let mut found = OpenGroups::default();
        for up in upstream(tasks, at).into_iter().map(|up| &tasks[up]) {
            if up.counts.pending + up.counts.failed == 0 {
                continue;
            }
            let sql = "SELECT labels FROM step WHERE live = 1 AND state <> 1 AND task = ?1";
            let mut statement = reader.conn.prepare_cached(sql).or_db(what)?;
            let mut rows = statement.query([up.id]).or_db(what)?;
            while let Some(row) = rows.next().or_db(what)? {
                let labels: Labels = row.get(0).or_db(what)?;
                let group = labels.only(grouped.keys.iter().map(String::as_str));
                match group.len() == grouped.keys.len() {
                    true => drop(found.open.insert(group)),
                    false => found.has_unknown = true,
                }
            }
        }
        if !found.open.is_empty() {
            let live = "SELECT labels FROM step WHERE task = ?1 AND live = 1";
            for group in labels_of(reader, live, grouped.id)? {
                found.open.remove(&group);
            }
        }
        groups.insert(at, found);
    }
    Ok(groups)
}

/// All that is upstream of a task, by place.
fn upstream(tasks: &[WiredTask], at: usize) -> BTreeSet<usize> {
    let fed_by = |at: usize| tasks[at].from.iter().chain(&tasks[at].with).copied();
    let mut found = BTreeSet::new();
    let mut todo: Vec<usize> = fed_by(at).collect();
    while let Some(up) = todo.pop() {
        if up != at && found.insert(up) {
            todo.extend(fed_by(up));
        }
    }
    found
}

fn known(reader: &Reader) -> Result<Vec<WiredTask>> {
    let what = "look for what waits";
    let counts = step_counts(reader)?;
    let mut statement = reader
        .conn
        .prepare(
            "SELECT id, name, gather, feeds FROM task WHERE position IS NOT NULL ORDER BY position",
        )
        .or_db(what)?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<String>>(3)?))
    });
    let rows: Vec<(TaskId, String, bool, Option<String>)> =
        rows.and_then(|rows| rows.collect()).or_db(what)?;
    let places: HashMap<&str, usize> =
        rows.iter().enumerate().map(|(at, (_, name, ..))| (name.as_str(), at)).collect();
    let places = |feeds: &Option<String>, key| {
        let names = feeding(feeds.as_deref(), key);
        names.iter().filter_map(|name| places.get(name.as_str()).copied()).collect()
    };
    let task = |(id, name, is_gather, feeds): &(TaskId, String, bool, Option<String>)| WiredTask {
        id: *id,
        name: name.clone(),
        is_gather: *is_gather,
        keys: feeding(feeds.as_deref(), "gather_by"),
        from: places(feeds, "from"),
        with: places(feeds, "with"),
        counts: counts.get(id).copied().unwrap_or_default(),
    };
    Ok(rows.iter().map(task).collect())
}

/// Whether a task, or anything upstream of it, has steps that aren't done.
fn is_open(tasks: &[WiredTask], at: usize, known: &mut [Upstream]) -> bool {
    // A list and no recursion: a chain may be long. A task stands on it twice: before and after what feeds it.
    let mut todo = vec![(at, false)];
    while let Some((at, is_second)) = todo.pop() {
        let task = &tasks[at];
        let fed_by = || task.from.iter().chain(&task.with).copied();
        if known[at] != Upstream::Unknown {
            continue;
        }
        let has_open = fed_by().any(|up| known[up] == Upstream::Open);
        if task.counts.pending + task.counts.failed > 0 || has_open {
            known[at] = Upstream::Open;
        } else if is_second {
            known[at] = Upstream::Closed;
        } else {
            todo.push((at, true));
            todo.extend(
                fed_by().filter(|&up| known[up] == Upstream::Unknown).map(|up| (up, false)),
            );
        }
    }
    known[at] == Upstream::Open
}

/// What the nearest tasks upstream lack; further up only if these lack nothing themselves.
fn why(tasks: &[WiredTask], fed_by: &[usize], lacks_inputs: bool) -> String {
    let mut seen = vec![false; tasks.len()];
    let mut level: Vec<usize> = fed_by.to_vec();
    while !level.is_empty() {
        level.iter().for_each(|&at| seen[at] = true);
        let mut words = Vec::new();
        for task in level.iter().map(|&at| &tasks[at]) {
            words.extend(lack(task));
        }
        if !words.is_empty() {
            return words.join(", ");
        }
        let up = level.iter().flat_map(|&at| tasks[at].from.iter().chain(&tasks[at].with));
        let mut up: Vec<usize> = up.copied().filter(|&up| !seen[up]).collect();
        up.sort_unstable();
        up.dedup();
        level = up;
    }
    match lacks_inputs {
        true => "an input can't be read".to_owned(),
        false => "not everything upstream is done".to_owned(),
    }
}

/// `4 of 30 steps of work failed`
fn lack(task: &WiredTask) -> Option<String> {
    let StepCounts { pending, failed, .. } = task.counts;
    let (all, name) = (task.counts.live(), &task.name);
    let of = |count: u64| match all {
        1 => format!("the step of {name}"),
        _ => format!("{count} of {all} steps of {name}"),
    };
    match (failed, pending) {
        (0, 0) => None,
        (failed, 0) => Some(format!("{} failed", of(failed))),
        (0, 1) => Some(format!("{} is still to run", of(1))),
        (0, pending) => Some(format!("{} are still to run", of(pending))),
        (failed, 1) => Some(format!("{} failed, 1 is still to run", of(failed))),
        (failed, pending) => Some(format!("{} failed, {pending} are still to run", of(failed))),
    }
}
