//! One step from its object to its outcome: scratch, process, outputs. Unaware of tasks, the database and
//! who asked.
//!
//! An [`Attempt`] is plain data that could have come over a wire, and so is the [`Report`] of it; only the
//! [`Placed`] objects beside a report belong to this process. [`execute()`] is the sequence. `scratch` has
//! the folders that a worker reuses for every step; `script` its file and environment; `stage` and `links`
//! what the script reads, `batch` where that is several steps at once; `sandbox`, `confine` and `rules` what else it may
//! reach; `launcher`, `process` and `supervisor` its life and end; `outputs` and `log` what it leaves; `tree` lists and
//! clears folders by descriptor; `survivors` ends what a killed runner left, `left` finds what had been printed until then;
//! `running` tells others what runs.

mod batch;
mod confine;
mod folder;
mod fork_server;
mod launcher;
mod left;
mod links;
mod log;
mod memory;
mod outputs;
mod proc;
mod process;
mod rules;
mod running;
mod sandbox;
mod scratch;
mod script;
mod stage;
mod stamp;
mod supervisor;
mod survivors;
#[cfg(test)]
mod tests;
mod tmp;
mod tree;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::attempt::{AttemptRecord, NamedObject, Outcome, Output, Start, Usage, var};
use crate::error::{Error, OrIo, Result};
use crate::ids::StepId;
use crate::jobserver::Share;
use crate::labels::Labels;
use crate::object::ObjectHash;
use crate::stop::Stop;
use crate::store::{Placed, Store};
use crate::sys::clock::{now_ms, stamp_ns};

use crate::text::{as_path, printable, tail};

use confine::{SEARCHED, Surroundings};
use folder::Folder;
use launcher::NotStarted;
use outputs::{Taken, Unkept, Walk};
use process::Ended;
use scratch::Workspace;
use script::Exec;
use stage::{Loan, Loans, Staged};
use supervisor::Cause;

pub use fork_server::{SERVERS, limit_servers};
pub use launcher::Launch;
pub use left::{Left, left_logs};
pub use links::{may_be_spoilt, note_spoilt};
pub use rules::KEPT as KEPT_RULES;
pub use running::{Running, running};
pub use sandbox::{Sandbox, obstacle};
pub use scratch::{FULL, Scratch};
pub use script::Script;
pub use stage::SMALL;
pub use supervisor::{GRACE, Supervisor};
pub use survivors::{end_survivors, remove_scratch};

/// What a step works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// One object.
    One(NamedObject),
    /// `gather`, or the files of a row: all of them, already sorted by name.
    Many {
        /// INPUT_NAME; empty unless it is one of several groups.
        name: Vec<u8>,
        items: Vec<NamedObject>,
    },
}

impl Input {
    /// INPUT_NAME.
    fn name(&self) -> &[u8] {
        match self {
            Input::One(input) => &input.name,
            Input::Many { name, .. } => name,
        }
    }

    fn objects(&self) -> &[NamedObject] {
        match self {
            Input::One(input) => std::slice::from_ref(input),
            Input::Many { items, .. } => items,
        }
    }
}

/// One attempt to be made, whole: nothing else has to be known in order to make it, but for the bytes of the
/// objects that it names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The step; where the script is a batch, all that share this start of it.
    pub items: Vec<Item>,
    /// How many of the run's `-j` it has.
    #[serde(default = "one")]
    pub cpus: usize,
    /// `with`: what the script finds in WITH_DIR.
    #[serde(default)]
    pub side: Vec<NamedObject>,
    pub script: Arc<Script>,
}

fn one() -> usize {
    1
}

/// A step that is attempted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub step: StepId,
    /// From 1, over all runs.
    pub number: i64,
    /// STEP_KEY.
    pub key: ObjectHash,
    pub input: Input,
    /// Each is a variable of the script, unless that is a batch.
    pub labels: Labels,
}

/// What came of one step of an attempt, and the guards of the objects that the report names.
pub type Made = (Report, Vec<Placed>);

/// Everything there is to know of an attempt at a step that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub record: AttemptRecord,
    /// Empty unless succeeded; sorted by name.
    pub outputs: Vec<Output>,
    /// What the script has said it read, if it has a depfile, as it is written there; without what was its own: its
    /// input, OUTPUT_DIR, TMPDIR.
    #[serde(default)]
    pub dependencies: Vec<Vec<u8>>,
    /// Bytes of the log; 0 without one.
    pub log_size: u64,
    /// Sentences for the user: processes left behind, mode bits stripped …
    pub warnings: Vec<String>,
    /// For who wants to know more: why its interpreter was started anew.
    pub note: Option<String>,
    /// Objects that the script changed through its INPUT_FILE, as hashing them again has shown: they must be
    /// healed, and forgotten by the store. Empty but for scripts that force a read-only file.
    pub damaged_inputs: Vec<ObjectHash>,
    /// The script failed, and as it ended there was no room on the disk of its folders: bytes that were
    /// left. Looked at before its files are removed, since it is these that have filled the disk.
    pub full_disk: Option<u64>,
}

impl Report {
    /// Of an attempt that did not get as far as its script.
    pub fn of(item: &Item, outcome: Outcome) -> Report {
        Report {
            record: AttemptRecord {
                number: item.number,
                outcome,
                started_ms: now_ms(),
                usage: Usage::default(),
                log: None,
                worker: None,
                on: None,
                batch: None,
                start: Start::default(),
            },
            outputs: Vec::new(),
            dependencies: Vec::new(),
            log_size: 0,
            warnings: Vec::new(),
            note: None,
            damaged_inputs: Vec::new(),
            full_disk: None,
        }
    }
}

/// Makes one attempt. `on_exit` is called exactly once, at the latest before this returns: when the script
/// and all it started have ended, and only bookkeeping is left. It is told the outcome for each step as far as it is
/// known then: an output may still be refused. Returns the report on each step, and the guards of the objects that it
/// names: outputs and log. The log of a batch is guarded by its first step.
///
/// A script that fails, in whatever way, is an answer ([`AttemptRecord::outcome`]). An error is our own
/// failure and says nothing about the steps; the scratch is replaced before the next one.
///
/// # Errors
/// [`Error::Damaged`] if an input object is missing or not what its
/// name says; [`Error::Io`] if a system call fails, for want of space say.
pub fn execute(
    scratch: &mut Scratch,
    store: &Store,
    supervisor: &Supervisor,
    share: Option<&Share>,
    attempt: &Attempt,
    on_exit: &mut dyn FnMut(&[Outcome]),
) -> Result<Vec<Made>> {
    let mut script_ended = Once(Some(on_exit));
    if attempt.items.is_empty() || attempt.items.len() > 1 && !attempt.script.batch {
        let many = attempt.items.len();
        return Err(Error::Internal(format!("an attempt at {many} steps with a script for one")));
    }
    let made = |item| (Report::of(item, Outcome::Cancelled), Vec::new());
    let mut made: Vec<Made> = attempt.items.iter().map(made).collect();
    if supervisor.stop() >= Stop::Term {
        return Ok(made);
    }
    let execution = Execution { scratch, store, supervisor, share, attempt, made: &mut made };
    if let Err(err) = execution.run(&mut script_ended) {
        scratch.discard();
        return Err(err);
    }
    Ok(made)
}

/// What is told the outcomes of a script.
type OnExit<'a> = dyn FnMut(&[Outcome]) + 'a;

/// Calls a function once, at the latest when it is dropped.
struct Once<'a>(Option<&'a mut OnExit<'a>>);

impl Once<'_> {
    fn call(&mut self, outcomes: &[Outcome]) {
        if let Some(function) = self.0.take() {
            function(outcomes);
        }
    }
}

impl Drop for Once<'_> {
    fn drop(&mut self) {
        self.call(&[]);
    }
}

struct Execution<'a> {
    scratch: &'a mut Scratch,
    store: &'a Store,
    supervisor: &'a Supervisor,
    share: Option<&'a Share>,
    attempt: &'a Attempt,
    /// One for each step.
    made: &'a mut Vec<Made>,
}

impl Execution<'_> {
    /// Input, script, leftovers, log, outputs, and everything tidy for the next step.
    fn run(mut self, script_ended: &mut Once<'_>) -> Result<()> {
        self.scratch.renew()?;
        if self.make_room().is_err() {
            // A file that FUSE has yet to remove, say.
            self.scratch.discard();
            self.scratch.renew()?;
        }
        let file = self.script_file()?;
        let Scratch { workspace, buffer, .. } = &mut *self.scratch;
        let staged = stage::stage(workspace, self.store, self.attempt, buffer)?;
        if let Some(item) = single(self.attempt) {
            workspace.prepare_output(item.input.name())?;
        }
        let (started_ms, since_ns) = (now_ms(), stamp_ns());
        let outcome = self.run_script(&staged, &file)?;
        for (report, _) in &mut *self.made {
            report.record.started_ms = started_ms;
            report.record.outcome.clone_from(&outcome);
        }
        self.take_reported();
        let outcomes = self.made.iter().map(|(report, _)| report.record.outcome.clone());
        script_ended.call(&outcomes.collect::<Vec<_>>());
        let has_failed = matches!(outcome, Outcome::Exited(_) | Outcome::Signalled(_));
        if has_failed {
            let full_disk = self.scratch.workspace.lack_of_space();
            self.made.iter_mut().for_each(|(report, _)| report.full_disk = full_disk);
        }
        self.reclaim_inputs(&staged, since_ns)?;
        let sandbox = self.attempt.script.sandbox.as_ref();
        let log = self.keep_log()?;
        // By its script's end, or by what the script of a batch says of it.
        let first_failed = self.made.iter().position(|(report, _)| {
            has_failed || matches!(report.record.outcome, Outcome::Reported(_))
        });
        let is_log_of_interest = sandbox.is_some() || !staged.loans.is_empty();
        let lines = match log.filter(|_| first_failed.is_some() && is_log_of_interest) {
            Some(log) => tail(&mut self.store.open_object(&log)?, SEARCHED)
                .or_io("read the log", self.store.path(&log))?,
            None => Vec::new(),
        };
        if first_failed.is_some() {
            self.mention_links(&staged, &lines);
        }
        if let (Some(sandbox), Some(failed)) = (sandbox, first_failed) {
            let database = self.database();
            let surroundings = self.surroundings(sandbox, &file, &staged, &database);
            let sentences = surroundings.explain(&lines);
            if let Some((report, _)) = self.made.get_mut(failed) {
                report.warnings.extend(sentences);
            }
        }
        let taken = self.take_what_it_left();
        for loans in staged.loans {
            let objects = lent(self.attempt, loans.loan);
            loans.end(self.store, objects)?;
        }
        taken
    }

    /// Nothing of earlier steps is where this one's things are to be.
    fn make_room(&mut self) -> std::io::Result<()> {
        let workspace = &mut self.scratch.workspace;
        match (single(self.attempt), &mut workspace.batch) {
            (Some(item), _) => workspace.clear_output(item.input.name()),
            (None, Some(batch)) => batch.clear(),
            (None, None) => Ok(()),
        }
    }

    /// Which steps of a batch have failed, as its script says.
    fn take_reported(&mut self) {
        let Some(batch) =
            self.scratch.workspace.batch.as_ref().filter(|_| self.attempt.script.batch)
        else {
            return;
        };
        for (nth, (report, _)) in self.made.iter_mut().enumerate() {
            if report.record.outcome.is_ok()
                && let Some(why) = batch.failure(nth)
            {
                report.record.outcome = Outcome::Reported(why);
            }
        }
    }

    /// The file to run the script from; in new folders if a script has spoilt the old ones.
    fn script_file(&mut self) -> Result<PathBuf> {
        let script = &self.attempt.script;
        if let Some(file) = self.scratch.workspace.scripts.file(script)? {
            return Ok(file);
        }
        self.scratch.discard();
        self.scratch.renew()?;
        let file = self.scratch.workspace.scripts.file(script)?;
        file.ok_or_else(|| Error::Internal("a new folder for scripts is gone".to_owned()))
    }

    fn run_script(&mut self, staged: &Staged, file: &Path) -> Result<Outcome> {
        let start = Instant::now();
        let script = &self.attempt.script;
        let workspace = &mut self.scratch.workspace;
        let of = single(self.attempt).map_or((0, 0), |item| (item.step.0, item.number));
        workspace.log.begin(of).or_io("read the log in", &workspace.path)?;
        let rules = match &script.sandbox {
            None => None,
            Some(sandbox) => match self.rules(sandbox, file, staged)? {
                Ok(rules) => Some(rules),
                Err(sentence) => return Ok(Outcome::NotStarted(sentence)),
            },
        };
        let Scratch { launcher, workspace, .. } = &mut *self.scratch;
        let exec = exec(self.attempt, file, staged, workspace, self.share, rules);
        let starts = self.supervisor.starts();
        let launched = launcher.launch(&exec)?;
        if let (Some(note), Some((report, _))) = (launcher.take_note(), self.made.first_mut()) {
            report.note = Some(note);
        }
        let started = match launched {
            Ok(started) => started,
            Err(NotStarted { sentence, refused }) => {
                let (sandbox, database) = (script.sandbox.as_ref(), self.database());
                let outside = refused.zip(sandbox).and_then(|(program, sandbox)| {
                    self.surroundings(sandbox, file, staged, &database).outside(&program)
                });
                return Ok(Outcome::NotStarted(outside.unwrap_or(sentence)));
            }
        };
        self.supervisor.started(started.leader, script.timeout);
        drop(starts);
        let Workspace { log, path, .. } = workspace;
        let end = process::supervise(self.supervisor, started, start, path, log)?;
        for (report, _) in &mut *self.made {
            report.record.usage = end.usage;
            report.record.start = started.start;
        }
        let outcome = outcome(&end, script);
        if let Some((report, _)) = self.made.first_mut() {
            report.warnings.extend(end.leftovers.warning);
        }
        if end.leftovers.were_ended {
            // Whoever was ended may have passed a descriptor on.
            self.scratch.discard();
        }
        Ok(outcome)
    }

    /// The rules of a script's sandbox, or a sentence that says why there are none.
    fn rules(
        &mut self,
        sandbox: &Sandbox,
        file: &Path,
        staged: &Staged,
    ) -> Result<Result<Arc<OwnedFd>, String>> {
        let mut kept = std::mem::take(&mut self.scratch.workspace.rules);
        let database = self.database();
        let rules = self.surroundings(sandbox, file, staged, &database).rules(&mut kept);
        self.scratch.workspace.rules = kept;
        rules
    }

    fn surroundings<'s>(
        &'s self,
        sandbox: &'s Sandbox,
        file: &'s Path,
        staged: &'s Staged,
        database: &'s Path,
    ) -> Surroundings<'s> {
        let script = &self.attempt.script;
        let share = self.share.filter(|_| script.wants_jobserver);
        Surroundings {
            script,
            sandbox,
            workspace: &self.scratch.workspace,
            file,
            staged: staged.one.as_ref(),
            has_side: !self.attempt.side.is_empty(),
            tokens: share.and_then(|share| share.fifo.as_deref()),
            database,
        }
    }

    /// The folder that holds the store, and everything that belongs to it.
    fn database(&self) -> PathBuf {
        let folder = self.store.db_dir();
        folder.canonicalize().unwrap_or_else(|_| folder.to_owned())
    }

    fn keep_log(&mut self) -> Result<Option<ObjectHash>> {
        let log = self.scratch.workspace.log.keep(self.store)?;
        let (hash, size) = log.as_ref().map_or((None, 0), |log| (Some(log.hash), log.size));
        for (report, _) in &mut *self.made {
            (report.record.log, report.log_size) = (hash, size);
        }
        if let Some((_, placed)) = self.made.first_mut() {
            placed.extend(log);
        }
        Ok(hash)
    }

    /// Outputs; then everything is tidy for the next step.
    fn take_what_it_left(&mut self) -> Result<()> {
        let mut has_remains = false;
        for nth in 0..self.made.len() {
            if self.made[nth].0.record.outcome.is_ok() {
                match self.take_outputs(nth, &mut has_remains) {
                    Ok((outputs, dependencies)) => {
                        let report = &mut self.made[nth].0;
                        (report.outputs, report.dependencies) = (outputs, dependencies);
                    }
                    Err(Unkept::Refused(why)) => {
                        self.made[nth].0.record.outcome = Outcome::Refused(why);
                    }
                    Err(Unkept::Failed(err)) => return Err(err),
                }
            }
        }
        // That it can't be tidied is no failure of the step: the next one gets new folders.
        let is_ok = self.made.iter().all(|(report, _)| report.record.outcome.is_ok());
        let is_taken = (is_ok || self.attempt.script.batch) && !has_remains;
        // The folder of so many outputs isn't looked at again, and stays as large as it is.
        if self.made.iter().any(|(report, _)| report.outputs.len() > MANY_OUTPUTS) {
            self.scratch.discard();
        }
        if self.scratch.is_discarded() || self.scratch.workspace.tidy(is_taken).is_err() {
            self.scratch.discard();
        }
        Ok(())
    }

    /// Ends the loan of inputs, and tells which of them did not come back as they were.
    fn reclaim_inputs(&mut self, staged: &Staged, since_ns: i64) -> Result<()> {
        for loans in &staged.loans {
            let Workspace { input, side, batch, .. } = &self.scratch.workspace;
            let folder = match loans.loan {
                Loan::Input => Some(input),
                Loan::Side => side.as_ref(),
                Loan::Batch { .. } => batch.as_ref().map(|batch| &batch.folder),
            };
            let (objects, folder) = (lent(self.attempt, loans.loan), folder.unwrap_or(input).fd());
            let damaged = loans.reclaim(self.store, objects, folder, since_ns)?;
            let Some(sentence) = modified(loans, &damaged) else { continue };
            if let Some((report, _)) = self.made.get_mut(loans.loan.item().unwrap_or(0)) {
                report.damaged_inputs.extend(damaged.iter().map(|nth| objects[*nth].object));
            }
            for (nth, (report, _)) in self.made.iter_mut().enumerate() {
                if loans.loan.item().is_some_and(|item| item != nth) {
                    continue;
                }
                if report.record.outcome.is_ok() {
                    report.record.outcome = Outcome::Refused(sentence.clone());
                } else {
                    report.warnings.push(sentence.clone());
                }
            }
        }
        Ok(())
    }

    /// A failure may be one of those that a read-only link causes, if the log looks like it. A sandbox says itself what
    /// can't be written.
    fn mention_links(&mut self, staged: &Staged, log: &[Vec<u8>]) {
        let is_damaged = self.made.iter().any(|(report, _)| !report.damaged_inputs.is_empty());
        let is_in_sandbox = self.attempt.script.sandbox.is_some();
        let side = self.scratch.workspace.side.as_ref().map(|side| side.path.as_os_str());
        let is_refusal = log.iter().any(|line| {
            let names =
                |part: &[u8]| line.windows(part.len()).any(|at| at.eq_ignore_ascii_case(part));
            REFUSALS.iter().any(|part| names(part.as_bytes()))
                || side.is_some_and(|side| names(side.as_encoded_bytes()))
        });
        let is_told = |loans: &&Loans| is_refusal && (loans.are_all || !is_in_sandbox);
        if let Some(loans) = staged.loans.iter().find(is_told)
            && let Some((report, _)) = self.made.first_mut()
            && matches!(report.record.outcome, Outcome::Exited(_))
            && !is_damaged
        {
            let cure = "needs input = \"copy\" in its task";
            report.warnings.push(match (loans.are_all, loans.loan, loans.paths.first()) {
                (false, _, Some(path)) => format!(
                    "its input `{}` was a read-only link, as inputs of 16 MiB and more are here; a script that \
                     changes its input, as gzip, xz and `sort -o` do, {cure}",
                    printable(path)
                ),
                (_, loan, _) => format!(
                    "{} read-only links; a script that changes them, as gzip, xz and `sort -o` do, or what `cp` \
                     makes of them, which is read-only too, {cure}",
                    if loan == Loan::Side { "the files in WITH_DIR were" } else { "its inputs were" }
                ),
            });
        }
    }

    /// The outputs, and what the script has said it read.
    fn take_outputs(
        &mut self,
        nth: usize,
        has_remains: &mut bool,
    ) -> Result<(Vec<Output>, Vec<Vec<u8>>), Unkept> {
        let user = self.scratch.user;
        let Scratch { workspace, buffer, .. } = &mut *self.scratch;
        let (report, kept) = &mut self.made[nth];
        let of_batch = match &workspace.batch {
            Some(batch) if self.attempt.script.batch => Some(outputs::of_batch(batch, nth)?),
            _ => None,
        };
        let (output, prepared) = match &of_batch {
            Some((output, prepared)) => (output, *prepared),
            None => (&workspace.output, workspace.prepared.as_slice()),
        };
        let walk = Walk {
            store: self.store,
            output,
            user,
            small: &mut workspace.small,
            prepared,
            buffer,
            warnings: &mut report.warnings,
            outputs: Vec::new(),
            placed: Vec::new(),
            path: Vec::new(),
            depfile: self.attempt.script.depfile.as_deref(),
            rule: None,
            has_remains,
        };
        let Taken { outputs, placed, rule } = walk.run()?;
        kept.extend(placed);
        let mut dependencies = rule.unwrap_or_default();
        let own = [workspace.path.clone(), workspace.tmp.path.clone()];
        // A compiler may have resolved the links on the way there.
        let real: Vec<PathBuf> = match dependencies.is_empty() {
            true => Vec::new(),
            false => own.iter().filter_map(|path| path.canonicalize().ok()).collect(),
        };
        let is_own =
            |path: &[u8]| own.iter().chain(&real).any(|own| as_path(path).starts_with(own));
        dependencies.retain(|path| !is_own(path));
        Ok((outputs, dependencies))
    }
}

/// After more outputs than this OUTPUT_DIR is replaced: see `folder`.
const MANY_OUTPUTS: usize = 2500;

/// What programs say that may not write to a file, or don't want to because it has other names (gzip, xz).
const REFUSALS: [&str; 5] =
    ["permission denied", "not permitted", "read-only", "other link", "hard link"];

/// The objects that the files of a loan are, in their order.
fn lent(attempt: &Attempt, loan: Loan) -> &[NamedObject] {
    match loan.item() {
        None => &attempt.side,
        Some(item) => attempt.items.get(item).map_or(&[], |item| item.input.objects()),
    }
}

/// A sentence on those files of a loan that a script has changed; `None` if there are none.
fn modified(loans: &Loans, damaged: &[usize]) -> Option<String> {
    let path = printable(loans.paths.get(*damaged.first()?)?);
    let what = match (loans.loan, loans.are_all) {
        (Loan::Side, _) => "a file of WITH_DIR",
        (Loan::Input, false) => "INPUT_FILE",
        _ => "an input",
    };
    let which = match damaged.len() - 1 {
        0 => format!("{what} (`{path}`) was modified"),
        1 => format!("{what} (`{path}`) and one more were modified"),
        more => format!("{what} (`{path}`) and {more} more were modified"),
    };
    let why = match (loans.loan, loans.are_all) {
        (Loan::Side, _) => "the files in WITH_DIR are no private copies",
        (_, true) => "the inputs of a gather are no private copies",
        (_, false) => "inputs of 16 MiB and more are no private copies here",
    };
    Some(format!("{which}, and {why}; set input = \"copy\" in its task"))
}

/// A script that works on a batch sees none as variables: those of its steps may differ.
static NO_LABELS: LazyLock<Labels> = LazyLock::new(Labels::default);

/// The step, if the script works on one.
fn single(attempt: &Attempt) -> Option<&Item> {
    attempt.items.first().filter(|_| !attempt.script.batch)
}

/// What the launcher is given.
fn exec<'a>(
    attempt: &'a Attempt,
    file: &Path,
    staged: &'a Staged,
    workspace: &'a Workspace,
    share: Option<&'a Share>,
    rules: Option<Arc<OwnedFd>>,
) -> Exec<'a> {
    let script = &attempt.script;
    let text = |value: String| Some(OsString::from(value));
    let path = |folder: &Folder| Some(folder.path.clone().into_os_string());
    let one = staged.one.as_ref();
    let item = attempt.items.first().filter(|_| one.is_some());
    let side = workspace.side.as_ref().filter(|_| !attempt.side.is_empty());
    let batch = workspace.batch.as_ref().filter(|_| one.is_none());
    let vars = [
        (var::INPUT_FILE, one.map(|one| one.file.clone())),
        (var::INPUT_NAME, one.map(|one| one.name.clone())),
        (var::INPUT_DIR, one.filter(|one| one.has_dir).and_then(|_| path(&workspace.input))),
        (var::WITH_DIR, side.and_then(path)),
        (var::OUTPUT_DIR, one.and_then(|_| path(&workspace.output))),
        (var::TMPDIR, path(&workspace.tmp)),
        (var::TASK_NAME, text(script.task.clone())),
        (var::STEP_ID, item.and_then(|item| text(item.step.to_string()))),
        (var::STEP_KEY, item.and_then(|item| text(item.key.hex()))),
        (var::CPUS, text(attempt.cpus.to_string())),
        (var::ATTEMPT, item.and_then(|item| text(item.number.to_string()))),
        (var::BATCH_DIR, batch.and_then(|batch| path(&batch.folder))),
    ];
    let share = share.filter(|_| script.wants_jobserver);
    let labels = item.map_or(&*NO_LABELS, |item| &item.labels);
    let columns = one.map_or(&[][..], |one| &one.columns);
    let (file, log) = (file.to_owned(), workspace.log.write_end());
    Exec { script, file, log, share, rules, vars, labels, columns }
}

fn outcome(end: &Ended, script: &Script) -> Outcome {
    match end.cause {
        Some(Cause::TimedOut) => Outcome::TimedOut(script.timeout),
        Some(Cause::Cancelled) => Outcome::Cancelled,
        None => from_status(end.status),
    }
}

fn from_status(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Succeeded,
        (Some(code), _) => Outcome::Exited(code),
        (None, Some(signal)) => Outcome::Signalled(signal),
        // wait4 gives one of the two.
        (None, None) => Outcome::Signalled(0),
    }
}
