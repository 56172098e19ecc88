//! Everything that the threads of a coordinator share: who is there, who was lost, and what each worker is told.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::exec::{News, Tell};
use crate::object::to_hex;
use crate::stop::{Stop, StopSwitch};
use crate::store::Store;
use crate::text::printable_line;

use super::door::Guest;
use super::line::{Inbox, Line, NewLine, PATIENCE};
use super::link::Link;
use super::places::{Berth, Places, Room};
use super::secret::{Secret, Side};
use super::wire::{self, Hello, Terms, WireMessage};

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
    pub(super) tell: Tell,
    pub(super) events: flume::Sender<FleetEvent>,
    /// How many there are of what `--have` names, on each worker.
    pub(super) have: Vec<usize>,
    /// `--memory`, of each worker.
    pub(super) memory: Option<u64>,
    /// Each worker was named, or is a process of this machine, so that its losses say nothing about others.
    pub(super) counts_workers: bool,
    pub(super) tickets: AtomicU64,
    pub(super) is_over: AtomicBool,
    pub(super) roster: Mutex<Roster>,
}

/// Who is there.
#[derive(Default)]
pub(super) struct Roster {
    links: Vec<Arc<Link>>,
    losses: HashMap<String, u32>,
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
        let losses = self.roster().losses.get(&self.key(host, number)).copied();
        losses.unwrap_or(0) >= MOST_LOSSES
    }

    /// Hosts that get no more steps.
    pub(super) fn excluded(&self) -> Vec<String> {
        let roster = self.roster();
        let lost = roster.losses.iter().filter(|(_, losses)| **losses >= MOST_LOSSES);
        let mut hosts: Vec<String> = lost.map(|(host, _)| host.clone()).collect();
        hosts.sort_unstable();
        hosts
    }

    /// Counts the loss of a worker, and tells of it.
    pub(super) fn lose(&self, host: &str, number: usize, why: &str, running: usize) {
        let mut roster = self.roster();
        let losses = roster.losses.entry(self.key(host, number)).or_default();
        *losses += 1;
        let is_last = *losses == MOST_LOSSES;
        drop(roster);
        let name = match host {
            "" => format!("worker {number}"),
            host => format!("worker {number} on {}", printable_line(host.as_bytes())),
        };
        let mut text = format!("{name} was lost: {}", printable_line(why.as_bytes()));
        match running {
            0 => {}
            1 => text += "; its step runs again",
            n => text += &format!("; its {n} steps run again"),
        }
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
            (Some(why), _) => return refuse(stream, why),
            (None, Err(err)) => return refuse(stream, format!("the system refuses: {err}")),
        };
        drop(stream);
        let nonce = hello.nonce.as_bytes();
        let proof = to_hex(&self.secret.prove(Side::Coordinator, nonce, &said));
        let welcome = WireMessage::Welcome { proof, terms: self.terms.clone() };
        let link = Arc::new(Link::new(Arc::clone(&line), &hello));
        if line.send(&welcome, &[]).is_err() {
            return;
        }
        let mut inboxes = Some(inboxes);
        let mut member = None;
        // It has said that it goes; true: because of a trouble of its own.
        let mut leaving = None;
        let mut is_drained = false;
        let why = line.read(senders, |message| match message {
            WireMessage::Beat => Ok(()),
            WireMessage::Ready => {
                let Some(inboxes) = inboxes.take() else { return Ok(()) };
                member = Some(self.join(&link, &hello, inboxes)?);
                Ok(())
            }
            WireMessage::Leaving { why, is_trouble } => {
                leaving = Some(is_trouble);
                Err(why)
            }
            WireMessage::Drain { why } => {
                is_drained = true;
                let host = printable_line(link.host.as_bytes());
                let why = printable_line(why.as_bytes());
                self.note(format!(
                    "worker {number} on {host} takes no more steps: {why}",
                    number = link.number
                ));
                member.iter().for_each(|member| self.places.leave(*member));
                Ok(())
            }
            _ => Err("it said what no worker says".to_owned()),
        });
        let running = link.running();
        if let Some(member) = member {
            self.places.remove(member);
        }
        self.roster().links.retain(|other| !Arc::ptr_eq(other, &link));
        let is_dismissed = is_drained && running == 0;
        let is_loss = leaving != Some(false) && !is_dismissed && !self.is_over();
        if is_loss {
            self.lose(&link.host, link.number, &why, running);
        }
        let has_gone = leaving.is_some() || is_dismissed;
        let _ = self.events.send(FleetEvent::Left { number: link.number, has_gone });
    }

    /// A worker is ready. Gives its number among the places.
    fn join(&self, link: &Arc<Link>, hello: &Hello, inboxes: Vec<Inbox>) -> Result<u64, String> {
        let mut roster = self.roster();
        for old in roster.links.iter().filter(|old| old.number == link.number) {
            if (&old.host, old.pid) != (&link.host, link.pid) {
                return Err("its place is taken".to_owned());
            }
            // It has come back before it was missed.
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
        let memory = self.memory.or(hello.memory).unwrap_or(u64::MAX);
        let room = Room { cpus: link.slots, memory, uses: self.have.clone() };
        let slots = inboxes.into_iter().enumerate();
        let slots =
            slots.map(|(number, inbox)| Berth::There { link: Arc::clone(link), number, inbox });
        let member = self.places.add(room, slots.collect());
        let _ = self.events.send(FleetEvent::Joined(link.number));
        Ok(member)
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

fn refuse(mut stream: TcpStream, why: String) {
    // Whether it hears that or not, it leaves.
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let _ = wire::write(&mut stream, &WireMessage::Refused { why }, &[]);
}
