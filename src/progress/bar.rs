//! Progress on a terminal: a few rows at the bottom that are redrawn, while other lines scroll above them.
//!
//! A thread draws at most ten times a second, so that a run of many short steps doesn't wait for the terminal
//! and the clocks of long steps keep ticking.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{OrIo as _, Result};

use super::counter::Counter;
use super::frame::{FrameLine, Size, draw};
use super::lines::{Loudness, Paint, Voice, text};
use super::tally::Tally;
use super::{Event, Progress};

/// Time between two frames.
const PAUSE: Duration = Duration::from_millis(100);

/// The size of a terminal that doesn't know its own.
const DEFAULT_SIZE: Size = Size { columns: 80, rows: 24 };

/// Draws on standard error until dropped.
pub struct Bar {
    shared: Arc<Shared>,
    voice: Voice,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<BarState>,
    /// Signalled when the next frame should come at once.
    woken: Condvar,
}

#[derive(Default)]
struct BarState {
    tally: Tally,
    /// Lines to print above the bar with the next frame.
    above: String,
    /// There is something to show.
    has_plan: bool,
    /// The run has ended.
    is_over: bool,
    was_drawn: bool,
    /// The bar is being dropped.
    is_closing: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BarState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bar {
    /// A bar that appears once the plan is known. With `Loudness::Verbose` each step has a line above it too.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(loudness: Loudness, paint: Paint) -> Result<Bar> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || keep_drawing(&of_thread, paint))
            .or_system("start a thread")?;
        let columns = size().columns.saturating_sub(1);
        let voice = Voice { loudness, paint, columns, counts: false, db: String::new() };
        Ok(Bar { shared, voice, thread: Some(thread) })
    }
}

fn keep_drawing(shared: &Shared, paint: Paint) {
    let mut screen = Screen::default();
    let mut state = shared.lock();
    loop {
        // At least one frame, even if the run is over before the first is due.
        let shows = state.has_plan && !(state.was_drawn && (state.is_over || state.is_closing));
        let is_last = state.is_closing && !shows;
        state.was_drawn |= shows;
        let above = std::mem::take(&mut state.above);
        let (now, size) = (Instant::now(), size());
        let frame = if shows {
            state.tally.sample(now);
            draw(&state.tally, now, size, paint)
        } else {
            Vec::new()
        };
        drop(state);
        screen.show(&above, frame, size);
        if is_last {
            return;
        }
        state = shared.lock();
        if !state.is_closing {
            let woken = shared.woken.wait_timeout(state, PAUSE);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Progress for Bar {
    fn tell(&mut self, event: &Event<'_>) {
        self.voice.hear(event);
        let above = match event {
            Event::Done(_) if self.voice.loudness < Loudness::Verbose => None,
            _ => text(event, &self.voice, &Counter::default()),
        };
        let mut state = self.shared.lock();
        state.tally.take(event);
        state.above.push_str(above.as_deref().unwrap_or_default());
        match event {
            Event::Registered(_) => {
                state.has_plan = true;
                self.shared.woken.notify_one();
            }
            Event::Ended(_) => state.is_over = true,
            _ => {}
        }
    }

    fn wants_starts(&self) -> bool {
        true
    }

    fn wants_history(&self) -> bool {
        true
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.shared.lock().is_closing = true;
        self.shared.woken.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The bottom rows of the terminal, as they are now.
#[derive(Debug, Default)]
struct Screen {
    /// The width of each line of the last frame.
    shown: Vec<usize>,
    last: Vec<FrameLine>,
    /// The terminal's width at that time.
    columns: usize,
}

impl Screen {
    /// Replaces the last frame, and inserts some text above it that then scrolls away. It is one write, so
    /// that the terminal never shows half of it.
    fn show(&mut self, above: &str, frame: Vec<FrameLine>, size: Size) {
        if above.is_empty() && frame == self.last {
            return;
        }
        let mut out = self.update(above, &frame, size);
        self.shown = frame.iter().map(|line| line.columns).collect();
        self.last = frame;
        self.columns = size.columns;
        out.push_str(if self.shown.is_empty() { "" } else { "\r" });
        // A terminal that was closed must not stop a run.
        let _ = std::io::stderr().write_all(out.as_bytes());
    }

    /// What to write to get from the last frame to the next. The cursor is at the start of the last line of
    /// the last frame, or behind a `^C` that was typed there.
    fn update(&self, above: &str, frame: &[FrameLine], size: Size) -> String {
        let mut out = String::from(if self.shown.is_empty() { "" } else { "\r" });
        // If the terminal has become narrower since, it has wrapped the long lines.
        let columns = size.columns.max(1);
        let rows = |&width: &usize| width.div_ceil(columns).max(1);
        let up: usize = self.shown.iter().rev().skip(1).map(rows).sum();
        if up > 0 {
            out.push_str(&format!("\x1b[{up}A"));
        }
        // After a change of width everything is cleared: the terminal remembers which rows were one line, and
        // would wrap them again.
        let is_cleared = !above.is_empty() || frame.is_empty() || size.columns != self.columns;
        if !self.shown.is_empty() && is_cleared {
            out.push_str("\x1b[J");
        }
        out.push_str(above);
        for (n, line) in frame.iter().enumerate() {
            out.push_str(if n > 0 { "\n" } else { "" });
            out.push_str(&line.text);
            out.push_str("\x1b[K");
        }
        if frame.len() < self.shown.len() && !is_cleared {
            out.push_str("\x1b[J");
        }
        out
    }
}

/// The present size of the terminal.
fn size() -> Size {
    let stderr = std::io::stderr();
    match rustix::termios::tcgetwinsize(&stderr) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 && stderr.is_terminal() => {
            Size { columns: size.ws_col.into(), rows: size.ws_row.into() }
        }
        _ => DEFAULT_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { columns: 20, rows: 10 };

    fn lines(texts: &[&str]) -> Vec<FrameLine> {
        texts
            .iter()
            .map(|text| FrameLine { text: (*text).to_owned(), columns: text.len() })
            .collect()
    }

    #[test]
    fn a_frame_replaces_the_one_before() {
        let mut screen = Screen { columns: SIZE.columns, ..Screen::default() };
        assert_eq!(screen.update("", &lines(&["a", "b"]), SIZE), "a\x1b[K\nb\x1b[K");
        screen.shown = vec![1, 1];
        assert_eq!(screen.update("", &lines(&["c", "d"]), SIZE), "\r\x1b[1Ac\x1b[K\nd\x1b[K");
        assert_eq!(screen.update("", &lines(&["c"]), SIZE), "\r\x1b[1Ac\x1b[K\x1b[J");
        assert_eq!(screen.update("x\n", &lines(&["c"]), SIZE), "\r\x1b[1A\x1b[Jx\nc\x1b[K");
        assert_eq!(screen.update("end\n", &[], SIZE), "\r\x1b[1A\x1b[Jend\n");
    }

    #[test]
    fn lines_that_a_narrower_terminal_has_wrapped_are_cleared() {
        let screen = Screen { shown: vec![19, 15, 5], last: Vec::new(), columns: 20 };
        let narrow = Size { columns: 10, rows: 10 };
        assert!(screen.update("", &[], narrow).starts_with("\r\x1b[4A\x1b[J"));
    }
}
