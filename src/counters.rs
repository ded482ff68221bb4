//! What a run has counted so far, in one place: source, run and sinks write, the end record and the log
//! read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mmface::record::{Dropped, FrameCounts, Percentiles};

use crate::histogram::Histogram;

/// Counts up.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one stream.
#[derive(Default)]
pub struct Counters {
    /// Frames decoded, whatever became of them.
    pub decoded: Counter,
    /// Frames dropped because a newer one came while they waited.
    pub dropped_busy: Counter,
    /// Pieces of the stream, or pictures, that the decoder could make nothing of.
    pub damaged: Counter,
    /// Times that a lost source was connected again.
    pub reconnects: Counter,
    /// Frames whose faces were found.
    pub processed: Counter,
    /// Different faces (ids).
    pub faces: Counter,
    latency: Mutex<Histogram>,
    sinks: Mutex<Vec<Arc<SinkCounters>>>,
}

/// The counters of one sink.
#[derive(Debug)]
pub struct SinkCounters {
    /// Which sink.
    pub name: &'static str,
    /// Frames that were dropped because it was too slow.
    pub dropped: Counter,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Counters are good numbers whoever panicked while holding them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counters {
    /// Frames lost so far, by cause.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        Dropped { busy: self.dropped_busy.get(), damaged: self.damaged.get() }
    }

    /// What became of the frames so far.
    #[must_use]
    pub fn frames(&self) -> FrameCounts {
        FrameCounts {
            decoded: self.decoded.get(),
            processed: self.processed.get(),
            dropped: self.dropped(),
        }
    }

    /// One frame more, which took `ms` from capture to record.
    pub fn frame_done(&self, ms: f64) {
        self.processed.add();
        lock(&self.latency).add(ms);
    }

    /// Percentiles of capture to record, milliseconds.
    #[must_use]
    pub fn latency(&self) -> Percentiles {
        lock(&self.latency).percentiles()
    }

    /// Counters for one more sink.
    pub fn sink(&self, name: &'static str) -> Arc<SinkCounters> {
        let counters = Arc::new(SinkCounters { name, dropped: Counter::default() });
        lock(&self.sinks).push(counters.clone());
        counters
    }

    /// The counters of all sinks.
    #[must_use]
    pub fn sinks(&self) -> Vec<Arc<SinkCounters>> {
        lock(&self.sinks).clone()
    }
}
