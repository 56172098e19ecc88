//! The folders a worker gives to one step after the other. Reused, because on ext4 the inode allocator
//! steps over recently deleted inodes: a folder made and removed per step made steps several times
//! slower after a few thousand. So the input is overwritten in place, the log truncated, the outputs
//! renamed away; and what can't be vouched for any more is left behind for a new set.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType};
use rustix::io::Errno;

use super::batch::BatchFolder;
use super::folder::{Folder, Look, folder_of, make_folder, make_folders};
use super::fork_server::ForkServer;
use super::launcher::{Launch, Launcher, Spawn};
use super::log::{self, LogPipe};
use super::rules::KeptRules;
use super::script::ScriptFiles;
use super::{tmp, tree};
use crate::error::{OrIo, Result};

/// Name of the folder for inputs in a workspace.
const IN: &str = "in";

/// Name of WITH_DIR in a workspace.
const WITH: &str = "with";

/// Where the small file waits while something else is in `in/`.
pub(super) const SPARE: &[u8] = b"spare";

/// With fewer bytes free than this, a script that fails is taken to have failed for want of space.
pub const FULL: u64 = 1 << 20;

/// One worker's scratch: `wN/{in,out,tmp,scripts}` and `wN/log`, private to this user.
pub struct Scratch {
    /// The run's own folder, absolute.
    dir: PathBuf,
    worker: usize,
    /// How many sets of folders this worker has left behind.
    generation: u32,
    pub(super) workspace: Workspace,
    pub(super) launcher: Box<dyn Launcher>,
    /// Bytes on their way from one file to another.
    pub(super) buffer: Vec<u8>,
    /// Our effective user, who owns what we make.
    pub(super) user: u32,
    is_discarded: bool,
}

/// One set of folders.
pub(super) struct Workspace {
    pub(super) path: PathBuf,
    pub(super) root: OwnedFd,
    pub(super) input: Folder,
    pub(super) output: Folder,
    pub(super) tmp: Folder,
    /// For what is seen by `with`, once there was any.
    pub(super) side: Option<Folder>,
    /// BATCH_DIR, once there was a batch.
    pub(super) batch: Option<BatchFolder>,
    /// stdout and stderr of every step; append-only, so that what two processes write stays in order.
    pub(super) log: LogPipe,
    /// The file that small inputs are written to.
    pub(super) small: Option<SmallFile>,
    pub(super) scripts: ScriptFiles,
    /// Of sandboxes in these folders.
    pub(super) rules: KeptRules,
    /// The folder that already exists in OUTPUT_DIR, for INPUT_NAME's sake.
    pub(super) prepared: Vec<u8>,
}

/// The file that holds every small input, one after the other.
pub(super) struct SmallFile {
    /// Its name in `in/`; `None` while it waits as [`SPARE`].
    pub(super) name: Option<Vec<u8>>,
    pub(super) inode: u64,
}

impl Scratch {
    /// Makes the folders of one worker below `dir`, which belongs to this run alone.
    ///
    /// # Errors
    /// [`Error::Io`](crate::error::Error::Io), also if the worker already has its folders there: what
    /// another run left is never used.
    pub fn create(dir: &Path, worker: usize, launch: Launch) -> Result<Scratch> {
        let dir = std::path::absolute(dir).or_io("find the folder", dir)?;
        let workspace = Workspace::make(dir.join(format!("w{worker}")))?;
        Ok(Scratch {
            dir,
            worker,
            generation: 0,
            workspace,
            launcher: match launch {
                Launch::Auto | Launch::Fork => Box::new(ForkServer::new(launch)),
                Launch::Spawn => Box::new(Spawn::default()),
            },
            buffer: Vec::new(),
            user: rustix::process::geteuid().as_raw(),
            is_discarded: false,
        })
    }

    /// The next step gets new folders: in these, something might still be written, or could not be
    /// removed.
    pub(super) fn discard(&mut self) {
        self.is_discarded = true;
    }

    pub(super) fn is_discarded(&self) -> bool {
        self.is_discarded
    }

    /// New folders if the old ones were discarded.
    pub(super) fn renew(&mut self) -> Result<()> {
        if !self.is_discarded {
            return Ok(());
        }
        self.generation += 1;
        let workspace =
            Workspace::make(self.dir.join(format!("w{}.{}", self.worker, self.generation)))?;
        let old = std::mem::replace(&mut self.workspace, workspace);
        self.launcher.reset();
        self.is_discarded = false;
        // What can't be removed now goes with the run's folder.
        let _ = old.remove();
        Ok(())
    }
}

impl Workspace {
    fn make(path: PathBuf) -> Result<Workspace> {
        let parent = path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(parent).or_io("make", parent)?;
        let root = make_folder(CWD, &path).or_io("make", &path)?;
        let folder = |name: &str| {
            let path = path.join(name);
            Folder::make(root.as_fd(), name, path.clone()).or_io("make", path)
        };
        let (input, output) = (folder(IN)?, folder("out")?);
        let tmp = tmp::make(root.as_fd(), &path).or_io("make TMPDIR for", &path)?;
        let scripts = ScriptFiles::new(folder("scripts")?);
        let log = LogPipe::make(root.as_fd(), log::CAP).or_io("make", path.join("log"))?;
        let prepared = Vec::new();
        let (side, batch, small, rules) = (None, None, None, KeptRules::default());
        Ok(Workspace {
            path,
            root,
            input,
            output,
            tmp,
            side,
            batch,
            log,
            small,
            scripts,
            rules,
            prepared,
        })
    }

    /// BATCH_DIR.
    pub(super) fn batch(&mut self) -> Result<&mut BatchFolder> {
        let folder = match self.batch.take() {
            Some(folder) => folder,
            None => BatchFolder::make(self.root.as_fd(), &self.path)?,
        };
        Ok(self.batch.insert(folder))
    }

    /// WITH_DIR.
    pub(super) fn side(&mut self) -> Result<&Folder> {
        let folder = match self.side.take() {
            Some(folder) => folder,
            None => {
                let path = self.path.join(WITH);
                Folder::make(self.root.as_fd(), WITH, path.clone()).or_io("make", path)?
            }
        };
        Ok(self.side.insert(folder))
    }

    /// After a step: removes what it left, and makes sure that the next one finds what it must find.
    /// OUTPUT_DIR needs no look if the outputs `are_taken`.
    ///
    /// # Errors
    /// What can't be removed or vouched for, and folders that have grown too large; then it has to be discarded.
    pub(super) fn tidy(&mut self, are_taken: bool) -> io::Result<()> {
        if !are_taken {
            in_shape(self.output.look(CWD, &self.output.path)?)?;
            tree::clear(self.output.fd())?;
            self.prepared.clear();
        }
        in_shape(self.tmp.look(CWD, &self.tmp.path)?)?;
        // By looking: a time of last change can be set back.
        if !self.tmp.list()?.is_empty() {
            tree::clear(self.tmp.fd())?;
        }
        if let Some(side) = &self.side {
            in_shape(side.look(self.root.as_fd(), Path::new(WITH))?)?;
            if !side.list()?.is_empty() {
                tree::clear(side.fd())?;
            }
        }
        if let Some(batch) = self.batch.as_mut().filter(|batch| !batch.is_empty()) {
            batch.clear()?;
        }
        self.tidy_input()
    }

    /// Makes room in `in/` for something that is not the small file.
    pub(super) fn set_small_aside(&mut self) -> io::Result<()> {
        if let Some(small) = &mut self.small
            && let Some(name) = &small.name
        {
            match rustix::fs::renameat(self.input.fd(), name.as_slice(), &self.root, SPARE) {
                Ok(()) => small.name = None,
                Err(_) => self.give_up_small()?,
            }
        }
        Ok(())
    }

    /// The small file can't be used any more, or nobody knows whose it is.
    pub(super) fn give_up_small(&mut self) -> io::Result<()> {
        self.small = None;
        tree::clear(self.input.fd())
    }

    /// After a step: leaves nothing in `in/` but the small file, if there is still a file of that name. Whether that
    /// is the small file, and ours alone, is seen when it is opened for the next step.
    fn tidy_input(&mut self) -> io::Result<()> {
        in_shape(self.input.look(self.root.as_fd(), Path::new(IN))?)?;
        let entries = self.input.list()?;
        let is_tidy = match &self.small {
            Some(SmallFile { name: Some(name), .. }) => {
                matches!(&entries[..], [only] if only.name == *name && only.kind == FileType::RegularFile)
            }
            _ => entries.is_empty(),
        };
        if is_tidy {
            return Ok(());
        }
        if self.small.as_ref().is_some_and(|small| small.name.is_some()) {
            self.small = None;
        }
        tree::clear(self.input.fd())
    }

    /// Removes all of it.
    fn remove(self) -> io::Result<()> {
        tmp::remove_elsewhere(self.root.as_fd())?;
        tree::clear(self.root.as_fd())?;
        std::fs::remove_dir(&self.path)
    }

    /// Removes the folder that was prepared for the step before, if this one needs another.
    ///
    /// # Errors
    /// If it can't be removed; then the workspace has to be discarded.
    pub(super) fn clear_output(&mut self, input_name: &[u8]) -> io::Result<()> {
        if self.prepared != folder_of(input_name) {
            tree::clear(self.output.fd())?;
            self.prepared.clear();
        }
        Ok(())
    }

    /// Makes the folder part of INPUT_NAME in OUTPUT_DIR, which was [cleared](Self::clear_output) for it.
    pub(super) fn prepare_output(&mut self, input_name: &[u8]) -> Result<()> {
        let folder = folder_of(input_name);
        folder.clone_into(&mut self.prepared);
        if !folder.is_empty() {
            make_folders(self.output.fd(), folder).or_io("make folders in", &self.output.path)?;
        }
        Ok(())
    }

    /// Bytes that are left on the disk, if that is so little that a script may have failed for want of
    /// them, or of inodes.
    pub(super) fn lack_of_space(&self) -> Option<u64> {
        // If even that can't be found out, the script's failure is all that is known.
        let found = rustix::fs::fstatvfs(&self.root).ok()?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        let no_inodes = found.f_files > 0 && found.f_favail == 0;
        (no_inodes || free < FULL).then_some(free)
    }
}

/// A folder that is in its place, and has not grown so large that it would slow down all further steps.
fn in_shape(look: Option<Look>) -> io::Result<Look> {
    let look = look.ok_or(Errno::STALE)?;
    if look.is_bloated { Err(Errno::FBIG.into()) } else { Ok(look) }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What can't be removed now is removed by the next run.
        let _ = tmp::remove_elsewhere(self.root.as_fd());
    }
}
