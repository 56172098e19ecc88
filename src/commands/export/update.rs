//! Brings a folder up to date. First it is decided what is to be done, file by file; if anything is in the way that no
//! export wrote, or that was edited since, nothing is changed. Then what is about to be written is noted in the record,
//! so that after a kill the next export knows it, then it is written, and then what is stale is removed.
//!
//! Whether a file is still as an export left it is decided by its hash before it is overwritten or removed. Size and
//! time only tell that a file needs no look.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Read};

use crate::attempt::NamedObject;
use crate::commands::complain;
use crate::db::{self, Db};
use crate::error::{OrIo as _, Result};
use crate::ids::TaskId;
use crate::names::{self, EXPORT_RECORD};
use crate::object::{ObjectHash, ObjectHasher};
use crate::store::{Store, copy_sparse};
use crate::text::shown;

use super::Changes;
use super::record::{Claim, Claims, Exporter, Record};
use super::target::{Place, Target, is_draft};

/// One export into an open folder.
pub(super) struct Update<'a> {
    pub(super) store: &'a Store,
    pub(super) target: &'a Target,
    pub(super) db: &'a Db,
    pub(super) task: TaskId,
    pub(super) exporter: Exporter,
    /// Files that are in the way are overwritten.
    pub(super) force: bool,
    /// Results may be missing that are still to be made, so nothing is stale.
    pub(super) partial: bool,
}

/// What is in the way of an output.
pub(super) struct Obstacle {
    name: Vec<u8>,
    why: String,
    /// `--force` removes it.
    can_go: bool,
}

impl Obstacle {
    pub(super) fn text(&self, target: &std::path::Path) -> String {
        format!("{} {}", shown(&target.join(crate::text::as_path(&self.name))), self.why)
    }

    pub(super) fn can_go(&self) -> bool {
        self.can_go
    }
}

/// What is to be done for one output.
enum Action {
    /// It is there.
    Keep(Claim),
    Write {
        /// A file or link is there, which may go.
        replaces: bool,
    },
}

/// What is to be done.
#[derive(Default)]
struct Decisions {
    /// In the order of the outputs.
    actions: Vec<Action>,
    obstacles: Vec<Obstacle>,
    /// Stale files of ours where an output needs a folder, or below a folder where an output is to be.
    blockers: BTreeSet<Vec<u8>>,
    /// Empty folders where an output is to be.
    folders: Vec<Vec<u8>>,
    /// Files and links that go because of `--force`, where a folder is needed.
    forced: BTreeSet<Vec<u8>>,
}

/// Outputs whose names an export needs itself.
pub(super) fn reserved(outputs: &[NamedObject]) -> Vec<Obstacle> {
    let is_reserved = |part: &[u8]| {
        part.strip_prefix(EXPORT_RECORD.as_bytes())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
    };
    let reserved =
        outputs.iter().filter(|output| output.name.split(|&byte| byte == b'/').any(is_reserved));
    let why = format!(
        "has the name of an export's own files ({EXPORT_RECORD}…); give the output another one"
    );
    reserved
        .map(|output| Obstacle { name: output.name.clone(), why: why.clone(), can_go: false })
        .collect()
}

impl Update<'_> {
    /// Does it.
    ///
    /// # Errors
    /// What is in the way, if anything is; then nothing was changed. Otherwise those of reading and writing files, after
    /// which the next export goes on.
    pub(super) fn run(
        &self,
        outputs: &[NamedObject],
    ) -> Result<std::result::Result<Changes, Vec<Obstacle>>> {
        let (mut record, before) = self.target.read_record()?;
        record.rename(&self.exporter.db, &|task, id, claims| self.name_now(task, id, claims))?;
        let names = names::distinct(outputs.iter().map(|output| output.name.as_slice()));
        self.remove_drafts(&record, before.is_none(), &names)?;
        let mut own = self.own_claims(&mut record, &names)?;
        let decided = self.decide(outputs, &names, &record, &own)?;
        if decided.obstacles.iter().any(|obstacle| !obstacle.can_go || !self.force) {
            return Ok(Err(decided.obstacles));
        }
        let mut changes = Changes { files: outputs.len(), ..Changes::default() };
        let work = || outputs.iter().zip(&names).zip(&decided.actions);
        let wanted: HashSet<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let is_stale = |name: &Vec<u8>| !self.partial && !wanted.contains(name.as_slice());
        if work().any(|(_, action)| matches!(action, Action::Write { .. }))
            || own.keys().any(is_stale)
        {
            let mut journal = own.clone();
            for ((output, name), action) in work() {
                if matches!(action, Action::Write { .. }) {
                    journal.entry(name.clone()).or_default().push(Claim::planned(output));
                }
            }
            self.write_record(&record, journal, true, None)?;
        }
        for name in &decided.blockers {
            self.target.remove(name)?;
            own.remove(name);
            changes.removed += 1;
        }
        for name in &decided.forced {
            self.target.remove(name)?;
            record.disclaim(name);
        }
        for name in &decided.folders {
            self.target.remove_empty_below(name)?;
        }
        let mut left = Claims::new();
        for ((output, name), action) in work() {
            own.remove(name);
            let claim = match action {
                Action::Keep(claim) => claim.clone(),
                Action::Write { replaces } => {
                    changes.written += 1;
                    record.disclaim(name);
                    self.write(name, output, *replaces)?
                }
            };
            left.insert(name.clone(), vec![claim]);
        }
        // What is left of our own is stale, or may be valid once the pipeline is complete.
        for (name, claims) in own {
            if self.partial {
                left.insert(name, claims);
            } else {
                changes.removed += usize::from(self.remove_stale(&record, &name, &claims)?);
            }
        }
        self.write_record(&record, left, false, before.as_deref())?;
        Ok(Ok(changes))
    }

    /// What the task is called now that exported these files under a name. In a database that was made anew the id may
    /// be that of another task, which did not make them.
    fn name_now(&self, task: String, id: TaskId, claims: &Claims) -> Result<String> {
        let labels = task.find('[').map_or("", |at| &task[at..]);
        let name = match self.db.read(|reader| db::present_name(reader, id))? {
            Some(name) => name + labels,
            None => return Ok(task),
        };
        if name == task {
            return Ok(task);
        }
        let made = self.made_by(id)?;
        let is_its = claims.values().flatten().any(|claim| made.contains(&claim.object));
        Ok(if is_its { name } else { task })
    }

    /// All objects that a task ever had as outputs.
    fn made_by(&self, task: TaskId) -> Result<HashSet<ObjectHash>> {
        self.db.read(|reader| db::objects_made_by(reader, task))
    }

    /// Takes the claims of this export out of the record. Of those of older builds, which did not note the task, it gets
    /// those for names that it needs, and those on objects that the task once made.
    fn own_claims(&self, record: &mut Record, names: &[Vec<u8>]) -> Result<Claims> {
        let mut own = record.claims.remove(&Some(self.exporter.clone())).unwrap_or_default();
        let Some(older) = record.claims.remove(&None) else { return Ok(own) };
        let names: HashSet<&Vec<u8>> = names.iter().collect();
        let made = self.made_by(self.task)?;
        let is_own = |name: &Vec<u8>, claims: &[Claim]| {
            names.contains(name) || claims.iter().any(|claim| made.contains(&claim.object))
        };
        let mut others = Claims::new();
        for (name, claims) in older {
            let side = if is_own(&name, &claims) { &mut own } else { &mut others };
            side.entry(name).or_default().extend(claims);
        }
        if !others.is_empty() {
            record.claims.insert(None, others);
        }
        Ok(own)
    }

    /// Drafts lie in the folder itself and where files were about to be written.
    fn remove_drafts(&self, record: &Record, is_new: bool, names: &[Vec<u8>]) -> Result<()> {
        let mut folders = BTreeSet::from([&b""[..]]);
        if record.is_unfinished || is_new {
            let known = record.claims.values().flat_map(Claims::keys).chain(names);
            folders.extend(known.map(|name| names::split(name).0));
        }
        folders.iter().try_for_each(|folder| self.target.remove_drafts(folder))
    }

    fn decide(
        &self,
        outputs: &[NamedObject],
        names: &[Vec<u8>],
        record: &Record,
        own: &Claims,
    ) -> Result<Decisions> {
        let mut decided =
            Decisions { blockers: self.blockers(names, record, own)?, ..Decisions::default() };
        for (output, name) in outputs.iter().zip(names) {
            let action = match self.target.look(name)? {
                Place::Missing => Action::Write { replaces: false },
                Place::File { seen, executable } => {
                    let known = own.get(name).into_iter().flatten();
                    let mut known =
                        known.chain(record.of_others(&self.exporter, name).map(|(_, claim)| claim));
                    let is_it = |claim: &&Claim| {
                        claim.object == output.object
                            && claim.executable == output.executable
                            && claim.seen == Some(seen)
                            && executable == output.executable
                    };
                    match known.find(is_it) {
                        Some(claim) => Action::Keep(claim.clone()),
                        None => {
                            self.compare(&mut decided, output, name, executable, record, own)?
                        }
                    }
                }
                Place::Folder => {
                    let is_ours = |path: &[u8]| {
                        decided.blockers.contains(path) || is_draft(names::split(path).1)
                    };
                    match self.target.stranger_below(name, &is_ours)? {
                        None => decided.folders.push(name.clone()),
                        Some(stranger) => {
                            let stranger = crate::text::printable(&stranger).into_owned();
                            decided.block(
                                name,
                                format!("is a folder that holds something else ({stranger})"),
                                false,
                            );
                        }
                    }
                    Action::Write { replaces: false }
                }
                Place::Below(folder, place) => {
                    let is_ours = decided.blockers.contains(&folder);
                    if !is_ours {
                        let can_go = *place != Place::Database;
                        let why = Place::Below(folder.clone(), place).to_string();
                        decided.block(name, why, can_go);
                        decided.forced.insert(folder);
                    }
                    Action::Write { replaces: false }
                }
                place => {
                    decided.block(name, place.to_string(), true);
                    Action::Write { replaces: true }
                }
            };
            decided.actions.push(action);
        }
        Ok(decided)
    }

    /// Decides by its hash about a file that is there.
    fn compare(
        &self,
        decided: &mut Decisions,
        output: &NamedObject,
        name: &[u8],
        executable: bool,
        record: &Record,
        own: &Claims,
    ) -> Result<Action> {
        let replace = Action::Write { replaces: true };
        let Some((hash, seen)) = self.target.hash(name)? else {
            decided.block(
                name,
                "can't be read, so it is not what an export wrote".to_owned(),
                true,
            );
            return Ok(replace);
        };
        if hash == output.object && executable == output.executable {
            return Ok(Action::Keep(Claim { object: hash, executable, seen: Some(seen) }));
        }
        let mut others = record.of_others(&self.exporter, name);
        let others_too = others.find(|(_, claim)| claim.object == hash);
        if let Some((other, _)) = others_too {
            let db = match other.db == self.exporter.db {
                true => String::new(),
                false => format!(" of the database {}", shown(&self.target.path(&other.db))),
            };
            decided.block(name, format!("is a result of task `{}`{db}", other.task), true);
            return Ok(replace);
        }
        let mut claims = own.get(name).into_iter().flatten();
        if !claims.any(|claim| claim.object == hash) {
            let is_known =
                own.contains_key(name) || record.of_others(&self.exporter, name).next().is_some();
            let why = match is_known {
                true => "was edited after it was exported",
                false => "was not written by an export",
            };
            decided.block(name, why.to_owned(), true);
        }
        Ok(replace)
    }

    /// Stale files of ours that have to go first: where an output needs a folder, and below where an output is to be.
    fn blockers(
        &self,
        names: &[Vec<u8>],
        record: &Record,
        own: &Claims,
    ) -> Result<BTreeSet<Vec<u8>>> {
        let wanted: HashSet<&[u8]> = names.iter().map(Vec::as_slice).collect();
        let folders: HashSet<&[u8]> = names.iter().flat_map(|name| names::folders(name)).collect();
        let mut blockers = BTreeSet::new();
        for (name, claims) in own {
            let is_blocker = folders.contains(name.as_slice())
                || names::folders(name).any(|folder| wanted.contains(folder));
            if is_blocker && self.is_ours_alone(record, name, claims)? {
                blockers.insert(name.clone());
            }
        }
        Ok(blockers)
    }

    /// Whether a file is as this export left it, and is no other's as well.
    fn is_ours_alone(&self, record: &Record, name: &[u8], claims: &[Claim]) -> Result<bool> {
        if record.of_others(&self.exporter, name).next().is_some() {
            return Ok(false);
        }
        let found = self.target.hash(name)?;
        Ok(found.is_some_and(|(hash, _)| claims.iter().any(|claim| claim.object == hash)))
    }

    /// Removes a file that is no longer a result, unless somebody has edited it, or another export has it too.
    fn remove_stale(&self, record: &Record, name: &[u8], claims: &[Claim]) -> Result<bool> {
        if record.of_others(&self.exporter, name).next().is_some()
            || matches!(self.target.look(name)?, Place::Missing | Place::Below(..))
        {
            return Ok(false);
        }
        if !self.is_ours_alone(record, name, claims)? {
            complain(&format!(
                "kept {}: it is no longer a result, but it was edited after the export",
                shown(&self.target.path(name))
            ));
            return Ok(false);
        }
        self.target.remove(name)?;
        Ok(true)
    }

    fn write(&self, name: &[u8], output: &NamedObject, replaces: bool) -> Result<Claim> {
        let object = output.object;
        let path = self.target.path(name);
        let seen = self.target.write(name, output.executable, replaces, &mut |file: &File| {
            let source = self.store.open_object(&object)?;
            let mut source = Hashed { source, hasher: ObjectHasher::default() };
            copy_sparse(&mut source, file).or_io("write", &path)?;
            match source.hasher.finish() == object {
                true => Ok(()),
                false => Err(self.store.damaged(&object)),
            }
        })?;
        Ok(Claim { object, executable: output.executable, seen: Some(seen) })
    }

    /// Writes the record with these claims of ours, unless it is like that `before`.
    fn write_record(
        &self,
        others: &Record,
        own: Claims,
        is_unfinished: bool,
        before: Option<&[u8]>,
    ) -> Result<()> {
        let mut record = Record { is_unfinished, ..others.clone() };
        if !own.is_empty() {
            record.claims.insert(Some(self.exporter.clone()), own);
            record.ids.insert(self.exporter.clone(), self.task);
        }
        let bytes = record.to_bytes();
        match before == Some(bytes.as_slice()) {
            true => Ok(()),
            false => self.target.write_record(&bytes),
        }
    }
}

impl Decisions {
    fn block(&mut self, name: &[u8], why: String, can_go: bool) {
        self.obstacles.push(Obstacle { name: name.to_owned(), why, can_go });
    }
}

/// An object that is hashed as it is read.
struct Hashed {
    source: File,
    hasher: ObjectHasher,
}

impl Read for Hashed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
