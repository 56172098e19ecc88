//! `gc`: removes what is no longer needed.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};
use serde::Serialize;

use crate::cli::values::{default_db, path, time};
use crate::db::History;
use crate::error::{Result, exit};
use crate::maintain::{self, Freed, GcOptions};
use crate::object::ObjectHash;
use crate::text::{counted, path_bytes, printable, size};

use super::Command;
use super::answer::{self, Answer};

const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Remove objects that are no longer needed.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "gc")]
#[argh(
    note = "An object is needed if a live step works on it, made it, or printed it, or, with a depfile, made it before of \
    the files as they are now. The records of older steps \
    stay; if such a step is live again later, it runs again when its results are gone."
)]
pub struct GcArgs {
    /// the database folder; default: ./db
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// only show what would be removed
    #[argh(switch, short = 'n')]
    pub dry_run: bool,

    /// keep everything younger than this; default: 24h
    #[argh(option, arg_name = "TIME", from_str_fn(time), default = "DEFAULT_GRACE")]
    pub grace: Duration,

    /// also keep the results of all earlier runs: remove only what nothing refers to
    #[argh(switch)]
    pub keep_history: bool,

    /// also keep the results of the last N runs; default: 0
    #[argh(option, arg_name = "N", default = "0")]
    pub history: u32,

    /// if another run holds the database, wait until it ends
    #[argh(switch)]
    pub wait: bool,

    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

impl Command for GcArgs {
    fn db(&self) -> &Path {
        &self.db
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        match self.keep_history && self.history > 0 {
            true => Err("--keep-history keeps the results of all runs: drop --history"),
            false => Ok(()),
        }
    }

    fn execute(&self) -> Result<u8> {
        let (_lock, db, store) = super::open_to_change(&self.db, self.wait)?;
        let history = if self.keep_history { History::All } else { History::Runs(self.history) };
        let options = GcOptions { dry_run: self.dry_run, grace: self.grace, history };
        let freed = maintain::gc(&db, &store, options)?;
        answer::give(&Garbage::of(&freed, !self.dry_run), self.json)?;
        Ok(exit::OK)
    }
}

/// The answer.
#[derive(Serialize)]
struct Garbage {
    objects: Vec<ObjectHash>,
    /// Files in the store that are no objects, made printable.
    strays: Vec<String>,
    /// Of objects and strays together.
    bytes: u64,
    /// False for `--dry-run`.
    removed: bool,
    /// Bytes of each of `objects`.
    #[serde(skip)]
    object_sizes: Vec<u64>,
    /// Bytes of each of `strays`.
    #[serde(skip)]
    stray_sizes: Vec<u64>,
}

impl Garbage {
    fn of(freed: &Freed, removed: bool) -> Garbage {
        let stray = |path: &PathBuf| printable(path_bytes(path)).into_owned();
        Garbage {
            objects: freed.objects.iter().map(|(object, _)| *object).collect(),
            strays: freed.strays.iter().map(|(path, _)| stray(path)).collect(),
            bytes: freed.bytes(),
            removed,
            object_sizes: freed.objects.iter().map(|(_, bytes)| *bytes).collect(),
            stray_sizes: freed.strays.iter().map(|(_, bytes)| *bytes).collect(),
        }
    }
}

impl Answer for Garbage {
    fn text(&self, out: &mut dyn Write) -> std::io::Result<()> {
        if !self.removed {
            for (object, bytes) in self.objects.iter().zip(&self.object_sizes) {
                writeln!(out, "object {object}, {}", size(*bytes))?;
            }
            for (path, bytes) in self.strays.iter().zip(&self.stray_sizes) {
                writeln!(out, "stray {path}, {}", size(*bytes))?;
            }
        }
        writeln!(
            out,
            "{} {} and {}, {}",
            if self.removed { "removed" } else { "would remove" },
            counted(self.objects.len(), "object"),
            counted(self.strays.len(), "stray"),
            size(self.bytes)
        )
    }
}
