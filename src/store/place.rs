//! Bytes get their name. See the module's top for why it is done in this order.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::candidate::{Candidate, MODE, Temp};
use super::shard::Hold;
use super::{Placed, Store};
use crate::error::{Error, OrIo, Result};
use crate::object::{ObjectHash, ObjectHasher};

/// What fits in memory while it is hashed; anything longer is written while it is hashed.
const IN_MEMORY: usize = 1 << 20;

impl Store {
    /// The file `name` in directory `dir` (same file system; complete, already hashed, ours alone)
    /// becomes the object: chmod 0444, renamed into the shard; or is removed if the object is known.
    ///
    /// # Errors
    /// [`Error::Io`] if a system call fails, and those of the store's [`Proof`](crate::proof::Proof).
    pub fn place(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        hash: ObjectHash,
        size: u64,
    ) -> Result<Placed> {
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(MODE), AtFlags::empty())
            .or_io("make read-only", self.path(&hash))?;
        let candidate = Candidate { dir, name, size, inode: None };
        self.place_candidate(Hold::take(self, hash)?, hash, &candidate)?.ok_or_else(|| {
            Error::Internal(format!("object {hash} was swapped while it was placed"))
        })
    }

    /// [`Store::place`] for a file that is still open and that a stranger might swap. `None` if the
    /// name no longer leads to that file; nothing is placed then.
    pub(crate) fn place_open(
        &self,
        (file, inode): (BorrowedFd<'_>, u64),
        dir: BorrowedFd<'_>,
        name: &[u8],
        (hash, size): (ObjectHash, u64),
    ) -> Result<Option<Placed>> {
        rustix::fs::fchmod(file, Mode::from_raw_mode(MODE))
            .or_io("make read-only", self.path(&hash))?;
        let candidate = Candidate { dir, name, size, inode: Some(inode) };
        self.place_candidate(Hold::take(self, hash)?, hash, &candidate)
    }

    /// Bytes in memory become an object.
    ///
    /// # Errors
    /// As for [`Store::place`].
    pub fn put(&self, bytes: &[u8]) -> Result<Placed> {
        let hash = ObjectHash::of(bytes);
        let size = bytes.len() as u64;
        let hold = match self.find(Hold::take(self, hash)?, hash, size)? {
            Ok(placed) => return Ok(placed),
            Err(hold) => hold,
        };
        let mut temp = Temp::create(self)?;
        temp.file.write_all(bytes).or_io("write object", self.path(&hash))?;
        temp.place(hold, hash, size)
    }

    /// Copies all that `from` still gives into the store, streaming, in constant memory. The file may
    /// change meanwhile: what was read is what is kept.
    ///
    /// # Errors
    /// As for [`Store::place`]; an error of reading `from` is told without its path.
    pub fn put_file(&self, from: &mut File) -> Result<Placed> {
        self.put_from(from)
    }

    /// [`Store::put_file`] for any source.
    ///
    /// # Errors
    /// As for [`Store::put_file`].
    pub fn put_from(&self, from: &mut dyn Read) -> Result<Placed> {
        let copying = "copy into the store";
        let mut buffer = Vec::new();
        from.take(IN_MEMORY as u64 + 1).read_to_end(&mut buffer).or_io(copying, &self.root)?;
        if buffer.len() <= IN_MEMORY {
            return self.put(&buffer);
        }
        let mut temp = Temp::create(self)?;
        let mut hasher = ObjectHasher::default();
        let mut size = 0;
        let mut filled = buffer.len();
        while filled > 0 {
            hasher.update(&buffer[..filled]);
            temp.file.write_all(&buffer[..filled]).or_io(copying, &self.root)?;
            size += filled as u64;
            filled = loop {
                match from.read(&mut buffer) {
                    Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                    read => break read.or_io(copying, &self.root)?,
                }
            };
        }
        let hash = hasher.finish();
        temp.place(Hold::take(self, hash)?, hash, size)
    }

    /// Takes back an object that will not be committed after all. It stays if anybody else has it.
    ///
    /// # Errors
    /// [`Error::Io`] if it can't be removed, and those of the store's [`Proof`](crate::proof::Proof).
    pub fn discard(&self, placed: Placed) -> Result<()> {
        let hash = placed.hash;
        let shard = self.inner.shard(&hash);
        let before = shard.state().alone_after(&hash);
        // Asked without the mutex, since the answer may wait for another thread's commit.
        if before.is_none()
            || self.inner.known.contains(&hash)
            || self.committed_size(&hash)?.is_some()
        {
            return Ok(());
        }
        let state = shard.state();
        if state.alone_after(&hash) != before {
            return Ok(());
        }
        let name = Self::name(&hash);
        match rustix::fs::unlinkat(&self.inner.objects, &name[..], AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            done => done.or_io("remove object", self.path(&hash)),
        }
    }

    /// Gives an object an inode of its own again, when somebody has kept another name of it: what is
    /// written there must not reach the store. Durable before the rename, for its row has long been
    /// committed.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is not what its name says; [`Error::Io`] if it can't be copied.
    pub(crate) fn detach(&self, hash: &ObjectHash) -> Result<()> {
        let mut source = self.open_object(hash)?;
        let mut temp = Temp::create(self)?;
        let path = || self.path(hash);
        io::copy(&mut source, &mut temp.file).or_io("copy object", path())?;
        temp.become_again(hash)
    }

    /// An object that need not be written, because it is in flight, or committed and good. If there is
    /// none, the guard comes back.
    fn find(&self, mut hold: Hold, hash: ObjectHash, size: u64) -> Result<Result<Placed, Hold>> {
        let mut state = self.inner.shard(&hash).state();
        let is_in_flight = state.is_in_flight(&hash);
        if is_in_flight {
            hold.fly(&mut state);
        }
        drop(state);
        if is_in_flight || self.is_committed_and_good(&hash, size)? {
            return Ok(Ok(Placed { hash, size, hold }));
        }
        Ok(Err(hold))
    }

    /// The heart of the store: joins, dedupes, or renames into place. `None` if the candidate's name
    /// led to another file than the one that was hashed.
    pub(super) fn place_candidate(
        &self,
        mut hold: Hold,
        hash: ObjectHash,
        new: &Candidate<'_>,
    ) -> Result<Option<Placed>> {
        let size = new.size;
        let shard = self.inner.shard(&hash);
        let at = || self.path(&hash);
        let mut is_known = self.inner.known.contains(&hash) && self.lies_good(&hash, size)?;
        // What `landed` was when the file that lies there turned out to be a stray.
        let mut stray_at = None;
        while !is_known {
            let mut state = shard.state();
            if state.is_in_flight(&hash) {
                hold.fly(&mut state);
                break;
            }
            let may_replace = stray_at == Some(state.landed);
            if self.rename(new, &hash, may_replace, &mut state).or_io("place object", at())? {
                if !self.has_arrived(new, &hash).or_io("place object", at())? {
                    return Ok(None);
                }
                hold.fly(&mut state);
                drop(state);
                return Ok(Some(Placed { hash, size, hold }));
            }
            stray_at = Some(state.landed);
            // Asked without the mutex, since the answer may wait for another thread's commit.
            drop(state);
            is_known = self.is_committed_and_good(&hash, size)?;
        }
        new.remove().or_io("remove the second copy of object", at())?;
        Ok(Some(Placed { hash, size, hold }))
    }

    /// True only if there is a committed row *and* a file that can be what the row says.
    fn is_committed_and_good(&self, hash: &ObjectHash, size: u64) -> Result<bool> {
        if !self.lies_good(hash, size)? {
            return Ok(false);
        }
        if self.inner.known.contains(hash) {
            return Ok(true);
        }
        let is_committed = self.committed_size(hash)? == Some(size);
        if is_committed {
            self.inner.known.note(hash);
        }
        Ok(is_committed)
    }
}
