//! Puts the inputs where the script looks for them. INPUT_FILE of one object is a private copy if it is
//! small, a clone or a read-only link if it is large; in neither case can a script damage the store through
//! it unnoticed. For `gather` there are all of them in INPUT_DIR, and INPUT_FILE is a list of their paths.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt as _};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::folder::{Folder, make_folders};
use super::launcher::STARTING;
use super::links::LinkedInput;
use super::scratch::{SPARE, SmallFile, Workspace};
use super::{Attempt, Input};
use crate::attempt::NamedObject;
use crate::error::{OrIo, Result};
use crate::names;
use crate::object::ObjectHash;
use crate::store::{Loaded, Store, copy_sparse};

/// Up to here, in bytes, an input is read into memory, compared with its hash and written to the small file. A larger
/// one is handed out without a look at its bytes.
pub const SMALL: u64 = 1 << 20;

/// From here on, in bytes, an input is a link where the file system has no clones.
const LARGE: u64 = 16 << 20;

/// Name of the list of a `gather` step's inputs, beside `in/`.
const LIST: &str = "inputs";

/// The file system of the scratch has turned out to know no clones.
static NO_CLONES: AtomicBool = AtomicBool::new(false);

/// An input as a script finds it.
pub(super) struct StagedInput {
    /// INPUT_FILE.
    pub(super) file: OsString,
    /// INPUT_NAME.
    pub(super) name: OsString,
    /// INPUT_DIR is set.
    pub(super) has_dir: bool,
    /// The columns of a table that are files, each with its variable's value.
    pub(super) columns: Vec<(String, OsString)>,
    /// Objects handed out as links.
    pub(super) links: Vec<Lent>,
}

/// An object that is handed out as a link.
pub(super) struct Lent {
    pub(super) link: LinkedInput,
    /// Where the link is, below `in/` or WITH_DIR.
    pub(super) path: Vec<u8>,
    /// It is in WITH_DIR.
    pub(super) is_side: bool,
}

/// Puts the inputs of an attempt, and what it sees by `with`, where the script will look for them. Large ones may be
/// links to the object unless the script `copies_input`.
pub(super) fn stage(
    workspace: &mut Workspace,
    store: &Store,
    attempt: &Attempt,
    buffer: &mut Vec<u8>,
) -> Result<StagedInput> {
    let may_link = !attempt.script.copies_input;
    let mut staged = match &attempt.input {
        Input::One(input) => stage_one(workspace, store, input, may_link, buffer)?,
        Input::Many { name, items } => {
            let columns = &attempt.script.paths;
            stage_many(workspace, store, (name, items, columns), may_link, buffer)?
        }
    };
    if !attempt.side.is_empty() {
        let folder = workspace.side()?;
        let paths = paths_of(&attempt.side);
        let links = lay_out(folder, store, &attempt.side, &paths, may_link, buffer)?;
        staged.links.extend(links.into_iter().map(|(link, path)| Lent {
            link,
            path,
            is_side: true,
        }));
    }
    Ok(staged)
}

fn stage_one(
    workspace: &mut Workspace,
    store: &Store,
    NamedObject { name, object, executable }: &NamedObject,
    may_link: bool,
    buffer: &mut Vec<u8>,
) -> Result<StagedInput> {
    let executable = *executable;
    let path = names::below(name);
    let base = names::split(&path).1;
    let file = workspace.input.path.join(OsStr::from_bytes(base));
    let mut links = Vec::new();
    match store.load(object, SMALL, buffer)? {
        Loaded::Whole if executable => {
            workspace.set_small_aside().or_io("move aside", &file)?;
            write_program(workspace.input.fd(), base, buffer).or_io("write", &file)?;
        }
        Loaded::Whole => write_small(workspace, base, buffer).or_io("write", &file)?,
        Loaded::Large { file: source, stat } => {
            workspace.set_small_aside().or_io("move aside", &file)?;
            let at = (workspace.input.fd(), base);
            let link = stage_large(store, object, (source, &stat), at, executable, may_link)?;
            links.extend(link.map(|link| Lent { link, path: base.to_owned(), is_side: false }));
        }
    }
    let name = OsStr::from_bytes(name).to_owned();
    Ok(StagedInput {
        file: file.into_os_string(),
        name,
        has_dir: false,
        columns: Vec::new(),
        links,
    })
}

/// Overwrites the small file in place: 10 µs, where making a new one takes 190.
fn write_small(workspace: &mut Workspace, base: &[u8], bytes: &[u8]) -> io::Result<()> {
    let (file, length) = match reopen_small(workspace, base) {
        Some(reopened) => reopened,
        None => {
            if workspace.small.is_some() {
                workspace.give_up_small()?;
            }
            let file = create(workspace.input.fd(), base, false)?;
            let (name, inode) = (Some(base.to_owned()), rustix::fs::fstat(&file)?.st_ino);
            workspace.small = Some(SmallFile { name, inode });
            (file, 0)
        }
    };
    file.write_all_at(bytes, 0)?;
    if length > bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    Ok(())
}

/// The small file under its new name, and its length; only if it is beyond doubt ours alone: that very inode, under its
/// name, and under no other anywhere. `None` whatever is wrong with it, since a script may have done anything to it. It
/// is opened anew each time, because a script may make a program of it, and what is open for writing can't be run.
fn reopen_small(workspace: &mut Workspace, base: &[u8]) -> Option<(File, u64)> {
    let dir = workspace.input.fd();
    let small = workspace.small.as_mut()?;
    match &small.name {
        Some(name) if name == base => {}
        Some(name) => rustix::fs::renameat(dir, name.as_slice(), dir, base).ok()?,
        None => {
            // A script finds it beside its folders, and may have put anything in its place.
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let spare = rustix::fs::statat(&workspace.root, SPARE, flags).ok()?;
            if spare.st_ino != small.inode
                || FileType::from_raw_mode(spare.st_mode) != FileType::RegularFile
            {
                return None;
            }
            rustix::fs::renameat(&workspace.root, SPARE, dir, base).ok()?;
        }
    }
    small.name = Some(base.to_owned());
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, base, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    // Its number may have been given to another file since; if that is an ordinary file under this very name and no
    // other, it serves as well.
    let is_ours = stat.st_ino == small.inode
        && stat.st_nlink == 1
        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !is_ours {
        return None;
    }
    let mode = input_mode(false);
    if Mode::from_raw_mode(stat.st_mode) != mode {
        rustix::fs::fchmod(&file, mode).ok()?;
    }
    Some((File::from(file), stat.st_size as u64))
}

fn stage_many(
    workspace: &mut Workspace,
    store: &Store,
    (input_name, items, columns): (&[u8], &[NamedObject], &[String]),
    may_link: bool,
    buffer: &mut Vec<u8>,
) -> Result<StagedInput> {
    workspace.set_small_aside().or_io("move aside the input in", &workspace.path)?;
    let paths = paths_of(items);
    let links = lay_out(&workspace.input, store, items, &paths, may_link, buffer)?;
    let lent = |(link, path)| Lent { link, path, is_side: false };
    let links = links.into_iter().map(lent).collect();
    let file = workspace.path.join(LIST);
    write_list(workspace, &paths).or_io("write", &file)?;
    let dir = workspace.input.path.as_os_str().as_bytes();
    let value = |column: &String| {
        let folder = [column.as_bytes(), b"/"].concat();
        let path = paths.iter().find(|path| path.starts_with(&folder));
        let path = path.map(|path| [dir, b"/", path].concat()).unwrap_or_default();
        (column.clone(), OsString::from_vec(path))
    };
    Ok(StagedInput {
        file: file.into_os_string(),
        name: OsStr::from_bytes(input_name).to_owned(),
        has_dir: true,
        columns: columns.iter().map(value).collect(),
        links,
    })
}

/// Where the files of many inputs are, below their folder.
fn paths_of(items: &[NamedObject]) -> Vec<Vec<u8>> {
    let names: Vec<_> = items.iter().map(|item| on_one_line(&item.name)).collect();
    names::distinct(names.iter().map(|name| &**name))
}

/// Lays out any number of files in a folder; one file and one folder are open at a time. Gives the links among them,
/// each with its path.
fn lay_out(
    folder: &Folder,
    store: &Store,
    items: &[NamedObject],
    paths: &[Vec<u8>],
    may_link: bool,
    buffer: &mut Vec<u8>,
) -> Result<Vec<(LinkedInput, Vec<u8>)>> {
    let mut links = Vec::new();
    let mut open: Option<(&[u8], OwnedFd)> = None;
    for (item, path) in items.iter().zip(paths) {
        let (within, base) = names::split(path);
        if !within.is_empty() && open.as_ref().is_none_or(|(name, _)| *name != within) {
            let fd = make_folders(folder.fd(), within).or_io("make folders in", &folder.path)?;
            open = Some((within, fd));
        }
        let dir = match &open {
            Some((_, fd)) if !within.is_empty() => fd.as_fd(),
            _ => folder.fd(),
        };
        match store.load(&item.object, SMALL, buffer)? {
            Loaded::Whole => {
                let written = if item.executable {
                    write_program(dir, base, buffer)
                } else {
                    create(dir, base, false).and_then(|mut file| file.write_all(buffer))
                };
                written.or_io("write an input into", &folder.path)?;
            }
            Loaded::Large { file, stat } => {
                let at = (dir, base);
                let link =
                    stage_large(store, &item.object, (file, &stat), at, item.executable, may_link)?;
                links.extend(link.map(|link| (link, path.clone())));
            }
        }
    }
    Ok(links)
}

/// The list has one path a line, so a newline in a name would make two paths of it: such a file is called
/// otherwise, with `_` for each newline.
fn on_one_line(name: &[u8]) -> Cow<'_, [u8]> {
    if !name.contains(&b'\n') {
        return Cow::Borrowed(name);
    }
    name.iter().map(|&byte| if byte == b'\n' { b'_' } else { byte }).collect()
}

fn write_list(workspace: &Workspace, paths: &[Vec<u8>]) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    // Whatever a script made of the last one.
    let _ = rustix::fs::unlinkat(&workspace.root, LIST, AtFlags::empty());
    let file = rustix::fs::openat(&workspace.root, LIST, flags, Mode::RUSR | Mode::WUSR)?;
    let mut list = BufWriter::new(std::fs::File::from(file));
    let dir: &Path = &workspace.input.path;
    for path in paths {
        list.write_all(dir.as_os_str().as_bytes())?;
        list.write_all(b"/")?;
        list.write_all(path)?;
        list.write_all(b"\n")?;
    }
    list.flush()
}

/// Puts a large object under a name: as a clone, a read-only link, or a copy. The link is returned, since
/// it has to be watched.
fn stage_large(
    store: &Store,
    object: &ObjectHash,
    (mut source, stat): (File, &Stat),
    (dir, name): (BorrowedFd<'_>, &[u8]),
    executable: bool,
    may_link: bool,
) -> Result<Option<LinkedInput>> {
    let copying = "copy object";
    let path = || store.path(object);
    // A link has the object's mode, so an executable input has to be a file of its own.
    let is_linkable = may_link && !executable && stat.st_size as u64 >= LARGE;
    if is_linkable
        && NO_CLONES.load(Ordering::Relaxed)
        && let Some(link) = LinkedInput::lend(store, *object, stat, (dir, name))?
    {
        return Ok(Some(link));
    }
    let _starting = executable.then(|| STARTING.write().unwrap_or_else(PoisonError::into_inner));
    let mut file = create(dir, name, executable).or_io(copying, path())?;
    if !NO_CLONES.load(Ordering::Relaxed) {
        match rustix::fs::ioctl_ficlone(&file, &source) {
            Ok(()) => return Ok(None),
            Err(Errno::NOSPC | Errno::DQUOT) => return Err(Errno::NOSPC).or_io(copying, path()),
            // Whatever else it says: cloning saves time, no more.
            Err(_) => NO_CLONES.store(true, Ordering::Relaxed),
        }
        if is_linkable {
            drop(file);
            rustix::fs::unlinkat(dir, name, AtFlags::empty()).or_io(copying, path())?;
            return stage_large(store, object, (source, stat), (dir, name), executable, may_link);
        }
    }
    let has_holes = (stat.st_blocks as u64) * 512 < stat.st_size as u64;
    let copied = if has_holes {
        copy_sparse(&mut source, &file)
    } else {
        io::copy(&mut source, &mut file).map(drop)
    };
    copied.or_io(copying, path())?;
    Ok(None)
}

/// Writes a small input that can be run.
fn write_program(dir: BorrowedFd<'_>, name: &[u8], bytes: &[u8]) -> io::Result<()> {
    let _starting = STARTING.write().unwrap_or_else(PoisonError::into_inner);
    create(dir, name, true)?.write_all_at(bytes, 0)
}

/// A new file for one input, with the mode that inputs have whatever the umask.
fn create(dir: BorrowedFd<'_>, name: &[u8], executable: bool) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = input_mode(executable);
    let file = rustix::fs::openat(dir, name, flags, mode)?;
    let stat = rustix::fs::fstat(&file)?;
    if Mode::from_raw_mode(stat.st_mode) != mode {
        rustix::fs::fchmod(file.as_fd(), mode)?;
    }
    Ok(File::from(file))
}

fn input_mode(executable: bool) -> Mode {
    Mode::from_raw_mode(if executable { 0o755 } else { 0o644 })
}
