//! Progress where standard error is a terminal. A thread of its own draws, ten times a second at most, so
//! that a run of many short steps doesn't wait for the terminal, and long ones have a clock that goes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{OrIo as _, Result};

use super::frame::draw;
use super::lines::{Loudness, text};
use super::screen::{Screen, size};
use super::tally::Tally;
use super::{Event, Paint, Progress};

/// Between two frames.
const PAUSE: Duration = Duration::from_millis(100);

/// Draws on standard error until dropped.
pub struct Bar {
    shared: Arc<Shared>,
    paint: Paint,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something to draw that can't wait.
    woken: Condvar,
}

#[derive(Default)]
struct State {
    tally: Tally,
    /// To be printed above the bar: what must not scroll away unseen.
    above: String,
    has_plan: bool,
    is_over: bool,
    was_drawn: bool,
    has_ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bar {
    /// A bar that appears when the plan is known.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(paint: Paint) -> Result<Bar> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || keep_drawing(&of_thread, paint))
            .or_io("start", "the thread that draws")?;
        Ok(Bar { shared, paint, thread: Some(thread) })
    }
}

fn keep_drawing(shared: &Shared, paint: Paint) {
    let mut screen = Screen::default();
    let mut state = shared.lock();
    loop {
        // Even the shortest run is seen to have had a bar.
        let shows = state.has_plan && !(state.was_drawn && (state.is_over || state.has_ended));
        let is_last = state.has_ended && !shows;
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
        if !state.has_ended {
            let woken = shared.woken.wait_timeout(state, PAUSE);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Progress for Bar {
    fn tell(&mut self, event: &Event<'_>) {
        let above = match event {
            Event::Done(_) => None,
            _ => text(event, Loudness::Normal, self.paint),
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
        self.shared.lock().has_ended = true;
        self.shared.woken.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
