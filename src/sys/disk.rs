//! The file system below a folder: how much is free, and is it a local one?

use std::io;
use std::path::Path;

/// File systems on which locks or shared memory can't be relied on, by `f_type` (statfs(2)).
const NETWORK: [(u32, &str); 8] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x0102_1997, "9P"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x00c3_6400, "Ceph"),
];

/// The kind of network file system that a folder lies on, if it does.
///
/// # Errors
/// Those of statfs(2).
pub fn network_kind(folder: &Path) -> io::Result<Option<&'static str>> {
    let found = rustix::fs::statfs(folder)?;
    // `f_type` is signed on some machines; the magic numbers are 32 bits wide on all.
    let kind = found.f_type as u32;
    Ok(NETWORK.iter().find(|(magic, _)| *magic == kind).map(|(_, name)| *name))
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
