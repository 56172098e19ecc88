//! An attempt's outcome in words: for the database, and for people.

use crate::step::Outcome;

/// An outcome as the table `attempt` has it: (word, code, detail).
pub(super) fn words(outcome: &Outcome) -> (&'static str, Option<i32>, Option<String>) {
    match outcome {
        Outcome::Succeeded => ("ok", None, None),
        Outcome::Exited(code) => ("exit", Some(*code), None),
        Outcome::Signalled(signal) => ("signal", Some(*signal), None),
        Outcome::TimedOut(_) => ("timeout", None, None),
        Outcome::Refused(why) => ("refused", None, Some(why.clone())),
        Outcome::NotStarted(why) => ("start", None, Some(why.clone())),
        Outcome::Cancelled => ("cancelled", None, None),
    }
}

/// For people.
pub(super) fn why(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded => "succeeded".to_owned(),
        Outcome::Exited(code) => format!("exit code {code}"),
        Outcome::Signalled(9) => "killed by signal 9 (SIGKILL), maybe out of memory".to_owned(),
        Outcome::Signalled(signal) => match signal_hook::low_level::signal_name(*signal) {
            Some(name) => format!("killed by signal {signal} ({name})"),
            None => format!("killed by signal {signal}"),
        },
        Outcome::TimedOut(limit) => format!("timed out after {}", crate::text::span(*limit)),
        Outcome::Refused(why) | Outcome::NotStarted(why) => why.clone(),
        Outcome::Cancelled => "cancelled".to_owned(),
    }
}
