//! The sandboxes that a manifest asks for: what each lets its scripts reach, and whether this machine can make them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use crate::error::{Error, Result};
use crate::ids::TaskIndex;
use crate::labels::Labels;
use crate::manifest::{Manifest, Task, expand, fixed_part, is_plain};
use crate::step::{self, Sandbox};

/// What a task declares, but for the single files of its `files`; `None` if it has no sandbox. `dir` is the manifest's
/// folder.
pub(super) fn declared(task: &Task, dir: &Path) -> Option<Sandbox> {
    if !task.sandbox {
        return None;
    }
    let full = |path: &str| dir.join(path).into_os_string();
    let is_folder = |path: &&String| is_plain(path) && path.ends_with('/');
    let folders = task.files.iter().filter(is_folder).map(|path| full(path));
    let read = task.read.iter().map(|path| full(path)).chain(folders).collect();
    // A script finds by the same globs what they stand for.
    let globs = task.files.iter().filter(|path| !is_plain(path));
    let list: BTreeSet<OsString> = globs
        .flat_map(|glob| expand(glob).unwrap_or_default())
        .map(|glob| full(fixed_part(&glob)))
        .collect();
    Some(Sandbox { read, list: list.into_iter().collect(), network: task.network })
}

/// Refuses to run anything where a task that may run needs a sandbox which this machine can't make. `only` is
/// `--only`.
///
/// # Errors
/// [`Error::Usage`], with the task and what the machine lacks.
pub(super) fn check(manifest: &Manifest, only: &[(TaskIndex, Labels)]) -> Result<()> {
    let may_run =
        |index: TaskIndex| only.is_empty() || only.iter().any(|(named, _)| *named == index);
    for (index, task) in manifest.indexed().filter(|(_, task)| task.sandbox) {
        if may_run(index)
            && let Some(why) = step::obstacle(!task.network)
        {
            return Err(Error::Usage(format!(
                "task `{}`: {why}; nothing was run, because a task with `sandbox` never runs without one",
                task.name
            )));
        }
    }
    Ok(())
}
