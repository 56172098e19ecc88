//! The steps one by one: a table that the page's script makes of them, to be filtered, sorted and grouped, with all that is
//! known of each. They are data in the page, in JSON that can't end its element, and only ever become text.
//!
//! Up to [`MOST`] steps are all there. Of more, the slowest, the failed and the newest ones are, and the sums over all of
//! them. Details are added to the steps that matter most first, until the page would become too large; where something
//! was left out, the page says so. So neither the page nor the memory that it takes grows with the number of steps.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use serde::Serialize;

use crate::attempt::{AttemptRecord, Start, StepState, micros};
use crate::db::{
    self, AttemptOfRun, Direction, LabelGroup, LabelGroups, Reader, ReportAttempt, RunFacts,
    StepFacts, StepRow, TaskFacts,
};
use crate::error::{OrIo as _, Result};
use crate::explain::Explained;
use crate::hint;
use crate::ids::{StepId, TaskId};
use crate::object::ObjectHash;
use crate::store::Store;
use crate::text::{TAIL_LINES, tail};

use super::facts::Facts;
use super::html::{Json, html, plain_line, plain_name};
use super::open;

/// More steps than this are not listed one by one.
const MOST: u64 = 6000;

/// Of these, so many of the slowest, the failed and the newest are.
const EACH: usize = 2000;

/// Bytes of rows after which they come without details, and those after which no more are added.
const DETAILED: usize = 1_300_000;
const LISTED: usize = 1_900_000;

/// Bytes of logs.
const LOGS: usize = 500_000;

/// Names of one kind that are listed of a step.
const NAMED: usize = 8;

/// Bytes of a listing that is read to name what a step gathered.
const LISTING: u64 = 1 << 20;

/// Values of a label that steps are grouped by.
const GROUPS: usize = 200;

/// Rows of history that are looked through, over all steps, for those that they replaced. A step that comes later is
/// listed without its reason.
const VISITS: u64 = 3_000_000;

/// The steps that are worth being listed if not all can be, as far as attempts tell.
#[derive(Default)]
pub(super) struct Picked {
    slowest: BinaryHeap<Reverse<(u64, StepId)>>,
    newest: BinaryHeap<Reverse<(i64, StepId)>>,
}

impl Picked {
    /// Keeps the step of an attempt if it is among the slowest or the newest.
    pub(super) fn see(&mut self, attempt: &ReportAttempt<'_>) {
        if attempt.live && attempt.is_last {
            keep(&mut self.slowest, (attempt.wall_us, attempt.step));
            keep(&mut self.newest, (attempt.started_ms, attempt.step));
        }
    }

    /// The steps to be listed, those that matter most first.
    fn steps(self, reader: &Reader, facts: &Facts) -> Result<Vec<StepId>> {
        let (done, failed, pending) = facts.steps();
        let mut steps = db::report_steps(reader, true, EACH as i64)?;
        steps.extend(facts.failed_anew.iter().take(EACH));
        steps.extend(sorted(self.slowest));
        steps.extend(sorted(self.newest));
        if done + failed + pending <= MOST {
            steps.extend(db::report_steps(reader, false, MOST as i64)?);
        }
        let mut seen = HashSet::with_capacity(steps.len());
        steps.retain(|step| seen.insert(*step));
        Ok(steps)
    }
}

fn keep<K: Ord>(heap: &mut BinaryHeap<Reverse<(K, StepId)>>, entry: (K, StepId)) {
    if heap.len() < EACH || heap.peek().is_some_and(|Reverse(least)| *least < entry) {
        heap.push(Reverse(entry));
        if heap.len() > EACH {
            heap.pop();
        }
    }
}

fn sorted<K: Ord>(heap: BinaryHeap<Reverse<(K, StepId)>>) -> impl Iterator<Item = StepId> {
    heap.into_sorted_vec().into_iter().map(|Reverse((_, step))| step)
}

/// What a row of the data has, in this order. The script knows the columns by these names.
const COLUMNS: [&str; 20] = [
    "id", "task", "input", "labels", "state", "outcome", "attempts", "run", "started", "wall",
    "cpu", "memory", "worker", "host", "forked", "batch", "same", "why", "log", "more",
];

/// A row. Texts that many rows have in common are numbers of texts; 0 is none.
#[derive(Serialize)]
struct Row(
    i64,
    usize,
    String,
    BTreeMap<String, String>,
    &'static str,
    usize,
    usize,
    i64,
    /// Milliseconds since the first run on the page.
    i64,
    u64,
    u64,
    u64,
    i64,
    usize,
    u8,
    usize,
    i64,
    usize,
    usize,
    Option<More>,
);

/// What is shown of one step when it is looked at.
#[derive(Serialize)]
struct More {
    /// Name, bytes where they are known.
    #[serde(rename = "in", skip_serializing_if = "Few::is_empty")]
    inputs: Few<(String, Option<u64>)>,
    #[serde(rename = "out", skip_serializing_if = "Few::is_empty")]
    outputs: Few<(String, Option<u64>)>,
    #[serde(skip_serializing_if = "Few::is_empty")]
    up: Few<Near>,
    #[serde(skip_serializing_if = "Few::is_empty")]
    down: Few<Near>,
    /// Attempts before the last one, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tries: Vec<usize>,
}

/// Some of several things, and how many there are in all.
#[derive(Serialize)]
struct Few<T>(Vec<T>, u64);

impl<T> Few<T> {
    fn is_empty(&self) -> bool {
        self.1 == 0
    }
}

/// A step beside another one: one that is listed, or what it is called.
#[derive(Serialize)]
#[serde(untagged)]
enum Near {
    Listed(i64),
    Named(i64, String),
}

/// Texts by number, each once. The first is empty: no text.
struct Texts {
    list: Vec<String>,
    known: HashMap<String, usize>,
}

impl Texts {
    fn new() -> Texts {
        Texts { list: vec![String::new()], known: HashMap::from([(String::new(), 0)]) }
    }

    fn number(&mut self, text: String) -> usize {
        if let Some(number) = self.known.get(&text) {
            return *number;
        }
        let number = self.list.len();
        self.known.insert(text.clone(), number);
        self.list.push(text);
        number
    }
}

/// The data of the page: JSON.
pub(super) struct Listing {
    json: String,
}

/// All but the rows, which are written one by one.
#[derive(Serialize)]
struct Head<'a> {
    columns: [&'static str; 20],
    /// Name, id, and the steps that are done, failed and pending.
    tasks: Vec<(&'a str, i64, u64, u64, u64)>,
    /// Live steps, listed or not.
    all: u64,
    /// Some are not listed.
    cut: bool,
    /// What `started` counts from, milliseconds since 1970.
    since: i64,
    groups: BTreeMap<String, Groups>,
    texts: &'a [String],
    logs: &'a [String],
    /// What commands that are recommended end with.
    db: &'static str,
}

/// Values of a label, each with the number of steps that are done, failed and pending; and how many values are left out.
#[derive(Serialize)]
struct Groups(Vec<(String, u64, u64, u64)>, Option<u64>);

impl Listing {
    /// The steps worth being listed, and all that is told of them.
    pub(super) fn read(
        reader: &Reader,
        store: &Store,
        facts: &Facts,
        picked: Picked,
    ) -> Result<Listing> {
        let steps = picked.steps(reader, facts)?;
        let files = db::report_files(reader, &steps)?;
        let mut rows = Rows {
            reader,
            store,
            facts,
            places: facts.tasks.iter().enumerate().map(|(place, task)| (task.id, place)).collect(),
            tasks: HashMap::new(),
            last: db::last_run(reader)?.unwrap_or_default(),
            since: facts.runs.last().map_or(0, |run| run.started_ms),
            files,
            listed: steps.iter().copied().collect(),
            texts: Texts::new(),
            logs: Logs { list: Vec::new(), known: HashMap::new(), bytes: 0 },
            visits: 0,
        };
        let (mut json, mut listed) = (String::from("{\"steps\":["), 0);
        for step in &steps {
            if json.len() > LISTED {
                break;
            }
            let Some(row) = rows.row(*step, json.len() < DETAILED)? else { continue };
            if listed > 0 {
                json.push_str(",\n");
            }
            json.push_str(&serde_json::to_string(&row).unwrap_or_else(|_| "[]".to_owned()));
            listed += 1;
        }
        let (done, failed, pending) = facts.steps();
        let is_cut = done + failed + pending > MOST || listed < steps.len() as u64;
        let groups = db::label_groups(reader, &facts.failed_anew, GROUPS)?.into_iter();
        let tasks = facts.tasks.iter();
        let tasks =
            tasks.map(|task| (&*task.name, task.id.0, task.done, task.failed, task.pending));
        let head = Head {
            columns: COLUMNS,
            tasks: tasks.collect(),
            all: if is_cut { done + failed + pending } else { listed },
            cut: is_cut,
            since: rows.since,
            groups: groups.map(|(key, found)| (key, Groups::of(found))).collect(),
            texts: &rows.texts.list,
            logs: &rows.logs.list,
            db: hint::db(),
        };
        let head = serde_json::to_string(&head).unwrap_or_else(|_| "{}".to_owned());
        json.push_str("],");
        json.push_str(head.strip_prefix('{').unwrap_or("}"));
        Ok(Listing { json })
    }
}

impl Groups {
    fn of(found: LabelGroups) -> Groups {
        let values = found.groups.into_iter().map(|group| {
            let LabelGroup { value, done, failed, pending } = group;
            (plain_name(value.as_bytes()), done, failed, pending)
        });
        Groups(values.collect(), found.left_out)
    }
}

/// The ends of logs, each once however many steps have it.
struct Logs {
    list: Vec<String>,
    known: HashMap<ObjectHash, usize>,
    bytes: usize,
}

/// Numbers of logs: nothing was printed, and left out; the others count from here.
const NO_LOG: usize = 0;
const LEFT_OUT: usize = 1;
const FIRST_LOG: usize = 2;

impl Logs {
    /// The number of a log's end.
    fn number(&mut self, store: &Store, log: Option<&ObjectHash>) -> usize {
        let Some(log) = log else { return NO_LOG };
        if let Some(number) = self.known.get(log) {
            return *number;
        }
        if self.bytes > LOGS {
            return LEFT_OUT;
        }
        let lines = lines(store, log).unwrap_or_else(|error| vec![plain_line(error.to_string())]);
        let text = lines.join("\n");
        self.bytes += text.len();
        self.list.push(text);
        let number = FIRST_LOG + self.list.len() - 1;
        self.known.insert(*log, number);
        number
    }
}

fn lines(store: &Store, log: &ObjectHash) -> Result<Vec<String>> {
    let mut file = store.open_object(log)?;
    let lines = tail(&mut file, TAIL_LINES).or_io("read the log", store.path(log))?;
    Ok(lines.iter().map(plain_line).collect())
}

/// Makes rows of steps.
struct Rows<'a> {
    reader: &'a Reader,
    store: &'a Store,
    facts: &'a Facts,
    places: HashMap<TaskId, usize>,
    tasks: HashMap<TaskId, TaskFacts>,
    last: RunFacts,
    since: i64,
    files: HashMap<StepId, Vec<u8>>,
    listed: HashSet<StepId>,
    texts: Texts,
    logs: Logs,
    visits: u64,
}

impl Rows<'_> {
    /// The row of a step; `None` if its task is none of the manifest's.
    fn row(&mut self, step: StepId, is_detailed: bool) -> Result<Option<Row>> {
        let reader = self.reader;
        let row = db::find_step(reader, step)?;
        let facts = db::step_facts(reader, step)?;
        let Some(&place) = self.places.get(&facts.task) else { return Ok(None) };
        let attempts = db::attempts(reader, step)?;
        let why = if is_detailed { self.why(&row, &facts, &attempts)? } else { String::new() };
        let more = if is_detailed { Some(self.more(&row, &facts, &attempts)?) } else { None };
        let state = match self.facts.failed_anew.binary_search(&step) {
            Ok(_) => StepState::Failed,
            Err(_) => row.state,
        };
        let labels = row.labels.iter();
        let labels = labels.map(|(key, value)| (key.to_owned(), plain_name(value.as_bytes())));
        let last = attempts.last();
        let record = last.map(|attempt| &attempt.record);
        let usage = record.map(AttemptRecord::share).unwrap_or_default();
        let outcome = record.filter(|record| !record.outcome.is_ok());
        let outcome = outcome.map(|record| plain_line(record.outcome.to_string()));
        let on = record.and_then(|record| record.on.as_ref());
        let batch = record.and_then(|record| record.batch).map(|batch| batch.to_string());
        let log = match is_detailed {
            true => self.logs.number(self.store, record.and_then(|record| record.log.as_ref())),
            false => LEFT_OUT,
        };
        Ok(Some(Row(
            step.0,
            place,
            plain_name(&row.name),
            labels.collect(),
            state.as_str(),
            self.texts.number(outcome.unwrap_or_default()),
            attempts.len(),
            last.map_or(0, |attempt| attempt.run.0),
            record.map_or(-1, |record| (record.started_ms - self.since).max(0)),
            micros(usage.wall),
            micros(usage.user + usage.system),
            usage.peak_memory,
            record.and_then(|record| record.worker).unwrap_or(0),
            self.texts.number(on.map(|on| plain_line(on.to_string())).unwrap_or_default()),
            u8::from(record.is_some_and(|record| record.start == Start::Fork)),
            self.texts.number(batch.unwrap_or_default()),
            row.same_as.map_or(0, |other| other.0),
            self.texts.number(why),
            log,
            more,
        )))
    }

    /// Why it ran, as `explain` says it; nothing if that would take too long.
    fn why(
        &mut self,
        row: &StepRow,
        facts: &StepFacts,
        attempts: &[AttemptOfRun],
    ) -> Result<String> {
        let reader = self.reader;
        let retired =
            self.places.get(&facts.task).map_or(0, |place| self.facts.tasks[*place].retired);
        self.visits += retired;
        if self.visits > VISITS {
            return Ok(String::new());
        }
        let born_ms = attempts.first().map_or(i64::MAX, |attempt| attempt.record.started_ms);
        let before = match retired {
            0 => None,
            _ => db::predecessor(reader, facts, born_ms)?,
        };
        let read = db::step_dependencies(reader, row.id)?;
        let task = match self.tasks.entry(facts.task) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(db::task_facts(reader, facts.task)?),
        };
        let (verdict, because) = Explained {
            row,
            facts,
            task,
            attempts,
            before: before.as_ref(),
            read: read.as_ref(),
            last: self.last,
        }
        .verdict(reader)?;
        Ok(plain_line(verdict.sentence(&because)))
    }

    fn more(
        &mut self,
        row: &StepRow,
        facts: &StepFacts,
        attempts: &[AttemptOfRun],
    ) -> Result<More> {
        let (outputs, count) = match row.state {
            StepState::Done => db::report_outputs(self.reader, row.id, NAMED as i64)?,
            _ => (Vec::new(), 0),
        };
        let outputs =
            outputs.into_iter().map(|output| (plain_name(&output.name), output.bytes)).collect();
        let earlier = attempts.split_last().map_or(&[][..], |(_, earlier)| earlier);
        let tries =
            earlier.iter().rev().take(NAMED).rev().map(|AttemptOfRun { record, run, .. }| {
                let outcome = plain_line(record.outcome.to_string());
                let on = record.on.as_ref().map(|on| format!(", by {on}")).unwrap_or_default();
                self.texts.number(format!("attempt {} in run {run}{on}: {outcome}", record.number))
            });
        let tries = tries.collect();
        Ok(More {
            inputs: self.inputs(row, facts)?,
            outputs: Few(outputs, count),
            up: self.near(row.id, Direction::Up)?,
            down: self.near(row.id, Direction::Down)?,
            tries,
        })
    }

    /// What a step works on: the file, or what its listing names.
    fn inputs(&self, row: &StepRow, facts: &StepFacts) -> Result<Few<(String, Option<u64>)>> {
        let bytes = |object| db::known_object(self.reader, object);
        let is_listed = self.tasks.get(&facts.task).is_some_and(|task| task.gather)
            || self.places.get(&facts.task).is_some_and(|place| self.facts.tasks[*place].gather);
        if is_listed {
            // A listing that is gone is told by `verify`.
            let listing = self.store.read_small(&row.object, LISTING).ok().flatten();
            let items = listing.map(|listing| db::read_listing(&listing)).unwrap_or_default();
            let few = items.iter().take(NAMED);
            let few = few.map(|item| Ok((plain_name(&item.name), bytes(&item.object)?)));
            return Ok(Few(few.collect::<Result<Vec<_>>>()?, items.len() as u64));
        }
        let name = self.files.get(&row.id).unwrap_or(&row.name);
        if name.is_empty() {
            return Ok(Few(Vec::new(), 0));
        }
        Ok(Few(vec![(plain_name(name), bytes(&row.object)?)], 1))
    }

    fn near(&self, step: StepId, way: Direction) -> Result<Few<Near>> {
        let (steps, count) = db::neighbours(self.reader, step, way, NAMED)?;
        let near = |step: &StepRow| match self.listed.contains(&step.id) {
            true => Near::Listed(step.id.0),
            false => Near::Named(step.id.0, plain_line(step.text())),
        };
        Ok(Few(steps.iter().map(near).collect(), count as u64))
    }
}

/// The section, which the script fills; without a script there is nothing to see of it.
pub(super) fn section(out: &mut String, listing: &Listing) {
    open(out, "steps");
    html!(out, "<div id=\"table\"></div>\n<script type=\"application/json\" id=\"data\">");
    html!(out, Json::of(&listing.json), "</script>\n</section>\n");
}
