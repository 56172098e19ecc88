//! Real scripts through `execute`, on a real file system.

mod batch;
mod ending;
mod inputs;
mod leftovers;
mod links;
mod outputs;
mod reach;
mod world;
