//! What `verify`, `repair`, `gc` and recovery after a power cut ask and change.

pub(in crate::db) mod gc;
pub(in crate::db) mod relist;
pub(in crate::db) mod unsynced;
pub(in crate::db) mod verify;
