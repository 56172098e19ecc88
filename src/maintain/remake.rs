//! Runs the script of a known step once more, apart from any run, to get an object back that it made.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::attempt::NamedObject;
use crate::db::{Db, Producer, step_key};
use crate::error::{Error, OrIo, Result};
use crate::object::ObjectHash;
use crate::recipe::Recipe;
use crate::step::{self, Attempt, Input, Report, Scratch, Script, Supervisor};
use crate::store::{Placed, Store};
use crate::text::as_path;

/// Largest listing of a gather step that is read into memory.
const LISTING: u64 = 1 << 30;

/// A place to run scripts in.
pub(super) struct Workshop<'a> {
    pub(super) db: &'a Db,
    pub(super) store: &'a Store,
    folder: PathBuf,
    supervisor: Supervisor,
    scratch: Scratch,
}

impl Workshop<'_> {
    /// Below `DB/scratch`, like a run's. The caller holds the run lock.
    pub(super) fn open<'a>(db: &'a Db, store: &'a Store, db_dir: &Path) -> Result<Workshop<'a>> {
        let root = db_dir.join("scratch");
        std::fs::create_dir_all(&root).or_io("make the scratch folder", &root)?;
        step::end_survivors(&root)?;
        let folder = root.join(format!("repair-{}", std::process::id()));
        std::fs::create_dir_all(&folder).or_io("make the scratch folder", &folder)?;
        let supervisor = Supervisor::new(step::GRACE, Arc::default())?;
        let scratch = Scratch::create(&folder, 0)?;
        Ok(Workshop { db, store, folder, supervisor, scratch })
    }

    /// Runs a step's script on its input again. What it leaves is in the store, but committed nowhere.
    pub(super) fn run(&mut self, producer: &Producer) -> Result<(Report, Vec<Placed>)> {
        let attempt = self.describe(producer)?;
        let (store, supervisor) = (self.store, &self.supervisor);
        let scratch = &mut self.scratch;
        // On a thread of its own, because what scripts leave behind is looked for among the children of
        // the first one.
        std::thread::scope(|scope| {
            let worker = std::thread::Builder::new()
                .spawn_scoped(scope, move || {
                    step::execute(scratch, store, supervisor, None, &attempt, &mut |_| {})
                })
                .or_system("start a thread")?;
            worker.join().unwrap_or_else(|_| {
                Err(Error::Internal(format!("running step {} again panicked", producer.step)))
            })
        })
        .and_then(|(report, placed)| match report.full_disk {
            Some(free) => {
                Err(Error::NoSpace { path: self.folder.clone(), free, floor: step::FULL })
            }
            None => Ok((report, placed)),
        })
    }

    fn describe(&self, producer: &Producer) -> Result<Attempt> {
        let recipe: Recipe = serde_json::from_str(&producer.recipe_json).map_err(|err| {
            Error::Internal(format!("the recipe of step {} does not read: {err}", producer.step))
        })?;
        let input = if producer.gather {
            Input::Many(self.listed(&producer.object)?)
        } else {
            let Producer { object, name, executable, .. } = producer.clone();
            Input::One(NamedObject { name, object, executable })
        };
        let env = recipe.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let script = Script {
            task: producer.task.clone(),
            interpreter: recipe.interpreter,
            bytes: recipe.script.into_bytes(),
            dir: as_path(&producer.dir).into(),
            env,
            timeout: None,
            wants_jobserver: false,
        };
        Ok(Attempt {
            step: producer.step,
            number: 1,
            key: step_key(&producer.recipe_hash, &producer.object, &producer.name),
            input,
            script: Arc::new(script),
        })
    }

    /// The inputs of a gather step, read back from the listing that it works on.
    fn listed(&self, listing: &ObjectHash) -> Result<Vec<NamedObject>> {
        let bytes = self.store.read_small(listing, LISTING)?.unwrap_or_default();
        Ok(bytes.split(|&byte| byte == b'\n').filter_map(listed_item).collect())
    }
}

/// A line as `db::listing_line` writes it. The executable bit is not in it.
fn listed_item(line: &[u8]) -> Option<NamedObject> {
    let (escaped, line) = match line.strip_prefix(b"\\") {
        Some(line) => (true, line),
        None => (false, line),
    };
    let (hash, name) = (line.get(..64)?, line.get(66..)?);
    let object = ObjectHash::parse(std::str::from_utf8(hash).ok()?).ok()?;
    let name = if escaped { unescape(name) } else { name.to_vec() };
    Some(NamedObject { name, object, executable: false })
}

fn unescape(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                _ => b'\\',
            },
            byte => byte,
        });
    }
    out
}

impl Drop for Workshop<'_> {
    fn drop(&mut self) {
        // What can't be removed now is removed by the next run.
        let _ = step::remove_scratch(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::listing_line;

    #[test]
    fn a_listing_reads_back_whatever_the_names_are() {
        let names: [&[u8]; 4] = [b"plain", b"new\nline", b"back\\slash\\n", b"\xff\r"];
        for name in names {
            let row = NamedObject {
                name: name.to_vec(),
                object: ObjectHash::of(name),
                executable: false,
            };
            let mut listing = Vec::new();
            listing_line(&mut listing, &row);
            let item = listed_item(listing.strip_suffix(b"\n").unwrap()).unwrap();
            assert_eq!((item.name, item.object), (row.name, row.object));
        }
    }
}
