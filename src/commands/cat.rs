//! `cat`: the bytes of an object, or of a task's results.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};

use crate::cli::values::{bytes, default_db, path};
use crate::db::{self, Db, Reader};
use crate::error::{Error, Result, exit};
use crate::object::ObjectHash;
use crate::store::Store;
use crate::text::printable;

use super::{Command, answer};

/// A shorter word is never taken for the beginning of a hash.
const SHORTEST: usize = 6;

/// Write the content of objects or outputs to standard output.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "cat")]
pub struct CatArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// what to write, one after the other: the HASH of an object, TASK, or TASK/OUTPUT_NAME
    #[argh(positional, arg_name = "WHAT", from_str_fn(bytes))]
    pub what: Vec<OsString>,
}

impl Command for CatArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        match self.what.is_empty() {
            true => Err("name WHAT to write: an object's HASH, TASK or TASK/OUTPUT_NAME"),
            false => Ok(()),
        }
    }

    fn execute(&self) -> Result<u8> {
        let db = Db::open_read_only(&self.db)?;
        let store = Store::open_read_only(&self.db)?;
        for what in &self.what {
            for hash in objects(&db, what)? {
                let mut object = store.open_object(&hash)?;
                answer::write(|out| std::io::copy(&mut object, out).map(|_| ()))?;
            }
        }
        Ok(exit::OK)
    }
}

/// The objects that a word names: a hash or its beginning, `TASK` or `TASK/OUTPUT_NAME`.
fn objects(db: &Db, what: &OsStr) -> Result<Vec<ObjectHash>> {
    db.read(|reader| objects_in(reader, what))
}

fn objects_in(reader: &Reader, what: &OsStr) -> Result<Vec<ObjectHash>> {
    let word = what.as_bytes();
    if let Ok(text) = std::str::from_utf8(word)
        && text.len() >= SHORTEST
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    {
        match db::objects_by_prefix(reader, text)?.as_slice() {
            [] => {}
            [one] => return Ok(vec![*one]),
            _ => {
                return Err(Error::Usage(format!(
                    "several objects begin with {text}; give more digits"
                )));
            }
        }
    }
    let (task, name) = match word.iter().position(|&byte| byte == b'/') {
        Some(slash) => (&word[..slash], Some(&word[slash + 1..])),
        None => (word, None),
    };
    let task = db::find_task(reader, &String::from_utf8_lossy(task))?;
    let mut hashes = Vec::new();
    db::each_live_output(reader, task, &mut |output| {
        if name.is_none_or(|name| name == output.name) {
            hashes.push(output.object);
        }
        Ok(())
    })?;
    if hashes.is_empty() {
        return Err(Error::Usage(format!("`{}` has no results at present", printable(word))));
    }
    Ok(hashes)
}
