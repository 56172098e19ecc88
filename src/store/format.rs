//! `DB/format`: says what the folder is, before anything in it is opened; and the conversion of older layouts.
//!
//! Formats 1 and 3 have objects at `AB/CD/EFGH…`; format 2 had them at `AB/CDEF…`. A conversion from 1 to 2 may have
//! been interrupted, so any store of either may hold objects at both places. Hence one conversion for all: whatever
//! lies at `AB/CDEF…` moves to `AB/CD/EFGH…`.
//!
//! Each move is one rename, so at every moment each object is at one of the two places, and after a crash the
//! conversion simply goes on. `DB/format` names the new layout only when all the moves are on the disk.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{OBJECTS, TMP, make_folders};
use crate::error::{Error, OrIo, Result};
use crate::folder::{self, CONVERTING, FILE_MODE, FORMAT, FORMAT_FILE, FolderKind};

/// Makes a folder a database of this build: a new one gets its `format`, one of an older layout is converted. Then
/// makes the folders of the object store. The caller holds the run lock.
///
/// # Errors
/// [`Error::Foreign`] for a folder that is no database of ours, see `folder::look`; [`Error::Io`] if something can't
/// be written or moved.
pub fn prepare(db_dir: &Path) -> Result<()> {
    match folder::look(db_dir)? {
        FolderKind::Current => {}
        FolderKind::New => write(db_dir, FORMAT)?,
        FolderKind::Unsigned => {
            convert(db_dir)?;
            write(db_dir, FORMAT)?;
        }
        FolderKind::Older => {
            write(db_dir, CONVERTING)?;
            convert(db_dir)?;
            write(db_dir, FORMAT)?;
        }
    }
    // Before the tables are made: a reader that finds tables looks for objects.
    make_folders(db_dir)
}

/// The same check for readers, which can't convert anything.
pub(super) fn check(db_dir: &Path) -> Result<()> {
    match folder::look(db_dir)? {
        FolderKind::Current | FolderKind::New | FolderKind::Unsigned => Ok(()),
        FolderKind::Older => {
            let why =
                "says that the store has an older layout; the next run, gc or repair converts it"
                    .to_owned();
            Err(Error::Foreign { path: db_dir.join(FORMAT_FILE), why })
        }
    }
}

/// Replaces the file. The bytes are synced before the rename, because this file decides whether the folder is ours.
fn write(db_dir: &Path, text: &str) -> Result<()> {
    let draft = db_dir.join("format~");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(&draft).or_io("write", &draft)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).or_io("write", &draft)?;
    let path = db_dir.join(FORMAT_FILE);
    fs::rename(&draft, &path).or_io("write", path)
}

/// Moves every object of an older layout to its place, and makes that durable. It may be interrupted at any point and
/// called again.
///
/// # Errors
/// [`Error::Io`] if a folder can't be read or synced, or an object can't be moved.
fn convert(db_dir: &Path) -> Result<()> {
    let objects = db_dir.join(OBJECTS);
    let mut shards = Vec::new();
    for shard in 0..=u8::MAX {
        let shard = objects.join(format!("{shard:02x}"));
        match fs::read_dir(&shard) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => {}
            // A file with the name of a shard's folder holds no objects.
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
    // One call for up to 65,536 new folders. Kernels before 5.8 don't report its errors, but after one the journal is
    // aborted and the sync of a shard's folder fails.
    let folder = File::open(&objects).or_io("open the object store", &objects)?;
    rustix::fs::syncfs(&folder).or_io("sync the file system of", &objects)?;
    for shard in shards {
        File::open(&shard).and_then(|folder| folder.sync_all()).or_io("sync", &shard)?;
    }
    Ok(())
}

/// Moves the objects that lie directly in a shard's folder one level down.
fn lower_all(entries: fs::ReadDir, objects: &Path, shard: &Path) -> Result<()> {
    // Listed before anything is moved, or readdir could skip names and return the folders made meanwhile.
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.or_io("list", shard)?.file_name().into_string());
    }
    for name in names {
        // Anything else is not ours, or is left to gc.
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
            folder::make(folder).or_io("make the folder", folder)?;
            fs::rename(from, &to)
        }
        Err(err) if err.kind() == io::ErrorKind::NotADirectory => {
            // A file has the name of the folder. It is kept until the store is next opened.
            let tmp = objects.join(TMP);
            folder::make(&tmp).or_io("make the object store", &tmp)?;
            fs::rename(folder, stray(&tmp, folder)).or_io("move out of the way", folder)?;
            folder::make(folder).or_io("make the folder", folder)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folder::OLDER_FORMATS;

    #[test]
    fn an_empty_file_is_what_a_power_cut_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("format");
        for before in [None, Some(""), Some(FORMAT)] {
            if let Some(before) = before {
                fs::write(&path, before).unwrap();
            }
            prepare(dir.path()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), FORMAT);
        }
        fs::write(&path, "task-pipeline 4\n").unwrap();
        assert!(prepare(dir.path()).unwrap_err().to_string().contains("task-pipeline 4"));
    }

    #[test]
    fn every_older_store_is_converted_wherever_it_was_interrupted() {
        for format in [OLDER_FORMATS[0], OLDER_FORMATS[1], CONVERTING, ""] {
            let dir = tempfile::tempdir().unwrap();
            let mut header = [0; 100];
            header[..16].copy_from_slice(b"SQLite format 3\0");
            header[68..72].copy_from_slice(b"tskp");
            fs::write(dir.path().join("db"), header).unwrap();
            let shard = dir.path().join("objects/ab");
            let rest = "0".repeat(58);
            fs::create_dir_all(shard.join("cd")).unwrap();
            fs::write(shard.join(format!("cd/ee{rest}")), "of format 1, or moved already").unwrap();
            fs::write(shard.join(format!("cdef{rest}")), "of format 2").unwrap();
            fs::write(shard.join(format!("11ef{rest}")), "in a folder that is missing").unwrap();
            fs::write(shard.join(format!("22ef{rest}")), "in a folder that is a file").unwrap();
            fs::write(shard.join("22"), "in the way").unwrap();
            fs::write(shard.join("no hash"), "stray").unwrap();
            fs::write(dir.path().join("objects/cd"), "no shard").unwrap();
            fs::write(dir.path().join("format"), format).unwrap();
            if !format.is_empty() {
                let told = check(dir.path()).unwrap_err().to_string();
                assert!(told.contains("the next run, gc or repair converts it"), "{told}");
            }
            for _ in 0..2 {
                prepare(dir.path()).unwrap();
                check(dir.path()).unwrap();
                let read = |name: &str| fs::read_to_string(shard.join(name)).unwrap();
                assert_eq!(read(&format!("cd/ee{rest}")), "of format 1, or moved already");
                assert_eq!(read(&format!("cd/ef{rest}")), "of format 2");
                assert_eq!(read(&format!("11/ef{rest}")), "in a folder that is missing");
                assert_eq!(read(&format!("22/ef{rest}")), "in a folder that is a file");
                assert_eq!(fs::read_dir(&shard).unwrap().count(), 4);
            }
            let stray = dir.path().join("objects/.tmp/stray-ab22");
            assert_eq!(fs::read_to_string(stray).unwrap(), "in the way");
        }
    }
}
