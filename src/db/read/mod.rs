//! What readers ask: `status`, `log`, `cat`, `export` and their like. Each question is one short read.

pub(in crate::db) mod failed_anew;
pub(in crate::db) mod queries;
pub(in crate::db) mod status;
pub(in crate::db) mod waits;
