//! Starts a program that takes on rules of `landlock` between its start and its first instruction.
//!
//! std can do that only by fork, which copies the page tables of the runner: 34 % on top of a start of `sh`. A thread
//! that takes on the rules and starts programs from within costs 10 %, and is a hole: the programs would be
//! in the same domain as the thread, so they could trace it, and write into our memory. So it is done as
//! posix_spawn(3) does it: the child has our memory and a stack of its own, and we wait until it has a program. 3 %.
//!
//! What runs in the child makes system calls and reads what was laid ready for it: it takes no lock and no memory,
//! since another thread may be in the middle of that.

use std::ffi::{CString, OsStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit};

/// Bytes of the child's stack: it calls nothing deep.
const STACK: usize = 64 << 10;

/// Signals are numbered from 1 up to this.
const SIGNALS: c_int = 64;

/// What a confined program is given besides its command.
pub struct Confined<'a> {
    /// `$0` of the program.
    pub name: &'a str,
    pub stdin: BorrowedFd<'a>,
    /// stdout and stderr.
    pub output: BorrowedFd<'a>,
    /// Descriptors that it inherits under their numbers.
    pub handed_down: &'a [RawFd],
    /// Its limit of open files, if it is not ours.
    pub open_files: Option<Rlimit>,
    /// What it may reach.
    pub rules: BorrowedFd<'a>,
}

/// Everything that the child reads, and the one thing that it writes.
struct Child<'a> {
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    folder: *const c_char,
    given: &'a Confined<'a>,
    /// Its error, and 0 as long as there is none.
    error: c_int,
}

/// Starts a command confined: its program, arguments, folder and variables, which have to be all of its environment;
/// as the leader of a new process group. Returns its number.
///
/// # Errors
/// As for [`Command::spawn`]; those of landlock_restrict_self(2).
pub fn spawn(command: &Command, confined: &Confined<'_>) -> io::Result<i32> {
    let program = text(command.get_program())?;
    let folder = match command.get_current_dir() {
        Some(folder) => text(folder.as_os_str())?,
        None => c".".to_owned(),
    };
    let name = text(OsStr::new(confined.name))?;
    let arguments: Vec<CString> =
        std::iter::once(Ok(name)).chain(command.get_args().map(text)).collect::<io::Result<_>>()?;
    let variable = |(name, value): (&OsStr, Option<&OsStr>)| {
        Some(text(OsStr::from_bytes(&[name.as_bytes(), b"=", value?.as_bytes()].concat())))
    };
    let environment: Vec<CString> =
        command.get_envs().filter_map(variable).collect::<io::Result<_>>()?;
    let (arguments, environment) = (pointers(&arguments), pointers(&environment));
    let mut child = Child {
        program: program.as_ptr(),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        folder: folder.as_ptr(),
        given: confined,
        error: 0,
    };
    let mut stack = vec![0u128; STACK / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let masked = Masked::all()?;
    // SAFETY: the stack is the child's alone and its end is aligned; `child` and all that it leads to live until the
    // call returns, which is after the child has left our memory; no signal handler of ours can run there.
    let pid = unsafe { libc::clone(run, top, flags, (&raw mut child).cast()) };
    let failed = io::Error::last_os_error();
    drop(masked);
    if pid < 0 {
        return Err(failed);
    }
    if child.error != 0 {
        super::reap(pid)?;
        return Err(io::Error::from_raw_os_error(child.error));
    }
    Ok(pid)
}

fn text(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

/// A list that ends with a null, as execve takes it.
fn pointers(list: &[CString]) -> Vec<*const c_char> {
    list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// No signal reaches this thread while this lives.
struct Masked(libc::sigset_t);

impl Masked {
    fn all() -> io::Result<Masked> {
        // SAFETY: a signal set is plain data, for which all zeros is a value.
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        // SAFETY: both sets are writable, and the first is filled before it is read.
        let failed = unsafe {
            libc::sigfillset(&mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before)
        };
        if failed == 0 { Ok(Masked(before)) } else { Err(io::Error::from_raw_os_error(failed)) }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        // SAFETY: the set is the one that the thread had before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, std::ptr::null_mut()) };
    }
}

/// The child, from its first instruction to its program.
extern "C" fn run(child: *mut c_void) -> c_int {
    // SAFETY: it leads to the `Child` of `spawn`, whose thread sleeps until this process is gone from its memory.
    let child = unsafe { &mut *child.cast::<Child<'_>>() };
    child.error = become_program(child).raw_os_error().unwrap_or(libc::EIO);
    // SAFETY: ends this process alone, and runs nothing before.
    unsafe { libc::_exit(127) }
}

/// Returns only if something failed.
fn become_program(child: &Child<'_>) -> io::Error {
    let Confined { stdin, output, handed_down, open_files, rules, .. } = child.given;
    // SAFETY, for all of them: system calls about this process alone, whose descriptors, signal handlers and limits
    // are no longer its parent's. The pointers were laid ready by `spawn`.
    let check = |result: c_int| {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    let steps = || -> io::Result<()> {
        // SAFETY: see above.
        unsafe {
            check(libc::setpgid(0, 0))?;
            for (from, to) in [(*stdin, 0), (*output, 1), (*output, 2)] {
                check(libc::dup2(from.as_raw_fd(), to))?;
            }
            for fd in *handed_down {
                check(libc::fcntl(*fd, libc::F_SETFD, 0))?;
            }
            check(libc::chdir(child.folder))?;
        }
        if let Some(limit) = *open_files {
            rustix::process::setrlimit(Resource::Nofile, limit)?;
        }
        confine(*rules)?;
        // SAFETY: see above.
        unsafe {
            forget_handlers();
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            check(libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut()))?;
            check(libc::execve(child.program, child.arguments, child.environment))
        }
    };
    steps().err().unwrap_or_else(|| io::Error::from_raw_os_error(libc::EIO))
}

/// All that a child has to do in order to take on rules, whoever starts it.
fn confine(rules: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: changes a flag of this process, which no program that it runs gets rid of.
    let locked = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    // SAFETY: the descriptor is borrowed, so open; there is no pointer.
    let is_confined = locked == 0
        && unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0u32) } == 0;
    if is_confined { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Signals that we handle get their default effect, before one can arrive; ignored ones stay ignored. SIGPIPE, which
/// Rust ignores, gets it too, as std does it.
///
/// # Safety
/// For a process whose signal handlers nobody else has.
unsafe fn forget_handlers() {
    for signal in 1..=SIGNALS {
        // SAFETY: all zeros is the default effect; what can't be asked for or changed gives an error and no harm.
        unsafe {
            let mut found: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(signal, std::ptr::null(), &mut found) == 0
                && found.sa_sigaction != libc::SIG_DFL
                && (found.sa_sigaction != libc::SIG_IGN || signal == libc::SIGPIPE)
            {
                let default: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, &default, std::ptr::null_mut());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::super::landlock::{Allowed, Rules};
    use super::*;

    #[test]
    #[allow(clippy::print_stderr, reason = "says that it was left out")]
    fn a_confined_program_reads_what_is_allowed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "secret\n").unwrap();
        let mut rules = match Rules::new(false) {
            Ok(rules) => rules,
            Err(err) => return eprintln!("SKIPPED: this kernel has no Landlock: {err}"),
        };
        for place in ["/usr", "/bin", "/lib", "/lib64", "/etc"] {
            if let Ok(place) = File::open(place) {
                rules = rules.allow(place.as_fd(), Allowed::Read).unwrap();
            }
        }
        let rules = rules.finish().unwrap();
        let null = File::open("/dev/null").unwrap();
        let mut command = Command::new("/bin/sh");
        let script = "echo $0 $A; pwd; cat secret; ulimit -n; trap";
        command.args(["-c", script, "zero"]).current_dir(dir.path()).env_clear().env("A", "b c");
        let (mut read, write) = io::pipe().unwrap();
        let confined = Confined {
            name: "sh",
            stdin: null.as_fd(),
            output: write.as_fd(),
            handed_down: &[],
            open_files: Some(Rlimit { current: Some(77), maximum: Some(77) }),
            rules: rules.as_fd(),
        };
        let pid = spawn(&command, &confined).unwrap();
        assert!(super::super::reap(pid).unwrap().status.success());
        command = Command::new("/bin/sh");
        command.arg("-c").arg("exit").current_dir(dir.path().join("nowhere"));
        let failed = spawn(&command, &confined).unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(libc::ENOENT));
        drop(write);
        let mut told = String::new();
        read.read_to_string(&mut told).unwrap();
        let at = dir.path().display();
        let wanted = format!("zero b c\n{at}\ncat: secret: Permission denied\n77\n");
        assert_eq!(told, wanted);
    }
}
