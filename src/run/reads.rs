//! What a run reads, for whoever wants to know when it changes.

use std::path::{Path, PathBuf};

use crate::db::{Db, Dependencies, DependencyFile};
use crate::manifest::{Manifest, is_plain};
use crate::names::EXPORT_RECORD;
use crate::sys::proc::descriptor;
use crate::text::as_path;
use crate::watch::{Reads, Tree};

use super::RunOptions;
use super::sources::{inputs, remembered};
use super::walk::split;

/// The manifest, and if it makes sense all files that it and the command line name. Makes nothing.
pub fn reads(options: &RunOptions) -> Reads {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut reads = Reads {
        files: vec![absolute(&options.manifest)],
        trees: Vec::new(),
        skip: vec![absolute(&options.db)],
        skip_with: Some(EXPORT_RECORD),
    };
    reads.skip.extend(options.db.canonicalize());
    let lists = options.params.files.iter().chain(&options.inputs_from);
    reads.files.extend(lists.map(|path| absolute(path)));
    // With mistakes in it nothing runs, whatever else changes.
    let Ok(manifest) = Manifest::read(&options.manifest) else { return reads };
    for task in &manifest.tasks {
        if let Some(table) = &task.table {
            reads.files.push(table.path());
            // One with mistakes in it is the run's to complain of.
            let _ = table.each(&mut |row| {
                reads.files.extend(row.each_file().map(|(_, path)| manifest.dir.join(path)));
                Ok(())
            });
        }
        for pattern in task.inputs.iter().chain(&task.files) {
            if is_plain(pattern) && !pattern.ends_with('/') {
                reads.files.push(manifest.dir.join(pattern));
            }
            reads.trees.extend(split(pattern).into_iter().flatten().map(|split| Tree {
                start: manifest.dir.join(split.fixed),
                glob: split.glob,
                depth: split.depth,
                hidden: split.hidden,
            }));
        }
    }
    if manifest.tasks.iter().any(|task| task.depfile.is_some()) {
        reads.files.extend(dependencies(options, &manifest));
    }
    reads.files.extend(arguments(options, &manifest).iter().map(|path| absolute(path)));
    reads
}

/// What steps have said they read.
fn dependencies(options: &RunOptions, manifest: &Manifest) -> Vec<PathBuf> {
    if !Db::file(&options.db).exists() {
        return Vec::new();
    }
    // A database that can't be read is the run's to complain of.
    let Ok(db) = Db::open_read_only(&options.db) else { return Vec::new() };
    let mut files = Vec::new();
    let mut see = |file: DependencyFile| files.push(manifest.dir.join(as_path(&file.path)));
    let _ = db.read(|reader| Dependencies::each(reader, &mut see));
    files
}

/// The INPUTs, of this command line or of the run before.
fn arguments(options: &RunOptions, manifest: &Manifest) -> Vec<PathBuf> {
    // A list that can't be read is the run's to complain of.
    let inputs: Vec<PathBuf> = match inputs(options) {
        Ok(inputs) => inputs.into_iter().map(|input| input.path).collect(),
        Err(_) => options.inputs.clone(),
    };
    if !inputs.is_empty() || options.no_inputs {
        return inputs.into_iter().filter(|path| descriptor(path).is_none()).collect();
    }
    if !Db::file(&options.db).exists() {
        return Vec::new();
    }
    // A database that can't be read is the run's to complain of.
    let Ok(db) = Db::open_read_only(&options.db) else { return Vec::new() };
    let remembered = remembered(&db, manifest).unwrap_or_default().arguments;
    let files = remembered.into_iter().filter(|argument| argument.object.is_none());
    files.map(|argument| as_path(&argument.path).to_owned()).collect()
}
