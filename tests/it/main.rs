//! Tests that drive the real binary, in one test binary so that it is linked once.
//!
//! `TASK_PIPELINE_KEEP=1` keeps every test's folder and says where it is. `TASK_PIPELINE_SEED` gives a
//! test by chance the seed that another run of it showed; `TASK_PIPELINE_KILLS` and
//! `TASK_PIPELINE_ROUNDS` make `resume` and `random` last longer; `TASK_PIPELINE_SCALE=1` adds the large
//! run of `scale`; `TASK_PIPELINE_LAUNCH=fork` or `spawn` has all scripts started in this way.

#![allow(
    clippy::print_stderr,
    reason = "seeds and kept folders are shown to whoever reads the test's output"
)]

mod harness;

mod batch;
mod calls;
mod commands;
mod connections;
mod damage;
mod defaults;
mod depfile;
mod durability;
mod environment;
mod events;
mod examples;
mod exclusions;
mod explain;
mod export;
mod failure;
mod flags;
mod folder;
mod gather;
mod identity;
mod incremental;
mod inputs;
mod interrupted;
mod jobserver;
mod labels;
mod launch;
mod lineage;
mod listed;
mod lock;
mod make;
mod manifest;
mod migration;
mod narrowed;
mod numbers;
mod output;
mod outputs;
mod outside;
mod owner;
mod params;
mod plan;
mod processes;
mod published;
mod random;
mod readme;
mod reference;
mod remote;
mod report;
mod resources;
mod resume;
mod revival;
mod sandbox;
mod scale;
mod schemas;
mod start;
mod status;
mod store;
mod table;
mod terminal;
mod tidy;
mod trace;
mod watch;
mod wiring;
mod with;
mod workers;
mod world;
