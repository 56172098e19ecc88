//! Runs a command of a batch system under a time limit, since some wait for ever.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// No more of what it says is read, in bytes.
const LONGEST: u64 = 1 << 20;

/// Variables of an enclosing job, which would be taken for options; but for those that name the cluster.
const KEPT: [&str; 2] = ["SLURM_CONF", "SLURM_CLUSTERS"];

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It has ended with 0, and said this on its standard output.
    Yes(String),
    /// It has ended otherwise; the first line that it said of why.
    No(String),
    /// It was ended at its limit: a sentence. Nobody knows whether it has done its work.
    Nothing(String),
    /// It was not even started: a sentence.
    Unstarted(String),
}

/// Runs a program with these arguments and this input, until its limit or until nobody wants to know any more (`is_over`). What
/// it says is kept in files in `folder` meanwhile.
pub(super) fn run(
    program: &Path,
    args: &[String],
    input: &str,
    limit: Duration,
    folder: &Path,
    is_over: &dyn Fn() -> bool,
) -> Said {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match try_run(program, args, input, limit, folder, is_over) {
        Ok(Some((true, out, _))) => Said::Yes(out),
        Ok(Some((false, out, err))) => {
            let line = err.lines().chain(out.lines()).map(str::trim).find(|line| !line.is_empty());
            Said::No(format!("{name}: {}", line.unwrap_or("it failed and said nothing")))
        }
        Ok(None) => Said::Nothing(format!("{name} has not ended in {} s", limit.as_secs())),
        Err(err) => Said::Unstarted(format!("{name} could not be run ({err})")),
    }
}

/// Whether it succeeded, and what it said on standard output and standard error.
fn try_run(
    program: &Path,
    args: &[String],
    input: &str,
    limit: Duration,
    folder: &Path,
    is_over: &dyn Fn() -> bool,
) -> io::Result<Option<(bool, String, String)>> {
    let file = |name: &str| {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(true).open(folder.join(name))
    };
    // Files and no pipes: one that hangs may have children that keep a pipe open. The input has the secret in it.
    let (mut stdin, mut stdout, mut stderr) = (secret_file(folder)?, file("out~")?, file("err~")?);
    stdin.write_all(input.as_bytes())?;
    stdin.rewind()?;
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(stdin)
        .stdout(Stdio::from(stdout.try_clone()?))
        .stderr(Stdio::from(stderr.try_clone()?))
        .process_group(0);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_slurms =
            ["SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_"].iter().any(|word| text.starts_with(word));
        if is_slurms && !KEPT.contains(&&*text) {
            command.env_remove(&name);
        }
    }
    let mut process = command.spawn()?;
    let begun = Instant::now();
    let status = loop {
        match process.try_wait()? {
            Some(status) => break status,
            None if begun.elapsed() >= limit || is_over() => {
                // With what it has started: a wrapper's child hangs as well.
                let group = rustix::process::Pid::from_child(&process);
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
                process.wait()?;
                return Ok(None);
            }
            None => std::thread::sleep(LOOK),
        }
    };
    let read = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.take(LONGEST).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Some((status.success(), read(&mut stdout)?, read(&mut stderr)?)))
}

/// A file that nobody else can find.
fn secret_file(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join("in~");
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}
