//! A task's `files`: which they are, what they hold, and whether that is still so when a script ends: what its
//! scripts read must be what its recipe says.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{ErrorKind, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::db::{self, Db, InputRow, Inputs, Stat};
use crate::error::{Error, OrIo, Result};
use crate::exec::HomeFile;
use crate::ids::TaskIndex;
use crate::manifest::{Manifest, Task, is_plain};
use crate::object::ObjectHash;
use crate::recipe::Recipe;
use crate::sys::clock::{is_racy, now_ns};
use crate::text::{path_bytes, printable, shown};

use super::walk::{Crossed, PatternWalk, is_within};

/// The recipe that a task of a manifest has now.
///
/// # Errors
/// [`Error::Usage`] if one of its `files` can't be one, [`Error::Io`] if one can't be read.
pub(crate) fn recipe_of(manifest: &Manifest, task: TaskIndex, db_dir: &Path) -> Result<Recipe> {
    let task = manifest.task(task);
    let mut lister = Lister::new(&manifest.dir, db_dir, None);
    let (files, _) = lister.list(task, &mut Crossed::default())?;
    Ok(Recipe::of(task, files.for_recipe()))
}

/// Finds and hashes the `files` of tasks.
pub(super) struct Lister<'a> {
    dir: &'a Path,
    db_dir: &'a Path,
    /// What is known of files that have not changed; without it, all are read.
    db: Option<&'a Db>,
    /// Of this very look: tasks may share files.
    hashed: HashMap<PathBuf, (ObjectHash, Stat)>,
}

impl<'a> Lister<'a> {
    pub(super) fn new(dir: &'a Path, db_dir: &'a Path, db: Option<&'a Db>) -> Lister<'a> {
        Lister { dir, db_dir, db, hashed: HashMap::new() }
    }

    /// What a task's `files` stand for, and which of its patterns stand for nothing.
    ///
    /// # Errors
    /// [`Error::Usage`] with the task and the file if one is missing or can't be one; [`Error::Io`] if one can't be
    /// read.
    pub(super) fn list(
        &mut self,
        task: &Task,
        crossed: &mut Crossed,
    ) -> Result<(ListedFiles, Vec<String>)> {
        let (dir, db_dir) = (self.dir.to_owned(), self.db_dir.to_owned());
        let mut listed = ListedFiles { dir: dir.clone(), db_dir, ..ListedFiles::default() };
        let mut files = BTreeMap::new();
        for pattern in &task.files {
            if !is_path(pattern) {
                listed.patterns.push(pattern.clone());
                continue;
            }
            let full = self.dir.join(pattern);
            if is_within(&full, self.db_dir) {
                return Err(Error::Usage(format!(
                    "file `{}` of task `{}` lies in the run's own database; export what the script is to read",
                    printable(pattern.as_bytes()),
                    task.name
                )));
            }
            files.insert(PathBuf::from(pattern), full);
        }
        if let Some(path) = task.read.iter().find(|path| is_within(&dir.join(path), self.db_dir)) {
            return Err(Error::Usage(format!(
                "`{}` (of `read`) of task `{}` lies in the run's own database; export what the script is to read",
                printable(path.as_bytes()),
                task.name
            )));
        }
        let found = listed.walk()?;
        if let Some((full, source)) = found.refused {
            let path = full.strip_prefix(self.dir).unwrap_or(&full).to_owned();
            return Err(unusable(Error::Io { what: "read", path: full, source }, task, &path));
        }
        files.extend(found.paths.into_iter().map(|path| (path.clone(), self.dir.join(path))));
        for (path, full) in files {
            // Before it is read: a change that comes after that is one since.
            let planned = std::fs::metadata(&full).map(|found| Stat::of(&found)).ok();
            let (object, stat) = self.hash(&full).map_err(|err| unusable(err, task, &path))?;
            let seen = Mutex::new(stat);
            for step in full.ancestors().take_while(|step| *step != self.dir) {
                if !listed.way.contains_key(step)
                    && let Some(seen) = WayPoint::see(step)
                {
                    listed.way.insert(step.to_owned(), seen);
                }
            }
            listed.files.push(ListedFile { path, full, object, planned, seen });
        }
        *listed.folders() = found.folders;
        crossed.database |= found.crossed.database;
        crossed.exports.extend(found.crossed.exports);
        Ok((listed, found.unmatched))
    }

    /// The content of a file, and its inode, which may be [untrusted](Stat::UNTRUSTED). If the inode says that the file
    /// didn't change, its content is known.
    fn hash(&mut self, full: &Path) -> Result<(ObjectHash, Stat)> {
        if let Some(hashed) = self.hashed.get(full) {
            return Ok(*hashed);
        }
        let hashed = match self.db {
            Some(db) => hash_known(db, full)?,
            None => read_listed_file(full)?,
        };
        self.hashed.insert(full.to_owned(), hashed);
        Ok(hashed)
    }
}

/// True for one of `files` that names one file.
fn is_path(pattern: &str) -> bool {
    is_plain(pattern) && !pattern.ends_with('/')
}

fn hash_known(db: &Db, full: &Path) -> Result<(ObjectHash, Stat)> {
    let path = path_bytes(full);
    let stat = Stat::of(&std::fs::metadata(full).or_io("look at", full)?);
    let known = db.read(|reader| Inputs::known(reader, db::FILES, path))?;
    if let Some(row) = known
        && row.stat == stat
    {
        return Ok((row.object, stat));
    }
    let (object, stat) = read_listed_file(full)?;
    let row = InputRow { name: Vec::new(), stat, object };
    db.read(|reader| Inputs::found(reader, db::FILES, path, &row))?;
    Ok((object, stat))
}

/// Hashes one of a task's `files`. The stat is [untrusted](Stat::UNTRUSTED) if it can't tell a later change.
fn read_listed_file(full: &Path) -> Result<(ObjectHash, Stat)> {
    let mut file = File::open(full).or_io("read", full)?;
    // As for an input: three looks at a file that somebody is writing. It is checked again after each script.
    for _ in 0..3 {
        file.rewind().or_io("read", full)?;
        let before = Stat::of(&file.metadata().or_io("look at", full)?);
        let now_ns = now_ns();
        let object = ObjectHash::of_stream(&mut file).or_io("read", full)?;
        let stat = Stat::of(&file.metadata().or_io("look at", full)?);
        if stat == before {
            return Ok((object, distrust(stat, now_ns)));
        }
    }
    Err(Error::Usage(format!(
        "`{}` (of `files`) changes while it is read; run again when nobody writes to it",
        printable(path_bytes(full))
    )))
}

/// What an inode said at `now_ns`, marked if that can't tell a later change.
fn distrust(stat: Stat, now_ns: i64) -> Stat {
    match is_racy(stat.ctime_ns, now_ns) {
        true => Stat { mtime_ns: Stat::UNTRUSTED, ..stat },
        false => stat,
    }
}

/// A missing file is a mistake in the manifest; a failing disk is not.
fn unusable(err: Error, task: &Task, file: &Path) -> Error {
    let Error::Io { source, path, .. } = &err else {
        return err;
    };
    let what = match source.kind() {
        _ if is_loop(source) => "is a symbolic link that leads to itself",
        ErrorKind::NotFound if path.is_symlink() => "is a symbolic link to nothing",
        ErrorKind::NotFound | ErrorKind::NotADirectory => "does not exist",
        ErrorKind::IsADirectory => "is a folder",
        ErrorKind::PermissionDenied => {
            return Error::Usage(format!(
                "task `{}`: `{}` (of `files`) can't be read: {source}; make it readable for this user (chmod), or take \
                 it out of `files`: what the script reads must be known before it runs",
                task.name,
                shown(file)
            ));
        }
        _ => return err,
    };
    Error::Usage(format!(
        "file `{}` of task `{}` {what} (`{}`); put it there, or correct `files` in the manifest",
        shown(file),
        task.name,
        shown(path)
    ))
}

fn is_loop(err: &std::io::Error) -> bool {
    err.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

/// The `files` of a task as its recipe has them.
#[derive(Default)]
pub(super) struct ListedFiles {
    dir: PathBuf,
    db_dir: PathBuf,
    /// Globs and folders.
    patterns: Vec<String>,
    /// Sorted by path.
    files: Vec<ListedFile>,
    /// The folders and links on the way to the files, as they were when the run was planned.
    way: BTreeMap<PathBuf, WayPoint>,
    /// With which the folders that `patterns` are looked for in were last seen to have these files.
    folders: Mutex<Vec<SeenFolder>>,
}

struct ListedFile {
    /// As written, or below the manifest's folder.
    path: PathBuf,
    full: PathBuf,
    object: ObjectHash,
    /// Its inode when the run was planned.
    planned: Option<Stat>,
    /// With which it was last seen to be `object`.
    seen: Mutex<Stat>,
}

/// A folder or a link that leads to a file. Its time of change tells that it was another one in the meantime: to be
/// renamed, or made anew, is a change of itself, and what comes and goes in a folder changes its other time too.
#[derive(Debug, Clone, Copy, PartialEq)]
struct WayPoint {
    is_link: bool,
    inode: i64,
    mtime_ns: i64,
    ctime_ns: i64,
}

impl WayPoint {
    /// `None` for what is neither, or is not there.
    fn see(path: &Path) -> Option<WayPoint> {
        let found = std::fs::symlink_metadata(path).ok()?;
        let is_link = found.is_symlink();
        let Stat { inode, mtime_ns, ctime_ns, .. } = Stat::of(&found);
        (is_link || found.is_dir()).then_some(WayPoint { is_link, inode, mtime_ns, ctime_ns })
    }

    /// Whether something else may have been there after a moment, now that it looks so.
    fn was_another_since(&self, now: Option<WayPoint>, since_ns: i64) -> bool {
        let Some(now) = now else { return true };
        let is_new = (now.is_link, now.inode) != (self.is_link, self.inode);
        let is_renamed =
            now.ctime_ns != self.ctime_ns && (now.is_link || now.mtime_ns == self.mtime_ns);
        (is_new || is_renamed) && is_racy(now.ctime_ns, since_ns)
    }
}

/// A folder, and its inode before it was read; `None`: it was not there.
struct SeenFolder {
    path: PathBuf,
    stat: Option<Stat>,
}

/// What globs and folders stand for now.
#[derive(Default)]
struct FoundFiles {
    paths: Vec<PathBuf>,
    folders: Vec<SeenFolder>,
    unmatched: Vec<String>,
    /// What can't be read, and why.
    refused: Option<(PathBuf, std::io::Error)>,
    crossed: Crossed,
}

impl ListedFiles {
    /// The task has none.
    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty() && self.files.is_empty()
    }

    /// For the recipe: (path, hash in hex). A path that is not UTF-8 is escaped: it is only compared and shown.
    pub(super) fn for_recipe(&self) -> Vec<(String, String)> {
        let name = |path: &Path| match path.to_str() {
            Some(name) => name.to_owned(),
            None => printable(path_bytes(path)).into_owned(),
        };
        self.files.iter().map(|file| (name(&file.path), file.object.hex())).collect()
    }

    /// Where they are.
    pub(super) fn paths(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|file| file.full.clone())
    }

    /// The same, for other machines: what they were when the run was planned.
    pub(super) fn for_home(&self) -> impl Iterator<Item = HomeFile> {
        self.files.iter().filter_map(|file| {
            let Stat { size, mtime_ns, .. } = file.planned?;
            let (path, object) = (path_bytes(&file.full).to_vec(), file.object);
            Some(HomeFile { path, object, size: size.unsigned_abs(), mtime_ns })
        })
    }

    /// The first file that, for a script which began at `since_ns`, was not all the time what it was when the run was
    /// planned: it is another one now, it came or went, or it was changed and changed back. The second value tells
    /// whether it is what it was. Costs a stat a file and a folder; a file whose inode has changed is hashed, and if a
    /// folder's has, all of them are read.
    ///
    /// # Errors
    /// If a folder can't be read.
    pub(super) fn changed(&self, since_ns: i64) -> Result<Option<(PathBuf, bool)>> {
        if let Some(file) = self.files.iter().find(|file| !file.is_unchanged()) {
            return Ok(Some((file.path.clone(), false)));
        }
        if let Some(new) = self.came_or_went()? {
            return Ok(Some((new, false)));
        }
        let file = self.files.iter().find(|file| file.was_another_since(since_ns));
        if let Some(file) = file {
            return Ok(Some((file.path.clone(), true)));
        }
        let was_another = |(path, seen): &(&PathBuf, &WayPoint)| {
            seen.was_another_since(WayPoint::see(path), since_ns)
        };
        let way = self.way.iter().find(was_another);
        Ok(way.map(|(path, _)| (path.strip_prefix(&self.dir).unwrap_or(path).to_owned(), true)))
    }

    fn came_or_went(&self) -> Result<Option<PathBuf>> {
        let mut folders = self.folders();
        let is_same = |folder: &SeenFolder| {
            folder.stat == std::fs::metadata(&folder.path).ok().map(|found| Stat::of(&found))
        };
        if folders.iter().all(is_same) {
            return Ok(None);
        }
        let found = self.walk()?;
        if let Some((path, _)) = found.refused {
            return Ok(Some(path));
        }
        let is_known =
            |path: &PathBuf| self.files.binary_search_by(|file| file.path.cmp(path)).is_ok();
        if let Some(new) = found.paths.into_iter().find(|path| !is_known(path)) {
            return Ok(Some(new));
        }
        *folders = found.folders;
        Ok(None)
    }

    fn folders(&self) -> MutexGuard<'_, Vec<SeenFolder>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks for what the patterns stand for, one at a time, so that each can be named.
    fn walk(&self) -> Result<FoundFiles> {
        let mut found = FoundFiles::default();
        for pattern in &self.patterns {
            let now_ns = now_ns();
            for walk in PatternWalk::all(&[pattern.as_str()])? {
                let mut crossed = Crossed { entered: Some(Vec::new()), ..Crossed::default() };
                let unmatched = walk.run(&self.dir, &self.db_dir, &mut crossed, &mut |file| {
                    found.paths.push(file.path.to_owned());
                    Ok(())
                })?;
                if !unmatched.is_empty() {
                    found.unmatched.push(pattern.clone());
                }
                if let Some((path, source)) = crossed.refused.pop() {
                    found.refused = Some((path, source));
                }
                let start = walk.start(&self.dir);
                let entered = crossed.entered.take().unwrap_or_default();
                if !entered.iter().any(|(path, _)| *path == start) {
                    let stat = std::fs::metadata(&start).ok().map(|found| Stat::of(&found));
                    found.folders.push(SeenFolder { path: start, stat });
                }
                let seen = |(path, stat)| SeenFolder { path, stat: Some(distrust(stat, now_ns)) };
                found.folders.extend(entered.into_iter().map(seen));
                found.crossed.add(crossed);
            }
        }
        Ok(found)
    }
}

impl ListedFile {
    /// Whether it may have been another one after a moment, though it is what it was: its inode tells of a change.
    fn was_another_since(&self, since_ns: i64) -> bool {
        let now = std::fs::metadata(&self.full).map(|found| Stat::of(&found)).ok();
        let inode = |stat: Stat| (stat.inode, stat.ctime_ns);
        now.map(inode) != self.planned.map(inode)
            && now.is_none_or(|now| is_racy(now.ctime_ns, since_ns))
    }

    fn is_unchanged(&self) -> bool {
        let Ok(metadata) = std::fs::metadata(&self.full) else { return false };
        // Held while it is hashed, so that all workers don't hash a large file at once.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == Stat::of(&metadata) {
            return true;
        }
        match read_listed_file(&self.full) {
            Ok((object, stat)) if object == self.object => {
                *seen = stat;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_names_the_task_the_file_and_the_cure() {
        let text = "[[task]]\nname = \"t\"\nscript = \"wc\"\nfiles = [\"words.txt\"]\n";
        let dir = tempfile::tempdir().unwrap();
        let manifest = Manifest::from_text(Path::new("m.toml"), dir.path(), text.as_bytes());
        let manifest = manifest.unwrap();
        let missing = recipe_of(&manifest, TaskIndex(0), Path::new("/nowhere")).unwrap_err();
        assert_eq!(
            missing.to_string(),
            format!(
                "file `words.txt` of task `t` does not exist (`{}`); put it there, or correct `files` in the manifest",
                shown(&dir.path().join("words.txt"))
            )
        );
        assert_eq!(missing.exit_code(), crate::error::exit::USAGE);
        let denied = Error::Io {
            what: "read",
            path: PathBuf::from("words.txt"),
            source: ErrorKind::PermissionDenied.into(),
        };
        let denied = unusable(denied, &manifest.tasks[0], Path::new("words.txt"));
        assert!(denied.to_string().contains("task `t`: `words.txt` (of `files`) can't be read"));
        assert_eq!(denied.exit_code(), crate::error::exit::USAGE);
        let broken = Error::Io {
            what: "read",
            path: PathBuf::from("words.txt"),
            source: rustix::io::Errno::IO.into(),
        };
        let broken = unusable(broken, &manifest.tasks[0], Path::new("words.txt"));
        assert_eq!(broken.exit_code(), crate::error::exit::IO);
    }
}
