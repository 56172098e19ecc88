//! Which boot of the machine this is: a run that was not closed and belongs to another boot may have
//! ended in a power cut.

/// The kernel's boot id, or nothing where there is none. `TASK_PIPELINE_BOOT_ID` overrides it, so that
/// a test can play a power cut.
pub(super) fn boot_id() -> String {
    if let Ok(id) = std::env::var("TASK_PIPELINE_BOOT_ID") {
        return id;
    }
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}
