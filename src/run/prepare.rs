//! From manifest to plan: which rows the tasks have, what the inputs are, whether anything changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::db::{
    self, Accepts, Before, Db, Dependencies, Flow, FlowTask, Forced, Inputs, Labeller, Plan,
    Registration, TaskRow, Wanted,
};
use crate::dependencies::{DependencyFiles, DependencyScan};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ids::{TaskId, TaskIndex};
use crate::labels::{Labels, task_word};
use crate::manifest::{Captures, Globs, Manifest, Task, without_captures};
use crate::object::{FieldHasher, ObjectHash};
use crate::order;
use crate::progress::{Event, Progress};
use crate::recipe::Recipe;
use crate::store::Store;

use super::listed::{ListedFiles, Lister};
use super::scan::{ScanSummary, Scanner, Source};
use super::sources::{NamedInputs, sources};
use super::tables::TableScan;
use super::walk::Crossed;
use super::{Asked, RunOptions, chosen};
use crate::text::{path_bytes, printable};

/// Patterns of a task that are named because they match nothing.
const NAMED: usize = 5;

/// A manifest with its rows, its inputs' fingerprints and its wiring: all that decides whether there
/// is anything to do.
pub struct Prepared {
    pub manifest: Arc<Manifest>,
    pub graph: Graph,
    /// `--only` and `--until`: the tasks, and the labels that their steps must have; empty: all.
    pub(super) only: Vec<(TaskIndex, Labels)>,
    pub flow: Arc<Flow>,
    pub recipes: Vec<Recipe>,
    /// By place: what each task's scripts read besides their input.
    pub(super) listed: Arc<Vec<ListedFiles>>,
    pub(super) registrations: Vec<Registration>,
    pub(super) rows: Vec<TaskRow>,
    /// By place: what each root reads.
    sources: Vec<Vec<Source>>,
    /// By place: what was seen of that; empty once the plan is made.
    summaries: Vec<ScanSummary>,
    /// By place: fingerprint of the files; `None` if it can't be trusted.
    pub(super) scans: Vec<Option<ObjectHash>>,
    /// Of everything; `None` if a run is due whatever it is.
    pub(super) fingerprint: Option<ObjectHash>,
    removed: Vec<TaskId>,
    /// What steps have said they read, if a task has a depfile.
    dependencies: Option<(DependencyFiles, DependencyScan)>,
    /// By place: inputs that can't be read.
    refused: Vec<Refused>,
    /// By place: the labels of a table's rows that name inputs which can't be read.
    unread_rows: Vec<Vec<Labels>>,
    db_dir: PathBuf,
}

/// Labels that an error lists.
const LABELS_SHOWN: usize = 20;

impl Prepared {
    /// Looks at everything, changes nothing but the remembered INPUTs. `store` is `None` for a dry run.
    pub(super) fn new(
        db: &Db,
        asked: Asked,
        db_dir: &Path,
        options: &RunOptions,
        store: Option<&Store>,
        progress: &mut dyn Progress,
    ) -> Result<Prepared> {
        let Asked { manifest, graph, only, inputs, streams, warnings, table_rows } = asked;
        for warning in &warnings {
            progress.tell(&Event::Warning(warning));
        }
        if manifest.had_crlf {
            let path = printable(path_bytes(&manifest.path));
            progress.tell(&Event::Note(&format!(
                "the lines of `{path}` end in CRLF, as on Windows; they are read as if they ended in LF"
            )));
        }
        db.read(Inputs::begin)?;
        let mut crossed = Crossed::default();
        let mut recipes = Vec::with_capacity(manifest.tasks.len());
        let mut listed = Vec::with_capacity(manifest.tasks.len());
        let mut lister = Lister::new(&manifest.dir, db_dir, Some(db));
        for task in &manifest.tasks {
            let (files, unmatched) = lister.list(task, &mut crossed)?;
            for pattern in unmatched {
                let text = format!(
                    "task `{}`: {pattern} in `files` matches no file",
                    task.name,
                    pattern = crate::diagnostic::quoted(&pattern)
                );
                progress.tell(&Event::Warning(&text));
            }
            recipes.push(Recipe::of(task, files.for_recipe()));
            listed.push(files);
        }
        let mut registrations = Vec::with_capacity(recipes.len());
        for (task, recipe) in manifest.tasks.iter().zip(&recipes) {
            registrations.push(Registration {
                name: task.name.clone(),
                script: task.script.clone(),
                gather: task.gather,
                recipe_hash: recipe.hash(),
                recipe_json: serde_json::to_string(recipe)
                    .map_err(|err| Error::Internal(err.to_string()))?,
                cache: task.cache,
                feeds: feeds(&manifest, task),
                resources: resources(task),
            });
        }
        let rows = db.read(|reader| db::task_rows(reader, &registrations))?;
        let scanner = scanner(db, &manifest.dir, db_dir, options, store);
        let mut refused = Vec::with_capacity(manifest.tasks.len());
        let named = NamedInputs { inputs: &inputs, streams, forget: options.no_inputs };
        let sources = sources(&scanner, &manifest, named, progress)?;
        let forced = forced(db, &manifest, options, &only)?;
        let flow =
            Arc::new(flow(&manifest, &graph, &registrations, &rows, &sources, &forced, &only)?);
        let mut scans = Vec::with_capacity(sources.len());
        let mut summaries = Vec::with_capacity(sources.len());
        for ((task, table_rows), sources) in manifest.tasks.iter().zip(table_rows).zip(&sources) {
            let mut summary = scanner.stat_pass(sources)?;
            summary.rows = table_rows;
            for pattern in summary.idle.unmatched.iter().take(NAMED) {
                let written = task.inputs.iter().find(|input| without_captures(input) == **pattern);
                let pattern = crate::diagnostic::quoted(written.unwrap_or(pattern));
                let text = format!("task `{}`: {pattern} in `inputs` matches no file", task.name);
                progress.tell(&Event::Warning(&text));
            }
            let all = summary.idle.unmatched.len();
            if all > NAMED {
                let text = format!(
                    "task `{}`: in all {all} patterns in `inputs` match no file",
                    task.name
                );
                progress.tell(&Event::Warning(&text));
            }
            for pattern in &summary.idle.exclusions {
                let pattern = crate::diagnostic::quoted(pattern);
                let text =
                    format!("task `{}`: {pattern} in `inputs` leaves no file out", task.name);
                progress.tell(&Event::Warning(&text));
            }
            if summary.files.is_empty() && summary.idle.left_out > 0 {
                let text = format!(
                    "task `{}`: the exclusions in `inputs` leave out every file that the rest matches",
                    task.name
                );
                progress.tell(&Event::Warning(&text));
            }
            let mut met = scanner.take_crossed();
            let now = Refused::of(&mut met);
            // A file that can't be read may be readable next time, with the same inode.
            scans.push(now.is_empty().then_some(summary.fingerprint()));
            summaries.push(summary);
            refused.push(now);
            crossed.add(met);
        }
        tell_crossed(&crossed, db_dir, &manifest.dir, progress);
        let present: HashSet<TaskId> = rows.iter().map(|row| row.id).collect();
        let removed = db
            .read(db::known_tasks)?
            .into_iter()
            .filter(|task| task.present && !present.contains(&task.id))
            .map(|task| task.id)
            .collect();
        let unread_rows = vec![Vec::new(); manifest.tasks.len()];
        let has_depfile = manifest.tasks.iter().any(|task| task.depfile.is_some());
        let dependencies = match has_depfile {
            true => {
                db.read(Dependencies::begin)?;
                let files = DependencyFiles::new(&manifest.dir, db_dir)?;
                let scan = files.scan(db)?;
                Some((files, scan))
            }
            false => None,
        };
        let mut prepared = Prepared {
            manifest: Arc::new(manifest),
            graph,
            only,
            flow,
            recipes,
            listed: Arc::new(listed),
            registrations,
            rows,
            sources,
            summaries,
            scans,
            fingerprint: None,
            removed,
            dependencies,
            refused,
            unread_rows,
            db_dir: db_dir.to_owned(),
        };
        prepared.fingerprint = prepared.sum();
        Ok(prepared)
    }

    /// What to say of inputs that can't be read, a sentence each.
    pub(super) fn refused(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        for (task, refused) in self.manifest.tasks.iter().zip(&self.refused) {
            for (path, why) in &refused.0 {
                let path = printable(path_bytes(path));
                sentences
                    .push(format!("task `{}`: input `{path}` can't be read: {why}", task.name));
            }
        }
        sentences
    }

    /// Whether inputs of the task at this place can't be read.
    pub(super) fn has_refused(&self, place: usize) -> bool {
        !self.refused[place].is_empty()
    }

    /// How many calls have asked for the inodes of files that steps have said they read.
    pub(super) fn dependency_stats(&self) -> u64 {
        self.dependencies.as_ref().map_or(0, |(files, _)| files.stats())
    }

    /// How many files can't be read.
    pub(super) fn refused_files(&self) -> usize {
        let files = self.refused.iter().flat_map(|refused| refused.0.keys());
        files.collect::<HashSet<_>>().len()
    }

    /// By place: the labels of the steps that inputs which can't be read would make. What a folder holds may have any.
    pub(super) fn unread(&self) -> Vec<Vec<Labels>> {
        let labels = |((task, refused), rows): ((&FlowTask, &Refused), &Vec<Labels>)| {
            if task.row_name.is_some() {
                let of_row = |row| task.labels_on(db::FILES, b"", row).collect::<Vec<_>>();
                return rows.iter().flat_map(of_row).collect();
            }
            let of_path = |path: &PathBuf| {
                let path = path.strip_prefix(&self.manifest.dir).unwrap_or(path);
                let no_labels = Labels::default();
                let mut all: Vec<Labels> =
                    task.labels_on(db::FILES, path_bytes(path), &no_labels).collect();
                if all.is_empty() {
                    all.push(no_labels);
                }
                all
            };
            refused.0.keys().flat_map(of_path).collect()
        };
        self.flow.tasks.iter().zip(&self.refused).zip(&self.unread_rows).map(labels).collect()
    }

    /// Refuses labels of `--only` that no step has and none can get any more.
    ///
    /// # Errors
    /// [`Error::Usage`] with those that there are.
    pub(super) fn check_only(&self, db: &Db) -> Result<()> {
        let unread = self.unread();
        db.read(|reader| {
            for (index, wanted) in self.only.iter().filter(|(_, labels)| !labels.is_empty()) {
                let task = self.flow.task(*index);
                let own = db::planned_labels(reader, task)?;
                let mut may_come = own.iter().any(|(labels, _)| labels.has(wanted))
                    || unread[index.0].iter().any(|labels| labels.agree(wanted));
                let upstream = self.flow.upstream(*index);
                let is_above = |n: &usize| upstream[*n];
                let above = (0..upstream.len()).filter(is_above).map(|n| &self.flow.tasks[n]);
                // A group is made of what is done already.
                let gathers = above.clone().chain([task]).any(FlowTask::gathers_outputs);
                for producer in above {
                    let can_come = |(labels, is_open): &(Labels, bool)| {
                        (*is_open || gathers) && labels.agree(wanted)
                    };
                    may_come |= db::planned_labels(reader, producer)?.iter().any(can_come);
                }
                if !may_come {
                    return Err(no_such_labels(&task.name, wanted, &own));
                }
            }
            Ok(())
        })
    }

    /// By place in the manifest: at most this many steps at once.
    pub(super) fn limits(&self) -> Vec<usize> {
        let limit = |task: &Task| task.parallel.map_or(usize::MAX, std::num::NonZeroUsize::get);
        self.manifest.tasks.iter().map(limit).collect()
    }

    /// Names of the tasks, in manifest order.
    pub fn names(&self) -> Vec<&str> {
        self.manifest.tasks.iter().map(|task| task.name.as_str()).collect()
    }

    /// The rows of the tasks are written. What is in them is not kept as well: of thousands of tasks that is megabytes.
    pub(super) fn forget_registrations(&mut self) {
        for registration in &mut self.registrations {
            for text in [
                &mut registration.name,
                &mut registration.script,
                &mut registration.recipe_json,
                &mut registration.feeds,
            ] {
                *text = String::new();
            }
        }
    }

    /// Recipes, wiring and inputs in one hash.
    fn sum(&self) -> Option<ObjectHash> {
        if self.dependencies.as_ref().is_some_and(|(_, scan)| !scan.is_quiet()) {
            return None;
        }
        let mut hasher = FieldHasher::new("task-pipeline run 1");
        let scans = self.scans.iter().zip(&self.registrations);
        for (task, (scan, registration)) in self.flow.tasks.iter().zip(scans) {
            if !task.cache {
                return None;
            }
            hasher
                .field("task", task.name.as_bytes())
                .field("wiring", task.wiring.as_bytes())
                .field("scan", scan.as_ref()?.as_bytes());
            if let Some(resources) = &registration.resources {
                // They make nothing run, but are written down.
                hasher.field("resources", resources.as_bytes());
            }
        }
        // Likewise, for the report.
        for task in self.manifest.tasks.iter().filter(|task| task.report) {
            hasher.field("report", task.name.as_bytes());
        }
        if let Some(title) = &self.manifest.title {
            hasher.field("title", title.as_bytes());
        }
        Some(hasher.finish())
    }

    /// Hashes what changed and computes the plan.
    pub(super) fn plan(
        &mut self,
        db: &Db,
        options: &RunOptions,
        store: Option<&Store>,
    ) -> Result<Plan> {
        let scanner = scanner(db, &self.manifest.dir, &self.db_dir, options, store);
        let summaries = std::mem::take(&mut self.summaries);
        for (n, summary) in summaries.into_iter().enumerate() {
            let (task, row) = (&self.flow.tasks[n], &self.rows[n]);
            let before = row.known.as_ref().and_then(|known| known.scan);
            if task.is_root() && (before.is_none() || before != self.scans[n]) {
                let sources = &self.sources[n];
                match &self.manifest.tasks[n].table {
                    Some(table) => {
                        let scan = TableScan { scanner: &scanner, task: task.id, table };
                        let scanned = scan.hash_pass(sources, summary)?;
                        self.scans[n] = scanned.fingerprint;
                        self.unread_rows[n] = scanned.unread;
                    }
                    None => self.scans[n] = scanner.hash_pass(task.id, sources, &summary)?,
                }
                let refused = &mut self.refused[n];
                refused.0.extend(Refused::of(&mut scanner.take_crossed()).0);
                if !refused.is_empty() {
                    self.scans[n] = None;
                }
            }
        }
        for (task, row) in self.manifest.tasks.iter().zip(&self.rows) {
            // The files of a table that the task had before.
            let files = db::files_of_rows(row.id);
            if task.table.is_none() && db.read(|reader| Inputs::count(reader, files))? > 0 {
                scanner.hash_pass(files, &[], &scanner.stat_pass(&[])?)?;
            }
        }
        if let Some((files, scan)) = &mut self.dependencies {
            scan.note(db, files)?;
        }
        self.fingerprint = self.sum();
        // What a task was last planned with counts only while it stays in the manifest: when it left,
        // its steps stopped being live.
        let before: Vec<Before> = self
            .rows
            .iter()
            .map(|row| row.known.as_ref().filter(|known| known.present))
            .map(|known| Before { wiring: known.and_then(|known| known.wiring) })
            .collect();
        let unread = self.unread();
        for (n, task) in self.flow.tasks.iter().enumerate() {
            // A step over some of its files would be another one, and wrong.
            if task.gathers_files() {
                scanner.list(task, &unread[n])?;
            }
        }
        let unread: Vec<bool> = unread.iter().map(|unread| !unread.is_empty()).collect();
        db.read(|reader| db::plan(reader, &self.flow, &before, &unread, &self.removed))
    }
}

fn no_such_labels(task: &str, wanted: &Labels, own: &[(Labels, bool)]) -> Error {
    let keys = || wanted.iter().map(|(key, _)| key);
    let own = order::set(own.iter().map(|(labels, _)| labels.only(keys()).to_string()));
    let mut known: Vec<String> = own.iter().take(LABELS_SHOWN).cloned().collect();
    if own.len() > LABELS_SHOWN {
        known.push(format!("… and {} more", own.len() - LABELS_SHOWN));
    }
    let cure = match known.is_empty() {
        true => "it has no steps".to_owned(),
        false => format!("there are: {}", known.join("; ")),
    };
    Error::Usage(format!("--only: no step of `{task}` has {wanted}; {cure}"))
}

/// Inputs of a task that can't be read, and why.
#[derive(Default)]
pub(super) struct Refused(BTreeMap<PathBuf, String>);

impl Refused {
    fn of(crossed: &mut Crossed) -> Refused {
        let refused = crossed.refused.drain(..);
        Refused(order::map(refused.map(|(path, err)| (path, err.to_string()))))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Says once what lies where inputs are looked for and is never one.
fn tell_crossed(crossed: &Crossed, db_dir: &Path, dir: &Path, progress: &mut dyn Progress) {
    let show =
        |path: &Path| printable(path_bytes(path.strip_prefix(dir).unwrap_or(path))).into_owned();
    if crossed.database {
        let text = format!(
            "the database `{}` lies among the inputs; it is never read as one",
            show(db_dir)
        );
        progress.tell(&Event::Note(&text));
    }
    let exports = order::set(&crossed.exports);
    if let Some(first) = exports.first() {
        let more = match exports.len() {
            1 => String::new(),
            n => format!(" and {} more", n - 1),
        };
        progress.tell(&Event::Note(&format!(
            "what `export` wrote to `{}`{more} lies among the inputs and is not read; a pattern that begins there reads it",
            show(first)
        )));
    }
}

fn scanner<'a>(
    db: &'a Db,
    dir: &'a Path,
    db_dir: &'a Path,
    options: &RunOptions,
    store: Option<&'a Store>,
) -> Scanner<'a> {
    Scanner {
        db,
        store,
        dir,
        db_dir,
        jobs: options.jobs,
        durability: options.durability,
        crossed: Mutex::default(),
    }
}

/// The flow of a manifest whose tasks the database knows, as far as it says what is an input of what; `None`: it
/// has others.
pub(super) fn known_flow(db: &Db, manifest: &Manifest) -> Result<Option<Flow>> {
    let known = db.read(db::known_tasks)?;
    let (mut registrations, mut rows) = (Vec::new(), Vec::new());
    for task in &manifest.tasks {
        let Some(row) = known.iter().find(|row| row.name == task.name) else { return Ok(None) };
        registrations.push(Registration {
            name: task.name.clone(),
            script: task.script.clone(),
            gather: task.gather,
            recipe_hash: row.recipe_hash,
            recipe_json: String::new(),
            cache: task.cache,
            feeds: String::new(),
            resources: None,
        });
        let (id, recipe) = (row.id, row.recipe);
        rows.push(TaskRow { id, recipe, known: Some(row.clone()), recipe_is_new: false });
    }
    let sources: Vec<Vec<Source>> = rows.iter().map(|_| Vec::new()).collect();
    let graph = Graph::of(manifest);
    flow(manifest, &graph, &registrations, &rows, &sources, &[], &[]).map(Some)
}

/// By place: what `-B` and `--redo` force. What `--redo` names and `--only` leaves out can't be meant.
fn forced(
    db: &Db,
    manifest: &Manifest,
    options: &RunOptions,
    only: &[(TaskIndex, Labels)],
) -> Result<Vec<Forced>> {
    if options.always {
        return Ok(vec![Forced::all(); manifest.tasks.len()]);
    }
    let mut forced = vec![Forced::default(); manifest.tasks.len()];
    let left_out = |index: TaskIndex, word: &str, fits: &dyn Fn(&Labels) -> bool| {
        let is_named = only.iter().any(|(named, labels)| *named == index && fits(labels));
        if only.is_empty() || is_named {
            return Ok(());
        }
        let task = &manifest.task(index).name;
        let how = if options.only.is_empty() { "--until" } else { "--only" };
        Err(Error::Usage(format!(
            "--redo: `{word}` is none of what {how} names, so it would not run anew; add --only {task}, or drop \
             --redo {word}"
        )))
    };
    for word in &options.redo {
        let of_task = word
            .to_str()
            .filter(|word| task_word(word).is_ok_and(|(name, _)| manifest.find(name).is_some()));
        if let Some(word) = of_task {
            for (index, labels) in chosen(manifest, "--redo", &[word.to_owned()])? {
                left_out(index, word, &|named| named.agree(&labels))?;
                forced[index.0].labels.push(labels);
            }
            continue;
        }
        let refuse = |why: String| Error::Usage(format!("--redo: {why}"));
        let steps = db.read(|reader| db::find_steps(reader, word.as_bytes()));
        let steps = steps.map_err(|error| match error {
            Error::Usage(why) => refuse(why),
            error => error,
        })?;
        for step in steps {
            let Some(index) = manifest.find(&step.task).filter(|_| step.live) else {
                return Err(refuse(format!("{} is history, and no run makes it", step.text())));
            };
            left_out(index, &printable(word.as_bytes()), &|named| step.labels.has(named))?;
            forced[index.0].steps.push(step.id);
        }
    }
    Ok(forced)
}

fn flow(
    manifest: &Manifest,
    graph: &Graph,
    registrations: &[Registration],
    rows: &[TaskRow],
    sources: &[Vec<Source>],
    forced: &[Forced],
    only: &[(TaskIndex, Labels)],
) -> Result<Flow> {
    let mut tasks = Vec::with_capacity(rows.len());
    let names: Vec<&str> = manifest.tasks.iter().map(|task| task.name.as_str()).collect();
    for (n, task) in manifest.tasks.iter().enumerate() {
        let named = only.iter().filter(|(index, _)| index.0 == n).map(|(_, labels)| labels.clone());
        let named: Vec<Labels> = named.collect();
        let is_whole = only.is_empty() || named.iter().any(Labels::is_empty);
        // What `--only` leaves out isn't asked to run anew: it would only lose its results.
        let may_run = is_whole || !named.is_empty();
        let mut flow = FlowTask {
            id: rows[n].id,
            name: task.name.clone(),
            recipe: rows[n].recipe,
            recipe_hash: registrations[n].recipe_hash,
            from: graph.from[n].clone(),
            consumers: graph.consumers[n].clone(),
            with: task.with.clone(),
            users: graph.users[n].clone(),
            sides: Arc::default(),
            accepts: accepts(task, rows)?,
            labeller: labeller(task, rows)?,
            variants: task.matrix.len().max(1),
            row_name: task.table.as_ref().map(|table| table.row_name()),
            gather: task.gather,
            gather_empty: task.gather_empty,
            gather_keys: task.gather_keys.clone(),
            wanted: wanted(task)?,
            has_depfile: task.depfile.is_some(),
            cache: task.cache || !may_run,
            forced: forced.get(n).filter(|_| may_run).cloned().unwrap_or_default(),
            only: (!is_whole).then_some(named),
            wiring: ObjectHash::EMPTY,
        };
        flow.wiring = wiring(task, &flow, &names, rows, &sources[n]);
        tasks.push(flow);
    }
    let has_groups = tasks.iter().any(FlowTask::is_grouped);
    Ok(Flow { tasks, order: graph.order.clone(), has_groups })
}

/// For whoever draws the graph without the manifest at hand.
fn feeds(manifest: &Manifest, task: &Task) -> String {
    let name = |at: &TaskIndex| manifest.tasks[at.0].name.as_str();
    let from: Vec<&str> = task.from.iter().map(name).collect();
    let with: Vec<&str> = task.with.iter().map(name).collect();
    let (matches, inputs) = (&task.matches, task.written_inputs());
    let params: Vec<&String> = task.params.keys().collect();
    let of = task.matches_of.iter().map(|(at, globs)| (&manifest.tasks[at.0].name, globs));
    let matches_of = order::map(of);
    let table = task.table.as_ref().map(|table| &table.file);
    serde_json::json!({
        "from": from, "with": with, "match": matches, "match_of": matches_of, "inputs": inputs,
        "table": table, "params": params, "labels": task.label_keys, "gather_by": task.gather_keys,
        "sandbox": task.sandbox, "outputs": task.outputs,
        "env_from": task.env_from.keys().collect::<Vec<_>>(),
        "report": task.report,
    })
    .to_string()
}

/// For `status` and the report, which show what is declared beside what was seen.
fn resources(task: &Task) -> Option<String> {
    let Task { cpus, memory, uses, .. } = task;
    let is_declared = cpus.get() > 1 || memory.is_some() || !uses.is_empty();
    let uses: BTreeMap<&String, usize> = uses.iter().map(|(name, n)| (name, n.get())).collect();
    is_declared.then(|| {
        serde_json::json!({ "cpus": cpus.get(), "memory": memory, "uses": uses }).to_string()
    })
}

/// Row ids instead of names stand for the producers, so that renaming one is no new wiring.
fn wiring(
    task: &Task,
    flow: &FlowTask,
    names: &[&str],
    rows: &[TaskRow],
    sources: &[Source],
) -> ObjectHash {
    let mut hasher = FieldHasher::new("task-pipeline wiring 1");
    hasher.field("recipe", flow.recipe_hash.as_bytes());
    for from in &flow.from {
        hasher.field("from", &rows[from.0].id.0.to_le_bytes());
        // What is gathered of several tasks lies in folders that are called like them.
        if task.gather && flow.from.len() > 1 {
            hasher.field("folder", names[from.0].as_bytes());
        }
    }
    for with in &flow.with {
        hasher.field("with", &rows[with.0].id.0.to_le_bytes());
        hasher.field("folder", names[with.0].as_bytes());
    }
    if task.gather_empty {
        hasher.field("gather_empty", &[1]);
    }
    for pattern in &task.matches {
        hasher.field("match", pattern.as_bytes());
    }
    for (from, patterns) in &task.matches_of {
        hasher.field("match of", &rows[from.0].id.0.to_le_bytes());
        for pattern in patterns {
            hasher.field("match", pattern.as_bytes());
        }
    }
    // Other ones judge what is there by another rule.
    for pattern in task.outputs.iter().flatten() {
        hasher.field("outputs", pattern.as_bytes());
    }
    for labels in &task.matrix {
        hasher.field("matrix", labels.to_json().as_bytes());
    }
    if flow.labeller.is_some() {
        for pattern in &task.inputs {
            hasher.field("labelled inputs", pattern.as_bytes());
        }
    }
    for source in sources {
        match source {
            Source::Pattern(pattern) => hasher.field("inputs", pattern.as_bytes()),
            Source::Exclusion(pattern) => hasher.field("exclusion", pattern.as_bytes()),
            // What its rows are is the scan's business, and which columns are files is the recipe's.
            Source::Table(_) => hasher.field("table", b""),
            // Which files they are is the scan's business.
            Source::Argument(..) => continue,
            Source::Nothing => hasher.field("inputs", b""),
        };
    }
    hasher.finish()
}

/// The labels that a task adds to those of its inputs.
fn labeller(task: &Task, rows: &[TaskRow]) -> Result<Option<Labeller>> {
    let captures = |key: &str, patterns: &[String]| {
        Captures::of(patterns.iter().map(String::as_str))
            .map_err(|why| Error::Usage(format!("task `{}`: bad `{key}`: {why}", task.name)))
    };
    let all = match task.is_root() {
        true => captures("inputs", &task.inputs)?,
        false => captures("match", &task.matches)?,
    };
    let mut of = HashMap::new();
    for (from, patterns) in &task.matches_of {
        if let Some(captures) = captures("match", patterns)? {
            of.insert(rows[from.0].id, captures);
        }
    }
    let matrix = task.matrix.clone();
    if all.is_none() && of.is_empty() && matrix.is_empty() {
        return Ok(None);
    }
    Ok(Some(Arc::new(move |producer: TaskId, text: &[u8], inherited: &Labels, variant: usize| {
        let labels = match of.get(&producer).or(all.as_ref()) {
            Some(captures) => captures.labels(text, inherited)?,
            None => inherited.clone(),
        };
        match matrix.get(variant) {
            Some(more) => labels.joined(more),
            None => Some(labels),
        }
    })))
}

fn wanted(task: &Task) -> Result<Vec<Wanted>> {
    let one = |glob: &String| {
        let globs = Globs::new([without_captures(glob).as_str()])
            .map_err(|why| Error::Usage(format!("task `{}`: bad `outputs`: {why}", task.name)))?;
        Ok(Arc::new(move |name: &[u8]| globs.is_match(name)) as Wanted)
    };
    task.outputs.iter().flatten().map(one).collect()
}

fn accepts(task: &Task, rows: &[TaskRow]) -> Result<Option<Accepts>> {
    let set = |patterns: &[String]| {
        let globs: Vec<String> = patterns.iter().map(|glob| without_captures(glob)).collect();
        Globs::new(globs.iter().map(String::as_str))
            .map_err(|why| Error::Usage(format!("task `{}`: bad `match`: {why}", task.name)))
    };
    if !task.matches_of.is_empty() {
        let mut sets = HashMap::with_capacity(task.matches_of.len());
        for (from, patterns) in &task.matches_of {
            sets.insert(rows[from.0].id, set(patterns)?);
        }
        return Ok(Some(Arc::new(move |producer, name: &[u8]| {
            sets.get(&producer).is_none_or(|set| set.is_match(name))
        })));
    }
    if task.matches.is_empty() {
        return Ok(None);
    }
    let set = set(&task.matches)?;
    Ok(Some(Arc::new(move |_, name: &[u8]| set.is_match(name))))
}
