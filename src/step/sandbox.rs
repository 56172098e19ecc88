//! What a task's sandbox is, as plain data, and whether this machine can make one.

use std::ffi::OsString;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sys::landlock::{Ability, ability};

/// What a script in a sandbox may reach besides its own folders and the system's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Files and folders that it may read, absolute.
    pub read: Vec<OsString>,
    /// Folders that it may list, absolute: where the globs of `files` look.
    pub list: Vec<OsString>,
    /// It may use the network.
    pub network: bool,
}

impl Sandbox {
    /// The same, and these files too. Those in a folder that may be read anyway count as the folder; links there lead
    /// elsewhere, and don't.
    #[must_use]
    pub fn with_files(mut self, files: impl IntoIterator<Item = PathBuf>) -> Sandbox {
        let folders = self.read.len();
        for file in files {
            let mut known = self.read.iter().take(folders);
            if !known.any(|folder| file.starts_with(folder)) || file.is_symlink() {
                self.read.push(file.into_os_string());
            }
        }
        self
    }

    /// Why this machine can't confine a script so; `None` if it can.
    pub fn obstacle(&self) -> Option<String> {
        obstacle(!self.network)
    }
}

/// Why this machine can't run scripts in a sandbox, one without a network or not; `None` if it can.
pub fn obstacle(without_network: bool) -> Option<String> {
    let what = if without_network { "network = false" } else { "sandbox = true" };
    match ability(without_network) {
        Ability::Enough => None,
        Ability::None => Some(format!(
            "{what} needs Landlock, and this kernel has none, or has it disabled: add `landlock` to its `lsm=` \
             parameter, or take a newer kernel (Linux 6.2)"
        )),
        Ability::TooOld { has, needed, linux } => Some(format!(
            "{what} needs version {needed} of Landlock (Linux {linux}), and this kernel has version {has}"
        )),
    }
}
