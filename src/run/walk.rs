//! Files on disk that a pattern names. Unaware of what is known of them.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use globset::GlobSet;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use walkdir::{DirEntry, WalkDir};

use crate::db::Stat;
use crate::error::{Error, OrIo, Result};
use crate::manifest::{fixed_part, glob_set, is_plain};
use crate::text::{as_path, path_bytes};

/// A file found. `path` is below the manifest's folder unless the pattern is absolute; `name` is the
/// path below the fixed part of the pattern.
pub(super) struct FoundFile<'a> {
    pub(super) path: &'a Path,
    pub(super) name: &'a [u8],
    pub(super) stat: Stat,
}

/// Calls `see` with every regular file that `pattern` names, in the order of the directories. As in a
/// shell, `*` doesn't cross a `/` and no wildcard matches a leading dot; `**` doesn't follow links to
/// folders. `skip` (the database) is never entered.
pub(super) fn walk(
    dir: &Path,
    pattern: &str,
    skip: &Path,
    see: &mut dyn FnMut(FoundFile<'_>) -> Result<()>,
) -> Result<()> {
    let Some(split) = split(pattern)? else {
        let path = Path::new(pattern);
        let full = dir.join(path);
        let metadata = std::fs::metadata(&full).or_io("look at input", &full)?;
        let name = path.file_name().unwrap_or(path.as_os_str());
        return see(FoundFile {
            path,
            name: path_bytes(Path::new(name)),
            stat: stat_of(&metadata),
        });
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
    let mut folder = Folder::default();
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
        let below = below(entry.path(), &start);
        if entry.file_type().is_dir() || !glob.is_match(as_path(below)) {
            continue;
        }
        if let Some(stat) = folder.look(&entry).or_io("look at input", entry.path())? {
            see(FoundFile { path: as_path(self::below(entry.path(), dir)), name: below, stat })?;
        }
    }
    Ok(())
}

/// What a path adds to that of a folder above it, both as the walk writes them: byte by byte, since
/// comparing components took a tenth of the time of a walk.
fn below<'a>(path: &'a Path, folder: &Path) -> &'a [u8] {
    let path = path_bytes(path);
    match path.strip_prefix(path_bytes(folder)) {
        Some([b'/', rest @ ..]) => rest,
        Some(rest) if path_bytes(folder).ends_with(b"/") => rest,
        _ => path,
    }
}

/// The folder of the file looked at last. From there a file's inode is found by its name alone, without
/// the way from the root.
#[derive(Default)]
struct Folder {
    path: Vec<u8>,
    fd: Option<OwnedFd>,
}

impl Folder {
    /// The stat of a regular file, links followed; `None` for anything else.
    fn look(&mut self, entry: &DirEntry) -> Result<Option<Stat>, rustix::io::Errno> {
        let name = entry.file_name();
        let path = path_bytes(entry.path());
        let folder = path.strip_suffix(name.as_encoded_bytes()).unwrap_or_default();
        if self.fd.is_none() || self.path != folder {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.fd = Some(rustix::fs::openat(CWD, folder, flags, Mode::empty())?);
            self.path = folder.to_owned();
        }
        let Some(fd) = &self.fd else { return Ok(None) };
        let found = rustix::fs::statat(fd, name, AtFlags::empty())?;
        let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        Ok(is_file.then(|| Stat {
            size: found.st_size,
            mtime_ns: nanoseconds(found.st_mtime, found.st_mtime_nsec as i64),
            ctime_ns: nanoseconds(found.st_ctime, found.st_ctime_nsec as i64),
            inode: found.st_ino as i64,
            executable: found.st_mode & 0o111 != 0,
        }))
    }
}

/// What an inode says.
pub(super) fn stat_of(metadata: &Metadata) -> Stat {
    Stat {
        size: i64::try_from(metadata.size()).unwrap_or(i64::MAX),
        mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        inode: metadata.ino() as i64,
        executable: metadata.mode() & 0o111 != 0,
    }
}

fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
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
