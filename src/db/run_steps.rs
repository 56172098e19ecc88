//! The steps of a run in numbers, as its row keeps them and as everybody tells them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::plural;

/// The live steps when a run ended. `done`, `failed` and `left` add up to `total`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSteps {
    pub total: u64,
    pub done: u64,
    /// Of those that are done: they did not have to run.
    pub reused: u64,
    pub failed: u64,
    /// Still to run, tasks that wait and have no step yet included.
    pub left: u64,
}

/// `31 steps: 26 done (3 reused), 4 failed, 1 left`
impl fmt::Display for RunSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RunSteps { total, done, reused, failed, left } = self;
        write!(f, "{total} step{}: {done} done", plural(*total))?;
        if *reused > 0 {
            write!(f, " ({reused} reused)")?;
        }
        write!(f, ", {failed} failed, {left} left")
    }
}
