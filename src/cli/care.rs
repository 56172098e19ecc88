//! The commands that look after what is kept; like `args`, their comments are the help.

use std::path::PathBuf;
use std::time::Duration;

use argh::{ArgsInfo, FromArgs};

use super::values::{DEFAULT_GRACE, default_db, path, share, time};

/// Find damage: missing objects, changed bytes, a broken database.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "verify")]
#[argh(
    note = "The exit code is 65 if anything is wrong; `task-pipeline repair` undoes what it can."
)]
pub struct Verify {
    /// where results are kept; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// hash the bytes too, of all objects or of a random part of them: --data or --data=5%
    #[argh(option, arg_name = "SHARE", from_str_fn(share))]
    pub data: Option<f64>,

    /// as JSON
    #[argh(switch)]
    pub json: bool,
}

/// Get damaged or missing objects back: from their input files, or by running their steps again.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "repair")]
#[argh(
    note = "Bad bytes are kept in DB/quarantine. A step that makes something else this time is reported and \
    changes nothing. The exit code is 65 if anything could not be got back."
)]
pub struct Repair {
    /// where results are kept; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// look for missing objects and wrong sizes only, without hashing all bytes
    #[argh(switch)]
    pub quick: bool,

    /// if another run holds the database, wait for its end
    #[argh(switch)]
    pub wait: bool,

    /// as JSON
    #[argh(switch)]
    pub json: bool,
}

/// Remove objects that nothing needs any more.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "gc")]
#[argh(
    note = "Needed is what live steps work on, made or printed. The record of older steps stays; one \
    that comes alive again runs again if its results are gone."
)]
pub struct Gc {
    /// where results are kept; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// only say what would be removed
    #[argh(switch, short = 'n')]
    pub dry_run: bool,

    /// keep what is younger than this; 24h if not given
    #[argh(option, arg_name = "TIME", from_str_fn(time), default = "DEFAULT_GRACE")]
    pub grace: Duration,

    /// old results are needed too: remove only what nothing refers to
    #[argh(switch)]
    pub keep_history: bool,

    /// results of the last N runs are needed too; 0 if not given
    #[argh(option, arg_name = "N", default = "0")]
    pub history: u32,

    /// if another run holds the database, wait for its end
    #[argh(switch)]
    pub wait: bool,

    /// as JSON
    #[argh(switch)]
    pub json: bool,
}
