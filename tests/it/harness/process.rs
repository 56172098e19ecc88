//! A run of the binary: how it is called, and what is expected of how it ends.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::files::{sorted, tree};
use super::{Project, schema};

/// Nothing in a test takes as long as this unless it hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// A command line with its surroundings.
pub(crate) struct Call {
    project: Project,
    command: Command,
    stdin: Vec<u8>,
}

impl Call {
    pub(super) fn new(project: &Project, command: Command) -> Call {
        Call { project: project.clone(), command, stdin: Vec::new() }
    }

    pub(crate) fn env(self, name: &str, value: &str) -> Call {
        self.env_bytes(name, value.as_bytes())
    }

    pub(crate) fn env_bytes(mut self, name: &str, value: &[u8]) -> Call {
        self.command.env(name, OsStr::from_bytes(value));
        self
    }

    pub(crate) fn dir(mut self, name: &str) -> Call {
        self.command.current_dir(self.project.path(name));
        self
    }

    pub(crate) fn stdin(mut self, bytes: &str) -> Call {
        self.stdin = bytes.as_bytes().to_vec();
        self.command.stdin(Stdio::piped());
        self
    }

    /// With an open file as its standard input.
    pub(crate) fn stdin_from(mut self, file: impl Into<Stdio>) -> Call {
        self.command.stdin(file);
        self
    }

    /// With these redirections, as a shell writes them.
    pub(crate) fn redirected(self, redirections: &str) -> Call {
        self.by_shell(&format!("exec \"$0\" \"$@\" {redirections}"))
    }

    /// After a line of shell.
    pub(crate) fn shell(self, line: &str) -> Call {
        self.by_shell(&format!("{line}; exec \"$0\" \"$@\""))
    }

    fn by_shell(mut self, line: &str) -> Call {
        let mut shell = Command::new("sh");
        shell.args(["-c", line]);
        shell.arg(self.command.get_program()).args(self.command.get_args());
        shell.current_dir(self.command.get_current_dir().unwrap()).env_clear();
        shell.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::null());
        self.command = shell;
        self
    }

    /// Runs it to its end.
    pub(crate) fn go(self) -> Ran {
        self.start().end()
    }

    /// Starts it.
    pub(crate) fn start(mut self) -> Running {
        let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        self.command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let before = self.project.ledger().len();
        let mut child = self.command.spawn().unwrap();
        if let Some(mut stdin) = child.stdin.take() {
            // Whether it is read is up to the program.
            let _ = stdin.write_all(&self.stdin);
        }
        let command = format!("{:?}", self.command);
        let args = self.command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        Running { project: self.project, command, args, child: Some(child), stdout, stderr, before }
    }
}

/// A process of ours; ended if the test ends before it.
pub(crate) struct Running {
    project: Project,
    command: String,
    args: Vec<String>,
    child: Option<Child>,
    stdout: File,
    stderr: File,
    before: usize,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// What it has answered so far.
    pub(crate) fn stdout(&self) -> String {
        all_of(&self.stdout)
    }

    /// What it has said so far.
    pub(crate) fn stderr(&self) -> String {
        all_of(&self.stderr)
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > DEADLINE {
                let (stdout, stderr) = (all_of(&self.stdout), all_of(&self.stderr));
                panic!("{} hangs\nstdout:\n{stdout}\nstderr:\n{stderr}", self.command);
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        self.child = None;
        let ledger = self.project.ledger().split_off(self.before);
        let (stdout, stderr) = (all_of(&self.stdout), all_of(&self.stderr));
        Ran {
            project: self.project.clone(),
            command: self.command.clone(),
            args: std::mem::take(&mut self.args),
            status,
            stdout,
            stderr,
            ledger,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // TERM first, so that it ends its scripts; then KILL, in case it doesn't.
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            let begun = Instant::now();
            while child.try_wait().is_ok_and(|ended| ended.is_none())
                && begun.elapsed().as_secs() < 10
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A command line that came to its end.
pub(crate) struct Ran {
    project: Project,
    command: String,
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    args: Vec<String>,
    ledger: Vec<String>,
}

impl Ran {
    /// It exited with 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Ran {
        self.fails(0)
    }

    /// It exited with this code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> Ran {
        let is_so = self.status.code() == Some(code);
        self.check(is_so, &format!("exit code {code}"))
    }

    /// It died of this signal.
    #[track_caller]
    pub(crate) fn dies_of(self, signal: Signal) -> Ran {
        let is_so = self.status.signal() == Some(signal.as_raw());
        self.check(is_so, &format!("death by {signal:?}"))
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.status.success()
    }

    pub(crate) fn was_killed(&self) -> bool {
        self.status.signal() == Some(Signal::KILL.as_raw())
    }

    /// Scripts of exactly these tasks ran, each as often as it is named.
    #[track_caller]
    pub(crate) fn ran<const N: usize>(self, tasks: [&str; N]) -> Ran {
        let task = |line: &String| line.split(' ').next().unwrap().to_owned();
        let ran = sorted(self.ledger.iter().map(task));
        self.check(ran == sorted(tasks.map(str::to_owned)), &format!("scripts of {tasks:?}"))
    }

    /// Exactly these scripts ran, in any order: `task` or `task input`.
    #[track_caller]
    pub(crate) fn ran_on<const N: usize>(self, steps: [&str; N]) -> Ran {
        let ran = sorted(self.ledger.iter().cloned());
        self.check(ran == sorted(steps.map(str::to_owned)), &format!("scripts {steps:?}"))
    }

    /// Standard error contains this.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Ran {
        let is_so = self.stderr.contains(text);
        self.check(is_so, &format!("{text:?} on stderr"))
    }

    #[track_caller]
    pub(crate) fn says_nothing_of(self, text: &str) -> Ran {
        let is_so = !self.stderr.contains(text);
        self.check(is_so, &format!("no {text:?} on stderr"))
    }

    /// Standard output contains this.
    #[track_caller]
    pub(crate) fn answers(self, text: &str) -> Ran {
        let is_so = self.stdout.contains(text);
        self.check(is_so, &format!("{text:?} on stdout"))
    }

    /// Standard output, which is JSON, and as the schema of the command wants it.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        let value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|err| self.complain(&format!("JSON ({err})")));
        match schema::check(schema::of_command(&self.args), &value) {
            Ok(()) => value,
            Err(wrong) => self.complain(&wrong),
        }
    }

    #[track_caller]
    fn check(self, is_so: bool, wanted: &str) -> Ran {
        if is_so { self } else { self.complain(wanted) }
    }

    #[track_caller]
    fn complain(&self, wanted: &str) -> ! {
        let Ran { project, command, status, stdout, stderr, ledger, .. } = self;
        let tree = tree(&project.root()).join("\n");
        panic!(
            "expected {wanted}\n== command\n{command}\n== ended with\n{status}\n== ran\n{ledger:?}\n== stdout\n\
             {stdout}\n== stderr\n{stderr}\n== manifest\n{}\n== tree\n{tree}\n",
            fs::read_to_string(project.path("pipeline.toml")).unwrap_or_default()
        );
    }
}

/// By its own offset: the file's is the one at which the program goes on writing.
fn all_of(file: &File) -> String {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read_at(&mut piece, bytes.len() as u64).unwrap() {
            0 => return String::from_utf8_lossy(&bytes).into_owned(),
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}
