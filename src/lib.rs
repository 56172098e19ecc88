//! How the modules fit together. Data flows one way: [`manifest`] → `graph` → plan ([`db`]) → dispatcher
//! ([`run`]) → worker ([`step`], [`store`]) → commit ([`db`]) → dispatcher. The store doesn't know steps;
//! the process doesn't know tasks; the database doesn't know scripts; only [`run`] knows them all.
//! `tests/it/tidy` enforces that direction. Public is what `main`, tests and benches use.

pub mod attempt;
pub mod cli;
pub mod commands;
pub mod db;
mod dependencies;
mod depfile;
pub mod diagnostic;
mod duration;
pub mod elsewhere;
pub mod error;
pub mod exec;
mod explain;
pub mod export_path;
mod folder;
mod graph;
mod hint;
pub mod ids;
pub mod jobserver;
pub mod labels;
pub mod maintain;
pub mod manifest;
mod names;
pub mod object;
mod order;
pub mod origin;
pub mod progress;
pub mod proof;
mod recipe;
pub mod remote;
pub mod report;
pub mod run;
mod size;
pub mod step;
mod stop;
pub mod store;
mod suggest;
pub mod sys;
pub mod table;
pub mod text;
mod tokens;
pub mod watch;
