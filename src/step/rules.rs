//! Rules of sandboxes that a workspace keeps, because most steps of a worker are of few tasks: to make them
//! takes 60 µs. They hold inodes, not paths: a file or folder that is another one by now needs new ones. The workspace's
//! own folders are the same for as long as it lives.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::script::Script;

/// Sets of rules that a workspace keeps, a descriptor each.
pub const KEPT: usize = 4;

/// Device, inode and time of last change, since numbers of inodes are used again; `None` for what is not there.
pub(super) type Identity = Option<(u64, u64, i64, i64)>;

/// The rules of a workspace's last tasks, the latest first.
#[derive(Default)]
pub(super) struct KeptRules(Vec<Kept>);

struct Kept {
    script: Arc<Script>,
    /// Of all that may be another file by now.
    identities: Vec<Identity>,
    rules: Arc<OwnedFd>,
}

impl KeptRules {
    /// The rules of a script, if all that they were made from is still the same.
    pub(super) fn find(
        &mut self,
        script: &Arc<Script>,
        identities: &[Identity],
    ) -> Option<Arc<OwnedFd>> {
        let is_same = |one: &Kept| Arc::ptr_eq(&one.script, script) && one.identities == identities;
        let at = self.0.iter().position(is_same)?;
        let found = self.0.remove(at);
        let rules = Arc::clone(&found.rules);
        self.0.insert(0, found);
        Some(rules)
    }

    /// Keeps the rules of a script instead of those that it had.
    pub(super) fn keep(
        &mut self,
        script: &Arc<Script>,
        identities: Vec<Identity>,
        rules: OwnedFd,
    ) -> Arc<OwnedFd> {
        let rules = Arc::new(rules);
        self.0.retain(|one| !Arc::ptr_eq(&one.script, script));
        self.0.truncate(KEPT - 1);
        let script = Arc::clone(script);
        self.0.insert(0, Kept { script, identities, rules: Arc::clone(&rules) });
        rules
    }
}
