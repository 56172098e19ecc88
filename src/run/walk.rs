//! Files on disk that patterns name. Unaware of what is known of them.
//!
//! Patterns are taken apart into components, and matched as the folders are read, a component at a time: only folders
//! that can hold a match are read, each of them once for all patterns that begin in the same folder, and every
//! component decides for itself whether hidden names are meant.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use globset::GlobSet;
use rustix::fs::{Access, AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::db::Stat;
use crate::error::{Error, Result};
use crate::manifest::{Globs, expand, fixed_part, glob_set, is_plain};
use crate::names::EXPORT_RECORD;
use crate::order;
use crate::text::{as_path, path_bytes};

use super::preflight::is_there_but_closed;

/// A file found. `path` is below the manifest's folder unless the pattern is absolute; `name` is the
/// path below the fixed part of the pattern.
pub(super) struct FoundFile<'a> {
    pub(super) path: &'a Path,
    pub(super) name: &'a [u8],
    pub(super) stat: Stat,
}

/// What a walk came across besides files.
#[derive(Default)]
pub(super) struct Crossed {
    /// It would have led into the database.
    pub(super) database: bool,
    /// Folders of exports that it would have led into.
    pub(super) exports: Vec<PathBuf>,
    /// What could not be looked at: a folder, or a file that a pattern names.
    pub(super) refused: Vec<(PathBuf, std::io::Error)>,
    /// For whoever asks: the folders that were read, each with its inode as it was before that.
    pub(super) entered: Option<Vec<(PathBuf, Stat)>>,
}

impl Crossed {
    /// Adds what another walk came across.
    pub(super) fn add(&mut self, other: Crossed) {
        self.database |= other.database;
        self.exports.extend(other.exports);
        self.refused.extend(other.refused);
        if let (Some(all), Some(entered)) = (&mut self.entered, other.entered) {
            all.extend(entered);
        }
    }
}

/// Patterns that begin in the same folder.
pub(super) struct PatternWalk {
    /// Without `.` components, so that a file has one path however the pattern is written.
    fixed: PathBuf,
    /// As they are written.
    patterns: Vec<String>,
    /// In the order of the manifest, braces expanded.
    rules: Vec<Rule>,
}

/// A pattern without braces, below the fixed part.
struct Rule {
    parts: Vec<Part>,
    /// Links to folders are followed: no `**` in the pattern.
    follows: bool,
    /// `**` matches hidden names too: the pattern is a folder with all that is in it.
    takes_hidden: bool,
    /// The place in `patterns` of the one that it comes from.
    pattern: usize,
}

enum Part {
    /// `**`
    Deep,
    Name(String),
}

impl PatternWalk {
    /// Walks for all patterns of a task, in an order in which the first pattern that names a file comes first.
    ///
    /// # Errors
    /// If one is no glob.
    pub(super) fn all(patterns: &[&str]) -> Result<Vec<PatternWalk>> {
        let mut walks: Vec<PatternWalk> = Vec::new();
        let starts: Vec<PathBuf> = patterns.iter().map(|pattern| start(pattern)).collect();
        // Where one start lies below another, the order of the patterns may decide a file's name.
        let distinct: HashSet<&PathBuf> = starts.iter().collect();
        let is_apart = !distinct.iter().any(|path| {
            path.components().any(|part| part == Component::ParentDir)
                || path.ancestors().skip(1).any(|above| distinct.contains(&above.to_owned()))
        });
        let mut at: HashMap<&PathBuf, usize> = HashMap::new();
        for (pattern, fixed) in patterns.iter().zip(&starts) {
            if !is_apart {
                at.retain(|known, _| *known == fixed);
            }
            let n = *at.entry(fixed).or_insert_with(|| {
                let (patterns, rules) = (Vec::new(), Vec::new());
                walks.push(PatternWalk { fixed: fixed.clone(), patterns, rules });
                walks.len() - 1
            });
            let number = walks[n].patterns.len();
            walks[n].patterns.push((*pattern).to_owned());
            let is_folder = pattern.ends_with('/');
            let below = whole(pattern);
            let below = &below[fixed_part(pattern).len()..];
            let no_glob = |why| Error::Usage(format!("`{pattern}` is no glob: {why}"));
            for rule in expand(below).map_err(no_glob)? {
                let rule = Rule { takes_hidden: is_folder, ..Rule::new(&rule, number) };
                walks[n].rules.push(rule);
            }
        }
        Ok(walks)
    }

    /// The folder that it begins in.
    pub(super) fn start(&self, dir: &Path) -> PathBuf {
        dir.join(&self.fixed)
    }

    /// Calls `see` with every regular file that a pattern names, once. As in a shell, `*` doesn't cross a `/` and no
    /// wildcard matches a leading dot; `**` doesn't follow links to folders. The database and folders of exports are
    /// never entered; an export that a pattern begins in is.
    ///
    /// Returns the patterns that matched nothing; none if that can't be told, because something could not be looked at.
    ///
    /// # Errors
    /// Those of `see`.
    pub(super) fn run(
        &self,
        dir: &Path,
        db_dir: &Path,
        crossed: &mut Crossed,
        see: &mut dyn FnMut(FoundFile<'_>) -> Result<()>,
    ) -> Result<Vec<String>> {
        let mut unmatched = self.patterns.clone();
        let refused_before = crossed.refused.len();
        let start = self.start(dir);
        if let Err(err) = std::fs::metadata(&start) {
            if is_there_but_closed(&start) {
                crossed.refused.push((start, err));
                return Ok(Vec::new());
            }
            return Ok(unmatched);
        }
        if is_within(&start, db_dir) {
            crossed.database = true;
            return Ok(unmatched);
        }
        let database = db_dir.metadata().ok().map(|found| (found.dev(), found.ino()));
        let mut levels: HashMap<Vec<(usize, usize)>, Rc<Level>> = HashMap::new();
        let first: Vec<(usize, usize)> = (0..self.rules.len()).map(|rule| (rule, 0)).collect();
        let mut waiting = vec![(start.clone(), self.level(&mut levels, first)?)];
        let (mut matches, mut places) = (Vec::new(), Vec::new());
        while let Some((folder, level)) = waiting.pop() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let mut refuse =
                |path: &Path, err: Errno| crossed.refused.push((path.to_owned(), err.into()));
            let fd = match rustix::fs::openat(CWD, &folder, flags, Mode::empty()) {
                Ok(fd) => fd,
                Err(err) => {
                    refuse(&folder, err);
                    continue;
                }
            };
            let entries = match Dir::read_from(&fd) {
                Ok(entries) => entries,
                Err(err) => {
                    refuse(&folder, err);
                    continue;
                }
            };
            let found = rustix::fs::fstat(&fd).ok();
            let here = found.map(|found| (found.st_dev, found.st_ino));
            if here.is_some() && here == database {
                crossed.database = true;
                continue;
            }
            let is_export = folder != start
                && rustix::fs::accessat(&fd, EXPORT_RECORD, Access::EXISTS, AtFlags::empty())
                    .is_ok();
            if is_export {
                crossed.exports.push(folder);
                continue;
            }
            if let (Some(entered), Some(found)) = (&mut crossed.entered, &found) {
                entered.push((folder.clone(), Stat::of_inode(found)));
            }
            for entry in entries {
                let entry = match entry {
                    Ok(entry) => entry,
                    Err(err) => {
                        crossed.refused.push((folder.clone(), err.into()));
                        break;
                    }
                };
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let kind = entry.file_type();
                self.matching(&level, name, &mut places, &mut matches);
                if matches.is_empty() {
                    continue;
                }
                let path = folder.join(OsStr::from_bytes(name));
                let is_wanted = matches.iter().any(|(_, next)| next.is_none());
                let mut is_link = kind == FileType::Symlink;
                let found = match kind {
                    FileType::Directory => None,
                    _ => match rustix::fs::statat(&fd, name, AtFlags::empty()) {
                        Ok(found) => Some(found),
                        // A dangling link that no pattern names is none of our business.
                        Err(err) if is_wanted => {
                            crossed.refused.push((path, err.into()));
                            continue;
                        }
                        Err(_) => continue,
                    },
                };
                if kind == FileType::Unknown {
                    is_link = path.is_symlink();
                }
                let real = found
                    .as_ref()
                    .map_or(FileType::Directory, |found| FileType::from_raw_mode(found.st_mode));
                if is_link && is_within(&path, db_dir) {
                    crossed.database = true;
                    continue;
                }
                match (real, found) {
                    (FileType::Directory, _) => {
                        let mut next: Vec<(usize, usize)> = matches
                            .iter()
                            .filter(|((rule, _), _)| !is_link || self.rules[*rule].follows)
                            .filter_map(|((rule, _), next)| next.map(|part| (*rule, part)))
                            .collect();
                        if !next.is_empty() {
                            order::sort_by(&mut next, Ord::cmp);
                            next.dedup();
                            waiting.push((path, self.level(&mut levels, next)?));
                        }
                    }
                    (FileType::RegularFile, Some(found)) if is_wanted => {
                        for ((rule, _), next) in &matches {
                            if next.is_none() {
                                unmatched[self.rules[*rule].pattern].clear();
                            }
                        }
                        let stat = Stat::of_inode(&found);
                        let path_below = as_path(below(&path, dir));
                        see(FoundFile { path: path_below, name: below(&path, &start), stat })?;
                    }
                    _ => {}
                }
            }
        }
        if crossed.refused.len() > refused_before {
            return Ok(Vec::new());
        }
        // No pattern is empty.
        unmatched.retain(|pattern| !pattern.is_empty());
        Ok(unmatched)
    }

    /// What a name in a folder can be: for each part that it matches, the part for what is below, or `None` if it is
    /// a file of the pattern's.
    fn matching(
        &self,
        level: &Level,
        name: &[u8],
        places: &mut Vec<usize>,
        matches: &mut Vec<((usize, usize), Option<usize>)>,
    ) {
        matches.clear();
        let is_hidden = name.first() == Some(&b'.');
        level.globs.matching(name, places);
        for place in &*places {
            let (rule, part) = level.named[*place];
            let is_last = part + 1 == self.rules[rule].parts.len();
            let is_meant = !is_hidden
                || matches!(&self.rules[rule].parts[part], Part::Name(glob) if glob.starts_with('.'));
            if is_meant {
                matches.push(((rule, part), (!is_last).then_some(part + 1)));
            }
        }
        for &(rule, part) in &level.deep {
            if !is_hidden || self.rules[rule].takes_hidden {
                matches.push(((rule, part), Some(part)));
                if part + 1 == self.rules[rule].parts.len() {
                    matches.push(((rule, part), None));
                }
            }
        }
    }

    /// What to look for in a folder in which the patterns have come this far.
    fn level(
        &self,
        levels: &mut HashMap<Vec<(usize, usize)>, Rc<Level>>,
        mut parts: Vec<(usize, usize)>,
    ) -> Result<Rc<Level>> {
        // `**` also stands for no folder at all.
        let mut n = 0;
        while let Some(&(rule, part)) = parts.get(n) {
            let all = &self.rules[rule].parts;
            if matches!(all[part], Part::Deep)
                && part + 1 < all.len()
                && !parts.contains(&(rule, part + 1))
            {
                parts.push((rule, part + 1));
            }
            n += 1;
        }
        if let Some(known) = levels.get(&parts) {
            return Ok(Rc::clone(known));
        }
        let is_deep =
            |(rule, part): &(usize, usize)| matches!(self.rules[*rule].parts[*part], Part::Deep);
        let (deep, named): (Vec<_>, Vec<_>) = parts.iter().copied().partition(is_deep);
        let globs = named.iter().map(|(rule, part)| match &self.rules[*rule].parts[*part] {
            Part::Name(glob) => glob.as_str(),
            Part::Deep => "**",
        });
        let no_glob = |why| Error::Usage(format!("a pattern of `inputs` is no glob: {why}"));
        let level = Rc::new(Level { globs: Globs::new(globs).map_err(no_glob)?, named, deep });
        levels.insert(parts, Rc::clone(&level));
        Ok(level)
    }
}

/// What to look for in a folder: (rule, part).
struct Level {
    globs: Globs,
    /// By place in `globs`.
    named: Vec<(usize, usize)>,
    deep: Vec<(usize, usize)>,
}

impl Rule {
    fn new(pattern: &str, number: usize) -> Rule {
        let parts: Vec<Part> = pattern
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
            .map(|part| if part == "**" { Part::Deep } else { Part::Name(part.to_owned()) })
            .collect();
        let follows = !parts.iter().any(|part| matches!(part, Part::Deep));
        Rule { parts, follows, takes_hidden: false, pattern: number }
    }
}

/// A folder (`ref/`) as the pattern for all that is in it.
fn whole(pattern: &str) -> Cow<'_, str> {
    if pattern.ends_with('/') { format!("{pattern}**").into() } else { pattern.into() }
}

/// Where the walk for a pattern begins.
fn start(pattern: &str) -> PathBuf {
    let fixed = Path::new(fixed_part(pattern));
    fixed.components().filter(|part| *part != Component::CurDir).collect()
}

/// True if a path, links followed, lies in a folder or is it.
pub(super) fn is_within(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    path.canonicalize().is_ok_and(|path| path.starts_with(folder))
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

/// A pattern taken apart for whoever wants to know what could match; nothing for one that names one path.
pub(super) fn split(pattern: &str) -> Result<Vec<Split>> {
    let is_folder = pattern.ends_with('/');
    let pattern = &*whole(pattern);
    if is_plain(pattern) {
        return Ok(Vec::new());
    }
    let no_glob = |why| Error::Usage(format!("`{pattern}` is no glob: {why}"));
    let split = |rest: &String| {
        let glob = glob_set([rest.as_str()]).map_err(no_glob)?;
        let depth = (!rest.contains("**")).then(|| rest.split('/').count());
        let hidden = is_folder || rest.split('/').any(|component| component.starts_with('.'));
        Ok(Split { fixed: start(pattern), glob, depth, hidden })
    };
    expand(&pattern[fixed_part(pattern).len()..]).map_err(no_glob)?.iter().map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(dir: &Path, patterns: &[&str]) -> Vec<String> {
        let mut names = Vec::new();
        for walk in PatternWalk::all(patterns).unwrap() {
            let nowhere = Path::new("/nowhere");
            walk.run(dir, nowhere, &mut Crossed::default(), &mut |found| {
                names.push(String::from_utf8_lossy(found.name).into_owned());
                Ok(())
            })
            .unwrap();
        }
        names.sort();
        names
    }

    fn tree(paths: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in paths {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        dir
    }

    #[test]
    fn a_pattern_names_what_a_shell_would() {
        let files = ["data/a.csv", "data/b.csv", "data/.hid.csv", "data/sub/c.csv", "data/x.txt"];
        let dir = tree(&files);
        let names = |pattern| found(dir.path(), &[pattern]);
        assert_eq!(names("data/*.csv"), ["a.csv", "b.csv"]);
        assert_eq!(names("data/**/*.csv"), ["a.csv", "b.csv", "sub/c.csv"]);
        assert_eq!(names("data/**"), ["a.csv", "b.csv", "sub/c.csv", "x.txt"]);
        assert_eq!(names("**/sub/**"), ["data/sub/c.csv"]);
        assert_eq!(names("*/*.txt"), ["data/x.txt"]);
        assert_eq!(names("data/.*.csv"), [".hid.csv"]);
        assert_eq!(names("none/*.csv"), [""; 0]);
        assert_eq!(names("data/*.{csv,txt}"), ["a.csv", "b.csv", "x.txt"]);
        assert_eq!(names("data/{sub/c,?}.csv"), ["a.csv", "b.csv", "sub/c.csv"]);
        assert_eq!(names("{data,none}/[ax].*"), ["data/a.csv", "data/x.txt"]);
    }

    #[test]
    fn each_component_says_for_itself_whether_hidden_names_are_meant() {
        let files = [".git/.conf/c", "a/.conf/c", "a/.conf/.h", ".env", "x", "a/b/.conf/d"];
        let dir = tree(&files);
        let names = |pattern| found(dir.path(), &[pattern]);
        assert_eq!(names("*/.conf/*"), ["a/.conf/c"]);
        assert_eq!(names("**/.conf/*"), ["a/.conf/c", "a/b/.conf/d"]);
        assert_eq!(names("{.env,x}"), [".env", "x"]);
        assert_eq!(names("{.env,*}"), [".env", "x"]);
        assert_eq!(names(".*/.conf/?"), [".git/.conf/c"]);
    }

    #[test]
    fn a_folder_stands_for_all_that_is_in_it() {
        let files = ["ref/a", "ref/.b", "ref/.c/d", "ref/e/f", "v1/x", ".v2/x", "x"];
        let dir = tree(&files);
        let names = |pattern| found(dir.path(), &[pattern]);
        assert_eq!(names("ref/"), [".b", ".c/d", "a", "e/f"]);
        assert_eq!(names("./ref/e/"), ["f"]);
        assert_eq!(names("*/"), ["ref/.b", "ref/.c/d", "ref/a", "ref/e/f", "v1/x"]);
        assert_eq!(names("none/"), [""; 0]);
    }

    #[test]
    fn many_patterns_over_one_folder_are_one_walk() {
        let names: Vec<String> = (0..300).map(|n| format!("in/f{n}")).collect();
        let dir = tree(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let patterns: Vec<String> = (0..700).map(|n| format!("in/f{n}*")).collect();
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        assert_eq!(PatternWalk::all(&patterns).unwrap().len(), 1);
        assert_eq!(found(dir.path(), &patterns).len(), 300);
        let walk = &PatternWalk::all(&patterns).unwrap()[0];
        let unmatched =
            walk.run(dir.path(), Path::new("/no"), &mut Crossed::default(), &mut |_| Ok(()));
        assert_eq!(unmatched.unwrap().len(), 400);
        // Other folders in between make no difference, unless one lies in another.
        assert_eq!(PatternWalk::all(&["a/*", "b/*", "a/?", "b/?"]).unwrap().len(), 2);
        assert_eq!(PatternWalk::all(&["a/*", "a/b/*", "a/?"]).unwrap().len(), 3);
    }
}
