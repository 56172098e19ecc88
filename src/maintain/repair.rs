//! `repair`: restores damaged or missing objects. Ancestors first, because a step can run again only on an intact
//! input. Its output must have the hash that is missing; if it hasn't, the step is not deterministic, which is
//! reported, and the store stays as it is.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::attempt::NamedObject;
use crate::db::{self, Db, Flow, Producer, step_key};
use crate::dependencies::{DependencyFiles, FileContent};
use crate::error::{Error, OrIo, Result};
use crate::exec::{Executor, Ground, Home, Local, Ran, Site as _};
use crate::folder;
use crate::jobserver::Share;
use crate::object::ObjectHash;
use crate::order;
use crate::recipe::Recipe;
use crate::step::{self, Attempt, Input, Item, Launch, Made, Sandbox, Script};
use crate::stop::StopSwitch;
use crate::store::{Placed, Store};
use crate::text::{as_path, printable, shown};

use super::inherit::inherit_logs;
use super::verify::{Depth, Finding, Remedy, look, verify};

/// Finds damage and undoes it. The caller holds the run lock.
///
/// # Errors
/// Whatever stops it; what was repaired until then stays so.
pub fn repair(
    db: &Db,
    store: &Arc<Store>,
    db_dir: &Path,
    depth: Depth,
    again: &RunAgain,
) -> Result<RepairReport> {
    inherit_logs(db, store, db_dir)?;
    // A repair that was killed may have left some, too.
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
        // What a damaged database says about objects can't be trusted.
        return Ok(report);
    }
    let mut gone = Vec::new();
    for (object, why) in bad {
        if record(db, store, &object)? {
            report.objects.push((object, why, Repair::Recorded));
            continue;
        }
        let _shard = store.lock_shard_exclusive(object.shard())?;
        if is_handed_out_unread(store, &object)? {
            // Before the bytes are moved away: only while they are there does the next repair know.
            report.redone += db.write(|writer| db::redo_consumers(writer, &object))?;
        }
        set_aside(db, store, db_dir, &object)?;
        gone.push((object, why));
    }
    let unreadable: Vec<ObjectHash> =
        hashes_of(&report, |repair| *repair == Repair::Unreadable).collect();
    report.objects.append(&mut get_back_all(db, store, db_dir, again, &gone, &unreadable)?);
    order::sort_by_key(&mut report.objects, |(object, ..)| *object);
    let is_lost = |repair: &Repair| !repair.is_good() && *repair != Repair::Unreadable;
    let lost: Vec<ObjectHash> = hashes_of(&report, is_lost).collect();
    // So that a step of history that becomes live again runs, instead of reviving a lost result.
    db.write(|writer| db::drop_objects(writer, &lost))?;
    Ok(report)
}

/// Whether steps may have worked on the bad bytes: nobody knows since when they are bad, and an object of that size is
/// handed out without checking its hash.
fn is_handed_out_unread(store: &Store, object: &ObjectHash) -> Result<bool> {
    Ok(store.stat(object)?.is_some_and(|stat| stat.st_size as u64 > step::SMALL))
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
    store: &Arc<Store>,
    db_dir: &Path,
    again: &RunAgain,
    bad: &[(ObjectHash, String)],
) -> Result<Vec<(ObjectHash, String, Repair)>> {
    get_back_all(db, store, db_dir, again, bad, &[])
}

/// The same, with further objects that exist but can't be read, so that no step can work on them.
fn get_back_all(
    db: &Db,
    store: &Arc<Store>,
    db_dir: &Path,
    again: &RunAgain,
    bad: &[(ObjectHash, String)],
    unreadable: &[ObjectHash],
) -> Result<Vec<(ObjectHash, String, Repair)>> {
    if bad.is_empty() {
        return Ok(Vec::new());
    }
    let mut repairer = Repairer {
        rebuilder: Rebuilder::open(db, store, db_dir, again)?,
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
    // Two steps may make each other's input; once one object is back, the other can follow. Ends when a pass restores
    // none.
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
    db.write(db::recount)?;
    Ok(repaired)
}

/// Moves bad bytes to the quarantine, as evidence, and deletes their row, because a row proves an object.
///
/// # Errors
/// If the row or the file can't be moved.
pub fn set_aside(db: &Db, store: &Store, db_dir: &Path, object: &ObjectHash) -> Result<()> {
    db.write(|writer| db::forget_object(writer, object))?;
    store.forget(object);
    let path = store.path(object);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    let folder = db_dir.join("quarantine");
    folder::make(&folder).or_io("make the folder", &folder)?;
    let mut to = folder.join(object.hex());
    let mut n = 1;
    while fs::symlink_metadata(&to).is_ok() {
        n += 1;
        to = folder.join(format!("{object}~{n}"));
    }
    fs::rename(&path, &to).or_io("move aside", &path)
}

struct Repairer<'a> {
    rebuilder: Rebuilder<'a>,
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
        // Guards against cycles. Content hashes have them only through steps such as `cp`, which can't restore their own
        // input.
        self.results.insert(*object, Some(Repair::NoProducer));
        let repair = self.try_all(object)?;
        if repair.is_good() {
            self.waiting.remove(object);
        }
        self.results.insert(*object, Some(repair.clone()));
        Ok(repair)
    }

    fn try_all(&mut self, object: &ObjectHash) -> Result<Repair> {
        let db = self.rebuilder.db;
        if let Some(repair) = self.reimport(object)? {
            return Ok(repair);
        }
        let flow = self.rebuilder.again.flow.as_ref();
        if let Some(listing) = db.read(|reader| db::relisted(reader, flow, object))? {
            let placed = self.rebuilder.store.put(&listing)?;
            self.commit(&[&placed])?;
            return Ok(Repair::Relisted);
        }
        let mut failure = None;
        let producers = db.read(|reader| db::producers(reader, object))?;
        for producer in producers {
            match self.remake(object, &producer)? {
                repair @ Repair::Remade { .. } => return Ok(repair),
                // A step that could run has a more useful failure to report.
                repair if matches!(failure, None | Some(Repair::InputGone { .. })) => {
                    failure = Some(repair);
                }
                _ => {}
            }
        }
        if db.write(|writer| db::retire_gather(writer, object))? > 0 {
            return Ok(Repair::ListedNextRun);
        }
        if failure.is_none() && db.read(|reader| db::is_listing(reader, object))? {
            return Ok(Repair::ListingLost);
        }
        if let Some(failure) = failure {
            return Ok(failure);
        }
        if db.write(|writer| db::lose_log(writer, object))? > 0 && !self.is_referred_to(object)? {
            return Ok(Repair::LogLost);
        }
        Ok(Repair::NoProducer)
    }

    fn is_referred_to(&self, object: &ObjectHash) -> Result<bool> {
        Ok(self.rebuilder.db.read(db::unproven_objects)?.contains(object))
    }

    /// Reads it again from its input file, if that still has the same content.
    fn reimport(&self, object: &ObjectHash) -> Result<Option<Repair>> {
        let (db, store) = (self.rebuilder.db, self.rebuilder.store);
        if *object == ObjectHash::EMPTY {
            let placed = store.put(b"")?;
            self.commit(&[&placed])?;
            return Ok(Some(Repair::Reimported { path: b"/dev/null".to_vec() }));
        }
        let (paths, dir) = db.read(|reader| {
            Ok((db::input_files(reader, object)?, db::last_dir(reader)?.unwrap_or_default()))
        })?;
        for content in db.read(|reader| db::contents_of_rows(reader, object))? {
            if ObjectHash::of(&content) == *object {
                let placed = store.put(&content)?;
                self.commit(&[&placed])?;
                return Ok(Some(Repair::Reimported { path: b"a row of the table".to_vec() }));
            }
        }
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
        let mut others = self.rebuilder.seen(producer)?;
        if works_on_several(producer, &recipe_of(producer)?) {
            others.append(&mut self.rebuilder.listed(producer)?);
        }
        for other in others {
            if self.results.contains_key(&other.object) && !self.get_back(&other.object)?.is_good()
            {
                self.waiting.insert(*object);
                return Ok(Repair::InputGone { step });
            }
        }
        if producer.is_sandboxed && !self.rebuilder.again.limits.contains_key(&producer.task) {
            let why = "its task runs in a sandbox, and what that lets it reach is in a manifest that can't be used any \
                       more";
            return Ok(Repair::Failed { step, why: why.to_owned() });
        }
        if let Some(path) = self.rebuilder.changed_dependency(producer)? {
            let why = format!("it read `{}`, which is not what it was then", printable(&path));
            return Ok(Repair::Failed { step, why });
        }
        let (report, placed) = match self.rebuilder.run(producer) {
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
        // Other damaged objects may have come out right in the same attempt.
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
        self.rebuilder.store.sync(placed)?;
        let rows: Vec<_> = placed.iter().map(|placed| (placed.hash, placed.size)).collect();
        self.rebuilder.db.write(|writer| db::put_objects(writer, &rows))
    }

    /// Removes an output that was not wanted.
    fn drop_stray(&self, placed: Placed) -> Result<()> {
        let hash = placed.hash;
        drop(placed);
        if self.rebuilder.db.read(|reader| db::known_object(reader, &hash))?.is_none() {
            let path = self.rebuilder.store.path(&hash);
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

/// Restores an object's mode, and says what else is wrong with it.
fn make_read_only(db: &Db, store: &Store, object: &ObjectHash) -> Result<Option<(String, Remedy)>> {
    let path = store.path(object);
    if let Err(err) = store.make_read_only(object) {
        let why = format!("its mode can't be changed (`{}`): {err}", shown(&path));
        return Ok(Some((why, Remedy::Nothing)));
    }
    match db.read(|reader| db::known_object(reader, object))? {
        Some(size) => look(store, object, size, true),
        None => Ok(None),
    }
}

/// Gives an object that has lost its row a new one if its bytes are right. False if they aren't.
fn record(db: &Db, store: &Store, object: &ObjectHash) -> Result<bool> {
    if db.read(|reader| db::known_object(reader, object))?.is_some()
        || store.check(object, None, true)?.is_err()
    {
        return Ok(false);
    }
    let path = store.path(object);
    let file = File::open(&path).or_io("open object", &path)?;
    // A name alone proves nothing, and the bytes may not be on the disk yet.
    file.sync_all().or_io("sync object", &path)?;
    store.make_read_only(object).or_io("make read-only", &path)?;
    let size = file.metadata().or_io("look at object", &path)?.len();
    db.write(|writer| db::put_objects(writer, &[(*object, size)]))?;
    Ok(true)
}

fn recipe_of(producer: &Producer) -> Result<Recipe> {
    serde_json::from_str(&producer.recipe_json).map_err(|err| {
        Error::Internal(format!("the recipe of step {} does not read: {err}", producer.step))
    })
}

/// True if what a step works on is a listing: it gathers, or is one on a row that names files.
fn works_on_several(producer: &Producer, recipe: &Recipe) -> bool {
    producer.gather || !recipe.paths.is_empty()
}

/// Largest listing of a gather step that is read into memory.
const LISTING: u64 = 1 << 30;

/// How steps are run again: as a run would, as far as that is known.
#[derive(Default)]
pub struct RunAgain {
    /// By the name of the task. A task that is missing has no timeout.
    pub limits: HashMap<String, ScriptLimits>,
    /// The tasks of the manifest, if it can be read: says what gather steps work on.
    pub flow: Option<Flow>,
    /// Ends the script that runs.
    pub stop: Arc<StopSwitch>,
    /// Tokens for scripts that want them.
    pub share: Option<Arc<Share>>,
}

/// What the manifest says of a task's scripts, besides their recipe.
#[derive(Clone, Default)]
pub struct ScriptLimits {
    pub timeout: Option<Duration>,
    /// `input = "copy"`
    pub copies_input: bool,
    /// `jobserver = true`
    pub wants_jobserver: bool,
    /// How many processors it is told to have; 0: not known, so one.
    pub cpus: usize,
    /// `sandbox = true`: what it declares, but for the single files that its recipe names.
    pub sandbox: Option<Sandbox>,
}

/// A place to run scripts in: the one that runs have.
struct Rebuilder<'a> {
    db: &'a Db,
    store: &'a Arc<Store>,
    again: &'a RunAgain,
    db_dir: PathBuf,
    folder: PathBuf,
    executor: Box<dyn Executor>,
    /// Supervises the executor's scripts.
    _site: Local,
}

impl Rebuilder<'_> {
    /// Below `DB/scratch`, like a run's. The caller holds the run lock.
    fn open<'a>(
        db: &'a Db,
        store: &'a Arc<Store>,
        db_dir: &Path,
        again: &'a RunAgain,
    ) -> Result<Rebuilder<'a>> {
        let root = db_dir.join("scratch");
        folder::make(&root).or_io("make the scratch folder", &root)?;
        step::end_survivors(&root)?;
        let folder = root.join(format!("repair-{}", std::process::id()));
        let made = fs::DirBuilder::new().mode(0o700).create(&folder);
        made.or_io("make the scratch folder", &folder)?;
        let site = Local::new(Ground {
            store: Arc::clone(store),
            stop: Arc::clone(&again.stop),
            scratch: folder.clone(),
            executors: 1,
            share: again.share.clone(),
            wants_jobserver: false,
            launch: Launch::default(),
            tell: Arc::new(|_| {}),
            home: Home { manifest: PathBuf::new(), hash: None, files: Arc::default() },
        })?;
        let executor = site.grow()?.recv();
        let executor = executor.map_err(|_| Error::Internal("there is no executor".to_owned()))?;
        let db_dir = db_dir.to_owned();
        Ok(Rebuilder { db, store, again, db_dir, folder, executor, _site: site })
    }

    /// Runs a step's script on its input again. What it leaves is in the store, but committed nowhere.
    fn run(&mut self, producer: &Producer) -> Result<Made> {
        let interrupted = || Err(std::io::Error::from(std::io::ErrorKind::Interrupted));
        let attempt = self.describe(producer)?;
        if !self.again.stop.may_start() {
            return interrupted().or_system("finish the repair");
        }
        let executor = &mut self.executor;
        // On a thread of its own, because what scripts leave behind is looked for among the children of
        // the first one.
        let ran = std::thread::scope(|scope| {
            let worker = std::thread::Builder::new()
                .spawn_scoped(scope, move || executor.run(&attempt, &mut |_| {}))
                .or_system("start a thread")?;
            worker.join().unwrap_or_else(|_| {
                Err(Error::Internal(format!("running step {} again panicked", producer.step)))
            })
        })?;
        match ran {
            Ran::Over(mut made) => made.pop().ok_or_else(|| {
                Error::Internal(format!("running step {} again had no end", producer.step))
            }),
            Ran::Cancelled(_) => interrupted().or_system("finish the repair"),
            Ran::Lost(why) => Err(Error::Internal(why)),
        }
    }

    fn describe(&self, producer: &Producer) -> Result<Attempt> {
        let recipe = recipe_of(producer)?;
        let input = if works_on_several(producer, &recipe) {
            Input::Many { name: producer.name.clone(), items: self.listed(producer)? }
        } else {
            let Producer { object, name, executable, .. } = producer.clone();
            Input::One(NamedObject { name, object, executable })
        };
        let env = recipe.variables().map(|(name, value)| (name.into(), value.into())).collect();
        let unset = recipe.unset().map(Into::into).collect();
        let limits = self.again.limits.get(&producer.task).cloned().unwrap_or_default();
        let dir = as_path(&producer.dir);
        let files = recipe.files.iter().map(|(name, _)| dir.join(name));
        let files: Vec<PathBuf> = files.filter(|file| file.exists()).collect();
        let script = Script {
            task: producer.task.clone(),
            interpreter: recipe.interpreter,
            bytes: recipe.script.into_bytes(),
            dir: dir.into(),
            env,
            unset,
            clean_env: recipe.clean_env,
            timeout: limits.timeout,
            paths: recipe.paths,
            depfile: recipe.depfile,
            copies_input: limits.copies_input,
            wants_jobserver: limits.wants_jobserver,
            sandbox: limits.sandbox.map(|sandbox| Box::new(sandbox.with_files(files))),
            // One of a batch runs again by itself: that comes to the same.
            batch: recipe.batch,
        };
        let item = Item {
            step: producer.step,
            number: 1,
            key: step_key(
                &producer.recipe_hash,
                &producer.object,
                &producer.name,
                producer.executable,
                &producer.labels,
                producer.side.as_ref(),
            ),
            input,
            labels: producer.labels.clone(),
        };
        let (side, cpus) = (self.seen(producer)?, limits.cpus.max(1));
        Ok(Attempt { items: vec![item], cpus, side, script: Arc::new(script) })
    }

    /// A file that a step has said it read, and that has another content now.
    fn changed_dependency(&self, producer: &Producer) -> Result<Option<Vec<u8>>> {
        let Some(result) = producer.result else { return Ok(None) };
        let read = self.db.read(|reader| db::dependencies_of(reader, result))?;
        // Without the manifest's folder there is none of them.
        let Ok(files) = DependencyFiles::new(as_path(&producer.dir), &self.db_dir) else {
            return Ok(read.into_iter().next().map(|(path, _)| path));
        };
        let is_as_before = |path: &[u8], object: &ObjectHash| matches!(files.read(path), FileContent::Of(now, _) if now == *object);
        let changed = read.into_iter().find(|(path, object)| !is_as_before(path, object));
        Ok(changed.map(|(path, _)| path))
    }

    /// What a step sees by `with`.
    fn seen(&self, producer: &Producer) -> Result<Vec<NamedObject>> {
        match &producer.side {
            Some(side) => self.db.read(|reader| db::side_listing(reader, side)),
            None => Ok(Vec::new()),
        }
    }

    /// The inputs of a step that works on several, read back from their listing.
    fn listed(&self, producer: &Producer) -> Result<Vec<NamedObject>> {
        let bytes = self.store.read_small(&producer.object, LISTING)?.unwrap_or_default();
        let linked = self.db.read(|reader| db::linked_outputs(reader, producer.step))?;
        let executable: HashSet<(&[u8], &ObjectHash)> = linked
            .iter()
            .filter(|output| output.executable)
            .map(|output| (output.name.as_slice(), &output.object))
            .collect();
        let mut items = db::read_listing(&bytes);
        for item in &mut items {
            // Listings of older builds don't say it.
            item.executable |= executable.contains(&(item.name.as_slice(), &item.object));
        }
        Ok(items)
    }
}

impl Drop for Rebuilder<'_> {
    fn drop(&mut self) {
        // What can't be removed now is removed by the next run.
        let _ = step::remove_scratch(&self.folder);
    }
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// A step made it again.
    Remade { step: i64 },
    /// The input file still holds it.
    Reimported { path: Vec<u8> },
    /// Only its mode was wrong.
    MadeReadOnly,
    /// Only its row was missing.
    Recorded,
    /// A gather step's listing: what it lists is known.
    Relisted,
    /// A gather step's listing: the next run lists anew.
    ListedNextRun,
    /// A listing of gather steps that are history.
    ListingLost,
    /// A log, which nothing can bring back; the attempt says so.
    LogLost,
    /// The step made something else this time.
    NonDeterministic { step: i64 },
    /// The step could not be run again.
    Failed { step: i64, why: String },
    /// What the step works on is gone as well.
    InputGone { step: i64 },
    /// The disk doesn't give its bytes.
    Unreadable,
    /// Nothing makes it: put the input back, and run again.
    NoProducer,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Repair::Remade { step } => write!(f, "made again by step {step}"),
            Repair::Reimported { path } => write!(f, "read again from {}", printable(path)),
            Repair::MadeReadOnly => f.write_str("made read-only again; its bytes are good"),
            Repair::Recorded => f.write_str("its bytes are there, and good: recorded again"),
            Repair::Relisted => {
                f.write_str("it was the listing of a gather step's inputs: listed again")
            }
            Repair::ListingLost => f.write_str(
                "not repaired: it was the listing of a gather step's inputs, which are not known any more; no \
                 present step needs it",
            ),
            Repair::ListedNextRun => f.write_str("the next run makes it again"),
            Repair::LogLost => f.write_str("it was a log, which is lost; its attempt says so now"),
            Repair::NonDeterministic { step } => write!(
                f,
                "not repaired: step {step} is not deterministic, it made something else this time; \
                 `-B` with --only and its task runs it anew, and the next run what follows from it"
            ),
            Repair::Failed { step, why } => {
                write!(f, "not repaired: step {step} can't make it again: {why}")
            }
            Repair::InputGone { step } => write!(
                f,
                "not repaired: step {step} can't make it again: what it works on is gone as well"
            ),
            Repair::Unreadable => f.write_str(
                "not repaired: is the disk in order, and is the file yours? Once it is removed, `repair` \
                 makes it again",
            ),
            Repair::NoProducer => {
                f.write_str("not repaired: no step makes it; put the input file back and run again")
            }
        }
    }
}

impl Repair {
    /// True if nothing is missing any more.
    pub fn is_good(&self) -> bool {
        !matches!(
            self,
            Repair::NonDeterministic { .. }
                | Repair::Failed { .. }
                | Repair::InputGone { .. }
                | Repair::Unreadable
                | Repair::ListingLost
                | Repair::NoProducer
        )
    }
}

/// What was found, and what became of it.
#[derive(Debug, Default)]
pub struct RepairReport {
    /// Steps that may have worked on bad bytes: the next run runs them again.
    pub redone: usize,
    pub objects: Vec<(ObjectHash, String, Repair)>,
    /// Damage of the database itself, which only a backup cures.
    pub database: Vec<String>,
}
