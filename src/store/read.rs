//! Objects given back, and the question whether they are good.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Store;
use super::place::MODE;
use crate::error::{Error, OrIo, Result};
use crate::object::{ObjectHash, ObjectHasher};

/// Read buffer for objects that don't fit in memory.
const BUFFER: usize = 256 << 10;

/// An object, read as far as was asked for.
pub(crate) enum Loaded {
    /// Its bytes are in the buffer, and they are those of its name.
    Whole,
    /// It is larger; nothing was read.
    Large { file: File, stat: Stat },
}

impl Store {
    /// Opens an object for reading: never follows a link, must be a regular file.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing or not a regular file; [`Error::Io`] otherwise.
    pub fn open_object(&self, hash: &ObjectHash) -> Result<File> {
        self.open_with_stat(hash).map(|(file, _)| file)
    }

    /// A whole object, checked against its name; `None` if it has more than `limit` bytes.
    ///
    /// # Errors
    /// [`Error::Damaged`] if it is missing, no regular file, or not what its name says.
    pub fn read_small(&self, hash: &ObjectHash, limit: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        Ok(match self.load(hash, limit, &mut bytes)? {
            Loaded::Whole => Some(bytes),
            Loaded::Large { .. } => None,
        })
    }

    /// Looks whether an object exists, is a regular file and has the size of its row; with `data`, also
    /// whether its bytes are those of its name. Says what is wrong with it, if anything is.
    ///
    /// # Errors
    /// [`Error::Io`] if that could not be found out.
    pub fn check(
        &self,
        hash: &ObjectHash,
        size: Option<u64>,
        data: bool,
    ) -> Result<Result<(), String>> {
        let (mut file, stat) = match self.open_with_stat(hash) {
            Ok(opened) => opened,
            Err(Error::Damaged { why, .. }) => return Ok(Err(why)),
            Err(err) => return Err(err),
        };
        let found = stat.st_size as u64;
        if let Some(size) = size
            && size != found
        {
            return Ok(Err(format!("it has {found} bytes instead of {size}")));
        }
        if data && self.hash_file(hash, &mut file)? != *hash {
            return Ok(Err("its bytes have changed".to_owned()));
        }
        Ok(Ok(()))
    }

    /// Reads an object of at most `limit` bytes into `buffer` and checks it against its name.
    pub(crate) fn load(
        &self,
        hash: &ObjectHash,
        limit: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Loaded> {
        buffer.clear();
        if *hash == ObjectHash::EMPTY {
            // Known without looking: the root object need not even be stored.
            return Ok(Loaded::Whole);
        }
        let (mut file, stat) = self.open_with_stat(hash)?;
        if stat.st_size as u64 > limit {
            return Ok(Loaded::Large { file, stat });
        }
        buffer.resize(stat.st_size as usize, 0);
        match file.read_exact(buffer) {
            Err(err) if err.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(err).or_io("read object", self.path(hash));
            }
            // The hash tells a file that is shorter or longer than its stat as well.
            _ => {}
        }
        if ObjectHash::of(buffer) != *hash {
            return Err(self.damaged(hash, "its bytes have changed"));
        }
        Ok(Loaded::Whole)
    }

    /// The stat of what lies under an object's name, if anything does. Follows nothing.
    pub(crate) fn stat(&self, hash: &ObjectHash) -> Result<Option<Stat>> {
        let name = Self::name(hash);
        match rustix::fs::statat(&self.inner.objects, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(err) => Err(err).or_io("look at object", self.path(hash)),
        }
    }

    /// Gives an object a second name, read-only as it is.
    pub(crate) fn link(
        &self,
        hash: &ObjectHash,
        dir: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), Errno> {
        rustix::fs::linkat(&self.inner.objects, &Self::name(hash)[..], dir, name, AtFlags::empty())
    }

    /// The mode of an object that could be written to by anybody, or not be read by its owner.
    ///
    /// # Errors
    /// [`Error::Io`] if that could not be found out.
    pub fn wrong_mode(&self, hash: &ObjectHash) -> Result<Option<u32>> {
        let mode = self.stat(hash)?.map_or(MODE, |stat| stat.st_mode & 0o7777);
        // Not compared as a whole: some file systems have no more than a bit for all.
        Ok((mode & 0o222 != 0 || mode & 0o400 == 0).then_some(mode))
    }

    /// Undoes a chmod of an object, if there was one.
    pub(crate) fn make_read_only(&self, hash: &ObjectHash) -> Result<(), Errno> {
        let (objects, name) = (&self.inner.objects, Self::name(hash));
        let mode = Mode::from_raw_mode(MODE);
        let stat = rustix::fs::statat(objects, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
        if Mode::from_raw_mode(stat.st_mode) == mode {
            return Ok(());
        }
        rustix::fs::chmodat(objects, &name[..], mode, AtFlags::empty())
    }

    /// Whether a regular file of this size lies under the object's name.
    pub(super) fn lies_good(&self, hash: &ObjectHash, size: u64) -> Result<bool> {
        Ok(self.stat(hash)?.is_some_and(|stat| is_regular(&stat) && stat.st_size as u64 == size))
    }

    fn open_with_stat(&self, hash: &ObjectHash) -> Result<(File, Stat)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = Self::name(hash);
        let file = match rustix::fs::openat(&self.inner.objects, &name[..], flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(self.damaged(hash, "it is missing"));
            }
            Err(Errno::LOOP | Errno::NXIO) => {
                return Err(self.damaged(hash, "it is not a regular file"));
            }
            Err(err) => return Err(err).or_io("open object", self.path(hash)),
        };
        let stat = rustix::fs::fstat(&file).or_io("look at object", self.path(hash))?;
        if !is_regular(&stat) {
            return Err(self.damaged(hash, "it is not a regular file"));
        }
        Ok((file, stat))
    }

    pub(super) fn hash_file(&self, hash: &ObjectHash, file: &mut File) -> Result<ObjectHash> {
        let mut hasher = ObjectHasher::default();
        let mut buffer = vec![0; BUFFER];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hasher.finish()),
                Ok(n) => hasher.update(&buffer[..n]),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err).or_io("read object", self.path(hash)),
            }
        }
    }

    pub(super) fn damaged(&self, hash: &ObjectHash, why: &str) -> Error {
        Error::Damaged { object: *hash, path: self.path(hash), why: why.to_owned() }
    }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}
