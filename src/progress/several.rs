//! One run, several audiences: the screen, `--events`, `--trace`.

use super::{Event, Progress};

/// Tells everybody. What one of them can't tell any more is said by the others, once.
#[derive(Default)]
pub struct Several {
    audiences: Vec<Box<dyn Progress>>,
    has_complained: bool,
}

impl Several {
    /// Adds an audience.
    pub fn add(&mut self, audience: impl Progress + 'static) {
        self.audiences.push(Box::new(audience));
    }

    /// True if one of them could not tell all.
    pub fn has_complained(&self) -> bool {
        self.has_complained
    }
}

impl Progress for Several {
    fn tell(&mut self, event: &Event<'_>) {
        for audience in &mut self.audiences {
            audience.tell(event);
        }
        let complaints: Vec<String> =
            self.audiences.iter_mut().filter_map(|audience| audience.complaint()).collect();
        for complaint in complaints {
            self.has_complained = true;
            for audience in &mut self.audiences {
                audience.tell(&Event::Warning(&complaint));
            }
        }
    }

    fn wants_starts(&self) -> bool {
        self.audiences.iter().any(|audience| audience.wants_starts())
    }

    fn wants_history(&self) -> bool {
        self.audiences.iter().any(|audience| audience.wants_history())
    }
}
