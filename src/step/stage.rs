//! Puts the inputs where the script looks for them. INPUT_FILE of one object is a private copy if it is
//! small, a clone or a read-only link if it is large; in neither case can a script damage the store through
//! it unnoticed. For `gather` there are all of them in INPUT_DIR, and INPUT_FILE is a list of their paths. These, and
//! what is in WITH_DIR, are read-only links whatever their size: on ext4 a new file and its removal cost five times as
//! much as those of a link.

use std::borrow::Cow;
use std::collections::BTreeMap;
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
use serde::Serialize;

use super::batch::{self, NewRoom};
use super::folder::{Folder, make_folders, open_folders};
use super::launcher::STARTING;
use super::links::LinkedInput;
use super::scratch::{SPARE, SmallFile, Workspace};
use super::{Attempt, Input, Item, Script, running, tree};
use crate::attempt::NamedObject;
use crate::error::{OrIo, Result};
use crate::labels::Labels;
use crate::names;
use crate::object::ObjectHash;
use crate::store::{Loaded, Store, copy_sparse};
use crate::text::printable;

/// Up to here, in bytes, an input is read into memory, compared with its hash and written to the small file. A larger
/// one is handed out without a look at its bytes.
pub const SMALL: u64 = 1 << 20;

/// From here on, in bytes, an input is a link where the file system has no clones.
const LARGE: u64 = 16 << 20;

/// Name of the list of a `gather` step's inputs, beside the folder that they are in.
const LIST: &str = "inputs";

/// The file system of the scratch has turned out to know no clones.
static NO_CLONES: AtomicBool = AtomicBool::new(false);

/// What a script finds.
pub(super) struct Staged {
    /// Its input; `None` if it works on a batch, whose steps have theirs in BATCH_DIR.
    pub(super) one: Option<StagedInput>,
    /// Objects handed out as links.
    pub(super) loans: Vec<Loans>,
}

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
}

/// Objects of which some are handed out as links.
pub(super) struct Loans {
    pub(super) loan: Loan,
    /// Whatever their size.
    pub(super) are_all: bool,
    /// Where the files are, below the folder that they were put in.
    pub(super) paths: Vec<Vec<u8>>,
    /// Which of them are links.
    links: Links,
}

impl Loans {
    /// Removes the links below the open folder of all of them, and tells which of `objects` were not as they should be.
    pub(super) fn reclaim(
        &self,
        store: &Store,
        objects: &[NamedObject],
        folder: BorrowedFd<'_>,
        since_ns: i64,
    ) -> Result<Vec<usize>> {
        let mut damaged = Vec::new();
        let above = self.loan.folder();
        // A script may have put a link to anywhere in the place of a folder: what is below that is not ours.
        let mut open: Option<(Vec<u8>, Option<OwnedFd>)> = None;
        for (nth, link) in &self.links {
            let (Some(path), Some(object)) = (self.paths.get(*nth), objects.get(*nth)) else {
                continue;
            };
            let (within, base) = names::split(path);
            let is_open = |(name, _): &(Vec<u8>, _)| name.strip_prefix(&*above) == Some(within);
            let dir = if above.is_empty() && within.is_empty() {
                Some(folder)
            } else {
                if !open.as_ref().is_some_and(is_open) {
                    let whole = [&*above, within].concat();
                    let path = whole.strip_suffix(b"/").unwrap_or(&whole);
                    let opened = open_folders(folder, path).ok();
                    open = Some((whole, opened));
                }
                open.as_ref().and_then(|(_, fd)| fd.as_ref()).map(|fd| fd.as_fd())
            };
            if !link.reclaim(store, &object.object, (dir, base), since_ns)? {
                damaged.push(*nth);
            }
        }
        Ok(damaged)
    }

    /// After all that the script left was removed.
    pub(super) fn end(self, store: &Store, objects: &[NamedObject]) -> Result<()> {
        for (nth, link) in self.links {
            if let Some(object) = objects.get(nth) {
                link.end(store, &object.object)?;
            }
        }
        Ok(())
    }
}

/// The links among files, each with its place.
type Links = Vec<(usize, LinkedInput)>;

/// Which objects may be handed out as links, if they aren't executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Linking {
    None,
    /// Those from [`LARGE`] on, where the file system has no clones.
    Large,
    All,
}

/// As what an object is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loan {
    /// An input, in `in/`.
    Input,
    /// What is seen by `with`, in WITH_DIR.
    Side,
    /// An input of one step of a batch, in BATCH_DIR; counted from 0.
    Batch { item: usize },
}

impl Loan {
    /// The step that it was lent to; `None`: all that share the script.
    pub(super) fn item(self) -> Option<usize> {
        match self {
            Loan::Input => Some(0),
            Loan::Batch { item } => Some(item),
            Loan::Side => None,
        }
    }

    /// The folder of the step in that of all of them, with a slash at its end.
    fn folder(self) -> Vec<u8> {
        match self {
            Loan::Input | Loan::Side => Vec::new(),
            Loan::Batch { item } => format!("{}/{}/", item + 1, batch::INPUT).into_bytes(),
        }
    }
}

/// Puts the inputs of an attempt, and what it sees by `with`, where the script will look for them. Some may be
/// links to the object unless the script `copies_input`.
pub(super) fn stage(
    workspace: &mut Workspace,
    store: &Store,
    attempt: &Attempt,
    buffer: &mut Vec<u8>,
) -> Result<Staged> {
    let Script { copies_input, ref paths, batch, ref sandbox, .. } = *attempt.script;
    // In a sandbox a script can write whatever is in BATCH_DIR, and may read no object but its own.
    let must_copy = copies_input || batch && sandbox.is_some();
    let linking = |input: Option<&Input>| match input {
        _ if must_copy => Linking::None,
        // A row's files are its own, as one file is.
        Some(Input::One(_)) => Linking::Large,
        Some(Input::Many { .. }) if !paths.is_empty() => Linking::Large,
        _ => Linking::All,
    };
    let mut loans = Vec::new();
    let one = match attempt.items.as_slice() {
        [item] if !batch => Some(match &item.input {
            Input::One(input) => {
                let may_link = linking(Some(&item.input)) != Linking::None;
                stage_one(workspace, store, input, may_link, buffer, &mut loans)?
            }
            Input::Many { name, items } => {
                let linking = linking(Some(&item.input));
                stage_many(workspace, store, (name, items, paths), linking, buffer, &mut loans)?
            }
        }),
        items => {
            for (nth, item) in items.iter().enumerate() {
                let room = workspace.batch()?.add(item.input.name())?;
                let linking = linking(Some(&item.input));
                let (paths, links) = stage_in_batch(&room, store, (item, paths), linking, buffer)?;
                let (loan, are_all) = (Loan::Batch { item: nth }, linking == Linking::All);
                loans.push(Loans { loan, are_all, paths, links });
            }
            write_steps(workspace, items).or_io("write the list of steps in", &workspace.path)?;
            None
        }
    };
    if !attempt.side.is_empty() {
        let folder = workspace.side()?;
        let paths = paths_of(&attempt.side);
        let links = lay_out(folder, store, &attempt.side, &paths, linking(None), buffer)?;
        loans.push(Loans { loan: Loan::Side, are_all: true, paths, links });
    }
    loans.retain(|loans| !loans.links.is_empty());
    Ok(Staged { one, loans })
}

fn stage_one(
    workspace: &mut Workspace,
    store: &Store,
    NamedObject { name, object, executable }: &NamedObject,
    may_link: bool,
    buffer: &mut Vec<u8>,
    loans: &mut Vec<Loans>,
) -> Result<StagedInput> {
    let executable = *executable;
    let path = names::below(name);
    let base = names::split(&path).1;
    let file = workspace.input.path.join(OsStr::from_bytes(base));
    match store.load(object, SMALL, buffer)? {
        Loaded::Whole { .. } if executable => {
            workspace.set_small_aside().or_io("move aside", &file)?;
            write_program(workspace.input.fd(), base, buffer).or_io("write", &file)?;
        }
        Loaded::Whole { .. } => write_small(workspace, base, buffer).or_io("write", &file)?,
        Loaded::Large { file: source, stat } => {
            workspace.set_small_aside().or_io("move aside", &file)?;
            let at = (workspace.input.fd(), base);
            let link = stage_large(store, object, (source, &stat), at, executable, may_link)?;
            loans.extend(link.map(|link| Loans {
                loan: Loan::Input,
                are_all: false,
                paths: vec![base.to_owned()],
                links: vec![(0, link)],
            }));
        }
    }
    let name = OsStr::from_bytes(name).to_owned();
    Ok(StagedInput { file: file.into_os_string(), name, has_dir: false, columns: Vec::new() })
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
    linking: Linking,
    buffer: &mut Vec<u8>,
    loans: &mut Vec<Loans>,
) -> Result<StagedInput> {
    workspace.set_small_aside().or_io("move aside the input in", &workspace.path)?;
    let paths = paths_of(items);
    let links = lay_out(&workspace.input, store, items, &paths, linking, buffer)?;
    let file = workspace.path.join(LIST);
    let list = create_anew(workspace, LIST);
    list.and_then(|list| write_list(list, &workspace.input.path, &paths)).or_io("write", &file)?;
    let dir = workspace.input.path.as_os_str().as_bytes();
    let value = |column: &String| {
        let path = file_in_column(column, &paths);
        let path = path.map(|path| [dir, b"/", path].concat()).unwrap_or_default();
        (column.clone(), OsString::from_vec(path))
    };
    let staged = StagedInput {
        file: file.into_os_string(),
        name: OsStr::from_bytes(input_name).to_owned(),
        has_dir: true,
        columns: columns.iter().map(value).collect(),
    };
    loans.push(Loans { loan: Loan::Input, are_all: linking == Linking::All, paths, links });
    Ok(staged)
}

/// The file that a row names in this column, among all that it names.
pub(super) fn file_in_column<'a>(column: &str, paths: &'a [Vec<u8>]) -> Option<&'a Vec<u8>> {
    let folder = [column.as_bytes(), b"/"].concat();
    paths.iter().find(|path| path.starts_with(&folder))
}

/// `step.json`: what a script that works on one step finds in its variables.
#[derive(Serialize)]
struct StepFile<'a> {
    /// INPUT_NAME; escaped where it is not UTF-8.
    name: String,
    labels: &'a Labels,
    /// STEP_KEY
    key: &'a ObjectHash,
    /// STEP_ID
    step: i64,
    /// ATTEMPT
    attempt: i64,
    /// INPUT_FILE
    input: String,
    /// Of a table: each column that is a file, with its path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    paths: BTreeMap<&'a str, String>,
}

/// Puts the input of a step of a batch into its folder, and what the script of one step would find in variables. Gives
/// the paths of the files in that folder, and which of them are links.
fn stage_in_batch(
    room: &NewRoom,
    store: &Store,
    (item, columns): (&Item, &[String]),
    linking: Linking,
    buffer: &mut Vec<u8>,
) -> Result<(Vec<Vec<u8>>, Links)> {
    let (paths, items) = match &item.input {
        Input::One(one) => {
            (vec![names::split(&names::below(&one.name)).1.to_owned()], std::slice::from_ref(one))
        }
        Input::Many { items, .. } => (paths_of(items), items.as_slice()),
    };
    let links = lay_out(&room.input, store, items, &paths, linking, buffer)?;
    let below = |folder: &Folder, name: &[u8]| folder.path.join(OsStr::from_bytes(name));
    let input = match (&item.input, paths.as_slice()) {
        (Input::One(_), [only]) => below(&room.input, only),
        _ => {
            let file = below(&room.root, LIST.as_bytes());
            let list = create(room.root.fd(), LIST.as_bytes(), false);
            let written = list.and_then(|list| write_list(list, &room.input.path, &paths));
            written.or_io("write", &file)?;
            file
        }
    };
    let text = |path: &Path| as_text(path.as_os_str().as_bytes());
    let column = |column: &String| match file_in_column(column, &paths) {
        Some(path) => text(&below(&room.input, path)),
        None => String::new(),
    };
    let step = StepFile {
        name: as_text(item.input.name()),
        labels: &item.labels,
        key: &item.key,
        step: item.step.0,
        attempt: item.number,
        input: text(&input),
        paths: columns.iter().map(|name| (name.as_str(), column(name))).collect(),
    };
    let written = reopen_step_file(room).and_then(|mut file| {
        let mut json = serde_json::to_vec(&step)?;
        json.push(b'\n');
        file.write_all(&json)?;
        file.set_len(json.len() as u64)
    });
    written.or_io("write step.json in", &room.root.path)?;
    Ok((paths, links))
}

/// The `step.json` of an earlier step, to be overwritten, if it is beyond doubt a file of its own; or a new one.
fn reopen_step_file(room: &NewRoom) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let (dir, name) = (room.root.fd(), batch::STEP_FILE);
    if let Ok(file) = rustix::fs::openat(dir, name, flags, Mode::empty())
        && let Ok(stat) = rustix::fs::fstat(&file)
        && stat.st_nlink == 1
        && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && Mode::from_raw_mode(stat.st_mode) == input_mode(false)
        && stat.st_uid == rustix::process::geteuid().as_raw()
    {
        return Ok(File::from(file));
    }
    tree::remove_entry(dir, name)?;
    create(dir, name, false)
}

/// A path or name in JSON, which has no bytes but UTF-8.
fn as_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => printable(bytes).into_owned(),
    }
}

/// Where the files of many inputs are, below their folder.
fn paths_of(items: &[NamedObject]) -> Vec<Vec<u8>> {
    let names: Vec<_> = items.iter().map(|item| on_one_line(&item.name)).collect();
    names::distinct(names.iter().map(|name| &**name))
}

/// Of so many files a second thread lays out half: it reads and compares while the first one is in the kernel.
const MANY: usize = 1000;

/// Lays out any number of files in a folder. Tells which of them are links.
fn lay_out(
    folder: &Folder,
    store: &Store,
    items: &[NamedObject],
    paths: &[Vec<u8>],
    linking: Linking,
    buffer: &mut Vec<u8>,
) -> Result<Links> {
    if items.len() < MANY {
        return lay_out_part(folder, store, (items, paths), linking, buffer);
    }
    let half = items.len() / 2;
    let (first, second) = (items.split_at(half), paths.split_at(half));
    let ((items, paths), rest) = ((first.0, second.0), (first.1, second.1));
    let (links, of_rest) = std::thread::scope(|scope| {
        let part = move || lay_out_part(folder, store, rest, linking, &mut Vec::new());
        let thread = std::thread::Builder::new().name("inputs".to_owned());
        let thread = thread.spawn_scoped(scope, part);
        let links = lay_out_part(folder, store, (items, paths), linking, buffer);
        let of_rest = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            // No more threads: it goes without.
            Err(_) => part(),
        };
        (links, of_rest)
    });
    let mut links = links?;
    links.extend(of_rest?.into_iter().map(|(nth, link)| (half + nth, link)));
    Ok(links)
}

/// Lays out files; one file and one folder are open at a time.
fn lay_out_part(
    folder: &Folder,
    store: &Store,
    (items, paths): (&[NamedObject], &[Vec<u8>]),
    linking: Linking,
    buffer: &mut Vec<u8>,
) -> Result<Links> {
    let all = if linking == Linking::All { items.len() } else { 0 };
    let mut links = Vec::with_capacity(all);
    let mut open: Option<(&[u8], OwnedFd)> = None;
    for (nth, (item, path)) in items.iter().zip(paths).enumerate() {
        let (within, base) = names::split(path);
        if !within.is_empty() && open.as_ref().is_none_or(|(name, _)| *name != within) {
            let fd = make_folders(folder.fd(), within).or_io("make folders in", &folder.path)?;
            open = Some((within, fd));
        }
        let dir = match &open {
            Some((_, fd)) if !within.is_empty() => fd.as_fd(),
            _ => folder.fd(),
        };
        let loaded = store.load(&item.object, SMALL, buffer)?;
        if linking == Linking::All && !item.executable {
            let file = match &loaded {
                Loaded::Whole { file } => file.as_ref().map(|file| (file, true)),
                Loaded::Large { file, .. } => Some((file, false)),
            };
            if let Some(file) = file
                && let Some(link) = LinkedInput::lend(store, &item.object, file, (dir, base))?
            {
                links.push((nth, link));
                continue;
            }
        }
        match loaded {
            Loaded::Whole { .. } => {
                let written = if item.executable {
                    write_program(dir, base, buffer)
                } else {
                    create(dir, base, false).and_then(|mut file| file.write_all(buffer))
                };
                written.or_io("write an input into", &folder.path)?;
            }
            Loaded::Large { file, stat } => {
                let may_link = linking == Linking::Large;
                let at = (dir, base);
                let link =
                    stage_large(store, &item.object, (file, &stat), at, item.executable, may_link)?;
                links.extend(link.map(|link| (nth, link)));
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

/// Writes the paths of files in a folder, one a line.
fn write_list(list: File, dir: &Path, paths: &[Vec<u8>]) -> io::Result<()> {
    let mut list = BufWriter::new(list);
    for path in paths {
        list.write_all(dir.as_os_str().as_bytes())?;
        list.write_all(b"/")?;
        list.write_all(path)?;
        list.write_all(b"\n")?;
    }
    list.flush()
}

/// Writes which steps share the script, for whoever asks what runs.
fn write_steps(workspace: &Workspace, items: &[Item]) -> io::Result<()> {
    let mut list = BufWriter::new(create_anew(workspace, running::STEPS)?);
    for item in items {
        writeln!(list, "{} {} {}", item.step, item.number, printable(item.input.name()))?;
    }
    list.flush()
}

/// A new file beside the folders, whatever a script made of the last one.
fn create_anew(workspace: &Workspace, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let _ = rustix::fs::unlinkat(&workspace.root, name, AtFlags::empty());
    let file = rustix::fs::openat(&workspace.root, name, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(File::from(file))
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
        && let Some(link) = LinkedInput::lend(store, object, (&source, false), (dir, name))?
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
