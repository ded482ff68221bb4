//! Where a source's thread hands out what it has.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, select};

use super::decoded::Decoded;
use super::{End, Event, Facts};
use crate::counters::Counters;
use crate::frame::{Frame, Still};

/// Tells whether the reader wants no more: its end of the channel is gone.
pub(super) struct Stop(pub Receiver<Infallible>);

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Waits; `false` where the wait was cut short because the source is to stop.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        matches!(self.0.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }
}

/// The sending ends of everything a [`Source`](super::Source) shows.
pub(super) struct Outlet {
    pub frames: Sender<Frame>,
    /// The same channel as `frames`, to take back a frame that waits when a newer one comes.
    pub waiting: Receiver<Frame>,
    pub events: Sender<(u64, Event)>,
    pub stop: Stop,
    pub counters: Arc<Counters>,
    pub facts: Arc<Facts>,
    /// The next frame's number.
    pub number: u64,
}

/// What a frame carries besides its pixels.
pub(super) struct Label {
    pub pts: f64,
    pub connection: u32,
    pub still: Option<Still>,
}

impl Outlet {
    /// Hands a frame on. From a live source it takes the place of one that still waits; otherwise
    /// this waits for room. Comes back without having sent it where the source is to stop.
    pub(super) fn frame(&mut self, decoded: Decoded, label: Label) {
        let frame = Frame {
            number: self.number,
            pts: label.pts,
            time: SystemTime::now(),
            arrived: Instant::now(),
            connection: label.connection,
            still: label.still,
            pixels: decoded.pixels,
        };
        self.number += 1;
        if self.facts.live.load(Ordering::Relaxed) {
            while self.waiting.try_recv().is_ok() {
                self.counters.dropped_busy.add();
            }
        }
        // For a live source there is room now, since nobody else sends.
        // A frame that was not handed on because of a stop is not counted: whatever is counted is
        // either processed or dropped.
        select! {
            send(self.frames, frame) -> sent => if sent.is_ok() {
                self.counters.decoded.add();
            },
            recv(self.stop.0) -> _ => {}
        }
    }

    /// Hands an event on; none is ever dropped while somebody may read it.
    pub(super) fn event(&self, event: Event) {
        if let Err(TrySendError::Full(event)) = self.events.try_send((self.number, event)) {
            select! {
                send(self.events, event) -> _ => {}
                recv(self.stop.0) -> _ => {}
            }
        }
    }

    /// Says that nothing more comes, and closes both channels.
    pub(super) fn end(self, end: End) {
        match &end.error {
            Some(error) => tracing::debug!(%error, "source ended"),
            None => tracing::debug!(reason = end.reason, "source ended"),
        }
        self.event(Event::Ended(end));
    }
}
