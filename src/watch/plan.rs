//! Which folders have to be watched, and which events in them matter.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use globset::GlobSet;
use walkdir::{DirEntry, WalkDir};

use crate::error::Result;

/// What a run reads. All paths are absolute.
#[derive(Debug, Default)]
pub struct Reads {
    /// Files by name; they need not exist.
    pub files: Vec<PathBuf>,
    /// Files by pattern.
    pub trees: Vec<Tree>,
    /// Folders that nothing is read from, even if a tree contains them.
    pub skip: Vec<PathBuf>,
    /// Nothing is read from a folder with a file of this name either.
    pub skip_with: Option<&'static str>,
}

/// The files below a folder whose paths, relative to it, match.
#[derive(Debug)]
pub struct Tree {
    pub start: PathBuf,
    pub glob: GlobSet,
    /// The number of components of those paths, if it is fixed; links to folders are then followed.
    pub depth: Option<usize>,
    /// Includes names with a leading dot.
    pub hidden: bool,
}

/// What a watcher has to know.
pub(super) struct WatchPlan {
    reads: Reads,
    /// By folder: the names in it that are read or lead to something that is.
    names: BTreeMap<PathBuf, BTreeSet<OsString>>,
    /// The folders that belong to trees.
    inside: HashSet<PathBuf>,
}

/// Called for each folder to be watched, parents first, and whether files in it are read.
pub(super) type Watch<'a> = dyn FnMut(&Path, bool) -> Result<()> + 'a;

impl WatchPlan {
    /// Works out what to watch, and calls `watch` for each folder.
    ///
    /// # Errors
    /// Those of `watch`.
    pub(super) fn new(mut reads: Reads, watch: &mut Watch<'_>) -> Result<WatchPlan> {
        let mut files: Vec<PathBuf> = reads.files.iter().flat_map(|file| links(file)).collect();
        files.append(&mut reads.files);
        let starts: Vec<PathBuf> = reads.trees.iter().flat_map(|tree| links(&tree.start)).collect();
        let skipped = reads.skip.iter().filter_map(|path| identity(path)).collect();
        let mut plan = WatchPlan { reads, names: BTreeMap::new(), inside: HashSet::new() };
        let trees = plan.reads.trees.iter().map(|tree| &tree.start);
        for path in files.iter().chain(trees).chain(&starts) {
            note(&mut plan.names, path);
        }
        let parents: HashSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        for folder in plan.names.keys() {
            watch(folder, parents.contains(folder.as_path()))?;
        }
        // Files that links in a tree point to.
        let mut beyond = Vec::new();
        for tree in &plan.reads.trees {
            let skip_with = plan.reads.skip_with;
            tree.each_folder(&skipped, skip_with, &mut plan.inside, &mut beyond, watch)?;
        }
        for file in &beyond {
            note(&mut plan.names, file);
            // Some of these may already be watched; that does no harm.
            for folder in file.ancestors().skip(1) {
                watch(folder, file.parent() == Some(folder))?;
            }
        }
        Ok(plan)
    }

    /// Whether an event at `path`, in `folder`, can change what a run reads.
    pub(super) fn matters(&self, folder: &Path, path: &Path, is_dir: bool) -> bool {
        if self.reads.skip.iter().any(|skip| path.starts_with(skip)) {
            return false;
        }
        let name = path.file_name().unwrap_or_default();
        if self.names.get(folder).is_some_and(|names| names.contains(name)) {
            return true;
        }
        self.reads.trees.iter().any(|tree| {
            let Ok(below) = path.strip_prefix(&tree.start) else { return false };
            if !tree.hidden && below.iter().any(is_hidden) {
                return false;
            }
            // inotify calls a link to a folder no folder, and a folder that is gone can't be examined.
            let may_lead_on = is_dir || self.inside.contains(path) || path.is_dir();
            let depth = below.iter().count();
            match may_lead_on {
                true => tree.depth.is_none_or(|files| depth < files),
                false => tree.glob.is_match(below),
            }
        })
    }
}

/// Adds a path's name to its folder, that folder's name to the next, and so on to the root.
fn note(names: &mut BTreeMap<PathBuf, BTreeSet<OsString>>, path: &Path) {
    for child in path.ancestors() {
        if let (Some(folder), Some(name)) = (child.parent(), child.file_name()) {
            names.entry(folder.to_owned()).or_default().insert(name.to_owned());
        }
    }
}

impl Tree {
    /// Watches the folders of the tree. Adds them to `inside`, and the targets of links to `beyond`.
    fn each_folder(
        &self,
        skipped: &HashSet<(u64, u64)>,
        skip_with: Option<&str>,
        inside: &mut HashSet<PathBuf>,
        beyond: &mut Vec<PathBuf>,
        watch: &mut Watch<'_>,
    ) -> Result<()> {
        let is_wanted = |entry: &DirEntry| {
            let is_start = entry.depth() == 0;
            let is_seen = is_start || self.hidden || !is_hidden(entry.file_name());
            let is_other = entry.file_type().is_dir()
                && (identity(entry.path()).is_some_and(|id| skipped.contains(&id))
                    || !is_start && skip_with.is_some_and(|name| entry.path().join(name).exists()));
            is_seen && !is_other
        };
        let tree = WalkDir::new(&self.start)
            .follow_links(self.depth.is_some())
            .max_depth(self.depth.unwrap_or(usize::MAX));
        // A run can't read what we can't read; if that changes, the folder above reports it.
        for entry in tree.into_iter().filter_entry(is_wanted).flatten() {
            let is_deep = self.depth.is_some_and(|depth| entry.depth() >= depth);
            if entry.path_is_symlink() && entry.file_type().is_dir() {
                beyond.extend(links(entry.path()));
            }
            if entry.file_type().is_dir() && !is_deep {
                // Watched before it is listed: a file that appears in between is seen twice rather than not at all.
                watch(entry.path(), true)?;
                inside.insert(entry.into_path());
            } else if entry.path_is_symlink()
                && self
                    .glob
                    .is_match(entry.path().strip_prefix(&self.start).unwrap_or(entry.path()))
            {
                beyond.extend(links(entry.path()));
            }
        }
        Ok(())
    }
}

/// Every link that a path leads through, wherever in it, and what the last one leads to: each of them can be swapped
/// (`a.txt -> current/a.txt`, `current -> v1`). None if there is no link.
fn links(path: &Path) -> Vec<PathBuf> {
    /// As the kernel does.
    const MOST: usize = 40;
    let mut links = Vec::new();
    let mut here = PathBuf::new();
    // What is still to be walked, the next component last.
    let components = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut rest = components(path);
    while let Some(part) = rest.pop() {
        match part.as_bytes() {
            b"." => continue,
            b".." => {
                here.pop();
                continue;
            }
            _ => {}
        }
        let next = here.join(&part);
        match next.read_link() {
            Ok(target) if links.len() < MOST => {
                rest.extend(components(&target));
                links.push(next);
            }
            _ => here = next,
        }
    }
    if !links.is_empty() {
        links.push(here);
    }
    links
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().first() == Some(&b'.')
}

/// Device and inode: a folder's identity whatever its path.
fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|found| (found.dev(), found.ino()))
}
