//! The folder that is exported into, by descriptor: no link below it is ever followed, so nothing leads out of it.
//! Unaware of records.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::commands::outside::NewFile;
use crate::error::{Error, OrIo as _, Result};
use crate::folder::{is_database, is_in_database, is_same, only_runs_write};
use crate::names::{self, EXPORT_RECORD};
use crate::object::ObjectHash;
use crate::order;
use crate::sys::flock;
use crate::text::{as_path, printable, shown};

use super::record::{Record, Seen};

/// What lies under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Missing,
    File {
        seen: Seen,
        executable: bool,
    },
    Folder,
    Link,
    /// A FIFO, a socket or a device.
    Special,
    /// A folder that is a database.
    Database,
    /// Something on the way to it is no folder that we enter: this one.
    Below(Vec<u8>, Box<Place>),
}

/// How a folder is entered.
type Entered = std::result::Result<Rc<OwnedFd>, Place>;

/// An open folder to export into.
pub(super) struct Target {
    path: PathBuf,
    /// Of the database that is exported.
    db: PathBuf,
    dir: Rc<OwnedFd>,
    /// Holds the lock.
    _lock: File,
    /// The folder that was entered last; names come sorted.
    entered: RefCell<Option<(Vec<u8>, Rc<OwnedFd>)>>,
}

impl Target {
    /// Makes the folder if it is missing, opens it, and waits until no other export is at work in it.
    ///
    /// # Errors
    /// [`Error::Usage`] if it lies in a database; [`Error::Io`].
    pub(super) fn open(path: &Path, db: &Path, wait: &mut dyn FnMut()) -> Result<Target> {
        if is_in_database(path, Some(db)) {
            return Err(only_runs_write(path, "export into another folder"));
        }
        fs::create_dir_all(path).or_io("make the folder", path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).or_io("open the folder", path)?;
        let lock = File::from(dir.try_clone().or_io("open the folder", path)?);
        // Some file systems have no locks; the folder is used without one there.
        if matches!(flock::try_exclusive(&lock), Ok(false)) {
            wait();
            flock::exclusive(&lock).or_io("lock", path)?;
        }
        Ok(Target {
            path: path.to_owned(),
            db: db.to_owned(),
            dir: Rc::new(dir),
            _lock: lock,
            entered: RefCell::default(),
        })
    }

    /// A name in it as a path to show.
    pub(super) fn path(&self, name: &[u8]) -> PathBuf {
        self.path.join(as_path(name))
    }

    /// The path of the database from this folder on.
    pub(super) fn path_of_db(&self) -> Result<PathBuf> {
        let from = self.path.canonicalize().or_io("find the folder", &self.path)?;
        let to = self.db.canonicalize().or_io("find the folder", &self.db)?;
        let common = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
        let up = from.components().skip(common).map(|_| Path::new(".."));
        Ok(up.chain(to.components().skip(common).map(|part| Path::new(part.as_os_str()))).collect())
    }

    /// The record that earlier exports have left; an empty one if there is none.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is none that this build understands.
    pub(super) fn read_record(&self) -> Result<(Record, Option<Vec<u8>>)> {
        let path = self.path.join(EXPORT_RECORD);
        let not_ours = || {
            Error::Usage(format!(
                "`{}` is no record of an export that this version understands; remove it, or export into another folder",
                shown(&path)
            ))
        };
        let mut file = match open_file(&self.dir, EXPORT_RECORD.as_bytes()) {
            Ok(Some(file)) => file,
            Ok(None) | Err(Errno::LOOP) => return Err(not_ours()),
            Err(Errno::NOENT) => return Ok((Record::default(), None)),
            Err(err) => return Err(err).or_io("read", &path),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).or_io("read", &path)?;
        let record = Record::parse(&bytes).ok_or_else(not_ours)?;
        Ok((record, Some(bytes)))
    }

    /// Writes the record in place of the one before.
    pub(super) fn write_record(&self, bytes: &[u8]) -> Result<()> {
        use std::io::Write as _;
        let path = self.path.join(EXPORT_RECORD);
        let draft = NewFile::make(self.dir.as_fd(), EXPORT_RECORD, 0o666).or_io("write", &path)?;
        draft.file().write_all(bytes).or_io("write", &path)?;
        draft.replace(EXPORT_RECORD.as_bytes()).or_io("write", &path)
    }

    /// What lies under a name.
    pub(super) fn look(&self, name: &[u8]) -> Result<Place> {
        let (folder, base) = names::split(name);
        let dir = match self.enter(folder, false)? {
            Ok(dir) => dir,
            Err(place) => return Ok(place),
        };
        let stat = match rustix::fs::statat(&*dir, base, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(Place::Missing),
            Err(err) => return Err(err).or_io("look at", self.path(name)),
        };
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                Place::File { seen: Seen::of_stat(&stat), executable: stat.st_mode & 0o100 != 0 }
            }
            FileType::Directory => Place::Folder,
            FileType::Symlink => Place::Link,
            _ => Place::Special,
        })
    }

    /// The hash of a regular file, with what it looked like then. `None` if it can't be read: then it is not what we
    /// wrote.
    pub(super) fn hash(&self, name: &[u8]) -> Result<Option<(ObjectHash, Seen)>> {
        let (folder, base) = names::split(name);
        let Ok(dir) = self.enter(folder, false)? else { return Ok(None) };
        let mut file = match open_file(&dir, base) {
            Ok(Some(file)) => file,
            Ok(None) | Err(Errno::NOENT | Errno::LOOP | Errno::ACCESS | Errno::PERM) => {
                return Ok(None);
            }
            Err(err) => return Err(err).or_io("read", self.path(name)),
        };
        let seen = Seen::of(&file.metadata().or_io("look at", self.path(name))?);
        let hash = ObjectHash::of_stream(&mut file).or_io("read", self.path(name))?;
        Ok(Some((hash, seen)))
    }

    /// Something below a folder that `is_ours` doesn't know; `None` if there is nothing else.
    pub(super) fn stranger_below(
        &self,
        folder: &[u8],
        is_ours: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let dir = match self.enter(folder, false)? {
            Ok(dir) => dir,
            Err(_) => return Ok(Some(folder.to_owned())),
        };
        for (name, kind) in self.list(&dir, folder)? {
            let path = [folder, b"/", &name].concat();
            let stranger = match kind {
                FileType::Directory => self.stranger_below(&path, is_ours)?,
                _ => (!is_ours(&path)).then_some(path),
            };
            if stranger.is_some() {
                return Ok(stranger);
            }
        }
        Ok(None)
    }

    /// Removes drafts that a killed export has left in a folder, if there is such a folder.
    pub(super) fn remove_drafts(&self, folder: &[u8]) -> Result<()> {
        let Ok(dir) = self.enter(folder, false)? else { return Ok(()) };
        for (name, kind) in self.list(&dir, folder)? {
            if kind == FileType::RegularFile && is_draft(&name) {
                let removed = rustix::fs::unlinkat(&*dir, &name[..], AtFlags::empty());
                removed.or_io("remove", self.path(folder).join(as_path(&name)))?;
            }
        }
        Ok(())
    }

    /// Removes a file or a link, and the folders that are empty without it.
    pub(super) fn remove(&self, name: &[u8]) -> Result<()> {
        let (folder, base) = names::split(name);
        let Ok(dir) = self.enter(folder, false)? else { return Ok(()) };
        match rustix::fs::unlinkat(&*dir, base, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(err) => return Err(err).or_io("remove", self.path(name)),
        }
        self.remove_empty(folder)
    }

    /// Removes a folder and those above it, as far as they are empty.
    pub(super) fn remove_empty(&self, mut folder: &[u8]) -> Result<()> {
        self.entered.take();
        while !folder.is_empty() {
            let (above, base) = names::split(folder);
            let Ok(dir) = self.enter(above, false)? else { return Ok(()) };
            // Fails at the first folder that is not empty.
            if rustix::fs::unlinkat(&*dir, base, AtFlags::REMOVEDIR).is_err() {
                break;
            }
            self.entered.take();
            folder = above;
        }
        Ok(())
    }

    /// Removes a folder and all below it, as far as they are empty.
    pub(super) fn remove_empty_below(&self, folder: &[u8]) -> Result<()> {
        if let Ok(dir) = self.enter(folder, false)? {
            for (name, kind) in self.list(&dir, folder)? {
                if kind == FileType::Directory {
                    self.remove_empty_below(&[folder, b"/", &name].concat())?;
                }
            }
        }
        self.remove_empty(folder)
    }

    /// Writes a file: `fill` writes to a draft, which then takes the name; `replaces` says whether a file of that name
    /// is known to be there, and may go.
    pub(super) fn write(
        &self,
        name: &[u8],
        executable: bool,
        replaces: bool,
        fill: &mut dyn FnMut(&File) -> Result<()>,
    ) -> Result<Seen> {
        let (folder, base) = names::split(name);
        let path = self.path(name);
        let dir = match self.enter(folder, true)? {
            Ok(dir) => dir,
            Err(_) => return Err(Errno::NOTDIR).or_io("make the folder of", path),
        };
        let mode = if executable { 0o777 } else { 0o666 };
        let draft = NewFile::make(dir.as_fd(), EXPORT_RECORD, mode).or_io("write", &path)?;
        fill(draft.file())?;
        let placed = if replaces { draft.replace(base) } else { draft.add(base) };
        match placed {
            Err(Errno::EXIST) => Err(Error::Usage(format!(
                "`{}` was not there when this export began, and is not overwritten; export again. If nobody else writes \
                 there, the file system takes another output's name for the same",
                shown(&path)
            ))),
            placed => {
                placed.or_io("write", &path)?;
                // Only now: that it is given its name is a change of the file too.
                let stat = rustix::fs::statat(&*dir, base, AtFlags::SYMLINK_NOFOLLOW);
                Ok(Seen::of_stat(&stat.or_io("look at", &path)?))
            }
        }
    }

    /// Opens a folder below this one, whose path is empty for this one. `make`: and makes what is missing of it.
    fn enter(&self, folder: &[u8], make: bool) -> Result<Entered> {
        if let Some((path, dir)) = &*self.entered.borrow()
            && path == folder
        {
            return Ok(Ok(Rc::clone(dir)));
        }
        let mut dir = Rc::clone(&self.dir);
        let mut end = 0;
        for part in folder.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
            end += part.len() + usize::from(end > 0);
            let path = &folder[..end];
            let mut next = open_folder(&dir, part);
            if matches!(next, Err(Errno::NOENT)) && make {
                match rustix::fs::mkdirat(&*dir, part, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(err) => return Err(err).or_io("make the folder", self.path(path)),
                }
                next = open_folder(&dir, part);
            }
            dir = match next {
                Ok(next) => Rc::new(next),
                Err(Errno::NOENT) => return Ok(Err(Place::Missing)),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Ok(Err(Place::Below(path.to_owned(), Box::new(self.look(path)?))));
                }
                Err(err) => return Err(err).or_io("open the folder", self.path(path)),
            };
            let whole = self.path(path);
            if is_same(&whole, &self.db) || is_database(&whole) {
                return Ok(Err(Place::Below(path.to_owned(), Box::new(Place::Database))));
            }
        }
        self.entered.replace(Some((folder.to_owned(), Rc::clone(&dir))));
        Ok(Ok(dir))
    }

    fn list(&self, dir: &OwnedFd, folder: &[u8]) -> Result<Vec<(Vec<u8>, FileType)>> {
        let path = || self.path(folder);
        let mut entries = Vec::new();
        for entry in Dir::read_from(dir).or_io("list the folder", path())? {
            let entry = entry.or_io("list the folder", path())?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
                kind = FileType::from_raw_mode(stat.or_io("look at", path())?.st_mode);
            }
            entries.push((name.to_owned(), kind));
        }
        order::sort_by(&mut entries, |(a, _), (b, _)| a.cmp(b));
        Ok(entries)
    }
}

fn open_folder(dir: &OwnedFd, name: &[u8]) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Opens a regular file for reading; `None` if it is something else. A FIFO doesn't make us wait.
fn open_file(dir: &OwnedFd, name: &[u8]) -> std::result::Result<Option<File>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Err(Errno::NXIO) => return Ok(None),
        file => file?,
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    Ok((kind == FileType::RegularFile).then(|| File::from(file)))
}

/// Whether a name is that of a draft of ours; older builds had the number of the process in it.
pub(super) fn is_draft(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(EXPORT_RECORD.as_bytes()) else { return false };
    let Some(rest) = rest.strip_prefix(b".") else { return false };
    let rest = rest.strip_suffix(b"~").unwrap_or(rest);
    let is_number = !rest.is_empty() && rest.iter().all(u8::is_ascii_digit);
    is_number || (rest.len() == 32 && rest.iter().all(u8::is_ascii_hexdigit))
}

/// For messages: what is in the way.
impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Place::Missing => "is missing",
            Place::File { .. } => "is a file",
            Place::Folder => "is a folder",
            Place::Link => "is a symbolic link, which is not followed",
            Place::Special => "is neither a file nor a folder",
            Place::Database => "is a database",
            Place::Below(path, place) => {
                return write!(f, "needs the folder {}, which {place}", printable(path));
            }
        })
    }
}
