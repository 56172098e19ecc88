//! BATCH_DIR: what a script finds that is started once for several steps. Each step has a folder in it, called `1`,
//! `2` and so on, with `input/`, `output/` and `step.json`; where the script leaves a file `failed` beside them, that
//! one step has failed.
//!
//! No folder of a step is held open: a batch may have more of them than a process may have descriptors.

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

/// Names in the folder of a step.
pub(super) const INPUT: &str = "input";
const OUTPUT: &str = "output";
const FAILED: &[u8] = b"failed";

/// Bytes of `failed` that are read: it is shown in a line.
const LONGEST_MESSAGE: u64 = 1000;

/// BATCH_DIR, and what it holds.
pub(super) struct BatchFolder {
    pub(super) folder: Folder,
    rooms: Vec<Room>,
}

/// The folder of one step.
struct Room {
    output: ClosedFolder,
    /// The folder that already exists in `output`, for INPUT_NAME's sake.
    prepared: Vec<u8>,
}

/// The folder of a step that has nothing in it yet.
pub(super) struct NewRoom {
    /// Its name, from 1.
    pub(super) name: String,
    pub(super) root: Folder,
    pub(super) input: Folder,
}

impl BatchFolder {
    pub(super) fn make(root: BorrowedFd<'_>, workspace: &Path) -> Result<BatchFolder> {
        let path = workspace.join(BATCH);
        let folder = Folder::make(root, BATCH, path.clone()).or_io("make", path)?;
        Ok(BatchFolder { folder, rooms: Vec::new() })
    }

    /// Adds the folder of the next step, whose INPUT_NAME this is.
    pub(super) fn add(&mut self, input_name: &[u8]) -> Result<NewRoom> {
        let name = (self.rooms.len() + 1).to_string();
        let path = self.folder.path.join(&name);
        let root = Folder::make(self.folder.fd(), &name, path.clone()).or_io("make", &path)?;
        let make = |name: &str| {
            let path = path.join(name);
            Folder::make(root.fd(), name, path.clone()).or_io("make", path)
        };
        let (input, output) = (make(INPUT)?, make(OUTPUT)?);
        let prepared = folder_of(input_name).to_owned();
        if !prepared.is_empty() {
            make_folders(output.fd(), &prepared).or_io("make folders in", &output.path)?;
        }
        self.rooms.push(Room { output: output.close(), prepared });
        Ok(NewRoom { name, root, input })
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

    /// Removes all that is in it.
    ///
    /// # Errors
    /// If something can't be removed, or it is not in its place; then the workspace has to be discarded.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        self.rooms.clear();
        self.folder.look(CWD, &self.folder.path)?.ok_or(Errno::STALE)?;
        tree::clear(self.folder.fd())
    }
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
