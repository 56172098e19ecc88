//! `-B` and `--redo`: which steps of a task run anew although they are done.

use crate::ids::StepId;
use crate::labels::Labels;

/// Which steps of a task run anew in this run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forced {
    /// Those that have all of one of these. Empty labels: every step.
    pub labels: Vec<Labels>,
    /// These.
    pub steps: Vec<StepId>,
}

impl Forced {
    /// Every step of the task.
    pub fn all() -> Forced {
        Forced { labels: vec![Labels::default()], steps: Vec::new() }
    }

    /// True if a step may run anew.
    pub fn is_any(&self) -> bool {
        !self.labels.is_empty() || !self.steps.is_empty()
    }

    /// True if every step runs anew.
    pub fn is_all(&self) -> bool {
        self.labels.iter().any(Labels::is_empty)
    }

    /// True if the step of this id and with these labels runs anew.
    pub fn is_forced(&self, step: StepId, labels: &Labels) -> bool {
        self.steps.contains(&step) || self.labels.iter().any(|those| labels.has(those))
    }
}
