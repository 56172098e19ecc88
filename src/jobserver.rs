//! GNU make's jobserver, in both directions: what a make that started us passes down (tokens, `-n`), and
//! what a script needs so that a make, cargo or ninja in it shares our tokens. Unaware of runs and steps.
//!
//! A jobserver is a pipe or FIFO with a byte for each job that may run besides the first. A process owns
//! one token from the start, reads a byte for every further job, and writes it back when that job has
//! ended. A pipe is named by the numbers of its two descriptors, and make passes these numbers even to
//! commands that don't inherit the descriptors. So they are checked before we open any file: later the
//! same numbers may be files of ours.

use std::fs::File;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use jobserver::{Client, FromEnvErrorKind};

use crate::sys;

/// What the make that started us, if any, passes down.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Its jobserver.
    pub jobserver: Option<Jobserver>,
    /// There is a jobserver, but we can't use it: what the user can do about that.
    pub out_of_reach: Option<&'static str>,
    /// Its `-j`.
    pub jobs: Option<NonZeroUsize>,
    /// `make -n`, `-q` or `-t`, which still run the recipe lines that begin with `+`.
    pub runs_nothing: bool,
}

/// A pipe or FIFO of tokens.
#[derive(Debug, Clone)]
pub struct Jobserver {
    /// Keeps the pipe.
    _client: Client,
    tokens: Arc<File>,
    address: Arc<Address>,
}

/// A token that goes back when it is dropped.
#[derive(Debug)]
pub struct LentToken {
    /// Where it came from, and goes back to.
    pub tokens: Arc<File>,
    /// make knows its tokens by their bytes.
    pub byte: u8,
}

impl Drop for LentToken {
    fn drop(&mut self) {
        // Should it fail, make says that one is missing.
        let _ = (&*self.tokens).write(&[self.byte]);
    }
}

#[derive(Debug)]
enum Address {
    /// Descriptors of this process.
    Pipe(RawFd, RawFd),
    /// Absolute path.
    Fifo(String),
}

/// What scripts are given.
#[derive(Debug)]
pub struct Share {
    /// Those that may reach everything.
    pub free: HandedDown,
    /// Those in a sandbox, which can't open descriptors of this process by path.
    pub confined: HandedDown,
    /// The FIFO that they open by its path.
    pub fifo: Option<PathBuf>,
    /// Keeps open the descriptors that paths in the variables may refer to.
    _open: Vec<OwnedFd>,
}

/// What a script is given.
#[derive(Debug, Clone)]
pub struct HandedDown {
    /// Variables for its environment.
    pub env: [(&'static str, String); 2],
    /// Descriptors that it has to inherit under the same numbers.
    pub fds: Vec<RawFd>,
}

/// Read from the environment by the first call, which has to be the first thing in `main`.
pub fn inherited() -> &'static Inherited {
    static INHERITED: OnceLock<Inherited> = OnceLock::new();
    INHERITED.get_or_init(look)
}

fn look() -> Inherited {
    let flags = std::env::var("MAKEFLAGS").unwrap_or_default();
    let found = sys::jobserver_from_env();
    let mut inherited =
        Inherited { jobs: jobs(&flags), runs_nothing: runs_nothing(&flags), ..Default::default() };
    let value = found.var.map(|(_, value)| value.to_string_lossy().into_owned());
    let address = value.as_deref().and_then(auth).and_then(address);
    match (found.client, address) {
        (Ok(client), Some(address)) if address.is_sound() => match Jobserver::open(client, address)
        {
            Ok(jobserver) => inherited.jobserver = Some(jobserver),
            Err(_) => inherited.out_of_reach = Some("it can't be opened by this user"),
        },
        (Err(err), _)
            if matches!(err.kind(), FromEnvErrorKind::NoEnvVar | FromEnvErrorKind::NoJobserver) => {
        }
        (_, Some(Address::Fifo(_))) => inherited.out_of_reach = Some("its FIFO can't be opened"),
        (_, _) => {
            inherited.out_of_reach = Some("begin this line of the recipe with `+`");
        }
    }
    inherited
}

impl Address {
    /// Opens it anew, to read tokens and write them back, so that this never waits. In other processes it still does.
    fn open(&self) -> io::Result<File> {
        let path = match self {
            Address::Pipe(read, _) => &format!("/dev/fd/{read}"),
            Address::Fifo(path) => path,
        };
        // For both: opening one end of a FIFO alone would wait for the other.
        File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)
    }

    /// Whether the descriptors are what make claims: the reading and the writing end of one pipe.
    fn is_sound(&self) -> bool {
        match *self {
            Address::Fifo(_) => true,
            Address::Pipe(read, write) => match (sys::pipe_of(read), sys::pipe_of(write)) {
                (Some(from), Some(to)) => {
                    read > 2 && write > 2 && from.can_read && to.can_write && from.id == to.id
                }
                _ => false,
            },
        }
    }
}

/// The value of the last jobserver option, which is the one that all readers of the variable use.
fn auth(flags: &str) -> Option<&str> {
    let value = |option: &str| flags.rsplit_once(option).map(|(_, rest)| rest);
    let rest = value("--jobserver-auth=").or_else(|| value("--jobserver-fds="))?;
    rest.split(' ').next()
}

fn address(auth: &str) -> Option<Address> {
    if let Some(path) = auth.strip_prefix("fifo:") {
        // Scripts have another working directory.
        let path = std::path::absolute(path).ok()?;
        return Some(Address::Fifo(path.to_str()?.to_owned()));
    }
    let (read, write) = auth.split_once(',')?;
    Some(Address::Pipe(read.parse().ok()?, write.parse().ok()?))
}

/// Most jobs of a run at once: each is a thread.
const MOST_JOBS: usize = 4096;

/// `-j8` among the words.
fn jobs(flags: &str) -> Option<NonZeroUsize> {
    let words = flags.split(' ').take_while(|word| *word != "--");
    let jobs = words.filter_map(|word| word.strip_prefix("-j")?.parse::<usize>().ok()).last()?;
    NonZeroUsize::new(jobs.min(MOST_JOBS))
}

/// Whether `n`, `q` or `t` is among the single-letter options, which come first and without a dash.
fn runs_nothing(flags: &str) -> bool {
    let letters = flags.split(' ').next().unwrap_or_default();
    letters.bytes().all(|letter| letter.is_ascii_alphabetic()) && letters.contains(['n', 'q', 't'])
}

impl Jobserver {
    /// A new jobserver for this many jobs at once; our own job is one of them.
    ///
    /// # Errors
    /// Those of pipe(2): too many open files.
    pub fn new(jobs: usize) -> io::Result<Jobserver> {
        let client = Client::new(jobs.saturating_sub(1))?;
        // The crate gives the numbers of its descriptors only to a command that is to be started.
        let mut probe = Command::new("");
        client.configure(&mut probe);
        let flags = probe.get_envs().find_map(|(_, value)| value?.to_str());
        let address = flags.and_then(auth).and_then(address);
        let address = address.ok_or_else(|| io::Error::other("the jobserver has no name"))?;
        Jobserver::open(client, address)
    }

    fn open(client: Client, address: Address) -> io::Result<Jobserver> {
        let tokens = Arc::new(address.open()?);
        Ok(Jobserver { _client: client, tokens, address: Arc::new(address) })
    }

    /// Where tokens are read from, a byte each, without waiting.
    pub fn tokens(&self) -> Arc<File> {
        Arc::clone(&self.tokens)
    }

    /// Prepares what scripts are given. It is a FIFO, which make 4.4 and newer, ninja and cargo understand;
    /// for an older make, which fails on a FIFO, it is a pipe.
    ///
    /// # Errors
    /// If there are too many open files, or the FIFO no longer exists.
    pub fn share(&self, jobs: usize) -> io::Result<Share> {
        let is_pipe = make_is_older_than_its_fifos();
        let mut open = Vec::new();
        match &*self.address {
            Address::Fifo(path) if is_pipe => {
                // For reading and writing: opening one end alone would block until the other is opened.
                for _ in 0..2 {
                    let file = File::options().read(true).write(true).open(path)?;
                    open.push(sys::duplicate_high(file.as_raw_fd())?);
                }
            }
            Address::Fifo(_) => {}
            // High numbers, because scripts use low ones themselves (`exec 3>file`).
            Address::Pipe(read, write) => {
                open.push(sys::duplicate_high(*read)?);
                open.push(sys::duplicate_high(*write)?);
            }
        }
        let numbers: Vec<RawFd> = open.iter().map(AsRawFd::as_raw_fd).collect();
        let handed = |auth: &str, fds: &[RawFd]| {
            // In make's format: the first word, empty here, is for single-letter options.
            let value = format!(" -j{jobs} {auth}");
            let env = [("MAKEFLAGS", value.clone()), ("CARGO_MAKEFLAGS", value)];
            HandedDown { env, fds: fds.to_vec() }
        };
        let mut fifo = None;
        let (free, confined) = match (&*self.address, numbers.as_slice()) {
            (_, &[read, write]) if is_pipe => {
                let auth =
                    format!("--jobserver-fds={read},{write} --jobserver-auth={read},{write}");
                let handed = handed(&auth, &numbers);
                (handed.clone(), handed)
            }
            // Under /proc our end of the pipe has a path, which works like a FIFO while we run. In a sandbox only those
            // who have inherited it have one.
            (Address::Pipe(..), &[read, _]) => {
                let of = |who: &str| format!("--jobserver-auth=fifo:/proc/{who}/fd/{read}");
                let free = handed(&of(&std::process::id().to_string()), &[]);
                (free, handed(&of("self"), &[read]))
            }
            (Address::Pipe(..), _) => return Err(io::Error::other("the jobserver is gone")),
            (Address::Fifo(path), _) => {
                fifo = Some(PathBuf::from(path));
                let handed = handed(&format!("--jobserver-auth=fifo:{path}"), &[]);
                (handed.clone(), handed)
            }
        };
        Ok(Share { free, confined, fifo, _open: open })
    }
}

/// Whether `make` is a GNU make older than 4.4, the first that knows FIFOs.
fn make_is_older_than_its_fifos() -> bool {
    let mut make = Command::new("make");
    make.arg("--version").env_remove("MAKEFLAGS").stdin(Stdio::null()).stderr(Stdio::null());
    let Ok(output) = make.output() else { return false };
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(version) = text.strip_prefix("GNU Make ") else { return false };
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < (4, 4),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_jobserver_counts() {
        assert_eq!(auth(" -j2 --jobserver-auth=3,4"), Some("3,4"));
        assert_eq!(auth("--jobserver-auth=3,4 -j --jobserver-auth=fifo:/x -k"), Some("fifo:/x"));
        assert_eq!(auth("--jobserver-fds=5,6 -j"), Some("5,6"));
        assert_eq!(auth("-j2"), None);
    }

    #[test]
    fn what_is_no_number_is_no_pipe() {
        assert!(matches!(address("3,4"), Some(Address::Pipe(3, 4))));
        for auth in ["", "3", "3,", ",4", "a,b", "99999999999,4"] {
            assert!(address(auth).is_none(), "{auth}");
        }
        assert!(!Address::Pipe(-2, -2).is_sound() && !Address::Pipe(1000, 1001).is_sound());
        assert!(matches!(address("fifo:/a"), Some(Address::Fifo(path)) if path == "/a"));
    }

    #[test]
    fn letters_are_told_from_words() {
        for flags in ["n", "kn -j2", "q", "kst -- A=b"] {
            assert!(runs_nothing(flags), "{flags}");
        }
        for flags in ["", " -j2 -n", "-n", "k", "--no-print-directory", "name=n", " -- n=1"] {
            assert!(!runs_nothing(flags), "{flags}");
        }
        assert_eq!(jobs("ks -j8 --jobserver-auth=3,4").map(NonZeroUsize::get), Some(8));
        assert_eq!(jobs(" -j --jobserver-auth=3,4 -- X=-j3 -j4"), None);
    }

    #[test]
    fn both_ends_of_two_pipes_are_none() {
        let (read, write) = io::pipe().unwrap();
        let (other, _) = io::pipe().unwrap();
        let (read, write, other) = (read.as_raw_fd(), write.as_raw_fd(), other.as_raw_fd());
        assert!(Address::Pipe(read, write).is_sound());
        assert!(!Address::Pipe(other, write).is_sound(), "two pipes");
        assert!(!Address::Pipe(write, read).is_sound(), "the wrong ends");
    }
}
