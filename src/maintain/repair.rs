//! `repair`: gets bad or missing objects back. Ancestors first: a step can be run again only on an
//! input that is good. What comes out must have the hash that is missing; if it hasn't, the step is not
//! deterministic, which is told, and the store stays as it is.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::path::Path;

use crate::db::{self, Db, Producer};
use crate::error::{OrIo, Result};
use crate::object::ObjectHash;
use crate::step;
use crate::store::{Placed, Store};
use crate::text::as_path;

use super::amend::{make_read_only, record};
use super::remake::Workshop;
use super::report::{Repair, RepairReport};
use super::verify::{Depth, Finding, Remedy, verify};

/// Finds damage and undoes it. The caller holds the run lock.
///
/// # Errors
/// What keeps it from going on; what was repaired until then stays so.
pub fn repair(db: &Db, store: &Store, db_dir: &Path, depth: Depth) -> Result<RepairReport> {
    // Of a repair that was killed, too.
    step::end_survivors(&db_dir.join("scratch"))?;
    let mut report = RepairReport::default();
    let mut bad: Vec<(ObjectHash, String)> = Vec::new();
    for Finding { object, why, remedy } in verify(db, store, depth)?.findings {
        match (object, remedy) {
            (None, _) => report.database.push(why),
            (Some(object), Remedy::MakeAgain) => bad.push((object, why)),
            (Some(object), Remedy::MakeReadOnly) => match make_read_only(db, store, &object)? {
                None => report.objects.push((object, why, Repair::MadeReadOnly)),
                Some((why, Remedy::MakeAgain)) => bad.push((object, why)),
                Some((why, _)) => report.objects.push((object, why, Repair::Unreadable)),
            },
            (Some(object), Remedy::Nothing) => {
                report.objects.push((object, why, Repair::Unreadable));
            }
        }
    }
    if !report.database.is_empty() {
        // What such a database says of objects is nothing to act upon.
        return Ok(report);
    }
    let mut gone = Vec::new();
    for (object, why) in bad {
        if record(db, store, &object)? {
            report.objects.push((object, why, Repair::Recorded));
            continue;
        }
        let _shard = store.lock_shard_exclusive(object.shard())?;
        set_aside(db, store, db_dir, &object)?;
        gone.push((object, why));
    }
    let unreadable: Vec<ObjectHash> =
        hashes_of(&report, |repair| *repair == Repair::Unreadable).collect();
    report.objects.append(&mut get_back_all(db, store, db_dir, &gone, &unreadable)?);
    report.objects.sort_by_key(|(object, ..)| *object);
    let is_lost = |repair: &Repair| !repair.is_good() && *repair != Repair::Unreadable;
    let lost: Vec<ObjectHash> = hashes_of(&report, is_lost).collect();
    // So that a step of history that comes alive again runs, instead of bringing back what is lost.
    db::drop_objects(&mut db.lock(), &lost)?;
    Ok(report)
}

fn hashes_of(
    report: &RepairReport,
    has: impl Fn(&Repair) -> bool,
) -> impl Iterator<Item = ObjectHash> {
    report.objects.iter().filter(move |(_, _, repair)| has(repair)).map(|(object, ..)| *object)
}

/// Gets back objects that were set aside, each with what was wrong with it. The caller holds the run
/// lock.
///
/// # Errors
/// As [`repair`].
pub fn get_back(
    db: &Db,
    store: &Store,
    db_dir: &Path,
    bad: &[(ObjectHash, String)],
) -> Result<Vec<(ObjectHash, String, Repair)>> {
    get_back_all(db, store, db_dir, bad, &[])
}

/// The same, where some more objects are there that no step can work on.
fn get_back_all(
    db: &Db,
    store: &Store,
    db_dir: &Path,
    bad: &[(ObjectHash, String)],
    unreadable: &[ObjectHash],
) -> Result<Vec<(ObjectHash, String, Repair)>> {
    if bad.is_empty() {
        return Ok(Vec::new());
    }
    let mut repairer = Repairer {
        workshop: Workshop::open(db, store, db_dir)?,
        results: bad
            .iter()
            .map(|(object, _)| (*object, None))
            .chain(unreadable.iter().map(|object| (*object, Some(Repair::Unreadable))))
            .collect(),
        waiting: HashSet::new(),
    };
    for (object, _) in bad {
        repairer.get_back(object)?;
    }
    // Two steps may make each other's input; once one of them is back, the other can be. Ends when a pass
    // brings none back.
    let mut before = usize::MAX;
    while repairer.waiting.len() < before {
        before = repairer.waiting.len();
        let waiting: Vec<ObjectHash> = repairer.waiting.drain().collect();
        for object in &waiting {
            repairer.results.insert(*object, None);
        }
        for object in &waiting {
            repairer.get_back(object)?;
        }
    }
    let mut repaired = Vec::with_capacity(bad.len());
    for (object, why) in bad {
        repaired.push((*object, why.clone(), repairer.get_back(object)?));
    }
    db::recount(&db.lock())?;
    Ok(repaired)
}

/// Takes bad bytes out of the way, kept as evidence, and their row with them: a row proves an object.
///
/// # Errors
/// If the row or the file can't be moved.
pub fn set_aside(db: &Db, store: &Store, db_dir: &Path, object: &ObjectHash) -> Result<()> {
    db::forget_object(&db.lock(), object)?;
    store.forget(object);
    let path = store.path(object);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    let folder = db_dir.join("quarantine");
    fs::create_dir_all(&folder).or_io("make the folder", &folder)?;
    let mut to = folder.join(object.hex());
    let mut n = 1;
    while fs::symlink_metadata(&to).is_ok() {
        n += 1;
        to = folder.join(format!("{object}~{n}"));
    }
    fs::rename(&path, &to).or_io("move aside", &path)
}

struct Repairer<'a> {
    workshop: Workshop<'a>,
    /// Every bad object; `None` as long as it is not dealt with.
    results: HashMap<ObjectHash, Option<Repair>>,
    /// Those of them for which a step could not run again because its input was not there, yet.
    waiting: HashSet<ObjectHash>,
}

impl Repairer<'_> {
    fn get_back(&mut self, object: &ObjectHash) -> Result<Repair> {
        if let Some(Some(repair)) = self.results.get(object) {
            return Ok(repair.clone());
        }
        // A step whose input it is can't be what makes it: content hashes have no cycles but by such
        // steps as `cp`, whose input would have to be good already.
        self.results.insert(*object, Some(Repair::NoProducer));
        let repair = self.try_all(object)?;
        if repair.is_good() {
            self.waiting.remove(object);
        }
        self.results.insert(*object, Some(repair.clone()));
        Ok(repair)
    }

    fn try_all(&mut self, object: &ObjectHash) -> Result<Repair> {
        let db = self.workshop.db;
        if let Some(repair) = self.reimport(object)? {
            return Ok(repair);
        }
        let mut failure = None;
        let producers = db::producers(&db.lock(), object)?;
        for producer in producers {
            match self.remake(object, &producer)? {
                repair @ Repair::Remade { .. } => return Ok(repair),
                // Of a step that could run there is more to say.
                repair if matches!(failure, None | Some(Repair::InputGone { .. })) => {
                    failure = Some(repair);
                }
                _ => {}
            }
        }
        if db::retire_gather(&mut db.lock(), object)? > 0 {
            return Ok(Repair::ListedNextRun);
        }
        if let Some(failure) = failure {
            return Ok(failure);
        }
        if db::lose_log(&db.lock(), object)? > 0 && !self.is_referred_to(object)? {
            return Ok(Repair::LogLost);
        }
        Ok(Repair::NoProducer)
    }

    fn is_referred_to(&self, object: &ObjectHash) -> Result<bool> {
        Ok(db::unproven_objects(&self.workshop.db.lock())?.contains(object))
    }

    /// From the file that it came from, if that still holds it.
    fn reimport(&self, object: &ObjectHash) -> Result<Option<Repair>> {
        let (db, store) = (self.workshop.db, self.workshop.store);
        if *object == ObjectHash::EMPTY {
            let placed = store.put(b"")?;
            self.commit(&[&placed])?;
            return Ok(Some(Repair::Reimported { path: b"/dev/null".to_vec() }));
        }
        let (paths, dir) = {
            let conn = db.lock();
            (db::input_files(&conn, object)?, db::last_dir(&conn)?.unwrap_or_default())
        };
        for path in paths {
            let full = as_path(&dir).join(as_path(&path));
            let Ok(mut file) = File::open(&full) else { continue };
            let placed = store.put_file(&mut file)?;
            if placed.hash == *object {
                self.commit(&[&placed])?;
                return Ok(Some(Repair::Reimported { path }));
            }
            self.drop_stray(placed)?;
        }
        Ok(None)
    }

    fn remake(&mut self, object: &ObjectHash, producer: &Producer) -> Result<Repair> {
        let step = producer.step.0;
        if self.results.contains_key(&producer.object) {
            let input = self.get_back(&producer.object)?;
            if !input.is_good() || input == Repair::ListedNextRun {
                self.waiting.insert(*object);
                return Ok(Repair::InputGone { step });
            }
        }
        let (report, placed) = match self.workshop.run(producer) {
            Ok(made) => made,
            Err(err @ crate::error::Error::Damaged { .. }) => {
                return Ok(Repair::Failed { step, why: err.to_string() });
            }
            Err(err) => return Err(err),
        };
        let outcome = &report.record.outcome;
        if !outcome.is_ok() {
            return Ok(Repair::Failed { step, why: format!("it failed: {outcome}") });
        }
        // Other bad objects that came out as they should are good again too.
        let (wanted, strays): (Vec<_>, Vec<_>) =
            placed.into_iter().partition(|placed| self.results.contains_key(&placed.hash));
        self.commit(&wanted.iter().collect::<Vec<_>>())?;
        let mut found = false;
        for placed in wanted {
            found |= placed.hash == *object;
            self.results.insert(placed.hash, Some(Repair::Remade { step }));
        }
        for placed in strays {
            self.drop_stray(placed)?;
        }
        Ok(if found { Repair::Remade { step } } else { Repair::NonDeterministic { step } })
    }

    fn commit(&self, placed: &[&Placed]) -> Result<()> {
        self.workshop.store.sync(placed)?;
        let rows: Vec<_> = placed.iter().map(|placed| (placed.hash, placed.size)).collect();
        db::put_objects(&mut self.workshop.db.lock(), &rows)
    }

    /// Removes what came out and nobody asked for.
    fn drop_stray(&self, placed: Placed) -> Result<()> {
        let hash = placed.hash;
        drop(placed);
        if db::known_object(&self.workshop.db.lock(), &hash)?.is_none() {
            let path = self.workshop.store.path(&hash);
            match fs::remove_file(&path) {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                    return Err(err).or_io("remove", &path);
                }
                _ => {}
            }
        }
        Ok(())
    }
}
