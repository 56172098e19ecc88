//! Files on disk that a pattern names. Unaware of what is known of them.

use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};

use globset::GlobSet;
use walkdir::{DirEntry, WalkDir};

use crate::error::{Error, OrIo, Result};
use crate::manifest::{fixed_part, glob_set, is_plain};

use crate::text::path_bytes;

/// A file found. `path` is below the manifest's folder unless the pattern is absolute; `name` is the
/// path below the fixed part of the pattern.
pub(super) struct Found<'a> {
    pub(super) path: &'a Path,
    pub(super) name: &'a [u8],
    pub(super) metadata: Metadata,
}

/// Calls `see` with every regular file that `pattern` names, in the order of the directories. As in a
/// shell, `*` doesn't cross a `/` and no wildcard matches a leading dot; `**` doesn't follow links to
/// folders. `skip` (the database) is never entered.
pub(super) fn walk(
    dir: &Path,
    pattern: &str,
    skip: &Path,
    see: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<()> {
    let Some(split) = split(pattern)? else {
        let path = Path::new(pattern);
        let full = dir.join(path);
        let metadata = std::fs::metadata(&full).or_io("look at input", &full)?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        return see(Found { path, name: path_bytes(Path::new(name)), metadata });
    };
    let Split { fixed, glob, depth, hidden } = split;
    let start = dir.join(&fixed);
    if !start.try_exists().or_io("look at", &start)? {
        return Ok(());
    }
    let tree = WalkDir::new(&start)
        .follow_links(depth.is_some())
        .min_depth(depth.unwrap_or(1))
        .max_depth(depth.unwrap_or(usize::MAX))
        .into_iter()
        .filter_entry(|entry| {
            let is_skipped = entry.file_type().is_dir() && entry.path() == skip;
            !is_skipped && (hidden || entry.depth() == 0 || !is_hidden(entry))
        });
    for entry in tree {
        let entry = match entry {
            Ok(entry) => entry,
            Err(err) => {
                let path = err.path().unwrap_or(&start).to_owned();
                let below = path.strip_prefix(&start).unwrap_or(&path);
                // A dangling link that the pattern doesn't name is none of our business.
                if err.depth() > 0 && !glob.is_match(below) && path.is_symlink() {
                    continue;
                }
                return Err(std::io::Error::from(err)).or_io("walk", &path);
            }
        };
        let below = entry.path().strip_prefix(&start).unwrap_or(entry.path());
        if entry.file_type().is_dir() || !glob.is_match(below) {
            continue;
        }
        let metadata = std::fs::metadata(entry.path()).or_io("look at input", entry.path())?;
        if metadata.is_file() {
            let path = entry.path().strip_prefix(dir).unwrap_or(entry.path());
            see(Found { path, name: path_bytes(below), metadata })?;
        }
    }
    Ok(())
}

fn is_hidden(entry: &DirEntry) -> bool {
    path_bytes(Path::new(entry.file_name())).first() == Some(&b'.')
}

pub(super) struct Split {
    /// Leading components without a wildcard.
    pub(super) fixed: PathBuf,
    /// Matches what is below.
    pub(super) glob: GlobSet,
    /// Number of components below, if it is certain.
    pub(super) depth: Option<usize>,
    /// A component begins with a dot, so hidden files are meant.
    pub(super) hidden: bool,
}

/// A pattern taken apart; nothing for one that names one path.
pub(super) fn split(pattern: &str) -> Result<Option<Split>> {
    if is_plain(pattern) {
        return Ok(None);
    }
    let fixed = fixed_part(pattern);
    let rest = &pattern[fixed.len()..];
    let glob =
        glob_set([rest]).map_err(|why| Error::Usage(format!("`{pattern}` is no glob: {why}")))?;
    // `{a,b/c}` may cross a slash, so only plain wildcards have a certain depth.
    let depth = (!rest.contains("**") && !rest.contains('{')).then(|| rest.split('/').count());
    let hidden = rest.split('/').any(|component| component.starts_with('.'));
    // Without `.` components, so that a file has one path however the pattern is written.
    let fixed = Path::new(fixed).components().filter(|c| *c != Component::CurDir).collect();
    Ok(Some(Split { fixed, glob, depth, hidden }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path, pattern: &str) -> Vec<String> {
        let mut names = Vec::new();
        walk(dir, pattern, Path::new("/nowhere"), &mut |found| {
            names.push(String::from_utf8_lossy(found.name).into_owned());
            Ok(())
        })
        .unwrap();
        names.sort();
        names
    }

    #[test]
    fn a_pattern_names_what_a_shell_would() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["data/a.csv", "data/b.csv", "data/.hid.csv", "data/sub/c.csv", "data/x.txt"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        assert_eq!(names(dir.path(), "data/*.csv"), ["a.csv", "b.csv"]);
        assert_eq!(names(dir.path(), "data/**/*.csv"), ["a.csv", "b.csv", "sub/c.csv"]);
        assert_eq!(names(dir.path(), "*/*.txt"), ["data/x.txt"]);
        assert_eq!(names(dir.path(), "data/.*.csv"), [".hid.csv"]);
        assert_eq!(names(dir.path(), "./data/sub/c.csv"), ["c.csv"]);
        assert_eq!(names(dir.path(), "none/*.csv"), [""; 0]);
    }
}
