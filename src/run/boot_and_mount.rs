//! Which boot of the machine, and which mount of the disk, this is: what another one committed without
//! fsync may be spoilt. A disk can go and come back within one boot, so the boot alone doesn't tell.

use std::fs::File;
use std::path::Path;

use crate::error::{OrIo, Result};

/// Boot and mount in one word. `TASK_PIPELINE_BOOT_ID` overrides the boot, so that a test can play a power
/// cut.
pub(super) fn boot_and_mount(db_dir: &Path) -> Result<String> {
    let boot = std::env::var("TASK_PIPELINE_BOOT_ID")
        .or_else(|_| std::fs::read_to_string("/proc/sys/kernel/random/boot_id"))
        .unwrap_or_default();
    let folder = File::open(db_dir).or_io("open", db_dir)?;
    let mount = crate::sys::mount_id(&folder).unwrap_or(0);
    Ok(format!("{}/{mount}", boot.trim()))
}
