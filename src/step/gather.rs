//! INPUT_DIR: all inputs of a `gather` step under their names, and the list of them that is its
//! INPUT_FILE.

use std::ffi::OsString;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::input::{self, Laid, SMALL};
use super::scratch::{Room, make_folders};
use crate::attempt::NamedObject;
use crate::error::{OrIo, Result};
use crate::names;
use crate::store::{Loaded, Store};

/// The list's name, beside `in/`.
const LIST: &str = "inputs";

impl Room {
    /// Lays out any number of inputs; one file and one folder are open at a time.
    pub(super) fn lay_many(
        &mut self,
        store: &Store,
        items: &[NamedObject],
        buffer: &mut Vec<u8>,
    ) -> Result<Laid> {
        self.set_small_aside().or_io("move aside the input in", &self.path)?;
        let paths = names::distinct(items.iter().map(|item| item.name.as_slice()));
        let mut lent = Vec::new();
        let mut open: Option<(&[u8], OwnedFd)> = None;
        for (item, path) in items.iter().zip(&paths) {
            let (folder, base) = names::split(path);
            if !folder.is_empty() && open.as_ref().is_none_or(|(name, _)| *name != folder) {
                let fd = make_folders(self.input.fd(), folder)
                    .or_io("make folders in", &self.input.path)?;
                open = Some((folder, fd));
            }
            let dir = match &open {
                Some((_, fd)) if !folder.is_empty() => fd.as_fd(),
                _ => self.input.fd(),
            };
            match store.load(&item.object, SMALL, buffer)? {
                Loaded::Whole => {
                    let written = if item.executable {
                        input::write_program(dir, base, buffer)
                    } else {
                        input::create(dir, base, false).and_then(|mut file| file.write_all(buffer))
                    };
                    written.or_io("write an input into", &self.input.path)?;
                }
                Loaded::Large { file, stat } => {
                    let at = (dir, base);
                    let link =
                        input::lay_large(store, &item.object, (file, &stat), at, item.executable)?;
                    lent.extend(link.map(|link| (link, path.clone())));
                }
            }
        }
        let file = self.path.join(LIST);
        self.write_list(&paths).or_io("write", &file)?;
        Ok(Laid { file: file.into_os_string(), name: OsString::new(), has_dir: true, lent })
    }

    fn write_list(&self, paths: &[Vec<u8>]) -> std::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        // Whatever a script made of the last one.
        let _ = rustix::fs::unlinkat(&self.root, LIST, AtFlags::empty());
        let file = rustix::fs::openat(&self.root, LIST, flags, Mode::RUSR | Mode::WUSR)?;
        let mut list = BufWriter::new(std::fs::File::from(file));
        let dir: &Path = &self.input.path;
        for path in paths {
            list.write_all(dir.as_os_str().as_bytes())?;
            list.write_all(b"/")?;
            list.write_all(path)?;
            list.write_all(b"\n")?;
        }
        list.flush()
    }
}
