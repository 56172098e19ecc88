//! The vocabulary of an attempt, from the worker that makes it to the table that keeps it and the
//! screen that shows it. Plain data: unaware of how scripts are started and rows are written.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::elsewhere::WorkerSlot;
use crate::object::ObjectHash;

/// Names of the environment variables that the program sets for a script.
pub mod var {
    /// Path of the input; for `gather`, of a list of paths.
    pub const INPUT_FILE: &str = "INPUT_FILE";
    /// Logical name of the input.
    pub const INPUT_NAME: &str = "INPUT_NAME";
    /// `gather` only: the folder of all inputs.
    pub const INPUT_DIR: &str = "INPUT_DIR";
    /// `with` only: the folder of what every step sees besides its input.
    pub const WITH_DIR: &str = "WITH_DIR";
    /// Empty folder for the outputs.
    pub const OUTPUT_DIR: &str = "OUTPUT_DIR";
    /// Private scratch folder.
    pub const TMPDIR: &str = "TMPDIR";
    /// Name of the task.
    pub const TASK_NAME: &str = "TASK_NAME";
    /// Number of the step in this database.
    pub const STEP_ID: &str = "STEP_ID";
    /// Hash of recipe and input; the same in every run and on every machine.
    pub const STEP_KEY: &str = "STEP_KEY";
    /// How many of the run's `-j` the step has.
    pub const CPUS: &str = "CPUS";
    /// Number of the attempt, from 1.
    pub const ATTEMPT: &str = "ATTEMPT";
    /// `batch` only: the folder with a folder for each step, `1`, `2` and so on.
    pub const BATCH_DIR: &str = "BATCH_DIR";

    /// All of them: names that a manifest can't give a value.
    pub const ALL: [&str; 12] = [
        INPUT_FILE, INPUT_NAME, INPUT_DIR, WITH_DIR, OUTPUT_DIR, TMPDIR, TASK_NAME, STEP_ID,
        STEP_KEY, CPUS, ATTEMPT, BATCH_DIR,
    ];

    /// Addressed to the programs that make runs itself: a script that runs make would believe that it has been
    /// given a jobserver. One that asks for it gets a jobserver, and nothing else of make's.
    pub const OF_MAKE: [&str; 9] = [
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "MAKEOVERRIDES",
        "GNUMAKEFLAGS",
        "MAKE_TERMOUT",
        "MAKE_TERMERR",
        "MAKEFILES",
        "CARGO_MAKEFLAGS",
    ];

    /// What a script gets of the caller's variables that is to have few: where its programs are, whose it is, and in
    /// what language they speak.
    pub const IN_CLEAN_ENV: [&str; 3] = ["PATH", "HOME", "LANG"];

    /// Those that differ from step to step: a script that works on a batch of them has none, and finds the values
    /// in the `step.json` of each.
    pub const OF_ONE_STEP: [&str; 7] =
        [INPUT_FILE, INPUT_NAME, INPUT_DIR, OUTPUT_DIR, STEP_ID, STEP_KEY, ATTEMPT];
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Exit code 0 and outputs that can be kept.
    Succeeded,
    /// Exit code other than 0.
    Exited(i32),
    /// Killed by this signal, not by us.
    Signalled(i32),
    /// Ended by us at its time limit. `None` if it was read from a database, which doesn't keep the limit.
    TimedOut(Option<Duration>),
    /// Ended by us because the run is stopping: says nothing about the step.
    Cancelled,
    /// Exit code 0, but an output can't be kept; the sentence names the path (escaped) and the cure.
    Refused(String),
    /// `batch`: exit code 0, but the script says that this one step has failed; with its own words, escaped.
    Reported(String),
    /// The interpreter could not be started; the sentence says why.
    NotStarted(String),
}

impl Outcome {
    /// The word for it in the table `attempt`, in JSON and in events.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Succeeded => "ok",
            Outcome::Exited(_) => "exit",
            Outcome::Signalled(_) => "signal",
            Outcome::TimedOut(_) => "timeout",
            Outcome::Cancelled => "cancelled",
            Outcome::Refused(_) => "refused",
            Outcome::Reported(_) => "reported",
            Outcome::NotStarted(_) => "start",
        }
    }

    /// Exit code or signal number, if it ended with one other than 0.
    pub fn code(&self) -> Option<i32> {
        match self {
            Outcome::Exited(code) | Outcome::Signalled(code) => Some(*code),
            _ => None,
        }
    }

    /// The sentence that says why, where there is one.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Outcome::Refused(why) | Outcome::Reported(why) | Outcome::NotStarted(why) => Some(why),
            _ => None,
        }
    }

    /// The outcome whose [`word`](Outcome::word), [`code`](Outcome::code) and [`detail`](Outcome::detail)
    /// these are; `None` for a word that this build doesn't know.
    pub fn from_parts(word: &str, code: Option<i32>, detail: Option<String>) -> Option<Outcome> {
        let (code, detail) = (code.unwrap_or_default(), detail.unwrap_or_default());
        Some(match word {
            "ok" => Outcome::Succeeded,
            "exit" => Outcome::Exited(code),
            "signal" => Outcome::Signalled(code),
            "timeout" => Outcome::TimedOut(None),
            "cancelled" => Outcome::Cancelled,
            "refused" => Outcome::Refused(detail),
            "reported" => Outcome::Reported(detail),
            "start" => Outcome::NotStarted(detail),
            _ => return None,
        })
    }

    /// True if the script ran to its end and its outputs can be kept.
    pub fn is_ok(&self) -> bool {
        *self == Outcome::Succeeded
    }

    /// True if it is the end of the script that failed, and not what it left for one of its steps: of several steps
    /// that shared the script it doesn't tell which.
    fn is_of_script(&self) -> bool {
        matches!(
            self,
            Outcome::Exited(_)
                | Outcome::Signalled(_)
                | Outcome::TimedOut(_)
                | Outcome::NotStarted(_)
        )
    }
}

/// What happened, as a user is told.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Succeeded => f.write_str("succeeded"),
            Outcome::Exited(code) => write!(f, "exit code {code}"),
            Outcome::Signalled(9) => {
                f.write_str("killed by signal 9 (SIGKILL), maybe out of memory")
            }
            Outcome::Signalled(signal) => match signal_hook::low_level::signal_name(*signal) {
                Some(name) => write!(f, "killed by signal {signal} ({name})"),
                None => write!(f, "killed by signal {signal}"),
            },
            Outcome::TimedOut(Some(limit)) => {
                write!(f, "timed out after {}", crate::text::span(*limit))
            }
            Outcome::TimedOut(None) => f.write_str("timed out"),
            Outcome::Refused(why) | Outcome::NotStarted(why) => f.write_str(why),
            Outcome::Reported(why) => write!(f, "the script says: {why}"),
            Outcome::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// How a script was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// Its interpreter was started anew.
    #[default]
    Spawn,
    /// An interpreter that was loaded already was forked.
    Fork,
}

impl Start {
    /// The word for it in JSON and in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Start::Spawn => "spawn",
            Start::Fork => "fork",
        }
    }
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// It has to run.
    Pending,
    /// Its last attempt succeeded.
    Done,
    /// Its last attempt failed; the next run tries it again.
    Failed,
}

impl StepState {
    /// The word for it on the screen and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Pending => "pending",
            StepState::Done => "done",
            StepState::Failed => "failed",
        }
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an attempt means for its step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Done,
    Failed,
    /// Failed, but to be tried again within this run.
    TryAgain,
    /// The script failed that it shared with others, which doesn't tell whose fault it is: it is tried again, by itself.
    Alone,
}

impl Verdict {
    /// True if the step is to run again within this run.
    pub fn is_again(self) -> bool {
        matches!(self, Verdict::TryAgain | Verdict::Alone)
    }
}

/// The one place that decides whether a step is tried again: `tried` attempts were made in this run before
/// this one, its task allows `retries`, and a run that `is_stopping` starts nothing more. In this one it shared its
/// script with others if `has_fellows`. `None`: the attempt says nothing about the step, which stays pending.
pub fn verdict(
    outcome: &Outcome,
    tried: u32,
    retries: u32,
    is_stopping: bool,
    has_fellows: bool,
) -> Option<Verdict> {
    match outcome {
        Outcome::Succeeded => Some(Verdict::Done),
        Outcome::Cancelled => None,
        // Also in a run that stops: then it stays pending, since nobody knows that it is to blame.
        outcome if has_fellows && outcome.is_of_script() => Some(Verdict::Alone),
        _ if tried < retries && !is_stopping => Some(Verdict::TryAgain),
        _ => Some(Verdict::Failed),
    }
}

/// What an attempt cost, including descendants that the script waited for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub wall: Duration,
    pub user: Duration,
    pub system: Duration,
    /// KiB.
    pub peak_memory: u64,
    /// What that is the memory of.
    pub peak_of: PeakOf,
}

/// What a peak of memory is the peak of. The kernel tells it of the largest process of a script only, and of that not
/// if it is smaller than whoever started it: a new process begins with the peak of the program that it replaces.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeakOf {
    /// Of the largest of the script's processes.
    #[default]
    Process,
    /// Of all of them together, added up now and then while they ran; at least that of the largest one.
    Tree,
    /// Of the runner: none of the script's processes had more, and nobody looked while they ran.
    Runner,
}

impl PeakOf {
    /// The word for it in the table `attempt`, in JSON and in events.
    pub fn as_str(self) -> &'static str {
        match self {
            PeakOf::Process => "process",
            PeakOf::Tree => "tree",
            PeakOf::Runner => "runner",
        }
    }

    /// The one of this word.
    pub fn parse(word: &str) -> Option<PeakOf> {
        [PeakOf::Process, PeakOf::Tree, PeakOf::Runner].into_iter().find(|of| of.as_str() == word)
    }
}

/// A duration in whole microseconds, the unit of every `…_us` column and JSON key.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Usage {
    /// What each of so many steps has of it.
    #[must_use]
    pub fn divided(self, steps: i64) -> Usage {
        let steps = u32::try_from(steps).unwrap_or(u32::MAX).max(1);
        let Usage { wall, user, system, .. } = self;
        Usage { wall: wall / steps, user: user / steps, system: system / steps, ..self }
    }
}

/// The place of a step among those that shared one start of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchPlace {
    /// Number of the batch in its run, from 1. Some numbers are given to nobody.
    pub number: i64,
    /// Which of its steps, from 1: that of its folder in BATCH_DIR.
    pub item: i64,
    /// How many steps there were; two at least, for one alone is by itself.
    pub size: i64,
}

/// `3 of 100 in batch 7`
impl fmt::Display for BatchPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BatchPlace { number, item, size } = self;
        write!(f, "{item} of {size} in batch {number}")
    }
}

/// An attempt that is over: a row of the table `attempt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// From 1, over all runs.
    pub number: i64,
    pub outcome: Outcome,
    /// Wall-clock start, milliseconds since 1970.
    pub started_ms: i64,
    pub usage: Usage,
    /// stdout and stderr in order; `None` if there was nothing.
    pub log: Option<ObjectHash>,
    /// From 1; at most as many as scripts at once. `None` if nobody noted it.
    pub worker: Option<i64>,
    /// The worker that made it for the run. `None`: it was made on the run's own machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<WorkerSlot>,
    /// Where it shared its script with others; usage and log are those of all of them together.
    pub batch: Option<BatchPlace>,
    pub start: Start,
}

impl AttemptRecord {
    /// Its part of what the script cost: the whole, unless it shared it. Memory is that of all.
    pub fn share(&self) -> Usage {
        self.usage.divided(self.batch.map_or(1, |batch| batch.size))
    }
}

/// An object under a name: an input of a step, or an output whose size doesn't matter.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NamedObject {
    /// Logical name: a relative path, any bytes but NUL; empty for the root object. Several inputs of one
    /// `gather` step may have the same.
    pub name: Vec<u8>,
    pub object: ObjectHash,
    /// The file has the executable bit.
    pub executable: bool,
}

/// A file that a step left in OUTPUT_DIR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Path below OUTPUT_DIR.
    pub name: Vec<u8>,
    pub object: ObjectHash,
    /// Bytes.
    pub size: u64,
    pub executable: bool,
}

impl Output {
    /// The output as the input that it becomes for others.
    pub fn named(&self) -> NamedObject {
        NamedObject { name: self.name.clone(), object: self.object, executable: self.executable }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_comes_back_from_its_columns() {
        for outcome in [
            Outcome::Succeeded,
            Outcome::Exited(3),
            Outcome::Signalled(15),
            Outcome::TimedOut(None),
            Outcome::Cancelled,
            Outcome::Refused("no".to_owned()),
            Outcome::Reported("bad sum".to_owned()),
            Outcome::NotStarted("why".to_owned()),
        ] {
            let detail = outcome.detail().map(str::to_owned);
            let back = Outcome::from_parts(outcome.word(), outcome.code(), detail);
            assert_eq!(back, Some(outcome));
        }
        assert_eq!(Outcome::from_parts("lost", None, None), None);
    }

    #[test]
    fn a_failure_is_tried_again_as_often_as_allowed_and_never_in_a_run_that_stops() {
        let failed = Outcome::Exited(1);
        assert_eq!(verdict(&failed, 0, 1, false, false), Some(Verdict::TryAgain));
        assert_eq!(verdict(&failed, 1, 1, false, false), Some(Verdict::Failed));
        assert_eq!(verdict(&failed, 0, 1, true, false), Some(Verdict::Failed));
        assert_eq!(verdict(&Outcome::Succeeded, 0, 1, true, false), Some(Verdict::Done));
        assert_eq!(verdict(&Outcome::Cancelled, 0, 1, false, false), None);
    }

    #[test]
    fn a_script_that_fails_says_nothing_of_the_steps_that_shared_it_but_what_it_left_for_each_does()
    {
        let refused = Outcome::Refused("no".to_owned());
        let reported = Outcome::Reported("bad sum".to_owned());
        for stops in [false, true] {
            for failed in [Outcome::Exited(1), Outcome::Signalled(9), Outcome::TimedOut(None)] {
                assert_eq!(verdict(&failed, 0, 0, stops, true), Some(Verdict::Alone));
            }
            assert_eq!(verdict(&refused, 0, 0, stops, true), Some(Verdict::Failed));
            assert_eq!(verdict(&reported, 0, 0, stops, true), Some(Verdict::Failed));
            assert_eq!(verdict(&Outcome::Cancelled, 0, 0, stops, true), None);
        }
        assert_eq!(verdict(&reported, 0, 1, false, true), Some(Verdict::TryAgain));
    }
}
