//! Care for what is kept: `verify` finds damage, `repair` undoes it, `gc` frees what nothing needs,
//! and recovery looks again at what a power cut may have spoilt. Each is gather, then apply: a finding is
//! a value with a place and a remedy, and what is done is what was shown.

mod gc;
mod recover;
mod repair;
mod verify;

pub use gc::{Freed, GcOptions, gc};
pub use recover::recover;
pub use repair::{Repair, RepairReport, RunAgain, ScriptLimits, get_back, repair, set_aside};
pub use verify::{Depth, Finding, Remedy, Verified, verify};
