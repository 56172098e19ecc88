//! A progress bar where standard error is a terminal; what must not scroll away is printed above it.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::lines::{Loudness, step_text, text};
use super::{Event, Progress};

/// Draws on standard error.
pub struct Bar {
    bar: ProgressBar,
    begun: Instant,
    done: u64,
    known: u64,
    failed: u64,
}

impl Bar {
    /// A bar that appears when the plan is known.
    pub fn new() -> Bar {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10));
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar { bar, begun: Instant::now(), done: 0, known: 0, failed: 0 }
    }

    fn draw(&mut self, last: &str) {
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let rate = self.done as f64 / seconds;
        let left = self.known.saturating_sub(self.done + self.failed);
        let eta = if rate > 0.0 {
            crate::text::span(Duration::from_secs_f64((left as f64 / rate).min(1e9)))
        } else {
            "?".to_owned()
        };
        let failed =
            if self.failed > 0 { format!(", {} failed", self.failed) } else { String::new() };
        self.bar.set_message(format!("{rate:.0}/s, {eta} left{failed}  {last}"));
        self.bar.set_length(self.known);
        self.bar.set_position(self.done + self.failed);
    }
}

impl Default for Bar {
    fn default() -> Bar {
        Bar::new()
    }
}

impl Progress for Bar {
    fn tell(&mut self, event: &Event<'_>) {
        match event {
            Event::Registered(known) => {
                self.print(event);
                self.begun = Instant::now();
                self.known = known.plan.to_run();
                self.draw("");
            }
            Event::Grown { pending, .. } => self.known += pending,
            Event::Started(_) => {}
            Event::Done(ended) => {
                self.done += 1;
                let last = step_text(&ended.name);
                self.draw(&last);
            }
            Event::Failed(ended, _) => {
                self.failed += u64::from(!ended.again);
                self.print(event);
                self.draw("");
            }
            Event::Ended(_) => {
                self.bar.finish_and_clear();
                self.print(event);
            }
            _ => self.print(event),
        }
    }
}

impl Bar {
    fn print(&self, event: &Event<'_>) {
        if let Some(text) = text(event, Loudness::Normal, super::Paint::Plain) {
            let write = || {
                let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), text.as_bytes());
            };
            // `suspend` draws the bar again afterwards, which there is none of before the plan.
            if self.known > 0 { self.bar.suspend(write) } else { write() }
        }
    }
}
