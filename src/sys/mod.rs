//! What the operating system is asked for. Here: the system calls that neither std nor rustix has, and signals;
//! nowhere else is `unsafe`. Below: [`proc`] reads /proc, [`flock`] locks files, [`disk`] asks file systems,
//! [`landlock`] makes the rules of a sandbox, [`confined`] starts a program in it, [`clock`] tells the time,
//! [`memory`] how much room there is, [`local_socket`] finds sockets in deep folders. Unaware of what any of it is for.
#![allow(unsafe_code, reason = "thin wrappers over libc, each with its reason")]

pub mod clock;
pub mod confined;
pub mod disk;
pub mod flock;
pub mod landlock;
pub mod limits;
pub mod local_socket;
pub mod memory;
pub mod proc;

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, Rlimit};

/// What a child left when it was reaped.
#[derive(Debug, Clone, Copy)]
pub struct Reaped {
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Processor time in user mode, its waited-for descendants included.
    pub user: Duration,
    /// Processor time in the kernel, its waited-for descendants included.
    pub system: Duration,
    /// Largest resident set of any of them, in KiB.
    pub peak_memory: u64,
}

/// Reaps an ended child of this process, by its exact number; blocks if it has not ended.
///
/// # Errors
/// ECHILD if it is no child, or was reaped by somebody else.
pub fn reap(pid: i32) -> io::Result<Reaped> {
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers lead to live, writable memory of the right type.
    retry(|| unsafe { libc::wait4(pid, &mut status, 0, usage.as_mut_ptr()) })?;
    // SAFETY: all zeroes is a valid rusage, and wait4 has succeeded.
    let usage = unsafe { usage.assume_init() };
    Ok(Reaped {
        status: ExitStatus::from_raw(status),
        user: duration(usage.ru_utime),
        system: duration(usage.ru_stime),
        peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    })
}

/// Gives memory that was freed back to the system, where the C library can.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointer is passed, and what is in use is not touched.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// Takes a read lease on a file opened read-only.
///
/// # Errors
/// EAGAIN if anybody has the file open for writing, or mapped shared and writable; EACCES if it is
/// another user's; EINVAL where the file system knows no leases.
pub fn take_read_lease(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed, so open; the argument is an integer.
    retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) }).map(drop)
}

/// Whether a read lease is still whole: nobody has tried to open the file for writing since.
///
/// # Errors
/// Those of fcntl.
pub fn has_read_lease(file: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: the descriptor is borrowed, so open; there is no argument.
    let lease = retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLEASE) })?;
    Ok(lease == libc::F_RDLCK)
}

/// How to lock a byte of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteLock {
    /// Together with others.
    Shared,
    /// Alone.
    Exclusive,
    /// Not any more.
    None,
}

/// Locks a byte of a file for this open file, or gives it back; waits as long as others are in the way. It has nothing
/// to do with flock(2): those locks are of the whole file.
///
/// # Errors
/// Those of fcntl(2); EBADF if the file is not open for reading and writing.
pub fn lock_byte(file: BorrowedFd<'_>, byte: u8, how: ByteLock) -> io::Result<()> {
    let mut lock = whole_file(match how {
        ByteLock::Shared => libc::F_RDLCK,
        ByteLock::Exclusive => libc::F_WRLCK,
        ByteLock::None => libc::F_UNLCK,
    });
    lock.l_start = byte.into();
    lock.l_len = 1;
    // SAFETY: the descriptor is borrowed, so open; the argument leads to a flock that lives through the call.
    retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLKW, &raw mut lock) }).map(drop)
}

/// Marks a file or folder as in use by this open file, until that is closed. A mark shuts nobody out, it can only be
/// seen, see [`is_marked`]; so those who look are never in the way of those who lock.
///
/// # Errors
/// Those of fcntl(2), where the file system has no locks say.
pub fn mark(file: BorrowedFd<'_>) -> io::Result<()> {
    let mut lock = whole_file(libc::F_RDLCK);
    // SAFETY: the descriptor is borrowed, so open; the argument leads to a flock that lives through the call.
    retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) }).map(drop)
}

/// Whether another open file, of whichever process, container or user, marks what this one leads to.
///
/// # Errors
/// As for [`mark`].
pub fn is_marked(file: BorrowedFd<'_>) -> io::Result<bool> {
    let mut lock = whole_file(libc::F_WRLCK);
    // SAFETY: as above.
    retry(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) })?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}

fn whole_file(kind: i32) -> libc::flock {
    // SAFETY: flock is plain data, for which all zeros is a value: from the beginning to the end of the file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Makes reading from and writing to the terminal out of the background fail with EIO instead of
/// stopping the process. Inherited by every step: a script that reads /dev/tty gets an error.
///
/// # Errors
/// Those of signal(2).
pub fn ignore_tty_stops() -> io::Result<()> {
    for signal in [libc::SIGTTIN, libc::SIGTTOU] {
        // SAFETY: SIG_IGN is no function, so no code of ours can run in a signal's context.
        if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Undoes an ignored SIGCHLD, which a careless parent passes on: the kernel would reap our children by
/// itself, and waiting for one would fail, its exit code being gone.
///
/// # Errors
/// Those of signal(2).
pub fn keep_ended_children() -> io::Result<()> {
    // SAFETY: SIG_DFL is no function, so no code of ours can run in a signal's context.
    match unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } {
        libc::SIG_ERR => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// SIGIO says that somebody wants to write to a file that we have a lease on, SIGXFSZ that a file has
/// reached its limit: both are told by return values as well, and both would kill us. Handled rather
/// than ignored, because steps would inherit that they are ignored.
///
/// # Errors
/// Those of sigaction(2).
pub fn survive_file_signals() -> io::Result<()> {
    static IS_DONE: Mutex<bool> = Mutex::new(false);
    let mut is_done = IS_DONE.lock().unwrap_or_else(PoisonError::into_inner);
    if !*is_done {
        for signal in [libc::SIGIO, libc::SIGXFSZ] {
            signal_hook::flag::register(signal, Arc::default())?;
        }
        *is_done = true;
    }
    Ok(())
}

/// Lets a signal that this process handles end it all the same, as long as `is_so`.
///
/// # Errors
/// Those of sigaction(2).
pub fn die_when(signal: i32, is_so: &'static AtomicBool) -> io::Result<()> {
    let act = move || {
        if is_so.load(Ordering::SeqCst) {
            die_of(signal);
        }
    };
    // SAFETY: in the signal's context it reads an atomic and makes system calls, no more.
    unsafe { signal_hook::low_level::register(signal, act) }.map(drop)
}

/// Ends this process by a signal that it handles, unless it may not die of it.
pub fn die_of(signal: i32) {
    // SAFETY: SIG_DFL is no function, so no code of ours can run in a signal's context.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let _ = unblock(&[signal]);
    // SAFETY: no pointer is passed.
    unsafe { libc::raise(signal) };
}

/// Lets signals reach this thread that our parent has left blocked. Who doesn't want us to have them
/// ignores them.
///
/// # Errors
/// Those of pthread_sigmask(3).
pub fn unblock(signals: &[i32]) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is writable, made empty before anything is added or read, and the old one isn't
    // asked for.
    let failed = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut())
    };
    if failed == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(failed)) }
}

/// Marks every descriptor from 3 on close-on-exec: those that we inherited would otherwise pass
/// through us into every step. Our own are opened that way.
///
/// # Errors
/// Those of listing /proc/self/fd, where the kernel is older than 5.11.
pub fn seal_descriptors() -> io::Result<()> {
    let flag = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: changes a flag of descriptors, closes none.
    if unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, flag) } == 0 {
        return Ok(());
    }
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let Some(fd) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if fd > 2 {
            // SAFETY: changes a flag; a descriptor closed meanwhile gives EBADF, which is no harm.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Number of the mount that a file lies on, never used twice within a boot where the kernel can tell
/// (Linux 6.8), reused otherwise.
///
/// # Errors
/// Those of statx.
pub fn mount_id(file: &impl AsRawFd) -> io::Result<u64> {
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    // SAFETY: statx is plain data, for which all zeros is a value.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (fd, flags) = (file.as_raw_fd(), libc::AT_EMPTY_PATH);
    for mask in [STATX_MNT_ID_UNIQUE, libc::STATX_MNT_ID] {
        let (path, result) = (c"".as_ptr(), &raw mut found);
        // Not by its name: std's reference to it is a weak one, which takes nothing into a static binary, and after link time
        // optimisation so is ours.
        // SAFETY: the path is an empty C string, the result has room for a statx.
        if unsafe { libc::syscall(libc::SYS_statx, fd, path, flags, mask, result) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if found.stx_mask & mask != 0 {
            break;
        }
    }
    Ok(found.stx_mnt_id)
}

/// Which boot of the machine and which mount of a folder's disk this is, in one word. What another one wrote without
/// fsync may be spoilt; and because a disk can go and come back within one boot, the boot alone doesn't tell.
///
/// # Errors
/// If the folder can't be opened.
pub fn boot_and_mount(folder: &Path) -> io::Result<String> {
    let mount = mount_id(&fs::File::open(folder)?).unwrap_or(0);
    Ok(format!("{}/{mount}", proc::boot_id()))
}

/// The jobserver that the environment speaks of.
pub fn jobserver_from_env() -> jobserver::FromEnv {
    // SAFETY: it opens anew what the numbers in the environment lead to, and closes nothing of others.
    unsafe { jobserver::Client::from_env_ext(true) }
}

/// One end of a pipe.
#[derive(Debug, PartialEq, Eq)]
pub struct PipeEnd {
    /// The same for both ends.
    pub id: (u64, u64),
    /// It can be read from.
    pub can_read: bool,
    /// It can be written to.
    pub can_write: bool,
}

/// What a number leads to, if it is an open descriptor and that of a pipe.
pub fn pipe_of(fd: RawFd) -> Option<PipeEnd> {
    // SAFETY: asks for flags; a number that is no descriptor gives EBADF.
    let mode = unsafe { libc::fcntl(fd, libc::F_GETFL) };
    // SAFETY: stat is plain data, for which all zeros is a value.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the result has room for a stat.
    if mode < 0 || unsafe { libc::fstat(fd, &mut found) } != 0 {
        return None;
    }
    let mode = mode & libc::O_ACCMODE;
    (found.st_mode & libc::S_IFMT == libc::S_IFIFO).then_some(PipeEnd {
        id: (found.st_dev, found.st_ino),
        can_read: mode != libc::O_WRONLY,
        can_write: mode != libc::O_RDONLY,
    })
}

/// A second descriptor of the same open file, close-on-exec, with a number that scripts don't use: dash
/// and people take those below 10, bash takes 10 and up, 63 and down, and 255.
///
/// # Errors
/// EBADF, or EMFILE.
pub fn duplicate_high(fd: RawFd) -> io::Result<OwnedFd> {
    for least in [100, 10, 3] {
        // SAFETY: makes a new descriptor, or fails.
        let copy = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least) };
        if copy >= 0 {
            // SAFETY: it was just made, so nobody else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(copy) });
        }
    }
    Err(io::Error::last_os_error())
}

/// Lets a command inherit these descriptors under their numbers. Price: it is started by fork and
/// exec instead of posix_spawn.
pub fn hand_down(command: &mut Command, fds: &[RawFd]) {
    let fds = fds.to_vec();
    let open = move || {
        for &fd in &fds {
            // SAFETY: changes a flag of a descriptor of the child.
            if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls and reads its own memory, no more.
    unsafe { command.pre_exec(open) };
}

/// Lets a command inherit descriptors, each under the number beside it. None of the former may be one of these numbers.
/// Price: as for [`hand_down`].
pub fn hand_down_as(command: &mut Command, fds: &[(RawFd, RawFd)]) {
    let fds = fds.to_vec();
    let place = move || {
        for &(fd, number) in &fds {
            // SAFETY: makes a descriptor of the child.
            retry(|| unsafe { libc::dup2(fd, number) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls and reads its own memory, no more.
    unsafe { command.pre_exec(place) };
}

/// Gives a command another limit of open files than this process has. Price: as for [`hand_down`].
pub fn limit_open_files(command: &mut Command, limit: Rlimit) {
    let set = move || Ok(rustix::process::setrlimit(Resource::Nofile, limit)?);
    // SAFETY: between fork and exec it makes a system call, no more.
    unsafe { command.pre_exec(set) };
}

/// Repeats a call that a signal interrupted.
fn retry(mut call: impl FnMut() -> i32) -> io::Result<i32> {
    loop {
        let result = call();
        if result >= 0 {
            return Ok(result);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
