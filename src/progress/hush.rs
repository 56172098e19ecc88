//! Says nothing as long as nothing happens: for a run that is there only to look whether there is
//! something to do.

use super::{Event, Progress};

/// Passes events on from the first one that tells of work.
pub struct Hush {
    inner: Box<dyn Progress>,
    /// Said before anything else.
    first: Option<String>,
    /// Held back until something happens.
    warnings: Vec<String>,
    is_loud: bool,
}

impl Hush {
    /// With `first` for the first words, if there are to be any; without it nothing is held back.
    pub fn new(inner: Box<dyn Progress>, first: Option<String>) -> Hush {
        Hush { inner, is_loud: first.is_none(), first, warnings: Vec::new() }
    }

    /// Whether anything was said.
    pub fn has_spoken(&self) -> bool {
        self.is_loud
    }

    /// Says what was held back: something happened that is no event.
    pub fn speak(&mut self) {
        self.is_loud = true;
        if let Some(first) = self.first.take() {
            self.inner.tell(&Event::Note(&first));
        }
        for warning in self.warnings.drain(..) {
            self.inner.tell(&Event::Warning(&warning));
        }
    }
}

impl Progress for Hush {
    fn tell(&mut self, event: &Event<'_>) {
        if !self.is_loud {
            match event {
                Event::Begun(_) | Event::Note(_) | Event::Opened { .. } => return,
                Event::Warning(text) => return self.warnings.push((*text).to_owned()),
                Event::Registered(registered) => {
                    let plan = registered.plan;
                    let retired: u64 = plan.tasks.iter().map(|task| task.retired).sum();
                    if plan.to_run() + retired + plan.retired_with_task == 0 {
                        return;
                    }
                }
                Event::Ended(summary) if summary.done + summary.failed == 0 => return,
                _ => {}
            }
            self.speak();
        }
        self.inner.tell(event);
    }

    fn wants_starts(&self) -> bool {
        self.inner.wants_starts()
    }

    fn wants_history(&self) -> bool {
        self.inner.wants_history()
    }
}
