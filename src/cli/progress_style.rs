//! `--progress`.

use argh::FromArgValue;

/// How a run shows how far it is.
#[derive(FromArgValue, Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressStyle {
    /// A bar on a terminal that can draw one, otherwise plain lines.
    Auto,
    /// A line per step, for a file or the log of a build.
    Plain,
    /// A bar at the bottom, redrawn. Where no terminal is, it is drawn for one of 80 columns.
    Bar,
    /// No line per step: the beginning, failures and the end.
    None,
}
