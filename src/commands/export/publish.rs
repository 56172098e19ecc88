//! The exports that a manifest asks for: `export = "results/{sample}"`, after a run.

use std::path::Path;

use crate::db::{self, Db};
use crate::error::Result;
use crate::labels::Labels;
use crate::progress::{DueExport, Event, Progress};
use crate::store::Store;
use crate::text::{counted, shown};

use super::{Changes, bring, obstacles_text};

/// Brings every folder up to date that the manifest has for the results of a task. What can't be written is told, and the
/// other exports are made all the same. True if all could be.
pub(in crate::commands) fn publish(
    db_dir: &Path,
    exports: &[DueExport],
    progress: &mut dyn Progress,
) -> bool {
    let mut is_fine = true;
    for export in exports {
        let DueExport { task, dir, path } = export;
        let to = dir.join(path.folder());
        let told = match one(db_dir, export, &to) {
            Ok(Ok(Changes { written: 0, removed: 0, .. })) => continue,
            Ok(Ok(Changes { files, written, removed })) => {
                let to = shown(Path::new(path.folder()));
                let text = format!(
                    "{} of {task} in {to}: {written} written, {removed} removed",
                    counted(files, "file")
                );
                progress.tell(&Event::Note(&text));
                continue;
            }
            Ok(Err(obstacles)) => obstacles,
            Err(error) => error.to_string(),
        };
        is_fine = false;
        progress.tell(&Event::Warning(&format!("export of task `{task}`: {told}")));
    }
    is_fine
}

fn one(
    db_dir: &Path,
    export: &DueExport,
    to: &Path,
) -> Result<std::result::Result<Changes, String>> {
    let db = Db::open_read_only(db_dir)?;
    let store = Store::open_read_only(db_dir)?;
    let mut outputs = Vec::new();
    let task = db.read(|reader| {
        let task = db::find_task(reader, &export.task)?;
        db::each_live_output(reader, task, &Labels::default(), &mut |mut output, labels| {
            let mut name = export.path.below(labels).into_bytes();
            if !name.is_empty() {
                name.push(b'/');
                name.append(&mut output.name);
                output.name = name;
            }
            outputs.push(output);
            Ok(())
        })?;
        Ok(task)
    })?;
    outputs.sort_by(|a, b| a.name.cmp(&b.name));
    let changes =
        bring((&db, db_dir, &store), (task, export.task.clone()), to, &outputs, (false, false))?;
    Ok(changes.map_err(|obstacles| {
        obstacles_text(to, &obstacles, "move these away, or name another folder")
    }))
}
