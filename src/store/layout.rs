//! Older layouts of `objects/`, and how they become today's.
//!
//! Format 1 had the layout of format 3, `AB/CD/EFGH…`; format 2 had `AB/CDEF…`. A conversion from 1 to 2 may have been
//! interrupted, so any store of either may hold objects at both places. Hence one conversion for all: whatever lies
//! at `AB/CDEF…` moves to `AB/CD/EFGH…`.
//!
//! Each move is one rename, so at every moment each object is at one of the two places, and after a crash the
//! conversion simply goes on. `DB/format` names the new layout only when all the moves are on the disk.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{OBJECTS, TMP};
use crate::error::{OrIo, Result};

/// Moves every object of an older layout to its place, and makes that durable. May be interrupted anywhere and called
/// again.
///
/// # Errors
/// [`Error::Io`](crate::error::Error::Io) if a folder can't be read or synced, or an object not be moved.
pub(super) fn convert(db_dir: &Path) -> Result<()> {
    let objects = db_dir.join(OBJECTS);
    let mut shards = Vec::new();
    for shard in 0..=u8::MAX {
        let shard = objects.join(format!("{shard:02x}"));
        match fs::read_dir(&shard) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            // What lies in the place of a shard's folder holds no objects.
            Err(err) if err.kind() == io::ErrorKind::NotADirectory => {}
            entries => {
                lower_all(entries.or_io("list", &shard)?, &objects, &shard)?;
                shards.push(shard);
            }
        }
    }
    if shards.is_empty() {
        return Ok(());
    }
    // One call for up to 65,536 new folders. Kernels before 5.8 don't tell if it fails, but then the journal is lost
    // and the sync of a shard's folder fails.
    let folder = File::open(&objects).or_io("open the object store", &objects)?;
    rustix::fs::syncfs(&folder).or_io("sync the file system of", &objects)?;
    for shard in shards {
        File::open(&shard).and_then(|folder| folder.sync_all()).or_io("sync", &shard)?;
    }
    Ok(())
}

/// Moves the objects that lie in a shard's folder itself one level down.
fn lower_all(entries: fs::ReadDir, objects: &Path, shard: &Path) -> Result<()> {
    // Listed before anything is moved: the folders made meanwhile must not come up, and no name may be skipped.
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.or_io("list", shard)?.file_name().into_string());
    }
    for name in names {
        // Anything else is a stray, and for gc.
        if name.len() == 62 && name.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        {
            let folder = shard.join(&name[..2]);
            lower(&shard.join(&name), &folder, &name[2..], objects)?;
        }
    }
    Ok(())
}

/// Moves one object into a folder, which is made if it is missing.
fn lower(from: &Path, folder: &Path, name: &str, objects: &Path) -> Result<()> {
    let to = folder.join(name);
    let moved = match fs::rename(from, &to) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(folder).or_io("make the folder", folder)?;
            fs::rename(from, &to)
        }
        Err(err) if err.kind() == io::ErrorKind::NotADirectory => {
            // Somebody put a file in the place of the folder. It is kept until the store is next opened.
            let tmp = objects.join(TMP);
            fs::create_dir_all(&tmp).or_io("make the object store", &tmp)?;
            fs::rename(folder, stray(&tmp, folder)).or_io("move out of the way", folder)?;
            fs::create_dir(folder).or_io("make the folder", folder)?;
            fs::rename(from, &to)
        }
        moved => moved,
    };
    moved.or_io("move object", from)
}

fn stray(tmp: &Path, folder: &Path) -> PathBuf {
    let part =
        |path: Option<&std::ffi::OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
    let shard = part(folder.parent().and_then(Path::file_name));
    tmp.join(format!("stray-{shard}{}", part(folder.file_name())))
}
