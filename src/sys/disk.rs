//! The file system below a folder: how much is free, is it a local one, and what does it leave of removed files?

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

const NFS: u32 = 0x6969;

/// File systems on which locks or shared memory can't be relied on, by `f_type` (statfs(2)).
const NETWORK: [(u32, &str); 13] = [
    (NFS, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x0102_1997, "9P"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x1983_0326, "BeeGFS"),
    (0x2003_0528, "OrangeFS"),
];

/// `f_type` of everything that a process serves through FUSE, near or far.
const FUSE: u32 = 0x6573_5546;

/// What is far of that: the part of the type behind `fuse.`, as the programs call themselves in /proc/self/mountinfo.
const NETWORK_FUSE: [&str; 28] = [
    "sshfs",
    "glusterfs",
    "ceph",
    "ceph-fuse",
    "cephfs",
    "s3fs",
    "s3ql",
    "goofys",
    "mount-s3",
    "mountpoint-s3",
    "gcsfuse",
    "blobfuse",
    "blobfuse2",
    "rclone",
    "juicefs",
    "seaweedfs",
    "mfs",
    "moosefs",
    "lizardfs",
    "saunafs",
    "davfs",
    "davfs2",
    "curlftpfs",
    "smbnetfs",
    "afpfs",
    "beegfs",
    "google-drive-ocamlfuse",
    "onedriver",
];

/// The kind of network file system that a folder lies on, if it does.
///
/// # Errors
/// Those of statfs(2) and stat(2).
pub fn network_kind(folder: &Path) -> io::Result<Option<String>> {
    let found = rustix::fs::statfs(folder)?;
    // `f_type` is signed on some machines; the magic numbers are 32 bits wide on all.
    let kind = found.f_type as u32;
    if kind == FUSE {
        let device = std::fs::metadata(folder)?.dev();
        // Without /proc nobody knows.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        return Ok(fuse_kind(&mounts, device)
            .filter(|kind| NETWORK_FUSE.contains(kind))
            .map(str::to_owned));
    }
    Ok(NETWORK.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| (*name).to_owned()))
}

/// What serves a device through FUSE. A line of proc(5)'s mountinfo is
/// `36 35 0:58 / /mnt rw,nosuid shared:2 - fuse.sshfs me@far: rw`.
fn fuse_kind(mounts: &str, device: u64) -> Option<&str> {
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(number.as_str()))?;
    let (_, rest) = line.split_once(" - ")?;
    let mut words = rest.split(' ');
    let (kind, source) = (words.next()?, words.next()?);
    // Some don't give their kind, but their name as what is mounted.
    Some(kind.strip_prefix("fuse.").unwrap_or_else(|| source.split('#').next().unwrap_or(source)))
}

/// Whether an entry of a folder is no more than the rest of a file that was removed while it was open. FUSE and NFS keep
/// one under such a name until the last user closes it, and remove it then: at any moment, and nobody else can.
pub fn is_removed_file(folder: BorrowedFd<'_>, name: &[u8]) -> bool {
    let Some(kind) = leaver_of(name) else { return false };
    // Elsewhere it is a file like any other. On what can't be asked too.
    rustix::fs::fstatfs(folder).is_ok_and(|found| found.f_type as u32 == kind)
}

/// The `f_type` of the file system that leaves removed files under names like this one.
fn leaver_of(name: &[u8]) -> Option<u32> {
    let (number, kind) = match name.strip_prefix(b".fuse_hidden") {
        Some(number) => (number, FUSE),
        None => (name.strip_prefix(b".nfs")?, NFS),
    };
    (!number.is_empty() && number.iter().all(u8::is_ascii_hexdigit)).then_some(kind)
}

/// Bytes that an unprivileged process may still write; 0 if the inodes are used up, so that no file can be made.
///
/// # Errors
/// Those of statvfs(2).
pub fn free(folder: &Path) -> io::Result<u64> {
    let found = rustix::fs::statvfs(folder)?;
    if found.f_files > 0 && found.f_favail == 0 {
        return Ok(0);
    }
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_file_is_told_by_its_name_and_its_file_system() {
        assert_eq!(leaver_of(b".fuse_hidden000001a500000003"), Some(FUSE));
        assert_eq!(leaver_of(b".nfs00000000012c4f5e00000a1b"), Some(NFS));
        for other in [".fuse_hidden", ".fuse_hidden_x", ".nfs-notes", "fuse_hidden01", ".nfs01.txt"]
        {
            assert_eq!(leaver_of(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn what_serves_a_fuse_mount_is_told_by_its_line() {
        let mounts = "22 1 254:0 / / rw,noatime - ext4 /dev/vda rw\n\
                      36 22 0:58 / /mnt/far rw shared:2 - fuse.sshfs me@far:/x rw,user_id=0\n\
                      37 22 0:59 / /mnt/a\\040b rw - fuse curlftpfs#ftp://far/ rw\n\
                      38 22 0:60 / /mnt/near rw - fuse.mergerfs a:b rw\n";
        let kind = |minor| fuse_kind(mounts, rustix::fs::makedev(0, minor));
        assert_eq!(kind(58), Some("sshfs"));
        assert_eq!(kind(59), Some("curlftpfs"));
        assert_eq!(kind(60), Some("mergerfs"));
        assert_eq!(kind(61), None);
        assert!(NETWORK_FUSE.contains(&"sshfs") && !NETWORK_FUSE.contains(&"mergerfs"));
    }
}
