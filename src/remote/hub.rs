//! Everything that the threads of a coordinator share: who is there, who was lost, and what each worker is told.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::elsewhere::{WorkerChange, WorkerNote};
use crate::exec::{HomeFile, News, Tell};
use crate::ids::StepId;
use crate::object::to_hex;
use crate::stop::{Stop, StopSwitch};
use crate::store::Store;
use crate::sys::clock::now_ms;
use crate::text::printable_line;

use super::door::Guest;
use super::line::{Inbox, Line, NewLine, PATIENCE};
use super::link::Link;
use super::places::{Berth, Places, Room};
use super::question::{LiveWorker, LiveWorkers};
use super::secret::{Secret, Side};
use super::wire::{self, Frame, Hello, Terms, WireMessage};

/// A host that has lost so many workers gets no more.
const MOST_LOSSES: u32 = 2;

/// Scripts at once of one worker, at most: each has an inbox.
const MOST_SLOTS: usize = 4096;

/// What the thread that starts workers hears of.
pub(super) enum FleetEvent {
    Joined(usize),
    /// It `has_gone` by itself, or it may come back.
    Left {
        number: usize,
        has_gone: bool,
    },
    /// The run stops, or is over.
    Changed,
}

pub(super) struct Hub {
    pub(super) store: Arc<Store>,
    pub(super) stop: Arc<StopSwitch>,
    pub(super) places: Arc<Places>,
    pub(super) secret: Secret,
    /// The run's name: no other run has the same.
    pub(super) run: String,
    pub(super) terms: Terms,
    /// What has to be the same for every worker.
    pub(super) files: Arc<Vec<HomeFile>>,
    pub(super) tell: Tell,
    pub(super) events: flume::Sender<FleetEvent>,
    /// How many there are of what `--have` names, on each worker.
    pub(super) have: Vec<usize>,
    /// `--memory`, of each worker.
    pub(super) memory: Option<u64>,
    /// Each worker was named, or is a process of this machine, so that its losses say nothing about others.
    pub(super) counts_workers: bool,
    /// Scripts at once on this machine, besides; and on each worker, by number.
    pub(super) local: usize,
    pub(super) slots: Vec<usize>,
    pub(super) tickets: AtomicU64,
    /// How many workers there were.
    pub(super) workers: AtomicI64,
    pub(super) is_over: AtomicBool,
    /// Of each worker, where it was asked for: as ssh knows it. Empty: nobody named hosts.
    pub(super) hosts: Vec<String>,
    pub(super) roster: Mutex<Roster>,
}

/// Who is there.
#[derive(Default)]
pub(super) struct Roster {
    links: Vec<Arc<Link>>,
    losses: HashMap<String, u32>,
    /// Workers, by number, and hosts that somebody wants to be used no more.
    retired: HashSet<usize>,
    retired_hosts: BTreeSet<String>,
    threads: Vec<JoinHandle<()>>,
}

impl Hub {
    fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Unlike that of any other attempt.
    pub(super) fn ticket(&self) -> u64 {
        self.tickets.fetch_add(1, Ordering::Relaxed)
    }

    /// Unlike that of any other worker of the run.
    fn worker_id(&self) -> i64 {
        self.workers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Which of the scripts that may run at once a slot's is, from 1; `slot` counts from 0.
    pub(super) fn lane(&self, number: usize, slot: usize) -> usize {
        let before: usize = self.slots.iter().take(number.saturating_sub(1)).sum();
        self.local + before + slot + 1
    }

    pub(super) fn note(&self, text: String) {
        (self.tell)(News::Note(text));
    }

    pub(super) fn warn(&self, text: String) {
        (self.tell)(News::Warning(text));
    }

    /// Whose losses are counted together.
    fn key(&self, host: &str, number: usize) -> String {
        if self.counts_workers { number.to_string() } else { host.to_owned() }
    }

    /// Whether a host, or a worker of this machine, gets no more steps.
    pub(super) fn is_excluded(&self, host: &str, number: usize) -> bool {
        let roster = self.roster();
        let losses = roster.losses.get(&self.key(host, number)).copied();
        losses.unwrap_or(0) >= MOST_LOSSES
            || roster.retired.contains(&number)
            || roster.retired_hosts.contains(host)
    }

    /// Whether somebody wants this worker to be used no more.
    pub(super) fn is_retired(&self, number: usize) -> bool {
        self.roster().retired.contains(&number)
    }

    /// Hosts that get no more steps.
    pub(super) fn excluded(&self) -> Vec<String> {
        let roster = self.roster();
        let lost = roster.losses.iter().filter(|(_, losses)| **losses >= MOST_LOSSES);
        let mut hosts: BTreeSet<String> = lost.map(|(host, _)| host.clone()).collect();
        hosts.extend(roster.retired_hosts.iter().cloned());
        hosts.into_iter().collect()
    }

    /// Tells what has become of a worker that has connected.
    fn tell_of(&self, link: &Link, change: WorkerChange) {
        (self.tell)(News::Worker(WorkerNote {
            id: link.id,
            worker: link.number,
            host: Arc::clone(&link.host),
            slots: link.slots,
            job: link.job.clone(),
            at_ms: now_ms(),
            change,
        }));
    }

    /// Counts the loss of a worker that never connected, and tells of it.
    pub(super) fn never_came(&self, host: &str, number: usize, why: &str) {
        (self.tell)(News::Worker(WorkerNote {
            id: self.worker_id(),
            worker: number,
            host: Arc::from(host),
            slots: number.checked_sub(1).and_then(|at| self.slots.get(at)).copied().unwrap_or(0),
            job: None,
            at_ms: now_ms(),
            change: WorkerChange::Left { lost: Some(why.to_owned()), running: 0, made: 0 },
        }));
        self.lose(host, number, why, 0);
    }

    /// Counts the loss of a worker, and says so.
    fn lose(&self, host: &str, number: usize, why: &str, running: usize) {
        let mut roster = self.roster();
        let losses = roster.losses.entry(self.key(host, number)).or_default();
        *losses += 1;
        let is_last = *losses == MOST_LOSSES;
        drop(roster);
        let name = worker_name(host, number);
        let mut text =
            format!("{name} was lost: {}{}", printable_line(why.as_bytes()), again(running));
        if is_last {
            let what = if self.counts_workers { "it is" } else { "this host is" };
            text += &format!("; after {MOST_LOSSES} losses {what} not used any more in this run");
        }
        self.warn(text);
    }

    /// Takes what the door has to tell.
    pub(super) fn receive(self: &Arc<Hub>, guest: Result<Guest, String>) {
        let guest = match guest {
            Ok(guest) => guest,
            Err(why) => {
                let text = format!("somebody who connected to the run's port {why}");
                return self.warn(text);
            }
        };
        let hub = Arc::clone(self);
        let thread = std::thread::Builder::new().name(format!("worker {}", guest.hello.number));
        match thread.spawn(move || hub.serve(guest)) {
            Ok(thread) => {
                let mut roster = self.roster();
                roster.threads.retain(|thread| !thread.is_finished());
                roster.threads.push(thread);
            }
            Err(err) => {
                self.warn(format!("a worker was sent away: no thread could be started ({err})"))
            }
        }
    }

    /// Why a guest can't be a worker of this run.
    fn objection(&self, hello: &Hello) -> Option<String> {
        let own = env!("CARGO_PKG_VERSION");
        let Hello { tool, run, host, number, slots, .. } = hello;
        if self.is_over() || *run != self.run {
            return Some("the run that it was started for is over".to_owned());
        }
        if tool != own {
            return Some(format!(
                "it is task-pipeline {}, and the run is made by {own}; install the same one on both machines",
                printable_line(tool.as_bytes())
            ));
        }
        if !(1..=MOST_SLOTS).contains(slots) {
            return Some(format!("it has {slots} slots"));
        }
        if self.is_retired(*number) || self.roster().retired_hosts.contains(host) {
            return Some("it is to be used no more in this run".to_owned());
        }
        if self.is_excluded(host, *number) {
            return Some("its host was lost too often in this run".to_owned());
        }
        None
    }

    /// Has a worker, from its hello to its end.
    fn serve(self: &Arc<Hub>, guest: Guest) {
        let Guest { stream, hello, said } = guest;
        let made =
            stream.try_clone().and_then(|stream| Line::open(stream, hello.slots, &self.stop));
        let NewLine { line, senders, inboxes } = match (self.objection(&hello), made) {
            (None, Ok(made)) => made,
            (Some(why), _) => {
                // Of others the log is at hand, which says so.
                if !self.counts_workers && hello.run == self.run && !self.is_over() {
                    let host = printable_line(hello.host.as_bytes());
                    self.warn(format!("a worker on {host} was sent away: {why}"));
                }
                return refuse(stream, why);
            }
            (None, Err(err)) => return refuse(stream, format!("the system refuses: {err}")),
        };
        drop(stream);
        let nonce = hello.nonce.as_bytes();
        let proof = to_hex(&self.secret.prove(Side::Coordinator, nonce, &said));
        let welcome = WireMessage::Welcome { proof, terms: self.terms.clone() };
        let link = Arc::new(Link::new(Arc::clone(&line), &hello, self.worker_id()));
        let files = WireMessage::Files(Arc::clone(&self.files));
        if line.send(&welcome, &[]).and_then(|()| line.send(&files, &[])).is_err() {
            return;
        }
        let mut inboxes = Some(inboxes);
        let mut member = None;
        // It has said that it goes; true: because of a trouble of its own.
        let mut leaving = None;
        let mut is_surplus = false;
        let why = line.read(senders, |Frame { message, bytes }| match message {
            WireMessage::Beat => Ok(()),
            WireMessage::Printed { question } => {
                link.answer(question, bytes);
                Ok(())
            }
            WireMessage::Ready => {
                let Some(inboxes) = inboxes.take() else { return Ok(()) };
                let joined = self.join(&link, &hello, inboxes);
                if joined.is_err() {
                    // That is nobody's fault. It leaves.
                    is_surplus = true;
                    let _ = link.line.send(&WireMessage::Bye, &[]);
                }
                member = Some(joined?);
                Ok(())
            }
            WireMessage::Note { text } => {
                let name = worker_name(&link.host, link.number);
                self.note(format!("{name}: {}", printable_line(text.as_bytes())));
                Ok(())
            }
            WireMessage::Leaving { why, is_trouble } => {
                leaving = Some(is_trouble);
                if !is_trouble {
                    link.recall();
                }
                Err(why)
            }
            WireMessage::Drain { why } => {
                self.let_leave(&link, &why);
                Ok(())
            }
            _ => Err("it said what no worker says".to_owned()),
        });
        let running = link.running();
        if let Some(member) = member {
            self.places.remove(member);
        }
        self.roster().links.retain(|other| !Arc::ptr_eq(other, &link));
        let is_dismissed = link.is_draining.load(Ordering::Acquire) && running == 0;
        let is_loss = leaving != Some(false) && !is_dismissed && !is_surplus && !self.is_over();
        if member.is_some() || is_loss {
            let lost = is_loss.then(|| why.clone());
            self.tell_of(&link, WorkerChange::Left { lost, running, made: link.made() });
        }
        if is_loss {
            self.lose(&link.host, link.number, &why, running);
        } else if leaving == Some(false) && !self.is_over() {
            let name = worker_name(&link.host, link.number);
            self.note(format!(
                "{name} leaves: {}{}",
                printable_line(why.as_bytes()),
                again(running)
            ));
        }
        // Its place is not free if another one has it.
        if !is_surplus && !link.is_replaced.load(Ordering::Acquire) {
            let has_gone = leaving.is_some() || is_dismissed;
            let _ = self.events.send(FleetEvent::Left { number: link.number, has_gone });
        }
    }

    /// A worker is ready. Gives its number among the places; or says why it is not needed.
    fn join(&self, link: &Arc<Link>, hello: &Hello, inboxes: Vec<Inbox>) -> Result<u64, String> {
        let mut roster = self.roster();
        for old in roster.links.iter().filter(|old| old.number == link.number) {
            // Of another array, of which nobody knew whether it was submitted.
            if old.job != link.job {
                return Err("its place is taken".to_owned());
            }
            // It has come back before it was missed, or was started anew: a job that is requeued keeps its number.
            old.is_replaced.store(true, Ordering::Release);
            old.line.break_off("it has connected anew");
        }
        roster.links.push(Arc::clone(link));
        drop(roster);
        if self.is_over() {
            return Err("the run is over".to_owned());
        }
        let stop = self.stop.now();
        if stop >= Stop::Term {
            let _ = link.line.send(&WireMessage::Stop(stop), &[]);
        }
        // Before it makes anything.
        self.tell_of(link, WorkerChange::Joined);
        let memory = self.memory.or(hello.memory).unwrap_or(u64::MAX);
        let room = Room { cpus: link.slots, memory, uses: self.have.clone() };
        let slots = inboxes.into_iter().enumerate();
        let slots =
            slots.map(|(number, inbox)| Berth::There { link: Arc::clone(link), number, inbox });
        let member = self.places.add(room, slots.collect());
        let _ = link.member.set(member);
        if link.is_draining.load(Ordering::Acquire) {
            self.places.leave(member);
        }
        let _ = self.events.send(FleetEvent::Joined(link.number));
        Ok(member)
    }

    /// A worker takes no more attempts, and is dismissed when those under way are over.
    fn let_leave(&self, link: &Link, why: &str) {
        if link.is_draining.swap(true, Ordering::AcqRel) {
            return;
        }
        let name = worker_name(&link.host, link.number);
        self.note(format!("{name} takes no more steps: {}", printable_line(why.as_bytes())));
        link.member.get().into_iter().for_each(|member| self.places.leave(*member));
    }

    /// Who is there just now, and what they do.
    pub(super) fn live(&self) -> LiveWorkers {
        let links = self.roster().links.clone();
        let worker = |link: &Arc<Link>| LiveWorker {
            id: link.id,
            running: link.running(),
            made: link.made(),
            is_draining: link.is_draining.load(Ordering::Acquire),
        };
        let workers = links.iter().map(worker).collect();
        LiveWorkers { workers, steps: links.iter().flat_map(|link| link.steps()).collect() }
    }

    /// What the script of an attempt has printed from that byte on; `None`: no worker makes that attempt.
    pub(super) fn printed(&self, step: StepId, attempt: i64, from: u64) -> Option<Vec<u8>> {
        let links = self.roster().links.clone();
        let link = links.into_iter().find(|link| link.makes(step, attempt))?;
        Some(link.printed(step, attempt, from))
    }

    /// Lets workers finish what they do and leave, and has no others in their place. They are named by number, or by
    /// host: all that are there. Gives their numbers.
    ///
    /// # Errors
    /// A sentence if there is no such worker; then none leaves.
    pub(super) fn drain(&self, words: &[String]) -> Result<Vec<usize>, String> {
        let mut roster = self.roster();
        let (mut numbers, mut hosts) = (BTreeSet::new(), BTreeSet::new());
        for word in words {
            let by_number = word.parse().ok().filter(|n| (1..=self.slots.len()).contains(n));
            let is_there = |link: &&Arc<Link>| &*link.host == word.as_str();
            let of_host = roster.links.iter().filter(is_there).map(|link| link.number);
            let named = (1..).zip(&self.hosts).filter(|(_, host)| *host == word);
            let of_host: BTreeSet<usize> = of_host.chain(named.map(|(number, _)| number)).collect();
            match by_number {
                Some(number) => numbers.extend([number]),
                None if of_host.is_empty() => return Err(self.no_worker(&roster, word)),
                // A job elsewhere takes its place.
                None if !self.counts_workers => hosts.extend([word.clone()]),
                None => numbers.extend(of_host),
            }
        }
        let leaves =
            |link: &&Arc<Link>| numbers.contains(&link.number) || hosts.contains(&*link.host);
        let leaving: Vec<Arc<Link>> = roster.links.iter().filter(leaves).cloned().collect();
        roster.retired.extend(&numbers);
        roster.retired_hosts.extend(hosts);
        drop(roster);
        numbers.extend(leaving.iter().map(|link| link.number));
        leaving.iter().for_each(|link| self.let_leave(link, "it is to leave"));
        let _ = self.events.send(FleetEvent::Changed);
        Ok(numbers.into_iter().collect())
    }

    fn no_worker(&self, roster: &Roster, word: &str) -> String {
        let mut there: Vec<(usize, &str)> =
            roster.links.iter().map(|link| (link.number, &*link.host)).collect();
        there.sort_unstable();
        let there: Vec<String> = there
            .into_iter()
            .map(|(number, host)| format!("{number} on {}", printable_line(host.as_bytes())))
            .collect();
        let word = printable_line(word.as_bytes());
        match there.is_empty() {
            true => format!("there is no worker `{word}`: none is connected just now"),
            false => format!("there is no worker `{word}`; connected are: {}", there.join(", ")),
        }
    }

    /// Tells every worker. One that takes nothing doesn't keep the others waiting.
    pub(super) fn broadcast(self: &Arc<Hub>, message: &WireMessage) {
        let mut roster = self.roster();
        let links = roster.links.clone();
        for link in links {
            let message = message.clone();
            let told = std::thread::Builder::new()
                .name("messenger".to_owned())
                .spawn(move || drop(link.line.send(&message, &[])));
            // Without a thread it is told by its connection's end.
            roster.threads.extend(told);
        }
    }

    /// Breaks off with everybody who is still there, and waits for all threads.
    pub(super) fn finish(&self) {
        let roster = std::mem::take(&mut *self.roster());
        for link in &roster.links {
            link.line.break_off("the run is over");
        }
        for thread in roster.threads {
            let _ = thread.join();
        }
    }
}

fn worker_name(host: &str, number: usize) -> String {
    match host {
        "" => format!("worker {number}"),
        host => format!("worker {number} on {}", printable_line(host.as_bytes())),
    }
}

/// What becomes of so many steps that were running.
fn again(running: usize) -> String {
    match running {
        0 => String::new(),
        1 => "; its step runs again".to_owned(),
        n => format!("; its {n} steps run again"),
    }
}

fn refuse(mut stream: TcpStream, why: String) {
    // Whether it hears that or not, it leaves.
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let _ = wire::write(&mut stream, &WireMessage::Refused { why }, &[]);
}
