//! What /proc tells of processes, and of the machine: the only reader of `/proc/PID`. Unaware of who started a
//! process and why anybody asks.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::text::printable;

/// How long processors have been busy with programs, in clock ticks.
#[derive(Debug, Clone, Copy)]
pub struct BusyTicks {
    /// With this process and with those of its children that have ended.
    pub ours: u64,
    /// With any.
    pub all: u64,
}

/// `None` if it can't be told.
pub fn busy_ticks() -> Option<BusyTicks> {
    // `cpu user nice system idle …`
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let all = stat.strip_prefix("cpu ")?.split_ascii_whitespace().take(3);
    let all = all.map(|ticks| ticks.parse::<u64>().ok()).sum::<Option<u64>>()?;
    let own = i32::try_from(std::process::id()).ok()?;
    Some(BusyTicks { ours: Process::read(own)?.busy_ticks, all })
}

/// A process, as `/proc/PID/stat` tells.
#[derive(Debug)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub group: i32,
    /// The file that it executes, cut to 15 bytes; fit for a terminal.
    pub name: String,
    /// It has ended, and its parent doesn't know yet.
    pub is_zombie: bool,
    /// It has something to do: it runs, or would if there were a processor or a disk for it.
    pub is_busy: bool,
    /// When it began, in clock ticks since the machine came up. With `pid`: which process it is, for numbers are
    /// used again.
    pub started: u64,
    /// How long processors have been busy with it and with those of its children that have ended, in clock ticks.
    busy_ticks: u64,
    /// Where its environment begins and ends in its memory. In the middle of an exec both are 0, and then the end alone,
    /// until the kernel has gone through all variables.
    environment: (u64, u64),
}

impl Process {
    /// `None` if there is no such process, or none that may be looked at.
    pub fn read(pid: i32) -> Option<Process> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // `pid (name) state ppid pgrp …`, and the name may hold anything, parentheses as well.
        let open = stat.iter().position(|byte| *byte == b'(')?;
        let close = stat.iter().rposition(|byte| *byte == b')')?;
        let name = printable(stat.get(open + 1..close)?).into_owned();
        let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // proc(5) counts the state as field 3.
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Process {
            pid,
            parent: field(4)?.parse().ok()?,
            group: field(5)?.parse().ok()?,
            name,
            is_zombie: matches!(field(3)?, "Z" | "X"),
            is_busy: matches!(field(3)?, "R" | "D"),
            started: field(22)?.parse().ok()?,
            busy_ticks: (14..=17).map(|n| field(n)?.parse::<u64>().ok()).sum::<Option<u64>>()?,
            environment: (field(50)?.parse().ok()?, field(51)?.parse().ok()?),
        })
    }

    /// It is in the middle of an exec, and so has no environment yet.
    pub fn is_between_programs(&self) -> bool {
        self.environment.1 == 0
    }

    /// It has an environment, which is empty.
    pub fn has_empty_environment(&self) -> bool {
        self.environment.0 == self.environment.1 && !self.is_between_programs()
    }

    /// Time since it began.
    pub fn age(&self) -> Option<Duration> {
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split(' ').next()?.parse().ok()?;
        let began = self.started as f64 / per_second as f64;
        Some(Duration::from_secs_f64((uptime - began).max(0.0)))
    }
}

/// The environment that a process was started with: `NAME=value`, each with a zero byte behind it.
///
/// # Errors
/// `NotFound` if there is no such process; `PermissionDenied` if it is another user's; ESRCH if it is ending.
pub fn environment(pid: i32) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{pid}/environ"))
}

/// Whether a process executes a file. A thread of the kernel doesn't, and nothing that has ended does.
pub fn has_program(pid: i32) -> bool {
    fs::read_link(folder(pid).join("exe")).is_ok()
}

/// Whether a process sees the same mounts as this one, so that a path means the same to both. False if that is not
/// to be found out.
pub fn shares_mounts(pid: i32) -> bool {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let own = namespace("self");
    own.is_some() && namespace(&pid.to_string()) == own
}

/// Device and inode of what an absolute path leads to for another process, in its container.
pub fn identity_seen_by(pid: i32, path: &Path) -> Option<(u64, u64)> {
    let below = path.strip_prefix("/").ok()?;
    let found = fs::metadata(folder(pid).join("root").join(below)).ok()?;
    Some((found.dev(), found.ino()))
}

/// True if a process has ended, reaped or not. It is not to be believed for ever: the number may be one of another
/// container. False where /proc is not there to tell.
pub fn has_ended(pid: i32) -> bool {
    match Process::read(pid) {
        Some(process) => process.is_zombie,
        None => !exists(pid) && Path::new("/proc/self").exists(),
    }
}

/// Whether a process of this number exists, ended or not.
pub fn exists(pid: i32) -> bool {
    folder(pid).exists()
}

/// A process and all that descend from it, as far as the kernel lists children; those whose parent has ended are not
/// among them.
pub fn tree(root: i32) -> Vec<i32> {
    // More than any script has; it ends even if numbers are used again while we look.
    const MOST: usize = 10_000;
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&pid) = found.get(at)
        && found.len() < MOST
    {
        at += 1;
        for thread in fs::read_dir(folder(pid).join("task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(
                children.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()),
            );
        }
    }
    found
}

/// What a process has in memory, in KiB.
pub fn resident(pid: i32) -> Option<u64> {
    let statm = fs::read_to_string(folder(pid).join("statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64 / 1024)
}

/// The same, with each page that it shares with others counted in part. Takes long for a large process.
pub fn proportional(pid: i32) -> Option<u64> {
    kib(&fs::read_to_string(folder(pid).join("smaps_rollup")).ok()?, "Pss:")
}

/// The most that this process has ever had in memory, in KiB.
pub fn own_peak() -> Option<u64> {
    kib(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The value of a line such as `VmHWM:   1234 kB`.
pub(super) fn kib(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The folder of a process, for messages.
pub fn folder(pid: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// True if `pid` is the parent of this process, or the parent of that, and so on.
pub fn is_ancestor(pid: i32) -> bool {
    let parent = |of: i32| Process::read(of).map(|process| process.parent).filter(|pid| *pid > 0);
    std::iter::successors(i32::try_from(std::process::id()).ok(), |of| parent(*of))
        // Numbers may be used again while we look.
        .take(1000)
        .skip(1)
        .any(|ancestor| ancestor == pid)
}

/// The descriptor of this process that a path stands for: 0 for `-` and `/dev/stdin`, N for `/dev/fd/N` (which a shell
/// writes for `<(…)`) and `/proc/self/fd/N`. To open such a path may be refused, or begin anew what has been read in
/// part.
pub fn descriptor(path: &Path) -> Option<i32> {
    let text = path.to_str()?;
    if matches!(text, "-" | "/dev/stdin") {
        return Some(0);
    }
    let ours = format!("/proc/{}/fd/", std::process::id());
    let folders = ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/", &ours];
    let number = folders.iter().find_map(|folder| text.strip_prefix(folder))?;
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse().ok()
}

/// The numbers of all processes that can be seen.
///
/// # Errors
/// If `/proc` can't be listed.
pub fn all() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        pids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(pids)
}

/// Processes that any thread of `parent` started. Where the kernel doesn't list them (CONFIG_PROC_CHILDREN), all
/// processes there are: the caller looks at their `parent`.
pub fn children_of(parent: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().flat_map(str::parse::<i32>)),
            // The thread has ended, or there is no such file.
            Err(_) if thread.path().join("stat").exists() => return all().unwrap_or_default(),
            Err(_) => {}
        }
    }
    found
}

/// Processes that the calling thread started, ended ones included. Empty where the kernel doesn't list them.
pub fn children_of_this_thread() -> Vec<i32> {
    let list = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_ascii_whitespace().flat_map(str::parse).collect()
}

/// The program that this process runs, even if its file was replaced.
pub fn own_program() -> &'static str {
    "/proc/self/exe"
}

/// The path under which a child finds what it has open as this descriptor.
pub fn path_of_number(fd: i32) -> String {
    format!("/proc/self/fd/{fd}")
}

/// The list of this process's adopted children, kept open: it is read after every script.
#[derive(Debug)]
pub struct Adopted(File);

impl Adopted {
    /// Orphans become children of the first thread. `None` where the kernel has no list of children.
    pub fn open() -> Option<Adopted> {
        let own = std::process::id();
        File::open(format!("/proc/self/task/{own}/children")).ok().map(Adopted)
    }

    /// Numbers of all children of the first thread, ended ones included.
    pub fn list(&self) -> Vec<i32> {
        let mut text = Vec::new();
        let mut buffer = [0; 1024];
        // Should it fail, nothing is found: there is nobody to blame for it.
        while let Ok(n @ 1..) = self.0.read_at(&mut buffer, text.len() as u64) {
            text.extend_from_slice(&buffer[..n]);
        }
        let text = String::from_utf8_lossy(&text);
        text.split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
    }
}

/// Signals that this process ignores: bit n-1 for signal n.
pub fn ignored_signals() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Number of descriptors that this process has open; 0 if it can't be told.
pub fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// A path that leads to an open file of this process, whatever its names are.
pub fn path_of(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A setting of the kernel, by its path below `/proc/sys`; empty if it can't be read.
pub fn setting(path: &str) -> String {
    let text = fs::read_to_string(format!("/proc/sys/{path}"));
    text.unwrap_or_default().trim().to_owned()
}

/// A setting below `/proc/sys/kernel`: "hostname", "osrelease"; empty if it can't be read.
pub fn kernel(name: &str) -> String {
    setting(&format!("kernel/{name}"))
}

/// A text that is another one after each boot of the machine; empty if the kernel doesn't tell.
pub fn boot_id() -> String {
    kernel("random/boot_id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_environment_without_an_end_is_that_of_an_exec_which_is_not_over() {
        let own = Process::read(std::process::id() as i32).unwrap();
        let with = |begin, end| Process { environment: (begin, end), name: String::new(), ..own };
        let told =
            |process: Process| (process.is_between_programs(), process.has_empty_environment());
        assert_eq!(told(with(0, 0)), (true, false));
        assert_eq!(told(with(0x7fff_0000, 0)), (true, false));
        assert_eq!(told(with(0x7fff_0000, 0x7fff_0000)), (false, true));
        assert_eq!(told(with(0x7fff_0000, 0x7fff_0fff)), (false, false));
        assert!(has_program(own.pid) && !has_program(0));
    }

    #[test]
    fn a_process_is_told_apart_from_its_zombie() {
        let own = std::process::id() as i32;
        let process = Process::read(own).unwrap();
        assert_eq!(process.pid, own);
        assert!(!process.is_zombie && !process.is_between_programs() && process.age().is_some());
        assert!(!has_ended(own) && exists(own) && all().unwrap().contains(&own));
        let mut child = std::process::Command::new("sh").arg("-c").arg("exit").spawn().unwrap();
        let pid = child.id() as i32;
        while !has_ended(pid) {
            std::thread::yield_now();
        }
        assert_eq!(
            Process::read(pid).map(|child| (child.parent, child.is_zombie)),
            Some((own, true))
        );
        assert!(exists(pid));
        child.wait().unwrap();
    }
}
