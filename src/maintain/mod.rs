//! Maintenance of what is kept: `verify` finds damage, `repair` undoes it, `gc` removes what nothing needs, and
//! recovery checks what a power cut may have damaged, and keeps what a killed run had left. Each gathers first, then applies: a finding is a value with a
//! place and a remedy, and what is done is what was shown.

mod gc;
mod inherit;
mod recover;
mod repair;
mod verify;

pub use gc::{Freed, GcOptions, gc};
pub use inherit::{inherit_logs, left_logs};
pub use recover::recover;
pub use repair::{Repair, RepairReport, RunAgain, ScriptLimits, get_back, repair, set_aside};
pub use verify::{Depth, Finding, Remedy, Verified, verify};
