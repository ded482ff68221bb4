//! Runs a sink on a thread of its own, so that drawing, encoding and writing do not delay frames.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;

use handoff::{Closed, Sender, mailbox};

use super::{Event, Sink, WhenSlow};
use crate::counters::SinkCounters;
use crate::{Error, Result};

/// Most events queued for a sink. A longer queue would only add latency.
const QUEUED: usize = 1;

/// How a sink ended.
pub(crate) enum Finished {
    /// All its events are written.
    Done,
    /// It wanted no more events; the run may end.
    Enough(&'static str),
}

/// A running sink.
pub(crate) struct SinkThread {
    when_slow: WhenSlow,
    events: Sender<Event>,
    thread: JoinHandle<Result<Finished>>,
    counters: Arc<SinkCounters>,
}

impl SinkThread {
    /// Starts the sink's thread.
    ///
    /// # Errors
    /// [`Error::Device`] if no thread can be started.
    pub(crate) fn start(
        mut sink: Box<dyn Sink>,
        when_slow: WhenSlow,
        counters: Arc<SinkCounters>,
    ) -> Result<Self> {
        let (events, waiting) = mailbox::<Event>(QUEUED);
        let work = move || {
            while let Some(event) = waiting.recv() {
                if let ControlFlow::Break(reason) = sink.take(&event)? {
                    return sink.finish().map(|()| Finished::Enough(reason));
                }
            }
            sink.finish().map(|()| Finished::Done)
        };
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new()
            .name(counters.name.into())
            .spawn(move || span.in_scope(work))
            .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))?;
        Ok(Self { when_slow, events, thread, counters })
    }

    /// Passes an event to the sink. In a live run a slow sink may lose frames if its plan says so;
    /// other events are never lost.
    ///
    /// # Errors
    /// [`Closed`] if the sink has ended; [`finish`](Self::finish) returns the reason.
    pub(crate) fn take(&self, event: Event, live: bool) -> std::result::Result<(), Closed> {
        let dropped = match &event {
            _ if !live || self.when_slow == WhenSlow::Wait => return self.events.send(event),
            Event::Frame(_) => self.events.offer(event, QUEUED)?,
            _ => self.events.post(event)?,
        };
        if dropped.is_some() {
            self.counters.dropped.add();
        }
        Ok(())
    }

    /// Waits until everything is written.
    ///
    /// # Errors
    /// The sink's errors.
    pub(crate) fn finish(self) -> Result<Finished> {
        drop(self.events);
        let dropped = self.counters.dropped.get();
        if dropped > 0 {
            let name = self.counters.name;
            tracing::warn!("{dropped} frames came too fast for the {name}, and are not in it");
        }
        let panicked = || Error::Bug(format!("the {} thread panicked", self.counters.name));
        self.thread.join().unwrap_or_else(|_| Err(panicked()))
    }
}
