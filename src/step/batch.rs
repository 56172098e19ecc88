//! BATCH_DIR: what a script finds that is started once for several steps. Each step has a folder in it, called `1`,
//! `2` and so on, with `input/`, `output/` and `step.json`; where the script leaves a file `failed` beside them, that
//! one step has failed.
//!
//! No folder of a step is held open: a batch may have more of them than a process may have descriptors. They wait for
//! the next batch beside BATCH_DIR, because on ext4 whoever makes and removes folders all the time is slowed down (see
//! `scratch`): 20,000 steps took three times as long once as many had been removed. What a script has left in them is
//! removed before, and they are looked through when they are used again.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, OFlags};
use rustix::io::Errno;

use super::folder::{ClosedFolder, Folder, folder_of, make_folders};
use super::tree;
use crate::error::{OrIo, Result};
use crate::text::printable_line;

/// Name of BATCH_DIR in a workspace.
const BATCH: &str = "batch";

/// Name of the folder of those that wait.
const SPARE: &str = "spare-batch";

/// Names in the folder of a step.
pub(super) const INPUT: &str = "input";
const OUTPUT: &str = "output";
pub(super) const STEP_FILE: &[u8] = b"step.json";
const FAILED: &[u8] = b"failed";

/// Bytes of `failed` that are read: it is shown in a line.
const LONGEST_MESSAGE: u64 = 1000;

/// BATCH_DIR, and what it holds.
pub(super) struct BatchFolder {
    pub(super) folder: Folder,
    rooms: Vec<Room>,
    spare: Folder,
    /// What waits there, each under its name.
    waiting: Vec<(String, Room)>,
    /// How many have waited so far.
    count: u64,
}

/// The folder of one step.
struct Room {
    root: ClosedFolder,
    input: ClosedFolder,
    output: ClosedFolder,
    /// The folder that already exists in `output`, for INPUT_NAME's sake.
    prepared: Vec<u8>,
}

/// The folder of a step that has nothing in it yet, but maybe an old `step.json`.
pub(super) struct NewRoom {
    pub(super) root: Folder,
    pub(super) input: Folder,
}

impl BatchFolder {
    pub(super) fn make(root: BorrowedFd<'_>, workspace: &Path) -> Result<BatchFolder> {
        let make = |name: &str| {
            let path = workspace.join(name);
            Folder::make(root, name, path.clone()).or_io("make", path)
        };
        let (folder, spare) = (make(BATCH)?, make(SPARE)?);
        Ok(BatchFolder { folder, rooms: Vec::new(), spare, waiting: Vec::new(), count: 0 })
    }

    /// Adds the folder of the next step, whose INPUT_NAME this is.
    pub(super) fn add(&mut self, input_name: &[u8]) -> Result<NewRoom> {
        let name = (self.rooms.len() + 1).to_string();
        let [root, input, output] = match self.use_again(&name) {
            Some(folders) => folders,
            None => self.make_folders(&name)?,
        };
        let prepared = folder_of(input_name).to_owned();
        if !prepared.is_empty() {
            make_folders(output.fd(), &prepared).or_io("make folders in", &output.path)?;
        }
        let again = |folder: &Folder| folder.describe();
        let (of_root, of_input) = (again(&root), again(&input));
        self.rooms.push(Room { root: of_root, input: of_input, output: output.close(), prepared });
        Ok(NewRoom { root, input })
    }

    fn make_folders(&self, name: &str) -> Result<[Folder; 3]> {
        let path = self.folder.path.join(name);
        let root = Folder::make(self.folder.fd(), name, path.clone()).or_io("make", &path)?;
        let make = |name: &str| {
            let path = path.join(name);
            Folder::make(root.fd(), name, path.clone()).or_io("make", path)
        };
        let (input, output) = (make(INPUT)?, make(OUTPUT)?);
        Ok([root, input, output])
    }

    /// Takes one that waits, under this name. One that is not as it was left stays where it is, and goes with the
    /// workspace.
    fn use_again(&mut self, name: &str) -> Option<[Folder; 3]> {
        while let Some((old, room)) = self.waiting.pop() {
            let path = self.folder.path.join(name);
            if let Ok(Some(mut folders)) = room.open(self.spare.fd(), &old)
                && is_empty(&folders).unwrap_or(false)
                && rustix::fs::renameat(self.spare.fd(), &old, self.folder.fd(), name).is_ok()
            {
                let [root, input, output] = &mut folders;
                input.path = path.join(INPUT);
                output.path = path.join(OUTPUT);
                root.path = path;
                return Some(folders);
            }
        }
        None
    }

    /// What the script says of the failure of a step, in a line; `None`: nothing.
    pub(super) fn failure(&self, nth: usize) -> Option<String> {
        let room = match self.room(nth) {
            Ok(room) => room,
            // What became of its folder is told when its outputs are looked for.
            Err(_) => return None,
        };
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        match tree::open_here(room.as_fd(), FAILED, flags) {
            Ok(file) => Some(message(File::from(file))),
            Err(Errno::NOENT) => None,
            // A link, a socket, a file that nobody may read: it is there, and says so much.
            Err(_) => Some("it left a `failed` that can't be read".to_owned()),
        }
    }

    fn room(&self, nth: usize) -> Result<impl AsFd + use<>, Errno> {
        tree::insist_on_folder(self.folder.fd(), (nth + 1).to_string().as_bytes())
    }

    /// The path of the folder of a step's outputs, and the folder that already exists in it.
    pub(super) fn output(&self, nth: usize) -> Option<(&Path, &[u8])> {
        self.rooms.get(nth).map(|room| (room.output.path.as_path(), room.prepared.as_slice()))
    }

    /// Opens it. `None` if there is another one in its place.
    pub(super) fn open_output(&self, nth: usize) -> Result<Option<Folder>, Errno> {
        let Some(Room { output, .. }) = self.rooms.get(nth) else { return Ok(None) };
        match self.folder.look(CWD, &self.folder.path)? {
            Some(_) => output.open(self.room(nth)?.as_fd(), OUTPUT),
            None => Ok(None),
        }
    }

    /// True if no step has a folder in it.
    pub(super) fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Removes all that is in it; folders that are as they were made wait for the next steps.
    ///
    /// # Errors
    /// If something can't be removed, or it is not in its place; then the workspace has to be discarded.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.folder.look(CWD, &self.folder.path)?.ok_or(Errno::STALE)?;
        for (room, name) in std::mem::take(&mut self.rooms).into_iter().zip(1..) {
            let name = name.to_string();
            // Whatever is wrong with one: it is removed with all the rest.
            if let Ok(Some(folders)) = room.open(self.folder.fd(), &name)
                && empty(&folders).is_ok()
            {
                self.count += 1;
                let waits = self.count.to_string();
                let (from, to) = (self.folder.fd(), self.spare.fd());
                if rustix::fs::renameat(from, &name, to, &waits).is_ok() {
                    self.waiting.push((waits, room));
                }
            }
        }
        tree::clear(self.folder.fd())
    }
}

impl Room {
    /// Opens its folders, if all of them are in their place below a folder.
    fn open(&self, parent: BorrowedFd<'_>, name: &str) -> Result<Option<[Folder; 3]>, Errno> {
        let Some(root) = self.root.open(parent, name)? else { return Ok(None) };
        let input = self.input.open(root.fd(), INPUT)?;
        let output = self.output.open(root.fd(), OUTPUT)?;
        Ok(input.zip(output).map(|(input, output)| [root, input, output]))
    }
}

/// Removes what is in the folders of a step but `step.json`, if that is a file of its own.
fn empty([root, input, output]: &[Folder; 3]) -> io::Result<()> {
    tree::clear(input.fd())?;
    tree::clear(output.fd())?;
    for entry in tree::list(root.fd())? {
        let is_folder = entry.name == INPUT.as_bytes() || entry.name == OUTPUT.as_bytes();
        if !is_folder && entry.name != STEP_FILE {
            tree::remove_entry(root.fd(), &entry.name)?;
        }
    }
    Ok(())
}

/// Whether nothing is in the folders of a step but those and `step.json`. Their modes are mended.
fn is_empty([root, input, output]: &[Folder; 3]) -> io::Result<bool> {
    for folder in [root, input, output] {
        folder.mend()?;
    }
    let is_known = |entry: &tree::Entry| {
        [INPUT.as_bytes(), OUTPUT.as_bytes(), STEP_FILE].contains(&entry.name.as_slice())
    };
    Ok(tree::list(root.fd())?.iter().all(is_known)
        && tree::list(input.fd())?.is_empty()
        && tree::list(output.fd())?.is_empty())
}

/// What a `failed` says, in a line that can be shown.
fn message(file: File) -> String {
    let is_file = rustix::fs::fstat(&file)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    if !is_file {
        return "it left a `failed` that is no file".to_owned();
    }
    let mut bytes = Vec::new();
    if file.take(LONGEST_MESSAGE + 1).read_to_end(&mut bytes).is_err() {
        return "it left a `failed` that can't be read".to_owned();
    }
    let is_cut = bytes.len() as u64 > LONGEST_MESSAGE;
    bytes.truncate(LONGEST_MESSAGE as usize);
    if is_cut && let Err(cut) = std::str::from_utf8(&bytes) {
        // In the middle of a character, maybe.
        if cut.error_len().is_none() {
            bytes.truncate(cut.valid_up_to());
        }
    }
    let lines = bytes.split(|byte| *byte == b'\n').map(|line| line.trim_ascii());
    let lines: Vec<String> = lines.filter(|line| !line.is_empty()).map(printable_line).collect();
    match lines.join("; ") {
        empty if empty.is_empty() => "failed, without a message".to_owned(),
        cut if is_cut => format!("{cut} …"),
        whole => whole,
    }
}
