//! The page about a pipeline; like `args`, its comments are the help.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

use super::values::{default_db, path};

/// Write a page about where things stand, how the last run went and why steps failed.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "report")]
#[argh(
    note = "It is one HTML file that needs neither a network nor scripts, and stays small however many steps there \
    are. Works during a run too."
)]
pub struct Report {
    /// where results are kept, only read; ./db if not given
    #[argh(option, arg_name = "DIR", from_str_fn(path), default = "default_db()")]
    pub db: PathBuf,

    /// the page; - is standard output; report.html if not given
    #[argh(option, short = 'o', arg_name = "FILE", from_str_fn(path), default = "default_page()")]
    pub output: PathBuf,
}

fn default_page() -> PathBuf {
    PathBuf::from("report.html")
}
