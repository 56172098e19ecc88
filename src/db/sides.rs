//! `with`: what the steps of a task see besides their input. Read when all that makes it is done, not before; and then
//! each step sees what agrees with its labels, as a listing that is a part of its identity.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::params;

use crate::attempt::NamedObject;
use crate::error::{OrDb, Result};
use crate::ids::{StepId, TaskId};
use crate::labels::Labels;
use crate::object::ObjectHash;

use crate::db::listing::{listing_line, read_listing};
use crate::db::types::NameBytes;
use crate::db::{Reader, Writer};

const WHAT: &str = "look for what a step sees";

/// What the steps of one task see by `with`, as far as it is known.
#[derive(Default)]
pub struct Sides(Mutex<View>);

#[derive(Default)]
struct View {
    stage: Stage,
    /// As it was when it was read. Most tasks see nothing by `with`, hence the box.
    seen: Option<Box<Seen>>,
}

#[derive(Default, PartialEq)]
enum Stage {
    /// Something is still to be made.
    #[default]
    Unknown,
    /// It is all there, but something is to be made anew.
    Anew,
    Known,
}

/// All that the steps of a task may see.
#[derive(Default)]
struct Seen {
    /// In the order in which it is listed.
    items: Vec<Item>,
    /// Every key that any of them has, and which have it not.
    without: Vec<(String, Vec<usize>)>,
    /// Which have this one label.
    having: HashMap<Labels, Vec<usize>>,
    /// Listings that were made, by those labels of a step that matter.
    hashes: HashMap<Labels, Option<ObjectHash>>,
    /// Of these, in the database.
    kept: HashSet<ObjectHash>,
}

/// An output that is seen, and the step that made it.
struct Item {
    step: StepId,
    labels: Labels,
    output: NamedObject,
}

impl Sides {
    /// From now on it is known what there is to see.
    pub fn open(&self) {
        *self.lock() = View { stage: Stage::Known, seen: None };
    }

    /// It is not: something of it is made anew. What was read stays what the steps that there are see.
    pub(in crate::db) fn close(&self) {
        self.lock().stage = Stage::Anew;
    }

    /// True if it is known what there is to see.
    pub fn is_known(&self) -> bool {
        self.lock().stage == Stage::Known
    }

    /// True if nothing can be said of it: the task has no steps that live.
    pub(in crate::db) fn is_unknown(&self) -> bool {
        self.lock().stage == Stage::Unknown
    }

    /// The listing of what a step of these labels sees; `None`: nothing. Expects it to be read.
    pub fn of(&self, labels: &Labels) -> Option<ObjectHash> {
        self.lock().seen.as_mut().and_then(|seen| seen.of(labels))
    }

    /// True if there is something that every step sees.
    pub(in crate::db) fn is_for_all(&self) -> bool {
        self.lock().seen.as_ref().is_some_and(|seen| seen.agrees_with_all())
    }

    /// Reads what there is to see, once it is known: what these tasks made, each with its name.
    pub(in crate::db) fn read(&self, reader: &Reader, tasks: &[(&str, TaskId)]) -> Result<()> {
        let mut view = self.lock();
        if view.stage == Stage::Known && view.seen.is_none() {
            view.seen = Some(Box::new(Seen::read(reader, tasks)?));
        }
        Ok(())
    }

    /// As [`Self::of`], and the listing is in the database from then on.
    pub(in crate::db) fn keep(
        &self,
        writer: &mut Writer,
        labels: &Labels,
    ) -> Result<Option<ObjectHash>> {
        let mut view = self.lock();
        let Some(seen) = &mut view.seen else { return Ok(None) };
        let Some(hash) = seen.of(labels) else { return Ok(None) };
        if !seen.kept.insert(hash) {
            return Ok(Some(hash));
        }
        let agreeing = seen.agreeing(labels);
        let mut insert = writer
            .conn
            .prepare_cached("INSERT OR IGNORE INTO side(hash, listing) VALUES (?1, ?2)")
            .or_db(WHAT)?;
        insert.execute(params![hash, seen.listing(&agreeing)]).or_db(WHAT)?;
        let mut link = writer
            .conn
            .prepare_cached("INSERT OR IGNORE INTO side_link(from_step_id, side) VALUES (?1, ?2)")
            .or_db(WHAT)?;
        for item in agreeing {
            link.execute(params![seen.items[item].step, hash]).or_db(WHAT)?;
        }
        Ok(Some(hash))
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn read(reader: &Reader, tasks: &[(&str, TaskId)]) -> Result<Seen> {
        let mut select = reader
            .conn
            .prepare_cached(
                "SELECT p.id, p.labels, o.name, o.object, o.executable FROM step p JOIN output o ON o.step = p.id
                 WHERE p.task = ?1 AND p.live = 1 AND p.state = 1
                 ORDER BY o.name, output_origin(p.task, p.origin, o.name), o.object",
            )
            .or_db(WHAT)?;
        let mut seen = Seen::default();
        // By their names, however they stand in the manifest.
        let mut last = "";
        while let Some((folder, task)) = tasks.iter().filter(|task| task.0 > last).min() {
            last = folder;
            let mut rows = select.query([task]).or_db(WHAT)?;
            while let Some(row) = rows.next().or_db(WHAT)? {
                let name = row.get::<_, NameBytes>(2).or_db(WHAT)?.0;
                let output = NamedObject {
                    name: [folder.as_bytes(), b"/", &name].concat(),
                    object: row.get(3).or_db(WHAT)?,
                    executable: row.get(4).or_db(WHAT)?,
                };
                let (step, labels) = (row.get(0).or_db(WHAT)?, row.get(1).or_db(WHAT)?);
                seen.items.push(Item { step, labels, output });
            }
        }
        seen.index();
        Ok(seen)
    }

    fn index(&mut self) {
        for (n, item) in self.items.iter().enumerate() {
            for (key, _) in item.labels.iter() {
                self.having.entry(item.labels.only([key])).or_default().push(n);
                if !self.without.iter().any(|(known, _)| known == key) {
                    self.without.push((key.to_owned(), Vec::new()));
                }
            }
        }
        for (key, without) in &mut self.without {
            let lacks = |n: &usize| self.items[*n].labels.get(key).is_none();
            without.extend((0..self.items.len()).filter(lacks));
        }
    }

    fn agrees_with_all(&self) -> bool {
        self.items.iter().any(|item| item.labels.is_empty())
    }

    fn of(&mut self, labels: &Labels) -> Option<ObjectHash> {
        let part = labels.only(self.without.iter().map(|(key, _)| key.as_str()));
        if let Some(&known) = self.hashes.get(&part) {
            return known;
        }
        let agreeing = self.agreeing(&part);
        let hash = (!agreeing.is_empty()).then(|| ObjectHash::of(&self.listing(&agreeing)));
        self.hashes.insert(part, hash);
        hash
    }

    /// The items that agree with labels, in order. Looked for among those that have the rarest of them, or lack its key.
    fn agreeing(&self, labels: &Labels) -> Vec<usize> {
        let all = self.without.iter().filter_map(|(key, without)| {
            labels.get(key)?;
            let having = self.having.get(&labels.only([key.as_str()]));
            Some((having.map_or(&[][..], Vec::as_slice), without.as_slice()))
        });
        let Some((mut a, mut b)) = all.min_by_key(|(a, b)| a.len() + b.len()) else {
            return (0..self.items.len()).collect();
        };
        let mut found = Vec::new();
        while let Some(&next) = a.first().into_iter().chain(b.first()).min() {
            let from = if a.first() == Some(&next) { &mut a } else { &mut b };
            *from = &from[1..];
            if self.items[next].labels.agree(labels) {
                found.push(next);
            }
        }
        found
    }

    fn listing(&self, items: &[usize]) -> Vec<u8> {
        let mut listing = Vec::new();
        items.iter().for_each(|&item| listing_line(&mut listing, &self.items[item].output));
        listing
    }
}

/// A listing of what steps see.
///
/// # Errors
/// If the database can't be read.
pub fn side_listing(reader: &Reader, side: &ObjectHash) -> Result<Vec<NamedObject>> {
    let listing: Vec<u8> = reader
        .conn
        .prepare_cached("SELECT listing FROM side WHERE hash = ?1")
        .and_then(|mut select| select.query_row([side], |row| row.get(0)))
        .or_db(WHAT)?;
    Ok(read_listing(&listing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().copied().collect()
    }

    #[test]
    fn a_step_sees_what_agrees_with_it_on_every_label_that_both_have() {
        let mut seen = Seen::default();
        let all = [
            labels(&[]),
            labels(&[("sample", "A")]),
            labels(&[("lane", "1"), ("sample", "A")]),
            labels(&[("sample", "B")]),
            labels(&[("other", "x")]),
        ];
        for (n, labels) in all.iter().enumerate() {
            let output = NamedObject { name: vec![], object: ObjectHash::EMPTY, executable: false };
            seen.items.push(Item { step: StepId(n as i64), labels: labels.clone(), output });
        }
        seen.index();
        for step in [
            labels(&[]),
            labels(&[("sample", "A"), ("lane", "2"), ("own", "y")]),
            labels(&[("sample", "C"), ("other", "x")]),
            labels(&[("other", "z")]),
        ] {
            let agreeing: Vec<usize> = (0..all.len()).filter(|&n| all[n].agree(&step)).collect();
            assert_eq!(seen.agreeing(&step), agreeing, "{step}");
        }
    }
}
