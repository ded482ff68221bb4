//! The counters of a run. Source, run and sinks update them; the end record, the
//! log and the metrics read them.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mmface::record::{Dropped, FrameCounts, Percentiles};

use crate::histogram::{Buckets, Histogram};
use crate::status::Status;

/// A counter that only increases.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds 1.
    pub fn add(&self) {
        self.add_all(1);
    }

    /// Adds `count`.
    pub fn add_all(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that increases and decreases.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Adds 1.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes 1 away, if it is not 0.
    pub fn take(&self) {
        let less = |value: u64| value.checked_sub(1);
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// The current value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one stream.
#[derive(Default)]
pub struct Counters {
    /// Decoded frames.
    pub decoded: Counter,
    /// Frames dropped because a newer one came before they were processed.
    pub dropped_busy: Counter,
    /// Frames of which packets were lost on the network, or all packets.
    pub lost: Counter,
    /// Frames or pictures that could not be decoded, or only from a lost frame.
    pub damaged: Counter,
    /// Frames that were not decoded because nothing happened in the stream.
    pub dropped_idle: Counter,
    /// Frames that were left out to keep the frame rate that was asked for.
    pub dropped_skipped: Counter,
    /// Number of reconnects.
    pub reconnects: Counter,
    /// Frames that went through the tracker.
    pub processed: Counter,
    /// Number of different face ids.
    pub faces: Counter,
    /// How the stream is doing.
    pub status: Status,
    latency: Mutex<Histogram>,
    sinks: Mutex<Vec<Arc<SinkCounters>>>,
}

/// The counters of one sink.
pub struct SinkCounters {
    /// Name of the sink.
    pub name: &'static str,
    /// Frames dropped because the sink was too slow.
    pub dropped: Counter,
    /// Frames for the sink.
    pub frames: Counter,
    /// Frames that the sink has taken.
    pub taken: Counter,
    /// Packets that the sink has sent over the network.
    pub sent: Counter,
    /// Packets that could not be sent, or for which nobody was there.
    pub failed: Counter,
    /// Records that a broker has acknowledged.
    pub acknowledged: Counter,
    /// Records that wait for a broker.
    pub waiting: Gauge,
    /// Latency from decoding a frame to its packet.
    packets: Mutex<Histogram>,
}

impl SinkCounters {
    /// Counts the latency `ms` from decoding a frame to its packet.
    pub fn packet_after(&self, ms: f64) {
        lock(&self.packets).add(ms);
    }

    /// Percentiles of the latency from decoding a frame to its packet, milliseconds.
    #[must_use]
    pub fn packet_latency(&self) -> Percentiles {
        lock(&self.packets).percentiles()
    }

    /// Tells the log how many packets went to `receiver`, how many reached nobody, and how late
    /// they were.
    pub fn log_packets(&self, receiver: &impl Display) {
        let (sent, failed) = (self.sent.get(), self.failed.get());
        let lost = if failed > 0 { format!(", {failed} reached nobody") } else { String::new() };
        let Percentiles { p50, p95, .. } = self.packet_latency();
        tracing::info!(
            "{}: {sent} packets to {receiver}{lost}; {p50:.1} ms after the frame (95 of 100 within \
             {p95:.1} ms)",
            self.name
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave a counter in a bad state.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Counters {
    /// Lost frames so far, by cause.
    #[must_use]
    pub fn dropped(&self) -> Dropped {
        Dropped {
            busy: self.dropped_busy.get(),
            damaged: self.damaged.get(),
            lost: self.lost.get(),
            idle: self.dropped_idle.get(),
            skipped: self.dropped_skipped.get(),
        }
    }

    /// Counts of frames so far.
    #[must_use]
    pub fn frames(&self) -> FrameCounts {
        FrameCounts {
            decoded: self.decoded.get(),
            processed: self.processed.get(),
            dropped: self.dropped(),
        }
    }

    /// Counts a processed frame with its latency `ms` from capture to record.
    pub fn frame_done(&self, ms: f64) {
        self.processed.add();
        lock(&self.latency).add(ms);
    }

    /// Percentiles of the latency from capture to record, milliseconds.
    #[must_use]
    pub fn latency(&self) -> Percentiles {
        lock(&self.latency).percentiles()
    }

    /// The same latencies in the buckets of the metrics.
    #[must_use]
    pub fn latency_buckets(&self) -> Buckets {
        lock(&self.latency).buckets()
    }

    /// The counters of a sink, which are added if they are not there yet.
    pub fn sink(&self, name: &'static str) -> Arc<SinkCounters> {
        let mut sinks = lock(&self.sinks);
        if let Some(known) = sinks.iter().find(|counters| counters.name == name) {
            return known.clone();
        }
        let counters = Arc::new(SinkCounters {
            name,
            dropped: Counter::default(),
            frames: Counter::default(),
            taken: Counter::default(),
            sent: Counter::default(),
            failed: Counter::default(),
            acknowledged: Counter::default(),
            waiting: Gauge::default(),
            packets: Mutex::default(),
        });
        sinks.push(counters.clone());
        counters
    }

    /// The counters of all sinks.
    #[must_use]
    pub fn sinks(&self) -> Vec<Arc<SinkCounters>> {
        lock(&self.sinks).clone()
    }
}
