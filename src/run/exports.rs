//! Which exports of the manifest are due after a run: those of tasks that are complete.

use crate::db::{self, Db, FlowTask};
use crate::error::Result;
use crate::manifest::{Manifest, Task};
use crate::progress::{DueExport, Summary};

use super::prepare::Prepared;

/// All that a manifest asks for.
pub(super) fn of(manifest: &Manifest) -> Vec<DueExport> {
    let export = |task: &Task| {
        let path = task.export.clone()?;
        Some(DueExport { task: task.name.clone(), dir: manifest.dir.clone(), path })
    };
    manifest.tasks.iter().filter_map(export).collect()
}

/// Those of tasks that have no step to run, nor has any task upstream: their results are all there are.
///
/// # Errors
/// If the database can't be read.
pub(super) fn due(db: &Db, prepared: &Prepared, summary: &Summary) -> Result<Vec<DueExport>> {
    let mut exports = of(&prepared.manifest);
    if exports.is_empty() {
        return Ok(exports);
    }
    let tasks = &prepared.flow.tasks;
    let is_settled = are_settled(db, prepared, summary)?;
    exports.retain(|export| {
        prepared.manifest.find(&export.task).is_some_and(|index| {
            // What it sees by `with` counts as what feeds it.
            let mut open = vec![index];
            let mut known = vec![false; tasks.len()];
            while let Some(task) = open.pop() {
                if !std::mem::replace(&mut known[task.0], true) {
                    open.extend(tasks[task.0].fed_by());
                }
            }
            known.iter().zip(&is_settled).all(|(is, fine)| !is || *fine)
        })
    });
    Ok(exports)
}

/// By place, whatever is upstream of a task: nothing of it has failed, is to run or is missing.
///
/// # Errors
/// If the database can't be read.
pub(super) fn are_settled(db: &Db, prepared: &Prepared, summary: &Summary) -> Result<Vec<bool>> {
    let (counts, stale) =
        db.read(|reader| Ok((db::step_counts(reader)?, db::out_of_date(reader)?)))?;
    let is_settled = |(n, task): (usize, &FlowTask)| {
        let counts = counts.get(&task.id).copied().unwrap_or_default();
        counts.pending + counts.failed == 0
            && !stale.contains(&task.name)
            && !summary.waiting.contains(&task.name)
            && !summary.blind.contains(&task.name)
            && !prepared.has_refused(n)
    };
    Ok(prepared.flow.tasks.iter().enumerate().map(is_settled).collect())
}
