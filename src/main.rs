//! argv in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    task_pipeline::commands::main(std::env::args_os())
}
