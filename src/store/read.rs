//! Reads objects, and checks whether they are intact.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{MODE, Store};
use crate::error::{Error, OrIo, Result};
use crate::object::ObjectHash;

/// Bytes that are read before it is known how many there are.
const SHORT: usize = 4096;

/// An object, read into memory if it is small enough.
pub(crate) enum Loaded {
    /// All bytes are in the buffer, and their hash is right. The file is the one that was read; the empty object's isn't
    /// even looked for.
    Whole { file: Option<File> },
    /// It is larger than the limit; nothing was read.
    Large { file: File, stat: Stat },
}

/// See [`Store::open_object`].
pub(super) fn open_object(store: &Store, hash: &ObjectHash) -> Result<File> {
    open_with_stat(store, hash).map(|(file, _)| file)
}

/// See [`Store::read_small`].
pub(super) fn read_small(store: &Store, hash: &ObjectHash, limit: u64) -> Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    Ok(match load(store, hash, limit, &mut bytes)? {
        Loaded::Whole { .. } => Some(bytes),
        Loaded::Large { .. } => None,
    })
}

/// See [`Store::check`].
pub(super) fn check(
    store: &Store,
    hash: &ObjectHash,
    size: Option<u64>,
    data: bool,
) -> Result<Result<(), String>> {
    let (mut file, stat) = match open_with_stat(store, hash) {
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
    if data && hash_file(store, hash, &mut file)? != *hash {
        return Ok(Err("its bytes have changed".to_owned()));
    }
    Ok(Ok(()))
}

/// See [`Store::load`].
pub(super) fn load(
    store: &Store,
    hash: &ObjectHash,
    limit: u64,
    buffer: &mut Vec<u8>,
) -> Result<Loaded> {
    buffer.clear();
    if *hash == ObjectHash::EMPTY {
        // Known without looking: the root object need not even be stored.
        return Ok(Loaded::Whole { file: None });
    }
    let mut file = open(store, hash)?;
    // Most are short. If what a first read gives has the right hash, it is the object, whatever else is to be known of
    // the file.
    buffer.resize(SHORT.min(usize::try_from(limit).unwrap_or(SHORT)), 0);
    if let Ok(read) = file.read_at(buffer, 0)
        && read < buffer.len()
        && ObjectHash::of(&buffer[..read]) == *hash
    {
        buffer.truncate(read);
        return Ok(Loaded::Whole { file: Some(file) });
    }
    let stat = stat_open(store, hash, &file)?;
    if stat.st_size as u64 > limit {
        return Ok(Loaded::Large { file, stat });
    }
    buffer.resize(stat.st_size as usize, 0);
    match file.read_exact(buffer) {
        Err(err) if err.kind() != io::ErrorKind::UnexpectedEof => {
            return Err(err).or_io("read object", store.path(hash));
        }
        // The hash also reveals a file that is shorter or longer than its stat said.
        _ => {}
    }
    if ObjectHash::of(buffer) != *hash {
        return Err(damaged(store, hash, "its bytes have changed"));
    }
    Ok(Loaded::Whole { file: Some(file) })
}

/// See [`Store::stat`].
pub(super) fn stat(store: &Store, hash: &ObjectHash) -> Result<Option<Stat>> {
    let name = store.name(hash);
    match rustix::fs::statat(&store.inner.objects, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(err) => Err(err).or_io("look at object", store.path(hash)),
    }
}

/// See [`Store::link`].
pub(super) fn link(
    store: &Store,
    hash: &ObjectHash,
    dir: BorrowedFd<'_>,
    name: &[u8],
) -> Result<(), Errno> {
    rustix::fs::linkat(&store.inner.objects, &store.name(hash)[..], dir, name, AtFlags::empty())
}

/// See [`Store::wrong_mode`].
pub(super) fn wrong_mode(store: &Store, hash: &ObjectHash) -> Result<Option<u32>> {
    let mode = stat(store, hash)?.map_or(MODE, |stat| stat.st_mode & 0o7777);
    // Only these bits: some file systems know just one read-only flag.
    Ok((mode & 0o222 != 0 || mode & 0o400 == 0).then_some(mode))
}

/// See [`Store::make_read_only`].
pub(super) fn make_read_only(store: &Store, hash: &ObjectHash) -> Result<(), Errno> {
    let (objects, name) = (&store.inner.objects, store.name(hash));
    let mode = Mode::from_raw_mode(MODE);
    let stat = rustix::fs::statat(objects, &name[..], AtFlags::SYMLINK_NOFOLLOW)?;
    if Mode::from_raw_mode(stat.st_mode) == mode {
        return Ok(());
    }
    rustix::fs::chmodat(objects, &name[..], mode, AtFlags::empty())
}

/// Whether a regular file of this size lies under the object's name.
pub(super) fn lies_good(store: &Store, hash: &ObjectHash, size: u64) -> Result<bool> {
    Ok(stat(store, hash)?.is_some_and(|stat| is_regular(&stat) && stat.st_size as u64 == size))
}

fn open_with_stat(store: &Store, hash: &ObjectHash) -> Result<(File, Stat)> {
    let file = open(store, hash)?;
    let stat = stat_open(store, hash, &file)?;
    Ok((file, stat))
}

/// Opens whatever has an object's name, if that can be without following a link.
fn open(store: &Store, hash: &ObjectHash) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let name = store.name(hash);
    match rustix::fs::openat(&store.inner.objects, &name[..], flags, Mode::empty()) {
        Ok(fd) => Ok(File::from(fd)),
        Err(Errno::NOENT | Errno::NOTDIR) => Err(damaged(store, hash, "it is missing")),
        Err(Errno::LOOP | Errno::NXIO) => Err(damaged(store, hash, "it is not a regular file")),
        Err(err) => Err(err).or_io("open object", store.path(hash)),
    }
}

/// The stat of an object that was opened; it must be a regular file.
fn stat_open(store: &Store, hash: &ObjectHash, file: &File) -> Result<Stat> {
    let stat = rustix::fs::fstat(file).or_io("look at object", store.path(hash))?;
    if !is_regular(&stat) {
        return Err(damaged(store, hash, "it is not a regular file"));
    }
    Ok(stat)
}

pub(super) fn hash_file(store: &Store, hash: &ObjectHash, file: &mut File) -> Result<ObjectHash> {
    ObjectHash::of_stream(file).or_io("read object", store.path(hash))
}

pub(super) fn damaged(store: &Store, hash: &ObjectHash, why: &str) -> Error {
    Error::Damaged { object: *hash, path: store.path(hash), why: why.to_owned() }
}

fn is_regular(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}
