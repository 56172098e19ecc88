//! A worker as the coordinator sees it, and how an attempt is made there.
//!
//! The worker is sent the attempt, with its smaller inputs if it may not have them. It asks for what it lacks, and says
//! what came of it, with the smaller ones of the objects that its reports name. Of
//! the larger ones it is asked for those that the store lacks. Whatever arrives is kept under the hash of its bytes,
//! and if that is not the one that was named, the worker is not believed, nor used, any more.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::attempt::Outcome;
use crate::elsewhere::WorkerSlot;
use crate::error::Result;
use crate::exec::Ran;
use crate::ids::StepId;
use crate::object::ObjectHash;
use crate::step::{Attempt, Input, Item, Made, Report};
use crate::store::{Placed, Store};

use super::line::{Inbox, Line, Trouble};
use super::question::LiveStep;
use super::wire::{Frame, Handover, Hello, INLINE, INLINE_TOGETHER, Inlined, Order, WireMessage};

/// Objects that a worker is believed to have, at most.
const BELIEVED: usize = 1 << 16;

/// So long a worker may take to tell what a script has printed.
const PRINTED: Duration = Duration::from_secs(10);

pub(super) struct Link {
    pub(super) line: Arc<Line>,
    pub(super) host: Arc<str>,
    /// Which of the run's workers it is, from 1.
    pub(super) number: usize,
    pub(super) slots: usize,
    /// Unlike that of any other worker of the run.
    pub(super) id: i64,
    /// In a batch system.
    pub(super) job: Option<String>,
    /// Objects that it was sent, or has made: it may have removed them since.
    believed: Mutex<HashSet<ObjectHash>>,
    /// Attempts that it makes just now, and those that were lost with it.
    running: Mutex<usize>,
    /// What they are of, by slot.
    now: Mutex<HashMap<usize, Now>>,
    /// Those who wait for what a script has printed, by question.
    askers: Mutex<HashMap<u64, flume::Sender<Vec<u8>>>>,
    questions: AtomicU64,
    /// It takes no more attempts.
    pub(super) is_draining: AtomicBool,
    /// Its number among the places.
    pub(super) member: OnceLock<u64>,
    /// Attempts that it has made.
    made: AtomicU64,
    /// It was told to end, which is neither its machine's fault nor that of a script.
    is_recalled: AtomicBool,
    /// Another connection has its place.
    pub(super) is_replaced: AtomicBool,
}

/// An attempt that is made just now.
struct Now {
    since: Instant,
    /// Each with the number of its attempt.
    steps: Vec<(StepId, i64)>,
}

/// What is told once that a script has ended.
type OnExit<'a> = dyn FnMut(&[Outcome]) + 'a;

impl Link {
    pub(super) fn new(line: Arc<Line>, hello: &Hello, id: i64) -> Link {
        Link {
            line,
            host: Arc::from(hello.host.as_str()),
            number: hello.number,
            slots: hello.slots,
            id,
            job: hello.job.clone(),
            believed: Mutex::default(),
            running: Mutex::default(),
            now: Mutex::default(),
            askers: Mutex::default(),
            questions: AtomicU64::new(1),
            is_draining: AtomicBool::new(false),
            member: OnceLock::new(),
            made: AtomicU64::new(0),
            is_recalled: AtomicBool::new(false),
            is_replaced: AtomicBool::new(false),
        }
    }

    /// It was told to end.
    pub(super) fn recall(&self) {
        self.is_recalled.store(true, Ordering::Release);
    }

    /// Attempts that it makes just now, and those that were lost with it.
    pub(super) fn running(&self) -> usize {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One of its slots, counted from 0, as everybody is told of it.
    pub(super) fn slot(&self, number: usize) -> WorkerSlot {
        let (id, worker, host) = (self.id, self.number, Arc::clone(&self.host));
        WorkerSlot { id, worker, host, slot: number + 1 }
    }

    /// Attempts that it has made.
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// The steps of which it makes attempts just now.
    pub(super) fn steps(&self) -> Vec<LiveStep> {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let of_slot = |(&slot, now): (&usize, &Now)| {
            let elapsed_ms = u64::try_from(now.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            let on = self.slot(slot);
            let live = |&(step, attempt): &(StepId, i64)| LiveStep {
                step,
                attempt,
                on: on.clone(),
                elapsed_ms,
            };
            now.steps.iter().map(live).collect::<Vec<_>>()
        };
        now.iter().flat_map(of_slot).collect()
    }

    /// Whether it makes this attempt just now.
    pub(super) fn makes(&self, step: StepId, attempt: i64) -> bool {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.values().any(|now| now.steps.contains(&(step, attempt)))
    }

    /// What the script of an attempt has printed, from that byte on: nothing if it has not begun, or has ended.
    pub(super) fn printed(&self, step: StepId, attempt: i64, from: u64) -> Vec<u8> {
        let (tell, told) = flume::bounded(1);
        let question = self.questions.fetch_add(1, Ordering::Relaxed);
        self.askers().insert(question, tell);
        let asked = self.line.send(&WireMessage::Print { question, step, attempt, from }, &[]);
        let bytes = asked.ok().and_then(|()| told.recv_timeout(PRINTED).ok());
        self.askers().remove(&question);
        bytes.unwrap_or_default()
    }

    /// The worker has told what a script has printed. Nobody may have waited so long.
    pub(super) fn answer(&self, question: u64, bytes: Vec<u8>) {
        if let Some(asker) = self.askers().remove(&question) {
            let _ = asker.try_send(bytes);
        }
    }

    fn askers(&self) -> MutexGuard<'_, HashMap<u64, flume::Sender<Vec<u8>>>> {
        self.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, slot: usize, now: Option<Now>) {
        let mut all = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        match now {
            Some(now) => drop(all.insert(slot, now)),
            None => drop(all.remove(&slot)),
        }
    }

    fn count(&self, change: impl FnOnce(&mut usize)) {
        change(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn believed(&self) -> MutexGuard<'_, HashSet<ObjectHash>> {
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        if believed.len() >= BELIEVED {
            believed.clear();
        }
        believed
    }

    /// Makes an attempt there; as [`Executor::run`](crate::exec::Executor::run).
    pub(super) fn run(
        &self,
        inbox: &Inbox,
        about: (usize, u64),
        store: &Store,
        attempt: &Attempt,
        ended: &mut OnExit<'_>,
    ) -> Result<Ran> {
        self.count(|running| *running += 1);
        let steps = attempt.items.iter().map(|item| (item.step, item.number)).collect();
        self.note(about.0, Some(Now { since: Instant::now(), steps }));
        let mut told = false;
        let mut tell = |outcomes: &[Outcome]| {
            if !std::mem::replace(&mut told, true) {
                ended(outcomes);
            }
        };
        let call = Conversation { link: self, inbox, about, store, attempt };
        let ran = call.run(&mut tell);
        tell(&[]);
        self.note(about.0, None);
        if !matches!(ran, Err(Trouble::Lost(_) | Trouble::GivenUp)) {
            self.count(|running| *running -= 1);
        }
        match ran {
            Ok(Some(made)) => {
                self.made.fetch_add(1, Ordering::Relaxed);
                Ok(Ran::Over(made))
            }
            Ok(None) => Ok(Ran::Cancelled(Vec::new())),
            Err(Trouble::Lost(_)) if self.is_recalled.load(Ordering::Acquire) => {
                Ok(Ran::Cancelled(Vec::new()))
            }
            Err(Trouble::Lost(why)) => Ok(Ran::Lost(why)),
            Err(Trouble::GivenUp) => {
                Ok(Ran::Lost(self.line.break_off("it gave an attempt up without saying why")))
            }
            Err(Trouble::Ours(error)) => Err(error),
        }
    }
}

/// One attempt.
struct Conversation<'a> {
    link: &'a Link,
    inbox: &'a Inbox,
    about: (usize, u64),
    store: &'a Store,
    attempt: &'a Attempt,
}

impl Conversation<'_> {
    /// `None`: nothing is known of the steps, because the run is stopping.
    fn run(&self, ended: &mut OnExit<'_>) -> Result<Option<Vec<Made>>, Trouble> {
        match self.order() {
            // It was gone already: no attempt was made.
            Err(Trouble::Lost(_)) => return Ok(None),
            ordered => ordered?,
        }
        loop {
            let Frame { message, bytes } = self.inbox.about(self.about)?;
            match message {
                WireMessage::Need { objects, .. } => self.give(&objects)?,
                WireMessage::Cancelled { .. } => return Ok(None),
                WireMessage::Ended(ending) => {
                    let outcomes: Vec<Outcome> =
                        ending.reports.iter().map(|report| report.record.outcome.clone()).collect();
                    ended(&outcomes);
                    return self.take(ending, &bytes).map(Some);
                }
                _ => return Err(self.distrust("it said what nobody asked for")),
            }
        }
    }

    /// The worker says what can't be: it is not used any more.
    fn distrust(&self, why: &str) -> Trouble {
        Trouble::Lost(self.link.line.break_off(why))
    }

    /// Sends the attempt.
    fn order(&self) -> Result<(), Trouble> {
        let Attempt { items, cpus, side, script } = self.attempt;
        let (inline, bytes) = self.inline()?;
        let order = |number| {
            let (slot, ticket) = self.about;
            WireMessage::Attempt(Order {
                slot,
                ticket,
                script: number,
                items: items.clone(),
                cpus: *cpus,
                side: side.clone(),
                inline,
            })
        };
        self.link.line.send_with_script(script, order, &bytes)
    }

    /// Small objects that the worker may lack.
    fn inline(&self) -> Result<(Vec<Inlined>, Vec<u8>), Trouble> {
        let (mut inline, mut bytes) = (Vec::new(), Vec::new());
        for object in objects_of(self.attempt) {
            if self.link.believed().contains(&object) {
                continue;
            }
            let Some(content) = self.store.read_small(&object, INLINE)? else { continue };
            if bytes.len() + content.len() > INLINE_TOGETHER {
                break;
            }
            self.link.believed().insert(object);
            inline.push(Inlined { object, size: content.len() as u64 });
            bytes.extend(content);
        }
        Ok((inline, bytes))
    }

    /// Sends objects that the worker has asked for.
    fn give(&self, objects: &[ObjectHash]) -> Result<(), Trouble> {
        let (slot, ticket) = self.about;
        let known: HashSet<ObjectHash> = objects_of(self.attempt).collect();
        for object in objects {
            if !known.contains(object) {
                return Err(self.distrust("it asked for an object that is none of its attempt's"));
            }
            let file = match self.store.open_object(object) {
                Ok(file) => file,
                Err(error) => {
                    self.link.line.send(&WireMessage::Gone { slot, ticket }, &[])?;
                    return Err(error.into());
                }
            };
            self.link.line.send_file(self.about, file, self.store)?;
            self.link.believed().insert(*object);
        }
        Ok(())
    }

    /// Takes what came of the attempt, and keeps every object that it names.
    fn take(&self, ending: Handover, bytes: &[u8]) -> Result<Vec<Made>, Trouble> {
        let Handover { reports, inline, offered, .. } = ending;
        let items = &self.attempt.items;
        let fits = |(report, item): (&Report, &Item)| {
            report.record.number == item.number && report.damaged_inputs.is_empty()
        };
        if reports.len() != items.len() || !reports.iter().zip(items).all(fits) {
            return Err(self.distrust("it reported on other steps than it was given"));
        }
        let mut kept: Vec<Placed> = Vec::new();
        let taken = self.fetch(&inline, bytes, &offered, &mut kept);
        let made = taken.and_then(|()| {
            reports.into_iter().enumerate().map(|(nth, report)| self.made(nth, report)).collect()
        });
        match made {
            Ok(made) => Ok(made),
            Err(trouble) => {
                // Of an attempt that is made again nothing is kept.
                for placed in kept {
                    self.store.discard(placed)?;
                }
                Err(trouble)
            }
        }
    }

    fn fetch(
        &self,
        inline: &[Inlined],
        mut bytes: &[u8],
        offered: &[Inlined],
        kept: &mut Vec<Placed>,
    ) -> Result<(), Trouble> {
        for &Inlined { object, size } in inline {
            let split = usize::try_from(size).ok().and_then(|size| bytes.split_at_checked(size));
            let Some((content, rest)) = split else {
                return Err(self.distrust("it sent fewer bytes than it said"));
            };
            bytes = rest;
            let placed = self.store.put(content)?;
            let is_right = placed.hash == object;
            kept.push(placed);
            if !is_right {
                let why = format!("object {object} came with other bytes than its own");
                return Err(self.distrust(&why));
            }
            self.link.believed().insert(object);
        }
        if offered.is_empty() {
            return Ok(());
        }
        let mut lacking = Vec::new();
        for &Inlined { object, size } in offered {
            match self.store.hold(&object, size)? {
                Some(placed) => kept.push(placed),
                None => lacking.push(object),
            }
            self.link.believed().insert(object);
        }
        let (slot, ticket) = self.about;
        let need = WireMessage::Need { slot, ticket, objects: lacking.clone() };
        self.link.line.send(&need, &[])?;
        for object in lacking {
            kept.push(self.inbox.object(self.about, object, self.store)?);
        }
        Ok(())
    }

    /// A guard for each object that a report names, as it is when a script has run here.
    fn made(&self, nth: usize, report: Report) -> Result<Made, Trouble> {
        let mut placed = Vec::new();
        // The log of a batch is guarded by its first step.
        let log = report.record.log.filter(|_| nth == 0).map(|log| (log, report.log_size));
        let outputs = report.outputs.iter().map(|output| (output.object, output.size));
        for (object, size) in outputs.chain(log) {
            match self.store.hold(&object, size)? {
                Some(guard) => placed.push(guard),
                None => return Err(self.distrust("it named an object that it did not send")),
            }
        }
        Ok((report, placed))
    }
}

/// The objects that an attempt reads. Nobody has to send the one of no bytes.
pub(super) fn objects_of(attempt: &Attempt) -> impl Iterator<Item = ObjectHash> {
    let inputs = attempt.items.iter().flat_map(|item| match &item.input {
        Input::One(input) => std::slice::from_ref(input),
        Input::Many { items, .. } => items.as_slice(),
    });
    let all = inputs.chain(&attempt.side).map(|named| named.object);
    all.filter(|object| *object != ObjectHash::EMPTY)
}
