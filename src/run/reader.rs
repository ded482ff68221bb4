//! Reads frames and events of a source in their common order.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;

use crate::ending;
use crate::frame::Frame;
use crate::source::{End, Event, Source};

/// How often a waiting reader checks whether it should stop.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a source that was told to stop may take; less after a signal.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// Reads a source until it ends or `stop` is set.
pub(super) struct Reader<'a> {
    source: &'a Source,
    stop: &'a AtomicBool,
    stopping_since: Option<Instant>,
    /// The next frame, if it was fetched ahead.
    ahead: Option<Frame>,
    /// Events that belong before a frame that has not been fetched yet, each with its number.
    events: Vec<(u64, Event)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source, stop: &'a AtomicBool) -> Self {
        Self { source, stop, stopping_since: None, ahead: None, events: Vec::new() }
    }

    /// Waits for the next frame; returns it with the events that come before it. Without a frame the
    /// source has ended, and the last event says how.
    pub(super) fn next(&mut self) -> (Vec<Event>, Option<Frame>) {
        loop {
            if self.stop.load(Ordering::Relaxed) && self.stopping_since.is_none() {
                self.stopping_since = Some(Instant::now());
                self.source.stop();
            }
            let received = self
                .ahead
                .take()
                .map_or_else(|| self.source.frames.recv_timeout(POLL_INTERVAL), Ok);
            match received {
                Ok(frame) => return (self.events_before(frame.number), Some(frame)),
                Err(RecvTimeoutError::Disconnected) => return (self.events_before(u64::MAX), None),
                Err(RecvTimeoutError::Timeout) => {
                    let most = ending::left().map_or(STOP_TIMEOUT, |_| ending::SOURCE);
                    let hangs = |since: Instant| since.elapsed() > most;
                    if self.stopping_since.is_some_and(hangs) {
                        // For example a device or a network drive that does not answer.
                        let end = End { reason: "stopped".into(), error: None };
                        let mut events = self.events_before(u64::MAX);
                        events.push(Event::Ended(end));
                        return (events, None);
                    }
                }
            }
        }
    }

    /// The frame that [`next`](Self::next) will return, if it is there already.
    pub(super) fn peek(&mut self) -> Option<&Frame> {
        self.ahead = self.source.frames.try_recv().ok();
        self.ahead.as_ref()
    }

    fn events_before(&mut self, number: u64) -> Vec<Event> {
        self.events.extend(self.source.events.try_iter());
        let due = self.events.iter().take_while(|(first, _)| *first <= number).count();
        self.events.drain(..due).map(|(_, event)| event).collect()
    }
}
