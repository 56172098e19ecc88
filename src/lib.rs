//! The map of the house. Data flows one way: [`manifest`] → [`graph`] → plan ([`db`]) → dispatcher
//! ([`run`]) → worker ([`step`], [`store`]) → commit ([`db`]) → dispatcher. The store doesn't know
//! steps; the process doesn't know tasks; the database doesn't know scripts; only [`run`] knows them
//! all. `tests/it/tidy.rs` holds the imports to that direction.

pub mod attempt;
pub mod cli;
pub mod commands;
pub mod db;
pub mod diagnostic;
pub mod duration;
pub mod error;
pub mod exec;
pub mod graph;
pub mod ids;
pub mod jobserver;
pub mod maintain;
pub mod manifest;
pub mod names;
pub mod object;
pub mod progress;
pub mod proof;
pub mod recipe;
pub mod report;
pub mod run;
pub mod step;
pub mod stop;
pub mod store;
pub mod suggest;
pub mod sys;
pub mod text;
pub mod watch;
