//! Sends frames and events of a source to its reader.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, TrySendError, select};

use mmface::record::Dropped;

use super::decoded::Decoded;
use super::pace::Pace;
use super::{End, Event, Facts};
use crate::counters::Counters;
use crate::frame::{Frame, Still};

/// The signal to stop: the reader has dropped its end of the channel.
pub(super) struct Stop(pub Receiver<Infallible>);

impl Stop {
    pub(super) fn is_set(&self) -> bool {
        matches!(self.0.try_recv(), Err(TryRecvError::Disconnected))
    }

    /// Sleeps; `false` if the source was asked to stop meanwhile.
    pub(super) fn sleep(&self, time: Duration) -> bool {
        matches!(self.0.recv_timeout(time), Err(RecvTimeoutError::Timeout))
    }
}

/// The sending ends of a [`Source`](super::Source)'s channels.
pub(super) struct Emitter {
    pub frames: Sender<Frame>,
    /// The receiving end of `frames`, to remove a queued frame when a newer one comes.
    pub waiting: Receiver<Frame>,
    pub events: Sender<(u64, Event)>,
    pub stop: Stop,
    pub counters: Arc<Counters>,
    pub facts: Arc<Facts>,
    /// What keeps frames back, if anything does.
    pub pace: Option<Pace>,
    /// Number of the next frame.
    pub number: u64,
}

/// What a frame has besides its pixels.
pub(super) struct Metadata {
    pub pts: f64,
    pub connection: u32,
    pub still: Option<Still>,
}

impl Emitter {
    /// Sends a frame. For a live source it replaces a queued frame; otherwise this waits for room.
    /// Returns without sending if the source is asked to stop, or if the frame is one too many.
    pub(super) fn frame(&mut self, decoded: Decoded, metadata: Metadata) {
        let Metadata { pts, connection, .. } = metadata;
        if self.pace.as_mut().is_some_and(|pace| !pace.takes(pts, connection)) {
            self.number += 1;
            self.counters.status.frame();
            self.counters.decoded.add();
            self.counters.dropped_skipped.add();
            return;
        }
        let frame = Frame {
            number: self.number,
            pts: metadata.pts,
            time: SystemTime::now(),
            arrived: Instant::now(),
            connection: metadata.connection,
            taken: decoded.taken,
            still: metadata.still,
            pixels: decoded.pixels,
            dropped: Dropped::default(),
        };
        self.number += 1;
        let status = &self.counters.status;
        status.frame();
        status.source.waits();
        if self.facts.live.load(Ordering::Relaxed) {
            while self.waiting.try_recv().is_ok() {
                self.counters.dropped_busy.add();
            }
        }
        let frame = Frame { dropped: self.counters.dropped(), ..frame };
        // For a live source there is room now, because this is the only sender. A frame not sent
        // because of a stop is not counted, so that every counted frame is either processed or
        // dropped.
        select! {
            send(self.frames, frame) -> sent => if sent.is_ok() {
                self.counters.decoded.add();
            },
            recv(self.stop.0) -> _ => {}
        }
        status.source.works();
    }

    /// Sends an event. Events are never dropped, unless the source is asked to stop.
    pub(super) fn event(&self, event: Event) {
        if let Err(TrySendError::Full(event)) = self.events.try_send((self.number, event)) {
            select! {
                send(self.events, event) -> _ => {}
                recv(self.stop.0) -> _ => {}
            }
        }
    }

    /// Sends the last event and closes both channels.
    pub(super) fn end(self, end: End) {
        match &end.error {
            Some(error) => tracing::debug!(%error, "source ended"),
            None => tracing::debug!(reason = end.reason, "source ended"),
        }
        self.counters.status.source.waits();
        self.event(Event::Ended(end));
    }
}
