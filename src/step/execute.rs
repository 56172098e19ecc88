//! The sequence: input, script, leftovers, log, outputs, and everything tidy for the next step.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::input::Laid;
use super::log;
use super::outputs::{Unkept, Walk};
use super::process::{self, End};
use super::scratch::Scratch;
use super::supervisor::{Cause, Supervisor};
use super::{Attempt, PlacedOutput, Report};
use crate::attempt::{Outcome, Usage};
use crate::error::Result;
use crate::stop::Stop;
use crate::store::Store;
use crate::text::printable;

/// Makes one attempt and tells all there is to know of it. `on_exit` is called exactly once, at the
/// latest before this returns: when the script and all it started have ended, and only bookkeeping is
/// left. It is told the outcome as far as it is known then: an output may still be refused.
///
/// A script that fails, in whatever way, is an answer ([`Report::outcome`]). An error is our own failure
/// and tells nothing of the step; its scratch is replaced before the next one.
///
/// # Errors
/// [`Error::Damaged`](crate::error::Error::Damaged) if an input object is missing or not what its
/// name says; [`Error::Io`](crate::error::Error::Io) if a system call fails, for want of space say.
pub fn execute(
    scratch: &mut Scratch,
    store: &Store,
    supervisor: &Supervisor,
    attempt: &Attempt,
    on_exit: &mut dyn FnMut(&Outcome),
) -> Result<Report> {
    let mut script_ended = Once(Some(on_exit));
    let mut report = Report::of(Outcome::Cancelled);
    if supervisor.stop() >= Stop::Term {
        return Ok(report);
    }
    let done = Execution { scratch, store, supervisor, attempt, report: &mut report }
        .run(&mut script_ended);
    if let Err(err) = done {
        scratch.spoil();
        return Err(err);
    }
    Ok(report)
}

impl Report {
    /// Of an attempt that did not get as far as its script.
    pub fn of(outcome: Outcome) -> Report {
        Report {
            outcome,
            started_ms: now_ms(),
            usage: Usage::default(),
            outputs: Vec::new(),
            log: None,
            warnings: Vec::new(),
            damaged_inputs: Vec::new(),
            full_disk: None,
        }
    }
}

/// Calls a function once, at the latest when it is dropped.
struct Once<'a>(Option<&'a mut dyn FnMut(&Outcome)>);

impl Once<'_> {
    fn call(&mut self, outcome: &Outcome) {
        if let Some(function) = self.0.take() {
            function(outcome);
        }
    }
}

impl Drop for Once<'_> {
    fn drop(&mut self) {
        self.call(&Outcome::Cancelled);
    }
}

struct Execution<'a> {
    scratch: &'a mut Scratch,
    store: &'a Store,
    supervisor: &'a Supervisor,
    attempt: &'a Attempt,
    report: &'a mut Report,
}

impl Execution<'_> {
    fn run(mut self, script_ended: &mut Once<'_>) -> Result<()> {
        self.scratch.renew()?;
        let laid = self.scratch.lay(self.store, &self.attempt.input)?;
        self.scratch.room.prepare_output(laid.name.as_encoded_bytes())?;
        self.report.started_ms = now_ms();
        let start = Instant::now();
        let Scratch { launcher, room, .. } = &mut *self.scratch;
        self.report.outcome = match launcher.launch(self.attempt, room, &laid)? {
            Err(sentence) => Outcome::NotStarted(sentence),
            Ok(leader) => {
                let (timeout, path) = (self.attempt.timeout, &room.path);
                let end = process::see_out(self.supervisor, leader, start, timeout, path)?;
                self.report.usage = end.usage;
                let outcome = self.outcome(&end);
                self.report.warnings.extend(end.leftovers.warning);
                if end.leftovers.were_ended {
                    // Whoever was ended may have passed a descriptor on.
                    self.scratch.spoil();
                }
                outcome
            }
        };
        script_ended.call(&self.report.outcome);
        if matches!(self.report.outcome, Outcome::Exited(_) | Outcome::Signalled(_)) {
            self.report.full_disk = self.scratch.room.lack_of_space();
        }
        self.take_inputs_back(&laid)?;
        let taken = self.take_what_it_left();
        for (lent, _) in laid.lent {
            lent.end(self.store)?;
        }
        taken
    }

    /// Log and outputs; then everything is tidy for the next step.
    fn take_what_it_left(&mut self) -> Result<()> {
        self.report.log = self.scratch.keep_log(self.store, log::CAP)?;
        if self.report.outcome == Outcome::Succeeded {
            match self.take_outputs() {
                Ok(outputs) => self.report.outputs = outputs,
                Err(Unkept::Refused(sentence)) => self.report.outcome = Outcome::Refused(sentence),
                Err(Unkept::Failed(err)) => return Err(err),
            }
        }
        // That it can't be tidied is no failure of the step: the next one gets new folders.
        let is_taken = self.report.outcome == Outcome::Succeeded;
        if self.scratch.is_spoiled() || self.scratch.tidy(is_taken).is_err() {
            self.scratch.spoil();
        }
        Ok(())
    }

    fn outcome(&self, end: &End) -> Outcome {
        match (end.cause, self.attempt.timeout) {
            (Some(Cause::TimedOut), Some(limit)) => return Outcome::TimedOut(Some(limit)),
            (Some(_), _) => return Outcome::Cancelled,
            (None, _) => {}
        }
        from_status(end.status)
    }

    /// Ends the loan of large inputs, and tells which of them did not come back as they were.
    fn take_inputs_back(&mut self, laid: &Laid) -> Result<()> {
        for (lent, path) in &laid.lent {
            if !lent.take_back(self.store, self.scratch.room.input.fd(), path)? {
                self.report.damaged_inputs.push(lent.object);
                let name = printable(path);
                let sentence = format!(
                    "INPUT_FILE (`{name}`) was modified, and large inputs are not private copies; \
                     copy it first: cp \"$INPUT_FILE\" \"$TMPDIR\"/ && chmod u+w \"$TMPDIR\"/*"
                );
                if self.report.outcome == Outcome::Succeeded {
                    self.report.outcome = Outcome::Refused(sentence);
                } else {
                    self.report.warnings.push(sentence);
                }
            }
        }
        Ok(())
    }

    fn take_outputs(&mut self) -> Result<Vec<PlacedOutput>, Unkept> {
        let user = self.scratch.user;
        let Scratch { room, buffer, .. } = &mut *self.scratch;
        Walk {
            store: self.store,
            output: &room.output,
            user,
            small: &mut room.small,
            prepared: &room.prepared,
            buffer,
            warnings: &mut self.report.warnings,
            outputs: Vec::new(),
            path: Vec::new(),
        }
        .run()
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

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
