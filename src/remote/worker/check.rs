//! Makes sure that the folder in which the scripts work is the one that the run means: scripts read there what they were not
//! sent, the manifest's `files` and what lies beside them.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use crate::exec::HomeFile;
use crate::object::ObjectHash;
use crate::remote::wire::Terms;
use crate::text::{as_path, printable_line, shown};

const CURE: &str =
    "the manifest's folder has to be the same on every machine of a run, at the same path";

/// A file up to so many bytes is read. Of a larger one of the same size, time of last change is enough: on a file system
/// that the machines share, each of them would read all of it otherwise.
const READ: u64 = 64 << 10;

/// What is not as the run means it; a sentence.
pub(super) enum Objection {
    /// The manifest is another one, which may be over in a moment: a network file system shows for a while what a file
    /// held before, and a manifest is often run as soon as it is written.
    Stale(String),
    Other(String),
}

/// Looks at the manifest, or at its folder where it is none, and at `files`.
///
/// # Errors
/// A sentence that names the first file that is another one on this `host`, and what to do.
pub(super) fn check(terms: &Terms, files: &[HomeFile], host: &str) -> Result<(), Objection> {
    let host = printable_line(host.as_bytes());
    let manifest = as_path(&terms.manifest);
    match terms.hash {
        Some(wanted) => {
            let hash = File::open(manifest).and_then(|mut file| ObjectHash::of_stream(&mut file));
            let is_same = hash.map(|hash| hash == wanted);
            let is_stale = matches!(is_same, Ok(false));
            told(is_same, &format!("`{}`", shown(manifest)), &host).map_err(
                |why| match is_stale {
                    true => Objection::Stale(why),
                    false => Objection::Other(why),
                },
            )?;
        }
        None => {
            let folder = manifest.parent().unwrap_or(manifest);
            if !folder.is_dir() {
                let why = format!("`{}` is missing on {host}; {CURE}", shown(folder));
                return Err(Objection::Other(why));
            }
        }
    }
    files.iter().try_for_each(|file| {
        let name = format!("`{}` (of `files`)", shown(as_path(&file.path)));
        told(is_same(file), &name, &host).map_err(Objection::Other)
    })
}

fn told(is_same: io::Result<bool>, name: &str, host: &str) -> Result<(), String> {
    match is_same {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("{name} is another one on {host}; {CURE}")),
        Err(err) => Err(format!("{name} can't be read on {host} ({err}); {CURE}")),
    }
}

fn is_same(file: &HomeFile) -> io::Result<bool> {
    let path = as_path(&file.path);
    let found = std::fs::metadata(path)?;
    if found.len() != file.size || !found.is_file() {
        return Ok(false);
    }
    let mtime_ns = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
    if file.size > READ && mtime_ns == file.mtime_ns {
        return Ok(true);
    }
    Ok(ObjectHash::of_stream(&mut File::open(path)?)? == file.object)
}
