//! `--events`: one JSON object a line for every event, in the order in which things happened.
//! `fixtures/schemas/event.json` describes each; what it has only grows under one version.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::error::Result;
use crate::ids::StepId;

use super::sink::Sink;
use super::{Event, Progress};

mod body;
mod told;

use body::Body;

/// What the first event calls the form of all.
const SCHEMA: &str = "task-pipeline events 1";

#[derive(Serialize)]
struct Line<'a> {
    event: &'static str,
    /// Milliseconds since 1970.
    time_ms: u64,
    /// Since the first event, by the monotonic clock.
    elapsed_us: u64,
    #[serde(flatten)]
    body: Body<'a>,
}

/// Writes events for programs.
pub struct JsonLines {
    sink: Sink,
    begun: Instant,
    buffer: Vec<u8>,
    running: HashSet<StepId>,
}

impl JsonLines {
    /// To a file, which is emptied first, or for `-` to standard output.
    ///
    /// # Errors
    /// If the file can't be made, or another run writes to it.
    pub fn open(path: &Path) -> Result<JsonLines> {
        Ok(JsonLines {
            sink: Sink::open(path)?,
            begun: Instant::now(),
            buffer: Vec::new(),
            running: HashSet::new(),
        })
    }
}

impl Progress for JsonLines {
    fn tell(&mut self, event: &Event<'_>) {
        match event {
            Event::Started(started) => {
                self.running.insert(started.name.step);
            }
            Event::Done(ended) | Event::Failed(ended, _) => {
                self.running.remove(&ended.name.step);
            }
            // It never began, so there is nothing to take back.
            Event::Dropped(name) if !self.running.remove(&name.step) => return,
            _ => {}
        }
        let Some((name, body)) = told::of(event, self.begun) else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let line = Line {
            event: name,
            time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            elapsed_us: crate::attempt::micros(self.begun.elapsed()),
            body,
        };
        self.buffer.clear();
        // Writing into memory can't fail, nor can these types refuse to be written.
        if serde_json::to_writer(&mut self.buffer, &line).is_ok() {
            self.buffer.push(b'\n');
            self.sink.write(&self.buffer);
        }
    }

    fn wants_starts(&self) -> bool {
        true
    }

    fn complaint(&mut self) -> Option<String> {
        self.sink.complaint()
    }
}
