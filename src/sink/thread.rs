//! Runs a sink on a thread of its own, so that drawing, encoding and writing do not delay frames.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use handoff::{Closed, Sender, mailbox};

use super::{Event, Sink, WhenSlow};
use crate::counters::SinkCounters;
use crate::{Error, Result, ending};

/// Most events queued for a sink. A longer queue would only add latency.
const QUEUED: usize = 1;

/// How often waiting for a sink's end looks for a signal.
const ASK: Duration = Duration::from_millis(20);

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
    ending: Ending,
}

/// A sink that gets no more events.
pub(crate) struct Ending {
    thread: JoinHandle<Result<Finished>>,
    /// Disconnected when the thread has ended.
    done: crossbeam_channel::Receiver<Infallible>,
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
        let (running, done) = bounded::<Infallible>(0);
        let counted = counters.clone();
        let work = move || {
            // Dropped last, however the thread ends.
            let _running = running;
            while let Some(event) = waiting.recv() {
                if let ControlFlow::Break(reason) = sink.take(&event)? {
                    return sink.finish().map(|()| Finished::Enough(reason));
                }
                if let Event::Frame(_) = event {
                    counted.taken.add();
                }
            }
            sink.finish().map(|()| Finished::Done)
        };
        let span = tracing::Span::current();
        let thread = std::thread::Builder::new()
            .name(counters.name.into())
            .spawn(move || span.in_scope(work))
            .map_err(|e| Error::Device(format!("cannot start a thread: {e}")))?;
        Ok(Self { when_slow, events, ending: Ending { thread, done, counters } })
    }

    /// Name of the sink.
    pub(crate) fn name(&self) -> &'static str {
        self.ending.counters.name
    }

    /// Passes an event to the sink. In a live run a slow sink may lose frames if its plan says so;
    /// other events are never lost. After a signal a sink that blocks is not waited for.
    ///
    /// # Errors
    /// [`Closed`] if the sink has ended; [`Ending::finish`] returns the reason.
    pub(crate) fn take(&self, event: Event, live: bool) -> std::result::Result<(), Closed> {
        let is_frame = matches!(event, Event::Frame(_));
        let counters = &self.ending.counters;
        if is_frame {
            counters.frames.add();
        }
        if !live || self.when_slow == WhenSlow::Wait {
            // What is given up is missed by `Ending::finish`.
            return self.events.send_while(event, || !ending::is_impatient()).map(|_| ());
        }
        let dropped = match is_frame {
            true => self.events.offer(event, QUEUED)?,
            false => self.events.post(event)?,
        };
        if dropped.is_some() {
            counters.dropped.add();
        }
        Ok(())
    }

    /// Ends the sink's events: it writes what it has.
    pub(crate) fn end(self) -> Ending {
        self.ending
    }
}

impl Ending {
    /// Waits until everything is written; after a signal no longer than there is time for.
    ///
    /// # Errors
    /// The sink's errors, and [`Error::Sink`] if it hangs after a signal.
    pub(crate) fn finish(self) -> Result<Finished> {
        let (name, dropped) = (self.counters.name, self.counters.dropped.get());
        if dropped > 0 {
            tracing::warn!("{dropped} frames came too fast for the {name}, and are not in it");
        }
        loop {
            let most = ending::left().map_or(ASK, |left| left.min(ASK));
            if self.done.recv_timeout(most) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
            if ending::left().is_some_and(|left| left.is_zero()) {
                ending::abandon();
                return Err(self.hangs());
            }
        }
        let panicked = || Error::Bug(format!("the {name} thread panicked"));
        self.thread.join().unwrap_or_else(|_| Err(panicked()))
    }

    fn hangs(&self) -> Error {
        let SinkCounters { name, dropped, frames, taken, .. } = &*self.counters;
        let missing = frames.get().saturating_sub(taken.get() + dropped.get());
        Error::Sink(format!(
            "the {name} could not be written to the end, because it blocks: {missing} frames, and \
             what belongs after them, are not in it"
        ))
    }
}
