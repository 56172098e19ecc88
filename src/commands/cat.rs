//! `cat`: the bytes of an object, or of a task's results.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use argh::{ArgsInfo, FromArgs};

use crate::cli::values::{bytes, default_db, path};
use crate::db::{self, Db, Reader};
use crate::error::{Error, OrIo as _, Result, exit};
use crate::object::{ObjectHash, ObjectHasher};
use crate::store::Store;
use crate::text::{printable, unescaped};

use super::{Command, answer};

/// Write the content of objects or outputs to standard output.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "cat")]
#[argh(
    note = "Every object is checked: if its bytes have changed, cat exits with 65, and the end is missing of what it \
    printed. A task may be called like the hash of an object: task:TASK is the task."
)]
pub struct CatArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// what to write, one after the other: the HASH of an object, TASK, `TASK[sample=A]`, or TASK/OUTPUT_NAME
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
            for object in objects(&db, what)? {
                print(&store, &object)?;
            }
        }
        Ok(exit::OK)
    }
}

/// What is held back of an object until all of it has been checked. So nothing is printed of a damaged object that is
/// no longer, and a longer one ends too early.
const HELD_BACK: usize = 1 << 20;

/// Prints an object, unless its bytes have changed.
///
/// # Errors
/// [`Error::Damaged`] if they have; [`Error::Io`] if they can't be read or printed.
fn print(store: &Store, object: &ObjectHash) -> Result<()> {
    let mut source = store.open_object(object)?;
    let mut hasher = ObjectHasher::default();
    let mut held: Vec<u8> = Vec::new();
    loop {
        let mut read = Vec::with_capacity(HELD_BACK);
        let count = source.by_ref().take(HELD_BACK as u64).read_to_end(&mut read);
        if count.or_io("read object", store.path(object))? == 0 {
            break;
        }
        hasher.update(&read);
        answer::write(|out| out.write_all(&held))?;
        held = read;
    }
    if hasher.finish() != *object {
        return Err(store.damaged(object));
    }
    answer::write(|out| out.write_all(&held))
}

/// The objects that a word names: a hash or its beginning, `TASK` or `TASK/OUTPUT_NAME`.
fn objects(db: &Db, what: &OsStr) -> Result<Vec<ObjectHash>> {
    db.read(|reader| objects_in(reader, what))
}

fn objects_in(reader: &Reader, what: &OsStr) -> Result<Vec<ObjectHash>> {
    let word = what.as_bytes();
    if let Some(object) = db::find_object(reader, word)? {
        return Ok(vec![object]);
    }
    let word = word.strip_prefix(b"task:").unwrap_or(word);
    let (task, labels, name) = db::split_word(word)?;
    let task = db::find_task(reader, &task)?;
    let printed = name.and_then(unescaped);
    let (mut hashes, mut hashes_of_printed) = (Vec::new(), Vec::new());
    db::each_live_output(reader, task, &labels, &mut |output, _| {
        if name.is_none_or(|name| name == output.name) {
            hashes.push(output.object);
        } else if printed.as_ref() == Some(&output.name) {
            hashes_of_printed.push(output.object);
        }
        Ok(())
    })?;
    if let (Some(literal), Some(as_printed), Some(name)) =
        (hashes.first(), hashes_of_printed.first(), &printed)
    {
        return Err(Error::Usage(format!(
            "two outputs may be meant: the name of one is printed as `{}`, that of the other as `{}`; name one by the \
             hash of its content: {literal} for the first, {as_printed} for the second",
            printable(word),
            printable(name)
        )));
    }
    if hashes.is_empty() {
        hashes = hashes_of_printed;
    }
    if hashes.is_empty() {
        return Err(Error::Usage(format!("`{}` has no results at present", printable(word))));
    }
    Ok(hashes)
}
