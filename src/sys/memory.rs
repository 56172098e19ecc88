//! How much memory there is for this process and all that it starts: what the machine has to spare, and what cgroups
//! allow, of version 1 and 2, each within the ones above it. Unaware of what it is for.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::proc::kib;

/// The memory that this process and its children may fill, in bytes: the lowest limit of its cgroups, or what the machine
/// has available now if that is less. `None` where /proc doesn't tell.
pub fn available() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| {
        // Kernels before 3.14 have no estimate.
        kib(&text, "MemAvailable:").or_else(|| kib(&text, "MemFree:"))
    });
    let machine = machine.map(|kib| kib * 1024);
    [machine, limit(&read)].into_iter().flatten().min()
}

/// The lowest limit of the cgroups that we are in.
fn limit(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    let of_mount = |line: &str| {
        let mount = Mount::read(line)?;
        let folder = mount.folder(&groups)?;
        // A limit holds for all that is below it.
        let above = folder.ancestors().take_while(|folder| folder.starts_with(&mount.point));
        above
            .flat_map(|folder| mount.files.iter().map(move |file| folder.join(file)))
            .filter_map(|file| read(&file)?.trim().parse::<u64>().ok())
            .min()
    };
    // A limit of version 1 that nobody has set is the largest number of pages.
    mounts.lines().filter_map(of_mount).min().filter(|limit| *limit < 1 << 60)
}

/// Where the cgroups with memory limits are to be seen.
struct Mount {
    is_v2: bool,
    /// The cgroup that is its topmost folder.
    root: PathBuf,
    point: PathBuf,
    /// `memory.high` is no hard limit, but beyond it everything is slowed down until it is kept.
    files: &'static [&'static str],
}

impl Mount {
    /// Reads a line of mountinfo, if it is of cgroups with memory limits.
    fn read(line: &str) -> Option<Mount> {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (path(place.next()?), path(place.next()?));
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        match name {
            "cgroup2" => {
                Some(Mount { is_v2: true, root, point, files: &["memory.max", "memory.high"] })
            }
            "cgroup" if options.split(',').any(|option| option == "memory") => {
                Some(Mount { is_v2: false, root, point, files: &["memory.limit_in_bytes"] })
            }
            _ => None,
        }
    }

    /// The folder of the cgroup that we are in, by the lines of `/proc/self/cgroup`.
    fn folder(&self, groups: &str) -> Option<PathBuf> {
        let own = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, group) = (fields.next()?, fields.next()?);
            let is_it = match self.is_v2 {
                true => controllers.is_empty(),
                false => controllers.split(',').any(|controller| controller == "memory"),
            };
            is_it.then_some(Path::new(group))
        })?;
        // A container may see its own cgroup as the top, or be told of one that it doesn't see.
        let below = own.strip_prefix(&self.root).unwrap_or(Path::new(""));
        let is_plain = below.components().all(|part| matches!(part, Component::Normal(_)));
        Some(if is_plain { self.point.join(below) } else { self.point.clone() })
    }
}

/// A path of mountinfo, where a blank is written `\040`.
fn path(field: &str) -> PathBuf {
    PathBuf::from(field.replace("\\040", " ").replace("\\134", "\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit that is found in these files.
    fn found(files: &[(&str, &str)]) -> Option<u64> {
        limit(&|path| {
            let known = files.iter().find(|(name, _)| Path::new(name) == path);
            known.map(|(_, text)| (*text).to_owned())
        })
    }

    const V2: (&str, &str) = (
        "/proc/self/mountinfo",
        "22 1 0:20 / /proc rw - proc proc rw\n30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    );
    const V1: (&str, &str) = (
        "/proc/self/mountinfo",
        "35 31 0:32 /docker/ab /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n",
    );

    #[test]
    fn the_lowest_of_nested_limits_counts() {
        let own = ("/proc/self/cgroup", "0::/user.slice/job.scope\n");
        let root = ("/sys/fs/cgroup/memory.max", "max\n");
        let slice = ("/sys/fs/cgroup/user.slice/memory.max", "4096\n");
        let scope = ("/sys/fs/cgroup/user.slice/job.scope/memory.max", "8192\n");
        assert_eq!(found(&[V2, own, root, slice, scope]), Some(4096));
        assert_eq!(found(&[V2, own, root, scope]), Some(8192));
        let high = ("/sys/fs/cgroup/user.slice/memory.high", "2048\n");
        assert_eq!(found(&[V2, own, slice, high, scope]), Some(2048));
        assert_eq!(found(&[V2, own, root]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn version_1_is_read_too_also_in_a_container_that_sees_only_its_own_part() {
        let unset = "9223372036854771712\n";
        let (top, below) = (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/x/memory.limit_in_bytes",
        );
        let own = ("/proc/self/cgroup", "4:memory:/docker/ab/x\n3:cpu:/\n0::/\n");
        assert_eq!(found(&[V1, own, (top, "1000\n"), (below, unset)]), Some(1000));
        assert_eq!(found(&[V1, own, (top, unset), (below, "500\n")]), Some(500));
        assert_eq!(found(&[V1, own, (top, unset), (below, unset)]), None);
        // One that is told of another part than it sees.
        let other = ("/proc/self/cgroup", "4:memory:/elsewhere\n");
        assert_eq!(found(&[V1, other, (top, "1000\n"), (below, "500\n")]), Some(1000));
        let outside = ("/proc/self/cgroup", "0::/../../x\n");
        assert_eq!(found(&[V2, outside, ("/sys/fs/cgroup/memory.max", "77\n")]), Some(77));
    }

    #[test]
    fn this_machine_has_some() {
        assert!(available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
