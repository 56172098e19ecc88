//! `cat`: the bytes of an object, or of a task's results.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use crate::cli::Cat;
use crate::db::{self, Db};
use crate::error::{Error, Result, exit};
use crate::object::ObjectHash;
use crate::store::Store;
use crate::text::printable;

use super::answer;

/// Shortest beginning of a hash that is taken for one.
const SHORTEST: usize = 6;

/// Writes objects to stdout, one after the other.
pub(super) fn cat(args: &Cat) -> Result<u8> {
    let db = Db::open_read_only(&args.db)?;
    let store = Store::open_read_only(&args.db)?;
    for what in &args.what {
        for hash in objects(&db, what)? {
            let mut object = store.open_object(&hash)?;
            answer::write(|out| std::io::copy(&mut object, out).map(|_| ()))?;
        }
    }
    Ok(exit::OK)
}

/// The objects that a word names: a hash or its beginning, `TASK` or `TASK/OUTPUT_NAME`.
fn objects(db: &Db, what: &OsStr) -> Result<Vec<ObjectHash>> {
    let word = what.as_bytes();
    let conn = db.lock();
    if let Ok(text) = std::str::from_utf8(word)
        && text.len() >= SHORTEST
        && text.len() <= 64
        && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    {
        match db::objects_by_prefix(&conn, text)?.as_slice() {
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
    let task = db::find_task(&conn, &String::from_utf8_lossy(task))?;
    let mut hashes = Vec::new();
    db::each_live_output(&conn, task, &mut |output| {
        if name.is_none_or(|name| name == output.name) {
            hashes.push(output.object);
        }
        Ok(())
    })?;
    if hashes.is_empty() {
        return Err(Error::Usage(format!("`{}` has no results now", printable(word))));
    }
    Ok(hashes)
}
