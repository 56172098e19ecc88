//! Opens the tables that tasks name: which labels their steps have is written there, and nowhere in the manifest.

use std::path::Path;
use std::sync::Arc;

use super::findings::Findings;
use super::task::Draft;
use crate::diagnostic::quoted;
use crate::table::{BadTable, Table};

/// Reads the header of each task's table. `dir` is the manifest's folder, `shown_dir` the same as it was named.
pub(super) fn open(found: &mut Findings<'_>, dir: &Path, shown_dir: &Path, drafts: &mut [Draft]) {
    for draft in drafts {
        let Some((file, place)) = &draft.table else { continue };
        if file.is_empty() {
            let help = "name a CSV or TSV file, such as \"samples.csv\"";
            found.add(place, "`table` is empty", help);
            continue;
        }
        let paths: Vec<&str> = draft.paths.iter().map(|(name, _)| name.as_str()).collect();
        match Table::read(dir, shown_dir, file, &paths) {
            Ok(table) => draft.task.table = Some(Arc::new(table)),
            Err(BadTable::Unreadable(message, help)) => {
                found.add(place, format!("table {}: {message}", quoted(file)), help);
            }
            Err(BadTable::Header(mistakes)) => found.add_elsewhere(place, mistakes),
            Err(BadTable::NoColumn(missing)) => {
                for (n, help) in missing {
                    let (name, place) = &draft.paths[n];
                    let message = format!("table {} has no column {}", quoted(file), quoted(name));
                    found.add(place, message, help);
                }
            }
        }
    }
}
