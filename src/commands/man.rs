//! `man`: the manual page.

use argh::{ArgsInfo, FromArgs};

use crate::error::{Result, exit};

use super::{Command, answer, command_line};

/// Print the manual page, in roff.
#[derive(FromArgs, ArgsInfo, Debug, PartialEq)]
#[argh(subcommand, name = "man")]
#[argh(note = "To read it: task-pipeline man | man -l -. To install it: into \
    share/man/man1/task-pipeline.1.")]
pub struct ManArgs {}

impl Command for ManArgs {
    fn execute(&self) -> Result<u8> {
        answer::write(|out| out.write_all(command_line().manual().as_bytes()))?;
        Ok(exit::OK)
    }
}
