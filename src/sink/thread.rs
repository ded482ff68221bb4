//! A sink on a thread of its own: drawing, encoding and writing must not hold up the next frame.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;

use handoff::{Closed, Sender, mailbox};

use super::{Event, Sink, WhenSlow};
use crate::counters::SinkCounters;
use crate::{Error, Result};

/// Events that wait for a sink at most: one that waits is older by the time it comes out.
const WAITING: usize = 1;

/// How a sink came to its end.
pub(crate) enum Finished {
    /// All that was handed to it is written.
    Done,
    /// It wanted no more, and the run may end.
    Enough(&'static str),
}

/// A sink at work.
pub(crate) struct SinkThread {
    when_slow: WhenSlow,
    events: Sender<Event>,
    thread: JoinHandle<Result<Finished>>,
    counters: Arc<SinkCounters>,
}

impl SinkThread {
    /// Sets a sink to work.
    ///
    /// # Errors
    /// [`Error::Device`] if there can be no more threads.
    pub(crate) fn start(
        mut sink: Box<dyn Sink>,
        when_slow: WhenSlow,
        counters: Arc<SinkCounters>,
    ) -> Result<Self> {
        let (events, waiting) = mailbox::<Event>(WAITING);
        let work = move || {
            while let Some(event) = waiting.recv() {
                if let ControlFlow::Break(reason) = sink.take(&event)? {
                    return sink.finish().map(|()| Finished::Enough(reason));
                }
            }
            sink.finish().map(|()| Finished::Done)
        };
        let thread = std::thread::Builder::new()
            .name(counters.name.into())
            .spawn(work)
            .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))?;
        Ok(Self { when_slow, events, thread, counters })
    }

    /// Hands an event over. In a live run a slow sink loses frames if it was planned so; nothing else
    /// is ever lost.
    ///
    /// # Errors
    /// [`Closed`] if it takes no more; [`finish`](Self::finish) knows why.
    pub(crate) fn take(&self, event: Event, live: bool) -> std::result::Result<(), Closed> {
        let dropped = match &event {
            _ if !live || self.when_slow == WhenSlow::Wait => return self.events.send(event),
            Event::Frame(_) => self.events.offer(event, WAITING)?,
            _ => self.events.post(event)?,
        };
        if dropped.is_some() {
            self.counters.dropped.add();
        }
        Ok(())
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// Those of the sink.
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
