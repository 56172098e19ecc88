//! How an older layout of `objects/` becomes today's.

use std::fs;
use std::path::Path;

use crate::error::{OrIo, Result};

/// Turns `AB/CD/EFGH…` into `AB/CDEF…`, and makes that durable. May be interrupted
/// anywhere and called again: what was moved before is left alone.
///
/// # Errors
/// [`Error::Io`](crate::error::Error::Io) if a folder can't be read or an object not be moved.
pub(super) fn convert(db_dir: &Path) -> Result<()> {
    let objects = db_dir.join("objects");
    for shard in 0..=u8::MAX {
        let shard = objects.join(format!("{shard:02x}"));
        let entries = match fs::read_dir(&shard) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.or_io("list", &shard)?,
        };
        for entry in entries {
            let folder = entry.or_io("list", &shard)?.path();
            if is_second_level(&folder) {
                raise(&folder, &shard)?;
            }
        }
        fs::File::open(&shard).and_then(|dir| dir.sync_all()).or_io("sync", &shard)?;
    }
    Ok(())
}

fn is_second_level(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.len() == 2 && path.is_dir()
}

/// Moves the objects of one folder `AB/CD` up to `AB`, and removes it.
fn raise(folder: &Path, shard: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).or_io("list", folder)? {
        let from = entry.or_io("list", folder)?.path();
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(from.file_name().unwrap_or_default());
        fs::rename(&from, shard.join(name)).or_io("move object", &from)?;
    }
    fs::remove_dir(folder).or_io("remove", folder)
}
