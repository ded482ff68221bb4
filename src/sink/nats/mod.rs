//! Records into NATS JetStream: each acknowledged, none twice.
//!
//! All streams of the process share one connection and one queue of records (`outbox`), in memory
//! and, with `--spool`, on disk (`spool`). A thread of its own sends them (`sender`). A record has
//! an id, stream/revision/name, by which the server leaves out what it has already.

mod letter;
mod outbox;
mod publisher;
mod sender;
mod spool;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mmface::record::Record;

use self::letter::{About, Letter};
use self::outbox::unsent;
pub(crate) use self::publisher::Publisher;
use super::{Content, Context, Event, Plan, Sink, WhenSlow};
use crate::counters::SinkCounters;
use crate::nats::{Keep, Servers};
use crate::{Error, Result, ending};

/// How long the end waits for a broker that takes nothing any more.
const STANDSTILL: Duration = Duration::from_secs(5);
/// Name of the sink.
pub(crate) const NAME: &str = "nats";
/// Why a run ends that may not write any more.
pub(crate) const FENCED: &str = "the lease has ended";

/// Where records go, and where they wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The servers.
    pub servers: Servers,
    /// How records are kept, if their stream in JetStream has to be made.
    pub keep: Keep,
    /// The folder in which records wait for the broker, and the most bytes in it.
    pub spool: Option<(PathBuf, u64)>,
}

/// Until when a run may write, and under which number.
#[derive(Debug, Clone)]
pub struct Fence {
    /// The number of the run.
    pub revision: u64,
    /// Milliseconds of the clock that also counts while the machine sleeps, until which the run may
    /// write.
    pub until: Arc<AtomicU64>,
}

impl Fence {
    /// Whether the run may write now.
    #[must_use]
    pub fn holds(&self) -> bool {
        now() < self.until.load(Ordering::Acquire)
    }
}

/// Milliseconds since the machine was started, also those in which it slept.
#[must_use]
pub fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000
}

/// The sink for records to NATS.
#[derive(Debug)]
pub struct Nats {
    /// Where they go.
    pub settings: Settings,
    /// Optional parts of the records.
    pub content: Content,
    /// The lease under which the run writes; without one nobody else runs the stream.
    pub fence: Option<Fence>,
}

impl Plan for Nats {
    fn name(&self) -> &'static str {
        NAME
    }

    /// Always waits: records have a queue of their own.
    fn when_slow(&self) -> WhenSlow {
        WhenSlow::Wait
    }

    fn open(self: Box<Self>, context: &Arc<Context>) -> Result<Box<dyn Sink>> {
        let publisher = Publisher::shared(&self.settings)?;
        let counters = context.counters.sink(NAME);
        publisher.outbox.count(&context.stream, &counters);
        // Without a lease the time makes later runs have higher numbers.
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let revision =
            self.fence.as_ref().map_or_else(|| clock().as_micros() as u64, |fence| fence.revision);
        Ok(Box::new(Records {
            publisher,
            content: self.content,
            fence: self.fence,
            context: context.clone(),
            counters,
            revision,
            count: 0,
            last: None,
        }))
    }
}

struct Records {
    publisher: Arc<Publisher>,
    content: Content,
    fence: Option<Fence>,
    context: Arc<Context>,
    counters: Arc<SinkCounters>,
    revision: u64,
    /// Records so far.
    count: u64,
    /// Place of the last one in the outbox.
    last: Option<u64>,
}

impl Records {
    fn letter(&mut self, event: &Event) -> Result<Letter> {
        let mut record = event.record(self.content);
        let name = match &mut record {
            Record::Frame(frame) => frame.frame.to_string(),
            Record::Header(header) => {
                header.revision = Some(self.revision);
                "header".into()
            }
            Record::Stream(_) => format!("stream-{}", self.count),
            Record::Gap(_) => format!("gap-{}", self.count),
            Record::Lost(_) => format!("lost-{}", self.count),
            Record::End(_) => "end".into(),
        };
        let payload = serde_json::to_vec(&record)
            .map_err(|e| Error::Bug(format!("a record cannot be serialised: {e}")))?;
        let about = About {
            stream: self.context.stream.clone(),
            revision: self.revision,
            name,
            sequence: Some(self.count),
            lost: None,
        };
        self.count += 1;
        Ok(Letter { about, payload })
    }
}

impl Sink for Records {
    fn take(&mut self, event: &Event) -> Result<ControlFlow<&'static str>> {
        if self.fence.as_ref().is_some_and(|fence| !fence.holds()) {
            self.counters.dropped.add();
            return Ok(ControlFlow::Break(FENCED));
        }
        let letter = self.letter(event)?;
        if !self.context.live.load(Ordering::Relaxed) {
            self.publisher.outbox.wait_for_room(ending::is_impatient);
        }
        self.last = Some(self.publisher.outbox.put(letter));
        Ok(ControlFlow::Continue(()))
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let Some(last) = self.last else { return Ok(()) };
        let outbox = &self.publisher.outbox;
        let kept = outbox.spool_name();
        let sent = outbox.wait_for(last, |progress| {
            // What is kept need not be waited for while nobody takes it.
            let most = if kept.is_some() && progress.trouble { Duration::ZERO } else { STANDSTILL };
            let is_late = ending::left().is_some_and(|left| left < Duration::from_millis(200));
            is_late || progress.still > most
        });
        outbox.close();
        let counters = &self.counters;
        tracing::info!("{NAME}: {} records acknowledged", counters.acknowledged.get());
        match (sent, kept) {
            (true, _) => Ok(()),
            (false, Some(folder)) => {
                let waiting = counters.waiting.get();
                tracing::warn!(
                    "{waiting} records wait in {folder} for the broker, and are sent at the next start"
                );
                Ok(())
            }
            (false, None) => Err(unsent(counters.waiting.get(), outbox.why())),
        }
    }
}
