//! Keeps the workers of a run: starts them, hears of those who come and go, and starts others for those that were lost,
//! as long as there is something to hope for. One thread, which lives as long as the processes that it starts: children of
//! a thread that ends become those of another one.

use std::sync::Arc;
use std::time::Duration;

use crate::stop::Stop;

use super::hub::{FleetEvent, Hub};
use super::wire::WireMessage;

/// How often a crew looks after its workers.
const LOOK: Duration = Duration::from_millis(100);

/// Workers that are started in the same way.
pub(super) trait Crew: Send {
    /// Starts those that are missing, and finds out which have ended. Must not block.
    fn tend(&mut self);

    /// A worker has connected.
    fn joined(&mut self, number: usize);

    /// A worker's connection has ended. It `has_gone` by itself, or may come back.
    fn left(&mut self, number: usize, has_gone: bool);

    /// The run is over, and the workers know it: none may be left.
    fn dismiss(&mut self);
}

/// Looks after a crew until the run is over.
pub(super) fn keep(hub: &Arc<Hub>, events: &flume::Receiver<FleetEvent>, crew: &mut dyn Crew) {
    // How the run went on when the workers were last told.
    let mut told = Stop::Go;
    while !hub.is_over() {
        crew.tend();
        let Ok(event) = events.recv_timeout(LOOK) else { continue };
        for event in std::iter::once(event).chain(events.try_iter()) {
            match event {
                FleetEvent::Joined(number) => crew.joined(number),
                FleetEvent::Left { number, has_gone } => crew.left(number, has_gone),
                FleetEvent::Changed => {}
            }
        }
        let now = hub.stop.now();
        if now >= Stop::Term && now > told {
            told = now;
            hub.broadcast(&WireMessage::Stop(now));
        }
    }
    hub.broadcast(&WireMessage::Bye);
    crew.dismiss();
}
